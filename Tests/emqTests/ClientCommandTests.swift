// What all of the client's commands have in common: their exit statuses, --json and --curl, and what bad names get.

import Foundation
import Support
import Testing

@testable import emq

/// A command line of a client's command.
struct ClientCase: CustomTestStringConvertible {
    /// The name of the command, and its arguments. `ID`, `OTHER` and `RECEIPT` stand for those of tasks of the queue
    /// `q`.
    let words: [String]
    /// Which of the words is the name of a queue; nil for none.
    var queue: Int?
    /// Whether --curl prints what it would send. Of some, it refuses to.
    var hasCurl = true
    /// Whether it only looks, so that it can be repeated.
    var isLook = false

    var testDescription: String { words.joined(separator: " ") }
}

@Suite(.blocking) struct ClientCommandTests {
    static let cases = [
        ClientCase(words: ["add", "q", "new"], queue: 1),
        ClientCase(words: ["add", "q", "it's [\"$HOME\"]"], queue: 1),
        ClientCase(words: ["add", "q", "--lines", "lines"], queue: 1, hasCurl: false),
        ClientCase(words: ["take", "q"], queue: 1), ClientCase(words: ["ack", "RECEIPT"]),
        ClientCase(words: ["nack", "RECEIPT", "--error", "it's\nbad"]),
        ClientCase(words: ["touch", "RECEIPT", "--progress", "5"]), ClientCase(words: ["task", "ID"], isLook: true),
        ClientCase(words: ["result", "ID"], isLook: true), ClientCase(words: ["cancel", "ID", "OTHER"]),
        ClientCase(words: ["queues"], isLook: true), ClientCase(words: ["queues", "q*", "-n", "5"], isLook: true),
        ClientCase(words: ["stats", "q"], queue: 1), ClientCase(words: ["stats"]),
        ClientCase(words: ["peek", "q", "-n", "9"], queue: 1, isLook: true),
        ClientCase(words: ["pause", "q", "other"], queue: 1), ClientCase(words: ["resume", "q"], queue: 1),
        ClientCase(words: ["purge", "q", "--yes"], queue: 1), ClientCase(words: ["kick", "q", "-y"], queue: 1),
        ClientCase(words: ["move", "q", "to", "--yes"], queue: 1),
        ClientCase(words: ["export", "q"], queue: 1, hasCurl: false),
        ClientCase(words: ["import", "q", "tasks"], queue: 1, hasCurl: false),
        ClientCase(words: ["config", "get", "q"], queue: 2, isLook: true),
        ClientCase(words: ["config", "set", "q", "keep=1m"], queue: 2),
        ClientCase(words: ["config", "diff", "q", "configuration"], queue: 2),
        ClientCase(words: ["config", "edit", "q"], queue: 2, hasCurl: false),
        ClientCase(words: ["apply", "configurations"]),
    ]

    /// A server with tasks, and a client with files.
    private struct Room {
        let server: Server
        let client: ClientProgram
        var names: [String: String] = [:]

        init() throws {
            server = try Server()
            client = try ClientProgram(port: server.port)
            try server.enqueueAll("q", [1, 2, 3])
            try server.send("PUT", "/config/q", #"{"retry": 60}"#)
            let task = try #require(try server.take("q", 1).first)
            names["RECEIPT"] = try #require(task["receipt"] as? String)
            let others = try server.get("/peek/q?n=9").tasks.compactMap { $0?["id"] as? String }
            (names["ID"], names["OTHER"]) = (others.first, others.last)
            try Self.writeFiles(for: client)
        }

        /// The files that the cases name.
        static func writeFiles(for client: ClientProgram) throws {
            _ = try client.file("lines", "a\nb\n")
            _ = try client.file("tasks", "{\"content\": 1}\n")
            _ = try client.file("configuration", "{\"retry\": 60}")
            _ = try client.file("configurations", "{\"queues\": {\"q\": {\"retry\": 61}}}")
        }

        func run(_ words: [String], _ options: String...) throws -> ClientProgram.Result {
            let all = words.map { names[$0] ?? $0 } + options
            let process = try client.command(all, environment: ["EDITOR": "true"])
            try process.start()
            return try client.end(of: process)
        }

        /// What a shell does with a line.
        func shell(_ line: String) throws -> ClientProgram.Result {
            let process = try client.command([])
            process.executableURL = URL(fileURLWithPath: "/bin/sh")
            process.arguments = ["-ec", line.split(separator: "\n").map { "\($0) -sS" }.joined(separator: "\n")]
            try process.start()
            return try client.end(of: process)
        }
    }

