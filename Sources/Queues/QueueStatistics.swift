// The statistics of a queue.

/// How much a queue holds, and what has become of its tasks.
public struct QueueStatistics: Hashable, Sendable {
    /// Tasks whose delay has not ended.
    public var delayed = 0
    /// Tasks that wait to be dispatched.
    public var ready = 0
    /// Tasks that a worker or a receiver holds.
    public var dispatched = 0
    /// Those of the dispatched tasks that are being sent.
    public var sends = 0
    /// Dead tasks.
    public var dead = 0
    /// Records of tasks that are done.
    public var done = 0
    /// Records of tasks that were cancelled.
    public var cancelled = 0
    /// Records of tasks that have expired.
    public var expired = 0
    /// Keys that are still taken although the record of their task is gone.
    public var keptKeys = 0
    /// Waits that name the queue.
    public var waiters = 0
    /// Since when the oldest of the first ready tasks of each priority has been ready; nil if no task is ready.
    public var oldestReady: Int64?
    /// Whether the queue is paused.
    public var isPaused = false
    /// When the queue was paused, in Unix milliseconds; nil if it is not paused, or if a version of the program that
    /// did not note the time paused it.
    public var pausedSince: Int64?
    /// Whether all of its tasks are sent, or at least all that are ready, so that they need no worker.
    public var isPushed = false
    /// What has happened in the last minute (`Broker.lastMinute`).
    public var lastMinute = EventCounts()
    /// What has happened since the queue was made. A queue is forgotten an hour after its last use.
    public var totals = Totals()

    /// What has happened to the tasks of a queue.
    public struct Totals: Hashable, Sendable {
        /// Tasks added, including replacements.
        public var enqueued: UInt64 = 0
        /// Tasks that came from other queues: dead letters, moved tasks, and dead letters that returned.
        public var received: UInt64 = 0
        /// Dead-letter notifications added, which are not counted as enqueued.
        public var notices: UInt64 = 0
        /// Dispatches.
        public var dispatched: UInt64 = 0
        /// Dispatches that were acknowledged.
        public var acked: UInt64 = 0
        /// Dispatches that failed.
        public var nacked: UInt64 = 0
        /// Dispatches whose lease ran out.
        public var timedOut: UInt64 = 0
        /// Dispatches that were released.
        public var released: UInt64 = 0
        /// Tasks that expired.
        public var expired: UInt64 = 0
        /// Tasks that died.
        public var died: UInt64 = 0
        /// Tasks that were cancelled or purged before they finished.
        public var cancelled: UInt64 = 0

        /// Tasks that came although the queue had reached its maximum length: by moves, by kicks, and as dead letters.
        public var overLength: UInt64 = 0

        /// Makes totals of 0.
        public init() {}
    }

    /// Makes the statistics of an empty queue.
    public init() {}
}
