// Looking at all tasks for `/errors/` and `/workers/`, without delaying other clients: a slice in each turn of the loop.
//
// All who ask share a look at the tasks for three hundred times as long as it took, so looks take a third of a percent
// of the loop's time. When a kick, a purge or a move has changed tasks since, or a dead task was deleted, who asks gets
// a new look, and does not join one that had begun before. Such looks take a twentieth of the loop's time at most, but
// for a few at first; beyond that, the last one is shared as if nothing had changed.
//
// Clients share the texts of answers too, so an answer that many ask for again and again is made once for each look.
// Only one answer is being made at a time; the others that wait take no more memory than their requests.

import Bytes
import Net
import Queues

/// The looks that are shared and under way, and those who wait for them.
final class TaskSurvey {
    /// How much to do in a turn: about half a millisecond.
    static let stepsPerTurn = 50_000
    private static let stepsPerMillisecond = 100_000
    /// For how many times as long as it took a look is shared.
    private static let sharingFactor = 300
    /// For how many times as long as it took there should be no other look, even after a kick.
    private static let restFactor = 20
    /// For how long a look stays in memory after it was shared.
    private static let keepingMilliseconds: Int64 = 5000
    /// How many may wait at once.
    private static let maximumReports = 1000
    /// How many texts are shared, and their greatest length.
    private static let maximumTexts = 32
    private static let maximumTextBytes = 262_144
    private static let copiedBytesPerStep = 16
    /// How many answers are written in a turn.
    private static let maximumAnswersPerTurn = 64
    /// How many answers are made, at most, before one that may take long and waits for nothing else.
    private static let maximumQuickAnswers = 8
    /// The most groups if there is no memory for more.
    private static let maximumGroupsWhenShort = 200

    private struct Look {
        let census: TaskCensus
        /// Later looks have greater numbers.
        let number: Int
        let begun: Int64
        /// The broker's `operationCount` when it began.
        let operationCount: UInt64
        /// The answers that were made of it.
        var texts: [[UInt8]: [UInt8]] = [:]

        func milliseconds(times factor: Int) -> Int64 {
            Int64(census.stepCount * factor / TaskSurvey.stepsPerMillisecond)
        }
    }

    /// An answer that is being made, and the census of which it is made, which may be older than the last one.
    private struct Draft {
        let report: SurveyReport
        let census: TaskCensus
        let begun: Int64

        init(_ report: SurveyReport, of look: Look) { (self.report, census, begun) = (report, look.census, look.begun) }
    }

    /// The last look that is complete, and the one under way.
    private var complete: Look?
    private var next: Look?
    private var lookCount = 0
    /// By how much looks may be ahead of `restFactor`.
    private let leadMilliseconds: Int64
    /// When all looks would have ended if there were `restFactor` times as long from each to the next.
    private var restEnd: Int64 = 0
    private var draft: Draft?
    /// Those who wait for a look or for others, in the order in which they came.
    private var reports: [SurveyReport] = []
    // Unchecked, because each turn uses them, also if nobody asks. An access is one read or write, but `steps`
    // is also passed inout to a look or an answer, which cannot reach this object.
    /// How much may still be done until the next call of `turn`, also for those who ask before it.
    @exclusivity(unchecked) private var steps = 0
    /// Whether there is no look and nobody waits.
    @exclusivity(unchecked) private var isIdle = true
    /// How many answers were begun since the last one that may take long.
    private var quickAnswerCount = 0

    init(leadMilliseconds: Int64 = 10_000) { self.leadMilliseconds = leadMilliseconds }

    /// Whether turns are needed at once.
    var isUnderWay: Bool { unsafe !isIdle && (next != nil || draft != nil || !reports.isEmpty) }

    /// When a turn is needed to free memory; nil for no such time.
    var nextDeadline: Int64? {
        if unsafe isIdle { return nil }
        return complete.map { $0.begun + $0.milliseconds(times: Self.sharingFactor) + Self.keepingMilliseconds }
    }

    /// The memory of looks, texts and those who wait, in bytes. O(texts and those who wait).
    var byteCount: Int {
        if unsafe isIdle { return 0 }
        var count = reports.reduce(0) { $0 + $1.byteCount }
        if let complete { count += complete.census.byteCount + complete.texts.values.reduce(0) { $0 + $1.count } }
        if let next { count += next.census.byteCount }
        if let draft {
            count += draft.report.byteCount
            if draft.census !== complete?.census { count += draft.census.byteCount }
        }
        return count
    }

    // MARK: Requests

    /// Answers from the look that is shared, or from a new one: at once if there are few tasks, otherwise later.
    ///
    /// - Throws: 503 if too many wait.
    func begin(
        _ report: SurveyReport, for responses: inout ResponseStream, of server: HTTPServer, now: Int64,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        unsafe isIdle = false
        let isAlone = draft == nil && reports.isEmpty
        report.firstLook = lookNumber(of: server, now: now, on: broker)
        if isAlone, next != nil { extend(on: broker) }
        if let text = sharedText(of: report) {
            write(text, to: &responses, of: server)
            return .answered
        }
        if isAlone, let complete, report.firstLook <= complete.number {
            draft = Draft(report, of: complete)
            if let text = finishDraft() {
                write(text, to: &responses, of: server)
                return .answered
            }
            return .owed(report)
        }
        guard reports.count < Self.maximumReports else {
            throw Problem(.tooManyScrapes, "too many clients are asking for errors or workers; try again")
        }
        reports.append(report)
        return .owed(report)
    }

