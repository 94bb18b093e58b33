// `emq tail` with the real program: what it sees, how it goes on, and how it ends.

import Foundation
import Net
import Support
import Testing

@testable import emq

@Suite(.blocking) struct TailTests {
    private let server: Server

    init() throws { server = try Server() }

    /// Runs a script in bash, in which `$0` is emq.
    private func bash(_ script: String, environment: [String: String] = [:]) throws -> PseudoTerminal {
        try PseudoTerminal(
            ["-c", script, Server.executable.path], program: "/bin/bash", columns: 200, rows: 200,
            environment: try server.clientEnvironment.merging(environment) { $1 })
    }

    private func events(_ terminal: PseudoTerminal) -> [[String: Any]] {
        terminal.lines.filter { $0.hasSuffix("}") }.compactMap {
            try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
        }
    }

    /// How often something has happened, by the events of single tasks and by the sums of the others.
    private func count(_ kind: String, _ events: [[String: Any]]) -> Int {
        events.reduce(0) { $0 + ($1["event"] as? String == kind ? 1 : $1[kind] as? Int ?? 0) }
    }

    private func waitFor(_ kind: String, _ id: String, _ terminal: PseudoTerminal) throws {
        try terminal.wait(for: "\(kind) of \(id)") { terminal in
            terminal.lines.dropLast().contains { $0.contains(" \(kind) ") && $0.contains(id) }
        }
    }

    /// Adds tasks until one is seen, because what happens before the first look is not told.
    private func seen(in terminal: PseudoTerminal, _ add: () throws -> String) throws -> String {
        var (ids, count) = ([String](), 0)
        try terminal.wait(for: "a task that is seen") { terminal in
            if count % 500 == 0 { ids.append(try add()) }
            count += 1
            return ids.contains { terminal.text.contains($0) }
        }
        return try #require(ids.first { terminal.text.contains($0) })
    }

    /// A command that prints the events of a queue as JSON, and has seen the first one.
    private func followMail() throws -> PseudoTerminal {
        let terminal = try bash("\"$0\" tail mail --json | cat")
        _ = try seen(in: terminal) { try server.enqueue("mail") }
        return terminal
    }

