// Short calls for a broker, which the tests of this room share.

import Testing
import UID

@testable import Queues

/// Runs each job on the thread that enqueues it. The tests enter their brokers with `assumeIsolated`, so there is only
/// one.
final class InlineExecutor: SerialExecutor {
    func enqueue(_ job: consuming ExecutorJob) {
        unsafe job.runSynchronously(on: asUnownedSerialExecutor())
    }

    func isIsolatingCurrentContext() -> Bool? { true }
    func checkIsolated() {}
}

/// What a view showed of a task.
struct Shown: Equatable {
    var number: UInt64
    var queue: String
    var content: String
    var attempt: UInt32
    var token: UInt64
    var state: TaskState
    var lease: Int64
    var enqueued: Int64
    var dispatched: Int64?
    var leaseEnd: Int64?
    var expires: Int64

    init(_ view: borrowing TaskView) {
        number = view.id.high
        queue = text(view.queueName)
        content = text(view.content)
        attempt = view.attempt
        token = view.token
        state = view.state
        lease = view.leaseMilliseconds
        enqueued = view.enqueued
        dispatched = view.dispatched
        leaseEnd = view.leaseEnd
        expires = view.expires ?? .max
    }
}

func text(_ bytes: Span<UInt8>) -> String {
    bytes.withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
}

/// The arguments with which completions were called.
final class Ends {
    var states: [TaskState] = []
    var results: [[UInt8]] = []
}

/// Makes a broker and runs `body` in its isolation; checks its invariants afterwards.
func withBroker(
    now: Int64 = 0, firstToken: UInt64 = 1, maximumContentBytes: Int = 1 << 20, maximumTasks: Int = 1000,
    _ body: @Sendable (isolated Broker) throws -> Void
) rethrows {
    let broker = Broker(
        executor: InlineExecutor(), firstToken: firstToken, now: now, maximumContentBytes: maximumContentBytes,
        maximumTasks: maximumTasks)
    try broker.assumeIsolated { broker in
        try body(broker)
        broker.checkInvariants()
        // Completions retain their broker.
        broker.completeAllWaiters(now: now)
        broker.checkInvariants()
    }
}

/// Two brokers. The second one is restored from what the first one wrote.
func restarting(
    downMilliseconds: Int64 = 0, graceMilliseconds: Int64 = 30_000,
    before: (isolated Broker) throws -> Void, after: (isolated Broker, Int64) throws -> Void
) throws {
    nonisolated(unsafe) var frames: [(UInt64, [UInt8])] = []
    nonisolated(unsafe) let (before, after) = (before, after)
    let start: Int64 = 1_000_000
    let first = Broker(executor: InlineExecutor(), firstToken: 1, now: start)
    try first.assumeIsolated { broker in
        broker.beginSending()
        broker.beginRestoring()
        while !broker.finishRestoring(nextSequence: 1, now: start, graceMilliseconds: 0) {}
        try before(broker)
        broker.writeChanges { frames.append(($1, Array(copying: $0))) }
    }
    let now = start + downMilliseconds
    let second = Broker(executor: InlineExecutor(), firstToken: 1000, now: now)
    try second.assumeIsolated { broker in
        broker.beginSending()
        broker.beginRestoring()
        for (sequence, bytes) in frames { try broker.restore(bytes.span, sequence: sequence) }
        let next = (frames.last?.0 ?? 0) + 1
        while !broker.finishRestoring(nextSequence: next, now: now, graceMilliseconds: graceMilliseconds) {}
        broker.checkInvariants()
        while !broker.advance(to: now) {}
        try after(broker, now)
        broker.checkInvariants()
    }
}

/// A series of brokers, each restored from what the ones before it wrote.
func withLives(_ count: Int, _ body: (isolated Broker, _ life: Int) throws -> Void) throws {
    nonisolated(unsafe) var frames: [(UInt64, [UInt8])] = []
    nonisolated(unsafe) let body = body
    for life in 0..<count {
        let broker = Broker(executor: InlineExecutor(), firstToken: UInt64(1 + 100 * life), now: 0)
        try broker.assumeIsolated { broker in
            broker.beginSending()
            broker.beginRestoring()
            for (sequence, bytes) in frames { try broker.restore(bytes.span, sequence: sequence) }
            let next = (frames.last?.0 ?? 0) + 1
            while !broker.finishRestoring(nextSequence: next, now: 0, graceMilliseconds: 0) {}
            broker.checkInvariants()
            try body(broker, life)
            broker.writeChanges { frames.append(($1, Array(copying: $0))) }
            broker.checkInvariants()
        }
    }
}

extension Broker {
    func queue(_ name: String) throws -> QueueIndex {
        try queue(named: Array(name.utf8).span)
    }

    func queues(_ names: [String]) throws -> [QueueIndex] {
        try names.map { try queue($0) }
    }

    /// Adds a task whose id is made of `number`, with that number as its content.
    func add(
        _ number: UInt64, to name: String, lease: Int64 = 1000, expires: Int64 = 1_000_000, now: Int64 = 0
    ) throws {
        try enqueue(
            id: UID(high: number, low: number), in: queue(name), content: Array("\(number)".utf8).span,
            leaseMilliseconds: lease, expiry: .after(milliseconds: expires - now), now: now)
    }

