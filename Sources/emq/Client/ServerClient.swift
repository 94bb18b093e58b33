// The client of the commands: it sends requests to a server over the program's own event loop.

import Bytes
import Glibc
import Net

/// A client of one server. Use it on the thread that made it.
final class ServerClient {
    /// The largest response that is read, in bytes.
    private static let bodyLimit = 1 << 30
    /// How long opening a connection may take, in milliseconds.
    private static let connectTimeoutMilliseconds: Int64 = 10_000

    let place: ServerPlace
    let loop: EventLoop
    private let http: HTTPClient
    private let fields: [UInt8]
    private var nextKey: UInt64 = 1
    private var receivers: [UInt64: (Result<ServerResponse, CommandFailure>) -> Void] = [:]
    private var otherReceivers: [UInt64: (borrowing ClientOutcome) -> Void] = [:]
    private var partReceivers: [UInt64: ([UInt8]) -> Void] = [:]
    /// Why requests could not be sent; `turn` reports it, when their senders know their keys.
    private var failures: [(UInt64, CommandFailure)] = []

    /// A client without connections.
    ///
    /// - Throws: `CommandFailure` if the issuers cannot be read, or the system has no descriptors.
    init(_ place: ServerPlace) throws(CommandFailure) {
        self.place = place
        do {
            loop = try EventLoop()
            http = HTTPClient(loop: loop) { _, _, _ in nil }
            if place.base.hasPrefix("https://") {
                http.trust = try TLSTrust(additionalFile: place.issuersPath, option: "--ca")
            }
        } catch {
            throw CommandFailure(.failed, "\(error)")
        }
        let authorization = place.token.map { "Authorization: Bearer \($0)\r\n" } ?? ""
        fields = Array("User-Agent: emq/\(Options.version)\r\n\(authorization)".utf8)
    }

    /// How many requests are in flight.
    var requestCount: Int { receivers.count }

    /// Starts a request. `turn` calls `received` with the response, whatever its status, or with why there is none.
    ///
    /// - Returns: a key for `cancel`.
    @discardableResult
    func send(
        _ request: ServerRequest, received: @escaping (Result<ServerResponse, CommandFailure>) -> Void
    ) -> UInt64 {
        let key = nextKey
        nextKey += 1
        do throws(CommandFailure) {
            var sent = try clientRequest(request)
            sent.timeoutMilliseconds = request.timeoutMilliseconds
            receivers[key] = received
            http.send(sent, key: key)
        } catch {
            receivers[key] = received
            failures.append((key, error))
        }
        return key
    }

    /// Starts a request whose answer goes on until one side ends it. `turn` calls `received` with each part of it, and
    /// `ended` at its end: with the response, whose body is empty if it was a success, or with why there is none. After
    /// `silenceMilliseconds` without a part, the server counts as gone.
    ///
    /// - Returns: a key for `cancel`.
    @discardableResult
    func stream(
        _ request: ServerRequest, silenceMilliseconds: Int64, received: @escaping ([UInt8]) -> Void,
        ended: @escaping (Result<ServerResponse, CommandFailure>) -> Void
    ) -> UInt64 {
        let key = nextKey
        nextKey += 1
        do throws(CommandFailure) {
            var sent = try clientRequest(request)
            sent.streamsBody = true
            sent.timeoutMilliseconds = .max
            sent.firstByteTimeoutMilliseconds = request.timeoutMilliseconds
            sent.idleTimeoutMilliseconds = silenceMilliseconds
            receivers[key] = ended
            partReceivers[key] = received
            http.send(sent, key: key)
        } catch {
            receivers[key] = ended
            failures.append((key, error))
        }
        return key
    }

