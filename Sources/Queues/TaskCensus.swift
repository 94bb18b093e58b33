// A census of tasks: the dead ones by queue and error, and those that workers hold by worker and queue. It is made a
// slice at a time, so that it holds up nobody, however many tasks there are.
//
// It walks through the table of tasks by slot, not through lists, which change meanwhile. Of most tasks it reads one
// byte. A task that stays as it is while the census is made is counted exactly once.

import Bytes
import UID

/// The dead tasks and the held tasks, as they were while the census was made. `Broker.extend` makes it.
public final class TaskCensus {
    /// The dead tasks of a queue whose errors have the same summary.
    public struct ErrorGroup: Sendable {
        /// The name of the queue.
        public let queue: [UInt8]
        /// The summary of the error (`TaskError.summary`); empty if there is none.
        public let error: [UInt8]
        /// How many tasks it has.
        public fileprivate(set) var count = 0
        /// When the first of them died.
        public fileprivate(set) var first = Int64.max
        /// When the last of them died.
        public fileprivate(set) var last = Int64.min
        /// The task that died last.
        public fileprivate(set) var example = UID(high: 0, low: 0)
    }

    /// A task that a worker holds.
    public struct HeldTask: Sendable {
        /// Its id.
        public let id: UID
        /// When it was dispatched.
        public let dispatched: Int64
        /// When its lease ends.
        public let leaseEnd: Int64
    }

    /// The tasks of one queue that one worker holds.
    public struct Holding: Sendable {
        /// The name of the worker; empty for all that have none.
        public let worker: [UInt8]
        /// The name of the queue.
        public let queue: [UInt8]
        /// How many tasks it holds.
        public fileprivate(set) var count = 0
        /// The tasks that it has held for the longest time, that one first; none if the worker has no name.
        public fileprivate(set) var tasks: [HeldTask] = []
    }

    /// A worker that has asked for tasks.
    public struct Worker: Sendable {
        /// Its name.
        public let name: [UInt8]
        /// When it first asked for tasks.
        public let firstSeen: Int64
        /// When it last asked for tasks, or waited for them.
        public let lastSeen: Int64
        /// How many waits it has.
        public let waitCount: Int
        /// The names of the queues of some of its waits, some for each.
        public let waits: [[[UInt8]]]
    }

    /// The most groups and holdings.
    public static let maximumGroups = 10_000
    /// The most tasks of a holding, waits of a worker, and queues of a wait.
    public static let maximumDetails = 10

    /// The dead tasks, in no particular order.
    public private(set) var groups: [ErrorGroup] = []
    /// The held tasks, in no particular order.
    public private(set) var holdings: [Holding] = []
    /// The workers that have asked for tasks, in no particular order.
    public private(set) var workers: [Worker] = []
    /// How many waits for tasks belong to none of these workers.
    public private(set) var otherWaitCount = 0
    /// How many dead tasks are in no group, because there are too many groups.
    public private(set) var deadLeftOut = 0
    /// How many held tasks are in no holding, because there are too many holdings.
    public private(set) var heldLeftOut = 0
    /// Whether it may be read.
    public private(set) var isComplete = false
    /// How many steps it has taken so far; when it is complete, with those that answers made of it take.
    public private(set) var stepCount = 0
    /// The approximate memory that it takes, in bytes.
    public private(set) var byteCount = 0

    private struct Pair: Hashable {
        let first: [UInt8]
        let second: [UInt8]
    }

    private var groupPlaces: [Pair: Int] = [:]
    private var holdingPlaces: [Pair: Int] = [:]
    /// The group of the last dead task in this slice, with its queue and its whole error: the next one is often alike.
    private var lastGroup: (queue: Slot, error: [UInt8], place: Int)?
    private let maximumCount: Int
    private var nextTask: Slot = 1
    private var nextWorker: Slot = 1

    /// Makes an empty census.
    ///
    /// - Parameter maximumCount: the most groups and the most holdings.
    public init(maximumCount: Int = TaskCensus.maximumGroups) {
        self.maximumCount = maximumCount
    }

    /// The most memory that a census with so many groups and holdings takes if texts are not long, in bytes.
    public static func estimatedByteCount(of maximumCount: Int) -> Int { maximumCount * 1600 }

    // MARK: Making

    private static let stepsPerTask = 40
    private static let stepsPerRow = 200

