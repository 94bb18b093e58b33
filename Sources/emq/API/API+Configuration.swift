// What a queue's tasks leave unsaid: reading and showing a queue's configuration.

import Delivery
import JSON
import Net
import Queues

extension API {
    private static let configurationNames: [StaticString] = [
        "retry", "expiry", "max_retries", "backoff", "keep", "priority", "max_length", "dead_letter", "dead_expiry",
        "on_expiry", "push",
    ]

    /// `GET`, `PUT` and `DELETE /config/NAME`
    mutating func configure(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) {
        switch request.method {
        case .put:
            try body.read(request)
            let configuration = try readConfiguration(request.body, on: broker)
            try configure(try queue(named: name.span, on: broker), configuration, on: broker)
        case .delete:
            if let queue = broker.existingQueue(named: name.span) {
                var configuration: QueueConfiguration?
                if let owner = adapters.owner(of: name.span) {
                    configuration = try adapted(
                        QueueConfiguration(), push: PushOptions(), insteadOf: broker.configuration(of: queue), by: owner
                    )
                }
                try configure(queue, configuration, on: broker)
            }
            return API.writeNoContent(to: &responses)
        default: break
        }
        let configuration = broker.existingQueue(named: name.span).flatMap { broker.configuration(of: $0) }
        responses.beginJSON(estimatedCount: 100)
        API.write(configuration ?? QueueConfiguration(), to: &responses)
        responses.endLine()
    }

    private func configure(
        _ queue: QueueIndex, _ configuration: QueueConfiguration?, on broker: isolated Broker
    ) throws(Problem) {
        do throws(BrokerError) { try broker.configure(queue, configuration) } catch { throw API.problem(error) }
    }

    private func readConfiguration(
        _ bytes: Span<UInt8>, on broker: isolated Broker
    ) throws(Problem) -> QueueConfiguration {
        var read = QueueConfiguration()
        var push: PushOptions?
        // Where `null` is a value: an expiry of never.
        try body.forEach(in: bytes, known: API.configurationNames, nullable: 0b10) { (place, value) throws(Problem) in
            switch place {
            case 0: read.leaseMilliseconds = try value.length()
            case 1: read.expiry = value.kind == .null ? .never : .after(milliseconds: try value.length())
            case 2: read.maximumRetries = try value.retryLimit()
            case 3: read.backoff = try value.backoff()
            case 4: read.keepMilliseconds = try value.duration()
            case 5: read.priority = Int8(truncatingIfNeeded: try value.integer(-128...127))
            case 6: read.maximumLength = Int(try value.integer(1...1_000_000_000))
            case 7:
                let letter = try value.string(maximumBytes: maximumQueueNameLength)
                if let flaw = flawOfQueueName(letter.span) { throw Problem(400, flaw, field: "dead_letter") }
                read.deadLetter = letter
            case 8: read.deadExpiryMilliseconds = try value.length()
            case 9:
                _ = try value.word(["dead"])
                read.isExpiryDeath = true
            default: push = try PushOptions(value, of: .queue)
            }
        }
        let before = broker.existingQueue(named: name.span).flatMap { broker.configuration(of: $0) }
        if let owner = adapters.owner(of: name.span) {
            read = try adapted(read, push: push ?? PushOptions(), insteadOf: before, by: owner)
        } else if var push {
            try checkPush(&push, insteadOf: before?.push ?? [])
            push.write(isMasked: false, to: &read.push)
            read.isPushed = push.url != nil
        }
        if let letter = read.deadLetter {
            do throws(Problem) { try checkEnqueue(in: letter.span) } catch { throw error.inside("dead_letter") }
            if letter == name { throw Problem(400, "dead_letter is another queue than this one", field: "dead_letter") }
            if read.maximumRetries == nil, !read.isExpiryDeath {
                throw Problem(
                    400,
                    "dead_letter goes with max_retries or \"on_expiry\": \"dead\": one of them says when tasks go there",
                    field: "dead_letter")
            }
        }
        return read
    }

