// Looking at single tasks, waiting for their results, and cancelling them.

import Bytes
import JSON

extension EMQClient {
    /// Shows everything about a task.
    ///
    /// - Parameters:
    ///   - id: The task's id.
    ///   - limit: How many bytes of its content and its other large parts are shown at most; nil for all.
    /// - Returns: The task.
    /// - Throws: ``EMQError``, with ``ProblemType/noSuchTask`` if there is none.
    public nonisolated(nonsending) func task(_ id: String, contentLimit limit: Int? = nil) async throws -> TaskDetails {
        let target = Call.target("/task/", name: id, query: [("content_limit", limit.map(String.init))])
        return try await perform(Call("GET", target), as: TaskDetails.self)
    }

    /// Cancels an unfinished task; its worker's acknowledgement then finds it missing. Deletes the record of a finished
    /// one.
    ///
    /// - Parameter id: The task's id.
    /// - Throws: ``EMQError``, with ``ProblemType/noSuchTask`` if there is none.
    public nonisolated(nonsending) func cancel(_ id: String) async throws {
        try await delete(Call.target("/task/", name: id), gone: .noSuchTask)
    }

    /// Waits until a task has ended, and returns its state and its result. A client that waits gets the result even if
    /// emq keeps no record of the task.
    ///
    /// - Parameters:
    ///   - id: The task's id.
    ///   - timeout: How long to wait, at most an hour.
    /// - Returns: The state, at the timeout that of then, and the result if there is one.
    /// - Throws: ``EMQError``, with ``ProblemType/noSuchTask`` if there is none, or it has ended without `keep`.
    public nonisolated(nonsending) func result(
        of id: String, timeout: Duration = .zero
    ) async throws -> TaskOutcome {
        var call = Call("GET", Call.target("/result/", name: id))
        (call.waitMilliseconds, call.waitPlace) = (min(timeout.milliseconds, 3_600_000), .query)
        call.isLong = timeout > .zero
        return try await perform(call, as: TaskOutcome.self)
    }

    /// Deletes the result of a task, but keeps the record.
    ///
    /// - Parameter id: The task's id.
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func deleteResult(of id: String) async throws {
        try await delete(Call.target("/result/", name: id), gone: .noSuchTask)
    }

    /// Shows what has a key.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - queue: The queue.
    /// - Returns: What has the key.
    /// - Throws: ``EMQError``, with ``ProblemType/noSuchKey`` if the key is free.
    public nonisolated(nonsending) func key(_ key: String, in queue: String) async throws -> KeyHolder {
        let target = Call.target("/key/", name: queue, query: [("key", key)])
        return try await perform(Call("GET", target), as: KeyHolder.self)
    }

    /// Frees a key that is still taken after its task has ended.
    ///
    /// - Parameters:
    ///   - key: The key.
    ///   - queue: The queue.
    /// - Throws: ``EMQError``, with ``ProblemType/taskUnfinished`` if the task has not ended, or with
    ///   ``ProblemType/noSuchKey`` if the key is free.
    public nonisolated(nonsending) func freeKey(_ key: String, in queue: String) async throws {
        try await delete(Call.target("/key/", name: queue, query: [("key", key)]), gone: .noSuchKey)
    }

    /// Shows tasks of one state without taking them.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - state: The state.
    ///   - count: How many tasks to show at most, up to 1000.
    ///   - id: The last task of the page before; nil for the first page.
    ///   - filter: Which of the tasks to show.
    ///   - limit: How many bytes of each content are shown at most; nil for all.
    /// - Returns: The tasks. With a filter, a page may have fewer tasks than `count` though it has a `next`.
    /// - Throws: ``EMQError``, with ``ProblemType/pageGone`` if the last task of the page before is no longer there.
    public nonisolated(nonsending) func peek(
        _ queue: String, state: TaskState = .ready, count: Int = 1, after id: String? = nil,
        filter: TaskFilter = TaskFilter(), contentLimit limit: Int? = nil
    ) async throws -> Page<TaskDetails> {
        let query: [(String, String?)] =
            [
                ("n", "\(count)"), ("state", state == .ready ? nil : state.rawValue), ("after", id),
                ("content_limit", limit.map(String.init)),
            ] + filter.query
        let call = Call("GET", Call.target("/peek/", name: queue, query: query))
        let answer = try await perform(call)
        let tasks = try read([TaskDetails].self, from: answer, to: call)
        let isFull = tasks.count == count && count > 0
        return Page(elements: tasks, next: answer.nextAfter ?? (isFull ? tasks.last?.id : nil))
    }

    /// Deletes something.
    nonisolated(nonsending) func delete(_ target: String, gone: ProblemType) async throws {
        do {
            _ = try await perform(Call("DELETE", target))
        } catch let error as EMQError where error.isRepeated && error.type == gone {
            // The first try has deleted it.
        }
    }
}

extension Answer {
    /// The parameter `after` of the next page.
    var nextAfter: String? {
        guard let link, let end = link.firstIndex(of: ">"), let query = link[..<end].firstIndex(of: "?") else {
            return nil
        }
        for part in link[link.index(after: query)..<end].split(separator: "&") where part.hasPrefix("after=") {
            var decoded: [UInt8] = []
            PercentEncoding.decode(Array(part.dropFirst(6).utf8).span, into: &decoded)
            return String(decoding: decoded, as: UTF8.self)
        }
        return nil
    }
}
