// What the service manager hears: that the server is ready, needs time, stops, and that its loop turns. And sockets
// that the service manager has opened.

import Foundation
import Glibc
import Net
import Support
import Testing

@testable import emq

/// Takes messages until it is told to lose them.
private final class Mailbox {
    private var messages: [String] = []
    var isFull = false

    func send(_ message: String) -> Bool {
        if !isFull { messages.append(message) }
        return !isFull
    }

    func take() -> [String] {
        defer { messages = [] }
        return messages
    }
}

@Suite(.blocking) struct ServiceManagerTests {
    private let mailbox = Mailbox()

    @Test func aServerIsReadyWhenItsJournalIs() {
        let manager = ServiceManager(watchdogMicroseconds: nil, send: mailbox.send)
        let durability = TestDurability()
        durability.isReady = false
        let progress = "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=recovering: 40 % of the journal is read"
        #expect(manager.endTurn(durability, stopsBy: nil, now: 5000) == 6000)
        #expect(mailbox.take() == [progress])
        // Once a second is enough.
        #expect(manager.endTurn(durability, stopsBy: nil, now: 5999) == 6000)
        #expect(mailbox.take() == [])
        #expect(manager.endTurn(durability, stopsBy: nil, now: 6001) == 7001)
        #expect(mailbox.take() == [progress])
        durability.isReady = true
        #expect(manager.endTurn(durability, stopsBy: nil, now: 6002) == nil)
        #expect(mailbox.take() == ["READY=1\nSTATUS=serving"])
        #expect(manager.endTurn(durability, stopsBy: nil, now: 60_000) == nil)
        #expect(mailbox.take() == [])
    }

    @Test func aServerThatStopsAsksForTimeUntilItsDeadline() {
        let manager = ServiceManager(watchdogMicroseconds: nil, send: mailbox.send)
        _ = manager.endTurn(nil, stopsBy: nil, now: 0)
        #expect(mailbox.take() == ["READY=1\nSTATUS=serving"])
        let more = "EXTEND_TIMEOUT_USEC=30000000"
        #expect(manager.endTurn(nil, stopsBy: 11_500, now: 10_000) == 11_000)
        #expect(mailbox.take() == ["STOPPING=1\nSTATUS=stopping", more])
        #expect(manager.endTurn(nil, stopsBy: 11_500, now: 11_000) == 12_000)
        #expect(mailbox.take() == [more])
        // What the disk needs then is not prolonged forever.
        #expect(manager.endTurn(nil, stopsBy: 11_500, now: 12_000) == nil)
        #expect(mailbox.take() == [])
    }

    @Test func theWatchdogHearsTwiceInItsTime() {
        let manager = ServiceManager(watchdogMicroseconds: 3_000_000, send: mailbox.send)
        #expect(manager.endTurn(nil, stopsBy: nil, now: 0) == 1500)
        #expect(mailbox.take() == ["READY=1\nSTATUS=serving", "WATCHDOG=1"])
        #expect(manager.endTurn(nil, stopsBy: nil, now: 1499) == 1500)
        #expect(mailbox.take() == [])
        #expect(manager.endTurn(nil, stopsBy: nil, now: 1500) == 3000)
        #expect(mailbox.take() == ["WATCHDOG=1"])
    }

    @Test func aMessageThatIsNotTakenIsSentAgain() {
        let manager = ServiceManager(watchdogMicroseconds: nil, send: mailbox.send)
        mailbox.isFull = true
        #expect(manager.endTurn(nil, stopsBy: nil, now: 0) == 100)
        mailbox.isFull = false
        #expect(manager.endTurn(nil, stopsBy: nil, now: 100) == nil)
        #expect(mailbox.take() == ["READY=1\nSTATUS=serving"])
    }

    @Test func onlyAServerThatIsMeantHasAManager() {
        #expect(ServiceManager([:]) == nil)
        for path in ["", "x", "@", "vsock:2:1", "/" + String(repeating: "x", count: 107)] {
            #expect(ServiceManager(["NOTIFY_SOCKET": path]) == nil)
        }
        #expect(ServiceManager(["NOTIFY_SOCKET": "@emq"]) != nil)
    }

    /// The program, and a socket such as systemd's.
    @Test(arguments: [false, true]) func theProgramTellsItsManager(isAbstract: Bool) throws {
        let name = NSTemporaryDirectory() + "emq-notify-" + UUID().uuidString
        let receiver = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        defer {
            close(receiver)
            unlink(name)
        }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { field in
            for (index, byte) in name.utf8.enumerated() { field[index + (isAbstract ? 1 : 0)] = byte }
        }
        let length = socklen_t(2 + (isAbstract ? 1 : 0) + name.utf8.count)
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(receiver, $0, length) }
        }
        try #require(status == 0)
        var timeout = timeval(tv_sec: 120, tv_usec: 0)
        setsockopt(receiver, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        func receive() -> String {
            var bytes = [UInt8](repeating: 0, count: 1000)
            let count = recv(receiver, &bytes, bytes.count, 0)
            return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
        }
        let directory = DataDirectory()
        let variables = ["NOTIFY_SOCKET": (isAbstract ? "@" : "") + name, "WATCHDOG_USEC": "20000"]
        let server = try directory.begin(environment: variables)
        var message = receive()
        while message.contains("recovering") || message == "WATCHDOG=1" { message = receive() }
        #expect(message == "READY=1\nSTATUS=serving")
        #expect(try server.get("/healthz").status == 200)
        for _ in 0..<3 { #expect(receive() == "WATCHDOG=1") }
        server.signal(SIGTERM)
        repeat { message = receive() } while message == "WATCHDOG=1"
        #expect(message == "STOPPING=1\nSTATUS=stopping")
        #expect(try server.exitStatus() == 0)
    }

    // MARK: Sockets

    @Test func socketsOfOthersAreLeftAlone() throws {
        for variables in [[:], ["LISTEN_FDS": "1"], ["LISTEN_FDS": "1", "LISTEN_PID": "1"]] {
            #expect(try Options([]) { variables[$0] }.addresses == [Endpoint(.tcp(host: "localhost", port: 8080))])
        }
    }

    @Test(arguments: ["x", "-1", "1001", "1"]) func wrongSocketsAreExplained(count: String) {
        // Descriptor 3 of this process is no listening socket.
        let variables = ["LISTEN_FDS": count, "LISTEN_PID": "\(getpid())", "LISTEN_FDNAMES": "web"]
        let error = #expect(throws: UsageError.self) { try Options([]) { variables[$0] } }
        #expect(
            error?.description == "systemd passes socket 1 ('web'), but it is not a stream socket that listens"
                || error?.description.hasPrefix("LISTEN_FDS must be a number of sockets up to 1000, not") == true)
    }
}
