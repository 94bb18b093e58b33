// Decimal digits of whole numbers.

extension Collection<UInt8> {
    /// Whether the bytes are one or more decimal digits and nothing else. O(*n*).
    public var isDecimal: Bool { !isEmpty && allSatisfy(\.isDigit) }
}

extension FixedWidthInteger {
    /// Reads a number from its decimal digits; nil if there are none, if there is anything else, such as a sign, or if
    /// the number is out of range. O(*n*).
    public init?(decimal digits: some Collection<UInt8>) {
        guard digits.isDecimal else { return nil }
        self.init(String(decoding: digits, as: UTF8.self))
    }
}

/// The decimal digits of a number, as ASCII, without an allocation.
public struct DecimalDigits {
    @usableFromInline var digits = InlineArray<20, UInt8>(repeating: 0)
    @usableFromInline var start = 20

    /// Makes the digits of a number. O(1).
    @inlinable @inline(__always)
    public init(_ number: UInt64) {
        var rest = number
        repeat {
            start -= 1
            digits[start] = UInt8(ascii: "0") + UInt8(rest % 10)
            rest /= 10
        } while rest > 0
    }

    /// The digits, from the highest.
    @inlinable
    public var span: Span<UInt8> {
        @inline(__always) @_lifetime(borrow self) borrowing get { digits.span.extracting(start..<20) }
    }
}
