// A server in this process, on its own thread, with a small handler and the limits that a test sets.

import Foundation
import Support
import Synchronization
import Testing

@testable import Net

/// What the handler has recorded, and the server's state after its last turn.
struct Seen {
    fileprivate(set) var handled = 0
    fileprivate(set) var undelivered: [UInt64] = []
    fileprivate(set) var withdrawals = 0
    fileprivate(set) var held: [Ticket] = []
    fileprivate(set) var turns = 0
    /// The time of the last turn, by the server's clock.
    fileprivate(set) var now: Int64 = 0
    fileprivate(set) var turnsBeforeHold = 0
    fileprivate(set) var turnsBeforeWithdrawal = 0
    fileprivate(set) var connectionCount = 0
    fileprivate(set) var bufferBytes = 0
    fileprivate(set) var hasUnsentAnswers = false
    /// How often requests were postponed, and the numbers and body sizes of the requests that passed the gate.
    fileprivate(set) var postponements = 0
    fileprivate(set) var letIn: [Int] = []
    fileprivate(set) var letInBodyBytes: [Int] = []
    /// The highest released mark, and whether anything was unsent at the end of the turn that released it.
    fileprivate(set) var releasedMark: UInt64 = 0
    fileprivate(set) var wasUnsentAfterRelease = false
}

