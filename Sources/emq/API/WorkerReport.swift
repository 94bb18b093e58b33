// The answer to `/workers/`: the workers with their waits and the tasks that they hold.

import Bytes
import Net
import Queues

/// What workers are sorted by.
enum WorkerOrder {
    /// For how long the worker has held the task that it has held for the longest time; longest first.
    case oldest
    /// How many tasks it holds; most first.
    case held
    case name
    /// When it asked for tasks last; the latest first.
    case lastSeen

    static let named: [String: WorkerOrder] = [
        "oldest": .oldest, "held": .held, "name": .name, "last_seen": .lastSeen,
    ]
}

/// The answer to `GET /workers/`.
final class WorkerReport: SurveyReport {
    /// What it finds of a worker. The rest is found when the worker is written, because most are not.
    private struct Row {
        let name: [UInt8]
        var held = 0
        /// When the task that it has held for the longest time was dispatched.
        var oldest = Int64.max
        var firstSeen = Int64.max
        var lastSeen = Int64.min
        /// The last of its holdings that was met (`previousHoldings`), and its place among the workers; -1 for none.
        var holding: Int32 = -1
        var worker: Int32 = -1
    }

    /// What it takes to sort a task in among the oldest ones, in steps of a census.
    private static let stepsPerInsertion = 10

    private let pattern: GlobPattern?
    private let order: WorkerOrder

    init(
        of request: borrowing Request, by caller: Caller, matching pattern: GlobPattern?, order: WorkerOrder, count: Int
    ) {
        (self.pattern, self.order) = (pattern, order)
        best = BestFew(limit: count)
        super.init(of: request, by: caller)
    }

    /// The holding, the worker, and then the row to look at next.
    private var (holdingPosition, workerPosition, rowPosition) = (0, 0, 0)
    private var rows: [Row] = []
    private var places: [[UInt8]: Int] = [:]
    /// For each holding, another one of the same worker; -1 for none.
    private var previousHoldings: [Int32] = []
    private var unnamedHeld = 0
    /// The rows to show, and those still to be written, the last one first.
    private var best: BestFew<Int>
    private var unwritten: [Int] = []
    /// The tasks that the next worker to write has held for the longest time, as far as they are found, and the holding
    /// to look at next; nil before the first.
    private var oldestTasks: [(queue: [UInt8], task: TaskCensus.HeldTask)] = []
    private var oldestHolding: Int32?

    override var mayTakeLong: Bool { pattern != nil || !caller.coversAllQueues }

    /// The names are those of the census.
    override var draftByteCount: Int { rows.count * 2 * MemoryLayout<Row>.stride + places.capacity * 40 }

    override func extend(_ census: TaskCensus, asOf time: Int64, steps: inout Int) -> Bool {
        guard steps > 0, findRows(census, asOf: time, steps: &steps) else { return false }
        while rowPosition < rows.count {
            guard steps > 0 else { return false }
            best.insert(rowPosition, steps: &steps, precedes)
            rowPosition += 1
        }
        while let place = best.removeWorst(steps: &steps, precedes) {
            unwritten.append(place)
            guard steps > 0 else { return false }
        }
        while let place = unwritten.last {
            guard steps > 0, findOldestTasks(of: rows[place], census, steps: &steps) else { return false }
            unwritten.removeLast()
            steps += text.count
            text.append(text.isEmpty ? "{\"workers\":[" : ",")
            write(rows[place], census, steps: &steps)
            steps -= text.count
            (oldestTasks, oldestHolding) = ([], nil)
        }
        if rows.isEmpty { text.append("{\"workers\":[") }
        append("],\"count\":", rows.count)
        text.append(",\"unnamed\":{")
        // Nobody knows for which queues they wait.
        if caller.coversAllQueues { append("\"waiting\":", census.otherWaitCount) }
        append(caller.coversAllQueues ? ",\"held\":" : "\"held\":", unnamedHeld)
        text.append("}")
        if census.heldLeftOut > 0, caller.coversAllQueues { append(",\"left_out\":", census.heldLeftOut) }
        append(",\"as_of\":", time: time)
        text.append("}")
        return true
    }

    // MARK: Finding

    /// Goes on with finding all workers. Returns whether all are found.
    private func findRows(_ census: TaskCensus, asOf time: Int64, steps: inout Int) -> Bool {
        if holdingPosition == 0, workerPosition == 0 {
            // Otherwise it would grow all at once again and again.
            places.reserveCapacity(census.holdings.count + census.workers.count)
        }
        while holdingPosition < census.holdings.count {
            guard steps > 0 else { return false }
            let holding = census.holdings[holdingPosition]
            previousHoldings.append(-1)
            steps -= Self.stepsPerRow + looks(at: holding.worker, holding.queue) * Self.stepsPerLook
            if caller.covers(holding.queue.span) {
                if holding.worker.isEmpty { unnamedHeld += holding.count } else { add(holding) }
            }
            holdingPosition += 1
        }
        while workerPosition < census.workers.count {
            guard steps > 0 else { return false }
            let worker = census.workers[workerPosition]
            steps -= Self.stepsPerRow + looks(at: worker.name, []) * Self.stepsPerLook
            for name in worker.waits.joined() { steps -= looks(at: [], name) * Self.stepsPerLook }
            add(worker, asOf: time)
            workerPosition += 1
        }
        return true
    }

