// How much memory the server keeps for slow peers, and how it treats them when memory is short.

import Foundation
import Support
import Testing

@testable import Net

@Suite(.blocking) struct ShortageTests {
    /// The kernel buffers megabytes in each direction; the larger a request and its answer, the fewer fill that.
    private static let request = Array(
        "GET /large?5000 HTTP/1.1\r\nHost: h\r\nA: \(String(repeating: "a", count: 900))\r\n\r\n".utf8)

    /// Sends requests until the server reads no more of them.
    ///
    /// - Returns: How many bytes were sent.
    private func flood(_ peer: Peer, of server: TestServer) throws -> Int {
        let requests = Array(repeatElement(Self.request, count: 256).joined())
        var sent = 0
        var attempts = 0
        while attempts < 3 {
            let count = peer.socket.sendNow(requests[(sent % requests.count)...])
            if count > 0 {
                sent += count
                attempts = 0
            } else {
                attempts += 1
                try server.letTurnsPass()
            }
        }
        return sent
    }

    @Test func aPeerThatReadsNothingIsServedLittle() throws {
        let server = try TestServer()
        let peer = try server.connect(receiveBuffer: 4096)
        let sent = try flood(peer, of: server)
        #expect(server.seen.bufferBytes > 0)
        // Another connection may still be open.
        #expect(server.seen.bufferBytes <= (192 << 10) + 2 * idleBytes)
        // While memory is not short, a slow peer keeps its connection.
        for _ in 0..<10 { try server.pass(seconds: 10) }
        let count = (sent + peer.socket.pendingCount) / Self.request.count + 1
        let all = Array(repeatElement(Self.request, count: count).joined())
        // The rest of the last request can be sent only while the answers are read, so another thread sends it.
        let socket = peer.socket
        Thread.detachNewThread {
            socket.send(Array(all[sent...]))
            socket.halfClose()
        }
        var received = 0
        while case let chunk = try peer.receive(1 << 20), !chunk.isEmpty { received += chunk.count }
        #expect(received > count * 5000)
        try server.eventually("all requests") { $0.handled == count }
        try server.eventually("all of its memory") { $0.bufferBytes == 0 }
    }

    @Test func unreadAnswersStayWithinTheBudget() throws {
        // A TLS connection counts, also without an answer.
        let budget = (TestTLS.isOverTLS ? 512 : 256) << 10
        let server = try TestServer { $0.bufferBytes = budget }
        var peers: [Peer] = []
        for _ in 0..<12 {
            let peer = try server.connect(receiveBuffer: 4096)
            _ = try flood(peer, of: server)
            peers.append(peer)
        }
        // Once memory is short, a connection gets no more of it than it has.
        #expect(server.seen.bufferBytes < budget + 12 * (80 << 10))
        try server.eventually("room", passingSeconds: 1) { $0.bufferBytes <= budget }
        #expect(server.seen.connectionCount < 12)
        // The server closes no more connections than it must.
        #expect(server.seen.connectionCount >= 2)
        let other = try server.connect()
        other.sendGet("/")
        #expect(try other.body() == "ok")
    }

    @Test func aLargeAnswerThatIsBeingReadTakesLessAndLess() throws {
        let count = 20_000_000
        let server = try TestServer { $0.bufferBytes = 1 << 20 }
        let peer = try server.connect()
        peer.sendGet("/large?\(count)")
        try server.eventually("the answer") { $0.bufferBytes >= count - (10 << 20) }
        let before = server.seen.bufferBytes
        var received = 0
        var lastPass = 0
        var isLess = false
        while true {
            let chunk = try peer.receive(256 << 10)
            if chunk.isEmpty { break }
            received += chunk.count
            if received - lastPass > 2_000_000 {
                lastPass = received
                try server.pass(seconds: 3)
            }
            if received >= 12_000_000, !isLess {
                try server.eventually("the memory of what was sent") { $0.bufferBytes <= before - 10_000_000 }
                isLess = true
            }
            if received >= count, chunk.last == UInt8(ascii: "x"), !peer.isReadable { break }
        }
        #expect(received > count)
        try server.eventually("all of its memory") { $0.bufferBytes == $0.connectionCount * idleBytes }
        #expect(server.seen.connectionCount >= 1)
    }

    @Test func whatIsGivenUpForLackOfMemoryIsReported() throws {
        let server = try TestServer { $0.bufferBytes = 64 << 10 }
        let peer = try server.connect(receiveBuffer: 4096)
        peer.sendGet("/tracked?10000000")
        try server.eventually("the report", passingSeconds: 1) { $0.undelivered == [10_000_000] }
        // The connection is reset, so an answer reported as lost never arrives in full.
        #expect(throws: SocketFailure.self) { try peer.receiveAll() }
    }

    @Test func slowRequestsAreRefusedWhenMemoryIsShort() throws {
        let server = try TestServer { $0.bufferBytes = 300 << 10 }
        let peers = try (0..<6).map { _ in try server.connect() }
        for peer in peers {
            peer.send(
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n" + String(repeating: "x", count: 40_000))
        }
        try server.eventually("the requests") { $0.bufferBytes > 300 << 10 }
        try server.eventually("room", passingSeconds: 1) { $0.bufferBytes <= 300 << 10 }
        var refused = 0
        for peer in peers {
            // Requests that were not refused continue.
            peer.send(String(repeating: "x", count: 20_000))
            let answer = try peer.received(through: "\r\n\r\n")
            if answer.hasPrefix("HTTP/1.1 503 ") { refused += 1 } else { #expect(answer.hasPrefix("HTTP/1.1 200 ")) }
        }
        #expect((1..<6).contains(refused))
    }
}
