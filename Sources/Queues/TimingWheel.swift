// The timers of tasks: a hierarchical timing wheel (G. Varghese and T. Lauck, "Hashed and
// hierarchical timing wheels", SOSP 1987, scheme 7).
//
// A level's 64 buckets stand for 64 values of one 6-bit digit of the time in milliseconds; eleven levels hold any time.
// A timer is in the level of the highest digit in which its deadline differs from the wheel's time, in the bucket of
// its deadline's digit there. When the wheel's time comes to the start of a bucket, its timers fire or move to lower
// levels. Buckets are lists that keep the order of arming, and timers of one millisecond always share a bucket, so they
// fire in the order in which they were armed.

/// The timers of all tasks, one per task. Arming and disarming are O(1); a timer moves at most ten times.
struct TimingWheel: ~Copyable {
    private typealias Bucket = LinkedList<TaskRecord, 1>

    private static var levels: Int { 11 }
    /// The bucket after the last level's: timers that were armed for a time that had already passed.
    private static var overdue: Int { 704 }

    /// The bucket of a timer that is not armed.
    static var noBucket: UInt16 { 0x7FFF }

    /// The wheel's time: all earlier timers have fired, except those that were armed too late.
    private(set) var now: Int64
    private var buckets = [Bucket](repeating: Bucket(), count: overdue + 1)
    /// Which buckets of each level have timers.
    private var occupied = InlineArray<11, UInt64>(repeating: 0)
    /// Which levels have timers, as bits.
    private var occupiedLevels: UInt = 0
    /// The bucket being emptied, -1 if none is. Until it is empty, the wheel's time stays one millisecond before its
    /// start, so that timers armed meanwhile for its span line up behind those still in it.
    private var emptying = -1

    init(now: Int64) {
        self.now = max(0, now)
    }

    /// Sets the wheel's time, forward or back. No timer may be armed yet.
    mutating func begin(at time: Int64) {
        precondition(nextDeadline == nil, "the time of a wheel in use is set")
        now = max(0, time)
    }

    /// Arms a task's timer for its deadline.
    mutating func arm(_ slot: Slot, in tasks: inout Table<TaskRecord>) {
        place(slot, from: now, in: &tasks)
    }

    /// Disarms a task's timer if it is armed. The record's deadline may have changed since then.
    mutating func disarm(_ slot: Slot, in tasks: inout Table<TaskRecord>) {
        guard tasks[slot].timerBucket != Self.noBucket else { return }
        let bucket = Int(tasks[slot].timerBucket)
        tasks[slot].timerBucket = Self.noBucket
        buckets[bucket].remove(slot, in: &tasks)
        guard buckets[bucket].isEmpty && bucket != Self.overdue else { return }
        occupied[bucket >> 6] &= ~(1 << UInt64(bucket & 63))
        if occupied[bucket >> 6] == 0 { occupiedLevels &= ~(1 << UInt(bucket >> 6)) }
        if bucket == emptying {
            emptying = -1
            now += 1
        }
    }

    /// Removes the next timer that is due at `time`, and moves others on the way.
    ///
    /// - Parameters:
    ///   - time: the time.
    ///   - steps: how many timers it may still move; counts down.
    ///   - tasks: the table of tasks.
    /// - Returns: the task's slot; 0 when none is due or the steps are used up.
    mutating func fire(upTo time: Int64, steps: inout Int, in tasks: inout Table<TaskRecord>) -> Slot {
        let late = buckets[Self.overdue].first
        if late != 0 {
            guard steps > 0 else { return 0 }
            steps -= 1
            disarm(late, in: &tasks)
            return late
        }
        while let (bucket, start) = nextBucket, start <= time {
            now = start - 1
            emptying = bucket
            while case let slot = buckets[bucket].first, slot != 0 {
                guard steps > 0 else { return 0 }
                steps -= 1
                disarm(slot, in: &tasks)
                if tasks[slot].deadline <= start { return slot }
                place(slot, from: start, in: &tasks)
            }
        }
        now = max(now, time)
        return 0
    }

    /// Whether a timer was armed for a time that had already passed. O(1).
    var hasOverdue: Bool { !buckets[Self.overdue].isEmpty }

    /// When to look for due timers next, at or before the earliest deadline; 0 if a timer is overdue, nil if none is
    /// armed. O(1).
    var nextDeadline: Int64? {
        buckets[Self.overdue].isEmpty ? nextBucket?.start : 0
    }

    private mutating func place(_ slot: Slot, from time: Int64, in tasks: inout Table<TaskRecord>) {
        let deadline = tasks[slot].deadline
        var bucket = Self.overdue
        if deadline > time {
            let level = (63 - (deadline ^ time).leadingZeroBitCount) / 6
            let digit = Int(deadline >> Int64(6 * level)) & 63
            occupied[level] |= 1 << UInt64(digit)
            occupiedLevels |= 1 << UInt(level)
            bucket = level << 6 | digit
        }
        buckets[bucket].append(slot, in: &tasks)
        tasks[slot].timerBucket = UInt16(bucket)
    }

    /// The next bucket that has timers, and the time at which its span begins.
    private var nextBucket: (bucket: Int, start: Int64)? {
        var rest = occupiedLevels
        while rest != 0 {
            let level = rest.trailingZeroBitCount
            rest &= rest - 1
            let shift = Int64(6 * level)
            let digit = (now >> shift) & 63
            // Shifts by 64 and more give 0.
            let later = occupied[level] >> UInt64(digit + 1)
            if later != 0 {
                let next = digit + 1 + Int64(later.trailingZeroBitCount)
                return (level << 6 | Int(next), ((now >> (shift + 6)) << 6 | next) << shift)
            }
        }
        return nil
    }

    /// Checks that every timer is in the bucket for its deadline. O(n).
    ///
    /// - Returns: how many timers are found armed; one in a bucket that is not marked as occupied is not.
    func checkInvariants(in tasks: borrowing Table<TaskRecord>) -> Int {
        // While a bucket is being emptied, the timers that have left it are where they belong once it is empty.
        let next = emptying < 0 ? now : now + 1
        var count = buckets[Self.overdue].count
        buckets[Self.overdue].checkInvariants(in: tasks) { slot in
            precondition(tasks[slot].timerBucket == Self.overdue, "a timer in another bucket than it says")
            precondition(tasks[slot].deadline <= now, "a timer is among the overdue ones too early")
        }
        for level in 0..<Self.levels {
            var rest = occupied[level]
            precondition(occupiedLevels >> UInt(level) & 1 == (rest == 0 ? 0 : 1), "a level is marked wrongly")
            while rest != 0 {
                let digit = rest.trailingZeroBitCount
                rest &= rest - 1
                let bucket = level << 6 | digit
                precondition(!buckets[bucket].isEmpty, "an empty bucket is marked as occupied")
                let time = bucket == emptying ? now : next
                buckets[bucket].checkInvariants(in: tasks) { slot in
                    let deadline = tasks[slot].deadline
                    precondition(tasks[slot].timerBucket == bucket, "a timer in another bucket than it says")
                    precondition(deadline > time, "a timer was passed")
                    precondition((63 - (deadline ^ time).leadingZeroBitCount) / 6 == level, "a timer in a wrong level")
                    precondition(Int(deadline >> Int64(6 * level)) & 63 == digit, "a timer in a wrong bucket")
                }
                count += buckets[bucket].count
            }
        }
        return Int(count)
    }
}
