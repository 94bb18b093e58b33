// Sends requests until they are answered: waits for connections, repeats what failed, ends what is not wanted any more.
//
// Everything here happens on the client's thread. So a request costs its caller two changes of threads at most, however
// often it is repeated.

import Bytes
import Net

/// The requests of a client. Use it on the client's thread.
final class Transmitter: @unchecked Sendable {
    // @unchecked: everything but the constants is used on the client's thread only.

    /// How long an unwanted wait has for its answer, in milliseconds.
    private static let orphanMilliseconds: Int64 = 5000
    /// The pauses between tries, in milliseconds; each is at most twice the one before.
    private static let pauseMilliseconds: ClosedRange<Int64> = 100...5000
    /// After so long in flight, a lost long poll is no sign of a server that fails again and again, in milliseconds.
    private static let calmMilliseconds: Int64 = 5000
    /// These connections are not for requests that take long.
    private static let reservedConnections = 1 + QuickLane.capacity

    let settings: Settings
    private let loop: EventLoop
    private let lane: QuickLane
    /// A request to the server, for the connections that are lent.
    private let sample: ClientRequest?
    private let http: HTTPClient
    private var nextKey: UInt64 = 1
    private var inFlight: [UInt64: PendingCall] = [:]
    private var streams: [UInt64: EventStreamReceiver] = [:]
    /// Long requests that wait until there are fewer of them.
    private var waiting: [PendingCall] = []
    private var longCount = 0
    private var pausing: [ObjectIdentifier: PendingCall] = [:]
    private var due: [PendingCall] = []
    let alarms: Alarms
    private(set) var isClosed = false
    /// Keeps leases; it has timers of its own.
    lazy var keeper = LeaseKeeper(self)
    /// Called when a closed client has nothing in flight any more.
    private var ended: [() -> Void] = []

    init(_ settings: Settings, on loop: EventLoop, _ lane: QuickLane) {
        (self.settings, self.loop, self.lane, alarms) = (settings, loop, lane, Alarms(loop))
        sample = try? settings.request(for: Call("GET", "/"), wait: nil, timeoutMilliseconds: 1)
        var limits = ClientLimits()
        limits.connections = settings.connections
        limits.connectionsPerHost = settings.connections
        limits.idleConnections = settings.connections
        limits.idleTimeoutMilliseconds = 60_000
        limits.probeSeconds = 30
        http = HTTPClient(loop: loop, limits: limits) { _, _, _ in nil }
        http.trust = settings.trust
    }

    /// How many requests that may take long may be in flight.
    private var longLimit: Int { max(1, settings.connections - Self.reservedConnections) }

    /// Whether nothing is in flight.
    var isIdle: Bool { inFlight.isEmpty }

    /// The loop's time in milliseconds.
    var now: Int64 { loop.now }

    func setTimer(_ source: EventSource, at time: Int64) { loop.setTimer(source, at: time) }

    func cancelTimer(_ source: EventSource) { loop.cancelTimer(source) }

    // MARK: Requests

    /// Sends a request. Its completion is called once, later, on this thread.
    func start(_ pending: PendingCall) {
        loop.checkIsolated()
        pending.transmitter = self
        if pending.isCancelled { return end(pending, .failure(CancellationError())) }
        if isClosed { return end(pending, .failure(settings.error(.closed, "the client is closed", pending.call))) }
        begin(pending)
        admit(pending)
    }

    private func begin(_ pending: PendingCall) {
        pending.transmitter = self
        loop.updateNow()
        pending.startedAt = now
        let timeout = pending.call.timeoutMilliseconds ?? settings.timeoutMilliseconds
        let limit = clampedSum(timeout, pending.call.waitMilliseconds ?? 0)
        pending.deadline = time(in: min(limit, pending.limitMilliseconds))
    }

    /// Sends a request, and hands over the result.
    func send(_ call: Call, completion: @escaping @Sendable (Result<Answer, any Error>) -> Void) {
        let pending = PendingCall(call)
        pending.whenDone(completion)
        start(pending)
    }

