// A list of all queues in some order, made a slice at a time, so that it holds up nobody, however many queues there
// are. It has copies of what it sorts by, so queues may change, come and go while it is made and while it is read.

import Bytes

/// What a list of queues is sorted by. Queues that are equal in it are sorted bytewise by name.
public enum QueueOrder: Hashable, Sendable, CaseIterable {
    /// The name, bytewise.
    case name
    /// The number of ready tasks; most first.
    case ready
    /// How long the oldest ready task has been ready; longest first, and queues without ready tasks last.
    case oldestReady
    /// The number of delayed, dispatched or dead tasks; most first.
    case delayed, dispatched, dead
    /// The number of events in the last minute (`Broker.lastMinute`); most first.
    case rate
    /// The number of tasks that were enqueued, done, or failed in the last minute; most first.
    case enqueued, done, failed
    /// The number of waits that name it; most first.
    case waiters
    /// For how long it has been paused; longest first, and queues that are not paused last.
    case paused
}

/// A list of all queues, as they were while it was made.
///
/// Every queue that exists the whole time while it is made is in it exactly once. `Broker.extend` makes it.
public final class QueueListing {
    /// A place in a list: behind the queue with this number and name, or where it would be.
    public struct Cursor: Hashable, Sendable {
        /// What the list is sorted by; 0 if it is sorted by name.
        public var number: UInt64
        /// The name.
        public var name: [UInt8]

        /// Makes a cursor.
        public init(number: UInt64, name: [UInt8]) {
            (self.number, self.name) = (number, name)
        }
    }

    /// What it is sorted by.
    public let order: QueueOrder
    private var names: SortedNames
    /// The first slot that has not been looked at.
    private var next: Slot = 1
    private var isRead = false
    /// Whether it may be read.
    public private(set) var isComplete = false
    private var oldest: Oldest?

    /// A queue and its oldest ready task.
    public struct Oldest {
        /// The name of the queue.
        public let name: [UInt8]
        /// Since when the task has been ready.
        public let time: Int64
    }

    /// The queue whose oldest ready task has been ready for longest, when the list was made; nil if there is none.
    /// Paused queues do not count. Each list has it, whatever its order.
    public var oldestReady: Oldest? { isComplete ? oldest : nil }

    /// Makes an empty list.
    public init(by order: QueueOrder) {
        self.order = order
        names = SortedNames(hasNumbers: order != .name)
    }

    /// The memory that a list of this many queues takes while it is sorted, in bytes, if their names are not long.
    public static func estimatedByteCount(of count: Int) -> Int {
        count * (2 * MemoryLayout<SortedNames.Entry>.stride + 24)
    }

    /// The memory that it takes, in bytes. O(1).
    public var byteCount: Int { names.byteCount }

    // MARK: Making

    /// The steps that looking at a queue takes, and at a slot without one.
    private static let stepsPerQueue = 6

    /// Goes on. Returns whether the list is complete.
    func extend(_ store: borrowing TaskStore, steps: inout Int) -> Bool {
        if isComplete { return true }
        // Some queues more than there are now, so that a few new ones do not move all.
        if next == 1 { names.reserve(store.queues.count + store.queues.count / 8 + 1) }
        while !isRead {
            guard steps > 0 else { return false }
            if next >= store.queues.used {
                isRead = true
            } else {
                steps -= read(next, store)
                next += 1
            }
        }
        isComplete = names.sort(steps: &steps)
        return isComplete
    }

    /// Adds the queue in a slot, if there is one, and returns how many steps that took.
    private func read(_ slot: Slot, _ store: borrowing TaskStore) -> Int {
        // Vacant slots have no name, and neither has the place of the defaults.
        guard store.queues.contains(slot), !store.queues[slot].name.isEmpty else { return 1 }
        let name = store.queues[slot].name
        let ready = store.oldestReady(in: slot)
        names.append(name.span, number: Self.number(of: slot, by: order, ready, store))
        if let ready, store.queues[slot].pause != .paused, ready < oldest?.time ?? .max {
            oldest = Oldest(name: name, time: ready)
        }
        return Self.stepsPerQueue
    }

    /// What a queue is sorted by in an order. The largest numbers come last.
    static func number(
        of queue: Slot, by order: QueueOrder, _ oldestReady: Int64?, _ store: borrowing TaskStore
    ) -> UInt64 {
        switch order {
        case .name: 0
        case .ready: ~UInt64(store.queues[queue].readyCount)
        case .oldestReady: oldestReady.map { UInt64(clamping: $0) } ?? .max
        case .delayed: ~UInt64(store.queues[queue].list(of: .delayed).count)
        case .dispatched: ~UInt64(store.queues[queue].list(of: .dispatched).count)
        case .dead: ~UInt64(store.queues[queue].list(of: .dead).count)
        case .rate: ~store.lastMinute(of: queue).sum
        case .enqueued: ~store.lastMinute(of: queue).enqueued
        case .done: ~store.lastMinute(of: queue).done
        case .failed: ~store.lastMinute(of: queue).failed
        case .waiters: ~UInt64(store.queues[queue].waits)
        // An unknown time is long ago.
        case .paused: store.queues[queue].pause == .paused ? UInt64(clamping: store.queues[queue].since) : .max
        }
    }

    // MARK: Reading

    /// How many queues it has.
    public var count: Int { names.count }

    /// Calls `body` with the name of a queue. O(1).
    public func withName<Result>(at index: Int, _ body: (Span<UInt8>) -> Result) -> Result {
        names.withName(at: index, body)
    }

    /// The place behind a queue. O(length of the name).
    public func cursor(behind index: Int) -> Cursor {
        Cursor(number: names.number(at: index), name: withName(at: index) { Array(copying: $0) })
    }

    /// The index of the first queue behind a place. O(log n).
    public func index(behind cursor: Cursor) -> Int {
        let index = names.index(of: cursor.name.span, number: cursor.number)
        guard index < count, names.number(at: index) == cursor.number else { return index }
        return withName(at: index) { $0.equals(cursor.name.span) } ? index + 1 : index
    }

    /// The index of the first queue whose name does not precede another, in a list that is sorted by name. O(log n).
    public func index(of name: Span<UInt8>) -> Int {
        precondition(order == .name, "a list that is sorted by something else")
        return names.index(of: name, number: 0)
    }
}

extension Broker {
    /// Makes a list of all queues, a slice at a time. It changes nothing.
    ///
    /// - Parameters:
    ///   - listing: the list.
    ///   - steps: how much to do at most; reduced by what was done. A step takes some 50 ns, and one step may take
    ///     300 µs.
    /// - Returns: whether the list is complete and may be read.
    public func extend(_ listing: QueueListing, steps: inout Int) -> Bool {
        listing.extend(store, steps: &steps)
    }

    /// Whether a queue holds an unfinished or dead task, has a configuration or is paused; after `advance`, an expired
    /// task does not count. O(1).
    public func isListed(_ queue: QueueIndex) -> Bool { store.queues[queue.slot].isListed }
}
