// One source at work: when it connects, and how its messages become tasks.

import AMQP
import Bytes
import Queues

/// How much all sources may still store in a turn of the loop.
struct TurnBudget {
    var messages = 500
    var bytes = 4 << 20
}

/// A source at work. It belongs to the broker's thread.
final class Source {
    /// The first pause before it connects again, and the longest.
    private static let pauseMilliseconds: ClosedRange<Int64> = 1000...30_000
    /// A connection that has consumed for this long was good: the pauses begin anew.
    private static let goodMilliseconds: Int64 = 30_000
    /// For how long messages wait for room before the connection is closed and they go back. RabbitMQ itself closes it
    /// when a message is not acknowledged for half an hour, and may allow only some returns of a message.
    private static let patienceMilliseconds: Int64 = 600_000
    /// How often it looks whether there is room again, with and without a connection.
    private static let lookMilliseconds: Int64 = 100
    private static let lookWithoutConnectionMilliseconds: Int64 = 1000
    /// The room that it needs to connect, in bytes.
    private static let usualMessageByteCount = 4096

    /// Why nothing can be stored.
    private struct Obstacle {
        let since: Int64
        let reason: String
        /// The queue that takes nothing, if that is not the source's own.
        let queueName: [UInt8]?
    }

    let name: [UInt8]
    private(set) var definition: SourceDefinition
    private let connections: SourceConnections

