// A trial of a broker against its full model.

import Support
import Testing
import UID

@testable import Queues

struct Mismatch: Error, CustomStringConvertible {
    var description: String
}

/// The state of a trial. Operations, and most ends, happen at multiples of a unit of time. Each task's expiry has a
/// time of its own, so that no two events whose order is open happen at the same time.
struct FullRun {
    static var unit: Int64 { 8192 }
    /// Some belong to a group.
    static let keys: [[UInt8]] = [[1], [2], [2, 0, 1], [2, 0, 2, 0], [0]]
    static let groups: [[UInt8]] = [[], [1], [2]]

    final class Log {
        var completions: [FullModel.Completion] = []
        var waiters: [Int: Waiter] = [:]

        /// Completions retain their broker.
        func cancelAll(on broker: isolated Broker) {
            for waiter in waiters.values { broker.cancel(waiter) }
            waiters = [:]
        }
    }

    var random: Random
    var model: FullModel
    let log = Log()
    /// The maximum number of retries in all queues.
    let limit: UInt32?
    let crashLimit: UInt32?
    /// The queues that the broker reported as having tasks to send, and all dispatches to the sender.
    var sendable: Set<QueueIndex> = []
    var sends: [(key: DispatchKey, token: UInt64)] = []
    var lastTask: UInt64 = 0
    var lastWaiter = 0
    private var settings: [[UInt8]: [UInt8]] = [:]

    init(random: Random, now: Int64, on broker: isolated Broker) throws {
        var random = random
        var configurations: [QueueConfiguration] = []
        // All queues have the same limit, so a task that moves never exceeds the limit of its new queue.
        let limit = random.oneIn(2) ? UInt32(random.below(3)) : nil
        let crashLimit = random.oneIn(2) ? UInt32(random.below(3)) : nil
        for queue in 0..<4 {
            let configuration = Self.configuration(of: queue, limit: limit, crashLimit: crashLimit, &random)
            configurations.append(configuration ?? QueueConfiguration())
            try broker.configure(try broker.queue("\(queue)"), configuration)
        }
        self.random = random
        (self.limit, self.crashLimit) = (limit, crashLimit)
        model = FullModel(configurations: configurations, seed: 0, firstToken: 7, now: now)
    }

    private static func configuration(
        of queue: Int, limit: UInt32?, crashLimit: UInt32?, _ random: inout Random
    ) -> QueueConfiguration? {
        if limit == nil && crashLimit == nil && random.oneIn(3) { return nil }
        var configuration = QueueConfiguration()
        (configuration.maximumRetries, configuration.maximumCrashes) = (limit, crashLimit)
        if random.oneIn(3) { configuration.backoff = Backoff(minimumMilliseconds: unit) }
        if random.oneIn(3) { configuration.keepMilliseconds = unit * Int64(random.below(6)) }
        if random.oneIn(3) { configuration.priority = Int8(random.below(3)) - 1 }
        if random.oneIn(4) { configuration.maximumLength = 4 }
        if random.oneIn(3) { configuration.leaseMilliseconds = 3 * unit }
        if random.oneIn(2) { configuration.deadExpiryMilliseconds = 5 * unit }
        configuration.isExpiryDeath = random.oneIn(3)
        configuration.isPushed = random.oneIn(3)
        if configuration.isPushed || random.oneIn(4) { configuration.push = [1] }
        if queue > 0 && random.oneIn(2) { configuration.deadLetter = Array("\(queue - 1)".utf8) }
        return configuration
    }

    // MARK: Operations

