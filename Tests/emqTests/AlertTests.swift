// GET /alerts/: what is wrong with the server and its queues.

import Foundation
import Support
import Testing

@testable import Delivery
@testable import emq

@Suite(.blocking) struct AlertTests {
    /// An alert as the response has it.
    private struct Alert: Equatable {
        let level: String
        let kind: String
        let text: String
        var queue: String?
    }

    private func alerts(_ answer: Response) throws -> (status: String, alerts: [Alert], leftOut: Int) {
        #expect(answer.status == 200, "\(answer.body)")
        let object = try answer.object
        let alerts = try #require(object["alerts"] as? [[String: String]]).map { alert in
            Alert(
                level: try #require(alert["level"]), kind: try #require(alert["kind"]),
                text: try #require(alert["text"]), queue: alert["queue"])
        }
        return (try #require(object["status"] as? String), alerts, try #require(object["left_out"] as? Int))
    }

    private func alerts(_ server: VirtualServer) throws -> (status: String, alerts: [Alert], leftOut: Int) {
        try alerts(try server.send("GET", "/alerts/", service: 0))
    }

    private func enqueue(_ server: VirtualServer, _ queue: String, _ fields: String = #""expiry": null"#) throws {
        #expect(try server.send("POST", "/enqueue/\(queue)", "{\(fields)}", service: 0).status == 200)
    }

    /// Makes a task dead.
    private func kill(_ server: VirtualServer, in queue: String, count: Int = 1) throws {
        for _ in 0..<count {
            try enqueue(server, queue, #""max_retries": 0"#)
            let taken = try server.send("POST", "/wait/", "{\"queues\": [\"\(queue)\"], \"max\": 1}", service: 0)
            let id = try #require(taken.body.firstMatch(of: /"id":"([^"]*)"/)).1
            _ = try server.send("POST", "/nak/", "{\"ids\": [\"\(id)\"]}", service: 0)
        }
    }

    @Test func theWorstComesFirstInTheWordsOfTheCheck() throws {
        let server = try VirtualServer()
        let none = try alerts(server)
        #expect(none.status == "ok" && none.alerts.isEmpty && none.leftOut == 0)
        _ = try server.send("POST", "/pause/quiet", service: 0)
        server.advance(seconds: 86_400)
        try kill(server, in: "few")
        try kill(server, in: "many", count: 2)
        try enqueue(server, "stalled%20%22a")
        try enqueue(server, "b")
        server.advance(seconds: 301)
        let found = try alerts(server)
        #expect(found.status == "critical" && found.leftOut == 0)
        #expect(
            found.alerts == [
                Alert(
                    level: "critical", kind: "queue_stalled",
                    text: "the oldest ready task of 'b' has waited for 5 minutes, "
                        + "and no worker waits for tasks or holds one",
                    queue: "b"),
                Alert(
                    level: "critical", kind: "queue_stalled",
                    text: "the oldest ready task of 'stalled \"a' has waited for 5 minutes, "
                        + "and no worker waits for tasks or holds one",
                    queue: "stalled \"a"),
                Alert(
                    level: "warning", kind: "queue_paused", text: "'quiet' has been paused for 24 hours",
                    queue: "quiet"),
                Alert(level: "warning", kind: "dead_tasks", text: "'many' has 2 dead tasks", queue: "many"),
                Alert(level: "warning", kind: "dead_tasks", text: "'few' has 1 dead task", queue: "few"),
            ])
        var report = CheckReport()
        let statistics = try server.send("GET", "/stats/", service: 0)
        let body = try #require(JSONPart(Array(statistics.body.utf8)[...]))
        report.readStatistics(body, try CheckOptions([]) { _ in nil }, now: Double(server.now) / 1000)
        #expect(Set(report.problems.map(\.text)) == Set(found.alerts.map(\.text)))
    }

    /// Nobody has to wait for tasks that are sent, whether the queue says how or the tasks do.
    @Test func pushedQueuesAreLateAndNotStalled() throws {
        let server = try VirtualServer(destinations: try DestinationPolicy(["loopback"]))
        let url = #""url": "http://127.0.0.1:9/", "timeout": 3600"#
        for (queue, more) in [("all", ", \(url)"), ("own", "")] {
            let configuration = "{\"push\": {\"concurrency\": 1\(more)}}"
            #expect(try server.send("PUT", "/config/\(queue)", configuration, service: 0).status == 200)
        }
        for _ in 0..<3 {
            try enqueue(server, "all")
            try enqueue(server, "own", "\"request\": {\(url)}")
            try enqueue(server, "workers")
        }
        server.advance(seconds: 301)
        let kinds = try alerts(server).alerts.map { "\($0.queue ?? "") \($0.kind)" }.sorted()
        #expect(kinds == ["all queue_late", "own queue_late", "workers queue_stalled"])
        let queues = try #require(try server.send("GET", "/stats/", service: 0).object["queues"] as? [String: Any])
        for (queue, pushed) in [("all", true), ("own", true), ("workers", nil)] as [(String, Bool?)] {
            #expect((queues[queue] as? [String: Any])?["pushed"] as? Bool == pushed, "\(queue)")
            let shown = try server.send("GET", "/stats/\(queue)", service: 0).object["pushed"] as? Bool
            #expect(shown == pushed, "\(queue)")
        }
    }

    /// What receivers hold or wait for does not help tasks for workers.
    @Test func aQueueOfBothKindsStallsWithoutWorkers() throws {
        let server = try VirtualServer(destinations: try DestinationPolicy(["loopback"]))
        #expect(try server.send("PUT", "/config/q", #"{"push": {"concurrency": 1}}"#, service: 0).status == 200)
        let request = #""request": {"url": "http://127.0.0.1:9/", "timeout": 3600}, "expiry": null"#
        for _ in 0..<2 { try enqueue(server, "q", request) }
        server.advance(seconds: 301)
        func figures() throws -> [String: Any] { try server.send("GET", "/stats/q", service: 0).object }
        let sent = try figures()
        #expect(sent["dispatched"] as? Int == 1 && sent["sending"] as? Int == 1 && sent["pushed"] as? Bool == true)
        #expect(try alerts(server).alerts.map(\.kind) == ["queue_late"])
        for _ in 0..<3 { try enqueue(server, "q", #""retry": 3600, "expiry": null"#) }
        server.advance(seconds: 301)
        let both = try figures()
        #expect(both["ready"] as? Int == 4 && both["sending"] as? Int == 1 && both["pushed"] == nil)
        #expect(try alerts(server).alerts.map(\.kind) == ["queue_stalled"])
        _ = try server.send("POST", "/wait/", #"{"queues": ["q"], "max": 1}"#, service: 0)
        server.advance(seconds: 2)
        #expect(try figures()["dispatched"] as? Int == 2)
        #expect(try alerts(server).alerts.map(\.kind) == ["queue_late"])
    }

    /// A worker that always holds a task leaves no moment in which it waits, as long as there are more.
    @Test func aQueueWhoseWorkersAreBusyIsLate() throws {
        let server = try VirtualServer()
        for _ in 0..<3 { try enqueue(server, "q", #""retry": 3600, "expiry": null"#) }
        server.advance(seconds: 301)
        #expect(try alerts(server).alerts.map(\.kind) == ["queue_stalled"])
        let taken = try server.send("POST", "/wait/", #"{"queues": ["q"], "max": 1}"#, service: 0)
        server.advance(seconds: 2)
        let busy = Alert(
            level: "warning", kind: "queue_late",
            text: "the oldest ready task of 'q' has waited for 5 minutes; its workers are busy", queue: "q")
        #expect(try alerts(server).alerts == [busy])
        let id = try #require(taken.body.firstMatch(of: /"id":"([^"]*)"/)).1
        _ = try server.send("POST", "/ack/", "{\"ids\": [\"\(id)\"]}", service: 0)
        server.advance(seconds: 2)
        #expect(try alerts(server).alerts.map(\.kind) == ["queue_stalled"])
    }

    @Test func theyAreSharedForTwoSeconds() throws {
        let server = try VirtualServer()
        try kill(server, in: "q")
        let first = try server.send("GET", "/alerts/", service: 0).body
        _ = try server.begin("POST", "/purge/q?state=dead", service: 0)
        server.advance(seconds: 1.9)
        #expect(try server.send("GET", "/alerts/", service: 0).body == first)
        server.advance(seconds: 0.1)
        let second = try server.send("GET", "/alerts/", service: 0)
        #expect(try second.object["status"] as? String == "ok")
        #expect(try second.object["as_of"] as? Double == Double(server.now) / 1000)
    }

    @Test func atMostAHundredAreShown() throws {
        let server = try VirtualServer()
        for number in 0..<230 { try kill(server, in: "q\(number)") }
        try kill(server, in: "q7")
        let found = try alerts(server)
        #expect(found.alerts.count == 100 && found.leftOut == 130)
        #expect(found.alerts[0].queue == "q7" && found.alerts[1].queue == "q0" && found.alerts[2].queue == "q1")
    }

    @Test func theServerIsJudgedToo() throws {
        let durability = TestDurability()
        let server = try VirtualServer(durability: durability, maximumMemoryBytes: 100_000)
        durability.safeSequence = .max
        try kill(server, in: "q")
        for _ in 0..<1000 { _ = try server.send("POST", "/enqueue/q", "{}", service: 0) }
        durability.shortage = Problem(.diskFull, "the disk is full")
        let found = try alerts(server)
        #expect(found.status == "critical" && found.alerts[0].level == "critical")
        #expect(found.alerts.map(\.kind) == ["memory", "journal", "dead_tasks"])
        #expect(found.alerts[0].queue == nil && found.alerts[0].text.hasSuffix("of the memory is used"))
        #expect(found.alerts[1].text == "the journal: the disk is full")
    }

    /// Many queues: a walk takes several turns, and serves all who ask meanwhile.
    @Test func thousandsOfQueues() throws {
        let server = try Server()
        let client = try server.connect()
        for start in stride(from: 0, to: 5000, by: 100) {
            let requests = (start..<start + 100).map { Client.postText("/pause/queue-\($0)", "") }
            client.send(requests.joined())
            for _ in 0..<100 { #expect(try client.response().status == 200) }
        }
        let viewers = try (0..<3).map { _ in try server.begin("GET", "/alerts/") }
        // One leaves.
        viewers[0].resetOnClose()
        let answers = try viewers.dropFirst().map { try $0.response().body }
        #expect(answers[0] == answers[1] && answers[0].hasPrefix(#"{"status":"ok","alerts":[],"left_out":0,"as_of":"#))
    }
}
