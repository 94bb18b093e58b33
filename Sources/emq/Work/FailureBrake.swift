// Slows a worker down when everything fails: ten failures in a row over different tasks are not the tasks' fault.

/// Counts failures in a row, and says when a worker may take a task.
struct FailureBrake {
    /// How many failures in a row, of different tasks, begin the pauses.
    static let threshold = 10
    /// The first pause, and the longest; each is twice the one before.
    static let pauseMilliseconds: ClosedRange<Int64> = 1000...60_000

    /// The tasks that have failed since the last success.
    private var failed: Set<String> = []
    private var pause: Int64 = 0
    /// When the next task may be taken.
    private(set) var resumesAt = Int64.min

    /// Whether only one task at a time may be tried.
    var isOn: Bool { pause > 0 }

    /// Notes the outcome of a task. While the brake is on, a failure makes the next pause longer only if the work on the
    /// task began after the last one: those in work when the brake goes on say nothing new.
    ///
    /// - Returns: whether the brake has just gone on or off.
    mutating func note(isFailure: Bool, task: String, begunAt: Int64, now: Int64) -> Bool {
        guard isFailure else {
            defer { self = FailureBrake() }
            return isOn
        }
        if !isOn {
            failed.insert(task)
            if failed.count < Self.threshold { return false }
        } else if begunAt < resumesAt {
            return false
        }
        let isNew = !isOn
        pause = min(max(2 * pause, Self.pauseMilliseconds.lowerBound), Self.pauseMilliseconds.upperBound)
        resumesAt = now + pause
        return isNew
    }
}