    mutating func step(on broker: isolated Broker) throws {
        let now = model.now
        let queue = random.below(4)
        switch random.below(100) {
        case 0..<22: try enqueue(on: broker, queue: queue)
        case 22..<24:
            let (number, _) = someTask([.ready, .delayed, .dead][random.below(3)])
            let answer = broker.move(id(number), to: try broker.queue("\(queue)"), now: now)
            try expect(answer, model.move(number, to: queue), "move \(number) to \(queue)")
        case 24..<34: try take(on: broker)
        case 34..<44: try send(on: broker)
        case 44..<52:
            let (number, token) = someTask(.dispatched)
            let result = random.oneIn(2) ? "" : "r\(number)"
            let printed = someLog()
            let answer = broker.ack(
                TaskReference(id: id(number), token: token), result: Array(result.utf8).span,
                log: Array(printed.utf8).span, now: now)
            try expect(answer, model.ack(number, token: token, result: result, log: printed), "ack")
        case 52..<58: try endSending(on: broker)
        case 58..<64:
            // One event for the waiters.
            broker.beginEvent()
            model.beginEvent()
            for _ in 0..<1 + random.below(3) {
                let (number, token) = someTask(.dispatched)
                let action = someAction()
                let error = random.oneIn(3) ? "e\(random.below(9))" : ""
                let printed = someLog()
                let answer = broker.nak(
                    TaskReference(id: id(number), token: token), action, error: Array(error.utf8).span,
                    log: Array(printed.utf8).span, now: now)
                try expect(answer, model.nak(number, token: token, action, error: error, log: printed), "nak")
            }
            broker.endEvent(now: now)
            model.endEvent()
        case 64..<67:
            let (number, _) = someTask(.dispatched)
            let lease = random.oneIn(2) ? nil : someTime()
            let progress = random.oneIn(2) ? "" : "p\(random.below(9))"
            let answer = broker.touch(
                TaskReference(id: id(number)), leaseMilliseconds: lease, progress: Array(progress.utf8).span, now: now)
            try expect(answer, model.touch(number, lease: lease, progress: progress), "touch")
        case 67..<70:
            let (number, _) = someTask(nil)
            try expect(broker.cancelTask(id(number), now: now), model.cancelTask(number), "cancel")
        case 70 where random.oneIn(2):
            let key = Self.keys[random.below(Self.keys.count)]
            let answer = broker.freeKey(key, in: try broker.queue("\(queue)"), now: now)
            try expect(answer, model.freeKey(key, in: queue), "freeKey")
        case 70:
            let (number, _) = someTask(nil)
            try expect(broker.deleteRecord(id(number), now: now), model.deleteRecord(number), "deleteRecord")
        case 71:
            let states: [TaskState] = [.done, .done, .done, .delayed, .delayed, .dead, .cancelled, .expired]
            let (number, _) = someTask(states.randomElement(using: &random))
            let result = random.oneIn(2) ? "" : "n\(number)"
            let answer = broker.replaceResult(of: id(number), with: Array(result.utf8).span, now: now)
            try expect(answer, model.replaceResult(of: number, with: result), "replaceResult")
        case 72..<75:
            let (number, _) = someTask([.dead, .delayed, .ready][random.below(3)])
            let toOrigin = random.oneIn(4)
            let answer = broker.kick(id(number), toOrigin: toOrigin, now: now)
            try expect(answer, model.kick(number, toOrigin: toOrigin), "kick")
            // A task whose lifetime is 0 has expired by this.
            try proceed(to: now, on: broker)
        case 75..<78: try waitForResult(on: broker)
        case 78..<80:
            guard let (number, waiter) = log.waiters.min(by: { $0.key < $1.key }) else { break }
            log.waiters[number] = nil
            broker.cancel(waiter)
            model.cancelWait(number)
        case 80..<82:
            broker.pause(try broker.queue("\(queue)"), now: now)
            model.pause(queue)
        case 82:
            let configuration = Self.configuration(of: queue, limit: limit, crashLimit: crashLimit, &random)
            try broker.configure(try broker.queue("\(queue)"), configuration)
            model.configure(queue, configuration ?? QueueConfiguration())
            if model.queues[queue].isResuming { try proceed(to: now, on: broker) }
        case 83..<87:
            broker.resume(try broker.queue("\(queue)"))
            model.resume(queue)
            try proceed(to: now, on: broker)
        case 87..<93: try sweep(on: broker, queue: queue)
        case 93:
            let name = [UInt8(random.below(5))]
            let value = random.oneIn(3) ? nil : [UInt8](repeating: UInt8(random.below(3)), count: 1 + random.below(99))
            try broker.setSetting(name, to: value)
            settings[name] = value
        default:
            let limit = now + (random.oneIn(3) ? 20 : Int64(random.below(3))) * Self.unit
            try proceed(to: limit, on: broker)
        }
        if random.oneIn(2) { try proceed(to: model.now, on: broker) }
        try expect(log.completions.filter(\.isOrdered), model.completions.filter(\.isOrdered), "completions")
        try expect(
            log.completions.filter { !$0.isOrdered }.sorted { $0.number < $1.number },
            model.completions.filter { !$0.isOrdered }.sorted { $0.number < $1.number }, "ends that were told")
        log.completions = []
        model.completions = []
        try compareReports(by: broker)
    }

