// A replacement for the HTTP client: it keeps the requests, and the test provides the responses.

import Delivery

@testable import Net

/// Takes requests, and reports the replies that a test sets.
final class Postbox: RequestSender {
    /// The end of a request.
    enum Reply {
        /// The bytes of a response, the size of the body to keep, and the time it took in milliseconds.
        case response([UInt8], Int, Int64)
        /// The reason why there is no response.
        case failure(ClientFailure)
    }

    /// The requests in flight, by their keys.
    var requests: [UInt64: ClientRequest] = [:]
    /// The replies that the next call of `advance` reports.
    var answers: [(UInt64, Reply)] = []
    /// The number of requests ever sent.
    var started = 0
    /// The number of requests aborted.
    var cancelled = 0

    /// An empty postbox.
    init() {}

    /// The number of requests in flight to a host.
    func count(to host: String) -> Int { requests.values.count { $0.url.host == host } }

    /// The hosts that cannot be looked up now, and the number of lookups that have ended.
    var unresolvedHosts: Set<String> = []
    var endedLookUps = 0

    /// Whether the host can be looked up.
    func canBegin(_ request: borrowing ClientRequest) -> Bool { !unresolvedHosts.contains(request.url.host) }

    /// Takes the number of lookups that have ended.
    func takeEndedLookUpCount() -> Int {
        defer { endedLookUps = 0 }
        return endedLookUps
    }

    /// Takes a request.
    func send(_ request: consuming ClientRequest, key: UInt64) {
        precondition(requests[key] == nil)
        requests[key] = request
        started += 1
    }

    /// Aborts a request.
    func cancel(_ key: UInt64) {
        if requests.removeValue(forKey: key) != nil { cancelled += 1 }
    }

    /// Reports the replies.
    func advance(_ finished: (UInt64, borrowing ClientOutcome) -> Void) {
        let due = answers
        answers = []
        for (key, reply) in due where requests.removeValue(forKey: key) != nil {
            switch reply {
            case .failure(let failure):
                let outcome = ClientOutcome(.failure(failure), elapsedMilliseconds: 0)
                finished(key, outcome)
            case .response(let bytes, let bodyLimit, let elapsed):
                var buffer = Buffer()
                buffer.append(bytes.span)
                var parser = ResponseParser(limits: ResponseLimits(body: bodyLimit), answersHead: false)
                guard (try? parser.parse(&buffer)) == true else {
                    preconditionFailure("no response: \(String(decoding: bytes, as: UTF8.self))")
                }
                let response = ClientResponse(bytes: buffer.span, head: parser.head)
                let outcome = ClientOutcome(.success(response), elapsedMilliseconds: elapsed)
                finished(key, outcome)
            }
        }
    }
}
