// What work throws to say what becomes of its task.

/// Throw it to have the task tried again: the attempt has failed.
public struct Retry: Error, Sendable, CustomStringConvertible {
    /// How long to wait before the next attempt; nil for the task's backoff.
    public var after: Duration?
    /// The reason, shown with the task.
    public var reason: String?

    /// A failure to be tried again.
    ///
    /// - Parameters:
    ///   - pause: How long to wait before the next attempt; nil for the task's backoff.
    ///   - reason: The reason, shown with the task.
    public init(after pause: Duration? = nil, _ reason: String? = nil) { (after, self.reason) = (pause, reason) }

    /// The reason.
    public var description: String { reason ?? "to be tried again" }
}

/// Throw it to make the task dead: no retry helps.
public struct Dead: Error, Sendable, CustomStringConvertible {
    /// The reason, shown with the task.
    public var reason: String

    /// A failure for good.
    ///
    /// - Parameter reason: The reason, shown with the task.
    public init(_ reason: String) { self.reason = reason }

    /// The reason.
    public var description: String { reason }
}

/// Throw it to give the task back: that counts as no attempt.
public struct Release: Error, Sendable, CustomStringConvertible {
    /// How long to put the task off; nil to make it ready at once.
    public var pause: Duration?

    /// A task that this worker cannot do now.
    ///
    /// - Parameter pause: How long to put the task off; nil to make it ready at once.
    public init(for pause: Duration? = nil) { self.pause = pause }

    /// What happens.
    public var description: String { "given back" }
}
