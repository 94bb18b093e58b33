// Histograms of durations, cheap enough to note one for every request.

/// How many values were up to each power of two.
public struct Histogram: Sendable {
    /// The number of buckets. The first counts values up to 1, the next those up to 2, then up to 4, and so on. The
    /// last also counts all larger values.
    public static var bucketCount: Int { 40 }

    @usableFromInline var counts = InlineArray<40, UInt64>(repeating: 0)
    @usableFromInline var total: UInt64 = 0

    /// Makes a histogram without values.
    public init() {}

    /// Counts a value; a negative one counts as 0. O(1).
    @inlinable
    public mutating func record(_ value: Int64) {
        let value = max(0, value)
        // The number of bits of the value minus 1 is the logarithm, rounded up.
        let bucket = value <= 1 ? 0 : Int64.bitWidth - (value - 1).leadingZeroBitCount
        counts[min(bucket, 39)] += 1
        total &+= UInt64(truncatingIfNeeded: value)
    }

    /// The sum of all values.
    public var sum: UInt64 { total }

    /// How many values are in a bucket, 0 to `bucketCount` − 1.
    public func count(in bucket: Int) -> UInt64 { counts[bucket] }

    /// How many values there are. O(buckets).
    public var count: UInt64 { counts.indices.reduce(0) { $0 + counts[$1] } }
}
