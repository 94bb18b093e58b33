// The program as its operator meets it: options, addresses, signals.

import Foundation
import Testing

@Suite struct ProgramTests {
    /// Runs the program to its end.
    private func run(
        _ arguments: [String], environment: [String: String] = [:]
    ) throws -> (status: Int32, output: String, error: String) {
        let process = Process()
        process.executableURL = Server.executable
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        let (output, error) = (Pipe(), Pipe())
        process.standardOutput = output
        process.standardError = error
        try process.run()
        let status: Int32 = try eventually("the end of emq \(arguments)") {
            process.isRunning ? nil : process.terminationStatus
        }
        func text(_ pipe: Pipe) -> String {
            String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        }
        return (status, text(output), text(error))
    }

    @Test(arguments: [
        ["--adr", ":1"], ["--addr"], ["--addr", "8080"], ["--addr", ":99999"], ["--addr", "::1:80"],
        ["--addr", "unix:"], ["--addr", ":1", "serve"], ["help"],
        ["--drain", "x"], ["--drain", "-1"], ["--drain", "1", "--drain", "2"], ["--max-connections", "0"], ["sevre"],
        ["--push"], ["--push", ""], ["--push", "publik"], ["--push", "public,,private"], ["--push", "10.0.0.0/33"],
        ["--push", "10.0.0.1/8"], ["--push", "*"], ["--push", "http://example.com"], ["--push", "example.com:80"],
        ["--push", "loopback", "--push", "127.1"],
    ])
    func badFlagsAreOneLineAndStatus2(arguments: [String]) throws {
        let result = try run(arguments)
        #expect(result.status == 2)
        #expect(result.error.hasPrefix("emq: ") && result.error.hasSuffix("\n"))
        #expect(result.error.filter { $0 == "\n" }.count == 1)
        #expect(result.output.isEmpty)
    }

    @Test func whatPushDoesNotTakeIsSaidInOneSentence() throws {
        let sentence = "--push names every address as 0.0.0.0/0,::/0, not as '*' (emq --help lists the options)\n"
        #expect(try run(["--push", "public,*"]).error == "emq: " + sentence)
        #expect(try run([], environment: ["EMQ_PUSH": "*"]).error == "emq: EMQ_PUSH: " + sentence)
    }

    @Test(arguments: ["EMQ_ADDR", "EMQ_PUSH"])
    func badTwinsOfFlagsNameTheVariable(variable: String) throws {
        let result = try run([], environment: [variable: "non sense"])
        #expect(result.status == 2)
        #expect(result.error.hasPrefix("emq: \(variable): "))
        #expect(result.error.filter { $0 == "\n" }.count == 1)
    }

    @Test func helpFitsAScreenAndVersionIsOneLine() throws {
        let help = try run(["--help"])
        #expect(help.status == 0)
        #expect(help.output.contains("--addr") && help.output.split(separator: "\n").count <= 24)
        let version = try run(["--version"])
        #expect(version.output.wholeMatch(of: /emq \d+\.\d+\.\d+\n/) != nil)
    }

    @Test func aPortInUseIsOneLineAndStatus1() throws {
        let server = try Server()
        let result = try run(["--addr", "127.0.0.1:\(server.port)"])
        #expect(result.status == 1)
        #expect(result.error.contains("127.0.0.1:\(server.port)") && result.error.contains("in use"))
        #expect(result.error.filter { $0 == "\n" }.count == 1)
    }

    @Test func severalAddressesFitIntoTheEnvironmentAndAnEmptyVariableIsNone() throws {
        let server = try Server([], environment: ["EMQ_ADDR": "127.0.0.1:0,127.0.0.1:0", "EMQ_DRAIN": ""])
        #expect(server.output.matches(of: /127\.0\.0\.1:\d+/).count == 2)
    }

    @Test func theEnvironmentSaysWhatFlagsLeaveUnsaid() throws {
        let server = try Server(["serve"], environment: ["EMQ_ADDR": "127.0.0.1:0"])
        #expect(try server.get("/healthz").body == #"{"status":"ok"}"#)
        #expect(server.output.contains("tasks live in memory"))
    }

