// Push as operators see it: connections, rates, workers, deaths and restarts.

import Foundation
import Support
import Testing

@Suite(.blocking) struct PushedQueueTests {
    private let receiver: Receiver
    private let server: Server

    init() throws {
        receiver = try Receiver()
        server = try Server.pushing()
    }

    // MARK: Connections

    @Test func connectionsAreKeptForAsLongAsTheReceiverKeepsThem() throws {
        receiver.script("/closing", [.answer("200 OK", fields: "Connection: close\r\n"), .close])
        // The receiver closes without an answer. That costs no attempt.
        receiver.script("/stale", [.ok, .close])
        for path in ["/kept", "/closing", "/stale"] {
            for _ in 0..<3 {
                let id = try server.enqueue("q", #""content": 1, "keep": 60, "# + receiver.request(path))
                #expect(try server.wait(id, for: "done")["attempt"] as? Int == 1)
            }
        }
        let connections = ["/kept", "/closing", "/stale"].map { Set(receiver.received($0).map(\.connection)).count }
        #expect(connections == [1, 3, 3])
        #expect(receiver.received("/stale").count == 3)
    }

    @Test func theQueuesConcurrencyLimitsTasksInFlight() throws {
        try server.configure("q", #"{"push": {"url": "\#(receiver.url("/q"))", "concurrency": 3}}"#)
        try server.configure("r", #"{"push": {"url": "\#(receiver.url("/r"))"}}"#)
        for path in ["/q", "/r"] { receiver.script(path, [.hold, .ok]) }
        try server.enqueueAll("q", Array(0..<50))
        try server.enqueueAll("r", Array(0..<50))
        try receiver.wait("/q", 3)
        try receiver.wait("/r", 10)
        #expect(try server.count("q", "dispatched") == 3 && server.count("q", "ready") == 47)
        for path in ["/q", "/r"] { receiver.open(path) }
        _ = try eventually("all") { try server.count("q", "acked") + server.count("r", "acked") == 100 ? true : nil }
        #expect(receiver.peak("/q") == 3 && receiver.peak("/r") == 10)
        #expect(receiver.received("/q").compactMap { Int($0.body) }.sorted() == Array(0..<50))
    }

    @Test func aRateAllowsBurstsOfOneSecond() throws {
        try server.configure("q", #"{"push": {"url": "\#(receiver.url("/q"))", "rate": "5/s", "concurrency": 100}}"#)
        let start = Date()
        try server.enqueueAll("q", Array(0..<8))
        try receiver.wait("/q", 8)
        // Five at once; the other three follow a fifth of a second apart.
        #expect(Date().timeIntervalSince(start) > 0.55)
        try server.configure("slow", #"{"push": {"url": "\#(receiver.url("/slow"))", "rate": "1/d"}}"#)
        try server.enqueueAll("slow", [1, 2])
        try receiver.wait("/slow")
        _ = try eventually("the answer") { try server.count("slow", "acked") == 1 ? true : nil }
        #expect(try server.count("slow", "ready") == 1)
    }

    @Test func neitherSlowNorDeadReceiversHoldUpOthers() throws {
        let silent = try SilentPort()
        let refusing = try unusedPort()
        receiver.script("/slow", [.hold])
        try server.configure("slow", #"{"push": {"url": "\#(receiver.url("/slow"))", "timeout": 3600}}"#)
        try server.configure(
            "silent",
            #"{"push": {"url": "http://127.0.0.1:\#(silent.port)/", "concurrency": 1000, "timeout": 3600}}"#)
        try server.configure("refusing", #"{"push": {"url": "http://127.0.0.1:\#(refusing)/"}, "backoff": 0.01}"#)
        try server.configure("unknown", #"{"push": {"url": "http://nobody.invalid/"}}"#)
        try server.configure("quick", #"{"push": {"url": "\#(receiver.url("/quick"))"}}"#)
        for queue in ["slow", "silent", "refusing", "unknown"] { try server.enqueueAll(queue, Array(0..<3000)) }
        try receiver.wait("/slow", 10)
        // They all arrive while no request to the slow receiver is complete: each of those may take an hour.
        try server.enqueueAll("quick", Array(0..<300))
        try receiver.wait("/quick", 300)
        #expect(receiver.received("/slow").count == 10)
    }

    // MARK: Ends of tasks in flight

    // Expiry is tested in virtual time, since here the task might expire before it is sent.
    @Test(arguments: ["DELETE", "purge"])
    func cancelledAndPurgedTasksAreAborted(how: String) throws {
        receiver.script("/q", [.hold], [.ok])
        try server.configure("q", #"{"push": {"url": "\#(receiver.url("/q"))", "concurrency": 1}}"#)
        let id = try server.enqueue("q", #""content": 1, "keep": 600"#)
        try receiver.wait("/q")
        let waiting = try server.begin("GET", "/result/\(id)?timeout=60000")
        if how == "DELETE" { #expect(try server.send("DELETE", "/task/\(id)").status == 204) }
        if how == "purge" { #expect(try server.send("POST", "/purge/q?state=all").body == #"{"purged":1}"#) }
        #expect(try waiting.response().object["state"] as? String == "cancelled")
        _ = try eventually("the end of the request") { receiver.brokenOff("/q") == 1 ? true : nil }
        // Its place in the concurrency is free.
        try server.enqueue("q")
        try receiver.wait("/q", 2)
    }

    @Test func aTaskThatIsReplacedWhileItIsSentIsSentAgain() throws {
        receiver.script("/q", [.hold, .ok])
        let more = #""keep": 60, "key": "k", "# + receiver.request("/q")
        let id = try server.enqueue("q", #""content": "old", "# + more)
        try receiver.wait("/q")
        let again = try server.post("/enqueue/q", #"{"content": "new", "on_conflict": "replace", \#(more)}"#).object
        #expect(again["id"] as? String == id)
        receiver.open("/q")
        let requests = try receiver.wait("/q", 2)
        #expect(requests.map(\.body) == [#""old""#, #""new""#])
        #expect(requests.map(\.id) == [id, id])
        #expect(try server.wait(id, for: "done")["content"] as? String == "new")
    }

    @Test func aPausedQueueStartsNoTasks() throws {
        try server.configure("q", #"{"push": {"url": "\#(receiver.url("/q"))"}}"#)
        receiver.script("/q", [.hold, .ok])
        let first = try server.enqueue("q", #""content": 1, "keep": 60"#)
        try receiver.wait("/q")
        _ = try server.send("POST", "/pause/q")
        let second = try server.enqueue("q", #""content": 2, "keep": 60"#)
        receiver.open("/q")
        try server.wait(first, for: "done")
        // If another queue's task arrives, this one's would have arrived before.
        try server.enqueue("other", "\"content\": 1, " + receiver.request("/other"))
        try receiver.wait("/other")
        #expect(try server.state(second) == "ready" && receiver.received("/q").count == 1)
        _ = try server.send("POST", "/resume/q")
        try server.wait(second, for: "done")
    }

    // MARK: Workers

    @Test func workersNeverGetPushedTasksAndCannotEndThem() throws {
        receiver.script("/q", [.hold, .ok])
        let sent = try server.enqueue("q", #""content": "sent", "keep": 60, "# + receiver.request("/q"))
        let early = try server.begin("POST", "/wait", #"{"queues": ["q"], "max": 1, "timeout": 60000}"#)
        let also = try server.enqueue("q", #""content": "sent", "keep": 60, "# + receiver.request("/also"))
        try server.wait(also, for: "done")
        let first = try server.enqueue("q", #""content": "worked""#)
        #expect(try early.response().tasks.compactMap { $0?["id"] as? String } == [first])
        let worker = try server.enqueue("q", #""content": "worked""#)
        _ = try server.send("POST", "/pause/paused")
        let ready = try server.enqueue("paused", "\"content\": 1, " + receiver.request("/paused"))
        try receiver.wait("/q")
        #expect(try server.take("q").compactMap { $0["id"] as? String } == [worker])
        #expect(try server.take("q").isEmpty && server.take("paused").isEmpty)
        for id in [sent, ready, "\(sent)@0000000000000001"] {
            #expect(try server.post("/ack", "{\"ids\": [\"\(id)\"]}").body == "{\"acked\":0,\"missing\":[\"\(id)\"]}")
            #expect(
                try server.post("/nak", "{\"ids\": [\"\(id)\"], \"dead\": true}").body
                    == "{\"requeued\":0,\"dead\":0,\"missing\":[\"\(id)\"]}")
            #expect(
                try server.post("/touch", "{\"ids\": [\"\(id)\"], \"progress\": 1}").body
                    == "{\"touched\":0,\"missing\":[\"\(id)\"]}")
        }
        let ack = try server.post("/wait", "{\"queues\": [\"none\"], \"max\": 1, \"ack\": [\"\(sent)\"]}")
        #expect(ack.fields["emq-missing"] == sent)
        #expect(try server.count("q", "dispatched") == 3)
        let listed = try server.get("/peek/q?n=9&state=dispatched").tasks.compactMap { $0?["id"] as? String }
        #expect(Set(listed) == [sent, first, worker])
        #expect(try server.get("/peek/paused?n=9").tasks.compactMap { $0?["id"] as? String } == [ready])
        receiver.open("/q")
        try server.wait(sent, for: "done")
    }

    @Test func aQueuesTasksArePushedForAsLongAsItsConfigurationSaysSo() throws {
        let ids = try server.enqueueAll("q", [1, 2, 3])
        receiver.script("/q", [.hold, .ok])
        let early = try server.begin("POST", "/wait", #"{"queues": ["q", "none"], "timeout": 60000}"#)
        try server.configure("q", #"{"push": {"url": "\#(receiver.url("/q"))", "concurrency": 1}, "keep": 60}"#)
        #expect(try receiver.wait("/q")[0].id == ids[0])
        try server.enqueue("none")
        let moved = try server.enqueue("other")
        #expect(try server.send("POST", "/move/other?to=q").body == #"{"moved":1}"#)
        #expect(try server.send("DELETE", "/config/q").status == 204)
        #expect(try early.response().tasks.map { $0?["id"] as? String }[0] == ids[1])
        #expect(try server.take("q").compactMap { $0["id"] as? String } == [ids[2], moved])
        // A task in flight ends with its answer.
        #expect(try server.state(ids[0]) == "dispatched")
        receiver.open("/q")
        _ = try eventually("the answer") { try server.count("q", "acked") == 1 ? true : nil }
    }

    @Test func aDeadTaskThatIsKickedIsSentAgain() throws {
        receiver.script("/q", [.answer("500 X")], [.answer("500 X")], [.ok])
        let id = try server.enqueue("q", "\"content\": 1, \(briefly), \"keep\": 60, " + receiver.request("/q"))
        try server.wait(id, for: "dead")
        #expect(try server.send("POST", "/kick/q").body == #"{"kicked":1}"#)
        #expect(try server.wait(id, for: "done")["attempt"] as? Int == 3)
    }

    // MARK: Deaths

    @Test func onDeadGetsTheTaskAsItIsShownAndItsOwnDeathIsNotReported() throws {
        try server.configure(
            "q",
            #"{"push": {"url": "\#(receiver.url("/q"))", "on_dead": "\#(receiver.url("/died"))", "secret": "s", "#
                + #""headers": {"X-Key": "secret"}}, "max_retries": 0}"#)
        receiver.script("/q", [.answer("500 X")])
        receiver.script("/died", [.answer("500 X")])
        let id = try server.enqueue("q", #""content": {"n":  1}, "metadata": {"a": "b"}"#)
        let notice = try receiver.wait("/died")[0]
        #expect(notice.body == (try server.get("/task/\(id)").body))
        #expect(notice.method == "POST" && notice["Emq-Queue"] == "q" && notice["Content-Type"] == "application/json")
        #expect(notice["Emq-Signature"]?.hasPrefix("t=") == true)
        let noticeID = try #require(notice.id)
        #expect(noticeID != id)
        #expect(try server.count("q", "enqueued") == 1 && server.count("q", "notices") == 1)
        // The queue's tasks have no retries, but a dead-letter notification has.
        #expect(try #require(server.wait(noticeID, for: "delayed")["retries"] as? Int) > 0)
        // A notification of another death would come later.
        let own = receiver.request("/q", #", "on_dead": "\#(receiver.url("/own"))""#)
        try server.enqueue("q", #""content": 2, "# + own)
        #expect(try receiver.wait("/own")[0].body.contains(#""content":2"#))
        #expect(receiver.received("/died").allSatisfy { $0.id == noticeID })
    }

    @Test func aDeadLetterIsForWorkersUntilItIsKickedBack() throws {
        try server.configure(
            "q", #"{"push": {"url": "\#(receiver.url("/q"))"}, "max_retries": 0, "dead_letter": "letters", "keep": 60}"#
        )
        receiver.script("/q", [.answer("500 X")], [.answer("500 X")], [.ok])
        receiver.script("/own", [.answer("500 X")], [.ok])
        let ids = try [
            server.enqueue("q"), server.enqueue("q"),
            server.enqueue("q", "\"content\": 1, " + receiver.request("/own")),
        ]
        _ = try eventually("the letters") { try server.count("letters", "ready") == 3 ? true : nil }
        let letter = try #require(try server.take("letters", 1).first)
        let receipt = try #require(letter["receipt"] as? String)
        #expect(try server.post("/ack", "{\"ids\": [\"\(receipt)\"]}").body == #"{"acked":1,"missing":[]}"#)
        #expect(try server.send("POST", "/kick/letters?to=origin").body == #"{"kicked":2}"#)
        for id in ids where id != letter["id"] as? String {
            #expect(try server.wait(id, for: "done")["attempt"] as? Int == 2)
        }
    }

    @Test func aTaskThatExpiresUnsentCanReportItsDeath() throws {
        try server.configure(
            "q",
            #"{"push": {"on_dead": "\#(receiver.url("/died"))"}, "on_expiry": "dead"}"#)
        _ = try server.send("POST", "/pause/q")
        let id = try server.enqueue("q", #""content": 1, "expiry": 0.01, "# + receiver.request("/q"))
        try server.wait(id, for: "dead")
        _ = try server.send("POST", "/resume/q")
        #expect(try receiver.wait("/died")[0].body.contains("\"id\":\"\(id)\""))
        #expect(receiver.received("/q").isEmpty)
    }

    // MARK: Stopping and starting

    @Test func stoppingWaitsForTasksInFlight() throws {
        let directory = DataDirectory()
        let server = try directory.start("--push", "loopback", "--drain", "3600")
        receiver.script("/q", [.hold, .answer("200 OK", "late")])
        try server.configure("q", #"{"push": {"url": "\#(receiver.url("/q"))", "concurrency": 1}, "keep": 600}"#)
        let ids = try server.enqueueAll("q", [1, 2])
        try receiver.wait("/q")
        let client = try server.connect()
        _ = try client.get("/healthz")
        server.signal(SIGTERM)
        _ = try eventually("the drain") { try client.get("/healthz").status == 503 ? true : nil }
        receiver.open("/q")
        #expect(try server.exitStatus() == 0)
        #expect(receiver.received("/q").count == 1)
        let next = try directory.start()
        #expect((try next.wait(ids[0], for: "done")["result"] as? [String: Any])?["body"] as? String == "late")
        #expect(try next.state(ids[1]) == "ready")
    }

    @Test(arguments: ["0.1", "3600"])
    func stoppingWaitsNoLongerThanItsDrainOrASecondSignal(drain: String) throws {
        let directory = DataDirectory()
        let server = try directory.start("--push", "loopback", "--drain", drain)
        receiver.script("/q", [.hold], [.ok])
        let id = try server.enqueue("q", #""content": 1, "keep": 60, "# + receiver.request("/q"))
        try receiver.wait("/q")
        let client = try server.connect()
        _ = try client.get("/healthz")
        server.signal(SIGTERM)
        if drain != "0.1" {
            _ = try eventually("the drain") { try client.get("/healthz").status == 503 ? true : nil }
            // A second signal does not wait for the disk, and the status is an error if something may be lost.
            _ = try eventually("the disk") {
                (try client.get("/stats/").object["journal"] as? [String: Any])?["pending_bytes"] as? Int == 0
                    ? true : nil
            }
            server.signal(SIGTERM)
        }
        #expect(try server.exitStatus() == 0)
        #expect(server.output.contains("1 task kept in"))
        let next = try directory.start("--push", "loopback")
        try next.wait(id, for: "done")
        #expect(receiver.received("/q").map(\.id) == [id, id])
    }

    @Test func tasksInFlightAtACrashAreSentAgain() throws {
        let directory = DataDirectory()
        var server = try directory.start("--push", "loopback")
        receiver.script("/q", [.hold, .ok])
        let id = try server.enqueue("q", #""content": "again", "keep": 600, "# + receiver.request("/q"))
        try receiver.wait("/q")
        try server.crash()
        server = try directory.start("--push", "loopback")
        let requests = try receiver.wait("/q", 2)
        #expect(requests.map(\.id) == [id, id] && requests[1].body == #""again""#)
        receiver.open("/q")
        try server.wait(id, for: "done")
        try server.crash()
        server = try directory.start("--push", "loopback")
        #expect(try server.state(id) == "done")
        #expect(receiver.received("/q").count == 2)
    }

    @Test func withoutPushTasksWithARequestWaitAndTheLogSaysWhy() throws {
        let directory = DataDirectory()
        var server = try directory.start("--push", "loopback")
        _ = try server.send("POST", "/pause/q")
        try server.configure(
            "hooks",
            #"{"push": {"url": "\#(receiver.url("/hooks"))", "headers": {"X-Key": "v"}, "secret": "s", "rate": "5/s"}}"#
        )
        let configuration = try server.get("/config/hooks").body
        receiver.script("/q", [.hold, .ok])
        let paused = try server.enqueue("q", #""content": 1, "keep": 60, "# + receiver.request("/paused"))
        let inFlight = try server.enqueue("r", #""content": 1, "keep": 60, "# + receiver.request("/q"))
        try receiver.wait("/q")
        try server.crash()
        server = try directory.start()
        let hook = try server.enqueue("hooks", #""content": 1, "keep": 60"#)
        #expect(try server.get("/config/hooks").body == configuration)
        _ = try server.send("POST", "/resume/q")
        for (id, queue) in [(paused, "q"), (inFlight, "r"), (hook, "hooks")] {
            let task = try server.wait(id, for: "ready")
            #expect((task["error"] as? String)?.contains("--push") == true, "\(task)")
            #expect(try server.take(queue).isEmpty)
            let listed = try #require(try server.get("/peek/\(queue)").tasks.first ?? nil)
            #expect((listed["error"] as? String)?.contains("--push") == true)
        }
        try server.crash()
        server = try directory.start("--push", "loopback")
        receiver.open("/q")
        for id in [paused, inFlight, hook] { #expect(try server.wait(id, for: "done")["error"] == nil) }
        let request = try receiver.wait("/hooks")[0]
        #expect(request["X-Key"] == "v" && request["Emq-Signature"] != nil)
    }

    @Test func theEnvironmentCanAllowPush() throws {
        let server = try Server(environment: ["EMQ_PUSH": "public,loopback"])
        try server.enqueue("q", "\"content\": 1, " + receiver.request("/q"))
        try receiver.wait("/q")
    }
}
