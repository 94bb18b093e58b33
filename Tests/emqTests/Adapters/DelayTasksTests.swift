// delay-tasks as its clients and handlers see it: the real program, over real sockets, with the requests of its
// document.

import Foundation
import Support
import Testing

extension Server {
    /// The port at which it replaces delay-tasks.
    fileprivate func delayTasksPort() throws -> UInt16 {
        try eventually("the line of delay-tasks") {
            output.firstMatch(of: /replacing delay-tasks at https?:\/\/127\.0\.0\.1:(\d+)/).flatMap { UInt16($0.1) }
        }
    }
}

/// A client of delay-tasks.
private struct DelayTasksClient {
    let port: UInt16

    init(_ server: Server) throws { port = try server.delayTasksPort() }

    /// Sends a request without a Content-Type, as the usual clients do.
    func send(_ method: String, _ path: String, _ body: String = "") throws -> Response {
        let client = try Client(port: port)
        let type = "Content-Type: application/x-www-form-urlencoded\r\n"
        client.send(
            "\(method) \(path) HTTP/1.1\r\nHost: localhost:\(port)\r\n\(body.isEmpty ? "" : type)"
                + "Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
        return try client.response(toHead: method == "HEAD")
    }

    /// Sends a request, and expects the answer that only confirms it.
    func request(
        _ method: String, _ path: String, _ body: String, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let answer = try send(method, path, body)
        #expect(answer.status == 200, "\(answer.body)", sourceLocation: sourceLocation)
        #expect(answer.body == "{\"code\":200,\"msg\":\"OK\"}\n", sourceLocation: sourceLocation)
        #expect(answer.fields["content-type"] == "application/json;charset=UTF-8", sourceLocation: sourceLocation)
    }

    /// The `result` of a task; nil if there is none.
    func find(_ path: String) throws -> [String: Any]? {
        let answer = try send("GET", path)
        let object = try answer.object
        #expect(object["code"] as? Int == answer.status)
        if answer.status == 404 { return nil }
        #expect(answer.status == 200 && object["msg"] as? String == "OK")
        return try #require(object["result"] as? [String: Any])
    }

    /// Waits until a task has been run or removed.
    func waitForEnd(_ path: String) throws {
        _ = try eventually("the end of \(path)") { try send("GET", path).status == 404 ? true : nil }
    }
}

private let options = ["--addr", "127.0.0.1:0", "--delay-tasks", "127.0.0.1:0"]

/// A time in whole seconds.
private func seconds(fromNow seconds: Double) -> Int { Int(Date().timeIntervalSince1970 + seconds) }

@Suite(.blocking) struct DelayTasksTests {
    private let receiver: Receiver

    init() throws { receiver = try Receiver() }

    /// A call that came to the receiver.
    private func call(_ path: String, _ count: Int = 1) throws -> [String: Any] {
        let received = try receiver.wait(path, count)[count - 1]
        #expect(received.method == "POST")
        #expect(received["Content-Type"] == "application/json; charset=UTF-8")
        #expect(received["User-Agent"] == "Go-http-client/1.1")
        #expect(received["Emq-Task-Id"] == nil)
        return try #require(try JSONSerialization.jsonObject(with: Data(received.body.utf8)) as? [String: Any])
    }

