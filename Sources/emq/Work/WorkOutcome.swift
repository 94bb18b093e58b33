// What becomes of a task when its command has ended.

/// The outcome of a task, as the server is told.
enum WorkOutcome: Equatable {
    /// Done, with a result in JSON or none.
    case done(result: [UInt8]?)
    /// Given back, which counts as no attempt.
    case released
    /// Failed for this reason.
    case failed(error: String)
    /// Failed for this reason, without retries.
    case dead(error: String)
    /// The command cannot be run: the task goes back, and the worker ends.
    case cannotRun(reason: String)

    /// The outcome that the end of a command means.
    ///
    /// - Parameters:
    ///   - end: how it ended.
    ///   - result: its result, as JSON.
    ///   - lastLines: the last lines of its standard error.
    ///   - deadStatuses: the exit statuses after which a task is not tried again.
    init(_ end: SubprocessEnd, result: [UInt8]?, lastLines: String, deadStatuses: Set<Int32>) {
        func reason(_ beginning: String) -> String { lastLines.isEmpty ? beginning : "\(beginning): \(lastLines)" }
        switch end {
        case .exited(0): self = .done(result: result)
        case .exited(75): self = .released
        case .exited(let status) where status == 126 || status == 127:
            self = .cannotRun(reason: reason("exit status \(status)"))
        case .exited(let status) where deadStatuses.contains(status):
            self = .dead(error: reason("exit status \(status)"))
        case .exited(let status): self = .failed(error: reason("exit status \(status)"))
        case .signalled(let number): self = .failed(error: reason("killed by signal \(number)"))
        }
    }

    /// Whether this counts as a failure of the task.
    var isFailure: Bool {
        switch self {
        case .failed, .dead: true
        case .done, .released, .cannotRun: false
        }
    }
}
