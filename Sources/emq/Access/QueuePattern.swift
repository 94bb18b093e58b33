// The queues for which a token is valid, as patterns of names.

import Bytes

/// A pattern of queue names. A `*` stands for any number of any characters, slashes included; all others stand for
/// themselves.
struct QueuePattern: Sendable {
    private let bytes: [UInt8]
    private let glob: GlobPattern

    /// A pattern of these bytes; nil if there are more than a queue's name can have.
    init?(_ bytes: [UInt8]) {
        guard let glob = GlobPattern(bytes.span) else { return nil }
        (self.bytes, self.glob) = (bytes, glob)
    }

    /// Whether every name matches.
    var isEverything: Bool { !bytes.isEmpty && bytes.allSatisfy { $0 == UInt8(ascii: "*") } }

    var text: String { String(decoding: bytes, as: UTF8.self) }

    /// Whether a name matches. O(length of the name · length of the pattern) at worst.
    func matches(_ name: Span<UInt8>) -> Bool { glob.matches(name) }
}
