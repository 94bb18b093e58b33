// Reading numbers and strings from their bytes.

import Support
import Testing

@testable import JSON

@Suite(.blocking) struct JSONNumberTests {
    @Test(arguments: [
        ("0", 0), ("-0", 0), ("-0.0e5", 0), ("1", 1), ("-1", -1), ("1e3", 1000), ("1.0", 1), ("1.50e1", 15),
        ("1000e-3", 1), ("0.001e3", 1), ("-2.5E+1", -25), ("100e-2", 1), ("9007199254740993", 9_007_199_254_740_993),
        ("9223372036854775807", Int64.max), ("-9223372036854775808", Int64.min),
        ("-9.223372036854775808e18", Int64.min),
        ("0e999999999999999999999999", 0), ("0.000e-999999999999999999999999", 0), ("10e18", nil),
        ("0.0000000000000000000000000000000001e34", 1),
    ])
    func signedIntegers(_ text: String, value: Int64?) throws {
        if let value {
            #expect(try JSONValue.integer(Array(text.utf8).span) == value)
        } else {
            #expect(throws: JSONNumberError.outOfRange) { try JSONValue.integer(Array(text.utf8).span) }
        }
    }

    @Test(arguments: [
        ("0", 0), ("-0", 0), ("-0e7", 0), ("9007199254740993", 9_007_199_254_740_993),
        ("18446744073709551615", UInt64.max), ("1.8446744073709551615e19", UInt64.max),
        ("184467440737095516150e-1", UInt64.max),
    ])
    func unsignedIntegers(_ text: String, value: UInt64) throws {
        #expect(try JSONValue.unsigned(Array(text.utf8).span) == value)
    }

    @Test(arguments: [
        "1.5", "0.1", "-0.5", "1e-1", "1e-999999999999", "9223372036854775807.5", "10.00000000000000000001",
    ])
    func fractionsAreNoIntegers(_ text: String) {
        #expect(throws: JSONNumberError.notAnInteger) { try JSONValue.integer(Array(text.utf8).span) }
        let magnitude = Array(text.utf8.drop { $0 == UInt8(ascii: "-") })
        #expect(throws: JSONNumberError.notAnInteger) { try JSONValue.unsigned(magnitude.span) }
    }

    @Test(arguments: [
        "9223372036854775808", "-9223372036854775809", "1e19", "-1e19", "1e999999999999",
        "1e99999999999999999999999999",
        "123456789012345678901234567890", "99999999999999999999.5",
    ])
    func integersOutOfRange(_ text: String) {
        #expect(throws: JSONNumberError.outOfRange) { try JSONValue.integer(Array(text.utf8).span) }
        #expect(throws: JSONNumberError.outOfRange) { try JSONValue.milliseconds(Array(text.utf8).span) }
    }

    @Test(arguments: ["-1", "-1e5", "18446744073709551616", "18446744073709551620", "1e20"])
    func unsignedOutOfRange(_ text: String) {
        #expect(throws: JSONNumberError.outOfRange) { try JSONValue.unsigned(Array(text.utf8).span) }
    }

    @Test(arguments: [
        ("0", 0), ("300", 300_000), ("1.5", 1500), ("0.001", 1), ("-2", -2000), ("3e-1", 300), ("1e3", 1_000_000),
        // Halves round up, on both sides of zero.
        ("0.0004999999999999999999999", 0), ("0.0005", 1), ("0.00050000000000000000000001", 1), ("0.0015", 2),
        ("0.0025", 3), ("-0.0005", 0), ("-0.00050000000000000000000001", -1), ("-0.0015", -1), ("-0.0016", -2),
        ("-0.0014", -1), ("5e-4", 1), ("0.05e-2", 1), ("9e-5", 0), ("0.00009999", 0), ("1e-999999999999", 0),
        // In binary floating point, 0.29 seconds are less than 290 milliseconds.
        ("0.29", 290), ("1.005", 1005), ("9223372036854775.807", Int64.max), ("-9223372036854775.808", Int64.min),
        ("9223372036854775.8074", Int64.max), ("-9223372036854775.8085", Int64.min),
    ])
    func milliseconds(_ text: String, value: Int64) throws {
        #expect(try JSONValue.milliseconds(Array(text.utf8).span) == value)
    }

    @Test(arguments: [
        "9223372036854775.808", "9223372036854775.8075", "-9223372036854775.8086", "18446744073709551.6155", "1e300",
    ])
    func millisecondsOutOfRange(_ text: String) {
        #expect(throws: JSONNumberError.outOfRange) { try JSONValue.milliseconds(Array(text.utf8).span) }
    }

    @Test(arguments: [
        ("0", 0), ("-0.0", 0), ("0.0004", 0), ("0.9996", 1000), ("1", 1000), ("1.000", 1000), ("-1e-999999999999", nil),
        ("-0.0001", nil), ("-0.0005", nil), ("-1", nil), ("1.0000000000000000001", nil), ("1.0004", nil), ("1.5", nil),
        ("-9223372036854775.8085", nil),
    ])
    func millisecondsInARangeAreSoAsTheyAreWritten(_ text: String, value: Int64?) {
        #expect((try? JSONValue.milliseconds(Array(text.utf8).span, in: 0...1000)) == value)
    }

