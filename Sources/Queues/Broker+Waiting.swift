// Waiting for tasks, or for the end of a task.
//
// Waiters are served in the order of their arrival, and a waiter that cannot be satisfied does not hold up those behind
// it.
//
// A new ready task must not cause a look at every waiter. So each waiter is registered under one queue that has too few
// tasks for it (its shortage), by the number of tasks that it needs from that queue. This number is always greater than
// the number of the queue's ready tasks. When the ready tasks grow to r, only the waiters registered with r can have
// enough: in the order of their arrival, each is completed, or registered under another queue that has too few tasks
// for it. A waiter for any task of several queues is registered under each of them. A paused queue counts as empty.
//
// Changes that belong together are one event: waiters are served after all of them, and can take any task that the
// event made ready. Within an event, the ready tasks of a queue may grow by more than one; then the waiters registered
// with any of the numbers in between can have enough.

extension Broker {
    /// The steps that calling a completion costs, besides one for each queue that the waiter names and those for its
    /// result.
    static let stepsPerCompletion = 10
    private static let bytesPerStep = 2048
    /// A cancelled wait that names more queues than this is taken out later, by `advance`.
    private static let namesToUnregisterAtOnce = 16

    /// Waits for a task for each name in `queues`. Call this after `take` returned false. O(queues).
    ///
    /// - Parameters:
    ///   - queues: the queues; a queue that is named twice gives two tasks.
    ///   - leaseMilliseconds: the lease of the tasks taken; nil for each task's own.
    ///   - worker: the worker's name, to be shown with the tasks taken; empty for none.
    ///   - deadline: when to end the wait with the tasks that are available.
    ///   - now: the time.
    ///   - completion: called once, but never from inside `wait`, and not at all if the wait is cancelled. It may look
    ///     at tasks, but must not call a method that changes the broker.
    /// - Returns: the wait, to be passed to `cancel`.
    public func wait(
        _ queues: [QueueIndex], leaseMilliseconds: Int64? = nil, worker: [UInt8] = [], deadline: Int64, now: Int64,
        completion: @escaping Waiter.Completion
    ) -> Waiter {
        beginChange()
        return begin(
            Waiter(
                .all(completion), queues: queues, leaseMilliseconds: leaseMilliseconds, worker: worker,
                deadline: deadline, arrival: arrivals), now: now)
    }

    /// Begins a wait for tasks.
    func begin(_ waiter: Waiter, now: Int64) -> Waiter {
        arrivals += 1
        for queue in waiter.distinctQueues { store.update(queue.slot) { $0.waits += 1 } }
        insert(waiter)
        workers.begin(waiter, now: now)
        register(waiter, under: shortage(of: waiter, now: now) ?? .unknown)
        return waiter
    }

    /// Cancels a wait, because its client has gone: it takes no tasks, and its completion is not called. Does nothing
    /// if the wait has ended. O(log n); `advance` frees the memory of a wait for many queues.
    public func cancel(_ waiter: Waiter) {
        beginChange()
        guard waiter.isWaiting, !waiter.isCancelled else { return }
        if waiter.queues.count <= Self.namesToUnregisterAtOnce { return end(waiter) }
        waiter.isCancelled = true
        agenda.cancelled.append(waiter)
    }

    /// Ends all waits: waits for tasks get none, waits for the end of a task get its state. O(n log n).
    public func completeAllWaiters(now: Int64) {
        beginChange()
        while let waiter = agenda.deadlines.first {
            if waiter.task != nil {
                complete(waiter, now: now)
            } else {
                end(waiter)
                if !waiter.isCancelled { call(waiter, with: Array(repeating: nil, count: waiter.count)) }
            }
        }
        serviceSteps = .max
        tellEnds()
    }

    /// Adds a waiter to the heap of deadlines.
    func insert(_ waiter: Waiter) {
        agenda.deadlines.insert(waiter)
        store.waiterBytes += waiter.byteCount
    }

    /// The queue that has too few tasks for a waiter; nil if all have enough.
    private func shortage(of waiter: Waiter, now: Int64) -> Shortage? {
        waiter.isForAny
            ? store.shortageOfAny(of: waiter.distinctQueues, now: now) : store.shortage(of: waiter.queues, now: now)
    }

