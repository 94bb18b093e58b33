// The event loop's side of the log. Appending copies into memory; the loop learns later what has become durable.

import Bytes
import Glibc

/// An append-only log of payloads that survive a crash. It belongs to one thread, and waits for the disk only in `init`
/// and `close`.
///
/// Frames are gathered until `commit`, which hands them to a helper thread as one batch (group commit). When the batch
/// is written, the descriptor becomes readable, and `collect` raises `durableSequence`. Frames that are committed
/// meanwhile form the next batch.
final class Log {
    /// Why the log refuses a payload.
    enum Refusal: Error, Sendable, Equatable {
        /// Too much is under way, or space is being made. Try again after the next `collect`.
        case busy
        /// The disk is full or fails; see `problem`. There may still be space for smaller payloads. Try again after the
        /// next `collect`.
        case noSpace
        /// The payload is empty, or larger than 256 MiB.
        case unsupportedByteCount
    }

    private let configuration: LogConfiguration
    private let helper: LogHelper
    private var gathering = Batch()
    private var spare: Batch? = Batch()
    private var underWay: Batch?
    private var commitsNext = false
    private var isClosed = false
    private var isStartingOver = false
    /// The space that is ready on disk for frames that have not been appended yet.
    private var room: Room
    /// The store's `lossCount` that `room` takes into account.
    private var lossCount: Int

    /// The sequence of the last appended payload; 0 if there has never been one.
    private(set) var lastSequence: UInt64
    /// Payloads up to this sequence are durable, as the sync mode defines it. Never decreases.
    private(set) var durableSequence: UInt64
    /// Payloads up to this sequence survive a power cut.
    private(set) var syncedSequence: UInt64
    /// The segments, oldest first. A durable frame is in the last segment whose first sequence is not greater than the
    /// frame's. Until the frame is synced, it may still move to another segment.
    private(set) var segments: [LogSegment]
    /// Why the helper cannot write, make space or delete old segments; nil if it can. It retries every second.
    private(set) var problem: LogError?
    /// How long syncs took, in microseconds. With the sync mode `always`, that includes writing a batch.
    private(set) var syncMicroseconds = Histogram()
    private(set) var longestSync = RecentMaximum()
    /// How much space was left at the last look, in bytes; nil if that is unknown.
    private(set) var freeByteCount: Int?

    /// Becomes readable when there is something to collect.
    var descriptor: Int32 { helper.descriptor }

    /// The size of the frames that are appended and not yet durable, in bytes.
    var pendingByteCount: Int { gathering.byteCount + (underWay?.byteCount ?? 0) }

    /// The size of the segments, in bytes, without the one that is prepared in advance.
    var byteCount: Int { segments.reduce(0) { $0 + $1.byteCount } }

    /// Opens the log for writing after its last whole frame. Waits for the disk.
    ///
    /// - Precondition: `reader` has read everything.
    /// - Throws: `LogError` if the disk does not work, or is full before there is a first segment.
    init(_ reader: any LogReader, configuration: LogConfiguration = LogConfiguration()) throws(LogError) {
        let store = try reader.makeStore(configuration)
        self.configuration = configuration
        lastSequence = store.writtenSequence
        durableSequence = store.writtenSequence
        syncedSequence = store.syncedSequence
        segments = store.segments
        (room, lossCount) = (store.room, store.lossCount)
        helper = try LogHelper(store, configuration)
        freeByteCount = helper.update(wakingHelper: false) { $0.freeByteCount }
    }

    /// Asks the helper to look how much space is left, when it has nothing else to do.
    func lookForSpace() { helper.update { $0.looksForSpace = true } }

    deinit { if !isClosed { helper.end() } }

    // MARK: Appending

    /// Whether the log would take a payload of this size now. Ask before you make a change that is logged afterwards.
    ///
    /// - Parameters:
    ///   - payloadByteCount: the payload's size, in bytes.
    ///   - usingReserve: whether it may use the reserve. Changes that make room later should.
    ///   - isSparing: whether it must leave half of the reserve. Changes that make no room themselves should.
    /// - Returns: why the log would refuse it; nil if it would not.
    /// - Complexity: O(1).
    func refusal(
        payloadByteCount: Int, usingReserve: Bool = false, isSparing: Bool = false
    ) -> Refusal? {
        var room = room
        let kept = usingReserve ? isSparing ? reserveByteCount / 2 : 0 : reserveByteCount
        return refusal(payloadByteCount: payloadByteCount, usingReserve: usingReserve, leaving: kept, taking: &room)
    }

    private func refusal(
        payloadByteCount: Int, usingReserve: Bool, leaving kept: Int, taking room: inout Room
    ) -> Refusal? {
        guard payloadByteCount > 0 && payloadByteCount <= Format.payloadLimit else { return .unsupportedByteCount }
        let byteCount = Format.frameHeaderByteCount + payloadByteCount
        // While nothing is gathered, a payload of any size is taken.
        let limit = configuration.gatheringByteCount * (usingReserve ? 2 : 1)
        guard !isClosed, gathering.isEmpty || gathering.byteCount + byteCount <= limit else { return .busy }
        if room.take(byteCount, leaving: kept) { return nil }
        // The next segment will be large enough for the frame and the reserve.
        guard let problem = helper.want(frameByteCount: byteCount + reserveByteCount) else { return .busy }
        self.problem = problem
        return .noSpace
    }

    /// The reserve: space that only appends with `usingReserve` may use, a quarter of the current segment.
    private var reserveByteCount: Int {
        let current = isStartingOver ? smallSegmentByteCount : segments.last?.byteCount ?? 0
        return min(current, configuration.segmentByteCount) / 4
    }

