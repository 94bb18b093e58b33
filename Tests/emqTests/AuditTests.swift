// The lines of the log about changes that operators make.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct AuditTests {
    /// The lines of a server's log about changes, once there are so many, without their beginning, the port, and the
    /// digits of ids of operations. Those with `exception` do not count.
    private func lines(of server: Server, count: Int, except exception: String? = nil) throws -> [String] {
        let lines = try eventually("\(count) lines") { () -> [String]? in
            let lines = server.messages.filter { line in
                line.hasPrefix("audit ") && exception.map { !line.contains($0) } ?? true
            }
            return lines.count >= count ? lines.map(String.init) : nil
        }
        return lines.map { String($0.dropFirst("audit ".count)).replacing(#/127\.0\.0\.1:\d+/#, with: "PEER") }
            .map { $0.replacing(#/operation=\d+/#, with: "operation=ID") }
    }

    @Test func eachChangeOfAnOperatorIsALine() throws {
        let token = TestToken("ann \"x\"", Permission.allCases.map(\.name))
        let file = try TokenFile([token])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try server.connect()
        func ask(_ method: String, _ path: String, _ json: String? = nil) throws -> Response {
            try client.ask(method, path, json, token.bearer)
        }
        var ids: [String] = []
        for _ in 0..<3 {
            ids.append(try #require(try ask("POST", "/enqueue/a/b", "{}").object["id"] as? String))
        }
        // Looking and working leave no line, nor does what is refused.
        for path in ["/queues", "/config/q", "/stats"] { #expect(try ask("GET", path).status == 200) }
        #expect(try ask("POST", "/wait", #"{"queues": ["a/b"]}"#).status == 200)
        #expect(try ask("POST", "/nak", "{\"ids\": [\"\(ids[0])\"], \"dead\": true}").object["dead"] as? Int == 1)
        #expect(try ask("PUT", "/config/q", #"{"retry": 0}"#).status == 400)
        #expect(try ask("DELETE", "/task/AaH8ekX5cACuES467dOuXw").status == 404)
        #expect(try client.ask("POST", "/purge/a/b").status == 401)

        #expect(try ask("POST", "/pause/a/b").status == 200)
        #expect(try ask("PUT", "/config/q%22", #"{"retry": 5}"#).status == 200)
        #expect(try ask("PATCH", "/defaults", #"{"retry": 5}"#).status == 200)
        #expect(try ask("POST", "/kick/", "{\"ids\": [\"\(ids[0])\", \"\(ids[1])\"]}").status == 200)
        #expect(try ask("DELETE", "/task/\(ids[1])").status == 204)
        #expect(try ask("POST", "/move/a/b?to=c&n=1").status == 200)
        #expect(try ask("POST", "/purge/a/b").status == 200)
        let name = #"token="ann \"x\"" remote=PEER"#
        #expect(
            try lines(of: server, count: 9) == [
                #"\#(name) action="POST /pause" queue="a/b""#,
                #"\#(name) action="PUT /config" queue="q\"""#,
                #"\#(name) action="PATCH /defaults""#,
                #"\#(name) action="POST /kick" queue="a/b" tasks=1"#,
                #"\#(name) action="DELETE /task" queue="a/b" task="\#(ids[1])" tasks=1"#,
                #"\#(name) action="POST /move" queue="a/b" to="c" n=1 operation=ID"#,
                #"\#(name) action="POST /move" queue="a/b" to="c" n=1 operation=ID tasks=1"#,
                #"\#(name) action="POST /purge" queue="a/b" operation=ID"#,
                #"\#(name) action="POST /purge" queue="a/b" operation=ID tasks=1"#,
            ])
    }

    /// Both lines say what was done, not what the client wrote, and name the operation that others see.
    @Test func theLinesOfAnOperationNameItAndItsTasks() throws {
        let server = try Server()
        try server.enqueueAll("q", Array(0..<1000))
        let pattern = "*" + String(repeating: "x", count: 100)
        let nothing = String(repeating: "%00", count: 2000)
        let query = "n=%2B5&error=a%20%22b%22%0Ac\(nothing)&error_match=\(pattern)&older_than=0.50&newer_than=7"
        let kick = try server.begin("POST", "/kick/q?state=delayed&\(query)")
        #expect(try kick.response().body == #"{"kicked":0}"#)
        try server.beginLongOperations()
        let mover = try server.begin("POST", "/move/q?to=r&error_match=\(pattern)")
        let operations = try server.get("/operations").object["operations"] as? [[String: Any]]
        let id = try #require(operations?.last?["id"] as? Int)
        #expect(try server.send("DELETE", "/operations/\(id)").status == 204)
        #expect(try mover.response().body == #"{"moved":0,"stopped":true}"#)
        let selection =
            #"state="delayed" n=5 task_error="a \"b\"" task_error_match="\#(pattern)" older_than=0.5 newer_than=7"#
        let move = #"token=- remote=PEER action="POST /move" queue="q" to="r" task_error_match="\#(pattern)""#
        let lines = try lines(of: server, count: 5, except: #"queue="busy""#)
        #expect(
            Set(lines) == [
                #"token=- remote=PEER action="POST /kick" queue="q" \#(selection) operation=ID"#,
                #"token=- remote=PEER action="POST /kick" queue="q" \#(selection) operation=ID tasks=0"#,
                "\(move) operation=ID", "\(move) operation=ID tasks=0",
                #"token=- remote=PEER action="DELETE /operations" queue="q" operation=ID"#,
            ])
        #expect(server.messages.count { $0.contains(" operation=\(id)") } == 3)
    }

    @Test func aLineNamesItsRequest() throws {
        let server = try Server()
        _ = try server.connect().ask("POST", "/pause/q", fields: ["X-Request-Id: change-17"])
        #expect(
            try lines(of: server, count: 1) == [
                #"token=- remote=PEER action="POST /pause" queue="q" request_id="change-17""#
            ])
    }

    @Test func aKickOfTasksInManyQueuesHasFewLines() throws {
        let server = try Server()
        var ids: [String] = []
        for number in 10..<35 {
            try server.enqueue("q\(number)")
            let task = try #require(try server.take("q\(number)").first?["id"] as? String)
            _ = try server.post("/nak", "{\"ids\": [\"\(task)\"], \"dead\": true}")
            ids.append("\"\(task)\"")
        }
        #expect(try server.post("/kick/", "{\"ids\": [\(ids.joined(separator: ","))]}").status == 200)
        // What is not kicked any more is said too, and so is where dead letters go.
        #expect(try server.post("/kick/?to=origin", "{\"ids\": [\(ids[0])]}").status == 200)
        let lines = try lines(of: server, count: 22)
        #expect(lines.count == 22)
        for (place, line) in lines.prefix(20).enumerated() {
            #expect(line == #"token=- remote=PEER action="POST /kick" queue="q\#(place + 10)" tasks=1"#)
        }
        #expect(lines[20] == #"token=- remote=PEER action="POST /kick" other_queues=5 tasks=5"#)
        #expect(lines[21] == #"token=- remote=PEER action="POST /kick" to="origin" tasks=0"#)
    }

    @Test func aServerWithoutTokensLogsTheAddress() throws {
        let server = try Server()
        #expect(try server.post("/pause/q", "").status == 200)
        #expect(try lines(of: server, count: 1) == [#"token=- remote=PEER action="POST /pause" queue="q""#])
    }

    @Test(.plainOnly("Unix-domain sockets have no TLS")) func aClientOfAUnixSocketHasNoAddress() throws {
        let path = NSTemporaryDirectory() + "emq-\(UUID().uuidString.prefix(8)).sock"
        let server = try Server(["--addr", "unix:\(path)"])
        let client = try Client(path: path)
        #expect(try client.ask("POST", "/resume/q").status == 200)
        #expect(try lines(of: server, count: 1) == [#"token=- remote=unix action="POST /resume" queue="q""#])
    }
}
