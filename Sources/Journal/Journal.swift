// The journal of a broker: writes what each turn of the event loop has changed as one frame of the log, and brings it all back
// after a restart.
//
// Space comes back in whole segments, the oldest first. One is needed as long as an image in it is the last full one of its
// task; when the old segments are more than twice what is needed, the images in the oldest are written anew, a few in each
// turn. When nothing has been written for a while and little is needed, the log goes on in a small segment.

import Bytes
import Queues

/// Keeps what a broker holds on disk. Belongs to the broker's thread, and does not make it wait for the disk but when it opens
/// and closes.
public final class Journal {
    /// Whether a change may be made now.
    public enum Admission: Sendable {
        /// There is space for it.
        case now
        /// Space is being made: to be asked again after the next `collect`.
        case later
        /// The disk is full, or does not work.
        case notNow(reason: String)
        /// It is more than one frame can have.
        case never
    }

    /// What a recovery has brought back.
    public struct Recovery: Sendable {
        /// How many tasks there are, records of those that have come to their end included.
        public internal(set) var taskCount = 0
        /// How long it took.
        public internal(set) var milliseconds: Int64 = 0
        /// How many bytes a crash left behind the last whole frame, and how many were read.
        public internal(set) var droppedByteCount = 0
        /// How many bytes were read.
        public internal(set) var byteCount = 0
    }

    private enum Phase {
        case reading(LogRecovery)
        case placing(Log)
        case running(Log)
    }

    /// The size of a log for each task that it may have; many have more than their image there.
    private static let bytesPerExpectedTask = 256
    /// How much of the log is read in one call, in bytes, and how many tasks are put in their places.
    private static let bytesPerStep = 1 << 20
    private static let tasksPerStep = 5000
    /// What no client waits for fills up one frame to this size; the rest comes with later frames.
    private static let frameBytes = 4 << 20
    /// A turn that has changed so much ends before more is changed.
    private static let turnBytes = 16 << 20
    /// Images are written anew at this rate, beside twice what else is written.
    private static let renewedBytesPerMillisecond = 16 << 10
    private static let renewedBytesPerTurn = 1 << 20
    private static let renewalMilliseconds: Int64 = 5
    /// A frame that the log has no room for is tried again so often, and a problem when it waits for so long.
    private static let retryMilliseconds: Int64 = 100
    private static let patienceMilliseconds: Int64 = 2000
    /// A request waits for space so long at most while nothing becomes safe.
    private static let admissionMilliseconds: Int64 = 10_000
    /// And an answer so long for its frame.
    private static let stallMilliseconds: Int64 = 30_000
    /// Without changes for so long, the log may begin with a small segment again.
    private static let quietMilliseconds: Int64 = 1000

    /// The directory.
    public let directory: String
    private let configuration: LogConfiguration
    private let graceMilliseconds: Int64
    private var phase: Phase
    private var begun: Int64
    /// A frame that the log has not taken yet.
    private var waiting: [UInt8] = []
    private var waitingSince: Int64 = 0
    /// Whether the log has no room for what has changed.
    var hasWaitingFrame: Bool { !waiting.isEmpty }
    /// Since when frames wait and none has become safe, and what was safe then; nil if all is.
    private var standstill: (since: Int64, safe: UInt64)?
    /// Since when requests are told to wait for space, and when one was last told so.
    private var postponed: (since: Int64, last: Int64)?
    /// Segments that are not needed any more once a frame is safe.
    private var deletion: (below: UInt64, sequence: UInt64)?
    private var allowance = 0
    private var lastTurn: Int64 = 0
    private var lastChange: Int64 = 0
    private var isRenewing = false
    /// Whether anything but renewals was written since the log began with a small segment.
    private var hasChanged = true

    /// What recovery has brought back, once it is over.
    public private(set) var recovery = Recovery()

    /// Opens and locks the journal in a directory, which is made if it does not exist.
    ///
    /// - Parameters:
    ///   - directory: the directory's path.
    ///   - syncMode: when what is written goes to stable storage.
    ///   - graceMilliseconds: how long the leases of what was dispatched last at least after a restart.
    ///   - lockWaitMilliseconds: how long to wait for another process to close the journal.
    ///   - now: the time, in milliseconds since the Unix epoch.
    /// - Throws: `LogError`.
    public convenience init(
        directory: String, syncMode: LogConfiguration.SyncMode, graceMilliseconds: Int64, lockWaitMilliseconds: Int64,
        now: Int64
    ) throws(LogError) {
        var configuration = LogConfiguration()
        configuration.syncMode = syncMode
        self.init(
            try LogRecovery(directory: directory, lockWaitMilliseconds: lockWaitMilliseconds), directory: directory,
            configuration,
            graceMilliseconds: graceMilliseconds, now: now)
    }