    @Test func theRequestsOfTheDocumentWorkAsPrinted() throws {
        let server = try Server(options)
        let client = try DelayTasksClient(server)
        try client.request("POST", "/handler/mail", #"{"handler": "\#(receiver.url("/handler"))"}"#)

        // It is created, updated, found, and run at its time, which may come before it is found.
        #expect(try server.send("POST", "/pause/delay-tasks%2Fmail").status == 200)
        let soon = seconds(fromNow: 2)
        for params in [#"{"old": 1}"#, #"{"to": "a@b", "n": [1, 2]}"#] {
            let json = #"{"timestamp": \#(soon), "key": 18446744073709551615, "params": \#(params), "handler": ""}"#
            try client.request("POST", "/task/mail", json)
        }
        let path = "/task/mail/18446744073709551615"
        for target in [path, "\(path)?timestamp=\(soon)"] {
            let result = try #require(try client.find(target))
            #expect(result["timeToRun"] as? Int == soon)
            #expect((result["params"] as? [String: Any])?["to"] as? String == "a@b")
            #expect(result["handler"] as? String == receiver.url("/handler"))
            #expect(result.count == 3)
        }
        #expect(try server.send("POST", "/resume/delay-tasks%2Fmail").status == 200)
        let first = try call("/handler")
        #expect(Date().timeIntervalSince1970 >= Double(soon))
        #expect(first["cate"] as? String == "mail")
        #expect(first["key"] as? UInt64 == .max)
        #expect((first["params"] as? [String: Any])?["to"] as? String == "a@b")
        #expect(first["inAdvance"] as? Bool == false)
        try client.waitForEnd(path)

        // It is removed, and removed by running it.
        let later = seconds(fromNow: 1000)
        for key in [1, 2] {
            let handler = receiver.url("/own")
            let json = #"{"timestamp": \#(later), "key": \#(key), "params": \#(key), "handler": "\#(handler)"}"#
            try client.request("POST", "/task/mail", json)
            #expect(try client.find("/task/mail/\(key)")?["handler"] as? String == handler)
        }
        let listing = try client.send("GET", "/tasks")
        #expect(listing.body.contains("(\(later))  key 2  waiting  \(receiver.url("/own"))\n"))
        let head = try client.send("HEAD", "/tasks")
        #expect(head.status == 200 && head.fields["content-length"] == listing.fields["content-length"])
        try client.request("DELETE", "/task/mail", #"{"timestamp": \#(later), "key": 1, "exec": false}"#)
        try client.request("DELETE", "/task/mail", #"{"timestamp": \#(later), "key": 2, "exec": true}"#)
        let second = try call("/own")
        #expect(second["key"] as? Int == 2 && second["params"] as? Int == 2 && second["inAdvance"] as? Bool == true)
        #expect(try client.find("/task/mail/1") == nil)
        #expect(try client.find("/task/mail/2") == nil)
        #expect(receiver.received("/own").count == 1 && receiver.received("/handler").count == 1)

        let health = try client.send("GET", "/health")
        #expect(health.body == "OK\n" && health.fields["content-type"] == "text/plain;charset=UTF-8")
    }

    @Test func onlyARequestWithoutAnAnswerIsAFailedAttempt() throws {
        receiver.script("/moved", [.answer("307 Temporary Redirect", fields: "Location: /flaky\r\n")])
        receiver.script("/flaky", [.send("HTTP/1.1 2"), .close], [.answer("500 Internal Server Error")])
        let server = try Server(options)
        let client = try DelayTasksClient(server)
        let json = #"{"timestamp": \#(seconds(fromNow: 0)), "key": 5, "handler": "\#(receiver.url("/moved"))"}"#
        try client.request("POST", "/task/mail", json)
        let retried = try call("/flaky", 2)
        #expect(retried["key"] as? Int == 5 && retried["params"] is NSNull)
        try client.waitForEnd("/task/mail/5")
        #expect(receiver.received("/moved").count == 2 && receiver.received("/flaky").count == 2)
        #expect(try server.count("delay-tasks%2Fmail", "dead") == 0)
        #expect(try server.count("delay-tasks%2Fmail", "acked") == 1)
    }

    @Test func tasksAndHandlersSurviveARestart() throws {
        let directory = DataDirectory()
        let arguments = options + ["--data", directory.path]
        let soon = seconds(fromNow: 2)
        let later = seconds(fromNow: 1000)
        func start() throws -> (Server, DelayTasksClient) {
            let server = try Server(arguments)
            let client = try DelayTasksClient(server)
            _ = try eventually("the end of the recovery") {
                try client.send("GET", "/health").status == 200 ? true : nil
            }
            return (server, client)
        }
        do {
            let (server, client) = try start()
            try client.request("POST", "/handler/mail", #"{"handler": "\#(receiver.url("/handler"))"}"#)
            // Otherwise it might be run before the crash.
            #expect(try server.send("POST", "/pause/delay-tasks%2Fmail").status == 200)
            try client.request("POST", "/task/mail", #"{"timestamp": \#(soon), "key": 1, "params": "soon"}"#)
            try client.request("POST", "/task/mail", #"{"timestamp": \#(later), "key": 2, "params": "old"}"#)
            // These tasks wait for a handler.
            try client.request("POST", "/task/post", #"{"timestamp": \#(later), "key": 3, "params": "advance"}"#)
            try client.request("DELETE", "/task/post", #"{"timestamp": \#(later), "key": 3, "exec": true}"#)
            try server.crash()
        }
        let (server, client) = try start()
        #expect(try client.find("/task/mail/1")?["timeToRun"] as? Int == soon)
        #expect(try client.find("/task/mail/2?timestamp=\(later)")?["handler"] as? String == receiver.url("/handler"))
        #expect(try client.find("/task/post/3") == nil)
        #expect(try server.send("POST", "/resume/delay-tasks%2Fmail").status == 200)
        let soonCall = try call("/handler")
        #expect(soonCall["params"] as? String == "soon" && soonCall["inAdvance"] as? Bool == false)
        try client.request("POST", "/handler/post", #"{"handler": "\#(receiver.url("/post"))"}"#)
        let advanceCall = try call("/post")
        #expect(advanceCall["key"] as? Int == 3 && advanceCall["params"] as? String == "advance")
        #expect(advanceCall["inAdvance"] as? Bool == true)
        // The task is still found by its key.
        try client.request("POST", "/task/mail", #"{"timestamp": \#(later), "key": 2, "params": "new"}"#)
        #expect(try client.find("/task/mail/2")?["params"] as? String == "new")
        #expect(try server.count("delay-tasks%2Fmail", "delayed") == 1)
    }

    @Test func runningATaskInAdvanceIsAtomic() throws {
        let directory = DataDirectory()
        let server = try directory.start("--delay-tasks", "127.0.0.1:0")
        let client = try DelayTasksClient(server)
        func frameCount() throws -> Int {
            try directory.segments.reduce(0) { try $0 + directory.frameEnds($1).count - 1 }
        }
        let task = #"{"timestamp": \#(seconds(fromNow: 1000)), "key": 3, "exec": true}"#
        try client.request("POST", "/task/mail", task)
        let before = try frameCount()
        try client.request("DELETE", "/task/mail", task)
        let after = try frameCount()
        // After a crash there is either one task or the other.
        #expect(after == before + 1)
        #expect(try server.count("delay-tasks%2Fmail", "ready") == 1)
    }

    @Test func registeringAHandlerKeepsAnOperatorsConfiguration() throws {
        receiver.script("/held", [.hold, .ok])
        let server = try Server(options)
        let client = try DelayTasksClient(server)
        try server.configure("delay-tasks%2Fmail", #"{"max_length": 5, "push": {"concurrency": 2}}"#)
        try client.request("POST", "/handler/mail", #"{"handler": "\#(receiver.url("/held"))"}"#)
        let configuration = try server.get("/config/delay-tasks%2Fmail").object
        #expect(configuration["max_length"] as? Int == 5)
        let push = try #require(configuration["push"] as? [String: Any])
        #expect(push["concurrency"] as? Int == 2 && push["url"] as? String == receiver.url("/held"))
        let now = seconds(fromNow: 0)
        for key in 1...5 { try client.request("POST", "/task/mail", #"{"timestamp": \#(now), "key": \#(key)}"#) }
        try receiver.wait("/held", 2)
        let refusal = try client.send("POST", "/task/mail", #"{"timestamp": \#(now), "key": 6}"#)
        #expect(refusal.status == 429)
        #expect(try refusal.object["code"] as? Int == 429)
        // This task replaces the one that it runs.
        try client.request("DELETE", "/task/mail", #"{"timestamp": \#(now), "key": 5, "exec": true}"#)
        #expect(try server.count("delay-tasks%2Fmail", "ready") == 3)
        receiver.open("/held")
        try receiver.wait("/held", 5)
        #expect(receiver.peak("/held") == 2)
        // emq's own interface does not add to the queue.
        #expect(try server.post("/enqueue/delay-tasks%2Fmail", #"{"content": 1}"#).status == 403)
    }

    @Test func aTaskStaysIfThereIsNoMemoryForItsCall() throws {
        let server = try Server(options + ["--max-memory", "20M"])
        let client = try DelayTasksClient(server)
        let later = seconds(fromNow: 1000)
        func add(_ key: Int, megabytes: Int) throws -> Int {
            let params = String(repeating: "x", count: megabytes << 20)
            return try client.send(
                "POST", "/task/mail", #"{"timestamp": \#(later), "key": \#(key), "params": "\#(params)"}"#
            ).status
        }
        func removal(_ key: Int, exec: Bool) -> String {
            #"{"timestamp": \#(later), "key": \#(key), "exec": \#(exec)}"#
        }
        #expect(try add(1, megabytes: 4) == 200)
        let full = try #require(try (2...30).first { try add($0, megabytes: 1) == 503 })
        #expect(full > 2)
        let refusal = try client.send("DELETE", "/task/mail", removal(1, exec: true))
        #expect(refusal.status == 503 && refusal.fields["retry-after"] != nil)
        #expect(try refusal.object["code"] as? Int == 503)
        #expect(try client.find("/task/mail/1") != nil)
        #expect(try server.count("delay-tasks%2Fmail", "ready") == 0)
        try client.request("DELETE", "/task/mail", removal(1, exec: false))
        try client.request("DELETE", "/task/mail", removal(2, exec: true))
        #expect(try server.count("delay-tasks%2Fmail", "ready") == 1)
    }

    @Test func whatFollowsALargeObjectIsPassedOver() throws {
        let server = try Server(options)
        let client = try DelayTasksClient(server)
        let params = String(repeating: "x", count: 1 << 20)
        let task = #"{"timestamp": \#(seconds(fromNow: 1000)), "key": 1, "params": "\#(params)"}"#
        try client.request("POST", "/task/mail", task + "}")
        #expect(try client.find("/task/mail/1")?["params"] as? String == params)
    }

    @Test func badRequestsAreRefusedInTheEnvelope() throws {
        let server = try Server(options)
        let port = try server.delayTasksPort()
        for (request, status) in [
            ("POST /task/mail HTTP/1.1\r\n\r\n", 400),
            ("POST /task/mail HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999\r\n\r\n", 413),
            ("POST /task/mail HTTP/1.1\r\nHost: a\r\nOrigin: http://evil\r\nContent-Length: 0\r\n\r\n", 403),
        ] {
            let client = try Client(port: port)
            client.send(request)
            let answer = try client.response()
            #expect(answer.status == status)
            #expect(try answer.object["code"] as? Int == status)
            #expect(try answer.object["msg"] is String)
        }
    }
}