    /// Goes on. Returns whether the census is complete.
    fileprivate func extend(
        _ store: borrowing TaskStore, _ table: borrowing WorkerTable, now: Int64, steps: inout Int
    ) -> Bool {
        if isComplete { return true }
        let before = steps
        defer { stepCount += before - steps }
        // Queues may have come and gone since the last slice.
        lastGroup = nil
        while nextTask < store.tasks.used {
            let slots = store.tasks.initializedSlots(from: nextTask)
            nextTask = slots.upperBound
            for slot in slots {
                guard steps > 0 else {
                    nextTask = slot
                    return false
                }
                steps -= 1
                switch store.tasks[slot].state {
                case .dead:
                    steps -= Self.stepsPerTask
                    if store.tasks[slot].until > now { countDead(slot, store) }
                case .dispatched:
                    steps -= Self.stepsPerTask
                    if !store.tasks[slot].isPushed, store.tasks[slot].isHeld(now: now) { countHeld(slot, store) }
                default: break
                }
            }
        }
        while nextWorker < table.records.used {
            guard steps > 0 else { return false }
            steps -= Self.stepsPerTask
            if table.records.contains(nextWorker), !table.records[nextWorker].name.isEmpty {
                add(nextWorker, of: table, store)
            }
            nextWorker += 1
        }
        otherWaitCount = table.otherWaitCount
        (groupPlaces, holdingPlaces) = ([:], [:])
        // Choosing what an answer shows of them, and writing it, once or twice.
        stepCount += (groups.count + holdings.count + workers.count) * Self.stepsPerRow
        isComplete = true
        return true
    }

    private func countDead(_ slot: Slot, _ store: borrowing TaskStore) {
        let queue = store.tasks[slot].queue
        let error = store.extras(of: slot)?.error ?? []
        guard let place = groupPlace(of: queue, error, store) else { return deadLeftOut += 1 }
        let died = store.tasks[slot].expires
        groups[place].count += 1
        groups[place].first = min(groups[place].first, died)
        if died >= groups[place].last {
            groups[place].last = died
            groups[place].example = store.tasks[slot].id
        }
    }

    /// The place of a group, which is made if there is room for it; nil if there is none.
    private func groupPlace(of queue: Slot, _ error: [UInt8], _ store: borrowing TaskStore) -> Int? {
        if let lastGroup, lastGroup.queue == queue, lastGroup.error == error { return lastGroup.place }
        let pair = Pair(first: store.queues[queue].name, second: TaskError.summary(of: error))
        let place: Int
        if let known = groupPlaces[pair] {
            place = known
        } else {
            guard groups.count < maximumCount else { return nil }
            place = groups.count
            groups.append(ErrorGroup(queue: pair.first, error: pair.second))
            groupPlaces[pair] = place
            // With its entry in the dictionary. The name is the queue's.
            byteCount += 250 + pair.second.count
        }
        // Comparing long ones would take too long.
        if error.count <= TaskError.maximumSummaryBytes { lastGroup = (queue, error, place) }
        return place
    }

    private func countHeld(_ slot: Slot, _ store: borrowing TaskStore) {
        let record = store.tasks[slot]
        let pair = Pair(first: store.extras(of: slot)?.worker ?? [], second: store.queues[record.queue].name)
        let place: Int
        if let known = holdingPlaces[pair] {
            place = known
        } else {
            guard holdings.count < maximumCount else { return heldLeftOut += 1 }
            place = holdings.count
            holdings.append(Holding(worker: pair.first, queue: pair.second))
            holdingPlaces[pair] = place
            byteCount += 250 + pair.first.count
        }
        holdings[place].count += 1
        if pair.first.isEmpty { return }
        let task = HeldTask(id: record.id, dispatched: record.dispatched, leaseEnd: record.until)
        let isFull = holdings[place].tasks.count == Self.maximumDetails
        if isFull, let last = holdings[place].tasks.last, last.dispatched <= task.dispatched { return }
        if isFull {
            holdings[place].tasks.removeLast()
        } else {
            byteCount += MemoryLayout<HeldTask>.stride
        }
        let index = holdings[place].tasks.firstIndex { $0.dispatched > task.dispatched }
        holdings[place].tasks.insert(task, at: index ?? holdings[place].tasks.count)
    }

    private func add(_ place: Slot, of table: borrowing WorkerTable, _ store: borrowing TaskStore) {
        let record = table.records[place]
        let waits = record.waiters.prefix(Self.maximumDetails).map { waiter in
            waiter.distinctQueues.prefix(Self.maximumDetails).map { store.queues[$0.slot].name }
        }
        workers.append(
            Worker(
                name: record.name, firstSeen: record.firstSeen, lastSeen: record.lastSeen,
                waitCount: record.waiters.count, waits: waits))
        byteCount += MemoryLayout<Worker>.stride + waits.reduce(0) { $0 + 64 + 8 * $1.count }
    }
}

extension Broker {
    /// Makes a census of tasks, a slice at a time. It changes nothing.
    ///
    /// - Parameters:
    ///   - census: the census.
    ///   - now: the time.
    ///   - steps: how much to do at most; reduced by what was done. A step takes some 10 ns.
    /// - Returns: whether the census is complete and may be read.
    public func extend(_ census: TaskCensus, now: Int64, steps: inout Int) -> Bool {
        census.extend(store, workers, now: now, steps: &steps)
    }
}
