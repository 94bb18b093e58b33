// Searching by a text for tasks, by their ids and keys, and for queues, by parts of their names.

import Bytes
import JSON
import Net
import Queues
import UID

/// A search that is under way. It looks at one queue after the other, and then at the finished tasks (`Searches`).
final class Search: PendingAnswer {
    static let counts: ClosedRange<Int64> = 1...100
    static let usualCount = 10
    /// What noting a task takes, in steps of a walk.
    private static let stepsPerTask = 30

    /// Where the text is in a queue's name; the best comes first.
    private enum Match: Int {
        case whole, beginning, part
    }

    private struct Named {
        let match: Match
        let name: [UInt8]
    }

    let text: [UInt8]
    let ticket: Ticket
    private let filter: QueueFilter
    private let maximumCount: Int
    /// The tasks with this id, or that hold this key.
    private var tasks: [UID] = []
    /// The latest of the finished tasks that had this key.
    private var finished: BestFew<MetTask>
    private var finishedCount = 0
    /// The best names so far, the best first.
    private var names: [Named] = []
    /// Whether there are more tasks or queues than it may find.
    private var hasMore = false
    private(set) var isWithdrawn = false

    /// Reads a query.
    ///
    /// - Throws: 400.
    convenience init(
        _ query: Query, by caller: Caller, ticket: Ticket, on broker: isolated Broker, now: Int64
    ) throws(Problem) {
        let count = Int(try query.integer("n", Self.counts) ?? Int64(Self.usualCount))
        guard let text = query["q"].map({ Array($0.utf8) }), 1...TaskKey.maximumByteCount ~= text.count else {
            throw Problem(
                query["q"] == nil ? .missingParameter : .invalidParameter,
                "say what to search for: /search/?q=TEXT, 1 to \(TaskKey.maximumByteCount) bytes", field: "q")
        }
        self.init(text, maximumCount: count, by: caller, ticket: ticket, on: broker, now: now)
    }

    init(
        _ text: [UInt8], maximumCount: Int, by caller: Caller, ticket: Ticket, on broker: isolated Broker, now: Int64
    ) {
        self.text = text
        self.maximumCount = maximumCount
        self.ticket = ticket
        filter = QueueFilter(caller: caller)
        finished = BestFew(limit: maximumCount)
        super.init(nil)
        // A receipt begins with the id, too.
        guard let id = UID(text: Array(text.prefix { $0 != UInt8(ascii: "@") }).span) else { return }
        if broker.withTask(id: id, now: now, { filter.admits($0.queueName) }) == true { tasks.append(id) }
    }

    override func withdraw(on broker: isolated Broker) { isWithdrawn = true }

    /// Looks at a queue. O(length of the name, patterns of the token, found queues).
    func visit(_ name: Span<UInt8>, on broker: isolated Broker, now: Int64) {
        guard !isWithdrawn, filter.admits(name) else { return }
        if let match = match(in: name) { add(Named(match: match, name: Array(copying: name))) }
        guard let queue = broker.existingQueue(named: name),
            let holder = broker.keyHolder(of: text, in: queue, now: now), !tasks.contains(holder.task)
        else { return }
        if tasks.count < maximumCount { tasks.append(holder.task) } else { hasMore = true }
    }

    /// Notes a finished task that had this key.
    func note(_ task: MetTask, in queue: Span<UInt8>, steps: inout Int) {
        steps -= Self.stepsPerTask + SurveyReport.stepsPerLook * filter.steps(for: queue)
        guard filter.admits(queue), !tasks.contains(task.id) else { return }
        finishedCount += 1
        finished.insert(task, steps: &steps, Self.precedes)
    }

    private func match(in name: Span<UInt8>) -> Match? {
        let text = text
        guard name.count >= text.count else { return nil }
        for start in 0...name.count - text.count {
            guard name.extracting(start..<start + text.count).equalsIgnoringCase(text.span) else { continue }
            return name.count == text.count ? .whole : start == 0 ? .beginning : .part
        }
        return nil
    }

    private func add(_ found: Named) {
        let place = names.firstIndex { other in
            found.match.rawValue != other.match.rawValue
                ? found.match.rawValue < other.match.rawValue : found.name.lexicographicallyPrecedes(other.name)
        }
        names.insert(found, at: place ?? names.count)
        if names.count > maximumCount {
            names.removeLast()
            hasMore = true
        }
    }

    private static func precedes(_ one: MetTask, _ other: MetTask) -> Bool { one.ended > other.ended }

    /// Writes what was found, as it is now.
    func write(to responses: inout ResponseStream, on broker: isolated Broker, now: Int64) {
        let room = maximumCount - tasks.count
        responses.beginJSON(estimatedCount: 200)
        responses.append("{\"tasks\":[")
        var isFirst = true
        for id in tasks + finishedTasks().prefix(room) {
            _ = broker.withTask(id: id, now: now) { task in
                guard filter.admits(task.queueName) else { return }
                if !isFirst { responses.append(",") }
                isFirst = false
                TaskWriter.writeFound(task, to: &responses)
            }
        }
        responses.append("],\"queues\":[")
        for (index, found) in names.enumerated() {
            if index > 0 { responses.append(",") }
            JSONWriter.writeString(found.name.span, to: &responses)
        }
        responses.append(hasMore || finishedCount > room ? "],\"more\":true}" : "]}")
        responses.endLine()
    }

    /// The finished tasks that had this key, the latest first.
    private func finishedTasks() -> [UID] {
        var (rest, steps, ids) = (finished, 0, [UID]())
        while let task = rest.removeWorst(steps: &steps, Self.precedes) { ids.append(task.id) }
        return ids.reversed()
    }
}

extension API {
    /// How many tasks and how many queues a search may find.
    static var searchCounts: ClosedRange<Int64> { Search.counts }

    /// `GET /search/`
    static func search(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let (searches, server, now) = (context.gate.searches, context.server, context.now)
        let search = try Search(api.query, by: context.caller, ticket: request.ticket, on: broker, now: now)
        guard !context.metrics.survey.isCrowded(forVisits: true), !searches.isCrowded else {
            throw Problem(.tooManyScrapes, "too many clients are searching or asking for metrics; try again")
        }
        var (isOwed, isComplete) = (false, false)
        let look = QueueSurvey.Look(
            visit: { name, _ in search.visit(name, on: broker, now: server.loop.now) },
            isAbandoned: { search.isWithdrawn },
            end: { _ in
                isComplete = searches.begin(search, now: server.loop.now, on: broker)
                if isOwed, isComplete { Searches.answer(search, of: server, on: broker) }
            })
        _ = context.metrics.survey.begin(look, on: broker)
        if isComplete {
            search.write(to: &responses, on: broker, now: now)
            return .answered
        }
        isOwed = true
        return .owed(search)
    }
}
