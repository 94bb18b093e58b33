// In place of taskqueue

import Delivery
import JSON
import Net
import Queues
import UID

/// Sends
final class Taskqueue: Adapter {
    let concurrency = 1
    let file: TaskqueueFile

    init(_ file: TaskqueueFile) { self.file = file }

    func owns(_ queueName: Span<UInt8>) -> Bool { false }

    func request(
        for task: borrowing TaskView, of queue: SendingQueue, unixMilliseconds: Int64
    ) throws(TaskRequestError) -> ClientRequest {
        throw TaskRequestError("")
    }

    func verdict(on outcome: borrowing ClientOutcome, of landing: Landing) -> Verdict { .done(result: []) }
}
