// emq's own HTTP interface: one request in, one call on the broker, one answer out. docs/api.md is its contract.

import Bytes
import JSON
import Net
import Queues

/// Finds the route of a request, checks everything but its body, and calls its handler.
///
/// It is a move-only struct that keeps the memory that handlers reuse from one request to the next, so that a usual
/// request allocates nothing. Handlers are static functions in the files `API+….swift`; the table of routes
/// (`Route.all`) names them.
struct API: ~Copyable {
    /// The most names in a wait, and the most tasks that a peek shows.
    static let maximumTasksPerAnswer = 1000
    /// The most ids in one acknowledgement.
    static let maximumIDs = 10_000
    /// The most acknowledgements in a wait.
    static let maximumIDsInWait = 100
    static let maximumWaitMilliseconds: Int64 = 3_600_000

    private let pin = Pin()

    // Parts of the current request.

    /// The label by which the metrics count it.
    var label: UInt8 = 0

    /// The queue's name or the task's id in the path, percent-decoded; empty if there is none.
    var name: [UInt8] = []
    var query = Query()
    /// What the request may cost for each task that it names, as its route says.
    var cost = Cost.reads
    var queues: [QueueIndex] = []
    var references: [Reference] = []

    // Memory that handlers reuse.

    private var knownHeads = KnownHeads()
    var item = Members()
    var elements = Elements()
    var decoded: [UInt8] = []
    var taken: [TaskHandle?] = []
    var batch: [NewTask] = []
    var enqueued: [Enqueued] = []

    // MARK: Requests

    /// Answers a request, or promises an answer for later.
    ///
    /// - Throws: `Problem` if the request fails. It has changed nothing then.
    mutating func answer(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        if request.method == .options { return try answerOptions(request, &responses) }
        // What is needed of the operation is read from it each time: to keep it in a variable would retain it.
        let head = try readHead(of: request, by: context.caller, isWhole: true)
        let durability = context.gate.durability
        if let durability, !head.operation.isOpenDuringRecovery, !durability.isReady { throw durability.problem }
        cost = head.operation.cost
        if head.operation.admission == .once {
            let bodyBytes = request.body.count
            let keepsBody = head.operation.body == .kept
            try context.gate.admit(
                cost, keptBytes: keepsBody ? bodyBytes : 0, writtenBytes: keepsBody ? 0 : bodyBytes, on: broker)
        }
        if head.operation.isAudited {
            context.audit = AuditRecord(request, by: context.caller, route: head.route, name: name)
            context.auditedTaskCount = nil
        }
        let outcome = try head.operation.handler(&self, request, &responses, &context, broker)
        if head.operation.isAudited { endAudit(&context) }
        if case .answered = outcome {
            switch head.operation.hold {
            case .untilSafe: responses.hold(until: broker.changeSequence)
            case .untilSafeUnlessDiskFails:
                if durability?.hasProblem != true { responses.hold(until: broker.changeSequence) }
            case .never: break
            }
        }
        return outcome
    }

    private func endAudit(_ context: inout Context) {
        guard let record = context.audit else { return }
        Log.standard.write(record.event(taskCount: context.auditedTaskCount))
        context.audit = nil
        context.gate.views.noteChange()
    }

    /// Checks a request whose body has not been read.
    ///
    /// - Throws: `Problem` if the request is invalid whatever its body is.
    mutating func checkHead(of request: borrowing Request, by caller: Caller) throws(Problem) {
        if request.method == .options { return }
        _ = try readHead(of: request, by: caller, isWhole: false)
    }

    /// Whether a request keeps nothing of its body. The server reads such bodies even when memory is short.
    mutating func keepsNothing(of request: borrowing Request) -> Bool {
        if request.method == .options { return true }
        let route = try? Route.all[Route.find(request.path, name: &name)]
        let operation = try? route?.operation(for: request)
        return operation.map { $0.body != .kept } ?? false
    }

