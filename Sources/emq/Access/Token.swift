// A token: who may do what with which queues. The server knows only the hash of its text.

import Bytes
import Delivery

/// A token as the file of tokens describes it.
final class Token: Sendable {
    let name: String
    /// The SHA-256 of its text.
    let hash: SHA256.Digest
    let permissions: Permissions
    /// The patterns of the queues for which it is valid; empty for all.
    let queues: [GlobPattern]
    /// When it ends, in milliseconds since the Unix epoch; nil for never.
    let expires: Int64?
    /// Whether it is valid for all queues.
    let coversAllQueues: Bool
    /// The bytes of all patterns that a name may have to be compared with.
    let patternByteCount: Int

    init(name: String, hash: SHA256.Digest, permissions: Permissions, queues: [GlobPattern], expires: Int64?) {
        self.name = name
        self.hash = hash
        self.permissions = permissions
        self.queues = queues
        self.expires = expires
        coversAllQueues = queues.isEmpty || queues.contains { $0.isEverything }
        patternByteCount = coversAllQueues ? 0 : queues.reduce(0) { $0 + $1.byteCount }
    }

    /// Whether it is valid for a queue. O(patterns).
    func covers(_ queueName: Span<UInt8>) -> Bool {
        if coversAllQueues { return true }
        for pattern in queues where pattern.matches(queueName) { return true }
        return false
    }

    /// Whether it has ended.
    func hasExpired(now: Int64) -> Bool { expires.map { $0 <= now } ?? false }

    /// Whether it has this hash. Takes the same time for all hashes.
    func hasHash(_ other: borrowing SHA256.Digest) -> Bool { isSame(hash.span, other.span) }
}

/// Whether two secrets are the same. Takes the same time for all secrets of the same length.
func isSame(_ first: Span<UInt8>, _ second: Span<UInt8>) -> Bool {
    guard first.count == second.count else { return false }
    var difference: UInt64 = 0
    var index = 0
    while index + 8 <= first.count {
        // Unsafe only because not all bits are valid for every type; the end is checked above, and the counts are equal.
        difference |=
            unsafe first.bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: index, as: UInt64.self)
            ^ second.bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: index, as: UInt64.self)
        index += 8
    }
    while index < first.count {
        difference |= UInt64(first[index] ^ second[index])
        index += 1
    }
    return difference == 0
}
