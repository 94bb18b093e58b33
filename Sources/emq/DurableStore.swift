// The program's side of the journal: its part in each turn of the loop, its log lines and statistics, and which
// requests it refuses.

import Bytes
import CLinux
import Glibc
import JSON
import Journal
import Net
import Queues

/// The journal of this server. The server serves nothing while the journal is being recovered.
final class DurableStore: Durability {
    /// Notes that the journal's helper thread has finished something.
    private final class HelperSignal: EventSource {
        var isRaised = false

        override func ready(events: UInt32) { isRaised = true }
    }

    /// Postponed requests are retried after this long if nothing has become safe before.
    private static let retryMilliseconds: Int64 = 100

    private let journal: Journal
    private let history: HistoryFile
    private let loop: EventLoop
    private let log = Log.standard
    private let signal = HelperSignal()
    private(set) var isReady = false
    private var progress: (isRead: Bool, part: Double) = (false, 0)
    private var nextReport: Int64
    private let begun: Int64
    private var reportedProblem: LogError?
    private var retryTime: Int64?

    var location: String { journal.location }

    /// Opens the journal in the options' directory; nil if there is none.
    init?(_ options: Options, loop: EventLoop) throws(LogError) {
        guard let directory = options.directory else { return nil }
        history = HistoryFile(directory: directory)
        journal = try Journal(
            directory: directory, syncMode: options.syncMode, graceMilliseconds: options.graceMilliseconds,
            lockWaitMilliseconds: options.lockWaitMilliseconds, now: loop.now)
        self.loop = loop
        begun = loop.now
        nextReport = loop.now + 1000
    }

    /// Logs why the journal cannot continue, and exits. Changes without a response may be lost; all others are safe.
    private func fail(_ error: LogError) -> Never {
        log.error("\(error)")
        Emq.exit(1)
    }

    // MARK: Turns

    /// Continues recovery, or collects what has become safe and releases the responses that waited for it.
    ///
    /// - Returns: whether the broker may be used.
    func beginTurn(_ server: HTTPServer, on broker: isolated Broker, now: Int64) -> Bool {
        do throws(LogError) {
            if !isReady, try !recover(server, broker, now: now) { return false }
            if signal.isRaised {
                signal.isRaised = false
                try journal.collect()
                server.release(upTo: journal.safeSequence)
                server.resume()
                retryTime = nil
                reportProblem()
            } else if let retryTime, now >= retryTime {
                server.resume()
                self.retryTime = nil
            }
            // Closing the connection tells clients that the result of their requests is unknown.
            if isReady, journal.hasStalled(now: now) { server.abandonHeld() }
            return true
        } catch {
            fail(error)
        }
    }

    /// Whether all changes are safe.
    func isSettled(_ broker: isolated Broker) -> Bool { !isReady || journal.isSettled(broker) }

    /// Writes the turn's changes. After the last turn, closes the journal.
    ///
    /// - Returns: when the next turn must begin at the latest; nil for no such time.
    func endTurn(_ server: HTTPServer, on broker: isolated Broker, now: Int64, isLast: Bool) -> Int64? {
        guard isReady else { return now }
        guard isLast else {
            journal.endTurn(of: broker, now: now)
            if let image = broker.takeHistoryImage() { history.saveLater(image) }
            reportProblem()
            return earliest([journal.nextDeadline(of: broker, now: now), retryTime])
        }
        guard journal.isSettled(broker) else {
            log.error("stopped at once; changes without a response may be lost")
            Emq.exit(1)
        }
        history.save(broker, now: now)
        do throws(LogError) {
            try journal.close()
            return nil
        } catch {
            fail(error)
        }
    }

    private func recover(
        _ server: HTTPServer, _ broker: isolated Broker, now: Int64
    ) throws(LogError) -> Bool {
        isReady = try journal.recover(broker, now: now)
        progress = journal.progress(of: broker)
        guard isReady else {
            if now >= nextReport {
                nextReport = now + 1000
                log.info(progressText)
            }
            return false
        }
        do throws(SystemError) {
            try loop.watch(journal.descriptor, for: signal, events: UInt32(EPOLLIN.rawValue))
        } catch {
            log.error("\(error)")
            Emq.exit(1)
        }
        history.restore(broker, now: now)
        broker.keepHistoryImages(ofBytes: HistoryFile.periodicByteCount)
        let recovery = journal.recovery
        let seconds = Double(loop.updateNow() - begun) / 1000
        let dropped =
            recovery.droppedByteCount > 0 ? "; \(recovery.droppedByteCount) bytes at its end were not whole" : ""
        let tasks = recovery.taskCount == 1 ? "1 task" : "\(recovery.taskCount) tasks"
        log.info(
            "recovered \(tasks) from \(location) in \(seconds) s, \(recovery.byteCount) bytes read\(dropped)")
        reportProblem()
        // Everything recovered is safe.
        server.release(upTo: journal.safeSequence)
        return true
    }

    var progressText: String {
        let percent = Int(progress.part * 100)
        return progress.isRead
            ? "recovering: the journal is read; \(percent) % of the tasks are sorted"
            : "recovering: \(percent) % of the journal is read"
    }