    private func admit(_ pending: PendingCall) {
        guard pending.call.isLong, longCount >= longLimit else { return transmit(pending) }
        pending.phase = .queued
        waiting.append(pending)
        setTimer(pending, at: pending.deadline)
    }

    private func transmit(_ pending: PendingCall) {
        let call = pending.call
        var timeout = pending.deadline - now
        let wait = call.waitMilliseconds.map { max(0, pending.startedAt + $0 - now) }
        if let wait {
            timeout = min(timeout, clampedSum(wait, call.timeoutMilliseconds ?? settings.timeoutMilliseconds))
        }
        do throws(HTTPURLError) {
            let request = try settings.request(for: call, wait: wait, timeoutMilliseconds: timeout)
            noteSent(pending)
            http.send(request, key: pending.key)
        } catch {
            end(pending, .failure(settings.error(.invalidArgument, "\(error)", call)))
        }
    }

    private func noteSent(_ pending: PendingCall) {
        if pending.call.isLong { longCount += 1 }
        pending.key = nextKey
        nextKey += 1
        pending.phase = .sent
        pending.sentAt = now
        pending.tries += 1
        inFlight[pending.key] = pending
    }

    /// Goes on with a request that its caller has begun. Its completion is called once, later, on this thread.
    func goOn(_ pending: PendingCall, from progress: QuickProgress) {
        let isUnwanted = pending.isCancelled
        begin(pending)
        noteSent(pending)
        switch progress {
        case .answered(let answer):
            leave(pending)
            answered(pending, answer)
        case .failed(let failure):
            leave(pending)
            failed(pending, failure, mayHaveArrived: true)
        case .pending(let request, let lent):
            lane.forget()
            http.resume(request, on: lent, key: pending.key)
        }
        if isClosed {
            abandon(pending, settings.error(.closed, "the client was closed", pending.call))
        } else if isUnwanted {
            abandon(pending, CancellationError())
        }
    }

    /// Ends a request without its answer. Its completion gets a `CancellationError`.
    func cancel(_ pending: PendingCall) { abandon(pending, CancellationError()) }

    private func abandon(_ pending: PendingCall, _ error: any Error) {
        loop.checkIsolated()
        pending.isCancelled = true
        switch pending.phase {
        case .new, .orphaned, .ended: return
        case .queued: waiting.removeAll { $0 === pending }
        case .pausing: pausing[ObjectIdentifier(pending)] = nil
        case .sent where pending.call.abandonment == .release && http.endSending(pending.key):
            // The tasks of an answer that is on its way are given back when it is here.
            pending.phase = .orphaned
            setTimer(pending, at: time(in: Self.orphanMilliseconds))
            return pending.complete(.failure(error))
        case .sent: drop(pending)
        }
        end(pending, .failure(error))
    }

    private func drop(_ pending: PendingCall) {
        http.cancel(pending.key)
        leave(pending)
    }

    /// Notes that a request is not in flight any more.
    private func leave(_ pending: PendingCall) {
        inFlight[pending.key] = nil
        if pending.call.isLong { leaveLong() }
    }

    /// Notes that there is one request less that may take long.
    private func leaveLong() {
        longCount -= 1
        while longCount < longLimit, !waiting.isEmpty {
            let next = waiting.removeFirst()
            cancelTimer(next)
            transmit(next)
        }
    }

    private func end(_ pending: PendingCall, _ result: Result<Answer, any Error>) {
        var result = result
        if pending.mayHaveArrived, pending.call.isSafeWithinCall, case .failure(let error as EMQError) = result,
            error.kind != .closed
        {
            result = .failure(error.withUnknownOutcome)
        }
        cancelTimer(pending)
        pending.phase = .ended
        pending.transmitter = nil
        pending.complete(result)
    }

    func isDue(_ pending: PendingCall) { due.append(pending) }

