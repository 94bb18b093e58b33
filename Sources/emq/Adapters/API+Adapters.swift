// What the adapters share: the way of their requests through the server, and the few things that each of them asks of it.

import Delivery
import JSON
import Net
import Queues
import UID

extension API {
    /// Answers a request to a legacy system's interface, under the same bounds as to emq's own.
    mutating func adapt(
        _ request: borrowing Request, for service: any AdapterService, _ responses: inout ResponseStream,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        if let journal, !journal.isReady { throw journal.problem }
        if request.method == .connect { throw Problem(501, "this server is no proxy") }
        let cost = service.cost(request)
        // Nearly all that a request says is kept as it is.
        try admit(cost, keptBytes: cost.effect == .grows ? request.body.count : 0, on: broker)
        let outcome = try service.answer(request, &responses, &self, on: broker)
        if case .answered = outcome { responses.hold(until: broker.changeSequence) }
        return outcome
    }

    /// Tells a client of a problem, as the service would.
    func write(_ problem: Problem, service: Int, to responses: inout ResponseStream) {
        if service == 0 { return problem.write(to: &responses) }
        adapters.services[service - 1].write(problem, to: &responses)
    }

    /// An id for a task that is about to be added.
    mutating func makeID() -> UID { ids.next(unixMilliseconds: UInt64(now), using: &random) }

    /// Adds a task, or meets the one that has its key. What takes the place of another task is not limited: a full queue has
    /// room for it. The request has been admitted.
    ///
    /// - Throws: 503, 429, 400 for a queue's name that is none.
    func add(
        _ task: NewTask, content: Span<UInt8>, to queueName: [UInt8], isLimited: Bool = true,
        on broker: isolated Broker
    ) throws(Problem) {
        if shutdown.isAsked { throw Problem(503, "the server is stopping and takes no more tasks") }
        if let flaw = QueueName.flaw(in: queueName.span) { throw Problem(400, flaw) }
        do throws(BrokerError) {
            let queue = try broker.queue(named: queueName.span)
            _ = try broker.enqueue(task, content: content, in: queue, isLimited: isLimited, now: now)
        } catch {
            throw API.problem(error)
        }
    }

    /// Reads a URL that a task is to be sent to.
    ///
    /// - Throws: 400 for what is none, or for an address that is never reached.
    func readURL(_ text: [UInt8], field: String) throws(Problem) -> HTTPURL {
        let url: HTTPURL
        do throws(HTTPURLError) { url = try HTTPURL(text.span) } catch {
            throw Problem(400, "\(field): \(error)", field: field)
        }
        if let address = url.address,
            let refusal = push?.policy.refusal(of: address, port: url.port, host: url.host)
        {
            throw Problem(400, "\(field): \(refusal)", field: field)
        }
        return url
    }
}

extension PushOptions {
    /// The request of a task, as it is kept.
    static func request(to url: HTTPURL, timeoutMilliseconds: Int64? = nil) -> [UInt8] {
        var options = PushOptions()
        options.url = url
        options.timeoutMilliseconds = timeoutMilliseconds
        var stored: [UInt8] = []
        options.write(isMasked: false, to: &stored)
        return stored
    }
}

extension ClientRequest {
    /// How many redirects the legacy systems follow.
    static let usualRedirects = 10

    /// A POST of JSON, as the legacy systems send it.
    init(posting json: [UInt8], to url: HTTPURL, timeoutMilliseconds: Int64) {
        self.init(
            url: url, method: Array("POST".utf8),
            fields: Array("User-Agent: emq\r\nContent-Type: application/json\r\n".utf8), body: json)
        self.timeoutMilliseconds = timeoutMilliseconds
        redirectLimit = ClientRequest.usualRedirects
    }
}
