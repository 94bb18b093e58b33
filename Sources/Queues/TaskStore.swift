// The tasks and their queues: where each task stands. Who waits for them is not known here, but for the results.
//
// Every task is in the table of tasks (by its id) and in the wheel (by the next thing that time does to it), and all but
// those about to be ended are in a list of their queue, by their state. What few tasks have is in the table of extras.
// What changes of a task changes in `TaskStore+Transitions.swift`. Adding is in `+Adding`, taking in `+Taking`, what ends a
// dispatch or a task in `+Ending`, and what is done to whole queues in `+Sweeping`.

import UID

/// All tasks and queues of a broker.
///
/// A task whose expiry has come counts as gone, though it stays in its list until its timer fires or a take meets it.
struct TaskStore: ~Copyable {
    /// How many queues there may be.
    static var maximumQueues: Int { 1_000_000 }
    /// How many expired tasks one call removes or passes over at most. There are so many only while `advance` is behind.
    static var patience: Int { 1000 }
    /// How many idle queues are remembered, and for how long.
    static var maximumIdleQueues: Int { 10_000 }
    static var idleMilliseconds: Int64 { 3_600_000 }
    /// What is reserved for a task that has all that there is: its record, extras, key group and image, and their places in the
    /// indexes.
    private static var addressBytesPerTask: Int {
        let records =
            MemoryLayout<TaskRecord>.stride + MemoryLayout<ExtrasRecord>.stride + MemoryLayout<KeyGroup>.stride
        return records + MemoryLayout<ImageIndex.Entry>.stride + 3 * MemoryLayout<Slot>.stride
    }

    var tasks: Table<TaskRecord>
    var extrasTable: Table<ExtrasRecord>
    /// Tasks with keys of two parts, by the first.
    var keyGroups: Table<KeyGroup>
    var queues: Table<QueueRecord>
    /// What queues leave unsaid, how often that has changed, and which queues it does not apply to.
    private(set) var defaults: SharedConfiguration?
    private var defaultsGeneration: UInt64 = 0
    var isExempt: ((Span<UInt8>) -> Bool)?
    var timers: TimingWheel
    var random: SeededGenerator
    /// The queues that may be forgotten, the longest unused first.
    private(set) var idle = LinkedList<QueueRecord, 0>()
    var nextToken: UInt64
    /// How many tasks there are in each state.
    private(set) var populations = InlineArray<10, Int>(repeating: 0)
    /// Where the contents are.
    var contents: ContentHeap
    /// The bytes of contents, and those of extras.
    var contentBytes = 0
    var extrasBytes = 0
    /// What the configurations of queues take.
    private(set) var configurationBytes = 0
    /// The purges, kicks and moves under way; the first one is worked on.
    var sweeps: [Sweep] = []
    /// The time at which tasks arrive at the earliest that come after the purge that was begun last.
    var firstArrival: Int64 = 0
    /// Whether changes are noted for a journal, and what is known of its images.
    var isJournaled = false
    var images = ImageIndex(capacity: 0)
    /// Whether nobody is answered for what is being done: time or a failed push is at work, and would do it again.
    var isUnawaited = false
    /// The tasks that have ended while clients waited for it; whoever called tells them.
    var endings: [Ending] = []
    /// What whoever sends tasks is told.
    var sending = Sending()
    /// The time of the last `advance`.
    var clock: Int64
    /// Whether there is no memory for what is not needed.
    var isShortOfMemory = false
    /// How much content, beyond that of the first task, is dispatched or shown at once.
    let maximumContentBytes: Int

    /// The end of a task for which clients waited.
    struct Ending {
        var waiters: [Waiter]
        var state: TaskState
        var result: [UInt8]
    }

    init(
        firstToken: UInt64, seed: UInt64, now: Int64, maximumContentBytes: Int, maximumTasks: Int,
        contentAddressBytes: Int, addressBytes: Int
    ) {
        // Half for the tasks, an eighth for the queues, the rest for contents.
        let queueBytes = MemoryLayout<QueueRecord>.stride + MemoryLayout<Slot>.stride
        let maximumTasks = max(1, min(maximumTasks, addressBytes / 2 / Self.addressBytesPerTask))
        queues = Table(capacity: max(1, min(Self.maximumQueues, addressBytes / 8 / queueBytes)))
        self.maximumContentBytes = maximumContentBytes
        tasks = Table(capacity: maximumTasks)
        extrasTable = Table(capacity: maximumTasks)
        keyGroups = Table(capacity: maximumTasks)
        contents = ContentHeap(addressBytes: min(contentAddressBytes, addressBytes / 8 * 3))
        timers = TimingWheel(now: now)
        random = SeededGenerator(seed: seed)
        nextToken = firstToken
        clock = now
    }

