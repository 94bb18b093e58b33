// Tables: aligned columns for people, and fields between tabs for programs.

/// A table of texts.
struct TextTable {
    /// A column.
    struct Column {
        let title: String
        /// Whether its texts end at the same place, as numbers should.
        var isRight = false
        /// Whether it may be shortened when the terminal is too narrow.
        var isElastic = false

        init(_ title: String, isRight: Bool = false, isElastic: Bool = false) {
            (self.title, self.isRight, self.isElastic) = (title, isRight, isElastic)
        }
    }

    /// A cell.
    struct Cell {
        /// The text for people.
        let text: String
        /// The text for programs.
        let value: String
        let style: Terminal.Style

        init(_ text: String, value: String? = nil, _ style: Terminal.Style = .plain) {
            (self.text, self.value, self.style) = (text, value ?? text, style)
        }
    }

    let columns: [Column]
    var rows: [[Cell]] = []

    init(_ columns: [Column]) { self.columns = columns }

    /// The narrowest that an elastic column becomes.
    private static let leastWidth = 8

    /// The table for programs: a line for each row, without titles, with tabs between the values.
    ///
    /// Tabs, line feeds and backslashes in values are `\t`, `\n` and `\\`.
    var tabSeparated: String {
        var text = ""
        for row in rows {
            text += row.map { Self.escaped($0.value) }.joined(separator: "\t") + "\n"
        }
        return text
    }

    /// The table for people.
    ///
    /// - Parameters:
    ///   - terminal: where it is shown.
    ///   - width: the number of columns of the terminal; nil for no limit.
    /// - Returns: the lines.
    func aligned(_ terminal: Terminal, width: Int?) -> String {
        let cells = rows.map { row in row.map { Self.visible($0.text) } }
        var widths = columns.enumerated().map { place, column in
            cells.reduce(column.title.count) { max($0, $1[place].count) }
        }
        if let width {
            var excess = widths.reduce(0, +) + 2 * (widths.count - 1) - width
            for place in columns.indices where columns[place].isElastic && excess > 0 {
                let cut = min(excess, max(0, widths[place] - Self.leastWidth))
                widths[place] -= cut
                excess -= cut
            }
        }
        var text = line(columns.map { ($0.title, .faint) }, widths, terminal)
        for (row, texts) in zip(rows, cells) { text += line(zip(texts, row.map(\.style)).map { $0 }, widths, terminal) }
        return text
    }

    private func line(_ cells: [(String, Terminal.Style)], _ widths: [Int], _ terminal: Terminal) -> String {
        var line = ""
        var blanks = 0
        for (place, (text, style)) in cells.enumerated() {
            let shown = text.count > widths[place] ? text.prefix(widths[place] - 1) + "…" : text[...]
            let padding = widths[place] - shown.count
            if columns[place].isRight { blanks += padding }
            // Without blanks at the end of a line, it does not wrap on a narrow terminal.
            if !shown.isEmpty {
                line += String(repeating: " ", count: blanks) + terminal.styled(String(shown), style)
                blanks = 0
            }
            blanks += 2 + (columns[place].isRight ? 0 : padding)
        }
        return line + "\n"
    }

    /// A text without characters that control a terminal.
    static func visible(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: { isControl($0) }) else { return text }
        var shown = ""
        for scalar in text.unicodeScalars {
            if isControl(scalar) { shown += "\u{FFFD}" } else { shown.unicodeScalars.append(scalar) }
        }
        return shown
    }

    /// Control and format characters, which could move the cursor or reorder the line.
    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: true
        default: false
        }
    }

    private static func escaped(_ value: String) -> String {
        var text = ""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\t": text += "\\t"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\\": text += "\\\\"
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text
    }
}
