// emq's own HTTP interface: one request in, one call on the broker, one answer out. docs/api.md is its contract.

import Bytes
import JSON
import Journal
import Net
import Queues
import UID

/// Routes requests to the broker.
///
/// A move-only struct: what it reuses from one request to the next belongs to it alone.
struct API: ~Copyable, RequestHandler {
    /// The most names in a wait, and the most tasks a peek shows.
    static let maximumTasksPerAnswer = 1000
    /// The most ids in one acknowledgement.
    static let maximumIDs = 10_000
    /// The most tasks in one enqueue.
    static let maximumBatch = 10_000
    /// The most acknowledgements inside of a wait.
    static let maximumIDsInWait = 100
    static let maximumWaitMilliseconds: Int64 = 3_600_000
    /// The largest body that changes a queue's configuration also when memory is used up, in bytes.
    private static let smallConfigurationBytes = 4096

    let server: HTTPServer
    let shutdown: Shutdown
    /// How much memory tasks and buffers may take before no more tasks are taken in.
    let maximumMemoryBytes: Int
    /// Where changes are kept on disk, if they are.
    let journal: (any Durability)?
    /// What sends tasks; nil if none are to be sent.
    let push: Push?
    /// The legacy systems that it stands in for.
    let adapters: Adapters
    let returned: ReturnedTasks
    /// Under which names browsers may reach the server.
    let browserHosts: BrowserHosts
    /// The defaults for all queues that the server was started with, until they are set.
    var startDefaults: QueueConfiguration?
    var ids = UIDGenerator()
    var random = KernelRandom()
    var now: Int64

    // What the request in hand is about, and what is reused from request to request.
    var body = Members()
    var item = Members()
    var elements = Elements()
    var name: [UInt8] = []
    var query = Query()
    var decoded: [UInt8] = []
    var queues: [QueueIndex] = []
    var taken: [TaskHandle?] = []
    var references: [Reference] = []
    var batch: [NewTask] = []
    var enqueued: [Enqueued] = []

    init(
        server: HTTPServer, shutdown: Shutdown, maximumMemoryBytes: Int, journal: (any Durability)?, push: Push?,
        adapters: Adapters = Adapters(), browserHosts: BrowserHosts = BrowserHosts()
    ) {
        self.journal = journal
        self.push = push
        self.adapters = adapters
        self.browserHosts = browserHosts
        self.server = server
        self.shutdown = shutdown
        self.maximumMemoryBytes = maximumMemoryBytes
        returned = ReturnedTasks(server)
        now = server.loop.now
    }

    /// What the program has of the system's memory; nil if nobody watches it.
    var resident: ResidentMemory?

    // MARK: RequestHandler

    mutating func handle(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) -> Outcome {
        do throws(Problem) {
            if request.isFromBrowser { try checkBrowser(request) }
            if request.service > 0 {
                return try adapt(request, for: adapters.services[request.service - 1], &responses, on: broker)
            }
            return try route(request, &responses, on: broker)
        } catch {
            responses.abandon()
            if error.awaitsSpace { return .postponed }
            write(error, service: request.service, to: &responses)
            // That there is no such task, or that its key is taken, may be so because of something that is not yet safe.
            if [404, 409, 429].contains(error.status) { responses.hold(until: broker.changeSequence) }
            return .answered
        }
    }

    mutating func admits(_ request: borrowing Request, _ responses: inout ResponseStream) -> Bool {
        do throws(Problem) {
            if request.isFromBrowser { try checkBrowser(request) }
            if let journal, !journal.isReady { throw journal.problem }
            if request.service == 0, request.method != .options { _ = try readHead(request, isWhole: false) }
            return true
        } catch {
            write(error, service: request.service, to: &responses)
            return false
        }
    }

    mutating func refuse(_ refusal: Refusal, service: Int, _ responses: inout ResponseStream) {
        write(Problem(refusal.status, refusal.detail), service: service, to: &responses)
    }

