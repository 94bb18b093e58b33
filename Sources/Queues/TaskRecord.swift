// The record of a task. Its optional parts are in `TaskExtras`.
//
// A new field that must survive a restart also goes into `code` in Images.swift, into docs/journal.md, and into
// `everyFieldOfATaskIsWritten` in ImageTests, which fails without it.

import UID

/// A task, in 128 bytes besides its content.
struct TaskRecord: LinkedRecord {
    enum State: UInt8 {
        /// The slot holds no task.
        case vacant
        case ready
        case delayed
        case dispatched
        case dead
        case done
        case cancelled
        case expired
        /// It was ready, but a take found that it has expired or has no retries left. Its timer is due and will end it.
        case pendingRemoval
        /// It is no longer kept, but its key stays taken.
        case hidden

        @inline(__always) var isUnfinished: Bool { 1...3 ~= rawValue }
        /// Whether it has ended and its record is kept.
        @inline(__always) var isFinished: Bool { 4...7 ~= rawValue }
        /// Whether a task in this state can move to another queue.
        @inline(__always) var isMovable: Bool { self == .ready || self == .delayed || self == .dead }
        /// Whether a queue has a list of tasks in this state.
        @inline(__always) var isListed: Bool { 1...7 ~= rawValue }
    }

    /// Links of the list of its state, in its queue.
    static var queueLinks: Int { 0 }
    /// Links of the timing wheel's bucket.
    static var timerLinks: Int { 1 }
    /// As the lease that a task asks for: a lease of no length.
    static var noLease: Int64 { -1 }

    /// The two halves of the id.
    var idHigh: UInt64 = 0
    var idLow: UInt64 = 0
    /// All times are in milliseconds since the Unix epoch.
    var enqueued: Int64 = 0
    /// When it expires, .max for never. Of a finished task, when it became dead, done, cancelled or expired.
    var expires: Int64 = 0
    /// How long it lives after the end of its delay; .max for ever.
    var lifetimeMilliseconds: Int64 = 0
    /// When it was last dispatched.
    var dispatched: Int64 = 0
    /// When its state ends by itself: the end of its delay, of its lease, or of the time for which its record or key is
    /// kept. Of a ready task, since when it has been ready.
    var until: Int64 = 0
    /// The token of its last dispatch.
    var token: UInt64 = 0
    /// The lease that it asks for, 0 if none; `noLease` if its dispatch ends at once.
    var leaseMilliseconds: Int64 = 0
    var content = Content()
    /// How often it was dispatched, not counting dispatches that were released.
    var attempt: UInt32 = 0
    /// The slot of its queue.
    var queue: Slot = 0
    var chained: Slot = 0
    private var links: InlineArray<2, Links> = [Links(), Links()]
    /// The slot of its extras, 0 if it has none.
    var extras: Slot = 0
    /// How often it was retried after a failure.
    var retries: UInt32 = 0
    /// Where its timer is in the wheel. The highest bit says whether it is pushed: it is in the list of ready tasks to
    /// be sent, or, while it is dispatched, it is being sent.
    private var timerBucketAndPush = TimingWheel.noBucket
    var state = State.vacant
    var priority: Int8 = 0

    var id: UID { UID(high: idHigh, low: idLow) }

    @inline(__always) var timerBucket: UInt16 {
        get { timerBucketAndPush & 0x7FFF }
        set { timerBucketAndPush = timerBucketAndPush & 0x8000 | newValue }
    }

    @inline(__always) var isPushed: Bool {
        get { timerBucketAndPush & 0x8000 != 0 }
        set { timerBucketAndPush = timerBucketAndPush & 0x7FFF | (newValue ? 0x8000 : 0) }
    }

    /// The hash of an id, which follows from its milliseconds and its counter in the layout of `UIDGenerator`.
    ///
    /// The milliseconds are spread over all numbers, and the counter is added. So tasks that are added one after the
    /// other are neighbours in the index as they are in memory, and both adding tasks and splitting buckets find what
    /// they need in the processor's cache. The id's random bits would undo that. A random number of the process takes
    /// their place: without it, a client could choose the times at which it adds tasks so that many share a bucket.
    static func hash(of id: UID) -> UInt32 {
        var hash = (id.unixMilliseconds ^ hashSeed) &* 0x9E37_79B9_7F4A_7C15
        hash = (hash ^ hash >> 32) &* 0xD6E8_FEB8_6659_FD93
        return UInt32(truncatingIfNeeded: hash >> 32) &+ UInt32(id.high & 0xFFF)
    }

    private static let hashSeed = UInt64.random(in: 0...UInt64.max)

    var hash: UInt32 { Self.hash(of: id) }

    /// The form in which a record has the lease that a task asks for; nil if it asks for none.
    @inline(__always)
    static func lease(asked milliseconds: Int64?) -> Int64 {
        guard let milliseconds else { return 0 }
        return milliseconds == 0 ? noLease : milliseconds
    }

    subscript(links kind: Int) -> Links {
        get { links[kind] }
        set { links[kind] = newValue }
    }

    /// When its next event is due.
    @inline(__always) var deadline: Int64 { deadline(in: state) }

    /// When its next event would be due in a state.
    @inline(__always) func deadline(in state: State) -> Int64 {
        state == .ready ? expires : state.isUnfinished ? min(until, expires) : until
    }

    /// Since when it has been ready, if it is.
    @inline(__always) var readySince: Int64 { until }

    /// Whether it is dispatched and its lease has not run out at `now`.
    @inline(__always) func isHeld(now: Int64) -> Bool {
        state == .dispatched && deadline > now
    }

    /// Whether it is delayed, ready or dispatched, and has not expired at `now`.
    @inline(__always) func isAlive(now: Int64) -> Bool {
        state.isUnfinished && expires > now
    }
}