    init(
        _ recovery: LogRecovery, directory: String, _ configuration: LogConfiguration, graceMilliseconds: Int64,
        now: Int64
    ) {
        self.directory = directory
        self.graceMilliseconds = graceMilliseconds
        self.configuration = configuration
        begun = now
        phase = .reading(recovery)
    }

    // MARK: Recovery

    /// Whether recovery is over: the broker may be used.
    public var isRunning: Bool { if case .running = phase { true } else { false } }

    /// How far recovery is: the part of the log that is read, from 0 to 1, then that of the tasks that are in their places.
    public func progress(of broker: isolated Broker) -> (isRead: Bool, part: Double) {
        switch phase {
        case .reading(let log):
            (false, Double(log.report.byteCount) / Double(max(1, log.totalByteCount)))
        case .placing: (true, Double(broker.restoredCount) / Double(max(1, broker.counts.tasks)))
        case .running: (true, 1)
        }
    }

    /// Goes on with recovery: some milliseconds' work, but for the end, which waits for the disk.
    ///
    /// - Parameters:
    ///   - broker: a broker that nothing was done with; `beginRestoring` is called by the first step.
    ///   - now: the time.
    /// - Returns: whether it is over.
    /// - Throws: `LogError`; the broker is of no use then.
    public func recover(_ broker: isolated Broker, now: Int64) throws(LogError) -> Bool {
        switch phase {
        case .reading(let log):
            if log.report.byteCount == 0 {
                broker.beginRestoring(expectedTasks: log.totalByteCount / Self.bytesPerExpectedTask)
            }
            let isRead = try log.advance(byteCount: Self.bytesPerStep) {
                (payload, sequence, _) throws(PayloadError) in
                do throws(ImageError) {
                    try broker.restore(payload, sequence: sequence)
                } catch {
                    throw PayloadError(error.problem, isNewer: error.isNewer, isShortage: error.isShortage)
                }
            }
            guard isRead else { return false }
            recovery.droppedByteCount = log.report.droppedByteCount
            recovery.byteCount = log.report.byteCount
            phase = .placing(try Log(log, configuration: configuration))
        case .placing(let log):
            guard
                broker.finishRestoring(
                    nextSequence: log.lastSequence + 1, now: now, graceMilliseconds: graceMilliseconds,
                    limit: Self.tasksPerStep)
            else { return false }
            recovery.taskCount = broker.counts.tasks
            phase = .running(log)
            recovery.milliseconds = max(0, now - begun)
            (lastTurn, lastChange) = (now, now)
        case .running: break
        }
        return isRunning
    }

    private var log: Log {
        guard case .running(let log) = phase else { preconditionFailure("the journal is used before recovery is over") }
        return log
    }

    // MARK: Changes

    /// Becomes readable when there is something to collect.
    ///
    /// - Precondition: recovery is over.
    public var descriptor: Int32 { log.descriptor }

    /// Frames up to this sequence survive what the sync mode promises.
    public var safeSequence: UInt64 { log.durableSequence }

    /// Learns what has become safe. To be called when the descriptor is readable.
    ///
    /// - Throws: `LogError` when the journal cannot go on: what is not safe now will not be.
    public func collect() throws(LogError) { try log.collect() }

    /// Whether so much waits for the disk that nothing more should be changed. O(1).
    public func isBusy(_ broker: isolated Broker) -> Bool {
        broker.pendingChangeBytes > Self.turnBytes || log.problem == nil && waiting.count > Self.turnBytes
    }

