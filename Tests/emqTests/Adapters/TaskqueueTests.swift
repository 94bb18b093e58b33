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
        for (said, attempts) in [("0", 1), ("1", 1), ("2", 2), ("5", 5)] {
            let server = try server("[q]\nrate = 1000/s\nretry_limit = 3\nmin_backoff_seconds = 1\n")
            try post(server, #"{"url":"/x","max_retries":\#(said)}"#)
            #expect(starts(server, until: 100) { $0.answerAll("500 No") }.count == attempts)
        }
        let limited = try server("[q]\nrate = 1000/s\nretry_limit = 3\nmin_backoff_seconds = 1\n")
        try post(limited, #"{"url":"/x"}"#)
        #expect(starts(limited, until: 100) { $0.answerAll("500 No") }.count == 4)
        let unlimited = try server("[q]\nrate = 1000/s\nretry_limit = 3\nmin_backoff_seconds = 1\nmax_doublings = 0\n")
        try post(unlimited, #"{"url":"/x","max_retries":-1}"#)
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

    // MARK: Rate and concurrency

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
        (#"{"url":"/x","roll_back":"ftp://x/"}"#, "roll_back: a URL begins with http://"),
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
        #expect(times == [0, 0, 7, 14, 21, 28])
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

    @Test(arguments: [
        ("", "t.ini has no section"),
        ("[a]\nconcurency = 1", "line 2: unknown key 'concurency' in a section; did you mean 'concurrency'?"),
        ("x = 1\n[a]", "line 1: unknown key 'x' before the first section"),
        ("[a]\nserver = 1", "line 2: unknown key 'server' in a section"),
        ("[a]\nconcurrency = 0", "line 2: concurrency must be a whole number from 1 to 1000, not '0'"),
        ("[a]\nconcurrency = many", "line 2: concurrency must be"), ("[a]\nrate = 5", "line 2: a rate must be"),
        (
            "[a]\nretry_limit = -2",
            "line 2: retry_limit must be a whole number from 0 to 4294967295, or -1 for no limit"
        ),
        ("[a]\nmin_backoff_seconds = -1", "line 2: min_backoff_seconds must be"),
        ("\n[a\n", "line 2: a section must be [name], not '[a'"),
        ("[]", "line 1: a queue's name must have 1 to 255 bytes"),
        ("[a]\n[a]", "line 2: the section [a] is given twice"),
        ("[htq]", "line 1: this queue name is reserved for htq"),
        ("[a]\nrate = 1/s\nrate = 2/s", "line 3: 'rate' is given twice"),
        ("[a]\nrate", "line 2: a line must be [section]"),
        ("[a]\nrate = \"1/s", "line 2: the closing \" is missing"),
        (
            "[a]\nmin_backoff_seconds = 9\nmax_backoff_seconds = 8",
            "[a]: max_backoff_seconds must not be less than min_backoff_seconds"
        ),
        ("base_url = https://x/\n[a]", "line 1: base_url: https is not supported"),
    ])
    func saysWhatIsWrongAndWhere(text: String, reason: String) throws {
        let error = #expect(throws: TaskqueueFileError.self) { try TaskqueueFile(text, path: "t.ini") }
        #expect(error?.description.contains(reason) == true, "\(error?.description ?? "")")
    }

    @Test func aByteOrderMarkIsIgnored() throws {
        #expect(try TaskqueueFile("\u{FEFF}[a]\n", path: "t.ini").sections.count == 1)
    }

    @Test func aMissingFileIsAnError() throws {
        let error = #expect(throws: TaskqueueFileError.self) { try TaskqueueFile(path: "/nowhere/t.ini") }
        #expect(error?.description == "cannot read '/nowhere/t.ini': No such file or directory")
    }
}
