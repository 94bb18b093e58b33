// The ready tasks of a queue in the order of dispatch: by priority, and first in, first out within a priority.

/// Ready tasks by priority. Priority 0 has a list of its own, and for most queues there are no others.
struct ReadyTasks {
    typealias List = LinkedList<TaskRecord, 0>

    /// The tasks of one priority.
    struct Level {
        var priority: Int8
        var list = List()
    }

    /// The tasks of priority 0.
    private var ordinary = List()
    /// The tasks of other priorities that are in use, the highest last.
    private var levels: [Level] = []
    /// How many tasks the levels hold.
    private var leveled: UInt32 = 0

    /// The number of tasks.
    @inline(__always) var count: UInt32 { ordinary.count + leveled }

    /// The first task, 0 if there is none. O(1).
    @inline(__always) var first: Slot {
        guard let top = levels.last else { return ordinary.first }
        return top.priority > 0 || ordinary.isEmpty ? top.list.first : ordinary.first
    }

    /// The task after another one, 0 if there is none. O(1), but for the priorities in use.
    func next(after slot: Slot, in tasks: borrowing Table<TaskRecord>) -> Slot {
        let next = tasks[slot][links: TaskRecord.queueLinks].next
        if next != 0 || levels.isEmpty { return next }
        return highest(below: Int(tasks[slot].priority))?.list.first ?? 0
    }

    /// The tasks of the highest priority below another one; nil if there are none. O(priorities in use).
    func highest(below priority: Int) -> Level? {
        let level = levels.last { $0.priority < priority }
        let isOrdinary = priority > 0 && !ordinary.isEmpty && level?.priority ?? -1 < 0
        return isOrdinary ? Level(priority: 0, list: ordinary) : level
    }

    /// Adds a task behind, or before, the others of its priority. O(1), but for the priorities in use.
    @inline(__always)
    mutating func insert(_ slot: Slot, atFront: Bool, in tasks: inout Table<TaskRecord>) {
        if tasks[slot].priority != 0 { return insertInLevel(slot, atFront: atFront, in: &tasks) }
        if atFront { ordinary.prepend(slot, in: &tasks) } else { ordinary.append(slot, in: &tasks) }
    }

    /// Removes a task. O(1), but for the priorities in use.
    @inline(__always)
    mutating func remove(_ slot: Slot, in tasks: inout Table<TaskRecord>) {
        if tasks[slot].priority != 0 { return removeFromLevel(slot, in: &tasks) }
        ordinary.remove(slot, in: &tasks)
    }

    /// Where the level of a priority is, or would be.
    private func levelIndex(of priority: Int8) -> Int {
        var (low, high) = (0, levels.count)
        while low < high {
            let middle = (low + high) / 2
            if levels[middle].priority < priority { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private mutating func insertInLevel(_ slot: Slot, atFront: Bool, in tasks: inout Table<TaskRecord>) {
        let priority = tasks[slot].priority
        let index = levelIndex(of: priority)
        if index == levels.count || levels[index].priority != priority {
            levels.insert(Level(priority: priority), at: index)
        }
        if atFront {
            levels[index].list.prepend(slot, in: &tasks)
        } else {
            levels[index].list.append(slot, in: &tasks)
        }
        leveled += 1
    }

    private mutating func removeFromLevel(_ slot: Slot, in tasks: inout Table<TaskRecord>) {
        let index = levelIndex(of: tasks[slot].priority)
        levels[index].list.remove(slot, in: &tasks)
        if levels[index].list.isEmpty { levels.remove(at: index) }
        if levels.isEmpty { levels = [] }
        leveled -= 1
    }

    /// Checks the lists, and calls `body` with each task in them. O(n).
    func checkInvariants(in tasks: borrowing Table<TaskRecord>, _ body: (Slot) -> Void) {
        var inLevels: UInt32 = 0
        for (index, level) in levels.enumerated() {
            precondition(level.priority != 0 && !level.list.isEmpty, "a level that is empty or of priority 0")
            precondition(index == 0 || levels[index - 1].priority < level.priority, "levels out of order")
            inLevels += level.list.count
        }
        precondition(inLevels == leveled, "the tasks in levels are miscounted")
        for level in levels + [Level(priority: 0, list: ordinary)] {
            level.list.checkInvariants(in: tasks) { slot in
                precondition(tasks[slot].state == .ready, "a task in a list of ready tasks is not ready")
                precondition(tasks[slot].priority == level.priority, "a task in the list of another priority")
                body(slot)
            }
        }
    }
}
