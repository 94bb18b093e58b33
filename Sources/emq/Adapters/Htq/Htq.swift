// Replaces htq, which accepts HTTP requests, sends each once, and keeps the response for a day. A request is a task of
// the queue `htq`: its content says what to send, and its result is the response as clients see it.
//
// When a request is cancelled in flight, emq sends a DELETE to its URL. This notice is also a task of the queue.
// Clients do not see it; its metadata names the cancelled request.

import Bytes
import Delivery
import JSON
import Net
import Queues
import UID

/// The answer to a client that waits for the end of a request. A client that ends its side gets the same answer.
final class PendingResponse: PendingAnswer {
    private let write: (inout ResponseStream) -> Void

    init(_ waiter: Waiter, _ write: @escaping (inout ResponseStream) -> Void) {
        self.write = write
        super.init(waiter)
    }

    override func writeWithdrawn(to responses: inout ResponseStream, of broker: isolated Broker, now: Int64) {
        write(&responses)
    }
}

/// The interface for clients of htq.
final class Htq: FrontEnd {
    /// How long a request waits to be sent, and how long it is kept after its end.
    static let lifeMilliseconds: Int64 = 86_400_000

    /// How many requests may be in flight at once, unless the queue's configuration says otherwise.
    let workers: Int
    private let queueName = Array(LegacySystem.htq.rawValue.utf8)

    init(workers: Int) { self.workers = workers }

    func answer(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let links = HtqLinks(authority: request.authority, isSecure: request.isSecure)
        let (resource, hasSlash) = try HtqResource.read(request.path)
        guard hasSlash else {
            redirect(request, links, &responses)
            return .answered
        }
        let isLook = request.method == .get || request.method == .head
        switch resource {
        case .all where isLook: try list(links, &responses, context, on: broker)
        case .all where request.method == .post: try create(request, links, &responses, &context, on: broker)
        case .request(let id) where isLook: try show(id, links, &responses, context, on: broker)
        case .request(let id) where request.method == .delete:
            return try cancel(id, request.ticket, &responses, &context, on: broker)
        case .status(let id) where isLook:
            let status = try withRequest(id, now: context.now, on: broker) { HtqStatus($0) }
            writeJSON(status.json, to: &responses)
        case .response(let id) where isLook:
            return try awaitResponse(id, request.ticket, links, &responses, context, on: broker)
        case .response(let id) where request.method == .delete:
            try deleteResponse(id, context, on: broker)
            writeNoContent(to: &responses)
        case _ where request.method == .options:
            responses.begin(status: 200, contentType: "text/html; charset=utf-8")
            responses.field("Allow", resource.allowedMethods.utf8Span.span)
            responses.beginBody(estimatedCount: 0)
            responses.end()
        default:
            throw Problem(
                .methodNotAllowed,
                "\(text(request.methodName)) is not allowed here; use one of: \(resource.allowedMethods)",
                allow: resource.allowedMethods)
        }
        return .answered
    }

    func write(_ problem: Problem, to responses: inout ResponseStream) {
        problem.begin("application/json", to: &responses)
        responses.append("{\"status\": ")
        JSONWriter.writeInteger(problem.status, to: &responses)
        responses.append(", \"message\": ")
        JSONWriter.write(problem.detail, to: &responses)
        responses.append("}")
        responses.end()
    }

    // MARK: Requests

    private func create(
        _ request: borrowing Request, _ links: HtqLinks, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) {
        try context.body.read(request, allowsArray: true)
        guard context.body.kind == .object else {
            throw Problem(.invalidBody, legacyStatus: 422, "the body must be a JSON object, not an array")
        }
        let asked = try HtqRequest(request.body, context.body)
        _ = try HtqHeaders(asked.headers)
        let content = asked.json
        let options = TaskOptions()
        options.key = asked.key
        // A request that cannot be sent has its error as the response, as in the original.
        options.request = PushOptions.request(to: (try? HtqURL(asked.url))?.url)
        var notice: Notice?
        var predecessor: UID?
        if !options.key.isEmpty, let queue = queue(on: broker) {
            predecessor = broker.task(withKey: options.key, in: queue, now: context.now)
        }
        if let predecessor { notice = self.notice(of: predecessor, now: context.now, on: broker) }
        // All that could refuse this request is checked before the other one is cancelled. Its texts may be longer than
        // the body, for which there was room.
        try context.checkAcceptsTasks()
        try context.gate.admit(
            .grows(Cost.queueBytes), count: predecessor == nil ? 1 : 3,
            keptBytes: content.count + options.request.count + (notice?.byteCount ?? 0), on: broker)
        if let predecessor { _ = broker.cancelTask(predecessor, now: context.now) }
        defer { if let notice { add(notice, &context, on: broker) } }
        options.retryLimit = .limited(0)
        options.keepMilliseconds = Self.lifeMilliseconds
        let id = context.makeID()
        let task = NewTask(
            id: id, content: 0..<content.count, expiry: .after(milliseconds: Self.lifeMilliseconds), options: options)
        try context.add(task, content: content.span, to: queueName, isLimited: predecessor == nil, on: broker)
        responses.begin(status: 303, contentType: "text/html; charset=utf-8")
        let location = links.url(of: .request(id))
        responses.field("Location", location.span)
        responses.beginBody(estimatedCount: 0)
        responses.end()
    }

