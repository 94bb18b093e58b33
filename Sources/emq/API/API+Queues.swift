// Whole queues: looking at them, and operating on them.

import Delivery
import JSON
import Net
import Queues
import UID

extension API {
    /// `GET /peek/NAME`
    static func peek(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let wanted = try api.query.integer("n", .min ... .max) ?? 1
        let limit = Int(min(max(0, wanted), Int64(API.maximumTasksPerAnswer)))
        let state = try api.query.word("state", TaskState.named) ?? .ready
        let detail = try api.taskDetail()
        var after: UID?
        if let text = api.query["after"] {
            after = UID(text)
            if after == nil {
                throw Problem(
                    .invalidParameter, "after must be a task's id, not '\(text.prefix(shownBytes))'", field: "after")
            }
        }
        let filter = try api.taskFilter(now: context.now)
        var isThere = after == nil
        var writer = PeekWriter(detail: detail, isSending: context.sends(api.name.span))
        let queue = broker.existingQueue(named: api.name.span)
        if let queue, let filter {
            isThere = peek(
                queue, state, after: after, matching: filter, limit: limit, contentLimit: detail.maximumBytes, request,
                &responses, now: context.now, on: broker
            ) { writer.write($0, context, to: &$1, on: broker) }
        } else {
            responses.beginJSON(estimatedCount: 200)
            responses.append("[")
            if let queue {
                isThere = broker.peek(
                    queue, state: state, after: after, limit: limit, contentLimit: detail.maximumBytes,
                    now: context.now
                ) {
                    writer.write($0, context, to: &responses, on: broker)
                }
            }
        }
        guard isThere else {
            throw Problem(
                .pageGone, "the task in after is not \(state.name) here any more; start without after", field: "after")
        }
        if writer.isTooLarge { throw .answerTooLarge }
        responses.append("]")
        responses.endLine()
        return .answered
    }

    /// `GET /queues/`
    static func listQueues(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let page = QueuePage(of: .names, try QueuePageQuery(api.query, usualCount: nil, context.caller), of: request)
        return context.begin(page, for: &responses, on: broker)
    }

    // MARK: Statistics

    /// `GET /stats/NAME`
    static func showQueueStatistics(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let interval = try api.query.word("history", HistoryInterval.named)
        responses.beginJSON(estimatedCount: 300)
        let queue = broker.existingQueue(named: api.name.span)
        let statistics = queue.map { broker.statistics(of: $0) } ?? QueueStatistics()
        let breaker = queue.flatMap { context.gate.push?.circuitBreaker(of: $0, on: broker, now: context.now) }
        responses.append("{")
        writeMembers(statistics, breaker, of: api.name.span, now: context.now, to: &responses)
        if let interval {
            let points = broker.history(interval, of: api.name.span, now: context.now)
            write(points, interval, now: context.now, to: &responses)
        }
        responses.append("}")
        responses.endLine()
        return .answered
    }

    /// `GET /stats/`. The first page always succeeds. While too many answers are unread, it has fewer queues.
    static func showStatistics(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let query = try QueuePageQuery(api.query, usualCount: QueuePageQuery.usualStatisticsCount, context.caller)
        let page = QueuePage(of: .statistics, query, of: request)
        return context.begin(page, for: &responses, on: broker)
    }

