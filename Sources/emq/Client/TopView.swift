// What `emq top` shows: figures of the server, and a table of queues.

import JSON

/// How queues are sorted.
struct TopOrder: Equatable {
    /// The name of the order, as the server knows it.
    let name: String
    /// The key that selects it.
    let key: Character
    /// The title of the column, if it has one.
    let title: String

    /// The orders, those of columns in the order of the columns.
    static let all = [
        TopOrder(name: "name", key: "n", title: "QUEUE"), TopOrder(name: "enqueued", key: "i", title: "IN/S"),
        TopOrder(name: "done", key: "t", title: "OUT/S"), TopOrder(name: "failed", key: "f", title: "FAIL/S"),
        TopOrder(name: "ready", key: "r", title: "READY"), TopOrder(name: "delayed", key: "d", title: "DELAYED"),
        TopOrder(name: "dispatched", key: "u", title: "RUNNING"), TopOrder(name: "dead", key: "x", title: "DEAD"),
        TopOrder(name: "oldest_ready", key: "o", title: "OLDEST"),
        TopOrder(name: "waiters", key: "w", title: "WAITING"),
        TopOrder(name: "paused", key: "p", title: "STATE"), TopOrder(name: "rate", key: "a", title: ""),
    ]

    /// How people call it.
    var label: String { name == "rate" ? "activity" : name == "dispatched" ? "running" : name.replacingUnderscores }
}

/// What is known of the server, and what the user has chosen.
struct TopView {
    /// The URL of the server.
    let base: String
    /// A page of `/stats/`.
    var page: JSONPart?
    /// The answer of `/alerts/`; nil if it is not known.
    var alerts: JSONPart?
    var order: TopOrder
    /// The pattern of the names of queues; nil for all.
    var pattern: String?
    /// How many queues are above the first one shown.
    var offset = 0
    /// What the user has typed of a new pattern; nil if that is not going on.
    var typedPattern: String?
    /// Since when the server does not answer, in Unix seconds, and why; nil if it does.
    var absence: (since: Double, reason: String)?

    /// How many queues match.
    var count: Int { page?["count"]?.count ?? 0 }

    // MARK: The table

    /// The table of the queues, for a terminal of this width; nil for programs, for which the time is the first column.
    func table(columns width: Int?) -> TextTable {
        // Widths that do not depend on small changes keep the columns in their places.
        func right(_ title: String, _ least: Int, _ rank: Int) -> TextTable.Column {
            .init(String(repeating: " ", count: max(0, least - title.count)) + title, isRight: true, rank: rank)
        }
        var queue = TextTable.Column("QUEUE", isElastic: true, keepsEnd: true)
        queue.leastWidth = max(8, (width ?? 0) / 4)
        var table = TextTable(
            [
                queue, right("IN/S", 6, 2), right("OUT/S", 6, 2), right("FAIL/S", 6, 4), right("READY", 7, 0),
                right("DELAYED", 7, 5), right("RUNNING", 7, 3), right("DEAD", 6, 1), right("OLDEST", 7, 1),
                right("WAITING", 7, 6), .init("STATE", isOptional: true, rank: 7),
            ])
        for place in table.columns.indices where TopOrder.all[place] == order {
            table.columns[place].titleStyle = .reverse
        }
        for (name, queue) in page?["queues"]?.members ?? [] { table.rows.append(Self.row(name, queue)) }
        if width == nil {
            let time = page?["server"]?["now"]?.source ?? ""
            table.columns.insert(.init("TIME"), at: 0)
            for place in table.rows.indices { table.rows[place].insert(.init(time), at: 0) }
        }
        return table
    }

    private static func row(_ name: String, _ queue: JSONPart) -> [TextTable.Cell] {
        var members: [String: JSONPart] = [:]
        for (name, value) in queue.members { members[name] = value }
        func count(_ name: String, _ style: Terminal.Style = .plain) -> TextTable.Cell {
            let number = members[name]?.number ?? 0
            return .init(Humane.count(number), value: members[name]?.source ?? "0", number == 0 ? .faint : style)
        }
        let rates = members["rates"]
        func rate(_ name: String, _ style: Terminal.Style = .plain) -> TextTable.Cell {
            let rate = rates?[name]
            return .init(Humane.rate(rate?.number ?? 0), value: rate?.source ?? "0", rate?.number == 0 ? .faint : style)
        }
        let oldest = members["oldest_ready"]?.number
        let circuit = members["circuit"]?["state"]?.text
        let state =
            members["paused"]?.isTrue == true
            ? "paused"
            : circuit == "open" || circuit == "half-open" ? "broken" : members["pushed"] != nil ? "pushed" : ""
        return [
            .init(name, .bold), rate("enqueued"), rate("done"), rate("failed", .red), count("ready"), count("delayed"),
            count("dispatched", .green), count("dead", .red),
            .init(oldest.map { Humane.age(seconds: $0) } ?? "", value: oldest.map { "\($0)" } ?? ""),
            count("waiters"), .init(state, state == "pushed" ? .plain : .yellow),
        ]
    }

    // MARK: The screen

    /// How many rows are left for queues on a screen.
    func queueRows(rows: Int) -> Int { max(1, rows - headerCount(rows) - 2) }

    /// On low screens, only the most important lines are above the table, and no empty one.
    private func headerCount(_ rows: Int) -> Int { rows < 16 ? 3 : 6 }

