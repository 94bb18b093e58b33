// `emq work` with the real program: commands, their outcomes and their output.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct WorkTests {
    private let server: Server
    private let site: WorkSite

    init() throws {
        server = try Server()
        site = WorkSite(port: server.port)
    }

    @Test func aCommandReadsTheContentAndWritesAResult() throws {
        let id = try server.enqueue("w", #""content": {"n": "a b"}, "keep": 60, "key": "k", "metadata": {"x-y": "z"}"#)
        let script =
            "cat; echo \" $EMQ_ID $EMQ_KEY $EMQ_QUEUE $EMQ_ATTEMPT $EMQ_META_X_Y $1\"; echo 5 > $EMQ_RESULT_FILE"
        let result = try site.run(["w", "--exit-when-empty", "--", "sh", "-c", script, "sh", "{.n}"])
        #expect(result.status == 0)
        #expect(result.output == "{\"n\": \"a b\"} \(id) k w 1 z a b\n", "\(result.error)")
        #expect(try server.get("/result/\(id)").object["result"] as? Int == 5)
    }

    @Test func aContentMayBeAsDeepAsTheServerTakesIt() throws {
        let content = String(repeating: "[", count: 511) + String(repeating: "]", count: 511)
        try server.enqueue("w", "\"content\": \(content)")
        let result = try site.run(["w", "--exit-when-empty", "--", "cat"])
        #expect(result.status == 0 && result.output.contains(content), "\(result.error)")
    }

    /// What a parent may leave behind: an ignored SIGCHLD, and standard descriptors that are closed.
    @Test(arguments: ["trap '' CHLD; exec \"$@\"", "exec \"$@\" <&- >&-"])
    func anOddStartChangesNothing(script: String) throws {
        let id = try server.enqueue("w", #""max_retries": 0"#)
        let worker = try site.start(
            ["w", "--exit-when-empty", "--", "sh", "-c", "sleep 0.1; exit 3"], through: ["/bin/sh", "-c", script, "sh"])
        #expect(try worker.exitStatus() == 0)
        #expect(try server.task(id)["error"] as? String == "exit status 3")
    }

    @Test func commandsDoNotGetTheToken() throws {
        try server.enqueue("w")
        let result = try site.run(
            ["w", "--exit-when-empty", "--", "env"],
            environment: ["EMQ_TOKEN": "secret", "NOTIFY_SOCKET": "/nowhere", "EMQ_META_OLD": "1", "KEPT": "yes"])
        #expect(result.status == 0 && result.output.contains("KEPT=yes"), "\(result.error)")
        for name in ["EMQ_TOKEN", "secret", "NOTIFY_SOCKET", "EMQ_META_OLD"] {
            #expect(!result.output.contains(name))
        }
    }

    @Test(arguments: [
        ("exit 3", "exit status 3: oops"), ("exit 65", "exit status 65: oops"),
        ("kill -9 $$", "killed by signal 9: oops"),
    ])
    func aFailureHasItsReason(script: String, error: String) throws {
        let id = try server.enqueue("w", #""max_retries": 0"#)
        #expect(try site.run(["w", "--exit-when-empty", "--", "sh", "-c", "echo oops >&2; \(script)"]).status == 0)
        let task = try server.task(id)
        #expect(task["state"] as? String == "dead" && task["error"] as? String == error, "\(task)")
        #expect(task["log"] as? String == "oops\n")
    }

    @Test(arguments: [126, 127]) func aCommandThatCannotBeRunEndsTheWorkerAndCostsNothing(status: Int) throws {
        let id = try server.enqueue("w", #""max_retries": 0"#)
        let result = try site.run(["w", "--", "sh", "-c", "exit \(status)"])
        #expect(result.status == 1 && result.error.contains("the command cannot be run: exit status \(status)"))
        let task = try server.task(id)
        #expect(task["state"] as? String == "ready" && task["attempt"] as? Int == 0, "\(task)")
    }

    @Test func aProgramThatIsMissingIsNoticedBeforeAnyTask() throws {
        let missing = try site.run(["w", "--", "/nowhere/program"])
        #expect(missing.status == 2 && missing.error.contains("cannot run '/nowhere/program': No such file"))
    }

    @Test func aCommandLineThatIsTooLongIsTheTasksFault() throws {
        let content = String(repeating: "x", count: 200_000)
        let id = try server.enqueue("w", "\"content\": \"\(content)\"")
        #expect(try site.run(["w", "--exit-when-empty", "--", "true", "{.}"]).status == 0)
        let task = try server.task(id)
        #expect(task["state"] as? String == "dead" && task["error"] as? String == "Argument list too long", "\(task)")
    }

    @Test(arguments: [
        ("head -c 9000000 /dev/zero > $EMQ_RESULT_FILE", "the result is larger than 8 MiB"),
        ("mkfifo $EMQ_RESULT_FILE", "EMQ_RESULT_FILE is no file that can be read"),
    ])
    func aTaskFailsIfItsResultCannotBeSent(script: String, error: String) throws {
        let id = try server.enqueue("w", #""max_retries": 0"#)
        #expect(try site.run(["w", "--exit-when-empty", "--", "sh", "-c", script]).status == 0)
        let task = try server.task(id)
        #expect(task["state"] as? String == "dead" && task["error"] as? String == error, "\(task)")
    }

    @Test func aTooDeepResultIsAText() throws {
        let id = try server.enqueue("w", #""keep": 60"#)
        let script = "for i in $(seq 511); do a=\"[$a]\"; done; echo $a"
        let result = try site.run(["w", "--exit-when-empty", "--result", "stdout", "--", "sh", "-c", script])
        #expect(result.status == 0, "\(result.error)")
        #expect((try server.get("/result/\(id)").object["result"] as? String)?.hasPrefix("[[[") == true)
    }

    @Test func eachTaskHasAResultFileOfItsOwn() throws {
        let ids = try [1, 2].map { try server.enqueue("w", "\"content\": \($0), \"keep\": 60, \"max_retries\": 0") }
        let folder = Scratch()
        try FileManager.default.createDirectory(atPath: folder.path, withIntermediateDirectories: false)
        // The first task makes a folder of it.
        let script = """
            echo $EMQ_RESULT_FILE
            if test $0 = 2; then echo 5 > $EMQ_RESULT_FILE; exit; fi
            mkdir -p $EMQ_RESULT_FILE/a/b; echo > $EMQ_RESULT_FILE/a/b/c; ln -s / $EMQ_RESULT_FILE/a/root
            """
        let result = try site.run(
            ["w", "--exit-when-empty", "--", "sh", "-c", script, "{.}"], environment: ["TMPDIR": folder.path])
        #expect(result.status == 0 && Set(result.output.split(separator: "\n")).count == 2, "\(result)")
        #expect(try server.task(ids[0])["error"] as? String == "EMQ_RESULT_FILE is no file that can be read")
        #expect(try server.get("/result/\(ids[1])").object["result"] as? Int == 5)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
    }

    @Test func leftoversAreRemovedInTheEnd() throws {
        try server.enqueue("w")
        let folder = Scratch()
        try FileManager.default.createDirectory(atPath: folder.path, withIntermediateDirectories: false)
        // More than is removed at the end of the task.
        let script = "mkdir $EMQ_RESULT_FILE; cd $EMQ_RESULT_FILE; mkdir more; seq 3000 | xargs touch; exit 75"
        let worker = try site.start(
            ["w", "--max-tasks", "1", "--", "sh", "-c", script], environment: ["TMPDIR": folder.path])
        #expect(try worker.exitStatus() == 0)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == [])
    }

    // MARK: The environment

    @Test func theEnvironmentOfTheWorkerDoesNotShowTheToken() throws {
        try server.enqueue("w")
        let result = try site.run(
            ["w", "--exit-when-empty", "--", "sh", "-c", "tr '\\0' '\\n' < /proc/$PPID/environ"],
            environment: ["EMQ_TOKEN": "secret", "KEPT": "yes"])
        #expect(result.status == 0 && result.output.contains("KEPT=yes"), "\(result.error)")
        #expect(result.output.contains("EMQ_TOKEN=xxxxxx\n") && !result.output.contains("secret"))
    }

    @Test func variablesNeedNotBeUTF8() throws {
        try server.enqueue("w")
        let marker = Scratch()
        let worker = try site.start(
            ["w", "--exit-when-empty", "--", "sh", "-c", "printf %s \"$ODD\" | od -An -tx1 > $0", marker.path],
            through: ["/bin/sh", "-c", "ODD=$(printf 'a\\377b'); export ODD; exec \"$@\"", "sh"])
        #expect(try worker.exitStatus() == 0)
        #expect(marker.lines == [" 61 ff 62"])
    }

    @Test func argumentsThatAreNotUTF8AreRefused() throws {
        let worker = try site.start(
            ["w", "--", "echo"], through: ["/bin/sh", "-c", "exec \"$@\" \"$(printf 'a\\377b')\"", "sh"])
        #expect(try worker.exitStatus() == 2)
        #expect(worker.error.contains("the command line has bytes that are not UTF-8"))
    }

    @Test func theFirstOfTwoNamesOfMetadataCounts() throws {
        try server.enqueue("w", #""metadata": {"a": "1", "A": "2"}"#)
        let result = try site.run(["w", "--exit-when-empty", "--", "env"])
        #expect(result.output.split(separator: "\n").filter { $0.hasPrefix("EMQ_META_A=") } == ["EMQ_META_A=1"])
    }

    // MARK: The command line

    @Test(arguments: [
        (["a=", "--", "true"], "write 'a==1'"),
        (["a=0", "--", "true"], "a queue's weight must be from 1 to 1000, not '0'"),
        (["a=1001", "--", "true"], "write 'a=1001=1'"), (["a=1,b=", "--", "true"], "not '' as in 'b='"),
        (["a", "--timeout", "0", "--", "true"], "--timeout must be more than 0"),
        (["a", "--worker", "", "--", "true"], "--worker must have from 1 to 255 bytes"),
        (["a", "--", "/tmp"], "cannot run '/tmp': it is no file"),
    ])
    func mistakesAreRefused(arguments: [String], reason: String) throws {
        let result = try site.run(arguments)
        #expect(result.status == 2 && result.error.contains(reason), "\(result)")
    }

    @Test func theLastEqualsSignCounts() throws {
        try server.enqueue("a=5")
        let result = try site.run(["a=5=1", "--exit-when-empty", "--", "echo", "{queue}"])
        #expect(result.status == 0 && result.output == "a=5\n", "\(result)")
    }

    @Test func aDryRunShowsWhatWouldRun() throws {
        let id = try server.enqueue("w", #""content": "\u001b[2J""#)
        let command = try site.run(["w", "--dry-run", "--", "echo", "{attempt}", "{.}"])
        #expect(command.status == 0 && command.output == "\(id)\techo 1 $'\\033[2J'\n", "\(command)")
        let request = try site.run(["w", "--dry-run", "--http", "http://example.com/a?key=secret"])
        #expect(request.status == 0 && request.output == "\(id)\tPOST http://example.com/a\n", "\(request)")
        #expect(try server.state(id) == "ready")
    }

    // MARK: Output

    @Test func aCommandWaitsForTheReaderOfItsOutputWhileItsLeaseIsExtended() throws {
        let content = String(repeating: "x", count: 1_000_000)
        let id = try server.enqueue("w", "\"content\": \"\(content)\", \"retry\": 5")
        let marker = Scratch()
        let pipe = Pipe()
        // It does not read the content.
        let worker = try site.start(
            ["w", "--max-tasks", "1", "--", "sh", "-c", "echo >> $0; yes | head -c 3000000; echo >> $0", marker.path],
            output: pipe.fileHandleForWriting)
        try pipe.fileHandleForWriting.close()
        try marker.wait(1)
        let begin = try #require(try server.task(id)["lease_end"] as? Double)
        _ = try eventually("the lease to be extended") {
            try #require(try server.task(id)["lease_end"] as? Double) > begin + 1 ? true : nil
        }
        #expect(marker.lines.count == 1)
        #expect(pipe.fileHandleForReading.readDataToEndOfFile().count == 3_000_000)
        #expect(try worker.exitStatus() == 0)
        #expect(try server.get("/task/\(id)").status == 404 || server.state(id) == "done")
    }

    @Test func aWorkerWithoutAReaderGoesOn() throws {
        try server.enqueueAll("w", [1, 2, 3])
        let pipe = Pipe()
        try pipe.fileHandleForReading.close()
        let worker = try site.start(
            ["w", "--exit-when-empty", "--", "sh", "-c", "yes | head -c 200000"], output: pipe.fileHandleForWriting)
        try pipe.fileHandleForWriting.close()
        #expect(try worker.exitStatus() == 0)
        #expect(try server.takeContents("w").isEmpty)
    }

    @Test func nobodyWaitsForAGrandchildThatHoldsThePipes() throws {
        try server.enqueue("w")
        let marker = Scratch()
        // It is in a group of its own, so that it outlives the command.
        let script = "setsid sh -c 'echo $$ >> $0; exec sleep 600' $0 & while ! test -s $0; do :; done; echo done"
        let worker = try site.start(["w", "--exit-when-empty", "--", "sh", "-c", script, marker.path])
        let grandchild = try marker.processes(1)[0]
        defer { kill(grandchild, SIGKILL) }
        // Foundation does not notice the worker's end while the grandchild has its descriptors.
        try worker.waitFor("stopped: 1 done")
        #expect(isRunning(grandchild))
        kill(grandchild, SIGKILL)
        #expect(try worker.exitStatus() == 0)
        #expect(try server.takeContents("w").isEmpty)
    }

    // MARK: Which tasks

    @Test func queuesComeInTheirOrderOrByTheirWeights() throws {
        try server.enqueueAll("a", Array(0..<60))
        try server.enqueueAll("b", Array(0..<60))
        func taken(_ queues: [String]) throws -> [Substring] {
            let result = try site.run(queues + ["--max-tasks", "40", "--", "echo", "{queue}"])
            #expect(result.status == 0)
            return result.output.split(separator: "\n")
        }
        // The odds against this are about one in a million.
        let weighted = try taken(["a=4,b=1"])
        #expect(weighted.count == 40 && Set(weighted).count == 2)
        #expect(weighted.count { $0 == "a" } > weighted.count { $0 == "b" })
        let ordered = try taken(["b", "a"])
        let rest = 60 - weighted.count { $0 == "b" }
        #expect(ordered == (0..<40).map { $0 < rest ? "b" : "a" })
    }

    @Test func aWorkerEndsWhenItIsToldTo() throws {
        try server.enqueueAll("w", [1, 2, 3])
        let some = try site.run(["w", "-j", "8", "--max-tasks", "2", "--", "echo", "{.}"])
        #expect(some.status == 0 && some.output.split(separator: "\n").count == 2, "\(some.error)")
        let empty = try site.run(["w", "--exit-when-empty=200ms", "--", "echo", "{.}"])
        #expect(empty.status == 0 && empty.output == "3\n" && empty.error.contains("no task left"))
        let time = try site.run(["w", "--max-time", "100ms", "--", "true"])
        #expect(time.status == 0 && time.error.contains("--max-time is over"))
    }

    /// A shell that sets the limit of open files, for as long as it can be raised again or for good.
    private func limitingFiles(_ option: String) -> [String] {
        ["/bin/sh", "-c", "ulimit \(option) 40; exec \"$@\"", "sh"]
    }

    @Test func aLowLimitOfOpenFilesIsRaised() throws {
        let marker = Scratch()
        try server.enqueueAll("w", Array(0..<30))
        let worker = try site.start(
            ["w", "-j", "30", "--grace", "0", "--", "sh", "-c", "echo $$ >> $0; exec sleep 600", marker.path],
            through: limitingFiles("-Sn"))
        try marker.wait(30)
        #expect(!worker.error.contains("cannot start another command"), "\(worker.error)")
    }

    @Test func aWorkerSaysOnceThatTheSystemIsShort() throws {
        try server.enqueueAll("w", Array(0..<30))
        let worker = try site.start(
            ["w", "-j", "30", "--grace", "0", "--", "sh", "-c", "exec sleep 600"], through: limitingFiles("-n"))
        try worker.waitFor("cannot start another command now: Too many open files")
    }

    @Test func aWorkerSlowsDownWhenEverythingFails() throws {
        for number in 0..<11 { try server.enqueue("w", "\"content\": \(number), \"max_retries\": 0") }
        let result = try site.run(["w", "--exit-when-empty", "--", "sh", "-c", "test $0 = 10", "{.}"])
        let lines = result.error.split(separator: "\n")
        let slow = try #require(lines.firstIndex { $0.contains("trying one at a time") }, "\(result.error)")
        let normal = try #require(lines.firstIndex { $0.contains("working normally again") }, "\(result.error)")
        #expect(result.status == 0 && slow < normal)
        #expect(try server.get("/stats/w").object["dead"] as? Int == 10)
    }
}
