// One source at work: its connection, the messages that wait to be stored, and those that wait to be acknowledged.

import AMQP
import Bytes
import Queues

/// A source at work. It belongs to the broker's thread.
final class Source {
    /// The first pause before it connects again, and the longest.
    private static let pauseMilliseconds: ClosedRange<Int64> = 1000...30_000
    /// A connection that has consumed for this long was good: the pauses begin anew.
    private static let goodMilliseconds: Int64 = 30_000
    /// For how long messages wait for room before the connection is closed and they go back. RabbitMQ itself closes it
    /// when a message is not acknowledged for half an hour.
    private static let patienceMilliseconds: Int64 = 60_000
    /// How often it looks whether there is room again.
    private static let lookMilliseconds: Int64 = 100
    private static let lookWithoutConnectionMilliseconds: Int64 = 1000
    /// How often the same failure is logged.
    private static let repeatMilliseconds: Int64 = 60_000
    /// How many messages and bytes are stored in one turn.
    private static let messagesPerTurn = 500
    private static let bytesPerTurn = 4 << 20
    /// The most that the room for a message must have before it connects, in bytes.
    private static let usualMessageByteCount = 4096

    let name: [UInt8]
    private var nameText: String { String(decoding: name, as: UTF8.self) }
    private(set) var definition: SourceDefinition
    private let connections: SourceConnections

    private var consumer: (any MessageConsumer)?
    private var isConsuming = false
    private var consumingSince: Int64 = 0
    /// The messages that are not stored yet, from `nextWaiting` on; those before are nil, so that they take no memory.
    private var waiting: [AMQPMessage?] = []
    private var nextWaiting = 0
    /// The tags of deliveries that are stored, and the frames that must be safe before they are acknowledged.
    private var stored: ArraySlice<(tag: UInt64, sequence: UInt64)> = []
    /// The tags of the deliveries that were received and acknowledged last.
    private var (receivedTag, acknowledgedTag): (UInt64, UInt64) = (0, 0)
    private var failureCount = 0
    /// When it connects, and not before.
    private var connectTime = Int64.min
    /// Since when and why nothing can be stored; nil if something can.
    private var block: (since: Int64, reason: String)?
    /// Whether the connection is closed because nothing can be stored.
    private var isResting = false
    private var (lag, messageCount, duplicateCount): (Int?, UInt64, UInt64) = (nil, 0, 0)
    private var lastError: (text: String, time: Int64)?
    /// The failure that was logged last, and when it may be logged again.
    private var logged: (text: String, until: Int64)?
    /// Whether the last line of the log is that it consumes, so that this is said once after each failure that is said.
    private var hasLoggedConsuming = false

    init(name: [UInt8], definition: SourceDefinition, connections: SourceConnections) {
        self.name = name
        self.definition = definition
        self.connections = connections
    }

    var status: SourceStatus {
        var status = SourceStatus()
        if definition.isPaused {
            status.state = .paused
        } else if block != nil || isResting {
            status.state = .waiting
        } else if isConsuming {
            status.state = .consuming
        } else {
            status.state = failureCount > 0 ? .retrying : .connecting
        }
        status.lag = lag
        status.unacknowledged = Int(receivedTag - acknowledgedTag)
        status.messages = messageCount
        status.duplicates = duplicateCount
        status.lastError = block?.reason ?? lastError?.text
        status.lastErrorTime = block?.since ?? lastError?.time
        return status
    }

    /// The memory of messages that are not stored yet, in bytes.
    private(set) var waitingByteCount = 0

    // MARK: Changing

    /// Works by another definition from now on.
    func update(_ definition: SourceDefinition) {
        let before = self.definition
        self.definition = definition
        if before.into != definition.into { block = nil }
        let isSame =
            (before.url, before.queue, before.prefetch) == (definition.url, definition.queue, definition.prefetch)
        if isSame, before.isPaused == definition.isPaused { return }
        disconnect()
        (failureCount, connectTime, isResting) = (0, .min, false)
        (lastError, logged, hasLoggedConsuming) = (nil, nil, false)
        if !isSame { lag = nil }
    }

    /// Ends its connection. What it has not acknowledged goes back to RabbitMQ.
    func disconnect() {
        if let consumer { connections.close(consumer) }
        forgetConnection()
    }