    /// Ends everything that a restart does not restore.
    mutating func finish(on broker: isolated Broker) throws {
        try proceed(to: model.now, on: broker)
        for (number, waiter) in log.waiters {
            broker.cancel(waiter)
            model.cancelWait(number)
        }
        log.waiters = [:]
        log.completions = []
        model.completions = []
        try proceed(to: model.now, on: broker)
        try compareReports(by: broker)
        model.restart()
        sendable = []
    }

    /// Adds one task, or a batch.
    private mutating func enqueue(on broker: isolated Broker, queue: Int) throws {
        guard model.tasks.count < 40 else { return }
        let count = random.oneIn(2) ? 0 : 1 + random.below(3)
        var contents: [UInt8] = []
        var batch: [(number: UInt64, says: FullModel.Says)] = []
        var tasks: [NewTask] = []
        for _ in 0..<max(1, count) {
            let says = someSays()
            let start = contents.count
            contents += Array(says.content.utf8)
            batch.append((lastTask, says))
            tasks.append(newTask(says, content: start..<contents.count))
        }
        let index = try broker.queue("\(queue)")
        var answers: [Enqueued] = []
        var expected: [Enqueued] = []
        if count == 0 {
            if let answer = try? broker.enqueue(tasks[0], content: contents.span, in: index, now: model.now) {
                answers = [answer]
            }
            let answer = model.enqueue(batch[0].number, batch[0].says, queue: queue)
            expected = [answer].compactMap { $0 }.map { Enqueued(id: id($0.id), isExisting: $0.isExisting) }
        } else {
            try? broker.enqueue(tasks, contents: contents.span, in: index, now: model.now, into: &answers)
            expected = (model.enqueue(batch, queue: queue) ?? []).map {
                Enqueued(id: id($0.id), isExisting: $0.isExisting)
            }
        }
        try expect(answers, expected, "enqueue")
    }

    private mutating func someSays() -> FullModel.Says {
        lastTask += 1
        var says = FullModel.Says(content: "\(lastTask)")
        if random.oneIn(3) { says.lease = random.oneIn(6) ? 0 : someTime() }
        let own = Int64(1 + lastTask % 8000)
        if random.oneIn(4) { says.due = model.now + someTime() - Self.unit }
        if random.oneIn(2) {
            says.expiry = random.oneIn(5) ? .never : .after(milliseconds: someTime() * 2 + own)
        } else if random.oneIn(8) {
            // The task expires when it is due.
            (says.due, says.expiry) = (model.now + someTime() + own, .after(milliseconds: 0))
        }
        if random.oneIn(3) { says.priority = Int8(random.below(4)) - 2 }
        if random.oneIn(2) { says.key = Self.keys[random.below(Self.keys.count)] }
        says.conflict = [.keep, .reject, .replace][random.below(3)]
        if random.oneIn(3) { says.uniqueFor = someTime() }
        if random.oneIn(3) { says.limit = random.oneIn(3) ? .unlimited : .limited(UInt32(random.below(3))) }
        if random.oneIn(3) { says.crashLimit = random.oneIn(3) ? .unlimited : .limited(UInt32(random.below(3))) }
        if random.oneIn(4) { says.backoff = Backoff(minimumMilliseconds: someTime(), maximumDoublings: 2) }
        if random.oneIn(4) { says.keep = someTime() - Self.unit }
        says.hasRequest = random.oneIn(3)
        return says
    }