    mutating func withdraw(_ withdrawal: AnyObject, _ responses: inout ResponseStream, on broker: isolated Broker) {
        guard let wait = withdrawal as? PendingWait else { preconditionFailure("only waits are withdrawn") }
        broker.cancel(wait.waiter)
        wait.writeNothing(to: &responses, of: broker, now: now)
    }

    mutating func withdraw(_ withdrawal: AnyObject, on broker: isolated Broker) {
        guard let wait = withdrawal as? PendingWait else { preconditionFailure("only waits are withdrawn") }
        broker.cancel(wait.waiter)
    }

    mutating func undelivered(_ keys: [UInt64], on broker: isolated Broker) {
        broker.beginEvent()
        for key in keys { broker.release(DispatchKey(rawValue: key), now: now) }
        broker.endEvent(now: now)
    }

    mutating func bodyObserver() -> BodyObserver? { ArrivingBody() }

    mutating func readsBodyWhenShort(_ request: borrowing Request) -> Bool {
        guard request.service == 0, let verb = try? readPath(request.path, name: &name) else { return false }
        return !verb.keepsBody
    }

    mutating func beginTurn(now: Int64, on broker: isolated Broker) {
        self.now = now
        isBehind = false
        if let journal, !journal.beginTurn(server, on: broker, now: now) {
            isFinished = shutdown.isAsked
            return
        }
        if let defaults = startDefaults, (try? useDefaults(defaults, on: broker)) != nil { startDefaults = nil }
        adapters.beginTurn(on: broker)
        if !returned.isEmpty { undelivered(returned.take().map(\.rawValue), on: broker) }
        if journal?.isBusy(broker) != true { isBehind = !broker.advance(to: now) }
        let used = usedMemoryBytes(of: broker)
        resident?.update(used: used, limit: maximumMemoryBytes, now: now)
        server.refusesLargeBodies = broker.memoryBytes + bufferBytes > maximumMemoryBytes
        broker.isShortOfMemory = server.refusesLargeBodies || resident?.exceeds(maximumMemoryBytes) == true
        push?.beginTurn(journal, isShortOfMemory: server.refusesLargeBodies, on: broker, now: now)
        if shutdown.isAsked { stop(on: broker) }
    }

    mutating func endTurn(on broker: isolated Broker) -> Int64? {
        // The requests of the last turn may have changed something: then it was not the last.
        if isFinished, !shutdown.isForced, let journal, !journal.isSettled(broker) { isFinished = false }
        let pushDeadline =
            adapters.isSendingSafe
            ? push?.endTurn(journal, isStopping: shutdown.isAsked, on: broker, now: now) : nil
        let journalDeadline = journal?.endTurn(server, on: broker, now: now, isLast: isFinished)
        let isWaitingForDisk = journal.map { !$0.isSettled(broker) } ?? false
        if isBehind || !returned.isEmpty || shutdown.isAsked && isDrained(broker) && !isWaitingForDisk { return now }
        // What is due waits while too much waits for the disk.
        let deadline = journal?.isBusy(broker) == true ? nil : broker.nextDeadline
        let isLate = isWaitingForDisk && now >= shutdown.deadline ?? .max
        return [deadline, isLate ? nil : shutdown.deadline, journalDeadline, pushDeadline].compactMap { $0 }.min()
    }

    /// Sets the defaults that the server was started with, in the place of any that it was told in an earlier life.
    private func useDefaults(_ defaults: QueueConfiguration, on broker: isolated Broker) throws(BrokerError) {
        if broker.defaults != defaults { try broker.setDefaults(defaults) }
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
        let isOver = shutdown.isOver(now: now) || isDrained(broker)
        isFinished = shutdown.isForced || isOver && journal?.isSettled(broker) ?? true
        if isFirst, !isFinished {
            shutdown.report(dispatched: broker.counts.dispatched, sent: push?.inFlightCount ?? 0)
        }
    }

