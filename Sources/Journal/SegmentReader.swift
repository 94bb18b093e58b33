// Reads one segment through a window, so that a log of any size is read in a bounded amount of memory, and nothing on disk
// is believed before it was checked.

import Glibc

/// A segment file that is read frame by frame.
@safe struct SegmentReader: ~Copyable {
    /// What lies at an offset.
    enum Found {
        /// A whole frame with the right checksum.
        case frame(FrameHeader)
        /// A length of zero, or too little room for a frame.
        case end
        /// Something else, in words.
        case bad(String)
    }

    private static var blockByteCount: Int { 1 << 20 }
    /// How far apart the sequences of neighbours can be; what is beyond is no frame. Not a limit of the format.
    private static var sequenceDistanceLimit: UInt64 { 1 << 32 }

    let file: any DiskFile
    /// The file's size when it was opened.
    let byteCount: Int
    private var window: UnsafeMutableRawBufferPointer
    private var windowOffset = 0
    private var windowCount = 0

    /// Begins to read a file.
    init(_ file: any DiskFile) throws(LogError) {
        self.file = file
        byteCount = try Self.byteCount(of: file)
        unsafe window = .allocate(byteCount: min(max(byteCount, 1), Self.blockByteCount), alignment: 16)
    }

    deinit { unsafe window.deallocate() }

    /// The size of a file that can be a segment.
    static func byteCount(of file: any DiskFile) throws(LogError) -> Int {
        let byteCount = try file.byteCount()
        guard byteCount <= Format.largestSegmentByteCount else {
            throw LogError(.damaged, file: file.path, problem: "no segment is as large as \(byteCount) bytes")
        }
        return byteCount
    }

    /// Bytes of the file; `count` of them at least, and then as many as happen to be there.
    ///
    /// - Precondition: there are as many in the file.
    @_lifetime(&self)
    mutating func view(at offset: Int, count: Int) throws(LogError) -> RawSpan {
        precondition(offset >= 0 && count >= 0 && count <= byteCount - offset, "reads beyond the segment")
        if offset < windowOffset || offset + count > windowOffset + windowCount {
            if unsafe count > window.count {
                unsafe window.deallocate()
                unsafe window = .allocate(byteCount: count, alignment: 16)
            }
            windowCount = 0
            windowOffset = offset
            let wanted = unsafe min(window.count, byteCount - offset)
            windowCount = unsafe try file.read(
                into: UnsafeMutableRawBufferPointer(rebasing: window[..<wanted]), at: offset)
            guard windowCount >= count else {
                throw LogError(.failed, file: file.path, offset: offset + windowCount, problem: "it became shorter")
            }
        }
        let bytes = unsafe RawSpan(
            _unsafeBytes: UnsafeRawBufferPointer(window)[offset - windowOffset..<windowCount])
        return unsafe _overrideLifetime(bytes, mutating: &self)
    }

    /// The header of the segment in a file; nil if it has none.
    static func header(of file: any DiskFile) throws(LogError) -> SegmentHeader? {
        var bytes = [UInt8](repeating: 0, count: Format.segmentHeaderByteCount)
        var failure: LogError?
        let count = unsafe bytes.withUnsafeMutableBytes { bytes in
            do throws(LogError) {
                return unsafe try file.read(into: bytes, at: 0)
            } catch {
                failure = error
                return 0
            }
        }
        if let failure { throw failure }
        return unsafe count == bytes.count ? SegmentHeader(bytes.span.bytes) : nil
    }

    private mutating func frameHeader(at offset: Int) throws(LogError) -> FrameHeader {
        FrameHeader(try view(at: offset, count: Format.frameHeaderByteCount))
    }

    /// What lies at `offset`, checked; the checksum is what the log's checksums start with.
    mutating func frame(at offset: Int, checksum: UInt32) throws(LogError) -> Found {
        guard byteCount - offset > Format.frameHeaderByteCount else { return .end }
        let header = try frameHeader(at: offset)
        guard header.payloadByteCount > 0 else { return .end }
        guard header.payloadByteCount <= Format.payloadLimit && header.byteCount <= byteCount - offset else {
            return .bad("a frame of \(header.byteCount) bytes does not fit here")
        }
        guard (1...Format.sequenceLimit).contains(header.sequence) else {
            return .bad("a frame has an impossible sequence")
        }
        let bytes = try view(at: offset, count: header.byteCount).extracting(first: header.byteCount)
        guard FrameHeader.checksum(bytes, start: checksum) == header.checksum else {
            return .bad("the checksum of a frame is wrong")
        }
        return .frame(header)
    }

    /// Searches for whole frames at and after `offset`, wherever they start, until `isWanted` says so.
    ///
    /// The frame's sequence must be `sequence` at least.
    ///
    /// - Complexity: O(n) for n bytes, unless the payloads were made to look like frames: then it gives up after a while,
    ///   with a `LogError`.
    mutating func search(
        from offset: Int, sequence: UInt64, checksum: UInt32, where isWanted: (FrameHeader) -> Bool
    ) throws(LogError) -> (offset: Int, header: FrameHeader)? {
        var offset = offset
        let size = byteCount
        var budget = 16 * size
        while size - offset > Format.frameHeaderByteCount {
            let header = try frameHeader(at: offset)
            if header.payloadByteCount == 0 && header.checksum == 0 {
                // Eight zeros. No frame starts with a length of zero: none at this byte, and none at the next four.
                offset += 5
                continue
            }
            guard
                header.payloadByteCount > 0 && header.byteCount <= size - offset && header.sequence >= sequence
                    && header.sequence - sequence < Self.sequenceDistanceLimit && header.synced < header.sequence
            else {
                offset += 1
                continue
            }
            budget -= header.byteCount
            guard budget > 0 else {
                throw LogError(
                    .damaged, file: file.path, offset: offset, problem: "too much here looks like frames and is none")
            }
            guard case .frame = try frame(at: offset, checksum: checksum) else {
                offset += 1
                continue
            }
            if isWanted(header) { return (offset, header) }
            offset += header.byteCount
        }
        return nil
    }

    /// Where the last byte that is not zero ends; `offset` if there is none at or after it.
    mutating func contentEnd(from offset: Int) throws(LogError) -> Int {
        var (position, end) = (offset, offset)
        while position < byteCount {
            let bytes = try view(at: position, count: 1)
            if let last = Self.lastNonzero(bytes) { end = position + last + 1 }
            position += bytes.byteCount
        }
        return end
    }

    private static func lastNonzero(_ bytes: RawSpan) -> Int? {
        var end = bytes.byteCount
        while end >= 8 && bytes.integer(at: end - 8, UInt64.self) == 0 { end -= 8 }
        while end > 0 && bytes.integer(at: end - 1, UInt8.self) == 0 { end -= 1 }
        return end > 0 ? end - 1 : nil
    }
}
