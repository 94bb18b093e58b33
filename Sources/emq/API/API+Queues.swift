// Whole queues: looking at them, and what an operator does to them.

import JSON
import Net
import Queues
import UID

extension API {
    /// `GET /peek/NAME`
    func peek(_ responses: inout ResponseStream, on broker: isolated Broker) throws(Problem) {
        let limit = Int(try query.integer("n", 1...Int64(API.maximumTasksPerAnswer)) ?? 1)
        let state = try query.word("state", TaskState.named) ?? .ready
        var after: UID?
        if let text = query["after"] {
            after = UID(text)
            if after == nil {
                throw Problem(400, "after is a task's id, not '\(text.prefix(shownBytes))'", field: "after")
            }
        }
        responses.beginJSON(estimatedCount: 200)
        responses.append("[")
        var isThere = after == nil
        var isTooLarge = false
        if let queue = broker.existingQueue(named: name.span) {
            var isFirst = true
            let isSending = push?.sends(name.span) ?? false
            isThere = broker.peek(queue, state: state, after: after, limit: limit, now: now) { task in
                // What is refused is not made before.
                isTooLarge = isTooLarge || !mayAnswer(responses, adding: task.content.count)
                if isTooLarge { return }
                if !isFirst { responses.append(",") }
                isFirst = false
                TaskWriter.writeListed(task, isSending: isSending, to: &responses)
            }
        }
        guard isThere else {
            throw Problem(404, "the task after which to go on is no longer \(state.name) here", field: "after")
        }
        if isTooLarge { throw API.tooLarge }
        responses.append("]")
        responses.endLine()
    }

    /// `GET /queues/`
    func writeQueueNames(_ responses: inout ResponseStream, on broker: isolated Broker) throws(Problem) {
        responses.beginJSON(estimatedCount: 100)
        responses.append("[")
        var isFirst = true
        var isTooLarge = false
        broker.forEachQueueName { name in
            isTooLarge = isTooLarge || !mayAnswer(responses)
            if isTooLarge { return }
            if !isFirst { responses.append(",") }
            isFirst = false
            JSONWriter.writeString(name, to: &responses)
        }
        if isTooLarge { throw API.tooLarge }
        responses.append("]")
        responses.endLine()
    }

    // MARK: Statistics

    /// `GET /stats/` and `GET /stats/NAME`. They are answered in any case: while too many answers wait to be read, without
    /// the queues for which there is no room.
    func writeStatistics(_ responses: inout ResponseStream, on broker: isolated Broker) {
        responses.beginJSON(estimatedCount: 300)
        if !name.isEmpty {
            let queue = broker.existingQueue(named: name.span)
            let statistics = queue.map { broker.statistics(of: $0) } ?? QueueStatistics()
            API.write(statistics, of: name.span, now: now, to: &responses)
            return responses.endLine()
        }
        responses.append("{\"queues\":{")
        var isFirst = true
        var missing = 0
        broker.forEachQueue { name, statistics in
            guard mayAnswer(responses) else {
                missing += 1
                return
            }
            if !isFirst { responses.append(",") }
            isFirst = false
            JSONWriter.writeString(name, to: &responses)
            responses.append(":")
            API.write(statistics, of: name, now: now, to: &responses)
        }
        responses.append("}")
        if missing > 0 { writeCount(",\"queues_left_out\":", missing, to: &responses) }
        writeCount(",\"tasks\":", broker.counts.tasks, to: &responses)
        writeCount(",\"connections\":", server.connectionCount, to: &responses)
        writeCount(",\"memory\":{\"used\":", usedMemoryBytes(of: broker), to: &responses)
        writeCount(",\"limit\":", maximumMemoryBytes, to: &responses)
        responses.append("}")
        journal?.writeStatistics(of: broker, to: &responses)
        responses.append("}")
        responses.endLine()
    }

    private static func write(
        _ statistics: QueueStatistics, of name: Span<UInt8>, now: Int64, to responses: inout ResponseStream
    ) {
        responses.append("{\"queue\":")
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
        let totals = statistics.totals
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
        responses.append("}}")
    }

    // MARK: Pausing

    /// `POST /pause/NAME` and `POST /resume/NAME`
    func pause(_ isPaused: Bool, _ responses: inout ResponseStream, on broker: isolated Broker) throws(Problem) {
        let isNew = isPaused && !isInUse(name.span, on: broker)
        if isPaused {
            broker.pause(try queue(named: name.span, on: broker))
        } else if let queue = broker.existingQueue(named: name.span) {
            broker.resume(queue)
        }
        responses.beginJSON(estimatedCount: 15)
        responses.append(isPaused ? "{\"paused\":true" : "{\"paused\":false")
        // Whoever has mistyped the name sees it.
        if isNew { responses.append(",\"new\":true") }
        responses.append("}")
        responses.endLine()
    }

    // MARK: Purging, kicking, moving

