// GET /stats/ with a delimiter: queues whose names begin alike are one row.

import Support
import Testing

@testable import emq

@Suite(.blocking) struct QueueGroupTests {
    private let server: VirtualServer

    init() throws { server = try VirtualServer() }

    private func enqueue(_ queue: String, count: Int = 1, _ task: String = #"{"expiry": 86400}"#) throws {
        let tasks = Array(repeating: task, count: count).joined(separator: ",")
        #expect(try server.send("POST", "/enqueue/\(queue)", "[\(tasks)]", service: 0).status == 200)
    }

    private func page(_ query: String) throws -> [String: Any] {
        let answer = try server.send("GET", "/stats/?\(query)", service: 0)
        #expect(answer.status == 200, "\(answer.body)")
        return try answer.object
    }

    private func rows(_ query: String) throws -> [[String: Any]] {
        let page = try page(query)
        #expect(page["queues"] == nil)
        return try #require(page["rows"] as? [[String: Any]])
    }

    /// The names of the rows.
    private func names(_ query: String) throws -> [String] {
        try rows(query).map { try #require(($0["group"] ?? $0["queue"]) as? String) }
    }

    @Test func aGroupHasWhatItsQueuesHaveTogether() throws {
        try enqueue("mail/a", count: 3)
        server.advance(seconds: 9)
        try enqueue("mail/b/c", count: 2)
        try enqueue("mail/b/c", #"{"delay": 600}"#)
        try enqueue("mailer")
        _ = try server.send("POST", "/wait/", #"{"queues": ["mail/b/c"]}"#, service: 0)
        // A wait that is not over would keep its server.
        defer { server.stop() }
        _ = try server.begin("POST", "/wait/", #"{"queues": ["mail/c", "mail/d"], "timeout": 99999}"#, service: 0)
        _ = try server.send("POST", "/pause/mail/c", service: 0)
        server.advance(seconds: 60)
        let rows = try rows("delimiter=/&trend=1")
        let group = try #require(rows.first)
        #expect(rows.count == 2 && group["group"] as? String == "mail/" && group["queue"] == nil)
        for (member, count) in [
            ("queues", 4), ("delayed", 1), ("ready", 4), ("dispatched", 1), ("dead", 0), ("waiters", 2), ("paused", 1),
        ] {
            #expect(group[member] as? Int == count, "\(member)")
        }
        #expect(group["oldest_ready"] as? Double == 69)
        #expect((group["rates"] as? [String: Double])?["enqueued"] == 0.05)
        let trend = try #require(group["trend"] as? [Int])
        #expect(trend.count == 30 && trend.last == 4)
        #expect(rows[1]["queue"] as? String == "mailer" && rows[1]["totals"] != nil && rows[1]["trend"] != nil)
        #expect(try self.rows("delimiter=/").allSatisfy { $0["trend"] == nil })
        // One level deeper.
        #expect(try names("delimiter=/&prefix=mail/") == ["mail/a", "mail/b/", "mail/c", "mail/d"])
        #expect(try names("delimiter=/&prefix=mail/b/") == ["mail/b/c"])
        #expect(try names("delimiter=il&match=mail*") == ["mail"])
        #expect(try names("delimiter=/&prefix=none") == [])
        #expect(try page("delimiter=/&prefix=mail/&match=*c&offset=0")["count"] as? Int == 2)
    }

    @Test func groupsAndQueuesAreSortedTogether() throws {
        for (queue, count) in [("b", 3), ("c/x", 2), ("c/y", 2), ("d", 5), ("c", 1)] {
            try enqueue(queue, count: count)
        }
        server.advance(seconds: 6)
        #expect(try names("delimiter=/") == ["b", "c", "c/", "d"])
        #expect(try names("delimiter=/&sort=ready") == ["d", "c/", "b", "c"])
        #expect(try names("delimiter=/&sort=enqueued") == ["d", "c/", "b", "c"])
        _ = try server.send("POST", "/pause/c/y", service: 0)
        server.advance(seconds: 1)
        _ = try server.send("POST", "/pause/d", service: 0)
        #expect(try names("delimiter=/&sort=paused") == ["c/", "d", "b", "c"])
        // Pages, by both kinds of place.
        let first = try page("delimiter=/&sort=ready&n=2")
        let next = try #require(first["next"] as? String)
        #expect(try names("delimiter=/&sort=ready&n=1&after=\(next)") == ["b"])
        #expect(try names("delimiter=/&after=c&n=1") == ["c/"])
        let second = try page("delimiter=/&sort=ready&offset=1&n=2")
        #expect(second["count"] as? Int == 4 && (second["next"] as? String)?.hasSuffix(":b") == true)
        #expect(try names("delimiter=/&sort=ready&offset=3") == ["c"])
        #expect(second["server"] != nil)
    }

    @Test func mistakes() throws {
        let long = String(repeating: "a", count: 256)
        for query in ["delimiter=", "delimiter=\(long)"] {
            let answer = try server.send("GET", "/stats/?\(query)", service: 0)
            #expect(answer.status == 400 && answer.field == "delimiter")
        }
        #expect(try server.send("GET", "/queues/?delimiter=/", service: 0).status == 400)
    }

    /// Many groups: their list is made in slices and shared.
    @Test func thousandsOfGroups() throws {
        let server = try Server()
        let client = try server.connect()
        for start in stride(from: 0, to: 3000, by: 100) {
            let requests = (start..<start + 100).map { Client.postText("/enqueue/group-\($0 / 2 + 1000)/\($0)", "{}") }
            client.send(requests.joined())
            for _ in 0..<100 { #expect(try client.response().status == 200) }
        }
        let viewers = try (0..<3).map { _ in try server.begin("GET", "/stats/?delimiter=/&sort=ready&offset=1490&n=20")
        }
        for viewer in viewers {
            let page = try viewer.response().object
            let rows = try #require(page["rows"] as? [[String: Any]])
            #expect(page["count"] as? Int == 1500 && rows.count == 10)
            #expect(rows.map { $0["group"] as? String } == (2490..<2500).map { "group-\($0)/" })
            #expect(rows.allSatisfy { $0["queues"] as? Int == 2 && $0["ready"] as? Int == 2 })
        }
    }
}
