// `emq work --persistent` with the real program: one process for all tasks.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct WorkPersistentTests {
    private let server: Server
    private let site: WorkSite
    private let marker = Scratch()

    init() throws {
        server = try Server()
        site = WorkSite(port: server.port)
    }

    /// A process that notes its number and what it reads, and knows the id of each task and whether it is a
    /// cancellation. What it does for a task is a script.
    private func process(_ script: String) -> [String] {
        let loop = """
            echo $$ >> $0
            while read -r line; do
            id=${line#*'"id":"'}; id=${id%%'"'*}
            case $line in *'"cancel":true'*) cancel=1;; *) cancel=;; esac
            \(script)
            done
            echo end >> $0
            """
        return ["--", "sh", "-c", loop, marker.path]
    }

    private func work(_ arguments: [String], _ script: String) throws -> (status: Int32, output: String, error: String)
    {
        try site.run(["w", "--persistent"] + arguments + process(script))
    }

    @Test func eachOutcomeHasItsLine() throws {
        func add(_ answer: String) throws -> String {
            try server.enqueue("w", "\"content\": {\"answer\": \"\(answer)\"}, \"keep\": 600, \"max_retries\": 0")
        }
        let plain = try add("")
        let done = try add(#",\"result\":[1, 2],\"log\":\"fine\""#)
        let failed = try add(#",\"error\":\"no\",\"log\":\"why\""#)
        let dead = try add(#",\"status\":\"dead\""#)
        let released = try add(#",\"status\":\"released\",\"delay\":3600"#)
        // What it prints may come in any order, and in any pieces.
        let script = """
            answer=${line#*'"answer": "'}; answer=$(printf %s "${answer%'"}}'}" | sed 's/\\\\"/"/g')
            printf '{"id":"%s"' "$id"; printf '%s}\\n' "$answer"
            """
        let result = try work(["-j", "2", "--max-tasks", "5"], script)
        #expect(result.status == 0, "\(result.error)")
        #expect(try server.state(plain) == "done")
        #expect(try server.get("/result/\(done)").body == #"{"state":"done","result":[1, 2]}"#)
        #expect(try server.task(done)["log"] as? String == "fine")
        #expect(try server.task(failed)["error"] as? String == "no" && server.task(failed)["log"] as? String == "why")
        #expect(try server.state(failed) == "dead" && server.state(dead) == "dead")
        let later = try server.task(released)
        #expect(later["state"] as? String == "delayed" && later["attempt"] as? Int == 0, "\(later)")
        // There was one process, which ended at the end of its input.
        #expect(marker.lines.count == 2 && marker.lines.last == "end")
    }

    @Test func theLineOfATaskHasItsFields() throws {
        let id = try server.enqueue("w", "\"content\": {\"a\":\n\"b\"}, \"metadata\": {\"m\": \"é\"}, \"retry\": 60")
        #expect(try work(["--max-tasks", "1"], #"echo "$line" >> $0; echo "{\"id\":\"$id\"}""#).status == 0)
        let line = try #require(marker.lines.dropFirst().first)
        let task = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        #expect(task["id"] as? String == id && task["queue"] as? String == "w" && task["attempt"] as? Int == 1)
        #expect(task["content"] as? [String: String] == ["a": "b"])
        #expect(task["metadata"] as? [String: String] == ["m": "é"])
        let lease = try #require(task["lease_until"] as? Double) - Date().timeIntervalSince1970
        #expect(lease < 61 && lease > 0 && task["key"] == nil)
    }

    @Test func severalTasksAreInFlight() throws {
        let ids = try server.enqueueAll("w", [1, 2, 3])
        // It answers the first when it has the third.
        let script = #"all="{\"id\":\"$id\"} $all"; count=$((count+1)); test $count = 3 && printf '%s\n' $all"#
        #expect(try work(["-j", "3", "--max-tasks", "3"], script).status == 0)
        for id in ids { #expect(try server.get("/task/\(id)").status == 404) }
        #expect(marker.lines.count == 2)
    }

    @Test func progressIsShown() throws {
        let id = try server.enqueue("w")
        let worker = try site.start(
            ["w", "--persistent"] + process(#"echo "{\"id\":\"$id\",\"progress\":{\"at\":5}}""#))
        _ = try eventually("the progress") {
            try server.task(id)["progress"] as? [String: Int] == ["at": 5] ? true : nil
        }
        withExtendedLifetime(worker) {}
    }

    @Test func aProcessThatEndsHasFailedItsTasks() throws {
        let ids = try [1, 2].map { try server.enqueue("w", "\"content\": \($0), \"max_retries\": 0") }
        let script = #"case $line in *'"content":1}') echo oops >&2; exit 3;; *) echo "{\"id\":\"$id\"}";; esac"#
        let result = try work(["--max-tasks", "2"], script)
        #expect(result.status == 0, "\(result.error)")
        #expect(
            try server.task(ids[0])["error"] as? String == "the process ended before the outcome: exit status 3: oops")
        #expect(try server.get("/task/\(ids[1])").status == 404)
        #expect(marker.lines.count == 3)
    }

    @Test(arguments: [126, 127]) func aProcessThatCannotBeRunEndsTheWorker(status: Int) throws {
        let id = try server.enqueue("w", #""max_retries": 0"#)
        let result = try work([], "exit \(status)")
        #expect(result.status == 1 && result.error.contains("the command cannot be run: exit status \(status)"))
        let task = try server.task(id)
        #expect(task["state"] as? String == "ready" && task["attempt"] as? Int == 0, "\(task)")
    }

    @Test func aProcessThatReadsNothingGivesItsTasksBack() throws {
        let id = try server.enqueue("w", #""max_retries": 0"#)
        let result = try site.run(["w", "--exit-when-empty", "--persistent", "--", "sh", "-c", "echo oops >&2; exit 3"])
        #expect(result.status == 1, "\(result.error)")
        #expect(result.error.contains("the process ended without reading 1 task, which go"), "\(result.error)")
        let last = "it ended 3 times in a row without reading a task; the last time: exit status 3: oops"
        #expect(result.error.contains(last), "\(result.error)")
        let task = try server.task(id)
        #expect(task["state"] as? String == "ready" && task["attempt"] as? Int == 0, "\(task)")
    }

    @Test func theLastLineMayLackItsLineFeed() throws {
        let id = try server.enqueue("w", #""max_retries": 0, "keep": 600"#)
        let result = try work(["--exit-when-empty"], #"printf '{"id":"%s","result":5}' "$id"; exit"#)
        #expect(result.status == 0, "\(result.error)")
        #expect(try server.get("/result/\(id)").body == #"{"state":"done","result":5}"#)
    }

    @Test func bracesOfAPersistentProgramStay() throws {
        try server.enqueue("w")
        let result = try work(["--exit-when-empty"], #"echo '{print} {{print}}' >> $0; echo "{\"id\":\"$id\"}""#)
        #expect(result.status == 0, "\(result.error)")
        #expect(marker.lines.dropFirst().first == "{print} {{print}}")
    }

    @Test func whatIsNoOutcomeIsIgnored() throws {
        let id = try server.enqueue("w", #""keep": 600"#)
        let script = #"""
            printf 'hello\n\n[1]\n{"id":5}\n{"id":"x"}\n{"status":"done"}\n\000\377\n'; echo "{\"id\":\"$id\",\"delay\":-1}"
            """#
        let result = try work(["--max-tasks", "1"], script)
        #expect(result.status == 0 && result.error.contains("a line that is no JSON object; ignoring it"))
        #expect(result.error.contains("a line whose id is none of its tasks'; ignoring it"))
        #expect(try server.state(id) == "done")
    }

    @Test func aLineThatIsTooLongKillsTheProcess() throws {
        let id = try server.enqueue("w", #""max_retries": 0"#)
        #expect(try work(["--max-tasks", "1"], "head -c 9000000 /dev/zero; sleep 600").status == 0)
        #expect(try server.task(id)["error"] as? String == "the process printed a line of more than 8 MiB")
    }

    // MARK: Stopping

    @Test func aProcessHearsOfACancelledTask() throws {
        let id = try server.enqueue("w", #""retry": 1"#)
        let script = #"echo "$cancel" >> $0; if test "$cancel"; then echo "{\"id\":\"$id\"}"; fi"#
        let worker = try site.start(["w", "--persistent", "--max-tasks", "1"] + process(script))
        try marker.wait(2)
        #expect(try server.send("DELETE", "/task/\(id)").status == 204)
        #expect(try worker.exitStatus() == 0)
        #expect(worker.error.contains("\(id): the lease is lost or the task cancelled"))
        #expect(Array(marker.lines.dropFirst()) == ["", "1", "end"])
    }

    @Test func aProcessThatDoesNotAnswerIsStopped() throws {
        let slow = try server.enqueue("w", #""content": "slow", "max_retries": 0"#)
        let other = try server.enqueue("w", #""content": "other", "max_retries": 0, "keep": 600"#)
        // The first process answers nothing and ignores SIGTERM; the second does what is left.
        let script = """
            trap '' TERM
            test $(grep -c . $0) = 1 && while :; do read -r line; sleep 0.01; done
            echo "{\\"id\\":\\"$id\\"}"
            """
        let result = try work(
            ["-j", "2", "--timeout", "200ms", "--grace", "100ms", "--exit-when-empty"], script)
        #expect(result.status == 0, "\(result.error)")
        #expect(try server.task(slow)["error"] as? String == "it ran longer than --timeout")
        let state = try server.state(other)
        #expect(state == "done" || state == "dead")
        #expect(result.error.contains("no outcome within --grace; stopping the process"))
    }

    @Test func aProcessThatReadsNothingDoesNotHoldTheWorkerUp() throws {
        let content = String(repeating: "x", count: 1_000_000)
        let ids = try (0..<2).map { _ in try server.enqueue("w", "\"content\": \"\(content)\"") }
        let worker = try site.start([
            "w", "--persistent", "-j", "2", "--grace", "100ms", "--", "sh", "-c", "echo $$ >> $0; exec sleep 600",
            marker.path,
        ])
        let processes = try marker.processes(1)
        _ = try eventually("both tasks") { try server.state(ids[1]) == "dispatched" ? true : nil }
        worker.signal(SIGTERM)
        #expect(try worker.exitStatus() == 0 && !isRunning(processes[0]))
        for id in ids {
            let task = try server.task(id)
            #expect(task["state"] as? String == "ready" && task["attempt"] as? Int == 0, "\(task)")
        }
    }

    @Test func aTaskThatWaitsForTheNextProcessGoesBackAtOnce() throws {
        let first = try server.enqueue("w")
        // It gets no more tasks, and does not end.
        let script = "exec 1>&-; cat; echo closed >> $0; exec sleep 600"
        let worker = try site.start(["w", "--persistent", "-j", "2", "--grace", "1h"] + process(script))
        try marker.wait(2)
        let second = try server.enqueue("w")
        _ = try eventually("the second task") { try server.state(second) == "dispatched" ? true : nil }
        worker.signal(SIGTERM)
        _ = try eventually("it to go back") { try server.state(second) == "ready" ? true : nil }
        #expect(try server.state(first) == "dispatched")
    }

    @Test func aProcessThatClosesItsInputGetsNoMore() throws {
        let ids = try server.enqueueAll("w", [1, 2])
        // Each process does one task, and answers when nobody can write to it any more.
        let script = #"exec 0<&-; echo "{\"id\":\"$id\"}"; exit"#
        let result = try work(["--max-tasks", "2"], script)
        #expect(result.status == 0, "\(result.error)")
        for id in ids { #expect(try server.get("/task/\(id)").status == 404) }
    }

    @Test func aProcessMayEndAfterEachTask() throws {
        let ids = try (0..<20).map { _ in try server.enqueue("w", #""max_retries": 0, "keep": 600"#) }
        let result = try work(["--exit-when-empty"], #"echo "{\"id\":\"$id\"}"; exit"#)
        #expect(result.status == 0, "\(result.error)")
        for id in ids { #expect(try server.state(id) == "done") }
    }

    @Test func aProcessThatClosesItsOutputIsReplaced() throws {
        let id = try server.enqueue("w", #""keep": 600"#)
        let script = #"test $(grep -c . $0) = 1 && exec 1>&- && sleep 600; echo "{\"id\":\"$id\"}""#
        let result = try work(["--grace", "100ms", "--exit-when-empty=3s"], script)
        #expect(result.status == 0, "\(result.error)")
        let task = try server.task(id)
        #expect(task["state"] as? String == "done" && task["attempt"] as? Int == 1, "\(task)")
    }

    @Test func theProcessDoesNotOutliveAKilledWorker() throws {
        try server.enqueue("w")
        let worker = try site.start(["w", "--persistent"] + process("sleep 600"))
        let processes = try marker.processes(1)
        worker.signal(SIGKILL)
        _ = try eventually("its end") { processes.contains(where: isRunning) ? nil : true }
    }

    @Test func whatContradictsItselfIsRefused() throws {
        for (arguments, reason) in [
            (["--persistent", "--", "echo", "{id}"], "leave {id}, {.field} and the like out"),
            (["--persistent", "--http", "http://x"], "give --persistent or --http, not both"),
            (["--http", "http://x", "--", "true"], "give --http or a command, not both"),
            (["--http", "ftp://x"], "--http: "), (["--persistent"], "the program to run is missing"),
            (["--persistent", "--result", "stdout", "--", "true"], "--result is for a command for each task"),
        ] {
            let result = try site.run(["w"] + arguments)
            #expect(result.status == 2 && result.error.contains(reason), "\(result.error)")
        }
    }
}
