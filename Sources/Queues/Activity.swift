// What has happened to the tasks of all queues, and how long it took.

import Bytes

/// What has happened to all tasks since the broker was made. Unlike the statistics of a queue, it is never forgotten.
public struct Activity: Sendable {
    /// What has happened to the tasks of all queues.
    public internal(set) var totals = QueueStatistics.Totals()
    /// Dispatches in order to send a task. They also count as dispatched.
    public internal(set) var sends: UInt64 = 0
    /// Attempts to send a task that failed. They also count as nacked.
    public internal(set) var failedSends: UInt64 = 0
    /// How long tasks were ready before each dispatch, in milliseconds.
    public internal(set) var readyMilliseconds = Histogram()
    /// How long the dispatches took that were acknowledged, in milliseconds.
    public internal(set) var dispatchedMilliseconds = Histogram()
}

/// How far a walk through all queues has come.
public struct QueueWalk: Sendable {
    var next: Slot = 1

    /// Makes a walk that has not begun.
    public init() {}
}

extension TaskStore {
    /// A method, because without optimization the compiler (Swift 6.3) frees the store's copy before it reads a large
    /// member of it.
    fileprivate func copyOfActivity() -> Activity { activity }
}

extension Broker {
    /// What has happened to all tasks since the broker was made.
    public var activity: Activity { store.copyOfActivity() }

    /// What has happened to the tasks of all queues since the broker was made, also of queues that are forgotten.
    public var totals: QueueStatistics.Totals { store.copyOfActivity().totals }

    /// How many tasks are in a state; an expired one counts until its timer has fired. O(1).
    public func taskCount(in state: TaskState) -> Int { store.population(state.recordState) }

    /// How many queues hold tasks, have a configuration or waits, or are paused. O(1).
    public var usedQueueCount: Int { store.usedQueueCount }

    /// How many queues are paused. O(1).
    public var pausedQueueCount: Int { store.pausedQueueCount }

    /// How many places a walk through all queues looks at. O(1).
    public var queuePlaceCount: Int { Int(store.queues.used) }

    /// Calls `body` with the next queues of a walk, in an order that stays the same while they exist. The walk meets
    /// each queue that exists from its beginning to its end once. Between calls, the broker may change. O(limit).
    ///
    /// - Parameters:
    ///   - walk: how far the walk has come; moved on.
    ///   - limit: how many places to look at, at most.
    ///   - body: receives each queue, its name and its statistics.
    /// - Returns: whether the walk is over.
    public func continueWalk(
        _ walk: inout QueueWalk, limit: Int, _ body: (QueueIndex, Span<UInt8>, QueueStatistics) -> Void
    ) -> Bool {
        let end = Slot(clamping: min(Int(walk.next) + limit, Int(store.queues.used)))
        while walk.next < end {
            let queue = walk.next
            walk.next += 1
            // A vacant place has no name.
            guard store.queues.contains(queue), !store.queues[queue].isPlaceOfDefaults else { continue }
            let name = store.queues[queue].name
            body(QueueIndex(slot: queue), name.span, store.statistics(of: queue))
        }
        return walk.next >= store.queues.used
    }
}
