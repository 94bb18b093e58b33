// Operations on whole queues: purging, kicking, moving, pausing, configuring.

extension Broker {
    // MARK: A whole queue

    /// Called when a purge, kick or move has ended.
    public typealias SweepCompletion = (SweepEnd) -> Void

    /// Deletes tasks in certain states without keeping records. Waits for the result of such a task end with the state
    /// cancelled. `advance` does the work in slices, for the tasks that exist now. O(states) now, O(tasks) in all.
    ///
    /// - Parameters:
    ///   - queue: the queue.
    ///   - states: the states.
    ///   - filter: which tasks; nil for all.
    ///   - now: the time.
    ///   - completion: called once, by `advance` or by `stopSweep`.
    /// - Returns: its id (`sweeps`).
    /// - Throws: `BrokerError.tooManySweeps`.
    @discardableResult
    public func purge(
        _ queue: QueueIndex, states: [TaskState] = [.ready, .delayed], filter: TaskFilter? = nil, now: Int64,
        completion: @escaping SweepCompletion
    ) throws(BrokerError) -> UInt64 {
        beginChange()
        return try store.beginSweep(
            of: queue.slot, .purge, states: states, filter: filter, limit: .max, now: now, completion: completion)
    }

    /// Makes dead tasks ready, with their retries and their expiry reset, or ends the delays of delayed tasks. Tasks
    /// whose key has been taken meanwhile stay. This, `kickToOrigin` and `move` may exceed a queue's maximum length.
    /// `advance` does the work in slices, for the tasks that exist now. O(1) now, O(tasks) in all.
    ///
    /// - Parameters:
    ///   - queue: the queue.
    ///   - state: `.dead` or `.delayed`.
    ///   - filter: which tasks; nil for all.
    ///   - limit: the maximum number of tasks to change.
    ///   - now: the time.
    ///   - completion: called once, by `advance` or by `stopSweep`.
    /// - Returns: its id (`sweeps`).
    /// - Throws: `BrokerError.tooManySweeps`.
    @discardableResult
    public func kick(
        _ queue: QueueIndex, state: TaskState = .dead, filter: TaskFilter? = nil, limit: Int = .max, now: Int64,
        completion: @escaping SweepCompletion
    ) throws(BrokerError) -> UInt64 {
        beginChange()
        return try store.beginSweep(
            of: queue.slot, .kick, states: [state], filter: filter, limit: limit, now: now, completion: completion)
    }

    /// Returns dead letters to the queues where they died and makes them ready there, with their retries and their
    /// expiry reset. A dead letter stays if that queue cannot be made. `advance` does the work as for `kick`.
    ///
    /// - Parameters:
    ///   - queue: the queue.
    ///   - states: the states of the dead letters, out of `.ready`, `.delayed` and `.dead`.
    ///   - filter: which tasks; nil for all.
    ///   - limit: the maximum number of tasks to change.
    ///   - now: the time.
    ///   - completion: called once, by `advance` or by `stopSweep`.
    /// - Returns: its id (`sweeps`).
    /// - Throws: `BrokerError.tooManySweeps`.
    @discardableResult
    public func kickToOrigin(
        _ queue: QueueIndex, states: [TaskState] = [.ready, .delayed, .dead], filter: TaskFilter? = nil,
        limit: Int = .max, now: Int64, completion: @escaping SweepCompletion
    ) throws(BrokerError) -> UInt64 {
        beginChange()
        return try store.beginSweep(
            of: queue.slot, .kickToOrigin, states: states, filter: filter, limit: limit, now: now,
            completion: completion)
    }

    /// Moves tasks to the back of another queue, oldest first. Tasks whose key exists there stay. `advance` does the
    /// work as for `kick`.
    ///
    /// - Parameters:
    ///   - queue: the queue.
    ///   - target: the other queue.
    ///   - state: `.ready`, `.delayed` or `.dead`.
    ///   - filter: which tasks; nil for all.
    ///   - limit: the maximum number of tasks to change.
    ///   - now: the time.
    ///   - completion: called once, by `advance` or by `stopSweep`.
    /// - Returns: its id (`sweeps`).
    /// - Throws: `BrokerError.tooManySweeps`.
    @discardableResult
    public func move(
        _ queue: QueueIndex, to target: QueueIndex, state: TaskState = .ready, filter: TaskFilter? = nil,
        limit: Int = .max, now: Int64, completion: @escaping SweepCompletion
    ) throws(BrokerError) -> UInt64 {
        beginChange()
        let action = Sweep.Action.move(target: target.slot)
        return try store.beginSweep(
            of: queue.slot, action, states: [state], filter: filter, limit: limit, now: now, completion: completion)
    }

