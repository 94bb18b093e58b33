// The tasks and their queues. The store does not know the waiters for tasks, only those for the end of a task.
//
// Every task is in the table of tasks (by its id) and in the timing wheel (by its next event). Unless it is about to be
// ended, it is also in a list of its queue, by its state. The optional parts of tasks are in the table of extras. A
// task changes only in `TaskStore+Transitions.swift`. Adding is in `+Adding`, taking in `+Taking`, ending a dispatch or
// a task in `+Ending`, keys are in `+Keys`, and operations on whole queues are in `+Sweeping`.

import Bytes
import UID

/// All tasks and queues of a broker.
///
/// An expired task counts as gone, although it stays in its list until its timer fires or a take meets it.
struct TaskStore: ~Copyable {
    /// The maximum number of queues.
    static var maximumQueues: Int { 1_000_000 }
    /// How many expired tasks one call removes or skips at most. There are more only while `advance` is behind.
    static var patience: Int { 1000 }
    /// How many idle queues the store remembers, and for how long.
    static var maximumIdleQueues: Int { 10_000 }
    static var idleMilliseconds: Int64 { 3_600_000 }
    /// The address space to reserve for a task with all parts: its record, extras, key group and image, and their
    /// entries in the indexes.
    private static var addressBytesPerTask: Int {
        let records =
            MemoryLayout<TaskRecord>.stride + MemoryLayout<ExtrasRecord>.stride + MemoryLayout<KeyGroup>.stride
        return records + MemoryLayout<ImageIndex.Entry>.stride + 3 * MemoryLayout<Slot>.stride
    }

    private let pin = Pin()
    var tasks: Table<TaskRecord>
    var extrasTable: Table<ExtrasRecord>
    /// The groups of keys (see `KeyGroups.swift`).
    var keyGroups: Table<KeyGroup>
    var queues: Table<QueueRecord>
    private(set) var recentQueues = RecentQueues()
    /// The defaults for all queues, how often they have changed, and which queues they do not apply to.
    private(set) var defaults: SharedConfiguration?
    private var defaultsGeneration: UInt64 = 0
    var isExempt: ((Span<UInt8>) -> Bool)?
    var timers: TimingWheel
    var random: SeededGenerator
    /// The queues that may be forgotten; the one that was unused for the longest time is first.
    private(set) var idle = LinkedList<QueueRecord, 0>()
    var nextToken: UInt64
    /// How many tasks there are in each state.
    private(set) var populations = InlineArray<10, Int>(repeating: 0)
    /// What has happened to the tasks of all queues, also of queues that are forgotten.
    var activity = Activity()
    /// How many queues are paused.
    private(set) var pausedQueueCount = 0
    /// The rates and histories of queues.
    var sampling = Sampling()
    /// The contents of tasks.
    var contents: ContentHeap
    /// The memory of contents, and of extras, in bytes.
    var contentBytes = 0
    var extrasBytes = 0
    /// The memory of all waiters, in bytes. It is here because each enqueue reads it with the others, and an access to
    /// a variable of the broker would be checked.
    var waiterBytes = 0
    /// The memory of the queues' configurations, in bytes.
    private(set) var configurationBytes = 0
    /// The settings, in the order of their images, and their memory in bytes.
    var settings: [Setting] = []
    var settingBytes = 0
    /// The purges, kicks and moves under way; the first one is in progress.
    var sweeps: [Sweep] = []
    var nextSweep: UInt64 = 1
    /// The earliest arrival time of tasks that come after the last purge began.
    var firstArrival: Int64 = 0
    /// Whether changes are noted for a journal, and the state of its images.
    var isJournaled = false
    var images = ImageIndex(capacity: 0)
    /// Whether no client is told of the current change: it is the effect of time or of a failed push, which would
    /// happen again.
    var isUnawaited = false
    /// The tasks that have ended while clients waited for their end. The broker calls the completions.
    var endings: [Ending] = []
    /// The reports to push.
    var sending = Sending()
    /// The time of the last `advance`.
    var clock: Int64
    /// Whether memory is short, so that parts that are not necessary are left out.
    var isShortOfMemory = false
    /// How much content, beyond that of the first task, one call dispatches or shows.
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

    /// The approximate memory, in bytes, of tasks (records, index entries, contents, extras), of waiters, of queues in
    /// use, of their configurations, and of settings. O(1).
    var memoryBytes: Int {
        let image = isJournaled ? MemoryLayout<ImageIndex.Entry>.stride : 0
        let record = MemoryLayout<TaskRecord>.stride + MemoryLayout<Slot>.stride + image
        let queue = MemoryLayout<QueueRecord>.stride + 256
        let queuesInUse = queues.count - Int(idle.count)
        let group = MemoryLayout<KeyGroup>.stride + MemoryLayout<Slot>.stride
        let recordBytes = tasks.count * record + queuesInUse * queue + keyGroups.count * group
        let partBytes = contentBytes + extrasBytes + waiterBytes
        return recordBytes + partBytes + configurationBytes + settingBytes + sampling.byteCount
    }

    // MARK: Queues