    private func newTask(_ says: FullModel.Says, content: Range<Int>) -> NewTask {
        let options = TaskOptions()
        options.key = says.key
        options.onConflict = says.conflict
        options.uniqueForMilliseconds = says.uniqueFor
        (options.retryLimit, options.crashLimit) = (says.limit, says.crashLimit)
        options.backoff = says.backoff
        options.keepMilliseconds = says.keep
        options.request = says.hasRequest ? [1] : []
        return NewTask(
            id: id(lastTask), content: content, leaseMilliseconds: says.lease, due: says.due,
            expiry: says.expiry, priority: says.priority, options: options)
    }

    private mutating func take(on broker: isolated Broker) throws {
        let names = (0..<(random.oneIn(2) ? 1 : 1 + random.below(3))).map { _ in random.below(4) }
        let indexes = try names.map { try broker.queue("\($0)") }
        let worker = random.oneIn(3) ? "w\(random.below(9))" : ""
        let limit = random.oneIn(2) ? 1 + random.below(3) : 0
        let (now, log) = (model.now, log)
        var taken: [TaskHandle?] = []
        let bytes = Array(worker.utf8)
        let isAny = limit > 0
        let answer =
            isAny
            ? broker.takeAny(indexes, limit: limit, worker: bytes, now: now, into: &taken)
            : broker.take(indexes, worker: bytes, now: now, into: &taken)
        var expected: [UInt64?]?
        if isAny {
            let any = model.takeAny(names, limit: limit, worker: worker)
            expected = any.isEmpty ? nil : any
        } else if model.canTake(names) {
            expected = model.takeAvailable(names, worker: worker)
        }
        try expect(answer ? taken.map { $0.map { broker.show($0).number } } : nil, expected, "take")
        guard !answer && model.waiters.count < 8 else { return }
        lastWaiter += 1
        let (number, deadline) = (lastWaiter, now + someTime())
        let completion: Waiter.Completion = { taken in
            log.waiters[number] = nil
            log.completions.append(.taken(waiter: number, taken.map { $0.map { broker.show($0).number } }))
        }
        log.waiters[number] =
            isAny
            ? broker.waitAny(
                indexes, limit: limit, worker: bytes, deadline: deadline, now: now, completion: completion)
            : broker.wait(indexes, worker: bytes, deadline: deadline, now: now, completion: completion)
        model.wait(
            FullModel.Waiter(
                number: number, goal: isAny ? .any(limit) : .all, queues: names, worker: worker, deadline: deadline))
    }

    private mutating func send(on broker: isolated Broker) throws {
        broker.takeSendableQueues { sendable.insert($0) }
        guard let queue = (0..<4).filter({ isSendable($0, on: broker) }).randomElement(using: &random) else { return }
        let index = try broker.queue("\(queue)")
        let lease = someTime()
        var seen: FullShown?
        let expectedView = model.nextToSend(queue).map { FullShown($0) }
        let found = broker.send(from: index, now: model.now) { task in
            seen = FullShown(task)
            return lease
        }
        try expect(seen, expectedView, "what is shown of a task to be sent")
        let expected = model.send(queue, lease: lease)
        guard case .task(let key) = found else {
            try expect(expected == nil, true, "something to send from \(queue)")
            sendable.remove(index)
            return
        }
        guard let expected else { throw Mismatch(description: "sent from \(queue), where there is nothing") }
        try expect(key, broker.withTask(id: id(expected.number), now: model.now) { $0.dispatchKey }, "send")
        sends.append((key, expected.token))
    }

