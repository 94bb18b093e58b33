// The grammar of HTTP/1.1 responses: what is accepted and what is refused, however the bytes arrive.

import Support
import Testing

@testable import Net

/// The result of parsing a sequence of bytes that ends with the connection.
private enum Parsed: Equatable, CustomStringConvertible {
    case response(Int, fields: [String] = [], body: String = "", isPersistent: Bool = true, isTruncated: Bool = false)
    case refused
    case incomplete

    var description: String {
        switch self {
        case .response(let status, let fields, let body, let isPersistent, let isTruncated):
            "\(status) \(fields) body=\(body) persistent=\(isPersistent) truncated=\(isTruncated)"
        case .refused: "refused"
        case .incomplete: "incomplete"
        }
    }
}

private let smallLimits = ResponseLimits(head: 200, fields: 3, body: 8)

private func parse(_ pieces: [[UInt8]], answersHead: Bool = false, limits: ResponseLimits = smallLimits) -> Parsed {
    var parser = ResponseParser(limits: limits, answersHead: answersHead)
    var buffer = Buffer()
    var isComplete = false
    for piece in pieces where !isComplete {
        buffer.append(piece.span)
        do throws(Refusal) {
            isComplete = try parser.parse(&buffer)
        } catch {
            #expect(!error.detail.isEmpty)
            return .refused
        }
        #expect(isComplete || parser.missingBytes(buffer) <= limits.body + 1)
    }
    if !isComplete, !parser.parseEnd() { return .incomplete }
    let bytes = buffer.span
    let head = parser.head
    #expect(head.body.upperBound <= parser.length && parser.length <= bytes.count)
    #expect(head.body.count <= limits.body)
    func text(_ range: Range<Int>) -> String { String(decoding: range.map { bytes[$0] }, as: UTF8.self) }
    return .response(
        head.status, fields: head.fields.map { "\(text($0.name))=\(text($0.value))" }, body: text(head.body),
        isPersistent: head.isPersistent, isTruncated: head.isTruncated)
}

/// The parts of a streamed body, and how many bytes the buffer held at most.
private func stream(_ pieces: [[UInt8]]) throws -> (parts: [UInt8], most: Int, isWhole: Bool) {
    var parser = ResponseParser(
        limits: ResponseLimits(head: 200, fields: 3, body: 8, streamsBody: true), answersHead: false)
    var buffer = Buffer()
    var (parts, most, isComplete): ([UInt8], Int, Bool) = ([], 0, false)
    for piece in pieces {
        #expect(!isComplete)
        buffer.append(piece.span)
        most = max(most, buffer.count)
        isComplete = try parser.parse(&buffer)
        if !parser.hasPart { continue }
        for offset in parser.head.body { parts.append(buffer.span[offset]) }
        parser.dropBody(&buffer)
        #expect(!parser.hasPart)
    }
    if !isComplete { isComplete = parser.parseEnd() }
    #expect(!isComplete || parser.length == buffer.count)
    return (parts, most, isComplete)
}

private let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
private let isChunked = ["Transfer-Encoding=chunked"]

