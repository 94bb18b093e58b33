// The defaults for all queues, and the backoff when nothing sets one.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct DefaultsTests {
    private static let defaults: QueueConfiguration = {
        var defaults = QueueConfiguration()
        (defaults.leaseMilliseconds, defaults.expiry, defaults.priority) = (7000, .never, 3)
        (defaults.maximumRetries, defaults.backoff) = (1, Backoff(minimumMilliseconds: 500))
        (defaults.keepMilliseconds, defaults.maximumLength, defaults.isExpiryDeath) = (9000, 2, true)
        (defaults.deadLetter, defaults.deadExpiryMilliseconds) = (Array("graveyard".utf8), 60_000)
        return defaults
    }()

    @Test func queuesWithoutAConfigurationHaveTheDefaults() throws {
        try withBroker { broker in
            try broker.setDefaults(Self.defaults)
            try broker.add(1, to: "q", lease: nil) { _ in }
            let taken = try broker.take("q")?.first
            #expect(taken?.leaseEnd == 7000)
            #expect(broker.withTask(id: UID(high: 1, low: 1), now: 0) { $0.priority } == 3)
            #expect(broker.withTask(id: UID(high: 1, low: 1), now: 0) { $0.expires } == .some(nil))
            #expect(broker.nak(1, .failed) == .requeued)
            #expect(broker.state(1) == .delayed)
            broker.advanceFully(to: 500)
            #expect(try broker.take("q", now: 500)?.count == 1)
            #expect(broker.nak(1, .failed, now: 500) == .dead)
            #expect(try broker.peek("graveyard", now: 500) == [1])
            // There it dies in place.
            #expect(try broker.take("graveyard", now: 500)?.count == 1)
            #expect(broker.nak(1, .dead, now: 500) == .dead)
            #expect(try broker.peek("graveyard", .dead, now: 500) == [1])
            for number: UInt64 in 2...3 { try broker.add(number, to: "q", now: 500) { _ in } }
            #expect(throws: BrokerError.self) { try broker.add(4, to: "q", now: 500) { _ in } }
            _ = try broker.take("q", now: 500)
            #expect(broker.ack(2, now: 500) == true)
            #expect(broker.state(2, now: 9499) == .done && broker.state(2, now: 9500) == nil)
        }
    }

    /// An expiry says how long a task is worth doing. A dead letter stays until an operator looks at it.
    @Test func deadLettersDoNotExpireByDefaults() throws {
        try withBroker { broker in
            var defaults = QueueConfiguration()
            defaults.expiry = .after(milliseconds: 50)
            try broker.setDefaults(defaults)
            try broker.configure("q") { ($0.maximumRetries, $0.deadLetter) = (0, Array("graveyard".utf8)) }
            try broker.add(1, to: "q")
            _ = try broker.take("q")
            #expect(broker.nak(1, .failed) == .dead)
            broker.advanceFully(to: 100_000)
            #expect(try broker.peek("graveyard", now: 100_000) == [1])
        }
    }

    @Test func queuesAndTasksOverrideTheDefaults() throws {
        try withBroker { broker in
            try broker.configure("q") { configuration in
                (configuration.leaseMilliseconds, configuration.keepMilliseconds) = (100, 200)
            }
            try broker.configure("plain") { configuration in
                configuration.builtIn = [.keep, .priority, .expiryDeath, .maximumLength, .deadLetter, .maximumRetries]
                configuration.backoff = Backoff(minimumMilliseconds: 0, maximumMilliseconds: 0)
            }
            // The defaults also apply to queues that have a configuration.
            try broker.setDefaults(Self.defaults)
            try broker.add(1, to: "q", lease: nil) { _ in }
            try broker.add(2, to: "q", lease: 50, priority: 1) { $0.keepMilliseconds = 10 }
            let taken = try [broker.take("q")?.first?.leaseEnd, broker.take("q")?.first?.leaseEnd]
            #expect(taken == [100, 50])
            #expect(broker.ack(1) == true && broker.ack(2) == true)
            #expect(broker.state(1, now: 199) == .done && broker.state(2, now: 9) == .done)
            #expect(broker.state(2, now: 10) == nil)
            for number: UInt64 in 11...15 { try broker.add(number, to: "plain") { _ in } }
            for _ in 0..<5 {
                _ = try broker.takeAny("plain", limit: 5)
                #expect(broker.nak(11, .failed) == .requeued)
            }
            #expect(broker.withTask(id: UID(high: 12, low: 12), now: 0) { $0.priority } == 0)
            #expect(broker.configuration(of: try broker.queue("q"))?.priority == 0)
            #expect(broker.completeConfiguration(of: try broker.queue("q"))?.priority == 3)
            try broker.setDefaults(nil)
            #expect(broker.completeConfiguration(of: try broker.queue("q"))?.priority == 0)
        }
    }

    @Test func defaultsSurviveARestartAndAreNotAQueue() throws {
        try withLives(4) { broker, life in
            switch life {
            case 0: try broker.setDefaults(Self.defaults)
            case 1:
                #expect(broker.defaults == Self.defaults)
                #expect(broker.names == [])
                var known: [String] = []
                broker.forEachQueue { _, name, _ in known.append(text(name)) }
                #expect(known == [])
                #expect(broker.completeConfiguration(of: try broker.queue("new"))?.priority == 3)
                try broker.setDefaults(nil)
            default:
                #expect(broker.defaults == nil)
                #expect(broker.completeConfiguration(of: try broker.queue("new")) == nil)
            }
        }
    }

    @Test func exemptQueuesIgnoreTheDefaults() throws {
        try withBroker { broker in
            broker.exemptFromDefaults { text($0) == "old" }
            try broker.setDefaults(Self.defaults)
            try broker.configure("old") { $0.keepMilliseconds = 5 }
            #expect(broker.completeConfiguration(of: try broker.queue("old"))?.priority == 0)
            #expect(broker.completeConfiguration(of: try broker.queue("new"))?.priority == 3)
        }
    }

    /// Without a backoff, ten attempts follow at once; then come pauses of 1, 2, 4 … seconds, up to a minute.
    @Test func aStormOfFailuresIsSlowedDown() throws {
        try withBroker { broker in
            try broker.add(1, to: "q", lease: 1000, expires: 10_000_000)
            try broker.add(2, to: "patient", expiry: .never) {
                $0.backoff = Backoff(minimumMilliseconds: 0, maximumMilliseconds: 0)
            }
            var now: Int64 = 0
            var pauses: [Int64] = []
            for _ in 0..<18 {
                let taken = try broker.take("q", now: now)
                #expect(taken?.count == 1)
                #expect(broker.nak(1, .failed, now: now) == .requeued)
                let due = broker.withTask(id: UID(high: 1, low: 1), now: now) { $0.due } ?? nil
                pauses.append((due ?? now) - now)
                now = due ?? now
                broker.advanceFully(to: now)
                _ = try broker.take("patient", now: now)
                #expect(broker.nak(2, .failed, now: now) == .requeued)
                #expect(broker.state(2, now: now) == .ready)
            }
            #expect(pauses == Array(repeating: 0, count: 9) + [1, 2, 4, 8, 16, 32, 60, 60, 60].map { $0 * 1000 })
        }
    }
}
