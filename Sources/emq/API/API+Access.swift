// What the sender of a request may do.

import Bytes
import JSON
import Net
import Queues

extension API {
    /// `GET /access`. It also responds during recovery.
    static func showAccess(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        var token: Token?
        if case .holder(let holder) = context.caller { token = holder }
        responses.beginJSON(estimatedCount: 120)
        responses.append(token == nil ? "{\"tokens\":false" : "{\"tokens\":true,\"name\":")
        if let token { JSONWriter.write(token.name, to: &responses) }
        responses.append(",\"permissions\":[")
        let permissions = Permission.allCases.filter { token?.permissions.contains($0) ?? true }
        for (place, permission) in permissions.enumerated() {
            if place > 0 { responses.append(",") }
            JSONWriter.write(permission.name, to: &responses)
        }
        responses.append("],\"queues\":[")
        let queues = token?.queues.map(\.text) ?? []
        for (place, queue) in (queues.isEmpty ? ["*"] : queues).enumerated() {
            if place > 0 { responses.append(",") }
            JSONWriter.write(queue, to: &responses)
        }
        responses.append("]")
        if let expires = token?.expires {
            responses.append(",\"expires\":")
            JSONWriter.writeSeconds(milliseconds: expires, to: &responses)
        }
        responses.append("}")
        responses.endLine()
        return .answered
    }
}
