// Requests of the client through Unix-domain sockets.

import Foundation
import Support
import Testing

@testable import Net

@Suite(.blocking, .timeLimit(.minutes(10))) struct ClientSocketTests {
    /// A directory for the sockets of one test.
    private final class Directory {
        let url = FileManager.default.temporaryDirectory.appending(path: "emq-" + UUID().uuidString)

        init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: false) }

        deinit { try? FileManager.default.removeItem(at: url) }

        func path(_ name: String = "s") -> String { url.appending(path: name).path }
    }

    private let directory: Directory

    init() throws { directory = try Directory() }

    /// Sends a request and returns why it has no response.
    private func failure(
        at path: String, url: String = "http://localhost/", clock: TestClock = TestClock()
    ) throws -> ClientFailure? {
        let client = try TestClient(clock: clock)
        try client.send(1, url) { $0.socketPath = path }
        let failure = try client.end(of: 1).failure
        #expect(client.client.connectionCount == 0 && client.client.bufferBytes == 0)
        return failure
    }

    // MARK: Connecting

    @Test func theURLGivesTargetAndHostOnly() throws {
        let origin = try TestOrigin(path: directory.path())
        // The host has no address, and the client may connect to none.
        let client = try TestClient()
        try client.send(1, "http://nowhere.test/a?b", method: "POST", body: "content") { $0.socketPath = origin.path }
        let peer = try client.accept(at: origin)
        #expect(
            try client.request(at: peer)
                == "POST /a?b HTTP/1.1\r\nHost: nowhere.test\r\nContent-Length: 7\r\n\r\ncontent")
        peer.send(ok)
        #expect(try client.end(of: 1).body == "ok")
        try client.send(2, "http://127.0.0.1:1/") { $0.socketPath = origin.path }
        let other = try client.accept(at: origin)
        #expect(try client.request(at: other) == "GET / HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n")
        #expect(client.refusalQuestions == [])
    }

    @Test func aRequestThroughASocketCanAlwaysBegin() throws {
        let client = try TestClient()
        var request = ClientRequest(
            url: try HTTPURL(Array("http://x.test/".utf8).span), method: Array("GET".utf8), fields: [], body: nil)
        request.socketPath = directory.path()
        // More names than may be looked up at a time.
        for key in UInt64(1)...30 { try client.send(key, "http://name\(key).test/") }
        #expect(client.client.canBegin(request))
        request.socketPath = nil
        #expect(!client.client.canBegin(request))
    }

    @Test func connectionsToAPathAreUsedAgain() throws {
        let origins = [try TestOrigin(path: directory.path("a")), try TestOrigin(path: directory.path("b"))]
        let client = try TestClient()
        let peers = try origins.enumerated().map { try client.exchange(UInt64($0), at: $1, response: ok).0 }
        for key in UInt64(2)...9 {
            let place = Int(key % 2)
            try client.send(key, "http://localhost/") { $0.socketPath = origins[place].path }
            #expect(try client.request(at: peers[place]).hasPrefix("GET / "))
            peers[place].send(ok)
            #expect(try client.end(of: key).body == "ok")
        }
        #expect(origins.allSatisfy { $0.accept() == nil })
        #expect(client.client.connectionCount == 2)
    }

    @Test func aMissingPathIsAFailure() throws {
        let path = directory.path()
        let failure = try failure(at: path)
        #expect(failure == .connect(authority: path, address: nil, code: ENOENT))
        #expect("\(try #require(failure))" == "cannot connect to \(path): No such file or directory")
    }

    @Test func aPathWithoutListenerRefuses() throws {
        let path = directory.path()
        do { _ = try TestOrigin(path: path) }
        let failure = try #require(try failure(at: path))
        #expect(failure.isRefused && "\(failure)" == "cannot connect to \(path): Connection refused")
    }

    @Test(arguments: [
        (String(repeating: "p", count: 108), ENAMETOOLONG), (String(repeating: "p", count: 300), ENAMETOOLONG),
        ("", EINVAL), ("/tmp\0", EINVAL), (String(repeating: "p", count: 107), ENOENT),
    ])
    func aPathThatNoSocketCanHaveIsAFailure(_ path: String, code: Int32) throws {
        #expect(try failure(at: path) == .connect(authority: path, address: nil, code: code))
    }

    @Test func thereIsNoHTTPSThroughASocket() throws {
        let origin = try TestOrigin(path: directory.path())
        let failure = try failure(at: directory.path(), url: "https://localhost/")
        let error = TLSError("a Unix-domain socket needs http")
        #expect(failure == .tls(authority: directory.path(), error))
        #expect(origin.accept() == nil)
    }

    /// The kernel refuses to queue more than one connection that the server has not accepted.
    @Test func aFullQueueIsTriedAgain() throws {
        let origin = try TestOrigin(path: directory.path(), backlog: 0)
        let clock = TestClock()
        let client = try TestClient(clock: clock)
        for key in UInt64(1)...2 {
            try client.send(key, origin.url) {
                $0.socketPath = origin.path
                $0.connectTimeoutMilliseconds = 60_000
            }
        }
        try client.send(3, origin.url) {
            $0.socketPath = origin.path
            $0.connectTimeoutMilliseconds = 30_000
        }
        for _ in 1...5 {
            client.turn()
            clock.add(milliseconds: 5000)
        }
        clock.add(milliseconds: 6000)
        let failure = try client.end(of: 3).failure
        #expect(failure == .timeout(.connecting, authority: directory.path(), milliseconds: 30_000))
        for _ in 1...2 {
            let peer = try client.accept(at: origin)
            _ = try client.request(at: peer)
            peer.send(ok)
        }
        for key in UInt64(1)...2 { #expect(try client.end(of: key).body == "ok") }
    }

    // MARK: Redirects

    /// A client whose request a server behind the socket has redirected. It follows one redirect.
    private func redirect(to location: String) throws -> (client: TestClient, peer: OriginPeer) {
        let origin = try TestOrigin(path: directory.path())
        let client = try TestClient()
        try client.send(1, origin.url) {
            $0.socketPath = origin.path
            $0.redirects.limit = 1
        }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send("HTTP/1.1 302 Found\r\nLocation: \(location)\r\nContent-Length: 0\r\n\r\n")
        return (client, peer)
    }

    @Test(arguments: ["/next", "http://localhost:80/next", "next"])
    func aRedirectOfTheSameOriginStaysOnTheSocket(_ location: String) throws {
        let (client, peer) = try redirect(to: location)
        #expect(try client.request(at: peer) == "GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n")
        peer.send(ok)
        #expect(try client.end(of: 1).body == "ok")
    }

    @Test(arguments: ["http://127.0.0.1/", "http://localhost:8080/", "https://localhost/", "//elsewhere.test/"])
    func aRedirectDoesNotLeaveTheSocket(_ location: String) throws {
        let client = try redirect(to: location).client
        let failure = try client.end(of: 1).failure
        let detail = "it leads away from the Unix-domain socket"
        #expect(failure == .redirect(authority: directory.path(), detail: detail))
    }
}
