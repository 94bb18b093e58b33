// The workers that have asked for tasks: their names, when they asked, and their waits.
//
// A worker is no more than a name that waits give, so the table forgets names: those unused for an hour, and if there
// are too many, the one that was unused for the longest time.

/// A worker that has asked for tasks.
struct WorkerRecord: LinkedRecord {
    private(set) var name: [UInt8] = []
    private(set) var hash: UInt32 = 0
    var chained: Slot = 0
    /// Links of the list of all workers.
    private var links = Links()
    /// When it first and last asked for tasks, or waited for them.
    fileprivate(set) var firstSeen: Int64 = 0
    fileprivate(set) var lastSeen: Int64 = 0
    /// Its waits that have not ended. They know their positions.
    fileprivate(set) var waiters: [Waiter] = []

    init() {}

    fileprivate init(name: Span<UInt8>, hash: UInt32, now: Int64) {
        self.name = Array(copying: name)
        self.hash = hash
        (firstSeen, lastSeen) = (now, now)
    }

    fileprivate func isNamed(_ other: Span<UInt8>) -> Bool {
        let name = name
        return name.span.equals(other)
    }

    fileprivate var byteCount: Int { MemoryLayout<Self>.stride + MemoryLayout<Slot>.stride + 32 + name.count }

    subscript(links kind: Int) -> Links {
        get { links }
        set { links = newValue }
    }
}

/// The workers by name. Every operation is O(1) but those that say otherwise.
struct WorkerTable: ~Copyable {
    static var maximumCount: Int { 10_000 }
    /// How long it remembers a worker that does not wait.
    static var keepingMilliseconds: Int64 { 3_600_000 }
    /// How exactly the list of all workers is sorted, so that a busy worker does not change it with each request.
    private static var orderMilliseconds: Int64 { 1000 }

    private(set) var records = Table<WorkerRecord>(capacity: maximumCount)
    /// All workers; to a second, the one that was last seen the longest ago is first.
    private var byAge = LinkedList<WorkerRecord, 0>()
    /// The memory of the workers, in bytes.
    private(set) var byteCount = 0
    /// How many waits for tasks belong to no worker here.
    private(set) var otherWaitCount = 0

    /// Notes that a worker asks for tasks.
    ///
    /// - Returns: its place.
    @discardableResult
    mutating func note(_ name: Span<UInt8>, now: Int64) -> Slot {
        let hash = QueueRecord.hash(of: name)
        let found = records.find(hash: hash) { $0.isNamed(name) }
        if found != 0 {
            see(found, now: now)
            return found
        }
        if records.count >= records.capacity { forget(byAge.first) }
        let record = WorkerRecord(name: name, hash: hash, now: now)
        guard let made = records.insert(record) else { return 0 }
        byAge.append(made, in: &records)
        byteCount += record.byteCount
        return made
    }

    private mutating func see(_ place: Slot, now: Int64) {
        let isSorted = abs(now - records[place].lastSeen) < Self.orderMilliseconds
        if isSorted { return records[place].lastSeen = max(now, records[place].lastSeen) }
        records[place].lastSeen = now
        byAge.remove(place, in: &records)
        byAge.append(place, in: &records)
    }

    /// Notes the beginning of a wait for tasks.
    @inline(__always)
    mutating func begin(_ waiter: Waiter, now: Int64) {
        if waiter.worker.isEmpty { otherWaitCount += 1 } else { beginNamed(waiter, now: now) }
    }

    private mutating func beginNamed(_ waiter: Waiter, now: Int64) {
        let worker = waiter.worker
        let place = note(worker.span, now: now)
        guard place != 0 else { return otherWaitCount += 1 }
        waiter.workerPlace = place
        waiter.workerPosition = records[place].waiters.count
        records[place].waiters.append(waiter)
    }

    /// Notes the end of a wait for tasks.
    @inline(__always)
    mutating func end(_ waiter: Waiter, now: Int64) {
        if waiter.workerPlace == 0 { otherWaitCount -= 1 } else { endNamed(waiter, now: now) }
    }

    private mutating func endNamed(_ waiter: Waiter, now: Int64) {
        let place = waiter.workerPlace
        waiter.workerPlace = 0
        see(place, now: now)
        guard let last = records[place].waiters.popLast(), last !== waiter else { return }
        // The last waiter fills the gap.
        records[place].waiters[waiter.workerPosition] = last
        last.workerPosition = waiter.workerPosition
    }

    /// Forgets a worker. O(its waits).
    private mutating func forget(_ place: Slot) {
        for waiter in records[place].waiters { waiter.workerPlace = 0 }
        otherWaitCount += records[place].waiters.count
        byteCount -= records[place].byteCount
        byAge.remove(place, in: &records)
        records.remove(place)
    }

    /// Forgets workers that neither wait nor have waited for an hour.
    ///
    /// - Returns: whether nothing is left to do.
    mutating func tidy(now: Int64, steps: inout Int) -> Bool {
        while !byAge.isEmpty, records[byAge.first].lastSeen.addingWithinRange(Self.keepingMilliseconds) <= now {
            guard steps > 0 else { return false }
            steps -= 1
            if records[byAge.first].waiters.isEmpty { forget(byAge.first) } else { see(byAge.first, now: now) }
        }
        return records.trim()
    }

    /// Checks the table against itself. O(n).
    func checkInvariants(waitCount: Int) {
        records.checkInvariants()
        var (waits, bytes) = (0, 0)
        byAge.checkInvariants(in: records) { place in
            bytes += records[place].byteCount
            waits += records[place].waiters.count
            for (position, waiter) in records[place].waiters.enumerated() {
                precondition(
                    waiter.isWaiting && waiter.workerPlace == place && waiter.workerPosition == position,
                    "a wait that does not know its worker")
                precondition(waiter.worker == records[place].name, "a wait of another worker")
            }
        }
        precondition(byAge.count == UInt32(records.count), "a worker that is not in the list of all")
        precondition(bytes == byteCount, "the memory of workers is miscounted")
        precondition(waits + otherWaitCount == waitCount, "the waits of workers are miscounted")
    }
}

extension Broker {
    /// Notes that a worker asks for tasks. Waits note it themselves. O(1).
    ///
    /// - Parameters:
    ///   - name: its name, which is not empty.
    ///   - now: the time.
    public func noteWorker(_ name: Span<UInt8>, now: Int64) {
        workers.note(name, now: now)
    }
}
