// Content that a queue's configuration hides from those who only look.

import Foundation
import Testing

@testable import emq

@Suite(.blocking) struct HiddenContentTests {
    private let reader = TestToken("reader", ["read"])
    private let boss = TestToken("boss", Permission.allCases.map(\.name))
    /// Has `admin`, but not for the hidden queue.
    private let other = TestToken("other", ["read", "admin"], queues: ["letters", "open"])
    private let manager = TestToken("manager", ["read", "manage"])
    private let client: Client
    private let server: Server
    private let file: TokenFile

    init() throws {
        file = try TokenFile([reader, boss, other, manager])
        server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path, "--push", "loopback"])
        client = try server.connect()
    }

    private func ask(
        _ method: String, _ path: String, _ json: String? = nil, as token: TestToken? = nil
    ) throws -> Response {
        let answer = try client.ask(method, path, json, (token ?? boss).bearer)
        #expect(answer.status < 300, "\(method) \(path): \(answer.body)")
        return answer
    }

    /// The members that are hidden together.
    private let members: Set<String> = ["content", "metadata", "request", "progress", "result", "log"]

    @Test func onlyAdministratorsSeeWhatIsHidden() throws {
        _ = try ask("PUT", "/config/q", #"{"show_content": false}"#)
        #expect(try ask("GET", "/config/q").body == #"{"show_content":false}"#)
        let task = #"{"content": "secret", "metadata": {"m": "secret"}, "key": "k", "keep": 60}"#
        let id = try #require(try ask("POST", "/enqueue/q", task).object["id"] as? String)
        let wait = try ask("POST", "/wait", #"{"queues": ["q"], "max": 1}"#)
        // Workers get it.
        #expect(wait.body.contains(#""content":"secret""#))
        _ = try ask("POST", "/touch", "{\"ids\": [\"\(id)\"], \"progress\": \"secret\"}")
        _ = try ask("POST", "/nak", "{\"ids\": [\"\(id)\"], \"log\": \"secret\"}")
        _ = try ask("POST", "/wait", #"{"queues": ["q"], "max": 1}"#)
        for path in ["/task/\(id)", "/key/q?key=k", "/task/\(id)?content_limit=4", "/peek/q?state=dispatched"] {
            let hidden = try ask("GET", path, as: reader).body
            #expect(hidden.contains(#""content_hidden":true"#) && !hidden.contains("sec"), "\(hidden)")
            let shown = try ask("GET", path).body
            #expect(!shown.contains("content_hidden") && shown.contains("\"sec"), "\(shown)")
        }
        _ = try ask("POST", "/ack", "{\"ids\": [\"\(id)\"], \"result\": \"secret\", \"log\": \"secret\"}")
        let done = try ask("GET", "/task/\(id)", as: reader).object
        #expect(done["content_hidden"] as? Bool == true && members.isDisjoint(with: done.keys))
        let shown = try ask("GET", "/task/\(id)").object
        #expect(shown["result"] as? String == "secret" && shown["log"] as? String == "secret")
        // Those who wait for results get them.
        #expect(try ask("GET", "/result/\(id)", as: reader).object["result"] as? String == "secret")
        // A configuration takes effect at once, and back.
        _ = try ask("PATCH", "/config/q", #"{"show_content": null}"#)
        #expect(try ask("GET", "/task/\(id)", as: reader).object["content"] as? String == "secret")
    }

    @Test func theRequestOfATaskIsHidden() throws {
        _ = try ask("PUT", "/config/q", #"{"show_content": false}"#)
        let task = #"{"delay": 60, "request": {"url": "http://127.0.0.1:9/secret", "body": "secret"}}"#
        let id = try #require(try ask("POST", "/enqueue/q", task).object["id"] as? String)
        #expect(!(try ask("GET", "/task/\(id)", as: reader).body.contains("secret")))
        #expect(try ask("GET", "/task/\(id)").body.contains("secret"))
    }

    @Test func aDeadLetterStaysHidden() throws {
        _ = try ask("PUT", "/config/q", #"{"show_content": false, "max_retries": 0, "dead_letter": "letters"}"#)
        let id = try #require(try ask("POST", "/enqueue/q", #"{"content": "secret"}"#).object["id"] as? String)
        _ = try ask("POST", "/wait", #"{"queues": ["q"], "max": 1}"#)
        _ = try ask("POST", "/nak", "{\"ids\": [\"\(id)\"]}")
        for path in ["/task/\(id)", "/peek/letters"] {
            for token in [reader, other] {
                let hidden = try ask("GET", path, as: token).body
                #expect(hidden.contains(#""content_hidden":true"#) && !hidden.contains("secret"), "\(hidden)")
            }
            #expect(try ask("GET", path).body.contains("secret"))
        }
    }

    @Test func onlyAdministratorsMoveWhatIsHiddenToWhereItIsShown() throws {
        _ = try ask("PUT", "/config/q", #"{"show_content": false, "max_retries": 0, "dead_letter": "letters"}"#)
        _ = try ask("PUT", "/config/vault", #"{"show_content": false}"#)
        func enqueue() throws -> String {
            try #require(try ask("POST", "/enqueue/q", #"{"content": "secret"}"#).object["id"] as? String)
        }
        func isRefused(_ path: String, _ json: String? = nil, field: String? = nil) throws -> Bool {
            let answer = try client.ask("POST", path, json, manager.bearer)
            #expect(answer.body.contains(#"'q' hides the content"#) && answer.field == field, "\(answer.body)")
            return answer.status == 403 && answer.body.contains("permission-missing")
        }
        let letter = try enqueue()
        _ = try ask("POST", "/wait", #"{"queues": ["q"], "max": 1}"#)
        _ = try ask("POST", "/nak", "{\"ids\": [\"\(letter)\"]}")
        let id = try enqueue()
        #expect(try isRefused("/move/q?to=open"))
        for id in [id, letter] { #expect(try isRefused("/move/?to=open", "{\"ids\": [\"\(id)\"]}", field: "ids[0]")) }
        // Where it stays hidden, it may go.
        #expect(try ask("POST", "/move/q?to=vault", as: manager).body == #"{"moved":1}"#)
        #expect(try ask("POST", "/move/?to=q", "{\"ids\": [\"\(id)\"]}", as: manager).object["moved"] as? Int == 1)
        #expect(try ask("POST", "/move/q?to=open").body == #"{"moved":1}"#)
        #expect(try ask("POST", "/move/?to=open", "{\"ids\": [\"\(letter)\"]}").object["moved"] as? Int == 1)
        #expect(try ask("GET", "/peek/open?n=2", as: reader).body.components(separatedBy: "secret").count == 3)
    }

    @Test func onlyAdministratorsReturnWhatIsHiddenToWhereItIsShown() throws {
        _ = try ask("PUT", "/config/vault", #"{"show_content": false}"#)
        for queue in ["open", "hidden"] {
            let shows = queue == "open"
            let json = "{\"show_content\": \(shows), \"max_retries\": 0, \"dead_letter\": \"vault\"}"
            _ = try ask("PUT", "/config/\(queue)", json)
        }
        func die(in queue: String) throws -> String {
            let task = try ask("POST", "/enqueue/\(queue)", #"{"content": "secret"}"#)
            let id = try #require(task.object["id"] as? String)
            _ = try ask("POST", "/wait", "{\"queues\": [\"\(queue)\"], \"max\": 1}")
            _ = try ask("POST", "/nak", "{\"ids\": [\"\(id)\"]}")
            return id
        }
        func isRefused(_ path: String, _ json: String? = nil, field: String) throws -> Bool {
            let answer = try client.ask("POST", path, json, manager.bearer)
            #expect(answer.body.contains("'vault' hides the content") && answer.field == field, "\(answer.body)")
            return answer.status == 403 && answer.body.contains("permission-missing")
        }
        func kicked(_ path: String, _ json: String? = nil, as token: TestToken) throws -> Int? {
            try ask("POST", path, json, as: token).object["kicked"] as? Int
        }
        let (open, hidden) = (try die(in: "open"), try die(in: "hidden"))
        let both = "{\"ids\": [\"\(hidden)\", \"\(open)\"]}"
        // The letters are ready, so they would return without `to=origin`, too.
        for path in ["/kick/?to=origin", "/kick/"] { #expect(try isRefused(path, both, field: "ids[1]")) }
        #expect(try isRefused("/kick/vault?to=origin", field: "to"))
        #expect(try ask("GET", "/stats/vault").object["ready"] as? Int == 2)
        // Where it stays hidden, it may return.
        #expect(try kicked("/kick/?to=origin", "{\"ids\": [\"\(hidden)\"]}", as: manager) == 1)
        #expect(try kicked("/kick/?to=origin", "{\"ids\": [\"\(open)\"]}", as: boss) == 1)
        #expect(try ask("GET", "/peek/open", as: reader).body.contains("secret"))
        _ = try ask("POST", "/purge/open")
        _ = try die(in: "open")
        #expect(try kicked("/kick/vault?to=origin", as: boss) == 1)
        // A kick that leaves them where they are shows nothing, and a queue that shows its content has none to hide.
        #expect(try kicked("/kick/vault", as: manager) == 0)
        #expect(try kicked("/kick/open?to=origin", as: manager) == 0)
    }

    @Test func theDefaultsHideUnlessAQueueShows() throws {
        _ = try ask("PUT", "/defaults/", #"{"show_content": false}"#)
        _ = try ask("PUT", "/config/open", #"{"show_content": true}"#)
        #expect(try ask("GET", "/config/open").body == #"{"show_content":true}"#)
        for queue in ["q", "open"] { _ = try ask("POST", "/enqueue/\(queue)", #"{"content": "secret"}"#) }
        #expect(!(try ask("GET", "/peek/q", as: reader).body.contains("secret")))
        #expect(try ask("GET", "/peek/open", as: reader).body.contains("secret"))
    }

    @Test func withoutTokensNothingIsHidden() throws {
        let server = try Server()
        try server.configure("q", #"{"show_content": false}"#)
        try server.enqueue("q", #""content": "shown""#)
        #expect(try server.get("/peek/q").body.contains(#""content":"shown""#))
    }

    @Test func aWrongValueIsRefused() throws {
        let answer = try Server().send("PUT", "/config/q", #"{"show_content": "no"}"#)
        #expect(answer.status == 400 && answer.field == "show_content")
    }

    @Test func aRestartHidesWhatWasHidden() throws {
        let directory = DataDirectory()
        let first = try directory.start("--tokens", file.path)
        let bearer = boss.bearer
        let hide = #"{"show_content": false}"#
        #expect(try first.connect().ask("PUT", "/config/q", hide, bearer).status == 200)
        #expect(try first.connect().ask("PUT", "/defaults/", #"{"show_content": true}"#, bearer).status == 200)
        try first.crash()
        let second = try directory.start("--tokens", file.path)
        #expect(try second.connect().ask("GET", "/config/q", nil, bearer).body == #"{"show_content":false}"#)
        #expect(try second.connect().ask("GET", "/defaults/", nil, bearer).body == #"{"show_content":true}"#)
    }
}
