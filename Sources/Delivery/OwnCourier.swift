// emq's own way to send tasks: `push` and `request`, as docs/api.md describes them.

import Bytes
import JSON
import Net
import Queues
import UID

/// Sends tasks by their own `request` and their queue's `push`.
public final class OwnCourier: Courier {
    /// The timeout of a request if neither the task nor its queue sets one.
    static let defaultTimeoutMilliseconds = TaskDelivery.defaultTimeoutMilliseconds

    /// The default number of tasks of a queue in flight at once.
    public let concurrency = 10
    private let describe: (borrowing TaskView) -> [UInt8]
    /// The issuers of queues' `ca`, by its text. Queues with the same text share connections and sessions.
    private var trusts: [[UInt8]: (trust: TLSTrust, lastUse: UInt64)] = [:]
    private var useCount: UInt64 = 0
    private static let maximumTrusts = 100

    /// - Parameter describe: the JSON of a dead task, which is the content of its dead-letter notification.
    public init(describe: @escaping (borrowing TaskView) -> [UInt8]) { self.describe = describe }

    /// Takes each option from the task's own request, or from its queue's push if the task does not set it. The values
    /// of the queue's headers are secrets between the queue and its receiver. A task whose own URL leads to another
    /// host or port does not carry them there, and neither does a dead-letter notification.
    public func request(
        for task: borrowing TaskView, of queue: SendingQueue, unixMilliseconds: Int64
    ) throws(TaskRequestError) -> ClientRequest {
        let own = PushOptions(stored: task.origin.isEmpty ? task.request : [], of: .task)
        let options = queue.options
        guard let url = own.url ?? options.url else {
            throw TaskRequestError("neither the task nor its queue's push has a url")
        }
        let method = own.method ?? options.method ?? Array("POST".utf8)
        var headers = own.headers
        if options.url.map({ $0.origin == url.origin }) ?? !own.isNotice {
            for header in options.headers
            where !headers.contains(where: { $0.name.lowercasedASCII == header.name.lowercasedASCII }) {
                headers.append(header)
            }
        }
        let hasBody = !method.elementsEqual("GET".utf8) && !method.elementsEqual("HEAD".utf8)
        let body = hasBody ? own.body ?? Array(copying: task.content) : nil

        var fields: [UInt8] = []
        fields.reserveCapacity(256)
        var (hasType, hasAgent) = (!hasBody, false)
        // A task's header may be older than the queue's signature.
        for header in headers where options.signature?.reserves(header.name) != true {
            Self.append(header.name, header.value, to: &fields)
            if header.name.lowercasedASCII.elementsEqual("content-type".utf8) { hasType = true }
            if header.name.lowercasedASCII.elementsEqual("user-agent".utf8) { hasAgent = true }
        }
        Self.appendTrace(task.trace, unlessIn: headers, to: &fields)
        if !hasAgent { fields += "User-Agent: emq\r\n".utf8 }
        if !hasType { fields += "Content-Type: application/json\r\n".utf8 }
        let id = task.id.text
        // The dispatch will count this attempt.
        TaskDelivery.appendFields(
            id: id.span, encodedQueue: queue.encodedName, attempt: Int64(task.attempt) + 1, to: &fields)
        let signed = body ?? []
        (options.signature ?? .emq).appendFields(
            id: Array(copying: id.span), secrets: options.secrets, unixSeconds: unixMilliseconds / 1000,
            body: signed.span, to: &fields)
        var request = ClientRequest(url: url, method: method, fields: fields, body: body)
        request.timeoutMilliseconds =
            own.timeoutMilliseconds ?? options.timeoutMilliseconds ?? Self.defaultTimeoutMilliseconds
        // A redirect may lead to https.
        if let ca = options.ca { request.trust = try trust(in: ca) }
        return request
    }

    /// - Throws: `TaskRequestError` if the text was not checked, or there is no OpenSSL any more.
    private func trust(in ca: [UInt8]) throws(TaskRequestError) -> TLSTrust {
        useCount += 1
        if let known = trusts[ca]?.trust {
            trusts[ca]?.lastUse = useCount
            return known
        }
        do throws(TLSError) {
            let trust = try TLSTrust(authorities: ca)
            if trusts.count == Self.maximumTrusts, let oldest = trusts.min(by: { $0.value.lastUse < $1.value.lastUse })
            {
                trusts[oldest.key] = nil
            }
            trusts[ca] = (trust, useCount)
            return trust
        } catch {
            throw TaskRequestError("the ca of the queue's push cannot be used: \(error)")
        }
    }

    /// A status of 2xx means success, and 410 that no retry is wanted. Any other response may ask for a pause in place of
    /// the backoff.
    public func outcome(of attempt: Attempt, after clientOutcome: borrowing ClientOutcome) -> Attempt.Outcome {
        switch clientOutcome.result {
        case .failure(let failure): return attempt.outcome(after: failure)
        case .success(let response):
            let result = attempt.result(of: response, elapsedMilliseconds: clientOutcome.elapsedMilliseconds)
            switch TaskDelivery.verdict(on: response, from: attempt.place, now: attempt.endUnixMilliseconds) {
            case .done: return .done(result: result)
            case .unwanted(let error): return .unwanted(error: error, result: result)
            case .failed(let error, let pause):
                let action = pause.map { NakAction.failedPausing(milliseconds: $0) } ?? .failed
                return .failed(action, error: error, result: result)
            }
        }
    }

    /// Sends the whole task to its own `on_dead` or, if it has none, to its queue's.
    public func deadLetterNotification(
        for task: borrowing TaskView, in queueName: [UInt8], push: PushOptions
    ) -> DeadLetterNotification? {
        var url = push.onDead
        if !task.request.isEmpty {
            let own = PushOptions(stored: task.request, of: .task)
            // A notification causes no other one: two queues that are each other's dead-letter queue would never end.
            if own.isNotice { return nil }
            // A task that died as a dead letter has used up its own request.
            if task.origin.isEmpty || task.origin == queueName { url = own.onDead ?? url }
        }
        return url.map { DeadLetterNotification(url: $0, content: describe(task)) }
    }

    /// Passes on the request that added the task, except what the headers set themselves.
    private static func appendTrace(
        _ trace: TraceContext, unlessIn headers: [PushOptions.Header], to fields: inout [UInt8]
    ) {
        if trace.isEmpty { return }
        for (name, value) in [("X-Request-Id", trace.requestID), ("traceparent", trace.traceparent)] {
            let bytes = Array(name.utf8)
            let isSet = headers.contains { $0.name.lowercasedASCII == bytes.lowercasedASCII }
            if !value.isEmpty, !isSet { append(bytes, value, to: &fields) }
        }
    }

    private static func append(_ name: [UInt8], _ value: [UInt8], to fields: inout [UInt8]) {
        fields += name
        fields += ": ".utf8
        fields += value
        fields += "\r\n".utf8
    }
}
