// A server that each test controls, and a client to test, both on the test's thread. The client's loop turns while a
// test waits.

import Foundation
import Support
import Testing

@testable import Net

/// A whole response whose body is `ok`.
let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/// A copy of an exchange's outcome.
struct Ended {
    var status = 0
    var fields: [String] = []
    var body = ""
    var isTruncated = false
    var failure: ClientFailure?
    var elapsedMilliseconds: Int64 = 0
}

/// The issuers that clients of these suites trust; nil unless they run over TLS.
func suiteTrust() throws -> TLSTrust? { TestTLS.isOverTLS ? try testTrust() : nil }

/// The issuer of the tests' own certificates.
func testTrust() throws -> TLSTrust {
    let authority = try Certificates.shared.authorityFile
    return try TLSTrust(authorities: Array(Data(contentsOf: URL(fileURLWithPath: authority))))
}

/// A client on its own loop. `names` has the addresses of each name. `beforeLookUp` is called on the thread that looks
/// a name up.
final class TestClient {
    let loop: EventLoop
    let client: HTTPClient
    private(set) var ended: [UInt64: Ended] = [:]
    /// The parts of streamed bodies.
    private(set) var parts: [UInt64: [String]] = [:]
    /// Called for each part of a streamed body.
    var onPart: (UInt64) -> Void = { _ in }
    /// Called during `advance` for each exchange that ends.
    var onEnd: (UInt64) -> Void = { _ in }

    init(
        names: [String: [String]] = [:], refusing refused: [String] = [],
        limits change: (inout ClientLimits) -> Void = { _ in }, clock: TestClock = TestClock(),
        beforeLookUp: @escaping @Sendable (String) -> Void = { _ in }
    ) throws {
        var limits = ClientLimits()
        // Longer than any test takes; some tests set a shorter time.
        limits.idleTimeoutMilliseconds = 600_000
        change(&limits)
        loop = try EventLoop { clock.now }
        final class Asked { var list: [String] = [] }
        let asked = Asked()
        client = HTTPClient(
            loop: loop, limits: limits,
            refusal: { address, port, host in
                asked.list.append("\(address) \(host)")
                return refused.contains(address.description) ? "it is on the list" : nil
            },
            lookUp: { name in
                beforeLookUp(name)
                guard let addresses = names[name] else {
                    return name == "localhost"
                        ? NameResolver.systemLookUp(name)
                        : .failure(SystemError("find the host", reason: "it is not in the test's list"))
                }
                return .success(addresses.compactMap { IPAddress($0) })
            })
        client.trust = try suiteTrust()
        readAsked = { asked.list }
    }

    private let readAsked: () -> [String]
    /// The questions that `refusal` was asked.
    var refusalQuestions: [String] { readAsked() }

    func send(
        _ key: UInt64, _ url: String, method: String = "GET", fields: String = "", body: String? = nil,
        _ change: (inout ClientRequest) -> Void = { _ in }
    ) throws {
        var request = ClientRequest(
            url: try HTTPURL(Array(url.utf8).span), method: Array(method.utf8), fields: Array(fields.utf8),
            body: body.map { Array($0.utf8) })
        request.connectTimeoutMilliseconds = 600_000
        request.timeoutMilliseconds = 600_000
        change(&request)
        client.send(request, key: key)
    }

    func turn() {
        loop.turn(until: loop.updateNow() + 5)
        client.advance(received: { key, status, part in
            #expect((200..<300).contains(status) && !part.isEmpty)
            #expect(ended[key] == nil, "parts come before the end")
            parts[key, default: []].append(String(decoding: part))
            onPart(key)
        }) { key, outcome in
            var end = Ended()
            end.elapsedMilliseconds = outcome.elapsedMilliseconds
            switch outcome.result {
            case .success(let response):
                end.status = response.status
                end.isTruncated = response.isTruncated
                end.body = String(decoding: response.body)
                response.forEachField { name, value in
                    let text = [String(decoding: name), String(decoding: value)]
                    end.fields.append(text.joined(separator: "="))
                }
            case .failure(let failure): end.failure = failure
            }
            #expect(ended[key] == nil, "an exchange is reported once")
            ended[key] = end
            onEnd(key)
        }
    }

    /// Turns the loop until there is a value.
    func wait<Value>(_ what: String = "", for value: () throws -> Value?) throws -> Value {
        let deadline = loop.updateNow() + 110_000
        while true {
            if let found = try value() { return found }
            guard loop.now < deadline else { throw Failure(description: "waited in vain: \(what)") }
            turn()
        }
    }

    /// Waits for the outcome of an exchange.
    func end(of key: UInt64) throws -> Ended { try wait("the end of \(key)") { ended[key] } }

    /// What has arrived of a streamed body.
    func streamed(_ key: UInt64) -> String { parts[key, default: []].joined() }

    func accept(at origin: TestOrigin) throws -> OriginPeer { try wait("a connection") { origin.accept() } }

