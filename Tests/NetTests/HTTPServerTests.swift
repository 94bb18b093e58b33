// What happens when each of the server's limits on time and number is reached. The tests set small limits.

import Foundation
import Support
import Testing

@testable import Net

@Suite(.blocking) struct HTTPServerTests {
    private func socketPath() -> String {
        FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
    }

    // MARK: Services

    @Test(arguments: [false, true]) func aRequestSaysAtWhichServiceItCameIn(isLocal: Bool) throws {
        let path = socketPath()
        let server = try TestServer(secondService: isLocal ? .unix(path: path) : .tcp(host: "127.0.0.1", port: 0))
        let addresses = server.addresses
        try #require(addresses.count == 2)
        func connectToSecond() throws -> Peer {
            guard case .tcp(_, let port) = addresses[1] else { return try Peer(path: path) }
            return try Peer(port: port)
        }
        let (first, second) = (try server.connect(), try connectToSecond())
        for _ in 0..<2 {
            second.sendGet("/service")
            #expect(try second.body() == "service 7")
            first.sendGet("/service")
            #expect(try first.body() == "service 0")
        }
        // A request that expects 100-continue and an invalid request carry the service too.
        second.send("POST /forbidden HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
        #expect(try second.receiveAll().hasSuffix("not here"))
        let third = try connectToSecond()
        third.send("?\r\n\r\n")
        #expect(try third.receiveAll().contains("service 7: "))
        first.send("?\r\n\r\n")
        #expect(try first.receiveAll().contains("service 7: ") == false)
    }

    // MARK: Deadlines

    @Test func aHeadThatTakesTooLongIsAnswered408() throws {
        let server = try TestServer { $0.headTimeoutMilliseconds = 1_000_000 }
        let peer = try server.connect()
        peer.send("GET / HTTP/1.1\r\nHo")
        try server.pass(seconds: 500)
        #expect(!peer.isReadable)
        try server.pass(seconds: 500)
        let answer = try peer.receiveAll()
        #expect(answer.hasPrefix("HTTP/1.1 408 Request Timeout\r\n"))
        #expect(answer.contains("Connection: close\r\n"))
    }

    @Test func bytesThatTrickleInDoNotPutTheDeadlineOff() throws {
        let server = try TestServer { $0.headTimeoutMilliseconds = 1_000_000 }
        let peer = try server.connect()
        peer.send("GET / HTTP/1.1\r\nX: ")
        for _ in 0..<10 {
            #expect(!peer.isReadable)
            peer.send("x")
            try server.pass(seconds: 100)
        }
        #expect(try peer.receiveAll().hasPrefix("HTTP/1.1 408 "))
    }

    @Test func aBodyMayTakeAsLongAsItsBytesAllow() throws {
        let server = try TestServer {
            $0.headTimeoutMilliseconds = 1
            $0.bodyTimeoutMilliseconds = 1_000_000
            $0.bodyBytesPerSecond = 1
        }
        let peer = try server.connect()
        peer.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 300\r\n\r\n" + String(repeating: "x", count: 200))
        try server.pass(seconds: 1100)
        #expect(!peer.isReadable)
        try server.pass(seconds: 100)
        #expect(try peer.receiveAll().hasPrefix("HTTP/1.1 408 "))
    }

    @Test func aSilentConnectionIsClosedWithoutAWord() throws {
        let server = try TestServer { $0.idleTimeoutMilliseconds = 1_000_000 }
        let (mute, peer) = (try server.connect(), try server.connect())
        try server.pass(seconds: 500)
        #expect(!mute.isReadable)
        peer.sendGet("/")
        #expect(try peer.body() == "ok")
        try server.pass(seconds: 500)
        #expect(try mute.receiveAll() == "")
        #expect(!peer.isReadable)
        try server.pass(seconds: 500)
        #expect(try peer.receiveAll() == "")
    }

    @Test func oneWhoseAnswerIsOwedMayBeSilent() async throws {
        let server = try TestServer()
        let peer = try server.connect()
        peer.sendGet("/hold")
        try server.eventually("the request") { !$0.held.isEmpty }
        for _ in 0..<3 { try server.pass(seconds: TestServer.timeoutMilliseconds / 1000) }
        #expect(!peer.isReadable)
        let ticket = try #require(server.seen.held.first)
        #expect(await server.recorder.answer(ticket, "late"))
        #expect(try peer.body() == "late")
    }

    @Test(arguments: [false, true])
    func aPeerThatDoesNotReadIsDropped(_ isLocal: Bool) throws {
        let server = try TestServer(isLocal ? .unix(path: socketPath()) : .tcp(host: "127.0.0.1", port: 0))
        let peer = try server.connect()
        peer.sendGet("/tracked?33554432")
        try server.eventually("the request") { $0.handled == 1 }
        try server.eventually("the end of the connection", passingSeconds: 1000) { $0.connectionCount == 0 }
        #expect(server.seen.undelivered == [33_554_432])
        withExtendedLifetime(peer) {}
    }

    @Test func aPeerThatReadsSlowlyIsNotDropped() throws {
        let server = try TestServer { $0.sendTimeoutMilliseconds = 1_000_000 }
        let peer = try server.connect(receiveBuffer: 65536)
        peer.sendGet("/large?12000000")
        // Within each timeout the peer reads too little for the kernel to report room.
        var count = 0
        for _ in 0..<100 {
            count += try peer.receive(20_000).count
            try server.pass(seconds: 50)
        }
        while count < 12_000_000, case let chunk = try peer.receive(1 << 20), !chunk.isEmpty { count += chunk.count }
        #expect(count > 12_000_000)
    }

    @Test func aPeerThatStaysAfterTheLastAnswerIsLeft() throws {
        let server = try TestServer {
            $0.lingerTimeoutMilliseconds = 1_000_000
            $0.request.body = 10
        }
        let peer = try server.connect()
        peer.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n")
        #expect(try peer.receiveAll().hasPrefix("HTTP/1.1 413 "))
        try server.pass(seconds: 500)
        try server.eventually("the connection alone") { $0.connectionCount == 1 }
        try server.pass(seconds: 500)
        try server.eventually("the end of the connection") { $0.connectionCount == 0 }
        withExtendedLifetime(peer) {}
    }

    // MARK: Refusals

    @Test func aRefusalReachesAPeerThatGoesOnSending() throws {
        let server = try TestServer { $0.request.body = 10 }
        let peer = try server.connect()
        peer.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4000000\r\n\r\n")
        peer.send([UInt8](repeating: 0x78, count: 4_000_000))
        let answer = try peer.receiveAll()
        #expect(answer.hasPrefix("HTTP/1.1 413 Content Too Large\r\n"))
        #expect(answer.hasSuffix("the body is longer than 10 bytes"))
    }

    @Test func aRefusalBehindAHeadRequestHasItsBody() throws {
        let server = try TestServer()
        let peer = try server.connect()
        peer.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\nNONSENSE\r\n\r\n")
        let answers = try peer.receiveAll()
        #expect(answers.contains("Content-Length: 2\r\n\r\nHTTP/1.1 400 Bad Request\r\n"))
        #expect(answers.hasSuffix("one space and HTTP/1.1"))
    }

    // MARK: Limits

    @Test(.plainOnly("the handshake of a connection that is not accepted cannot be completed"))
    func aFullServerServesTheNextWhenOneCloses() throws {
        let server = try TestServer { $0.connections = 2 }
        var peers = try (0..<3).map { _ in try server.connect() }
        for peer in peers { peer.sendGet("/") }
        #expect(try peers[0].body() == "ok")
        #expect(try peers[1].body() == "ok")
        try server.eventually("two connections") { $0.connectionCount == 2 }
        #expect(!peers[2].isReadable)
        peers.removeFirst()
        #expect(try peers[1].body() == "ok")
        try server.eventually("two connections") { $0.connectionCount == 2 }
    }

    @Test func answersThatNobodyReadsHoldFurtherRequestsBack() throws {
        let server = try TestServer { $0.outputBytes = 65536 }
        let peer = try server.connect()
        let size = 16 << 20
        for _ in 0..<5 { peer.sendGet("/large?\(size)") }
        try server.eventually("a request") { $0.handled > 0 }
        let other = try server.connect()
        other.sendGet("/")
        #expect(try other.body() == "ok")
        // The kernel's buffers hold less than one answer, so the second is the last that begins.
        #expect(server.seen.handled <= 3)
        var received = 0
        while received < 5 * size, case let chunk = try peer.receive(1 << 20), !chunk.isEmpty {
            received += chunk.count
        }
        #expect(received > 5 * size)
        try server.eventually("all requests") { $0.handled == 6 }
    }

    @Test func requestsBehindALargeAnswerThatLeftAtOnceAreServed() throws {
        let server = try TestServer { $0.outputBytes = 1000 }
        let peer = try server.connect()
        let request = "GET /large?5000 HTTP/1.1\r\nHost: h\r\n"
        peer.send(String(repeating: request + "\r\n", count: 20) + request + "Connection: close\r\n\r\n")
        #expect(try peer.receiveAll().matches(of: /HTTP\/1.1 200 OK/).count == 21)
    }

    @Test func largeBodiesAreSeenOnTheirWayOnce() throws {
        let server = try TestServer()
        let peer = try server.connect()
        let body = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 4) }
        peer.send("POST /observed HTTP/1.1\r\nHost: h\r\nContent-Length: \(body.count)\r\n\r\n")
        peer.send(body)
        #expect(try peer.body() == "the same")

