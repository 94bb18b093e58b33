// Reads one segment through a window, so that a log of any size needs a bounded amount of memory. Everything read from
// disk is checked before it is used.

import Glibc

/// Reads a segment file frame by frame.
@safe struct SegmentReader: ~Copyable {
    /// What lies at an offset.
    enum Found {
        /// A whole frame with the right checksum.
        case frame(FrameHeader)
        /// A length of zero, or too little room for a frame.
        case end
        /// Anything else. The text says what is wrong.
        case bad(String)
    }

    private static var blockByteCount: Int { 1 << 20 }
    /// The limit on the bytes of possible payloads that a search reads if frames' headers have no checksums. Reading as
    /// many takes some seconds.
    private static var uncheckedByteCountLimit: Int { 8 << 30 }

    let file: any DiskFile
    /// The format of the segment's frames.
    let format: FrameFormat
    /// The segment's size: that of the file when it was opened, or less.
    let byteCount: Int
    private var window: UnsafeMutableRawBufferPointer
    private var windowOffset = 0
    private var windowCount = 0

    /// Begins to read a file. Bytes beyond `limit` are not part of the segment.
    init(_ file: any DiskFile, _ format: FrameFormat, limit: Int = .max) throws(LogError) {
        (self.file, self.format) = (file, format)
        byteCount = try min(Self.byteCount(of: file), limit)
        unsafe window = .allocate(byteCount: min(max(byteCount, 1), Self.blockByteCount), alignment: 16)
    }

    deinit { unsafe window.deallocate() }

    /// The size of a file that can be a segment.
    static func byteCount(of file: any DiskFile) throws(LogError) -> Int {
        let byteCount = try file.byteCount()
        guard byteCount <= Format.largestSegmentByteCount else {
            throw LogError(.damaged, file: file.path, problem: "\(byteCount) bytes are too many for a segment")
        }
        return byteCount
    }

