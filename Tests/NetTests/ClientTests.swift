// The client against a server that does what the test says, over real sockets.

import Foundation
import Support
import Synchronization
import Testing

@testable import Net

private let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

@Suite(.timeLimit(.minutes(2))) struct ClientTests {
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
            peer.end()
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
        // The connection is good for another.
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

    // MARK: Bounds

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
                if isReset { peer.resetAtEnd() }
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

    // MARK: Reuse

    @Test func connectionsAreUsedAgain() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        let (peer, _) = try client.exchange(1, at: origin, response: ok)
        for key in UInt64(2)...10 {
            try client.send(key, origin.url)
            // Without a turn of the loop: it leaves at once.
            #expect(peer.waitForInput())
            #expect(peer.takeRequest() != nil)
            peer.send(ok)
            #expect(try client.end(of: key).body == "ok")
        }
        #expect(origin.accept() == nil)
        #expect(client.client.connectionCount == 1)
    }

    @Test(arguments: [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", ok + "HTTP/1.1 200 OK\r\n",
    ])
    func connectionsThatAreNotToBeUsedAgainAreClosed(_ response: String) throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        let (peer, end) = try client.exchange(1, at: origin, response: response)
        #expect(end.body == "ok")
        #expect(client.client.connectionCount == 0)
        #expect(try client.wait("the close") { peer.closed() })
        try client.exchange(2, at: origin, response: ok)
    }

    @Test func anIdleConnectionThatEndsOrSpeaksIsDropped() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        let (ending, _) = try client.exchange(1, at: origin, response: ok)
        ending.end()
        _ = try client.wait("the drop") { client.client.connectionCount == 0 ? true : nil }
        let (speaking, _) = try client.exchange(2, at: origin, response: ok)
        speaking.send("HTTP/1.1 408 Timeout\r\n\r\n")
        _ = try client.wait("the drop") { client.client.connectionCount == 0 ? true : nil }
    }

    @Test func anIdleConnectionIsClosedAfterAWhile() throws {
        let origin = try TestOrigin()
        let client = try TestClient { $0.idleTimeoutMilliseconds = 50 }
        let start = client.loop.updateNow()
        let (peer, _) = try client.exchange(1, at: origin, response: ok)
        #expect(try client.wait("the close") { peer.closed() })
        #expect(client.loop.now - start >= 50)
        #expect(client.client.connectionCount == 0)
    }

    @Test func aStaleConnectionIsTriedAnewOnce() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        var (peer, _) = try client.exchange(1, at: origin, response: ok)
        // The request is on its way when the server closes.
        try client.send(2, origin.url, method: "POST", body: "content")
        #expect(try client.request(at: peer).hasSuffix("content"))
        peer.resetAtEnd()
        peer = OriginPeer(-1)
        peer = try client.accept(at: origin)
        #expect(try client.request(at: peer).hasSuffix("content"))
        // On a fresh connection the same is a failure.
        peer = OriginPeer(-1)
        #expect(try client.end(of: 2).failure == .broken(authority: "127.0.0.1:\(origin.port)", isReset: false))
        #expect(origin.accept() == nil)
    }

    @Test func aStaleConnectionThatHasSaidSomethingIsNotTriedAnew() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        do {
            let (peer, _) = try client.exchange(1, at: origin, response: ok)
            try client.send(2, origin.url)
            _ = try client.request(at: peer)
            peer.send("H")
        }
        #expect(try client.end(of: 2).failure == .broken(authority: "127.0.0.1:\(origin.port)", isReset: false))
        #expect(origin.accept() == nil)
    }

    // MARK: Bounds on connections

    @Test func whatWaitsForAConnectionTakesMemoryToo() throws {
        let origin = try TestOrigin()
        let client = try TestClient { $0.connectionsPerHost = 1 }
        for key in UInt64(1)...3 {
            try client.send(key, origin.url, method: "POST") { $0.body = [UInt8](repeating: 0, count: 100_000) }
        }
        #expect(client.client.bufferBytes >= 300_000)
        for key in UInt64(1)...3 { client.client.cancel(key) }
        #expect(client.client.bufferBytes == 0)
    }

    @Test func moreExchangesThanAHostMayHaveConnectionsWaitInOrder() throws {
        let origin = try TestOrigin()
        let client = try TestClient { $0.connectionsPerHost = 2 }
        for key in UInt64(1)...5 { try client.send(key, origin.url + "\(key)") }
        let peers = [try client.accept(at: origin), try client.accept(at: origin)]
        func next(at peer: OriginPeer) throws -> String { String(try client.request(at: peer).dropFirst(5).prefix(1)) }
        #expect(Set(try peers.map(next)) == ["1", "2"])
        // Those that wait have their turns as one after the other is answered.
        for (peer, expected) in [(peers[0], "3"), (peers[1], "4"), (peers[0], "5")] {
            peer.send(ok)
            #expect(try next(at: peer) == expected)
        }
        for peer in peers { peer.send(ok) }
        for key in UInt64(1)...5 { #expect(try client.end(of: key).body == "ok") }
        #expect(origin.accept() == nil)
        #expect(client.client.connectionCount == 2)
    }

    @Test func anIdleConnectionMakesRoomForAnotherHost() throws {
        let (first, second) = (try TestOrigin(), try TestOrigin())
        let client = try TestClient { $0.connections = 1 }
        let (peer, _) = try client.exchange(1, at: first, response: ok)
        try client.exchange(2, at: second, response: ok)
        #expect(try client.wait("the close") { peer.closed() })
        #expect(client.client.connectionCount == 1)
    }

    @Test func ofTooManyIdleConnectionsTheOldestGoes() throws {
        let origins = try (0..<3).map { _ in try TestOrigin() }
        let client = try TestClient { $0.idleConnections = 2 }
        var peers: [OriginPeer] = []
        for (key, origin) in origins.enumerated() {
            peers.append(try client.exchange(UInt64(key), at: origin, response: ok).0)
            // So that they differ in the loop's milliseconds.
            let now = client.loop.now
            _ = try client.wait("the next millisecond") { client.loop.now > now ? true : nil }
        }
        #expect(try client.wait("the close") { peers[0].closed() })
        #expect(client.client.connectionCount == 2)
        #expect(peers[1].closed() == nil)
    }

    /// A host that keeps its connections busy and has more waiting does not keep another from its share.
    @Test func aBusyHostGivesUpConnectionsForAnother() throws {
        let (busy, other) = (try TestOrigin(), try TestOrigin())
        let client = try TestClient { $0.connections = 2 }
        for key in UInt64(1)...20 { try client.send(key, busy.url) }
        try client.send(100, other.url)
        var peers = [try client.accept(at: busy), try client.accept(at: busy)]
        var answeredBefore = 0
        let waiting = try client.wait("the other host's turn") {
            if let peer = other.accept() { return peer }
            if let peer = busy.accept() { peers.append(peer) }
            for peer in peers where peer.takeRequest() != nil {
                answeredBefore += 1
                peer.send(ok)
            }
            return nil
        }
        #expect(answeredBefore < 6)
        _ = try client.request(at: waiting)
        waiting.send(ok)
        #expect(try client.end(of: 100).body == "ok")
    }

    @Test func whoWaitsForAConnectionTimesOut() throws {
        let origin = try TestOrigin()
        let client = try TestClient { $0.connections = 1 }
        try client.send(1, origin.url)
        try client.send(2, origin.url) { $0.timeoutMilliseconds = 60 }
        let end = try client.end(of: 2)
        #expect(end.failure == .timeout(.whole, authority: "127.0.0.1:\(origin.port)", milliseconds: 60))
        #expect(end.elapsedMilliseconds >= 60)
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send(ok)
        #expect(try client.end(of: 1).body == "ok")
    }

    // MARK: Deadlines

    @Test func theFirstByteHasADeadlineOfItsOwn() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        let authority = "127.0.0.1:\(origin.port)"
        try client.send(1, origin.url) { $0.firstByteTimeoutMilliseconds = 60 }
        let end = try client.end(of: 1)
        #expect(end.failure == .timeout(.firstByte, authority: authority, milliseconds: 60))
        #expect(end.elapsedMilliseconds >= 60)
        _ = try client.accept(at: origin)
        // With a first byte the whole's deadline is what counts.
        try client.send(2, origin.url) {
            $0.firstByteTimeoutMilliseconds = 600_000
            $0.timeoutMilliseconds = 200
        }
        let peer = try client.accept(at: origin)
        let late = try client.wait("the end") {
            peer.send("H".prefix(peer.takeRequest() == nil ? 0 : 1).description)
            return client.ended[2]
        }
        #expect(late.failure == .timeout(.whole, authority: authority, milliseconds: 200))
        #expect(late.elapsedMilliseconds >= 200)
        #expect(client.client.connectionCount == 0)
    }

    @Test func connectingHasADeadlineOfItsOwn() throws {
        let dead = try DeadEnd()
        let client = try TestClient()
        try client.send(1, dead.url) { $0.connectTimeoutMilliseconds = 80 }
        let end = try client.end(of: 1)
        #expect(end.failure == .timeout(.connecting, authority: "127.0.0.2:\(dead.port)", milliseconds: 80))
        #expect(end.elapsedMilliseconds >= 80)
        #expect(client.client.connectionCount == 0)
    }

    // MARK: Names and addresses

    @Test func aDeadAddressIsPassedOverAfterAQuarterOfASecond() throws {
        let origin = try TestOrigin()
        let dead = try DeadEnd(port: origin.port)
        let client = try TestClient(names: ["example.test": ["127.0.0.2", "127.0.0.1"]])
        try client.send(1, "http://example.test:\(dead.port)/")
        let peer = try client.accept(at: origin)
        #expect(try client.request(at: peer).contains("Host: example.test:\(origin.port)\r\n"))
        peer.send(ok)
        let end = try client.end(of: 1)
        #expect(end.body == "ok")
        #expect(end.elapsedMilliseconds >= 250)
        #expect(client.client.connectionCount == 1)
    }

    @Test func anAddressThatRefusesIsPassedOverAtOnce() throws {
        let origin = try TestOrigin()
        // If it waited for the next one's turn, that would take longer than the exchange may.
        let client = try TestClient(names: ["example.test": ["127.0.0.3", "127.0.0.4", "127.0.0.1"]]) {
            $0.attemptDelayMilliseconds = 3_600_000
        }
        try client.send(1, "http://example.test:\(origin.port)/")
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send(ok)
        #expect(try client.end(of: 1).body == "ok")
    }

    @Test func familiesAreTriedByTurns() throws {
        let addresses = ["2001:db8::1", "2001:db8::2", "2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]
        let client = try TestClient(names: ["example.test": addresses], refusing: addresses)
        try client.send(1, "http://example.test/")
        let failure = try client.end(of: 1).failure
        let order = ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"]
        #expect(client.refusalQuestions == order.map { "\($0) example.test" })
        let last = try #require(IPAddress("192.0.2.3"))
        #expect(failure == .refusedAddress(host: "example.test", address: last, reason: "it is on the list"))
    }

    @Test func onlyAddressesThatMayBeReachedAreConnectedTo() throws {
        let origin = try TestOrigin()
        let client = try TestClient(names: ["example.test": ["127.0.0.2", "127.0.0.1"]], refusing: ["127.0.0.2"])
        try client.send(1, "http://example.test:\(origin.port)/")
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send(ok)
        #expect(try client.end(of: 1).body == "ok")
        try client.send(2, "http://127.0.0.2:\(origin.port)/")
        guard case .refusedAddress = try client.end(of: 2).failure else {
            Issue.record("\(client.ended)")
            return
        }
    }

    @Test func theSystemKnowsLocalhost() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        for key in UInt64(1)...3 { try client.send(key, "http://LOCALHOST:\(origin.port)/") }
        for _ in 1...3 {
            let peer = try client.accept(at: origin)
            _ = try client.request(at: peer)
            peer.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        }
        for key in UInt64(1)...3 { #expect(try client.end(of: key).status == 200) }
    }

    @Test func aNameWithoutAddressIsAFailure() throws {
        let client = try TestClient()
        for key in UInt64(1)...10 { try client.send(key, "http://nowhere\(key % 7).test/") }
        for key in UInt64(1)...10 {
            guard case .lookUp(let host, let reason) = try client.end(of: key).failure else {
                Issue.record("\(client.ended)")
                return
            }
            #expect(host == "nowhere\(key % 7).test")
            #expect(reason == "it is not in the test's list")
        }
        #expect(client.client.connectionCount == 0)
    }

    @Test func aNameIsLookedUpOnceForAllWhoAskAtOnce() throws {
        let origin = try TestOrigin()
        let lookUps = Atomic(0)
        let gate = DispatchSemaphore(value: 0)
        let client = try TestClient(
            names: ["example.test": ["127.0.0.1"]],
            beforeLookUp: { _ in
                lookUps.add(1, ordering: .relaxed)
                gate.wait()
            })
        // However long the test takes: no look-up hangs.
        defer { for _ in 1...10 { gate.signal() } }
        let address = "http://example.test:\(origin.port)/"
        for key in UInt64(1)...3 { try client.send(key, address) }
        _ = try client.wait("the look-up") { lookUps.load(ordering: .relaxed) > 0 ? true : nil }
        // By the end of these turns all three have asked.
        for _ in 1...10 { client.turn() }
        let before = client.loop.now
        gate.signal()
        let peers = [try client.accept(at: origin), try client.accept(at: origin), try client.accept(at: origin)]
        #expect(lookUps.load(ordering: .relaxed) == 1)
        #expect(peers.count == 3)
        // The answer is kept for a while.
        let url = try HTTPURL(Array(address.utf8).span)
        let (resolver, host) = (client.client.resolver, client.client.host(of: url))
        let request = ClientRequest(url: url, method: Array("GET".utf8), fields: [], body: nil)
        let exchange = ClientExchange(request, key: 4, host: host, client: client.client)
        #expect(resolver.lookUp(url.host, for: exchange, now: before + 4_999) != nil)
        #expect(lookUps.load(ordering: .relaxed) == 1)
        #expect(resolver.lookUp(url.host, for: exchange, now: client.loop.updateNow() + 5_001) == nil)
        resolver.withdraw(url.host, for: exchange)
    }

    @Test func aLookUpThatHangsKeepsNobodyForLong() throws {
        let origin = try TestOrigin()
        let gate = DispatchSemaphore(value: 0)
        var client: TestClient? = try TestClient(
            names: ["living.test": ["127.0.0.1"]],
            beforeLookUp: { name in if name.hasPrefix("hanging") { gate.wait() } })
        defer { for _ in 1...3 { gate.signal() } }
        for key in UInt64(1)...3 {
            try client?.send(key, "http://hanging\(key).test/") { $0.connectTimeoutMilliseconds = 50 }
        }
        // There are more threads than that.
        try client?.send(4, "http://living.test:\(origin.port)/")
        _ = try client?.accept(at: origin)
        let failure = try client?.end(of: 1).failure
        #expect(failure == .timeout(.connecting, authority: "hanging1.test", milliseconds: 50))
        // The look-ups go on without it.
        client = nil
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
        (301, "POST", "GET"), (302, "PUT", "GET"), (303, "POST", "GET"), (303, "HEAD", "HEAD"), (307, "POST", "POST"),
        (308, "PUT", "PUT"),
    ])
    func redirectsAreFollowed(_ status: Int, _ method: String, _ expected: String) throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        let body: String? = method == "HEAD" ? nil : "content"
        try client.send(
            1, origin.url, method: method, fields: "Authorization: x\r\nContent-Type: text/plain\r\nA: b\r\n",
            body: body
        ) { $0.redirectLimit = 1 }
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
        #expect(request.contains("Content-Type") == (keepsContent || method == "HEAD"))
        peer.send("HTTP/1.1 204 No\r\n\r\n")
        #expect(try client.end(of: 1).status == 204)
    }

    @Test func redirectsAreFollowedUpToTheLimit() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url) { $0.redirectLimit = 5 }
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
        try client.send(1, first.url, fields: "authorization: x\r\nA: b\r\nCookie: y\r\n") { $0.redirectLimit = 1 }
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
        try client.send(1, origin.url) { $0.redirectLimit = 3 }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send(redirect(302, to: "http://inside.test:\(origin.port)/"))
        guard case .refusedAddress(host: "inside.test", _, _) = try client.end(of: 1).failure else {
            Issue.record("\(client.ended)")
            return
        }
    }

    @Test(arguments: ["https://127.0.0.1/", "http://u@h/", "ftp://h/"])
    func aRedirectToNowhereIsAFailure(_ location: String) throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        try client.send(1, origin.url) { $0.redirectLimit = 1 }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send(redirect(302, to: location))
        guard case .redirect = try client.end(of: 1).failure else {
            Issue.record("\(client.ended)")
            return
        }
        #expect(client.client.connectionCount == 1)
    }

    // MARK: Breaking off

    @Test func whatIsBrokenOffIsNotReported() throws {
        let origin = try TestOrigin()
        let dead = try DeadEnd()
        let client = try TestClient(names: ["example.test": ["127.0.0.1"]]) { $0.connectionsPerHost = 1 }
        // In the line, before its first visit, while a name is looked up, while it connects.
        try client.send(1, origin.url)
        try client.send(2, origin.url)
        client.client.cancel(2)
        client.client.cancel(1)
        #expect(client.client.connectionCount == 0)
        try client.send(3, "http://example.test:\(origin.port)/")
        client.client.cancel(3)
        try client.send(4, dead.url)
        client.turn()
        #expect(client.client.connectionCount == 1)
        client.client.cancel(4)
        // When it was sent, and when half of the response has come; the next in the line has its turn then.
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
            // Either of two that are sent together may be the first to end, and breaks off only what is above it.
            return client.client.exchangeCount == 0 ? true : nil
        }
        #expect(client.ended.keys.contains(50))
    }

    /// Whatever happens in whatever order: the bounds hold, each exchange is reported once, and nothing is left over.
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
                    $0.redirectLimit = 2
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

/// An address where connecting neither succeeds nor fails: its queue of connections is full.
private final class DeadEnd {
    private let origin: TestOrigin
    private var fillers: [Int32] = []

    var port: UInt16 { origin.port }
    var url: String { origin.url }

    init(port: UInt16 = 0) throws {
        origin = try TestOrigin("127.0.0.2", port: port, backlog: 0)
        guard let address = IPAddress("127.0.0.2") else { return }
        let name = SocketAddress(address, port: origin.port)
        for _ in 0..<4 {
            let filler = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
            _ = name.withPointer { connect(filler, $0, $1) }
            fillers.append(filler)
        }
        guard origin.waitForConnection() else { throw Failure(description: "nothing connects to \(url)") }
    }

    deinit { for filler in fillers { close(filler) } }
}
