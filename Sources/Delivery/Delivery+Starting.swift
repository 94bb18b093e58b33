// Starting attempts: which queue is next, and whether its next task can be sent now.

import Net
import Queues
import UID

extension Delivery {
    /// The maximum number of attempts that a turn starts.
    private static let startsPerTurn = 200
    /// The maximum number of queues that try again in a turn because a look-up has ended.
    private static let resolvedPerTurn = 200
    /// A task's lease is longer than its request's timeout by this: the request's deadline ends the attempt, not the
    /// lease.
    private static let slackMilliseconds: Int64 = 15_000

    /// Lets a queue take part in the turns from now on, because it may have something to send.
    func wake(_ index: QueueIndex, on broker: isolated Broker) {
        let name = broker.name(of: index)
        if let known = queues[index], known.name == name {
            if known.standing == .paced { paced.removeAll { $0.queue === known } }
            if known.standing == .held { held.removeAll { $0 === known } }
            if known.standing == .unresolved { unresolved.removeAll { $0 === known } }
            if known.standing == .crowded { crowds[known.crowdedOrigin]?.removeAll { $0 === known } }
            return activate(known)
        }
        guard let courier = courier(name) else { return }
        let queue = SendingQueue(index: index, name: name, courier: courier)
        queues[index] = queue
        activate(queue)
    }

    func activate(_ queue: SendingQueue) {
        if queue.standing == .active { return }
        queue.standing = .active
        active.append(queue)
    }

    /// Activates the queues that have waited long enough.
    func activateWaitingQueues(now: Int64) {
        while let next = paced.last, next.time <= now {
            paced.removeLast()
            activate(next.queue)
        }
        for queue in held { activate(queue) }
        held = []
        activateResolved()
    }

    /// Lets queues that waited for look-ups try again when some have ended, a few each turn. O(`resolvedPerTurn`).
    private func activateResolved() {
        if sender.takeEndedLookUpCount() > 0 { resolvedCount = unresolved.count }
        resolvedCount = min(resolvedCount, unresolved.count)
        let count = min(resolvedCount, Self.resolvedPerTurn)
        if count == 0 { return }
        for queue in unresolved[..<count] { activate(queue) }
        unresolved.removeFirst(count)
        resolvedCount -= count
    }

    func start(on broker: isolated Broker, now: Int64) {
        var starts = 0
        while !active.isEmpty {
            var round = active
            active = []
            for (place, queue) in round.enumerated() {
                if starts >= Self.startsPerTurn || attempts.count >= maximumInFlight {
                    // The others come first in the next turn.
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
                case .crowded: crowds[queue.crowdedOrigin, default: []].append(queue)
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

    /// Starts an attempt to send a queue's next task, if that is possible.
    ///
    /// - Returns: the queue's standing afterwards; active if an attempt was started.
    private func startOne(of queue: SendingQueue, on broker: isolated Broker, now: Int64) -> SendingQueue.Standing {
        queue.update(broker.push(of: queue.index), now: now)
        guard queue.hasPlace else { return .full }
        guard queue.nextTime(now: now) <= now else { return .paced }
        var made: Result<(task: UID, request: ClientRequest), TaskRequestError>?
        // Why the next task cannot be sent yet; held if the broker does not say.
        var hindrance = SendingQueue.Standing.held
        let unixMilliseconds = now + wallClockLeadMilliseconds
        let found = broker.send(from: queue.index, now: now) { task in
            let bodyByteCount = max(task.content.count, task.request.count)
            guard task.readySequence <= safeSequence,
                attempts.isEmpty || bodyBytes + bodyByteCount <= maximumBodyBytes
            else { return nil }
            do throws(TaskRequestError) {
                var request = try queue.courier.request(for: task, of: queue, unixMilliseconds: unixMilliseconds)
                let origin = request.url.origin
                if inFlightCounts[origin, default: 0] >= maximumInFlightPerHost {
                    queue.crowdedOrigin = origin
                    hindrance = .crowded
                    return nil
                }
                request.group = queue.index.slot
                guard sender.canBegin(request) else {
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
            queue.noteStart(of: key.rawValue, now: now)
            let byteCount = request.body?.count ?? 0
            let origin = request.url.origin
            bodyBytes += byteCount
            inFlightCounts[origin, default: 0] += 1
            attempts[key.rawValue] = Attempt(task: task, queue: queue, url: request.url, bodyByteCount: byteCount)
            sender.send(request, key: key.rawValue)
        case .failure(let error):
            if let result = error.result {
                _ = broker.finishSending(key, result: result.span, now: now)
                return .active
            }
            let reason = Array(error.description.utf8)
            broker.failSending(key, .dead, error: reason.span, now: now)
        case nil: preconditionFailure("a task was dispatched without being looked at")
        }
        return .active
    }

    /// Drops the record of a queue if nothing is lost with it.
    func forgetIfIdle(_ queue: SendingQueue) {
        // Another queue may have the same index by now.
        if queue.isForgettable, queues[queue.index] === queue { queues[queue.index] = nil }
    }
}
