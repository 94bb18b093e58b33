// Which line of an error stands for it.

import Support
import Testing

@testable import Queues

@Suite(.blocking) struct TaskErrorTests {
    private static let header = "Traceback (most recent call last):"

    private func summary(_ error: String) -> String {
        String(decoding: TaskError.summary(of: Array(error.utf8)), as: UTF8.self)
    }

    @Test(arguments: [
        ("", ""), ("a", "a"), ("a\nb", "a"), ("a\r\nb", "a"), ("\n\na\n", "a"), ("\n", ""),
        (String(repeating: "x", count: 200), String(repeating: "x", count: 200)),
        (String(repeating: "x", count: 201), String(repeating: "x", count: 200)),
        (String(repeating: "x", count: 199) + "ü", String(repeating: "x", count: 199)),
        (String(repeating: "ü", count: 101), String(repeating: "ü", count: 100)),
        (String(repeating: "\n", count: 300) + "x", ""),
    ])
    func theFirstLineStandsForAnError(error: String, line: String) {
        #expect(summary(error) == line)
    }

    @Test(arguments: [
        ("\(header)\n  File \"w.py\", line 3, in run\n    go()\nKeyError: 'x'", "KeyError: 'x'"),
        ("\(header)\n  a\nKeyError: 'x'\n", "KeyError: 'x'"), ("\(header)\n  a\nKeyError: 'x'\n\n\n", "KeyError: 'x'"),
        ("\r\n\(header)\r\n  a\r\nKeyError: 'x'\r\n\r\n", "KeyError: 'x'"), ("\(header)\rOSError", "OSError"),
        ("\(header)\n  a\nKeyError\n\nDuring handling of it:\n\n\(header)\n  b\nOSError: y\n", "OSError: y"),
        // None of its lines says more.
        (header, header), ("\(header)\n", header), ("\r\n\(header)\r\n\r\n", header),
        ("\(header)\nKeyError" + String(repeating: "\n", count: 300), header),
        // Not the header.
        ("\(header) \nKeyError", "\(header) "), ("  \(header)\nKeyError", "  \(header)"), ("x\n\(header)\ny", "x"),
        ("Traceback\nKeyError", "Traceback"),
    ])
    func theLastLineStandsForATraceback(error: String, line: String) {
        #expect(summary(error) == line)
        #expect(summary(line) == line)
    }

    /// Of a long last line, the beginning counts, wherever it begins.
    @Test(arguments: [1, 199, 200, 201, 255, 256, 257, 511, 512, 513, 9900])
    func theLastLineMayBeLong(length: Int) {
        let last = "y" + String(repeating: "x", count: length - 1)
        for end in ["", "\n", "\r\n"] {
            #expect(summary("\(Self.header)\n  a\n\(last)\(end)") == String(last.prefix(200)))
            #expect(summary("\(Self.header)\r\(last)\(end)") == String(last.prefix(200)))
        }
    }

    @Test func aLongLastLineIsCutAtACharacter() {
        let last = String(repeating: "x", count: 199)
        #expect(summary("\(Self.header)\n\(last)ü") == last)
        #expect(summary("\(Self.header)\n\(last)üx") == last)
        #expect(summary("\(Self.header)\n\(last.dropLast())ü") == "\(last.dropLast())ü")
    }
}
