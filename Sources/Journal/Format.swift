// The format of the log on disk: the headers of segments and frames, and the names of segments. All integers are little
// endian.
//
//     segment  magic u64, version u32, CRC-32C u32, number u64, first sequence u64, salt u64,
//              size u64, CRC-32C u32, then frames, then zeros
//     frame    payload length u32, CRC-32C u32, sequence u64, unsynced u32, CRC-32C u32, payload
//
// A length of zero ends a segment. Once the next segment has begun and its header is safe, an end mark follows the last
// frame: a frame's header with length zero and the next sequence. It reveals the loss of the last segment.
//
// The first checksum of a segment's header covers the other fields up to the salt; these are at the same place in every
// version. The second one covers the salt and the size.
//
// The second checksum of a frame covers the salt, then all fields of the header but the two checksums. The first one
// continues the second one with the payload. So a search for frames can check a header without reading the payload. The
// first checksum must not cover the bytes of the second one: a checksum over data and the data's checksum says nothing
// about the data. The salt is a random number that is chosen when the log is made. Without it, a payload that contains
// a copy of a frame could pass for a frame.
//
// In versions 2 and 3, a segment's header ends with the salt. A frame has `synced` u64 in place of `unsynced` and the
// second checksum. Its only checksum covers the salt, then all of the frame except the checksum itself.

import CLinux
import Glibc

/// Sizes and names.
enum Format {
    /// The version that is written, and the oldest version that can be read.
    static let version: UInt32 = 4
    static let oldestVersion: UInt32 = 2
    /// The first version in which a segment's header has the segment's size, and a frame's header has its own checksum.
    static let checkedVersion: UInt32 = 4
    static let segmentHeaderByteCount = 52
    /// The smallest size of a header, in any version.
    static let plainSegmentHeaderByteCount = 40
    static let frameHeaderByteCount = 24
    /// The size of an end mark: the header of a frame without a payload. It follows the last frame of a segment once
    /// the next segment has begun.
    static let endMarkByteCount = frameHeaderByteCount
    /// The bytes of a segment that frames cannot use.
    static let segmentOverheadByteCount = segmentHeaderByteCount + endMarkByteCount
    /// The largest size of a payload.
    static let payloadLimit = 256 << 20
    /// Sequences are from 1 to this.
    static let sequenceLimit: UInt64 = 1 << 62
    /// The smallest useful segment: a header and a few frames.
    static let smallestSegmentByteCount = 512
    /// No segment is larger.
    static let largestSegmentByteCount = 1 << 40

    /// The largest number a segment can have.
    static let lastSegmentNumber: UInt64 = 9_999_999_999

    /// The number of the segment in the file of that name; nil if it is not the name of a segment.
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

    /// Continues the checksum `previous` with `bytes`.
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
    /// The integer at `offset`. The bounds are checked.
    func integer<Integer: FixedWidthInteger & BitwiseCopyable>(at offset: Int, _ type: Integer.Type) -> Integer {
        unsafe Integer(littleEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: type))
    }
}

/// The header of a segment.
struct SegmentHeader: Equatable {
    /// "emq log\n"
    private static let magic: UInt64 = 0x0A67_6F6C_2071_6D65

    var version = Format.version
    var number: UInt64
    /// The sequence of the segment's first frame. In earlier segments, frames from this sequence on are void.
    var firstSequence: UInt64
    var salt: UInt64
    /// The size of the segment, which was set before the header was written. Nil in older versions.
    var segmentByteCount: Int?

    init(number: UInt64, firstSequence: UInt64, salt: UInt64, segmentByteCount: Int) {
        (self.number, self.firstSequence, self.salt) = (number, firstSequence, salt)
        self.segmentByteCount = segmentByteCount
    }

    /// Reads a header; nil if there is none, or if it is not intact.
    init?(_ bytes: RawSpan) {
        guard bytes.byteCount >= Format.plainSegmentHeaderByteCount, bytes.integer(at: 0, UInt64.self) == Self.magic
        else { return nil }
        version = bytes.integer(at: 8, UInt32.self)
        number = bytes.integer(at: 16, UInt64.self)
        firstSequence = bytes.integer(at: 24, UInt64.self)
        salt = bytes.integer(at: 32, UInt64.self)
        guard (1...Format.sequenceLimit).contains(firstSequence),
            bytes.integer(at: 12, UInt32.self) == Self.checksum(bytes)
        else { return nil }
        // Newer versions may have the size elsewhere.
        guard version == Format.checkedVersion else { return }
        guard bytes.byteCount >= Format.segmentHeaderByteCount,
            bytes.integer(at: 48, UInt32.self) == Self.sizeChecksum(bytes),
            let size = Int(exactly: bytes.integer(at: 40, UInt64.self)),
            (Format.segmentHeaderByteCount...Format.largestSegmentByteCount).contains(size)
        else { return nil }
        segmentByteCount = size
    }

    /// Whether a crash during the writing of a header may have left these bytes: each of the first eight is zero or
    /// that of the magic.
    static func mayHaveBegun(_ bytes: RawSpan) -> Bool {
        (0..<min(8, bytes.byteCount)).allSatisfy { index in
            let byte = bytes.integer(at: index, UInt8.self)
            return byte == 0 || byte == UInt8(truncatingIfNeeded: Self.magic >> (8 * index))
        }
    }

