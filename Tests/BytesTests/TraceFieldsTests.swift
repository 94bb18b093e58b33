// Which values of X-Request-Id and traceparent are usable.

import Testing

@testable import Bytes

@Suite struct TraceFieldsTests {
    private static let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    /// What follows the version.
    private static let rest = String(parent.dropFirst(2))

    private func isTraceparent(_ text: String) -> Bool { Array(text.utf8).span.isTraceparent }

    @Test(arguments: [
        ("a", true), (String(repeating: "x", count: 128), true), ("!#~$%&'()*+,-./:;<=>?@[]^_`{|}", true),
        ("f058ebd6-02f7-4d3f-942e-904344e8cde5", true), ("", false), (String(repeating: "x", count: 129), false),
        ("a b", false), ("a\tb", false), ("a\"b", false), ("a\\b", false), ("a\r\nb", false), ("a\0", false),
        ("a\u{7F}", false), ("ä", false),
    ])
    func aRequestIDIsOneWord(text: String, isUsable: Bool) {
        let bytes = Array(text.utf8)
        let found = bytes.span.isRequestID
        #expect(found == isUsable)
    }

    private static let good: [String] = [
        parent, "00\(rest.dropLast(2))ff",
        // A later version may have more behind a dash.
        "cc\(rest)", "01\(rest)-what.the-future~holds", "fe\(rest)-\(String(repeating: "x", count: 72))",
    ]

    private static let bad: [String] = [
        "", "00", "\(parent)-00", "\(parent)-", "ff\(rest)", "0g\(rest)", String(parent.dropLast()), "01\(rest)0",
        "01\(rest)-a b", "01\(rest)-\"", "fe\(rest)-\(String(repeating: "x", count: 73))", parent.uppercased(),
        "00-4bg92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067a-0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
    ]

    @Test func aTraceparentHasTheFormOfTraceContext() {
        for text in Self.good { #expect(isTraceparent(text), "\(text)") }
        for text in Self.bad { #expect(!isTraceparent(text), "\(text)") }
    }

    @Test func onlyLowerCaseDigitsAreInATraceparent() {
        let digits = Set("0123456789abcdef".utf8)
        // Later versions have no other meaning in any digit, but `ff` is none.
        let usable = Array("01\(Self.rest)".utf8)
        for place in usable.indices where ![2, 35, 52].contains(place) {
            for byte in UInt8.min...UInt8.max {
                var bytes = usable
                bytes[place] = byte
                let found = bytes.span.isTraceparent
                #expect(found == digits.contains(byte), "\(byte) at \(place)")
            }
        }
    }
}
