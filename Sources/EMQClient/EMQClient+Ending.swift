// Telling the server what became of tasks, and holding them longer.

import Bytes
import JSON

/// A task to acknowledge, for an acknowledgement of many.
public struct Acknowledgement: Sendable {
    /// The receipt of the task, or its id.
    public var id: String
    /// What the work has made; kept as long as the task says.
    public var result: RawJSON?
    /// The end of what the work has printed, up to 65,536 bytes.
    public var log: String?

    /// An acknowledgement.
    ///
    /// - Parameters:
    ///   - task: The task.
    ///   - result: What the work has made.
    ///   - log: The end of what the work has printed.
    public init(_ task: EMQTask, result: RawJSON? = nil, log: String? = nil) {
        (id, self.result, self.log) = (task.receipt, result, log)
    }
}

/// What became of the tasks of an acknowledgement.
public struct Acknowledged: Sendable, Hashable, Decodable {
    /// How many tasks are done.
    public let acked: Int
    /// The tasks that were no longer held.
    public let missing: [String]
}

/// What became of the tasks of a refusal.
public struct Refused: Sendable, Hashable, Decodable {
    /// How many tasks will run again, now or later.
    public let requeued: Int
    /// How many tasks are dead.
    public let dead: Int
    /// The tasks that were no longer held.
    public let missing: [String]
}

extension EMQClient {
    // MARK: Done

