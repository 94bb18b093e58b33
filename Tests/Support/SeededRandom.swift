// Reproducible random numbers, and the settings of a test run in the environment.

import Foundation

/// SplitMix64 (G. Steele et al., "Fast splittable pseudorandom number generators", OOPSLA 2014).
public struct SeededRandom: RandomNumberGenerator, CustomStringConvertible, Sendable {
    /// The seed of this run: EMQ_TEST_SEED, or a new one.
    public static let runSeed: UInt64 = number("EMQ_TEST_SEED") ?? .random(in: 0...UInt64.max)

    private var state: UInt64

    /// A generator for this run's seed, or for another one.
    public init(seed: UInt64 = runSeed) { state = seed }

    /// How to repeat the numbers. Random tests print it with their failures.
    public var description: String { "EMQ_TEST_SEED=\(Self.runSeed)" }

    /// The next number.
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// How many operations the longest random tests make in all: EMQ_TEST_OPERATIONS, or as many as take a few seconds.
public let testOperations = number("EMQ_TEST_OPERATIONS").map { Int($0) } ?? 10_000

/// Whether the tests, and so the programs that they start, run with a sanitizer.
public let isSanitized = dlsym(nil, "__asan_init") != nil || dlsym(nil, "__tsan_init") != nil

private func number(_ variable: String) -> UInt64? {
    ProcessInfo.processInfo.environment[variable].flatMap { UInt64($0) }
}
