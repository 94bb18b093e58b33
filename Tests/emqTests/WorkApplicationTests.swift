// `emq work --http` with the real program.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct WorkApplicationTests {
    private let server: Server
    private let site: WorkSite
    private let receiver: Receiver

    init() throws {
        server = try Server()
        site = WorkSite(port: server.port)
        receiver = try Receiver()
    }

    private func work(_ arguments: [String]) throws -> (status: Int32, output: String, error: String) {
        try site.run(["w", "--exit-when-empty"] + arguments)
    }

    @Test func theApplicationGetsWhatPushSends() throws {
        receiver.script("/t", [.answer("200 OK", "done", fields: "X-Y: z\r\n")])
        let id = try server.enqueue("w", #""content": {"a": 1}, "keep": 600"#)
        let result = try work(["--http", receiver.url("/t")])
        #expect(result.status == 0, "\(result.error)")
        let request = try receiver.wait("/t")[0]
        #expect(request.method == "POST" && request.body == #"{"a": 1}"# && request.id == id)
        #expect(request["Emq-Queue"] == "w" && request["Emq-Attempt"] == "1")
        #expect(request["Content-Type"] == "application/json" && request["Authorization"] == nil)
        let answer = try #require(try server.get("/result/\(id)").object["result"] as? [String: Any])
        #expect(answer["status"] as? Int == 200 && answer["body"] as? String == "done")
        #expect((answer["headers"] as? [String: String])?["X-Y"] == "z")
    }

    @Test func itsStatusDecides() throws {
        receiver.script(
            "/t", [.answer("410 Gone")], [.answer("500 Internal Server Error", "oops")],
            [.answer("503 Service Unavailable", fields: "Retry-After: 3600\r\n")])
        let ids = try [10, 0, 10].map { try server.enqueue("w", "\"max_retries\": \($0)") }
        #expect(try work(["--http", receiver.url("/t")]).status == 0)
        let tasks = try ids.map { try server.task($0) }
        #expect(tasks.map { $0["state"] as? String } == ["dead", "dead", "delayed"])
        #expect(tasks[1]["error"] as? String == "\(receiver.url("/t")) answered 500 Internal Server Error: oops")
        #expect(try #require(tasks[2]["due"] as? Double) > Date().timeIntervalSince1970 + 3000)
    }

    @Test func aRequestThatTakesTooLongHasFailed() throws {
        receiver.script("/t", [.hold])
        let id = try server.enqueue("w", #""max_retries": 0"#)
        #expect(try work(["--http", receiver.url("/t"), "--timeout", "100ms"]).status == 0)
        let error = try #require(try server.task(id)["error"] as? String)
        #expect(error.contains("did not finish within 100 ms"))
    }

    @Test func anApplicationThatIsNotThereCostsNoAttempt() throws {
        let id = try server.enqueue("w", #""keep": 600, "max_retries": 0"#)
        var later: Receiver? = try Receiver()
        let port = try #require(later).port
        later = nil
        let worker = try site.start(["w", "--http", "\(TestTLS.scheme)://127.0.0.1:\(port)/t", "--max-tasks", "1"])
        try worker.waitFor("giving tasks back until the application answers")
        _ = try eventually("the task to be back") { try server.task(id)["attempt"] as? Int == 0 ? true : nil }
        let receiver = try Receiver(port: port)
        try worker.waitFor("the application answers again")
        #expect(try worker.exitStatus() == 0)
        #expect(try server.state(id) == "done")
        #expect(receiver.received("/t").count == 1)
    }

    @Test(arguments: [true, false]) func aRequestIsAbortedWithItsTask(isWorkerStopped: Bool) throws {
        receiver.script("/t", [.hold])
        let id = try server.enqueue("w", #""retry": 1"#)
        let worker = try site.start(["w", "--http", receiver.url("/t"), "--grace", "100ms", "--max-tasks", "1"])
        try receiver.wait("/t")
        if isWorkerStopped {
            worker.signal(SIGTERM)
        } else {
            #expect(try server.send("DELETE", "/task/\(id)").status == 204)
        }
        #expect(try worker.exitStatus() == 0)
        _ = try eventually("the end of the request") { receiver.brokenOff("/t") == 1 ? true : nil }
        if isWorkerStopped {
            let task = try server.task(id)
            #expect(task["state"] as? String == "ready" && task["attempt"] as? Int == 0, "\(task)")
        }
    }
}
