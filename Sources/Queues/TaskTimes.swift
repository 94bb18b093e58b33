// How long tasks wait and run: noted at each dispatch and acknowledgement, and kept in a byte for each interval of a
// history.

/// How long several things took, in milliseconds.
struct Durations: Hashable {
    var sum: UInt64 = 0
    /// The longest, since it was last reset.
    var longest: UInt64 = 0

    /// Notes how long one took. A negative time counts as 0: the clock has been set back.
    @inline(__always)
    mutating func note(_ milliseconds: Int64) {
        let time = UInt64(max(0, milliseconds))
        sum &+= time
        if time > longest { longest = time }
    }

    mutating func noteLongest(_ other: Durations) { longest = max(longest, other.longest) }

    mutating func add(_ other: Durations) {
        sum &+= other.sum
        noteLongest(other)
    }

    func since(_ earlier: Durations) -> Durations {
        Durations(sum: sum - min(sum, earlier.sum), longest: longest)
    }

    /// Codes the mean and the longest.
    ///
    /// - Parameter count: of how many things they are. It may come from a little earlier or later than the longest time,
    ///   which therefore counts only if there are any, and as at least the mean.
    /// - Returns: the mean and the longest.
    func coded(count: UInt64) -> (mean: CodedDuration, maximum: CodedDuration) {
        if count == 0 { return (CodedDuration(), CodedDuration()) }
        let mean = sum / count
        return (CodedDuration(milliseconds: mean), CodedDuration(milliseconds: max(mean, longest)))
    }
}

/// How long the tasks of a queue, or of all queues, were ready before they were dispatched, and dispatched before they
/// were acknowledged.
struct TaskTimes: Hashable {
    /// How many waits there were. How many runs there were is counted elsewhere.
    var dispatches: UInt64 = 0
    var waits = Durations()
    var runs = Durations()

    /// Notes a dispatch, before which the task was ready for so many milliseconds.
    @inline(__always)
    mutating func noteWait(_ milliseconds: Int64) {
        dispatches &+= 1
        waits.note(milliseconds)
    }

    mutating func resetLongest() { (waits.longest, runs.longest) = (0, 0) }

    mutating func add(_ other: TaskTimes) {
        dispatches &+= other.dispatches
        waits.add(other.waits)
        runs.add(other.runs)
    }

    /// What was noted since the sums were as in `earlier`, and the longest times, which were reset then.
    func since(_ earlier: TaskTimes) -> TaskTimes {
        var difference = TaskTimes()
        difference.dispatches = dispatches - min(dispatches, earlier.dispatches)
        (difference.waits, difference.runs) = (waits.since(earlier.waits), runs.since(earlier.runs))
        return difference
    }
}

/// A duration in one byte, to within a sixteenth: three bits behind the first one, and how far they are shifted.
public struct CodedDuration: Hashable, Sendable {
    /// 0 for less than a millisecond.
    let code: UInt8

    init(code: UInt8 = 0) { self.code = code }

    /// Codes a duration. One that is longer than 186 days counts as that long.
    init(milliseconds: UInt64) {
        guard milliseconds >= 8 else {
            code = UInt8(milliseconds)
            return
        }
        let limited = min(milliseconds, 15 << 30)
        let bits = UInt64.bitWidth - limited.leadingZeroBitCount
        // Rounding up may carry into another bit.
        let rounded = bits > 4 ? limited + 1 << UInt64(bits - 5) : limited
        let shift = UInt64.bitWidth - rounded.leadingZeroBitCount - 4
        code = UInt8(8 * (shift + 1) + Int(rounded >> UInt64(shift) & 7))
    }

    /// The duration, in milliseconds; never negative.
    public var milliseconds: Int64 {
        if code < 8 { return Int64(code) }
        return Int64(8 + code & 7) << Int64(code / 8 - 1)
    }
}
