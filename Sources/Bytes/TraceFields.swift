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
        for index in range {
            guard self[index].isDigit || UInt8(ascii: "a")...UInt8(ascii: "f") ~= self[index] else { return false }
        }
        return true
    }

    private func isZero(_ range: Range<Int>) -> Bool {
        for index in range where self[index] != UInt8(ascii: "0") { return false }
        return true
    }
}
