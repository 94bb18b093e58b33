// Random operations on the broker and on its model. Everything that can be observed must agree.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct BrokerModelTests {
    /// Few tasks, queues and waiters make rare coincidences frequent. Everything is checked after every operation.
    @Test(arguments: 0..<8) func smallBrokersMatchTheModel(part: Int) async throws {
        for life in 0..<max(1, testOperations / 20_000) {
            try Trial(
                seed: Random.runSeed &+ UInt64(part * 1000 + life), operations: 2_500, queues: 4, tasks: 24, waiters: 6,
                checkEvery: 1
            ).run()
            // Lets tests that share this thread go on.
            await Task.yield()
        }
    }

    @Test(arguments: 0..<2) func aLargerBrokerMatchesTheModel(part: Int) throws {
        try Trial(
            seed: Random.runSeed &+ UInt64(part + 1_000_000), operations: 10_000, queues: 40, tasks: 600, waiters: 100,
            checkEvery: 100
        ).run()
    }
}

/// One life of a broker.
private struct Trial {
    struct Mismatch: Error, CustomStringConvertible {
        var description: String
    }

    let seed: UInt64
    let operations: Int
    let queues: Int
    let tasks: Int
    let waiters: Int
    /// Compare the whole state after this many operations.
    let checkEvery: Int

    func run() throws {
        var random = Random(seed: seed)
        let start = random.oneIn(2) ? 1_790_000_000_000 : random.anyLength(bits: 42)
        let maximumCrashes = random.oneIn(2) ? UInt32(random.below(4)) : nil
        try withBroker(now: start, firstToken: 7, maximumTasks: 100_000) { [random] broker in
            if let maximumCrashes {
                var defaults = QueueConfiguration()
                defaults.maximumCrashes = maximumCrashes
                try broker.setDefaults(defaults)
            }
            var run = Run(trial: self, random: random, maximumCrashes: maximumCrashes, now: start)
            for operation in 1...operations {
                do {
                    try run.step(on: broker)
                    if operation % checkEvery == 0 { try run.compare(with: broker) }
                } catch {
                    throw Mismatch(
                        description: "EMQ_TEST_SEED=\(Random.runSeed), trial \(seed), operation \(operation): \(error)")
                }
            }
        }
    }
}

/// The state of a trial.
private struct Run {
    /// The dispatches so far.
    final class Log {
        var completions: [Model.Completion] = []
        /// The waiters that were neither completed nor cancelled.
        var waiters: [Int: Waiter] = [:]
        /// The last dispatches.
        var receipts: [(number: UInt64, token: UInt64, key: DispatchKey)] = []

        func show(_ taken: [TaskHandle?], _ broker: isolated Broker) -> [Shown?] {
            for case let handle? in taken {
                receipts.append(
                    broker.withTask(handle) { (number: $0.id.high, token: $0.token, key: $0.dispatchKey) })
                if receipts.count > 30 { receipts.removeFirst() }
            }
            return taken.map { $0.map { broker.show($0) } }
        }
    }

    let trial: Trial
    var random: Random
    var model: Model
    let log = Log()
    var lastTask: UInt64 = 0
    var lastWaiter = 0

    init(trial: Trial, random: Random, maximumCrashes: UInt32?, now: Int64) {
        self.trial = trial
        self.random = random
        model = Model(queues: trial.queues, maximumCrashes: maximumCrashes ?? .max, firstToken: 7, now: now)
    }

    mutating func step(on broker: isolated Broker) throws {
        try passTime(on: broker)
        let now = model.now
        switch random.below(100) {
        case 0..<28:
            guard model.tasks.count < trial.tasks else { return }
            lastTask += 1
            let queue = random.below(trial.queues)
            let (lease, expires) = (1 + someTime(), now + 3 * someTime())
            try broker.enqueue(
                id: id(lastTask), in: broker.queue("\(queue)"), content: Array("\(lastTask)".utf8).span,
                leaseMilliseconds: lease, expiry: .after(milliseconds: expires - now), now: now)
            model.enqueue(lastTask, queue: queue, lease: lease, expires: expires)
        case 28..<50:
            try take(on: broker)
        case 50..<54:
            let (names, lease) = (someQueues(), someLease())
            var taken: [TaskHandle?] = []
            broker.takeAvailable(try indexes(names, broker), leaseMilliseconds: lease, now: now, into: &taken)
            try expect(log.show(taken, broker), model.takeAvailable(names, lease: lease), "takeAvailable")
        case 54..<66:
            let (number, token) = someReference()
            let answer = broker.ack(TaskReference(id: id(number), token: token), now: now)
            try expect(answer, model.ack(number, token: token), "ack")
        case 66..<76:
            let (number, token) = someReference()
            let answer = broker.nak(TaskReference(id: id(number), token: token), now: now)
            try expect(answer, model.nak(number, token: token), "nak")
        case 76..<82:
            guard let receipt = log.receipts.randomElement(using: &random) else { return }
            broker.release(receipt.key, now: now)
            model.release(token: receipt.token)
        case 82..<85:
            guard let (number, waiter) = log.waiters.min(by: { $0.key < $1.key }) else { return }
            log.waiters[number] = nil
            broker.cancel(waiter)
            model.cancel(number)
        case 85 where random.oneIn(10):
            broker.completeAllWaiters(now: now)
            model.completeAllWaiters()
        default:
            try advance(on: broker)
        }
        try expect(log.completions, model.completions, "completions")
        log.completions = []
        model.completions = []
    }

