// Writing pages of queues.

import Bytes
import JSON
import Net
import Queues

/// What a page of queues shows beside the queues.
struct QueuePageWriter {
    private let gate: Gate
    private let certificate: ServerCertificate?
    private let now: Int64
    private let started: Int64

    init(_ context: borrowing Context) {
        gate = context.gate
        certificate = context.certificate
        now = context.now
        started = context.started
    }

    /// Writes a complete page. O(queues of the page), and O(1) for a large list of names.
    func write(_ page: QueuePage, to responses: inout ResponseStream, of broker: isolated Broker) {
        switch page.content {
        case .names: writeNames(page, to: &responses)
        case .statistics: writeQueues(page, to: &responses, of: broker)
        }
    }

    private func writeNames(_ page: QueuePage, to responses: inout ResponseStream) {
        if page.isTooLarge || page.leftOut > 0 { return Problem.answerTooLarge.write(to: &responses) }
        responses.begin(status: 200, contentType: "application/json")
        if let next = page.next {
            // RFC 8288.
            var link = Array("</queues/?".utf8)
            for parameter in page.target.split(separator: UInt8(ascii: "&")) where !Query.names(parameter, "after") {
                link += parameter + [UInt8(ascii: "&")]
            }
            link += Array("after=".utf8)
            PercentEncoding.encode(next.text(order: page.query.order).span, into: &link)
            link += Array(">; rel=\"next\"".utf8)
            responses.field("Link", link.span)
        }
        responses.beginBody(estimatedCount: page.text.count + 2)
        responses.append(page.takeText())
        responses.append("]")
        responses.endLine()
    }

    private func writeQueues(_ page: QueuePage, to responses: inout ResponseStream, of broker: isolated Broker) {
        let rowByteCount = page.query.hasTrend ? 450 : 350
        responses.beginJSON(estimatedCount: 1000 + rowByteCount * page.found.count)
        responses.append(page.groups == nil ? "{\"queues\":{" : "{\"rows\":[")
        var isFirst = true
        for (position, index) in page.found.enumerated() {
            guard gate.mayAnswer(responses) else {
                page.end(behind: position - 1)
                break
            }
            if let groups = page.groups {
                writeRow(at: index, of: groups, isFirst: &isFirst, to: &responses, of: broker)
                continue
            }
            page.listing?.withName(at: index) { name in
                guard let queue = broker.existingQueue(named: name) else { return }
                if !isFirst { responses.append(",") }
                isFirst = false
                JSONWriter.writeString(name, to: &responses)
                responses.append(":{")
                writeMembers(of: queue, name, hasTrend: page.query.hasTrend, to: &responses, of: broker)
            }
        }
        responses.append(page.groups == nil ? "}" : "]")
        if let next = page.next {
            responses.append(",\"next\":")
            JSONWriter.writeString(next.text(order: page.query.order).span, to: &responses)
        }
        if page.leftOut > 0 { writeCount(",\"queues_left_out\":", page.leftOut, to: &responses) }
        if page.query.offset != nil { writeCount(",\"count\":", page.total, to: &responses) }
        if page.query.after == nil { writeServer(page, to: &responses, of: broker) }
        responses.append("}")
        responses.endLine()
    }

    /// Writes the statistics of a queue, and the end of their object.
    private func writeMembers(
        of queue: QueueIndex, _ name: Span<UInt8>, hasTrend: Bool, to responses: inout ResponseStream,
        of broker: isolated Broker
    ) {
        let breaker = gate.push?.circuitBreaker(of: queue, on: broker, now: now)
        API.writeMembers(broker.statistics(of: queue), breaker, of: name, now: now, to: &responses)
        if hasTrend {
            var trend = ReadyTrend()
            write(broker.add(queue, to: &trend, now: now) ? trend : nil, to: &responses)
        }
        responses.append("}")
    }

    /// Writes a group, or a queue that is in none and still exists.
    private func writeRow(
        at index: Int, of groups: QueueGroups, isFirst: inout Bool, to responses: inout ResponseStream,
        of broker: isolated Broker
    ) {
        let group = groups.group(at: index)
        groups.withName(at: index) { name in
            let queue = group == nil ? broker.existingQueue(named: name) : nil
            if group == nil, queue == nil { return }
            responses.append(isFirst ? "{" : ",{")
            isFirst = false
            if let queue {
                return writeMembers(of: queue, name, hasTrend: groups.grouping.hasTrends, to: &responses, of: broker)
            }
            guard let group else { return }
            responses.append("\"group\":")
            JSONWriter.writeString(name, to: &responses)
            writeCount(",\"queues\":", group.queues, to: &responses)
            writeCount(",\"delayed\":", group.delayed, to: &responses)
            writeCount(",\"ready\":", group.ready, to: &responses)
            writeCount(",\"dispatched\":", group.dispatched, to: &responses)
            writeCount(",\"dead\":", group.dead, to: &responses)
            writeCount(",\"waiters\":", group.waiters, to: &responses)
            responses.append(",\"oldest_ready\":")
            if let oldest = group.oldestReady {
                JSONWriter.writeSeconds(milliseconds: max(0, now - oldest), to: &responses)
            } else {
                responses.append("null")
            }
            writeCount(",\"paused\":", group.paused, to: &responses)
            API.writeRates(group.lastMinute, to: &responses)
            if groups.grouping.hasTrends { write(groups.trend(of: group), to: &responses) }
            responses.append("}")
        }
    }