    /// Writes the members of an object with the statistics of a queue.
    static func writeMembers(
        _ statistics: QueueStatistics, _ breaker: CircuitBreaker?, of name: Span<UInt8>, now: Int64,
        to responses: inout ResponseStream
    ) {
        responses.append("\"queue\":")
        JSONWriter.writeString(name, to: &responses)
        writeCount(",\"delayed\":", statistics.delayed, to: &responses)
        writeCount(",\"ready\":", statistics.ready, to: &responses)
        writeCount(",\"dispatched\":", statistics.dispatched, to: &responses)
        writeCount(",\"dead\":", statistics.dead, to: &responses)
        writeCount(",\"done\":", statistics.done, to: &responses)
        writeCount(",\"cancelled\":", statistics.cancelled, to: &responses)
        writeCount(",\"expired\":", statistics.expired, to: &responses)
        writeCount(",\"keys\":", statistics.keptKeys, to: &responses)
        writeCount(",\"waiters\":", statistics.waiters, to: &responses)
        responses.append(",\"oldest_ready\":")
        if let oldest = statistics.oldestReady {
            JSONWriter.writeSeconds(milliseconds: max(0, now - oldest), to: &responses)
        } else {
            responses.append("null")
        }
        responses.append(statistics.isPaused ? ",\"paused\":true" : ",\"paused\":false")
        if let since = statistics.pausedSince {
            responses.append(",\"paused_since\":")
            JSONWriter.writeSeconds(milliseconds: since, to: &responses)
        }
        if statistics.isPushed { responses.append(",\"pushed\":true") }
        if statistics.sends > 0 { writeCount(",\"sending\":", statistics.sends, to: &responses) }
        writeRates(statistics.lastMinute, to: &responses)
        if let breaker { write(breaker, now: now, to: &responses) }
        write(statistics.totals, to: &responses)
    }

    /// Writes totals as a member behind others.
    static func write(_ totals: QueueStatistics.Totals, to responses: inout ResponseStream) {
        writeCount(",\"totals\":{\"enqueued\":", totals.enqueued, to: &responses)
        writeCount(",\"received\":", totals.received, to: &responses)
        writeCount(",\"dispatched\":", totals.dispatched, to: &responses)
        writeCount(",\"acked\":", totals.acked, to: &responses)
        writeCount(",\"nacked\":", totals.nacked, to: &responses)
        writeCount(",\"timed_out\":", totals.timedOut, to: &responses)
        writeCount(",\"released\":", totals.released, to: &responses)
        writeCount(",\"expired\":", totals.expired, to: &responses)
        writeCount(",\"died\":", totals.died, to: &responses)
        writeCount(",\"cancelled\":", totals.cancelled, to: &responses)
        writeCount(",\"over_length\":", totals.overLength, to: &responses)
        writeCount(",\"notices\":", totals.notices, to: &responses)
        responses.append("}")
    }

    private static func write(_ breaker: CircuitBreaker, now: Int64, to responses: inout ResponseStream) {
        let state = breaker.state(now: now)
        let name: StaticString =
            switch state {
            case .closed: "closed"
            case .open: "open"
            case .halfOpen: "half-open"
            }
        responses.append(",\"circuit\":{\"state\":\"")
        responses.append(name)
        writeCount("\",\"failures\":", breaker.failureCount, to: &responses)
        if state == .open, let time = breaker.resumeTime {
            responses.append(",\"until\":")
            JSONWriter.writeSeconds(milliseconds: time, to: &responses)
        }
        responses.append("}")
    }

    // MARK: Pausing

    /// `POST /pause/NAME`
    static func pause(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let isNew = !broker.isQueueInUse(named: api.name.span)
        var cost = api.cost
        // An existing queue can be paused even when memory is used up.
        if !isNew { cost.memoryBytes = 0 }
        try context.gate.admit(cost, on: broker)
        broker.pause(try broker.requireQueue(named: api.name.span), now: context.now)
        // The client sees from `new` that it may have mistyped the name.
        write(isPaused: true, isNew: isNew, to: &responses)
        return .answered
    }

    /// `POST /resume/NAME`
    static func resume(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        if let queue = broker.existingQueue(named: api.name.span) { broker.resume(queue) }
        write(isPaused: false, isNew: false, to: &responses)
        return .answered
    }

    private static func write(isPaused: Bool, isNew: Bool, to responses: inout ResponseStream) {
        responses.beginJSON(estimatedCount: 15)
        responses.append(isPaused ? "{\"paused\":true" : "{\"paused\":false")
        if isNew { responses.append(",\"new\":true") }
        responses.append("}")
        responses.endLine()
    }