    /// How many tasks are in a state.
    func population(_ state: TaskRecord.State) -> Int {
        populations[Int(state.rawValue)]
    }

    /// The bytes that tasks and all that they have take: records, their places in the index, contents, extras; and those of
    /// the queues in use and their configurations, near enough. O(1).
    var memoryBytes: Int {
        let image = isJournaled ? MemoryLayout<ImageIndex.Entry>.stride : 0
        let record = MemoryLayout<TaskRecord>.stride + MemoryLayout<Slot>.stride + image
        let queue = MemoryLayout<QueueRecord>.stride + 256
        let queuesInUse = queues.count - Int(idle.count)
        let group = MemoryLayout<KeyGroup>.stride + MemoryLayout<Slot>.stride
        let recordBytes = tasks.count * record + queuesInUse * queue + keyGroups.count * group
        return recordBytes + contentBytes + extrasBytes + configurationBytes
    }

    // MARK: Queues

    /// The queue's slot, 0 if there is none of this name.
    func existingQueue(named name: Span<UInt8>, hash: UInt32) -> Slot {
        queues.find(hash: hash) { $0.isNamed(name) }
    }

    /// Finds or makes a queue. One that would be an idle queue too many takes the place of the longest unused one.
    mutating func queue(named name: Span<UInt8>) throws(BrokerError) -> Slot {
        let hash = QueueRecord.hash(of: name)
        let found = existingQueue(named: name, hash: hash)
        if found != 0 {
            if queues[found].isIdle {
                idle.remove(found, in: &queues)
                rest(found)
            }
            return found
        }
        if idle.count >= Self.maximumIdleQueues { forgetLongestUnused() }
        var record = QueueRecord(name: name, hash: hash)
        record.isExempt = isExempt?(name) ?? false
        var made = queues.insert(record)
        if made == nil, !idle.isEmpty {
            forgetLongestUnused()
            made = queues.insert(record)
        }
        guard let made else { throw .tooManyQueues }
        rest(made)
        return made
    }

    /// Changes what keeps a queue from being idle.
    @inline(__always)
    mutating func update(_ queue: Slot, _ change: (inout QueueRecord) -> Void) {
        let wasIdle = queues[queue].isIdle
        change(&queues[queue])
        let isIdle = queues[queue].isIdle
        if wasIdle == isIdle { return }
        if isIdle { rest(queue) } else { idle.remove(queue, in: &queues) }
    }

    private mutating func rest(_ queue: Slot) {
        queues[queue].lastUsed = clock
        idle.append(queue, in: &queues)
    }

    private mutating func forgetLongestUnused() {
        let oldest = idle.first
        idle.remove(oldest, in: &queues)
        queues.remove(oldest)
    }

    /// Forgets queues that were idle for too long or are too many, and gives unused memory back.
    ///
    /// - Returns: whether nothing is left to do.
    mutating func tidy(steps: inout Int) -> Bool {
        while !idle.isEmpty
            && (idle.count > Self.maximumIdleQueues
                || queues[idle.first].lastUsed.addingWithinRange(Self.idleMilliseconds) <= clock)
        {
            guard steps > 0 else { return false }
            steps -= 1
            forgetLongestUnused()
        }
        let tasksDone = tasks.trim()
        let extrasDone = extrasTable.trim()
        let groupsDone = keyGroups.trim()
        let queuesDone = queues.trim()
        let imagesDone = !isJournaled || images.trim(keeping: tasks.used)
        return tasksDone && extrasDone && groupsDone && queuesDone && imagesDone
    }

