// What pages of queues show beside the queues: the server, all tasks by state, counts and trends; and their orders.

import Support
import Testing

@testable import emq

@Suite(.blocking) struct QueueFigureTests {
    private let server: VirtualServer

    init() throws { server = try VirtualServer() }

    private func enqueue(_ queue: String, count: Int = 1, _ task: String = "{}") throws {
        let tasks = Array(repeating: task, count: count).joined(separator: ",")
        #expect(try server.send("POST", "/enqueue/\(queue)", "[\(tasks)]", service: 0).status == 200)
    }

    /// Takes tasks, and returns their ids as a JSON array.
    private func take(_ queue: String, count: Int) throws -> String {
        let answer = try server.send("POST", "/wait/", "{\"queues\": [\"\(queue)\"], \"max\": \(count)}", service: 0)
        let ids = answer.body.matches(of: /"id":("[^"]*")/).map { String($0.1) }
        #expect(ids.count == count)
        return "[\(ids.joined(separator: ","))]"
    }

    private func statistics(_ query: String) throws -> [String: Any] {
        let answer = try server.send("GET", "/stats/?\(query)", service: 0)
        #expect(answer.status == 200, "\(answer.body)")
        return try answer.object
    }

    private func names(_ query: String) throws -> [String] {
        let answer = try server.send("GET", "/stats/?\(query)", service: 0)
        #expect(answer.status == 200, "\(answer.body)")
        return answer.body.matches(of: /"queue":"([^"]*)","delayed"/).map { String($0.1) }
    }

