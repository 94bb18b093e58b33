// The line that stands for an error, by which tasks are grouped and selected.

import Bytes

/// The texts of errors.
public enum TaskError {
    /// The most bytes of a summary.
    public static let maximumSummaryBytes = 200

    /// The line of an error that says the most: its first one, or the last one of a traceback of Python, whose first
    /// line is always the same. Longer lines than 200 bytes are cut at a character.
    ///
    /// Line breaks before the first line and after the last one do not count, unless there are more than 200 of them.
    /// The summary of a summary is the same. O(1), or O(bytes of the last line) for a traceback.
    public static func summary(of error: [UInt8]) -> [UInt8] {
        guard let start = error.prefix(maximumSummaryBytes).firstIndex(where: { !isBreak($0) }) else { return [] }
        let first = line(of: error, from: start)
        guard first.span.equals("Traceback (most recent call last):"),
            let last = error.suffix(maximumSummaryBytes).lastIndex(where: { !isBreak($0) })
        else { return first }
        return line(of: error, from: startOfLastLine(in: error.span.extracting(first: last + 1)))
    }

    private static func isBreak(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") }

    /// The line that begins at `start`, cut if it is long.
    private static func line(of error: [UInt8], from start: Int) -> [UInt8] {
        let limit = min(error.count, start + maximumSummaryBytes)
        if let end = error[start..<limit].firstIndex(where: isBreak) { return Array(error[start..<end]) }
        var end = limit
        // A byte that continues a character is not its first.
        while end < error.count, end > start, error[end] & 0xC0 == 0x80 { end -= 1 }
        return start == 0 && end == error.count ? error : Array(error[start..<end])
    }

    /// Where the last line begins of a text that does not end with a line break.
    private static func startOfLastLine(in text: Span<UInt8>) -> Int {
        var end = text.count
        // The C library finds quickly which blocks have no line break. The line may be long.
        while end > 0 {
            let block = text.extracting(max(0, end - 256)..<end)
            if block.index(of: UInt8(ascii: "\n")) != nil || block.index(of: UInt8(ascii: "\r")) != nil { break }
            end -= block.count
        }
        while end > 0, !isBreak(text[end - 1]) { end -= 1 }
        return end
    }
}
