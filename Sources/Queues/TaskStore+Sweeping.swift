// What is done to many tasks of a queue: purging, kicking, moving. A step is one task; `Sweep` knows which is next.

import UID

extension TaskStore {
    /// How many sweeps may be under way.
    static var maximumSweeps: Int { 16 }

    /// Begins a sweep of what is in the given states now.
    mutating func beginSweep(
        of queue: Slot, _ action: Sweep.Action, states: [TaskState], limit: Int, positions: Range<Int64>? = nil,
        now: Int64, completion: @escaping Broker.SweepCompletion
    ) throws(BrokerError) {
        guard sweeps.count < Self.maximumSweeps else { throw .tooManySweeps }
        var stretches: [Sweep.Stretch] = []
        for state in TaskState.allCases where states.contains(state) {
            if state == .ready {
                queues[queue].forEachReadyList { list in
                    stretches.append(Sweep.Stretch(next: list.first, last: list.last))
                }
            } else {
                let list = queues[queue].list(of: state.recordState)
                if !list.isEmpty { stretches.append(Sweep.Stretch(next: list.first, last: list.last)) }
            }
        }
        let sweep = Sweep(
            of: queue, action, stretches: stretches, states: states, limit: limit,
            positions: positions ?? images.positions,
            begun: action == .purge && positions == nil ? beginArrivals(now: now) : now, completion: completion)
        sweep.isResumed = positions != nil
        // What goes to workers leaves the lists in which this one is to meet it.
        let place = sweeps.firstIndex { $0.queue == queue && $0.action == .giveToWorkers } ?? sweeps.count
        sweeps.insert(sweep, at: place)
        if isJournaled { images.noteSweeps() }
        update(queue) { $0.sweeps += 1 }
        if sweep.target != 0 { update(sweep.target) { $0.sweeps += 1 } }
    }

    /// Tasks that arrive from now on are told from earlier ones by their time, also within one millisecond: it may be some
    /// milliseconds ahead of the clock, as many as purges begin in one.
    private mutating func beginArrivals(now: Int64) -> Int64 {
        firstArrival = min(arrivalTime(now: now) + 1, now + Self.maximumArrivalLead)
        return firstArrival
    }

    /// When a task arrives that is added now. O(1).
    @inline(__always)
    func arrivalTime(now: Int64) -> Int64 {
        // A clock that was set back is followed.
        firstArrival > now && firstArrival <= now + Self.maximumArrivalLead ? firstArrival : now
    }

    private static var maximumArrivalLead: Int64 { 16 }

    /// Begins to end the tasks of a queue that have no retries left.
    mutating func beginWearingOut(_ queue: Slot) throws(BrokerError) {
        guard queues[queue].length > 0 else { return }
        try beginAnew(.wearOut, of: queue, states: [.ready, .delayed])
    }

    /// Begins to give those tasks of a queue to workers that were ready to be sent because all of the queue's were.
    mutating func beginGivingToWorkers(_ queue: Slot) throws(BrokerError) {
        guard queues[queue].pushed.count > 0 else { return }
        try beginAnew(.giveToWorkers, of: queue, states: [.ready])
    }

    /// Begins a sweep that nobody waits for; it takes the place of such a one under way.
    private mutating func beginAnew(
        _ action: Sweep.Action, of queue: Slot, states: [TaskState]
    ) throws(BrokerError) {
        if let index = sweeps.firstIndex(where: { $0.queue == queue && $0.action == action }) { _ = endSweep(index) }
        try beginSweep(of: queue, action, states: states, limit: .max, now: clock) { _ in }
    }

    /// Ends a sweep, the first one if it is not said which.
    mutating func endSweep(_ index: Int = 0) -> Sweep {
        let sweep = sweeps.remove(at: index)
        if isJournaled { images.noteSweeps() }
        update(sweep.queue) { $0.sweeps -= 1 }
        if sweep.target != 0 { update(sweep.target) { $0.sweeps -= 1 } }
        return sweep
    }

    /// Does what a sweep does to one task. What should have ended by now is left to its timer.
    mutating func apply(_ sweep: Sweep, to slot: Slot, now: Int64) -> Slot {
        guard tasks[slot].deadline > now else { return 0 }
        if sweep.isResumed, !sweep.positions.contains(images[slot].position) { return 0 }
        let changed: Slot? =
            switch sweep.action {
            case .purge: purge(slot)
            case .kick: kick(slot, now: now)
            case .kickToOrigin: kickToOrigin(slot, now: now)
            case .move(let target): move(slot, to: target, now: now)
            case .wearOut: isWornOut(slot) ? endPendingRemoval(slot, now: now) : nil
            case .giveToWorkers: giveToWorkers(slot)
            }
        guard let changed else { return 0 }
        sweep.noteChange()
        return changed
    }

