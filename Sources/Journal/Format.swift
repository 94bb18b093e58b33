// How the log lies on disk: what a segment's header and a frame's header say, and what segments are called. All integers
// are little endian.
//
//     segment  magic u64, version u32, CRC-32C u32, number u64, first sequence u64, salt u64, then frames, then zeros
//     frame    payload length u32, CRC-32C u32, sequence u64, synced u64, payload
//
// A length of zero ends a segment. A header's checksum covers its other fields; these fields stay where they are in every
// version. A frame's checksum covers the salt, then all of the frame but the checksum itself. The salt is drawn when a log
// is made: without it, a payload that contains a copy of a frame could pass for one where recovery searches.

import CLinux
import Glibc

/// Sizes and names.
enum Format {
    /// What is written, and what is read besides.
    static let version: UInt32 = 3
    static let oldestVersion: UInt32 = 2
    static let segmentHeaderByteCount = 40
    static let frameHeaderByteCount = 24
    /// What a payload may have at most.
    static let payloadLimit = 256 << 20
    /// Sequences are from 1 to this.
    static let sequenceLimit: UInt64 = 1 << 62
    /// The smallest segment that makes sense: some frames beside the header.
    static let smallestSegmentByteCount = 512
    /// No segment is larger.
    static let largestSegmentByteCount = 1 << 40

    /// The largest number a segment can have.
    static let lastSegmentNumber: UInt64 = 9_999_999_999

    /// The number of the segment in the file of that name; nil if no segment is called so.
    static func segmentNumber(of name: String) -> UInt64? {
        guard name.utf8.count == 14, name.hasSuffix(".log"), name.utf8.prefix(10).allSatisfy({ 48...57 ~= $0 }),
            let number = UInt64(name.prefix(10)), number > 0
        else { return nil }
        return number
    }

    /// `0000000001.log`, …
    static func segmentName(_ number: UInt64) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 10 - digits.utf8.count)) + digits + ".log"
    }

    /// The checksum of what `previous` is the checksum of, followed by `bytes`.
    static func checksum(_ previous: UInt32 = 0, _ bytes: RawSpan) -> UInt32 {
        unsafe bytes.withUnsafeBytes { unsafe emq_crc32c(previous, $0.baseAddress, $0.count) }
    }

    /// What the checksums of a log's frames start with.
    static func checksum(salt: UInt64) -> UInt32 {
        let salt = salt.littleEndian
        return unsafe withUnsafeBytes(of: salt) { unsafe emq_crc32c(0, $0.baseAddress, $0.count) }
    }
}

extension RawSpan {
    /// The integer at `offset`, which is checked to be inside.
    func integer<Integer: FixedWidthInteger & BitwiseCopyable>(at offset: Int, _ type: Integer.Type) -> Integer {
        unsafe Integer(littleEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: type))
    }
}

/// What a segment says about itself.
struct SegmentHeader: Equatable {
    /// "emq log\n"
    private static let magic: UInt64 = 0x0A67_6F6C_2071_6D65

    var version = Format.version
    var number: UInt64
    /// The sequence of the segment's first frame. Frames of the segments before it from here on are void.
    var firstSequence: UInt64
    var salt: UInt64

    init(number: UInt64, firstSequence: UInt64, salt: UInt64) {
        (self.number, self.firstSequence, self.salt) = (number, firstSequence, salt)
    }

    /// Reads a header; nil if there is none, or not a whole one.
    init?(_ bytes: RawSpan) {
        guard bytes.byteCount >= Format.segmentHeaderByteCount, bytes.integer(at: 0, UInt64.self) == Self.magic
        else { return nil }
        version = bytes.integer(at: 8, UInt32.self)
        number = bytes.integer(at: 16, UInt64.self)
        firstSequence = bytes.integer(at: 24, UInt64.self)
        salt = bytes.integer(at: 32, UInt64.self)
        guard (1...Format.sequenceLimit).contains(firstSequence),
            bytes.integer(at: 12, UInt32.self) == Self.checksum(bytes)
        else { return nil }
    }

    private static func checksum(_ bytes: RawSpan) -> UInt32 {
        let start = Format.checksum(0, bytes.extracting(0..<12))
        return Format.checksum(start, bytes.extracting(16..<Format.segmentHeaderByteCount))
    }

    /// The header as it is written.
    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        func add(_ integer: some FixedWidthInteger) {
            unsafe withUnsafeBytes(of: integer.littleEndian) { unsafe bytes.append(contentsOf: $0) }
        }
        add(Self.magic)
        add(version)
        add(UInt32(0))
        add(number)
        add(firstSequence)
        add(salt)
        let checksum = unsafe Self.checksum(bytes.span.bytes)
        for index in 0..<4 { bytes[12 + index] = UInt8(truncatingIfNeeded: checksum >> (8 * UInt32(index))) }
        return bytes
    }
}

/// What a frame says about itself.
struct FrameHeader: Equatable {
    /// How many bytes of payload follow.
    var payloadByteCount: Int
    var checksum: UInt32
    var sequence: UInt64
    /// The highest sequence that was on stable storage when the frame was written.
    var synced: UInt64

    /// How many bytes the frame has in all.
    var byteCount: Int { Format.frameHeaderByteCount + payloadByteCount }

    /// Reads the header at the start of `bytes`, which has room for one.
    init(_ bytes: RawSpan) {
        payloadByteCount = Int(bytes.integer(at: 0, UInt32.self))
        checksum = bytes.integer(at: 4, UInt32.self)
        sequence = bytes.integer(at: 8, UInt64.self)
        synced = bytes.integer(at: 16, UInt64.self)
    }

    /// The checksum that the frame should have.
    static func checksum(_ frame: RawSpan, start: UInt32) -> UInt32 {
        Format.checksum(Format.checksum(start, frame.extracting(0..<4)), frame.extracting(8..<frame.byteCount))
    }
}
