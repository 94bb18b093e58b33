// A request that is not finished, and what else has a timer on the client's thread.

import Net

/// A request under way. Only the transmitter uses it, on the client's thread; any thread may make it.
final class PendingCall: EventSource, @unchecked Sendable {
    // @unchecked: all variables are used on the client's thread only.
    enum Phase { case new, queued, sent, pausing, orphaned, ended }

    let call: Call
    private var completion: ((Result<Answer, any Error>) -> Void)?
    var phase = Phase.new
    var isCancelled = false
    /// Times of the loop, in milliseconds.
    var startedAt: Int64 = 0
    var sentAt: Int64 = 0
    var deadline: Int64 = 0
    var tries = 0
    var mayHaveArrived = false
    /// The key of the exchange in flight.
    var key: UInt64 = 0
    /// What sends it; nil before the start and after the end.
    var transmitter: Transmitter?

    init(_ call: Call) { self.call = call }

    /// Sets what receives the result. Call it before the request starts.
    func whenDone(_ completion: @escaping @Sendable (Result<Answer, any Error>) -> Void) {
        self.completion = completion
    }

    override func timerFired() { transmitter?.isDue(self) }

    func complete(_ result: Result<Answer, any Error>) {
        completion?(result)
        completion = nil
    }

    /// Moves the time by which it has to be answered to an earlier one. On the client's thread.
    func limit(toMilliseconds milliseconds: Int64) { transmitter?.limit(self, toMilliseconds: milliseconds) }
}

/// Something to do later.
final class Alarm: EventSource {
    let body: () -> Void
    weak var transmitter: Transmitter?

    init(_ body: @escaping () -> Void) { self.body = body }

    override func timerFired() { transmitter?.rings(self) }
}