    private var smallSegmentByteCount: Int {
        min(configuration.smallSegmentByteCount, configuration.segmentByteCount)
    }

    /// Copies a payload. It goes to disk with the next `commit`.
    ///
    /// - Parameters:
    ///   - payload: 1 byte to 256 MiB.
    ///   - usingReserve: whether it may use the reserve.
    /// - Returns: the payload's sequence, one more than the last one's.
    /// - Throws: `Refusal`; nothing has changed then.
    /// - Complexity: O(n) for n bytes.
    func append(_ payload: Span<UInt8>, usingReserve: Bool = false) throws(Refusal) -> UInt64 {
        let kept = usingReserve ? 0 : reserveByteCount
        if let refusal = refusal(
            payloadByteCount: payload.count, usingReserve: usingReserve, leaving: kept, taking: &room)
        {
            throw refusal
        }
        lastSequence += 1
        gathering.append(payload, sequence: lastSequence)
        return lastSequence
    }

    /// Has the gathered frames written: now, or once the batch under way is written and collected.
    func commit() {
        guard !gathering.isEmpty else { return }
        commitsNext = true
        submit()
    }

    private func submit() {
        guard commitsNext, let spare else { return }
        let batch = gathering
        (gathering, underWay) = (spare, batch)
        self.spare = nil
        commitsNext = false
        helper.update { $0.batch = batch }
    }

    /// Learns what the helper has done, and hands it the next batch if one has been committed. Call this when the
    /// descriptor is readable.
    ///
    /// - Throws: `LogError` if the log cannot continue: frames that are not durable now never will be. Later calls
    ///   throw the same error.
    func collect() throws(LogError) {
        helper.drain()
        let (state, finished) = helper.update(wakingHelper: false) { state in
            defer { state.finished = nil }
            return (state, state.finished)
        }
        if let finished {
            finished.removeAll()
            (spare, underWay) = (finished, nil)
        }
        syncedSequence = max(syncedSequence, state.syncedSequence)
        let durable = configuration.syncMode == .always ? state.syncedSequence : state.writtenSequence
        durableSequence = max(durableSequence, durable)
        segments = state.segments
        (syncMicroseconds, longestSync) = (state.syncMicroseconds, state.longestSync)
        freeByteCount = state.freeByteCount
        problem = LogHelper.Work.Kind.allCases.lazy.compactMap { state.problems[$0] }.first
        if let failure = state.failure { throw failure }
        isStartingOver = state.startsOver
        if !isStartingOver { plan(state) }
        submit()
    }

    /// Computes the room that remains after all appended frames are written.
    private func plan(_ state: LogHelper.State) {
        if state.batch == nil && gathering.isEmpty {
            (room, lossCount) = (state.room, state.lossCount)
            return
        }
        if state.lossCount == lossCount {
            // Each frame goes to the place that it was given. While that is still in the current segment, there may be
            // a next segment that was not ready before.
            if room.segment == state.room.segment { room.next = state.room.next }
            return
        }
        // After a failed write there is less room than expected. Written frames of the batch under way count twice
        // until the batch is complete.
        var isKnown = state.batch == nil
        room = state.room
        for batch in [state.batch, gathering].compactMap({ $0 }) {
            var offset = 0
            while offset < batch.byteCount {
                let byteCount = batch.frameByteCount(at: offset)
                if !room.take(byteCount) {
                    room = Room(segment: room.segment, tail: 0, next: nil)
                    isKnown = false
                }
                offset += byteCount
            }
        }
        if isKnown { lossCount = state.lossCount }
    }

    // MARK: Segments

    /// Continues in a new small segment, so that a large one can be deleted when nothing in it is needed. The new
    /// segment appears in `segments` after a later `collect`, unless there is no space for it. Frames that are
    /// committed meanwhile go to disk afterwards.
    ///
    /// - Returns: whether the helper tries: only while nothing is gathered or under way, and not if the current segment
    ///   is already small and empty.
    func startOver() -> Bool {
        guard gathering.isEmpty, underWay == nil, !isStartingOver, !isClosed, let current = segments.last,
            current.firstSequence <= lastSequence || current.byteCount > smallSegmentByteCount
        else { return false }
        isStartingOver = true
        // Take only frames that fit into either segment.
        let tail = min(room.tail, smallSegmentByteCount - Format.segmentOverheadByteCount)
        room = Room(segment: room.segment, tail: tail, next: nil)
        helper.update { $0.startsOver = true }
        return true
    }

    /// Has the segments with lower numbers deleted, oldest first, but never the last of `segments` or a later one.
    /// Everything written before is synced first, in every sync mode.
    func deleteSegments(below number: UInt64) {
        let number = min(number, segments.last?.number ?? 0)
        helper.update { $0.deletesBelow = max($0.deletesBelow, number) }
    }

    /// Writes and syncs everything, and ends the helper thread. Waits for the disk. The directory stays locked until
    /// the log and its reader are released.
    ///
    /// - Throws: `LogError` if not everything could be written; `durableSequence` says how far it got.
    func close() throws(LogError) {
        guard !isClosed else { return }
        helper.update { $0.isClosing = true }
        do throws(LogError) {
            // At most two batches: the one under way, and the one being gathered.
            while true {
                commitsNext = !gathering.isEmpty
                try collect()
                if underWay == nil { break }
                waitForHelper()
            }
        } catch {
            isClosed = true
            helper.end()
            throw error
        }
        isClosed = true
        helper.end()
        try collect()
    }

    private func waitForHelper() {
        var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        unsafe _ = Glibc.poll(&poll, 1, -1)
    }
}
