// ASCII characters as bytes.

extension UInt8 {
    /// Whether the byte is `0` to `9`.
    @inlinable @inline(__always) public var isDigit: Bool { self &- 0x30 < 10 }

    /// Whether the byte is an ASCII letter of either case.
    @inlinable @inline(__always) public var isLetter: Bool { (self | 0x20) &- 0x61 < 26 }

    /// The lower-case form of an ASCII letter; any other byte unchanged.
    @inlinable @inline(__always) public var lowercasedASCII: UInt8 { self >= 0x41 && self <= 0x5A ? self | 0x20 : self }
}

extension [UInt8] {
    /// The bytes with ASCII letters in lower case. O(*n*).
    public var lowercasedASCII: [UInt8] { map(\.lowercasedASCII) }
}
