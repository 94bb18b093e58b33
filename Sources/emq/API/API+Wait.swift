// Taking tasks, and waiting for them.

import Bytes
import JSON
import Net
import Queues

/// The answer to a wait, sent when there are tasks.
private final class PendingTasks: PendingAnswer {
    private let answer: WaitAnswer
    private let count: Int

    init(_ waiter: Waiter, _ answer: WaitAnswer) {
        self.answer = answer
        count = waiter.count
        super.init(waiter)
    }

    override func writeWithdrawn(to responses: inout ResponseStream, of broker: isolated Broker, now: Int64) {
        answer.write([TaskHandle?](repeating: nil, count: count), of: broker, to: &responses)
    }
}

/// What the answer to a wait needs besides the tasks.
private struct WaitAnswer {
    let dispatchWriter: DispatchWriter
    /// Whether the wait is for any tasks instead of one from each queue.
    let isForAny: Bool
    /// The ids and receipts that could not be acknowledged, as the value of a header field.
    let missing: [UInt8]
    /// The change that must be on disk for the acknowledgements to be safe; 0 if there are none.
    let acknowledgedSequence: UInt64

    /// Writes the answer: a task or null for each queue, or only tasks. O(size of the tasks).
    func write(_ tasks: [TaskHandle?], of broker: isolated Broker, to responses: inout ResponseStream) {
        if missing.isEmpty {
            responses.beginJSON(estimatedCount: 250)
        } else {
            responses.begin(status: 200, contentType: "application/json")
            responses.field("Emq-Missing", missing.span)
            responses.beginBody(estimatedCount: 250)
        }
        responses.append("[")
        var isFirst = true
        for handle in tasks {
            let isWritten = dispatchWriter.write(handle, to: &responses, of: broker) { task, responses in
                if !isFirst { responses.append(",") }
                TaskWriter.writeDispatched(task, to: &responses)
            }
            if !isWritten, isForAny { continue }
            if !isWritten { responses.append(isFirst ? "null" : ",null") }
            isFirst = false
        }
        responses.append("]")
        responses.endLine()
        responses.hold(until: acknowledgedSequence)
    }
}

/// The fields of a wait other than its queues.
private struct WaitFields {
    var timeoutMilliseconds: Int64 = 0
    /// How many of any tasks are wanted; nil for a task from each queue.
    var maximum: Int?
    var leaseMilliseconds: Int64?
    var worker: [UInt8] = []
}

extension API {
    /// `POST /wait/`
    static func wait(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try context.body.read(request, allowsNull: true)
        let fields = try api.readWait(request, context, on: broker)
        if !fields.worker.isEmpty { broker.noteWorker(fields.worker.span, now: context.now) }
        // The answer is held until the changes that made its tasks ready are safe. Dispatches hold nothing.
        let (missing, sequence) = try api.acknowledgeReferences(of: request, context, on: broker)
        let answer = WaitAnswer(
            dispatchWriter: context.dispatchWriter, isForAny: fields.maximum != nil, missing: missing,
            acknowledgedSequence: sequence)
        if context.isStopping {
            // A worker that acknowledges its last tasks with a wait learns whether that succeeded.
            if api.references.isEmpty {
                throw Problem(.stopping, "the server is stopping and dispatches no more tasks")
            }
            let count = fields.maximum == nil ? api.queues.count : 0
            answer.write(Array(repeating: nil, count: count), of: broker, to: &responses)
            return .answered
        }
        var isOver = api.take(fields, now: context.now, on: broker)
        if !isOver { isOver = try !api.mayWait(fields, context, on: broker) }
        if isOver {
            answer.write(api.taken, of: broker, to: &responses)
            return .answered
        }
        let (ticket, server) = (request.ticket, context.server)
        let completion: Waiter.Completion = { tasks in
            server.answer(ticket) { answer.write(tasks, of: broker, to: &$0) }
        }
        let deadline = context.now + fields.timeoutMilliseconds
        let waiter =
            if let maximum = fields.maximum {
                broker.waitAny(
                    api.queues, limit: maximum, leaseMilliseconds: fields.leaseMilliseconds, worker: fields.worker,
                    deadline: deadline, now: context.now, completion: completion)
            } else {
                broker.wait(
                    api.queues, leaseMilliseconds: fields.leaseMilliseconds, worker: fields.worker,
                    deadline: deadline, now: context.now, completion: completion)
            }
        return .owed(PendingTasks(waiter, answer))
    }

    /// Acknowledges the tasks that a wait names.
    ///
    /// - Returns: the ids and receipts that could not be acknowledged, as the value of a header field, and the change
    ///   that must be on disk for the others to be safe.
    /// - Throws: 503.
    private func acknowledgeReferences(
        of request: borrowing Request, _ context: borrowing Context, on broker: isolated Broker
    ) throws(Problem) -> (missing: [UInt8], sequence: UInt64) {
        if references.isEmpty { return ([], 0) }
        let written = context.gate.writtenBytes(of: references, on: broker)
        try context.gate.admit(cost, count: references.count, writtenBytes: written, on: broker)
        var missing: [UInt8] = []
        broker.beginEvent()
        for reference in references {
            if context.covers(reference.task.id, on: broker), broker.ack(reference.task, now: context.now) { continue }
            if !missing.isEmpty { missing += Array(", ".utf8) }
            let written = reference.written
            missing += Array(copying: request.body.extracting(written.lowerBound + 1..<written.upperBound - 1))
        }
        broker.endEvent(now: context.now)
        return (missing, broker.changeSequence)
    }

