// httpqueue in virtual time: when callbacks are called, and when retries end.

import Foundation
import Net
import Support
import Testing

@testable import emq

@Suite(.blocking) struct HttpqueueTimeTests {
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
        let executeTime = start / 1000 + 15
        server.advance(to: start + 14_999)
        #expect(server.sent.isEmpty)
        server.advance(to: start + 15_000)
        let request = try server.onlyRequest()
        #expect(request.text == #"{"id":"\#(id)","topic":"order","content":"hello"}"#)
        #expect(request.head.hasPrefix("POST http://127.0.0.1:8888/\n"))
        #expect(!request.head.contains("Emq-"))
        #expect(request.timeoutMilliseconds == 600_000 && request.bodyLimit == 16 << 20)
        // Go's client stops after ten requests.
        #expect(request.redirects.limit == 9)
        for (failed, pause) in [(1, 10), (2, 20), (3, 40)] {
            server.answerAll("200 OK", #"{"code":101}"#)
            let task = try query(id).object
            #expect(task["has_retry"] as? Int == failed)
            #expect(task["execute_time"] as? Int64 == executeTime)
            let failure = server.now
            server.advance(to: failure + Int64(pause) * 1000 - 1)
            #expect(server.sent.isEmpty)
            server.advance(to: failure + Int64(pause) * 1000)
            _ = try server.onlyRequest()
            #expect(try query(id).object["execute_time"] as? Int64 == executeTime)
        }
        server.answerAll("500 Internal Server Error")
        #expect(try query(id).status == 404)
        server.advance(seconds: 100_000)
        #expect(server.sent.isEmpty)
    }

