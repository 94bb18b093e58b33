// What tests need to read the log.

import Foundation

@testable import emq

/// A log that a test reads. It is used on one thread.
final class TestLog: @unchecked Sendable {
    /// The clock, in milliseconds since the Unix epoch.
    var now: () -> Int64 = { 0 }
    /// The lines so far, without their times.
    private(set) var lines: [String] = []
    private(set) lazy var log = Log(clock: { [unowned self] in now() }) { [unowned self] line, _ in
        lines.append(String(String(decoding: line, as: UTF8.self).drop { $0 != " " }.dropFirst()))
    }

    /// The lines since the last call.
    func take() -> [String] {
        defer { lines = [] }
        return lines
    }
}

extension Server {
    /// The complete lines of its log so far, without times and levels.
    var messages: [Substring] {
        output.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(message)
    }
}

/// A line of the log without its time and level.
func message(_ line: Substring) -> Substring {
    let start = line.prefixMatch(of: #/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (error|warning|info) /#)
    return line[(start?.range.upperBound ?? line.startIndex)...]
}
