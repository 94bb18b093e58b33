// `emq export` and `emq import`: a queue as JSON lines.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct TransferTests {
    private let server: Server
    private let client: ClientProgram

    init() throws {
        server = try Server()
        client = try ClientProgram(port: server.port)
    }

    /// The lines of an export, as objects.
    private func export(_ queue: String, _ options: String...) throws -> [[String: Any]] {
        let process = try client.command(["export", queue] + options)
        try process.start()
        let result = try client.end(of: process)
        #expect(result.status == 0, "\(result.error)")
        return try result.output.split(separator: "\n").map { line in
            try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        }
    }

    private static func isNear(_ value: Any?, _ number: Double) -> Bool {
        (value as? Double).map { $0 <= number && $0 > number - 60 } ?? false
    }

    @Test func anExportHasWhatIsNeededToAddATaskAgain() throws {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        let json = """
            {"content": {"a": [1,
              2.50]}, "key": "k", "unique_for": 900, "priority": -3, "retry": 7, "expiry": 600, "max_crashes": 2,
              "max_retries": null, "backoff": {"min": 1, "max": 60}, "keep": 90, "metadata": {"m": "x"}}
            """
        let answer = try server.connect().ask(
            "POST", "/enqueue/q", json, fields: ["X-Request-Id: order-17", "traceparent: \(trace)"])
        #expect(answer.status == 200)
        let due = (Date().timeIntervalSince1970 + 3000).rounded()
        try server.enqueue("q", "\"eta\": \(due), \"expiry\": 60")
        try server.enqueue("q", "\"expiry\": null")
        let tasks = try export("q")
        #expect(tasks.count == 3)
        let delayed = tasks[0]
        #expect(delayed["eta"] as? Double == due && delayed["expiry"] as? Double == 60)
        let forever = tasks[1]
        #expect(forever["content"] is NSNull && forever["expiry"] is NSNull && forever["eta"] == nil)
        let task = tasks[2]
        #expect(task["key"] as? String == "k" && task["priority"] as? Int == -3 && task["retry"] as? Int == 7)
        #expect(Self.isNear(task["unique_for"], 900) && Self.isNear(task["expiry"], 600))
        #expect(task["max_retries"] is NSNull && task["backoff"] as? [String: Int] == ["min": 1, "max": 60])
        #expect(task["keep"] as? Int == 90)
        #expect(task["max_crashes"] as? Int == 2 && task["metadata"] as? [String: String] == ["m": "x"])
        #expect(task["request_id"] as? String == "order-17" && task["traceparent"] as? String == trace)
        #expect(try client.run("export", "q").output.contains("{\"a\": [1,   2.50]}"))
        // It takes nothing.
        #expect(try server.get("/stats/q").object["ready"] as? Int == 2)
    }

    @Test func anImportAddsTheSameTasks() throws {
        for index in 1...2500 {
            // Several pages, and tasks with traces of their own among them.
            if index % 1000 == 0 {
                let json = "{\"content\": \(index), \"key\": \"k\(index)\"}"
                let fields = ["X-Request-Id: r\(index)"]
                #expect(try server.connect().ask("POST", "/enqueue/q", json, fields: fields).status == 200)
            } else if index % 1000 == 1 {
                try server.enqueueAll("q", Array(index..<min(index + 999, 2501)))
            }
        }
        try server.enqueue("q", #""content": "later", "delay": 900, "priority": 4"#)
        let exported = try client.run("export", "q")
        #expect(exported.error == "emq export: 2501 tasks of 'q'\n")
        let imported = try client.run("import", "to", try client.file("q.jsonl", exported.output))
        #expect(imported.status == 0, "\(imported.error)")
        #expect(imported.error.hasPrefix("emq import: added 2501 tasks in "), "\(imported.error)")
        func text(_ tasks: [[String: Any]]) -> [String] {
            // What is left of an expiry differs.
            tasks.map { task in
                task.filter { $0.key != "expiry" }.map { "\($0.key)=\($0.value)" }.sorted().joined(separator: " ")
            }
        }
        let (before, after) = (text(try export("q")), text(try export("to")))
        #expect(before.count == 2501 && before == after)
        #expect(try server.takeContents("to", 1000) == Array(1...1000))
    }

    @Test func statesAreSelected() throws {
        try server.enqueue("q", #""content": "ready""#)
        try server.enqueue("q", #""content": "delayed", "delay": 900"#)
        try server.enqueue("q", #""content": "held", "priority": 9"#)
        try server.enqueue("q", #""content": "dead", "priority": 8"#)
        let tasks = try server.take("q", 2)
        let dead = try #require(tasks.last?["receipt"] as? String)
        try server.post("/nak/", "{\"ids\": [\"\(dead)\"], \"dead\": true}")
        func contents(_ options: String...) throws -> [String] {
            let process = try client.command(["export", "q"] + options)
            try process.start()
            return try client.end(of: process).output.split(separator: "\n").compactMap { line in
                (try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])?["content"] as? String
            }
        }
        #expect(try contents() == ["delayed", "ready"])
        #expect(try contents("--state", "dead") == ["dead"])
        #expect(try contents("--state", "all") == ["held", "delayed", "ready", "dead"])
        let wrong = try client.run("export", "q", "--state", "redy")
        #expect(wrong.status == 2 && wrong.error.contains("did you mean 'ready'?"), "\(wrong.error)")
        // A dead task is a new one, with the queue's expiry.
        let lines = try client.run("export", "q", "--state", "dead").output
        #expect(try client.run("import", "new", input: lines).status == 0)
        #expect(try server.get("/stats/new").object["ready"] as? Int == 1)
    }

    @Test func keysOfBatchesAreNotExported() throws {
        #expect(try client.run("add", "q", "--lines", "-", input: "a\nb\n").status == 0)
        let id = try #require((try server.get("/peek/q").tasks.first ?? nil)?["id"] as? String)
        #expect((try server.task(id)["key"] as? String)?.hasPrefix("emq-add:") == true)
        let tasks = try export("q")
        #expect(tasks.count == 2 && tasks.allSatisfy { $0["key"] == nil && $0["unique_for"] == nil })
    }

    @Test func tasksWhoseKeysAreTakenAreLeftOut() throws {
        try server.enqueue("q", #""content": 1, "key": "k""#)
        let lines = "{\"content\": 2, \"key\": \"k\"}\n{\"content\": 3}\n"
        let result = try client.run("import", "q", input: lines)
        #expect(result.status == 0 && result.error.contains("added 1 task in "), "\(result.error)")
        #expect(result.error.contains("1 task left out, because other tasks have the keys"))
        #expect(try server.takeContents("q") == [1, 3])
    }

    @Test(arguments: [
        ("{\"content\": 1, \"contnet\": 2}", "line 2: unknown field 'contnet'; did you mean 'content'?"),
        ("[1]", "line 2 is no object"), ("{", "line 2 is not JSON at byte 1"),
        ("{\"retry\": \"x\"}", "line 2: retry must be a number of seconds"),
        ("{\"request_id\": \"a b\"}", "line 2 has a request_id that is no text"),
        ("{\"traceparent\": \"a\\r\\nb\"}", "line 2 has a traceparent that is no text"),
        ("{\"on_conflict\": \"keep\"}", "line 2: on_conflict needs a key"),
        ("{\"key\": \"k\", \"on_conflict\": \"reject\"}", "line 2: "),
    ])
    func aWrongLineIsNamedAndNothingIsAdded(line: String, words: String) throws {
        try server.enqueue("q", #""key": "k""#)
        let result = try client.run("import", "q", input: "{\"content\": 1}\n\(line)\n")
        #expect(result.status != 0 && result.error.contains(words), "\(result.error)")
        #expect(result.error.hasSuffix("; nothing was added\n") && result.error.filter { $0 == "\n" }.count == 1)
        #expect(try server.get("/stats/q").object["ready"] as? Int == 1)
    }

    @Test func lostAnswersAddNothingTwice() throws {
        let proxy = try Proxy(to: server, [.lose, .pass, .lose])
        let client = try ClientProgram(port: proxy.port)
        var lines = ["{}", "  { \"content\" : 2 , \"request_id\" : \"r\" }", "{\"request_id\": \"r\"}"]
        lines += (4...3000).map { "{\"content\": \($0), \"priority\": 1}" }
        let result = try client.run("import", "q", input: lines.joined(separator: "\n"))
        #expect(result.status == 0, "\(result.error)")
        #expect(proxy.postCount > 4)
        #expect(try server.get("/stats/q").object["ready"] as? Int == 3000)
    }

    @Test func tasksThatAreTakenMeanwhileDoNotStopAnExport() throws {
        let metadata = "{\"m\": \"\(String(repeating: "x", count: 200))\"}"
        let tasks = (1...2500).map { "{\"content\": \($0), \"metadata\": \(metadata)}" }
        #expect(try server.post("/enqueue/q", "[\(tasks.joined(separator: ","))]").status == 200)
        let process = try client.command(["export", "q"])
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.start()
        // The first page is printed at once and does not fit into the pipe, so the export waits there.
        var size: Int32 = 0
        _ = try eventually("the first page") {
            _ = ioctl(pipe.fileHandleForReading.fileDescriptor, UInt(FIONREAD), &size)
            return size > 0 ? true : nil
        }
        for _ in 0..<2 { #expect(try server.take("q", 600).count == 600) }
        let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        #expect(try client.end(of: process).status == 0)
        let contents = try text.split(separator: "\n").map { line in
            (try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])?["content"] as? Int
        }
        #expect(contents == Array(1...1000) + Array(1201...2500))
    }

    @Test func anEmptyQueueIsAnEmptyExport() throws {
        let result = try client.run("export", "nothing")
        #expect(result.status == 0 && result.output.isEmpty && result.error == "emq export: 0 tasks of 'nothing'\n")
        #expect(try client.run("import", "nothing", input: "").status == 0)
    }

    @Test func hiddenContentIsNotExported() throws {
        let file = try TokenFile([
            TestToken("all", ["enqueue", "work", "read", "manage", "admin", "push"]), TestToken("some", ["read"]),
        ])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try ClientProgram(port: server.port)
        let all = ["EMQ_TOKEN": TestToken("all", []).text]
        #expect(try client.run("config", "set", "q", "show_content=false", environment: all).status == 0)
        #expect(try client.run("add", "q", "secret", environment: all).status == 0)
        let hidden = try client.run("export", "q", environment: ["EMQ_TOKEN": TestToken("some", []).text])
        #expect(hidden.status == 4 && hidden.output.isEmpty && hidden.error.contains("hides the content"))
        #expect(try client.run("export", "q", environment: all).output.contains("secret"))
    }
}