private let cases: [(String, Parsed)] = [
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", .response(200, fields: ["Content-Length=2"], body: "ok")),
    ("HTTP/1.1 200\r\nContent-Length:0\r\n\r\n", .response(200, fields: ["Content-Length=0"])),
    ("HTTP/1.1 404 \r\nContent-Length: 2\r\n\r\nokX", .response(404, fields: ["Content-Length=2"], body: "ok")),
    (
        "HTTP/1.9 299 \u{e9}\r\nA:  b c \r\nContent-Length: 0\r\n\r\n",
        .response(299, fields: ["A=b c", "Content-Length=0"])
    ),
    ("HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n", .response(999, fields: ["Content-Length=0"])),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", .incomplete),
    ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabc", .incomplete),
    ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r", .incomplete), ("HTTP/1.1 200 OK\r\n", .incomplete),
    ("", .incomplete),
    // Invalid status lines, fields and lengths.
    ("HTTP/1.1 20 OK\r\n\r\n", .refused), ("HTTP/1.1 2000 OK\r\n\r\n", .refused), ("HTTP/1.1 099 OK\r\n\r\n", .refused),
    ("HTTP/1.1  200 OK\r\n\r\n", .refused), ("HTTP/2.0 200 OK\r\n\r\n", .refused),
    ("HTTP/1.1 2x0 OK\r\n\r\n", .refused),
    ("http/1.1 200 OK\r\n\r\n", .refused), ("\r\nHTTP/1.1 200 OK\r\n\r\n", .refused), ("ok", .refused),
    ("HTTP/1.1 200 O\u{1}K\r\n\r\n", .refused), ("HTTP/1.1 200 OK\n\n", .refused), ("HELLO\r\n", .refused),
    ("HTTP/1.1 200 OK\r\nA\r\n\r\n", .refused), ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", .refused),
    ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", .refused), ("HTTP/1.1 200 OK\r\nA: \u{0}\r\n\r\n", .refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", .refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", .refused),
    ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", .refused),
    ("HTTP/1.1 200 OK\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n", .refused),
    ("HTTP/1.1 200 OK\r\nA: " + String(repeating: "b", count: 200), .refused),
    // Interim responses, RFC 9110 section 15.2.
    ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", .response(204)),
    (
        "HTTP/1.1 103 Hints\r\nA: b\r\nConnection: close\r\nContent-Length: 9\r\n\r\nHTTP/1.1 102 P\r\n\r\n"
            + "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        .response(200, fields: ["Content-Length=1"], body: "x")
    ),
    ("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", .refused), ("HTTP/1.1 100 Continue\r\n\r\nX", .refused),
    (String(repeating: "HTTP/1.1 100 Continue\r\n\r\n", count: 9), .refused),
    // Responses without content, whatever their fields say (RFC 9110 sections 15.3.5 and 15.4.5).
    ("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", .response(204, fields: ["Content-Length=5"])),
    ("HTTP/1.1 304 Not\r\nTransfer-Encoding: chunked\r\n\r\n", .response(304, fields: isChunked)),
    // Content that ends with the connection.
    ("HTTP/1.1 200 OK\r\n\r\nabc", .response(200, body: "abc", isPersistent: false)),
    ("HTTP/1.0 200 OK\r\n\r\n", .response(200, isPersistent: false)),
    ("HTTP/1.1 200 OK\r\n\r\n12345678", .response(200, body: "12345678", isPersistent: false)),
    ("HTTP/1.1 200 OK\r\n\r\n123456789", .response(200, body: "12345678", isPersistent: false, isTruncated: true)),
    // More content than is kept.
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n123456789",
        .response(200, fields: ["Content-Length=8"], body: "12345678")
    ),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n123456789",
        .response(
            200, fields: ["Content-Length=99999999999999999999"], body: "12345678", isPersistent: false,
            isTruncated: true)
    ),
    // Persistence, RFC 9112 section 9.3.
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n",
        .response(200, fields: ["Content-Length=0", "Connection=x, Close"], isPersistent: false)
    ),
    (
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        .response(200, fields: ["Content-Length=0"], isPersistent: false)
    ),
    (
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
        .response(200, fields: ["Content-Length=0", "Connection=keep-alive"])
    ),
    // The chunked coding, RFC 9112 section 7.1.
    (chunked + "3;x=y\r\nabc\r\n0a\r\n", .incomplete), (chunked + "0\r\n\r\n", .response(200, fields: isChunked)),
    (chunked + "3;x=y\r\nabc\r\n02\r\nde\r\n0\r\nT: u\r\n\r\nX", .response(200, fields: isChunked, body: "abcde")),
    (chunked + "8\r\n12345678\r\n0\r\n\r\n", .response(200, fields: isChunked, body: "12345678")),
    (
        chunked + "9\r\n123456789X",
        .response(200, fields: isChunked, body: "12345678", isPersistent: false, isTruncated: true)
    ),
    (
        chunked + "4\r\n1234\r\nfffffffffffffff0\r\n56789X",
        .response(200, fields: isChunked, body: "12345678", isPersistent: false, isTruncated: true)
    ),
    (chunked + "fffffffffffffff00\r\n", .refused), (chunked + "3\r\nabcd\r\n", .refused), (chunked + "x\r\n", .refused),
    (chunked + "0\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n", .refused), (chunked + "0\r\nA b\r\n\r\n", .refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", .refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", .refused),
    ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", .refused),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", .refused),
]