    @Test func itListensOnAUnixSocketAndReplacesAnAbandonedOne() throws {
        let path = FileManager.default.temporaryDirectory.appending(
            path: "emq-\(UInt32.random(in: 0...UInt32.max)).sock"
        ).path
        let server = try Server(["--addr", "127.0.0.1:0", "--addr", "unix:\(path)"])
        #expect(try Client(path: path).get("/healthz").status == 200)
        // One that is in use is left alone.
        #expect(try run(["--addr", "unix:\(path)"]).status == 1)
        #expect(try Client(path: path).get("/healthz").status == 200)
        server.signal(SIGKILL)
        _ = try server.exitStatus()
        #expect(FileManager.default.fileExists(atPath: path))
        let next = try Server(["--addr", "127.0.0.1:0", "--addr", "unix:\(path)"])
        #expect(try Client(path: path).get("/healthz").status == 200)
        next.signal(SIGTERM)
        #expect(try next.exitStatus() == 0)
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func aFileInASocketsPlaceIsKept() throws {
        let path = FileManager.default.temporaryDirectory.appending(
            path: "emq-\(UInt32.random(in: 0...UInt32.max)).txt"
        ).path
        #expect(FileManager.default.createFile(atPath: path, contents: Data("mine".utf8)))
        let result = try run(["--addr", "unix:\(path)"])
        #expect(result.status == 1)
        #expect(result.error.filter { $0 == "\n" }.count == 1)
        #expect(result.error.contains("no socket"))
        #expect(FileManager.default.contents(atPath: path) == Data("mine".utf8))
        try FileManager.default.removeItem(atPath: path)
    }

    @Test func localhostIsEveryAddressOfItWithOnePort() throws {
        let server = try Server(["--addr", "localhost:0"])
        #expect(try server.get("/healthz").status == 200)
    }

    @Test func termAnswersWaitingWorkersAndCountsWhatIsLost() throws {
        let server = try Server()
        let workers = try (0..<3).map { _ in
            let client = try server.connect()
            client.sendPost("/wait", #"{"queues": ["q", "r"], "timeout": 60000}"#)
            return client
        }
        for _ in 0..<2 { _ = try server.post("/enqueue/q", #"{"content": 1}"#) }
        server.signal(SIGTERM)
        for worker in workers { #expect(try worker.response().body == "[null,null]") }
        #expect(try server.exitStatus() == 0)
        let last = try #require(server.output.split(separator: "\n").last)
        #expect(last.contains("2 tasks"))
    }

    @Test func workInHandIsAcknowledgedWhileItStops() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--drain", "3600"])
        let client = try server.connect()
        _ = try client.post("/enqueue/q", #"{"content": 1}"#)
        _ = try client.post("/enqueue/q", #"{"content": 2}"#)
        let task = try #require(try client.post("/wait", #"{"queues": ["q"]}"#).tasks[0])
        let receipt = try #require(task["receipt"] as? String)
        server.signal(SIGTERM)
        _ = try eventually("the drain") { try client.get("/healthz").status == 503 ? true : nil }
        let refused = try client.post("/enqueue/q", #"{"content": 3}"#)
        #expect(refused.status == 503)
        #expect(refused.fields["retry-after"] != nil)
        #expect(try client.post("/wait", #"{"queues": ["q"]}"#).status == 503)
        #expect(throws: (any Error).self) { try server.connect() }
        // The last task in hand ends the drain.
        #expect(try client.post("/ack", "{\"ids\": [\"\(receipt)\"]}").body == #"{"acked":1,"missing":[]}"#)
        #expect(try server.exitStatus() == 0)
        #expect(server.output.contains("1 task"))
    }

    @Test func aSecondSignalEndsItAtOnce() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--drain", "3600"])
        let client = try server.connect()
        _ = try client.post("/enqueue/q", #"{"content": 1}"#)
        _ = try client.post("/wait", #"{"queues": ["q"]}"#)
        server.signal(SIGINT)
        _ = try eventually("the drain") { try client.get("/healthz").status == 503 ? true : nil }
        server.signal(SIGTERM)
        #expect(try server.exitStatus() == 0)
    }

    @Test func theDrainEndsAtItsTime() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--drain", "0.1"])
        let client = try server.connect()
        _ = try client.post("/enqueue/q", #"{"content": 1}"#)
        _ = try client.post("/wait", #"{"queues": ["q"]}"#)
        server.signal(SIGTERM)
        #expect(try server.exitStatus() == 0)
    }

    @Test func runningOutOfDescriptorsIsSurvived() throws {
        // A shell lowers the limit for the server alone.
        let log = FileManager.default.temporaryDirectory.appending(path: "emq-\(UUID().uuidString).log").path
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = [
            "-c", "ulimit -n 48; exec \"$0\" --addr 127.0.0.1:0 2>\"$1\"", Server.executable.path, log,
        ]
        try process.run()
        defer {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        let port = try eventually("the start-up line") {
            let text = contents(of: log)
            return text.firstMatch(of: /:(\d+);/).flatMap { UInt16($0.1) }
        }
        var clients = try (0..<80).map { _ in try Client(port: port) }
        // The limit is 16 connections: the first are served, the others wait, and are served as soon as those close.
        for client in clients[..<16] { #expect(try client.get("/healthz").status == 200) }
        clients.removeFirst(70)
        for client in clients { #expect(try client.get("/healthz").status == 200) }
    }
}
