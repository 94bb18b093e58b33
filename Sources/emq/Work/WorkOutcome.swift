// What becomes of a task when the work on it has ended.

/// The outcome of a task, as the server is told.
enum WorkOutcome: Equatable {
    /// Done, with a result in JSON and a log, if there are any.
    case done(result: [UInt8]?, log: String? = nil)
    /// Given back, which counts as no attempt; not to be taken again before a delay in seconds.
    case released(delay: Double? = nil)
    /// Failed for this reason; tried again after a delay in seconds, or else after the task's backoff.
    case failed(error: String, delay: Double? = nil)
    /// Failed for this reason, without retries.
    case dead(error: String)
    /// The system had no process, memory or descriptor for the command, for this reason: the task is given back for a
    /// moment.
    case notStarted(reason: String)
    /// The command cannot be run: the task goes back, and the worker ends.
    case cannotRun(reason: String)

    /// The outcome that the end of a command means. A result is not known here.
    ///
    /// - Parameters:
    ///   - end: how it ended.
    ///   - lastLines: the last lines of its standard error.
    ///   - deadStatuses: the exit statuses after which a task is not tried again.
    init(_ end: SubprocessEnd, lastLines: String, deadStatuses: Set<Int32>) {
        let reason = lastLines.isEmpty ? end.description : "\(end.description): \(lastLines)"
        switch end {
        case .exited(0): self = .done(result: nil)
        case .exited(75): self = .released(delay: Self.notNowSeconds)
        case .exited(126), .exited(127): self = .cannotRun(reason: reason)
        case .exited(let status) where deadStatuses.contains(status): self = .dead(error: reason)
        case .exited, .signalled: self = .failed(error: reason)
        // The task is at fault if its content makes the command line too long.
        case .notStarted(let code) where code == SubprocessEnd.tooLong: self = .dead(error: reason)
        case .notStarted(let code) where SubprocessEnd.shortages.contains(code):
            self = .notStarted(reason: end.description)
        case .notStarted: self = .cannotRun(reason: reason)
        }
    }

    /// How long a task waits that its command gives back: at the front of its queue, it would come again at once.
    static let notNowSeconds = 5.0

    /// How long a task waits for which the system had no process, memory or descriptor.
    static let shortageSeconds = 1.0

    /// Whether this counts as a failure of the task.
    var isFailure: Bool {
        switch self {
        case .failed, .dead: true
        case .done, .released, .notStarted, .cannotRun: false
        }
    }
}
