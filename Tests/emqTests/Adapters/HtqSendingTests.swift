// What receivers get of a request of htq, and what becomes of one that cannot be sent.

import Foundation
import Support
import Testing

@testable import Net
@testable import emq

@Suite(.blocking) struct HtqSendingTests {
    private let htq: VirtualHtq

    init() throws { htq = try VirtualHtq(workers: 100) }

    /// Queues a request, and returns what the receiver gets, and the request as its client sees it.
    private func sent(
        _ more: String, url: String = "\"http://127.0.0.1:8888/x\""
    ) throws -> (request: ClientRequest, shown: [String: Any]) {
        let path = try htq.queue(more, url: url)
        let request = try htq.server.onlyRequest()
        htq.server.answerAll("200 OK")
        #expect(try htq.status(path) == "success")
        return (request, try htq.show(path))
    }

    private func field(_ name: String, of request: ClientRequest) -> [String] {
        request.head.split(whereSeparator: \.isNewline).filter { $0.lowercased().hasPrefix(name.lowercased() + ": ") }
            .map { String($0.dropFirst(name.count + 2)) }
    }

    // MARK: Data and method

    static let data: [(json: String, body: String, method: String)] = [
        (#""plain text""#, "plain text", "POST"), (#"{"a": 1}"#, "{'a': 1}", "POST"), ("[1, 2]", "[1, 2]", "POST"),
        ("true", "True", "POST"), ("false", "False", "POST"), ("1.50", "1.5", "POST"), ("0", "0", "POST"),
        ("{}", "{}", "POST"), ("[]", "[]", "POST"), (#"{"a b": "c&d=é"}"#, "{'a b': 'c&d=é'}", "POST"),
    ]

    @Test(arguments: data.indices)
    func dataIsSentAsItsTextInPython(index: Int) throws {
        let (json, body, method) = Self.data[index]
        let (request, shown) = try sent(#""data": \#(json)"#)
        let bytes = Array(body.utf8).asLatin1
        #expect(request.body == bytes && request.head.hasPrefix(method))
        #expect(field("Content-Type", of: request).isEmpty)
        #expect(shown["data"] as? String == body && shown["method"] as? String == method.lowercased())
    }

    @Test func aStringIsSentInLatin1IfItFitsAndOtherwiseInUTF8() throws {
        #expect(try sent(#""data": "\u00fc\u00ff""#).request.body == [0xFC, 0xFF])
        #expect(try sent(#""data": "ü€""#).request.body == Array("ü€".utf8))
        #expect(try sent(#""data": "ü€""#).shown["data"] as? String == "ü€")
    }

    @Test func withoutDataThereIsNoContent() throws {
        let (get, shown) = try sent(#""data": null"#)
        #expect(get.body == nil && shown["data"] is NSNull && shown["method"] as? String == "get")
        #expect(try sent(#""method": "head""#).request.body == nil)
        #expect(try sent(#""method": "delete""#).request.body == [])
        let (post, empty) = try sent(#""data": """#)
        #expect(post.head.hasPrefix("POST ") && post.body == [] && empty["data"] as? String == "")
        let (withBody, _) = try sent(#""data": "x", "method": "get""#)
        #expect(withBody.head.hasPrefix("GET ") && withBody.text == "x")
    }

    @Test func aMethodIsSentInUpperCaseAndShownAsItWasGiven() throws {
        for (json, method, shownMethod) in [
            (#""Put""#, "PUT", "Put"), (#""x-y!""#, "X-Y!", "x-y!"), ("17", "17", "17"), ("true", "TRUE", "True"),
            ("null", "GET", "get"), ("false", "GET", "get"), ("0", "GET", "get"), (#""""#, "GET", "get"),
            (#""\#(String(repeating: "m", count: 100))""#, String(repeating: "M", count: 100), nil),
        ] as [(String, String, String?)] {
            let (request, shown) = try sent(#""method": \#(json)"#)
            #expect(request.head.hasPrefix(method + " "))
            #expect(shown["method"] as? String == shownMethod ?? method.lowercased())
        }
    }

    // MARK: Headers

    @Test func theHeadersOfRequestsAreSentUnlessTheClientSetsThem() throws {
        let (request, _) = try sent("")
        #expect(field("User-Agent", of: request) == ["python-requests/2.4.3 emq"])
        #expect(field("Accept", of: request) == ["*/*"] && field("Connection", of: request) == ["keep-alive"])
        #expect(
            field("Accept-Encoding", of: request) == (ClientRequest.canDecodeContent ? ["gzip, deflate"] : []))
        #expect(request.decodesContent && request.host == nil)
        let (other, shown) = try sent(
            #""headers": {"user-agent": "mine", "Accept": null, "X-N": 1.50, "X-T": true, "X-Null": null}"#)
        #expect(field("User-Agent", of: other) == ["mine"] && field("Accept", of: other).isEmpty)
        #expect(field("X-N", of: other) == ["1.50"] && field("X-T", of: other) == ["True"])
        #expect(field("X-Null", of: other).isEmpty)
        let plain = try sent(#""headers": {"accept-encoding": null}"#).request
        #expect(field("Accept-Encoding", of: plain) == ["identity"])
        #expect((shown["headers"] as? [String: Any])?["X-T"] as? Bool == true)
    }

    @Test func theLastOfSeveralHeadersWithANameCounts() throws {
        let (request, _) = try sent(#""headers": {"A": "1", "a": "2", "B": "3", "B": "4"}"#)
        #expect(field("A", of: request) == ["2"] && field("B", of: request) == ["4"])
    }

    @Test func aHeaderIsSentInLatin1IfItFits() throws {
        #expect(try sent(#""headers": {"A": "ü"}"#).request.fields.contains(0xFC))
        #expect(field("A", of: try sent(#""headers": {"A": "ü€"}"#).request) == ["ü€"])
    }

    @Test func headersOfTheConnectionAreLeftOut() throws {
        let (request, shown) = try sent(
            #""data": "x", "headers": {"Connection": "close", "content-length": 7, "Expect": "100-continue", "#
                + #""Transfer-Encoding": "chunked", "Content-Type": "text/x"}"#)
        #expect(field("Connection", of: request) == ["keep-alive"] && field("Content-Type", of: request) == ["text/x"])
        for name in ["Content-Length", "Expect", "Transfer-Encoding"] { #expect(field(name, of: request).isEmpty) }
        #expect((shown["headers"] as? [String: Any])?["content-length"] as? Int == 7)
    }

    @Test func theHostMayBeSet() throws {
        let (request, shown) = try sent(#""headers": {"host": "other.test"}"#)
        #expect(request.host == Array("other.test".utf8) && request.url.host == "127.0.0.1")
        #expect(field("Host", of: request).isEmpty)
        #expect(shown["headers"] as? [String: String] == ["host": "other.test"])
    }

    @Test func thereMayBeManyHeaders() throws {
        let many = (0..<500).map { #""X-\#($0)": "\#($0)""# }.joined(separator: ",")
        let (request, _) = try sent(#""headers": {\#(many)}"#)
        #expect(field("X-499", of: request) == ["499"])
    }

    @Test func headersThatPythonCountsAsFalseAreNone() throws {
        for json in ["null", "[]", "{}", #""""#, "0", "false"] {
            #expect(try sent(#""headers": \#(json)"#).shown["headers"] as? [String: String] == [:], "\(json)")
        }
    }

    // MARK: Timeouts

    @Test func aTimeoutMayBeAString() throws {
        for (json, milliseconds, shown) in [
            (#""30""#, 30_000, 30), (#"" +007\n""#, 7000, 7), ("5", 5000, 5), ("1000000", 86_400_000, 1_000_000),
            (#""99999999""#, 86_400_000, 99_999_999),
        ] as [(String, Int64, Int)] {
            let (request, object) = try sent(#""timeout": \#(json)"#)
            #expect(request.connectTimeoutMilliseconds == milliseconds && object["timeout"] as? Int == shown)
        }
        let (request, object) = try sent(#""timeout": 2.5"#)
        #expect(request.connectTimeoutMilliseconds == 2500 && object["timeout"] as? Double == 2.5)
        #expect(try sent(#""timeout": null"#).shown["timeout"] as? Int == 60)
    }

    // MARK: URLs

    @Test func aURLIsSentAsRequestsQuotesIt() throws {
        for (url, target) in [
            ("http://h.test", "/"), ("http://h.test?a=b", "/?a=b"), ("HTTP://h.test/a b/ü?q=€&x=[1]#f", nil),
            ("http://h.test/%7Ea%41%2F%2f%20", "/~aA%2F%2f%20"), ("http://h.test/100%/50%-%2", "/100%25/50%25-%252"),
            ("http://h.test:81/a'\\\"<>|", "/a'%22%3C%3E%7C"), ("http://h.test/a\\nb", "/a%0Ab"),
        ] as [(String, String?)] {
            let (request, shown) = try sent("", url: "\"\(url)\"")
            let expected = target ?? "/a%20b/%C3%BC?q=%E2%82%AC&x=%5B1%5D"
            #expect(String(decoding: request.url.target, as: UTF8.self) == expected, "\(url)")
            #expect((shown["url"] as? String)?.hasPrefix(url.prefix(14)) == true)
        }
    }

    @Test func theUserAndPasswordOfAURLAreSentAsAHeader() throws {
        let (request, shown) = try sent(
            #""headers": {"authorization": "mine"}"#, url: #""http://us%65r:p%40ss:w@h.test/x""#)
        #expect(request.url.description == "http://h.test/x")
        let credentials = Data("user:p@ss:w".utf8).base64EncodedString()
        #expect(field("Authorization", of: request) == ["Basic \(credentials)"])
        #expect(shown["url"] as? String == "http://us%65r:p%40ss:w@h.test/x")
        #expect(field("Authorization", of: try sent("", url: #""http://user@h.test/""#).request).isEmpty)
    }

    static let unsendable: [(members: String, message: String)] = [
        (#""url": "foo""#, "Invalid URL 'foo': No schema supplied. Perhaps you meant http://foo?"),
        (#""url": """#, "Invalid URL '': No schema supplied. Perhaps you meant http://?"),
        (#""url": null"#, "Invalid URL 'None': No schema supplied. Perhaps you meant http://None?"),
        (#""url": 7"#, "Invalid URL '7': No schema supplied. Perhaps you meant http://7?"),
        (#""url": {"a": 1}"#, "No connection adapters were found for '{'a': 1}'"),
        (#""url": "it's""#, #"Invalid URL "it's": No schema supplied. Perhaps you meant http://it's?"#),
        (#""url": "ftp://a.test/""#, "No connection adapters were found for 'ftp://a.test/'"),
        (#""url": "localhost:80/x""#, "No connection adapters were found for 'localhost:80/x'"),
        (#""url": "httpx://a.test/""#, "No connection adapters were found for 'httpx://a.test/'"),
        (#""url": "http:///x""#, "Invalid URL 'http:///x': No host supplied"),
        (#""url": "http://:80/x""#, "Invalid URL 'http://:80/x': No host supplied"),
        (#""url": "http://a.test/%zz""#, "Invalid percent-escape sequence: 'zz'"),
        (#""url": "http://a.test:x/""#, "port"),
        (#""url": "http://ü.test/""#, "percent-encoded"),
        (#""url": "http://a.test/\#(String(repeating: "a", count: 9000))""#, "at most 8000 bytes"),
        (#""url": "http://a.test/", "method": "a b""#, "'A B' is not a method"),
        (#""url": "http://a.test/", "method": "connect""#, "'CONNECT' is not a method"),
        (#""url": "http://a.test/", "timeout": 0"#, "more than 0"),
        (#""url": "http://a.test/", "timeout": "-3""#, "more than 0"),
        (#""url": "http://a.test/", "timeout": -1e300"#, "more than 0"),
    ]

    @Test func aRequestThatCannotBeSentEndsWithAnError() throws {
        for (members, message) in Self.unsendable {
            try htq.pause()
            let answer = try htq.server.send("POST", "/", "{\(members)}")
            try #require(answer.status == 303, "\(members): \(answer.body)")
            let path = String(try #require(answer.fields["location"]).dropFirst("http://emq.test:7".count))
            #expect(try htq.status(path) == "queued" && htq.listed() == [path])
            try htq.resume()
            let response = try htq.response(path)
            #expect(Set(response.keys) == ["status", "time", "message"] && response["status"] as? String == "error")
            #expect(try #require(response["message"] as? String).contains(message), "\(response)")
            #expect(try htq.status(path) == "error")
        }
        #expect(htq.server.postbox.started == 0)
        #expect(try htq.server.send("GET", "/stats/htq", service: 0).object["dead"] as? Int == 0)
    }
}
