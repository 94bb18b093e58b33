// A front end: an interface for clients at addresses of its own. emq's own interface is `API`; front ends replace
// legacy systems (Sources/emq/Adapters).

import Net
import Queues

/// Answers requests at the addresses of one service.
protocol FrontEnd: AnyObject {
    /// Answers a request, promises an answer for later (`PendingAnswer`), or refuses it.
    ///
    /// The gate has already admitted the request by its `cost`. The server holds the answer until all changes so far
    /// are safe on disk.
    ///
    /// - Throws: `Problem`, which `write` writes for the client. The request has changed nothing then.
    func answer(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome

    /// What a request costs, not including the texts to be kept.
    func cost(_ request: borrowing Request) -> Cost

    /// Writes a problem for the client.
    func write(_ problem: Problem, to responses: inout ResponseStream)
}

extension FrontEnd {
    /// The usual cost of a method.
    func cost(_ request: borrowing Request) -> Cost {
        switch request.method {
        case .get, .head, .options: .reads
        case .delete: .frees
        default: .grows(Cost.queueBytes)
        }
    }

    /// Writes a problem detail (RFC 9457).
    func write(_ problem: Problem, to responses: inout ResponseStream) { problem.write(to: &responses) }
}

/// An answer that a client waits for. A front end returns it in `Outcome.owed`, and writes the answer later through
/// `HTTPServer.answer`.
///
/// Subclasses write the answer for a client that ends its side before that.
class PendingAnswer {
    /// The waiter that the broker completes when there is an answer; nil if the broker has none.
    private let waiter: Waiter?

    init(_ waiter: Waiter?) { self.waiter = waiter }

    /// Notes that the client has disconnected or ended its side.
    func withdraw(on broker: isolated Broker) {
        if let waiter { broker.cancel(waiter) }
    }

    /// Answers a client that has ended its side but may still be reading. The waiter has been withdrawn, so nothing is
    /// dispatched to this client. By default, a 503.
    func writeWithdrawn(to responses: inout ResponseStream, of broker: isolated Broker, now: Int64) {
        Problem(.clientEnded, "the client ended its side before there was an answer").write(to: &responses)
    }
}
