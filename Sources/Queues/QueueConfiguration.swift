// What a queue's tasks leave unsaid, and what a queue says for itself.
//
// A new field also goes into `code` in Images.swift, into docs/journal.md, and into `everyFieldOfAConfigurationIsWritten` in
// ImageTests, which fails without it.

/// The configuration of a queue. What a task says itself goes before. All but `priority` and `expiry` is looked up when
/// it is needed, so that a change applies to tasks that were there before.
public struct QueueConfiguration: Hashable, Sendable {
    /// The lease of a task when neither it nor its queue says another.
    public static let defaultLeaseMilliseconds: Int64 = 300_000
    /// How long a task lives when neither it nor its queue says otherwise.
    public static let defaultExpiryMilliseconds: Int64 = 86_400_000
    /// How long dead tasks stay when their queue says nothing else.
    public static let defaultDeadExpiryMilliseconds: Int64 = 14 * 86_400_000

    /// How long a worker may hold a task; nil is the default.
    public var leaseMilliseconds: Int64?
    /// How long a task lives.
    public var expiry = Expiry.unsaid
    /// How many retries may follow a task's first attempt; nil is any number.
    public var maximumRetries: UInt32?
    /// The pause before a retry; nil is none.
    public var backoff: Backoff?
    /// How long the record of a task stays after it is done, cancelled or expired.
    public var keepMilliseconds: Int64 = 0
    /// The priority of its tasks.
    public var priority: Int8 = 0
    /// How many ready, delayed and dispatched tasks there may be for another one to be added; nil is any number.
    public var maximumLength: Int?
    /// The name of the queue that dead tasks move to; nil leaves them here. Not its own.
    public var deadLetter: [UInt8]?
    /// How long dead tasks stay; nil is the default.
    public var deadExpiryMilliseconds: Int64?
    /// Whether expired tasks become dead.
    public var isExpiryDeath = false
    /// How its tasks are sent, for whoever sends them; empty if it says nothing.
    public var push: [UInt8] = []
    /// Whether all of its tasks are sent, and none is given to workers. If not, only those are that say so themselves.
    public var isPushed = false

    /// A configuration that says nothing.
    public init() {}
}
