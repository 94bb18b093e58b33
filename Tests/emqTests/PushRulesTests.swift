// Which requests and pushes are refused, with which errors, and how they are shown.

import Foundation
import Testing

@Suite(.blocking) struct PushRulesTests {
    /// The JSON of a `request` that is refused, or of a `push` if `isPush`.
    struct Refusal: CustomTestStringConvertible {
        let status: Int
        /// The field at fault, within the request or the push.
        let field: String
        let json: String
        var isPush = false
        /// A part of the error's detail.
        var detail = ""

        var testDescription: String { "\(status) \(field) \(json.prefix(100))" }
    }

    private static func url(_ url: String, _ status: Int = 400, _ detail: String = "") -> Refusal {
        Refusal(status: status, field: "url", json: "{\"url\": \"\(url)\"}", detail: detail)
    }

    private static func member(_ name: String, _ value: String, _ detail: String = "", field: String? = nil) -> Refusal
    {
        Refusal(
            status: 400, field: field ?? name, json: "{\"url\": \"http://a.test/\", \"\(name)\": \(value)}",
            detail: detail)
    }

    /// Refused in both.
    static let common: [Refusal] =
        [
            url("ftp://a.test/"), url("a.test"), url("/path"), url("http://"),
            url("http:///x"), url("http://user:pw@a.test/", 400, "user"), url("http://a.test:0/"),
            url("http://a.test:65536/"), url("http://a.test:x/"), url("http://a b.test/"), url("http://a.test/ü"),
            url("http://a.test/\\r\\nX: y"), url("http://a.test/%zz"), url("http://127.1/"), url("http://0x7f000001/"),
            url("http://[::1/"), url("http://[fe80::1%25eth0]/"), url("http://ü.test/"), url(""),
            url("http://a.test/" + String(repeating: "x", count: 8000)),
            Refusal(status: 400, field: "url", json: #"{"url": 1}"#),
            member("method", #""GE T""#), member("method", #""CONNECT""#), member("method", "1"),
            member("method", #""""#),
            member("method", #""GET\r\n""#),
            member("headers", "[]"), member("headers", #"{"Host": "x"}"#, field: "headers.Host"),
            member("headers", #"{"Content-Length": "1"}"#, field: "headers.Content-Length"),
            member("headers", #"{"transfer-encoding": "chunked"}"#, field: "headers.transfer-encoding"),
            member("headers", #"{"Connection": "close"}"#, field: "headers.Connection"),
            member("headers", #"{"emq-task-id": "x"}"#, field: "headers.emq-task-id"),
            member("headers", #"{"X Y": "x"}"#, field: "headers.X Y"),
            member("headers", #"{"X": 1}"#, field: "headers.X"),
            member("headers", #"{"X": "a\r\nY: b"}"#, field: "headers.X"),
            member("headers", #"{"X": "a\u0000"}"#, field: "headers.X"),
            member("headers", #"{"X": " a"}"#, field: "headers.X"),
            member("headers", #"{"X": "a", "x": "b"}"#, field: "headers.x"),
            member("headers", #"{"X": "***"}"#, field: "headers.X"),
            member("headers", "{\"X\": \"\(String(repeating: "y", count: 16_400))\"}", field: "headers.X"),
            member("headers", "{" + (0..<65).map { "\"X\($0)\": \"y\"" }.joined(separator: ",") + "}"),
            member("timeout", "0"), member("timeout", "-1"), member("timeout", "86401"), member("timeout", #""30""#),
            member("on_dead", #""ftp://a.test/""#, "https://"), member("on_dead", "1"),
            member("retires", "1"), member("Url", #""http://a.test/""#, "url"),
            Refusal(status: 400, field: "url", json: #"{"url": "http://a.test/", "url": "http://a.test/"}"#),
            Refusal(status: 400, field: "", json: "[]"), Refusal(status: 400, field: "", json: "\"http://a.test/\""),
        ]
        + [
            "169.254.169.254", "10.0.0.1", "192.168.1.1", "0.0.0.0", "8.8.8.8", "224.0.0.1", "[fe80::1]",
            "[fd00:ec2::254]",
            "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[::]", "[fc00::1]", "255.255.255.255",
        ].map { url("http://\($0)/", 403, "allowed: ") }
        + [
            Refusal(
                status: 403, field: "on_dead",
                json: #"{"url": "http://127.0.0.1:1/", "on_dead": "http://169.254.169.254/latest"}"#, detail: "never")
        ]

    /// Refused in only one of them.
    static let others: [Refusal] =
        [
            Refusal(status: 400, field: "url", json: "{}"),
            Refusal(status: 400, field: "url", json: #"{"timeout": 1}"#),
            member("rate", #""1/s""#), member("secret", #""x""#), member("secrets", #"["x"]"#),
            member("signature", #""emq""#), member("circuit", #"{"failures": 1, "pause": 1}"#), member("ca", "1"),
            member("concurrency", "1"),
        ]
        + [
            member("rate", #""5""#), member("rate", #""5/w""#), member("rate", #""0/s""#), member("rate", #""-1/s""#),
            member("rate", "5"), member("rate", #""1e3/s""#), member("rate", #""2000000/s""#),
            member("concurrency", "0"), member("concurrency", "1001"), member("concurrency", "1.5"),
            member("concurrency", #""5""#), member("secret", #""""#), member("secret", "1"),
            member("secret", #""***""#),
            member("secret", "\"\(String(repeating: "s", count: 1025))\""),
            member("secrets", "[]", "1 to 8 elements"), member("secrets", #""x""#, "an array of strings"),
            member("secrets", #"["x", 1]"#, field: "secrets[1]"), member("secrets", #"["x", ""]"#, field: "secrets[1]"),
            member("secrets", #"["***"]"#, "there is none", field: "secret"),
            member("secrets", #"["x", "***"]"#, field: "secrets[1]"),
            member("secrets", #"["1", "2", "3", "4", "5", "6", "7", "8", "9"]"#, "1 to 8 elements"),
            member("secret", #""x", "secrets": ["y"]"#, "not both", field: "secrets"),
            member("circuit", "10"), member("circuit", "{}", "both failures and pause"),
            member("circuit", #"{"failures": 10}"#, "both failures and pause"),
            member("circuit", #"{"failures": 0, "pause": 1}"#, "1 to 1000000", field: "circuit.failures"),
            member("circuit", #"{"failures": 1000001, "pause": 1}"#, field: "circuit.failures"),
            member("circuit", #"{"failures": 1, "pause": 0}"#, "0.001 to 86400", field: "circuit.pause"),
            member("circuit", #"{"failures": 1, "pause": 86401}"#, field: "circuit.pause"),
            member("circuit", #"{"failure": 1, "pause": 1}"#, "did you mean 'failures'?", field: "circuit.failure"),
            member("circuit", #"{"pause": 1, "pause": 1}"#, "given twice", field: "circuit.pause"),
            member("signature", #""Standard""#, #""emq" or "standard""#), member("signature", "1"),
            member("signature", #""standard""#, "needs a secret"),
            member("signature", #""standard", "secret": "x""#, "openssl rand -base64 32", field: "secret"),
            member(
                "signature", #""standard", "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ"]"#,
                field: "secrets[1]"),
            member(
                "signature",
                #""standard", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "headers": {"Webhook-X": "y"}"#,
                field: "headers.Webhook-X"),
            member("ca", "1"), member("ca", #""PEM""#, "-----BEGIN CERTIFICATE-----"),
            member("ca", #""x -----BEGIN CERTIFICATE-----""#),
            member("ca", #""-----BEGIN CERTIFICATE-----\n-----BEGIN EC PRIVATE KEY-----\r\n""#, "ca has a private key"),
            member("ca", "\"-----BEGIN CERTIFICATE-----\\n\(String(repeating: "x", count: 65_536))\"", "1 to 65536"),
            member("body", "1"),
        ].map { Refusal(status: $0.status, field: $0.field, json: $0.json, isPush: true, detail: $0.detail) }

    @Test func requestsAndPushesThatCannotBeSentAreRefusedWithTheField() throws {
        let server = try Server.pushing()
        func check(_ answer: Response, _ refusal: Refusal, _ prefix: String) throws {
            #expect(answer.status == refusal.status, "\(refusal.testDescription): \(answer.body)")
            let field = refusal.field.isEmpty ? prefix : "\(prefix).\(refusal.field)"
            #expect(answer.field == field, "\(refusal.testDescription): \(answer.body)")
            let detail = try #require(try answer.object["detail"] as? String)
            #expect(refusal.detail.isEmpty || detail.contains(refusal.detail), "\(refusal.testDescription): \(detail)")
        }
        for refusal in Self.common + Self.others {
            if !refusal.isPush {
                let json = "{\"content\": 1, \"request\": \(refusal.json)}"
                try check(server.post("/enqueue/q", json), refusal, "request")
                // If one task of a batch is refused, none is added.
                try check(server.post("/enqueue/q", "[{\"content\": 1}, \(json)]"), refusal, "[1].request")
            }
            if refusal.isPush || Self.common.contains(where: { $0.json == refusal.json }) {
                try check(server.send("PUT", "/config/q", "{\"push\": \(refusal.json)}"), refusal, "push")
            }
        }
        #expect(try server.get("/queues").body == "[]")
        #expect(try server.get("/config/q").body == "{}")
    }

    @Test func aHintNamesOnlyFieldsThatWork() throws {
        let server = try Server.pushing()
        let fields =
            "url, method, headers, timeout, on_dead, concurrency, rate, circuit, signature, secret, secrets, ca"
        for method in ["PUT", "PATCH"] {
            let answer = try server.send(method, "/config/q", #"{"push": {"target": "http://a.test/"}}"#)
            #expect(
                try answer.object["detail"] as? String == "unknown field 'target'; expected one of: \(fields)")
            let twice = try server.send(method, "/config/q", #"{"push": {"rate": "1/s", "rate": "2/s"}}"#)
            #expect((try twice.object["detail"] as? String)?.hasSuffix("is given twice; send it once") == true)
        }
    }

    @Test func withoutPushNothingIsSent() throws {
        let server = try Server()
        let refusals = try [
            server.post("/enqueue/q", #"{"content": 1, "request": {"url": "http://a.test/"}}"#),
            server.post("/enqueue/q", #"[{"content": 1}, {"content": 1, "request": {"url": "http://a.test/"}}]"#),
            server.send("PUT", "/config/q", #"{"push": {"url": "http://a.test/"}}"#),
            server.send("PUT", "/config/q", #"{"push": {}}"#),
        ]
        for refusal in refusals {
            #expect(refusal.status == 403)
            #expect((try refusal.object["detail"] as? String)?.contains("--push") == true)
        }
        #expect(refusals.map(\.field) == ["request", "[1].request", "push", "push"])
        #expect(try server.get("/queues").body == "[]")
        try server.enqueue("q", #""content": 1, "request": null"#)
        #expect(try server.send("PUT", "/config/q", #"{"push": null, "keep": 1}"#).status == 200)
    }

    // MARK: Addresses

    @Test(arguments: ["127.0.0.1:0", "localhost:0", ":0"])
    func itsOwnListenersAreNeverReached(address: String) throws {
        let server = try Server(["--addr", address, "--push", "loopback,private,public,0.0.0.0/0,::/0,localhost"])
        let own = ["127.0.0.1", "[::ffff:127.0.0.1]"] + (address == ":0" ? ["127.0.0.2", "[::1]"] : [])
        for host in own {
            let url = "http://\(host):\(server.port)/purge/q"
            let refusal = try server.post("/enqueue/q", "{\"content\": 1, \"request\": {\"url\": \"\(url)\"}}")
            #expect(refusal.status == 403 && refusal.field == "request.url", "\(url): \(refusal.body)")
            #expect(refusal.body.contains("this server listens there itself"))
        }
        // A name is looked up when the task is sent.
        let id = try server.enqueue(
            "q", "\"content\": 1, \"request\": {\"url\": \"http://localhost:\(server.port)/enqueue/loop\"}")
        let task = try server.wait(id, for: "dead")
        #expect(task["attempt"] as? Int == 1)
        #expect((task["error"] as? String)?.contains("this server listens there itself") == true, "\(task)")
        #expect(try server.get("/queues").body == #"["q"]"#)
    }

    @Test func aNameWithAForbiddenAddressMakesATaskDeadAtOnce() throws {
        let receiver = try Receiver()
        let server = try Server(["--addr", "127.0.0.1:0", "--push", "PUBLIC"])
        for path in ["", ":\(receiver.port)/"] {
            let id = try server.enqueue("q", "\"content\": 1, \"request\": {\"url\": \"http://localhost\(path)\"}")
            let task = try server.wait(id, for: "dead")
            #expect(task["attempt"] as? Int == 1)
            let reason = ": localhost (127.0.0.1) is not allowed: --push does not include loopback"
            let place = "http://localhost\(path.isEmpty ? "/" : path)"
            #expect(task["error"] as? String == place + reason)
        }
        #expect(receiver.received("/").isEmpty)
        #expect(server.output.contains("may be sent to: public\n"))
        // A name that is allowed may lead anywhere.
        let named = try Server(["--addr", "127.0.0.1:0", "--push", "localhost"])
        let url = receiver.url("/name").replacing("127.0.0.1", with: "LocalHost")
        try named.enqueue("q", "\"content\": 1, \"request\": {\"url\": \"\(url)\"}")
        #expect(try receiver.wait("/name")[0]["Host"] == "localhost:\(receiver.port)")
        let literal = try named.post("/enqueue/q", "{\"content\": 1, \(receiver.request("/"))}")
        #expect(literal.status == 403)
    }

    // MARK: Views

    @Test func headerValuesAndSecretsAreMaskedAndAMaskKeepsThem() throws {
        let receiver = try Receiver()
        let server = try Server.pushing()
        let url = receiver.url("/q")
        func put(_ members: String) throws -> String {
            let push = "{\"url\": \"\(url)\"\(members)}"
            let answer = try server.send("PUT", "/config/q", "{\"push\": \(push)}")
            #expect(answer.status == 200, "\(answer.body)")
            return answer.body
        }
        func next() throws -> Received {
            let count = receiver.received("/q").count
            try server.enqueue("q")
            return try receiver.wait("/q", count + 1)[count]
        }
        let shown = try put(
            #", "headers": {"Authorization": "Bearer x", "X-B": "b"}, "secret": "first", "rate": "90/s", "timeout": 2.5"#
        )
        let expected =
            #"{"push":{"url":"\#(url)","headers":{"Authorization":"***","X-B":"***"},"timeout":2.5,"#
            + #""rate":"90/s","secret":"***"}}"#
        #expect(shown == expected)
        #expect(try server.get("/config/q").body == expected)
        let before = try next()
        #expect(before["Authorization"] == "Bearer x" && before["X-B"] == "b" && before["Emq-Signature"] != nil)
        // Putting a shown configuration back changes nothing.
        #expect(try server.send("PUT", "/config/q", shown).body == expected)
        let after = try next()
        #expect(after["Authorization"] == "Bearer x" && after["X-B"] == "b" && after["Emq-Signature"] != nil)
        // One header stays, one is new, one is removed.
        _ = try put(#", "headers": {"authorization": "***", "X-C": "c"}"#)
        let changed = try next()
        #expect(changed["Authorization"] == "Bearer x" && changed["X-C"] == "c")
        #expect(changed["X-B"] == nil && changed["Emq-Signature"] == nil)
        for (members, field) in [
            (#""headers": {"X-B": "***"}"#, "push.headers.X-B"), (#""secret": "***""#, "push.secret"),
        ] {
            let refused = try server.send("PUT", "/config/q", "{\"push\": {\"url\": \"\(url)\", \(members)}}")
            #expect(refused.status == 400 && refused.field == field, "\(refused.body)")
        }
        // A masked value is kept only for the same receiver.
        for other in ["http://127.0.0.1:1/q", "http://localhost:\(receiver.port)/q"] {
            let moved = "{\"push\": {\"url\": \"\(other)\", \"headers\": {\"authorization\": \"***\"}}}"
            let refused = try server.send("PUT", "/config/q", moved)
            #expect(refused.status == 400 && refused.field == "push.headers.authorization", "\(refused.body)")
        }
        // A task's own headers are masked too, wherever the task is shown.
        _ = try server.send("POST", "/pause/r")
        let id = try server.enqueue(
            "r", "\"content\": 1, " + receiver.request("/r", #", "headers": {"X-K": "hidden"}"#))
        let task = try server.get("/task/\(id)").body
        #expect(task.contains(#""request":{"url":"\#(receiver.url("/r"))","headers":{"X-K":"***"}}"#))
        #expect(!task.contains("hidden"))
        #expect(try !server.get("/peek/r").body.contains("hidden"))
        _ = try server.send("POST", "/resume/r")
        #expect(try receiver.wait("/r")[0]["X-K"] == "hidden")
        #expect(try server.send("DELETE", "/config/q").status == 204)
        #expect(try server.get("/config/q").body == "{}")
    }
}
