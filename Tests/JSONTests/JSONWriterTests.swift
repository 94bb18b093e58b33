// The writer's output, which the scanner and the readers must accept.

import Support
import Testing

@testable import JSON

@Suite(.blocking) struct JSONWriterTests {
    private func written(_ write: (inout [UInt8]) -> Void) -> String {
        var output: [UInt8] = []
        write(&output)
        return String(decoding: output, as: UTF8.self)
    }

    @Test(arguments: [
        ("", #""""#), ("plain", #""plain""#), ("é日😀\u{7F}/", "\"é日😀\u{7F}/\""), ("\"", #""\"""#), ("\\\\", #""\\\\""#),
        ("a\"b", #""a\"b""#), ("\u{8}\t\n\u{C}\r", #""\b\t\n\f\r""#),
        ("\0\u{1}\u{1F}\u{B}", #""\u0000\u0001\u001f\u000b""#),
        ("ends\n", #""ends\n""#), ("\nbegins", #""\nbegins""#),
    ])
    func strings(_ string: String, json: String) {
        #expect(written { JSONWriter.writeString(Array(string.utf8).span, to: &$0) } == json)
    }

    @Test func anyStringSurvivesARoundTrip() {
        var random = SeededRandom()
        let alphabet = (0...0x7F).compactMap { Unicode.Scalar($0) } + ["é", "日", "😀", "\u{2028}", "\u{10FFFF}"]
        for _ in 0..<5_000 {
            var scalars = String.UnicodeScalarView()
            for _ in 0..<Int.random(in: 0..<40, using: &random) {
                scalars.append(alphabet.randomElement(using: &random) ?? "x")
            }
            let string = String(scalars)
            var json: [UInt8] = []
            JSONWriter.writeString(Array(string.utf8).span, to: &json)
            #expect(scan(json) == .document(kind: .string, value: 0..<json.count, entries: []), "\(json) \(random)")
            var back: [UInt8] = []
            #expect(JSONValue.decodeString(json.span, into: &back), "\(json) \(random)")
            #expect(back == Array(string.utf8), "\(json) \(random)")
        }
    }

    @Test func integers() {
        #expect(written { JSONWriter.writeInteger(0, to: &$0) } == "0")
        #expect(written { JSONWriter.writeInteger(-10, to: &$0) } == "-10")
        #expect(written { JSONWriter.writeInteger(UInt8(255), to: &$0) } == "255")
        #expect(written { JSONWriter.writeInteger(Int8.min, to: &$0) } == "-128")
        #expect(written { JSONWriter.writeInteger(Int64.max, to: &$0) } == "9223372036854775807")
        #expect(written { JSONWriter.writeInteger(Int64.min, to: &$0) } == "-9223372036854775808")
        #expect(written { JSONWriter.writeInteger(UInt64.max, to: &$0) } == "18446744073709551615")
    }

    @Test(arguments: [
        (0, "0"), (300_000, "300"), (250, "0.25"), (1500, "1.5"), (1, "0.001"), (10, "0.01"), (100, "0.1"),
        (1001, "1.001"),
        (-1500, "-1.5"), (-5, "-0.005"), (Int64.max, "9223372036854775.807"), (Int64.min, "-9223372036854775.808"),
    ])
    func seconds(_ milliseconds: Int64, json: String) throws {
        #expect(written { JSONWriter.writeSeconds(milliseconds: milliseconds, to: &$0) } == json)
        #expect(try JSONValue.milliseconds(Array(json.utf8).span) == milliseconds)
    }

    /// An output that cannot be copied, like the server's.
    private struct Counter: ~Copyable, JSONOutput {
        var byteCount = 0
        var runCount = 0
        mutating func append(_ byte: UInt8) { byteCount += 1 }
        mutating func append(_ bytes: Span<UInt8>) {
            byteCount += bytes.count
            runCount += bytes.isEmpty ? 0 : 1
        }
    }

    @Test func plainBytesAreAppendedInRuns() {
        var counter = Counter()
        JSONWriter.writeString(Array("a long run\nand another".utf8).span, to: &counter)
        #expect(counter.byteCount == 25)
        #expect(counter.runCount == 2)
    }
}
