// `emq work --http` with the real program; and what a worker says to servers that refuse.

import Foundation
import Support
import Testing

@testable import emq

@Suite struct WorkApplicationTests {
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
        #expect(try server.task(id)["attempt"] as? Int == 0)
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

    // MARK: A server that refuses

    /// The response to a wait: tasks with these ids, with leases of a second.
    private func tasks(_ ids: [String]) -> Step {
        let list = ids.map { #"{"id":"\#($0)","receipt":"\#($0)@1","queue":"w","content":1,"attempt":1,"retry":1}"# }
        return .answer("200 OK", "[\(list.joined(separator: ","))]")
    }

    private func start(_ arguments: [String]) throws -> WorkerProcess {
        try WorkSite(port: receiver.port).start(["w", "--max-time", "1h"] + arguments)
    }

    @Test func aRefusedReportDoesNotTakeOthersWithIt() throws {
        receiver.script("/wait/", [tasks(["a", "b"])], [.hold])
        receiver.script("/ack/", [.answer("400 Bad Request")])
        receiver.script("/nak/", [.answer("200 OK", "{}")])
        // The outcomes of one process arrive together.
        let lines = #"printf '{"id":"a","result":1}\n{"id":"b","log":"l"}\n'"#
        let worker = try start([
            "-j", "2", "--persistent", "--", "sh", "-c", "read -r one; read -r two; \(lines); sleep 600",
        ])
        // First both, then each alone; the one with a log once more without it; then the result makes a failure.
        let acks = try receiver.wait("/ack/", 4).map(\.body)
        #expect(acks[0] == #"{"tasks":[{"id":"a@1","result":1},{"id":"b@1","log":"l"}]}"#)
        #expect(acks[1] == #"{"tasks":[{"id":"a@1","result":1}]}"#)
        #expect(Array(acks[2...3]) == [#"{"tasks":[{"id":"b@1","log":"l"}]}"#, #"{"tasks":[{"id":"b@1"}]}"#])
        let naks = try receiver.wait("/nak/")
        #expect(naks[0].body.hasPrefix(#"{"ids":["a@1"],"error":"the server refuses the result: "#))
        try worker.waitFor("b: the server refuses the outcome")
    }

    @Test func aServerWithoutRoomGetsNoLog() throws {
        receiver.script("/wait/", [tasks(["a"])], [.hold])
        receiver.script("/ack/", [.answer("503 Service Unavailable")], [.answer("200 OK", "{}")])
        let script = #"read -r one; echo '{"id":"a","result":1,"log":"l"}'; sleep 600"#
        let worker = try start(["--persistent", "--", "sh", "-c", script])
        let acks = try receiver.wait("/ack/", 2).map(\.body)
        #expect(acks[1] == #"{"tasks":[{"id":"a@1","result":1}]}"#)
        withExtendedLifetime(worker) {}
    }

    @Test func leasesAreExtendedSoonAfterAFailure() throws {
        let marker = Scratch()
        receiver.script("/wait/", [tasks(["a"])], [.hold])
        receiver.script(
            "/touch/", [.answer("500 Internal Server Error")], [.answer("429 Too Many Requests")], [.close],
            [.answer("200 OK", #"{"touched":1,"missing":[]}"#)],
            [.answer("200 OK", #"{"touched":0,"missing":["a@1"]}"#)])
        let worker = try start(["--", "sh", "-c", "echo $$ >> $0; exec sleep 600", marker.path])
        let processes = try marker.processes(1)
        // Only the server's word ends the work.
        try receiver.wait("/touch/", 4)
        #expect(isRunning(processes[0]) && !worker.error.contains("lease is lost"))
        try worker.waitFor("a: the lease is lost or the task cancelled")
        #expect(!isRunning(processes[0]))
    }
}
