// Moving tasks that a request names.

import Foundation
import Testing

@Suite(.blocking) struct MovingTests {
    let server: Server

    init() throws { server = try Server() }

    private func move(_ ids: [String], to queue: String) throws -> Response {
        try server.post("/move/?to=\(queue)", "{\"ids\": [\(ids.map { "\"\($0)\"" }.joined(separator: ", "))]}")
    }

    private func ids(_ queue: String, _ state: String = "ready") throws -> [String] {
        try server.get("/peek/\(queue)?n=1000&state=\(state)").tasks.compactMap { $0?["id"] as? String }
    }

    @Test func namedTasksMoveToTheBackInTheirOrder() throws {
        let first = try server.enqueue("target")
        let numbers = try server.enqueueAll("q", [1, 2, 3])
        let delayed = try server.enqueue("other", #""delay": 60"#)
        let answer = try move([numbers[2], delayed, numbers[0]], to: "target")
        #expect(answer.body == #"{"moved":3,"missing":[]}"#)
        #expect(try ids("target") == [first, numbers[2], numbers[0]])
        #expect(try ids("target", "delayed") == [delayed])
        #expect(try ids("q") == [numbers[1]])
    }

    @Test func aDeadLetterBecomesAnOrdinaryTask() throws {
        try server.send("PUT", "/config/q", #"{"max_retries": 0, "dead_letter": "graves"}"#)
        let id = try server.enqueue("q")
        _ = try server.take("q")
        _ = try server.post("/nak/", "{\"ids\": [\"\(id)\"]}")
        #expect(try server.task(id)["origin"] as? String == "q")
        #expect(try move([id], to: "mended").object["moved"] as? Int == 1)
        let task = try server.task(id)
        #expect(task["queue"] as? String == "mended" && task["origin"] == nil && task["expires"] != nil)
    }

    @Test func whatCannotMoveIsMissingAndStays() throws {
        let held = try server.enqueue("q")
        _ = try server.take("q")
        let done = try server.enqueue("q", #""keep": 60"#)
        _ = try server.post("/ack/", "{\"ids\": [\"\(try #require(try server.take("q").first?["id"] as? String))\"]}")
        let there = try server.enqueue("target")
        let taken = try server.enqueue("q", #""key": "k""#)
        try server.enqueue("target", #""key": "k""#)
        let unknown = "AaH8ekX5cACuES467dOuXw"
        let all = [held, done, there, taken, unknown]
        let answer = try move(all, to: "target").object
        #expect(answer["moved"] as? Int == 0 && answer["missing"] as? [String] == all)
        #expect(try server.state(done) == "done" && server.task(taken)["queue"] as? String == "q")
    }

    @Test func aWorkerThatWaitsGetsWhatMoves() throws {
        let id = try server.enqueue("q")
        let waiter = try server.begin("POST", "/wait", #"{"queues": ["target"], "timeout": 60000}"#)
        #expect(try move([id], to: "target").status == 200)
        #expect(try waiter.response().tasks.first??["id"] as? String == id)
    }

    @Test func aWrongRequestMovesNothing() throws {
        let id = try server.enqueue("q")
        for path in ["/move/", "/move/?to=", "/move/?to=%01"] {
            #expect(try server.post(path, "{\"ids\": [\"\(id)\"]}").field == "to", "\(path)")
        }
        #expect(try server.post("/move/?to=r", "{\"ids\": [\"\(id)\", \"x\"]}").field == "ids[1]")
        let reserved = try server.post("/move/?to=httpqueue%2Fa", "{\"ids\": [\"\(id)\"]}")
        #expect(reserved.status == 403 && reserved.field == "ids[0]")
        #expect(try ids("q") == [id])
    }

    @Test func aTokenMovesOnlyBetweenItsQueues() throws {
        let all = TestToken("all", ["enqueue", "read"])
        let some = TestToken("some", ["manage"], queues: ["a", "b"])
        let file = try TokenFile([all, some])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try server.connect()
        var ids: [String] = []
        for queue in ["a", "c"] {
            let answer = try client.ask("POST", "/enqueue/\(queue)", "{}", all.bearer)
            ids.append(try #require(try answer.object["id"] as? String))
        }
        let body = "{\"ids\": [\"\(ids[0])\", \"\(ids[1])\"]}"
        let refused = try client.ask("POST", "/move/?to=c", body, some.bearer)
        #expect(refused.status == 403 && refused.field == "to")
        let answer = try client.ask("POST", "/move/?to=b", body, some.bearer)
        #expect(answer.body == "{\"moved\":1,\"missing\":[\"\(ids[1])\"]}")
    }
}
