// What the client does when a request fails: which requests it sends again, and that none is done twice.

import Bytes
import EMQClient
import Foundation
import Support
import Testing

@Suite(.byTurns, .timeLimit(.minutes(10))) struct RetryTests {
    private typealias Step = ScriptedServer.Step

    private let world: World
    /// Keeps the servers as long as the test.
    private let servers = Notes<ScriptedServer>()

    init() async throws { world = try await World() }

    /// A client whose requests go by the script. The real server gets what the script passes on.
    private func script(
        _ steps: [Step], _ options: EMQClient.Options = EMQClient.Options()
    ) throws -> (client: EMQClient, server: ScriptedServer) {
        let server = try ScriptedServer(steps, to: world.server)
        servers.add(server)
        return (try EMQClient(server.url, options: trusting(options)), server)
    }

    private static let truncated = Step.bytes("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

    // MARK: Broken connections

    @Test func aBrokenConnectionIsTriedAgain() async throws {
        let problems = Notes<EMQError>()
        let options = EMQClient.Options { if case .retrying(let error) = $0 { problems.add(error) } }
        let (client, server) = try script([.close, Self.truncated, .pass], options)
        #expect(try await client.stats(of: "q").ready == 0)
        #expect(server.requests.count == 3)
        #expect(problems.all.map(\.kind) == [.connection, .connection])
    }

    @Test func triesAreBounded() async throws {
        let (client, server) = try script([.close], EMQClient.Options(tries: 3))
        let error = await refusal { _ = try await client.stats(of: "q") }
        #expect(error?.kind == .connection && error?.request == "GET /stats/q")
        #expect(server.requests.count == 3)
    }

    @Test func aConnectionThatTheServerClosedWhileIdleIsReplaced() async throws {
        let (client, server) = try script([.pass])
        for count in 1...5 {
            try await client.enqueue(count, to: "q")
            server.closeConnections()
        }
        #expect(try await world.client.stats(of: "q").ready == 5)
        let (second, _) = try script([.passAndClose])
        for _ in 1...20 { try await second.enqueue(1, to: "p") }
        #expect(try await world.client.stats(of: "p").ready == 20)
    }

    // MARK: Refusals for now

    @Test(arguments: [429, 503])
    func aRefusalForNowIsTriedAgainAsTheServerAsks(_ status: Int) async throws {
        let body = problem(status == 429 ? "queue-full" : "stopping", status)
        let (client, server) = try script([.answer(status, body, fields: "Retry-After: 1\r\n"), .pass])
        let start = ContinuousClock.now
        #expect(try await client.enqueue(1, to: "q").existing == false)
        #expect(ContinuousClock.now - start >= .seconds(1))
        #expect(server.requests.count == 2)
    }

    @Test func aPauseThatIsTooLongIsLeftToTheProgram() async throws {
        let (client, server) = try script([.answer(429, problem("queue-full", 429), fields: "Retry-After: 3600\r\n")])
        let error = await refusal { try await client.enqueue(1, to: "q") }
        #expect(error?.type == .queueFull && error?.retryAfter == .seconds(3600) && server.requests.count == 1)
    }

    @Test func whatDoesNotPassIsNotTriedAgain() async throws {
        for (type, status) in [("library-missing", 503), ("invalid-field", 400), ("no-such-thing", 418)] {
            let (client, server) = try script([.answer(status, problem(type, status))])
            let error = await refusal { try await client.enqueue(1, to: "q") }
            #expect(error?.type?.description == type && error?.status == status && error?.kind == .refused)
            #expect(error?.detail == "detail of \(type)" && error?.title == type)
            #expect(server.requests.count == 1)
        }
    }

    @Test func aQueueThatIsFullGetsTheTaskWhenThereIsRoom() async throws {
        let client = try world.other(EMQClient.Options(timeout: .seconds(100), tries: 1000))
        try await client.setConfiguration(RawConfiguration.length(1), of: "q")
        try await client.enqueue(1, to: "q")
        async let second = client.enqueue(2, to: "q")
        let task = try #require(try await client.wait(for: "q").first)
        try await client.ack(task)
        #expect(try await !second.existing)
        let impatient = try world.other(EMQClient.Options(tries: 1))
        #expect(await refusal { try await impatient.enqueue(3, to: "q") }?.type == .queueFull)
    }

    // MARK: Answers of others

    @Test func aProxysAnswerIsRecognized() async throws {
        for (status, count) in [(200, 1), (404, 1), (500, 1), (502, 2), (503, 2)] {
            let (client, server) = try script([.answer(status, "<html>")], EMQClient.Options(tries: 2))
            let error = await refusal { _ = try await client.stats(of: "q") }
            #expect(error?.kind == .unexpectedAnswer && error?.status == status, "\(status)")
            #expect(error?.detail.contains("URL") == true)
            #expect(server.requests.count == count, "\(status)")
        }
        for body in ["[]", "{}", "{\"id\":1}", "null", ""] {
            let (client, _) = try script([.answer(200, body)], EMQClient.Options(tries: 1))
            #expect(await refusal { try await client.enqueue(1, to: "q") }?.kind == .unexpectedAnswer, "\(body)")
            #expect(await refusal { _ = try await client.task("x") }?.kind == .unexpectedAnswer, "\(body)")
        }
        let (client, _) = try script([.bytes("SSH-2.0-OpenSSH_9.2\r\n")], EMQClient.Options(tries: 1))
        #expect(await refusal { _ = try await client.stats(of: "q") }?.kind == .unexpectedAnswer)
    }

    // MARK: Nothing is done twice

    @Test func anEnqueueIsNotDoneTwice() async throws {
        let gateway = Step.replace(502, "<html>")
        for (index, steps) in [[Step.lose, .pass], [.lose, .lose, .pass], [gateway, .pass], [.close, .pass]]
            .enumerated()
        {
            let (client, server) = try script(steps)
            let added = try await client.enqueue("x", to: "q\(index)")
            #expect(!added.existing && server.requests.count == steps.count)
            #expect(Set(server.requests.map(\.body)).count == 1)
            #expect(try await world.client.stats(of: "q\(index)").totals.enqueued == 1)
            #expect(try await world.client.task(added.id).queue == "q\(index)")
        }
    }

    @Test func manyTasksAreNotAddedTwice() async throws {
        let (client, _) = try script([.lose, .pass])
        let added = try await client.enqueue((0..<100).map { try NewTask($0) }, to: "q")
        #expect(added.allSatisfy { !$0.existing } && Set(added.map(\.id)).count == 100)
        #expect(try await world.client.stats(of: "q").totals.enqueued == 100)
        // The worker does not see the keys, and the order is that of the tasks.
        let tasks = try await world.client.wait(for: "q", max: 1000)
        #expect(tasks.map(\.id) == added.map(\.id) && tasks.allSatisfy { $0.key == nil })
    }

    @Test func anEnqueueThatMayNotBeRepeatedSaysThatItsOutcomeIsUnknown() async throws {
        let unknown = [
            TaskOptions(key: "k"), TaskOptions(key: "k", uniqueFor: .seconds(1)), TaskOptions(isRepeatable: false),
            TaskOptions(key: "k", onConflict: .reject, uniqueFor: .seconds(600)),
            TaskOptions(key: "k", onConflict: .replace, uniqueFor: .seconds(600)),
        ]
        for (index, options) in unknown.enumerated() {
            for lost in [Step.lose, .replace(502, "<html>")] {
                let (client, server) = try script([lost, .pass])
                let error = await refusal { try await client.enqueue("x", to: "q\(index)", options: options) }
                #expect(error?.kind == .outcomeUnknown && server.requests.count == 1, "\(options) \(error as Any)")
                let ids = try await world.client.wait(for: "q\(index)", max: 10).map(\.receipt)
                #expect(ids.count == 1)
                try await world.client.ack(ids: ids)
                // The key is free again.
                _ = try? await world.client.freeKey("k", in: "q\(index)")
            }
        }
        let (client, server) = try script([.lose, .pass])
        let safe = TaskOptions(key: "safe", uniqueFor: .seconds(600))
        let added = try await client.enqueue("x", to: "safe", options: safe)
        #expect(try await world.client.key("safe", in: "safe").id == added.id && server.requests.count == 2)
    }

    @Test func anEnqueueThatFailsForGoodSaysThatItsOutcomeIsUnknown() async throws {
        let (client, _) = try script([.lose], EMQClient.Options(tries: 2))
        #expect(await refusal { try await client.enqueue("x", to: "q") }?.kind == .outcomeUnknown)
        let (slow, _) = try script([.silence], EMQClient.Options(timeout: .milliseconds(100)))
        #expect(await refusal { try await slow.enqueue("x", to: "q") }?.kind == .outcomeUnknown)
        #expect(try await world.client.stats(of: "q").totals.enqueued == 1)
        // Nothing has arrived, so nothing is unknown.
        let nobody = try EMQClient("http://localhost:\(unusedPort())", options: EMQClient.Options(tries: 2))
        #expect(await refusal { try await nobody.enqueue("x", to: "q") }?.kind == .connection)
    }

    @Test func aSweepIsNotRepeated() async throws {
        let calls: [@Sendable (EMQClient) async throws -> Void] = [
            { try await $0.purge("q") }, { try await $0.kick("q") }, { try await $0.move("q", to: "p") },
            { try await $0.kick(ids: []) }, { try await $0.move(ids: [], to: "p") },
        ]
        for call in calls {
            let (client, server) = try script([.lose, .pass])
            #expect(await refusal { try await call(client) }?.kind == .outcomeUnknown)
            #expect(server.requests.count == 1)
        }
    }

    @Test func whatEndsTasksCountsAsDoneIfItsFirstTryMayHaveArrived() async throws {
        let ids = try await world.client.enqueue((0..<6).map { try NewTask($0) }, to: "q").map(\.id)
        let tasks = try await world.client.wait(for: "q", max: 6)
        let lose = { try script([.lose, .pass]).client }
        #expect(try await lose().ack(tasks[0]))
        #expect(try await lose().ack(tasks[1], result: 1))
        #expect(try await lose().nack(tasks[2], dead: true))
        #expect(try await lose().release(tasks[3]))
        try await lose().cancel(ids[4])
        // Without a receipt, a repetition could end the next dispatch.
        #expect(await refusal { try await lose().ack(ids: [ids[5]]) }?.kind == .outcomeUnknown)
        let totals = try await world.client.stats(of: "q").totals
        #expect(totals.acked == 3 && totals.died == 1 && totals.released == 1 && totals.cancelled == 1)
        // Of a request that was refused, nothing has arrived.
        let (busy, _) = try script([.answer(503, problem("stopping", 503)), .pass])
        #expect(try await !busy.ack(tasks[0]))
    }

    @Test func aRepeatedWaitWaitsForWhatIsLeft() async throws {
        let (client, server) = try script([.close, .close, .pass])
        #expect(try await client.wait(for: "q", timeout: .milliseconds(300)).isEmpty)
        let times = server.requests.compactMap { request in
            request.body.firstMatch(of: /"timeout":([0-9]+)/).flatMap { Int($0.1) }
        }
        #expect(times.count == 3 && times[0] <= 300 && times == times.sorted(by: >), "\(times)")
    }
}

/// Configurations as tests write them.
enum RawConfiguration {
    static func length(_ count: Int) -> QueueConfiguration {
        var configuration = QueueConfiguration()
        configuration.maxLength = .value(count)
        return configuration
    }
}