    /// Whether there is space for a change.
    ///
    /// - Parameters:
    ///   - byteCount: about how many bytes its image has.
    ///   - makesRoom: whether it makes room in the end, as an acknowledgement does: such a change is made even when the disk
    ///     is full, and its answer is held until it is safe.
    ///   - isSparing: whether it makes no room itself but lets work go on, as refusing a task does: while the disk is full, such a
    ///     change is made only as long as half of the space that is kept for those that make room is left.
    ///   - broker: the broker.
    /// - Returns: whether it may be made. Where nothing becomes safe for ten seconds, `later` becomes `notNow`, and after half
    ///   a minute `now` does.
    /// - Complexity: O(1).
    public func admission(
        of byteCount: Int, makesRoom: Bool, isSparing: Bool = false, on broker: isolated Broker
    ) -> Admission {
        let admission = wish(for: byteCount, makesRoom: makesRoom, isSparing: isSparing, on: broker)
        switch admission {
        case .now:
            postponed = nil
            // Whoever was let in after that would be broken off in the next turn.
            if !isStandingStill || waiting.isEmpty && !hasStalled(now: lastTurn) { return .now }
        case .later:
            // Whoever still waits asks several times a second.
            if lastTurn - (postponed?.last ?? .min / 2) > Self.patienceMilliseconds { postponed = (lastTurn, lastTurn) }
            postponed?.last = lastTurn
            let since = postponed?.since ?? lastTurn
            if lastTurn - since < Self.admissionMilliseconds, !isStandingStill { return .later }
        default: return admission
        }
        return .notNow(reason: log.problem?.problem ?? "the disk is too slow")
    }

    private func wish(
        for byteCount: Int, makesRoom: Bool, isSparing: Bool, on broker: isolated Broker
    ) -> Admission {
        let pending = broker.pendingChangeBytes + waiting.count
        if isBusy(broker), makesRoom || log.problem == nil { return .later }
        let frame = max(1, pending + byteCount)
        switch log.refusal(payloadByteCount: frame, usingReserve: makesRoom, isSparing: isSparing) {
        case nil: return .now
        case .busy?: return .later
        case .unsupportedByteCount?: return pending > 0 ? .later : .never
        case .noSpace?:
            return makesRoom && !isSparing
                ? .now : .notNow(reason: log.problem?.problem ?? "the journal has no space")
        }
    }

    /// Whether frames wait, and none has become safe for ten seconds.
    private var isStandingStill: Bool {
        standstill.map { lastTurn - $0.since >= Self.admissionMilliseconds } ?? false
    }

    /// Whether frames wait, and none has become safe for half a minute: clients whose answers are held until then should not be
    /// left waiting. O(1).
    public func hasStalled(now: Int64) -> Bool {
        standstill.map { now - $0.since >= Self.stallMilliseconds } ?? false
    }

    private func watchStandstill(now: Int64) {
        let safe = log.durableSequence
        if waiting.isEmpty, safe == log.lastSequence {
            standstill = nil
        } else if standstill?.safe != safe {
            (standstill, postponed) = ((now, safe), nil)
        }
    }

    /// Writes what the turn has changed, and looks after the space. O(changes).
    public func endTurn(of broker: isolated Broker, now: Int64) {
        let hasNoSpace = log.problem?.cause == .noSpace
        let before = waiting
        if before.isEmpty || take(before.span) {
            waiting = []
            let renewed = hasNoSpace ? 0 : renew(broker, now: now)
            broker.writeChanges(skipsUnawaited: hasNoSpace, limit: Self.frameBytes) { payload, sequence in
                precondition(sequence == log.lastSequence + 1, "a gap in the journal")
                if payload.count > renewed {
                    (lastChange, hasChanged) = (now, true)
                    allowance += 2 * (payload.count - renewed)
                }
                if !take(payload) {
                    waiting = Array(copying: payload)
                    waitingSince = now
                }
            }
        }
        if hasNoSpace, !waiting.isEmpty { broker.forgetUnawaitedChanges() }
        log.commit()
        giveBack(broker, hasNoSpace: hasNoSpace, now: now)
        watchStandstill(now: now)
        lastTurn = now
    }

    private func take(_ payload: Span<UInt8>) -> Bool {
        do throws(Log.Refusal) {
            _ = try log.append(payload, usingReserve: true)
            return true
        } catch {
            precondition(error != .unsupportedByteCount, "a frame that is too large")
            return false
        }
    }

    /// When the next turn should end at the latest; nil for no such time.
    public func nextDeadline(of broker: isolated Broker, now: Int64) -> Int64? {
        if !waiting.isEmpty { return now + Self.retryMilliseconds }
        if broker.pendingChangeBytes > 0 { return now }
        if isRenewing { return now + Self.renewalMilliseconds }
        let start = mayStartOver ? max(now + 1, lastChange + Self.quietMilliseconds) : nil
        guard let standstill else { return start }
        return min(start ?? .max, max(now + Self.patienceMilliseconds, standstill.since + Self.stallMilliseconds))
    }

