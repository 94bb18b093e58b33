// Searching by a text for tasks, by their ids and keys, and for queues, by parts of their names.

import Bytes
import JSON
import Net
import Queues
import UID

/// A search that is under way. It looks at one queue after the other.
private final class Search {
    static let counts: ClosedRange<Int64> = 1...100
    static let usualCount = 10

    /// Where the text is in a queue's name; the best comes first.
    private enum Match: Int {
        case whole, beginning, part
    }

    private struct Named {
        let match: Match
        let name: [UInt8]
    }

    private let text: [UInt8]
    private let filter: QueueFilter
    private let maximumCount: Int
    private var tasks: [UID] = []
    /// The best names so far, the best first.
    private var names: [Named] = []

    init(_ query: Query, by caller: Caller) throws(Problem) {
        maximumCount = Int(try query.integer("n", Self.counts) ?? Int64(Self.usualCount))
        guard let text = query["q"].map({ Array($0.utf8) }), 1...TaskKey.maximumByteCount ~= text.count else {
            throw Problem(
                query["q"] == nil ? .missingParameter : .invalidParameter,
                "say what to search for: /search/?q=TEXT, 1 to \(TaskKey.maximumByteCount) bytes", field: "q")
        }
        self.text = text
        filter = QueueFilter(caller: caller)
        if let id = UID(String(decoding: text, as: UTF8.self)) { tasks.append(id) }
    }

    /// Looks at a queue. O(length of the name, patterns of the token, found queues).
    func visit(_ name: Span<UInt8>, on broker: isolated Broker, now: Int64) {
        guard filter.admits(name) else { return }
        if let match = match(in: name) { add(Named(match: match, name: Array(copying: name))) }
        guard tasks.count < maximumCount, let queue = broker.existingQueue(named: name),
            let holder = broker.keyHolder(of: text, in: queue, now: now), !tasks.contains(holder.task)
        else { return }
        tasks.append(holder.task)
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
        if names.count > maximumCount { names.removeLast() }
    }

    /// Writes what was found, as it is now.
    func write(to responses: inout ResponseStream, on broker: isolated Broker, now: Int64) {
        responses.beginJSON(estimatedCount: 200)
        responses.append("{\"tasks\":[")
        var isFirst = true
        for id in tasks {
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
        responses.append("]}")
        responses.endLine()
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
        let search = try Search(api.query, by: context.caller)
        guard !context.metrics.survey.isCrowded(forVisits: true) else {
            throw Problem(.tooManyScrapes, "too many clients are searching or asking for metrics; try again")
        }
        let (server, ticket, now) = (context.server, request.ticket, context.now)
        var isLater = false
        let look = QueueSurvey.Look(
            visit: { name, _ in search.visit(name, on: broker, now: server.loop.now) },
            end: { _ in
                if !isLater { return }
                server.answer(ticket) { responses in
                    search.write(to: &responses, on: broker, now: server.loop.now)
                    responses.hold(until: broker.changeSequence)
                }
            })
        isLater = !context.metrics.survey.begin(look, on: broker)
        if isLater { return .owed(nil) }
        search.write(to: &responses, on: broker, now: now)
        return .answered
    }
}
