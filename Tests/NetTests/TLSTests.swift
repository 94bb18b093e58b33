// What only TLS has: whose certificate is accepted, and handshakes that do not end.

import Foundation
import Support
import Testing

@testable import Net

@Suite(.blocking, .timeLimit(.minutes(10)), .enabled(if: TestTLS.isAvailable, "skipped: there is no OpenSSL 3 here"))
struct TLSTests {
    // MARK: The client

    /// Sends a request to a host, at which a server has a certificate of that kind, and returns how it ends.
    private func end(of host: String, _ kind: Certificates.Kind, trust: TLSTrust? = nil) throws -> Ended {
        let origin = try TestOrigin(certificate: kind)
        let client = try TestClient(names: [host.lowercased(): ["127.0.0.1"]])
        client.client.trust = try trust ?? testTrust()
        try client.send(1, "https://\(host):\(origin.port)/")
        var peers: [OriginPeer] = []
        return try client.wait("the end") {
            if let peer = origin.accept() { peers.append(peer) }
            for peer in peers where peer.takeRequest() != nil { peer.send(ok) }
            return client.ended[1]
        }
    }

    @Test(arguments: [
        ("a.emq.test", true), ("A.Emq.Test", true), ("a.emq.test.", true), ("emq.test", false), ("a.b.emq.test", false),
        ("aemq.test", false), ("127.0.0.1", false),
    ])
    func aWildcardStandsForOneLabel(_ host: String, _ isRight: Bool) throws {
        let end = try end(of: host, .wildcard)
        #expect((end.body == "ok") == isRight, "\(end)")
        if !isRight { #expect("\(end.failure, default: "")".contains("DNS:*.emq.test, not for"), "\(end)") }
    }

    @Test(arguments: [
        Certificates.Kind.expired, .notYetValid, .wrongHost, .commonNameOnly, .unknownIssuer, .selfSigned,
        .missingIntermediate, .expiredIntermediate, .leafIssued, .client,
    ])
    func aCertificateWithAFlawIsRefused(_ kind: Certificates.Kind) throws {
        let end = try end(of: "localhost", kind)
        guard case .tls = end.failure else {
            Issue.record("\(end)")
            return
        }
    }

    /// The issuers of a trust replace those of the system, and a session with one trust is of no use to another.
    @Test func eachTrustHasItsOwnIssuers() throws {
        let foreign = try Certificates.shared.foreignAuthorityFile
        let trust = try TLSTrust(authorities: Array(Data(contentsOf: URL(fileURLWithPath: foreign))))
        for _ in 0..<2 {
            #expect(try end(of: "localhost", .unknownIssuer, trust: trust).body == "ok")
            #expect(try end(of: "localhost", .unknownIssuer).failure != nil)
            #expect(try end(of: "localhost", .good, trust: trust).failure != nil)
        }
    }

    @Test func aServerThatNeverAnswersAHandshakeTimesOut() throws {
        let origin = try TestOrigin(certificate: nil)
        let client = try TestClient()
        client.client.trust = try testTrust()
        try client.send(1, "https://127.0.0.1:\(origin.port)/") { $0.connectTimeoutMilliseconds = 80 }
        let end = try client.end(of: 1)
        #expect(
            end.failure == .timeout(.connecting, authority: "127.0.0.1:\(origin.port)", milliseconds: 80), "\(end)")
        #expect(client.client.connectionCount == 0)
    }

    /// A response that ends with its connection may have been cut by somebody else, unless the server says goodbye.
    @Test(arguments: [false, true])
    func aResponseUntilTheEndNeedsTheServersGoodbye(_ isCut: Bool) throws {
        let origin = try TestOrigin(certificate: .good)
        let client = try TestClient()
        client.client.trust = try testTrust()
        try client.send(1, origin.url)
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send("HTTP/1.1 200 OK\r\n\r\nhalf")
        if isCut { peer.shutDown() } else { peer.halfClose() }
        let end = try client.end(of: 1)
        #expect((end.body == "half") == !isCut && (end.failure == nil) == !isCut, "\(end)")
    }

    // MARK: The server

    @Test func aHandshakeHasADeadline() throws {
        let server = try TestServer(isSecure: true) { $0.handshakeTimeoutMilliseconds = 1_000_000 }
        let raw = try TestSocket(connectedTo: .ipv4(port: server.port))
        try server.pass(seconds: 500)
        #expect(!raw.isReadable(withinMilliseconds: 0))
        try server.pass(seconds: 501)
        #expect(try raw.receive().isEmpty)
    }

    @Test func ofTooManyHandshakesTheOldestIsGivenUp() throws {
        let server = try TestServer(isSecure: true) { $0.handshakes = 3 }
        let raws = try (0..<5).map { _ in
            let raw = try TestSocket(connectedTo: .ipv4(port: server.port))
            try server.letTurnsPass()
            return raw
        }
        // The handshakes of `letTurnsPass` need a place, too.
        #expect(try raws[0].receive().isEmpty)
        #expect(try raws[1].receive().isEmpty)
        #expect(try raws[2].receive().isEmpty)
        #expect(!raws[3].isReadable(withinMilliseconds: 0))
        #expect(!raws[4].isReadable(withinMilliseconds: 0))
    }

    @Test func plainHTTPGetsAnAnswerThatSaysSo() throws {
        let server = try TestServer(isSecure: true)
        let raw = try TestSocket(connectedTo: .ipv4(port: server.port))
        raw.send(Array("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n".utf8))
        var answer: [UInt8] = []
        while case let chunk = try raw.receive(), !chunk.isEmpty { answer += chunk }
        let text = String(decoding: answer, as: UTF8.self)
        #expect(text.hasPrefix("HTTP/1.1 400 Bad Request\r\n") && text.contains("https://"), "\(text)")
        #expect(text.split(separator: "HTTP/1.1").count == 1)
        #expect(server.seen.handled == 0)
    }

    /// Only what a peer's kernel has taken counts: the records around it are no part of an answer.
    @Test func anAnswerIsDeliveredOnceItsBytesHaveArrived() throws {
        let server = try TestServer(isSecure: true)
        let client = try TestTLS.standardClient
        for size in [0, 1, 16_000, 16_384, 20_000, 1 << 20] {
            let socket = try TestSocket(connectedTo: .ipv4(port: server.port), tls: client)
            socket.send(Array("GET /tracked?\(size) HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".utf8))
            var count = 0
            while case let chunk = try socket.receive(), !chunk.isEmpty { count += chunk.count }
            #expect(count > size)
        }
        try server.eventually("the end of the connections") { $0.connectionCount == 0 }
        #expect(server.seen.undelivered.isEmpty)
    }

    @Test func anAnswerThatHasNotArrivedIsReportedOnce() throws {
        let server = try TestServer(isSecure: true)
        let socket = try TestSocket(
            connectedTo: .ipv4(port: server.port), receiveBufferBytes: 4096, tls: try TestTLS.standardClient)
        socket.send(Array("GET /tracked?20000000 HTTP/1.1\r\nHost: h\r\n\r\n".utf8))
        try server.eventually("the request") { $0.handled == 1 }
        socket.resetOnClose()
        socket.close()
        try server.eventually("the end of the connection") { $0.connectionCount == 0 }
        #expect(server.seen.undelivered == [20_000_000])
    }
}
