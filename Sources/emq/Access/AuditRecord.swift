// The log of changes that need the permissions `manage` or `admin`: who did what, from where, and to how many tasks.

import Bytes
import JSON
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
    /// Further members of the line, such as `to`, and their values.
    private var members: [(name: StaticString, value: [UInt8])] = []

    init(_ request: borrowing Request, by caller: Caller, route: Route, name: [UInt8]) {
        if case .holder(let token) = caller { tokenName = token.name } else { tokenName = nil }
        peer = request.peer
        action = "\(text(request.methodName)) /\(route.name)\(route.suffix)"
        switch route.subject {
        case .queue: queueName = name
        case .source: members = [("source", name)]
        case .none, .task: break
        }
    }

    mutating func add(_ name: StaticString, _ value: [UInt8]) { members.append((name, value)) }

    /// The line for the log.
    ///
    /// - Parameters:
    ///   - taskCount: how many tasks have changed; nil if the change is none of tasks.
    ///   - now: the time.
    /// - Returns: the line.
    func line(taskCount: Int? = nil, now: Int64) -> String {
        var line = "emq: audit: \(UTC.timestamp(ofUnixSeconds: now / 1000)) token="
        line += tokenName.map { quoted(Array($0.utf8)) } ?? "-"
        line += " remote=\(peer) action=\"\(action)\""
        if let queueName { line += " queue=\(quoted(queueName))" }
        for member in members { line += " \(member.name)=\(quoted(member.value))" }
        if let taskCount { line += " tasks=\(taskCount)" }
        return line
    }

    private func quoted(_ text: [UInt8]) -> String {
        var json: [UInt8] = []
        JSONWriter.writeString(text.span, to: &json)
        return String(decoding: json, as: UTF8.self)
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
            Emq.log(record.line(taskCount: count, now: now))
        }
        let rest = sorted.dropFirst(Self.maximumAuditLines)
        guard sorted.isEmpty || !rest.isEmpty else { return }
        var last = record
        if !rest.isEmpty { last.add("other_queues", Array("\(rest.count)".utf8)) }
        Emq.log(last.line(taskCount: rest.reduce(0) { $0 + $1.value }, now: now))
    }

    /// Notes for the log that the current request changes a task. Call this before the change.
    mutating func noteAudited(_ id: UID, on broker: isolated Broker) {
        audit?.queueName = broker.withTask(id: id, now: now) { Array(copying: $0.queueName) }
        audit?.add("task", Array("\(id)".utf8))
        auditedTaskCount = 1
    }
}
