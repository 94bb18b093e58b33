// Groups of tasks in all queues: the dead ones by their errors, and the dispatched ones by their workers.

import Bytes
import JSON
import Net
import Queues
import UID

extension API {
    /// The number of groups or workers in an answer, unless the request says it, and the most.
    static let usualGroupCount = 100
    static let maximumGroupCount = 1000

    /// `GET /errors/`
    static func showErrors(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        var filter = QueueFilter(caller: context.caller)
        if let prefix = api.query["prefix"] { filter.prefix = Array(prefix.utf8) }
        filter.pattern = try api.query.pattern("match")
        let report = ErrorReport(of: request, filter, queue: nil, count: try api.groupCount())
        return try context.begin(report, for: &responses, on: broker)
    }

    /// `GET /errors/NAME`
    static func showQueueErrors(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let filter = QueueFilter(caller: context.caller)
        let report = ErrorReport(of: request, filter, queue: api.name, count: try api.groupCount())
        return try context.begin(report, for: &responses, on: broker)
    }

    /// `GET /workers/`
    static func showWorkers(
        _ api: inout API, _ request: borrowing Request, _ responses: inout ResponseStream, _ context: inout Context,
        on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        let report = WorkerReport(
            of: request, by: context.caller, matching: try api.query.pattern("match"),
            order: try api.query.word("sort", WorkerOrder.named) ?? .oldest, count: try api.groupCount())
        return try context.begin(report, for: &responses, on: broker)
    }

    private func groupCount() throws(Problem) -> Int {
        try query.integer("n", 1...Int64(API.maximumGroupCount)).map { Int($0) } ?? API.usualGroupCount
    }
}

extension Context {
    fileprivate func begin(
        _ report: SurveyReport, for responses: inout ResponseStream, on broker: isolated Broker
    ) throws(Problem) -> Outcome {
        try gate.survey.begin(report, for: &responses, of: server, now: now, on: broker)
    }
}

extension SurveyReport {
    /// What a group, a holding or a worker takes, and a step of `QueueViews`, in steps of a census.
    fileprivate static var stepsPerRow: Int { 20 }
    fileprivate static var stepsPerLook: Int { 5 }
}

/// The answer to `GET /errors/`.
private final class ErrorReport: SurveyReport {
    private let filter: QueueFilter
    /// The only queue; nil for all that the filter admits.
    private let queue: [UInt8]?
    private let count: Int

    init(of request: borrowing Request, _ filter: QueueFilter, queue: [UInt8]?, count: Int) {
        (self.filter, self.queue, self.count) = (filter, queue, count)
        super.init(of: request, by: filter.caller)
    }

    /// The group to look at next.
    private var position = 0
    /// The places of the groups that are shown, and how many groups and tasks there are in all.
    private var shown: [Int] = []
    private var (groups, tasks) = (0, 0)
    /// Neighbours often have the same queue.
    private var last: (queue: [UInt8], isAdmitted: Bool) = ([], false)

    override func collect(_ census: TaskCensus, asOf time: Int64, steps: inout Int) -> Bool {
        while position < census.groups.count {
            guard steps > 0 else { return false }
            let group = census.groups[position]
            steps -= Self.stepsPerRow
            if group.queue != last.queue {
                let name = group.queue
                steps -= filter.steps(for: name.span) * Self.stepsPerLook
                last = (name, queue.map { $0 == name } ?? filter.admits(name.span))
            }
            if last.isAdmitted {
                groups += 1
                tasks += group.count
                if groups <= count { shown.append(position) }
            }
            position += 1
        }
        return true
    }

    override func write(_ census: TaskCensus, asOf time: Int64, to text: inout [UInt8]) {
        text.append("{\"errors\":[")
        for (index, place) in shown.enumerated() {
            if index > 0 { text.append(",") }
            Self.write(census.groups[place], to: &text)
        }
        text.append("]")
        writeNumber(",\"groups\":", groups, to: &text)
        writeNumber(",\"tasks\":", tasks, to: &text)
        // Nobody knows their queues.
        if census.deadLeftOut > 0, caller.coversAllQueues {
            writeNumber(",\"left_out\":", census.deadLeftOut, to: &text)
        }
        writeTime(",\"as_of\":", time, to: &text)
        text.append("}")
    }

    private static func write(_ group: TaskCensus.ErrorGroup, to text: inout [UInt8]) {
        text.append("{\"queue\":")
        JSONWriter.writeString(group.queue.span, to: &text)
        if !group.error.isEmpty {
            text.append(",\"error\":")
            JSONWriter.writeString(group.error.span, to: &text)
        }
        writeNumber(",\"count\":", group.count, to: &text)
        writeTime(",\"first\":", group.first, to: &text)
        writeTime(",\"last\":", group.last, to: &text)
        writeID(",\"example\":", group.example, to: &text)
        text.append("}")
    }
}

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
private final class WorkerReport: SurveyReport {
    /// What an answer shows of a worker.
    private struct Row {
        var name: [UInt8]
        var waiting = 0
        var queues: [[UInt8]] = []
        var held = 0
        var tasks: [(queue: [UInt8], task: TaskCensus.HeldTask)] = []
        var firstSeen = Int64.max
        var lastSeen = Int64.min

        var oldest: Int64 { tasks.first?.task.dispatched ?? .max }
    }

    private let pattern: GlobPattern?
    private let order: WorkerOrder
    private let count: Int

    init(
        of request: borrowing Request, by caller: Caller, matching pattern: GlobPattern?, order: WorkerOrder, count: Int
    ) {
        (self.pattern, self.order, self.count) = (pattern, order, count)
        super.init(of: request, by: caller)
    }

