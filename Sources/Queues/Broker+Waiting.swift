// Who waits for tasks, or for the end of one.
//
// Waiters are served in the order of their arrival, and one that cannot be satisfied holds nothing back. To find the waiters that
// a new ready task may complete without looking at all, each is registered under one queue that it lacks, by the number of tasks that
// it needs of it. That number is always greater than the queue's ready tasks; so when these grow to r, only those registered with r can
// have enough. In the order of their arrival, they are completed, or registered under another queue that they shortage. One that waits for
// any task of several queues lacks all of them and is registered under each. A paused queue counts as empty.
//
// What happens together is one event for those who wait: they are served when all of it is done, so that they choose among all
// that it has made ready. Within an event, ready tasks may grow by more than one; then those registered with any of the numbers in
// between can have enough.

extension Broker {
    /// What telling a client takes, beside the names of queues that it waits for and its result.
    static let stepsPerCompletion = 10
    private static let bytesPerStep = 2048
    /// How many queues a wait names at most that is taken out at once when it is cancelled.
    private static let namesToUnfileAtOnce = 16

    /// Waits for a task for each name in `queues`. Called when `take` has just said that there are not enough. O(queues).
    ///
    /// - Parameters:
    ///   - queues: the queues; one that is named twice gives two tasks.
    ///   - leaseMilliseconds: the lease of what is taken, if it is not the tasks' own.
    ///   - worker: a name to show with what is taken; empty for none.
    ///   - deadline: when to end with what is available.
    ///   - now: the time.
    ///   - completion: called once, never from inside `wait`, unless the wait is cancelled. It may look at tasks, but must
    ///     not call a method that changes the broker.
    /// - Returns: the wait, for `cancel`.
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
        register(waiter, under: shortage(of: waiter, now: now) ?? .unknown)
        return waiter
    }

    /// Ends a wait whose client has gone: it takes nothing and its completion is never called. Does nothing if it has ended.
    /// O(log n); what a wait for many queues takes up is given back by `advance`.
    public func cancel(_ waiter: Waiter) {
        beginChange()
        guard waiter.isWaiting, !waiter.isCancelled else { return }
        if waiter.queues.count <= Self.namesToUnfileAtOnce { return end(waiter) }
        waiter.isCancelled = true
        cancelled.append(waiter)
    }

    /// Ends all waits: those for tasks get nothing, those for the end of a task its state. O(n log n).
    public func completeAllWaiters(now: Int64) {
        beginChange()
        while let waiter = deadlines.first {
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

    /// Enters a waiter that waits until its deadline.
    func insert(_ waiter: Waiter) {
        deadlines.insert(waiter)
        memoryBytesOfWaiters += waiter.byteCount
    }

    /// What a waiter lacks; nil if it has enough.
    private func shortage(of waiter: Waiter, now: Int64) -> Shortage? {
        waiter.isForAny
            ? store.shortageOfAny(of: waiter.distinctQueues, now: now) : store.shortage(of: waiter.queues, now: now)
    }

    private func register(_ waiter: Waiter, under shortage: Shortage) {
        waiter.plan(for: shortage)
        guard !waiter.registrations.isEmpty else { return undecided.insert(waiter) }
        for registration in waiter.registrations {
            store.queues[registration.shortage.queue].waiters[registration.shortage.need, default: WaiterHeap()].insert(
                registration)
        }
    }

    private func unfile(_ waiter: Waiter) {
        guard !waiter.registrations.isEmpty else { return undecided.remove(waiter) }
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
        // Its task has ended, and it was about to be told.
        if waiter.isDue { return }
        deadlines.remove(waiter)
        memoryBytesOfWaiters -= waiter.byteCount
        if let task = waiter.task { return store.removeWaiter(waiter, of: task) }
        unfile(waiter)
        for queue in waiter.distinctQueues { store.update(queue.slot) { $0.waits -= 1 } }
    }

    /// Takes out expired and worn out tasks that stand before what there is to take from queues, 1,000 at most. O(queues), and
    /// O(1) for each of these.
    ///
    /// - Parameters:
    ///   - queues: the queues; one that is named twice gives two tasks.
    ///   - isForAny: whether a task of any of them is enough.
    ///   - now: the time.
    /// - Returns: whether what there is can be told now: `takeAvailable` and `takeAny` find it. If not, a wait whose deadline is
    ///   `now` tells it, in slices.
    public func isDecided(_ queues: [QueueIndex], isForAny: Bool, now: Int64) -> Bool {
        beginChange()
        return store.isDecided(queues, isForAny: isForAny, now: now)
    }

    /// Ends a wait with what is available.
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
            // One that has just expired is told as it was: its end is not known before its timer fires.
            let state = slot == 0 ? nil : TaskState(store.tasks[slot].state)
            isCompleting = true
            completion(state ?? .ready, Span())
            isCompleting = false
            return
        }
        call(waiter, with: taken)
    }

    /// Tells those who waited for the end of a task, as far as the steps go.
    func tellEnds() {
        for ending in store.endings {
            for waiter in ending.waiters {
                waiter.isDue = true
                deadlines.remove(waiter)
                memoryBytesOfWaiters -= waiter.byteCount
            }
        }
        endings += store.endings
        store.endings = []
        while let last = endings.indices.last, serviceSteps > 0 {
            // Nothing else may hold the waiters now: taking one out would copy them all.
            let waiter = endings[last].waiters.popLast()
            let ending = (state: endings[last].state, result: endings[last].result)
            if endings[last].waiters.isEmpty { endings.removeLast() }
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

    /// Completes a waiter that has enough, or registers it under a queue that it lacks.
    ///
    /// - Returns: whether it is registered elsewhere than before, or completed.
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
        unfile(waiter)
        register(waiter, under: shortage)
        return true
    }

    // MARK: Events

    /// What is done until `endEvent` is one event for those who wait for tasks: they are served then. Events may be nested.
    public func beginEvent() { openEvents += 1 }

    /// Serves those who wait for what has become ready since `beginEvent`. O(queues log queues) of those that they wait for, and
    /// what the waiters take that are completed.
    public func endEvent(now: Int64) {
        if openEvents == 1 { beginChange() }
        closeEvent(now: now)
    }

    /// Ends an event within what the call under way may still spend on those who wait.
    func closeEvent(now: Int64) {
        precondition(openEvents > 0, "an event ends that has not begun")
        openEvents -= 1
        guard openEvents == 0, !awaited.isEmpty else { return }
        for place in awaited { store.queues[place.queue].isAwaited = false }
        if awaited.count == 1 {
            complete(waitersOf: awaited[0], now: now)
        } else {
            completeWaitersOfAwaitedQueues(now: now)
        }
        awaited.removeAll(keepingCapacity: awaited.capacity <= 1 << 10)
    }

    /// Tells those who waited for the end of a task, and serves those who wait for tasks of a queue that has got one more ready
    /// task, or has that done at the end of the event. `queue` is 0 if nobody waits for it.
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
        awaited.append(place)
    }

    /// Completes the waiters that have enough, in the order of their arrival.
    ///
    /// The first who has enough takes all that the queue has, unless it is too much content for one answer or more than it
    /// wants. One that still lacks the queue, because some of the ready tasks had expired, is not met again.
    private func complete(waitersOf place: AwaitedQueue, now: Int64) {
        while let waiter = firstWaiter(of: place) {
            guard serviceSteps > 0 else { return resumeLater(place.queue) }
            serviceSteps -= waiter.queues.count + Self.stepsPerCompletion
            reconsider(waiter, now: now)
        }
    }

    /// Does that for all queues of the event, since those who wait for several of them came in one order.
    private func completeWaitersOfAwaitedQueues(now: Int64) {
        // The one whose first waiter came first stands last.
        var places: [(arrival: UInt64, place: AwaitedQueue)] = awaited.compactMap { place in
            firstWaiter(of: place).map { ($0.arrival, place) }
        }
        places.sort { $0.arrival > $1.arrival }
        while let (arrival, place) = places.popLast() {
            // Another queue's waiter may have taken what this one's would have got.
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

    /// The first to have come of the waiters registered under a queue that it may have enough for by now. O(1) after one more task,
    /// otherwise O(kinds of waiters).
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

    /// Has `advance` decide about those who wait for a queue that is not paused. Until then it counts as empty.
    func resumeLater(_ queue: Slot) {
        guard !store.queues[queue].waiters.isEmpty, store.queues[queue].pause != .resuming else { return }
        store.queues[queue].pause = .resuming
        resuming.append(queue)
    }

    /// Decides about those who wait for a queue that gives out tasks again, and about the undecided.
    ///
    /// - Returns: whether all is decided. If not, tasks that a take has met and taken out are still to be ended.
    func settle(now: Int64, steps: inout Int) -> Bool {
        while let queue = resuming.last {
            while store.queues[queue].pause == .resuming,
                let waiter = store.queues[queue].waiters.first?.value.first?.waiter
            {
                guard steps > 0 else { return false }
                steps -= waiter.queues.count
                if waiter.isCancelled {
                    end(waiter)
                    continue
                }
                unfile(waiter)
                register(waiter, under: .unknown)
            }
            resuming.removeLast()
            if store.queues[queue].pause == .resuming { store.update(queue) { $0.pause = .none } }
        }
        while let waiter = undecided.first {
            guard steps > 0 else { return false }
            steps -= waiter.queues.count + Self.stepsPerCompletion
            guard reconsider(waiter, now: now) else { return false }
        }
        return true
    }

    /// Checks where waiters are registered, and traps where that does not fit.
    func checkWaiters() {
        var registered = undecided.count
        undecided.checkInvariants { precondition($0.registrations.isEmpty, "an undecided waiter is registered") }
        var waits: [Slot: UInt32] = [:]
        store.queues.forEach { queue in
            for (need, registrations) in store.queues[queue].waiters {
                precondition(!registrations.isEmpty, "an empty heap of waiters was kept")
                precondition(need > store.queues[queue].available, "a waiter is registered where it lacks nothing")
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
            precondition(store.queues[queue].pause != .resuming || resuming.contains(queue), "a queue stays paused")
        }
        deadlines.checkInvariants { waiter in
            precondition(waiter.isWaiting, "a wait that has ended has a deadline")
            for queue in waiter.distinctQueues { waits[queue.slot, default: 0] += 1 }
            registered += waiter.task == nil ? 0 : 1
            let expected = waiter.isForAny ? waiter.distinctQueues.count : 1
            precondition(
                waiter.registrations.isEmpty || waiter.registrations.count == expected,
                "a waiter is registered too rarely")
        }
        precondition(registered == deadlines.count, "a waiter is registered more or less than once")
        store.queues.forEach { queue in
            precondition(store.queues[queue].waits == waits[queue, default: 0], "a queue miscounts who waits for it")
        }
    }
}

/// A queue that has got ready tasks for which clients wait, and how many it had to take before.
struct AwaitedQueue {
    var queue: Slot
    var before: UInt32
}