    @Test func theOrders() throws {
        try enqueue("delayed", count: 2, #"{"delay": 600}"#)
        try enqueue("dispatched", count: 2)
        _ = try take("dispatched", count: 2)
        try enqueue("enqueued", count: 9)
        try enqueue("done", count: 3)
        _ = try server.send("POST", "/ack/", "{\"ids\": \(try take("done", count: 3))}", service: 0)
        try enqueue("failed", count: 3)
        _ = try server.send("POST", "/nak/", "{\"ids\": \(try take("failed", count: 3))}", service: 0)
        // A wait that is not over would keep its server.
        defer { server.stop() }
        _ = try server.begin("POST", "/wait/", #"{"queues": ["waiters"], "timeout": 60000}"#, service: 0)
        for queue in ["paused", "later", "a"] {
            _ = try server.send("POST", "/pause/\(queue)", service: 0)
            server.advance(seconds: 2)
        }
        for order in ["delayed", "dispatched", "enqueued", "done", "failed", "waiters", "paused"] {
            #expect(try names("sort=\(order)&n=1") == [order])
        }
        #expect(try names("sort=paused&n=4") == ["paused", "later", "a", "delayed"])
        // The pages of an order follow each other.
        let next = try #require(try statistics("sort=paused&n=2")["next"] as? String)
        #expect(try names("sort=paused&n=1&after=\(next)") == ["a"])
        #expect(try server.send("GET", "/queues/?sort=enqueued&n=1", service: 0).body == "[\"enqueued\"]\n")
    }

    @Test func anOffsetCountsTheQueues() throws {
        for (queue, count) in [("a", 4), ("mail/b", 3), ("mail/c", 2), ("x", 1)] { try enqueue(queue, count: count) }
        for (query, expected, count) in [
            ("offset=0&n=2", ["a", "mail/b"], 4), ("offset=2", ["mail/c", "x"], 4), ("offset=4", [], 4),
            ("offset=2147483647", [], 4), ("sort=ready&offset=1&n=1", ["mail/b"], 4),
            ("prefix=mail/&offset=1", ["mail/c"], 2), ("prefix=mail/&sort=ready&offset=0&n=1", ["mail/b"], 2),
            ("match=*a*&offset=1&n=1", ["mail/b"], 3), ("match=nothing&offset=0", [], 0),
        ] {
            #expect(try names(query) == expected, "\(query)")
            #expect(try statistics(query)["count"] as? Int == count, "\(query)")
        }
        #expect(try statistics("prefix=mail/&offset=0&n=1")["next"] as? String == "mail/b")
        // Each page by offset has the figures of the server; without an offset, nothing is counted.
        #expect(try statistics("offset=2")["server"] != nil)
        #expect(try statistics("")["count"] == nil)
        for query in ["offset=-1", "offset=x", "offset=1&after=a", "offset=2147483648"] {
            let answer = try server.send("GET", "/stats/?\(query)", service: 0)
            #expect(answer.status == 400 && answer.field == "offset", "\(query)")
        }
        #expect(try server.send("GET", "/queues/?offset=1", service: 0).status == 400)
    }

    @Test func theServerAndItsTasks() throws {
        try enqueue("q", count: 3)
        _ = try take("q", count: 1)
        server.advance(seconds: 4)
        try enqueue("later", count: 2)
        // A wait that is not over would keep its server.
        defer { server.stop() }
        _ = try server.begin("POST", "/wait/", #"{"queues": ["idle"], "timeout": 60000}"#, service: 0)
        let first = try statistics("n=1")
        let shown = try #require(first["server"] as? [String: Any])
        #expect(shown["version"] as? String == Options.version && shown["waiters"] as? Int == 1)
        #expect(shown["now"] as? Double == Double(server.now) / 1000)
        #expect(shown["uptime"] != nil && shown["started"] != nil && shown["loop_lag"] != nil)
        let states = try #require(first["states"] as? [String: Int])
        #expect(states["ready"] == 4 && states["dispatched"] == 1 && states.count == 7)
        let oldest = try #require(first["oldest"] as? [String: Any])
        #expect(oldest["queue"] as? String == "q" && oldest["seconds"] as? Double == 4)
        // A paused queue has no task that waits for too long.
        _ = try server.send("POST", "/pause/q", service: 0)
        #expect((try statistics("match=none")["oldest"] as? [String: Any])?["queue"] as? String == "later")
        _ = try server.send("POST", "/pause/later", service: 0)
        #expect(try statistics("")["oldest"] == nil)
        #expect(try statistics("after=l")["server"] == nil)
    }

    @Test func historiesHaveWaitsAndRuns() throws {
        try enqueue("q")
        server.advance(seconds: 5)
        let ids = try take("q", count: 1)
        server.advance(seconds: 2)
        #expect(try server.send("POST", "/ack/", "{\"ids\": \(ids)}", service: 0).status == 200)
        server.advance(seconds: 60)
        for path in ["/stats/q?history=1m", "/stats/?history=1m"] {
            let history = try #require(try server.send("GET", path, service: 0).object["history"] as? [String: Any])
            for (member, seconds) in [("wait_mean", 5), ("wait_max", 5), ("run_mean", 2), ("run_max", 2)] {
                let times = try #require(history[member] as? [Double])
                #expect(times.count == 60 && abs((times.max() ?? 0) - Double(seconds)) < 0.32, "\(member)")
            }
        }
    }

    @Test func theTrendHasTheReadyTasksOfEachMinute() throws {
        try enqueue("q", count: 3, #"{"expiry": 86400}"#)
        server.advance(seconds: 120)
        try enqueue("q", count: 2, #"{"expiry": 86400}"#)
        server.advance(seconds: 60)
        try enqueue("new")
        func trend(_ queue: String) throws -> [Int?]? {
            let queues = try #require(try statistics("trend=1")["queues"] as? [String: [String: Any]])
            let shown = try #require(queues[queue])
            #expect(shown["trend"] != nil)
            return shown["trend"] as? [Int]
        }
        let shown = try #require(try trend("q"))
        #expect(shown.count == 30 && shown.suffix(3) == [3, 3, 5] && shown.prefix(26).allSatisfy { $0 == 0 })
        // It has not been counted.
        #expect(try trend("new") == nil)
        server.advance(seconds: 3600)
        #expect(try trend("q") == Array(repeating: 5, count: 30))
        #expect((try statistics("")["queues"] as? [String: [String: Any]])?["q"]?["trend"] == nil)
        #expect(try server.send("GET", "/stats/?trend=2", service: 0).field == "trend")
    }
}
