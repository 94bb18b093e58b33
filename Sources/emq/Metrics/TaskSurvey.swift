// Looking at all tasks for `/errors/` and `/workers/`, without delaying other clients: a slice in each turn of the loop.
//
// All who ask share a census of the tasks for three hundred times as long as it took to make, so making them takes a
// third of a percent of the loop's time at most. When an operation has changed many tasks at once, nobody gets an old
// one. They share the texts of answers too, so an answer that many ask for again and again is written once for each
// census.

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
    /// The census and its time; nil while it is being made.
    fileprivate private(set) var census: TaskCensus?
    private var time: Int64 = 0
    private var isCollected = false

    init(of request: borrowing Request, by caller: Caller) {
        self.caller = caller
        ticket = request.ticket
        target = Array(copying: request.path) + [UInt8(ascii: "?")] + Array(copying: request.query)
        super.init(nil)
    }

    override func withdraw(on broker: isolated Broker) { isWithdrawn = true }

    fileprivate func begin(_ census: TaskCensus, asOf time: Int64) { (self.census, self.time) = (census, time) }

    /// Goes on, and writes the JSON of the answer if that completes it.
    ///
    /// - Returns: the text; nil if it is to go on.
    fileprivate func text(steps: inout Int) -> [UInt8]? {
        guard let census else { return nil }
        isCollected = isCollected || collect(census, asOf: time, steps: &steps)
        guard isCollected else { return nil }
        var text: [UInt8] = []
        write(census, asOf: time, to: &text)
        return text
    }

    /// Goes on with finding what the answer shows. Returns whether all is found.
    func collect(_ census: TaskCensus, asOf time: Int64, steps: inout Int) -> Bool {
        preconditionFailure("every report knows what it shows")
    }

    /// Writes the JSON of the answer. O(what it shows).
    func write(_ census: TaskCensus, asOf time: Int64, to text: inout [UInt8]) {
        preconditionFailure("every report writes itself")
    }
}

/// The census that is shared, the one that is being made, and those who wait for it.
final class TaskSurvey {
    /// How much to do in a turn: about half a millisecond.
    static let stepsPerTurn = 50_000
    /// For how many steps of making it a census is used for a millisecond: steps of 10 ns, three hundred times over.
    private static let stepsPerMillisecond = 333
    /// For how long it stays in memory after that.
    private static let keepingMilliseconds: Int64 = 5000
    /// How many may wait for a census at once.
    private static let maximumReports = 1000
    /// How many texts are shared, and their greatest length.
    private static let maximumTexts = 32
    private static let maximumTextBytes = 262_144
    /// What writing a byte of a text takes.
    private static let stepsPerByte = 1
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
    /// Those who wait, in the order in which they came: for the census that is being made, or for their answer.
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

    /// Notes that an operation on many tasks has ended: who asks from now on gets a new census.
    func expire() { kept = nil }

    /// Answers from the census that is shared, or from a new one: at once if there are few tasks, otherwise later.
    ///
    /// - Throws: 503 if too many wait.
    func begin(
        _ report: SurveyReport, for responses: inout ResponseStream, of server: HTTPServer, now: Int64,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        var steps = Self.stepsPerTurn
        // A clock that was set back must not keep a census for ever.
        if let kept, now >= kept.begun, now < kept.end {
            report.begin(kept.census, asOf: kept.begun)
        } else if census == nil {
            let isShort = !server.hasBuffers(for: TaskCensus.estimatedByteCount(of: TaskCensus.maximumGroups))
            let making = TaskCensus(
                maximumCount: isShort ? Self.maximumGroupsWhenShort : TaskCensus.maximumGroups)
            (census, begun) = (making, now)
            if extend(making, steps: &steps, on: broker) { report.begin(making, asOf: now) }
        }
        if let text = text(of: report, steps: &steps) {
            write(text, to: &responses, of: server)
            return .answered
        }
        guard reports.count < Self.maximumReports else {
            throw Problem(.tooManyScrapes, "too many clients are asking for errors or workers; try again")
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
        var steps = Self.stepsPerTurn
        if let census {
            if !reports.contains(where: { $0.census == nil }) {
                // A census whose clients have left would be outdated when others ask.
                self.census = nil
            } else if extend(census, steps: &steps, on: broker) {
                for report in reports where report.census == nil { report.begin(census, asOf: begun) }
            }
        }
        var answerCount = 0
        while answerCount < Self.maximumAnswersPerTurn, let place = reports.firstIndex(where: { $0.census != nil }) {
            guard let text = text(of: reports[place], steps: &steps) else { return }
            let report = reports.remove(at: place)
            server.answer(report.ticket) { write(text, to: &$0, of: server) }
            answerCount += 1
        }
    }

    /// Goes on with a census, and shares it when it is complete.
    private func extend(_ census: TaskCensus, steps: inout Int, on broker: isolated Broker) -> Bool {
        guard broker.extend(census, now: begun, steps: &steps) else { return false }
        kept = Kept(
            census: census, begun: begun, end: begun + Int64(census.stepCount / Self.stepsPerMillisecond))
        self.census = nil
        return true
    }

    /// The text of an answer: one that was written before, or a new one if there are steps left to complete it. Those
    /// who may see only some queues share none.
    private func text(of report: SurveyReport, steps: inout Int) -> [UInt8]? {
        let isShared = report.caller.coversAllQueues && report.census === kept?.census
        if isShared, let text = kept?.texts[report.target] { return text }
        guard steps > 0, let text = report.text(steps: &steps) else { return nil }
        steps -= text.count * Self.stepsPerByte
        if isShared, text.count <= Self.maximumTextBytes, kept?.texts.count ?? .max < Self.maximumTexts {
            kept?.texts[report.target] = text
        }
        return text
    }

    private func write(_ text: [UInt8], to responses: inout ResponseStream, of server: HTTPServer) {
        guard server.mayAnswer(responses, adding: text.count) else {
            return Problem.answerTooLarge.write(to: &responses)
        }
        responses.beginJSON(estimatedCount: text.count + 1)
        responses.append(text.span)
        responses.endLine()
    }
}
