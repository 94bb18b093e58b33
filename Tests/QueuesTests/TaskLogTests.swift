// What a task's command printed: the log of the last attempt that has ended.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct TaskLogTests {
    private func reference(_ number: UInt64) -> TaskReference { TaskReference(id: UID(high: number, low: number)) }

    private func log(_ number: UInt64, _ broker: isolated Broker, now: Int64 = 0) -> String? {
        broker.withTask(id: UID(high: number, low: number), now: now) { text($0.log.span) }
    }

    /// Takes the only ready task of a queue, and refuses it.
    private func nak(
        _ number: UInt64, _ action: NakAction = .failed, log: String, now: Int64 = 0, on broker: isolated Broker
    ) throws {
        _ = try #require(try broker.take("a", now: now))
        let outcome = broker.nak(reference(number), action, log: Array(log.utf8).span, now: now)
        #expect(outcome != .missing)
    }

    private func ack(_ number: UInt64, result: String = "", log: String, on broker: isolated Broker) throws {
        _ = try #require(try broker.take("a"))
        let isHeld = broker.ack(
            reference(number), result: Array(result.utf8).span, log: Array(log.utf8).span, now: 0)
        #expect(isHeld)
    }

    @Test func eachAttemptReplacesTheLogOfTheOneBefore() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { $0.backoff = Backoff(minimumMilliseconds: 0) }
            try nak(1, log: "one", on: broker)
            #expect(log(1, broker) == "one")
            // It stays while the next attempt goes on.
            _ = try broker.take("a")
            #expect(broker.touch(reference(1), now: 0) == true)
            #expect(log(1, broker) == "one")
            // A release that says nothing is no attempt.
            #expect(broker.nak(1, .release) == .requeued)
            #expect(log(1, broker) == "one")
            _ = try broker.take("a")
            #expect(broker.nak(1, .failed) == .requeued)
            #expect(log(1, broker) == "")
            for action in [NakAction.release, .releasePausing(milliseconds: 0), .failed, .dead] {
                try nak(1, action, log: "\(action)", on: broker)
                #expect(log(1, broker) == "\(action)")
            }
            #expect(broker.state(1) == .dead)
        }
    }

    @Test(arguments: [TaskState.dead, .expired, .cancelled])
    func aTaskThatEndsWhileItIsHeldHasNoLogOfAnEarlierAttempt(state: TaskState) throws {
        try withBroker { broker in
            try broker.configure("a") { ($0.keepMilliseconds, $0.isExpiryDeath) = (1000, state == .dead) }
            try broker.add(1, to: "a", expires: 50)
            try nak(1, log: "one", on: broker)
            #expect(log(1, broker) == "one")
            _ = try broker.take("a")
            let isCancelled = state == .cancelled && broker.cancelTask(1)
            #expect(isCancelled == (state == .cancelled))
            broker.advanceFully(to: 110)
            let end = broker.state(1, now: 110)
            #expect(end == state && log(1, broker, now: 110) == "")
        }
    }

    @Test func aLeaseThatRunsOutLeavesNoLog() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 10) { $0.retryLimit = .limited(1) }
            try nak(1, log: "one", on: broker)
            _ = try broker.take("a", now: 100)
            broker.advanceFully(to: 110)
            #expect(broker.state(1, now: 110) == .dead && log(1, broker, now: 110) == "")
        }
    }

    @Test func aDeadTaskKeepsItsLogUntilItsNextAttempt() throws {
        try withBroker { broker in
            try broker.add(1, to: "a")
            try nak(1, .dead, log: "why", on: broker)
            #expect(try broker.move(1, to: "b") == true)
            #expect(broker.kick(1) == true)
            #expect(try broker.move(1, to: "a") == true)
            #expect(log(1, broker) == "why")
            #expect(broker.cancelTask(1) == true)
        }
    }

    @Test func aDeadLetterKeepsItsLog() throws {
        try withBroker { broker in
            try broker.configure("a") { ($0.deadLetter, $0.maximumRetries) = (Array("b".utf8), 0) }
            try broker.add(1, to: "a")
            try nak(1, log: "why", on: broker)
            #expect(try broker.peek("b") == [1] && log(1, broker) == "why")
        }
    }

    @Test func aDoneTaskHasItsLogAsLongAsItsRecordIsKept() throws {
        try withBroker { broker in
            for number: UInt64 in 1...3 {
                try broker.add(number, to: "a") { $0.keepMilliseconds = number < 3 ? 1000 : 0 }
                if number == 2 { try nak(2, log: "no", on: broker) }
                try ack(number, log: number == 1 ? "yes" : "", on: broker)
            }
            #expect(log(1, broker) == "yes" && log(2, broker) == "" && log(3, broker) == nil)
            try broker.add(4, to: "a")
            let before = broker.memoryBytes
            try broker.add(5, to: "a")
            #expect(broker.cancelTask(4) == true)
            try ack(5, log: String(repeating: "x", count: 10_000), on: broker)
            #expect(broker.memoryBytes < before)
        }
    }

    @Test func newContentHasNoLog() throws {
        try withBroker { broker in
            func replace(on broker: isolated Broker) throws {
                try broker.add(2, to: "a") { options in (options.key, options.onConflict) = ([1], .replace) }
            }
            try broker.add(1, to: "a") { $0.key = [1] }
            try nak(1, log: "one", on: broker)
            try replace(on: broker)
            #expect(log(1, broker) == "")
            _ = try broker.take("a")
            try replace(on: broker)
            let outcome = broker.nak(reference(1), .failed, log: [65].span, now: 0)
            #expect(outcome == .requeued && log(1, broker) == "")
        }
    }

    @Test func aTaskKeptForItsKeyHasNoLog() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { ($0.key, $0.uniqueForMilliseconds, $0.keepMilliseconds) = ([1], 5000, 1000) }
            try ack(1, log: String(repeating: "x", count: 50_000), on: broker)
            let before = broker.memoryBytes
            broker.advanceFully(to: 2000)
            #expect(broker.memoryBytes < before - 50_000)
        }
    }

    @Test func aLogCountsAsMemory() throws {
        try withBroker { broker in
            try broker.add(1, to: "a")
            let empty = broker.memoryBytes
            try nak(1, log: String(repeating: "x", count: 50_000), on: broker)
            #expect(broker.memoryBytes >= empty + 50_000)
            // Only full images have it.
            #expect(broker.imageTextBytes(of: reference(1), isFull: true) >= 50_000)
            #expect(broker.imageTextBytes(of: reference(1)) < 1000)
            try nak(1, log: "", on: broker)
            #expect(broker.memoryBytes < empty + 1000)
        }
    }

    @Test func aLogSurvivesARestart() throws {
        try restarting { broker in
            try broker.add(1, to: "a", now: 1_000_000) { _ in }
            try nak(1, log: "å\n", now: 1_000_000, on: broker)
        } after: { broker, now in
            #expect(log(1, broker, now: now) == "å\n")
        }
    }
}
