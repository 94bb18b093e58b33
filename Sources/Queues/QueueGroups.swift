// A list of queues in which those whose names begin alike are one row, made a slice at a time from a list of all queues
// that is sorted by name, in which the queues of a group are neighbours.

import Bytes

/// What the queues of a group hold together, and what happened to them.
public struct QueueGroup: Sendable {
    /// How many queues it has.
    public internal(set) var queues = 0
    /// Their delayed tasks.
    public internal(set) var delayed = 0
    /// Their ready tasks.
    public internal(set) var ready = 0
    /// Their dispatched tasks.
    public internal(set) var dispatched = 0
    /// Their dead tasks.
    public internal(set) var dead = 0
    /// Waits that name them; one that names several counts for each.
    public internal(set) var waiters = 0
    /// How many of them are paused.
    public internal(set) var paused = 0
    /// Since when the oldest of their next tasks has been ready; nil if no task is ready.
    public internal(set) var oldestReady: Int64?
    /// The events of the last minute.
    public internal(set) var lastMinute = EventCounts()
    /// The place of its trend; nil if it has none.
    fileprivate(set) var trend: Int?
    /// What `QueueOrder.paused` sorts by.
    fileprivate var pausedSince: Int64?

    fileprivate init() {}

    fileprivate mutating func add(_ queue: Slot, _ store: borrowing TaskStore) {
        queues += 1
        delayed += Int(store.queues[queue].list(of: .delayed).count)
        ready += Int(store.queues[queue].readyCount)
        dispatched += Int(store.queues[queue].list(of: .dispatched).count)
        dead += Int(store.queues[queue].list(of: .dead).count)
        waiters += Int(store.queues[queue].waits)
        if store.queues[queue].pause == .paused {
            paused += 1
            pausedSince = min(pausedSince ?? .max, store.queues[queue].since)
        }
        if let time = store.oldestReady(in: queue) { oldestReady = min(oldestReady ?? .max, time) }
        lastMinute.add(store.lastMinute(of: queue))
    }

    /// What it is sorted by, as for a queue (`QueueListing`).
    fileprivate func number(by order: QueueOrder) -> UInt64 {
        switch order {
        case .name: 0
        case .ready: ~UInt64(ready)
        case .oldestReady: oldestReady.map { UInt64(clamping: $0) } ?? .max
        case .delayed: ~UInt64(delayed)
        case .dispatched: ~UInt64(dispatched)
        case .dead: ~UInt64(dead)
        case .rate: ~lastMinute.sum
        case .enqueued: ~lastMinute.enqueued
        case .done: ~lastMinute.done
        case .failed: ~lastMinute.failed
        case .waiters: ~UInt64(waiters)
        case .paused: pausedSince.map { UInt64(clamping: $0) } ?? .max
        }
    }
}

/// A list of groups and of queues that are in none, as they were while it was made. `Broker.extend` makes it.
public final class QueueGroups {
    /// A queue is in a group if the delimiter is in its name behind the prefix. The group has all queues whose names
    /// begin as its own, up to and with the first such delimiter.
    public struct Grouping: Hashable, Sendable {
        /// What all names begin with; others are left out.
        public var prefix: [UInt8]
        /// The delimiter, which is not empty.
        public var delimiter: [UInt8]
        /// What the groups and queues are sorted by. A group is sorted by its sums, its oldest task, and the queue that
        /// has been paused for longest.
        public var order: QueueOrder
        /// Whether groups have trends.
        public var hasTrends: Bool

        /// Makes a grouping.
        public init(prefix: [UInt8], delimiter: [UInt8], order: QueueOrder, hasTrends: Bool) {
            precondition(!delimiter.isEmpty, "an empty delimiter")
            (self.prefix, self.delimiter, self.order, self.hasTrends) = (prefix, delimiter, order, hasTrends)
        }
    }

    /// The most groups that a list has. The queues of others are left out.
    public static var maximumCount: Int { 10_000 }
    private static let stepsPerQueue = 6

    /// How it is made.
    public let grouping: Grouping
    /// The list of all queues, sorted by name; nil when it is not needed any more.
    private var queues: QueueListing?
    private var rows: SortedNames
    /// The names of the groups, in order, and what they hold.
    private var names: [[UInt8]] = []
    private var groups: [QueueGroup] = []
    private var trends: [ReadyTrend] = []
    /// The next queue to look at; nil before the first.
    private var next: Int?
    /// Whether the last group takes more queues.
    private var isOpen = false
    /// How many queues it leaves out, because there are too many groups.
    public private(set) var leftOut = 0
    /// Whether it may be read.
    public private(set) var isComplete = false

    /// Makes an empty list.
    ///
    /// - Parameters:
    ///   - queues: a list of all queues that is sorted by name. It need not be complete yet.
    ///   - grouping: which queues belong together.
    public init(of queues: QueueListing, by grouping: Grouping) {
        precondition(queues.order == .name, "a list that is sorted by something else")
        (self.queues, self.grouping) = (queues, grouping)
        rows = SortedNames(hasNumbers: grouping.order != .name)
    }

    /// The memory that it takes, without that of the list of all queues, in bytes. O(1).
    public var byteCount: Int {
        rows.byteCount + groups.capacity * (MemoryLayout<QueueGroup>.stride + 300)
            + trends.capacity * MemoryLayout<ReadyTrend>.stride
    }

