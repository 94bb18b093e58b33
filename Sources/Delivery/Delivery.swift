// Push: takes tasks from the broker as a worker would, sends them to URLs, and acknowledges or refuses them by what comes
// back.
//
// Queues take turns: each that may start something starts one task, again and again, until all are without tasks, have as
// many in flight as they may, or wait for their rate. So a queue with a million tasks for a slow host holds up no other; and
// many queues for one slow host do not, because a host gets only a part of what may be in flight. A queue that has nothing
// to send is not known here.

import JSON
import Net
import Queues
import UID

/// Sends the tasks of a broker that are to be sent. All calls are made in the broker's isolation.
public final class Delivery {
    /// How many tasks are started in a turn at most.
    private static let startsPerTurn = 200
    /// How many queues look in a turn, at most, whether they can send now that a look-up has ended.
    private static let resolvedPerTurn = 200
    /// What the answers of a turn change, about, beside the bodies that are kept.
    private static let changeBytesPerTurn = 64 << 10
    /// When the news of deaths in a turn take so many bytes, the rest comes in the next turns.
    private static let notificationBytesPerTurn = 16 << 20
    /// How much longer than its request a task's lease is: what is not answered in time is found out by the deadline of the
    /// request, and not by the lease.
    private static let slackMilliseconds: Int64 = 15_000

    /// A task that is being sent.
    private struct Flight {
        let task: UID
        let queue: SendingQueue
        let url: HTTPURL
        let bodyByteCount: Int
    }

    /// What has become of a task, as long as there is no room to write that down.
    private struct Landed {
        let key: DispatchKey
        let verdict: Verdict
    }

    /// How many bytes such verdicts have together, before results are kept without their bodies.
    private var maximumLandedBytes: Int { min(32 << 20, maximumBodyBytes / 2) }

    private let sender: any RequestSender
    private let makeID: (_ now: Int64) -> UID
    private let courier: (_ queueName: [UInt8]) -> (any Courier)?
    private var queues: [QueueIndex: SendingQueue] = [:]
    private var flights: [UInt64: Flight] = [:]
    /// Those that may start something, in the order of their turns.
    private var active: [SendingQueue] = []
    /// Those that wait for their rate, the next one last.
    private var paced: [(time: Int64, queue: SendingQueue)] = []
    private var held: [SendingQueue] = []
    /// Those that wait until other names are looked up, in that order, and how many of them shall try again.
    private var unresolved: [SendingQueue] = []
    private var resolvedCount = 0
    /// How many are in flight to each host and port, and the queues whose next task is for one that has as many as it may.
    private var inFlightCounts: [[UInt8]: Int] = [:]
    private var crowds: [[UInt8]: [SendingQueue]] = [:]
    /// How many tasks may be in flight at once, of all queues together, and to one host and port: as many as there may be
    /// connections, so that none waits for one while its time runs.
    private let maximumInFlight: Int
    private let maximumInFlightPerHost: Int
    private var landed: [Landed] = []
    /// How many bytes these have: results that wait for room.
    public private(set) var landedBytes = 0
    /// How many bytes the bodies in flight have.
    private var bodyBytes = 0

    /// How many bytes the bodies in flight may have together: each is a copy of its task's. A single one may have more.
    public var maximumBodyBytes = Int.max
    /// How far the clock on the wall is ahead of the broker's time, in milliseconds: others compare times with theirs.
    public var wallClockLeadMilliseconds: Int64 = 0
    /// The sequence of the last frame of the journal that is safe: a task is sent only when what made it ready is.
    public var safeSequence = UInt64.max
    /// Whether there is no room for results; then they are kept without their bodies.
    public var isShortOfMemory = false
    /// Whether no more tasks are to be sent. Those that are in flight are ended.
    public var isStopping = false
    /// Whether the news of deaths wait: they are tasks, which take memory and space on disk.
    public var keepsNotifications = false

    /// How many tasks are being sent, or were and wait for room.
    public var inFlightCount: Int { flights.count + landed.count }

