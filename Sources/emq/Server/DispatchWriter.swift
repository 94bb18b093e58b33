// How a dispatched task gets to a worker, or back to its queue. Every front end that hands out tasks writes them here.

import Net
import Queues

/// Writes dispatched tasks into answers.
///
/// A task that is written is tracked: if the answer does not reach the worker, the task goes back to the front of its queue
/// at once instead of when its lease ends. The answer is held until the change that made the task ready is safe on disk. A
/// task for which there is no room among the unread answers is not written, and goes back in the next turn.
final class DispatchWriter {
    private let server: HTTPServer
    private var returned: [DispatchKey] = []

    init(_ server: HTTPServer) { self.server = server }

    /// Writes a task into the answer in hand. O(size of the task).
    ///
    /// - Parameters:
    ///   - handle: the task, which was dispatched in this turn; nil for none.
    ///   - responses: has an answer that was begun.
    ///   - broker: the broker.
    ///   - body: writes the task, and whatever separates it from the one before.
    /// - Returns: whether the task was written.
    @inline(__always)
    func write(
        _ handle: TaskHandle?, to responses: inout ResponseStream, of broker: isolated Broker,
        _ body: (borrowing TaskView, inout ResponseStream) -> Void
    ) -> Bool {
        guard let handle else { return false }
        return broker.withTask(handle) { task in
            guard server.mayAnswer(responses, adding: task.content.count) else {
                returned.append(task.dispatchKey)
                return false
            }
            body(task, &responses)
            responses.track(task.dispatchKey.rawValue)
            responses.hold(until: task.readySequence)
            return true
        }
    }

    /// Whether tasks wait to go back to their queues.
    var hasReturned: Bool { !returned.isEmpty }

    /// The dispatches that go back to the front of their queues, the last one first.
    func takeReturned() -> [DispatchKey] {
        defer { returned = [] }
        return returned.reversed()
    }
}
