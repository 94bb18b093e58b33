// A naive second implementation of the broker, for a broker that is never late: every event happens at its own time.
// `Model` covers a broker that lags.

@testable import Queues

/// A model of a broker. Numbers stand for its queues and tasks.
struct FullModel {
    /// The options of a new task.
    struct Says {
        var content = ""
        var lease: Int64?
        var due: Int64?
        var expiry = Expiry.unsaid
        var priority: Int8?
        var key: [UInt8] = []
        var conflict = KeyConflict.keep
        var uniqueFor: Int64 = 0
        var limit = RetryLimit.unsaid
        var crashLimit = RetryLimit.unsaid
        var backoff: Backoff?
        var keep: Int64?
        var hasRequest = false
    }

    struct Task {
        var number: UInt64
        var queue: Int
        var says: Says
        var state = TaskState.ready
        /// Nothing but the key is left of the task.
        var isHidden = false
        var priority: Int8
        var lifetime: Int64
        var expires: Int64
        var enqueued: Int64
        var until = Int64.max
        /// Since when the task is ready, if it is.
        var readySince: Int64 = 0
        var finished: Int64?
        var attempt: UInt32 = 0
        var retries: UInt32 = 0
        var crashes: UInt32 = 0
        var token: UInt64 = 0
        var lease: Int64 = 0
        /// The task is ready to be sent, or is being sent.
        var isPushed = false
        var holdsKey = false
        var uniqueUntil: Int64 = 0
        var worker = "", error = "", progress = "", result = "", log = ""
        var origin: Int?
        /// When the task died, if it is a dead letter.
        var died: Int64?
        var replacement: (says: Says, enqueued: Int64)?
        /// The task's place in its list.
        var order = 0
        /// How often the task has moved to another queue.
        var arrivals = 0
        /// The position of the task's timer in the order in which all timers were set.
        var set = 0

        var isUnfinished: Bool { !isHidden && [.ready, .delayed, .dispatched].contains(state) }
        var isBeingSent: Bool { isUnfinished && state == .dispatched && isPushed }
        /// A dead letter's own request no longer counts.
        var hasRequest: Bool { says.hasRequest && origin == nil }
        var deadline: Int64 { isUnfinished ? min(until, expires) : until }
    }

    struct Waiter {
        enum Goal {
            case all, any(Int), result(UInt64)
        }
        var number: Int
        var goal: Goal
        var queues: [Int] = []
        var worker = ""
        var deadline: Int64
    }

    struct Sweep {
        enum Action: CaseIterable {
            case purge, kick, kickToOrigin, move
            /// What a queue starts when its tasks are no longer pushed.
            case giveToWorkers
        }
        var number: Int
        var action: Action
        var target: Int
        var limit: Int
        /// The tasks that were there when the sweep began, with their places then.
        var queue: Int
        var states: [TaskState]
        var begun: Int64
        var filter: TaskFilter?
        var met: [(number: UInt64, order: Int, arrivals: Int)]
    }

    struct Queue {
        var configuration = QueueConfiguration()
        var isPaused = false
        var pausedSince: Int64 = 0
        var isResuming = false
        var totals = QueueStatistics.Totals()
    }

    /// The arguments of a completion.
    enum Completion: Equatable {
        case taken(waiter: Int, [UInt64?])
        case ended(waiter: Int, TaskState, String)
        case swept(Int, count: Int)

        /// Waiters for the same task's end are completed in any order.
        var isOrdered: Bool { if case .ended = self { false } else { true } }

        var number: Int {
            switch self {
            case .taken(let waiter, _), .ended(let waiter, _, _): waiter
            case .swept(let number, _): number
            }
        }
    }

    /// The death of a task that a dead-letter notification could be about.
    struct DeadTask: Equatable {
        var task: UInt64
        var queue: Int
    }

    var now: Int64
    var tasks: [Task] = []
    var queues: [Queue]
    var waiters: [Waiter] = []
    var sweeps: [Sweep] = []
    var firstArrival: Int64 = 0
    var completions: [Completion] = []
    /// The tokens of dispatches that something other than the sender ended while the task was being sent; and the
    /// deaths.
    var endedSends: [UInt64] = []
    var deadTasks: [DeadTask] = []
    /// The broker's random numbers, in the same order.
    var jitter = SeededGenerator(seed: 0)
    var random: Random
    var nextToken: UInt64
    var stamps = 0
    var lastOwnSweep = 0
    /// The number of nested events. Waiters are served when the outermost event is over.
    var openEvents = 0

