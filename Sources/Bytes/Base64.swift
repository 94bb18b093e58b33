// Base64 and base64url (RFC 4648, sections 4 and 5).

/// One of the two alphabets of base64.
public enum Base64: Sendable {
    /// With `+` and `/` (RFC 4648, section 4).
    case standard
    /// With `-` and `_` (RFC 4648, section 5).
    case url

    /// The character, as ASCII, of a value below 64.
    @inlinable @inline(__always)
    public func character(_ value: UInt8) -> UInt8 {
        switch value {
        case 0..<26: UInt8(ascii: "A") + value
        case 26..<52: UInt8(ascii: "a") + (value - 26)
        case 52..<62: UInt8(ascii: "0") + (value - 52)
        case 62: UInt8(ascii: self == .url ? "-" : "+")
        default: UInt8(ascii: self == .url ? "_" : "/")
        }
    }

    /// The value, below 64, of a character; 0xFF if the alphabet does not have it.
    @inlinable @inline(__always)
    public func value(of character: UInt8) -> UInt8 {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): character - UInt8(ascii: "A")
        case UInt8(ascii: "a")...UInt8(ascii: "z"): character - UInt8(ascii: "a") + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0") + 52
        case UInt8(ascii: self == .url ? "-" : "+"): 62
        case UInt8(ascii: self == .url ? "_" : "/"): 63
        default: 0xFF
        }
    }

    /// Appends bytes in base64, padded with `=`. O(*n*).
    ///
    /// - Parameters:
    ///   - bytes: The bytes to encode.
    ///   - text: What to append to.
    public func encode(_ bytes: Span<UInt8>, into text: inout [UInt8]) {
        text.reserveCapacity(text.count + (bytes.count + 2) / 3 * 4)
        var index = 0
        while index < bytes.count {
            let count = min(3, bytes.count - index)
            var group: UInt32 = 0
            for place in 0..<3 { group = group << 8 | (place < count ? UInt32(bytes[index + place]) : 0) }
            for place in 0..<4 {
                let value = UInt8(group >> UInt32(18 - 6 * place) & 63)
                text.append(place <= count ? character(value) : UInt8(ascii: "="))
            }
            index += 3
        }
    }

    /// Appends the bytes that a text in base64 stands for. The text must be padded with `=`, and its unused bits must be
    /// zero. O(*n*).
    ///
    /// - Parameters:
    ///   - text: The text.
    ///   - bytes: What to append to.
    /// - Returns: Whether the text is valid. If not, any bytes may have been appended.
    public func decode(_ text: Span<UInt8>, into bytes: inout [UInt8]) -> Bool {
        guard text.count % 4 == 0 else { return false }
        var end = text.count
        while end > 0, text.count - end < 2, text[end - 1] == UInt8(ascii: "=") { end -= 1 }
        var (group, bitCount) = (0 as UInt32, 0)
        for index in 0..<end {
            let value = value(of: text[index])
            if value == 0xFF { return false }
            group = group << 6 | UInt32(value)
            bitCount += 6
            if bitCount < 8 { continue }
            bitCount -= 8
            bytes.append(UInt8(group >> UInt32(bitCount)))
            group &= 1 << UInt32(bitCount) - 1
        }
        return group == 0
    }
}
