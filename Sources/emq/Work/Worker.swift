// `emq work`: takes tasks and runs a command for each.
//
// Everything happens on one event loop. A job is a task with its command. A finished job becomes a report, which is sent
// until the server has answered it, so that a server that goes away for a while loses nothing that was done.

import Bytes
import Glibc
import JSON
import Net

final class Worker {
    /// The longest wait for tasks, in milliseconds.
    private static let waitMilliseconds: Int64 = 20_000
    /// The pauses while the server cannot be reached: the first, and the longest. Each is twice the one before.
    private static let retryMilliseconds: ClosedRange<Int64> = 250...5000
    /// The most of the end of an output that is kept for the error, in bytes, and the most lines of it.
    private static let tailBytes = 65_536
    private static let errorBytes = 2000
    private static let errorLines = 5
    /// The largest result, in bytes.
    private static let maximumResultBytes = 8 << 20

    private let options: WorkOptions
    private let client: ServerClient
    private let shutdown: Shutdown
    private let watcher: GroupWatcher
    private let directory: String
    private let environment: [String]
    private let log = Log.standard
    private var jobs: [Int: Job] = [:]
    private var reports: [Report] = []
    private var reportKey: UInt64?
    private var waitKey: UInt64?
    private var brake = FailureBrake()
    /// When the server may be asked again after it could not be reached; and the next pause.
    private var retriesAt = Int64.min
    private var retryPause = Worker.retryMilliseconds.lowerBound
    private var isServerAway = false
    private var takenCount = 0
    /// Since when there has been no task.
    private var idleSince: Int64
    private let startedAt: Int64
    private var isStopping = false
    private var stopsCommandsAt: Int64?
    private var isForced = false
    private var status = ExitCode.done
    private var touchKeys: Set<UInt64> = []

    private var now: Int64 { client.loop.now }

    /// Runs the command.
    static func run(_ invocation: Invocation) throws -> ExitCode {
        let options = try WorkOptions(invocation)
        let place = try ServerPlace(invocation)
        if options.isDryRun { return try dryRun(options, place) }
        Log.standard.configure(.text(ProcessStart.environment), .info)
        let directory = try makeDirectory()
        // Before there is a second thread, and before there are connections that the watcher would hold open.
        let watcher = try GroupWatcher(directory: directory, fileCount: options.jobCount)
        return try Worker(options, place, watcher, directory).work()
    }

    private init(
        _ options: WorkOptions, _ place: ServerPlace, _ watcher: GroupWatcher, _ directory: String
    ) throws {
        (self.options, self.watcher, self.directory) = (options, watcher, directory)
        client = try ServerClient(place)
        shutdown = Shutdown(drainMilliseconds: options.graceMilliseconds)
        try shutdown.watch(on: client.loop)
        (idleSince, startedAt) = (client.loop.now, client.loop.now)
        // The token is not for commands, and the others are those of the task.
        environment = ProcessStart.environment.filter { name, _ in
            !["EMQ_TOKEN", "EMQ_TOKEN_FILE", "TRACEPARENT"].contains(name) && !name.hasPrefix("EMQ_META_")
        }.map { "\($0)=\($1)" }
    }