    /// A delivery of which nothing is known yet.
    ///
    /// - Parameters:
    ///   - sender: what sends requests.
    ///   - limits: how many connections it may have.
    ///   - broker: the broker; it holds no tasks yet.
    ///   - makeID: makes the id of a new task.
    ///   - courier: how the tasks of a queue are sent, which does not change; nil if they are not.
    public init(
        sender: any RequestSender, limits: ClientLimits = ClientLimits(), on broker: isolated Broker,
        makeID: @escaping (_ now: Int64) -> UID, courier: @escaping (_ queueName: [UInt8]) -> (any Courier)?
    ) {
        self.sender = sender
        maximumInFlight = limits.connections
        maximumInFlightPerHost = limits.connectionsPerHost
        self.makeID = makeID
        self.courier = courier
        broker.beginSending()
    }

    // MARK: A turn

    /// Ends tasks by what came back, and breaks off what is not wanted any more. To be called when a turn begins; not calling
    /// it leaves everything as it is.
    ///
    /// - Parameters:
    ///   - broker: the broker.
    ///   - now: the time.
    ///   - hasRoom: whether there is room for a change of so many bytes. If not, what came back is left for later.
    public func beginTurn(on broker: isolated Broker, now: Int64, hasRoom: (_ byteCount: Int) -> Bool = { _ in true }) {
        broker.takeEndedSends { key in
            // It may have been over at the same time.
            guard land(key.rawValue) != nil else { return }
            sender.cancel(key.rawValue)
        }
        while let first = landed.first, hasRoom(Self.changeBytesPerTurn + first.verdict.byteCount) {
            landed.removeFirst()
            landedBytes -= first.verdict.byteCount
            settle(first.key, first.verdict, on: broker, now: now)
        }
        if !flights.isEmpty, !hasRoom(Self.changeBytesPerTurn) { return }
        sender.advance { key, outcome in
            guard let flight = land(key) else { return }
            finish(DispatchKey(rawValue: key), flight, outcome, on: broker, now: now, hasRoom)
        }
    }

    /// Tells of deaths, and starts what can be started. To be called when a turn ends, before its changes are written.
    ///
    /// - Returns: when the next turn must begin at the latest; nil for no such time.
    public func endTurn(on broker: isolated Broker, now: Int64) -> Int64? {
        var notificationBytes = 0
        addNotifications(on: broker, now: now, &notificationBytes)
        while let next = paced.last, next.time <= now {
            paced.removeLast()
            activate(next.queue)
        }
        for queue in held { activate(queue) }
        held = []
        activateResolved()
        if !isStopping { start(on: broker, now: now) }
        // What can never be sent has died.
        addNotifications(on: broker, now: now, &notificationBytes)
        if broker.hasUnreportedDeadTasks, !keepsNotifications { return now }
        if !active.isEmpty || resolvedCount > 0, !isStopping, flights.count < maximumInFlight { return now }
        return paced.last?.time
    }

    // MARK: Starting

    private func wake(_ index: QueueIndex, on broker: isolated Broker) {
        let name = broker.name(of: index)
        if let known = queues[index], known.name == name {
            if known.standing == .paced { paced.removeAll { $0.queue === known } }
            if known.standing == .held { held.removeAll { $0 === known } }
            if known.standing == .unresolved { unresolved.removeAll { $0 === known } }
            if known.standing == .crowded { crowds[known.crowdedAuthority]?.removeAll { $0 === known } }
            return activate(known)
        }
        guard let courier = courier(name) else { return }
        let queue = SendingQueue(index: index, name: name, courier: courier)
        queues[index] = queue
        activate(queue)
    }

    private func activate(_ queue: SendingQueue) {
        if queue.standing == .active { return }
        queue.standing = .active
        active.append(queue)
    }

    /// When look-ups have ended, those that waited for that try again, some in each turn. O(`resolvedPerTurn`).
    private func activateResolved() {
        if sender.takeEndedLookUpCount() > 0 { resolvedCount = unresolved.count }
        resolvedCount = min(resolvedCount, unresolved.count)
        let count = min(resolvedCount, Self.resolvedPerTurn)
        if count == 0 { return }
        for queue in unresolved[..<count] { activate(queue) }
        unresolved.removeFirst(count)
        resolvedCount -= count
    }