    // MARK: Purging, kicking, moving

    /// How many tasks a kick or a move may name.
    static let sweepCounts: ClosedRange<Int64> = 1...Int64(Int32.max)
    static let purgedStates = TaskState.named.mapValues { [$0] }.merging(["all": TaskState.allCases]) { $1 }
    static let kickedStates: [String: TaskState] = ["dead": .dead, "delayed": .delayed]
    static let kickTargets = ["origin": true]
    static let movedStates: [String: TaskState] = ["ready": .ready, "delayed": .delayed, "dead": .dead]

    /// `POST /purge/NAME`
    static func purge(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let states = try api.query.word("state", purgedStates) ?? [.ready, .delayed]
        let filter = try api.taskFilter(now: context.now)
        let queue = try broker.requireQueue(named: api.name.span)
        api.addSelection(to: &context.audit, filter)
        let completion = completion(of: request, "{\"purged\":", context, on: broker)
        do throws(BrokerError) {
            let id = try broker.purge(queue, states: states, filter: filter, now: context.now, completion: completion)
            context.audit?.addOperation(id)
        } catch {
            throw Problem(error)
        }
        return .owed(nil)
    }

    /// `POST /kick/NAME`
    static func kick(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let limit = try api.sweepLimit()
        let state = try api.query.word("state", kickedStates)
        let isToOrigin = try api.query.word("to", kickTargets) ?? false
        let filter = try api.taskFilter(now: context.now)
        if isToOrigin {
            do throws(Problem) {
                try context.caller.checkAllQueues(.manage, for: "to=origin")
                try context.checkContent(from: api.name.span, on: broker)
            } catch {
                throw error.inside("to")
            }
        }
        let queue = try broker.requireQueue(named: api.name.span)
        if isToOrigin { context.audit?.add(.text("to", "origin")) }
        api.addSelection(to: &context.audit, filter, limit: limit)
        let completion = completion(of: request, "{\"kicked\":", context, on: broker)
        do throws(BrokerError) {
            let id: UInt64
            if isToOrigin {
                let states = state.map { [$0] } ?? [.ready, .delayed, .dead]
                id = try broker.kickToOrigin(
                    queue, states: states, filter: filter, limit: limit, now: context.now, completion: completion)
            } else {
                id = try broker.kick(
                    queue, state: state ?? .dead, filter: filter, limit: limit, now: context.now,
                    completion: completion)
            }
            context.audit?.addOperation(id)
        } catch {
            throw Problem(error)
        }
        return .owed(nil)
    }

    /// `POST /kick/`
    static func kickTasks(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let isToOrigin = try api.query.word("to", kickTargets) ?? false
        try api.readTasks(request, &context)
        // All of them, before the first task returns.
        for (index, reference) in api.references.enumerated() where context.covers(reference.task.id, on: broker) {
            do throws(Problem) {
                try context.checkReturn(of: reference.task.id, toOrigin: isToOrigin, on: broker)
            } catch {
                throw error.inside("ids[\(index)]")
            }
        }
        try context.gate.admit(
            api.cost, count: api.references.count,
            writtenBytes: context.gate.writtenBytes(of: api.references, on: broker), on: broker)
        var counts: [[UInt8]: Int] = [:]
        api.finish(request.body, &responses, context, begin: "{\"kicked\":", on: broker) {
            let id = $0.task.id
            let queueName = broker.queueName(of: id, now: context.now) ?? []
            guard context.coversOrigin(of: id, toOrigin: isToOrigin, on: broker),
                broker.kick(id, toOrigin: isToOrigin, now: context.now)
            else { return false }
            counts[queueName, default: 0] += 1
            return true
        }
        if isToOrigin { context.audit?.add(.text("to", "origin")) }
        context.logAudit(of: counts)
        return .answered
    }

