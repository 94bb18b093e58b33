// `/errors/` and `/workers/`: in virtual time, and through real sockets.

import Foundation
import Support
import Testing

@testable import Delivery
@testable import emq

@Suite(.blocking) struct TaskGroupTests {
    /// The server's own interface in virtual time.
    private struct World {
        let server: VirtualServer

        init() throws { server = try VirtualServer() }

        @discardableResult
        func send(_ method: String, _ target: String, _ body: String = "") throws -> Response {
            let response = try server.send(method, target, body, service: 0)
            let flaws = Contract.shared.flaws(response, to: method, target)
            #expect(flaws.isEmpty, "\(method) \(target): \(flaws)")
            return response
        }

        func get(_ target: String) throws -> [String: Any] { try send("GET", target).object }

        /// Adds tasks, and lets a worker take them.
        func take(_ queue: String, _ count: Int = 1, worker: String? = nil) throws -> [String] {
            let tasks = Array(repeating: "{}", count: count).joined(separator: ",")
            try send("POST", "/enqueue/\(queue)", "[\(tasks)]")
            let name = worker.map { ", \"worker\": \"\($0)\"" } ?? ""
            let taken = try send("POST", "/wait/", "{\"queues\": [\"\(queue)\"], \"max\": \(count)\(name)}").tasks
            return taken.compactMap { $0?["id"] as? String }
        }

        func bury(_ queue: String, _ error: String, _ count: Int = 1) throws -> [String] {
            let ids = try take(queue, count)
            let list = ids.map { "\"\($0)\"" }.joined(separator: ",")
            let reason = error.isEmpty ? "" : ", \"error\": \"\(error)\""
            try send("POST", "/nak/", "{\"ids\": [\(list)], \"dead\": true\(reason)}")
            return ids
        }

        var time: Double { Double(server.now) / 1000 }
    }

    /// A short form of each group.
    private func groups(_ answer: [String: Any]) -> [String] {
        (answer["errors"] as? [[String: Any]] ?? []).map { group in
            "\(group["queue"] ?? "") \(group["error"] ?? "-") \(group["count"] ?? "")"
        }
    }

    private func workers(_ answer: [String: Any]) -> [[String: Any]] { answer["workers"] as? [[String: Any]] ?? [] }

    private func names(_ answer: [String: Any]) -> [String] { workers(answer).compactMap { $0["name"] as? String } }

    // MARK: Errors