    // Each of these returns nil if it does not change the task.

    private mutating func purge(_ slot: Slot) -> Slot? {
        if tasks[slot].state.isUnfinished {
            queues[tasks[slot].queue].totals.cancelled += 1
            noteEnd(of: slot, .cancelled)
        }
        remove(slot)
        return 0
    }

    /// Makes a dead or delayed task ready: a dead one as if it were new, a delayed one as if its delay were over.
    mutating func kick(_ slot: Slot, now: Int64) -> Slot? {
        let queue = tasks[slot].queue
        guard tasks[slot].state == .dead || tasks[slot].state == .delayed, !isKeyTaken(from: slot, in: queue, now: now)
        else { return nil }
        takeKey(slot)
        let isDead = tasks[slot].state == .dead
        if isDead { countOverLength(in: queue) }
        return transition(slot, to: .ready, until: now) { record in
            // The expiry of a task that was added with a delay counts from its end; that of a retry goes on.
            let expires = now.addingWithinRange(record.lifetimeMilliseconds)
            record.expires = isDead ? expires : min(record.expires, expires)
            if isDead { record.retries = 0 }
        }
    }

    /// Has a ready task stand where it belongs by now.
    private mutating func giveToWorkers(_ slot: Slot) -> Slot? {
        guard tasks[slot].isPushed, !isToBeSent(slot) else { return nil }
        return transition(slot, to: .ready, until: tasks[slot].readySince, change: .any)
    }

    /// Sends a dead letter that no worker holds back to the queue where it died, ready there.
    mutating func kickToOrigin(_ slot: Slot, now: Int64) -> Slot? {
        guard let origin = extras(of: slot)?.origin, !origin.isEmpty, tasks[slot].state.isMovable,
            let target = try? queue(named: origin.span)
        else { return nil }
        withExtras(slot) { $0.endDeadLetter() }
        return makeReady(slot, in: target, expiry: .unsaid, now: now)
    }

    /// Moves a task to the back of a list of another queue. What made it a dead letter ends with its stay in the queue of
    /// these: it lives as long as others do where it comes to.
    mutating func move(_ slot: Slot, to target: Slot, now: Int64) -> Slot? {
        if !tasks[slot].state.isUnfinished { freeKey(of: slot, unlessUniqueAt: now) }
        guard tasks[slot].queue != target, !isKeyTaken(from: slot, in: target, now: now) else { return nil }
        let holdsKey = extras(of: slot)?.holdsKey ?? false
        if holdsKey { setHoldsKey(false, of: slot) }
        let state = tasks[slot].state
        let until = state == .ready ? now : tasks[slot].until
        var (lifetime, expires) = (tasks[slot].lifetimeMilliseconds, tasks[slot].expires)
        if isDeadLetter(slot) {
            // Before it is put in a list: it may have a request, which counts again.
            withExtras(slot) { $0.endDeadLetter() }
            lifetime = lifetimeMilliseconds(.unsaid, in: target)
            if state.isUnfinished { expires = max(now, until).addingWithinRange(lifetime) }
        }
        let waitedFor = transition(slot, to: state, until: until, in: target) { record in
            (record.lifetimeMilliseconds, record.expires) = (lifetime, expires)
        }
        if holdsKey { takeKey(slot) }
        return waitedFor
    }
}

extension TaskState {
    var recordState: TaskRecord.State {
        switch self {
        case .ready: .ready
        case .delayed: .delayed
        case .dispatched: .dispatched
        case .dead: .dead
        case .done: .done
        case .cancelled: .cancelled
        case .expired: .expired
        }
    }

    /// nil for a state that nobody sees.
    init?(_ state: TaskRecord.State) {
        switch state {
        case .ready: self = .ready
        case .delayed: self = .delayed
        case .dispatched: self = .dispatched
        case .dead: self = .dead
        case .done: self = .done
        case .cancelled: self = .cancelled
        case .expired: self = .expired
        case .vacant, .pendingRemoval, .hidden: return nil
        }
    }
}
