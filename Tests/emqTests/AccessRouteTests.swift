// Every route with every kind of token.

import Foundation
import Testing

@testable import emq

@Suite(.blocking) struct AccessRouteTests {
    /// What each request needs, written down a second time, so that the table of routes cannot change unnoticed.
    private static let needs: [String: String] = [
        "POST /enqueue/NAME": "enqueue",
        "POST /wait/": "work", "POST /ack/": "work", "POST /nak/": "work", "POST /touch/": "work",
        "GET /task/ID": "read", "DELETE /task/ID": "manage", "GET /result/ID": "read", "DELETE /result/ID": "manage",
        "GET /key/NAME": "read", "DELETE /key/NAME": "manage",
        "GET /search/": "read", "GET /peek/NAME": "read", "GET /queues/": "read", "GET /stats/": "read",
        "GET /stats/NAME": "read",
        "GET /errors/": "read", "GET /errors/NAME": "read", "GET /workers/": "read",
        "GET /alerts/": "read",
        "GET /operations/": "read", "DELETE /operations/ID": "manage",
        "POST /pause/NAME": "manage", "POST /resume/NAME": "manage", "POST /purge/NAME": "manage",
        "POST /kick/": "manage", "POST /kick/NAME": "manage", "POST /move/": "manage",
        "POST /move/NAME": "manage",
        "GET /config/NAME": "admin", "PUT /config/NAME": "admin", "PATCH /config/NAME": "admin",
        "DELETE /config/NAME": "admin",
        "GET /defaults/": "admin", "PUT /defaults/": "admin of all queues", "PATCH /defaults/": "admin of all queues",
        "DELETE /defaults/": "admin of all queues",
        "POST /source/NAME/pause": "admin", "POST /source/NAME/resume": "admin", "GET /source/NAME": "admin",
        "PUT /source/NAME": "admin", "DELETE /source/NAME": "admin", "GET /source/": "admin",
        "GET /metrics/": "metrics", "GET /metrics/queues": "metrics", "GET /healthz/": "nothing",
        "GET /openapi.json/": "nothing", "GET /": "nothing", "GET /dashboard/FILE": "nothing",
        "GET /access/": "any token", "GET /events/": "any token",
    ]

    private struct Asked {
        let title: String
        let method: String
        let path: String
        let body: String?
        let need: Need
        let namesQueue: Bool
    }

    /// A request for each operation of each route, for the queue `orders/a`.
    private static let requests: [Asked] = Route.all.flatMap { route in
        route.operations.map { operation in
            let method = "\(operation.method)".uppercased()
            var path = route.path.replacing("NAME", with: "orders/a").replacing("ID", with: "AaH8ekX5cACuES467dOuXw")
                .replacing("FILE", with: "index.html")
            if route.name.description == "move" { path += "?to=orders/b" }
            if route.name.description == "key" { path += "?key=k" }
            // Without what to watch, the stream does not begin.
            if route.name.description == "events" { path += "?interval=1" }
            return Asked(
                title: "\(method) \(route.path)", method: method, path: path,
                body: operation.body == .none ? nil : "{}", need: operation.need,
                namesQueue: route.subject == .queue || path.contains("?to="))
        }
    }

    @Test func theTableSaysWhatEachRequestNeeds() {
        var table: [String: String] = [:]
        for asked in Self.requests {
            let name = asked.need.permission?.name ?? (asked.need.isOpen ? "nothing" : "any token")
            table[asked.title] = asked.need.isForAllQueues ? "\(name) of all queues" : name
        }
        #expect(table == Self.needs)
    }

