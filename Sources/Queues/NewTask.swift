// What a task says when it is added.

import UID

/// How long a task lives.
public enum Expiry: Hashable, Sendable {
    /// The task leaves it to its queue's configuration, and that to the default of a day.
    case unsaid
    /// It never expires.
    case never
    /// So many milliseconds after the end of its delay, or after it was added if that is later.
    case after(milliseconds: Int64)
}

/// How many retries may follow a task's first attempt.
public enum RetryLimit: Hashable, Sendable {
    /// The task leaves it to its queue's configuration, and that to no limit.
    case unsaid
    /// Any number until it expires.
    case unlimited
    /// So many; when they are used up, the next failure makes it dead.
    case limited(UInt32)
}

/// What happens to a task whose key is taken.
public enum KeyConflict: Hashable, Sendable {
    /// It is not added; the one that has the key is named instead.
    case keep
    /// It takes the place, and the id, of the one that has the key, unless that has come to its end.
    case replace
    /// It is not added, and that is an error.
    case reject
}

/// The pause before a retry: `minimumMilliseconds`, doubled for each retry so far.
public struct Backoff: Hashable, Sendable {
    /// The first pause.
    public var minimumMilliseconds: Int64
    /// No pause is longer.
    public var maximumMilliseconds: Int64
    /// How many times it is doubled at most.
    public var maximumDoublings: UInt32
    /// By what fraction of itself a pause is made longer or shorter at random: 0…1.
    public var jitter: Double

    /// How many retries follow at once where nobody says a backoff: those of the first ten attempts.
    static let retriesAtOnce: UInt32 = 9
    /// The pauses before the retries after those: a task that fails at once, again and again, is not to keep everybody busy.
    static let afterRetriesAtOnce = Backoff(minimumMilliseconds: 1000, maximumMilliseconds: 60_000)

    /// The pause before a retry of what is sent when neither the task nor its queue says another.
    public static let ofSentTasks = Backoff(minimumMilliseconds: 1000, maximumMilliseconds: 3_600_000, jitter: 0.1)

    /// A backoff; without further arguments, a pause that doubles up to a day.
    public init(
        minimumMilliseconds: Int64, maximumMilliseconds: Int64 = 86_400_000, maximumDoublings: UInt32 = .max,
        jitter: Double = 0
    ) {
        self.minimumMilliseconds = minimumMilliseconds
        self.maximumMilliseconds = maximumMilliseconds
        self.maximumDoublings = maximumDoublings
        self.jitter = jitter
    }
}

/// What few tasks say. The broker copies it out of here.
public final class TaskOptions {
    /// At most one unfinished task of a queue has this key; empty for none.
    public var key: [UInt8] = []
    /// What happens if the key is taken.
    public var onConflict = KeyConflict.keep
    /// How long after this moment the key stays taken, also when the task has come to its end; 0 for no longer.
    public var uniqueForMilliseconds: Int64 = 0
    /// How many retries may follow the first attempt.
    public var retryLimit = RetryLimit.unsaid
    /// The pause before a retry; nil leaves it to the queue.
    public var backoff: Backoff?
    /// How long its record stays after it is done, cancelled or expired; nil leaves it to the queue.
    public var keepMilliseconds: Int64?
    /// Bytes to show with the task; empty for none.
    public var metadata: [UInt8] = []
    /// How it is to be sent, for whoever sends it; no worker gets a task that says so. Empty if it says nothing.
    public var request: [UInt8] = []
    /// Whether it tells of another task's death, and so is counted apart.
    public var isNotice = false

    /// Nothing said.
    public init() {}

    /// Until when the key of a task that arrives at `arrival` stays taken; 0 if no longer than the task lives.
    func uniqueUntil(from arrival: Int64) -> Int64 {
        uniqueForMilliseconds > 0 ? arrival.addingWithinRange(uniqueForMilliseconds) : 0
    }
}

/// A task to be added.
public struct NewTask {
    /// Its id, which no other task has.
    public var id: UID
    /// Where its content stands in the bytes that come with the batch.
    public var content: Range<Int>
    /// How long a worker may hold it; nil leaves it to the queue.
    public var leaseMilliseconds: Int64?
    /// The time before which it is not dispatched; nil for at once.
    public var due: Int64?
    /// How long it lives.
    public var expiry: Expiry
    /// Higher ones are dispatched first; nil leaves it to the queue.
    public var priority: Int8?
    /// What else it says.
    public var options: TaskOptions?

    /// A task that says no more than is given.
    public init(
        id: UID, content: Range<Int>, leaseMilliseconds: Int64? = nil, due: Int64? = nil, expiry: Expiry = .unsaid,
        priority: Int8? = nil, options: TaskOptions? = nil
    ) {
        self.id = id
        self.content = content
        self.leaseMilliseconds = leaseMilliseconds
        self.due = due
        self.expiry = expiry
        self.priority = priority
        self.options = options
    }
}

/// What came of adding a task.
public struct Enqueued: Hashable, Sendable {
    /// The task's id: its own, or that of the one that has its key.
    public var id: UID
    /// Whether its key was taken, so that there was a task already: it was kept or replaced.
    public var isExisting: Bool

    /// The answer for one task.
    public init(id: UID, isExisting: Bool) {
        self.id = id
        self.isExisting = isExisting
    }
}

/// How a worker gives a task back that it could not do.
public enum NakAction: Hashable, Sendable {
    /// It failed; it is tried again after its backoff, if it has retries left.
    case failed
    /// It failed; it is tried again after this pause, if it has retries left.
    case failedPausing(milliseconds: Int64)
    /// It failed and is not tried again.
    case dead
    /// It did not fail: it goes to the front of its priority, and neither an attempt nor a retry is counted.
    case release
    /// It did not fail: it is ready again after this pause, and neither an attempt nor a retry is counted.
    case releasePausing(milliseconds: Int64)
}

/// What became of a task that was given back.
public enum NakOutcome: Hashable, Sendable {
    /// Nobody held it, or not by the dispatch that was meant.
    case missing
    /// It will be dispatched again, now or later.
    case requeued
    /// Its retries were used up.
    case dead
}
