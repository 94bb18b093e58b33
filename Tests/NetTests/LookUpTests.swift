// How many names are looked up at once, and for which groups.

import Foundation
import Support
import Testing

@testable import Net

@Suite(.blocking) struct LookUpTests {
    private let clock = TestClock()
    private let gate = DispatchSemaphore(value: 0)
    private let begun = DispatchSemaphore(value: 0)
    private let client: TestClient

    init() throws {
        client = try TestClient(names: ["living.test": ["127.0.0.1"]], clock: clock) { [gate, begun] name in
            guard name.hasPrefix("hanging") else { return }
            begun.signal()
            gate.wait()
        }
    }

    /// Sends a request whose look-up does not end before `release`.
    private func hang(_ number: Int, group: UInt32) throws {
        try client.send(UInt64(number), "http://hanging\(number).test/") { $0.group = group }
    }

    private func canBegin(_ host: String, _ group: UInt32) throws -> Bool {
        let url = try HTTPURL(Array("http://\(host)/".utf8).span)
        var request = ClientRequest(url: url, method: Array("GET".utf8), fields: [], body: nil)
        request.group = group
        return client.client.canBegin(request)
    }

    /// Lets `count` look-ups end, and waits until the client has noticed.
    private func release(_ count: Int) throws {
        for _ in 0..<count { gate.signal() }
        var ended = 0
        _ = try client.wait("the look-ups") {
            ended += client.client.takeEndedLookUpCount()
            return ended >= count ? true : nil
        }
        #expect(ended == count)
    }

    @Test func aGroupLooksUpAFewNamesAtOnce() throws {
        defer { for _ in 1...4 { gate.signal() } }
        for number in 1...4 { try hang(number, group: 7) }
        #expect(try !canBegin("hanging5.test", 7))
        #expect(try canBegin("hanging5.test", 8))
        // A name that is being looked up can be asked for again, and an address needs no look-up.
        #expect(try canBegin("hanging4.test", 7))
        #expect(try canBegin("127.0.0.1", 7))
        #expect(client.client.takeEndedLookUpCount() == 0)
        try release(1)
        #expect(try canBegin("hanging5.test", 7))
    }

    @Test func allGroupsTogetherLookUpABoundedNumber() throws {
        defer { for _ in 1...16 { gate.signal() } }
        try client.send(100, "http://living.test:1/")
        _ = try client.end(of: 100)
        #expect(client.client.takeEndedLookUpCount() == 1)
        for number in 1...16 { try hang(number, group: UInt32(number % 4)) }
        #expect(try !canBegin("hanging17.test", 9))
        #expect(try canBegin("living.test", 9))
        clock.add(milliseconds: 5_001)
        client.turn()
        #expect(try !canBegin("living.test", 9))
        // The exchanges end, but look-ups that have begun continue.
        for _ in 1...16 { try #require(begun.wait(timeout: .now() + 120) == .success) }
        for number in 1...16 { client.client.cancel(UInt64(number)) }
        #expect(try !canBegin("hanging17.test", 9))
        try release(16)
        #expect(try canBegin("hanging17.test", 9))
    }

    @Test func theLastLookUpsAreForGroupsWithout() throws {
        defer { for _ in 1...12 { gate.signal() } }
        for number in 1...11 { try hang(number, group: UInt32(number % 4)) }
        #expect(try canBegin("hanging13.test", 0))
        try hang(12, group: 0)
        #expect(try !canBegin("hanging13.test", 1))
        #expect(try canBegin("hanging13.test", 4))
    }

    @Test func namesThatTookLongLeaveRoomForOthers() throws {
        defer { for _ in 1...8 { gate.signal() } }
        for number in 1...9 { try hang(number, group: UInt32(number % 3)) }
        clock.add(milliseconds: 2_000)
        client.turn()
        try release(9)
        for number in 1...9 { _ = try client.end(of: UInt64(number)) }
        // Failures are cached for one second.
        #expect(try canBegin("hanging9.test", 3))
        clock.add(milliseconds: 1_001)
        client.turn()
        for number in 1...8 {
            #expect(try canBegin("hanging\(number).test", UInt32(number % 3)))
            try client.send(UInt64(10 + number), "http://hanging\(number).test/") { $0.group = UInt32(number % 3) }
        }
        #expect(try !canBegin("hanging9.test", 3))
        #expect(try canBegin("hanging10.test", 3))
        clock.add(milliseconds: 60_000)
        client.turn()
        #expect(try canBegin("hanging9.test", 3))
    }
}
