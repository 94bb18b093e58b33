// The server without sockets, in virtual time: the test passes requests as bytes, and answers the server's own
// requests, which stay in a postbox.

import Foundation
import Queues
import Support
import Testing

@testable import Delivery
@testable import Net
@testable import emq

/// A server that replaces legacy systems, on the thread that made it.
final class VirtualServer {
    let postbox = Postbox()
    let adapters: Adapters
    private(set) var now: Int64
    private let broker: Broker
    private let server: HTTPServer
    private let shutdown: Shutdown
    private var handler: TaskServer
    private var heads = HeadCache()
    /// The time of the next event.
    private(set) var nextTurn: Int64?
    /// Whether something wakes the loop before that.
    var wakes: () -> Bool = { false }

    /// Makes a server that replaces the systems of `adapters`. Their services are numbered from 1, in this order. Its
    /// clients may send to where `destinations` allows.
    init(
        _ adapters: Adapters = Adapters(), sources: Sources = Sources(), destinations: DestinationPolicy? = nil,
        durability: TestDurability? = nil, access: Access? = nil, maximumMemoryBytes: Int = 1 << 30,
        drainMilliseconds: Int64 = 0, now: Int64 = 1_700_000_000_000
    ) throws {
        let loop = try EventLoop()
        let broker = Broker(executor: loop, firstToken: 1, now: now, maximumTasks: 10_000)
        let server = HTTPServer(loop: loop)
        // Here and below, the calling thread is the broker's isolation.
        let isJournaled = durability != nil
        nonisolated(unsafe) let (postbox, served) = (postbox, adapters)
        nonisolated(unsafe) var push: Push?
        broker.assumeIsolated { broker in
            if isJournaled {
                broker.beginRestoring()
                _ = broker.finishRestoring(nextSequence: 1, now: now, graceMilliseconds: 0)
            }
            push = Push(
                destinations, for: served, loop: loop, connections: 1000, maximumBodyBytes: 1 << 30, on: broker,
                sender: postbox)
        }
        self.now = now
        self.adapters = adapters
        self.broker = broker
        self.server = server
        shutdown = Shutdown(drainMilliseconds: drainMilliseconds)
        let gate = Gate(
            server: server, durability: durability, push: push, sources: sources,
            maximumMemoryBytes: maximumMemoryBytes, resident: nil)
        handler = TaskServer(gate, shutdown: shutdown, adapters: adapters, access: access)
    }

    /// Asks the server to stop, as SIGTERM does.
    func stop() {
        shutdown.ask()
        turn()
    }

    /// Whether the server has stopped.
    var isFinished: Bool { handler.isFinished }

    /// Calls `body` with the broker.
    func withBroker(_ body: (isolated Broker) -> Void) {
        nonisolated(unsafe) let body = body
        broker.assumeIsolated { broker in body(broker) }
    }

    /// Sends a request, and lets the server do everything that is due now.
    func send(_ method: String, _ target: String, _ body: String = "", service: Int = 1) throws -> Response {
        try Response(bytes: try begin(method, target, body, service: service))
    }

    /// Sends a request, and returns the bytes of the answer: none if the server answers later.
    func begin(_ method: String, _ target: String, _ body: String = "", service: Int = 1) throws -> [UInt8] {
        var buffer = Buffer()
        buffer.append(
            Array(
                "\(method) \(target) HTTP/1.1\r\nHost: emq.test:7\r\nContent-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
                    .utf8
            ).span)
        var parser = RequestParser(limits: RequestLimits())
        #expect(try parser.parse(&buffer, &heads))
        turn()
        var bytes: [UInt8] = []
        nonisolated(unsafe) let this = self
        let head = parser.head
        let source = Array(copying: buffer.span)
        bytes = broker.assumeIsolated { broker in
            let dates = DateField()
            dates.update(unixMilliseconds: this.now)
            var responses = ResponseStream(dates: dates)
            withUnsafePointer(to: head) { head in
                let request = Request(
                    bytes: source.span, head: head, service: service, ticket: Ticket(connection: 0, serial: 0),
                    bodyObserver: nil)
                _ = this.handler.handle(request, &responses, on: broker)
            }
            // As in the real loop, there is no other turn unless the end of this one asks for it.
            this.nextTurn = this.handler.endTurn(on: broker)
            return Array(copying: responses.buffer.span)
        }
        if nextTurn ?? .max <= now || wakes() { turn() }
        return bytes
    }

    /// Does everything that is due now.
    func turn() {
        for _ in 0..<1000 {
            step()
            guard nextTurn ?? .max <= now || wakes(), !isFinished else { return }
        }
    }

    /// Does one turn.
    func step() {
        nonisolated(unsafe) let this = self
        broker.assumeIsolated { broker in
            this.handler.beginTurn(now: this.now, on: broker)
            this.nextTurn = this.handler.endTurn(on: broker)
        }
    }

    /// Lets time pass, and does everything that becomes due.
    func advance(seconds: Double) { advance(to: now + Int64(seconds * 1000)) }

    /// Lets time pass until `end`, and calls `answer` whenever there are requests in flight.
    func advance(to end: Int64, _ answer: () -> Void = {}) {
        turn()
        while now < end {
            now = min(end, max(now + 1, nextTurn ?? .max))
            turn()
            if !sent.isEmpty { answer() }
        }
    }

    /// The requests in flight, unordered.
    var sent: [ClientRequest] { Array(postbox.requests.values) }

    /// The only request in flight.
    func onlyRequest() throws -> ClientRequest {
        try #require(postbox.requests.count == 1)
        return try #require(postbox.requests.values.first)
    }

    /// Answers all requests in flight.
    func answerAll(_ status: String, _ body: String = "") { answerAll(status, Array(body.utf8)) }

    /// Answers all requests in flight with a body of any bytes.
    func answerAll(_ status: String, _ body: [UInt8]) {
        let bytes = Array("HTTP/1.1 \(status)\r\nContent-Length: \(body.count)\r\n\r\n".utf8) + body
        reply { .response(bytes, $0.bodyLimit, 5) }
    }

    /// Lets all requests in flight fail.
    func failAll(_ failure: ClientFailure) { reply { _ in .failure(failure) } }

    private func reply(_ reply: (ClientRequest) -> Postbox.Reply) {
        postbox.answers = postbox.requests.map { ($0.key, reply($0.value)) }
        turn()
    }
}

extension ClientRequest {
    var text: String { String(decoding: body ?? [], as: UTF8.self) }
    var head: String { String(decoding: method, as: UTF8.self) + " \(url)\n" + String(decoding: fields, as: UTF8.self) }
}

extension Response {
    /// Parses a complete answer.
    init(bytes: [UInt8]) throws {
        let text = String(decoding: bytes, as: UTF8.self)
        let end = try #require(text.range(of: "\r\n\r\n"))
        let lines = text[..<end.lowerBound].components(separatedBy: "\r\n")
        var fields: [String: String] = [:]
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            fields[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
        }
        self.init(
            status: try #require(Int(lines[0].split(separator: " ")[1])), fields: fields,
            body: String(text[end.upperBound...]))
    }
}
