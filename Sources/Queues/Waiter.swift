// A client that waits for tasks.

/// One blocked wait. It ends when its completion is called or when it is cancelled.
public final class Waiter {
    /// What is called when a wait ends: with a task for each name of a queue, or, at its deadline, nil where there is none.
    ///
    /// It runs in the broker's isolation: one that is made there captures the broker and whatever else is isolated to it.
    public typealias Completion = ([TaskHandle?]) -> Void

    /// How many tasks it waits for.
    public var count: Int { queues.count }

    let queues: [QueueIndex]
    let leaseMilliseconds: Int64?
    let deadline: Int64
    /// Its number in the order of arrival.
    let arrival: UInt64
    let completion: Completion
    /// The queue that it is filed under, and how many tasks it needs of it.
    var lack = Lack.unknown
    /// Whether it still waits.
    var isWaiting = true
    /// Its positions in the heap of those filed alike, and in the heap of deadlines.
    var filePosition = 0
    var deadlinePosition = 0

    init(
        queues: [QueueIndex], leaseMilliseconds: Int64?, deadline: Int64, arrival: UInt64,
        completion: @escaping Completion
    ) {
        self.queues = queues
        self.leaseMilliseconds = leaseMilliseconds
        self.deadline = deadline
        self.arrival = arrival
        self.completion = completion
    }
}

/// A queue that has fewer ready tasks than are needed of it.
struct Lack {
    /// It could not be found out in one call.
    static var unknown: Lack { Lack(queue: 0, need: 0) }

    var queue: Slot
    var need: UInt32
}