    private mutating func endSending(on broker: isolated Broker) throws {
        let current = sends.filter { send in model.tasks.contains { $0.isBeingSent && $0.token == send.token } }
        guard let (key, token) = (random.oneIn(8) ? sends : current).randomElement(using: &random) else { return }
        let now = model.now
        let result = random.oneIn(2) ? "" : "s\(token)"
        if random.oneIn(2) {
            let answer = broker.finishSending(key, result: Array(result.utf8).span, now: now)
            return try expect(answer, model.finishSending(token, result: result), "finishSending")
        }
        let action = someAction()
        let error = random.oneIn(3) ? "e\(random.below(9))" : ""
        let answer = broker.failSending(
            key, action, error: Array(error.utf8).span, result: Array(result.utf8).span, now: now)
        try expect(answer, model.failSending(token, action, error: error, result: result), "failSending")
    }

    private func isSendable(_ queue: Int, on broker: isolated Broker) -> Bool {
        broker.existingQueue(named: Array("\(queue)".utf8).span).map(sendable.contains) ?? false
    }

    /// Checks that the broker has reported every queue with tasks to send, and each end and death once.
    private mutating func compareReports(by broker: isolated Broker) throws {
        broker.takeSendableQueues { sendable.insert($0) }
        for queue in 0..<4 where model.nextToSend(queue) != nil {
            try expect(isSendable(queue, on: broker), true, "\(queue) is told to have something to send")
        }
        var ended: [DispatchKey] = []
        broker.takeEndedSends { ended.append($0) }
        let expected = model.endedSends.compactMap { token in sends.last { $0.token == token }?.key }
        // A purge processes tasks that changed their state meanwhile after all others.
        try expect(ended.map(\.rawValue).sorted(), expected.map(\.rawValue).sorted(), "ended sends")
        var deadTasks: [FullModel.DeadTask] = []
        broker.takeDeadTasks { deadTask in
            let queue = Int(text(broker.name(of: deadTask.queue).span)) ?? -1
            deadTasks.append(FullModel.DeadTask(task: deadTask.task.high, queue: queue))
            return true
        }
        try expect(deadTasks, model.deadTasks, "deadTasks")
        (model.endedSends, model.deadTasks) = ([], [])
    }

    private mutating func waitForResult(on broker: isolated Broker) throws {
        let (task, _) = someTask(nil)
        let (now, log) = (model.now, log)
        lastWaiter += 1
        let (number, deadline) = (lastWaiter, now + someTime())
        let waiter = broker.waitForResult(of: id(task), deadline: deadline, now: now) { state, result in
            log.waiters[number] = nil
            log.completions.append(.ended(waiter: number, state, text(result)))
        }
        let isExpected = model.index(task).map { model.tasks[$0].isUnfinished } ?? false
        try expect(waiter != nil, isExpected, "waitForResult")
        log.waiters[number] = waiter
        if isExpected {
            model.wait(FullModel.Waiter(number: number, goal: .result(task), deadline: deadline))
        }
    }