    private func forgetConnection() {
        (consumer, isConsuming, waiting, nextWaiting, waitingByteCount, block) = (nil, false, [], 0, 0, nil)
        (stored, receivedTag, acknowledgedTag) = ([], 0, 0)
    }

    /// Whether it has no connection.
    var isDisconnected: Bool { consumer == nil }

    // MARK: Turns

    /// Takes messages from the connection, and stores as many as there is room for.
    ///
    /// - Returns: when the next turn must begin at the latest; nil for no such time.
    func turn(_ context: inout Context, on broker: isolated Broker) -> Int64? {
        let now = context.now
        if definition.isPaused { return nil }
        guard consumer != nil else {
            if context.isStopping { return nil }
            if now >= connectTime { connect(context, on: broker, now: now) }
            return consumer == nil ? connectTime : nil
        }
        takeNews(now: now)
        acknowledge(upTo: context.gate.durability?.safeSequence ?? .max)
        if context.isStopping {
            if stored.isEmpty { disconnect() }
            return nil
        }
        if consumer == nil { return connectTime }
        let isComplete = store(&context, on: broker)
        guard let block else { return isComplete ? nil : now }
        guard now - block.since < Self.patienceMilliseconds else {
            log(
                "closed the connection, and its messages went back to RabbitMQ, because of a lack of room: \(block.reason)"
            )
            disconnect()
            (isResting, self.block) = (true, block)
            connectTime = now + Self.lookWithoutConnectionMilliseconds
            return connectTime
        }
        return now + Self.lookMilliseconds
    }

    private func connect(_ context: borrowing Context, on broker: isolated Broker, now: Int64) {
        if isResting {
            do throws(Problem) {
                try checkRoom(Self.usualMessageByteCount, context, on: broker)
            } catch {
                connectTime = now + Self.lookWithoutConnectionMilliseconds
                return
            }
            (isResting, block) = (false, nil)
        }
        // A quarter of the memory may be under way, in the message that is arriving and in those that wait.
        let byteCount = context.gate.maximumMemoryBytes / 4
        let settings = AMQPSettings(
            url: definition.url, queue: definition.queue, prefetch: UInt16(clamping: definition.prefetch),
            declaresQueue: definition.isOfTaskqueue, name: "emq source \(nameText)",
            maximumBodyByteCount: min(128 << 20, byteCount), maximumHeldByteCount: min(16 << 20, byteCount))
        do throws(AMQPFailure) { consumer = try connections.open(settings, for: definition) } catch {
            fail(error, now: now)
        }
    }

    private func takeNews(now: Int64) {
        guard let news = consumer?.takeNews() else { return }
        if let last = news.messages.last {
            waiting.removeFirst(nextWaiting)
            nextWaiting = 0
            waiting += news.messages
            waitingByteCount += news.messages.reduce(0) { $0 + $1.byteCount }
            receivedTag = last.deliveryTag
        }
        lag = news.readyCount ?? lag
        if news.isConsuming, !isConsuming {
            (isConsuming, consumingSince) = (true, now)
            if !hasLoggedConsuming {
                let count = lag.map { $0 == 1 ? "; 1 message is there" : "; \($0) messages are there" } ?? ""
                let queue = text(definition.queue.span)
                log("consuming queue '\(queue)' at \(definition.url.masked)\(count)")
                hasLoggedConsuming = true
            }
        }
        guard news.hasEnded else { return }
        if isConsuming, now - consumingSince >= Self.goodMilliseconds { failureCount = 0 }
        forgetConnection()
        fail(news.failure ?? AMQPFailure("the connection has ended"), now: now)
    }

    /// Notes a failure, and decides when to connect again.
    private func fail(_ failure: AMQPFailure, now: Int64) {
        let pause = min(Self.pauseMilliseconds.upperBound, Self.pauseMilliseconds.lowerBound << min(failureCount, 10))
        let jitter = Int64.random(in: -pause / 10...pause / 10)
        failureCount += 1
        connectTime = now + min(pause + jitter, Self.pauseMilliseconds.upperBound)
        lastError = (failure.description, now)
        if let logged, logged.text == failure.description, now < logged.until { return }
        logged = (failure.description, now + Self.repeatMilliseconds)
        log("\(failure); trying again, after up to 30 s")
    }

