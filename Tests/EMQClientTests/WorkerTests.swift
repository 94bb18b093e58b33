// Workers: what becomes of tasks, how many run at once, and how they stop.

import Bytes
import EMQClient
import Support
import Testing

@Suite(.byTurns, .timeLimit(.minutes(10))) struct WorkerTests {
    private struct Flaw: Error, CustomStringConvertible {
        let description: String
    }

    private let world: World
    private var client: EMQClient { world.client }

    init() async throws { world = try await World() }

    private func add(_ count: Int, to queue: String = "q") async throws -> [String] {
        let options = TaskOptions(maxRetries: 1, keep: .seconds(600))
        return try await client.enqueue((0..<count).map { try NewTask($0, options: options) }, to: queue).map(\.id)
    }

    private func ends(of ids: [String]) async throws -> [TaskOutcome] {
        try await ids.asyncMap { try await client.result(of: $0, timeout: .seconds(100)) }
    }

    @Test func tasksEndAsTheirWorkSays() async throws {
        let ids = try await add(4)
        let worker = client.worker("q", concurrency: 2, worker: "w") { task in
            switch try task.decode(Int.self) {
            case 0: return [task.attempt, 7]
            case 1: throw Flaw(description: String(repeating: "ä", count: 9000))
            case 2 where task.attempt == 1: throw Retry("once more")
            case 3: throw Dead("no use")
            default: return [task.attempt]
            }
        }
        let run = Task { try await worker.run() }
        let ends = try await ends(of: ids)
        #expect(ends.map(\.state) == [.done, .dead, .done, .dead])
        #expect(try ends[0].decode([Int].self) == [1, 7] && ends[2].decode([Int].self) == [2])
        #expect(try await client.task(ids[1]).error == String(repeating: "ä", count: 5000))
        #expect(try await client.task(ids[1]).attempts?.map(\.worker) == ["w", "w"])
        #expect(try await client.task(ids[3]).error == "no use")
        run.cancel()
        // A worker that was told to stop has not failed; a service's `run` returns.
        try await run.value
    }

    @Test func aResultThatCannotBeKeptFailsTheAttempt() async throws {
        let ids = try await add(2)
        let deep = try RawJSON(String(repeating: "[", count: 512) + String(repeating: "]", count: 512))
        let run = Task { [client] in
            try await client.work("q") { task -> RawJSON in
                if try task.decode(Int.self) == 0 { return deep }
                return try RawJSON(encoding: Double.infinity)
            }
        }
        #expect(try await ends(of: ids).map(\.state) == [.dead, .dead])
        #expect(try await client.task(ids[0]).error?.contains("result") == true)
        #expect(try await client.task(ids[1]).error?.contains("inf") == true)
        run.cancel()
        await #expect(throws: CancellationError.self) { try await run.value }
    }

    @Test func soManyTasksRunAtOnceAndNoMore() async throws {
        let ids = try await add(60)
        let counts = Locked((now: 0, most: 0))
        let gate = Gate()
        let run = Task { [client] in
            try await client.work("q", concurrency: 6) { _ in
                let isFull = counts.with { counts in
                    counts.now += 1
                    counts.most = max(counts.most, counts.now)
                    return counts.now == 6
                }
                if isFull { gate.open() }
                try await gate.pass()
                counts.with { $0.now -= 1 }
            }
        }
        #expect(try await ends(of: ids).allSatisfy { $0.state == .done })
        #expect(counts.with { $0.most } == 6)
        #expect(try await client.stats(of: "q").totals.dispatched == 60)
        run.cancel()
        _ = await run.result
    }

    @Test func aWorkerThatStopsEndsItsWork() async throws {
        let ids = try await add(5)
        let (started, gate) = (Notes<Int>(), Gate())
        let run = Task { [client] in
            try await client.work("q", concurrency: 2) { task in
                started.add(try task.decode())
                try await gate.pass()
            }
        }
        try await started.reach(2)
        run.cancel()
        // Work goes on, and nothing new begins.
        #expect(try await client.stats(of: "q").dispatched == 2)
        gate.open()
        await #expect(throws: CancellationError.self) { try await run.value }
        #expect(started.all.sorted() == [0, 1])
        let states = try await ids.asyncMap { try await client.task($0).state }
        #expect(states == [.done, .done, .ready, .ready, .ready])
        #expect(try await client.stats(of: "q").waiters == 0)
    }

    @Test func workThatTakesLongerThanTheGraceIsGivenBack() async throws {
        let ids = try await add(2)
        let started = Notes<Int>()
        let run = Task { [client] in
            try await client.worker("q", concurrency: 2, grace: .zero) { task in
                started.add(task.attempt)
                try await Task.sleep(for: .seconds(3600))
            }.run()
        }
        try await started.reach(2)
        run.cancel()
        try await run.value
        for id in ids {
            let task = try await client.task(id)
            #expect(task.state == .ready && task.retries == 0 && task.attempts?.first?.outcome == "released")
        }
    }

    @Test func leasesAreExtendedAndALostOneCancelsItsWork() async throws {
        let ids = try await add(2)
        let lost = Notes<String>()
        let worker = try world.other(EMQClient.Options { if case .leaseLost(let receipt) = $0 { lost.add(receipt) } })
        let (started, cancelled, gate) = (Notes<EMQTask>(), Notes<Int>(), Gate())
        let run = Task {
            try await worker.work("q", concurrency: 2, lease: .seconds(9)) { task in
                started.add(task)
                do { try await gate.pass() } catch {
                    cancelled.add(try task.decode())
                    throw error
                }
            }
        }
        let first = try #require(try await started.reach(2).first { $0.id == ids[0] })
        let end = try #require(try await client.task(ids[1]).leaseEnd)
        try await client.cancel(ids[0])
        try await cancelled.reach(1)
        #expect(cancelled.all == [0] && lost.all == [first.receipt])
        try await soon("an extension") { try await client.task(ids[1]).leaseEnd ?? 0 > end + 0.5 ? true : nil }
        gate.open()
        #expect(try await ends(of: [ids[1]]).map(\.state) == [.done])
        let totals = try await client.stats(of: "q").totals
        #expect(totals.acked == 1 && totals.nacked == 0 && totals.cancelled == 1)
        run.cancel()
        _ = await run.result
    }

    @Test func leasesAreExtendedThoughAllConnectionsWait() async throws {
        let id = try await client.enqueue(1, to: "busy").id
        let small = try world.other(EMQClient.Options(connections: 2))
        let waits = (0..<10).map { _ in Task { try await small.wait(for: "none", timeout: .seconds(100)) } }
        let streams = (0..<3).map { _ in Task { for try await _ in small.events(of: ["/queues/"]) {} } }
        try await world.waits(for: "none")
        // Another client takes the task, and last: nobody extends its lease before the work begins.
        let task = try #require(try await client.wait(for: "busy", lease: .seconds(9)).first)
        try await small.process(task) { [client] _ in
            let end = try #require(try await client.task(id).leaseEnd)
            try await soon("an extension") { try await client.task(id).leaseEnd ?? 0 > end + 1 ? true : nil }
        }
        #expect(try await client.stats(of: "busy").totals.acked == 1)
        for wait in waits { wait.cancel() }
        for stream in streams { stream.cancel() }
        for wait in waits { await #expect(throws: CancellationError.self) { try await wait.value } }
    }

    @Test func closingTheClientEndsItsWorkers() async throws {
        let other = try world.other()
        let ids = try await add(1)
        let (started, gate) = (Notes<Int>(), Gate())
        let run = Task {
            try await other.work("q", concurrency: 2) { task in
                started.add(task.attempt)
                try await gate.pass()
            }
        }
        try await started.reach(1)
        try await world.waits(for: "q")
        await other.close()
        gate.open()
        #expect(await refusal { try await run.value }?.kind == .closed)
        #expect(try await client.stats(of: "q").waiters == 0)
        #expect(try await client.task(ids[0]).state == .dispatched)
    }

    @Test func aWorkerGoesOnWhenTheServerIsBack() async throws {
        let problems = Notes<EMQError>()
        let server = try ScriptedServer(
            [.close, .answer(503, problem("recovering", 503)), .answer(502, "<html>"), .pass], to: world.server)
        let options = EMQClient.Options { if case .notWorking(let error) = $0 { problems.add(error) } }
        let other = try EMQClient(server.url, options: trusting(options))
        let ids = try await add(3)
        let run = Task { try await other.work(["none", "q"], concurrency: 3) { task in task.attempt } }
        #expect(try await ends(of: ids).allSatisfy { $0.state == .done })
        #expect(problems.all.count == 3)
        run.cancel()
        _ = await run.result
    }

    @Test func aReportIsTriedAgain() async throws {
        let ids = try await add(2)
        // The waits pass, and so do the second tries of the reports.
        let server = try ScriptedServer([.pass, .lose, .pass, .pass, .close, .pass], to: world.server)
        let other = try EMQClient(server.url, options: trusting(EMQClient.Options(tries: 1)))
        let done = Notes<Int>()
        for try await task in other.tasks("q") {
            try await other.process(task) { task in done.add(try task.decode()) }
            if done.all.count == 2 { break }
        }
        #expect(try await ends(of: ids).allSatisfy { $0.state == .done } && done.all == [0, 1])
        #expect(try await client.stats(of: "q").totals.dispatched == 2)
    }
}
