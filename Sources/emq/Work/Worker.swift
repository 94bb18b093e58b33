// `emq work`: takes tasks, and lets a command or an application do each.
//
// Everything happens on one event loop, except that commands are started on other threads. A job is a task in work. A
// finished job becomes a report, which is sent until the server has answered it, so that a server that goes away for a
// while loses nothing that was done.

import Bytes
import Glibc
import JSON
import Net

final class Worker: TaskHolder {
    /// The pauses while the server or the application cannot be reached, in milliseconds.
    private static let retryMilliseconds: ClosedRange<Int64> = 250...5000
    private static let applicationMilliseconds: ClosedRange<Int64> = 1000...60_000
    /// How long commands that are stopped because the worker stops have after a SIGTERM, in milliseconds.
    private static let lastGraceMilliseconds: Int64 = 1000
    /// How long the worker waits in the end for the reader of its output, in milliseconds.
    private static let outputMilliseconds: Int64 = 2000
    /// The shortest time that a worker that a signal stops tries to report outcomes, in milliseconds.
    private static let reportMilliseconds: Int64 = 5000
    /// The same after a second signal, and how much of it a wait for tasks has for its response.
    private static let lastReportMilliseconds: Int64 = 2000
    private static let lastAnswerMilliseconds: Int64 = 1000
    /// The variables that are not for commands: the token, those of a service's manager, and another task's.
    private static let hiddenVariables: Set<String> = [
        "EMQ_TOKEN", "EMQ_TOKEN_FILE", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS",
        "LISTEN_FDNAMES", "TRACEPARENT", "EMQ_ID", "EMQ_QUEUE", "EMQ_ATTEMPT", "EMQ_KEY", "EMQ_LEASE_UNTIL",
        "EMQ_RESULT_FILE",
    ]

    let options: WorkOptions
    let client: ServerClient
    let log = Log.standard
    private let shutdown: Shutdown
    private let manager: ServiceManager?
    private let watcher: GroupWatcher
    private let commands: CommandRunner
    private(set) lazy var runner = makeRunner()
    private let directory: String
    /// The tasks in work, by their places.
    var jobs: [Int: Job] = [:]
    let reports: ReportSender
    var waitKey: UInt64?
    /// When the wait for tasks, which is no longer wanted, is given up; nil if it is wanted.
    var waitEndsAt: Int64?
    var brake = FailureBrake()
    /// The pauses while the server is away, and while the application is.
    private var server = GrowingPause(milliseconds: Worker.retryMilliseconds)
    /// The pauses while the server gives no tasks.
    var refusal = GrowingPause(milliseconds: Worker.retryMilliseconds)
    private var application = GrowingPause(milliseconds: Worker.applicationMilliseconds)
    /// The pauses while the system has no room for more commands.
    private var shortage = GrowingPause(milliseconds: Worker.retryMilliseconds)
    private var hasWarnedOfShortage = false
    /// How many tasks have been taken, without those that could not begin.
    var takenCount = 0
    /// How many have ended how.
    private var doneCount = 0
    private var failedCount = 0
    private var releasedCount = 0
    /// Since when there has been no task.
    var idleSince: Int64
    /// How long the next wait is if tasks are in work and the worker ends when there is none.
    var emptyWaitMilliseconds = Worker.emptyWaitMilliseconds.lowerBound
    let startedAt: Int64
    private(set) var isStopping = false
    private var stopsCommandsAt: Int64?
    /// When the worker gives up its reports; nil for never.
    private var givesUpAt: Int64?
    /// Whether a first and a second signal have been noticed.
    private var isAsked = false
    private var isForced = false
    private var status = ExitCode.done

    var now: Int64 { client.loop.now }

    /// Runs the command.
    static func run(_ invocation: Invocation) throws -> ExitCode {
        let options = try WorkOptions(invocation)
        let place = try ServerPlace(invocation)
        if options.isDryRun { return try dryRun(options, place) }
        Log.standard.configure(.text(ProcessStart.environment), .info)
        raiseFileLimit(options)
        // Commands may read the environment of their parent, and of the watcher.
        ProcessStart.erase("EMQ_TOKEN")
        let directory = try makeDirectory()
        // Before there is a second thread, and before there are connections that the watcher would hold open.
        let watcher = try GroupWatcher(directory: directory, count: options.jobCount)
        return try Worker(options, place, watcher, directory).work()
    }

    private init(
        _ options: WorkOptions, _ place: ServerPlace, _ watcher: GroupWatcher, _ directory: String
    ) throws {
        (self.options, self.watcher, self.directory) = (options, watcher, directory)
        client = try ServerClient(place)
        shutdown = Shutdown(drainMilliseconds: options.graceMilliseconds, hangUpStops: true)
        manager = ServiceManager(ProcessStart.environment)
        // Threads inherit the mask of signals.
        try shutdown.watch(on: client.loop)
        let commandCount: Int
        switch options.mode {
        case .command: commandCount = options.jobCount
        case .persistent: commandCount = 1
        case .application: commandCount = 0
        }
        commands = try CommandRunner(client.loop, watcher, commandCount: commandCount)
        (idleSince, startedAt) = (client.loop.now, client.loop.now)
        reports = ReportSender(client)
    }