    /// Commands whose tests are elsewhere.
    private static let others: Set = ["work", "top", "tail"]

    @Test func noCommandIsForgotten() {
        let names = Set(Self.cases.map { $0.words[0] })
        let twoWords = Set(Self.cases.map { $0.words.prefix(2).joined(separator: " ") })
        for command in Command.all where command.section == .tasks || command.section == .queues {
            let isCovered = names.contains(command.name) || twoWords.contains(command.name)
            #expect(isCovered || Self.others.contains(command.name), "\(command.name)")
        }
    }

    @Test(arguments: cases) func aSuccessIsDataOnStandardOutput(of example: ClientCase) throws {
        let room = try Room()
        // Nobody waits for the result of a task that has not ended.
        let expected: Int32 = example.words[0] == "result" ? 3 : 0
        let result = try room.run(example.words)
        #expect(result.status == expected, "\(result)")
        #expect(!result.output.contains("emq") && !result.output.contains("\u{1B}"))
        let again = try Room()
        let json = try again.run(example.words, "--json")
        #expect(json.status == expected, "\(json)")
        for line in json.output.split(separator: "\n") {
            #expect(throws: Never.self, "\(line)") {
                try JSONSerialization.jsonObject(with: Data(line.utf8), options: .fragmentsAllowed)
            }
        }
    }

    @Test(arguments: cases.filter(\.hasCurl)) func curlDoesTheSame(as example: ClientCase) throws {
        let room = try Room()
        let before = try room.server.get("/peek/q?n=9").body
        let line = try room.run(example.words, "--curl")
        #expect(line.status == 0 && line.output.hasPrefix("curl ") && line.error.isEmpty, "\(line)")
        // It has not been sent.
        #expect(try room.server.get("/peek/q?n=9").body == before)
        #expect(try room.server.get("/config/q").body == #"{"retry":60}"#)
        let answer = try room.shell(line.output)
        #expect(answer.status == 0 && answer.error.isEmpty && !answer.output.contains("urn:emq:error"), "\(answer)")
        if example.isLook, !example.words.contains("queues") {
            #expect(try answer.output == room.run(example.words, "--json").output)
        }
        let content = example.words.count == 3 && example.words[0] == "add" ? example.words[2] : nil
        if let content {
            let tasks = try room.server.get("/peek/q?n=9").tasks
            #expect(tasks.contains { $0?["content"] as? String == content }, "\(tasks)")
        }
    }

    @Test(arguments: cases) func aServerThatIsAwayIsStatus5(of example: ClientCase) throws {
        let client = try ClientProgram(port: try unusedPort())
        try Room.writeFiles(for: client)
        let words = example.words.map { $0 == "RECEIPT" ? "AaH8ekX5cACuES467dOuXw@9611871ae783c074" : $0 }
        let process = try client.command(words, environment: ["EDITOR": "true"])
        try process.start()
        let result = try client.end(of: process)
        #expect(result.status == 5 && result.output.isEmpty, "\(result)")
        #expect(result.error.filter { $0 == "\n" }.count == 1 && result.error.contains("is the server running?"))
    }

    @Test(arguments: cases) func aWrongTokenIsStatus4(of example: ClientCase) throws {
        let file = try TokenFile([TestToken("ann", ["read"])])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try ClientProgram(port: server.port)
        try Room.writeFiles(for: client)
        let id = "AaH8ekX5cACuES467dOuXw"
        let words = example.words.map { ["ID": id, "OTHER": id, "RECEIPT": "\(id)@9611871ae783c074"][$0] ?? $0 }
        let process = try client.command(words, environment: ["EDITOR": "true", "EMQ_TOKEN": "wrong"])
        try process.start()
        let result = try client.end(of: process)
        #expect(result.status == 4 && result.output.isEmpty, "\(result)")
        #expect(result.error.hasPrefix("emq \(example.words[0])"))
    }

