// Push as receivers see it: requests, answers and results. The real program sends tasks to the test's own server.

import Foundation
import Support
import Testing

@Suite(.blocking) struct PushTests {
    private let receiver: Receiver
    private let server: Server

    init() throws {
        receiver = try Receiver()
        server = try Server.pushing()
    }

    // MARK: The request

    @Test func contentAndHeadersArriveUnchanged() throws {
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

    @Test func aTaskInheritsFromItsQueuesPushWhatItDoesNotSet() throws {
        try server.configure(
            "q",
            #"{"push": {"url": "\#(receiver.url("/queue"))", "method": "PATCH", "headers": {"A": "queue", "B": "queue"}}}"#
        )
        try server.enqueue("q", #""content": 1, "request": {"headers": {"b": "task"}}"#)
        let request = try receiver.wait("/queue")[0]
        #expect(request.method == "PATCH" && request["A"] == "queue" && request["B"] == "task")
        // Another receiver does not get the queue's secrets.
        let other = try Receiver()
        try server.enqueue("q", "\"content\": 1, " + other.request("/other"))
        #expect(try other.wait("/other")[0]["A"] == nil)
    }

    @Test func responsesBeingReceivedCountAsMemory() throws {
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
        ([.close], "closed the connection before its response was complete"),
        ([.reset], "the connection before its response was complete"),
        ([.send("HTTP/1.1 200 O"), .close], "closed the connection before its response was complete"),
        (
            [.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), .close],
            "closed the connection before its response was complete"
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
        ([.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), .hold], "did not finish within 300 ms"),
    ]

    static let bodies: [(body: String, shown: String)] = [
        ("", ""), ("\n  the database\r\n\tis down \n", ": the database is down"), ("a\u{1}b", ": a\u{FFFD}b"),
        (String(repeating: "ä", count: 200), ": " + String(repeating: "ä", count: 200)),
        (String(repeating: "ä", count: 201), ": " + String(repeating: "ä", count: 200) + "…"),
        (String(repeating: "\u{1F600}", count: 10_000), ": " + String(repeating: "\u{1F600}", count: 200) + "…"),
    ]

    @Test(arguments: bodies.indices)
    func anErrorShowsTheURLWithoutTheQueryAndTheAnswer(index: Int) throws {
        let (body, shown) = Self.bodies[index]
        receiver.script("/a/b?token=secret", [.answer("503 X", body)])
        let id = try server.enqueue("q", "\"content\": 1, \(briefly), " + receiver.request("/a/b?token=secret"))
        let error = try server.wait(id, for: "dead")["error"] as? String
        #expect(error == "\(receiver.url("/a/b")) answered 503 Service Unavailable" + shown)
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
        #expect(reason.contains(error) && reason.hasPrefix(receiver.url("/q")), "\(reason)")
        #expect(!reason.contains("token"))
        // A request that timed out may not have been sent, or not been read yet.
        if !isTimeout { #expect(receiver.received("/q?token").map { $0["Emq-Attempt"] } == ["1", "2"]) }
        #expect(receiver.received("/q?token").allSatisfy { $0.id == id })
        #expect(try server.count("q", "died") == 1)
        // The server still works.
        #expect(try server.state(try server.enqueue("q")) == "ready")
    }

    @Test func retriesGoOnUntilOneSucceeds() throws {
        // If a reused connection ended without an answer, the client would retry by itself.
        receiver.script(
            "/q", [.answer("500 X", fields: "Connection: close\r\n"), .close], [.close], [.answer("503 X")], [.ok])
        let id = try server.enqueue("q", #""content": 1, "backoff": 0.01, "keep": 60, "# + receiver.request("/q"))
        #expect(try server.wait(id, for: "done")["attempt"] as? Int == 4)
        #expect(receiver.received("/q").map { $0["Emq-Attempt"] } == ["1", "2", "3", "4"])
    }

    @Test(arguments: ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"])
    func interimResponsesAreIgnored(interim: String) throws {
        receiver.script("/q", [.send(interim + interim), .answer("200 OK", "end")])
        let id = try server.enqueue("q", #""content": 1, "keep": 60, "# + receiver.request("/q"))
        let result = try #require(try server.wait(id, for: "done")["result"] as? [String: Any])
        #expect(result["status"] as? Int == 200 && result["body"] as? String == "end")
    }

    @Test func refusedConnectionsTimeoutsAndUnknownHostsAreNamedInTheError() throws {
        let silent = try SilentPort()
        let refusing = try unusedPort()
        let cases = [
            (
                "http://127.0.0.1:\(refusing)/hook?token",
                "http://127.0.0.1:\(refusing)/hook: cannot connect to 127.0.0.1:\(refusing): Connection refused"
            ),
            (
                "http://127.0.0.1:\(silent.port)/hook?token",
                "http://127.0.0.1:\(silent.port)/hook: the exchange with 127.0.0.1:\(silent.port) did not finish within 300 ms"
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

    @Test func aReceiverThatIsGoneMakesTheTaskDeadAtOnce() throws {
        receiver.script("/q", [.answer("410 Gone", "left", fields: "Retry-After: 1\r\n")])
        let id = try server.enqueue("q", #""content": 1, "max_retries": 5, "keep": 60, "# + receiver.request("/q"))
        let task = try server.wait(id, for: "dead")
        #expect(task["attempt"] as? Int == 1)
        #expect(task["error"] as? String == "\(receiver.url("/q")) answered 410 Gone: left")
        #expect((task["result"] as? [String: Any])?["status"] as? Int == 410)
    }

    @Test func withoutABackoffTheFirstRetryComesAfterAboutASecond() throws {
        receiver.script("/q", [.answer("500 X")])
        let id = try server.enqueue("q", "\"content\": 1, " + receiver.request("/q"))
        let task = try server.wait(id, for: "delayed")
        let due = try #require(task["due"] as? Double) - Date().timeIntervalSince1970
        // On a slow machine this may be a later pause. Each is twice as long as the one before.
        let retries = try #require(task["retries"] as? Int)
        #expect(due < 1.11 * Double(1 << (retries - 1)), "\(due)")
    }

    @Test func retryAfterReplacesTheBackoff() throws {
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
            // No pause would mean continuous attempts, and the receiver's clock may be wrong.
            ("429 X", "0", 50), ("503 X", date(in: -600), 50),
        ] {
            let path = "/\(status.prefix(3))-\(Int(pause))-\(value.utf8.reduce(0) { $0 + Int($1) })"
            receiver.script(path, [.answer(status, fields: "Retry-After: \(value)\r\n")])
            let id = try server.enqueue("q", #""content": 1, "backoff": 50, "# + receiver.request(path))
            let task = try server.wait(id, for: "delayed")
            let due = try #require(task["due"] as? Double) - Date().timeIntervalSince1970
            // The two clocks may differ slightly, and the test may be slow.
            #expect(due < pause + 1 && due > pause - 45, "\(status) \(value): \(due)")
            #expect(task["retries"] as? Int == 1)
        }
    }

    // MARK: Results

    @Test func withKeepTheLastAnswerIsTheResultEvenOfADeadTask() throws {
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

    @Test func aWaiterGetsTheResultWithoutKeep() throws {
        receiver.script("/q", [.hold, .answer("200 OK", "x")])
        let id = try server.enqueue("q", "\"content\": 1, " + receiver.request("/q"))
        try receiver.wait("/q")
        let waiting = try server.begin("GET", "/result/\(id)?timeout=60000")
        receiver.open("/q")
        #expect(try (waiting.response().object["result"] as? [String: Any])?["body"] as? String == "x")
        #expect(try server.get("/task/\(id)").status == 404)
    }

    @Test func anEndlessBodyIsTruncatedAndEndsInTime() throws {
        receiver.script(
            "/q", [.send("HTTP/1.0 200 OK\r\n\r\n"), .sendEndlessly(String(repeating: "x", count: 65_536))])
        let id = try server.enqueue("q", #""content": 1, "keep": 60, "# + receiver.request("/q"))
        let result = try #require(try server.wait(id, for: "done")["result"] as? [String: Any])
        #expect(result["body"] as? String == String(repeating: "x", count: 1 << 20))
        #expect(result["truncated"] as? Bool == true)
    }

    @Test func aBodyThatEndsWithItsConnectionIsComplete() throws {
        receiver.script("/q", [.send("HTTP/1.0 200 OK\r\n\r\nall of it"), .close])
        let id = try server.enqueue("q", #""content": 1, "keep": 60, "# + receiver.request("/q"))
        let result = try #require(try server.wait(id, for: "done")["result"] as? [String: Any])
        #expect(result["body"] as? String == "all of it" && result["truncated"] == nil)
    }
}
