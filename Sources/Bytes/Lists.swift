// Small lists that are made or filled again for each request or turn, without what the standard library spends on them.

extension Array {
    /// Removes all elements and keeps the memory, as `removeAll(keepingCapacity: true)` does, but in a few instructions
    /// for a list of one element, which is the usual one. O(*n*).
    @inlinable
    public mutating func clear() {
        if count == 1 { removeLast() } else if !isEmpty { removeAll(keepingCapacity: true) }
    }
}

/// The earliest of some times, without an allocation; nil if there is none. O(*n*).
@inlinable
public func earliest<let count: Int>(_ times: InlineArray<count, Int64?>) -> Int64? {
    var earliest: Int64?
    for index in times.indices {
        if let time = times[index] { earliest = min(earliest ?? time, time) }
    }
    return earliest
}
