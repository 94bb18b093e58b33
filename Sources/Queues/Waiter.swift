// A client that waits: for tasks, or for the end of one.

import UID

/// One blocked wait. It ends when its completion is called or when it is cancelled.
public final class Waiter {
    /// What is called when a wait for tasks ends: with a task for each name of a queue, or, at its deadline, nil where there
    /// is none; for a wait for any tasks, with those that there are.
    ///
    /// It runs in the broker's isolation: one that is made there captures the broker and whatever else is isolated to it.
    public typealias Completion = ([TaskHandle?]) -> Void

    /// What is called when a wait for the end of a task ends: with the task's state, and its result, empty if there is none.
    ///
    /// A state that is not an end is that at the deadline. It runs in the broker's isolation.
    public typealias ResultCompletion = (TaskState, Span<UInt8>) -> Void

    enum Goal {
        /// A task for each name of a queue.
        case all(Completion)
        /// Up to so many tasks of any of the queues.
        case any(limit: Int, Completion)
        /// The end of a task.
        case result(of: UID, ResultCompletion)
    }

    /// How many nils its completion is called with when it ends with nothing.
    public var count: Int {
        if case .all = goal { queues.count } else { 0 }
    }

    let goal: Goal
    let queues: [QueueIndex]
    /// Each of its queues once.
    let distinctQueues: [QueueIndex]
    let leaseMilliseconds: Int64?
    let worker: [UInt8]
    let deadline: Int64
    /// Its number in the order of arrival.
    let arrival: UInt64
    /// Where it is registered: under a queue that it lacks, under all of them if it waits for any, or nowhere while that is
    /// undecided.
    private(set) var registrations: [Registration] = []
    /// Whether it still waits.
    var isWaiting = true
    /// Its client has gone.
    var isCancelled = false
    /// Its task has ended: it is about to be told.
    var isDue = false
    /// Its positions in the heap of deadlines, in the heap of the undecided, and among those who wait for its task.
    var deadlinePosition = 0
    var undecidedPosition = 0
    var resultPosition = 0

    init(
        _ goal: Goal, queues: [QueueIndex] = [], leaseMilliseconds: Int64? = nil, worker: [UInt8] = [],
        deadline: Int64, arrival: UInt64
    ) {
        self.goal = goal
        self.queues = queues
        var seen: Set<QueueIndex> = []
        distinctQueues = queues.count <= 1 ? queues : queues.filter { seen.insert($0).inserted }
        self.leaseMilliseconds = leaseMilliseconds
        self.worker = worker
        self.deadline = deadline
        self.arrival = arrival
    }

    var isForAny: Bool {
        if case .any = goal { true } else { false }
    }

    /// What it takes up, near enough: itself and its completion, the names of its queues, and for each queue that it is registered
    /// under a registration, and a dictionary and a heap there.
    var byteCount: Int { 500 + worker.count + 8 * queues.count + (isForAny ? 220 * distinctQueues.count : 220) }

    /// The task whose end it waits for.
    var task: UID? {
        if case .result(let id, _) = goal { id } else { nil }
    }

    /// Says where it is to be registered; an unknown shortage is nowhere.
    func plan(for shortage: Shortage) {
        registrations.removeAll(keepingCapacity: true)
        guard shortage.queue != 0 else { return }
        guard isForAny else { return registrations.append(Registration(self, shortage)) }
        for queue in distinctQueues {
            registrations.append(Registration(self, Shortage(queue: queue.slot, need: 1)))
        }
    }
}

/// A waiter's place among those who lack tasks of one queue.
final class Registration {
    unowned let waiter: Waiter
    let shortage: Shortage
    /// Its position in the heap of those registered alike.
    var position = 0

    init(_ waiter: Waiter, _ shortage: Shortage) {
        self.waiter = waiter
        self.shortage = shortage
    }
}

/// A queue that has fewer tasks to take than are needed of it.
struct Shortage {
    /// It could not be found out in one call.
    static var unknown: Shortage { Shortage(queue: 0, need: 0) }

    var queue: Slot
    var need: UInt32
}
