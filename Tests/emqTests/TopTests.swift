// `emq top` with the real program in a pseudo-terminal: what it shows, its keys, and how it leaves the terminal.

import Foundation
import Net
import Support
import Synchronization
import Testing

@testable import emq

@Suite(.blocking) struct TopTests {
    private let server: Server

    init() throws {
        server = try Server()
        try server.enqueueAll("mail/in", [1, 2, 3])
        try server.enqueueAll("mail/out", [1])
        try server.enqueueAll("%E6%95%B0%E6%8D%AE", [1, 2])
        try server.send("POST", "/pause/mail/out")
    }

    /// The names of the queues on the screen.
    private func queues(_ terminal: PseudoTerminal) -> [String] {
        let lines = terminal.screen.lines
        guard let title = lines.firstIndex(where: { $0.hasPrefix("QUEUE") }) else { return [] }
        return lines[(title + 1)...].dropLast().prefix { !$0.isEmpty }.map { String($0.prefix { $0 != " " }) }
    }

    /// Whether the terminal is as it was.
    private func isLeft(_ terminal: PseudoTerminal) -> Bool {
        !terminal.screen.isAlternate && terminal.screen.isCursorVisible && terminal.isCooked
    }

    private func top(_ arguments: String..., columns: Int = 80, rows: Int = 24) throws -> PseudoTerminal {
        let terminal = try PseudoTerminal(
            ["top", "--interval", "200ms"] + arguments, columns: columns, rows: rows,
            environment: try server.clientEnvironment)
        try terminal.wait(for: "the table") { !queues($0).isEmpty }
        return terminal
    }

    @Test func keysSortAndFilterAndTheTerminalIsLeftAsItWas() throws {
        let terminal = try top()
        #expect(terminal.screen.isAlternate && !terminal.screen.isCursorVisible && !terminal.isCooked)
        #expect(queues(terminal) == ["mail/in", "数据", "mail/out"])
        let lines = terminal.screen.lines
        #expect(lines.contains { $0.hasPrefix("Tasks   6 ready, 0 running, 0 dead, 0 delayed, 6 in all") }, "\(lines)")
        let url = try #require(try server.clientEnvironment["EMQ_URL"])
        #expect(lines.last?.hasSuffix("1–3 of 3") == true && lines[0].hasPrefix(url))
        terminal.type("n")
        try terminal.wait(for: "the order of names") { queues($0) == ["mail/in", "mail/out", "数据"] }
        try server.enqueueAll("later", [1, 2, 3, 4])
        terminal.type(">>>>")
        try terminal.wait(for: "the order of ready tasks, with the new queue") {
            queues($0) == ["later", "mail/in", "数据", "mail/out"]
        }
        terminal.type("/mailx\u{7F}")
        try terminal.wait(for: "the pattern") { $0.screen.lines.last == "filter: mail_" }
        terminal.type("\r")
        try terminal.wait(for: "the selected queues") { queues($0) == ["mail/in", "mail/out"] }
        terminal.type("\u{1B}")
        try terminal.wait(for: "all queues") { queues($0).count == 4 }
        #expect(terminal.screen.unknown.isEmpty)
        terminal.type("q")
        #expect(try terminal.exitStatus() == 0)
        #expect(isLeft(terminal))
    }

    @Test(arguments: [0, SIGTERM, SIGHUP, SIGINT, SIGQUIT])
    func everyEndLeavesTheTerminalAsItWas(signal: Int32) throws {
        let terminal = try top()
        if signal == 0 { terminal.type("\u{3}") } else { terminal.signal(signal) }
        #expect(try terminal.exitStatus() == 0)
        #expect(isLeft(terminal) && terminal.screen.unknown.isEmpty)
    }

    @Test(arguments: [SIGSEGV, SIGABRT, SIGSYS, SIGXCPU, SIGUSR1, SIGALRM, SIGVTALRM])
    func aSignalThatEndsProgramsLeavesTheTerminalAsItWas(signal: Int32) throws {
        let terminal = try top()
        terminal.signal(signal)
        #expect(try terminal.exitStatus() == 128 + signal)
        #expect(isLeft(terminal) && terminal.screen.unknown.isEmpty)
    }

