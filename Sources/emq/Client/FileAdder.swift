// Adds the tasks of a file to a queue, in requests of many tasks.
//
// One request is under way at a time, so that the tasks keep their order; meanwhile the next batch is made. One task of
// each batch has a key that stays taken, with `"on_conflict": "reject"`. The server adds all tasks of a request or none,
// so a batch whose answer was lost can be sent again: if it is in, the server refuses it as a whole.

import Bytes
import CLinux
import Glibc
import JSON
import Net

final class FileAdder {
    /// How long the keys of batches stay taken, in seconds: as long as an interrupted command can go on.
    static let keptSeconds = 7 * 86_400
    /// How long the last answer is awaited after a signal, in milliseconds.
    private static let graceMilliseconds: Int64 = 10_000
    /// The pauses after failures: the first, and the longest, in milliseconds. Each is twice the one before.
    private static let pauseMilliseconds: ClosedRange<Int64> = 250...5000
    /// The longest pause that a server may ask for, in milliseconds.
    private static let longestPauseMilliseconds: Int64 = 60_000
    /// How much of a body a slow connection must carry in a second, as the server requires.
    private static let leastBytesEachSecond = 16_384

    /// Notices that a pipe can be read.
    private final class Pipe: EventSource {
        private let descriptor: Int32
        private let loop: EventLoop
        private var isWatched = false

        init(_ descriptor: Int32, _ loop: EventLoop) { (self.descriptor, self.loop) = (descriptor, loop) }

        func watch() throws(SystemError) {
            if isWatched { return }
            try loop.watch(descriptor, for: self, events: UInt32(EPOLLIN.rawValue))
            isWatched = true
        }

        // Until it is asked again, it may have anything.
        override func ready(events: UInt32) {
            isWatched = false
            loop.unwatch(descriptor, for: self)
        }
    }

    private let session: ClientSession
    private let client: ServerClient
    private let input: AddInput
    private var lines: TaskLines
    // With a terminal that is gone, there is no way to go on.
    private let shutdown = Shutdown(drainMilliseconds: FileAdder.graceMilliseconds, hangUpStops: true)
    private let pipe: Pipe
    /// How long a server that is away or full is waited for, in milliseconds.
    private let patienceMilliseconds: Int64
    private var bar: ProgressBar

    /// The batches to send, the first of which may be under way.
    private var batches: [TaskBatch] = []
    private var maximumCount = TaskBatch.maximumCount
    private var requestKey: UInt64?
    private var record: AddProgress.Record
    /// Whether the first batch may be in.
    private var isUncertain: Bool
    private var addedCount = 0
    private var existingCount = 0
    private var isAtEnd = false
    /// Why it ends before the end of the file.
    private var failure: CommandFailure?
    /// What is wrong with the lines behind the batches.
    private var lineFailure: CommandFailure?
    private var hasAnswered = false
    private var troubleSince: Int64?
    private var pause = FileAdder.pauseMilliseconds.lowerBound
    private var resumesAt = Int64.min
    private var isStopping = false

    private var now: Int64 { client.loop.now }

    /// - Throws: `CommandFailure` or `SystemError` if it cannot begin.
    init(
        _ session: ClientSession, _ input: AddInput, _ format: TaskLines.Format, fields: [UInt8],
        patienceMilliseconds: Int64
    ) throws {
        (self.session, self.input, client) = (session, input, session.client)
        self.patienceMilliseconds = patienceMilliseconds
        try shutdown.watch(on: client.loop)
        pipe = Pipe(input.descriptor, client.loop)
        record = input.record
        isUncertain = record.sentLine != nil
        lines = TaskLines(format, fields: fields, from: LineReader(input.descriptor, after: record.done))
        bar = ProgressBar(
            session.invocation.environment, totalBytes: input.byteCount, doneBytes: record.done.offset,
            now: client.loop.now)
    }

    /// Adds all tasks.
    ///
    /// - Throws: `CommandFailure` that says which lines are in, and how to go on.
    func run() throws -> ExitCode {
        let startedAt = now
        while true {
            reviewSignals()
            if failure == nil, !isStopping { load() }
            if requestKey == nil {
                if failure != nil || isStopping || batches.isEmpty && (isAtEnd || lineFailure != nil) { break }
                if now >= resumesAt { send() }
            }
            if isStopping, shutdown.isOver(now: now) { break }
            bar.draw(tasks: addedCount, bytes: record.done.offset, now: now)
            client.turn(until: try nextTime())
        }
        bar.clear()
        if let failure = failure ?? lineFailure { throw interrupted(failure) }
        if isStopping { throw interrupted(CommandFailure(.failed, "stopped")) }
        input.progress?.remove()
        finish(milliseconds: client.loop.updateNow() - startedAt)
        return .done
    }

