// What the client's commands look like in a terminal and in a pipe, and what they ask.

import Foundation
import Support
import Testing

@testable import emq

extension Server {
    /// The variables with which the client's commands reach this server.
    var clientEnvironment: [String: String] {
        get throws {
            let scheme = TestTLS.isOverTLS ? "https" : "http"
            // A command that is interrupted does not free what its requests refer to: the process ends.
            let url = ["EMQ_URL": "\(scheme)://localhost:\(port)", "ASAN_OPTIONS": "detect_leaks=0"]
            return TestTLS.isOverTLS ? url.merging(["EMQ_CA": try Certificates.shared.authorityFile]) { $1 } : url
        }
    }

    /// Runs a command of the client in a pseudo-terminal.
    func terminal(
        _ arguments: String..., columns: Int = 80, rows: Int = 24, environment: [String: String] = [:]
    ) throws -> PseudoTerminal {
        try PseudoTerminal(
            arguments, columns: columns, rows: rows, environment: try clientEnvironment.merging(environment) { $1 })
    }

    /// Runs a command of the client with pipes.
    func piped(_ arguments: String...) throws -> (status: Int32, output: String, error: String) {
        try Server.run(arguments, environment: try clientEnvironment)
    }
}

@Suite(.blocking) struct TerminalTests {
    private let server: Server

    init() throws { server = try Server() }

    // MARK: Tables

