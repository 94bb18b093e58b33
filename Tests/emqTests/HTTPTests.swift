// HTTP through real sockets: framing, order, limits, and misbehaving peers.

import Foundation
import Support
import Testing

@Suite(.blocking) struct HTTPTests {
    let server: Server

    init() throws { server = try Server() }

    @Test func aThousandPipelinedRequestsAreAnsweredInOrder() throws {
        let client = try server.connect()
        let requests = (0..<1000).map { Client.postText("/enqueue/q\($0)", "{\"content\": \($0)}") }
        let peeks = (0..<1000).map { "GET /peek/q\($0) HTTP/1.1\r\nHost: h\r\n\r\n" }
        // A client that sends everything before it reads needs a server that keeps reading.
        let (bytes, socket) = (Array((requests.joined() + peeks.joined()).utf8), client.socket)
        Thread.detachNewThread { socket.send(bytes) }
        for _ in 0..<1000 { #expect(try client.response().status == 200) }
        for number in 0..<1000 { #expect(try client.response().tasks[0]?["content"] as? Int == number) }
    }

    @Test func pipelinedAnswersBeyondTheLimitOfUnsentOnesAllArrive() throws {
        let large = "\"" + String(repeating: "x", count: 1_200_000) + "\""
        _ = try server.post("/enqueue/q", "{\"content\": \(large)}")
        let client = try server.connect()
        client.send(String(repeating: "GET /peek/q HTTP/1.1\r\nHost: h\r\n\r\n", count: 20))
        for _ in 0..<20 { #expect(try client.response().body.contains(large)) }
    }

    @Test func anOwedAnswerHoldsBackOnlyTheAnswersBehindIt() throws {
        let client = try server.connect()
        client.send(
            Client.postText("/wait", #"{"queues": ["q"], "timeout": 600000}"#)
                + Client.postText("/enqueue/r", #"{"content": 1}"#))
        _ = try server.get("/healthz")
        #expect(try server.get("/queues").body == "[]")
        _ = try server.post("/enqueue/q", #"{"content": 2}"#)
        #expect(try client.response().tasks[0]?["content"] as? Int == 2)
        #expect(try client.response().status == 200)
        #expect(try server.get("/queues").body == #"["q","r"]"#)
    }

    @Test(.enabled(if: testOperations >= 1_000_000, "skipped: it takes long; it runs with EMQ_TEST_OPERATIONS=1000000"))
    func sixtyFourMebibytesAreTakenAndOneByteMoreIsNot() throws {
        let limit = 64 << 20
        let frame = #"{"content":""}"#.utf8.count
        let content = String(repeating: "x", count: limit - frame)
        #expect(try server.post("/enqueue/q", "{\"content\":\"\(content)\"}").status == 200)
        let task = try server.post("/wait", #"{"queues": ["q"]}"#)
        #expect(task.body.utf8.count > content.utf8.count)
        #expect(task.body.contains("\"content\":\"xxx"))

        // This is found before any of it is sent.
        let announced = try server.connect()
        announced.send(
            "POST /enqueue/q HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: \(limit + 1)\r\n\r\n"
        )
        #expect(try announced.response().status == 413)
        #expect(try announced.isEnded())

        let chunked = try server.connect()
        chunked.send(
            "POST /enqueue/q HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunked.send("\(String(limit, radix: 16))\r\n")
        chunked.send([UInt8](repeating: 0x20, count: limit))
        chunked.send("\r\n1\r\n ")
        #expect(try chunked.response().status == 413)
    }

    @Test func aClientThatExpects100ContinueGetsIt() throws {
        let client = try server.connect()
        client.send(
            "POST /enqueue/q HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 13\r\n\r\n"
        )
        #expect(try client.response().status == 100)
        client.send(#"{"content":1}"#)
        #expect(try client.response().status == 200)

        // The server does not ask for a body that it would refuse.
        for (line, status) in [
            ("POST /nowhere", 404), ("CONNECT h:1", 501), ("GET /peek/q?m=3", 400), ("PUT /enqueue/q", 405),
            ("POST /enqueue/q", 415), ("POST /enqueue/q?x=1", 400),
        ] {
            let client = try server.connect()
            client.send("\(line) HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 13\r\n\r\n")
            let response = try client.response()
            #expect(response.status == status)
            #expect(response.fields["connection"] == "close")
            #expect(try client.isEnded())
        }

        let tooLarge = try server.connect()
        tooLarge.send("POST /enqueue/q HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
        #expect(try tooLarge.response().status == 413)
    }

    @Test func chunkedBodiesWithTrailers() throws {
        let client = try server.connect()
        client.send(
            "POST /enqueue/q HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for chunk in ["5;x=y\r\n{\"con\r\n", "8\r\ntent\":1}\r\n", "0\r\nChecksum: none\r\n\r\n"] { client.send(chunk) }
        #expect(try client.response().status == 200)
        #expect(try client.get("/peek/q").tasks[0]?["content"] as? Int == 1)
    }

    @Test func aRequestMayArriveByteByByte() throws {
        let client = try server.connect()
        for byte in Client.postText("/enqueue/q", #"{"content": "slow"}"#).utf8 { client.send([byte]) }
        #expect(try client.response().status == 200)
    }

    @Test func connectionsPersistAsTheirVersionSays() throws {
        let old = try server.connect()
        old.send("GET /queues HTTP/1.0\r\n\r\n")
        let answer = try old.response()
        #expect(answer.status == 200)
        #expect(answer.fields["connection"] == "close")
        #expect(try old.isEnded())

        let kept = try server.connect()
        for _ in 0..<3 {
            kept.send("GET /queues HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            #expect(try kept.response().fields["connection"] == "keep-alive")
        }

        let closing = try server.connect()
        closing.send(
            "GET /queues HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /queues HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(try closing.response().fields["connection"] == "close")
        #expect(try closing.isEnded())
    }

    @Test(
        arguments: [
            ("GET / HTTP/1.1\r\n\r\n", 400), ("GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505),
            ("GET / HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n", 400),
            ("POST /ack HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            ("POST /ack HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            ("GET /\(String(repeating: "a", count: 9000)) HTTP/1.1\r\n", 414),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: \(String(repeating: "a", count: 33000))", 431),
            ("\u{17}\u{3}", 400),
        ] as [(Shortened, Int)])
    func anInvalidRequestIsAnsweredAndTheConnectionCloses(bytes: Shortened, status: Int) throws {
        let client = try server.connect()
        client.send(bytes.text)
        let answer = try client.response()
        #expect(answer.status == status)
        #expect(answer.fields["connection"] == "close")
        #expect(answer.fields["content-type"] == "application/problem+json")
        #expect(try answer.object["status"] as? Int == status)
        #expect(try client.isEnded())
    }

    @Test func answersBeforeABadRequestStillArrive() throws {
        let client = try server.connect()
        client.send("GET /queues HTTP/1.1\r\nHost: h\r\n\r\nBAD\r\n\r\n")
        #expect(try client.response().status == 200)
        #expect(try client.response().status == 400)
        #expect(try client.isEnded())
    }

    @Test func absoluteTargetsNameTheirHost() throws {
        let client = try server.connect()
        client.send("GET http://localhost:1234/queues HTTP/1.1\r\nHost: other\r\n\r\n")
        #expect(try client.response().body == "[]")
    }

    @Test func hundredsOfLongPollsDoNotHinderOthers() throws {
        let workers = try (0..<500).map { number in
            let client = try server.connect()
            client.sendPost("/wait", "{\"queues\": [\"idle\(number)\"], \"timeout\": 60000}")
            return client
        }
        _ = try server.post("/enqueue/idle250", #"{"content": 1}"#)
        #expect(try workers[250].response().tasks[0]?["content"] as? Int == 1)
    }

    @Test func bytesBehindALongPollAreBounded() throws {
        let client = try server.connect()
        client.sendPost("/wait", #"{"queues": ["q"], "timeout": 60000}"#)
        // Sends until neither the kernel nor the server accepts more, then for a little longer.
        let chunk = [UInt8](repeating: 0x41, count: 65536)
        var sent = 0
        var refusals = 0
        while refusals < 50, sent < 256 << 20 {
            let count = client.socket.sendNow(chunk)
            if count > 0 { sent += count } else { refusals += 1; usleep(1000) }
        }
        #expect(sent < 64 << 20)
        #expect(try server.get("/healthz").status == 200)
    }

    @Test func everyAnswerHasADate() throws {
        let before = Date()
        let date = try #require(try server.get("/nothing").fields["date"])
        let after = Date()
        let formatter = DateFormatter()
        formatter.locale = Locale(identifier: "en_US_POSIX")
        formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
        formatter.timeZone = TimeZone(identifier: "GMT")
        let parsed = try #require(formatter.date(from: date))
        // It is in whole seconds, and the two clocks may differ slightly.
        #expect(parsed > before.addingTimeInterval(-2) && parsed < after.addingTimeInterval(1))
    }
}

/// Text of which reports show only the beginning.
struct Shortened: ExpressibleByStringInterpolation, CustomTestStringConvertible {
    let text: String

    init(stringLiteral text: String) { self.text = text }

    var testDescription: String { String(reflecting: text.prefix(60)) }
}
