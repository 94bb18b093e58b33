// What the server counts. Times are in Unix seconds; new versions of emq may add members, which are ignored here.

/// How many tasks a second there were in the last minute.
public struct Rates: Sendable, Decodable, Hashable {
    /// Enqueued.
    public let enqueued: Double
    /// Acknowledged.
    public let done: Double
    /// Refused, or their lease ran out.
    public let failed: Double
}

/// What has happened since the queue was first used, or since the server started.
public struct Totals: Sendable, Decodable, Hashable {
    /// Tasks that were enqueued.
    public let enqueued: Int
    /// Tasks that came from other queues.
    public let received: Int
    /// Dispatches.
    public let dispatched: Int
    /// Acknowledgements.
    public let acked: Int
    /// Refusals.
    public let nacked: Int
    /// Leases that ran out.
    public let timedOut: Int
    /// Releases.
    public let released: Int
    /// Tasks that expired.
    public let expired: Int
    /// Tasks that died.
    public let died: Int
    /// Tasks that were cancelled.
    public let cancelled: Int
    /// Tasks that arrived though the queue had its `max_length`.
    public let overLength: Int
    /// Dead-letter notifications.
    public let notices: Int
}

/// How things were, in steps of the same length, the oldest first.
public struct History: Sendable, Decodable {
    /// The steps of a history.
    public enum Step: String, Sendable {
        /// The last hour in steps of a minute.
        case minute = "1m"
        /// The last day in steps of five minutes.
        case fiveMinutes = "5m"
    }

    /// The length of a step.
    public let interval: Duration
    /// When the last step ended, in Unix seconds.
    public let end: Double
    /// Tasks enqueued in the step.
    public let enqueued: [Int]
    /// Tasks done in the step.
    public let done: [Int]
    /// Attempts that failed in the step.
    public let failed: [Int]
    /// Ready tasks at the end of the step.
    public let ready: [Int]
    /// Dead tasks at the end of the step.
    public let dead: [Int]
    /// How long the oldest ready task had been ready at the end of the step.
    public let oldestReady: [Duration]
    /// How long tasks had been ready when they were dispatched, on average.
    public let waitMean: [Duration]
    /// How long tasks had been ready when they were dispatched, at most.
    public let waitMax: [Duration]
    /// How long the work took, on average.
    public let runMean: [Duration]
    /// How long the work took, at most.
    public let runMax: [Duration]
}

/// The counts of a queue.
public struct QueueStatistics: Sendable, Decodable {
    /// The state of a push's circuit.
    public struct Circuit: Sendable, Decodable, Hashable {
        /// `closed`, `open` or `half-open`.
        public let state: String
        /// How many failures there have been in a row.
        public let failures: Int
        /// When a task tries again, in Unix seconds, if the circuit is open.
        public let until: Double?
    }

    /// The queue.
    public let queue: String
    /// Tasks whose time has not come.
    public let delayed: Int
    /// Tasks that a worker may take.
    public let ready: Int
    /// Tasks that workers hold.
    public let dispatched: Int
    /// Dead tasks.
    public let dead: Int
    /// Records of done tasks.
    public let done: Int
    /// Records of cancelled tasks.
    public let cancelled: Int
    /// Records of expired tasks.
    public let expired: Int
    /// Keys that are taken after their tasks' records are gone.
    public let keys: Int
    /// Waits that name the queue.
    public let waiters: Int
    /// How long the oldest ready task has been ready; nil without one.
    public let oldestReady: Duration?
    /// Whether the queue is paused.
    public let paused: Bool
    /// Since when the queue has been paused, in Unix seconds.
    public let pausedSince: Double?
    /// Whether emq sends all of its tasks.
    public let pushed: Bool?
    /// How many tasks emq is sending.
    public let sending: Int?
    /// Tasks a second in the last minute.
    public let rates: Rates
    /// What has happened since the queue was first used.
    public let totals: Totals
    /// The circuit of its push, if it has one.
    public let circuit: Circuit?
    /// The history, if it was asked for and is known.
    public let history: History?
    /// How many tasks were ready at the end of each of the last 30 minutes, if that was asked for and is known.
    public let trend: [Int]?
}

/// Queues whose names begin alike, as one.
public struct QueueGroup: Sendable, Decodable {
    /// How the names begin.
    public let group: String
    /// How many queues there are.
    public let queues: Int
    /// Their delayed tasks.
    public let delayed: Int
    /// Their ready tasks.
    public let ready: Int
    /// Their tasks that workers hold.
    public let dispatched: Int
    /// Their dead tasks.
    public let dead: Int
    /// Waits that name one of them.
    public let waiters: Int
    /// How many of them are paused.
    public let paused: Int
    /// How long the oldest ready task has been ready; nil without one.
    public let oldestReady: Duration?
    /// Tasks a second in the last minute.
    public let rates: Rates
    /// How many tasks were ready at the end of each of the last 30 minutes, if that was asked for.
    public let trend: [Int]?
}

/// A page of queues, with what concerns the whole server on the first page.
public struct Statistics: Sendable, Decodable {
    /// The state of the server.
    public struct Server: Sendable, Decodable {
        /// The version of emq.
        public let version: String
        /// When it started, in Unix seconds.
        public let started: Double
        /// How long it has run.
        public let uptime: Duration
        /// Its time, in Unix seconds.
        public let now: Double
        /// Waits for tasks or results.
        public let waiters: Int
        /// The longest time for which requests have waited for others in the last minute.
        public let loopLag: Duration
    }

    /// Where the oldest ready task is.
    public struct Oldest: Sendable, Decodable {
        /// The queue.
        public let queue: String
        /// How long it has been ready.
        public let seconds: Duration
    }

    /// The memory for tasks, requests and responses.
    public struct Memory: Sendable, Decodable {
        /// How much is used, in bytes.
        public let used: Int
        /// How much may be used, in bytes.
        public let limit: Int
    }

    /// A row of a page by groups.
    public enum Row: Sendable, Decodable {
        /// A queue in no group.
        case queue(QueueStatistics)
        /// A group.
        case group(QueueGroup)

        private enum CodingKeys: CodingKey { case group }

        /// Reads a queue or a group.
        public init(from decoder: any Decoder) throws {
            let isGroup = try decoder.container(keyedBy: CodingKeys.self).contains(.group)
            self = isGroup ? .group(try QueueGroup(from: decoder)) : .queue(try QueueStatistics(from: decoder))
        }
    }

    /// The queues by name; nil on a page by groups.
    public let queues: [String: QueueStatistics]?
    /// The rows of a page by groups.
    public let rows: [Row]?
    /// What to give as `after` to get the next page.
    public let next: String?
    /// How many queues or rows there are, on a page by `offset`.
    public let count: Int?
    /// How many queues are in groups that are left out.
    public let queuesLeftOut: Int?
    /// The state of the server.
    public let server: Server?
    /// How many tasks the server holds.
    public let tasks: Int?
    /// How many tasks are in each state.
    public let states: [String: Int]?
    /// Where the oldest ready task is.
    public let oldest: Oldest?
    /// Tasks a second in the last minute, of all queues.
    public let rates: Rates?
    /// What has happened since the server started.
    public let totals: Totals?
    /// The history of all queues together.
    public let history: History?
    /// How many connections are open.
    public let connections: Int?
    /// The memory.
    public let memory: Memory?
    /// When the server's certificate ends, in Unix seconds.
    public let certificateEnd: Double?
    /// The sources, by their names.
    public let sources: [String: SourceStatus]?
    /// The journal.
    public let journal: RawJSON?
}
