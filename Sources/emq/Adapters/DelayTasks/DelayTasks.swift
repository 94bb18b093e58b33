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

    /// How many attempts a task has.
    private let attempts: Int

    init(attempts: Int = DelayTasksFile.usualAttempts) { self.attempts = attempts }

    func answer(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let names = names(in: request)
        switch (String(decoding: names[0], as: UTF8.self), names.count) {
        case ("health", 1):
            try checkLook(request)
            responses.begin(status: 200, contentType: "text/plain;charset=UTF-8")
            responses.beginBody(estimatedCount: 3)
            responses.append("OK")
            responses.endLine()
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
            guard !names[1].isEmpty else { throw Problem(.invalidName, "add a category to the path: /task/CATE/KEY") }
            let id = try find(names[2], in: try queueName(names[1]), request.query, now: context.now, on: broker)
            try write(id, to: &responses, context, of: broker)
        default:
            throw Problem(
                .noSuchPath, "unknown path; the paths are /handler/CATE, /task/CATE, /task/CATE/KEY, /tasks and /health"
            )
        }
        return .answered
    }

    func write(_ problem: Problem, to responses: inout ResponseStream) {
        problem.begin(Self.contentType, to: &responses)
        writeCount("{\"code\":", problem.status, to: &responses)
        responses.append(",\"msg\":")
        JSONWriter.write(problem.detail, to: &responses)
        responses.append("}")
        responses.endLine()
    }

    private func writeSuccess(to responses: inout ResponseStream) {
        begin(estimatedCount: 24, &responses)
        responses.append("{\"code\":200,\"msg\":\"OK\"}")
        responses.endLine()
    }

    private func begin(estimatedCount: Int, _ responses: inout ResponseStream) {
        responses.begin(status: 200, contentType: Self.contentType)
        responses.beginBody(estimatedCount: estimatedCount)
    }

    private static let contentType: StaticString = "application/json;charset=UTF-8"

    // MARK: The path

    private func checkLook(_ request: borrowing Request) throws(Problem) {
        guard request.method == .get || request.method == .head else { throw methodProblem("GET, HEAD") }
    }

    private func methodProblem(_ allow: String) -> Problem {
        Problem(.methodNotAllowed, "this method is not allowed here; use one of: \(allow)", allow: allow)
    }

    /// The names between the slashes of the path, at least one. A slash at its end counts only if an empty category
    /// follows it, as in `/task/`.
    private func names(in request: borrowing Request) -> [[UInt8]] {
        let segments = Array(copying: request.path).split(
            separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        var names = segments.dropFirst().map { Array($0) }
        let first = names.first.map { String(decoding: $0, as: UTF8.self) } ?? ""
        let fullCount = first == "task" || first == "handler" ? 2 : 1
        while names.count > fullCount, names[names.count - 1].isEmpty { names.removeLast() }
        return names.isEmpty ? [[]] : names
    }

    /// Decodes a name in a path or a value in a query. A plus stands for a blank, as in forms.
    private func decoded(_ encoded: [UInt8]) -> [UInt8] {
        let withBlanks = encoded.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: " ") : $0 }
        var decoded: [UInt8] = []
        PercentEncoding.decode(withBlanks.span, into: &decoded)
        return decoded
    }

    /// The name of a category's queue.
    private func queueName(_ segment: [UInt8]) throws(Problem) -> [UInt8] {
        let name = LegacySystem.delayTasks.queueName(decoded(segment))
        if let flaw = QueueName.flaw(in: name.span) {
            throw Problem(
                .invalidName,
                "invalid category, because its queue is '\(LegacySystem.delayTasks.rawValue)/CATE': \(flaw)")
        }
        return name
    }

    /// The `timestamp` in a query; nil if there is none, or it is not over 0.
    private func timestamp(in query: Span<UInt8>) throws(Problem) -> Int64? {
        let name = "timestamp="
        guard let pair = text(query).split(separator: "&").first(where: { $0.hasPrefix(name) }),
            case let digits = decoded(Array(pair.utf8.dropFirst(name.utf8.count))), !digits.isEmpty
        else { return nil }
        guard let number = Int64(String(decoding: digits, as: UTF8.self)) else {
            throw Problem(.invalidField, "timestamp must be a whole number of Unix seconds", field: "timestamp")
        }
        return number > 0 ? number : nil
    }

    // MARK: Handlers

    /// `POST /handler/CATE`
    private func register(
        _ request: borrowing Request, _ queueName: [UInt8], _ context: inout Context, on broker: isolated Broker
    ) throws(Problem) {
        var handler: [UInt8] = []
        try context.body.read(request, passesOverRest: true)
        try context.body.forEach(in: request.body, known: ["handler"], isLenient: true) { (_, value) throws(Problem) in
            handler = try readHandler(value)
        }
        guard !handler.isEmpty else { throw Problem(.missingField, "handler is missing; send a URL", field: "handler") }
        let url = try context.readURL(handler, field: "handler")
        do throws(BrokerError) { _ = try Self.register(url, of: queueName, on: broker) } catch {
            throw Problem(error)
        }
    }

    /// Makes a URL the handler of the category with a queue. Returns false if the category has a handler that it must
    /// not replace.
    static func register(
        _ url: HTTPURL, of queueName: [UInt8], replaces: Bool = true, on broker: isolated Broker
    ) throws(BrokerError) -> Bool {
        let queue = try broker.queue(named: queueName.span)
        var configuration = broker.configuration(of: queue) ?? QueueConfiguration()
        var push = PushOptions(stored: configuration.push, of: .queue)
        if push.url != nil, !replaces { return false }
        push.url = url
        configuration.push = []
        push.write(isMasked: false, to: &configuration.push)
        configuration.isPushed = true
        try broker.configure(queue, configuration)
        return true
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
        try context.body.read(request, passesOverRest: true)
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
                .invalidField,
                "timestamp must be at most \(Self.toleranceSeconds) s before now, \(context.now / 1000), not "
                    + "\(task.timestamp)",
                field: "timestamp")
        }
        let options = task.options(attempts: attempts)
        if !handler.isEmpty {
            options.request = PushOptions.request(to: try context.readURL(handler, field: "handler"))
        }
        let added = NewTask(
            id: context.makeID(), content: params ?? 0..<0, due: task.timestamp * 1000, expiry: .never,
            options: options)
        try context.add(added, content: bytes, to: queueName, on: broker)
    }

    /// `DELETE /task/CATE`
    private func remove(
        _ request: borrowing Request, from queueName: [UInt8], _ context: inout Context, on broker: isolated Broker
    ) throws(Problem) {
        var timestamp: Int64?
        var key: UInt64?
        var isToRun = false
        try context.body.read(request, passesOverRest: true)
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
            options = DelayTask(task)?.inAdvance.options(attempts: attempts)
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
        guard let key = UInt64(decimal: decoded(segment)) else {
            throw Problem(.invalidField, "key must be a whole number from 1 to \(UInt64.max)", field: "key")
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
            begin(estimatedCount: 100 + task.content.count, &responses)
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
        responses.endLine()
    }

    /// Calls `body` with the latest version of a task. While a task runs, its replacement is the latest version.
    private func withLatest(_ id: UID, now: Int64, on broker: isolated Broker, _ body: (borrowing TaskView) -> Void) {
        if broker.withReplacement(of: id, now: now, body) == nil { broker.withTask(id: id, now: now, body) }
    }

    private static let noTask = Problem(.noSuchTask, "there is no such task, or it no longer exists")
}
