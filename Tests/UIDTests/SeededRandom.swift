// Random numbers that a failing test can be given again.

import Foundation

/// SplitMix64, seeded from `EMQ_SEED` or else at random. Its description says how to repeat the run.
struct SeededRandom: RandomNumberGenerator, CustomStringConvertible {
    let seed: UInt64
    private var state: UInt64

    init() {
        seed = ProcessInfo.processInfo.environment["EMQ_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 0 ... .max)
        state = seed
    }

    var description: String { "repeat with EMQ_SEED=\(seed)" }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