    /// Takes one task for each name; nil if there are not enough.
    func take(_ names: String..., now: Int64 = 0) throws -> [Shown]? {
        var taken: [TaskHandle?] = []
        guard take(try queues(names), now: now, into: &taken) else { return nil }
        return taken.compactMap { $0 }.map(show)
    }

    func takeAvailable(_ names: String..., now: Int64 = 0) throws -> [UInt64?] {
        var taken: [TaskHandle?] = []
        takeAvailable(try queues(names), now: now, into: &taken)
        return taken.map { $0.map { show($0).number } }
    }

    func show(_ handle: TaskHandle) -> Shown {
        withTask(handle) { Shown($0) }
    }

    func peek(_ name: String, limit: Int = 1000, now: Int64 = 0) throws -> [UInt64] {
        var numbers: [UInt64] = []
        peek(try queue(name), limit: limit, now: now) { numbers.append($0.id.high) }
        return numbers
    }

    /// Adds a task with options, whose content is its number.
    @discardableResult
    func add(
        _ number: UInt64, to name: String, lease: Int64? = 1000, due: Int64? = nil, expiry: Expiry = .unsaid,
        priority: Int8? = nil, now: Int64 = 0, _ says: (TaskOptions) -> Void
    ) throws -> Enqueued {
        let options = TaskOptions()
        says(options)
        let content = Array("\(number)".utf8)
        return try enqueue(
            NewTask(
                id: UID(high: number, low: number), content: 0..<content.count, leaseMilliseconds: lease, due: due,
                expiry: expiry, priority: priority, options: options), content: content.span, in: queue(name), now: now)
    }

    func nak(_ number: UInt64, _ action: NakAction, error: String = "", now: Int64 = 0) -> NakOutcome {
        nak(TaskReference(id: UID(high: number, low: number)), action, error: Array(error.utf8).span, now: now)
    }

    func configure(_ name: String, _ change: (inout QueueConfiguration) -> Void) throws {
        var configuration = QueueConfiguration()
        change(&configuration)
        try configure(try queue(name), configuration)
    }

    /// Where a task is; nil if no view shows it.
    func state(_ number: UInt64, now: Int64 = 0) -> TaskState? {
        withTask(id: UID(high: number, low: number), now: now) { $0.state }
    }

    func cancelTask(_ number: UInt64, now: Int64 = 0) -> Bool {
        cancelTask(UID(high: number, low: number), now: now)
    }

    func kick(_ number: UInt64, toOrigin: Bool = false, now: Int64 = 0) -> Bool {
        kick(UID(high: number, low: number), toOrigin: toOrigin, now: now)
    }

    /// Moves one task.
    func move(_ number: UInt64, to name: String, now: Int64 = 0) throws -> Bool {
        move(UID(high: number, low: number), to: try queue(name), now: now)
    }

    /// The unfinished tasks of a queue whose keys begin with a group's name and a NUL, sorted.
    func keyGroup(_ group: [UInt8], of name: String, now: Int64 = 0) throws -> [UInt64] {
        var numbers: [UInt64] = []
        forEachTask(inKeyGroup: group, of: try queue(name), now: now) { numbers.append($0.id.high) }
        return numbers.sorted()
    }

    func peek(_ name: String, _ state: TaskState, now: Int64 = 0) throws -> [UInt64] {
        var numbers: [UInt64] = []
        peek(try queue(name), state: state, limit: 1000, now: now) { numbers.append($0.id.high) }
        return numbers
    }

    func peekBackwards(
        _ name: String, _ state: TaskState = .ready, limit: Int = 1000, now: Int64 = 0
    ) throws -> [UInt64] {
        var numbers: [UInt64] = []
        peekBackwards(try queue(name), state: state, limit: limit, now: now) { numbers.append($0.id.high) }
        return numbers
    }

    /// Takes any tasks of queues.
    func takeAny(_ names: String..., limit: Int = 1, now: Int64 = 0) throws -> [UInt64] {
        var taken: [TaskHandle?] = []
        _ = takeAny(try queues(names), limit: limit, now: now, into: &taken)
        return taken.compactMap { $0 }.map { show($0).number }
    }

    func statistics(_ name: String) throws -> QueueStatistics {
        statistics(of: try queue(name))
    }

    /// Calls `body` with each queue, its name and its statistics, sorted bytewise by name.
    func forEachQueue(_ body: (QueueIndex, Span<UInt8>, QueueStatistics) -> Void) {
        for queue in store.queuesByName(where: { !$0.isPlaceOfDefaults }) {
            let name = store.queues[queue].name
            body(QueueIndex(slot: queue), name.span, store.statistics(of: queue))
        }
    }

    var names: [String] {
        var names: [String] = []
        forEachQueueName { names.append(text($0)) }
        return names
    }

    /// The next deadline; throws if there is none.
    func deadline() throws -> Int64 {
        let deadline = nextDeadline
        return try #require(deadline)
    }

    /// Advances in as many slices as that needs.
    func advanceFully(to now: Int64, limit: Int = 2000) {
        while !advance(to: now, limit: limit) {}
    }

    func ack(_ number: UInt64, token: UInt64? = nil, now: Int64 = 0) -> Bool {
        ack(TaskReference(id: UID(high: number, low: number), token: token), now: now)
    }

    func nak(_ number: UInt64, token: UInt64? = nil, now: Int64 = 0) -> Bool {
        nak(TaskReference(id: UID(high: number, low: number), token: token), now: now)
    }
}
