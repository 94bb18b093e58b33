// Lists of fields with names, for people.

import JSON

/// Fields below each other, with their names in front of them.
struct FieldList {
    private struct Field {
        let name: String
        let text: String
        let style: Terminal.Style
    }

    private var fields: [Field] = []

    /// Below this number of columns, a text that does not fit beside its name has a line of its own, and
    /// times have no date.
    static let narrowColumns = 60

    /// Adds a field, unless it is empty. The text is shown whole, so that ids and receipts can be copied.
    mutating func append(_ name: String, _ text: String?, _ style: Terminal.Style = .plain) {
        guard let text, !text.isEmpty else { return }
        fields.append(Field(name: TerminalText.visible(name), text: TerminalText.visible(text), style: style))
    }

    /// Adds the heading of the fields that follow.
    mutating func append(heading: String) {
        fields.append(Field(name: TerminalText.visible(heading), text: "", style: .bold))
    }

    /// The lines.
    func lines(_ terminal: Terminal) -> [String] {
        let width = Terminal.size?.columns ?? 80
        let margin = 2 + (fields.map { $0.text.isEmpty ? 0 : TerminalText.width($0.name) }.max() ?? 0)
        return fields.flatMap { field in
            if field.text.isEmpty { return ["", terminal.styled(field.name, field.style)] }
            let name = terminal.styled(field.name, .faint)
            let text = terminal.styled(field.text, field.style)
            if width < Self.narrowColumns, margin + TerminalText.width(field.text) > width { return [name, text] }
            return [name + String(repeating: " ", count: margin - TerminalText.width(field.name)) + text]
        }
    }
}

/// JSON and texts in lines, for people.
enum ContentLines {
    /// Documents up to this many bytes are laid out; larger ones stay as they are.
    private static let maximumBytes = 65_536

    /// The lines of a value: JSON with a line for each member where it is long, and the lines of a text that has some.
    ///
    /// No line is longer than `columns`: longer ones go on in the next line. There are at most `count` lines; if there
    /// would be more, the last one says so.
    static func lines(_ value: JSONPart, columns: Int, count: Int = .max) -> [String] {
        if let text = value.text, text.contains(where: \.isNewline) {
            return wrapped(TerminalText.visibleLines(text), columns, count)
        }
        var lines: [String] = []
        if value.source.utf8.count > maximumBytes {
            lines = [value.source]
        } else {
            append(value, margin: "", before: "", after: "", columns, to: &lines)
        }
        return wrapped(lines.map { TerminalText.visible($0) }, columns, count)
    }

    /// Lines with none longer than `columns`, and at most `count`.
    static func wrapped(_ lines: [String], _ columns: Int, _ count: Int) -> [String] {
        let columns = max(columns, 8)
        var wrapped: [String] = []
        for (index, line) in lines.enumerated() {
            wrapped += TerminalText.wrapped(line, columns: columns)
            if wrapped.count > count || wrapped.count == count && index + 1 < lines.count {
                return wrapped.prefix(max(0, count - 1)) + ["… (--json shows all)"]
            }
        }
        return wrapped
    }

    private static func append(
        _ value: JSONPart, margin: String, before: String, after: String, _ columns: Int, to lines: inout [String]
    ) {
        let source = value.source
        let room = columns - margin.utf8.count - before.utf8.count - after.utf8.count
        let members = source.utf8.count <= room ? [] : value.members
        if members.isEmpty || margin.utf8.count > columns / 2 {
            return lines.append(margin + before + source + after)
        }
        let isObject = value.kind == .object
        lines.append(margin + before + (isObject ? "{" : "["))
        for (index, (name, member)) in members.enumerated() {
            append(
                member, margin: margin + "  ", before: isObject ? "\(JSONWriter.text(of: name)): " : "",
                after: index + 1 < members.count ? "," : "", columns, to: &lines)
        }
        lines.append(margin + (isObject ? "}" : "]") + after)
    }
}