    /// A folder for the files of results.
    private static func makeDirectory() throws(SystemError) -> String {
        let parent = ProcessStart.environment["TMPDIR"].flatMap { $0.hasPrefix("/") ? $0 : nil } ?? "/tmp"
        var template = Array("\(parent)/emq-work-XXXXXX\0".utf8CString)
        guard unsafe mkdtemp(&template) != nil else { throw SystemError("make a folder in \(parent)") }
        return String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    // MARK: The loop

    private func work() -> ExitCode {
        let queues = options.queues.map(\.name).joined(separator: ", ")
        log.info("working on \(queues) at \(client.place.base), with \(options.jobCount) at once")
        while true {
            reviewShutdown()
            reviewDeadlines()
            sendReports()
            if isStopping, jobs.isEmpty, reports.isEmpty || isForced { break }
            if !isStopping { take() }
            client.turn(until: nextTime())
        }
        if !reports.isEmpty { log.warning("\(reports.count) outcomes could not be reported; those tasks come back") }
        log.info("stopped after \(takenCount) tasks")
        return status
    }

    private func reviewShutdown() {
        if shutdown.isAsked, !isStopping { stop("asked to stop") }
        if shutdown.isForced, !isForced {
            isForced = true
            for job in jobs.values { job.stop(.released, graceMilliseconds: 0, now: now) }
        }
        if let deadline = stopsCommandsAt, now >= deadline {
            stopsCommandsAt = nil
            for job in jobs.values { job.stop(.released, graceMilliseconds: 1000, now: now) }
        }
        if !isStopping {
            if let limit = options.maximumMilliseconds, now >= startedAt + limit { stop("--max-time is over") }
            if let limit = options.maximumTaskCount, takenCount >= limit { stop("--max-tasks is reached") }
        }
    }

    /// Takes nothing more. Commands have time to end.
    private func stop(_ reason: String) {
        isStopping = true
        if let waitKey { client.cancel(waitKey) }
        waitKey = nil
        if shutdown.isAsked {
            stopsCommandsAt = now + options.graceMilliseconds
            if !jobs.isEmpty {
                log.info(
                    "\(reason): \(jobs.count) commands have \(Duration.text(milliseconds: options.graceMilliseconds)) to "
                        + "end; a second signal stops them at once")
                return
            }
        }
        log.info(reason)
    }

    private func nextTime() -> Int64? {
        var times = jobs.values.map { $0.nextTime }
        if let stopsCommandsAt { times.append(stopsCommandsAt) }
        if let limit = options.maximumMilliseconds { times.append(startedAt + limit) }
        if let idle = options.idleMilliseconds, jobs.isEmpty { times.append(idleSince + idle) }
        if brake.isOn { times.append(brake.resumesAt) }
        if retriesAt > now { times.append(retriesAt) }
        return times.filter { $0 > now }.min()
    }

    // MARK: Taking

    private func take() {
        let limit = brake.isOn ? 1 : options.jobCount
        var free = limit - jobs.count
        if let maximum = options.maximumTaskCount { free = min(free, maximum - takenCount) }
        guard waitKey == nil, free > 0, now >= retriesAt, now >= brake.resumesAt else { return }
        var wait = Self.waitMilliseconds
        if let idle = options.idleMilliseconds { wait = min(wait, max(0, idleSince + idle - now)) }
        if let limit = options.maximumMilliseconds { wait = min(wait, max(0, startedAt + limit - now)) }
        var body = Array("{\"queues\":[".utf8)
        for (index, name) in queueOrder().enumerated() {
            if index > 0 { body.append(UInt8(ascii: ",")) }
            JSONWriter.write(name, to: &body)
        }
        body += Array("],\"max\":\(min(free, 1000)),\"timeout\":\(wait),\"worker\":".utf8)
        JSONWriter.write(options.name, to: &body)
        if let lease = options.leaseMilliseconds { body += Array(",\"retry\":\(Double(lease) / 1000)".utf8) }
        body.append(UInt8(ascii: "}"))
        var request = ServerRequest("/wait/", json: body)
        request.timeoutMilliseconds += wait
        waitKey = client.send(request) { [weak self] in self?.took($0) }
    }

    /// The names of the queues: as they were named, or at random by weight.
    private func queueOrder() -> [String] {
        guard options.isWeighted else { return options.queues.map(\.name) }
        // With the keys -log(u)/w, a queue comes first with a probability in proportion to its weight (Efraimidis and
        // Spirakis, "Weighted random sampling with a reservoir", 2006).
        var keyed: [(name: String, key: Double)] = []
        for queue in options.queues {
            keyed.append((queue.name, -Glibc.log(Double.random(in: .ulpOfOne...1)) / Double(queue.weight)))
        }
        return keyed.sorted { $0.key < $1.key }.map(\.name)
    }

    private func took(_ result: Result<ServerResponse, CommandFailure>) {
        waitKey = nil
        switch result {
        case .failure(let failure): serverIsAway(failure)
        case .success(let response) where response.isSuccess:
            serverIsBack()
            let tasks = response.json?.members.compactMap { WorkTask($0.value) } ?? []
            if tasks.isEmpty {
                if let idle = options.idleMilliseconds, jobs.isEmpty, now >= idleSince + idle { stop("no task left") }
                return
            }
            for task in tasks { start(task) }
        case .success(let response):
            let failure = response.failure
            if failure.code == .refusedForNow || response.status >= 500 { return serverIsAway(failure) }
            log.error(failure.description)
            status = failure.code
            stop("the server refuses")
        }
    }

    private func serverIsAway(_ failure: CommandFailure) {
        if !isServerAway { log.warning("\(failure.description); trying again") }
        isServerAway = true
        retriesAt = now + retryPause / 2 + Int64.random(in: 0...retryPause / 2)
        retryPause = min(2 * retryPause, Self.retryMilliseconds.upperBound)
    }

    private func serverIsBack() {
        if isServerAway { log.info("the server answers again") }
        (isServerAway, retryPause, retriesAt) = (false, Self.retryMilliseconds.lowerBound, .min)
    }

    // MARK: Commands

    private func start(_ task: WorkTask) {
        takenCount += 1
        let slot = (0..<options.jobCount).first { jobs[$0] == nil } ?? options.jobCount
        let path = "\(directory)/\(slot)"
        unsafe unlink(path)
        let job = Job(task, resultPath: path, options, now: now)
        let image: SubprocessImage
        do throws(TemplateFailure) {
            image = SubprocessImage(
                path: options.programPath, arguments: try options.template.words(for: task),
                environment: environment + job.variables)
        } catch {
            return report(task, .dead(error: error.description), log: "")
        }
        do throws(SystemError) {
            job.process = try Subprocess(
                image, input: task.input, on: client.loop, watcher: watcher,
                output: { [options] part in
                    if options.takesOutputAsResult {
                        job.takeOutput(part, limit: Self.maximumResultBytes)
                    } else {
                        job.tail.append(part)
                        Self.pass(part, to: STDOUT_FILENO)
                    }
                },
                error: { part in
                    job.tail.append(part)
                    job.errorTail.append(part)
                    Self.pass(part, to: STDERR_FILENO)
                }, ended: { [weak self] in self?.ended(slot, $0) })
            jobs[slot] = job
        } catch {
            // The task is at fault if its content makes the command line too long.
            let isTaskAtFault = error.code == E2BIG
            report(task, isTaskAtFault ? .dead(error: "\(error)") : .cannotRun(reason: "\(error)"), log: "")
        }
    }

    /// Passes a command's output on. What does not fit into a full pipe is dropped: the worker must go on extending
    /// leases.
    private static func pass(_ part: ArraySlice<UInt8>, to descriptor: Int32) {
        var rest = part
        while !rest.isEmpty {
            var readiness = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            guard unsafe poll(&readiness, 1, 0) == 1 else { return }
            // A pipe that is ready takes so many bytes without waiting (pipe(7)).
            let count = unsafe rest.prefix(Int(PIPE_BUF)).withUnsafeBytes {
                unsafe write(descriptor, $0.baseAddress, $0.count)
            }
            if count <= 0 { return }
            rest = rest.dropFirst(count)
        }
    }

    private func ended(_ slot: Int, _ end: SubprocessEnd) {
        guard let job = jobs.removeValue(forKey: slot) else { return }
        if jobs.isEmpty { idleSince = now }
        let outcome: WorkOutcome
        switch job.stopping {
        case .lost?: return log.warning("\(job.task.id): the lease is lost; the command was stopped")
        case .timedOut?: outcome = .failed(error: "the command ran longer than --timeout")
        // A command that ends well although it was asked to stop has done its work.
        case .released? where end != .exited(0): outcome = .released
        case .released?, nil:
            outcome = WorkOutcome(
                end, result: job.result(options, limit: Self.maximumResultBytes),
                lastLines: job.errorTail.lastLines(Self.errorLines, maximumBytes: Self.errorBytes),
                deadStatuses: options.deadStatuses)
        }
        report(job.task, outcome, log: job.tail.text)
    }

    private func reviewDeadlines() {
        var touched: [Job] = []
        for job in jobs.values {
            job.review(options, now: now)
            if now >= job.touchesAt, job.stopping != .lost { touched.append(job) }
        }
        if !touched.isEmpty { touch(touched) }
    }

    private func touch(_ touched: [Job]) {
        var body = Array("{\"ids\":[".utf8)
        for (index, job) in touched.enumerated() {
            if index > 0 { body.append(UInt8(ascii: ",")) }
            JSONWriter.write(job.task.receipt, to: &body)
            job.touchesAt = now + job.touchMilliseconds
        }
        body += Array("]}".utf8)
        client.send(ServerRequest("/touch/", json: body)) { [weak self] result in
            guard let self, case .success(let response) = result, response.isSuccess else { return }
            let missing = Set(response.json?["missing"]?.members.compactMap { $0.value.text } ?? [])
            for job in jobs.values where missing.contains(job.task.receipt) {
                job.stop(.lost, graceMilliseconds: options.graceMilliseconds, now: now)
            }
        }
    }

    // MARK: Reports

    /// A finished task that the server does not know of yet.
    private struct Report {
        let task: WorkTask
        let outcome: WorkOutcome
        let log: String
    }

    private func report(_ task: WorkTask, _ outcome: WorkOutcome, log text: String) {
        if jobs.isEmpty { idleSince = now }
        reports.append(Report(task: task, outcome: outcome, log: text))
        switch outcome {
        case .done, .released: break
        case .failed(let error), .dead(let error): log.warning("\(task.id): \(error)")
        case .cannotRun(let reason):
            log.error("the command cannot be run: \(reason)")
            status = .failed
            if !isStopping { stop("giving the task back") }
        }
        if case .released = outcome { return }
        if brake.note(isFailure: outcome.isFailure, task: task.id, now: now) {
            if brake.isOn {
                log.warning("\(FailureBrake.threshold) tasks in a row have failed; trying one at a time, with pauses")
            } else {
                log.info("a task has succeeded; working normally again")
            }
        }
    }

    /// Sends the oldest reports of one kind in one request.
    private func sendReports() {
        guard reportKey == nil, let first = reports.first, now >= retriesAt || !isServerAway else { return }
        var sent = 1
        let request: ServerRequest
        if case .done = first.outcome {
            var body = Array("{\"tasks\":[".utf8)
            sent = 0
            for report in reports.prefix(1000) {
                guard case .done(let result) = report.outcome, body.count < 4 << 20 else { break }
                if sent > 0 { body.append(UInt8(ascii: ",")) }
                body += Array("{\"id\":".utf8)
                JSONWriter.write(report.task.receipt, to: &body)
                if let result { body += Array(",\"result\":".utf8) + result }
                body.append(UInt8(ascii: "}"))
                sent += 1
            }
            request = ServerRequest("/ack/", json: body + Array("]}".utf8))
        } else {
            var body = Array("{\"ids\":[".utf8)
            JSONWriter.write(first.task.receipt, to: &body)
            body.append(UInt8(ascii: "]"))
            switch first.outcome {
            case .done: break
            case .released, .cannotRun: body += Array(",\"release\":true".utf8)
            case .failed(let error): Self.append("error", error, to: &body)
            case .dead(let error):
                Self.append("error", error, to: &body)
                body += Array(",\"dead\":true".utf8)
            }
            if first.outcome.isFailure, !first.log.isEmpty { Self.append("log", first.log, to: &body) }
            request = ServerRequest("/nak/", json: body + [UInt8(ascii: "}")])
        }
        reportKey = client.send(request) { [weak self, sent] in self?.reported(sent, $0) }
    }

    private static func append(_ name: String, _ text: String, to body: inout [UInt8]) {
        body += Array(",\"\(name)\":".utf8)
        JSONWriter.write(text, to: &body)
    }

    private func reported(_ count: Int, _ result: Result<ServerResponse, CommandFailure>) {
        reportKey = nil
        switch result {
        case .failure(let failure): serverIsAway(failure)
        case .success(let response):
            let failure = response.failure
            if !response.isSuccess, failure.code == .refusedForNow || response.status >= 500 {
                return serverIsAway(failure)
            }
            serverIsBack()
            reports.removeFirst(count)
            if !response.isSuccess { log.error("the server refuses an outcome: \(failure.description)") }
            for id in response.json?["missing"]?.members.compactMap({ $0.value.text }) ?? [] {
                log.warning("\(id.prefix { $0 != "@" }): the lease was lost before the outcome arrived")
            }
        }
    }

    // MARK: Dry run

    /// Shows the command lines for the first tasks of each queue.
    private static func dryRun(_ options: WorkOptions, _ place: ServerPlace) throws -> ExitCode {
        let client = try ServerClient(place)
        for queue in options.queues {
            let target = ServerRequest.target("/peek/", name: queue.name, query: [("n", "10")])
            let response = try client.response(to: ServerRequest(target))
            if !response.isSuccess { throw response.failure }
            for (_, json) in response.json?.members ?? [] {
                guard let task = WorkTask(peeked: json) else { continue }
                do throws(TemplateFailure) {
                    Emq.print(
                        "\(task.id)\t"
                            + (try options.template.words(for: task)).map(ServerRequest.quoted).joined(separator: " "))
                } catch {
                    Emq.print("\(task.id)\t(dead: \(error.description))")
                }
            }
        }
        return .done
    }
}
