// Random numbers that can be drawn again.

import Glibc

/// SplitMix64 (G. Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014).
struct Random: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    /// The seed of this run: EMQ_TEST_SEED, or a new one, which is printed so that a run that fails can be repeated.
    static let seed: UInt64 = {
        let given = getenv("EMQ_TEST_SEED").flatMap { UInt64(String(cString: $0)) }
        let seed = given ?? .random(in: 0...UInt64.max)
        print("QueuesTests: EMQ_TEST_SEED=\(seed)")
        return seed
    }()

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func below(_ bound: Int) -> Int {
        Int(next() % UInt64(bound))
    }

    /// A number of up to `bits` bits: each length is as likely as any other.
    mutating func anyLength(bits: Int) -> Int64 {
        Int64(next() >> UInt64(64 - 1 - below(bits)))
    }

    mutating func oneIn(_ number: Int) -> Bool {
        below(number) == 0
    }
}
