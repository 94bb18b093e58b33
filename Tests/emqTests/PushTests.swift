// Push as a receiver and an operator meet it: the program sends tasks to a server of the test's own.

import Foundation
import Testing

extension Server {
    /// A server that may send to this machine.
    static func pushing(_ options: String...) throws -> Server {
        try Server(["--addr", "127.0.0.1:0", "--push", "loopback"] + options)
    }

    /// Sets a queue's configuration.
    func configure(_ queue: String, _ json: String) throws {
        let answer = try send("PUT", "/config/\(queue)", json)
        #expect(answer.status == 200, "\(answer.body)")
    }

    /// Waits until a task is in a state, and returns all that is shown of it then.
    @discardableResult
    func wait(_ id: String, for state: String) throws -> [String: Any] {
        try eventually("\(id) to be \(state)") {
            let task = try task(id)
            return task["state"] as? String == state ? task : nil
        }
    }

    /// A number of a queue's statistics.
    func count(_ queue: String, _ name: String) throws -> Int {
        let stats = try get("/stats/\(queue)").object
        let totals = try #require(stats["totals"] as? [String: Any])
        return try #require((stats[name] ?? totals[name]) as? Int)
    }
}

/// The options of a task whose retries come at once and end soon.
private let briefly = #""backoff": 0.01, "max_retries": 1"#

@Suite struct PushTests {
    private let receiver: Receiver
    private let server: Server

    init() throws {
        receiver = try Receiver()
        server = try Server.pushing()
    }

    // MARK: The request

