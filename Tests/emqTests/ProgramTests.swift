// The program as operators see it: options, addresses, signals.

import Foundation
import Net
import Support
import Testing

@testable import emq

@Suite(.blocking) struct ProgramTests {
    @Test(arguments: [
        ["--adr", ":1"], ["--addr"], ["--addr", "8080"], ["--addr", ":99999"], ["--addr", "::1:80"],
        ["--addr", "unix:"], ["--addr", ":1", "serve"], ["hepl"], ["journal", "copy", "x"], ["help", "frobnicate"],
        ["--drain", "x"], ["--drain", "-1"], ["--drain", "1", "--drain", "2"], ["--max-connections", "0"], ["sevre"],
        ["--push"], ["--push", ""], ["--push", "publik"], ["--push", "public,,private"], ["--push", "10.0.0.0/33"],
        ["--push", "10.0.0.1/8"], ["--push", "*"], ["--push", "http://example.com"], ["--push", "example.com:80"],
        ["--push", "loopback", "--push", "127.1"], ["-addr", "x"], ["-drain", "1"], ["--gc-freq", "5"],
        ["--gc-freq", "0s"], ["-gc-freq", "-5m"], ["--gc-freq", "5m6"], ["--gc-freq", "m"], ["--gc-freq", "1.2.3s"],
        ["--gc-freq="], ["--fsync", "a\nb"], ["-x\r\ny"], ["--taskqueue", "a\u{85}b\u{2028}\u{1B}[31m\n"],
    ])
    func badFlagsAreOneLineAndStatus2(arguments: [String]) throws {
        let result = try Server.run(arguments)
        #expect(result.status == 2)
        #expect(result.error.hasPrefix("emq") && result.error.contains(": ") && result.error.hasSuffix("\n"))
        #expect(result.error.filter { $0.isNewline }.count == 1)
        #expect(!result.error.dropLast().unicodeScalars.contains { $0.properties.generalCategory == .control })
        #expect(result.output.isEmpty)
    }

    @Test func theBeginningOfALongLineIsLogged() throws {
        let error = try Server.run(["--fsync", String(repeating: "é\n", count: 30_000)]).error
        #expect(error.hasPrefix("emq: --fsync must be always, never") && error.hasSuffix("…\n"))
        #expect(error.utf8.count < 40_000)
    }

    @Test func aWrongValueOfPushIsExplainedInOneSentence() throws {
        let sentence =
            "--push does not take '*'; write 0.0.0.0/0,::/0 for every address (emq serve --help lists the options)\n"
        #expect(try Server.run(["--push", "public,*"]).error == "emq: " + sentence)
        #expect(try Server.run([], environment: ["EMQ_PUSH": "*"]).error == "emq: EMQ_PUSH: " + sentence)
    }

    @Test(arguments: ["EMQ_ADDR", "EMQ_PUSH"])
    func badTwinsOfFlagsNameTheVariable(variable: String) throws {
        let result = try Server.run([], environment: [variable: "non sense"])
        #expect(result.status == 2)
        #expect(result.error.hasPrefix("emq: \(variable): "))
        #expect(result.error.filter { $0 == "\n" }.count == 1)
    }

    @Test func helpFitsAScreenAndVersionIsOneLine() throws {
        let help = try Server.run(["--help"])
        #expect(help.status == 0)
        #expect(help.output.contains("emq --addr :8080") && help.output.split(separator: "\n").count <= 50)
        #expect(try Server.run(["help"]).output == help.output)
        let version = try Server.run(["--version"])
        #expect(version.output.wholeMatch(of: /emq \d+\.\d+\.\d+( \(commit [0-9a-f]+\+?\))?\n/) != nil)
    }

