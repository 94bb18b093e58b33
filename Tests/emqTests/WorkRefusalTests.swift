// What a worker does with servers that refuse, do not answer, or answer late.

import Foundation
import Support
import Testing

@Suite(.blocking) struct WorkRefusalTests {
    private let receiver: Receiver
    private let ok = Step.answer("200 OK", "{}")

    init() throws { receiver = try Receiver() }

    /// The response to a wait: tasks with these ids, and leases in seconds.
    private func tasks(_ ids: [String], lease: Int = 1) -> Step {
        let list = ids.map {
            #"{"id":"\#($0)","receipt":"\#($0)@1","queue":"w","content":1,"attempt":1,"retry":\#(lease)}"#
        }
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

    // MARK: Responses on their way

    @Test(arguments: [SIGTERM, SIGINT, SIGHUP]) func tasksOnTheirWayToAStoppedWorkerGoBack(signal: Int32) throws {
        receiver.script("/wait/", [.awaitEnd, tasks(["a", "b"])])
        receiver.script("/nak/", [ok])
        // Whoever runs the tests may ignore SIGHUP.
        let worker = try WorkSite(port: receiver.port).start(
            ["w", "-j", "2", "--", "true"], through: ["/usr/bin/env", "--default-signal=HUP"])
        try receiver.wait("/wait/")
        worker.signal(signal)
        #expect(try worker.exitStatus() == 0)
        #expect(receiver.received("/nak/").map(\.body) == [#"{"ids":["a@1","b@1"],"release":true}"#])
        #expect(worker.error.contains("stopped: 0 done, 2 given back"), "\(worker.error)")
    }

    // MARK: Reports

    @Test func nothingIsTakenWhileTheServerTakesNoReports() throws {
        receiver.script("/wait/", [tasks(["a"])])
        receiver.script("/ack/", [.answer("503 Service Unavailable")])
        receiver.script("/touch/", [.answer("200 OK", #"{"touched":1,"missing":[]}"#)])
        let worker = try start(["--", "true"])
        try receiver.wait("/ack/", 4)
        // One wait may begin while the first report is on its way.
        #expect(receiver.received("/wait/").count <= 2)
        #expect(!worker.error.contains("the server answers again"), "\(worker.error)")
        // The lease lasts although the command has ended.
        #expect(try receiver.wait("/touch/")[0].body.contains(#""a@1""#))
        receiver.script("/ack/", [ok])
        try worker.waitFor("the server answers again")
        try receiver.wait("/wait/", 3)
    }

    @Test func aResultWithoutRoomDoesNotKeepOtherReports() throws {
        receiver.script("/wait/", [tasks(["a", "b"])], [.hold])
        receiver.script("/ack/", [.answer("503 Service Unavailable")], [ok])
        let lines = #"printf '{"id":"a","result":1}\n{"id":"b"}\n'"#
        let worker = try start([
            "-j", "2", "--persistent", "--", "sh", "-c", "read -r one; read -r two; \(lines); sleep 600",
        ])
        let acks = try receiver.wait("/ack/", 3).map(\.body)
        #expect(acks[0] == #"{"tasks":[{"id":"a@1","result":1},{"id":"b@1"}]}"#)
        #expect(acks[1] == #"{"tasks":[{"id":"b@1"}]}"# && acks[2] == #"{"tasks":[{"id":"a@1","result":1}]}"#)
        withExtendedLifetime(worker) {}
    }

    @Test func aServerWithoutRoomGetsNoLogOfAFailure() throws {
        receiver.script("/wait/", [tasks(["a"])], [.hold])
        receiver.script("/nak/", [.answer("507 Insufficient Storage")], [ok])
        let worker = try start(["--", "sh", "-c", "echo l; exit 1"])
        let naks = try receiver.wait("/nak/", 2).map(\.body)
        #expect(naks[0].contains(#""log":"l\n""#) && !naks[1].contains("log"), "\(naks)")
        withExtendedLifetime(worker) {}
    }

    @Test(arguments: ["404 Not Found", "408 Request Timeout", "425 Too Early"])
    func whatIsDoneStaysDone(status: String) throws {
        receiver.script("/wait/", [tasks(["a"])], [.hold])
        receiver.script("/ack/", [.answer(status)], [ok])
        let worker = try start(["--", "sh", "-c", "printf 1 > $EMQ_RESULT_FILE"])
        let acks = try receiver.wait("/ack/", 2).map(\.body)
        #expect(acks == Array(repeating: #"{"tasks":[{"id":"a@1","result":1}]}"#, count: 2))
        try worker.waitFor("the server answers again")
        #expect(receiver.received("/nak/").isEmpty)
    }

    @Test(arguments: ["408 Request Timeout", "425 Too Early"]) func aWaitIsTriedAgain(status: String) throws {
        receiver.script("/wait/", [.answer(status)], [.hold])
        let worker = try start(["--", "true"])
        try receiver.wait("/wait/", 2)
        #expect(worker.process.isRunning)
    }

    @Test func aRepeatedReportMayHaveArrivedBefore() throws {
        receiver.script("/wait/", [tasks(["a"])], [.hold])
        receiver.script("/ack/", [.close], [.answer("200 OK", #"{"acked":0,"missing":["a@1"]}"#)])
        let worker = try start(["--", "true"])
        try worker.waitFor("it arrived the first time, or the lease was lost")
        #expect(!worker.error.contains("before the outcome arrived"))
    }

    @Test func aRefusedProgressExtendsNoLease() throws {
        receiver.script("/wait/", [tasks(["a"], lease: 36_000)], [.hold])
        receiver.script("/touch/", [.answer("422 Unprocessable Content")], [.answer("200 OK", #"{"missing":[]}"#)])
        let script = #"read -r one; echo '{"id":"a","progress":1}'; sleep 600"#
        let worker = try start(["--persistent", "--", "sh", "-c", script])
        let touches = try receiver.wait("/touch/", 2).map(\.body)
        #expect(touches == [#"{"ids":["a@1"],"progress":1}"#, #"{"ids":["a@1"]}"#])
        #expect(worker.error.contains("the server refuses the progress of a"))
    }

    @Test func aFinalRefusalIsOneLine() throws {
        receiver.script("/wait/", [.answer("403 Forbidden", #"{"detail":"no such right"}"#)])
        let worker = try start(["--", "true"])
        #expect(try worker.exitStatus() == 4)
        let lines = worker.error.split(separator: "\n").filter { $0.contains("refuse") || $0.contains("no such") }
        #expect(lines.count == 1 && lines[0].contains("the server refuses: no such right"), "\(worker.error)")
    }
}
