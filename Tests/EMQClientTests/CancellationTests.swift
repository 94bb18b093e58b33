// Cancelled calls: at every step of them and at random moments. No task is lost, and the client goes on.

import Bytes
import Dispatch
import EMQClient
import Support
import Testing

@Suite(.byTurns, .timeLimit(.minutes(10))) struct CancellationTests {
    private let world: World
    private var client: EMQClient { world.client }

    init() async throws { world = try await World() }

    /// Takes and acknowledges what there is, until the queue holds nothing. A task that nobody but the server knows of
    /// would be in the way for five minutes.
    private func drain(_ queue: String) async throws {
        try await soon("the end of \(queue)") {
            for task in try await client.wait(for: queue, max: 100) {
                // TLS has no half-closed connections: the server itself gives back what it could not deliver.
                #expect(task.attempt == 1 || TestTLS.isOverTLS)
                #expect(try await client.ack(task))
            }
            let stats = try await client.stats(of: queue)
            return stats.ready + stats.dispatched + stats.delayed == 0 ? true : nil
        }
        let totals = try await client.stats(of: queue).totals
        #expect(totals.acked == totals.enqueued && totals.timedOut == 0 && totals.nacked == 0, "\(queue): \(totals)")
    }

    /// Runs a call again and again, and cancels it after one step more each time, until it ends by itself.
    /// The call adds the tasks that it still holds at its end to `held`.
    private func atEveryStep(
        _ name: String, tasks: Int, held: Notes<EMQTask> = Notes(),
        _ call: @escaping @Sendable (_ queue: String) async throws -> Void
    ) async throws {
        for limit in 0..<10_000 {
            let queue = "\(name) \(limit)"
            if tasks > 0 { try await client.enqueue((0..<tasks).map { try NewTask($0) }, to: queue) }
            let steps = StepExecutor(limit: limit)
            let task = Task(executorPreference: steps) { try await call(queue) }
            steps.setAction { task.cancel() }
            let result = await task.result
            for task in held.all where task.queue == queue { #expect(try await client.ack(task)) }
            try await drain(queue)
            switch result {
            case .success where steps.count < limit: return #expect(limit > 1)
            case .success: break
            case .failure(let error): #expect(error is CancellationError, "\(name), step \(limit): \(error)")
            }
        }
        Issue.record("\(name) never ends")
    }

    @Test func anEnqueueIsCancelledAtEveryStep() async throws {
        try await atEveryStep("enqueue", tasks: 0) { [client] queue in
            try await client.enqueue(1, to: queue)
            try await client.enqueue([NewTask(2), NewTask(3)], to: queue)
        }
    }

    @Test func aWaitIsCancelledAtEveryStep() async throws {
        let held = Notes<EMQTask>()
        try await atEveryStep("wait", tasks: 4, held: held) { [client] queue in
            for _ in 0..<2 {
                for task in try await client.wait(for: queue, timeout: .seconds(60)) { held.add(task) }
            }
            for task in try await client.waitForEach(of: [queue, queue], timeout: .seconds(60)) {
                held.add(try #require(task))
            }
        }
    }

    @Test func aSequenceIsCancelledAtEveryStep() async throws {
        for prefetch in [1, 3] {
            try await atEveryStep("tasks \(prefetch)", tasks: 4) { [client] queue in
                var count = 0
                for try await task in client.tasks(queue, prefetch: prefetch) {
                    try await client.process(task) { _ in await Task.yield() }
                    count += 1
                    if count == 4 { break }
                }
            }
        }
    }

    @Test func workOnATaskIsCancelledAtEveryStep() async throws {
        try await atEveryStep("process", tasks: 1) { [client] queue in
            let iterator = client.tasks(queue).makeAsyncIterator()
            var tasks = iterator
            let task = try #require(try await tasks.next())
            try await client.process(task) { _ in
                try await Task.sleep(for: .milliseconds(1))
                return 1
            }
        }
    }

    @Test func aWaitIsCancelledAtAnyMoment() async throws {
        var random = SeededRandom()
        let repetition = "\(random)"
        let received = Notes<EMQTask>()
        for round in 0..<300 {
            let pause = Duration.microseconds(Int.random(in: 0...3000, using: &random))
            let first = Bool.random(using: &random)
            let queues = round.isMultiple(of: 3) ? ["a", "b"] : ["a"]
            if first { try await client.enqueue(round, to: "a") }
            let waiting = Task { [client] in
                for task in try await client.wait(for: queues, max: 5, timeout: .seconds(60)) { received.add(task) }
            }
            let adding = Task { [client] in if !first { try await client.enqueue(round, to: "a") } }
            try await Task.sleep(for: pause)
            waiting.cancel()
            if case .failure(let error) = await waiting.result {
                #expect(error is CancellationError, "\(repetition)")
            }
            try await adding.value
        }
        for task in received.all { #expect(try await client.ack(task), "\(repetition)") }
        try await drain("a")
        #expect(try await client.stats(of: "a").totals.acked == 300, "\(repetition)")
    }

    @Test func whatIsCancelledAlreadyIsNotSent() async throws {
        let task = Task { [client] in
            withUnsafeCurrentTask { $0?.cancel() }
            await #expect(throws: CancellationError.self) { try await client.enqueue(1, to: "q") }
            await #expect(throws: CancellationError.self) { try await client.wait(for: "q") }
            await #expect(throws: CancellationError.self) {
                for try await _ in client.tasks("q") { Issue.record("it is cancelled") }
            }
        }
        await task.value
        #expect(try await client.stats(of: "q").totals.enqueued == 0)
    }

    @Test func otherCallsEndAtOnce() async throws {
        let fake = try ScriptedServer([.silence])
        let slow = try EMQClient(fake.url, options: trusting(EMQClient.Options()))
        let id = try await client.enqueue(1, to: "q").id
        let calls: [Task<Void, any Error>] = [
            Task { [client] in _ = try await client.result(of: id, timeout: .seconds(3600)) },
            Task { _ = try await slow.stats(of: "q") },
            Task { try await slow.purge("q") },
            Task { for try await _ in slow.events(of: ["/queues/"]) {} },
        ]
        try await soon("the calls") {
            let waiters = try await client.allStats().server?.waiters
            return fake.requests.count == 3 && waiters == 1 ? true : nil
        }
        for call in calls { call.cancel() }
        for call in calls { await #expect(throws: CancellationError.self) { try await call.value } }
        try await client.ack(#require(try await client.wait(for: "q").first))
    }

    @Test func aClosedClientGivesBackWhatWasOnItsWay() async throws {
        for round in 0..<20 {
            let other = try world.other()
            let waits = (0..<4).map { _ in Task { try await other.wait(for: "q", timeout: .seconds(60)) } }
            try await world.waits(for: "q", count: 4)
            async let added = client.enqueue([NewTask(round), NewTask(round)], to: "q")
            await other.close()
            _ = try await added
            for wait in waits {
                switch await wait.result {
                case .success(let tasks): for task in tasks { try await client.ack(task) }
                case .failure(let error): #expect((error as? EMQError)?.kind == .closed)
                }
            }
            try await drain("q")
        }
    }
}

/// Runs the jobs of Swift tasks on a queue, and does something after a number of them.
private final class StepExecutor: TaskExecutor {
    private struct State {
        var count = 0
        var action: (@Sendable () -> Void)?
    }

    private let queue = DispatchQueue(label: "steps")
    private let limit: Int
    private let state = Locked(State())

    /// How many jobs have ended.
    var count: Int { state.with { $0.count } }

    init(limit: Int) {
        self.limit = limit
        // Jobs wait for the action.
        queue.suspend()
    }

    /// Sets what happens after so many jobs, and begins.
    func setAction(_ action: @escaping @Sendable () -> Void) {
        if limit == 0 { action() } else { state.with { $0.action = action } }
        queue.resume()
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        queue.async {
            unsafe job.runSynchronously(on: self.asUnownedTaskExecutor())
            let action = self.state.with { state in
                state.count += 1
                return state.count == self.limit ? state.action.take() : nil
            }
            action?()
        }
    }
}
