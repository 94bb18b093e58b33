// The configuration of a queue, and the defaults for all queues: showing and changing them.

import Delivery
import JSON
import Net
import Queues

extension API {
    /// The largest body that can change an existing configuration even when memory is used up, in bytes.
    private static let smallConfigurationBytes = 4096

    // MARK: A queue's configuration

    /// `GET /config/NAME`
    static func showConfiguration(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        // It has no meaning here, but a mistake is refused all the same.
        _ = try api.isDryRun()
        write(api.configuration(on: broker), to: &responses)
        return .answered
    }

    /// `PUT /config/NAME`
    static func putConfiguration(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let isDryRun = try api.beginChange(&context)
        try api.admitConfiguration(request, context, on: broker)
        try context.body.read(request)
        let before = api.configuration(on: broker)
        let after = try api.readConfiguration(request.body, insteadOf: before, &context, on: broker)
        if !isDryRun { try api.configure(after, on: broker) }
        let removed = partsOfPush(of: before?.push ?? [], missingIn: after.push)
        write(after, removed: removed, to: &responses)
        return .answered
    }

    /// `PATCH /config/NAME`
    static func patchConfiguration(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let isDryRun = try api.beginChange(&context)
        try api.admitConfiguration(request, context, on: broker)
        try context.body.read(request)
        let before = api.configuration(on: broker)
        var shown = before ?? QueueConfiguration()
        if context.adapters.owner(of: api.name.span) != nil { shown.push = paceOfPush(shown.push) }
        let patched = try merge(request.body, into: shown)
        let after = try api.readConfiguration(patched.span, insteadOf: before, &context, on: broker)
        if !isDryRun { try api.configure(after, on: broker) }
        write(after, to: &responses)
        return .answered
    }

    /// `DELETE /config/NAME`
    static func dropConfiguration(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let isDryRun = try api.beginChange(&context)
        if let queue = broker.existingQueue(named: api.name.span) {
            var configuration: QueueConfiguration?
            if let owner = context.adapters.owner(of: api.name.span) {
                configuration = try api.adapted(
                    QueueConfiguration(), push: PushOptions(), insteadOf: broker.configuration(of: queue), by: owner)
            }
            if !isDryRun {
                do throws(BrokerError) { try broker.configure(queue, configuration) } catch { throw Problem(error) }
            }
        }
        writeNoContent(to: &responses)
        return .answered
    }

    private func configuration(on broker: isolated Broker) -> QueueConfiguration? {
        broker.existingQueue(named: name.span).flatMap { broker.configuration(of: $0) }
    }

    /// Admits a change to the queue's configuration. A small change to an existing configuration needs no memory.
    private func admitConfiguration(
        _ request: borrowing Request, _ context: borrowing Context, on broker: isolated Broker
    ) throws(Problem) {
        let bodyBytes = request.body.count
        guard bodyBytes <= API.smallConfigurationBytes, configuration(on: broker) != nil else {
            return try context.gate.admit(cost, keptBytes: bodyBytes, on: broker)
        }
        var cost = cost
        cost.memoryBytes = 0
        try context.gate.admit(cost, writtenBytes: bodyBytes, on: broker)
    }

