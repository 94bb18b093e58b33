// A naive second implementation of the broker, with arrays and linear scans. The real one must give the same answers.

@testable import Queues

/// A model of the broker. Queues are numbers, tasks are numbers, and time is `now`, which `proceed(to:)` sets.
struct Model {
    struct Task {
        var number: UInt64
        var queue: Int
        var lease: Int64
        var enqueued: Int64
        var expires: Int64
        var isDispatched = false
        var attempt: UInt32 = 0
        var token: UInt64 = 0
        var dispatched: Int64 = 0
        var leaseEnd: Int64 = 0
        var retries = 0
        var crashes: UInt32 = 0
        /// When the task is ready again, while it pauses after many retries.
        var due: Int64?
        /// The position of the task's timer in the order in which all timers were set.
        var set = 0
    }

    struct Waiter {
        var number: Int
        var queues: [Int]
        var lease: Int64?
        var deadline: Int64
    }

    /// A call of a completion.
    struct Completion: Equatable {
        var waiter: Int
        var taken: [Shown?]
    }

    enum Event: Equatable {
        case leaseOver(task: UInt64, queue: Int)
        case pauseOver(task: UInt64, queue: Int)
        case waitOver(waiter: Int)

        var isLease: Bool { if case .leaseOver = self { true } else { false } }
    }

    private(set) var now: Int64
    /// Unordered.
    private(set) var tasks: [Task] = []
    /// The numbers of the ready tasks of each queue, in order.
    private(set) var ready: [[UInt64]]
    /// In the order of their arrival.
    private(set) var waiters: [Waiter] = []
    /// The calls since the caller last emptied this.
    var completions: [Completion] = []
    /// How many leases of a task may run out.
    private let maximumCrashes: UInt32
    private var nextToken: UInt64
    private var settings = 0
    /// Whether waiters are served when the current event is over.
    private var isEvent = false

    init(queues: Int, maximumCrashes: UInt32 = .max, firstToken: UInt64, now: Int64) {
        self.maximumCrashes = maximumCrashes
        ready = Array(repeating: [], count: queues)
        nextToken = firstToken
        self.now = now
    }

    mutating func proceed(to time: Int64) {
        now = time
        for task in tasks where task.expires <= now { ready[task.queue].removeAll { $0 == task.number } }
        tasks.removeAll { $0.expires <= time }
    }

    mutating func enqueue(_ number: UInt64, queue: Int, lease: Int64, expires: Int64) {
        guard expires > now else { return }
        tasks.append(Task(number: number, queue: queue, lease: lease, enqueued: now, expires: expires))
        setTimer(tasks.count - 1)
        ready[queue].append(number)
        serve()
    }

    /// nil if there are not enough.
    mutating func take(_ queues: [Int], lease: Int64?) -> [Shown?]? {
        canTake(queues) ? takeAvailable(queues, lease: lease) : nil
    }

    mutating func takeAvailable(_ queues: [Int], lease: Int64?) -> [Shown?] {
        queues.map { queue in
            guard !ready[queue].isEmpty, let index = index(of: ready[queue].removeFirst()) else { return nil }
            tasks[index].isDispatched = true
            tasks[index].attempt += 1
            tasks[index].token = nextToken
            tasks[index].dispatched = now
            tasks[index].leaseEnd = now + (lease ?? tasks[index].lease)
            nextToken += 1
            setTimer(index)
            return Shown(tasks[index])
        }
    }

    mutating func wait(_ waiter: Waiter) {
        waiters.append(waiter)
    }

    mutating func cancel(_ number: Int) {
        waiters.removeAll { $0.number == number }
    }

    mutating func completeAllWaiters() {
        for waiter in waiters.sorted(by: { ($0.deadline, $0.number) < ($1.deadline, $1.number) }) {
            completions.append(Completion(waiter: waiter.number, taken: waiter.queues.map { _ in nil }))
        }
        waiters = []
    }

    mutating func ack(_ number: UInt64, token: UInt64?) -> Bool {
        guard let index = held(number, token: token) else { return false }
        tasks.remove(at: index)
        return true
    }

    mutating func nak(_ number: UInt64, token: UInt64?) -> Bool {
        guard let index = held(number, token: token) else { return false }
        fail(index)
        return true
    }

    mutating func release(token: UInt64) {
        guard let index = tasks.firstIndex(where: { $0.isDispatched && $0.token == token && $0.leaseEnd > now })
        else { return }
        requeue(index, atFront: true)
    }

