// Taking tasks, and waiting for them.

import Bytes
import JSON
import Net
import Queues

/// An answer that is owed until there are tasks, or until a task has come to its end.
final class PendingWait {
    /// What is waited for.
    enum Goal {
        /// A task for each name, or any tasks; the acknowledgements in the request that did not work.
        /// The mark until which these are held.
        case tasks(missing: [UInt8], mark: UInt64)
        /// The end of a task.
        case result(TaskReference)
        /// What a client of a legacy system is told in any case.
        case other((inout ResponseStream) -> Void)
    }

    let waiter: Waiter
    private let goal: Goal

    init(_ waiter: Waiter, _ goal: Goal) {
        self.waiter = waiter
        self.goal = goal
    }

    /// Answers a client that has ended its side: nothing is taken for it.
    func writeNothing(to responses: inout ResponseStream, of broker: isolated Broker, now: Int64) {
        switch goal {
        case .tasks(let missing, let mark):
            let nothing = [TaskHandle?](repeating: nil, count: waiter.count)
            API.write(nothing, isAny: false, missing: missing, returned: nil, of: broker, to: &responses)
            responses.hold(until: mark)
        case .result(let task):
            API.writeResult(of: task.id, of: broker, now: now, to: &responses)
            responses.hold(until: broker.changeSequence)
        case .other(let write):
            write(&responses)
        }
    }
}

/// What a wait says beside the names of its queues.
private struct WaitFields {
    var timeoutMilliseconds: Int64 = 0
    /// How many of any tasks are wanted; nil for a task for each name.
    var maximum: Int?
    var leaseMilliseconds: Int64?
    var worker: [UInt8] = []
}

extension API {
    /// `POST /wait/`
    mutating func wait(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try body.read(request)
        let fields = try readWait(request, on: broker)
        if !references.isEmpty {
            try admit(
                Verb.wait.cost(.post), count: references.count, writtenBytes: writtenBytes(of: references, on: broker),
                on: broker)
        }
        var missing: [UInt8] = []
        if !references.isEmpty { broker.beginEvent() }
        for reference in references where !broker.ack(reference.task, now: now) {
            if !missing.isEmpty { missing += Array(", ".utf8) }
            let written = reference.written
            missing += Array(copying: request.body.extracting(written.lowerBound + 1..<written.upperBound - 1))
        }
        if !references.isEmpty { broker.endEvent(now: now) }
        // The tasks that are given out wait for what made them ready; that they were dispatched, nobody waits for.
        let mark = references.isEmpty ? 0 : broker.changeSequence
        if shutdown.isAsked {
            // A worker that hands in its last work on the way learns whether that was in time.
            if references.isEmpty { throw Problem(503, "the server is stopping and gives out no more tasks") }
            let count = fields.maximum == nil ? queues.count : 0
            API.write(
                Array(repeating: nil, count: count), isAny: fields.maximum != nil, missing: missing, returned: nil,
                of: broker, to: &responses)
            responses.hold(until: mark)
            return .answered
        }
        var isOver = take(fields, on: broker)
        if !isOver { isOver = try !mayWait(fields, on: broker) }
        if isOver {
            API.write(
                taken, isAny: fields.maximum != nil, missing: missing, returned: returned, of: broker, to: &responses)
            responses.hold(until: mark)
            return .answered
        }
        let (ticket, server, returned, isAny) = (request.ticket, server, returned, fields.maximum != nil)
        let answer: Waiter.Completion = { tasks in
            server.answer(ticket) {
                API.write(tasks, isAny: isAny, missing: missing, returned: returned, of: broker, to: &$0)
                $0.hold(until: mark)
            }
        }
        let deadline = now + fields.timeoutMilliseconds
        let waiter =
            if let maximum = fields.maximum {
                broker.waitAny(
                    queues, limit: maximum, leaseMilliseconds: fields.leaseMilliseconds, worker: fields.worker,
                    deadline: deadline, now: now, completion: answer)
            } else {
                broker.wait(
                    queues, leaseMilliseconds: fields.leaseMilliseconds, worker: fields.worker, deadline: deadline,
                    now: now, completion: answer)
            }
        return .owed(PendingWait(waiter, .tasks(missing: missing, mark: mark)))
    }

    /// Takes into `taken` what is wanted, or, if there is no time to wait, what there is.
    ///
    /// - Returns: whether that is the answer. If not, what is wanted may come, or what there is could not be told at once.
    private mutating func take(_ fields: WaitFields, on broker: isolated Broker) -> Bool {
        if takeWanted(fields, on: broker) { return true }
        let isForAny = fields.maximum != nil
        guard fields.timeoutMilliseconds == 0, broker.isDecided(queues, isForAny: isForAny, now: now) else {
            return false
        }
        // More may be found than before: what stood in the way has been taken out.
        if isForAny {
            _ = takeWanted(fields, on: broker)
        } else {
            broker.takeAvailable(
                queues, leaseMilliseconds: fields.leaseMilliseconds, worker: fields.worker, now: now, into: &taken)
        }
        return true
    }

    private mutating func takeWanted(_ fields: WaitFields, on broker: isolated Broker) -> Bool {
        if let maximum = fields.maximum {
            broker.takeAny(
                queues, limit: maximum, leaseMilliseconds: fields.leaseMilliseconds, worker: fields.worker, now: now,
                into: &taken)
        } else {
            broker.take(
                queues, leaseMilliseconds: fields.leaseMilliseconds, worker: fields.worker, now: now, into: &taken)
        }
    }

