// A hash that is the same in every program and on every machine. It is no protection against anybody.

extension Span<UInt8> {
    /// The hash FNV-1a with 64 bits (Fowler, Noll and Vo; RFC 9923). O(*n*).
    ///
    /// - Parameter before: the hash of what comes before these bytes.
    /// - Returns: the hash of everything.
    public func hashFNV1a(after before: UInt64 = 0xCBF2_9CE4_8422_2325) -> UInt64 {
        var hash = before
        for index in indices { hash = (hash ^ UInt64(self[index])) &* 0x100_0000_01B3 }
        return hash
    }
}
