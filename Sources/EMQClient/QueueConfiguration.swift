// The defaults for the tasks of a queue, and of all queues.

/// Defaults for the tasks of one queue, or of all. What is nil is left to the server.
///
/// In a PUT, no limit (``Limit/unlimited``) overrides the defaults of all queues.
public struct QueueConfiguration: Sendable, Codable {
    /// The lease.
    public var retry: Duration?
    /// After how long emq deletes tasks.
    public var expiry: Limit<Duration>?
    /// How many retries may follow the first attempt.
    public var maxRetries: Limit<Int>?
    /// How many leases of a task may run out.
    public var maxCrashes: Limit<Int>?
    /// The pauses before retries.
    public var backoff: Backoff?
    /// How long emq keeps the records of tasks that have ended.
    public var keep: Duration?
    /// The priority, −128 to 127.
    public var priority: Int?
    /// The most ready, delayed and dispatched tasks of the queue.
    public var maxLength: Limit<Int>?
    /// The queue that dead tasks move to; ``Limit/unlimited`` for none.
    public var deadLetter: Limit<String>?
    /// How long dead tasks stay.
    public var deadExpiry: Duration?
    /// `"dead"`: expired tasks become dead. `"delete"`: emq deletes them.
    public var onExpiry: String?
    /// Whether callers without the permission `admin` see contents.
    public var showContent: Bool?
    /// Makes emq send the queue's tasks.
    public var push: Push?
    /// In the answer to a PUT: what the PUT has dropped of a `push`. Not sent.
    public internal(set) var removed: [String]?

    /// A configuration without settings.
    public init() {}

    private enum CodingKeys: CodingKey {
        case retry, expiry, maxRetries, maxCrashes, backoff, keep, priority, maxLength, deadLetter, deadExpiry, onExpiry
        case showContent, push, removed
    }

    /// Makes emq send the tasks of a queue. The server shows secrets and the values of headers as `***`; in a PUT or a
    /// PATCH, that keeps the value that there is.
    public struct Push: Sendable, Codable {
        /// When to leave a failing receiver alone.
        public struct Circuit: Sendable, Codable, Hashable {
            /// After how many failures in a row.
            public var failures: Int
            /// For how long.
            public var pause: Duration

            /// A circuit.
            ///
            /// - Parameters:
            ///   - failures: After how many failures in a row emq leaves the receiver alone.
            ///   - pause: For how long.
            public init(failures: Int, pause: Duration) { (self.failures, self.pause) = (failures, pause) }
        }

        /// The target.
        public var url: String?
        /// The method; nil for POST.
        public var method: String?
        /// The header fields.
        public var headers: [String: String]?
        /// How long a request may take; nil for 30 s.
        public var timeout: Duration?
        /// A URL that emq notifies when a task dies.
        public var onDead: String?
        /// How many tasks may be in flight at once; nil for 10.
        public var concurrency: Int?
        /// The highest rate of requests, such as `10/s`.
        public var rate: String?
        /// When to leave a failing receiver alone.
        public var circuit: Circuit?
        /// How emq signs requests: `emq` or `standard`.
        public var signature: String?
        /// The key that signs requests.
        public var secret: String?
        /// Instead of `secret`: several, the current one first.
        public var secrets: [String]?
        /// The issuers (PEM) whose certificates alone are accepted.
        public var ca: String?

        /// A push.
        ///
        /// - Parameter url: The target.
        public init(url: String? = nil) { self.url = url }
    }
}

/// A source: a queue of RabbitMQ whose messages become tasks.
public struct SourceDefinition: Sendable, Codable, Hashable {
    /// Where RabbitMQ is: `amqp://USER:PASSWORD@HOST:PORT/VHOST`. The server shows the password as `***`.
    public var amqp: String
    /// The queue of RabbitMQ.
    public var queue: String
    /// The queue of emq; nil for one of the same name.
    public var into: String?
    /// How many messages may be unacknowledged.
    public var prefetch: Int?
    /// How long the `message_id` of a message stays taken as the key of its task.
    public var uniqueFor: Duration?

    /// A source.
    ///
    /// - Parameters:
    ///   - amqp: Where RabbitMQ is.
    ///   - queue: The queue of RabbitMQ.
    ///   - into: The queue of emq; nil for one of the same name.
    ///   - prefetch: How many messages may be unacknowledged.
    ///   - uniqueFor: How long the `message_id` of a message stays taken as a key.
    public init(
        amqp: String, queue: String, into: String? = nil, prefetch: Int? = nil, uniqueFor: Duration? = nil
    ) {
        (self.amqp, self.queue, self.into, self.prefetch, self.uniqueFor) = (amqp, queue, into, prefetch, uniqueFor)
    }
}

/// A source, and how it is.
public struct SourceStatus: Sendable, Decodable {
    /// Where RabbitMQ is; nil in the statistics.
    public let amqp: String?
    /// The queue of RabbitMQ.
    public let queue: String
    /// The queue of emq.
    public let into: String
    /// How many messages may be unacknowledged; nil in the statistics.
    public let prefetch: Int?
    /// How long the `message_id` of a message stays taken as a key; nil in the statistics.
    public let uniqueFor: Duration?
    /// `connecting`, `consuming`, `waiting`, `retrying`, `stopped` or `paused`.
    public let state: String
    /// How many messages are ready in RabbitMQ; nil while there is no connection.
    public let lag: Int?
    /// How many messages emq has received and not acknowledged yet.
    public let unacknowledged: Int
    /// How many messages emq has taken.
    public let messages: Int
    /// How many of them added no task, because their key was taken.
    public let duplicates: Int
    /// The last failure.
    public let lastError: String?
    /// The time of the last failure, in Unix seconds.
    public let lastErrorAt: Double?
}
