// Writes values that the server makes. JSON from clients is passed on byte for byte, without this writer.

import Bytes

/// Appends JSON values to an output.
///
/// The functions are generic over the output and inlinable, so they compile to plain appends.
public enum JSONWriter {
    /// Appends a string with its quotes. Escapes only quotes, backslashes and control characters.
    ///
    /// - Parameters:
    ///   - utf8: The string, which must be valid UTF-8 for the output to be valid JSON.
    ///   - output: What to append to.
    /// - Complexity: O(*n*), where *n* is the number of bytes.
    @inlinable
    public static func writeString(_ utf8: Span<UInt8>, to output: inout (some JSONOutput & ~Copyable)) {
        output.append(UInt8(ascii: "\""))
        var start = 0
        for index in utf8.indices where needsEscape(utf8[index]) {
            output.append(utf8.extracting(start..<index))
            writeEscape(utf8[index], to: &output)
            start = index + 1
        }
        output.append(utf8.extracting(start..<utf8.count))
        output.append(UInt8(ascii: "\""))
    }

    /// Appends an integer of at most 64 bits.
    ///
    /// - Parameters:
    ///   - value: The integer.
    ///   - output: What to append to.
    /// - Complexity: O(1)
    @inlinable
    public static func writeInteger(
        _ value: some FixedWidthInteger, to output: inout (some JSONOutput & ~Copyable)
    ) {
        if value < 0 { output.append(UInt8(ascii: "-")) }
        let digits = DecimalDigits(UInt64(value.magnitude))
        output.append(digits.span)
    }

    /// Appends milliseconds as a number of seconds without needless zeros: `300`, `0.25`, `-1.5`.
    ///
    /// - Parameters:
    ///   - milliseconds: The duration or the time.
    ///   - output: What to append to.
    /// - Complexity: O(1)
    @inlinable
    public static func writeSeconds(milliseconds: Int64, to output: inout (some JSONOutput & ~Copyable)) {
        if milliseconds < 0 { output.append(UInt8(ascii: "-")) }
        writeInteger(milliseconds.magnitude / 1000, to: &output)
        var fraction = milliseconds.magnitude % 1000
        if fraction > 0 { output.append(UInt8(ascii: ".")) }
        while fraction > 0 {
            output.append(UInt8(ascii: "0") + UInt8(fraction / 100))
            fraction = fraction % 100 * 10
        }
    }

    @inlinable
    static func needsEscape(_ byte: UInt8) -> Bool {
        byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\")
    }

    @inlinable
    static func writeEscape(_ byte: UInt8, to output: inout (some JSONOutput & ~Copyable)) {
        output.append(UInt8(ascii: "\\"))
        switch byte {
        case 0x08: output.append(UInt8(ascii: "b"))
        case 0x09: output.append(UInt8(ascii: "t"))
        case 0x0A: output.append(UInt8(ascii: "n"))
        case 0x0C: output.append(UInt8(ascii: "f"))
        case 0x0D: output.append(UInt8(ascii: "r"))
        case 0x00..<0x20:
            output.append(UInt8(ascii: "u"))
            output.append(UInt8(ascii: "0"))
            output.append(UInt8(ascii: "0"))
            output.append(UInt8(hexadecimalDigit: byte >> 4))
            output.append(UInt8(hexadecimalDigit: byte & 15))
        default: output.append(byte)
        }
    }
}
