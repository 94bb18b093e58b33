// Answers that no emq server sends: they fail a call, and never stop the program.

import EMQClient
import Support
import Testing

@Suite(.byTurns, .timeLimit(.minutes(10))) struct StrangeAnswerTests {
    private func client(_ body: String) throws -> (ScriptedServer, EMQClient) {
        let server = try ScriptedServer([.answer(200, body)])
        return (server, try EMQClient(server.url, options: trusting(EMQClient.Options())))
    }

    @Test(arguments: ["[1]", "[1,2,3]", "1", "\"a\"", "null", "{\"a\":1}"])
    func metadataThatIsNoObjectOfStringsIsLeftOut(metadata: String) async throws {
        let (server, client) = try client(#"[{"id":"a","receipt":"a@1","queue":"q","metadata":\#(metadata)}]"#)
        let tasks = try await client.wait(for: "q")
        #expect(tasks.map(\.id) == ["a"] && tasks[0].metadata.isEmpty)
        #expect(server.requests.count == 1)
    }

    @Test(arguments: ["1e300", "-1e300", "1e18", "1e400"])
    func durationsThatAreTooLongAreNoAnswer(duration: String) async throws {
        let (server, client) = try client(#"{"retry":\#(duration)}"#)
        let error = await refusal { _ = try await client.configuration(of: "q") }
        #expect(error?.kind == .unexpectedAnswer)
        #expect(server.requests.count == 1)
    }

    @Test func durationsOfAProgramMayHaveAnyLength() async throws {
        let (server, client) = try client("[]")
        let long = Duration.seconds(Int64.max) + .seconds(Int64.max)
        for duration in [long, .zero - long, .seconds(Int64.min), .nanoseconds(1)] {
            #expect(try await client.wait(for: "q", lease: duration).isEmpty)
        }
        #expect(server.requests.count == 4)
        #expect(server.requests[3].body.contains(#""retry":0.001"#))
    }

    @Test func aVeryLongTimeoutIsNoReasonToRefuseTasks() async throws {
        let world = try await World()
        let client = try world.other(EMQClient.Options(timeout: .seconds(Int64.max)))
        #expect(try await !client.enqueue("a", to: "q").existing)
    }

    @Test func capitalsInNamesOfDataStay() async throws {
        let world = try await World()
        let client = world.client
        let names = ["orderID": "7", "Case": "A", "plain": "b", "snake_case": "c"]
        let id = try await client.enqueue("a", to: "Mail", options: TaskOptions(metadata: names)).id
        #expect(try await client.task(id).metadata == names)
        #expect(try await client.allStats().queues?["Mail"]?.ready == 1)
        #expect(try await client.wait(for: "Mail").first?.metadata == names)
        let (scripted, other) = try self.client(#"{"push":{"headers":{"X-Case":"***"}}}"#)
        var configuration = QueueConfiguration()
        configuration.push = .init(url: "http://localhost:9/")
        configuration.push?.headers = ["X-Case": "a"]
        let answer = try await other.setConfiguration(configuration, of: "q")
        #expect(answer.push?.headers == ["X-Case": "***"])
        #expect(scripted.requests.first?.body.contains(#""X-Case":"a""#) == true)
    }

    @Test func aURLWithAFragmentIsRefused() {
        #expect(throws: EMQError.self) { try EMQClient("http://localhost:8080#x") }
    }
}
