// What every transition of a task has to bring about, whatever it comes from: sweeps meet the task, what ends is what was
// accepted last, and a queue says since when its tasks are ready.

import Testing
import UID

@testable import Queues

@Suite struct TransitionTests {
    // MARK: Replacements

    /// Adds a task with a key, takes it, and adds another one that waits to take its place.
    private func replaceWhileDispatched(
        on broker: isolated Broker, expiry: Expiry = .unsaid, now: Int64 = 0, _ says: (TaskOptions) -> Void = { _ in }
    ) throws {
        try broker.add(1, to: "a", lease: 100_000, now: now) { $0.key = [7] }
        _ = try broker.take("a", now: now)
        try broker.add(2, to: "a", expiry: expiry, now: now) {
            ($0.key, $0.onConflict) = ([7], .replace)
            says($0)
        }
    }

    private func content(_ number: UInt64, now: Int64, on broker: isolated Broker) -> String? {
        broker.withTask(id: UID(high: number, low: number), now: now) { text($0.content) }
    }

    @Test func aPurgeMeetsATaskWhoseReplacementTookItsPlaceMeanwhile() throws {
        try withBroker { broker in
            try replaceWhileDispatched(on: broker)
            for number in 10..<20 { try broker.add(UInt64(number), to: "a") }
            nonisolated(unsafe) var purged: Int?
            try broker.purge(broker.queue("a"), states: TaskState.allCases, now: 1) { purged = $0 }
            #expect(broker.advance(to: 1, limit: 2) == false)
            #expect(broker.ack(1, now: 1) == true)
            // It came later.
            try broker.add(30, to: "a", now: 1)
            broker.advanceFully(to: 1)
            #expect(purged == 11)
            #expect(try broker.peek("a", now: 1) == [30])
        }
    }

    @Test func aPurgeDoesNotMeetAReplacementThatCameLater() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 100_000) { $0.key = [7] }
            _ = try broker.take("a")
            for number in 10..<20 { try broker.add(UInt64(number), to: "a") }
            try broker.purge(broker.queue("a"), states: TaskState.allCases, now: 1) { _ in }
            #expect(broker.advance(to: 1, limit: 2) == false)
            try broker.add(2, to: "a", now: 1) { ($0.key, $0.onConflict) = ([7], .replace) }
            #expect(broker.ack(1, now: 1) == true)
            broker.advanceFully(to: 1)
            #expect(try broker.peek("a", now: 1) == [1])
        }
    }

    @Test(arguments: [nil, "grave"]) func aReplacementThatExpiresUnseenIsWhatDies(deadLetter: String?) throws {
        try withBroker { broker in
            try broker.configure("a") {
                $0.isExpiryDeath = true
                $0.deadLetter = deadLetter.map { Array($0.utf8) }
            }
            try replaceWhileDispatched(on: broker, expiry: .after(milliseconds: 1000))
            broker.advanceFully(to: 1200)
            #expect(content(1, now: 1200, on: broker) == "2")
            #expect(try broker.statistics("a").totals.died == 1)
            guard deadLetter == nil else {
                #expect(try broker.take("grave", now: 1200)?.first?.content == "2")
                return
            }
            #expect(broker.state(1, now: 1200) == .dead)
            #expect(broker.kick(1, now: 1200) == true)
            #expect(try broker.take("a", now: 1200)?.first?.content == "2")
        }
    }

    @Test func theRecordOfAReplacementThatExpiresUnseenIsItsOwn() throws {
        try withBroker { broker in
            try replaceWhileDispatched(on: broker, expiry: .after(milliseconds: 1000)) { $0.keepMilliseconds = 5000 }
            // Also before its timer has fired.
            for _ in 0..<2 {
                #expect(broker.state(1, now: 1200) == .expired)
                #expect(content(1, now: 1200, on: broker) == "2")
                broker.advanceFully(to: 1200)
            }
            broker.advanceFully(to: 6000)
            #expect(broker.state(1, now: 6000) == nil)
        }
    }

    @Test func theRecordOfACancelledTaskIsThatOfItsReplacement() throws {
        try withBroker { broker in
            try replaceWhileDispatched(on: broker) { $0.keepMilliseconds = 5000 }
            #expect(broker.cancelTask(1, now: 10) == true)
            #expect(broker.state(1, now: 10) == .cancelled)
            #expect(content(1, now: 10, on: broker) == "2")
        }
    }

    // MARK: Since when a task is ready

    private func oldest(_ name: String, on broker: isolated Broker) throws -> Int64? {
        try broker.statistics(name).oldestReady
    }

    @Test func aDelayedTaskIsReadySinceItsDelayWasOver() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", due: 100) { _ in }
            broker.advanceFully(to: 150)
            #expect(try oldest("a", on: broker) == 100)
        }
    }

    @Test func aTaskThatComesBackIsReadySinceThen() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 30)
            _ = try broker.take("a", now: 10)
            #expect(broker.nak(1, now: 20) == true)
            #expect(try oldest("a", on: broker) == 20)
            _ = try broker.take("a", now: 40)
            broker.advanceFully(to: 90)
            #expect(try oldest("a", on: broker) == 70)
            #expect(try broker.move(1, to: "b", now: 100) == true)
            #expect(try oldest("b", on: broker) == 100)
            _ = try broker.take("b", now: 110)
            #expect(broker.nak(1, .dead, now: 120) == .dead)
            #expect(broker.kick(1, now: 130) == true)
            #expect(try oldest("b", on: broker) == 130)
        }
    }

    @Test func aDeadLetterIsReadySinceItCame() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.deadLetter = Array("grave".utf8) }
            try broker.add(1, to: "a")
            _ = try broker.take("a")
            #expect(broker.nak(1, .dead, now: 50) == .dead)
            #expect(try oldest("grave", on: broker) == 50)
            let statistics = try broker.statistics("grave")
            #expect(statistics.ready == 1 && statistics.totals.received == 1 && statistics.totals.enqueued == 0)
        }
    }

    @Test func aTaskGivenBackToTheFrontDoesNotHideHowLongOthersWait() throws {
        try withBroker { broker in
            for number in 1...2 { try broker.add(UInt64(number), to: "a", now: Int64(number)) }
            _ = try broker.take("a", now: 10)
            #expect(broker.nak(1, .release, now: 20) == .requeued)
            #expect(try broker.peek("a", now: 20) == [1, 2])
            #expect(try oldest("a", on: broker) == 2)
            _ = try broker.takeAny("a", limit: 2, now: 30)
            #expect(broker.nak(1, .release, now: 40) == .requeued)
            #expect(try oldest("a", on: broker) == 40)
        }
    }

    @Test func aRestartKnowsSinceWhenTasksAreReady() throws {
        let start: Int64 = 1_000_000
        try restarting(downMilliseconds: 5000) { broker in
            try broker.add(1, to: "ready", now: start) { _ in }
            try broker.add(2, to: "back", now: start) { _ in }
            _ = try broker.take("back", now: start)
            #expect(broker.nak(2, now: start + 10) == true)
            try broker.add(3, to: "due", due: start + 2000, now: start) { _ in }
        } after: { broker, _ in
            let found = try ["ready", "back", "due"].map { try broker.statistics($0).oldestReady }
            #expect(found == [start, start + 10, start + 2000])
        }
    }
}