    init(configurations: [QueueConfiguration], seed: UInt64, firstToken: UInt64, now: Int64) {
        queues = configurations.map { Queue(configuration: $0) }
        random = Random(seed: seed)
        nextToken = firstToken
        self.now = now
    }

    // MARK: Views

    func index(_ number: UInt64) -> Int? { tasks.firstIndex { $0.number == number } }

    func list(_ queue: Int, _ state: TaskState) -> [Task] {
        tasks.filter { $0.queue == queue && $0.state == state && !$0.isHidden }
            .sorted {
                guard state == .ready else { return $0.order < $1.order }
                if $0.priority != $1.priority { return $0.priority > $1.priority }
                if $0.isPushed != $1.isPushed { return $1.isPushed }
                return $0.order < $1.order
            }
    }

    func statistics(_ queue: Int) -> QueueStatistics {
        var statistics = QueueStatistics()
        statistics.ready = list(queue, .ready).count
        statistics.delayed = list(queue, .delayed).count
        statistics.dispatched = list(queue, .dispatched).count
        statistics.sends = list(queue, .dispatched).count(where: \.isBeingSent)
        statistics.dead = list(queue, .dead).count
        statistics.done = list(queue, .done).count
        statistics.cancelled = list(queue, .cancelled).count
        statistics.expired = list(queue, .expired).count
        statistics.keptKeys = tasks.count { $0.queue == queue && $0.isHidden }
        statistics.waiters = waiters.count { $0.queues.contains(queue) }
        statistics.isPaused = queues[queue].isPaused && !queues[queue].isResuming
        if statistics.isPaused, queues[queue].pausedSince > 0 { statistics.pausedSince = queues[queue].pausedSince }
        statistics.totals = queues[queue].totals
        let lists = Dictionary(grouping: list(queue, .ready)) { [Int($0.priority), $0.isPushed ? 1 : 0] }
        // Of several that are as old, the one that is dispatched first.
        let oldest = lists.values.compactMap(\.first).min {
            ($0.readySince, $1.priority, $0.isPushed ? 1 : 0) < ($1.readySince, $0.priority, $1.isPushed ? 1 : 0)
        }
        statistics.oldestReady = oldest?.readySince
        statistics.isPushed =
            queues[queue].configuration.isPushed || oldest != nil && list(queue, .ready).allSatisfy(\.isPushed)
        return statistics
    }

    /// The unfinished tasks of a queue whose keys begin with a group's name and a NUL.
    func tasks(inKeyGroup group: [UInt8], of queue: Int) -> [UInt64] {
        tasks.filter { $0.queue == queue && $0.isUnfinished && $0.says.key.starts(with: group + [0]) }.map(\.number)
    }

    /// Whether there is a waiter for tasks.
    var hasTaskWaiters: Bool { waiters.contains { !$0.queues.isEmpty } }

    func task(withKey key: [UInt8], in queue: Int) -> UInt64? {
        tasks.first { $0.queue == queue && $0.isUnfinished && $0.says.key == key }?.number
    }

    func holder(of key: [UInt8], in queue: Int) -> Int? {
        key.isEmpty
            ? nil
            : tasks.firstIndex {
                $0.queue == queue && $0.says.key == key && $0.holdsKey && ($0.isUnfinished || $0.uniqueUntil > now)
            }
    }

    /// Whether a queue has reached its maximum length.
    func isFull(_ queue: Int) -> Bool {
        tasks.count { $0.queue == queue && $0.isUnfinished } >= queues[queue].configuration.maximumLength ?? .max
    }

    // MARK: Events

    mutating func beginEvent() { openEvents += 1 }

    mutating func endEvent() {
        openEvents -= 1
        serve()
    }

    // MARK: Adding

    /// Adds all tasks or none.
    mutating func enqueue(_ batch: [(UInt64, Says)], queue: Int) -> [(id: UInt64, isExisting: Bool)]? {
        let before = self
        beginEvent()
        let answers = batch.compactMap { enqueue($0.0, $0.1, queue: queue) }
        guard answers.count == batch.count else {
            self = before
            return nil
        }
        endEvent()
        return answers
    }