    @Test func theExecuteTimeOfATaskWithoutDelayIsThatOfItsCreation() throws {
        let id = try create(#"{"topic":"order","retry":3,"callback":"http://127.0.0.1:8888/"}"#)
        let start = server.now / 1000
        server.advance(seconds: 5)
        server.answerAll("200 OK", "{}")
        #expect(try query(id).object["execute_time"] as? Int64 == start)
        server.advance(seconds: 10)
        #expect(try query(id).object["execute_time"] as? Int64 == start)
        #expect(try query(id).object["creat_time"] as? Int64 == start)
    }

    @Test func numbersBelowZeroCountAsZero() throws {
        let id = try create(#"{"topic":"order","delay":-15,"retry":-3,"callback":"http://127.0.0.1:8888/"}"#)
        let task = try query(id).object
        #expect(task["max_retry"] as? Int == 0 && task["execute_time"] as? Int64 == server.now / 1000)
        server.answerAll("200 OK", "{}")
        #expect(try query(id).status == 404)
        server.advance(seconds: 100)
        #expect(server.sent.isEmpty)
    }

    @Test func aTaskOfAnEarlierVersionHasItsExecuteTimeToo() throws {
        let id = try create(order)
        // Earlier versions kept no metadata with a task.
        #expect(try server.send("GET", "/task/\(id)", service: 0).object["metadata"] == nil)
        #expect(try query(id).object["execute_time"] as? Int64 == server.now / 1000 + 15)
    }

    @Test func anyIntegerCountsRetriesAndSecondsAsInGo() throws {
        let callback = #""callback":"http://127.0.0.1:8888/""#
        var task = try query(create(#"{"topic":"order","retry":4294967296,\#(callback)}"#)).object
        #expect(task["max_retry"] as? Int == 4_294_967_295)
        task = try query(
            create(#"{"topic":"order","delay":\#(Int64.max),"retry":\#(Int64.max),\#(callback)}"#)
        ).object
        #expect(task["max_retry"] as? Int == 4_294_967_295)
        for (name, value) in [("retry", "1.5"), ("retry", "9223372036854775808"), ("delay", #""1""#)] {
            let answer = try server.send("POST", "/create", #"{"topic":"order","\#(name)":\#(value),\#(callback)}"#)
            #expect(answer.status == 400)
            #expect(answer.body.hasPrefix("\(name) must be a whole number from 0 to "), "\(answer.body)")
        }
    }

    @Test(arguments: [
        #"{"code":100}"#, " {\n\t\"code\" : 100 }\r\n ", #"{"other":[{"code":1}],"code":100,"x":null}"#,
        #"{"CODE":100}"#, #"{"\u0063od\u0045":100}"#, #"{"code":99,"code":100}"#, #"{"code":100,"code":null}"#,
    ])
    func anAnswerThatGoReadsAsCode100IsSuccess(_ body: String) throws {
        let id = try create(order)
        server.advance(seconds: 15)
        server.answerAll("500 Internal Server Error", body)
        #expect(try query(id).status == 404)
    }

    @Test(arguments: [
        "", "100", "null", "[]", #"[{"code":100}]"#, "{}", #"{"code":null}"#, #"{"code":101}"#, #"{"code":"100"}"#,
        #"{"code":100.0}"#, #"{"code":1e2}"#, #"{"code":true}"#, #"{"code":[100]}"#, #"{"code":0100}"#,
        #"{"code":100"#, #"{"code":100}x"#, #"{"code":100}{}"#, #"{"code":100,}"#, "{\"code\":100,\"x\":\"a\nb\"}",
        #"{"code":100,"code":101}"#, #"{"code":"x","code":100}"#, #"{"code":100000000000000000000,"code":100}"#,
        #"{"codes":100}"#, #"{"data":{"code":100}}"#, "\u{FEFF}{\"code\":100}", #"{'code':100}"#,
    ])
    func anyOtherAnswerIsAFailure(_ body: String) throws {
        let id = try create(order)
        server.advance(seconds: 15)
        server.answerAll("200 OK", body)
        #expect(try query(id).object["has_retry"] as? Int == 1)
    }

    @Test(arguments: [
        ("\u{FEFF}{}", "invalid JSON (at byte 0: expected a value, got the byte 0xEF); success is JSON with code 100"),
        (#"{"code":101}"#, "code 101; success is code 100"), ("{}", "no code; success is code 100"),
        (#"{"code":100.0}"#, "code 100.0; success is the integer 100"),
        (#"{"code":"100"}"#, #"code "100"; success is the integer 100"#),
        (
            #"{"code":[\#(String(repeating: "1", count: 1000))],"code":100}"#,
            "code [\(String(repeating: "1", count: 59))…; success is the integer 100"
        ),
    ])
    func theErrorSaysWhatTheAnswerWas(_ body: String, _ error: String) throws {
        let id = try create(#"{"topic":"order","callback":"http://127.0.0.1:8888/"}"#)
        server.answerAll("200 OK", body)
        let task = try server.send("GET", "/task/\(id)", service: 0).object
        #expect(task["error"] as? String == "http://127.0.0.1:8888/ answered 200 with \(error)")
    }

    @Test func invalidUTF8InAStringDoesNotMatter() throws {
        for bytes: [UInt8] in [[0xE9], [0xC3], [0xC0, 0xAF], [0xED, 0xA0, 0x80], [0xFF, 0xFE], [0xF0, 0x9F]] {
            let id = try create(#"{"topic":"order","callback":"http://127.0.0.1:8888/"}"#)
            let (name, value) = (Array(#"{"te"#.utf8) + bytes, Array(#"":"caf"#.utf8) + bytes)
            server.answerAll("200 OK", name + value + Array(#"","code":100}"#.utf8))
            #expect(try server.send("GET", "/task/\(id)", service: 0).status == 404)
        }
        // Outside of a string it does.
        let id = try create(#"{"topic":"order","callback":"http://127.0.0.1:8888/"}"#)
        server.answerAll("200 OK", Array(#"{"code":100}"#.utf8) + [0xE9])
        #expect(try server.send("GET", "/task/\(id)", service: 0).object["state"] as? String == "dead")
    }

    @Test func theCodeIsFoundAmongManyMembersAndOnlyInAWholeAnswer() throws {
        let members = (0..<20_000).map { #""é\#($0)":[\#($0)],"# }.joined()
        var id = try create(order)
        server.advance(seconds: 15)
        server.answerAll("200 OK", #"{\#(members)"code":100}"#)
        #expect(try query(id).status == 404)
        id = try create(#"{"topic":"order","callback":"http://127.0.0.1:8888/"}"#)
        server.answerAll("200 OK", #"{"code":100,"x":"\#(String(repeating: "x", count: 16 << 20))"}"#)
        let task = try server.send("GET", "/task/\(id)", service: 0).object
        #expect(
            task["error"] as? String
                == "http://127.0.0.1:8888/ answered 200 with more bytes than emq could read (16777216); success is "
                + "JSON with code 100")
        id = try create(#"{"topic":"order","callback":"http://127.0.0.1:8888/"}"#)
        server.answerAll("200 OK", #"{"code":100"#)
        let other = try server.send("GET", "/task/\(id)", service: 0).object
        #expect(
            other["error"] as? String
                == "http://127.0.0.1:8888/ answered 200 with invalid JSON (at byte 11: expected ',' or '}', got the "
                + "end); success is JSON with code 100")
    }

    @Test func aResultKeepsTheBeginningOfALongAnswer() throws {
        #expect(try server.send("PUT", "/config/httpqueue%2Forder", #"{"keep":60}"#, service: 0).status == 200)
        let id = try create(#"{"topic":"order","callback":"http://127.0.0.1:8888/"}"#)
        let answer = #"{"code":100,"x":"\#(String(repeating: "x", count: 2 << 20))"}"#
        server.answerAll("200 OK", answer)
        let task = try server.send("GET", "/result/\(id)", service: 0).object
        #expect(task["state"] as? String == "done")
        let result = try #require(task["result"] as? [String: Any])
        #expect(result["truncated"] as? Bool == true)
        #expect(result["body"] as? String == String(answer.prefix(1 << 20)))
    }

    @Test func memberNamesAreCaseInsensitiveAsInGo() throws {
        let id = try create(#"{"Topic":"order","R\u0045TRY":3,"Callback":"http://127.0.0.1:8888/"}"#)
        #expect(try query(id).object["max_retry"] as? Int == 3)
        server.answerAll("200 OK", #"{"Code":100}"#)
        #expect(try query(id).status == 404)
        server.advance(seconds: 100)
        #expect(server.sent.isEmpty)
    }
}
