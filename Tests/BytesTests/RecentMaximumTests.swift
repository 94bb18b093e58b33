// The largest value of the last minute.

import Bytes
import Testing

@Suite struct RecentMaximumTests {
    private let second: Int64 = 1_000_000

    @Test func theLargestValueCountsForAMinute() {
        var maximum = RecentMaximum()
        #expect(maximum.value(at: 0) == 0)
        maximum.record(7, at: 1000 * second)
        maximum.record(3, at: 1001 * second)
        #expect(maximum.value(at: 1001 * second) == 7)
        maximum.record(5, at: 1030 * second)
        // It is forgotten after a minute, and at most five seconds later.
        #expect(maximum.value(at: 1060 * second) == 7)
        #expect(maximum.value(at: 1066 * second) == 5)
        maximum.record(2, at: 1089 * second)
        #expect(maximum.value(at: 1089 * second) == 5)
        #expect(maximum.value(at: 1096 * second) == 2)
        // Looking changes nothing.
        #expect(maximum.value(at: 9000 * second) == 0)
        #expect(maximum.value(at: 1096 * second) == 2)
    }

    @Test func valuesAfterALongPause() {
        var maximum = RecentMaximum()
        for value in 1...20 { maximum.record(Int64(value), at: Int64(value) * 5 * second) }
        #expect(maximum.value(at: 100 * second) == 20)
        maximum.record(1, at: 1_000_000 * second)
        #expect(maximum.value(at: 1_000_000 * second) == 1)
    }
}