    private func makeRunner() -> any TaskRunner {
        let environment = ProcessStart.variables { name in
            !Self.hiddenVariables.contains(name) && !name.hasPrefix("EMQ_META_")
        }
        switch options.mode {
        case .command(let program):
            return CommandTasks(
                options, program, commands, directory: directory, environment: environment, for: self)
        case .persistent(let program):
            return PersistentTasks(options, program, commands, environment: environment, for: self)
        case .application(let url): return ApplicationTasks(options, url, client, for: self)
        }
    }

    /// A folder for the files of results.
    private static func makeDirectory() throws(SystemError) -> String {
        let parent = ProcessStart.environment["TMPDIR"].flatMap { $0.hasPrefix("/") ? $0 : nil } ?? "/tmp"
        var template = Array("\(parent)/emq-work-XXXXXX\0".utf8CString)
        guard unsafe mkdtemp(&template) != nil else { throw SystemError("make a folder in \(parent)") }
        return String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Raises the limit of open files as far as the jobs need, and no further: commands inherit it, and some of them
    /// work through all descriptors that they may have.
    private static func raiseFileLimit(_ options: WorkOptions) {
        let perJob =
            switch options.mode {
            // Its pipes, with both ends while it starts.
            case .command: 8
            case .persistent: 0
            case .application: 2
            }
        Emq.raiseFileLimit(to: 64 + perJob * options.jobCount)
    }

    // MARK: The loop

    private func work() -> ExitCode {
        let queues = options.queues.map(\.name).joined(separator: ", ")
        log.info("working on \(queues) at \(client.place.name), with \(options.jobCount) at once")
        manager?.servingText = "working on \(queues)"
        var outputEndsAt: Int64?
        while true {
            reviewShutdown()
            reviewDeadlines()
            reports.send(isServerAway: server.isOn && now < server.resumesAt) { [weak self] in self?.reported($0) }
            var times = [
                nextTime(), manager?.endTurn(nil, stopsBy: isStopping ? stopsCommandsAt ?? now : nil, now: now),
            ]
            if isStopping, jobs.isEmpty, waitKey == nil {
                let isReported = reports.isEmpty || now >= givesUpAt ?? .max
                if isReported { runner.end(isForced: isForced, now: now) }
                if isReported, !runner.isRunning {
                    let end = outputEndsAt ?? now + (isForced ? 0 : Self.outputMilliseconds)
                    outputEndsAt = end
                    if !commands.isOutputFull || now >= end { break }
                    times.append(end)
                }
            } else if !isStopping {
                take()
            }
            times.append(log.writeDueNumbers().map { now + $0 })
            client.turn(until: times.compactMap { $0 }.min())
            commands.advance()
        }
        watcher.end()
        if !reports.isEmpty {
            log.warning("the outcomes of \(ClientSession.tasks(reports.count)) could not be reported; they come back")
            if status == .done { status = .failed }
        }
        log.writeNumbers()
        log.info("stopped: \(summary)")
        return status
    }

    /// How many tasks ended how.
    private var summary: String {
        let others = [(failedCount, "failed"), (releasedCount, "given back")].filter { $0.0 > 0 }
        return ([(doneCount, "done")] + others).map { "\($0.0) \($0.1)" }.joined(separator: ", ")
    }

    private func nextTime() -> Int64? {
        var times = jobs.values.map { $0.nextTime } + [runner.nextTime]
        if let stopsCommandsAt { times.append(stopsCommandsAt) }
        if let givesUpAt { times.append(givesUpAt) }
        if let waitEndsAt { times.append(waitEndsAt) }
        times += reports.leases.map(\.touchesAt)
        if let limit = options.maximumMilliseconds { times.append(startedAt + limit) }
        if let idle = options.idleMilliseconds, jobs.isEmpty { times.append(idleSince + idle) }
        if brake.isOn { times.append(brake.resumesAt) }
        times += [server.resumesAt, refusal.resumesAt, application.resumesAt, shortage.resumesAt, runner.resumesAt]
        return times.filter { $0 > now && $0 < .max }.min()
    }

    // MARK: Stopping

    private func reviewShutdown() {
        if shutdown.isAsked, !isAsked { beginStopping() }
        if shutdown.isForced, !isForced {
            isForced = true
            givesUpAt = now + Self.lastReportMilliseconds
            waitEndsAt = waitEndsAt.map { min($0, now + Self.lastAnswerMilliseconds) }
            for job in jobs.values { job.stop(.released, graceMilliseconds: 0, now: now) }
        }
        if let end = waitEndsAt, now >= end { abandonWait() }
        if let deadline = stopsCommandsAt, now >= deadline {
            stopsCommandsAt = nil
            for job in jobs.values { job.stop(.released, graceMilliseconds: Self.lastGraceMilliseconds, now: now) }
        }
        if !isStopping {
            if let limit = options.maximumMilliseconds, now >= startedAt + limit { stop("--max-time is over") }
            if let limit = options.maximumTaskCount, takenCount >= limit, jobs.isEmpty {
                stop("--max-tasks is reached")
            }
        }
    }

    /// Stops because of a signal: what is in work has time to end.
    private func beginStopping() {
        isAsked = true
        stopsCommandsAt = now + options.graceMilliseconds
        givesUpAt = now + options.graceMilliseconds + Self.lastGraceMilliseconds + Self.reportMilliseconds
        let grace = Duration.text(milliseconds: options.graceMilliseconds)
        stop(
            jobs.isEmpty
                ? "asked to stop"
                : "asked to stop: \(ClientSession.tasks(jobs.count)) in work \(jobs.count == 1 ? "has" : "have") \(grace) to "
                    + "end; a second signal stops \(jobs.count == 1 ? "it" : "them") at once")
    }

    /// Takes nothing more. With an exit status, this is an error.
    func stop(_ reason: String, _ code: ExitCode? = nil) {
        if let code {
            status = code
            log.error(reason)
        } else if !isStopping || shutdown.isAsked {
            log.info(reason)
        }
        isStopping = true
        endWait()
    }

    // MARK: The server and the application

    /// Whether tasks may be taken now.
    var mayTake: Bool {
        now
            >= max(
                server.resumesAt, refusal.resumesAt, application.resumesAt, shortage.resumesAt, brake.resumesAt,
                runner.resumesAt) && !commands.isOutputFull && !reports.isRetrying
            && reports.waitingCount < options.jobCount
    }

    /// How many tasks may be in work now.
    var jobLimit: Int { brake.isOn || application.isOn ? 1 : options.jobCount }

    func serverIsAway(_ failure: CommandFailure) {
        // Several requests may fail at once.
        if now < server.resumesAt { return }
        if server.begin(now: now) { log.warning("\(failure.description); trying again") }
    }

    func serverIsBack() {
        if server.end() { log.info("the server answers again") }
    }

    func applicationIsAway(_ reason: String) {
        // The task does not count for --max-tasks.
        takenCount -= 1
        if now < application.resumesAt { return }
        if application.begin(now: now) { log.warning("\(reason); giving tasks back until the application answers") }
    }

    func applicationIsBack() {
        if application.end() { log.info("the application answers again") }
    }

    // MARK: Outcomes

    func ended(_ job: Job, _ outcome: WorkOutcome, log text: String) {
        guard jobs[job.slot] === job else { return }
        jobs[job.slot] = nil
        if jobs.isEmpty { idleSince = now }
        switch job.stopping {
        case .lost?: log.warning("\(job.task.id): the lease is lost or the task cancelled; the work on it was stopped")
        case .timedOut?: report(job.lease, .failed(error: "it ran longer than --timeout"), log: text, job.begunAt)
        case .released?, nil: report(job.lease, outcome, log: text, job.begunAt)
        }
    }

    /// Reports an outcome to the server, and takes note of it. `begunAt` is when the work began, if it did.
    func report(_ lease: TaskLease, _ outcome: WorkOutcome, log text: String = "", _ begunAt: Int64 = .min) {
        reports.add(lease, outcome, log: text)
        let task = lease.task
        switch outcome {
        case .done: doneCount += 1
        case .released:
            releasedCount += 1
            return
        case .failed(let error, _), .dead(let error):
            failedCount += 1
            log.warning("\(task.id): \(error)")
        case .notStarted(let reason): return isShort(reason)
        case .cannotRun(let reason):
            releasedCount += 1
            if isStopping {
                log.error("the command cannot be run: \(reason)")
                status = .failed
            } else {
                stopsCommandsAt = now + options.graceMilliseconds
                stop("the command cannot be run: \(reason); giving the task back", .failed)
            }
            return
        }
        _ = shortage.end()
        if brake.note(isFailure: outcome.isFailure, task: task.id, begunAt: begunAt, now: now) {
            if brake.isOn {
                log.warning("\(FailureBrake.threshold) tasks in a row have failed; trying one at a time, with pauses")
                endWait()
            } else {
                log.info("a task has succeeded; working normally again")
            }
        }
    }

    /// Notes that the system has no room for another command.
    private func isShort(_ reason: String) {
        // The task does not count for --max-tasks.
        takenCount -= 1
        if now >= shortage.resumesAt { _ = shortage.begin(now: now) }
        if hasWarnedOfShortage { return }
        hasWarnedOfShortage = true
        log.warning(
            "cannot start another command now: \(reason); such tasks go back for a moment (a smaller --jobs or a higher "
                + "ulimit may help)")
    }

    private func reported(_ answer: ReportSender.Answer) {
        switch answer {
        case .taken: if !reports.isRetrying { serverIsBack() }
        case .refused: break
        case .away(let failure): serverIsAway(failure)
        case .notAllowed(let failure):
            if isStopping { return serverIsAway(failure) }
            _ = server.begin(now: now)
            givesUpAt = now + options.graceMilliseconds + Self.reportMilliseconds
            stop("the server refuses: \(failure.description)", failure.code)
        }
    }
}