    func limit(_ pending: PendingCall, toMilliseconds milliseconds: Int64) {
        pending.deadline = min(pending.deadline, time(in: milliseconds))
        switch pending.phase {
        case .new, .orphaned, .ended: return
        case .pausing: setTimer(pending, at: min(pending.resumesAt, pending.deadline))
        case .queued, .sent: setTimer(pending, at: pending.deadline)
        }
    }

    // MARK: Turns

    /// Does what events have made possible.
    ///
    /// - Returns: whether a closed client has nothing in flight.
    func advance() -> Bool {
        http.advance(
            received: { key, _, part in streams[key]?.received(part) },
            finished: { key, outcome in
                if let stream = streams.removeValue(forKey: key) {
                    leaveLong()
                    stream.ended(settings.result(of: outcome, stream.call))
                } else if let pending = inFlight[key] {
                    leave(pending)
                    finished(pending, outcome)
                }
            })
        while let pending = due.popLast() { review(pending) }
        alarms.review()
        keeper.review()
        guard isClosed, inFlight.isEmpty, streams.isEmpty else { return false }
        let ended = ended
        self.ended = []
        for body in ended { body() }
        return true
    }

    private func review(_ pending: PendingCall) {
        switch pending.phase {
        case .new, .ended: return
        case .queued:
            waiting.removeAll { $0 === pending }
            let detail = "no connection became free in time; this client has \(settings.connections)"
            end(pending, .failure(settings.error(.timeout, detail, pending.call)))
        case .pausing:
            pausing[ObjectIdentifier(pending)] = nil
            if now < pending.deadline { return admit(pending) }
            end(pending, .failure(settings.timeout(pending.call)))
        case .sent:
            drop(pending)
            let isUnknown = !pending.call.isRepeatable
            pending.mayHaveArrived = true
            end(pending, .failure(settings.timeout(pending.call, isUnknown: isUnknown)))
        case .orphaned:
            drop(pending)
            end(pending, .failure(CancellationError()))
        }
    }

    private func finished(_ pending: PendingCall, _ outcome: borrowing ClientOutcome) {
        switch outcome.result {
        case .success(let response): answered(pending, Answer(response))
        case .failure(let failure): failed(pending, failure, mayHaveArrived: outcome.mayHaveArrived)
        }
        if lane.wantsConnection(besideLong: longCount), let sample, let lent = http.lend(for: sample) { lane.add(lent) }
    }

    private func answered(_ pending: PendingCall, _ answer: Answer) {
        var answer = answer
        answer.isRepeated = pending.mayHaveArrived
        if pending.phase == .orphaned {
            end(pending, .success(answer))
            return giveBack(answer)
        }
        if answer.isSuccess { return end(pending, .success(answer)) }
        var error = settings.refusal(answer, pending.call)
        error.isRepeated = pending.mayHaveArrived
        // A proxy that lost the server does not know what became of the request.
        let isLost = (answer.status == 502 || answer.status == 504) && error.kind == .unexpectedAnswer
        if isLost { pending.mayHaveArrived = true }
        if isLost ? pending.call.isRepeatable : error.isTemporary { return again(pending, error) }
        if isLost { return end(pending, .failure(error.withUnknownOutcome)) }
        end(pending, .failure(error))
    }

    private func failed(_ pending: PendingCall, _ failure: ClientFailure, mayHaveArrived: Bool) {
        let error = settings.failure(failure, pending.call)
        if pending.phase == .orphaned { return end(pending, .failure(error)) }
        if mayHaveArrived {
            pending.mayHaveArrived = true
            guard pending.call.isRepeatable else { return end(pending, .failure(error.withUnknownOutcome)) }
        }
        if failure.isTemporary { return again(pending, error) }
        end(pending, .failure(error))
    }