    /// Whether a wait that has got nothing goes on. One with many names needs memory; where there is none, one that has
    /// acknowledged something is over.
    ///
    /// - Throws: 503 where there is no memory and nothing was changed.
    private mutating func mayWait(_ fields: WaitFields, on broker: isolated Broker) throws(Problem) -> Bool {
        guard queues.count > API.namesWithoutMemory else { return true }
        do throws(Problem) {
            try admit(.names, count: queues.count, on: broker)
            return true
        } catch {
            if references.isEmpty { throw error }
        }
        if fields.maximum == nil {
            broker.takeAvailable(
                queues, leaseMilliseconds: fields.leaseMilliseconds, worker: fields.worker, now: now, into: &taken)
        }
        return false
    }

    /// How many names a wait may have whatever the memory.
    private static let namesWithoutMemory = 8
    private static let waitNames: [StaticString] = ["queues", "timeout", "max", "ack", "retry", "worker"]

    /// Reads the body of a wait: `queues` receives a queue for each name, `references` what is acknowledged.
    private mutating func readWait(
        _ request: borrowing Request, on broker: isolated Broker
    ) throws(Problem) -> WaitFields {
        let bytes = request.body
        var fields = WaitFields()
        var names: JSONScanner.Entry?
        var acks: JSONScanner.Entry?
        try body.forEach(in: bytes, known: API.waitNames) { (place, value) throws(Problem) in
            switch place {
            case 0: names = value.entry
            case 1: fields.timeoutMilliseconds = try value.timeout()
            case 2: fields.maximum = Int(try value.integer(1...Int64(API.maximumTasksPerAnswer)))
            case 3: acks = value.entry
            case 4: fields.leaseMilliseconds = try value.length()
            default:
                fields.worker = try value.string(maximumBytes: QueueName.maximumByteCount)
                if QueueName.flaw(in: fields.worker.span) != nil {
                    throw value.flaw("a name without control characters")
                }
            }
        }
        references.removeAll(keepingCapacity: true)
        if let acks { try readReferences(FieldValue(bytes, acks, name: "ack"), maximum: API.maximumIDsInWait) }
        guard let names else {
            throw Problem(400, "a wait names its queues: {\"queues\": [\"name\"]}", field: "queues")
        }
        try readQueues(FieldValue(bytes, names, name: "queues"), on: broker)
        return fields
    }

    private mutating func readQueues(_ names: borrowing FieldValue, on broker: isolated Broker) throws(Problem) {
        try elements.read(names, of: "strings", maximum: API.maximumTasksPerAnswer)
        queues.removeAll(keepingCapacity: true)
        for index in 0..<elements.count {
            decoded.removeAll(keepingCapacity: true)
            let isText = JSONValue.decodeString(names.bytes.extracting(try elements.string(index)), into: &decoded)
            if let flaw = isText ? QueueName.flaw(in: decoded.span) : "a queue's name is UTF-8, this one is not" {
                throw elements.flaw(index, flaw)
            }
            do throws(BrokerError) {
                queues.append(try broker.queue(named: decoded.span))
            } catch {
                throw API.problem(error)
            }
        }
        if queues.isEmpty { throw Problem(400, "queues names at least one queue", field: "queues") }
    }

    /// Writes the answer to a wait: a task or null for each of its names, or just tasks.
    static func write(
        _ tasks: [TaskHandle?], isAny: Bool, missing: [UInt8], returned: ReturnedTasks?, of broker: isolated Broker,
        to responses: inout ResponseStream
    ) {
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
            let isWritten =
                handle.map { handle in
                    broker.withTask(handle) { task in
                        if returned?.add(task, insteadOf: responses) == true { return false }
                        if !isFirst { responses.append(",") }
                        TaskWriter.writeDispatched(task, to: &responses)
                        // If the answer does not reach the worker, the task goes back at once and not when its lease is over.
                        responses.track(task.dispatchKey.rawValue)
                        responses.hold(until: task.readySequence)
                        return true
                    }
                } ?? false
            if !isWritten, isAny { continue }
            if !isWritten { responses.append(isFirst ? "null" : ",null") }
            isFirst = false
        }
        responses.append("]")
        responses.endLine()
    }
}

/// Tasks that were dispatched and for which there is no room among the answers that wait for clients to read them: their
/// clients do without, and they go back to the front of their queues in the next turn.
final class ReturnedTasks {
    private var keys: [DispatchKey] = []
    private let server: HTTPServer

    init(_ server: HTTPServer) { self.server = server }

    var isEmpty: Bool { keys.isEmpty }

    /// Takes note of a task, if the answer has no room for it.
    fileprivate func add(_ task: borrowing TaskView, insteadOf responses: borrowing ResponseStream) -> Bool {
        if server.mayAnswer(responses, adding: task.content.count) { return false }
        keys.append(task.dispatchKey)
        return true
    }

    /// Those that are to go back, the last first.
    func take() -> [DispatchKey] {
        if keys.isEmpty { return [] }
        defer { keys = [] }
        return keys.reversed()
    }
}

extension FieldValue {
    /// How long to wait: a whole number of milliseconds, of which at most an hour's worth counts.
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
