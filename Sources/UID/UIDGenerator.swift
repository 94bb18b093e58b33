// Makes UIDs that sort in the order they were made, even if the clock steps back.

/// A source of UIDs of version 7, each greater than the one before.
///
/// The counter of 12 bits starts at 0 in each millisecond (RFC 9562, section 6.2, method 1), so that all of its 4,096
/// values can be used. It need not be random: the 62 random bits of each UID make it unguessable and different from
/// those of other generators. The time and the counter are kept as one number. A counter that overflows borrows the
/// next millisecond; if the clock steps back, the last time is kept and the counter goes on.
public struct UIDGenerator: Sendable {
    /// The least value that the next UID may have as time (48 bits) and counter (12 bits).
    private var earliest: UInt64 = 0

    /// Makes a generator.
    public init() {}

    /// Makes the next UID.
    ///
    /// - Parameters:
    ///   - unixMilliseconds: The time now, in milliseconds since the Unix epoch; less than 2^48 (the year 10889).
    ///   - random: The source of the 62 random bits.
    /// - Returns: A UID greater than all earlier ones of this generator.
    /// - Complexity: O(1), with one call to `random`.
    public mutating func next<R: RandomNumberGenerator>(unixMilliseconds: UInt64, using random: inout R) -> UID {
        let instant = max(earliest, unixMilliseconds << 12)
        precondition(unixMilliseconds >> 48 == 0 && instant >> 60 == 0, "the time does not fit into a UID")
        earliest = instant + 1
        let version: UInt64 = 7
        let variant: UInt64 = 0b10
        return UID(
            high: (instant >> 12) << 16 | version << 12 | instant & 0xFFF,
            low: variant << 62 | random.next() >> 2)
    }
}
