// Reads a log in a directory from its first frame to its last whole one, and tells the traces of a crash from damage.
//
// A crash can only harm what was not yet synced: the tail of the last segment, since a segment is synced before its
// successor gets a header. Any part of that tail may be missing. So the log ends at a bad frame there, with two
// exceptions that are damage: a whole frame after it says (`synced`) that the bad one had been safe, or the file is
// shorter than its header says (a file has its full size before it gets a header). A bad frame anywhere else is damage,
// unless the next segment begins with the same frame again: after a failed write, the log continues in a new segment
// with the first frame that was not safe.

import Glibc

/// A log in a directory that is being read. It belongs to one thread, and changes nothing on disk.
final class LogRecovery: LogReader {
    /// A file of the log.
    struct Found {
        var name: String
        var number: UInt64
        var byteCount: Int
        var header: SegmentHeader?
    }

    /// What recovery has found so far.
    private(set) var report = LogReport()
    /// The size of all segments together, in bytes.
    let totalByteCount: Int

    /// The directory.
    var location: String { disk.path }

    let disk: any Disk
    /// The segments in use. The last one has a header.
    let segments: [Found]
    /// Segments after the last one in use: prepared in advance, or given up. They hold no frames.
    let unused: [Found]
    /// The range from the last whole frame's end to the end of the bytes that a crash left.
    private(set) var tail: (offset: Int, contentEnd: Int)?
    /// Segments before the last one that should have an end mark, and the marks' offsets: after the segments' own
    /// frames.
    private(set) var ends: [(name: String, offset: Int)] = []
    /// Everything in the last segment before this offset is safe according to a later frame.
    private(set) var safeOffset = 0
    /// The sequence and the end of a frame in the segment being read, for `safeOffset` once a later frame says that it
    /// is safe.
    private var candidate: (sequence: UInt64, offset: Int)?
    private var index = 0
    /// Where the next frame begins in the segment; 0 before anything of the segment has been read.
    private var offset = 0
    /// The sequence of the next frame.
    private var expected: UInt64 = 1
    private var reader: SegmentReader?

    /// Opens and locks the log in a directory.
    ///
    /// - Parameters:
    ///   - directory: the directory's path.
    ///   - creating: whether to make the directory if it does not exist.
    ///   - lockWaitMilliseconds: how long to wait for another process to close the log.
    /// - Throws: `LogError`, also if segments are missing or have an unsupported version, which is found before any
    ///   frame is read.
    /// - Complexity: O(n) for n segments.
    convenience init(
        directory: String, creating: Bool = true, lockWaitMilliseconds: Int64 = 0
    ) throws(LogError) {
        try self.init(
            disk: FileSystemDisk(path: directory, creating ? .creating : .writing),
            lockWaitMilliseconds: lockWaitMilliseconds)
    }

