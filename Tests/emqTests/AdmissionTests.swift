// A server whose memory is used up: it refuses or truncates what would take more, and accepts what frees some.

import Foundation
import Support
import Testing

@Suite(.blocking) struct AdmissionTests {
    /// A server of 8 MB whose memory is used up; and the ids of the tasks in its queue `full`, the large ones first.
    private static func fullServer() throws -> (server: Server, client: Client, ids: [String]) {
        let server = try Server(["--addr", "127.0.0.1:0", "--max-memory", "8M"])
        let client = try server.connect()
        return (server, client, try fill(server, client))
    }

    /// Fills a server's memory: the queue `full` with large tasks, `small` with small ones.
    @discardableResult
    private static func fill(_ server: Server, _ client: Client) throws -> [String] {
        var ids: [String] = []
        var size = 1 << 20
        while size > 10_000 {
            let content = String(repeating: "x", count: size)
            let answer = try server.post("/enqueue/full", "{\"content\": \"\(content)\"}")
            if answer.status == 200 { ids.append(try #require(answer.object["id"] as? String)) } else { size /= 2 }
        }
        try top(client)
        return ids
    }

    /// Adds small tasks until there is no room for another.
    private static func top(_ client: Client) throws {
        for count in [1000, 100, 10, 1] {
            let tasks = [String](repeating: "{\"content\": 1}", count: count).joined(separator: ",")
            while try client.post("/enqueue/small", "[\(tasks)]").status == 200 {}
        }
    }

    /// Takes a large task. The answer may have to wait until earlier answers have been read.
    private static func takeLarge(_ server: Server) throws {
        _ = try eventually("a large task") { try server.take("full", 1).first }
    }

    private static func list(_ ids: [String]) -> String {
        ids.map { "\"\($0)\"" }.joined(separator: ",")
    }

    @Test func requestsThatFreeMemoryAreNeverRefusedForLackOfIt() throws {
        let (server, client, ids) = try Self.fullServer()
        #expect(try server.take("full", 1).count == 1)
        #expect(try client.post("/nak", "{\"ids\": [\"\(ids[0])\"], \"dead\": true}").object["dead"] as? Int == 1)
        #expect(try server.send("DELETE", "/task/\(ids[0])").status == 204)
        // More than 5000 small tasks take its place.
        try Self.top(client)
        let taken = try (0..<4).flatMap { _ in try server.take("small", 1000) }.compactMap { $0["id"] as? String }
        #expect(taken.count == 4000)
        // The bodies of these requests are over 64 KiB.
        let touches = try client.post("/touch", "{\"ids\": [\(Self.list(Array(taken.prefix(3000))))]}")
        #expect(try touches.object["touched"] as? Int == 3000)
        try Self.top(client)
        #expect(try client.post("/ack", "{\"ids\": [\(Self.list(taken))]}").object["acked"] as? Int == 4000)
        try Self.top(client)
        #expect(try server.send("DELETE", "/config/full").status == 204)
        // An operator can still pause, peek and purge.
        #expect(try client.post("/pause/full", "").status == 200)
        #expect(try client.post("/resume/full", "").status == 200)
        #expect(try client.get("/peek/small").tasks.count == 1)
        #expect(try client.post("/purge/full", "").object["purged"] as? Int == ids.count - 1)
        #expect(try client.post("/enqueue/full", "{\"content\": 1}").status == 200)
    }

    @Test func aNakSucceedsWithATruncatedErrorIfThereIsNoRoom() throws {
        let (server, client, ids) = try Self.fullServer()
        let error = String(repeating: "é", count: 5000)
        for _ in 0..<4 { try Self.takeLarge(server) }
        #expect(try client.post("/ack", "{\"ids\": [\"\(ids[3])\"]}").object["acked"] as? Int == 1)
        let json = "{\"ids\": [\(Self.list(Array(ids.prefix(3))))], \"error\": \"\(error)\"}"
        #expect(try client.post("/nak", json).object["requeued"] as? Int == 3)
        #expect(try server.task(ids[0])["error"] as? String == error)
        try Self.fill(server, client)
        let more = Array(ids[4..<6])
        for _ in 0..<6 { try Self.takeLarge(server) }
        let cut = try client.post("/nak", "{\"ids\": [\(Self.list(more))], \"error\": \"\(error)\"}")
        #expect(try cut.object["requeued"] as? Int == 2)
        for id in more {
            let kept = try server.task(id)["error"] as? String ?? ""
            #expect(kept.utf8.count <= 200 && error.hasPrefix(kept))
        }
        let progress = "{\"ids\": [\"\(ids[6])\"], \"progress\": \"\(error)\"}"
        #expect(try client.post("/touch", progress).status == 503)
        #expect(try client.post("/touch", "{\"ids\": [\"\(ids[6])\"]}").object["touched"] as? Int == 1)
    }

    /// The log gives way before the error.
    @Test func aNakSucceedsWithATruncatedLogIfThereIsNoRoom() throws {
        let (server, client, ids) = try Self.fullServer()
        let (error, log) = ("no", String(repeating: "é", count: 30_000))
        for _ in 0..<6 { try Self.takeLarge(server) }
        // The records of these tasks are not kept, so nothing is refused.
        let ack = "{\"ids\": [\"\(ids[0])\"], \"result\": 1, \"log\": \"\(log)\"}"
        #expect(try client.post("/ack", ack).object["acked"] as? Int == 1)
        func nak(_ id: String) throws -> (error: String, log: String) {
            let nak = "{\"ids\": [\"\(id)\"], \"error\": \"\(error)\", \"log\": \"\(log)\"}"
            #expect(try client.post("/nak", nak).object["requeued"] as? Int == 1)
            let task = try server.task(id)
            return (task["error"] as? String ?? "", task["log"] as? String ?? "")
        }
        #expect(try nak(ids[1]) == (error, log))
        try Self.fill(server, client)
        let kept = try nak(ids[2])
        #expect(kept.log.utf8.count <= 200 && log.hasSuffix(kept.log))
        #expect(kept.error == error || kept == ("", ""))
    }

    @Test func waitsWithManyNamesAreRefusedAndWorkersWaitsAreNot() throws {
        let (server, client, _) = try Self.fullServer()
        let many = (0..<999).map { "\"new-\($0)\"" }.joined(separator: ",")
        for more in ["", ", \"max\": 1"] {
            let refusal = try client.post("/wait", "{\"queues\": [\(many)], \"timeout\": 60000\(more)}")
            #expect(refusal.status == 503 && refusal.fields["retry-after"] != nil)
            #expect(try (refusal.object["detail"] as? String)?.contains("memory") == true)
        }
        // A wait that finds a task does not wait.
        let found = try client.post("/wait", "{\"queues\": [\(many), \"small\"], \"timeout\": 60000, \"max\": 1}")
        let id = try #require(try found.tasks.first??["id"] as? String)
        // A wait that acknowledges does so, and ends.
        let acking = try client.post(
            "/wait", "{\"queues\": [\(many)], \"timeout\": 60000, \"max\": 1, \"ack\": [\"\(id)\"]}")
        #expect(acking.status == 200 && acking.body == "[]" && acking.fields["emq-missing"] == nil)
        try Self.fill(server, client)
        let worker = try server.begin("POST", "/wait", #"{"queues": ["a", "b", "c"], "max": 1, "timeout": 60000}"#)
        #expect(try server.get("/stats/a").object["waiters"] as? Int == 1)
        // The small tasks take less than the worker's connection does.
        #expect(try client.post("/purge/full", "").status == 200)
        #expect(try client.post("/enqueue/b", #"{"content": 1}"#).status == 200)
        #expect(try worker.response().tasks.count == 1)
    }

    /// Unread answers of all kinds stay within their limit of memory.
    @Test func answersStayWithinTheirLimit() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--max-memory", "16M"])
        let content = String(repeating: "x", count: 60_000)
        while try server.post("/enqueue/q", "{\"content\": \"\(content)\"}").status == 200 {}
        let ready = try #require(try server.get("/stats/q").object["ready"] as? Int)
        // A list that is too long is refused, but a single task is always shown.
        #expect(try server.get("/peek/q?n=1000").status == 503)
        #expect(try server.get("/peek/q?n=20").tasks.count == 20)
        // A wait gets the tasks that there is room for; the others stay.
        let taken = try server.post("/wait", #"{"queues": ["q"], "max": 1000}"#).tasks.count
        #expect(taken > 20 && taken * 60_000 <= 4 << 20)
        let rest = try eventually("the others to be back") {
            let count = try server.get("/stats/q").object["ready"] as? Int
            return count == ready - taken ? count : nil
        }
        #expect(rest > 0)
    }

    /// A move to a new queue is refused too.
    @Test func namesOfTargetQueuesTakeMemory() throws {
        let (server, client, _) = try Self.fullServer()
        #expect(try client.post("/move/small?to=unknown&n=1", "").status == 503)
        #expect(try client.post("/move/small?to=full&n=1", "").object["moved"] as? Int == 1)
        withExtendedLifetime(server) {}
    }

    @Test func namesTakeMemoryToo() throws {
        let (server, client, _) = try Self.fullServer()
        #expect(try client.post("/pause/small", "").status == 200)
        #expect(try client.post("/pause/unknown", "").status == 503)
        #expect(try client.post("/resume/unknown", "").status == 200)
        #expect(try server.send("PUT", "/config/small", #"{"retry": 5}"#).status == 503)
        #expect(try client.get("/queues").status == 200)
        #expect(try (client.get("/stats").object["queues"] as? [String: Any])?["unknown"] == nil)
    }

    @Test func statisticsAndSmallAnswersAreShownWhileAnswersAreUnread() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--max-memory", "66M"])
        let content = "\"" + String(repeating: "x", count: 12_000_000) + "\""
        for _ in 0..<3 { try server.enqueue("large", "\"content\": \(content)") }
        let id = try server.enqueue("small")
        // The kernel buffers some of these answers, but not all.
        let hoarders = try (0..<4).map { _ in try server.begin("GET", "/peek/large") }
        #expect(try server.get("/peek/large").status == 503)
        #expect(try server.get("/peek/large?n=3").status == 503)
        #expect(try server.get("/peek/small").tasks.count == 1)
        #expect(try server.get("/task/\(id)").status == 200)
        #expect(try server.get("/queues").body == #"["large","small"]"#)
        #expect(try (server.get("/stats").object["queues"] as? [String: Any])?.count == 2)
        #expect(try server.send("DELETE", "/task/\(id)").status == 204)
        for hoarder in hoarders { hoarder.resetOnClose() }
    }
}
