// Answers whose bodies go on until the connection closes: their parts, clients that do not take them, and their ends.

import Support
import Testing

@testable import Net

@Suite(.blocking) struct StreamTests {
    /// Begins a stream, and returns its ticket.
    private func begin(_ peer: Peer, _ server: TestServer) throws -> Ticket {
        peer.sendGet("/stream")
        var ticket: Ticket?
        try server.eventually("the stream") {
            ticket = $0.held.last
            return ticket != nil
        }
        #expect(try peer.received(through: "\r\n\r\n").hasSuffix("Connection: close\r\n\r\n"))
        return try #require(ticket)
    }

    @Test func partsArriveOneByOneWhateverTheSilence() throws {
        let server = try TestServer { $0.idleTimeoutMilliseconds = 1000 }
        let peer = try server.connect()
        let ticket = try begin(peer, server)
        for part in ["a", "b"] {
            #expect(try server.onLoop { $0.extend(ticket, part) })
            #expect(try peer.receive() == Array(part.utf8))
            try server.pass(seconds: 1_000_000)
        }
        // A held part holds those behind it.
        #expect(try server.onLoop { $0.extend(ticket, "c", heldUntil: 5) })
        #expect(try server.onLoop { $0.extend(ticket, "d") })
        try server.letTurnsPass()
        #expect(!peer.isReadable)
        #expect(!server.seen.hasUnsentAnswers, "a stream does not hold up the end of the server")
        try server.release(upTo: 5)
        #expect(try peer.received(through: "cd") == "cd")
        #expect(try server.onLoop { $0.answer(ticket, part: "e") })
        #expect(try peer.receiveAll() == "e")
        #expect(try !server.onLoop { $0.extend(ticket, "f") })
    }

    @Test func answersBeforeAStreamHoldUpTheEndOfTheServer() throws {
        let server = try TestServer()
        let peer = try server.connect()
        peer.sendGet("/until?7")
        peer.sendGet("/stream")
        try server.eventually("the stream") { !$0.held.isEmpty }
        #expect(server.seen.hasUnsentAnswers)
        try server.release(upTo: 7)
        try server.eventually("the answer") { !$0.hasUnsentAnswers }
    }

    @Test func aStreamEndsWithItsClient() throws {
        let server = try TestServer()
        let peer = try server.connect()
        let ticket = try begin(peer, server)
        peer.socket.close()
        try server.eventually("the end") { $0.withdrawals == 1 }
        #expect(try !server.onLoop { $0.extend(ticket, "a") })
        #expect(try server.onLoop { $0.hasUntakenParts(ticket) } == nil)
    }

    @Test func itIsKnownWhetherTheClientTakesTheParts() throws {
        let server = try TestServer { $0.sendTimeoutMilliseconds = 30_000 }
        // A receive buffer of several of the loopback's largest segments: the kernel lets a smaller one stall for its
        // timers.
        let peer = try server.connect(receiveBuffer: 200_000)
        let ticket = try begin(peer, server)
        let size = 1_000_000
        #expect(try server.onLoop { $0.extend(ticket, "a") })
        #expect(try peer.receive() == [UInt8(ascii: "a")])
        while try server.onLoop({ $0.hasUntakenParts(ticket) }) != false { try server.letTurnsPass() }
        // The peer's kernel does not take all of this.
        #expect(try server.onLoop { $0.extend(ticket, String(repeating: "x", count: size)) })
        try server.letTurnsPass()
        #expect(try server.onLoop { $0.hasUntakenParts(ticket) } == true)
        // A peer that takes everything in time stays.
        for _ in 0..<3 {
            try server.pass(seconds: 20)
            var count = 0
            while count < size { count += try peer.receive(size - count).count }
            while try server.onLoop({ $0.hasUntakenParts(ticket) }) == true { try server.letTurnsPass() }
            #expect(try server.onLoop { $0.extend(ticket, String(repeating: "x", count: size)) })
            try server.letTurnsPass()
            #expect(try server.onLoop { $0.hasUntakenParts(ticket) } == true)
        }
        try server.pass(seconds: 40)
        _ = try server.onLoop { $0.hasUntakenParts(ticket) }
        try server.eventually("the end") { $0.withdrawals == 1 }
        #expect(try server.onLoop { $0.hasUntakenParts(ticket) } == nil)
    }
}
