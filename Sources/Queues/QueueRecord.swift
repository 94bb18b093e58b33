// What the broker keeps of a queue.

import Bytes

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

    var name: [UInt8] = []
    private(set) var hash: UInt32 = 0
    var chained: Slot = 0
    /// Links of the list of idle queues.
    private var links = Links()
    /// Its ready tasks: those that workers take, and those that are sent (the records say which are which).
    private(set) var ready = ReadyTasks()
    private(set) var pushed = ReadyTasks()
    /// Its other tasks by state: the delayed, dispatched, dead, done, cancelled and expired ones.
    private var lists = InlineArray<6, List>(repeating: List())
    /// How many tasks it holds, in whatever state, and of how many of them only the key is left.
    var tasks: UInt32 = 0
    var keptKeys: UInt32 = 0
    /// How many clients wait for it.
    var waits: UInt32 = 0
    /// How often a take under way names it; 0 between takes.
    var wanted: UInt32 = 0
    /// Whether clients wait for tasks that an event under way has given it.
    var isAwaited = false
    /// How many sweeps need it.
    var sweeps: UInt32 = 0
    var pause = Pause.none
    /// Whether its configuration has all of its tasks sent. Some may stand among those that workers take still.
    var isPushed = false
    /// Whether the defaults for all queues do not apply to it.
    var isExempt = false
    /// Whether whoever sends tasks has been told, or is about to be, that there may be some here.
    var isSendable = false
    /// How many of its tasks have died of which whoever sends tasks has not been told yet.
    var unreportedDeadTasks: UInt32 = 0
    /// The waiters registered under it, by how many of its tasks they need: always more than are available.
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

    /// Whether this is its name. O(bytes).
    @inline(__always) func isNamed(_ other: Span<UInt8>) -> Bool {
        // By itself: a span of the record's would need a copy of the record to live.
        let name = name
        return name.span.equals(other)
    }

    /// Whether nothing but its totals would be lost if it were forgotten. Inlined, as all that is asked for each task: else the
    /// record is copied to ask.
    @inline(__always) var isIdle: Bool {
        tasks == 0 && waits == 0 && sweeps == 0 && pause == .none && configuration == nil && !isChanged && !isSendable
            && unreportedDeadTasks == 0
    }

    /// Whether it is no queue, but the place of the defaults for all queues.
    var isPlaceOfDefaults: Bool { name.isEmpty }

    /// Whether it is of interest to those who look at all queues.
    var isListed: Bool {
        if isPlaceOfDefaults { return false }
        return pause != .none || configuration != nil || length > 0 || list(of: .dead).count > 0
    }

    /// How many tasks are ready.
    @inline(__always) var readyCount: UInt32 { ready.count + pushed.count }

    /// Whether workers may take tasks.
    @inline(__always) var isOpen: Bool { pause == .none && !isPushed }

    /// How many tasks there are for workers to take.
    @inline(__always) var available: UInt32 { isOpen ? ready.count : 0 }

    /// How many tasks have not come to their end.
    @inline(__always) var length: Int {
        Int(readyCount) + Int(list(of: .delayed).count) + Int(list(of: .dispatched).count)
    }

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

    /// The tasks of a state that is not ready.
    @inline(__always) func list(of state: TaskRecord.State) -> List { lists[Self.index(of: state)] }

    private static func index(of state: TaskRecord.State) -> Int {
        Int(state.rawValue) - Int(TaskRecord.State.delayed.rawValue)
    }

    /// Puts a task at the end, or the front, of the list that its state and priority ask for. O(1), but for the priorities
    /// in use.
    @inline(__always)
    mutating func insert(_ slot: Slot, atFront: Bool, in tasks: inout Table<TaskRecord>) {
        let state = tasks[slot].state
        if state == .ready {
            return tasks[slot].isPushed
                ? pushed.insert(slot, atFront: atFront, in: &tasks) : ready.insert(slot, atFront: atFront, in: &tasks)
        }
        if atFront {
            lists[Self.index(of: state)].prepend(slot, in: &tasks)
        } else {
            lists[Self.index(of: state)].append(slot, in: &tasks)
        }
    }

    /// Takes a task out of its list. O(1), but for the priorities in use.
    @inline(__always)
    mutating func remove(_ slot: Slot, in tasks: inout Table<TaskRecord>) {
        let state = tasks[slot].state
        if state == .ready {
            return tasks[slot].isPushed ? pushed.remove(slot, in: &tasks) : ready.remove(slot, in: &tasks)
        }
        lists[Self.index(of: state)].remove(slot, in: &tasks)
    }

    /// The first of all ready tasks, 0 if there is none. O(priorities in use).
    var firstReady: Slot { firstReady(below: Int(Int8.max) + 1) }

    /// The ready task after another one, 0 if there is none. Within a priority, those for workers come first: where all are
    /// sent, they stand among these because they are older than the configuration that says so. O(priorities in use).
    func nextReady(after slot: Slot, in tasks: borrowing Table<TaskRecord>) -> Slot {
        let next = tasks[slot][links: TaskRecord.queueLinks].next
        if next != 0 { return next }
        let priority = tasks[slot].priority
        if !tasks[slot].isPushed, let level = pushed.highest(below: Int(priority) + 1), level.priority == priority {
            return level.list.first
        }
        return firstReady(below: Int(priority))
    }

    private func firstReady(below priority: Int) -> Slot {
        guard let sent = pushed.highest(below: priority) else { return ready.highest(below: priority)?.list.first ?? 0 }
        guard let taken = ready.highest(below: priority), taken.priority >= sent.priority else {
            return sent.list.first
        }
        return taken.list.first
    }

    /// Calls `body` with each list of ready tasks, in the order of `nextReady`.
    func forEachReadyList(_ body: (List) -> Void) {
        var priority = Int(Int8.max) + 1
        while true {
            let (taken, sent) = (ready.highest(below: priority), pushed.highest(below: priority))
            guard taken != nil || sent != nil else { return }
            priority = Int(max(taken?.priority ?? .min, sent?.priority ?? .min))
            if let taken, taken.priority == priority { body(taken.list) }
            if let sent, sent.priority == priority { body(sent.list) }
        }
    }

    // MARK: Checks

    /// Calls `body` with each list of tasks.
    func forEachList(_ body: (List) -> Void) {
        forEachReadyList(body)
        for index in lists.indices { body(lists[index]) }
    }

    /// Checks the lists, and calls `body` with each task in them. O(n).
    func checkInvariants(in tasks: borrowing Table<TaskRecord>, _ body: (Slot) -> Void) {
        ready.checkInvariants(in: tasks) { slot in
            precondition(!tasks[slot].isPushed, "a task that is sent among those for workers")
            body(slot)
        }
        pushed.checkInvariants(in: tasks) { slot in
            precondition(tasks[slot].isPushed, "a task for workers among those that are sent")
            body(slot)
        }
        for index in lists.indices {
            lists[index].checkInvariants(in: tasks) { slot in
                precondition(Self.index(of: tasks[slot].state) == index, "a task in the list of another state")
                body(slot)
            }
        }
    }
}

/// A configuration by reference, so that the queues that have none keep only the place for one.
final class SharedConfiguration {
    /// What the queue says.
    let own: QueueConfiguration
    /// What applies: what the queue says, completed by the defaults of that generation.
    private(set) var value: QueueConfiguration
    private(set) var generation: UInt64 = 0

    init(_ own: QueueConfiguration) {
        (self.own, value) = (own, own)
    }

    /// The heap's bytes that it takes, near enough.
    var byteCount: Int {
        2 * MemoryLayout<QueueConfiguration>.stride + 64
            + [own.push, own.deadLetter ?? []].reduce(0) { $0 + ($1.isEmpty ? 0 : 48 + $1.count) }
    }

    func complete(by defaults: SharedConfiguration?, generation: UInt64) {
        value = defaults.map { own.completed(by: $0.own) } ?? own
        self.generation = generation
    }
}