    /// `POST /move/NAME`
    static func move(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let limit = try api.sweepLimit()
        let state = try api.query.word("state", movedStates) ?? .ready
        let filter = try api.taskFilter(now: context.now)
        let target = try api.moveTarget(context.caller)
        if target == api.name { throw Problem(.invalidParameter, "to must be another queue", field: "to") }
        try checkMove(from: api.name.span, to: target.span)
        try context.checkContent(from: api.name.span, to: target.span, on: broker)
        if !broker.isQueueInUse(named: target.span) { try context.gate.admit(.names, on: broker) }
        let source = try broker.requireQueue(named: api.name.span)
        let destination = try broker.requireQueue(named: target.span)
        context.audit?.add(.text("to", target))
        api.addSelection(to: &context.audit, filter, limit: limit)
        let completion = completion(of: request, "{\"moved\":", context, on: broker)
        do throws(BrokerError) {
            let id = try broker.move(
                source, to: destination, state: state, filter: filter, limit: limit, now: context.now,
                completion: completion)
            context.audit?.addOperation(id)
        } catch {
            throw Problem(error)
        }
        return .owed(nil)
    }

    private func sweepLimit() throws(Problem) -> Int {
        Int(try query.integer("n", API.sweepCounts) ?? Int64(Int.max))
    }

    /// Answers with a count when it is known, and logs it. The sweep continues if the client disconnects. The log also
    /// has a line without a count at the beginning, because a sweep that a restart interrupts continues without this.
    private static func completion(
        of request: borrowing Request, _ begin: StaticString, _ context: borrowing Context, on broker: isolated Broker
    ) -> Broker.SweepCompletion {
        let (server, ticket, record) = (context.server, request.ticket, context.audit)
        let views = context.gate.views
        return { end in
            if end.count > 0 { views.noteChange() }
            if var record {
                record.addOperation(end.id)
                Log.standard.write(record.event(taskCount: end.count))
            }
            server.answer(ticket) { responses in
                responses.beginJSON(estimatedCount: 15)
                writeCount(begin, end.count, to: &responses)
                responses.append(end.isStopped ? ",\"stopped\":true}" : "}")
                responses.endLine()
                responses.hold(until: broker.changeSequence)
            }
        }
    }
}

extension Context {
    /// Whether the sender may concern itself with the queue to which a kick returns a dead letter. Without `to=origin`,
    /// only a ready dead letter returns; others become ready where they are.
    fileprivate func coversOrigin(of id: UID, toOrigin: Bool, on broker: isolated Broker) -> Bool {
        if caller.coversAllQueues { return true }
        return broker.withTask(id: id, now: now) { task in
            let origin = task.origin
            return origin.isEmpty || task.state != .ready && !toOrigin || caller.covers(origin.span)
        } ?? false
    }

    /// Checks that a kick lets nobody look at content that is hidden from the sender: that of a dead letter which
    /// returns to its origin.
    fileprivate func checkReturn(of id: UID, toOrigin: Bool, on broker: isolated Broker) throws(Problem) {
        if case .anyone = caller { return }
        guard let queueName = broker.queueName(of: id, now: now),
            let origin = broker.withTask(id: id, now: now, { toOrigin || $0.state == .ready ? $0.origin : [] }),
            !origin.isEmpty, caller.covers(origin.span)
        else { return }
        try checkContent(from: queueName.span, to: origin.span, on: broker)
    }
}

extension Broker {
    /// Whether a queue holds more than its name: tasks, a configuration, or a pause.
    func isQueueInUse(named name: Span<UInt8>) -> Bool {
        existingQueue(named: name).map { isInUse($0) } ?? false
    }

    /// The queue with this name. It is created if it does not exist.
    ///
    /// - Throws: 503 if there are too many queues.
    func requireQueue(named name: Span<UInt8>) throws(Problem) -> QueueIndex {
        do throws(BrokerError) { return try queue(named: name) } catch { throw Problem(error) }
    }
}

func writeCount(_ member: StaticString, _ count: some BinaryInteger, to responses: inout ResponseStream) {
    responses.append(member)
    JSONWriter.writeInteger(Int64(clamping: count), to: &responses)
}
