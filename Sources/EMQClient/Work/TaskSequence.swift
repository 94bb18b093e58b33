// `for try await task in client.tasks("mail")`.

import Bytes

extension EMQClient {
    /// The tasks of queues, one after the other, for as long as you iterate.
    ///
    /// You acknowledge or refuse each task yourself, and extend its lease if the work takes long;
    /// `process` does both. Tasks that are taken and not yet given out are held, and given back when the iteration
    /// ends. While the server is away or refuses for now, the iteration waits; other errors end it.
    ///
    /// ```swift
    /// for try await task in client.tasks("mail", lease: .seconds(60)) {
    ///     try await send(task.decode(Letter.self))
    ///     try await client.ack(task)
    /// }
    /// ```
    ///
    /// - Parameters:
    ///   - queues: The queues, in the order in which they are emptied.
    ///   - lease: The lease of the tasks; nil for their own.
    ///   - worker: A name to show with the tasks.
    ///   - prefetch: How many tasks to take at once, 1 to 1000. More than 1 saves round trips.
    /// - Returns: The tasks. Each iteration takes tasks of its own.
    public nonisolated func tasks(
        _ queues: some QueueNames, lease: Duration? = nil, worker: String? = nil, prefetch: Int = 1
    ) -> TaskSequence {
        TaskSequence(client: self, queues: queues.queueNames, lease: lease, worker: worker, prefetch: prefetch)
    }
}

/// The tasks of queues, as they come.
public struct TaskSequence: AsyncSequence, Sendable {
    /// A task that you hold.
    public typealias Element = EMQTask

    let client: EMQClient
    let queues: [String]
    let lease: Duration?
    let worker: String?
    let prefetch: Int

    /// Begins to take tasks.
    public func makeAsyncIterator() -> Iterator { Iterator(shelf: Shelf(client), sequence: self) }

    /// Takes tasks. When it goes away, it gives back those that it has not given out.
    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let shelf: Shelf
        fileprivate let sequence: TaskSequence

        /// The next task. It waits until there is one.
        ///
        /// - Throws: ``EMQError``, or `CancellationError`.
        public mutating func next() async throws -> EMQTask? { try await next(isolation: nil) }

        /// The next task. It waits until there is one.
        ///
        /// - Parameter actor: The actor of the caller.
        /// - Returns: The task.
        /// - Throws: ``EMQError``, or `CancellationError`.
        public mutating func next(isolation actor: isolated (any Actor)?) async throws -> EMQTask? {
            let client = sequence.client
            while true {
                try Task.checkCancellation()
                do {
                    if let task = shelf.takeFresh() { return task }
                    if let task = shelf.first {
                        // One that has waited for long begins its lease anew. Until then it stays on the shelf.
                        let isLost = try await !client.touch([task]).isEmpty
                        if shelf.take(task), !isLost { return task }
                        continue
                    }
                    let call = client.waitCall(
                        sequence.queues, max: sequence.prefetch, timeout: .seconds(20), lease: sequence.lease,
                        worker: sequence.worker)
                    shelf.put(try await client.takenTasks(call).compactMap { $0 })
                } catch let error as EMQError where error.isPassing {
                    client.settings.onProblem?(.notWorking(error))
                    try await Task.sleep(for: .milliseconds(Int.random(in: 250...2000)))
                }
            }
        }
    }
}

/// The tasks that an iteration has taken and not given out.
private final class Shelf: Sendable {
    private struct Held {
        let task: EMQTask
        let takenAt: ContinuousClock.Instant
    }

    private let client: EMQClient
    private let held = Locked<[Held]>([])

    init(_ client: EMQClient) { self.client = client }

    deinit {
        let receipts = held.with { $0.map(\.task.receipt) }
        if receipts.isEmpty { return }
        client.loop.async { transmitter in
            for receipt in receipts { transmitter.keeper.drop(receipt) }
            transmitter.release(receipts)
        }
    }

    func put(_ tasks: [EMQTask]) {
        let now = ContinuousClock.now
        held.with { $0 += tasks.map { Held(task: $0, takenAt: now) } }
        // The first one is given out at once.
        for task in tasks.dropFirst() {
            client.loop.async { [weak self] transmitter in
                transmitter.keeper.keep(task.receipt, milliseconds: task.leaseMilliseconds) { [weak self] in
                    self?.lose(task)
                }
            }
        }
    }

    private func lose(_ task: EMQTask) { held.with { $0.removeAll { $0.task.receipt == task.receipt } } }

    /// The next task.
    var first: EMQTask? { held.with { $0.first?.task } }

    /// Takes the next task, if most of its lease is left.
    func takeFresh() -> EMQTask? {
        let now = ContinuousClock.now
        let task = held.with { held in
            held.first.flatMap { now - $0.takenAt < $0.task.lease / 10 ? $0.task : nil }
        }
        guard let task, take(task) else { return nil }
        return task
    }

    /// Takes a task; false if its lease has been lost meanwhile.
    func take(_ task: EMQTask) -> Bool {
        let isHeld = held.with { held in
            guard let index = held.firstIndex(where: { $0.task.receipt == task.receipt }) else { return false }
            held.remove(at: index)
            return true
        }
        let receipt = task.receipt
        client.loop.async { $0.keeper.drop(receipt) }
        return isHeld
    }
}
