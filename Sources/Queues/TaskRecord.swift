// What the broker keeps of a task.

import UID

/// One task, in 112 bytes beside its content.
struct TaskRecord: LinkedRecord {
    enum State: UInt8 {
        /// The slot holds no task.
        case vacant
        case ready
        case dispatched
    }

    /// Links of the list that it waits in, in its queue.
    static var queueLinks: Int { 0 }
    /// Links of the wheel's bucket that it is in.
    static var timerLinks: Int { 1 }

    /// The id, as its two halves.
    var idHigh: UInt64 = 0
    var idLow: UInt64 = 0
    /// All times are in milliseconds since the Unix epoch.
    var enqueued: Int64 = 0
    var expires: Int64 = 0
    /// When it was last dispatched and when that lease ends; of no meaning unless it is dispatched.
    var dispatched: Int64 = 0
    var leaseEnd: Int64 = 0
    /// Names its last dispatch.
    var token: UInt64 = 0
    /// The lease that it asks for.
    var leaseMilliseconds: Int64 = 0
    var content = Content()
    /// How often it has been dispatched.
    var attempt: UInt32 = 0
    /// The slot of its queue.
    var queue: Slot = 0
    var chained: Slot = 0
    private var links: InlineArray<2, Links> = [Links(), Links()]
    /// Where its timer is in the wheel.
    var timerBucket: UInt16 = 0
    var state = State.vacant

    var id: UID { UID(high: idHigh, low: idLow) }

    /// The low half of an id is random; multiplying spreads whatever part of it is not (Fibonacci hashing).
    static func hash(of id: UID) -> UInt32 {
        UInt32(truncatingIfNeeded: (id.low &* 0x9E37_79B9_7F4A_7C15) >> 32)
    }

    var hash: UInt32 { Self.hash(of: id) }

    subscript(links kind: Int) -> Links {
        get { links[kind] }
        set { links[kind] = newValue }
    }

    /// The next thing that time does to it: the end of its lease or its expiry.
    @inline(__always) var deadline: Int64 {
        state == .dispatched ? min(leaseEnd, expires) : expires
    }

    /// Whether a worker holds it at `now`.
    @inline(__always) func isHeld(now: Int64) -> Bool {
        state == .dispatched && deadline > now
    }
}
