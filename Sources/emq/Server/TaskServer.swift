// The server's turns: the work at the beginning and the end of each turn of the event loop, the choice of a front end
// for each request, and stopping.

import Bytes
import Net
import Queues

/// Drives the broker, the journal and push from the event loop, and hands requests to front ends.
///
/// It is a move-only struct, so that the calls of a turn access it without exclusivity checks.
struct TaskServer: ~Copyable, RequestHandler {
    private var api = API()
    private var context: Context
    private let server: HTTPServer
    private let metrics: Metrics
    private let shutdown: Shutdown
    private let durability: (any Durability)?
    private let push: Push?
    private let adapters: Adapters
    private let sources: Sources
    /// The names under which browsers may reach the server.
    private let browserHosts: BrowserHosts
    /// The defaults for all queues from the command line, until they have been set.
    private var startDefaults: QueueConfiguration?
    private let manager: ServiceManager?
    /// Whether the log has a line for each request.
    let recordsRequests: Bool
    /// Whether due work is left for the next turn.
    private var isBehind = false
    /// Whether the last turn has left something that is due at once.
    private var hasDueWork = true
    private(set) var isFinished = false

    /// - Parameters:
    ///   - gate: admits requests; it has the HTTP server, the journal and push.
    ///   - shutdown: says whether the server is to stop.
    ///   - adapters: the legacy systems to replace.
    ///   - browserHosts: the names under which browsers may reach the server.
    ///   - certificate: the server's certificate; nil if it speaks plain HTTP only.
    ///   - access: the tokens that the server knows; nil if it needs none.
    ///   - defaults: the defaults for all queues; nil leaves them as they are.
    ///   - manager: the service manager; nil if none wants to hear from the server.
    ///   - recordsRequests: whether the log has a line for each request.
    init(
        _ gate: Gate, shutdown: Shutdown, adapters: Adapters = Adapters(),
        browserHosts: BrowserHosts = BrowserHosts(), certificate: ServerCertificate? = nil,
        access: Access? = nil, defaults: QueueConfiguration? = nil, manager: ServiceManager? = nil,
        recordsRequests: Bool = false
    ) {
        metrics = Metrics(services: adapters.names)
        context = Context(
            gate: gate, shutdown: shutdown, metrics: metrics, adapters: adapters, certificate: certificate,
            access: access)
        server = gate.server
        self.shutdown = shutdown
        durability = gate.durability
        push = gate.push
        self.adapters = adapters
        sources = gate.sources
        self.browserHosts = browserHosts
        startDefaults = defaults
        self.manager = manager
        self.recordsRequests = recordsRequests
    }

    // MARK: Requests

    mutating func handle(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) -> Outcome {
        api.label = request.service == 0 ? 0 : Metrics.label(ofService: request.service)
        // Also for an answer that is owed.
        defer { responses.label = api.label }
        do throws(Problem) {
            if request.isFromBrowser || context.access != nil { try checkSender(of: request) }
            if request.service == 0 { return try api.answer(request, &responses, &context, on: broker) }
            return try answer(request, by: adapters.frontEnds[request.service - 1], &responses, on: broker)
        } catch {
            responses.abandon()
            if error.awaitsSpace { return .postponed }
            noteRefusal(error, of: request)
            write(error, service: request.service, to: &responses)
            // The reason, such as a missing task or a taken key, may be a change that is not safe on disk yet.
            if [404, 409, 429].contains(error.status) { responses.hold(until: broker.changeSequence) }
            return .answered
        }
    }

    /// Finds out who sends a request, and refuses web pages that must not use this server.
    private mutating func checkSender(of request: borrowing Request) throws(Problem) {
        if let access = context.access {
            // The clients of legacy systems have no tokens.
            context.caller = request.service == 0 ? access.caller(of: request, now: context.now) : .anyone
        }
        if request.isFromBrowser { try browserHosts.check(request, hasToken: context.caller.hasToken) }
    }

    /// Counts a refused request if it would have added tasks, or if its sender may not send it.
    private func noteRefusal(_ problem: Problem, of request: borrowing Request) {
        if context.access != nil { metrics.noteRefusal(of: context.caller, problem) }
        let addsTasks =
            request.service == 0
            ? api.label == Metrics.enqueueLabel
            : adapters.frontEnds[request.service - 1].cost(request).effect == .grows
        if addsTasks { metrics.note(problem.rejection) }
    }

