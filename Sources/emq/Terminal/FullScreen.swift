// A terminal whose whole screen a command draws, and which it leaves as it was.

import CLinux
import CProcess
import Glibc
import Net

/// The screen. There is at most one.
final class FullScreen {
    private let output: TerminalWriter
    /// The lines on the terminal; nil if that is not known.
    private var shown: [String]?
    private(set) var columns = 80
    private(set) var rows = 24

    /// The screen of standard output.
    init(on loop: EventLoop) { output = TerminalWriter(STDOUT_FILENO, on: loop) }

    deinit { leave() }

    /// Takes the terminal, or takes it again after `leave`. Everything is drawn anew.
    func enter() {
        emq_take_terminal(output.descriptor)
        // The alternate screen, without a cursor, and lines that do not wrap.
        output.write("\u{1B}[?1049h\u{1B}[?25l\u{1B}[?7l")
        measure()
    }

    /// Gives the terminal back. Waits for a terminal that nobody reads, but only briefly.
    func leave() {
        emq_give_terminal_back()
        output.discard()
        shown = nil
    }

    /// Reads the size of the terminal. Everything is drawn anew.
    func measure() {
        (columns, rows) = Terminal.size ?? (80, 24)
        shown = nil
    }

    /// Whether the terminal is gone.
    var isGone: Bool { output.isGone }

    /// Whether `draw` may show something. While the terminal takes nothing, frames are left out.
    var isReady: Bool { output.isIdle }

    /// Shows lines of at most `columns` columns, with styles, in one write, and only those that have changed. Lines
    /// beyond the last row are left out. Does nothing unless the screen is ready.
    func draw(_ lines: [String]) {
        if !isReady { return }
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
        output.write(frame)
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
    /// A terminal is opened again, because it may take less than it seems to have room for.
    private static let descriptor = Terminal.reopened(STDOUT_FILENO) ?? STDOUT_FILENO

    /// Writes a text, waiting until it is read, or until one of `signals` asks for the end.
    ///
    /// - Returns: the error number; nil if all is written. It is EINTR after a signal.
    static func write(_ text: String, until signals: SignalSource) -> Int32? {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let isEndAsked = signals.isEndAsked
            var events = [
                pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0),
                pollfd(fd: signals.descriptor, events: Int16(POLLIN), revents: 0),
            ]
            unsafe poll(&events, 2, isEndAsked ? 0 : -1)
            if events[0].revents == 0 {
                if isEndAsked { return EINTR }
                continue
            }
            // A pipe with room takes so much at once.
            let part = rest.prefix(Int(PIPE_BUF))
            let count = unsafe part.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN {
                if isEndAsked { return EINTR }
                // A terminal that seems to have room may have too little for the end of a line.
                unsafe poll(&events[1], 1, 10)
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
