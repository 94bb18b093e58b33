// An operator's requests about whole queues, through real sockets.

import Foundation
import Testing

@Suite(.blocking) struct QueueControlTests {
    let server: Server

    init() throws { server = try Server() }

    private func contents(_ queue: String, _ state: String = "ready") throws -> [Int] {
        try server.get("/peek/\(queue)?n=1000&state=\(state)").tasks.compactMap { $0?["content"] as? Int }
    }

    @Test func aPausedQueueDispatchesNothingUntilItIsResumed() throws {
        // A name that was only asked for is not a queue yet.
        #expect(try server.post("/wait", #"{"queues": ["q"], "max": 1}"#).body == "[]")
        #expect(try server.send("POST", "/pause/q").body == #"{"paused":true,"new":true}"#)
        let since = try #require(try server.get("/stats/q").object["paused_since"] as? Double)
        #expect(abs(since - Date().timeIntervalSince1970) < 3600)
        #expect(try server.send("POST", "/pause/q").body == #"{"paused":true}"#)
        #expect(try server.get("/queues").body == #"["q"]"#)
        try server.enqueueAll("q", [1, 2])
        #expect(try server.takeContents("q") == [])
        let waiter = try server.begin("POST", "/wait", #"{"queues": ["q"], "timeout": 60000}"#)
        let statistics = try server.get("/stats/q").object
        #expect(statistics["paused"] as? Bool == true)
        // The second request to pause has changed nothing.
        #expect(statistics["paused_since"] as? Double == since)
        #expect(try server.send("POST", "/resume/q").body == #"{"paused":false}"#)
        #expect(try waiter.response().tasks[0]?["content"] as? Int == 1)
        #expect(try server.takeContents("q") == [2])
        #expect(try server.get("/stats/q").object["paused_since"] == nil)
    }

    @Test func pausingAnUnknownQueueSaysSo() throws {
        try server.enqueue("mails")
        #expect(try server.send("POST", "/pause/mails").body == #"{"paused":true}"#)
        #expect(try server.send("POST", "/pause/mailz").body == #"{"paused":true,"new":true}"#)
        _ = try server.send("PUT", "/config/configured", #"{"retry": 5}"#)
        #expect(try server.send("POST", "/pause/configured").body == #"{"paused":true}"#)
        // A queue that only workers wait for is known.
        let worker = try server.begin("POST", "/wait", #"{"queues": ["awaited"], "timeout": 60000}"#)
        #expect(try server.send("POST", "/pause/awaited").body == #"{"paused":true}"#)
        withExtendedLifetime(worker) {}
    }

    @Test func aPurgeDeletesTheTasksInTheRequestedStates() throws {
        let ids = try server.enqueueAll("q", [1, 2, 3])
        try server.enqueue("q", #""content": 4, "delay": 600"#)
        _ = try server.take("q", 1)
        let reader = try server.begin("GET", "/result/\(ids[2])?timeout=60000")
        #expect(try server.send("POST", "/purge/q").body == #"{"purged":3}"#)
        #expect(try reader.response().body == #"{"state":"cancelled"}"#)
        #expect(try server.state(ids[0]) == "dispatched")
        #expect(try server.send("POST", "/purge/q?state=dead").body == #"{"purged":0}"#)
        #expect(try server.send("POST", "/purge/q?state=all").body == #"{"purged":1}"#)
        #expect(try server.post("/ack", "{\"ids\": [\"\(ids[0])\"]}").body.contains("\"acked\":0"))
        #expect(try server.send("POST", "/purge/never-used").body == #"{"purged":0}"#)
    }

    @Test func deadTasksAreKickedBack() throws {
        let ids = try server.enqueueAll("q", [1, 2, 3])
        _ = try server.take("q")
        try server.post("/nak", "{\"ids\": [\"\(ids[0])\", \"\(ids[1])\", \"\(ids[2])\"], \"dead\": true}")
        #expect(try contents("q", "dead") == [1, 2, 3])
        #expect(try server.send("POST", "/kick/q?n=2").body == #"{"kicked":2}"#)
        #expect(try contents("q") == [1, 2])
        try server.enqueue("q", #""content": 4, "delay": 600"#)
        #expect(try server.send("POST", "/kick/q?state=delayed").body == #"{"kicked":1}"#)
        #expect(try contents("q") == [1, 2, 4])
    }

    @Test func aDelayedTaskThatIsKickedKeepsItsRetries() throws {
        let id = try server.enqueue("q", #""content": 1, "max_retries": 1, "expiry": 60"#)
        let expires = try server.task(id)["expires"] as? Double
        _ = try server.take("q")
        try server.post("/nak", "{\"ids\": [\"\(id)\"], \"delay\": 30}")
        #expect(try server.send("POST", "/kick/q?state=delayed").body == #"{"kicked":1}"#)
        let task = try server.task(id)
        #expect(task["state"] as? String == "ready" && task["retries"] as? Int == 1)
        #expect(task["expires"] as? Double == expires)
        _ = try server.take("q")
        #expect(try server.post("/nak", "{\"ids\": [\"\(id)\"]}").body.contains(#""dead":1"#))
    }

    @Test func tasksAreMovedOldestFirst() throws {
        try server.enqueueAll("q", [1, 2, 3])
        #expect(try server.send("POST", "/move/q?to=other%2Fone&n=2").body == #"{"moved":2}"#)
        #expect(try contents("q") == [3])
        #expect(try contents("other/one") == [1, 2])
    }

    @Test func pagesFollowOneAnother() throws {
        let ids = try server.enqueueAll("q", Array(0..<25))
        var seen: [Int] = []
        var after = ""
        while true {
            let page = try server.get("/peek/q?n=10\(after)").tasks.compactMap { $0 }
            seen += page.compactMap { $0["content"] as? Int }
            guard let last = page.last?["id"] as? String else { break }
            after = "&after=\(last)"
        }
        #expect(seen == Array(0..<25))
        _ = try server.take("q", 1)
        #expect(try server.get("/peek/q?after=\(ids[0])").status == 404)
        #expect(try server.get("/peek/q?after=x").field == "after")
        #expect(try server.get("/peek/q?state=reday").field == "state")
    }

    @Test func statisticsCountCurrentAndPastTasks() throws {
        let ids = try server.enqueueAll("q", [1, 2, 3])
        _ = try server.take("q", 2)
        try server.post("/ack", "{\"ids\": [\"\(ids[0])\"]}")
        try server.post("/nak", "{\"ids\": [\"\(ids[1])\"], \"delay\": 60}")
        _ = try server.begin("POST", "/wait", #"{"queues": ["q", "q", "q"], "timeout": 60000}"#)
        let statistics = try server.get("/stats/q").object
        #expect(statistics["queue"] as? String == "q")
        #expect(statistics["ready"] as? Int == 1)
        #expect(statistics["delayed"] as? Int == 1)
        #expect(statistics["oldest_ready"] is Double || statistics["oldest_ready"] is Int)
        let totals = try #require(statistics["totals"] as? [String: Int])
        #expect(totals["enqueued"] == 3 && totals["dispatched"] == 2 && totals["acked"] == 1 && totals["nacked"] == 1)
        let all = try #require(try server.get("/stats").object["queues"] as? [String: [String: Any]])
        #expect(all["q"]?["ready"] as? Int == 1)
        let none = try server.get("/stats/never-used").object
        #expect(none["ready"] as? Int == 0)
        #expect(none["oldest_ready"] is NSNull)
    }

    // MARK: Configuration

    @Test func aConfigurationIsReplacedShownAndDeleted() throws {
        #expect(try server.get("/config/q").body == "{}")
        let whole =
            #"{"retry":30,"expiry":null,"max_retries":3,"backoff":{"min":0.5,"max":60,"doublings":4,"jitter":0.25},"#
            + #""keep":60,"priority":-3,"max_length":100,"dead_letter":"dead","dead_expiry":3600,"on_expiry":"dead"}"#
        #expect(try server.send("PUT", "/config/q", whole).body == whole)
        #expect(try server.get("/config/q").body == whole)
        #expect(try server.get("/queues").body == #"["q"]"#)
        #expect(try server.send("PUT", "/config/q", #"{"backoff": 5, "retry": null}"#).body == #"{"backoff":5}"#)
        #expect(try server.send("DELETE", "/config/q").status == 204)
        #expect(try server.get("/config/q").body == "{}")
        #expect(try server.get("/queues").body == "[]")
    }

    @Test func aQueuesConfigurationFillsInWhatTasksDoNotSet() throws {
        try server.send("PUT", "/config/q", #"{"retry": 700, "expiry": 5000, "priority": 4, "keep": 600}"#)
        let id = try server.enqueue("q")
        let own = try server.enqueue("q", #""content": 2, "retry": 800, "priority": 5"#)
        #expect(try server.take("q").map { $0["retry"] as? Int } == [800, 700])
        let task = try server.task(id)
        #expect(task["priority"] as? Int == 4)
        #expect(try abs(#require(task["expires"] as? Double) - #require(task["enqueued"] as? Double) - 5000) < 0.001)
        try server.post("/ack", "{\"ids\": [\"\(id)\", \"\(own)\"]}")
        #expect(try server.state(id) == "done")
    }

    @Test func aPoisonStormIsStoppedByOneRequest() throws {
        let ids = try server.enqueueAll("q", [1, 2])
        let list = ids.map { "\"\($0)\"" }.joined(separator: ",")
        for _ in 0..<3 {
            _ = try server.take("q")
            try server.post("/nak", "{\"ids\": [\(list)]}")
        }
        try server.send("PUT", "/config/q", #"{"max_retries": 1}"#)
        #expect(try server.takeContents("q") == [])
        #expect(try contents("q", "dead") == [1, 2])
    }

    @Test func deadTasksMoveToTheirDeadLetterQueueAndBack() throws {
        try server.send("PUT", "/config/q", #"{"max_retries": 0, "dead_letter": "graveyard"}"#)
        let id = try server.enqueue("q", #""content": 1, "metadata": {"a": "b"}"#)
        _ = try server.take("q")
        #expect(try server.post("/nak", "{\"ids\": [\"\(id)\"], \"error\": \"bad\"}").body.contains("\"dead\":1"))
        let letter = try server.task(id)
        #expect(letter["queue"] as? String == "graveyard")
        #expect(letter["origin"] as? String == "q")
        #expect(letter["state"] as? String == "ready")
        #expect(letter["error"] as? String == "bad")
        let died = try #require(letter["died"] as? Double)
        #expect(try died >= #require(letter["enqueued"] as? Double))
        #expect(try server.get("/peek/graveyard").tasks[0]?["died"] as? Double == died)
        #expect(letter["metadata"] as? [String: String] == ["a": "b"])
        #expect(try server.send("POST", "/kick/graveyard?to=origin").body == #"{"kicked":1}"#)
        #expect(try server.task(id)["queue"] as? String == "q")
    }

    @Test(arguments: ["/kick/", "/kick/?to=origin"]) func oneDeadLetterGoesBackByItsId(target: String) throws {
        try server.send("PUT", "/config/q", #"{"max_retries": 0, "dead_letter": "graveyard"}"#)
        let ids = try server.enqueueAll("q", [1, 2])
        _ = try server.take("q", 2)
        for id in ids { try server.post("/nak", "{\"ids\": [\"\(id)\"]}") }
        #expect(try server.count("graveyard", "received") == 2)
        #expect(try server.post(target, "{\"ids\": [\"\(ids[1])\"]}").body == #"{"kicked":1,"missing":[]}"#)
        #expect(try server.takeContents("q", 2) == [2])
        let answer = try server.post("/kick/?to=origin", "{\"ids\": [\"\(ids[1])\"]}")
        #expect(answer.body == "{\"kicked\":0,\"missing\":[\"\(ids[1])\"]}")
        #expect(try server.post("/kick/?to=q", "{\"ids\": [\"\(ids[0])\"]}").field == "to")
        #expect(try server.post("/kick/?n=1", "{\"ids\": [\"\(ids[0])\"]}").field == "n")
    }

    @Test func aFullQueueSaysSo() throws {
        try server.send("PUT", "/config/q", #"{"max_length": 2}"#)
        #expect(try server.post("/enqueue/q", #"[{"content": 1}, {"content": 2}, {"content": 3}]"#).status == 400)
        try server.enqueue("q")
        let batch = try server.post("/enqueue/q", #"[{"content": 1}, {"content": 2}]"#)
        #expect(batch.status == 429)
        try server.enqueue("q")
        let answer = try server.post("/enqueue/q", #"{"content": 3}"#)
        #expect(answer.status == 429)
        #expect(answer.fields["retry-after"] != nil)
        #expect(try server.get("/stats/q").object["ready"] as? Int == 2)
    }

    @Test func onlyTasksThatWouldBeAddedCountTowardsTheMaximumLength() throws {
        try server.send("PUT", "/config/q", #"{"max_length": 2}"#)
        let first = try server.post(
            "/enqueue/q", #"[{"content": 1, "key": "a"}, {"content": 2, "key": "b"}, {"content": 3, "key": "a"}]"#)
        #expect(first.status == 200)
        #expect(try first.object["existing"] as? [Int] == [2])
        let second = try server.post(
            "/enqueue/q", #"[{"content": 4, "key": "a"}, {"content": 5, "key": "b"}, {"content": 6, "key": "a"}]"#)
        #expect(second.status == 200)
        #expect(try second.object["existing"] as? [Int] == [0, 1, 2])
        #expect(try second.object["ids"] as? [String] != nil)
        let third = try server.post("/enqueue/q", #"[{"content": 7, "key": "a"}, {"content": 8, "key": "c"}]"#)
        #expect(third.status == 429 && third.field == "[1]")
        // Moves ignore the maximum length.
        try server.enqueueAll("other", [9, 10])
        #expect(try server.send("POST", "/move/other?to=q").body == #"{"moved":2}"#)
        let totals = try server.get("/stats/q").object["totals"] as? [String: Int]
        #expect(totals?["over_length"] == 2)
    }

    @Test(arguments: [
        (#"{"retry": 0}"#, "retry"), (#"{"expiry": "1"}"#, "expiry"), (#"{"max_retries": 1.5}"#, "max_retries"),
        (#"{"backoff": {"max": 5}}"#, "backoff.min"), (#"{"keep": -1}"#, "keep"), (#"{"priority": 1000}"#, "priority"),
        (#"{"max_length": 0}"#, "max_length"), (#"{"dead_letter": "d"}"#, "dead_letter"),
        (#"{"dead_letter": "q", "max_retries": 1}"#, "dead_letter"), (#"{"dead_letter": "\n"}"#, "dead_letter"),
        (#"{"on_expiry": "die"}"#, "on_expiry"), (#"{"dead_expiry": 0}"#, "dead_expiry"), (#"{"rety": 1}"#, "rety"),
    ])
    func aWrongConfigurationChangesNothing(json: String, field: String) throws {
        try server.send("PUT", "/config/q", #"{"retry": 5}"#)
        let answer = try server.send("PUT", "/config/q", json)
        #expect(answer.status == 400)
        #expect(answer.field == field)
        #expect(try server.get("/config/q").body == #"{"retry":5}"#)
    }

    @Test func wrongParametersAreNamed() throws {
        for (path, field) in [
            ("/purge/q?state=x", "state"), ("/purge/q?n=1", "n"), ("/kick/q?state=ready", "state"),
            ("/kick/q?n=0", "n"),
            ("/kick/q?to=home", "to"), ("/move/q", "to"), ("/move/q?to=q", "to"), ("/move/q?to=%01", "to"),
            ("/move/q?to=%FF", "to"),
            ("/move/q?to=r&state=done", "state"), ("/pause/q?x=1", "x"),
        ] {
            let answer = try server.send("POST", path)
            #expect(answer.status == 400, "\(path)")
            #expect(answer.field == field, "\(path)")
        }
        #expect(try server.post("/kick?n=1", #"{"ids": []}"#).field == "n")
        #expect(try server.send("POST", "/pause/q", "{}").status == 400)
        #expect(try server.send("GET", "/pause/q").fields["allow"] == "POST, OPTIONS")
        #expect(try server.send("POST", "/pause/").status == 404)
    }
}