    /// Waits for the next complete request at a connection.
    func request(at peer: OriginPeer) throws -> String { try wait("a request") { peer.takeRequest() } }

    /// Sends a request, answers it on a new connection, and waits for the outcome.
    @discardableResult
    func exchange(_ key: UInt64, at origin: TestOrigin, response: String) throws -> (OriginPeer, Ended) {
        try send(key, origin.url) { $0.socketPath = origin.path }
        let peer = try accept(at: origin)
        _ = try request(at: peer)
        let bytes = Array(response.utf8)
        var sent = 0
        let end = try wait("the end of \(key)") {
            if sent < bytes.count { sent += max(0, peer.send(Array(bytes[sent...]))) }
            return ended[key]
        }
        return (peer, end)
    }
}

/// A listening socket. Over TLS, its connections can be accepted after their handshakes, which other threads do.
final class TestOrigin {
    private let socket: TestSocket
    private let line = Line()

    /// The connections whose handshakes are done.
    private final class Line: @unchecked Sendable {
        // @unchecked: `lock` protects the connections. It is no `Mutex`, which the thread sanitizer does not know.
        private let lock = NSLock()
        private var connections: [TestSocket] = []

        func append(_ connection: TestSocket) { lock.withLock { connections.append(connection) } }

        func next() -> TestSocket? { lock.withLock { connections.isEmpty ? nil : connections.removeFirst() } }
    }
    private let isSecure: Bool
    let port: UInt16
    let address: String
    /// The path of its Unix-domain socket; nil if it listens at a port.
    let path: String?

    var url: String { path == nil ? "\(isSecure ? "https" : "http")://\(address):\(port)/" : "http://localhost/" }

    /// Listens at a Unix-domain socket, without TLS.
    init(path: String, backlog: Int32 = 128) throws {
        (self.path, address, port, isSecure) = (path, "", 0, false)
        socket = try TestSocket(listeningAt: .path(path), backlog: backlog)
    }

    init(
        _ address: String = "127.0.0.1", port: UInt16 = 0, receiveBufferBytes: Int32? = nil,
        certificate: Certificates.Kind? = TestTLS.isOverTLS ? .good : nil
    ) throws {
        self.address = address
        path = nil
        isSecure = certificate != nil
        socket = try TestSocket(
            listeningAt: .ipv4(address, port: port), receiveBufferBytes: receiveBufferBytes,
            tls: try certificate.map { try .server($0) })
        self.port = socket.localPort
        guard isSecure else { return }
        let (listener, line) = (socket, line)
        Thread.detachNewThread {
            while let connection = listener.accept() {
                Thread.detachNewThread {
                    if connection.shakeHands() { line.append(connection) }
                }
            }
        }
    }

    /// Ends the thread that accepts connections.
    deinit { socket.shutDown() }

    /// The next connection; nil if there is none now.
    func accept() -> OriginPeer? {
        if isSecure { return line.next().map { OriginPeer($0) } }
        return socket.isReadable(withinMilliseconds: 0) ? socket.accept().map { OriginPeer($0) } : nil
    }
}

/// The server's side of a connection.
final class OriginPeer {
    private let socket: TestSocket
    private var received: [UInt8] = []
    private(set) var hasEnded = false

    init(_ socket: TestSocket) { self.socket = socket }

    /// Sends as much as there is room for now.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Int { socket.sendNow(bytes) }

    @discardableResult
    func send(_ text: String) -> Int { send(Array(text.utf8)) }

    /// Ends this side.
    func halfClose() { socket.halfClose() }

    /// Ends both sides of the socket, without a goodbye of TLS.
    func shutDown() { socket.shutDown() }

    /// Makes `close` reset the connection.
    func resetOnClose() { socket.resetOnClose() }

    func close() { socket.close() }

    /// Reads everything that has arrived.
    func receive() -> [UInt8] {
        while !hasEnded, let chunk = socket.receiveNow(1 << 20) {
            hasEnded = chunk.isEmpty
            received += chunk
        }
        return received
    }

    /// true if the client has closed; nil otherwise.
    func closed() -> Bool? {
        _ = receive()
        return hasEnded ? true : nil
    }

    /// Waits for input without turning the client's loop; false if that takes too long.
    func waitForInput() -> Bool { socket.isReadable() }

    /// Whether input waits to be read.
    var hasInput: Bool { socket.isReadable(withinMilliseconds: 0) }

    /// Removes and returns a complete request; nil if there is none.
    func takeRequest() -> String? {
        _ = receive()
        var parser = RequestParser(limits: RequestLimits())
        var buffer = Buffer()
        var heads = HeadCache()
        buffer.append(received.span)
        guard let isWhole = try? parser.parse(&buffer, &heads), isWhole else { return nil }
        let text = String(decoding: received[..<parser.length], as: UTF8.self)
        received.removeFirst(parser.length)
        return text
    }
}
