// Adding tasks: the short way for those that say little, and keys.

import UID

extension TaskStore {
    /// Whether a queue has as many tasks as it may have, counting `more` that are about to be added.
    func isFull(_ queue: Slot, adding more: Int = 0) -> Bool {
        guard let limit = maximumLength(of: queue) else { return false }
        return queues[queue].length + more >= limit
    }

    /// How many unfinished tasks a queue may have for another one to be added; nil is any number.
    func maximumLength(of queue: Slot) -> Int? { configuration(of: queue)?.value.maximumLength }

    /// Adds a task, ready.
    mutating func add(
        id: UID, queue: Slot, content: Span<UInt8>, leaseMilliseconds: Int64?, expiry: Expiry, now: Int64
    ) throws(BrokerError) -> Slot {
        guard tasks.count < tasks.capacity else { throw .tooManyTasks }
        if isFull(queue) { throw .queueFull }
        guard let content = contents.allocate(copying: content) else { throw .outOfMemory }
        _ = insert(
            id: id, queue: queue, content: content, leaseMilliseconds: leaseMilliseconds, due: now, expiry: expiry,
            priority: nil, now: now)
        return waitedFor(queue)
    }

    /// Adds a task whose key is free. There must be room for it; if there is none after all, it is not added.
    mutating func add(_ task: borrowing NewTask, content: Content, queue: Slot, now: Int64) -> Slot {
        let due = max(now, task.due ?? now)
        let slot = insert(
            id: task.id, queue: queue, content: content, leaseMilliseconds: task.leaseMilliseconds, due: due,
            expiry: task.expiry, priority: task.priority, options: task.options, now: now)
        guard slot != 0 else { return 0 }
        if let options = task.options, !options.key.isEmpty { setHoldsKey(true, of: slot) }
        return due > now ? 0 : waitedFor(queue)
    }

    /// Adds the record of a task; 0 if there is no room for it. The content is the store's from now on.
    @inline(__always)
    private mutating func insert(
        id: UID, queue: Slot, content: Content, leaseMilliseconds: Int64?, due: Int64, expiry: Expiry, priority: Int8?,
        options: TaskOptions? = nil, now: Int64
    ) -> Slot {
        var record = TaskRecord()
        record.idHigh = id.high
        record.idLow = id.low
        record.enqueued = arrivalTime(now: now)
        record.leaseMilliseconds = leaseMilliseconds ?? 0
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
            queues[queue].totals.notices += 1
        } else {
            queues[queue].totals.enqueued += 1
        }
        // Before it is put in a list: they may say in which.
        if let options {
            withExtras(slot, change: nil) { extras in
                extras.take(options, arrival: record.enqueued)
                extras.key = options.key
            }
        }
        enter(slot, change: [.awaited, .full])
        return slot
    }

    // MARK: Keys

    /// The task that keeps a key from being taken at `now`, 0 if none does. If the one that has it should have ended by
    /// now, that happens first, and `waitedFor` gets the queue that this made a task ready in, if clients wait for it.
    mutating func holder(of key: [UInt8], in queue: Slot, now: Int64, waitedFor: inout Slot) -> Slot {
        let slot = holder(of: key, in: queue)
        guard slot != 0 else { return 0 }
        if tasks[slot].state.isUnfinished {
            let isWornOut = tasks[slot].state == .ready && tasks[slot].retries > 0 && isWornOut(slot)
            if tasks[slot].expires > now && !isWornOut { return slot }
            doom(slot)
        }
        if tasks[slot].state == .pendingRemoval { waitedFor = endPendingRemoval(slot, now: now) }
        // It may be gone by now, or have given the key back; or the key is its own for longer.
        let rest = holder(of: key, in: queue)
        guard rest != 0 else { return 0 }
        if let extras = extras(of: rest), extras.uniqueUntil > now { return rest }
        giveUpKey(of: rest)
        return 0
    }

    /// Whether another task keeps this one from having its key in a queue. O(1).
    func isKeyTaken(from slot: Slot, in queue: Slot, now: Int64) -> Bool {
        guard let key = extras(of: slot)?.key, !key.isEmpty else { return false }
        let other = holder(of: key, in: queue)
        guard other != 0, other != slot else { return false }
        return tasks[other].state.isUnfinished || tasks[other].state == .pendingRemoval
            || extras(of: other)?.uniqueUntil ?? 0 > now
    }

    /// Takes the key of a task in its queue, which `isKeyTaken` has found to be free.
    mutating func takeKey(_ slot: Slot) {
        guard let extras = extras(of: slot), !extras.key.isEmpty else { return }
        let other = holder(of: extras.key, in: tasks[slot].queue)
        if other != 0 && other != slot { giveUpKey(of: other) }
        if other != slot { setHoldsKey(true, of: slot) }
    }

    /// Gives back the key of a task that has ended. One that is there for its key only goes with it.
    private mutating func giveUpKey(of slot: Slot) {
        if tasks[slot].state == .hidden { remove(slot) } else { setHoldsKey(false, of: slot) }
    }

    /// Gives back the key of a task that has ended, which it was to keep for longer.
    mutating func freeKeptKey(of slot: Slot) {
        withExtras(slot) { $0.uniqueUntil = 0 }
        giveUpKey(of: slot)
    }

    /// Gives a task new content and options. While it is dispatched, they wait until that is over.
    mutating func replace(_ slot: Slot, with task: borrowing NewTask, content: Content, now: Int64) -> Slot {
        let queue = tasks[slot].queue
        let priority = task.priority ?? configuration(of: queue)?.value.priority ?? 0
        let lifetime = lifetimeMilliseconds(task.expiry, in: queue)
        let replacement = Replacement(task, content: content, priority: priority, arrival: arrivalTime(now: now))
        queues[queue].totals.enqueued += 1
        dropReplacement(of: slot)
        _ = transition(slot, to: tasks[slot].state, until: tasks[slot].until, at: .same) { record in
            record.lifetimeMilliseconds = lifetime
            record.expires = max(now, replacement.due).addingWithinRange(lifetime)
            record.retries = 0
        }
        withExtras(slot) { extras in
            extras.replacement = replacement
            extras.uniqueUntil = replacement.options?.uniqueUntil(from: replacement.enqueued) ?? 0
        }
        return tasks[slot].state == .dispatched ? 0 : applyReplacement(slot, now: now) ?? 0
    }

    /// Puts the new content and options of a task in the place of the old ones, at the back of its queue; nil if there are
    /// none.
    mutating func applyReplacement(_ slot: Slot, now: Int64) -> Slot? {
        guard let due = extras(of: slot)?.replacement?.due else { return nil }
        return due > now
            ? adoptReplacement(of: slot, as: .delayed, until: due, at: .back)
            : adoptReplacement(of: slot, as: .ready, until: now, at: .back)
    }

    /// Puts the new content and options of a task that comes to its end in the place of the old ones: what ends is what was
    /// accepted last.
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
            extras.take(replacement.options, arrival: replacement.enqueued)
            extras.worker = []
            extras.error = []
            extras.progress = []
            extras.result = []
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
