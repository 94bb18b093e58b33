// Keeps starts to a rate: a token bucket in whole numbers.
//
// A bucket holds units. A millisecond adds as many as the rate allows millionths of starts in its period (a minute, say), and a
// start costs what a rate of one start a period adds in a period. These are whole numbers, so nothing is ever rounded, and
// after any time exactly as many starts were allowed as the rate says.

/// Allows as many starts as a rate says, in bursts of one second's worth, and at least one. Full at first.
///
/// The time is an argument, in milliseconds. While it is before a time that was given earlier, nothing is added: no time
/// counts twice. Every operation is O(1).
struct TokenBucket {
    /// What a start costs.
    private let cost: Int64
    /// What a millisecond adds.
    private let unitsPerMillisecond: Int64
    /// What a full bucket holds.
    private let capacity: Int64
    /// How late a start may be without losing the time between: else a rate would be missed by what is lost to whole milliseconds
    /// and to other work. Less than half of the time between two starts, so that no burst grows by it.
    private let toleratedLatenessMilliseconds: Int64

    private var units: Int64
    /// When there were so many.
    private var time: Int64

    init(rate: Rate, now: Int64) {
        cost = rate.periodMilliseconds * 1_000_000
        unitsPerMillisecond = rate.millionths
        // A rate is of at most 1e15 millionths.
        capacity = max(cost, unitsPerMillisecond * 1000)
        toleratedLatenessMilliseconds = min(10, cost / unitsPerMillisecond / 2)
        units = capacity
        time = now
    }

    /// Starts something, if that is allowed at `now`.
    mutating func take(now: Int64) -> Bool {
        let available = available(at: now)
        guard available >= cost else { return false }
        units = available - cost
        time = max(time, now)
        return true
    }

    /// The first millisecond, from `now` on, at which `take` succeeds if nothing is taken before.
    func nextTime(now: Int64) -> Int64 {
        if available(at: now) >= cost { return now }
        let (sum, overflows) = time.addingReportingOverflow((cost - units - 1) / unitsPerMillisecond + 1)
        return overflows ? .max : sum
    }

    private func available(at now: Int64) -> Int64 {
        if now <= time { return units }
        let (elapsed, overflows) = now.subtractingReportingOverflow(time)
        let untilFull = (capacity - units) / unitsPerMillisecond
        if overflows || elapsed > untilFull + toleratedLatenessMilliseconds { return capacity }
        return units + elapsed * unitsPerMillisecond
    }
}
