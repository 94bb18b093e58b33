// Held answers and postponed requests: when and in which order answers are sent, and what happens to them when the
// client disconnects or the server stops.

import Foundation
import Support
import Testing

@testable import Net

@Suite(.blocking) struct HoldingTests {
    /// The bodies of some answers, in order.
    private func bodies(_ answers: String) -> [String] {
        answers.split(separator: "HTTP/1.1 200 OK\r\n").map { answer in
            String(answer[(answer.firstRange(of: "\r\n\r\n")?.upperBound ?? answer.endIndex)...])
        }
    }

    private func bare(_ method: String, _ target: String, _ fields: String = "") -> String {
        "\(method) \(target) HTTP/1.1\r\nHost: h\r\n\(fields)\r\n"
    }

    // MARK: Held answers

    @Test func aHeldAnswerHoldsThoseBehindItAndNoneBeforeIt() throws {
        let server = try TestServer()
        let peer = try server.connect()
        for target in ["/", "/until?1", "/", "/until?1", "/until?3", "/until?2", "/"] { peer.sendGet(target) }
        #expect(bodies(try peer.answers(1)) == ["ok"])
        // The requests are served all the same.
        try server.eventually("the requests") { $0.handled == 7 }
        try server.letTurnsPass()
        #expect(!peer.isReadable)

        try server.release(upTo: 1)
        #expect(bodies(try peer.answers(3)) == ["until", "ok", "until"])
        try server.release(upTo: 2)
        try server.letTurnsPass()
        #expect(!peer.isReadable)
        // This mark is higher than any that an answer waits for.
        try server.release(upTo: 9)
        #expect(bodies(try peer.answers(3)) == ["until", "until", "ok"])
        peer.sendGet("/until?8")
        #expect(try peer.body() == "until")
        peer.sendGet("/until?0")
        #expect(try peer.body() == "until")
    }

    @Test func whatIsReleasedLeavesInTheSameTurn() throws {
        let server = try TestServer()
        let peer = try server.connect()
        peer.sendGet("/until?1")
        try server.eventually("the request") { $0.handled == 1 }
        try server.release(upTo: 1)
        #expect(!server.seen.wasUnsentAfterRelease)
        #expect(peer.isReadable)
        #expect(try peer.body() == "until")
    }

    @Test func onlyThoseWhoseMarkIsReleasedLeave() throws {
        let server = try TestServer()
        let peers = try (1...20).map { _ in try server.connect() }
        for (index, peer) in peers.enumerated() { peer.sendGet("/until?\(index % 4 + 1)") }
        try server.eventually("the requests") { $0.handled == 20 }
        for mark in 1...4 {
            #expect(peers.allSatisfy { !$0.isReadable })
            try server.release(upTo: UInt64(mark))
            for (index, peer) in peers.enumerated() where index % 4 + 1 == mark {
                #expect(try peer.body() == "until")
            }
        }
    }

    @Test func anAnswerThatWasOwedCanBeHeld() async throws {
        let server = try TestServer()
        let peer = try server.connect()
        peer.sendGet("/hold")
        peer.sendGet("/")
        try server.eventually("the request") { $0.held.count == 1 }
        let ticket = try #require(server.seen.held.first)
        #expect(await server.recorder.answer(ticket, "owed", heldUntil: 5))
        try server.eventually("the request behind it") { $0.handled == 2 }
        try server.letTurnsPass()
        #expect(!peer.isReadable)
        try server.release(upTo: 5)
        #expect(bodies(try peer.answers(2)) == ["owed", "ok"])
    }