    /// Lets a legacy system's front end answer a request, under the same limits as emq's own interface.
    private mutating func answer(
        _ request: borrowing Request, by frontEnd: any FrontEnd, _ responses: inout ResponseStream,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        if let durability, !durability.isReady { throw durability.problem }
        if request.method == .connect { throw .noProxy }
        let cost = frontEnd.cost(request)
        // The server keeps nearly all of a request's body.
        try context.gate.admit(cost, keptBytes: cost.effect == .grows ? request.body.count : 0, on: broker)
        let outcome = try frontEnd.answer(request, &responses, &context, on: broker)
        if case .answered = outcome { responses.hold(until: broker.changeSequence) }
        return outcome
    }

    mutating func admits(_ request: borrowing Request, _ responses: inout ResponseStream) -> Bool {
        admits(request, &responses, hasLargeBody: false)
    }

    mutating func readsOn(_ request: borrowing Request, _ responses: inout ResponseStream) -> Bool {
        context.access == nil || admits(request, &responses, hasLargeBody: true)
    }

    private mutating func admits(
        _ request: borrowing Request, _ responses: inout ResponseStream, hasLargeBody: Bool
    ) -> Bool {
        api.label = request.service == 0 ? 0 : Metrics.label(ofService: request.service)
        defer { responses.label = api.label }
        do throws(Problem) {
            if request.isFromBrowser || context.access != nil { try checkSender(of: request) }
            if request.service == 0 { try api.checkHead(of: request, by: context.caller) }
            // Strangers must not fill the memory for requests, whatever they ask for.
            if hasLargeBody, case .stranger(let reason) = context.caller { throw Problem(reason) }
            if let durability, !durability.isReady { throw durability.problem }
            return true
        } catch {
            noteRefusal(error, of: request)
            write(error, service: request.service, to: &responses)
            return false
        }
    }

    mutating func refuse(_ refusal: Refusal, service: Int, _ responses: inout ResponseStream) {
        // Nobody has looked who sent it.
        context.caller = .anyone
        // A body was too large for the memory that is left; usually, it was that of a task.
        if refusal.status == 503 { metrics.note(.memory) }
        write(Problem(refusal), service: service, to: &responses)
    }

    /// Legacy systems return nothing.
    func returnsTraceFields(ofService service: Int) -> Bool { service == 0 }

    private func write(_ problem: Problem, service: Int, to responses: inout ResponseStream) {
        if service == 0 { return problem.write(to: &responses) }
        adapters.frontEnds[service - 1].write(problem, to: &responses)
    }

    mutating func withdraw(_ withdrawal: AnyObject, _ responses: inout ResponseStream, on broker: isolated Broker) {
        let answer = pendingAnswer(withdrawal)
        answer.withdraw(on: broker)
        answer.writeWithdrawn(to: &responses, of: broker, now: context.now)
    }

    mutating func withdraw(_ withdrawal: AnyObject, on broker: isolated Broker) {
        pendingAnswer(withdrawal).withdraw(on: broker)
    }

    private func pendingAnswer(_ withdrawal: AnyObject) -> PendingAnswer {
        guard let answer = withdrawal as? PendingAnswer else {
            preconditionFailure("only pending answers are withdrawn")
        }
        return answer
    }

    mutating func undelivered(_ keys: [UInt64], on broker: isolated Broker) {
        release(keys.lazy.map { DispatchKey(rawValue: $0) }, on: broker)
    }

    /// Returns dispatched tasks to the front of their queues.
    private func release(_ keys: some Sequence<DispatchKey>, on broker: isolated Broker) {
        broker.beginEvent()
        for key in keys { broker.release(key, now: context.now) }
        broker.endEvent(now: context.now)
    }

    mutating func bodyObserver() -> BodyObserver? { ArrivingBody() }

    mutating func readsBodyWhenShort(_ request: borrowing Request) -> Bool {
        request.service == 0 && api.keepsNothing(of: request)
    }

