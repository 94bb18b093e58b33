// The log as the event loop sees it: appending is copying into memory, and what has become durable is collected later.

import Glibc

/// An append-only log of payloads that survive a crash. Belongs to one thread, and never waits for the disk but in `init`
/// and `close`.
///
/// Frames are gathered until `commit`, which hands them to a helper thread as one batch; the descriptor becomes readable when
/// the batch is written, and `collect` then raises `durableSequence`. What is committed meanwhile is the next batch.
final class Log {
    /// Why a payload is not taken.
    enum Refusal: Error, Sendable, Equatable {
        /// Too much is under way, or space for it is being made: again after the next `collect`.
        case busy
        /// The disk is full or fails: `problem` says more. For a large payload it can be full while smaller ones have space.
        /// Again after the next `collect`.
        case noSpace
        /// It is empty, or has more than 256 MiB.
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
    /// What is ready on disk for frames that were not taken yet.
    private var room: Room
    /// The losses that `room` accounts for.
    private var lossCount: Int

    /// The sequence of the last payload that was taken; 0 if there has never been one.
    private(set) var lastSequence: UInt64
    /// Payloads up to this sequence survive as the sync mode promises. Never falls.
    private(set) var durableSequence: UInt64
    /// Payloads up to this sequence survive a power cut.
    private(set) var syncedSequence: UInt64
    /// The segments there are, oldest first. A durable frame is in the last one whose first sequence is not above its own.
    /// That may change until the frame is synced.
    private(set) var segments: [LogSegment]
    /// Why no space can be made or old segments cannot be deleted, if that is so; it is tried again every second.
    private(set) var problem: LogError?

    /// Becomes readable when there is something to collect.
    var descriptor: Int32 { helper.descriptor }

    /// How much was taken and is not yet durable, in bytes.
    var pendingByteCount: Int { gathering.byteCount + (underWay?.byteCount ?? 0) }

    /// How much room the segments take, in bytes; the one that is made in advance is not counted.
    var byteCount: Int { segments.reduce(0) { $0 + $1.byteCount } }

    /// Opens the log for writing, where recovery has ended. Waits for the disk.
    ///
    /// - Precondition: `reader` has read everything.
    /// - Throws: `LogError` when the disk does not work, or is full before there is a first segment.
    init(_ reader: any LogReader, configuration: LogConfiguration = LogConfiguration()) throws(LogError) {
        let store = try reader.makeStore(configuration)
        self.configuration = configuration
        lastSequence = store.writtenSequence
        durableSequence = store.writtenSequence
        syncedSequence = store.syncedSequence
        segments = store.segments
        (room, lossCount) = (store.room, store.lossCount)
        helper = try LogHelper(store, configuration)
    }

    deinit { if !isClosed { helper.end() } }

    // MARK: Appending

    /// Whether a payload of this size would be taken now. What is to be logged after it was done has to ask
    /// this before.
    ///
    /// - Parameters:
    ///   - payloadByteCount: The payload's size in bytes.
    ///   - usingReserve: Whether it may take the reserve, as what makes room later should.
    ///   - isSparing: Whether it leaves half of the reserve, as what makes no room itself should.
    /// - Returns: why it would not; nil if it would.
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
        // The largest payload is taken when there is nothing else.
        let limit = configuration.gatheringByteCount * (usingReserve ? 2 : 1)
        guard !isClosed, gathering.isEmpty || gathering.byteCount + byteCount <= limit else { return .busy }
        if room.take(byteCount, leaving: kept) { return nil }
        // The next segment is made as large as it has to be, the reserve included.
        guard let problem = helper.want(frameByteCount: byteCount + reserveByteCount) else { return .busy }
        self.problem = problem
        return .noSpace
    }

    /// Space that only appends with `usingReserve` may use: a quarter of the current segment.
    private var reserveByteCount: Int {
        let current = isStartingOver ? smallSegmentByteCount : segments.last?.byteCount ?? 0
        return min(current, configuration.segmentByteCount) / 4
    }

    private var smallSegmentByteCount: Int {
        min(configuration.smallSegmentByteCount, configuration.segmentByteCount)
    }

    /// Takes a payload, which is copied. It goes to disk with the next `commit`.
    ///
    /// - Parameters:
    ///   - payload: 1 byte to 256 MiB.
    ///   - usingReserve: Whether it may take the reserve.
    /// - Returns: its sequence: one more than the last one's.
    /// - Throws: `Refusal`, and nothing is taken.
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

    /// Has what was gathered written: now if nothing else is under way, else as soon as that is done and collected.
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

    /// Learns what the helper has done, and hands it the next batch if that was committed meanwhile. To be called when the
    /// descriptor is readable.
    ///
    /// - Throws: `LogError` when the log cannot go on: what is not durable now will not be. It throws that ever after.
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
        problem = LogHelper.Work.Kind.allCases.lazy.compactMap { state.problems[$0] }.first
        if let failure = state.failure { throw failure }
        isStartingOver = state.startsOver
        if !isStartingOver { plan(state) }
        submit()
    }

    /// Finds out what is left once all that was taken is written.
    private func plan(_ state: LogHelper.State) {
        if state.batch == nil && gathering.isEmpty {
            (room, lossCount) = (state.room, state.lossCount)
            return
        }
        if state.lossCount == lossCount {
            // Each frame has the place it was given. If that is in the current segment still, the next one can be new.
            if room.segment == state.room.segment { room.next = state.room.next }
            return
        }
        // After a failed write it is less than thought. What is written of a batch under way counts twice, until it is done.
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

    /// Goes on in a new small segment, so that a large one can be deleted when nothing in it is needed any more. It is seen in
    /// `segments` after a later `collect`; without space for it, it does not happen. What is appended and committed meanwhile
    /// goes to disk afterwards.
    ///
    /// - Returns: whether it is tried: only while nothing is gathered or under way, and if the current segment is not a small
    ///   and empty one already.
    func startOver() -> Bool {
        guard gathering.isEmpty, underWay == nil, !isStartingOver, !isClosed, let current = segments.last,
            current.firstSequence <= lastSequence || current.byteCount > smallSegmentByteCount
        else { return false }
        isStartingOver = true
        // What fits in either segment.
        let tail = min(room.tail, smallSegmentByteCount - Format.segmentOverheadByteCount)
        room = Room(segment: room.segment, tail: tail, next: nil)
        helper.update { $0.startsOver = true }
        return true
    }

    /// Has the segments with lower numbers deleted, oldest first, but never the last of `segments` or a later one. What was
    /// written before is synced first, whatever the mode.
    func deleteSegments(below number: UInt64) {
        let number = min(number, segments.last?.number ?? 0)
        helper.update { $0.deletesBelow = max($0.deletesBelow, number) }
    }

    /// Writes and syncs all that was taken, and ends the helper thread. Waits for the disk. The directory stays locked until the
    /// log and its recovery are released.
    ///
    /// - Throws: `LogError` if not all of it could be written; `durableSequence` says how far it got.
    func close() throws(LogError) {
        guard !isClosed else { return }
        helper.update { $0.isClosing = true }
        do throws(LogError) {
            // Two batches at most: the one under way, and the one that is gathered.
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
