// Why the broker refuses a call.

/// Why the broker refused a call. A call that throws has changed nothing.
public enum BrokerError: Error, Hashable, Sendable {
    /// The broker holds as many tasks as it has room for.
    case tooManyTasks
    /// 1,000,000 queues exist that must not be forgotten.
    case tooManyQueues
    /// There is no address space left for the content, or it is 4 GiB or longer.
    case outOfMemory
    /// The key is taken, and the task asked to be rejected in this case.
    case keyTaken
    /// The queue has reached its maximum length.
    case queueFull
    /// The batch would add more tasks than the queue's maximum length.
    case batchTooLong
    /// The maximum number of purges, kicks and moves is under way.
    case tooManySweeps
    /// There are 1,000 settings.
    case tooManySettings
    /// The name or the value of a setting is too long, or empty.
    case unsupportedSetting
}

/// Why a batch was refused.
public struct BatchError: Error, Hashable, Sendable {
    /// The index of the first task that could not be added.
    public var index: Int
    /// Why it could not be added.
    public var reason: BrokerError

    /// Makes the error for one task of a batch.
    public init(index: Int, reason: BrokerError) {
        self.index = index
        self.reason = reason
    }
}