    private func reportProblem() {
        guard journal.problem != reportedProblem else { return }
        reportedProblem = journal.problem
        if let problem = journal.problem {
            let event = LogEvent.error(
                "\(problem); new tasks are refused, acknowledgements still work",
                .number("journal_bytes", journal.byteCount), .number("unsafe_bytes", journal.pendingByteCount))
            log.write(event.about("journal"))
        } else {
            log.write(.info("the journal can be written again").about("journal"))
        }
    }

    // MARK: Requests

    /// Whether the disk has a problem at the moment.
    var hasProblem: Bool { reportedProblem != nil }

    /// Whether so much data waits for the disk that nothing more should change.
    func isBusy(_ broker: isolated Broker) -> Bool {
        isReady && journal.isBusy(broker)
    }

    /// Checks that there is space on disk for a request's changes.
    ///
    /// - Parameters:
    ///   - byteCount: the size of the changes, in bytes.
    ///   - usesReserve: whether the request makes room later, and so may use the reserve.
    ///   - isSparing: whether it must leave half of the reserve.
    ///   - broker: the broker.
    /// - Throws: 503 or 413 if there is no space, `Problem.awaitsSpace` while space is being made.
    func admit(
        _ byteCount: Int, usesReserve: Bool, isSparing: Bool, on broker: isolated Broker
    ) throws(Problem) {
        switch journal.admission(of: byteCount, makesRoom: usesReserve, isSparing: isSparing, on: broker) {
        case .now: return
        case .later:
            // The helper thread reports new space; this covers changes that it cannot report.
            retryTime = retryTime ?? loop.now + Self.retryMilliseconds
            throw .awaitsSpace
        case .notNow(let reason):
            throw Problem(
                .diskFull,
                "the journal has no room for this: \(reason); workers go on, and it is tried again every second")
        case .never:
            throw Problem(
                .changeTooLarge, "this changes more at once than the journal can write as one; do it in smaller parts")
        }
    }

    /// Whether there is space on disk for an attempt's outcome. If not, another turn begins when that may have changed.
    func hasSpace(for byteCount: Int, on broker: isolated Broker) -> Bool {
        // On a full disk, half of the reserve is for acknowledgements.
        if case .now = journal.admission(of: byteCount, makesRoom: true, isSparing: true, on: broker) { return true }
        retryTime = retryTime ?? loop.now + Self.retryMilliseconds
        return false
    }

    /// The sequence of the last frame that is safe.
    var safeSequence: UInt64 { journal.safeSequence }

    /// Writes the response to `/healthz` during recovery.
    func writeHealth(to responses: inout ResponseStream) {
        responses.begin(status: 503, contentType: "application/json")
        responses.field("Retry-After", Problem.retryAfterSeconds)
        responses.beginBody(estimatedCount: 100)
        responses.append("{\"status\":\"recovering\",\"detail\":")
        JSONWriter.write(progressText, to: &responses)
        responses.append("}")
        responses.endLine()
    }

    /// The response to requests during recovery.
    var problem: Problem { Problem(.recovering, "the server is \(progressText)") }

    // MARK: Looking

    /// The size of the changes that wait for the disk, in bytes.
    var pendingByteCount: Int { isReady ? journal.pendingByteCount : 0 }

    var problemText: String? { journal.problem.map { "\($0)" } }

    var metrics: DurabilityMetrics {
        DurabilityMetrics(
            byteCount: journal.byteCount, liveByteCount: journal.liveByteCount, freeByteCount: journal.freeByteCount(),
            hasProblem: journal.problem != nil, syncMicroseconds: journal.syncMicroseconds)
    }

    /// Writes the journal's statistics for `/stats/`, as a member behind others.
    func writeStatistics(of broker: isolated Broker, to responses: inout ResponseStream) {
        writeCount(",\"journal\":{\"bytes\":", journal.byteCount, to: &responses)
        writeCount(",\"live_bytes\":", journal.liveByteCount, to: &responses)
        writeCount(",\"segments\":", journal.segmentCount, to: &responses)
        responses.append(",\"free_bytes\":")
        if let free = journal.freeByteCount() {
            JSONWriter.writeInteger(free, to: &responses)
        } else {
            responses.append("null")
        }
        let pending = journal.pendingByteCount + broker.pendingChangeBytes
        writeCount(",\"pending_bytes\":", pending, to: &responses)
        responses.append(",\"sync_time\":")
        JSONWriter.writeSeconds(milliseconds: (journal.longestSyncMicroseconds + 500) / 1000, to: &responses)
        responses.append(",\"problem\":")
        if let problemText {
            JSONWriter.write(problemText, to: &responses)
        } else {
            responses.append("null")
        }
        writeCount(",\"recovered\":{\"tasks\":", journal.recovery.taskCount, to: &responses)
        responses.append(",\"seconds\":")
        JSONWriter.writeSeconds(milliseconds: journal.recovery.milliseconds, to: &responses)
        responses.append("}}")
    }
}
