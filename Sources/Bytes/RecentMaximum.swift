// The largest of the values of the last minute, cheap enough to note one in every turn of the loop.

/// The largest value of the last minute, to within five seconds.
public struct RecentMaximum: Sendable {
    private static var intervalMicroseconds: Int64 { 5_000_000 }
    private static var intervalCount: Int64 { 12 }

    /// The largest value of the interval that has not ended, and when it ends.
    @usableFromInline var current: Int64 = 0
    @usableFromInline var end: Int64 = 0
    /// Those of the intervals before, at their numbers modulo their count.
    private var ended = InlineArray<12, Int64>(repeating: 0)

    /// Makes one without values.
    public init() {}

    /// Notes a value. O(1).
    ///
    /// - Parameters:
    ///   - value: the value; 0 and less do not count.
    ///   - time: the time in microseconds, by a clock that never steps back.
    @inlinable
    public mutating func record(_ value: Int64, at time: Int64) {
        if time >= end { begin(at: time) }
        if value > current { current = value }
    }

    /// Ends the interval, and those that follow it up to a time.
    @usableFromInline
    mutating func begin(at time: Int64) {
        let next = time / Self.intervalMicroseconds
        let last = end / Self.intervalMicroseconds - 1
        ended[Int(max(0, last) % Self.intervalCount)] = current
        var skipped = max(last + 1, next - Self.intervalCount)
        while skipped < next {
            ended[Int(max(0, skipped) % Self.intervalCount)] = 0
            skipped += 1
        }
        current = 0
        end = (next + 1) * Self.intervalMicroseconds
    }

    /// The largest value of the minute before a time, which is in microseconds and by the same clock; 0 if there was
    /// none. O(1).
    public func value(at time: Int64) -> Int64 {
        var copy = self
        copy.record(0, at: time)
        return copy.ended.indices.reduce(copy.current) { max($0, copy.ended[$1]) }
    }
}
