// htq as its clients see it: every request and answer of its document, and cases that the document leaves open.

import Foundation
import Support
import Testing

@testable import Net

@Suite(.blocking) struct HtqTests {
    private let receiver: Receiver
    private let htq: HtqServer

    init() throws {
        receiver = try Receiver()
        htq = try HtqServer()
    }

    // MARK: The document

    @Test func aRequestIsQueuedSentAndAnsweredAsInTheTutorial() throws {
        let data = "{\n  \"origin\": \"159.14.243.254\"\n}"
        receiver.script("/ip", [.answer("200 OK", data, fields: "Age: 0\r\nContent-Type: application/json\r\n")])
        try htq.pause()
        let url = receiver.url("/ip")
        let before = Date().timeIntervalSince1970 * 1000
        let client = try Client(port: htq.port)
        let queued = try client.post("/", #"{"url": "\#(url)"}"#)
        #expect(queued.status == 303 && queued.body == "")
        #expect(queued.fields["content-type"] == "text/html; charset=utf-8")
        #expect(queued.fields["content-length"] == "0")
        let location = try #require(queued.fields["location"])
        let match = try #require(location.wholeMatch(of: /https?:\/\/localhost\/([-0-9a-f]{36})\//))
        let uuid = String(match.1)
        let path = "/\(uuid)/"

        let shown = try client.get(path)
        #expect(shown.status == 200 && shown.fields["content-type"] == "application/json")
        let links =
            "<\(location)response/>; rel=\"response\", <\(location)>; rel=\"self\", <\(location)status/>; rel=\"status\""
        #expect(shown.fields["link"] == links)
        let object = try shown.object
        #expect(Set(object.keys) == ["timeout", "status", "data", "headers", "url", "method", "uuid", "time", "id"])
        #expect(object["id"] as? String == "None")
        #expect(object["timeout"] as? Int == 60 && object["status"] as? String == "queued")
        #expect(object["data"] is NSNull && (object["headers"] as? [String: String])?.isEmpty == true)
        #expect(object["url"] as? String == url && object["method"] as? String == "get")
        #expect(object["uuid"] as? String == uuid)
        let time = try #require(object["time"] as? Double)
        #expect(abs(time - before) < 60_000 && time == time.rounded())

        let status = try client.get(path + "status/")
        #expect(status.body == #"{"status": "queued"}"# && status.fields["content-type"] == "application/json")

        let waiting = try htq.begin("GET", path + "response/")
        try htq.resume()
        let response = try waiting.response()
        #expect(response.status == 200 && response.fields["content-type"] == "application/json")
        let there = "\(htq.url)\(path)"
        #expect(response.fields["link"] == "<\(there)>; rel=\"request\", <\(there)response/>; rel=\"self\"")
        let result = try response.object
        #expect(
            Set(result.keys) == ["status", "time", "code", "reason", "elapsed", "uuid", "headers", "data"])
        #expect(result["status"] as? String == "success" && result["code"] as? Int == 200)
        #expect(result["reason"] as? String == "OK" && result["uuid"] as? String == uuid)
        #expect(result["data"] as? String == data)
        #expect(
            result["headers"] as? [String: String]
                == ["Age": "0", "Content-Type": "application/json", "Content-Length": "\(data.utf8.count)"])
        #expect(try #require(result["time"] as? Double) >= time)
        #expect(try #require(result["elapsed"] as? Double) >= 0)
        #expect(try htq.get(path + "status/").body == #"{"status": "success"}"#)
        #expect(try htq.response(path)["data"] as? String == data)

