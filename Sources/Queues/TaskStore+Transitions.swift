// The transitions of tasks. A task's state, queue, times, priority and content change here and nowhere else, so that
// lists, timers, counts, sweeps, push and the journal always learn of it. The caller serves the waiters.

extension TaskStore {
    /// Where a transition puts a task in the list of its state.
    enum Place {
        case back
        case front
        /// At its former place: its state and queue must not change, nor the priority of a ready task.
        case same
    }

    /// Changes a task.
    ///
    /// - Parameters:
    ///   - slot: the task.
    ///   - state: the new state.
    ///   - until: when the state ends by itself; for a ready task, since when it has been ready.
    ///   - target: the new queue, 0 for its own. A task that holds its key must not move to another queue.
    ///   - place: the place in its list.
    ///   - change: what the journal has to write.
    ///   - edit: changes the rest of the record. If it changes the content, it also has to count the bytes.
    /// - Returns: the queue in which this made a task ready, if it has waiters, which the caller serves; otherwise 0.
    @inline(__always)
    mutating func transition(
        _ slot: Slot, to state: TaskRecord.State, until: Int64, in target: Slot = 0, at place: Place = .back,
        change: ImageIndex.Change = .awaited, edit: (inout TaskRecord) -> Void = { _ in }
    ) -> Slot {
        timers.disarm(slot, in: &tasks)
        if place == .same {
            assert(state == tasks[slot].state && target == 0, "a task stays where it does not belong")
            tasks[slot].until = until
            edit(&tasks[slot])
            timers.arm(slot, in: &tasks)
            note(slot, change)
            return 0
        }
        let old = Standing(of: tasks[slot])
        unlink(slot)
        tasks[slot].state = state
        tasks[slot].until = until
        edit(&tasks[slot])
        if target != 0 { transfer(slot, to: target) }
        enter(slot, atFront: place == .front, change: change)
        if !sweeps.isEmpty { tellSweeps(of: slot, from: old) }
        return state == .ready ? waitedFor(tasks[slot].queue) : 0
    }

    /// Puts a task that is only in the table into the list and the timing wheel, as its record says.
    @inline(__always)
    mutating func enter(_ slot: Slot, atFront: Bool = false, change: ImageIndex.Change) {
        link(slot, atFront: atFront)
        timers.arm(slot, in: &tasks)
        note(slot, change)
    }

    /// Deletes a task with all its parts.
    mutating func remove(_ slot: Slot) {
        timers.disarm(slot, in: &tasks)
        unlink(slot)
        if !sweeps.isEmpty { tellSweeps(ofRemoval: slot) }
        if tasks[slot].extras != 0 { removeExtras(of: slot) }
        freeContent(of: slot)
        update(tasks[slot].queue) { $0.tasks -= 1 }
        // Last, because from here on the slot may belong to another task.
        if isJournaled { images.noteRemoval(slot, id: tasks[slot].id) }
        let released = tasks.remove(slot)
        if isJournaled, let released { images.giveBack(released) }
    }

    /// The queue if it has waiters and workers may take its tasks, otherwise 0.
    @inline(__always)
    func waitedFor(_ queue: Slot) -> Slot {
        queues[queue].waiters.isEmpty || !queues[queue].isOpen ? 0 : queue
    }

    // MARK: Parts

    /// Puts a task that is in no list into the list where it belongs.
    @inline(__always)
    private mutating func link(_ slot: Slot, atFront: Bool) {
        let state = tasks[slot].state
        countTask(in: state, 1)
        guard state.isListed else { return countKeptKey(of: slot, 1) }
        if state == .ready {
            tasks[slot].isPushed = isToBeSent(slot)
            if tasks[slot].isPushed { noteSendable(tasks[slot].queue) }
        }
        queues[tasks[slot].queue].insert(slot, atFront: atFront, in: &tasks)
        if atFront, state == .ready { readyAsLongAsNext(slot) }
        if isJournaled { images.notePlace(slot, atFront: atFront) }
    }

    /// A task that is put before others counts as ready since the same time as they, so that the first task of a list
    /// tells how long tasks wait.
    private mutating func readyAsLongAsNext(_ slot: Slot) {
        let next = tasks[slot][links: TaskRecord.queueLinks].next
        if next != 0 { tasks[slot].until = min(tasks[slot].until, tasks[next].until) }
    }

    /// Removes a task from its list.
    @inline(__always)
    private mutating func unlink(_ slot: Slot) {
        let state = tasks[slot].state
        countTask(in: state, -1)
        guard state.isListed else { return countKeptKey(of: slot, -1) }
        if !sweeps.isEmpty { skip(slot) }
        queues[tasks[slot].queue].remove(slot, in: &tasks)
        if state == .dispatched, tasks[slot].isPushed { noteEndOfSending(slot) }
    }

    /// Counts a task that is kept only for its key.
    private mutating func countKeptKey(of slot: Slot, _ difference: Int32) {
        guard tasks[slot].state == .hidden else { return }
        let queue = tasks[slot].queue
        queues[queue].keptKeys = UInt32(clamping: Int64(queues[queue].keptKeys) + Int64(difference))
    }

    /// Counts a task that is about to enter a queue that has reached its maximum length.
    mutating func countOverLength(in queue: Slot) {
        if isFull(queue) { count(in: queue) { $0.overLength += 1 } }
    }

    private mutating func transfer(_ slot: Slot, to target: Slot) {
        assert(extras(of: slot)?.holdsKey != true, "a task takes its key along")
        if target != tasks[slot].queue {
            count(in: target) { $0.received += 1 }
            if tasks[slot].state.isUnfinished { countOverLength(in: target) }
        }
        update(target) { $0.tasks += 1 }
        update(tasks[slot].queue) { $0.tasks -= 1 }
        tasks[slot].queue = target
    }

    // Not inlined: it is rarely needed, and would only make the code of takes longer.
    @inline(never)
    private func tellSweeps(of slot: Slot, from old: Standing) {
        for sweep in sweeps where sweep.queue == old.queue || sweep.queue == tasks[slot].queue {
            sweep.noteChange(of: slot, from: old, in: tasks)
        }
    }

    @inline(never)
    private func tellSweeps(ofRemoval slot: Slot) {
        for sweep in sweeps where sweep.queue == tasks[slot].queue { sweep.noteRemoval(of: slot) }
    }

    /// Moves on the sweeps for which this task is the next or the last one.
    private func skip(_ slot: Slot) {
        for sweep in sweeps where sweep.queue == tasks[slot].queue {
            sweep.skip(slot, links: tasks[slot][links: TaskRecord.queueLinks])
        }
    }
}

/// The place of a task: a queue and one of its lists.
struct Standing {
    var state: TaskRecord.State
    var queue: Slot

    @inline(__always)
    init(of task: borrowing TaskRecord) {
        (state, queue) = (task.state, task.queue)
    }
}
