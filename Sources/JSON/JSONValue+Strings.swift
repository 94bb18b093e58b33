// Reading strings: decoding escapes, and comparing names without decoding them.

import Bytes

extension JSONValue {
    /// Decodes a string into UTF-8.
    ///
    /// - Parameters:
    ///   - bytes: The value, with its quotes. (A name has its quotes next to its range.)
    ///   - output: What to append to; unchanged if the result is false.
    /// - Returns: False if the bytes are not a string, or if an escape is half of a surrogate pair, which UTF-8 cannot
    ///   represent.
    /// - Complexity: O(*n*), where *n* is the number of bytes.
    public static func decodeString(_ bytes: Span<UInt8>, into output: inout [UInt8]) -> Bool {
        let quote = UInt8(ascii: "\"")
        guard bytes.count >= 2, bytes[0] == quote, bytes[bytes.count - 1] == quote else { return false }
        let count = output.count
        let isWhole = forEachRun(bytes.extracting(1..<bytes.count - 1)) { run in
            output.append(run)
            return true
        }
        if !isWhole { output.removeSubrange(count...) }
        return isWhole
    }

    /// The characters of a string without escapes that is ASCII only: what is between its quotes.
    ///
    /// - Parameter bytes: The value, with its quotes.
    /// - Returns: Nil if the bytes are something else, or a string that has to be decoded (``decodeString(_:into:)``).
    /// - Complexity: O(*n*), where *n* is the number of bytes.
    @_lifetime(copy bytes)
    public static func plainString(_ bytes: Span<UInt8>) -> Span<UInt8>? {
        let quote = UInt8(ascii: "\"")
        guard bytes.count >= 2, bytes[0] == quote, bytes[bytes.count - 1] == quote else { return nil }
        let characters = bytes.extracting(1..<bytes.count - 1)
        return characters.firstSpecial(from: 0) == characters.count ? characters : nil
    }

    /// Compares a name with a literal, without an allocation.
    ///
    /// - Parameters:
    ///   - bytes: The name as it was written, between its quotes.
    ///   - hasEscapes: Whether it has escapes, as in ``JSONScanner/Entry/nameHasEscapes``.
    ///   - ignoresCase: Whether the case of ASCII letters does not matter.
    ///   - name: What to compare it with.
    /// - Returns: Whether the name stands for the same characters.
    /// - Complexity: O(*n*), where *n* is the lesser of the lengths.
    public static func stringEquals(
        _ bytes: Span<UInt8>, hasEscapes: Bool, ignoresCase: Bool = false, _ name: StaticString
    ) -> Bool {
        // Most names that differ have different lengths. An escape is never shorter than its character.
        let length = name.utf8CodeUnitCount
        guard hasEscapes ? bytes.count > length : bytes.count == length else { return false }
        if !hasEscapes, !ignoresCase { return bytes.equals(name) }
        return name.withUTF8Buffer { expected in
            let expected = unsafe Span(_unsafeElements: expected)
            var matched = 0
            let isPrefix = forEachRun(bytes) { run in
                guard run.count <= expected.count - matched else { return false }
                for index in run.indices {
                    let (byte, wanted) = (run[index], expected[matched + index])
                    if byte != wanted, !ignoresCase || byte.lowercasedASCII != wanted.lowercasedASCII { return false }
                }
                matched += run.count
                return true
            }
            return isPrefix && matched == expected.count
        }
    }

    /// Passes the decoded UTF-8 of a string to `body`, run by run, until `body` returns false.
    ///
    /// - Parameters:
    ///   - bytes: The string between its quotes.
    ///   - body: Receives the next run; returns whether to go on.
    /// - Returns: Whether the whole string was passed: false if `body` returned false, or at a lone surrogate.
    private static func forEachRun(_ bytes: Span<UInt8>, _ body: (Span<UInt8>) -> Bool) -> Bool {
        var index = 0
        while index < bytes.count {
            let start = index
            while index < bytes.count, bytes[index] != UInt8(ascii: "\\") { index += 1 }
            if start < index, !body(bytes.extracting(start..<index)) { return false }
            if index < bytes.count {
                guard let scalar = escapedScalar(bytes, &index) else { return false }
                var utf8 = InlineArray<4, UInt8>(repeating: 0)
                var count = 0
                for byte in scalar.utf8 {
                    utf8[count] = byte
                    count += 1
                }
                guard body(utf8.span.extracting(0..<count)) else { return false }
            }
        }
        return true
    }

    /// Reads the escape, or the two escapes of a surrogate pair, at `index` and moves past it; nil if it is not a
    /// scalar.
    private static func escapedScalar(_ bytes: Span<UInt8>, _ index: inout Int) -> Unicode.Scalar? {
        guard let first = escapedUnit(bytes, &index) else { return nil }
        guard UTF16.isLeadSurrogate(first) else { return Unicode.Scalar(first) }
        guard let second = escapedUnit(bytes, &index), UTF16.isTrailSurrogate(second) else { return nil }
        return Unicode.Scalar(0x1_0000 + UInt32(first - 0xD800) << 10 + UInt32(second - 0xDC00))
    }

    /// Reads the escape at `index` and moves past it; nil if there is none.
    private static func escapedUnit(_ bytes: Span<UInt8>, _ index: inout Int) -> UInt16? {
        guard index + 1 < bytes.count, bytes[index] == UInt8(ascii: "\\") else { return nil }
        let letter = bytes[index + 1]
        index += 2
        switch letter {
        case UInt8(ascii: "b"): return 0x08
        case UInt8(ascii: "t"): return 0x09
        case UInt8(ascii: "n"): return 0x0A
        case UInt8(ascii: "f"): return 0x0C
        case UInt8(ascii: "r"): return 0x0D
        case UInt8(ascii: "u"):
            guard index + 4 <= bytes.count else { return nil }
            var unit: UInt16 = 0
            for _ in 0..<4 {
                guard let digit = bytes[index].hexadecimalValue else { return nil }
                unit = unit << 4 | UInt16(digit)
                index += 1
            }
            return unit
        default: return UInt16(letter)
        }
    }
}
