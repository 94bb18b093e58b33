// The client's commands as users run them, and a proxy that loses answers.

import Foundation
import Support
import Testing

/// Runs client's commands against a server. They have a home folder of their own, which goes away with this object.
final class ClientProgram {
    /// How a command ended.
    typealias Result = (status: Int32, output: String, error: String)

    let folder: URL
    private let port: UInt16

    /// Runs commands against the server, or a proxy to it, at this port.
    init(port: UInt16) throws {
        self.port = port
        folder = FileManager.default.temporaryDirectory.appending(path: "emq-client-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    /// Writes a file, and returns its path.
    func file(_ name: String, _ text: String) throws -> String {
        let url = folder.appending(path: name)
        try Data(text.utf8).write(to: url)
        return url.path
    }

    /// A command that is not started yet. Its output and its errors go into the files `output` and `error`.
    func command(_ arguments: [String], environment: [String: String] = [:]) throws -> Process {
        let process = Process()
        process.executableURL = Server.executable
        process.arguments = arguments
        process.currentDirectoryURL = folder
        var all = [
            "PATH": "/usr/bin:/bin", "HOME": folder.path, "XDG_STATE_HOME": folder.path + "/.local/state",
            "EMQ_URL": "\(TestTLS.scheme)://localhost:\(port)",
        ]
        if TestTLS.isOverTLS { all["EMQ_CA"] = try Certificates.shared.authorityFile }
        process.environment = programEnvironment.merging(all.merging(environment) { $1 }) { $1 }
        for (name, path) in [("output", outputPath), ("error", errorPath)] {
            #expect(FileManager.default.createFile(atPath: path, contents: nil), "no file for the \(name)")
        }
        process.standardOutput = try FileHandle(forWritingTo: URL(fileURLWithPath: outputPath))
        process.standardError = try FileHandle(forWritingTo: URL(fileURLWithPath: errorPath))
        process.standardInput = FileHandle.nullDevice
        return process
    }

    private var outputPath: String { folder.appending(path: "output").path }
    private var errorPath: String { folder.appending(path: "error").path }

    /// What the last command has printed so far.
    var error: String { contents(of: errorPath) }

    /// The end of a command that has been started.
    func end(of process: Process) throws -> Result {
        let status: Int32 = try eventually("the end of emq \(process.arguments ?? [])") {
            process.isRunning ? nil : process.terminationStatus
        }
        return (status, contents(of: outputPath), error)
    }

    /// Runs a command to its end.
    func run(_ arguments: String..., input: String? = nil, environment: [String: String] = [:]) throws -> Result {
        let process = try command(arguments, environment: environment)
        if let input { process.standardInput = FileHandle(forReadingAtPath: try file("input", input)) }
        try process.start()
        return try end(of: process)
    }
}

/// Passes requests on to a server. It may lose or hold the answers to POST requests.
final class Proxy {
    /// What becomes of a request.
    enum Fate: Equatable {
        case pass
        /// The server gets it, and the client gets this answer instead of the server's.
        case reply(String)
        /// The server gets it, and the client gets no answer.
        case lose
        /// The server gets it, and the client gets the answer when the test calls `release`.
        case hold
    }

    let port: UInt16
    private let state: ProxyState

    /// Passes requests on to a server. The first POST requests have these fates; the others pass. Requests with more
    /// bytes than `maximumBytes` are refused.
    init(to server: Server, _ fates: [Fate] = [], maximumBytes: Int = .max) throws {
        let listener = try TestSocket(listeningAt: .ipv4(port: 0), backlog: 16, tls: TestTLS.suiteServer)
        port = listener.localPort
        state = ProxyState(listener: listener, serverPort: server.port, fates: fates, maximumBytes)
        let state = state
        Thread { state.accept() }.start()
    }

    deinit { state.end() }

    /// How many POST requests the server has answered.
    var postCount: Int { state.locked { $0.posts } }

    func release() { state.locked { $0.isReleased = true } }
}

/// What a proxy's threads share.
private final class ProxyState: @unchecked Sendable {
    // The lock guards everything that changes.
    struct Values {
        var fates: [Proxy.Fate]
        var posts = 0
        var isReleased = false
        var isEnding = false
    }

    private let listener: TestSocket
    private let serverPort: UInt16
    private let maximumBytes: Int
    private let lock = NSLock()
    private var values: Values

    init(listener: TestSocket, serverPort: UInt16, fates: [Proxy.Fate], _ maximumBytes: Int) {
        (self.listener, self.serverPort, self.maximumBytes) = (listener, serverPort, maximumBytes)
        values = Values(fates: fates)
    }

    func locked<Result>(_ body: (inout Values) -> Result) -> Result { lock.withLock { body(&values) } }

    func end() {
        locked { $0.isEnding = true }
        listener.shutDown()
    }

    func accept() {
        while let connection = listener.accept() { Thread { self.serve(connection) }.start() }
    }

    private func serve(_ connection: TestSocket) {
        guard let server = try? Client(port: serverPort) else { return }
        var buffer: [UInt8] = []
        while let request = next(on: connection, &buffer) {
            if request.count > maximumBytes {
                let text = "HTTP/1.1 413 Too large\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
                if !connection.send(Array(text.utf8)) { return }
                continue
            }
            let isPost = request.starts(with: Array("POST ".utf8))
            let fate = locked { isPost && !$0.fates.isEmpty ? $0.fates.removeFirst() : .pass }
            guard server.send(request), let answer = try? server.response() else { return }
            if isPost { locked { $0.posts += 1 } }
            if fate == .lose { return }
            if case .reply(let text) = fate {
                if !connection.send(Array(text.utf8)) { return }
                continue
            }
            while fate == .hold, locked({ !$0.isReleased && !$0.isEnding }) { usleep(2000) }
            var head = "HTTP/1.1 \(answer.status) Status\r\n"
            for (name, value) in answer.fields where name != "connection" { head += "\(name): \(value)\r\n" }
            if !connection.send(Array("\(head)\r\n\(answer.body)".utf8)) { return }
        }
    }

    /// The next request, whole; nil at the end.
    private func next(on connection: TestSocket, _ buffer: inout [UInt8]) -> [UInt8]? {
        while true {
            if let end = buffer.firstRange(of: Array("\r\n\r\n".utf8)) {
                let head = String(decoding: buffer[..<end.lowerBound], as: UTF8.self)
                let line = head.components(separatedBy: "\r\n").first { $0.hasPrefix("Content-Length: ") }
                let count = end.upperBound + (line.flatMap { Int($0.dropFirst(16)) } ?? 0)
                if buffer.count >= count {
                    let request = Array(buffer[..<count])
                    buffer.removeSubrange(..<count)
                    return request
                }
            }
            while !connection.isReadable(withinMilliseconds: 5) { if locked({ $0.isEnding }) { return nil } }
            guard let chunk = try? connection.receive(), !chunk.isEmpty else { return nil }
            buffer += chunk
        }
    }
}
