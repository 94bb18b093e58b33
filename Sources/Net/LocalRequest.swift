// Requests that the program makes of itself: a GET whose answer it passes on, such as the parts of a stream of events.
// They go through the same handlers as the requests of clients, and may be answered later in the same way.

import Bytes

/// A GET that the program makes of itself, again and again if it wants to (`HTTPServer.ask`).
///
/// Subclasses receive the answers.
open class LocalRequest {
    private let bytes: [UInt8]
    private let head: RequestHead
    /// Identifies the request while its answer is owed.
    fileprivate(set) var ticket: Ticket?
    /// What the handler returned with its promise to answer later (`Outcome.owed`).
    public fileprivate(set) var withdrawal: AnyObject?

    /// - Parameter target: The path and the query, as in the first line of a request.
    public init(target: Span<UInt8>) {
        bytes = Array("GET ".utf8) + Array(copying: target)
        var head = RequestHead()
        head.method = .get
        head.methodName = 0..<3
        let end = target.index(of: UInt8(ascii: "?")).map { 4 + $0 } ?? bytes.count
        head.path = 4..<end
        head.query = min(end + 1, bytes.count)..<bytes.count
        self.head = head
    }

    /// Whether an answer is owed.
    public var isUnderWay: Bool { ticket != nil }

    /// The size of its text, in bytes.
    public var byteCount: Int { bytes.count }

    /// Takes an answer.
    ///
    /// - Parameters:
    ///   - status: Its status.
    ///   - body: Its body.
    ///   - mark: The answer may be shown once this mark has been released (`ResponseStream.hold`).
    open func receive(status: Int, body: Span<UInt8>, heldUntil mark: UInt64) {}

    fileprivate func withRequest(
        _ ticket: Ticket, _ responses: inout ResponseStream,
        _ body: (borrowing Request, inout ResponseStream) -> Outcome
    ) -> Outcome {
        let bytes = bytes
        return unsafe withUnsafePointer(to: head) { head in
            unsafe body(
                Request(bytes: bytes.span, head: head, service: 0, ticket: ticket, bodyObserver: nil), &responses)
        }
    }

    /// Passes a complete answer on. Without memory for it, there is none.
    fileprivate func end(_ responses: borrowing ResponseStream) {
        precondition(responses.isComplete, "a route left its answer unfinished")
        (ticket, withdrawal) = (nil, nil)
        if responses.isExhausted { return }
        responses.withOnlyAnswer { receive(status: $0, body: $1, heldUntil: $2) }
    }
}

/// The requests of the program itself whose answers are owed.
struct LocalRequests {
    /// In place of the index of a connection.
    fileprivate static let connection = -2

    private var serial: UInt64 = 0
    private var owed: [UInt64: LocalRequest] = [:]

    fileprivate mutating func makeTicket() -> Ticket {
        serial += 1
        return Ticket(connection: Self.connection, serial: serial)
    }

    fileprivate mutating func owe(_ local: LocalRequest, _ ticket: Ticket) { owed[ticket.serial] = local }

    fileprivate mutating func take(_ ticket: Ticket) -> LocalRequest? {
        ticket.connection == Self.connection ? owed.removeValue(forKey: ticket.serial) : nil
    }
}

extension HTTPServer {
    /// Makes a request of the program itself. Nothing happens if its last answer is still owed.
    ///
    /// - Parameters:
    ///   - local: The request, which receives the answer now or later. A postponed one has none.
    ///   - handle: Handles it, as `RequestHandler.handle` does.
    public func ask(_ local: LocalRequest, _ handle: (borrowing Request, inout ResponseStream) -> Outcome) {
        loop.checkIsolated()
        if local.isUnderWay { return }
        let ticket = localRequests.makeTicket()
        var responses = localResponses()
        switch local.withRequest(ticket, &responses, handle) {
        case .answered: local.end(responses)
        case .owed(let withdrawal):
            (local.ticket, local.withdrawal) = (ticket, withdrawal)
            localRequests.owe(local, ticket)
        case .postponed: break
        }
    }

    /// Forgets a request whose answer is owed. The caller withdraws it.
    public func forget(_ local: LocalRequest) {
        if let ticket = local.ticket { _ = localRequests.take(ticket) }
        (local.ticket, local.withdrawal) = (nil, nil)
    }

    /// Writes an answer that is owed to the program itself.
    ///
    /// - Returns: false, without a call of `body`, if there is no such request.
    func answerLocally(_ ticket: Ticket, _ body: (inout ResponseStream) -> Void) -> Bool {
        guard let local = localRequests.take(ticket) else { return false }
        var responses = localResponses()
        body(&responses)
        local.end(responses)
        return true
    }

    private func localResponses() -> ResponseStream {
        var responses = ResponseStream(dates: dates)
        responses.release(upTo: releasedMark)
        return responses
    }
}
