// What standard input, output and error are, and how text for people looks there.

import CLinux
import Glibc

/// The terminal of a command, if it has one.
struct Terminal {
    /// How a text stands out. The numbers are those of SGR (ECMA-48 section 8.3.117).
    enum Style: Int, Sendable {
        case plain = 0
        case bold = 1
        case faint = 2
        case reverse = 7
        case red = 31
        case green = 32
        case yellow = 33
        case cyan = 36
    }

    /// Whether standard output is a terminal.
    let isOutput: Bool
    /// Whether a person can be asked: standard input and standard error are a terminal.
    let canAsk: Bool
    /// Whether texts may have colours.
    let hasColours: Bool
    /// Whether standard output is a terminal on which a program may move the cursor.
    let hasCursor: Bool

    /// The terminal of this process.
    ///
    /// - Parameter environment: the value of a variable; with NO_COLOR, or without a TERM that knows them, there are no
    ///   colours.
    init(_ environment: (String) -> String?) {
        isOutput = isatty(STDOUT_FILENO) == 1
        canAsk = isatty(STDIN_FILENO) == 1 && isatty(STDERR_FILENO) == 1
        let isDumb = environment("TERM").map { $0 == "dumb" } ?? true
        hasCursor = isOutput && !isDumb
        hasColours = hasCursor && environment("NO_COLOR")?.isEmpty != false
    }

    /// Its number of columns and rows now; nil if it is none.
    static var size: (columns: Int, rows: Int)? {
        var size = winsize()
        guard unsafe ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
            return nil
        }
        return (Int(size.ws_col), Int(size.ws_row))
    }

    /// A text in a style, if there are colours.
    func styled(_ text: String, _ style: Style) -> String {
        hasColours && style != .plain ? "\u{1B}[\(style.rawValue)m\(text)\u{1B}[0m" : text
    }

    /// Prints a table: aligned on a terminal, with tabs otherwise.
    func print(_ table: TextTable) {
        var text = isOutput ? table.aligned(self, width: Terminal.size?.columns) : table.tabSeparated
        if text.isEmpty { return }
        text.removeLast()
        Emq.print(text)
    }

    /// Asks a question that `y` or `yes` agrees to. The answer is the next line of standard input.
    func agrees(to question: String) -> Bool {
        var prompt = Array("\(question) [y/N] ".utf8)[...]
        while !prompt.isEmpty {
            let count = unsafe prompt.withUnsafeBytes { unsafe write(STDERR_FILENO, $0.baseAddress, $0.count) }
            if count <= 0 { return false }
            prompt = prompt.dropFirst(count)
        }
        let answer = readLine()?.lowercased()
        return answer == "y" || answer == "yes"
    }
}