    /// Whether nothing is left to wait for: no work in hand, or nobody who could acknowledge it.
    private func isDrained(_ broker: isolated Broker) -> Bool {
        (broker.counts.dispatched == 0 || server.connectionCount == 0) && push?.inFlightCount ?? 0 == 0
            && !server.hasUnsentAnswers
    }

    // MARK: Routing

    private mutating func route(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        if request.method == .options {
            // An absolute target without a path is what a proxy makes of `*` (RFC 9110 section 7.1).
            let isAny = request.path.equals("*") || request.path.isEmpty
            let methods =
                isAny
                ? "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
                : try readPath(request.path, name: &name).allowedMethods
            API.writeOptions(methods, to: &responses)
            return .answered
        }
        let verb = try readHead(request, isWhole: true)
        if let journal {
            if !journal.isReady {
                guard verb == .healthz else { throw journal.problem }
                journal.writeHealth(to: &responses)
                return .answered
            }
        }
        if !verb.namesTasks(hasName: !name.isEmpty) { try admit(verb, request, on: broker) }
        switch verb {
        case .enqueue: try enqueue(request, &responses, on: broker)
        case .wait: return try wait(request, &responses, on: broker)
        case .ack: try acknowledge(request, &responses, on: broker)
        case .nak: try refuseTasks(request, &responses, on: broker)
        case .touch: try touch(request, &responses, on: broker)
        case .task: try answerTask(request, &responses, on: broker)
        case .result:
            if case .owed(let wait) = try answerResult(request, &responses, on: broker) { return .owed(wait) }
        case .key: try answerKey(request, &responses, on: broker)
        case .peek: try peek(&responses, on: broker)
        case .queues: try writeQueueNames(&responses, on: broker)
        case .stats: writeStatistics(&responses, on: broker)
        case .pause, .resume: try pause(verb == .pause, &responses, on: broker)
        case .purge: return try purge(request, on: broker)
        case .kick:
            if case .owed(let sweep) = try kick(request, &responses, on: broker) { return .owed(sweep) }
        case .move: return try move(request, on: broker)
        case .config: try configure(request, &responses, on: broker)
        case .defaults: try setDefaults(request, &responses, on: broker)
        case .healthz: writeHealth(to: &responses)
        }
        switch verb {
        // These tell of nothing that a client would rely on.
        case .healthz, .stats, .queues: break
        // With a full disk, it is better to look at what is not safe than at nothing.
        case .peek, .task, .result, .key, .config, .defaults:
            let isLook = request.method == .get || request.method == .head
            if !isLook || journal?.hasProblem != true { responses.hold(until: broker.changeSequence) }
        default: responses.hold(until: broker.changeSequence)
        }
        return .answered
    }

    /// Lets a request pass that is about one queue or task, or only looks.
    private func admit(_ verb: Verb, _ request: borrowing Request, on broker: isolated Broker) throws(Problem) {
        var cost = verb.cost(request.method)
        // In an emergency, a queue that is there can be paused whatever it has used up.
        let bodyBytes = request.body.count
        var keepsBody = verb.keepsBody
        if verb == .pause, isInUse(name.span, on: broker) { cost.memoryBytes = 0 }
        // Nor does a small change of what it says take more.
        if verb == .config, bodyBytes <= API.smallConfigurationBytes,
            let queue = broker.existingQueue(named: name.span), broker.configuration(of: queue) != nil
        {
            (cost.memoryBytes, keepsBody) = (0, false)
        }
        try admit(cost, keptBytes: keepsBody ? bodyBytes : 0, writtenBytes: keepsBody ? 0 : bodyBytes, on: broker)
    }

