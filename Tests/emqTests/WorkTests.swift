// `emq work` with the real program: commands, their outcomes, and how they are stopped.

import Foundation
import Support
import Testing

@testable import emq

@Suite struct WorkTests {
    private let server: Server

    init() throws { server = try Server() }

    private var url: String { "\(TestTLS.isOverTLS ? "https" : "http")://localhost:\(server.port)" }

    private var environment: [String: String] {
        get throws {
            TestTLS.isOverTLS ? ["EMQ_URL": url, "EMQ_CA": try Certificates.shared.authorityFile] : ["EMQ_URL": url]
        }
    }

    private func work(_ arguments: [String]) throws -> (status: Int32, output: String, error: String) {
        try Server.run(["work"] + arguments, environment: try environment)
    }

    @Test func aCommandReadsTheContentAndWritesAResult() throws {
        let id = try #require(
            try server.post("/enqueue/w", #"{"content": {"n": "a b"}, "keep": 60, "metadata": {"x-y": "z"}}"#)
                .object["id"] as? String)
        let script = "cat; echo \" $EMQ_ID $EMQ_QUEUE $EMQ_ATTEMPT $EMQ_META_X_Y $1\"; echo 5 > $EMQ_RESULT_FILE"
        let result = try work(["w", "--exit-when-empty", "--", "sh", "-c", script, "sh", "{.n}"])
        #expect(result.status == 0)
        #expect(result.output == "{\"n\": \"a b\"} \(id) w 1 z a b\n", "\(result.error)")
        #expect(try server.get("/result/\(id)").object["result"] as? Int == 5)
    }

    @Test(arguments: [
        ("exit 3", "dead", "exit status 3: oops"), ("exit 65", "dead", "exit status 65: oops"),
        ("kill -9 $$", "dead", "killed by signal 9: oops"),
    ])
    func aFailureHasItsReason(script: String, state: String, error: String) throws {
        let id = try #require(
            try server.post("/enqueue/w", #"{"max_retries": 0}"#).object["id"] as? String)
        #expect(try work(["w", "--exit-when-empty", "--", "sh", "-c", "echo oops >&2; \(script)"]).status == 0)
        let task = try server.get("/task/\(id)").object
        #expect(task["state"] as? String == state && task["error"] as? String == error, "\(task)")
        #expect(task["log"] as? String == "oops\n")
    }

    @Test func aCommandThatCannotBeRunEndsTheWorkerAndCostsNothing() throws {
        let id = try #require(try server.post("/enqueue/w", #"{"max_retries": 0}"#).object["id"] as? String)
        let result = try work(["w", "--", "sh", "-c", "exit 127"])
        #expect(result.status == 1 && result.error.contains("the command cannot be run: exit status 127"))
        let task = try server.get("/task/\(id)").object
        #expect(task["state"] as? String == "ready" && task["attempt"] as? Int == 0, "\(task)")
        let missing = try work(["w", "--", "/nowhere/program"])
        #expect(missing.status == 2 && missing.error.contains("cannot run '/nowhere/program': No such file"))
    }

    /// Starts a worker, which a test stops or kills.
    private func start(_ arguments: [String]) throws -> Process {
        let process = Process()
        process.executableURL = Server.executable
        process.arguments = ["work"] + arguments
        process.environment = ProcessInfo.processInfo.environment.merging(try environment) { $1 }
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        return process
    }

    /// A file that a command makes, to show that it has begun.
    private static func marker() -> String {
        FileManager.default.temporaryDirectory.appending(path: "emq-work-\(UUID().uuidString)").path
    }

    /// Whether a process is there.
    private static func isRunning(_ process: Int32) -> Bool { kill(process, 0) == 0 }

    /// The process numbers in a file, once there are `count`.
    private static func processes(in path: String, count: Int) throws -> [Int32] {
        try eventually("the commands") {
            let numbers = contents(of: path).split(separator: "\n").compactMap { Int32($0) }
            return numbers.count == count ? numbers : nil
        }
    }

    @Test func noCommandOutlivesAKilledWorker() throws {
        try server.enqueue("w")
        let marker = Self.marker()
        defer { try? FileManager.default.removeItem(atPath: marker) }
        // A grandchild that holds the pipes, and ignores SIGTERM.
        let script = "trap '' TERM; sleep 600 & echo $! >> $0; echo $$ >> $0; wait"
        let worker = try start(["w", "--", "sh", "-c", script, marker])
        let processes = try Self.processes(in: marker, count: 2)
        kill(worker.processIdentifier, SIGKILL)
        worker.waitUntilExit()
        _ = try eventually("their end") { processes.contains(where: Self.isRunning) ? nil : true }
    }

    @Test func aStoppedWorkerGivesItsTasksBack() throws {
        let id = try server.enqueue("w")
        let marker = Self.marker()
        defer { try? FileManager.default.removeItem(atPath: marker) }
        let script = "trap '' TERM; echo $$ >> $0; sleep 600; sleep 600"
        let worker = try start(["w", "--grace", "100ms", "--", "sh", "-c", script, marker])
        let processes = try Self.processes(in: marker, count: 1)
        kill(worker.processIdentifier, SIGTERM)
        worker.waitUntilExit()
        #expect(worker.terminationStatus == 0)
        #expect(!Self.isRunning(processes[0]))
        let task = try server.task(id)
        #expect(task["state"] as? String == "ready" && task["attempt"] as? Int == 0, "\(task)")
    }

    @Test func aCancelledTaskStopsItsCommand() throws {
        let id = try server.enqueue("w", #""retry": 1"#)
        let marker = Self.marker()
        defer { try? FileManager.default.removeItem(atPath: marker) }
        let worker = try start(["w", "--max-tasks", "1", "--", "sh", "-c", "echo $$ >> $0; exec sleep 600", marker])
        let processes = try Self.processes(in: marker, count: 1)
        #expect(try server.send("DELETE", "/task/\(id)").status == 204)
        worker.waitUntilExit()
        #expect(worker.terminationStatus == 0 && !Self.isRunning(processes[0]))
    }

    @Test func aCommandMayReadNothingAndPrintMuch() throws {
        let content = String(repeating: "x", count: 1_000_000)
        let id = try #require(
            try server.post("/enqueue/w", "{\"content\": \"\(content)\", \"keep\": 60}").object["id"] as? String)
        // Nobody reads the worker's own output before its end.
        let result = try work(["w", "--exit-when-empty", "--", "sh", "-c", "yes | head -c 3000000"])
        #expect(result.status == 0 && result.output.utf8.count >= 65_536)
        #expect(try server.state(id) == "done")
    }
}
