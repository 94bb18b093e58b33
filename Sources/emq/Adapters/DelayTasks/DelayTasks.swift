// Replaces delay-tasks, which calls a handler at a given second, with a key and parameters. A category is a queue,
// `delay-tasks/CATEGORY`, and its registered handler the url of that queue's `push`.

import Bytes
import Delivery
import JSON
import Net
import Queues
import UID

/// The interface for clients of delay-tasks.
final class DelayTasks: FrontEnd {
    /// How far in the past a task's time may be, in seconds. A task from the past runs at once.
    private static let toleranceSeconds: Int64 = 60

    func answer(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let segments = Array(copying: request.path).split(
            separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        let names = segments.dropFirst().map { Array($0) }
        switch (names.first.map { String(decoding: $0, as: UTF8.self) }, names.count) {
        case ("health", 1):
            try checkLook(request)
            responses.begin(status: 200, contentType: "text/plain; charset=utf-8")
            responses.beginBody(estimatedCount: 2)
            responses.append("OK")
            responses.end()
        case ("tasks", 1):
            try checkLook(request)
            try writeListing(to: &responses, context, of: broker)
        case ("handler", 2):
            guard request.method == .post else { throw methodProblem("POST") }
            try register(request, try queueName(names[1]), &context, on: broker)
            writeSuccess(to: &responses)
        case ("task", 2):
            switch request.method {
            case .post: try add(request, to: try queueName(names[1]), &context, on: broker)
            case .delete: try remove(request, from: try queueName(names[1]), &context, on: broker)
            default: throw methodProblem("POST, DELETE")
            }
            writeSuccess(to: &responses)
        case ("task", 3):
            try checkLook(request)
            let id = try find(names[2], in: try queueName(names[1]), request.query, now: context.now, on: broker)
            try write(id, to: &responses, context, of: broker)
        default:
            throw Problem(
                404, "unknown path; the paths are /handler/CATE, /task/CATE, /task/CATE/KEY, /tasks and /health")
        }
        return .answered
    }

    func write(_ problem: Problem, to responses: inout ResponseStream) {
        problem.begin("application/json", to: &responses)
        writeCount("{\"code\":", problem.status, to: &responses)
        responses.append(",\"msg\":")
        JSONWriter.write(problem.detail, to: &responses)
        responses.append("}")
        responses.end()
    }

    private func writeSuccess(to responses: inout ResponseStream) {
        responses.beginJSON(estimatedCount: 23)
        responses.append("{\"code\":200,\"msg\":\"OK\"}")
        responses.end()
    }

    // MARK: The path

    private func checkLook(_ request: borrowing Request) throws(Problem) {
        guard request.method == .get || request.method == .head else { throw methodProblem("GET, HEAD") }
    }

    private func methodProblem(_ allow: String) -> Problem {
        Problem(405, "this method is not allowed here; use one of: \(allow)", allow: allow)
    }

    /// The name of a category's queue.
    private func queueName(_ segment: [UInt8]) throws(Problem) -> [UInt8] {
        var category: [UInt8] = []
        PercentEncoding.decode(segment.span, into: &category)
        guard !category.isEmpty else { throw Problem(404, "add a category to the path: /handler/CATE or /task/CATE") }
        let name = LegacySystem.delayTasks.queueName(category)
        if let flaw = QueueName.flaw(in: name.span) {
            throw Problem(
                400, "invalid category, because its queue is '\(LegacySystem.delayTasks.rawValue)/CATE': \(flaw)")
        }
        return name
    }

    /// The `timestamp` in a query; nil if there is none, or it is 0.
    private func timestamp(in query: Span<UInt8>) throws(Problem) -> Int64? {
        let name = "timestamp="
        guard let pair = text(query).split(separator: "&").first(where: { $0.hasPrefix(name) }),
            case let digits = pair.dropFirst(name.utf8.count), !digits.isEmpty
        else { return nil }
        guard let number = Int64(digits) else {
            throw Problem(400, "timestamp must be a whole number of Unix seconds", field: "timestamp")
        }
        return number == 0 ? nil : number
    }

    // MARK: Handlers

    /// `POST /handler/CATE`
    private func register(
        _ request: borrowing Request, _ queueName: [UInt8], _ context: inout Context, on broker: isolated Broker
    ) throws(Problem) {
        var handler: [UInt8] = []
        try context.body.read(request)
        try context.body.forEach(in: request.body, known: ["handler"], isLenient: true) { (_, value) throws(Problem) in
            handler = try readHandler(value)
        }
        guard !handler.isEmpty else { throw Problem(400, "handler is missing; send an http:// URL", field: "handler") }
        let url = try context.readURL(handler, field: "handler")
        do throws(BrokerError) {
            let queue = try broker.queue(named: queueName.span)
            var configuration = broker.configuration(of: queue) ?? QueueConfiguration()
            var push = PushOptions(stored: configuration.push, of: .queue)
            push.url = url
            configuration.push = []
            push.write(isMasked: false, to: &configuration.push)
            configuration.isPushed = true
            try broker.configure(queue, configuration)
        } catch {
            throw Problem(error)
        }
    }

    /// Reads a handler's URL; empty if it is blank.
    private func readHandler(_ value: borrowing FieldValue) throws(Problem) -> [UInt8] {
        if value.isBlank { return [] }
        let handler = try value.string(maximumBytes: HTTPURL.maximumLength)
        return handler.allSatisfy { $0 == UInt8(ascii: " ") } ? [] : handler
    }

    // MARK: Tasks

    /// `POST /task/CATE`
    private func add(
        _ request: borrowing Request, to queueName: [UInt8], _ context: inout Context, on broker: isolated Broker
    ) throws(Problem) {
        var timestamp: Int64?
        var key: UInt64?
        var params: Range<Int>?
        var handler: [UInt8] = []
        let bytes = request.body
        let latest = (context.now + maximumMilliseconds) / 1000
        try context.body.read(request)
        try context.body.forEach(
            in: bytes, known: ["timestamp", "key", "params", "handler"], isLenient: true
        ) { (place, value) throws(Problem) in
            switch place {
            case 0: timestamp = try value.integer(0...latest)
            case 1: key = try readKey(value)
            case 2: params = value.range
            default: handler = try readHandler(value)
            }
        }
        let task = try DelayTask(timestamp: timestamp, key: key)
        guard task.timestamp >= context.now / 1000 - Self.toleranceSeconds else {
            throw Problem(
                400,
                "timestamp must be at most \(Self.toleranceSeconds) s before now, \(context.now / 1000), not "
                    + "\(task.timestamp)",
                field: "timestamp")
        }
        let options = task.options
        if !handler.isEmpty {
            options.request = PushOptions.request(
                to: try context.readURL(handler, field: "handler"),
                timeoutMilliseconds: DelayTasksCourier.timeoutMilliseconds)
        }
        let null = Array("null".utf8)
        let added = NewTask(
            id: context.makeID(), content: params ?? 0..<null.count, due: task.timestamp * 1000, expiry: .never,
            options: options)
        try context.add(added, content: params == nil ? null.span : bytes, to: queueName, on: broker)
    }

    /// `DELETE /task/CATE`
    private func remove(
        _ request: borrowing Request, from queueName: [UInt8], _ context: inout Context, on broker: isolated Broker
    ) throws(Problem) {
        var timestamp: Int64?
        var key: UInt64?
        var isToRun = false
        try context.body.read(request)
        try context.body.forEach(
            in: request.body, known: ["timestamp", "key", "exec"], isLenient: true
        ) { (place, value) throws(Problem) in
            switch place {
            case 0: timestamp = try value.integer(0...Int64.max)
            case 1: key = try readKey(value)
            default: isToRun = try value.boolean()
            }
        }
        let task = try DelayTask(timestamp: timestamp, key: key)
        guard let queue = broker.existingQueue(named: queueName.span),
            let id = broker.task(withKey: task.queueKey, in: queue, now: context.now)
        else { return }
        if isToRun { try runInAdvance(id, of: queueName, &context, on: broker) }
        _ = broker.cancelTask(id, now: context.now)
    }

    /// Adds a task that does at once what another task would do at its time. It has no key, so clients cannot find it.
    private func runInAdvance(
        _ id: UID, of queueName: [UInt8], _ context: inout Context, on broker: isolated Broker
    ) throws(Problem) {
        var content: [UInt8] = []
        var options: TaskOptions?
        withLatest(id, now: context.now, on: broker) { task in
            options = DelayTask(task)?.inAdvance.options
            options?.request = task.request
            content = Array(copying: task.content)
        }
        guard let options else { return }
        try context.gate.admit(
            .grows(Cost.queueBytes), keptBytes: content.count + options.request.count, on: broker)
        let task = NewTask(id: context.makeID(), content: 0..<content.count, expiry: .never, options: options)
        try context.add(task, content: content.span, to: queueName, isLimited: false, on: broker)
    }

    private func readKey(_ value: borrowing FieldValue) throws(Problem) -> UInt64 {
        guard value.kind == .number, let key = try? JSONValue.unsigned(value.bytes), key > 0 else {
            throw value.flaw("a whole number from 1 to \(UInt64.max)")
        }
        return key
    }

    // MARK: Looking

    /// The task that `GET /task/CATE/KEY` names: the one of the given minute, or the earliest.
    private func find(
        _ segment: [UInt8], in queueName: [UInt8], _ query: Span<UInt8>, now: Int64, on broker: isolated Broker
    ) throws(Problem) -> UID {
        var digits: [UInt8] = []
        PercentEncoding.decode(segment.span, into: &digits)
        guard let key = UInt64(decimal: digits), key > 0 else {
            throw Problem(400, "key must be a whole number from 1 to \(UInt64.max)", field: "key")
        }
        let timestamp = try timestamp(in: query)
        guard let queue = broker.existingQueue(named: queueName.span) else { throw Self.noTask }
        var found: UID?
        if let timestamp {
            let queueKey = DelayTask(timestamp: timestamp, key: key).queueKey
            found = broker.task(withKey: queueKey, in: queue, now: now)
        } else {
            var earliest = Int64.max
            broker.forEachTask(inKeyGroup: Array("\(key)".utf8), of: queue, now: now) { task in
                guard let minute = DelayTask.minute(ofQueueKey: task.key), minute < earliest else { return }
                earliest = minute
                found = task.id
            }
        }
        guard let found else { throw Self.noTask }
        return found
    }

    private func write(
        _ id: UID, to responses: inout ResponseStream, _ context: borrowing Context, of broker: isolated Broker
    ) throws(Problem) {
        var isWritten = false
        withLatest(id, now: context.now, on: broker) { task in
            guard let timestamp = DelayTask(task)?.timestamp, let queue = broker.existingQueue(named: task.queueName)
            else { return }
            let registered = PushOptions(stored: broker.push(of: queue), of: .queue).url
            let handler = PushOptions(stored: task.request, of: .task).url ?? registered
            responses.beginJSON(estimatedCount: 100 + task.content.count)
            responses.append("{\"code\":200,\"msg\":\"OK\",")
            writeCount("\"result\":{\"timeToRun\":", timestamp, to: &responses)
            responses.append(",\"params\":")
            responses.append(task.content)
            responses.append(",\"handler\":")
            JSONWriter.write(handler?.description ?? "", to: &responses)
            responses.append("}}")
            isWritten = true
        }
        guard isWritten else { throw Self.noTask }
        try context.gate.admitAnswer(responses)
        responses.end()
    }

    /// Calls `body` with the latest version of a task. While a task runs, its replacement is the latest version.
    private func withLatest(_ id: UID, now: Int64, on broker: isolated Broker, _ body: (borrowing TaskView) -> Void) {
        if broker.withReplacement(of: id, now: now, body) == nil { broker.withTask(id: id, now: now, body) }
    }

    private static let noTask = Problem(404, "there is no such task, or it no longer exists")
}
