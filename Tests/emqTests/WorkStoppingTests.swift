// Workers, commands and servers that are stopped and killed while tasks are in work.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct WorkStoppingTests {
    private let server: Server
    private let site: WorkSite
    private let marker = Scratch()

    init() throws {
        server = try Server()
        site = WorkSite(port: server.port)
    }

    @Test func noCommandOutlivesAKilledWorker() throws {
        try server.enqueue("w")
        // A grandchild that holds the pipes, and ignores SIGTERM.
        let script = "trap '' TERM; sleep 600 & echo $! >> $0; echo $$ >> $0; wait"
        let worker = try site.start(["w", "--", "sh", "-c", script, marker.path])
        let processes = try marker.processes(2)
        worker.signal(SIGKILL)
        _ = try eventually("their end") { processes.contains(where: isRunning) ? nil : true }
    }

    @Test func aWatcherThatIsKilledIsReplaced() throws {
        try server.enqueue("w")
        let script = "trap '' TERM; sleep 600 & echo $! >> $0; echo $$ >> $0; wait"
        let worker = try site.start(["w", "--", "sh", "-c", script, marker.path])
        let processes = try marker.processes(2)
        let found = try watcher(of: worker.process.processIdentifier)
        let watcher = try #require(found)
        // Who ends programs by their names does not end it.
        #expect(!contents(of: "/proc/\(watcher)/cmdline").contains("emq"))
        kill(watcher, SIGKILL)
        try worker.waitFor("there is another one")
        worker.signal(SIGKILL)
        _ = try eventually("their end") { processes.contains(where: isRunning) ? nil : true }
    }

    /// The process that watches a worker's commands.
    private func watcher(of worker: Int32) throws -> Int32? {
        try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { Int32($0) }.first { process in
            let parts = contents(of: "/proc/\(process)/stat").split(separator: " ")
            return parts.count > 3 && parts[1] == "(group-watcher)" && Int32(parts[3]) == worker
        }
    }

    @Test func theTaskOfAKilledWorkerComesBack() throws {
        try server.enqueue("w", #""retry": 1"#)
        let worker = try site.start(["w", "--", "sh", "-c", "echo $$ >> $0; exec sleep 600", marker.path])
        try marker.wait(1)
        worker.signal(SIGKILL)
        let again = try server.take("w", 1, timeout: 60_000)
        #expect(again.first?["attempt"] as? Int == 2)
    }

    /// The report is on its way, or has arrived: either way the task is done or comes back.
    @Test func aWorkerKilledWhileItReportsLosesNothing() throws {
        let id = try server.enqueue("w", #""retry": 1, "keep": 600"#)
        let script = "echo >> $0; while test -s $0; do sleep 0.01; done"
        let worker = try site.start(["w", "--", "sh", "-c", script, marker.path])
        try marker.wait(1)
        server.signal(SIGSTOP)
        #expect(truncate(marker.path, 0) == 0)
        worker.signal(SIGKILL)
        server.signal(SIGCONT)
        _ = try eventually("the end of the attempt") { try server.state(id) != "dispatched" ? true : nil }
        let state = try server.state(id)
        #expect(state == "ready" || state == "done")
    }

    @Test(arguments: [1, 2]) func aStoppedWorkerGivesItsTasksBack(signals: Int) throws {
        let id = try server.enqueue("w")
        let script = "trap '' TERM; echo $$ >> $0; sleep 600; sleep 600"
        // A second signal does not wait for the grace.
        let worker = try site.start(
            ["w", "--grace", signals == 1 ? "100ms" : "1h", "--", "sh", "-c", script, marker.path])
        let processes = try marker.processes(1)
        worker.signal(SIGTERM)
        if signals == 2 {
            try worker.waitFor("asked to stop: 1 task in work has 1h to end; a second signal stops it at once")
            worker.signal(SIGTERM)
        }
        #expect(try worker.exitStatus() == 0)
        #expect(!isRunning(processes[0]))
        let task = try server.task(id)
        #expect(task["state"] as? String == "ready" && task["attempt"] as? Int == 0, "\(task)")
    }

    @Test func aStoppedWorkerLetsItsCommandEnd() throws {
        let id = try server.enqueue("w", #""keep": 600"#)
        let script = "echo >> $0; while test -s $0; do sleep 0.01; done"
        let worker = try site.start(["w", "--", "sh", "-c", script, marker.path])
        try marker.wait(1)
        worker.signal(SIGTERM)
        try worker.waitFor("asked to stop")
        #expect(truncate(marker.path, 0) == 0)
        #expect(try worker.exitStatus() == 0)
        #expect(try server.state(id) == "done")
    }

    @Test func aWorkerOutlivesItsTerminalUnderNohup() throws {
        let id = try server.enqueue("w", #""keep": 600"#)
        let script = "echo >> $0; while test -s $0; do sleep 0.01; done"
        let worker = try site.start(["w", "--", "sh", "-c", script, marker.path], through: ["/usr/bin/nohup"])
        try marker.wait(1)
        worker.signal(SIGHUP)
        // If the first one counted, this would be the second one, which stops the command.
        worker.signal(SIGTERM)
        try worker.waitFor("asked to stop")
        #expect(truncate(marker.path, 0) == 0)
        #expect(try worker.exitStatus() == 0)
        #expect(try server.state(id) == "done")
    }

    @Test func otherCommandsHaveTheGraceWhenOneCannotBeRun() throws {
        let id = try server.enqueue("w", #""content": 1"#)
        try server.enqueue("w", #""content": 2"#)
        let script = """
            if test $1 = 1; then trap '' TERM; echo $$ >> $0; sleep 600; sleep 600; fi
            until test -s $0; do sleep 0.01; done; exit 127
            """
        let result = try site.run([
            "w", "-j", "2", "--grace", "100ms", "--", "sh", "-c", script, marker.path, "{.}",
        ])
        #expect(result.status == 1 && result.error.contains("giving the task back"), "\(result.error)")
        #expect(try !isRunning(marker.processes(1)[0]))
        #expect(try server.state(id) == "ready")
    }

    @Test func aCancelledTaskStopsItsCommand() throws {
        let id = try server.enqueue("w", #""retry": 1"#)
        let worker = try site.start(
            ["w", "--max-tasks", "1", "--", "sh", "-c", "echo $$ >> $0; exec sleep 600", marker.path])
        let processes = try marker.processes(1)
        #expect(try server.send("DELETE", "/task/\(id)").status == 204)
        #expect(try worker.exitStatus() == 0 && !isRunning(processes[0]))
    }

    @Test func aCommandThatTakesTooLongIsKilled() throws {
        let id = try server.enqueue("w", #""max_retries": 0"#)
        let result = try site.run([
            "w", "--exit-when-empty", "--timeout", "100ms", "--grace", "100ms", "--", "sh", "-c",
            "trap '' TERM; echo slow; sleep 600; sleep 600",
        ])
        #expect(result.status == 0)
        let task = try server.task(id)
        #expect(task["state"] as? String == "dead", "\(task)")
        #expect(task["error"] as? String == "it ran longer than --timeout" && task["log"] as? String == "slow\n")
    }

    @Test func nothingIsLostWhenTheServerIsKilledAndComesBack() throws {
        let folder = Scratch()
        defer { try? FileManager.default.removeItem(atPath: folder.path) }
        var own = try Server(["--addr", "127.0.0.1:0", "--data", folder.path])
        let port = own.port
        _ = try eventually("an empty journal to be read") { try own.get("/healthz").status == 200 ? true : nil }
        let ids = try own.enqueueAll("w", Array(0..<40))
        let worker = try WorkSite(port: port).start(
            ["w", "-j", "4", "--exit-when-empty=5s", "--", "sh", "-c", "sleep 0.02; echo $EMQ_ID >> $0", marker.path])
        try marker.wait(6)
        own.signal(SIGKILL)
        try worker.waitFor("trying again")
        own = try Server(["--addr", "127.0.0.1:\(port)", "--data", folder.path])
        #expect(try worker.exitStatus() == 0)
        #expect(worker.error.contains("the server answers again"))
        #expect(Set(marker.lines) == Set(ids))
        let stats = try own.get("/stats/w").object
        #expect(stats["ready"] as? Int == 0 && stats["dispatched"] as? Int == 0, "\(stats)")
    }

    @Test func aWorkerCanBeStoppedWhileTheServerIsAway() throws {
        try server.enqueue("w")
        let worker = try site.start([
            "w", "--grace", "100ms", "--", "sh", "-c", "echo $$ >> $0; exec sleep 600", marker.path,
        ])
        let processes = try marker.processes(1)
        server.signal(SIGKILL)
        worker.signal(SIGTERM)
        try worker.waitFor("trying again")
        worker.signal(SIGTERM)
        #expect(try worker.exitStatus() == 1)
        #expect(worker.error.contains("the outcomes of 1 task could not be reported") && !isRunning(processes[0]))
    }
}
