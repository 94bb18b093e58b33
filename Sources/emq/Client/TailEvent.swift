// What `emq tail` prints: a line for each thing that happened in a queue.

import JSON

/// Something that happened in a queue.
struct TailEvent {
    enum Kind: String, CaseIterable {
        case enqueued, received, dispatched, acked, failed, released, died, expired, cancelled
        /// A retry, or a delayed task, became ready; a dead task became ready; a task went to another queue.
        case due, kicked, moved
        /// The task ended without a record, and the server's figures do not tell how.
        case gone
        case paused, resumed
        /// How many more there were of what the figures count.
        case more
    }

    let kind: Kind
    /// In Unix seconds.
    let time: Double
    var id = ""
    var attempt: Int?
    var worker = ""
    /// Why it failed.
    var error = ""
    /// The content, as JSON; nil if it is not known.
    var content: JSONPart?
    /// More for people and programs, such as where a task went.
    var note = ""
    /// What `more` counts.
    var counts: [(kind: Kind, count: Int)] = []

    /// What happened to a task, as the server describes it.
    init(_ kind: Kind, _ time: Double, _ task: JSONPart) {
        (self.kind, self.time) = (kind, time)
        id = task["id"]?.text ?? ""
        attempt = task["attempt"]?.count
        if ![.enqueued, .due, .kicked, .moved].contains(kind) { worker = task["worker"]?.text ?? "" }
        if kind == .failed || kind == .died { error = task["error"]?.text ?? "" }
        if kind == .enqueued {
            content = task["content"]
            note = content == nil ? task["content_start"]?.text.map { "\($0)…" } ?? "" : ""
        }
    }

    init(_ kind: Kind, _ time: Double, id: String = "") { (self.kind, self.time, self.id) = (kind, time, id) }

    /// What its line says at its end.
    private var detail: String {
        if kind == .more {
            return counts.map { "\($0.count) \($0.kind.rawValue)" }.joined(separator: ", ")
        }
        return [error, content?.source ?? "", note].filter { !$0.isEmpty }.joined(separator: "; ")
    }

    // MARK: Lines

    /// The line for programs: the time, the kind, the id, the attempt, the worker and the rest, with tabs between.
    var tabSeparated: String {
        var table = TextTable([])
        table.rows = [
            ["\(time)", kind.rawValue, id, attempt.map { "\($0)" } ?? "", worker, detail].map { TextTable.Cell($0) }
        ]
        return table.tabSeparated
    }

    /// The line for people; if the terminal is narrow, the id is in a second one. Ids are always whole.
    func line(_ terminal: Terminal, columns: Int) -> String {
        let isNarrow = columns < FieldList.narrowColumns
        var line = terminal.styled(Humane.clock(time), .faint) + " " + terminal.styled(kind.rawValue, style)
        // What follows is aligned, if there is room for that.
        let padding = isNarrow ? 0 : max(0, 10 - kind.rawValue.utf8.count)
        var room = columns - 9 - kind.rawValue.utf8.count - padding
        line += String(repeating: " ", count: padding)
        let shownID = id.isEmpty ? "" : terminal.styled(TerminalText.visible(id), .bold)
        if !isNarrow, !id.isEmpty {
            line += " " + shownID
            room -= 1 + id.utf8.count
        }
        let number = attempt.map { $0 > 1 ? "#\($0)" : "" } ?? ""
        let parts = TerminalText.visible([number, worker, detail].filter { !$0.isEmpty }.joined(separator: "  "))
        if !parts.isEmpty, room > 1 {
            let text = TerminalText.shortened(parts, to: room - 1).text
            line += " " + terminal.styled(text, error.isEmpty ? .plain : .red)
        }
        return line + "\n" + (isNarrow && !id.isEmpty ? "  \(shownID)\n" : "")
    }

    private var style: Terminal.Style {
        switch kind {
        case .failed, .died: .red
        case .acked, .dispatched: .green
        case .enqueued, .received: .cyan
        case .expired, .cancelled, .released, .paused, .gone: .yellow
        default: .plain
        }
    }

    /// The line as JSON.
    var json: String {
        var json = Array("{\"time\":\(time),\"event\":\"\(kind.rawValue)\"".utf8)
        func append(_ name: String, _ text: String) {
            if text.isEmpty { return }
            json += Array(",\"\(name)\":".utf8)
            JSONWriter.write(text, to: &json)
        }
        append("id", id)
        if let attempt { json += Array(",\"attempt\":\(attempt)".utf8) }
        append("worker", worker)
        append("error", error)
        if let content { json += Array(",\"content\":\(content.source)".utf8) }
        append("note", note)
        for (kind, count) in counts { json += Array(",\"\(kind.rawValue)\":\(count)".utf8) }
        return String(decoding: json, as: UTF8.self) + "}\n"
    }
}
