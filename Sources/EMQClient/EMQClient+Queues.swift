// Looking at queues and managing them.

import Bytes
import JSON

/// Which queues a list has, and in what order.
public struct QueueSelection: Sendable, Hashable {
    /// Only queues whose names begin with this.
    public var prefix: String?
    /// Only queues whose whole names match this pattern, in which `*` stands for any characters.
    public var match: String?
    /// `name`, `ready`, `delayed`, `dispatched`, `dead`, `oldest_ready`, `enqueued`, `done`, `failed`, `rate`,
    /// `waiters` or `paused`; nil for `name`.
    public var sort: String?
    /// How many queues a page has, 1 to 1000; nil for the server's default.
    public var count: Int?
    /// What the page before gives as `next`; nil for the first page.
    public var after: String?

    /// A selection.
    ///
    /// - Parameters:
    ///   - prefix: How the names begin.
    ///   - match: A pattern of the names.
    ///   - sort: What to sort by.
    ///   - count: How many queues a page has.
    ///   - after: Where the page begins.
    public init(
        prefix: String? = nil, match: String? = nil, sort: String? = nil, count: Int? = nil, after: String? = nil
    ) {
        (self.prefix, self.match, self.sort, self.count, self.after) = (prefix, match, sort, count, after)
    }

    fileprivate var query: [(String, String?)] {
        [("prefix", prefix), ("match", match), ("sort", sort), ("n", count.map(String.init)), ("after", after)]
    }
}

extension EMQClient {
    /// How long a purge, a kick or a move may take, in milliseconds. The server works on it in slices.
    private static let sweepMilliseconds: Int64 = 3_600_000

    // MARK: Looking

    /// The names of the queues that hold an unfinished or dead task, have a configuration, or are paused.
    ///
    /// - Parameter selection: Which of them, in what order.
    /// - Returns: A page of names.
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func queues(
        _ selection: QueueSelection = QueueSelection()
    ) async throws -> Page<String> {
        let call = Call("GET", Call.target("/queues/", query: selection.query))
        let answer = try await perform(call)
        return Page(elements: try read([String].self, from: answer, to: call), next: answer.nextAfter)
    }

    /// Counts the tasks and events of a queue.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - history: Which history to add; nil for none.
    /// - Returns: The counts.
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func stats(
        of queue: String, history: History.Step? = nil
    ) async throws -> QueueStatistics {
        let target = Call.target("/stats/", name: queue, query: [("history", history?.rawValue)])
        return try await perform(Call("GET", target), as: QueueStatistics.self)
    }

    /// Counts the tasks and events of many queues, a page at a time, and shows the state of the server.
    ///
    /// - Parameters:
    ///   - selection: Which queues, in what order.
    ///   - offset: Instead of `after`: how many of these queues precede the page.
    ///   - delimiter: Such as `/`: shows queues whose names begin alike as one group.
    ///   - history: Which history of all queues to add; nil for none.
    ///   - trend: Whether to add to each queue how many tasks were ready in the last 30 minutes.
    /// - Returns: A page of counts.
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func allStats(
        _ selection: QueueSelection = QueueSelection(), offset: Int? = nil, delimiter: String? = nil,
        history: History.Step? = nil, trend: Bool = false
    ) async throws -> Statistics {
        let query =
            selection.query + [
                ("offset", offset.map(String.init)), ("delimiter", delimiter), ("history", history?.rawValue),
                ("trend", trend ? "1" : nil),
            ]
        return try await perform(Call("GET", Call.target("/stats/", query: query)), as: Statistics.self)
    }

    /// Groups dead tasks by a line of their errors.
    ///
    /// - Parameters:
    ///   - queue: The queue; nil for all.
    ///   - count: How many groups to show at most, up to 1000.
    ///   - prefix: Without a queue: only queues whose names begin with this.
    ///   - match: Without a queue: only queues whose names match this pattern.
    /// - Returns: The groups, the largest first.
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func errors(
        in queue: String? = nil, count: Int? = nil, prefix: String? = nil, match: String? = nil
    ) async throws -> ErrorGroups {
        let query: [(String, String?)] = [("n", count.map(String.init)), ("prefix", prefix), ("match", match)]
        return try await perform(
            Call("GET", Call.target("/errors/", name: queue ?? "", query: query)), as: ErrorGroups.self)
    }

    // MARK: Pausing