    private func acknowledge(upTo safeSequence: UInt64) {
        var tag: UInt64?
        while let first = stored.first, first.sequence <= safeSequence {
            tag = first.tag
            stored.removeFirst()
        }
        guard let tag else { return }
        acknowledgedTag = tag
        consumer?.acknowledge(through: tag)
    }

    private func log(_ line: String) {
        hasLoggedConsuming = false
        connections.log("emq: source '\(nameText)': \(line)")
    }

    // MARK: Storing

    /// Stores messages until there is no room, or the turn has done enough.
    ///
    /// - Returns: whether none is left.
    private func store(_ context: inout Context, on broker: isolated Broker) -> Bool {
        var (count, byteCount, lastTag): (Int, Int, UInt64?) = (0, 0, nil)
        // Waiting workers get the tasks when all of them are there.
        broker.beginEvent()
        while count < Self.messagesPerTurn, byteCount < Self.bytesPerTurn, nextWaiting < waiting.count,
            let message = waiting[nextWaiting]
        {
            do throws(Problem) { try store(message, &context, on: broker) } catch {
                let reason = error.awaitsSpace ? "the journal is making room" : error.detail
                block = (block?.since ?? context.now, reason)
                break
            }
            block = nil
            waiting[nextWaiting] = nil
            nextWaiting += 1
            count += 1
            byteCount += message.byteCount
            lastTag = message.deliveryTag
        }
        broker.endEvent(now: context.now)
        guard let lastTag else { return nextWaiting == waiting.count }
        messageCount += UInt64(count)
        waitingByteCount -= byteCount
        consumer?.noteStored(byteCount: byteCount)
        stored.append((lastTag, broker.changeSequence))
        acknowledge(upTo: context.gate.durability?.safeSequence ?? .max)
        return nextWaiting == waiting.count
    }

    /// Adds a message as a task, unless its `message_id` is taken.
    ///
    /// - Throws: `Problem` if there is no room now.
    private func store(_ message: AMQPMessage, _ context: inout Context, on broker: isolated Broker) throws(Problem) {
        try checkRoom(message.byteCount, context, on: broker)
        var task = NewTask(id: context.makeID(), content: 0..<message.content.count)
        task.priority = message.priority.map { Int8(clamping: $0) }
        if let lifetime = message.expirationMilliseconds, lifetime >= 0 {
            task.expiry = .after(milliseconds: min(lifetime, maximumMilliseconds))
        }
        let hasKey =
            definition.uniqueForMilliseconds > 0 && 1...TaskKey.maximumByteCount ~= message.messageID.count
        if hasKey || !message.metadata.isEmpty {
            let options = TaskOptions()
            options.metadata = message.metadata
            if hasKey {
                options.key = message.messageID
                options.uniqueForMilliseconds = definition.uniqueForMilliseconds
            }
            task.options = options
        }
        var queueName = definition.into
        if definition.isOfTaskqueue, let taskqueue = context.adapters.taskqueue,
            let other = taskqueue.prepare(&task, content: message.content.span, in: queueName, now: context.now)
        {
            queueName = other
            try checkQueue(queueName, on: broker)
        }
        do throws(BrokerError) {
            let queue = try broker.queue(named: queueName.span)
            let result = try broker.enqueue(task, content: message.content.span, in: queue, now: context.now)
            if result.isExisting { duplicateCount += 1 }
        } catch {
            throw Problem(error)
        }
    }

    /// Checks that a message can be stored.
    ///
    /// - Throws: `Problem` if its queue is paused or full, or memory or disk are short.
    private func checkRoom(
        _ byteCount: Int, _ context: borrowing Context, on broker: isolated Broker
    ) throws(Problem) {
        try checkQueue(definition.into, on: broker)
        try context.gate.admit(.grows(Cost.taskBytes + Cost.extrasBytes), keptBytes: byteCount, on: broker)
    }

    private func checkQueue(_ queueName: [UInt8], on broker: isolated Broker) throws(Problem) {
        guard let queue = broker.existingQueue(named: queueName.span) else { return }
        if broker.isPaused(queue) { throw Problem(409, "queue '\(text(queueName.span))' is paused") }
        if broker.isFull(queue) { throw Problem(429, "queue '\(text(queueName.span))' is full (max_length)") }
    }
}
