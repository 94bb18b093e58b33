// Streams of events: what they send, when, to whom, and how they end.

import Foundation
import Support
import Testing

@testable import emq

/// A client of a stream of events.
private final class EventClient {
    struct Event: Equatable {
        let name: String
        let data: String

        /// The data, as a JSON object.
        var object: [String: Any] {
            get throws { try #require(try JSONSerialization.jsonObject(with: Data(data.utf8)) as? [String: Any]) }
        }
    }

    let socket: TestSocket
    private var bytes: [UInt8] = []
    let head: String

    /// With `isReused`, the connection has had another request before.
    init(
        _ server: Server, _ targets: [String], query: String = "", fields: [String] = [], isReused: Bool = false
    ) throws {
        socket = try TestSocket(connectedTo: .ipv4(port: server.port), tls: TestTLS.suiteClient)
        if isReused {
            socket.send(Array("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8))
            #expect(try !socket.receive().isEmpty)
        }
        let gets = targets.map { "get=" + ($0.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? "") }
        let lines = ["GET /events?\(gets.joined(separator: "&"))\(query) HTTP/1.1", "Host: localhost"] + fields
        socket.send(Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8))
        var head: [UInt8] = []
        while true {
            if let end = head.firstRange(of: Array("\r\n\r\n".utf8)) {
                bytes = Array(head[end.upperBound...])
                self.head = String(decoding: head[..<end.lowerBound], as: UTF8.self)
                return
            }
            let more = try socket.receive()
            guard !more.isEmpty else { throw Failure(description: "the connection ended") }
            head += more
        }
    }

    /// The next event; nil at the end of the stream.
    func next() throws -> Event? {
        while true {
            if let end = bytes.firstRange(of: Array("\n\n".utf8)) {
                let lines = String(decoding: bytes[..<end.lowerBound], as: UTF8.self).components(separatedBy: "\n")
                bytes.removeSubrange(..<end.upperBound)
                // A comment.
                if lines[0].hasPrefix(":") { continue }
                #expect(lines[0].hasPrefix("event: ") && lines.dropFirst().allSatisfy { $0.hasPrefix("data:") })
                let data = lines.dropFirst().map { $0.hasPrefix("data: ") ? $0.dropFirst(6) : $0.dropFirst(5) }
                return Event(name: String(lines[0].dropFirst(7)), data: data.joined(separator: "\n"))
            }
            let more = try socket.receive()
            if more.isEmpty {
                #expect(bytes.isEmpty, "the stream ended in an event")
                return nil
            }
            bytes += more
        }
    }

    /// Reads events until one is right.
    func next(_ what: String, _ isRight: (Event) throws -> Bool) throws -> Event {
        while let event = try next() { if try isRight(event) { return event } }
        throw Failure(description: "the stream ended without \(what)")
    }

    /// Reads on to the end of the stream.
    func rest() throws -> [Event] {
        var events: [Event] = []
        while let event = try next() { events.append(event) }
        return events
    }
}

@Suite(.blocking) struct EventsTests {
    @Test func aStreamHasEachAnswerAtOnceAndAgainWhenItHasChanged() throws {
        let server = try Server()
        let client = try EventClient(server, ["/peek/a?n=5", "/task/AaH8ekX5cACuES467dOuXw", "/peek/b"])
        #expect(client.head.hasPrefix("HTTP/1.1 200 OK\r\n"))
        for field in ["Content-Type: text/event-stream", "Connection: close", "X-Accel-Buffering: no"] {
            #expect(client.head.contains("\r\n\(field)"), "\(field)")
        }
        #expect(!client.head.contains("Content-Length") && client.head.contains("\r\nCache-Control: no-store"))
        #expect(try client.next() == .init(name: "0", data: "[]"))
        let missing = try #require(try client.next())
        #expect(missing.name == "1/404")
        #expect(try missing.object["type"] as? String == "urn:emq:error:no-such-task")
        #expect(try client.next() == .init(name: "2", data: "[]"))
        // What has not changed does not come again.
        try server.enqueue("b", #""content": "x""#)
        let event = try #require(try client.next())
        #expect(event.name == "2")
        #expect(try server.get("/peek/b").body == event.data)
    }

    @Test func anAnswerIsAsTheGetItself() throws {
        let server = try Server()
        // White space in JSON may be any line end, and names are encoded twice.
        let content = "{\"a\": 1,\r\n\n\r\"b\": \"\\r\\n\"}"
        #expect(try server.post("/enqueue/a%20b", "{\"content\": \(content)}").status == 200)
        try server.enqueue("c")
        let targets = [
            "/peek/a%20b", "/queues/?sort=ready", "/access", "/config/c", "/nowhere", "/stats/?n=0", "/healthz",
            "/wait/",
        ]
        let client = try EventClient(server, targets)
        for (index, target) in targets.enumerated() {
            let event = try #require(try client.next())
            let answer = try server.get(target)
            #expect(event.name == (answer.status == 200 ? "\(index)" : "\(index)/\(answer.status)"), "\(target)")
            let body = answer.body.replacing("\r\n", with: "\n").replacing("\r", with: "\n")
            #expect(event.data == body, "\(target)")
        }
    }

    @Test func manyLineEndsOfAContentHoldUpNobody() throws {
        let server = try Server()
        // A search for the other kind of line end from each of them would take some 10¹⁰ steps.
        let content = "[1," + String(repeating: "\r", count: 200_000) + "2]"
        #expect(try server.post("/enqueue/a", "{\"content\": \(content)}").status == 200)
        let event = try #require(try EventClient(server, ["/peek/a"]).next())
        #expect(event.data.count { $0 == "\n" } == 200_000)
    }

    @Test func roundsAreAnIntervalApart() throws {
        let server = try Server()
        let begin = Date()
        let client = try EventClient(server, ["/stats/?n=1"], query: "&interval=2")
        for _ in 0..<3 { #expect(try client.next()?.name == "0") }
        // The clocks of both sides count milliseconds.
        #expect(Date().timeIntervalSince(begin) >= 3.99)
    }

    @Test func aListOfManyQueuesComesWhenItIsMade() throws {
        let server = try Server()
        let client = try server.connect()
        for first in stride(from: 0, to: 6000, by: 100) {
            let requests = (first..<first + 100).map {
                "POST /pause/queue/\($0) HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
            }
            client.socket.send(Array(requests.joined().utf8))
            for _ in requests { #expect(try client.response().status == 200) }
        }
        let streams = try (0..<3).map { _ in try EventClient(server, ["/stats/?sort=paused&n=2", "/queues/?n=1"]) }
        for stream in streams {
            let events = try [stream.next(), stream.next()].compactMap { $0 }
            #expect(Set(events.map(\.name)) == ["0", "1"])
            let page = try #require(events.first { $0.name == "0" }).object["queues"] as? [String: Any]
            #expect(page?.count == 2)
        }
    }

    // MARK: What is refused

    @Test(arguments: [
        ("", 400, "get"), ("?get=", 400, "get"), ("?get=stats", 400, "get"),
        ("?get=%2Fstats&interval=61", 400, "interval"),
        ("?get=%2Fstats&interval=1&interval=1", 400, "interval"), ("?get=%2Fmetrics", 400, "get"),
        ("?get=%2Fmetrics%2Fqueues", 400, "get"), ("?get=%2Fevents%3Fget%3Dx", 400, "get"), ("?get=%2F", 400, "get"),
        ("?get=%2Fqueues%2F%3Fn%3D1%26%2561fter%3Da%0A", 400, "get"),
        ("?get=%2Fpeek%2Fa%20b", 400, "get"),
        ("?get=%2Fpeek%2F%25zz", 400, "get"), ("?get=%2Fstats%2F%3Fprefix%3D%00", 400, "get"),
        ("?get=%2Fresult%2FAaH8ekX5cACuES467dOuXw", 400, "get"), ("?get=%2Fdashboard%2Findex.html", 400, "get"),
        ("?" + Array(repeating: "get=%2Fstats", count: 17).joined(separator: "&"), 400, "get"),
    ])
    func aWrongRequestIsRefused(query: String, status: Int, field: String) throws {
        let answer = try Server().get("/events\(query)")
        #expect(answer.status == status && answer.field == field, "\(answer.body)")
    }

    @Test func aHeadHasNoStream() throws {
        let server = try Server()
        let client = try server.connect()
        let answer = try client.ask("HEAD", "/events?get=%2Fstats")
        #expect(answer.status == 200 && answer.fields["content-type"] == "text/event-stream")
        #expect(try client.get("/healthz").status == 200)
    }

    @Test func thereAreFewerStreamsWithFewConnections() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--max-connections", "6"])
        var clients: [EventClient] = []
        for _ in 0..<3 {
            clients.append(try EventClient(server, ["/healthz"]))
            #expect(try clients.last?.next()?.name == "0")
        }
        let refused = try EventClient(server, ["/healthz"])
        #expect(refused.head.hasPrefix("HTTP/1.1 503 ") && refused.head.contains("Retry-After: "))
        refused.socket.close()
        // A client that leaves makes room for another.
        clients.removeFirst().socket.close()
        _ = try eventually("a stream") {
            let client = try EventClient(server, ["/healthz"])
            return client.head.contains(" 200 ") ? client : nil
        }
    }

    // MARK: Tokens

    @Test func eachGetNeedsItsPermission() throws {
        let (some, none) = (TestToken("some", ["read"], queues: ["mail"]), TestToken("none", ["metrics"]))
        let file = try TokenFile([some, none])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let targets = ["/peek/mail", "/peek/other", "/config/mail", "/access"]
        func names(_ token: TestToken) throws -> [String?] {
            let client = try EventClient(server, targets, fields: ["Authorization: \(token.bearer)"])
            return try targets.map { _ in try client.next()?.name }
        }
        #expect(try names(some) == ["0", "1/403", "2/403", "3"])
        #expect(try names(none) == ["0/403", "1/403", "2/403", "3"])
        for fields in [[], ["Authorization: Bearer nonsense"]] {
            #expect(try EventClient(server, targets, fields: fields).head.hasPrefix("HTTP/1.1 401 "))
        }
    }

    @Test func aStreamEndsWithItsToken() throws {
        let (old, new) = (TestToken("a", ["read"]), TestToken("a", ["read"], queues: ["mail"]))
        let file = try TokenFile([old])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try EventClient(server, ["/peek/q", "/peek/mail"], fields: ["Authorization: \(old.bearer)"])
        #expect(try client.next()?.name == "0")
        #expect(try client.next()?.name == "1")
        try file.write([new])
        server.signal(SIGHUP)
        #expect(try client.next()?.name == "0/403")
        try file.write([])
        server.signal(SIGHUP)
        #expect(try client.rest().map(\.name) == ["0/401", "1/401"])
    }

    // MARK: Clients that read slowly, and the end

    /// What the server is asked for its connections and the bytes of its answers.
    private func memory(of server: Server) throws -> Int {
        try #require((try server.get("/stats/?n=1").object["memory"] as? [String: Any])?["used"] as? Int)
    }

    /// The kernel of a client whose connection was used before acknowledges the head of the answer a little later.
    @Test func theFirstAnswersComeAtOnce() throws {
        let server = try Server()
        let begin = Date()
        let client = try EventClient(server, ["/stats/"], query: "&interval=60", isReused: true)
        #expect(try client.next()?.name == "0")
        #expect(Date() < begin + 50, "it came with the second round")
        #expect(try server.get("/metrics").body.contains("\nemq_event_streams 1\n"))
        client.socket.close()
    }

    @Test(.plainOnly("it sets the size of a socket's buffer"))
    func nothingIsMadeForAClientThatDoesNotRead() throws {
        let server = try Server()
        try server.enqueue("q", "\"content\": \"\(String(repeating: "x", count: 2_000_000))\"")
        let before = try memory(of: server)
        let socket = try TestSocket(connectedTo: .ipv4(port: server.port), receiveBufferBytes: 4096)
        socket.send(
            Array("GET /events?get=%2Fpeek%2Fq&get=%2Fstats%2F HTTP/1.1\r\nHost: h\r\n\r\n".utf8))
        let watching = try EventClient(server, ["/stats/?n=1"])
        var most = 0
        for _ in 0..<4 {
            // Each second, the answers would be others.
            try server.enqueue("q", "\"priority\": 5")
            _ = try watching.next()
            most = max(most, try memory(of: server) - before)
        }
        #expect(most < 8_000_000)
        socket.close()
    }

    @Test func aStoppingServerEndsItsStreams() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--drain", "100"])
        let client = try EventClient(server, ["/peek/q"])
        #expect(try client.next()?.name == "0")
        // One that reads nothing does not hold up the end.
        let idle = try EventClient(server, ["/stats/"])
        server.signal(SIGTERM)
        #expect(try client.rest().map(\.name) == ["stopping"])
        #expect(try server.exitStatus() == 0)
        idle.socket.close()
    }

    @Test func aStreamShowsWhatIsSafe() throws {
        let directory = DataDirectory()
        let server = try directory.start()
        let client = try EventClient(server, ["/peek/q"])
        #expect(try client.next("the queue") { $0.name == "0" }.data == "[]")
        // The answer waits until the task is safe on disk.
        let id = try server.enqueue("q")
        #expect(try client.next()?.data.contains(id) == true)
    }

    @Test func aStreamCountsAsOneRequestThatTookNoTime() throws {
        let server = try Server(["--addr", "127.0.0.1:0", "--access-log", "--log-format", "json"])
        let client = try EventClient(server, ["/stats/?n=1"])
        for _ in 0..<3 { _ = try client.next() }
        let metrics = try MetricsText(try server.get("/metrics").body + "\n")
        #expect(metrics[#"emq_http_requests_total{code="200",route="/events/"}"#] == 1)
        let seconds = metrics[#"emq_http_request_duration_seconds_sum{route="/events/"}"#] ?? 0
        #expect(seconds < 1)
        client.socket.close()
        let line = try eventually("its line in the log") {
            server.output.split(separator: "\n").first { $0.contains(#""path":"/events""#) }
        }
        #expect(line.contains(#""status":200"#) && !line.contains("sent"), "\(line)")
    }
}
