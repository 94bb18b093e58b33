// `emq add --lines` and `--ndjson`: every line becomes one task, whatever happens meanwhile.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct AddFilesTests {
    private let server: Server
    private let client: ClientProgram

    init() throws {
        server = try Server()
        client = try ClientProgram(port: server.port)
    }

    /// The contents of all ready tasks, in order.
    private func contents(_ queue: String) throws -> [String] {
        var all: [String] = []
        while true {
            let tasks = try server.take(queue)
            if tasks.isEmpty { return all }
            all += tasks.map { "\($0["content"] ?? "nil")" }
        }
    }

    private func count(_ queue: String) throws -> Int? {
        try server.get("/stats/\(queue)").object["ready"] as? Int
    }

    /// More lines than go into three requests.
    private static let numbers = (1...5000).map { "\($0)" }

    /// Starts to add the numbers through a proxy.
    private func addNumbers(
        through fates: [Proxy.Fate]
    ) throws -> (proxy: Proxy, client: ClientProgram, path: String, process: Process) {
        let proxy = try Proxy(to: server, fates)
        let client = try ClientProgram(port: proxy.port)
        let path = try client.file("f", Self.numbers.joined(separator: "\n"))
        let process = try client.command(["add", "q", "--lines", path])
        try process.start()
        return (proxy, client, path, process)
    }

    // MARK: Lines

    @Test func eachLineIsATaskInItsOrder() throws {
        let lines = Self.numbers + ["", "a \"b\" \\ \t é 🙂", "same", "same", "{\"n\": 1}", "no line feed"]
        let path = try client.file("lines", lines.joined(separator: "\n"))
        let result = try client.run("add", "q", "--lines", path, "--priority", "3", "--meta", "a=b")
        #expect(result.status == 0 && result.output.isEmpty)
        #expect(result.error.hasPrefix("emq add: added 5006 tasks in "), "\(result.error)")
        let task = try #require(try server.get("/peek/q?n=1").tasks.first ?? nil)
        #expect(task["metadata"] as? [String: String] == ["a": "b"])
        #expect(try server.task(try #require(task["id"] as? String))["priority"] as? Int == 3)
        #expect(try contents("q") == lines)
    }

    @Test func aLineOfJSONIsAContentByteForByte() throws {
        let lines = [#"{"a": [1, 2.50]}"#, "  ", "\"text\"", "null", "\t17\r", #"[{}, "\u00e9"]"#]
        let result = try client.run("add", "q", "--ndjson", "-", "--json", input: lines.joined(separator: "\n") + "\n")
        #expect(result.status == 0 && result.output == "{\"added\":5,\"existing\":0,\"lines\":6}\n")
        let body = try server.get("/peek/q?n=9").body
        for content in [#"{"a": [1, 2.50]}"#, #""text""#, "null", "17", #"[{}, "\u00e9"]"#] {
            #expect(body.contains("\"content\":\(content),"), "\(content)")
        }
    }

    @Test func anArrayMayHaveManyElements() throws {
        let line = "[" + Array(repeating: "1", count: 200_000).joined(separator: ", ") + "]"
        #expect(try client.run("add", "q", "--ndjson", "-", input: line).status == 0)
        #expect(try count("q") == 1)
    }

    @Test(arguments: [
        ("--ndjson", "1\n{\"a\n", "line 2 is not JSON at byte 3: "),
        ("--ndjson", "1},{\"content\":2\n", "line 1 is not JSON at byte 1: "),
        ("--lines", "a\nb\n\u{0}\n", ""),
    ])
    func aBadLineIsNamedAndNothingOfItsBatchIsSent(option: String, text: String, error: String) throws {
        let result = try client.run("add", "q", option, try client.file("f", text))
        if error.isEmpty {
            #expect(try result.status == 0 && contents("q") == ["a", "b", "\u{0}"])
        } else {
            #expect(result.status == 2 && result.error.hasPrefix("emq add: \(error)"), "\(result.error)")
            #expect(result.error.hasSuffix("; nothing was added\n") && result.error.filter { $0 == "\n" }.count == 1)
            #expect(try count("q") == 0)
        }
    }

    @Test func textThatIsNotUTF8IsNamed() throws {
        let path = client.folder.appending(path: "f").path
        try Data([0x61, 0x0A, 0xFF, 0x0A]).write(to: URL(fileURLWithPath: path))
        let result = try client.run("add", "q", "--lines", path)
        #expect(result.status == 2 && result.error.contains("line 2 is not UTF-8; "), "\(result.error)")
    }

    @Test func aLineOverTheLimitIsNamed() throws {
        // Escaped, each byte takes six.
        let text = "a\n" + String(repeating: "\u{1}", count: 12 << 20)
        let result = try client.run("add", "q", "--lines", try client.file("f", text))
        #expect(result.status == 2 && result.error.contains("line 2 makes a request of more than 64 MiB"))
        let long = "a\n" + String(repeating: "b", count: (64 << 20) + 1)
        let second = try client.run("add", "q", "--lines", try client.file("f", long))
        #expect(second.status == 2 && second.error.contains("line 2 has more than 64 MiB"), "\(second.error)")
    }

    @Test(arguments: [
        (["--lines", "f", "--ndjson", "f"], "not both"),
        (["--lines", "f", "--key", "k"], "--key is for a single task"),
        (["content", "--lines", "f"], "not both"), (["--resume"], "--resume is for a file"),
        (["--lines", "-", "--resume"], "--resume needs a file"), (["--lines", "f", "--resume", "--again"], "not both"),
        (["--lines", "f", "--curl"], "--curl"), (["--lines", "/nowhere/f"], "cannot read '/nowhere/f'"),
        (["--lines", "/tmp"], "is a folder"),
        (["--lines", "f", "--retry-for", "x"], "--retry-for"),
    ])
    func wrongOptionsAreRefused(arguments: [String], words: String) throws {
        _ = try client.file("f", "a\n")
        let process = try client.command(["add", "q"] + arguments)
        try process.start()
        let result = try client.end(of: process)
        #expect(result.status == 2 && result.error.contains(words), "\(result.error)")
        #expect(result.error.filter { $0 == "\n" }.count == 1)
        #expect(try count("q") == 0)
    }

    @Test func aPipeThatIsSlowIsNotWaitedFor() throws {
        let process = try client.command(["add", "q", "--lines", "-"])
        let pipe = Pipe()
        process.standardInput = pipe
        try process.start()
        pipe.fileHandleForWriting.write(Data("first\nsec".utf8))
        _ = try eventually("the first task") { try count("q") == 1 ? true : nil }
        pipe.fileHandleForWriting.write(Data("ond".utf8))
        try pipe.fileHandleForWriting.close()
        #expect(try client.end(of: process).status == 0)
        #expect(try contents("q") == ["first", "second"])
    }

    // MARK: Going on

    @Test func aCorrectedFileGoesOnWhereItStopped() throws {
        let path = try client.file("f", (Self.numbers + ["{", "6000"]).joined(separator: "\n"))
        let result = try client.run("add", "q", "--ndjson", path)
        #expect(result.status == 2 && result.error.contains("line 5001 is not JSON"), "\(result.error)")
        #expect(result.error.hasSuffix("; lines 1 to 4000 are in; the same command with --resume adds the rest\n"))
        #expect(try count("q") == 4000)
        // Without saying so, nobody adds lines twice.
        let again = try client.run("add", "q", "--ndjson", path)
        #expect(again.status == 2 && again.error.contains("--resume goes on there"), "\(again.error)")
        _ = try client.file("f", (Self.numbers + ["5001", "5002", ""]).joined(separator: "\n"))
        let rest = try client.run("add", "q", "--ndjson", path, "--resume")
        #expect(rest.status == 0 && rest.error.hasPrefix("emq add: added 1002 tasks in "), "\(rest.error)")
        #expect(try contents("q") == (1...5002).map { "\($0)" })
        // It is over, so the same file can be added once more.
        #expect(try client.run("add", "q", "--ndjson", path).status == 0)
        #expect(try count("q") == 5002)
    }

    @Test func aFileThatHasChangedBeforeThePlaceIsRefused() throws {
        let path = try client.file("f", (Self.numbers + ["{"]).joined(separator: "\n"))
        #expect(try client.run("add", "q", "--ndjson", path).status == 2)
        _ = try client.file("f", (["0"] + Self.numbers).joined(separator: "\n"))
        let result = try client.run("add", "q", "--ndjson", path, "--resume")
        let reason = "up to line 4000, and these lines have changed since"
        #expect(result.status == 1 && result.error.contains(reason), "\(result.error)")
        #expect(try count("q") == 4000)
    }

    @Test func againBeginsAtTheFirstLine() throws {
        let path = try client.file("f", (Self.numbers + ["{"]).joined(separator: "\n"))
        #expect(try client.run("add", "q", "--ndjson", path).status == 2)
        _ = try client.file("f", Self.numbers.joined(separator: "\n"))
        #expect(try client.run("add", "q", "--ndjson", path, "--again").status == 0)
        #expect(try count("q") == 9000)
    }

    @Test func answersThatAreLostAddNothingTwice() throws {
        let proxy = try Proxy(to: server, [.lose, .pass, .lose, .lose, .pass])
        let client = try ClientProgram(port: proxy.port)
        let result = try client.run("add", "q", "--lines", try client.file("f", Self.numbers.joined(separator: "\n")))
        #expect(result.status == 0, "\(result.error)")
        #expect(result.error.contains("trying again for 5m") && result.error.contains("going on"), "\(result.error)")
        #expect(proxy.postCount > 5)
        #expect(try contents("q") == Self.numbers)
    }

    @Test func acknowledgedTasksAreNotAddedAgain() throws {
        let (proxy, client, path, process) = try addNumbers(through: [.hold])
        defer { proxy.release() }
        _ = try eventually("the first batch") { try count("q") == 2000 ? true : nil }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        // The tasks are done before the command goes on.
        while case let tasks = try server.take("q"), !tasks.isEmpty {
            let receipts = tasks.compactMap { $0["receipt"] as? String }.map { "\"\($0)\"" }.joined(separator: ",")
            try server.post("/ack/", "{\"ids\": [\(receipts)]}")
        }
        let result = try client.run("add", "q", "--lines", path, "--resume")
        #expect(result.status == 0, "\(result.error)")
        #expect(try contents("q") == Array(Self.numbers[2000...]))
    }

    @Test func anInterruptWaitsForTheAnswerAndSaysWhatIsIn() throws {
        let (proxy, client, path, process) = try addNumbers(through: [.pass, .hold])
        _ = try eventually("the second batch") { proxy.postCount == 2 ? true : nil }
        process.interrupt()
        proxy.release()
        let result = try client.end(of: process)
        #expect(result.status == 1, "\(result.error)")
        #expect(
            result.error
                == "emq add: stopped; lines 1 to 4000 are in; the same command with --resume adds the rest\n")
        #expect(try client.run("add", "q", "--lines", path, "--resume").status == 0)
        #expect(try contents("q") == Self.numbers)
    }

    @Test func aSecondInterruptSaysWhatMayBeIn() throws {
        let (proxy, client, path, process) = try addNumbers(through: [.pass, .hold])
        _ = try eventually("the second batch") { proxy.postCount == 2 ? true : nil }
        // A signal that comes while the first one waits is one signal.
        let result = try eventually("the end") {
            process.interrupt()
            return process.isRunning ? nil : try client.end(of: process)
        }
        #expect(result.status == 1 && result.error.contains("lines 1 to 2000 are in; lines 2001 to 4000 may be"))
        #expect(try client.run("add", "q", "--lines", path, "--resume").status == 0)
        #expect(try contents("q") == Self.numbers)
    }

    /// A page that something other than emq answers with.
    private static func page(_ status: Int) -> Proxy.Fate {
        .reply("HTTP/1.1 \(status) Status\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>")
    }

    @Test(
        arguments: [
            ([page(200)], 1), ([page(500)], 1), ([page(503)], 6), ([page(504)], 5), ([.lose, page(413)], 2),
            ([.lose, page(403)], 4),
        ] as [([Proxy.Fate], Int32)])
    func aProxyThatAnswersInPlaceOfTheServerMakesNoTaskTwice(fates: [Proxy.Fate], status: Int32) throws {
        let proxy = try Proxy(to: server, fates)
        let client = try ClientProgram(port: proxy.port)
        let path = try client.file("f", Self.numbers.joined(separator: "\n"))
        let patience = fates.count > 1 ? "5m" : "0"
        let result = try client.run("add", "q", "--lines", path, "--retry-for", patience)
        #expect(result.status == status, "\(result.error)")
        let end = "; lines 1 to 2000 may be in; the same command with --resume adds the rest\n"
        #expect(result.error.hasSuffix(end), "\(result.error)")
        let rest = try client.run("add", "q", "--lines", path, "--resume")
        #expect(rest.status == 0, "\(rest.error)")
        #expect(try contents("q") == Self.numbers)
    }

    @Test func aFileIsAddedOnceAtATime() throws {
        let proxy = try Proxy(to: server, [.hold])
        let client = try ClientProgram(port: proxy.port)
        let path = try client.file("f", "a\n")
        let process = try client.command(["add", "q", "--lines", path])
        try process.start()
        _ = try eventually("the request") { proxy.postCount == 1 ? true : nil }
        let second = try client.run("add", "q", "--lines", path)
        #expect(second.status == 1 && second.error.contains("another emq is adding"), "\(second.error)")
        proxy.release()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        #expect(try count("q") == 1)
    }

    // MARK: The record of the progress

    /// Where a client's command keeps its progress.
    private func record(of client: ClientProgram) throws -> URL {
        let folder = client.folder.appending(path: ".local/state/emq")
        let name = try #require(try FileManager.default.contentsOfDirectory(atPath: folder.path).first)
        return folder.appending(path: name)
    }

    /// Changes the record of a command that is over.
    private func change(_ client: ClientProgram, _ change: (String) -> String) throws {
        let file = try record(of: client)
        try Data(change(try String(contentsOf: file, encoding: .utf8)).utf8).write(to: file)
    }

    /// Kills a command when the proxy has had so many POST requests.
    private func run(_ client: ClientProgram, _ arguments: [String], killedAt count: Int, of proxy: Proxy) throws {
        let process = try client.command(arguments)
        try process.start()
        _ = try eventually("a request") { proxy.postCount == count ? true : nil }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
    }

    @Test func withoutRoomForTheRecordNothingIsSent() throws {
        let path = try client.file("f", Self.numbers.joined(separator: "\n"))
        let process = try client.command(["add", "q", "--lines", path])
        let arguments = try #require(process.arguments)
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", "ulimit -f 0; exec \"$0\" \"$@\"", Server.executable.path] + arguments
        let pipe = Pipe()
        process.standardError = pipe
        try process.start()
        let status = try client.end(of: process).status
        let error = String(decoding: pipe.fileHandleForReading.availableData, as: UTF8.self)
        #expect(status == 1 && error.contains("cannot write the progress to "), "\(error)")
        #expect(error.hasSuffix("; nothing was added\n"))
        #expect(try count("q") == 0)
        // Nothing is left that another command would stumble over.
        #expect(try client.run("add", "q", "--lines", path).status == 0)
        #expect(try contents("q") == Self.numbers)
    }

    @Test func aRecordThatIsRemovedMeanwhileIsNotPromised() throws {
        let (proxy, client, _, process) = try addNumbers(through: [.hold])
        _ = try eventually("the first batch") { try count("q") == 2000 ? true : nil }
        try FileManager.default.removeItem(at: record(of: client))
        proxy.release()
        let result = try client.end(of: process)
        #expect(result.status == 1 && result.error.contains("cannot write the progress to "), "\(result.error)")
        #expect(result.error.hasSuffix("; lines 1 to 2000 are in; the rest begins at line 2001\n"))
        #expect(try count("q") == 2000)
    }

    @Test func aRecordReplacesALongerOne() throws {
        let proxy = try Proxy(to: server, [.hold, .lose, .hold])
        let client = try ClientProgram(port: proxy.port)
        let path = try client.file("f", Self.numbers.joined(separator: "\n"))
        try run(client, ["add", "q", "--lines", path], killedAt: 1, of: proxy)
        try change(client) { "{\"more\": \"\(String(repeating: "x", count: 9000))\", \($0.dropFirst())" }
        try run(client, ["add", "q", "--lines", path, "--resume"], killedAt: 3, of: proxy)
        let result = try client.run("add", "q", "--lines", path, "--resume")
        #expect(result.status == 0, "\(result.error)")
        #expect(try contents("q") == Self.numbers)
    }

    @Test func aRecordOfAHugeRequestIsRefused() throws {
        let proxy = try Proxy(to: server, [.hold])
        let client = try ClientProgram(port: proxy.port)
        let path = try client.file("f", (1...12_000).map { "\($0)" }.joined(separator: "\n"))
        try run(client, ["add", "q", "--lines", path], killedAt: 1, of: proxy)
        try change(client) { $0.replacing("\"sent_line\": 2000", with: "\"sent_line\": 11000") }
        let result = try client.run("add", "q", "--lines", path, "--resume")
        #expect(result.status == 1 && result.error.contains("lines 1 to 11000 in one request"), "\(result.error)")
        #expect(try count("q") == 2000)
    }

    // MARK: Servers that are full or away

    @Test func aFullQueueIsWaitedFor() throws {
        try server.send("PUT", "/config/q", #"{"max_length": 3000}"#)
        let process = try client.command(
            ["add", "q", "--lines", try client.file("f", Self.numbers.joined(separator: "\n"))])
        try process.start()
        _ = try eventually("the word about it") { client.error.contains("the queue is full") ? true : nil }
        #expect(try count("q") == 2000)
        try server.send("PUT", "/config/q", "{}")
        let result = try client.end(of: process)
        #expect(result.status == 0 && result.error.contains("going on"), "\(result.error)")
        #expect(try contents("q") == Self.numbers)
    }

    @Test func aQueueThatTakesFewTasksGetsFewAtATime() throws {
        try server.send("PUT", "/config/q", #"{"max_length": 300}"#)
        let path = try client.file("f", Self.numbers.joined(separator: "\n"))
        let result = try client.run("add", "q", "--lines", path, "--retry-for", "0.1")
        #expect(result.status == 6, "\(result.error)")
        let ready = try #require(try count("q"))
        #expect(ready > 0 && result.error.contains("; lines 1 to \(ready) are in; "), "\(result.error)")
        try server.send("PUT", "/config/q", "{}")
        #expect(try client.run("add", "q", "--lines", path, "--resume").status == 0)
        #expect(try contents("q") == Self.numbers)
    }

    @Test func aProxyThatTakesSmallBodiesGetsThem() throws {
        let proxy = try Proxy(to: server, maximumBytes: 20_000)
        let client = try ClientProgram(port: proxy.port)
        let path = try client.file("f", Self.numbers.joined(separator: "\n"))
        let result = try client.run("add", "q", "--lines", path)
        #expect(result.status == 0, "\(result.error)")
        #expect(try contents("q") == Self.numbers)
        let long = try client.file("long", "a\n" + String(repeating: "b", count: 30_000))
        let refused = try client.run("add", "q", "--lines", long)
        #expect(refused.status == 2, "\(refused.error)")
        #expect(refused.error.contains("line 2: the server answered with the status 413; line 1 is in"))
    }

    @Test func aServerThatIsNotThereIsAnErrorAtOnce() throws {
        let client = try ClientProgram(port: try unusedPort())
        let result = try client.run("add", "q", "--lines", try client.file("f", "a\n"))
        #expect(result.status == 5 && result.error.hasSuffix("; nothing was added\n"), "\(result.error)")
        #expect(result.error.filter { $0 == "\n" }.count == 1)
    }

    @Test func theBarSaysHowFarItIs() {
        let bar = ProgressBar({ _ in nil }, totalBytes: 1000, doneBytes: 200, now: 0)
        #expect(!bar.isShown)
        #expect(
            bar.text(tasks: 500, bytes: 600, now: 4000)
                == "[==============          ] 60%  500 tasks  125/s  4s left")
        let unknown = ProgressBar({ _ in nil }, totalBytes: nil, doneBytes: 0, now: 0)
        #expect(unknown.text(tasks: 0, bytes: 0, now: 0) == "0 tasks  0/s")
    }
}
