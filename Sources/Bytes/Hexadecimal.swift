// Hexadecimal digits.

extension UInt8 {
    /// The value of a hexadecimal digit of either case; nil if the byte is not one.
    @inlinable public var hexadecimalValue: UInt8? {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): self - UInt8(ascii: "0")
        case UInt8(ascii: "A")...UInt8(ascii: "F"): self - UInt8(ascii: "A") + 10
        case UInt8(ascii: "a")...UInt8(ascii: "f"): self - UInt8(ascii: "a") + 10
        default: nil
        }
    }

    /// The hexadecimal digit, as ASCII, of a value below 16.
    @inlinable @inline(__always)
    public init(hexadecimalDigit value: UInt8, uppercase: Bool = false) {
        self = value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: uppercase ? "A" : "a") - 10 + value
    }

    /// The byte as people write it: `0x0A`.
    public var hexadecimalText: String { (self < 0x10 ? "0x0" : "0x") + String(self, radix: 16, uppercase: true) }
}

extension [UInt8] {
    /// Appends two lower-case hexadecimal digits for each byte. O(*n*).
    public mutating func append(hexadecimal bytes: Span<UInt8>) {
        reserveCapacity(count + 2 * bytes.count)
        for index in bytes.indices {
            append(UInt8(hexadecimalDigit: bytes[index] >> 4))
            append(UInt8(hexadecimalDigit: bytes[index] & 15))
        }
    }
}
