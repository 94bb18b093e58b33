// The journal of a broker: it writes the changes of each turn of the event loop as one frame of the log, and restores
// the broker after a restart.
//
// Space is reclaimed in whole segments, the oldest first. A segment is needed while it holds the last full image of a
// task. When the old segments exceed twice the size of the live images, the images in the oldest segment are written
// again, a few in each turn. When nothing has been written for a while and little is live, the log continues in a small
// segment.

import Bytes
import Queues

/// Keeps a broker's tasks and queues on disk. It belongs to the broker's thread, which waits for the disk only when the
/// journal opens and closes.
public final class Journal {
    /// Whether a change may be made now.
    public enum Admission: Sendable {
        /// There is space for it.
        case now
        /// Space is being made. Ask again after the next `collect`.
        case later
        /// The disk is full, or does not work.
        case notNow(reason: String)
        /// The change exceeds the largest frame.
        case never
    }

    /// The result of a recovery.
    public struct Recovery: Sendable {
        /// The number of tasks, including records of finished ones.
        public internal(set) var taskCount = 0
        /// How long it took.
        public internal(set) var milliseconds: Int64 = 0
        /// How many bytes of incomplete frames a crash left at the end.
        public internal(set) var droppedByteCount = 0
        /// How many bytes were read.
        public internal(set) var byteCount = 0
    }

    private enum Phase {
        case reading(any LogReader)
        case placing(Log)
        case running(Log)
    }

    /// The estimated size of the log per task, in bytes.
    private static let bytesPerExpectedTask = 256
    /// One step of recovery reads this many bytes, or places this many tasks.
    private static let bytesPerStep = 1 << 20
    private static let tasksPerStep = 5000
    /// Changes that no client waits for fill a frame up to this size. The rest goes into later frames.
    private static let frameBytes = 4 << 20
    /// A turn that has changed this many bytes makes no further changes.
    private static let turnBytes = 16 << 20
    /// Images are written again at this rate, plus twice the bytes of other changes.
    private static let renewedBytesPerMillisecond = 16 << 10
    private static let renewedBytesPerTurn = 1 << 20
    private static let renewalMilliseconds: Int64 = 5
    /// How often to retry a frame that the log has no room for, and after how long it counts as a problem.
    private static let retryMilliseconds: Int64 = 100
    private static let patienceMilliseconds: Int64 = 2000
    /// The longest time that a request waits for space while nothing becomes safe.
    private static let admissionMilliseconds: Int64 = 10_000
    /// The longest time that a response waits for its frame while nothing becomes safe.
    private static let stallMilliseconds: Int64 = 30_000
    /// After this long without changes, the log may start over with a small segment.
    private static let quietMilliseconds: Int64 = 1000

    /// Where the log is, for messages: the directory.
    public let location: String
    private let configuration: LogConfiguration
    private let graceMilliseconds: Int64
    private var phase: Phase
    private var begun: Int64
    /// A frame that the log has not taken yet.
    private var waiting: [UInt8] = []
    private var waitingSince: Int64 = 0
    /// Whether changes wait because the log has no room for them.
    var hasWaitingFrame: Bool { !waiting.isEmpty }
    /// The time since which frames wait and none has become safe, and the last safe sequence; nil if all frames are
    /// safe.
    private var standstill: (since: Int64, safe: UInt64)?
    /// When a request was first and last told to wait for space.
    private var postponed: (since: Int64, last: Int64)?
    /// The segments to delete once the frame `sequence` is safe.
    private var deletion: (below: UInt64, sequence: UInt64)?
    private var allowance = 0
    private var lastTurn: Int64 = 0
    private var lastChange: Int64 = 0
    private var isRenewing = false
    /// Whether anything but renewals was written since the log began with a small segment.
    private var hasChanged = true

    /// The result of the recovery, once it is complete.
    public private(set) var recovery = Recovery()