    @Test func eachRequestIsAllowedToTheRightTokens() throws {
        var tokens: [TestToken] = []
        for permission in Permission.allCases {
            tokens.append(TestToken("\(permission)-all", [permission.name]))
            tokens.append(TestToken("\(permission)-here", [permission.name], queues: ["orders/*"]))
            tokens.append(TestToken("\(permission)-elsewhere", [permission.name], queues: ["mail"]))
        }
        let expired = TestToken("expired", Permission.allCases.map(\.name), expires: 1000)
        let file = try TokenFile(tokens + [expired])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path, "--push", "loopback"])
        let client = try server.connect()
        func ask(_ asked: Asked, _ authorization: String?) throws -> Response {
            try client.ask(asked.method, asked.path, asked.body, authorization)
        }
        for asked in Self.requests {
            for authorization in [nil, "Bearer unknown", expired.bearer, "Basic", "Digest x"] {
                let answer = try ask(asked, authorization)
                #expect(
                    asked.need.isOpen ? answer.status == 200 : answer.status == 401,
                    "\(asked.title) \(authorization ?? "-"): \(answer.status)")
                let challenge = answer.fields["www-authenticate"] ?? ""
                #expect((answer.status == 401) == challenge.contains("realm=\"emq\""))
            }
            for token in tokens {
                let isAllowed =
                    asked.need.permission.map { permission in
                        let isHere = token.queues == nil || token.queues == ["orders/*"] && !asked.need.isForAllQueues
                        let needsNoQueue = !asked.namesQueue && !asked.need.isForAllQueues
                        return token.allow == [permission.name] && (isHere || needsNoQueue)
                    } ?? true
                for authorization in [token.bearer, token.basic] {
                    let answer = try ask(asked, authorization)
                    let title: Comment = "\(asked.title) by \(token.name): \(answer.status) \(answer.detail)"
                    #expect((answer.status == 403) == !isAllowed && answer.status != 401, title)
                    guard !isAllowed, let permission = asked.need.permission else { continue }
                    #expect(answer.detail.contains("'\(permission.name)'"), title)
                    #expect(answer.detail.contains("'\(token.name)'"), title)
                    let isInPath = asked.namesQueue && asked.title.contains("NAME")
                    if isInPath { #expect(answer.detail.contains("'orders/a'"), title) }
                }
            }
        }
    }

    @Test func nobodyLearnsFromAPathWhatExists() throws {
        let file = try TokenFile([])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try server.connect()
        for (method, path) in [
            ("GET", "/nowhere"), ("PUT", "/wait/"), ("GET", "/task/x"), ("BREW", "/"), ("GET", "//"),
        ] {
            #expect(try client.ask(method, path).status == 401, "\(method) \(path)")
        }
        #expect(try client.ask("OPTIONS", "/queues/").status == 204)
        #expect(try client.ask("HEAD", "/healthz").status == 200)
        #expect(try client.ask("HEAD", "/queues").status == 401)
        #expect(try client.ask("POST", "/healthz").status == 401)
    }

    /// A request with two Authorization fields has none that counts, also if its head is remembered.
    @Test func onlyOneAuthorizationCounts() throws {
        let (token, other) = (TestToken("one", ["read"]), TestToken("two", ["read"]))
        let file = try TokenFile([token, other])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try server.connect()
        for _ in 0..<4 {
            for (bearers, status) in [
                ([token.bearer], 200), ([token.bearer, other.bearer], 401), ([other.bearer], 200),
                ([token.bearer, token.bearer], 401), ([String(token.bearer.dropLast()) + "~"], 401), ([], 401),
            ] {
                let fields = bearers.map { "Authorization: \($0)\r\n" }.joined()
                client.send(Array("GET /queues/ HTTP/1.1\r\nHost: localhost\r\n\(fields)\r\n".utf8))
                #expect(try client.response().status == status, "\(bearers.count)")
            }
        }
    }

    @Test func aBodyIsRefusedBeforeItIsSent() throws {
        let token = TestToken("reader", ["read"])
        let file = try TokenFile([token])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        for (authorization, status) in [("", 401), ("Authorization: \(token.bearer)\r\n", 403)] {
            let client = try server.connect()
            client.send(
                "POST /enqueue/q HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\(authorization)"
                    + "Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
            #expect(try client.response().status == status)
        }
    }

    @Test func aLargeBodyIsNotReadFromStrangers() throws {
        let token = TestToken("ci", ["enqueue", "metrics"])
        let file = try TokenFile([token])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let body = "\"" + String(repeating: "x", count: 200_000) + "\""
        let json = "{\"content\": \(body)}"
        #expect(try server.connect().ask("POST", "/enqueue/q", json, token.bearer).status == 200)
        let client = try server.connect()
        client.send(
            "POST /enqueue/q HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                + "Content-Length: 1000000\r\n\r\n" + body)
        // The answer comes although the rest of the body does not.
        #expect(try client.response().status == 401)
        // Not even for what needs no token.
        for head in ["GET /healthz", "OPTIONS /queues/"] {
            let client = try server.connect()
            // The contract says nothing of such a request, so this goes around its check.
            client.send(Array("\(head) HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n\(body)".utf8))
            #expect(try client.response().status == 401, "\(head)")
        }
        // They count as refused, as others do.
        let metrics = try server.connect().ask("GET", "/metrics", nil, token.bearer).body
        #expect(metrics.contains("emq_auth_failures_total{reason=\"missing\"} 3\n"))
        #expect(metrics.contains("emq_enqueue_rejected_total{reason=\"forbidden\"} 1\n"))
        #expect(metrics.contains("emq_http_requests_total{route=\"/enqueue/NAME\",code=\"401\"} 1\n"))
    }

    /// The content of a message says where emq sends it.
    @Test func aMessageOfTaskqueueNeedsThePermissionToPush() throws {
        let (weak, strong) = (TestToken("weak", ["enqueue"]), TestToken("strong", ["enqueue", "push"]))
        let file = try TokenFile([weak, strong])
        let ini = NSTemporaryDirectory() + "emq-\(UUID().uuidString).ini"
        try "base_url = http://127.0.0.1:9/\n[a]\n".write(toFile: ini, atomically: true, encoding: .utf8)
        defer { try? FileManager.default.removeItem(atPath: ini) }
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path, "--taskqueue", ini])
        let message = #"{"content": {"url": "/x", "countdown": 100}}"#
        for (token, status) in [(weak, 403), (strong, 200)] {
            let answer = try server.connect().ask("POST", "/enqueue/a", message, token.bearer)
            #expect(answer.status == status && (status == 200 || answer.detail.contains("'push'")))
        }
    }
}