    /// The queues for which `isWanted` says yes, sorted bytewise by name. O(n log n).
    func queuesByName(where isWanted: (borrowing QueueRecord) -> Bool) -> [Slot] {
        // Comparing the first bytes where they are sorted spares two reads of other memory each, which is what takes long.
        var entries: [(high: UInt64, low: UInt64, queue: Slot)] = []
        queues.forEach { queue in
            guard isWanted(queues[queue]) else { return }
            let name = queues[queue].name
            entries.append((Self.prefix(of: name, from: 0), Self.prefix(of: name, from: 8), queue))
        }
        entries.sort { first, second in
            if first.high != second.high { return first.high < second.high }
            if first.low != second.low { return first.low < second.low }
            return queues[first.queue].name.lexicographicallyPrecedes(queues[second.queue].name)
        }
        return entries.map(\.queue)
    }

    /// Eight bytes of a name as a number that sorts as they do, with zeros behind its end.
    private static func prefix(of name: [UInt8], from start: Int) -> UInt64 {
        (start..<start + 8).reduce(0) { $0 << 8 | UInt64($1 < name.count ? name[$1] : 0) }
    }

    /// What applies to a queue by its configuration and the defaults for all queues, nil if neither is there. By reference: the
    /// value is large.
    @inline(__always)
    func configuration(of queue: Slot) -> SharedConfiguration? {
        guard let configuration = queues[queue].configuration else {
            return defaults == nil || queues[queue].isExempt ? nil : defaults
        }
        if configuration.generation != defaultsGeneration { complete(configuration, of: queue) }
        return configuration
    }

    private func complete(_ configuration: SharedConfiguration, of queue: Slot) {
        configuration.complete(by: queues[queue].isExempt ? nil : defaults, generation: defaultsGeneration)
    }

    /// Sets what a queue says; nil for nothing. What follows from it is not done here.
    mutating func setConfiguration(_ configuration: QueueConfiguration?, of queue: Slot) {
        let shared = configuration.map { SharedConfiguration($0) }
        configurationBytes += (shared?.byteCount ?? 0) - (queues[queue].configuration?.byteCount ?? 0)
        update(queue) { $0.configuration = shared }
    }

    /// Sets the defaults for all queues; nil for none. They are kept as the configuration of a queue without a name, so that they
    /// are written, read and renewed as others are.
    mutating func setDefaults(_ configuration: QueueConfiguration?) throws(BrokerError) {
        let place = try queue(named: Span())
        setConfiguration(configuration, of: place)
        useDefaults(of: place)
        noteQueue(place)
    }

    mutating func useDefaults(of place: Slot) {
        defaults = queues[place].configuration
        defaultsGeneration += 1
    }

    // MARK: Tasks

    // A method that makes a task ready returns its queue's slot if clients wait for that queue, otherwise 0: whoever calls
    // it serves them. No call makes more than one task ready. One call from the broker's isolation does all that is needed,
    // because each has its price (a dynamic check of exclusive access).

    /// The slot of the task of an id, 0 if there is none.
    @inline(__always)
    func task(_ id: UID) -> Slot {
        tasks.find(hash: TaskRecord.hash(of: id)) { $0.id == id }
    }

    /// Counts tasks that come to a state or leave it.
    @inline(__always)
    mutating func countTask(in state: TaskRecord.State, _ difference: Int) {
        populations[Int(state.rawValue)] += difference
    }

    @inline(__always)
    mutating func freeContent(of slot: Slot) {
        contentBytes -= tasks[slot].content.heapBytes
        contents.deallocate(tasks[slot].content)
        tasks[slot].content = Content()
    }

    // MARK: Extras

    /// The extras of a task, nil if it has none.
    @inline(__always)
    func extras(of slot: Slot) -> TaskExtras? {
        let place = tasks[slot].extras
        return place == 0 ? nil : extrasTable[place].extras
    }

    /// Changes the extras of a task, which it has afterwards.
    mutating func withExtras(
        _ slot: Slot, change: ImageIndex.Change? = .awaited, _ body: (TaskExtras) -> Void
    ) {
        let extras: TaskExtras
        if let existing = self.extras(of: slot) {
            extras = existing
            extrasBytes -= extras.byteCount
        } else {
            extras = TaskExtras(task: slot)
            place(extras)
        }
        body(extras)
        extrasBytes += extras.byteCount
        if let change { note(slot, change) }
    }

