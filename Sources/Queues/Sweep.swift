// Purging, kicking and moving whole queues, a slice at a time.
//
// A sweep walks lists that change meanwhile. It knows the next and the last task to meet in each list; if one of them
// leaves its list, a neighbour takes its place. Tasks that are added meanwhile, at either end, are not met. A purge
// also meets tasks that have changed their state since it began, if the new state is one that it purges.

/// A purge, kick or move under way.
final class Sweep {
    enum Action: Equatable {
        case purge
        case kick
        case kickToOrigin
        case move(target: Slot)
        /// Ends the tasks that have no retries left.
        case wearOut
        /// Gives tasks that are no longer to be sent to workers.
        case giveToWorkers
    }

    /// The part of a list that is still to be met; `next` is 0 if there is none.
    struct Stretch {
        var next: Slot
        var last: Slot
    }

    /// A number that no other sweep of the store has had.
    let id: UInt64
    let queue: Slot
    let action: Action
    /// Which of the tasks that it meets it changes; nil for all.
    let filter: TaskFilter?
    /// How many tasks there were to meet when it began, and how many it has met.
    let totalCount: Int
    private(set) var examinedCount = 0
    /// How many tasks it may still change.
    private(set) var rest: Int
    /// The stretches still to be walked; the last is walked first.
    private var stretches: [Stretch]
    private let states: Set<TaskRecord.State>
    /// When it began. Tasks that arrived then or later are not met (`TaskStore.arrivalTime`).
    let begun: Int64
    /// The positions of the tasks to meet in their lists, if there is a journal. After a restart, only positions tell
    /// these tasks from later ones, so the sweep meets only tasks that are still in their places.
    let positions: Range<Int64>
    var isResumed = false
    /// The tasks that a purge meets after its stretches; some may have changed again since.
    private var strays: [Slot] = []
    /// The tasks that a purge has to meet but that are in none of its states now; and the tasks that have entered one
    /// of its states, or its queue, since it began.
    private var away: Set<Slot> = []
    private var strangers: Set<Slot> = []
    /// How many tasks it has changed.
    private(set) var count = 0
    let completion: Broker.SweepCompletion

    init(
        id: UInt64, of queue: Slot, _ action: Action, stretches: [Stretch], totalCount: Int, states: [TaskState],
        filter: TaskFilter?, limit: Int, positions: Range<Int64>, begun: Int64,
        completion: @escaping Broker.SweepCompletion
    ) {
        self.id = id
        self.totalCount = totalCount
        self.filter = filter
        self.states = Set(states.map(\.recordState))
        self.begun = begun
        self.positions = positions
        self.queue = queue
        self.action = action
        self.stretches = stretches.reversed()
        self.completion = completion
        rest = limit
    }

    /// The states in which it meets tasks.
    var metStates: [TaskState] { states.compactMap { TaskState($0) } }

    /// The queue that it moves tasks to; 0 for none.
    var target: Slot {
        if case .move(let target) = action { target } else { 0 }
    }

    private var isPurge: Bool {
        if case .purge = action { true } else { false }
    }

    /// Notes that a task has changed its state, has entered or left the queue, or has been replaced.
    func noteChange(of slot: Slot, from old: Standing, in tasks: borrowing Table<TaskRecord>) {
        guard isPurge else { return }
        if tasks[slot].queue != queue || tasks[slot].enqueued >= begun { return noteRemoval(of: slot) }
        if old.queue != queue {
            away.remove(slot)
            strangers.insert(slot)
            return
        }
        let wasMet = states.contains(old.state)
        let isMet = states.contains(tasks[slot].state)
        if wasMet == isMet && !wasMet { return }
        let isMember = wasMet ? !strangers.contains(slot) : away.contains(slot)
        switch (isMember, isMet) {
        case (true, true):
            strays.append(slot)
            away.remove(slot)
        case (true, false): away.insert(slot)
        case (false, true): strangers.insert(slot)
        case (false, false): strangers.remove(slot)
        }
    }

    /// Notes that a task is gone.
    func noteRemoval(of slot: Slot) {
        guard isPurge else { return }
        away.remove(slot)
        strangers.remove(slot)
    }

    private func isStray(_ slot: Slot, in tasks: borrowing Table<TaskRecord>) -> Bool {
        tasks.contains(slot) && tasks[slot].queue == queue && tasks[slot].enqueued < begun
            && states.contains(tasks[slot].state) && !strangers.contains(slot)
    }

    /// Whether it is begun again after a restart. Giving tasks to workers is not needed then: restored tasks are where
    /// they belong.
    var isToBeResumed: Bool {
        action != .giveToWorkers && rest > 0
    }

    /// What meeting a task takes.
    var stepsPerTask: Int { filter?.stepsPerTask ?? 1 }

    /// Returns the next task, which will not be met again; 0 if the sweep is over.
    func next(in tasks: borrowing Table<TaskRecord>) -> Slot {
        let slot = nextSlot(in: tasks)
        if slot != 0 { examinedCount += 1 }
        return slot
    }

    private func nextSlot(in tasks: borrowing Table<TaskRecord>) -> Slot {
        while rest > 0, let stretch = stretches.last {
            let slot = stretch.next
            if slot == 0 || slot == stretch.last { stretches.removeLast() }
            if slot != 0 {
                if slot != stretch.last {
                    stretches[stretches.count - 1].next = tasks[slot][links: TaskRecord.queueLinks].next
                }
                return slot
            }
        }
        while let slot = strays.popLast() {
            if isStray(slot, in: tasks) { return slot }
        }
        return 0
    }

    /// Notes that a task was changed.
    func noteChange() {
        count += 1
        rest -= 1
    }

    /// Notes that a task leaves its list.
    func skip(_ slot: Slot, links: Links) {
        for index in stretches.indices where stretches[index].next == slot || stretches[index].last == slot {
            if stretches[index].next == stretches[index].last {
                stretches[index].next = 0
            } else if stretches[index].next == slot {
                stretches[index].next = links.next
            } else {
                stretches[index].last = links.previous
            }
        }
    }

    /// Checks that each stretch goes from its next task to its last one, through tasks of one list, and that the tasks
    /// that a purge remembers exist. O(n).
    func checkInvariants(in tasks: borrowing Table<TaskRecord>) {
        for slot in away.union(strangers) {
            precondition(tasks.contains(slot) && tasks[slot].queue == queue, "a purge remembers a missing task")
        }
        for slot in away { precondition(!states.contains(tasks[slot].state), "a purge can meet a task that is away") }
        for stretch in stretches where stretch.next != 0 {
            var slot = stretch.next
            precondition(slot != 0 && stretch.last != 0, "a stretch without an end")
            while slot != stretch.last {
                precondition(tasks[slot].queue == queue && tasks[slot].state.isListed, "a sweep has lost its way")
                slot = tasks[slot][links: TaskRecord.queueLinks].next
                precondition(slot != 0, "a sweep has lost its end")
            }
            precondition(tasks[slot].queue == queue && tasks[slot].state.isListed, "a sweep has lost its way")
        }
    }
}
