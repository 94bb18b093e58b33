// Heads that a server remembers: what it recalls is what it would parse.

import Support
import Testing

@testable import Net

@Suite(.blocking) struct HeadCacheTests {
    /// What matters of a parsed request.
    private struct Parsed: Equatable {
        var key: UInt64 = 0
        var body = ""
        var requestID = ""
        var traceparent = ""
        var fieldCount = 2
        var isFromBrowser = false
        var status = 200
    }

    private struct Connection: ~Copyable {
        var parser: RequestParser

        init(isSecure: Bool = false, limits: RequestLimits = RequestLimits()) {
            parser = RequestParser(limits: limits, isSecure: isSecure)
        }

        mutating func parse(_ request: String, _ heads: inout HeadCache) -> Parsed {
            var buffer = Buffer()
            buffer.append(Array(request.utf8).span)
            do throws(Refusal) {
                guard try parser.parse(&buffer, &heads) else { return Parsed(status: 0) }
            } catch {
                return Parsed(status: error.status)
            }
            let bytes = buffer.span
            func text(_ range: Range<Int>) -> String { String(decoding: range.map { bytes[$0] }, as: UTF8.self) }
            let head = parser.head
            let parsed = Parsed(
                key: head.key, body: text(head.body), requestID: text(head.value(ofField: head.requestIDPlace)),
                traceparent: text(head.value(ofField: head.traceparentPlace)), fieldCount: head.fields.count,
                isFromBrowser: head.isFromBrowser)
            #expect(parser.length == bytes.count)
            parser.reset()
            return parsed
        }
    }

    private static let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    private func post(_ path: String = "/", _ fields: String = "", _ body: String) -> String {
        "POST \(path) HTTP/1.1\r\nHost: h\r\n\(fields)Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    @Test func aHeadIsRecalledAtThirdSightWithAnotherBody() {
        var heads = HeadCache()
        var connection = Connection()
        #expect(connection.parse(post("/", "", "first"), &heads) == Parsed(body: "first"))
        let second = connection.parse(post("/", "", "other"), &heads)
        #expect(second.key != 0 && second.body == "other")
        #expect(connection.parse(post("/", "", "third"), &heads) == Parsed(key: second.key, body: "third"))
        // Content-Length has as many digits.
        #expect(connection.parse(post("/", "", "seventh"), &heads) == Parsed(key: second.key, body: "seventh"))
        var other = Connection()
        #expect(other.parse(post("/", "", "of another"), &heads).key != second.key)
        #expect(other.parse(post("/", "", "eighth"), &heads) == Parsed(key: second.key, body: "eighth"))
    }

    /// What came after a head the last time is only a guess, also if another head has taken its place since.
    @Test func headsInAnyOrderAreRecalledAsThemselves() {
        var heads = HeadCache()
        var connection = Connection()
        var keys: [String: UInt64] = [:]
        var random = SeededRandom()
        // Six heads with one request line, of which there is room for four, and one with another line.
        let requests = (0..<6).map { post("/a", "A: \($0)\r\n", "x\($0)") } + [post("/b", "", "y")]
        for _ in 0..<2000 {
            let place = Int.random(in: 0..<requests.count, using: &random)
            let parsed = connection.parse(requests[place], &heads)
            #expect(parsed.body == (place < 6 ? "x\(place)" : "y") && parsed.fieldCount == (place < 6 ? 3 : 2))
            if parsed.key == 0 { continue }
            for (request, key) in keys where request != requests[place] { #expect(key != parsed.key, "\(random)") }
            keys[requests[place]] = parsed.key
        }
        #expect(keys.count == requests.count)
    }

    @Test func headsThatDifferHaveOtherKeys() {
        var heads = HeadCache()
        var connection = Connection()
        var keys: Set<UInt64> = []
        let variants = ["A: 1\r\n", "A: 2\r\n", "a: 1\r\n", "A:1 \r\n", "B: 1\r\n"]
        for fields in variants {
            for _ in 0..<2 { _ = connection.parse(post("/", fields, "x"), &heads) }
            keys.insert(connection.parse(post("/", fields, "x"), &heads).key)
        }
        #expect(keys.count == variants.count && !keys.contains(0))
        // There are four places for heads with one request line.
        #expect(!keys.contains(connection.parse(post("/", variants[0], "x"), &heads).key))
        #expect(keys.contains(connection.parse(post("/", variants[4], "x"), &heads).key))
    }

    @Test func tracesMayDifferAndAreChecked() {
        var heads = HeadCache()
        var connection = Connection()
        func fields(_ id: String, _ trace: String) -> String { "X-Request-Id: \(id)\r\ntraceparent: \(trace)\r\n" }
        for _ in 0..<2 { _ = connection.parse(post("/", fields("id-1", Self.trace), "x"), &heads) }
        let known = connection.parse(post("/", fields("id-2", Self.trace), "x"), &heads)
        #expect(known.key != 0 && known.requestID == "id-2" && known.traceparent == Self.trace)
        let other = "00-" + Self.trace.dropFirst(3).map { $0 == "b" ? "c" : String($0) }.joined()
        #expect(
            connection.parse(post("/", fields("id-3", other), "x"), &heads)
                == Parsed(key: known.key, body: "x", requestID: "id-3", traceparent: other, fieldCount: 4))
        let invalid = "zz" + Self.trace.dropFirst(2)
        let parsed = connection.parse(post("/", fields("id-3", invalid), "x"), &heads)
        #expect(parsed.key != known.key && parsed.requestID == "id-3" && parsed.traceparent.isEmpty)
        let quoted = connection.parse(post("/", fields("id\"4", Self.trace), "x"), &heads)
        #expect(quoted.key != known.key && quoted.requestID.isEmpty && quoted.traceparent == Self.trace)
    }

