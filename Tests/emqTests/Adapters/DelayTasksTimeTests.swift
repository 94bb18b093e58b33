// delay-tasks in virtual time: when handlers are called, with which bodies, and what clients get.

import Foundation
import Net
import Support
import Testing

@testable import emq

private let handler = "http://127.0.0.1:8888/handle"
private let own = "http://127.0.0.1:8889/own?a=b"

@Suite(.blocking) struct DelayTasksTimeTests {
    private let server: VirtualServer
    /// The second at which the test begins, 20 s into a minute.
    private let start: Int64 = 1_700_000_000

    init() throws { server = try VirtualServer(Adapters(frontEnds: [DelayTasks()], couriers: [DelayTasksCourier()])) }

    /// Sends a request, and checks that the answer says it succeeded.
    private func request(
        _ method: String, _ path: String, _ json: String, sourceLocation: SourceLocation = #_sourceLocation
    )
        throws
    {
        let answer = try server.send(method, path, json)
        #expect(answer.status == 200, sourceLocation: sourceLocation)
        #expect(answer.body == "{\"code\":200,\"msg\":\"OK\"}\n", sourceLocation: sourceLocation)
        #expect(answer.fields["content-type"] == "application/json;charset=UTF-8", sourceLocation: sourceLocation)
    }

