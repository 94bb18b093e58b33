// X-Request-Id and traceparent: responses return them, tasks keep them, workers and receivers get them.

import Foundation
import Support
import Testing

@Suite(.blocking) struct TraceTests {
    private static let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    private static let otherParent = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-00"

    private func fields(_ requestID: String?, _ traceparent: String? = nil) -> String {
        (requestID.map { "x-request-ID: \($0)\r\n" } ?? "") + (traceparent.map { "Traceparent: \($0)\r\n" } ?? "")
    }

    /// The values in a task, or nil for each that it does not have.
    private func trace(_ task: [String: Any]?) -> [String?] {
        [task?["request_id"] as? String, task?["traceparent"] as? String]
    }

    private func returned(_ response: Response) -> [String?] {
        [response.fields["x-request-id"], response.fields["traceparent"]]
    }

    private func enqueue(_ server: Server, _ queue: String, _ json: String, _ fields: String) throws -> String {
        let answer = try server.connect().post("/enqueue/\(queue)", json, fields)
        #expect(answer.status == 200, "\(answer.body)")
        return try #require(try answer.object["id"] as? String)
    }

    // MARK: Responses

    @Test(arguments: [
        ("GET /healthz", "", 200), ("HEAD /healthz", "", 200), ("OPTIONS *", "", 204), ("GET /nothing", "", 404),
        ("GET /task/AaH8ekX5cACuES467dOuXw", "", 404), ("PUT /wait", "", 405), ("POST /wait", "{}", 200),
        ("POST /enqueue/q", #"{"content": 1}"#, 200), ("POST /enqueue/q", #"[{"content": 1}]"#, 200),
        ("POST /enqueue/q", #"{"cntent": 1}"#, 400), ("POST /enqueue/q", "{", 400), ("POST /enqueue/q", "", 400),
        ("DELETE /config/q", "", 204), ("GET /healthz?a=1", "", 400),
        ("POST /wait", #"{"queues": ["q"], "max": 1, "timeout": 1}"#, 200),
    ])
    func responsesReturnThem(request: String, body: String, status: Int) throws {
        let server = try Server()
        let client = try server.connect()
        let type = body.isEmpty ? "" : "Content-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n"
        let isHead = request.hasPrefix("HEAD")
        func send(_ fields: String, version: Int = 1) throws -> Response {
            client.send("\(request) HTTP/1.\(version)\r\nHost: localhost\r\n\(type)\(fields)\r\n\(body)")
            return try client.response(toHead: isHead)
        }
        let answer = try send(fields("id-1", Self.parent))
        #expect(answer.status == status && returned(answer) == ["id-1", Self.parent])
        // The next request on the connection has its own.
        #expect(try returned(send("")) == [nil, nil])
        #expect(try returned(send(fields(nil, Self.otherParent))) == [nil, Self.otherParent])
        #expect(try returned(send(fields("2"), version: 0)) == ["2", nil])
    }

    /// These are refused before a route sees them.
    @Test(arguments: [
        ("POST /enqueue/q HTTP/1.1\r\nHost: a\r\n", "Content-Length: 99999999\r\n", 413),
        ("POST /enqueue/q HTTP/1.1\r\nHost: a\r\n", "Host: b\r\n", 400),
        ("GET /healthz HTTP/1.1\r\n", "", 400), ("GET /healthz HTTP/1.1\r\nHost: a\r\n", " folded\r\n", 400),
        ("POST /enqueue/q HTTP/1.1\r\nHost: a\r\n", "Expect: 100-continue\r\nContent-Length: 5\r\n", 415),
    ])
    func refusalsReturnThem(begin: String, rest: String, status: Int) throws {
        let server = try Server()
        let client = try server.connect()
        client.send("\(begin)\(fields("id-1", Self.parent))\(rest)\r\n")
        let answer = try client.response()
        #expect(answer.status == status && returned(answer) == ["id-1", Self.parent])
    }

    @Test func aResponseThatIsOwedReturnsThem() throws {
        let server = try Server()
        let client = try server.connect()
        let wait = #"{"queues": ["q"], "max": 1, "timeout": 60000}"#
        // The second request waits behind the first.
        client.send(Client.postText("/wait", wait, fields("1")) + Client.postText("/wait", "{}", fields("2")))
        _ = try server.get("/healthz")
        try server.enqueue("q")
        let first = try client.response()
        #expect(try first.tasks.count == 1)
        #expect(returned(first) == ["1", nil])
        #expect(try returned(client.response()) == ["2", nil])
    }

    /// Connections share memory for these fields.
    @Test func noConnectionReturnsThoseOfAnother() throws {
        let server = try Server()
        let (owed, other) = (try server.connect(), try server.connect())
        for round in 0..<3 {
            owed.send(
                Client.postText("/wait", #"{"queues": ["q"], "max": 1, "timeout": 60000}"#, fields("owed-\(round)")))
            #expect(try returned(other.post("/wait", "{}", "")) == [nil, nil])
            #expect(
                try returned(other.post("/wait", "{}", fields("other-\(round)", Self.parent)))
                    == ["other-\(round)", Self.parent])
            #expect(try returned(other.post("/enqueue/q", "{}", "")) == [nil, nil])
            let answer = try owed.response()
            #expect(try answer.tasks.count == 1 && returned(answer) == ["owed-\(round)", nil])
            #expect(try returned(other.post("/wait", "{}", fields(nil, Self.otherParent))) == [nil, Self.otherParent])
            #expect(try returned(owed.post("/wait", "{}", "")) == [nil, nil])
        }
    }

    @Test(arguments: [
        "x-request-id: a b\r\n", "x-request-id: a\"b\r\n", "x-request-id: \\\r\n", "x-request-id:\r\n",
        "x-request-id: ä\r\n", "x-request-id: \(String(repeating: "x", count: 129))\r\n",
        "x-request-id: a\r\nX-Request-Id: a\r\n", "x-request-id: \"\r\nX-Request-Id: a\r\n",
        "x-request-id: a\r\nX-Request-Id: b\r\nX-REQUEST-ID: c\r\n", "traceparent: 00-1-2-3\r\n",
        "traceparent: \(parent.uppercased())\r\n", "traceparent: \(parent)\r\nTraceparent: \(parent)\r\n",
        "traceparent: \(parent), \(parent)\r\n", "traceparent: \(parent)-00\r\n",
    ])
    func whatIsNotUsableIsIgnored(fields: String) throws {
        let server = try Server()
        let answer = try server.connect().post("/enqueue/q", "{}", fields)
        #expect(answer.status == 200 && returned(answer) == [nil, nil])
        let task = try server.task(#require(try answer.object["id"] as? String))
        #expect(trace(task) == [nil, nil])
    }

    // MARK: Tasks

    @Test func tasksAndWorkersHaveThem() throws {
        let server = try Server()
        let id = try enqueue(server, "q", #"{"content": 1, "metadata": {"a": "b"}}"#, fields("id-1", Self.parent))
        try server.enqueue("q", #""content": 2"#)
        let plain = try enqueue(server, "q", #"{"content": 3}"#, fields(nil, Self.otherParent))
        let batch = try server.connect().post("/enqueue/q", "[{}, null]", fields("id-2"))
        let ids = try #require(try batch.object["ids"] as? [String])
        #expect(try trace(server.task(id)) == ["id-1", Self.parent])
        #expect(try trace(server.task(plain)) == [nil, Self.otherParent])
        for id in ids { #expect(try trace(server.task(id)) == ["id-2", nil]) }
        let expected = [
            ["id-1", Self.parent], [nil, nil], [nil, Self.otherParent], ["id-2", nil], ["id-2", nil],
        ]
        #expect(try server.get("/peek/q?n=9").tasks.map { trace($0) } == expected)
        // The worker's own request has nothing to do with its tasks.
        let wait = try server.connect().post("/wait", #"{"queues": ["q"], "max": 9}"#, fields("worker"))
        #expect(try wait.tasks.map { trace($0) } == expected)
    }

    @Test func aKeptTaskKeepsItsOwnAndAReplacementBringsItsOwn() throws {
        let server = try Server()
        let id = try enqueue(server, "q", #"{"key": "k"}"#, fields("1", Self.parent))
        #expect(try enqueue(server, "q", #"{"key": "k"}"#, fields("2")) == id)
        #expect(try trace(server.task(id)) == ["1", Self.parent])
        let replacement = #"{"key": "k", "on_conflict": "replace"}"#
        #expect(try enqueue(server, "q", replacement, fields("3")) == id)
        #expect(try trace(server.get("/key/q?key=k").object) == ["3", nil])
        // The worker goes on with what it has.
        _ = try server.take("q")
        #expect(try enqueue(server, "q", replacement, fields("4")) == id)
        #expect(try trace(server.task(id)) == ["3", nil])
        #expect(try server.post("/ack", "{\"ids\": [\"\(id)\"]}").body == #"{"acked":1,"missing":[]}"#)
        #expect(try server.take("q").map { trace($0) } == [["4", nil]])
        // A replacement without any has none.
        try server.enqueue("q", #""key": "k", "on_conflict": "replace""#)
        #expect(try server.post("/ack", "{\"ids\": [\"\(id)\"]}").body == #"{"acked":1,"missing":[]}"#)
        #expect(try server.take("q").map { trace($0) } == [[nil, nil]])
    }

    @Test func retriesMovesAndDeadLettersKeepThem() throws {
        let server = try Server()
        try server.configure("q", #"{"max_retries": 1, "dead_letter": "dead"}"#)
        let id = try enqueue(server, "q", #"{"content": 1}"#, fields("1", Self.parent))
        #expect(try server.post("/move/q?to=r", "").status == 200)
        #expect(try server.post("/move/r?to=q", "").status == 200)
        for _ in 0..<2 {
            #expect(try server.take("q").map { trace($0) } == [["1", Self.parent]])
            #expect(try server.post("/nak", "{\"ids\": [\"\(id)\"]}").status == 200)
        }
        #expect(try server.take("dead").map { trace($0) } == [["1", Self.parent]])
        #expect(try trace(server.task(id)) == ["1", Self.parent])
    }

    @Test func theySurviveARestart() throws {
        let directory = DataDirectory()
        let server = try directory.start()
        let id = try enqueue(server, "q", #"{"content": 1}"#, fields("1", Self.parent))
        let replaced = try enqueue(server, "r", #"{"key": "k"}"#, fields("2"))
        _ = try server.take("r")
        _ = try enqueue(server, "r", #"{"key": "k", "on_conflict": "replace"}"#, fields("3", Self.otherParent))
        // A change of its state, whose image does not say them again.
        _ = try server.take("q")
        #expect(try server.post("/nak", "{\"ids\": [\"\(id)\"]}").status == 200)
        let copy = DataDirectory()
        #expect(try Server.run(["journal", "copy", directory.path, copy.path]).status == 0)
        try server.crash()
        for again in [try directory.start(), try copy.start()] {
            #expect(try trace(again.task(id)) == ["1", Self.parent])
            #expect(try trace(again.task(replaced)) == ["2", nil])
            #expect(try again.post("/nak", "{\"ids\": [\"\(replaced)\"]}").status == 200)
            #expect(try again.take("r").map { trace($0) } == [["3", Self.otherParent]])
        }
    }

    // MARK: Receivers

    @Test func receiversGetThem() throws {
        let receiver = try Receiver()
        let server = try Server.pushing()
        func send(_ path: String, _ more: String = "") throws -> Received {
            _ = try enqueue(
                server, "q", "{\"content\": 1, \(receiver.request(path, more))}", fields("1", Self.parent))
            return try receiver.wait(path)[0]
        }
        let plain = try send("/plain")
        #expect(plain["X-Request-Id"] == "1" && plain["traceparent"] == Self.parent)
        // A header that the task sets itself counts.
        let own = try send("/own", #", "headers": {"x-request-id": "own"}"#)
        #expect(own["X-Request-Id"] == "own" && own["traceparent"] == Self.parent)
        // So does one of the queue.
        try server.configure("q", #"{"push": {"url": "\#(receiver.url("/q"))", "headers": {"TraceParent": "q"}}}"#)
        let inherited = try send("/inherited")
        #expect(inherited["X-Request-Id"] == "1" && inherited["traceparent"] == "q")
        try server.configure("q", "{}")
        try server.enqueue("q", receiver.request("/none"))
        let none = try receiver.wait("/none")[0]
        #expect(none["X-Request-Id"] == nil && none["traceparent"] == nil)
    }

    @Test func aDeadLetterNotificationHasThoseOfItsTask() throws {
        let receiver = try Receiver()
        let server = try Server.pushing()
        receiver.script("/gone", [.answer("410 Gone")])
        let task = receiver.request("/gone", ", \"on_dead\": \"\(receiver.url("/dead"))\"")
        _ = try enqueue(server, "q", "{\(task)}", fields("1", Self.parent))
        let notification = try receiver.wait("/dead")[0]
        #expect(notification["X-Request-Id"] == "1" && notification["traceparent"] == Self.parent)
        let told = try JSONSerialization.jsonObject(with: Data(notification.body.utf8)) as? [String: Any]
        #expect(trace(told) == ["1", Self.parent])
    }

    // MARK: Legacy systems

    @Test func legacySystemsReturnNothing() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--httpqueue", "127.0.0.1:0"])
        let port = try eventually("the line with the port") {
            server.output.firstMatch(of: /httpqueue.*?:(\d+)/).flatMap { UInt16($0.1) }
        }
        let client = try Client(port: port)
        client.send("GET /nothing HTTP/1.1\r\nHost: localhost\r\n\(fields("1", Self.parent))\r\n")
        #expect(try returned(client.response()) == [nil, nil])
    }
}
