// Writes the log to files in a directory: appends frames to the last segment, prepares the next segment in time, and
// deletes old segments.
//
// A segment is filled with zeros and synced before it is needed. So the log notices a full disk while there is still
// room, and a commit changes no file's size. A segment gets its header when it becomes the current one, after
// everything before it has been synced. Each segment is twice as large as the one before, up to a limit, so a log with
// few writes stays small.
//
// After a failed write or sync, the fate of everything written since the last sync is unknown, and a later successful
// sync does not change that. So the log gives the segment up: all frames that are not safe go to a new segment. Its
// header says which frame is its first, and is written only when the frames from the old segment are safe in the new
// one. Recovery ignores those frames in the old segment. A second failure in one call is final.

import Glibc

/// The log as files in a directory. One thread may use it at a time.
final class DirectoryLogStore: LogStore {
    /// The segment that frames are appended to.
    private struct Tail {
        var file: any DiskFile
        var offset = Format.segmentHeaderByteCount
        var byteCount: Int
        /// Everything before this is safe.
        var syncedOffset = Format.segmentHeaderByteCount
        /// Frames before this are no longer in any batch. Frames after it can be written again from memory.
        var keptOffset = Format.segmentHeaderByteCount
        var keptSequence: UInt64
        var needsSync = false
        var isFailed = false
        /// Whether its format is an older version: nothing is written to it, not even an end mark.
        var isOlder = false

        /// What is left for frames, in bytes.
        var rest: Int { byteCount - Format.endMarkByteCount - offset }
    }

    /// The segment after the current one, as far as it has been filled with zeros.
    private struct Preparation {
        var file: (any DiskFile)?
        var filled = 0
        var synced = 0
        /// How many bytes of it can be used already, even while it is being made larger.
        var ready = 0
    }

    private static let zeros = [UInt8](repeating: 0, count: 1 << 20)
    /// How many bytes are filled between two syncs. A long sync would delay commits.
    private static let preparedByteCountPerSync = 4 << 20

    private let disk: any Disk
    private let segmentByteCount: Int
    private let smallSegmentByteCount: Int
    private let salt: UInt64
    private let format: FrameFormat
    private var current: Tail
    private var next = Preparation()
    private var directoryNeedsSync = false
    /// Where earlier segments get their end marks: after their frames, once the current segment's header is safe. There
    /// is more than one if no frame was ever safe in some of them.
    private var unmarked: [(file: any DiskFile, offset: Int)] = []
    /// All segments, oldest first; the last is the current one.
    private(set) var segments: [LogSegment]
    /// The sequence of the last frame that has been written.
    private(set) var writtenSequence: UInt64
    /// The sequence of the last frame on stable storage.
    private(set) var syncedSequence: UInt64
    /// How often ready space has been lost for a reason other than written frames.
    private(set) var lossCount = 0

