// A substitute for the HTTP client: requests stay here, and the test supplies the outcomes.

import Delivery

@testable import Net

/// Accepts requests, and answers them as a test says.
final class Postbox: RequestSender {
    /// An outcome.
    enum Reply {
        /// The bytes of a response, how much of its body is kept, and how long it took.
        case response([UInt8], Int, Int64)
        /// Why there was no response.
        case failure(ClientFailure)
    }

    /// The requests in flight, by key.
    var requests: [UInt64: ClientRequest] = [:]
    /// The outcomes for the next turn.
    var answers: [(UInt64, Reply)] = []
    /// How many requests were sent in all.
    var started = 0
    /// How many of them were aborted.
    var cancelled = 0

    /// An empty one.
    init() {}

    /// How many requests to a host are in flight.
    func count(to host: String) -> Int { requests.values.count { $0.url.host == host } }

    /// The hosts that cannot be looked up now, and how many look-ups have ended.
    var unresolvedHosts: Set<String> = []
    var endedLookUps = 0

    /// Whether the host can be looked up.
    func canBegin(_ request: borrowing ClientRequest) -> Bool { !unresolvedHosts.contains(request.url.host) }

    /// Takes the number of look-ups that have ended.
    func takeEndedLookUpCount() -> Int {
        defer { endedLookUps = 0 }
        return endedLookUps
    }

    /// Accepts a request.
    func send(_ request: consuming ClientRequest, key: UInt64) {
        precondition(requests[key] == nil)
        requests[key] = request
        started += 1
    }

    /// Aborts a request.
    func cancel(_ key: UInt64) {
        if requests.removeValue(forKey: key) != nil { cancelled += 1 }
    }

    /// Reports the outcomes.
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