    /// Reads a configuration and makes all checks.
    private func readConfiguration(
        _ bytes: Span<UInt8>, insteadOf before: QueueConfiguration?, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> QueueConfiguration {
        try context.body.read(bytes, kind: .object)
        let fields = try ConfigurationFields(bytes, scannedBy: context.body)
        var read = fields.configuration
        if let owner = context.adapters.owner(of: name.span) {
            read = try adapted(read, push: fields.push ?? PushOptions(), insteadOf: before, by: owner)
        } else if var push = fields.push {
            try context.checkPush(&push, of: name.span, insteadOf: before?.push ?? [])
            push.write(isMasked: false, to: &read.push)
            read.isPushed = push.url != nil
        }
        if let letter = read.deadLetter {
            try API.checkDeadLetter(letter, insteadOf: before?.deadLetter, context)
            if letter == name {
                throw Problem(.invalidField, "dead_letter must be another queue", field: "dead_letter")
            }
            let all = broker.defaults.map { read.completed(by: $0) } ?? read
            // No worker holds tasks that emq sends, so their leases are no crashes.
            if all.maximumRetries == nil, all.maximumCrashes == nil || all.isPushed, !all.isExpiryDeath {
                throw Problem(
                    .missingField,
                    "dead_letter needs max_retries, max_crashes or \"on_expiry\": \"dead\"; otherwise no task goes "
                        + "there",
                    field: "dead_letter")
            }
        }
        return read
    }

    private func configure(_ configuration: QueueConfiguration, on broker: isolated Broker) throws(Problem) {
        let queue = try broker.requireQueue(named: name.span)
        do throws(BrokerError) { try broker.configure(queue, configuration) } catch { throw Problem(error) }
    }

    private static func checkDeadLetter(
        _ queueName: [UInt8], insteadOf before: [UInt8]?, _ context: borrowing Context
    ) throws(Problem) {
        do throws(Problem) {
            try context.adapters.checkEnqueue(in: queueName.span)
            // What somebody else has set may stay.
            if queueName != before { try context.caller.check(.admin, in: queueName.span) }
        } catch {
            throw error.inside("dead_letter")
        }
    }

    /// The configuration of a legacy system's queue. An operator sets how many tasks are sent at once, and how often;
    /// the system sets what is sent and where.
    private func adapted(
        _ configuration: QueueConfiguration, push: PushOptions, insteadOf before: QueueConfiguration?,
        by owner: any QueueCourier
    ) throws(Problem) -> QueueConfiguration {
        var pace = PushOptions()
        (pace.concurrency, pace.rate) = (push.concurrency, push.rate)
        guard push == pace else {
            throw Problem(
                .queueReserved,
                "this queue belongs to a legacy system, which sets push; you can set only its concurrency and rate",
                field: "push")
        }
        pace.url = PushOptions(stored: before?.push ?? [], of: .queue).url
        var configuration = configuration
        if pace != PushOptions() { pace.write(isMasked: false, to: &configuration.push) }
        configuration.isPushed = before?.isPushed ?? false
        owner.complete(&configuration, of: name.span)
        return configuration
    }

    /// The part of a legacy system's push that an operator sets; empty if nothing is set.
    private static func paceOfPush(_ stored: [UInt8]) -> [UInt8] {
        let push = PushOptions(stored: stored, of: .queue)
        var pace = PushOptions()
        (pace.concurrency, pace.rate) = (push.concurrency, push.rate)
        if pace == PushOptions() { return [] }
        var json: [UInt8] = []
        pace.write(isMasked: true, to: &json)
        return json
    }

    /// The members of a push that the one after it does not have.
    private static func partsOfPush(of before: [UInt8], missingIn after: [UInt8]) -> [String] {
        if before.isEmpty || after.isEmpty { return before.isEmpty ? [] : ["push"] }
        let said = PushOptions.members(stored: after).map(PushOptions.setting)
        return PushOptions.members(stored: before).filter { !said.contains(PushOptions.setting($0)) }
            .map { "push.\($0)" }
    }

    // MARK: The defaults for all queues

    /// `GET /defaults/`
    static func showDefaults(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        _ = try api.isDryRun()
        write(broker.defaults, to: &responses)
        return .answered
    }

    /// `PUT /defaults/`
    static func putDefaults(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let isDryRun = try api.beginChange(&context)
        try context.body.read(request)
        let defaults = try readDefaults(request.body, &context)
        if !isDryRun { try set(defaults, on: broker) }
        write(defaults, to: &responses)
        return .answered
    }

    /// `PATCH /defaults/`
    static func patchDefaults(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let isDryRun = try api.beginChange(&context)
        try context.body.read(request)
        let patched = try merge(request.body, into: broker.defaults ?? QueueConfiguration())
        let defaults = try readDefaults(patched.span, &context)
        if !isDryRun { try set(defaults, on: broker) }
        write(defaults, to: &responses)
        return .answered
    }

    /// `DELETE /defaults/`
    static func dropDefaults(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        if try !api.beginChange(&context) { try set(nil, on: broker) }
        writeNoContent(to: &responses)
        return .answered
    }

    /// Reads defaults and makes all checks.
    private static func readDefaults(
        _ bytes: Span<UInt8>, _ context: inout Context
    ) throws(Problem) -> QueueConfiguration {
        try context.body.read(bytes, kind: .object)
        let defaults = try QueueConfiguration(defaults: bytes, scannedBy: context.body)
        if let letter = defaults.deadLetter { try checkDeadLetter(letter, insteadOf: nil, context) }
        return defaults
    }

    private static func set(_ defaults: QueueConfiguration?, on broker: isolated Broker) throws(Problem) {
        do throws(BrokerError) { try broker.setDefaults(defaults) } catch { throw Problem(error) }
    }

    // MARK: Parts

    static let dryRuns = ["true": true, "false": false]

    /// Whether the request only asks what it would change.
    private func isDryRun() throws(Problem) -> Bool {
        try query.word(QueryParameter.dryRun.name, API.dryRuns) ?? false
    }

    /// Begins a change. A dry run leaves no line in the log.
    ///
    /// - Returns: whether the request is a dry run.
    private func beginChange(_ context: inout Context) throws(Problem) -> Bool {
        let isDryRun = try isDryRun()
        if isDryRun { context.audit = nil }
        return isDryRun
    }

    /// A configuration as JSON with a merge patch applied, in which secrets are masked.
    private static func merge(
        _ patch: Span<UInt8>, into configuration: QueueConfiguration
    ) throws(Problem) -> [UInt8] {
        var target: [UInt8] = [UInt8(ascii: "{")]
        _ = configuration.writeMembers(to: &target)
        target.append(UInt8(ascii: "}"))
        return try mergePatch(patch, into: target.span, known: ConfigurationField.names)
    }

    /// Answers with a configuration, and with the names of what a change has removed.
    private static func write(
        _ configuration: QueueConfiguration?, removed: [String] = [], to responses: inout ResponseStream
    ) {
        responses.beginJSON(estimatedCount: 100)
        responses.append("{")
        let hasMembers = configuration?.writeMembers(to: &responses) ?? false
        if !removed.isEmpty {
            responses.append(hasMembers ? ",\"removed\":" : "\"removed\":")
            for (index, name) in removed.enumerated() {
                responses.append(index == 0 ? "[" : ",")
                JSONWriter.writeString(name.utf8Span.span, to: &responses)
            }
            responses.append("]")
        }
        responses.append("}")
        responses.endLine()
    }
}
