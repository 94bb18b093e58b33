// A server for emq to send tasks to. It does what a test tells it, path by path, be that HTTP or not.

import Foundation
import Testing

/// A request that came to a receiver.
struct Received {
    let method: String
    let target: String
    /// The fields as they came.
    let fields: [(name: String, value: String)]
    let body: String
    /// Which of the receiver's connections it came on, counted from 1.
    let connection: Int

    /// A field's value, if it came exactly once.
    subscript(name: String) -> String? {
        let values = fields.filter { $0.name.lowercased() == name.lowercased() }.map(\.value)
        return values.count == 1 ? values[0] : nil
    }

    var id: String? { self["Emq-Task-Id"] }
}

/// What a receiver does when a request has come.
enum Step {
    case send(String)
    /// Sends this again and again, until the other side has closed.
    case sendEndlessly(String)
    /// Waits until the test opens the path, or the other side has closed.
    case hold
    /// Ends the connection.
    case close
    case reset

    /// A whole answer.
    static func answer(_ status: String, _ body: String = "", fields: String = "") -> Step {
        .send("HTTP/1.1 \(status)\r\n\(fields)Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
    }

    static let ok = answer("200 OK", "ok")
}

/// An HTTP server in the test's process, with a thread for each connection. It ends when the test lets go of it.
final class Receiver {
    let port: UInt16
    private let state: State

    /// Starts it at 127.0.0.1, at a port of the kernel's choice or at one that was used before.
    init(port: UInt16 = 0) throws {
        state = State(descriptor: try listen(port: port, backlog: 1024))
        self.port = try localPort(of: state.descriptor)
        let state = state
        Thread { state.accept() }.start()
    }

    deinit { state.end() }

    func url(_ path: String) -> String { "http://127.0.0.1:\(port)\(path)" }

    /// The `request` of a task, which goes to a path.
    func request(_ path: String, _ more: String = "") -> String { "\"request\": {\"url\": \"\(url(path))\"\(more)}" }

    /// Says what is done with the requests to a path: the first script with the first of them, and the last with all the others.
    /// What is not said is 200.
    func script(_ path: String, _ scripts: [Step]...) { state.locked { $0.scripts[path] = scripts } }

    /// Lets go of all requests that a path holds, now and later.
    func open(_ path: String) { state.locked { _ = $0.open.insert(path) } }

    /// What has come to a path, in its order.
    func received(_ path: String) -> [Received] { state.locked { $0.received.filter { $0.target == path } } }

    /// The requests of a path, once there are so many of them.
    @discardableResult
    func wait(_ path: String, _ count: Int = 1) throws -> [Received] {
        try eventually("\(count) requests to \(path)") {
            let requests = received(path)
            return requests.count >= count ? requests : nil
        }
    }

    /// How many requests to a path were not answered yet, at most, at any time.
    func peak(_ path: String) -> Int { state.locked { $0.peaks[path] ?? 0 } }

    /// How many requests to a path the other side has broken off while they were held.
    func brokenOff(_ path: String) -> Int { state.locked { $0.brokenOff[path] ?? 0 } }
}

/// What the threads of a receiver have in common.
private final class State: @unchecked Sendable {
    // Everything that changes is under the lock.
    struct Values {
        var scripts: [String: [[Step]]] = [:]
        var open: Set<String> = []
        var received: [Received] = []
        var inFlight: [String: Int] = [:]
        var peaks: [String: Int] = [:]
        var brokenOff: [String: Int] = [:]
        var isEnding = false
    }

    let descriptor: Int32
    private let lock = NSLock()
    private var values = Values()

    init(descriptor: Int32) { self.descriptor = descriptor }

    deinit { close(descriptor) }

    func locked<Result>(_ body: (inout Values) -> Result) -> Result { lock.withLock { body(&values) } }

    /// Ends all threads: the listener wakes up by this, and the connections look every few milliseconds.
    func end() {
        locked { $0.isEnding = true }
        shutdown(descriptor, Int32(SHUT_RDWR))
    }

    func accept() {
        var count = 0
        while case let connection = uninterrupted({ Glibc.accept(descriptor, nil, nil) }), connection >= 0 {
            count += 1
            let number = count
            Thread { self.serve(connection, number) }.start()
        }
    }

    // MARK: A connection

