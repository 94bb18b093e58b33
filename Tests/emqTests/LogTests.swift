// The log's lines: their forms, what is left out, and what is counted and not repeated.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct LogTests {
    /// A clock and the lines of a log. It is used on one thread.
    private final class Page: @unchecked Sendable {
        var now: Int64 = 1_796_063_400_123
        private(set) var lines: [String] = []

        func log(_ format: LogFormat) -> Log {
            Log(format, clock: { [unowned self] in now }) { [unowned self] line, _ in
                lines.append(String(decoding: line, as: UTF8.self))
            }
        }

        func object(_ place: Int) throws -> [String: Any] {
            try #require(try JSONSerialization.jsonObject(with: Data(lines[place].utf8)) as? [String: Any])
        }
    }

    private static let fields: [LogEvent.Field] = [
        .text("queue", "a b"), .text("token", nil as String?), .word("remote", "192.0.2.7:4711"), .number("count", -3),
        .duration("ms", microseconds: 12_034),
    ]

    @Test func anEventIsALineOfText() {
        let page = Page()
        page.log(.text).write(LogEvent(level: .warning, message: "it is full", fields: Self.fields, isCounted: true))
        #expect(
            page.lines == [
                #"2026-11-30T18:30:00.123Z warning it is full queue="a b" token=- remote=192.0.2.7:4711 count=-3 ms=12.034"#
            ])
    }

    @Test func theJournalOfSystemdHasThePriorityAndNoTime() {
        let page = Page()
        let log = page.log(.journal)
        log.error("a")
        log.warning("b")
        log.info("c", .number("n", 1))
        #expect(page.lines == ["<3>error a", "<4>warning b", "<6>info c n=1"])
    }

    @Test func anEventIsAnObject() throws {
        let page = Page()
        page.log(.json).write(LogEvent(level: .error, message: "it is \"full\"", fields: Self.fields, isCounted: true))
        #expect(
            page.lines == [
                #"{"time":"2026-11-30T18:30:00.123Z","level":"error","message":"it is \"full\"","queue":"a b","#
                    + #""token":null,"remote":"192.0.2.7:4711","count":-3,"ms":12.034}"#
            ])
    }

    @Test(arguments: [
        "a\nb", "\r\n2026-11-30T18:30:00.123Z info audit", "\u{1B}[2J", "\u{0}", "\u{7F}", "\u{85}", "\u{2028}",
        "\u{2029}", "\u{202E}txet", "\u{2066}", "\u{E0001}", "\"},{\"level\":\"error", "\\", "ü 😀 日本",
    ])
    func textsOfOthersCannotForgeALine(text: String) throws {
        let page = Page()
        for format in [LogFormat.text, .journal, .json] {
            page.log(format).info("before \(text) behind", .text("queue", text), .number("last", 1))
        }
        for line in page.lines {
            #expect(
                !line.unicodeScalars.contains {
                    [.control, .format, .lineSeparator, .paragraphSeparator].contains($0.properties.generalCategory)
                })
        }
        #expect(page.lines[0].hasSuffix(" last=1") && page.lines[1].hasSuffix(" last=1"))
        let object = try page.object(2)
        #expect(object.count == 5 && object["queue"] as? String == text)
        #expect(object["message"] as? String == "before \(text) behind")
    }

    @Test func aMessageCannotImitateAField() throws {
        let page = Page()
        let message = #"'x' audit token="root" action="POST /purge" tasks=5 token=-"#
        for format in [LogFormat.journal, .json] { page.log(format).info(message, .text("queue", "x=\"y\"")) }
        let words = #"'x' audit token\u{3D}'root' action\u{3D}'POST /purge' tasks\u{3D}5 token\u{3D}-"#
        #expect(page.lines[0] == #"<6>info \#(words) queue="x=\"y\"""#)
        #expect(try page.object(1)["message"] as? String == message)
    }

    @Test func bytesThatAreNoTextAreReplaced() throws {
        let page = Page()
        page.log(.json).info("a", .text("queue", [0x61, 0xFF, 0x62]))
        #expect(try page.object(0)["queue"] as? String == "a\u{FFFD}b")
    }

    @Test func aLongMessageIsCut() {
        let page = Page()
        page.log(.text).info(String(repeating: "ü", count: 100_000))
        #expect(page.lines[0].utf8.count < 20_000 && page.lines[0].hasSuffix("…"))
    }

    @Test func lessImportantEventsAreLeftOut() {
        for (level, expected) in [
            (LogEvent.Level.error, ["<3>error a", "<6>info d"]),
            (.warning, ["<3>error a", "<4>warning b", "<6>info d"]),
        ] {
            let page = Page()
            let log = page.log(.text)
            log.configure(.journal, level)
            log.error("a")
            log.warning("b")
            log.info("c")
            log.write(.record("d", []))
            #expect(page.lines == expected)
        }
    }

    // MARK: Repetitions

    @Test func whatComesAgainIsCounted() throws {
        let page = Page()
        let log = page.log(.journal)
        for count in 0..<38 {
            log.warning("it fails", .text("source", "s"), .number("count", count))
            page.now += 1000
        }
        // Another subject, another message and another level are other events.
        log.warning("it fails", .text("source", "t"), .number("count", 0))
        log.error("it fails", .text("source", "s"), .number("count", 0))
        log.info("again")
        log.info("again")
        #expect(
            page.lines == [
                #"<4>warning it fails source="s" count=0"#, #"<4>warning it fails source="t" count=0"#,
                #"<3>error it fails source="s" count=0"#, "<6>info again", "<6>info again",
            ])
        #expect(log.writeDueNumbers() == 22_000)
        #expect(page.lines.count == 5)
        page.now += 22_000
        #expect(log.writeDueNumbers() == nil)
        #expect(page.lines.last == #"<4>warning it fails (37 more times in 60 s) source="s" count=37"#)
        // It goes on: one line a minute.
        log.warning("it fails", .text("source", "s"), .number("count", 99))
        #expect(page.lines.count == 6 && log.writeDueNumbers() == 60_000)
        page.now += 61_000
        log.configure(.json, .info)
        log.warning("it fails", .text("source", "s"), .number("count", 100))
        #expect(page.lines.count == 7)
        #expect(try page.object(6)["repeated"] as? Int == 1 && page.object(6)["message"] as? String == "it fails")
        // The last one is said at the end.
        log.writeNumbers()
        #expect(try page.lines.count == 8 && page.object(7)["count"] as? Int == 100)
        log.writeNumbers()
        #expect(page.lines.count == 8)
    }

    @Test func afterAQuietMinuteAnEventIsNew() {
        let page = Page()
        let log = page.log(.journal)
        for _ in 0..<3 {
            log.warning("it fails")
            #expect(log.writeDueNumbers() == nil)
            page.now += 60_000
        }
        #expect(page.lines == Array(repeating: "<4>warning it fails", count: 3))
        // So is one after the clock was set back.
        page.now -= 1_000_000
        log.warning("it fails")
        #expect(page.lines.count == 4)
    }

    @Test func theLastLineSaysHowThingsAre() {
        let page = Page()
        let log = page.log(.journal)
        func fail() {
            log.write(.error("it fails").about("it"))
            page.now += 100
        }
        for _ in 0..<3 { fail() }
        log.write(.info("it works").about("it"))
        log.write(.info("it works").about("it"))
        // It is new again, although it came within the minute. Another subject does not change that.
        fail()
        log.write(.info("it works").about("another"))
        fail()
        #expect(
            page.lines == [
                "<3>error it fails", "<3>error it fails (2 more times in 0 s)", "<6>info it works",
                "<6>info it works (1 more time in 0 s)", "<3>error it fails", "<6>info it works",
            ])
        page.now += 60_000
        #expect(log.writeDueNumbers() == nil)
        #expect(page.lines.count == 7 && page.lines.last == "<3>error it fails (1 more time in 60 s)")
    }

    @Test func manyDifferentEventsAreNotKept() {
        let page = Page()
        let log = page.log(.journal)
        log.warning("first")
        log.warning("first")
        for number in 0..<1000 { log.warning("event \(number)") }
        #expect(page.lines.count == 1002)
        #expect(
            page.lines.filter { $0.contains("first") } == [
                "<4>warning first", "<4>warning first (1 more time in 0 s)",
            ])
    }

    // MARK: The program

    @Test func aServerLogsJSON() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--log-format", "json", "--gc-freq", "5m"])
        #expect(try server.post("/pause/a%20b%22", "").status == 200)
        server.signal(SIGTERM)
        #expect(try server.exitStatus() == 0)
        let objects = try server.output.split(separator: "\n").map { line in
            try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any], "\(line)")
        }
        for object in objects {
            #expect(object["level"] is String && object["message"] is String)
            #expect((object["time"] as? String)?.wholeMatch(of: #/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/#) != nil)
        }
        #expect(objects.contains { $0["level"] as? String == "warning" })
        let audit = try #require(objects.first { $0["message"] as? String == "audit" })
        #expect(audit["queue"] as? String == "a b\"" && audit["token"] is NSNull)
    }

    @Test(.plainOnly("Unix-domain sockets have no TLS")) func aServerLogsWhatItsLevelAsksForAndEachChange() throws {
        let path = NSTemporaryDirectory() + "emq-\(UUID().uuidString.prefix(8)).sock"
        let server = try Server(
            ["--addr", "unix:\(path)", "--log-level", "error"], environment: ["EMQ_MAX_MEMRY": "1"],
            limit: "echo http://starting:1 >&2")
        let client = try eventually("the server") { try? Client(path: path) }
        #expect(try client.ask("POST", "/resume/q").status == 200)
        server.signal(SIGTERM)
        #expect(try server.exitStatus() == 0)
        #expect(
            server.messages == [
                "http://starting:1", #"audit token=- remote=unix action="POST /resume" queue="q""#,
            ])
    }

    @Test func systemdsJournalIsRecognized() throws {
        let server = try Server(limit: "export JOURNAL_STREAM=$(stat -L -c %d:%i /dev/fd/2)")
        #expect(server.output.hasPrefix("<6>info emq "))
        // Another program's.
        let other = try Server(environment: ["JOURNAL_STREAM": "1:1"])
        #expect(other.output.contains(#/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info emq /#), "\(other.output)")
    }

    @Test(arguments: [["--log-format", "xml"], ["--log-level", "all"]])
    func otherValuesAreRefused(arguments: [String]) throws {
        let result = try Server.run(arguments)
        #expect(result.status == 2 && result.error.hasPrefix("emq: \(arguments[0]) is "), "\(result.error)")
    }
}
