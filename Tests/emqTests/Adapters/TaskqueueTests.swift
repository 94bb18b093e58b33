// taskqueue in virtual time: when and how often messages are sent, and what happens to messages that cannot be sent.

import Foundation
import Glibc
import Net
import Testing

@testable import emq

@Suite struct TaskqueueTests {
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

    @Test(arguments: [(#""a\n\"b\"""#, "a\n\"b\""), ("[1, 2]", "[1, 2]"), ("null", ""), ("17", "17")])
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
            authority: "127.0.0.1:8000", address: try #require(IPAddress("127.0.0.1")), code: ECONNREFUSED)
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
        for negative in ["eta", "countdown", "expires"] {
            server.advance(seconds: 1)
            try post(server, "{\"url\":\"/x\",\"\(negative)\":-1}")
            #expect(try server.onlyRequest().text.isEmpty)
            server.answerAll("200 OK")
        }
    }

    @Test func aCountdownCountsIfTheTimeIsZero() throws {
        let server = try server("[q]\nrate = 1000/s\n")
        try post(server, #"{"url":"/x","eta":0,"countdown":3}"#)
        #expect(starts(server, until: 9) { $0.answerAll("200 OK") } == [3])
    }

    @Test(arguments: [#""ftp://x/""#, #""https://x/""#, "7", "{}", #""http://a b/""#])
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
        (#"{"payload":1}"#, "a message needs a url"),
        (#"{"url":"https://a.test/"}"#, "https is not supported"),
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

@Suite struct TaskqueueFileTests {
    @Test func readsEveryKey() throws {
        let text = """
            ; a comment
            server = "amqp://guest:g#u;est@localhost:5672/"   # another
            base_url=http://app.test/base/

            [default]
            [mail]\r
            concurrency = 7 ; more
            rate = '21.5/m'
            retry_limit = 4
            min_backoff_seconds = 1
              max_backoff_seconds = 100\t
            max_doublings=3
            """
        let file = try TaskqueueFile(text, path: "x.ini")
        #expect(file.server == "amqp://guest:g#u;est@localhost:5672/")
        #expect(file.baseURL == "http://app.test/base")
        #expect(Set(file.sections.keys.map { String(decoding: $0, as: UTF8.self) }) == ["default", "mail"])
        let usual = try #require(file.sections[Array("default".utf8)])
        #expect(usual == TaskqueueFile.Section())
        #expect(usual.concurrency == 1 && usual.rate?.description == "1/s" && usual.retryLimit == nil)
        let mail = try #require(file.sections[Array("mail".utf8)])
        #expect(mail.concurrency == 7 && mail.rate?.description == "21.5/m" && mail.retryLimit == 4)
        #expect(mail.backoff.minimumMilliseconds == 1000 && mail.backoff.maximumMilliseconds == 100_000)
        #expect(mail.backoff.maximumDoublings == 3)
    }

    /// The settings that taskqueue's sample file has, in other words.
    @Test func theSampleFileIsRead() throws {
        let text = """
            ; where the broker is
            server = "amqp://guest:guest@localhost:5672/"

            [Queue1]
            concurrency = 1

            ; how often:
            ; 1/s
            rate = 1/s
            retry_limit = 10
            min_backoff_seconds = 10
            max_backoff_seconds = 200
            max_doublings = 3

            [Queue2]
            concurrency = 3
            rate = 21.5/m

            [Queue3]
            concurrency = 2
            rate = 10000000000/s

            """
        let file = try TaskqueueFile(text, path: "x.ini")
        #expect(file.server == "amqp://guest:guest@localhost:5672/" && file.warnings.isEmpty)
        let first = try section("Queue1", of: file)
        #expect(first.retryLimit == 10 && first.maximumDoublings == 3 && first.rate?.description == "1/s")
        #expect(first.backoff.minimumMilliseconds == 10_000 && first.backoff.maximumMilliseconds == 200_000)
        #expect(try section("Queue2", of: file).rate?.description == "21.5/m")
        let third = try section("Queue3", of: file)
        #expect(third.concurrency == 2 && third.rate == nil)
    }

    private func section(_ name: String, of file: TaskqueueFile) throws -> TaskqueueFile.Section {
        try #require(file.sections[Array(name.utf8)])
    }

    /// The section [q] of a file that has nothing to warn of.
    private func section(_ lines: String) throws -> TaskqueueFile.Section {
        let file = try TaskqueueFile(lines, path: "t.ini")
        #expect(file.warnings.isEmpty, "\(file.warnings)")
        return try section("q", of: file)
    }

    @Test(arguments: [
        (".5/s", "0.500000/s"), ("5./s", "5.000000/s"), ("10/sec", "10.000000/s"), ("1/minute", "1.000000/m"),
        ("2/hour", "2.000000/h"), ("3/day", "3.000000/d"), ("21.5/m", "21.5/m"), ("0.33333333333/s", "0.333333/s"),
        ("at most 7/s, please", "7.000000/s"), ("10/ms", "10.000000/m"), ("0.0000001/s", "0.008640/d"),
        ("0.0000000000000001/s", "0.000001/d"), ("1000000/s", "1000000/s"), ("1000001/s", nil), ("1e9/s", "9.000000/s"),
        ("99999999999999999999999999/d", nil), ("", "1/s"),
    ])
    func aRateIsTheFirstOneInAText(text: String, rate: String?) throws {
        #expect(try section("[q]\nrate = \(text)\n").rate?.description == rate)
    }

    @Test func aKeyIsWrittenInManyWays() throws {
        for line in [
            "concurrency=7", "concurrency: 7", "concurrency :7", "Concurrency = 7", "CONCURRENCY\t=\t7\t",
            "concurrency = +7",
            "concurrency = 007", "concurrency = \"7\"", "concurrency = '7' ; why", "concurrency = 7 # why; so",
            "concurrency = `7`", "concurrency = \"\"\"7\"\"\"", "\"concurrency\" = 7", "`concurrency`: 7",
            "concurrency = \\\n  7", "concurrency = \\\r\n7\r", "concurrency = 3\nconcurrency = 7",
            "concurrency = 7\n\n[p]\nrate = 2/s\n[q]\nretry_limit = 2", "; [x]\n  # y\nconcurrency = 7",
        ] {
            #expect(try section("[q]\n\(line)\n").concurrency == 7, "\(line)")
        }
        for header in ["[q]", " [q] ", "[ q ]", "[q] ; the [queue]", "[q] # why", "[q]\r"] {
            #expect(try section("\(header)\nconcurrency = 7\n").concurrency == 7, "\(header)")
        }
    }

    @Test func emptyValuesMeanTheDefaults() throws {
        let keys = [
            "concurrency", "rate", "retry_limit", "min_backoff_seconds", "max_backoff_seconds", "max_doublings",
        ]
        for empty in ["=", ":", "= \"\"", "= ; 5", "= ''"] {
            let lines = keys.map { "\($0) \(empty)\n" }.joined()
            #expect(try section("server \(empty)\nbase_url \(empty)\n[q]\n\(lines)") == TaskqueueFile.Section())
        }
    }

    @Test func valuesMaySpanLines() throws {
        let file = try TaskqueueFile(
            "server = `amqp://\nx`\n[q]\nconcurrency = 1\\\n2\\\n3\nrate = 2/s\\\n\n", path: "t.ini")
        #expect(file.server == "amqp://\nx")
        #expect(try section("q", of: file).concurrency == 123)
    }

    @Test func keysOfTheDefaultSectionAreThoseBeforeTheFirst() throws {
        let file = try TaskqueueFile(
            "[q]\n[DEFAULT]\nserver: amqp://x:5\nBASE_URL = http://a/\n[default]\nrate = 2/s\n", path: "t.ini")
        #expect(file.server == "amqp://x:5" && file.baseURL == "http://a" && file.warnings.isEmpty)
        #expect(Set(file.sections.keys.map { String(decoding: $0, as: UTF8.self) }) == ["q", "default"])
    }

    @Test func aSectionInheritsFromTheOneBeforeItsLastDot() throws {
        let text = """
            [mail.low.very]
            rate = 1/h
            [mail.low]
            concurrency = 2
            retry_limit =
            [mail]
            concurrency = 5
            rate = 9/m
            retry_limit = 4
            [other.low]
            """
        let file = try TaskqueueFile(text, path: "t.ini")
        let (mail, low) = (try section("mail", of: file), try section("mail.low", of: file))
        let very = try section("mail.low.very", of: file)
        #expect(mail.concurrency == 5 && mail.retryLimit == 4)
        // An empty value hides the inherited one.
        #expect(low.concurrency == 2 && low.rate?.description == "9/m" && low.retryLimit == nil)
        #expect(very.concurrency == 2 && very.rate?.description == "1/h" && very.retryLimit == nil)
        #expect(try section("other.low", of: file) == TaskqueueFile.Section())
    }

    @Test(arguments: [
        (
            "[q]\nconcurency = 1",
            "line 2: ignoring the unknown key 'concurency' in a section; did you mean 'concurrency'?"
        ),
        (
            "x = 1\n[q]",
            "line 1: ignoring the unknown key 'x' before the first section; expected one of: server, base_url"
        ),
        ("[q]\nserver = 1", "line 2: ignoring the unknown key 'server' in a section"),
        (
            "[q]\nconcurrency = 0",
            "line 2: concurrency must be a whole number from 1 to 1000, not '0'; using the default"
        ),
        (
            "[q]\nconcurrency = many",
            "line 2: concurrency must be a whole number from 1 to 1000, not 'many'; using the default"
        ),
        (
            "[q]\nretry_limit = -2",
            "line 2: retry_limit must be a whole number from 0 to 4294967295, or -1 for no limit, not '-2'; using the default"
        ),
        ("[q]\nmin_backoff_seconds = -1", "line 2: min_backoff_seconds must be"),
        ("[q]\nmin_backoff_seconds = 1.5", "line 2: min_backoff_seconds must be"),
        ("[q]\nmax_doublings = 9999999999999999999999", "line 2: max_doublings must be"),
        ("[q]\nrate = 0/s", "line 2: rate must be above zero, not '0/s'; using the default"),
        ("[q]\nrate = 1.2.3/s", "line 2: rate must be above zero, not '1.2.3/s'; using the default"),
        ("[q]\n[htq]\nrate = 9/s", "line 2: ignoring the section [htq]: this queue name is reserved for htq"),
        ("[q]\n[a\tb]", "line 2: ignoring the section [a\tb]: a queue's name"),
    ])
    func aWarningNamesTheFileAndTheLine(text: String, warning: String) throws {
        let file = try TaskqueueFile(text, path: "t.ini")
        #expect(file.warnings.count == 1)
        #expect(file.warnings.first?.hasPrefix("emq: t.ini, \(warning)") == true, "\(file.warnings)")
        #expect(try section("q", of: file) == TaskqueueFile.Section())
        #expect(file.sections.count == 1)
        #expect(file.startLines == ["emq: replacing taskqueue for 1 queue of t.ini"] + file.warnings)
    }

    @Test func aNumberThatIsTooLargeCountsAsTheLargest() throws {
        let file = try TaskqueueFile("[q]\nconcurrency = 5000\n", path: "t.ini")
        #expect(try section("q", of: file).concurrency == 1000)
        #expect(
            file.warnings == [
                "emq: t.ini, line 2: concurrency must be a whole number from 1 to 1000, not '5000'; using 1000"
            ])
    }

    @Test func theFirstPauseCountsIfTheLongestIsShorter() throws {
        let file = try TaskqueueFile("[q]\nmin_backoff_seconds = 9\nmax_backoff_seconds = 8\n", path: "t.ini")
        #expect(try section("q", of: file).backoff.maximumMilliseconds == 9000)
        #expect(
            file.warnings == [
                "emq: t.ini, line 1: max_backoff_seconds of [q] is less than min_backoff_seconds, which counts instead"
            ])
    }

    @Test func aFileWithoutSectionsSendsNothing() throws {
        for text in ["", "server = amqp://x\n"] {
            let file = try TaskqueueFile(text, path: "t.ini")
            #expect(file.sections.isEmpty && file.warnings.count == 1)
            #expect(file.warnings[0].hasPrefix("emq: t.ini has no section"))
        }
    }

    @Test(arguments: [
        ("\n[a\n", "line 2: a section must be [name], not '[a'"), ("[]", "line 1: a section needs a name"),
        ("[a]\nrate", "line 2: a line must be [section] or key = value, not 'rate'"),
        ("[a]\nrate = 5", "line 2: a rate must be a number of starts"), ("[a]\nrate = often", "line 2: a rate must be"),
        ("[a]\nrate = 5/w", "line 2: a rate must be"),
        ("[a]\n\"rate = 1/s", "line 2: the closing \" of the key is missing"),
        ("[a]\nrate = `1/s\n\n", "line 2: the closing ` is missing"),
        ("[a]\nrate = \"\"\"1/s\n\"\"", "line 2: the closing \"\"\" is missing"),
        ("base_url = https://x/\n[a]", "line 1: base_url: https is not supported"),
    ])
    func saysWhatIsWrongAndWhere(text: String, reason: String) throws {
        let error = #expect(throws: TaskqueueFileError.self) { try TaskqueueFile(text, path: "t.ini") }
        #expect(error?.description.contains("t.ini, " + reason) == true, "\(error?.description ?? "")")
    }

    @Test func aByteOrderMarkIsIgnored() throws {
        #expect(try TaskqueueFile("\u{FEFF}[a]\n", path: "t.ini").sections.count == 1)
    }

    @Test func aMissingFileIsAnError() throws {
        let error = #expect(throws: TaskqueueFileError.self) { try TaskqueueFile(path: "/nowhere/t.ini") }
        #expect(error?.description == "cannot read '/nowhere/t.ini': No such file or directory")
    }
}