    @Test(arguments: Command.all.map(\.name))
    func helpExplainsEachCommand(name: String) throws {
        let command = try #require(Command.named(name))
        let words = name.split(separator: " ").map(String.init)
        let help = try Server.run(words + ["--help"])
        #expect(help.status == 0 && help.error.isEmpty)
        #expect(help.output == command.help + "\n")
        #expect(try Server.run(["help"] + words).output == help.output)
        #expect(help.output.split(separator: "\n").allSatisfy { $0.count <= 110 })
        for option in command.options { #expect(help.output.contains(option.usage)) }
    }

    @Test func optionsHaveOneMeaningEach() {
        for command in Command.all {
            let spellings = command.allOptions.flatMap { $0.spellings + $0.otherNames }
            #expect(Set(spellings).count == spellings.count, "\(command.name)")
            #expect(command.summary.count <= 60 && !command.summary.hasSuffix("."))
            let needsNone = command.section == .hidden || command.name == "version"
            #expect(needsNone || !command.examples.isEmpty, "\(command.name) has no example")
        }
    }

    @Test(arguments: [
        (["--port", "8080"], "did you mean '--addr :8080'?"), (["--port=8080"], "did you mean '--addr :8080'?"),
        (["-p", "x"], "did you mean '--addr'?"), (["--listen", ":80"], "did you mean '--addr'?"),
        (["--dir", "/x"], "did you mean '--data'?"), (["--memory", "1G"], "did you mean '--max-memory'?"),
        (
            ["--data", "--fsync", "never"],
            "--data needs a value, but an option follows; if '--fsync' is the value, write --data=--fsync"
        ),
        (["--push", "everywhere"], "0.0.0.0/0,::/0"), (["--prt", "1"], "expected one of: --addr, "),
        (["--max-memory", "512MB"], "such as 512M"), (["--addr", "localhost"], "did you mean 'localhost:8080'?"),
        (["hepl"], "unknown command 'hepl'; did you mean 'help'? (emq help lists the commands)"),
        (["frobnicate"], "unknown command 'frobnicate' (emq help lists the commands)"),
        (["journal"], "'emq journal' is followed by one of: copy, check, repair"),
        (["journal", "chek", "x"], "unknown command 'journal chek'; did you mean 'check'?"),
        (["journal", "check"], "something is missing: emq journal check DIR"),
        (["journal", "check", "a", "b"], "unexpected 'b'; it takes DIR"),
        (["--addr", ":1", "sevre"], "unknown command 'sevre'; did you mean 'serve'? (emq help lists the commands)"),
        (["sevre"], "unknown command 'sevre'; did you mean 'serve'?"),
        (["--addr", ":1", "serve"], "put the command 'serve' before its options"),
    ])
    func wrongOptionsGetAHint(arguments: [String], words: String) throws {
        let result = try Server.run(arguments)
        #expect(result.status == 2 && result.error.contains(words), "\(result.error)")
        #expect(result.error.filter { $0 == "\n" }.count == 1)
    }

    @Test func anEmptyElementOfAListInTheEnvironmentIsRefused() throws {
        #expect(
            try Server.run([], environment: ["EMQ_ADDR": ","]).error.hasPrefix("emq: EMQ_ADDR: an address must be "))
    }