    /// How many queues are in use. O(1).
    var usedQueueCount: Int { queues.count - Int(idle.count) - (defaults == nil ? 0 : 1) }

    /// The slot of the queue with a name, 0 if there is none.
    func existingQueue(named name: Span<UInt8>, hash: UInt32) -> Slot {
        queues.find(hash: hash) { $0.isNamed(name) }
    }

    /// Finds or makes a queue. If there are too many idle queues, the one that was unused for the longest time is
    /// forgotten.
    mutating func queue(named name: Span<UInt8>) throws(BrokerError) -> Slot {
        let recent = recentQueues[name]
        if recent != 0, queues[recent].isNamed(name) { return use(recent) }
        let hash = QueueRecord.hash(of: name)
        let found = existingQueue(named: name, hash: hash)
        if found != 0 {
            recentQueues[name] = found
            return use(found)
        }
        if idle.count >= Self.maximumIdleQueues { forgetLongestUnused() }
        if queues.count >= queues.capacity, !idle.isEmpty { forgetLongestUnused() }
        var record = QueueRecord(name: name, hash: hash)
        record.isExempt = isExempt?(name) ?? false
        guard let made = queues.insert(record) else { throw .tooManyQueues }
        rest(made)
        return made
    }

    /// Notes that a queue is used.
    @inline(__always)
    private mutating func use(_ queue: Slot) -> Slot {
        if queues[queue].isIdle {
            idle.remove(queue, in: &queues)
            rest(queue)
        }
        return queue
    }

    /// Changes a part of a queue that decides whether it is idle.
    @inline(__always)
    mutating func update(_ queue: Slot, _ change: (inout QueueRecord) -> Void) {
        let wasIdle = queues[queue].isIdle
        change(&queues[queue])
        let isIdle = queues[queue].isIdle
        if wasIdle == isIdle { return }
        if isIdle { rest(queue) } else { idle.remove(queue, in: &queues) }
    }

    /// Pauses a queue, or ends its pause.
    ///
    /// - Parameters:
    ///   - isPaused: whether to pause it.
    ///   - queue: the queue.
    ///   - since: when it was paused; 0 if that is not known.
    mutating func setPaused(_ isPaused: Bool, _ queue: Slot, since: Int64 = 0) {
        if isPaused != (queues[queue].pause == .paused) {
            update(queue) { $0.pause = isPaused ? .paused : .none }
            pausedQueueCount += isPaused ? 1 : -1
        }
        if isPaused { queues[queue].since = since }
    }

    private mutating func rest(_ queue: Slot) {
        queues[queue].since = clock
        idle.append(queue, in: &queues)
    }

    private mutating func forgetLongestUnused() {
        let oldest = idle.first
        keepSeries(of: oldest)
        idle.remove(oldest, in: &queues)
        recentQueues.forget(oldest)
        queues.remove(oldest)
    }

