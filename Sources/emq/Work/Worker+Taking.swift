// Taking tasks from the server.

import Bytes
import Glibc
import JSON

extension Worker {
    /// The longest wait for tasks, in milliseconds.
    private static let waitMilliseconds: Int64 = 20_000
    /// How long a wait that is no longer wanted has for its response, in milliseconds.
    private static let answerMilliseconds: Int64 = 5000
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

    /// Ends the wait for tasks, because none are wanted now. The response may be on its way with some: those are given
    /// back.
    func endWait() {
        guard let waitKey, waitEndsAt == nil else { return }
        if client.endSending(waitKey) { waitEndsAt = now + Self.answerMilliseconds } else { abandonWait() }
    }

    /// Ends the wait without its response.
    func abandonWait() {
        if let waitKey { client.cancel(waitKey) }
        (waitKey, waitEndsAt) = (nil, nil)
    }

    private func took(_ result: Result<ServerResponse, CommandFailure>) {
        let isWanted = waitEndsAt == nil
        (waitKey, waitEndsAt) = (nil, nil)
        switch result {
        case .failure(let failure): if isWanted { serverIsAway(failure) }
        case .success(let response) where response.isSuccess:
            // What the server does not take now has begun a pause of its own.
            if !reports.isRetrying { serverIsBack() }
            _ = refusal.end()
            let tasks = response.json?.members.compactMap { WorkTask($0.value) } ?? []
            if !isWanted {
                for task in tasks { report(TaskLease(task, now: now), .released()) }
            } else if !tasks.isEmpty {
                emptyWaitMilliseconds = Self.emptyWaitMilliseconds.lowerBound
                for task in tasks { start(task) }
            } else if let idle = options.idleMilliseconds {
                emptyWaitMilliseconds = min(2 * emptyWaitMilliseconds, Self.emptyWaitMilliseconds.upperBound)
                if jobs.isEmpty, now >= idleSince + idle { stop("no task left") }
            }
        case .success(let response):
            let failure = response.failure
            if !isWanted { return }
            if response.isTemporaryRefusal {
                // It may take reports all the same.
                if refusal.begin(now: now) { log.warning("\(failure.description); trying again") }
                return
            }
            stop("the server refuses: \(failure.description)", failure.code)
        }
    }

    private func start(_ task: WorkTask) {
        takenCount += 1
        guard let slot = (0..<options.jobCount).first(where: { jobs[$0] == nil }) else {
            return report(TaskLease(task, now: now), .released())
        }
        guard let job = runner.begin(task, slot: slot, now: now) else {
            return report(TaskLease(task, now: now), .released(delay: Self.busySeconds))
        }
        jobs[slot] = job
    }

    /// How long a task is put off that cannot begin because of itself.
    private static let busySeconds = 1.0
}

extension ServerResponse {
    /// Whether the same request may succeed later.
    var isTemporaryRefusal: Bool { [408, 425, 429].contains(status) || status >= 500 }
}