    @Test func deadTasksAreGroupedByTheirErrors() throws {
        let world = try World()
        let first = world.time
        _ = try world.bury("mail/a", "no route to host", 2)
        world.server.advance(seconds: 10)
        let ids = try world.bury("mail/a", "no route to host\\n  at line 7")
        _ = try world.bury("mail/b", "", 2)
        _ = try world.bury("post", "no route to host")
        let answer = try world.get("/errors/")
        #expect(
            groups(answer) == [
                "mail/a no route to host 3", "mail/b - 2", "post no route to host 1",
            ])
        #expect(answer["groups"] as? Int == 3 && answer["tasks"] as? Int == 6)
        #expect(answer["as_of"] as? Double == world.time && answer["left_out"] == nil)
        let group = try #require((answer["errors"] as? [[String: Any]])?.first)
        #expect(group["first"] as? Double == first && group["last"] as? Double == world.time)
        #expect(group["example"] as? String == ids[0])
        #expect(groups(try world.get("/errors/?n=1")) == ["mail/a no route to host 3"])
        #expect(try world.get("/errors/?n=1")["groups"] as? Int == 3)
        let mail = try world.get("/errors/?prefix=mail%2F&match=*b")
        #expect(groups(mail) == ["mail/b - 2"] && mail["tasks"] as? Int == 2)
        #expect(groups(try world.get("/errors/post")) == ["post no route to host 1"])
        #expect(try world.get("/errors/unknown")["tasks"] as? Int == 0)
    }

    /// Tracebacks of Python begin alike. What groups them also selects them.
    @Test func tracebacksAreGroupedByTheirLastLine() throws {
        let world = try World()
        let header = "Traceback (most recent call last):"
        let trace = { (error: String) in "\(header)\\n  File \\\"w.py\\\", line 3, in run\\n    go()\\n\(error)" }
        for error in ["KeyError: 'x'\\n", "OSError: y", "KeyError: 'x'"] { _ = try world.bury("q", trace(error)) }
        _ = try world.bury("q", "KeyError: 'x'")
        _ = try world.bury("q", header)
        let others = ["q OSError: y 1", "q \(header) 1"]
        #expect(groups(try world.get("/errors/q")).sorted() == ["q KeyError: 'x' 3"] + others)
        // The kick ends later, and its response comes then.
        _ = try world.server.begin("POST", "/kick/q?error=KeyError:%20'x'", service: 0)
        world.server.advance(seconds: 1)
        #expect(try world.get("/stats/q")["ready"] as? Int == 3)
        #expect(groups(try world.get("/errors/q")).sorted() == others)
        _ = try world.server.begin("POST", "/kick/q?error_match=Trace*", service: 0)
        world.server.advance(seconds: 1)
        #expect(groups(try world.get("/errors/q")) == ["q OSError: y 1"])
    }

    @Test func aCensusThatTakesLongIsShared() throws {
        let world = try World()
        _ = try world.bury("q", "x", 1000)
        let first = try world.send("GET", "/errors/").body
        _ = try world.bury("q", "x")
        #expect(try world.send("GET", "/errors/").body == first)
        // Also by other requests.
        #expect(try world.get("/errors/q")["tasks"] as? Int == 1000)
        world.server.advance(seconds: 1)
        #expect(try world.get("/errors/")["tasks"] as? Int == 1001)
        // Memory is given back when nobody asks.
        world.server.advance(seconds: 100)
        #expect(try world.get("/errors/")["as_of"] as? Double == world.time)
    }

    @Test func fewTasksAreCountedAnew() throws {
        let world = try World()
        for count in 1...3 {
            _ = try world.bury("q", "x")
            #expect(try world.get("/errors/")["tasks"] as? Int == count)
        }
    }

    @Test func wrongParametersAreRefused() throws {
        let world = try World()
        for (target, field) in [
            ("/errors/?n=0", "n"), ("/errors/?n=1001", "n"), ("/errors/q?match=x", "match"),
            ("/workers/?sort=age", "sort"), ("/workers/?prefix=x", "prefix"),
        ] {
            let answer = try world.send("GET", target)
            #expect(answer.status == 400 && answer.field == field, "\(target)")
        }
    }

    // MARK: Workers

    @Test func workersAreListedWithTheirWaitsAndTasks() throws {
        let world = try World()
        // A wait that is not over would keep its server.
        defer { world.server.stop() }
        let start = world.time
        let ids = try world.take("q", 2, worker: "host-1")
        world.server.advance(seconds: 5)
        _ = try world.take("q", 12, worker: "host-2")
        _ = try world.take("p", 1, worker: "host-1")
        _ = try world.take("q", 3)
        #expect(
            try world.server.begin(
                "POST", "/wait/", #"{"queues": ["idle", "q"], "max": 1, "timeout": 60000, "worker": "host-3"}"#,
                service: 0) == [])
        #expect(try world.server.begin("POST", "/wait/", #"{"queues": ["x"], "timeout": 60000}"#, service: 0) == [])
        let answer = try world.get("/workers/")
        #expect(names(answer) == ["host-1", "host-2", "host-3"])
        #expect(answer["count"] as? Int == 3)
        #expect(answer["unnamed"] as? [String: Int] == ["waiting": 1, "held": 3])
        let first = workers(answer)[0]
        #expect(first["held"] as? Int == 3 && first["waiting"] as? Int == 0)
        #expect(first["oldest_dispatched"] as? Double == start)
        let tasks = try #require(first["tasks"] as? [[String: Any]])
        #expect(Set(tasks.prefix(2).compactMap { $0["id"] as? String }) == Set(ids))
        #expect(tasks.map { $0["queue"] as? String } == ["q", "q", "p"])
        #expect(tasks[0]["lease_end"] as? Double == start + 300)
        #expect(first["first_seen"] as? Double == start && first["last_seen"] as? Double == world.time)
        #expect(workers(answer)[1]["held"] as? Int == 12)
        #expect((workers(answer)[1]["tasks"] as? [Any])?.count == 10)
        let waiting = workers(answer)[2]
        #expect(waiting["waiting"] as? Int == 1 && waiting["queues"] as? [String] == ["idle", "q"])
        #expect(waiting["oldest_dispatched"] == nil && (waiting["tasks"] as? [Any])?.isEmpty == true)
        #expect(names(try world.get("/workers/?sort=held")) == ["host-2", "host-1", "host-3"])
        #expect(names(try world.get("/workers/?sort=name&n=2")) == ["host-1", "host-2"])
        #expect(names(try world.get("/workers/?sort=last_seen")) == ["host-1", "host-2", "host-3"])
        #expect(names(try world.get("/workers/?match=*-3")) == ["host-3"])
        // The wait for host-3 lasts, so it is seen all the time; the others have not asked since.
        world.server.advance(seconds: 30)
        let later = try world.get("/workers/?sort=last_seen")
        #expect(names(later) == ["host-3", "host-1", "host-2"])
        #expect(workers(later)[0]["last_seen"] as? Double == world.time)
    }

    /// A pattern of many stars takes long to compare with many names, so the answers come later, one after the other.
    @Test func answersThatTakeLongHoldUpNobody() throws {
        let world = try World()
        let name = String(repeating: "a", count: 250)
        for number in 0..<50 { _ = try world.take("q\(number)", worker: "\(name)\(1000 + number)") }
        let pattern = String(repeating: "*a", count: 120) + "*b"
        #expect(try world.server.begin("GET", "/workers/?match=*a1001", service: 0) != [])
        #expect(try world.server.begin("GET", "/workers/?match=\(pattern)", service: 0) == [])
        #expect(try world.get("/workers/?match=*a1001")["count"] as? Int == 1)
    }

    @Test func tasksBeingPushedAreNoWorkers() throws {
        let server = try VirtualServer(destinations: try DestinationPolicy(["loopback"]))
        #expect(
            try server.send("POST", "/enqueue/q", #"{"request": {"url": "http://127.0.0.1:9/"}}"#, service: 0).status
                == 200)
        #expect(server.sent.count == 1)
        let answer = try server.send("GET", "/workers/", service: 0).object
        #expect(answer["unnamed"] as? [String: Int] == ["waiting": 0, "held": 0])
    }

    // MARK: Through real sockets

    @Test func aTokenShowsOnlyItsQueues() throws {
        let (all, some) = (TestToken("all", ["read", "enqueue", "work"]), TestToken("some", ["read"], queues: ["a*"]))
        let file = try TokenFile([all, some])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try server.connect()
        func ask(_ token: TestToken, _ method: String, _ path: String, _ json: String? = nil) throws -> Response {
            try client.ask(method, path, json, token.bearer)
        }
        for queue in ["a1", "a2", "b1"] {
            _ = try ask(all, "POST", "/enqueue/\(queue)", "[{}, {}, {}]")
            let taken = try ask(all, "POST", "/wait/", "{\"queues\": [\"\(queue)\"], \"max\": 1}").tasks
            let id = try #require(taken.first??["id"] as? String)
            _ = try ask(all, "POST", "/nak/", "{\"ids\": [\"\(id)\"], \"dead\": true, \"error\": \"x\"}")
            for worker in ["w", "only-\(queue)", ""] {
                let name = worker.isEmpty ? "" : ", \"worker\": \"\(worker)\""
                _ = try ask(all, "POST", "/wait/", "{\"queues\": [\"\(queue)\"], \"max\": 1\(name)}")
            }
            _ = try ask(all, "POST", "/enqueue/\(queue)", "{}")
            _ = try ask(all, "POST", "/wait/", "{\"queues\": [\"\(queue)\"], \"max\": 1}")
        }
        let waiter = try server.connect()
        let body = #"{"queues": ["none", "a3"], "max": 1, "timeout": 60000, "worker": "waits"}"#
        waiter.send(
            "POST /wait/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: \(all.bearer)\r\n"
                + "Content-Type: application/json\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)")
        _ = try eventually("the wait") {
            (try ask(all, "GET", "/stats/a3").object["waiters"] as? Int) == 1 ? true : nil
        }
        let everything = try ask(all, "GET", "/workers/?sort=name").object
        #expect(names(everything) == ["only-a1", "only-a2", "only-b1", "w", "waits"])
        #expect(everything["unnamed"] as? [String: Int] == ["waiting": 0, "held": 3])
        let part = try ask(some, "GET", "/workers/?sort=name").object
        #expect(names(part) == ["only-a1", "only-a2", "w", "waits"])
        #expect(part["unnamed"] as? [String: Int] == ["held": 2])
        #expect(workers(part)[2]["held"] as? Int == 2)
        #expect(workers(part)[3]["queues"] as? [String] == ["a3"] && workers(part)[3]["waiting"] as? Int == 1)
        #expect(groups(try ask(all, "GET", "/errors/").object) == ["a1 x 1", "a2 x 1", "b1 x 1"])
        #expect(groups(try ask(some, "GET", "/errors/").object) == ["a1 x 1", "a2 x 1"])
        #expect(try ask(some, "GET", "/errors/").object["tasks"] as? Int == 2)
        #expect(try ask(some, "GET", "/errors/b1").status == 403)
        withExtendedLifetime(waiter) {}
    }

    /// A census of so many dead tasks takes several turns, so the answers come later.
    @Test func manyTasksAreCountedBetweenOtherRequests() throws {
        let server = try Server()
        try server.enqueueAll("q", Array(0..<6000))
        for _ in 0..<6 {
            let ids = try server.take("q").compactMap { $0["id"] as? String }.map { "\"\($0)\"" }
            _ = try server.post("/nak/", "{\"ids\": [\(ids.joined(separator: ","))], \"dead\": true}")
        }
        let clients = try (0..<5).map { number in
            let client = try server.connect()
            client.send("GET /errors/?n=\(number / 2 + 1) HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return client
        }
        // One that leaves does no harm.
        do {
            let leaving = try server.connect()
            leaving.send("GET /errors/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        }
        for client in clients { #expect(groups(try client.response().object) == ["q - 6000"]) }
        #expect(try server.get("/errors/q").object["tasks"] as? Int == 6000)
    }
}
