// A server that emq pushes tasks to. For each path, it does what the test says, valid HTTP or not.

import Foundation
import Support
import Testing

/// A request that a receiver got.
struct Received {
    let method: String
    let target: String
    /// The fields, unchanged.
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

/// What a receiver does when it gets a request.
enum Step {
    case send(String)
    case sendBytes([UInt8])
    /// Sends this again and again until the peer closes.
    case sendEndlessly(String)
    /// Waits until the test opens the path, or the peer closes.
    case hold
    /// Waits until the peer ends its side of the connection.
    case awaitEnd
    /// Ends the connection.
    case close
    case reset

    /// A whole answer.
    static func answer(_ status: String, _ body: String = "", fields: String = "") -> Step {
        .send("HTTP/1.1 \(status)\r\n\(fields)Content-Length: \(body.utf8.count)\r\n\r\n\(body)")
    }

    static let ok = answer("200 OK", "ok")
}

/// An HTTP server in the test's process, with a thread for each connection. It ends with this object.
final class Receiver {
    let port: UInt16
    private let state: State

    /// Starts it at 127.0.0.1; port 0 lets the kernel choose.
    init(port: UInt16 = 0) throws {
        state = State(
            listener: try TestSocket(listeningAt: .ipv4(port: port), backlog: 1024, tls: TestTLS.suiteServer))
        self.port = state.listener.localPort
        let state = state
        Thread { state.accept() }.start()
    }

    deinit { state.end() }

    func url(_ path: String) -> String { "\(TestTLS.scheme)://127.0.0.1:\(port)\(path)" }

    /// The `request` of a task for a path.
    func request(_ path: String, _ more: String = "") -> String { "\"request\": {\"url\": \"\(url(path))\"\(more)}" }

    /// Sets the scripts of a path: the first is for the first request, and so on; the last is for all other requests.
    /// Without a script, the answer is that of `others`.
    func script(_ path: String, _ scripts: [Step]...) { state.locked { $0.scripts[path] = scripts } }

    /// What it does for paths without a script; at first, the answer is 200.
    func scriptOthers(_ steps: Step...) { state.locked { $0.others = steps } }

    /// Releases all requests that a path holds, now and later.
    func open(_ path: String) { state.locked { _ = $0.open.insert(path) } }

    /// The requests to a path, in order.
    func received(_ path: String) -> [Received] { state.locked { $0.received.filter { $0.target == path } } }

    /// Waits for this many requests to a path.
    @discardableResult
    func wait(_ path: String, _ count: Int = 1) throws -> [Received] {
        try eventually("\(count) requests to \(path)") {
            let requests = received(path)
            return requests.count >= count ? requests : nil
        }
    }

    /// The highest number of requests to a path that were unanswered at the same time.
    func peak(_ path: String) -> Int { state.locked { $0.peaks[path] ?? 0 } }

    /// How many requests to a path the peer aborted while they were held.
    func brokenOff(_ path: String) -> Int { state.locked { $0.brokenOff[path] ?? 0 } }
}

/// The state that a receiver's threads share.
private final class State: @unchecked Sendable {
    // The lock guards everything that changes.
    struct Values {
        var scripts: [String: [[Step]]] = [:]
        var others = [Step.ok]
        var open: Set<String> = []
        var received: [Received] = []
        var inFlight: [String: Int] = [:]
        var peaks: [String: Int] = [:]
        var brokenOff: [String: Int] = [:]
        var isEnding = false
    }

    let listener: TestSocket
    private let lock = NSLock()
    private var values = Values()

    init(listener: TestSocket) { self.listener = listener }

    func locked<Result>(_ body: (inout Values) -> Result) -> Result { lock.withLock { body(&values) } }

    /// Ends all threads: this wakes the listener, and the connections look every few milliseconds.
    func end() {
        locked { $0.isEnding = true }
        listener.shutDown()
    }

    func accept() {
        var count = 0
        while let connection = listener.accept() {
            count += 1
            let number = count
            Thread { self.serve(connection, number) }.start()
        }
    }

    // MARK: A connection

    private func serve(_ connection: TestSocket, _ number: Int) {
        var buffer: [UInt8] = []
        while let request = next(on: connection, number, &buffer) {
            let path = request.target
            let script = locked { values in
                values.received.append(request)
                values.inFlight[path, default: 0] += 1
                values.peaks[path] = max(values.peaks[path] ?? 0, values.inFlight[path] ?? 0)
                guard let scripts = values.scripts[path], let last = scripts.last else { return values.others }
                if scripts.count > 1 { values.scripts[path]?.removeFirst() }
                return scripts.count > 1 ? scripts[0] : last
            }
            var isOpen = true
            for (index, step) in script.enumerated() where isOpen {
                // Before the answer is sent, because the peer may send its next request as soon as it has it.
                if index == script.count - 1 { locked { $0.inFlight[path, default: 0] -= 1 } }
                isOpen = perform(step, on: connection, path)
            }
            if !isOpen { return }
        }
    }

    private func perform(_ step: Step, on connection: TestSocket, _ path: String) -> Bool {
        switch step {
        case .send(let text): return connection.send(Array(text.utf8))
        case .sendBytes(let bytes): return connection.send(bytes)
        case .sendEndlessly(let text):
            let bytes = Array(text.utf8)
            while !locked({ $0.isEnding }), connection.send(bytes) {}
            return false
        case .hold:
            while !locked({ $0.isEnding || $0.open.contains(path) }) {
                guard connection.isReadable(withinMilliseconds: 5) else { continue }
                // While a request is in flight, only the end of input can arrive.
                locked { $0.brokenOff[path, default: 0] += 1 }
                return false
            }
            return true
        case .awaitEnd:
            while !locked(\.isEnding) { if connection.isReadable(withinMilliseconds: 5) { return true } }
            return false
        case .close: return false
        case .reset:
            connection.resetOnClose()
            return false
        }
    }

    /// The next request; nil at the end.
    private func next(on connection: TestSocket, _ number: Int, _ buffer: inout [UInt8]) -> Received? {
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
            while !connection.isReadable(withinMilliseconds: 5) { if locked({ $0.isEnding }) { return nil } }
            guard let chunk = try? connection.receive(), !chunk.isEmpty else { return nil }
            buffer += chunk
        }
    }
}
