// Selecting tasks of a queue by their errors and their age, for operations on many tasks.

import Bytes
import UID

/// Selects tasks by their error, and by the time for which they have been in their state. A task must fulfil all that
/// is not nil.
///
/// The time of a delayed task counts from when it was enqueued, that of a dispatched one from its dispatch, and that of
/// a ready one from when it became ready.
public struct TaskFilter: Hashable, Sendable {
    /// The summary of the error (`TaskError.summary`); empty for tasks without an error.
    public var error: [UInt8]?
    /// What that summary matches. It selects no task without an error.
    public var errorPattern: GlobPattern?
    /// Only tasks that have been in their state for at least that long.
    public var olderThanMilliseconds: Int64?
    /// Only tasks that have been in their state for less than that.
    public var newerThanMilliseconds: Int64?
    /// The time at which both are meant.
    public var time: Int64

    /// Makes a filter that selects all tasks.
    public init(time: Int64) { self.time = time }

    /// Whether it selects all tasks.
    public var isEmpty: Bool {
        error == nil && errorPattern == nil && olderThanMilliseconds == nil && newerThanMilliseconds == nil
    }

    /// How many tasks that no filter looks at take as long as one that this looks at, at the worst.
    var stepsPerTask: Int {
        1 + (errorPattern?.byteCount ?? 0) * TaskError.maximumSummaryBytes / Self.comparisonsPerStep
    }

    private static var comparisonsPerStep: Int { 1024 }
}

extension TaskStore {
    /// Whether a filter selects a task. O(bytes of the pattern and of the summary of its error).
    func selects(_ filter: TaskFilter, _ slot: Slot) -> Bool {
        if filter.olderThanMilliseconds != nil || filter.newerThanMilliseconds != nil {
            let age = filter.time.addingWithinRange(-stateBegin(of: slot))
            // It has come into its state since, so it was none of the tasks that were meant.
            if age < 0 { return false }
            if let least = filter.olderThanMilliseconds, age < least { return false }
            if let limit = filter.newerThanMilliseconds, age >= limit { return false }
        }
        if filter.error == nil, filter.errorPattern == nil { return true }
        let summary = TaskError.summary(of: extras(of: slot)?.error ?? [])
        if let error = filter.error, summary != error { return false }
        guard let pattern = filter.errorPattern else { return true }
        return !summary.isEmpty && pattern.matches(summary.span)
    }

    /// Since when a task has been in its state; of a delayed task, when it was enqueued.
    private func stateBegin(of slot: Slot) -> Int64 {
        switch tasks[slot].state {
        case .ready: tasks[slot].readySince
        case .dispatched: tasks[slot].dispatched
        case .dead, .done, .cancelled, .expired: tasks[slot].expires
        case .delayed, .vacant, .pendingRemoval, .hidden: tasks[slot].enqueued
        }
    }
}

extension Broker {
    /// The tasks that a search has found.
    public struct Found: Sendable {
        /// Their ids, in the order of `peek`.
        public var ids: [UID] = []
        /// The last task that it looked at; nil if it has come to the end of the list. The task may have expired.
        public var last: UID?
    }

    /// Finds up to `limit` tasks of a queue that are in one state and that a filter selects. O(`lookLimit`).
    ///
    /// - Parameters:
    ///   - queue: the queue.
    ///   - state: the state.
    ///   - after: the task to begin after; nil to begin with the first.
    ///   - filter: which tasks.
    ///   - limit: how many tasks to find at most. Those after the first fit into one call's limit of content.
    ///   - lookLimit: how many tasks to look at, at most; fewer if the filter has a long pattern.
    ///   - contentLimit: how many bytes of each JSON of a task are used at most.
    ///   - now: the time.
    /// - Returns: what it has found; nil if the task `after` is not in this queue and state.
    public func find(
        in queue: QueueIndex, state: TaskState, after: UID?, matching filter: TaskFilter, limit: Int, lookLimit: Int,
        contentLimit: Int = .max, now: Int64
    ) -> Found? {
        guard var slot = firstSlot(in: queue, state: state, after: after) else { return nil }
        var found = Found()
        var steps = lookLimit
        var room = Int.max
        while slot != 0, found.ids.count < limit, steps > 0 {
            let isShown = store.isShown(slot, now: now)
            steps -= isShown ? filter.stepsPerTask : 1
            if isShown, store.selects(filter, slot) {
                let byteCount = store.shownBytes(of: slot, limit: contentLimit)
                if byteCount > room { break }
                room = min(room - byteCount, store.maximumContentBytes)
                found.ids.append(store.tasks[slot].id)
            }
            found.last = store.tasks[slot].id
            slot = store.next(after: slot)
        }
        if slot == 0 { found.last = nil }
        return found
    }
}
