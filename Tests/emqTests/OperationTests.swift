// Filters of kick, purge, move and peek, and `/operations/`, through real sockets.

import Foundation
import Support
import Testing

@Suite(.blocking) struct OperationTests {
    let server: Server

    init() throws { server = try Server() }

    /// Lets tasks with these contents die with an error.
    private func bury(_ queue: String, _ contents: [Int], _ error: String?) throws {
        try server.enqueueAll(queue, contents)
        let ids = try server.take(queue, contents.count).compactMap { $0["id"] as? String }.map { "\"\($0)\"" }
        let reason = error.map { ", \"error\": \"\($0)\"" } ?? ""
        try server.post("/nak/", "{\"ids\": [\(ids.joined(separator: ","))], \"dead\": true\(reason)}")
    }

    private func contents(_ path: String) throws -> [Int] {
        try server.get(path).tasks.compactMap { $0?["content"] as? Int }
    }

    @Test func filtersSelectTasksByTheirErrors() throws {
        try bury("q", [1, 2], "no route to host")
        try bury("q", [3], nil)
        try bury("q", [4], "timeout\\n  at line 3")
        try bury("q", [5], "read: timeout")
        let dead = "/peek/q?state=dead&n=10"
        #expect(try contents("\(dead)&error=no%20route%20to%20host") == [1, 2])
        #expect(try contents("\(dead)&error=") == [3])
        #expect(try contents("\(dead)&error_match=*timeout*") == [4, 5])
        #expect(try contents("\(dead)&error_match=*") == [1, 2, 4, 5])
        #expect(try contents("\(dead)&error_match=*timeout&error=timeout") == [4])
        #expect(try contents("\(dead)&older_than=60") == [])
        #expect(try contents("\(dead)&newer_than=60.5") == [1, 2, 3, 4, 5])
        #expect(try contents("/peek/unknown?error=x") == [])
        #expect(try server.send("POST", "/kick/q?error=").body == "{\"kicked\":1}")
        #expect(try server.send("POST", "/move/q?state=dead&to=r&error_match=*timeout").body == "{\"moved\":2}")
        #expect(try server.send("POST", "/purge/q?state=dead&newer_than=0").body == "{\"purged\":0}")
        #expect(try server.send("POST", "/purge/q?state=dead&error=no%20route%20to%20host").body == "{\"purged\":2}")
        #expect(try contents("/peek/q?n=10") == [3] && contents("/peek/r?state=dead&n=10") == [4, 5])
    }

    @Test(arguments: [
        "older_than=x", "older_than=-1", "newer_than=1.2.3", "newer_than=", "newer_than=4294967296", "error=%FF",
        "error=%0A", "error=%0D%0A",
    ])
    func wrongFiltersChangeNothing(parameter: String) throws {
        try server.enqueueAll("q", [1])
        for target in ["/purge/q", "/peek/q", "/kick/q"] {
            let method = target == "/peek/q" ? "GET" : "POST"
            let answer = try server.send(method, "\(target)?\(parameter)")
            #expect(answer.status == 400 && answer.field == String(parameter.prefix { $0 != "=" }), "\(target)")
        }
        #expect(try contents("/peek/q") == [1])
    }

    /// A long pattern makes a peek look at fewer tasks.
    @Test func aPeekWithAFilterSaysWhereToGoOn() throws {
        try server.enqueueAll("q", Array(0..<2000))
        let pattern = String(repeating: "x", count: 250)
        let first = try server.get("/peek/q?n=5&error_match=\(pattern)")
        let link = try #require(first.fields["link"])
        #expect(first.body == "[]")
        let next = try #require(link.firstMatch(of: /^<(\/peek\/q\?n=5&error_match=x+&after=.{22})>; rel="next"$/))
        let second = try server.get(String(next.1))
        #expect(second.status == 200 && second.fields["link"] != link)
        #expect(try server.get("/peek/q?n=5&error=x").fields["link"] == nil)
        // A full page has a next one, unless it is the last.
        let full = try server.get("/peek/q?n=1000&error=")
        let last = try #require(full.fields["link"]?.firstMatch(of: /^<(.+)>/)).1
        let rest = try server.get(String(last))
        #expect(try full.tasks.count == 1000 && rest.tasks.count == 1000 && rest.fields["link"] == nil)
    }

