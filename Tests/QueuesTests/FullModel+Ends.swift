// The full model: configurations, how attempts and tasks end, and operations on whole queues.

@testable import Queues

extension FullModel {
    // MARK: Configurations

    mutating func configure(_ queue: Int, _ configuration: QueueConfiguration) {
        let wasPushed = queues[queue].configuration.isPushed
        queues[queue].configuration = configuration
        guard wasPushed, !configuration.isPushed else { return }
        let strays = list(queue, .ready).filter(\.isPushed)
        if !strays.isEmpty {
            sweeps.removeAll { $0.queue == queue && $0.action == .giveToWorkers }
            lastOwnSweep -= 1
            sweep(lastOwnSweep, .giveToWorkers, queue, states: [.ready], target: queue, limit: .max)
        }
        if !queues[queue].isPaused && waiters.contains(where: { $0.queues.contains(queue) }) {
            (queues[queue].isPaused, queues[queue].isResuming) = (true, true)
        }
    }

    /// Forgets what a restart forgets, and makes tasks that were being sent ready to be sent again.
    mutating func restart() {
        firstArrival = 0
        for index in queues.indices { queues[index].totals = QueueStatistics.Totals() }
        jitter = SeededGenerator(seed: 0)
        for index in tasks.indices where tasks[index].state == .ready {
            tasks[index].isPushed = isToBeSent(tasks[index])
        }
        for task in tasks.filter(\.isBeingSent).sorted(by: { $0.order > $1.order }) {
            guard let index = index(task.number) else { continue }
            if !applyReplacement(index) { put(index, .ready, until: .max, atFront: true) }
        }
        // From now on, timers of the same time fire in the order of the tasks' places; those of leases fire last, in the
        // order of the dispatches.
        let held = tasks.indices.filter { tasks[$0].state == .dispatched }
        let others = tasks.indices.filter { tasks[$0].state != .dispatched }
        for index in others.sorted(by: { tasks[$0].order < tasks[$1].order }) { setTimer(index) }
        for index in held.sorted(by: { tasks[$0].token < tasks[$1].token }) { setTimer(index) }
        endedSends = []
    }

    mutating func cancelWait(_ number: Int) { waiters.removeAll { $0.number == number } }

    mutating func complete(_ waiter: Waiter) {
        cancelWait(waiter.number)
        switch waiter.goal {
        case .all:
            completions.append(
                .taken(waiter: waiter.number, takeAvailable(waiter.queues, worker: waiter.worker)))
        case .any(let limit):
            completions.append(
                .taken(waiter: waiter.number, takeAny(waiter.queues, limit: limit, worker: waiter.worker)))
        case .result(let number):
            let state = index(number).map { tasks[$0].state } ?? .ready
            completions.append(.ended(waiter: waiter.number, state, ""))
        }
    }

    mutating func serve() {
        if openEvents > 0 { return }
        while let waiter = waiters.first(where: { waiter in
            switch waiter.goal {
            case .all: canTake(waiter.queues)
            case .any: waiter.queues.contains { !available($0).isEmpty }
            case .result: false
            }
        }) { complete(waiter) }
    }

    // MARK: Ends

    func held(_ number: UInt64, _ token: UInt64?) -> Int? {
        tasks.firstIndex {
            $0.number == number && $0.isUnfinished && $0.state == .dispatched && $0.deadline > now
                && $0.token == token ?? $0.token && !$0.isPushed
        }
    }

    mutating func ack(_ number: UInt64, token: UInt64?, result: String, log: String) -> Bool {
        guard let index = held(number, token) else { return false }
        ack(index, result: result, log: log)
        return true
    }

    mutating func ack(_ index: Int, result: String, log: String = "") {
        queues[tasks[index].queue].totals.acked += 1
        tasks[index].log = log
        if !applyReplacement(index) { finish(index, .done, at: now, result: result) }
    }

    mutating func nak(
        _ number: UInt64, token: UInt64?, _ action: NakAction, error: String, log: String
    ) -> NakOutcome {
        guard let index = held(number, token) else { return .missing }
        return nak(index, action, error: error, log: log)
    }

    mutating func nak(_ index: Int, _ action: NakAction, error: String, log: String = "") -> NakOutcome {
        if !error.isEmpty { tasks[index].error = error }
        let isRelease =
            switch action {
            case .release, .releasePausing: true
            case .failed, .failedPausing, .dead: false
            }
        if !isRelease || !error.isEmpty || !log.isEmpty { tasks[index].log = log }
        switch action {
        case .release: release(index, pause: 0)
        case .releasePausing(let milliseconds): release(index, pause: milliseconds)
        case .failed, .failedPausing, .dead:
            queues[tasks[index].queue].totals.nacked += 1
            return fail(index, action)
        }
        return .requeued
    }