/// The owner of the server's state: an actor that lives on its event loop.
actor Recorder {
    fileprivate nonisolated let loop: EventLoop
    fileprivate nonisolated let clock: TestClock
    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    fileprivate nonisolated let isStopping = Atomic(false)
    /// The tests' orders for the beginning of the next turn.
    fileprivate nonisolated let markToRelease = Atomic<UInt64>(0)
    fileprivate nonisolated let isGateOpen = Atomic(false)
    fileprivate nonisolated let shallResume = Atomic(false)
    fileprivate var server: HTTPServer?

    fileprivate var record = Seen()
    var number = 0
    private var turnToOpenGateIn: Int?

    private let lock = NSLock()
    // Protected by `lock`, because the tests' threads read it. Awaiting the actor instead would make a test wait for
    // all other runnable tests on a machine with few cores.
    private nonisolated(unsafe) var published = Seen()
    private nonisolated(unsafe) var orders: [@Sendable (isolated Recorder) -> Void] = []

    init(loop: EventLoop, clock: TestClock) {
        self.loop = loop
        self.clock = clock
    }

    /// The record after the server's last turn. Any thread.
    nonisolated var seen: Seen { lock.withLock { unsafe published } }

    /// Lets the server's thread do something at the beginning of the next turn. Any thread.
    nonisolated func order(_ body: @escaping @Sendable (isolated Recorder) -> Void) {
        lock.withLock { unsafe orders.append(body) }
        loop.wake()
    }

    /// Sends on peers' sockets and opens the gate at the beginning of the next turn, which reads what was sent.
    func openGateInTheNextTurn(after sent: [(TestSocket, String)]) {
        for (socket, text) in sent { #expect(socket.sendNow(Array(text.utf8)) == text.utf8.count) }
        turnToOpenGateIn = record.turns + 2
    }

    /// Carries out the tests' orders since the last turn.
    fileprivate func beginTurn(now: Int64) {
        record.turns += 1
        record.now = now
        let mark = markToRelease.load(ordering: .acquiring)
        if mark > record.releasedMark { server?.release(upTo: mark) }
        if record.turns == turnToOpenGateIn {
            isGateOpen.store(true, ordering: .releasing)
            server?.resume()
        }
        let orders = lock.withLock {
            let orders = unsafe self.orders
            unsafe self.orders = []
            return orders
        }
        for order in orders { order(self) }
        if shallResume.exchange(false, ordering: .acquiringAndReleasing) { server?.resume() }
    }

    fileprivate func endTurn() {
        let mark = server?.releasedMark ?? 0
        record.hasUnsentAnswers = server?.hasUnsentAnswers ?? false
        if mark > record.releasedMark { record.wasUnsentAfterRelease = record.hasUnsentAnswers }
        record.releasedMark = mark
        record.connectionCount = server?.connectionCount ?? 0
        record.bufferBytes = server?.bufferBytes ?? 0
        lock.withLock { unsafe published = record }
    }

    /// Answers an owed request and holds the answer until a mark; false if the client no longer waits.
    func answer(_ ticket: Ticket, _ text: StaticString, heldUntil mark: UInt64 = 0) -> Bool {
        server?.answer(ticket) {
            EchoHandler.write(text, to: &$0)
            $0.hold(until: mark)
        } ?? false
    }

    /// Adds to a stream, in the way of `HTTPServer.extend`.
    func extend(_ ticket: Ticket, _ part: String, heldUntil mark: UInt64 = 0) -> Bool {
        server?.extend(ticket) {
            $0.append(Array(part.utf8).span)
            $0.hold(until: mark)
        } ?? false
    }

    /// Ends a stream with a last part.
    func answer(_ ticket: Ticket, part: StaticString) -> Bool { server?.answer(ticket) { $0.append(part) } ?? false }

    func hasUntakenParts(_ ticket: Ticket) -> Bool? { server?.hasUntakenParts(ticket) }

    /// Adds one in two steps, so that concurrent calls would lose additions.
    func increment() {
        loop.checkIsolated()
        let before = number
        number = before + 1
    }

    fileprivate nonisolated func stop() {
        isStopping.store(true, ordering: .releasing)
        loop.wake()
    }
}

/// Collects a body as it arrives.
private final class CountingObserver: BodyObserver {
    private(set) var seen: [UInt8] = []

    override func consume(_ bytes: Span<UInt8>) {
        for index in bytes.indices { seen.append(bytes[index]) }
    }
}

/// The routes of the test server. A query is a number. All requests but those to `/turn` are counted.
///
/// - `/large`: answers with that many bytes.
/// - `/tracked`: does so too, and tracks the answer with the number as its key.
/// - `/until`: answers `until`, held until that mark.
/// - `/tracked-until`: does so too, and tracks the answer with the mark as its key.
/// - `/gate`: is postponed until the gate is open.
/// - `/hold`: owes its answer.
/// - `/stream`: begins an answer that goes on until the connection closes.
/// - `/observed`: says whether the body was observed correctly as it arrived.
/// - `/service`: says which service the request belongs to, 0 or 7.
/// - Anything else answers `ok`.
private struct EchoHandler: ~Copyable, RequestHandler {
    private(set) var isFinished = false

    mutating func handle(
        _ request: borrowing Request, _ responses: inout ResponseStream, on recorder: isolated Recorder
    ) -> Outcome {
        if request.path.equals("/turn") {
            EchoHandler.write("ok", to: &responses)
            return .answered
        }
        recorder.record.handled += 1
        var number = 0
        for index in request.query.indices { number = number * 10 + Int(request.query[index] - 0x30) }
        if request.path.equals("/stream") {
            responses.beginStream(contentType: "text/plain")
            responses.endHead()
            recorder.record.held.append(request.ticket)
            return .owed(recorder)
        }
        if request.path.equals("/hold") {
            recorder.record.held.append(request.ticket)
            recorder.record.turnsBeforeHold = recorder.record.turns
            return .owed(recorder)
        }
        if request.path.equals("/service") {
            EchoHandler.write(request.service == 0 ? "service 0" : "service 7", to: &responses)
            return .answered
        }
        if request.path.equals("/gate") {
            guard recorder.isGateOpen.load(ordering: .acquiring) else {
                recorder.record.postponements += 1
                return .postponed
            }
            recorder.record.letIn.append(number)
            recorder.record.letInBodyBytes.append(request.body.count)
        }
        if request.path.equals("/until") || request.path.equals("/tracked-until") {
            responses.begin(status: 200, contentType: "text/plain")
            if request.path.equals("/tracked-until") { responses.track(UInt64(number)) }
            responses.beginBody()
            responses.append("until")
            responses.end()
            responses.hold(until: UInt64(number))
            return .answered
        }
        if request.path.equals("/observed") {
            let observer = request.bodyObserver as? CountingObserver
            let body = request.body
            let isSame = observer.map { seen in body.indices.allSatisfy { body[$0] == seen.seen[$0] } } ?? false
            responses.begin(status: 200, contentType: "text/plain")
            responses.beginBody()
            responses.append(observer == nil ? "not observed" : isSame ? "the same" : "another")
            responses.end()
            return .answered
        }
        if request.path.equals("/large") || request.path.equals("/tracked") {
            responses.begin(status: 200, contentType: "text/plain")
            if request.path.equals("/tracked") { responses.track(UInt64(number)) }
            responses.beginBody()
            let content = [UInt8](repeating: UInt8(ascii: "x"), count: number)
            responses.append(content.span)
            responses.end()
            return .answered
        }
        EchoHandler.write("ok", to: &responses)
        return .answered
    }

    mutating func admits(_ request: borrowing Request, _ responses: inout ResponseStream) -> Bool {
        if request.path.equals("/forbidden"), request.service == 7 {
            EchoHandler.write("not here", to: &responses)
            return false
        }
        if !request.path.equals("/forbidden") { return true }
        EchoHandler.write("no", to: &responses)
        return false
    }

    mutating func refuse(_ refusal: Refusal, service: Int, _ responses: inout ResponseStream) {
        responses.begin(status: refusal.status, contentType: "text/plain")
        responses.beginBody()
        if service != 0 { responses.append("service 7: ") }
        responses.append(Array(refusal.detail.utf8).span)
        responses.end()
    }

    mutating func withdraw(_ withdrawal: AnyObject, _ responses: inout ResponseStream, on recorder: isolated Recorder) {
        withdraw(withdrawal, on: recorder)
        EchoHandler.write("withdrawn", to: &responses)
    }

    mutating func withdraw(_ withdrawal: AnyObject, on recorder: isolated Recorder) {
        recorder.record.withdrawals += 1
        recorder.record.turnsBeforeWithdrawal = recorder.record.turns
    }

    mutating func undelivered(_ keys: [UInt64], on recorder: isolated Recorder) {
        recorder.record.undelivered += keys
    }

    mutating func bodyObserver() -> BodyObserver? { CountingObserver() }

    mutating func beginTurn(now: Int64, on recorder: isolated Recorder) {
        recorder.beginTurn(now: now)
        isFinished = recorder.isStopping.load(ordering: .acquiring)
    }

    func endTurn(on recorder: isolated Recorder) -> Int64? {
        recorder.endTurn()
        return nil
    }

    static func write(_ text: StaticString, to responses: inout ResponseStream) {
        responses.begin(status: 200, contentType: "text/plain")
        responses.beginBody()
        responses.append(text)
        responses.end()
    }
}

/// A clock that tests can advance.
final class TestClock: Sendable {
    private let base = EventLoop.steadyClock()
    private let lead = Atomic<Int64>(0)

    /// Milliseconds since the Unix epoch, plus what was added.
    var now: Int64 { base() + lead.load(ordering: .sequentiallyConsistent) }

    func add(milliseconds: Int64) { lead.add(milliseconds, ordering: .sequentiallyConsistent) }
}

/// A running server. It stops when the test releases it.
///
/// Its timeouts are hours long unless a test sets them. They pass only when the test advances the clock, however slow
/// the machine is.
final class TestServer {
    /// Much longer than any test takes.
    static let timeoutMilliseconds: Int64 = 10_000_000

    let recorder: Recorder
    let addresses: [Address]
    private let isSecure: Bool
    private let end: DispatchSemaphore

    var port: UInt16 {
        guard case .tcp(_, let port) = addresses.first else { return 0 }
        return port
    }

    /// - Throws: The error of `HTTPServer.listen`.
    init(
        _ address: Address = .tcp(host: "127.0.0.1", port: 0), secondService: Address? = nil,
        isSecure: Bool = TestTLS.isOverTLS, _ change: (inout ServerLimits) -> Void = { _ in }
    ) throws {
        var limits = ServerLimits()
        limits.headTimeoutMilliseconds = Self.timeoutMilliseconds
        limits.bodyTimeoutMilliseconds = Self.timeoutMilliseconds
        limits.idleTimeoutMilliseconds = Self.timeoutMilliseconds
        limits.sendTimeoutMilliseconds = Self.timeoutMilliseconds
        limits.lingerTimeoutMilliseconds = Self.timeoutMilliseconds
        limits.handshakeTimeoutMilliseconds = Self.timeoutMilliseconds
        change(&limits)
        let start = Start(address: address, secondService: secondService, isSecure: isSecure, limits: limits)
        Thread.detachNewThread { start.run() }
        start.began.wait()
        let (recorder, addresses) = try start.result.get()
        self.recorder = recorder
        self.addresses = addresses
        self.isSecure = isSecure
        end = start.ended
    }

    deinit { stop() }

    /// Stops the server as at the end of the program, closes its connections, and waits until that is done.
    func stop() {
        recorder.stop()
        end.wait()
        end.signal()
    }

    /// Releases held answers at the beginning of the next turn, and waits for that turn to end.
    func release(upTo mark: UInt64) throws {
        recorder.markToRelease.store(mark, ordering: .releasing)
        recorder.loop.wake()
        try eventually("the release") { $0.releasedMark == mark }
    }

    /// Calls `body` on the server's thread at the beginning of the next turn, and returns its answer.
    func onLoop<Value: Sendable>(_ body: @escaping @Sendable (isolated Recorder) -> Value) throws -> Value {
        let answer = Answer<Value>()
        recorder.order { answer.value = body($0) }
        try eventually("the server's answer") { _ in answer.value != nil }
        return try #require(answer.value)
    }

    /// Opens the gate, and resumes postponed requests at the beginning of the next turn.
    func openGate() {
        recorder.isGateOpen.store(true, ordering: .releasing)
        resume()
    }

    func resume() {
        recorder.shallResume.store(true, ordering: .releasing)
        recorder.loop.wake()
    }

    func connect(receiveBuffer: Int32? = nil) throws -> Peer {
        let peer =
            if case .unix(let path) = addresses.first {
                try Peer(path: path)
            } else {
                try Peer(port: port, receiveBuffer: receiveBuffer, isSecure: isSecure)
            }
        peer.server = self
        return peer
    }

    var seen: Seen { recorder.seen }

    /// Repeats the question until the answer is true. Advances the server's clock by `seconds` after each false answer.
    func eventually(_ what: String, passingSeconds seconds: Int64 = 0, _ question: (Seen) throws -> Bool) throws {
        let deadline = Date(timeIntervalSinceNow: 120)
        while try !question(seen) {
            if Date() > deadline { throw Failure(description: "waited in vain: \(what)") }
            if seconds > 0 { try pass(seconds: seconds) }
            usleep(2000)
        }
    }

    /// Waits until the server has read what was sent, advances its clock, and waits for a turn at the new time.
    func pass(seconds: Int64) throws {
        try letTurnsPass()
        recorder.clock.add(milliseconds: seconds * 1000)
        let now = recorder.clock.now
        recorder.loop.wake()
        try eventually("a turn") { $0.now >= now }
    }

    /// Waits for a few turns of the server, by sending requests on another connection.
    func letTurnsPass() throws {
        let other = try connect()
        for _ in 0..<3 {
            other.sendGet("/turn")
            #expect(try other.body() == "ok")
        }
    }
}

/// What the server's thread has answered.
private final class Answer<Value: Sendable>: @unchecked Sendable {
    // @unchecked: `lock` protects the value. It is no `Mutex`, which the thread sanitizer does not know.
    private let lock = NSLock()
    private var stored: Value?

    var value: Value? {
        get { lock.withLock { stored } }
        set { lock.withLock { stored = newValue } }
    }
}

/// The state that the starting thread shares with the server's thread. The semaphores order every access.
private final class Start: @unchecked Sendable {
    let began = DispatchSemaphore(value: 0)
    let ended = DispatchSemaphore(value: 0)
    private(set) var result: Result<(Recorder, [Address]), any Error> = .failure(Failure(description: "not started"))
    private let address: Address
    /// The address of service 7.
    private let secondService: Address?
    private let isSecure: Bool
    private let limits: ServerLimits

    init(address: Address, secondService: Address?, isSecure: Bool, limits: ServerLimits) {
        self.address = address
        self.isSecure = isSecure
        self.secondService = secondService
        self.limits = limits
    }

    /// The certificate for an address; nil if it is plain.
    private func identity(for address: Address) throws -> TLSIdentity? {
        guard isSecure, case .tcp = address else { return nil }
        let pair = try Certificates.shared.pair(.good)
        return try TLSIdentity(TLSFiles(certificate: pair.chain, key: pair.key))
    }

    func run() {
        do {
            let clock = TestClock()
            let loop = try EventLoop { clock.now }
            let recorder = Recorder(loop: loop, clock: clock)
            try recorder.assumeIsolated { recorder in
                let server = HTTPServer(loop: loop, limits: limits)
                recorder.server = server
                var addresses = try server.listen(address, tls: try identity(for: address))
                if let secondService {
                    addresses += try server.listen(
                        secondService, service: 7, tls: try identity(for: secondService))
                }
                result = .success((recorder, addresses))
                began.signal()
                var handler = EchoHandler()
                server.run(&handler, on: recorder)
                server.stopListening()
                recorder.server = nil
            }
        } catch {
            result = .failure(error)
            began.signal()
        }
        ended.signal()
    }
}

/// How much memory the server counts for each connection without unread bytes.
let idleBytes = TestTLS.isOverTLS ? TLSTransport.idleBytes : 0

extension Trait where Self == ConditionTrait {
    /// For tests about plain sockets.
    static func plainOnly(_ reason: String) -> Self { .disabled(if: TestTLS.isOverTLS, "skipped: \(reason)") }
}

/// The client's side of a connection to a server.
final class Peer {
    let socket: TestSocket
    /// Retained, so that the server runs as long as the peer exists.
    fileprivate var server: TestServer?

    init(
        port: UInt16, isIPv6: Bool = false, receiveBuffer: Int32? = nil, isSecure: Bool = TestTLS.isOverTLS
    ) throws {
        socket = try TestSocket(
            connectedTo: isIPv6 ? .ipv6Loopback(port: port) : .ipv4(port: port), receiveBufferBytes: receiveBuffer,
            tls: isSecure ? try .standardClient : nil)
    }

    init(path: String) throws { socket = try TestSocket(connectedTo: .path(path)) }

    /// Sends all bytes; false if the server has closed the connection.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool { socket.send(bytes) }

    @discardableResult
    func send(_ text: String) -> Bool { send(Array(text.utf8)) }

    func sendGet(_ target: String) { send("GET \(target) HTTP/1.1\r\nHost: h\r\n\r\n") }

    func halfClose() { socket.halfClose() }

    /// Makes closing reset the connection.
    func resetOnClose() { socket.resetOnClose() }

    /// Whether there are bytes or the end of the connection to read now.
    var isReadable: Bool { isReadable(within: 0) }

    /// Whether bytes or the end of the connection arrive within that time.
    func isReadable(within milliseconds: Int) -> Bool { socket.isReadable(withinMilliseconds: milliseconds) }

    /// Reads up to `count` bytes; empty at the end of the connection.
    func receive(_ count: Int = 65536) throws -> [UInt8] { try socket.receive(count) }

    /// Reads everything until the server ends the connection.
    func receiveAll() throws -> String {
        var all: [UInt8] = []
        while true {
            let chunk = try receive()
            if chunk.isEmpty { return String(decoding: all, as: UTF8.self) }
            all += chunk
        }
    }

    /// Reads until the text contains `end`.
    func received(through end: String) throws -> String {
        var text = ""
        while !text.contains(end), case let chunk = try receive(), !chunk.isEmpty {
            text += String(decoding: chunk, as: UTF8.self)
        }
        return text
    }

    /// Reads the next `count` answers, heads included.
    func answers(_ count: Int) throws -> String {
        var all: [UInt8] = []
        while true {
            var rest = Substring(decoding: all, as: UTF8.self)
            var found = 0
            while let match = rest.firstMatch(of: /Content-Length: (\d+)\r\n\r\n/), let length = Int(match.1),
                let end = rest.utf8.index(match.range.upperBound, offsetBy: length, limitedBy: rest.endIndex)
            {
                found += 1
                rest = rest[end...]
            }
            if found >= count { return String(decoding: all, as: UTF8.self) }
            let chunk = try receive()
            guard !chunk.isEmpty else { throw Failure(description: "the connection ended after \(found) answers") }
            all += chunk
        }
    }

    /// Reads one answer and returns its body. Nothing may be pipelined.
    func body() throws -> String {
        var all: [UInt8] = []
        while true {
            let text = String(decoding: all, as: UTF8.self)
            if let match = text.firstMatch(of: /Content-Length: (\d+)\r\n\r\n/), let length = Int(match.1),
                text[match.range.upperBound...].utf8.count >= length
            {
                return String(text[match.range.upperBound...])
            }
            let chunk = try receive()
            guard !chunk.isEmpty else { throw Failure(description: "the connection ended after '\(text.prefix(500))'") }
            all += chunk
        }
    }
}
