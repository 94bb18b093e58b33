// emq's own HTTP interface: one request in, one call on the broker, one answer out. docs/api.md is its contract.

import JSON
import Net
import Queues
import UID

/// Routes requests to the broker.
///
/// A move-only struct: what it reuses from one request to the next belongs to it alone.
struct API: ~Copyable, RequestHandler {
    /// The most names in a wait, and the most tasks a peek shows.
    private static let maximumTasksPerAnswer = 1000
    /// The most ids in one acknowledgement.
    private static let maximumIDs = 10_000
    private static let defaultLeaseMilliseconds: Int64 = 300_000
    private static let defaultExpiryMilliseconds: Int64 = 86_400_000
    /// A hundred years: as good as for ever, and far from any overflow.
    private static let maximumMilliseconds: Int64 = 100 * 365 * 86_400_000
    private static let maximumWaitMilliseconds: Int64 = 3_600_000

    private let server: HTTPServer
    private let shutdown: Shutdown
    private var ids = UIDGenerator()
    private var random = KernelRandom()
    private var now: Int64

    // Reused from request to request.
    private var body = Body()
    private var strings = StringArray()
    private var name: [UInt8] = []
    private var decoded: [UInt8] = []
    private var queues: [QueueIndex] = []
    private var taken: [TaskHandle?] = []
    private var references: [(task: TaskReference, text: Range<Int>)] = []

    init(server: HTTPServer, shutdown: Shutdown) {
        self.server = server
        self.shutdown = shutdown
        now = server.loop.now
    }

    // MARK: RequestHandler

    mutating func handle(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) -> Outcome {
        do throws(Problem) {
            return try route(request, &responses, on: broker)
        } catch {
            responses.abandon()
            error.write(to: &responses)
            return .answered
        }
    }

    mutating func admits(_ request: borrowing Request, _ responses: inout ResponseStream) -> Bool {
        do throws(Problem) {
            _ = try readHead(request, isWhole: false)
            return true
        } catch {
            error.write(to: &responses)
            return false
        }
    }

    mutating func refuse(_ refusal: Refusal, _ responses: inout ResponseStream) {
        Problem(refusal.status, refusal.detail).write(to: &responses)
    }

    mutating func withdraw(_ withdrawal: AnyObject, _ responses: inout ResponseStream, on broker: isolated Broker) {
        guard let waiter = withdrawal as? Waiter else { preconditionFailure("only waits are owed") }
        broker.cancel(waiter)
        API.write([TaskHandle?](repeating: nil, count: waiter.count), of: broker, to: &responses)
    }

    mutating func withdraw(_ withdrawal: AnyObject, on broker: isolated Broker) {
        guard let waiter = withdrawal as? Waiter else { preconditionFailure("only waits are owed") }
        broker.cancel(waiter)
    }

    mutating func undelivered(_ key: UInt64, on broker: isolated Broker) {
        broker.release(DispatchKey(rawValue: key), now: now)
    }

    mutating func bodyObserver() -> BodyObserver? { ArrivingBody() }

    mutating func beginTurn(now: Int64, on broker: isolated Broker) {
        self.now = now
        isBehind = !broker.advance(to: now)
        if shutdown.isAsked { stop(on: broker) }
    }

    func nextTurn(on broker: isolated Broker) -> Int64? {
        if isBehind || shutdown.isAsked && isDrained(broker) { return now }
        return [broker.nextDeadline, shutdown.deadline].compactMap { $0 }.min()
    }

    private var isBehind = false
    private(set) var isFinished = false

    // MARK: Stopping

    /// A signal asked to stop: takes no connections, answers who waits, and serves acknowledgements for a while.
    private mutating func stop(on broker: isolated Broker) {
        let isFirst = shutdown.deadline == nil
        if isFirst {
            shutdown.begin(now: now)
            server.stopListening()
            broker.completeAllWaiters(now: now)
        }
        isFinished = shutdown.isOver(now: now) || isDrained(broker)
        if isFirst, !isFinished { shutdown.report(dispatched: broker.counts.dispatched) }
    }

    /// Whether nothing is left to wait for: no work in hand, or nobody who could acknowledge it.
    private func isDrained(_ broker: isolated Broker) -> Bool {
        (broker.counts.dispatched == 0 || server.connectionCount == 0) && !server.hasUnsentAnswers
    }

    // MARK: Routing