    /// The size of the header, in bytes, and so the offset of the first frame.
    var byteCount: Int {
        version < Format.checkedVersion ? Format.plainSegmentHeaderByteCount : Format.segmentHeaderByteCount
    }

    private static func checksum(_ bytes: RawSpan) -> UInt32 {
        let start = Format.checksum(0, bytes.extracting(0..<12))
        return Format.checksum(start, bytes.extracting(16..<Format.plainSegmentHeaderByteCount))
    }

    private static func sizeChecksum(_ bytes: RawSpan) -> UInt32 { Format.checksum(0, bytes.extracting(32..<48)) }

    /// The header's bytes on disk.
    ///
    /// - Precondition: headers of this version have the segment's size.
    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        func add(_ integer: some FixedWidthInteger) {
            unsafe withUnsafeBytes(of: integer.littleEndian) { unsafe bytes.append(contentsOf: $0) }
        }
        func set(_ checksum: UInt32, at offset: Int) {
            for index in 0..<4 { bytes[offset + index] = UInt8(truncatingIfNeeded: checksum >> (8 * UInt32(index))) }
        }
        add(Self.magic)
        add(version)
        add(UInt32(0))
        add(number)
        add(firstSequence)
        add(salt)
        add(UInt64(segmentByteCount ?? 0))
        add(UInt32(0))
        unsafe set(Self.checksum(bytes.span.bytes), at: 12)
        unsafe set(Self.sizeChecksum(bytes.span.bytes), at: 48)
        return bytes
    }
}

/// What distinguishes the frames of a log: the initial value of their checksums, and the layout of their headers.
struct FrameFormat: Equatable {
    /// What the checksums of the log's frames start with.
    let checksum: UInt32
    /// Whether the frames' headers have a checksum of their own.
    let hasHeaderChecksums: Bool

    init(salt: UInt64, version: UInt32 = Format.version) {
        checksum = Format.checksum(salt: salt)
        hasHeaderChecksums = version >= Format.checkedVersion
    }

    /// The format of the frames in the segment with this header.
    init(_ header: SegmentHeader) { self.init(salt: header.salt, version: header.version) }
}

/// The header of a frame.
struct FrameHeader: Equatable {
    /// The size of the payload that follows, in bytes.
    var payloadByteCount: Int
    var checksum: UInt32
    var sequence: UInt64
    /// The highest sequence that was on stable storage when the frame was written, or a lower one.
    var synced: UInt64
    /// Whether the header's checksum shows that it is intact.
    var isWhole: Bool

    /// The size of the whole frame, in bytes.
    var byteCount: Int { Format.frameHeaderByteCount + payloadByteCount }

    /// Reads the header at the start of `bytes`, which has room for one.
    init(_ bytes: RawSpan, _ format: FrameFormat) {
        payloadByteCount = Int(bytes.integer(at: 0, UInt32.self))
        checksum = bytes.integer(at: 4, UInt32.self)
        sequence = bytes.integer(at: 8, UInt64.self)
        if format.hasHeaderChecksums {
            let unsynced = bytes.integer(at: 16, UInt32.self)
            synced = unsynced == .max || UInt64(unsynced) > sequence ? 0 : sequence - UInt64(unsynced)
            isWhole = bytes.integer(at: 20, UInt32.self) == Self.headerChecksum(bytes, start: format.checksum)
        } else {
            synced = bytes.integer(at: 16, UInt64.self)
            isWhole = false
        }
    }

    /// The field `unsynced`: how far a frame's sequence is beyond the highest safe one; all ones if the number does not
    /// fit.
    static func unsynced(_ sequence: UInt64, synced: UInt64) -> UInt32 { UInt32(clamping: sequence - synced) }

    /// An end mark: it says that the frame with that sequence is in the next segment, which has begun.
    static func endMark(sequence: UInt64, _ format: FrameFormat) -> [UInt8] {
        var bytes: [UInt8] = []
        func add(_ integer: some FixedWidthInteger) {
            unsafe withUnsafeBytes(of: integer.littleEndian) { unsafe bytes.append(contentsOf: $0) }
        }
        add(UInt64(0))
        add(sequence)
        add(UInt32(1))
        add(UInt32(0))
        let checksum = unsafe headerChecksum(bytes.span.bytes, start: format.checksum)
        bytes.removeLast(4)
        add(checksum)
        return bytes
    }

    /// The checksum that the frame should have.
    static func checksum(_ frame: RawSpan, _ format: FrameFormat) -> UInt32 {
        guard format.hasHeaderChecksums else {
            let start = Format.checksum(format.checksum, frame.extracting(0..<4))
            return Format.checksum(start, frame.extracting(8..<frame.byteCount))
        }
        let start = headerChecksum(frame, start: format.checksum)
        return Format.checksum(start, frame.extracting(Format.frameHeaderByteCount..<frame.byteCount))
    }

    /// The checksum that the frame's header should have.
    static func headerChecksum(_ frame: RawSpan, start: UInt32) -> UInt32 {
        Format.checksum(Format.checksum(start, frame.extracting(0..<4)), frame.extracting(8..<20))
    }
}
