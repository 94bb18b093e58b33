// What the broker keeps of a queue.

/// One queue.
struct QueueRecord: LinkedRecord {
    typealias List = LinkedList<TaskRecord, 0>

    enum Pause: UInt8 {
        case none
        /// It counts as empty for those who take and wait.
        case paused
        /// It still counts as empty, until `advance` has seen to all who wait for it.
        case resuming
    }

    /// Its ready tasks of one priority.
    struct Level {
        var priority: Int8
        var list = List()
    }

    var name: [UInt8] = []
    private(set) var hash: UInt32 = 0
    var chained: Slot = 0
    /// Links of the list of idle queues.
    private var links = Links()
    /// Its tasks by state: the ready ones of priority 0, the delayed, dispatched, dead, done, cancelled and expired ones.
    private(set) var lists = InlineArray<7, List>(repeating: List())
    /// The ready tasks of other priorities, as far as there are any, the highest last.
    private(set) var levels: [Level] = []
    /// How many tasks the levels hold.
    private var leveled: UInt32 = 0
    /// How many tasks it holds, in whatever state.
    var tasks: UInt32 = 0
    /// How many clients wait for it.
    var waits: UInt32 = 0
    /// How often a take under way names it; 0 between takes.
    var wanted: UInt32 = 0
    /// How many sweeps need it.
    var sweeps: UInt32 = 0
    var pause = Pause.none
    /// The waiters filed under it, by how many of its tasks they need: always more than are available.
    var waiters: [UInt32: WaiterHeap<ByArrival>] = [:]
    var configuration: SharedConfiguration?
    var totals = QueueStatistics.Totals()
    /// The sequence of the frame that has its image, 0 if it has none, and the size of that. And whether it has to be written
    /// anew.
    var imageSequence: UInt64 = 0
    var imageBytes: UInt32 = 0
    var isChanged = false
    /// When it was last used, if it is idle.
    var lastUsed: Int64 = 0

    init() {}

    init(name: Span<UInt8>, hash: UInt32) {
        self.name = Array(copying: name)
        self.hash = hash
    }

    /// Whether nothing but its totals would be lost if it were forgotten.
    var isIdle: Bool {
        tasks == 0 && waits == 0 && sweeps == 0 && pause == .none && configuration == nil && !isChanged
    }

    /// Whether it is of interest to those who look at all queues.
    var isListed: Bool {
        pause != .none || configuration != nil || length > 0 || list(of: .dead).count > 0
    }

    /// How many tasks are ready.
    @inline(__always) var readyCount: UInt32 { lists[0].count + leveled }

    /// How many tasks there are to take.
    @inline(__always) var available: UInt32 { pause == .none ? readyCount : 0 }

    /// How many tasks have not come to their end.
    var length: Int { Int(readyCount) + Int(list(of: .delayed).count) + Int(list(of: .dispatched).count) }

    /// Clients choose the names, so they are hashed with a key that is drawn anew for each process (SipHash).
    static func hash(of name: Span<UInt8>) -> UInt32 {
        var hasher = Hasher()
        unsafe name.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
        return UInt32(truncatingIfNeeded: hasher.finalize())
    }

    subscript(links kind: Int) -> Links {
        get { links }
        set { links = newValue }
    }

    // MARK: Lists

    /// The tasks of a state; of the ready ones only those of priority 0.
    func list(of state: TaskRecord.State) -> List {
        lists[Int(state.rawValue) - 1]
    }

    /// Puts a task at the end, or the front, of the list that its state and priority ask for. O(1), but for the priorities
    /// in use.
    @inline(__always)
    mutating func insert(_ slot: Slot, atFront: Bool, in tasks: inout Table<TaskRecord>) {
        let state = tasks[slot].state
        if state == .ready && tasks[slot].priority != 0 {
            return insertInLevel(slot, atFront: atFront, in: &tasks)
        }
        if atFront {
            lists[Int(state.rawValue) - 1].prepend(slot, in: &tasks)
        } else {
            lists[Int(state.rawValue) - 1].append(slot, in: &tasks)
        }
    }

    /// Takes a task out of its list. O(1), but for the priorities in use.
    @inline(__always)
    mutating func remove(_ slot: Slot, in tasks: inout Table<TaskRecord>) {
        let state = tasks[slot].state
        if state == .ready && tasks[slot].priority != 0 { return removeFromLevel(slot, in: &tasks) }
        lists[Int(state.rawValue) - 1].remove(slot, in: &tasks)
    }

    /// The first of the ready tasks, 0 if there is none. O(1).
    @inline(__always) var firstReady: Slot {
        guard let top = levels.last else { return lists[0].first }
        return top.priority > 0 || lists[0].isEmpty ? top.list.first : lists[0].first
    }

    /// The ready task after another one, 0 if there is none. O(1), but for the priorities in use.
    func nextReady(after slot: Slot, in tasks: borrowing Table<TaskRecord>) -> Slot {
        let next = tasks[slot][links: TaskRecord.queueLinks].next
        if next != 0 || levels.isEmpty { return next }
        let priority = tasks[slot].priority
        let below = levels.last { $0.priority < priority }
        if priority > 0 && !lists[0].isEmpty && below?.priority ?? -1 < 0 { return lists[0].first }
        return below?.list.first ?? 0
    }

    /// Calls `body` with the first and last of the ready tasks of each priority, the highest first.
    func forEachReadyList(_ body: (Int8, List) -> Void) {
        for level in levels.reversed() where level.priority > 0 { body(level.priority, level.list) }
        if !lists[0].isEmpty { body(0, lists[0]) }
        for level in levels.reversed() where level.priority < 0 { body(level.priority, level.list) }
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

    // MARK: Checks

    /// Calls `body` with each list of tasks.
    func forEachList(_ body: (List) -> Void) {
        for index in lists.indices { body(lists[index]) }
        for level in levels { body(level.list) }
    }

    /// Checks the lists, and calls `body` with each task in them. O(n).
    func checkInvariants(in tasks: borrowing Table<TaskRecord>, _ body: (Slot) -> Void) {
        for index in lists.indices {
            lists[index].checkInvariants(in: tasks) { slot in
                precondition(Int(tasks[slot].state.rawValue) == index + 1, "a task in the list of another state")
                precondition(index > 0 || tasks[slot].priority == 0, "a task in the list of another priority")
                body(slot)
            }
        }
        var inLevels: UInt32 = 0
        for (index, level) in levels.enumerated() {
            precondition(level.priority != 0 && !level.list.isEmpty, "a level that should not be there")
            precondition(index == 0 || levels[index - 1].priority < level.priority, "levels out of order")
            inLevels += level.list.count
            level.list.checkInvariants(in: tasks) { slot in
                precondition(tasks[slot].state == .ready, "a task in a level that is not ready")
                precondition(tasks[slot].priority == level.priority, "a task in the level of another priority")
                body(slot)
            }
        }
        precondition(inLevels == leveled, "the tasks in levels are miscounted")
    }
}

/// A configuration by reference, so that the queues that have none keep only the place for one.
final class SharedConfiguration {
    let value: QueueConfiguration

    init(_ value: QueueConfiguration) {
        self.value = value
    }
}