    private mutating func route(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        if request.method == .connect { throw Problem(501, "this server is no proxy") }
        // An absolute target without a path is what a proxy makes of `*` (RFC 9110 section 7.1).
        if request.method == .options, request.path.equals("*") || request.path.isEmpty {
            API.writeOptions("GET, HEAD, POST, OPTIONS", to: &responses)
            return .answered
        }
        if request.method == .options {
            let verb = try readPath(request.path, name: &name)
            API.writeOptions(verb.allowedMethods, to: &responses)
            return .answered
        }
        let verb = try readHead(request, isWhole: true)
        switch verb {
        case .enqueue: try enqueue(request, &responses, on: broker)
        case .wait: return try wait(request, &responses, on: broker)
        case .ack: try acknowledge(request, &responses, on: broker)
        case .nak: try refuseTasks(request, &responses, on: broker)
        case .peek: try peek(request, &responses, on: broker)
        case .queues: API.writeQueueNames(of: broker, to: &responses)
        case .healthz: writeHealth(to: &responses)
        }
        return .answered
    }

    /// Reads all of a request but its body: the route, the queue's name into `name`, and whether it may be asked for.
    private mutating func readHead(_ request: borrowing Request, isWhole: Bool) throws(Problem) -> Verb {
        let verb = try readPath(request.path, name: &name)
        guard verb.allows(request.method) else {
            throw Problem(
                405, "\(text(request.methodName)) does not work here; \(verb.usualMethod) does",
                allow: verb.allowedMethods)
        }
        if request.method == .post {
            if isWhole, request.body.isEmpty { throw Problem(400, "the body is empty; a JSON object is wanted") }
            try checkFields(request)
        }
        if verb != .peek { _ = try readQuery(request.query, known: []) }
        return verb
    }

    /// Checks the header of a request that changes something.
    ///
    /// - Throws: 403 for one that a web page of another site sends behind its reader's back, as the browser says; 415 for
    ///   a body that is not said to be JSON, or is compressed.
    private func checkFields(_ request: borrowing Request) throws(Problem) {
        var foreign: StaticString?
        var contentTypes = 0
        var isJSON = false
        var isEncoded = false
        let host = request.authority
        request.forEachField { name, value in
            switch name.count {
            case 6 where name.equalsIgnoringCase("Origin"):
                if !isSameHost(origin: value, host: host) { foreign = "its Origin is not the Host of the request" }
            case 12 where name.equalsIgnoringCase("Content-Type"):
                contentTypes += 1
                isJSON = isJSONType(value)
            case 14 where name.equalsIgnoringCase("Sec-Fetch-Site"):
                if value.equals("cross-site") { foreign = "its Sec-Fetch-Site is cross-site" }
            case 16 where name.equalsIgnoringCase("Content-Encoding"):
                if !value.equalsIgnoringCase("identity") { isEncoded = true }
            default: break
            }
        }
        if let foreign { throw Problem(403, "a web page of another site may not do this: \(foreign)") }
        guard contentTypes == 1, isJSON else {
            throw Problem(
                415,
                "the body's type is application/json, and the request says so in one header: "
                    + "-H 'Content-Type: application/json' (curl --json does it for you)")
        }
        if isEncoded { throw Problem(415, "the body comes as it is: this server knows no Content-Encoding") }
    }

    // MARK: The routes

    private mutating func enqueue(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) {
        if shutdown.isAsked { throw Problem(503, "the server is stopping and takes no more tasks") }
        try body.read(request)
        let bytes = request.body
        var content: Range<Int>?
        var lease = API.defaultLeaseMilliseconds
        var expiry = API.defaultExpiryMilliseconds
        try body.forEachMember(of: request, known: ["content", "retry", "expiry"], nullable: 0b001) {
            (place, entry) throws(Problem) in
            switch place {
            case 0: content = entry.value
            case 1: lease = try API.readLength(bytes, entry, "retry")
            default: expiry = try API.readLength(bytes, entry, "expiry")
            }
        }
        guard let content else {
            throw Problem(400, "a task has a content: {\"content\": anything}", field: "content")
        }
        let id = ids.next(unixMilliseconds: UInt64(now), using: &random)
        do throws(BrokerError) {
            let queue = try broker.queue(named: name.span)
            try broker.enqueue(
                id: id, in: queue, content: bytes.extracting(content), leaseMilliseconds: lease, expires: now + expiry,
                now: now)
        } catch {
            throw API.problem(error)
        }
        responses.beginJSON(estimatedCount: 31)
        responses.append("{\"id\":\"")
        let idText = id.text
        responses.append(idText.span)
        responses.append("\"}")
        responses.end()
    }

    /// A bound of the broker that a request has met.
    private static func problem(_ error: BrokerError) -> Problem {
        switch error {
        case .tooManyTasks: Problem(503, "the server holds as many tasks as it has room for")
        case .tooManyQueues: Problem(503, "1,000,000 queues hold tasks or are waited for: there is no room for another")
        case .outOfMemory: Problem(503, "the system has no memory for this task's content")
        }
    }