    mutating func release(_ index: Int, pause: Int64) {
        queues[tasks[index].queue].totals.released += 1
        tasks[index].attempt -= 1
        if applyReplacement(index) { return }
        if pause > 0 {
            put(index, .delayed, until: now + pause)
        } else {
            put(index, .ready, until: .max, atFront: true)
        }
    }

    mutating func fail(_ index: Int, _ action: NakAction, leaseRanOut: Bool = false) -> NakOutcome {
        if applyReplacement(index) { return .requeued }
        if leaseRanOut {
            tasks[index].log = ""
            if !tasks[index].isPushed { tasks[index].crashes += 1 }
        }
        let task = tasks[index]
        let configuration = queues[task.queue].configuration
        func number(_ limit: RetryLimit, _ configured: UInt32?) -> UInt32 {
            switch limit {
            case .unsaid: configured ?? .max
            case .unlimited: .max
            case .limited(let limit): limit
            }
        }
        let crashes = number(task.says.crashLimit, configuration.maximumCrashes)
        let isCrashedOut = leaseRanOut && task.crashes > crashes
        if action == .dead || isCrashedOut || task.retries >= number(task.says.limit, configuration.maximumRetries) {
            if leaseRanOut {
                let times = isCrashedOut ? " \(task.crashes) time" + (task.crashes == 1 ? "" : "s") : ""
                let worker = task.worker.isEmpty ? "" : " (worker \(task.worker))"
                tasks[index].error = "the lease ran out" + times + worker
            }
            die(index, at: now)
            return .dead
        }
        var pause: Int64 = 0
        if case .failedPausing(let milliseconds) = action {
            pause = milliseconds
        } else if let backoff = task.says.backoff ?? configuration.backoff {
            pause = backoff.minimumMilliseconds
            for _ in 0..<min(task.retries, backoff.maximumDoublings) {
                pause = min(2 * pause, backoff.maximumMilliseconds)
            }
            pause = min(pause, backoff.maximumMilliseconds)
        } else if task.isPushed {
            let backoff = Backoff(minimumMilliseconds: 1000, maximumMilliseconds: 3_600_000, jitter: 0.1)
            pause = backoff.pauseMilliseconds(retries: task.retries, using: &jitter)
        } else if task.retries >= 9 {
            pause = min(1000 << min(Int64(task.retries) - 9, 6), 60_000)
        }
        tasks[index].retries += 1
        put(index, pause > 0 ? .delayed : .ready, until: pause > 0 ? now + pause : .max)
        return .requeued
    }

    mutating func touch(_ number: UInt64, lease: Int64?, progress: String) -> Bool {
        guard let index = held(number, nil) else { return false }
        tasks[index].lease = lease ?? tasks[index].lease
        tasks[index].until = now + tasks[index].lease
        if !progress.isEmpty { tasks[index].progress = progress }
        setTimer(index)
        return true
    }

    mutating func cancelTask(_ number: UInt64) -> Bool {
        guard let index = index(number), tasks[index].isUnfinished else { return false }
        queues[tasks[index].queue].totals.cancelled += 1
        finish(index, .cancelled, at: now)
        return true
    }

    /// Frees a key that outlived its task.
    mutating func freeKey(_ key: [UInt8], in queue: Int) -> Bool {
        guard let index = holder(of: key, in: queue), !tasks[index].isUnfinished else { return false }
        (tasks[index].holdsKey, tasks[index].uniqueUntil) = (false, 0)
        if tasks[index].isHidden { remove(index) }
        return true
    }

    mutating func deleteRecord(_ number: UInt64) -> Bool {
        guard let index = index(number), !tasks[index].isUnfinished, !tasks[index].isHidden else { return false }
        hide(index)
        return true
    }

    mutating func replaceResult(of number: UInt64, with result: String) -> Bool {
        guard let index = index(number), !tasks[index].isHidden else { return false }
        let hasEnded = ![.ready, .delayed, .dispatched].contains(tasks[index].state)
        guard !tasks[index].result.isEmpty || hasEnded && !result.isEmpty else { return false }
        tasks[index].result = result
        return true
    }

    mutating func tell(_ number: UInt64, _ state: TaskState, _ result: String = "") {
        for waiter in waiters {
            guard case .result(number) = waiter.goal else { continue }
            cancelWait(waiter.number)
            completions.append(.ended(waiter: waiter.number, state, result))
        }
    }

