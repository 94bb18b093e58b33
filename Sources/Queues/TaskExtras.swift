// The optional parts of a task: options, key, result, waiters for its result.
//
// A task's record has the slot of its extras. Their table is also the index of keys: extras that hold a key are hashed
// by it, all others by the task's id, so that tasks which had the same key one after the other do not share a bucket.
//
// A new field that must survive a restart also goes into `code` in Images.swift, into docs/journal.md, and into
// `everyFieldOfExtrasIsWritten` in ImageTests, which fails without it.

/// The extras of one task.
final class TaskExtras {
    /// A task's options, except its key and its trace context. They are one variable, because each access to a variable
    /// of a class is checked, and replacing a task sets all of them.
    struct Options {
        /// Until when the key stays taken even if the task has finished.
        var uniqueUntil: Int64 = 0
        var retryLimit = RetryLimit.unsaid
        var crashLimit = RetryLimit.unsaid
        var backoff: Backoff?
        var keepMilliseconds: Int64?
        var metadata: [UInt8] = []
        /// How to send the task; empty if it does not say. A dead letter's request no longer counts.
        var request: [UInt8] = []

        init() {}

        init(_ options: TaskOptions?, arrival: Int64) {
            guard let options else { return }
            uniqueUntil = options.uniqueUntil(from: arrival)
            (retryLimit, crashLimit, backoff) = (options.retryLimit, options.crashLimit, options.backoff)
            keepMilliseconds = options.keepMilliseconds
            (metadata, request) = (options.metadata, options.request)
        }

        /// The approximate memory on the heap, in bytes.
        var heapBytes: Int { TaskExtras.heapBytes(metadata) + TaskExtras.heapBytes(request) }
    }

    /// The task's slot.
    var task: Slot
    /// The key; empty for none.
    var key: [UInt8]
    /// Whether this task holds the key.
    var holdsKey = false
    /// The slot of the key's group, if the task holds a key with a group; otherwise 0. And its neighbours there, as
    /// tasks.
    var keyGroup: Slot = 0
    var keyGroupLinks = Links()
    var options: Options
    /// The request that added the task, or its present content. Apart from the options, so that a task with nothing else
    /// needs none.
    var trace: TraceContext
    /// How many leases of workers have run out since the task was new, kicked or replaced. Above 0, the task has had
    /// retries, too, or is dead.
    var crashes: UInt32 = 0
    /// The length of the lease since it was last renewed; 0 if it was not.
    var leaseMilliseconds: Int64 = 0
    var worker: [UInt8] = []
    var error: [UInt8] = []
    /// The last attempts that did not succeed, as `AttemptLog` writes them.
    var attempts: [UInt8] = []
    var progress: [UInt8] = []
    var result: [UInt8] = []
    /// The end of what the command of the last attempt printed.
    var log: [UInt8] = []
    /// Whether an image that was read says that the log stays as it was.
    var hasUnreadLog = false
    /// The name of the queue where it died, if it is a dead letter; and when it died, 0 if unknown.
    var origin: [UInt8] = []
    var died: Int64 = 0
    /// The replacement that takes effect when the dispatch is over.
    var replacement: Replacement?
    /// Whether the lease ran out while the server was down. The task has got another one; if that runs out too, it is
    /// not a failure.
    var hasLapsed = false
    /// The waiters for its end. They know their positions.
    var waiters: [Waiter] = []

    init(
        task: Slot, key: [UInt8] = [], _ options: Options = Options(), trace: TraceContext = TraceContext()
    ) {
        self.task = task
        self.key = key
        self.options = options
        self.trace = trace
    }

    /// Makes extras with nothing but a trace context.
    init(task: Slot, _ trace: consuming TraceContext) {
        self.task = task
        key = []
        options = Options()
        self.trace = trace
    }

    /// Makes a dead letter an ordinary task.
    func endDeadLetter() { (origin, died) = ([], 0) }

    /// The size of the texts that lists show with the task, in bytes, if `limit` bytes of each JSON are shown at most.
    func textBytes(limit: Int) -> Int {
        key.count + min(options.metadata.count, limit) + min(options.request.count, limit) + worker.count + error.count
            + min(progress.count, limit) + min(result.count, limit) + trace.textBytes
    }

    /// The approximate memory on the heap, in bytes.
    var byteCount: Int {
        // Tasks that were taken together share the array of the worker's name, but not after a restart.
        var texts = Self.heapBytes(worker) + Self.heapBytes(error) + Self.heapBytes(progress) + Self.heapBytes(result)
        texts += Self.heapBytes(log) + Self.heapBytes(origin) + Self.heapBytes(attempts)
        return Self.byteCount(key: key, options, trace) + texts + (replacement?.byteCount ?? 0)
    }

    /// The same for extras with nothing else.
    static func byteCount(key: [UInt8], _ options: Options, _ trace: TraceContext) -> Int {
        byteCount(trace) + heapBytes(key) + options.heapBytes
    }

    /// The same for extras with nothing but a trace context. Tasks of one request share the texts of its context, but
    /// not after a restart.
    static func byteCount(_ trace: TraceContext) -> Int {
        320 + heapBytes(trace.requestID) + heapBytes(trace.traceparent)
    }

    /// The approximate size in an image that is not full, in bytes.
    var stateImageBytes: Int { byteCount - log.count }

    /// How many bytes an array takes on the heap.
    private static func heapBytes(_ bytes: [UInt8]) -> Int {
        // As the system's `malloc` does, and 32 bytes of the array's own.
        bytes.isEmpty ? 0 : (32 + bytes.count + 23) & ~15
    }
}

/// New content and options for a dispatched task, which take effect when its dispatch is over.
final class Replacement {
    var content = Content()
    var leaseMilliseconds: Int64 = 0
    var priority: Int8 = 0
    var due: Int64 = 0
    var enqueued: Int64 = 0
    var options: TaskOptions?

    /// Makes a replacement to be read from an image.
    init() {}

    init(_ task: borrowing NewTask, content: Content, priority: Int8, arrival: Int64) {
        self.content = content
        self.priority = priority
        leaseMilliseconds = TaskRecord.lease(asked: task.leaseMilliseconds)
        due = task.due ?? 0
        enqueued = arrival
        options = task.options
    }

    var byteCount: Int {
        256 + content.heapBytes + (options.map { $0.metadata.count + $0.request.count + $0.trace.textBytes } ?? 0)
    }
}

/// An entry of the table of extras.
struct ExtrasRecord: TableRecord {
    private(set) var extras: TaskExtras?
    private(set) var hash: UInt32 = 0
    var chained: Slot = 0

    init() {}

    init(_ extras: TaskExtras, hash: UInt32) {
        self.extras = extras
        self.hash = hash
    }
}

extension Int64 {
    /// The sum, or the nearest number in range.
    func addingWithinRange(_ other: Int64) -> Int64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? (other < 0 ? .min : .max) : sum
    }
}