    /// The observable events that are due, in order. At the same time, leases and pauses come in the order in which
    /// they were set, then waits in the order of their arrival.
    var nextEvent: (event: Event, time: Int64)? {
        let timed = tasks.filter { $0.isDispatched || $0.due != nil }
        let next = timed.min { ($0.due ?? $0.leaseEnd, $0.set) < ($1.due ?? $1.leaseEnd, $1.set) }
        let wait = waiters.min { ($0.deadline, $0.number) < ($1.deadline, $1.number) }
        if let next, case let time = next.due ?? next.leaseEnd, time <= wait?.deadline ?? .max {
            let event: Event =
                next.isDispatched
                ? .leaseOver(task: next.number, queue: next.queue) : .pauseOver(task: next.number, queue: next.queue)
            return (event, time)
        }
        return wait.map { (.waitOver(waiter: $0.number), $0.deadline) }
    }

    /// The time of the next event, observable or not.
    var nextDeadline: Int64? {
        [nextEvent?.time, tasks.map(\.expires).min()].compactMap { $0 }.min()
    }

    /// Everything until `endEvent`, or before a wait ends, is one event.
    mutating func beginEvent() { isEvent = true }

    mutating func endEvent() {
        isEvent = false
        serve()
    }

    mutating func happen(_ event: Event) {
        switch event {
        case .leaseOver(let task, _):
            if let index = index(of: task) { crash(index) }
        case .pauseOver(let task, _):
            if let index = index(of: task) { requeue(index, atFront: false) }
        case .waitOver(let number):
            serveWaiters()
            if let waiter = waiters.first(where: { $0.number == number }) { complete(waiter) }
        }
    }

    var queuesWithTasks: Set<Int> { Set(tasks.map(\.queue)) }

    // MARK: Helpers

    private func index(of number: UInt64) -> Int? {
        tasks.firstIndex { $0.number == number }
    }

    private func held(_ number: UInt64, token: UInt64?) -> Int? {
        tasks.firstIndex {
            $0.number == number && $0.isDispatched && $0.leaseEnd > now && $0.token == token ?? $0.token
        }
    }

    private mutating func setTimer(_ index: Int) {
        settings += 1
        tasks[index].set = settings
    }

    /// A task that has crashed too often is dead.
    private mutating func crash(_ index: Int) {
        tasks[index].crashes += 1
        guard tasks[index].crashes > maximumCrashes else { return fail(index) }
        tasks[index].isDispatched = false
        tasks[index].expires = now.addingWithinRange(QueueConfiguration.defaultDeadExpiryMilliseconds)
    }

    /// The first nine retries follow at once. Those after them pause for a second, which doubles up to a minute.
    private mutating func fail(_ index: Int) {
        tasks[index].retries += 1
        guard tasks[index].retries > 9 else { return requeue(index, atFront: false) }
        tasks[index].isDispatched = false
        tasks[index].due = now + min(60_000, 1000 << min(6, Int64(tasks[index].retries - 10)))
        setTimer(index)
    }

    private mutating func requeue(_ index: Int, atFront: Bool) {
        tasks[index].isDispatched = false
        tasks[index].due = nil
        setTimer(index)
        let queue = tasks[index].queue
        ready[queue].insert(tasks[index].number, at: atFront ? 0 : ready[queue].count)
        serve()
    }

    private func canTake(_ queues: [Int]) -> Bool {
        queues.allSatisfy { queue in ready[queue].count >= queues.count { $0 == queue } }
    }

    private mutating func serve() {
        if !isEvent { serveWaiters() }
    }

    private mutating func serveWaiters() {
        while let waiter = waiters.first(where: { canTake($0.queues) }) { complete(waiter) }
    }

    private mutating func complete(_ waiter: Waiter) {
        cancel(waiter.number)
        completions.append(
            Completion(waiter: waiter.number, taken: takeAvailable(waiter.queues, lease: waiter.lease)))
    }
}

extension Shown {
    init(_ task: Model.Task) {
        number = task.number
        queue = "\(task.queue)"
        content = "\(task.number)"
        attempt = task.attempt
        token = task.token
        state = .dispatched
        lease = task.leaseEnd - task.dispatched
        enqueued = task.enqueued
        dispatched = task.dispatched
        leaseEnd = task.leaseEnd
        expires = task.expires
    }
}
