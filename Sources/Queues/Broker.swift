// The broker accepts tasks, dispatches them, and takes them back when they fail. It does no I/O and reads no clock.
//
// `TaskStore` keeps the tasks and queues. The broker adds the waiters (`Broker+Waiting.swift`).

import Bytes
import UID

/// The lists of a broker that each turn of the server looks at, and that nearly always are empty.
struct Agenda: ~Copyable {
    /// All waiters.
    var deadlines = WaiterHeap<ByDeadline>()
    /// Waiters that are registered under no queue. Either so many tasks had just expired that one call could not find a
    /// queue with too few, or the queue they were registered under was resumed. `advance` decides about them after it
    /// has removed the expired tasks.
    var undecided = WaiterHeap<Undecided>()
    /// The queues that are resumed as soon as all their waiters have been made undecided.
    var resuming: [Slot] = []
    /// The queues with waiters that have got tasks within the open events.
    var awaited: [AwaitedQueue] = []
    /// The ends of tasks for which some completions have not been called yet.
    var endings: [TaskStore.Ending] = []
    /// Cancelled waits for many queues that still have to be unregistered.
    var cancelled: [Waiter] = []
}

/// A broker of tasks.
///
/// Every method runs on the executor that the broker was made with. `now` is the time in milliseconds since the Unix
/// epoch. It should not go backwards; if it does, tasks may return, expire or be dispatched a little early or late.
public actor Broker {
    nonisolated private let executor: any SerialExecutor
    #if DEBUG
        var store: TaskStore
        /// The workers that have asked for tasks.
        var workers = WorkerTable()
        /// What `advance` has to look at.
        var agenda = Agenda()
    #else
        private let storePlace: HeapPlace<TaskStore>
        private let workersPlace = HeapPlace(WorkerTable())
        private let agendaPlace = HeapPlace(Agenda())
        /// Only methods of the broker enter it, one at a time. None calls out of the broker while it changes it, except
        /// to `isExempt`, which knows names only.
        var store: TaskStore {
            unsafeAddress { unsafe UnsafePointer(storePlace.address) }
            unsafeMutableAddress { unsafe storePlace.address }
        }
        /// The workers that have asked for tasks. The same is true of them.
        var workers: WorkerTable {
            unsafeAddress { unsafe UnsafePointer(workersPlace.address) }
            unsafeMutableAddress { unsafe workersPlace.address }
        }
        /// What `advance` has to look at. The same is true of it.
        var agenda: Agenda {
            unsafeAddress { unsafe UnsafePointer(agendaPlace.address) }
            unsafeMutableAddress { unsafe agendaPlace.address }
        }
    #endif
    var arrivals: UInt64 = 0
    var isCompleting = false
    /// The depth of nested events.
    var openEvents = 0
    /// The steps that the current call may still spend on waiters. `advance` does the rest.
    var serviceSteps = 0
    private static let stepsPerService = 2000
    /// The state of restoring, and the buffer that changes are written into.
    var restoration = Restoration()
    var imageWriter = ImageWriter()
    /// How many purges, kicks and moves have changed tasks, and how many deletions of dead ones: those of whole queues
    /// count when they end, and those of tasks that were named at once.
    public internal(set) var operationCount: UInt64 = 0

    /// Whether memory is short. If it is, tasks that have no other extras are dispatched without their worker's name.
    public var isShortOfMemory: Bool {
        get { store.isShortOfMemory }
        set { store.isShortOfMemory = newValue }
    }

    /// The executor that the broker was made with.
    public nonisolated var unownedExecutor: UnownedSerialExecutor {
        unsafe executor.asUnownedSerialExecutor()
    }

    /// Makes a broker without tasks.
    ///
    /// - Parameters:
    ///   - executor: where the broker runs; the broker keeps it alive.
    ///   - firstToken: the token of the first dispatch; each further one gets the next number.
    ///   - seed: the seed of the random part of backoffs.
    ///   - now: the time.
    ///   - maximumContentBytes: how much content, beyond that of the first task, one call dispatches or shows. Tasks
    ///     that do not fit stay where they are; `take` gives nil in their place.
    ///   - maximumTasks: the number of tasks to reserve address space for (168 bytes each). If the system grants less,
    ///     the limit is lower.
    ///   - contentAddressBytes: how much address space to reserve for contents. When their sizes change over time, they
    ///     need more address space than bytes, so reserve a few times the memory that they may take.
    ///   - addressBytes: how much address space to reserve in all. If it is less than the other two need, there is room
    ///     for fewer tasks, queues and contents.
    public init(
        executor: any SerialExecutor, firstToken: UInt64, seed: UInt64 = 0, now: Int64,
        maximumContentBytes: Int = 64 << 20, maximumTasks: Int = 1 << 28, contentAddressBytes: Int = 64 << 30,
        addressBytes: Int = .max
    ) {
        self.executor = executor
        let store = TaskStore(
            firstToken: firstToken, seed: seed, now: now, maximumContentBytes: maximumContentBytes,
            maximumTasks: maximumTasks, contentAddressBytes: contentAddressBytes, addressBytes: addressBytes)
        #if DEBUG
            self.store = store
        #else
            storePlace = HeapPlace(store)
        #endif
    }

    // MARK: Queues

    /// Finds or makes the queue with a name. O(1).
    ///
    /// The broker remembers 10,000 queues that hold nothing; one more replaces the one that was unused for the longest
    /// time.
    ///
    /// - Returns: the queue, valid until the next `advance`, or until 9,999 others have been found.
    /// - Throws: `BrokerError.tooManyQueues`.
    public func queue(named name: Span<UInt8>) throws(BrokerError) -> QueueIndex {
        QueueIndex(slot: try store.queue(named: name))
    }

    /// The queue with a name, if there is one; valid until the next `advance`. O(1).
    public func existingQueue(named name: Span<UInt8>) -> QueueIndex? {
        let slot = store.existingQueue(named: name, hash: QueueRecord.hash(of: name))
        return slot == 0 ? nil : QueueIndex(slot: slot)
    }

    /// Calls `body` with the name of each queue that holds an unfinished or dead task, has a configuration or is
    /// paused, sorted bytewise; after `advance`, an expired task does not count. O(n log n) in the number of queues.
    public func forEachQueueName(_ body: (Span<UInt8>) -> Void) {
        for queue in store.queuesByName(where: { $0.isListed }) {
            let name = store.queues[queue].name
            body(name.span)
        }
    }

    // MARK: Tasks

    /// Adds a task without options to the back of a queue. O(1), and the cost of a wait that it completes.
    ///
    /// - Parameters:
    ///   - id: the task's id, which no other task has.
    ///   - queue: the queue.
    ///   - content: the content; the bytes are copied.
    ///   - leaseMilliseconds: how long a worker may hold the task; nil for the queue's setting.
    ///   - expiry: how long the task lives.
    ///   - trace: the request that adds the task.
    ///   - now: the time.
    /// - Throws: `BrokerError.tooManyTasks`, `.outOfMemory`, `.queueFull`.
    public func enqueue(
        id: UID, in queue: QueueIndex, content: Span<UInt8>, leaseMilliseconds: Int64? = nil,
        expiry: Expiry = .unsaid, trace: consuming TraceContext = TraceContext(), now: Int64
    ) throws(BrokerError) {
        beginChange()
        let waitedFor = try store.add(
            id: id, queue: queue.slot, content: content, leaseMilliseconds: leaseMilliseconds, expiry: expiry,
            trace: trace, now: now)
        serveWaiters(of: waitedFor, now: now)
    }

    /// Dispatches a task for each name in `queues`, all or none. O(queues).
    ///
    /// Tasks behind more than 1,000 expired tasks that `advance` has not removed yet cannot be taken; a wait gets them.
    ///
    /// - Parameters:
    ///   - queues: the queues; a queue that is named twice gives two tasks.
    ///   - leaseMilliseconds: the lease of the tasks taken; nil for each task's own.
    ///   - worker: the worker's name, to be shown with the tasks taken; empty for none.
    ///   - now: the time.
    ///   - taken: receives the tasks, in the order of `queues`; emptied first.
    /// - Returns: whether there were enough. If not, nothing was taken.
    public func take(
        _ queues: [QueueIndex], leaseMilliseconds: Int64? = nil, worker: [UInt8] = [], now: Int64,
        into taken: inout [TaskHandle?]
    ) -> Bool {
        beginChange()
        taken.clear()
        return store.take(queues, leaseMilliseconds: leaseMilliseconds, worker: worker, now: now, into: &taken)
    }

    /// Dispatches a task for each name in `queues` for which there is one; `taken` receives nil for the others.
    /// O(queues).
    ///
    /// The parameters are those of `take`.
    public func takeAvailable(
        _ queues: [QueueIndex], leaseMilliseconds: Int64? = nil, worker: [UInt8] = [], now: Int64,
        into taken: inout [TaskHandle?]
    ) {
        beginChange()
        taken.clear()
        store.takeAvailable(queues, leaseMilliseconds: leaseMilliseconds, worker: worker, now: now, into: &taken)
    }

    /// Acknowledges a dispatched task: the work is done. O(1).
    ///
    /// - Returns: whether the task, or the dispatch that the reference names, was held at `now`.
    public func ack(_ reference: TaskReference, now: Int64) -> Bool {
        ack(reference, result: Span(), now: now)
    }

    /// Refuses a dispatched task: the work failed. It is retried, at once or after its backoff, or becomes dead. O(1),
    /// and the cost of a wait that it completes.
    ///
    /// - Returns: whether the task, or the dispatch that the reference names, was held at `now`.
    public func nak(_ reference: TaskReference, now: Int64) -> Bool {
        nak(reference, .failed, now: now) != .missing
    }

    /// Returns a task that never reached its worker to the front of its queue. Does nothing if that dispatch is over.
    /// O(1), and the cost of a wait that it completes.
    public func release(_ dispatch: DispatchKey, now: Int64) {
        beginChange()
        serveWaiters(of: store.release(dispatch, now: now), now: now)
    }

    // MARK: Looking at tasks

    /// Calls `body` with a task that was just dispatched. O(1).
    public func withTask<Result>(_ handle: TaskHandle, _ body: (borrowing TaskView) -> Result) -> Result {
        view(store.slot(of: handle), as: .dispatched, body)
    }

    /// Calls `body` with up to `limit` tasks of a queue that are in one state: ready tasks in the order of dispatch,
    /// others in the order in which they entered the state. O(`limit`).
    ///
    /// Tasks behind more than 1,000 expired tasks that `advance` has not removed yet are not shown.
    ///
    /// - Parameters:
    ///   - queue: the queue.
    ///   - state: the state.
    ///   - after: the task to begin after; nil to begin with the first.
    ///   - limit: how many tasks at most. Those after the first fit into one call's limit of content.
    ///   - contentLimit: how many bytes of each JSON of a task `body` uses at most.
    ///   - now: the time.
    ///   - body: receives each task. It may look at more tasks.
    /// - Returns: whether the task `after` is in this queue and state.
    @discardableResult
    public func peek(
        _ queue: QueueIndex, state: TaskState = .ready, after: UID? = nil, limit: Int, contentLimit: Int = .max,
        now: Int64, _ body: (borrowing TaskView) -> Void
    ) -> Bool {
        guard var slot = firstSlot(in: queue, state: state, after: after) else { return false }
        var shown = 0
        var patience = TaskStore.patience
        var room = Int.max
        while slot != 0 && shown < limit && patience > 0 {
            if store.isShown(slot, now: now) {
                let byteCount = store.shownBytes(of: slot, limit: contentLimit)
                guard byteCount <= room else { return true }
                room = min(room - byteCount, store.maximumContentBytes)
                view(slot, as: state, body)
                shown += 1
            } else {
                patience -= 1
            }
            slot = store.next(after: slot)
        }
        return true
    }

    /// The first task behind another one of a queue and a state, 0 if there is none; nil if that one is not there. One
    /// that has expired is there until its timer fires.
    func firstSlot(in queue: QueueIndex, state: TaskState, after: UID?) -> Slot? {
        guard let after else { return store.first(state, in: queue.slot) }
        let slot = store.task(after)
        guard slot != 0, store.tasks[slot].queue == queue.slot, store.tasks[slot].state == state.recordState else {
            return nil
        }
        return store.next(after: slot)
    }

    /// Shows the last tasks of a queue that are in a state, the last one first. O(limit), but for expired tasks.
    ///
    /// - Parameters:
    ///   - queue: the queue.
    ///   - state: the state.
    ///   - limit: how many tasks at most.
    ///   - now: the time.
    ///   - body: receives each task. It may look at more tasks.
    public func peekBackwards(
        _ queue: QueueIndex, state: TaskState, limit: Int, now: Int64, _ body: (borrowing TaskView) -> Void
    ) {
        var lists: [QueueRecord.List] = []
        if state == .ready {
            store.queues[queue.slot].forEachReadyList { lists.append($0) }
        } else {
            lists = [store.queues[queue.slot].list(of: state.recordState)]
        }
        var shown = 0
        var patience = TaskStore.patience
        for list in lists.reversed() {
            var slot = list.last
            while slot != 0 && shown < limit && patience > 0 {
                if store.isShown(slot, now: now) {
                    view(slot, as: state, body)
                    shown += 1
                } else {
                    patience -= 1
                }
                slot = store.tasks[slot][links: TaskRecord.queueLinks].previous
            }
        }
    }

    /// Calls `body` with a task. The record and the queue's name are copies, so `body` may look at more tasks.
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

    /// Begins a call that may change the broker.
    func beginChange() {
        assert(!isCompleting, "a completion changed the broker")
        serviceSteps = Self.stepsPerService
    }

    /// Continues purges, kicks and moves, and returns whether all are done.
    private func sweep(now: Int64, steps: inout Int) -> Bool {
        while let sweep = store.sweeps.first {
            var isOver = false
            beginEvent()
            while !isOver, steps > 0, serviceSteps > 0, !hasChangedMuch {
                steps -= sweep.stepsPerTask
                let slot = sweep.next(in: store.tasks)
                isOver = slot == 0
                if !isOver { serveWaiters(of: store.apply(sweep, to: slot, now: now), now: now) }
            }
            closeEvent(now: now)
            guard isOver else { return false }
            complete(store.endSweep())
        }
        return true
    }

    /// Does what is due.
    ///
    /// Ends delays, leases, the lives of expired tasks, the keeping of records, and waits at their deadlines, in the
    /// order of their times; at the same time in the order of this list, then in the order in which they were set. Also
    /// continues purges, kicks and moves, forgets queues that hold nothing (those unused for an hour, and beyond 10,000
    /// those unused for the longest time), and returns unused memory to the system. Tasks that one call makes ready
    /// before a wait ends are one event, and so are the tasks of one kick or move.
    ///
    /// - Parameters:
    ///   - now: the time.
    ///   - limit: how much to do in this call at most, counted in timers moved, tasks purged, kicked or moved, and
    ///     queues named by waits.
    /// - Returns: true if nothing else is due; false if there may be more, and `advance` should be called again.
    public func advance(to now: Int64, limit: Int = 2000) -> Bool {
        beginChange()
        precondition(limit > 0)
        let now = max(now, store.timers.now)
        store.clock = now
        var steps = limit
        // Before the purges, so that a continual purge does not keep memory from being returned.
        let isTrimmed = store.contents.trim()
        tellEnds()
        while let waiter = agenda.cancelled.popLast() {
            guard steps > 0 else {
                agenda.cancelled.append(waiter)
                return false
            }
            steps -= waiter.queues.count
            if waiter.isWaiting { end(waiter) }
        }
        while true {
            let waiter = agenda.deadlines.first.flatMap { $0.deadline <= now ? $0 : nil }
            beginEvent()
            while serviceSteps > 0, !hasChangedMuch,
                let waitedFor = store.fireTimer(upTo: waiter?.deadline ?? now, now: now, steps: &steps)
            {
                serveWaiters(of: waitedFor, now: now)
            }
            closeEvent(now: now)
            guard steps > 0, serviceSteps > 0, !hasChangedMuch else { return false }
            guard let waiter else {
                // Serving waiters may have met expired tasks that have to be ended now.
                return sweep(now: now, steps: &steps) && settle(now: now, steps: &steps) && store.tidy(steps: &steps)
                    && workers.tidy(now: now, steps: &steps) && !store.timers.hasOverdue && agenda.endings.isEmpty
                    && isTrimmed
            }
            guard waiter.isWaiting else { continue }
            steps -= waiter.queues.count + Self.stepsPerCompletion
            guard waiter.task != nil || store.isDecided(waiter.queues, isForAny: waiter.isForAny, now: now) else {
                // The expired tasks in the way are ended first; more of them may follow.
                steps -= TaskStore.patience
                continue
            }
            complete(waiter, now: now)
        }
    }

    /// When to call `advance` next. This is never later than the next due time, but may be earlier, so some calls find
    /// nothing to do. 0 if something is overdue, nil if nothing will ever be due. O(1).
    public var nextDeadline: Int64? {
        if !agenda.undecided.isEmpty || !agenda.resuming.isEmpty || !agenda.endings.isEmpty || !agenda.cancelled.isEmpty
            || !store.sweeps.isEmpty
        {
            return 0
        }
        return switch (store.timers.nextDeadline, agenda.deadlines.first?.deadline) {
        case (let timer?, let wait?): min(timer, wait)
        case (let timer, let wait): timer ?? wait
        }
    }

    // MARK: Counts and checks

    /// How much the broker holds.
    public struct Counts: Hashable, Sendable {
        /// All tasks, including the records of finished ones.
        public var tasks: Int
        /// Tasks that wait to be dispatched.
        public var ready: Int
        /// Tasks that a worker holds.
        public var dispatched: Int
        /// Waits that have not ended.
        public var waiters: Int
        /// Queues, including idle ones.
        public var queues: Int
    }

    /// How much the broker holds; an expired task counts until its timer has fired. O(1).
    public var counts: Counts {
        Counts(
            tasks: store.tasks.count, ready: store.population(.ready), dispatched: store.population(.dispatched),
            waiters: agenda.deadlines.count, queues: store.queues.count)
    }

    /// The memory of tasks with all their parts, of queues in use, of settings, of waiters, and of the names of
    /// workers, in bytes. O(1).
    public var memoryBytes: Int { store.memoryBytes + workers.byteCount }

    /// Checks all of the broker's structures against each other, and traps if they disagree. O(n). For tests.
    public func checkInvariants() {
        precondition(!isCompleting && openEvents == 0 && agenda.awaited.isEmpty)
        store.checkInvariants()
        checkWaiters()
    }
}
