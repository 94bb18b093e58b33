// What a queue tells about itself.

/// How much a queue holds, and what has come of its tasks.
public struct QueueStatistics: Hashable, Sendable {
    /// Tasks that wait for their time.
    public var delayed = 0
    /// Tasks that wait to be dispatched.
    public var ready = 0
    /// Tasks that a worker holds.
    public var dispatched = 0
    /// Tasks whose retries are used up.
    public var dead = 0
    /// Records of tasks that are done.
    public var done = 0
    /// Records of tasks that were cancelled.
    public var cancelled = 0
    /// Records of tasks that have expired.
    public var expired = 0
    /// Keys that are kept though nothing else is left of their tasks.
    public var keptKeys = 0
    /// Waits that name it.
    public var waiters = 0
    /// Since when the oldest of those that would be dispatched next, one for each priority, is ready; nil if none is.
    public var oldestReady: Int64?
    /// Whether it gives out no tasks.
    public var isPaused = false
    /// What has happened since it was made, or forgotten an hour after its last use.
    public var totals = Totals()

    /// What has happened to the tasks of a queue.
    public struct Totals: Hashable, Sendable {
        /// Tasks added, replacements among them.
        public var enqueued: UInt64 = 0
        /// Tasks that came from other queues: dead letters, what was moved, and dead letters that went back.
        public var received: UInt64 = 0
        /// Tasks added to tell of a death, which are not counted there.
        public var notices: UInt64 = 0
        /// Dispatches.
        public var dispatched: UInt64 = 0
        /// Dispatches that were acknowledged.
        public var acked: UInt64 = 0
        /// Dispatches that failed.
        public var nacked: UInt64 = 0
        /// Dispatches whose lease ran out.
        public var timedOut: UInt64 = 0
        /// Dispatches that were given back.
        public var released: UInt64 = 0
        /// Tasks that expired.
        public var expired: UInt64 = 0
        /// Tasks that died.
        public var died: UInt64 = 0
        /// Tasks that were cancelled or purged before their end.
        public var cancelled: UInt64 = 0

        /// Tasks that came though there were as many as there may be for another one to be added: by moves, kicks, and as dead
        /// letters.
        public var overLength: UInt64 = 0

        /// Nothing yet.
        public init() {}
    }

    /// An empty queue.
    public init() {}
}
