// Looking at tasks and queues.

import UID

extension TaskStore {
    /// The state of a task at `now`, even if its timer has not fired yet; nil if the task is not visible.
    func visibleState(of slot: Slot, now: Int64) -> TaskState? {
        let state = tasks[slot].state
        guard state.isUnfinished || state == .pendingRemoval else {
            return tasks[slot].until > now ? TaskState(state) : nil
        }
        if tasks[slot].expires > now { return TaskState(state) ?? .dead }
        if configuration(of: tasks[slot].queue)?.value.isExpiryDeath == true { return .dead }
        let replacement = extras(of: slot)?.replacement
        let keep = replacement.map { keepMilliseconds(own: $0.options?.keepMilliseconds, in: tasks[slot].queue) }
        return tasks[slot].expires.addingWithinRange(keep ?? keepMilliseconds(of: slot)) > now ? .expired : nil
    }

    /// Whether a task in a list is visible there.
    func isShown(_ slot: Slot, now: Int64) -> Bool {
        switch tasks[slot].state {
        case .ready: canDispatch(slot, now: now)
        case .delayed, .dispatched: tasks[slot].expires > now
        default: tasks[slot].until > now
        }
    }

    /// The size of the variable parts of a task in an answer, in bytes, if it shows `limit` bytes of each JSON at most.
    func shownBytes(of slot: Slot, limit: Int = .max) -> Int {
        min(Int(tasks[slot].content.count), limit) + (extras(of: slot)?.textBytes(limit: limit) ?? 0)
    }

    /// The first task of a queue that is in a state, 0 if there is none.
    func first(_ state: TaskState, in queue: Slot) -> Slot {
        state == .ready ? queues[queue].firstReady : queues[queue].list(of: state.recordState).first
    }

    /// The task after another one of the same queue and state, 0 if there is none.
    func next(after slot: Slot) -> Slot {
        tasks[slot].state == .ready
            ? queues[tasks[slot].queue].nextReady(after: slot, in: tasks)
            : tasks[slot][links: TaskRecord.queueLinks].next
    }

    /// The statistics of a queue.
    func statistics(of queue: Slot) -> QueueStatistics {
        var statistics = QueueStatistics()
        statistics.ready = Int(queues[queue].readyCount)
        statistics.delayed = Int(queues[queue].list(of: .delayed).count)
        statistics.dispatched = Int(queues[queue].list(of: .dispatched).count)
        statistics.sends = Int(queues[queue].sends)
        statistics.dead = Int(queues[queue].list(of: .dead).count)
        statistics.done = Int(queues[queue].list(of: .done).count)
        statistics.cancelled = Int(queues[queue].list(of: .cancelled).count)
        statistics.expired = Int(queues[queue].list(of: .expired).count)
        statistics.keptKeys = Int(queues[queue].keptKeys)
        statistics.waiters = Int(queues[queue].waits)
        if queues[queue].pause == .paused {
            statistics.isPaused = true
            statistics.pausedSince = queues[queue].since == 0 ? nil : queues[queue].since
        }
        statistics.lastMinute = lastMinute(of: queue)
        statistics.totals = queues[queue].totals
        let oldest = oldestReadyTask(in: queue)
        if oldest != 0 { statistics.oldestReady = tasks[oldest].readySince }
        statistics.isPushed = queues[queue].isPushed || oldest != 0 && queues[queue].ready.count == 0
        return statistics
    }

    /// Since when the oldest of the first ready tasks of each priority has been ready; nil if no task is ready.
    /// O(priorities in use).
    func oldestReady(in queue: Slot) -> Int64? {
        let oldest = oldestReadyTask(in: queue)
        return oldest == 0 ? nil : tasks[oldest].readySince
    }

    /// The oldest of the first ready tasks of each priority, 0 if no task is ready. O(priorities in use).
    private func oldestReadyTask(in queue: Slot) -> Slot {
        if queues[queue].readyCount == 0 { return 0 }
        var oldest: Slot = 0
        queues[queue].forEachReadyList { list in
            if oldest == 0 || tasks[list.first].readySince < tasks[oldest].readySince { oldest = list.first }
        }
        return oldest
    }

    /// Ends a wait for the end of a task.
    mutating func removeWaiter(_ waiter: Waiter, of task: UID) {
        let slot = self.task(task)
        guard slot != 0, let extras = extras(of: slot), let last = extras.waiters.popLast() else { return }
        guard last !== waiter else { return }
        // The last waiter fills the gap.
        extras.waiters[waiter.resultPosition] = last
        last.resultPosition = waiter.resultPosition
    }
}