    private func serve(_ connection: Int32, _ number: Int) {
        defer { close(connection) }
        var buffer: [UInt8] = []
        while let request = next(on: connection, number, &buffer) {
            let path = request.target
            let script = locked { values in
                values.received.append(request)
                values.inFlight[path, default: 0] += 1
                values.peaks[path] = max(values.peaks[path] ?? 0, values.inFlight[path] ?? 0)
                guard let scripts = values.scripts[path], let last = scripts.last else { return [Step.ok] }
                if scripts.count > 1 { values.scripts[path]?.removeFirst() }
                return scripts.count > 1 ? scripts[0] : last
            }
            var isOpen = true
            for (index, step) in script.enumerated() where isOpen {
                // Before the answer is out: the other side may send the next request as soon as it has it.
                if index == script.count - 1 { locked { $0.inFlight[path, default: 0] -= 1 } }
                isOpen = perform(step, on: connection, path)
            }
            if !isOpen { return }
        }
    }

    private func perform(_ step: Step, on connection: Int32, _ path: String) -> Bool {
        switch step {
        case .send(let text): return Client.send(Array(text.utf8), to: connection)
        case .sendEndlessly(let text):
            let bytes = Array(text.utf8)
            while !locked({ $0.isEnding }), Client.send(bytes, to: connection) {}
            return false
        case .hold:
            while !locked({ $0.isEnding || $0.open.contains(path) }) {
                guard isReadable(connection) else { continue }
                // Nothing comes while a request is under way, but the end.
                locked { $0.brokenOff[path, default: 0] += 1 }
                return false
            }
            return true
        case .close: return false
        case .reset:
            var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
            setsockopt(connection, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
            return false
        }
    }

    /// The next request; nil at the end.
    private func next(on connection: Int32, _ number: Int, _ buffer: inout [UInt8]) -> Received? {
        while true {
            if let end = buffer.firstRange(of: Array("\r\n\r\n".utf8)) {
                var lines = String(decoding: buffer[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
                let words = lines.removeFirst().components(separatedBy: " ")
                let fields = lines.map { line in
                    let parts = line.components(separatedBy: ": ")
                    return (name: parts[0], value: parts.dropFirst().joined(separator: ": "))
                }
                let length = fields.first { $0.name == "Content-Length" }.flatMap { Int($0.value) } ?? 0
                if words.count == 3, buffer.count >= end.upperBound + length {
                    let body = String(decoding: buffer[end.upperBound..<end.upperBound + length], as: UTF8.self)
                    buffer.removeSubrange(..<(end.upperBound + length))
                    return Received(
                        method: words[0], target: words[1], fields: fields, body: body, connection: number)
                }
            }
            while !isReadable(connection) { if locked({ $0.isEnding }) { return nil } }
            var chunk = [UInt8](repeating: 0, count: 65536)
            let count = uninterrupted { recv(connection, &chunk, chunk.count, 0) }
            if count <= 0 { return nil }
            buffer += chunk[..<count]
        }
    }

    private func isReadable(_ connection: Int32) -> Bool {
        var poll = pollfd(fd: connection, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&poll, 1, 5) > 0
    }
}

/// A port at which connections never come about: its queue is full, and nobody takes any.
final class SilentPort {
    let port: UInt16
    private let descriptor: Int32
    private var connections: [Int32] = []

    init() throws {
        descriptor = try listen(port: 0, backlog: 0)
        port = try localPort(of: descriptor)
        // One is taken although the queue has no place; the kernel answers those after it no more.
        for _ in 0..<4 {
            let connection = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
            _ = withLoopback(port: port) { connect(connection, $0, $1) }
            connections.append(connection)
        }
        var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard uninterrupted({ Glibc.poll(&poll, 1, 120_000) }) == 1 else {
            throw TimedOut(description: "nothing connects to a port")
        }
    }

    deinit {
        for connection in connections + [descriptor] { close(connection) }
    }
}

/// A port at which nobody listens: one that was just free.
func unusedPort() throws -> UInt16 {
    let descriptor = try listen(port: 0, backlog: 1)
    defer { close(descriptor) }
    return try localPort(of: descriptor)
}

private func listen(port: UInt16, backlog: Int32) throws -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var yes: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
    guard withLoopback(port: port, { bind(descriptor, $0, $1) }) == 0, Glibc.listen(descriptor, backlog) == 0 else {
        throw TimedOut(description: "cannot listen: \(String(cString: strerror(errno)))")
    }
    return descriptor
}

private func localPort(of descriptor: Int32) throws -> UInt16 {
    var address = sockaddr_in()
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
    }
    try #require(status == 0)
    return UInt16(bigEndian: address.sin_port)
}

/// Calls `body` with the address 127.0.0.1 and a port.
private func withLoopback<Result>(
    port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
) -> Result {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
}