    /// Stops giving out the tasks of a queue.
    ///
    /// - Parameter queue: The queue.
    /// - Returns: Whether emq knew nothing of the queue: check the name.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func pause(_ queue: String) async throws -> Bool {
        try await perform(Call("POST", Call.target("/pause/", name: queue)), as: Paused.self).new ?? false
    }

    /// Gives out the tasks of a queue again.
    ///
    /// - Parameter queue: The queue.
    /// - Returns: Whether emq knew nothing of the queue: check the name.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func resume(_ queue: String) async throws -> Bool {
        try await perform(Call("POST", Call.target("/resume/", name: queue)), as: Paused.self).new ?? false
    }

    // MARK: Changing many tasks

    // None of these is sent again when it may have arrived: a second one would also change tasks that came meanwhile.

    /// Deletes tasks, and leaves no record. It may take long; cancelling the Swift task does not stop it
    /// (``stopOperation(_:)``).
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - state: `ready`, `dead` and so on, or `all`; nil for ready and delayed tasks.
    ///   - filter: Which of the tasks.
    /// - Returns: How many tasks it has deleted.
    /// - Throws: ``EMQError``, with ``EMQError/Kind/outcomeUnknown`` if the connection breaks.
    @discardableResult
    public nonisolated(nonsending) func purge(
        _ queue: String, state: TaskState? = nil, filter: TaskFilter = TaskFilter()
    ) async throws -> Swept {
        let query = [("state", state?.rawValue)] + filter.query
        return try await sweep(Call.target("/purge/", name: queue, query: query))
    }

    /// Makes dead tasks ready, the oldest first. It may take long, as ``purge(_:state:filter:)``.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - count: How many tasks at most; nil for all.
    ///   - state: `dead`, or `delayed` to kick delayed tasks instead.
    ///   - toOrigin: Whether dead letters return to the queues where they died.
    ///   - filter: Which of the tasks.
    /// - Returns: How many tasks it has made ready.
    /// - Throws: ``EMQError``, with ``EMQError/Kind/outcomeUnknown`` if the connection breaks.
    @discardableResult
    public nonisolated(nonsending) func kick(
        _ queue: String, count: Int? = nil, state: TaskState = .dead, toOrigin: Bool = false,
        filter: TaskFilter = TaskFilter()
    ) async throws -> Swept {
        let query: [(String, String?)] =
            [
                ("n", count.map(String.init)), ("state", state == .dead ? nil : state.rawValue),
                ("to", toOrigin ? "origin" : nil),
            ] + filter.query
        return try await sweep(Call.target("/kick/", name: queue, query: query))
    }

    /// Makes dead tasks ready that you name, up to 10,000.
    ///
    /// - Parameters:
    ///   - ids: The ids.
    ///   - toOrigin: Whether dead letters return to the queues where they died.
    /// - Returns: How many tasks it has made ready.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func kick(ids: [String], toOrigin: Bool = false) async throws -> Swept {
        try await sweep(Call.target("/kick/", query: [("to", toOrigin ? "origin" : nil)]), ids: ids)
    }

    /// Moves tasks to the back of another queue, the oldest first. It may take long, as ``purge(_:state:filter:)``.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - target: The other queue.
    ///   - state: `ready`, `delayed` or `dead`.
    ///   - count: How many tasks at most; nil for all.
    ///   - filter: Which of the tasks.
    /// - Returns: How many tasks it has moved.
    /// - Throws: ``EMQError``, with ``EMQError/Kind/outcomeUnknown`` if the connection breaks.
    @discardableResult
    public nonisolated(nonsending) func move(
        _ queue: String, to target: String, state: TaskState = .ready, count: Int? = nil,
        filter: TaskFilter = TaskFilter()
    ) async throws -> Swept {
        let query: [(String, String?)] =
            [
                ("to", target), ("n", count.map(String.init)), ("state", state == .ready ? nil : state.rawValue),
            ] + filter.query
        return try await sweep(Call.target("/move/", name: queue, query: query))
    }

    /// Moves tasks that you name, up to 10,000, from any queues to the back of one.
    ///
    /// - Parameters:
    ///   - ids: The ids, in the order in which the tasks move.
    ///   - target: The queue that they move to.
    /// - Returns: How many tasks it has moved.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func move(ids: [String], to target: String) async throws -> Swept {
        try await sweep(Call.target("/move/", query: [("to", target)]), ids: ids)
    }

    private nonisolated(nonsending) func sweep(_ target: String, ids: [String]? = nil) async throws -> Swept {
        var call = Call("POST", target)
        call.body = ids.map { RequestBody.ids($0) }
        call.isRepeatable = false
        call.isLong = ids == nil
        if ids == nil { call.timeoutMilliseconds = Self.sweepMilliseconds }
        let answer = try await perform(call, as: SweptAnswer.self)
        return Swept(
            count: answer.purged ?? answer.kicked ?? answer.moved ?? 0, isStopped: answer.stopped ?? false,
            missing: answer.missing ?? [])
    }

    /// The purges, kicks and moves under way, in the order in which emq does them.
    ///
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func operations() async throws -> [Operation] {
        struct Operations: Decodable { let operations: [Operation] }
        return try await perform(Call("GET", "/operations/"), as: Operations.self).operations
    }

    /// Stops a purge, a kick or a move. What it has done stays done, and the request that began it gets its answer.
    ///
    /// - Parameter id: The operation's number.
    /// - Throws: ``EMQError`` with the status 404 if it has ended.
    public nonisolated(nonsending) func stopOperation(_ id: Int) async throws {
        _ = try await perform(Call("DELETE", "/operations/\(id)"))
    }
}

private struct Paused: Decodable {
    let new: Bool?
}

private struct SweptAnswer: Decodable {
    let purged: Int?
    let kicked: Int?
    let moved: Int?
    let stopped: Bool?
    let missing: [String]?
}
