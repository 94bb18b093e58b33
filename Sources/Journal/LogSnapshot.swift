// The segments of a log at one moment, while a server may go on writing it.
//
// A server appends frames to the last segment that has a header, begins new segments, and deletes the oldest. Nothing
// else changes. So the frames from the first segment to any later frame are the log as it was at some moment, if that
// frame is not older than the last deletion: the server deletes a segment only when the frames that make it unnecessary
// are safe. A snapshot has all of these frames, because it opens the segments first and reads them afterwards:
//
// - It opens all segments from the oldest to the newest. If one of them is deleted in between, it begins again. A
//   segment that is open can be read to its end, even when it is deleted. So the first segment is the one with which
//   the log began after the listing.
// - Then it reads their headers, from the newest to the oldest, because segments get their headers in the order of
//   their numbers. What was safe before is in segments that have a header now.
// - The last segment with a header is read frame by frame, up to its end at the time of reading. The others are
//   complete.
// - After a failed write or sync, a server moves the frames that are not safe from the last segment to a new one, and
//   may overwrite the first of them with an end mark. So the end of the last segment is looked for at once. If it has
//   an end mark, the snapshot begins again; if the copy later lacks a frame that was there, it fails.

import Bytes

/// The segments of a log that another process may be writing. It locks nothing, and changes nothing.
struct LogSnapshot {
    /// An open file of the log.
    struct Segment {
        let name: String
        let number: UInt64
        let file: any DiskFile
        /// Nil if the segment was given up before anything in it was safe.
        let header: SegmentHeader?
    }

    /// How often to begin again when segments are deleted while they are opened.
    private static let attemptsLimit = 50

    let disk: any Disk
    /// The segments in use, oldest first. The first and the last one have a header.
    let segments: [Segment]
    /// The sequence of the last frame, as far as that was known when the segments were opened.
    private let lastSequence: UInt64

    /// Opens the segments in use.
    ///
    /// - Throws: `LogError` if there is no log, if it cannot be read, or if its version is not supported.
    /// - Complexity: O(n) for n segments, which are all open at once, and O(m) for m bytes in the last one.
    init(_ disk: any Disk) throws(LogError) {
        self.disk = disk
        var obstacle = LogError.absent(disk.path)
        for _ in 0..<Self.attemptsLimit {
            let (files, gap) = try Self.open(disk)
            if let gap {
                let name = Format.segmentName(gap)
                obstacle = .damaged(disk.path, name, offset: nil, "it is missing, and later ones are there")
                continue
            }
            let segments = try Self.segments(in: files)
            guard let first = segments.first, let last = segments.last, let header = last.header else { break }
            guard first.header != nil else {
                throw .damaged(disk.path, first.name, offset: 0, "its header is damaged")
            }
            let (sequence, isEnded) = try Self.lastSequence(of: last, header)
            if !isEnded {
                (self.segments, lastSequence) = (segments, sequence)
                return
            }
            // The next segment has begun since its header was read; or its header is lost.
            let next = Format.segmentName(last.number + 1)
            let isThere = files.contains { $0.number == last.number + 1 }
            obstacle = .damaged(
                disk.path, next, offset: isThere ? 0 : nil,
                isThere ? "its header is damaged" : "it is missing, and \(last.name) shows that it existed")
        }
        throw obstacle
    }

    /// Reads the headers, from the newest segment to the oldest.
    ///
    /// - Returns: the segments up to the last one that has a header.
    private static func segments(in files: [(number: UInt64, file: any DiskFile)]) throws(LogError) -> [Segment] {
        var segments: [Segment] = []
        for (number, file) in files.reversed() {
            let header = try SegmentReader.header(of: file)
            if let header, !(Format.oldestVersion...Format.version ~= header.version) {
                throw .unsupported(file.path, header.version)
            }
            // A segment that is only prepared holds no frames.
            if header == nil, segments.isEmpty { continue }
            segments.append(Segment(name: Format.segmentName(number), number: number, file: file, header: header))
        }
        return segments.reversed()
    }

    /// Reads all frames of the last segment.
    ///
    /// - Returns: the last one's sequence, and whether an end mark follows it.
    private static func lastSequence(
        of segment: Segment, _ header: SegmentHeader
    ) throws(LogError) -> (sequence: UInt64, isEnded: Bool) {
        var reader = try SegmentReader(segment.file, FrameFormat(header), limit: header.segmentByteCount ?? .max)
        var (offset, sequence) = (header.byteCount, header.firstSequence)
        while case .frame(let frame) = try reader.frame(at: offset), frame.sequence == sequence {
            offset += frame.byteCount
            sequence += 1
        }
        return (sequence - 1, try reader.isEndMark(at: offset, sequence: sequence))
    }

    /// Opens all segments.
    ///
    /// - Returns: the files, oldest first; or a missing segment between two others, which may have been deleted just
    ///   now.
    private static func open(
        _ disk: any Disk
    ) throws(LogError) -> (files: [(number: UInt64, file: any DiskFile)], gap: UInt64?) {
        var files: [(number: UInt64, file: any DiskFile)] = []
        for number in try disk.names().compactMap(Format.segmentNumber).sorted() {
            if let last = files.last, number != last.number + 1 { return (files, last.number + 1) }
            let name = Format.segmentName(number)
            do throws(LogError) {
                files.append((number, try disk.open(name, creating: false)))
            } catch {
                if try disk.names().contains(name) { throw error }
                return (files, number)
            }
        }
        return (files, nil)
    }

    // MARK: Copying

