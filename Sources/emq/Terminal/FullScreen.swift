// A terminal whose whole screen a command draws, and which it leaves as it was.

import CLinux
import CProcess
import Glibc
import Net

/// The screen. There is at most one.
final class FullScreen {
    /// The lines on the terminal; nil if that is not known.
    private var shown: [String]?
    private(set) var columns = 80
    private(set) var rows = 24

    deinit { leave() }

    /// Takes the terminal, or takes it again after `leave`. Everything is drawn anew.
    func enter() {
        emq_take_terminal()
        measure()
    }

    /// Gives the terminal back.
    func leave() {
        emq_give_terminal_back()
        shown = nil
    }

    /// Reads the size of the terminal. Everything is drawn anew.
    func measure() {
        (columns, rows) = Terminal.size ?? (80, 24)
        shown = nil
    }

    /// Shows lines of at most `columns` columns, with styles, in one write, and only those that have changed. Lines
    /// beyond the last row are left out.
    ///
    /// - Returns: whether the terminal is still there.
    func draw(_ lines: [String]) -> Bool {
        let lines = Array(lines.prefix(rows))
        var frame = shown == nil ? "\u{1B}[2J" : ""
        for row in 0..<rows {
            let line = row < lines.count ? lines[row] : ""
            let old = shown.map { row < $0.count ? $0[row] : "" } ?? ""
            if line == old { continue }
            // Erasing after the text does not flicker; behind the last column, it would erase a part of the text.
            let end = Self.width(line) < columns ? "\u{1B}[K" : ""
            frame += "\u{1B}[\(row + 1);1H\(line)\(end)"
        }
        shown = lines
        return frame.isEmpty || StandardOutput.write(frame) == nil
    }

    /// The columns of a text with styles.
    private static func width(_ line: String) -> Int {
        var plain = String.UnicodeScalarView()
        var isStyle = false
        for scalar in line.unicodeScalars {
            if scalar == "\u{1B}" { isStyle = true }
            if !isStyle { plain.append(scalar) }
            if scalar == "m" { isStyle = false }
        }
        return TerminalText.width(String(plain))
    }
}

/// Standard output of commands that run until they are stopped, or until nobody reads on.
enum StandardOutput {
    /// Writes a text, waiting until it is read, or until one of `signals` comes.
    ///
    /// - Returns: the error number; nil if all is written. It is EINTR after a signal.
    static func write(_ text: String, until signals: SignalSource? = nil) -> Int32? {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            if let signals {
                var events = [
                    pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0),
                    pollfd(fd: signals.descriptor, events: Int16(POLLIN), revents: 0),
                ]
                unsafe poll(&events, 2, -1)
                if events[1].revents != 0, events[0].revents == 0 { return EINTR }
            }
            // A pipe with room takes so much at once.
            let part = signals == nil ? rest : rest.prefix(Int(PIPE_BUF))
            let count = unsafe part.withUnsafeBytes { unsafe Glibc.write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN {
                var readiness = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
                unsafe poll(&readiness, 1, -1)
            } else if errno != EINTR {
                return errno
            }
        }
        return nil
    }
}

/// Notices that nobody reads standard output any more, if it is a pipe or a terminal.
final class OutputWatch: EventSource {
    private(set) var isClosed = false

    init(on loop: EventLoop) {
        super.init()
        // A file cannot be watched, and needs no watch.
        try? loop.watch(STDOUT_FILENO, for: self, events: 0)
    }

    override func ready(events: UInt32) { isClosed = true }
}
