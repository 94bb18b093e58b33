// Adding and replacing tasks, with a short path for tasks without options.

import UID

extension TaskStore {
    /// Whether `more` new tasks would exceed a queue's maximum length.
    func isFull(_ queue: Slot, adding more: Int = 0) -> Bool {
        guard let limit = maximumLength(of: queue) else { return false }
        return queues[queue].length + more >= limit
    }

    /// The maximum length of a queue; nil for any number.
    func maximumLength(of queue: Slot) -> Int? { configuration(of: queue)?.value.maximumLength }

    /// Adds a ready task.
    mutating func add(
        id: UID, queue: Slot, content: Span<UInt8>, leaseMilliseconds: Int64?, expiry: Expiry,
        trace: consuming TraceContext, now: Int64
    ) throws(BrokerError) -> Slot {
        guard tasks.count < tasks.capacity else { throw .tooManyTasks }
        if isFull(queue) { throw .queueFull }
        guard let content = contents.allocate(copying: content) else { throw .outOfMemory }
        _ = insert(
            id: id, queue: queue, content: content, leaseMilliseconds: leaseMilliseconds, due: now, expiry: expiry,
            priority: nil, trace: trace, now: now)
        return waitedFor(queue)
    }

    /// Adds a task whose key is free. The caller has made sure that there is room; without room, the task is not added.
    mutating func add(_ task: borrowing NewTask, content: Content, queue: Slot, now: Int64) -> Slot {
        let due = max(now, task.due ?? now)
        let slot = insert(
            id: task.id, queue: queue, content: content, leaseMilliseconds: task.leaseMilliseconds, due: due,
            expiry: task.expiry, priority: task.priority, options: task.options, now: now)
        guard slot != 0 else { return 0 }
        if let options = task.options, !options.key.isEmpty { setHoldsKey(true, of: slot) }
        return due > now ? 0 : waitedFor(queue)
    }

    /// Adds the record of a task, and returns its slot, 0 if there is no room. The store owns the content from now on.
    @inline(__always)
    private mutating func insert(
        id: UID, queue: Slot, content: Content, leaseMilliseconds: Int64?, due: Int64, expiry: Expiry, priority: Int8?,
        options: TaskOptions? = nil, trace: consuming TraceContext = TraceContext(), now: Int64
    ) -> Slot {
        assert(options == nil || trace.isEmpty, "options have a trace context of their own")
        var record = TaskRecord()
        record.idHigh = id.high
        record.idLow = id.low
        record.enqueued = arrivalTime(now: now)
        record.leaseMilliseconds = TaskRecord.lease(asked: leaseMilliseconds)
        record.content = content
        record.queue = queue
        record.priority = priority ?? configuration(of: queue)?.value.priority ?? 0
        record.lifetimeMilliseconds = lifetimeMilliseconds(expiry, in: queue)
        record.expires = due.addingWithinRange(record.lifetimeMilliseconds)
        record.state = due > now ? .delayed : .ready
        record.until = due
        guard let slot = tasks.insert(record) else {
            contents.deallocate(content)
            return 0
        }
        contentBytes += content.heapBytes
        update(queue) { $0.tasks += 1 }
        if options?.isNotice == true {
            count(in: queue) { $0.notices += 1 }
        } else {
            count(in: queue) { $0.enqueued += 1 }
        }
        // Before it is put into a list, because the options may decide in which.
        addExtras(slot, options, arrival: record.enqueued, trace: trace)
        enter(slot, change: [.awaited, .full])
        return slot
    }

    // MARK: Replacing

    /// Gives a task new content and options. While it is dispatched, they take effect only after its dispatch.
    mutating func replace(_ slot: Slot, with task: borrowing NewTask, content: Content, now: Int64) -> Slot {
        let queue = tasks[slot].queue
        let priority = task.priority ?? configuration(of: queue)?.value.priority ?? 0
        let lifetime = lifetimeMilliseconds(task.expiry, in: queue)
        let replacement = Replacement(task, content: content, priority: priority, arrival: arrivalTime(now: now))
        count(in: queue) { $0.enqueued += 1 }
        dropReplacement(of: slot)
        _ = transition(slot, to: tasks[slot].state, until: tasks[slot].until, at: .same) { record in
            record.lifetimeMilliseconds = lifetime
            record.expires = max(now, replacement.due).addingWithinRange(lifetime)
            record.retries = 0
        }
        withExtras(slot) { extras in
            extras.replacement = replacement
            extras.options.uniqueUntil = replacement.options?.uniqueUntil(from: replacement.enqueued) ?? 0
            extras.crashes = 0
        }
        return tasks[slot].state == .dispatched ? 0 : applyReplacement(slot, now: now) ?? 0
    }

    /// Puts a task's replacement into effect, at the back of its queue; nil if it has none.
    mutating func applyReplacement(_ slot: Slot, now: Int64) -> Slot? {
        guard let due = extras(of: slot)?.replacement?.due else { return nil }
        return due > now
            ? adoptReplacement(of: slot, as: .delayed, until: due, at: .back)
            : adoptReplacement(of: slot, as: .ready, until: now, at: .back)
    }

    /// Puts the replacement of a task that ends into effect, so that the task ends with the content accepted last.
    mutating func adoptReplacementAtEnd(of slot: Slot) {
        guard tasks[slot].extras != 0 else { return }
        _ = adoptReplacement(of: slot, as: tasks[slot].state, until: tasks[slot].until, at: .same)
    }

    private mutating func adoptReplacement(
        of slot: Slot, as state: TaskRecord.State, until: Int64, at place: Place
    ) -> Slot? {
        guard let replacement = extras(of: slot)?.replacement else { return nil }
        withExtras(slot) { extras in
            extras.replacement = nil
            extras.crashes = 0
            extras.options = TaskExtras.Options(replacement.options, arrival: replacement.enqueued)
            extras.trace = replacement.options?.trace ?? TraceContext()
            extras.worker = []
            extras.error = []
            extras.attempts = []
            extras.progress = []
            extras.result = []
            extras.log = []
            extras.endDeadLetter()
        }
        freeContent(of: slot)
        contentBytes += replacement.content.heapBytes
        return transition(slot, to: state, until: until, at: place, change: [.awaited, .full]) { record in
            record.content = replacement.content
            record.leaseMilliseconds = replacement.leaseMilliseconds
            record.priority = replacement.priority
            record.enqueued = replacement.enqueued
            record.retries = 0
        }
    }
}
