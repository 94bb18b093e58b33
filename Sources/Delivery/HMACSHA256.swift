// HMAC-SHA-256, which lets a receiver verify that emq sent a request.

/// A keyed hash (RFC 2104) with SHA-256, fed piece by piece. It allocates nothing.
struct HMACSHA256 {
    private var inner = SHA256()
    private var outer = SHA256()

    /// A key of any length; one longer than 64 bytes is hashed first (RFC 2104 section 2).
    init(key: Span<UInt8>) {
        var block = InlineArray<64, UInt8>(repeating: 0)
        if key.count > block.count {
            let digest = SHA256.hash(key)
            for index in digest.indices { block[index] = digest[index] }
        } else {
            for index in key.indices { block[index] = key[index] }
        }
        // The key precedes the message, each byte XORed with 0x36, and precedes the inner digest, each byte XORed with
        // 0x5c.
        for index in block.indices { block[index] ^= 0x36 }
        inner.update(block.span)
        for index in block.indices { block[index] ^= 0x36 ^ 0x5c }
        outer.update(block.span)
    }

    /// Appends bytes to the message. O(their number).
    mutating func update(_ bytes: Span<UInt8>) { inner.update(bytes) }

    /// Ends the message.
    consuming func finalize() -> SHA256.Digest {
        let digest = inner.finalize()
        outer.update(digest.span)
        return outer.finalize()
    }
}