    /// Writes the segments to an empty directory, and makes them survive a crash.
    ///
    /// - Throws: `LogError`, also if a frame is missing. What has been written is then not a log.
    /// - Complexity: O(n) for n bytes.
    func copy(to target: any Disk) throws(LogError) -> LogMaintenance.CopyReport {
        var report = LogMaintenance.CopyReport()
        var sequence = segments.first?.header?.firstSequence ?? 1
        for (index, segment) in segments.enumerated() {
            let end = segments[(index + 1)...].lazy.compactMap(\.header).first?.firstSequence
            let output = try target.open(segment.name, creating: true)
            if let header = segment.header {
                guard header.number == segment.number, header.firstSequence == sequence else {
                    throw damage(segment, 16, "its header does not belong here")
                }
                var copying = SegmentCopying(snapshot: self, segment, header, output)
                try copying.run(before: end)
                report.frameCount += Int(clamping: copying.sequence - sequence)
                report.byteCount += copying.offset
                sequence = copying.sequence
            } else if sequence != end {
                throw damage(segment, 0, "its header is damaged")
            }
            try output.sync()
        }
        guard sequence > lastSequence else {
            throw LogError(
                .failed, file: disk.path,
                problem: "a write of the server has failed, and it has moved frames to another segment meanwhile",
                remedy: "try again")
        }
        try target.syncDirectory()
        report.segmentCount = segments.count
        return report
    }

    fileprivate func damage(_ segment: Segment, _ offset: Int, _ problem: String) -> LogError {
        .damaged(disk.path, segment.name, offset: offset, problem)
    }

    /// Whether frames up to `sequence` must be in the last segment, because a later one has begun.
    fileprivate func hasSuccessor(_ segment: Segment, after sequence: UInt64) throws(LogError) -> Bool {
        let name = Format.segmentName(segment.number + 1)
        guard try disk.names().contains(name) else { return false }
        // It may have been deleted just now.
        guard let file = try? disk.open(name, creating: false), let header = try SegmentReader.header(of: file) else {
            return false
        }
        return header.salt == segment.header?.salt && header.firstSequence > sequence
    }
}

/// Copies the frames of one segment.
private struct SegmentCopying {
    private static let blockByteCount = 1 << 20

    private let snapshot: LogSnapshot
    private let segment: LogSnapshot.Segment
    private let header: SegmentHeader
    private let output: any DiskFile
    /// What has been copied: its end, in bytes.
    private(set) var offset: Int
    /// The sequence of the next frame.
    private(set) var sequence: UInt64
    /// Checked bytes that are not written yet.
    private var block: [UInt8] = []

    init(snapshot: LogSnapshot, _ segment: LogSnapshot.Segment, _ header: SegmentHeader, _ output: any DiskFile) {
        (self.snapshot, self.segment, self.header, self.output) = (snapshot, segment, header, output)
        (offset, sequence) = (0, header.firstSequence)
    }

    /// Copies the header and all whole frames up to the first that is not there. Fills the rest with zeros, so that the
    /// file has the size that its header says.
    ///
    /// - Parameter end: the first sequence of the next segment; nil in the last one.
    /// - Throws: `LogError`, also if a frame is missing.
    mutating func run(before end: UInt64?) throws(LogError) {
        var reader = try makeReader()
        let byteCount = reader.byteCount
        try append(reader.view(at: 0, count: header.byteCount).extracting(first: header.byteCount))
        // A frame that was there before it was read for the last time.
        var owed: UInt64?
        while true {
            let problem = try copyFrames(&reader, before: end)
            guard sequence != end else { break }
            if end != nil || owed == sequence { throw snapshot.damage(segment, offset, problem) }
            // The log ends here, or the server was just writing the frame: then it is there the next time.
            guard try isFrameDue() else { break }
            owed = sequence
            // The old reader would show what it has read in advance.
            reader = try makeReader()
        }
        try flush()
        try DirectoryLogStore.fill(output, offset..<byteCount)
        if let end, reader.format.hasHeaderChecksums, byteCount - offset >= Format.endMarkByteCount {
            unsafe try output.write(FrameHeader.endMark(sequence: end, reader.format).span.bytes, at: offset)
        }
    }

    private func makeReader() throws(LogError) -> SegmentReader {
        try SegmentReader(segment.file, FrameFormat(header), limit: header.segmentByteCount ?? .max)
    }

    /// Copies whole frames.
    ///
    /// - Returns: why there is no further one.
    private mutating func copyFrames(_ reader: inout SegmentReader, before end: UInt64?) throws(LogError) -> String {
        while sequence != end {
            switch try reader.frame(at: offset) {
            case .frame(let frame) where frame.sequence == sequence:
                try append(reader.view(at: offset, count: frame.byteCount).extracting(first: frame.byteCount))
                sequence += 1
            case .frame(let frame): return "frame \(frame.sequence) is where \(sequence) belongs"
            case .bad(let problem): return problem
            case .end: return "it ends before frame \(sequence)"
            }
        }
        return ""
    }

    /// Whether something says that the next frame of the last segment has been written: a later frame, or a later
    /// segment.
    private func isFrameDue() throws(LogError) -> Bool {
        var reader = try makeReader()
        let later = try reader.search(
            from: offset, sequences: sequence..<Format.sequenceLimit + 1, synced: sequence, isContiguous: true)
        if later != nil { return true }
        return try snapshot.hasSuccessor(segment, after: sequence)
    }

    private mutating func append(_ bytes: RawSpan) throws(LogError) {
        offset += bytes.byteCount
        block.append(Span(_bytes: bytes))
        if block.count >= Self.blockByteCount { try flush() }
    }

    private mutating func flush() throws(LogError) {
        unsafe try output.write(block.span.bytes, at: offset - block.count)
        block.removeAll(keepingCapacity: true)
    }
}