    /// Writes how many tasks were ready lately, as a member behind others; null if that is not known.
    private func write(_ trend: ReadyTrend?, to responses: inout ResponseStream) {
        guard let trend else { return responses.append(",\"trend\":null") }
        responses.append(",\"trend\":[")
        for index in 0..<ReadyTrend.count {
            if index > 0 { responses.append(",") }
            JSONWriter.writeInteger(trend[index], to: &responses)
        }
        responses.append("]")
    }

    /// Writes what concerns the whole server, as members behind others.
    private func writeServer(_ page: QueuePage, to responses: inout ResponseStream, of broker: isolated Broker) {
        let caller = page.query.filter.caller
        writeProcess(to: &responses, of: broker)
        writeCount(",\"tasks\":", broker.counts.tasks, to: &responses)
        // They would tell what happens in other queues.
        if caller.coversAllQueues {
            writeStates(to: &responses, of: broker)
            if let oldest = page.listing?.oldestReady {
                responses.append(",\"oldest\":{\"queue\":")
                JSONWriter.writeString(oldest.name.span, to: &responses)
                responses.append(",\"seconds\":")
                JSONWriter.writeSeconds(milliseconds: max(0, now - oldest.time), to: &responses)
                responses.append("}")
            }
            API.writeRates(broker.lastMinute, to: &responses)
            API.write(broker.totals, to: &responses)
            if let interval = page.query.history {
                API.write(broker.history(interval, now: now), interval, now: now, to: &responses)
            }
        }
        writeCount(",\"connections\":", gate.server.connectionCount, to: &responses)
        writeCount(",\"memory\":{\"used\":", gate.usedMemoryBytes(of: broker), to: &responses)
        writeCount(",\"limit\":", gate.maximumMemoryBytes, to: &responses)
        responses.append("}")
        certificate?.writeEnd(to: &responses)
        API.writeStatistics(of: gate.sources, for: caller, gate, to: &responses)
        gate.durability?.writeStatistics(of: broker, to: &responses)
    }
}

extension QueuePageWriter {
    /// Writes which server this is and how it is, as a member behind others.
    private func writeProcess(to responses: inout ResponseStream, of broker: isolated Broker) {
        responses.append(",\"server\":{\"version\":")
        JSONWriter.write(Options.version, to: &responses)
        responses.append(",\"started\":")
        JSONWriter.writeSeconds(milliseconds: started, to: &responses)
        responses.append(",\"uptime\":")
        JSONWriter.writeSeconds(milliseconds: max(0, now - started), to: &responses)
        responses.append(",\"now\":")
        JSONWriter.writeSeconds(milliseconds: now, to: &responses)
        writeCount(",\"waiters\":", broker.counts.waiters, to: &responses)
        responses.append(",\"loop_lag\":")
        let lag = gate.server.loop.longestTurnMicroseconds
        JSONWriter.writeSeconds(milliseconds: (lag + 500) / 1000, to: &responses)
        responses.append("}")
    }

    /// Writes how many tasks of all queues are in each state, as a member behind others.
    private func writeStates(to responses: inout ResponseStream, of broker: isolated Broker) {
        writeCount(",\"states\":{\"delayed\":", broker.taskCount(in: .delayed), to: &responses)
        writeCount(",\"ready\":", broker.taskCount(in: .ready), to: &responses)
        writeCount(",\"dispatched\":", broker.taskCount(in: .dispatched), to: &responses)
        writeCount(",\"dead\":", broker.taskCount(in: .dead), to: &responses)
        writeCount(",\"done\":", broker.taskCount(in: .done), to: &responses)
        writeCount(",\"cancelled\":", broker.taskCount(in: .cancelled), to: &responses)
        writeCount(",\"expired\":", broker.taskCount(in: .expired), to: &responses)
        responses.append("}")
    }
}

extension Context {
    /// Begins a page of queues, and answers if it is complete at once.
    func begin(
        _ page: QueuePage, for responses: inout ResponseStream, on broker: isolated Broker
    ) -> Outcome {
        guard gate.views.begin(page, of: server, now: now, on: broker) else { return .owed(page) }
        QueuePageWriter(self).write(page, to: &responses, of: broker)
        return .answered
    }
}
