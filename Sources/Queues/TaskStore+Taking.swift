// Taking tasks: one from every queue, from the queues that have one, or any.

import UID

extension TaskStore {
    /// The first queue that has fewer tasks available than the number of times it is named; nil if all have enough.
    /// Removes the expired and worn-out tasks that it meets; the shortage is unknown if these are too many for one
    /// call.
    mutating func shortage(of names: [QueueIndex], now: Int64) -> Shortage? {
        for queue in names { queues[queue.slot].wanted += 1 }
        var shortage: Shortage?
        var patience = Self.patience
        for queue in names {
            let need = queues[queue.slot].wanted
            guard need > 0 else { continue }
            queues[queue.slot].wanted = 0
            if shortage == nil && !hasReady(need, in: queue.slot, now: now, patience: &patience) {
                shortage = patience > 0 ? Shortage(queue: queue.slot, need: need) : .unknown
            }
        }
        return shortage
    }

    /// A shortage if none of the queues has a task available; nil if one has, or if no queue is named. Removes the
    /// expired and worn-out tasks that it meets; the shortage is unknown if these are too many, otherwise it is that of
    /// any of the queues.
    mutating func shortageOfAny(of names: [QueueIndex], now: Int64) -> Shortage? {
        if names.isEmpty { return nil }
        var patience = Self.patience
        var shortage = Shortage.unknown
        for queue in names {
            if firstReady(in: queue.slot, now: now, patience: &patience) != 0 { return nil }
            shortage = Shortage(queue: queue.slot, need: 1)
        }
        return patience > 0 ? shortage : .unknown
    }

    /// Removes the expired and worn-out tasks at the front of the queues, and returns whether these were not too many
    /// for one call. If so, `takeAvailable` meets none of them, and `takeAny` finds the first task.
    mutating func isDecided(_ names: [QueueIndex], isForAny: Bool, now: Int64) -> Bool {
        if isForAny { return shortageOfAny(of: names, now: now)?.queue != 0 }
        for queue in names { queues[queue.slot].wanted += 1 }
        var patience = Self.patience
        for queue in names {
            var need = queues[queue.slot].wanted
            queues[queue.slot].wanted = 0
            guard queues[queue.slot].isOpen else { continue }
            var slot = queues[queue.slot].ready.first
            while need > 0, slot != 0, patience > 0 {
                let next = queues[queue.slot].ready.next(after: slot, in: tasks)
                if canDispatch(slot, now: now) {
                    need -= 1
                } else {
                    markForRemoval(slot)
                    patience -= 1
                }
                slot = next
            }
        }
        return patience > 0
    }

    /// Whether the queue has `need` tasks available. Removes the expired and worn-out tasks that it meets.
    private mutating func hasReady(_ need: UInt32, in queue: Slot, now: Int64, patience: inout Int) -> Bool {
        guard queues[queue].isOpen else { return false }
        var slot = queues[queue].ready.first
        var seen: UInt32 = 0
        while seen < need && queues[queue].ready.count >= need && patience > 0 {
            let next = queues[queue].ready.next(after: slot, in: tasks)
            if canDispatch(slot, now: now) {
                seen += 1
            } else {
                markForRemoval(slot)
                patience -= 1
            }
            slot = next
        }
        return seen == need
    }

    /// Dispatches a task for each name, all or none; false if there are not enough. Tasks beyond the limit of content
    /// stay.
    mutating func take(
        _ names: [QueueIndex], leaseMilliseconds: Int64?, worker: [UInt8], now: Int64, into taken: inout [TaskHandle?]
    ) -> Bool {
        guard shortage(of: names, now: now) == nil else { return false }
        takeAvailable(names, leaseMilliseconds: leaseMilliseconds, worker: worker, now: now, into: &taken)
        return true
    }

    /// Dispatches a task for each name for which there is one, within the limit of content.
    mutating func takeAvailable(
        _ names: [QueueIndex], leaseMilliseconds: Int64?, worker: [UInt8], now: Int64, into taken: inout [TaskHandle?]
    ) {
        var patience = Self.patience
        var room = Int.max
        for queue in names {
            let slot = firstReady(in: queue.slot, now: now, patience: &patience)
            guard slot != 0, shownBytes(of: slot) <= room else {
                taken.append(nil)
                continue
            }
            // The first task is dispatched whatever its size.
            room = min(room - shownBytes(of: slot), maximumContentBytes)
            taken.append(dispatch(slot, leaseMilliseconds: leaseMilliseconds, worker: worker, now: now))
        }
    }

    /// Dispatches up to `limit` tasks from the queues, one queue after the other, within the limit of content.
    mutating func takeAny(
        _ names: [QueueIndex], limit: Int, leaseMilliseconds: Int64?, worker: [UInt8], now: Int64,
        into taken: inout [TaskHandle?]
    ) {
        var patience = Self.patience
        var room = Int.max
        for queue in names {
            while taken.count < limit,
                case let slot = firstReady(in: queue.slot, now: now, patience: &patience), slot != 0
            {
                guard shownBytes(of: slot) <= room else { return }
                room = min(room - shownBytes(of: slot), maximumContentBytes)
                taken.append(dispatch(slot, leaseMilliseconds: leaseMilliseconds, worker: worker, now: now))
            }
        }
    }

    /// The queue's first available task, 0 if there is none. Removes the expired and worn-out tasks before it.
    @inline(__always)
    private mutating func firstReady(in queue: Slot, now: Int64, patience: inout Int) -> Slot {
        guard queues[queue].isOpen else { return 0 }
        while case let slot = queues[queue].ready.first, slot != 0, patience > 0 {
            if canDispatch(slot, now: now) { return slot }
            markForRemoval(slot)
            patience -= 1
        }
        return 0
    }

    /// Whether a ready task may be dispatched.
    @inline(__always)
    func canDispatch(_ slot: Slot, now: Int64) -> Bool {
        tasks[slot].expires > now && (tasks[slot].retries == 0 || !isWornOut(slot))
    }

    /// Removes an expired or worn-out task from its list. Its timer will end it: ending it may make a task ready in
    /// another queue, which a take must not do.
    mutating func markForRemoval(_ slot: Slot) {
        _ = transition(slot, to: .pendingRemoval, until: 0, change: .any)
    }

    @inline(__always)
    mutating func dispatch(
        _ slot: Slot, leaseMilliseconds: Int64?, worker: [UInt8], now: Int64
    ) -> TaskHandle {
        let token = nextToken
        nextToken &+= 1
        count(in: tasks[slot].queue) { $0.dispatched += 1 }
        let wait = now - tasks[slot].readySince
        activity.readyMilliseconds.record(wait)
        queues[tasks[slot].queue].times.waits.note(wait)
        let lease = leaseMilliseconds ?? self.leaseMilliseconds(of: slot)
        _ = transition(slot, to: .dispatched, until: now.addingWithinRange(lease), change: .any) { record in
            record.attempt &+= 1
            record.token = token
            record.dispatched = now
        }
        if tasks[slot].extras != 0 || !worker.isEmpty && !isShortOfMemory {
            withExtras(slot, change: .any) { extras in
                extras.worker = worker
                extras.leaseMilliseconds = 0
                extras.hasLapsed = false
            }
        }
        return TaskHandle(key: DispatchKey(slot: slot, token: token))
    }
}
