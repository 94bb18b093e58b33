// SHA-256, for signatures of requests, and for tokens.

/// The hash function SHA-256 (FIPS 180-4), fed piece by piece. It takes messages of up to 2^61 bytes, buffers up to 64
/// bytes, and allocates nothing.
public struct SHA256 {
    /// The 32 bytes of the hash.
    public typealias Digest = InlineArray<32, UInt8>

    private typealias State = SIMD8<UInt32>

    /// The initial value (section 5.3.3), into which each block is mixed.
    private var state: State = [
        0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
    ]
    /// The message's last bytes, which do not fill a block yet.
    private var pending = InlineArray<64, UInt8>(repeating: 0)
    private var length: UInt64 = 0

    /// Appends bytes to the message. O(their number).
    mutating func update(_ bytes: Span<UInt8>) {
        var filled = Int(length % 64)
        length += UInt64(bytes.count)
        var position = 0
        if filled > 0 {
            while filled < 64, position < bytes.count {
                pending[filled] = bytes[position]
                filled += 1
                position += 1
            }
            if filled < 64 { return }
            Self.mix(pending.span, into: &state)
        }
        let whole = (bytes.count - position) / 64 * 64
        Self.mix(bytes.extracting(position..<position + whole), into: &state)
        position += whole
        for index in position..<bytes.count { pending[index - position] = bytes[index] }
    }

    /// Ends the message.
    consuming func finalize() -> Digest {
        let bitCount = length * 8
        let filled = Int(length % 64)
        // One bit marks the end of the message. The last eight bytes of the last block are its length in bits.
        var end = InlineArray<72, UInt8>(repeating: 0)
        end[0] = 0x80
        let padding = (filled < 56 ? 56 : 120) - filled
        for index in 0..<8 { end[padding + index] = UInt8(truncatingIfNeeded: bitCount >> UInt64(56 - 8 * index)) }
        update(end.span.extracting(0..<padding + 8))

        var digest = Digest(repeating: 0)
        for index in 0..<32 {
            digest[index] = UInt8(truncatingIfNeeded: state[index / 4] >> UInt32(24 - index % 4 * 8))
        }
        return digest
    }

    /// The digest of a whole message. O(bytes).
    public static func hash(_ message: Span<UInt8>) -> Digest {
        var hash = SHA256()
        hash.update(message)
        return hash.finalize()
    }

    /// Section 6.2.2 for each block of `blocks`, whose length is a multiple of 64.
    private static func mix(_ blocks: Span<UInt8>, into state: inout State) {
        let constants = constants.span
        var sum = state
        var offset = 0
        while offset < blocks.count {
            let block = blocks.extracting(offset..<offset + 64)
            offset += 64
            // The next 16 words of the message schedule. Each is replaced once it has been used.
            var words = InlineArray<16, UInt32>(repeating: 0)
            for index in 0..<16 {
                let high = UInt32(block[4 * index]) << 24 | UInt32(block[4 * index + 1]) << 16
                words[index] = high | UInt32(block[4 * index + 2]) << 8 | UInt32(block[4 * index + 3])
            }
            var (a, b, c, d) = (sum[0], sum[1], sum[2], sum[3])
            var (e, f, g, h) = (sum[4], sum[5], sum[6], sum[7])
            // After eight rounds each variable has its first role again, so no value is moved.
            for round in stride(from: 0, to: 64, by: 8) {
                perform(round, &words, constants, a, b, c, &d, e, f, g, &h)
                perform(round + 1, &words, constants, h, a, b, &c, d, e, f, &g)
                perform(round + 2, &words, constants, g, h, a, &b, c, d, e, &f)
                perform(round + 3, &words, constants, f, g, h, &a, b, c, d, &e)
                perform(round + 4, &words, constants, e, f, g, &h, a, b, c, &d)
                perform(round + 5, &words, constants, d, e, f, &g, h, a, b, &c)
                perform(round + 6, &words, constants, c, d, e, &f, g, h, a, &b)
                perform(round + 7, &words, constants, b, c, d, &e, f, g, h, &a)
            }
            sum = sum &+ State(a, b, c, d, e, f, g, h)
        }
        state = sum
    }

    /// One round: `d` and `h` become the next round's `e` and `a`, and the used word becomes the one for 16 rounds
    /// later.
    @inline(__always)
    private static func perform(
        _ round: Int, _ words: inout InlineArray<16, UInt32>, _ constants: Span<UInt32>,
        _ a: UInt32, _ b: UInt32, _ c: UInt32, _ d: inout UInt32,
        _ e: UInt32, _ f: UInt32, _ g: UInt32, _ h: inout UInt32
    ) {
        let word = words[round & 15]
        let choice = g ^ (e & (f ^ g))
        h = h &+ (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) &+ choice &+ constants[round] &+ word
        d = d &+ h
        let majority = (a & b) | (c & (a | b))
        h = h &+ (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) &+ majority

        let early = words[(round + 1) & 15]
        let late = words[(round + 14) & 15]
        let earlySum = rotated(early, 7) ^ rotated(early, 18) ^ (early >> 3)
        let lateSum = rotated(late, 17) ^ rotated(late, 19) ^ (late >> 10)
        words[round & 15] = word &+ earlySum &+ words[(round + 9) & 15] &+ lateSum
    }

    @inline(__always)
    private static func rotated(_ word: UInt32, _ count: UInt32) -> UInt32 { word >> count | word << (32 &- count) }

    /// The first 32 bits of the fractional parts of the cube roots of the first 64 primes (section 4.2.2).
    private static let constants: InlineArray<64, UInt32> = [
        0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
        0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
        0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
        0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
        0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
        0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
        0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
        0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
    ]
}
