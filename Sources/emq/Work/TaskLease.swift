// The lease of a task that a worker holds: while the task is in work, and until the server knows its outcome.

/// A task, and when its lease is extended.
final class TaskLease {
    /// The pauses between attempts to extend a lease, in milliseconds. Each is twice the one before.
    private static let pauseMilliseconds: ClosedRange<Int64> = 250...5000

    let task: WorkTask
    /// When the lease is extended next; `Int64.max` while an extension is on its way, and when the lease is lost.
    private(set) var touchesAt: Int64
    /// How long after an extension the next one follows, in milliseconds.
    let touchMilliseconds: Int64
    /// Whether an extension is on its way.
    private(set) var isTouching = false
    /// Whether the server has said that the task is no longer held.
    private(set) var isLost = false
    /// How long the next pause is after an extension that the server did not answer.
    private var pause = TaskLease.pauseMilliseconds.lowerBound

    init(_ task: WorkTask, now: Int64) {
        self.task = task
        touchMilliseconds = max(task.leaseMilliseconds / 3, 100)
        touchesAt = now + touchMilliseconds
    }

    /// Notes that an extension is on its way.
    func beginTouch() {
        isTouching = true
        touchesAt = .max
    }

    /// Notes how an extension ended. If the lease was not extended, the next attempt follows soon.
    func endTouch(isExtended: Bool, now: Int64) {
        isTouching = false
        if isLost { return }
        if isExtended {
            pause = Self.pauseMilliseconds.lowerBound
            touchesAt = now + touchMilliseconds
        } else {
            touchesAt = now + min(pause, touchMilliseconds)
            pause = min(2 * pause, Self.pauseMilliseconds.upperBound)
        }
    }

    /// Notes that the task is no longer held.
    func lose() {
        isLost = true
        touchesAt = .max
    }
}
