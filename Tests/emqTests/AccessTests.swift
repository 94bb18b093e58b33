// What tokens allow beyond the path of a request: queues in bodies, tasks by id, and lists.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct AccessTests {
    /// A token for everything in all queues, and one for everything in `orders/*`.
    private static let root = TestToken("root", Permission.allCases.map(\.name))
    private static let limited = TestToken("limited", Permission.allCases.map(\.name), queues: ["orders/*"])

    private let file: TokenFile
    private let server: Server
    private let client: Client

    init() throws {
        file = try TokenFile([Self.root, Self.limited, TestToken("pushless", ["enqueue"])])
        server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path, "--push", "loopback"])
        client = try server.connect()
    }

    private func ask(
        _ method: String, _ path: String, _ json: String? = nil, as token: TestToken = Self.limited
    ) throws -> Response {
        try client.ask(method, path, json, token.bearer)
    }

    /// Adds a task to a queue, with all permissions.
    private func enqueue(_ queue: String, _ fields: String = #""content": 1"#) throws -> String {
        let answer = try ask("POST", "/enqueue/\(queue)", "{\(fields)}", as: Self.root)
        return try #require(try answer.object["id"] as? String, "\(answer.body)")
    }

    @Test func aWaitNamesOnlyQueuesOfTheToken() throws {
        let answer = try ask("POST", "/wait", #"{"queues": ["orders/a", "mail"]}"#)
        #expect(answer.status == 403 && answer.field == "queues[1]")
        #expect(
            answer.detail == "the token 'limited' has the permission 'work', but not for the queue 'mail'; its queues "
                + "are 'orders/*'")
        #expect(try ask("POST", "/wait", #"{"queues": ["orders/a", "orders/b"]}"#).body == "[null,null]")
        #expect(try ask("POST", "/wait", #"{"queues": []}"#).body == "[]")
    }

    @Test func tasksOfOtherQueuesAreMissing() throws {
        let (here, there) = (try enqueue("orders/a"), try enqueue("mail"))
        for queue in ["orders/a", "mail"] {
            #expect(try ask("POST", "/wait", "{\"queues\": [\"\(queue)\"]}", as: Self.root).tasks.count == 1)
        }
        let ids = "{\"ids\": [\"\(there)\", \"\(here)\"]}"
        #expect(try ask("POST", "/touch", ids).body == "{\"touched\":1,\"missing\":[\"\(there)\"]}")
        #expect(try ask("POST", "/nak", ids).body == "{\"requeued\":1,\"dead\":0,\"missing\":[\"\(there)\"]}")
        let kick = "{\"ids\": [\"\(there)\", \"AaH8ekX5cACuES467dOuXw\"]}"
        #expect(
            try ask("POST", "/kick/", kick).body
                == "{\"kicked\":0,\"missing\":[\"\(there)\",\"AaH8ekX5cACuES467dOuXw\"]}")
        _ = try ask("POST", "/wait", #"{"queues": ["orders/a"]}"#)
        let wait = try ask("POST", "/wait", "{\"queues\": [], \"ack\": [\"\(there)\", \"\(here)\"]}")
        #expect(wait.status == 200 && wait.fields["emq-missing"] == there)
        #expect(try ask("POST", "/ack", "{\"ids\": [\"\(there)\"]}").body == "{\"acked\":0,\"missing\":[\"\(there)\"]}")
        // It is still dispatched.
        #expect(try ask("POST", "/ack", "{\"ids\": [\"\(there)\"]}", as: Self.root).object["acked"] as? Int == 1)
    }

    @Test func aTaskOfAnotherQueueIsNotFound() throws {
        let (here, there) = (try enqueue("orders/a"), try enqueue("mail"))
        for path in ["/task", "/result"] {
            let unknown = try ask("GET", "\(path)/AaH8ekX5cACuES467dOuXw")
            let answer = try ask("GET", "\(path)/\(there)")
            #expect(answer.status == 404 && answer.body == unknown.body)
            #expect(try ask("DELETE", "\(path)/\(there)").status == 404)
            #expect(try ask("GET", "\(path)/\(here)").status == 200)
        }
        #expect(try ask("GET", "/result/\(there)?timeout=60000").status == 404)
        #expect(try ask("DELETE", "/task/\(here)").status == 204)
        #expect(try ask("GET", "/task/\(there)", as: Self.root).status == 200)
    }

    @Test func listsShowOnlyQueuesOfTheToken() throws {
        for queue in ["mail", "orders/a", "orders/b", "xorders/c"] { _ = try enqueue(queue) }
        #expect(try ask("GET", "/queues").body == #"["orders/a","orders/b"]"#)
        let queues = try #require(try ask("GET", "/stats").object["queues"] as? [String: Any])
        #expect(queues.keys.sorted() == ["orders/a", "orders/b"])
        #expect(try (ask("GET", "/stats", as: Self.root).object["queues"] as? [String: Any])?.count == 4)
        // They count only what they show.
        let counted = try ask("GET", "/stats/?offset=1").object
        #expect(counted["count"] as? Int == 2 && (counted["queues"] as? [String: Any])?.keys.first == "orders/b")
        for member in ["states", "oldest", "totals"] {
            #expect(counted[member] == nil)
            #expect(try ask("GET", "/stats", as: Self.root).object[member] != nil)
        }
        #expect(counted["server"] != nil)
        // What is wrong with other queues is nothing to them.
        for queue in ["mail", "orders/a"] {
            let id = try enqueue(queue, #""max_retries": 0"#)
            #expect(try ask("POST", "/wait", "{\"queues\": [\"\(queue)\"], \"max\": 2}", as: Self.root).status == 200)
            #expect(try ask("POST", "/nak", "{\"ids\": [\"\(id)\"]}", as: Self.root).status == 200)
        }
        for (token, texts) in [
            (Self.limited, ["'orders/a' has 1 dead task"]),
            (Self.root, ["'mail' has 1 dead task", "'orders/a' has 1 dead task"]),
        ] {
            let alerts = try #require(try ask("GET", "/alerts", as: token).object["alerts"] as? [[String: Any]])
            #expect(alerts.map { $0["text"] as? String } == texts)
        }
    }

    @Test func tasksMoveOnlyToQueuesOfTheToken() throws {
        _ = try enqueue("orders/a")
        let answer = try ask("POST", "/move/orders/a?to=mail")
        #expect(answer.status == 403 && answer.field == "to" && answer.detail.contains("'manage'"))
        #expect(try ask("POST", "/move/orders/a?to=orders/b").object["moved"] as? Int == 1)
        let letter = try ask("PUT", "/config/orders/a", #"{"max_retries": 0, "dead_letter": "mail"}"#)
        #expect(letter.status == 403 && letter.field == "dead_letter" && letter.detail.contains("'mail'"))
        // What somebody else has set may stay.
        let all = #"{"max_retries": 0, "dead_letter": "mail"}"#
        #expect(try ask("PUT", "/config/orders/a", all, as: Self.root).status == 200)
        #expect(try ask("PATCH", "/config/orders/a", #"{"max_retries": 1}"#).status == 200)
        #expect(try ask("PATCH", "/config/orders/a", #"{"dead_letter": "sms"}"#).status == 403)
    }

    @Test func deadLettersReturnOnlyToQueuesOfTheToken() throws {
        let configuration = #"{"max_retries": 0, "dead_letter": "orders/dead"}"#
        for queue in ["mail", "orders/a"] {
            #expect(try ask("PUT", "/config/\(queue)", configuration, as: Self.root).status == 200)
        }
        let (here, there) = (try enqueue("orders/a"), try enqueue("mail"))
        for id in [here, there] {
            _ = try ask("POST", "/wait", #"{"queues": ["mail", "orders/a"], "max": 1}"#, as: Self.root)
            _ = try ask("POST", "/nak", "{\"ids\": [\"\(here)\", \"\(there)\"]}", as: Self.root)
            #expect(try ask("GET", "/task/\(id)", as: Self.root).status == 200)
        }
        #expect(try ask("GET", "/stats/orders/dead").object["ready"] as? Int == 2)
        let sweep = try ask("POST", "/kick/orders/dead?to=origin")
        #expect(sweep.status == 403 && sweep.field == "to" && sweep.detail.contains("to=origin concerns all queues"))
        let kicked = try ask("POST", "/kick/?to=origin", "{\"ids\": [\"\(here)\", \"\(there)\"]}")
        #expect(kicked.body == "{\"kicked\":1,\"missing\":[\"\(there)\"]}")
        #expect(try ask("POST", "/kick/orders/dead?to=origin", as: Self.root).object["kicked"] as? Int == 1)
    }

    @Test func aRequestNeedsThePermissionToPush() throws {
        let pushless = TestToken("pushless", ["enqueue"])
        let task = #"{"request": {"url": "http://127.0.0.1:1/"}, "delay": 1000}"#
        for (body, field) in [(task, "request"), ("[\(task)]", "[0].request")] {
            let answer = try ask("POST", "/enqueue/q", body, as: pushless)
            #expect(answer.status == 403 && answer.field == field, "\(answer.body)")
            #expect(answer.detail.contains("lacks the permission 'push' for the queue 'q'; it has 'enqueue'"))
        }
        #expect(try ask("POST", "/enqueue/q", #"{"content": 1}"#, as: pushless).status == 200)
        #expect(try ask("POST", "/enqueue/orders/a", task).status == 200)
    }

    @Test func aSourceNeedsItsQueue() throws {
        let elsewhere = #"{"amqp": "amqp://127.0.0.1:1/", "queue": "q", "into": "mail"}"#
        let answer = try ask("PUT", "/source/s", elsewhere)
        #expect(answer.status == 403 && answer.field == "into" && answer.detail.contains("'mail'"))
    }

    @Test(.enabled(if: Sources.flawOfSystem() == nil, "skipped: there is no librabbitmq"))
    func sourcesForOtherQueuesAreHidden() throws {
        for (name, queue) in [("a", "orders/a"), ("b", "mail")] {
            let definition = "{\"amqp\": \"amqp://127.0.0.1:1/\", \"queue\": \"q\", \"into\": \"\(queue)\"}"
            #expect(try ask("PUT", "/source/\(name)", definition, as: Self.root).status == 201)
        }
        for (method, path) in [("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume")] {
            #expect(try ask(method, "/source/b\(path)").status == 404)
        }
        let mine = #"{"amqp": "amqp://127.0.0.1:1/", "queue": "q", "into": "orders/a"}"#
        #expect(try ask("PUT", "/source/b", mine).status == 403)
        #expect(try ask("PUT", "/source/a", mine).status == 200)
        for path in ["/source/", "/stats/"] {
            #expect(try (ask("GET", path).object["sources"] as? [String: Any])?.keys.sorted() == ["a"])
        }
    }

    @Test(arguments: [
        ("Bearer x", "does not know the token"), ("Bearer emq_x", "its checksum is wrong"),
        ("Digest x", "send one Authorization header"), ("Basic " + String(repeating: "A", count: 1000), "send one"),
    ])
    func a401SaysWhatIsWrong(authorization: String, words: String) throws {
        let answer = try client.ask("GET", "/queues", nil, authorization)
        #expect(answer.status == 401 && answer.detail.contains(words), "\(answer.detail)")
        #expect(try client.ask("GET", "/queues").detail.contains("requires a token"))
    }

    @Test func twoTokensAreNoToken() throws {
        let answer = try client.ask(
            "GET", "/queues", nil, Self.root.bearer, fields: ["Authorization: \(Self.root.bearer)"])
        #expect(answer.status == 401)
    }
}

/// What emq says when it starts without tokens.
@Suite(.blocking) struct AccessOptionsTests {
    @Test(.plainOnly("the printed addresses are plain")) func withoutTokensEmqWarnsOfOpenAddresses() throws {
        let server = try Server(["--addr", "0.0.0.0:0"])
        let line = try eventually("the warning") {
            server.messages.first { $0.hasPrefix("whoever reaches") }
        }
        #expect(
            line == "whoever reaches http://0.0.0.0:\(server.port) may do everything; to change that, use "
                + "--tokens FILE (`emq token new` makes tokens) or listen at localhost")
        #expect(try server.get("/queues").status == 200)
    }

    @Test func addressesOfThisMachineAndTokensNeedNoWarning() throws {
        let file = try TokenFile([])
        for arguments in [
            ["--addr", "127.0.0.1:0"], ["--addr", "0.0.0.0:0", "--tokens", file.path, "--require-tokens"],
        ] {
            let server = try Server(arguments)
            _ = try server.get("/healthz")
            #expect(!server.output.contains("whoever"), "\(server.output)")
        }
    }

    @Test func clientsOfLegacySystemsHaveNoTokens() throws {
        let file = try TokenFile([])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path, "--htq", "0.0.0.0:0"])
        let lines = try eventually("the warning") {
            let lines = server.output.split(separator: "\n").filter { $0.contains("whoever reaches") }
            return lines.isEmpty ? nil : lines
        }
        #expect(lines.count == 1 && lines[0].contains("may do everything that htq offers"), "\(server.output)")
    }

    @Test(
        arguments: [
            (["--require-tokens"], [:], "--require-tokens requires --tokens FILE"),
            ([], ["EMQ_REQUIRE_TOKENS": "true"], "--require-tokens requires --tokens FILE"),
            (["--require-tokens=maybe"], [:], "--require-tokens is true or false, not 'maybe'"),
            (["--tokens", "/nowhere/tokens"], [:], "emq: --tokens: cannot read '/nowhere/tokens': No such file"),
            (["--tokens", ""], [:], "--tokens needs the path of a file"),
        ] as [([String], [String: String], String)])
    func aServerWithoutNeededTokensDoesNotStart(
        arguments: [String], environment: [String: String], words: String
    ) throws {
        let result = try Server.run(["--addr", "127.0.0.1:0"] + arguments, environment: environment)
        #expect(result.status == 2 && result.error.contains(words), "\(result.error)")
    }

    @Test func aServerMayBeToldToNeedNoTokens() throws {
        #expect(try Options(["--require-tokens=false"]) { _ in nil }.requiresTokens == false)
        #expect(try Options(["--require-tokens", "--tokens", "x"]) { _ in nil }.requiresTokens)
        #expect(try Options(["--tokens", "x"]) { $0 == "EMQ_REQUIRE_TOKENS" ? "1" : nil }.requiresTokens)
    }

    @Test(arguments: [
        ("GET", "/queues", nil as String?), ("GET", "/healthz", nil), ("POST", "/pause/q", nil),
    ])
    func aBrowserWithATokenMayUseAnyHost(method: String, path: String, body: String?) throws {
        let token = TestToken("all", ["read", "manage"])
        let file = try TokenFile([token])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try server.connect()
        let fields = ["User-Agent: Mozilla/5.0"]
        func ask(_ authorization: String?, _ fields: [String]) throws -> Int {
            try client.ask(method, path, body, authorization, host: "evil.example", fields: fields).status
        }
        #expect(try ask(token.bearer, fields) == 200)
        // Without a token, the host counts first, so that no browser asks its user for a password there.
        for authorization in [nil, "Bearer x"] { #expect(try ask(authorization, fields) == 403) }
        // A page of another site may use the password that a browser remembers.
        let foreign = ["Sec-Fetch-Site: cross-site"]
        #expect(try ask(token.basic, foreign) == (method == "GET" ? 200 : 403))
    }

    @Test func aTokenCountsOnlyIfTheServerKnowsTokens() throws {
        let server = try Server()
        let client = try server.connect()
        let answer = try client.ask(
            "GET", "/queues", nil, "Bearer x", host: "evil.example", fields: ["Origin: http://evil.example"])
        #expect(answer.status == 403)
    }
}
