// What tests of sources use in place of a RabbitMQ and of a disk, in virtual time.

import Net
import Queues
import Testing

@testable import AMQP
@testable import Delivery
@testable import emq

/// A connection whose messages a test gives.
final class TestConsumer: MessageConsumer {
    let settings: AMQPSettings
    /// When it was opened.
    let time: Int64
    private unowned let rabbit: TestRabbit
    private var messages: [AMQPMessage] = []
    private var lastTag: UInt64 = 0
    private var (isConsuming, readyCount): (Bool, Int?) = (false, nil)
    private var (hasEnded, failure): (Bool, AMQPFailure?) = (false, nil)
    /// Whether it goes on after `stop`.
    var hangs = false
    private(set) var acknowledgements: [UInt64] = []
    private(set) var (stopTime, interruptTime): (Int64?, Int64?) = (nil, nil)

    fileprivate init(_ settings: AMQPSettings, of rabbit: TestRabbit) {
        self.settings = settings
        self.rabbit = rabbit
        time = rabbit.now()
    }

    func takeNews() -> AMQPConsumer.News {
        defer { messages = [] }
        return AMQPConsumer.News(
            messages: messages, isConsuming: isConsuming, readyCount: readyCount, hasEnded: hasEnded, failure: failure)
    }

    func release(byteCount: Int) { settings.budget.add(-byteCount) }
    func acknowledge(through deliveryTag: UInt64) { acknowledgements.append(deliveryTag) }

    func stop() {
        stopTime = rabbit.now()
        if !hangs { end() }
    }

    func interrupt() {
        interruptTime = rabbit.now()
        end()
    }

    // MARK: For the test

    /// Says that it consumes, and how many messages are ready.
    func consume(readyCount: Int? = nil) {
        (isConsuming, self.readyCount) = (true, readyCount)
        rabbit.hasNews = true
    }

    /// Delivers a message.
    func deliver(
        _ content: String, id: String = "", priority: UInt8? = nil, expirationMilliseconds: Int64? = nil,
        requestID: String = ""
    ) {
        lastTag += 1
        let metadata = id.isEmpty ? "" : "{\"message_id\":\"\(id)\"}"
        let message = AMQPMessage(
            deliveryTag: lastTag, content: Array(content.utf8), metadata: Array(metadata.utf8),
            messageID: Array(id.utf8), priority: priority, expirationMilliseconds: expirationMilliseconds,
            requestID: Array(requestID.utf8))
        settings.budget.add(message.byteCount)
        messages.append(message)
        rabbit.hasNews = true
    }

    /// Ends the connection; with a failure unless it was to end.
    func end(_ failure: String? = nil) {
        (hasEnded, self.failure) = (true, failure.map { AMQPFailure($0) })
        rabbit.hasNews = true
    }

    /// Gives no more messages, without an end.
    func stick(_ failure: AMQPFailure) {
        self.failure = failure
        rabbit.hasNews = true
    }

    /// Ends the connection with a failure.
    func fail(_ failure: AMQPFailure) {
        end()
        self.failure = failure
    }
}

/// Stands for a RabbitMQ, and for the log of the server.
final class TestRabbit {
    private(set) var consumers: [TestConsumer] = []
    private let log = TestLog()
    /// Whether a connection wakes the loop.
    fileprivate(set) var hasNews = false
    /// Why no connection can be opened; nil if one can.
    var refusal: AMQPFailure?
    /// What happens to each connection as soon as it is opened.
    var opened: (TestConsumer) -> Void = { _ in }
    fileprivate var now: () -> Int64 {
        get { log.now }
        set { log.now = newValue }
    }

    /// The lines of the log, without their times.
    var lines: [String] { log.lines }

    fileprivate func open(_ settings: AMQPSettings) throws(AMQPFailure) -> TestConsumer {
        if let refusal { throw refusal }
        let consumer = TestConsumer(settings, of: self)
        consumers.append(consumer)
        opened(consumer)
        return consumer
    }

    fileprivate func sources(_ file: TaskqueueFile?) -> Sources {
        Sources(
            file: file, libraryFlaw: { nil },
            connections: { (settings, _) throws(AMQPFailure) in try self.open(settings) },
            log: log.log)
    }

    fileprivate func takeNews() -> Bool {
        defer { hasNews = false }
        return hasNews
    }
}

/// A home of tasks whose changes become safe when the test says so.
final class TestDurability: Durability {
    let location = "a test"
    var isReady = true
    let progressText = "recovering: 40 % of the journal is read"
    let hasProblem = false
    let pendingByteCount = 0
    var problem: Problem { Problem(.recovering, "this home is always ready") }
    /// The frames up to this one are safe.
    var safeSequence: UInt64 = 0
    /// The last frame.
    private(set) var writtenSequence: UInt64 = 0
    /// Why there is no space; nil if there is.
    var shortage: Problem?
    var problemText: String? { shortage?.detail }