    /// Continues where recovery has ended: removes what a crash left behind, and makes everything that was read safe.
    ///
    /// - Parameters:
    ///   - recovery: the log, which has been read completely.
    ///   - segmentByteCount: the size that segments grow to.
    ///   - smallSegmentByteCount: the size of the first segment, if that is smaller.
    /// - Throws: `LogError` if the disk does not work.
    init(
        _ recovery: LogRecovery, segmentByteCount: Int,
        smallSegmentByteCount: Int = LogConfiguration().smallSegmentByteCount
    ) throws(LogError) {
        let sizes = Format.smallestSegmentByteCount...Format.largestSegmentByteCount
        precondition(
            sizes.contains(segmentByteCount) && sizes.contains(smallSegmentByteCount), "no sensible segment size")
        precondition(recovery.isComplete, "recovery has not read all")
        disk = recovery.disk
        self.segmentByteCount = segmentByteCount
        self.smallSegmentByteCount = min(smallSegmentByteCount, segmentByteCount)
        // The first unused segment becomes the next one, and is filled with zeros again. The others are in the way.
        for segment in recovery.unused.dropFirst().reversed() {
            try disk.remove(segment.name)
            try disk.syncDirectory()
        }
        writtenSequence = recovery.report.lastSequence
        syncedSequence = writtenSequence
        if let last = recovery.segments.last, let header = last.header, let tail = recovery.tail {
            salt = header.salt
            let file = try disk.open(last.name, creating: false)
            current = Tail(
                file: file, offset: tail.offset, byteCount: last.byteCount, syncedOffset: tail.offset,
                keptOffset: tail.offset, keptSequence: syncedSequence, isOlder: header.version != Format.version)
            var next = header.firstSequence
            segments = recovery.segments.reversed().map { found in
                next = found.header?.firstSequence ?? next
                return LogSegment(number: found.number, firstSequence: next, byteCount: found.byteCount)
            }.reversed()
            format = FrameFormat(salt: salt)
            // Otherwise, a whole frame among the dropped bytes could reappear after a new frame that ends where it
            // begins.
            try DirectoryLogStore.fill(file, tail.offset..<tail.contentEnd)
            // If a sync has failed in another process, the kernel may hold bytes that it will never write.
            try DirectoryLogStore.rewrite(file, recovery.safeOffset..<tail.offset)
            try file.sync()
            try disk.syncDirectory()
            if current.isOlder {
                try startOver()
            } else {
                // The process may have crashed before the marks were written or synced.
                unmarked = try recovery.ends.map { end throws(LogError) in
                    (try recovery.disk.open(end.name, creating: false), end.offset)
                }
                markEnds()
            }
        } else {
            salt = disk.random()
            format = FrameFormat(salt: salt)
            let name = Format.segmentName(1)
            let file = try disk.open(name, creating: true)
            try DirectoryLogStore.fill(file, 0..<self.smallSegmentByteCount)
            try file.sync()
            try disk.syncDirectory()
            let header = SegmentHeader(
                number: 1, firstSequence: 1, salt: salt, segmentByteCount: self.smallSegmentByteCount)
            unsafe try file.write(header.bytes.span.bytes, at: 0)
            try file.sync()
            segments = [LogSegment(number: 1, firstSequence: 1, byteCount: self.smallSegmentByteCount)]
            current = Tail(file: file, byteCount: self.smallSegmentByteCount, keptSequence: 0)
        }
    }

    /// Fills a range of a file with zeros.
    static func fill(_ file: any DiskFile, _ range: Range<Int>) throws(LogError) {
        var offset = range.lowerBound
        while offset < range.upperBound {
            let count = min(zeros.count, range.upperBound - offset)
            unsafe try file.write(zeros.span.extracting(first: count).bytes, at: offset)
            offset += count
        }
    }

    private static func rewrite(_ file: any DiskFile, _ range: Range<Int>) throws(LogError) {
        var reader = try SegmentReader(file, FrameFormat(salt: 0))
        var offset = range.lowerBound
        while offset < range.upperBound {
            let bytes = try reader.view(at: offset, count: 1)
            let count = min(bytes.byteCount, range.upperBound - offset)
            try file.write(bytes.extracting(first: count), at: offset)
            offset += count
        }
    }

    private var currentNumber: UInt64 { segments.last?.number ?? 0 }

    /// The size of the next segment, unless a single frame needs more.
    private var regularByteCount: Int { min(segmentByteCount, max(smallSegmentByteCount, 2 * current.byteCount)) }

    /// The largest frame that fits into an empty segment of that size, in bytes.
    var regularFrameByteCount: Int { regularByteCount - Format.segmentOverheadByteCount }

    /// The space that is ready for frames.
    var room: Room {
        Room(
            segment: currentNumber, tail: current.isFailed ? 0 : max(0, current.rest),
            next: next.ready > 0 ? next.ready - Format.segmentOverheadByteCount : nil)
    }

    /// Whether a written frame is not safe yet.
    var needsSync: Bool { current.needsSync || current.isFailed }

    func freeByteCount() -> Int? { disk.freeByteCount() }

    // MARK: Writing