    /// Acknowledges a task: the work is done.
    ///
    /// - Parameters:
    ///   - task: The task.
    ///   - log: The end of what the work has printed, up to 65,536 bytes.
    /// - Returns: false if the task was no longer held: its lease ran out, or it was cancelled. Then another worker may
    ///   do it again.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func ack(_ task: EMQTask, log: String? = nil) async throws -> Bool {
        try await ack([Acknowledgement(task, log: log)]).missing.isEmpty
    }

    /// Acknowledges a task, with what the work has made.
    ///
    /// - Parameters:
    ///   - task: The task.
    ///   - result: The result. emq keeps it as long as the task's `keep` says, and returns it to those who wait for it.
    ///   - log: The end of what the work has printed, up to 65,536 bytes.
    /// - Returns: false if the task was no longer held.
    /// - Throws: `EncodingError` if the result cannot be JSON; ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func ack(
        _ task: EMQTask, result: some Encodable, log: String? = nil
    ) async throws -> Bool {
        try await ack([Acknowledgement(task, result: RawJSON(encoding: result), log: log)]).missing.isEmpty
    }

    /// Acknowledges up to 10,000 tasks, each with a result and a log of its own.
    ///
    /// - Parameter tasks: The tasks.
    /// - Returns: How many are done, and which were no longer held. If the request had to be sent again, those that the
    ///   server does not find count as done: the first try may have arrived.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func ack(_ tasks: [Acknowledgement]) async throws -> Acknowledged {
        try await acknowledged(Self.ackCall(tasks))
    }

    /// Acknowledges up to 10,000 tasks by their ids or receipts.
    ///
    /// - Parameter ids: Receipts, or ids. An id stands for whichever dispatch of the task goes on.
    /// - Returns: How many are done, and which were no longer held.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func ack(ids: [String]) async throws -> Acknowledged {
        var call = Call("/ack/", json: RequestBody.ids(ids))
        call.isRepeatable = Self.areReceipts(ids)
        return try await acknowledged(call)
    }

    private nonisolated(nonsending) func acknowledged(_ call: Call) async throws -> Acknowledged {
        let answer = try await perform(call)
        // What is usual needs no decoder.
        if answer.body == Self.oneAcknowledged { return Acknowledged(acked: 1, missing: []) }
        let result = try read(Acknowledged.self, from: answer, to: call)
        if !answer.isRepeated { return result }
        return Acknowledged(acked: result.acked + result.missing.count, missing: [])
    }

    private static let oneAcknowledged = Array("{\"acked\":1,\"missing\":[]}\n".utf8)

    static func ackCall(_ tasks: [Acknowledgement]) -> Call {
        var list: [UInt8] = [UInt8(ascii: "[")]
        for (index, task) in tasks.enumerated() {
            if index > 0 { list.append(UInt8(ascii: ",")) }
            var item = RequestBody()
            item.add("id", task.id)
            item.add("result", json: task.result?.bytes)
            item.add("log", task.log)
            list += item.finished()
        }
        var body = RequestBody()
        if tasks.count == 1, tasks[0].result == nil, tasks[0].log == nil {
            body.add("ids", [tasks[0].id])
        } else {
            body.add("tasks", json: list + [UInt8(ascii: "]")])
        }
        var call = Call("/ack/", json: body.finished())
        call.isRepeatable = areReceipts(tasks.map(\.id))
        return call
    }

    /// Whether the dispatches are known. What is known by its id only may be dispatched again before a repetition.
    private static func areReceipts(_ ids: [String]) -> Bool { ids.allSatisfy { $0.utf8.contains(UInt8(ascii: "@")) } }

    // MARK: Not done

    /// The longest error that is kept, in bytes.
    static let maximumErrorBytes = 10_000

    /// Refuses a task: the work failed. emq retries it, at once or after its backoff, or it is dead if it has no
    /// retries left.
    ///
    /// - Parameters:
    ///   - task: The task.
    ///   - error: The reason, shown with the task; its first 10,000 bytes count.
    ///   - pause: How long to wait before the next attempt, instead of the backoff.
    ///   - dead: Whether there are no more retries.
    ///   - log: The end of what the work has printed, up to 65,536 bytes.
    /// - Returns: false if the task was no longer held.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func nack(
        _ task: EMQTask, error: String? = nil, retryAfter pause: Duration? = nil, dead: Bool = false,
        log: String? = nil
    ) async throws -> Bool {
        let refused = try await nack(ids: [task.receipt], error: error, retryAfter: pause, dead: dead, log: log)
        return refused.missing.isEmpty
    }

    /// Refuses up to 10,000 tasks by their ids or receipts: the work failed.
    ///
    /// - Parameters:
    ///   - ids: Receipts, or ids.
    ///   - error: The reason, shown with the tasks.
    ///   - pause: How long to wait before the next attempts, instead of the backoff.
    ///   - dead: Whether there are no more retries.
    ///   - log: The end of what the work has printed.
    /// - Returns: What became of the tasks.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func nack(
        ids: [String], error: String? = nil, retryAfter pause: Duration? = nil, dead: Bool = false, log: String? = nil
    ) async throws -> Refused {
        try await refused(Self.nackCall(ids, error: error, pause: pause, dead: dead, log: log))
    }

    /// Gives a task back. This counts neither as a retry nor as an attempt. The task goes to the front of its priority.
    ///
    /// - Parameters:
    ///   - task: The task.
    ///   - pause: How long to put the task off.
    /// - Returns: false if the task was no longer held.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func release(_ task: EMQTask, for pause: Duration? = nil) async throws -> Bool {
        try await release(ids: [task.receipt], for: pause).missing.isEmpty
    }

    /// Gives up to 10,000 tasks back by their ids or receipts.
    ///
    /// - Parameters:
    ///   - ids: Receipts, or ids.
    ///   - pause: How long to put the tasks off.
    /// - Returns: What became of the tasks.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func release(ids: [String], for pause: Duration? = nil) async throws -> Refused {
        try await refused(Self.nackCall(ids, pause: pause, isRelease: true))
    }

    private nonisolated(nonsending) func refused(_ call: Call) async throws -> Refused {
        let answer = try await perform(call)
        let result = try read(Refused.self, from: answer, to: call)
        if !answer.isRepeated { return result }
        return Refused(requeued: result.requeued, dead: result.dead, missing: [])
    }

    static func nackCall(
        _ ids: [String], error: String? = nil, pause: Duration? = nil, dead: Bool = false, log: String? = nil,
        isRelease: Bool = false
    ) -> Call {
        var body = RequestBody()
        body.add("ids", ids)
        // The server takes no empty one.
        body.add("error", error.flatMap { $0.isEmpty ? nil : shortened($0) })
        body.add("delay", pause)
        body.add("dead", dead)
        body.add("log", log)
        body.add("release", isRelease)
        var call = Call("/nak/", json: body.finished())
        call.isRepeatable = areReceipts(ids)
        return call
    }

    /// The beginning of an error, as much as the server takes.
    private static func shortened(_ error: String) -> String {
        if error.utf8.count <= maximumErrorBytes { return error }
        let bytes = Array(error.utf8)
        return String(decoding: bytes.prefix(bytes.span.characterBoundary(atMost: maximumErrorBytes)), as: UTF8.self)
    }

    // MARK: Holding

    /// Begins the lease of up to 10,000 tasks anew.
    ///
    /// - Parameters:
    ///   - tasks: The tasks.
    ///   - lease: The new lease; nil for one as long as it was.
    /// - Returns: The receipts of the tasks that were no longer held.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func touch(_ tasks: [EMQTask], lease: Duration? = nil) async throws -> [String] {
        try await touch(ids: tasks.map(\.receipt), lease: lease, progress: RawJSON?.none)
    }

    /// Begins the lease of a task anew, and shows how far the work is.
    ///
    /// - Parameters:
    ///   - task: The task.
    ///   - lease: The new lease; nil for one as long as it was.
    ///   - progress: Any value, shown with the task.
    /// - Returns: false if the task was no longer held.
    /// - Throws: `EncodingError` if the progress cannot be JSON; ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func touch(
        _ task: EMQTask, lease: Duration? = nil, progress: some Encodable
    ) async throws -> Bool {
        try await touch(ids: [task.receipt], lease: lease, progress: progress).isEmpty
    }

    /// Begins the lease of tasks anew by their ids or receipts, and shows how far the work is.
    ///
    /// - Parameters:
    ///   - ids: Receipts, or ids.
    ///   - lease: The new lease; nil for one as long as it was.
    ///   - progress: Any value, shown with the tasks; nil to leave it as it was.
    /// - Returns: Those of the ids that were no longer held.
    /// - Throws: `EncodingError` if the progress cannot be JSON; ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func touch(
        ids: [String], lease: Duration? = nil, progress: (some Encodable)? = RawJSON?.none
    ) async throws -> [String] {
        var body = RequestBody()
        body.add("ids", ids)
        body.add("retry", lease)
        body.add("progress", json: try progress.map { try JSONEncoding.encode($0) })
        return try await perform(Call("/touch/", json: body.finished()), as: Missing.self).missing
    }
}
