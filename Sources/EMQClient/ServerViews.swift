// What the server shows of its work, its workers and its problems. Times are in Unix seconds.

/// What is wrong with the server and its queues.
public struct Alerts: Sendable, Decodable {
    /// One problem.
    public struct Alert: Sendable, Decodable, Hashable {
        /// `warning` or `critical`.
        public let level: String
        /// What it is about, for programs: `queue_stalled`, `dead_tasks` and others.
        public let kind: String
        /// What is wrong, for people.
        public let text: String
        /// The queue, if it is about one.
        public let queue: String?
    }

    /// That of the worst alert: `critical`, `warning`, or `ok` without any.
    public let status: String
    /// Up to 100 alerts, the worst first.
    public let alerts: [Alert]
    /// How many more there are.
    public let leftOut: Int
    /// When emq looked, in Unix seconds.
    public let asOf: Double
}

/// A purge, a kick or a move under way.
public struct Operation: Sendable, Decodable, Identifiable {
    /// Its number.
    public let id: Int
    /// `purge`, `kick` or `move`.
    public let action: String
    /// The queue.
    public let queue: String
    /// The states of the tasks that it looks at.
    public let state: [TaskState]
    /// When it began, in Unix seconds.
    public let started: Double
    /// How many tasks it has looked at.
    public let examined: Int
    /// How many tasks it has changed.
    public let changed: Int
    /// How many tasks it will look at.
    public let total: Int
    /// The target of a move, or `origin`.
    public let to: String?
}

/// Dead tasks, grouped by their errors.
public struct ErrorGroups: Sendable, Decodable {
    /// Dead tasks of one queue with the same line of their errors.
    public struct Group: Sendable, Decodable, Hashable {
        /// The queue.
        public let queue: String
        /// The line; nil for tasks without an error.
        public let error: String?
        /// How many tasks there are.
        public let count: Int
        /// When the first one died, in Unix seconds.
        public let first: Double
        /// When the last one died, in Unix seconds.
        public let last: Double
        /// The id of the one that died last.
        public let example: String
    }

    /// The groups, the largest first.
    public let errors: [Group]
    /// How many groups there are in all.
    public let groups: Int
    /// How many dead tasks there are in all.
    public let tasks: Int
    /// How many dead tasks of the server are in no group.
    public let leftOut: Int?
    /// When emq looked, in Unix seconds.
    public let asOf: Double
}

/// Workers, with their waits and their tasks.
public struct Workers: Sendable, Decodable {
    /// A task that a worker holds.
    public struct HeldTask: Sendable, Decodable, Hashable {
        /// The id.
        public let id: String
        /// The queue.
        public let queue: String
        /// When it was dispatched, in Unix seconds.
        public let dispatched: Double
        /// When its lease ends, in Unix seconds.
        public let leaseEnd: Double
    }

    /// A worker that has a name.
    public struct Worker: Sendable, Decodable {
        /// The name.
        public let name: String
        /// How many waits go on.
        public let waiting: Int
        /// Up to 10 of the queues that it waits for.
        public let queues: [String]
        /// How many tasks it holds.
        public let held: Int
        /// Up to 10 of them, those held for the longest time first.
        public let tasks: [HeldTask]
        /// When it first waited, in Unix seconds.
        public let firstSeen: Double
        /// When it last waited, in Unix seconds.
        public let lastSeen: Double
    }

    /// Workers without names.
    public struct Unnamed: Sendable, Decodable {
        /// How many waits go on; nil if this client may not know it.
        public let waiting: Int?
        /// How many tasks they hold.
        public let held: Int
    }

    /// The workers.
    public let workers: [Worker]
    /// How many workers match.
    public let count: Int
    /// Workers without names.
    public let unnamed: Unnamed
    /// How many held tasks belong to workers that are left out.
    public let leftOut: Int?
    /// When emq looked, in Unix seconds.
    public let asOf: Double
}

/// What a search has found.
public struct SearchResults: Sendable, Decodable {
    /// A task.
    public struct Task: Sendable, Decodable, Hashable {
        /// The id.
        public let id: String
        /// The queue.
        public let queue: String
        /// The state.
        public let state: TaskState
        /// The key.
        public let key: String?
        /// When it was enqueued, in Unix seconds.
        public let enqueued: Double?
    }

    /// The tasks.
    public let tasks: [Task]
    /// The queues.
    public let queues: [String]
    /// Whether there are more.
    public let more: Bool?
}

/// What a purge, a kick or a move has done.
public struct Swept: Sendable, Hashable {
    /// How many tasks it has changed.
    public let count: Int
    /// Whether somebody has stopped it.
    public let isStopped: Bool
    /// The named tasks that stayed as they were.
    public let missing: [String]
}

/// How the server is.
public struct Health: Sendable, Decodable, Hashable {
    /// `ok`, `stopping` or `recovering`.
    public let status: String
    /// The progress, while the server recovers.
    public let detail: String?
    /// When the server's certificate ends, in Unix seconds.
    public let certificateEnd: Double?
}

/// What this client may do.
public struct Access: Sendable, Decodable, Hashable {
    /// Whether the server has tokens.
    public let tokens: Bool
    /// The name of the client's token.
    public let name: String?
    /// What it allows.
    public let permissions: [String]
    /// Patterns of the queues for which it holds.
    public let queues: [String]
    /// When it ends, in Unix seconds; nil if it does not.
    public let expires: Double?
}