    @Test func operationsShowTheirProgressAndStop() throws {
        try server.enqueueAll("q", Array(0..<1000))
        #expect(try server.get("/operations/").body == "{\"operations\":[]}")
        try server.beginLongOperations()
        let pattern = "*" + String(repeating: "x", count: 200)
        let mover = try server.begin("POST", "/move/q?to=r&error_match=\(pattern)&newer_than=86400")
        let operations = try #require(try server.get("/operations").object["operations"] as? [[String: Any]])
        let operation = try #require(operations.last)
        #expect(operation["action"] as? String == "move" && operation["queue"] as? String == "q")
        #expect(operation["to"] as? String == "r" && operation["state"] as? [String] == ["ready"])
        #expect(operation["error_match"] as? String == pattern && operation["newer_than"] as? Int == 86400)
        #expect(operation["total"] as? Int == 1000 && operation["changed"] as? Int == 0)
        #expect(operations.count > 1 && operations.first?["queue"] as? String == "busy")
        let id = try #require(operation["id"] as? Int)
        #expect(try server.send("DELETE", "/operations/\(id)").status == 204)
        #expect(try mover.response().body == "{\"moved\":0,\"stopped\":true}")
        for gone in ["\(id)", "x", "-1"] {
            let answer = try server.send("DELETE", "/operations/\(gone)")
            #expect(answer.status == 404 && answer.detail.contains("under way"))
        }
        let others = try #require(try server.get("/operations").object["operations"] as? [[String: Any]])
        #expect(!others.isEmpty && others.allSatisfy { $0["queue"] as? String == "busy" })
    }

    @Test func aTokenSeesAndStopsOnlyOperationsOfItsQueues() throws {
        let all = TestToken("all", ["read", "enqueue", "work", "manage"])
        let (some, reader) = (
            TestToken("some", ["read", "manage"], queues: ["r"]), TestToken("reader", ["read"])
        )
        let source = TestToken("source", ["read"], queues: ["q"])
        let file = try TokenFile([all, some, reader, source])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try server.connect()
        #expect(try client.ask("POST", "/enqueue/q", "[{}, {}]", all.bearer).status == 200)
        try server.beginLongOperations(all.bearer)
        let pattern = "*" + String(repeating: "x", count: 200)
        let mover = try server.connect()
        mover.send(
            "POST /move/q?to=r&error_match=\(pattern) HTTP/1.1\r\nHost: localhost\r\nAuthorization: \(all.bearer)\r\n"
                + "Content-Length: 0\r\n\r\n")
        let id = try eventually("the move") {
            let operations = try client.ask("GET", "/operations/", nil, all.bearer).object["operations"]
            return (operations as? [[String: Any]])?.first { $0["queue"] as? String == "q" }?["id"] as? Int
        }
        #expect(try client.ask("GET", "/operations/", nil, some.bearer).body == "{\"operations\":[]}")
        // Who may not know of the target does not see it.
        let shown = try client.ask("GET", "/operations/", nil, source.bearer).body
        #expect(shown.contains("\"action\":\"move\",\"queue\":\"q\",\"state\""), "\(shown)")
        #expect(try client.ask("DELETE", "/operations/\(id)", nil, some.bearer).status == 404)
        #expect(try client.ask("DELETE", "/operations/+\(id)", nil, all.bearer).status == 404)
        #expect(try client.ask("DELETE", "/operations/\(id)", nil, reader.bearer).status == 403)
        #expect(try client.ask("DELETE", "/operations/\(id)", nil, all.bearer).status == 204)
        #expect(try mover.response().body.contains("\"stopped\":true"))
        let line = try eventually("the line in the log") {
            server.output.split(separator: "\n").first { $0.contains("DELETE /operations") }
        }
        #expect(line.contains("queue=\"q\"") && line.contains("token=\"all\""), "\(line)")
    }
}

extension Server {
    /// Begins eight operations that take much longer than a test, so that one that is begun after them waits for them,
    /// and can be looked at and stopped however slow the machine is.
    func beginLongOperations(_ authorization: String? = nil) throws {
        let client = try connect()
        let tasks = "[" + Array(repeating: "{}", count: 10_000).joined(separator: ",") + "]"
        #expect(try client.ask("POST", "/enqueue/busy", tasks, authorization).status == 200)
        let error = String(repeating: "x", count: 200)
        for _ in 0..<10 {
            let taken = try client.ask("POST", "/wait/", #"{"queues": ["busy"], "max": 1000}"#, authorization)
            let ids = try taken.tasks.compactMap { $0?["id"] as? String }.map { "\"\($0)\"" }.joined(separator: ",")
            let outcome = "{\"ids\": [\(ids)], \"dead\": true, \"error\": \"\(error)\"}"
            #expect(try client.ask("POST", "/nak/", outcome, authorization).status == 200)
        }
        // It is found not to match only at the end of the pattern, again and again.
        let pattern = "*" + String(repeating: "x", count: 100) + "y"
        let field = authorization.map { "Authorization: \($0)\r\n" } ?? ""
        let clients = try (0..<8).map { _ in
            let client = try connect()
            client.send(
                "POST /purge/busy?state=dead&error_match=\(pattern) HTTP/1.1\r\nHost: localhost\r\n\(field)"
                    + "Content-Length: 0\r\n\r\n")
            return client
        }
        // A later request on another connection is served later.
        _ = try get("/healthz")
        withExtendedLifetime(clients) {}
    }
}
