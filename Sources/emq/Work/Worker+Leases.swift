// Extending the leases of tasks in work, and of those whose outcomes the server does not know yet.

import Bytes
import JSON

extension Worker {
    /// The most leases that one request extends.
    private static let leasesPerRequest = 1000

    /// Stops what takes too long, and extends leases.
    func reviewDeadlines() {
        for job in jobs.values { job.review(graceMilliseconds: options.graceMilliseconds, now: now) }
        runner.review(now: now)
        let due = (jobs.values.map(\.lease) + reports.leases).filter { now >= $0.touchesAt }
        for start in stride(from: 0, to: due.count, by: Self.leasesPerRequest) {
            touch(Array(due[start...].prefix(Self.leasesPerRequest)))
        }
    }

    func progressed(_ job: Job) {
        if !job.lease.isTouching { touch([job.lease]) }
    }

    private func touch(_ leases: [TaskLease]) {
        var body = Array("{\"ids\":[".utf8)
        for (index, lease) in leases.enumerated() {
            if index > 0 { body.append(UInt8(ascii: ",")) }
            JSONWriter.write(lease.task.receipt, to: &body)
            lease.beginTouch()
        }
        body.append(UInt8(ascii: "]"))
        // Each task has its own progress.
        let job = leases.count == 1 ? job(with: leases[0]) : nil
        let progress = job?.progress
        if let progress {
            body += Array(",\"progress\":".utf8) + progress
            job?.progress = nil
        }
        var request = ServerRequest("/touch/", json: body + [UInt8(ascii: "}")])
        // An answer that comes too late for another attempt does not help.
        let shortest = leases.map(\.touchMilliseconds).min() ?? 0
        request.timeoutMilliseconds = min(request.timeoutMilliseconds, max(shortest, 1000))
        client.send(request) { [weak self] in self?.touched(leases, progress, $0) }
    }

    private func job(with lease: TaskLease) -> Job? { jobs.values.first { $0.lease === lease } }

    private func touched(
        _ leases: [TaskLease], _ progress: [UInt8]?, _ result: Result<ServerResponse, CommandFailure>
    ) {
        var isExtended = false
        var isKnown = true
        switch result {
        case .failure(let failure):
            isKnown = false
            serverIsAway(failure)
        case .success(let response) where response.isSuccess:
            isExtended = true
            // Only the server knows whether a lease is lost.
            let missing = Set(response.json?["missing"]?.members.compactMap { $0.value.text } ?? [])
            for lease in leases where missing.contains(lease.task.receipt) {
                lease.lose()
                // The report of a task that is not in work any more says itself what became of it.
                job(with: lease)?.stop(.lost, graceMilliseconds: options.graceMilliseconds, now: now)
            }
        case .success(let response) where response.isTemporaryRefusal:
            isKnown = false
            serverIsAway(response.failure)
        case .success(let response):
            // Without the progress, the server may extend the lease. If there was none, the next attempt at the usual
            // time may be as useless, but nothing better is left.
            isExtended = progress == nil
            let refused = progress == nil ? "to extend leases" : "the progress of \(leases[0].task.id)"
            log.error("the server refuses \(refused): \(response.failure.description)")
        }
        for lease in leases { lease.endTouch(isExtended: isExtended, now: now) }
        if !isKnown {
            if let progress, let job = job(with: leases[0]), job.progress == nil { job.progress = progress }
            return
        }
        for lease in leases {
            if !lease.isLost, !lease.isTouching, let job = job(with: lease), job.progress != nil { touch([lease]) }
        }
    }
}