    private func show(
        _ id: UID, _ links: HtqLinks, _ responses: inout ResponseStream, _ context: borrowing Context,
        on broker: isolated Broker
    ) throws(Problem) {
        try withRequest(id, now: context.now, on: broker) { task in
            begin(
                links: [("response", .response(id)), ("self", .request(id)), ("status", .status(id))], links,
                &responses)
            HtqRequest.write(task, to: &responses)
            responses.append("}")
        }
        try context.gate.admitAnswer(responses)
        responses.end()
    }

    // MARK: Responses

    private func awaitResponse(
        _ id: UID, _ ticket: Ticket, _ links: HtqLinks, _ responses: inout ResponseStream, _ context: borrowing Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try withRequest(id, now: context.now, on: broker) { _ in }
        let (server, now) = (context.server, context.now)
        let answer: (inout ResponseStream) -> Void = { responses in
            self.writeResponse(of: id, links, server, &responses, on: broker, now: now)
            responses.hold(until: broker.changeSequence)
        }
        // By then the request has ended in any case.
        let deadline = now + Self.lifeMilliseconds + 60_000
        if !context.isStopping,
            let waiter = broker.waitForResult(
                of: id, deadline: deadline, now: now, completion: { _, _ in server.answer(ticket, answer) })
        {
            return .owed(PendingResponse(waiter, answer))
        }
        answer(&responses)
        return .answered
    }

    /// Writes the present response, or asks the client to try again if there is none.
    private func writeResponse(
        of id: UID, _ links: HtqLinks, _ server: HTTPServer, _ responses: inout ResponseStream,
        on broker: isolated Broker, now: Int64
    ) {
        do throws(Problem) {
            let response = try withRequest(id, now: now, on: broker) { HtqResponse.json(of: $0) }
            guard let response else {
                throw Problem(.noSuchTask, legacyStatus: 503, "there is no response yet; ask again")
            }
            try server.admitAnswer(byteCount: response.count)
            begin(links: [("request", .request(id)), ("self", .response(id))], links, &responses)
            responses.append(response.span)
            responses.end()
        } catch {
            write(error, to: &responses)
        }
    }

    private func deleteResponse(_ id: UID, _ context: borrowing Context, on broker: isolated Broker) throws(Problem) {
        let status = try withRequest(id, now: context.now, on: broker) { task in
            HtqResponse.isThere(task) ? HtqStatus(task) : nil
        }
        guard let status else { throw Problem(.noSuchTask, "there is no such response, or it no longer exists") }
        end(id, leaving: status, context, on: broker)
    }

    // MARK: Parts

    func queue(on broker: isolated Broker) -> QueueIndex? {
        let name = queueName
        return broker.existingQueue(named: name.span)
    }

    /// Whether a task is a client's request, and not a notice or a task from elsewhere.
    func isRequest(_ task: borrowing TaskView) -> Bool {
        LegacySystem.htq.owns(task.queueName) && task.metadata.isEmpty && task.content.starts(with: HtqRequest.opening)
    }

    /// Calls `body` with a client's request.
    ///
    /// - Throws: 404 if there is none with this id.
    func withRequest<Result>(
        _ id: UID, now: Int64, on broker: isolated Broker, _ body: (borrowing TaskView) -> Result
    ) throws(Problem) -> Result {
        let found = broker.withTask(id: id, now: now) { task in isRequest(task) ? body(task) : nil }
        guard let result = found ?? nil else {
            throw Problem(.noSuchTask, "there is no such request, or it no longer exists")
        }
        return result
    }

    /// Begins an answer with links to related resources.
    func begin(
        links relations: [(name: String, target: HtqResource)], _ links: HtqLinks, _ responses: inout ResponseStream
    ) {
        responses.begin(status: 200, contentType: "application/json")
        let field = links.field(relations)
        responses.field("Link", field.span)
        responses.beginBody(estimatedCount: 300)
    }

    /// Redirects a client to a path with a slash at its end.
    private func redirect(_ request: borrowing Request, _ links: HtqLinks, _ responses: inout ResponseStream) {
        let query = request.query.isEmpty ? "" : "?" + text(request.query)
        let location = links.url(of: text(request.path) + "/" + query)
        responses.begin(status: 301, contentType: "text/html; charset=utf-8")
        responses.field("Location", location.span)
        responses.beginBody(estimatedCount: 200)
        responses.append("<!DOCTYPE html>\n<title>Redirecting...</title>\n<h1>Redirecting...</h1>\n")
        responses.append("<p>The address of this page ends with a slash.</p>\n")
        responses.end()
    }

    private func writeJSON(_ json: [UInt8], to responses: inout ResponseStream) {
        responses.beginJSON(estimatedCount: json.count)
        responses.append(json.span)
        responses.end()
    }

    func writeNoContent(to responses: inout ResponseStream) {
        responses.begin(status: 204, contentType: "text/html; charset=utf-8")
        responses.endWithoutBody()
    }
}