    mutating func record(_ request: borrowing Request) -> RequestRecord? {
        let names = adapters.names
        let system = names.indices.contains(request.service - 1) ? names[request.service - 1] : nil
        return AccessRecord(request, by: context.caller, system: system, loop: server.loop)
    }

    mutating func noteTLS(onPlainService service: Int) {
        Log.standard.warning(
            "closed a connection on which a client spoke TLS, because the address speaks plain HTTP; "
                + "the client must use http://, or emq needs a certificate (--tls-cert) there")
    }

    // MARK: Turns

    /// How many queues are looked at in a turn for rates and histories, at most; less than a millisecond.
    private static let samplingStepsPerTurn = 2000

    mutating func beginTurn(now: Int64, on broker: isolated Broker) {
        // Time makes nothing else due within a millisecond. What something else makes due, `endTurn` sees, and the next
        // turn follows at once.
        let looksForDueWork = hasDueWork || now != context.now
        context.now = now
        isBehind = false
        if let durability, !durability.beginTurn(server, on: broker, now: now) {
            isFinished = shutdown.isAsked
            if isFinished { context.gate.streams.stop(on: broker) } else { serveStreams(on: broker) }
            return
        }
        if let defaults = startDefaults, (try? useDefaults(defaults, on: broker)) != nil { startDefaults = nil }
        adapters.beginTurn(on: broker)
        if context.dispatchWriter.hasReturned { release(context.dispatchWriter.takeReturned(), on: broker) }
        if looksForDueWork { advance(to: now, on: broker) }
        updateMemory(on: broker)
        push?.beginTurn(durability, isShortOfMemory: server.refusesLargeBodies, on: broker, now: now)
        sources.beginTurn(&context, on: broker)
        if shutdown.isAsked { stop(on: broker) } else if looksForDueWork { serveStreams(on: broker) }
    }

    /// Does what is due, and a part of what takes many turns.
    private mutating func advance(to now: Int64, on broker: isolated Broker) {
        if durability?.isBusy(broker) != true { isBehind = !broker.advance(to: now) }
        if metrics.survey.isUnderWay { metrics.survey.turn(on: broker) }
        if context.gate.alerts.isUnderWay { context.gate.alerts.turn(ServerConditions(context), server, on: broker) }
        var samplingSteps = TaskServer.samplingStepsPerTurn
        if !broker.sample(now: now, steps: &samplingSteps) { isBehind = true }
        context.gate.survey.turn(server, now: now, on: broker)
        context.gate.searches.turn(server, now: now, on: broker)
        context.gate.views.beginTurn(server, now: now, on: broker) { page, responses in
            QueuePageWriter(context).write(page, to: &responses, of: broker)
        }
    }

    /// Makes the requests of streams that are due, for a limited time.
    private mutating func serveStreams(on broker: isolated Broker) {
        let streams = context.gate.streams
        streams.beginTurn(server, now: context.now)
        while let (watched, caller) = streams.next(server, context.access, on: broker) {
            context.caller = caller
            server.ask(watched) { request, responses in
                do throws(Problem) { return try api.answer(request, &responses, &context, on: broker) } catch {
                    responses.abandon()
                    if error.awaitsSpace { return .postponed }
                    error.write(to: &responses)
                    if [404, 409, 429].contains(error.status) { responses.hold(until: broker.changeSequence) }
                    return .answered
                }
            }
        }
    }

    mutating func endTurn(on broker: isolated Broker) -> Int64? {
        let deadline = nextDeadline(on: broker)
        hasDueWork = deadline.map { $0 <= context.now } ?? false
        return deadline
    }