    private mutating func sweep(on broker: isolated Broker, queue: Int) throws {
        lastWaiter += 1
        let (number, log, now) = (lastWaiter, log, model.now)
        let index = try broker.queue("\(queue)")
        let target = random.below(4)
        let limit = random.oneIn(2) ? Int.max : random.below(4)
        var states: [TaskState] = []
        let completion: Broker.SweepCompletion = { log.completions.append(.swept(number, count: $0.count)) }
        let action = FullModel.Sweep.Action.allCases[random.below(4)]
        var filter: TaskFilter?
        if random.oneIn(3) {
            filter = TaskFilter(time: now)
            if random.oneIn(2) { filter?.error = random.oneIn(2) ? [] : Array("e\(random.below(9))".utf8) }
            // A task may have been dispatched since.
            if action != .purge { filter?.olderThanMilliseconds = random.oneIn(2) ? nil : someTime() / 2 }
        }
        switch action {
        case .purge:
            guard random.oneIn(3) else { return }
            states = random.oneIn(4) ? TaskState.allCases : [TaskState.allCases[random.below(7)]]
            try broker.purge(index, states: states, filter: filter, now: now, completion: completion)
        case .kick:
            states = [random.oneIn(2) ? .dead : .delayed]
            // The time when tasks with a lifetime of 0 end would depend on the slices.
            guard model.list(queue, states[0]).allSatisfy({ $0.lifetime > 0 }) else { return }
            try broker.kick(index, state: states[0], filter: filter, limit: limit, now: now, completion: completion)
        case .kickToOrigin:
            states = [.ready, .delayed, .dead]
            try broker.kickToOrigin(
                index, states: states, filter: filter, limit: limit, now: now, completion: completion)
        case .move:
            states = [[.ready, .dead, .delayed][random.below(3)]]
            try broker.move(
                index, to: broker.queue("\(target)"), state: states[0], filter: filter, limit: limit, now: now,
                completion: completion)
        case .giveToWorkers: return
        }
        let bound = action == .purge ? .max : limit
        model.sweep(number, action, queue, states: states, filter: filter, target: target, limit: bound)
        if random.oneIn(3) { try proceed(to: now, on: broker) }
    }

    /// Lets everything happen that is due up to a time, each event at its own time.
    private mutating func proceed(to limit: Int64, on broker: isolated Broker) throws {
        var time = model.now
        while true {
            // One slice is one event for the waiters. In the model, everything that is due is one event.
            let slice = model.hasTaskWaiters || random.oneIn(2) ? 2000 : 1 + random.below(3)
            while !broker.advance(to: time, limit: slice) {}
            model.proceed(to: time)
            guard time < limit else { break }
            if let deadline = model.nextDeadline {
                try expect((broker.nextDeadline ?? .max) <= deadline, true, "the next deadline comes too late")
            }
            time = min(limit, model.nextDeadline ?? limit)
        }
    }

    // MARK: Comparing

    func compare(with broker: isolated Broker) throws {
        broker.checkInvariants()
        for queue in 0..<4 {
            for state in TaskState.allCases {
                let numbers = try broker.peek("\(queue)", state, now: model.now)
                try expect(numbers, model.list(queue, state).map(\.number), "\(state) in \(queue)")
            }
            try expect(try broker.statistics("\(queue)"), model.statistics(queue), "statistics of \(queue)")
        }
        for (name, queue) in try (0..<4).map({ ($0, try broker.queue("\($0)")) }) {
            for key in Self.keys {
                let found = broker.task(withKey: key, in: queue, now: model.now)
                try expect(found, model.task(withKey: key, in: name).map(id), "the task with key \(key) in \(name)")
                let holder = model.holder(of: key, in: name).map { model.tasks[$0] }.map {
                    KeyHolder(
                        task: id($0.number), isUnfinished: $0.isUnfinished, since: $0.enqueued, until: $0.uniqueUntil)
                }
                try expect(
                    broker.keyHolder(of: key, in: queue, now: model.now), holder, "the holder of \(key) in \(name)")
            }
            for group in Self.groups {
                var found: [FullShown] = []
                broker.forEachTask(inKeyGroup: group, of: queue, now: model.now) { found.append(FullShown($0)) }
                let expected = model.tasks(inKeyGroup: group, of: name).compactMap(model.index)
                try expect(
                    found.sorted { $0.content < $1.content },
                    expected.map { FullShown(model.tasks[$0]) }.sorted { $0.content < $1.content },
                    "group \(group) of \(name)")
            }
        }
        for task in model.tasks {
            let shown = broker.withTask(id: id(task.number), now: model.now) { FullShown($0) }
            try expect(shown, task.isHidden ? nil : FullShown(task), "task \(task.number)")
        }
        try expect(broker.counts.waiters, model.waiters.count, "waiters")
        try expect(broker.counts.tasks, model.tasks.count, "tasks")
        var found: [[UInt8]: [UInt8]] = [:]
        broker.forEachSetting { found[$0] = $1 }
        try expect(found, settings, "settings")
        if lastTask % 8 == 0 { try compareCensus(with: broker, slice: 1 + Int(lastTask % 100)) }
    }