    private func clientRequest(_ request: ServerRequest) throws(CommandFailure) -> ClientRequest {
        let url: HTTPURL
        do throws(HTTPURLError) { url = try HTTPURL((place.base + request.target).utf8Span.span) } catch {
            throw CommandFailure(.usage, "\(error)")
        }
        var lines = fields
        if request.body != nil { lines += Array("Content-Type: application/json\r\n".utf8) }
        for (name, value) in request.fields { lines += Array("\(name): \(value)\r\n".utf8) }
        var sent = ClientRequest(url: url, method: Array(request.method.utf8), fields: lines, body: request.body)
        sent.socketPath = place.socketPath
        sent.bodyLimit = Self.bodyLimit
        sent.connectTimeoutMilliseconds = Self.connectTimeoutMilliseconds
        return sent
    }

    /// Starts a request to another server. `turn` calls `ended` with its outcome. The token does not go there.
    ///
    /// - Returns: a key for `cancel`.
    func send(_ request: ClientRequest, ended: @escaping (borrowing ClientOutcome) -> Void) -> UInt64 {
        let key = nextKey
        nextKey += 1
        otherReceivers[key] = ended
        http.send(request, key: key)
        return key
    }

    /// Aborts a request. Its receiver is not called.
    func cancel(_ key: UInt64) {
        partReceivers[key] = nil
        if receivers.removeValue(forKey: key) != nil || otherReceivers.removeValue(forKey: key) != nil {
            http.cancel(key)
        }
    }

    /// Asks the server to answer a request now: a wait for tasks ends when this side of its connection does. The receiver
    /// is called as usual.
    ///
    /// - Returns: false if the request has not been sent as a whole. Then nothing happens.
    func endSending(_ key: UInt64) -> Bool { receivers[key] != nil && http.endSending(key) }

    /// Aborts all requests, and forgets their receivers, which may refer to the owner of this client.
    func close() {
        for key in Array(receivers.keys) + Array(otherReceivers.keys) { cancel(key) }
        failures = []
    }

    /// Waits until something happens or the loop's time is `deadline`, and reports the responses that have arrived.
    func turn(until deadline: Int64?) {
        if advance() { return }
        loop.turn(until: deadline)
        _ = advance()
    }

    /// Reports the responses, and the parts of them, that have arrived; false if there are none.
    private func advance() -> Bool {
        var parts: [(UInt64, [UInt8])] = []
        var ended: [(UInt64, Result<ServerResponse, CommandFailure>)] = failures.map { ($0.0, .failure($0.1)) }
        failures = []
        var hasOthers = false
        http.advance(
            received: { key, _, part in parts.append((key, Array(copying: part))) },
            finished: { key, outcome in
                if let receiver = otherReceivers.removeValue(forKey: key) {
                    hasOthers = true
                    receiver(outcome)
                } else {
                    ended.append((key, Self.result(of: outcome)))
                }
            })
        for (key, part) in parts { partReceivers[key]?(part) }
        for (key, result) in ended {
            partReceivers[key] = nil
            receivers.removeValue(forKey: key)?(result)
        }
        return hasOthers || !parts.isEmpty || !ended.isEmpty
    }

    /// Sends a request, and waits for the response.
    ///
    /// - Returns: the response, whatever its status.
    /// - Throws: `CommandFailure` if there is none.
    func response(to request: ServerRequest) throws(CommandFailure) -> ServerResponse {
        var result: Result<ServerResponse, CommandFailure>?
        send(request) { result = $0 }
        while true {
            if let result { return try result.get() }
            turn(until: nil)
        }
    }

    private static func result(of outcome: borrowing ClientOutcome) -> Result<ServerResponse, CommandFailure> {
        switch outcome.result {
        case .success(let response):
            var fields: [String: String] = [:]
            for (name, value) in response.joinedFields { fields[name.lowercased()] = value }
            return .success(
                ServerResponse(status: response.status, body: Array(copying: response.body), fields: fields))
        case .failure(let failure):
            let advice = failure.isRefused ? "; is the server running? (--url or EMQ_URL says where)" : ""
            return .failure(CommandFailure(.notReachable, "\(failure)\(advice)"))
        }
    }
}