    private func start(on broker: isolated Broker, now: Int64) {
        var starts = 0
        while !active.isEmpty {
            var round = active
            active = []
            for (place, queue) in round.enumerated() {
                if starts >= Self.startsPerTurn || flights.count >= maximumInFlight {
                    // The rest come first in the next turn.
                    round.removeFirst(place)
                    active = round + active
                    return
                }
                queue.standing = startOne(of: queue, on: broker, now: now)
                switch queue.standing {
                case .active:
                    starts += 1
                    active.append(queue)
                case .idle: forgetIfIdle(queue)
                case .paced: pace(queue, until: queue.nextTime(now: now))
                case .held: held.append(queue)
                case .unresolved: unresolved.append(queue)
                case .crowded: crowds[queue.crowdedAuthority, default: []].append(queue)
                case .full: break
                }
            }
        }
    }

    private func pace(_ queue: SendingQueue, until time: Int64) {
        var (low, high) = (0, paced.count)
        while low < high {
            let middle = (low + high) / 2
            if paced[middle].time > time { low = middle + 1 } else { high = middle }
        }
        paced.insert((time, queue), at: low)
    }

    /// Starts a task of a queue if that can be.
    ///
    /// - Returns: how the queue stands then; active if one was started.
    private func startOne(of queue: SendingQueue, on broker: isolated Broker, now: Int64) -> SendingQueue.Standing {
        queue.update(broker.push(of: queue.index), now: now)
        guard queue.inFlightCount < queue.concurrency else { return .full }
        guard queue.nextTime(now: now) <= now else { return .paced }
        var made: Result<(task: UID, request: ClientRequest), TaskRequestError>?
        // Why it is not the next one's turn, if that is not known here.
        var hindrance = SendingQueue.Standing.held
        let unixMilliseconds = now + wallClockLeadMilliseconds
        let found = broker.send(from: queue.index, now: now) { task in
            let bodyByteCount = max(task.content.count, task.request.count)
            guard task.readySequence <= safeSequence,
                flights.isEmpty || bodyBytes + bodyByteCount <= maximumBodyBytes
            else { return nil }
            do throws(TaskRequestError) {
                var request = try queue.courier.request(for: task, of: queue, unixMilliseconds: unixMilliseconds)
                let authority = request.url.authority
                if inFlightCounts[authority, default: 0] >= maximumInFlightPerHost {
                    queue.crowdedAuthority = authority
                    hindrance = .crowded
                    return nil
                }
                request.group = queue.index.slot
                guard sender.canBegin(request.url, for: request.group) else {
                    hindrance = .unresolved
                    return nil
                }
                let timeout = request.timeoutMilliseconds
                made = .success((task.id, request))
                return timeout + Self.slackMilliseconds
            } catch {
                made = .failure(error)
                return Self.slackMilliseconds
            }
        }
        guard case .task(let key) = found else {
            if case .nothing = found { return .idle }
            return hindrance
        }
        switch made {
        case .success(let (task, request)):
            queue.noteStart(now: now)
            let byteCount = request.body?.count ?? 0
            let authority = request.url.authority
            bodyBytes += byteCount
            inFlightCounts[authority, default: 0] += 1
            flights[key.rawValue] = Flight(task: task, queue: queue, url: request.url, bodyByteCount: byteCount)
            sender.send(request, key: key.rawValue)
        case .failure(let error):
            let reason = Array(error.description.utf8)
            broker.failSending(key, .dead, error: reason.span, now: now)
        case nil: preconditionFailure("a task was dispatched that was not looked at")
        }
        return .active
    }

    // MARK: Ending

