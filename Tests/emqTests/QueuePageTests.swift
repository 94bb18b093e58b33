// Pages of queues: GET /stats/ and GET /queues/ with parameters, and with many queues.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct QueuePageTests {
    private func virtual() throws -> VirtualServer { try VirtualServer() }

    private func enqueue(_ server: VirtualServer, _ queue: String, count: Int = 1) throws {
        let tasks = (0..<count).map { _ in "{}" }.joined(separator: ",")
        #expect(try server.send("POST", "/enqueue/\(queue)", "[\(tasks)]", service: 0).status == 200)
    }

    /// The names and the cursor of a page of statistics. The order is that of the text, which a dictionary loses.
    private func page(_ server: VirtualServer, _ query: String) throws -> (names: [String], next: String?) {
        let answer = try server.send("GET", "/stats/?\(query)", service: 0)
        #expect(answer.status == 200, "\(answer.body)")
        let names = answer.body.matches(of: /"queue":"([^"]*)","delayed"/).map { String($0.1) }
        return (names, try answer.object["next"] as? String)
    }

    @Test func pagesFollowEachOther() throws {
        let server = try virtual()
        for queue in ["mail", "mail/eu", "sms", "push"] { try enqueue(server, queue) }
        let first = try page(server, "n=3")
        #expect(first.names == ["mail", "mail/eu", "push"] && first.next == "push")
        let second = try page(server, "n=3&after=push")
        #expect(second.names == ["sms"] && second.next == nil)
        // Exactly as many as the page may have.
        #expect(try page(server, "n=4").next == nil)
        // A cursor need not name a queue.
        #expect(try page(server, "after=mailbox").names == ["push", "sms"])
        let later = try server.send("GET", "/stats/?after=push", service: 0).object
        #expect(later["totals"] == nil && later["memory"] == nil)
    }

    @Test func filters() throws {
        let server = try virtual()
        for queue in ["mail", "mail/eu", "sms", "email"] { try enqueue(server, queue) }
        #expect(try page(server, "prefix=mail").names == ["mail", "mail/eu"])
        #expect(try page(server, "match=*mail").names == ["email", "mail"])
        #expect(try page(server, "match=*").names.count == 4)
        #expect(try page(server, "prefix=m&match=*/*").names == ["mail/eu"])
        #expect(try page(server, "prefix=mail&n=1").next == "mail")
        #expect(try page(server, "prefix=mail&n=1&after=mail").names == ["mail/eu"])
        #expect(try page(server, "prefix=zzz").names == [])
        #expect(try server.send("GET", "/queues/?match=*mail", service: 0).body == "[\"email\",\"mail\"]\n")
    }

    @Test func ordersAndTheirPages() throws {
        let server = try virtual()
        for (queue, count) in [("a", 1), ("b", 5), ("c", 3), ("d:1", 3)] { try enqueue(server, queue, count: count) }
        var names: [String] = []
        var query = "sort=ready&n=1"
        for _ in 0..<4 {
            let page = try page(server, query)
            names += page.names
            guard let next = page.next else { break }
            query = "sort=ready&n=1&after=\(next)"
        }
        #expect(names == ["b", "c", "d:1", "a"])
        #expect(try page(server, "sort=dead").names == ["a", "b", "c", "d:1"])
        server.advance(seconds: 5)
        try enqueue(server, "0")
        #expect(try page(server, "sort=oldest_ready").names == ["a", "b", "c", "d:1", "0"])
    }

    @Test func namesArePagesWithALink() throws {
        let server = try virtual()
        for queue in ["a%20b", "c", "d"] { try enqueue(server, queue) }
        // A queue that holds nothing has statistics but is not listed.
        _ = try server.send("POST", "/wait/", #"{"queues": ["idle"]}"#, service: 0)
        let all = try server.send("GET", "/queues/", service: 0)
        #expect(all.body == "[\"a b\",\"c\",\"d\"]\n" && all.fields["link"] == nil)
        let first = try server.send("GET", "/queues/?match=*&n=1", service: 0)
        #expect(first.body == "[\"a b\"]\n")
        #expect(first.fields["link"] == #"</queues/?match=*&n=1&after=a%20b>; rel="next""#)
        let second = try server.send("GET", "/queues/?n=1&after=a%20b", service: 0)
        #expect(second.body == "[\"c\"]\n")
        #expect(second.fields["link"] == #"</queues/?n=1&after=c>; rel="next""#)
        #expect(try server.send("GET", "/queues/?n=1&after=c", service: 0).fields["link"] == nil)
        #expect(try page(server, "prefix=i").names == ["idle"])
    }

    @Test(arguments: [
        ("n=0", "n"), ("n=1001", "n"), ("n=x", "n"), ("sort=size", "sort"), ("sort=ready&after=mail", "after"),
        ("sort=ready&after=x:mail", "after"), ("match=\(String(repeating: "a", count: 256))", "match"),
        ("prefx=a", "prefx"),
    ])
    func mistakes(query: String, field: String) throws {
        let server = try virtual()
        for path in ["stats", "queues"] {
            let answer = try server.send("GET", "/\(path)/?\(query)", service: 0)
            #expect(answer.status == 400 && answer.field == field, "\(answer.body)")
        }
    }

    @Test func theServersTotalsOutliveItsQueues() throws {
        let server = try virtual()
        try enqueue(server, "q", count: 3)
        _ = try server.begin("POST", "/purge/q?state=all", service: 0)
        server.advance(seconds: 2 * 3600)
        let answer = try server.send("GET", "/stats/", service: 0).object
        #expect((answer["queues"] as? [String: Any])?.isEmpty == true)
        #expect((answer["totals"] as? [String: Int])?["enqueued"] == 3)
    }

    @Test func ratesAndHistories() throws {
        let server = try virtual()
        try enqueue(server, "q", count: 90)
        try enqueue(server, "busier", count: 120)
        server.advance(seconds: 7)
        #expect(try page(server, "sort=rate").names == ["busier", "q"])
        let queue = try server.send("GET", "/stats/q", service: 0)
        #expect(queue.body.contains(#""rates":{"enqueued":1.5,"done":0,"failed":0}"#), "\(queue.body)")
        let all = try server.send("GET", "/stats/?n=1", service: 0)
        #expect(all.body.contains(#""rates":{"enqueued":3.5,"done":0,"failed":0}"#), "\(all.body)")
        server.advance(seconds: 60)
        let histories = try ["/stats/q?history=1m", "/stats/?history=1m"].map { path in
            try #require(try server.send("GET", path, service: 0).object["history"] as? [String: Any])
        }
        for (history, count) in zip(histories, [90, 210]) {
            let enqueued = try #require(history["enqueued"] as? [Int])
            #expect(enqueued.count == 60 && enqueued.reduce(0, +) == count)
            #expect((history["ready"] as? [Int])?.last == count)
            #expect(history["interval"] as? Int == 60)
            let end = try #require(history["end"] as? Int64)
            #expect(end % 60 == 0 && (0..<60).contains(server.now / 1000 - end))
        }
        let longer = try server.send("GET", "/stats/q?history=5m", service: 0).object["history"] as? [String: Any]
        #expect((longer?["oldest_ready"] as? [Int])?.count == 288)
        #expect(try server.send("GET", "/stats/never?history=5m", service: 0).object["history"] is NSNull)
        #expect(try server.send("GET", "/stats/q?history=1h", service: 0).field == "history")
    }

    @Test func historiesOutliveACrash() throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString)
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: directory) }
        let server = try virtual()
        server.withBroker { $0.keepHistoryImages(ofBytes: 1 << 20) }
        try enqueue(server, "q", count: 3)
        server.advance(seconds: 600)
        nonisolated(unsafe) var image: [UInt8]?
        server.withBroker { image = $0.takeHistoryImage() }
        HistoryFile(directory: directory.path).saveLater(try #require(image))
        let file = directory.appending(path: "history").path
        _ = try eventually("the file") { FileManager.default.fileExists(atPath: file) ? true : nil }
        let now = server.now
        let next = try VirtualServer(now: now)
        next.withBroker { HistoryFile(directory: directory.path).restore($0, now: now) }
        let answer = try next.send("GET", "/stats/q?history=5m", service: 0).object
        let history = try #require(answer["history"] as? [String: Any])
        #expect((history["enqueued"] as? [Int])?.reduce(0, +) == 3)
    }

    /// The order of many queues is seldom looked at, and somewhat more often after somebody has changed a queue.
    @Test func theOrderOfManyQueuesIsShared() throws {
        let server = try virtual()
        for number in 0..<5000 { try enqueue(server, "q\(number)") }
        // A new list takes some turns, so the answer comes later; the next request gets the same list.
        func first() throws -> [String] {
            _ = try server.begin("GET", "/stats/?sort=ready&n=1", service: 0)
            return try page(server, "sort=ready&n=1").names
        }
        #expect(try first() == ["q0"])
        try enqueue(server, "q7")
        try enqueue(server, "z")
        server.advance(seconds: 2.4)
        #expect(try first() == ["q0"])
        _ = try server.begin("GET", "/queues/?prefix=z", service: 0)
        #expect(try server.send("GET", "/queues/?prefix=z", service: 0).body.contains("\"z\""))
        #expect(try server.send("POST", "/pause/q9", service: 0).status == 200)
        #expect(try first() == ["q7"])
        try enqueue(server, "q8", count: 2)
        #expect(try first() == ["q7"])
        server.advance(seconds: 2.6)
        #expect(try first() == ["q8"])
        // A purge and its like, when they are over. However many there are, a list lasts for two seconds.
        _ = try server.begin("POST", "/purge/q8", service: 0)
        server.advance(seconds: 1.9)
        #expect(try first() == ["q8"])
        server.advance(seconds: 0.1)
        #expect(try first() == ["q7"])
    }

    /// Many queues: their list is made in slices, and answered later.
    @Test func thousandsOfQueues() throws {
        let server = try Server()
        let client = try server.connect()
        let count = 4000
        for start in stride(from: 0, to: count, by: 100) {
            let requests = (start..<start + 100).map { Client.postText("/enqueue/queue-\(String($0 + 10_000))", "{}") }
            client.send(requests.joined())
            for _ in 0..<100 { #expect(try client.response().status == 200) }
        }
        let names = (0..<count).map { "queue-\($0 + 10_000)" }
        #expect(try server.get("/queues/").json as? [String] == names)
        // Clients that leave or end their side meanwhile disturb nobody.
        let leaving = try (0..<3).map { _ in try server.begin("GET", "/stats/?sort=oldest_ready") }
        leaving[0].halfClose()
        _ = try leaving[0].response()
        leaving[1].resetOnClose()
        var seen: [String] = []
        var path = "/stats/?n=1000"
        while true {
            let answer = try server.get(path)
            let page = try answer.object
            let shown = try #require(page["queues"] as? [String: Any])
            seen += shown.keys.sorted()
            guard let next = page["next"] as? String else { break }
            path = "/stats/?n=1000&after=\(next)"
        }
        #expect(seen == names)
        let busiest = try server.get("/stats/?sort=ready&n=2").object
        #expect((busiest["queues"] as? [String: Any])?.keys.sorted() == ["queue-10000", "queue-10001"])
        #expect(try server.get("/stats/").object["queues"].map { ($0 as? [String: Any])?.count } == 100)
    }
}
