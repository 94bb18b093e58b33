// The program with --data: answered changes survive a kill, errors name faults of the disk, and space is given back.

import Foundation
import Support
import Testing

/// A directory for --data. It is deleted with this object.
final class DataDirectory {
    let path = FileManager.default.temporaryDirectory.appending(path: "emq-data-\(UUID().uuidString)").path

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func start(_ options: String...) throws -> Server {
        let server = try begin(options)
        _ = try eventually("the end of the recovery") { try server.get("/healthz").status == 200 ? true : nil }
        return server
    }

    /// Starts the program, and waits for its first output.
    func begin(_ options: [String] = [], environment: [String: String] = [:]) throws -> Server {
        try Server(["--addr", "127.0.0.1:0", "--data", path] + options, environment: environment)
    }

    /// The segments' names, oldest first.
    var segments: [String] {
        get throws {
            try FileManager.default.contentsOfDirectory(atPath: path).filter { $0.hasSuffix(".log") }.sorted()
        }
    }

    var byteCount: Int {
        get throws { try segments.reduce(0) { $0 + Int((try? bytes($1).count) ?? 0) } }
    }

    func bytes(_ name: String) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(fileURLWithPath: path + "/" + name)))
    }

    func write(_ bytes: [UInt8], _ name: String) throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try Data(bytes).write(to: URL(fileURLWithPath: path + "/" + name))
    }

    /// Where the segment's header and its frames end.
    func frameEnds(_ name: String) throws -> [Int] {
        let bytes = try bytes(name)
        var ends = [52]
        while let last = ends.last, last + 24 <= bytes.count {
            let count = (0..<4).reduce(0) { $0 | Int(bytes[last + $1]) << (8 * $1) }
            if count == 0 { break }
            ends.append(last + 24 + count)
        }
        return ends
    }
}

extension Server {
    /// Kills the server.
    func crash() throws {
        signal(SIGKILL)
        _ = try exitStatus()
    }

    /// Everything that clients can see of the tasks in some queues.
    fileprivate func picture(of queues: [String], tasks: [String] = []) throws -> [String] {
        let states = ["ready", "delayed", "dispatched", "dead", "done", "cancelled", "expired"]
        var answers = try tasks.map { try get("/task/\($0)").body }
        answers += try tasks.map { try get("/result/\($0)").body }
        for queue in queues {
            answers += try states.map { "\(queue) \($0) " + (try get("/peek/\(queue)?n=1000&state=\($0)").body) }
            answers.append(try get("/config/\(queue)").body)
            let stats = try get("/stats/\(queue)").object
            answers.append("\(try (states + ["paused"]).map { try #require(stats[$0]) as? Int })")
        }
        return answers + [try get("/queues").body]
    }

    fileprivate func takeOne(_ queue: String) throws -> (receipt: String, attempt: Int) {
        let task = try #require(try take(queue, 1).first)
        return (try #require(task["receipt"] as? String), try #require(task["attempt"] as? Int))
    }

    /// Waits until earlier dispatches are in the journal: no answer waits for them, but a later answered change comes
    /// after them.
    fileprivate func settle() throws { try enqueue("settled") }

    @discardableResult
    fileprivate func ack(_ ids: [String], _ more: String = "") throws -> String {
        try post("/ack", "{\"ids\": [\(ids.map { "\"\($0)\"" }.joined(separator: ","))]\(more)}").body
    }
}

/// Runs `emq journal` to its end.
private func journal(_ arguments: [String]) throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = Server.executable
    process.arguments = ["journal"] + arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.start()
    let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, output)
}

@Suite(.blocking) struct DurabilityTests {
    private let directory = DataDirectory()

    // MARK: Restarts

