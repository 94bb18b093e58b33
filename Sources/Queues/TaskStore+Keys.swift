// Keys of tasks: which task holds a key, and taking and freeing keys. Their groups are in `KeyGroups.swift`.

extension TaskStore {
    /// The task that holds a key in a queue, 0 if none does. It may have finished.
    func holder(of key: [UInt8], in queue: Slot) -> Slot {
        let found = extrasTable.find(hash: TaskKey.hash(of: key[...], in: queue)) { record in
            guard let extras = record.extras, extras.holdsKey else { return false }
            return tasks[extras.task].queue == queue && extras.key == key
        }
        return found == 0 ? 0 : extrasTable[found].extras?.task ?? 0
    }

    /// The task that holds a key at `now`, 0 if the key is free. If the holder is due to end, it is ended first;
    /// `waitedFor` receives the queue in which this made a task ready, if that queue has waiters.
    mutating func holder(of key: [UInt8], in queue: Slot, now: Int64, waitedFor: inout Slot) -> Slot {
        let slot = holder(of: key, in: queue)
        guard slot != 0 else { return 0 }
        if tasks[slot].state.isUnfinished {
            let isWornOut = tasks[slot].state == .ready && tasks[slot].retries > 0 && isWornOut(slot)
            if tasks[slot].expires > now && !isWornOut { return slot }
            markForRemoval(slot)
        }
        if tasks[slot].state == .pendingRemoval { waitedFor = endPendingRemoval(slot, now: now) }
        // The task may be gone now, or have freed the key; or it keeps the key for longer.
        let rest = holder(of: key, in: queue)
        guard rest != 0 else { return 0 }
        if let extras = extras(of: rest), extras.options.uniqueUntil > now { return rest }
        giveUpKey(of: rest)
        return 0
    }

    /// Whether another task holds this task's key in a queue. O(1).
    func isKeyTaken(from slot: Slot, in queue: Slot, now: Int64) -> Bool {
        guard let key = extras(of: slot)?.key, !key.isEmpty else { return false }
        let other = holder(of: key, in: queue)
        guard other != 0, other != slot else { return false }
        return tasks[other].state.isUnfinished || tasks[other].state == .pendingRemoval
            || extras(of: other)?.options.uniqueUntil ?? 0 > now
    }

    /// Takes the key of a task in its queue, after `isKeyTaken` returned false.
    mutating func takeKey(_ slot: Slot) {
        guard let extras = extras(of: slot), !extras.key.isEmpty else { return }
        let other = holder(of: extras.key, in: tasks[slot].queue)
        if other != 0 && other != slot { giveUpKey(of: other) }
        if other != slot { setHoldsKey(true, of: slot) }
    }

    /// Frees the key of a task that has ended. A task that is kept only for its key is removed.
    private mutating func giveUpKey(of slot: Slot) {
        if tasks[slot].state == .hidden { remove(slot) } else { setHoldsKey(false, of: slot) }
    }

    /// Frees a key before its time, which a task keeps after its end.
    mutating func freeKeptKey(of slot: Slot) {
        withExtras(slot) { $0.options.uniqueUntil = 0 }
        giveUpKey(of: slot)
    }

    /// Takes a task's key in its queue, or frees it. To be taken, the key must be free.
    mutating func setHoldsKey(_ holdsKey: Bool, of slot: Slot) {
        guard let extras = extras(of: slot) else { return }
        displace(extras)
        extras.holdsKey = holdsKey && !extras.key.isEmpty
        place(extras)
        note(slot)
    }
}
