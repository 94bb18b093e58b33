// htq in virtual time: what is left of a request a day later.

import Foundation
import Testing
import UID

@testable import Net
@testable import emq

@Suite struct HtqTimeTests {
    private static let day: Int64 = 86_400_000
    private let server: VirtualServer

    init() throws { server = try VirtualServer(Adapters(frontEnds: [Htq()], couriers: [HtqCourier(workers: 2)])) }

    private func queue(_ more: String = "") throws -> String {
        let answer = try server.send("POST", "/", #"{"url": "http://127.0.0.1:8888/x"\#(more)}"#)
        #expect(answer.status == 303, "\(answer.body)")
        return String(try #require(answer.fields["location"]).dropFirst("http://emq.test:7".count))
    }

    private func status(_ path: String) throws -> String? {
        try server.send("GET", path + "status/").object["status"] as? String
    }

    @Test func aRequestIsDeletedADayAfterItsResponse() throws {
        let start = server.now
        let path = try queue(#", "timeout": 7"#)
        let request = try server.onlyRequest()
        #expect(request.timeoutMilliseconds == 7000 && request.redirects.limit == 10 && request.bodyLimit == 1 << 20)
        #expect(request.head == "GET http://127.0.0.1:8888/x\nUser-Agent: emq\r\nAccept: */*\r\n")
        server.advance(to: start + 2000)
        server.answerAll("200 OK", "yes")
        let response = try server.send("GET", path + "response/").object
        #expect(response["elapsed"] as? Int == 5 && response["data"] as? String == "yes")
        server.advance(to: start + 2000 + Self.day - 1)
        #expect(try status(path) == "success")
        server.advance(to: start + 2000 + Self.day)
        for part in ["", "status/", "response/"] { #expect(try server.send("GET", path + part).status == 404) }
        #expect(server.postbox.started == 1)
    }

    @Test func anUnsentRequestTimesOutAfterADayAndIsDeletedAfterAnother() throws {
        #expect(try server.send("POST", "/pause/htq", service: 0).status == 200)
        let start = server.now
        let (path, other) = (try queue(), try queue())
        server.advance(to: start + Self.day - 1)
        #expect(try status(path) == "queued")
        server.advance(to: start + Self.day)
        #expect(try status(path) == "timeout")
        let response = try server.send("GET", path + "response/").object
        #expect(response["status"] as? String == "timeout" && response["time"] as? Int64 == start + Self.day)
        #expect(try #require(response["message"] as? String).contains("expired"))
        #expect(try server.send("DELETE", other + "response/").status == 204)
        #expect(try server.send("DELETE", other + "response/").status == 404)
        #expect(try server.send("GET", other + "response/").body == "{}")
        #expect(try status(other) == "timeout")
        #expect(try server.send("DELETE", other).status == 204)
        #expect(try status(other) == "canceled")
        server.advance(to: start + 2 * Self.day)
        #expect(try server.send("GET", path).status == 404)
        #expect(server.postbox.started == 0)
    }

    @Test func aLostRequestIsAnErrorAndNotSentAgain() throws {
        let paths = [try queue(), try queue()]
        // The end of the request is never reported.
        server.advance(seconds: 100)
        for path in paths {
            #expect(try status(path) == "error")
            let response = try server.send("GET", path + "response/").object
            #expect(response["status"] as? String == "error" && response["message"] is String)
        }
        #expect(server.postbox.started == 2)
        #expect(try server.send("DELETE", paths[0] + "response/").status == 204)
        #expect(try server.send("DELETE", paths[0] + "response/").status == 404)
        #expect(try server.send("DELETE", paths[1]).status == 204)
        #expect(try paths.map { try status($0) } == ["error", "canceled"])
        for path in paths { #expect(try server.send("GET", path + "response/").body == "{}") }
    }

    @Test func aLostRequestThatWasCancelledIsNotSentByAKick() throws {
        let paths = [try queue(#", "id": "a""#), try queue()]
        server.advance(seconds: 100)
        #expect(try paths.map { try status($0) } == ["error", "error"])
        for path in paths { #expect(try server.send("DELETE", path).status == 204) }
        let ids = paths.map { #""\#($0.split(separator: "/")[0])""# }.joined(separator: ",")
        #expect(try server.send("POST", "/kick/", #"{"ids": [\#(ids)]}"#, service: 0).object["kicked"] as? Int == 0)
        #expect(try paths.map { try status($0) } == ["canceled", "canceled"])
        #expect(server.postbox.started == 2)
    }

    @Test func aNotificationIsNotListedGoesFirstAndLeavesNothing() throws {
        let paths = [try queue(), try queue(#", "data": [["a", "b"]]"#), try queue()]
        #expect(server.sent.count == 2)
        #expect(try server.send("POST", "/pause/htq", service: 0).status == 200)
        #expect(try server.send("DELETE", paths[1]).status == 204)
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
        #expect(try server.send("GET", "/").tasks.count == 1)
        #expect(try server.send("POST", "/resume/htq", service: 0).status == 200)
        let told = try #require(server.sent.first { $0.head.hasPrefix("DELETE ") })
        #expect(told.url.description == "http://127.0.0.1:8888/x" && told.text.isEmpty)
        #expect(!told.head.contains("Content-Type"))
        server.failAll(.lookUp(host: "127.0.0.1", reason: "of this test"))
        #expect(try server.send("GET", "/task/\(notice)", service: 0).status == 404)
        #expect(try status(paths[1]) == "canceled" && status(paths[0]) == "error")
        server.answerAll("200 OK")
        #expect(try status(paths[2]) == "success")
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
        #expect(try server.send("POST", "/pause/htq", service: 0).status == 200)
        let first = try queue(#", "id": "a""#)
        for _ in 0..<2 { _ = try queue() }
        #expect(try server.send("PUT", "/config/htq", #"{"max_length": 1}"#, service: 0).status == 200)
        let second = try queue(#", "id": "a""#)
        #expect(try status(first) == "canceled")
        #expect(try status(second) == "queued")
        #expect(try server.send("POST", "/", #"{"url": "http://127.0.0.1:8888/x"}"#).status == 429)
    }

    @Test func anEmptyMethodOrIDCountsAsMissing() throws {
        #expect(try server.send("POST", "/pause/htq", service: 0).status == 200)
        let paths = try (0..<2).map { _ in try queue(#", "method": "", "id": """#) }
        for path in paths {
            #expect(try server.send("GET", path).object["method"] as? String == "get")
            #expect(try status(path) == "queued")
        }
    }
}