    /// Reads all of a request but its body: the route, the name and the query in it, and whether it may be asked for.
    private mutating func readHead(_ request: borrowing Request, isWhole: Bool) throws(Problem) -> Verb {
        if request.method == .connect { throw Problem(501, "this server is no proxy") }
        let verb = try readPath(request.path, name: &name)
        guard verb.allows(request.method) else {
            throw Problem(
                405, "\(text(request.methodName)) does not work here; \(verb.usualMethods)",
                allow: verb.allowedMethods)
        }
        if request.method != .get, request.method != .head {
            if verb.takesBody(request.method, hasName: !name.isEmpty) {
                if isWhole, request.body.isEmpty { throw Problem(400, "the body is empty; a JSON object is wanted") }
                try checkContentType(request)
            } else if !request.body.isEmpty {
                throw Problem(400, "this request has no body: what it says stands in the path and the query")
            }
        }
        if !request.query.isEmpty || !query.isEmpty { query = try readQuery(request.query, known: verb.parameters) }
        return verb
    }

    /// - Throws: 415 for a body that is not said to be JSON, or is compressed.
    private func checkContentType(_ request: borrowing Request) throws(Problem) {
        var contentTypes = 0
        var isJSON = false
        var isEncoded = false
        request.forEachField { name, value in
            switch name.count {
            case 12 where name.equalsIgnoringCase("Content-Type"):
                contentTypes += 1
                isJSON = isType(value, "application/json")
                if request.method == .patch, isType(value, "application/merge-patch+json") { isJSON = true }
            case 16 where name.equalsIgnoringCase("Content-Encoding"):
                if !value.equalsIgnoringCase("identity") { isEncoded = true }
            default: break
            }
        }
        guard contentTypes == 1, isJSON else {
            throw Problem(
                415,
                "the body's type is application/json, and the request says so in one header: "
                    + "-H 'Content-Type: application/json' (curl --json does it for you)")
        }
        if isEncoded { throw Problem(415, "the body comes as it is: this server knows no Content-Encoding") }
    }

    // MARK: Small routes

    private func writeHealth(to responses: inout ResponseStream) {
        responses.begin(status: shutdown.isAsked ? 503 : 200, contentType: "application/json")
        if shutdown.isAsked { responses.field("Retry-After", Problem.retryAfterSeconds) }
        responses.beginBody(estimatedCount: 20)
        responses.append(shutdown.isAsked ? "{\"status\":\"stopping\"}" : "{\"status\":\"ok\"}")
        responses.endLine()
    }

    private static func writeOptions(_ methods: StaticString, to responses: inout ResponseStream) {
        responses.begin(status: 204, contentType: nil)
        responses.field("Allow", methods)
        responses.endWithoutBody()
    }

    static func writeNoContent(to responses: inout ResponseStream) {
        responses.begin(status: 204, contentType: nil)
        responses.endWithoutBody()
    }

    // MARK: Bounds

    /// A bound of the broker that a request has met.
    static func problem(_ error: BrokerError) -> Problem {
        switch error {
        case .tooManyTasks: Problem(503, "the server holds as many tasks as it has room for")
        case .tooManyQueues: Problem(503, "1,000,000 queues are in use: there is no room for another")
        case .outOfMemory:
            Problem(
                503,
                "there is no room for this task's content in the address space that the server may use, which "
                    + "`ulimit -v` or `--address-space` sets where it is limited")
        case .keyTaken:
            Problem(
                409, "this key is taken, by a task of this queue that is unfinished or was to keep it (unique_for)",
                field: "key")
        case .batchTooLong:
            Problem(400, "the array has more new tasks than the queue's configuration ever allows (max_length)")
        case .queueFull: Problem(429, "the queue has as many tasks as its configuration allows (max_length)")
        case .tooManySweeps: Problem(503, "too many purges, kicks and moves are under way; try again")
        }
    }
}

/// Whether a media type is `type`, whatever its parameters.
private func isType(_ value: Span<UInt8>, _ type: StaticString) -> Bool {
    let length = type.utf8CodeUnitCount
    guard value.count >= length, value.extracting(first: length).equalsIgnoringCase(type) else { return false }
    if value.count == length { return true }
    let next = value[length]
    return next == UInt8(ascii: ";") || next == UInt8(ascii: " ") || next == UInt8(ascii: "\t")
}
