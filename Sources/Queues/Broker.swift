// The broker: takes tasks in, gives them out, and gets them back when they fail. It does no I/O and reads no clock.
//
// `TaskStore` keeps the tasks and queues; here and in `Broker+Waiting.swift` is who waits for them.

import UID

/// A broker of tasks.
///
/// Every method runs on the executor that the broker was made with. `now` is the time in milliseconds since the Unix
/// epoch; it should not go backwards (if it does, tasks may come back, expire or be given out a little early or late, and
/// nothing else happens).
public actor Broker {
    nonisolated private let executor: any SerialExecutor
    var store: TaskStore
    var deadlines = WaiterHeap<ByDeadline>()
    /// Those registered under no queue: so many tasks had just expired that one call could not tell what they lack, or a queue
    /// that they lacked gives out tasks again. `advance` decides about them when it has removed what has expired.
    var undecided = WaiterHeap<Undecided>()
    /// The queues that give out tasks again as soon as those who wait for them have been made undecided.
    var resuming: [Slot] = []
    var arrivals: UInt64 = 0
    var isCompleting = false
    /// How many events are under way, one in the other, and the queues that they have given tasks for which clients wait.
    var openEvents = 0
    var awaited: [AwaitedQueue] = []
    /// The ends of tasks that some of those who waited for them have not been told yet.
    var endings: [TaskStore.Ending] = []
    /// Waits for many queues whose clients have gone, still to be taken out of where they are registered.
    var cancelled: [Waiter] = []
    /// What the call under way may still spend on those who wait; the rest is left to `advance`.
    var serviceSteps = 0
    private static let stepsPerService = 2000
    /// How far restoring has come, and where changes are written.
    var restoration = Restoration()
    var imageWriter = ImageWriter()
    /// What those who wait take up.
    var memoryBytesOfWaiters = 0

    /// Whether there is no memory for more: then tasks that have nothing else to show are dispatched without the names of
    /// workers.
    public var isShortOfMemory: Bool {
        get { store.isShortOfMemory }
        set { store.isShortOfMemory = newValue }
    }

    /// The executor that the broker was made with.
    public nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    /// A broker without tasks.
    ///
    /// - Parameters:
    ///   - executor: where the broker runs; the broker keeps it alive.
    ///   - firstToken: the token of the first dispatch; each further one gets the next number.
    ///   - seed: what the random part of backoffs is drawn from.
    ///   - now: the time.
    ///   - maximumContentBytes: how much content, beyond that of the first task, is dispatched or shown at once. What does
    ///     not fit is left where it is: where `take` would give it, there is nil.
    ///   - maximumTasks: for how many tasks to reserve address space (168 bytes each). If the system gives less, the limit
    ///     is lower.
    ///   - contentAddressBytes: how much address space to reserve for contents. Those of other sizes than before may need more
    ///     of it than they have bytes: a few times the memory that they may take.
    ///   - addressBytes: how much address space to reserve in all. With less than the others ask for, there is room for fewer
    ///     tasks, queues and contents.
    public init(
        executor: any SerialExecutor, firstToken: UInt64, seed: UInt64 = 0, now: Int64,
        maximumContentBytes: Int = 64 << 20, maximumTasks: Int = 1 << 28, contentAddressBytes: Int = 64 << 30,
        addressBytes: Int = .max
    ) {
        self.executor = executor
        store = TaskStore(
            firstToken: firstToken, seed: seed, now: now, maximumContentBytes: maximumContentBytes,
            maximumTasks: maximumTasks, contentAddressBytes: contentAddressBytes, addressBytes: addressBytes)
    }

    // MARK: Queues

    /// Finds or makes the queue of a name. O(1).
    ///
    /// Of the queues that hold nothing, 10,000 are remembered; one more takes the place of the longest unused one.
    ///
    /// - Returns: the queue, valid until the next `advance`, or until 9,999 others have been found.
    /// - Throws: `BrokerError.tooManyQueues`.
    public func queue(named name: Span<UInt8>) throws(BrokerError) -> QueueIndex {
        QueueIndex(slot: try store.queue(named: name))
    }

    /// The queue of a name if there is one, valid until the next `advance`. O(1).
    public func existingQueue(named name: Span<UInt8>) -> QueueIndex? {
        let slot = store.existingQueue(named: name, hash: QueueRecord.hash(of: name))
        return slot == 0 ? nil : QueueIndex(slot: slot)
    }

    /// Calls `body` with the name of each queue that holds an unfinished or dead task, has a configuration or is paused,
    /// sorted bytewise; after `advance`, an expired task does not count. O(n log n) in the number of queues.
    public func forEachQueueName(_ body: (Span<UInt8>) -> Void) {
        for queue in store.queuesByName(where: { $0.isListed }) { body(store.queues[queue].name.span) }
    }

    // MARK: Tasks

    /// Adds a task that says little to the back of a queue. O(1), and what the waiter that it completes takes.
    ///
    /// - Parameters:
    ///   - id: its id, which no other task has.
    ///   - queue: its queue.
    ///   - content: its content; the bytes are copied.
    ///   - leaseMilliseconds: how long a worker may hold it; nil leaves it to the queue.
    ///   - expiry: how long it lives.
    ///   - now: the time.
    /// - Throws: `BrokerError.tooManyTasks`, `.outOfMemory`, `.queueFull`.
    public func enqueue(
        id: UID, in queue: QueueIndex, content: Span<UInt8>, leaseMilliseconds: Int64? = nil,
        expiry: Expiry = .unsaid, now: Int64
    ) throws(BrokerError) {
        beginChange()
        let waitedFor = try store.add(
            id: id, queue: queue.slot, content: content, leaseMilliseconds: leaseMilliseconds, expiry: expiry, now: now)
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
    ///   - worker: a name to show with what is taken; empty for none.
    ///   - now: the time.
    ///   - taken: gets the tasks in the order of `queues`; emptied first.
    /// - Returns: whether there were enough. If not, nothing was taken.
    public func take(
        _ queues: [QueueIndex], leaseMilliseconds: Int64? = nil, worker: [UInt8] = [], now: Int64,
        into taken: inout [TaskHandle?]
    ) -> Bool {
        beginChange()
        taken.removeAll(keepingCapacity: true)
        return store.take(queues, leaseMilliseconds: leaseMilliseconds, worker: worker, now: now, into: &taken)
    }

    /// Dispatches a task for each name in `queues` as far as there are any; `taken` gets nil where there is none. O(queues).
    ///
    /// The parameters are those of `take`.
    public func takeAvailable(
        _ queues: [QueueIndex], leaseMilliseconds: Int64? = nil, worker: [UInt8] = [], now: Int64,
        into taken: inout [TaskHandle?]
    ) {
        beginChange()
        taken.removeAll(keepingCapacity: true)
        store.takeAvailable(queues, leaseMilliseconds: leaseMilliseconds, worker: worker, now: now, into: &taken)
    }

    /// The work is done: a dispatched task has come to its end. O(1).
    ///
    /// - Returns: whether that task, or that dispatch of it, was held at `now`.
    public func ack(_ reference: TaskReference, now: Int64) -> Bool {
        ack(reference, result: Span(), now: now)
    }

    /// The work failed: a dispatched task is tried again, at once or after its backoff, or it is dead. O(1), and what the
    /// waiter that it completes takes.
    ///
    /// - Returns: whether that task, or that dispatch of it, was held at `now`.
    public func nak(_ reference: TaskReference, now: Int64) -> Bool {
        nak(reference, .failed, now: now) != .missing
    }

    /// The task never reached its worker: it goes to the front of its queue. Does nothing if that dispatch is over. O(1),
    /// and what the waiter that it completes takes.
    public func release(_ dispatch: DispatchKey, now: Int64) {
        beginChange()
        serveWaiters(of: store.release(dispatch, now: now), now: now)
    }

    // MARK: Looking at tasks

    /// Calls `body` with a task that was just dispatched. O(1).
    public func withTask<Result>(_ handle: TaskHandle, _ body: (borrowing TaskView) -> Result) -> Result {
        view(store.slot(of: handle), as: .dispatched, body)
    }

    /// Calls `body` with up to `limit` tasks of a queue that are in one state, the ready ones in the order in which they
    /// would be dispatched, the others in that in which they came there. O(`limit`).
    ///
    /// While more than 1,000 tasks among them have expired and `advance` has not yet removed them, it shows none behind
    /// these.
    ///
    /// - Parameters:
    ///   - queue: the queue.
    ///   - state: the state.
    ///   - after: the task behind which to begin; nil for the first.
    ///   - limit: how many tasks at most.
    ///   - now: the time.
    ///   - body: gets each task; it may ask the broker for more.
    /// - Returns: whether the task `after` is there.
    @discardableResult
    public func peek(
        _ queue: QueueIndex, state: TaskState = .ready, after: UID? = nil, limit: Int, now: Int64,
        _ body: (borrowing TaskView) -> Void
    ) -> Bool {
        var slot = store.first(state, in: queue.slot)
        if let after {
            slot = store.task(after)
            guard slot != 0, store.tasks[slot].queue == queue.slot, store.visibleState(of: slot, now: now) == state,
                store.tasks[slot].state == state.recordState
            else { return false }
            slot = store.next(after: slot)
        }
        var shown = 0
        var patience = TaskStore.patience
        var room = Int.max
        while slot != 0 && shown < limit && patience > 0 {
            if store.isShown(slot, now: now) {
                guard store.shownBytes(of: slot) <= room else { return true }
                room = min(room - Int(store.tasks[slot].content.count), store.maximumContentBytes)
                view(slot, as: state, body)
                shown += 1
            } else {
                patience -= 1
            }
            slot = store.next(after: slot)
        }
        return true
    }

    /// The record and the queue's name are copies, so that `body` may ask the broker for more.
    func view<Result>(_ slot: Slot, as state: TaskState, _ body: (borrowing TaskView) -> Result) -> Result {
        let record = store.tasks[slot]
        let name = store.queues[record.queue].name
        let lease =
            state == .dispatched ? store.currentLeaseMilliseconds(of: slot) : store.leaseMilliseconds(of: slot)
        return body(
            TaskView(
                slot: slot, record: record, state: state, extras: store.extras(of: slot), leaseMilliseconds: lease,
                queueName: name.span, content: record.content.span,
                readySequence: store.isJournaled ? store.images[slot].readySequence : 0))
    }

    // MARK: Time

    /// What every call does first that may change something.
    func beginChange() {
        assert(!isCompleting, "a completion changed the broker")
        serviceSteps = Self.stepsPerService
    }

    /// Purges, kicks and moves. Returns whether all is done.
    private func sweep(now: Int64, steps: inout Int) -> Bool {
        while let sweep = store.sweeps.first {
            var isOver = false
            beginEvent()
            while !isOver, steps > 0, serviceSteps > 0, !hasChangedMuch {
                steps -= 1
                let slot = sweep.next(in: store.tasks)
                isOver = slot == 0
                if !isOver { serveWaiters(of: store.apply(sweep, to: slot, now: now), now: now) }
            }
            closeEvent(now: now)
            guard isOver else { return false }
            let ended = store.endSweep()
            isCompleting = true
            ended.completion(ended.count)
            isCompleting = false
        }
        return true
    }

    /// Does what is due: delays and leases that are over end, expired tasks end, records that were kept long enough are
    /// deleted, waits end at their deadlines, all in the order of their times, and at one time in that order and that of
    /// their setting. Also purges, kicks and moves, forgets queues that hold nothing (those unused for an hour, and the
    /// longest unused beyond 10,000), and gives unused memory back. What one call makes ready before a wait ends is one event
    /// for those who wait, and so is what it kicks or moves by one order.
    ///
    /// - Parameters:
    ///   - now: the time.
    ///   - limit: how much to do in this call at most, in timers moved, tasks purged, kicked or moved, and names of queues
    ///     waited for.
    /// - Returns: true when nothing is left that is due; false when there may be more, to be done by calling again.
    public func advance(to now: Int64, limit: Int = 2000) -> Bool {
        beginChange()
        precondition(limit > 0)
        let now = max(now, store.timers.now)
        store.clock = now
        var steps = limit
        // First, so that what is purged all the time does not keep memory from going back.
        let isTrimmed = store.contents.trim()
        tellEnds()
        while let waiter = cancelled.popLast() {
            guard steps > 0 else {
                cancelled.append(waiter)
                return false
            }
            steps -= waiter.queues.count
            if waiter.isWaiting { end(waiter) }
        }
        while true {
            let waiter = deadlines.first.flatMap { $0.deadline <= now ? $0 : nil }
            beginEvent()
            while serviceSteps > 0, !hasChangedMuch,
                let waitedFor = store.fireTimer(upTo: waiter?.deadline ?? now, now: now, steps: &steps)
            {
                serveWaiters(of: waitedFor, now: now)
            }
            closeEvent(now: now)
            guard steps > 0, serviceSteps > 0, !hasChangedMuch else { return false }
            guard let waiter else {
                // Those who were served may have met tasks that are now to be ended.
                return sweep(now: now, steps: &steps) && settle(now: now, steps: &steps) && store.tidy(steps: &steps)
                    && store.timers.nextDeadline != 0 && endings.isEmpty && isTrimmed
            }
            guard waiter.isWaiting else { continue }
            steps -= waiter.queues.count + Self.stepsPerCompletion
            guard waiter.task != nil || store.isDecided(waiter.queues, isForAny: waiter.isForAny, now: now) else {
                // What was in the way is ended first, and then there may be more of it.
                steps -= TaskStore.patience
                continue
            }
            complete(waiter, now: now)
        }
    }

    /// When `advance` should be called next: not after the next thing is due, and maybe a few times before; 0 if something
    /// is overdue, nil if nothing will ever be due. O(1).
    public var nextDeadline: Int64? {
        if !undecided.isEmpty || !resuming.isEmpty || !store.sweeps.isEmpty || !endings.isEmpty || !cancelled.isEmpty {
            return 0
        }
        return switch (store.timers.nextDeadline, deadlines.first?.deadline) {
        case (let timer?, let wait?): min(timer, wait)
        case (let timer, let wait): timer ?? wait
        }
    }

    // MARK: Counts and checks

    /// How much the broker holds.
    public struct Counts: Hashable, Sendable {
        /// All tasks, records of those that have come to their end included.
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
            tasks: store.tasks.count, ready: store.population(.ready), dispatched: store.population(.dispatched),
            waiters: deadlines.count, queues: store.queues.count)
    }

    /// The bytes that tasks, contents, results and whatever else they say take, the queues that are in use, and those who
    /// wait. O(1).
    public var memoryBytes: Int { store.memoryBytes + memoryBytesOfWaiters }

    /// Checks all of the broker's structures against each other, and traps where they do not fit. O(n). For tests.
    public func checkInvariants() {
        precondition(!isCompleting && openEvents == 0 && awaited.isEmpty)
        store.checkInvariants()
        checkWaiters()
    }
}
