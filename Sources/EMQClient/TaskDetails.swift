// What the server shows of a task, and which tasks a request concerns.

/// The state of a task. New versions of emq may add states.
public struct TaskState: RawRepresentable, Hashable, Sendable, Codable, CustomStringConvertible {
    /// The state as the server calls it.
    public var rawValue: String
    /// A state by its name.
    public init(rawValue: String) { self.rawValue = rawValue }

    /// Its time has not come.
    public static let delayed = TaskState(rawValue: "delayed")
    /// A worker may take it.
    public static let ready = TaskState(rawValue: "ready")
    /// A worker holds it.
    public static let dispatched = TaskState(rawValue: "dispatched")
    /// The work is done.
    public static let done = TaskState(rawValue: "done")
    /// Its retries are used up.
    public static let dead = TaskState(rawValue: "dead")
    /// It was cancelled.
    public static let cancelled = TaskState(rawValue: "cancelled")
    /// Its expiry has passed.
    public static let expired = TaskState(rawValue: "expired")

    /// The name.
    public var description: String { rawValue }
}

/// Everything about a task. Members without a value are nil. Times are in Unix seconds.
public struct TaskDetails: Sendable, Decodable, Identifiable {
    /// One attempt at a task.
    public struct Attempt: Sendable, Decodable {
        /// Its number.
        public let attempt: Int
        /// When it began, in Unix seconds.
        public let dispatched: Double?
        /// When it ended, in Unix seconds; nil if it goes on.
        public let ended: Double?
        /// The worker that had the task.
        public let worker: String?
        /// `failed`, `timed_out`, `released`, `done`, `cancelled` or `expired`; nil if it goes on.
        public let outcome: String?
        /// The first 200 bytes of the error.
        public let error: String?
    }

    /// The id.
    public let id: String
    /// The queue.
    public let queue: String
    /// The state.
    public let state: TaskState
    /// The content; nil if it is hidden or cut.
    public let content: RawJSON?
    /// The size of a content that is cut, in bytes.
    public let contentBytes: Int?
    /// The beginning of a content that is cut.
    public let contentStart: String?
    /// Whether the content is hidden from this client.
    public let contentHidden: Bool?
    /// The number of the last attempt; 0 before the first.
    public let attempt: Int
    /// The key.
    public let key: String?
    /// Until when the key stays taken, in Unix seconds.
    public let uniqueUntil: Double?
    /// The metadata; nil if there is none, or if it is hidden or cut.
    public let metadata: [String: String]?
    /// When it was enqueued, in Unix seconds.
    public let enqueued: Double?
    /// When it expires, in Unix seconds.
    public let expires: Double?
    /// The end of its delay, in Unix seconds.
    public let due: Double?
    /// When it was given to a worker, in Unix seconds.
    public let dispatched: Double?
    /// When the lease ends, in Unix seconds.
    public let leaseEnd: Double?
    /// When it ended, in Unix seconds.
    public let finished: Double?
    /// When it died, in Unix seconds.
    public let died: Double?
    /// The length of its lease.
    public let retry: Duration?
    /// The priority.
    public let priority: Int?
    /// How many retries it may have, if it has a limit of its own.
    public let maxRetries: Limit<Int>?
    /// How many of its leases may run out, if it has a limit of its own.
    public let maxCrashes: Limit<Int>?
    /// The pauses before its retries, if it has some of its own.
    public let backoff: Backoff?
    /// How long its record is kept after its end, if it has a time of its own.
    public let keep: Duration?
    /// How many retries it has had.
    public let retries: Int?
    /// How many of its leases have run out.
    public let crashes: Int?
    /// The worker that has it.
    public let worker: String?
    /// The last error.
    public let error: String?
    /// The end of what the last attempt printed.
    public let log: String?
    /// How far the work is.
    public let progress: RawJSON?
    /// What the work has made.
    public let result: RawJSON?
    /// How emq sends it.
    public let request: RawJSON?
    /// The name of the request that enqueued it.
    public let requestID: String?
    /// The place in a trace of the request that enqueued it.
    public let traceparent: String?
    /// The queue where it died, if it is a dead letter.
    public let origin: String?
    /// Up to ten attempts that have ended, the oldest first, and the present one.
    public let attempts: [Attempt]?
}

/// What has a key.
public struct KeyHolder: Sendable, Decodable {
    /// The id of the task.
    public let id: String
    /// The queue.
    public let queue: String
    /// The key.
    public let key: String?
    /// If the task has ended and its record is gone: since when the key has been taken, in Unix seconds.
    public let since: Double?
    /// If the task has ended and its record is gone: until when the key stays taken, in Unix seconds.
    public let until: Double?
    /// The state of the task; nil if its record is gone.
    public let state: TaskState?
}

/// How a task has ended, or its state at the timeout.
public struct TaskOutcome: Sendable, Decodable {
    /// The state. If it is neither `done`, `dead`, `cancelled` nor `expired`, the time to wait has passed.
    public let state: TaskState
    /// What the work has made; nil if there is none.
    public let result: RawJSON?

    /// Whether the task has ended.
    public var hasEnded: Bool { [.done, .dead, .cancelled, .expired].contains(state) }

    /// Reads the result.
    ///
    /// - Parameter type: The type of the result.
    /// - Returns: The value.
    /// - Throws: `DecodingError`; it has no result if there is none.
    public func decode<Value: Decodable>(_ type: Value.Type = Value.self) throws -> Value {
        try (result ?? .null).decode(type)
    }
}

/// A part of a list, and where the list goes on.
public struct Page<Element: Sendable>: Sendable {
    /// The elements.
    public let elements: [Element]
    /// What to give as `after` to get the next page; nil if this is the last one.
    public let next: String?
}

/// Which tasks a purge, a kick, a move or a peek concerns: those that everything given selects.
public struct TaskFilter: Sendable, Hashable {
    /// Only tasks with exactly this line of their error. If it is empty, only tasks without an error.
    public var error: String?
    /// Only tasks whose line of error matches this pattern, in which `*` stands for any characters.
    public var errorMatch: String?
    /// Only tasks that have been in their state for at least this long.
    public var olderThan: Duration?
    /// Only tasks that have been in their state for less than this.
    public var newerThan: Duration?

    /// A filter.
    ///
    /// - Parameters:
    ///   - error: The line of the error; empty for no error.
    ///   - errorMatch: A pattern of the line of the error.
    ///   - olderThan: At least how long tasks have been in their state.
    ///   - newerThan: Less than how long tasks have been in their state.
    public init(
        error: String? = nil, errorMatch: String? = nil, olderThan: Duration? = nil, newerThan: Duration? = nil
    ) {
        (self.error, self.errorMatch, self.olderThan, self.newerThan) = (error, errorMatch, olderThan, newerThan)
    }

    var query: [(String, String?)] {
        [
            ("error", error), ("error_match", errorMatch), ("older_than", olderThan.map(Self.seconds)),
            ("newer_than", newerThan.map(Self.seconds)),
        ]
    }

    private static func seconds(_ duration: Duration) -> String {
        var bytes: [UInt8] = []
        RequestBody.append(duration, to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }
}