    // MARK: Helpers

    private func id(_ number: UInt64) -> UID { UID(high: number, low: number % 8) }

    private mutating func someAction() -> NakAction {
        [
            .failed, .failed, .failedPausing(milliseconds: Self.unit * 2), .dead, .release,
            .releasePausing(milliseconds: Self.unit * 2), .releasePausing(milliseconds: 0),
        ][random.below(7)]
    }

    private mutating func someLog() -> String { random.oneIn(2) ? "" : "l\(random.below(9))" }

    private mutating func someTime() -> Int64 { Self.unit * Int64(1 + random.below(8)) }

    /// Usually a task in that state, named by its id or by a receipt, valid or not.
    private mutating func someTask(_ state: TaskState?) -> (number: UInt64, token: UInt64?) {
        let fitting = model.tasks.filter { $0.state == state }
        guard let task = (random.oneIn(8) || fitting.isEmpty ? model.tasks : fitting).randomElement(using: &random)
        else { return (lastTask, nil) }
        return (task.number, random.oneIn(2) ? nil : task.token + (random.oneIn(8) ? 1 : 0))
    }

    private func expect<Value: Equatable>(_ value: Value, _ expected: Value, _ what: String) throws {
        if value != expected { throw Mismatch(description: "\(what): got \(value), expected \(expected)") }
    }
}

/// Everything that a view shows of a task.
struct FullShown: Equatable {
    var queue: String, content: String, state: TaskState
    var attempt: UInt32, retries: UInt32, token: UInt64, priority: Int8
    var enqueued: Int64, retryLimit: Int?, due: Int64?, leaseEnd: Int64?, expires: Int64?, finished: Int64?
    var died: Int64?
    var key: [UInt8]
    var crashes: UInt32, crashLimit: Int?
    var worker: String, error: String, progress: String, result: String, log: String, origin: String

    init(_ view: borrowing TaskView) {
        queue = text(view.queueName)
        content = text(view.content)
        state = view.state
        (attempt, retries, token, priority) = (view.attempt, view.retries, view.token, view.priority)
        (enqueued, retryLimit, due, leaseEnd) = (view.enqueued, view.retryLimit, view.due, view.leaseEnd)
        (expires, finished, died, key) = (view.expires, view.finished, view.died, view.key)
        worker = text(view.worker.span)
        error = text(view.error.span)
        progress = text(view.progress.span)
        result = text(view.result.span)
        log = text(view.log.span)
        (crashes, crashLimit) = (view.crashes, view.crashLimit)
        origin = text(view.origin.span)
    }

    init(_ task: FullModel.Task) {
        queue = "\(task.queue)"
        content = task.says.content
        state = task.state
        (attempt, retries, token, priority) = (task.attempt, task.retries, task.token, task.priority)
        enqueued = task.enqueued
        if case .limited(let limit) = task.says.limit { retryLimit = Int(limit) }
        if case .limited(let limit) = task.says.crashLimit { crashLimit = Int(limit) }
        due = task.state == .delayed ? task.until : nil
        leaseEnd = task.state == .dispatched ? task.until : nil
        expires = task.isUnfinished && task.expires != .max ? task.expires : nil
        finished = task.isUnfinished ? nil : task.finished
        died = task.origin == nil ? (task.state == .dead ? finished : nil) : task.died
        key = task.says.key
        (worker, error, progress, result) = (task.worker, task.error, task.progress, task.result)
        (log, crashes) = (task.log, task.crashes)
        origin = task.origin.map { "\($0)" } ?? ""
    }
}
