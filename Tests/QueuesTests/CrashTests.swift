// Leases that run out: how they are counted, and how many may.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct CrashTests {
    private func id(_ number: UInt64) -> UID { UID(high: number, low: number) }

    private func crashes(_ number: UInt64, _ broker: isolated Broker, now: Int64) -> UInt32? {
        broker.withTask(id: id(number), now: now) { $0.crashes }
    }

    private func error(_ number: UInt64, _ broker: isolated Broker, now: Int64) -> String? {
        broker.withTask(id: id(number), now: now) { text($0.error.span) }
    }

    /// Has a worker take the next task of a queue, and lets its lease of 10 ms run out.
    private func crash(
        _ name: String = "a", by worker: String = "host-7", at now: Int64, on broker: isolated Broker
    ) throws {
        var taken: [TaskHandle?] = []
        let queue = try broker.queue(name)
        let isTaken = broker.takeAny(
            [queue], limit: 1, leaseMilliseconds: 10, worker: Array(worker.utf8), now: now, into: &taken)
        try #require(isTaken)
        broker.advanceFully(to: now + 10)
    }

    private let noPause = Backoff(minimumMilliseconds: 0)

    @Test func aTaskWhoseLeasesRunOutTooOftenIsDead() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { $0.crashLimit = .limited(2) }
            try crash(at: 0, on: broker)
            try crash(at: 100, on: broker)
            #expect(broker.state(1, now: 200) == .ready && crashes(1, broker, now: 200) == 2)
            #expect(broker.withTask(id: id(1), now: 200) { $0.crashLimit } == 2)
            try crash(at: 200, on: broker)
            #expect(broker.state(1, now: 210) == .dead && crashes(1, broker, now: 210) == 3)
            #expect(error(1, broker, now: 210) == "the lease ran out 3 times (worker host-7)")
            #expect(broker.withTask(id: id(1), now: 210) { $0.retries } == 2)
        }
    }

    @Test func withoutOneThatMayTheFirstIsTheEnd() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { $0.crashLimit = .limited(0) }
            try crash(by: "", at: 0, on: broker)
            #expect(broker.state(1, now: 10) == .dead && error(1, broker, now: 10) == "the lease ran out 1 time")
        }
    }

    /// What workers refuse or give back neither counts nor starts the count anew; a lease that runs out is a retry, too.
    @Test func onlyLeasesThatRunOutCount() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { ($0.crashLimit, $0.backoff) = (.limited(1), noPause) }
            try crash(at: 0, on: broker)
            for (index, action) in [NakAction.failed, .release, .failed].enumerated() {
                let now = Int64(100 + index)
                _ = try broker.take("a", now: now)
                #expect(broker.nak(1, action, error: "no", now: now) == .requeued)
                #expect(crashes(1, broker, now: now) == 1)
            }
            #expect(broker.withTask(id: id(1), now: 110) { $0.retries } == 3)
            try crash(at: 200, on: broker)
            #expect(broker.state(1, now: 210) == .dead)
            #expect(error(1, broker, now: 210) == "the lease ran out 2 times (worker host-7)")
        }
    }

    @Test func bothBoundsApply() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { ($0.crashLimit, $0.retryLimit) = (.limited(5), .limited(1)) }
            try crash(at: 0, on: broker)
            try crash(at: 100, on: broker)
            #expect(broker.state(1, now: 110) == .dead)
            #expect(error(1, broker, now: 110) == "the lease ran out (worker host-7)")
        }
    }

    @Test func aKickAndNewContentBeginAnew() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { ($0.crashLimit, $0.key) = (.limited(0), [1]) }
            try crash(at: 0, on: broker)
            #expect(broker.kick(1, now: 20) == true)
            #expect(broker.state(1, now: 20) == .ready && crashes(1, broker, now: 20) == 0)
            // New content, for a task that waits and for one that a worker holds.
            for now: Int64 in [100, 200] {
                try broker.add(2, to: "a", now: now) { options in
                    (options.key, options.onConflict, options.crashLimit) = ([1], .replace, .limited(1))
                }
                #expect(crashes(1, broker, now: now) == 0)
                try crash(at: now + 10, on: broker)
                #expect(broker.state(1, now: now + 20) == .ready && crashes(1, broker, now: now + 20) == 1)
            }
            _ = try broker.take("a", now: 300)
            try broker.add(2, to: "a", now: 300) { ($0.key, $0.onConflict) = ([1], .replace) }
            #expect(crashes(1, broker, now: 300) == 0)
            #expect(broker.nak(1, .failed, now: 300) == .requeued)
            #expect(broker.withTask(id: id(1), now: 300) { $0.crashLimit } == .some(nil))
        }
    }

    @Test func theQueuesBoundAppliesToTasksWithoutOne() throws {
        try withBroker { broker in
            try broker.configure("a") { ($0.maximumCrashes, $0.backoff) = (0, noPause) }
            try broker.add(1, to: "a")
            try broker.add(2, to: "a") { $0.crashLimit = .limited(1) }
            try broker.add(3, to: "a") { $0.crashLimit = .unlimited }
            for round: Int64 in 0..<2 {
                for place: Int64 in 0..<3 where round == 0 || place < 2 {
                    try crash(at: 1000 * round + 100 * place, on: broker)
                }
            }
            #expect(try broker.peek("a", .dead, now: 2000) == [1, 2])
            #expect(try broker.peek("a", now: 2000) == [3] && crashes(3, broker, now: 2000) == 2)
        }
    }

    @Test func aQueueCanHaveAnyNumberWhateverTheDefaultsSay() throws {
        try withBroker { broker in
            var defaults = QueueConfiguration()
            defaults.maximumCrashes = 0
            try broker.setDefaults(defaults)
            try broker.configure("a") { $0.builtIn = .maximumCrashes }
            try broker.add(1, to: "a")
            try broker.add(2, to: "b")
            try crash("a", at: 0, on: broker)
            try crash("b", at: 100, on: broker)
            #expect(broker.state(1, now: 200) == .ready && broker.state(2, now: 200) == .dead)
        }
    }

    /// A bound also applies to tasks that are queued already, whose crashes were counted without one.
    @Test func aLowerBoundEndsWaitingTasks() throws {
        try withBroker { broker in
            for number: UInt64 in 1...3 { try broker.add(number, to: "a") }
            try crash(at: 0, on: broker)
            try crash(at: 100, on: broker)
            _ = try broker.take("a", now: 200)
            try broker.configure("a") { $0.maximumCrashes = 0 }
            broker.advanceFully(to: 200)
            #expect(try broker.peek("a", .dead, now: 200) == [1, 2])
            #expect(error(1, broker, now: 200) == "the lease ran out 1 time")
            #expect(broker.state(3, now: 200) == .dispatched)
        }
    }

    @Test func aDeadLetterBeginsAnew() throws {
        try withBroker { broker in
            try broker.configure("a") { ($0.maximumCrashes, $0.deadLetter) = (1, Array("b".utf8)) }
            try broker.add(1, to: "a") { $0.crashLimit = .limited(0) }
            try crash(at: 0, on: broker)
            #expect(try broker.peek("b", now: 20) == [1])
            #expect(error(1, broker, now: 20) == "the lease ran out 1 time (worker host-7)")
            try crash("b", at: 100, on: broker)
            #expect(try broker.peek("b", now: 120) == [1] && crashes(1, broker, now: 120) == 1)
            #expect(broker.kick(1, toOrigin: true, now: 120) == true)
            #expect(crashes(1, broker, now: 120) == 0)
            try crash(at: 200, on: broker)
            #expect(try broker.peek("a", now: 220) == [1])
        }
    }

    /// No worker holds a task that is being sent.
    @Test func sendsAreNotCounted() throws {
        try withBroker { broker in
            broker.beginSending()
            try broker.configurePushed("a") { $0.maximumCrashes = 0 }
            try broker.add(1, to: "a") { $0.backoff = noPause }
            for now: Int64 in [0, 100] {
                _ = try broker.sendOne("a", lease: 10, now: now)
                broker.advanceFully(to: now + 10)
                #expect(broker.state(1, now: now + 10) == .ready && crashes(1, broker, now: now + 10) == 0)
            }
        }
    }

    @Test func withoutMemoryACrashIsNotCounted() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.maximumCrashes = 0 }
            try broker.add(1, to: "a", lease: 10)
            let before = broker.memoryBytes
            broker.isShortOfMemory = true
            _ = try broker.take("a")
            broker.advanceFully(to: 10)
            #expect(broker.state(1, now: 10) == .ready && broker.memoryBytes == before)
        }
    }

    /// Nobody knows whether a worker was there when a lease ran out while the server was down.
    @Test func aRestartKeepsTheCountAndAddsNothing() throws {
        try restarting(downMilliseconds: 5000, graceMilliseconds: 100) { broker in
            try broker.add(1, to: "a", now: 1_000_000) { ($0.crashLimit, $0.backoff) = (.limited(1), noPause) }
            try crash(at: 1_000_000, on: broker)
            _ = try broker.take("a", now: 1_000_010)
        } after: { broker, now in
            #expect(broker.state(1, now: now) == .dispatched && crashes(1, broker, now: now) == 1)
            broker.advanceFully(to: now + 100)
            #expect(broker.state(1, now: now + 100) == .ready && crashes(1, broker, now: now + 100) == 1)
            try crash(at: now + 200, on: broker)
            #expect(broker.state(1, now: now + 300) == .dead)
        }
    }
}
