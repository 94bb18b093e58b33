// What the broker keeps of every task. What few tasks have is in `TaskExtras`.
//
// A new field that is to survive a restart also goes into `code` in Images.swift, into docs/journal.md, and into
// `everyFieldOfATaskIsWritten` in ImageTests, which fails without it.

import UID

/// One task, in 128 bytes beside its content.
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
        /// It was ready, but a take found that it has expired or has no retries left. Its timer is due and ends it.
        case pendingRemoval
        /// Its record is over, but its key stays taken.
        case hidden

        @inline(__always) var isUnfinished: Bool { 1...3 ~= rawValue }
        /// Whether such a task can come to another queue.
        @inline(__always) var isMovable: Bool { self == .ready || self == .delayed || self == .dead }
        /// Whether its queue has a list of such tasks.
        @inline(__always) var isListed: Bool { 1...7 ~= rawValue }
    }

    /// Links of the list of its state, in its queue.
    static var queueLinks: Int { 0 }
    /// Links of the wheel's bucket that it is in.
    static var timerLinks: Int { 1 }

    /// The id, as its two halves.
    var idHigh: UInt64 = 0
    var idLow: UInt64 = 0
    /// All times are in milliseconds since the Unix epoch.
    var enqueued: Int64 = 0
    /// When it expires, .max for never; once it is dead, done, cancelled or expired, when that came.
    var expires: Int64 = 0
    /// How long it lives, from when its delay was over; .max for ever.
    var lifetimeMilliseconds: Int64 = 0
    /// When it was last dispatched.
    var dispatched: Int64 = 0
    /// When its state ends by itself: its delay, its lease, the time for which its record or its key is kept. A ready task has
    /// here since when it is ready.
    var until: Int64 = 0
    /// Names its last dispatch.
    var token: UInt64 = 0
    /// The lease that it asks for, 0 if it does not say.
    var leaseMilliseconds: Int64 = 0
    var content = Content()
    /// How often it has been dispatched, but for the dispatches that workers gave back as not tried.
    var attempt: UInt32 = 0
    /// The slot of its queue.
    var queue: Slot = 0
    var chained: Slot = 0
    private var links: InlineArray<2, Links> = [Links(), Links()]
    /// The slot of what else it has, 0 if there is nothing.
    var extras: Slot = 0
    /// How often it was to be tried again after a failure.
    var retries: UInt32 = 0
    /// Where its timer is in the wheel, and in the highest bit whether it is sent: it stands among the ready tasks that are,
    /// or, while it is dispatched, it is being sent.
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

    /// The low half of an id is random; multiplying spreads whatever part of it is not (Fibonacci hashing).
    static func hash(of id: UID) -> UInt32 {
        UInt32(truncatingIfNeeded: (id.low &* 0x9E37_79B9_7F4A_7C15) >> 32)
    }

    var hash: UInt32 { Self.hash(of: id) }

    subscript(links kind: Int) -> Links {
        get { links[kind] }
        set { links[kind] = newValue }
    }

    /// The next thing that time does to it.
    @inline(__always) var deadline: Int64 { deadline(in: state) }

    /// The next thing that time does to it in that state.
    @inline(__always) func deadline(in state: State) -> Int64 {
        state == .ready ? expires : state.isUnfinished ? min(until, expires) : until
    }

    /// Since when it is ready, if it is.
    @inline(__always) var readySince: Int64 { until }

    /// Whether it is dispatched, and its lease not over, at `now`.
    @inline(__always) func isHeld(now: Int64) -> Bool {
        state == .dispatched && deadline > now
    }

    /// Whether it is delayed, ready or dispatched, and has not expired at `now`.
    @inline(__always) func isAlive(now: Int64) -> Bool {
        state.isUnfinished && expires > now
    }
}
