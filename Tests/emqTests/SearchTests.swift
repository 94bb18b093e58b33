// Searching for tasks and queues.

import Foundation
import Support
import Testing

@Suite(.blocking) struct SearchTests {
    let server: Server

    init() throws { server = try Server() }

    private func search(_ query: String) throws -> (tasks: [[String: Any]], queues: [String]) {
        let answer = try server.get("/search/?q=\(query)").object
        return (
            try #require(answer["tasks"] as? [[String: Any]]), try #require(answer["queues"] as? [String])
        )
    }

    @Test func aTaskIsFoundByItsId() throws {
        let id = try server.enqueue("q", #""content": 1, "key": "k", "delay": 60"#)
        let found = try search(id)
        #expect(found.tasks.count == 1 && found.queues == [])
        let task = try #require(found.tasks.first)
        #expect(task["id"] as? String == id && task["queue"] as? String == "q" && task["key"] as? String == "k")
        #expect(task["state"] as? String == "delayed" && task["enqueued"] is Double)
        // The same id as 36 characters.
        var text = id.replacing("-", with: "+").replacing("_", with: "/")
        text += "=="
        let bytes = try #require(Data(base64Encoded: text)).map { String(format: "%02x", $0) }.joined()
        var uuid = bytes
        for place in [8, 13, 18, 23] { uuid.insert("-", at: uuid.index(uuid.startIndex, offsetBy: place)) }
        #expect(try search(uuid).tasks.first?["id"] as? String == id)
        #expect(try search("AaH8ekX5cACuES467dOuXw").tasks.isEmpty)
    }

    @Test func tasksAreFoundByTheirKeyInAnyQueue() throws {
        let ids = try ["a", "b", "c"].map { try server.enqueue($0, #""content": 1, "key": "order 17""#) }
        try server.enqueue("d", #""content": 1, "key": "order 171""#)
        let found = try search("order%2017")
        #expect(Set(found.tasks.compactMap { $0["id"] as? String }) == Set(ids) && found.queues == [])
        #expect(try search("order%2017&n=2").tasks.count == 2)
        // A task that has ended and does not hold its key any more.
        _ = try server.take("a")
        #expect(try server.post("/ack", "{\"ids\": [\"\(ids[0])\"]}").status == 200)
        #expect(try search("order%2017").tasks.count == 2)
        #expect(try search("Order%2017").tasks.isEmpty)
    }

    @Test func aTaskIsFoundByAReceipt() throws {
        let id = try server.enqueue("q")
        let receipt = try #require(try server.take("q").first?["receipt"] as? String)
        #expect(receipt.hasPrefix(id + "@"))
        #expect(try search(receipt).tasks.first?["id"] as? String == id)
        // A task that another dispatch holds is the same task.
        #expect(try search("\(id)@0000000000000000").tasks.first?["id"] as? String == id)
        #expect(try search("x\(receipt)").tasks.isEmpty)
    }

    /// Ends a task that has a key, and returns its id.
    private func end(_ outcome: String, in queue: String = "q", key: String = "k") throws -> String {
        let id = try server.enqueue(queue, "\"content\": 1, \"key\": \"\(key)\", \"keep\": 60")
        if outcome == "cancelled" {
            #expect(try server.send("DELETE", "/task/\(id)").status == 204)
        } else {
            #expect(try server.take(queue).count == 1)
            let (path, more) = outcome == "done" ? ("ack", "") : ("nak", ", \"dead\": true, \"error\": \"no\"")
            #expect(try server.post("/\(path)", "{\"ids\": [\"\(id)\"]\(more)}").status == 200)
        }
        return id
    }

    /// The server's time.
    private func now() throws -> Double {
        let figures = try server.get("/stats/?n=1").object["server"] as? [String: Any]
        return try #require(figures?["now"] as? Double)
    }

    @Test func tasksThatHadTheKeyAreFoundToo() throws {
        let ended = try ["dead", "done", "cancelled", "dead"].map { outcome in
            let id = try end(outcome, in: outcome == "done" ? "other" : "q")
            // The next one ends at another time.
            let finished = try #require(try server.task(id)["finished"] as? Double)
            _ = try eventually("a later time") { try now() > finished ? true : nil }
            return id
        }
        _ = try end("dead", key: "k2")
        let holder = try server.enqueue("q", #""content": 1, "key": "k""#)
        let found = try search("k").tasks
        #expect(found.compactMap { $0["id"] as? String } == [holder] + ended.reversed())
        #expect(found.compactMap { $0["state"] as? String } == ["ready", "dead", "cancelled", "done", "dead"])
        #expect(found.allSatisfy { $0["key"] as? String == "k" })
        let some = try server.get("/search/?q=k&n=2").object
        #expect((some["tasks"] as? [[String: Any]])?.compactMap { $0["id"] as? String } == [holder, ended[3]])
        #expect(some["more"] as? Bool == true)
        #expect(try server.get("/search/?q=k&n=5").object["more"] == nil)
        #expect(try server.post("/purge/q?state=dead", "").status == 200)
        #expect(try search("k").tasks.count == 3)
    }

    /// More tasks than one turn looks at.
    @Test func amongManyTasksTheDeadOneIsFound() throws {
        let client = try server.connect()
        let wanted = try (0..<12).map { number in
            for batch in 0..<2 {
                let tasks = (0..<1000).map { "{\"key\": \"key-\(number)-\(batch)-\($0)\", \"keep\": 60}" }
                #expect(try client.post("/enqueue/many", "[\(tasks.joined(separator: ","))]").status == 200)
                let taken = try client.post("/wait/", #"{"queues": ["many"], "max": 1000}"#).tasks
                let ids = taken.compactMap { $0?["id"] as? String }.map { "\"\($0)\"" }
                #expect(try client.post("/ack", "{\"ids\": [\(ids.joined(separator: ","))]}").status == 200)
            }
            return try end("dead", key: "wanted-\(number % 3)")
        }
        for number in 0..<3 {
            let found = try search("wanted-\(number)").tasks.compactMap { $0["id"] as? String }
            #expect(found == wanted.indices.filter { $0 % 3 == number }.map { wanted[$0] }.reversed())
        }
        // Clients that leave: their searches end, and others are served.
        for _ in 0..<100 { _ = try server.begin("GET", "/search/?q=wanted-0") }
        #expect(try search("wanted-1").tasks.count == 4)
    }

    @Test func queuesAreFoundByAPartOfTheirNames() throws {
        for queue in ["mail", "Mailer", "e-mail", "post", "x%2Fmail%2Fy", "%C3%84"] { try server.enqueue(queue) }
        #expect(try search("MAIL").queues == ["mail", "Mailer", "e-mail", "x/mail/y"])
        #expect(try search("mail&n=2").queues == ["mail", "Mailer"])
        #expect(try search("%2F").queues == ["x/mail/y"])
        #expect(try search("%C3%84").queues == ["Ä"])
        #expect(try search("nothing").queues == [])
    }

    /// More queues than one turn looks at.
    @Test func amongManyQueuesAllAreFound() throws {
        let client = try server.connect()
        for number in 1000..<2500 {
            #expect(try client.post("/enqueue/many-\(number)", #"{"content": 1, "key": "k"}"#).status == 200)
        }
        #expect(try search("NY-24&n=100").queues == (2400..<2500).map { "many-\($0)" })
        #expect(try search("many-1234").queues == ["many-1234"])
        #expect(try search("k&n=100").tasks.count == 100)
    }

    @Test func aTokenFindsOnlyWhatItCovers() throws {
        let (all, some) = (TestToken("all", ["enqueue", "read"]), TestToken("some", ["read"], queues: ["a*"]))
        let file = try TokenFile([all, some])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try server.connect()
        var ids: [String] = []
        for queue in ["ab", "b"] {
            let answer = try client.ask("POST", "/enqueue/\(queue)", #"{"key": "b"}"#, all.bearer)
            ids.append(try #require(try answer.object["id"] as? String))
        }
        let found = try client.ask("GET", "/search?q=b", nil, some.bearer).object
        #expect(found["queues"] as? [String] == ["ab"])
        #expect((found["tasks"] as? [[String: Any]])?.compactMap { $0["id"] as? String } == [ids[0]])
        let hidden = try client.ask("GET", "/search?q=\(ids[1])", nil, some.bearer)
        #expect(hidden.body == #"{"tasks":[],"queues":[]}"#)
        #expect(try client.ask("GET", "/search?q=b", nil, all.bearer).object["queues"] as? [String] == ["b", "ab"])
    }

    @Test func aTokenFindsDeadTasksOnlyOfQueuesThatItCovers() throws {
        let (all, some) = (TestToken("all", ["enqueue", "read", "work"]), TestToken("some", ["read"], queues: ["a*"]))
        let file = try TokenFile([all, some])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try server.connect()
        var ids: [String] = []
        for queue in ["a", "b"] {
            let task = try client.ask("POST", "/enqueue/\(queue)", #"{"key": "k"}"#, all.bearer)
            ids.append(try #require(try task.object["id"] as? String))
            #expect(try client.ask("POST", "/wait/", "{\"queues\": [\"\(queue)\"]}", all.bearer).status == 200)
            let refused = "{\"ids\": [\"\(ids[ids.count - 1])\"], \"dead\": true}"
            #expect(try client.ask("POST", "/nak/", refused, all.bearer).object["dead"] as? Int == 1)
        }
        func found(_ bearer: String) throws -> [String] {
            let answer = try client.ask("GET", "/search?q=k&n=1", nil, bearer).object
            #expect(answer["more"] as? Bool == (bearer == all.bearer ? true : nil))
            return (answer["tasks"] as? [[String: Any]])?.compactMap { $0["id"] as? String } ?? []
        }
        #expect(try found(some.bearer) == [ids[0]])
        #expect(try found(all.bearer).count == 1)
    }

    @Test func aWrongSearchIsRefused() throws {
        for (path, field) in [
            ("/search/", "q"), ("/search/?q=", "q"), ("/search/?q=\(String(repeating: "x", count: 256))", "q"),
            ("/search/?q=x&n=0", "n"), ("/search/?q=x&n=101", "n"), ("/search/?q=%FF", "q"), ("/search/?p=x", "p"),
        ] {
            let answer = try server.get(path)
            #expect(answer.status == 400 && answer.field == field, "\(path.prefix(40))")
        }
    }
}
