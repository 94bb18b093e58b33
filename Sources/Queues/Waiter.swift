// A client that waits for tasks, or for the end of a task.

import UID

/// One blocked wait. It ends when its completion is called or when it is cancelled.
public final class Waiter {
    /// Called when a wait for tasks ends. A wait for all queues gets a task for each name, or nil where there is none
    /// at the deadline. A wait for any queue gets the tasks that there are.
    ///
    /// It runs in the broker's isolation, so a closure made there can capture the broker and state isolated to it.
    public typealias Completion = ([TaskHandle?]) -> Void

    /// Called when a wait for the end of a task ends, with the task's state and its result, which is empty if there is
    /// none.
    ///
    /// If the deadline came first, the state is that of an unfinished task. It runs in the broker's isolation.
    public typealias ResultCompletion = (TaskState, Span<UInt8>) -> Void

    enum Goal {
        /// A task for each name of a queue.
        case all(Completion)
        /// Up to so many tasks of any of the queues.
        case any(limit: Int, Completion)
        /// The end of a task.
        case result(of: UID, ResultCompletion)
    }

    /// How many nils the completion gets if the wait ends without tasks.
    public var count: Int {
        if case .all = goal { queues.count } else { 0 }
    }

    let goal: Goal
    let queues: [QueueIndex]
    /// The queues without repetitions.
    let distinctQueues: [QueueIndex]
    let leaseMilliseconds: Int64?
    let worker: [UInt8]
    let deadline: Int64
    /// Its number in the order of arrival.
    let arrival: UInt64
    /// One registration under a queue that has too few tasks; one under each queue if any queue will do; none while
    /// undecided.
    private(set) var registrations: [Registration] = []
    /// Whether the wait has not ended.
    var isWaiting = true
    /// Whether the client has gone.
    var isCancelled = false
    /// Whether the task has ended and the completion is about to be called.
    var isDue = false
    /// The waiter's positions in the heap of deadlines, in the heap of undecided waiters, and among the waiters of its
    /// task.
    var deadlinePosition = 0
    var undecidedPosition = 0
    var resultPosition = 0
    /// The place of its worker, 0 if it has none there; and the waiter's position among those of its worker.
    var workerPlace: Slot = 0
    var workerPosition = 0

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

    /// The approximate memory of the waiter: itself and its completion, its list of queues, and for each registration
    /// the object and the queue's dictionary and heap.
    var byteCount: Int { 500 + worker.count + 8 * queues.count + (isForAny ? 220 * distinctQueues.count : 220) }

    /// The task whose end it waits for, if that is its goal.
    var task: UID? {
        if case .result(let id, _) = goal { id } else { nil }
    }

    /// Makes the registrations for a shortage: none if it is unknown.
    func plan(for shortage: Shortage) {
        registrations.removeAll(keepingCapacity: true)
        guard shortage.queue != 0 else { return }
        guard isForAny else { return registrations.append(Registration(self, shortage)) }
        for queue in distinctQueues {
            registrations.append(Registration(self, Shortage(queue: queue.slot, need: 1)))
        }
    }
}

/// An entry for a waiter among the waiters of one queue.
final class Registration {
    unowned let waiter: Waiter
    let shortage: Shortage
    /// The position in the heap of registrations with the same need.
    var position = 0

    init(_ waiter: Waiter, _ shortage: Shortage) {
        self.waiter = waiter
        self.shortage = shortage
    }
}

/// A queue that has fewer tasks available than a waiter needs, and how many the waiter needs.
struct Shortage {
    /// The shortage could not be found within one call.
    static var unknown: Shortage { Shortage(queue: 0, need: 0) }

    var queue: Slot
    var need: UInt32
}