@Suite(.blocking) struct ResponseParserTests {
    @Test func everyCaseInOnePiece() {
        for (text, expected) in cases { #expect(parse([Array(text.utf8)]) == expected, "\(text.debugDescription)") }
    }

    @Test func everyCaseSplitAtEveryByte() {
        for (text, expected) in cases {
            let bytes = Array(text.utf8)
            for place in 0...bytes.count {
                let parsed = parse([Array(bytes[..<place]), Array(bytes[place...])])
                #expect(parsed == expected, "\(text.debugDescription) split at \(place)")
            }
            #expect(parse(bytes.map { [$0] }) == expected, "\(text.debugDescription) byte by byte")
        }
    }

    /// The result never depends on the pieces in which the bytes arrive.
    @Test func mutatedCasesAreTakenAlikeHoweverTheyArrive() {
        var random = SeededRandom()
        for (text, _) in cases {
            for _ in 0..<100 {
                var bytes = Array(text.utf8)
                for _ in 0..<Int.random(in: 1...3, using: &random) where !bytes.isEmpty {
                    let place = bytes.indices.randomElement(using: &random) ?? 0
                    switch Int.random(in: 0..<3, using: &random) {
                    case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                    case 1: bytes.remove(at: place)
                    default: bytes.insert(Array("\r\n:, ;0fH".utf8).randomElement(using: &random) ?? 0, at: place)
                    }
                }
                let answersHead = Bool.random(using: &random)
                let place = Int.random(in: 0...bytes.count, using: &random)
                let whole = parse([bytes], answersHead: answersHead)
                let halves = [Array(bytes[..<place]), Array(bytes[place...])]
                #expect(parse(halves, answersHead: answersHead) == whole, "\(random): \(bytes)")
                #expect(parse(bytes.map { [$0] }, answersHead: answersHead) == whole, "\(random): \(bytes)")
            }
        }
    }

    @Test(arguments: [
        ("HTTP/1.1 503 Try again later\r\n", "Try again later"), ("HTTP/1.1 200\r\n", ""), ("HTTP/1.1 200 \r\n", ""),
        ("HTTP/1.0 404  two  \r\n", " two  "), ("HTTP/1.1 299 \u{e9}\r\n", "\u{e9}"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 Gone by\r\n", "Gone by"),
        ("HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200\r\n", ""),
    ])
    func theReasonIsThatOfTheLastStatusLine(_ lines: String, reason: String) throws {
        let bytes = Array((lines + "Content-Length: 0\r\n\r\n").utf8)
        for place in 1...bytes.count {
            let (start, rest) = (Array(bytes[..<place]), Array(bytes[place...]))
            var parser = ResponseParser(limits: smallLimits, answersHead: false)
            var buffer = Buffer()
            buffer.append(start.span)
            let isWhole = try parser.parse(&buffer)
            buffer.append(rest.span)
            if !isWhole { #expect(try parser.parse(&buffer) == true) }
            let read = ClientResponse(bytes: buffer.span, head: parser.head).reason
            #expect(read.indices.map { read[$0] } == Array(reason.utf8), "split at \(place)")
        }
    }

    @Test func answersToHeadHaveNoContent() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        #expect(parse([Array(text.utf8)], answersHead: true) == .response(200, fields: ["Content-Length=5"]))
        #expect(parse([Array(chunked.utf8)], answersHead: true) == .response(200, fields: isChunked))
        #expect(parse([Array("HTTP/1.1 200 OK\r\n\r\n".utf8)], answersHead: true) == .response(200))
    }

    /// The parts of a streamed body are the body, however the bytes arrive, and nothing of it stays in the buffer.
    @Test func aStreamedBodyComesInParts() throws {
        var random = SeededRandom()
        let heads = ["Content-Length: 3000\r\n", "", "Transfer-Encoding: chunked\r\n"]
        for round in 0..<60 {
            let framing = round % 3
            let head = Array("HTTP/1.1 200 OK\r\n\(heads[framing])\r\n".utf8)
            let body = (0..<3000).map { _ in UInt8.random(in: 0...255, using: &random) }
            var bytes = head
            if framing == 2 {
                var rest = body[...]
                while !rest.isEmpty {
                    let chunk = rest.prefix(Int.random(in: 1...400, using: &random))
                    bytes += Array("\(String(chunk.count, radix: 16));a=b\r\n".utf8) + chunk + Array("\r\n".utf8)
                    rest = rest.dropFirst(chunk.count)
                }
                bytes += Array("0\r\nT: u\r\n\r\n".utf8)
            } else {
                bytes += body
            }
            var pieces: [[UInt8]] = []
            var rest = bytes[...]
            let longest = round < 3 ? 1 : Int.random(in: 1...500, using: &random)
            while !rest.isEmpty {
                pieces.append(Array(rest.prefix(Int.random(in: 1...longest, using: &random))))
                rest = rest.dropFirst(pieces.last?.count ?? 0)
            }
            let (parts, most, isWhole) = try stream(pieces)
            #expect(isWhole && parts == body, "\(random)")
            // A trailer line may be incomplete.
            #expect(most <= head.count + longest + 10, "\(random)")
        }
    }

    @Test func nothingIsKeptWhenNothingIsAskedFor() {
        let limits = ResponseLimits(body: 0)
        let empty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        #expect(parse([Array(empty.utf8)], limits: limits) == .response(200, fields: ["Content-Length=0"]))
        #expect(
            parse([Array((chunked + "1\r\na").utf8)], limits: limits)
                == .response(200, fields: isChunked, isPersistent: false, isTruncated: true))
    }
}
