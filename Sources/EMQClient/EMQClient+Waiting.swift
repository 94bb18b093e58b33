// Taking tasks.

import Bytes
import JSON

/// A queue, or several in order.
public protocol QueueNames: Sendable {
    /// The names of the queues.
    var queueNames: [String] { get }
}

extension String: QueueNames {
    /// The one queue.
    public var queueNames: [String] { [self] }
}

extension [String]: QueueNames {
    /// The queues.
    public var queueNames: [String] { self }
}

extension EMQClient {
    /// Takes tasks, and waits for them if there are none.
    ///
    /// You hold each task for its lease. Acknowledge it before the end of the lease, or extend the lease with
    /// ``touch(_:lease:)``; otherwise the attempt has failed. `work` does that for you.
    ///
    /// If you cancel the Swift task that waits, you get no tasks: the client gives back those that were on their way.
    ///
    /// - Parameters:
    ///   - queues: Up to 1000 queues, in the order in which they are emptied.
    ///   - max: How many tasks to take at most, 1 to 1000. The wait ends as soon as there is one.
    ///   - timeout: How long to wait, at most an hour.
    ///   - lease: The lease of the tasks; nil for their own.
    ///   - worker: A name to show with the tasks, up to 255 bytes.
    ///   - finished: Up to 100 tasks to acknowledge first, whatever the wait returns. Those that were no longer held
    ///     are reported to ``Options/onProblem``.
    /// - Returns: The tasks; none after the timeout.
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func wait(
        for queues: some QueueNames, max: Int = 1, timeout: Duration = .zero, lease: Duration? = nil,
        worker: String? = nil, acknowledging finished: [EMQTask] = []
    ) async throws -> [EMQTask] {
        let call = waitCall(queues, max: max, timeout: timeout, lease: lease, worker: worker, finished)
        return try await takenTasks(call).compactMap { $0 }
    }

    /// Takes one task for each queue that you name. You may repeat a name. The server answers as soon as it can fill
    /// every place, and takes and reserves nothing until then.
    ///
    /// - Parameters:
    ///   - queues: The queue of each place.
    ///   - timeout: How long to wait, at most an hour.
    ///   - lease: The lease of the tasks; nil for their own.
    ///   - worker: A name to show with the tasks, up to 255 bytes.
    ///   - finished: Up to 100 tasks to acknowledge first.
    /// - Returns: A task for each place; nil for places that have none at the timeout.
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func waitForEach(
        of queues: [String], timeout: Duration = .zero, lease: Duration? = nil, worker: String? = nil,
        acknowledging finished: [EMQTask] = []
    ) async throws -> [EMQTask?] {
        try await takenTasks(waitCall(queues, max: nil, timeout: timeout, lease: lease, worker: worker, finished))
    }

    nonisolated func waitCall(
        _ queues: some QueueNames, max: Int?, timeout: Duration, lease: Duration?, worker: String?,
        _ finished: [EMQTask] = []
    ) -> Call {
        var body = RequestBody()
        body.add("queues", queues.queueNames)
        body.add("max", max)
        if !finished.isEmpty { body.add("ack", finished.map(\.receipt)) }
        body.add("retry", lease)
        body.add("worker", worker)
        // The time to wait follows when the request is sent.
        var call = Call("/wait/", json: body.bytes)
        call.waitMilliseconds = min(timeout.milliseconds, 3_600_000)
        call.isLong = timeout > .zero
        call.abandonment = .release
        return call
    }

    nonisolated(nonsending) func takenTasks(_ call: Call) async throws -> [EMQTask?] {
        let answer = try await perform(call)
        if !answer.isRepeated { for receipt in answer.missing { settings.onProblem?(.leaseLost(receipt: receipt)) } }
        let taken: WaitAnswer
        do { taken = try WaitAnswer(answer.body) } catch { throw strange(answer, to: call, "\(error)") }
        if Task.isCancelled {
            // The caller does not expect tasks any more.
            let receipts = taken.receipts
            if !receipts.isEmpty { loop.async { $0.release(receipts) } }
            throw CancellationError()
        }
        return taken.places
    }
}
