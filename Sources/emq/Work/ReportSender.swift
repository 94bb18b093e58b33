// Tells the server what became of tasks, until it has answered.

import Bytes
import JSON

/// The finished tasks that the server does not know of yet.
final class ReportSender {
    /// What the server said to a report.
    enum Answer {
        case taken
        /// It never takes them as they are. They have been changed, or given up.
        case refused
        /// It did not answer, or not now.
        case away(CommandFailure)
        /// The worker may not say so.
        case notAllowed(CommandFailure)
    }

    private struct Report {
        let lease: TaskLease
        var outcome: WorkOutcome
        /// The end of what was printed for the task.
        var log: String
        /// Whether it is sent in a request of its own, because a request with it was refused.
        var isAlone = false
        /// Whether the server has not taken it when it was sent.
        var isPutOff = false
        /// Whether it may have arrived before, because the server has not answered.
        var mayHaveArrived = false

        var task: WorkTask { lease.task }
        var hasResult: Bool { resultByteCount > 0 }
        var resultByteCount: Int { if case .done(let result?, _) = outcome { result.count } else { 0 } }
    }

    /// The most reports, and about the most bytes, of one request.
    private static let maximumCount = 1000
    private static let requestBytes = 4 << 20
    /// A larger result goes alone when the server has not taken it with others, in bytes.
    private static let smallResultBytes = 65_536

    private let client: ServerClient
    private let log = Log.standard
    private var reports: [Report] = []
    /// How many of them, from the first, are on their way.
    private var sentCount = 0
    /// Whether there are reports that the server has not taken when they were sent.
    private(set) var isRetrying = false

    init(_ client: ServerClient) { self.client = client }

    var isEmpty: Bool { reports.isEmpty }
    var count: Int { reports.count }

    /// How many reports are not on their way.
    var waitingCount: Int { reports.count - sentCount }
    /// The leases of the tasks, which last until the server has taken the reports.
    var leases: [TaskLease] { reports.map(\.lease) }

    /// Adds the outcome of a task.
    func add(_ lease: TaskLease, _ outcome: WorkOutcome, log text: String) {
        reports.append(Report(lease: lease, outcome: outcome, log: text))
    }

    /// Sends the oldest reports, as far as one request can have them.
    ///
    /// - Parameters:
    ///   - isServerAway: whether to wait with that.
    ///   - answered: called with the answer, later.
    func send(isServerAway: Bool, answered: @escaping (Answer) -> Void) {
        guard sentCount == 0, !isServerAway, let first = reports.first else { return }
        let (request, count) =
            switch first.outcome {
            case .done: acknowledgement()
            case .released(nil), .cannotRun: release()
            case .released, .notStarted, .failed, .dead: (refusal(first), 1)
            }
        sentCount = count
        client.send(request) { [weak self] result in
            guard let self else { return }
            sentCount = 0
            let answer = answer(to: count, result)
            isRetrying = reports.contains(where: \.isPutOff)
            answered(answer)
        }
    }

    // MARK: Requests

    private func acknowledgement() -> (ServerRequest, Int) {
        var body = Array("{\"tasks\":[".utf8)
        var count = 0
        for report in reports.prefix(Self.maximumCount) {
            guard case .done(let result, let log) = report.outcome, body.count < Self.requestBytes else { break }
            if count > 0, report.isAlone || reports[0].isAlone { break }
            if count > 0, report.isPutOff, report.hasResult != reports[0].hasResult { break }
            if count > 0 { body.append(UInt8(ascii: ",")) }
            body += Array("{\"id\":".utf8)
            JSONWriter.write(report.task.receipt, to: &body)
            if let result { body += Array(",\"result\":".utf8) + result }
            if let log, !log.isEmpty { Self.append("log", log, to: &body) }
            body.append(UInt8(ascii: "}"))
            count += 1
        }
        return (ServerRequest("/ack/", json: body + Array("]}".utf8)), count)
    }

    private func release() -> (ServerRequest, Int) {
        var body = Array("{\"ids\":[".utf8)
        var count = 0
        loop: for report in reports.prefix(Self.maximumCount) {
            switch report.outcome {
            case .released(nil), .cannotRun: break
            default: break loop
            }
            if count > 0, report.isAlone || reports[0].isAlone { break }
            if count > 0 { body.append(UInt8(ascii: ",")) }
            JSONWriter.write(report.task.receipt, to: &body)
            count += 1
        }
        return (ServerRequest("/nak/", json: body + Array("],\"release\":true}".utf8)), count)
    }

