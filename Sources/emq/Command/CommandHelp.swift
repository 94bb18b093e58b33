// The help of commands, and the overview of all of them.

extension Command {
    /// The longest line of help, in columns: that of the terminal, if it is not wider than people like to read.
    private static var lineLength: Int { min(100, max(60, Terminal.size?.columns ?? 100)) }
    /// Where the texts of options begin.
    private static let optionColumn = 26

    /// The help of the command: what it does, its options and examples.
    var help: String {
        var lines = ["\(invocation): \(summary)", ""]
        let tail = (options.isEmpty ? "" : " [OPTIONS]") + (operands.isEmpty ? "" : " \(operands)")
        lines.append("usage: \(invocation)\(tail)")
        if !text.isEmpty { lines.append("") }
        lines += Self.paragraphs(text)
        if !options.isEmpty { lines.append("") }
        for option in options { lines += option.helpLines(column: Self.optionColumn, length: Self.lineLength) }
        if !examples.isEmpty { lines.append("") }
        for example in examples {
            lines += Self.wrapped("\(example.text.prefix(1).uppercased())\(example.text.dropFirst()):", "  ")
            lines.append("    \(example.line)")
        }
        return lines.joined(separator: "\n")
    }

    /// The overview of all commands.
    static func overview(of commands: [Command]) -> String {
        var lines = ["emq: a work-queue server over HTTP, and its client", "", "usage: emq [COMMAND] [OPTIONS]"]
        let width = commands.map(\.name.count).max() ?? 0
        for section in Section.allCases where section != .hidden {
            lines += ["", "\(section.rawValue):"]
            for command in commands where command.section == section {
                let blanks = String(repeating: " ", count: width - command.name.count)
                lines.append("  \(command.name)\(blanks)  \(command.summary)")
            }
        }
        lines += [
            "", "Without a command, emq runs the server: emq --addr :8080 --data /var/lib/emq",
            "`emq help COMMAND` explains a command.",
        ]
        return lines.joined(separator: "\n")
    }

    /// Paragraphs in lines of limited length, with empty lines between them. Lines that begin with a blank stay as
    /// they are, and follow the paragraph before them without an empty line.
    static func paragraphs(_ texts: [String]) -> [String] {
        var lines: [String] = []
        for text in texts {
            let isVerbatim = text.first == " "
            if !lines.isEmpty, !isVerbatim { lines.append("") }
            lines += isVerbatim ? [text] : wrapped(text, "")
        }
        return lines
    }

    /// The words of a text in lines of limited length, each after `margin`.
    static func wrapped(_ text: String, _ margin: String, length: Int = lineLength) -> [String] {
        var lines: [String] = []
        var line = ""
        for word in text.split(separator: " ") {
            if !line.isEmpty, margin.count + line.count + 1 + word.count > length {
                lines.append(margin + line)
                line = ""
            }
            line += line.isEmpty ? String(word) : " \(word)"
        }
        return line.isEmpty ? lines : lines + [margin + line]
    }
}

extension CommandOption {
    /// Its forms with its value, as help shows them: `-j, --jobs N`.
    var usage: String { (letter.map { "-\($0), " } ?? "") + flag + (value.map { " \($0)" } ?? "") }

    /// Its lines in the help of its command.
    fileprivate func helpLines(column: Int, length: Int) -> [String] {
        let margin = String(repeating: " ", count: column)
        let texts = Command.wrapped(text, margin, length: length)
        let head = "  \(usage)"
        guard head.count <= column - 2, let first = texts.first else { return [head] + texts }
        return [head + first.dropFirst(head.count)] + texts.dropFirst()
    }
}