    /// Compares what is ready, what exists and what is due.
    func compare(with broker: isolated Broker) throws {
        broker.checkInvariants()
        for queue in 0..<trial.queues {
            try expect(broker.peek("\(queue)", now: model.now), model.ready[queue], "ready in \(queue)")
        }
        try expect(broker.counts.waiters, model.waiters.count, "waiters")
        if let deadline = model.nextDeadline {
            guard let next = broker.nextDeadline, next <= max(deadline, model.now) else {
                throw Trial.Mismatch(description: "next deadline \(broker.nextDeadline ?? -1), not by \(deadline)")
            }
        }
    }

    // MARK: Operations

    private mutating func passTime(on broker: isolated Broker) throws {
        var time = model.now
        switch random.below(100) {
        case 0..<60: break
        case 60..<97: time += Int64(random.below(4))
        case 97..<98: time += random.anyLength(bits: random.oneIn(10) ? 34 : 14)
        default: time = max(time, broker.nextDeadline ?? time)
        }
        model.proceed(to: time)
    }

    private mutating func take(on broker: isolated Broker) throws {
        let (names, lease, now) = (someQueues(), someLease(), model.now)
        let indexes = try indexes(names, broker)
        var taken: [TaskHandle?] = []
        let answer = broker.take(indexes, leaseMilliseconds: lease, now: now, into: &taken)
        let expected = model.take(names, lease: lease)
        try expect(answer ? log.show(taken, broker) : nil, expected, "take")
        guard !answer && model.waiters.count < trial.waiters else { return }
        lastWaiter += 1
        let (number, log, deadline) = (lastWaiter, log, now + someTime())
        log.waiters[number] = broker.wait(
            indexes, leaseMilliseconds: lease, deadline: deadline, now: now
        ) { taken in
            log.waiters[number] = nil
            log.completions.append(Model.Completion(waiter: number, taken: log.show(taken, broker)))
        }
        model.wait(Model.Waiter(number: number, queues: names, lease: lease, deadline: deadline))
    }

    private mutating func advance(on broker: isolated Broker) throws {
        var isDone = false
        let slices = random.oneIn(4) ? 1 : Int.max
        let limit = random.oneIn(2) ? 1 + random.below(4) : 2000
        var slice = 0
        while slice < slices && !isDone {
            isDone = broker.advance(to: model.now, limit: limit)
            slice += 1
            // The broker may choose how far a slice goes. But it must process the timers that are due first, and the
            // slice is one event for the waiters.
            model.beginEvent()
            while let (event, time) = model.nextEvent, time <= model.now, try isDone || hasHappened(event, on: broker) {
                model.happen(event)
            }
            model.endEvent()
        }
        guard isDone else { return }
        try expect(broker.nextDeadline ?? .max > model.now, true, "nothing is due after all was done")
        try expect(broker.names.sorted(), model.queuesWithTasks.map { "\($0)" }.sorted(), "names")
        try expect(broker.counts.tasks, model.tasks.count, "tasks")
        try expect(broker.counts.ready, model.ready.reduce(0) { $0 + $1.count }, "ready tasks")
    }

    private func hasHappened(_ event: Model.Event, on broker: isolated Broker) throws -> Bool {
        switch event {
        case .leaseOver(let task, let queue), .pauseOver(let task, let queue):
            let wasTaken = log.completions.contains { $0.taken.contains { $0?.number == task } }
            let isReady = try broker.peek("\(queue)", now: model.now).contains(task)
            // For a pause, this says that it has begun.
            let pauses = try event.isLease && broker.peek("\(queue)", .delayed, now: model.now).contains(task)
            let isDead = try broker.peek("\(queue)", .dead, now: model.now).contains(task)
            return wasTaken || isReady || pauses || isDead
        case .waitOver(let waiter):
            return log.completions.contains { $0.waiter == waiter }
        }
    }

    // MARK: Parts

    private func id(_ number: UInt64) -> UID {
        // The ids of many tasks share their low halves, which makes hash collisions.
        UID(high: number, low: number % 8)
    }

    private mutating func someTime() -> Int64 {
        random.oneIn(20) ? random.anyLength(bits: 40) : Int64(random.below(40))
    }

    private mutating func someLease() -> Int64? {
        random.oneIn(4) ? 1 + someTime() : nil
    }

    private mutating func someQueues() -> [Int] {
        let count = random.oneIn(2) ? 1 : 1 + random.below(4)
        return (0..<count).map { _ in random.below(trial.queues) }
    }

    /// Usually a task that is dispatched now, named by its id or by one of its receipts, valid or not.
    private mutating func someReference() -> (number: UInt64, token: UInt64?) {
        if random.oneIn(3), let receipt = log.receipts.randomElement(using: &random) {
            return (receipt.number, random.oneIn(8) ? receipt.token + 1 : receipt.token)
        }
        guard let task = model.tasks.randomElement(using: &random) else { return (lastTask, nil) }
        return (task.number, random.oneIn(2) ? nil : task.token)
    }

    private func indexes(_ names: [Int], _ broker: isolated Broker) throws -> [QueueIndex] {
        try names.map { try broker.queue("\($0)") }
    }

    private func expect<Value: Equatable>(_ value: Value, _ expected: Value, _ what: String) throws {
        if value != expected {
            throw Trial.Mismatch(description: "\(what): got \(value), expected \(expected)")
        }
    }
}