    /// Writes a batch, or the rest of it if an earlier call ran out of space. Makes it safe if `syncing` is true.
    ///
    /// - Throws: `LogError`. After the cause `noSpace`, call it again; after any other, the log cannot continue.
    func write(_ batch: Batch, syncing: Bool) throws(LogError) {
        precondition(batch.isEmpty || batch.firstSequence <= writtenSequence + 1, "a gap in the log")
        if batch.firstSequence == writtenSequence + 1 && !current.isFailed { keep() }
        try retryingOnce { () throws(LogError) in
            try writeFrames(batch)
            if syncing { try syncCurrent() }
        }
    }

    /// Makes everything that has been written safe.
    ///
    /// - Throws: like `write`.
    func sync() throws(LogError) {
        if !current.isFailed { keep() }
        try retryingOnce { () throws(LogError) in try syncCurrent() }
    }

    /// Continues in a new small segment; a prepared segment is made smaller.
    ///
    /// - Throws: like `write`. If there is no space, the log continues where it is.
    func startOver() throws(LogError) {
        lossCount += 1
        if !current.isFailed { keep() }
        try retryingOnce { () throws(LogError) in
            try shrinkNext(to: smallSegmentByteCount)
            try startSegment(byteCount: smallSegmentByteCount, upTo: smallSegmentByteCount)
        }
    }

    /// Notes that the frames written so far are no longer in any batch.
    private func keep() { (current.keptOffset, current.keptSequence) = (current.offset, writtenSequence) }

    private func retryingOnce(_ body: () throws(LogError) -> Void) throws(LogError) {
        do throws(LogError) {
            if current.isFailed { try failOver() }
            return try body()
        } catch  where error.cause == .noSpace && !current.isFailed {
            throw error
        } catch {}
        if current.isFailed { try failOver() }
        try body()
    }

    private func writeFrames(_ batch: Batch) throws(LogError) {
        var position = 0
        if !batch.isEmpty {
            for _ in batch.firstSequence..<writtenSequence + 1 { position += batch.frameByteCount(at: position) }
        }
        while position < batch.byteCount {
            var (end, last) = (position, writtenSequence)
            while end < batch.byteCount {
                let byteCount = batch.frameByteCount(at: end)
                guard byteCount <= current.rest - (end - position) else { break }
                batch.seal(at: end, synced: syncedSequence, format: format)
                end += byteCount
                last += 1
            }
            if end == position {
                let needed = Format.segmentOverheadByteCount + batch.frameByteCount(at: position)
                try startSegment(byteCount: needed, upTo: max(regularByteCount, needed))
                continue
            }
            current.needsSync = true
            do throws(LogError) {
                try current.file.write(batch.span(position..<end), at: current.offset)
            } catch {
                // A lack of space does not harm earlier frames, and the same bytes can be written there again.
                if error.cause != .noSpace { giveUpCurrent() }
                throw error
            }
            current.offset += end - position
            writtenSequence = last
            position = end
        }
    }

    private func syncCurrent() throws(LogError) {
        guard current.needsSync else { return }
        do throws(LogError) {
            try current.file.sync()
        } catch {
            giveUpCurrent()
            throw error
        }
        current.needsSync = false
        current.syncedOffset = current.offset
        syncedSequence = writtenSequence
        markEnds()
    }

    /// Writes the end marks of earlier segments, now that the current segment's header is safe. They reveal that the
    /// current segment existed if it is later lost. A failure to write them loses nothing.
    private func markEnds() {
        guard !unmarked.isEmpty, let sequence = segments.last?.firstSequence else { return }
        let mark = FrameHeader.endMark(sequence: sequence, format)
        for (file, offset) in unmarked { unsafe try? file.write(mark.span.bytes, at: offset) }
        unmarked = []
    }

    /// Notes that the current segment, which the log leaves, still needs an end mark at `offset`.
    private func leaveUnmarked(_ offset: Int) {
        if !current.isOlder { unmarked.append((current.file, offset)) }
    }

    private func giveUpCurrent() {
        current.isFailed = true
        lossCount += 1
    }

