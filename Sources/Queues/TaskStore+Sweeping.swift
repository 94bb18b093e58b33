// Changing many tasks of a queue: purging, kicking, moving. A step is one task; `Sweep` knows which is next.

import UID

extension TaskStore {
    /// The maximum number of sweeps under way.
    static var maximumSweeps: Int { 16 }

    /// Begins a sweep of the tasks that are in the given states now. Returns its id.
    @discardableResult
    mutating func beginSweep(
        of queue: Slot, _ action: Sweep.Action, states: [TaskState], filter: TaskFilter? = nil, limit: Int,
        positions: Range<Int64>? = nil, now: Int64, completion: @escaping Broker.SweepCompletion
    ) throws(BrokerError) -> UInt64 {
        guard sweeps.count < Self.maximumSweeps else { throw .tooManySweeps }
        var stretches: [Sweep.Stretch] = []
        var count = 0
        for state in TaskState.allCases where states.contains(state) {
            if state == .ready {
                queues[queue].forEachReadyList { list in
                    stretches.append(Sweep.Stretch(next: list.first, last: list.last))
                    count += Int(list.count)
                }
            } else {
                let list = queues[queue].list(of: state.recordState)
                if !list.isEmpty { stretches.append(Sweep.Stretch(next: list.first, last: list.last)) }
                count += Int(list.count)
            }
        }
        // Ids that an earlier process has given must not mean another operation now.
        nextSweep = max(nextSweep, UInt64(max(0, now)))
        let sweep = Sweep(
            id: nextSweep, of: queue, action, stretches: stretches, totalCount: count, states: states,
            filter: filter?.isEmpty == true ? nil : filter, limit: limit,
            positions: positions ?? images.positions,
            begun: action == .purge && positions == nil ? beginArrivals(now: now) : now, completion: completion)
        sweep.isResumed = positions != nil
        nextSweep += 1
        // Tasks that are given to workers leave the lists that this sweep walks.
        let place = sweeps.firstIndex { $0.queue == queue && $0.action == .giveToWorkers } ?? sweeps.count
        sweeps.insert(sweep, at: place)
        if isJournaled { images.noteSweeps() }
        update(queue) { $0.sweeps += 1 }
        if sweep.target != 0 { update(sweep.target) { $0.sweeps += 1 } }
        return sweep.id
    }

    /// Makes the arrival times of later tasks differ from those of earlier ones, even within a millisecond. They may be
    /// ahead of the clock by as many milliseconds as purges begin within one.
    private mutating func beginArrivals(now: Int64) -> Int64 {
        firstArrival = min(arrivalTime(now: now) + 1, now + Self.maximumArrivalLead)
        return firstArrival
    }

    /// The arrival time of a task that is added now. O(1).
    @inline(__always)
    func arrivalTime(now: Int64) -> Int64 {
        // If the clock was set back, follow it.
        firstArrival > now && firstArrival <= now + Self.maximumArrivalLead ? firstArrival : now
    }

    private static var maximumArrivalLead: Int64 { 16 }

    /// Begins to end the tasks of a queue that have no retries left.
    mutating func beginWearingOut(_ queue: Slot) throws(BrokerError) {
        guard queues[queue].length > 0 else { return }
        try beginAnew(.wearOut, of: queue, states: [.ready, .delayed])
    }

    /// Begins to give the tasks of a queue to workers that were to be sent only because all tasks of the queue were.
    mutating func beginGivingToWorkers(_ queue: Slot) throws(BrokerError) {
        guard queues[queue].pushed.count > 0 else { return }
        try beginAnew(.giveToWorkers, of: queue, states: [.ready])
    }

    /// Begins a sweep without a completion. It replaces a sweep of the same kind that is under way.
    private mutating func beginAnew(
        _ action: Sweep.Action, of queue: Slot, states: [TaskState]
    ) throws(BrokerError) {
        if let index = sweeps.firstIndex(where: { $0.queue == queue && $0.action == action }) { _ = endSweep(index) }
        try beginSweep(of: queue, action, states: states, limit: .max, now: clock) { _ in }
    }

