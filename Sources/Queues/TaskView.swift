// How callers see and name tasks.

import UID

/// A queue that `Broker.queue(named:)` found; see there how long it is valid.
public struct QueueIndex: Hashable, Sendable {
    /// A number that no other queue has at the same time.
    public let slot: UInt32
}

/// The name of one dispatch of a task, in 8 bytes. The broker checks it before use, so it may outlive the dispatch;
/// after 2³² further dispatches it may be mistaken for another one of the same record.
public struct DispatchKey: Hashable, Sendable {
    /// The record's slot in the upper half, the lower half of the token in the lower.
    public let rawValue: UInt64

    /// Makes a key from its number.
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    init(slot: UInt32, token: UInt64) {
        rawValue = UInt64(slot) << 32 | token & 0xFFFF_FFFF
    }

    var slot: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }
}

/// A task that was dispatched by a take or a wait. It is valid until the task changes its state: use it in the same
/// turn.
public struct TaskHandle: Hashable, Sendable {
    let key: DispatchKey
}

/// How clients name a task: by its id, for any dispatch, or by a receipt, for one dispatch only.
public struct TaskReference: Hashable, Sendable {
    /// The task's id.
    public var id: UID
    /// The token of the dispatch; nil for any dispatch.
    public var token: UInt64?

    /// Makes a reference to any dispatch of a task, or to the one with `token`.
    public init(id: UID, token: UInt64? = nil) {
        self.id = id
        self.token = token
    }
}

/// The state of a task.
public enum TaskState: Hashable, Sendable, CaseIterable {
    /// It waits to be dispatched.
    case ready
    /// Its delay has not ended.
    case delayed
    /// A worker holds it.
    case dispatched
    /// It failed too often. It is kept for a while, and can be made ready again.
    case dead
    /// It was acknowledged.
    case done
    /// It was cancelled.
    case cancelled
    /// It expired before it was done.
    case expired

    /// Whether it is ready, delayed or dispatched.
    public var isUnfinished: Bool { self == .ready || self == .delayed || self == .dispatched }
}

/// A task as the broker shows it. All times are in milliseconds since the Unix epoch.
public struct TaskView: ~Copyable, ~Escapable {
    private let slot: UInt32
    private let record: TaskRecord
    private let extras: TaskExtras?
    /// The state.
    public let state: TaskState
    /// The lease of the current dispatch; if there is none, the lease that the next one will have.
    public let leaseMilliseconds: Int64
    /// The name of its queue.
    public let queueName: Span<UInt8>
    /// Its content, unchanged.
    public let content: Span<UInt8>
    /// The sequence number of the frame that must be safe before the task may be sent; 0 without a journal.
    public let readySequence: UInt64

    @_lifetime(copy queueName, copy content)
    init(
        slot: UInt32, record: TaskRecord, state: TaskState, extras: TaskExtras?, leaseMilliseconds: Int64,
        queueName: Span<UInt8>, content: Span<UInt8>, readySequence: UInt64
    ) {
        self.slot = slot
        self.record = record
        self.state = state
        self.extras = extras
        self.leaseMilliseconds = leaseMilliseconds
        self.queueName = queueName
        self.content = content
        self.readySequence = readySequence
    }

