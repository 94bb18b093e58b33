// One task: showing it, ending it, its result, its key.

import JSON
import Net
import Queues
import UID

/// The answer to a client that waits for a task's result.
private final class PendingResult: PendingAnswer {
    private let id: UID

    init(_ waiter: Waiter, of id: UID) {
        self.id = id
        super.init(waiter)
    }

    override func writeWithdrawn(to responses: inout ResponseStream, of broker: isolated Broker, now: Int64) {
        API.writeResult(of: id, of: broker, now: now, to: &responses)
        responses.hold(until: broker.changeSequence)
    }
}

extension API {
    /// `GET /task/ID`
    static func showTask(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let id = try readID(api.name.span)
        let detail = try api.taskDetail()
        guard context.covers(id, on: broker), writeTask(id, detail, to: &responses, context, of: broker) else {
            throw .noTask
        }
        try context.gate.admitAnswer(responses)
        responses.endLine()
        return .answered
    }

    /// `DELETE /task/ID`
    static func cancelTask(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let id = try readID(api.name.span)
        // It has no meaning here, but a mistake is refused all the same.
        _ = try api.taskDetail()
        guard context.covers(id, on: broker) else { throw .noTask }
        context.noteAudited(id, on: broker)
        guard broker.cancelTask(id, now: context.now) || broker.deleteRecord(id, now: context.now) else {
            throw .noTask
        }
        writeNoContent(to: &responses)
        return .answered
    }

    /// `GET /key/NAME`
    static func showKey(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let detail = try api.taskDetail()
        let (key, _, holder) = try api.keyHolder(context, on: broker)
        if !writeTask(holder.task, detail, to: &responses, context, of: broker) {
            responses.beginJSON(estimatedCount: 400)
            TaskWriter.writeKeptKey(key, holder, in: api.name.span, to: &responses)
        }
        try context.gate.admitAnswer(responses)
        responses.endLine()
        return .answered
    }

    /// `DELETE /key/NAME`
    static func freeKey(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        _ = try api.taskDetail()
        let (key, queue, holder) = try api.keyHolder(context, on: broker)
        if holder.isUnfinished {
            throw Problem(
                .taskUnfinished,
                "an unfinished task has this key; cancel it with DELETE /task/\(holder.task) to free the key",
                field: "key")
        }
        _ = broker.freeKey(key, in: queue, now: context.now)
        context.audit?.add(.text("key", key))
        writeNoContent(to: &responses)
        return .answered
    }

    /// The holder of the key that the query names.
    ///
    /// - Throws: 400 if the query names none, 404 if the key is free.
    private func keyHolder(
        _ context: borrowing Context, on broker: isolated Broker
    ) throws(Problem) -> (key: [UInt8], queue: QueueIndex, holder: KeyHolder) {
        guard let key = query["key"].map({ Array($0.utf8) }), 1...TaskKey.maximumByteCount ~= key.count else {
            throw Problem(
                query["key"] == nil ? .missingParameter : .invalidParameter,
                "name the key: /key/NAME?key=KEY, 1 to \(TaskKey.maximumByteCount) bytes", field: "key")
        }
        guard let queue = broker.existingQueue(named: name.span),
            let holder = broker.keyHolder(of: key, in: queue, now: context.now)
        else { throw Problem(.noSuchKey, "this key is free: no task has it, and it is not reserved", field: "key") }
        return (key, queue, holder)
    }

    /// How the query wants tasks to be shown.
    ///
    /// - Throws: 400 for a wrong parameter.
    func taskDetail() throws(Problem) -> TaskDetail {
        let limit = try query.integer(QueryParameter.contentLimit.name, 0 ... .max, unit: " of bytes")
        return TaskDetail(maximumBytes: limit.map { Int($0) } ?? .max)
    }

