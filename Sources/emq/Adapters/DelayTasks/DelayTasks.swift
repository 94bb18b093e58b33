// In place of delay-tasks: calls a handler at a given second, with a key and parameters. A category is a queue,
// `delay-tasks/CATEGORY`, and its registered handler the url of that queue's `push`.

import Delivery
import JSON
import Net
import Queues
import UID

/// The interface for clients of delay-tasks, and the way to its handlers.
final class DelayTasks: AdapterService {
    let concurrency = 10

    func owns(_ queueName: Span<UInt8>) -> Bool { OlderSystem.delayTasks.owns(queueName) }

    func answer(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ api: inout API, on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        throw Problem(404, "there is nothing at this path")
    }

    func write(_ problem: Problem, to responses: inout ResponseStream) {}

    func request(
        for task: borrowing TaskView, of queue: SendingQueue, unixMilliseconds: Int64
    ) throws(TaskRequestError) -> ClientRequest {
        throw TaskRequestError("")
    }

    func verdict(on outcome: borrowing ClientOutcome, of landing: Landing) -> Verdict { .done(result: []) }
}
