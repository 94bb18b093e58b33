// Writes the log: frames at the tail of the last segment, the next segment made ready in time, old segments deleted.
//
// A segment is filled with zeros and synced before it is needed, so a full disk is known of while there is still room, and a
// commit changes no file's size. It gets its header when its turn comes, after all before it was synced. Each is twice as
// large as the one before, up to a limit, so that a log that little is written to stays small.
//
// When a write or a sync fails, nothing is known of what was written since the last sync, and a later sync that succeeds
// says nothing about it either. So the segment is given up there: all frames that are not safe go to a new one, whose header
// says which is its first, and is written only when those that came from the old segment are safe. Recovery ignores them in
// the old segment. A second failure in one call is final.

import Glibc

/// The synchronous part of the log. One thread at a time.
final class DirectoryLogStore: LogStore {
    /// The segment that frames are added to.
    private struct Tail {
        var file: any DiskFile
        var offset = Format.segmentHeaderByteCount
        var byteCount: Int
        /// Everything before this is safe.
        var syncedOffset = Format.segmentHeaderByteCount
        /// Frames before this are in no batch any more; what is behind it can be written again from memory.
        var keptOffset = Format.segmentHeaderByteCount
        var keptSequence: UInt64
        var needsSync = false
        var isFailed = false
        /// Whether it is of an older version: nothing is written to it, an end mark included.
        var isOlder = false

        /// What is left for frames, in bytes.
        var rest: Int { byteCount - Format.endMarkByteCount - offset }
    }

    /// The segment after the current one, as far as it has been filled with zeros.
    private struct Preparation {
        var file: (any DiskFile)?
        var filled = 0
        var synced = 0
        /// How much of it can be used already, also while it is made larger.
        var ready = 0
    }

    private static let zeros = [UInt8](repeating: 0, count: 1 << 20)
    /// How much is filled between two syncs: a long one would make commits wait.
    private static let preparedByteCountPerSync = 4 << 20

    private let disk: any Disk
    private let segmentByteCount: Int
    private let smallSegmentByteCount: Int
    private let salt: UInt64
    private let format: FrameFormat
    private var current: Tail
    private var next = Preparation()
    private var directoryNeedsSync = false
    /// Where segments in front of the current one are to say that the log goes on: behind their frames, as soon as the current
    /// one is sure to have its header. More than one if nothing was ever safe in some of them.
    private var unmarked: [(file: any DiskFile, offset: Int)] = []
    /// All segments, oldest first; the last is the current one.
    private(set) var segments: [LogSegment]
    /// The last frame that was written.
    private(set) var writtenSequence: UInt64
    /// The last frame that is on stable storage.
    private(set) var syncedSequence: UInt64
    /// How often room that was ready has become less in another way than by the frames that were written.
    private(set) var lossCount = 0