    private func refusal(_ report: Report) -> ServerRequest {
        var body = Array("{\"ids\":[".utf8)
        JSONWriter.write(report.task.receipt, to: &body)
        body.append(UInt8(ascii: "]"))
        func append(_ delay: Double?) {
            if let delay { body += Array(",\"delay\":\(delay)".utf8) }
        }
        switch report.outcome {
        case .done, .cannotRun: break
        case .released(let delay):
            body += Array(",\"release\":true".utf8)
            append(delay)
        case .notStarted:
            body += Array(",\"release\":true".utf8)
            append(WorkOutcome.shortageSeconds)
        case .failed(let error, let delay):
            Self.append("error", Self.shortened(error), to: &body)
            append(delay)
        case .dead(let error):
            Self.append("error", Self.shortened(error), to: &body)
            body += Array(",\"dead\":true".utf8)
        }
        if report.outcome.isFailure, !report.log.isEmpty { Self.append("log", report.log, to: &body) }
        return ServerRequest("/nak/", json: body + [UInt8(ascii: "}")])
    }

    private static func append(_ name: String, _ text: String, to body: inout [UInt8]) {
        body += Array(",\"\(name)\":".utf8)
        JSONWriter.write(text, to: &body)
    }

    /// The beginning of an error, as much as the server takes.
    private static func shortened(_ error: String) -> String {
        if error.utf8.count <= API.maximumErrorBytes { return error }
        let bytes = Array(error.utf8)
        return String(
            decoding: bytes.prefix(bytes.span.characterBoundary(atMost: API.maximumErrorBytes)), as: UTF8.self)
    }

    // MARK: Answers

    private func answer(to count: Int, _ result: Result<ServerResponse, CommandFailure>) -> Answer {
        switch result {
        case .failure(let failure):
            putOff(count, mayHaveArrived: true)
            return .away(failure)
        case .success(let response) where response.isSuccess:
            let missing = response.json?["missing"]?.members.compactMap({ $0.value.text }) ?? []
            if !missing.isEmpty { warn(ofMissing: Set(missing), among: reports.prefix(count)) }
            reports.removeFirst(min(count, reports.count))
            return .taken
        case .success(let response):
            let failure = response.failure
            // A server without room for a log may have room for the outcome.
            if response.status == 503 || response.status == 507, dropLogs(count) { return .refused }
            if failure.code == .notAllowed {
                putOff(count)
                return .notAllowed(failure)
            }
            // With any other status, something between may have answered: what is done is not given up for that.
            guard [400, 413, 422].contains(response.status) else {
                putOff(count, mayHaveArrived: [408, 502, 504].contains(response.status), behindOthers: true)
                return .away(failure)
            }
            refused(count, failure)
            return .refused
        }
    }

    private func warn(ofMissing missing: Set<String>, among sent: ArraySlice<Report>) {
        for report in sent where missing.contains(report.task.receipt) {
            log.warning(
                report.mayHaveArrived
                    ? "\(report.task.id): not held any more when the outcome was sent again: it arrived the first time, "
                        + "or the lease was lost"
                    : "\(report.task.id): the lease was lost before the outcome arrived")
        }
    }

    /// Notes that the server has not taken the first reports. Behind others, they do not keep it from taking those: it
    /// may have room for what has no result.
    private func putOff(_ count: Int, mayHaveArrived: Bool = false, behindOthers: Bool = false) {
        var sent = Array(reports.prefix(count))
        for index in sent.indices {
            sent[index].isPutOff = true
            if mayHaveArrived { sent[index].mayHaveArrived = true }
            if behindOthers, sent[index].resultByteCount > Self.smallResultBytes { sent[index].isAlone = true }
        }
        reports.removeFirst(sent.count)
        if behindOthers {
            reports += sent.filter { !$0.hasResult } + sent.filter { $0.hasResult }
        } else {
            reports = sent + reports
        }
    }

    /// Drops the logs of the first reports; false if they have none.
    private func dropLogs(_ count: Int) -> Bool {
        var hasDropped = false
        for index in reports.indices.prefix(count) {
            if case .done(let result, _?) = reports[index].outcome {
                reports[index].outcome = .done(result: result)
                hasDropped = true
            } else if reports[index].outcome.isFailure, !reports[index].log.isEmpty {
                reports[index].log = ""
                hasDropped = true
            }
        }
        return hasDropped
    }

    /// Makes what the server refuses smaller: first each report alone, then without the log; a result that is refused
    /// makes the task fail. What is refused even then is given up: the task comes back when its lease ends.
    private func refused(_ count: Int, _ failure: CommandFailure) {
        if count > 1 {
            for index in reports.indices.prefix(count) { reports[index].isAlone = true }
            return
        }
        guard let first = reports.first else { return }
        switch first.outcome {
        case .done(let result, _?): reports[0].outcome = .done(result: result)
        case .done(_?, nil):
            log.warning("\(first.task.id): the server refuses the result: \(failure.description)")
            reports[0].outcome = .failed(error: "the server refuses the result: \(failure.description)")
        case .failed where !first.log.isEmpty, .dead where !first.log.isEmpty: reports[0].log = ""
        default:
            log.error("\(first.task.id): the server refuses the outcome: \(failure.description)")
            reports.removeFirst()
        }
    }
}
