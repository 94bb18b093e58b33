// How the client opens, keeps and shares its connections: reuse, limits, deadlines, names and addresses.

import Foundation
import Support
import Synchronization
import Testing

@testable import Net

@Suite(.blocking, .timeLimit(.minutes(10))) struct ClientConnectionTests {
    // MARK: Reuse

    @Test func connectionsAreUsedAgain() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        let (peer, _) = try client.exchange(1, at: origin, response: ok)
        for key in UInt64(2)...10 {
            try client.send(key, origin.url)
            // The request is sent at once, without a turn of the loop.
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

    @Test func aClientThatEndsItsSideStillReads() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        let early = client.client.endSending(1)
        try client.send(1, origin.url)
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        let isSent = client.client.endSending(1)
        #expect(!early && isSent)
        #expect(try client.wait("the end of its side") { peer.closed() })
        peer.send(ok)
        #expect(try client.end(of: 1).body == "ok")
        #expect(client.client.connectionCount == 0)
    }

    @Test func anIdleConnectionThatEndsOrSpeaksIsDropped() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        let (ending, _) = try client.exchange(1, at: origin, response: ok)
        ending.halfClose()
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

    /// The server closes a kept connection after it has read the request.
    @Test(arguments: [("POST", false), ("POST", true), ("GET", false), ("GET", true)])
    func aRequestThatMayHaveBeenReadIsNotSentAgain(_ method: String, _ isReset: Bool) throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        let (peer, _) = try client.exchange(1, at: origin, response: ok)
        try client.send(2, origin.url, method: method, body: method == "POST" ? "content" : nil)
        _ = try client.request(at: peer)
        if isReset { peer.resetOnClose() }
        peer.close()
        #expect(try client.end(of: 2).failure == .broken(authority: "127.0.0.1:\(origin.port)", isReset: isReset))
        #expect(origin.accept() == nil)
    }

    /// The server ends or resets a kept connection, and the client's loop has not turned since.
    @Test(arguments: [false, true]) func aConnectionThatTheServerHasEndedIsNotUsed(_ isReset: Bool) throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        let (peer, _) = try client.exchange(1, at: origin, response: ok)
        if isReset { peer.resetOnClose() }
        peer.close()
        try client.exchange(2, at: origin, response: ok)
        #expect(client.client.connectionCount == 1)
    }

    /// The server ends its side of a kept connection while a request is on its way, and reads on.
    @Test func aRequestOnItsWayIsNotSentAgain() throws {
        let origin = try TestOrigin(receiveBufferBytes: 2048)
        let client = try TestClient()
        // The server leaves the first request's body unread. So its kernel takes nothing of the second request.
        let body = String(repeating: "x", count: 12_000)
        try client.send(1, origin.url, method: "POST", body: body)
        let peer = try client.accept(at: origin)
        _ = try client.wait("the request") { peer.hasInput ? true : nil }
        peer.send(ok)
        #expect(try client.end(of: 1).body == "ok")
        try client.send(2, origin.url, method: "POST", body: "content")
        peer.halfClose()
        #expect(try client.end(of: 2).failure == .broken(authority: "127.0.0.1:\(origin.port)", isReset: false))
        #expect(try client.request(at: peer).hasSuffix(body))
        #expect(try client.request(at: peer).hasSuffix("content"))
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

    // MARK: Limits on connections

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
        // Each answer lets the next waiting exchange start.
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
            // The loop counts milliseconds: each connection must become idle in a different one.
            let now = client.loop.now
            _ = try client.wait("the next millisecond") { client.loop.now > now ? true : nil }
        }
        #expect(try client.wait("the close") { peers[0].closed() })
        #expect(client.client.connectionCount == 2)
        #expect(peers[1].closed() == nil)
    }

    /// A host with busy connections and more exchanges waiting cannot deny another host its share.
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
        // Over TLS, the test itself needs more turns for the other host's handshake.
        if !TestTLS.isOverTLS { #expect(answeredBefore < 6) }
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
        // After the first byte, only the deadline of the whole exchange counts.
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

    @Test func theNextByteHasADeadlineOfItsOwn() throws {
        let origin = try TestOrigin()
        let clock = TestClock()
        let client = try TestClient(clock: clock)
        try client.send(1, origin.url) {
            $0.idleTimeoutMilliseconds = 100_000
            $0.timeoutMilliseconds = 10_000_000
        }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        clock.add(milliseconds: 60_000)
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in 0..<5 {
            client.turn()
            clock.add(milliseconds: 60_000)
            peer.send("x")
        }
        client.turn()
        #expect(client.ended[1] == nil)
        clock.add(milliseconds: 101_000)
        let authority = "127.0.0.1:\(origin.port)"
        #expect(try client.end(of: 1).failure == .timeout(.nextByte, authority: authority, milliseconds: 100_000))
        #expect(client.client.connectionCount == 0)
    }

    /// As a worker does that polls for an hour and is told to stop.
    @Test func aLongPollWithoutDeadlinesIsBrokenOff() throws {
        let origin = try TestOrigin()
        let clock = TestClock()
        let client = try TestClient(clock: clock)
        try client.send(1, origin.url + "wait/q", method: "POST", body: #"{"timeout": 3600}"#) {
            $0.connectTimeoutMilliseconds = .max
            $0.firstByteTimeoutMilliseconds = .max
            $0.idleTimeoutMilliseconds = .max
            $0.timeoutMilliseconds = .max
        }
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        clock.add(milliseconds: 3_000_000)
        for _ in 1...3 { client.turn() }
        #expect(client.client.exchangeCount == 1 && peer.closed() == nil)
        client.client.cancel(1)
        #expect(try client.wait("the close") { peer.closed() })
        #expect(client.ended.isEmpty && client.client.connectionCount == 0 && client.client.bufferBytes == 0)
    }

    @Test func connectingHasADeadlineOfItsOwn() throws {
        let dead = try SilentPort("127.0.0.2")
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
        let dead = try SilentPort("127.0.0.2", port: origin.port)
        let client = try TestClient(names: ["example.test": ["127.0.0.2", "127.0.0.1"]])
        try client.send(1, "\(TestTLS.scheme)://example.test:\(dead.port)/")
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
        // Waiting this long for the next address would exceed the exchange's time limit.
        let client = try TestClient(names: ["example.test": ["127.0.0.3", "127.0.0.4", "127.0.0.1"]]) {
            $0.attemptDelayMilliseconds = 3_600_000
        }
        try client.send(1, "\(TestTLS.scheme)://example.test:\(origin.port)/")
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
        try client.send(1, "\(TestTLS.scheme)://example.test:\(origin.port)/")
        let peer = try client.accept(at: origin)
        _ = try client.request(at: peer)
        peer.send(ok)
        #expect(try client.end(of: 1).body == "ok")
        try client.send(2, "\(TestTLS.scheme)://127.0.0.2:\(origin.port)/")
        guard case .refusedAddress = try client.end(of: 2).failure else {
            Issue.record("\(client.ended)")
            return
        }
    }

    @Test func theSystemKnowsLocalhost() throws {
        let origin = try TestOrigin()
        let client = try TestClient()
        for key in UInt64(1)...3 { try client.send(key, "\(TestTLS.scheme)://LOCALHOST:\(origin.port)/") }
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
        // No look-up stays blocked if the test fails early.
        defer { for _ in 1...10 { gate.signal() } }
        let address = "\(TestTLS.scheme)://example.test:\(origin.port)/"
        for key in UInt64(1)...3 { try client.send(key, address) }
        _ = try client.wait("the look-up") { lookUps.load(ordering: .relaxed) > 0 ? true : nil }
        // After these turns all three exchanges wait for the name.
        for _ in 1...10 { client.turn() }
        let before = client.loop.now
        gate.signal()
        let peers = [try client.accept(at: origin), try client.accept(at: origin), try client.accept(at: origin)]
        #expect(lookUps.load(ordering: .relaxed) == 1)
        #expect(peers.count == 3)
        // The answer is cached for 5 seconds.
        let url = try HTTPURL(Array(address.utf8).span)
        let request = ClientRequest(url: url, method: Array("GET".utf8), fields: [], body: nil)
        let (resolver, host) = (client.client.resolver, client.client.host(of: request))
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
        // There are more look-up threads than hanging look-ups.
        try client?.send(4, "\(TestTLS.scheme)://living.test:\(origin.port)/")
        _ = try client?.accept(at: origin)
        let failure = try client?.end(of: 1).failure
        #expect(failure == .timeout(.connecting, authority: "hanging1.test", milliseconds: 50))
        // The look-ups continue without the client.
        client = nil
    }
}