    /// Opens and locks the journal in a directory, which is made if it does not exist.
    ///
    /// - Parameters:
    ///   - directory: the directory's path.
    ///   - syncMode: when written frames go to stable storage.
    ///   - graceMilliseconds: the minimum time for which leases from before a restart continue after it.
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
            try LogRecovery(directory: directory, lockWaitMilliseconds: lockWaitMilliseconds), configuration,
            graceMilliseconds: graceMilliseconds, now: now)
    }

    /// Opens the journal on a log of any engine.
    init(_ reader: any LogReader, _ configuration: LogConfiguration, graceMilliseconds: Int64, now: Int64) {
        location = reader.location
        self.graceMilliseconds = graceMilliseconds
        self.configuration = configuration
        begun = now
        phase = .reading(reader)
    }

    // MARK: Recovery

    /// Whether recovery is over: the broker may be used.
    public var isRunning: Bool { if case .running = phase { true } else { false } }

    /// The progress of recovery, from 0 to 1: first the part of the log that is read, then the part of the tasks that
    /// are placed.
    public func progress(of broker: isolated Broker) -> (isRead: Bool, part: Double) {
        switch phase {
        case .reading(let log):
            (false, Double(log.report.byteCount) / Double(max(1, log.totalByteCount)))
        case .placing: (true, Double(broker.restoredCount) / Double(max(1, broker.counts.tasks)))
        case .running: (true, 1)
        }
    }

    /// Continues recovery for some milliseconds. The last step waits for the disk.
    ///
    /// - Parameters:
    ///   - broker: an unused broker; the first step calls its `beginRestoring`.
    ///   - now: the time.
    /// - Returns: whether recovery is complete.
    /// - Throws: `LogError`; the broker is then unusable.
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

    /// Frames up to this sequence are durable, as the sync mode defines it.
    public var safeSequence: UInt64 { log.durableSequence }

    /// Collects what has become safe. Call this when the descriptor is readable.
    ///
    /// - Throws: `LogError` if the journal cannot continue: frames that are not safe now never will be.
    public func collect() throws(LogError) { try log.collect() }

    /// Whether so much data waits for the disk that nothing more should change. O(1).
    public func isBusy(_ broker: isolated Broker) -> Bool {
        broker.pendingChangeBytes > Self.turnBytes || log.problem == nil && waiting.count > Self.turnBytes
    }

    /// Whether there is space for a change.
    ///
    /// - Parameters:
    ///   - byteCount: the approximate size of its image, in bytes.
    ///   - makesRoom: whether the change makes room later, as an acknowledgement does. Such a change is made even when
    ///     the disk is full, and its response is held until it is safe.
    ///   - isSparing: whether the change makes no room itself but lets work continue, as a nak does. While the disk is
    ///     full, such a change is made only while half of the reserve is left.
    ///   - broker: the broker.
    /// - Returns: whether the change may be made. If nothing becomes safe for ten seconds, `later` becomes `notNow`;
    ///   after 30 s, so does `now`.
    /// - Complexity: O(1).
    public func admission(
        of byteCount: Int, makesRoom: Bool, isSparing: Bool = false, on broker: isolated Broker
    ) -> Admission {
        let admission = wish(for: byteCount, makesRoom: makesRoom, isSparing: isSparing, on: broker)
        switch admission {
        case .now:
            postponed = nil
            // After a stall, the next turn would abort a request that is admitted now.
            if !isStandingStill || waiting.isEmpty && !hasStalled(now: lastTurn) { return .now }
        case .later:
            // A request that still waits asks several times a second.
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

    /// Whether frames wait and none has become safe for 30 s. Clients whose responses are held should not wait any
    /// longer. O(1).
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

    /// Writes the turn's changes, and reclaims space. O(changes).
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

    /// The latest time for the end of the next turn; nil if there is none.
    public func nextDeadline(of broker: isolated Broker, now: Int64) -> Int64? {
        if !waiting.isEmpty { return now + Self.retryMilliseconds }
        if broker.pendingChangeBytes > 0 { return now }
        if isRenewing { return now + Self.renewalMilliseconds }
        let start = mayStartOver ? max(now + 1, lastChange + Self.quietMilliseconds) : nil
        guard let standstill else { return start }
        return min(start ?? .max, max(now + Self.patienceMilliseconds, standstill.since + Self.stallMilliseconds))
    }

    /// Whether all changes are safe.
    public func isSettled(_ broker: isolated Broker) -> Bool {
        waiting.isEmpty && broker.pendingChangeBytes == 0 && log.durableSequence == log.lastSequence
    }

    /// Syncs and closes the log. Waits for the disk.
    ///
    /// - Precondition: `isSettled`; otherwise, changes that are not written yet are lost.
    /// - Throws: `LogError` if not everything could be synced.
    public func close() throws(LogError) { if isRunning { try log.close() } }

    // MARK: Space

    /// The size of the segments before the current one.
    private var oldByteCount: Int { log.byteCount - (log.segments.last?.byteCount ?? 0) }

    /// Writes images in the oldest segments again if these segments hold little else that is needed.
    ///
    /// - Returns: the size of the renewed images, in bytes.
    private func renew(_ broker: isolated Broker, now: Int64) -> Int {
        let accrued = Int(clamping: max(0, now - lastTurn)) * Self.renewedBytesPerMillisecond
        allowance = min(Self.renewedBytesPerTurn, allowance + accrued)
        liveByteCount = broker.liveImageBytes
        isRenewing = oldByteCount > 2 * liveByteCount && log.segments.count > 1
        // Renewed images do not use the reserve, and must not delay clients' responses.
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

    /// Deletes segments that are not needed, and starts over with a small one when little is live.
    private func giveBack(_ broker: isolated Broker, hasNoSpace: Bool, now: Int64) {
        let isStuck = hasNoSpace && !waiting.isEmpty && log.durableSequence == log.lastSequence
        let segments = log.segments
        if segments.count > 1, deletion == nil || isStuck {
            var needed = broker.oldestNeededSequence() ?? .max
            if isStuck, let renewed = broker.oldestRenewedSequence() { needed = min(needed, renewed) }
            if needed >= segments[1].firstSequence, let first = segments.last(where: { $0.firstSequence <= needed }) {
                // The frame that makes the segment unnecessary must be safe first.
                deletion = (below: first.number, sequence: log.lastSequence + (waiting.isEmpty ? 0 : 1))
            }
        }
        // Without space for that frame, it is enough that nothing in the segment is needed. Part of a request that has
        // no response yet may then be lost.
        if let due = deletion, log.durableSequence >= due.sequence || isStuck {
            log.deleteSegments(below: due.below)
            deletion = nil
        }
        if mayStartOver, now - lastChange >= Self.quietMilliseconds {
            if log.startOver() { hasChanged = false } else { lastChange = now }
        }
    }

    /// Whether starting over would reclaim enough space to be worthwhile.
    private var mayStartOver: Bool {
        hasChanged && log.byteCount > 4 * liveByteCount + configuration.segmentByteCount / 64
    }

    // MARK: Statistics

    /// The size of the images of all tasks and queues, in bytes, as of the last turn.
    public private(set) var liveByteCount = 0
    /// The size of the segments, in bytes.
    public var byteCount: Int { log.byteCount }
    /// How many segments there are.
    public var segmentCount: Int { log.segments.count }
    /// The size of frames that are not safe yet, in bytes.
    public var pendingByteCount: Int { log.pendingByteCount + waiting.count }
    /// How long syncs took since the start, in microseconds. With the sync mode `always`, that includes writing.
    public var syncMicroseconds: Histogram { log.syncMicroseconds }
    /// How long the longest sync of the last minute took, in microseconds.
    public var longestSyncMicroseconds: Int64 { log.longestSync.value(at: LogHelper.steadyMicroseconds()) }

    /// How much space the file system has left for the journal. Does not wait for the disk: each call asks for another
    /// look, which later calls return.
    ///
    /// - Returns: the space at the last look, in bytes; nil if that is unknown.
    public func freeByteCount() -> Int? {
        log.lookForSpace()
        return log.freeByteCount
    }

    /// The disk's current problem; the log retries every second.
    public var problem: LogError? {
        guard isRunning else { return nil }
        guard log.problem == nil, !waiting.isEmpty, lastTurn - waitingSince > Self.patienceMilliseconds else {
            return log.problem
        }
        return LogError(
            .noSpace, file: location, problem: "there is no room for a frame of \(waiting.count) bytes",
            remedy: "make room on the file system")
    }
}