    /// Goes on where recovery has ended: removes what a crash left behind, and makes all that was read safe.
    ///
    /// - Parameters:
    ///   - recovery: The log; all of it has been read.
    ///   - segmentByteCount: What segments grow to.
    ///   - smallSegmentByteCount: What they begin with, if it is less.
    /// - Throws: `LogError` when the disk does not work.
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
        // One that is unused is filled with zeros again; others would only confuse.
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
            // A whole frame among what is dropped would otherwise come back behind a new frame that ends where it begins.
            try DirectoryLogStore.fill(file, tail.offset..<tail.contentEnd)
            // After a sync that failed in another process the kernel may hold what it will not write any more.
            try DirectoryLogStore.rewrite(file, recovery.safeOffset..<tail.offset)
            try file.sync()
            try disk.syncDirectory()
            if current.isOlder {
                try startOver()
            } else {
                // A crash may have come before they were marked, or before the mark was on disk.
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

    private static func fill(_ file: any DiskFile, _ range: Range<Int>) throws(LogError) {
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

    /// The largest frame that fits into a next segment of that size, in bytes.
    var regularFrameByteCount: Int { regularByteCount - Format.segmentOverheadByteCount }

    /// The space that is ready.
    var room: Room {
        Room(
            segment: currentNumber, tail: current.isFailed ? 0 : max(0, current.rest),
            next: next.ready > 0 ? next.ready - Format.segmentOverheadByteCount : nil)
    }

    /// Whether something written is not safe yet.
    var needsSync: Bool { current.needsSync || current.isFailed }

    // MARK: Writing

    /// Writes a batch, or what is left of it if it was begun before and failed for lack of space; and makes it safe if
    /// `syncing` says so.
    ///
    /// - Throws: `LogError`: with the cause `noSpace` the call may be made again; else the log cannot go on.
    func write(_ batch: Batch, syncing: Bool) throws(LogError) {
        precondition(batch.isEmpty || batch.firstSequence <= writtenSequence + 1, "a gap in the log")
        if batch.firstSequence == writtenSequence + 1 && !current.isFailed { keep() }
        try retryingOnce { () throws(LogError) in
            try writeFrames(batch)
            if syncing { try syncCurrent() }
        }
    }

    /// Makes everything that was written safe.
    ///
    /// - Throws: as `write`.
    func sync() throws(LogError) {
        if !current.isFailed { keep() }
        try retryingOnce { () throws(LogError) in try syncCurrent() }
    }

    /// Goes on in a new small segment; one that was prepared is made smaller.
    ///
    /// - Throws: as `write`. Without space for it, the log goes on where it is.
    func startOver() throws(LogError) {
        lossCount += 1
        if !current.isFailed { keep() }
        try retryingOnce { () throws(LogError) in
            try shrinkNext(to: smallSegmentByteCount)
            try startSegment(byteCount: smallSegmentByteCount, upTo: smallSegmentByteCount)
        }
    }

    /// What is written so far will not be given again.
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
                // Without space nothing that was there is in doubt, and the same bytes may be written there again.
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

    /// Has the segments before the current one say that the log goes on, now that the current one is sure to have its header.
    /// It is of use to whoever destroys that; without it nothing is lost.
    private func markEnds() {
        guard !unmarked.isEmpty, let sequence = segments.last?.firstSequence else { return }
        let mark = FrameHeader.endMark(sequence: sequence, format)
        for (file, offset) in unmarked { unsafe try? file.write(mark.span.bytes, at: offset) }
        unmarked = []
    }

    /// Notes that the current segment, which is to be left, does not say yet that the log goes on after `offset`.
    private func leaveUnmarked(_ offset: Int) {
        if !current.isOlder { unmarked.append((current.file, offset)) }
    }

    private func giveUpCurrent() {
        current.isFailed = true
        lossCount += 1
    }

    /// Makes the next segment the current one. All before it is safe then.
    private func startSegment(byteCount: Int, upTo goal: Int) throws(LogError) {
        try syncCurrent()
        let file = try preparedSegment(byteCount: byteCount, upTo: goal)
        do throws(LogError) {
            unsafe try file.write(nextHeader(firstSequence: writtenSequence + 1).bytes.span.bytes, at: 0)
        } catch {
            // The header may be there or not: nothing more goes to this segment, and the next one is made anew.
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

    /// Takes the prepared segment, which has got its header, as the current one.
    private func begin(_ file: any DiskFile, firstSequence: UInt64) {
        current = Tail(file: file, byteCount: next.ready, keptSequence: writtenSequence)
        segments.append(LogSegment(number: currentNumber + 1, firstSequence: firstSequence, byteCount: next.ready))
        next = Preparation()
    }

    /// Goes on in a new segment with all that is not safe and in no batch.
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
        // What is behind that is void. If nothing is before it, those that are unmarked lack the same frame.
        leaveUnmarked(start)
        begin(file, firstSequence: syncedSequence + 1)
        markEnds()
        (syncedSequence, writtenSequence) = (sequence, sequence)
        current.offset += end - start
        current.syncedOffset = current.offset
        keep()
    }

    // MARK: Space

    /// Fills some more of the next segment with zeros.
    ///
    /// - Parameters:
    ///   - byteCount: How many bytes to fill.
    ///   - frameByteCount: A frame that it must have room for.
    /// - Returns: whether the next segment is ready, with room for the frame.
    /// - Throws: `LogError`; it can be tried again.
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
                // Nothing is known of what was written.
                giveUpNext()
                throw error
            }
            // What a single frame would have needed is of no use to others.
            try? shrinkNext(to: max(next.ready, regularByteCount))
            if try !useWhatIsFilled() { throw error }
            return next.ready >= goal
        }
    }

    /// Has a next segment used that could not be made as large as it was to be, for lack of space: it may be all there is
    /// room for beside the current one, and what frees the current one has to be written somewhere.
    ///
    /// - Returns: whether it can be used now, and could not before.
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

    /// The file of the next segment. What a crash or a failure left behind in it is not longer than `goal`.
    private func nextFile(upTo goal: Int) throws(LogError) -> any DiskFile {
        if let file = next.file { return file }
        guard currentNumber < Format.lastSegmentNumber else {
            throw LogError(.failed, file: disk.path, problem: "no segment can have a higher number")
        }
        let file = try disk.open(Format.segmentName(currentNumber + 1), creating: true)
        if try file.byteCount() > goal {
            // With a header, it would have been cut.
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

    /// Has the next segment filled anew from its start.
    private func giveUpNext() {
        next = Preparation()
        lossCount += 1
    }

    /// The next segment: as large as is ready if that is enough, else `goal`.
    private func preparedSegment(byteCount: Int, upTo goal: Int) throws(LogError) -> any DiskFile {
        while true {
            if next.ready >= byteCount, let file = next.file { return file }
            _ = try prepare(byteCount: 1 << 20, upTo: goal)
        }
    }

    /// Deletes the segments with lower numbers, oldest first; never the current one. What was written is made safe before,
    /// since it may be what the deleted segments are not needed for any more.
    ///
    /// - Throws: `LogError`; it can be tried again. A failure of `sync` is as `write`'s.
    func deleteSegments(below number: UInt64) throws(LogError) {
        while needsDeletion(below: number) {
            // One after the other, so that a crash leaves no gap.
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

    /// Makes sure that the segment which is to be the oldest has a header. One that was given up before anything in it was safe
    /// may have none, and without one the oldest would be damaged.
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
