// Figures of queues and of the server as people see them on a terminal.

import JSON

enum FigureViews {
    /// A row for each number, text and truth value of an object, also of the objects in it, for programs.
    static func table(of object: JSONPart?) -> TextTable {
        var table = TextTable([.init("FIGURE"), .init("VALUE", isRight: true)])
        append(object, prefix: "", to: &table)
        return table
    }

    private static func append(_ object: JSONPart?, prefix: String, to table: inout TextTable) {
        for (name, value) in object?.members ?? [] where prefix + name != "queues" {
            switch value.kind {
            case .object: append(value, prefix: "\(prefix)\(name).", to: &table)
            case .array, .null: break
            default: table.rows.append([TextTable.Cell(prefix + name), TextTable.Cell(value.text ?? value.source)])
            }
        }
    }

    /// The same figures in sections, with sizes, durations and times that people can read. `now` is the server's time,
    /// in Unix milliseconds.
    static func lines(of object: JSONPart, _ terminal: Terminal, now: Int64) -> [String] {
        var list = FieldList()
        var sections: [(name: String, object: JSONPart)] = []
        for (name, value) in object.members where name != "queues" && name != "next" {
            if value.kind == .object { sections.append((name, value)) } else { append(name, value, "", now, to: &list) }
        }
        while let (name, object) = sections.first {
            sections.removeFirst()
            // Most totals are none, and would only hide the others.
            let members = object.members.filter { name != "totals" || $0.value.number != 0 }
            if members.isEmpty { continue }
            list.append(heading: heading(name))
            for (member, value) in members {
                if value.kind == .object {
                    sections.append(("\(name) \(member)", value))
                } else {
                    append(member, value, name, now, to: &list)
                }
            }
        }
        let lines = list.lines(terminal)
        return lines.first?.isEmpty == true ? Array(lines.dropFirst()) : lines
    }

    private static func heading(_ section: String) -> String {
        switch section {
        case "rates": "rates per second"
        case "oldest": "oldest ready task"
        default: section.replacingUnderscores
        }
    }

    private static func append(
        _ name: String, _ value: JSONPart, _ section: String, _ now: Int64, to list: inout FieldList
    ) {
        let style: Terminal.Style =
            switch name {
            case "queue": .bold
            case "problem", "last_error": .red
            case "dead" where value.number != 0: .red
            case "paused" where value.isTrue: .yellow
            default: value.number == 0 ? .faint : .plain
            }
        let label = name == "dispatched" && section != "totals" ? "running" : name.replacingUnderscores
        list.append(label, text(name, value, section, now), style)
    }

    private static func text(_ name: String, _ value: JSONPart, _ section: String, _ now: Int64) -> String? {
        // People know what time it is.
        if value.kind == .null || value.kind == .array || (section, name) == ("server", "now") { return nil }
        guard let number = value.number else {
            return value.text ?? (value.isTrue ? "yes" : "no")
        }
        switch (section, name) {
        case ("rates", _): return Humane.rate(number)
        case (_, "started"), (_, "now"), (_, "paused_since"), (_, "until"), (_, "certificate_end"),
            (_, "last_error_at"):
            let isNarrow = Terminal.size.map { $0.columns < FieldList.narrowColumns } ?? false
            return Humane.time(number, now: now, isShort: isNarrow)
        case (_, "uptime"), (_, "loop_lag"), (_, "oldest_ready"), (_, "seconds"), (_, "sync_time"):
            return Humane.duration(seconds: number)
        case ("memory", _), (_, "bytes"), (_, "live_bytes"), (_, "free_bytes"), (_, "pending_bytes"):
            return Humane.bytes(number)
        default: return Humane.count(number)
        }
    }
}

extension JSONPart {
    /// The value of a number that counts something; 0 for other values, and at most 10¹⁵.
    var count: Int { Int(max(0, min(number ?? 0, 1e15))) }
}