    // MARK: The loop

    private func reviewSignals() {
        if shutdown.isAsked, !isStopping {
            isStopping = true
            shutdown.begin(now: now)
        }
    }

    private func nextTime() throws -> Int64? {
        var times: [Int64] = []
        if requestKey != nil, let time = bar.nextTime { times.append(max(time, now + 1)) }
        if requestKey == nil, !batches.isEmpty { times.append(resumesAt) }
        if isStopping, let deadline = shutdown.deadline { times.append(deadline) }
        if requestKey == nil, batches.isEmpty, !isAtEnd, lineFailure == nil { try pipe.watch() }
        return times.min()
    }

    /// Reads lines for the next batches.
    private func load() {
        while batches.count < 2, !isAtEnd, lineFailure == nil {
            do throws(CommandFailure) {
                // The batch that was sent before has the same lines again.
                let lastLine = batches.isEmpty ? record.sentLine : nil
                switch try lines.next(maximumCount: maximumCount, lastLine: lastLine) {
                case .batch(let batch): batches.append(batch)
                case .nothingYet: return
                case .end: isAtEnd = true
                }
            } catch {
                lineFailure = error
            }
        }
    }

    private func send() {
        if !hasAnswered { return greet() }
        guard let batch = batches.first else { return }
        record.sentLine = batch.end.line
        // If the batch is in already, its key is as old as that.
        if !isUncertain { record.time = time(nil) }
        if let progress = input.progress {
            // A request that is not in the record could not be told from one that was never sent.
            do throws(FileError) { try progress.write(record) } catch {
                failure = CommandFailure(
                    .failed,
                    "cannot write the progress to \(progress.path): \(error); make room there, or give the file as "
                        + "standard input")
                return
            }
        }
        var request = ServerRequest(
            ServerRequest.target("/enqueue/", name: session.name),
            json: batch.body(run: record.run, keptSeconds: Self.keptSeconds))
        if !batch.trace.requestID.isEmpty { request.fields.append(("X-Request-Id", batch.trace.requestID)) }
        if !batch.trace.traceparent.isEmpty { request.fields.append(("traceparent", batch.trace.traceparent)) }
        request.timeoutMilliseconds += Int64(batch.byteCount / Self.leastBytesEachSecond) * 1000
        requestKey = client.send(request) { [unowned self] result in
            requestKey = nil
            receive(result)
        }
    }

    /// Finds out whether the server is there, before it is unknown what has become of a request.
    private func greet() {
        requestKey = client.send(ServerRequest("/healthz")) { [unowned self] result in
            requestKey = nil
            switch result {
            case .success: hasAnswered = true
            case .failure(let reason): failure = reason
            }
        }
    }

    // MARK: Answers

    private func receive(_ result: Result<ServerResponse, CommandFailure>) {
        switch result {
        case .failure(let reason):
            // The server may have read all of it.
            isUncertain = true
            retry(reason, milliseconds: nil)
        case .success(let response):
            receive(response)
        }
    }

    private func receive(_ response: ServerResponse) {
        guard let batch = batches.first else { return }
        let problem = response.isSuccess ? nil : response.json
        let place = Self.place(in: problem?["field"]?.text)
        let type = problem?["type"]?.text.flatMap { $0.hasPrefix(ProblemType.urnPrefix) ? $0 : nil }
        // A proxy that fails may have passed the request on. A failure of emq itself changes nothing.
        if response.status >= 500, type == nil { isUncertain = true }
        switch response.status {
        case 200..<300 where response.json?["ids"]?.members.count == batch.count:
            let existing = response.json?["existing"]?.members.count ?? 0
            existingCount += existing
            endBatch(batch.count - existing)
        case 200..<300:
            isUncertain = true
            failure = CommandFailure(
                .failed, "the response is not that of an emq server; is \(session.place.name) one?")
        case 409 where place != nil && place == batch.keyIndex:
            endBatch(batch.count)
        case 408, 429, 502, 503, 504, 507:
            let seconds = response.fields["retry-after"].flatMap { Int64($0) }
            let reason = problem?["detail"]?.text.map { CommandFailure(.refusedForNow, $0) } ?? response.failure
            retry(reason, milliseconds: seconds.map { $0.multipliedReportingOverflow(by: 1000).partialValue })
        case 400 where type == ProblemType.batchTooLong.urn && batch.count > 1, 413 where batch.count > 1:
            // Parts would have other keys than the whole, with which the server could not refuse them.
            if isUncertain {
                failure = CommandFailure(
                    .usage,
                    "\(response.failure.description); these lines may be in, so they must go in one request again: raise "
                        + "the limit")
                return
            }
            maximumCount = max(1, min(maximumCount, batch.count) / 2)
            batches = batches.flatMap { $0.split(into: maximumCount) }
        default:
            failure = refusal(response, problem, of: batch, place)
        }
    }

