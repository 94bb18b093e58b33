// taskqueue in virtual time: when and how often messages are sent, and what happens to messages that cannot be sent.

import Foundation
import Glibc
import Net
import Support
import Testing

@testable import emq

@Suite(.blocking) struct TaskqueueTests {
    private func server(_ ini: String) throws -> VirtualServer {
        let file = try TaskqueueFile("base_url = http://127.0.0.1:8000/\n" + ini, path: "t.ini")
        return try VirtualServer(Adapters(taskqueue: Taskqueue(file)))
    }

    /// Posts a message as a producer does, and returns its task's id.
    @discardableResult
    private func post(_ server: VirtualServer, _ message: String, to queue: String = "q") throws -> String {
        let answer = try server.send("POST", "/enqueue/\(queue)", #"{"content": \#(message)}"#, service: 0)
        #expect(answer.status == 200, "\(answer.body)")
        return try #require(try answer.object["id"] as? String)
    }

    private func task(_ server: VirtualServer, _ id: String) throws -> [String: Any] {
        try server.send("GET", "/task/\(id)", service: 0).object
    }

    private func state(_ server: VirtualServer, _ id: String) throws -> String? {
        try task(server, id)["state"] as? String
    }

    /// The times, in seconds after now, at which requests are started until `end`, each of them answered at once.
    private func starts(_ server: VirtualServer, until end: Double, _ answer: (VirtualServer) -> Void) -> [Double] {
        let begin = server.now
        var times: [Double] = []
        func answerAll() {
            while !server.sent.isEmpty {
                times += server.sent.map { _ in Double(server.now - begin) / 1000 }
                answer(server)
            }
        }
        server.turn()
        answerAll()
        server.advance(to: begin + Int64(end * 1000), answerAll)
        return times
    }

    // MARK: Sending

    @Test func theMessageOfTheDocumentIsSentAfterItsCountdownThenTwiceMoreAndRolledBack() throws {
        let server = try server("[q]\nrate = 100/s\n")
        let id = try post(
            server,
            #"{"url":"/tasks/my_fun_task","countdown": 20,"max_retries": 3,"roll_back":"/tasks/my_fun_task_undone","#
                + #""payload":{"a": 1.0}}"#)
        server.advance(seconds: 19.999)
        #expect(server.sent.isEmpty)
        server.advance(seconds: 0.001)
        for attempt in 1...3 {
            let request = try server.onlyRequest()
            #expect(request.head.hasPrefix("POST http://127.0.0.1:8000/tasks/my_fun_task\n"), "attempt \(attempt)")
            #expect(request.text == #"{"a": 1.0}"#)
            #expect(request.head.contains("Content-Type: application/json\r\n"))
            #expect(!request.head.contains("Emq-"))
            #expect(request.timeoutMilliseconds == 6 * 3_600_000)
            // Only 200 is success.
            server.answerAll("201 Created")
            server.advance(seconds: 0.01)
        }
        let rollBack = try server.onlyRequest()
        #expect(rollBack.head.hasPrefix("POST http://127.0.0.1:8000/tasks/my_fun_task_undone\n"))
        #expect(rollBack.text == #"{"a": 1.0}"#)
        #expect(try state(server, id) == "dead")
        server.answerAll("200 OK")
        server.advance(seconds: 100)
        #expect(server.sent.isEmpty)
    }

    @Test(arguments: [
        (#""a\n\"b\"""#, "a\n\"b\""), ("[1, 2]", "[1, 2]"), ("null", ""), ("17", "17"), ("0", "0"), ("-0", "-0"),
        ("-1", "-1"), ("0.0001", "0.0001"), ("-1e999", "-1e999"), ("false", "false"), (#""""#, ""), (#""0""#, "0"),
    ])
    func aPayloadIsSentAsWhatItSays(payload: String, body: String) throws {
        let server = try server("[q]\n")
        try post(server, #"{"url":"http://127.0.0.1/x","payload":\#(payload),"metadata":{"x":[]},"other":1}"#)
        #expect(try server.onlyRequest().text == body)
    }

    @Test func aMessageWithoutAPayloadHasAnEmptyBody() throws {
        let server = try server("[q]\n")
        try post(server, #"{"url":"x/y"}"#)
        let request = try server.onlyRequest()
        #expect(request.body == [])
        #expect(request.url.description == "http://127.0.0.1:8000/x/y")
        server.answerAll("200 OK")
        server.turn()
        #expect(server.sent.isEmpty)
    }

    // MARK: Pauses

    @Test func thePauseDoublesAsOftenAsTheFileSaysUpToItsMaximum() throws {
        let doublings = try server("[q]\nrate = 1000/s\nmin_backoff_seconds = 3\nmax_doublings = 2\nretry_limit = 5\n")
        try post(doublings, #"{"url":"/x"}"#)
        #expect(starts(doublings, until: 100) { $0.answerAll("500 No") } == [0, 3, 9, 21, 33, 45])
        let maximum = try server("[q]\nrate = 1000/s\nmin_backoff_seconds = 3\nmax_backoff_seconds = 10\n")
        try post(maximum, #"{"url":"/x","max_retries":6}"#)
        #expect(starts(maximum, until: 100) { $0.answerAll("500 No") } == [0, 3, 9, 19, 29, 39])
    }

    @Test func maxRetriesOfAMessageCountAttemptsAndOverrideTheFile() throws {
        for (said, attempts) in [("1", 1), ("2", 2), ("5", 5), ("0", 4), ("-1", 4), ("-7", 4)] {
            let server = try server("[q]\nrate = 1000/s\nretry_limit = 3\nmin_backoff_seconds = 1\n")
            try post(server, #"{"url":"/x","max_retries":\#(said)}"#)
            #expect(starts(server, until: 100) { $0.answerAll("500 No") }.count == attempts)
        }
        let limited = try server("[q]\nrate = 1000/s\nretry_limit = 3\nmin_backoff_seconds = 1\n")
        try post(limited, #"{"url":"/x"}"#)
        #expect(starts(limited, until: 100) { $0.answerAll("500 No") }.count == 4)
        let unlimited = try server("[q]\nrate = 1000/s\nmin_backoff_seconds = 1\nmax_doublings = 0\n")
        try post(unlimited, #"{"url":"/x","max_retries":0}"#)
        #expect(starts(unlimited, until: 100) { $0.answerAll("500 No") }.count == 101)
    }

    @Test func aRefusedConnectionIsRetriedAndDoesNotCount() throws {
        let refused = ClientFailure.connect(
            authority: "127.0.0.1:8000", address: IPAddress("127.0.0.1"), code: ECONNREFUSED)
        for (minimum, pause) in [(0, 1), (5, 5)] {
            let server = try server("[q]\nrate = 1000/s\nmin_backoff_seconds = \(minimum)\n")
            let id = try post(server, #"{"url":"/x","max_retries":1}"#)
            #expect(starts(server, until: 50) { $0.failAll(refused) }.count == 50 / pause + 1)
            #expect(try state(server, id) == "delayed")
            let error = try #require(try task(server, id)["error"] as? String)
            #expect(error.contains("Connection refused"))
            // Another failure counts, and no attempt follows it.
            server.advance(seconds: Double(pause))
            server.failAll(.broken(authority: "127.0.0.1:8000", isReset: true))
            #expect(try state(server, id) == "dead")
        }
    }

    @Test func theLongestPauseIsAWeekUnlessTheFileSaysMore() throws {
        let day = 86_400.0
        let week = try server("[q]\nmin_backoff_seconds = 259200\n")
        try post(week, #"{"url":"/x"}"#)
        #expect(starts(week, until: 30 * day) { $0.answerAll("500 No") } == [0, 3, 9, 16, 23, 30].map { $0 * day })
        let longer = try server("[q]\nmin_backoff_seconds = 259200\nmax_backoff_seconds = -1\n")
        try post(longer, #"{"url":"/x"}"#)
        #expect(starts(longer, until: 30 * day) { $0.answerAll("500 No") } == [0, 3, 9, 21].map { $0 * day })
        // A first pause that is longer than a week stays as it is.
        let first = try server("[q]\nmin_backoff_seconds = 864000\n")
        try post(first, #"{"url":"/x"}"#)
        #expect(starts(first, until: 30 * day) { $0.answerAll("500 No") } == [0, 10, 20, 30].map { $0 * day })
    }

    // MARK: Rate and concurrency

    @Test func aRateSpreadsItsStartsEvenly() throws {
        let server = try server("[q]\nrate = 2/s\nconcurrency = 100\n")
        for _ in 0..<6 { try post(server, #"{"url":"/x"}"#) }
        #expect(starts(server, until: 9) { $0.answerAll("200 OK") } == [0, 0.5, 1, 1.5, 2, 2.5])
        // Time without a message earns no burst.
        for _ in 0..<3 { try post(server, #"{"url":"/x"}"#) }
        #expect(starts(server, until: 9) { $0.answerAll("200 OK") } == [0, 0.5, 1])
    }

    @Test func aRateOverATenThousandthOfASecondIsKeptToTheMillisecond() throws {
        let server = try server("[q]\nrate = 2000/s\nconcurrency = 100\n")
        for _ in 0..<6 { try post(server, #"{"url":"/x"}"#) }
        #expect(starts(server, until: 9) { $0.answerAll("200 OK") } == [0, 0, 0.001, 0.001, 0.002, 0.002])
    }

    @Test func aRateThatEmqCannotReachIsNoLimit() throws {
        let server = try server("[q]\nrate = 10000000000/s\nconcurrency = 100\n")
        for _ in 0..<50 { try post(server, #"{"url":"/x"}"#) }
        #expect(server.sent.count == 50)
    }

    @Test func aRateIsKeptExactly() throws {
        let server = try server("[q]\nrate = 21.5/m\nconcurrency = 100\n")
        for _ in 0..<100 { try post(server, #"{"url":"/x"}"#) }
        let times = starts(server, until: 240) { $0.answerAll("200 OK") }
        // One at once, and 21.5 in each of the four minutes.
        #expect(times.count == 1 + 4 * 43 / 2)
        for (earlier, later) in zip(times, times.dropFirst()) { #expect(later - earlier > 2.78) }
    }

    @Test func theConcurrencyLimitsMessagesInFlight() throws {
        let server = try server("[q]\nrate = 1000/s\nconcurrency = 3\n[one]\nrate = 1000/s\n")
        for _ in 0..<10 {
            try post(server, #"{"url":"/x"}"#)
            try post(server, #"{"url":"/one"}"#, to: "one")
        }
        server.advance(seconds: 10)
        #expect(server.sent.filter { $0.url.description.hasSuffix("/x") }.count == 3)
        #expect(server.sent.filter { $0.url.description.hasSuffix("/one") }.count == 1)
    }

    // MARK: Times and queues

    @Test func etaAndExpiresAreUnixTimes() throws {
        let server = try server("[q]\nrate = 1000/s\n")
        let now = Double(server.now) / 1000
        try post(server, #"{"url":"/at10","eta":\#(now + 10),"expires":\#(now + 11)}"#)
        let early = try post(server, #"{"url":"/never","countdown":10,"expires":\#(now + 10)}"#)
        let late = try post(server, #"{"url":"/past","expires":\#(now - 1)}"#)
        #expect(server.sent.isEmpty)
        server.advance(seconds: 9.999)
        #expect(server.sent.isEmpty)
        server.advance(seconds: 0.001)
        #expect(try server.onlyRequest().url.description == "http://127.0.0.1:8000/at10")
        // It expires while it is being sent.
        server.advance(seconds: 2)
        #expect(server.sent.isEmpty)
        for id in [early, late] { #expect(try server.send("GET", "/task/\(id)", service: 0).status == 404) }
        let totals = try #require(try server.send("GET", "/stats/q", service: 0).object["totals"] as? [String: Any])
        #expect(totals["expired"] as? Int == 3)
    }

    /// taskqueue's own test sends such a message: its members are those of a Go struct without values.
    @Test func zeroAndEmptyMeanNotGiven() throws {
        let server = try server("[q]\nrate = 1000/s\nretry_limit = 0\n")
        let id = try post(
            server,
            #"{"url":"/x","roll_back":"","eta":0,"countdown":0,"max_retries":0,"payload":"","expires":0,"queue":""}"#)
        let request = try server.onlyRequest()
        #expect(request.body == [])
        server.answerAll("500 No")
        #expect(server.sent.isEmpty)
        #expect(try state(server, id) == "dead")
        for member in ["eta", "countdown", "expires"] {
            for number in ["-1", "-0", "0.0", "0e5", "-0.0001", "-1e999"] {
                server.advance(seconds: 1)
                try post(server, "{\"url\":\"/x\",\"\(member)\":\(number)}")
                #expect(try server.onlyRequest().text.isEmpty, "\(member) \(number)")
                server.answerAll("200 OK")
            }
        }
    }

    @Test(arguments: ["0", "-1", "false", "[]"])
    func aRollBackHasThePayloadThatTheURLGot(payload: String) throws {
        let server = try server("[q]\nrate = 1000/s\nretry_limit = 0\n")
        try post(server, #"{"url":"/x","roll_back":"/undo","payload":\#(payload)}"#)
        for path in ["/x", "/undo"] {
            server.advance(seconds: 0.01)
            let request = try server.onlyRequest()
            #expect(request.url.description.hasSuffix(path) && request.text == payload)
            server.answerAll(path == "/x" ? "500 No" : "200 OK")
        }
    }

    @Test func aCountdownCountsIfTheTimeIsZero() throws {
        let server = try server("[q]\nrate = 1000/s\n")
        try post(server, #"{"url":"/x","eta":0,"countdown":3}"#)
        #expect(starts(server, until: 9) { $0.answerAll("200 OK") } == [3])
    }

    @Test(arguments: [#""ftp://x/""#, "7", "0", "-1", "{}", #""http://a b/""#])
    func aRollBackThatCannotBeSentDoesNotHoldUpTheTask(rollBack: String) throws {
        let server = try server("[q]\nrate = 1000/s\n")
        let id = try post(server, #"{"url":"/x","max_retries":1,"roll_back":\#(rollBack)}"#)
        #expect(try server.onlyRequest().url.description == "http://127.0.0.1:8000/x")
        server.answerAll("500 No")
        #expect(try state(server, id) == "dead" && server.sent.isEmpty)
        try post(server, #"{"url":"/x","roll_back":\#(rollBack)}"#)
        server.answerAll("200 OK")
        #expect(server.sent.isEmpty)
    }

    @Test func aMessageDoesNotExpireByDefault() throws {
        let server = try server("[q]\n")
        let id = try post(server, #"{"url":"/x","countdown":400000}"#)
        server.advance(seconds: 399_999)
        #expect(try state(server, id) == "delayed")
        server.advance(seconds: 1)
        #expect(server.sent.count == 1)
    }

    @Test func theFileFillsInWhatAnOperatorDoesNotSet() throws {
        let server = try server("[q]\nconcurrency = 3\nrate = 1/d\nretry_limit = 2\nmin_backoff_seconds = 7\n")
        server.turn()
        let asInTheFile = try server.send("GET", "/config/q", service: 0).body
        let changed = try server.send(
            "PUT", "/config/q", #"{"max_length": 100, "push": {"concurrency": 5}}"#, service: 0
        ).object
        #expect(changed["max_length"] as? Int == 100)
        #expect(changed["push"] as? NSDictionary == ["concurrency": 5, "rate": "1/d"])
        #expect(changed["max_retries"] as? Int == 2)
        #expect((changed["backoff"] as? [String: Any])?["min"] as? Int == 7)
        #expect(changed["expiry"] is NSNull)
        // Workers cannot take it, and it does not expire.
        let id = try post(server, #"{"url":"/x"}"#)
        #expect(try task(server, id)["expires"] as? Double == nil)
        #expect(server.sent.count == 1)
        #expect(try server.send("DELETE", "/config/q", service: 0).status == 204)
        #expect(try server.send("GET", "/config/q", service: 0).body == asInTheFile)
    }

    @Test func aMessageGoesToTheQueueThatItNamesIfTheFileHasThat() throws {
        let server = try server("[q]\nrate = 1/d\n[other]\nrate = 1000/s\n")
        let moved = try post(server, #"{"url":"/x","queue":"other","countdown":5}"#)
        let kept = try post(server, #"{"url":"/x","queue":"third","countdown":5}"#)
        #expect(try task(server, moved)["queue"] as? String == "other")
        #expect(try task(server, kept)["queue"] as? String == "q")
        let answer = try server.send(
            "POST", "/enqueue/q",
            #"[{"content":{"url":"/1"}}, {"content":{"url":"/2","queue":"other"}}, {"content":{"url":"/3"}}]"#,
            service: 0)
        let ids = try #require(try answer.object["ids"] as? [String])
        #expect(try ids.map { try task(server, $0)["queue"] as? String } == ["q", "other", "q"])
    }

    @Test func aMessageWhoseKeyIsTakenMovesNoTask() throws {
        let server = try server("[q]\n[other]\n")
        func post(_ conflict: String) throws -> String {
            let task =
                #"{"key":"k","on_conflict":"\#(conflict)","content":{"url":"/x","queue":"other","countdown":5}}"#
            let answer = try server.send("POST", "/enqueue/q", task, service: 0)
            #expect(answer.status == 200, "\(answer.body)")
            return try #require(try answer.object["id"] as? String)
        }
        let first =
            try server.send(
                "POST", "/enqueue/q", #"{"key":"k","content":{"url":"/x","countdown":5}}"#, service: 0
            ).object["id"] as? String
        let id = try #require(first)
        #expect(try post("keep") == id)
        #expect(try task(server, id)["queue"] as? String == "q")
        // The replacement belongs to the other queue.
        #expect(try post("replace") == id)
        #expect(try task(server, id)["queue"] as? String == "other")
    }

    // MARK: Invalid messages

    @Test(arguments: [
        ("1", "a message must be a JSON object"), (#"{"url":7}"#, "url must be a string"),
        (#"{"url":0}"#, "url must be a string"), (#"{"url":"/x","queue":0}"#, "queue must be a string"),
        (#"{"url":"/x","max_retries":0.0001}"#, "max_retries must be a whole number"),
        (#"{"payload":1}"#, "a message needs a url"),
        (#"{"url":"ftp://a.test/"}"#, "a URL begins with http://"),
        (#"{"url":"/x","eta":"soon"}"#, "eta must be a time"),
        (#"{"url":"/x","expires":true}"#, "expires must be a time"),
        (#"{"url":"/x","max_retries":1.5,"countdown":100}"#, "max_retries must be a whole number"),
    ])
    func anInvalidMessageDiesAtOnceWithTheReason(message: String, reason: String) throws {
        let server = try server("[q]\nrate = 1000/s\n")
        let id = try post(server, message)
        let task = try task(server, id)
        #expect(task["state"] as? String == "dead")
        #expect((task["error"] as? String)?.contains(reason) == true, "\(task)")
        #expect(server.sent.isEmpty)
    }

    @Test func aPathWithoutABaseURLIsInvalid() throws {
        let file = try TaskqueueFile("[q]\n", path: "t.ini")
        let server = try VirtualServer(Adapters(taskqueue: Taskqueue(file)))
        let id = try post(server, #"{"url":"/x"}"#)
        let error = try #require(try task(server, id)["error"] as? String)
        #expect(error.contains("no base_url"))
    }

    @Test func aRollbackIsRetriedWithTheQueuesBackoff() throws {
        let server = try server("[q]\nrate = 1000/s\nmin_backoff_seconds = 7\nmax_doublings = 0\nretry_limit = 0\n")
        try post(server, #"{"url":"/x","roll_back":"/undo","payload":"p"}"#)
        let times = starts(server, until: 30) { $0.answerAll("500 No") }
        // At a thousand a second, two starts are a millisecond apart.
        #expect(times == [0, 0.001, 7.001, 14.001, 21.001, 28.001])
    }
}