    mutating func finish(_ index: Int, _ state: TaskState, at time: Int64, result: String = "") {
        if state != .done, tasks[index].state == .dispatched { tasks[index].log = "" }
        adoptReplacement(index)
        tell(tasks[index].number, state, result)
        if state == .cancelled || tasks[index].uniqueUntil <= now { tasks[index].holdsKey = false }
        let keep = keep(index)
        guard time + keep > now else { return hide(index) }
        // A task with a request that did not succeed keeps its last answer.
        if state == .done { tasks[index].result = result }
        tasks[index].finished = time
        put(index, state, until: time + keep)
    }

    func keep(_ index: Int) -> Int64 {
        tasks[index].says.keep ?? queues[tasks[index].queue].configuration.keepMilliseconds
    }

    mutating func hide(_ index: Int) {
        guard tasks[index].holdsKey, tasks[index].uniqueUntil > now else { return remove(index) }
        noteEndOfSending(index)
        tasks[index].isHidden = true
        tasks[index].result = ""
        tasks[index].until = tasks[index].uniqueUntil
        setTimer(index)
    }

    mutating func remove(_ index: Int) {
        noteEndOfSending(index)
        tasks.remove(at: index)
    }

    mutating func die(_ index: Int, at time: Int64) {
        let queue = tasks[index].queue
        queues[queue].totals.died += 1
        adoptReplacement(index)
        if tasks[index].hasRequest || !queues[queue].configuration.push.isEmpty {
            deadTasks.append(DeadTask(task: tasks[index].number, queue: queue))
        }
        tell(tasks[index].number, .dead, tasks[index].result)
        if let letter = queues[queue].configuration.deadLetter, tasks[index].origin == nil {
            tasks[index].holdsKey = false
            tasks[index].says.key = []
            (tasks[index].says.limit, tasks[index].says.crashLimit) = (.unsaid, .unsaid)
            (tasks[index].origin, tasks[index].died) = (queue, time)
            let target = queues.indices.first { Array("\($0)".utf8) == letter } ?? queue
            let expiry = queues[target].configuration.expiry
            makeReady(index, in: target, expiry: expiry == .unsaid ? .never : expiry)
        } else {
            if tasks[index].uniqueUntil <= now { tasks[index].holdsKey = false }
            tasks[index].finished = time
            let stay = queues[queue].configuration.deadExpiryMilliseconds
            put(index, .dead, until: time + (stay ?? QueueConfiguration.defaultDeadExpiryMilliseconds))
        }
    }

    mutating func makeReady(_ index: Int, in target: Int, expiry: Expiry) {
        come(index, to: target, isUnfinished: true)
        (tasks[index].retries, tasks[index].crashes) = (0, 0)
        tasks[index].lifetime = lifetime(expiry, target)
        tasks[index].expires = now.addingWithinRange(tasks[index].lifetime)
        put(index, .ready, until: .max)
    }

    mutating func come(_ index: Int, to target: Int, isUnfinished: Bool) {
        if isUnfinished && isFull(target) { queues[target].totals.overLength += 1 }
        tasks[index].queue = target
        tasks[index].arrivals += 1
        queues[target].totals.received += 1
    }

    // MARK: Whole queues

    mutating func kick(_ number: UInt64, toOrigin: Bool) -> Bool {
        guard let index = index(number), !tasks[index].isHidden else { return false }
        return toOrigin || tasks[index].state == .ready ? kickToOrigin(index) : kick(number)
    }

    mutating func kickToOrigin(_ index: Int) -> Bool {
        guard [.ready, .delayed, .dead].contains(tasks[index].state), let origin = tasks[index].origin else {
            return false
        }
        tasks[index].origin = nil
        makeReady(index, in: origin, expiry: .unsaid)
        return true
    }

    mutating func kick(_ number: UInt64) -> Bool {
        guard let index = index(number), !tasks[index].isHidden,
            tasks[index].state == .dead || tasks[index].state == .delayed,
            isKeyFree(for: index, in: tasks[index].queue)
        else { return false }
        takeKey(index)
        let expires = now.addingWithinRange(tasks[index].lifetime)
        if tasks[index].state == .dead {
            (tasks[index].retries, tasks[index].crashes) = (0, 0)
            tasks[index].expires = expires
            if isFull(tasks[index].queue) { queues[tasks[index].queue].totals.overLength += 1 }
        } else {
            tasks[index].expires = min(tasks[index].expires, expires)
        }
        put(index, .ready, until: .max)
        return true
    }

    mutating func move(_ number: UInt64, to target: Int) -> Bool {
        guard let index = index(number), !tasks[index].isHidden,
            [.ready, .delayed, .dead].contains(tasks[index].state)
        else { return false }
        return move(index, to: target)
    }

