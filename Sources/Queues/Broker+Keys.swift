// Taken keys: finding the holder of a key, and freeing a key that is kept after its task.

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
    /// The holder of a key in a queue; nil if the key is free. O(bytes).
    public func keyHolder(of key: [UInt8], in queue: QueueIndex, now: Int64) -> KeyHolder? {
        let slot = store.holder(of: key, in: queue.slot)
        guard slot != 0, let extras = store.extras(of: slot) else { return nil }
        let task = store.tasks[slot]
        let isUnfinished = task.isAlive(now: now)
        guard isUnfinished || extras.uniqueUntil > now else { return nil }
        return KeyHolder(task: task.id, isUnfinished: isUnfinished, since: task.enqueued, until: extras.uniqueUntil)
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
}
