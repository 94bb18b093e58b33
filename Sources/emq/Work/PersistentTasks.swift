// One process for all tasks: a line of JSON goes in for each task, and one comes out for each outcome.

import Bytes
import Glibc
import JSON

/// Gives tasks to a process that stays. It starts with the first task, and again when it has ended and a task comes.
final class PersistentTasks: TaskRunner {
    /// The longest line that the process may print, in bytes.
    static let maximumLineBytes = 8 << 20
    /// The pauses before the process starts again if it has ended without any outcome, in milliseconds.
    private static let restartMilliseconds: ClosedRange<Int64> = 1000...60_000
    /// After how many ends in a row without reading a task a worker gives up that is to end when no task is left: it
    /// would never end.
    private static let maximumUselessStarts = 3

    private let options: WorkOptions
    private let image: SubprocessImage
    private let runner: CommandRunner
    private unowned let holder: any TaskHolder
    private let log = Log.standard

    private var process: Subprocess?
    /// The tasks that the process has, by their ids.
    private var jobs: [String: PersistentJob] = [:]
    /// The tasks for the next process.
    private var waiting: [PersistentJob] = []
    /// What has come of the next line.
    private var line: [UInt8] = []
    private var errorTail = OutputTail(maximumByteCount: CommandTasks.errorTailBytes)
    /// Whether the worker has asked the process to end, or its input is closed: it gets no more tasks.
    private var isEnding = false
    private var isStopped = false
    private var hasOutcome = false
    /// How many processes in a row have ended without reading their tasks.
    private var uselessStarts = 0
    /// Why the process was killed; nil if it was not, or because of its tasks' deadlines.
    private var fault: String?
    private var stopsAt = Int64.max
    private var killsAt = Int64.max
    private var restart = GrowingPause(milliseconds: PersistentTasks.restartMilliseconds)

    init(
        _ options: WorkOptions, _ program: WorkOptions.Program, _ runner: CommandRunner, environment: [[UInt8]],
        for holder: any TaskHolder
    ) {
        (self.options, self.runner, self.holder) = (options, runner, holder)
        image = SubprocessImage(path: program.path, arguments: program.words, environment: environment)
    }

    private var now: Int64 { runner.loop.now }

    // MARK: Tasks

    func begin(_ task: WorkTask, slot: Int, now: Int64) -> Job? {
        // A task may come back while the process still works on it, because its lease was lost.
        if jobs[task.id] != nil || waiting.contains(where: { $0.task.id == task.id }) { return nil }
        let job = PersistentJob(task, slot: slot, in: self, now: now)
        waiting.append(job)
        giveWaiting()
        return job
    }

    private func giveWaiting() {
        if waiting.isEmpty || isEnding { return }
        if process == nil {
            if now < restart.resumesAt { return }
            start()
        }
        let given = waiting
        waiting = []
        for job in given {
            job.startClock(timeoutMilliseconds: options.timeoutMilliseconds, now: now)
            jobs[job.task.id] = job
            job.inputEnd = process?.input?.write(job.task.line(leaseEnd: job.leaseEnd)) ?? 0
        }
    }

    private func start() {
        (line, errorTail) = ([], OutputTail(maximumByteCount: CommandTasks.errorTailBytes))
        (isStopped, hasOutcome, fault, stopsAt, killsAt) = (false, false, nil, .max, .max)
        process = Subprocess(
            image, slot: 0, input: .pipe, on: runner, isOutputPassedOn: false,
            output: { [weak self] in self?.received($0) },
            outputEnded: { [weak self] in self?.outputEnded() },
            error: { [weak self] part in self?.errorTail.append(part) },
            ended: { [weak self] in self?.ended($0) })
    }

    /// Tells the process that an outcome is no longer wanted.
    fileprivate func cancel(_ job: PersistentJob) {
        if removeWaiting(job) { return }
        if job.stopping == .released { return stopProcess() }
        var text = Array("{\"id\":".utf8)
        JSONWriter.write(job.task.id, to: &text)
        _ = process?.input?.write(text + Array(",\"cancel\":true}\n".utf8))
    }

