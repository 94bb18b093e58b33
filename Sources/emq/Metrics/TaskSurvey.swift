// Looking at all tasks for `/errors/` and `/workers/`, without delaying other clients: a slice in each turn of the loop.
//
// All who ask share a census of the tasks for a hundred times as long as it took to make, so censuses take a hundredth
// of the loop's time at most. They share the texts of answers too, so an answer that many ask for again and again is
// written once for each census.

import Bytes
import Net
import Queues

/// An answer that is made of a census.
class SurveyReport: PendingAnswer {
    let caller: Caller
    fileprivate let ticket: Ticket
    /// The path and the query, by which clients share an answer.
    fileprivate let target: [UInt8]
    fileprivate private(set) var isWithdrawn = false

    init(of request: borrowing Request, by caller: Caller) {
        self.caller = caller
        ticket = request.ticket
        target = Array(copying: request.path) + [UInt8(ascii: "?")] + Array(copying: request.query)
        super.init(nil)
    }

    override func withdraw(on broker: isolated Broker) { isWithdrawn = true }

    /// Writes the JSON of the answer. O(groups, or holdings and workers).
    func write(_ census: TaskCensus, asOf time: Int64, to text: inout [UInt8]) {
        preconditionFailure("every report writes itself")
    }
}

/// The census that is shared, the one that is being made, and those who wait for it.
final class TaskSurvey {
    /// How much to do in a turn: about half a millisecond.
    static let stepsPerTurn = 50_000
    /// For how many steps of making it a census is used for a millisecond: steps of 10 ns, a hundred times over.
    private static let stepsPerMillisecond = 1000
    /// For how long it stays in memory after that.
    private static let keepingMilliseconds: Int64 = 5000
    /// How many may wait for a census at once.
    private static let maximumReports = 1000
    /// How many texts are shared, and their greatest length.
    private static let maximumTexts = 32
    private static let maximumTextBytes = 262_144
    /// How many answers are written in a turn, if their texts are shared.
    private static let maximumAnswersPerTurn = 64
    /// The most groups if there is no memory for more.
    private static let maximumGroupsWhenShort = 200

    private struct Kept {
        let census: TaskCensus
        let begun: Int64
        let end: Int64
        var texts: [[UInt8]: [UInt8]] = [:]
    }

    private var kept: Kept?
    private var census: TaskCensus?
    private var begun: Int64 = 0
    /// Those who wait for the census that is being made, or, if there is none, for their answer from the one that is.
    private var reports: [SurveyReport] = []

    /// Whether turns are needed at once.
    var isUnderWay: Bool { census != nil || !reports.isEmpty }

    /// When a turn is needed to free memory; nil for no such time.
    var nextDeadline: Int64? { kept.map { $0.end + Self.keepingMilliseconds } }

    /// The memory of the censuses and their texts, in bytes. O(texts).
    var byteCount: Int {
        let texts = kept?.texts.values.reduce(0) { $0 + $1.count } ?? 0
        return (kept?.census.byteCount ?? 0) + (census?.byteCount ?? 0) + texts
    }

    /// Answers from the census that is shared, or from a new one: at once if there are few tasks, otherwise later.
    ///
    /// - Throws: 503 if too many wait.
    func begin(
        _ report: SurveyReport, for responses: inout ResponseStream, of server: HTTPServer, now: Int64,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        // A clock that was set back must not keep a census for ever.
        if let kept, now >= kept.begun, now < kept.end {
            write(report, to: &responses, of: server)
            return .answered
        }
        guard reports.count < Self.maximumReports else {
            throw Problem(.tooManyScrapes, "too many clients are asking for errors or workers; try again")
        }
        if census == nil {
            let isShort = !server.hasBuffers(for: TaskCensus.estimatedByteCount(of: TaskCensus.maximumGroups))
            let making = TaskCensus(
                maximumCount: isShort ? Self.maximumGroupsWhenShort : TaskCensus.maximumGroups)
            (census, begun) = (making, now)
            if extend(making, on: broker) {
                write(report, to: &responses, of: server)
                return .answered
            }
        }
        reports.append(report)
        return .owed(report)
    }

    /// Goes on. Call this in each turn.
    func turn(_ server: HTTPServer, now: Int64, on broker: isolated Broker) {
        if !isUnderWay {
            if let deadline = nextDeadline, now >= deadline { kept = nil }
            return
        }
        reports.removeAll { $0.isWithdrawn }
        if let census {
            // A census whose clients have left would be outdated when others ask.
            if reports.isEmpty { return self.census = nil }
            if !extend(census, on: broker) { return }
        }
        // A text that is not there yet takes as long to write as a slice of a census.
        var hasWritten = false
        for _ in 0..<Self.maximumAnswersPerTurn {
            guard let report = reports.last, !hasWritten || sharedText(of: report) != nil else { return }
            hasWritten = true
            reports.removeLast()
            server.answer(report.ticket) { write(report, to: &$0, of: server) }
        }
    }

    /// Goes on with a census, and shares it when it is complete.
    private func extend(_ census: TaskCensus, on broker: isolated Broker) -> Bool {
        var steps = Self.stepsPerTurn
        guard broker.extend(census, now: begun, steps: &steps) else { return false }
        kept = Kept(
            census: census, begun: begun, end: begun + Int64(census.stepCount / Self.stepsPerMillisecond))
        self.census = nil
        return true
    }

    /// The text of an answer that was written before. Those who may see only some queues share none.
    private func sharedText(of report: SurveyReport) -> [UInt8]? {
        report.caller.coversAllQueues ? kept?.texts[report.target] : nil
    }

    private func write(_ report: SurveyReport, to responses: inout ResponseStream, of server: HTTPServer) {
        guard let kept else { return Problem.answerTooLarge.write(to: &responses) }
        var text = sharedText(of: report) ?? []
        if text.isEmpty {
            report.write(kept.census, asOf: kept.begun, to: &text)
            let isShared = report.caller.coversAllQueues && text.count <= Self.maximumTextBytes
            if isShared, kept.texts.count < Self.maximumTexts { self.kept?.texts[report.target] = text }
        }
        guard server.mayAnswer(responses, adding: text.count) else {
            return Problem.answerTooLarge.write(to: &responses)
        }
        responses.beginJSON(estimatedCount: text.count + 1)
        responses.append(text.span)
        responses.endLine()
    }
}
