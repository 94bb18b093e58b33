// The callbacks of httpqueue: the request to a receiver, and the meaning of its response.

import Bytes
import Delivery
import JSON
import Net
import Queues

/// Sends the tasks of httpqueue to their callbacks.
final class HttpqueueCourier: QueueCourier {
    /// The longest time that a callback may take.
    static let timeoutMilliseconds: Int64 = 600_000

    /// The original makes this many calls at once.
    let concurrency = 20

    func owns(_ queueName: Span<UInt8>) -> Bool { LegacySystem.httpqueue.owns(queueName) }

    func request(
        for task: borrowing TaskView, of queue: SendingQueue, unixMilliseconds: Int64
    ) throws(TaskRequestError) -> ClientRequest {
        guard let url = PushOptions(stored: task.request, of: .task).url else {
            throw TaskRequestError("the task has no callback")
        }
        let id = task.id.uuidText
        var body = Array("{\"id\":\"".utf8)
        body.append(id.span)
        body += "\",\"topic\":".utf8
        JSONWriter.writeString(LegacySystem.httpqueue.part(of: task.queueName), to: &body)
        body += ",\"content\":".utf8
        body.append(task.content)
        body += "}".utf8
        return ClientRequest(posting: body, to: url, timeoutMilliseconds: Self.timeoutMilliseconds)
    }

    func outcome(of attempt: Attempt, after clientOutcome: borrowing ClientOutcome) -> Attempt.Outcome {
        attempt.outcome(after: clientOutcome) { response in
            let code = Self.code(of: response.body)
            if code == 100 { return nil }
            return " with \(code.map { "code \($0)" } ?? "no code"); success is code 100"
        }
    }

    /// The `code` of a response; nil if it is not a JSON object with a code.
    private static func code(of body: Span<UInt8>) -> Int64? {
        var members = Members()
        var code: Int64?
        try? members.read(body, kind: .object)
        try? members.forEach(in: body, known: ["code"], isLenient: true) { (_, value) throws(Problem) in
            code = try value.integer(.min ... .max)
        }
        return code
    }
}
