// What callers see of a task, and what they name it by.

import UID

/// A queue, as `Broker.queue(named:)` found it, and valid as long as that says.
public struct QueueIndex: Hashable, Sendable {
    let slot: UInt32
}

/// Names one dispatch of a task in 8 bytes. The broker checks it before use, so it may outlive the dispatch; after 2³²
/// further dispatches it may be taken for another of the same record.
public struct DispatchKey: Hashable, Sendable {
    /// The record's slot in the upper half, the lower half of the token in the lower.
    public let rawValue: UInt64

    /// A key from its number.
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    init(slot: UInt32, token: UInt64) {
        rawValue = UInt64(slot) << 32 | token & 0xFFFF_FFFF
    }

    var slot: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }
}

/// A task that a take or a wait has dispatched. Valid until the task changes its state: use it in the same turn.
public struct TaskHandle: Hashable, Sendable {
    let key: DispatchKey
}

/// How clients name a task: by its id (any dispatch of it), or by a receipt (one dispatch only).
public struct TaskReference: Hashable, Sendable {
    /// The task's id.
    public var id: UID
    /// The token of the one dispatch that is meant; nil if any is.
    public var token: UInt64?

    /// A reference to any dispatch of a task, or to the one with `token`.
    public init(id: UID, token: UInt64? = nil) {
        self.id = id
        self.token = token
    }
}

/// Where a task stands.
public enum TaskState: Hashable, Sendable {
    /// It waits to be dispatched.
    case ready
    /// A worker holds it.
    case dispatched
}

/// A task while the broker shows it. All times are in milliseconds since the Unix epoch.
public struct TaskView: ~Copyable, ~Escapable {
    private let slot: UInt32
    private let record: TaskRecord
    /// The name of its queue.
    public let queueName: Span<UInt8>
    /// Its content, as it came.
    public let content: Span<UInt8>

    @_lifetime(copy queueName, copy content)
    init(slot: UInt32, record: TaskRecord, queueName: Span<UInt8>, content: Span<UInt8>) {
        self.slot = slot
        self.record = record
        self.queueName = queueName
        self.content = content
    }

    /// Its id.
    public var id: UID { record.id }
    /// How often it has been dispatched.
    public var attempt: UInt32 { record.attempt }
    /// Where it stands.
    public var state: TaskState { record.state == .dispatched ? .dispatched : .ready }
    /// The lease it was given, or, while it is ready, the one it asks for.
    public var leaseMilliseconds: Int64 {
        state == .dispatched ? record.leaseEnd - record.dispatched : record.leaseMilliseconds
    }
    /// The token of its last dispatch; 0 before the first.
    public var token: UInt64 { record.token }
    /// Names its last dispatch.
    public var dispatchKey: DispatchKey { DispatchKey(slot: slot, token: record.token) }
    /// When it was added.
    public var enqueued: Int64 { record.enqueued }
    /// When it was dispatched, if it is.
    public var dispatched: Int64? { state == .dispatched ? record.dispatched : nil }
    /// When its lease ends, if it is dispatched.
    public var leaseEnd: Int64? { state == .dispatched ? record.leaseEnd : nil }
    /// When it will be deleted.
    public var expires: Int64 { record.expires }
}
