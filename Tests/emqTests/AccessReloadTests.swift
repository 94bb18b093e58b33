// When the tokens are read again, and when they end, in virtual time.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct AccessReloadTests {
    private static let now: Int64 = 1_700_000_000_000
    private static let minute: Int64 = 60_000

    /// What a token is good for.
    private func standing(_ token: TestToken, in access: Access, now: Int64) -> String {
        switch access.caller(showing: Array(token.bearer.utf8).span, now: now) {
        case .anyone: "anyone"
        case .holder(let token): token.name
        case .stranger(let reason): "\(reason)"
        }
    }

    @Test func changedTokensAreReadWithinAMinute() throws {
        let (old, new) = (TestToken("old", ["read"]), TestToken("new", ["read"]))
        let (file, log) = (try TokenFile([old]), TestLog())
        let access = try Access(path: file.path, now: Self.now, log: log.log)
        #expect(access.endTurn(isAsked: false, now: Self.now) == Self.now + Self.minute)
        #expect(standing(old, in: access, now: Self.now) == "old")
        // Once more, when it is remembered.
        #expect(standing(old, in: access, now: Self.now) == "old")
        #expect(standing(new, in: access, now: Self.now) == "unknown")
        try file.write([new])
        #expect(access.endTurn(isAsked: false, now: Self.now + 1) == Self.now + Self.minute)
        #expect(standing(old, in: access, now: Self.now + 1) == "old" && log.take().isEmpty)
        _ = access.endTurn(isAsked: false, now: Self.now + Self.minute)
        #expect(log.take() == ["info read 1 token from '\(file.path)' again"])
        #expect(standing(old, in: access, now: Self.now) == "unknown")
        #expect(standing(new, in: access, now: Self.now) == "new")
        _ = access.endTurn(isAsked: false, now: Self.now + 2 * Self.minute)
        #expect(log.take().isEmpty)
    }

    @Test func aBadFileKeepsTheTokens() throws {
        let token = TestToken("a", ["read"])
        let (file, log) = (try TokenFile([token]), TestLog())
        let access = try Access(path: file.path, now: Self.now, log: log.log)
        _ = access.endTurn(isAsked: false, now: Self.now)
        try file.write("{\"tokens\": [\n{\"name\": \"b\", \"sha256\": \"x\"}]}")
        _ = access.endTurn(isAsked: true, now: Self.now + 1)
        #expect(
            log.take() == [
                "warning the tokens stay as they were: \(file.path): line 2: tokens[0].sha256: this must be a SHA-256: 64 "
                    + "hexadecimal digits, not 1 characters"
            ])
        #expect(standing(token, in: access, now: Self.now) == "a")
        try FileManager.default.removeItem(atPath: file.path)
        _ = access.endTurn(isAsked: false, now: Self.now + 2 * Self.minute)
        #expect(
            log.take() == [
                "warning the tokens stay as they were: cannot read '\(file.path)': No such file or directory"
            ])
        #expect(standing(token, in: access, now: Self.now) == "a")
        try file.write([token, TestToken("b", ["read"])])
        _ = access.endTurn(isAsked: false, now: Self.now + 4 * Self.minute)
        #expect(log.take() == ["info read 2 tokens from '\(file.path)' again"])
    }

    @Test func aTokenEndsAtItsTime() throws {
        let token = TestToken("a", ["read"], expires: Double(Self.now) / 1000 + 10)
        let file = try TokenFile([token, TestToken("b", ["read"], expires: 1)])
        let access = try Access(path: file.path, now: Self.now)
        #expect(
            access.startEvents(now: Self.now).map(\.message) == [
                "read 2 tokens from '\(file.path)'", "these tokens have expired and no longer work: 'b'",
            ])
        #expect(standing(token, in: access, now: Self.now + 9_999) == "a")
        #expect(standing(token, in: access, now: Self.now + 10_000) == "expired")
    }

    @Test func manyTokensAreKnown() throws {
        let tokens = (0..<600).map { TestToken("token-\($0)", ["read"]) }
        let file = try TokenFile(tokens)
        let access = try Access(path: file.path, now: Self.now)
        for _ in 0..<2 {
            for token in tokens { #expect(standing(token, in: access, now: Self.now) == token.name) }
        }
    }

    /// Somebody with a wrong token learns that before the server has recovered.
    @Test func aStrangerIsRefusedDuringRecovery() throws {
        let file = try TokenFile([])
        let access = try Access(path: file.path, now: Self.now)
        let durability = TestDurability()
        durability.isReady = false
        for (access, status) in [(nil, 503), (access, 401)] {
            let server = try VirtualServer(durability: durability, access: access)
            #expect(try server.send("POST", "/enqueue/q", "{}", service: 0).status == status)
        }
    }

    /// The clients of legacy systems have no tokens.
    @Test func aLegacySystemNeedsNoToken() throws {
        let file = try TokenFile([])
        let access = try Access(path: file.path, now: Self.now)
        let server = try VirtualServer(
            Adapters(frontEnds: [Htq(workers: 1)], couriers: [HtqCourier(workers: 1)]), access: access)
        #expect(try server.send("GET", "/queues/", service: 0).status == 401)
        #expect(try server.send("GET", "/", service: 1).status == 200)
    }

    @Test func aSignalReadsTheTokensOfARunningServer() throws {
        let (old, new) = (TestToken("old", ["read"]), TestToken("new", ["read"]))
        let file = try TokenFile([old])
        let server = try Server(["--addr", "127.0.0.1:0", "--tokens", file.path])
        let client = try server.connect()
        #expect(try client.ask("GET", "/queues", nil, old.bearer).status == 200)
        try file.write([new])
        server.signal(SIGHUP)
        _ = try eventually("the new token") {
            try client.ask("GET", "/queues", nil, new.bearer).status == 200 ? true : nil
        }
        #expect(try client.ask("GET", "/queues", nil, old.bearer).status == 401)
    }

    @Test func aServerDoesNotStartWithABadFile() throws {
        let file = try TokenFile([])
        try file.write("{\"tokens\": [1]}")
        let result = try Server.run(["--addr", "127.0.0.1:0", "--tokens", file.path])
        #expect(result.status == 2)
        let text = result.error
        #expect(text.hasPrefix("emq: --tokens: \(file.path): line 1: tokens[0]: this must be an object"), "\(text)")
    }
}
