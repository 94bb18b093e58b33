// A front end: an interface for clients, at addresses of its own. emq's own is `API`; the others stand in for legacy
// systems (Sources/emq/Adapters).

import Net
import Queues

/// Answers requests at the addresses of one service.
protocol FrontEnd: AnyObject {
    /// Answers a request, promises an answer for later (`PendingAnswer`), or refuses it.
    ///
    /// The request was admitted by its `cost` before. An answer is held until everything that was changed so far is safe on
    /// disk.
    ///
    /// - Throws: `Problem`, which `write` tells the client. Nothing has been changed then.
    func answer(
        _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome

    /// What a request costs, the texts that it wants kept not included.
    func cost(_ request: borrowing Request) -> Cost

    /// Tells the client of a problem.
    func write(_ problem: Problem, to responses: inout ResponseStream)
}

extension FrontEnd {
    /// The usual cost of a method.
    func cost(_ request: borrowing Request) -> Cost {
        switch request.method {
        case .get, .head: .reads
        case .delete: .frees
        default: .grows(Cost.queueBytes)
        }
    }

    /// A problem detail (RFC 9457).
    func write(_ problem: Problem, to responses: inout ResponseStream) { problem.write(to: &responses) }
}

/// An answer that a client waits for. A front end returns it in `Outcome.owed`, and writes the answer later through
/// `HTTPServer.answer`.
///
/// Subclasses say what a client is told that ends its side before that.
class PendingAnswer {
    /// What the broker calls when there is an answer.
    let waiter: Waiter

    init(_ waiter: Waiter) { self.waiter = waiter }

    /// Answers a client that has ended its side but may still be reading. The waiter is withdrawn: nothing is dispatched to
    /// this client.
    func writeWithdrawn(to responses: inout ResponseStream, of broker: isolated Broker, now: Int64) {
        preconditionFailure("a pending answer has to say what a withdrawn client is told")
    }
}