    /// About how long it takes to see whether a worker and a queue are shown, in steps of `QueueViews`.
    private func looks(at worker: [UInt8], _ queue: [UInt8]) -> Int {
        (pattern?.byteCount ?? 0) * worker.count / 64 + QueueFilter(caller: caller).steps(for: queue.span)
    }

    private func add(_ holding: TaskCensus.Holding) {
        if let pattern, !pattern.matches(holding.worker.span) { return }
        let place = place(of: holding.worker)
        previousHoldings[holdingPosition] = rows[place].holding
        rows[place].holding = Int32(holdingPosition)
        rows[place].held += holding.count
        guard let first = holding.tasks.first, let last = holding.tasks.last else { return }
        rows[place].oldest = min(rows[place].oldest, first.dispatched)
        // It asked for them, even if emq no longer knows when it asked for others.
        rows[place].firstSeen = min(rows[place].firstSeen, first.dispatched)
        rows[place].lastSeen = max(rows[place].lastSeen, last.dispatched)
    }

    private func add(_ worker: TaskCensus.Worker, asOf time: Int64) {
        if let pattern, !pattern.matches(worker.name.span) { return }
        // One that has nothing to do with the caller's queues is none of the caller's.
        guard caller.coversAllQueues || places[worker.name] != nil || !visibleWaits(of: worker).isEmpty else { return }
        let place = place(of: worker.name)
        rows[place].worker = Int32(workerPosition)
        rows[place].firstSeen = min(rows[place].firstSeen, worker.firstSeen)
        let seen = worker.waitCount > 0 ? max(time, worker.lastSeen) : worker.lastSeen
        rows[place].lastSeen = max(rows[place].lastSeen, seen)
    }

    private func place(of name: [UInt8]) -> Int {
        if let place = places[name] { return place }
        places[name] = rows.count
        rows.append(Row(name: name))
        return rows.count - 1
    }

    private func visibleWaits(of worker: TaskCensus.Worker) -> [[[UInt8]]] {
        caller.coversAllQueues
            ? worker.waits : worker.waits.filter { wait in wait.contains { caller.covers($0.span) } }
    }

    private func precedes(_ one: Int, _ other: Int) -> Bool {
        let (one, other) = (rows[one], rows[other])
        return switch order {
        case .oldest where one.oldest != other.oldest: one.oldest < other.oldest
        case .held where one.held != other.held: one.held > other.held
        case .lastSeen where one.lastSeen != other.lastSeen: one.lastSeen > other.lastSeen
        default: one.name.span.precedes(other.name.span)
        }
    }

    // MARK: Writing

    private func write(_ row: Row, _ census: TaskCensus, steps: inout Int) {
        append("{\"name\":", row.name)
        var (waiting, queues): (Int, [[UInt8]]) = (0, [])
        if census.workers.indices.contains(Int(row.worker)) {
            let worker = census.workers[Int(row.worker)]
            let waits = visibleWaits(of: worker)
            waiting = caller.coversAllQueues ? worker.waitCount : waits.count
            for name in waits.joined() where queues.count < TaskCensus.maximumDetails {
                steps -= looks(at: [], name) * Self.stepsPerLook
                if !queues.contains(name), caller.covers(name.span) { queues.append(name) }
            }
        }
        append(",\"waiting\":", waiting)
        text.append(",\"queues\":[")
        for (index, name) in queues.enumerated() { append(index > 0 ? "," : "", name) }
        append("],\"held\":", row.held)
        if row.held > 0 { append(",\"oldest_dispatched\":", time: row.oldest) }
        text.append(",\"tasks\":[")
        for (index, (queue, task)) in oldestTasks.enumerated() {
            append(index > 0 ? ",{\"id\":" : "{\"id\":", task.id)
            append(",\"queue\":", queue)
            append(",\"dispatched\":", time: task.dispatched)
            append(",\"lease_end\":", time: task.leaseEnd)
            text.append("}")
        }
        append("],\"first_seen\":", time: row.firstSeen)
        append(",\"last_seen\":", time: row.lastSeen)
        text.append("}")
    }

    /// Goes on with finding the tasks that a worker has held for the longest time. Returns whether they are found.
    private func findOldestTasks(of row: Row, _ census: TaskCensus, steps: inout Int) -> Bool {
        var next = oldestHolding ?? row.holding
        while census.holdings.indices.contains(Int(next)) {
            guard steps > 0 else {
                oldestHolding = next
                return false
            }
            steps -= Self.stepsPerRow
            let holding = census.holdings[Int(next)]
            for task in holding.tasks {
                if oldestTasks.count == TaskCensus.maximumDetails {
                    // The others of this queue are later still.
                    guard let last = oldestTasks.last, task.dispatched < last.task.dispatched else { break }
                    oldestTasks.removeLast()
                }
                steps -= Self.stepsPerInsertion
                let index = oldestTasks.lastIndex { $0.task.dispatched <= task.dispatched }.map { $0 + 1 } ?? 0
                oldestTasks.insert((holding.queue, task), at: index)
            }
            next = previousHoldings[Int(next)]
        }
        oldestHolding = next
        return true
    }
}