    private func register(_ waiter: Waiter, under shortage: Shortage) {
        waiter.plan(for: shortage)
        guard !waiter.registrations.isEmpty else { return agenda.undecided.insert(waiter) }
        for registration in waiter.registrations {
            store.queues[registration.shortage.queue].waiters[registration.shortage.need, default: WaiterHeap()].insert(
                registration)
        }
    }

    private func unregister(_ waiter: Waiter) {
        guard !waiter.registrations.isEmpty else { return agenda.undecided.remove(waiter) }
        for registration in waiter.registrations {
            let shortage = registration.shortage
            store.queues[shortage.queue].waiters[shortage.need]?.remove(registration)
            if store.queues[shortage.queue].waiters[shortage.need]?.isEmpty == true {
                store.queues[shortage.queue].waiters[shortage.need] = nil
            }
        }
    }

    func end(_ waiter: Waiter) {
        waiter.isWaiting = false
        // Its task has ended, so the waiter is no longer in these structures.
        if waiter.isDue { return }
        agenda.deadlines.remove(waiter)
        store.waiterBytes -= waiter.byteCount
        if let task = waiter.task { return store.removeWaiter(waiter, of: task) }
        workers.end(waiter, now: store.clock)
        unregister(waiter)
        for queue in waiter.distinctQueues { store.update(queue.slot) { $0.waits -= 1 } }
    }

    /// Ends tasks at the front of queues that have expired or have no retries left, at most 1,000. O(queues), and O(1)
    /// for each such task.
    ///
    /// - Parameters:
    ///   - queues: the queues; a queue that is named twice gives two tasks.
    ///   - isForAny: whether one task of any of the queues is enough.
    ///   - now: the time.
    /// - Returns: whether `takeAvailable` and `takeAny` now find all available tasks. If not, use a wait whose deadline
    ///   is `now`: it finds them in slices.
    public func isDecided(_ queues: [QueueIndex], isForAny: Bool, now: Int64) -> Bool {
        beginChange()
        return store.isDecided(queues, isForAny: isForAny, now: now)
    }

    /// Ends a wait with the tasks that are available.
    func complete(_ waiter: Waiter, now: Int64) {
        end(waiter)
        if waiter.isCancelled { return }
        var taken: [TaskHandle?] = []
        let (queues, lease, worker) = (waiter.queues, waiter.leaseMilliseconds, waiter.worker)
        switch waiter.goal {
        case .all:
            taken.reserveCapacity(queues.count)
            store.takeAvailable(queues, leaseMilliseconds: lease, worker: worker, now: now, into: &taken)
        case .any(let limit, _):
            store.takeAny(queues, limit: limit, leaseMilliseconds: lease, worker: worker, now: now, into: &taken)
        case .result(let id, let completion):
            let slot = store.task(id)
            // A task that has just expired is reported in its former state: it ends only when its timer fires.
            let state = slot == 0 ? nil : TaskState(store.tasks[slot].state)
            isCompleting = true
            completion(state ?? .ready, Span())
            isCompleting = false
            return
        }
        call(waiter, with: taken)
    }

    /// Calls the completions of waiters whose task has ended, as far as the steps go.
    func tellEnds() {
        for ending in store.endings {
            for waiter in ending.waiters {
                waiter.isDue = true
                agenda.deadlines.remove(waiter)
                store.waiterBytes -= waiter.byteCount
            }
        }
        if !store.endings.isEmpty {
            agenda.endings += store.endings
            store.endings = []
        }
        while let last = agenda.endings.indices.last, serviceSteps > 0 {
            // The array must not be referenced elsewhere: removing a waiter would copy it.
            let waiter = agenda.endings[last].waiters.popLast()
            let ending = (state: agenda.endings[last].state, result: agenda.endings[last].result)
            if agenda.endings[last].waiters.isEmpty { agenda.endings.removeLast() }
            guard let waiter, waiter.isWaiting, case .result(_, let completion) = waiter.goal else { continue }
            waiter.isWaiting = false
            serviceSteps -= Self.stepsPerCompletion + ending.result.count / Self.bytesPerStep
            isCompleting = true
            completion(ending.state, ending.result.span)
            isCompleting = false
        }
    }

    private func call(_ waiter: Waiter, with taken: [TaskHandle?]) {
        switch waiter.goal {
        case .all(let completion), .any(_, let completion):
            isCompleting = true
            completion(taken)
            isCompleting = false
        case .result:
            break
        }
    }

