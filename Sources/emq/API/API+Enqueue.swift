// Adding tasks: one, or many at once.

import Bytes
import JSON
import Net
import Queues

extension API {
    /// `POST /enqueue/NAME`
    static func enqueue(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try context.checkAcceptsTasks()
        if !context.adapters.isEmpty { try context.adapters.checkEnqueue(in: api.name.span) }
        try context.body.read(request, allowsNull: true, allowsArray: true)
        if context.body.kind == .array {
            try api.enqueueBatch(request, &responses, &context, on: broker)
        } else {
            try api.enqueueOne(request, &responses, &context, on: broker)
        }
        return .answered
    }

    private mutating func enqueueOne(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) {
        let bytes = request.body
        try context.gate.admit(cost, keptBytes: bytes.count + API.traceBytes(of: request), on: broker)
        let trace = request.hasTraceFields ? TraceContext(of: request) : TraceContext()
        var result = Enqueued(id: context.makeID(), isExisting: false)
        if context.adapters.isEmpty, let content = context.body.onlyValue(named: "content", in: bytes) {
            // Most tasks are nothing but their content.
            do throws(BrokerError) {
                try broker.enqueue(
                    id: result.id, in: broker.queue(named: name.span), content: bytes.extracting(content),
                    leaseMilliseconds: nil, expiry: .unsaid, trace: trace, now: context.now)
            } catch {
                throw Problem(error)
            }
        } else {
            try add(&result, bytes, trace, context, on: broker)
        }
        responses.beginJSON(estimatedCount: 31)
        responses.append("{\"id\":\"")
        let text = result.id.text
        responses.append(text.span)
        responses.append(result.isExisting ? "\",\"existing\":true}" : "\"}")
        responses.endLine()
    }

    /// Adds the task that the body describes. `result` has the id of the new task, and receives that of the task that
    /// has its key.
    private func add(
        _ result: inout Enqueued, _ bytes: Span<UInt8>, _ trace: TraceContext, _ context: borrowing Context,
        on broker: isolated Broker
    ) throws(Problem) {
        var fields = TaskFields(id: result.id)
        try fields.read(bytes, scannedBy: context.body, now: context.now)
        let other = try prepare(&fields, of: bytes, context, on: broker)
        // A task that is about to be moved must not be dispatched first.
        if other != nil { broker.beginEvent() }
        defer { if other != nil { broker.endEvent(now: context.now) } }
        do throws(BrokerError) {
            let queue = try broker.queue(named: name.span)
            if fields.isPlain {
                try broker.enqueue(
                    id: result.id, in: queue, content: bytes.extracting(fields.task.content),
                    leaseMilliseconds: fields.task.leaseMilliseconds, expiry: fields.task.expiry, trace: trace,
                    now: context.now)
            } else {
                if !trace.isEmpty { fields.options.trace = trace }
                result = try broker.enqueue(fields.task, content: bytes, in: queue, now: context.now)
            }
        } catch {
            throw Problem(error)
        }
        if let other, API.isAdded(fields.task, result) { broker.move(result.id, to: other, now: context.now) }
    }

    private mutating func enqueueBatch(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) {
        let bytes = request.body
        let count = context.body.count
        if count == 0 { throw Problem(.invalidBody, "the array is empty; send at least one task") }
        let traceBytes = API.traceBytes(of: request)
        try context.gate.admit(cost, count: count, keptBytes: bytes.count + count * traceBytes, on: broker)
        // The tasks' options may take much memory.
        defer { batch.removeAll(keepingCapacity: true) }
        var moves: [(index: Int, to: QueueIndex)] = []
        // All tasks share its texts.
        let trace = TraceContext(of: request)
        for index in 0..<count {
            let element = context.body.element(index)
            do throws(Problem) {
                let object = bytes.extracting(element.value)
                var fields = TaskFields(id: context.makeID())
                if element.kind != .null {
                    try item.read(object, kind: element.kind)
                    try fields.read(object, scannedBy: item, now: context.now)
                }
                if let other = try prepare(&fields, of: object, context, on: broker) { moves.append((index, other)) }
                if !trace.isEmpty { fields.options.trace = trace }
                let start = element.value.lowerBound
                let content = fields.task.content
                fields.task.content = start + content.lowerBound..<start + content.upperBound
                batch.append(fields.task)
            } catch {
                throw error.inside("[\(index)]")
            }
        }
        let queue = try broker.requireQueue(named: name.span)
        // A task that is about to be moved must not be dispatched first.
        broker.beginEvent()
        defer { broker.endEvent(now: context.now) }
        do throws(BatchError) {
            try broker.enqueue(batch, contents: bytes, in: queue, now: context.now, into: &enqueued)
        } catch {
            let problem = Problem(error.reason)
            throw error.reason == .batchTooLong ? problem : problem.inside("[\(error.index)]")
        }
        for move in moves where API.isAdded(batch[move.index], enqueued[move.index]) {
            broker.move(enqueued[move.index].id, to: move.to, now: context.now)
        }
        API.write(enqueued, to: &responses)
    }

    /// Checks a task's request, and fills in fields from the content of a legacy system's task.
    ///
    /// - Returns: the queue that the task is for, if that is another one.
    /// - Throws: 400, 403, and 503 if that queue cannot be created.
    @inline(__always)
    private func prepare(
        _ fields: inout TaskFields, of object: Span<UInt8>, _ context: borrowing Context, on broker: isolated Broker
    ) throws(Problem) -> QueueIndex? {
        try context.checkRequest(of: &fields, in: name.span, on: broker)
        guard let taskqueue = context.adapters.taskqueue, taskqueue.owns(name.span) else { return nil }
        // The content says where emq sends the task.
        try context.caller.check(.push, in: name.span)
        let content = object.extracting(fields.task.content)
        guard let other = taskqueue.prepare(&fields.task, content: content, in: name, now: context.now) else {
            return nil
        }
        try context.caller.check(.enqueue, in: other.span)
        try context.caller.check(.push, in: other.span)
        return try broker.requireQueue(named: other.span)
    }

    /// How many bytes each task keeps for the trace context of a request.
    private static func traceBytes(of request: borrowing Request) -> Int {
        request.hasTraceFields ? Cost.extrasBytes + request.requestID.count + request.traceparent.count : 0
    }

    /// Whether a task was added, and not dropped because another task has its key.
    private static func isAdded(_ task: NewTask, _ result: Enqueued) -> Bool {
        !result.isExisting || task.options?.onConflict == .replace
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

extension TraceContext {
    /// What a request says about itself. O(1) if it says nothing.
    init(of request: borrowing Request) {
        self.init(usableRequestID: request.requestID, usableTraceparent: request.traceparent)
    }
}
