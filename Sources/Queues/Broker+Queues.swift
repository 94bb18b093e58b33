// What is done to whole queues: purging, kicking, moving, pausing, configuring.

extension Broker {
    // MARK: A whole queue

    /// What is called when a purge, kick or move has ended: with how many tasks it was for.
    public typealias SweepCompletion = (Int) -> Void

    /// Deletes tasks in certain states without leaving records. For those who wait for its result, a task is cancelled.
    /// Done by `advance`, in slices, to what was there when it began. O(states) now, O(tasks) in all.
    ///
    /// - Parameters:
    ///   - queue: the queue.
    ///   - states: the states.
    ///   - now: the time.
    ///   - completion: called once, by `advance`.
    /// - Throws: `BrokerError.tooManySweeps`.
    public func purge(
        _ queue: QueueIndex, states: [TaskState] = [.ready, .delayed], now: Int64,
        completion: @escaping SweepCompletion
    ) throws(BrokerError) {
        beginChange()
        try store.beginSweep(of: queue.slot, .purge, states: states, limit: .max, now: now, completion: completion)
    }

    /// Makes dead tasks ready, their retries and expiry counted anew, or delayed ones, as if their delay were over. One whose key is
    /// taken meanwhile stays. The queue may become longer than its configuration says by this, and by `kickToOrigin` and `move`.
    /// Done by `advance`, in slices, to what was there when it began. O(1) now, O(tasks) in all.
    ///
    /// - Parameters:
    ///   - queue: the queue.
    ///   - state: `.dead` or `.delayed`.
    ///   - limit: how many at most.
    ///   - now: the time.
    ///   - completion: called once, by `advance`.
    /// - Throws: `BrokerError.tooManySweeps`.
    public func kick(
        _ queue: QueueIndex, state: TaskState = .dead, limit: Int = .max, now: Int64,
        completion: @escaping SweepCompletion
    ) throws(BrokerError) {
        beginChange()
        try store.beginSweep(of: queue.slot, .kick, states: [state], limit: limit, now: now, completion: completion)
    }

    /// Sends dead letters back to the queues where they died, ready there, their retries and expiry counted anew. One for
    /// which that queue cannot be made stays. Done as `kick`.
    ///
    /// - Parameters:
    ///   - queue: the queue.
    ///   - states: in which states, of `.ready`, `.delayed` and `.dead`.
    ///   - limit: how many at most.
    ///   - now: the time.
    ///   - completion: called once, by `advance`.
    /// - Throws: `BrokerError.tooManySweeps`.
    public func kickToOrigin(
        _ queue: QueueIndex, states: [TaskState] = [.ready, .delayed, .dead], limit: Int = .max, now: Int64,
        completion: @escaping SweepCompletion
    ) throws(BrokerError) {
        beginChange()
        try store.beginSweep(
            of: queue.slot, .kickToOrigin, states: states, limit: limit, now: now, completion: completion)
    }

    /// Moves tasks to the back of another queue, the first first. One whose key is taken there stays. Done as `kick`.
    ///
    /// - Parameters:
    ///   - queue: the queue.
    ///   - target: the other queue.
    ///   - state: `.ready`, `.delayed` or `.dead`.
    ///   - limit: how many at most.
    ///   - now: the time.
    ///   - completion: called once, by `advance`.
    /// - Throws: `BrokerError.tooManySweeps`.
    public func move(
        _ queue: QueueIndex, to target: QueueIndex, state: TaskState = .ready, limit: Int = .max, now: Int64,
        completion: @escaping SweepCompletion
    ) throws(BrokerError) {
        beginChange()
        let action = Sweep.Action.move(target: target.slot)
        try store.beginSweep(of: queue.slot, action, states: [state], limit: limit, now: now, completion: completion)
    }

    /// From now on, the queue counts as empty for those who take or wait. O(1).
    public func pause(_ queue: QueueIndex) {
        beginChange()
        if store.queues[queue.slot].pause == .paused { return }
        store.update(queue.slot) { $0.pause = .paused }
        store.noteQueue(queue.slot)
    }

    /// The queue gives out tasks again; those who wait get them by `advance`. O(1).
    public func resume(_ queue: QueueIndex) {
        beginChange()
        guard store.queues[queue.slot].pause == .paused else { return }
        store.noteQueue(queue.slot)
        store.update(queue.slot) { $0.pause = .none }
        resumeLater(queue.slot)
        store.noteSendableAnew(queue.slot)
    }

    /// Sets the configuration of a queue; nil for none. Tasks there that have no retries left by it die by `advance`, in
    /// slices; those that are not sent any more are given to workers likewise. O(1) now, O(tasks) in all.
    ///
    /// - Throws: `BrokerError.tooManySweeps`.
    public func configure(_ queue: QueueIndex, _ configuration: QueueConfiguration?) throws(BrokerError) {
        beginChange()
        let wasPushed = store.queues[queue.slot].isPushed
        let isPushed = configuration?.isPushed ?? false
        if wasPushed, !isPushed { try store.beginGivingToWorkers(queue.slot) }
        if configuration?.maximumRetries != nil { try store.beginWearingOut(queue.slot) }
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

    /// What applies to a queue: its configuration, completed by the defaults for all queues. O(1).
    public func completeConfiguration(of queue: QueueIndex) -> QueueConfiguration? {
        store.configuration(of: queue.slot)?.value
    }

    /// What queues leave unsaid; nil if that is as it always is. O(1).
    public var defaults: QueueConfiguration? { store.defaults?.own }

    /// Sets what queues leave unsaid; nil for nothing. It applies as a configuration does, but that tasks which have no retries
    /// left by it die when they would be tried again. O(1).
    ///
    /// - Precondition: it says nothing of sending.
    /// - Throws: `BrokerError.tooManyQueues`.
    public func setDefaults(_ defaults: QueueConfiguration?) throws(BrokerError) {
        precondition(
            defaults?.push.isEmpty ?? true && defaults?.isPushed != true, "defaults that say how tasks are sent")
        beginChange()
        try store.setDefaults(defaults)
    }

    /// Whether anything is known of a queue but its name: it has tasks, a configuration or waits, or is paused. O(1).
    public func isInUse(_ queue: QueueIndex) -> Bool { !store.queues[queue.slot].isIdle }

    /// Has the defaults not apply to queues of some names. To be called before there is any queue.
    public func exemptFromDefaults(where isExempt: @escaping (Span<UInt8>) -> Bool) {
        precondition(store.queues.count == 0, "there are queues already")
        store.isExempt = isExempt
    }

    /// What a queue holds and what has happened there. O(priorities in use).
    public func statistics(of queue: QueueIndex) -> QueueStatistics {
        store.statistics(of: queue.slot)
    }

    /// Calls `body` with the name and statistics of each queue that is known, sorted bytewise by name. O(n log n) in the
    /// number of queues.
    public func forEachQueue(_ body: (Span<UInt8>, QueueStatistics) -> Void) {
        for queue in store.queuesByName(where: { !$0.isPlaceOfDefaults }) {
            body(store.queues[queue].name.span, store.statistics(of: queue))
        }
    }
}
