// Ending and extending leases: acks, naks, touches.

import Bytes
import JSON
import Net
import Queues

/// A task that a request names.
struct Reference {
    let task: TaskReference
    /// Its range in the body, quotes included.
    let written: Range<Int>
    /// The range of its own result, if it has one.
    var result: Range<Int>?
    /// That of its own log, quotes included.
    var log: Range<Int>?
}

extension API {
    /// `POST /ack/`
    static func acknowledge(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try context.body.read(request, allowsNull: true)
        let bytes = request.body
        var ids: FieldPart?
        var tasks: FieldPart?
        var result = 0..<0
        var log: [UInt8] = []
        var hasLog = false
        try context.body.forEach(in: bytes, known: ["ids", "result", "log", "tasks"]) {
            (place, value) throws(Problem) in
            switch place {
            case 0: ids = value.part
            case 1: result = value.range
            case 2:
                try value.decodeString(byteCounts: API.logByteCounts, into: &log)
                hasLog = true
            default: tasks = value.part
            }
        }
        api.references.clear()
        if let tasks {
            if ids != nil || !result.isEmpty || hasLog {
                throw Problem(
                    .conflictingFields,
                    "send either tasks, with an id, a result and a log each, or ids, result and log", field: "tasks")
            }
            try api.readResults(FieldValue(bytes, tasks, name: "tasks"))
        } else {
            try api.readIDs(bytes, ids)
        }
        // A loop, because a closure for the standard library would check at run time that it is the broker's.
        var size = 0
        for reference in api.references {
            let count = (reference.result?.count ?? result.count) + (reference.log?.count ?? log.count)
            guard count > 0, context.covers(reference.task.id, on: broker), broker.keepsRecord(of: reference.task)
            else { continue }
            size += count
        }
        try context.gate.admit(
            api.cost, count: api.references.count, keptBytes: size,
            writtenBytes: context.gate.writtenBytes(of: api.references, hasLog: !log.isEmpty, on: broker), on: broker)
        api.finish(bytes, &responses, context, begin: "{\"acked\":", on: broker) { reference in
            if let range = reference.log {
                log.removeAll(keepingCapacity: true)
                // It was checked when it was read.
                _ = JSONValue.decodeString(bytes.extracting(range), into: &log)
            }
            defer { if reference.log != nil { log.removeAll(keepingCapacity: true) } }
            return broker.ack(
                reference.task, result: bytes.extracting(reference.result ?? result), log: log.span, now: context.now)
        }
        return .answered
    }

    /// `POST /nak/`
    static func nak(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try context.body.read(request, allowsNull: true)
        let bytes = request.body
        var ids: FieldPart?
        var error: [UInt8] = []
        var log: [UInt8] = []
        var delay: Int64?
        var isDead = false
        var isReleased = false
        try context.body.forEach(in: bytes, known: ["ids", "error", "delay", "dead", "release", "log"]) {
            (place, value) throws(Problem) in
            switch place {
            case 0: ids = value.part
            case 1: error = try value.string(maximumBytes: API.maximumErrorBytes)
            case 2: delay = try value.duration()
            case 3: isDead = try value.boolean()
            case 4: isReleased = try value.boolean()
            default: try value.decodeString(byteCounts: API.logByteCounts, into: &log)
            }
        }
        api.references.clear()
        try api.readIDs(bytes, ids)
        if isDead && isReleased {
            throw Problem(
                .conflictingFields, "dead and release contradict each other; send one of them", field: "release")
        }
        if delay != nil, isDead {
            throw Problem(
                .conflictingFields, "a dead task is not retried, so send either dead or delay", field: "delay")
        }
        let action: NakAction =
            if isDead {
                .dead
            } else if isReleased {
                .releasePausing(milliseconds: delay ?? 0)
            } else if let delay {
                .failedPausing(milliseconds: delay)
            } else {
                .failed
            }
        try api.admitNaks(&error, &log, context.gate, on: broker)
        // The last task that returns to the front of a queue is the first one there.
        if isReleased, delay ?? 0 == 0 { api.references.reverse() }
        var dead = 0
        api.finish(
            bytes, &responses, context, begin: "{\"requeued\":", uncounted: (",\"dead\":", { dead }),
            on: broker
        ) {
            reference in
            switch broker.nak(reference.task, action, error: error.span, log: log.span, now: context.now) {
            case .missing: return false
            case .requeued: return true
            case .dead:
                dead += 1
                return nil
            }
        }
        return .answered
    }