    /// Sends a request again after a pause; it fails with `error` if there is no try or no time left.
    private func again(_ pending: PendingCall, _ error: EMQError) {
        if pending.call.waitMilliseconds != nil, now - pending.sentAt >= Self.calmMilliseconds { pending.tries = 1 }
        let highest = Self.pauseMilliseconds.lowerBound << Int64(min(pending.tries - 1, 10))
        var pause = Int64.random(in: 0...min(highest, Self.pauseMilliseconds.upperBound))
        if let retryAfter = error.retryAfter { pause = clampedSum(pause, retryAfter.milliseconds) }
        guard !isClosed, pending.tries < pending.call.tries ?? settings.tries,
            clampedSum(now, pause) < pending.deadline
        else {
            return end(pending, .failure(error))
        }
        settings.onProblem?(.retrying(error))
        pending.phase = .pausing
        pausing[ObjectIdentifier(pending)] = pending
        pending.resumesAt = clampedSum(now, pause)
        setTimer(pending, at: pending.resumesAt)
    }

    /// Gives back the tasks of an answer that nobody waits for.
    private func giveBack(_ answer: Answer) {
        guard answer.isSuccess, let receipts = try? WaitAnswer(answer.body).receipts, !receipts.isEmpty else { return }
        release(receipts)
    }

    /// Gives tasks back.
    func release(_ receipts: [String]) {
        var call = Call("/nak/", json: RequestBody.ids(receipts, [("release", "true")]))
        call.timeoutMilliseconds = min(settings.timeoutMilliseconds, Self.orphanMilliseconds)
        let pending = PendingCall(call)
        // A closed client still gives back what it has.
        pending.survivesClosing = true
        begin(pending)
        transmit(pending)
    }

    // MARK: Streams and closing

    /// Starts a request whose answer goes on.
    func start(_ stream: EventStreamReceiver) {
        if isClosed { return stream.ended(.failure(settings.error(.closed, "the client is closed", stream.call))) }
        guard longCount < longLimit else {
            let detail = "no connection is free for it; this client has \(settings.connections)"
            return stream.ended(.failure(settings.error(.connection, detail, stream.call)))
        }
        do throws(HTTPURLError) {
            var request = ClientRequest(
                url: try settings.url(stream.call.target), method: Call.get, fields: settings.fields, body: nil)
            request.socketPath = settings.server.socketPath
            request.streamsBody = true
            request.timeoutMilliseconds = .max
            request.idleTimeoutMilliseconds = EventStreamReceiver.silenceMilliseconds
            stream.key = nextKey
            nextKey += 1
            streams[stream.key] = stream
            longCount += 1
            http.send(request, key: stream.key)
        } catch {
            stream.ended(.failure(settings.error(.invalidArgument, "\(error)", stream.call)))
        }
    }

    /// Closes a connection that was lent and is of no use any more.
    func takeBack(_ lent: LentConnection) { http.takeBack(lent) }

    func cancel(_ stream: EventStreamReceiver) {
        guard streams.removeValue(forKey: stream.key) != nil else { return }
        http.cancel(stream.key)
        leaveLong()
    }

    /// Ends everything. `ended` is called when the tasks of waits that this has ended are given back.
    func close(ended: @escaping () -> Void) {
        self.ended.append(ended)
        if isClosed { return }
        isClosed = true
        keeper.close()
        for lent in lane.close() { http.takeBack(lent) }
        // Those that wait come first, because the end of others would send them.
        let calls = waiting + Array(pausing.values) + Array(inFlight.values)
        for pending in calls where pending.phase != .orphaned && !pending.survivesClosing {
            abandon(pending, settings.error(.closed, "the client was closed", pending.call))
        }
        for stream in Array(streams.values) {
            cancel(stream)
            stream.ended(.failure(settings.error(.closed, "the client was closed", stream.call)))
        }
        // The others have one more try.
        for pending in pausing.values {
            cancelTimer(pending)
            transmit(pending)
        }
        pausing = [:]
    }

    private func time(in milliseconds: Int64) -> Int64 { clampedSum(now, milliseconds) }
}
