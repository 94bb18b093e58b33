// A program in a pseudo-terminal, as a person would run it, and what the person would see.

import Foundation
import Support
import Testing

/// A running program whose standard input, output and error are a terminal of its own, which is its controlling terminal.
/// It is killed with this object.
final class PseudoTerminal {
    /// The program's process number, which is also that of its session.
    let process: pid_t
    private let controller: Int32
    private var status: Int32?
    /// All that the program has written so far.
    private(set) var bytes: [UInt8] = []
    private(set) var screen: TestScreen

    /// Runs emq, or the program at a path, with these variables beside PATH, TERM (`xterm`), TZ (`UTC`) and HOME.
    init(
        _ arguments: [String], program: String = Server.executable.path, columns: Int = 80, rows: Int = 24,
        environment: [String: String] = [:]
    ) throws {
        screen = TestScreen(columns: columns, rows: rows)
        // What posix_openpt, unlockpt and ptsname do, which glibc declares for X/Open programs only: TIOCSPTLCK and
        // TIOCGPTN.
        controller = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        var (lock, number): (Int32, UInt32) = (0, 0)
        guard controller >= 0, ioctl(controller, 0x4004_5431, &lock) == 0, ioctl(controller, 0x8004_5430, &number) == 0
        else { throw Failure(description: "there is no pseudo-terminal: \(errno)") }
        let name = "/dev/pts/\(number)"
        Self.setSize(controller, columns, rows)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // The first terminal that the leader of a session opens becomes its controlling terminal.
        posix_spawn_file_actions_addopen(&actions, 0, name, O_RDWR, 0)
        posix_spawn_file_actions_adddup2(&actions, 0, 1)
        posix_spawn_file_actions_adddup2(&actions, 0, 2)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var (none, all) = (sigset_t(), sigset_t())
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        // 0x80 is POSIX_SPAWN_SETSID, which glibc declares for GNU programs only.
        posix_spawnattr_setflags(&attributes, Int16(0x80 | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        let variables = ["PATH": "/usr/bin:/bin", "TERM": "xterm", "TZ": "UTC", "HOME": "/nonexistent"]
            .merging(environment) { $1 }
        let words = ([program] + arguments).map { strdup($0) } + [nil]
        let pairs = variables.map { strdup("\($0)=\($1)") } + [nil]
        defer { for text in words + pairs { free(text) } }
        var process: pid_t = 0
        let code = posix_spawn(&process, program, &actions, &attributes, words, pairs)
        guard code == 0 else { throw Failure(description: "cannot run \(program): \(code)") }
        self.process = process
    }

    deinit {
        if status == nil {
            kill(process, SIGKILL)
            var status: Int32 = 0
            waitpid(process, &status, 0)
        }
        close(controller)
    }

    private static func setSize(_ descriptor: Int32, _ columns: Int, _ rows: Int) {
        var size = winsize(ws_row: UInt16(rows), ws_col: UInt16(columns), ws_xpixel: 0, ws_ypixel: 0)
        _ = ioctl(descriptor, UInt(TIOCSWINSZ), &size)
    }

    /// Changes the size of the window, which the program is told by SIGWINCH.
    func resize(columns: Int, rows: Int) {
        screen = TestScreen(columns: columns, rows: rows)
        Self.setSize(controller, columns, rows)
    }

    /// Types keys.
    func type(_ keys: String) {
        let keys = Array(keys.utf8)
        #expect(write(controller, keys, keys.count) == keys.count)
    }

    func signal(_ number: Int32) { kill(process, number) }

    /// Whether the terminal echoes and edits lines, as a shell expects it.
    var isCooked: Bool {
        var modes = termios()
        guard tcgetattr(controller, &modes) == 0 else { return false }
        return modes.c_lflag & UInt32(ICANON | ECHO | ISIG) == UInt32(ICANON | ECHO | ISIG)
    }

    /// Everything that the program has written, as text.
    var text: String { String(decoding: bytes, as: UTF8.self) }

    /// The same without the ends of lines that the terminal makes of line feeds.
    var lines: [String] { text.replacing("\r\n", with: "\n").components(separatedBy: "\n") }

    /// Reads what has arrived.
    private func read() {
        var event = pollfd(fd: controller, events: Int16(POLLIN), revents: 0)
        while poll(&event, 1, 0) > 0, event.revents & Int16(POLLIN) != 0 {
            var block = [UInt8](repeating: 0, count: 65_536)
            let count = Glibc.read(controller, &block, block.count)
            if count <= 0 { return }
            bytes += block[..<count]
            screen.show(block[..<count])
        }
    }

    /// Reads until the condition holds.
    func wait(for what: String, _ condition: (PseudoTerminal) throws -> Bool) throws {
        do {
            try eventually(what) { () -> Void? in
                read()
                return try condition(self) ? () : nil
            }
        } catch {
            throw Failure(description: "\(error): \(screen.lines)")
        }
    }

    /// Reads until the program has ended.
    ///
    /// - Returns: its exit status, or 128 and the signal that ended it.
    func exitStatus() throws -> Int32 {
        try wait(for: "the program's end") { $0.hasEnded }
        // What it wrote last.
        read()
        return status ?? -1
    }

    /// Waits until the program has ended, and reads nothing meanwhile.
    ///
    /// - Returns: as `exitStatus`.
    func exitStatusUnread() throws -> Int32 {
        try eventually("the program's end") { hasEnded ? () : nil }
        return status ?? -1
    }

    private var hasEnded: Bool {
        if status != nil { return true }
        var status: Int32 = 0
        guard waitpid(process, &status, WNOHANG) == process else { return false }
        self.status = status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + (status & 0x7F)
        return true
    }

    /// How many bytes the program has written and nobody has read.
    var waitingByteCount: Int {
        var count: Int32 = 0
        return ioctl(controller, UInt(FIONREAD), &count) == 0 ? Int(count) : 0
    }
}

/// A small terminal emulator: what a program's output looks like. It knows what emq's programs use of ECMA-48 and xterm.
struct TestScreen {
    let columns: Int
    let rows: Int
    private var cells: [[String]]
    private var (row, column) = (0, 0)
    private(set) var isAlternate = false
    private(set) var isCursorVisible = true
    /// The control sequences that it does not know.
    private(set) var unknown: [String] = []
    private var mainCells: [[String]] = []
    private var mainPlace = (0, 0)
    /// The beginning of a sequence or of a character whose end has not arrived.
    private var pending: [UInt8] = []

    init(columns: Int, rows: Int) {
        (self.columns, self.rows) = (columns, rows)
        cells = Self.empty(columns, rows)
    }

    private static func empty(_ columns: Int, _ rows: Int) -> [[String]] {
        Array(repeating: Array(repeating: " ", count: columns), count: rows)
    }

    /// The lines without the blanks at their ends.
    var lines: [String] {
        cells.map { cells in
            var line = cells.joined()
            while line.hasSuffix(" ") { line.removeLast() }
            return line
        }
    }

    /// All lines that are not empty.
    var text: String { lines.filter { !$0.isEmpty }.joined(separator: "\n") }

    mutating func show(_ bytes: ArraySlice<UInt8>) {
        var rest = (pending + bytes)[...]
        pending = []
        while let byte = rest.first {
            if byte == 0x1B {
                guard let end = Self.endOfSequence(rest) else { return pending = Array(rest) }
                run(String(decoding: rest[rest.startIndex..<end], as: UTF8.self).dropFirst())
                rest = rest[end...]
                continue
            }
            let length = byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4
            if rest.count < length { return pending = Array(rest) }
            for scalar in String(decoding: rest.prefix(length), as: UTF8.self).unicodeScalars { put(scalar) }
            rest = rest.dropFirst(length)
        }
    }

    /// The end of the escape sequence that the bytes begin with; nil if it is incomplete.
    private static func endOfSequence(_ bytes: ArraySlice<UInt8>) -> Int? {
        guard bytes.count > 1 else { return nil }
        if bytes[bytes.startIndex + 1] != UInt8(ascii: "[") { return bytes.startIndex + 2 }
        return bytes.dropFirst(2).firstIndex { (0x40...0x7E).contains($0) }.map { $0 + 1 }
    }

    private mutating func put(_ scalar: Unicode.Scalar) {
        switch scalar {
        case "\r": column = 0
        case "\n": feedLine()
        default:
            if scalar.value < 0x20 || scalar.value == 0x7F {
                return unknown.append("U+\(String(scalar.value, radix: 16))")
            }
            if scalar.properties.generalCategory == .nonspacingMark {
                if column > 0 { cells[row][column - 1] += String(scalar) }
                return
            }
            let width = Self.isWide(scalar) ? 2 : 1
            if column + width > columns {
                column = 0
                feedLine()
            }
            cells[row][column] = String(scalar)
            if width == 2 { cells[row][column + 1] = "" }
            column += width
        }
    }

    private static func isWide(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x1100...0x115F, 0x2E80...0x9FFF, 0xAC00...0xD7A3, 0xFF01...0xFF60, 0x1F300...0x1FAFF: true
        default: false
        }
    }

    private mutating func feedLine() {
        if row + 1 < rows { return row += 1 }
        cells.removeFirst()
        cells.append(Array(repeating: " ", count: columns))
    }

    private mutating func run(_ sequence: Substring) {
        guard sequence.first == "[", let last = sequence.last else { return unknown.append(String(sequence)) }
        let text = sequence.dropFirst().dropLast()
        let numbers = text.split(separator: ";", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
        switch (last, text) {
        case ("m", _): break
        case ("H", _):
            row = min(max(numbers.first ?? 1, 1), rows) - 1
            column = min(max(numbers.count > 1 ? numbers[1] : 1, 1), columns) - 1
        case ("K", ""), ("K", "0"): for place in min(column, columns)..<columns { cells[row][place] = " " }
        case ("J", "2"): cells = Self.empty(columns, rows)
        case ("h", "?1049"):
            if !isAlternate { (mainCells, mainPlace) = (cells, (row, column)) }
            isAlternate = true
            cells = Self.empty(columns, rows)
        case ("l", "?1049"):
            if isAlternate, mainCells.count == rows, mainCells.first?.count == columns {
                (cells, (row, column)) = (mainCells, mainPlace)
            }
            isAlternate = false
        case ("h", "?25"): isCursorVisible = true
        case ("l", "?25"): isCursorVisible = false
        case ("h", "?7"), ("l", "?7"): break
        default: unknown.append(String(sequence))
        }
    }
}
