// Tasks of a file that are added by one request.

import Bytes
import JSON

/// Tasks of consecutive lines, as JSON.
struct TaskBatch {
    /// The most tasks and the most bytes of tasks that are sent at once, unless a single task is larger. Proxies such as
    /// nginx take bodies of up to 1 MiB without further settings.
    static let maximumCount = 2000
    static let maximumBytes = 1_000_000
    /// The largest body that the server takes, in bytes.
    static let maximumBodyBytes = 64 << 20
    /// The most tasks that the server takes in a request.
    static let serverMaximumCount = 10_000
    /// What a body has at most besides tasks: brackets and a key.
    static let envelopeBytes = 200

    /// A task.
    struct Part {
        /// Where it is in `tasks`. It begins and ends with a brace.
        let range: Range<Int>
        /// The end of its line.
        let end: LinePosition
        /// Whether it may get the batch's key: it has none of the fields about keys.
        let takesKey: Bool
    }

    /// What the request says about itself, for all of its tasks.
    struct Trace: Equatable {
        var requestID = ""
        var traceparent = ""
    }

    /// The end of the line before the first one.
    var start = LinePosition()
    private(set) var parts: [Part] = []
    /// The tasks, with commas between them.
    private var tasks: [UInt8] = []
    var trace = Trace()

    var isEmpty: Bool { parts.isEmpty }
    var count: Int { parts.count }
    /// The end of the last line.
    var end: LinePosition { parts.last?.end ?? start }
    /// The size of the tasks, in bytes.
    var byteCount: Int { tasks.count }

    /// Adds a task, which is an object as JSON.
    mutating func append(_ task: Span<UInt8>, end: LinePosition, takesKey: Bool) {
        if !parts.isEmpty { tasks.append(UInt8(ascii: ",")) }
        let first = tasks.count
        tasks.append(task)
        parts.append(Part(range: first..<tasks.count, end: end, takesKey: takesKey))
    }

    /// The place of the task that gets the batch's key; nil if all tasks have keys of their own.
    var keyIndex: Int? { parts.firstIndex { $0.takesKey } }

    /// The body of the request. One task of it gets a key that stays taken, so that the server refuses the whole body
    /// when it comes again. O(size).
    ///
    /// - Parameters:
    ///   - run: a name for the run, which no other has.
    ///   - keptSeconds: how long the key stays taken.
    /// - Returns: an array of tasks, as JSON.
    func body(run: String, keptSeconds: Int) -> [UInt8] {
        var body = Array("[".utf8)
        body.reserveCapacity(tasks.count + Self.envelopeBytes)
        guard let keyIndex else { return body + tasks + [UInt8(ascii: "]")] }
        // Behind the brace.
        let place = parts[keyIndex].range.lowerBound + 1
        body += tasks[..<place]
        let key = "\(Self.keyPrefix)\(run):\(start.line + 1)-\(end.line)"
        body += Array(#""key":"\#(key)","unique_for":\#(keptSeconds),"on_conflict":"reject""#.utf8)
        if parts[keyIndex].range.count > 2 { body.append(UInt8(ascii: ",")) }
        body += tasks[place...]
        body.append(UInt8(ascii: "]"))
        return body
    }

    /// How the keys of batches begin.
    static let keyPrefix = "emq-add:"

    /// The same tasks in batches of at most `count`.
    func split(into count: Int) -> [TaskBatch] {
        var batches: [TaskBatch] = []
        var rest = parts[...]
        while !rest.isEmpty {
            var batch = TaskBatch()
            batch.trace = trace
            batch.start = batches.last?.end ?? start
            for part in rest.prefix(count) {
                batch.append(tasks[part.range].span, end: part.end, takesKey: part.takesKey)
            }
            batches.append(batch)
            rest = rest.dropFirst(count)
        }
        return batches
    }
}