    @Test func contentAndHeadersArriveAsTheyWereGiven() throws {
        let content = #"{"a": 1.0e2,  "ü": "\u00fc"}"#
        try server.configure(
            "a%20b%2F%C3%BC",
            #"{"push": {"url": "\#(receiver.url("/queue?x=%20"))", "method": "PUT", "secret": "s", "#
                + #""headers": {"X-Key": "v  ü w", "content-type": "text/x"}}}"#)
        let first = try server.enqueue("a%20b%2F%C3%BC", "\"content\": \(content)")
        let request = try receiver.wait("/queue?x=%20")[0]
        #expect(request.method == "PUT")
        #expect(request.body == content)
        #expect(request.id == first)
        #expect(request["Host"] == "127.0.0.1:\(receiver.port)")
        #expect(request["Emq-Queue"] == "a%20b%2F%C3%BC")
        #expect(request["Emq-Attempt"] == "1")
        #expect(request["X-Key"] == "v  ü w")
        #expect(request["Content-Type"] == "text/x")
        #expect(request["Content-Length"] == "\(content.utf8.count)")
        #expect(try #require(request["Emq-Signature"]).wholeMatch(of: /t=\d{10},v1=[0-9a-f]{64}/) != nil)

        // A task's own request.
        let second = try server.enqueue(
            "own", "\"content\": 1, " + receiver.request("/own", #", "body": [ 1,2 ], "headers": {"X-Own": "y"}"#))
        let own = try receiver.wait("/own")[0]
        #expect(own.method == "POST" && own.body == "[ 1,2 ]" && own.id == second)
        #expect(own["Content-Type"] == "application/json" && own["X-Own"] == "y")
        #expect(own["Emq-Signature"] == nil)
        try server.enqueue("own", "\"content\": 1, " + receiver.request("/get", #", "method": "GET""#))
        let get = try receiver.wait("/get")[0]
        #expect(get.method == "GET" && get.body == "" && get["Content-Type"] == nil && get["Content-Length"] == nil)
    }

    @Test func aLargeContentArrivesWhole() throws {
        let content = "\"" + String(repeating: "0123456789", count: 300_000) + "\""
        try server.enqueue("q", "\"content\": \(content), " + receiver.request("/large"))
        #expect(try receiver.wait("/large")[0].body == content)
    }

    @Test func aTaskOfAQueueTakesFromItsPushWhatItLeavesOut() throws {
        try server.configure(
            "q",
            #"{"push": {"url": "\#(receiver.url("/queue"))", "method": "PATCH", "headers": {"A": "queue", "B": "queue"}}}"#
        )
        try server.enqueue("q", #""content": 1, "request": {"headers": {"b": "task"}}"#)
        let request = try receiver.wait("/queue")[0]
        #expect(request.method == "PATCH" && request["A"] == "queue" && request["B"] == "task")
        // Another receiver is not told the queue's secrets.
        let other = try Receiver()
        try server.enqueue("q", "\"content\": 1, " + other.request("/other"))
        #expect(try other.wait("/other")[0]["A"] == nil)
    }

    @Test func whatIsBeingReceivedCountsAsMemoryInUse() throws {
        func used() throws -> Int {
            try #require((try server.get("/stats").object["memory"] as? [String: Int])?["used"])
        }
        let before = try used()
        let part = String(repeating: "x", count: 900_000)
        receiver.script("/q", [.send("HTTP/1.1 200 OK\r\nContent-Length: 900001\r\n\r\n\(part)"), .hold, .send("x")])
        let id = try server.enqueue("q", #""content": 1, "# + receiver.request("/q"))
        _ = try eventually("the first part") { try used() > before + 900_000 ? true : nil }
        receiver.open("/q")
        _ = try eventually("the end") { try server.get("/task/\(id)").status == 404 ? true : nil }
        #expect(try used() < before + 900_000)
    }

    // MARK: Answers

    @Test(arguments: ["200 OK", "201 Created", "204 No Content", "299 X"])
    func successAcknowledges(status: String) throws {
        let fields = status.hasPrefix("204") ? "" : "Content-Length: 0\r\n"
        receiver.script("/q", [.send("HTTP/1.1 \(status)\r\n\(fields)\r\n")])
        let id = try server.enqueue("q", #""content": 1, "keep": 60, "# + receiver.request("/q"))
        let task = try server.wait(id, for: "done")
        #expect(task["error"] == nil && task["attempt"] as? Int == 1)
        #expect(try server.count("q", "acked") == 1)
    }

    static let failures: [(answer: [Step], error: String)] = [
        ([.answer("500 X", "oh")], "/q answered 500 Internal Server Error: oh"),
        ([.answer("404 X")], "answered 404 Not Found"),
        (
            [.answer("302 X", fields: "Location: /there\r\n")],
            "answered 302 Found; redirects are not followed, its Location is /there"
        ),
        ([.close], "closed the connection before its response was whole"),
        ([.reset], "the connection before its response was whole"),
        ([.send("HTTP/1.1 200 O"), .close], "closed the connection before its response was whole"),
        (
            [.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), .close],
            "closed the connection before its response was whole"
        ),
        (
            [.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf"), .close],
            "closed the connection before"
        ),
        ([.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\n"), .close], "is malformed"),
        ([.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12"), .close], "is malformed"),
        ([.send("SSH-2.0-OpenSSH_9.2\r\n\r\n"), .close], "is malformed"),
        ([.send("HTTP/1.1 101 Switching Protocols\r\n\r\n"), .hold], "is malformed"),
        ([.sendEndlessly("HTTP/1.1 102 Processing\r\n\r\n")], "is malformed"),
        ([.send("HTTP/1.1 200 OK\r\n"), .sendEndlessly("X: y\r\n")], "is malformed"),
        ([.send("HTTP/1.1 200 OK\r\nX: "), .sendEndlessly("yyyyyyyyyyyyyyyy")], "is malformed"),
        ([.hold], "within 300 ms"),
        ([.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), .hold], "was not over within 300 ms"),
    ]

    static let bodies: [(body: String, shown: String)] = [
        ("", ""), ("\n  the database\r\n\tis down \n", ": the database is down"), ("a\u{1}b", ": a\u{FFFD}b"),
        (String(repeating: "ä", count: 200), ": " + String(repeating: "ä", count: 200)),
        (String(repeating: "ä", count: 201), ": " + String(repeating: "ä", count: 200) + "…"),
        (String(repeating: "\u{1F600}", count: 10_000), ": " + String(repeating: "\u{1F600}", count: 200) + "…"),
    ]

    @Test(arguments: bodies.indices)
    func anErrorSaysWhereAndWhatWithoutTheQuery(index: Int) throws {
        let (body, shown) = Self.bodies[index]
        receiver.script("/a/b?token=secret", [.answer("503 X", body)])
        let id = try server.enqueue("q", "\"content\": 1, \(briefly), " + receiver.request("/a/b?token=secret"))
        let error = try server.wait(id, for: "dead")["error"] as? String
        #expect(error == "http://127.0.0.1:\(receiver.port)/a/b answered 503 Service Unavailable" + shown)
    }

    @Test(arguments: failures.indices)
    func anythingElseIsAFailedAttemptWithAReason(index: Int) throws {
        let (answer, error) = Self.failures[index]
        let isTimeout = error.contains("300 ms")
        receiver.script("/q?token", answer)
        let id = try server.enqueue(
            "q",
            "\"content\": 1, \(briefly), "
                + receiver.request("/q?token", isTimeout ? #", "timeout": 0.3"# : ""))
        let task = try server.wait(id, for: "dead")
        #expect(task["attempt"] as? Int == 2)
        let reason = try #require(task["error"] as? String)
        #expect(reason.contains(error) && reason.hasPrefix("http://127.0.0.1:\(receiver.port)/q"), "\(reason)")
        #expect(!reason.contains("token"))
        // What was given up may not have been sent, or not been read yet.
        if !isTimeout { #expect(receiver.received("/q?token").map { $0["Emq-Attempt"] } == ["1", "2"]) }
        #expect(receiver.received("/q?token").allSatisfy { $0.id == id })
        #expect(try server.count("q", "died") == 1)
        // It is alive and well.
        #expect(try server.state(try server.enqueue("q")) == "ready")
    }

    @Test func retriesGoOnUntilOneSucceeds() throws {
        // On a connection that is used again, an end without an answer would be met by the client alone.
        receiver.script(
            "/q", [.answer("500 X", fields: "Connection: close\r\n"), .close], [.close], [.answer("503 X")], [.ok])
        let id = try server.enqueue("q", #""content": 1, "backoff": 0.01, "keep": 60, "# + receiver.request("/q"))
        #expect(try server.wait(id, for: "done")["attempt"] as? Int == 4)
        #expect(receiver.received("/q").map { $0["Emq-Attempt"] } == ["1", "2", "3", "4"])
    }

    @Test(arguments: ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"])
    func interimAnswersAreNotTheAnswer(interim: String) throws {
        receiver.script("/q", [.send(interim + interim), .answer("200 OK", "end")])
        let id = try server.enqueue("q", #""content": 1, "keep": 60, "# + receiver.request("/q"))
        let result = try #require(try server.wait(id, for: "done")["result"] as? [String: Any])
        #expect(result["status"] as? Int == 200 && result["body"] as? String == "end")
    }

    @Test func whereNobodyListensOrAnswersOrIsTheErrorSaysSo() throws {
        let silent = try SilentPort()
        let refusing = try unusedPort()
        let cases = [
            (
                "http://127.0.0.1:\(refusing)/hook?token",
                "http://127.0.0.1:\(refusing)/hook: cannot connect to 127.0.0.1:\(refusing) at 127.0.0.1: Connection refused"
            ),
            (
                "http://127.0.0.1:\(silent.port)/hook?token",
                "http://127.0.0.1:\(silent.port)/hook: the exchange with 127.0.0.1:\(silent.port) was not over within 300 ms"
            ),
            ("http://nobody.invalid/hook?token", "http://nobody.invalid/hook: "),
        ]
        for (url, error) in cases {
            let id = try server.enqueue(
                "q", "\"content\": 1, \(briefly), \"request\": {\"url\": \"\(url)\", \"timeout\": 0.3}")
            let reason = try #require(try server.wait(id, for: "dead")["error"] as? String)
            #expect(reason.hasPrefix(error), "\(reason)")
        }
    }

    @Test func withoutABackoffTheFirstRetryComesAfterAboutASecond() throws {
        receiver.script("/q", [.answer("500 X")])
        let id = try server.enqueue("q", "\"content\": 1, " + receiver.request("/q"))
        let task = try server.wait(id, for: "delayed")
        let due = try #require(task["due"] as? Double) - Date().timeIntervalSince1970
        // If this is late, it is one of the next, which are twice as long each.
        let retries = try #require(task["retries"] as? Int)
        #expect(due < 1.11 * Double(1 << (retries - 1)), "\(due)")
    }

    @Test func retryAfterTakesThePlaceOfTheBackoff() throws {
        func date(in seconds: TimeInterval) -> String {
            let format = DateFormatter()
            format.locale = Locale(identifier: "en_US_POSIX")
            format.timeZone = TimeZone(identifier: "GMT")
            format.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
            return format.string(from: Date(timeIntervalSinceNow: seconds))
        }
        for (status, value, pause) in [
            ("503 X", "3600", 3600.0), ("429 X", "3600", 3600), ("503 X", date(in: 600), 600),
            ("503 X", "99999999999999999999", 86_400), ("500 X", "3600", 50), ("503 X", "soon", 50),
            // No pause would be one attempt after the other, and a clock may be wrong.
            ("429 X", "0", 50), ("503 X", date(in: -600), 50),
        ] {
            let path = "/\(status.prefix(3))-\(Int(pause))-\(value.utf8.reduce(0) { $0 + Int($1) })"
            receiver.script(path, [.answer(status, fields: "Retry-After: \(value)\r\n")])
            let id = try server.enqueue("q", #""content": 1, "backoff": 50, "# + receiver.request(path))
            let task = try server.wait(id, for: "delayed")
            let due = try #require(task["due"] as? Double) - Date().timeIntervalSince1970
            // Two clocks are not quite the same, and the test may be slow.
            #expect(due < pause + 1 && due > pause - 45, "\(status) \(value): \(due)")
            #expect(task["retries"] as? Int == 1)
        }
    }

    // MARK: Results

    @Test func withKeepTheLastAnswerIsTheResultAlsoOfADeadTask() throws {
        receiver.script(
            "/done", [.hold, .answer("201 Created", #"{"n": 1}"#, fields: "X-A: 1\r\nx-a: 2\r\nServer: me\r\n")])
        receiver.script("/dead", [.answer("500 X", "first")], [.hold, .answer("418 X", "last")])
        let done = try server.enqueue("q", #""content": 1, "keep": 60, "# + receiver.request("/done"))
        let dead = try server.enqueue("q", "\"content\": 1, \(briefly), \"keep\": 60, " + receiver.request("/dead"))
        try receiver.wait("/done")
        try receiver.wait("/dead", 2)
        let waiting = try [done, dead].map { try server.begin("GET", "/result/\($0)?timeout=60000") }
        for path in ["/done", "/dead"] { receiver.open(path) }
        let first = try waiting[0].response().object
        let result = try #require(first["result"] as? [String: Any])
        #expect(first["state"] as? String == "done")
        #expect(result["status"] as? Int == 201)
        #expect(result["body"] as? String == #"{"n": 1}"#)
        #expect(result["headers"] as? [String: String] == ["X-A": "1, 2", "Server": "me", "Content-Length": "8"])
        #expect(try #require(result["elapsed"] as? Double) >= 0)
        let second = try waiting[1].response().object
        #expect(second["state"] as? String == "dead")
        #expect((second["result"] as? [String: Any])?["body"] as? String == "last")
        for (id, answer) in [(done, first), (dead, second)] {
            #expect(try server.task(id)["result"] as? NSObject == answer["result"] as? NSObject)
            #expect(try server.get("/result/\(id)").object as NSObject == answer as NSObject)
        }
    }

    @Test func whoWaitsGetsTheResultWithoutKeep() throws {
        receiver.script("/q", [.hold, .answer("200 OK", "x")])
        let id = try server.enqueue("q", "\"content\": 1, " + receiver.request("/q"))
        try receiver.wait("/q")
        let waiting = try server.begin("GET", "/result/\(id)?timeout=60000")
        receiver.open("/q")
        #expect(try (waiting.response().object["result"] as? [String: Any])?["body"] as? String == "x")
        #expect(try server.get("/task/\(id)").status == 404)
    }

    @Test func anEndlessBodyIsCutAndDoesNotLast() throws {
        receiver.script(
            "/q", [.send("HTTP/1.0 200 OK\r\n\r\n"), .sendEndlessly(String(repeating: "x", count: 65_536))])
        let id = try server.enqueue("q", #""content": 1, "keep": 60, "# + receiver.request("/q"))
        let result = try #require(try server.wait(id, for: "done")["result"] as? [String: Any])
        #expect(result["body"] as? String == String(repeating: "x", count: 1 << 20))
        #expect(result["truncated"] as? Bool == true)
    }

    @Test func aBodyThatEndsWithItsConnectionIsWhole() throws {
        receiver.script("/q", [.send("HTTP/1.0 200 OK\r\n\r\nall of it"), .close])
        let id = try server.enqueue("q", #""content": 1, "keep": 60, "# + receiver.request("/q"))
        let result = try #require(try server.wait(id, for: "done")["result"] as? [String: Any])
        #expect(result["body"] as? String == "all of it" && result["truncated"] == nil)
    }

    // MARK: Connections

    @Test func connectionsAreKeptAsFarAsTheReceiverKeepsThem() throws {
        receiver.script("/closing", [.answer("200 OK", fields: "Connection: close\r\n"), .close])
        // It closes without a word. An attempt is not lost by that.
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

    @Test func noMoreAreInFlightThanTheQueueSays() throws {
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

    @Test func aRateIsKeptToInBurstsOfASecondsWorth() throws {
        try server.configure("q", #"{"push": {"url": "\#(receiver.url("/q"))", "rate": "5/s", "concurrency": 100}}"#)
        let start = Date()
        try server.enqueueAll("q", Array(0..<8))
        try receiver.wait("/q", 8)
        // Five at once, the other three a fifth of a second apart.
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
        // They all come, while none of the requests to the slow is over: each of those may take an hour.
        try server.enqueueAll("quick", Array(0..<300))
        try receiver.wait("/quick", 300)
        #expect(receiver.received("/slow").count == 10)
    }

    // MARK: What ends while it is under way

    // That a task which expires is broken off too is seen in virtual time: here it might expire before it is sent.
    @Test(arguments: ["DELETE", "purge"])
    func whatIsNotWantedAnyMoreIsBrokenOff(how: String) throws {
        receiver.script("/q", [.hold], [.ok])
        try server.configure("q", #"{"push": {"url": "\#(receiver.url("/q"))", "concurrency": 1}}"#)
        let id = try server.enqueue("q", #""content": 1, "keep": 600"#)
        try receiver.wait("/q")
        let waiting = try server.begin("GET", "/result/\(id)?timeout=60000")
        if how == "DELETE" { #expect(try server.send("DELETE", "/task/\(id)").status == 204) }
        if how == "purge" { #expect(try server.send("POST", "/purge/q?state=all").body == #"{"purged":1}"#) }
        #expect(try waiting.response().object["state"] as? String == "cancelled")
        _ = try eventually("the end of the request") { receiver.brokenOff("/q") == 1 ? true : nil }
        // Its place is free.
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

    @Test func aPausedQueueStartsNone() throws {
        try server.configure("q", #"{"push": {"url": "\#(receiver.url("/q"))"}}"#)
        receiver.script("/q", [.hold, .ok])
        let first = try server.enqueue("q", #""content": 1, "keep": 60"#)
        try receiver.wait("/q")
        _ = try server.send("POST", "/pause/q")
        let second = try server.enqueue("q", #""content": 2, "keep": 60"#)
        receiver.open("/q")
        try server.wait(first, for: "done")
        // What another queue sends now comes later than what this one would have sent.
        try server.enqueue("other", "\"content\": 1, " + receiver.request("/other"))
        try receiver.wait("/other")
        #expect(try server.state(second) == "ready" && receiver.received("/q").count == 1)
        _ = try server.send("POST", "/resume/q")
        try server.wait(second, for: "done")
    }

    // MARK: Workers

    @Test func workersNeverGetWhatIsSentAndCannotEndIt() throws {
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

    @Test func aQueuesTasksAreSentAsLongAsItsConfigurationSaysSo() throws {
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
        // What is in flight is ended by its answer.
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

    @Test func onDeadGetsTheTaskAsItIsShownAndNobodyIsToldOfItsOwnDeath() throws {
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
        // The queue gives its tasks no retries; the news of a death has them.
        #expect(try #require(server.wait(noticeID, for: "delayed")["retries"] as? Int) > 0)
        // What another task's death would tell comes later.
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

    @Test func whatExpiresBeforeItIsSentMayTellOfItsDeath() throws {
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

    @Test func stoppingWaitsForWhatIsInFlight() throws {
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
            // A second signal waits for no disk, and it is an error if there is something to lose.
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

    @Test func whatWasInFlightAtACrashIsSentAgain() throws {
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

    @Test func withoutPushWhatIsToBeSentWaitsAndSaysWhy() throws {
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

    @Test func theEnvironmentMayAllowIt() throws {
        let server = try Server(environment: ["EMQ_PUSH": "public,loopback"])
        try server.enqueue("q", "\"content\": 1, " + receiver.request("/q"))
        try receiver.wait("/q")
    }
}
