// The end of what a command prints.

/// The last bytes of an output, of a bounded number.
struct OutputTail {
    let maximumByteCount: Int
    private var bytes: [UInt8] = []

    init(maximumByteCount: Int) { self.maximumByteCount = maximumByteCount }

    var isEmpty: Bool { bytes.isEmpty }

    /// Appends bytes, and forgets the first ones if there are too many. Amortised O(count).
    mutating func append(_ more: ArraySlice<UInt8>) {
        bytes += more.suffix(maximumByteCount)
        if bytes.count > 2 * maximumByteCount { bytes.removeFirst(bytes.count - maximumByteCount) }
    }

    /// The end as text, from a whole character on, at most `maximumByteCount` bytes of UTF-8. What is not UTF-8 is
    /// replaced.
    var text: String {
        Self.end(of: String(decoding: bytes.characters(ofLast: maximumByteCount), as: UTF8.self), maximumByteCount)
    }

    /// The end of a text, at most `maximumBytes` bytes, from a whole character on.
    private static func end(of text: String, _ maximumBytes: Int) -> String {
        // Replacing what is not UTF-8 makes a text longer.
        if text.utf8.count <= maximumBytes { return text }
        return String(decoding: Array(text.utf8).characters(ofLast: maximumBytes), as: UTF8.self)
    }

    /// The last lines that are not empty, at most `count` and `maximumBytes`.
    func lastLines(_ count: Int, maximumBytes: Int) -> String {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: true).suffix(count)
        var kept: [Substring] = []
        var size = 0
        for line in lines.reversed() {
            size += line.utf8.count + 1
            if size > maximumBytes, !kept.isEmpty { break }
            kept.append(line)
        }
        return Self.end(of: kept.reversed().joined(separator: "\n"), maximumBytes)
    }
}
