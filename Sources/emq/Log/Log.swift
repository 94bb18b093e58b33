// The program's log: which events are written, and in what form. `LineWriter` writes them without making the server
// wait.

import Bytes
import CLinux
import Glibc
import Synchronization

/// The log of a server. Any thread may use it.
final class Log: Sendable {
    /// The log on standard error.
    static let standard: Log = Log { LineWriter.standardError.write($0.span, isOptional: $1) }

    private struct State {
        var lines: LogLines
        var level = LogEvent.Level.info
        var repeats = LogRepeats()
        /// The memory of the line being written.
        var line: [UInt8] = []
    }

    private let state: Locked<State>
    /// Whether an event may have been counted since `writeDueNumbers` found none. With this, the end of a turn, where
    /// nothing is counted as a rule, takes no lock.
    private let mayHaveNumbers = Atomic(false)
    private let clock: @Sendable () -> Int64
    private let write: @Sendable (_ line: [UInt8], _ isOptional: Bool) -> Void

    /// - Parameters:
    ///   - format: the form of the lines.
    ///   - clock: returns the time, in milliseconds since the Unix epoch.
    ///   - write: takes each line without a line feed, and whether it is one of many.
    init(
        _ format: LogFormat = .text, clock: @escaping @Sendable () -> Int64 = Log.wallClock,
        write: @escaping @Sendable (_ line: [UInt8], _ isOptional: Bool) -> Void
    ) {
        state = Locked(State(lines: LogLines(format)))
        self.clock = clock
        self.write = write
    }

    /// Sets the form of the lines and the least important level that is written.
    func configure(_ format: LogFormat, _ level: LogEvent.Level) {
        state.with { state in
            state.lines.format = format
            state.level = level
        }
    }

    private static func wallClock() -> Int64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }

    /// The line that tells how many lines are missing.
    func notice(ofMissing count: Int) -> [UInt8] {
        let lines = count == 1 ? "1 line is" : "\(count) lines are"
        let event = LogEvent.warning(
            "\(lines) missing here: the log was not read in time", .number("missing_lines", count))
        var line: [UInt8] = []
        state.with { $0.lines.write(event, at: clock(), to: &line) }
        return line
    }

    // MARK: Events

    func error(_ message: String, _ fields: LogEvent.Field...) {
        write(LogEvent(level: .error, message: message, fields: fields, isCounted: true))
    }

    func warning(_ message: String, _ fields: LogEvent.Field...) {
        write(LogEvent(level: .warning, message: message, fields: fields, isCounted: true))
    }

    func info(_ message: String, _ fields: LogEvent.Field...) {
        write(LogEvent(level: .info, message: message, fields: fields, isCounted: false))
    }

    /// Writes an event, or counts it. It never waits. O(length).
    ///
    /// - Parameters:
    ///   - event: the event.
    ///   - isOptional: whether it is one of many (`LineWriter.write`).
    func write(_ event: LogEvent, isOptional: Bool = false) {
        let now = clock()
        state.with { state in
            guard event.isAlwaysWritten || event.level.rawValue <= state.level.rawValue else { return }
            if event.isCounted {
                mayHaveNumbers.store(true, ordering: .relaxed)
                writeNumbers(state.repeats.takeDue(now: now), &state, now: now)
                let (isNew, forgotten) = state.repeats.note(event, now: now)
                if let forgotten { writeNumbers([forgotten], &state, now: now) }
                if !isNew { return }
            }
            write(event, nil, isOptional: isOptional, &state, now: now)
        }
    }

    /// Writes how often events have come again, if that is due.
    ///
    /// - Returns: in how many milliseconds to call this again at the latest; nil if nothing is counted.
    func writeDueNumbers() -> Int64? {
        guard mayHaveNumbers.load(ordering: .relaxed) else { return nil }
        return state.with { state in
            guard state.repeats.deadline != nil else {
                mayHaveNumbers.store(false, ordering: .relaxed)
                return nil
            }
            let now = clock()
            writeNumbers(state.repeats.takeDue(now: now), &state, now: now)
            return state.repeats.deadline.map { max(0, $0 - now) }
        }
    }

    /// Writes how often events have come again. Call this at the program's end.
    func writeNumbers() {
        state.with { state in
            let now = clock()
            writeNumbers(state.repeats.takeAll(now: now), &state, now: now)
        }
    }

    private func writeNumbers(_ repetitions: [LogRepeats.Repetition], _ state: inout State, now: Int64) {
        for repetition in repetitions { write(repetition.event, repetition, isOptional: false, &state, now: now) }
    }

    private func write(
        _ event: LogEvent, _ repetition: LogRepeats.Repetition?, isOptional: Bool, _ state: inout State, now: Int64
    ) {
        state.line.removeAll(keepingCapacity: true)
        state.lines.write(event, at: now, repetition: repetition, to: &state.line)
        write(state.line, isOptional)
    }
}

extension LogFormat {
    /// The form of texts on standard error, whose device and inode systemd names if it is its journal
    /// (systemd.exec(5), JOURNAL_STREAM).
    static func text(_ environment: [String: String]) -> LogFormat {
        var status = stat()
        guard let journal = environment["JOURNAL_STREAM"], unsafe fstat(STDERR_FILENO, &status) == 0 else {
            return .text
        }
        return journal == "\(status.st_dev):\(status.st_ino)" ? .journal : .text
    }
}
