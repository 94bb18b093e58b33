// Tasks as people see them on a terminal.

import Bytes
import JSON
import Net

/// What a command shows of tasks on a terminal. Every time is shown relative to `now`.
struct TaskViews {
    let terminal: Terminal
    /// The server's time, in Unix milliseconds.
    let now: Int64

    /// The most of each content, result and log that is asked for, in bytes.
    static let contentLimit = 16_384
    /// The most lines of a content, a result and other values.
    private static let contentLines = 40

    private var columns: Int { Terminal.size?.columns ?? 80 }
    private var isNarrow: Bool { columns < FieldList.narrowColumns }

    init(_ terminal: Terminal, _ response: ServerResponse) {
        self.terminal = terminal
        now = response.time
    }

    // MARK: One task

    /// The fields of `/task`, in the order of the view. Fields that it does not know, of newer servers, follow them.
    func lines(of task: JSONPart) -> [String] {
        var members: [String: JSONPart] = [:]
        for (name, value) in task.members { members[name] = value }
        var list = FieldList()
        func text(_ name: String) -> String? { members.removeValue(forKey: name).map { $0.text ?? $0.source } }
        func time(_ name: String) -> String? {
            members.removeValue(forKey: name)?.number.map { Humane.time($0, now: now, isShort: isNarrow) }
        }
        func seconds(_ name: String) -> String? {
            members.removeValue(forKey: name)?.number.map { Humane.duration(seconds: $0) }
        }
        let state = text("state") ?? ""
        list.append("id", text("id"), .bold)
        list.append("queue", text("queue"))
        list.append("died in", text("origin"))
        list.append("state", Self.name(ofState: state), Self.style(ofState: state))
        let error = text("error") ?? ""
        let errorLines = TerminalText.visibleLines(error)
        if errorLines.count < 2 { list.append("error", error, .red) }
        list.append("key", text("key"))
        list.append("key until", time("unique_until"))
        list.append("worker", text("worker"))
        list.append("lease", seconds("retry"))
        list.append("enqueued", time("enqueued"))
        list.append("due", time("due"))
        list.append("dispatched", time("dispatched"))
        list.append("lease ends", time("lease_end"))
        list.append("finished", time("finished"))
        list.append("died", time("died"))
        list.append("expires", time("expires"))
        list.append("attempt", text("attempt"))
        list.append("retries", text("retries"))
        list.append("crashes", text("crashes"))
        list.append("max crashes", text("max_crashes"))
        let priority = text("priority")
        // The usual one says nothing.
        if priority != "0" { list.append("priority", priority) }
        list.append("request id", text("request_id"))
        list.append("traceparent", text("traceparent"))
        let isHidden = members.removeValue(forKey: "content_hidden")?.isTrue == true
        if isHidden { list.append("content", "hidden by the queue's configuration (show_content)") }
        let attempts = members.removeValue(forKey: "attempts")
        var parts: [[String]] = []
        for name in ["metadata", "request", "progress", "content", "result"] {
            parts.append(part(name, &members))
        }
        let log = self.log(&members)
        for (name, value) in members.sorted(by: { $0.key < $1.key }) { list.append(name, value.text ?? value.source) }
        var lines = list.lines(terminal)
        if errorLines.count > 1 { lines += section("error", errorLines.map { terminal.styled($0, .red) }) }
        if let attempts { lines += section("attempts", self.lines(ofAttempts: attempts)) }
        return lines + parts.flatMap { $0 } + log
    }

    private func section(_ title: String, _ lines: [String]) -> [String] {
        lines.isEmpty ? [] : ["", terminal.styled(title, .bold)] + lines
    }

    /// The section of a value, of which there may be only the beginning.
    private func part(_ name: String, _ members: inout [String: JSONPart]) -> [String] {
        let size = members.removeValue(forKey: "\(name)_bytes")?.number
        let start = members.removeValue(forKey: "\(name)_start")?.text
        if let value = members.removeValue(forKey: name) {
            return section(name, ContentLines.lines(value, columns: columns, count: Self.contentLines))
        }
        guard let start else { return [] }
        let lines = ContentLines.wrapped(TerminalText.visibleLines(start), columns, Self.contentLines - 1)
        return section("\(name) (the beginning of \(Humane.bytes(size ?? 0)); --json shows all)", lines)
    }

    /// The section of the log. It is the last, because its last lines matter most.
    private func log(_ members: inout [String: JSONPart]) -> [String] {
        let size = members.removeValue(forKey: "log_bytes")?.number
        let end = members.removeValue(forKey: "log_end")?.text
        if let text = members.removeValue(forKey: "log")?.text {
            return section("log", TerminalText.visibleLines(text))
        }
        guard let end else { return [] }
        return section(
            "log (the end of \(Humane.bytes(size ?? 0)); --json shows all)", TerminalText.visibleLines(end))
    }

