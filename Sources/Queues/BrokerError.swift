// Why the broker refuses to take something more.

/// What a broker throws when it does not take something. A call that throws has changed nothing.
public enum BrokerError: Error, Hashable, Sendable {
    /// The broker holds as many tasks as it has room for.
    case tooManyTasks
    /// 1,000,000 queues exist that may not be forgotten.
    case tooManyQueues
    /// There is no address space left for the content, or it is 4 GiB or longer.
    case outOfMemory
    /// Another task of the queue has this key, and the new one was to be rejected then.
    case keyTaken
    /// The queue's configuration allows it no more tasks.
    case queueFull
    /// A batch would add more tasks than the queue's configuration ever allows.
    case batchTooLong
    /// As many purges, kicks and moves are under way as there may be.
    case tooManySweeps
}

/// Why a batch was not added.
public struct BatchError: Error, Hashable, Sendable {
    /// The index of the first task that could not be added.
    public var index: Int
    /// What was wrong with it.
    public var reason: BrokerError

    /// An error of one task of a batch.
    public init(index: Int, reason: BrokerError) {
        self.index = index
        self.reason = reason
    }
}
