// The tasks and their queues: where each task stands, and what time does to it. Who waits for them is not known here.

import UID

/// All tasks and queues of a broker.
///
/// A task is in the table of tasks (by its id), in the wheel (by the next thing that time does to it), and, while it is
/// ready, in its queue's list. A task whose expiry has come counts as gone, though it stays in its list until its timer
/// fires or a take meets it.
struct TaskStore: ~Copyable {
    /// How many queues there may be.
    static var maximumQueues: Int { 1_000_000 }
    /// How many expired tasks one call removes or passes over at most. There are so many only while `advance` is behind.
    static var patience: Int { 1000 }
    /// How many idle queues are remembered: as many as one request may name, so that none of its own is forgotten.
    static var maximumIdleQueues: Int { 1000 }

    private(set) var tasks: Table<TaskRecord>
    var queues = Table<QueueRecord>(capacity: maximumQueues)
    private(set) var timers: TimingWheel
    /// The queues without tasks and waiters, the longest unused first.
    private var idle = LinkedList<QueueRecord, 0>()
    private var nextToken: UInt64
    private(set) var dispatchedCount = 0
    /// How much content, beyond that of the first task, is dispatched or shown at once.
    let maximumContentBytes: Int

    init(firstToken: UInt64, now: Int64, maximumContentBytes: Int, maximumTasks: Int) {
        self.maximumContentBytes = maximumContentBytes
        tasks = Table(capacity: maximumTasks)
        timers = TimingWheel(now: now)
        nextToken = firstToken
    }

    deinit {
        var slot: Slot = 1
        while slot < tasks.used {
            tasks[slot].content.deallocate()
            slot += 1
        }
    }

    // MARK: Queues

    /// The queue's slot, 0 if there is none of this name.
    func existingQueue(named name: Span<UInt8>, hash: UInt32) -> Slot {
        queues.find(hash: hash) { record in
            let other = record.name.span
            guard other.count == name.count else { return false }
            for index in name.indices where name[index] != other[index] { return false }
            return true
        }
    }

    /// Finds or makes a queue. Beyond the idle ones that are remembered, it takes the longest unused one's place: names alone
    /// never fill the broker.
    mutating func queue(named name: Span<UInt8>) throws(BrokerError) -> Slot {
        let hash = QueueRecord.hash(of: name)
        let found = existingQueue(named: name, hash: hash)
        if found != 0 {
            if queues[found].isIdle {
                idle.remove(found, in: &queues)
                idle.append(found, in: &queues)
            }
            return found
        }
        guard let made = queues.insert(QueueRecord(name: name, hash: hash)) else { throw .tooManyQueues }
        idle.append(made, in: &queues)
        if idle.count > Self.maximumIdleQueues { forgetIdle() }
        return made
    }

    /// Changes what keeps a queue from being idle.
    mutating func update(_ queue: Slot, _ change: (inout QueueRecord) -> Void) {
        let wasIdle = queues[queue].isIdle
        change(&queues[queue])
        let isIdle = queues[queue].isIdle
        if wasIdle == isIdle { return }
        if isIdle { idle.append(queue, in: &queues) } else { idle.remove(queue, in: &queues) }
    }

    /// The names of the queues that hold a task, in no particular order. O(queues).
    func namesOfQueuesWithTasks() -> [[UInt8]] {
        var names: [[UInt8]] = []
        queues.forEach { queue in
            if queues[queue].tasks > 0 { names.append(queues[queue].name) }
        }
        return names
    }

    /// Forgets the longest unused of the idle queues.
    private mutating func forgetIdle() {
        let oldest = idle.first
        idle.remove(oldest, in: &queues)
        queues.remove(oldest)
    }

    /// Forgets idle queues beyond those that are remembered, and gives unused memory back.
    ///
    /// - Returns: whether nothing is left to do.
    mutating func tidy(steps: inout Int) -> Bool {
        while idle.count > Self.maximumIdleQueues {
            guard steps > 0 else { return false }
            steps -= 1
            forgetIdle()
        }
        let tasksDone = tasks.trim()
        let queuesDone = queues.trim()
        return tasksDone && queuesDone
    }

    // MARK: Tasks

    // A method that makes a task ready returns its queue's slot if clients wait for that queue, otherwise 0: whoever calls
    // it serves them. One call from the broker's isolation does all that is needed, because each has its price (a dynamic
    // check of exclusive access).

