// Push in virtual time: a broker and its delivery. The test handles their requests.

import Queues
import Support
import Testing
import UID

@testable import Delivery
@testable import Net

func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

/// A broker, its delivery, and a clock that the test controls.
final class World {
    /// Options for the contents of dead-letter notifications.
    final class Notifications {
        /// The number of spaces behind the text.
        var paddingByteCount = 0
    }

    let sender = Postbox()
    let notifications = Notifications()
    let delivery: Delivery
    var now: Int64
    var lastTask: UInt64 = 0
    /// The tasks that the delivery has added.
    let made = Made()

    final class Made {
        var count: UInt64 = 0
    }

    /// A world without tasks. `couriers` has the courier of each queue, by its name; if it is nil, all queues have
    /// emq's own courier.
    init(now: Int64, couriers: [String: any Courier]?, on broker: isolated Broker) {
        self.now = now
        let made = made
        let own = OwnCourier { [notifications] task in
            Array("task \(task.id.low)".utf8)
                + Array(repeating: UInt8(ascii: " "), count: notifications.paddingByteCount)
        }
        delivery = Delivery(
            sender: sender, on: broker,
            makeID: { _ in
                made.count += 1
                // These ids differ from those of the tests.
                return UID(high: 1 << 32 + made.count, low: 1 << 32 + made.count)
            },
            courier: { name in couriers.map { $0[text(name)] } ?? own })
    }

    @discardableResult
    func add(
        _ queue: String, content: String = "1", request: String = "", retries: UInt32? = nil, keep: Int64? = nil,
        backoff: Int64? = nil, expiry: Int64? = nil, _ broker: isolated Broker
    ) throws -> UID {
        lastTask += 1
        let options = TaskOptions()
        options.request = Array(request.utf8)
        if let retries { options.retryLimit = .limited(retries) }
        options.keepMilliseconds = keep
        options.backoff = backoff.map { Backoff(minimumMilliseconds: $0, maximumDoublings: 0) }
        let bytes = Array(content.utf8)
        let task = NewTask(
            id: UID(high: lastTask, low: lastTask), content: 0..<bytes.count,
            expiry: expiry.map { .after(milliseconds: $0) } ?? .unsaid, options: options)
        return try broker.enqueue(
            task, content: bytes.span, in: try broker.queue(named: Array(queue.utf8).span), now: now
        ).id
    }

    func push(
        _ queue: String, _ json: String, retries: UInt32? = nil, length: Int? = nil, isExpiryDeath: Bool = false,
        _ broker: isolated Broker
    ) throws {
        var configuration = QueueConfiguration()
        configuration.push = Array(json.utf8)
        configuration.isPushed = json.contains("\"url\"")
        configuration.maximumRetries = retries
        configuration.maximumLength = length
        configuration.isExpiryDeath = isExpiryDeath
        try broker.configure(try broker.queue(named: Array(queue.utf8).span), configuration)
    }

    /// Runs turns until nothing is left to do at this time.
    func turn(_ broker: isolated Broker) {
        repeat {
            while !broker.advance(to: now) {}
            delivery.beginTurn(on: broker, now: now)
        } while delivery.endTurn(on: broker, now: now) == now
    }

    /// Moves the clock from deadline to deadline until the condition holds.
    func advance(_ broker: isolated Broker, to end: Int64 = .max, until isDone: () -> Bool) {
        for _ in 0..<100_000 {
            turn(broker)
            if isDone() { return }
            let pace = delivery.endTurn(on: broker, now: now)
            guard let next = [broker.nextDeadline, pace].compactMap({ $0 }).min() else { break }
            now = min(end, max(now + 1, next))
        }
        Issue.record("the condition never held")
    }

    func answerAll(_ reply: Postbox.Reply, _ broker: isolated Broker) {
        sender.answers = sender.requests.keys.map { ($0, reply) }
        delivery.beginTurn(on: broker, now: now)
    }

    func answerAll(_ bytes: [UInt8], _ broker: isolated Broker, elapsed: Int64 = 1, bodyLimit: Int = 1 << 20) {
        answerAll(.response(bytes, bodyLimit, elapsed), broker)
    }

    func answerAll(_ text: String, _ broker: isolated Broker, elapsed: Int64 = 1) {
        answerAll(Array(text.utf8), broker, elapsed: elapsed)
    }

    func failAll(_ failure: ClientFailure, _ broker: isolated Broker) { answerAll(.failure(failure), broker) }

    func state(_ id: UID, _ broker: isolated Broker) -> TaskState? { broker.withTask(id: id, now: now) { $0.state } }

    func error(_ id: UID, _ broker: isolated Broker) -> String {
        text(broker.withTask(id: id, now: now) { $0.error } ?? [])
    }

    func result(_ id: UID, _ broker: isolated Broker) -> String {
        text(broker.withTask(id: id, now: now) { $0.result } ?? [])
    }
}

/// Runs jobs where they are enqueued: there is only one thread.
final class InlineExecutor: SerialExecutor {
    func enqueue(_ job: consuming ExecutorJob) { unsafe job.runSynchronously(on: asUnownedSerialExecutor()) }
    func isIsolatingCurrentContext() -> Bool? { true }
    func checkIsolated() {}
}

func withWorld(
    now: Int64 = 1_000_000, maximumTasks: Int = 2000, isJournaled: Bool = false, couriers: [String: any Courier]? = nil,
    _ body: @Sendable (World, isolated Broker) throws -> Void
) throws {
    let broker = Broker(executor: InlineExecutor(), firstToken: 1, now: now, maximumTasks: maximumTasks)
    nonisolated(unsafe) let couriers = couriers
    try broker.assumeIsolated { broker in
        let world = World(now: now, couriers: couriers, on: broker)
        if isJournaled {
            broker.beginRestoring()
            while !broker.finishRestoring(nextSequence: 1, now: now, graceMilliseconds: 0) {}
        }
        try body(world, broker)
    }
}