    private mutating func answerOptions(
        _ request: borrowing Request, _ responses: inout ResponseStream
    ) throws(Problem) -> Outcome {
        // A proxy makes an absolute target without a path of `*` (RFC 9110 section 7.1).
        let isAny = request.path.equals("*") || request.path.isEmpty
        let methods =
            isAny ? Route.allMethods : try Route.all[Route.find(request.path, name: &name)].allowedMethods
        responses.begin(status: 204, contentType: nil)
        responses.field("Allow", methods.utf8Span.span)
        responses.endWithoutBody()
        return .answered
    }

    /// Reads everything but the body of a request: the route, the name and the query. Checks what the sender may do.
    private mutating func readHead(
        of request: borrowing Request, by caller: Caller, isWhole: Bool
    ) throws(Problem) -> ReadHead {
        if request.method == .connect { throw .noProxy }
        if case .stranger(let reason) = caller, !isOpen(request) { throw Problem(reason) }
        if let known = knownHeads.known(request.headKey) {
            name = known.name
            try readRest(of: request, known, by: caller, isWhole: isWhole, isKnown: true)
            return known
        }
        let place = try Route.find(request.path, name: &name)
        let route = Route.all[place]
        // A request that is refused for its method counts for its path.
        label = Metrics.label(ofRoute: place)
        let operation = try route.operation(for: request)
        let head = ReadHead(request.headKey, place: place, route, operation, name: name)
        try readRest(of: request, head, by: caller, isWhole: isWhole, isKnown: false)
        if request.query.isEmpty { knownHeads.note(head) }
        return head
    }

    /// Reads and checks what `ReadHead` does not tell: the query, whether there is a body, and what the sender may do. If
    /// the head is not a known one, also its content type.
    private mutating func readRest(
        of request: borrowing Request, _ head: ReadHead, by caller: Caller, isWhole: Bool, isKnown: Bool
    ) throws(Problem) {
        label = head.label
        if caller.hasToken { try check(caller, for: head.operation, of: head.route) }
        if !request.query.isEmpty || !query.isEmpty { query = try readQuery(request.query, of: head.route) }
        if head.operation.body != .none {
            if isWhole, request.body.isEmpty { throw Problem(.missingBody, "the body is empty; send a JSON object") }
            if !isKnown { try checkContentType(request) }
        } else if head.operation.method != .get, !request.body.isEmpty {
            throw Problem(.unexpectedBody, "send no body; parameters go in the URL")
        }
    }

    /// Whether a request needs no token.
    private mutating func isOpen(_ request: borrowing Request) -> Bool {
        guard let place = try? Route.find(request.path, name: &name) else { return false }
        label = Metrics.label(ofRoute: place)
        guard let operation = try? Route.all[place].operation(for: request) else { return false }
        return operation.need.isOpen
    }

    /// - Throws: 403 if the sender may not do that.
    private func check(_ caller: Caller, for operation: Operation, of route: Route) throws(Problem) {
        guard let permission = operation.need.permission else { return }
        if operation.need.isForAllQueues {
            try caller.checkAllQueues(permission, for: "this request")
        } else if route.subject == .queue {
            try caller.check(permission, in: name.span)
        } else {
            try caller.check(permission)
        }
    }

    /// - Throws: 415 for a body that is not declared as JSON, or that is compressed.
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
                .unsupportedMediaType,
                "the body must be JSON; send one header Content-Type: application/json (curl --json adds it)")
        }
        if isEncoded {
            throw Problem(
                .unsupportedContentEncoding, "send the body uncompressed; this server supports no Content-Encoding")
        }
    }

    // MARK: Answers

    /// Answers 204.
    static func writeNoContent(to responses: inout ResponseStream) {
        responses.begin(status: 204, contentType: nil)
        responses.endWithoutBody()
    }

    /// `GET /healthz`
    static func showHealth(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        if let durability = context.gate.durability, !durability.isReady {
            durability.writeHealth(to: &responses)
            return .answered
        }
        let isStopping = context.isStopping
        responses.begin(status: isStopping ? 503 : 200, contentType: "application/json")
        if isStopping { responses.field("Retry-After", Problem.retryAfterSeconds) }
        responses.beginBody(estimatedCount: 60)
        responses.append(isStopping ? "{\"status\":\"stopping\"" : "{\"status\":\"ok\"")
        context.certificate?.writeEnd(to: &responses)
        responses.append("}")
        responses.endLine()
        return .answered
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
