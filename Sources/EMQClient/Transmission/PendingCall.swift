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
    /// When its pause ends.
    var resumesAt: Int64 = 0
    /// The time limit that it got before its start, in milliseconds.
    private(set) var limitMilliseconds = Int64.max
    /// Whether a closed client still sends it.
    var survivesClosing = false
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
    func limit(toMilliseconds milliseconds: Int64) {
        if phase == .new { limitMilliseconds = min(limitMilliseconds, milliseconds) }
        transmitter?.limit(self, toMilliseconds: milliseconds)
    }
}

/// Something to do later.
private final class Alarm: EventSource {
    let body: () -> Void
    unowned let alarms: Alarms

    init(_ body: @escaping () -> Void, _ alarms: Alarms) { (self.body, self.alarms) = (body, alarms) }

    override func timerFired() { alarms.rings(self) }
}

/// What is to be done later on the client's thread, whether or not the client is closed before. Use it there.
final class Alarms {
    private let loop: EventLoop
    private var waiting: [ObjectIdentifier: Alarm] = [:]
    private var due: [Alarm] = []

    init(_ loop: EventLoop) { self.loop = loop }

    deinit { for alarm in waiting.values { loop.cancelTimer(alarm) } }

    /// Calls `body` after a pause.
    func call(afterMilliseconds milliseconds: Int64, _ body: @escaping () -> Void) {
        let alarm = Alarm(body, self)
        waiting[ObjectIdentifier(alarm)] = alarm
        loop.setTimer(alarm, at: clampedSum(loop.updateNow(), milliseconds))
    }

    fileprivate func rings(_ alarm: Alarm) {
        waiting[ObjectIdentifier(alarm)] = nil
        due.append(alarm)
    }

    /// Does what is due.
    func review() { while let alarm = due.popLast() { alarm.body() } }
}