    /// Whether it has any of its optional parts: a key, metadata, a trace context, a worker's name, and so on.
    public var hasOptionalParts: Bool { extras != nil }
    /// Its id.
    public var id: UID { record.id }
    /// How often it was dispatched, not counting dispatches that were released.
    public var attempt: UInt32 { record.attempt }
    /// The token of its last dispatch; 0 before the first.
    public var token: UInt64 { record.token }
    /// The name of its last dispatch.
    public var dispatchKey: DispatchKey { DispatchKey(slot: slot, token: record.token) }
    /// When it was added, or replaced.
    public var enqueued: Int64 { record.enqueued }
    /// When it was last dispatched, if it is dispatched or has finished.
    public var dispatched: Int64? {
        state == .dispatched || (record.attempt > 0 && state != .ready && state != .delayed) ? record.dispatched : nil
    }
    /// When its lease ends, if it is dispatched.
    public var leaseEnd: Int64? { state == .dispatched ? record.until : nil }
    /// When it expires; nil for never, or if it has finished.
    public var expires: Int64? {
        switch state {
        case .ready, .delayed, .dispatched: record.expires == .max ? nil : record.expires
        case .dead, .done, .cancelled, .expired: nil
        }
    }
    /// When its delay ends, if it is delayed.
    public var due: Int64? { state == .delayed ? record.until : nil }
    /// When it finished, if it is dead, done, cancelled or expired.
    public var finished: Int64? {
        record.state.isListed && !record.state.isUnfinished || state == .expired ? record.expires : nil
    }
    /// When it died, if it is dead or a dead letter. For a dead letter that died again, this is the first time.
    public var died: Int64? {
        guard let extras, !extras.origin.isEmpty else { return state == .dead ? finished : nil }
        return extras.died > 0 ? extras.died : nil
    }
    /// Its priority; tasks of higher priority are dispatched first.
    public var priority: Int8 { record.priority }
    /// How often it was retried after a failure.
    public var retries: UInt32 { record.retries }
    /// How many retries it may have, if it has its own limit.
    public var retryLimit: Int? {
        if case .limited(let limit)? = extras?.options.retryLimit { Int(limit) } else { nil }
    }
    /// How many leases of workers have run out since it was added, kicked or replaced.
    public var crashes: UInt32 { extras?.crashes ?? 0 }
    /// How many leases may run out, if it has its own limit.
    public var crashLimit: Int? {
        if case .limited(let limit) = ownCrashLimit { Int(limit) } else { nil }
    }
    /// What it says itself about its retries.
    public var ownRetryLimit: RetryLimit { extras?.options.retryLimit ?? .unsaid }
    /// What it says itself about leases that run out.
    public var ownCrashLimit: RetryLimit { extras?.options.crashLimit ?? .unsaid }
    /// Its own backoff, if it has one.
    public var backoff: Backoff? { extras?.options.backoff }
    /// How long its record is kept after its end, if it says so itself.
    public var keepMilliseconds: Int64? { extras?.options.keepMilliseconds }
    /// Its key; empty if it has none.
    public var key: [UInt8] { extras?.key ?? [] }
    /// Until when its key stays taken even if it finishes before; nil if the task does not ask for it.
    public var uniqueUntil: Int64? {
        guard let extras, !extras.key.isEmpty, extras.options.uniqueUntil > record.enqueued else { return nil }
        return extras.options.uniqueUntil
    }
    /// Its metadata, unchanged; empty if it has none.
    public var metadata: [UInt8] { extras?.options.metadata ?? [] }
    /// Whether it is ready and is to be sent, not given to a worker.
    public var isToBeSent: Bool { state == .ready && record.isPushed }
    /// Its own request, which says how to send it; empty if it has none. A dead letter's request no longer counts.
    public var request: [UInt8] { extras?.options.request ?? [] }
    /// The request that added it, or that replaced it last.
    public var trace: TraceContext { extras?.trace ?? TraceContext() }
    /// The name of the worker that got it last; empty if unknown.
    public var worker: [UInt8] { extras?.worker ?? [] }
    /// Why it failed last; empty if unknown.
    public var error: [UInt8] { extras?.error ?? [] }
    /// The attempts that are kept, as bytes.
    var attemptLog: [UInt8] { extras?.attempts ?? [] }
    /// The progress that its worker reported last; empty if none.
    public var progress: [UInt8] { extras?.progress ?? [] }
    /// Its result; empty if there is none.
    public var result: [UInt8] { extras?.result ?? [] }
    /// The end of what the command of the last attempt that has ended printed, in UTF-8; empty if there is none.
    public var log: [UInt8] { extras?.log ?? [] }
    /// The name of the queue where it died; empty if it is not a dead letter.
    public var origin: [UInt8] { extras?.origin ?? [] }
}