    init(disk: any Disk, lockWaitMilliseconds: Int64 = 0) throws(LogError) {
        self.disk = disk
        try disk.lock(waitMilliseconds: lockWaitMilliseconds)
        var found: [Found] = []
        for name in try disk.names() {
            if let number = Format.segmentNumber(of: name) {
                found.append(Found(name: name, number: number, byteCount: 0))
            } else {
                report.foreignNames.append(name)
            }
        }
        found.sort { $0.number < $1.number }
        var last: SegmentHeader?
        var begun = 0
        for index in found.indices {
            let (name, number) = (found[index].name, found[index].number)
            if index > 0 && number != found[index - 1].number + 1 {
                let missing = Format.segmentName(found[index - 1].number + 1)
                throw .damaged(disk.path, missing, offset: nil, "it is missing, and \(name) is there")
            }
            let file = try disk.open(name, creating: false)
            found[index].byteCount = try SegmentReader.byteCount(of: file)
            guard let header = try SegmentReader.header(of: file) else { continue }
            // The rest of the file is left over from an earlier, larger one.
            if let size = header.segmentByteCount { found[index].byteCount = min(found[index].byteCount, size) }
            guard Format.oldestVersion...Format.version ~= header.version else {
                throw .unsupported(file.path, header.version)
            }
            if header.number != number {
                throw .damaged(disk.path, name, offset: 16, "it says that it is segment \(header.number)")
            }
            if let last, header.salt != last.salt || header.firstSequence < last.firstSequence {
                throw .damaged(disk.path, name, offset: 24, "it belongs to another log")
            }
            (found[index].header, last, begun) = (header, header, index + 1)
        }
        segments = Array(found[..<begun])
        unused = Array(found[begun...])
        totalByteCount = segments.reduce(0) { $0 + $1.byteCount }
        if let header = segments.lazy.compactMap(\.header).first {
            expected = header.firstSequence
            // Segments are deleted oldest first, and the next one always has a header. So only the log's very first
            // segment may come first without one.
            if let first = segments.first, first.header == nil, expected > 1 {
                throw damage(first, 0, "its header is damaged")
            }
        } else if let first = found.first {
            // A log's first segment gets its header before anything else happens, and later ones get theirs before the
            // first one is deleted.
            var reader = try SegmentReader(disk.open(first.name, creating: false), FrameFormat(salt: 0))
            let start = min(Format.segmentHeaderByteCount, reader.byteCount)
            guard found.count == 1 && first.number == 1, try reader.contentEnd(from: start) == start else {
                throw .damaged(disk.path, first.name, offset: 0, "its header is damaged")
            }
            let beginning = try reader.view(at: 0, count: start)
            guard SegmentHeader.mayHaveBegun(beginning.extracting(first: start)) else {
                throw .damaged(disk.path, first.name, offset: 0, "this is not a segment of a journal")
            }
        }
    }

    /// Continues to read.
    ///
    /// - Parameters:
    ///   - byteCount: how many bytes to read, plus at most one frame.
    ///   - visit: receives each payload, its sequence and its segment's number.
    /// - Returns: whether everything has been read.
    /// - Throws: `LogError` if the log is damaged or cannot be read, or if `visit` throws.
    func advance(
        byteCount: Int,
        visit: (_ payload: Span<UInt8>, _ sequence: UInt64, _ segment: UInt64) throws(PayloadError) -> Void
    ) throws(LogError) -> Bool {
        var remaining = byteCount
        while remaining > 0 && index < segments.count {
            let segment = segments[index]
            let next = segments[(index + 1)...].lazy.compactMap(\.header).first?.firstSequence
            guard let header = segment.header else {
                guard expected == next else { throw damage(segment, 0, "its header is damaged") }
                finishSegment()
                continue
            }
            if offset == 0 {
                guard header.firstSequence == expected else {
                    throw damage(segment, 24, "it begins with frame \(header.firstSequence), \(expected) is missing")
                }
                offset = header.byteCount
            }
            if reader == nil { reader = try self.reader(of: segment, FrameFormat(header)) }
            guard var reader = reader.take() else { return false }
            let start = offset
            var problem: String?
            while expected != next && problem == nil && offset - start < remaining {
                problem = try readFrame(of: segment, &reader, visit)
            }
            remaining -= max(1, offset - start)
            report.byteCount += offset - start
            if expected == next {
                let hasRoom = segment.byteCount - offset >= Format.endMarkByteCount
                if hasRoom, reader.format.hasHeaderChecksums, expected == segments.last?.header?.firstSequence {
                    ends.append((segment.name, offset))
                }
                finishSegment()
            } else if let problem {
                if next != nil {
                    // If nothing more is in this segment, the next frame was in a segment that has lost its header.
                    let following = segments[index + 1]
                    let isMarked = try reader.isEndMark(at: offset, sequence: expected)
                    let end = isMarked ? offset + Format.endMarkByteCount : offset
                    if following.header == nil, try reader.contentEnd(from: end) == end {
                        throw damage(following, 0, "its header is damaged")
                    }
                    throw damage(segment, offset, problem)
                }
                try readTail(of: segment, header, &reader, problem: problem)
                finishSegment()
            } else {
                self.reader = consume reader
            }
        }
        guard index == segments.count else { return false }
        report.lastSequence = expected - 1
        return true
    }