    func beginTurn(_ server: HTTPServer, on broker: isolated Broker, now: Int64) -> Bool { true }

    func endTurn(_ server: HTTPServer, on broker: isolated Broker, now: Int64, isLast: Bool) -> Int64? {
        broker.writeChanges { writtenSequence = $1 }
        return nil
    }

    func isSettled(_ broker: isolated Broker) -> Bool {
        broker.pendingChangeBytes == 0 && safeSequence >= writtenSequence
    }

    func isBusy(_ broker: isolated Broker) -> Bool { false }

    func admit(_ byteCount: Int, usesReserve: Bool, isSparing: Bool, on broker: isolated Broker) throws(Problem) {
        if let shortage { throw shortage }
    }

    func hasSpace(for byteCount: Int, on broker: isolated Broker) -> Bool { true }
    var metrics: DurabilityMetrics { DurabilityMetrics(hasProblem: shortage != nil) }
    func writeHealth(to responses: inout ResponseStream) {}
    func writeStatistics(of broker: isolated Broker, to responses: inout ResponseStream) {}
}

/// A server in virtual time with sources, of which the test opens, feeds and ends the connections.
final class SourceWorld {
    static let definition = #""amqp": "amqp://ann:secret@h", "queue": "jobs", "into": "q""#

    let rabbit = TestRabbit()
    let server: VirtualServer
    private let sources: Sources

    init(
        _ ini: String? = nil, isPushing: Bool = false, durability: TestDurability? = nil,
        maximumMemoryBytes: Int = 1 << 30
    ) throws {
        let file = try ini.map { try TaskqueueFile($0, path: "t.ini") }
        sources = rabbit.sources(file)
        server = try VirtualServer(
            Adapters(taskqueue: file.map { Taskqueue($0) }), sources: sources,
            destinations: file == nil || isPushing ? try DestinationPolicy(["loopback"]) : nil, durability: durability,
            maximumMemoryBytes: maximumMemoryBytes, drainMilliseconds: 25_000)
        let (server, rabbit) = (server, rabbit)
        rabbit.now = { [unowned server] in server.now }
        server.wakes = { [unowned rabbit] in rabbit.takeNews() }
    }

    /// A world with the source `s`, which consumes, and its connection.
    static func consuming(
        _ more: String = "", durability: TestDurability? = nil, maximumMemoryBytes: Int = 1 << 30
    ) throws -> (SourceWorld, TestConsumer) {
        let world = try SourceWorld(durability: durability, maximumMemoryBytes: maximumMemoryBytes)
        try world.put(more)
        let consumer = try #require(world.rabbit.consumers.first)
        consumer.consume()
        world.turn()
        return (world, consumer)
    }

    func turn() { server.turn() }
    func advance(_ seconds: Double) { server.advance(seconds: seconds) }

    @discardableResult
    func send(_ method: String, _ target: String, _ body: String = "") throws -> Response {
        let response = try server.send(method, target, body, service: 0)
        #expect(response.status < 300, "\(method) \(target): \(response.body)")
        return response
    }

    /// Defines the source `s`, with more members than the usual ones.
    func put(_ more: String = "") throws { try send("PUT", "/source/s", "{\(Self.definition)\(more)}") }

    func status(_ name: String = "s") throws -> [String: Any] { try send("GET", "/source/\(name)").object }
    func state(_ name: String = "s") throws -> String? { try status(name)["state"] as? String }
    func lastError() throws -> String? { try status()["last_error"] as? String }

    /// The tasks of a queue.
    func tasks(_ queue: String = "q", _ state: String = "ready") throws -> [[String: Any]] {
        try send("GET", "/peek/\(queue)?n=1000&state=\(state)").tasks.compactMap { $0 }
    }

    /// The tasks of a queue with all that can be shown of them.
    func details(_ queue: String = "q", _ state: String = "ready") throws -> [[String: Any]] {
        try tasks(queue, state).map { try send("GET", "/task/\($0["id"] ?? "")").object }
    }

    /// The contents of a queue's ready tasks, which are numbers.
    func numbers(_ queue: String = "q") throws -> [Int] { try tasks(queue).compactMap { $0["content"] as? Int } }

    /// The memory of messages that wait to be stored.
    var waitingByteCount: Int { sources.waitingByteCount }

    /// Lines of the log that contain a text.
    func lines(with text: String) -> [String] { rabbit.lines.filter { $0.contains(text) } }
}
