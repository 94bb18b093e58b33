// A task to be added, and how it can be added or given back.

import UID

/// How long a task lives.
public enum Expiry: Hashable, Sendable {
    /// As the queue's configuration says; a day if it does not.
    case unsaid
    /// It never expires.
    case never
    /// This many milliseconds after the end of its delay, or after it was added if that is later.
    case after(milliseconds: Int64)
}

/// How many retries may follow a task's first attempt, or how many of its leases may run out.
public enum RetryLimit: Hashable, Sendable {
    /// As the queue's configuration says; without a limit if it does not.
    case unsaid
    /// Any number, until the task expires.
    case unlimited
    /// This many; when they are used up, the next failure, or the next lease that runs out, makes the task dead.
    case limited(UInt32)
}

/// What happens to a task whose key is taken.
public enum KeyConflict: Hashable, Sendable {
    /// The new task is not added; the id of the task that holds the key is returned.
    case keep
    /// The new task replaces the task that holds the key, under its id, unless that task has finished.
    case replace
    /// The new task is not added, and the call throws.
    case reject
}

/// The pause before a retry: `minimumMilliseconds`, doubled for each retry so far.
public struct Backoff: Hashable, Sendable {
    /// The first pause.
    public var minimumMilliseconds: Int64
    /// The longest pause.
    public var maximumMilliseconds: Int64
    /// How often the pause is doubled at most.
    public var maximumDoublings: UInt32
    /// The fraction, 0 to 1, by which a pause is randomly made longer or shorter at most.
    public var jitter: Double

    /// How many retries follow at once if no backoff is given: those of the first ten attempts.
    static let retriesAtOnce: UInt32 = 9
    /// The backoff of later retries if none is given, so that a task that fails at once does not keep workers busy.
    static let afterRetriesAtOnce = Backoff(minimumMilliseconds: 1000, maximumMilliseconds: 60_000)

    /// The backoff of a pushed task if neither the task nor its queue gives one.
    public static let ofSentTasks = Backoff(minimumMilliseconds: 1000, maximumMilliseconds: 3_600_000, jitter: 0.1)

    /// Makes a backoff; by default, its pause doubles up to a day.
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

/// The optional parts of a new task. The broker copies them.
public final class TaskOptions {
    /// The key, which at most one unfinished task of a queue holds; empty for none.
    public var key: [UInt8] = []
    /// What happens if the key is taken.
    public var onConflict = KeyConflict.keep
    /// How long after its arrival the key stays taken even if the task finishes before; 0 for no longer than the task
    /// lives.
    public var uniqueForMilliseconds: Int64 = 0
    /// How many retries may follow the first attempt.
    public var retryLimit = RetryLimit.unsaid
    /// How many leases of workers may run out.
    public var crashLimit = RetryLimit.unsaid
    /// The pause before a retry; nil for the queue's setting.
    public var backoff: Backoff?
    /// How long its record is kept after it is done, cancelled or expired; nil for the queue's setting.
    public var keepMilliseconds: Int64?
    /// Bytes to show with the task; empty for none.
    public var metadata: [UInt8] = []
    /// How to send the task; a task with this is never given to a worker. Empty if the task does not say.
    public var request: [UInt8] = []
    /// The request that adds the task.
    public var trace = TraceContext()
    /// Whether it is a dead-letter notification, which is counted apart.
    public var isNotice = false

    /// Makes options with none set.
    public init() {}

    /// Until when the key stays taken if the task arrives at `arrival`; 0 for no longer than the task lives.
    func uniqueUntil(from arrival: Int64) -> Int64 {
        uniqueForMilliseconds > 0 ? arrival.addingWithinRange(uniqueForMilliseconds) : 0
    }
}

/// A task to be added.
public struct NewTask {
    /// The id, which no other task has.
    public var id: UID
    /// The range of its content in the bytes that are passed with the task; if it is empty, the content is `null`.
    public var content: Range<Int>
    /// How long a worker may hold it; nil for the queue's setting. After 0, its dispatch ends at once.
    public var leaseMilliseconds: Int64?
    /// The time before which it is not dispatched; nil for no delay.
    public var due: Int64?
    /// How long it lives.
    public var expiry: Expiry
    /// Tasks of higher priority are dispatched first; nil for the queue's setting.
    public var priority: Int8?
    /// Its optional parts, if it has any.
    public var options: TaskOptions?

    /// Makes a task.
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

/// The result of adding a task.
public struct Enqueued: Hashable, Sendable {
    /// The new task's id, or the id of the task that holds its key.
    public var id: UID
    /// Whether the key was taken, so that an existing task was kept or replaced.
    public var isExisting: Bool

    /// Makes the result for one task.
    public init(id: UID, isExisting: Bool) {
        self.id = id
        self.isExisting = isExisting
    }
}

/// How a worker gives back a task that it did not do.
public enum NakAction: Hashable, Sendable {
    /// It failed; it is retried after its backoff, if it has retries left.
    case failed
    /// It failed; it is retried after this pause, if it has retries left.
    case failedPausing(milliseconds: Int64)
    /// It failed and is not retried.
    case dead
    /// It did not fail: it returns to the front of its priority, and no attempt and no retry is counted.
    case release
    /// It did not fail: it is ready again after this pause, and no attempt and no retry is counted.
    case releasePausing(milliseconds: Int64)
}

/// What became of a task that was given back.
public enum NakOutcome: Hashable, Sendable {
    /// The task was not held, or not by the given dispatch.
    case missing
    /// It will be dispatched again, now or later.
    case requeued
    /// It is dead: its retries were used up, or it was not to be retried.
    case dead
}
