// Several legacy systems at once, their tasks on a server that does not replace them, and the options for them.

import Foundation
import Net
import Support
import Testing

@testable import emq

@Suite(.blocking) struct AdaptersTests {
    @Test func allFourSystemsAreServedBesideEmqItself() throws {
        let receiver = try Receiver()
        let file = FileManager.default.temporaryDirectory.appending(path: "emq-\(UUID().uuidString).ini")
        defer { try? FileManager.default.removeItem(at: file) }
        try Data("base_url = \(receiver.url("/taskqueue"))\n[mail]\n".utf8).write(to: file)
        let server = try Server.instead(
            of: "httpqueue", "--delay-tasks", "127.0.0.1:0", "--htq", "127.0.0.1:0", "--taskqueue", file.path)
        receiver.script("/httpqueue", [.answer("200 OK", #"{"code":100}"#)])
        let callback = receiver.url("/httpqueue")
        #expect(
            try server.ask("httpqueue", "POST", "/create", #"{"topic":"t","callback":"\#(callback)"}"#).status == 200)
        let now = Int(Date().timeIntervalSince1970)
        let handler = receiver.url("/delay-tasks")
        #expect(
            try server.ask("delay-tasks", "POST", "/task/c", #"{"timestamp":\#(now),"key":1,"handler":"\#(handler)"}"#)
                .status == 200)
        #expect(try server.ask("htq", "POST", "/", #"{"url":"\#(receiver.url("/htq"))"}"#).status == 303)
        try server.enqueue("mail", #""content": {"url":"/x"}"#)
        let id = try server.enqueue("own")
        for path in ["/httpqueue", "/delay-tasks", "/htq", "/taskqueue/x"] { try receiver.wait(path) }
        #expect(try server.state(id) == "ready")
        for queue in ["httpqueue%2Ft", "delay-tasks%2Fc", "htq", "mail"] {
            let totals = try eventually("a task done in \(queue)") {
                let totals = try server.get("/stats/\(queue)").object["totals"] as? [String: Int]
                return totals?["acked"] == 1 ? totals : nil
            }
            #expect(totals["enqueued"] == 1)
        }
    }

    /// emq never sends a legacy system's tasks in its own format.
    @Test func theTasksOfASystemWaitUntilItIsReplacedAgain() throws {
        let receiver = try Receiver()
        let directory = FileManager.default.temporaryDirectory.appending(path: "emq-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        receiver.script("/x", [.answer("200 OK", #"{"code":100}"#)])
        do {
            let first = try Server.instead(of: "httpqueue", "--data", directory)
            // Otherwise it might be sent before the crash.
            #expect(try first.send("POST", "/pause/httpqueue%2Ft").status == 200)
            let body = #"{"topic":"t","callback":"\#(receiver.url("/x"))"}"#
            #expect(try first.ask("httpqueue", "POST", "/create", body).status == 200)
            first.signal(SIGKILL)
            _ = try first.exitStatus()
        }
        do {
            let second = try Server(["--addr", "127.0.0.1:0", "--data", directory, "--push", "loopback"])
            _ = try eventually("the journal to be read") { try second.get("/healthz").status == 200 ? true : nil }
            #expect(try second.send("POST", "/resume/httpqueue%2Ft").status == 200)
            let task = try eventually("the task to be ready") {
                let answer = try second.get("/peek/httpqueue%2Ft")
                return answer.status == 200 ? try answer.tasks.first ?? nil : nil
            }
            #expect((task["error"] as? String)?.contains("a legacy system's option") == true)
            let refused = try second.post(
                "/enqueue/httpqueue%2Ft", #"{"content":1,"request":{"url":"\#(receiver.url("/y"))"}}"#)
            #expect(refused.status == 403 && refused.body.contains("--httpqueue"))
            // Another queue's task is sent meanwhile, so this one's could have been.
            try second.enqueue("q", #""content": 1, "# + receiver.request("/z"))
            try receiver.wait("/z")
            #expect(receiver.received("/x").isEmpty)
            second.signal(SIGKILL)
            _ = try second.exitStatus()
        }
        let third = try Server.instead(of: "httpqueue", "--data", directory)
        #expect(try receiver.wait("/x")[0].body.contains(#""topic":"t""#))
        #expect(third.process.isRunning)
    }

    @Test func anAddressInUseNamesTheSystem() throws {
        let server = try Server()
        let second = try Server(["--addr", "127.0.0.1:0", "--htq", "127.0.0.1:\(server.port)"])
        #expect(try second.exitStatus() == 1)
        #expect(second.output.contains("replace htq") && second.output.contains("in use"), "\(second.output)")
    }

    // MARK: Options

    private func options(_ arguments: String..., environment: [String: String] = [:]) throws(UsageError) -> Options {
        try Options(arguments) { environment[$0] }
    }

    @Test func anAddressWithoutAPortHasTheSystemsOwn() throws {
        let read = try options(
            "--httpqueue", "localhost", "--delay-tasks=[::1]", "--htq", "example.test", "--htq", ":1")
        #expect(
            read.services.map(\.endpoint.address.description) == [
                "localhost:2356", "[::1]:7080", "example.test:5000", ":1",
            ])
        #expect(read.systems == [.httpqueue, .delayTasks, .htq])
    }

    @Test func theEnvironmentNamesAddressesToo() throws {
        let read = try options(environment: [
            "EMQ_HTTPQUEUE": ":1,unix:/x", "EMQ_DELAY_TASKS": ":2", "EMQ_HTQ": ":3", "EMQ_HTQ_WORKERS": "7",
        ])
        #expect(read.services.map(\.endpoint.address.description) == [":1", "unix:/x", ":2", ":3"])
        #expect(read.htqWorkers == 7)
    }

    @Test(arguments: [
        (["--htq", "5000"], "--htq: an address must be"), (["--htq", ":x"], "--htq: a port must be"),
        (["--htq-workers", "0", "--htq", ":1"], "--htq-workers must be a whole number from 1 to 1000"),
        (["--htq-workers", "5"], "--htq-workers requires --htq"),
        (["--httpque", ":1"], "did you mean '--httpqueue'?"),
        (["--taskqueue", "/nowhere.ini"], "--taskqueue: cannot read '/nowhere.ini': No such file or directory"),
    ])
    func wrongOptionsAreExplained(arguments: [String], reason: String) throws {
        let error = #expect(throws: UsageError.self) { try Options(arguments) { _ in nil } }
        #expect(error?.description.contains(reason) == true, "\(error?.description ?? "")")
    }
}