    /// Ends the process because a task's grace is over.
    fileprivate func end(_ job: PersistentJob) {
        if removeWaiting(job) { return }
        if job.stopping == .released {
            (isStopped, isEnding) = (true, true)
            process?.signal(SIGKILL)
        } else if !isStopped {
            log.warning("\(job.task.id): no outcome within --grace; stopping the process")
            stopProcess()
        }
    }

    /// Gives a task back that the process does not have yet; false if it has.
    private func removeWaiting(_ job: PersistentJob) -> Bool {
        guard let place = waiting.firstIndex(where: { $0 === job }) else { return false }
        waiting.remove(at: place)
        holder.ended(job, .released(), log: "")
        return true
    }

    /// Sends SIGTERM to the process, and SIGKILL when the grace is over.
    private func stopProcess() {
        if process == nil || isStopped { return }
        (isStopped, isEnding) = (true, true)
        process?.signal(SIGTERM)
        killsAt = min(killsAt, now + options.graceMilliseconds)
    }

    // MARK: Outcomes

    private func received(_ part: ArraySlice<UInt8>) {
        var rest = part
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            if !append(rest[..<end]) { return }
            let whole = line
            line = []
            read(whole[...])
            rest = rest[(end + 1)...]
        }
        _ = append(rest)
    }

    /// Adds to the next line; kills the process if it becomes too long.
    private func append(_ part: ArraySlice<UInt8>) -> Bool {
        if fault != nil { return false }
        if line.count + part.count <= Self.maximumLineBytes {
            line += part
            return true
        }
        line = []
        fault = "the process printed a line of more than \(Self.maximumLineBytes >> 20) MiB"
        log.error("\(fault ?? ""); killing it")
        isEnding = true
        process?.signal(SIGKILL)
        return false
    }

    private func read(_ text: ArraySlice<UInt8>) {
        if text.allSatisfy({ $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\r") || $0 == UInt8(ascii: "\t") }) {
            return
        }
        guard let json = JSONPart(text), json.kind == .object else {
            return log.warning("the process printed a line that is no JSON object; ignoring it")
        }
        var fields: [String: JSONPart] = [:]
        for (name, value) in json.members where value.kind != .null { fields[name] = value }
        guard let id = fields["id"]?.text, let job = jobs[id] else {
            return log.warning("the process printed a line whose id is none of its tasks'; ignoring it")
        }
        if let progress = fields["progress"], fields["status"] == nil, fields["result"] == nil, fields["error"] == nil {
            job.progress = Array(progress.source.utf8)
            return holder.progressed(job)
        }
        hasOutcome = true
        _ = restart.end()
        let text = fields["log"].map { Self.end(of: $0.text ?? $0.source) }
        finish(job, Self.outcome(fields, log: text), log: text ?? "")
    }

    private static func outcome(_ fields: [String: JSONPart], log: String?) -> WorkOutcome {
        let error = fields["error"].map { $0.text ?? $0.source }
        // A delay that the server does not take would lose the outcome.
        let delay = fields["delay"]?.number.flatMap { $0 >= 0 && $0 <= 4_000_000_000 ? $0 : nil }
        switch fields["status"].map({ $0.text ?? $0.source }) ?? (error == nil ? "done" : "failed") {
        case "done": return .done(result: fields["result"].map { ResultJSON.value(Array($0.source.utf8)) }, log: log)
        case "failed": return .failed(error: error ?? "the process says so", delay: delay)
        case "dead": return .dead(error: error ?? "the process says so")
        case "released": return .released(delay: delay ?? WorkOutcome.notNowSeconds)
        case let other: return .failed(error: "the process answered with the status '\(other.prefix(100))'")
        }
    }

    private static func end(of text: String) -> String {
        var tail = OutputTail(maximumByteCount: CommandTasks.logBytes)
        tail.append(Array(text.utf8)[...])
        return tail.text
    }

    private func finish(_ job: PersistentJob, _ outcome: WorkOutcome, log: String) {
        jobs[job.task.id] = nil
        holder.ended(job, outcome, log: log)
    }

    // MARK: The process's end

    /// The process cannot tell outcomes any more: it has ended, or it should.
    private func outputEnded() {
        readLastLine()
        if !isEnding { endInput(now) }
    }

    /// Reads what is left of the output. The last line may lack its line feed.
    private func readLastLine() {
        if fault != nil || line.isEmpty { return }
        let whole = line
        line = []
        read(whole[...])
    }

    private func ended(_ end: SubprocessEnd) {
        readLastLine()
        let readCount = process?.input?.readCount ?? 0
        process = nil
        let lines = errorTail.lastLines(CommandTasks.errorLines, maximumBytes: CommandTasks.errorBytes)
        let outcome = outcome(of: end, lines)
        if !jobs.isEmpty, !isStopped { log.warning("the process has ended: \(end)") }
        if hasOutcome { _ = restart.end() } else { _ = restart.begin(now: now) }
        isEnding = false
        var unread: [PersistentJob] = []
        for job in jobs.values {
            if case .failed = outcome, job.inputEnd > readCount, job.stopping == nil {
                jobs[job.task.id] = nil
                unread.append(job)
            } else {
                finish(job, outcome, log: errorTail.text)
            }
        }
        if hasOutcome {
            // A task whose line the process has not read as a whole is for the next one.
            uselessStarts = 0
            waiting += unread
            if !holder.isStopping { giveWaiting() }
            return
        }
        // The next process may be as useless, and another worker may do better.
        let outcomeOfUnread = unread.isEmpty ? .released() : outcomeOfUnread(unread.count, end, lines)
        unread += waiting
        waiting = []
        for job in unread { holder.ended(job, outcomeOfUnread, log: "") }
    }

    /// Notes that a process has ended without any outcome, and without reading so many tasks.
    private func outcomeOfUnread(_ count: Int, _ end: SubprocessEnd, _ lines: String) -> WorkOutcome {
        uselessStarts += 1
        let reason = lines.isEmpty ? "\(end)" : "\(end): \(lines)"
        if uselessStarts >= Self.maximumUselessStarts, options.idleMilliseconds != nil {
            return .cannotRun(
                reason: "it ended \(uselessStarts) times in a row without reading a task; the last time: \(reason)")
        }
        let pause = Duration.text(milliseconds: max(0, restart.resumesAt - now))
        log.error(
            "the process ended without reading \(ClientSession.tasks(count)), which go back; trying again in \(pause): "
                + reason)
        return .released()
    }

    /// What the end of the process means for the tasks that it had.
    private func outcome(of end: SubprocessEnd, _ lines: String) -> WorkOutcome {
        if let fault { return .failed(error: fault) }
        if isStopped { return .released() }
        switch end {
        case .exited(126), .exited(127), .notStarted: return WorkOutcome(end, lastLines: lines, deadStatuses: [])
        case .exited, .signalled:
            let reason = "the process ended before the outcome: \(end)"
            return .failed(error: lines.isEmpty ? reason : "\(reason): \(lines)")
        }
    }

    // MARK: Deadlines

    var nextTime: Int64 {
        min(stopsAt, killsAt, process == nil && !waiting.isEmpty ? restart.resumesAt : .max)
    }

    var resumesAt: Int64 { isEnding ? .max : process == nil ? restart.resumesAt : .min }

    func review(now: Int64) {
        if now >= stopsAt {
            stopsAt = .max
            stopProcess()
        }
        if now >= killsAt {
            killsAt = .max
            process?.signal(SIGKILL)
        }
        if process?.input?.isBroken == true, !isEnding {
            log.warning("the process has closed its standard input; starting another one when it has ended")
            endInput(now)
        }
        // Stopping takes nothing that has not begun.
        if holder.isStopping { for job in waiting { _ = removeWaiting(job) } }
        giveWaiting()
    }

    var isRunning: Bool { process != nil }

    func end(isForced: Bool, now: Int64) {
        if isForced { process?.signal(SIGKILL) } else if !isEnding { endInput(now) }
    }

    /// Closes the input, so that the process ends by itself.
    private func endInput(_ now: Int64) {
        isEnding = true
        process?.input?.end()
        stopsAt = now + options.graceMilliseconds
    }
}

/// A task that a process has.
final class PersistentJob: Job {
    private unowned let owner: PersistentTasks
    /// The process has got the task when it has read so many bytes.
    var inputEnd = 0

    init(_ task: WorkTask, slot: Int, in owner: PersistentTasks, now: Int64) {
        self.owner = owner
        super.init(task, slot: slot, now: now)
    }

    override func askToEnd(now: Int64) { owner.cancel(self) }

    override func endNow(now: Int64) { owner.end(self) }
}