    /// `POST /touch/`
    static func touch(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try context.body.read(request, allowsNull: true)
        let bytes = request.body
        var ids: FieldPart?
        var lease: Int64?
        var progress = 0..<0
        try context.body.forEach(in: bytes, known: ["ids", "retry", "progress"]) { (place, value) throws(Problem) in
            switch place {
            case 0: ids = value.part
            case 1: lease = try value.length()
            default: progress = value.range
            }
        }
        api.references.clear()
        try api.readIDs(bytes, ids)
        try context.gate.admit(
            api.cost, count: api.references.count, keptBytes: progress.count * api.references.count,
            writtenBytes: context.gate.writtenBytes(of: api.references, on: broker), on: broker)
        api.finish(bytes, &responses, context, begin: "{\"touched\":", on: broker) { reference in
            broker.touch(
                reference.task, leaseMilliseconds: lease, progress: bytes.extracting(progress), now: context.now)
        }
        return .answered
    }

    // MARK: Parts

    /// Admits naks. If there is no room for their log and their error, first the log is cut or dropped, then the error.
    private func admitNaks(
        _ error: inout [UInt8], _ log: inout [UInt8], _ gate: Gate, on broker: isolated Broker
    ) throws(Problem) {
        let count = references.count
        let attemptBytes = gate.durability == nil ? 0 : count * Cost.attemptBytes
        func writtenBytes(hasLog: Bool) -> Int {
            gate.writtenBytes(of: references, hasLog: hasLog, on: broker) + attemptBytes
        }
        while !log.isEmpty || !error.isEmpty {
            do throws(Problem) {
                return try gate.admit(
                    .grows(Cost.extrasBytes), count: count, keptBytes: count * (error.count + log.count),
                    writtenBytes: writtenBytes(hasLog: !log.isEmpty), on: broker)
            } catch let problem {
                if problem.awaitsSpace { throw problem }
            }
            if log.isEmpty { break }
            log = log.count > API.textBytesWithoutRoom ? Array(log.characters(ofLast: API.textBytesWithoutRoom)) : []
        }
        if !error.isEmpty {
            if error.count > API.textBytesWithoutRoom {
                error.removeLast(error.count - API.textBytesWithoutRoom)
                // Drop a character that was cut in half.
                while let last = error.last, last & 0b1100_0000 == 0b1000_0000 { error.removeLast() }
                if let last = error.last, last & 0b1100_0000 == 0b1100_0000 { error.removeLast() }
            }
            if !gate.hasMemory(for: count * (Cost.extrasBytes + error.count), on: broker) { error = [] }
        }
        try gate.admit(
            cost, count: count, writtenBytes: writtenBytes(hasLog: false) + count * error.count, on: broker)
    }

    /// The longest error of a refused task, in bytes.
    static let maximumErrorBytes = 10_000
    /// How many bytes the log of an attempt may have.
    static let logByteCounts = 0...65_536
    /// The most of an error that is kept on a full disk, and of a log if there is little room, in bytes.
    private static let textBytesWithoutRoom = 200

    /// Makes `references` those of a body that names tasks and says nothing else.
    mutating func readTasks(_ request: borrowing Request, _ context: inout Context) throws(Problem) {
        try context.body.read(request, allowsNull: true)
        var ids: FieldPart?
        try context.body.forEach(in: request.body, known: ["ids"]) { (_, value) throws(Problem) in ids = value.part }
        references.clear()
        try readIDs(request.body, ids)
    }

    /// Adds all ids and receipts of `ids`, if the body has that field, to `references`.
    mutating func readIDs(_ bytes: Span<UInt8>, _ ids: FieldPart?) throws(Problem) {
        guard let ids else { return }
        try readReferences(FieldValue(bytes, ids, name: "ids"), maximum: API.maximumIDs)
    }