    @Test func whatIsInTheHolesIsNotTrusted() {
        var heads = HeadCache()
        var connection = Connection()
        let long = "X-Request-Id: 0123456789abcdef\r\n"
        for _ in 0..<3 { _ = connection.parse(post("/", long, "x"), &heads) }
        // As long as the value, but two fields.
        let smuggled = "X-Request-Id: 0\r\nExpect: nothing\r\n"
        #expect("0\r\nExpect: nothin".utf8.count == 17)
        #expect(connection.parse(post("/", smuggled, "x"), &heads).status == 417)
        var next = Connection()
        let length = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"
        for _ in 0..<3 { _ = next.parse(length, &heads) }
        #expect(next.parse(length.replacing("Length: 1", with: "Length: x"), &heads).status == 400)
    }

    @Test func credentialsAreNotComparedButChecked() {
        var heads = HeadCache()
        var connection = Connection()
        func fields(_ value: String) -> String { "Authorization: \(value)\r\n" }
        for _ in 0..<2 { _ = connection.parse(post("/", fields("Bearer one"), "x"), &heads) }
        let known = connection.parse(post("/", fields("Bearer one"), "x"), &heads)
        #expect(known.key != 0)
        #expect(connection.parse(post("/", fields("Bearer two"), "x"), &heads) == known)
        #expect(connection.parse(post("/", fields("Bearer more"), "x"), &heads).key == 0)
        // As long as the value, but with blanks at its end, which do not belong to it.
        #expect(connection.parse(post("/", fields("Bearer t  "), "x"), &heads).key != known.key)
        #expect(connection.parse(post("/", fields("Bear\r\nA: b"), "x"), &heads).fieldCount == 4)
        #expect(connection.parse(post("/", fields("Bearer \u{1}wo"), "x"), &heads).status == 400)
        for _ in 0..<4 { #expect(connection.parse(post("/", fields("a") + fields("b"), "x"), &heads).key == 0) }
    }

    /// Parses requests that are a little damaged, with remembered heads and without.
    @Test func aRecalledHeadIsWhatParsingItGives() {
        var random = SeededRandom()
        var heads = HeadCache()
        let requests = [
            post("/enqueue/q", "", "12345"),
            post("/wait/", "Authorization: Bearer abc\r\nX-Request-Id: id-1\r\ntraceparent: \(Self.trace)\r\n", "x"),
            post("/ack/?a=b", "Origin: http://h\r\nConnection: close\r\nAccept: */*\r\n", "1234567890"),
            "HEAD http://other:1/a?b HTTP/1.1\r\nHost: h\r\nUser-Agent: Mozilla/5\r\n\r\n",
        ].map { Array($0.utf8) }
        let bytes = Array("0159aZf-:;,. \t\r\n\"\\%/\u{0}é".utf8)
        func parse(_ request: [UInt8], _ parser: inout RequestParser, _ heads: inout HeadCache) -> String {
            var buffer = Buffer()
            buffer.append(request.span)
            // After any other request, the connection ends.
            let used = parser
            parser = RequestParser(limits: RequestLimits())
            var current = used
            do throws(Refusal) {
                guard try current.parse(&buffer, &heads) else { return "incomplete" }
            } catch {
                return "\(error)"
            }
            var head = current.head
            head.key = 0
            defer {
                current.reset()
                parser = current
            }
            return "\(current.length) \(head)"
        }
        var connection = RequestParser(limits: RequestLimits())
        var recalled = 0
        for _ in 0..<5000 {
            var request = requests.randomElement(using: &random)!
            for _ in 0..<Int.random(in: 0...2, using: &random) {
                let place = Int.random(in: 0..<request.count, using: &random)
                request[place] = bytes.randomElement(using: &random)!
            }
            var none = HeadCache()
            var first = RequestParser(limits: RequestLimits())
            let wanted = parse(request, &first, &none)
            let found = parse(request, &connection, &heads)
            #expect(found == wanted, "\(String(decoding: request, as: UTF8.self)), \(random)")
            var head = RequestHead()
            if heads.recall(request.span, into: &head) != nil { recalled += 1 }
        }
        #expect(recalled > 1000, "\(random)")
    }

    @Test func limitsHoldForRecalledHeads() {
        var limits = RequestLimits()
        limits.body = 50
        var heads = HeadCache()
        var connection = Connection(limits: limits)
        let body = String(repeating: "x", count: 50)
        for _ in 0..<3 { #expect(connection.parse(post("/", "", body), &heads).body == body) }
        #expect(connection.parse(post("/", "", body + "x"), &heads).status == 413)
    }

    @Test func aConnectionStaysSecureOrPlain() {
        var heads = HeadCache()
        var plain = Connection()
        var secure = Connection(isSecure: true)
        for _ in 0..<3 {
            _ = plain.parse(post("/", "", "x"), &heads)
            #expect(!plain.parser.head.isSecure)
            _ = secure.parse(post("/", "", "x"), &heads)
            #expect(secure.parser.head.isSecure)
        }
    }

    /// What a parser kept of a remembered head must not show in a head that is parsed.
    @Test func nothingOfARecalledHeadIsLeft() {
        var heads = HeadCache()
        var connection = Connection()
        let browser = "Origin: http://h\r\nX-Request-Id: one\r\n"
        for _ in 0..<3 {
            let parsed = connection.parse(post("/a?b=c", browser, "x"), &heads)
            #expect(parsed.isFromBrowser && parsed.fieldCount == 4 && parsed.requestID == "one")
        }
        #expect(connection.parse("GET /d HTTP/1.1\r\nHost: other\r\n\r\n", &heads) == Parsed(fieldCount: 1))
    }

    /// A refusal may come before the next request has been parsed.
    @Test func aRefusalForgetsTheHeadOfTheRequestBefore() throws {
        var heads = HeadCache()
        var connection = Connection(isSecure: true)
        let request = "HEAD / HTTP/1.1\r\nHost: h\r\nX-Request-Id: one\r\n\r\n"
        for _ in 0..<3 { _ = connection.parse(request, &heads) }
        #expect(connection.parser.head.key != 0)
        connection.parser.forgetAnsweredHead()
        #expect(connection.parser.head.key == 0 && connection.parser.head.method == .other)
        #expect(!connection.parser.head.hasTraceFields && connection.parser.head.isSecure)
        // The head of a request that is under way stays.
        var buffer = Buffer()
        buffer.append(Array(request.utf8).span)
        let isComplete = try connection.parser.parse(&buffer, &heads)
        #expect(isComplete)
        connection.parser.forgetAnsweredHead()
        #expect(connection.parser.head.key != 0 && connection.parser.head.method == .head)
    }

    @Test func longHeadsAndRareOnesAreNotRemembered() {
        var heads = HeadCache()
        var connection = Connection()
        let long = "A: \(String(repeating: "a", count: HeadCache.maximumLength))\r\n"
        for _ in 0..<4 { #expect(connection.parse(post("/", long, "x"), &heads).key == 0) }
        let lengths = "Content-Length: 1\r\n"
        for _ in 0..<4 { #expect(connection.parse(post("/", lengths, "x"), &heads).key == 0) }
        for number in 0..<100 { #expect(connection.parse(post("/\(number)", "", "x"), &heads).key == 0) }
    }
}