    @Test func tablesAreAlignedAndColouredOnATerminalOnly() throws {
        try server.enqueue("mail")
        try server.enqueue("a-longer-name")
        try server.send("POST", "/pause/mail")
        let coloured = try server.terminal("queues")
        #expect(try coloured.exitStatus() == 0)
        #expect(coloured.text.contains("\u{1B}[1mmail\u{1B}[0m") && coloured.text.contains("\u{1B}[33mpaused"))
        let lines = coloured.screen.lines.filter { !$0.isEmpty }
        try #require(lines.count == 3)
        #expect(lines[0].hasPrefix("QUEUE          READY  DELAYED") && lines[0].hasSuffix("STATE"))
        #expect(
            lines[1].hasPrefix("a-longer-name      1        0") && lines[2].hasPrefix("mail               1        0"))
        for environment in [["NO_COLOR": "1"], ["TERM": "dumb"]] {
            let plain = try server.terminal("queues", environment: environment)
            #expect(try plain.exitStatus() == 0)
            #expect(plain.screen.lines.count { !$0.isEmpty } == 3 && !plain.text.contains("\u{1B}"), "\(environment)")
        }
        let piped = try server.piped("queues")
        let fields = piped.output.split(separator: "\n").map {
            $0.split(separator: "\t", omittingEmptySubsequences: false)
        }
        #expect(fields.map(\.count) == [7, 7] && fields.map { $0[0] } == ["a-longer-name", "mail"])
        #expect(fields[1][1...4] == ["1", "0", "0", "0"] && fields[1][6] == "paused" && Double(fields[1][5]) != nil)
    }

    @Test func contentsOfTasksDoNotControlTheTerminal() throws {
        let hostile = #""\u001b[2J\u001b[1;1Hboo\r\n\u0007\u009b31m\u202egnp.exe\u200b""#
        let id = try server.enqueue("q", #""content": \#(hostile), "metadata": {"m": \#(hostile)}"#)
        let taken = try #require(try server.take("q").first)
        let receipt = try #require(taken["receipt"] as? String)
        let failure = "{\"ids\": [\"\(receipt)\"], \"error\": \(hostile), \"log\": \(hostile), \"dead\": true}"
        #expect(try server.post("/nak/", failure).status == 200)
        let raw = "[\u{1B}[2J\u{9B}2J\u{202E}\u{E0001}é]"
        try server.enqueue("raw", "\"content\": \"\(raw.dropFirst(5))\"")
        let json = try server.terminal("peek", "raw", "--json")
        #expect(try json.exitStatus() == 0)
        #expect(json.text.contains(#""content":"\u009b2J\u202e\udb40\udc01é]""#), "\(json.text)")
        for arguments in [
            ["peek", "q", "--state", "dead"], ["task", id], ["task", id, "--json"], ["peek", "raw"],
            ["queues", "--json"],
        ] {
            let terminal = try PseudoTerminal(
                arguments, environment: try server.clientEnvironment.merging(["NO_COLOR": "1"]) { $1 })
            #expect(try terminal.exitStatus() == 0)
            let scalars = terminal.text.unicodeScalars
            #expect(terminal.text.contains("boo") || !arguments.contains(id))
            #expect(!scalars.contains { $0.value == 0x1B || $0.value == 0x9B })
            #expect(!scalars.contains { [0x07, 0x202E, 0x200B].contains($0.value) }, "\(arguments)")
        }
    }

    @Test func namesOfFieldsDoNotControlTheTerminal() throws {
        let json = #"{"\u001b[2Ja": 1, "b": {"\u001b[2Jc": "x"}, "\u001b[2Jd": {"e": 1}}"#
        let hostile = try #require(JSONPart(Array(json.utf8)[...]))
        let plain = Terminal { _ in nil }
        let figures = FigureViews.lines(of: hostile, plain, now: 0)
        #expect(figures.count { $0.contains("\u{FFFD}[2J") } == 3 && !figures.contains { $0.contains("\u{1B}") })
        let task = TaskViews(plain, ServerResponse(status: 200, body: [], fields: [:])).lines(of: hostile)
        #expect(task.count { $0.contains("\u{FFFD}[2J") } == 2 && !task.contains { $0.contains("\u{1B}") })
    }

    // MARK: Terminals that nobody reads

    @Test func aStoppedTerminalDoesNotHoldAddUp() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "emq-terminal-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appending(path: "lines")
        try Data(String(repeating: "some line\n", count: 300_000).utf8).write(to: file)
        let terminal = try server.terminal(
            "add", "mail", "--lines", file.path, environment: ["XDG_STATE_HOME": folder.path])
        // Ctrl-S
        terminal.type("\u{13}")
        // The answer to the first request is read after the bar was drawn.
        try eventually("the second request") {
            try server.get("/stats/mail").object["ready"] as? Int ?? 0 > TaskBatch.maximumCount ? () : nil
        }
        terminal.signal(SIGTERM)
        #expect(try terminal.exitStatusUnread() == 1)
    }

    // MARK: Questions

    @Test(arguments: [("y\r", 0, 0), ("YES\r", 0, 0), ("n\r", 1, 2), ("\r", 1, 2), ("yup\r", 1, 2), ("\u{4}", 1, 2)])
    func destructiveCommandsAskFirst(keys: String, status: Int32, left: Int) throws {
        try server.enqueueAll("mail", [1, 2])
        let terminal = try server.terminal("purge", "mail")
        try terminal.wait(for: "the question") { $0.text.contains("Delete 2 tasks of 'mail'? [y/N] ") }
        terminal.type(keys)
        #expect(try terminal.exitStatus() == status)
        #expect(terminal.text.contains(status == 0 ? "purged 2 tasks" : "emq purge: nothing was done"))
        #expect(try server.get("/stats/mail").object["ready"] as? Int == left)
    }

    @Test func withoutATerminalYesIsNecessary() throws {
        try server.enqueueAll("mail", [1, 2])
        let refused = try server.piped("purge", "mail")
        #expect(refused.status == 2 && refused.output.isEmpty && refused.error.contains("add --yes"))
        let done = try server.piped("purge", "mail", "--yes")
        #expect(done.status == 0 && done.output == "purged 2 tasks\n")
    }
}

