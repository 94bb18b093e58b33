// Which tasks of a queue a request concerns, and the purges, kicks and moves under way.

import Bytes
import JSON
import Net
import Queues
import UID

/// Writes the tasks of a peek.
struct PeekWriter {
    let detail: TaskDetail
    /// Whether the server sends the tasks of the queue.
    let isSending: Bool
    private var isFirst = true
    /// Whether the answer will be refused, so that no more of it is written.
    private(set) var isTooLarge = false

    init(detail: TaskDetail, isSending: Bool) { (self.detail, self.isSending) = (detail, isSending) }

    mutating func write(
        _ task: borrowing TaskView, _ context: borrowing Context, to responses: inout ResponseStream,
        on broker: isolated Broker
    ) {
        let shownBytes = min(task.content.count, detail.maximumBytes)
        isTooLarge = isTooLarge || !context.gate.mayAnswer(responses, adding: shownBytes)
        if isTooLarge { return }
        if !isFirst { responses.append(",") }
        isFirst = false
        var detail = detail
        detail.hidesContent = context.hidesContent(of: task, on: broker)
        TaskWriter.writeListed(task, detail, isSending: isSending, to: &responses)
    }
}

extension API {
    /// The tasks that a request's query selects by their errors and their age; nil for all.
    ///
    /// - Throws: 400.
    func taskFilter(now: Int64) throws(Problem) -> TaskFilter? {
        var filter = TaskFilter(time: now)
        if let error = query["error"] {
            filter.error = TaskError.summary(of: Array(error.utf8))
            guard error.isEmpty || filter.error?.isEmpty == false else {
                throw Problem(
                    .invalidParameter, "error must be the line of an error, or empty for tasks without one",
                    field: "error")
            }
        }
        filter.errorPattern = try query.pattern("error_match")
        filter.olderThanMilliseconds = try query.seconds("older_than")
        filter.newerThanMilliseconds = try query.seconds("newer_than")
        return filter.isEmpty ? nil : filter
    }

    /// Adds to a line of the log which tasks of a queue the request concerns: those in the state that the query names,
    /// that `filter` selects, and at most `limit` of them.
    func addSelection(to audit: inout AuditRecord?, _ filter: TaskFilter?, limit: Int = .max) {
        if let state = query["state"] { audit?.add(.text("state", state)) }
        if limit < .max { audit?.add(.number("n", limit)) }
        // Not `error`, which would look as if the operation had failed.
        if let error = filter?.error { audit?.add(.text("task_error", error)) }
        if let pattern = filter?.errorPattern { audit?.add(.text("task_error_match", pattern.text)) }
        if let age = filter?.olderThanMilliseconds { audit?.add(.seconds("older_than", milliseconds: age)) }
        if let age = filter?.newerThanMilliseconds { audit?.add(.seconds("newer_than", milliseconds: age)) }
    }

    /// How many tasks a peek with a filter looks at, at most.
    private static let maximumLooks = 10_000

    /// Begins the answer to a peek with the tasks that a filter selects, which `write` writes. If it finds that the task
    /// `after` is not there, it returns false and has written nothing.
    static func peek(
        _ queue: QueueIndex, _ state: TaskState, after: UID?, matching filter: TaskFilter, limit: Int,
        contentLimit: Int, _ request: borrowing Request, _ responses: inout ResponseStream, now: Int64,
        on broker: isolated Broker, _ write: (borrowing TaskView, inout ResponseStream) -> Void
    ) -> Bool {
        let found = broker.find(
            in: queue, state: state, after: after, matching: filter, limit: limit, lookLimit: maximumLooks,
            contentLimit: contentLimit, now: now)
        guard let found else { return false }
        if let last = found.last {
            responses.begin(status: 200, contentType: "application/json")
            // RFC 8288.
            var link = [UInt8(ascii: "<")] + Array(copying: request.path) + [UInt8(ascii: "?")]
            let parameters = Array(copying: request.query).split(separator: UInt8(ascii: "&"))
            for parameter in parameters where !Query.names(parameter, "after") {
                link += parameter + [UInt8(ascii: "&")]
            }
            link += Array("after=\(last)>; rel=\"next\"".utf8)
            responses.field("Link", link.span)
            responses.beginBody(estimatedCount: 200)
        } else {
            responses.beginJSON(estimatedCount: 200)
        }
        responses.append("[")
        for id in found.ids { _ = broker.withTask(id: id, now: now) { write($0, &responses) } }
        return true
    }

    // MARK: Operations

