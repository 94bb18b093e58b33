// The log of a task, through real sockets: what acks and naks accept, and what is shown.

import Foundation
import Testing

@Suite(.blocking) struct TaskLogTests {
    private let server: Server

    init() throws { server = try Server() }

    /// A task that is dispatched.
    private func id(_ queue: String = "q") throws -> String {
        let id = try server.enqueue(queue, #""key": "k", "keep": 60"#)
        #expect(try server.take(queue).count == 1)
        return id
    }

    private func nak(_ id: String, _ log: String) throws -> Response {
        try server.post("/nak/", "{\"ids\": [\"\(id)\"], \"error\": \"no\", \"log\": \(log)}")
    }

    @Test func aFailedTaskShowsTheLogOfItsLastAttempt() throws {
        let id = try id()
        #expect(try nak(id, #""one\ntwo\u0000 \u00e5""#).object["requeued"] as? Int == 1)
        for path in ["/task/\(id)", "/key/q?key=k"] {
            #expect(try server.get(path).object["log"] as? String == "one\ntwo\0 å", "\(path)")
        }
        #expect(try server.get("/peek/q").body.contains("log") == false)
        #expect(try server.take("q").first?.keys.contains("log") == false)
        #expect(try server.task(id)["log"] != nil)
        #expect(try nak(id, #""""#).status == 200)
        #expect(try server.task(id).keys.contains("log") == false)
    }

    @Test func aLimitShowsTheSizeAndTheEndOfALongLog() throws {
        let id = try id()
        _ = try nak(id, #""aäb""#)
        for (limit, end) in [(0, ""), (1, "b"), (2, "b"), (3, "äb")] {
            let task = try server.get("/task/\(id)?content_limit=\(limit)").object
            #expect(task["log"] == nil && task["log_bytes"] as? Int == 4 && task["log_end"] as? String == end)
        }
        let whole = try server.get("/task/\(id)?content_limit=4").object
        #expect(whole["log"] as? String == "aäb" && whole["log_bytes"] == nil)
    }

    @Test func aDoneTaskKeepsItsLogWithItsRecord() throws {
        let (one, two, three) = (try id("a"), try id("b"), try id("c"))
        let ack = try server.post("/ack/", "{\"ids\": [\"\(one)\"], \"log\": \"fine\", \"result\": 1}")
        #expect(try ack.object["acked"] as? Int == 1)
        let tasks = "[{\"id\": \"\(two)\", \"log\": \"b\\n\"}, {\"id\": \"\(three)\", \"result\": 3}]"
        #expect(try server.post("/ack/", "{\"tasks\": \(tasks)}").object["acked"] as? Int == 2)
        let shown = try [one, two, three].map { try server.task($0) }
        #expect(shown.map { $0["log"] as? String } == ["fine", "b\n", nil])
        #expect(shown.map { $0["result"] as? Int } == [1, nil, 3])
        #expect(try server.get("/result/\(one)").body.contains("fine") == false)
    }

    @Test func wrongLogsAreRefused() throws {
        let id = try id()
        let most = "\"" + String(repeating: "\\n", count: 65_536) + "\""
        let more = "\"\\n" + most.dropFirst()
        for log in [more, "1", "[\"a\"]", #""\ud800""#] {
            let answers = [
                try nak(id, log), try server.post("/ack/", "{\"ids\": [\"\(id)\"], \"log\": \(log)}"),
                try server.post("/ack/", "{\"tasks\": [{\"id\": \"\(id)\", \"log\": \(log)}]}"),
            ]
            #expect(answers.map(\.status) == [400, 400, 400])
            #expect(answers.map(\.field) == ["log", "log", "tasks[0].log"])
        }
        let both = "{\"tasks\": [{\"id\": \"\(id)\"}], \"log\": \"a\"}"
        let refused = try server.post("/ack/", both)
        #expect(refused.status == 400 && refused.field == "tasks")
        #expect(try server.state(id) == "dispatched")
        #expect(try nak(id, most).status == 200)
        #expect((try server.task(id)["log"] as? String)?.count == 65_536)
        // Like other fields, null is the same as nothing.
        #expect(try server.take("q").count == 1)
        #expect(try nak(id, "null").status == 200)
        #expect(try server.task(id)["log"] == nil)
    }
}