    /// Makes the next segment the current one. Everything before it is then safe.
    private func startSegment(byteCount: Int, upTo goal: Int) throws(LogError) {
        try syncCurrent()
        let file = try preparedSegment(byteCount: byteCount, upTo: goal)
        do throws(LogError) {
            unsafe try file.write(nextHeader(firstSequence: writtenSequence + 1).bytes.span.bytes, at: 0)
        } catch {
            // The header may or may not be on disk: give up this segment, and prepare the next one again.
            giveUpCurrent()
            giveUpNext()
            throw error
        }
        leaveUnmarked(current.offset)
        begin(file, firstSequence: writtenSequence + 1)
        current.needsSync = true
    }

    private func nextHeader(firstSequence: UInt64) -> SegmentHeader {
        SegmentHeader(
            number: currentNumber + 1, firstSequence: firstSequence, salt: salt, segmentByteCount: next.ready)
    }

    /// Makes the prepared segment, which has its header, the current one.
    private func begin(_ file: any DiskFile, firstSequence: UInt64) {
        current = Tail(file: file, byteCount: next.ready, keptSequence: writtenSequence)
        segments.append(LogSegment(number: currentNumber + 1, firstSequence: firstSequence, byteCount: next.ready))
        next = Preparation()
    }

    /// Continues in a new segment, beginning with the frames that are neither safe nor in a batch.
    private func failOver() throws(LogError) {
        let start = current.syncedOffset
        let end = max(start, current.keptOffset)
        let needed = Format.segmentOverheadByteCount + end - start
        let file = try preparedSegment(byteCount: needed, upTo: max(regularByteCount, needed))
        var sequence = syncedSequence
        do throws(LogError) {
            var reader = try SegmentReader(current.file, format)
            var offset = start
            while offset < end {
                guard case .frame(let frame) = try reader.frame(at: offset),
                    frame.sequence == sequence + 1
                else {
                    throw .damaged(
                        disk.path, Format.segmentName(currentNumber), offset: offset,
                        "frame \(sequence + 1) was written there and cannot be read again")
                }
                let bytes = try reader.view(at: offset, count: frame.byteCount).extracting(first: frame.byteCount)
                try file.write(bytes, at: Format.segmentHeaderByteCount + offset - start)
                offset += frame.byteCount
                sequence += 1
            }
            if end > start { try file.sync() }
            unsafe try file.write(nextHeader(firstSequence: syncedSequence + 1).bytes.span.bytes, at: 0)
            try file.sync()
        } catch {
            giveUpNext()
            throw error
        }
        lossCount += 1
        // Frames after `start` are void there. If none precede it, the unmarked segments before it lack the same frame.
        leaveUnmarked(start)
        begin(file, firstSequence: syncedSequence + 1)
        markEnds()
        (syncedSequence, writtenSequence) = (sequence, sequence)
        current.offset += end - start
        current.syncedOffset = current.offset
        keep()
    }

    // MARK: Space

    /// Fills more of the next segment with zeros.
    ///
    /// - Parameters:
    ///   - byteCount: how many bytes to fill.
    ///   - frameByteCount: the size of a frame that the segment must have room for.
    /// - Returns: whether the next segment is ready and has room for the frame.
    /// - Throws: `LogError`. It may always be called again.
    func prepare(byteCount: Int, for frameByteCount: Int = 0) throws(LogError) -> Bool {
        try prepare(byteCount: byteCount, upTo: max(regularByteCount, Format.segmentOverheadByteCount + frameByteCount))
    }

    private func prepare(byteCount: Int, upTo goal: Int) throws(LogError) -> Bool {
        guard next.ready < goal else { return true }
        var isSyncing = false
        do throws(LogError) {
            let file = try nextFile(upTo: goal)
            let end = max(next.filled, min(goal, next.filled + byteCount))
            try DirectoryLogStore.fill(file, next.filled..<end)
            next.filled = end
            guard end >= goal || end - next.synced >= Self.preparedByteCountPerSync else { return false }
            isSyncing = true
            try file.sync()
            next.synced = end
            guard end >= goal else { return false }
            try disk.syncDirectory()
            next.ready = end
            return true
        } catch {
            if isSyncing || error.cause != .noSpace {
                // The state of what was written is unknown.
                giveUpNext()
                throw error
            }
            // Give back what only a single large frame needed.
            try? shrinkNext(to: max(next.ready, regularByteCount))
            if try !useWhatIsFilled() { throw error }
            return next.ready >= goal
        }
    }

