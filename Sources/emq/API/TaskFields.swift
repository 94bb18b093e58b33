// The fields of an enqueue. One table gives each field's name and type, where its value goes, and how it is shown.

import Bytes
import Delivery
import JSON
import Queues
import UID

/// A field of an enqueue.
final class TaskField: Sendable {
    let name: StaticString
    /// The values that are allowed, apart from `null`.
    let schema: Schema
    /// Whether `null` is a value.
    let acceptsNull: Bool
    /// Reads a value into the fields at a time in milliseconds since the Unix epoch.
    let read: @Sendable (borrowing FieldValue, inout TaskFields, _ now: Int64) throws(Problem) -> Void
    /// How `/task` shows it: the member's name and its value; nil if it does not, or if workers see it too
    /// (`TaskWriter`).
    let shown: Shown?
    /// Whether it is hidden together with the content.
    let isContent: Bool

    typealias Shown = (name: StaticString, value: @Sendable (borrowing TaskView) -> ShownValue?)

    init<Value>(
        _ name: StaticString, _ type: FieldType<Value>, _ store: @escaping @Sendable (inout TaskFields, Value) -> Void,
        isContent: Bool = false, shown: Shown? = nil
    ) {
        self.name = name
        self.isContent = isContent
        schema = type.schema
        acceptsNull = type.acceptsNull
        let readValue = type.read
        read = { (value, fields, now) throws(Problem) in store(&fields, try readValue(value, now)) }
        self.shown = shown
    }

    /// A field in which `null` is a value.
    convenience init<Value>(
        _ name: StaticString, orNull type: FieldType<Value>,
        _ store: @escaping @Sendable (inout TaskFields, Value?) -> Void, shown: Shown? = nil
    ) {
        let readValue = type.read
        self.init(
            name,
            FieldType<Value?>(type.schema, acceptsNull: true) { (value, now) throws(Problem) in
                value.kind == .null ? nil : try readValue(value, now)
            }, store, shown: shown)
    }

    /// All fields, the most usual ones first.
    static let all = [
        TaskField("content", .json, { $0.task.content = $1 }),
        TaskField(
            "retry", .duration, { $0.task.leaseMilliseconds = $1 },
            shown: ("retry", { .seconds(milliseconds: $0.leaseMilliseconds) })),
        TaskField(
            "expiry", orNull: .lifetime,
            { $0.task.expiry = if let milliseconds = $1 { .after(milliseconds: milliseconds) } else { .never } }),
        TaskField("delay", .duration, { $0.delayMilliseconds = $1 }),
        TaskField("eta", .time, { $0.task.due = $1 }),
        TaskField(
            "priority", .integer(-128...127), { $0.task.priority = Int8(truncatingIfNeeded: $1) },
            shown: ("priority", { .integer(Int64($0.priority)) })),
        TaskField(
            "max_retries", orNull: .retryLimit,
            { $0.options.retryLimit = if let limit = $1 { .limited(limit) } else { .unlimited } },
            shown: ("max_retries", { ShownValue($0.ownRetryLimit) })),
        TaskField(
            "max_crashes", orNull: .retryLimit,
            { $0.options.crashLimit = if let limit = $1 { .limited(limit) } else { .unlimited } },
            shown: ("max_crashes", { ShownValue($0.ownCrashLimit) })),
        TaskField(
            "backoff", .backoff, { $0.options.backoff = $1 },
            shown: ("backoff", { $0.backoff.map { .json($0.json) } })),
        TaskField(
            "key", .text(maximumBytes: TaskKey.maximumByteCount), { $0.options.key = $1 },
            shown: ("key", { .text($0.key) })),
        TaskField(
            "on_conflict", .word(["keep", "replace", "reject"]),
            { (fields, place) in
                fields.options.onConflict = [.keep, .replace, .reject][place]
                fields.hasConflict = true
            }),
        TaskField(
            "unique_for", .length, { $0.options.uniqueForMilliseconds = $1 },
            shown: ("unique_until", { $0.uniqueUntil.map { .seconds(milliseconds: $0) } })),
        TaskField(
            "keep", .duration, { $0.options.keepMilliseconds = $1 },
            shown: ("keep", { $0.keepMilliseconds.map { .seconds(milliseconds: $0) } })),
        TaskField(
            "metadata", .strings(maximumBytes: TaskFields.maximumMetadataBytes), { $0.options.metadata = $1 }),
        TaskField(
            "request", .push(.task), { $0.request = Boxed($1) }, isContent: true,
            shown: ("request", { .json(PushOptions.masked($0.request, of: .task)) })),
    ]

    static let names = all.map(\.name)
    /// The fields in which `null` is a value, as bits.
    static let nullable = all.indices.reduce(0 as UInt64) { $0 | (all[$1].acceptsNull ? 1 << UInt64($1) : 0) }
}

extension ShownValue {
    /// A task's own limit; nil if it has none.
    fileprivate init?(_ limit: RetryLimit) {
        switch limit {
        case .unsaid: return nil
        case .unlimited: self = .null
        case .limited(let count): self = .integer(Int64(count))
        }
    }
}

/// A value in a box: a large value that few tasks have.
final class Boxed<Value> {
    let value: Value

    init(_ value: Value) { self.value = value }
}

/// The fields of one task.
struct TaskFields: ~Copyable {
    /// The longest metadata, in bytes of JSON.
    static let maximumMetadataBytes = 65_536

    private let pin = Pin()
    /// The task. Its content is empty if that field is left out.
    var task: NewTask
    /// How to send it, if it is to be sent.
    var request: Boxed<PushOptions>?
    fileprivate var delayMilliseconds: Int64?
    fileprivate var hasConflict = false

    init(id: UID) { task = NewTask(id: id, content: 0..<0) }

    /// The optional parts of the task. They are made when the first of them is read.
    var options: TaskOptions {
        mutating get {
            if let options = task.options { return options }
            let options = TaskOptions()
            task.options = options
            return options
        }
    }

    /// Whether the task has content, and nothing else that the shorter way of adding it cannot carry.
    var isPlain: Bool {
        task.options == nil && task.due == nil && task.priority == nil && !task.content.isEmpty
    }

    /// Reads the fields of a task.
    ///
    /// - Parameters:
    ///   - bytes: a JSON object, which holds the task's content.
    ///   - members: has scanned it.
    ///   - now: the time, in milliseconds since the Unix epoch.
    /// - Throws: 400 for a field that is unknown or invalid, or that needs another field.
    mutating func read(_ bytes: Span<UInt8>, scannedBy members: borrowing Members, now: Int64) throws(Problem) {
        try members.forEach(in: bytes, known: TaskField.names, nullable: TaskField.nullable) {
            (place, value) throws(Problem) in
            try TaskField.all[place].read(value, &self, now)
        }
        try complete(now: now)
    }

    private mutating func complete(now: Int64) throws(Problem) {
        if let delayMilliseconds {
            guard task.due == nil else {
                throw Problem(
                    .conflictingFields, "delay and eta both set when the task is due; send one of them", field: "eta")
            }
            task.due = now + delayMilliseconds
        }
        if let options = task.options, options.key.isEmpty {
            if hasConflict { throw Problem(.missingField, "on_conflict needs a key", field: "on_conflict") }
            if options.uniqueForMilliseconds > 0 {
                throw Problem(.missingField, "unique_for needs a key", field: "unique_for")
            }
        }
    }
}
