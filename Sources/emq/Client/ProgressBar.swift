// The bar that shows people how far a long command is.

import CLinux
import Glibc

/// A line on standard error that is drawn again and again. Without a terminal, there is none.
struct ProgressBar {
    /// How long a drawing stays, in milliseconds.
    static let intervalMilliseconds: Int64 = 100
    private static let barWidth = 24

    private let output: TerminalWriter?
    /// The number of bytes of the whole work; nil if it is unknown.
    private let totalBytes: Int64?
    /// The bytes that were done before.
    private let firstBytes: Int64
    private let startedAt: Int64
    private var drawnAt = Int64.min
    private var isDrawn = false

    /// - Parameters:
    ///   - environment: the value of a variable.
    ///   - totalBytes: the number of bytes of the whole work; nil if it is unknown.
    ///   - doneBytes: how many of them are done already.
    ///   - now: the time, in milliseconds.
    init(_ environment: (String) -> String?, totalBytes: Int64?, doneBytes: Int64, now: Int64) {
        let isShown = isatty(STDERR_FILENO) == 1 && environment("TERM").map { $0 != "dumb" } ?? false
        output = isShown ? TerminalWriter(STDERR_FILENO) : nil
        (self.totalBytes, firstBytes, startedAt) = (totalBytes, doneBytes, now)
    }

    var isShown: Bool { output != nil }

    /// When it may be drawn again; nil if it is not shown.
    var nextTime: Int64? { isShown ? drawnAt &+ Self.intervalMilliseconds : nil }

    /// Draws it, unless it was drawn just now, or the terminal has not taken the last drawing yet.
    mutating func draw(tasks: Int, bytes: Int64, now: Int64) {
        guard let output, drawnAt == .min || now >= drawnAt + Self.intervalMilliseconds else { return }
        drawnAt = now
        output.flush()
        if !output.isIdle { return }
        isDrawn = true
        output.write("\r" + String(text(tasks: tasks, bytes: bytes, now: now).prefix(Self.columns - 1)) + "\u{1B}[K")
    }

    /// Removes it, so that something else can be written.
    mutating func clear() {
        if let output, isDrawn {
            output.discard()
            output.write("\r\u{1B}[K")
            output.discard()
        }
        isDrawn = false
    }

    /// What is drawn.
    func text(tasks: Int, bytes: Int64, now: Int64) -> String {
        let milliseconds = max(1, now - startedAt)
        let rate = Double(tasks) * 1000 / Double(milliseconds)
        let pace = "\(tasks) tasks  \(Int(rate))/s"
        guard let totalBytes, totalBytes > 0 else { return pace }
        let part = min(1, Double(bytes) / Double(totalBytes))
        let filled = Int(part * Double(Self.barWidth))
        let bar = String(repeating: "=", count: filled) + String(repeating: " ", count: Self.barWidth - filled)
        var text = "[\(bar)] \(Int(part * 100))%  \(pace)"
        let done = bytes - firstBytes
        if done > 0, milliseconds > 1000, totalBytes >= bytes {
            let left = Double(milliseconds) * Double(totalBytes - bytes) / Double(done)
            if left >= 1000 { text += "  \(Duration.text(milliseconds: Int64(min(left, 1e15)) / 1000 * 1000)) left" }
        }
        return text
    }

    private static var columns: Int {
        var size = winsize()
        guard unsafe ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 1 else { return 80 }
        return Int(size.ws_col)
    }
}
