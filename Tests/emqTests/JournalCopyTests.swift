// `emq journal copy`: a server opens the copy as it would open its own journal after a crash.

import Foundation
import Testing

@Suite(.blocking) struct JournalCopyTests {
    private let directory = DataDirectory()

    /// Copies while tasks come and go, so that segments begin and are deleted.
    @Test func aCopyOfAServerUnderLoadHasWhatWasAcknowledged() throws {
        let server = try directory.start()
        let client = try server.connect()
        let content = String(repeating: "x", count: 20_000)
        var (held, ended): ([String], [String]) = ([], [])
        func work() throws {
            let tasks = (0..<20).map { _ in "{\"content\": \"\(content)\"}" }.joined(separator: ",")
            let answer = try client.post("/enqueue/q", "[\(tasks)]")
            held += try #require(try answer.object["ids"] as? [String])
            guard held.count > 60 else { return }
            let taken = try client.post("/wait/", #"{"queues": ["q"], "max": 20}"#).tasks
            let receipts = taken.compactMap { ($0?["receipt"] as? String).map { "\"\($0)\"" } }
            let ids = receipts.joined(separator: ",")
            #expect(try client.post("/ack/", "{\"ids\": [\(ids)]}").body == #"{"acked":20,"missing":[]}"#)
            ended = Array(held.prefix(20))
            held.removeFirst(20)
        }
        for _ in 0..<5 {
            for _ in 0..<10 { try work() }
            let (before, gone) = (held, ended)
            let copy = DataDirectory()
            let process = Process()
            process.executableURL = Server.executable
            process.arguments = ["journal", "copy", directory.path, copy.path]
            process.standardOutput = FileHandle.nullDevice
            try process.start()
            while process.isRunning { try work() }
            try #require(process.terminationStatus == 0)
            let restored = try copy.start()
            for id in gone { #expect(try restored.get("/task/\(id)").status == 404) }
            // Tasks that have ended since then may be missing, but only in the order in which they ended.
            let missing = try before.filter { try restored.get("/task/\($0)").status != 200 }
            #expect(Array(before.prefix(missing.count)) == missing)
            let counts = try restored.get("/stats/q").object
            let tasks = try ["ready", "dispatched"].reduce(0) { try $0 + #require(counts[$1] as? Int) }
            #expect(tasks >= 40 && tasks % 20 == 0, "\(counts)")
        }
        #expect(try directory.segments.first != "0000000001.log")
    }

    @Test func theCommandSaysWhatItHasDone() throws {
        let server = try directory.start()
        try server.enqueueAll("q", [1, 2, 3])
        let copy = DataDirectory()
        let result = try Server.run(["journal", "copy", directory.path, copy.path + "/"])
        #expect(result.status == 0 && result.error.isEmpty, "\(result.error)")
        #expect(result.output.hasPrefix("\(copy.path) has ") && result.output.contains(" in 1 segment; "))
        #expect(try Server.run(["journal", "check", copy.path]).output.hasSuffix("whole: 3 tasks\n"))
        let again = try Server.run(["journal", "copy", directory.path, copy.path])
        #expect(again.status == 1 && again.error.contains("\(copy.path): it already exists"))
        #expect(again.error.filter { $0 == "\n" }.count == 1)
        let wrong = try Server.run(["journal", "copy", directory.path])
        #expect(wrong.status == 2 && wrong.error.contains("something is missing: emq journal copy DIR NEWDIR"))
    }
}