    mutating func enqueue(_ number: UInt64, _ says: Says, queue: Int) -> (id: UInt64, isExisting: Bool)? {
        if let held = holder(of: says.key, in: queue) {
            let id = tasks[held].number
            if says.conflict == .reject { return nil }
            if says.conflict == .replace && tasks[held].isUnfinished { replace(held, says) }
            return (id, true)
        }
        if isFull(queue) { return nil }
        for index in tasks.indices where tasks[index].queue == queue && tasks[index].says.key == says.key {
            tasks[index].holdsKey = false
        }
        let due = max(now, says.due ?? now)
        let lifetime = lifetime(says.expiry, queue)
        tasks.append(
            Task(
                number: number, queue: queue, says: says,
                priority: says.priority ?? queues[queue].configuration.priority,
                lifetime: lifetime, expires: due.addingWithinRange(lifetime), enqueued: arrivalTime,
                holdsKey: !says.key.isEmpty,
                uniqueUntil: says.uniqueFor > 0 ? arrivalTime + says.uniqueFor : 0))
        queues[queue].totals.enqueued += 1
        put(tasks.count - 1, due > now ? .delayed : .ready, until: due > now ? due : .max)
        return (number, false)
    }

    mutating func replace(_ index: Int, _ said: Says) {
        var says = said
        says.priority = says.priority ?? queues[tasks[index].queue].configuration.priority
        queues[tasks[index].queue].totals.enqueued += 1
        tasks[index].lifetime = lifetime(says.expiry, tasks[index].queue)
        tasks[index].expires = max(now, says.due ?? now).addingWithinRange(tasks[index].lifetime)
        (tasks[index].retries, tasks[index].crashes) = (0, 0)
        tasks[index].uniqueUntil = says.uniqueFor > 0 ? arrivalTime + says.uniqueFor : 0
        tasks[index].replacement = (says, arrivalTime)
        setTimer(index)
        if tasks[index].state != .dispatched { _ = applyReplacement(index) }
    }

    mutating func applyReplacement(_ index: Int) -> Bool {
        guard let due = tasks[index].replacement.map({ $0.says.due ?? 0 }) else { return false }
        adoptReplacement(index)
        put(index, due > now ? .delayed : .ready, until: due > now ? due : .max)
        return true
    }

    mutating func adoptReplacement(_ index: Int) {
        guard let (says, enqueued) = tasks[index].replacement else { return }
        tasks[index].replacement = nil
        tasks[index].says = says
        tasks[index].priority = says.priority ?? 0
        tasks[index].enqueued = enqueued
        (tasks[index].worker, tasks[index].error, tasks[index].progress, tasks[index].result) = ("", "", "", "")
        tasks[index].log = ""
    }

    func lifetime(_ expiry: Expiry, _ queue: Int) -> Int64 {
        switch expiry == .unsaid ? queues[queue].configuration.expiry : expiry {
        case .unsaid: QueueConfiguration.defaultExpiryMilliseconds
        case .never: .max
        case .after(let lifetime): lifetime
        }
    }

    // MARK: Taking and waiting

    func available(_ queue: Int) -> [Task] {
        queues[queue].isPaused || queues[queue].configuration.isPushed
            ? [] : list(queue, .ready).filter { !$0.isPushed && $0.expires > now }
    }

    func canTake(_ names: [Int]) -> Bool {
        names.allSatisfy { queue in available(queue).count >= names.count { $0 == queue } }
    }

    mutating func takeAvailable(_ names: [Int], worker: String) -> [UInt64?] {
        names.map { queue in available(queue).first.map { dispatch($0.number, worker: worker) } }
    }

    mutating func takeAny(_ names: [Int], limit: Int, worker: String) -> [UInt64?] {
        var taken: [UInt64?] = []
        for queue in names {
            while taken.count < limit, let task = available(queue).first {
                taken.append(dispatch(task.number, worker: worker))
            }
        }
        return taken
    }

    mutating func dispatch(_ number: UInt64, worker: String, lease: Int64? = nil) -> UInt64 {
        guard let index = index(number) else { return 0 }
        let lease =
            lease ?? tasks[index].says.lease ?? queues[tasks[index].queue].configuration.leaseMilliseconds
            ?? QueueConfiguration.defaultLeaseMilliseconds
        tasks[index].attempt += 1
        tasks[index].token = nextToken
        tasks[index].worker = worker
        tasks[index].lease = lease
        nextToken += 1
        queues[tasks[index].queue].totals.dispatched += 1
        put(index, .dispatched, until: now + lease)
        return number
    }

    mutating func wait(_ waiter: Waiter) { waiters.append(waiter) }

    // MARK: Sending

    /// The next task to send.
    func nextToSend(_ queue: Int) -> Task? {
        if queues[queue].isPaused && !queues[queue].isResuming { return nil }
        return list(queue, .ready).first { isToBeSent($0) && $0.expires > now }
    }

    func isToBeSent(_ task: Task) -> Bool { task.hasRequest || queues[task.queue].configuration.isPushed }

