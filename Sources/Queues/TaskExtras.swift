// What few tasks have: options, keys, results, those who wait for a result.
//
// A task's record has the slot of its extras. Their table is the index of keys at the same time: extras that hold a key
// are hashed by it, all others by the task's id, so that tasks which had the same key one after the other do not share a
// bucket.
//
// A new field that is to survive a restart also goes into `code` in Images.swift, into docs/journal.md, and into
// `everyFieldOfExtrasIsWritten` in ImageTests, which fails without it.

/// The extras of one task.
final class TaskExtras {
    /// The task's slot.
    var task: Slot
    /// The key; empty for none.
    var key: [UInt8] = []
    /// Whether the key is taken by this task.
    var holdsKey = false
    /// The slot of the group in which it stands then, if its key names one; otherwise 0. And its neighbours there, by their
    /// tasks.
    var keyGroup: Slot = 0
    var keyGroupLinks = Links()
    /// Until when the key stays taken even if the task has come to its end.
    var uniqueUntil: Int64 = 0
    var retryLimit = RetryLimit.unsaid
    var backoff: Backoff?
    var keepMilliseconds: Int64?
    var metadata: [UInt8] = []
    /// How it is to be sent; empty if it does not say. Of a dead letter, that is over.
    var request: [UInt8] = []
    /// The length of the lease since it was last started anew; 0 if it was not.
    var leaseMilliseconds: Int64 = 0
    var worker: [UInt8] = []
    var error: [UInt8] = []
    var progress: [UInt8] = []
    var result: [UInt8] = []
    /// The name of the queue where it died, if it is a dead letter, and when that was; 0 if that is not known.
    var origin: [UInt8] = []
    var died: Int64 = 0
    /// What takes the task's place when its dispatch is over.
    var replacement: Replacement?
    /// Its lease ran out while the server was down: it was given another one, and if that runs out too, it was no failure.
    var hasLapsed = false
    /// Those who wait for its end. They know their positions.
    var waiters: [Waiter] = []

    init(task: Slot) {
        self.task = task
    }

    /// Takes over what a task says of itself, but for its key.
    func take(_ options: TaskOptions?, arrival: Int64) {
        retryLimit = options?.retryLimit ?? .unsaid
        backoff = options?.backoff
        keepMilliseconds = options?.keepMilliseconds
        metadata = options?.metadata ?? []
        request = options?.request ?? []
        uniqueUntil = options?.uniqueUntil(from: arrival) ?? 0
    }

    /// Makes an ordinary task of a dead letter.
    func endDeadLetter() { (origin, died) = ([], 0) }

    /// How many bytes of text it has to show.
    var textBytes: Int {
        key.count + metadata.count + request.count + worker.count + error.count + progress.count + result.count
    }

    /// The heap's bytes that it takes, near enough.
    var byteCount: Int {
        // All that were taken together share the name of the worker, but not after a restart.
        let arrays = [key, metadata, request, worker, error, progress, result, origin]
        let texts = arrays.reduce(0) { $0 + ($1.isEmpty ? 0 : Self.heapBytes(32 + $1.count)) }
        return 320 + texts + (replacement?.byteCount ?? 0)
    }

    /// What the system's `malloc` takes for `count` bytes.
    private static func heapBytes(_ count: Int) -> Int {
        max(32, (count + 23) & ~15)
    }
}

/// The new content and options of a task that is dispatched.
final class Replacement {
    var content = Content()
    var leaseMilliseconds: Int64 = 0
    var priority: Int8 = 0
    var due: Int64 = 0
    var enqueued: Int64 = 0
    var options: TaskOptions?

    /// One that is about to be read from an image.
    init() {}

    init(_ task: borrowing NewTask, content: Content, priority: Int8, arrival: Int64) {
        self.content = content
        self.priority = priority
        leaseMilliseconds = task.leaseMilliseconds ?? 0
        due = task.due ?? 0
        enqueued = arrival
        options = task.options
    }

    var byteCount: Int { 256 + content.heapBytes + (options?.metadata.count ?? 0) + (options?.request.count ?? 0) }
}

/// The place of extras in their table.
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
    /// The sum, or the nearest number that there is.
    func addingWithinRange(_ other: Int64) -> Int64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? (other < 0 ? .min : .max) : sum
    }
}
