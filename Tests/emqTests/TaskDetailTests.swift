// How much of a task is shown: its times, and the beginning of large JSON.

import Foundation
import Testing

@Suite(.blocking) struct TaskDetailTests {
    let server: Server

    init() throws { server = try Server() }

    /// The only task of a queue in a state.
    private func peeked(_ queue: String, _ state: String, _ more: String = "") throws -> [String: Any] {
        try #require(try server.get("/peek/\(queue)?state=\(state)\(more)").tasks.first ?? nil)
    }

    @Test func aListedTaskHasTheTimesOfItsState() throws {
        func times(_ task: [String: Any]) -> Set<String> {
            Set(task.keys).intersection(["enqueued", "due", "dispatched", "lease_end", "expires", "finished", "died"])
        }
        try server.enqueue("later", #""delay": 60"#)
        let delayed = try peeked("later", "delayed")
        #expect(times(delayed) == ["enqueued", "due", "expires"])
        let (due, enqueued) = (delayed["due"] as? Double ?? 0, delayed["enqueued"] as? Double ?? 0)
        #expect(abs(due - enqueued - 60) < 0.01)
        let id = try server.enqueue("q", #""keep": 60, "retry": 30, "expiry": null"#)
        #expect(times(try peeked("q", "ready")) == ["enqueued"])
        _ = try server.take("q")
        let held = try peeked("q", "dispatched")
        #expect(times(held) == ["enqueued", "dispatched", "lease_end"])
        let (start, end) = (held["dispatched"] as? Double ?? 0, held["lease_end"] as? Double ?? 0)
        #expect(abs(end - start - 30) < 0.01)
        #expect(try server.post("/nak/", "{\"ids\": [\"\(id)\"], \"dead\": true}").status == 200)
        #expect(times(try peeked("q", "dead")) == ["enqueued", "dispatched", "finished", "died"])
    }

    @Test func aLimitShowsTheSizeAndTheBeginningOfWhatIsLonger() throws {
        let id = try server.enqueue("q", #""content": "aäbcdefghi", "metadata": {"m": "\\"}, "key": "k", "keep": 9"#)
        let receipt = try #require(try server.take("q").first?["receipt"] as? String)
        let progress = try server.post("/touch/", "{\"ids\": [\"\(receipt)\"], \"progress\": [1, 2, 3]}")
        #expect(progress.status == 200)
        // 13 bytes of content: the third is the first half of ä.
        for (limit, start) in [(0, ""), (1, "\""), (2, "\"a"), (3, "\"a"), (4, "\"aä"), (12, "\"aäbcdefghi")] {
            for path in ["/task/\(id)?", "/key/q?key=k&"] {
                let task = try server.get("\(path)content_limit=\(limit)").object
                #expect(task["content"] == nil && task["content_bytes"] as? Int == 13)
                #expect(task["content_start"] as? String == start, "\(limit)")
            }
        }
        let listed = try peeked("q", "dispatched", "&content_limit=10")
        #expect(listed["content_start"] as? String == "\"aäbcdefg" && listed["content_bytes"] as? Int == 13)
        #expect(listed["metadata_start"] as? String == #"{"m": "\\""# && listed["metadata_bytes"] as? Int == 11)
        #expect(try peeked("q", "dispatched", "&content_limit=11")["metadata"] as? [String: String] == ["m": "\\"])
        let whole = try server.get("/task/\(id)?content_limit=13").object
        #expect(whole["content"] as? String == "aäbcdefghi" && whole["content_bytes"] == nil)
        #expect(whole["progress"] as? [Int] == [1, 2, 3])
        #expect(try server.task(id)["content"] as? String == "aäbcdefghi")
        _ = try server.post("/ack/", "{\"ids\": [\"\(receipt)\"], \"result\": [123]}")
        let done = try server.get("/task/\(id)?content_limit=4").object
        #expect(done["result_bytes"] as? Int == 5 && done["result_start"] as? String == "[123")
        #expect(done["progress_bytes"] as? Int == 9 && done["progress_start"] as? String == "[1, ")
    }

    @Test func aLimitShortensTheRequestToo() throws {
        let server = try Server.pushing()
        let id = try server.enqueue("q", #""delay": 60, "request": {"url": "http://127.0.0.1:9/"}"#)
        let whole = try server.get("/task/\(id)").body
        let request = String(try #require(whole.firstMatch(of: /"request":(\{[^}]*\})/)).1)
        let task = try server.get("/task/\(id)?content_limit=\(request.count - 1)").object
        #expect(task["request"] == nil && task["request_bytes"] as? Int == request.count)
        #expect(task["request_start"] as? String == String(request.dropLast()))
        #expect(try server.get("/task/\(id)?content_limit=\(request.count)").object["request"] != nil)
    }

    @Test func aWrongLimitIsRefusedAndNothingIsDeleted() throws {
        let id = try server.enqueue("q", #""content": 1, "key": "k""#)
        for value in ["-1", "x", "1.5", ""] {
            for (method, path) in [
                ("GET", "/task/\(id)?"), ("DELETE", "/task/\(id)?"), ("GET", "/peek/q?"), ("GET", "/key/q?key=k&"),
                ("DELETE", "/key/q?key=k&"),
            ] {
                let answer = try server.send(method, "\(path)content_limit=\(value)")
                #expect(answer.status == 400 && answer.field == "content_limit", "\(method) \(path)")
            }
        }
        #expect(try server.state(id) == "ready")
    }

    /// A list of large contents needs little room if it shows only their beginnings.
    @Test func aLimitMakesRoomForLargeContents() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--max-memory", "64M"])
        let text = String(repeating: "x", count: 1_000_000)
        for _ in 0..<20 { try server.enqueue("q", "\"content\": \"\(text)\"") }
        #expect(try server.get("/peek/q?n=20").status == 503)
        let tasks = try server.get("/peek/q?n=20&content_limit=100").tasks
        #expect(tasks.count == 20 && (tasks.last ?? nil)?["content_bytes"] as? Int == 1_000_002)
    }
}