    /// The lines of the screen.
    func lines(_ terminal: Terminal, columns: Int, rows: Int, now: Int64) -> [String] {
        func short(_ text: String) -> String { TerminalText.shortened(TerminalText.visible(text), to: columns).text }
        let server = page?["server"]
        let up = server?["uptime"]?.number.map { "  up \(Humane.age(seconds: $0))" } ?? ""
        let title = "\(base)  emq \(server?["version"]?.text ?? "")\(up)"
        var lines = [
            terminal.styled(Self.sides(title, Humane.clock(Double(now) / 1000), columns), .bold),
            labelled("Tasks", states, terminal, columns),
        ]
        if rows >= 16 {
            lines.append(labelled("Rates", rates, terminal, columns))
            lines.append(labelled("Server", resources, terminal, columns))
        }
        lines.append(condition(terminal, columns))
        if rows >= 16 { lines.append("") }
        let table = table(columns: columns)
        lines += table.lines(terminal, width: columns).prefix(queueRows(rows: rows) + 1)
        if table.rows.isEmpty {
            let reason = pattern.map { "no queue matches '\($0)'" } ?? "there are no queues yet"
            lines.append(terminal.styled(short("(\(reason))"), .faint))
        }
        while lines.count < rows - 1 { lines.append("") }
        return lines.prefix(rows - 1) + [footer(terminal, columns, shown: min(table.rows.count, queueRows(rows: rows)))]
    }

    private func labelled(_ label: String, _ text: String, _ terminal: Terminal, _ columns: Int) -> String {
        let room = columns - 8
        if room < 20 { return TerminalText.shortened(TerminalText.visible(text), to: columns).text }
        let padding = String(repeating: " ", count: 8 - label.count)
        return terminal.styled(label, .faint) + padding
            + TerminalText.shortened(TerminalText.visible(text), to: room).text
    }

    private var states: String {
        guard let states = page?["states"] else { return Humane.count(page?["tasks"]?.number ?? 0) + " in all" }
        return [("ready", "ready"), ("dispatched", "running"), ("dead", "dead"), ("delayed", "delayed")].map {
            name, label in
            "\(Humane.count(states[name]?.number ?? 0)) \(label)"
        }.joined(separator: ", ") + ", \(Humane.count(page?["tasks"]?.number ?? 0)) in all"
    }

    private var rates: String {
        guard let rates = page?["rates"] else { return "" }
        let parts = [("enqueued", "in"), ("done", "out"), ("failed", "failed")].map { name, label in
            "\(Humane.rate(rates[name]?.number ?? 0))/s \(label)"
        }
        guard let oldest = page?["oldest"], let seconds = oldest["seconds"]?.number else {
            return parts.joined(separator: ", ")
        }
        let age = Humane.age(seconds: seconds)
        return "\(parts.joined(separator: ", "))   oldest ready task \(age) in \(oldest["queue"]?.text ?? "")"
    }

    private var resources: String {
        var parts: [String] = []
        if let memory = page?["memory"], let used = memory["used"]?.number, let limit = memory["limit"]?.number {
            let share = limit > 0 ? " (\(Humane.count(used / limit * 100))%)" : ""
            parts.append("memory \(Humane.bytes(used)) of \(Humane.bytes(limit))\(share)")
        }
        if let journal = page?["journal"] {
            let problem = journal["problem"]?.text.map { "journal: \($0)" }
            let sync = journal["sync_time"]?.number.map { ", sync \(Humane.duration(seconds: $0))" } ?? ""
            parts.append(problem ?? "journal \(Humane.bytes(journal["bytes"]?.number ?? 0))\(sync)")
        }
        let connections = Humane.count(page?["connections"]?.number ?? 0)
        parts.append("connections \(connections), waiting \(Humane.count(page?["server"]?["waiters"]?.number ?? 0))")
        return parts.joined(separator: "   ")
    }

    /// What is wrong: that the server is away, or its alerts.
    private func condition(_ terminal: Terminal, _ columns: Int) -> String {
        func line(_ text: String, _ style: Terminal.Style) -> String {
            terminal.styled(TerminalText.shortened(TerminalText.visible(text), to: columns).text, style)
        }
        if let absence { return line("server away since \(Humane.clock(absence.since)): \(absence.reason)", .red) }
        guard let alerts else { return "" }
        let all = alerts["alerts"]?.members ?? []
        guard let first = all.first?.value else { return labelled("Alerts", "none", terminal, columns) }
        let others = Double(all.count - 1) + (alerts["left_out"]?.number ?? 0)
        let count = others > 0 ? " (and \(Humane.count(others)) more)" : ""
        let level = first["level"]?.text ?? ""
        let text = first["text"]?.text ?? ""
        return line("\(level.uppercased())\(count): \(text)", level == "critical" ? .red : .yellow)
    }

    private func footer(_ terminal: Terminal, _ columns: Int, shown: Int) -> String {
        if let typedPattern {
            return TerminalText.shortened(TerminalText.visible("filter: \(typedPattern)_"), to: columns).text
        }
        let filter = pattern.map { ": \($0)" } ?? ""
        let place = shown == 0 ? "" : "\(Humane.count(Double(offset + 1)))–\(Humane.count(Double(offset + shown)))"
        let keys =
            columns < 60
            ? "q  /\(filter)  < >  ↑ ↓  by \(order.label)"
            : "q quit  / filter\(filter)  < > by \(order.label)  ↑ ↓ scroll"
        let total = place.isEmpty ? "" : "\(place) of \(Humane.count(Double(max(count, offset + shown))))"
        return terminal.styled(Self.sides(keys, total, columns), .faint)
    }

    /// A text at the left end of a line and one at the right end, which comes first if there is no room for both.
    private static func sides(_ left: String, _ right: String, _ columns: Int) -> String {
        let rest = columns - TerminalText.width(right)
        if rest < 12 { return TerminalText.shortened(TerminalText.visible(left), to: columns).text }
        let (shown, width) = TerminalText.shortened(TerminalText.visible(left), to: rest - 2)
        return shown + String(repeating: " ", count: rest - width) + right
    }
}
