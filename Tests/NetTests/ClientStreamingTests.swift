// Responses whose bodies the client passes on in parts.

import Foundation
import Support
import Testing

@testable import Net

@Suite(.blocking, .timeLimit(.minutes(10))) struct ClientStreamingTests {
    private static let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    /// A client that has sent a request for a stream, and the server's side of its connection.
    private func stream(
        at origin: TestOrigin, clock: TestClock = TestClock(), _ change: (inout ClientRequest) -> Void = { _ in }
    ) throws -> (TestClient, OriginPeer) {
        let client = try TestClient(clock: clock)
        try client.send(1, origin.url) {
            $0.streamsBody = true
            $0.timeoutMilliseconds = .max
            change(&$0)
        }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        return (client, peer)
    }

    /// Sends all bytes while the client reads.
    private func send(_ bytes: [UInt8], to client: TestClient, by peer: OriginPeer) throws {
        var sent = 0
        _ = try client.wait("the sending") {
            sent += max(0, peer.send(Array(bytes[sent...])))
            return sent == bytes.count ? true : nil
        }
    }

    // MARK: Parts

    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nT: u\r\n\r\n", "abc"),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 206 H\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "A\r\n0123456789\r\n00\r\n\r\n", "0123456789"
        ),
        ("HTTP/1.1 201 Yes\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""), ("HTTP/1.1 204 No\r\n\r\n", ""),
    ])
    func partsComeInAnyPieces(_ response: String, body: String) throws {
        let origin = try TestOrigin()
        let bytes = Array(response.utf8)
        for place in 1..<bytes.count {
            let (client, peer) = try stream(at: origin)
            peer.send(Array(bytes[..<place]))
            client.turn()
            peer.send(Array(bytes[place...]))
            if response.hasSuffix("until the end") { peer.halfClose() }
            let end = try client.end(of: 1)
            #expect(end.failure == nil && end.body == "" && !end.isTruncated, "split at \(place)")
            #expect((200...206).contains(end.status) && end.fields.count <= 1)
            #expect(client.streamed(1) == body, "split at \(place)")
            #expect(client.client.bufferBytes == 0)
        }
    }

    @Test func eachPartComesWhenItArrives() throws {
        let origin = try TestOrigin()
        let (client, peer) = try stream(at: origin)
        peer.send(Self.chunked)
        for number in 1...5 {
            for byte in "4\r\n<\(number)>\n\r\n".utf8 { peer.send([byte]) }
            let all = (1...number).map { "<\($0)>\n" }.joined()
            _ = try client.wait("part \(number)") { client.streamed(1) == all ? true : nil }
            #expect(client.ended.isEmpty)
        }
        peer.send("0\r\n\r\n")
        let end = try client.end(of: 1)
        #expect(end.status == 200 && end.body == "" && end.fields == ["Transfer-Encoding=chunked"])
        // The connection can be used for another request.
        try client.send(2, origin.url)
        _ = try client.request(at: peer)
        peer.send(ok)
        #expect(try client.end(of: 2).body == "ok")
        #expect(client.client.connectionCount == 1 && client.client.bufferBytes == 0)
    }

    @Test(arguments: ["chunked", "length", "end"]) func aLongStreamTakesLittleMemory(_ framing: String) throws {
        let origin = try TestOrigin()
        let (client, peer) = try stream(at: origin) { $0.bodyLimit = 10 }
        let piece = String(repeating: "0123456789abcdef", count: 1 << 12)
        let count = 160
        switch framing {
        case "chunked": peer.send(Self.chunked)
        case "length": peer.send("HTTP/1.1 200 OK\r\nContent-Length: \(count * piece.utf8.count)\r\n\r\n")
        default: peer.send("HTTP/1.1 200 OK\r\n\r\n")
        }
        var most = 0
        client.onPart = { [unowned client] _ in most = max(most, client.client.bufferBytes) }
        let bytes = Array((framing == "chunked" ? "10000\r\n\(piece)\r\n" : piece).utf8)
        for _ in 0..<count { try send(bytes, to: client, by: peer) }
        if framing == "chunked" { peer.send("0\r\n\r\n") }
        if framing == "end" { peer.halfClose() }
        let end = try client.end(of: 1)
        #expect(end.failure == nil && !end.isTruncated)
        #expect(client.streamed(1) == String(repeating: piece, count: count))
        #expect(most > 0 && most <= 256 * 1024)
        #expect(client.client.bufferBytes == 0)
    }

    /// A body that is collected would be cut.
    @Test func aStreamIsNotCutForLackOfMemory() throws {
        let origin = try TestOrigin()
        let (client, peer) = try stream(at: origin)
        client.client.isShortOfMemory = true
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + String(repeating: "x", count: 10_000))
        _ = try client.wait("the half") { client.streamed(1).utf8.count == 10_000 ? true : nil }
        peer.send(String(repeating: "x", count: 10_000))
        #expect(try !client.end(of: 1).isTruncated)
        #expect(client.streamed(1).utf8.count == 20_000)
    }

    /// Extensions of one body together are limited, but a stream may have any number of chunks.
    @Test func extensionsDoNotEndAStream() throws {
        let origin = try TestOrigin()
        let (client, peer) = try stream(at: origin)
        peer.send(Self.chunked)
        let chunk = Array(("1;" + String(repeating: "e", count: 9000) + "\r\nx\r\n").utf8)
        for number in 1...4 {
            try send(chunk, to: client, by: peer)
            _ = try client.wait("part \(number)") { client.streamed(1).count == number ? true : nil }
        }
    }

    @Test func aStreamIsNotUnpacked() throws {
        let origin = try TestOrigin()
        let (client, peer) = try stream(at: origin) { $0.decodesContent = true }
        peer.send("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain")
        #expect(try client.end(of: 1).failure == nil)
        #expect(client.streamed(1) == "plain")
    }

    // MARK: Other responses

    @Test(arguments: ["404 Not Found", "503 Later", "304 Not", "302 Found", "600 What"])
    func otherResponsesAreReportedWhole(_ status: String) throws {
        let origin = try TestOrigin()
        let (client, peer) = try stream(at: origin) { $0.bodyLimit = 5 }
        peer.send("HTTP/1.1 \(status)\r\nContent-Length: 7\r\n\r\nproblem")
        let end = try client.end(of: 1)
        #expect("\(end.status)" == status.prefix(3))
        #expect(end.body == (end.status == 304 ? "" : "probl"))
        #expect(client.parts.isEmpty)
    }

    @Test func aStreamMayFollowARedirect() throws {
        let origin = try TestOrigin()
        let (client, peer) = try stream(at: origin) { $0.redirects.limit = 1 }
        peer.send("HTTP/1.1 302 Found\r\nLocation: /next\r\nContent-Length: 4\r\n\r\ngone")
        #expect(try client.request(at: peer).hasPrefix("GET /next "))
        peer.send(ok)
        #expect(try client.end(of: 1).body == "")
        #expect(client.streamed(1) == "ok")
    }

    // MARK: Ends

    @Test func aStreamThatBreaksLosesNoPart() throws {
        let origin = try TestOrigin()
        let (client, peer) = try stream(at: origin)
        peer.send(Self.chunked + "3\r\nabc\r\n5\r\nde")
        peer.close()
        #expect(try client.end(of: 1).failure == .broken(authority: "127.0.0.1:\(origin.port)", isReset: false))
        #expect(client.streamed(1) == "abcde")
        #expect(client.client.bufferBytes == 0 && client.client.connectionCount == 0)
    }

    @Test func whatIsMalformedEndsAStream() throws {
        let origin = try TestOrigin()
        let (client, peer) = try stream(at: origin)
        peer.send(Self.chunked + "3\r\nabc\r\n")
        _ = try client.wait("a part") { client.streamed(1) == "abc" ? true : nil }
        peer.send("x\r\n")
        guard case .malformed = try client.end(of: 1).failure else {
            Issue.record("\(client.ended)")
            return
        }
    }

    @Test func silenceEndsAStream() throws {
        let origin = try TestOrigin()
        let clock = TestClock()
        let (client, peer) = try stream(at: origin, clock: clock) { $0.idleTimeoutMilliseconds = 100_000 }
        peer.send(Self.chunked)
        for number in 1...5 {
            clock.add(milliseconds: 60_000)
            peer.send("1\r\nx\r\n")
            _ = try client.wait("part \(number)") { client.streamed(1).count == number ? true : nil }
        }
        clock.add(milliseconds: 101_000)
        let authority = "127.0.0.1:\(origin.port)"
        #expect(try client.end(of: 1).failure == .timeout(.nextByte, authority: authority, milliseconds: 100_000))
        #expect(client.streamed(1) == "xxxxx")
        #expect(client.client.connectionCount == 0)
    }

    @Test func aStreamMayTakeAnyTime() throws {
        let origin = try TestOrigin()
        let clock = TestClock()
        let (client, peer) = try stream(at: origin, clock: clock) {
            $0.connectTimeoutMilliseconds = .max
            $0.idleTimeoutMilliseconds = .max
            $0.firstByteTimeoutMilliseconds = .max
        }
        peer.send(Self.chunked + "1\r\na\r\n")
        _ = try client.wait("a part") { client.streamed(1) == "a" ? true : nil }
        // Thirty years.
        clock.add(milliseconds: 946_080_000_000)
        for _ in 1...3 { client.turn() }
        peer.send("1\r\nb\r\n0\r\n\r\n")
        #expect(try client.end(of: 1).status == 200)
        #expect(client.streamed(1) == "ab")
    }

    /// With the last argument, the part is the last one, and the exchange has ended by itself.
    @Test(arguments: [false, true]) func aStreamIsBrokenOffWhenAPartArrives(isLast: Bool) throws {
        let origin = try TestOrigin()
        let (client, peer) = try stream(at: origin)
        var later: OriginPeer?
        client.onPart = { [unowned client] key in
            guard key == 1, client.parts[1]?.count == 1 else { return }
            client.client.cancel(1)
            // The key may be used again at once.
            #expect(throws: Never.self) { try client.send(1, origin.url) }
        }
        peer.send(Self.chunked + "1\r\na\r\n" + (isLast ? "0\r\n\r\n" : "1\r\nb\r\n"))
        if isLast {
            // The connection is free for the second request.
            later = peer
        } else {
            #expect(try client.wait("the close") { peer.closed() })
            later = try client.accept(at: origin)
        }
        let second = try #require(later)
        _ = try client.request(at: second)
        second.send(ok)
        #expect(try client.end(of: 1).body == "ok")
        #expect(client.client.connectionCount == 1 && client.client.bufferBytes == 0)
    }

    @Test func aStreamIsBrokenOffBetweenParts() throws {
        let origin = try TestOrigin()
        let (client, peer) = try stream(at: origin)
        peer.send(Self.chunked + "1\r\na\r\n")
        _ = try client.wait("a part") { client.streamed(1) == "a" ? true : nil }
        client.client.cancel(1)
        #expect(try client.wait("the close") { peer.closed() })
        #expect(client.ended.isEmpty && client.client.connectionCount == 0 && client.client.bufferBytes == 0)
    }

    /// Other exchanges go on while a stream has always more to read.
    @Test func aBusyStreamLeavesRoomForOthers() throws {
        let origin = try TestOrigin()
        let (client, peer) = try stream(at: origin)
        peer.send("HTTP/1.1 200 OK\r\n\r\n")
        try client.send(2, origin.url)
        let other = try client.accept(at: origin)
        let bytes = [UInt8](repeating: 0x78, count: 1 << 20)
        _ = try client.wait("the other's end") {
            peer.send(bytes)
            if other.takeRequest() != nil { other.send(ok) }
            return client.ended[2]
        }
        #expect(client.ended[1] == nil && !client.streamed(1).isEmpty)
    }
}
