// Tasks whose leases run out too often, through real sockets. A lease of 0 runs out at once.

import Foundation
import Testing

@Suite(.blocking) struct CrashTests {
    private let server: Server

    init() throws { server = try Server() }

    /// Takes a task until nobody can, and returns how often that was.
    private func attempts(_ queue: String) throws -> Int {
        var count = 0
        let take = "{\"queues\": [\"\(queue)\"], \"max\": 1, \"worker\": \"host-7\"}"
        while try count < 20 && !server.post("/wait/", take).tasks.isEmpty { count += 1 }
        return count
    }

    @Test func aTaskThatCrashesTooOftenIsDead() throws {
        let id = try server.enqueue("q", #""retry": 0, "max_crashes": 2, "backoff": 0"#)
        #expect(try server.task(id)["max_crashes"] as? Int == 2)
        #expect(try server.task(id)["crashes"] == nil)
        #expect(try attempts("q") == 3)
        let task = try server.task(id)
        #expect(task["state"] as? String == "dead" && task["crashes"] as? Int == 3)
        #expect(task["error"] as? String == "the lease ran out 3 times (worker host-7)")
        #expect(try server.get("/errors/q").body.contains("the lease ran out 3 times"))
        #expect(try server.post("/kick/", "{\"ids\": [\"\(id)\"]}").object["kicked"] as? Int == 1)
        #expect(try server.task(id)["crashes"] == nil)
        #expect(try attempts("q") == 3)
    }

    @Test func aQueueAndTheDefaultsHaveABound() throws {
        let json = #"{"max_crashes":1,"dead_letter":"graveyard"}"#
        #expect(try server.send("PUT", "/config/q", json).body == json)
        #expect(try server.send("PUT", "/defaults/", #"{"max_crashes":0}"#).body == #"{"max_crashes":0}"#)
        #expect(try server.send("PUT", "/config/any", #"{"max_crashes":null}"#).body == #"{"max_crashes":null}"#)
        for queue in ["q", "other", "any"] { try server.enqueue(queue, #""retry": 0, "max_retries": 4, "backoff": 0"#) }
        try server.enqueue("own", #""retry": 0, "max_retries": 4, "max_crashes": null, "backoff": 0"#)
        #expect(try ["q", "other", "any", "own"].map { try attempts($0) } == [2, 1, 5, 5])
        let letter = try #require(try server.get("/peek/graveyard").tasks.first ?? nil)
        #expect(letter["error"] as? String == "the lease ran out 2 times (worker host-7)")
        let id = try #require(letter["id"] as? String)
        #expect(try server.task(id)["crashes"] == nil)
    }

    @Test func wrongBoundsAreRefused() throws {
        for value in ["-1", "4294967296", "1.5", "\"1\"", "true"] {
            for (method, path) in [("POST", "/enqueue/q"), ("PUT", "/config/q"), ("PATCH", "/defaults/")] {
                let answer = try server.send(method, path, "{\"max_crashes\": \(value)}")
                #expect(answer.status == 400 && answer.field == "max_crashes", "\(method) \(path) \(value)")
            }
        }
        let letter = try server.send("PUT", "/config/q", #"{"dead_letter": "graveyard"}"#)
        #expect(letter.status == 400 && letter.body.contains("max_crashes"))
    }

    /// A restart shows the same bounds and counts.
    @Test func aRestartKeepsBoundsAndCounts() throws {
        let directory = DataDirectory()
        let first = try directory.start()
        let id = try first.enqueue("q", #""retry": 0, "max_crashes": 7, "backoff": 600"#)
        #expect(try first.send("PUT", "/config/q", #"{"max_crashes": 5}"#).status == 200)
        #expect(try first.send("PUT", "/config/any", #"{"max_crashes": null}"#).status == 200)
        #expect(try first.take("q").count == 1)
        #expect(try first.state(id) == "delayed")
        // The server writes what nobody waits for with what somebody does.
        try first.enqueue("q")
        try first.crash()
        let second = try directory.start()
        let task = try second.task(id)
        #expect(task["crashes"] as? Int == 1 && task["max_crashes"] as? Int == 7)
        #expect(try second.get("/config/q").body == #"{"max_crashes":5}"#)
        #expect(try second.get("/config/any").body == #"{"max_crashes":null}"#)
    }
}