@Suite(.blocking) struct TerminalTextTests {
    @Test(arguments: [
        ("", 0), ("abc", 3), ("é", 1), ("e\u{301}", 1), ("日本語", 6), ("ｱ", 1), ("Ａ", 2), ("한글", 4),
        ("\u{1112}\u{1161}\u{11AB}", 2), ("🙂", 2), ("👍🏽", 2), ("👩‍👩‍👧", 6), ("❤️", 1), ("🇨🇭", 2), ("\u{200B}", 1),
        ("नमस्ते", 4), ("می‌خواهم", 7), ("…", 1), ("\u{301}", 0),
    ])
    func widthsAreColumns(text: String, columns: Int) {
        #expect(TerminalText.width(TerminalText.visible(text)) == columns, "\(TerminalText.visible(text))")
    }

    @Test func shorteningEndsAtAColumn() {
        for columns in 0...14 {
            for text in ["日本語テキスト", "a日b本c語", "e\u{301}e\u{301}e\u{301}e\u{301}", "plain text here"] {
                let (shown, width) = TerminalText.shortened(text, to: columns)
                #expect(width <= columns && width == TerminalText.width(shown))
                #expect(shown == text || columns == 0 || (shown.hasSuffix("…") && width >= columns - 1))
            }
        }
        #expect(TerminalText.shortened("日本語", to: 5).text == "日本…")
        #expect(TerminalText.shortened("日本語", to: 6).text == "日本語")
        #expect(TerminalText.wrapped("日本語", columns: 5) == ["日本", "語"])
    }

    @Test func lineEndsAndInvisibleCharactersAreShown() {
        #expect(TerminalText.visible("a\tb\nc\r") == "a b↵c\u{FFFD}")
        #expect(TerminalText.visible("ma\u{200B}il\u{202E}\u{2028}") == "ma\u{FFFD}il\u{FFFD}\u{FFFD}")
        #expect(TerminalText.visibleLines("a\r\nb\n\n") == ["a", "b"])
    }

    // MARK: Tables

    private func table(_ rows: [[String]], _ columns: [TextTable.Column]) -> TextTable {
        var table = TextTable(columns)
        table.rows = rows.map { $0.map { TextTable.Cell($0) } }
        return table
    }

    private func lines(_ table: TextTable, _ width: Int?) -> [String] {
        table.lines(Terminal { _ in nil }, width: width)
    }

    @Test func columnsOfWideCharactersAreAligned() {
        let table = table([["日本", "x"], ["🙂🙂🙂", "y"]], [.init("N"), .init("V")])
        #expect(lines(table, nil) == ["N       V", "日本    x", "🙂🙂🙂  y"])
    }

    @Test func elasticColumnsShareFairly() {
        let long = String(repeating: "l", count: 100)
        let table = table(
            [["id", long, "short", long]],
            [.init("ID"), .init("A", isElastic: true), .init("B", isElastic: true), .init("C", isElastic: true)])
        let line = lines(table, 80)[1]
        let parts = line.split(separator: " ").map(\.count)
        // 80 - 2 - 5 - 3 * 2 for two columns.
        #expect(parts == [2, 34, 5, 33] && TerminalText.width(line) == 80)
        // What they need at least comes first, and everything fits or becomes a list.
        var wanting = table
        (wanting.columns[1].leastWidth, wanting.columns[3].leastWidth) = (30, 8)
        for width in 53...230 {
            let line = lines(wanting, width)[1]
            #expect(TerminalText.width(line) == min(width, 2 + 100 + 5 + 100 + 6), "\(width)")
            #expect(line.split(separator: " ")[1].count >= 30)
        }
        #expect(lines(wanting, 50)[0] == "ID id")
    }

    @Test func narrowTerminalsLeaveOutColumnsAndThenListThem() {
        let id = "AaH8ekX5cACuES467dOuXw"
        let table = table(
            [[id, "", "5", "some content"], ["b", "", "6", ""]],
            [
                .init("ID"), .init("NONE", isOptional: true), .init("N", isRight: true, rank: 1),
                .init("CONTENT", isElastic: true),
            ])
        #expect(lines(table, 36)[1] == "\(id)  5  some con…")
        #expect(lines(table, 33)[1] == "\(id)  some con…")
        #expect(
            lines(table, 19) == ["ID      \(id)", "CONTENT some conte…", "", "ID      b"])
    }
}
