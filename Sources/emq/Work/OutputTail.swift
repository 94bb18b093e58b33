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

    /// The end as text, from a whole character on. What is not UTF-8 is replaced.
    var text: String {
        var end = bytes.suffix(maximumByteCount)
        if end.count < bytes.count { end = end.drop { $0 & 0b1100_0000 == 0b1000_0000 } }
        return String(decoding: end, as: UTF8.self)
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
        let joined = kept.reversed().joined(separator: "\n")
        if joined.utf8.count <= maximumBytes { return joined }
        return String(
            decoding: Array(joined.utf8.suffix(maximumBytes)).drop { $0 & 0b1100_0000 == 0b1000_0000 }, as: UTF8.self)
    }
}
