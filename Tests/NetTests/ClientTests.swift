// The client and a server that each test controls, over real sockets.

import Foundation
import Support
import Synchronization
import Testing

@testable import Net

@Suite(.blocking, .timeLimit(.minutes(10))) struct ClientTests {
    // MARK: One exchange

    @Test func sendsWhatItIsGivenAndReportsWhatComes() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(7, origin.url + "a?b", method: "PUT", fields: "A: b\r\nC: d\r\n", body: "content")
        #expect(client.client.exchangeCount == 1)
        let peer = try client.accept(at: origin)
        let request =
            "PUT /a?b HTTP/1.1\r\nHost: 127.0.0.1:\(origin.port)\r\nA: b\r\nC: d\r\nContent-Length: 7\r\n\r\ncontent"
        #expect(try client.request(at: peer) == request)
        peer.send("HTTP/1.1 201 Created\r\nX: y\r\nContent-Length: 3\r\n\r\nyes")
        let end = try client.end(of: 7)
        #expect(end.status == 201)
        #expect(end.fields == ["X=y", "Content-Length=3"])
        #expect(end.body == "yes")
        #expect(!end.isTruncated)
        #expect(client.client.exchangeCount == 0)
        #expect(client.client.bufferBytes == 0)
        #expect(client.client.connectionCount == 1)
    }

    @Test func aRequestWithoutContentHasNoLength() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url)
        let peer = try client.accept(at: origin)
        #expect(try client.request(at: peer) == "GET / HTTP/1.1\r\nHost: 127.0.0.1:\(origin.port)\r\n\r\n")
        try client.send(2, origin.url, method: "POST", body: "")
        let second = try client.accept(at: origin)
        #expect(try client.request(at: second).hasSuffix("Content-Length: 0\r\n\r\n"))
    }

    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nT: u\r\n\r\n", "abc"),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 H\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            "x"
        ),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end"), (ok, "ok"),
    ])
    func aResponseMayComeInAnyPieces(_ response: String, body: String) throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        let bytes = Array(response.utf8)
        for place in 1..<bytes.count {
            let key = UInt64(place)
            try client.send(key, origin.url)
            let peer = try client.accept(at: origin)
            _ = try client.request(at: peer)
            peer.send(Array(bytes[..<place]))
            client.turn()
            peer.send(Array(bytes[place...]))
            peer.halfClose()
            let end = try client.end(of: key)
            #expect(end.status == 200, "split at \(place)")
            #expect(end.body == body, "split at \(place)")
        }
    }

    @Test(arguments: [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200),
        ("GET", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", 204),
        ("GET", "HTTP/1.1 304 Not\r\nTransfer-Encoding: chunked\r\n\r\n", 304),
    ])
    func somethingWithoutContentLeavesTheConnectionUsable(_ method: String, _ response: String, status: Int) throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url, method: method)
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send(response)
        let end = try client.end(of: 1)
        #expect(end.status == status)
        #expect(end.body == "")
        try client.send(2, origin.url)
        _ = try client.request(at: peer)
        peer.send(ok)
        #expect(try client.end(of: 2).body == "ok")
    }

    @Test func aLargeBodyGoesOutAndComesInWhole() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        let content = String(repeating: "0123456789abcdef", count: 1 << 18)
        try client.send(1, origin.url, method: "POST", body: content) { $0.bodyLimit = 8 << 20 }
        let peer = try client.accept(at: origin)
        #expect(try client.request(at: peer).hasSuffix("\r\n\r\n" + content))
        let response = Array("HTTP/1.1 200 OK\r\nContent-Length: \(content.utf8.count)\r\n\r\n\(content)".utf8)
        var sent = 0
        let end = try client.wait("the response") {
            if sent < response.count { sent += max(0, peer.send(Array(response[sent...]))) }
            return client.ended[1]
        }
        #expect(end.body == content)
        #expect(client.client.bufferBytes == 0)
        // The connection can be used for another request.
        try client.send(2, origin.url)
        _ = try client.request(at: peer)
    }

    @Test func aResponseThatComesBeforeAllWasSentCounts() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url, method: "POST") { $0.body = [UInt8](repeating: 0, count: 32 << 20) }
        let peer = try client.accept(at: origin)
        peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        let end = try client.end(of: 1)
        #expect(end.status == 413, "\(end)")
        #expect(client.client.connectionCount == 0)
    }

    @Test func aResponseCountsThatComesBeforeAReset() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url, method: "POST") { $0.body = [UInt8](repeating: 0, count: 32 << 20) }
        let peer = try client.accept(at: origin)
        _ = try client.wait("some of the body") { peer.hasInput ? true : nil }
        peer.send("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
        // The body is unread, so the kernel resets the connection.
        peer.close()
        #expect(try client.end(of: 1).status == 410)
    }

    // MARK: Limits

    @Test(arguments: [
        "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffff\r\n",
    ])
    func anEndlessBodyIsCut(_ head: String) throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url) { $0.bodyLimit = 100_000 }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send(head)
        let end = try client.wait("the end") {
            peer.send(String(repeating: "x", count: 10_000))
            return client.ended[1]
        }
        #expect(end.status == 200)
        #expect(end.isTruncated)
        #expect(end.body == String(repeating: "x", count: 100_000))
        #expect(client.client.connectionCount == 0)
    }

    @Test func bodiesAreCutWhereTheyTakeTooMuchTogether() throws {
        let origin = try TestOrigin()
        let client = try TestClient(limits: { $0.bufferBytes = 1 << 20 })
        var peers: [OriginPeer] = []
        for key in UInt64(1)...20 {
            try client.send(key, origin.url)
            let peer = try client.accept(at: origin)
            _ = try client.request(at: peer)
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            peers.append(peer)
        }
        _ = try client.wait("the ends") {
            for peer in peers { peer.send(String(repeating: "x", count: 10_000)) }
            #expect(client.client.bufferBytes < 3 << 20)
            return client.ended.count >= 15 ? true : nil
        }
        #expect(client.ended.values.allSatisfy { $0.status == 200 && $0.isTruncated && $0.body.count > 4096 })
    }

    @Test(arguments: [
        "hello\r\n", "HTTP/1.1 101 Switching\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: " + String(repeating: "x", count: 70_000),
        "HTTP/1.1 200 OK\r\n" + String(repeating: "A: b\r\n", count: 201),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx", "\u{0}",
    ])
    func whatIsNoResponseIsAFailure(_ bytes: String) throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        let (peer, end) = try client.exchange(1, at: origin, response: bytes)
        guard case .malformed(let authority, let detail) = end.failure else {
            Issue.record("\(end)")
            return
        }
        #expect(authority == "127.0.0.1:\(origin.port)")
        #expect(!detail.isEmpty)
        #expect(client.client.connectionCount == 0)
        #expect(try client.wait("the close") { peer.closed() })
    }

    // MARK: Broken connections

    @Test(arguments: ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhalf"])
    func aConnectionThatEndsTooEarlyIsAFailure(_ bytes: String) throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        for (key, isReset) in [(UInt64(1), false), (2, true)] {
            try client.send(key, origin.url)
            do {
                let peer = try client.accept(at: origin)
                _ = try client.request(at: peer)
                if !bytes.isEmpty { peer.send(bytes) }
                if isReset { peer.resetOnClose() }
            }
            let failure = try client.end(of: key).failure
            #expect(failure == .broken(authority: "127.0.0.1:\(origin.port)", isReset: isReset))
        }
        #expect(client.client.connectionCount == 0)
    }

    @Test func nobodyListening() throws {
        let client = try TestClient()
        let url = try TestOrigin().url
        try client.send(1, url)
        let failure = try client.end(of: 1).failure
        #expect(failure?.isRefused == true)
        #expect("\(failure, default: "")".contains("Connection refused"))
        #expect(client.client.connectionCount == 0)
    }

    // MARK: Redirects

    private func redirect(_ status: Int, to location: String) -> String {
        "HTTP/1.1 \(status) Moved\r\nLocation: \(location)\r\nContent-Length: 0\r\n\r\n"
    }

    @Test func aRedirectIsAResponseUnlessItIsToBeFollowed() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        let (_, end) = try client.exchange(1, at: origin, response: redirect(302, to: "/elsewhere"))
        #expect(end.status == 302)
        #expect(end.fields.contains("Location=/elsewhere"))
    }

    @Test(arguments: [
        (301, "POST", "GET"), (302, "PUT", "GET"), (303, "POST", "GET"), (303, "HEAD", "HEAD"), (302, "HEAD", "HEAD"),
        (307, "POST", "POST"), (308, "PUT", "PUT"),
    ])
    func redirectsAreFollowed(_ status: Int, _ method: String, _ expected: String) throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(
            1, origin.url, method: method, fields: "Authorization: x\r\nContent-Type: text/plain\r\nA: b\r\n",
            body: "content"
        ) { $0.redirects.limit = 1 }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send(redirect(status, to: "next?q"))
        let request = try client.request(at: peer)
        #expect(request.hasPrefix("\(expected) /next?q HTTP/1.1\r\n"))
        #expect(request.contains("Authorization: x\r\n"))
        #expect(request.contains("A: b\r\n"))
        let keepsContent = status >= 307
        #expect(request.hasSuffix("content") == keepsContent)
        #expect(request.contains("Content-Length") == keepsContent)
        #expect(request.contains("Content-Type") == keepsContent)
        peer.send("HTTP/1.1 204 No\r\n\r\n")
        #expect(try client.end(of: 1).status == 204)
    }

    @Test(arguments: [("POST", "GET"), ("PUT", "PUT"), ("DELETE", "DELETE")])
    func aMovedTargetMayKeepTheMethod(_ method: String, _ expected: String) throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url, method: method, body: "content") {
            $0.redirects = RedirectRules(limit: 1)
            $0.redirects.keepsMethodWhenMoved = true
        }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send(redirect(301, to: "/next"))
        let length = expected == "GET" ? "" : "Content-Length: 0\r\n"
        #expect(
            try client.request(at: peer)
                == "\(expected) /next HTTP/1.1\r\nHost: 127.0.0.1:\(origin.port)\r\n\(length)\r\n")
    }

    @Test(arguments: [true, false])
    func aTargetMayBePercentEncoded(_ isEncoded: Bool) throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url) {
            $0.redirects = RedirectRules(limit: 1)
            $0.redirects.encodesTargets = isEncoded
        }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send(redirect(301, to: "/a \u{FC}%20<b>?c#d"))
        if isEncoded {
            #expect(try client.request(at: peer).hasPrefix("GET /a%20%C3%BC%20%3Cb%3E?c HTTP/1.1\r\n"))
        } else {
            guard case .redirect? = try client.end(of: 1).failure else {
                Issue.record("a target with a blank was accepted")
                return
            }
        }
    }

    @Test func moreRedirectsThanTheLimitMayBeAFailure() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url) {
            $0.redirects = RedirectRules(limit: 1)
            $0.redirects.failsBeyondLimit = true
        }
        let peer = try client.accept(at: origin)
        let end = try client.wait("the end") {
            if peer.takeRequest() != nil { peer.send(redirect(302, to: "/")) }
            return client.ended[1]
        }
        #expect(end.failure == .redirectLimit(authority: "127.0.0.1:\(origin.port)", limit: 1))
    }

    @Test func aHostFieldOfOnesOwnStaysWithItsHost() throws {
        let (first, second) = (try TestOrigin(), try TestOrigin())
        let client = try TestClient()
        try client.send(1, first.url) {
            $0.host = Array("shop.example".utf8)
            $0.redirects.limit = 2
        }
        let peer = try client.accept(at: first)
        #expect(try client.request(at: peer) == "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        peer.send(redirect(302, to: "/a"))
        #expect(try client.request(at: peer) == "GET /a HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        peer.send(redirect(302, to: second.url))
        let other = try client.accept(at: second)
        #expect(try client.request(at: other) == "GET / HTTP/1.1\r\nHost: 127.0.0.1:\(second.port)\r\n\r\n")
    }

    @Test func cookiesThatRedirectsSetAreSentOn() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url + "in/x", fields: "Cookie: own=1\r\n") {
            $0.redirects = RedirectRules(limit: 2)
            $0.redirects.keepsCookies = true
        }
        let peer = try client.accept(at: origin)
        #expect(try client.request(at: peer).contains("Cookie: own=1\r\n"))
        peer.send(
            "HTTP/1.1 302 Found\r\nLocation: /in/y\r\nContent-Length: 0\r\nSet-Cookie: a=1; HttpOnly\r\n"
                + "Set-Cookie: b=2; Path=/\r\n\r\n")
        #expect(try client.request(at: peer).contains("\r\nCookie: a=1; b=2\r\n\r\n"))
        peer.send("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nSet-Cookie: c=3\r\n\r\n")
        #expect(try client.request(at: peer).contains("\r\nCookie: b=2\r\n\r\n"))
    }

    @Test func redirectsAreFollowedUpToTheLimit() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url) { $0.redirects.limit = 5 }
        let peer = try client.accept(at: origin)
        var requests = 0
        let end = try client.wait("the end") {
            if peer.takeRequest() != nil {
                requests += 1
                peer.send(redirect(307, to: "/"))
            }
            return client.ended[1]
        }
        #expect(end.status == 307)
        #expect(requests == 6)
    }

    @Test func secretsDoNotGoToAnotherHost() throws {
        let (first, second) = (try TestOrigin(), try TestOrigin())
        let client = try TestClient()
        try client.send(1, first.url, fields: "authorization: x\r\nA: b\r\nCookie: y\r\n") { $0.redirects.limit = 1 }
        let peer = try client.accept(at: first)
        _ = try client.request(at: peer)
        peer.send(redirect(302, to: second.url))
        let other = try client.accept(at: second)
        #expect(try client.request(at: other) == "GET / HTTP/1.1\r\nHost: 127.0.0.1:\(second.port)\r\nA: b\r\n\r\n")
    }

    @Test func addressesAreCheckedAtEachHop() throws {
        let origin = try TestOrigin()
        let names = ["inside.test": ["127.0.0.2"]]
        let client = try TestClient(names: names, refusing: ["127.0.0.2"])
        try client.send(1, origin.url) { $0.redirects.limit = 3 }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send(redirect(302, to: "\(TestTLS.scheme)://inside.test:\(origin.port)/"))
        guard case .refusedAddress(host: "inside.test", _, _) = try client.end(of: 1).failure else {
            Issue.record("\(client.ended)")
            return
        }
    }

    @Test(arguments: ["http://u@h/", "ftp://h/"])
    func aRedirectToNowhereIsAFailure(_ location: String) throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url) { $0.redirects.limit = 1 }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send(redirect(302, to: location))
        guard case .redirect = try client.end(of: 1).failure else {
            Issue.record("\(client.ended)")
            return
        }
        #expect(client.client.connectionCount == 1)
    }

    // MARK: Cancelling

    @Test func whatIsBrokenOffIsNotReported() throws {
        let origin = try TestOrigin()
        let dead = try SilentPort("127.0.0.2")
        let client = try TestClient(names: ["example.test": ["127.0.0.1"]]) { $0.connectionsPerHost = 1 }
        // Cancelled while waiting for a connection, before the first visit, during a look-up, and while connecting.
        try client.send(1, origin.url)
        try client.send(2, origin.url)
        client.client.cancel(2)
        client.client.cancel(1)
        #expect(client.client.connectionCount == 0)
        try client.send(3, "\(TestTLS.scheme)://example.test:\(origin.port)/")
        client.client.cancel(3)
        try client.send(4, dead.url)
        client.turn()
        #expect(client.client.connectionCount == 1)
        client.client.cancel(4)
        // Cancelled after the request was sent, and after half of the response arrived; the next exchange then starts.
        try client.send(5, origin.url)
        var peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        client.client.cancel(5)
        #expect(try client.wait("the close") { peer.closed() })
        try client.send(6, origin.url)
        try client.send(7, origin.url)
        peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhalf")
        _ = try client.wait("the half") { client.client.bufferBytes > 4096 ? true : nil }
        client.client.cancel(6)
        peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send(ok)
        #expect(try client.end(of: 7).body == "ok")
        client.client.cancel(7)
        client.client.cancel(1000)
        #expect(Array(client.ended.keys) == [7])
        #expect(client.client.exchangeCount == 0)
        #expect(client.client.bufferBytes == 0)
    }

    @Test func exchangesBeginAndAreBrokenOffWhileOthersAreReported() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        client.onEnd = { [unowned client] key in
            client.client.cancel(key)
            client.client.cancel(key + 1000)
            guard key < 50 else { return }
            #expect(throws: Never.self) {
                try client.send(key + 1, origin.url)
                try client.send(key + 1001, origin.url)
            }
        }
        try client.send(1, origin.url)
        try client.send(1001, origin.url)
        var peers: [OriginPeer] = []
        _ = try client.wait("the last") {
            if let peer = origin.accept() { peers.append(peer) }
            for peer in peers where peer.takeRequest() != nil { peer.send(ok) }
            // Of two exchanges sent together, either may end first. Only the one with the lower key cancels the other.
            return client.client.exchangeCount == 0 ? true : nil
        }
        #expect(client.ended.keys.contains(50))
    }

    /// Whatever the order of events, the limits hold, each exchange is reported once, and nothing is left over.
    @Test func randomTrafficKeepsTheBoundsAndLosesNothing() throws {
        var random = SeededRandom()
        let origins = try (0..<4).map { _ in try TestOrigin() }
        let client = try TestClient {
            $0.connections = 4
            $0.connectionsPerHost = 2
            $0.idleConnections = 2
            $0.idleTimeoutMilliseconds = 3
        }
        var peers: [OriginPeer] = []
        var (sent, cancelled): ([UInt64], Set<UInt64>) = ([], [])
        func answer() {
            for origin in origins { if let peer = origin.accept() { peers.append(peer) } }
            peers.removeAll { peer in
                guard peer.takeRequest() != nil else { return peer.closed() == true }
                switch Int.random(in: 0..<8, using: &random) {
                case 0: return true
                case 1: peer.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
                case 2: peer.send("HTTP/1.1 302 OK\r\nLocation: \(origins[0].url)\r\nContent-Length: 0\r\n\r\n")
                case 3: peer.send("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok")
                default: peer.send(ok)
                }
                return false
            }
        }
        for key in UInt64(1)...3_000 {
            switch Int.random(in: 0..<8, using: &random) {
            case 0..<4:
                let url = origins.randomElement(using: &random)?.url ?? ""
                sent.append(key)
                try client.send(key, url) {
                    $0.redirects.limit = 2
                    $0.timeoutMilliseconds = Int64.random(in: 20...100, using: &random)
                }
            case 4:
                guard let victim = sent.suffix(20).randomElement(using: &random) else { break }
                if client.ended[victim] == nil { cancelled.insert(victim) }
                client.client.cancel(victim)
            case 5: answer()
            default: client.turn()
            }
            #expect(client.client.connectionCount <= 4, "\(random)")
        }
        _ = try client.wait("the end of all") {
            answer()
            return client.client.exchangeCount == 0 && client.client.connectionCount == 0 ? true : nil
        }
        #expect(Set(client.ended.keys) == Set(sent).subtracting(cancelled), "\(random)")
        #expect(client.ended.values.contains { $0.status == 200 }, "\(random)")
        #expect(client.client.bufferBytes == 0, "\(random)")
    }

    @Test func aClientThatIsLetGoOfClosesAllItHas() throws {
        let origin = try TestOrigin()
        let loop = try EventLoop()
        var client: HTTPClient? = HTTPClient(loop: loop) { _, _, _ in nil }
        client?.trust = try suiteTrust()
        let url = try HTTPURL(Array(origin.url.utf8).span)
        for key in UInt64(1)...2 {
            client?.send(ClientRequest(url: url, method: Array("GET".utf8), fields: [], body: nil), key: key)
        }
        var peers: [OriginPeer] = []
        while peers.count < 2 {
            loop.turn(until: loop.updateNow() + 5)
            client?.advance { _, _ in }
            if let peer = origin.accept() { peers.append(peer) }
        }
        client = nil
        loop.turn(until: loop.updateNow())
        for peer in peers { while peer.closed() == nil { loop.turn(until: loop.updateNow() + 5) } }
    }

    // MARK: What may be sent

    @Test func namesAndMethodsThatMayBeSent() {
        func isAllowed(_ name: String) -> Bool { ClientRequest.isAllowedField(name: Array(name.utf8).span) }
        for name in ["A", "Authorization", "Content-Type", "Hosts", "Proxy", "T-E", "x!"] { #expect(isAllowed(name)) }
        for name in [
            "", "a b", "A:", "\u{e9}", "host", "Content-LENGTH", "Transfer-Encoding", "Connection", "Keep-Alive",
            "Upgrade", "te", "Trailer", "Expect", "Proxy-Connection", "proxy-authorization",
        ] { #expect(!isAllowed(name)) }
        for (value, isRight) in [("a\tb \u{e9}", true), ("", true), ("a\rb", false), ("a\nb", false), ("\u{0}", false)]
        {
            #expect(ClientRequest.isFieldValue(Array(value.utf8).span) == isRight)
        }
        for (method, isRight) in [("GET", true), ("x-y", true), ("", false), ("G T", false), ("CONNECT", false)] {
            #expect(ClientRequest.isAllowedMethod(Array(method.utf8).span) == isRight)
        }
    }
}
