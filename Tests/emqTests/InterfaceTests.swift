// The interface of the original emq, through real sockets.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct InterfaceTests {
    let server: Server

    init() throws { server = try Server() }

    private func enqueue(_ queue: String, _ content: String = "1", _ more: String = "") throws -> String {
        let answer = try server.post("/enqueue/\(queue)", "{\"content\": \(content)\(more)}")
        #expect(answer.status == 200)
        return try #require(try answer.object["id"] as? String)
    }

    private func take(_ queue: String) throws -> [String: Any]? {
        try server.post("/wait/", "{\"queues\": [\"\(queue)\"]}").tasks[0]
    }

    private func receipt(_ task: [String: Any]?) throws -> String { try #require(task?["receipt"] as? String) }

    /// Sends a wait on a connection of its own, and returns once the server has it.
    private func startWait(_ json: String) throws -> Client {
        let client = try server.connect()
        client.sendPost("/wait/", json)
        // A later request on another connection is served later.
        _ = try server.get("/healthz")
        return client
    }

    @Test func nackIsNak() throws {
        try server.enqueue("q")
        let receipt = try #require(try server.take("q").first?["receipt"] as? String)
        for path in ["/nack", "/nack/"] {
            #expect(try server.send("GET", path).fields["allow"] == "POST, OPTIONS")
            #expect(try server.post(path, #"{"ids": [], "error": 1}"#).field == "error")
        }
        let answer = try server.post("/nack/", "{\"ids\": [\"\(receipt)\"], \"error\": \"no\"}")
        #expect(answer.body == #"{"requeued":1,"dead":0,"missing":[]}"#)
        #expect(try server.get("/peek/q").tasks[0]?["error"] as? String == "no")
        #expect(try server.get("/stats/q").object["totals"].map { ($0 as? [String: Int])?["nacked"] } == 1)
    }

    @Test func noHintLeadsFromAHarmlessPathToARiskyOne() throws {
        let paths = [
            "nck", "nac", "nakc", "back", "hack", "pack", "rack", "nacks", "ak", "reject", "fail", "refuse", "release",
            "requeue", "merge", "urge", "push", "post", "pass", "publish", "put", "love", "pick", "resend",
        ]
        let risky = ["/ack", "/purge", "/pause", "/resume", "/kick", "/move"]
        for path in paths {
            let detail = try #require(try server.post("/\(path)", "{}").object["detail"] as? String)
            for risk in risky { #expect(!detail.contains("did you mean '\(risk)'"), "\(path): \(detail)") }
        }
        // A typo of one letter gets a hint.
        for (slip, meant) in [
            ("akc", "ack"), ("acck", "ack"), ("purg", "purge"), ("naak", "nak"), ("enqeue", "enqueue"),
        ] {
            let detail = try server.post("/\(slip)", "{}").object["detail"] as? String
            #expect(detail == "there is nothing at this path; did you mean '/\(meant)'?")
        }
        for (path, field) in [("/wait", "nack"), ("/wait", "nak"), ("/nak", "read"), ("/nak", "delad")] {
            let detail = try #require(try server.post(path, "{\"\(field)\": []}").object["detail"] as? String)
            #expect(!detail.contains("did you mean 'ack'") && !detail.contains("did you mean 'dead'"), "\(detail)")
        }
    }

    /// All typos of a word: one letter inserted, deleted or changed, or two swapped.
    private static func misspellings(of word: String) -> [String] {
        let letters = Array(word)
        var found: Set<String> = []
        func insert(_ before: ArraySlice<Character>, _ middle: String, _ after: ArraySlice<Character>) {
            found.insert(String(before) + middle + String(after))
        }
        for place in 0...letters.count {
            for other in "abcdefghijklmnopqrstuvwxyz" {
                insert(letters[..<place], String(other), letters[place...])
                if place < letters.count { insert(letters[..<place], String(other), letters[(place + 1)...]) }
            }
            if place < letters.count { insert(letters[..<place], "", letters[(place + 1)...]) }
            if place + 1 < letters.count {
                var swapped = letters
                swapped.swapAt(place, place + 1)
                found.insert(String(swapped))
            }
        }
        return found.subtracting(["ack", "nak", "nack"]).sorted()
    }

    @Test func noMisspeltRefusalIsTakenForAnAcknowledgement() {
        let verbs = Route.all.map { "\($0.name)" }
        // Members of requests; none of them is a refusal.
        let members = ["queues", "max", "timeout", "ack", "any"]
        for word in ["nak", "nack"] {
            for slip in Self.misspellings(of: word) + ["nack"] {
                for known in [verbs, members] {
                    #expect(!nearestName(to: slip, among: known).contains("mean 'ack'"), "\(slip)")
                }
            }
        }
        for slip in Self.misspellings(of: "ack") {
            let hint = nearestName(to: slip, among: verbs)
            #expect(hint == "did you mean 'ack'?" || hint.hasPrefix("expected one of: "), "\(slip): \(hint)")
        }
        #expect(nearestName(to: "acj", among: verbs) == "did you mean 'ack'?")
    }

    @Test func aTaskGoesInAndComesOut() throws {
        let id = try enqueue("q", #"{"a": 1}"#, #", "retry": 1000.5, "expiry": 6000"#)
        #expect(id.utf8.count == 22)
        let shown = try #require(try server.get("/peek/q").tasks[0])
        #expect(Set(shown.keys) == ["id", "queue", "content", "attempt", "state", "enqueued", "expires"])
        #expect(shown["attempt"] as? Int == 0)
        #expect(shown["state"] as? String == "ready")
        let lifetime = try #require(shown["expires"] as? Double) - #require(shown["enqueued"] as? Double)
        #expect(abs(lifetime - 6000) < 0.001)

        let answer = try server.post("/wait/", #"{"queues": ["q"]}"#)
        #expect(answer.fields["content-type"] == "application/json")
        let task = try #require(try answer.tasks[0])
        #expect(Set(task.keys) == ["id", "queue", "content", "attempt", "retry", "receipt"])
        #expect(task["id"] as? String == id)
        #expect(task["queue"] as? String == "q")
        #expect(task["attempt"] as? Int == 1)
        #expect(task["retry"] as? Double == 1000.5)
        #expect(try receipt(task).hasPrefix(id + "@"))
        #expect(try server.get("/peek/q").body == "[]")
        #expect(try server.get("/queues/").body == #"["q"]"#)
        #expect(try server.post("/ack/", "{\"ids\": [\"\(receipt(task))\"]}").body == #"{"acked":1,"missing":[]}"#)
        #expect(try server.get("/queues/").body == "[]")
    }

    @Test func defaultsAreFiveMinutesAndADay() throws {
        _ = try enqueue("q")
        let shown = try #require(try server.get("/peek/q").tasks[0])
        let lifetime = try #require(shown["expires"] as? Double) - #require(shown["enqueued"] as? Double)
        #expect(abs(lifetime - 86400) < 0.001)
        #expect(try take("q")?["retry"] as? Int == 300)
        _ = try enqueue("q", "1", #", "retry": null, "expiry": null"#)
        #expect(try take("q")?["retry"] as? Int == 300)
    }

    @Test(arguments: [
        #"{"b":1,  "a" : 2, "a": 3}"#, "18446744073709551615", "1.000", "9007199254740993", #""\u00e4\ud83d\ude00\/""#,
        "\"\u{1F600}\\n\"", "null", "true", "[ ]", #""\ud800""#, "1e400", "-0",
    ])
    func contentComesBackByteForByte(content: String) throws {
        _ = try enqueue("q", content)
        #expect(try server.get("/peek/q").body.contains("\"content\":\(content),"))
        #expect(try server.post("/wait", #"{"queues":["q"]}"#).body.contains("\"content\":\(content),"))
    }

    @Test(arguments: [
        ("a/b", "a/b"), ("a/", "a/"), ("a%2Fb", "a/b"), ("a+b", "a+b"), ("%C3%A4%20", "ä "), ("/", "/"), ("%22", "\""),
        (String(repeating: "x", count: 255), String(repeating: "x", count: 255)),
    ])
    func aNameIsWhatFollowsTheVerb(path: String, name: String) throws {
        _ = try enqueue(path)
        #expect(try server.get("/queues").json as? [String] == [name])
        #expect(try server.get("/peek/\(path)").tasks.count == 1)
    }

    @Test func invalidNamesAreRefused() throws {
        for (path, status) in [
            ("", 404), ("%00", 400), ("%7F", 400), ("%C2%85", 400), ("%FF", 400), ("%ED%A0%80", 400),
            (String(repeating: "x", count: 256), 400),
        ] {
            #expect(try server.post("/enqueue/\(path)", #"{"content":1}"#).status == status, "\(path)")
        }
        #expect(try server.post("/enqueue", #"{"content":1}"#).status == 404)
        #expect(try server.post("/wait/x", #"{"queues":["a"]}"#).status == 404)
        for name in [#""""#, #""\u0000""#, #""\ud800""#, "\"\(String(repeating: "x", count: 256))\""] {
            let answer = try server.post("/wait/", "{\"queues\": [\"a\", \(name)]}")
            #expect(answer.status == 400)
            #expect(answer.field == "queues[1]")
        }
    }

    @Test func aWaitAcrossThreeQueuesWithRepeats() throws {
        let client = try startWait(#"{"queues": ["a", "b", "a", "c"], "timeout": 600000}"#)
        _ = try enqueue("a", #""a1""#)
        _ = try enqueue("b", #""b1""#)
        _ = try enqueue("c", #""c1""#)
        // Nothing is taken or reserved until all places can be filled.
        #expect(try server.get("/peek/a?n=10").tasks.count == 1)
        _ = try enqueue("a", #""a2""#)
        let tasks = try client.response().tasks
        #expect(tasks.map { $0?["content"] as? String } == ["a1", "b1", "a2", "c1"])
    }

    @Test func nullsAreAnsweredOnlyAfterTheTimeout() throws {
        _ = try enqueue("a")
        let begin = ContinuousClock.now
        let tasks = try server.post("/wait/", #"{"queues": ["b", "a", "a"], "timeout": 150}"#).tasks
        #expect(begin.duration(to: .now) >= .milliseconds(149))
        #expect(tasks.map { $0 == nil } == [true, false, true])
        #expect(try server.post("/wait/", #"{"queues": ["b"]}"#).body == "[null]")
    }

    @Test func twoWaitersAreServedInTheOrderTheyCame() throws {
        let first = try startWait(#"{"queues": ["q"], "timeout": 600000}"#)
        let second = try startWait(#"{"queues": ["q"], "timeout": 600000}"#)
        _ = try enqueue("q", "1")
        #expect(try first.response().tasks[0]?["content"] as? Int == 1)
        _ = try enqueue("q", "2")
        #expect(try second.response().tasks[0]?["content"] as? Int == 2)
    }

    @Test func aWaiterWhoseClientDisconnectedGetsNothingAndBlocksNoOther() throws {
        try withExtendedLifetime(startWait(#"{"queues": ["q"], "timeout": 600000}"#)) { _ in }
        try withExtendedLifetime(startWait(#"{"queues": ["q"], "timeout": 600000}"#)) { $0.resetOnClose() }
        let last = try startWait(#"{"queues": ["q"], "timeout": 600000}"#)
        _ = try enqueue("q", "7")
        let task = try #require(try last.response().tasks[0])
        #expect(task["content"] as? Int == 7)
        #expect(task["attempt"] as? Int == 1)
    }

    @Test func theEndOfInputEndsAWaitAndRequestsBehindItStillRun() throws {
        let client = try server.connect()
        client.send(
            Client.postText("/wait/", #"{"queues": ["a", "b"], "timeout": 600000}"#)
                + Client.postText("/enqueue/b", #"{"content": 1}"#))
        client.halfClose()
        #expect(try client.response().body == "[null,null]")
        #expect(try client.response().status == 200)
        #expect(try client.isEnded())
        #expect(try server.get("/queues/").body == #"["b"]"#)
    }

    @Test func aTaskWhoseAnswerNeverArrivedGoesBackToTheFront() throws {
        // An answer larger than both kernel buffers cannot have reached a client that does not read.
        let large = "\"" + String(repeating: "x", count: 16 << 20) + "\""
        _ = try enqueue("q", large)
        _ = try enqueue("q", "2")
        do {
            let client = try server.connect()
            client.sendPost("/wait/", #"{"queues": ["q"]}"#)
            // It has been dispatched when the second task is first in the queue.
            _ = try eventually("the dispatch") { try server.get("/peek/q").body.count < 1000 ? true : nil }
        }
        let body = try eventually("the task's return") {
            let shown = try server.get("/peek/q")
            return shown.body.utf8.count > large.utf8.count ? shown.body : nil
        }
        #expect(body.contains(#""attempt":1,"state":"ready""#))
    }

    @Test func aLeaseThatRunsOutPutsTheTaskAtTheBack() throws {
        _ = try enqueue("q", "1", #", "retry": 0.05"#)
        _ = try enqueue("q", "2")
        let lost = try receipt(try take("q"))
        let order = try eventually("the task's return") {
            let shown = try server.get("/peek/q?n=9").tasks
            return shown.count == 2 ? shown.compactMap { $0?["content"] as? Int } : nil
        }
        #expect(order == [2, 1])
        #expect(try server.post("/ack/", "{\"ids\":[\"\(lost)\"]}").body == "{\"acked\":0,\"missing\":[\"\(lost)\"]}")
    }

    @Test func aNakPutsTheTaskAtTheBack() throws {
        _ = try enqueue("q", "1")
        _ = try enqueue("q", "2")
        let receipt = try receipt(try take("q"))
        let answer = try server.post("/nak/", "{\"ids\":[\"\(receipt)\"]}")
        #expect(answer.body == #"{"requeued":1,"dead":0,"missing":[]}"#)
        #expect(try server.get("/peek/q?n=9").tasks.compactMap { $0?["content"] as? Int } == [2, 1])
        #expect(try server.post("/nak/", "{\"ids\":[\"\(receipt)\"]}").object["requeued"] as? Int == 0)
    }

    @Test func aTaskExpiresEvenWhileItIsDispatched() throws {
        // A client waits already; otherwise the task might expire before it is taken.
        let worker = try startWait(#"{"queues": ["q"], "timeout": 600000}"#)
        _ = try enqueue("q", "1", #", "expiry": 0.2"#)
        let receipt = try receipt(try worker.response().tasks[0])
        _ = try eventually("the expiry") { try server.get("/queues/").body == "[]" ? true : nil }
        #expect(try server.post("/ack/", "{\"ids\":[\"\(receipt)\"]}").object["acked"] as? Int == 0)
        _ = try enqueue("q", "1", #", "expiry": 0.05"#)
        _ = try eventually("the expiry") { try server.get("/queues/").body == "[]" ? true : nil }
        #expect(try take("q") == nil)
    }

    @Test func anIdIsAcknowledgedOnceAndMissingRepeatsItAsWritten() throws {
        let id = try enqueue("q")
        _ = try take("q")
        let unknown = "0199AAAA-0000-7000-8000-000000000000"
        let answer = try server.post(
            "/ack/", "{\"ids\": [\"\(id)\", \"\(id)\", \"\(unknown)\", \"\\u0041\(id.dropFirst())\"]}")
        #expect(answer.body == "{\"acked\":1,\"missing\":[\"\(id)\",\"\(unknown)\",\"\\u0041\(id.dropFirst())\"]}")
        #expect(try server.post("/ack/", "{\"ids\": []}").body == #"{"acked":0,"missing":[]}"#)
        // A ready task is not dispatched.
        let ready = try enqueue("q")
        #expect(try server.post("/ack/", "{\"ids\": [\"\(ready)\"]}").object["acked"] as? Int == 0)
    }

    @Test func anIdCanBeWrittenAsAUUID() throws {
        let id = try enqueue("q")
        _ = try take("q")
        let standard = id.replacing("-", with: "+").replacing("_", with: "/") + "=="
        let bytes = [UInt8](try #require(Data(base64Encoded: standard)))
        var digits = bytes.map { String(format: "%02x", $0) }.joined()
        for place in [20, 16, 12, 8] {
            digits.insert("-", at: digits.index(digits.startIndex, offsetBy: place))
        }
        let body = "{\"ids\": [\"\(digits)\", \"\(digits.uppercased())\"]}"
        #expect(try server.post("/nak/", body).body.hasSuffix("\"missing\":[\"\(digits.uppercased())\"]}"))
        _ = try take("q")
        #expect(
            try server.post("/ack/", body).body == "{\"acked\":1,\"missing\":[\"\(digits.uppercased())\"]}")
    }

    @Test func aReceiptOfAnEarlierDispatchDoesNotWork() throws {
        let id = try enqueue("q")
        let first = try receipt(try take("q"))
        _ = try server.post("/nak/", "{\"ids\": [\"\(first)\"]}")
        let task = try take("q")
        #expect(task?["attempt"] as? Int == 2)
        #expect(try receipt(task) != first)
        #expect(
            try server.post("/ack/", "{\"ids\": [\"\(first)\"]}").body == "{\"acked\":0,\"missing\":[\"\(first)\"]}")
        #expect(try server.post("/ack/", "{\"ids\": [\"\(id)\"]}").object["acked"] as? Int == 1)
    }

    @Test func anAcknowledgementWithAMalformedIdChangesNothing() throws {
        _ = try enqueue("q")
        let receipt = try receipt(try take("q"))
        for bad in ["x", "\(receipt)0", "\(receipt.dropLast())", receipt.uppercased(), "\(receipt.prefix(22))@", ""] {
            let answer = try server.post("/ack/", "{\"ids\": [\"\(receipt)\", \"\(bad)\"]}")
            #expect(answer.status == 400, "\(bad)")
            #expect(answer.field == "ids[1]")
        }
        #expect(try server.post("/ack/", "{\"ids\": [\"\(receipt)\"]}").object["acked"] as? Int == 1)
    }

    @Test func queuesListsThoseWithTasksSorted() throws {
        for name in ["b", "a", "%C3%A4", "aa"] { _ = try enqueue(name) }
        _ = try take("aa").map { _ in }
        _ = try server.post("/wait/", #"{"queues": ["never"]}"#)
        #expect(try server.get("/queues").json as? [String] == ["a", "aa", "b", "ä"])
    }

    @Test func aPeekShowsUpToNInOrder() throws {
        for number in 1...3 { _ = try enqueue("q", "\(number)") }
        #expect(try server.get("/peek/q").tasks.count == 1)
        #expect(try server.get("/peek/q?n=2").tasks.compactMap { $0?["content"] as? Int } == [1, 2])
        #expect(try server.get("/peek/q?n=1000").tasks.count == 3)
        #expect(try server.get("/peek/none").body == "[]")
    }

    // MARK: Bad input

    @Test(arguments: [
        ("enqueue/q", #"{"contnt": 1}"#, "contnt", "content"),
        ("enqueue/q", #"{"content": 1, "content": 2}"#, "content", "twice"),
        ("enqueue/q", #"{"content": 1, "c\u006fntent": 2}"#, "content", "twice"),
        ("enqueue/q", #"{"content": 1, "retry": "1"}"#, "retry", #""1""#),
        ("enqueue/q", #"{"content": 1, "retry": -1}"#, "retry", "-1"),
        ("enqueue/q", #"{"content": 1, "retry": 1e99}"#, "retry", "1e99"),
        ("enqueue/q", #"{"content": 1, "expiry": -0.5}"#, "expiry", "-0.5"),
        ("enqueue/q", #"{"content": 1, "expiry": [1]}"#, "expiry", "array"),
        ("enqueue/q", #"{"content": 1, "expiry": "never"}"#, "expiry", "null for never"),
        ("wait", #"{"queues": "q"}"#, "queues", "array"), ("wait", #"{"queues": ["q", 1]}"#, "queues[1]", "number"),
        ("wait", #"{"queues": ["q"], "timeout": -1}"#, "timeout", "-1"),
        ("wait", #"{"queues": ["q"], "timeout": 1.5}"#, "timeout", "1.5"),
        ("wait", #"{"queues": ["q"], "timeout": "1"}"#, "timeout", "whole number"),
        ("wait", #"{"queus": ["q"]}"#, "queus", "queues"),
        ("ack", #"{"ids": "x"}"#, "ids", "array"), ("nak", #"{"ids": [1]}"#, "ids[0]", "number"),
        ("nak", #"{"ids": [], "id": []}"#, "id", "ids"),
    ])
    func aWrongFieldIsNamed(path: String, body: String, field: String, hint: String) throws {
        let answer = try server.post("/\(path)", body)
        #expect(answer.status == 400)
        #expect(answer.fields["content-type"] == "application/problem+json")
        #expect(answer.field == field)
        let detail = try #require(try answer.object["detail"] as? String)
        #expect(detail.contains(hint), "\(detail)")
        #expect(try server.get("/queues").body == "[]")
    }

    @Test(arguments: [
        ("POST", "/wait/q", "there is nothing below /wait/; name the queues in the body"),
        ("POST", "/ack/x", "there is nothing below /ack/; name the tasks in the body"),
        (
            "DELETE", "/queues/q",
            "there is nothing below /queues/; /stats/NAME shows a queue and /purge/NAME deletes its tasks; an empty "
                + "queue vanishes by itself"
        ),
        ("GET", "/defaults/q", "there is nothing below /defaults/"),
        ("GET", "/enqueue/q", "GET is not allowed here; use POST"),
        ("POST", "/config/q", "POST is not allowed here; use GET, PUT, PATCH or DELETE"),
        (
            "GET", "/result/01890a5d-ac96-774b-bcce-b302099a8057?timeout=30s",
            "timeout must be a whole number of milliseconds, 0 or more, not '30s'"
        ),
        ("GET", "/peek/q?n=1.5", "n must be a whole number, not '1.5'"),
        (
            "POST", "/kick/?n=1",
            "the query parameter 'n' needs the name of a queue in the path: /kick/NAME?n=…"
        ),
        (
            "POST", "/kick?state=dead",
            "the query parameter 'state' needs the name of a queue in the path: /kick/NAME?state=…"
        ),
        ("GET", "/source?x=1", "unknown query parameter 'x'; this path takes none"),
    ])
    func anErrorSaysWhatWouldBeRight(method: String, target: String, detail: String) throws {
        #expect(try server.send(method, target).object["detail"] as? String == detail)
    }

    @Test func aHintIsAtMostAThirdOfTheNameAway() {
        let names = ["enqueue", "wait", "task"]
        #expect(nearestName(to: "mail", among: names) == "expected one of: enqueue, wait, task")
        #expect(nearestName(to: "wayt", among: names) == "did you mean 'wait'?")
        #expect(nearestName(to: "enqeuee", among: names) == "did you mean 'enqueue'?")
    }

    @Test func anErrorRepeatsOnlyTheBeginningOfALongValue() throws {
        let long = String(repeating: "1", count: 100_000)
        for body in ["{\"\(long)\": 1}", "{\"content\": 1, \"retry\": \(long)}"] {
            let answer = try server.post("/enqueue/q", body)
            #expect(answer.status == 400)
            #expect(answer.body.utf8.count < 1000)
        }
    }

    @Test func tooManyNamesAreRefusedAndAThousandAreNot() throws {
        func wait(_ count: Int) throws -> Response {
            try server.post(
                "/wait", "{\"queues\": [\(Array(repeating: "\"q\"", count: count).joined(separator: ","))]}")
        }
        #expect(try wait(1000).tasks.count == 1000)
        #expect(try wait(1001).status == 400)
        #expect(try wait(10_001).status == 400)
    }

    @Test func aTimeoutOverAnHourCountsAsAnHour() throws {
        for timeout in ["3600001", "1e30", "99999999999999999999"] {
            let client = try startWait("{\"queues\": [\"q\"], \"timeout\": \(timeout)}")
            _ = try enqueue("q")
            #expect(try client.response().tasks[0] != nil)
        }
    }

    @Test(arguments: [("n=0x1", "n"), ("n=1.5", "n"), ("n=x", "n"), ("n=", "n"), ("n=1&n=2", "n"), ("m=1", "m")])
    func aWrongParameterIsNamed(query: String, field: String) throws {
        let answer = try server.get("/peek/q?\(query)")
        #expect(answer.status == 400)
        #expect(answer.field == field)
    }

    @Test func unknownParametersAreRefused() throws {
        #expect(try server.get("/queues?x=1").status == 400)
        #expect(try server.post("/enqueue/q?delay=1", #"{"content": 1}"#).status == 400)
        #expect(try server.get("/queues").body == "[]")
    }

    @Test func bodiesThatAreNotJSONObjectsAreRefused() throws {
        for body in ["", "{", "[]", "1", #"{"content": 01}"#, #"{"content": "\#u{1}"}"#, #"{"content": 1} x"#] {
            #expect(try server.post("/enqueue/q", body).status == 400, "\(body)")
        }
        let wide = (0...10_000).map { "\"\($0)\": 0" }.joined(separator: ",")
        let refused = try server.post("/enqueue/q", "{\(wide)}")
        #expect(refused.status == 400)
        #expect(refused.body.contains("more than 10000 members"))
        let deep = String(repeating: "[", count: 512) + String(repeating: "]", count: 512)
        #expect(try server.post("/enqueue/q", "{\"content\": \(deep)}").status == 400)
        #expect(try server.post("/enqueue/q", "{\"content\": \(deep.dropFirst().dropLast())}").status == 200)
    }

    @Test func aBodyNeedsAContentType() throws {
        func status(_ fields: String) throws -> Int {
            let client = try server.connect()
            client.send("POST /enqueue/q HTTP/1.1\r\nHost: h\r\n\(fields)Content-Length: 13\r\n\r\n{\"content\":1}")
            return try client.response().status
        }
        #expect(try status("Content-Type: application/json\r\n") == 200)
        #expect(try status("content-type: Application/JSON ; charset=utf-8\r\n") == 200)
        #expect(try status("") == 415)
        #expect(try status("Content-Type: application/json\r\nContent-Encoding: gzip\r\n") == 415)
        #expect(try status("Content-Type: application/json\r\nContent-Encoding: identity\r\n") == 200)
        #expect(try status("Content-Type: text/plain\r\n") == 415)
        #expect(try status("Content-Type: application/json5\r\n") == 415)
        #expect(try status("Content-Type: application/json\r\nContent-Type: application/json\r\n") == 415)
    }

    @Test func methodsThatAreNotAllowedAreRefusedWithThoseThatAre() throws {
        func answer(_ method: String, _ path: String) throws -> Response {
            let client = try server.connect()
            client.send("\(method) \(path) HTTP/1.1\r\nHost: h\r\n\r\n")
            return try client.response(toHead: method == "HEAD")
        }
        for (method, path, allow) in [
            ("GET", "/enqueue/q", "POST, OPTIONS"), ("PUT", "/wait", "POST, OPTIONS"),
            ("DELETE", "/ack/", "POST, OPTIONS"),
            ("POST", "/queues", "GET, HEAD, OPTIONS"), ("BREW", "/peek/q", "GET, HEAD, OPTIONS"),
        ] {
            let answer = try answer(method, path)
            #expect(answer.status == 405)
            #expect(answer.fields["allow"] == allow)
        }
        #expect(try answer("HEAD", "/queues").fields["content-length"] == "3")
        #expect(try answer("HEAD", "/nothing").status == 404)
        #expect(try answer("OPTIONS", "*").status == 204)
        #expect(try answer("OPTIONS", "http://h").status == 204)
        #expect(try answer("OPTIONS", "/wait").fields["allow"] == "POST, OPTIONS")
        #expect(try answer("CONNECT", "h:80").status == 501)
        #expect(
            try answer("GET", "/quues").object["detail"] as? String
                == "there is nothing at this path; did you mean '/queues'?")
    }

    @Test func aWebPageOfAnotherSiteCannotPost() throws {
        func status(_ fields: String) throws -> Int {
            try server.connect().post("/enqueue/q", #"{"content": 1}"#, fields).status
        }
        #expect(try status("Sec-Fetch-Site: cross-site\r\n") == 403)
        #expect(try status("Sec-Fetch-Site: same-origin\r\nOrigin: \(TestTLS.scheme)://localhost\r\n") == 200)
        #expect(try status("Origin: \(TestTLS.scheme)://LOCALHOST\r\n") == 200)
        #expect(try status("Origin: http://localhost:81\r\n") == 403)
        #expect(try status("Origin: http://evil\r\n") == 403)
        #expect(try status("Origin: null\r\n") == 403)
        #expect(
            try server.connect().post("/enqueue/q", "{}", "Sec-Fetch-Site: cross-site\r\n").body
                .contains("Sec-Fetch-Site is cross-site"))
        // This comes before any other error in the request.
        for line in ["POST /enqueue/q", "DELETE /wait", "PUT /nowhere"] {
            let client = try server.connect()
            client.send("\(line) HTTP/1.1\r\nHost: h\r\nSec-Fetch-Site: cross-site\r\nContent-Length: 0\r\n\r\n")
            #expect(try client.response().status == 403)
        }
        let client = try server.connect()
        client.send("GET /queues HTTP/1.1\r\nHost: h\r\nOrigin: http://evil\r\n\r\n")
        #expect(try client.response().status == 200)
    }

    private static let browsers = [
        "Origin: http://evil.example", "Sec-Fetch-Site: same-origin", "sec-fetch-dest: empty",
        "Sec-Fetch-Storage-Access: none",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64)", "ORIGIN: null",
    ]

    @Test(arguments: browsers)
    func aBrowserCannotUseANameThatOthersCanPointHere(field: String) throws {
        for line in ["GET /queues", "HEAD /queues", "OPTIONS *", "POST /pause/q", "DELETE /config/q", "GET /nowhere"] {
            let client = try server.connect()
            client.send("\(line) HTTP/1.1\r\nHost: evil.example\r\n\(field)\r\nContent-Length: 0\r\n\r\n")
            let answer = try client.response(toHead: line.hasPrefix("HEAD"))
            #expect(answer.status == 403, "\(line)")
            if !line.hasPrefix("HEAD") {
                #expect(
                    try answer.object["detail"] as? String
                        == "a browser may not use this server as 'evil.example': a web page's owner may have pointed that "
                        + "name here; if the name is this server's own, start emq with --host evil.example")
            }
        }
    }

    @Test func clientsOtherThanBrowsersCanUseAnyName() throws {
        for field in [
            "User-Agent: curl/8.5.0", "User-Agent: NotMozilla/5.0", "X-Origin: a.b", "Sec-Fetc: a", "Sec-Fetch: a",
        ] {
            let client = try server.connect()
            client.send("GET /queues HTTP/1.1\r\nHost: emq.example\r\n\(field)\r\n\r\n")
            #expect(try client.response().status == 200, "\(field)")
        }
        // The fields of an earlier request do not count.
        let client = try server.connect()
        client.send("GET /queues HTTP/1.1\r\nHost: a.example\r\nOrigin: http://a.example\r\n\r\n")
        #expect(try client.response().status == 403)
        client.send("GET /queues HTTP/1.1\r\nHost: a.example\r\n\r\n")
        #expect(try client.response().status == 200)
    }

    @Test(arguments: [
        ("GET http://evil.example/queues", "localhost", 403), ("GET http://localhost/queues", "evil.example", 200),
        ("GET /queues", "", 403), ("GET /queues", "[::1]:8080", 200), ("GET /queues", "10.1.2.3:8080", 200),
        ("GET /queues", "evil%2Eexample", 403), ("GET /queues", "LOCALHOST.:8080", 200),
    ])
    func theHostIsTheOneThatTheRequestWasSentTo(line: String, host: String, status: Int) throws {
        let client = try server.connect()
        client.send("\(line) HTTP/1.1\r\nHost: \(host)\r\nUser-Agent: Mozilla/5.0\r\n\r\n")
        #expect(try client.response().status == status)
    }

    @Test func theServerDoesNotAskABrowserForABodyThatItWouldRefuse() throws {
        let client = try server.connect()
        client.send(
            "POST /enqueue/q HTTP/1.1\r\nHost: evil.example\r\nSec-Fetch-Site: none\r\nExpect: 100-continue\r\n"
                + "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n")
        #expect(try client.response().status == 403)
    }
}
