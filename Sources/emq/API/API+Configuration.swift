// What a queue's tasks leave unsaid: reading and showing a queue's configuration.

import Bytes
import Delivery
import JSON
import Net
import Queues

extension API {
    private static let configurationNames: [StaticString] = [
        "retry", "expiry", "max_retries", "backoff", "keep", "priority", "max_length", "dead_letter", "dead_expiry",
        "on_expiry", "push",
    ]

    /// `GET`, `PUT`, `PATCH` and `DELETE /config/NAME`
    mutating func configure(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) {
        var removed: [String] = []
        switch request.method {
        case .put, .patch:
            try body.read(request)
            let before = broker.existingQueue(named: name.span).flatMap { broker.configuration(of: $0) }
            let said = try request.method == .put ? Array(copying: request.body) : patched(before, by: request.body)
            let configuration = try readConfiguration(said.span, insteadOf: before, on: broker)
            try configure(try queue(named: name.span, on: broker), configuration, on: broker)
            // Whoever PATCHes has said so.
            if request.method == .put {
                removed = API.partsOfPush(of: before?.push ?? [], missingIn: configuration.push)
            }
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
        API.write(configuration ?? QueueConfiguration(), removed: removed, to: &responses)
        responses.endLine()
    }

    /// `GET`, `PUT`, `PATCH` and `DELETE /defaults/`
    mutating func setDefaults(
        _ request: borrowing Request, _ responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) {
        switch request.method {
        case .put, .patch:
            try body.read(request)
            let said =
                try request.method == .put ? Array(copying: request.body) : patched(broker.defaults, by: request.body)
            try body.read(said.span, kind: .object)
            let defaults = try API.readDefaults(said.span, scannedBy: body)
            if let letter = defaults.deadLetter {
                do throws(Problem) { try adapters.checkEnqueue(in: letter.span) } catch {
                    throw error.inside("dead_letter")
                }
            }
            do throws(BrokerError) { try broker.setDefaults(defaults) } catch { throw API.problem(error) }
        case .delete:
            do throws(BrokerError) { try broker.setDefaults(nil) } catch { throw API.problem(error) }
            return API.writeNoContent(to: &responses)
        default: break
        }
        responses.beginJSON(estimatedCount: 100)
        API.write(broker.defaults ?? QueueConfiguration(), to: &responses)
        responses.endLine()
    }

    /// What a configuration says once a merge patch is applied to it, secrets as `***`.
    private func patched(_ configuration: QueueConfiguration?, by patch: Span<UInt8>) throws(Problem) -> [UInt8] {
        var before = configuration ?? QueueConfiguration()
        if adapters.owner(of: name.span) != nil, !name.isEmpty {
            // The rest its system says.
            let push = PushOptions(stored: before.push, of: .queue)
            var pace = PushOptions()
            (pace.concurrency, pace.rate) = (push.concurrency, push.rate)
            before.push = []
            if pace != PushOptions() { pace.write(isMasked: true, to: &before.push) }
        }
        var target: [UInt8] = []
        API.write(before, to: &target)
        return try mergePatch(patch, into: target.span, known: API.configurationNames)
    }

    private func configure(
        _ queue: QueueIndex, _ configuration: QueueConfiguration?, on broker: isolated Broker
    ) throws(Problem) {
        do throws(BrokerError) { try broker.configure(queue, configuration) } catch { throw API.problem(error) }
    }

    /// Reads what all queues are to leave unsaid.
    ///
    /// - Parameters:
    ///   - bytes: a JSON object.
    ///   - members: has scanned it.
    /// - Returns: the defaults.
    /// - Throws: 400, also for what only a single queue can say.
    static func readDefaults(
        _ bytes: Span<UInt8>, scannedBy members: borrowing Members
    ) throws(Problem) -> QueueConfiguration {
        var (read, push) = try readMembers(bytes, scannedBy: members)
        if push != nil {
            throw Problem(
                400, "where tasks are sent is for each queue to say: PUT /config/NAME with a push", field: "push")
        }
        // Without defaults they would be as they are.
        read.builtIn = []
        return read
    }

    private static func readMembers(
        _ bytes: Span<UInt8>, scannedBy members: borrowing Members
    ) throws(Problem) -> (QueueConfiguration, PushOptions?) {
        var read = QueueConfiguration()
        var push: PushOptions?
        // Where `null` is a value: never, or any number, or no queue, whatever the defaults for all queues say.
        try members.forEach(in: bytes, known: configurationNames, nullable: 0b1100_0110) {
            (place, value) throws(Problem) in
            let isNull = value.kind == .null
            switch place {
            case 0: read.leaseMilliseconds = try value.length()
            case 1: read.expiry = isNull ? .never : try value.expiry()
            case 2:
                if isNull { read.builtIn.insert(.maximumRetries) } else { read.maximumRetries = try value.retryLimit() }
            case 3: read.backoff = try value.backoff()
            case 4:
                read.keepMilliseconds = try value.duration()
                if read.keepMilliseconds == 0 { read.builtIn.insert(.keep) }
            case 5:
                read.priority = Int8(truncatingIfNeeded: try value.integer(-128...127))
                if read.priority == 0 { read.builtIn.insert(.priority) }
            case 6:
                if isNull {
                    read.builtIn.insert(.maximumLength)
                } else {
                    read.maximumLength = Int(try value.integer(1...1_000_000_000))
                }
            case 7:
                if isNull { return _ = read.builtIn.insert(.deadLetter) }
                let letter = try value.string(maximumBytes: QueueName.maximumByteCount)
                if let flaw = QueueName.flaw(in: letter.span) { throw Problem(400, flaw, field: "dead_letter") }
                read.deadLetter = letter
            case 8: read.deadExpiryMilliseconds = try value.length()
            case 9:
                read.isExpiryDeath = try value.word(["dead", "delete"]) == 0
                if !read.isExpiryDeath { read.builtIn.insert(.expiryDeath) }
            default: push = try PushOptions(value, of: .queue)
            }
        }
        return (read, push)
    }

    private mutating func readConfiguration(
        _ bytes: Span<UInt8>, insteadOf before: QueueConfiguration?, on broker: isolated Broker
    ) throws(Problem) -> QueueConfiguration {
        try body.read(bytes, kind: .object)
        var (read, push) = try API.readMembers(bytes, scannedBy: body)
        if let owner = adapters.owner(of: name.span) {
            read = try adapted(read, push: push ?? PushOptions(), insteadOf: before, by: owner)
        } else if var push {
            try checkPush(&push, insteadOf: before?.push ?? [])
            push.write(isMasked: false, to: &read.push)
            read.isPushed = push.url != nil
        }
        if let letter = read.deadLetter {
            do throws(Problem) { try adapters.checkEnqueue(in: letter.span) } catch {
                throw error.inside("dead_letter")
            }
            if letter == name { throw Problem(400, "dead_letter is another queue than this one", field: "dead_letter") }
            let all = broker.defaults.map { read.completed(by: $0) } ?? read
            if all.maximumRetries == nil, !all.isExpiryDeath {
                throw Problem(
                    400,
                    "dead_letter goes with max_retries or \"on_expiry\": \"dead\": one of them says when tasks go there",
                    field: "dead_letter")
            }
        }
        return read
    }

    /// The configuration of a queue of a legacy system: how many are sent at once, and how often, an operator may say; what
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

    /// What a push says that its successor does not: all of it, or some members.
    private static func partsOfPush(of before: [UInt8], missingIn after: [UInt8]) -> [String] {
        if before.isEmpty || after.isEmpty { return before.isEmpty ? [] : ["push"] }
        let said = PushOptions.members(stored: after)
        return PushOptions.members(stored: before).filter { !said.contains($0) }.map { "push.\($0)" }
    }

    private static func write(
        _ configuration: QueueConfiguration, removed: [String] = [],
        to responses: inout (some JSONOutput & ~Copyable)
    ) {
        var isFirst = true
        func begin(_ name: StaticString) {
            responses.append(isFirst ? "\"" : ",\"")
            responses.append(name)
            responses.append("\":")
            isFirst = false
        }
        func write(_ name: StaticString, milliseconds: Int64?, orNull isNull: Bool = false) {
            guard let milliseconds else { return writeNull(name, isNull) }
            begin(name)
            JSONWriter.writeSeconds(milliseconds: milliseconds, to: &responses)
        }
        func write(_ name: StaticString, _ number: Int64?, orNull isNull: Bool = false) {
            guard let number else { return writeNull(name, isNull) }
            begin(name)
            JSONWriter.writeInteger(number, to: &responses)
        }
        func writeNull(_ name: StaticString, _ isNull: Bool) {
            guard isNull else { return }
            begin(name)
            responses.append("null")
        }
        let builtIn = configuration.builtIn
        responses.append("{")
        write("retry", milliseconds: configuration.leaseMilliseconds)
        switch configuration.expiry {
        case .unsaid: break
        case .never: writeNull("expiry", true)
        case .after(let milliseconds): write("expiry", milliseconds: milliseconds)
        }
        let retries = configuration.maximumRetries.map { Int64($0) }
        write("max_retries", retries, orNull: builtIn.contains(.maximumRetries))
        if let backoff = configuration.backoff {
            begin("backoff")
            API.write(backoff, to: &responses)
        }
        if configuration.keepMilliseconds > 0 || builtIn.contains(.keep) {
            write("keep", milliseconds: configuration.keepMilliseconds)
        }
        if configuration.priority != 0 || builtIn.contains(.priority) {
            write("priority", Int64(configuration.priority))
        }
        let length = configuration.maximumLength.map { Int64($0) }
        write("max_length", length, orNull: builtIn.contains(.maximumLength))
        writeNull("dead_letter", builtIn.contains(.deadLetter))
        if let letter = configuration.deadLetter {
            begin("dead_letter")
            JSONWriter.writeString(letter.span, to: &responses)
        }
        write("dead_expiry", milliseconds: configuration.deadExpiryMilliseconds)
        if configuration.isExpiryDeath || builtIn.contains(.expiryDeath) {
            begin("on_expiry")
            responses.append(configuration.isExpiryDeath ? "\"dead\"" : "\"delete\"")
        }
        if !configuration.push.isEmpty {
            begin("push")
            API.writeMasked(configuration.push, of: .queue, to: &responses)
        }
        if !removed.isEmpty {
            begin("removed")
            for (index, name) in removed.enumerated() {
                responses.append(index == 0 ? "[" : ",")
                JSONWriter.writeString(name.utf8Span.span, to: &responses)
            }
            responses.append("]")
        }
        responses.append("}")
    }

    private static func write(_ backoff: Backoff, to responses: inout (some JSONOutput & ~Copyable)) {
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