    /// Makes a next segment usable that is smaller than planned for lack of space. There may be no room for a larger
    /// one beside the current segment, and the changes that free the current segment must be written somewhere.
    ///
    /// - Returns: whether it has become usable.
    private func useWhatIsFilled() throws(LogError) -> Bool {
        guard next.ready == 0, next.filled >= smallSegmentByteCount, let file = next.file else { return false }
        do throws(LogError) {
            try file.sync()
            try disk.syncDirectory()
        } catch {
            giveUpNext()
            throw error
        }
        (next.synced, next.ready) = (next.filled, next.filled)
        return true
    }

    /// The file of the next segment. If a crash or a failure left one behind, it is cut to `goal`.
    private func nextFile(upTo goal: Int) throws(LogError) -> any DiskFile {
        if let file = next.file { return file }
        guard currentNumber < Format.lastSegmentNumber else {
            throw LogError(.failed, file: disk.path, problem: "no segment can have a higher number")
        }
        let file = try disk.open(Format.segmentName(currentNumber + 1), creating: true)
        if try file.byteCount() > goal {
            // If the header stayed, recovery would report the file as cut.
            try DirectoryLogStore.fill(file, 0..<Format.segmentHeaderByteCount)
            try file.sync()
            try file.truncate(to: goal)
        }
        next.file = file
        return file
    }

    private func shrinkNext(to byteCount: Int) throws(LogError) {
        guard let file = next.file else { return }
        do throws(LogError) {
            if try file.byteCount() > byteCount {
                if next.synced == 0 { try file.sync() }
                try file.truncate(to: byteCount)
            }
        } catch {
            giveUpNext()
            throw error
        }
        (next.filled, next.synced) = (min(next.filled, byteCount), min(next.synced, byteCount))
        next.ready = min(next.ready, byteCount)
    }

    /// Discards the next segment: it must be filled again from its start.
    private func giveUpNext() {
        next = Preparation()
        lossCount += 1
    }

    /// The next segment: as it is if at least `byteCount` is ready, otherwise enlarged to `goal`.
    private func preparedSegment(byteCount: Int, upTo goal: Int) throws(LogError) -> any DiskFile {
        while true {
            if next.ready >= byteCount, let file = next.file { return file }
            _ = try prepare(byteCount: 1 << 20, upTo: goal)
        }
    }

    /// Deletes the segments with lower numbers, oldest first, but never the current one. Makes everything that has been
    /// written safe first: it may be why those segments are no longer needed.
    ///
    /// - Throws: `LogError`. It may be called again, unless syncing has failed, which is like a failure of `write`.
    func deleteSegments(below number: UInt64) throws(LogError) {
        while needsDeletion(below: number) {
            // One at a time, so that a crash leaves no gap.
            if directoryNeedsSync {
                try disk.syncDirectory()
                directoryNeedsSync = false
                continue
            }
            if needsSync { try sync() }
            try secureSecondHeader()
            try disk.remove(Format.segmentName(segments[0].number))
            segments.removeFirst()
            directoryNeedsSync = true
        }
    }

    /// Makes sure that the segment that becomes the oldest has a header: without one, recovery reports it as damaged. A
    /// segment that was given up before anything in it was safe may have none.
    private func secureSecondHeader() throws(LogError) {
        guard segments.count > 2, segments[1].firstSequence == segments[2].firstSequence else { return }
        let segment = segments[1]
        let header = SegmentHeader(
            number: segment.number, firstSequence: segment.firstSequence, salt: salt,
            segmentByteCount: max(segment.byteCount, Format.segmentHeaderByteCount))
        let file = try disk.open(Format.segmentName(segment.number), creating: false)
        unsafe try file.write(header.bytes.span.bytes, at: 0)
        try file.sync()
    }

    /// Whether `deleteSegments` has anything to do.
    func needsDeletion(below number: UInt64) -> Bool {
        directoryNeedsSync || segments[0].number < min(number, currentNumber)
    }
}