    /// `POST /purge/NAME`
    func purge(_ request: borrowing Request, on broker: isolated Broker) throws(Problem) -> Outcome {
        var named = TaskState.named.mapValues { [$0] }
        named["all"] = TaskState.allCases
        let states = try query.word("state", named) ?? [.ready, .delayed]
        let queue = try queue(named: name.span, on: broker)
        do throws(BrokerError) {
            try broker.purge(
                queue, states: states, now: now, completion: answer(request.ticket, "{\"purged\":", on: broker))
        } catch {
            throw API.problem(error)
        }
        return .owed(nil)
    }

    /// `POST /kick/NAME`, and `POST /kick/` with ids
    mutating func kick(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        if name.isEmpty {
            try kickTasks(request, &responses, on: broker)
            return .answered
        }
        let limit = try sweepLimit()
        let state: TaskState? = try query.word("state", ["dead": .dead, "delayed": .delayed])
        let isToOrigin = try query.word("to", ["origin": true]) ?? false
        let queue = try queue(named: name.span, on: broker)
        let completion = answer(request.ticket, "{\"kicked\":", on: broker)
        do throws(BrokerError) {
            if isToOrigin {
                let states = state.map { [$0] } ?? [.ready, .delayed, .dead]
                try broker.kickToOrigin(queue, states: states, limit: limit, now: now, completion: completion)
            } else {
                try broker.kick(queue, state: state ?? .dead, limit: limit, now: now, completion: completion)
            }
        } catch {
            throw API.problem(error)
        }
        return .owed(nil)
    }

    private mutating func kickTasks(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) {
        if let parameter = query.values.keys.first(where: { $0 != "to" }) {
            throw Problem(400, "\(parameter) goes with a queue's name: /kick/NAME", field: parameter)
        }
        let isToOrigin = try query.word("to", ["origin": true]) ?? false
        try body.read(request)
        let bytes = request.body
        var ids: JSONScanner.Entry?
        try body.forEach(in: bytes, known: ["ids"]) { (_, value) throws(Problem) in ids = value.entry }
        references.removeAll(keepingCapacity: true)
        try readIDs(bytes, ids)
        try admit(
            Verb.kick.cost(.post), count: references.count, writtenBytes: writtenBytes(of: references, on: broker),
            on: broker)
        finish(bytes, &responses, begin: "{\"kicked\":", on: broker) {
            broker.kick($0.task.id, toOrigin: isToOrigin, now: now)
        }
    }

    /// `POST /move/NAME`
    func move(_ request: borrowing Request, on broker: isolated Broker) throws(Problem) -> Outcome {
        let limit = try sweepLimit()
        let state: TaskState =
            try query.word("state", ["ready": .ready, "delayed": .delayed, "dead": .dead]) ?? .ready
        guard let to = query["to"] else { throw Problem(400, "to says where: /move/NAME?to=OTHER", field: "to") }
        let target = Array(to.utf8)
        if let flaw = QueueName.flaw(in: target.span) { throw Problem(400, flaw, field: "to") }
        if target == name { throw Problem(400, "to is another queue than this one", field: "to") }
        // Elsewhere a task would be sent in a form that its receiver does not know.
        guard LegacySystem(of: name.span) == LegacySystem(of: target.span) else {
            throw Problem(403, "tasks of a legacy system move among its own queues, and others do not come there")
        }
        if !isInUse(target.span, on: broker) { try admit(.names, on: broker) }
        let (source, destination) = (try queue(named: name.span, on: broker), try queue(named: target.span, on: broker))
        do throws(BrokerError) {
            try broker.move(
                source, to: destination, state: state, limit: limit, now: now,
                completion: answer(request.ticket, "{\"moved\":", on: broker))
        } catch {
            throw API.problem(error)
        }
        return .owed(nil)
    }

    private func sweepLimit() throws(Problem) -> Int {
        Int(try query.integer("n", 1...Int64(Int32.max)) ?? Int64(Int.max))
    }

    /// Answers with a count when it is known. What was begun goes on when the client goes.
    private func answer(
        _ ticket: Ticket, _ begin: StaticString, on broker: isolated Broker
    ) -> Broker.SweepCompletion {
        let server = server
        return { count in
            server.answer(ticket) { responses in
                responses.beginJSON(estimatedCount: 15)
                writeCount(begin, count, to: &responses)
                responses.append("}")
                responses.endLine()
                responses.hold(until: broker.changeSequence)
            }
        }
    }

    /// Whether there is more of a queue than its name.
    func isInUse(_ name: Span<UInt8>, on broker: isolated Broker) -> Bool {
        broker.existingQueue(named: name).map { broker.isInUse($0) } ?? false
    }

    func queue(named name: Span<UInt8>, on broker: isolated Broker) throws(Problem) -> QueueIndex {
        do throws(BrokerError) { return try broker.queue(named: name) } catch { throw API.problem(error) }
    }
}

func writeCount(_ member: StaticString, _ count: some BinaryInteger, to responses: inout ResponseStream) {
    responses.append(member)
    JSONWriter.writeInteger(Int64(clamping: count), to: &responses)
}
