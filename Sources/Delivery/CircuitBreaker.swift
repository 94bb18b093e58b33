// Leaves a receiver alone that fails for long: a circuit breaker.

/// Pauses a queue's attempts after a number of failures in a row, and then lets one attempt find out whether the
/// receiver works again.
///
/// The time is an argument, in milliseconds. Every operation is O(1).
public struct CircuitBreaker {
    /// What a circuit breaker allows.
    public enum State: Sendable {
        /// Any attempts.
        case closed
        /// No attempt, for a while.
        case open
        /// One attempt, the trial.
        case halfOpen
    }

    private let options: PushOptions.Circuit
    /// The number of failures in a row.
    public private(set) var failureCount = 0
    /// When the pause ends, or has ended; nil if the circuit is closed.
    public private(set) var resumeTime: Int64?
    /// The trial, if it is in flight.
    private var trial: UInt64?

    init(_ options: PushOptions.Circuit) { self.options = options }

    /// What is allowed at a time.
    public func state(now: Int64) -> State {
        guard let resumeTime else { return .closed }
        return now < resumeTime ? .open : .halfOpen
    }

    /// Whether the trial is in flight.
    var isTrying: Bool { trial != nil }

    /// Notes that an attempt starts. The state must allow it.
    mutating func noteStart(of attempt: UInt64) {
        if resumeTime != nil { trial = attempt }
    }

    /// Notes the outcome of an attempt. Once the circuit is open, only that of the trial counts: the other attempts
    /// began before the pause.
    mutating func noteOutcome(of attempt: UInt64, isFailure: Bool, now: Int64) {
        guard resumeTime == nil || trial == attempt else { return }
        trial = nil
        failureCount = isFailure ? failureCount + 1 : 0
        resumeTime = failureCount >= options.failures ? now + options.pauseMilliseconds : nil
    }

    /// Notes that an attempt was aborted, and says nothing about the receiver.
    mutating func noteAbort(of attempt: UInt64) {
        if trial == attempt { trial = nil }
    }
}
