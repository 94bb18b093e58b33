// A task of delay-tasks, and how it is stored in a task of the broker.

import Bytes
import JSON
import Queues

/// The time and the key of a task, which identify it in delay-tasks.
struct DelayTask {
    /// When it runs, in Unix seconds. It is stored with the task, whose due time moves with each retry.
    let timestamp: Int64
    let key: UInt64
    /// Whether it runs before its time.
    var isInAdvance = false

    init(timestamp: Int64, key: UInt64) {
        self.timestamp = timestamp
        self.key = key
    }

    /// The task that a request names.
    ///
    /// - Throws: 400 if its time or key is missing. A time of 0 counts as missing.
    init(timestamp: Int64?, key: UInt64?) throws(Problem) {
        guard let timestamp, timestamp > 0 else {
            throw Problem(.missingField, "timestamp is missing; send a time in Unix seconds", field: "timestamp")
        }
        guard let key else { throw Problem(.missingField, "key is missing; send a whole number from 1", field: "key") }
        self.init(timestamp: timestamp, key: key)
    }

    /// Reads a task that was made with `options`; nil for any other task.
    init?(_ task: borrowing TaskView) {
        var timestamp: Int64?
        var key = TaskKey.group(of: task.key).flatMap { UInt64(decimal: $0) }
        var isInAdvance = false
        let metadata = task.metadata
        do throws(Problem) {
            var members = Members()
            try members.read(metadata.span, kind: .object)
            try members.forEach(in: metadata.span, known: ["timestamp", "key", "in_advance"], isLenient: true) {
                (place, value) throws(Problem) in
                let word = try value.string(maximumBytes: 20)
                switch place {
                case 0: timestamp = Int64(String(decoding: word, as: UTF8.self))
                case 1: key = UInt64(decimal: word)
                default: isInAdvance = true
                }
            }
        } catch {
            return nil
        }
        guard let timestamp, let key else { return nil }
        self.init(timestamp: timestamp, key: key)
        self.isInAdvance = isInAdvance
    }

    /// The same task, to be run before its time.
    var inAdvance: DelayTask {
        var task = self
        task.isInAdvance = true
        return task
    }

    /// The task's key in the broker. It is the same for all times within a minute, and all minutes of a key form a
    /// group.
    var queueKey: [UInt8] { TaskKey.key(group: "\(key)", member: "\(timestamp / 60)") }

    /// The minute in a `queueKey`, which distinguishes the tasks of a group; nil if it has none. A key may have very
    /// many tasks, so they are compared by their minutes alone.
    static func minute(ofQueueKey queueKey: [UInt8]) -> Int64? {
        Int64(String(decoding: TaskKey.member(of: queueKey), as: UTF8.self))
    }

    /// The options of the broker's task for this one, which has at least one attempt.
    func options(attempts: Int) -> TaskOptions {
        let options = TaskOptions()
        options.retryLimit = .limited(UInt32(attempts - 1))
        options.backoff = Backoff(minimumMilliseconds: 1000)
        if isInAdvance {
            options.metadata = Array(#"{"timestamp":"\#(timestamp)","key":"\#(key)","in_advance":"true"}"#.utf8)
        } else {
            options.metadata = Array(#"{"timestamp":"\#(timestamp)"}"#.utf8)
            options.key = queueKey
            options.onConflict = .replace
        }
        return options
    }
}
