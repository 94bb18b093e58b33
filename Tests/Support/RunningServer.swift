// The real program as tests run it: on a port of its own, and killed at the end of the test.

import Foundation

/// A program that starts has copies of this process's files for a moment, until it runs its own code. A connection that
/// is closed in that moment stays open, and a process that starts at the same time inherits what tells Foundation of
/// the end of this one. So neither happens while another program starts.
let starting = NSLock()

extension Process {
    /// Starts the program. Use this instead of `run`.
    public func start() throws { try starting.withLock { try run() } }
}

/// A running emq. It is killed with this object.
open class RunningServer: @unchecked Sendable {
    // @unchecked: nothing changes after the start but the process, which has a lock of its own.

    /// The process.
    public let process = Process()
    /// The port of its first address.
    public let port: UInt16
    private let log: URL

    /// The executable is in the folder in which the tests were built.
    public static let executable: URL = {
        let bundle = CommandLine.arguments.first { $0.contains(".xctest") } ?? CommandLine.arguments[0]
        var folder = URL(fileURLWithPath: bundle).deletingLastPathComponent()
        while folder.path != "/", !FileManager.default.isExecutableFile(atPath: folder.appending(path: "emq").path) {
            folder.deleteLastPathComponent()
        }
        return folder.appending(path: "emq")
    }()

    /// Starts the program, and waits until it listens. A shell runs `limit`, such as `ulimit -n 48`, before it.
    public init(
        _ arguments: [String] = ["--addr", "127.0.0.1:0"], environment: [String: String] = [:], limit: String? = nil
    ) throws {
        log = FileManager.default.temporaryDirectory.appending(path: "emq-\(UUID().uuidString).log")
        guard FileManager.default.createFile(atPath: log.path, contents: nil) else {
            throw Failure(description: "no file for the log: \(log.path)")
        }
        let executable = Self.executable
        process.executableURL = limit == nil ? executable : URL(fileURLWithPath: "/bin/sh")
        process.arguments = limit.map { ["-c", "\($0); exec \"$0\" \"$@\"", executable.path] + arguments } ?? arguments
        process.environment = programEnvironment
        if TestTLS.isOverTLS {
            let pair = try Certificates.shared.pair(.good)
            process.environment?["EMQ_TLS_CERT"] = pair.chain
            process.environment?["EMQ_TLS_KEY"] = pair.key
            process.environment?["EMQ_TLS_CA"] = try Certificates.shared.authorityFile
        }
        process.environment?.merge(environment) { $1 }
        let standardError = try FileHandle(forWritingTo: log)
        process.standardError = standardError
        // The program has its own. Foundation keeps its process, with this file, until it has noticed the end.
        defer { try? standardError.close() }
        try process.start()
        let log = log
        let line = try eventually("the start-up line") {
            let text = contents(of: log.path)
            return text.contains("\n") ? text : nil
        }
        let match = line.firstMatch(of: /https?:\/\/[^ ]*?:(\d+)/)
        port = match.flatMap { UInt16($0.1) } ?? 0
    }

    deinit {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        // Foundation would wait for its own thread, which may come late. It also takes the status.
        var information = siginfo_t()
        _ = uninterrupted { waitid(P_PID, id_t(process.processIdentifier), &information, WEXITED | WNOWAIT) }
        try? FileManager.default.removeItem(at: log)
    }

    /// Its standard error so far.
    public var output: String { contents(of: log.path) }

    /// Sends a signal to the program.
    public func signal(_ number: Int32) { kill(process.processIdentifier, number) }

    /// Waits for the program's end, and returns its status.
    public func exitStatus() throws -> Int32 {
        try eventually("the end of the program") { [process] in process.isRunning ? nil : process.terminationStatus }
    }
}

/// The environment of the programs that tests run: without the servers, files and wishes of whoever runs the tests.
public let programEnvironment: [String: String] = {
    var environment = ProcessInfo.processInfo.environment.filter {
        !$0.key.hasPrefix("EMQ_") && !["NOTIFY_SOCKET", "NO_COLOR", "VISUAL", "EDITOR"].contains($0.key)
    }
    for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME"] { environment[name] = "/nonexistent" }
    return environment
}()

/// The text of a file. Foundation's own reader leaks when the file is empty, which the address sanitizer reports.
public func contents(of path: String) -> String {
    guard let file = fopen(path, "r") else { return "" }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 65536)
    var all: [UInt8] = []
    while case let count = fread(&bytes, 1, bytes.count, file), count > 0 { all += bytes[..<count] }
    return String(decoding: all, as: UTF8.self)
}

/// Asks again until there is an answer, for up to two minutes, since the machine may be slow.
public func eventually<Value>(_ what: String, _ question: () throws -> Value?) throws -> Value {
    let deadline = Date(timeIntervalSinceNow: 120)
    while true {
        if let value = try question() { return value }
        if Date() > deadline { throw Failure(description: "waited in vain for \(what)") }
        usleep(2000)
    }
}

/// Runs what blocks on a thread of its own, so that it holds up no other test.
public func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await withCheckedThrowingContinuation { continuation in
        Thread { continuation.resume(with: Result { try body() }) }.start()
    }
}