    private var connection: SourceConnection?
    private var obstacle: Obstacle?
    private var failureCount = 0
    /// When it connects, and not before.
    private var connectTime = Int64.min
    /// Whether it has failed for good, until an operator says something.
    private var isStopped = false
    private var (messageCount, duplicateCount): (UInt64, UInt64) = (0, 0)
    private var lastError: (text: String, time: Int64)?
    /// Whether the log has been told that the connection consumes.
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
        } else if isStopped {
            status.state = .stopped
        } else if obstacle != nil {
            status.state = .waiting
        } else if connection?.consumingSince != nil {
            status.state = .consuming
        } else {
            status.state = failureCount > 0 ? .retrying : .connecting
        }
        status.lag = connection?.readyCount
        status.unacknowledged = connection?.unacknowledgedCount ?? 0
        status.messages = messageCount
        status.duplicates = duplicateCount
        status.lastError = obstacle?.reason ?? lastError?.text
        status.lastErrorTime = obstacle?.since ?? lastError?.time
        return status
    }

    // MARK: Changing

    /// Works by another definition from now on. If it has failed, it tries again at once.
    func update(_ definition: SourceDefinition) {
        let before = self.definition
        self.definition = definition
        if before.into != definition.into { obstacle = nil }
        let isSame =
            (before.url, before.queue, before.prefetch, before.isPaused)
            == (definition.url, definition.queue, definition.prefetch, definition.isPaused)
        if isSame, connection != nil { return }
        disconnect()
        (failureCount, connectTime, isStopped) = (0, .min, false)
        if !isSame { obstacle = nil }
        lastError = nil
    }

    /// Ends its connection. What is not stored goes back to RabbitMQ.
    func disconnect() {
        if let connection { connections.close(connection) }
        (connection, hasLoggedConsuming) = (nil, false)
    }

    /// Whether it has no connection.
    var isDisconnected: Bool { connection == nil }

    // MARK: Turns

    /// Takes messages from the connection, and stores as many as there is room for.
    ///
    /// - Returns: when the next turn must begin at the latest; nil for no such time.
    func turn(_ context: inout Context, _ budget: inout TurnBudget, on broker: isolated Broker) -> Int64? {
        let now = context.now
        if definition.isPaused || isStopped { return nil }
        if context.isStopping {
            disconnect()
            return nil
        }
        guard let connection else {
            // Its end is news.
            if connections.isEnding(name) { return nil }
            if now >= connectTime { connect(context, on: broker) }
            return self.connection?.beginDeadline ?? connectTime
        }
        connection.update(now: now)
        logBeginning(of: connection)
        if connection.hasEnded {
            if let since = connection.consumingSince, now - since >= Self.goodMilliseconds { failureCount = 0 }
            // Its messages have gone back, so nothing waits.
            (self.connection, obstacle, hasLoggedConsuming) = (nil, nil, false)
            if let failure = connection.failure { fail(failure, now: now) }
            return connectTime
        }
        if let deadline = connection.beginDeadline {
            if now < deadline { return deadline }
            disconnect()
            fail(connection.lateFailure, now: now)
            return connectTime
        }
        let safeSequence = context.gate.durability?.safeSequence ?? .max
        connection.acknowledge(upTo: safeSequence)
        store(from: connection, &context, &budget, on: broker)
        connection.acknowledge(upTo: safeSequence)
        if let failure = connection.failure, connection.next == nil || obstacle != nil {
            // What came before the message at fault is acknowledged.
            disconnect()
            fail(failure, now: now)
            return connectTime
        }
        guard let obstacle else { return connection.next == nil ? nil : now }
        guard now - obstacle.since >= Self.patienceMilliseconds else { return now + Self.lookMilliseconds }
        log(
            .warning(
                "closed the connection, so its messages went back to RabbitMQ, because nothing can be stored",
                .text("reason", obstacle.reason)))
        disconnect()
        connectTime = now + Self.lookWithoutConnectionMilliseconds
        return connectTime
    }

    private func connect(_ context: borrowing Context, on broker: isolated Broker) {
        let now = context.now
        do throws(Problem) {
            if let queueName = obstacle?.queueName { try checkQueue(queueName, on: broker) }
            try checkRoom(context, memoryBytes: Self.usualMessageByteCount, on: broker)
            obstacle = nil
        } catch {
            meet(error, in: obstacle?.queueName, now: now)
            connectTime = now + Self.lookWithoutConnectionMilliseconds
            return
        }
        do throws(AMQPFailure) { connection = try connections.open(name, definition) } catch { fail(error, now: now) }
    }

    /// Notes why nothing can be stored.
    private func meet(_ problem: Problem, in queueName: [UInt8]?, now: Int64) {
        let reason = problem.awaitsSpace ? "the journal is making room" : problem.detail
        obstacle = Obstacle(since: obstacle?.since ?? now, reason: reason, queueName: queueName)
    }

    private func logBeginning(of connection: SourceConnection) {
        guard connection.consumingSince != nil, !hasLoggedConsuming else { return }
        var event = LogEvent.info(
            "consuming", .text("amqp", definition.url.masked), .text("amqp_queue", definition.queue))
        if let count = connection.readyCount { event.fields.append(.number("messages", count)) }
        log(event)
        hasLoggedConsuming = true
    }

    /// Notes a failure, and decides when to connect again.
    private func fail(_ failure: AMQPFailure, now: Int64) {
        let longest = Self.pauseMilliseconds.upperBound
        let pause = min(longest, Self.pauseMilliseconds.lowerBound << min(failureCount, 10))
        let jitter = Int64.random(in: -pause / 10...pause / 10)
        failureCount += 1
        connectTime = now + min(pause + jitter, longest)
        isStopped = failure.isFinal
        lastError = (failure.description, now)
        let next =
            isStopped ? "stopped: POST /source/NAME/resume starts it again" : "trying again, after up to 30 s"
        log(isStopped ? .error("\(failure); \(next)") : .warning("\(failure); \(next)"))
    }

    private func log(_ event: LogEvent) {
        var event = event
        event.fields.insert(.text("source", name), at: 0)
        connections.log.write(event.about("source \(String(decoding: name, as: UTF8.self))"))
    }

    // MARK: Storing

    /// Stores messages until there is no room, or the turn has done enough.
    private func store(
        from connection: SourceConnection, _ context: inout Context, _ budget: inout TurnBudget,
        on broker: isolated Broker
    ) {
        var (count, byteCount, lastTag): (UInt64, Int, UInt64?) = (0, 0, nil)
        // Waiting workers get the tasks when all of them are there.
        broker.beginEvent()
        while budget.messages > 0, budget.bytes > 0, let message = connection.next {
            var queueName = definition.into
            do throws(Problem) { try store(message, in: &queueName, &context, on: broker) } catch {
                meet(error, in: queueName == definition.into ? nil : queueName, now: context.now)
                break
            }
            obstacle = nil
            connection.removeNext()
            count += 1
            byteCount += message.byteCount
            budget.messages -= 1
            budget.bytes -= message.byteCount
            lastTag = message.deliveryTag
        }
        broker.endEvent(now: context.now)
        guard let lastTag else { return }
        messageCount += count
        connection.noteStored(through: lastTag, sequence: broker.changeSequence, byteCount: byteCount)
    }

    /// Adds a message as a task, unless its `message_id` is taken.
    ///
    /// - Parameters:
    ///   - message: the message.
    ///   - queueName: the source's queue; receives the name of another one if the message is for that.
    ///   - context: the context.
    ///   - broker: the broker.
    /// - Throws: `Problem` if there is no room now.
    private func store(
        _ message: AMQPMessage, in queueName: inout [UInt8], _ context: inout Context, on broker: isolated Broker
    ) throws(Problem) {
        try checkRoom(context, journalBytes: message.byteCount, on: broker)
        var task = NewTask(id: context.makeID(), content: 0..<message.content.count)
        task.priority = message.priority.map { Int8(clamping: $0) }
        if let lifetime = message.expirationMilliseconds {
            task.expiry = .after(milliseconds: min(lifetime, maximumMilliseconds))
        }
        let hasKey =
            definition.uniqueForMilliseconds > 0 && 1...TaskKey.maximumByteCount ~= message.messageID.count
        let trace = TraceContext(requestID: message.requestID.span, traceparent: message.traceparent.span)
        if hasKey || !message.metadata.isEmpty || !trace.isEmpty {
            let options = TaskOptions()
            options.metadata = message.metadata
            options.trace = trace
            if hasKey {
                options.key = message.messageID
                options.uniqueForMilliseconds = definition.uniqueForMilliseconds
            }
            task.options = options
        }
        if let taskqueue = context.adapters.taskqueue, taskqueue.owns(queueName.span),
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

    /// Checks that a message can be stored. Its own memory counts already: it is in the budget of all sources.
    ///
    /// - Throws: `Problem` if its queue is paused, full or a legacy system's, or memory or disk are short.
    private func checkRoom(
        _ context: borrowing Context, memoryBytes: Int = 0, journalBytes: Int = 0, on broker: isolated Broker
    ) throws(Problem) {
        let queueName = definition.into
        if !context.adapters.isEmpty { try context.adapters.checkEnqueue(in: queueName.span) }
        try checkQueue(queueName, on: broker)
        try context.gate.admit(
            .grows(Cost.taskBytes + Cost.extrasBytes), keptBytes: memoryBytes, writtenBytes: journalBytes, on: broker)
    }

    private func checkQueue(_ queueName: [UInt8], on broker: isolated Broker) throws(Problem) {
        guard let queue = broker.existingQueue(named: queueName.span) else { return }
        // The source shows only the details.
        if broker.isPaused(queue) { throw Problem(.queueFull, "queue '\(text(queueName.span))' is paused") }
        if broker.isFull(queue) { throw Problem(.queueFull, "queue '\(text(queueName.span))' is full (max_length)") }
    }
}
