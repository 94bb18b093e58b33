// The real program, on a port of its own, and an HTTP client for it.

import Foundation
import Support
import Testing

/// A running emq. It is killed with this object.
final class Server: RunningServer, @unchecked Sendable {
    func connect() throws -> Client { try Client(port: port, expectsLines: true) }

    /// One request on a connection of its own.
    @discardableResult
    func post(_ path: String, _ json: String) throws -> Response { try connect().post(path, json) }

    func get(_ path: String) throws -> Response { try connect().get(path) }

    /// One request with another method.
    @discardableResult
    func send(_ method: String, _ path: String, _ json: String? = nil) throws -> Response {
        let client = try connect()
        let fields = json == nil ? "" : "Content-Type: application/json\r\n"
        let body = json ?? ""
        client.send(
            "\(method) \(path) HTTP/1.1\r\nHost: localhost\r\n\(fields)Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
        )
        return try client.response()
    }

    /// Adds a task whose fields are `json`, and returns its id.
    @discardableResult
    func enqueue(_ queue: String, _ json: String = #""content": 1"#) throws -> String {
        let answer = try post("/enqueue/\(queue)", "{\(json)}")
        #expect(answer.status == 200, "\(answer.body)")
        return try #require(try answer.object["id"] as? String)
    }

    /// Adds a task for each content, all in one request.
    @discardableResult
    func enqueueAll(_ queue: String, _ contents: [Int]) throws -> [String] {
        let tasks = contents.map { "{\"content\": \($0)}" }.joined(separator: ",")
        return try #require(try post("/enqueue/\(queue)", "[\(tasks)]").object["ids"] as? [String])
    }

    /// Takes up to `maximum` tasks of a queue, waiting for the first.
    func take(_ queue: String, _ maximum: Int = 1000, timeout: Int = 0) throws -> [[String: Any]] {
        let json = "{\"queues\": [\"\(queue)\"], \"max\": \(maximum), \"timeout\": \(timeout)}"
        return try post("/wait/", json).tasks.compactMap { $0 }
    }

    /// Takes tasks as `take` does, and returns their contents.
    func takeContents(_ queue: String, _ maximum: Int = 1000, timeout: Int = 0) throws -> [Int] {
        try take(queue, maximum, timeout: timeout).compactMap { $0["content"] as? Int }
    }

    func task(_ id: String) throws -> [String: Any] { try get("/task/\(id)").object }

    func state(_ id: String) throws -> String? { try task(id)["state"] as? String }

    /// Sends a request that is answered later, on a connection of its own, and returns when the server has it.
    func begin(_ method: String, _ path: String, _ json: String? = nil) throws -> Client {
        let client = try connect()
        if let json {
            client.sendPost(path, json)
        } else {
            client.send("\(method) \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n")
        }
        // A later request on another connection is served later.
        _ = try get("/healthz")
        return client
    }
}

extension Trait where Self == ConditionTrait {
    /// For tests about plain sockets.
    static func plainOnly(_ reason: String) -> Self { .disabled(if: TestTLS.isOverTLS, "skipped: \(reason)") }
}

/// An answer.
struct Response {
    let status: Int
    let fields: [String: String]
    let body: String

    /// The body, parsed by Foundation's JSON reader rather than the server's.
    var json: Any {
        get throws { try JSONSerialization.jsonObject(with: Data(body.utf8), options: .fragmentsAllowed) }
    }

