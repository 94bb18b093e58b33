// Workers of `emq work` that tests start, look at, stop and kill.

import Foundation
import Support
import Testing

/// How tests run workers for a server.
struct WorkSite {
    let url: String

    init(port: UInt16) { url = "\(TestTLS.isOverTLS ? "https" : "http")://localhost:\(port)" }

    private func environment(_ more: [String: String]) throws -> [String: String] {
        var environment = ["EMQ_URL": url]
        if TestTLS.isOverTLS { environment["EMQ_CA"] = try Certificates.shared.authorityFile }
        return environment.merging(more) { $1 }
    }

    /// Runs a worker to its end.
    func run(
        _ arguments: [String], environment more: [String: String] = [:]
    ) throws -> (status: Int32, output: String, error: String) {
        try Server.run(["work"] + arguments, environment: try environment(more))
    }

    /// Starts a worker whose output goes to a file, or to a descriptor. `starter` is a command line that runs it.
    func start(
        _ arguments: [String], output: FileHandle? = nil, environment more: [String: String] = [:],
        through starter: [String] = []
    ) throws -> WorkerProcess {
        let line = starter + [Server.executable.path, "work"] + arguments
        return try WorkerProcess(line, output: output, environment: try environment(more))
    }
}

/// A running worker. It is killed with this object.
final class WorkerProcess {
    let process = Process()
    private let log = Scratch()

    fileprivate init(_ line: [String], output: FileHandle?, environment: [String: String]) throws {
        #expect(FileManager.default.createFile(atPath: log.path, contents: nil))
        process.executableURL = URL(fileURLWithPath: line[0])
        process.arguments = Array(line.dropFirst())
        process.environment = programEnvironment.merging(environment) { $1 }
        process.standardOutput = output ?? FileHandle.nullDevice
        process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: log.path))
        try process.start()
    }

    deinit {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        process.waitUntilExit()
    }

    /// Its log so far.
    var error: String { contents(of: log.path) }

    /// Waits until its log has a text.
    func waitFor(_ text: String) throws {
        _ = try eventually("'\(text)' in the log") { error.contains(text) ? true : nil }
    }

    func signal(_ number: Int32) { kill(process.processIdentifier, number) }

    /// Waits for its end.
    func exitStatus() throws -> Int32 {
        try eventually("the end of the worker") { [process] in process.isRunning ? nil : process.terminationStatus }
    }
}

/// A path for a file that commands write, to show what they do. The file is removed with this object.
final class Scratch {
    let path = FileManager.default.temporaryDirectory.appending(path: "emq-work-\(UUID().uuidString)").path

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// The whole lines in the file.
    var lines: [String] {
        let parts = contents(of: path).split(separator: "\n", omittingEmptySubsequences: false)
        return parts.dropLast().map(String.init)
    }

    /// Waits for a number of lines.
    @discardableResult
    func wait(_ count: Int) throws -> [String] {
        try eventually("\(count) lines of commands") { lines.count >= count ? lines : nil }
    }

    /// Waits for the numbers of processes.
    func processes(_ count: Int) throws -> [Int32] { try wait(count).compactMap { Int32($0) } }
}

/// Whether a process is there.
func isRunning(_ process: Int32) -> Bool { kill(process, 0) == 0 }
