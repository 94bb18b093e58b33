// How long tasks wait and run: noted at each dispatch and acknowledgement, and kept in a byte for each interval of a
// history.

/// How long several things took, in milliseconds.
struct Durations: Hashable {
    var count: UInt64 = 0
    var sum: UInt64 = 0
    var longest: UInt64 = 0

    /// Notes how long one took. A negative time counts as 0: the clock has been set back.
    @inline(__always)
    mutating func note(_ milliseconds: Int64) {
        let time = UInt64(max(0, milliseconds))
        count &+= 1
        sum &+= time
        if time > longest { longest = time }
    }

    mutating func add(_ other: Durations) {
        count &+= other.count
        sum &+= other.sum
        longest = max(longest, other.longest)
    }

    /// The mean, 0 for that of nothing.
    var mean: CodedDuration { CodedDuration(milliseconds: count == 0 ? 0 : sum / count) }

    var maximum: CodedDuration { CodedDuration(milliseconds: longest) }
}

/// How long the tasks of a queue, or of all queues, were ready before they were dispatched, and dispatched before they
/// were acknowledged.
struct TaskTimes: Hashable {
    var waits = Durations()
    var runs = Durations()

    mutating func add(_ other: TaskTimes) {
        waits.add(other.waits)
        runs.add(other.runs)
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
