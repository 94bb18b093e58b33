// The log of changes that need the permissions `manage` or `admin`: who did what, from where, and to how many tasks.

import Bytes
import Net
import Queues
import UID

/// A change that a request makes, for the log.
struct AuditRecord {
    /// The name of the sender's token; nil if the server has no tokens.
    private let tokenName: String?
    private let peer: String
    /// The method and the path without names: `POST /purge`.
    private let action: String
    /// The queue that it concerns; nil for none, or for all.
    var queueName: [UInt8]?
    /// Further fields, such as `to`.
    private var members: [LogEvent.Field] = []
    private let requestID: [UInt8]

    init(_ request: borrowing Request, by caller: Caller, route: Route, name: [UInt8]) {
        if case .holder(let token) = caller { tokenName = token.name } else { tokenName = nil }
        peer = request.peer
        requestID = Array(copying: request.requestID)
        action = "\(text(request.methodName)) /\(route.name)\(route.suffix)"
        switch route.subject {
        case .queue: queueName = name
        case .source: members = [.text("source", name)]
        case .none, .task, .operation, .file: break
        }
    }

    mutating func add(_ field: LogEvent.Field) { members.append(field) }

    /// Names the purge, kick or move that it is about, as `/operations/` does.
    mutating func addOperation(_ id: UInt64) { add(.number("operation", id)) }

    /// The event for the log, which has it whatever its level.
    ///
    /// - Parameter taskCount: how many tasks have changed; nil if the change is none of tasks.
    /// - Returns: the event.
    func event(taskCount: Int? = nil) -> LogEvent {
        var fields: [LogEvent.Field] = [.text("token", tokenName), .word("remote", peer), .text("action", action)]
        if let queueName { fields.append(.text("queue", queueName)) }
        fields += members
        if let taskCount { fields.append(.number("tasks", taskCount)) }
        if !requestID.isEmpty { fields.append(.text("request_id", requestID)) }
        return .record("audit", fields)
    }
}

extension Context {
    /// The most queues of one request that have lines of their own.
    private static let maximumAuditLines = 20

    /// Logs a change of tasks in several queues: a line for each queue, and one for those beyond a limit together.
    mutating func logAudit(of counts: [[UInt8]: Int]) {
        guard let record = audit else { return }
        audit = nil
        let sorted = counts.sorted { $0.key.lexicographicallyPrecedes($1.key) }
        for (queueName, count) in sorted.prefix(Self.maximumAuditLines) {
            var record = record
            record.queueName = queueName
            Log.standard.write(record.event(taskCount: count))
        }
        let rest = sorted.dropFirst(Self.maximumAuditLines)
        guard sorted.isEmpty || !rest.isEmpty else { return }
        var last = record
        if !rest.isEmpty { last.add(.number("other_queues", rest.count)) }
        Log.standard.write(last.event(taskCount: rest.reduce(0) { $0 + $1.value }))
    }

    /// Notes for the log that the current request changes a task. Call this before the change.
    mutating func noteAudited(_ id: UID, on broker: isolated Broker) {
        audit?.queueName = broker.withTask(id: id, now: now) { Array(copying: $0.queueName) }
        audit?.add(.text("task", "\(id)"))
        auditedTaskCount = 1
    }
}
