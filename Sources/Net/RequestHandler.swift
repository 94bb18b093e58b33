// What an HTTP server needs from the program that uses it.

/// What a handler did with a request.
public enum Outcome {
    /// It wrote the answer.
    case answered
    /// It will answer later through `HTTPServer.answer`. If the client leaves first, the handler gets the object back;
    /// nil for work that continues without the client.
    case owed(AnyObject?)
    /// It could not take the request now, changed nothing and wrote nothing. The request stays at the front of its
    /// connection and is handed over again, with another ticket, after `HTTPServer.resume`, unless the connection
    /// breaks first.
    case postponed
}

/// Handles the requests of an `HTTPServer`. All calls come on the event loop, inside the owner's isolation. The loop
/// enters that once, because entering it costs much and a call on an `isolated` parameter next to nothing.
public protocol RequestHandler: ~Copyable {
    /// The actor that owns the handler's state.
    associatedtype Owner: Actor

    /// Answers a complete request, promises to answer, or postpones it.
    mutating func handle(
        _ request: borrowing Request, _ responses: inout ResponseStream, on owner: isolated Owner
    ) -> Outcome

    /// Decides on a request whose client waits for permission to send the body (`Expect: 100-continue`). `body` is
    /// still empty.
    ///
    /// - Returns: Whether the client may send the body. If not, this has written the answer, and the connection closes.
    mutating func admits(_ request: borrowing Request, _ responses: inout ResponseStream) -> Bool

    /// Decides on a request whose large body is arriving and whose client has not asked for permission. `body` is still
    /// empty.
    ///
    /// - Returns: Whether to read on. If not, this has written the answer, and the connection closes.
    mutating func readsOn(_ request: borrowing Request, _ responses: inout ResponseStream) -> Bool

    /// Answers an invalid request, or one over the limits, at an address of that service. The connection closes
    /// afterwards.
    mutating func refuse(_ refusal: Refusal, service: Int, _ responses: inout ResponseStream)

    /// Whether answers at addresses of that service return X-Request-Id and traceparent as the request had them, if
    /// they are usable (`Request.requestID`, `Request.traceparent`).
    func returnsTraceFields(ofService service: Int) -> Bool

    /// Withdraws a waiting request and answers it: the client has ended its side and may still be reading.
    mutating func withdraw(_ withdrawal: AnyObject, _ responses: inout ResponseStream, on owner: isolated Owner)

    /// Withdraws a waiting request whose client has disconnected.
    mutating func withdraw(_ withdrawal: AnyObject, on owner: isolated Owner)

    /// Notes that answers with these keys (`ResponseStream.track`) did not reach their peer and never will, the last
    /// one sent first. Answers that may still arrive when the server stops are not reported.
    mutating func undelivered(_ keys: [UInt64], on owner: isolated Owner)

    /// Makes an observer for a large body that is arriving, or nil. `handle` finds it in the request.
    mutating func bodyObserver() -> BodyObserver?

    /// Decides on a request with a body over 64 KiB while memory is short.
    ///
    /// - Returns: Whether to read the body all the same, if it is at most 1 MiB, because nothing of it is kept.
    mutating func readsBodyWhenShort(_ request: borrowing Request) -> Bool

    /// Notes that a client spoke TLS at a plain address of that service. Its connection closes without an answer.
    mutating func noteTLS(onPlainService service: Int)

    /// Whether `record` makes records of requests. If not, they cost a comparison each.
    var recordsRequests: Bool { get }

    /// Makes a record of a request that was just answered, refused, or promised an answer for later; nil for none. An
    /// invalid request has no method, no path, and the fields that were read before the fault.
    mutating func record(_ request: borrowing Request) -> RequestRecord?

    /// Begins a turn: does what is due, in bounded portions. `now` is the loop's time, in milliseconds since the epoch.
    /// Answers released and connections resumed here are served in this turn.
    mutating func beginTurn(now: Int64, on owner: isolated Owner)

    /// Ends a turn, after requests were served and all answers that are not held were sent.
    ///
    /// - Returns: When the next turn must begin at the latest, in milliseconds since the epoch; nil for no such time.
    mutating func endTurn(on owner: isolated Owner) -> Int64?

    /// Whether the server must stop.
    var isFinished: Bool { get }
}

extension RequestHandler where Self: ~Copyable {
    /// All large bodies are read.
    public mutating func readsOn(_ request: borrowing Request, _ responses: inout ResponseStream) -> Bool { true }

    /// Nothing is returned.
    public func returnsTraceFields(ofService service: Int) -> Bool { false }

    /// Notes nothing.
    public mutating func noteTLS(onPlainService service: Int) {}

    /// No body is observed.
    public mutating func readsBodyWhenShort(_ request: borrowing Request) -> Bool { false }

    /// Requests are not recorded.
    public var recordsRequests: Bool { false }

    /// No request is recorded.
    public mutating func record(_ request: borrowing Request) -> RequestRecord? { nil }
}