    @Test(arguments: [[], ["--batch"]]) func aTerminalThatNobodyReadsDoesNotHoldSignalsUp(arguments: [String]) throws {
        // Each frame is larger than what a terminal keeps for its reader.
        for number in 0..<300 { try server.enqueue("a-queue/\(number)/" + String(repeating: "x", count: 230)) }
        let terminal = try PseudoTerminal(
            ["top", "--interval", "100ms"] + arguments, columns: 400, rows: 400,
            environment: try server.clientEnvironment)
        try eventually("the full terminal") { terminal.waitingByteCount > 4000 ? () : nil }
        for columns in 401...410 { terminal.resize(columns: columns, rows: 400) }
        terminal.signal(SIGTERM)
        #expect(try terminal.exitStatusUnread() == 0)
        try terminal.wait(for: "the modes") { $0.isCooked && !$0.screen.isAlternate && $0.screen.isCursorVisible }
    }

    @Test func aStoppedJobGivesTheTerminalBackAndTakesItAgain() throws {
        let script = "set -m; \"$0\" top --interval 200ms; echo it is stopped; read line; fg; echo ended $?"
        let terminal = try PseudoTerminal(
            ["--norc", "-c", script, Server.executable.path], program: "/bin/bash",
            environment: try server.clientEnvironment)
        try terminal.wait(for: "the table") { queues($0).count == 3 }
        terminal.type("\u{1A}")
        try terminal.wait(for: "the stop") { $0.screen.text.contains("it is stopped") }
        #expect(isLeft(terminal))
        terminal.type("\r")
        try terminal.wait(for: "the table again") { $0.screen.isAlternate && queues($0).count == 3 && !$0.isCooked }
        terminal.type("q")
        try terminal.wait(for: "the end") { $0.text.contains("ended 0") }
        #expect(isLeft(terminal))
    }

    @Test func theTableFollowsTheSizeOfTheWindow() throws {
        for number in 0..<40 { try server.enqueue("a-long-name/of-a-queue/with-number-\(number)") }
        let terminal = try top(columns: 120, rows: 30)
        try terminal.wait(for: "all columns") { terminal in
            terminal.screen.lines.contains { $0.hasPrefix("QUEUE") && $0.contains("DELAYED") && $0.hasSuffix("STATE") }
        }
        for (columns, rows) in [(80, 24), (40, 10), (20, 5), (10, 3), (100, 12)] {
            terminal.resize(columns: columns, rows: rows)
            let count = max(1, rows - (rows < 16 ? 3 : 6) - 2)
            try terminal.wait(for: "the table of \(columns)×\(rows)") { terminal in
                let last = terminal.screen.lines.last ?? ""
                if columns < 30 { return last.hasPrefix("q ") }
                return queues(terminal).count == count && last.hasSuffix("–\(count) of 43")
            }
            #expect(terminal.screen.unknown.isEmpty && terminal.screen.lines[0].hasPrefix("http"))
        }
        terminal.type("\u{1B}[6~")
        try terminal.wait(for: "the next page") { $0.screen.lines.last?.hasSuffix("8–14 of 43") == true }
        terminal.type("\u{1B}[F")
        try terminal.wait(for: "the last page") { $0.screen.lines.last?.hasSuffix("37–43 of 43") == true }
        terminal.type("\u{1B}[A")
        try terminal.wait(for: "the line before") { $0.screen.lines.last?.hasSuffix("36–42 of 43") == true }
    }

    @Test func aServerThatGoesAwayIsWaitedFor() throws {
        let terminal = try top()
        server.signal(SIGKILL)
        try terminal.wait(for: "the notice") { $0.screen.text.contains("server away since ") }
        #expect(queues(terminal).count == 3)
        terminal.type("q")
        #expect(try terminal.exitStatus() == 0)
        #expect(isLeft(terminal))
    }

    @Test func aFrameWritesOnlyWhatHasChanged() throws {
        let terminal = try top()
        var clocks: Set<Substring> = []
        let before = terminal.bytes.count
        try terminal.wait(for: "three changes of the clock") { terminal in
            clocks.insert(terminal.screen.lines[0].suffix(8))
            return clocks.count == 4
        }
        // The clock, ages, rates and the uptime: some lines of a screen of 24.
        #expect(terminal.bytes.count - before < 6000)
        #expect(terminal.text.components(separatedBy: "\u{1B}[2J").count == 2)
    }

    // MARK: Without a screen

