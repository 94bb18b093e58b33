// The work on one task: its lease is extended until the server knows what became of it.

import Bytes

extension EMQClient {
    /// Does the work on a task that you have taken, and tells the server what became of it.
    ///
    /// While the work goes on, the client extends the lease, on its own thread. At the end it acknowledges the task,
    /// with the result of the work. If the work throws, it refuses the task with the error's description; throw
    /// ``Retry``, ``Dead`` or ``Release`` to say more. If you cancel the Swift task, the
    /// client cancels the work and gives the task back. If the lease is lost, it also cancels the work.
    ///
    /// - Parameters:
    ///   - task: The task.
    ///   - body: The work.
    /// - Returns: What the work returns.
    /// - Throws: What the work throws, after the task has been refused; `EncodingError` or ``EMQError`` if the result
    ///   cannot be kept, which refuses the task, too; ``EMQError`` if the server could not be told, or the lease was
    ///   lost.
    @discardableResult
    public nonisolated(nonsending) func process<Result: Encodable & Sendable>(
        _ task: EMQTask, perform body: @escaping @Sendable (EMQTask) async throws -> Result
    ) async throws -> Result {
        let work = TaskWork(task, self)
        let result = await work.run(body)
        let written = result.flatMap { value in Swift.Result { try RawJSON(encoding: value) as RawJSON? } }
        try await work.report(written).get()
        _ = try written.get()
        return try result.get()
    }

    /// Does the work on a task that you have taken, and tells the server what became of it, without a result.
    ///
    /// - Parameters:
    ///   - task: The task.
    ///   - body: The work.
    /// - Throws: What the work throws, after the task has been refused; ``EMQError`` if the server could not be told,
    ///   or the lease was lost.
    public nonisolated(nonsending) func process(
        _ task: EMQTask, perform body: @escaping @Sendable (EMQTask) async throws -> Void
    ) async throws {
        let work = TaskWork(task, self)
        let result = await work.run(body)
        try await work.report(result.map { nil }).get()
        try result.get()
    }
}

/// The work on one task.
final class TaskWork: Sendable {
    private struct State {
        var isLost = false
        /// Cancels the work.
        var cancel: (@Sendable () -> Void)?
        /// The report under way.
        var report: PendingCall?
        /// The time that a report may still take, in milliseconds; nil for as long as the lease can be extended.
        var reportLimit: Int64?
    }

    /// How long a report is tried if the lease is shorter, in milliseconds.
    private static let reportMilliseconds: Int64 = 60_000

    let task: EMQTask
    private let client: EMQClient
    private let state = Locked(State())

    /// Holds the task until `report`. The work may begin late, if other work occupies all threads.
    init(_ task: EMQTask, _ client: EMQClient) {
        (self.task, self.client) = (task, client)
        client.loop.async { [weak self] transmitter in
            transmitter.keeper.keep(task.receipt, milliseconds: task.leaseMilliseconds) { [weak self] in self?.lose() }
        }
    }

    /// Does the work.
    nonisolated(nonsending) func run<Result: Sendable>(
        _ body: @escaping @Sendable (EMQTask) async throws -> Result
    ) async -> Swift.Result<Result, any Error> {
        // The lease may have been lost before there was a thread for the work.
        if state.with(\.isLost) { return .failure(lostLease) }
        let task = task
        // A Swift task of its own, so that a lost lease cancels nothing else.
        let work = Task { try await body(task) }
        let isLost = state.with { state in
            state.cancel = { work.cancel() }
            return state.isLost
        }
        if isLost { work.cancel() }
        return await withTaskCancellationHandler {
            await work.result
        } onCancel: {
            work.cancel()
        }
    }

    private func lose() {
        let cancel = state.with { state in
            state.isLost = true
            return state.cancel
        }
        cancel?()
    }

    /// Gives the report, present or future, so much time.
    func limitReport(toMilliseconds milliseconds: Int64) {
        let report = state.with { state in
            state.reportLimit = milliseconds
            return state.report
        }
        if let report { client.loop.async { _ in report.limit(toMilliseconds: milliseconds) } }
    }

    /// Tells the server what became of the task. This goes on if the Swift task is cancelled.
    nonisolated(nonsending) func report(
        _ result: Swift.Result<RawJSON?, any Error>
    ) async -> Swift.Result<Void, any Error> {
        defer {
            let receipt = task.receipt
            client.loop.async { $0.keeper.drop(receipt) }
        }
        if state.with(\.isLost) { return .failure(lostLease) }
        var outcome = await send(call(for: result))
        var refusal: EMQError?
        if case .failure(let error as EMQError) = outcome, case .success(_?) = result,
            [400, 413, 422].contains(error.status)
        {
            // Without the result, the task would seem to have none.
            refusal = error
            let reason = "the server refuses the result: \(error.detail)"
            outcome = await send(EMQClient.nackCall([task.receipt], error: reason))
        }
        switch outcome {
        case .success(let answer):
            let missing = (try? JSONDecoding.decode(Missing.self, from: answer.body))?.missing ?? []
            if missing.isEmpty || answer.isRepeated { return refusal.map { .failure($0) } ?? .success(()) }
            client.settings.onProblem?(.leaseLost(receipt: task.receipt))
            return .failure(lostLease)
        case .failure(let error):
            if let error = error as? EMQError {
                client.settings.onProblem?(.outcomeLost(receipt: task.receipt, error))
            }
            return .failure(error)
        }
    }

    private var lostLease: EMQError {
        EMQError(.leaseLost, "the lease of the task \(task.id) was lost, or the task cancelled, during the work on it")
    }

    private func call(for result: Swift.Result<RawJSON?, any Error>) -> Call {
        let ids = [task.receipt]
        switch result {
        case .success(let result): return EMQClient.ackCall([Acknowledgement(task, result: result)])
        case .failure(let retry as Retry):
            return EMQClient.nackCall(ids, error: retry.description, pause: retry.after)
        case .failure(let dead as Dead): return EMQClient.nackCall(ids, error: dead.reason, dead: true)
        case .failure(let release as Release): return EMQClient.nackCall(ids, pause: release.pause, isRelease: true)
        // Work that was interrupted has not failed, whatever error that looks like.
        case .failure where Task.isCancelled: return EMQClient.nackCall(ids, isRelease: true)
        case .failure(let error): return EMQClient.nackCall(ids, error: "\(error)")
        }
    }

    private nonisolated(nonsending) func send(_ call: Call) async -> Swift.Result<Answer, any Error> {
        var call = call
        call.tries = .max
        let pending: PendingCall = state.with { state in
            call.timeoutMilliseconds =
                state.reportLimit
                ?? max(client.settings.timeoutMilliseconds, task.leaseMilliseconds, Self.reportMilliseconds)
            let pending = PendingCall(call)
            state.report = pending
            return pending
        }
        let result = await withCheckedContinuation { continuation in
            pending.whenDone { continuation.resume(returning: $0) }
            client.loop.start(pending)
        }
        state.with { $0.report = nil }
        return result
    }
}