    private static func readLength(
        _ body: Span<UInt8>, _ entry: JSONScanner.Entry, _ field: StaticString
    ) throws(Problem) -> Int64 {
        try readDuration(
            body.extracting(entry.value), kind: entry.kind, field: field, range: 1...maximumMilliseconds)
    }

    private mutating func wait(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        if shutdown.isAsked { throw Problem(503, "the server is stopping and gives out no more tasks") }
        try body.read(request)
        let timeout = try readWait(request, on: broker)
        if broker.take(queues, now: now, into: &taken) {
            API.write(taken, of: broker, to: &responses)
        } else if timeout == 0 {
            broker.takeAvailable(queues, now: now, into: &taken)
            API.write(taken, of: broker, to: &responses)
        } else {
            let ticket = request.ticket
            let server = server
            return .owed(
                broker.wait(queues, deadline: now + timeout, now: now) { tasks in
                    server.answer(ticket) { responses in API.write(tasks, of: broker, to: &responses) }
                })
        }
        return .answered
    }

    /// Reads the body of a wait: `queues` receives a queue for each name.
    ///
    /// - Returns: The timeout in milliseconds.
    private mutating func readWait(
        _ request: borrowing Request, on broker: isolated Broker
    ) throws(Problem) -> Int64 {
        let bytes = request.body
        var names: JSONScanner.Entry?
        var timeout: Int64 = 0
        try body.forEachMember(of: request, known: ["queues", "timeout"]) { (place, entry) throws(Problem) in
            if place == 0 {
                names = entry
            } else {
                timeout = try API.readTimeout(bytes.extracting(entry.value), kind: entry.kind)
            }
        }
        guard let names else {
            throw Problem(400, "a wait names its queues: {\"queues\": [\"name\"]}", field: "queues")
        }
        let array = bytes.extracting(names.value)
        try strings.read(array, kind: names.kind, field: "queues", maximum: API.maximumTasksPerAnswer)
        queues.removeAll(keepingCapacity: true)
        for index in 0..<strings.count {
            decoded.removeAll(keepingCapacity: true)
            let isText = JSONValue.decodeString(array.extracting(try strings.element(index)), into: &decoded)
            if let flaw = isText ? flawOfQueueName(decoded.span) : "a queue's name is UTF-8, this one is not" {
                throw strings.flaw(index, flaw)
            }
            do throws(BrokerError) {
                queues.append(try broker.queue(named: decoded.span))
            } catch {
                throw API.problem(error)
            }
        }
        if queues.isEmpty { throw Problem(400, "queues names at least one queue", field: "queues") }
        return timeout
    }

    private static func readTimeout(_ bytes: Span<UInt8>, kind: JSONKind) throws(Problem) -> Int64 {
        if kind == .number {
            do throws(JSONNumberError) {
                let timeout = try JSONValue.integer(bytes)
                if timeout >= 0 { return min(timeout, maximumWaitMilliseconds) }
            } catch {
                if error == .outOfRange, bytes[0] != UInt8(ascii: "-") { return maximumWaitMilliseconds }
            }
        }
        throw Problem(
            400,
            "timeout is a whole number of milliseconds, 0 or more, not \(text(bytes.extracting(first: shownBytes)))",
            field: "timeout")
    }

    private mutating func acknowledge(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) {
        let ids = try readReferences(request)
        finish(request.body.extracting(ids), "{\"acked\":", ",\"missing\":[", &responses) { reference in
            broker.ack(reference, now: now)
        }
    }

    private mutating func refuseTasks(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) {
        let ids = try readReferences(request)
        finish(request.body.extracting(ids), "{\"requeued\":", ",\"dead\":0,\"missing\":[", &responses) { reference in
            broker.nak(reference, now: now)
        }
    }

    /// Reads `{"ids": […]}` into `references`: all of them, before any is acted on.
    ///
    /// - Returns: Where the array stands in the body; the references' texts are relative to it.
    private mutating func readReferences(_ request: borrowing Request) throws(Problem) -> Range<Int> {
        try body.read(request)
        let bytes = request.body
        var ids: JSONScanner.Entry?
        try body.forEachMember(of: request, known: ["ids"]) { (_, entry) throws(Problem) in ids = entry }
        guard let ids else {
            throw Problem(400, "the ids or receipts of the tasks are named: {\"ids\": [\"…\"]}", field: "ids")
        }
        references.removeAll(keepingCapacity: true)
        let array = bytes.extracting(ids.value)
        try strings.read(array, kind: ids.kind, field: "ids", maximum: API.maximumIDs)
        for index in 0..<strings.count {
            let range = try strings.element(index)
            decoded.removeAll(keepingCapacity: true)
            guard JSONValue.decodeString(array.extracting(range), into: &decoded), let task = Receipt.read(decoded.span)
            else {
                throw strings.flaw(index, "an id has 22 or 36 characters, a receipt is ID@TOKEN; this is neither")
            }
            references.append((task, range))
        }
        return ids.value
    }

