// A worker: takes tasks, has them done, and tells the server what became of them.

import Bytes

extension EMQClient {
    /// Works on the tasks of queues until the Swift task is cancelled.
    ///
    /// It takes as many tasks as may be in work at once, by one long poll, and does each in a Swift task of its own. It
    /// acknowledges a task when `body` returns, and refuses it with the error's description when `body` throws; throw
    /// ``Retry``, ``Dead`` or ``Release`` to say more. The client extends the leases on its own thread, so work that
    /// blocks loses no lease. If a lease is lost, the worker cancels `body`. While the server is away, it waits.
    ///
    /// When the Swift task is cancelled, the worker takes no more tasks, and gives those in work the time `grace` to
    /// end. Then it cancels the work, and gives the tasks back. `body` should end soon after that.
    ///
    /// - Parameters:
    ///   - queues: The queues, in the order in which they are emptied.
    ///   - concurrency: How many tasks may be in work at once.
    ///   - lease: The lease of the tasks; nil for their own.
    ///   - worker: A name to show with the tasks, up to 255 bytes.
    ///   - grace: How long work may go on after the cancellation.
    ///   - body: The work on one task.
    /// - Throws: `CancellationError` when it has stopped; ``EMQError`` if the server refuses for good, as without a
    ///   valid token.
    public nonisolated(nonsending) func work(
        _ queues: some QueueNames, concurrency: Int = 1, lease: Duration? = nil, worker: String? = nil,
        grace: Duration = .seconds(25), perform body: @escaping @Sendable (EMQTask) async throws -> Void
    ) async throws {
        try await self.worker(
            queues, concurrency: concurrency, lease: lease, worker: worker, grace: grace, perform: body
        ).run()
        throw CancellationError()
    }

    /// Works on the tasks of queues until the Swift task is cancelled, and acknowledges each with what `body` returns.
    ///
    /// - Parameters:
    ///   - queues: The queues, in the order in which they are emptied.
    ///   - concurrency: How many tasks may be in work at once.
    ///   - lease: The lease of the tasks; nil for their own.
    ///   - worker: A name to show with the tasks, up to 255 bytes.
    ///   - grace: How long work may go on after the cancellation.
    ///   - body: The work on one task; returns the task's result.
    /// - Throws: `CancellationError` when it has stopped; ``EMQError`` if the server refuses for good.
    public nonisolated(nonsending) func work<Result: Encodable & Sendable>(
        _ queues: some QueueNames, concurrency: Int = 1, lease: Duration? = nil, worker: String? = nil,
        grace: Duration = .seconds(25), perform body: @escaping @Sendable (EMQTask) async throws -> Result
    ) async throws {
        try await self.worker(
            queues, concurrency: concurrency, lease: lease, worker: worker, grace: grace, perform: body
        ).run()
        throw CancellationError()
    }

    /// A worker to be run later, for instance as a service of swift-service-lifecycle.
    ///
    /// - Parameters:
    ///   - queues: The queues, in the order in which they are emptied.
    ///   - concurrency: How many tasks may be in work at once.
    ///   - lease: The lease of the tasks; nil for their own.
    ///   - worker: A name to show with the tasks, up to 255 bytes.
    ///   - grace: How long work may go on after the worker was told to stop.
    ///   - body: The work on one task.
    /// - Returns: The worker.
    public nonisolated func worker(
        _ queues: some QueueNames, concurrency: Int = 1, lease: Duration? = nil, worker: String? = nil,
        grace: Duration = .seconds(25), perform body: @escaping @Sendable (EMQTask) async throws -> Void
    ) -> EMQWorker {
        EMQWorker(self, queues.queueNames, concurrency, lease, worker, grace) { work in
            await work.run(body).map { nil }
        }
    }

    /// A worker to be run later, which acknowledges each task with what `body` returns.
    ///
    /// - Parameters:
    ///   - queues: The queues, in the order in which they are emptied.
    ///   - concurrency: How many tasks may be in work at once.
    ///   - lease: The lease of the tasks; nil for their own.
    ///   - worker: A name to show with the tasks, up to 255 bytes.
    ///   - grace: How long work may go on after the worker was told to stop.
    ///   - body: The work on one task; returns the task's result.
    /// - Returns: The worker.
    public nonisolated func worker<Result: Encodable & Sendable>(
        _ queues: some QueueNames, concurrency: Int = 1, lease: Duration? = nil, worker: String? = nil,
        grace: Duration = .seconds(25), perform body: @escaping @Sendable (EMQTask) async throws -> Result
    ) -> EMQWorker {
        EMQWorker(self, queues.queueNames, concurrency, lease, worker, grace) { work in
            await work.run(body).flatMap { result in Swift.Result { try RawJSON(encoding: result) } }
        }
    }
}

/// A worker on the tasks of queues. It has the one method that services of swift-service-lifecycle have. Let a service
/// of your own run it, so that a graceful shutdown ends it:
///
/// ```swift
/// func run() async throws {
///     try await cancelWhenGracefulShutdown { try await worker.run() }
/// }
/// ```
public struct EMQWorker: Sendable {
    let client: EMQClient
    let queues: [String]
    let concurrency: Int
    let lease: Duration?
    let name: String?
    let grace: Duration
    /// Does the work on a task; returns its result.
    let perform: @Sendable (TaskWork) async -> Result<RawJSON?, any Error>

    init(
        _ client: EMQClient, _ queues: [String], _ concurrency: Int, _ lease: Duration?, _ name: String?,
        _ grace: Duration, perform: @escaping @Sendable (TaskWork) async -> Result<RawJSON?, any Error>
    ) {
        (self.client, self.queues, self.concurrency, self.lease) = (client, queues, max(concurrency, 1), lease)
        (self.name, self.grace, self.perform) = (name, grace, perform)
    }

    /// Works until the Swift task is cancelled, and returns when everything is reported.
    ///
    /// - Throws: ``EMQError`` if the server refuses for good, as without a valid token.
    public func run() async throws {
        let run = WorkRun(self)
        let shield = Task { try await run.work() }
        run.setCancellation { shield.cancel() }
        try await withTaskCancellationHandler {
            try await shield.value
        } onCancel: {
            run.stop()
        }
    }
}
