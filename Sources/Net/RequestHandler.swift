// What a server asks of the program behind it.

/// What a route did with a request.
public enum Outcome {
    /// The answer has been written.
    case answered
    /// The answer comes later, through `HTTPServer.answer`. The object is handed back if the client goes before that; nil
    /// for what goes on whether the client is there or not.
    case owed(AnyObject?)
    /// The request could not be taken now: nothing was changed and nothing written. It stays at the front of its
    /// connection, and is handed over again, with another ticket, after `HTTPServer.resume`; it is not if the connection
    /// breaks before that.
    case postponed
}

/// Routes the requests of an `HTTPServer`. All calls come on the event loop, inside the owner's isolation, which is
/// entered once around the whole loop: a call on an `isolated` parameter costs next to nothing, entering does not.
public protocol RequestHandler: ~Copyable {
    /// The actor whose state the routes work on.
    associatedtype Owner: Actor

    /// Answers a whole request, promises to, or postpones it.
    mutating func handle(
        _ request: borrowing Request, _ responses: inout ResponseStream, on owner: isolated Owner
    ) -> Outcome

    /// Looks at the head of a request whose client waits to be told to send the body (`Expect: 100-continue`). `body` is
    /// empty yet.
    ///
    /// - Returns: whether the body is wanted. If not, the answer has been written, and the connection closes.
    mutating func admits(_ request: borrowing Request, _ responses: inout ResponseStream) -> Bool

    /// Answers bytes that are no request, or one over the limits, at an address of that service. The connection closes
    /// afterwards.
    mutating func refuse(_ refusal: Refusal, service: Int, _ responses: inout ResponseStream)

    /// The client of an owed answer has ended its side and may still be reading: withdraws what it waits for, so that
    /// nothing is taken for it, and answers.
    mutating func withdraw(_ withdrawal: AnyObject, _ responses: inout ResponseStream, on owner: isolated Owner)

    /// The client of an owed answer has gone: withdraws what it waits for.
    mutating func withdraw(_ withdrawal: AnyObject, on owner: isolated Owner)

    /// Answers with these keys (`ResponseStream.track`) did not reach their peer, and will not; the last that it was sent stands
    /// first. Those whose fate is open when the server stops are not reported.
    mutating func undelivered(_ keys: [UInt64], on owner: isolated Owner)

    /// Something that looks at a large body while it arrives, or nil; `handle` finds it in the request.
    mutating func bodyObserver() -> BodyObserver?

    /// Looks at the head of a request with a body over 64 KiB for which memory is short.
    ///
    /// - Returns: whether its body is read nevertheless, if it is not larger than 1 MiB: nothing of it is kept.
    mutating func readsBodyWhenShort(_ request: borrowing Request) -> Bool

    /// A turn begins: the time is the loop's, in milliseconds since the epoch. What is due is done, in bounded portions.
    /// Answers that are released and connections that are resumed here have their turn in this one.
    mutating func beginTurn(now: Int64, on owner: isolated Owner)

    /// The turn ends: requests were served, and what is not held was sent.
    ///
    /// - Returns: when the next turn must begin at the latest, in milliseconds since the epoch; nil for no such time.
    mutating func endTurn(on owner: isolated Owner) -> Int64?

    /// Whether the server is to stop.
    var isFinished: Bool { get }
}

extension RequestHandler where Self: ~Copyable {
    /// None is.
    public mutating func readsBodyWhenShort(_ request: borrowing Request) -> Bool { false }
}