    /// Takes a task out of those in flight; nil if it is none of them.
    private func land(_ key: UInt64) -> Flight? {
        guard let flight = flights.removeValue(forKey: key) else { return nil }
        let queue = flight.queue
        queue.inFlightCount -= 1
        bodyBytes -= flight.bodyByteCount
        let authority = flight.url.authority
        let count = inFlightCounts[authority, default: 1] - 1
        inFlightCounts[authority] = count == 0 ? nil : count
        if var crowd = crowds.removeValue(forKey: authority) {
            // One takes its place; or all, as nothing else will wake those whom one leaves behind that needs it no more.
            while !crowd.isEmpty {
                activate(crowd.removeFirst())
                if count > 0 { break }
            }
            if !crowd.isEmpty { crowds[authority] = crowd }
        }
        if queue.standing == .full { activate(queue) }
        forgetIfIdle(queue)
        return flight
    }

    private func forgetIfIdle(_ queue: SendingQueue) {
        // Another queue may have taken its place.
        if queue.isForgettable, queues[queue.index] === queue { queues[queue.index] = nil }
    }

    private func finish(
        _ key: DispatchKey, _ flight: Flight, _ outcome: borrowing ClientOutcome, on broker: isolated Broker,
        now: Int64,
        _ hasRoom: (_ byteCount: Int) -> Bool
    ) {
        let isResultWanted = broker.wantsResult(of: key)
        func verdict(keepsBody: Bool) -> Verdict {
            let landing = Landing(
                task: flight.task, queue: flight.queue, url: flight.url, isResultWanted: isResultWanted,
                keepsBody: keepsBody, unixMilliseconds: now + wallClockLeadMilliseconds)
            return flight.queue.courier.verdict(on: outcome, of: landing)
        }
        var found = verdict(keepsBody: !isShortOfMemory)
        // For all that is small, the turn's room was looked for when it began.
        if isResultWanted, !landed.isEmpty || !hasRoom(Self.changeBytesPerTurn + found.byteCount) {
            if landedBytes + found.byteCount <= maximumLandedBytes {
                landedBytes += found.byteCount
                landed.append(Landed(key: key, verdict: found))
                return
            }
            found = verdict(keepsBody: false)
        }
        settle(key, found, on: broker, now: now)
    }

    private func settle(_ key: DispatchKey, _ verdict: Verdict, on broker: isolated Broker, now: Int64) {
        switch verdict {
        case .done(let result): _ = broker.finishSending(key, result: result.span, now: now)
        case .failed(let action, let error, let result):
            let reason = Array(error.utf8)
            broker.failSending(key, action, error: reason.span, result: result.span, now: now)
        }
    }

    // MARK: Deaths

    /// Tells of deaths, as far as there is room for that, and looks which queues have something to send then.
    private func addNotifications(on broker: isolated Broker, now: Int64, _ notificationBytes: inout Int) {
        broker.takeDeadTasks { deadTask in
            guard !keepsNotifications, notificationBytes < Self.notificationBytesPerTurn else { return false }
            notificationBytes += addNotification(deadTask, on: broker, now: now)
            return true
        }
        broker.takeSendableQueues { wake($0, on: broker) }
    }

    /// Adds a task that tells of the death of another one, if somebody is to be told.
    ///
    /// - Returns: how many bytes its content has.
    private func addNotification(_ deadTask: Broker.DeadTask, on broker: isolated Broker, now: Int64) -> Int {
        let queueName = broker.name(of: deadTask.queue)
        guard let courier = courier(queueName) else { return 0 }
        let push = PushOptions(stored: broker.push(of: deadTask.queue), of: .queue)
        let found = broker.withTask(id: deadTask.task, now: now) {
            courier.notification(of: $0, in: queueName, push: push)
        }
        guard case let notification?? = found else { return 0 }
        let content = notification.content
        var request = PushOptions()
        request.url = notification.url
        request.method = Array("POST".utf8)
        request.isNotice = true
        let options = TaskOptions()
        request.write(isMasked: false, to: &options.request)
        options.isNotice = true
        // What its queue says of retries is meant for its tasks: this one is tried until it expires.
        options.retryLimit = .unlimited
        options.backoff = notification.backoff
        let task = NewTask(id: makeID(now), content: 0..<content.count, options: options)
        // It fails only where there is no room for any task at all.
        _ = try? broker.enqueue(task, content: content.span, in: deadTask.queue, isLimited: false, now: now)
        return content.count
    }
}
