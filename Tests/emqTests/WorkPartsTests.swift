// The parts of a worker and of the client that need no server.

import Glibc
import Support
import Testing

@testable import emq

@Suite(.blocking) struct WorkPartsTests {
    private func task(_ content: String) throws -> WorkTask {
        let json = #"{"id": "I", "receipt": "I@1", "queue": "q", "attempt": 2, "retry": 30, "content": \#(content)}"#
        return try #require(JSONPart(Array(json.utf8)[...]).flatMap { WorkTask($0) })
    }

    @Test(arguments: [
        ("{id}", "I"), ("{queue}:{attempt}", "q:2"), ("{.a}", "x y"), ("{.b.c}", "[1, 2]"), ("{.b.c.1}", "2"),
        ("{.}", #"{"a": "x y", "b": {"c": [1, 2]}, "n": null}"#), ("{.n}", "null"), ("a{{b}}", "a{b}}"), ("{}", "{}"),
        ("{ .a }", "{ .a }"), ("{", "{"), ("", ""), (#"{"a": 1}"#, #"{"a": 1}"#), ("${HOME}${id}", "${HOME}${id}"),
        ("{print $1}", "{print $1}"),
    ])
    func placesOfATemplateAreFilled(word: String, wanted: String) throws {
        let task = try task(#"{"a": "x y", "b": {"c": [1, 2]}, "n": null}"#)
        #expect(try CommandTemplate([word, "-"]).words(for: task) == [wanted, "-"])
    }

    @Test(arguments: ["{print}", "{{id}}", "{", "{ids}", "a{b}c", "${id}"])
    func otherBracesOfAPersistentProgramStay(word: String) throws {
        #expect(try CommandTemplate(plain: [word]).words(for: task("1")) == [word])
    }

    @Test(arguments: ["{id}", "x{queue}", "{attempt}", "{.}", "{.a.b}"])
    func aPersistentProgramHasNoPlaces(word: String) {
        #expect(throws: UsageError.self) { try CommandTemplate(plain: [word]) }
    }

    @Test(arguments: [
        ("a", "a"), ("a b", "'a b'"), ("\u{1B}[2J", #"$'\033[2J'"#), ("it's\u{7}\\", #"$'it\'s\007\\'"#),
        ("\u{9B}1m", #"$'\302\2331m'"#), ("a\nb", #"$'a\nb'"#), ("é", "'é'"),
    ])
    func wordsForAShellHaveNoControlCharacters(word: String, wanted: String) {
        #expect(Worker.shellWord(word) == wanted)
    }

    @Test func aResultThatIsTooDeepIsAText() {
        func nested(_ depth: Int) -> [UInt8] {
            Array((String(repeating: "[", count: depth) + String(repeating: "]", count: depth)).utf8)
        }
        #expect(ResultJSON.value(nested(509)) == nested(509))
        #expect(ResultJSON.value(nested(510)) == Array("\"".utf8) + nested(510) + Array("\"".utf8))
        // Not JSON, although it would be inside arrays.
        #expect(ResultJSON.value(Array("1],[1".utf8)) == Array("\"1],[1\"".utf8))
    }

    @Test func aTemplateSaysWhatTheContentLacks() throws {
        let template = try CommandTemplate(["{.a.b}"])
        let error = #expect(throws: TemplateFailure.self) { try template.words(for: task(#"{"a": 1}"#)) }
        #expect(error?.description == "the content has no .a.b, which the command line needs")
        let null = #expect(throws: TemplateFailure.self) { try template.words(for: task(#"{"a": {"b": "\u0000"}}"#)) }
        #expect(null?.description == "an argument would contain a null byte")
        let unknown = #expect(throws: UsageError.self) { try CommandTemplate(["{ids}"]) }
        #expect(unknown?.description.hasPrefix("there is no '{ids}'; write {id}, {queue}") == true)
    }

    @Test(
        arguments: [
            ("5", 5000), ("2.5", 2500), ("90s", 90_000), ("5m", 300_000), ("1h30m", 5_400_000), ("2w", 1_209_600_000),
            ("250ms", 250), ("0", 0), ("1d", 86_400_000), ("1m30.5s", 90_500),
        ] as [(String, Int64)])
    func durationsAreRead(text: String, milliseconds: Int64) {
        #expect(Duration.milliseconds(text) == milliseconds)
    }

    @Test(arguments: [
        "", "x", "5x", "-1", "m", "1m1h", "1s1s", "1..2s", "1e3", "+5", "5 m", "inf", "nan", "99999w", "٣s",
    ])
    func whatIsNoDurationIsRefused(text: String) { #expect(Duration.milliseconds(text) == nil) }

    @Test(
        arguments: [
            (0, "0ms"), (999, "999ms"), (1000, "1s"), (1500, "1.5s"), (12_345, "12s"), (303_000, "5m 3s"),
            (300_000, "5m"),
            (183_600_000, "2d 3h"),
        ] as [(Int64, String)])
    func durationsAreShown(milliseconds: Int64, text: String) {
        #expect(Duration.text(milliseconds: milliseconds) == text)
    }

    @Test func theEndOfAnOutputIsKept() {
        var tail = OutputTail(maximumByteCount: 10)
        tail.append(Array("first\n".utf8)[...])
        #expect(tail.text == "first\n")
        for _ in 0..<100 { tail.append(Array("äö\nlast\n".utf8)[...]) }
        // The cut is in the middle of a character.
        #expect(tail.text == "ö\nlast\n" || tail.text == "äö\nlast\n", "\(tail.text)")
        #expect(tail.lastLines(1, maximumBytes: 100) == "last")
        #expect(tail.lastLines(5, maximumBytes: 3) == "ast")
        tail.append(Array(repeating: UInt8(ascii: "x"), count: 1000)[...])
        #expect(tail.text == "xxxxxxxxxx")
        // What is not UTF-8 is replaced, and the text stays within the limit.
        tail.append(Array(repeating: 0xFF, count: 10)[...])
        #expect(tail.text == "\u{FFFD}\u{FFFD}\u{FFFD}")
    }

    @Test func tenFailuresOfDifferentTasksBrake() {
        var brake = FailureBrake()
        func note(_ isFailure: Bool, _ task: String, begunAt: Int64 = 0, now: Int64 = 0) -> Bool {
            brake.note(isFailure: isFailure, task: task, begunAt: begunAt, now: now)
        }
        for number in 0..<9 { #expect(!note(true, "\(number)")) }
        // The same task again is its own fault.
        for _ in 0..<20 { #expect(!note(true, "3")) }
        #expect(note(true, "9", now: 5) && brake.isOn && brake.resumesAt == 1005)
        // Tasks that were in work already do not make the pause longer, even if they fail after it.
        for now in [5, 6, 1004, 1005, 9000] { #expect(!note(true, "9", begunAt: 5, now: Int64(now))) }
        #expect(brake.resumesAt == 1005)
        #expect(!note(true, "9", begunAt: 1005, now: 1005) && brake.resumesAt == 3005)
        for _ in 0..<20 {
            let start = brake.resumesAt
            #expect(!note(true, "9", begunAt: start, now: start))
        }
        let last = brake.resumesAt
        #expect(!note(true, "9", begunAt: last, now: last) && brake.resumesAt == last + 60_000)
        #expect(note(false, "9") && !brake.isOn)
        #expect(!note(false, "9"))
    }

    @Test(arguments: [
        (SubprocessEnd.exited(0), WorkOutcome.done(result: nil)), (.exited(75), .released(delay: 5)),
        (.exited(65), .dead(error: "exit status 65: oops")), (.exited(1), .failed(error: "exit status 1: oops")),
        (.exited(126), .cannotRun(reason: "exit status 126: oops")),
        (.exited(127), .cannotRun(reason: "exit status 127: oops")),
        (.signalled(9), .failed(error: "killed by signal 9: oops")),
        (.notStarted(E2BIG), .dead(error: "Argument list too long: oops")),
        (.notStarted(ENOENT), .cannotRun(reason: "No such file or directory: oops")),
        (.notStarted(EMFILE), .notStarted(reason: "Too many open files")),
    ])
    func theEndOfACommandDecides(end: SubprocessEnd, wanted: WorkOutcome) {
        #expect(WorkOutcome(end, lastLines: "oops", deadStatuses: [65]) == wanted)
    }

    @Test func namesOfMetadataBecomeNamesOfVariables() {
        #expect(CommandJob.variableName("trace-id.é2") == "TRACE_ID___2")
    }

    @Test func tablesAreAlignedForPeopleAndHaveTabsForPrograms() {
        var table = TextTable([.init("NAME", isElastic: true), .init("N", isRight: true), .init("NOTE")])
        table.rows = [
            [.init("a"), .init("5"), .init("")],
            [.init("a-long-name\u{1B}[2J"), .init("1000", value: "1e3"), .init("x\ty\nz\\")],
        ]
        let terminal = Terminal { _ in nil }
        #expect(
            table.aligned(terminal, width: nil) == """
                NAME                N  NOTE
                a                   5
                a-long-name�[2J  1000  x y↵z\\

                """)
        #expect(table.aligned(terminal, width: 24).split(separator: "\n").allSatisfy { $0.count <= 24 })
        #expect(table.tabSeparated == "a\t5\t\na-long-name\u{1B}[2J\t1e3\tx\\ty\\nz\\\\\n")
    }

    @Test func curlGetsTheSameRequest() throws {
        let place = try ServerPlace(url: "localhost:8080", from: "--url", token: "t")
        var request = ServerRequest("/wait/", json: Array(#"{"queues":["it's"]}"#.utf8))
        #expect(
            request.curl(to: place)
                == #"curl -H "Authorization: Bearer $EMQ_TOKEN" --json '{"queues":["it'\''s"]}' http://localhost:8080/wait/"#
        )
        request = ServerRequest(ServerRequest.target("/pause/", name: "a b/[c]"), method: "POST")
        #expect(
            request.curl(to: try ServerPlace(url: "unix:/run/emq.sock", from: "--url"))
                == "curl --unix-socket /run/emq.sock -X POST http://localhost/pause/a%20b/%5Bc%5D")
    }
}
