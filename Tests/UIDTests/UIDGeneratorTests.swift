// The order of UIDs under every kind of clock.

import Support
import Testing

@testable import UID

@Suite struct UIDGeneratorTests {
    /// Returns the same number every time.
    struct FixedRandom: RandomNumberGenerator {
        let number: UInt64
        mutating func next() -> UInt64 { number }
    }

    @Test func hasTimeVersionCounterVariantAndRandomBits() {
        var generator = UIDGenerator()
        var random = FixedRandom(number: 0xFEDC_BA98_7654_3210)
        let first = generator.next(unixMilliseconds: 0x017F_22E2_79B0, using: &random)
        #expect(string(first.uuidText) == "017f22e2-79b0-7000-bfb7-2ea61d950c84")
        let second = generator.next(unixMilliseconds: 0x017F_22E2_79B0, using: &random)
        #expect(string(second.uuidText) == "017f22e2-79b0-7001-bfb7-2ea61d950c84")
        let later = generator.next(unixMilliseconds: 0x017F_22E2_79B1, using: &random)
        #expect(string(later.uuidText) == "017f22e2-79b1-7000-bfb7-2ea61d950c84")
    }

    @Test func anOverflowingCounterBorrowsTheNextMillisecond() {
        var generator = UIDGenerator()
        var random = FixedRandom(number: 0)
        let uids = (0..<10_000).map { _ in generator.next(unixMilliseconds: 1000, using: &random) }
        #expect(zip(uids, uids.dropFirst()).allSatisfy { $0 < $1 })
        #expect(uids[4095] == UID(high: 1000 << 16 | 0x7FFF, low: 1 << 63))
        #expect(uids[4096] == UID(high: 1001 << 16 | 0x7000, low: 1 << 63))
        #expect(uids[9999].unixMilliseconds == 1002)
        // The clock reaches the borrowed millisecond, and then passes it.
        #expect(generator.next(unixMilliseconds: 1002, using: &random) > uids[9999])
        #expect(generator.next(unixMilliseconds: 1003, using: &random).high == 1003 << 16 | 0x7000)
    }

    @Test func aClockThatStepsBackIsNotFollowed() {
        var generator = UIDGenerator()
        var random = FixedRandom(number: 0)
        let before = generator.next(unixMilliseconds: 5000, using: &random)
        let after = generator.next(unixMilliseconds: 0, using: &random)
        #expect(before < after)
        #expect(after.high == 5000 << 16 | 0x7001)
    }

    @Test func ascendsUnderAnyClock() {
        var seeded = SeededRandom()
        var generator = UIDGenerator()
        var kernel = KernelRandom()
        var last = UID(high: 0, low: 0)
        var time: UInt64 = 1_700_000_000_000
        for _ in 0..<100_000 {
            time = time &+ UInt64.random(in: 0...4, using: &seeded) &- 2
            let uid = generator.next(unixMilliseconds: time, using: &kernel)
            #expect(last < uid, "\(seeded)")
            last = uid
        }
    }

    @Test func usesTheLastTimeThatFits() {
        var generator = UIDGenerator()
        var random = FixedRandom(number: 0)
        #expect(generator.next(unixMilliseconds: 1 << 48 - 1, using: &random).unixMilliseconds == 1 << 48 - 1)
    }

    @Test func theKernelsRandomNumbersDoNotRepeatOverManyBlocks() {
        var random = KernelRandom()
        var copy = random
        let numbers = (0..<1000).flatMap { _ in [random.next(), copy.next()] }
        #expect(Set(numbers).count == numbers.count)
        // Each bit is set in about half of the numbers. A deviation of 20 sigma cannot be chance.
        for bit in 0..<64 {
            let ones = numbers.count { $0 >> bit & 1 == 1 }
            #expect(abs(ones - 1000) < 450, "bit \(bit) is set in \(ones) of 2000")
        }
    }
}
