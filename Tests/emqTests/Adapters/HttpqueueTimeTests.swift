// httpqueue in virtual time: when callbacks are called, and when retries end.

import Foundation
import Net
import Testing

@testable import emq

@Suite struct HttpqueueTimeTests {
    private let server: VirtualServer

    init() throws { server = try VirtualServer(Adapters(frontEnds: [Httpqueue()], couriers: [HttpqueueCourier()])) }

    private func create(_ json: String) throws -> String {
        let answer = try server.send("POST", "/create", json)
        #expect(answer.status == 200, "\(answer.body)")
        return try #require(try answer.object["id"] as? String)
    }

    private func query(_ id: String) throws -> Response { try server.send("POST", "/query", #"{"id":"\#(id)"}"#) }

    private let order =
        #"{"topic":"order","delay":15,"retry":3,"callback":"http://127.0.0.1:8888/","content":"hello"}"#

    @Test func theCallbackIsCalledAfterItsDelayAndThenAfter10And20And40Seconds() throws {
        let id = try create(order)
        let start = server.now
        server.advance(to: start + 14_999)
        #expect(server.sent.isEmpty)
        server.advance(to: start + 15_000)
        let request = try server.onlyRequest()
        #expect(request.text == #"{"id":"\#(id)","topic":"order","content":"hello"}"#)
        #expect(request.head.hasPrefix("POST http://127.0.0.1:8888/\n"))
        #expect(!request.head.contains("Emq-"))
        #expect(request.timeoutMilliseconds == 600_000)
        for (failed, pause) in [(1, 10), (2, 20), (3, 40)] {
            server.answerAll("200 OK", #"{"code":101}"#)
            let task = try query(id).object
            #expect(task["has_retry"] as? Int == failed)
            #expect(task["execute_time"] as? Int64 == server.now / 1000 + Int64(pause))
            let failure = server.now
            server.advance(to: failure + Int64(pause) * 1000 - 1)
            #expect(server.sent.isEmpty)
            server.advance(to: failure + Int64(pause) * 1000)
            _ = try server.onlyRequest()
        }
        #expect(try query(id).status == 200)
        server.answerAll("500 Internal Server Error")
        #expect(try query(id).status == 404)
        server.advance(seconds: 100_000)
        #expect(server.sent.isEmpty)
    }

    @Test func memberNamesAreCaseInsensitiveAsInGo() throws {
        let id = try create(#"{"Topic":"order","RETRY":3,"Callback":"http://127.0.0.1:8888/"}"#)
        #expect(try query(id).object["max_retry"] as? Int == 3)
        server.answerAll("200 OK", #"{"Code":100}"#)
        #expect(try query(id).status == 404)
        server.advance(seconds: 100)
        #expect(server.sent.isEmpty)
    }
}