    @Test(arguments: ["always", "never", "50"])
    func everythingIsAfterAKillAsItWas(mode: String) throws {
        var server = try directory.start("--fsync", mode)
        let queues = ["q", "configured%2F%C3%BC", "paused", "keys", "graveyard"]
        #expect(
            try server.send(
                "PUT", "/config/configured%2F%C3%BC",
                #"{"max_retries": 3, "backoff": {"min": 1, "max": 60, "jitter": 0.1}, "dead_letter": "graveyard"}"#
            ).status == 200)
        _ = try server.send("POST", "/pause/paused")
        try server.enqueue("paused")
        var ids = try server.enqueueAll("q", Array(0..<5))
        ids += try [
            server.enqueue("q", #""content": {"a": 1.0e2,  "ü": "\u00fc"}, "priority": -3, "metadata": {"x": "y z"}"#),
            server.enqueue("q", #""content": "first", "priority": 127, "keep": 500, "max_retries": 9"#),
            server.enqueue("q", #""content": "kept", "priority": 100, "keep": 500"#),
            server.enqueue("q", #""content": "dead", "priority": 90, "max_retries": 5, "expiry": null"#),
            server.enqueue("q", #""content": "late", "delay": 3600, "backoff": {"min": 1, "max": 9, "doublings": 2}"#),
            server.enqueue("q", #""content": "cancelled", "keep": 500"#),
            server.enqueue("keys", #""content": "key", "key": "ä", "unique_for": 500"#),
        ]
        let taken = try server.take("q", 3).compactMap { $0["receipt"] as? String }
        _ = try server.post("/touch", "{\"ids\": [\"\(taken[0])\"], \"progress\": {\"half\":  true}, \"retry\": 400}")
        try server.ack([taken[1]], #", "result": {"b":  [1.50, null]}"#)
        _ = try server.post("/nak", "{\"ids\": [\"\(taken[2])\"], \"error\": \"why\\n\", \"dead\": true}")
        let again = try server.take("q", 1).compactMap { $0["receipt"] as? String }
        _ = try server.post("/nak", "{\"ids\": [\"\(again[0])\"], \"delay\": 600, \"error\": \"later\"}")
        #expect(try server.send("DELETE", "/task/\(ids[10])").status == 204)
        let before = try server.picture(of: queues, tasks: ids)
        for _ in 0..<2 {
            try server.crash()
            server = try directory.start("--fsync", mode)
            let after = try server.picture(of: queues, tasks: ids)
            for (before, after) in zip(before, after) { #expect(before == after) }
        }
        // It goes on as it would have without the restart.
        #expect(try server.take("paused").isEmpty)
        #expect(try server.post("/enqueue/keys", #"{"content": 2, "key": "ä"}"#).object["existing"] as? Bool == true)
        #expect(try server.post("/enqueue/keys", #"{"content": 2, "key": "ä", "on_conflict": "reject"}"#).status == 409)
        #expect(try server.takeContents("q", 3) == [1, 2, 3])
        #expect(try server.send("POST", "/kick/q").body == #"{"kicked":1}"#)
        #expect(try server.send("POST", "/resume/paused").status == 200)
        #expect(try server.takeContents("paused") == [1])
    }

    @Test func endedTasksStayEnded() throws {
        var server = try directory.start()
        let ids = try server.enqueueAll("q", Array(0..<6))
        let receipts = try server.take("q", 3).compactMap { $0["receipt"] as? String }
        try server.ack(receipts)
        #expect(try server.send("DELETE", "/task/\(ids[3])").status == 204)
        #expect(try server.send("POST", "/purge/q").body == #"{"purged":2}"#)
        try server.crash()
        server = try directory.start()
        #expect(try server.get("/queues").body == "[]")
        #expect(try server.get("/stats/").object["tasks"] as? Int == 0)
        for id in ids { #expect(try server.get("/task/\(id)").status == 404) }
        #expect(try server.ack(receipts + ids).hasPrefix(#"{"acked":0,"#))
    }

    @Test func movedAndKickedTasksStayInTheirPlace() throws {
        var server = try directory.start()
        try server.enqueueAll("q", Array(0..<5))
        #expect(try server.send("POST", "/move/q?to=other&n=2").body == #"{"moved":2}"#)
        let receipt = try server.takeOne("q").receipt
        _ = try server.post("/nak", "{\"ids\": [\"\(receipt)\"], \"dead\": true}")
        #expect(try server.send("POST", "/kick/q").body == #"{"kicked":1}"#)
        let before = try server.picture(of: ["q", "other"])
        try server.crash()
        server = try directory.start()
        #expect(try server.picture(of: ["q", "other"]) == before)
        #expect(try server.takeContents("q") == [3, 4, 2])
        #expect(try server.takeContents("other") == [0, 1])
    }

    @Test func aReplacementWaitsForTheEndOfTheAttemptEvenAfterAKill() throws {
        var server = try directory.start()
        let id = try server.enqueue("q", #""content": 1, "key": "k""#)
        let receipt = try server.takeOne("q").receipt
        try server.enqueue("q", #""content": 2, "key": "k", "on_conflict": "replace""#)
        try server.crash()
        server = try directory.start()
        #expect(try server.task(id)["content"] as? Int == 1)
        #expect(try server.ack([receipt]) == #"{"acked":1,"missing":[]}"#)
        #expect(try server.takeContents("q") == [2])
    }

    @Test func aSIGTERMWritesEverything() throws {
        var server = try directory.start("--fsync", "never", "--drain", "0")
        try server.enqueueAll("q", Array(0..<100))
        _ = try server.take("q", 40)
        server.signal(SIGTERM)
        #expect(try server.exitStatus() == 0)
        #expect(server.output.contains("100 tasks kept in \(directory.path)"))
        #expect(try journal(["check", directory.path]).output.hasSuffix("whole: 100 tasks\n"))
        server = try directory.start()
        #expect(try server.takeContents("q") == Array(40..<100))
        let stats = try server.get("/stats/").object
        let journal = try #require(stats["journal"] as? [String: Any])
        #expect((journal["sync_time"] as? Double ?? -1) >= 0)
        #expect((journal["free_bytes"] as? Int ?? 0) > 0)
        #expect((journal["recovered"] as? [String: Any])?["tasks"] as? Int == 100)
        #expect(journal["problem"] is NSNull)
        _ = try eventually("the line") {
            server.output.contains("recovered 100 tasks from \(directory.path)") ? true : nil
        }
    }

    // MARK: Time

    @Test func delaysAndExpiriesContinueWhileTheServerIsDown() throws {
        var server = try directory.start()
        let soon = try server.enqueue("q", #""content": "soon", "delay": 0.3"#)
        let gone = try server.enqueue("q", #""content": "gone", "expiry": 0.3"#)
        let kept = try server.enqueue("q", #""content": "kept", "expiry": 0.3, "keep": 6000"#)
        let time = Date(timeIntervalSinceNow: 0.3)
        try server.crash()
        _ = try eventually("the time") { Date() > time ? true : nil }
        server = try directory.start()
        _ = try eventually("the end of the delay") { try server.state(soon) == "ready" ? true : nil }
        _ = try eventually("the end of a task") { try server.get("/task/\(gone)").status == 404 ? true : nil }
        _ = try eventually("the end of a task with a record") { try server.state(kept) == "expired" ? true : nil }
        #expect(try server.take("q").count == 1)
    }

    @Test func aLeaseLastsAtLeastTheGrace() throws {
        var server = try directory.start()
        let long = try server.enqueue("q", #""content": 1, "retry": 3000"#)
        let short = try server.enqueue("q", #""content": 2, "retry": 60"#)
        _ = try server.take("q")
        try server.settle()
        let longEnd = try #require(try server.task(long)["lease_end"] as? Double)
        try server.crash()
        let start = Date().timeIntervalSince1970
        server = try directory.start("--recovery-grace", "600")
        #expect(try server.task(long)["lease_end"] as? Double == longEnd)
        let shortEnd = try #require(try server.task(short)["lease_end"] as? Double)
        #expect(shortEnd >= start + 600 && shortEnd <= Date().timeIntervalSince1970 + 601)
        #expect(try server.state(short) == "dispatched")
        // After that, a touch gives the worker its own lease again.
        _ = try server.post("/touch", "{\"ids\": [\"\(short)\"]}")
        let touched = try #require(try server.task(short)["lease_end"] as? Double)
        #expect(touched <= Date().timeIntervalSince1970 + 61)
    }

    // MARK: Receipts

    @Test func aReceiptWorksForItsDispatchEvenAfterAKill() throws {
        var server = try directory.start()
        try server.enqueueAll("q", Array(0..<3))
        let receipts = try server.take("q").compactMap { $0["receipt"] as? String }
        try server.settle()
        try server.crash()
        server = try directory.start()
        #expect(try server.post("/touch", "{\"ids\": [\"\(receipts[0])\"]}").body == #"{"touched":1,"missing":[]}"#)
        try server.crash()
        server = try directory.start()
        #expect(try server.ack(receipts) == #"{"acked":3,"missing":[]}"#)
    }

    @Test func aReceiptNeverFitsALaterDispatch() throws {
        var server = try directory.start()
        let ids = try server.enqueueAll("q", Array(0..<20))
        var receipts: Set<String> = []
        for round in 1...4 {
            let taken = try server.take("q")
            // A released attempt does not count.
            #expect(taken.compactMap { $0["attempt"] as? Int } == Array(repeating: 1, count: 20))
            #expect(try receipts.isEmpty || server.ack(Array(receipts)).hasPrefix(#"{"acked":0,"#))
            receipts.formUnion(taken.compactMap { $0["receipt"] as? String })
            #expect(receipts.count == 20 * round)
            let json = "{\"ids\": [\(ids.map { "\"\($0)\"" }.joined(separator: ","))], \"release\": true}"
            #expect(try server.post("/nak", json).body == #"{"requeued":20,"dead":0,"missing":[]}"#)
            try server.crash()
            server = try directory.start()
        }
    }

    // MARK: Files

    @Test func aSecondServerIsRefused() throws {
        let server = try directory.start()
        let second = try directory.begin(["--lock-wait", "0.1"])
        #expect(try second.exitStatus() == 1)
        #expect(second.output.contains("\(directory.path): another process has this journal open"))
        #expect(second.output.filter { $0 == "\n" }.count == 1)
        let check = try journal(["check", directory.path])
        #expect(check.status == 1)
        #expect(check.output.contains("another process has this journal open"))
        try server.enqueue("q")
        #expect(try server.takeContents("q") == [1])
    }

    /// Makes a journal with one frame for each request. `pictures[n]` shows the tasks after n frames.
    private func makeJournal() throws -> (pictures: [[String]], name: String) {
        let server = try directory.start()
        let name = try #require(try directory.segments.first)
        var pictures = [try server.picture(of: ["q"])]
        func frame(_ request: () throws -> Void) throws {
            try request()
            let count = try eventually("a frame") {
                let count = try directory.frameEnds(name).count - 1
                return count >= pictures.count ? count : nil
            }
            try #require(count == pictures.count)
            pictures.append(try server.picture(of: ["q"]))
        }
        var receipts: [String] = []
        try frame { try server.enqueueAll("q", [1, 2, 3]) }
        try frame { try server.enqueue("q", #""content": "four", "metadata": {"a": "b"}, "keep": 1000"#) }
        try frame { receipts = try server.take("q").compactMap { $0["receipt"] as? String } }
        try frame { try server.ack(Array(receipts[0..<2])) }
        try frame { _ = try server.send("PUT", "/config/q", #"{"keep": 60}"#) }
        try frame { _ = try server.post("/nak", "{\"ids\": [\"\(receipts[2])\"], \"delay\": 1000}") }
        try frame { _ = try server.send("POST", "/pause/q") }
        try frame { try server.ack([receipts[3]], #", "result": "done""#) }
        try frame { try server.enqueueAll("q", [5, 6]) }
        try server.crash()
        return (pictures, name)
    }

    /// Recovers a segment, and shows its tasks.
    private func recovered(_ bytes: [UInt8], _ name: String) throws -> [String] {
        let copy = DataDirectory()
        try copy.write(bytes, name)
        return try copy.start().picture(of: ["q"])
    }

    @Test func aTornTailLosesOnlyItself() throws {
        let (pictures, name) = try makeJournal()
        let bytes = try directory.bytes(name)
        let ends = try directory.frameEnds(name)
        try #require(ends.count == pictures.count)
        // Cuts within the last frame, and some at and within the frames before it.
        var random = SeededRandom()
        let step = testOperations >= 1_000_000 ? 1 : 11
        let last = ends[ends.count - 2]
        let inner =
            [ends[0]] + ends[1...].dropLast().flatMap { [$0 - 1, $0, $0 + 1] }
            + (0..<20).map { _ in Int.random(in: 52..<last, using: &random) }
        let tail = Array(stride(from: last, through: ends[ends.count - 1], by: step)) + [ends[ends.count - 1]]
        for count in Set(inner.shuffled(using: &random).prefix(400 / step) + tail).sorted() {
            // After a power cut, the zeros that filled the segment remain. Bytes that were zero are not missing.
            let torn = bytes.prefix(count) + [UInt8](repeating: 0, count: bytes.count - count)
            let end = bytes[count...].firstIndex { $0 != 0 } ?? bytes.count
            let whole = ends.lastIndex { $0 <= end } ?? 0
            try #require(try recovered(Array(torn), name) == pictures[whole], "cut at \(count), \(random)")
        }
    }

    @Test func aShortenedSegmentIsDamaged() throws {
        let (_, name) = try makeJournal()
        let bytes = try directory.bytes(name)
        for count in [52, 1000, bytes.count - 1] {
            let copy = DataDirectory()
            try copy.write(Array(bytes.prefix(count)), name)
            let server = try copy.begin(environment: ["ASAN_OPTIONS": "detect_leaks=0"])
            #expect(try server.exitStatus() == 1, "cut at \(count)")
            #expect(server.output.contains("\(copy.path)/\(name), byte "), "\(server.output)")
            #expect(try journal(["check", copy.path]).status == 1, "cut at \(count)")
        }
    }

    @Test func damageInTheMiddleIsNamedAndCanBeRepaired() throws {
        let (pictures, name) = try makeJournal()
        var bytes = try directory.bytes(name)
        let ends = try directory.frameEnds(name)
        var random = SeededRandom()
        // In the last frame, damage could be the result of a crash.
        bytes[ends[ends.count - 1] - 1] ^= 1
        #expect(try recovered(bytes, name) == pictures[pictures.count - 2])
        bytes[ends[ends.count - 1] - 1] ^= 1
        for frame in 0..<5 {
            let offset = Int.random(in: ends[frame]..<ends[frame + 1], using: &random)
            bytes[offset] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            let copy = DataDirectory()
            try copy.write(bytes, name)
            // The server exits with all its memory in use, which the address sanitizer would report as leaks, in the
            // last line.
            let server = try copy.begin(environment: ["ASAN_OPTIONS": "detect_leaks=0"])
            try #require(try server.exitStatus() == 1, "\(random)")
            let last = try #require(server.messages.last)
            #expect(last.contains("\(copy.path)/\(name), byte \(ends[frame]): "), "\(last) \(random)")
            #expect(last.contains("`emq journal check \(copy.path)`") && last.contains("`emq journal repair"))
            // The journal is unchanged.
            #expect(try copy.bytes(name) == bytes)
            let check = try journal(["check", copy.path])
            #expect(check.status == 1)
            // `check` shows the same, and more.
            let flaw = try #require(last.split(separator: "; `emq journal").first)
            #expect(check.output.contains("not whole: " + flaw), "\(check.output)")
            let mended = DataDirectory()
            let repair = try journal(["repair", copy.path, mended.path])
            #expect(repair.status == 0, "\(repair.output)")
            // Without a second directory, as in the hint, `repair` makes one beside the first.
            #expect(try journal(["repair", copy.path]).output.contains("\(copy.path)-repaired has"))
            try? FileManager.default.removeItem(atPath: copy.path + "-repaired")
            #expect(try copy.bytes(name) == bytes)
            #expect(try journal(["check", mended.path]).status == 0)
            // The tasks of the other frames are there.
            #expect(
                try mended.start().get("/peek/q?n=9&state=ready").tasks.suffix(2).compactMap { $0?["content"] as? Int }
                    == [5, 6])
            bytes = try directory.bytes(name)
        }
    }

    @Test func theJournalCommandExplainsWrongArguments() throws {
        for (arguments, words) in [
            ([], "copy, check, repair"), (["chekc", directory.path], "did you mean 'check'?"),
            (["check"], "emq journal check DIR"), (["repair"], "emq journal repair DIR [NEWDIR]"),
        ] {
            let result = try journal(arguments)
            #expect(result.status == 2 && result.output.contains(words), "\(result.output)")
            #expect(result.output.filter { $0 == "\n" }.count == 1)
        }
        let missing = try journal(["check", directory.path])
        #expect(missing.status == 1)
        #expect(missing.output.contains(directory.path) && missing.output.filter { $0 == "\n" }.count == 1)
        #expect(!FileManager.default.fileExists(atPath: directory.path))
        // Existing files are not overwritten.
        try directory.start().crash()
        let bytes = try directory.segments.map(directory.bytes)
        #expect(try journal(["repair", directory.path, directory.path]).status == 1)
        #expect(try directory.segments.map(directory.bytes) == bytes)
    }

    @Test func aDirectoryWithoutAJournalIsLeftAlone() throws {
        let mine = Array("What somebody else keeps in a file that happens to be called so.".utf8)
        try directory.write(mine, "0000000001.log")
        let server = try directory.begin()
        #expect(try server.exitStatus() == 1)
        #expect(server.output.contains("0000000001.log"))
        #expect(try directory.bytes("0000000001.log") == mine)
    }

    @Test func drainedQueuesGiveTheirSpaceBack() throws {
        var server = try directory.start()
        let content = String(repeating: "x", count: 1_000_000)
        for _ in 0..<24 { try server.enqueue("q", "\"content\": \"\(content)\"") }
        #expect(try directory.byteCount > 24_000_000)
        for _ in 0..<24 { try server.ack([server.takeOne("q").receipt]) }
        _ = try eventually("the space") { try directory.byteCount < 8_000_000 ? true : nil }
        try server.enqueue("q")
        try server.crash()
        server = try directory.start()
        #expect(try server.takeContents("q") == [1])
    }

    @Test func theServerReportsItsProgressWhileItRecovers() throws {
        let server = try directory.start("--fsync", "never")
        for _ in 0..<4 { try server.enqueueAll("q", Array(0..<10_000)) }
        try server.crash()
        // Recovery begins after the line that says that emq listens. A full pipe delays that line.
        let pipe = Pipe()
        let (reading, writing) = (pipe.fileHandleForReading, pipe.fileHandleForWriting)
        let flags = fcntl(writing.fileDescriptor, F_GETFL)
        _ = fcntl(writing.fileDescriptor, F_SETFL, flags | O_NONBLOCK)
        while write(writing.fileDescriptor, [0x0A], 1) == 1 {}
        _ = fcntl(writing.fileDescriptor, F_SETFL, flags)
        let path = FileManager.default.temporaryDirectory.appending(
            path: "emq-\(UInt32.random(in: 0...UInt32.max)).sock"
        )
        .path
        let next = Process()
        next.executableURL = Server.executable
        next.arguments = ["--addr", "unix:\(path)", "--data", directory.path]
        next.standardError = writing
        try next.start()
        defer {
            kill(next.processIdentifier, SIGKILL)
            next.waitUntilExit()
            try? FileManager.default.removeItem(atPath: path)
            try? reading.close()
        }
        let client = try eventually("a connection") { try? Client(path: path) }
        client.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\nGET /peek/q HTTP/1.1\r\nHost: h\r\n\r\n")
        client.sendPost("/enqueue/q", #"{"content": 1}"#)
        client.send("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
        // A stream of events may begin before the recovery, and goes on behind it.
        let watcher = try Client(path: path)
        watcher.send(Array("GET /events?get=%2Fpeek%2Fq%3Fn%3D0 HTTP/1.1\r\nHost: h\r\n\r\n".utf8))
        var bytes = [UInt8](repeating: 0, count: 65536)
        _ = read(reading.fileDescriptor, &bytes, bytes.count)
        for _ in 0..<3 {
            let answer = try client.response()
            #expect(answer.status == 503)
            #expect(answer.body.contains("recovering: "))
            #expect(answer.fields["retry-after"] != nil)
        }
        let metrics = try MetricsText(client.response().body + "\n")
        #expect(metrics["emq_ready"] == 0)
        #expect(metrics[#"emq_enqueue_rejected_total{reason="recovering"}"#] == 1)
        #expect(metrics.count(of: "emq_tasks") == 0)
        _ = try eventually("the end of the recovery") { try client.get("/healthz").status == 200 ? true : nil }
        #expect(try client.get("/stats/q").object["ready"] as? Int == 40_000)
        var events = ""
        while !events.hasSuffix("event: 0\ndata: []\n\n") {
            events += String(decoding: try watcher.socket.receive(), as: UTF8.self)
        }
        #expect(events.hasPrefix("HTTP/1.1 200 "))
    }

    // MARK: Options

    @Test(arguments: [
        ["--fsync", "sometimes"], ["--fsync", "0"], ["--fsync", "-5"], ["--fsync", "3600001"], ["--fsync", ""],
        ["--recovery-grace", "x"], ["--recovery-grace", "-1"], ["--recovery-grace", "86401"], ["--lock-wait", "-1"],
        ["--data", "twice"],
    ])
    func badValuesAreOneLineAndStatus2(options: [String]) throws {
        let server = try directory.begin(options)
        #expect(try server.exitStatus() == 2)
        #expect(server.output.hasPrefix("emq: ") && server.output.contains(options[0]))
        #expect(server.output.filter { $0 == "\n" }.count == 1)
        #expect(!FileManager.default.fileExists(atPath: directory.path))
    }

    @Test func optionsOfTheJournalNeedAJournal() throws {
        for options in [["--fsync", "never"], ["--recovery-grace", "5"], ["--data", ""]] {
            let server = try Server(["--addr", "127.0.0.1:0"] + options)
            #expect(try server.exitStatus() == 2)
            #expect(server.output.contains("--data"))
        }
    }

    @Test func theEnvironmentNamesTheDirectory() throws {
        let environment = ["EMQ_DATA": directory.path, "EMQ_FSYNC": "20", "EMQ_RECOVERY_GRACE": "1.5"]
        let server = try Server(environment: environment)
        #expect(server.output.contains("tasks are kept in \(directory.path)"))
        let wrong = try directory.begin(environment: ["EMQ_FSYNC": "often"])
        #expect(try wrong.exitStatus() == 2)
        #expect(wrong.output.contains("EMQ_FSYNC"))
    }

    @Test func anUnusablePathIsReportedInOneLine() throws {
        try directory.write([], "file")
        let server = try Server(["--addr", "127.0.0.1:0", "--data", directory.path + "/file"])
        #expect(try server.exitStatus() == 1)
        #expect(server.output.contains("\(directory.path)/file"))
        #expect(server.output.filter { $0 == "\n" }.count == 1)
    }

    /// When the disk is full for tasks, there is still space for an operator's requests.
    @Test func operatorsCanWorkWhileTheDiskIsFull() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--data", directory.path], limit: "ulimit -f 2048")
        _ = try eventually("the start") { try server.get("/healthz").status == 200 ? true : nil }
        #expect(try server.send("PUT", "/config/q", #"{"retry": 5}"#).status == 200)
        for size in [100_000, 1000, 1] {
            let content = String(repeating: "x", count: size)
            while try server.post("/enqueue/q", "{\"content\": \"\(content)\"}").status == 200 {}
        }
        // More than the rest of the space for tasks.
        for _ in 0..<40 {
            #expect(try server.send("POST", "/pause/q").status == 200)
            #expect(try server.send("POST", "/resume/q").status == 200)
        }
        #expect(try server.send("PUT", "/config/q", #"{"retry": 6}"#).status == 503)
        #expect(try server.send("DELETE", "/config/q").status == 204)
        #expect(try server.send("POST", "/move/q?to=r").status == 503)
        #expect(try server.take("q", 1).count == 1)
    }
}
