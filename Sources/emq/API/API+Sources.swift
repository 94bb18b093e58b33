// Sources: showing, defining and pausing what brings messages from RabbitMQ.

import AMQP
import Delivery
import JSON
import Net
import Queues

extension API {
    /// `GET /source/NAME`
    static func showSource(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        write(try api.source(in: context), to: &responses)
        return .answered
    }

    /// `GET /source/`
    static func showSources(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        responses.beginJSON(estimatedCount: 100)
        responses.append("{\"sources\":{")
        let missing = writeList(of: context.sources, for: context.caller, context.gate, to: &responses) {
            source, responses in
            source.definition.writeMembers(isMasked: true, to: &responses)
        }
        if missing > 0 { throw .answerTooLarge }
        responses.append("}}")
        responses.endLine()
        return .answered
    }

    /// Writes the sources for `/stats/`, as a member behind others, if there are any. Those for which there is no room
    /// are left out.
    static func writeStatistics(
        of sources: Sources, for caller: Caller, _ gate: Gate, to responses: inout ResponseStream
    ) {
        if sources.isEmpty { return }
        responses.append(",\"sources\":{")
        let missing = writeList(of: sources, for: caller, gate, to: &responses) { source, responses in
            let (queue, into) = (source.definition.queue, source.definition.into)
            responses.append("\"queue\":")
            JSONWriter.writeString(queue.span, to: &responses)
            responses.append(",\"into\":")
            JSONWriter.writeString(into.span, to: &responses)
        }
        responses.append("}")
        if missing > 0 { writeCount(",\"sources_left_out\":", missing, to: &responses) }
    }

    /// Writes the members of an object, one for each source that the sender may see: what `writeMembers` writes, and
    /// the status.
    ///
    /// - Returns: how many there was no room for.
    private static func writeList(
        of sources: Sources, for caller: Caller, _ gate: Gate, to responses: inout ResponseStream,
        _ writeMembers: (Source, inout ResponseStream) -> Void
    ) -> Int {
        var isFirst = true
        var missing = 0
        sources.forEach { source in
            guard caller.covers(source.definition.into.span) else { return }
            guard gate.mayAnswer(responses) else {
                missing += 1
                return
            }
            if !isFirst { responses.append(",") }
            isFirst = false
            let name = source.name
            JSONWriter.writeString(name.span, to: &responses)
            responses.append(":{")
            writeMembers(source, &responses)
            responses.append(",")
            source.status.writeMembers(to: &responses)
            responses.append("}")
        }
        return missing
    }

    /// `PUT /source/NAME`
    static func putSource(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let before = context.sources.source(named: api.name)?.definition
        if let before, !context.caller.covers(before.into.span) {
            throw Problem(.queueNotAllowed, "another source has this name, and the token is not valid for its queue")
        }
        if before?.isOfTaskqueue == true { throw context.sources.isFixed }
        try context.gate.admit(api.cost, keptBytes: request.body.count, on: broker)
        try context.body.read(request)
        var definition = try SourceDefinition(
            request.body, scannedBy: context.body, prefetch: context.sources.prefetch)
        definition.isPaused = before?.isPaused ?? false
        try context.check(&definition, insteadOf: before)
        let source = try context.sources.put(definition, named: api.name, on: broker)
        context.audit?.queueName = definition.into
        write(source, status: before == nil ? 201 : 200, to: &responses)
        return .answered
    }

    /// `DELETE /source/NAME`
    static func dropSource(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let source = try api.source(in: context)
        if source.definition.isOfTaskqueue { throw context.sources.isFixed }
        try context.sources.remove(source, on: broker)
        context.audit?.queueName = source.definition.into
        writeNoContent(to: &responses)
        return .answered
    }

    /// `POST /source/NAME/pause`
    static func pauseSource(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try api.setPaused(true, &responses, &context, on: broker)
    }

    /// `POST /source/NAME/resume`
    static func resumeSource(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try api.setPaused(false, &responses, &context, on: broker)
    }

    private func setPaused(
        _ isPaused: Bool, _ responses: inout ResponseStream, _ context: inout Context, on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let source = try source(in: context)
        try context.gate.admit(cost, writtenBytes: source.definition.stored.count, on: broker)
        try context.sources.setPaused(isPaused, source, on: broker)
        context.audit?.queueName = source.definition.into
        API.write(source, to: &responses)
        return .answered
    }

    private func source(in context: borrowing Context) throws(Problem) -> Source {
        guard let source = context.sources.source(named: name), context.caller.covers(source.definition.into.span)
        else {
            throw Problem(.noSuchSource, "there is no source with this name; GET /source/ lists all")
        }
        return source
    }

    private static func write(_ source: Source, status: Int = 200, to responses: inout ResponseStream) {
        responses.begin(status: status, contentType: "application/json")
        responses.beginBody(estimatedCount: 300)
        responses.append("{")
        source.definition.writeMembers(isMasked: true, to: &responses)
        responses.append(",")
        source.status.writeMembers(to: &responses)
        responses.append("}")
        responses.endLine()
    }
}

extension Context {
    /// Checks that a source may be defined so, and replaces a masked password by the one that it has.
    ///
    /// - Throws: 400; 403 for a queue or an address that is not allowed; 503 if the library is missing.
    fileprivate func check(
        _ definition: inout SourceDefinition, insteadOf before: SourceDefinition?
    ) throws(Problem) {
        do throws(Problem) {
            try adapters.checkEnqueue(in: definition.into.span)
            try caller.check(.admin, in: definition.into.span)
        } catch {
            throw error.inside("into")
        }
        guard let push = gate.push, push.sendsOwn else {
            throw Problem(
                .pushDisabled,
                "clients may not make this server connect to RabbitMQ; start it with --push and where it may connect: "
                    + "--push loopback, --push private, or --push and the name of a host", field: "amqp")
        }
        if let address = IPAddress(definition.url.host),
            let refusal = push.policy.refusal(of: address, port: definition.url.port, host: definition.url.host)
        {
            throw Problem(.destinationNotAllowed, refusal, field: "amqp")
        }
        try definition.keepMaskedPassword(of: before)
        if let flaw = sources.libraryFlaw() { throw Problem(.libraryMissing, flaw) }
    }
}