    /// The configuration of a queue of an older system: how many are sent at once, and how often, an operator may say; what
    /// is sent, and where to, the system says.
    private func adapted(
        _ configuration: QueueConfiguration, push: PushOptions, insteadOf before: QueueConfiguration?,
        by owner: any Adapter
    ) throws(Problem) -> QueueConfiguration {
        var pace = PushOptions()
        (pace.concurrency, pace.rate) = (push.concurrency, push.rate)
        guard push == pace else {
            throw Problem(
                403,
                "of how the tasks of this queue are sent, concurrency and rate can be set; the rest its system says",
                field: "push")
        }
        pace.url = PushOptions(stored: before?.push ?? [], of: .queue).url
        var configuration = configuration
        if pace != PushOptions() { pace.write(isMasked: false, to: &configuration.push) }
        configuration.isPushed = before?.isPushed ?? false
        owner.complete(&configuration, of: name.span)
        return configuration
    }

    private static func write(_ configuration: QueueConfiguration, to responses: inout ResponseStream) {
        var isFirst = true
        func begin(_ name: StaticString) {
            responses.append(isFirst ? "\"" : ",\"")
            responses.append(name)
            responses.append("\":")
            isFirst = false
        }
        func write(_ name: StaticString, milliseconds: Int64?) {
            guard let milliseconds else { return }
            begin(name)
            JSONWriter.writeSeconds(milliseconds: milliseconds, to: &responses)
        }
        func write(_ name: StaticString, _ number: Int64?) {
            guard let number else { return }
            begin(name)
            JSONWriter.writeInteger(number, to: &responses)
        }
        responses.append("{")
        write("retry", milliseconds: configuration.leaseMilliseconds)
        switch configuration.expiry {
        case .unsaid: break
        case .never:
            begin("expiry")
            responses.append("null")
        case .after(let milliseconds): write("expiry", milliseconds: milliseconds)
        }
        write("max_retries", configuration.maximumRetries.map { Int64($0) })
        if let backoff = configuration.backoff {
            begin("backoff")
            API.write(backoff, to: &responses)
        }
        if configuration.keepMilliseconds > 0 { write("keep", milliseconds: configuration.keepMilliseconds) }
        if configuration.priority != 0 { write("priority", Int64(configuration.priority)) }
        write("max_length", configuration.maximumLength.map { Int64($0) })
        if let letter = configuration.deadLetter {
            begin("dead_letter")
            JSONWriter.writeString(letter.span, to: &responses)
        }
        write("dead_expiry", milliseconds: configuration.deadExpiryMilliseconds)
        if configuration.isExpiryDeath {
            begin("on_expiry")
            responses.append("\"dead\"")
        }
        if !configuration.push.isEmpty {
            begin("push")
            API.writeMasked(configuration.push, of: .queue, to: &responses)
        }
        responses.append("}")
    }

    private static func write(_ backoff: Backoff, to responses: inout ResponseStream) {
        let isConstant = backoff.maximumDoublings == 0 && backoff.jitter == 0
        if isConstant, backoff.minimumMilliseconds == backoff.maximumMilliseconds {
            return JSONWriter.writeSeconds(milliseconds: backoff.minimumMilliseconds, to: &responses)
        }
        responses.append("{\"min\":")
        JSONWriter.writeSeconds(milliseconds: backoff.minimumMilliseconds, to: &responses)
        responses.append(",\"max\":")
        JSONWriter.writeSeconds(milliseconds: backoff.maximumMilliseconds, to: &responses)
        if backoff.maximumDoublings != .max {
            responses.append(",\"doublings\":")
            JSONWriter.writeInteger(Int64(backoff.maximumDoublings), to: &responses)
        }
        if backoff.jitter > 0 {
            responses.append(",\"jitter\":")
            // It was resolved to a thousandth.
            JSONWriter.writeSeconds(milliseconds: Int64((backoff.jitter * 1000).rounded()), to: &responses)
        }
        responses.append("}")
    }
}