    mutating func send(_ queue: Int, lease: Int64) -> (number: UInt64, token: UInt64)? {
        guard let number = nextToSend(queue)?.number, let index = index(number) else { return nil }
        _ = dispatch(number, worker: "", lease: lease)
        tasks[index].isPushed = true
        return (number, tasks[index].token)
    }

    func beingSent(_ token: UInt64) -> Int? {
        tasks.firstIndex { $0.isBeingSent && $0.token == token && $0.deadline > now }
    }

    mutating func finishSending(_ token: UInt64, result: String) -> Bool {
        guard let index = beingSent(token) else { return false }
        ack(index, result: result)
        endedSends.removeAll { $0 == token }
        return true
    }

    mutating func failSending(_ token: UInt64, _ action: NakAction, error: String, result: String) -> NakOutcome {
        guard let index = beingSent(token) else { return .missing }
        let isWaitedFor = waiters.contains { if case .result(tasks[index].number) = $0.goal { true } else { false } }
        if !result.isEmpty && (keep(index) > 0 || isWaitedFor) { tasks[index].result = result }
        let outcome = nak(index, action, error: error)
        endedSends.removeAll { $0 == token }
        return outcome
    }

    /// If the task is being sent, records that the sender must stop.
    mutating func noteEndOfSending(_ index: Int) {
        guard tasks[index].isBeingSent else { return }
        endedSends.append(tasks[index].token)
        tasks[index].isPushed = false
    }

    // MARK: Time

    /// The time of the next event.
    var nextDeadline: Int64? {
        [tasks.map(\.deadline).min(), waiters.map(\.deadline).min()].compactMap { $0 }.min()
    }

    /// Does everything that is due at a time. Nothing is due earlier.
    mutating func proceed(to time: Int64) {
        now = time
        // The leases of tasks that waiters get now may end now too.
        repeat { doWhatIsDue() } while tasks.contains { $0.deadline <= now }
    }

    private mutating func doWhatIsDue() {
        beginEvent()
        while true {
            if let index = tasks.indices.min(by: {
                (tasks[$0].deadline, tasks[$0].set) < (tasks[$1].deadline, tasks[$1].set)
            }),
                tasks[index].deadline <= now
            {
                fire(index)
            } else if let waiter = waiters.min(by: { ($0.deadline, $0.number) < ($1.deadline, $1.number) }),
                waiter.deadline <= now
            {
                endEvent()
                if waiters.contains(where: { $0.number == waiter.number }) { complete(waiter) }
                beginEvent()
            } else {
                break
            }
        }
        endEvent()
        while !sweeps.isEmpty {
            let sweep = sweeps.removeFirst()
            beginEvent()
            let count = run(sweep)
            endEvent()
            if sweep.action != .giveToWorkers { completions.append(.swept(sweep.number, count: count)) }
        }
        for queue in queues.indices where queues[queue].isResuming {
            (queues[queue].isPaused, queues[queue].isResuming) = (false, false)
        }
        serve()
    }

    mutating func fire(_ index: Int) {
        let task = tasks[index]
        if !task.isUnfinished { return task.isHidden ? remove(index) : hide(index) }
        if task.expires <= now {
            queues[task.queue].totals.expired += 1
            if queues[task.queue].configuration.isExpiryDeath {
                if task.state == .dispatched { tasks[index].log = "" }
                die(index, at: task.expires)
            } else {
                finish(index, .expired, at: task.expires)
            }
        } else if task.state == .dispatched {
            queues[task.queue].totals.timedOut += 1
            _ = fail(index, .failed, leaseRanOut: true)
        } else {
            put(index, .ready, until: .max)
        }
    }

    // MARK: Helpers

    mutating func put(_ index: Int, _ state: TaskState, until: Int64, atFront: Bool = false) {
        noteEndOfSending(index)
        tasks[index].state = state
        tasks[index].until = until
        tasks[index].readySince = now
        setPlace(index, atFront: atFront)
        setTimer(index)
        if state == .ready { serve() }
    }

    mutating func setPlace(_ index: Int, atFront: Bool = false) {
        stamps += 1
        tasks[index].order = atFront ? -stamps : stamps
        guard tasks[index].state == .ready else { return }
        let (priority, isPushed) = (tasks[index].priority, isToBeSent(tasks[index]))
        tasks[index].isPushed = isPushed
        // A task put before others counts as ready for as long as they are.
        let number = tasks[index].number
        let next = list(tasks[index].queue, .ready).first {
            $0.number != number && $0.priority == priority && $0.isPushed == isPushed
        }
        if atFront, let next { tasks[index].readySince = min(now, next.readySince) }
    }

    mutating func setTimer(_ index: Int) {
        stamps += 1
        tasks[index].set = stamps
    }
}
