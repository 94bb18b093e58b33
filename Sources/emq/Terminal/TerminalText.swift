// Texts on a terminal: how many columns they take, how they are shortened, and what of them may be shown at all.

/// Texts from elsewhere, such as the contents of tasks, for a terminal.
enum TerminalText {
    // MARK: What is shown

    /// A text of one line that cannot control the terminal, and whose width is the same on all of them.
    ///
    /// A line feed becomes `↵`, and a tab a blank. Other characters that control, or that reorder the line, become
    /// U+FFFD. What terminals disagree about is left out: variation selectors, and the joiners and modifiers of emoji.
    static func visible(_ text: String) -> String {
        if text.utf8.allSatisfy({ isPlain($0) }) { return text }
        var shown = ""
        var isAfterEmoji = false
        var isAfterText = false
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0x0A: shown += "↵"
            case 0x09: shown += " "
            case 0xFE00...0xFE0F, 0xE0100...0xE01EF, 0x1F3FB...0x1F3FF: continue
            // Persian and the scripts of India need joiners between letters.
            case 0x200C, 0x200D:
                if isAfterEmoji { continue }
                shown.unicodeScalars.append(isAfterText ? scalar : "\u{FFFD}")
            default: shown.unicodeScalars.append(isControl(scalar) ? "\u{FFFD}" : scalar)
            }
            isAfterText = scalar.value > 0x7F && scalar.properties.isAlphabetic
            isAfterEmoji = scalar.value > 0x7F && scalar.properties.isEmoji
        }
        return shown
    }

    /// JSON that means the same and cannot control the terminal: characters that could are escaped.
    static func visibleJSON(_ json: String) -> String {
        if json.utf8.allSatisfy({ isPlain($0) || $0 == 0x0A }) { return json }
        var shown = ""
        for scalar in json.unicodeScalars {
            if isControl(scalar), scalar != "\n", scalar != "\t", scalar != "\r" {
                for unit in String(scalar).utf16 {
                    let digits = String(unit, radix: 16)
                    shown += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
                }
            } else {
                // Between values, a carriage return is the same as a blank.
                shown.unicodeScalars.append(scalar == "\r" ? " " : scalar)
            }
        }
        return shown
    }

    /// The lines of a text, each as `visible` shows it. Empty lines at the end are left out. O(length).
    static func visibleLines(_ text: String) -> [String] {
        var lines = text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
        while lines.last?.isEmpty == true { lines.removeLast() }
        return lines.map { visible(String($0)) }
    }

    /// Control and format characters, which could move the cursor or reorder the line.
    static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: true
        default: false
        }
    }

    private static func isPlain(_ byte: UInt8) -> Bool { 0x20 <= byte && byte < 0x7F }

    // MARK: Columns

    /// How many columns a visible text takes. Counting stops beyond `limit`: the result is then larger. O(limit).
    static func width(_ text: String, limit: Int = .max) -> Int {
        if text.utf8.count <= limit, text.utf8.allSatisfy({ isPlain($0) }) { return text.utf8.count }
        var columns = 0
        for scalar in text.unicodeScalars {
            columns += width(scalar)
            if columns > limit { return columns }
        }
        return columns
    }

    /// A visible text in at most `columns` columns. If it is too long, it ends with `…`. O(columns).
    ///
    /// - Returns: the text, and how many columns it takes.
    static func shortened(_ text: String, to columns: Int) -> (text: String, width: Int) {
        let whole = width(text, limit: columns)
        if whole <= columns { return (text, whole) }
        var (kept, used) = (String.UnicodeScalarView(), 0)
        for scalar in text.unicodeScalars {
            let width = width(scalar)
            if used + width > columns - 1 { break }
            used += width
            kept.append(scalar)
        }
        return columns < 1 ? ("", 0) : (String(kept) + "…", used + 1)
    }

    /// A visible text in at most `columns` columns. If it is too long, `…` stands for its middle, so that names that begin
    /// alike can be told apart. O(columns).
    ///
    /// - Returns: the text, and how many columns it takes.
    static func shortenedInside(_ text: String, to columns: Int) -> (text: String, width: Int) {
        let whole = width(text, limit: columns)
        if whole <= columns || columns < 5 { return shortened(text, to: columns) }
        let (start, startWidth) = shortened(text, to: columns / 3 + 1)
        var (tail, used) = ([Unicode.Scalar](), 0)
        for scalar in text.unicodeScalars.reversed() {
            let width = width(scalar)
            if startWidth + used + width > columns { break }
            used += width
            tail.append(scalar)
        }
        // What belongs to a character that has no room goes with it.
        while let scalar = tail.last, width(scalar) == 0 { tail.removeLast() }
        return (start + String(String.UnicodeScalarView(tail.reversed())), startWidth + used)
    }

    /// A visible text in lines of at most `columns` columns, cut anywhere. There is at least one.
    static func wrapped(_ text: String, columns: Int) -> [String] {
        var (lines, line, used) = ([String](), String.UnicodeScalarView(), 0)
        for scalar in text.unicodeScalars {
            let width = width(scalar)
            if used + width > columns, used > 0 {
                lines.append(String(line))
                (line, used) = (String.UnicodeScalarView(), 0)
            }
            line.append(scalar)
            used += width
        }
        return lines + [String(line)]
    }

    /// How many columns a scalar takes, as in the tables of glibc and of most terminals.
    ///
    /// glibc's own `wcwidth` needs a locale, which minimal systems lack.
    private static func width(_ scalar: Unicode.Scalar) -> Int {
        let value = scalar.value
        // The first that takes no column or two is the combining grave accent.
        if value < 0x300 { return 1 }
        // The vowels and last consonants of Hangul in parts join the consonant before them.
        if (0x1160...0x11FF).contains(value) { return 0 }
        switch scalar.properties.generalCategory {
        case .nonspacingMark, .enclosingMark, .format: return 0
        default: break
        }
        if wide.contains(where: { $0.contains(value) }) { return 2 }
        // Two regional indicators are a flag of two columns.
        return scalar.properties.isEmojiPresentation && !(0x1F1E6...0x1F1FF).contains(value) ? 2 : 1
    }

    /// Wide and fullwidth characters other than emoji (Unicode Standard Annex 11), in blocks.
    private static let wide: [ClosedRange<UInt32>] = [
        0x1100...0x115F, 0x2E80...0x303E, 0x3041...0xA4CF, 0xA960...0xA97F, 0xAC00...0xD7A3, 0xF900...0xFAFF,
        0xFE10...0xFE19, 0xFE30...0xFE6F, 0xFF01...0xFF60, 0xFFE0...0xFFE6, 0x16FE0...0x18DFF, 0x1AFF0...0x1B2FF,
        0x1F200...0x1F2FF, 0x20000...0x3FFFD,
    ]
}
