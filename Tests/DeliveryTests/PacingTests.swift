// Parsing of rates, and starts at these rates in virtual time.

import Support
import Testing

@testable import Delivery

@Suite("Pacing", .blocking)
struct PacingTests {
    @Test(
        "A rate is a number and a unit",
        arguments: [
            ("21.5/m", 21_500_000, 60_000), ("10/s", 10_000_000, 1000), ("5/h", 5_000_000, 3_600_000),
            ("1/d", 1_000_000, 86_400_000), ("0.000001/d", 1, 86_400_000), ("01.50/s", 1_500_000, 1000),
            ("1000000/s", 1_000_000_000_000, 1000), ("1000000000/d", 1_000_000_000_000_000, 86_400_000),
            ("60000000/m", 60_000_000_000_000, 60_000),
        ] as [(String, Int64, Int64)])
    func reading(text: String, millionths: Int64, periodMilliseconds: Int64) throws {
        let rate = try Rate(text)
        #expect(rate.millionths == millionths)
        #expect(rate.periodMilliseconds == periodMilliseconds)
    }

    @Test(
        "An invalid rate is explained",
        arguments: [
            ("", "such as '21.5/m', not ''"), ("10", "s, m, h or d"), ("/s", "s, m, h or d"), ("10/", "s, m, h or d"),
            ("10/S", "s, m, h or d"), ("10/w", "s, m, h or d"), ("10/ms", "s, m, h or d"), ("10/s/s", "s, m, h or d"),
            (" 10/s", "s, m, h or d"), ("+1/s", "a number of starts"), ("-1/s", "a number of starts"),
            ("1e3/s", "a number of starts"), (".5/s", "a number of starts"), ("5./s", "a number of starts"),
            ("1.2.3/s", "a number of starts"), ("٣/s", "a number of starts"), ("inf/s", "a number of starts"),
            ("0.0000001/s", "at most six decimals"), ("0/s", "above zero"), ("0.000000/d", "above zero"),
            ("1000000.000001/s", "at most 1000000/s"), ("60000000.1/m", "at most 1000000/s"),
            ("1000000000.1/d", "at most 1000000000"), ("999999999999/d", "at most 1000000000"),
            ("99999999999999999999/d", "a number of starts"),
        ])
    func noRate(text: String, explanation: String) {
        let error = #expect(throws: RateError.self) { try Rate(text) }
        #expect(error?.description.contains(explanation) == true, "\(error?.description ?? "")")
    }

    @Test(
        "Each start is allowed in the first millisecond that has room for it, and none is lost to rounding",
        arguments: [
            ("21.5/m", 1), ("1/s", 1), ("7/m", 1), ("1.5/s", 1), ("3/s", 3), ("10/s", 10), ("99.999/s", 99),
            ("1000/s", 1000), ("1234.5/s", 1234), ("100/h", 1), ("250000000/d", 2893),
        ])
    func exactness(text: String, burst: Int) throws {
        let rate = try Rate(text)
        let start: Int64 = 1_700_000_000_123
        let duration: Int64 = burst < 100 ? 1_000_000 : 20_000
        var bucket = TokenBucket(rate: rate, now: start)
        var now = start
        var starts = 0
        while now <= start + duration {
            let isTaken = bucket.take(now: now)
            guard isTaken else {
                Issue.record("no start at the time that was foretold")
                return
            }
            starts += 1
            if starts < burst { #expect(now == start) }
            let next = bucket.nextTime(now: now)
            if next > now {
                var early = bucket
                let isTakenEarly = early.take(now: next - 1)
                if isTakenEarly { Issue.record("a start before the time that was foretold") }
            }
            now = next
        }
        #expect(starts == mostStarts(rate, in: duration))
    }

    @Test("Small delays lose no start", arguments: ["21.5/m", "1/s", "10/s", "59.9/s"])
    func lateness(text: String) throws {
        var random = SeededRandom()
        let rate = try Rate(text)
        var bucket = TokenBucket(rate: rate, now: 0)
        var starts = 0
        var now: Int64 = 0
        while now <= 1_000_000 {
            let isTaken = bucket.take(now: now)
            if !isTaken { Issue.record("no start at \(now); \(random)") }
            starts += 1
            let next = bucket.nextTime(now: now)
            if next > now { now = next + .random(in: 0...7, using: &random) }
        }
        // The last start may be too late to count.
        let most = mostStarts(rate, in: 1_000_000)
        #expect(most - 1...most ~= starts, "\(random)")
    }

    /// The largest number of starts that a rate allows from time 0 on: a burst, plus those that become due.
    private func mostStarts(_ rate: Rate, in milliseconds: Int64) -> Int {
        let unit = rate.periodMilliseconds * 1_000_000
        return Int((max(unit, rate.millionths * 1000) + rate.millionths * milliseconds) / unit)
    }

    @Test(
        "After any idle time, a burst has as many starts as one second allows, and at least one",
        arguments: [
            ("1/d", 1), ("21.5/m", 1), ("1/s", 1), ("1.9/s", 1), ("2/s", 2), ("10/s", 10), ("100/s", 100),
            ("1000/s", 1000), ("20000/s", 20_000),
        ])
    func bursts(text: String, burst: Int) throws {
        for idle in [1000, 1001, 1004, 1009, 1010, 1011, 60_000, 86_400_000, 86_400_005, Int64.max] {
            var bucket = TokenBucket(rate: try Rate(text), now: 0)
            while bucket.take(now: 0) {}
            let now = max(idle, bucket.nextTime(now: 0))
            var starts = 0
            while bucket.take(now: now) { starts += 1 }
            #expect(starts == burst, "after \(now) ms")
        }
    }

    @Test("A clock that goes back neither adds nor loses starts")
    func backwards() throws {
        var bucket = TokenBucket(rate: try Rate("1/s"), now: 10_000)
        let times: [(now: Int64, isTaken: Bool)] = [
            (9990, true), (9000, false), (10_999, false), (9500, false), (10_999, false), (11_000, true),
            (11_999, false),
            (10_000, false), (12_000, true),
        ]
        for (now, isTaken) in times {
            #expect((bucket.nextTime(now: now) == now) == isTaken)
            let wasTaken = bucket.take(now: now)
            #expect(wasTaken == isTaken, "at \(now)")
        }
        #expect(bucket.nextTime(now: 0) == 13_000)
    }

    @Test("Times at the ends of their range work", arguments: ["0.000001/d", "1000000/s", "1000000000/d"])
    func extremes(text: String) throws {
        var bucket = TokenBucket(rate: try Rate(text), now: .min)
        while bucket.take(now: .min) {}
        #expect(bucket.nextTime(now: .min) > .min)
        #expect(bucket.nextTime(now: .max) == .max)
        while bucket.take(now: .max) {}
        #expect(bucket.nextTime(now: .max) == .max)
    }
}
