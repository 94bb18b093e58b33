// Patterns with `*`, to select names.

/// A pattern in which `*` stands for any run of bytes, also an empty one, and every other byte for itself.
public struct GlobPattern: Hashable, Sendable {
    /// The length of the longest pattern, in bytes.
    public static let maximumByteCount = 255

    private let bytes: [UInt8]

    /// Makes a pattern of these bytes; nil if there are more than 255.
    public init?(_ pattern: Span<UInt8>) {
        if pattern.count > Self.maximumByteCount { return nil }
        bytes = Array(copying: pattern)
    }

    /// The number of bytes of the pattern.
    public var byteCount: Int { bytes.count }

    /// The pattern as it was written.
    public var text: String { String(decoding: bytes, as: UTF8.self) }

    /// Whether it is only stars, so that every name matches.
    public var isEverything: Bool { !bytes.isEmpty && bytes.allSatisfy { $0 == UInt8(ascii: "*") } }

    /// Whether the pattern matches a whole name.
    ///
    /// Only the last `*` that has been met ever takes more bytes, because those before it need not.
    ///
    /// - Complexity: O(*m* · *n*) for a pattern of *m* and a name of *n* bytes, and usually O(*n*).
    public func matches(_ name: Span<UInt8>) -> Bool {
        let pattern = bytes.span
        var (place, index) = (0, 0)
        // Behind the last `*`, and where the part behind it was last tried.
        var (resumption, start): (Int?, Int) = (nil, 0)
        while index < name.count {
            if place < pattern.count, pattern[place] == UInt8(ascii: "*") {
                place += 1
                resumption = place
                start = index
            } else if place < pattern.count, pattern[place] == name[index] {
                place += 1
                index += 1
            } else if let resumption {
                start += 1
                (place, index) = (resumption, start)
            } else {
                return false
            }
        }
        while place < pattern.count, pattern[place] == UInt8(ascii: "*") { place += 1 }
        return place == pattern.count
    }
}
