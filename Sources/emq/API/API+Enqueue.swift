// Adding tasks: one, or many at once.

import JSON
import Net
import Queues
import UID

extension API {
    /// `POST /enqueue/NAME`
    mutating func enqueue(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) {
        if shutdown.isAsked { throw Problem(503, "the server is stopping and takes no more tasks") }
        if !adapters.isEmpty { try adapters.checkEnqueue(in: name.span) }
        try body.read(request, allowsArray: true)
        if body.kind == .array { return try enqueueBatch(request, &responses, on: broker) }
        try admit(Verb.enqueue.cost(.post), keptBytes: request.body.count, on: broker)
        let bytes = request.body
        var fields = TaskFields()
        try body.forEach(in: bytes, known: TaskFields.names, nullable: TaskFields.nullable) {
            [now] (place, value) throws(Problem) in
            try fields.read(place, value, now: now)
        }
        let content = try fields.check()
        try checkRequest(of: fields, in: name.span, on: broker)
        let other = try prepare(&fields, content: bytes.extracting(content), on: broker)
        let id = ids.next(unixMilliseconds: UInt64(now), using: &random)
        var result = Enqueued(id: id, isExisting: false)
        // Nobody is given what is about to be moved.
        if other != nil { broker.beginEvent() }
        defer { if other != nil { broker.endEvent(now: now) } }
        do throws(BrokerError) {
            let queue = try broker.queue(named: name.span)
            if fields.isPlain {
                try broker.enqueue(
                    id: id, in: queue, content: bytes.extracting(content),
                    leaseMilliseconds: fields.leaseMilliseconds, expiry: fields.expiry, now: now)
            } else {
                result = try broker.enqueue(
                    API.task(fields, id: id, content: content), content: bytes, in: queue, now: now)
            }
        } catch {
            throw API.problem(error)
        }
        if let other, API.isTaken(fields.options, result) { broker.move(result.id, to: other, now: now) }
        responses.beginJSON(estimatedCount: 31)
        responses.append("{\"id\":\"")
        let text = result.id.text
        responses.append(text.span)
        responses.append(result.isExisting ? "\",\"existing\":true}" : "\"}")
        responses.endLine()
    }

    private mutating func enqueueBatch(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) {
        let bytes = request.body
        if body.count == 0 { throw Problem(400, "the array has no task") }
        try admit(Verb.enqueue.cost(.post), count: body.count, keptBytes: bytes.count, on: broker)
        // What the tasks say may take much memory.
        defer { batch.removeAll(keepingCapacity: true) }
        var moves: [(index: Int, to: QueueIndex)] = []
        for index in 0..<body.count {
            let element = body.element(index)
            do throws(Problem) {
                let object = bytes.extracting(element.value)
                try item.read(object, kind: element.kind)
                var fields = TaskFields()
                try item.forEach(in: object, known: TaskFields.names, nullable: TaskFields.nullable) {
                    [now] (place, value) throws(Problem) in
                    try fields.read(place, value, now: now)
                }
                let content = try fields.check()
                try checkRequest(of: fields, in: name.span, on: broker)
                if let other = try prepare(&fields, content: object.extracting(content), on: broker) {
                    moves.append((index, other))
                }
                let start = element.value.lowerBound
                batch.append(
                    API.task(
                        fields, id: ids.next(unixMilliseconds: UInt64(now), using: &random),
                        content: start + content.lowerBound..<start + content.upperBound))
            } catch {
                throw error.inside("[\(index)]")
            }
        }
        let queue: QueueIndex
        do throws(BrokerError) { queue = try broker.queue(named: name.span) } catch { throw API.problem(error) }
        // Nobody is given what is about to be moved.
        broker.beginEvent()
        defer { broker.endEvent(now: now) }
        do throws(BatchError) {
            try broker.enqueue(batch, contents: bytes, in: queue, now: now, into: &enqueued)
        } catch {
            let problem = API.problem(error.reason)
            throw error.reason == .batchTooLong ? problem : problem.inside("[\(error.index)]")
        }
        for move in moves where API.isTaken(batch[move.index].options, enqueued[move.index]) {
            broker.move(enqueued[move.index].id, to: move.to, now: now)
        }
        API.write(enqueued, to: &responses)
    }

    /// Lets the content of a task say what it says of the task, where a legacy system has it so.
    ///
    /// - Returns: the queue that it is for, if that is another one.
    /// - Throws: 503 if that cannot be made.
    @inline(__always)
    private func prepare(
        _ fields: inout TaskFields, content: Span<UInt8>, on broker: isolated Broker
    ) throws(Problem) -> QueueIndex? {
        guard let taskqueue = adapters.taskqueue, taskqueue.owns(name.span) else { return nil }
        guard let other = taskqueue.prepare(&fields, content: content, in: name, now: now) else { return nil }
        return try queue(named: other.span, on: broker)
    }

    /// Whether what a task says is taken, and not left because of the task that has its key.
    private static func isTaken(_ options: TaskOptions?, _ result: Enqueued) -> Bool {
        !result.isExisting || options?.onConflict == .replace
    }

    private static func task(_ fields: TaskFields, id: UID, content: Range<Int>) -> NewTask {
        NewTask(
            id: id, content: content, leaseMilliseconds: fields.leaseMilliseconds, due: fields.due,
            expiry: fields.expiry, priority: fields.priority, options: fields.options)
    }

    private static func write(_ enqueued: [Enqueued], to responses: inout ResponseStream) {
        responses.beginJSON(estimatedCount: 10 + 25 * enqueued.count)
        responses.append("{\"ids\":[")
        var existing: [Int] = []
        for (index, task) in enqueued.enumerated() {
            responses.append(index > 0 ? ",\"" : "\"")
            let text = task.id.text
            responses.append(text.span)
            responses.append("\"")
            if task.isExisting { existing.append(index) }
        }
        responses.append("]")
        if !existing.isEmpty {
            responses.append(",\"existing\":[")
            for (position, index) in existing.enumerated() {
                if position > 0 { responses.append(",") }
                JSONWriter.writeInteger(Int64(index), to: &responses)
            }
            responses.append("]")
        }
        responses.append("}")
        responses.endLine()
    }
}