    @Test func whatIsHeldIsNotThePeersDelay() throws {
        let server = try TestServer()
        let timeoutSeconds = TestServer.timeoutMilliseconds / 1000
        let (silent, closing, sending) = (try server.connect(), try server.connect(), try server.connect())
        silent.sendGet("/until?1")
        closing.send(bare("GET", "/until?1", "Connection: close\r\n"))
        // Half a head follows the held answer; its deadline is suspended.
        sending.send(bare("GET", "/until?1") + "GET / HTTP/1.1\r\n")
        try server.eventually("the requests") { $0.handled == 3 }
        for _ in 0..<4 {
            try server.pass(seconds: timeoutSeconds)
            // No answer arrives, and no connection is closed.
            for peer in [silent, closing, sending] { #expect(!peer.isReadable) }
        }

        try server.release(upTo: 1)
        #expect(bodies(try closing.receiveAll()) == ["until"])
        for peer in [silent, sending] { #expect(bodies(try peer.answers(1)) == ["until"]) }
        // From now on their deadlines run, as after any answer.
        try server.pass(seconds: timeoutSeconds / 2)
        for peer in [silent, sending] { #expect(!peer.isReadable) }
        try server.pass(seconds: timeoutSeconds / 2)
        #expect(try silent.receiveAll() == "")
        #expect(try sending.receiveAll().hasPrefix("HTTP/1.1 408 "))
    }

    @Test func anAnswerInFrontOfAHeldOneIsGivenUpIfThePeerDoesNotReadIt() throws {
        let server = try TestServer()
        let peer = try server.connect(receiveBuffer: 4096)
        peer.sendGet("/tracked?33554432")
        peer.sendGet("/tracked-until?1")
        try server.eventually("the request") { $0.handled > 0 }
        try server.eventually("the end of the connection", passingSeconds: 1000) { $0.connectionCount == 0 }
        #expect(server.seen.undelivered.last == 33_554_432)
        withExtendedLifetime(peer) {}
    }

    @Test func aReleasedAnswerIsGivenUpIfThePeerDoesNotReadIt() throws {
        let server = try TestServer { $0.outputBytes = 64 << 20 }
        let peer = try server.connect(receiveBuffer: 4096)
        for target in ["/until?1", "/tracked?33554432"] { peer.sendGet(target) }
        try server.eventually("the requests") { $0.handled == 2 }
        try server.release(upTo: 1)
        #expect(server.seen.connectionCount == 1)
        try server.eventually("the end of the connection", passingSeconds: 1000) { $0.connectionCount == 0 }
        #expect(server.seen.undelivered == [33_554_432])
        withExtendedLifetime(peer) {}
    }

    /// The kernel's buffer is full, and only a held answer waits to be sent.
    @Test func theTimeToTakeAHeldAnswerBeginsWithItsRelease() throws {
        let path = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
        let server = try TestServer(.unix(path: path)) {
            $0.sendTimeoutMilliseconds = 1_000_000
        }
        /// Requests an answer and leaves it unread.
        func fill(_ peer: Peer) throws {
            let before = server.seen.handled
            peer.sendGet("/large?5000")
            try server.eventually("the request") { $0.handled == before + 1 }
        }
        var capacity = 0
        do {
            let peer = try Peer(path: path)
            while case _ = try fill(peer), !server.seen.hasUnsentAnswers { capacity += 1 }
        }
        try server.eventually("the end of the connection") { $0.connectionCount == 0 }

        let peer = try Peer(path: path)
        for _ in 0..<capacity { try fill(peer) }
        #expect(!server.seen.hasUnsentAnswers)
        peer.sendGet("/until?1")
        // This is longer than `sendTimeoutMilliseconds`, which does not apply to held answers.
        try server.pass(seconds: 2000)
        try server.release(upTo: 1)
        try server.pass(seconds: 500)
        try server.eventually("the connection alone") { $0.connectionCount == 1 }
        try server.pass(seconds: 500)
        try server.eventually("the end of the connection") { $0.connectionCount == 0 }
        withExtendedLifetime(peer) {}
    }

    @Test(arguments: [false, true])
    func aHeldAnswerOfABrokenConnectionIsUndelivered(_ isReleasedLater: Bool) throws {
        let server = try TestServer()
        do {
            let peer = try server.connect()
            for target in ["/", "/tracked-until?1", "/tracked-until?2"] { peer.sendGet(target) }
            #expect(bodies(try peer.answers(1)) == ["ok"])
            try server.eventually("the requests") { $0.handled == 3 }
            peer.resetOnClose()
        }
        try server.eventually("the end of the connection") { $0.connectionCount == 0 }
        #expect(server.seen.undelivered == [2, 1])
        if isReleasedLater { try server.release(upTo: 2) }
        try server.letTurnsPass()
        #expect(server.seen.undelivered == [2, 1])
    }

    @Test(arguments: [false, true])
    func aClientThatClosesIsFoundToHaveGoneWhenItsAnswerIsReleased(_ isLocal: Bool) throws {
        let path = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
        let server = try TestServer(isLocal ? .unix(path: path) : .tcp(host: "127.0.0.1", port: 0))
        do {
            let peer = isLocal ? try Peer(path: path) : try server.connect()
            peer.sendGet("/tracked-until?1")
            try server.eventually("the request") { $0.handled == 1 }
        }
        try server.release(upTo: 1)
        try server.eventually("the end of the connection") { $0.connectionCount == 0 }
        #expect(server.seen.undelivered == [1])
    }

    @Test func aHalfClosedClientGetsWhatIsReleased() throws {
        let server = try TestServer()
        let peer = try server.connect()
        peer.sendGet("/tracked-until?1")
        peer.sendGet("/")
        peer.halfClose()
        try server.eventually("the requests") { $0.handled == 2 }
        try server.letTurnsPass()
        #expect(!peer.isReadable)
        try server.release(upTo: 1)
        #expect(bodies(try peer.receiveAll()) == ["until", "ok"])
        try server.eventually("the end of the connection") { $0.connectionCount == 0 }
        #expect(server.seen.undelivered == [])
    }

    @Test(arguments: ["GET /until?1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "GET /until?1 HTTP/1.0\r\n\r\n"])
    func aLastAnswerCanBeHeld(_ request: String) throws {
        let server = try TestServer()
        let peer = try server.connect()
        peer.send(request)
        try server.eventually("the request") { $0.handled == 1 }
        try server.letTurnsPass()
        #expect(!peer.isReadable)
        try server.release(upTo: 1)
        let answer = try peer.receiveAll()
        #expect(bodies(answer) == ["until"])
        #expect(answer.contains("Connection: close\r\n"))
    }

    @Test func anAnswerToHeadCanBeHeld() throws {
        let server = try TestServer()
        let peer = try server.connect()
        peer.send(bare("HEAD", "/until?1") + bare("HEAD", "/until?2") + bare("GET", "/", "Connection: close\r\n"))
        try server.eventually("the requests") { $0.handled == 3 }
        try server.release(upTo: 1)
        // The first release sends no byte of the second answer.
        let first = try peer.received(through: "\r\n\r\n")
        #expect(first.hasSuffix("Content-Length: 5\r\n\r\n"))
        #expect(bodies(first) == [""])
        try server.letTurnsPass()
        #expect(!peer.isReadable)
        try server.release(upTo: 2)
        #expect(bodies(try peer.receiveAll()) == ["", "ok"])
    }

    @Test func anInterimAnswerWaitsBehindAHeldOne() throws {
        let server = try TestServer()
        let peer = try server.connect()
        let fields = "Content-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n"
        peer.send(bare("GET", "/until?1") + bare("POST", "/until?2", fields))
        try server.eventually("the first request") { $0.handled == 1 }
        // The client cannot send its body yet, so its deadline is suspended too.
        try server.pass(seconds: 2 * TestServer.timeoutMilliseconds / 1000)
        #expect(!peer.isReadable)

        try server.release(upTo: 1)
        let received = try peer.received(through: "100 Continue\r\n\r\n")
        #expect(received.hasPrefix("HTTP/1.1 200 OK\r\n"))
        #expect(received.hasSuffix("until" + "HTTP/1.1 100 Continue\r\n\r\n"))
        peer.send("abc")
        try server.eventually("the second request") { $0.handled == 2 }
        try server.letTurnsPass()
        #expect(!peer.isReadable)
        try server.release(upTo: 2)
        #expect(bodies(try peer.receiveAll()) == ["until"])
    }

    @Test func heldAnswersHoldFurtherRequestsBackAndTheirReleaseLetsThemGoOn() throws {
        let server = try TestServer { $0.outputBytes = 1000 }
        let peer = try server.connect()
        peer.send(bare("GET", "/until?1") + String(repeating: bare("GET", "/large?600"), count: 20))
        try server.eventually("some requests") { $0.handled > 1 }
        try server.letTurnsPass()
        #expect(server.seen.handled < 10)
        try server.release(upTo: 1)
        #expect(bodies(try peer.answers(21)).count == 21)
    }

    @Test func connectionsThatCloseWithHeldAnswersLeaveNothingBehind() throws {
        let server = try TestServer()
        for round in 1...20 {
            do {
                let peers = try (0..<5).map { _ in try server.connect() }
                for peer in peers {
                    for target in ["/until?1", "/large?100000"] { peer.sendGet(target) }
                }
                try server.eventually("the requests") { $0.handled == 10 * round }
                for peer in peers { peer.resetOnClose() }
            }
            try server.eventually("the end of the connections") { $0.connectionCount == 0 }
        }
        #expect(server.seen.bufferBytes == 0)
        try server.release(upTo: 1)
        try server.letTurnsPass()
    }

    @Test func whatIsHeldWhenTheServerStopsIsNotSent() throws {
        let server = try TestServer()
        let peer = try server.connect()
        for target in ["/", "/until?1", "/", "/until?2", "/"] { peer.sendGet(target) }
        try server.eventually("the requests") { $0.handled == 5 }
        try server.release(upTo: 1)
        server.stop()
        #expect(bodies(try peer.receiveAll()) == ["ok", "until", "ok"])
    }

    // MARK: Postponed requests

    @Test func postponedRequestsAreServedInTheirOrder() async throws {
        let server = try TestServer()
        let peers = try (0..<100).map { _ in try server.connect() }
        for (number, peer) in peers.enumerated() {
            peer.sendGet("/gate?\(number)")
            try server.eventually("the request") { $0.postponements == number + 1 }
        }
        // Some of them send another request, the last connection first.
        for number in stride(from: 90, through: 0, by: -10) { peers[number].sendGet("/") }
        try server.letTurnsPass()
        #expect(server.seen.letIn == [])
        #expect(peers.allSatisfy { !$0.isReadable })

        // The gate is still closed: they are postponed again, in the same order.
        server.resume()
        try server.eventually("the second refusal") { $0.postponements == 200 }

        // The gate opens in a turn in which the kernel reports other connections first, then some of these in reverse.
        let others = try (100..<110).map { _ in try server.connect() }
        for other in others { other.sendGet("/") }
        for other in others { #expect(try other.body() == "ok") }
        let late = others + peers.reversed()
        await server.recorder.openGateInTheNextTurn(
            after: (0..<20).map { (late[$0].socket, "GET /gate?\($0 + 100) HTTP/1.1\r\nHost: h\r\n\r\n") })
        for peer in peers { #expect(bodies(try peer.answers(1)).first == "ok") }
        try server.eventually("all of them") { $0.letIn.count == 120 }
        // The others' requests are served after the postponed ones. The order of the second requests on the postponed
        // connections depends on the kernel.
        let order = server.seen.letIn
        #expect(order.filter { $0 < 100 } == Array(0..<100))
        let lastPostponed = try #require(order.lastIndex { $0 < 100 })
        let firstOther = try #require(order.firstIndex { (100..<110).contains($0) })
        #expect(lastPostponed < firstOther)
    }

    @Test func aPostponedRequestStandsBetweenThoseAroundIt() throws {
        let server = try TestServer()
        let peer = try server.connect()
        for target in ["/", "/until?1", "/gate?7", "/large?3", "/gate?8"] { peer.sendGet(target) }
        try server.eventually("the postponement") { $0.postponements == 1 }
        #expect(bodies(try peer.answers(1)) == ["ok"])
        try server.letTurnsPass()
        #expect(!peer.isReadable)
        try server.release(upTo: 1)
        #expect(bodies(try peer.answers(1)) == ["until"])
        server.openGate()
        #expect(bodies(try peer.answers(3)) == ["ok", "xxx", "ok"])
        try server.eventually("both") { $0.letIn == [7, 8] }
    }

    @Test(arguments: ["Content-Length", "Transfer-Encoding"])
    func aLargePostponedRequestKeepsItsBody(_ framing: String) throws {
        let server = try TestServer { $0.readAheadBytes = 10_000 }
        let peer = try server.connect()
        let body = String(repeating: "x", count: 300_000)
        if framing == "Content-Length" {
            peer.send(bare("POST", "/gate?1", "Content-Length: 300000\r\n") + body)
        } else {
            peer.send(bare("POST", "/gate?1", "Transfer-Encoding: chunked\r\n") + "493e0\r\n\(body)\r\n0\r\n\r\n")
        }
        // This is more than is read ahead.
        peer.send(String(repeating: bare("GET", "/"), count: 1000))
        try server.eventually("the postponement") { $0.postponements == 1 }
        try server.letTurnsPass()
        #expect(!peer.isReadable)
        server.openGate()
        #expect(bodies(try peer.answers(1001)).count == 1001)
        try server.eventually("the body") { $0.letInBodyBytes == [300_000] }
    }

    @Test func whatIsBehindAPostponedRequestIsReadAheadWithinBounds() throws {
        let server = try TestServer { $0.readAheadBytes = 10_000 }
        let peer = try server.connect()
        // The body fills nearly all of its buffer of 512 KiB.
        peer.send(bare("POST", "/gate?1", "Content-Length: 500000\r\n"))
        peer.send(String(repeating: "x", count: 500_000))
        try server.eventually("the postponement") { $0.postponements == 1 }
        let before = server.seen.bufferBytes
        peer.send(String(repeating: "x", count: 200_000))
        try server.letTurnsPass()
        // Another connection may still be open.
        #expect(server.seen.bufferBytes <= before + idleBytes)
    }

    @Test func aPostponedRequestHasNoDeadline() throws {
        let server = try TestServer()
        let timeoutSeconds = TestServer.timeoutMilliseconds / 1000
        let peer = try server.connect()
        // The second request's head stays incomplete. Its deadline starts once the first request is answered.
        peer.send(bare("POST", "/gate?1", "Content-Length: 3\r\n") + "abcGET / HT")
        try server.eventually("the postponement") { $0.postponements == 1 }
        for _ in 0..<4 { try server.pass(seconds: timeoutSeconds) }
        #expect(!peer.isReadable)
        server.openGate()
        #expect(bodies(try peer.answers(1)) == ["ok"])
        try server.pass(seconds: timeoutSeconds)
        #expect(try peer.receiveAll().hasPrefix("HTTP/1.1 408 "))
    }

    @Test func thePostponedRequestOfABrokenConnectionIsNotServed() throws {
        let server = try TestServer()
        for round in 1...30 {
            do {
                let peer = try server.connect()
                peer.send(
                    bare("POST", "/gate?1", "Content-Length: 100000\r\n") + String(repeating: "x", count: 100_000))
                try server.eventually("the postponement") { $0.postponements == round }
                peer.resetOnClose()
            }
            try server.eventually("the end of the connection") { $0.connectionCount == 0 }
            #expect(server.seen.bufferBytes == 0)
        }
        server.openGate()
        let peer = try server.connect()
        peer.sendGet("/gate?2")
        #expect(try peer.body() == "ok")
        try server.eventually("the last alone") { $0.letIn == [2] }
    }

    @Test func thePostponedRequestOfAHalfClosedClientIsServed() throws {
        let server = try TestServer()
        let peer = try server.connect()
        peer.sendGet("/gate?1")
        peer.sendGet("/gate?2")
        peer.halfClose()
        try server.eventually("the postponement") { $0.postponements == 1 }
        try server.letTurnsPass()
        server.openGate()
        #expect(bodies(try peer.receiveAll()) == ["ok", "ok"])
    }

    @Test func theServerRestsWhileRequestsArePostponedOrAnswersHeld() throws {
        let server = try TestServer {
            $0.readAheadBytes = 100
            $0.outputBytes = 1000
        }
        let peers = try (0..<4).map { _ in try server.connect() }
        peers[0].sendGet("/gate?1")
        peers[0].send(String(repeating: "x", count: 1000))
        peers[1].sendGet("/until?1")
        for target in ["/until?1", "/large?2000", "/", "/"] { peers[2].sendGet(target) }
        peers[3].sendGet("/gate?1")
        peers[3].halfClose()
        try server.eventually("the requests") { $0.handled == 5 }
        let before = server.seen.turns
        // Turns without a reason would number in the thousands by now.
        #expect(!peers[0].isReadable(within: 200))
        #expect(server.seen.turns - before < 20)
    }

    @Test func aServerWithPostponedRequestsStops() throws {
        let server = try TestServer()
        let peer = try server.connect()
        for target in ["/", "/gate?1"] { peer.sendGet(target) }
        try server.eventually("the postponement") { $0.postponements == 1 }
        server.stop()
        #expect(bodies(try peer.receiveAll()) == ["ok"])
        #expect(server.seen.letIn == [])
    }
}