    /// The number of the look of which who asks now gets an answer; it begins one if need be.
    private func lookNumber(of server: HTTPServer, now: Int64, on broker: isolated Broker) -> Int {
        // A clock that was set back must not keep a look for ever.
        if let complete, now >= complete.begun, now < complete.begun + complete.milliseconds(times: Self.sharingFactor),
            !isOutdated(complete, now: now, on: broker)
        {
            return complete.number
        }
        if let next { return isOutdated(next, now: now, on: broker) ? next.number + 1 : next.number }
        beginLook(of: server, now: now, on: broker)
        return lookCount
    }

    /// Whether tasks have been kicked, purged or moved since a look began, or dead ones deleted, and there may be a new
    /// one for that reason.
    private func isOutdated(_ look: Look, now: Int64, on broker: isolated Broker) -> Bool {
        look.operationCount != broker.operationCount && now >= restEnd - leadMilliseconds
    }

    // MARK: Turns

    /// Goes on. Call this once a millisecond, and in each turn while it is under way.
    func turn(_ server: HTTPServer, now: Int64, on broker: isolated Broker) {
        unsafe steps = Self.stepsPerTurn
        if unsafe isIdle { return }
        defer { unsafe isIdle = complete == nil && !isUnderWay }
        if !isUnderWay {
            if let deadline = nextDeadline, now >= deadline { complete = nil }
            return
        }
        reports.removeAll { $0.isWithdrawn }
        if draft?.report.isWithdrawn == true { draft = nil }
        let isAwaited = reports.contains { $0.firstLook > complete?.number ?? 0 }
        // Neither waits for the other: those whose look is complete, and those for whom there is another one.
        if isAwaited { unsafe steps /= 2 }
        answer(server)
        guard isAwaited else {
            // A look whose clients have left would be outdated when others ask.
            next = nil
            return
        }
        unsafe steps += Self.stepsPerTurn / 2
        if next == nil { beginLook(of: server, now: now, on: broker) }
        extend(on: broker)
    }

    private func beginLook(of server: HTTPServer, now: Int64, on broker: isolated Broker) {
        let isShort = !server.hasBuffers(for: TaskCensus.estimatedByteCount(of: TaskCensus.maximumGroups))
        // A clock that was set back must not forbid looks for long.
        if let complete, now < complete.begun { restEnd = now }
        lookCount += 1
        next = Look(
            census: TaskCensus(maximumCount: isShort ? Self.maximumGroupsWhenShort : TaskCensus.maximumGroups),
            number: lookCount, begun: now, operationCount: broker.operationCount)
    }

    /// Goes on with the look under way.
    private func extend(on broker: isolated Broker) {
        guard let look = next, unsafe broker.extend(look.census, now: look.begun, steps: &steps) else { return }
        (complete, next) = (look, nil)
        restEnd = max(restEnd, look.begun) + look.milliseconds(times: Self.restFactor)
    }

    /// Answers those who wait for nothing but their texts: first all whose text is known, and then one after the other.
    private func answer(_ server: HTTPServer) {
        guard let complete else { return }
        var answers: [(report: SurveyReport, text: [UInt8])] = []
        reports.removeAll { report in
            guard unsafe steps > 0, answers.count < Self.maximumAnswersPerTurn, let text = sharedText(of: report) else {
                return false
            }
            answers.append((report, text))
            unsafe steps -= text.count / Self.copiedBytesPerStep
            return true
        }
        while answers.count < Self.maximumAnswersPerTurn {
            if draft == nil, let report = takeReport(for: complete) { draft = Draft(report, of: complete) }
            guard let report = draft?.report, let text = finishDraft() else { break }
            answers.append((report, text))
        }
        for (report, text) in answers { server.answer(report.ticket) { write(text, to: &$0, of: server) } }
    }

    /// Takes the report that is made next from those that wait. A pattern may take about a second of the loop's time, in
    /// slices, and holds up the others once it has begun. So a report that may take long lets others go first, but only
    /// a few: there may be new ones all the time.
    private func takeReport(for look: Look) -> SurveyReport? {
        let isTurnOfLong = quickAnswerCount >= Self.maximumQuickAnswers
        guard
            let place = reports.firstIndex(where: { $0.firstLook <= look.number && $0.mayTakeLong == isTurnOfLong })
                ?? reports.firstIndex(where: { $0.firstLook <= look.number })
        else { return nil }
        let report = reports.remove(at: place)
        quickAnswerCount = isTurnOfLong || report.mayTakeLong ? 0 : quickAnswerCount + 1
        return report
    }

    /// Goes on with the answer that is being made.
    ///
    /// - Returns: its text; nil if there is no answer being made, or it is to go on.
    private func finishDraft() -> [UInt8]? {
        guard let draft, unsafe draft.report.extend(draft.census, asOf: draft.begun, steps: &steps) else { return nil }
        self.draft = nil
        let text = draft.report.text
        if draft.report.isShared, draft.census === complete?.census, text.count <= Self.maximumTextBytes,
            complete?.texts.count ?? .max < Self.maximumTexts
        {
            complete?.texts[draft.report.target] = text
        }
        return text
    }

    /// The text of an answer, if it was made before.
    private func sharedText(of report: SurveyReport) -> [UInt8]? {
        guard report.isShared, let complete, report.firstLook <= complete.number else { return nil }
        return complete.texts[report.target]
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
