// GET /alerts/: what is wrong with the server and its queues now, by the conditions of `emq check`.

import Delivery
import JSON
import Net
import Queues

/// Looks for what is wrong, by a walk through all queues of which each turn does a slice. All who ask within some
/// seconds share what it finds, if their tokens are for the same queues.
final class Alerts {
    /// How many alerts are shown.
    static let maximumCount = 100
    /// How many places of the table of queues a turn looks at: less than a millisecond.
    static let placesPerTurn = 2048
    /// How many tokens may ask at once.
    private static let maximumSurveyCount = 8
    /// For how long the alerts are shared at least. With more queues than 100,000, for as long as makes the walks take
    /// less than 1 % of the time: each place takes about 200 ns.
    private static let sharingMilliseconds: Int64 = 2000
    private static let placesPerSharedMillisecond: Int64 = 50

    /// A walk for those whose tokens are for the same queues, and what it has found.
    private final class Survey {
        let caller: Caller
        var walk = QueueWalk()
        var findings = Findings()
        /// Those who wait for its end.
        var tickets: [Ticket] = []
        /// The response, when the walk is over, and until when it is shared.
        var text: [UInt8] = []
        var end: Int64?

        init(for caller: Caller) { self.caller = caller }
    }

    private var surveys: [Survey] = []

    /// Whether turns are needed. Unchecked, because each turn reads it; each access is one read or write of a flag.
    var isUnderWay: Bool { unsafe uncheckedIsUnderWay }
    @exclusivity(unchecked) private var uncheckedIsUnderWay = false

    /// Answers a request.
    ///
    /// - Returns: the response; nil if the server writes it in a later turn.
    /// - Throws: 503 if too many tokens ask at once.
    func answer(
        _ ticket: Ticket, of caller: Caller, _ conditions: ServerConditions, on broker: isolated Broker
    ) throws(Problem) -> [UInt8]? {
        surveys.removeAll { $0.end ?? .max <= conditions.now }
        if let survey = surveys.first(where: { $0.caller.coversSame(as: caller) }) {
            if survey.end != nil { return survey.text }
            survey.tickets.append(ticket)
            return nil
        }
        if surveys.count == Self.maximumSurveyCount {
            guard let place = surveys.firstIndex(where: { $0.end != nil }) else {
                throw Problem(.tooManyScrapes, "too many clients are asking for alerts; try again")
            }
            surveys.remove(at: place)
        }
        let survey = Survey(for: caller)
        surveys.append(survey)
        if goOn(survey, conditions, on: broker) { return survey.text }
        survey.tickets.append(ticket)
        unsafe uncheckedIsUnderWay = true
        return nil
    }

    /// Goes on with the walks. Call this in each turn while they are under way.
    func turn(_ conditions: ServerConditions, _ server: HTTPServer, on broker: isolated Broker) {
        guard let survey = surveys.first(where: { $0.end == nil }) else {
            unsafe uncheckedIsUnderWay = false
            return
        }
        guard goOn(survey, conditions, on: broker) else { return }
        for ticket in survey.tickets { server.answer(ticket) { Self.write(survey.text, to: &$0) } }
        survey.tickets = []
    }

    /// Goes on with a walk, and returns whether it is over.
    private func goOn(_ survey: Survey, _ conditions: ServerConditions, on broker: isolated Broker) -> Bool {
        let isOver = broker.continueWalk(&survey.walk, limit: Self.placesPerTurn) { queue, name, statistics in
            guard survey.caller.covers(name) else { return }
            let breaker = conditions.push?.circuitBreaker(of: queue, on: broker, now: conditions.now)
            let figures = QueueFigures(statistics, breaker, now: conditions.now)
            for condition in QueueCondition.found(in: figures) {
                survey.findings.add(condition, of: Array(copying: name))
            }
        }
        guard isOver else { return false }
        survey.text = survey.findings.json(conditions.found(for: survey.caller, on: broker), now: conditions.now)
        survey.findings = Findings()
        let places = Int64(broker.queuePlaceCount)
        survey.end = conditions.now + max(Self.sharingMilliseconds, places / Self.placesPerSharedMillisecond)
        return true
    }

    static func write(_ text: [UInt8], to responses: inout ResponseStream) {
        responses.beginJSON(estimatedCount: text.count + 1)
        responses.append(text.span)
        responses.endLine()
    }
}

/// The worst of what is wrong with queues.
private struct Findings {
    private struct Finding {
        let condition: QueueCondition
        let queue: [UInt8]

        /// Whether it comes first: what is critical, then the kinds in their order, then what there is more of.
        func precedes(_ other: Finding) -> Bool {
            let (rank, otherRank) = (condition.rank, other.condition.rank)
            if rank != otherRank { return rank < otherRank }
            let (amount, otherAmount) = (condition.amount, other.condition.amount)
            if amount != otherAmount { return amount > otherAmount }
            return queue.lexicographicallyPrecedes(other.queue)
        }
    }

