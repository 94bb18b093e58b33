// One run of a worker.

import Bytes

/// Takes tasks while there are free places, and stops in good order.
final class WorkRun: Sendable {
    private struct State {
        /// How many tasks are in work.
        var count = 0
        var isStopping = false
        /// Ends the wait for tasks, or the pause before the next one.
        var current: Task<[EMQTask], any Error>?
        /// Continues when a place becomes free, or the worker stops.
        var waiter: CheckedContinuation<Void, Never>?
        var works: [ObjectIdentifier: TaskWork] = [:]
        /// Cancels what is in work.
        var cancel: (@Sendable () -> Void)?

        mutating func takeWaiter() -> CheckedContinuation<Void, Never>? {
            defer { waiter = nil }
            return waiter
        }
    }

    /// The longest wait for tasks.
    private static let wait = Duration.seconds(20)
    /// The pauses while the server is away, in milliseconds; each is at most twice the one before.
    private static let pauseMilliseconds: ClosedRange<Int64> = 250...5000
    /// How long reports are tried when the worker stops, in milliseconds.
    private static let lastReportMilliseconds: Int64 = 5000

    private let worker: EMQWorker
    private let state = Locked(State())

    init(_ worker: EMQWorker) { self.worker = worker }

    /// Sets what cancels the work when the grace is over.
    func setCancellation(_ cancel: @escaping @Sendable () -> Void) { state.with { $0.cancel = cancel } }

    /// Takes nothing more, and cancels what is in work after the grace.
    func stop() {
        let (current, waiter, works) = state.with { state in
            state.isStopping = true
            return (state.current, state.takeWaiter(), Array(state.works.values))
        }
        current?.cancel()
        waiter?.resume()
        for work in works { work.limitReport(toMilliseconds: Self.lastReportMilliseconds) }
        // On the client's thread, because what is in work may occupy all others.
        worker.client.loop.async { [grace = worker.grace, weak self] transmitter in
            transmitter.alarms.call(afterMilliseconds: grace.milliseconds) { self?.cancel() }
        }
    }

    private func cancel() { state.with(\.cancel)?() }

    /// Works until `stop`, or until the server refuses for good.
    func work() async throws {
        var failure: (any Error)?
        await withDiscardingTaskGroup { group in
            var pause = Self.pauseMilliseconds.lowerBound
            while let free = await freePlaces() {
                do {
                    for task in try await take(free) {
                        let work = begin(task)
                        group.addTask { await self.perform(work) }
                    }
                    pause = Self.pauseMilliseconds.lowerBound
                } catch let error as EMQError where error.isPassing {
                    worker.client.settings.onProblem?(.notWorking(error))
                    _ = try? await interruptible { [pause] in
                        try await Task.sleep(for: .milliseconds(Int64.random(in: pause / 2...pause)))
                        return []
                    }
                    pause = min(2 * pause, Self.pauseMilliseconds.upperBound)
                } catch is CancellationError {
                    // `stop` ends the wait.
                } catch {
                    failure = error
                    break
                }
            }
        }
        if let failure { throw failure }
    }

    /// How many tasks may begin, as soon as one may; nil if the worker stops.
    private func freePlaces() async -> Int? {
        await withCheckedContinuation { continuation in
            let isReady = state.with { state in
                if !state.isStopping, state.count >= worker.concurrency {
                    state.waiter = continuation
                    return false
                }
                return true
            }
            if isReady { continuation.resume() }
        }
        return state.with { $0.isStopping ? nil : worker.concurrency - $0.count }
    }

    private func take(_ count: Int) async throws -> [EMQTask] {
        let client = worker.client
        var call = client.waitCall(
            worker.queues, max: min(count, 1000), timeout: Self.wait, lease: worker.lease, worker: worker.name)
        call.tries = 1
        return try await interruptible { [call] in try await client.takenTasks(call).compactMap { $0 } }
    }

    /// Does something that `stop` cancels.
    private func interruptible(_ body: @escaping @Sendable () async throws -> [EMQTask]) async throws -> [EMQTask] {
        let current = Task { try await body() }
        let isStopping = state.with { state in
            state.current = current
            return state.isStopping
        }
        if isStopping { current.cancel() }
        defer { state.with { $0.current = nil } }
        return try await current.value
    }

    private func begin(_ task: EMQTask) -> TaskWork {
        let work = TaskWork(task, worker.client)
        let isStopping = state.with { state in
            state.count += 1
            state.works[ObjectIdentifier(work)] = work
            return state.isStopping
        }
        if isStopping { work.limitReport(toMilliseconds: Self.lastReportMilliseconds) }
        return work
    }

    private func perform(_ work: TaskWork) async {
        let result = await worker.perform(work)
        _ = await work.report(result)
        let waiter = state.with { state in
            state.count -= 1
            state.works[ObjectIdentifier(work)] = nil
            return state.takeWaiter()
        }
        waiter?.resume()
    }
}