    /// Completes a waiter that has enough, or registers it under a queue that has too few tasks for it.
    ///
    /// - Returns: whether the waiter was completed or is now registered elsewhere.
    @discardableResult
    private func reconsider(_ waiter: Waiter, now: Int64) -> Bool {
        if waiter.isCancelled {
            end(waiter)
            return true
        }
        guard let shortage = shortage(of: waiter, now: now) else {
            complete(waiter, now: now)
            return true
        }
        let isAsBefore =
            shortage.queue == 0
            ? waiter.registrations.isEmpty
            : waiter.isForAny
                ? !waiter.registrations.isEmpty : waiter.registrations.first?.shortage.queue == shortage.queue
        if isAsBefore { return false }
        unregister(waiter)
        register(waiter, under: shortage)
        return true
    }

    // MARK: Events

    /// Begins an event: waiters for tasks are served at `endEvent`, not before. Events may be nested.
    public func beginEvent() { openEvents += 1 }

    /// Ends an event: serves the waiters for tasks that have become ready since `beginEvent`. O(*q* log *q*) for the
    /// *q* queues with such tasks and waiters, and the cost of the waits that are completed.
    public func endEvent(now: Int64) {
        if openEvents == 1 { beginChange() }
        closeEvent(now: now)
    }

    /// Ends an event within the steps that the current call may still spend on waiters.
    func closeEvent(now: Int64) {
        precondition(openEvents > 0, "an event ended that had not begun")
        openEvents -= 1
        guard openEvents == 0, !agenda.awaited.isEmpty else { return }
        for place in agenda.awaited { store.queues[place.queue].isAwaited = false }
        if agenda.awaited.count == 1 {
            complete(waitersOf: agenda.awaited[0], now: now)
        } else {
            completeWaitersOfAwaitedQueues(now: now)
        }
        agenda.awaited.removeAll(keepingCapacity: agenda.awaited.capacity <= 1 << 10)
    }

    /// Calls the completions of waiters whose task has ended, and serves the waiters of a queue that has one more ready
    /// task, now or at the end of the event. `queue` is 0 if it has no waiters.
    @inline(__always)
    func serveWaiters(of queue: Slot, now: Int64) {
        if !store.endings.isEmpty { tellEnds() }
        if queue != 0 { noteReady(queue, now: now) }
    }

    private func noteReady(_ queue: Slot, now: Int64) {
        let place = AwaitedQueue(queue: queue, before: max(1, store.queues[queue].available) - 1)
        if openEvents == 0 { return complete(waitersOf: place, now: now) }
        if store.queues[queue].isAwaited { return }
        store.queues[queue].isAwaited = true
        agenda.awaited.append(place)
    }

    /// Completes the waiters that have enough, in the order of their arrival.
    ///
    /// The first waiter that has enough takes all ready tasks of the queue, unless it wants fewer or their content is
    /// too much for one answer. A waiter for which the queue still has too few, because some of the ready tasks had
    /// expired, is not looked at again.
    private func complete(waitersOf place: AwaitedQueue, now: Int64) {
        while let waiter = firstWaiter(of: place) {
            guard serviceSteps > 0 else { return resumeLater(place.queue) }
            serviceSteps -= waiter.queues.count + Self.stepsPerCompletion
            reconsider(waiter, now: now)
        }
    }

    /// Completes the waiters of all queues of the event that have enough, in the order of their arrival at any of the
    /// queues.
    private func completeWaitersOfAwaitedQueues(now: Int64) {
        // The queue whose first waiter arrived first is last.
        var places: [(arrival: UInt64, place: AwaitedQueue)] = agenda.awaited.compactMap { place in
            firstWaiter(of: place).map { ($0.arrival, place) }
        }
        places.sort { $0.arrival > $1.arrival }
        while let (arrival, place) = places.popLast() {
            // A waiter of another queue may have taken the tasks.
            guard let waiter = firstWaiter(of: place) else { continue }
            guard serviceSteps > 0 else {
                resumeLater(place.queue)
                continue
            }
            if waiter.arrival == arrival {
                serviceSteps -= waiter.queues.count + Self.stepsPerCompletion
                reconsider(waiter, now: now)
            }
            guard let next = firstWaiter(of: place)?.arrival else { continue }
            var (low, high) = (0, places.count)
            while low < high {
                let middle = (low + high) / 2
                if places[middle].arrival > next { low = middle + 1 } else { high = middle }
            }
            places.insert((next, place), at: low)
        }
    }

