// The configuration of a queue: defaults for its tasks, and its own settings.
//
// A new field also goes into `code` in Images.swift, into docs/journal.md, and into
// `everyFieldOfAConfigurationIsWritten` in ImageTests, which fails without it.

/// The configuration of a queue. A task's own values take precedence. All but `priority` and `expiry` is looked up when
/// it is needed, so a change also applies to tasks that are already queued.
public struct QueueConfiguration: Hashable, Sendable {
    /// The lease if neither the task nor its queue gives one.
    public static let defaultLeaseMilliseconds: Int64 = 300_000
    /// How long a task lives if neither the task nor its queue says so.
    public static let defaultExpiryMilliseconds: Int64 = 86_400_000
    /// How long dead tasks stay if their queue does not say so.
    public static let defaultDeadExpiryMilliseconds: Int64 = 14 * 86_400_000

    /// How long a worker may hold a task; nil for the default.
    public var leaseMilliseconds: Int64?
    /// How long a task lives.
    public var expiry = Expiry.unsaid
    /// How many retries may follow a task's first attempt; nil for any number.
    public var maximumRetries: UInt32?
    /// How many leases of a task may run out; nil for any number.
    public var maximumCrashes: UInt32?
    /// The pause before a retry; nil for none.
    public var backoff: Backoff?
    /// How long the record of a task is kept after it is done, cancelled or expired.
    public var keepMilliseconds: Int64 = 0
    /// The priority of tasks that do not give one.
    public var priority: Int8 = 0
    /// The maximum length: with this many ready, delayed and dispatched tasks, no task is added; nil for any number.
    public var maximumLength: Int?
    /// The name of the queue that dead tasks move to, which is not this queue; nil if they stay here.
    public var deadLetter: [UInt8]?
    /// How long dead tasks stay; nil for the default.
    public var deadExpiryMilliseconds: Int64?
    /// Whether expired tasks become dead.
    public var isExpiryDeath = false
    /// Whether everybody who may look at its tasks is shown their content, which is the default; nil if it does not say.
    public var showsContent: Bool?
    /// How its tasks are sent; empty if it does not say.
    public var push: [UInt8] = []
    /// Whether all of its tasks are sent and none is given to workers. If not, only tasks that say so themselves are
    /// sent.
    public var isPushed = false
    /// The fields that have their built-in value, whatever the defaults for all queues say.
    public var builtIn: BuiltIn = []

    /// Fields whose built-in value was given explicitly. It matters only if there are defaults for all queues.
    public struct BuiltIn: OptionSet, Hashable, Sendable {
        /// The bits of the fields.
        public let rawValue: UInt8

        /// Makes a set of fields from their bits.
        public init(rawValue: UInt8) { self.rawValue = rawValue }

        /// Records are not kept.
        public static let keep = BuiltIn(rawValue: 1)
        /// The priority is 0.
        public static let priority = BuiltIn(rawValue: 2)
        /// Expired tasks do not become dead.
        public static let expiryDeath = BuiltIn(rawValue: 4)
        /// There may be any number of tasks.
        public static let maximumLength = BuiltIn(rawValue: 8)
        /// Dead tasks stay.
        public static let deadLetter = BuiltIn(rawValue: 16)
        /// There may be any number of retries.
        public static let maximumRetries = BuiltIn(rawValue: 32)

        /// Any number of leases may run out.
        public static let maximumCrashes = BuiltIn(rawValue: 64)

        static let all = BuiltIn(rawValue: 127)
    }

    /// The configuration, completed by the defaults for all queues. The defaults do not say how tasks are sent.
    public func completed(by defaults: QueueConfiguration) -> QueueConfiguration {
        var all = self
        all.leaseMilliseconds = leaseMilliseconds ?? defaults.leaseMilliseconds
        if expiry == .unsaid { all.expiry = defaults.expiry }
        all.backoff = backoff ?? defaults.backoff
        all.showsContent = showsContent ?? defaults.showsContent
        all.deadExpiryMilliseconds = deadExpiryMilliseconds ?? defaults.deadExpiryMilliseconds
        if maximumRetries == nil, !builtIn.contains(.maximumRetries) { all.maximumRetries = defaults.maximumRetries }
        if maximumCrashes == nil, !builtIn.contains(.maximumCrashes) { all.maximumCrashes = defaults.maximumCrashes }
        if keepMilliseconds == 0, !builtIn.contains(.keep) { all.keepMilliseconds = defaults.keepMilliseconds }
        if priority == 0, !builtIn.contains(.priority) { all.priority = defaults.priority }
        if maximumLength == nil, !builtIn.contains(.maximumLength) { all.maximumLength = defaults.maximumLength }
        if deadLetter == nil, !builtIn.contains(.deadLetter) { all.deadLetter = defaults.deadLetter }
        if !isExpiryDeath, !builtIn.contains(.expiryDeath) { all.isExpiryDeath = defaults.isExpiryDeath }
        return all
    }

    /// Makes a configuration with no value set.
    public init() {}
}
