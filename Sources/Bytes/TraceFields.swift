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
        let version = UInt16(self[0]) << 8 | UInt16(self[1])
        let flags = UInt16(self[53]) << 8 | UInt16(self[54])
        // Eight digits at a time: four words of the trace id, two of the parent id.
        let (first, second, third, fourth) = (word(at: 3), word(at: 11), word(at: 19), word(at: 27))
        let (fifth, sixth) = (word(at: 36), word(at: 44))
        let others = UInt64(version) << 16 | UInt64(flags) | zeros << 32
        let faults =
            faults(first) | faults(second) | faults(third) | faults(fourth) | faults(fifth) | faults(sixth)
            | faults(others)
        guard faults == 0, version != Self.invalidVersion else { return false }
        if (first ^ zeros) | (second ^ zeros) | (third ^ zeros) | (fourth ^ zeros) == 0 { return false }
        if (fifth ^ zeros) | (sixth ^ zeros) == 0 { return false }
        return count == 55 || version != Self.firstVersion && self[55] == dash && isPlainWord(from: 55)
    }

    /// The versions `00` and `ff` of a traceparent.
    private static var firstVersion: UInt16 { 0x3030 }
    private static var invalidVersion: UInt16 { 0x6666 }

    private func isPlainWord(from start: Int) -> Bool {
        for index in start..<count {
            let byte = self[index]
            guard 0x21...0x7E ~= byte, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\") else { return false }
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

/// A word of eight digits 0.
private let zeros: UInt64 = everyByte * 0x30

/// The high bits of those bytes of a word that are not lower-case hexadecimal digits; perhaps also of bytes above one
/// of these.
@inline(__always)
private func faults(_ word: UInt64) -> UInt64 {
    // The high bit of each byte that is at least so great. No sum carries into the next byte unless it is of a byte
    // over 0x7F, which is a fault itself.
    func bytes(from byte: Unicode.Scalar) -> UInt64 { word &+ everyByte &* UInt64(0x80 - byte.value) }
    let digits = bytes(from: "0") & ~bytes(from: ":")
    let letters = bytes(from: "a") & ~bytes(from: "g")
    return (word | ~(digits | letters)) & everyByte << 7
}
