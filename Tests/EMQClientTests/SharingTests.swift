// What requests that take long leave for others, and what stopping and closing leave undone.

import Bytes
import EMQClient
import Support
import Testing

@Suite(.byTurns, .timeLimit(.minutes(10))) struct SharingTests {
    @Test func waitsAndStreamsLeaveAConnectionForShortRequests() async throws {
        let world = try await World()
        let client = try world.other(EMQClient.Options(connections: 8))
        // More waits than there are connections, some of which begin where short requests are exchanged.
        let waits = (0..<24).map { _ in Task { try await client.wait(for: "empty", timeout: .seconds(600)) } }
        try await soon("waits") { try await world.client.stats(of: "empty").waiters >= 5 ? true : nil }
        for round in 0..<40 {
            _ = try await client.stats(of: "q")
            let late = Task { try await client.wait(for: "empty", timeout: .seconds(600)) }
            _ = try await client.stats(of: "q\(round)")
            late.cancel()
            _ = await late.result
        }
        #expect(try await world.client.stats(of: "empty").waiters <= 7)
        for wait in waits { wait.cancel() }
        for wait in waits { await #expect(throws: CancellationError.self) { try await wait.value } }
    }

    @Test func streamsBeyondTheConnectionsAreRefused() async throws {
        let world = try await World()
        let client = try world.other(EMQClient.Options(connections: 2))
        var first: ServerEvents.Iterator? = client.events(of: ["/stats/q"]).makeAsyncIterator()
        #expect(try await first?.next()?.status == 200)
        let error = await refusal {
            var second = client.events(of: ["/stats/q"]).makeAsyncIterator()
            _ = try await second.next()
        }
        #expect(error?.kind == .connection)
        _ = try await client.stats(of: "q")
        first = nil
        try await soon("a free connection") {
            var third = client.events(of: ["/stats/q"]).makeAsyncIterator()
            return try? await third.next()
        }
    }

    @Test func deadConnectionsAreReplaced() async throws {
        let world = try await World()
        let server = try ScriptedServer([.pass], to: world.server)
        let client = try EMQClient(server.url, options: trusting(EMQClient.Options()))
        for round in 0..<4 {
            for _ in 0..<20 { _ = try await client.stats(of: "q") }
            server.closeConnections()
            #expect(server.connectionCount <= 4 * (round + 1))
        }
        #expect(server.requests.count >= 80)
    }

    @Test(arguments: [503, 429]) func aCancelledCallIsNotSentAgain(status: Int) async throws {
        let refusal = ScriptedServer.Step.answer(status, problem("recovering", status), fields: "Retry-After: 20\r\n")
        let server = try ScriptedServer([.answer(200, "[]"), refusal])
        let client = try EMQClient(server.url, options: trusting(EMQClient.Options()))
        // The first request opens the connection that the next ones are exchanged over.
        _ = try await client.wait(for: "q")
        for round in 2...20 {
            let call = Task { try await client.wait(for: "q") }
            // It may be cancelled while its own thread exchanges it, or later.
            while server.requests.count < round { await Task.yield() }
            call.cancel()
            await #expect(throws: CancellationError.self) { try await call.value }
        }
        #expect(server.requests.count == 20)
    }

    @Test func aReportThatPausesWhenItsWorkerStopsIsStillSent() async throws {
        let world = try await World()
        let id = try await world.client.enqueue("a", to: "q", options: TaskOptions(keep: .seconds(600))).id
        let refusal = ScriptedServer.Step.answer(503, problem("recovering", 503), fields: "Retry-After: 1\r\n")
        let server = try ScriptedServer([.pass, refusal, .pass], to: world.server)
        let problems = Notes<Bool>()
        let options = EMQClient.Options(onProblem: { problem in
            if case .retrying = problem { problems.add(true) }
        })
        let client = try EMQClient(server.url, options: trusting(options))
        let lone = Locked(false)
        let run = Task {
            // One task only, so that the second request is the report.
            try await client.worker("q") { _ in lone.with { $0 = true } }.run()
        }
        try await problems.reach(1)
        run.cancel()
        try await run.value
        #expect(lone.with { $0 })
        #expect(try await world.client.task(id).state == .done)
    }

    @Test func aWorkerOfAClosedClientStillStops() async throws {
        let world = try await World()
        try await world.client.enqueue("a", to: "q")
        let client = try world.other()
        let started = Notes<Int>()
        let run = Task {
            try await client.worker("q", grace: .milliseconds(500)) { task in
                started.add(task.attempt)
                try await Task.sleep(for: .seconds(3600))
            }.run()
        }
        try await started.reach(1)
        run.cancel()
        // The stop is on its way to the client's thread before the end of the client.
        _ = try await client.stats(of: "q")
        await client.close()
        _ = await run.result
        #expect(started.all == [1])
    }

    @Test func workThatIsInterruptedIsGivenBackWhateverItThrows() async throws {
        struct Interrupted: Error {}
        let world = try await World()
        let id = try await world.client.enqueue("a", to: "q").id
        let started = Notes<Int>()
        let run = Task { [client = world.client] in
            try await client.worker("q", grace: .zero) { task in
                started.add(task.attempt)
                do { try await Task.sleep(for: .seconds(3600)) } catch { throw Interrupted() }
            }.run()
        }
        try await started.reach(1)
        run.cancel()
        try await run.value
        let details = try await world.client.task(id)
        #expect(details.state == .ready && details.retries ?? 0 == 0 && details.error == nil)
    }

    @Test func whatAnIterationHoldsIsGivenBackAlsoIfTheClientCloses() async throws {
        let world = try await World()
        try await world.client.enqueue((0..<5).map { try NewTask($0) }, to: "q")
        for round in 0..<5 {
            let client = try world.other()
            for try await task in client.tasks("q", lease: .seconds(3600), prefetch: 5) {
                #expect(try await client.release(task))
                break
            }
            if round % 2 == 0 { await client.close() }
            try await soon("all tasks back") { try await world.client.stats(of: "q").ready == 5 ? true : nil }
        }
    }
}