    /// Adds a task, ready.
    mutating func add(
        id: UID, queue: Slot, content: Span<UInt8>, leaseMilliseconds: Int64, expires: Int64, now: Int64
    ) throws(BrokerError) -> Slot {
        guard tasks.count < tasks.capacity else { throw .tooManyTasks }
        guard let content = Content(copying: content) else { throw .outOfMemory }
        var record = TaskRecord()
        record.idHigh = id.high
        record.idLow = id.low
        record.enqueued = now
        record.expires = expires
        record.leaseMilliseconds = leaseMilliseconds
        record.content = content
        record.queue = queue
        record.state = .ready
        guard let slot = tasks.insert(record) else {
            content.deallocate()
            throw .tooManyTasks
        }
        timers.arm(slot, in: &tasks)
        update(queue) { $0.tasks += 1 }
        queues[queue].ready.append(slot, in: &tasks)
        return waitedFor(queue)
    }

    private func waitedFor(_ queue: Slot) -> Slot {
        queues[queue].waiters.isEmpty ? 0 : queue
    }

    /// The task's slot if it is dispatched and held at `now`, by the dispatch that the reference asks for; otherwise 0.
    private func held(_ reference: TaskReference, now: Int64) -> Slot {
        let slot = tasks.find(hash: TaskRecord.hash(of: reference.id)) { $0.id == reference.id }
        guard slot != 0, tasks[slot].isHeld(now: now) else { return 0 }
        if let token = reference.token, token != tasks[slot].token { return 0 }
        return slot
    }

    /// The slot of the task if that dispatch of it still stands; otherwise 0. Whether its lease has run out is not asked.
    private func dispatched(_ key: DispatchKey) -> Slot {
        let slot = key.slot
        guard tasks.contains(slot), tasks[slot].state == .dispatched else { return 0 }
        return DispatchKey(slot: slot, token: tasks[slot].token).rawValue == key.rawValue ? slot : 0
    }

    /// Deletes a task that is held; false if it is not.
    mutating func ack(_ reference: TaskReference, now: Int64) -> Bool {
        let slot = held(reference, now: now)
        if slot != 0 { remove(slot) }
        return slot != 0
    }

    /// Puts a task that is held at the back of its queue; nil if it is not.
    mutating func nak(_ reference: TaskReference, now: Int64) -> Slot? {
        let slot = held(reference, now: now)
        guard slot != 0 else { return nil }
        timers.disarm(slot, in: &tasks)
        return makeReady(slot, atFront: false)
    }

    /// Puts a task at the front of its queue if that dispatch of it is not over.
    mutating func release(_ key: DispatchKey, now: Int64) -> Slot {
        let slot = dispatched(key)
        guard slot != 0, tasks[slot].isHeld(now: now) else { return 0 }
        timers.disarm(slot, in: &tasks)
        return makeReady(slot, atFront: true)
    }

    /// A task that was just dispatched.
    func record(of handle: TaskHandle) -> TaskRecord {
        let slot = dispatched(handle.key)
        precondition(slot != 0, "a handle was used after its task changed state")
        return tasks[slot]
    }

    /// Ends a dispatch. The timer is not armed.
    private mutating func makeReady(_ slot: Slot, atFront: Bool) -> Slot {
        dispatchedCount -= 1
        tasks[slot].state = .ready
        timers.arm(slot, in: &tasks)
        let queue = tasks[slot].queue
        if atFront {
            queues[queue].ready.prepend(slot, in: &tasks)
        } else {
            queues[queue].ready.append(slot, in: &tasks)
        }
        return waitedFor(queue)
    }

    /// Deletes a task.
    private mutating func remove(_ slot: Slot) {
        timers.disarm(slot, in: &tasks)
        forget(slot)
    }

    private mutating func forget(_ slot: Slot) {
        let queue = tasks[slot].queue
        if tasks[slot].state == .ready {
            queues[queue].ready.remove(slot, in: &tasks)
        } else {
            dispatchedCount -= 1
        }
        update(queue) { $0.tasks -= 1 }
        tasks[slot].content.deallocate()
        tasks.remove(slot)
    }

    // MARK: Taking

    /// The first of the queues that has fewer ready tasks than the times that it is named; nil if all have enough. It is
    /// unknown if the expired tasks that it meets, and removes, are too many for one call.
    mutating func lack(of names: [QueueIndex], now: Int64) -> Lack? {
        for queue in names { queues[queue.slot].wanted += 1 }
        var lack: Lack?
        var patience = Self.patience
        for queue in names {
            let need = queues[queue.slot].wanted
            guard need > 0 else { continue }
            queues[queue.slot].wanted = 0
            if lack == nil && !hasReady(need, in: queue.slot, now: now, patience: &patience) {
                lack = patience > 0 ? Lack(queue: queue.slot, need: need) : .unknown
            }
        }
        return lack
    }

    /// Whether the queue has `need` ready tasks; removes the expired ones that it meets.
    private mutating func hasReady(_ need: UInt32, in queue: Slot, now: Int64, patience: inout Int) -> Bool {
        var slot = queues[queue].ready.first
        var seen: UInt32 = 0
        while seen < need && queues[queue].ready.count >= need && patience > 0 {
            let next = tasks[slot][links: TaskRecord.queueLinks].next
            if tasks[slot].expires > now {
                seen += 1
            } else {
                remove(slot)
                patience -= 1
            }
            slot = next
        }
        return seen == need
    }

