// The record of a queue.

import Bytes

/// A queue. It is move-only, because a copy for each call would take a tenth of an enqueue.
struct QueueRecord: ~Copyable, LinkedRecord {
    typealias List = LinkedList<TaskRecord, 0>

    enum Pause: UInt8 {
        case none
        /// It counts as empty for takes and waits.
        case paused
        /// It still counts as empty, until `advance` has looked at all of its waiters.
        case resuming
    }

    var name: [UInt8] = []
    private(set) var hash: UInt32 = 0
    var chained: Slot = 0
    /// Links of the list of idle queues.
    private var links = Links()
    /// Its ready tasks: those for workers, and those to be sent. A task's record says in which of the two it is.
    private(set) var ready = ReadyTasks()
    private(set) var pushed = ReadyTasks()
    /// Its other tasks by state: delayed, dispatched, dead, done, cancelled, expired.
    private var lists = InlineArray<6, List>(repeating: List())
    /// How many tasks it holds in all states, and how many of them are kept only for their key.
    var tasks: UInt32 = 0
    var keptKeys: UInt32 = 0
    /// How many waiters name it.
    var waits: UInt32 = 0
    /// How often the current take names it; 0 between takes.
    var wanted: UInt32 = 0
    /// Whether it is in the list of queues whose waiters will be served at the end of the current event.
    var isAwaited = false
    /// How many sweeps refer to it.
    var sweeps: UInt32 = 0
    var pause = Pause.none
    /// Whether its configuration says that all of its tasks are sent. Some may still be in the list for workers.
    var isPushed = false
    /// Whether something has happened to it since the last sample; whether it ever had a series; its series, 0 if it
    /// has none.
    var isTouched = false
    var wasSampled = false
    var series: Slot = 0
    /// Whether the defaults for all queues do not apply to it.
    var isExempt = false
    /// Whether push knows, or is about to be told, that the queue may have tasks to send.
    var isSendable = false
    /// How many of its dead tasks have not been reported to push yet.
    var unreportedDeadTasks: UInt32 = 0
    /// How many of its dispatched tasks are being sent.
    var sends: UInt32 = 0
    /// The waiters registered under it, by the number of tasks that they need, which is always more than are available.
    var waiters: [UInt32: WaiterHeap<ByArrival>] = [:]
    var configuration: SharedConfiguration?
    var totals = QueueStatistics.Totals()
    /// How long its tasks took since the last sample.
    var times = TaskTimes()
    /// The sequence number of the frame with its image, 0 if there is none; the image's size; and whether it has to be
    /// written again.
    var imageSequence: UInt64 = 0
    var imageBytes: UInt32 = 0
    var isChanged = false
    /// Since when it has been idle or paused, whichever it is: a paused queue is not idle. For a queue that is paused,
    /// 0 if that is not known.
    var since: Int64 = 0

    init() {}

    init(name: Span<UInt8>, hash: UInt32) {
        self.name = Array(copying: name)
        self.hash = hash
    }

    /// Whether its name is `other`. O(bytes).
    @inline(__always) func isNamed(_ other: Span<UInt8>) -> Bool { name.span.equals(other) }

    /// Whether only its totals would be lost if it were forgotten. This and other checks made for each task are
    /// inlined.
    @inline(__always) var isIdle: Bool {
        tasks == 0 && waits == 0 && sweeps == 0 && pause == .none && configuration == nil && !isChanged && !isSendable
            && unreportedDeadTasks == 0
    }

    /// Whether it is not a queue, but holds the defaults for all queues.
    var isPlaceOfDefaults: Bool { name.isEmpty }

    /// Whether it is shown in the list of queues.
    var isListed: Bool {
        if isPlaceOfDefaults { return false }
        return pause != .none || configuration != nil || length > 0 || list(of: .dead).count > 0
    }

    /// How many tasks are ready.
    @inline(__always) var readyCount: UInt32 { ready.count + pushed.count }

    /// Whether workers may take tasks.
    @inline(__always) var isOpen: Bool { pause == .none && !isPushed }

    /// How many tasks workers can take.
    @inline(__always) var available: UInt32 { isOpen ? ready.count : 0 }

    /// How many tasks are unfinished.
    @inline(__always) var length: Int {
        Int(readyCount) + Int(list(of: .delayed).count) + Int(list(of: .dispatched).count)
    }

    /// The hash of a name. Clients choose the names, so it depends on a random secret of the process (SipHash).
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

    /// The list of tasks in a state other than ready.
    @inline(__always) func list(of state: TaskRecord.State) -> List { lists[Self.index(of: state)] }

    private static func index(of state: TaskRecord.State) -> Int {
        Int(state.rawValue) - Int(TaskRecord.State.delayed.rawValue)
    }

    /// Adds a task to the end, or to the front, of the list for its state and priority. O(1), but for the priorities in
    /// use.
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

    /// Removes a task from its list. O(1), but for the priorities in use.
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

    /// The ready task after another one, 0 if there is none. Within a priority, tasks in the list for workers come
    /// first: if all tasks of the queue are sent, they are older than the configuration that says so. O(priorities in
    /// use).
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
            precondition(!tasks[slot].isPushed, "a task to be sent is in the list for workers")
            body(slot)
        }
        pushed.checkInvariants(in: tasks) { slot in
            precondition(tasks[slot].isPushed, "a task for workers is in the list of tasks to send")
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

/// A configuration by reference, so that queues without one need only a pointer.
final class SharedConfiguration {
    /// The queue's own configuration.
    let own: QueueConfiguration
    /// The queue's configuration, completed by the defaults of `generation`.
    private(set) var value: QueueConfiguration
    private(set) var generation: UInt64 = 0

    init(_ own: QueueConfiguration) {
        (self.own, value) = (own, own)
    }

    /// The approximate memory on the heap, in bytes.
    var byteCount: Int {
        2 * MemoryLayout<QueueConfiguration>.stride + 64
            + [own.push, own.deadLetter ?? []].reduce(0) { $0 + ($1.isEmpty ? 0 : 48 + $1.count) }
    }

    func complete(by defaults: SharedConfiguration?, generation: UInt64) {
        value = defaults.map { own.completed(by: $0.own) } ?? own
        self.generation = generation
    }
}