    @Test func inAPipeTheTableIsPrintedOnce() throws {
        let result = try server.piped("top", "mail*", "--sort", "name")
        #expect(result.status == 0 && !result.output.contains("\u{1B}"))
        let rows = result.output.split(separator: "\n").map {
            $0.split(separator: "\t", omittingEmptySubsequences: false)
        }
        #expect(rows.map(\.count) == [12, 12] && rows.map { $0[1] } == ["mail/in", "mail/out"])
        #expect(rows[0][5] == "3" && rows[1][11] == "paused" && Double(rows[0][0]) != nil)
        let dumb = try server.terminal("top", environment: ["TERM": "dumb"])
        #expect(try dumb.exitStatus() == 0)
        #expect(dumb.text.contains("mail/in") && !dumb.text.contains("\u{1B}"))
    }

    @Test func batchesGoOnUntilNobodyReads() throws {
        let script = "\"$0\" top --batch --interval 100ms | head -n 7 | cut -f 2; echo ${PIPESTATUS[0]}"
        let terminal = try PseudoTerminal(
            ["-c", script, Server.executable.path], program: "/bin/bash", environment: try server.clientEnvironment)
        #expect(try terminal.exitStatus() == 0)
        #expect(
            terminal.lines.dropLast() == ["mail/in", "数据", "mail/out", "mail/in", "数据", "mail/out", "mail/in", "0"])
    }

    @Test func whatIsWrongAtTheBeginningIsOneLine() throws {
        let wrong = try server.piped("top", "--sort", "raedy")
        #expect(wrong.status == 2 && wrong.error.contains("did you mean 'ready'"))
        let long = try server.piped("top", String(repeating: "x", count: 4000))
        #expect(long.status == 2 && long.error.hasPrefix("emq top: PATTERN must have at most 255 bytes"))
        let away = try PseudoTerminal(
            ["top", "--url", "unix:/nonexistent/emq.sock"], environment: try server.clientEnvironment)
        #expect(try away.exitStatus() == 5)
        #expect(away.lines.filter { !$0.isEmpty }.count == 1 && !away.text.contains("\u{1B}"))
    }

    // MARK: Keys

    @Test func keysAreReadFromTheirBytes() {
        func keys(_ bytes: [UInt8]) -> [Key] { Key.keys(of: bytes, isComplete: true).keys }
        func keys(_ text: String) -> [Key] { keys(Array(text.utf8)) }
        #expect(keys("q\u{1B}[A\u{1B}OB\u{1B}[6~\u{1B}[1;5C") == [.character("q"), .up, .down, .pageDown, .right])
        #expect(keys("\u{1B}") == [.escape] && keys("\r\u{7F}é") == [.enter, .backspace, .character("é")])
        #expect(keys("\u{1B}[99z\u{1}") == [] && keys("\u{1B}\u{1B}[A") == [.escape, .up])
        let halves = Key.keys(of: [0x61, 0x1B, 0x5B], isComplete: false)
        #expect(halves.keys == [.character("a")] && keys(halves.rest + [0x44]) == [.left])
        let start = Key.keys(of: [0x61, 0x1B], isComplete: false)
        #expect(start.keys == [.character("a")] && start.rest == [0x1B])
        #expect(Key.keys(of: Array("é".utf8.prefix(1)), isComplete: true).rest.count == 1)
        #expect(keys([0xFF, 0xC3, 0x28, 0x71]).isEmpty)
    }

    @Test func aKeyMayComeInParts() throws {
        let clock = ManualClock()
        let loop = try EventLoop(clock: { clock.milliseconds })
        let pipe = Pipe()
        let reader = try KeyReader(pipe.fileHandleForReading.fileDescriptor, on: loop)
        func keys(_ text: String, after milliseconds: Int64) throws -> [Key] {
            try pipe.fileHandleForWriting.write(contentsOf: Array(text.utf8))
            clock.add(milliseconds)
            loop.turn(until: loop.now)
            return reader.take()
        }
        #expect(try keys("\u{1B}", after: 0) == [])
        #expect(try keys("[", after: KeyReader.sequenceMilliseconds - 1) == [])
        #expect(try keys("A", after: KeyReader.sequenceMilliseconds - 1) == [.up])
        #expect(try keys("\u{1B}", after: 0) == [])
        #expect(try keys("", after: KeyReader.sequenceMilliseconds) == [.escape])
        #expect(try keys("q", after: 0) == [.character("q")])
    }
}

/// A clock that a test advances.
private final class ManualClock: Sendable {
    private let time = Atomic<Int64>(1_000_000)

    var milliseconds: Int64 { time.load(ordering: .relaxed) }

    func add(_ milliseconds: Int64) { time.add(milliseconds, ordering: .relaxed) }
}
