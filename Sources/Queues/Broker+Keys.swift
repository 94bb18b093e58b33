// Keys that are taken: looking up who has one, and freeing one that has outlived its task.

import UID

/// Why a key of a queue is taken.
public struct KeyHolder: Hashable, Sendable {
    /// The task that took it. Its record may be gone.
    public let task: UID
    /// Whether that task is unfinished. If not, the key is kept for some time after it.
    public let isUnfinished: Bool
    /// When the task was added, or replaced, in milliseconds since the Unix epoch.
    public let since: Int64
    /// Until when the key stays taken at least, even if its task ends before, in milliseconds since the Unix epoch.
    public let until: Int64
}

extension Broker {
    /// Who keeps a key of a queue from being taken; nil if it is free. O(bytes).
    public func keyHolder(of key: [UInt8], in queue: QueueIndex, now: Int64) -> KeyHolder? {
        let slot = store.holder(of: key, in: queue.slot)
        guard slot != 0, let extras = store.extras(of: slot) else { return nil }
        let task = store.tasks[slot]
        let isUnfinished = task.isAlive(now: now)
        guard isUnfinished || extras.uniqueUntil > now else { return nil }
        return KeyHolder(task: task.id, isUnfinished: isUnfinished, since: task.enqueued, until: extras.uniqueUntil)
    }

    /// Frees a key that is kept though its task has ended. The task's record stays, if there is one. O(bytes).
    ///
    /// - Returns: whether it was kept; false if it is free, or if an unfinished task has it.
    public func freeKey(_ key: [UInt8], in queue: QueueIndex, now: Int64) -> Bool {
        beginChange()
        let slot = holder(of: key, in: queue, now: now)
        guard slot != 0, !store.tasks[slot].state.isUnfinished else { return false }
        store.freeKeptKey(of: slot)
        return true
    }
}
