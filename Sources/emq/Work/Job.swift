// A task whose command runs.

import Bytes
import Glibc
import JSON

/// A task with its command, its output and its deadlines.
final class Job {
    /// Why a command is being stopped.
    enum Stopping: Equatable {
        /// The worker stops: the task goes back.
        case released
        /// The task is no longer held.
        case lost
        /// It has run for too long.
        case timedOut
    }

    let task: WorkTask
    var process: Subprocess?
    /// The end of all output, and that of standard error.
    var tail = OutputTail(maximumByteCount: 65_536)
    var errorTail = OutputTail(maximumByteCount: 8192)
    private(set) var stopping: Stopping?
    /// When the lease is extended next.
    var touchesAt: Int64
    let touchMilliseconds: Int64
    private let resultPath: String
    private let leaseEnd: Int64
    private var output: [UInt8] = []
    private var isOutputTooLong = false
    private var timesOutAt: Int64
    private var killsAt = Int64.max

    init(_ task: WorkTask, resultPath: String, _ options: WorkOptions, now: Int64) {
        (self.task, self.resultPath) = (task, resultPath)
        touchMilliseconds = max(task.leaseMilliseconds / 3, 100)
        touchesAt = now + touchMilliseconds
        leaseEnd = now + task.leaseMilliseconds
        timesOutAt = options.timeoutMilliseconds.map { now + $0 } ?? .max
    }

    /// When `review` has something to do, or the lease is to be extended.
    var nextTime: Int64 { min(touchesAt, timesOutAt, killsAt) }

    /// The variables that tell the command about its task.
    var variables: [String] {
        var variables = [
            "EMQ_ID=\(task.id)", "EMQ_QUEUE=\(task.queue)", "EMQ_ATTEMPT=\(task.attempt)",
            "EMQ_LEASE_UNTIL=\(leaseEnd / 1000)", "EMQ_RESULT_FILE=\(resultPath)",
        ]
        if let key = task.key { variables.append("EMQ_KEY=\(key)") }
        if let traceparent = task.traceparent { variables.append("TRACEPARENT=\(traceparent)") }
        for (name, value) in task.metadata { variables.append("EMQ_META_\(Self.variableName(name))=\(value)") }
        // A null byte would end the variable.
        return variables.map { $0.utf8.contains(0) ? String($0.prefix { $0 != "\0" }) : $0 }
    }

    /// A name of metadata as a part of a variable's name: letters in upper case, digits, and `_` for anything else.
    static func variableName(_ name: String) -> String {
        String(
            decoding: name.utf8.map { byte in
                byte.isLetter ? byte & ~0x20 : byte.isDigit ? byte : UInt8(ascii: "_")
            }, as: UTF8.self)
    }

    // MARK: Stopping

    /// Sends SIGTERM to the command, and SIGKILL when the grace is over. A lost lease outweighs other reasons.
    func stop(_ reason: Stopping, graceMilliseconds: Int64, now: Int64) {
        if stopping == nil || reason == .lost { stopping = reason }
        let end = now + graceMilliseconds
        if killsAt == .max, graceMilliseconds > 0 { process?.signal(SIGTERM) }
        killsAt = min(killsAt, end)
        if graceMilliseconds == 0 { process?.signal(SIGKILL) }
    }

    /// Stops the command if its time is over.
    func review(_ options: WorkOptions, now: Int64) {
        if now >= timesOutAt {
            timesOutAt = .max
            stop(.timedOut, graceMilliseconds: options.graceMilliseconds, now: now)
        }
        if now >= killsAt {
            killsAt = .max
            process?.signal(SIGKILL)
        }
    }

    // MARK: Results

    func takeOutput(_ part: ArraySlice<UInt8>, limit: Int) {
        if output.count + part.count > limit { isOutputTooLong = true } else { output += part }
    }

    /// The result as JSON: what was written, if it is JSON, or else its text; nil if there is none.
    func result(_ options: WorkOptions, limit: Int) -> [UInt8]? {
        var bytes = output
        if !options.takesOutputAsResult {
            guard let file = try? File.read(resultPath, maximumByteCount: limit + 1) else { return nil }
            bytes = file
            unsafe unlink(resultPath)
        }
        if bytes.isEmpty || isOutputTooLong || bytes.count > limit { return nil }
        if JSONPart(bytes[...]) != nil { return bytes }
        var text = String(decoding: bytes, as: UTF8.self)
        if text.last == "\n" { text.removeLast() }
        var json: [UInt8] = []
        JSONWriter.write(text, to: &json)
        return json
    }
}
