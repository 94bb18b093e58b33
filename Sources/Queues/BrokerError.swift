// Why the broker refuses to take something more.

/// What a broker throws when one of its bounds is reached. A call that throws has changed nothing.
public enum BrokerError: Error, Hashable, Sendable {
    /// The broker holds as many tasks as it has room for.
    case tooManyTasks
    /// 1,000,000 queues hold tasks or are waited for.
    case tooManyQueues
    /// The system has no memory for the content, or it is 4 GiB or longer.
    case outOfMemory
}
