// A server that behaves as a test says: it breaks connections, refuses, or passes requests on and loses the answers.

import Bytes
import Foundation
import Support

/// A server with a script. Each request takes the next step; the last step is repeated.
final class ScriptedServer: Sendable {
    /// What becomes of a request.
    enum Step: Sendable {
        /// This answer.
        case answer(_ status: Int, _ body: String = "", fields: String = "")
        /// These bytes; then the connection closes.
        case bytes(String)
        /// The connection closes without an answer.
        case close
        /// Nothing comes until the end of the test.
        case silence
        /// The real server answers.
        case pass
        /// The real server answers, and the connection closes after it.
        case passAndClose
        /// The real server gets the request. Its answer is lost, and the connection closes.
        case lose
        /// The real server gets the request, and the client gets this answer instead of the server's.
        case replace(_ status: Int, _ body: String)
    }

    /// A request that has arrived.
    struct Request: Sendable {
        let line: String
        let head: String
        let body: String

        var method: String { String(line.prefix { $0 != " " }) }
    }

    private struct State {
        var steps: [Step]
        var requests: [Request] = []
        var sockets: [TestSocket] = []
        var isEnding = false
    }

    private let listener: TestSocket
    private let serverPort: UInt16
    private let state: Locked<State>

    var url: String { "\(TestTLS.scheme)://localhost:\(listener.localPort)" }
    var requests: [Request] { state.with { $0.requests } }
    /// How many connections it has accepted.
    var connectionCount: Int { state.with { $0.sockets.count } }

    /// Listens on a free port, and passes requests on to `server`.
    init(_ steps: [Step], to server: RunningServer? = nil) throws {
        listener = try TestSocket(listeningAt: .ipv4(port: 0), tls: TestTLS.suiteServer)
        serverPort = server?.port ?? 0
        state = Locked(State(steps: steps))
        let (listener, state, serverPort) = (listener, state, serverPort)
        Thread {
            while let socket = listener.accept() {
                let isEnding = state.with { state in
                    state.sockets.append(socket)
                    return state.isEnding
                }
                if isEnding { return }
                Thread { Self.serve(socket, state, serverPort) }.start()
            }
        }.start()
    }

    deinit {
        let sockets = state.with { state in
            state.isEnding = true
            return state.sockets
        }
        listener.shutDown()
        for socket in sockets { socket.shutDown() }
    }

    /// Closes all connections that are there now, as a server does with idle ones.
    func closeConnections() { for socket in state.with({ $0.sockets }) { socket.shutDown() } }

    private static func serve(_ socket: TestSocket, _ state: Locked<State>, _ serverPort: UInt16) {
        var buffer: [UInt8] = []
        var server: TestSocket?
        while let request = message(from: socket, &buffer) {
            let step = state.with { state in
                state.requests.append(read(request))
                return state.steps.count > 1 ? state.steps.removeFirst() : state.steps[0]
            }
            func answer() -> [UInt8]? {
                if server == nil {
                    server = try? TestSocket(connectedTo: .ipv4(port: serverPort), tls: TestTLS.suiteClient)
                }
                var rest: [UInt8] = []
                guard let server, server.send(request) else { return nil }
                return message(from: server, &rest)
            }
            switch step {
            case .answer(let status, let body, let fields): socket.send(response(status, body, fields))
            case .bytes(let text):
                socket.send(Array(text.utf8))
                return socket.shutDown()
            case .close: return socket.shutDown()
            case .silence: break
            case .pass, .passAndClose:
                guard let bytes = answer() else { return socket.shutDown() }
                socket.send(bytes)
                if case .passAndClose = step { return socket.shutDown() }
            case .lose:
                _ = answer()
                return socket.shutDown()
            case .replace(let status, let body):
                _ = answer()
                socket.send(response(status, body, ""))
            }
        }
        socket.shutDown()
    }

    private static func response(_ status: Int, _ body: String, _ fields: String) -> [UInt8] {
        let type = body.hasPrefix("<") ? "text/html" : "application/json"
        let head = "HTTP/1.1 \(status) Status\r\nContent-Type: \(type)\r\n\(fields)"
        return Array("\(head)Content-Length: \(body.utf8.count)\r\n\r\n\(body)".utf8)
    }

    private static func read(_ bytes: [UInt8]) -> Request {
        let text = String(decoding: bytes, as: UTF8.self)
        let end = text.range(of: "\r\n\r\n") ?? text.endIndex..<text.endIndex
        let line = text.components(separatedBy: "\r\n")[0]
        return Request(line: line, head: String(text[..<end.lowerBound]), body: String(text[end.upperBound...]))
    }

    /// The next request or answer, whole; nil at the end.
    private static func message(from socket: TestSocket, _ buffer: inout [UInt8]) -> [UInt8]? {
        while true {
            if let end = buffer.firstRange(of: Array("\r\n\r\n".utf8)) {
                let head = String(decoding: buffer[..<end.lowerBound], as: UTF8.self).lowercased()
                let line = head.components(separatedBy: "\r\n").first { $0.hasPrefix("content-length: ") }
                let count = end.upperBound + (line.flatMap { Int($0.dropFirst(16)) } ?? 0)
                if buffer.count >= count {
                    defer { buffer.removeSubrange(..<count) }
                    return Array(buffer[..<count])
                }
            }
            guard let chunk = try? socket.receive(), !chunk.isEmpty else { return nil }
            buffer += chunk
        }
    }
}

/// The body of an error of emq's.
func problem(_ type: String, _ status: Int) -> String {
    #"{"type":"urn:emq:error:\#(type)","title":"\#(type)","status":\#(status),"detail":"detail of \#(type)"}"#
}