    private func endBatch(_ count: Int) {
        if troubleSince != nil { note("going on") }
        (isUncertain, troubleSince) = (false, nil)
        pause = Self.pauseMilliseconds.lowerBound
        addedCount += count
        record.done = batches.removeFirst().end
        record.sentLine = nil
    }

    /// Sends the batch again after a pause, unless that has gone on for too long.
    private func retry(_ reason: CommandFailure, milliseconds: Int64?) {
        let since = troubleSince ?? now
        if isStopping || now - since >= patienceMilliseconds {
            failure = reason
            return
        }
        if troubleSince == nil {
            note("\(reason.description); trying again for \(Duration.text(milliseconds: patienceMilliseconds))")
        }
        troubleSince = since
        let wait = milliseconds.map { min(max($0, pause), Self.longestPauseMilliseconds) } ?? pause
        resumesAt = min(now + wait, since + patienceMilliseconds)
        pause = min(pause * 2, Self.pauseMilliseconds.upperBound)
    }

    /// What is wrong with a batch, with the number of the line if the server has named a task.
    private func refusal(
        _ response: ServerResponse, _ problem: JSONPart?, of batch: TaskBatch, _ place: Int?
    ) -> CommandFailure {
        let refusal = response.failure
        guard let place = place ?? (batch.count == 1 ? 0 : nil), batch.parts.indices.contains(place) else {
            return refusal
        }
        let detail = problem?["detail"]?.text ?? refusal.description
        return CommandFailure(refusal.code, "line \(batch.parts[place].end.line): \(detail)")
    }

    /// The place of the task that a field such as `[17].retry` is in.
    static func place(in field: String?) -> Int? {
        guard let field, field.hasPrefix("["), let end = field.firstIndex(of: "]") else { return nil }
        return Int(field[field.index(after: field.startIndex)..<end])
    }

    // MARK: Words

    private func note(_ text: String) {
        bar.clear()
        Emq.printError("emq \(session.invocation.command.name): \(text)")
    }

    private func finish(milliseconds: Int64) {
        if session.isJSON {
            Emq.print(#"{"added":\#(addedCount),"existing":\#(existingCount),"lines":\#(record.done.line)}"#)
            return
        }
        note("added \(ClientSession.tasks(addedCount)) in \(Duration.text(milliseconds: milliseconds))")
        if existingCount > 0 {
            note("\(ClientSession.tasks(existingCount)) left out, because other tasks have the keys")
        }
    }

    /// Adds to a failure which lines are in, and how to go on.
    private func interrupted(_ reason: CommandFailure) -> CommandFailure {
        let done = record.done.line
        let isUnknown = isUncertain || requestKey != nil && hasAnswered
        if let requestKey { client.cancel(requestKey) }
        var standing = done == 0 ? "nothing was added" : done == 1 ? "line 1 is in" : "lines 1 to \(done) are in"
        if isUnknown, let last = batches.first?.end.line ?? record.sentLine {
            let range = last == done + 1 ? "line \(last)" : "lines \(done + 1) to \(last)"
            standing = done == 0 ? "\(range) may be in" : "\(standing); \(range) may be"
        }
        if done == 0, !isUnknown {
            input.progress?.remove()
            return CommandFailure(reason.code, "\(reason.description); \(standing)")
        }
        if !isUnknown { record.sentLine = nil }
        var hint = "the rest begins at line \(done + 1)"
        if let progress = input.progress, (try? progress.write(record)) != nil {
            hint = "the same command with --resume adds the rest"
        }
        return CommandFailure(reason.code, "\(reason.description); \(standing); \(hint)")
    }
}
