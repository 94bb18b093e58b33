// Lookups without an answer: which tasks wait for them, and which do not. Runs in virtual time with the real client;
// the test ends its lookups.

import Foundation
import Queues
import Support
import Synchronization
import Testing
import UID

@testable import Delivery
@testable import Net

@Suite(.blocking) struct LookUpTests {
    private final class Clock: Sendable {
        let now = Atomic<Int64>(1_000_000)
    }

    /// Lookups that hang: the number that have begun, and a semaphore to end them.
    private final class Gate: Sendable {
        let begun = Atomic(0)
        let semaphore = DispatchSemaphore(value: 0)
    }

    @Test func unansweredNamesHoldUpTheirOwnQueueAlone() throws {
        let (clock, gate) = (Clock(), Gate())
        let loop = try EventLoop { clock.now.load(ordering: .sequentiallyConsistent) }
        defer { for _ in 1...100 { gate.semaphore.signal() } }
        let broker = Broker(executor: InlineExecutor(), firstToken: 1, now: loop.now, maximumTasks: 1000)
        try broker.assumeIsolated { broker in
            try Self.run(on: broker, loop, clock, gate)
        }
    }

    private static func run(on broker: isolated Broker, _ loop: EventLoop, _ clock: Clock, _ gate: Gate) throws {
        let client = HTTPClient(
            loop: loop, limits: ClientLimits(), refusal: { _, _, _ in nil },
            lookUp: { name in
                guard name.hasPrefix("hanging") else { return .success([IPAddress("127.0.0.1")].compactMap { $0 }) }
                gate.begun.add(1, ordering: .sequentiallyConsistent)
                gate.semaphore.wait()
                return .failure(SystemError("find the host", reason: "nobody knows"))
            })
        let courier = OwnCourier { _ in [] }
        let delivery = Delivery(
            sender: client, on: broker, makeID: { _ in UID(high: 0, low: 0) }, courier: { _ in courier })

        var count: UInt64 = 0
        func add(_ queue: String, _ url: String) throws -> UID {
            count += 1
            let options = TaskOptions()
            options.request = Array("{\"url\":\"\(url)\"}".utf8)
            options.backoff = Backoff(minimumMilliseconds: 3_600_000, maximumDoublings: 0)
            let task = NewTask(id: UID(high: count, low: count), content: 0..<1, options: options)
            let index = try broker.queue(named: Array(queue.utf8).span)
            return try broker.enqueue(task, content: [UInt8(ascii: "1")].span, in: index, now: loop.now).id
        }
        func attempts(_ ids: some Sequence<UID>) -> Int {
            ids.reduce(0) { sum, id in sum + Int(broker.withTask(id: id, now: loop.now) { $0.attempt } ?? 0) }
        }
        func error(_ id: UID) -> String { text(broker.withTask(id: id, now: loop.now) { $0.error } ?? []) }
        func turn() {
            loop.turn(until: loop.now)
            _ = broker.advance(to: loop.now)
            delivery.beginTurn(on: broker, now: loop.now)
            _ = delivery.endTurn(on: broker, now: loop.now)
        }
        func wait(_ what: String, _ isSo: () -> Bool) {
            let end = Date(timeIntervalSinceNow: 60)
            while !isSo(), Date() < end {
                turn()
                usleep(500)
            }
            #expect(isSo(), "\(what)")
        }

        let bad = try (1...200).map { try add("bad", "http://hanging\($0).test/") }
        for _ in 0..<10 { turn() }
        // Nothing listens there, so the connection fails at once.
        let good = try add("good", "http://good.test:1/")
        wait("another queue's task") { error(good).contains("cannot connect to good.test:1 at 127.0.0.1") }
        wait("the look-ups") { gate.begun.load(ordering: .sequentiallyConsistent) == 4 }
        #expect(attempts(bad) == 4)

        // Tasks that wait for a lookup in progress reach their timeouts. Those whose lookups have not begun have had no
        // attempt.
        clock.now.add(10_000, ordering: .sequentiallyConsistent)
        wait("the failures") { bad[..<4].allSatisfy { error($0).contains(".test/: no connection to hanging") } }
        for _ in 0..<10 { turn() }
        #expect(attempts(bad[4...]) == 0)
        let second = try add("good", "http://good.test:1/")
        wait("another queue's task") { error(second).contains("cannot connect") }

        // For each lookup that ends, another one begins.
        for _ in 0..<3 { gate.semaphore.signal() }
        wait("the next look-ups") { gate.begun.load(ordering: .sequentiallyConsistent) == 7 }
        #expect(attempts(bad) == 7)
    }
}
