// The fields of an enqueue, through real sockets: batches, delays, priorities, keys, metadata.

import Foundation
import Support
import Testing

@Suite(.blocking) struct EnqueueTests {
    let server: Server

    init() throws { server = try Server() }

    @Test func aBatchIsAddedInItsOrder() throws {
        let ids = try server.enqueueAll("q", Array(0..<10_000))
        #expect(Set(ids).count == 10_000)
        #expect(try server.takeContents("q") == Array(0..<1000))
        #expect(try server.get("/stats/q").object["ready"] as? Int == 9000)
    }

    @Test(arguments: [
        (#"[{"content": 1}, {"content": 2, "retyr": 1}]"#, 400, "[1].retyr"),
        (#"[{"content": 1}, {"retry": -1}]"#, 400, "[1].retry"), (#"[{"content": 1}, 7]"#, 400, "[1]"),
        (#"[{"content": 1}, {"content": 1, "backoff": {"min": 2, "max": 1}}]"#, 400, "[1].backoff.max"),
        (#"[{"content": 1, "key": "k"}, {"content": 2, "key": "k", "on_conflict": "reject"}]"#, 409, "[1].key"),
    ])
    func aBatchIsAddedWholeOrNotAtAll(body: String, status: Int, field: String) throws {
        let answer = try server.post("/enqueue/q", body)
        #expect(answer.status == status)
        #expect(answer.field == field)
        #expect(try server.get("/queues").body == "[]")
    }

    @Test(arguments: [
        (#"{"content":null}"#, "null"), (#"{"c\u006fntent":1}"#, "1"), (#"{"content":"a\u0000b"}"#, #""a\u0000b""#),
        (#"{ "content" : [1, {}] }"#, "[1, {}]"), ("{}", "null"), ("null", "null"),
    ])
    func aTaskMayBeOnlyItsContent(body: String, content: String) throws {
        #expect(try server.post("/enqueue/q", body).status == 200)
        #expect(try server.get("/peek/q").body.contains("\"content\":\(content),"))
    }

    @Test func aBatchHasFromOneToTenThousandTasks() throws {
        #expect(try server.post("/enqueue/q", "[]").status == 400)
        let tooMany = "[" + Array(repeating: #"{"content":1}"#, count: 10_001).joined(separator: ",") + "]"
        #expect(try server.post("/enqueue/q", tooMany).status == 400)
        #expect(try server.get("/queues").body == "[]")
    }

    @Test func aDelayedTaskIsDispatchedAtItsTime() throws {
        let start = Date().timeIntervalSince1970
        let id = try server.enqueue("q", #""content": 1, "delay": 3000, "expiry": 60"#)
        let eta = try server.enqueue("q", "\"content\": 2, \"eta\": \(start + 2000)")
        try server.enqueue("q", #""content": 3, "eta": 12345"#)
        let task = try server.task(id)
        #expect(task["state"] as? String == "delayed")
        let due = try #require(task["due"] as? Double)
        #expect(try abs(#require(task["enqueued"] as? Double) + 3000 - due) < 0.001)
        #expect(try abs(#require(task["expires"] as? Double) - due - 60) < 0.001)
        #expect(try server.get("/peek/q?state=delayed&n=9").tasks.map { $0?["id"] as? String } == [id, eta])
        #expect(try server.takeContents("q") == [3])
        // In one request, so that the second is due first even on a slow machine.
        let begin = ContinuousClock.now
        let soon = Date().timeIntervalSince1970 + 0.2
        try server.post("/enqueue/soon", "[{\"content\": 1, \"delay\": 0.3}, {\"content\": 2, \"eta\": \(soon)}]")
        #expect(try server.takeContents("soon", 1, timeout: 600_000) == [2])
        #expect(try server.takeContents("soon", 1, timeout: 600_000) == [1])
        #expect(begin.duration(to: .now) >= .milliseconds(299))
    }

    @Test func higherPrioritiesAreDispatchedFirst() throws {
        for (content, priority) in [(1, 0), (2, -128), (3, 127), (4, 5), (5, 0), (6, 127)] {
            try server.enqueue("q", "\"content\": \(content), \"priority\": \(priority)")
        }
        #expect(try server.get("/peek/q?n=9").tasks.map { $0?["content"] as? Int } == [3, 6, 4, 1, 5, 2])
        #expect(try server.takeContents("q") == [3, 6, 4, 1, 5, 2])
    }

    @Test func aKeyBelongsToOneUnfinishedTask() throws {
        let first = try server.post("/enqueue/q", #"{"content": 1, "key": "k"}"#)
        let id = try #require(try first.object["id"] as? String)
        #expect(try first.object["existing"] == nil)
        let second = try server.post("/enqueue/q", #"{"content": 2, "key": "k"}"#)
        #expect(second.body == "{\"id\":\"\(id)\",\"existing\":true}")
        let rejected = try server.post("/enqueue/q", #"{"content": 2, "key": "k", "on_conflict": "reject"}"#)
        #expect(rejected.status == 409)
        #expect(rejected.field == "key")
        #expect(try server.post("/enqueue/other", #"{"content": 2, "key": "k"}"#).object["existing"] == nil)
        #expect(try server.task(id)["key"] as? String == "k")
        let replaced = try server.post(
            "/enqueue/q", #"{"content": 3, "key": "k", "on_conflict": "replace", "priority": 2}"#)
        #expect(replaced.body == second.body)
        #expect(try server.takeContents("q") == [3])
        #expect(try server.post("/ack", "{\"ids\": [\"\(id)\"]}").body == #"{"acked":1,"missing":[]}"#)
        #expect(try server.post("/enqueue/q", #"{"content": 4, "key": "k"}"#).object["existing"] == nil)
    }

    @Test func aBatchNamesExistingTasks() throws {
        let id = try server.enqueue("q", #""content": 1, "key": "b""#)
        let answer = try server.post(
            "/enqueue/q",
            #"[{"content": 1, "key": "a"}, {"content": 2, "key": "b"}, {"content": 3}, {"content": 4, "key": "a"}]"#)
        let ids = try #require(try answer.object["ids"] as? [String])
        #expect(try answer.object["existing"] as? [Int] == [1, 3])
        #expect(ids[1] == id && ids[3] == ids[0])
    }

    @Test func aUniqueKeyOutlivesItsTask() throws {
        let id = try server.enqueue("q", #""content": 1, "key": "k", "unique_for": 3600"#)
        _ = try server.take("q")
        try server.post("/ack", "{\"ids\": [\"\(id)\"]}")
        #expect(try server.get("/task/\(id)").status == 404)
        for conflict in ["keep", "replace"] {
            let again = try server.post(
                "/enqueue/q", "{\"content\": 2, \"key\": \"k\", \"on_conflict\": \"\(conflict)\"}")
            #expect(again.body == "{\"id\":\"\(id)\",\"existing\":true}")
        }
        #expect(try server.get("/queues").body == "[]")
    }

    @Test func metadataIsShownWithTheTask() throws {
        let id = try server.enqueue("q", #""content": 1, "metadata": {"trace" : "\u00e4"}"#)
        #expect(try server.get("/peek/q").body.contains(#""metadata":{"trace" : "\u00e4"}"#))
        #expect(try server.task(id)["metadata"] as? [String: String] == ["trace": "ä"])
        #expect(try server.take("q")[0]["metadata"] as? [String: String] == ["trace": "ä"])
    }

    @Test func nullMeansUnsetOrNever() throws {
        let id = try server.enqueue(
            "q", #""content": null, "expiry": null, "delay": null, "eta": null, "priority": null, "key": null"#)
        let task = try server.task(id)
        #expect(task["content"] is NSNull)
        #expect(task["expires"] == nil)
        #expect(task["state"] as? String == "ready")
    }

    @Test(arguments: [
        (#""delay": "1""#, "delay"), (#""delay": -1"#, "delay"), (#""delay": 1, "eta": 5"#, "eta"),
        (#""eta": 5, "delay": 1"#, "eta"), (#""eta": -5"#, "eta"), (#""eta": 1e300"#, "eta"),
        (#""priority": 128"#, "priority"), (#""priority": 1.5"#, "priority"), (#""priority": "1""#, "priority"),
        (#""max_retries": -1"#, "max_retries"), (#""max_retries": true"#, "max_retries"),
        (#""backoff": "1""#, "backoff"), (#""backoff": -1"#, "backoff"), (#""backoff": {}"#, "backoff.min"),
        (#""backoff": {"min": 1, "mux": 1}"#, "backoff.mux"),
        (#""backoff": {"min": 1, "jitter": 1.5}"#, "backoff.jitter"),
        (#""backoff": {"min": 1, "doublings": -1}"#, "backoff.doublings"), (#""key": 1"#, "key"),
        (#""key": """#, "key"),
        (#""key": "\#(String(repeating: "k", count: 256))""#, "key"), (#""on_conflict": "keep""#, "on_conflict"),
        (#""key": "k", "on_conflict": "kep""#, "on_conflict"), (#""unique_for": 1"#, "unique_for"),
        (#""key": "k", "unique_for": 0"#, "unique_for"), (#""keep": -1"#, "keep"), (#""metadata": "x""#, "metadata"),
        (#""metadata": {"a": 1}"#, "metadata.a"),
        (#""metadata": {"a": "\#(String(repeating: "x", count: 65_536))"}"#, "metadata"),
    ])
    func aWrongFieldIsNamedAndNothingIsAdded(json: String, field: String) throws {
        for (body, place) in [
            ("{\"content\": 1, \(json)}", ""), ("[{\"content\": 1}, {\"content\": 1, \(json)}]", "[1]."),
        ] {
            let answer = try server.post("/enqueue/q", body)
            #expect(answer.status == 400)
            #expect(answer.field == place + field)
        }
        #expect(try server.get("/queues").body == "[]")
    }

    @Test func largeTasksWaitWhileTooManyAnswersAreUnread() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--max-memory", "66M"])
        let content = "\"" + String(repeating: "x", count: 12_000_000) + "\""
        for _ in 0..<3 { try server.enqueue("large", "\"content\": \(content)") }
        try server.enqueue("small")
        // These clients do not read their answers. The kernel buffers some of them, but not all.
        var hoarders = try (0..<4).map { _ in try server.begin("GET", "/peek/large") }
        #expect(try server.get("/peek/large").status == 503)
        #expect(try server.post("/wait", #"{"queues": ["large", "small"]}"#).body.hasPrefix("[null,{"))
        #expect(try server.post("/wait", #"{"queues": ["large"], "max": 5}"#).body == "[]")
        for hoarder in hoarders { hoarder.resetOnClose() }
        hoarders = []
        _ = try eventually("the large answers to be gone") { try server.get("/peek/large").status == 200 ? true : nil }
        // There is no room for a second one beside it.
        #expect(try server.post("/wait", #"{"queues": ["large"], "max": 5}"#).tasks.count == 1)
        _ = try eventually("the others to be back") {
            try server.get("/stats/large").object["ready"] as? Int == 2 ? true : nil
        }
    }

    @Test func enqueuesBeyondTheMemoryAreRefusedAndWorkersGoOn() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--max-memory", "2M"])
        let content = "\"" + String(repeating: "x", count: 100_000) + "\""
        var ids: [String] = []
        var answer = try server.post("/enqueue/q", "{\"content\": \(content), \"keep\": 60}")
        while answer.status == 200, ids.count < 100 {
            ids.append(try #require(try answer.object["id"] as? String))
            answer = try server.post("/enqueue/q", "{\"content\": \(content)}")
        }
        #expect(answer.status == 503)
        #expect(answer.fields["retry-after"] != nil)
        #expect((10..<21).contains(ids.count))
        // The buffers in which bodies arrive count too, and differ in size: one or two more tasks may fit.
        var status = 200
        for _ in 0..<5 where status == 200 {
            status = try server.post("/enqueue/q", "[{\"content\": \(content)}]").status
        }
        #expect(status == 503)
        let memory = try #require(try server.get("/stats").object["memory"] as? [String: Int])
        #expect(try #require(memory["used"]) <= 2 << 20)
        while try server.post("/enqueue/q", #"{"content": "small"}"#).status == 200 {}
        #expect(try server.send("PUT", "/config/other", #"{"retry": 5}"#).status == 503)
        // Kept results need memory too; plain acknowledgements make room.
        // Each task that is taken keeps its worker's name, which takes a few hundred bytes, so only some are taken.
        #expect(try server.take("q", 40).count > ids.count)
        let result = "\"result\": \"" + String(repeating: "r", count: 5000) + "\""
        #expect(try server.post("/ack", "{\"ids\": [\"\(ids[0])\"], \(result)}").status == 503)
        #expect(try server.post("/ack", "{\"ids\": [\"\(ids[3])\"], \(result)}").body.contains("\"acked\":1"))
        #expect(
            try server.post("/nak", "{\"ids\": [\"\(ids[0])\"], \"error\": \"why\"}").body.contains("\"requeued\":1"))
        #expect(try server.post("/ack", "{\"ids\": [\"\(ids[1])\", \"\(ids[2])\"]}").body.contains("\"acked\":2"))
        // What was freed has room for this one and for the buffer in which it arrives.
        let smaller = "\"" + String(repeating: "x", count: 50_000) + "\""
        #expect(try server.post("/enqueue/q", "{\"content\": \(smaller)}").status == 200)
    }
}
