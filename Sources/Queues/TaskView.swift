// What callers see of a task, and what they name it by.

import UID

/// A queue, as `Broker.queue(named:)` found it, and valid as long as that says.
public struct QueueIndex: Hashable, Sendable {
    /// A number that no other queue has at the same time.
    public let slot: UInt32
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
public enum TaskState: Hashable, Sendable, CaseIterable {
    /// It waits to be dispatched.
    case ready
    /// It waits for its time to be dispatched.
    case delayed
    /// A worker holds it.
    case dispatched
    /// It has failed too often. It stays for a while, and can be made ready again.
    case dead
    /// It was acknowledged.
    case done
    /// It was cancelled.
    case cancelled
    /// It was not done in time.
    case expired

    /// Whether it has not come to its end.
    public var isUnfinished: Bool { self == .ready || self == .delayed || self == .dispatched }
}

/// A task while the broker shows it. All times are in milliseconds since the Unix epoch.
public struct TaskView: ~Copyable, ~Escapable {
    private let slot: UInt32
    private let record: TaskRecord
    private let extras: TaskExtras?
    /// Where it stands.
    public let state: TaskState
    /// The lease it was given, or, while it is not dispatched, the one it asks for.
    public let leaseMilliseconds: Int64
    /// The name of its queue.
    public let queueName: Span<UInt8>
    /// Its content, as it came.
    public let content: Span<UInt8>
    /// The sequence of the journal's frame that says why it could be given out; 0 without a journal.
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

    /// Its id.
    public var id: UID { record.id }
    /// How often it has been dispatched, but for the dispatches that workers gave back as not tried.
    public var attempt: UInt32 { record.attempt }
    /// The token of its last dispatch; 0 before the first.
    public var token: UInt64 { record.token }
    /// Names its last dispatch.
    public var dispatchKey: DispatchKey { DispatchKey(slot: slot, token: record.token) }
    /// When it was added, or replaced.
    public var enqueued: Int64 { record.enqueued }
    /// When it was dispatched last, if it is, or if it has come to its end.
    public var dispatched: Int64? {
        state == .dispatched || (record.attempt > 0 && state != .ready && state != .delayed) ? record.dispatched : nil
    }
    /// When its lease ends, if it is dispatched.
    public var leaseEnd: Int64? { state == .dispatched ? record.until : nil }
    /// When it expires; nil if never, or if it has come to its end.
    public var expires: Int64? {
        switch state {
        case .ready, .delayed, .dispatched: record.expires == .max ? nil : record.expires
        case .dead, .done, .cancelled, .expired: nil
        }
    }
    /// When its delay ends, if it is delayed.
    public var due: Int64? { state == .delayed ? record.until : nil }
    /// When it came to its end, if it is dead, done, cancelled or expired.
    public var finished: Int64? {
        record.state.isListed && !record.state.isUnfinished || state == .expired ? record.expires : nil
    }
    /// When it died, if it is dead or a dead letter: of a dead letter that has died again, the first time.
    public var died: Int64? {
        guard let extras, !extras.origin.isEmpty else { return state == .dead ? finished : nil }
        return extras.died > 0 ? extras.died : nil
    }
    /// Tasks with a higher one are dispatched first.
    public var priority: Int8 { record.priority }
    /// How often it was tried again after a failure.
    public var retries: UInt32 { record.retries }
    /// How many retries it may have, if it says so itself.
    public var retryLimit: Int? {
        if case .limited(let limit)? = extras?.retryLimit { Int(limit) } else { nil }
    }
    /// Its key; empty if it has none.
    public var key: [UInt8] { extras?.key ?? [] }
    /// Until when its key stays taken even if it ends before; nil if it does not say.
    public var uniqueUntil: Int64? {
        guard let extras, !extras.key.isEmpty, extras.uniqueUntil > record.enqueued else { return nil }
        return extras.uniqueUntil
    }
    /// Its metadata, as they came; empty if it has none.
    public var metadata: [UInt8] { extras?.metadata ?? [] }
    /// Whether it is ready, to be sent.
    public var isToBeSent: Bool { state == .ready && record.isPushed }
    /// How it is to be sent, by its own words; empty if it does not say. Of a dead letter, that is over.
    public var request: [UInt8] { extras?.request ?? [] }
    /// The name of the worker that was given it last; empty if none was said.
    public var worker: [UInt8] { extras?.worker ?? [] }
    /// Why it failed last; empty if nothing was said.
    public var error: [UInt8] { extras?.error ?? [] }
    /// How far its worker is, in its own words; empty if nothing was said.
    public var progress: [UInt8] { extras?.progress ?? [] }
    /// Its result; empty if there is none.
    public var result: [UInt8] { extras?.result ?? [] }
    /// The name of the queue where it died, if it is a dead letter; empty if not.
    public var origin: [UInt8] { extras?.origin ?? [] }
}
