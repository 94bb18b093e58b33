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
        /// Whether it is shortened in the middle, as names are that begin alike.
        var keepsEnd = false
        /// Whether people do not see it while all its texts are empty.
        var isOptional = false
        /// When the terminal is too narrow, columns are left out, those of the highest rank first; never those of 0.
        var rank = 0
        var titleStyle = Terminal.Style.faint
        /// The narrowest that it becomes if it is elastic.
        var leastWidth = 8

        init(
            _ title: String, isRight: Bool = false, isElastic: Bool = false, keepsEnd: Bool = false,
            isOptional: Bool = false, rank: Int = 0
        ) {
            (self.title, self.isRight, self.isElastic, self.keepsEnd) = (title, isRight, isElastic, keepsEnd)
            (self.isOptional, self.rank) = (isOptional, rank)
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

    var columns: [Column]
    var rows: [[Cell]] = []

    init(_ columns: [Column]) { self.columns = columns }

    /// The blanks between two columns.
    private static let gap = 2

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
    /// If not even the columns that must be there fit next to each other, each row is a list of its texts, which may be
    /// wider than the terminal: ids and receipts are always whole.
    ///
    /// - Parameters:
    ///   - terminal: where it is shown.
    ///   - width: the number of columns of the terminal; nil for no limit.
    /// - Returns: the lines.
    func aligned(_ terminal: Terminal, width: Int?) -> String {
        lines(terminal, width: width).map { $0 + "\n" }.joined()
    }

    /// The lines of `aligned`.
    func lines(_ terminal: Terminal, width: Int?) -> [String] {
        let limit = width ?? .max
        let cells = rows.map { row in
            // Beyond the width, nothing is ever shown of an elastic cell.
            zip(row, columns).map { cell, column in
                TerminalText.visible(
                    column.isElastic && !column.keepsEnd ? Self.beginning(of: cell.text, columns: limit) : cell.text)
            }
        }
        var places = columns.indices.filter { place in
            !columns[place].isOptional || cells.contains { !$0[place].isEmpty }
        }
        let natural = columns.enumerated().map { place, column in
            cells.reduce(TerminalText.width(column.title)) {
                max($0, TerminalText.width($1[place], limit: column.isElastic ? limit : .max))
            }
        }
        let least = columns.indices.map {
            columns[$0].isElastic ? min(natural[$0], columns[$0].leastWidth) : natural[$0]
        }
        func total(_ widths: [Int]) -> Int { places.reduce(Self.gap * (places.count - 1)) { $0 + widths[$1] } }
        while total(least) > limit, let rank = places.map({ columns[$0].rank }).max(), rank > 0 {
            places.removeAll { columns[$0].rank == rank }
        }
        if total(least) > limit { return lists(places, cells, terminal, limit) }
        let widths = shared(natural, least, places, room: limit)
        let titles = columns.map { ($0.title, $0.titleStyle) }
        return [line(titles, places, widths, terminal)]
            + zip(rows, cells).map { row, texts in
                line(zip(texts, row.map(\.style)).map { $0 }, places, widths, terminal)
            }
    }

    /// What can be seen of a text in so many columns at most, and a little more.
    private static func beginning(of text: String, columns: Int) -> String {
        // Even combining characters, of which several may share a column, leave enough to fill the line.
        guard columns < 10_000, text.utf8.count > 16 * columns + 64 else { return text }
        return String(text.unicodeScalars.prefix(4 * columns + 16))
    }

    /// The widths of columns: elastic ones that need little have it, and the others share the rest equally, but none is
    /// narrower than its least.
    private func shared(_ natural: [Int], _ least: [Int], _ places: [Int], room: Int) -> [Int] {
        var widths = natural
        let elastic = places.filter { columns[$0].isElastic }
        var rest = places.reduce(room - Self.gap * (places.count - 1)) {
            $0 - (columns[$1].isElastic ? 0 : natural[$1])
        }
        if elastic.reduce(0, { $0 + natural[$1] }) <= rest { return widths }
        // The widest that all may be: between two widths of which one fits, and the other does not.
        func width(_ place: Int, _ share: Int) -> Int { max(least[place], min(natural[place], share)) }
        var (fitting, excessive) = (0, elastic.map { natural[$0] }.max() ?? 0)
        while excessive - fitting > 1 {
            let share = fitting + (excessive - fitting) / 2
            let isFitting = elastic.reduce(0) { $0 + width($1, share) } <= rest
            if isFitting { fitting = share } else { excessive = share }
        }
        for place in elastic { widths[place] = width(place, fitting) }
        rest -= elastic.reduce(0) { $0 + widths[$1] }
        // A few columns may be left.
        for place in elastic where rest > 0 && widths[place] == fitting && widths[place] < natural[place] {
            widths[place] += 1
            rest -= 1
        }
        return widths
    }

    private func line(
        _ cells: [(text: String, style: Terminal.Style)], _ places: [Int], _ widths: [Int], _ terminal: Terminal
    ) -> String {
        var line = ""
        var blanks = 0
        for place in places {
            let (shown, width) = shortened(cells[place].text, in: columns[place], to: widths[place])
            let padding = widths[place] - width
            if columns[place].isRight { blanks += padding }
            // Without blanks at the end of a line, it does not wrap on a narrow terminal.
            if !shown.isEmpty {
                line += String(repeating: " ", count: blanks) + terminal.styled(shown, cells[place].style)
                blanks = 0
            }
            blanks += Self.gap + (columns[place].isRight ? 0 : padding)
        }
        return line
    }

    private func shortened(_ text: String, in column: Column, to width: Int) -> (text: String, width: Int) {
        column.keepsEnd
            ? TerminalText.shortenedInside(text, to: width) : TerminalText.shortened(text, to: width)
    }

    /// Each row as lines with a title and a text, and an empty line between two rows.
    private func lists(_ places: [Int], _ cells: [[String]], _ terminal: Terminal, _ limit: Int) -> [String] {
        var lines: [String] = []
        let titleWidth = places.map { TerminalText.width(columns[$0].title) }.max() ?? 0
        for (row, texts) in zip(rows, cells) {
            if !lines.isEmpty { lines.append("") }
            for place in places where !texts[place].isEmpty {
                let title = columns[place].title
                let padding = titleWidth - TerminalText.width(title) + 1
                let room = max(columns[place].leastWidth, limit - titleWidth - 1)
                let column = columns[place]
                let text = column.isElastic ? shortened(texts[place], in: column, to: room).text : texts[place]
                lines.append(
                    terminal.styled(title, .faint) + String(repeating: " ", count: padding)
                        + terminal.styled(text, row[place].style))
            }
        }
        return lines
    }

    /// A text without characters that control a terminal.
    static func visible(_ text: String) -> String { TerminalText.visible(text) }

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
