// Frames that wait to be written together, in the form in which they are written.

import Glibc

/// A growing buffer of whole frames with contiguous sequences. One thread may use it at a time.
@safe final class Batch {
    /// How much memory an emptied batch keeps, in bytes.
    private static let keptByteCount = 1 << 20

    private var bytes: UnsafeMutableRawBufferPointer
    /// The size of all frames, in bytes.
    private(set) var byteCount = 0
    /// The sequence of the first frame; meaningless while there is none.
    private(set) var firstSequence: UInt64 = 0
    /// How many frames there are.
    private(set) var frameCount = 0

    var isEmpty: Bool { byteCount == 0 }

    init() { unsafe bytes = .allocate(byteCount: 64 << 10, alignment: 16) }

    deinit { unsafe bytes.deallocate() }

    /// Adds a frame.
    ///
    /// - Precondition: the payload is not empty and not larger than the format allows, and the sequence is the next
    ///   one.
    func append(_ payload: Span<UInt8>, sequence: UInt64) {
        precondition(!payload.isEmpty && payload.count <= Format.payloadLimit, "no such payload can be written")
        precondition(isEmpty || sequence == firstSequence + UInt64(frameCount), "a gap in the log")
        let frame = Format.frameHeaderByteCount + payload.count
        if unsafe frame > bytes.count - byteCount {
            let larger = unsafe UnsafeMutableRawBufferPointer.allocate(
                byteCount: max(byteCount + frame, bytes.count * 2), alignment: 16)
            unsafe larger.copyMemory(from: UnsafeRawBufferPointer(bytes))
            unsafe bytes.deallocate()
            unsafe bytes = larger
        }
        if isEmpty { firstSequence = sequence }
        unsafe bytes.storeBytes(of: UInt32(payload.count).littleEndian, toByteOffset: byteCount, as: UInt32.self)
        unsafe bytes.storeBytes(of: sequence.littleEndian, toByteOffset: byteCount + 8, as: UInt64.self)
        unsafe payload.withUnsafeBytes {
            let start = byteCount + Format.frameHeaderByteCount
            unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[start..<start + payload.count]).copyMemory(from: $0)
        }
        byteCount += frame
        frameCount += 1
    }

    /// The size of the frame at `offset`, in bytes.
    func frameByteCount(at offset: Int) -> Int {
        Format.frameHeaderByteCount + Int(span(offset..<offset + 4).integer(at: 0, UInt32.self))
    }

    /// Completes the frame at `offset`: adds which frames are known to be safe, and the checksums.
    func seal(at offset: Int, synced: UInt64, format: FrameFormat) {
        let end = offset + frameByteCount(at: offset)
        precondition(end <= byteCount, "no frame is there")
        let sequence = span(offset..<end).integer(at: 8, UInt64.self)
        let unsynced = FrameHeader.unsynced(sequence, synced: synced)
        unsafe bytes.storeBytes(of: unsynced.littleEndian, toByteOffset: offset + 16, as: UInt32.self)
        let headerSum = FrameHeader.headerChecksum(span(offset..<end), start: format.checksum)
        unsafe bytes.storeBytes(of: headerSum.littleEndian, toByteOffset: offset + 20, as: UInt32.self)
        let sum = Format.checksum(headerSum, span(offset + Format.frameHeaderByteCount..<end))
        unsafe bytes.storeBytes(of: sum.littleEndian, toByteOffset: offset + 4, as: UInt32.self)
    }

    /// The bytes in a range.
    ///
    /// - Precondition: the range is within the frames.
    @_lifetime(borrow self)
    func span(_ range: Range<Int>) -> RawSpan {
        precondition(range.lowerBound >= 0 && range.upperBound <= byteCount, "reads beyond the batch")
        let span = unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(bytes)[range])
        return unsafe _overrideLifetime(span, borrowing: self)
    }

    /// Empties the batch, and frees the memory of a large one.
    func removeAll() {
        (byteCount, frameCount) = (0, 0)
        if unsafe bytes.count > Self.keptByteCount {
            unsafe bytes.deallocate()
            unsafe bytes = .allocate(byteCount: 64 << 10, alignment: 16)
        }
    }
}
