// Dispatched tasks on their way to a worker, or back to their queues. Every front end that dispatches tasks uses this.

import Net
import Queues

/// Writes dispatched tasks into answers.
///
/// Every written task is tracked: if the answer does not reach the worker, the task returns to the front of its queue
/// at once instead of when its lease ends. The answer is held until the change that made the task ready is safe on
/// disk. If there is no room for a task among the unread answers, it is not written and returns to its queue in the
/// next turn.
final class DispatchWriter {
    private let server: HTTPServer
    private var returned: [DispatchKey] = []

    init(_ server: HTTPServer) { self.server = server }

    /// Writes a task into the current answer. O(size of the task).
    ///
    /// - Parameters:
    ///   - handle: the task, which was dispatched in this turn; nil for none.
    ///   - responses: the stream, in which an answer has begun.
    ///   - broker: the broker.
    ///   - body: writes the task, and a separator if one precedes it.
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

    /// Whether tasks wait to return to their queues.
    var hasReturned: Bool { !returned.isEmpty }

    /// Takes the dispatches that return to the front of their queues, the last one first.
    func takeReturned() -> [DispatchKey] {
        defer { returned = [] }
        return returned.reversed()
    }
}
