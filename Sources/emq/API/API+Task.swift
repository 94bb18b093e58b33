// One task: all about it, its end, its result.

import JSON
import Net
import Queues
import UID

extension API {
    /// `GET` and `DELETE /task/ID`
    mutating func answerTask(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) {
        let id = try readID(name.span)
        if request.method == .delete {
            guard broker.cancelTask(id, now: now) || broker.deleteRecord(id, now: now) else { throw API.noTask }
            return API.writeNoContent(to: &responses)
        }
        let isThere: Void? = broker.withTask(id: id, now: now) { task in
            responses.beginJSON(estimatedCount: 400)
            TaskWriter.writeWhole(task, isSending: push?.sends(task.queueName) ?? false, to: &responses)
        }
        if isThere == nil { throw API.noTask }
        try admitAnswer(responses)
        responses.endLine()
    }

    /// `GET` and `DELETE /key/NAME`
    mutating func answerKey(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) {
        guard let key = query["key"].map({ Array($0.utf8) }), 1...TaskKey.maximumByteCount ~= key.count else {
            throw Problem(
                400, "key says which: /key/NAME?key=KEY, 1 to \(TaskKey.maximumByteCount) bytes", field: "key")
        }
        guard let queue = broker.existingQueue(named: name.span),
            let holder = broker.keyHolder(of: key, in: queue, now: now)
        else { throw Problem(404, "this key is free: no task of this queue has it, nor is it kept", field: "key") }
        if request.method == .delete {
            if holder.isUnfinished {
                throw Problem(
                    409, "an unfinished task has this key; DELETE /task/\(holder.task) cancels that and frees the key",
                    field: "key")
            }
            _ = broker.freeKey(key, in: queue, now: now)
            return API.writeNoContent(to: &responses)
        }
        responses.beginJSON(estimatedCount: 400)
        let isThere: Void? = broker.withTask(id: holder.task, now: now) { task in
            TaskWriter.writeWhole(task, isSending: push?.sends(task.queueName) ?? false, to: &responses)
        }
        if isThere == nil { TaskWriter.writeKeptKey(key, holder, in: name.span, to: &responses) }
        try admitAnswer(responses)
        responses.endLine()
    }

    /// `GET` and `DELETE /result/ID`
    mutating func answerResult(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let id = try readID(name.span)
        let timeout = try query.integer("timeout", 0...Int64.max, unit: " of milliseconds") ?? 0
        guard broker.withTask(id: id, now: now, { _ in }) != nil else { throw API.noTask }
        if request.method == .delete {
            broker.replaceResult(of: id, now: now)
            API.writeNoContent(to: &responses)
            return .answered
        }
        if timeout > 0 { try admit(Cost(effect: .looks, memoryBytes: Cost.extrasBytes), on: broker) }
        let (ticket, server) = (request.ticket, server)
        let deadline = now + min(timeout, API.maximumWaitMilliseconds)
        if timeout > 0, !shutdown.isAsked,
            let waiter = broker.waitForResult(
                of: id, deadline: deadline, now: now,
                completion: { state, result in
                    server.answer(ticket) {
                        if server.isShortOfMemory, result.count > API.largeBytes {
                            API.crowd.write(to: &$0)
                        } else {
                            API.writeResult(state, result, to: &$0)
                        }
                        $0.hold(until: broker.changeSequence)
                    }
                })
        {
            return .owed(PendingWait(waiter, .result(TaskReference(id: id))))
        }
        if server.isShortOfMemory, broker.withTask(id: id, now: now, { $0.result.count }) ?? 0 > API.largeBytes {
            throw API.crowd
        }
        API.writeResult(of: id, of: broker, now: now, to: &responses)
        return .answered
    }

    /// Writes a task's state and result as they are.
    static func writeResult(of id: UID, of broker: isolated Broker, now: Int64, to responses: inout ResponseStream) {
        let isThere: Void? = broker.withTask(id: id, now: now) { task in
            let result = task.result
            writeResult(task.state, result.span, to: &responses)
        }
        if isThere == nil { noTask.write(to: &responses) }
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

    static let noTask = Problem(404, "there is no such task (any more)")

    /// Reads a task's id.
    ///
    /// - Throws: 400 for what is none.
    func readID(_ text: Span<UInt8>) throws(Problem) -> UID {
        if let id = UID(text: text) { return id }
        if Receipt.read(text) != nil {
            throw Problem(400, "this is a receipt; the task's id is what stands before the @", field: "id")
        }
        throw Problem(
            400, "a task's id is 22 characters of base64url, as an enqueue answers it, or a UUID; this is neither",
            field: "id")
    }
}