    /// Pauses a queue: it counts as empty for takes and waits. O(1).
    ///
    /// - Parameters:
    ///   - queue: the queue. One that is paused stays so, since the same time.
    ///   - now: the time.
    public func pause(_ queue: QueueIndex, now: Int64) {
        beginChange()
        if store.queues[queue.slot].pause == .paused { return }
        store.setPaused(true, queue.slot, since: now)
        store.noteQueue(queue.slot)
    }

    /// Resumes a queue. `advance` serves its waiters. O(1).
    public func resume(_ queue: QueueIndex) {
        beginChange()
        guard store.queues[queue.slot].pause == .paused else { return }
        store.noteQueue(queue.slot)
        store.setPaused(false, queue.slot)
        resumeLater(queue.slot)
        store.noteSendableAnew(queue.slot)
    }

    /// Whether a queue is paused. O(1).
    public func isPaused(_ queue: QueueIndex) -> Bool { store.queues[queue.slot].pause == .paused }

    /// Whether a queue has its maximum length, so that it takes no task. O(1).
    public func isFull(_ queue: QueueIndex) -> Bool { store.isFull(queue.slot) }

    /// Sets the configuration of a queue; nil removes it. In slices, `advance` makes tasks dead that have no retries
    /// left under it, or too many leases behind them, and makes tasks that push no longer sends available to workers.
    /// O(1) now, O(tasks) in all.
    ///
    /// - Throws: `BrokerError.tooManySweeps`.
    public func configure(_ queue: QueueIndex, _ configuration: QueueConfiguration?) throws(BrokerError) {
        beginChange()
        let wasPushed = store.queues[queue.slot].isPushed
        let isPushed = configuration?.isPushed ?? false
        if wasPushed, !isPushed { try store.beginGivingToWorkers(queue.slot) }
        if configuration?.maximumRetries != nil || configuration?.maximumCrashes != nil {
            try store.beginWearingOut(queue.slot)
        }
        store.setConfiguration(configuration, of: queue.slot)
        store.update(queue.slot) { $0.isPushed = isPushed }
        store.noteQueue(queue.slot)
        store.noteSendableAnew(queue.slot)
        if wasPushed, !isPushed, store.queues[queue.slot].pause == .none { resumeLater(queue.slot) }
    }

    /// The configuration of a queue, if it has one. O(1).
    public func configuration(of queue: QueueIndex) -> QueueConfiguration? {
        store.queues[queue.slot].configuration?.own
    }

    /// The configuration of a queue, completed by the defaults for all queues. O(1).
    public func completeConfiguration(of queue: QueueIndex) -> QueueConfiguration? {
        store.configuration(of: queue.slot)?.value
    }

    /// Whether a queue's configuration, or the defaults for all queues, hide the content of its tasks. O(1).
    public func hidesContent(of queue: QueueIndex) -> Bool {
        store.configuration(of: queue.slot)?.value.showsContent == false
    }

    /// The defaults for all queues; nil if none are set. O(1).
    public var defaults: QueueConfiguration? { store.defaults?.own }

    /// Sets the defaults for all queues; nil removes them. They apply as a configuration does, except that a task with
    /// no retries left under them becomes dead only when it would be retried. O(1).
    ///
    /// - Precondition: `defaults` has no push options.
    /// - Throws: `BrokerError.tooManyQueues`.
    public func setDefaults(_ defaults: QueueConfiguration?) throws(BrokerError) {
        precondition(
            defaults?.push.isEmpty ?? true && defaults?.isPushed != true, "defaults that say how tasks are sent")
        beginChange()
        try store.setDefaults(defaults)
    }

    /// Whether a queue has tasks, a configuration or waits, or is paused. O(1).
    public func isInUse(_ queue: QueueIndex) -> Bool { !store.queues[queue.slot].isIdle }

    /// Exempts queues with some names from the defaults. Call this before there is any queue.
    public func exemptFromDefaults(where isExempt: @escaping (Span<UInt8>) -> Bool) {
        precondition(store.queues.count == 0, "there are queues already")
        store.isExempt = isExempt
    }

    /// The statistics of a queue. O(priorities in use).
    public func statistics(of queue: QueueIndex) -> QueueStatistics {
        store.statistics(of: queue.slot)
    }
}