    /// Acts on each of `references`, and answers how many it worked for and which are missing, as they were written.
    private func finish(
        _ ids: Span<UInt8>, _ counted: StaticString, _ missing: StaticString, _ responses: inout ResponseStream,
        _ action: (TaskReference) -> Bool
    ) {
        responses.beginJSON(estimatedCount: 24)
        responses.append(counted)
        var absent: [Range<Int>] = []
        var count = 0
        for reference in references {
            if action(reference.task) { count += 1 } else { absent.append(reference.text) }
        }
        JSONWriter.writeInteger(Int64(count), to: &responses)
        responses.append(missing)
        for (index, range) in absent.enumerated() {
            if index > 0 { responses.append(",") }
            responses.append(ids.extracting(range))
        }
        responses.append("]}")
        responses.end()
    }

    private func peek(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) {
        var limit = 1
        if let n = try readQuery(request.query, known: ["n"])["n"] {
            guard n.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let number = Int(n),
                (1...API.maximumTasksPerAnswer).contains(number)
            else {
                throw Problem(
                    400, "n is a whole number from 1 to \(API.maximumTasksPerAnswer), not '\(n)'", field: "n")
            }
            limit = number
        }
        if server.isShortOfMemory {
            throw Problem(503, "too many answers wait for clients that do not read them; try again")
        }
        responses.beginJSON(estimatedCount: 200)
        responses.append("[")
        if let queue = broker.existingQueue(named: name.span) {
            var isFirst = true
            broker.peek(queue, limit: limit, now: now) { task in
                if !isFirst { responses.append(",") }
                isFirst = false
                TaskWriter.writeShown(task, to: &responses)
            }
        }
        responses.append("]")
        responses.end()
    }

    private static func writeQueueNames(of broker: isolated Broker, to responses: inout ResponseStream) {
        responses.beginJSON(estimatedCount: 100)
        responses.append("[")
        var isFirst = true
        broker.forEachQueueName { name in
            if !isFirst { responses.append(",") }
            isFirst = false
            JSONWriter.writeString(name, to: &responses)
        }
        responses.append("]")
        responses.end()
    }

    /// Writes the answer to a wait: a task or null for each of its names.
    private static func write(_ tasks: [TaskHandle?], of broker: isolated Broker, to responses: inout ResponseStream) {
        responses.beginJSON(estimatedCount: 250)
        responses.append("[")
        for (index, handle) in tasks.enumerated() {
            if index > 0 { responses.append(",") }
            guard let handle else {
                responses.append("null")
                continue
            }
            broker.withTask(handle) { task in
                TaskWriter.writeDispatched(task, to: &responses)
                // If the answer does not reach the worker, the task goes back at once and not when its lease is over.
                responses.track(task.dispatchKey.rawValue)
            }
        }
        responses.append("]")
        responses.end()
    }

    private func writeHealth(to responses: inout ResponseStream) {
        responses.begin(status: shutdown.isAsked ? 503 : 200, contentType: "application/json")
        if shutdown.isAsked { responses.field("Retry-After", Problem.retryAfterSeconds) }
        responses.beginBody(estimatedCount: 20)
        responses.append(shutdown.isAsked ? "{\"status\":\"stopping\"}" : "{\"status\":\"ok\"}")
        responses.end()
    }

    private static func writeOptions(_ methods: StaticString, to responses: inout ResponseStream) {
        responses.begin(status: 204, contentType: nil)
        responses.field("Allow", methods)
        responses.endWithoutBody()
    }
}

/// Whether an Origin (RFC 6454 section 7), without its scheme, is the host and port that a request was sent to.
private func isSameHost(origin: Span<UInt8>, host: Span<UInt8>) -> Bool {
    var start = 0
    while start + 2 < origin.count {
        if origin[start] == UInt8(ascii: ":"), origin[start + 1] == UInt8(ascii: "/"),
            origin[start + 2] == UInt8(ascii: "/")
        {
            return origin.extracting(start + 3..<origin.count).equalsIgnoringCase(host)
        }
        start += 1
    }
    return false
}

/// Whether a media type is `application/json`, whatever its parameters.
private func isJSONType(_ value: Span<UInt8>) -> Bool {
    let type: StaticString = "application/json"
    let length = type.utf8CodeUnitCount
    guard value.count >= length, value.extracting(first: length).equalsIgnoringCase(type) else { return false }
    if value.count == length { return true }
    let next = value[length]
    return next == UInt8(ascii: ";") || next == UInt8(ascii: " ") || next == UInt8(ascii: "\t")
}
