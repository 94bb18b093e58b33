// The random part of backoffs; the same seed gives the same pauses.

/// SplitMix64 (G. Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

extension Backoff {
    /// The pause before the retry after `retries` others. Draws a number only if there is jitter.
    func pauseMilliseconds(retries: UInt32, using random: inout SeededGenerator) -> Int64 {
        var pause = max(0, minimumMilliseconds)
        let doublings = min(retries, maximumDoublings)
        pause = doublings < pause.leadingZeroBitCount ? pause << Int64(doublings) : (pause == 0 ? 0 : .max)
        pause = min(pause, max(0, maximumMilliseconds))
        guard jitter > 0 && pause > 0 else { return pause }
        let fraction = Double(random.next() >> 11) / Double(1 << 53)
        let spread = Double(pause) * min(1, jitter) * (2 * fraction - 1)
        return pause.addingWithinRange(Int64(spread.rounded()))
    }
}
