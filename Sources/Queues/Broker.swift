// The broker: takes tasks in, gives them out, and gets them back when they fail. It does no I/O and reads no clock.
//
// `TaskStore` keeps the tasks and queues; here is who waits for them. Waiters are served in the order of their arrival,
// and one that cannot be satisfied holds nothing back. To find the waiters that a new ready task may complete without
// looking at all, each is filed under one queue that it lacks, by the number of tasks that it needs of it. That number is
// always greater than the queue's ready tasks; so when these grow to r, only those filed with r can have enough. In the
// order of their arrival, they are completed, or filed under another queue that they lack.

import UID

/// A broker of tasks.
///
/// Every method runs on the executor that the broker was made with. `now` is the time in milliseconds since the Unix
/// epoch; it should not go backwards (if it does, tasks may come back, expire or be given out a little early or late, and
/// nothing else happens).
public actor Broker {
    nonisolated private let executor: any SerialExecutor
    private var store: TaskStore
    private var deadlines = WaiterHeap<ByDeadline>()
    /// Those filed under no queue: so many tasks had just expired that one call could not tell what they lack. `advance`
    /// finds out when it has removed these.
    private var undecided = WaiterHeap<ByArrival>()
    private var arrivals: UInt64 = 0
    private var isCompleting = false

    /// The executor that the broker was made with.
    public nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    /// A broker without tasks.
    ///
    /// - Parameters:
    ///   - executor: where the broker runs; the broker keeps it alive.
    ///   - firstToken: the token of the first dispatch; each further one gets the next number.
    ///   - now: the time.
    ///   - maximumContentBytes: how much content, beyond that of the first task, is dispatched or shown at once. What does
    ///     not fit is left where it is: where `take` would give it, there is nil.
    ///   - maximumTasks: for how many tasks to reserve address space (112 bytes each). If the system gives less, the limit
    ///     is lower.
    public init(
        executor: any SerialExecutor, firstToken: UInt64, now: Int64, maximumContentBytes: Int = 64 << 20,
        maximumTasks: Int = 1 << 28
    ) {
        self.executor = executor
        store = TaskStore(
            firstToken: firstToken, now: now, maximumContentBytes: maximumContentBytes, maximumTasks: maximumTasks)
    }

    // MARK: Queues

    /// Finds or makes the queue of a name. O(1).
    ///
    /// - Returns: the queue, valid until the next `advance`, or until 1,000 further names were looked up.
    /// - Throws: `BrokerError.tooManyQueues`.
    public func queue(named name: Span<UInt8>) throws(BrokerError) -> QueueIndex {
        QueueIndex(slot: try store.queue(named: name))
    }

    /// The queue of a name if there is one, valid until the next `advance`. O(1).
    public func existingQueue(named name: Span<UInt8>) -> QueueIndex? {
        let slot = store.existingQueue(named: name, hash: QueueRecord.hash(of: name))
        return slot == 0 ? nil : QueueIndex(slot: slot)
    }

    /// Calls `body` with the name of each queue that holds a task, sorted bytewise; after `advance`, an expired one does
    /// not count. O(n log n) in the number of queues.
    public func forEachQueueName(_ body: (Span<UInt8>) -> Void) {
        for name in store.namesOfQueuesWithTasks().sorted(by: { $0.lexicographicallyPrecedes($1) }) {
            body(name.span)
        }
    }

    // MARK: Tasks

    /// Adds a task to the back of a queue. O(1), and what the waiter that it completes takes.
    ///
    /// - Parameters:
    ///   - id: its id, which no other task has.
    ///   - queue: its queue.
    ///   - content: its content; the bytes are copied.
    ///   - leaseMilliseconds: how long a worker may hold it.
    ///   - expires: when it is deleted. One whose time has come is not added.
    ///   - now: the time.
    /// - Throws: `BrokerError.tooManyTasks`, `.outOfMemory`.
    public func enqueue(
        id: UID, in queue: QueueIndex, content: Span<UInt8>, leaseMilliseconds: Int64, expires: Int64, now: Int64
    ) throws(BrokerError) {
        assertMayChange()
        guard expires > now else { return }
        let waitedFor = try store.add(
            id: id, queue: queue.slot, content: content, leaseMilliseconds: leaseMilliseconds, expires: expires,
            now: now)
        serveWaiters(of: waitedFor, now: now)
    }

    /// Dispatches a task for each name in `queues`, all or none. O(queues).
    ///
    /// While more than 1,000 tasks before them have expired and `advance` has not yet removed them, those behind these are
    /// not there to take; waiting gets them.
    ///
    /// - Parameters:
    ///   - queues: the queues; one that is named twice gives two tasks.
    ///   - leaseMilliseconds: the lease of what is taken, if it is not the tasks' own.
    ///   - now: the time.
    ///   - taken: gets the tasks in the order of `queues`; emptied first.
    /// - Returns: whether there were enough. If not, nothing was taken.
    public func take(
        _ queues: [QueueIndex], leaseMilliseconds: Int64? = nil, now: Int64, into taken: inout [TaskHandle?]
    ) -> Bool {
        assertMayChange()
        taken.removeAll(keepingCapacity: true)
        return store.take(queues, leaseMilliseconds: leaseMilliseconds, now: now, into: &taken)
    }

    /// Dispatches a task for each name in `queues` as far as there are any; `taken` gets nil where there is none. O(queues).
    ///
    /// The parameters are those of `take`.
    public func takeAvailable(
        _ queues: [QueueIndex], leaseMilliseconds: Int64? = nil, now: Int64, into taken: inout [TaskHandle?]
    ) {
        assertMayChange()
        taken.removeAll(keepingCapacity: true)
        store.takeAvailable(queues, leaseMilliseconds: leaseMilliseconds, now: now, into: &taken)
    }

    /// The work is done: deletes a dispatched task. O(1).
    ///
    /// - Returns: whether that task, or that dispatch of it, was held at `now`.
    public func ack(_ reference: TaskReference, now: Int64) -> Bool {
        assertMayChange()
        return store.ack(reference, now: now)
    }

    /// The work failed: a dispatched task goes to the back of its queue. O(1), and what the waiter that it completes takes.
    ///
    /// - Returns: whether that task, or that dispatch of it, was held at `now`.
    public func nak(_ reference: TaskReference, now: Int64) -> Bool {
        assertMayChange()
        guard let waitedFor = store.nak(reference, now: now) else { return false }
        serveWaiters(of: waitedFor, now: now)
        return true
    }

    /// The task never reached its worker: it goes to the front of its queue. Does nothing if that dispatch is over. O(1),
    /// and what the waiter that it completes takes.
    public func release(_ dispatch: DispatchKey, now: Int64) {
        assertMayChange()
        serveWaiters(of: store.release(dispatch, now: now), now: now)
    }

    // MARK: Looking at tasks

    /// Calls `body` with a task that was just dispatched. O(1).
    public func withTask<Result>(_ handle: TaskHandle, _ body: (borrowing TaskView) -> Result) -> Result {
        view(store.record(of: handle), at: handle.key.slot, body)
    }

    /// Calls `body` with up to `limit` ready tasks of a queue, in the order in which they would be dispatched.
    ///
    /// O(`limit`). While more than 1,000 tasks among them have expired and `advance` has not yet removed them, it shows none
    /// behind these.
    public func peek(_ queue: QueueIndex, limit: Int, now: Int64, _ body: (borrowing TaskView) -> Void) {
        var slot = store.queues[queue.slot].ready.first
        var shown = 0
        var patience = TaskStore.patience
        var room = Int.max
        while slot != 0 && shown < limit && patience > 0 {
            if store.tasks[slot].expires > now {
                guard store.tasks[slot].content.count <= room else { return }
                room = min(room - Int(store.tasks[slot].content.count), store.maximumContentBytes)
                view(store.tasks[slot], at: slot, body)
                shown += 1
            } else {
                patience -= 1
            }
            slot = store.tasks[slot][links: TaskRecord.queueLinks].next
        }
    }

    /// `record` is a copy, and so is the name, so that `body` may ask the broker for more.
    private func view<Result>(
        _ record: TaskRecord, at slot: Slot, _ body: (borrowing TaskView) -> Result
    ) -> Result {
        let name = store.queues[record.queue].name
        return body(TaskView(slot: slot, record: record, queueName: name.span, content: record.content.span))
    }

    // MARK: Waiting

    /// Waits for a task for each name in `queues`. Called when `take` has just said that there are not enough. O(queues).
    ///
    /// - Parameters:
    ///   - queues: the queues; one that is named twice gives two tasks.
    ///   - leaseMilliseconds: the lease of what is taken, if it is not the tasks' own.
    ///   - deadline: when to end with what is available.
    ///   - now: the time.
    ///   - completion: called once, never from inside `wait`, unless the wait is cancelled. It may look at tasks, but must
    ///     not call a method that changes the broker.
    /// - Returns: the wait, for `cancel`.
    public func wait(
        _ queues: [QueueIndex], leaseMilliseconds: Int64? = nil, deadline: Int64, now: Int64,
        completion: @escaping Waiter.Completion
    ) -> Waiter {
        assertMayChange()
        let waiter = Waiter(
            queues: queues, leaseMilliseconds: leaseMilliseconds, deadline: deadline, arrival: arrivals,
            completion: completion)
        arrivals += 1
        for queue in queues { store.update(queue.slot) { $0.waits += 1 } }
        deadlines.insert(waiter)
        file(waiter, under: store.lack(of: queues, now: now) ?? .unknown)
        return waiter
    }

    /// Ends a wait whose client has gone: it takes nothing and its completion is never called. Does nothing if it has ended.
    public func cancel(_ waiter: Waiter) {
        assertMayChange()
        if waiter.isWaiting { end(waiter) }
    }

    /// Ends all waits: their completions are called with nil for each queue, and nothing is taken. O(n log n).
    public func completeAllWaiters(now: Int64) {
        assertMayChange()
        while let waiter = deadlines.first {
            end(waiter)
            call(waiter, with: Array(repeating: nil, count: waiter.queues.count))
        }
    }

    private func file(_ waiter: Waiter, under lack: Lack) {
        waiter.lack = lack
        guard lack.queue != 0 else { return undecided.insert(waiter) }
        store.queues[lack.queue].waiters[lack.need, default: WaiterHeap()].insert(waiter)
    }

    private func unfile(_ waiter: Waiter) {
        let lack = waiter.lack
        guard lack.queue != 0 else { return undecided.remove(waiter) }
        store.queues[lack.queue].waiters[lack.need]?.remove(waiter)
        if store.queues[lack.queue].waiters[lack.need]?.isEmpty == true {
            store.queues[lack.queue].waiters[lack.need] = nil
        }
    }

    private func end(_ waiter: Waiter) {
        waiter.isWaiting = false
        unfile(waiter)
        deadlines.remove(waiter)
        for queue in waiter.queues { store.update(queue.slot) { $0.waits -= 1 } }
    }

    /// Ends a wait with what is available.
    private func complete(_ waiter: Waiter, now: Int64) {
        end(waiter)
        var taken: [TaskHandle?] = []
        taken.reserveCapacity(waiter.queues.count)
        store.takeAvailable(waiter.queues, leaseMilliseconds: waiter.leaseMilliseconds, now: now, into: &taken)
        call(waiter, with: taken)
    }

    private func call(_ waiter: Waiter, with taken: [TaskHandle?]) {
        isCompleting = true
        waiter.completion(taken)
        isCompleting = false
    }

    private func assertMayChange() {
        assert(!isCompleting, "a completion changed the broker")
    }

    /// Completes a waiter that has enough, or files it under a queue that it lacks.
    ///
    /// - Returns: whether it is filed elsewhere than before, or completed.
    private func reconsider(_ waiter: Waiter, now: Int64) -> Bool {
        guard let lack = store.lack(of: waiter.queues, now: now) else {
            complete(waiter, now: now)
            return true
        }
        guard lack.queue != waiter.lack.queue else { return false }
        unfile(waiter)
        file(waiter, under: lack)
        return true
    }

    /// Completes waiters that have enough now that the queue has got one more ready task. `queue` is 0 if nobody waits
    /// for it.
    ///
    /// The first who has enough takes all that the queue has, unless it is too much content for one answer. One that still
    /// lacks the queue, because some of the ready tasks had expired, is not alone with that.
    private func serveWaiters(of queue: Slot, now: Int64) {
        guard queue != 0 else { return }
        while let waiter = store.queues[queue].waiters[store.queues[queue].ready.count]?.first,
            reconsider(waiter, now: now)
        {}
    }

    /// Decides about the undecided waiters; no expired task is in their way now. Returns whether none is left.
    private func settle(now: Int64, steps: inout Int) -> Bool {
        while let waiter = undecided.first {
            guard steps > 0 else { return false }
            steps -= waiter.queues.count
            precondition(reconsider(waiter, now: now), "what lacks cannot be told after all that expired is gone")
        }
        return true
    }

    // MARK: Time

    /// Does what is due: expired tasks are deleted, leases that ran out end, waits end at their deadlines, all in the order
    /// of their times, and at one time in that order and that of their setting. Also forgets the longest unused of the
    /// queues that hold nothing, beyond 1,000, and gives unused memory back.
    ///
    /// - Parameters:
    ///   - now: the time.
    ///   - limit: how much to do in this call at most, in timers moved and names of queues waited for.
    /// - Returns: true when nothing is left that is due; false when there may be more, to be done by calling again.
    public func advance(to now: Int64, limit: Int = 2000) -> Bool {
        assertMayChange()
        precondition(limit > 0)
        let now = max(now, store.timers.now)
        var steps = limit
        while true {
            let waiter = deadlines.first.flatMap { $0.deadline <= now ? $0 : nil }
            while let waitedFor = store.fireTimer(upTo: waiter?.deadline ?? now, now: now, steps: &steps) {
                serveWaiters(of: waitedFor, now: now)
            }
            guard steps > 0 else { return false }
            guard let waiter else { return settle(now: now, steps: &steps) && store.tidy(steps: &steps) }
            guard waiter.isWaiting else { continue }
            steps -= waiter.queues.count
            complete(waiter, now: now)
        }
    }

    /// When `advance` should be called next: not after the next thing is due, and maybe a few times before; 0 if something
    /// is overdue, nil if nothing will ever be due. O(1).
    public var nextDeadline: Int64? {
        if !undecided.isEmpty { return 0 }
        return switch (store.timers.nextDeadline, deadlines.first?.deadline) {
        case (let timer?, let wait?): min(timer, wait)
        case (let timer, let wait): timer ?? wait
        }
    }

    /// How much the broker holds.
    public struct Counts: Hashable, Sendable {
        /// All tasks.
        public var tasks: Int
        /// Those that wait to be dispatched.
        public var ready: Int
        /// Those that a worker holds.
        public var dispatched: Int
        /// Waits that have not ended.
        public var waiters: Int
        /// Queues, idle ones included.
        public var queues: Int
    }

    /// How much the broker holds; what has expired counts until its timer has fired. O(1).
    public var counts: Counts {
        Counts(
            tasks: store.tasks.count, ready: store.tasks.count - store.dispatchedCount,
            dispatched: store.dispatchedCount, waiters: deadlines.count, queues: store.queues.count)
    }

    /// Checks all of the broker's structures against each other, and traps where they do not fit. O(n). For tests.
    public func checkInvariants() {
        precondition(!isCompleting)
        store.checkInvariants()
        var filed = undecided.count
        undecided.checkInvariants { precondition($0.lack.queue == 0, "a misfiled waiter") }
        var waits: [Slot: UInt32] = [:]
        store.queues.forEach { queue in
            for (need, waiters) in store.queues[queue].waiters {
                precondition(!waiters.isEmpty, "an empty heap of waiters was kept")
                precondition(need > store.queues[queue].ready.count, "a waiter is filed where it lacks nothing")
                filed += waiters.count
                waiters.checkInvariants { waiter in
                    precondition(waiter.lack.queue == queue && waiter.lack.need == need, "a misfiled waiter")
                    let names = waiter.queues.count { $0.slot == queue }
                    precondition(names == Int(need), "a waiter needs another number than it is filed by")
                }
            }
        }
        deadlines.checkInvariants { waiter in
            precondition(waiter.isWaiting, "a wait that has ended has a deadline")
            for queue in waiter.queues { waits[queue.slot, default: 0] += 1 }
        }
        precondition(filed == deadlines.count, "a waiter is filed more or less than once")
        store.queues.forEach { queue in
            precondition(store.queues[queue].waits == waits[queue, default: 0], "a queue miscounts who waits for it")
        }
    }
}
