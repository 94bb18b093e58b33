// The calls of delay-tasks: the request to a handler, and the meaning of its response.

import Bytes
import Delivery
import JSON
import Net
import Queues

/// Calls the handlers of delay-tasks.
final class DelayTasksCourier: QueueCourier {
    /// The longest time that a handler may take.
    static let timeoutMilliseconds: Int64 = 30_000

    /// The original calls the handlers of all due tasks at once.
    let concurrency = 100

    func owns(_ queueName: Span<UInt8>) -> Bool { LegacySystem.delayTasks.owns(queueName) }

    func request(
        for task: borrowing TaskView, of queue: SendingQueue, unixMilliseconds: Int64
    ) throws(TaskRequestError) -> ClientRequest {
        guard let called = DelayTask(task) else {
            throw TaskRequestError("no client of delay-tasks added this task, so it cannot be sent")
        }
        guard let url = PushOptions(stored: task.request, of: .task).url ?? queue.options.url else {
            throw TaskRequestError("neither the task nor its category has a handler")
        }
        var body = Array("{\"cate\":".utf8)
        JSONWriter.writeString(LegacySystem.delayTasks.part(of: task.queueName), to: &body)
        body += ",\"key\":\(called.key),\"params\":".utf8
        body.append(task.content)
        body += ",\"inAdvance\":\(called.isInAdvance)}".utf8
        return ClientRequest(posting: body, to: url, timeoutMilliseconds: Self.timeoutMilliseconds)
    }

    func outcome(of attempt: Attempt, after clientOutcome: borrowing ClientOutcome) -> Attempt.Outcome {
        attempt.outcome(after: clientOutcome) { response in (200...299).contains(response.status) ? nil : "" }
    }
}