    /// Forgets queues that were idle for too long or are too many, and returns unused memory.
    ///
    /// - Returns: whether nothing is left to do.
    mutating func tidy(steps: inout Int) -> Bool {
        while !idle.isEmpty
            && (idle.count > Self.maximumIdleQueues
                || queues[idle.first].since.addingWithinRange(Self.idleMilliseconds) <= clock)
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

    /// The queues for which `isWanted` returns true, sorted bytewise by name. O(n log n).
    func queuesByName(where isWanted: (borrowing QueueRecord) -> Bool) -> [Slot] {
        // Keeping the first bytes of the names in the sorted array avoids most reads of the queues' records, which are
        // slow.
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

    /// The first eight bytes of a name as a number that sorts as they do, padded with zeros.
    private static func prefix(of name: [UInt8], from start: Int) -> UInt64 {
        (start..<start + 8).reduce(0) { $0 << 8 | UInt64($1 < name.count ? name[$1] : 0) }
    }

    /// A queue's configuration, completed by the defaults for all queues; nil if there is neither. By reference,
    /// because the value is large.
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

    /// Sets a queue's configuration; nil removes it. The caller does what follows from it.
    mutating func setConfiguration(_ configuration: QueueConfiguration?, of queue: Slot) {
        let shared = configuration.map { SharedConfiguration($0) }
        configurationBytes += (shared?.byteCount ?? 0) - (queues[queue].configuration?.byteCount ?? 0)
        update(queue) { $0.configuration = shared }
    }

    /// Sets the defaults for all queues; nil removes them. They are stored as the configuration of a queue without a
    /// name, so the journal writes, reads and renews them like any other.
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

    // A method that makes a task ready returns its queue's slot if the queue has waiters, otherwise 0; its caller
    // serves them. No call makes more than one task ready. The broker makes one call for each operation, because every
    // access to the store costs a dynamic check of exclusive access.

    /// The slot of the task with an id, 0 if there is none.
    @inline(__always)
    func task(_ id: UID) -> Slot {
        tasks.find(hash: TaskRecord.hash(of: id)) { $0.id == id }
    }

    /// Counts tasks that enter or leave a state.
    @inline(__always)
    mutating func countTask(in state: TaskRecord.State, _ difference: Int) {
        populations[Int(state.rawValue)] += difference
    }

    /// Counts an event in the totals of a queue and of the server.
    @inline(__always)
    mutating func count(in queue: Slot, _ event: (inout QueueStatistics.Totals) -> Void) {
        touch(queue)
        event(&queues[queue].totals)
        event(&activity.totals)
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

    /// Changes the extras of a task, and makes them if it has none.
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

    /// Gives a new task extras with its options, or, if it has none, with the trace context of its request.
    @inline(__always)
    mutating func addExtras(_ slot: Slot, _ options: TaskOptions?, arrival: Int64, trace: consuming TraceContext) {
        if let options {
            let own = TaskExtras.Options(options, arrival: arrival)
            add(
                TaskExtras(task: slot, key: options.key, own, trace: options.trace),
                byteCount: TaskExtras.byteCount(key: options.key, own, options.trace))
        } else if !trace.isEmpty {
            let byteCount = TaskExtras.byteCount(trace)
            add(TaskExtras(task: slot, trace), byteCount: byteCount)
        }
    }

    /// Adds the extras of a new task, which does not hold its key yet.
    private mutating func add(_ extras: TaskExtras, byteCount: Int) {
        assert(!extras.holdsKey && byteCount == extras.byteCount, "these are not new, or their bytes are miscounted")
        place(extras, of: extras.task, hash: tasks[extras.task].hash)
        extrasBytes += byteCount
    }

    /// Adds extras to their table, by the key that they hold or by the task's id.
    mutating func place(_ extras: TaskExtras) {
        let task = extras.task
        let hash =
            extras.holdsKey
            ? TaskKey.hash(of: extras.key[...], in: tasks[task].queue) : tasks[task].hash
        place(extras, of: task, hash: hash)
        if extras.holdsKey { enterKeyGroup(extras) }
    }

    /// Adds extras to their table.
    @inline(__always)
    private mutating func place(_ extras: TaskExtras, of task: Slot, hash: UInt32) {
        // There is room for as many extras as for tasks.
        let place = extrasTable.insert(ExtrasRecord(extras, hash: hash)) ?? 0
        precondition(place != 0, "no room for extras")
        tasks[task].extras = place
    }

    /// Removes extras from their table.
    mutating func displace(_ extras: TaskExtras) {
        leaveKeyGroup(extras)
        extrasTable.remove(tasks[extras.task].extras)
        tasks[extras.task].extras = 0
    }

    mutating func removeExtras(of slot: Slot) {
        guard let extras = extras(of: slot) else { return }
        precondition(extras.waiters.isEmpty, "a task was removed while clients wait for its result")
        dropReplacement(of: slot)
        extrasBytes -= extras.byteCount
        displace(extras)
    }

    mutating func dropReplacement(of slot: Slot) {
        guard let replacement = extras(of: slot)?.replacement else { return }
        contents.deallocate(replacement.content)
        withExtras(slot) { $0.replacement = nil }
    }

    // MARK: Effective settings of a task

    /// The lease of a task's next dispatch, unless the worker asks for another.
    func leaseMilliseconds(of slot: Slot) -> Int64 {
        leaseMilliseconds(own: tasks[slot].leaseMilliseconds, in: tasks[slot].queue)
    }

    /// The lease of a task in a queue; `own` is the one that its record has.
    func leaseMilliseconds(own: Int64, in queue: Slot) -> Int64 {
        // `noLease` is below zero.
        if own != 0 { return max(0, own) }
        return configuration(of: queue)?.value.leaseMilliseconds ?? QueueConfiguration.defaultLeaseMilliseconds
    }

    /// How many retries a task may have; nil for any number.
    func maximumRetries(of slot: Slot) -> UInt32? {
        switch extras(of: slot)?.options.retryLimit ?? .unsaid {
        case .unsaid: configuration(of: tasks[slot].queue)?.value.maximumRetries
        case .unlimited: nil
        case .limited(let limit): limit
        }
    }

    /// Whether a task has had more retries than it may have, or more of its leases have run out than may.
    func isWornOut(_ slot: Slot) -> Bool {
        if let limit = maximumRetries(of: slot), tasks[slot].retries > limit { return true }
        return hasCrashedTooOften(slot)
    }

    /// Whether more leases of a task have run out than may.
    func hasCrashedTooOften(_ slot: Slot) -> Bool {
        guard let extras = extras(of: slot), extras.crashes > 0 else { return false }
        return switch extras.options.crashLimit {
        case .unsaid: extras.crashes > configuration(of: tasks[slot].queue)?.value.maximumCrashes ?? .max
        case .unlimited: false
        case .limited(let limit): extras.crashes > limit
        }
    }

    /// How long the record of a task is kept after its end.
    func keepMilliseconds(of slot: Slot) -> Int64 {
        keepMilliseconds(own: extras(of: slot)?.options.keepMilliseconds, in: tasks[slot].queue)
    }

    /// How long the record of a task in a queue is kept; `own` is the task's own setting.
    func keepMilliseconds(own: Int64?, in queue: Slot) -> Int64 {
        own ?? configuration(of: queue)?.value.keepMilliseconds ?? 0
    }

    /// How long a task with an expiry lives in a queue.
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