    /// Begins an answer with all details of a task.
    ///
    /// - Returns: false, without writing anything, if there is no such task.
    private static func writeTask(
        _ id: UID, _ detail: TaskDetail, to responses: inout ResponseStream, _ context: borrowing Context,
        of broker: isolated Broker
    ) -> Bool {
        let isThere: Void? = broker.withTask(id: id, now: context.now) { task in
            responses.beginJSON(estimatedCount: 400)
            var detail = detail
            detail.hidesContent = context.hidesContent(of: task, on: broker)
            TaskWriter.writeWhole(task, detail, isSending: context.sends(task.queueName), to: &responses)
        }
        return isThere != nil
    }

    /// `GET /result/ID`
    static func awaitResult(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let id = try readID(api.name.span)
        let timeout = try api.resultTimeout()
        guard context.covers(id, on: broker), broker.withTask(id: id, now: context.now, { _ in }) != nil else {
            throw .noTask
        }
        if timeout > 0 { try context.gate.admit(.waits, on: broker) }
        let (ticket, server) = (request.ticket, context.server)
        let deadline = context.now + min(timeout, API.maximumWaitMilliseconds)
        if timeout > 0, !context.isStopping,
            let waiter = broker.waitForResult(
                of: id, deadline: deadline, now: context.now,
                completion: { state, result in
                    server.answer(ticket) { responses in
                        do throws(Problem) {
                            try server.admitAnswer(byteCount: result.count)
                            API.writeResult(state, result, to: &responses)
                        } catch {
                            error.write(to: &responses)
                        }
                        responses.hold(until: broker.changeSequence)
                    }
                })
        {
            return .owed(PendingResult(waiter, of: id))
        }
        try server.admitAnswer(byteCount: broker.withTask(id: id, now: context.now) { $0.result.count } ?? 0)
        writeResult(of: id, of: broker, now: context.now, to: &responses)
        return .answered
    }

    /// `DELETE /result/ID`
    static func deleteResult(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let id = try readID(api.name.span)
        // It has no meaning here, but a mistake is refused all the same.
        _ = try api.resultTimeout()
        guard context.covers(id, on: broker), broker.withTask(id: id, now: context.now, { _ in }) != nil else {
            throw .noTask
        }
        context.noteAudited(id, on: broker)
        broker.replaceResult(of: id, now: context.now)
        writeNoContent(to: &responses)
        return .answered
    }

    private func resultTimeout() throws(Problem) -> Int64 {
        try query.integer("timeout", 0...Int64.max, unit: " of milliseconds") ?? 0
    }

    /// Writes a task's present state and result.
    static func writeResult(of id: UID, of broker: isolated Broker, now: Int64, to responses: inout ResponseStream) {
        let isThere: Void? = broker.withTask(id: id, now: now) { task in
            let result = task.result
            writeResult(task.state, result.span, to: &responses)
        }
        if isThere == nil { Problem.noTask.write(to: &responses) }
    }

    private static func writeResult(_ state: TaskState, _ result: Span<UInt8>, to responses: inout ResponseStream) {
        responses.beginJSON(estimatedCount: 50)
        responses.append("{\"state\":\"")
        responses.append(state.name)
        responses.append("\"")
        if !result.isEmpty {
            responses.append(",\"result\":")
            responses.append(result)
        }
        responses.append("}")
        responses.endLine()
    }

    /// Reads a task's id.
    ///
    /// - Throws: 400 for anything else.
    private static func readID(_ text: Span<UInt8>) throws(Problem) -> UID {
        if let id = UID(text: text) { return id }
        if Receipt.read(text) != nil {
            throw Problem(.invalidID, "this is a receipt; the task's id is the part before the @", field: "id")
        }
        throw Problem(
            .invalidID, "this must be a task's id: 22 characters of base64url, as an enqueue returns it, or a UUID",
            field: "id")
    }
}

extension Problem {
    static let noTask = Problem(.noSuchTask, "there is no such task, or it no longer exists")
}
