// A request to an application for each task, as the server's push sends it.

import Bytes
import Delivery
import Net

/// Sends each task to a URL.
final class ApplicationTasks: TaskRunner {
    private let url: HTTPURL
    private let options: WorkOptions
    private let client: ServerClient
    private unowned let holder: any TaskHolder

    init(_ options: WorkOptions, _ url: HTTPURL, _ client: ServerClient, for holder: any TaskHolder) {
        (self.options, self.url, self.client, self.holder) = (options, url, client, holder)
    }

    func begin(_ task: WorkTask, slot: Int, now: Int64) -> Job? {
        let job = ApplicationJob(task, slot: slot, in: self, now: now)
        var request = ClientRequest(
            url: url, method: Array("POST".utf8), fields: Self.fields(of: task), body: task.content)
        request.timeoutMilliseconds = options.timeoutMilliseconds ?? TaskDelivery.defaultTimeoutMilliseconds
        job.key = client.send(request) { [weak self] in self?.ended(job, $0) }
        return job
    }

    private static func fields(of task: WorkTask) -> [UInt8] {
        var fields: [UInt8] = []
        if let id = task.requestID, Array(id.utf8).span.isRequestID {
            fields += Array("X-Request-Id: \(id)\r\n".utf8)
        }
        if let traceparent = task.traceparent, Array(traceparent.utf8).span.isTraceparent {
            fields += Array("traceparent: \(traceparent)\r\n".utf8)
        }
        fields += Array("User-Agent: emq\r\nContent-Type: application/json\r\n".utf8)
        var queue: [UInt8] = []
        PercentEncoding.encode(Array(task.queue.utf8).span, into: &queue)
        // The server may be anybody's.
        let id = task.id.utf8.filter { 0x20 < $0 && $0 < 0x7F }
        TaskDelivery.appendFields(
            id: Array(id).span, encodedQueue: queue, attempt: Int64(task.attempt), to: &fields)
        return fields
    }

    private func ended(_ job: ApplicationJob, _ outcome: borrowing ClientOutcome) {
        job.key = nil
        switch outcome.result {
        case .failure(let failure):
            let place = TaskDelivery.place(of: url)
            guard Self.isAway(failure) else {
                return holder.ended(job, .failed(error: "\(place): \(failure)"), log: "")
            }
            holder.ended(job, .released(), log: "")
            holder.applicationIsAway("\(failure)")
        case .success(let response):
            holder.applicationIsBack()
            let verdict = TaskDelivery.verdict(on: response, from: TaskDelivery.place(of: url), now: client.loop.now)
            switch verdict {
            case .done:
                let result = TaskDelivery.result(of: response, elapsedMilliseconds: outcome.elapsedMilliseconds)
                holder.ended(job, .done(result: result), log: "")
            case .unwanted(let error): holder.ended(job, .dead(error: error), log: "")
            case .failed(let error, let pause):
                holder.ended(job, .failed(error: error, delay: pause.map { Double($0) / 1000 }), log: "")
            }
        }
    }

    /// Whether the application cannot be reached at all, so that the task is not at fault.
    private static func isAway(_ failure: ClientFailure) -> Bool {
        switch failure {
        case .lookUp, .connect, .tls, .timeout(.connecting, _, _): true
        default: false
        }
    }

    /// Aborts the request of a task that is being stopped: the application sees that the connection ends.
    fileprivate func abort(_ job: ApplicationJob) {
        guard let key = job.key else { return }
        job.key = nil
        client.cancel(key)
        holder.ended(job, .released(), log: "")
    }
}

/// A task with its request.
final class ApplicationJob: Job {
    private unowned let owner: ApplicationTasks
    fileprivate var key: UInt64?

    init(_ task: WorkTask, slot: Int, in owner: ApplicationTasks, now: Int64) {
        self.owner = owner
        super.init(task, slot: slot, now: now)
    }

    override func askToEnd(now: Int64) { owner.abort(self) }

    override func endNow(now: Int64) { owner.abort(self) }
}