    @Test func theLifeOfATaskIsFollowed() throws {
        let id = try server.enqueue("mail", #""content": {"to": "ann"}, "max_retries": 1, "backoff": 0"#)
        let terminal = try server.terminal("tail", "mail", "-n", "5", columns: 120, environment: ["NO_COLOR": "1"])
        try waitFor("enqueued", id, terminal)
        #expect(terminal.lines[0].hasSuffix(#" enqueued   \#(id) {"to": "ann"}"#), "\(terminal.lines)")
        // From now on, the stream goes on.
        let second = try seen(in: terminal) {
            try server.enqueue("mail", #""content": "b\u001b[2J", "delay": 1000"#)
        }
        let taken = try #require(try server.take("mail").first?["receipt"] as? String)
        try waitFor("dispatched", id, terminal)
        #expect(try server.post("/nak/", #"{"ids": ["\#(taken)"], "error": "no route\nto host"}"#).status == 200)
        try waitFor("failed", id, terminal)
        #expect(terminal.text.contains("no route↵to host") && !terminal.text.contains("\u{1B}"))
        let again = try #require(try server.take("mail").first?["receipt"] as? String)
        try terminal.wait(for: "the second dispatch") { $0.text.contains("\(id) #2") }
        #expect(try server.post("/ack/", #"{"ids": ["\#(again)"]}"#).status == 200)
        try waitFor("acked", id, terminal)
        try server.send("DELETE", "/task/\(second)")
        try waitFor("cancelled", second, terminal)
        try server.send("POST", "/pause/mail")
        try terminal.wait(for: "the pause") { $0.text.contains(" paused ") }
        #expect(try server.get("/stats/mail").object["dispatched"] as? Int == 0)
        terminal.type("\u{3}")
        #expect(try terminal.exitStatus() == 0)
    }

    @Test func queuesWithLongNamesAreFollowed() throws {
        let name = String(repeating: "任务", count: 42) + "abc"
        #expect(name.utf8.count == 255)
        let id = try server.enqueue(name.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? "")
        let terminal = try server.terminal("tail", name, "-n", "5", columns: 120, environment: ["NO_COLOR": "1"])
        try waitFor("enqueued", id, terminal)
        try server.send("DELETE", "/task/\(id)")
        // Its state is in the second of two streams, and both are there.
        let second = try seen(in: terminal) {
            try server.enqueue(name.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? "")
        }
        try server.send("DELETE", "/task/\(second)")
        try waitFor("cancelled", second, terminal)
        terminal.type("\u{3}")
        #expect(try terminal.exitStatus() == 0)
        let requests = try server.piped("tail", name, "--curl").output.split(separator: "\n")
        #expect(requests.count == 2 && requests.allSatisfy { $0.utf8.count < 8100 })
        let help = try server.piped("tail", "--help").output
        #expect(help.contains("print a JSON object for each event") && !help.contains("print the server's JSON"))
    }

    @Test func eachEventIsCountedOnce() throws {
        let terminal = try followMail()
        func totals() throws -> [String: Int] {
            try #require(try server.get("/stats/mail").object["totals"] as? [String: Int])
        }
        for _ in 0..<3 {
            try server.enqueueAll("mail", Array(0..<700))
            let receipts = try server.take("mail").compactMap { $0["receipt"] as? String }
            let list = receipts.map { "\"\($0)\"" }.joined(separator: ",")
            #expect(try server.post("/ack/", "{\"ids\": [\(list)]}").status == 200)
        }
        let enqueued = try #require(try totals()["enqueued"])
        let acked = try #require(try totals()["acked"])
        try terminal.wait(for: "all events") { terminal in
            let seen = events(terminal)
            return count("acked", seen) >= acked && count("enqueued", seen) >= enqueued - 50
        }
        let seen = events(terminal)
        #expect(count("acked", seen) == acked && count("dispatched", seen) == acked, "\(seen.suffix(5))")
        #expect(count("enqueued", seen) <= enqueued && count("died", seen) == 0 && count("failed", seen) == 0)
        #expect(seen.allSatisfy { $0["time"] is Double && $0["event"] is String })
    }

    @Test func aTaskThatDiesDoesSoOnce() throws {
        let terminal = try followMail()
        var ids: [String] = []
        for _ in 0..<3 {
            let id = try server.enqueue("mail", #""priority": 9"#)
            ids.append(id)
            let receipt = try #require(try server.take("mail", 1).first?["receipt"] as? String)
            try terminal.wait(for: "the dispatch") { terminal in
                events(terminal).contains { $0["event"] as? String == "dispatched" && $0["id"] as? String == id }
            }
            #expect(try server.post("/nak/", #"{"ids": ["\#(receipt)"], "error": "x", "dead": true}"#).status == 200)
        }
        try terminal.wait(for: "the deaths") { count("died", events($0)) >= ids.count }
        // What comes after them.
        try server.send("POST", "/pause/mail")
        try terminal.wait(for: "the pause") { count("paused", events($0)) == 1 }
        let died = events(terminal).filter { $0["event"] as? String == "died" }.compactMap { $0["id"] as? String }
        #expect(died.sorted() == ids.sorted() && count("died", events(terminal)) == 3)
    }

    @Test(arguments: [SIGINT, SIGTERM, SIGHUP])
    func aSignalEndsItCleanly(signal: Int32) throws {
        try server.enqueue("mail")
        let terminal = try server.terminal("tail", "mail", "-n", "1")
        try terminal.wait(for: "the first line") { $0.text.contains("enqueued") }
        terminal.signal(signal)
        #expect(try terminal.exitStatus() == 0)
    }

    @Test func aClosedPipeEndsItCleanly() throws {
        try server.enqueueAll("mail", [1, 2, 3])
        let terminal = try bash("\"$0\" tail mail -n 3 | head -n 1; echo status ${PIPESTATUS[0]}")
        #expect(try terminal.exitStatus() == 0)
        #expect(
            terminal.lines.count == 3 && terminal.lines[1] == "status 0" && terminal.lines[0].contains("\tenqueued\t"))
    }

    @Test func itGoesOnWhenTheServerIsBack() throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "emq-tail-\(UUID().uuidString).sock").path
        let log = FileManager.default.temporaryDirectory.appending(path: "emq-tail-\(UUID().uuidString)").path
        defer { for file in [path, log] { try? FileManager.default.removeItem(atPath: file) } }
        var server: Server? = try Server(["--addr", "unix:\(path)", "--data", log])
        func add() throws -> String {
            let result = try Server.run(["add", "mail"], environment: ["EMQ_URL": "unix:\(path)"])
            #expect(result.status == 0, "\(result.error)")
            return String(result.output.dropLast())
        }
        let first = try add()
        let terminal = try PseudoTerminal(
            ["tail", "mail", "-n", "1"], environment: ["EMQ_URL": "unix:\(path)", "NO_COLOR": "1"])
        try waitFor("enqueued", first, terminal)
        // Before that, it would end.
        _ = try seen(in: terminal, add)
        server?.signal(SIGKILL)
        _ = try server?.exitStatus()
        try terminal.wait(for: "the notice") { $0.text.contains("waiting for the server") }
        server = try Server(["--addr", "unix:\(path)", "--data", log])
        try terminal.wait(for: "the return") { $0.text.contains("the server is back") }
        _ = try seen(in: terminal, add)
        terminal.type("\u{3}")
        #expect(try terminal.exitStatus() == 0)
        server = nil
    }

    @Test func whatIsWrongAtTheBeginningEndsIt() throws {
        let away = try Server.run(["tail", "mail", "--url", "unix:/nonexistent/emq.sock"])
        #expect(away.status == 5 && away.output.isEmpty && away.error.split(separator: "\n").count == 1)
        #expect(try server.piped("tail", "mail", "--interval", "1500ms").status == 2)
        let curl = try server.piped("tail", "mail", "--curl")
        #expect(
            curl.status == 0 && curl.output.contains("get=%2Fstats%2Fmail&get=%2Fpeek%2Fmail%3Fstate%3Dready"))
    }

    @Test func eventsAreReadFromPartsOfAnySize() {
        let text =
            "event: 0\ndata: {\"a\":\ndata: 1}\n\n: comment\n\nevent: 1/404\r\ndata:x\r\n\r\ndata: no name\n\nevent: 2\n"
        for size in [1, 2, 3, 7, 1000] {
            var reader = EventReader()
            var events: [String] = []
            let bytes = Array(text.utf8)
            for start in stride(from: 0, to: bytes.count, by: size) {
                for event in reader.read(Array(bytes[start..<min(bytes.count, start + size)])) {
                    events.append("\(event.name)=\(String(decoding: event.data, as: UTF8.self))")
                }
            }
            #expect(events == ["0={\"a\":\n1}", "1/404=x"])
        }
    }
}