    /// Ends a sweep, by default the first.
    mutating func endSweep(_ index: Int = 0) -> Sweep {
        let sweep = sweeps.remove(at: index)
        if isJournaled { images.noteSweeps() }
        update(sweep.queue) { $0.sweeps -= 1 }
        if sweep.target != 0 { update(sweep.target) { $0.sweeps -= 1 } }
        return sweep
    }

    /// Applies a sweep to one task. A task that is due to end is left to its timer.
    mutating func apply(_ sweep: Sweep, to slot: Slot, now: Int64) -> Slot {
        guard tasks[slot].deadline > now else { return 0 }
        if sweep.isResumed, !sweep.positions.contains(images[slot].position) { return 0 }
        if let filter = sweep.filter, !selects(filter, slot) { return 0 }
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

    // Each of these methods returns nil if it does not change the task.

    private mutating func purge(_ slot: Slot) -> Slot? {
        if tasks[slot].state.isUnfinished {
            count(in: tasks[slot].queue) { $0.cancelled += 1 }
            noteEnd(of: slot, .cancelled)
        }
        remove(slot)
        return 0
    }

    /// Makes a dead task ready as if it were new, or ends the delay of a delayed task.
    mutating func kick(_ slot: Slot, now: Int64) -> Slot? {
        let queue = tasks[slot].queue
        guard tasks[slot].state == .dead || tasks[slot].state == .delayed, !isKeyTaken(from: slot, in: queue, now: now)
        else { return nil }
        takeKey(slot)
        let isDead = tasks[slot].state == .dead
        if isDead {
            countOverLength(in: queue)
            if extras(of: slot)?.crashes ?? 0 > 0 { withExtras(slot) { $0.crashes = 0 } }
        }
        return transition(slot, to: .ready, until: now) { record in
            // A task that was added with a delay expires after its end; a retry does not change the expiry.
            let expires = now.addingWithinRange(record.lifetimeMilliseconds)
            record.expires = isDead ? expires : min(record.expires, expires)
            if isDead { record.retries = 0 }
        }
    }

    /// Moves a ready task to the list where it belongs now.
    private mutating func giveToWorkers(_ slot: Slot) -> Slot? {
        guard tasks[slot].isPushed, !isToBeSent(slot) else { return nil }
        return transition(slot, to: .ready, until: tasks[slot].readySince, change: .any)
    }

    /// Returns a dead letter that no worker holds to the queue where it died, and makes it ready there.
    mutating func kickToOrigin(_ slot: Slot, now: Int64) -> Slot? {
        guard let origin = extras(of: slot)?.origin, !origin.isEmpty, tasks[slot].state.isMovable,
            let target = try? queue(named: origin.span)
        else { return nil }
        withExtras(slot) { extras in
            extras.endDeadLetter()
            extras.crashes = 0
        }
        return makeReady(slot, in: target, expiry: .unsaid, now: now)
    }

    /// Moves a task to the back of a list of another queue. A dead letter that leaves its dead-letter queue becomes an
    /// ordinary task, and lives as long as others in the other queue.
    mutating func move(_ slot: Slot, to target: Slot, now: Int64) -> Slot? {
        if !tasks[slot].state.isUnfinished { freeKey(of: slot, unlessUniqueAt: now) }
        guard tasks[slot].queue != target, !isKeyTaken(from: slot, in: target, now: now) else { return nil }
        let holdsKey = extras(of: slot)?.holdsKey ?? false
        if holdsKey { setHoldsKey(false, of: slot) }
        let state = tasks[slot].state
        let until = state == .ready ? now : tasks[slot].until
        var (lifetime, expires) = (tasks[slot].lifetimeMilliseconds, tasks[slot].expires)
        if isDeadLetter(slot) {
            // Before it is put into a list, because its request counts again.
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

    /// nil for a state that is not visible to clients.
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