    @Test(arguments: cases.filter { $0.queue != nil }) func aBadNameOfAQueueIsStatus2(in example: ClientCase) throws {
        let room = try Room()
        for name in ["", String(repeating: "n", count: 256), "a\u{7}b"] {
            var words = example.words
            words[example.queue ?? 0] = name
            let result = try room.run(words)
            #expect(result.status == 2, "\(result)")
            #expect(result.error.filter { $0 == "\n" }.count == 1 && !result.error.contains("\u{7}"), "\(result)")
        }
    }

    @Test func whatIsNotThereIsStatus3() throws {
        let room = try Room()
        let id = "AaH8ekX5cACuES467dOuXw"
        for words in [
            ["task", id], ["result", id], ["cancel", id], ["ack", "\(id)@9611871ae783c074"],
            ["nack", "\(id)@9611871ae783c074"], ["touch", "\(id)@9611871ae783c074"], ["take", "empty"],
            ["peek", "empty"], ["queues", "nothing*"], ["config", "get", "q", "keep"],
        ] {
            #expect(try room.run(words).status == 3, "\(words)")
        }
    }

    @Test func theOthersAreDoneWhenOneFails() throws {
        let room = try Room()
        let result = try room.run(["cancel", "AaH8ekX5cACuES467dOuXw", "ID", "nonsense", "OTHER"])
        #expect(result.status == 3 && result.error.filter { $0 == "\n" }.count == 2, "\(result)")
        #expect(result.output.filter { $0 == "\n" }.count == 2)
        #expect(try room.server.get("/stats/q").object["ready"] as? Int == 0)
    }

    @Test func queuesAreOneDocument() throws {
        let room = try Room()
        for index in 1...1100 { try room.server.enqueue("many/\(index)") }
        let output = try room.run(["queues", "many/*", "--json"]).output
        let document = try #require(try JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
        let queues = try #require(document["queues"] as? [String: [String: Any]])
        #expect(queues.count == 1100 && queues.allSatisfy { $0.value["queue"] as? String == $0.key })
        #expect(document["server"] != nil && document["next"] == nil)
        #expect(try room.run(["queues", "many/*"]).output.split(separator: "\n").count == 1100)
    }

    @Test(arguments: [
        "name", "ready", "delayed", "dispatched", "dead", "oldest_ready", "enqueued", "done", "failed", "rate",
        "waiters", "paused",
    ])
    func queuesComeInEachOrder(order: String) throws {
        #expect(try Room().run(["queues", "--sort", order]).status == 0)
    }

    @Test func aWrongOrderIsRefused() throws {
        let result = try Room().run(["queues", "--sort", "oldest_redy"])
        #expect(result.status == 2 && result.error.contains("did you mean 'oldest_ready'?"), "\(result)")
    }

    @Test func onATerminalThereAreABarAndChangesInWords() throws {
        let room = try Room()
        let emq = Server.executable.path
        func script(_ words: String) throws -> String {
            let process = try room.client.command([], environment: ["TERM": "xterm"])
            process.executableURL = URL(fileURLWithPath: "/usr/bin/script")
            process.arguments = ["-qec", "'\(emq)' \(words)", "/dev/null"]
            try process.start()
            return try room.client.end(of: process).output
        }
        let bar = try script("add q --lines lines")
        #expect(bar.contains("\r[   ") && bar.contains("\r\u{1B}[Kemq add: added 2 tasks in "), "\(bar)")
        let changes = try script("apply configurations")
        #expect(changes.contains("retry: \u{1B}[31m60\u{1B}[0m → \u{1B}[32m61\u{1B}[0m"), "\(changes.debugDescription)")
    }
}
