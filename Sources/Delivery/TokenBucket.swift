// Keeps starts to a rate: a token bucket in whole numbers.
//
// A bucket holds units. Each millisecond adds as many units as the rate allows millionths of a start in its period (a
// minute, for example). A start costs as many units as a rate of one start per period adds in a period. All of these
// are whole numbers, so nothing is ever rounded, and over any time the bucket allows exactly as many starts as the
// rate.

/// Allows starts at a rate, in bursts of at most one second's worth, or of one start if that is more. If it spreads
/// starts, a burst is at most one millisecond's worth instead. A new bucket is full.
///
/// The time is an argument, in milliseconds. A time before the last one adds nothing, so no time counts twice. Every
/// operation is O(1).
struct TokenBucket {
    /// The units that a start costs.
    private let cost: Int64
    /// The units that a millisecond adds.
    private let unitsPerMillisecond: Int64
    /// The units in a full bucket.
    private let capacity: Int64
    /// How late a start may be without losing units. Without this, the time lost to whole milliseconds and to other
    /// work would keep starts below the rate. It is less than half of the time between two starts, so it makes no burst
    /// larger.
    private let toleratedLatenessMilliseconds: Int64

    private var units: Int64
    /// The time at which the bucket held `units`.
    private var time: Int64

    init(rate: Rate, spreadsStarts: Bool = false, now: Int64) {
        cost = rate.periodMilliseconds * 1_000_000
        unitsPerMillisecond = rate.millionths
        let burstMilliseconds: Int64 = spreadsStarts ? 1 : 1000
        // A rate has at most 1e15 millionths, so this does not overflow.
        capacity = max(cost, unitsPerMillisecond * burstMilliseconds)
        toleratedLatenessMilliseconds = min(10, cost / unitsPerMillisecond / 2)
        units = capacity
        time = now
    }

    /// Takes the units for a start at `now`; false if there are too few.
    mutating func take(now: Int64) -> Bool {
        let available = available(at: now)
        guard available >= cost else { return false }
        units = available - cost
        time = max(time, now)
        return true
    }

    /// The first millisecond, from `now` on, at which `take` succeeds if nothing is taken in between.
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