    /// Adds all ids and receipts of an array to `references`, before any of them takes effect.
    mutating func readReferences(_ array: borrowing FieldValue, maximum: Int) throws(Problem) {
        try elements.read(array, of: "strings", maximum: maximum)
        for index in 0..<elements.count {
            let range = try elements.string(index)
            let task: TaskReference?
            if let text = elements.plainString(index, of: array.bytes) {
                task = Receipt.read(text)
            } else {
                task = readReference(array.bytes.extracting(range))
            }
            guard let task else { throw elements.flaw(index, API.malformedReference) }
            let start = array.range.lowerBound
            references.append(Reference(task: task, written: start + range.lowerBound..<start + range.upperBound))
        }
    }

    private static let malformedReference = "this must be an id of 22 or 36 characters, or a receipt, ID@TOKEN"

    private mutating func readReference(_ quoted: Span<UInt8>) -> TaskReference? {
        if let text = JSONValue.plainString(quoted) { return Receipt.read(text) }
        decoded.removeAll(keepingCapacity: true)
        return JSONValue.decodeString(quoted, into: &decoded) ? Receipt.read(decoded.span) : nil
    }

    /// Adds all elements of an array of objects to `references`. Each has an id, its own result and its own log.
    private mutating func readResults(_ array: borrowing FieldValue) throws(Problem) {
        try elements.read(array, of: "objects", maximum: API.maximumIDs)
        for index in 0..<elements.count {
            let element = elements.element(index)
            do throws(Problem) {
                let object = array.bytes.extracting(element.value)
                try item.read(object, kind: element.kind)
                var id: FieldPart?
                var result = 0..<0
                var log: Range<Int>?
                var text: [UInt8] = []
                try item.forEach(in: object, known: ["id", "result", "log"]) { (place, value) throws(Problem) in
                    switch place {
                    case 0: id = value.part
                    case 1: result = value.range
                    default:
                        text.removeAll(keepingCapacity: true)
                        try value.decodeString(byteCounts: API.logByteCounts, into: &text)
                        log = value.range
                    }
                }
                guard let id, id.kind == .string, let task = readReference(object.extracting(id.range)) else {
                    throw Problem(.invalidField, API.malformedReference, field: "id")
                }
                let start = array.range.lowerBound + element.value.lowerBound
                references.append(
                    Reference(
                        task: task, written: start + id.range.lowerBound..<start + id.range.upperBound,
                        result: start + result.lowerBound..<start + result.upperBound,
                        log: log.map { start + $0.lowerBound..<start + $0.upperBound }))
            } catch {
                throw error.inside("tasks[\(index)]")
            }
        }
    }

    /// Calls `action` for each of `references`, as one event for waiters, and answers how many succeeded and which are
    /// missing, as the client wrote them.
    ///
    /// `action` returns whether it succeeded, or nil for a task that `uncounted` counts under another name. It is not
    /// called for tasks with which the sender may not concern itself; they are missing.
    func finish(
        _ bytes: Span<UInt8>, _ responses: inout ResponseStream, _ context: borrowing Context, begin: StaticString,
        uncounted: (name: StaticString, count: () -> Int)? = nil, on broker: isolated Broker,
        _ action: (Reference) -> Bool?
    ) {
        let isEvent = references.count > 1
        if isEvent { broker.beginEvent() }
        defer { if isEvent { broker.endEvent(now: context.now) } }
        responses.beginJSON(estimatedCount: 24)
        responses.append(begin)
        var absent: [Range<Int>] = []
        var count = 0
        for reference in references {
            switch context.covers(reference.task.id, on: broker) ? action(reference) : false {
            case true?: count += 1
            case false?: absent.append(reference.written)
            case nil: break
            }
        }
        JSONWriter.writeInteger(Int64(count), to: &responses)
        if let uncounted {
            responses.append(uncounted.name)
            JSONWriter.writeInteger(Int64(uncounted.count()), to: &responses)
        }
        responses.append(",\"missing\":[")
        if absent.count > 1 { absent.sort { $0.lowerBound < $1.lowerBound } }
        for (index, range) in absent.enumerated() {
            if index > 0 { responses.append(",") }
            responses.append(bytes.extracting(range))
        }
        responses.append("]}")
        responses.endLine()
    }
}