    private func register(_ url: String = handler) throws {
        try request("POST", "/handler/mail", #"{"handler":"\#(url)"}"#)
    }

    private func add(_ seconds: Int64, key: String = "7", _ more: String = "") throws {
        try request("POST", "/task/mail", #"{"timestamp":\#(start + seconds),"key":\#(key)\#(more)}"#)
    }

    private func remove(_ seconds: Int64, key: String = "7", _ more: String = "") throws {
        try request("DELETE", "/task/mail", #"{"timestamp":\#(start + seconds),"key":\#(key)\#(more)}"#)
    }

    /// The `result` of a task; nil if there is none.
    private func find(_ key: String = "7", at seconds: Int64? = nil) throws -> [String: Any]? {
        let answer = try server.send("GET", "/task/mail/\(key)" + (seconds.map { "?timestamp=\(start + $0)" } ?? ""))
        if answer.status == 404 {
            #expect(try answer.object["code"] as? Int == 404)
            return nil
        }
        #expect(answer.status == 200)
        return try answer.object["result"] as? [String: Any]
    }

    /// Checks that a request is refused in the envelope, with a reason.
    private func expect(
        _ status: Int, _ method: String, _ path: String, _ json: String = "", saying word: String = " ",
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let answer = try server.send(method, path, json)
        #expect(answer.status == status, "\(json)", sourceLocation: sourceLocation)
        #expect(answer.fields["content-type"] == "application/json;charset=UTF-8", sourceLocation: sourceLocation)
        #expect(answer.body.hasSuffix("}\n"), sourceLocation: sourceLocation)
        let object = try answer.object
        #expect(object["code"] as? Int == status, sourceLocation: sourceLocation)
        let message = try #require(object["msg"] as? String)
        #expect(message.contains(word), "\(message)", sourceLocation: sourceLocation)
    }

    private func count(_ state: String) throws -> Int? {
        try server.send("GET", "/stats/delay-tasks%2Fmail", service: 0).object[state] as? Int
    }

    /// Lets all requests in flight end without an answer.
    private func breakAll() { server.failAll(.broken(authority: "127.0.0.1:8888", isReset: false)) }

    /// The body of the only request in flight.
    private func call() throws -> String { try server.onlyRequest().text }

    // MARK: Time

    @Test func aHandlerIsCalledAtItsSecond() throws {
        try register()
        try add(75, #", "params": {"a" : [1, 2.50, "ü"]}, "unknown": 1"#)
        server.advance(to: (start + 75) * 1000 - 1)
        #expect(server.sent.isEmpty)
        server.advance(seconds: 0.001)
        let request = try server.onlyRequest()
        #expect(request.text == #"{"cate":"mail","key":7,"params":{"a" : [1, 2.50, "ü"]},"inAdvance":false}"#)
        #expect(request.head.hasPrefix("POST \(handler)\n"))
        #expect(request.head.contains("Content-Type: application/json; charset=UTF-8\r\n"))
        #expect(!request.head.contains("Emq-"))
        #expect(request.timeoutMilliseconds == 5000)
        #expect(request.redirects.limit == 9)
        #expect(try find() != nil)
        server.answerAll("204 No Content")
        #expect(try find() == nil)
        #expect(try count("dead") == 0)
        server.advance(seconds: 100_000)
        #expect(server.sent.isEmpty)
    }

    @Test func aTimeMayBeAtMostAMinutePast() throws {
        try register()
        try expect(
            400, "POST", "/task/mail", #"{"timestamp":\#(start - 61),"key":7}"#, saying: "at most 60 s before now")
        #expect(server.sent.isEmpty)
        try add(-60)
        #expect(try call() == #"{"cate":"mail","key":7,"params":null,"inAdvance":false}"#)
    }

    @Test(arguments: ["200 OK", "302 Found", "404 Not Found", "500 Internal Server Error", "503 Service Unavailable"])
    func anyAnswerIsSuccess(_ status: String) throws {
        try register()
        try add(0)
        server.answerAll(status, "whatever")
        #expect(try find() == nil)
        server.advance(seconds: 100)
        #expect(server.postbox.started == 1)
        #expect(try count("dead") == 0)
    }

    @Test func aTaskHasThreeAttemptsInAll() throws {
        try register()
        try add(10)
        server.advance(to: (start + 10) * 1000)
        for pause in [1000, 2000] as [Int64] {
            server.failAll(.timeout(.whole, authority: "127.0.0.1:8888", milliseconds: 5000))
            let failure = server.now
            // Its time does not change.
            #expect(try find()?["timeToRun"] as? Int64 == start + 10)
            server.advance(to: failure + pause - 1)
            #expect(server.sent.isEmpty)
            server.advance(to: failure + pause)
            #expect(server.sent.count == 1)
        }
        breakAll()
        #expect(try find() == nil)
        #expect(try count("dead") == 1)
        server.advance(seconds: 100_000)
        #expect(server.sent.isEmpty)
        // The same task can be added again.
        try add(200_000)
        #expect(try find() != nil)
    }

    // MARK: Keys and minutes

    @Test func onlyTasksOfTheSameMinuteAreReplaced() throws {
        try register()
        try add(10, #", "params": "old", "handler": "\#(own)""#)
        try add(30, #", "params": "new""#)
        // The next minute begins here.
        try add(40, #", "params": "later""#)
        let first = try #require(try find())
        #expect(first["timeToRun"] as? Int64 == start + 30)
        #expect(first["params"] as? String == "new")
        #expect(first["handler"] as? String == handler)
        #expect(try find(at: -20)?["params"] as? String == "new")
        #expect(try find(at: 39)?["params"] as? String == "new")
        #expect(try find(at: 99)?["params"] as? String == "later")
        #expect(try find(at: 100) == nil)
        #expect(try find(at: -21) == nil)
        #expect(try find("8") == nil)
        server.advance(to: (start + 29) * 1000)
        #expect(server.sent.isEmpty)
        server.advance(to: (start + 30) * 1000)
        #expect(try call().contains("new"))
        server.answerAll("200 OK")
        #expect(try find()?["params"] as? String == "later")
        server.advance(to: (start + 40) * 1000)
        #expect(try call().contains("later"))
    }

    @Test func theReplacementOfARunningTaskRunsAfterIt() throws {
        try register()
        try add(0, #", "params": "first""#)
        #expect(try call().contains("first"))
        try add(20, #", "params": "second""#)
        server.advance(seconds: 1)
        #expect(try call().contains("first"))
        breakAll()
        #expect(try find()?["timeToRun"] as? Int64 == start + 20)
        server.advance(to: (start + 20) * 1000 - 1)
        #expect(server.sent.isEmpty)
        server.advance(seconds: 0.001)
        #expect(try call().contains("second"))
    }

    @Test func keysAreNotChanged() throws {
        try register()
        for key in ["18446744073709551615", "18446744073709551614", "9007199254740993", "1"] {
            try add(10, key: key, #", "params": \#(key)"#)
        }
        let answer = try server.send("GET", "/task/mail/18446744073709551615")
        #expect(answer.body.contains(#""params":18446744073709551615,"#))
        server.advance(to: (start + 10) * 1000)
        let keys = server.sent.map { $0.text.split(separator: ",")[1] }
        #expect(
            Set(keys) == [
                #""key":18446744073709551615"#, #""key":18446744073709551614"#, #""key":9007199254740993"#, #""key":1"#,
            ])
        for key in ["0", "-1", "18446744073709551616", "1.5", #""7""#, "[7]", "true", "1e30"] {
            for method in ["POST", "DELETE"] {
                try expect(400, method, "/task/mail", #"{"timestamp":\#(start + 10),"key":\#(key)}"#, saying: "key")
            }
        }
        for key in ["-1", "+1", "18446744073709551616", "1.5", "x"] {
            try expect(400, "GET", "/task/mail/\(key)", saying: "key")
        }
        try expect(404, "GET", "/task/mail/0")
        #expect(try server.send("GET", "/task/mail/%31").status == 200)
    }

    @Test func categoriesAreIndependent() throws {
        try request("POST", "/handler/caf%C3%A9%2F%22x%22", #"{"handler":"\#(handler)"}"#)
        try request("POST", "/task/caf%C3%A9%2F%22x%22", #"{"timestamp":\#(start),"key":7}"#)
        try add(0)
        #expect(try call() == #"{"cate":"café/\"x\"","key":7,"params":null,"inAdvance":false}"#)
        #expect(try count("ready") == 1)
        try expect(400, "POST", "/task/a%00b", #"{"timestamp":\#(start),"key":7}"#, saying: "control")
        try expect(400, "POST", "/handler/%FF", #"{"handler":"\#(handler)"}"#, saying: "UTF-8")
        try expect(400, "GET", "/task/\(String(repeating: "x", count: 250))/7", saying: "255")
    }

    @Test func aPlusInACategoryIsABlank() throws {
        try request("POST", "/handler/a+b%2Bc", #"{"handler":"\#(handler)"}"#)
        try request("POST", "/task/a%20b%2bc", #"{"timestamp":\#(start),"key":7}"#)
        #expect(try call() == #"{"cate":"a b+c","key":7,"params":null,"inAdvance":false}"#)
    }

    @Test func aCategoryMayBeEmpty() throws {
        try request("POST", "/task/", #"{"timestamp":\#(start + 10),"key":7}"#)
        try request("POST", "/task/", #"{"timestamp":\#(start + 10),"key":8}"#)
        #expect(try server.send("GET", "/tasks").body.hasPrefix(": 2 tasks, no handler\n"))
        // emq's own interface shows its queue as any other.
        #expect(try server.send("GET", "/queues", service: 0).body == "[\"delay-tasks/\"]\n")
        for path in ["/stats/delay-tasks%2F", "/stats/delay-tasks/"] {
            #expect(try server.send("GET", path, service: 0).object["delayed"] as? Int == 2)
        }
        try request("DELETE", "/task/", #"{"timestamp":\#(start + 10),"key":8}"#)
        try request("POST", "/handler/", #"{"handler":"\#(handler)"}"#)
        server.advance(seconds: 10)
        #expect(try call() == #"{"cate":"","key":7,"params":null,"inAdvance":false}"#)
        // A task in it cannot be looked at, as in the original.
        try expect(400, "GET", "/task//7", saying: "category")
    }

    @Test func aSlashAtTheEndMakesNoDifference() throws {
        try request("POST", "/handler/mail/", #"{"handler":"\#(handler)"}"#)
        try request("POST", "/task/mail/", #"{"timestamp":\#(start + 10),"key":7}"#)
        #expect(try server.send("GET", "/task/mail/7/").object["code"] as? Int == 200)
        try request("DELETE", "/task/mail/", #"{"timestamp":\#(start + 10),"key":7}"#)
        #expect(try find() == nil)
        #expect(try server.send("GET", "/tasks/").body.hasPrefix("mail: 0 tasks"))
        #expect(try server.send("GET", "/health/").body == "OK\n")
        for path in ["/handler/mail", "/task/mail", "/task/mail/"] {
            #expect(try server.send("GET", path).body == server.send("GET", "\(path)/").body)
        }
        try expect(405, "GET", "/handler/mail/")
        try expect(405, "GET", "/task/mail/")
    }

    @Test func whatFollowsTheObjectIsPassedOver() throws {
        try request("POST", "/handler/mail", #"{"handler":"\#(handler)"}}"#)
        try request("POST", "/task/mail", "{\"timestamp\":\(start + 10),\"key\":7,\"params\":1}\n{\"key\":8}\u{0}é")
        #expect(try find()?["params"] as? Int == 1)
        try request("DELETE", "/task/mail", #"{"timestamp":\#(start + 10),"key":7} trailing"#)
        #expect(try find() == nil)
        for json in [#"{"timestamp":\#(start + 10),"key":7,}"#, #"7{"key":7}"#, "[]{}", "x{}"] {
            try expect(400, "POST", "/task/mail", json)
        }
    }

    // MARK: Handlers

    @Test func aTaskWaitsUntilThereIsAHandler() throws {
        try add(10)
        #expect(try find()?["handler"] as? String == "")
        server.advance(seconds: 1_000_000)
        #expect(server.sent.isEmpty)
        #expect(try count("ready") == 1)
        try register()
        #expect(try find()?["handler"] as? String == handler)
        #expect(try server.onlyRequest().head.hasPrefix("POST \(handler)\n"))
    }

    @Test func aTaskUsesTheCurrentHandlerUnlessItHasItsOwn() throws {
        try register()
        try add(10)
        try add(10, key: "8", #", "handler": "\#(own)""#)
        try add(10, key: "9", #", "handler": "", "params": 9"#)
        try add(10, key: "10", #", "handler": " ""#)
        try add(10, key: "11", #", "handler": null"#)
        let later = "http://LOCALHOST:8890/later"
        try register(later)
        #expect(try find()?["handler"] as? String == later)
        #expect(try find("8")?["handler"] as? String == own)
        #expect(try find("9")?["handler"] as? String == later)
        server.advance(to: (start + 10) * 1000)
        let urls = server.sent.map { "\($0.url)" }
        #expect(urls.filter { $0 == later }.count == 4)
        #expect(urls.filter { $0 == own }.count == 1)
    }

    @Test(arguments: [
        (#""ftp://localhost/x""#, "http://"), (#""localhost""#, "http://"),
        (#""http://""#, "host"), ("7", "string"), (#"{"a":1}"#, "string"), (#""http://224.0.0.1/""#, "224.0.0.1"),
    ])
    func aHandlerMustBeAnHTTPURL(_ json: String, _ word: String) throws {
        try expect(400, "POST", "/handler/mail", #"{"handler":\#(json)}"#, saying: word)
        try expect(400, "POST", "/task/mail", #"{"timestamp":\#(start),"key":7,"handler":\#(json)}"#, saying: word)
        #expect(try find() == nil)
    }

    // MARK: Removing

    @Test func aRemovedTaskIsNotRun() throws {
        try register()
        try add(10)
        try add(70)
        // The minute identifies the task.
        try remove(39)
        #expect(try find(at: 10) == nil)
        #expect(try find()?["timeToRun"] as? Int64 == start + 70)
        try remove(39, #","exec":false"#)
        try remove(10, key: "99", #","exec":true"#)
        try request("DELETE", "/task/none", #"{"timestamp":\#(start),"key":1,"exec":true}"#)
        server.advance(to: (start + 69) * 1000)
        #expect(server.sent.isEmpty)
        server.advance(to: (start + 70) * 1000)
        #expect(server.sent.count == 1)
        // A call in flight is aborted.
        try remove(70)
        #expect(server.sent.isEmpty)
        #expect(try find() == nil)
    }

    @Test func aTaskIsRunInAdvance() throws {
        try register()
        try add(1000, key: "18446744073709551615", #", "params": {"a": 1}, "handler": "\#(own)""#)
        try add(1000, key: "8", #", "params": "b""#)
        try remove(1000, key: "18446744073709551615", #","exec":true"#)
        let request = try server.onlyRequest()
        #expect(request.head.hasPrefix("POST \(own)\n"))
        #expect(request.text == #"{"cate":"mail","key":18446744073709551615,"params":{"a": 1},"inAdvance":true}"#)
        #expect(try find("18446744073709551615") == nil)
        // A second time does nothing.
        try remove(1000, key: "18446744073709551615", #","exec":true"#)
        #expect(server.sent.count == 1)
        // It has as many attempts as other tasks.
        for pause in [1.0, 2.0] {
            breakAll()
            #expect(server.sent.isEmpty)
            server.advance(seconds: pause)
            #expect(try call().hasSuffix(#""inAdvance":true}"#))
        }
        breakAll()
        #expect(try count("dead") == 1)

        try remove(1000, key: "8", #","exec":true"#)
        let second = try server.onlyRequest()
        #expect(second.head.hasPrefix("POST \(handler)\n"))
        #expect(second.text == #"{"cate":"mail","key":8,"params":"b","inAdvance":true}"#)
        server.answerAll("200 OK")
        server.advance(seconds: 10_000)
        #expect(server.sent.isEmpty)
        #expect(try count("delayed") == 0)
    }

    @Test func aRunningOrRetryingTaskCanBeRunInAdvance() throws {
        try register()
        try add(0)
        breakAll()
        try remove(0, #","exec":true"#)
        #expect(try call() == #"{"cate":"mail","key":7,"params":null,"inAdvance":true}"#)
        server.answerAll("200 OK")
        try add(0, key: "8")
        try remove(0, key: "8", #","exec":true"#)
        #expect(try call() == #"{"cate":"mail","key":8,"params":null,"inAdvance":true}"#)
        server.answerAll("200 OK")
        server.advance(seconds: 1000)
        #expect(server.sent.isEmpty)
    }

    @Test func runningInAdvanceRunsTheReplacementOfARunningTask() throws {
        try register()
        try add(10, key: "7", #","params":"old""#)
        server.advance(seconds: 10)
        #expect(try server.onlyRequest().text.contains(#""params":"old""#))
        try add(15, key: "7", #","params":"new","handler":"\#(own)""#)
        let shown = try #require(try find())
        #expect(shown["params"] as? String == "new" && shown["handler"] as? String == own)
        #expect(shown["timeToRun"] as? Int64 == start + 15)
        try remove(15, key: "7", #","exec":true"#)
        #expect(try find() == nil)
        let request = try server.onlyRequest()
        #expect(request.url.description == own)
        #expect(request.text == #"{"cate":"mail","key":7,"params":"new","inAdvance":true}"#)
        server.answerAll("200 OK")
        server.advance(seconds: 1000)
        #expect(server.postbox.started == 2)
    }

    @Test func aTaskToBeRunInAdvanceWaitsForItsHandler() throws {
        try add(1000)
        try remove(1000, #","exec":true"#)
        #expect(try find() == nil)
        // Its key is free in the meantime.
        try add(1000, #", "params": "second""#)
        #expect(server.sent.isEmpty)
        #expect(try count("ready") == 1)
        try register()
        #expect(try call() == #"{"cate":"mail","key":7,"params":null,"inAdvance":true}"#)
        #expect(try find()?["params"] as? String == "second")
    }

    // MARK: Envelopes

    @Test func errorsAreSaidInTheEnvelope() throws {
        for path in ["/handler/mail", "/task/mail"] {
            for json in ["", "{", "[]", "7", #"{"a":}"#] { try expect(400, "POST", path, json) }
        }
        for json in ["", "{", "[]"] { try expect(400, "DELETE", "/task/mail", json) }
        for json in ["{}", #"{"handler":""}"#, #"{"handler":null}"#] {
            try expect(400, "POST", "/handler/mail", json, saying: "handler")
        }
        for method in ["POST", "DELETE"] {
            for timestamp in [
                "", #""timestamp":0,"#, #""timestamp":null,"#, #""timestamp":"1","#, #""timestamp":1.5,"#,
            ] {
                try expect(400, method, "/task/mail", #"{\#(timestamp)"key":7}"#, saying: "timestamp")
            }
            try expect(400, method, "/task/mail", #"{"timestamp":\#(start)}"#, saying: "key")
        }
        try expect(400, "POST", "/task/mail", #"{"timestamp":99999999999999,"key":7}"#, saying: "timestamp")
        try expect(400, "DELETE", "/task/mail", #"{"timestamp":\#(start),"key":7,"exec":"yes"}"#, saying: "exec")
        try expect(400, "GET", "/task/mail/7?timestamp=x", saying: "timestamp")
        for path in ["/", "//", "/x", "/task", "/task/a/7/8", "/handler", "/health/x"] {
            try expect(404, "GET", path)
        }
        for (method, path, allow) in [
            ("GET", "/handler/mail", "POST"), ("GET", "/task/mail", "POST, DELETE"),
            ("PUT", "/task/mail", "POST, DELETE"),
            ("POST", "/task/mail/7", "GET, HEAD"), ("POST", "/tasks", "GET, HEAD"), ("DELETE", "/health", "GET, HEAD"),
            ("OPTIONS", "/tasks", "GET, HEAD"),
        ] {
            try expect(405, method, path)
            #expect(try server.send(method, path).fields["allow"] == allow)
        }
        // Unknown parameters are ignored.
        try add(10, #", "timestamp": null, "x": [{}]"#)
        #expect(try server.send("GET", "/task/mail/7?timestamp=&_=1").status == 200)
        for timestamp in ["0", "-1", "-9223372036854775808", "%31700000010"] {
            #expect(try server.send("GET", "/task/mail/7?timestamp=\(timestamp)").status == 200, "\(timestamp)")
        }
    }

    // MARK: The listing

    @Test func theListingShowsAllTasksByCategoryAndTime() throws {
        #expect(try server.send("GET", "/tasks").body == "no categories\n")
        try add(100)
        try add(0)
        try request("POST", "/handler/alarm", #"{"handler":"\#(handler)"}"#)
        for (seconds, key) in [(60, 3), (0, 1), (0, 2)] as [(Int64, Int)] {
            try request("POST", "/task/alarm", #"{"timestamp":\#(start + seconds),"key":\#(key)}"#)
        }
        breakAll()
        try request("POST", "/task/alarm", #"{"timestamp":\#(start + 60),"key":5,"handler":"\#(own)"}"#)
        try request("DELETE", "/task/alarm", #"{"timestamp":\#(start + 60),"key":5,"exec":true}"#)
        let listing = try server.send("GET", "/tasks")
        #expect(listing.fields["content-type"] == "text/plain; charset=utf-8")
        #expect(
            listing.body == """
                alarm: 4 tasks, handler \(handler)
                  2023-11-14 22:13:20 UTC (1700000000)  key 1  retrying  \(handler)
                  2023-11-14 22:13:20 UTC (1700000000)  key 2  retrying  \(handler)
                  2023-11-14 22:14:20 UTC (1700000060)  key 3  waiting  \(handler)
                  2023-11-14 22:14:20 UTC (1700000060)  key 5  running in advance  \(own)
                mail: 2 tasks, no handler
                  2023-11-14 22:13:20 UTC (1700000000)  key 7  no handler  -
                  2023-11-14 22:15:00 UTC (1700000100)  key 7  waiting  -

                """)
    }

    @Test func theListingIsBounded() throws {
        let long = "http://localhost/" + String(repeating: "x", count: 2000)
        for key in 1...1002 { try add(100, key: "\(key)", #","handler":"\#(long)""#) }
        for category in ["after", "zebra", "zulu"] {
            try request("POST", "/task/\(category)", #"{"timestamp":\#(start + 100),"key":1}"#)
        }
        let lines = try server.send("GET", "/tasks").body.split(separator: "\n")
        #expect(lines[0] == "after: 1 task, no handler")
        #expect(lines[2] == "mail: 1002 tasks, no handler")
        #expect(lines[1003] == "  … and 2 more tasks")
        #expect(lines[1004] == "… and 2 more categories")
        #expect(lines.count == 1005)
    }
}
