// A short exchange on the caller's own thread: over a kept connection that the client has lent, while the caller waits
// for some microseconds. If the response takes longer, the client takes the exchange over.
//
// A change of threads costs more than a small request. This saves both: to the loop's thread and back.

import CLinux
import Glibc

/// A kept connection that any one thread may use, for one short exchange after another.
public final class LentConnection: @unchecked Sendable {
    // @unchecked: it has one owner at a time, who hands it on through a lock or a queue.

    /// How an exchange has ended.
    public enum Progress {
        /// The response is complete, and was passed on.
        case complete
        /// The response is not complete. Only `HTTPClient.resume` may go on with the connection.
        case pending
        /// Nothing was sent: the server has closed the connection before, or the system has no memory.
        case unusable
        /// The connection broke. The server may have the whole request.
        case broken(ClientFailure)
    }

    let connection: ClientConnection
    private let limits: ClientLimits
    private(set) var head = Buffer()
    private(set) var input = Buffer()
    private(set) var sentCount = 0
    private var parser: ResponseParser?
    private var isReusable = true

    init(_ connection: ClientConnection, limits: ClientLimits) { (self.connection, self.limits) = (connection, limits) }

    /// Whether it can carry another exchange.
    public var canContinue: Bool { isReusable }

    /// Sends a request, and waits for its response.
    ///
    /// - Parameters:
    ///   - request: The request, which must lead to the connection's host.
    ///   - microseconds: How long to wait.
    ///   - received: Gets the complete response.
    /// - Returns: How far that has come.
    public func exchange(
        _ request: borrowing ClientRequest, withinMicroseconds microseconds: Int,
        received: (borrowing ClientResponse) -> Void
    ) -> Progress {
        isReusable = false
        guard connection.isUsable else { return .unusable }
        head.consume(head.count)
        input.consume(input.count)
        request.writeHead(to: &head)
        // Without the missing bytes, the head would be a different request.
        if head.isExhausted { return .unusable }
        if let body = request.body {
            sentCount = connection.send(head.span, body.span, from: 0)
        } else {
            sentCount = connection.send(head.span, Span(), from: 0)
        }
        guard sentCount == head.count + (request.body?.count ?? 0) else { return .pending }
        guard connection.awaitInput(microseconds: microseconds) else { return .pending }
        switch connection.receiveOnce(into: &input, atMost: 16 * 1024) {
        case .bytes: break
        case .nothing: return .pending
        case .noMemory: return .broken(.noMemory(authority: authority))
        case .end: return .broken(.broken(authority: authority, isReset: false))
        case .failed: return .broken(.broken(authority: authority, isReset: true))
        }
        var parser = ResponseParser(limits: limits.response(to: request), answersHead: request.isHead)
        do throws(Refusal) {
            // What is not complete at once may be large; the client knows its limits of memory.
            guard try parser.parse(&input) else {
                self.parser = parser
                return .pending
            }
        } catch {
            return .broken(.malformed(authority: authority, detail: error.detail))
        }
        isReusable = parser.head.isPersistent && input.count == parser.length
        // Moved out, because a span of it cannot outlast an access to this object.
        var bytes = Buffer()
        swap(&bytes, &input)
        received(ClientResponse(bytes: bytes.span, head: parser.head))
        swap(&bytes, &input)
        return .complete
    }

    private var authority: String { String(decoding: connection.host.authority, as: UTF8.self) }

    /// The parser of the response, if some of it has arrived.
    func takeParser() -> ResponseParser? {
        defer { parser = nil }
        return parser
    }

    /// Moves out what the client needs to go on.
    func takeBuffers(_ head: inout Buffer, _ input: inout Buffer) {
        swap(&self.head, &head)
        swap(&self.input, &input)
    }
}

extension HTTPClient {
    /// Lends an idle connection to the host of a request; nil if there is none. It counts as one of the client's
    /// connections until `takeBack` or `resume`.
    public func lend(for request: borrowing ClientRequest) -> LentConnection? {
        loop.checkIsolated()
        guard let connection = popIdle(of: host(of: request)) else { return nil }
        connection.beLent()
        return LentConnection(connection, limits: limits)
    }

    /// Closes a connection that was lent.
    public func takeBack(_ lent: LentConnection) {
        loop.checkIsolated()
        lent.connection.close()
        freeSlot(of: lent.connection.host)
    }

    /// Goes on with an exchange that is pending on a connection that was lent. `advance` reports its outcome.
    ///
    /// - Precondition: no exchange under way has the key.
    public func resume(_ request: consuming ClientRequest, on lent: LentConnection, key: UInt64) {
        loop.checkIsolated()
        loop.updateNow()
        let exchange = begin(request, key: key)
        exchange.resume(on: lent)
        exchange.count()
    }
}

extension ClientExchange {
    /// Goes on with an exchange that another thread has begun.
    func resume(on lent: LentConnection) {
        phase = .exchanging
        let connection = lent.connection
        self.connection = connection
        connection.exchange = self
        let limit = request.idleTimeoutMilliseconds ?? request.firstByteTimeoutMilliseconds
        phaseDeadline = limit.map { loop.time(in: $0) } ?? .max
        parser = lent.takeParser()
        lent.takeBuffers(&head, &input)
        sentCount = lent.sentCount
        if sentCount == head.count + (request.body?.count ?? 0) {
            hasSentAll = true
            client.recycle(head: &head)
        }
        connection.comeBack()
        client.queue(self)
        setTimer()
    }
}
