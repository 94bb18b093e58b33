// The grammar of HTTP/1.1 requests: what is accepted, what is refused with which status, however the bytes arrive.

import Support
import Testing

@testable import Net

/// The result of parsing a sequence of bytes.
private enum Parsed: Equatable, CustomStringConvertible {
    case request(method: String, path: String, query: String, authority: String, body: String, rest: String)
    case refused(Int)
    case incomplete

    var description: String {
        switch self {
        case .request(let method, let path, let query, let authority, let body, let rest):
            "\(method) path=\(path) query=\(query) authority=\(authority) body=\(body) rest=\(rest)"
        case .refused(let status): "refused \(status)"
        case .incomplete: "incomplete"
        }
    }
}

/// Parses bytes that arrive in the given pieces, up to the first whole request. Does so three times: the second time, a
/// head may be remembered, and the third time, recalled.
private func parse(_ pieces: [[UInt8]], limits: RequestLimits = RequestLimits()) -> Parsed {
    var heads = HeadCache()
    let parsed = parse(pieces, limits: limits, &heads)
    for _ in 0..<2 { #expect(parse(pieces, limits: limits, &heads) == parsed) }
    return parsed
}

private func parse(_ pieces: [[UInt8]], limits: RequestLimits, _ heads: inout HeadCache) -> Parsed {
    var parser = RequestParser(limits: limits)
    var buffer = Buffer()
    var isComplete = false
    for piece in pieces {
        buffer.append(piece.span)
        if isComplete { continue }
        do throws(Refusal) {
            isComplete = try parser.parse(&buffer, &heads)
        } catch {
            return .refused(error.status)
        }
    }
    if !isComplete { return .incomplete }
    let bytes = buffer.span
    func text(_ range: Range<Int>) -> String {
        String(decoding: range.map { bytes[$0] }, as: UTF8.self)
    }
    let head = parser.head
    return .request(
        method: text(head.methodName), path: text(head.path), query: text(head.query), authority: text(head.authority),
        body: text(head.body), rest: text(parser.length..<bytes.count))
}

private func parse(_ text: String, limits: RequestLimits = RequestLimits()) -> Parsed {
    parse([Array(text.utf8)], limits: limits)
}

private func get(_ target: String, _ fields: String = "Host: h\r\n") -> String {
    "GET \(target) HTTP/1.1\r\n\(fields)\r\n"
}
private func post(_ fields: String, _ rest: String = "") -> String {
    "POST / HTTP/1.1\r\nHost: h\r\n\(fields)\r\n\(rest)"
}

private func request(
    _ method: String, _ path: String, query: String = "", authority: String = "h", body: String = "", rest: String = ""
) -> Parsed {
    .request(method: method, path: path, query: query, authority: authority, body: body, rest: rest)
}

/// Inputs with their expected results. The tests of splitting and mutation use them too.
private let cases: [(String, Parsed)] = [
    // Targets, RFC 9112 section 3.2.
    (get("/"), request("GET", "/")),
    (get("/a/b%20c?n=1&m=?/"), request("GET", "/a/b%20c", query: "n=1&m=?/")),
    (get("/?"), request("GET", "/")),
    (get("http://other:81/x?y"), request("GET", "/x", query: "y", authority: "other:81")),
    (get("HTTP://other"), request("GET", "", authority: "other")),
    (get("https://[::1]:443/"), request("GET", "/", authority: "[::1]:443")),
    ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", request("OPTIONS", "*")),
    ("CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", request("CONNECT", "", authority: "h:80")),
    ("CONNECT /x HTTP/1.1\r\nHost: h\r\n\r\n", .refused(400)),
    ("CONNECT h HTTP/1.1\r\nHost: h\r\n\r\n", .refused(400)),
    (get("*"), .refused(400)), (get("x"), .refused(400)), (get("ftp://h/"), .refused(400)),
    (get("http:///x"), .refused(400)), (get("http://user@h/"), .refused(400)), (get("http://h:x/"), .refused(400)),
    (get("/%"), .refused(400)), (get("/%4"), .refused(400)), (get("/%4g"), .refused(400)), (get("/a#b"), .refused(400)),
    (get("/\u{e4}"), .refused(400)), (get("/a|b"), .refused(400)), (get("/a b"), .refused(400)),
    (get("/\u{7f}"), .refused(400)), (get("/\"x\""), .refused(400)),
    // Request lines.
    ("\r\n\r\n" + get("/"), request("GET", "/")),
    (String(repeating: "\r\n", count: 9) + get("/"), .refused(400)),
    ("M-SEARCH / HTTP/1.1\r\nHost: h\r\n\r\n", request("M-SEARCH", "/")),
    ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", .refused(400)), ("GET /  HTTP/1.1\r\nHost: h\r\n\r\n", .refused(400)),
    ("GET / HTTP/1.1 \r\nHost: h\r\n\r\n", .refused(400)), (" GET / HTTP/1.1\r\nHost: h\r\n\r\n", .refused(400)),
    ("GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", .refused(400)), ("GET /\r\n\r\n", .refused(400)),
    ("GET\r\n\r\n", .refused(400)), ("G(T / HTTP/1.1\r\n\r\n", .refused(400)),
    ("\u{16}\u{3}\u{1}", .refused(400)),
    // Versions, RFC 9110 section 2.5.
    ("GET / HTTP/1.0\r\n\r\n", request("GET", "/", authority: "")),
    ("GET / HTTP/1.9\r\nHost: h\r\n\r\n", request("GET", "/")),
    ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", .refused(505)), ("GET / HTTP/0.9\r\nHost: h\r\n\r\n", .refused(505)),
    ("GET / http/1.1\r\nHost: h\r\n\r\n", .refused(400)), ("GET / HTTP/1\r\nHost: h\r\n\r\n", .refused(400)),
    ("GET / HTTP/1.10\r\nHost: h\r\n\r\n", .refused(400)), ("GET / HTTP/x.1\r\nHost: h\r\n\r\n", .refused(400)),
    // Host, RFC 9112 section 3.2.
    (get("/", ""), .refused(400)), (get("/", "Host: a\r\nHost: a\r\n"), .refused(400)),
    ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", .refused(400)),
    (get("/", "Host: a b\r\n"), .refused(400)), (get("/", "Host: a/b\r\n"), .refused(400)),
    (get("/", "Host: a:b\r\n"), .refused(400)), (get("/", "Host: [::1\r\n"), .refused(400)),
    (get("/", "Host: a,b\r\n"), request("GET", "/", authority: "a,b")),
    (get("/", "hOsT:\t h:8080 \t\r\n"), request("GET", "/", authority: "h:8080")),
    (get("/", "Host:\r\n"), request("GET", "/", authority: "")),
    (get("http://x/", "Host: y\r\n"), request("GET", "/", authority: "x")),
    // Fields, RFC 9112 section 5.
    (get("/", "Host : h\r\n"), .refused(400)), (get("/", "Host: h\r\nX\r\n"), .refused(400)),
    (get("/", "Host: h\r\n: x\r\n"), .refused(400)), (get("/", "Host: h\r\nA: b\r\n c\r\n"), .refused(400)),
    (get("/", "Host: h\r\n\tc\r\n"), .refused(400)), (get("/", " Host: h\r\n"), .refused(400)),
    (get("/", "Host: h\r\nA: b\rc\r\n"), .refused(400)), (get("/", "Host: h\r\nA: \u{0}\r\n"), .refused(400)),
    (get("/", "Host: h\r\nA: b\u{7f}\r\n"), .refused(400)), (get("/", "Host: h\r\nA\u{1}: b\r\n"), .refused(400)),
    (get("/", "Host: h\r\nA: \u{e4}\tb\r\n"), request("GET", "/")),
    (get("/", "Host: h\r\nA:\r\n"), request("GET", "/")),
    ("GET / HTTP/1.1\nHost: h\n\n", .refused(400)), ("GET / HTTP/1.1\r\nHost: h\n\r\n", .refused(400)),
    ("GET / HTTP/1.1\rHost: h\r\r\n\r\n", .refused(400)),
    // Content-Length, RFC 9112 section 6.3.
    (post("Content-Length: 3\r\n", "abcGET"), request("POST", "/", body: "abc", rest: "GET")),
    (post("Content-Length: 0\r\n", "GET"), request("POST", "/", rest: "GET")),
    (post("", "GET"), request("POST", "/", rest: "GET")),
    (post("Content-Length: 2\r\nContent-Length: 2\r\n", "ab"), request("POST", "/", body: "ab")),
    (post("Content-Length: 2, 02\r\n", "ab"), request("POST", "/", body: "ab")),
    (post("Content-Length: 2\r\nContent-Length: 3\r\n", "abc"), .refused(400)),
    (post("Content-Length: 2, 3\r\n", "abc"), .refused(400)), (post("Content-Length: 2,\r\n", "ab"), .refused(400)),
    (post("Content-Length:\r\n"), .refused(400)), (post("Content-Length: +2\r\n", "ab"), .refused(400)),
    (post("Content-Length: -2\r\n"), .refused(400)), (post("Content-Length: 2 2\r\n"), .refused(400)),
    (post("Content-Length: 0x2\r\n"), .refused(400)), (post("Content-Length: 2.0\r\n"), .refused(400)),
    (post("Content-Length: 67108865\r\n"), .refused(413)),
    (post("Content-Length: 99999999999999999999999999\r\n"), .refused(413)),
    (post("Content-Length: 3\r\n", "ab"), .incomplete),
    // Transfer-Encoding, RFC 9112 sections 6.1 and 7.1.
    (post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\nX"), request("POST", "/", body: "abc", rest: "X")),
    (post("Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n"), request("POST", "/")),
    (post("Transfer-Encoding: , chunked ,\r\n", "0\r\n\r\n"), request("POST", "/")),
    (
        post("Transfer-Encoding: chunked\r\n", "1\r\na\r\n00A;x=\"y\"\r\nbcdefghijk\r\n0;z\r\nT: u\r\n\r\nX"),
        request("POST", "/", body: "abcdefghijk", rest: "X")
    ),
    (post("Transfer-Encoding: chunked\r\n", "1 \t;x\r\na\r\n0\r\n\r\n"), request("POST", "/", body: "a")),
    (post("Transfer-Encoding: gzip, chunked\r\n"), .refused(501)),
    (post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"), .refused(501)),
    (post("Transfer-Encoding: chunked, gzip\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked, chunked\r\n"), .refused(400)),
    (post("Transfer-Encoding: gzip\r\n"), .refused(400)), (post("Transfer-Encoding: identity\r\n"), .refused(400)),
    (post("Transfer-Encoding:\r\n"), .refused(400)), (post("Transfer-Encoding: chunked;q=1\r\n"), .refused(400)),
    (post("Transfer-Encoding: xchunked\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), .refused(400)),
    (post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), .refused(400)),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", "x\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", "\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", ";x\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", "1 \r\na\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", "1\na\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", "1\r\nab\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", "1\r\na\n0\r\n\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", "-1\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", "1;a\u{0}\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", "4000001\r\n"), .refused(413)),
    (post("Transfer-Encoding: chunked\r\n", "fffffffffffffff1\r\n"), .refused(413)),
    (post("Transfer-Encoding: chunked\r\n", "00000000000000001\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", "0\r\nT u\r\n\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", "0\r\n T: u\r\n\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", "0\r\nT: u\n\r\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", "0\r\n\n"), .refused(400)),
    (post("Transfer-Encoding: chunked\r\n", "3\r\nab"), .incomplete),
    (post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n"), .incomplete),
    // Expectations, RFC 9110 section 10.1.1.
    (post("Expect: 100-continue\r\nContent-Length: 1\r\n", "a"), request("POST", "/", body: "a")),
    (post("Expect: tea\r\n"), .refused(417)),
    ("POST / HTTP/1.0\r\nExpect: tea\r\n\r\n", request("POST", "/", authority: "")),
]

@Suite(.blocking) struct RequestParserTests {
    @Test func everyCaseInOnePiece() {
        for (text, expected) in cases { #expect(parse(text) == expected, "\(text.debugDescription)") }
    }

    @Test func everyCaseSplitAtEveryByte() {
        for (text, expected) in cases {
            let bytes = Array(text.utf8)
            for place in 0...bytes.count {
                let parsed = parse([Array(bytes[..<place]), Array(bytes[place...])])
                #expect(parsed == expected, "\(text.debugDescription) split at \(place)")
            }
        }
    }

    @Test func everyCaseByteByByte() {
        for (text, expected) in cases {
            #expect(parse(text.utf8.map { [$0] }) == expected, "\(text.debugDescription)")
        }
    }

    /// The result never depends on the pieces in which the bytes arrive.
    @Test func mutatedCasesAreTakenAlikeHoweverTheyArrive() {
        var random = SeededRandom()
        for (text, _) in cases {
            for _ in 0..<40 {
                var bytes = Array(text.utf8)
                for _ in 0..<Int.random(in: 1...3, using: &random) where !bytes.isEmpty {
                    let place = bytes.indices.randomElement(using: &random) ?? 0
                    switch Int.random(in: 0..<3, using: &random) {
                    case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                    case 1: bytes.remove(at: place)
                    default: bytes.insert(Array("\r\n:, ;0%".utf8).randomElement(using: &random) ?? 0, at: place)
                    }
                }
                let place = Int.random(in: 0...bytes.count, using: &random)
                let whole = parse([bytes])
                #expect(
                    parse([Array(bytes[..<place]), Array(bytes[place...])]) == whole, "\(random): \(bytes)")
                #expect(parse(bytes.map { [$0] }) == whole, "\(random): \(bytes)")
            }
        }
    }

    @Test func limitsAreKeptToTheByte() {
        var limits = RequestLimits()
        limits.requestLine = 20
        limits.head = 60
        limits.fields = 3
        limits.body = 4
        let line = "GET /abc HTTP/1.1\r\n"
        #expect(line.utf8.count == 19)
        #expect(parse(line + "Host: h\r\n\r\n", limits: limits) != .refused(414))
        #expect(parse("GET /abcd HTTP/1.1\r\nHost: h\r\n\r\n", limits: limits) == request("GET", "/abcd"))
        #expect(parse("GET /abcde HTTP/1.1\r\nHost: h\r\n\r\n", limits: limits) == .refused(414))
        #expect(parse("GET /" + String(repeating: "a", count: 20), limits: limits) == .refused(414))
        let fitting = line + "Host: h\r\n" + "A: " + String(repeating: "b", count: 25) + "\r\n\r\n"
        #expect(fitting.utf8.count == 60)
        #expect(parse(fitting, limits: limits) == request("GET", "/abc"))
        #expect(
            parse(line + "Host: h\r\nA: " + String(repeating: "b", count: 26) + "\r\n\r\n", limits: limits)
                == .refused(431))
        #expect(parse(line + "Host: h\r\nA:\r\nB:\r\n\r\n", limits: limits) == request("GET", "/abc"))
        #expect(parse(line + "Host: h\r\nA:\r\nB:\r\nC:\r\n\r\n", limits: limits) == .refused(431))
        #expect(parse("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n", limits: limits) == .refused(413))
        let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        limits.head = 100
        #expect(
            parse(chunked + "2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n", limits: limits) == request("POST", "/", body: "abcd"))
        #expect(parse(chunked + "2\r\nab\r\n3\r\n", limits: limits) == .refused(413))
    }

    @Test func chunkExtensionsAndTrailersAreBounded() {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        let filler = String(repeating: "x", count: 17_000)
        #expect(parse(head + "1;\(filler)") == .refused(400))
        #expect(parse(head + "1" + String(repeating: " ", count: 17_000)) == .refused(400))
        #expect(parse(head + "0\r\nT: \(filler)") == .refused(431))
        #expect(parse(head + "0\r\n" + String(repeating: "T: u\r\n", count: 101)) == .refused(431))
    }

    @Test func persistenceFollowsVersionAndConnection() throws {
        func isPersistent(_ text: String) throws -> Bool {
            var parser = RequestParser(limits: RequestLimits())
            var buffer = Buffer()
            var heads = HeadCache()
            buffer.append(Array(text.utf8).span)
            #expect(try parser.parse(&buffer, &heads))
            return parser.head.isPersistent
        }
        #expect(try isPersistent("GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
        #expect(try !isPersistent("GET / HTTP/1.1\r\nHost: h\r\nConnection: TE, Close\r\n\r\n"))
        #expect(try !isPersistent("GET / HTTP/1.0\r\n\r\n"))
        #expect(try isPersistent("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"))
        #expect(try !isPersistent("GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n"))
    }
}