    /// `GET /operations/`
    static func listOperations(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        responses.beginJSON(estimatedCount: 200)
        responses.append("{\"operations\":[")
        var isFirst = true
        for sweep in broker.sweeps where context.caller.covers(sweep.queue.span) {
            responses.append(isFirst ? "{\"id\":" : ",{\"id\":")
            isFirst = false
            write(sweep, to: &responses, for: context.caller)
        }
        responses.append("]}")
        responses.endLine()
        return .answered
    }

    /// Writes a purge, kick or move, from the value of its id on.
    private static func write(_ sweep: SweepView, to responses: inout ResponseStream, for caller: Caller) {
        let (action, target): (StaticString, [UInt8]?) =
            switch sweep.action {
            case .purge: ("purge", nil)
            case .kick: ("kick", nil)
            case .kickToOrigin: ("kick", Array("origin".utf8))
            case .move(let target): ("move", caller.covers(target.span) ? target : nil)
            }
        JSONWriter.writeInteger(Int64(clamping: sweep.id), to: &responses)
        responses.append(",\"action\":\"")
        responses.append(action)
        responses.append("\",\"queue\":")
        JSONWriter.writeString(sweep.queue.span, to: &responses)
        if let target {
            responses.append(",\"to\":")
            JSONWriter.writeString(target.span, to: &responses)
        }
        responses.append(",\"state\":[")
        for (index, state) in TaskState.allCases.filter(sweep.states.contains).enumerated() {
            responses.append(index > 0 ? ",\"" : "\"")
            responses.append(state.name)
            responses.append("\"")
        }
        responses.append("]")
        if let filter = sweep.filter { write(filter, to: &responses) }
        responses.append(",\"started\":")
        JSONWriter.writeSeconds(milliseconds: sweep.begun, to: &responses)
        writeCount(",\"examined\":", sweep.examinedCount, to: &responses)
        writeCount(",\"changed\":", sweep.changedCount, to: &responses)
        writeCount(",\"total\":", sweep.totalCount, to: &responses)
        responses.append("}")
    }

    private static func write(_ filter: TaskFilter, to responses: inout ResponseStream) {
        if let error = filter.error {
            responses.append(",\"error\":")
            JSONWriter.writeString(error.span, to: &responses)
        }
        if let pattern = filter.errorPattern {
            responses.append(",\"error_match\":")
            let text = Array(pattern.text.utf8)
            JSONWriter.writeString(text.span, to: &responses)
        }
        if let age = filter.olderThanMilliseconds {
            responses.append(",\"older_than\":")
            JSONWriter.writeSeconds(milliseconds: age, to: &responses)
        }
        if let age = filter.newerThanMilliseconds {
            responses.append(",\"newer_than\":")
            JSONWriter.writeSeconds(milliseconds: age, to: &responses)
        }
    }

    /// `DELETE /operations/ID`
    static func stopOperation(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let id = Int(decimal: api.name[...]).map { UInt64($0) }
        let sweep = broker.sweeps.first { $0.id == id }
        guard let sweep, context.caller.covers(sweep.queue.span) else {
            throw Problem(.noSuchPath, "no purge, kick or move with this id is under way; it may have ended")
        }
        context.audit?.queueName = sweep.queue
        context.audit?.addOperation(sweep.id)
        _ = broker.stopSweep(sweep.id)
        writeNoContent(to: &responses)
        return .answered
    }
}

extension Query {
    /// Whether a part of a query is for a parameter. Clients may have encoded letters of its name.
    static func names(_ part: ArraySlice<UInt8>, _ parameter: StaticString) -> Bool {
        var name: [UInt8] = []
        PercentEncoding.decode(Array(part.prefix { $0 != UInt8(ascii: "=") }).span, into: &name)
        return name.span.equals(parameter)
    }

    /// A number of seconds, as milliseconds.
    ///
    /// - Throws: 400 for another value.
    func seconds(_ name: String) throws(Problem) -> Int64? {
        guard let value = self[name] else { return nil }
        let bytes = Array(value.utf8)
        let parts = value.split(separator: ".", omittingEmptySubsequences: false)
        let isNumber = parts.count <= 2 && parts.allSatisfy { !$0.isEmpty && $0.utf8.allSatisfy(\.isDigit) }
        let range = 0...maximumMilliseconds
        if isNumber, let milliseconds = try? JSONValue.milliseconds(bytes.span, in: range) { return milliseconds }
        throw Problem(
            .invalidParameter,
            "\(name) must be a number of seconds from 0 to \(range.upperBound / 1000), not '\(value)'", field: name)
    }
}
