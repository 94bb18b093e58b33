// The keys of tasks: their length, their parts and their hash.

/// The rules for keys. A key is any bytes; at most one task of a queue holds it at a time.
///
/// A key may have two parts with a NUL between them. The first part names a group: `Broker` finds all tasks of a queue
/// that hold keys of a group.
public enum TaskKey {
    /// The length of the longest key that a client may give, in bytes.
    public static let maximumByteCount = 255

    /// Makes a key of a group.
    ///
    /// - Parameters:
    ///   - group: The group's name, without a NUL.
    ///   - member: The second part, which distinguishes the key within its group.
    /// - Returns: The key.
    public static func key(group: String, member: String) -> [UInt8] { Array("\(group)\0\(member)".utf8) }

    /// The name of the group that a key belongs to; nil if the key has only one part. O(*n*).
    public static func group(of key: [UInt8]) -> ArraySlice<UInt8>? { key.firstIndex(of: 0).map { key[..<$0] } }

    /// The second part of a key, which distinguishes it within its group; empty if the key has only one part. O(*n*).
    public static func member(of key: [UInt8]) -> ArraySlice<UInt8> { key.drop { $0 != 0 }.dropFirst() }

    /// The hash of a key, or of a group's name, in a queue.
    ///
    /// Clients choose the keys, so the hash depends on a random secret of the process (SipHash).
    static func hash(of key: ArraySlice<UInt8>, in queue: Slot) -> UInt32 {
        var hasher = Hasher()
        hasher.combine(queue)
        hasher.combine(key)
        return UInt32(truncatingIfNeeded: hasher.finalize())
    }
}
