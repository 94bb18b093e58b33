// In place of httpqueue, over real sockets: the answers that its document prints, the answers to bad input, and how
// emq's own interface shows its tasks.

import Foundation
import Net
import Support
import Testing

@Suite(.blocking) struct HttpqueueTests {
    private let receiver: Receiver
    private let server: Server

    init() throws {
        receiver = try Receiver()
        server = try Server.instead(of: "httpqueue")
    }

    private func ask(_ path: String, _ json: String, _ server: Server? = nil) throws -> Response {
        try (server ?? self.server).ask("httpqueue", "POST", path, json)
    }

    private func create(_ path: String, delay: Int = 0, retry: Int = 0, _ server: Server? = nil) throws -> String {
        let answer = try ask(
            "/create",
            #"{"topic":"order","delay":\#(delay),"retry":\#(retry),"callback":"\#(receiver.url(path))","content":"hello"}"#,
            server)
        #expect(answer.status == 200, "\(answer.body)")
        return try #require(try answer.object["id"] as? String)
    }

    private func query(_ id: String, _ server: Server? = nil) throws -> Response {
        try ask("/query", #"{"id":"\#(id)"}"#, server)
    }

    @Test func theRequestsOfTheDocumentAreAnsweredAsPrinted() throws {
        let before = Int(Date().timeIntervalSince1970)
        let created = try ask(
            "/create",
            """
            {
              	"topic":"order",
              	"delay":15,
              	"retry":3,
              	"callback":"http://127.0.0.1:8888/",
              	"content":"hello"
            }
            """)
        #expect(created.status == 200 && created.fields["content-type"] == "text/plain; charset=utf-8")
        let id = try #require(try created.object["id"] as? String)
        #expect(id.utf8.count == 36 && UUID(uuidString: id) != nil)
        let task = try query(id).object
        let creation = try #require(task["creat_time"] as? Int)
        // The two clocks may differ slightly.
        #expect((before - 1...Int(Date().timeIntervalSince1970) + 1).contains(creation))
        #expect(
            task as NSDictionary == [
                "id": id, "topic": "order", "execute_time": creation + 15, "max_retry": 3, "has_retry": 0,
                "callback": "http://127.0.0.1:8888/", "content": "hello", "creat_time": creation,
            ])
        let deleted = try ask("/delete", #"{"id":"\#(id)"}"#)
        #expect(deleted.status == 200 && deleted.body == "")
        #expect(try query(id).status == 404)
        #expect(try ask("/delete", #"{"id":"\#(id)"}"#).status == 200)
        #expect(try ask("/delete", #"{"id":"35adbde5-77c4-4d65-adac-0082d91f2554"}"#).status == 200)
        #expect(try ask("/delete", #"{"id":"no id"}"#).status == 200)
        #expect(try query("35adbde5-77c4-4d65-adac-0082d91f2554").status == 404)
    }

    @Test func theCallbackIsPostedAndItsStatusDecides() throws {
        receiver.script("/fine", [.answer("500 Internal Server Error", #"{"code": 100, "other": []}"#)])
        let fine = try create("/fine", retry: 5)
        let request = try receiver.wait("/fine")[0]
        #expect(request.method == "POST")
        #expect(
            try JSONSerialization.jsonObject(with: Data(request.body.utf8)) as? NSDictionary
                == ["id": fine, "topic": "order", "content": "hello"])
        #expect(request["Content-Type"] == "application/json" && request["User-Agent"] == "Go-http-client/1.1")
        #expect(!request.fields.contains { $0.name.lowercased().hasPrefix("emq-") })
        _ = try eventually("success") { try query(fine).status == 404 ? true : nil }
        for (index, body) in [#"{"code":101}"#, #"{"code":"100"}"#, "100", "", #"{"code":99,"code":7}"#].enumerated() {
            receiver.script("/\(index)", [.answer("200 OK", body)])
            let id = try create("/\(index)", retry: 100)
            _ = try eventually("a failed attempt") {
                try #require(query(id).object["has_retry"] as? Int) >= 1 ? true : nil
            }
        }
        #expect(try server.count("httpqueue%2Forder", "acked") == 1)
    }

    @Test func theCodeIsFoundInALongAnswer() throws {
        receiver.script(
            "/long",
            [.answer("200 OK", #"{"text":"\#(String(repeating: "x", count: 3 << 20))","code":100}"#)])
        let id = try create("/long")
        _ = try eventually("success") { try query(id).status == 404 ? true : nil }
        #expect(try server.count("httpqueue%2Forder", "acked") == 1)
    }

    @Test(.enabled(if: ClientRequest.canDecodeContent, "this system has no libz.so.1"))
    func aCompressedAnswerIsUnderstood() throws {
        // {"code":100}
        let packed = try #require(Data(base64Encoded: "H4sIAAAAAAAC/6tWSs5PSVWyMjQwqAUAuqwj+AwAAAA="))
        receiver.script(
            "/gzip",
            [
                .send("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: \(packed.count)\r\n\r\n"),
                .sendBytes(Array(packed)),
            ])
        let id = try create("/gzip")
        #expect(try receiver.wait("/gzip")[0]["Accept-Encoding"] == "gzip")
        _ = try eventually("success") { try query(id).status == 404 ? true : nil }
        #expect(try server.count("httpqueue%2Forder", "acked") == 1)
    }

    @Test func moreRedirectsThanGoFollowsAreAFailure() throws {
        for hop in 1...10 {
            receiver.script(
                "/\(hop)",
                [.answer("308 Permanent Redirect", #"{"code":100}"#, fields: "Location: /\(hop + 1)\r\n")])
        }
        let id = try create("/1")
        let task = try server.wait(id, for: "dead")
        #expect((task["error"] as? String)?.contains("redirect") == true)
        #expect(receiver.received("/10").count == 1 && receiver.received("/11").isEmpty)
    }

    @Test func redirectsAreFollowed() throws {
        receiver.script("/old", [.answer("307 Temporary Redirect", fields: "Location: \(receiver.url("/new"))\r\n")])
        receiver.script("/new", [.answer("200 OK", #"{"code":100}"#)])
        let id = try create("/old")
        #expect(try receiver.wait("/new")[0].body.contains(id))
        _ = try eventually("success") { try query(id).status == 404 ? true : nil }
    }

    @Test(arguments: [
        ("/create", "{"), ("/create", "[]"), ("/create", #"{"topic":"t"}"#),
        ("/create", #"{"callback":"http://a.test"}"#),
        ("/create", #"{"topic":7,"callback":"http://a.test"}"#), ("/create", #"{"topic":"t","callback":"no url"}"#),
        ("/create", #"{"topic":"t","callback":"http://a.test","delay":"1"}"#),
        ("/create", #"{"topic":"t","callback":"http://a.test","retry":1.5}"#),
        ("/create", #"{"topic":"t","callback":"http://a.test","content":{}}"#),
        ("/create", #"{"topic":"a\u0001","callback":"http://a.test"}"#),
        ("/create", #"{"topic":"t","callback":"http://169.254.169.254/"}"#),
        ("/delete", "{}"), ("/delete", ""), ("/query", #"{"id":""}"#), ("/query", #"{"id":7}"#),
    ])
    func invalidRequestsAre400(path: String, body: String) throws {
        let answer = try ask(path, body)
        #expect(answer.status == 400, "\(answer.body)")
        #expect(try server.get("/queues/").body == "[]")
    }

    @Test func otherSchemesAreRefusedWithAReason() throws {
        #expect(try ask("/create", #"{"topic":"t","callback":"https://a.test/"}"#).status == 200)
        let answer = try ask("/create", #"{"topic":"t","callback":"ftp://a.test/"}"#)
        #expect(answer.status == 400)
        #expect(answer.body == "callback: a URL begins with http:// or https://\n")
    }

    @Test func otherMethodsAre400AndOtherPaths404() throws {
        #expect(try server.ask("httpqueue", "GET", "/create").status == 400)
        #expect(try server.ask("httpqueue", "PUT", "/query", "{}").status == 400)
        #expect(try server.ask("httpqueue", "POST", "/elsewhere", "{}").status == 404)
        #expect(
            try server.ask("httpqueue", "POST", "/create", "{}", fields: "Origin: http://evil.test\r\n").status == 403)
        let client = try Client(port: try server.port(of: "httpqueue"))
        client.send("GET /query HTTP/1.1\r\nHost: evil.example\r\nUser-Agent: Mozilla/5.0\r\n\r\n")
        #expect(try client.response().status == 403)
    }

    @Test func defaultsAreThoseOfTheOriginal() throws {
        receiver.script("/x", [.answer("200 OK", #"{"code":100}"#)])
        #expect(
            try ask("/create", #"{"topic":"ö/b","callback":"\#(receiver.url("/x"))","unknown":1,"retry":null}"#).status
                == 200)
        let request = try receiver.wait("/x")[0]
        let body = try #require(try JSONSerialization.jsonObject(with: Data(request.body.utf8)) as? [String: Any])
        #expect(body["topic"] as? String == "ö/b")
        #expect(body["content"] as? String == "")
    }

    @Test func emqShowsTheTasksButCannotAddAny() throws {
        let id = try create("/x", delay: 1000)
        #expect(try server.get("/queues/").body == #"["httpqueue/order"]"#)
        let shown = try server.get("/peek/httpqueue/order?state=delayed").tasks
        #expect(shown.first??["content"] as? String == "hello")
        #expect(try server.task(id)["state"] as? String == "delayed")
        #expect(try server.post("/enqueue/httpqueue%2Forder", #"{"content":1}"#).status == 403)
        _ = try server.enqueue("mine")
        #expect(try server.post("/move/mine?to=httpqueue%2Forder", "").status == 403)
        // Its callback would get the task in emq's own format, or not at all.
        #expect(try server.post("/move/httpqueue%2Forder?to=mine&state=delayed", "").status == 403)
        #expect(try server.post("/move/httpqueue%2Forder?to=httpqueue%2Fother&state=delayed", "").status == 200)
        #expect(try query(id).object["topic"] as? String == "other")
        #expect(try server.post("/move/httpqueue%2Fother?to=httpqueue%2Forder&state=delayed", "").status == 200)
        #expect(try server.send("PUT", "/config/mine", #"{"max_retries":1,"dead_letter":"httpqueue/x"}"#).status == 403)
        // emq's own push still needs --push.
        #expect(
            try server.post("/enqueue/mine", #"{"content":1,"request":{"url":"http://a.test/"}}"#).status == 403)
        // An operator can set the rate, but not the URL.
        #expect(
            try server.send("PUT", "/config/httpqueue%2Forder", #"{"push":{"rate":"5/s","concurrency":2}}"#).status
                == 200)
        #expect(
            try server.send("PUT", "/config/httpqueue%2Forder", #"{"push":{"url":"http://a.test/"}}"#).status == 403)
        #expect(try server.send("DELETE", "/task/\(id)").status == 204)
        #expect(try query(id).status == 404)
    }

    @Test func aTaskOfAnotherQueueCannotBeDeletedHere() throws {
        let id = try server.enqueue("mine")
        let uuid = try ask("/query", #"{"id":"\#(id)"}"#)
        #expect(uuid.status == 404)
        #expect(try ask("/delete", #"{"id":"\#(id)"}"#).status == 200)
        #expect(try server.state(id) == "ready")
    }

    @Test func aTaskThatFailedForGoodIsShownAndCanBeDeleted() throws {
        receiver.script("/x", [.answer("200 OK", #"{"code":101}"#)])
        let id = try create("/x")
        let task = try server.wait(id, for: "dead")
        #expect((task["error"] as? String)?.hasSuffix("answered 200 with code 101; success is code 100") == true)
        #expect(try query(id).status == 404)
        #expect(try ask("/delete", #"{"id":"\#(id)"}"#).status == 200)
        #expect(try server.get("/task/\(id)").status == 404)
    }

    @Test func aTaskSurvivesARestart() throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "emq-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        receiver.script("/later", [.answer("200 OK", #"{"code":100}"#)])
        let (later, soon): (String, String)
        var shown: Response
        do {
            let first = try Server.instead(of: "httpqueue", "--data", directory)
            later = try create("/never", delay: 1000, first)
            shown = try query(later, first)
            soon = try create("/later", delay: 1, first)
            first.signal(SIGKILL)
            _ = try first.exitStatus()
        }
        let second = try Server.instead(of: "httpqueue", "--data", directory)
        #expect(try receiver.wait("/later")[0].body.contains(soon))
        #expect(try query(later, second).body == shown.body)
    }
}