    private var worst: [Finding] = []
    private var count = 0

    /// Adds something. Amortized O(log of the number that is shown).
    mutating func add(_ condition: QueueCondition, of queue: [UInt8]) {
        count += 1
        worst.append(Finding(condition: condition, queue: queue))
        if worst.count == 2 * Alerts.maximumCount { sort() }
    }

    private mutating func sort() {
        worst.sort { $0.precedes($1) }
        worst.removeLast(max(0, worst.count - Alerts.maximumCount))
    }

    /// The response, with what is wrong with the server.
    mutating func json(_ conditions: [Condition], now: Int64) -> [UInt8] {
        sort()
        let ofQueues = worst.map { $0.condition.condition(of: String(decoding: $0.queue, as: UTF8.self)) }
        // What concerns the server comes before what concerns one queue.
        let levels = [Condition.Level.critical, .warning]
        let all = levels.flatMap { level in (conditions + ofQueues).filter { $0.level == level } }
        let shown = all.prefix(Alerts.maximumCount)
        var output = Array("{\"status\":\"\((all.first?.level ?? .ok).name)\",\"alerts\":[".utf8)
        for (index, condition) in shown.enumerated() {
            output += Array("\(index > 0 ? "," : ""){\"level\":\"\(condition.level.name)\"".utf8)
            output += Array(",\"kind\":\"\(condition.kind)\",\"text\":".utf8)
            JSONWriter.write(condition.text, to: &output)
            if let queue = condition.queue {
                output += Array(",\"queue\":".utf8)
                JSONWriter.write(queue, to: &output)
            }
            output.append(UInt8(ascii: "}"))
        }
        output += Array("],\"left_out\":\(conditions.count + count - shown.count),\"as_of\":".utf8)
        JSONWriter.writeSeconds(milliseconds: now, to: &output)
        output.append(UInt8(ascii: "}"))
        return output
    }
}

extension QueueCondition {
    /// The place of its kind among the others, the worst first.
    fileprivate var rank: Int {
        switch self {
        case .stalled: 0
        case .late(_, let isCritical): isCritical ? 1 : 2
        case .busy: 2
        case .backlog: 3
        case .receiver: 4
        case .paused: 5
        case .dead: 6
        }
    }

    fileprivate var amount: Double {
        switch self {
        case .stalled(let amount), .late(let amount, _), .busy(let amount), .backlog(let amount), .receiver(let amount),
            .paused(let amount), .dead(let amount):
            amount
        }
    }
}

extension QueueFigures {
    /// The figures that `/stats/NAME` shows.
    fileprivate init(_ statistics: QueueStatistics, _ breaker: CircuitBreaker?, now: Int64) {
        func seconds(since time: Int64) -> Double { Double(max(0, now - time)) / 1000 }
        func rate(_ count: UInt64) -> Double { Double(count * 1000 / 60) / 1000 }
        ready = Double(statistics.ready)
        dead = Double(statistics.dead)
        (waiters, held) = (Double(statistics.waiters), Double(statistics.dispatched - statistics.sends))
        oldestReadySeconds = statistics.oldestReady.map(seconds) ?? 0
        rates = (rate(statistics.lastMinute.enqueued), rate(statistics.lastMinute.done))
        (isPaused, isPushed) = (statistics.isPaused, statistics.isPushed)
        pausedSeconds = statistics.pausedSince.map(seconds)
        if let breaker, breaker.state(now: now) != .closed { failures = Double(breaker.failureCount) }
    }
}

/// What may be wrong with the server.
struct ServerConditions {
    fileprivate let now: Int64
    private let gate: Gate
    private let certificate: ServerCertificate?

    init(_ context: borrowing Context) {
        (now, gate, certificate) = (context.now, context.gate, context.certificate)
    }

    fileprivate var push: Push? { gate.push }

    /// What is wrong now.
    fileprivate func found(for caller: Caller, on broker: isolated Broker) -> [Condition] {
        var found: [Condition] = []
        let memory = Condition.memory(
            used: Double(gate.usedMemoryBytes(of: broker)), limit: Double(gate.maximumMemoryBytes))
        if let memory { found.append(memory) }
        if let problem = gate.durability?.problemText { found.append(.journal(problem)) }
        if let certificate, case let rest = Double(certificate.endMilliseconds - now) / 1000,
            let condition = Condition.certificate(rest: rest)
        {
            found.append(condition)
        }
        gate.sources.forEach { source in
            guard caller.covers(source.definition.into.span) else { return }
            let name = String(decoding: source.name, as: UTF8.self)
            if let condition = Condition.source(name, state: source.status.state.rawValue) { found.append(condition) }
        }
        return found
    }
}

extension API {
    /// `GET /alerts/`
    static func showAlerts(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let conditions = ServerConditions(context)
        let text = try context.gate.alerts.answer(request.ticket, of: context.caller, conditions, on: broker)
        guard let text else { return .owed(nil) }
        Alerts.write(text, to: &responses)
        return .answered
    }
}
