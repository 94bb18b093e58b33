// htq in virtual time: what is left of a request a day later.

import Foundation
import Support
import Testing
import UID

@testable import Net
@testable import emq

@Suite(.blocking) struct HtqTimeTests {
    private static let day: Int64 = 86_400_000
    private let htq: VirtualHtq
    private var server: VirtualServer { htq.server }

    init() throws { htq = try VirtualHtq() }

    @Test func aRequestIsDeletedADayAfterItsResponse() throws {
        let start = server.now
        let path = try htq.queue(#""timeout": 7"#)
        let request = try server.onlyRequest()
        // Each part of the response has its own time.
        #expect(request.idleTimeoutMilliseconds == 7000 && request.connectTimeoutMilliseconds == 7000)
        #expect(request.timeoutMilliseconds == Self.day && request.bodyLimit == 1 << 20)
        server.advance(to: start + 2000)
        server.answerAll("200 OK", "yes")
        let response = try server.send("GET", path + "response/").object
        #expect(response["elapsed"] as? Int == 5 && response["data"] as? String == "yes")
        server.advance(to: start + 2000 + Self.day - 1)
        #expect(try htq.status(path) == "success")
        server.advance(to: start + 2000 + Self.day)
        for part in ["", "status/", "response/"] { #expect(try server.send("GET", path + part).status == 404) }
        #expect(server.postbox.started == 1)
    }

    @Test func anUnsentRequestTimesOutAfterADayAndIsDeletedAfterAnother() throws {
        try htq.pause()
        let start = server.now
        let (path, other) = (try htq.queue(), try htq.queue())
        server.advance(to: start + Self.day - 1)
        #expect(try htq.status(path) == "queued")
        server.advance(to: start + Self.day)
        #expect(try htq.status(path) == "timeout")
        let response = try server.send("GET", path + "response/").object
        #expect(response["status"] as? String == "timeout" && response["time"] as? Int64 == start + Self.day)
        #expect(try #require(response["message"] as? String).contains("expired"))
        #expect(try server.send("DELETE", other + "response/").status == 204)
        #expect(try server.send("DELETE", other + "response/").status == 404)
        #expect(try server.send("GET", other + "response/").body == "{}")
        #expect(try htq.status(other) == "timeout")
        #expect(try server.send("DELETE", other).status == 204)
        #expect(try htq.status(other) == "canceled")
        server.advance(to: start + 2 * Self.day)
        #expect(try server.send("GET", path).status == 404)
        #expect(server.postbox.started == 0)
    }

    @Test func aRequestThatDoesNotEndTimesOutAfterADay() throws {
        let paths = [try htq.queue(), try htq.queue()]
        server.advance(seconds: 86_400)
        #expect(server.postbox.cancelled == 2)
        for path in paths {
            #expect(try htq.status(path) == "timeout")
            let response = try htq.response(path)
            #expect(response["status"] as? String == "timeout" && response["message"] is String)
        }
        #expect(try server.send("DELETE", paths[0] + "response/").status == 204)
        #expect(try server.send("DELETE", paths[0] + "response/").status == 404)
        #expect(try server.send("DELETE", paths[1]).status == 204)
        #expect(try paths.map { try htq.status($0) } == ["timeout", "canceled"])
        for path in paths { #expect(try server.send("GET", path + "response/").body == "{}") }
        #expect(server.postbox.started == 2)
    }

    @Test func aCancelledRequestThatHadDiedIsNotSentByAKick() throws {
        #expect(try server.send("PUT", "/config/htq", #"{"on_expiry": "dead"}"#, service: 0).status == 200)
        let paths = [try htq.queue(#""id": "a""#), try htq.queue()]
        server.advance(seconds: 86_400)
        #expect(try paths.map { try htq.status($0) } == ["error", "error"])
        #expect(try htq.response(paths[1])["message"] is String)
        for path in paths { #expect(try server.send("DELETE", path).status == 204) }
        let ids = paths.map { #""\#($0.split(separator: "/")[0])""# }.joined(separator: ",")
        #expect(try server.send("POST", "/kick/", #"{"ids": [\#(ids)]}"#, service: 0).object["kicked"] as? Int == 0)
        #expect(try paths.map { try htq.status($0) } == ["canceled", "canceled"])
        #expect(server.postbox.started == 2)
    }

    @Test func aNotificationIsNotListedGoesFirstAndLeavesNothing() throws {
        let paths = [try htq.queue(), try htq.queue(#""data": [["a", "b"]]"#), try htq.queue()]
        #expect(server.sent.count == 2)
        try htq.pause()
        #expect(try server.begin("DELETE", paths[1]).isEmpty)
        #expect(server.postbox.cancelled == 1)
        // Both wait now. The one that clients do not see is first.
        let tasks = try server.send("GET", "/peek/htq?n=10", service: 0).tasks.compactMap { $0 }
        try #require(tasks.count == 2)
        let uuid = paths[1].split(separator: "/")[0]
        #expect((tasks[0]["metadata"] as? [String: String]) == ["cancels": String(uuid)])
        let id = try #require(tasks[0]["id"] as? String)
        let notice = try #require(UID(id)).uuidString
        for part in ["", "status/", "response/"] {
            #expect(try server.send("GET", "/\(notice)/\(part)").status == 404)
        }
        #expect(try server.send("DELETE", "/\(notice)/").status == 404)
        #expect(try htq.listed() == [paths[2]])
        try htq.resume()
        let told = try #require(server.sent.first { $0.head.hasPrefix("DELETE ") })
        #expect(told.url.description == "http://127.0.0.1:8888/x" && told.text.isEmpty)
        #expect(!told.head.contains("Content-Type"))
        server.failAll(.lookUp(host: "127.0.0.1", reason: "of this test"))
        #expect(try server.send("GET", "/task/\(notice)", service: 0).status == 404)
        #expect(try htq.status(paths[1]) == "canceled" && htq.status(paths[0]) == "error")
        server.answerAll("200 OK")
        #expect(try htq.status(paths[2]) == "success")
        #expect(server.postbox.started == 4)
    }

    @Test func withoutRoomTheBodyIsOmitted() throws {
        var buffer = Buffer()
        buffer.append(Array("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo\u{FC}".utf8).span)
        var parser = ResponseParser(limits: ResponseLimits(), answersHead: false)
        #expect(try parser.parse(&buffer))
        let id = try #require(UID("a936e1a1-68d8-4433-a0c0-4f4b2111670d"))
        for keepsBody in [true, false] {
            let response = ClientResponse(bytes: buffer.span, head: parser.head)
            let json = HtqResponse.json(
                of: response, to: id, elapsedMilliseconds: 1, keepsBody: keepsBody, unixMilliseconds: 2)
            let object = try #require(try JSONSerialization.jsonObject(with: Data(json)) as? [String: Any])
            #expect(object["data"] as? String == (keepsBody ? "bo\u{FC}" : ""))
            #expect(object["truncated"] as? Bool == (keepsBody ? nil : true))
        }
    }

    @Test func aRequestWithTheSameIDReplacesTheOtherEvenInAFullQueue() throws {
        try htq.pause()
        let first = try htq.queue(#""id": "a""#)
        for _ in 0..<2 { _ = try htq.queue() }
        #expect(try server.send("PUT", "/config/htq", #"{"max_length": 1}"#, service: 0).status == 200)
        let second = try htq.queue(#""id": "a""#)
        #expect(try htq.status(first) == "canceled")
        #expect(try htq.status(second) == "queued")
        #expect(try server.send("POST", "/", #"{"url": "http://127.0.0.1:8888/x"}"#).status == 429)
    }

    @Test func anEmptyMethodOrIDCountsAsMissing() throws {
        try htq.pause()
        let paths = try (0..<2).map { _ in try htq.queue(#""method": "", "id": """#) }
        for path in paths {
            #expect(try server.send("GET", path).object["method"] as? String == "get")
            #expect(try htq.status(path) == "queued")
        }
    }

    @Test func theIDIsShownAsItsTextInPython() throws {
        for (json, shown) in [
            ("7", "7"), (#""job""#, "job"), ("true", "True"), (#"["a"]"#, "['a']"), ("0", "None"), ("null", "None"),
            ("{}", "None"), (#""""#, "None"),
        ] {
            let path = try htq.queue(#""id": \#(json)"#)
            #expect(try htq.show(path)["id"] as? String == shown, "\(json)")
            server.answerAll("200 OK")
            #expect(try htq.status(path) == "success" && htq.show(path)["id"] as? String == shown, "\(json)")
        }
    }

    // MARK: The list

    @Test func theListHasTheNewestRequestsFirst() throws {
        try htq.pause()
        let paths = try (0..<1003).map { _ in try htq.queue() }
        #expect(try htq.listed() == Array(paths.reversed().prefix(1000)))
    }

    @Test func aCancelledRequestIsListedUntilAWorkerComesToIt() throws {
        let htq = try VirtualHtq(workers: 1)
        let paths = try (0..<4).map { _ in try htq.queue() }
        #expect(htq.server.sent.count == 1)
        #expect(try htq.listed() == paths[1...].reversed())
        for path in [paths[1], paths[3]] { #expect(try htq.server.send("DELETE", path).status == 204) }
        #expect(try htq.listed() == paths[1...].reversed())
        let list = try htq.server.send("GET", "/").tasks
        #expect(list.map { $0?["status"] as? String } == ["canceled", "queued", "canceled"])
        // The worker passes over the first one and sends the second.
        htq.server.answerAll("200 OK")
        #expect(try htq.listed() == [paths[3]])
        htq.server.answerAll("200 OK")
        #expect(try htq.listed().isEmpty)
        // A cancelled request that was in flight is not listed.
        let (first, second) = (try htq.queue(), try htq.queue())
        #expect(try htq.server.begin("DELETE", first).isEmpty)
        #expect(try htq.listed() == [second])
        // The receiver answers the notice, so no client waits any more.
        htq.server.answerAll("200 OK")
        #expect(try htq.listed().isEmpty)
    }

    @Test func withoutWorkersACancelledRequestStaysInTheList() throws {
        let sent = try htq.queue()
        htq.server.answerAll("200 OK")
        try htq.pause()
        let path = try htq.queue()
        #expect(try server.send("DELETE", path).status == 204)
        #expect(try htq.listed() == [path] && htq.status(sent) == "success")
        server.advance(to: server.now + Self.day)
        #expect(try htq.listed().isEmpty)
    }
}