    var object: [String: Any] {
        get throws { try #require(try json as? [String: Any]) }
    }

    /// The tasks of a wait or a peek; nil for each null.
    var tasks: [[String: Any]?] {
        get throws { try #require(try json as? [Any]).map { $0 as? [String: Any] } }
    }

    /// The field at fault, in a problem detail.
    var field: String? { try? object["field"] as? String }
}

/// A blocking connection to a server, with a timeout for each call.
final class Client {
    let socket: TestSocket
    private var buffer: [UInt8] = []
    /// Whether answers are those of emq's own interface: each body must end with a line feed, which is then removed,
    /// and each error must be a problem detail.
    private let expectsLines: Bool
    /// The requests without an answer yet, whose answers must agree with the contract.
    private var requests: [(method: String, target: String, body: String)] = []
    /// Whether a test has sent something else than whole requests, one at a time. Then nothing is known of the answers.
    private var isRaw = false

    init(port: UInt16, expectsLines: Bool = false) throws {
        self.expectsLines = expectsLines
        socket = try TestSocket(connectedTo: .ipv4(port: port), tls: TestTLS.suiteClient)
    }

    init(path: String) throws {
        expectsLines = true
        socket = try TestSocket(connectedTo: .path(path))
    }

    /// Sends bytes; false if the peer has closed.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        isRaw = true
        return socket.send(bytes)
    }

    @discardableResult
    func send(_ text: String) -> Bool {
        let line = text.prefix { $0 != "\r\n" }.split(separator: " ", omittingEmptySubsequences: false)
        let end = text.range(of: "\r\n\r\n")
        if line.count == 3, line[2] == "HTTP/1.1", let end, text[end.upperBound...].range(of: " HTTP/1.1\r\n") == nil {
            // Without a length, what follows is another request.
            let hasBody = text[..<end.lowerBound].range(of: "Content-Length:", options: .caseInsensitive) != nil
            requests.append((String(line[0]), String(line[1]), hasBody ? String(text[end.upperBound...]) : ""))
        } else {
            isRaw = true
        }
        return socket.send(Array(text.utf8))
    }

    /// Ends the output; answers can still arrive.
    func halfClose() { socket.halfClose() }

    /// Makes the end of the connection a reset.
    func resetOnClose() { socket.resetOnClose() }

    /// Reads more bytes into the buffer; false at the end of input.
    private func fill() throws -> Bool {
        do {
            let chunk = try socket.receive()
            buffer += chunk
            return !chunk.isEmpty
        } catch let failure as SocketFailure {
            if failure.isTimeout { throw Failure(description: "no answer; so far: \(buffered)") }
            return false
        }
    }

    private var buffered: String { String(decoding: buffer.prefix(1000), as: UTF8.self) }

    /// The next answer, delimited by its Content-Length.
    func response(toHead: Bool = false) throws -> Response {
        var headEnd = buffer.firstRange(of: Array("\r\n\r\n".utf8))
        while headEnd == nil {
            guard try fill() else { throw Failure(description: "the connection ended; so far: \(buffered)") }
            headEnd = buffer.firstRange(of: Array("\r\n\r\n".utf8))
        }
        let end = try #require(headEnd)
        let lines = String(decoding: buffer[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\r\n")
        buffer.removeSubrange(..<end.upperBound)
        let status = try #require(Int(lines[0].split(separator: " ")[1]))
        var fields: [String: String] = [:]
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            fields[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
        }
        let length =
            toHead || status == 204 || status < 200 ? 0 : try #require(fields["content-length"].flatMap { Int($0) })
        while buffer.count < length {
            guard try fill() else { throw Failure(description: "the connection ended in a body: \(buffered)") }
        }
        var body = String(decoding: buffer[..<length], as: UTF8.self)
        buffer.removeSubrange(..<length)
        if expectsLines, length > 0 {
            #expect(body.last == "\n")
            body.removeLast()
        }
        let response = Response(status: status, fields: fields, body: body)
        if expectsLines, length > 0, status >= 400 { response.checkProblem() }
        checkContract(response)
        return response
    }

    /// Checks that an answer of emq's own interface agrees with its contract, and a request that it has accepted too.
    private func checkContract(_ response: Response) {
        guard expectsLines, !isRaw, response.status >= 200, !requests.isEmpty else { return }
        let (method, target, body) = requests.removeFirst()
        if max(response.body.utf8.count, body.utf8.count) > 1_000_000 { return }
        if response.status < 300 {
            let flaws = Contract.shared.flaws(ofRequest: body, to: method, target)
            #expect(flaws.isEmpty, "\(method) \(target) accepts, against the contract: \(body.prefix(500))")
        }
        let flaws = Contract.shared.flaws(response, to: method, target)
        #expect(
            flaws.isEmpty,
            "\(method) \(target) answers \(response.status), against the contract: \(response.body.prefix(500))")
    }

    /// Whether the server ends the connection with nothing more to read.
    func isEnded() throws -> Bool { try buffer.isEmpty && !fill() }

    static func postText(_ path: String, _ json: String, _ fields: String = "") -> String {
        "POST \(path) HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\(fields)"
            + "Content-Length: \(json.utf8.count)\r\n\r\n\(json)"
    }

    func sendPost(_ path: String, _ json: String, _ fields: String = "") {
        send(Client.postText(path, json, fields))
    }

    func post(_ path: String, _ json: String, _ fields: String = "") throws -> Response {
        sendPost(path, json, fields)
        return try response()
    }

    func get(_ path: String) throws -> Response {
        send("GET \(path) HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return try response()
    }
}