    private func lines(ofAttempts attempts: JSONPart) -> [String] {
        var table = TextTable([
            .init("N", isRight: true), .init("OUTCOME"), .init("DISPATCHED", rank: 2), .init("TOOK", rank: 1),
            .init("WORKER", isElastic: true, isOptional: true, rank: 3),
            .init("ERROR", isElastic: true, isOptional: true),
        ])
        for (_, attempt) in attempts.members {
            let start = attempt["dispatched"]?.number
            let end = attempt["ended"]?.number ?? Double(now) / 1000
            let outcome = attempt["outcome"]?.text
            table.rows.append([
                .init(attempt["attempt"]?.source ?? ""),
                .init(
                    outcome.map { $0 == "timed_out" ? "timed out" : $0 } ?? "running", Self.style(ofOutcome: outcome)),
                .init(start.map { Humane.relative($0, now: now) } ?? ""),
                .init(start.map { Humane.duration(seconds: max(0, end - $0)) } ?? ""),
                .init(attempt["worker"]?.text ?? ""), .init(attempt["error"]?.text ?? "", .red),
            ])
        }
        return table.rows.isEmpty ? [] : table.lines(terminal, width: columns)
    }

    // MARK: Tasks that are taken

    /// A task as `/wait` returns it. The receipt is always whole.
    func lines(ofTaken task: JSONPart) -> [String] {
        var list = FieldList()
        list.append("receipt", task["receipt"]?.text, .bold)
        list.append("queue", task["queue"]?.text)
        list.append("attempt", task["attempt"]?.source)
        if let lease = task["retry"]?.number {
            list.append("lease", Humane.duration(seconds: lease))
            list.append("lease ends", Humane.time(Double(now) / 1000 + lease, now: now, isShort: isNarrow))
        }
        for name in ["key", "request_id", "traceparent"] {
            list.append(name.replacingUnderscores, task[name]?.text)
        }
        var lines = list.lines(terminal)
        for name in ["metadata", "content"] {
            guard let value = task[name] else { continue }
            lines += section(name, ContentLines.lines(value, columns: columns, count: Self.contentLines))
        }
        return lines
    }

    // MARK: Tasks of a queue

    /// The table of `/peek`. Its columns are also those of the lines for programs.
    func table(ofPeek tasks: JSONPart?) -> TextTable {
        var table = TextTable([
            .init("ID"), .init("STATE", rank: 1), .init("WHEN"), .init("ATTEMPT", isRight: true, rank: 2),
            .init("CONTENT", isElastic: true), .init("ERROR", isElastic: true, isOptional: true),
            .init("WORKER", isElastic: true, isOptional: true, rank: 3),
        ])
        // Less of them says little.
        (table.columns[4].leastWidth, table.columns[5].leastWidth) = (20, 16)
        for (_, task) in tasks?.members ?? [] {
            let state = task["state"]?.text ?? ""
            let time = Self.time(of: task, inState: state)
            let isHidden = task["content_hidden"]?.isTrue == true
            let content = task["content"]?.source ?? task["content_start"]?.text.map { "\($0)…" }
            table.rows.append([
                .init(task["id"]?.text ?? ""),
                .init(Self.name(ofState: state), value: state, Self.style(ofState: state)),
                .init(time.map { Humane.relative($0, now: now) } ?? "", value: time.map { "\($0)" } ?? ""),
                .init(task["attempt"]?.source ?? ""),
                .init(content ?? (isHidden ? "(hidden)" : ""), value: content ?? ""),
                .init(task["error"]?.text ?? "", .red), .init(task["worker"]?.text ?? ""),
            ])
        }
        return table
    }

    /// The time that says most about a task in a state: when it will be or was dispatched, has ended or was enqueued.
    private static func time(of task: JSONPart, inState state: String) -> Double? {
        let names =
            switch state {
            case "delayed": ["due"]
            case "dispatched": ["dispatched"]
            case "ready": ["enqueued"]
            default: ["died", "finished"]
            }
        return names.lazy.compactMap { task[$0]?.number }.first
    }

    // MARK: States

    /// A state as people call it.
    static func name(ofState state: String) -> String { state == "dispatched" ? "running" : state }

    static func style(ofState state: String) -> Terminal.Style {
        switch state {
        case "ready": .cyan
        case "dispatched", "done": .green
        case "delayed", "expired", "cancelled": .yellow
        case "dead": .red
        default: .plain
        }
    }

    private static func style(ofOutcome outcome: String?) -> Terminal.Style {
        switch outcome {
        case "failed", "timed_out": .red
        case "done", nil: .green
        default: .yellow
        }
    }
}

extension ServerResponse {
    /// When the server made the response, in Unix milliseconds; by this machine's clock if it does not say so.
    var time: Int64 {
        let own = EventLoop.steadyClock()()
        return fields["date"].flatMap { HTTPDate.unixSeconds($0, now: own / 1000) }.map { seconds in
            // The field has whole seconds: within that, the clock here is better.
            abs(own - seconds * 1000 - 500) <= 1500 ? own : seconds * 1000 + 500
        } ?? own
    }
}

extension String {
    /// The name of a field as people read it.
    var replacingUnderscores: String { String(map { $0 == "_" ? " " : $0 }) }
}
