// What workers can do besides taking and acknowledging, through real sockets: waits for any task, acknowledgements
// within a wait, touches, failures, results.

import Foundation
import Support
import Testing

@Suite(.blocking) struct WorkerTests {
    let server: Server

    init() throws { server = try Server() }

    // MARK: Waiting

    @Test func queuesAreEmptiedInTheOrderTheyAreNamed() throws {
        try server.enqueueAll("low", [1, 2])
        try server.enqueueAll("high", [3, 4])
        let json = #"{"queues": ["high", "low"], "max": 3, "timeout": 60000}"#
        #expect(try server.post("/wait", json).tasks.map { $0?["content"] as? Int } == [3, 4, 1])
        #expect(try server.post("/wait", json).tasks.map { $0?["content"] as? Int } == [2])
    }

    @Test func aWaitForAnyTaskEndsWithTheFirst() throws {
        let waiter = try server.begin("POST", "/wait", #"{"queues": ["a", "b"], "max": 10, "timeout": 60000}"#)
        try server.enqueue("b", #""content": 7"#)
        #expect(try waiter.response().tasks.map { $0?["content"] as? Int } == [7])
        #expect(try server.post("/wait", #"{"queues": ["a", "b"], "max": 10, "timeout": 10}"#).body == "[]")
    }

    @Test func waitersSeeABatchAsAWhole() throws {
        let waiter = try server.begin("POST", "/wait", #"{"queues": ["q"], "max": 10, "timeout": 60000}"#)
        try server.post("/enqueue/q", #"[{"content": 1, "priority": -1}, {"content": 2, "priority": 1}]"#)
        #expect(try waiter.response().tasks.map { $0?["content"] as? Int } == [2, 1])
    }

    @Test func waitersSeeTasksOfOneNakAsAWhole() throws {
        let tasks = (0..<3).map { #"{"content": \#($0), "priority": \#($0)}"# }.joined(separator: ",")
        try server.post("/enqueue/q", "[\(tasks)]")
        let ids = try server.take("q").compactMap { $0["id"] as? String }.reversed()
        let waiter = try server.begin("POST", "/wait", #"{"queues": ["q"], "max": 10, "timeout": 60000}"#)
        let list = ids.map { "\"\($0)\"" }.joined(separator: ",")
        #expect(try server.post("/nak", "{\"ids\": [\(list)]}").body.contains("\"requeued\":3"))
        #expect(try waiter.response().tasks.map { $0?["content"] as? Int } == [2, 1, 0])
    }

    /// The configuration uses up the retries of thousands of tasks at once, and the wait finds them before they are
    /// dead.
    @Test func aWaitWithoutATimeoutGetsTasksBehindThousandsWithoutRetries() throws {
        try server.enqueueAll("q", Array(0..<3000))
        for _ in 0..<3 {
            let ids = try server.take("q").compactMap { $0["id"] as? String }.map { "\"\($0)\"" }
            try server.post("/nak", "{\"ids\": [\(ids.joined(separator: ","))], \"delay\": 0.001}")
        }
        _ = try eventually("the tasks to be ready again") {
            try server.get("/stats/q").object["ready"] as? Int == 3000 ? true : nil
        }
        try server.enqueue("q", #""content": 3000"#)
        let client = try server.connect()
        let json = #"{"max_retries": 0}"#
        client.send(
            "PUT /config/q HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                + "Content-Length: \(json.utf8.count)\r\n\r\n\(json)"
                + Client.postText("/wait", #"{"queues": ["q"], "max": 1}"#))
        #expect(try client.response().status == 200)
        #expect(try client.response().tasks.map { $0?["content"] as? Int } == [3000])
    }

    @Test func aClientThatHalfClosesGetsAnEmptyAnswer() throws {
        let waiter = try server.begin("POST", "/wait", #"{"queues": ["a"], "max": 10, "timeout": 60000}"#)
        waiter.halfClose()
        #expect(try waiter.response().body == "[]")
        try server.enqueue("a")
        #expect(try server.takeContents("a") == [1])
    }

    @Test func workIsAcknowledgedInTheNextWait() throws {
        try server.enqueueAll("q", [1, 2, 3])
        let first = try server.take("q", 1)[0]
        let receipt = try #require(first["receipt"] as? String)
        let second = try server.post("/wait", "{\"queues\": [\"q\"], \"max\": 1, \"ack\": [\"\(receipt)\"]}")
        #expect(second.fields["emq-missing"] == nil)
        #expect(try second.tasks.map { $0?["content"] as? Int } == [2])
        #expect(try server.get("/stats/q").object["dispatched"] as? Int == 1)
        // This is independent of the wait's outcome.
        let id = try #require(try second.tasks[0]?["id"] as? String)
        let late = try server.post(
            "/wait", "{\"queues\": [\"none\"], \"timeout\": 10, \"ack\": [\"\(receipt)\", \"\(id)\", \"\(id)\"]}")
        #expect(late.body == "[null]")
        #expect(late.fields["emq-missing"] == "\(receipt), \(id)")
        #expect(try server.get("/stats/q").object["dispatched"] as? Int == 0)
    }

    @Test func aWaitWithAWrongFieldAcknowledgesNothing() throws {
        let id = try server.enqueue("q")
        _ = try server.take("q")
        for wrong in [
            #""timeout": -1"#, #""max": 0"#, #""max": 1001"#, #""retry": 0"#, #""worker": """#, #""worker": "\n""#,
        ] {
            let answer = try server.post("/wait", "{\"queues\": [\"q\"], \"ack\": [\"\(id)\"], \(wrong)}")
            #expect(answer.status == 400)
            #expect(answer.field == wrong.split(separator: "\"").first.map(String.init))
        }
        let many = Array(repeating: "\"\(id)\"", count: 101).joined(separator: ",")
        #expect(try server.post("/wait", "{\"queues\": [\"q\"], \"ack\": [\(many)]}").field == "ack")
        #expect(try server.post("/wait", "{\"queues\": [\"q\"], \"ack\": [\"\(id)\", \"x\"]}").field == "ack[1]")
        #expect(try server.state(id) == "dispatched")
    }

    @Test func aWorkerCanSetItsNameAndItsLease() throws {
        let id = try server.enqueue("q")
        let taken = try server.post("/wait", #"{"queues": ["q"], "worker": "host-7", "retry": 1000.5}"#).tasks[0]
        #expect(taken?["retry"] as? Double == 1000.5)
        let task = try server.task(id)
        #expect(task["worker"] as? String == "host-7")
        #expect(
            try abs(#require(task["lease_end"] as? Double) - #require(task["dispatched"] as? Double) - 1000.5) < 0.001)
    }

    // MARK: Leases

    @Test func aTouchRestartsTheLease() throws {
        let id = try server.enqueue("q", #""content": 1, "retry": 60"#)
        let receipt = try #require(try server.take("q")[0]["receipt"] as? String)
        let before = try #require(try server.task(id)["lease_end"] as? Double)
        #expect(
            try server.post("/touch", "{\"ids\": [\"\(receipt)\", \"\(receipt)x\"]}").field == "ids[1]")
        let answer = try server.post(
            "/touch", "{\"ids\": [\"\(receipt)\"], \"retry\": 600, \"progress\": {\"done\" : 1}}")
        #expect(answer.body == #"{"touched":1,"missing":[]}"#)
        let task = try server.task(id)
        #expect(try #require(task["lease_end"] as? Double) > before + 500)
        #expect(task["progress"] as? [String: Int] == ["done": 1])
        try server.post("/ack", "{\"ids\": [\"\(id)\"]}")
        #expect(
            try server.post("/touch", "{\"ids\": [\"\(receipt)\"]}").body
                == "{\"touched\":0,\"missing\":[\"\(receipt)\"]}")
    }

    @Test func failuresAreRetriedUntilTheTaskIsDead() throws {
        let id = try server.enqueue("q", #""content": 1, "max_retries": 1"#)
        _ = try server.take("q")
        #expect(
            try server.post("/nak", "{\"ids\": [\"\(id)\"], \"error\": \"no disk\"}").body
                == #"{"requeued":1,"dead":0,"missing":[]}"#)
        #expect(try server.task(id)["error"] as? String == "no disk")
        #expect(try server.take("q")[0]["attempt"] as? Int == 2)
        #expect(
            try server.post("/nak", "{\"ids\": [\"\(id)\"]}").body == #"{"requeued":0,"dead":1,"missing":[]}"#)
        let task = try server.task(id)
        #expect(task["state"] as? String == "dead")
        #expect(task["finished"] != nil)
        #expect(try server.get("/queues").body == #"["q"]"#)
        #expect(
            try server.post("/kick", "{\"ids\": [\"\(id)\", \"\(id)\"]}").body
                == "{\"kicked\":1,\"missing\":[\"\(id)\"]}")
        #expect(try server.take("q")[0]["attempt"] as? Int == 3)
        #expect(try server.post("/nak", "{\"ids\": [\"\(id)\"]}").body.contains("\"requeued\":1"))
    }

    @Test func deadTasksShowTheirError() throws {
        try server.enqueue("q", #""content": 1, "max_retries": 0"#)
        let receipt = try #require(try server.take("q")[0]["receipt"] as? String)
        _ = try server.post("/nak", "{\"ids\": [\"\(receipt)\"], \"error\": \"no route\"}")
        #expect(try server.get("/peek/q?state=dead").tasks[0]?["error"] as? String == "no route")
        #expect(try server.get("/task/\(receipt)").body.contains("this is a receipt"))
    }

    @Test func tasksReleasedTogetherKeepTheirOrder() throws {
        _ = try server.enqueueAll("q", [1, 2, 3])
        let receipts = try server.take("q", 2).compactMap { $0["receipt"] as? String }
        let body = "{\"ids\": [\"\(receipts[0])\", \"\(receipts[1])\"], \"release\": true}"
        #expect(try server.post("/nak", body).body.contains("\"requeued\":2"))
        #expect(try server.get("/peek/q?n=9").tasks.map { $0?["content"] as? Int } == [1, 2, 3])
        #expect(
            try server.post("/nak", body).body
                == "{\"requeued\":0,\"dead\":0,\"missing\":[\"\(receipts[0])\",\"\(receipts[1])\"]}")
    }

    @Test func aTaskCanBeReturnedInSeveralWays() throws {
        let ids = try server.enqueueAll("q", [1, 2, 3])
        _ = try server.take("q", 2)
        #expect(
            try server.post("/nak", "{\"ids\": [\"\(ids[1])\"], \"release\": true}").body.contains("\"requeued\":1"))
        #expect(try server.get("/peek/q?n=9").tasks.map { $0?["content"] as? Int } == [2, 3])
        #expect(try server.task(ids[1])["retries"] as? Int == 0)
        #expect(try server.post("/nak", "{\"ids\": [\"\(ids[0])\"], \"delay\": 3600}").body.contains("\"requeued\":1"))
        #expect(try server.state(ids[0]) == "delayed")
        _ = try server.take("q", 1)
        #expect(try server.post("/nak", "{\"ids\": [\"\(ids[1])\"], \"dead\": true}").body.contains("\"dead\":1"))
        #expect(try server.state(ids[1]) == "dead")
    }

    @Test func aTaskCanBePostponedWithoutAnAttempt() throws {
        let id = try server.enqueue("q", #""content": 1, "max_retries": 0"#)
        for _ in 0..<3 {
            let task = try #require(try server.take("q", 1, timeout: 60_000).first)
            #expect(task["attempt"] as? Int == 1)
            let answer = try server.post("/nak", "{\"ids\": [\"\(id)\"], \"release\": true, \"delay\": 0.05}")
            #expect(answer.body == #"{"requeued":1,"dead":0,"missing":[]}"#)
            let state = try server.task(id)
            #expect(state["retries"] as? Int == 0 && state["attempt"] as? Int == 0)
        }
        #expect(try server.post("/nak", "{\"ids\": [\"\(id)\"], \"release\": true}").body.contains("\"requeued\":0"))
        // It is not ready before its time.
        _ = try server.take("q", 1, timeout: 60_000)
        try server.post("/nak", "{\"ids\": [\"\(id)\"], \"release\": true, \"delay\": 3600}")
        #expect(try server.take("q").isEmpty)
        #expect(try server.state(id) == "delayed")
        #expect(try server.get("/stats/q").object["delayed"] as? Int == 1)
    }

    @Test(arguments: [
        (#""dead": true, "release": true"#, "release"), (#""delay": 1, "dead": true"#, "delay"),
        (#""delay": -1"#, "delay"), (#""error": 1"#, "error"),
        (#""error": "\#(String(repeating: "e", count: 10_001))""#, "error"), (#""dead": 1"#, "dead"),
    ])
    func aWrongNakChangesNothing(json: String, field: String) throws {
        let id = try server.enqueue("q")
        _ = try server.take("q")
        let answer = try server.post("/nak", "{\"ids\": [\"\(id)\"], \(json)}")
        #expect(answer.status == 400)
        #expect(answer.field == field)
        #expect(try server.state(id) == "dispatched")
    }

    @Test func backoffDelaysTheRetry() throws {
        let id = try server.enqueue("q", #""content": 1, "backoff": {"min": 100, "max": 150, "jitter": 0.1}"#)
        for (json, expected) in [("", 100.0), (", \"delay\": 0", 0), ("", 150.0)] {
            _ = try server.take("q")
            let before = Date().timeIntervalSince1970
            try server.post("/nak", "{\"ids\": [\"\(id)\"]\(json)}")
            let after = Date().timeIntervalSince1970
            if expected == 0 { continue }
            // A second of tolerance, because the two clocks may differ slightly.
            let due = try #require(try server.task(id)["due"] as? Double)
            #expect(due > before + expected * 0.9 - 1 && due < after + expected * 1.1 + 1)
            if expected == 100 { try server.send("POST", "/kick/q?state=delayed") }
        }
    }

    // MARK: Results

    @Test func aResultIsKeptWithTheTask() throws {
        let id = try server.enqueue("q", #""content": 1, "keep": 600"#)
        #expect(try server.get("/result/\(id)").body == #"{"state":"ready"}"#)
        let reader = try server.begin("GET", "/result/\(id)?timeout=60000")
        _ = try server.take("q")
        try server.post("/ack", "{\"ids\": [\"\(id)\"], \"result\": [1,  2.50]}")
        #expect(try reader.response().body == #"{"state":"done","result":[1,  2.50]}"#)
        #expect(try server.get("/result/\(id)?timeout=60000").body == #"{"state":"done","result":[1,  2.50]}"#)
        #expect(try server.get("/peek/q?state=done").tasks[0]?["id"] as? String == id)
        #expect(try server.send("DELETE", "/result/\(id)").status == 204)
        #expect(try server.get("/result/\(id)").body == #"{"state":"done"}"#)
        #expect(try server.send("DELETE", "/task/\(id)").status == 204)
        #expect(try server.send("DELETE", "/task/\(id)").status == 404)
        #expect(try server.get("/result/\(id)").status == 404)
    }

    @Test func aWaiterGetsAResultThatIsNotKept() throws {
        let ids = try server.enqueueAll("q", [1, 2])
        let readers = try ids.map { try server.begin("GET", "/result/\($0)?timeout=60000") }
        _ = try server.take("q")
        let answer = try server.post(
            "/ack", "{\"tasks\": [{\"id\": \"\(ids[0])\", \"result\": \"a\"}, {\"id\": \"\(ids[1])\"}]}")
        #expect(answer.body == #"{"acked":2,"missing":[]}"#)
        #expect(try readers[0].response().body == #"{"state":"done","result":"a"}"#)
        #expect(try readers[1].response().body == #"{"state":"done"}"#)
        #expect(try server.get("/task/\(ids[0])").status == 404)
    }

    @Test func aWaitForAResultEndsAtItsTimeoutOrWithTheClient() throws {
        let id = try server.enqueue("q")
        #expect(try server.get("/result/\(id)?timeout=10").body == #"{"state":"ready"}"#)
        let leaver = try server.begin("GET", "/result/\(id)?timeout=60000")
        leaver.halfClose()
        #expect(try leaver.response().body == #"{"state":"ready"}"#)
        let reader = try server.begin("GET", "/result/\(id)?timeout=60000")
        #expect(try server.send("DELETE", "/task/\(id)").status == 204)
        #expect(try reader.response().body == #"{"state":"cancelled"}"#)
    }

    @Test func anAckOfTasksNamesTheWrongField() throws {
        let id = try server.enqueue("q")
        _ = try server.take("q")
        for (json, field) in [
            ("\"tasks\": [{\"id\": \"\(id)\"}, {\"id\": 1}]", "tasks[1].id"),
            ("\"tasks\": [{\"id\": \"\(id)\"}, {\"id\": \"\(id)\", \"reslt\": 1}]", "tasks[1].reslt"),
            ("\"tasks\": [{\"id\": \"\(id)\"}, 1]", "tasks[1]"), ("\"tasks\": {}", "tasks"),
            ("\"tasks\": [], \"ids\": []", "tasks"), ("\"tasks\": [], \"result\": 1", "tasks"),
        ] {
            let answer = try server.post("/ack", "{\(json)}")
            #expect(answer.status == 400)
            #expect(answer.field == field)
        }
        #expect(try server.state(id) == "dispatched")
    }

    @Test func idsInPathsAreChecked() throws {
        #expect(try server.get("/task/x").status == 400)
        #expect(try server.get("/task/").status == 404)
        #expect(try server.get("/result/AaH9bHrkcAG3UunN6cjgHA?timeout=x").status == 400)
        #expect(try server.get("/result/AaH9bHrkcAG3UunN6cjgHA").status == 404)
        #expect(try server.send("DELETE", "/result/AaH9bHrkcAG3UunN6cjgHA").status == 404)
    }
}
