// The header fields by which requests are traced through several programs: which values of them are usable.

extension Span<UInt8> {
    /// The longest value of X-Request-Id or traceparent, in bytes.
    public static var maximumTraceFieldByteCount: Int { 128 }

    /// Whether the bytes are usable as the value of an X-Request-Id field: 1 to 128 bytes of visible ASCII without `"`
    /// and `\`. So the value is one word in a header, in a log and in JSON. O(*n*).
    public var isRequestID: Bool { 1...Self.maximumTraceFieldByteCount ~= count && isPlainWord(from: 0) }

    /// Whether the bytes are usable as the value of a traceparent field (W3C Trace Context, section 3.2): `00-`, a
    /// trace id and a parent id that are not all zeros, and flags, in lower-case hexadecimal digits. The value of a
    /// later version may go on with `-` and visible ASCII, up to 128 bytes. O(*n*).
    public var isTraceparent: Bool {
        guard 55...Self.maximumTraceFieldByteCount ~= count else { return false }
        let dash = UInt8(ascii: "-")
        guard self[2] == dash, self[35] == dash, self[52] == dash else { return false }
        guard isHexadecimal(0..<2), isHexadecimal(3..<35), isHexadecimal(36..<52), isHexadecimal(53..<55) else {
            return false
        }
        let version = extracting(0..<2)
        if version.equals("ff") || isZero(3..<35) || isZero(36..<52) { return false }
        return count == 55 || !version.equals("00") && self[55] == dash && isPlainWord(from: 55)
    }

    private func isPlainWord(from start: Int) -> Bool {
        for index in start..<count {
            let byte = self[index]
            guard 0x21...0x7E ~= byte, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\") else { return false }
        }
        return true
    }

    private func isHexadecimal(_ range: Range<Int>) -> Bool {
        var start = range.lowerBound
        while start + 8 <= range.upperBound {
            guard areHexadecimal(word(at: start)) else { return false }
            start += 8
        }
        for index in start..<range.upperBound {
            guard self[index].isDigit || UInt8(ascii: "a")...UInt8(ascii: "f") ~= self[index] else { return false }
        }
        return true
    }

    /// Whether a range of a multiple of eight bytes has only zeros.
    private func isZero(_ range: Range<Int>) -> Bool {
        for start in stride(from: range.lowerBound, to: range.upperBound, by: 8)
        where word(at: start) != everyByte * UInt64(UInt8(ascii: "0")) {
            return false
        }
        return true
    }

    private func word(at start: Int) -> UInt64 {
        precondition(start + 8 <= count, "no such bytes")
        return unsafe bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: start, as: UInt64.self)
    }
}

/// A word with 1 in every byte.
private let everyByte: UInt64 = 0x0101_0101_0101_0101

/// Whether all eight bytes of a word are lower-case hexadecimal digits.
private func areHexadecimal(_ word: UInt64) -> Bool {
    let highBits = everyByte << 7
    // The high bit of each byte that is at least so great. No sum carries into the next byte, because bytes over 0x7F
    // are refused.
    func bytes(from byte: Unicode.Scalar) -> UInt64 { word &+ everyByte &* UInt64(0x80 - byte.value) }
    let digits = bytes(from: "0") & ~bytes(from: ":")
    let letters = bytes(from: "a") & ~bytes(from: "g")
    return word & highBits == 0 && (digits | letters) & highBits == highBits
}