    /// Whether everything that was changed is safe.
    public func isSettled(_ broker: isolated Broker) -> Bool {
        waiting.isEmpty && broker.pendingChangeBytes == 0 && log.durableSequence == log.lastSequence
    }

    /// Syncs what is not yet, and closes the log. Waits for the disk.
    ///
    /// - Precondition: `isSettled`, else what is not yet written is lost.
    /// - Throws: `LogError` if not all could be synced.
    public func close() throws(LogError) { if isRunning { try log.close() } }

    // MARK: Space

    /// The size of the segments before the current one.
    private var oldByteCount: Int { log.byteCount - (log.segments.last?.byteCount ?? 0) }

    /// Has images in the oldest segments written anew if these hold little else that is needed.
    ///
    /// - Returns: how many bytes of images.
    private func renew(_ broker: isolated Broker, now: Int64) -> Int {
        let accrued = Int(clamping: max(0, now - lastTurn)) * Self.renewedBytesPerMillisecond
        allowance = min(Self.renewedBytesPerTurn, allowance + accrued)
        liveByteCount = broker.liveImageBytes
        isRenewing = oldByteCount > 2 * liveByteCount && log.segments.count > 1
        // What is written anew does not take the space that is kept for what makes room.
        // Nobody's answer is to wait behind much of it.
        guard isRenewing, allowance > 0, log.pendingByteCount < Self.renewedBytesPerTurn,
            let current = log.segments.last
        else { return 0 }
        let byteCount = min(allowance, current.byteCount / 8)
        guard log.refusal(payloadByteCount: broker.pendingChangeBytes + byteCount) == nil else { return 0 }
        let renewed = broker.renewImages(byteCount: byteCount, before: current.firstSequence)
        allowance -= renewed
        if renewed == 0 { isRenewing = false }
        return renewed
    }

    /// Deletes the segments that are not needed, and begins with a small one when little is.
    private func giveBack(_ broker: isolated Broker, hasNoSpace: Bool, now: Int64) {
        let isStuck = hasNoSpace && !waiting.isEmpty && log.durableSequence == log.lastSequence
        let segments = log.segments
        if segments.count > 1, deletion == nil || isStuck {
            var needed = broker.oldestNeededSequence() ?? .max
            if isStuck, let renewed = broker.oldestRenewedSequence() { needed = min(needed, renewed) }
            if needed >= segments[1].firstSequence, let first = segments.last(where: { $0.firstSequence <= needed }) {
                // A frame that says why a segment is not needed must be safe first.
                deletion = (below: first.number, sequence: log.lastSequence + (waiting.isEmpty ? 0 : 1))
            }
        }
        // Without space for that frame there is no other way out: then it is enough that nothing in the segment is needed,
        // though some of a request that was not answered yet may be lost with it.
        if let due = deletion, log.durableSequence >= due.sequence || isStuck {
            log.deleteSegments(below: due.below)
            deletion = nil
        }
        if mayStartOver, now - lastChange >= Self.quietMilliseconds {
            if log.startOver() { hasChanged = false } else { lastChange = now }
        }
    }

    /// Some space is not worth giving back.
    private var mayStartOver: Bool {
        hasChanged && log.byteCount > 4 * liveByteCount + configuration.segmentByteCount / 64
    }

    // MARK: Looking

    /// What the images of all that the broker holds take, in bytes, as of the last turn.
    public private(set) var liveByteCount = 0
    /// The size of the segments, in bytes.
    public var byteCount: Int { log.byteCount }
    /// How many segments there are.
    public var segmentCount: Int { log.segments.count }
    /// How much was written and is not yet safe, in bytes.
    public var pendingByteCount: Int { log.pendingByteCount + waiting.count }
    /// What is wrong with the disk at the moment; it is tried again every second.
    public var problem: LogError? {
        guard isRunning else { return nil }
        guard log.problem == nil, !waiting.isEmpty, lastTurn - waitingSince > Self.patienceMilliseconds else {
            return log.problem
        }
        return LogError(
            .noSpace, file: directory, problem: "there is no room for a frame of \(waiting.count) bytes",
            remedy: "make room on the file system")
    }
}
