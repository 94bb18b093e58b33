// The configuration file of delay-tasks: how an operator names it, what emq takes from it, and its errors.

import Foundation
import Net
import Support
import Testing

@testable import emq

@Suite(.blocking) final class DelayTasksFileTests {
    private let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "emq-\(UUID().uuidString)")
        try FileManager.default.createDirectory(
            at: folder.appending(path: "home"), withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    /// Writes a file, and returns its path.
    private func write(_ name: String, _ text: String) throws -> String {
        let file = folder.appending(path: name)
        try Data(text.utf8).write(to: file)
        return file.path
    }

    /// The file that delay-tasks ships, with a home of its own.
    private func writeSample() throws -> String {
        try write(
            "conf.json",
            """
            {
            \t"listen-host": "",
            \t"listen-port": 7080,
            \t"cb-retry-times": 3,
            \t"saving-home": "home"
            }

            """)
    }

    private func options(_ arguments: String..., confFile: String? = nil) throws(UsageError) -> Options {
        try Options(arguments) { $0 == "CONF_FILE" ? confFile : nil }
    }

    /// The reason why options are refused.
    private func refusal(_ arguments: String..., confFile: String? = nil) -> String {
        do {
            _ = try Options(arguments) { $0 == "CONF_FILE" ? confFile : nil }
            return "accepted"
        } catch {
            return error.description
        }
    }

    // MARK: Options

    @Test func theOptionNamesTheFileOrTakesItFromTheEnvironment() throws {
        let path = try writeSample()
        for read in [
            try options("--delay-tasks", path), try options("--delay-tasks=\(path)"),
            try options("--delay-tasks", confFile: path), try options("--delay-tasks", "--drain", "3", confFile: path),
            try options("--delay-tasks", path, confFile: "/nowhere.json"),
        ] {
            #expect(read.services.map(\.endpoint.address) == [.tcp(host: "", port: 7080)])
            #expect(read.systems == [.delayTasks])
            #expect(read.delayTasksFile?.attempts == 3)
        }
    }

    @Test func theAddressOfTheOptionTakesPrecedence() throws {
        let path = try writeSample()
        for read in [
            try options("--delay-tasks", ":1", confFile: path),
            try options("--delay-tasks", ":1", "--delay-tasks", path),
        ] {
            #expect(read.services.map(\.endpoint.address) == [.tcp(host: "", port: 1)])
            #expect(read.delayTasksFile != nil)
        }
        #expect(try options("--delay-tasks", "unix:/a/b.json").delayTasksFile == nil)
    }

    @Test func withoutTheOptionTheVariableMeansNothing() throws {
        #expect(try options(confFile: "/nowhere.json").services.isEmpty)
        #expect(refusal("--delay-tasks") == "--delay-tasks needs a value")
        #expect(refusal("--delay-tasks", "--drain", "3").hasPrefix("--delay-tasks needs a value"))
    }

    @Test func theTimeoutHasAnOption() throws {
        #expect(try options("--delay-tasks", ":1").delayTasksTimeoutMilliseconds == 5000)
        #expect(try options("--delay-tasks", ":1", "--delay-tasks-timeout", "0.5").delayTasksTimeoutMilliseconds == 500)
        for value in ["0", "-1", "x", "86401", "nan"] {
            #expect(
                refusal("--delay-tasks", ":1", "--delay-tasks-timeout", value)
                    == "--delay-tasks-timeout must be a number of seconds from 0.001 to 86400, or a duration such as 5m, not '\(value)'"
            )
        }
        #expect(refusal("--delay-tasks-timeout", "3") == "--delay-tasks-timeout requires --delay-tasks")
    }

    // MARK: The file

    @Test func itIsReadAsGoReadsIt() throws {
        let path = try write(
            "conf.json",
            #"{"Listen-Host":"127.0.0.1","LISTEN-PORT":1,"listen-port":2,"cb-retry-times":null,"log":[1]} more"#)
        let file = try DelayTasksFile(path: path)
        #expect(file.address == .tcp(host: "127.0.0.1", port: 2))
        #expect(file.attempts == 3 && file.handlers.isEmpty)
        #expect(
            file.startEvents(isAddressUsed: true).map(\.message)
                == ["read '\(path)' for delay-tasks: 3 attempts for each task; ignoring log"])
        #expect(
            file.startEvents(isAddressUsed: false).map(\.message)
                == [
                    "read '\(path)' for delay-tasks: 3 attempts for each task; ignoring listen-host, listen-port, log"
                ])
    }

    @Test(arguments: [("1", 1), ("5", 5), ("6", 3), ("0", 3), ("-1", 3)])
    func theNumberOfAttemptsIsFrom1To5(_ written: String, _ attempts: Int) throws {
        let path = try write("conf.json", #"{"listen-port":1,"cb-retry-times":\#(written)}"#)
        let read = try options("--delay-tasks", path)
        let server = try VirtualServer(
            Adapters(frontEnds: [LegacySystem.delayTasks.makeAdapter(read).frontEnd], couriers: [DelayTasksCourier()]))
        let task = #"{"timestamp":\#(server.now / 1000),"key":7,"handler":"http://127.0.0.1:8888/"}"#
        #expect(try server.send("POST", "/task/mail", task).status == 200)
        for _ in 1...10 {
            server.failAll(.broken(authority: "127.0.0.1:8888", isReset: false))
            server.advance(seconds: 100)
        }
        #expect(server.postbox.started == attempts)
    }

    @Test func theHandlersOfItsHomeAreRegisteredUnlessThereAreNewerOnes() throws {
        _ = try write(
            "home/delay-task-handlers.json",
            """
            {"mail": "http://127.0.0.1:1/old", "": "http://127.0.0.1:1/empty", "ftp": "ftp://127.0.0.1/",
            "post": "http://127.0.0.1:1/post"}
            """)
        let file = try DelayTasksFile(path: try writeSample())
        #expect(file.handlers.map(\.category) == ["", "mail", "post"])
        let lines = file.startEvents(isAddressUsed: true).map(\.message)
        #expect(lines[0].hasSuffix("; ignoring the tasks in saving-home"))
        #expect(lines.count == 2 && lines[1].contains("ignoring the handler of 'ftp': a URL begins with http"))
        let directory = DataDirectory()
        let arguments = ["--addr", "127.0.0.1:0", "--delay-tasks", "127.0.0.1:0", "--data", directory.path]
        func start() throws -> Server {
            let server = try Server(arguments, environment: ["CONF_FILE": file.path])
            _ = try eventually("the journal to be read") { try server.get("/healthz").status == 200 ? true : nil }
            return server
        }
        func handler(_ category: String, _ server: Server) throws -> String? {
            let push = try server.get("/config/delay-tasks%2F\(category)").object["push"] as? [String: Any]
            return push?["url"] as? String
        }
        do {
            let server = try start()
            #expect(try handler("mail", server) == "http://127.0.0.1:1/old")
            #expect(try handler("", server) == "http://127.0.0.1:1/empty")
            _ = try eventually("the line of the handlers") {
                server.output.contains(
                    "registered the handlers in '\(folder.path)/home/delay-task-handlers.json' of these categories, "
                        + "which had none: '', 'mail', 'post'\n") ? true : nil
            }
            #expect(
                try server.ask("delay-tasks", "POST", "/handler/mail", #"{"handler":"http://127.0.0.1:1/new"}"#).status
                    == 200)
            try server.crash()
        }
        let server = try start()
        #expect(try handler("mail", server) == "http://127.0.0.1:1/new")
        #expect(try handler("post", server) == "http://127.0.0.1:1/post")
        #expect(!server.output.contains("registered"))
    }

    // MARK: Errors

    @Test(arguments: [
        ("{", "the file is not valid JSON: at byte 1:"), ("[]", "the file must be a JSON object, not an array"),
        (#"{"listen-port":"7080"}"#, "listen-port must be a whole number, not a string"),
        (#"{"listen-port":1.5}"#, "listen-port must be a whole number, not 1.5"),
        (#"{"listen-port":70800}"#, "listen-host and listen-port: a port must be"),
        (#"{"listen-host":7,"listen-port":1}"#, "listen-host must be a string, not a number"),
        (#"{"listen-port":1,"saving-home":"nowhere"}"#, "/nowhere' is not a directory; a relative one begins at"),
        (#"{"saving-home":"home"}"#, " has no listen-port; add one such as 7080, or use --delay-tasks :7080"),
    ])
    func aFileThatCannotBeUsedIsNamed(_ text: String, _ reason: String) throws {
        let path = try write("conf.json", text)
        let said = refusal("--delay-tasks", path)
        #expect(said.hasPrefix(path) && said.contains(reason), "\(said)")
    }

    @Test func filesThatCannotBeReadAreNamed() throws {
        #expect(refusal("--delay-tasks", "/nowhere.json") == "cannot read '/nowhere.json': No such file or directory")
        #expect(
            refusal("--delay-tasks", ":1", confFile: "/nowhere.json")
                == "CONF_FILE: cannot read '/nowhere.json': No such file or directory")
        let path = try writeSample()
        #expect(
            refusal("--delay-tasks", path, "--delay-tasks", path) == "--delay-tasks names two files; name one")
        let handlers = try write("home/delay-task-handlers.json", #"{"mail":7}"#)
        #expect(refusal("--delay-tasks", path) == "\(handlers): mail must be a string, not a number")
        let server = try Server(["--addr", "127.0.0.1:0", "--delay-tasks", path])
        #expect(try server.exitStatus() == 2)
        #expect(server.output.contains(handlers))
    }
}
