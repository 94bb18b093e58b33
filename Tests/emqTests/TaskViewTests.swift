// How the client's commands show tasks, results and figures, on terminals and in pipes.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct TaskViewTests {
    private let server: Server

    init() throws { server = try Server() }

    /// A task that has failed twice, with everything that a task may have.
    private func deadTask() throws -> String {
        let id = try server.enqueue(
            "mail",
            #"""
            "content": {"to": "ann@example.org", "text": "\#(String(repeating: "w ", count: 50))"}, "max_retries": 1,
            "backoff": 0, "priority": 5, "key": "k1", "metadata": {"trace": "7f3a"}
            """#)
        for (error, log) in [("no route to host", "first"), ("Traceback\\n  at x.py\\nKeyError: 'a'", "one\\ntwo")] {
            let json = #"{"queues": ["mail"], "max": 1, "worker": "host-7"}"#
            let task = try #require(try server.post("/wait/", json).tasks.first ?? nil)
            let receipt = try #require(task["receipt"] as? String)
            #expect(
                try server.post("/nak/", #"{"ids": ["\#(receipt)"], "error": "\#(error)", "log": "\#(log)"}"#).status
                    == 200)
        }
        return id
    }

    @Test func aTaskIsShownWholeWithItsLogAtTheEnd() throws {
        let id = try deadTask()
        let terminal = try server.terminal("task", id, columns: 100, environment: ["NO_COLOR": "1"])
        #expect(try terminal.exitStatus() == 0)
        let lines = terminal.lines
        func value(_ name: String) -> String? {
            lines.first { $0.hasPrefix("\(name)  ") }.map {
                $0.dropFirst(name.count).trimmingCharacters(in: .whitespaces)
            }
        }
        #expect(value("id") == id && value("queue") == "mail" && value("state") == "dead" && value("key") == "k1")
        #expect(value("attempt") == "2" && value("retries") == "1" && value("priority") == "5")
        #expect(value("worker") == "host-7" && value("lease") == "5m")
        let died = try #require(value("died"))
        #expect(died.wholeMatch(of: /(now|\ds ago) \(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)/) != nil, "\(died)")
        let sections = ["error", "attempts", "metadata", "content", "log"].map { lines.firstIndex(of: $0) ?? -1 }
        #expect(sections == sections.sorted() && !sections.contains(-1), "\(lines)")
        #expect(lines.suffix(4) == ["log", "one", "two", ""])
        #expect(lines.contains { $0.hasPrefix("1  failed ") && $0.hasSuffix("host-7  no route to host") })
        #expect(lines.contains(#"  "to": "ann@example.org","#))
        #expect(lines.allSatisfy { TerminalText.width($0) <= 100 })
    }

    @Test func inAPipeATaskHasALineForEachField() throws {
        let id = try deadTask()
        let result = try server.piped("task", id)
        let fields = Dictionary(
            uniqueKeysWithValues: result.output.split(separator: "\n").map { line in
                let parts = line.split(separator: "\t", omittingEmptySubsequences: false)
                return (String(parts[0]), String(parts[1]))
            })
        #expect(Set(fields.keys) == Set(try server.task(id).keys))
        #expect(fields["log"] == #"one\ntwo"# && fields["id"] == id)
    }

    @Test func longContentsAreBoundedAndPointToTheRest() throws {
        let long = String(repeating: "x", count: 100_000)
        let lines = (0..<3000).map { "\($0)" }.joined(separator: ",")
        let text = try server.enqueue("q", "\"content\": \"\(long)\"")
        let list = try server.enqueue("q", "\"content\": [\(lines)]")
        for (id, hint) in [
            (text, "content (the beginning of 100 kB; --json shows all)"), (list, "… (--json shows all)"),
        ] {
            let terminal = try server.terminal("task", id, environment: ["NO_COLOR": "1"])
            #expect(try terminal.exitStatus() == 0)
            #expect(terminal.lines.contains(hint) && terminal.lines.count < 70)
        }
    }

    // MARK: Receipts and lists

    @Test(arguments: [20, 40, 80])
    func receiptsAndIdsAreNeverShortened(columns: Int) throws {
        let ids = try server.enqueueAll("mail", [1, 2, 3])
        let peek = try server.terminal("peek", "mail", columns: columns)
        #expect(try peek.exitStatus() == 0)
        for id in ids { #expect(peek.text.contains(id)) }
        let one = try server.terminal("take", "mail", columns: columns)
        #expect(try one.exitStatus() == 0)
        let two = try server.terminal("take", "mail", "-n", "5", columns: columns)
        #expect(try two.exitStatus() == 0)
        let receipts = (one.text + two.text).matches(of: /[\w-]{22}@[0-9a-f]{16}/).map { String($0.output) }
        #expect(Set(receipts.map { String($0.prefix(22)) }) == Set(ids))
        #expect(
            try Server.run(["ack"] + receipts, environment: try server.clientEnvironment).output == "acked 3 tasks\n")
    }

    @Test func peekHasTheSameColumnsInEachPipe() throws {
        let id = try server.enqueue("mail", #""content": "a\tb", "delay": 1000"#)
        let result = try server.piped("peek", "mail", "--state", "delayed")
        let fields = result.output.dropLast().split(separator: "\t", omittingEmptySubsequences: false)
        #expect(fields.count == 7 && fields[0] == id && fields[1] == "delayed" && fields[3] == "0", "\(fields)")
        #expect(
            fields[4] == #""a\\tb""# && fields[5].isEmpty && (Double(fields[2]) ?? 0) > Date().timeIntervalSince1970)
        let terminal = try server.terminal("peek", "mail", "--state", "delayed", environment: ["NO_COLOR": "1"])
        #expect(try terminal.exitStatus() == 0)
        #expect(
            terminal.lines[0] == "ID                      STATE    WHEN        ATTEMPT  CONTENT", "\(terminal.lines)")
        #expect(terminal.lines[1].contains("  in 16m "))
        let none = try server.piped("peek", "mail")
        #expect(none.status == 3 && none.error == "emq peek: 'mail' has no ready tasks\n")
    }

    // MARK: Results and figures

    @Test func resultsAreJSONForPrograms() throws {
        let id = try server.enqueue("mail", #""keep": 600"#)
        let receipt = try #require(try server.take("mail").first?["receipt"] as? String)
        let result = #""two\nlines \u001b[2J""#
        #expect(try server.post("/ack/", "{\"ids\": [\"\(receipt)\"], \"result\": \(result)}").status == 200)
        #expect(try server.piped("result", id).output == result + "\n")
        #expect(try server.piped("result", id, "--text").output == "two\nlines \u{1B}[2J\n")
        let terminal = try server.terminal("result", id, "--text")
        #expect(try terminal.exitStatus() == 0)
        #expect(terminal.lines == ["two", "lines \u{FFFD}[2J", ""])
    }

    @Test func figuresHaveUnitsForPeople() throws {
        try server.enqueueAll("mail", Array(0..<1500))
        let queue = try server.terminal("stats", "mail", rows: 60, environment: ["NO_COLOR": "1"])
        #expect(try queue.exitStatus() == 0)
        #expect(queue.lines.contains { $0.wholeMatch(of: /ready +1,500/) != nil } && queue.lines.contains("totals"))
        let whole = try server.terminal("stats", environment: ["NO_COLOR": "1"])
        #expect(try whole.exitStatus() == 0)
        #expect(whole.lines.contains { $0.wholeMatch(of: /limit +[0-9.,]+ [GT]B/) != nil })
        #expect(whole.lines.contains { $0.wholeMatch(of: /started +(now|\d+s ago) \(.* UTC\)/) != nil })
        let piped = try server.piped("stats", "mail")
        #expect(piped.output.contains("ready\t1500\n") && piped.output.contains("rates.enqueued\t"))
    }

    @Test func numbersAreWrittenForPeople() {
        #expect(
            [0, 999, 1000, 1_234_567, -5000, .nan, .infinity].map { Humane.count($0) }.prefix(6)
                == ["0", "999", "1,000", "1,234,567", "-5,000", "0"])
        #expect([0, 0.25, 9.99, 12.34, 1250].map { Humane.rate($0) } == ["0", "0.2", "9.9", "12", "1,250"])
        #expect(
            [0, 999, 1500, 2.5e9, 7e15].map { Humane.bytes($0) } == [
                "0 bytes", "999 bytes", "1.5 kB", "2.5 GB", "7,000 TB",
            ])
        let now: Int64 = 1_796_000_000_000
        let seconds = Double(now) / 1000
        #expect(
            [-200, 0.2, 0.6, 300, -3_700].map { Humane.relative(seconds + $0, now: now) }
                == ["3m 20s ago", "now", "in 1s", "in 5m", "1h 1m ago"])
        for extreme in [-.infinity, .infinity, .nan, 1e300, -1e300] {
            #expect(!Humane.time(extreme, now: now, isShort: false).isEmpty)
        }
    }
}