    /// Does the work at the end of a turn.
    ///
    /// - Returns: when the next turn must begin at the latest; nil for no such time.
    private mutating func nextDeadline(on broker: isolated Broker) -> Int64? {
        let now = context.now
        // If the requests of the last turn changed something, another turn is needed.
        if isFinished, !shutdown.isForced, let durability, !durability.isSettled(broker) { isFinished = false }
        let pushDeadline =
            adapters.isSendingSafe
            ? push?.endTurn(durability, isStopping: shutdown.isAsked, on: broker, now: now) : nil
        let filesDeadline = readFiles()
        if recordsRequests { LineWriter.standardError.wakeUp() }
        let logDeadline = Log.standard.writeDueNumbers().map { now + $0 }
        let managerDeadline = manager?.endTurn(durability, stopsBy: shutdown.deadline, now: now)
        let journalDeadline = durability?.endTurn(server, on: broker, now: now, isLast: isFinished)
        let isWaitingForDisk = durability.map { !$0.isSettled(broker) } ?? false
        let hasReturned = context.dispatchWriter.hasReturned
        if isBehind || hasReturned || metrics.survey.isUnderWay || context.gate.views.isBusy
            || context.gate.survey.isUnderWay || context.gate.searches.isUnderWay || context.gate.alerts.isUnderWay
            || shutdown.isAsked && isDrained(broker) && !isWaitingForDisk
        {
            return now
        }
        // While too many changes wait for the disk, due work waits too.
        let deadline = durability?.isBusy(broker) == true ? nil : broker.nextDeadline
        let isLate = isWaitingForDisk && now >= shutdown.deadline ?? .max
        return earliest([
            deadline, isLate ? nil : shutdown.deadline, journalDeadline, pushDeadline, sources.nextDeadline,
            filesDeadline, managerDeadline, logDeadline, context.gate.views.nextDeadline, broker.nextSampleTime,
            context.gate.survey.nextDeadline, context.gate.streams.nextDeadline,
        ])
    }

    /// Reads the certificate and the tokens again if they may have changed.
    ///
    /// - Returns: when the next turn must begin at the latest; nil for no such time.
    private func readFiles() -> Int64? {
        let isAsked = shutdown.takeReload()
        if isAsked, context.certificate == nil, context.access == nil {
            Log.standard.info("SIGHUP: there is no certificate and no file of tokens to read again")
        }
        let certificate = context.certificate?.endTurn(isAsked: isAsked, now: context.now)
        guard let tokens = context.access?.endTurn(isAsked: isAsked, now: context.now) else { return certificate }
        return min(certificate ?? .max, tokens)
    }

    /// Sets the defaults from the command line, which replace those of an earlier process.
    private func useDefaults(_ defaults: QueueConfiguration, on broker: isolated Broker) throws(BrokerError) {
        if broker.defaults != defaults { try broker.setDefaults(defaults) }
    }

    private mutating func updateMemory(on broker: isolated Broker) {
        context.gate.beginTurn()
        let limit = context.gate.maximumMemoryBytes
        let used = context.gate.usedMemoryBytes(of: broker)
        context.gate.resident?.update(used: used, limit: limit, now: context.now)
        server.refusesLargeBodies = broker.memoryBytes + context.gate.bufferBytes > limit
        broker.isShortOfMemory = server.refusesLargeBodies || context.gate.resident?.exceeds(limit) == true
    }

    // MARK: Stopping

    /// Stops gracefully after a signal: accepts no connections, answers all waiters, and gives workers some time to
    /// acknowledge their tasks.
    private mutating func stop(on broker: isolated Broker) {
        let isFirst = shutdown.deadline == nil
        if isFirst {
            shutdown.begin(now: context.now)
            server.stopListening()
            context.gate.streams.stop(on: broker)
            broker.completeAllWaiters(now: context.now)
        }
        let isOver = shutdown.isOver(now: context.now) || isDrained(broker)
        isFinished = shutdown.isForced || isOver && durability?.isSettled(broker) ?? true
        if isFirst, !isFinished {
            shutdown.report(dispatched: broker.counts.dispatched, sent: push?.inFlightCount ?? 0)
        }
    }

    /// Whether there is nothing left to wait for: no dispatched task, or no client to acknowledge one.
    private func isDrained(_ broker: isolated Broker) -> Bool {
        (broker.counts.dispatched == 0 || server.connectionCount == 0) && push?.inFlightCount ?? 0 == 0
            && !server.hasUnsentAnswers && sources.isDisconnected && !context.gate.views.isBusy
            && !metrics.survey.isUnderWay && !context.gate.survey.isUnderWay && !context.gate.searches.isUnderWay
            && !context.gate.alerts.isUnderWay
    }
}

extension Problem {
    static let noProxy = Problem(.notAProxy, "this server is not a proxy")
}