    @Test func aListOfHostsIsExplainedWhereItIsWrong() throws {
        let sentence = "--host takes a name such as queue.example.com, without scheme and port, not"
        let options = "(emq serve --help lists the options)\n"
        #expect(
            try Server.run([], environment: ["EMQ_HOST": "a.b,,c.d"]).error
                == "emq: EMQ_HOST: \(sentence) ''; separate several with commas \(options)")
        #expect(
            try Server.run(["--host", "a.b,c.d"]).error
                == "emq: \(sentence) 'a.b,c.d'; for several, repeat the option \(options)")
    }

    @Test func unknownVariablesAreReported() {
        func lines(_ variables: [String: String]) -> [String] { Options.strayVariables(of: variables) }
        let words = "which is not an option of this server"
        #expect(
            lines(["EMQ_MAX_MEMRY": "1", "EMQ_PORT": "8080", "EMQ_X": "", "EMQ_DATA": "x", "HOME": "/"]) == [
                "ignoring the variable EMQ_MAX_MEMRY, \(words); did you mean 'EMQ_MAX_MEMORY'?",
                "ignoring the variable EMQ_PORT, \(words); did you mean 'EMQ_ADDR'?",
                "ignoring the variable EMQ_X, \(words)",
            ])
        // Variables of clients, workers, tests and images; and those that Kubernetes and Docker set for a service
        // called emq.
        let others = [
            "EMQ_URL": "", "EMQ_TOKEN": "", "EMQ_ID": "", "EMQ_QUEUE": "", "EMQ_ATTEMPT": "", "EMQ_VERSION": "",
            "EMQ_TEST_OPERATIONS": "5", "EMQ_SERVICE_HOST": "10.0.0.1", "EMQ_SERVICE_PORT": "80",
            "EMQ_SERVICE_PORT_HTTP": "80", "EMQ_PORT": "tcp://10.0.0.1:80", "EMQ_PORT_80_TCP": "tcp://10.0.0.1:80",
            "EMQ_PORT_80_TCP_ADDR": "10.0.0.1", "EMQ_NAME": "/web/emq", "EMQ_ENV_PATH": "/bin",
        ]
        #expect(lines(others) == [])
    }

    @Test func anUnknownVariableDoesNotPreventTheStart() throws {
        let server = try Server(environment: ["EMQ_MAX_MEMRY": "1G"])
        _ = try eventually("both lines") { server.output.contains("listening on") ? true : nil }
        #expect(server.messages.first?.hasPrefix("ignoring the variable EMQ_MAX_MEMRY, which is not an option") == true)
    }

    @Test func aWrongClockIsReported() throws {
        try Emq.checkClock(0)
        try Emq.checkClock(1_800_000_000_000)
        for time in [-1, -86_400_000, Int64.min, 1 << 48] {
            let error = #expect(throws: SystemError.self) { try Emq.checkClock(time) }
            #expect(error?.description.hasPrefix("cannot start: the machine's clock is wrong") == true)
        }
    }

    /// Whether a program can have a mount namespace of its own on this machine.
    private static let canUnshare = (try? shell("unshare -m mount -t tmpfs none /proc"))?.status == 0

    private static func shell(_ command: String, _ arguments: String...) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", command, Server.executable.path] + arguments
        let output = Pipe()
        (process.standardOutput, process.standardError) = (output, output)
        try process.start()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }

    @Test(.enabled(if: canUnshare && !isSanitized, "skipped: it needs a mount namespace, and sanitizers need /proc"))
    func optionsAreReadWithoutProc() throws {
        let start = "mount -t tmpfs none /proc && exec \"$0\""
        let wrong = try Self.shell("unshare -m sh -c '\(start) --adr \"$1\"' \"$0\" \"$1\"", ":1")
        #expect(wrong.status == 2 && wrong.output.contains("unknown option '--adr'"), "\(wrong.output)")
        let version = try Self.shell("unshare -m sh -c '\(start) --version' \"$0\"")
        #expect(version.status == 0 && version.output.wholeMatch(of: /emq \d+\.\d+\.\d+\n/) != nil)
    }

    @Test func aFileInPlaceOfADirectoryIsReported() throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "emq-\(UUID().uuidString)").path
        #expect(FileManager.default.createFile(atPath: path, contents: Data("mine".utf8)))
        defer { try? FileManager.default.removeItem(atPath: path) }
        for (arguments, remedy) in [
            (["--addr", "127.0.0.1:0", "--data", path], "; name one, or move this away"),
            (["journal", "check", path], ""), (["journal", "repair", path], ""),
        ] {
            let result = try Server.run(arguments)
            #expect(result.status == 1)
            #expect(result.error.hasSuffix(" \(path): it is not a directory\(remedy)\n"), "\(result.error)")
            #expect(result.error.filter { $0 == "\n" }.count == 1)
        }
    }

    @Test func aDirectoryWithoutAJournalIsReportedAndNothingIsCreated() throws {
        let directory = DataDirectory()
        try FileManager.default.createDirectory(atPath: directory.path, withIntermediateDirectories: true)
        for command in ["check", "repair"] {
            let result = try Server.run(["journal", command, directory.path])
            #expect(result.status == 1)
            #expect(
                result.error
                    == "emq journal \(command): \(directory.path): there is no journal in this directory; name the directory given to --data\n"
            )
        }
        #expect(!FileManager.default.fileExists(atPath: directory.path + "-repaired"))
    }

    @Test func aWholeJournalNeedsNoRepair() throws {
        let directory = DataDirectory()
        let server = try Server(["--addr", "127.0.0.1:0", "--data", directory.path])
        _ = try eventually("the start") { try server.get("/healthz").status == 200 ? true : nil }
        try server.enqueue("q")
        server.signal(SIGTERM)
        #expect(try server.exitStatus() == 0)
        let copy = DataDirectory()
        let result = try Server.run(["journal", "repair", directory.path, copy.path])
        #expect(result.status == 0 && result.output.contains("is whole, so nothing is lost"), "\(result.output)")
        #expect(!result.output.contains("is gone"))
        let file = DataDirectory()
        #expect(FileManager.default.createFile(atPath: file.path, contents: Data()))
        for path in [copy.path, file.path] {
            let again = try Server.run(["journal", "repair", directory.path, path])
            #expect(again.status == 1)
            #expect(
                again.error
                    == "emq journal repair: \(path): it already exists; name a directory that does not exist yet\n")
        }
    }

    @Test func aServerWhoseLogHasNoReaderServesAndStops() throws {
        let pipe = try NarrowPipe()
        pipe.fill()
        let path = FileManager.default.temporaryDirectory.appending(
            path: "emq-\(UInt32.random(in: 0...UInt32.max)).sock"
        ).path
        let process = Process()
        process.executableURL = Server.executable
        process.arguments = ["--addr", "unix:\(path)"]
        process.standardError = FileHandle(fileDescriptor: pipe.writing)
        try process.start()
        defer { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }
        let client = try eventually("the server") { try? Client(path: path) }
        #expect(try client.get("/healthz").status == 200)
        kill(process.processIdentifier, SIGTERM)
        _ = try eventually("the end of the program") { process.isRunning ? nil : true }
        #expect(process.terminationStatus == 0)
    }

    @Test func aPortInUseIsReportedInOneLineWithStatus1() throws {
        let server = try Server()
        let result = try Server.run(["--addr", "127.0.0.1:\(server.port)"])
        #expect(result.status == 1)
        #expect(result.error.contains("127.0.0.1:\(server.port)") && result.error.contains("in use"))
        #expect(result.error.contains("stop the program that uses it, or choose another address"))
        #expect(result.error.filter { $0 == "\n" }.count == 1)
    }

    @Test func theEnvironmentCanHoldSeveralAddressesAndAnEmptyVariableIsIgnored() throws {
        let server = try Server([], environment: ["EMQ_ADDR": "127.0.0.1:0,127.0.0.1:0", "EMQ_DRAIN": ""])
        #expect(server.output.matches(of: /127\.0\.0\.1:\d+/).count == 2)
    }

    @Test func theEnvironmentSetsWhatFlagsDoNot() throws {
        let server = try Server(["serve"], environment: ["EMQ_ADDR": "127.0.0.1:0"])
        #expect(try server.get("/healthz").object["status"] as? String == "ok")
        #expect(server.output.contains("tasks live in memory"))
    }

    @Test func itListensOnAUnixSocketAndReplacesAnAbandonedOne() throws {
        let path = FileManager.default.temporaryDirectory.appending(
            path: "emq-\(UInt32.random(in: 0...UInt32.max)).sock"
        ).path
        let server = try Server(["--addr", "127.0.0.1:0", "--addr", "unix:\(path)"])
        #expect(try Client(path: path).get("/healthz").status == 200)
        // A socket in use is not replaced.
        #expect(try Server.run(["--addr", "unix:\(path)"]).status == 1)
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

    @Test func aServerThatDoesNotStartLeavesNoSocket() throws {
        let path = NSTemporaryDirectory() + "emq-\(UUID().uuidString.prefix(8)).sock"
        let other = try Server(["--addr", "127.0.0.1:0"])
        #expect(try Server.run(["--addr", "unix:\(path)", "--addr", "127.0.0.1:\(other.port)"]).status == 1)
        #expect(!FileManager.default.fileExists(atPath: path))
    }

    @Test func aFileInPlaceOfASocketIsKept() throws {
        let path = FileManager.default.temporaryDirectory.appending(
            path: "emq-\(UInt32.random(in: 0...UInt32.max)).txt"
        ).path
        #expect(FileManager.default.createFile(atPath: path, contents: Data("mine".utf8)))
        let result = try Server.run(["--addr", "unix:\(path)"])
        #expect(result.status == 1)
        #expect(result.error.filter { $0 == "\n" }.count == 1)
        #expect(result.error.contains("not a socket"))
        #expect(FileManager.default.contents(atPath: path) == Data("mine".utf8))
        try FileManager.default.removeItem(atPath: path)
    }

    @Test func localhostMeansAllOfItsAddressesWithOnePort() throws {
        let server = try Server(["--addr", "localhost:0"])
        #expect(try server.get("/healthz").status == 200)
    }

    @Test func aSIGTERMAnswersWaitingWorkersAndCountsLostTasks() throws {
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
        let last = try #require(server.messages.last)
        #expect(last == "stopped; 2 tasks in memory were discarded")
    }

    @Test func leasedTasksCanBeAcknowledgedWhileTheServerStops() throws {
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
        // The drain ends with the last leased task.
        #expect(try client.post("/ack", "{\"ids\": [\"\(receipt)\"]}").body == #"{"acked":1,"missing":[]}"#)
        #expect(try server.exitStatus() == 0)
        #expect(server.output.contains("1 task"))
    }

    @Test func aSecondSignalEndsTheServerAtOnce() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--drain", "3600"])
        let client = try server.connect()
        _ = try client.post("/enqueue/q", #"{"content": 1}"#)
        _ = try client.post("/wait", #"{"queues": ["q"]}"#)
        server.signal(SIGINT)
        _ = try eventually("the drain") { try client.get("/healthz").status == 503 ? true : nil }
        server.signal(SIGTERM)
        #expect(try server.exitStatus() == 0)
    }

    @Test func theDrainEndsAtItsTimeout() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--drain", "0.1"])
        let client = try server.connect()
        _ = try client.post("/enqueue/q", #"{"content": 1}"#)
        _ = try client.post("/wait", #"{"queues": ["q"]}"#)
        server.signal(SIGTERM)
        #expect(try server.exitStatus() == 0)
    }

    @Test(.plainOnly("over TLS, the clients that must wait would have to finish their handshakes at once"))
    func theServerSurvivesRunningOutOfDescriptors() throws {
        // A shell lowers the limit for the server alone.
        let log = FileManager.default.temporaryDirectory.appending(path: "emq-\(UUID().uuidString).log").path
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = [
            "-c", "ulimit -n 48; exec \"$0\" --addr 127.0.0.1:0 2>\"$1\"", Server.executable.path, log,
        ]
        try process.start()
        defer {
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        let port = try eventually("the start-up line") {
            let text = contents(of: log)
            return text.firstMatch(of: /:(\d+);/).flatMap { UInt16($0.1) }
        }
        var clients = try (0..<80).map { _ in try Client(port: port) }
        // The limit allows 16 connections: the first are served, and the others as soon as those close.
        for client in clients[..<16] { #expect(try client.get("/healthz").status == 200) }
        clients.removeFirst(70)
        for client in clients { #expect(try client.get("/healthz").status == 200) }
    }
}