    @Test(arguments: ["", "-", "null", "true", "\"1\"", "[1]", "{}", ".5", "-.5"])
    func otherValuesAreNoNumbers(_ text: String) {
        #expect(throws: JSONNumberError.notANumber) { try JSONValue.integer(Array(text.utf8).span) }
        #expect(throws: JSONNumberError.notANumber) { try JSONValue.unsigned(Array(text.utf8).span) }
        #expect(throws: JSONNumberError.notANumber) { try JSONValue.milliseconds(Array(text.utf8).span) }
    }

    @Test func lengthIsBounded() throws {
        let longest = "1." + String(repeating: "0", count: JSONValue.maximumNumberLength - 2)
        #expect(try JSONValue.integer(Array(longest.utf8).span) == 1)
        #expect(throws: JSONNumberError.outOfRange) { try JSONValue.integer(Array((longest + "0").utf8).span) }
        // The digits of the longest number cancel the longest exponent that counts.
        let tiny = "0." + String(repeating: "0", count: 60_000) + "1e60001"
        #expect(try JSONValue.unsigned(Array(tiny.utf8).span) == 1)
    }

    @Test func anIntegerIsTheSameHoweverItIsWritten() throws {
        var random = SeededRandom()
        for _ in 0..<10_000 {
            let value = Int64(bitPattern: random.next()) >> Int64.random(in: 0..<64, using: &random)
            // Moves the point to any place in or beyond the digits, and adapts the exponent.
            let digits = String(value.magnitude) + String(repeating: "0", count: Int.random(in: 0...3, using: &random))
            let exponent = String(value.magnitude).count - digits.count
            let point = Int.random(in: 1...digits.count, using: &random)
            let fraction = digits.dropFirst(point)
            let text =
                (value < 0 ? "-" : "") + digits.prefix(point) + (fraction.isEmpty ? "" : ".") + fraction
                + "e\(exponent + fraction.count)"
            #expect(try JSONValue.integer(Array(text.utf8).span) == value, "\(text) \(random)")
        }
    }
}

@Suite(.blocking) struct JSONStringTests {
    private func decoded(_ text: String) -> String? {
        var output = Array("before:".utf8)
        let isDecoded = JSONValue.decodeString(Array(text.utf8).span, into: &output)
        let string = String(validating: output, as: UTF8.self)
        #expect(string?.hasPrefix("before:") == true)
        if !isDecoded { #expect(string == "before:", "a failed decoding leaves the output as it was") }
        return isDecoded ? string.map { String($0.dropFirst(7)) } : nil
    }

    @Test(arguments: [
        (#""""#, ""), (#""plain é日😀""#, "plain é日😀"), (#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{C}\n\r\t"),
        (#""\u0041\u00e9\u65E5""#, "Aé日"), (#""a\u0000b""#, "a\0b"), (#""\ud83d\ude00!""#, "😀!"),
        (#""\uD800\uDC00\uDBFF\uDFFF""#, "\u{10000}\u{10FFFF}"), (#""\ud7ff\ue000\uffff""#, "\u{D7FF}\u{E000}\u{FFFF}"),
        (#""x\\u0041""#, "x\\u0041"),
    ])
    func decodes(_ text: String, string: String) {
        #expect(decoded(text) == string)
    }

    @Test(arguments: [
        #""\ud800""#, #""\udc00""#, #""abc\ud83d""#, #""\ud83dx""#, #""\ud83d\n""#, #""\ud83d\ud83d\ude00""#,
        #""\ude00\ud83d""#, #""\ud83d\u0041""#,
    ])
    func aLoneSurrogateHasNoUTF8(_ text: String) {
        #expect(scan(text).error == nil, "it is still JSON")
        #expect(decoded(text) == nil)
    }

    @Test(arguments: ["", "\"", "null", "12", "[]", #""\u12""#, #""\"#, #""a\""#]) func otherValuesAreNotStrings(
        _ text: String
    ) {
        #expect(decoded(text) == nil)
    }

    private func equals(_ raw: String, _ name: StaticString) -> Bool {
        JSONValue.stringEquals(Array(raw.utf8).span, hasEscapes: raw.contains("\\"), name)
    }

    @Test func comparesNames() {
        #expect(equals("retry", "retry"))
        #expect(equals(#"\u0072etr\u0079"#, "retry"))
        #expect(equals(#"\u0072\u0065\u0074\u0072\u0079"#, "retry"))
        #expect(equals("", ""))
        #expect(equals(#"a\/b\n\ud83d\ude00"#, "a/b\n😀"))
        #expect(equals("é", "é"))

        #expect(!equals("retr", "retry"))
        #expect(!equals("retry", "retr"))
        #expect(!equals("retrY", "retry"))
        #expect(!equals("", "retry"))
        #expect(!equals("retry", ""))
        #expect(!equals(#"\u0072etrx"#, "retry"))
        #expect(!equals(#"retry\u0000"#, "retry"))
        #expect(!equals(#"retr\u0079y"#, "retry"))
        #expect(!equals(#"\u0072etr"#, "retry"))
        #expect(!equals(#"\ud800etry"#, "retry"))
        #expect(!equals(#"\n"#, "n"))
        // Bytes are compared, not canonical equivalents.
        #expect(!equals("e\u{301}", "\u{E9}"))
    }

    @Test func comparesNamesWithoutTheirCase() {
        for (raw, isEqual) in [("RETRY", true), (#"R\u0045tr\u0079"#, true), ("retrx", false), ("Retr", false)] {
            let hasEscapes = raw.contains("\\")
            #expect(
                JSONValue.stringEquals(Array(raw.utf8).span, hasEscapes: hasEscapes, ignoresCase: true, "retry")
                    == isEqual)
        }
    }
}
