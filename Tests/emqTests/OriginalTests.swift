// Clients of the original emq: whatever it accepts gets the same answer here, in virtual time.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct OriginalTests {
    let server: VirtualServer

    init() throws { server = try VirtualServer(Adapters()) }

    private func post(_ path: String, _ body: String) throws -> Response {
        try server.send("POST", path, body, service: 0)
    }

    private func get(_ target: String) throws -> Response { try server.send("GET", target, service: 0) }

    private func enqueue(_ body: String) throws -> String {
        let answer = try post("/enqueue/q", body)
        #expect(answer.status == 200, "\(body): \(answer.body)")
        return try #require(try answer.object["id"] as? String)
    }

    private func wait(_ more: String = "") throws -> [[String: Any]?] {
        try post("/wait/", "{\"queues\":[\"q\"]\(more)}").tasks
    }

    private func statistics(_ name: String, of queue: String = "q") throws -> Int? {
        let statistics = try get("/stats/\(queue)").object
        return statistics[name] as? Int ?? (statistics["totals"] as? [String: Int])?[name]
    }

    // MARK: Content

    @Test(arguments: ["null", " null\n", "{}", #"{"content":null}"#, #"{"retry":null}"#])
    func aTaskWithoutContentHasTheContentNull(body: String) throws {
        let id = try enqueue(body)
        let task = try #require(try wait()[0])
        #expect(task["id"] as? String == id && task["content"] is NSNull)
        #expect(task["retry"] as? Int == 300)
    }

    @Test func theOtherFieldsOfATaskWithoutContentCount() throws {
        let id = try enqueue(#"{"retry":7,"expiry":60,"priority":3,"key":"k"}"#)
        let task = try get("/task/\(id)").object
        #expect(task["content"] is NSNull && task["retry"] as? Int == 7 && task["priority"] as? Int == 3)
        server.advance(seconds: 60)
        #expect(try get("/task/\(id)").status == 404)
    }

    @Test func tasksOfABatchMayLackContentToo() throws {
        let answer = try post("/enqueue/q", #"[{"content":1},{},null,{"priority":1},{"content":"x"}]"#)
        #expect(answer.status == 200)
        #expect(try (answer.object["ids"] as? [String])?.count == 5)
        let contents = try get("/peek/q?n=9").tasks.map { $0?["content"] }
        #expect(contents[0] is NSNull && contents[1] as? Int == 1 && contents[2] is NSNull && contents[3] is NSNull)
        #expect(contents[4] as? String == "x")
    }

    @Test func anEmptyBodyIsRefused() throws {
        for path in ["/enqueue/q", "/wait/", "/ack/", "/nak/"] { #expect(try post(path, "").status == 400) }
    }

    @Test func otherBodiesAreStillRefused() throws {
        for path in ["/enqueue/q", "/wait/", "/ack/", "/nak/", "/touch/", "/kick/"] {
            for body in ["1", "true", #""x""#, "nul", "null null"] {
                #expect(try post(path, body).status == 400, "\(path) \(body)")
            }
        }
        for path in ["/config/q", "/defaults/"] {
            #expect(try server.send("PUT", path, "null", service: 0).status == 400)
            #expect(try server.send("PATCH", path, "null", service: 0).status == 400)
        }
        #expect(try post("/wait/", "[]").status == 400)
        #expect(try get("/queues/").body == "[]\n")
    }

    // MARK: Leases and lives without length

    @Test func aLeaseOfZeroEndsAtOnce() throws {
        let id = try enqueue(#"{"content":1,"retry":0}"#)
        for attempt in 1...5 {
            // One request gets it once, however many it asks for.
            let tasks = try post("/wait/", #"{"queues":["q","q"]}"#).tasks
            #expect(tasks[0]?["attempt"] as? Int == attempt && tasks[0]?["retry"] as? Int == 0)
            #expect(tasks[1] == nil)
            #expect(try get("/task/\(id)").object["state"] as? String == "ready")
        }
        #expect(try wait(#","max":100"#).count == 1)
        for path in ["/ack/", "/nak/", "/touch/"] {
            #expect(try post(path, "{\"ids\":[\"\(id)\"]}").body.contains("\"missing\":[\"\(id)\"]"))
        }
        #expect(try statistics("timed_out") == 6)
        #expect(try statistics("ready") == 1)
    }

    @Test func aLeaseOfZeroUsesUpRetries() throws {
        _ = try server.send("PUT", "/config/q", #"{"max_retries":2,"dead_letter":"d"}"#, service: 0)
        let id = try enqueue(#"{"content":1,"retry":0}"#)
        var attempts = 0
        while try wait()[0] != nil { attempts += 1 }
        #expect(attempts == 3)
        let dead = try get("/task/\(id)").object
        #expect(dead["queue"] as? String == "d" && dead["attempt"] as? Int == 3)
        #expect(dead["error"] as? String == "the lease ran out")
    }

    /// Ten attempts follow each other at once, as for each task that fails without a backoff.
    @Test func aLeaseOfZeroKeepsNobodyBusyForEver() throws {
        _ = try enqueue(#"{"content":1,"retry":0}"#)
        var attempts = 0
        while try wait()[0] != nil { attempts += 1 }
        #expect(attempts == 10)
        server.advance(seconds: 1)
        #expect(try wait()[0]?["attempt"] as? Int == 11)
    }

    @Test func aTaskWithoutALeaseGoesBehindOthers() throws {
        _ = try post("/enqueue/q", #"[{"content":1,"retry":0},{"content":2}]"#)
        #expect(try wait()[0]?["content"] as? Int == 1)
        #expect(try wait()[0]?["content"] as? Int == 2)
        #expect(try wait()[0]?["content"] as? Int == 1)
    }

    @Test func aWorkerCanAskForALongerLeaseThanZero() throws {
        let id = try enqueue(#"{"content":1,"retry":0}"#)
        #expect(try wait(#","retry":5"#)[0]?["retry"] as? Int == 5)
        #expect(try post("/ack/", "{\"ids\":[\"\(id)\"]}").object["acked"] as? Int == 1)
    }

    @Test func aReplacementCanHaveALeaseOfZero() throws {
        let id = try enqueue(#"{"content":1,"key":"k"}"#)
        _ = try wait()
        _ = try enqueue(#"{"content":2,"key":"k","on_conflict":"replace","retry":0}"#)
        #expect(try post("/ack/", "{\"ids\":[\"\(id)\"]}").object["acked"] as? Int == 1)
        #expect(try wait()[0]?["retry"] as? Int == 0)
        #expect(try wait()[0]?["attempt"] as? Int == 3)
    }

    @Test func aTaskWithAnExpiryOfZeroIsGoneAtOnce() throws {
        let ids = try [
            enqueue(#"{"content":1,"expiry":0}"#), enqueue(#"{"content":1,"expiry":0,"retry":0}"#),
        ]
        for id in ids { #expect(try get("/task/\(id)").status == 404) }
        #expect(try wait()[0] == nil)
        let kept = try enqueue(#"{"content":1,"expiry":0,"keep":60}"#)
        #expect(try get("/task/\(kept)").object["state"] as? String == "expired")
        let delayed = try enqueue(#"{"content":1,"expiry":0,"delay":5}"#)
        #expect(try get("/task/\(delayed)").object["state"] as? String == "delayed")
        server.advance(seconds: 5)
        #expect(try get("/task/\(delayed)").status == 404)
        #expect(try statistics("expired", of: "q") == 1)
        let totals = try #require(try get("/stats/q").object["totals"] as? [String: Int])
        #expect(totals["enqueued"] == 4 && totals["expired"] == 4 && totals["dispatched"] == 0)
    }

    @Test func aLeaseAndALifeMayLast136Years() throws {
        let id = try enqueue(#"{"content":1,"retry":4294967295,"expiry":4294967295}"#)
        let task = try get("/task/\(id)").object
        #expect(task["retry"] as? Int == 4_294_967_295)
        let enqueued = try #require(task["enqueued"] as? Double)
        #expect(task["expires"] as? Double == enqueued + 4_294_967_295)
        #expect(try wait()[0]?["retry"] as? Int == 4_294_967_295)
        for field in ["retry", "expiry"] {
            let answer = try post("/enqueue/q", "{\"content\":1,\"\(field)\":4294967296}")
            #expect(answer.status == 400)
            #expect(answer.body.contains("a number of seconds from 0 to 4294967295"), "\(answer.body)")
        }
    }

    // MARK: Requests that name nothing

    @Test(arguments: [
        "{}", "null", #"{"queues":[]}"#, #"{"queues":null}"#, #"{"queues":[],"timeout":60000}"#,
        #"{"timeout":60000}"#, #"{"max":5,"timeout":60000}"#, #"{"queues":[],"max":5}"#, #"{"timeout":null}"#,
    ])
    func aWaitWithoutQueuesIsAnsweredAtOnce(body: String) throws {
        let answer = try post("/wait/", body)
        #expect(answer.status == 200 && answer.body == "[]\n", "\(answer.body)")
    }

    @Test func aWaitWithoutQueuesAcknowledges() throws {
        let id = try enqueue("{}")
        _ = try wait()
        let answer = try post("/wait/", "{\"ack\":[\"\(id)\"]}")
        #expect(answer.body == "[]\n" && answer.fields["emq-missing"] == nil)
        #expect(try get("/task/\(id)").status == 404)
    }

    @Test(arguments: [
        ("/ack/", #"{"acked":0,"missing":[]}"#), ("/nak/", #"{"requeued":0,"dead":0,"missing":[]}"#),
        ("/touch/", #"{"touched":0,"missing":[]}"#), ("/kick/", #"{"kicked":0,"missing":[]}"#),
    ])
    func aRequestWithoutIdsNamesNoTask(path: String, body: String) throws {
        for request in ["{}", "null", #"{"ids":null}"#, #"{"ids":[]}"#] {
            let answer = try post(path, request)
            #expect(answer.status == 200 && answer.body == body + "\n", "\(request): \(answer.body)")
        }
    }

    // MARK: Peeking

    @Test func aPeekTakesAnyWholeNumber() throws {
        _ = try post("/enqueue/q", "[" + Array(repeating: "{}", count: 1001).joined(separator: ",") + "]")
        for n in ["0", "-0", "-1", "-9223372036854775808"] { #expect(try get("/peek/q?n=\(n)").body == "[]\n") }
        for n in ["1001", "9223372036854775807", "+2000"] { #expect(try get("/peek/q?n=\(n)").tasks.count == 1000) }
        #expect(try get("/peek/q?n=+2").tasks.count == 2)
        for n in ["", "x", "1.5", "9223372036854775808", "0x1", "1e3"] {
            #expect(try get("/peek/q?n=\(n)").status == 400)
        }
        #expect(try get("/peek/none?n=0").body == "[]\n")
    }

    // MARK: The command line

    @Test(arguments: [
        ["-addr", ":7"], ["--addr", ":7"], ["-addr=:7"], ["--addr=:7"], ["-gc-freq", "5m", "-addr=:7"],
    ])
    func itsOptionsHaveOneDashOrTwo(arguments: [String]) throws {
        let options = try Options(arguments) { _ in nil }
        #expect(options.addresses.map { "\($0)" } == [":7"])
    }

    @Test(arguments: ["5m", "1h30m", "1.5s", ".5h", "300ms", "+2us", "1µs", "1h0m0s", "7ns"])
    func theFrequencyOfItsCollectionsIsIgnored(frequency: String) throws {
        for arguments in [["--gc-freq", frequency], ["-gc-freq=\(frequency)"]] {
            let options = try Options(arguments) { _ in nil }
            #expect(options.notes == ["ignoring --gc-freq: emq deletes each task as soon as it expires"])
        }
        #expect(try Options([]) { _ in nil }.notes.isEmpty)
    }

    @Test(arguments: ["-addr=:7", "-addr", "-gc-freq=5m", "-gc-freq", "--addr", "--data=x"])
    func anOptionIsNotTheValueOfTheOneBefore(option: String) throws {
        for flag in ["--data", "--htq", "--addr", "--gc-freq", "--delay-tasks"] {
            let error = #expect(throws: UsageError.self) { try Options([flag, option, ":8"]) { _ in nil } }
            #expect(
                error?.description
                    == "\(flag) needs a value, but an option follows; if '\(option)' is the value, write \(flag)=\(option)"
            )
        }
        #expect(try Options(["--data=\(option)"]) { _ in nil }.directory == option)
        // With a file of its own, --delay-tasks needs no value.
        let error = #expect(throws: UsageError.self) {
            try Options(["--delay-tasks", option, "5m"]) { $0 == "CONF_FILE" ? "/nowhere.json" : nil }
        }
        #expect(error?.description.hasPrefix("--delay-tasks") == false, "\(String(describing: error))")
    }

    @Test func theLogSaysOnceThatAnOptionIsIgnored() throws {
        let server = try Server(["-addr", "127.0.0.1:0", "-gc-freq", "5m"])
        let lines = try eventually("the line") {
            let lines = server.output.split(separator: "\n").filter { $0.contains("--gc-freq") }
            return lines.isEmpty ? nil : lines
        }
        #expect(lines.count == 1)
        #expect(try server.get("/healthz").status == 200)
    }
}
