// The queues for which a token is valid, as patterns of names.

import Bytes

/// A pattern of queue names. A `*` stands for any number of any characters, slashes included; all others stand for
/// themselves.
struct QueuePattern: Sendable {
    private let bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Whether every name matches.
    var isEverything: Bool { !bytes.isEmpty && bytes.allSatisfy { $0 == UInt8(ascii: "*") } }

    var text: String { String(decoding: bytes, as: UTF8.self) }

    /// Whether a name matches. O(length of the name · length of the pattern) at worst.
    func matches(_ name: Span<UInt8>) -> Bool {
        let pattern = bytes.span
        var (place, index) = (0, 0)
        // Where to go on after a mismatch: the last star takes one more byte. An earlier star need not take more,
        // because the later one can take what the earlier one leaves.
        var star: (place: Int, index: Int)?
        while index < name.count {
            if place < pattern.count, pattern[place] == UInt8(ascii: "*") {
                star = (place, index)
                place += 1
            } else if place < pattern.count, pattern[place] == name[index] {
                place += 1
                index += 1
            } else if let last = star {
                star = (last.place, last.index + 1)
                (place, index) = (last.place + 1, last.index + 1)
            } else {
                return false
            }
        }
        while place < pattern.count, pattern[place] == UInt8(ascii: "*") { place += 1 }
        return place == pattern.count
    }
}
