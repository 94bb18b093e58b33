// Taking tasks from the server.

import Bytes
import Glibc
import JSON

extension Worker {
    /// The longest wait for tasks, in milliseconds.
    private static let waitMilliseconds: Int64 = 20_000
    /// The waits of a worker that ends when there is no task, while it still has some in work. Each is twice the one
    /// before.
    static let emptyWaitMilliseconds: ClosedRange<Int64> = 10...1000

    /// Asks the server for tasks if there is room for any.
    func take() {
        guard waitKey == nil, mayTake else { return }
        var free = jobLimit - jobs.count
        if let maximum = options.maximumTaskCount { free = min(free, maximum - takenCount) }
        if free <= 0 { return }
        var wait = Self.waitMilliseconds
        if let idle = options.idleMilliseconds {
            wait = min(wait, jobs.isEmpty ? max(0, idleSince + idle - now) : emptyWaitMilliseconds)
        }
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
            _ = refusal.end()
            let tasks = response.json?.members.compactMap { WorkTask($0.value) } ?? []
            if !tasks.isEmpty {
                emptyWaitMilliseconds = Self.emptyWaitMilliseconds.lowerBound
                for task in tasks { start(task) }
            } else if let idle = options.idleMilliseconds {
                emptyWaitMilliseconds = min(2 * emptyWaitMilliseconds, Self.emptyWaitMilliseconds.upperBound)
                if jobs.isEmpty, now >= idleSince + idle { stop("no task left") }
            }
        case .success(let response):
            let failure = response.failure
            if response.isTemporaryRefusal {
                // It may take reports all the same.
                if refusal.begin(now: now) { log.warning("\(failure.description); trying again") }
                return
            }
            log.error(failure.description)
            stop("the server refuses", failure.code)
        }
    }

    private func start(_ task: WorkTask) {
        takenCount += 1
        guard let slot = (0..<options.jobCount).first(where: { jobs[$0] == nil }) else {
            return report(task, .released())
        }
        guard let job = runner.begin(task, slot: slot, now: now) else {
            return report(task, .released(delay: Self.busySeconds))
        }
        jobs[slot] = job
    }

    /// How long a task is put off that cannot begin because of itself.
    private static let busySeconds = 1.0

    // MARK: Leases

    /// Stops what takes too long, and extends leases.
    func reviewDeadlines() {
        var touched: [Job] = []
        for job in jobs.values {
            job.review(graceMilliseconds: options.graceMilliseconds, now: now)
            if now >= job.touchesAt, job.stopping != .lost { touched.append(job) }
        }
        runner.review(now: now)
        if !touched.isEmpty { touch(touched) }
    }

    func progressed(_ job: Job) {
        if !job.isTouching { touch([job]) }
    }

    private func touch(_ touched: [Job], progress: [UInt8]? = nil) {
        var body = Array("{\"ids\":[".utf8)
        for (index, job) in touched.enumerated() {
            if index > 0 { body.append(UInt8(ascii: ",")) }
            JSONWriter.write(job.task.receipt, to: &body)
            job.beginTouch()
        }
        body.append(UInt8(ascii: "]"))
        // Each task has its own progress.
        if touched.count == 1, let progress = touched[0].progress {
            body += Array(",\"progress\":".utf8) + progress
            touched[0].progress = nil
        }
        var request = ServerRequest("/touch/", json: body + [UInt8(ascii: "}")])
        // An answer that comes too late for another attempt does not help.
        let shortest = touched.map(\.touchMilliseconds).min() ?? 0
        request.timeoutMilliseconds = min(request.timeoutMilliseconds, max(shortest, 1000))
        client.send(request) { [weak self] in self?.touched(touched, $0) }
    }

    private func touched(_ touched: [Job], _ result: Result<ServerResponse, CommandFailure>) {
        var isAnswered = false
        switch result {
        case .failure(let failure): serverIsAway(failure)
        case .success(let response) where response.isSuccess:
            isAnswered = true
            // Only the server knows whether a lease is lost.
            let missing = Set(response.json?["missing"]?.members.compactMap { $0.value.text } ?? [])
            for job in touched where missing.contains(job.task.receipt) && jobs[job.slot] === job {
                job.stop(.lost, graceMilliseconds: options.graceMilliseconds, now: now)
            }
        case .success(let response):
            if response.isTemporaryRefusal {
                serverIsAway(response.failure)
            } else {
                // The next attempt at the usual time may be as useless, but the lease may still be extended.
                isAnswered = true
                log.error("the server refuses to extend leases: \(response.failure.description)")
            }
        }
        for job in touched {
            job.endTouch(isAnswered: isAnswered, now: now)
            if isAnswered, job.progress != nil, jobs[job.slot] === job { touch([job]) }
        }
    }
}

extension ServerResponse {
    /// Whether the same request may succeed later.
    var isTemporaryRefusal: Bool { status == 429 || status >= 500 }
}