    /// Reads the next frame.
    ///
    /// - Returns: why there is none; nil if there is one.
    private func readFrame(
        of segment: Found, _ reader: inout SegmentReader,
        _ visit: (Span<UInt8>, UInt64, UInt64) throws(PayloadError) -> Void
    ) throws(LogError) -> String? {
        switch try reader.frame(at: offset) {
        case .frame(let header) where header.sequence == expected:
            let payload = try reader.view(at: offset, count: header.byteCount)
                .extracting(Format.frameHeaderByteCount..<header.byteCount)
            do throws(PayloadError) {
                try visit(Span(_bytes: payload), expected, segment.number)
            } catch  where error.isNewer {
                throw .newer(disk.path + "/" + segment.name, offset: offset, sequence: expected, error)
            } catch  where error.isShortage {
                throw .short(disk.path + "/" + segment.name, offset: offset, sequence: expected, error)
            } catch {
                throw damage(segment, offset, "frame \(expected) is invalid: \(error.problem)")
            }
            offset += header.byteCount
            if header.synced >= candidate?.sequence ?? expected {
                safeOffset = candidate?.offset ?? Format.plainSegmentHeaderByteCount
                candidate = (expected, offset)
            } else if candidate == nil {
                candidate = (expected, offset)
            }
            expected += 1
            report.frameCount += 1
            return nil
        case .frame(let header): return "frame \(header.sequence) is where \(expected) belongs"
        case .bad(let problem): return problem
        case .end: return "it ends before frame \(expected)"
        }
    }

    /// Decides whether a crash or damage ends the last segment.
    private func readTail(
        of segment: Found, _ header: SegmentHeader, _ reader: inout SegmentReader, problem: String
    ) throws(LogError) {
        if let byteCount = header.segmentByteCount, segment.byteCount < byteCount {
            throw damage(segment, offset, "\(problem), and the file was cut: it should have \(byteCount) bytes")
        }
        if try reader.isEndMark(at: offset, sequence: expected) {
            if let next = unused.first { throw damage(next, 0, "its header is damaged") }
            let next = Format.segmentName(segment.number + 1)
            throw .damaged(disk.path, next, offset: nil, "it is missing, and \(segment.name) shows that it existed")
        }
        let sequences = expected..<Format.sequenceLimit + 1
        let contentEnd = try reader.contentEnd(from: offset)
        if contentEnd > offset {
            let witness = try reader.search(from: offset, sequences: sequences, synced: expected, isContiguous: true)
            if let witness {
                throw damage(
                    segment, offset,
                    problem
                        + ", and frame \(witness.header.sequence) at byte \(witness.offset) shows that it was safe")
            }
        }
        // After a segment of an older version, the next one has that version or, if the log has continued, the current
        // one.
        let current = FrameFormat(salt: header.salt)
        for segment in unused {
            for format in reader.format == current ? [current] : [current, reader.format] {
                var reader = try self.reader(of: segment, format)
                let witness = try reader.search(from: 0, sequences: sequences, synced: expected, isContiguous: true)
                if witness != nil { throw damage(segment, 0, "its header is damaged") }
                if format == current { report.droppedByteCount += try reader.contentEnd(from: 0) }
            }
        }
        tail = (offset, contentEnd)
        report.droppedByteCount += contentEnd - offset
    }

    private func reader(of segment: Found, _ format: FrameFormat) throws(LogError) -> SegmentReader {
        try SegmentReader(disk.open(segment.name, creating: false), format, limit: segment.byteCount)
    }

    /// Makes the store that continues the log in this directory.
    func makeStore(_ configuration: LogConfiguration) throws(LogError) -> any LogStore {
        try DirectoryLogStore(
            self, segmentByteCount: configuration.segmentByteCount,
            smallSegmentByteCount: configuration.smallSegmentByteCount)
    }

    /// Whether everything has been read.
    var isComplete: Bool { index == segments.count }

    private func finishSegment() {
        // The frames' bytes have been counted already.
        let headerByteCount = segments[index].header?.byteCount ?? 0
        report.byteCount += segments[index].byteCount - max(0, offset - headerByteCount)
        index += 1
        offset = 0
        candidate = nil
        if !isComplete { safeOffset = 0 }
    }

    private func damage(_ segment: Found, _ offset: Int, _ problem: String) -> LogError {
        .damaged(disk.path, segment.name, offset: offset, problem)
    }
}