    /// Takes the wanted tasks into `taken`, or, if there is no time to wait, the available ones.
    ///
    /// - Returns: whether `taken` is the answer. If not, the wanted tasks may come later, or one call could not find
    ///   all available ones.
    private mutating func take(_ fields: WaitFields, now: Int64, on broker: isolated Broker) -> Bool {
        if takeWanted(fields, now: now, on: broker) { return true }
        let isForAny = fields.maximum != nil
        guard fields.timeoutMilliseconds == 0, broker.isDecided(queues, isForAny: isForAny, now: now) else {
            return false
        }
        // Deciding has removed expired tasks, so there may be more to take than before.
        if isForAny {
            _ = takeWanted(fields, now: now, on: broker)
        } else {
            takeAvailable(fields, now: now, on: broker)
        }
        return true
    }

    private mutating func takeWanted(_ fields: WaitFields, now: Int64, on broker: isolated Broker) -> Bool {
        if let maximum = fields.maximum {
            broker.takeAny(
                queues, limit: maximum, leaseMilliseconds: fields.leaseMilliseconds, worker: fields.worker, now: now,
                into: &taken)
        } else {
            broker.take(
                queues, leaseMilliseconds: fields.leaseMilliseconds, worker: fields.worker, now: now, into: &taken)
        }
    }

    private mutating func takeAvailable(_ fields: WaitFields, now: Int64, on broker: isolated Broker) {
        broker.takeAvailable(
            queues, leaseMilliseconds: fields.leaseMilliseconds, worker: fields.worker, now: now, into: &taken)
    }

    /// Whether a wait that has no tasks yet continues. A wait for many queues needs memory. If there is none, a wait
    /// that has acknowledged tasks ends.
    ///
    /// - Throws: 503 if there is no memory and the request has changed nothing.
    private mutating func mayWait(
        _ fields: WaitFields, _ context: borrowing Context, on broker: isolated Broker
    ) throws(Problem) -> Bool {
        guard queues.count > API.namesWithoutMemory else { return true }
        do throws(Problem) {
            try context.gate.admit(.names, count: queues.count, on: broker)
            return true
        } catch {
            if references.isEmpty { throw error }
        }
        if fields.maximum == nil { takeAvailable(fields, now: context.now, on: broker) }
        return false
    }

    /// How many queues a wait may name when there is no memory.
    private static let namesWithoutMemory = 8
    private static let waitNames: [StaticString] = ["queues", "timeout", "max", "ack", "retry", "worker"]

    /// Reads the body of a wait: `queues` receives a queue for each name, and `references` the acknowledged tasks.
    private mutating func readWait(
        _ request: borrowing Request, _ context: borrowing Context, on broker: isolated Broker
    ) throws(Problem) -> WaitFields {
        let bytes = request.body
        var fields = WaitFields()
        var names: FieldPart?
        var acks: FieldPart?
        try context.body.forEach(in: bytes, known: API.waitNames) { (place, value) throws(Problem) in
            switch place {
            case 0: names = value.part
            case 1: fields.timeoutMilliseconds = try value.timeout()
            case 2: fields.maximum = Int(try value.integer(1...Int64(API.maximumTasksPerAnswer)))
            case 3: acks = value.part
            case 4: fields.leaseMilliseconds = try value.length()
            default:
                fields.worker = try value.string(maximumBytes: QueueName.maximumByteCount)
                if QueueName.flaw(in: fields.worker.span) != nil {
                    throw value.flaw("a name without control characters")
                }
            }
        }
        references.clear()
        if let acks { try readReferences(FieldValue(bytes, acks, name: "ack"), maximum: API.maximumIDsInWait) }
        queues.clear()
        if let names { try readQueues(FieldValue(bytes, names, name: "queues"), of: context.caller, on: broker) }
        // No task can come, so there is nothing to wait for.
        if queues.isEmpty { fields.timeoutMilliseconds = 0 }
        return fields
    }

    private mutating func readQueues(
        _ names: borrowing FieldValue, of caller: Caller, on broker: isolated Broker
    ) throws(Problem) {
        try elements.read(names, of: "strings", maximum: API.maximumTasksPerAnswer)
        for index in 0..<elements.count {
            let range = try elements.string(index)
            if let name = elements.plainString(index, of: names.bytes) {
                try addQueue(named: name, index, of: caller, on: broker)
                continue
            }
            decoded.removeAll(keepingCapacity: true)
            guard JSONValue.decodeString(names.bytes.extracting(range), into: &decoded) else {
                throw elements.flaw(index, "a queue's name must be UTF-8")
            }
            let name = decoded
            try addQueue(named: name.span, index, of: caller, on: broker)
        }
    }

    private mutating func addQueue(
        named name: Span<UInt8>, _ index: Int, of caller: Caller, on broker: isolated Broker
    ) throws(Problem) {
        if let flaw = QueueName.flaw(in: name) { throw elements.flaw(index, flaw) }
        do throws(Problem) { try caller.check(.work, in: name) } catch {
            throw error.inside("queues[\(index)]")
        }
        queues.append(try broker.requireQueue(named: name))
    }
}

extension FieldValue {
    /// How long to wait: a whole number of milliseconds. More than an hour counts as an hour.
    func timeout() throws(Problem) -> Int64 {
        if kind == .number {
            do throws(JSONNumberError) {
                let timeout = try JSONValue.integer(bytes)
                if timeout >= 0 { return min(timeout, API.maximumWaitMilliseconds) }
            } catch {
                if error == .outOfRange, bytes[0] != UInt8(ascii: "-") { return API.maximumWaitMilliseconds }
            }
        }
        throw flaw("a whole number of milliseconds, 0 or more")
    }
}
