// How a worker does its tasks: by a command for each, by one process for all, or by requests to an application.

import Net

/// What does the tasks of a worker.
protocol TaskRunner: AnyObject {
    /// Begins the work on a task. Its end is told to the worker later.
    ///
    /// - Returns: the job; nil if this is impossible now. Then the worker gives the task back.
    func begin(_ task: WorkTask, slot: Int, now: Int64) -> Job?

    /// When it can begin tasks; `Int64.max` if that is not known yet.
    var resumesAt: Int64 { get }

    /// When `review` has something to do; `Int64.max` for never.
    var nextTime: Int64 { get }

    /// Does what deadlines require.
    func review(now: Int64)

    /// Whether something still runs although no task is in work.
    var isRunning: Bool { get }

    /// Ends what still runs. Called again and again when the worker stops and holds no tasks.
    func end(isForced: Bool, now: Int64)
}

extension TaskRunner {
    var resumesAt: Int64 { .min }
    var nextTime: Int64 { .max }
    func review(now: Int64) {}
    var isRunning: Bool { false }
    func end(isForced: Bool, now: Int64) {}
}

/// What a runner tells its worker.
protocol TaskHolder: AnyObject {
    /// Whether the worker takes no more tasks.
    var isStopping: Bool { get }

    /// The work on a task has ended, with the end of what was printed for it. If the task was stopped because its lease
    /// is lost or its time is over, that counts instead of the outcome.
    func ended(_ job: Job, _ outcome: WorkOutcome, log: String)

    /// There is news of a task's progress (`Job.progress`).
    func progressed(_ job: Job)

    /// The application that does the tasks cannot be reached: nothing is taken for a while.
    func applicationIsAway(_ reason: String)

    /// The application has answered.
    func applicationIsBack()
}

/// Pauses while something fails again and again: each is twice the one before, up to a limit.
struct GrowingPause {
    private let milliseconds: ClosedRange<Int64>
    private var next: Int64
    /// When the pause is over.
    private(set) var resumesAt = Int64.min
    private(set) var isOn = false

    init(milliseconds: ClosedRange<Int64>) {
        self.milliseconds = milliseconds
        next = milliseconds.lowerBound
    }

    /// Begins the next pause, whose length is between half of it and all of it, so that many workers do not come back
    /// at once.
    ///
    /// - Returns: whether it is the first one.
    mutating func begin(now: Int64) -> Bool {
        defer { isOn = true }
        resumesAt = now + next / 2 + Int64.random(in: 0...next / 2)
        next = min(2 * next, milliseconds.upperBound)
        return !isOn
    }

    /// Ends the pauses.
    ///
    /// - Returns: whether there was one.
    mutating func end() -> Bool {
        defer { self = GrowingPause(milliseconds: milliseconds) }
        return isOn
    }
}
