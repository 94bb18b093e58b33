// Spans, decimal numbers, words and files.

import Bytes
import Glibc
import Testing

@Suite struct ByteTests {
    @Test func asciiLettersAndDigits() {
        for byte in UInt8.min...UInt8.max {
            let character = Character(Unicode.Scalar(byte))
            let isASCII = byte < 0x80
            #expect(byte.isDigit == (isASCII && character.isNumber))
            #expect(byte.isLetter == (isASCII && character.isLetter))
            let lower = isASCII ? character.lowercased().utf8.first : byte
            #expect(byte.lowercasedASCII == lower)
        }
        #expect(Array("ÀB-c".utf8).lowercasedASCII == Array("Àb-c".utf8))
    }

    @Test(arguments: [
        ("", "", true, true), ("abc", "abc", true, true), ("abc", "abd", false, false), ("abc", "ab", false, false),
        ("Content-Type", "content-TYPE", false, true), ("a@", "A`", false, false), ("[", "{", false, false),
        ("", "a", false, false),
    ])
    func equality(first: String, second: String, isEqual: Bool, isEqualIgnoringCase: Bool) {
        let (first, second) = (Array(first.utf8), Array(second.utf8))
        let equals = first.span.equals(second.span)
        #expect(equals == isEqual)
        let precedes = [first.span.precedes(second.span), second.span.precedes(first.span)]
        #expect(precedes == [first.lexicographicallyPrecedes(second), second.lexicographicallyPrecedes(first)])
        let ignoringCase = [
            first.span.equalsIgnoringCase(second.span), second.span.equalsIgnoringCase(first.span),
        ]
        #expect(ignoringCase == [isEqualIgnoringCase, isEqualIgnoringCase])
    }

    @Test func equalityWithLiterals() {
        let bytes = Array("Retry-After".utf8)
        let text = bytes.span
        let isSame = [text.equals("Retry-After"), text.equals("retry-after"), text.equals("Retry")]
        #expect(isSame == [true, false, false])
        let isSameIgnoringCase = [text.equalsIgnoringCase("retry-AFTER"), text.equalsIgnoringCase("retry_after")]
        #expect(isSameIgnoringCase == [true, false])
        let isBeginning = [text.starts(with: "Retry"), text.starts(with: ""), text.starts(with: "Retry-After:")]
        #expect(isBeginning == [true, true, false])
        let empty = Span<UInt8>()
        let isEmpty = [empty.equals(""), empty.equals(empty), empty.equalsIgnoringCase(""), empty.equals("a")]
        #expect(isEmpty == [true, true, true, false])
    }

    @Test func searchAndCopies() {
        let bytes = Array("a,b,,".utf8)
        let (comma, empty) = (UInt8(ascii: ","), Span<UInt8>())
        let places = [bytes.span.index(of: comma), bytes.span.index(of: comma, from: 2)]
        #expect(places == [1, 3])
        let none = [bytes.span.index(of: comma, from: 5), bytes.span.index(of: 0), empty.index(of: 0)]
        #expect(none == [nil, nil, nil])
        let copies = [Array(copying: bytes.span), Array(copying: empty)]
        #expect(copies == [bytes, []])
        var all = bytes
        all.append(bytes.span)
        #expect(all == bytes + bytes)
        let (valid, invalid) = (Array("é".utf8), [0x61, 0xFF] as [UInt8])
        let texts = [String(decoding: valid.span), String(decoding: invalid.span)]
        #expect(texts == ["é", "a\u{FFFD}"])
    }

    @Test(arguments: [
        ("0", 0), ("007", 7), ("9223372036854775807", Int64.max), ("9223372036854775808", nil), ("", nil), ("-1", nil),
        ("+1", nil), (" 1", nil), ("1.0", nil), ("1a", nil), ("٣", nil),
    ])
    func decimal(text: String, number: Int64?) {
        #expect(Int64(decimal: text.utf8) == number)
        #expect(UInt64(decimal: text.utf8) == UInt64(text).flatMap { text.hasPrefix("+") ? nil : $0 })
    }

    @Test(arguments: [0, 1, 9, 10, 99, 100, 12_345, UInt64(UInt32.max), UInt64.max - 1, UInt64.max])
    func decimalDigits(number: UInt64) {
        let digits = DecimalDigits(number)
        let text = String(decoding: digits.span)
        #expect(text == "\(number)")
    }

    @Test(arguments: [
        ("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("saturday", "sunday", 3), ("enqueue", "enqeue", 1),
        ("purge", "pruge", 1), ("ca", "abc", 3), ("a", "b", 1), ("priority", "priority", 0), ("ab", "ba", 1),
    ])
    func wordsApart(first: String, second: String, distance: Int) {
        #expect(editDistance(Array(first.utf8), Array(second.utf8)) == distance)
        #expect(editDistance(Array(second.utf8), Array(first.utf8)) == distance)
    }

    @Test func files() throws {
        let all = try File.read("/proc/self/stat", maximumByteCount: 4096)
        #expect(String(decoding: all, as: UTF8.self).hasPrefix("\(getpid()) ("))
        #expect(try File.read("/proc/self/stat", maximumByteCount: 3).count == 3)
        #expect(try File.read("/dev/null", maximumByteCount: 10).isEmpty)
        #expect(try File.read("/dev/zero", maximumByteCount: 100_000) == Array(repeating: 0, count: 100_000))
        let missing = #expect(throws: FileError.self) { try File.read("/nonexistent", maximumByteCount: 10) }
        #expect(missing?.code == ENOENT)
        #expect(missing?.description == "No such file or directory")
        let folder = #expect(throws: FileError.self) { try File.read("/", maximumByteCount: 10) }
        #expect(folder?.code == EISDIR)
    }
}