        peer.send("POST /observed HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in stride(from: 0, to: body.count, by: 70_000) {
            let chunk = body[start..<min(start + 70_000, body.count)]
            peer.send(Array("\(String(chunk.count, radix: 16))\r\n".utf8) + chunk + Array("\r\n".utf8))
        }
        peer.send("0\r\n\r\n")
        #expect(try peer.body() == "the same")

        peer.send("POST /observed HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
        #expect(try peer.body() == "not observed")
    }

    // MARK: Owed answers

    @Test func aClientThatLeavesIsWithdrawnAndItsAnswerGoesNowhere() async throws {
        let server = try TestServer()
        for isReset in [false, true] {
            let before = server.seen.held.count
            let peer = try server.connect()
            peer.sendGet("/hold")
            try server.eventually("the request") { $0.held.count > before }
            if isReset { peer.resetOnClose() }
        }
        try server.eventually("the withdrawals") { $0.withdrawals == $0.held.count && $0.held.count == 2 }
        for ticket in server.seen.held { #expect(await !server.recorder.answer(ticket, "too late")) }
    }

    @Test func aClientThatOnlyEndsItsSideIsToldAndItsFurtherRequestsRun() throws {
        let server = try TestServer()
        let peer = try server.connect()
        for target in ["/hold", "/", "/hold"] { peer.sendGet(target) }
        peer.halfClose()
        let answers = try peer.receiveAll()
        #expect(answers.split(separator: "\r\n\r\n").dropFirst().map { $0.prefix(2) } == ["wi", "ok", "wi"])
        try server.eventually("the withdrawals") { $0.withdrawals == 2 }
    }

    @Test func anAnswerIsGivenOnce() async throws {
        let server = try TestServer()
        let peer = try server.connect()
        peer.sendGet("/hold")
        try server.eventually("the request") { !$0.held.isEmpty }
        let ticket = try #require(server.seen.held.first)
        #expect(await server.recorder.answer(ticket, "once"))
        #expect(await !server.recorder.answer(ticket, "twice"))
        #expect(try peer.body() == "once")
    }

    // MARK: Deliveries

    /// The clients are slow to read their last answer. The argument says what makes it the last.
    @Test(arguments: ["Connection: close", "half-closed", "half-closed, on a Unix-domain socket"])
    func aLastAnswerThatIsReadLateHasArrived(_ kind: String) async throws {
        let isLocal = kind.hasSuffix("socket")
        let server = try TestServer(isLocal ? .unix(path: socketPath()) : .tcp(host: "127.0.0.1", port: 0)) {
            $0.lingerTimeoutMilliseconds = 1_000_000
        }
        let peer = try server.connect(receiveBuffer: 4096)
        let fields = kind.hasPrefix("Connection") ? "\(kind)\r\n" : ""
        peer.send("GET /tracked?100000 HTTP/1.1\r\nHost: h\r\n\(fields)\r\n")
        if fields.isEmpty { peer.halfClose() }
        try server.eventually("the request") { $0.handled == 1 }
        // This is longer than `lingerTimeoutMilliseconds`.
        for _ in 0..<4 { try server.pass(seconds: 500) }
        #expect(try peer.receiveAll().utf8.count > 100_000)
        try server.eventually("the end of the connection") { $0.connectionCount == 0 }
        #expect(server.seen.undelivered == [])
    }

    /// A client on a Unix-domain socket reads one answer, and disconnects with another request in flight.
    @Test(arguments: ["/hold", "/"])
    func whatALocalClientHasReadIsNotLostWithWhatItHasNot(_ next: String) throws {
        let path = socketPath()
        let server = try TestServer(.unix(path: path))
        do {
            let peer = try Peer(path: path)
            peer.sendGet("/tracked?10")
            #expect(try peer.body().utf8.count == 10)
            peer.sendGet(next)
            try server.eventually("the second request") { $0.handled == 2 }
        }
        try server.eventually("the end of the connection") { $0.connectionCount == 0 }
        #expect(server.seen.undelivered == [])
    }

    /// An answer in a living client's socket cannot be taken back. The client may still read it, so it is not lost.
    @Test func aLocalClientThatNeverReadsIsGivenUpAndKeepsWhatItWasGiven() throws {
        let path = socketPath()
        let server = try TestServer(.unix(path: path))
        let (first, second) = (try server.connect(), try server.connect())
        first.send("GET /tracked?1000 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        second.sendGet("/tracked?1001")
        second.sendGet("/tracked?10000000")
        try server.eventually("the requests") { $0.handled == 3 }
        try server.eventually("the end of the connections", passingSeconds: 1000) { $0.connectionCount == 0 }
        #expect(server.seen.undelivered == [10_000_000])
        #expect(try first.receiveAll().utf8.count > 1000)
        #expect(try second.body().utf8.count > 1000)
    }

    @Test func aClientThatHasGoneIsWithdrawnBeforeAnythingElseInThatTurn() throws {
        let server = try TestServer()
        do {
            let peer = try server.connect()
            peer.sendGet("/")
            #expect(try peer.body() == "ok")
            peer.sendGet("/hold")
            try server.eventually("the request") { $0.held.count == 1 }
        }
        try server.eventually("the withdrawal") { $0.withdrawals == 1 }
        // TLS's goodbye may come before the end of the socket, and is read in its own turn.
        let turns = server.seen.turnsBeforeWithdrawal - server.seen.turnsBeforeHold
        #expect((0...(TestTLS.isOverTLS ? 1 : 0)).contains(turns))
    }

    @Test func aPeerThatGoesOnSendingAfterItsRefusalIsLeft() throws {
        let server = try TestServer { $0.lingerTimeoutMilliseconds = 1_000_000 }
        let peer = try server.connect()
        peer.send("no request\r\n\r\n")
        let burst = [UInt8](repeating: 0, count: 1 << 20)
        var count = 0
        while count < 100, peer.send(burst) {
            count += 1
            try server.pass(seconds: 100)
        }
        #expect((9..<100).contains(count))
    }

    @Test func burstsDoNotPutTheDeadlineOfABodyOff() throws {
        let server = try TestServer {
            $0.bodyTimeoutMilliseconds = 1_000_000
            $0.bodyBytesPerSecond = 100_000_000
        }
        let peer = try server.connect()
        peer.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000000\r\n\r\n")
        let burst = [UInt8](repeating: 0, count: 600_000)
        for _ in 0..<10 {
            #expect(!peer.isReadable)
            peer.send(burst)
            try server.pass(seconds: 100)
        }
        #expect(try peer.receiveAll().hasPrefix("HTTP/1.1 408 "))
    }

    @Test func connectionsThatLingerHoldNoMemory() throws {
        let server = try TestServer()
        var peers: [Peer] = []
        for _ in 0..<10 {
            let peer = try server.connect()
            peer.send("?")
            #expect(try peer.receiveAll().hasPrefix("HTTP/1.1 400 "))
            peer.send("?")
            peers.append(peer)
        }
        try server.eventually("the memory to be given back") { $0.bufferBytes < 100_000 + 10 * idleBytes }
        withExtendedLifetime(peers) {}
    }

    @Test func whatCountsAsLostDoesNotArriveLater() throws {
        let server = try TestServer()
        let peer = try server.connect(receiveBuffer: 4096)
        peer.send("GET /tracked?100000 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        try server.eventually("the request") { $0.handled == 1 }
        try server.eventually("the end of the connection", passingSeconds: 1000) { $0.connectionCount == 0 }
        #expect(server.seen.undelivered == [100_000])
        // The client may read what had arrived, then gets a reset; the whole answer never arrives.
        #expect((try? peer.receiveAll().utf8.count) ?? 0 < 100_000)
    }

    @Test(arguments: [false, true])
    func anAnswerThatAClientLeavesUnreadIsLost(_ isLocal: Bool) throws {
        let path = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
        let server = try TestServer(isLocal ? .unix(path: path) : .tcp(host: "127.0.0.1", port: 0))
        do {
            let peer = isLocal ? try Peer(path: path) : try server.connect(receiveBuffer: 4096)
            peer.sendGet("/tracked?100000")
            try server.eventually("the request") { $0.handled == 1 }
        }
        try server.eventually("the end of the connection") { $0.connectionCount == 0 }
        #expect(server.seen.undelivered == [100_000])
    }

    @Test func whatAPeerDidNotGetIsReportedLastFirst() throws {
        let server = try TestServer { $0.outputBytes = 256 << 20 }
        do {
            let peer = try server.connect()
            peer.sendGet("/tracked?1")
            #expect(try peer.body() == "x")
            for size in [16_000_000, 16_000_001, 16_000_002] { peer.sendGet("/tracked?\(size)") }
            try server.eventually("all answers") { $0.handled == 4 }
            peer.resetOnClose()
        }
        try server.eventually("the end of the connection") { $0.connectionCount == 0 }
        #expect(server.seen.undelivered == [16_000_002, 16_000_001, 16_000_000])
    }

    // MARK: Listening

    @Test func everyAddressOfTheMachineIsBothFamilies() throws {
        let server = try TestServer(try Address(":0"))
        for isIPv6 in [false, true] {
            let peer = try Peer(port: server.port, isIPv6: isIPv6)
            peer.sendGet("/")
            #expect(try peer.body() == "ok")
        }
    }

    @Test func localhostIsOnePortOnEachOfItsAddresses() throws {
        let server = try TestServer(try Address("localhost:0"))
        #expect(Set(server.addresses.map(\.description)).count == 1)
        let peer = try server.connect()
        peer.sendGet("/")
        #expect(try peer.body() == "ok")
    }

    @Test func aPortInUseAndAnUnknownHostAreErrors() throws {
        let server = try TestServer()
        let error = #expect(throws: SystemError.self) { _ = try TestServer(server.addresses[0]) }
        #expect(error?.code == EADDRINUSE)
        #expect(throws: SystemError.self) { _ = try TestServer(.tcp(host: "no.such.host.invalid", port: 0)) }
    }

    @Test func aSuccessorsSocketIsLeftToIt() throws {
        let path = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
        let first = try TestServer(.unix(path: path))
        try FileManager.default.removeItem(atPath: path)
        let second = try TestServer(.unix(path: path))
        _ = consume first
        let peer = try Peer(path: path)
        peer.sendGet("/")
        #expect(try peer.body() == "ok")
        _ = second
    }

    @Test func largeBodiesAreRefusedWhileTheBuffersTakeTooMuch() throws {
        let server = try TestServer { $0.bufferBytes = 4 << 20 }
        var idle: Peer? = try server.connect(receiveBuffer: 4096)
        idle?.sendGet("/large?33554432")
        try server.eventually("the large answer") { $0.handled == 1 }
        do {
            let large = try server.connect()
            large.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n")
            #expect(try large.receiveAll().hasPrefix("HTTP/1.1 503 "))
        }
        let small = try server.connect()
        small.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n" + String(repeating: "x", count: 1000))
        #expect(try small.body() == "ok")
        // Once the large answer is gone, there is room again.
        idle?.resetOnClose()
        idle = nil
        try server.eventually("the end of the connections") { $0.connectionCount == 1 }
        let next = try server.connect()
        next.send(
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + String(repeating: "x", count: 100_000))
        #expect(try next.body() == "ok")
    }

    @Test func aUnixSocketIsMadeAndRemovedAndALiveOneLeftAlone() throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "emq-net-\(UUID().uuidString.prefix(8)).sock")
            .path
        let address = Address.unix(path: path)
        do {
            let server = try TestServer(address)
            #expect(throws: SystemError.self) { _ = try TestServer(address) }
            let peer = try Peer(path: path)
            peer.sendGet("/")
            #expect(try peer.body() == "ok")
            withExtendedLifetime(server) {}
        }
        #expect(!FileManager.default.fileExists(atPath: path))

        // The server does not remove a file that is not a socket.
        #expect(FileManager.default.createFile(atPath: path, contents: Data("mine".utf8)))
        #expect(throws: SystemError.self) { _ = try TestServer(address) }
        #expect(FileManager.default.contents(atPath: path) == Data("mine".utf8))
        try FileManager.default.removeItem(atPath: path)
    }

    // MARK: The loop as an executor

    @Test func jobsFromOtherThreadsRunOnTheLoop() async throws {
        let server = try TestServer()
        let recorder = server.recorder
        await withTaskGroup { group in
            for _ in 0..<50 {
                group.addTask { for _ in 0..<100 { await recorder.increment() } }
            }
        }
        #expect(await recorder.number == 5000)
        withExtendedLifetime(server) {}
    }
}