    /// Bytes of the file: at least `count`, and any more that the window already holds.
    ///
    /// - Precondition: the segment has `count` bytes at `offset`.
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
                throw LogError(
                    .failed, file: file.path, offset: offset + windowCount,
                    problem: "the file became shorter while it was read")
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
        return unsafe SegmentHeader(bytes.span.bytes.extracting(first: count))
    }

    /// Checks what lies at `offset`.
    mutating func frame(at offset: Int) throws(LogError) -> Found {
        guard byteCount - offset > Format.frameHeaderByteCount else { return .end }
        let format = format
        let header = FrameHeader(try view(at: offset, count: Format.frameHeaderByteCount), format)
        guard header.payloadByteCount > 0 else { return .end }
        guard header.isWhole || !format.hasHeaderChecksums else { return .bad("the header of a frame is damaged") }
        guard header.payloadByteCount <= Format.payloadLimit && header.byteCount <= byteCount - offset else {
            return .bad("a frame of \(header.byteCount) bytes does not fit here")
        }
        guard (1...Format.sequenceLimit).contains(header.sequence) else {
            return .bad("a frame has an impossible sequence")
        }
        let bytes = try view(at: offset, count: header.byteCount).extracting(first: header.byteCount)
        guard FrameHeader.checksum(bytes, format) == header.checksum else {
            return .bad("the checksum of a frame is wrong")
        }
        return .frame(header)
    }

    /// Whether an end mark at `offset` says that the frame with that sequence is in the next segment.
    mutating func isEndMark(at offset: Int, sequence: UInt64) throws(LogError) -> Bool {
        guard format.hasHeaderChecksums, byteCount - offset >= Format.endMarkByteCount else { return false }
        let format = format
        let header = FrameHeader(try view(at: offset, count: Format.endMarkByteCount), format)
        return header.payloadByteCount == 0 && header.isWhole && header.sequence == sequence
    }

    /// Searches for an intact frame at every offset from `start` on.
    ///
    /// - Parameters:
    ///   - start: the offset to begin at.
    ///   - sequences: the sequences that the frame may have.
    ///   - synced: the smallest `synced` that the frame's header may have.
    ///   - isContiguous: whether the first of the sequences belongs at `start`, and the others follow it. A frame has
    ///     at least 25 bytes. So a sequence that is too high for its distance from `start` then cannot be a frame's.
    /// - Returns: the first such frame; nil if there is none.
    /// - Throws: `LogError` if the file cannot be read. In segments of older versions, also if too many bytes look like
    ///   frames but are not.
    /// - Complexity: O(n) for n bytes; more in segments of older versions if payloads look like frames.
    mutating func search(
        from start: Int, sequences: Range<UInt64>, synced: UInt64 = 0, isContiguous: Bool = false
    ) throws(LogError) -> (offset: Int, header: FrameHeader)? {
        var budget = Self.uncheckedByteCountLimit
        var offset = start
        let base = isContiguous ? start : nil
        while let (place, header) = try candidate(from: offset, base: base, sequences, synced: synced) {
            if !header.isWhole {
                guard try mayEnd(header, at: place) else {
                    offset = place + 1
                    continue
                }
                budget -= header.byteCount
                guard budget > 0 else {
                    throw LogError(
                        .damaged, file: file.path, offset: place,
                        problem: "too many bytes here look like frames but are not")
                }
            }
            if case .frame = try frame(at: place) { return (place, header) }
            offset = place + 1
        }
        return nil
    }

    /// The next place whose header could be that of a frame with one of these sequences. If `base` is not nil, the
    /// frame with the first of them belongs there.
    private mutating func candidate(
        from start: Int, base: Int?, _ sequences: Range<UInt64>, synced: UInt64
    ) throws(LogError) -> (offset: Int, header: FrameHeader)? {
        let (size, format) = (byteCount, format)
        var position = start
        while size - position > Format.frameHeaderByteCount {
            let bytes = try view(at: position, count: Format.frameHeaderByteCount)
            var index = 0
            while bytes.byteCount - index >= Format.frameHeaderByteCount,
                size - position - index > Format.frameHeaderByteCount
            {
                let sequence = bytes.integer(at: index + 8, UInt64.self)
                guard sequences.contains(sequence),
                    sequence - sequences.lowerBound <= Self.distanceLimit(position + index, base)
                else {
                    index += 1
                    continue
                }
                let header = FrameHeader(bytes.extracting(droppingFirst: index), format)
                if header.payloadByteCount > 0, header.payloadByteCount <= Format.payloadLimit,
                    header.byteCount <= size - position - index, header.synced < sequence, header.synced >= synced,
                    header.isWhole || !format.hasHeaderChecksums
                {
                    return (position + index, header)
                }
                index += 1
            }
            position += index
        }
        return nil
    }

    /// Whether the next frame or nothing follows the possible frame of an older version at `offset`.
    private func mayEnd(_ header: FrameHeader, at offset: Int) throws(LogError) -> Bool {
        let end = offset + header.byteCount
        guard byteCount - end >= 16 else { return true }
        var next: (UInt64, UInt64) = (0, 0)
        var failure: LogError?
        _ = unsafe withUnsafeMutableBytes(of: &next) { bytes in
            do throws(LogError) {
                return unsafe try file.read(into: bytes, at: end)
            } catch {
                failure = error
                return 0
            }
        }
        if let failure { throw failure }
        return next.1 == (header.sequence + 1).littleEndian || next == (0, 0)
    }

    /// The largest number of frames that fit between `base` and an offset.
    private static func distanceLimit(_ offset: Int, _ base: Int?) -> UInt64 {
        guard let base else { return 1 << 32 }
        return UInt64(max(0, offset - base) / (Format.frameHeaderByteCount + 1))
    }

    /// The end of the last nonzero byte; `offset` if there is none at or after it.
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
