// A task that a worker holds and works on.

/// A task with its lease and its deadlines. Subclasses know what runs for it.
class Job {
    /// Why the work on a task is being stopped.
    enum Stopping: Equatable {
        /// The worker stops: the task goes back.
        case released
        /// The task is no longer held.
        case lost
        /// It has run for too long.
        case timedOut
    }

    var task: WorkTask { lease.task }
    /// Its place among those that run at once.
    let slot: Int
    let lease: TaskLease
    /// When the work on it began.
    let begunAt: Int64
    private(set) var stopping: Stopping?
    /// The progress that the server does not know of yet, as JSON.
    var progress: [UInt8]?
    /// When the lease ends, if nothing extends it, in milliseconds since the Unix epoch.
    let leaseEnd: Int64
    private var timesOutAt = Int64.max
    private var endsAt = Int64.max

    init(_ task: WorkTask, slot: Int, now: Int64) {
        (self.slot, begunAt) = (slot, now)
        lease = TaskLease(task, now: now)
        leaseEnd = now + task.leaseMilliseconds
    }

    /// When `review` has something to do, or the lease is to be extended.
    var nextTime: Int64 { min(lease.touchesAt, timesOutAt, endsAt) }

    /// Asks what runs to end.
    func askToEnd(now: Int64) {}

    /// Ends what runs, because its grace is over.
    func endNow(now: Int64) {}

    /// Lets the task's time begin.
    func startClock(timeoutMilliseconds: Int64?, now: Int64) {
        timesOutAt = timeoutMilliseconds.map { now + $0 } ?? .max
    }

    // MARK: Stopping

    /// Asks what runs to end, and ends it when the grace is over. A lost lease outweighs other reasons.
    func stop(_ reason: Stopping, graceMilliseconds: Int64, now: Int64) {
        let isNew = stopping == nil
        if isNew || reason == .lost { stopping = reason }
        timesOutAt = .max
        if graceMilliseconds == 0 {
            endsAt = .max
            return endNow(now: now)
        }
        endsAt = min(endsAt, now + graceMilliseconds)
        if isNew { askToEnd(now: now) }
    }

    /// Stops the work if its time is over.
    func review(graceMilliseconds: Int64, now: Int64) {
        if now >= timesOutAt { stop(.timedOut, graceMilliseconds: graceMilliseconds, now: now) }
        if now >= endsAt {
            endsAt = .max
            endNow(now: now)
        }
    }
}
