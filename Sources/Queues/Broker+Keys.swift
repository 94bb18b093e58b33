// Keys of tasks: finding the holder of a key and the tasks of a group, and freeing a key that is kept after its task.

import UID

/// The task that holds a key of a queue.
public struct KeyHolder: Hashable, Sendable {
    /// The task's id. Its record may be gone.
    public let task: UID
    /// Whether the task is unfinished. If not, the key is still kept for some time.
    public let isUnfinished: Bool
    /// When the task was added, or replaced, in milliseconds since the Unix epoch.
    public let since: Int64
    /// Until when the key stays taken even if the task finishes before, in milliseconds since the Unix epoch.
    public let until: Int64
}

extension Broker {
    /// The unfinished task that holds a key. O(1).
    public func task(withKey key: [UInt8], in queue: QueueIndex, now: Int64) -> UID? {
        let slot = store.holder(of: key, in: queue.slot)
        return slot != 0 && store.tasks[slot].isAlive(now: now) ? store.tasks[slot].id : nil
    }

    /// Calls `body` with the unfinished tasks of a queue that hold keys of a group (see ``TaskKey``), in no particular
    /// order. `body` may look at more tasks. O(tasks).
    public func forEachTask(
        inKeyGroup group: [UInt8], of queue: QueueIndex, now: Int64, _ body: (borrowing TaskView) -> Void
    ) {
        let found = store.keyGroup(group[...], of: queue.slot)
        var slot = found == 0 ? 0 : store.keyGroups[found].first
        while slot != 0 {
            if store.tasks[slot].isAlive(now: now), let state = store.visibleState(of: slot, now: now) {
                view(slot, as: state, body)
            }
            slot = store.extras(of: slot)?.keyGroupLinks.next ?? 0
        }
    }

    /// The holder of a key in a queue; nil if the key is free. O(bytes).
    public func keyHolder(of key: [UInt8], in queue: QueueIndex, now: Int64) -> KeyHolder? {
        let slot = store.holder(of: key, in: queue.slot)
        guard slot != 0, let extras = store.extras(of: slot) else { return nil }
        let task = store.tasks[slot]
        let isUnfinished = task.isAlive(now: now)
        guard isUnfinished || extras.options.uniqueUntil > now else { return nil }
        return KeyHolder(
            task: task.id, isUnfinished: isUnfinished, since: task.enqueued, until: extras.options.uniqueUntil)
    }

    /// Frees a key that is kept although its task has finished. The task's record stays, if there is one. O(bytes).
    ///
    /// - Returns: whether the key was freed; false if it was free, or if an unfinished task holds it.
    public func freeKey(_ key: [UInt8], in queue: QueueIndex, now: Int64) -> Bool {
        beginChange()
        let slot = holder(of: key, in: queue, now: now)
        guard slot != 0, !store.tasks[slot].state.isUnfinished else { return false }
        store.freeKeptKey(of: slot)
        return true
    }

    /// The task that holds a key, 0 if the key is free. If the holder is due to end, it is ended first.
    func holder(of key: [UInt8], in queue: QueueIndex, now: Int64) -> Slot {
        var waitedFor: Slot = 0
        let holder = store.holder(of: key, in: queue.slot, now: now, waitedFor: &waitedFor)
        serveWaiters(of: waitedFor, now: now)
        return holder
    }
}