    /// The waiter that arrived first among those registered under a queue for which it may now have enough tasks. O(1)
    /// after one more task, otherwise O(different needs).
    private func firstWaiter(of place: AwaitedQueue) -> Waiter? {
        let available = store.queues[place.queue].available
        guard available > place.before else { return nil }
        if available - place.before == 1 { return store.queues[place.queue].waiters[available]?.first?.waiter }
        var first: Waiter?
        for (need, registrations) in store.queues[place.queue].waiters where need > place.before && need <= available {
            guard let waiter = registrations.first?.waiter else { continue }
            if waiter.arrival < first?.arrival ?? .max { first = waiter }
        }
        return first
    }

    /// Makes `advance` decide about the waiters of a queue that is no longer paused. Until then the queue counts as
    /// empty.
    func resumeLater(_ queue: Slot) {
        guard !store.queues[queue].waiters.isEmpty, store.queues[queue].pause != .resuming else { return }
        store.queues[queue].pause = .resuming
        agenda.resuming.append(queue)
    }

    /// Decides about the waiters of resumed queues and the undecided waiters.
    ///
    /// - Returns: whether all are decided. If not, tasks that were met and removed still have to be ended first.
    func settle(now: Int64, steps: inout Int) -> Bool {
        while let queue = agenda.resuming.last {
            while store.queues[queue].pause == .resuming,
                let waiter = store.queues[queue].waiters.first?.value.first?.waiter
            {
                guard steps > 0 else { return false }
                steps -= waiter.queues.count
                if waiter.isCancelled {
                    end(waiter)
                    continue
                }
                unregister(waiter)
                register(waiter, under: .unknown)
            }
            agenda.resuming.removeLast()
            if store.queues[queue].pause == .resuming { store.update(queue) { $0.pause = .none } }
        }
        while let waiter = agenda.undecided.first {
            guard steps > 0 else { return false }
            steps -= waiter.queues.count + Self.stepsPerCompletion
            guard reconsider(waiter, now: now) else { return false }
        }
        return true
    }

    /// Traps if a waiter is not registered where it should be.
    func checkWaiters() {
        var registered = agenda.undecided.count
        agenda.undecided.checkInvariants {
            precondition($0.registrations.isEmpty, "an undecided waiter is registered")
        }
        var waits: [Slot: UInt32] = [:]
        var waitsForTasks = 0
        store.queues.forEach { queue in
            for (need, registrations) in store.queues[queue].waiters {
                precondition(!registrations.isEmpty, "an empty heap of waiters was kept")
                precondition(need > store.queues[queue].available, "a waiter is registered where tasks suffice")
                registrations.checkInvariants { registration in
                    let waiter = registration.waiter
                    precondition(
                        registration.shortage.queue == queue && registration.shortage.need == need,
                        "a misregistered waiter")
                    precondition(
                        waiter.registrations.contains { $0 === registration },
                        "a registration that its waiter does not know")
                    let names = waiter.isForAny ? 1 : waiter.queues.count { $0.slot == queue }
                    precondition(names == Int(need), "a waiter needs another number than it is registered by")
                    if waiter.registrations.first === registration { registered += 1 }
                }
            }
            let isResuming = store.queues[queue].pause == .resuming
            precondition(!isResuming || agenda.resuming.contains(queue), "a queue stays paused")
        }
        agenda.deadlines.checkInvariants { waiter in
            precondition(waiter.isWaiting, "a wait that has ended has a deadline")
            for queue in waiter.distinctQueues { waits[queue.slot, default: 0] += 1 }
            registered += waiter.task == nil ? 0 : 1
            if waiter.task == nil { waitsForTasks += 1 }
            let expected = waiter.isForAny ? waiter.distinctQueues.count : 1
            precondition(
                waiter.registrations.isEmpty || waiter.registrations.count == expected,
                "a waiter is missing a registration")
        }
        precondition(registered == agenda.deadlines.count, "a waiter is registered more or less than once")
        workers.checkInvariants(waitCount: waitsForTasks)
        store.queues.forEach { queue in
            precondition(store.queues[queue].waits == waits[queue, default: 0], "a queue counts its waiters wrong")
        }
    }
}

/// A queue with waiters that has got ready tasks, and how many tasks were available before.
struct AwaitedQueue {
    var queue: Slot
    var before: UInt32
}