    /// Dispatches a task for each name, all or none; false if there are not enough. What is too much content stays.
    mutating func take(
        _ names: [QueueIndex], leaseMilliseconds: Int64?, now: Int64, into taken: inout [TaskHandle?]
    ) -> Bool {
        guard lack(of: names, now: now) == nil else { return false }
        takeAvailable(names, leaseMilliseconds: leaseMilliseconds, now: now, into: &taken)
        return true
    }

    /// Dispatches a task for each name as far as there are any and their content is not too much.
    mutating func takeAvailable(
        _ names: [QueueIndex], leaseMilliseconds: Int64?, now: Int64, into taken: inout [TaskHandle?]
    ) {
        var patience = Self.patience
        var room = Int.max
        for queue in names {
            let slot = firstReady(in: queue.slot, now: now, patience: &patience)
            guard slot != 0, tasks[slot].content.count <= room else {
                taken.append(nil)
                continue
            }
            // The first task is given whatever its size.
            room = min(room - Int(tasks[slot].content.count), maximumContentBytes)
            taken.append(dispatch(slot, leaseMilliseconds: leaseMilliseconds, now: now))
        }
    }

    /// The queue's first task that has not expired, 0 if there is none; removes the expired ones before it.
    private mutating func firstReady(in queue: Slot, now: Int64, patience: inout Int) -> Slot {
        while case let slot = queues[queue].ready.first, slot != 0, patience > 0 {
            if tasks[slot].expires > now { return slot }
            remove(slot)
            patience -= 1
        }
        return 0
    }

    private mutating func dispatch(_ slot: Slot, leaseMilliseconds: Int64?, now: Int64) -> TaskHandle {
        timers.disarm(slot, in: &tasks)
        queues[tasks[slot].queue].ready.remove(slot, in: &tasks)
        let token = nextToken
        nextToken &+= 1
        dispatchedCount += 1
        let leaseEnd = now.addingReportingOverflow(leaseMilliseconds ?? tasks[slot].leaseMilliseconds)
        tasks[slot].state = .dispatched
        tasks[slot].attempt &+= 1
        tasks[slot].token = token
        tasks[slot].dispatched = now
        tasks[slot].leaseEnd = leaseEnd.overflow ? .max : leaseEnd.partialValue
        timers.arm(slot, in: &tasks)
        return TaskHandle(key: DispatchKey(slot: slot, token: token))
    }

    // MARK: Time

    /// Lets the next timer fire that is due at `time`: deletes the task if it has expired, or ends its lease.
    ///
    /// - Parameters:
    ///   - time: when.
    ///   - now: the time now, at or after `time`: what has expired by now is not made ready again.
    ///   - steps: how many timers it may still touch; counts down.
    /// - Returns: nil when none is due or the steps are used up.
    mutating func fireTimer(upTo time: Int64, now: Int64, steps: inout Int) -> Slot? {
        let slot = timers.fire(upTo: time, steps: &steps, in: &tasks)
        guard slot != 0 else { return nil }
        if tasks[slot].expires <= now {
            forget(slot)
            return 0
        }
        return makeReady(slot, atFront: false)
    }

    // MARK: Checks

    /// Checks lists, counts, timers and states against each other. O(n).
    func checkInvariants() {
        tasks.checkInvariants()
        queues.checkInvariants()
        precondition(timers.checkInvariants(in: tasks) == tasks.count, "not one timer a task")
        var dispatched = 0
        var ready = 0
        var held: [Slot: UInt32] = [:]
        tasks.forEach { slot in
            precondition(tasks[slot].state != .vacant, "a task in a vacant slot")
            dispatched += tasks[slot].state == .dispatched ? 1 : 0
            held[tasks[slot].queue, default: 0] += 1
        }
        var idleCount: UInt32 = 0
        queues.forEach { queue in
            queues[queue].ready.checkInvariants(in: tasks) { slot in
                precondition(tasks[slot].state == .ready && tasks[slot].queue == queue, "a stranger in a ready list")
            }
            ready += Int(queues[queue].ready.count)
            precondition(queues[queue].tasks == held[queue, default: 0], "a queue miscounts its tasks")
            precondition(queues[queue].wanted == 0, "a take left its mark")
            idleCount += queues[queue].isIdle ? 1 : 0
        }
        idle.checkInvariants(in: queues) { precondition(queues[$0].isIdle, "a queue in use among the idle ones") }
        precondition(idle.count == idleCount, "an idle queue is not listed")
        precondition(dispatched == dispatchedCount && ready + dispatched == tasks.count, "a task is nowhere")
    }
}