    // MARK: Making

    /// Goes on. Returns whether the list is complete.
    fileprivate func extend(
        _ store: borrowing TaskStore, now: Int64, steps: inout Int, _ admits: (Span<UInt8>, inout Int) -> Bool
    ) -> Bool {
        guard let queues else { return isComplete }
        guard queues.extend(store, steps: &steps) else { return false }
        let prefix = grouping.prefix
        var index = next ?? queues.index(of: prefix.span)
        while index < queues.count {
            guard steps > 0 else {
                next = index
                return false
            }
            let isBehind = queues.withName(at: index) { name in
                guard name.starts(with: prefix) else { return true }
                if admits(name, &steps) { add(name, store, now: now) }
                return false
            }
            if isBehind { break }
            steps -= Self.stepsPerQueue
            index += 1
        }
        next = queues.count
        endGroup()
        isComplete = rows.sort(steps: &steps)
        if isComplete { self.queues = nil }
        return isComplete
    }

    private func add(_ name: Span<UInt8>, _ store: borrowing TaskStore, now: Int64) {
        let queue = store.existingQueue(named: name, hash: QueueRecord.hash(of: name))
        // It may have been forgotten.
        if queue == 0 { return }
        guard let length = lengthOfGroup(name) else {
            endGroup()
            let number = QueueListing.number(of: queue, by: grouping.order, store.oldestReady(in: queue), store)
            return rows.append(name, number: number)
        }
        let last = groups.count - 1
        if !isOpen || names[last].count != length || !name.starts(with: names[last]) {
            endGroup()
            guard groups.count < Self.maximumCount else {
                leftOut += 1
                return
            }
            names.append(Array(copying: name.extracting(first: length)))
            groups.append(QueueGroup())
            isOpen = true
        }
        groups[groups.count - 1].add(queue, store)
        if grouping.hasTrends { addTrend(of: queue, store, now: now) }
    }

    private func addTrend(of queue: Slot, _ store: borrowing TaskStore, now: Int64) {
        let last = groups.count - 1
        var trend = groups[last].trend.map { trends[$0] } ?? ReadyTrend()
        guard store.add(queue, to: &trend, now: now) else { return }
        if let place = groups[last].trend {
            trends[place] = trend
        } else {
            groups[last].trend = trends.count
            trends.append(trend)
        }
    }

    /// Makes a row of the last group, when it is complete.
    private func endGroup() {
        guard isOpen else { return }
        isOpen = false
        let last = groups.count - 1
        let name = names[last]
        rows.append(name.span, number: groups[last].number(by: grouping.order))
    }

    /// How long the name of a queue's group is; nil if the queue is in none.
    private func lengthOfGroup(_ name: Span<UInt8>) -> Int? {
        let delimiter = grouping.delimiter
        var start = grouping.prefix.count
        while start + delimiter.count <= name.count {
            if name.extracting(start..<start + delimiter.count).equals(delimiter.span) {
                return start + delimiter.count
            }
            start += 1
        }
        return nil
    }

    // MARK: Reading

    /// How many groups and queues it has.
    public var count: Int { rows.count }

    /// Calls `body` with the name of a group or a queue. O(1).
    public func withName<Result>(at index: Int, _ body: (Span<UInt8>) -> Result) -> Result {
        rows.withName(at: index, body)
    }

    /// The group at an index; nil if a queue is there. O(log groups).
    public func group(at index: Int) -> QueueGroup? {
        withName(at: index) { name in
            guard lengthOfGroup(name) != nil else { return nil }
            var (low, high) = (0, names.count)
            while low < high {
                let middle = (low + high) / 2
                let other = names[middle]
                if other.span.precedes(name) { low = middle + 1 } else { high = middle }
            }
            return low < names.count ? groups[low] : nil
        }
    }

    /// How many tasks of a group's queues were ready lately; nil if nothing is known of that.
    public func trend(of group: QueueGroup) -> ReadyTrend? { group.trend.map { trends[$0] } }

    /// The place behind a row. O(length of the name).
    public func cursor(behind index: Int) -> QueueListing.Cursor {
        QueueListing.Cursor(number: rows.number(at: index), name: withName(at: index) { Array(copying: $0) })
    }

    /// The index of the first row behind a place. O(log n).
    public func index(behind cursor: QueueListing.Cursor) -> Int {
        let index = rows.index(of: cursor.name.span, number: cursor.number)
        guard index < count, rows.number(at: index) == cursor.number else { return index }
        return withName(at: index) { $0.equals(cursor.name.span) } ? index + 1 : index
    }
}

extension Broker {
    /// Makes a list of groups, a slice at a time. It changes nothing.
    ///
    /// - Parameters:
    ///   - groups: the list.
    ///   - now: the time.
    ///   - steps: how much to do at most; reduced by what was done. See the other `extend`.
    ///   - admits: whether a queue with a name is in the list; reduces the steps by what it does.
    /// - Returns: whether the list is complete and may be read.
    public func extend(
        _ groups: QueueGroups, now: Int64, steps: inout Int, _ admits: (Span<UInt8>, inout Int) -> Bool
    ) -> Bool {
        groups.extend(store, now: now, steps: &steps, admits)
    }
}

extension Span<UInt8> {
    fileprivate func starts(with other: [UInt8]) -> Bool {
        count >= other.count && extracting(first: other.count).equals(other.span)
    }
}