    /// Enters extras in their table, by the key that they hold or by the task's id.
    mutating func place(_ extras: TaskExtras) {
        let task = extras.task
        let hash =
            extras.holdsKey
            ? TaskKey.hash(of: extras.key[...], in: tasks[task].queue) : tasks[task].hash
        // There is room for as many extras as for tasks.
        tasks[task].extras = extrasTable.insert(ExtrasRecord(extras, hash: hash)) ?? 0
        precondition(tasks[task].extras != 0, "no room for extras")
        if extras.holdsKey { enterKeyGroup(extras) }
    }

    /// Takes extras out of their table.
    private mutating func displace(_ extras: TaskExtras) {
        leaveKeyGroup(extras)
        extrasTable.remove(tasks[extras.task].extras)
        tasks[extras.task].extras = 0
    }

    mutating func removeExtras(of slot: Slot) {
        guard let extras = extras(of: slot) else { return }
        precondition(extras.waiters.isEmpty, "a task goes while clients wait for its result")
        dropReplacement(of: slot)
        extrasBytes -= extras.byteCount
        displace(extras)
    }

    mutating func dropReplacement(of slot: Slot) {
        guard let replacement = extras(of: slot)?.replacement else { return }
        contents.deallocate(replacement.content)
        withExtras(slot) { $0.replacement = nil }
    }

    /// Takes the task's key, or gives it back. The key must be free. The queue that it counts in is the task's.
    mutating func setHoldsKey(_ holdsKey: Bool, of slot: Slot) {
        guard let extras = extras(of: slot) else { return }
        displace(extras)
        extras.holdsKey = holdsKey && !extras.key.isEmpty
        place(extras)
        note(slot)
    }

    /// The task that has a key in a queue, 0 if none has. It may have come to its end.
    func holder(of key: [UInt8], in queue: Slot) -> Slot {
        let found = extrasTable.find(hash: TaskKey.hash(of: key[...], in: queue)) { record in
            guard let extras = record.extras, extras.holdsKey else { return false }
            return tasks[extras.task].queue == queue && extras.key == key
        }
        return found == 0 ? 0 : extrasTable[found].extras?.task ?? 0
    }

    // MARK: What applies to a task

    /// The lease that a task gets when nobody asks for another.
    func leaseMilliseconds(of slot: Slot) -> Int64 {
        leaseMilliseconds(own: tasks[slot].leaseMilliseconds, in: tasks[slot].queue)
    }

    /// The lease that a task of a queue gets that asks for `own`, or says nothing with 0.
    func leaseMilliseconds(own: Int64, in queue: Slot) -> Int64 {
        if own > 0 { return own }
        return configuration(of: queue)?.value.leaseMilliseconds ?? QueueConfiguration.defaultLeaseMilliseconds
    }

    /// How many retries a task may have; nil is any number.
    func maximumRetries(of slot: Slot) -> UInt32? {
        switch extras(of: slot)?.retryLimit ?? .unsaid {
        case .unsaid: configuration(of: tasks[slot].queue)?.value.maximumRetries
        case .unlimited: nil
        case .limited(let limit): limit
        }
    }

    /// Whether a task has had more retries than it may have by now.
    func isWornOut(_ slot: Slot) -> Bool {
        guard let limit = maximumRetries(of: slot) else { return false }
        return tasks[slot].retries > limit
    }

    /// How long the record of a task stays after its end.
    func keepMilliseconds(of slot: Slot) -> Int64 {
        keepMilliseconds(own: extras(of: slot)?.keepMilliseconds, in: tasks[slot].queue)
    }

    /// How long the record stays of a task of a queue that asks for `own`, or says nothing.
    func keepMilliseconds(own: Int64?, in queue: Slot) -> Int64 {
        own ?? configuration(of: queue)?.value.keepMilliseconds ?? 0
    }

    /// How long a task lives that says so of itself.
    func lifetimeMilliseconds(_ expiry: Expiry, in queue: Slot) -> Int64 {
        var expiry = expiry
        if expiry == .unsaid, let configuration = configuration(of: queue) { expiry = configuration.value.expiry }
        return switch expiry {
        case .unsaid: QueueConfiguration.defaultExpiryMilliseconds
        case .never: .max
        case .after(let milliseconds): max(0, milliseconds)
        }
    }
}