        let received = try receiver.wait("/ip")[0]
        #expect(received.method == "GET" && received.body == "" && received["Content-Length"] == nil)
        #expect(received["User-Agent"]?.hasPrefix("python-requests/") == true && received["Accept"] == "*/*")
        #expect(received.fields.allSatisfy { !$0.name.lowercased().hasPrefix("emq-") })
    }

    @Test func waitingRequestsAreListedWithTheirLinks() throws {
        #expect(try htq.get("/").body == "[]")
        try htq.pause()
        let paths = try (0..<3).map { try htq.queue(#"{"url": "\#(receiver.url("/\($0)"))", "data": "x"}"#) }.reversed()
        let answer = try htq.get("/")
        #expect(answer.fields["link"] == "<\(htq.url)/>; rel=\"self\"")
        let list = try answer.tasks.compactMap { $0 }
        #expect(list.map { "/\($0["uuid"] as? String ?? "")/" } == Array(paths))
        for (request, path) in zip(list, paths) {
            #expect(request["status"] as? String == "queued" && request["method"] as? String == "post")
            #expect(request["data"] as? String == "x")
            let there = "\(htq.url)\(path)"
            let links = request["links"] as? [String: String]
            #expect(
                links == [
                    "self": there, "status": there + "status/",
                    "response": there + "response/",
                ])
        }
        try htq.resume()
        for path in paths { #expect(try htq.response(path)["status"] as? String == "success") }
        #expect(try htq.get("/").body == "[]")
    }

    @Test func cancellingARequestInFlightAbortsItAndSendsADELETE() throws {
        receiver.script("/delay/30", [.hold, .ok], [.ok])
        let path = try htq.queue(
            #"{"url": "\#(receiver.url("/delay/30"))", "headers": {"X-Job": "7", "Authorization": "b"}, "data": "d"}"#)
        try receiver.wait("/delay/30")
        #expect(try htq.status(path) == "pending")
        #expect(try htq.listed().isEmpty)
        let waiting = try htq.begin("GET", path + "response/")
        let deleted = try htq.send("DELETE", path)
        #expect(deleted.status == 204 && deleted.body == "")
        #expect(deleted.fields["content-type"] == "text/html; charset=utf-8")
        #expect(try htq.get(path + "status/").body == #"{"status": "canceled"}"#)
        #expect(try htq.get(path).object["status"] as? String == "canceled")
        #expect(try waiting.response().body == "{}")
        #expect(try htq.get(path + "response/").body == "{}")
        let requests = try receiver.wait("/delay/30", 2)
        #expect(requests.map(\.method) == ["POST", "DELETE"])
        #expect(requests[0]["X-Job"] == "7" && requests[0].body == "d")
        #expect(requests[1]["X-Job"] == "7" && requests[1]["Authorization"] == "b" && requests[1].body == "")
        _ = try eventually("the end of the connection") { receiver.brokenOff("/delay/30") == 1 ? true : nil }
        // A second DELETE has the same answer, and sends nothing.
        #expect(try htq.send("DELETE", path).status == 204)
        #expect(try htq.response(try htq.queue(#"{"url": "\#(receiver.url("/next"))"}"#))["code"] as? Int == 200)
        #expect(receiver.received("/delay/30").count == 2)
    }

    // MARK: Cancelling

    @Test func aCancellingClientIsAnsweredWhenTheReceiverIsToldOrItsTimeIsOver() throws {
        receiver.script("/a", [.hold, .hold, .ok])
        receiver.script("/b", [.hold, .hold])
        let told = try htq.queue(#"{"url": "\#(receiver.url("/a"))"}"#)
        let untold = try htq.queue(#"{"url": "\#(receiver.url("/b"))", "timeout": 1}"#)
        try receiver.wait("/a")
        try receiver.wait("/b")
        let (first, second) = (try htq.begin("DELETE", told), try htq.begin("DELETE", untold))
        let start = ContinuousClock.now
        #expect(try receiver.wait("/a", 2)[1].method == "DELETE")
        // Others are served meanwhile.
        #expect(try htq.status(told) == "canceled" && htq.get(told + "response/").body == "{}")
        #expect(try htq.response(try htq.queue(#"{"url": "\#(receiver.url("/c"))"}"#))["code"] as? Int == 200)
        #expect(try second.response().status == 204)
        #expect(ContinuousClock.now - start > .milliseconds(900))
        receiver.open("/a")
        #expect(try first.response().status == 204)
    }

    @Test func aCancellingClientThatLeavesOrMeetsAShutdownIsNotWaitedFor() throws {
        receiver.script("/a", [.hold, .hold, .hold, .hold])
        let paths = try (0..<2).map { _ in try htq.queue(#"{"url": "\#(receiver.url("/a"))", "timeout": 3}"#) }
        try receiver.wait("/a", 2)
        let leaving = try htq.begin("DELETE", paths[0])
        try receiver.wait("/a", 3)
        leaving.halfClose()
        #expect(try leaving.response().status == 204)
        let waiting = try htq.begin("DELETE", paths[1])
        try receiver.wait("/a", 4)
        htq.server.signal(SIGTERM)
        #expect(try waiting.response().status == 204)
    }

    @Test func aCancelledRequestIsNeverSent() throws {
        try htq.pause()
        let path = try htq.queue(#"{"url": "\#(receiver.url("/a"))"}"#)
        let waiting = try htq.begin("GET", path + "response/")
        #expect(try htq.send("DELETE", path).status == 204)
        #expect(try waiting.response().body == "{}")
        #expect(try htq.status(path) == "canceled")
        // No worker has come to it yet.
        #expect(try htq.listed() == [path])
        #expect(try htq.send("DELETE", path + "response/").status == 404)
        try htq.resume()
        _ = try htq.response(try htq.queue(#"{"url": "\#(receiver.url("/b"))"}"#))
        #expect(receiver.received("/a").isEmpty)
    }

    @Test func cancellingAFinishedRequestDeletesItsResponseAndSendsNothing() throws {
        let path = try htq.queue(#"{"url": "\#(receiver.url("/a"))"}"#)
        #expect(try htq.response(path)["data"] as? String == "ok")
        for _ in 0..<2 {
            #expect(try htq.send("DELETE", path).status == 204)
            #expect(try htq.status(path) == "canceled")
            #expect(try htq.get(path + "response/").body == "{}")
        }
        #expect(try htq.send("DELETE", path + "response/").status == 404)
        #expect(receiver.received("/a").count == 1)
    }

    @Test func aResponseIsDeletedOnce() throws {
        let gone = try unusedPort()
        for (url, status) in [(receiver.url("/a"), "success"), ("http://127.0.0.1:\(gone)/", "error")] {
            let path = try htq.queue(#"{"url": "\#(url)"}"#)
            #expect(try htq.response(path)["status"] as? String == status)
            #expect(try htq.send("DELETE", path + "response/").status == 204)
            #expect(try htq.send("DELETE", path + "response/").status == 404)
            let answer = try htq.get(path + "response/")
            #expect(answer.status == 200 && answer.body == "{}")
            #expect(try htq.status(path) == status)
        }
        // There is no response yet.
        try htq.pause()
        let path = try htq.queue(#"{"url": "\#(receiver.url("/b"))"}"#)
        #expect(try htq.send("DELETE", path + "response/").status == 404)
        #expect(try htq.status(path) == "queued")
    }

    @Test func aSecondRequestWithTheSameIDCancelsTheFirst() throws {
        receiver.script("/a", [.hold, .ok], [.ok])
        func ask(_ path: String, _ id: String) throws -> String {
            try htq.queue(#"{"url": "\#(receiver.url(path))", "id": \#(id), "headers": {"X": "\#(path)"}}"#)
        }
        let first = try ask("/a", #""job 1""#)
        try receiver.wait("/a")
        try htq.pause()
        let second = try ask("/b", #""job 1""#)
        #expect(try htq.status(first) == "canceled")
        // The DELETE that the receiver gets is not a client's request.
        #expect(try htq.listed() == [second])
        let third = try ask("/c", #""job 1""#)
        #expect(try htq.status(second) == "canceled")
        let other = try ask("/d", "7")
        #expect(try htq.listed() == [other, third, second])
        try htq.resume()
        #expect(try htq.response(third)["status"] as? String == "success")
        #expect(try htq.response(other)["status"] as? String == "success")
        #expect(try receiver.wait("/a", 2).map(\.method) == ["GET", "DELETE"])
        #expect(receiver.received("/a").allSatisfy { $0["X"] == "/a" })
        // A finished request stays.
        let fourth = try ask("/e", #""7""#)
        #expect(try htq.response(fourth)["status"] as? String == "success")
        #expect(try htq.status(other) == "success" && htq.status(third) == "success")
        #expect(receiver.received("/b").isEmpty)
    }

    @Test func inAFullQueueTheNewRequestReplacesTheOld() throws {
        #expect(try htq.server.send("PUT", "/config/htq", #"{"max_length": 1}"#).status == 200)
        receiver.script("/a", [.hold, .ok], [.ok])
        let first = try htq.queue(#"{"url": "\#(receiver.url("/a"))", "id": "x"}"#)
        try receiver.wait("/a")
        let refused = try htq.send("POST", "/", #"{"url": "\#(receiver.url("/b"))"}"#)
        #expect(refused.status == 429 && refused.fields["retry-after"] != nil)
        let second = try htq.queue(#"{"url": "\#(receiver.url("/c"))", "id": "x"}"#)
        #expect(try htq.status(first) == "canceled")
        #expect(try htq.response(second)["code"] as? Int == 200)
        #expect(try receiver.wait("/a", 2)[1].method == "DELETE")
    }

    // MARK: Requests

    @Test func aRequestIsSentAsItSays() throws {
        let path = try htq.queue(
            #"{"url": "\#(receiver.url("/x?y=%20"))", "method": "Put", "data": "{\"€\": 1}", "timeout": 2.5, "#
                + #""headers": {"Content-Type": "application/json", "user-agent": "mine", "X-N": 1.50, "X-Null": null, "#
                + #""Accept": "a/b"}, "unknown": [1]}"#)
        _ = try htq.response(path)
        let request = try receiver.wait("/x?y=%20")[0]
        #expect(request.method == "PUT" && request.body == #"{"€": 1}"#)
        #expect(request["Content-Type"] == "application/json" && request["User-Agent"] == "mine")
        #expect(request["X-N"] == "1.50" && request["Accept"] == "a/b" && request["X-Null"] == nil)
        let shown = try htq.get(path).object
        #expect(shown["timeout"] as? Double == 2.5 && shown["method"] as? String == "Put")
        #expect((shown["headers"] as? [String: Any])?["X-N"] as? Double == 1.5)
        #expect(shown["data"] as? String == #"{"€": 1}"#)
    }

    @Test func redirectsAreFollowedThirtyTimes() throws {
        for number in 0..<31 {
            receiver.script("/\(number)", [.answer("302 Found", "no", fields: "Location: /\(number + 1)\r\n")])
        }
        let thirtieth = try htq.response(try htq.queue(#"{"url": "\#(receiver.url("/1"))"}"#))
        #expect(thirtieth["code"] as? Int == 200 && thirtieth["data"] as? String == "ok")
        let further = try htq.response(try htq.queue(#"{"url": "\#(receiver.url("/0"))"}"#))
        #expect(further["status"] as? String == "error" && further["message"] as? String == "Exceeded 30 redirects.")
        #expect(receiver.received("/31").count == 1)
    }

    @Test func theTargetOfARedirectIsPercentEncoded() throws {
        receiver.script("/a", [.answer("302 Found", "", fields: "Location: /b c\r\n")])
        #expect(try htq.response(try htq.queue(#"{"url": "\#(receiver.url("/a"))"}"#))["code"] as? Int == 200)
        #expect(receiver.received("/b%20c").count == 1)
    }

    @Test func aRedirectKeepsTheMethodAndSendsCookiesAsRequestsDoes() throws {
        let cases = [
            ("301 Moved Permanently", "put", "PUT"), ("301 Moved Permanently", "delete", "DELETE"),
            ("301 Moved Permanently", "post", "GET"), ("302 Found", "put", "GET"), ("303 See Other", "delete", "GET"),
            ("307 Temporary Redirect", "put", "PUT"), ("308 Permanent Redirect", "post", "POST"),
        ]
        for (index, (status, method, later)) in cases.enumerated() {
            receiver.script(
                "/from\(index)",
                [.answer(status, "", fields: "Location: /to\(index)\r\nSet-Cookie: a=b\(index); Path=/\r\n")])
            let path = try htq.queue(
                #"{"url": "\#(receiver.url("/from\(index)"))", "method": "\#(method)", "data": "x"}"#)
            #expect(try htq.response(path)["code"] as? Int == 200)
            let request = try receiver.wait("/to\(index)")[0]
            #expect(request.method == later && request["Cookie"] == "a=b\(index)", "\(status) \(method)")
            #expect((request["Content-Length"] == nil) == (later == "GET"), "\(status) \(method)")
            #expect(request.body == (status.hasPrefix("307") || status.hasPrefix("308") ? "x" : ""))
        }
    }

    @Test func anAnswerInGzipIsUnpackedAndItsFieldsStay() throws {
        guard ClientRequest.canDecodeContent else { return }
        let packed = try #require(Data(base64Encoded: "H4sIAAAAAAACAyvJyCxWSM7PTS1WKC4sTU2tSk0BAMte9GMTAAAA"))
        let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: \(packed.count)\r\n\r\n"
        receiver.script("/a", [.sendBytes(Array(head.utf8) + packed)])
        let response = try htq.response(try htq.queue(#"{"url": "\#(receiver.url("/a"))"}"#))
        #expect(response["data"] as? String == "this comes squeezed")
        let headers = ["Content-Encoding": "gzip", "Content-Length": "\(packed.count)"]
        #expect(response["headers"] as? [String: String] == headers)
        #expect(try receiver.wait("/a")[0]["Accept-Encoding"] == "gzip, deflate")
    }

    @Test func textIsDecodedInItsCharset() throws {
        let head = "\r\nContent-Type: text/plain; charset=windows-1252\r\nContent-Length: 2\r\n\r\n"
        let start = Array("HTTP/1.1 200 ".utf8) + [0xFC]
        receiver.script("/a", [.sendBytes(start + Array(head.utf8) + [0xFC, 0x80])])
        let response = try htq.response(try htq.queue(#"{"url": "\#(receiver.url("/a"))"}"#))
        #expect(response["data"] as? String == "ü€" && response["reason"] as? String == "ü")
    }

    @Test func aResponseThatStopsTimesOut() throws {
        receiver.script("/a", [.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na"), .hold])
        let path = try htq.queue(#"{"url": "\#(receiver.url("/a"))", "timeout": 1}"#)
        #expect(try htq.response(path)["status"] as? String == "timeout")
    }

    @Test func aRequestIsSentOnceEvenOnAConnectionThatTheReceiverCloses() throws {
        receiver.script("/a", [.ok], [.close])
        let paths = try (0..<2).map { _ in
            let path = try htq.queue(#"{"url": "\#(receiver.url("/a"))", "data": "x"}"#)
            _ = try htq.response(path)
            return path
        }
        #expect(try paths.map { try htq.status($0) } == ["success", "error"])
        let requests = receiver.received("/a")
        #expect(requests.count == 2 && requests[0].connection == requests[1].connection)
    }

    @Test func theNumberOfWorkersLimitsRequestsInFlight() throws {
        let htq = try HtqServer("--htq-workers", "3")
        receiver.script("/w", [.hold, .ok])
        let paths = try (0..<9).map { _ in try htq.queue(#"{"url": "\#(receiver.url("/w"))"}"#) }
        try receiver.wait("/w", 3)
        #expect(try htq.listed() == paths[3...].reversed())
        receiver.open("/w")
        for path in paths { #expect(try htq.response(path)["status"] as? String == "success") }
        #expect(receiver.peak("/w") == 3)
    }

    // MARK: Responses

    @Test func everyResponseIsASuccess() throws {
        receiver.script(
            "/a",
            [.send("HTTP/1.1 503 Gone Fishing\r\nx-A: 1\r\nX-B: 2\r\nX-a: 3\r\nContent-Length: 4\r\n\r\na\0\u{FC}")])
        let path = try htq.queue(#"{"url": "\#(receiver.url("/a"))"}"#)
        let response = try htq.response(path)
        #expect(response["status"] as? String == "success" && response["code"] as? Int == 503)
        #expect(response["reason"] as? String == "Gone Fishing" && response["data"] as? String == "a\0\u{FC}")
        #expect(
            response["headers"] as? [String: String] == ["x-A": "1, 3", "X-B": "2", "Content-Length": "4"])
        #expect(try htq.status(path) == "success")
        receiver.script("/b", [.send("HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n")])
        let other = try htq.response(try htq.queue(#"{"url": "\#(receiver.url("/b"))"}"#))
        #expect(other["reason"] as? String == "" && other["data"] as? String == "")
        #expect(receiver.received("/a").count == 1 && receiver.received("/b").count == 1)
    }

    @Test func aLongBodyIsTruncated() throws {
        let body = String(repeating: "0123456789abcdef", count: 1 << 16)
        receiver.script("/whole", [.answer("200 OK", body)])
        receiver.script("/longer", [.answer("200 OK", body + "x")])
        let whole = try htq.response(try htq.queue(#"{"url": "\#(receiver.url("/whole"))"}"#))
        #expect(whole["data"] as? String == body && whole["truncated"] == nil)
        let longer = try htq.response(try htq.queue(#"{"url": "\#(receiver.url("/longer"))"}"#))
        #expect(longer["data"] as? String == body && longer["truncated"] as? Bool == true)
    }

    @Test func aMissingResponseIsAnErrorOrATimeoutAndIsNotRetried() throws {
        let refusing = try unusedPort()
        receiver.script("/hold", [.hold])
        receiver.script("/close", [.close])
        let cases = [
            (receiver.url("/hold"), "timeout", "300 ms"), (receiver.url("/close"), "error", "closed"),
            ("http://127.0.0.1:\(refusing)/", "error", "Connection refused"),
            ("http://nobody.invalid/", "error", "nobody.invalid"),
        ]
        for (url, status, message) in cases {
            let path = try htq.queue(#"{"url": "\#(url)", "timeout": \#(status == "timeout" ? "0.3" : "100")}"#)
            let response = try htq.response(path)
            #expect(Set(response.keys) == ["status", "time", "message"])
            #expect(response["status"] as? String == status && response["time"] as? Double != nil)
            #expect(try #require(response["message"] as? String).contains(message), "\(response)")
            #expect(try htq.status(path) == status)
        }
        // A request that timed out may not have been sent.
        #expect(receiver.received("/hold").count <= 1 && receiver.received("/close").count == 1)
    }

    // MARK: Waiting for a response

    @Test func allWaitingClientsAreAnsweredAtOnce() throws {
        receiver.script("/a", [.hold, .answer("200 OK", "the end")])
        let path = try htq.queue(#"{"url": "\#(receiver.url("/a"))"}"#)
        try receiver.wait("/a")
        let waiting = try (0..<50).map { _ in try htq.begin("GET", path + "response/") }
        // A client that disconnects does not affect the others.
        var leaving: Client? = try htq.begin("GET", path + "response/")
        leaving?.resetOnClose()
        leaving = nil
        #expect(try htq.status(path) == "pending")
        receiver.open("/a")
        let answers = try waiting.map { try $0.response() }
        #expect(Set(answers.map(\.body)).count == 1)
        #expect(try answers[0].object["data"] as? String == "the end")
        #expect(try htq.get(path + "response/").body == answers[0].body)
    }

    @Test func waitingClientsThatHalfCloseOrMeetAShutdownAreAskedToRetry() throws {
        receiver.script("/a", [.hold])
        let path = try htq.queue(#"{"url": "\#(receiver.url("/a"))"}"#)
        try receiver.wait("/a")
        let halfClosed = try htq.begin("GET", path + "response/")
        halfClosed.halfClose()
        let first = try halfClosed.response()
        #expect(first.status == 503 && first.fields["retry-after"] != nil)
        #expect(try first.object["message"] is String)
        let waiting = try htq.begin("GET", path + "response/")
        #expect(try htq.status(path) == "pending")
        htq.server.signal(SIGTERM)
        #expect(try waiting.response().status == 503)
    }

    // MARK: Mistakes

    static let mistakes: [(json: String, status: Int, message: String)] = [
        ("", 400, "JSON"), ("{", 400, "JSON"), ("null", 400, "object"), ("[]", 422, "object"),
        ("{}", 422, "url is missing"), (#"{"url": "\ud800"}"#, 422, "UTF-8"),
        (#""method": "\ud800""#, 422, "UTF-8"),
        (#""data": ["\#(String(repeating: "x", count: 300_000))"]"#, 422, "at most 262144 bytes"),
        (#""timeout": "5.5""#, 422, "timeout"), (#""timeout": "five""#, 422, "timeout"),
        (#""timeout": """#, 422, "timeout"), (#""timeout": true"#, 422, "timeout"), (#""timeout": []"#, 422, "timeout"),
        (#""headers": [1]"#, 422, "headers"), (#""headers": "a""#, 422, "headers"),
        (#""headers": {"A b": "a"}"#, 422, "A b"), (#""headers": {"A": "a\r\nB: c"}"#, 422, "control"),
        (#""headers": {"A": {}}"#, 422, "string"), (#""headers": {"Ü": "1"}"#, 422, "Ü"),
        (#""headers": {"A": "\ud800"}"#, 422, "string"), (#""headers": {"Host": "a\nb"}"#, 422, "control"),
        (
            #""headers": {"\#(String(repeating: "A", count: 9000))": "\#(String(repeating: "a", count: 9000))"}"#, 422,
            "16384"
        ),
        (#""data": "\ud800""#, 422, "UTF-8"), (#""data": {"\ud800": 1}"#, 422, "UTF-8"),
        (#""id": "\#(String(repeating: "a", count: 256))""#, 422, "id"),
    ]

    @Test func requestsThatCannotBeSentAreRefusedWithAReason() throws {
        let client = try Client(port: htq.port)
        for (json, status, message) in Self.mistakes {
            let whole = json.hasPrefix("\"") ? #"{"url": "\#(receiver.url("/never"))", \#(json)}"# : json
            let answer = try client.post("/", whole)
            #expect(answer.status == status, "\(json): \(answer.body)")
            #expect(answer.fields["content-type"] == "application/json")
            let problem = try answer.object
            #expect(problem["status"] as? Int == status)
            #expect(try #require(problem["message"] as? String).contains(message), "\(json): \(answer.body)")
        }
        #expect(try htq.listed().isEmpty)
        #expect(receiver.received("/never").isEmpty)
    }

    @Test func unknownPathsAreNotFoundAndOtherMethodsNotAllowed() throws {
        let unknown = "/a936e1a1-68d8-4433-a0c0-4f4b2111670d/"
        let foreign = try htq.server.enqueue("elsewhere", #""content": {"timeout": 1, "url": "x"}"#)
        for path in [
            unknown, unknown + "status/", unknown + "response/", "/\(foreign)/", unknown + "x/",
            unknown + "status/x", "/x/", "//", "/x//", "/x/status/",
        ] {
            let answer = try htq.get(path)
            #expect(answer.status == 404 && answer.fields["content-type"] == "application/json", "\(path)")
            #expect(try answer.object["status"] as? Int == 404)
        }
        for path in [unknown, unknown + "response/"] { #expect(try htq.send("DELETE", path).status == 404) }
        let path = try htq.queue(#"{"url": "\#(receiver.url("/a"))"}"#)
        _ = try htq.response(path)
        for (method, path, allow) in [
            ("DELETE", "/", "GET, HEAD, OPTIONS, POST"), ("PUT", path, "GET, HEAD, OPTIONS, DELETE"),
            ("POST", path, "GET, HEAD, OPTIONS, DELETE"), ("DELETE", path + "status/", "GET, HEAD, OPTIONS"),
            ("PATCH", path + "response/", "GET, HEAD, OPTIONS, DELETE"),
        ] {
            let answer = try htq.send(method, path)
            #expect(answer.status == 405 && answer.fields["allow"] == allow, "\(method) \(path): \(answer)")
        }
        // emq's own interface does not add to the queue.
        let added = try htq.server.post("/enqueue/htq", #"{"content": 1}"#)
        #expect(added.status == 403)
    }

    @Test func OPTIONSNamesTheMethodsOfAPathWhateverIsThere() throws {
        for (path, allow) in [
            ("/", "GET, HEAD, OPTIONS, POST"), ("/x/", "GET, HEAD, OPTIONS, DELETE"),
            ("/x/status/", "GET, HEAD, OPTIONS"), ("/x/response/", "GET, HEAD, OPTIONS, DELETE"),
        ] {
            let answer = try htq.send("OPTIONS", path)
            #expect(answer.status == 200 && answer.fields["allow"] == allow && answer.body == "")
            #expect(answer.fields["content-type"] == "text/html; charset=utf-8")
            #expect(answer.fields["content-length"] == "0")
        }
        #expect(try htq.send("OPTIONS", "/x/y/").status == 404)
    }

    @Test func aPathWithoutItsLastSlashIsRedirected() throws {
        let path = try htq.queue(#"{"url": "\#(receiver.url("/a"))"}"#)
        _ = try htq.response(path)
        for short in [path.dropLast(), path + "status", path + "response", "/x", "/x/status"] {
            for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT"] {
                let answer = try htq.send(method, "\(short)?a=b")
                #expect(answer.status == 301 && answer.fields["location"] == "\(htq.url)\(short)/?a=b")
                #expect(answer.fields["content-type"] == "text/html; charset=utf-8")
            }
        }
        #expect(try htq.get(String(path.dropLast())).fields["location"] == "\(htq.url)\(path)")
        #expect(try htq.send("HEAD", path).status == 200 && htq.send("HEAD", "/").status == 200)
        #expect(try htq.send("HEAD", path + "status/").body == "" && htq.send("HEAD", path + "response/").status == 200)
    }

    @Test func aClientWithoutAHostGetsPaths() throws {
        let client = try Client(port: htq.port)
        let json = #"{"url": "\#(receiver.url("/a"))"}"#
        client.send("POST / HTTP/1.0\r\nContent-Length: \(json.utf8.count)\r\n\r\n\(json)")
        let location = try #require(client.response().fields["location"])
        #expect(location.wholeMatch(of: /\/[-0-9a-f]{36}\//) != nil)
        #expect(try htq.response(location)["code"] as? Int == 200)
    }

    // MARK: Restart

    @Test func queuedRequestsAreSentAfterARestartAndFinishedOnesAreStillThere() throws {
        let directory = DataDirectory()
        let url = receiver.url("/a")
        receiver.script("/slow", [.hold, .ok], [.ok])
        let (done, deleted, cancelled, told, queued): (String, String, String, String, String)
        let response: String
        do {
            let htq = try HtqServer("--data", directory.path)
            done = try htq.queue(#"{"url": "\#(url)"}"#)
            response = try htq.get(done + "response/").body
            deleted = try htq.queue(#"{"url": "\#(url)"}"#)
            _ = try htq.response(deleted)
            #expect(try htq.send("DELETE", deleted + "response/").status == 204)
            told = try htq.queue(#"{"url": "\#(receiver.url("/slow"))", "headers": {"X": "y"}}"#)
            try receiver.wait("/slow")
            try htq.pause()
            cancelled = try htq.queue(#"{"url": "\#(url)"}"#)
            queued = try htq.queue(#"{"url": "\#(receiver.url("/b"))", "data": {"a": 1}, "id": 5}"#)
            #expect(try htq.send("DELETE", cancelled).status == 204)
            // The answer waits for that of the receiver. A client that closes a TLS connection before it has read all can
            // reset it.
            let deletion = try htq.begin("DELETE", told)
            _ = try eventually("the end of the request") { try htq.status(told) == "canceled" ? true : nil }
            withExtendedLifetime(deletion) {}
            htq.server.signal(SIGKILL)
            _ = try htq.server.exitStatus()
        }
        let htq = try HtqServer("--data", directory.path)
        #expect(try htq.listed() == [queued, cancelled])
        #expect(try htq.get(done + "response/").body == response)
        #expect(try htq.get(deleted + "response/").body == "{}" && htq.status(deleted) == "success")
        for path in [cancelled, told] { #expect(try htq.status(path) == "canceled") }
        try htq.resume()
        #expect(try htq.response(queued)["code"] as? Int == 200)
        #expect(try receiver.wait("/b")[0].body == "{'a': 1}")
        let requests = try receiver.wait("/slow", 2)
        #expect(requests[1].method == "DELETE" && requests[1]["X"] == "y")
        #expect(receiver.received("/a").count == 2)
    }
}
