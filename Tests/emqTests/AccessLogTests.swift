// A line for each request, and what no line of the log may have.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct AccessLogTests {
    private static let id = "AaH8ekX5cACuES467dOuXw"

    /// The lines of a server's requests, in the order of their ends, once there are so many.
    private func lines(of server: Server, count: Int) throws -> [[String: Any]] {
        try eventually("\(count) lines") { () -> [[String: Any]]? in
            let lines = try server.output.split(separator: "\n", omittingEmptySubsequences: false).dropLast()
                .filter { $0.contains(#""message":"access""#) }
                .map { try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any], "\($0)") }
            return lines.count >= count ? lines : nil
        }
    }

    private func start(_ arguments: [String] = []) throws -> Server {
        try Server(["--addr", "127.0.0.1:0", "--access-log", "--log-format", "json"] + arguments)
    }

    @Test func eachRequestIsALine() throws {
        let token = TestToken("ann", ["enqueue", "read"])
        let file = try TokenFile([token])
        let server = try start(["--tokens", file.path])
        let client = try server.connect()
        let response = try client.ask("POST", "/enqueue/a%20b?x=1", "{}", token.bearer)
        #expect(response.status == 400)
        #expect(try client.ask("POST", "/enqueue/a%20b", "{}", token.bearer).status == 200)
        #expect(try client.ask("GET", "/peek/q", nil, token.bearer).status == 200)
        _ = try client.ask("GET", "/task/\(Self.id)@0123456789abcdef", nil, token.bearer)
        #expect(try client.ask("HEAD", "/healthz").status == 200)
        #expect(try client.ask("GET", "/stats").status == 401)
        client.send("GARBAGE\r\n\r\n")
        #expect(try client.response().status == 400)
        let lines = try lines(of: server, count: 7)
        #expect(lines.map { $0["method"] as? String } == ["POST", "POST", "GET", "GET", "HEAD", "GET", nil])
        #expect(
            lines.map { $0["path"] as? String } == [
                "/enqueue/a%20b", "/enqueue/a%20b", "/peek/q", "/task/\(Self.id)…", "/healthz", "/stats", nil,
            ])
        #expect(lines.compactMap { $0["status"] as? Int } == [400, 200, 200, 400, 200, 401, 400])
        #expect(lines.map { $0["token"] as? String } == ["ann", "ann", "ann", "ann", nil, nil, nil])
        for line in lines {
            #expect((line["remote"] as? String)?.hasPrefix("127.0.0.1:") == true && line["level"] as? String == "info")
            #expect(line["bytes"] as? Int ?? 0 > 50 && line["ms"] as? Double ?? -1 >= 0 && line["sent"] == nil)
        }
    }

    @Test func aLineHasTheRequestID() throws {
        let server = try start()
        let client = try server.connect()
        for requestID in ["order-17", "two words", ""] {
            let field = requestID.isEmpty ? "" : "X-Request-Id: \(requestID)\r\n"
            #expect(try client.post("/wait", "{}", field).status == 200)
        }
        // An invalid request has its name too.
        client.send("GET /wait HTTP/1.1\r\nX-Request-Id: order-18\r\nHost: a\r\nHost: b\r\n\r\n")
        let answer = try client.response()
        #expect(answer.status == 400 && answer.fields["x-request-id"] == "order-18")
        let lines = try lines(of: server, count: 4)
        #expect(lines.map { $0["request_id"] as? String } == ["order-17", nil, nil, "order-18"])
        #expect(lines[3]["status"] as? Int == 400 && lines[3]["path"] as? String == nil)
        #expect(lines[2].keys.contains("request_id") == false)
    }

    @Test func aWaitIsALineWhenItsResponseIsSent() throws {
        let server = try start()
        #expect(try server.post("/wait", #"{"queues": ["q"], "timeout": 150}"#).status == 200)
        let line = try #require(try lines(of: server, count: 1).last)
        #expect(line["path"] as? String == "/wait" && line["status"] as? Int == 200)
        // As far as the clocks of both sides agree.
        #expect(line["ms"] as? Double ?? 0 >= 140)
    }

    @Test func aClientThatLeavesBeforeItsResponseIsALineToo() throws {
        let server = try start()
        var client: Client? = try server.begin("POST", "/wait", #"{"queues": ["q"], "timeout": 3600000}"#)
        client?.resetOnClose()
        client = nil
        let line = try #require(try lines(of: server, count: 2).first { $0["path"] as? String == "/wait" })
        #expect(line["status"] is NSNull && line["sent"] as? Bool == false && line["bytes"] as? Int == 0)
    }

    @Test func requestsAtAddressesOfLegacySystemsNameTheSystem() throws {
        let server = try start(["--htq", "127.0.0.1:0"])
        let port = try eventually("the port of htq") {
            server.output.firstMatch(of: /replacing htq at https?:\/\/127\.0\.0\.1:(\d+)/).flatMap { UInt16($0.1) }
        }
        #expect(try Client(port: port).get("/").status == 200)
        let line = try #require(try lines(of: server, count: 1).first)
        #expect(line["system"] as? String == "htq" && line["path"] as? String == "/")
    }

    @Test func aLongMethodIsCut() throws {
        let server = try start()
        let client = try server.connect()
        client.send(String(repeating: "M", count: 3000) + " / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        #expect(try client.response().status >= 400)
        let line = try #require(try lines(of: server, count: 1).first)
        #expect(line["method"] as? String == String(repeating: "M", count: 32) + "…")
    }

    @Test func itIsOffUnlessItIsAskedFor() throws {
        let server = try Server(["--addr", "127.0.0.1:0"], environment: ["EMQ_ACCESS_LOG": "false"])
        #expect(try server.get("/healthz").status == 200)
        server.signal(SIGTERM)
        #expect(try server.exitStatus() == 0)
        #expect(!server.messages.contains { $0.hasPrefix("access") })
    }

    @Test(arguments: [
        ("/", "/"), ("/task/AaH8ekX5cACuES467dOuXw", "/task/AaH8ekX5cACuES467dOuXw"),
        ("/task/AaH8ekX5cACuES467dOuXw@0123456789abcdef", "/task/AaH8ekX5cACuES467dOuXw…"),
        ("/task/AaH8ekX5cACuES467dOuXw%400123456789abcdef", "/task/AaH8ekX5cACuES467dOuXw…"),
        ("/peek/mail@example.com", "/peek/mail@example.com"), ("/peek/emq_orders", "/peek/emq_orders"),
        ("/peek/emq_PFh5rOQRV5Zd4rn3hxqQGbwsBLVjBEYw2s8L0G/x", "/peek/emq_…"),
        ("/peek/xemq_PFh5rOQRV5Zd4rn3hxqQGbwsBLVjBEYw2s8L0G", "/peek/xemq_…"),
        ("/peek/emq%5FPFh5rOQRV5Zd4rn3hxqQGbwsBLVjBEYw2s8L0G", "/peek/emq%5F…"),
        ("/peek/a%2Femq_%50Fh5rOQRV5Zd4rn3hxqQGbwsBLVjBEYw2s8L0G", "/peek/a%2Femq_…"),
        (
            "/task/09fc407d-0b6b-4caf-89c9-db63f0725d8e@0123456789abcdef",
            "/task/09fc407d-0b6b-4caf-89c9-db63f0725d8e…"
        ),
        ("/task/%41aH8ekX5cACuES467dOuXw@0123456789abcdef", "/task/%41aH8ekX5cACuES467dOuXw…"),
        ("/task/AaH8ekX5cACuES467dOuXw@%30123456789abcde%66", "/task/AaH8ekX5cACuES467dOuXw…"),
        ("/peek/a%2FAaH8ekX5cACuES467dOuXw@0123456789abcdef/b", "/peek/a%2FAaH8ekX5cACuES467dOuXw…"),
        ("/task/AaH8ekX5cACuES467dOuXw%25400123456789abcdef", "/task/AaH8ekX5cACuES467dOuXw…"),
        ("/task/AaH8ekX5cACuES467dOuXw@0123456789abcde", "/task/AaH8ekX5cACuES467dOuXw@0123456789abcde"),
        ("/peek/100%25/%zz/%4", "/peek/100%25/%zz/%4"),
        (
            "/" + String(repeating: "y", count: 1020) + "@0123456789abcdef",
            "/" + String(repeating: "y", count: 1020) + "…"
        ),
        ("/x" + String(repeating: "y", count: 2000), "/x" + String(repeating: "y", count: 1022) + "…"),
    ])
    func pathsShowNoReceiptsAndTokens(path: String, shown: String) {
        #expect(String(decoding: AccessRecord.shown(Array(path.utf8).span), as: UTF8.self) == shown)
    }

    // MARK: Secrets

    /// Each secret has the word `hush`, which nothing else has.
    @Test(arguments: ["text", "json"]) func noLineHasASecret(format: String) throws {
        let token = TestToken("ann", Permission.allCases.map(\.name))
        let file = try TokenFile([token])
        try file.write(
            String(contentsOfFile: file.path, encoding: .utf8).replacing(
                hexadecimalHash(of: token.text), with: hexadecimalHash(of: "hush-token")))
        let server = try Server(
            [
                "--addr", "127.0.0.1:0", "--access-log", "--log-format", format, "--push", "loopback", "--tokens",
                file.path,
            ])
        let client = try server.connect()
        func ask(_ method: String, _ path: String, _ json: String? = nil, status: Int = 200) throws -> Response {
            let fields = ["X-Secret: hush", "Cookie: a=hush", "User-Agent: hush"]
            let response = try client.ask(method, path, json, "Bearer hush-token", fields: fields)
            #expect(response.status == status, "\(method) \(path): \(response.body)")
            return response
        }
        let push =
            #""url": "http://127.0.0.1:1/?hush=1", "headers": {"X-Key": "hush"}, "signature": "standard", "#
            + #""secret": "whsec_aHVzaGh1c2hodXNoaHVzaGh1c2hodXNo""#
        _ = try ask("PUT", "/config/q", "{\"push\": {\(push)}}")
        _ = try ask("POST", "/enqueue/q", #"{"content": "hush"}"#)
        _ = try ask(
            "POST", "/enqueue/r", #"{"content": "hush", "metadata": {"a": "hush"}, "key": "hush", "unique_for": 60}"#)
        let task = try #require(
            try ask("POST", "/wait", #"{"queues": ["r"]}"#).tasks.first ?? nil, "there is no task")
        let receipt = try #require(task["receipt"] as? String)
        _ = try ask("POST", "/ack", #"{"ids": ["hush"]}"#, status: 400)
        _ = try client.ask("GET", "/task/\(receipt)", nil, "Bearer hush-token")
        _ = try ask("GET", "/key/r?key=hush")
        _ = try ask("POST", "/nak", "{\"ids\": [\"\(receipt)\"], \"error\": \"hush\", \"dead\": true}")
        _ = try ask("POST", "/kick/", "{\"ids\": [\"\(receipt.prefix(22))\"]}")
        let source = #"{"amqp": "amqp://ann:hush@127.0.0.1:1", "queue": "jobs", "into": "in"}"#
        if Sources.flawOfSystem() == nil { _ = try ask("PUT", "/source/s", source, status: 201) }
        for authorization in ["Bearer hush", "Basic aHVzaDpodXNo", "hush"] {
            #expect(try client.ask("POST", "/purge/q", nil, authorization).status == 401)
        }
        client.send("GET /hush HTTP/1.1\r\nhush\r\n\r\n")
        #expect(try client.response().status == 400)
        server.signal(SIGHUP)
        server.signal(SIGTERM)
        #expect(try server.exitStatus() == 0)
        let log = server.output
        #expect(log.contains("audit") && log.contains("/purge/q") && log.contains("/ack"))
        #expect(!log.contains("hush") && !log.contains("aHVz"), "\(log)")
        #expect(!log.contains(receipt.suffix(16)), "\(log)")
    }
}
