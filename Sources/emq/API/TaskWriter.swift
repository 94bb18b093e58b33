// How a task looks in an answer, wherever it is shown.

import JSON
import Net
import Queues
import UID

/// Writes tasks as JSON.
enum TaskWriter {
    /// The task as it is given to a worker.
    static func writeDispatched(_ task: borrowing TaskView, to responses: inout ResponseStream) {
        let id = task.id.text
        writeCommon(task, id: id.span, to: &responses)
        responses.append(",\"retry\":")
        JSONWriter.writeSeconds(milliseconds: task.leaseMilliseconds, to: &responses)
        responses.append(",\"receipt\":\"")
        responses.append(id.span)
        responses.append("@")
        let token = Receipt.text(ofToken: task.token)
        responses.append(token.span)
        responses.append("\"}")
    }

    /// The task as it is shown to someone who looks.
    static func writeShown(_ task: borrowing TaskView, to responses: inout ResponseStream) {
        let id = task.id.text
        writeCommon(task, id: id.span, to: &responses)
        responses.append(task.state == .ready ? ",\"state\":\"ready\"" : ",\"state\":\"dispatched\"")
        writeTime(",\"enqueued\":", task.enqueued, to: &responses)
        if let dispatched = task.dispatched { writeTime(",\"dispatched\":", dispatched, to: &responses) }
        if let leaseEnd = task.leaseEnd { writeTime(",\"lease_end\":", leaseEnd, to: &responses) }
        writeTime(",\"expires\":", task.expires, to: &responses)
        responses.append("}")
    }

    private static func writeCommon(
        _ task: borrowing TaskView, id: Span<UInt8>, to responses: inout ResponseStream
    ) {
        responses.append("{\"id\":\"")
        responses.append(id)
        responses.append("\",\"queue\":")
        JSONWriter.writeString(task.queueName, to: &responses)
        responses.append(",\"content\":")
        responses.append(task.content)
        responses.append(",\"attempt\":")
        JSONWriter.writeInteger(Int64(task.attempt), to: &responses)
    }

    private static func writeTime(_ member: StaticString, _ milliseconds: Int64, to responses: inout ResponseStream) {
        responses.append(member)
        JSONWriter.writeSeconds(milliseconds: milliseconds, to: &responses)
    }
}