    /// The holding, and then the worker, to look at next.
    private var (holdingPosition, workerPosition) = (0, 0)
    private var rows: [[UInt8]: Row] = [:]
    private var unnamedHeld = 0

    override func collect(_ census: TaskCensus, asOf time: Int64, steps: inout Int) -> Bool {
        while holdingPosition < census.holdings.count {
            guard steps > 0 else { return false }
            let holding = census.holdings[holdingPosition]
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

    override func write(_ census: TaskCensus, asOf time: Int64, to text: inout [UInt8]) {
        let sorted = rows.values.sorted(by: precedes)
        text.append("{\"workers\":[")
        for (index, row) in sorted.prefix(count).enumerated() {
            if index > 0 { text.append(",") }
            Self.write(row, to: &text)
        }
        text.append("]")
        writeNumber(",\"count\":", sorted.count, to: &text)
        text.append(",\"unnamed\":{")
        // Nobody knows for which queues they wait.
        if caller.coversAllQueues { writeNumber("\"waiting\":", census.otherWaitCount, to: &text) }
        writeNumber(caller.coversAllQueues ? ",\"held\":" : "\"held\":", unnamedHeld, to: &text)
        text.append("}")
        if census.heldLeftOut > 0, caller.coversAllQueues {
            writeNumber(",\"left_out\":", census.heldLeftOut, to: &text)
        }
        writeTime(",\"as_of\":", time, to: &text)
        text.append("}")
    }

    private func add(_ holding: TaskCensus.Holding) {
        if let pattern, !pattern.matches(holding.worker.span) { return }
        var row = rows[holding.worker] ?? Row(name: holding.worker)
        row.held += holding.count
        for task in holding.tasks { row.tasks.append((holding.queue, task)) }
        if row.tasks.count > holding.tasks.count {
            row.tasks.sort { $0.task.dispatched < $1.task.dispatched }
            row.tasks.removeLast(max(0, row.tasks.count - TaskCensus.maximumDetails))
        }
        // It asked for them, even if emq no longer knows when it asked for others.
        row.firstSeen = min(row.firstSeen, row.oldest)
        row.lastSeen = max(row.lastSeen, row.tasks.last?.task.dispatched ?? .min)
        rows[holding.worker] = row
    }

    private func add(_ worker: TaskCensus.Worker, asOf time: Int64) {
        if let pattern, !pattern.matches(worker.name.span) { return }
        let seesAll = caller.coversAllQueues
        let waits = worker.waits.filter { wait in seesAll || wait.contains { caller.covers($0.span) } }
        // One that has nothing to do with the caller's queues is none of the caller's.
        guard seesAll || !waits.isEmpty || rows[worker.name] != nil else { return }
        var row = rows[worker.name] ?? Row(name: worker.name)
        row.waiting = seesAll ? worker.waitCount : waits.count
        for name in waits.joined() where row.queues.count < TaskCensus.maximumDetails {
            if !row.queues.contains(name), caller.covers(name.span) { row.queues.append(name) }
        }
        row.firstSeen = min(row.firstSeen, worker.firstSeen)
        row.lastSeen = worker.waitCount > 0 ? max(time, worker.lastSeen) : max(row.lastSeen, worker.lastSeen)
        rows[worker.name] = row
    }

    private func precedes(_ one: Row, _ other: Row) -> Bool {
        switch order {
        case .oldest where one.oldest != other.oldest: one.oldest < other.oldest
        case .held where one.held != other.held: one.held > other.held
        case .lastSeen where one.lastSeen != other.lastSeen: one.lastSeen > other.lastSeen
        default: one.name.lexicographicallyPrecedes(other.name)
        }
    }

    private static func write(_ row: Row, to text: inout [UInt8]) {
        text.append("{\"name\":")
        JSONWriter.writeString(row.name.span, to: &text)
        writeNumber(",\"waiting\":", row.waiting, to: &text)
        text.append(",\"queues\":[")
        for (index, name) in row.queues.enumerated() {
            if index > 0 { text.append(",") }
            JSONWriter.writeString(name.span, to: &text)
        }
        writeNumber("],\"held\":", row.held, to: &text)
        if let oldest = row.tasks.first { writeTime(",\"oldest_dispatched\":", oldest.task.dispatched, to: &text) }
        text.append(",\"tasks\":[")
        for (index, (queue, task)) in row.tasks.enumerated() {
            writeID(index > 0 ? ",{\"id\":" : "{\"id\":", task.id, to: &text)
            text.append(",\"queue\":")
            JSONWriter.writeString(queue.span, to: &text)
            writeTime(",\"dispatched\":", task.dispatched, to: &text)
            writeTime(",\"lease_end\":", task.leaseEnd, to: &text)
            text.append("}")
        }
        text.append("]")
        writeTime(",\"first_seen\":", row.firstSeen, to: &text)
        writeTime(",\"last_seen\":", row.lastSeen, to: &text)
        text.append("}")
    }
}

private func writeNumber(_ member: StaticString, _ number: Int, to text: inout [UInt8]) {
    text.append(member)
    JSONWriter.writeInteger(Int64(number), to: &text)
}

private func writeTime(_ member: StaticString, _ milliseconds: Int64, to text: inout [UInt8]) {
    text.append(member)
    JSONWriter.writeSeconds(milliseconds: milliseconds, to: &text)
}

private func writeID(_ member: StaticString, _ id: UID, to text: inout [UInt8]) {
    text.append(member)
    text.append("\"")
    let characters = id.text
    text.append(characters.span)
    text.append("\"")
}
