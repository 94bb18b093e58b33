// The real program in place of taskqueue, as operators start it and producers use it.

import Foundation
import Support
import Testing

@Suite(.blocking) struct TaskqueueProgramTests {
    private let folder: URL
    private let receiver: Receiver

    init() throws {
        receiver = try Receiver()
        folder = FileManager.default.temporaryDirectory.appending(path: "emq-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
    }

    /// Writes an ini file, and returns its path.
    private func write(_ text: String) throws -> String {
        let file = folder.appending(path: "taskqueue.ini")
        try Data(text.utf8).write(to: file)
        return file.path
    }

    private func line(_ server: Server, _ start: String) throws -> String {
        try eventually("the line '\(start) …'") {
            server.messages.first { $0.hasPrefix(start) }.map { String($0) }
        }
    }

    @Test func aProducerPostsMessagesToItsQueues() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = try write("base_url = \(receiver.url("/app"))\n[mail]\nrate = 100/s\n[other]\n")
        let server = try Server(["--addr", "127.0.0.1:0", "--taskqueue", path])
        #expect(try line(server, "replacing taskqueue") == "replacing taskqueue for 2 queues of \(path)")
        #expect(!server.output.contains("AMQP"))
        try server.enqueue("mail", #""content": {"url":"/send","payload":{"to":"a@b"}}"#)
        let request = try receiver.wait("/app/send")[0]
        #expect(request.method == "POST" && request.body == #"{"to":"a@b"}"#)
        #expect(request["Content-Type"] == "application/json")
        #expect(!request.fields.contains { $0.name.lowercased().hasPrefix("emq-") })
        let configuration = try server.get("/config/mail").object
        #expect(configuration["push"] as? NSDictionary == ["concurrency": 1, "rate": "100/s"])
        // Another queue behaves as without the file.
        try server.enqueue("mine", #""content": 7"#)
        #expect(try server.takeContents("mine") == [7])
    }

    @Test func messagesAreNotSentToLinkLocalAddresses() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let server = try Server(["--addr", "127.0.0.1:0", "--taskqueue", try write("[q]\nrate = 100/s\n")])
        let id = try server.enqueue("q", #""content": {"url":"http://169.254.169.254/x"}"#)
        let task = try server.wait(id, for: "dead")
        #expect((task["error"] as? String)?.contains("169.254.169.254") == true)
    }

    @Test func theEnvironmentCanNameTheFile() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = try write("server = \"amqp://guest:secret@localhost:1/\"\n[q]\n")
        let server = try Server(environment: ["TASKQUEUE_CONFIG_FILE": path])
        #expect(
            try line(server, "replacing taskqueue")
                == "replacing taskqueue for 1 queue of \(path), whose messages come from "
                + "amqp://guest:***@localhost:1")
        #expect(!server.output.contains("secret"))
    }

    @Test(arguments: [
        ("[q]\nrate = often\n", "line 2: a rate must be a number of starts"),
        ("[q]\n=\nrate\n", "line 3: a line must be"),
    ])
    func aMalformedFileStopsTheStart(text: String, reason: String) throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let server = try Server(["--addr", "127.0.0.1:0", "--taskqueue", try write(text)])
        #expect(try server.exitStatus() == 2)
        #expect(server.output.contains(reason), "\(server.output)")
        #expect(server.output.contains("taskqueue.ini"))
    }

    @Test func eachWarningIsALineOfTheLog() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = try write("[q]\nconcurrency = some\nspeed = 1/s\nrate = 10000000000/s\n")
        let server = try Server(["--addr", "127.0.0.1:0", "--taskqueue", path])
        #expect(try line(server, "\(path), line 2: concurrency must be").hasSuffix("using the default"))
        #expect(try line(server, "\(path), line 3: ignoring the unknown key 'speed'").isEmpty == false)
        #expect(try server.get("/config/q").object["push"] as? NSDictionary == ["concurrency": 1])
    }

    @Test func aRestartAppliesTheCurrentFile() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        let data = folder.appending(path: "data").path
        func start(_ ini: String?) throws -> Server {
            let options = try ini.map { ["--taskqueue", try write($0)] } ?? []
            let server = try Server(["--addr", "127.0.0.1:0", "--data", data] + options)
            _ = try eventually("the journal to be read") { try server.get("/healthz").status == 200 ? true : nil }
            return server
        }
        do {
            let first = try start("[q]\nrate = 1/d\n[gone]\nrate = 1/d\n")
            // The first task of each queue is sent at once, the others tomorrow.
            for _ in 0..<3 {
                try first.enqueue("q", #""content": {"url":"\#(receiver.url("/x"))","max_retries":1}"#)
            }
            for _ in 0..<2 { try first.enqueue("gone", #""content": {"url":"\#(receiver.url("/gone"))"}"#) }
            // The tasks are done, and what was answered is safe.
            for queue in ["q", "gone"] {
                _ = try eventually("the end of the first") { try first.count(queue, "acked") == 1 ? true : nil }
                // Unlike that of /stats, this answer waits until what it shows is safe.
                _ = try first.get("/peek/\(queue)")
            }
            first.signal(SIGKILL)
            _ = try first.exitStatus()
        }
        do {
            let second = try start("[q]\nrate = 1000/s\n")
            try receiver.wait("/x", 3)
            #expect(
                try second.get("/config/q").object["push"] as? NSDictionary == ["concurrency": 1, "rate": "1000/s"])
            // It is no longer pushed, so workers can take it.
            let rest = try second.take("gone", timeout: 600_000)
            #expect(rest.count == 1)
            #expect(receiver.received("/gone").count == 1)
        }
    }

    @Test func tasksOfManyQueuesSurviveARestartWithoutTheFileAndWithPush() throws {
        defer { try? FileManager.default.removeItem(at: folder) }
        // More queues than one turn hands over to workers.
        let names = (0..<40).map { "q\($0)" }
        let path = try write(names.map { "[\($0)]\nrate = 1/d\n" }.joined())
        let options = ["--addr", "127.0.0.1:0", "--data", folder.appending(path: "data").path]
        do {
            let first = try Server(options + ["--taskqueue", path])
            _ = try eventually("the journal to be read") { try first.get("/healthz").status == 200 ? true : nil }
            for name in names {
                for _ in 0..<3 { try first.enqueue(name, #""content": {"url":"\#(receiver.url("/x"))"}"#) }
            }
            // The first task of each queue is sent at once, the others tomorrow.
            try receiver.wait("/x", names.count)
            first.signal(SIGKILL)
            _ = try first.exitStatus()
        }
        let second = try Server(options + ["--push", "127.0.0.0/8"])
        _ = try eventually("the journal to be read") { try second.get("/healthz").status == 200 ? true : nil }
        for name in names { try #require(try !second.take(name, timeout: 600_000).isEmpty, "\(name)") }
        #expect(receiver.received("/x").count == names.count)
        for name in names { #expect(try second.get("/stats/\(name)").object["dead"] as? Int == 0, "\(name)") }
    }
}