    mutating func move(_ index: Int, to target: Int) -> Bool {
        if !tasks[index].isUnfinished && tasks[index].uniqueUntil <= now { tasks[index].holdsKey = false }
        guard target != tasks[index].queue, isKeyFree(for: index, in: target) else { return false }
        come(index, to: target, isUnfinished: tasks[index].isUnfinished)
        if tasks[index].holdsKey { takeKey(index) }
        tasks[index].readySince = now
        if tasks[index].origin != nil {
            tasks[index].origin = nil
            tasks[index].lifetime = lifetime(.unsaid, target)
            let due = tasks[index].state == .delayed ? tasks[index].until : now
            if tasks[index].isUnfinished { tasks[index].expires = due.addingWithinRange(tasks[index].lifetime) }
        }
        setPlace(index)
        setTimer(index)
        serve()
        return true
    }

    func isKeyFree(for index: Int, in queue: Int) -> Bool {
        let other = holder(of: tasks[index].says.key, in: queue)
        return other == nil || other == index
    }

    mutating func takeKey(_ index: Int) {
        for other in tasks.indices
        where tasks[other].queue == tasks[index].queue && tasks[other].says.key == tasks[index].says.key {
            tasks[other].holdsKey = false
        }
        tasks[index].holdsKey = !tasks[index].says.key.isEmpty
    }

    mutating func pause(_ queue: Int) {
        if !queues[queue].isPaused || queues[queue].isResuming { queues[queue].pausedSince = now }
        (queues[queue].isPaused, queues[queue].isResuming) = (true, false)
    }

    mutating func resume(_ queue: Int) {
        guard queues[queue].isPaused else { return }
        queues[queue].isResuming = true
        // Waiters that are registered under another queue do not hold it up.
        if !waiters.contains(where: { $0.queues.contains(queue) }) { queues[queue].isPaused = false }
    }

    var arrivalTime: Int64 { firstArrival > now && firstArrival <= now + 16 ? firstArrival : now }

    mutating func sweep(
        _ number: Int, _ action: Sweep.Action, _ queue: Int, states: [TaskState], filter: TaskFilter? = nil,
        target: Int, limit: Int
    ) {
        let met = TaskState.allCases.filter { states.contains($0) }.flatMap { list(queue, $0) }
        // A task that becomes a worker's waits for sweeps that still have to process it in its place.
        let place = sweeps.firstIndex { $0.queue == queue && $0.action == .giveToWorkers } ?? sweeps.count
        // A task that arrives after a purge gets a later time than the tasks before it, even within the same
        // millisecond.
        if action == .purge { firstArrival = min(arrivalTime + 1, now + 16) }
        sweeps.insert(
            Sweep(
                number: number, action: action, target: target, limit: limit, queue: queue, states: states,
                begun: action == .purge ? firstArrival : now, filter: filter,
                met: met.map { ($0.number, $0.order, $0.arrivals) }), at: place)
    }

    private func selects(_ filter: TaskFilter?, _ task: Task) -> Bool {
        guard let filter else { return true }
        if let error = filter.error, Array(task.error.utf8) != error { return false }
        guard let age = filter.olderThanMilliseconds else { return true }
        // A task that was dead before and is delayed now has a time of its death too.
        let begin =
            switch task.state {
            case .ready: task.readySince
            case .delayed, .dispatched: task.enqueued
            case .dead, .done, .cancelled, .expired: task.finished ?? task.enqueued
            }
        return filter.time - begin >= age
    }

    /// - Returns: how many tasks it processed.
    mutating func run(_ sweep: Sweep) -> Int {
        var count = 0
        for (number, order, arrivals) in sweep.met where count < sweep.limit {
            guard let index = index(number), !tasks[index].isHidden else { continue }
            // A purge also processes tasks that have changed their state since it began.
            let isStray =
                sweep.action == .purge && tasks[index].arrivals == arrivals && tasks[index].enqueued < sweep.begun
                && sweep.states.contains(tasks[index].state)
            guard tasks[index].order == order || isStray, selects(sweep.filter, tasks[index]) else { continue }
            switch sweep.action {
            case .purge:
                if tasks[index].isUnfinished {
                    queues[tasks[index].queue].totals.cancelled += 1
                    tell(number, .cancelled)
                }
                remove(index)
                count += 1
            case .kick:
                count += kick(number) ? 1 : 0
            case .kickToOrigin:
                count += kickToOrigin(index) ? 1 : 0
            case .move:
                count += move(index, to: sweep.target) ? 1 : 0
            case .giveToWorkers:
                guard tasks[index].isPushed, !isToBeSent(tasks[index]) else { continue }
                setPlace(index)
                setTimer(index)
                serve()
            }
        }
        return count
    }
}
