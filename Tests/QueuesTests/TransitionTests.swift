// What every transition of a task must do, whatever causes it: sweeps process the task, the version accepted last is
// the one that ends, and a queue knows since when its tasks are ready.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct TransitionTests {
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

    @Test func aPurgeDeletesATaskThatIsReplacedMeanwhile() throws {
        try withBroker { broker in
            try replaceWhileDispatched(on: broker)
            for number in 10..<20 { try broker.add(UInt64(number), to: "a") }
            nonisolated(unsafe) var purged: Int?
            try broker.purge(broker.queue("a"), states: TaskState.allCases, now: 1) { purged = $0.count }
            #expect(broker.advance(to: 1, limit: 2) == false)
            #expect(broker.ack(1, now: 1) == true)
            // It arrived later.
            try broker.add(30, to: "a", now: 1)
            broker.advanceFully(to: 1)
            #expect(purged == 11)
            #expect(try broker.peek("a", now: 1) == [30])
        }
    }

    /// A task from before a purge and a later one may have arrived within the same millisecond.
    @Test(arguments: 0...3) func aPurgeTellsApartTasksOfTheSameMillisecond(earlierPurges: Int) throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 100_000) { $0.key = [7] }
            _ = try broker.take("a")
            for number in 10..<20 { try broker.add(UInt64(number), to: "a") }
            for _ in 0..<earlierPurges {
                try broker.purge(broker.queue("b"), states: TaskState.allCases, now: 0) { _ in }
            }
            try broker.add(2, to: "a") { ($0.key, $0.onConflict) = ([7], .replace) }
            nonisolated(unsafe) var purged: Int?
            try broker.purge(broker.queue("a"), states: TaskState.allCases, now: 0) { purged = $0.count }
            while broker.counts.tasks > 6 { #expect(broker.advance(to: 0, limit: 1) == false) }
            #expect(broker.ack(1) == true)
            try broker.add(30, to: "a", priority: 9) { _ in }
            _ = try broker.take("a")
            #expect(broker.nak(30, .failed) == .requeued)
            broker.advanceFully(to: 0)
            #expect(purged == 11)
            #expect(try broker.peek("a") == [30])
        }
    }

    @Test func aPurgeSparesAReplacementThatCameLater() throws {
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

    @Test(arguments: [nil, "grave"]) func aReplacementThatExpiresUnseenIsTheTaskThatDies(deadLetter: String?) throws {
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

    @Test func aReplacementThatExpiresUnseenHasItsOwnRecord() throws {
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

    // MARK: Dead letters

    private func error(_ number: UInt64, now: Int64, on broker: isolated Broker) -> String? {
        broker.withTask(id: UID(high: number, low: number), now: now) { text($0.error.span) }
    }

    /// Sends the next task of a queue; nil if there is none.
    private func send(_ name: String, on broker: isolated Broker) throws -> DispatchKey? {
        guard case .task(let key) = broker.send(from: try broker.queue(name), now: 0, leaseMilliseconds: { _ in 1000 })
        else { return nil }
        return key
    }

    private func sendAndDie(_ number: UInt64, on broker: isolated Broker) throws {
        let key = try #require(try send("a", on: broker))
        #expect(broker.show(TaskHandle(key: key)).number == number)
        #expect(broker.failSending(key, .dead, error: Span(), now: 0) == .dead)
        #expect(try broker.peek("grave").last == number)
    }

    /// Adds a task to the queue "a" that is sent, and has it die there.
    private func sendDeadLetter(_ number: UInt64, on broker: isolated Broker) throws {
        try broker.configure("a") { $0.deadLetter = Array("grave".utf8) }
        try broker.add(number, to: "a") { $0.request = [1] }
        try sendAndDie(number, on: broker)
    }

    @Test func aDeadLetterThatIsMovedBackIsAnOrdinaryTaskAgain() throws {
        try withBroker { broker in
            broker.beginSending()
            for (number, isSweep) in [(UInt64(1), false), (2, true)] {
                try sendDeadLetter(number, on: broker)
                if isSweep {
                    let moved = try broker.sweep {
                        try $0.move($0.queue("grave"), to: $0.queue("a"), now: 0, completion: $1)
                    }
                    #expect(moved == [1])
                } else {
                    #expect(try broker.move(number, to: "a") == true)
                }
                // It expires as other tasks do, its own request counts, and when it dies, it is a dead letter again.
                let expires = broker.withTask(id: UID(high: number, low: number), now: 0) { $0.expires }
                #expect(expires == QueueConfiguration.defaultExpiryMilliseconds)
                try sendAndDie(number, on: broker)
                #expect(broker.cancelTask(number) == true)
            }
        }
    }

    @Test(arguments: [false, true]) func oneDeadLetterThatIsReadyIsKickedBackByItsId(toOrigin: Bool) throws {
        try withBroker { broker in
            broker.beginSending()
            for number in 1...2 { try sendDeadLetter(UInt64(number), on: broker) }
            #expect(broker.kick(1, toOrigin: toOrigin) == true)
            #expect(try broker.peek("grave") == [2])
            #expect(try send("a", on: broker).map { broker.show(TaskHandle(key: $0)).number } == 1)
            // It is no longer a dead letter.
            #expect(broker.kick(1, toOrigin: toOrigin) == false)
            let totals = try broker.statistics("a").totals
            #expect(totals.received == 1 && totals.enqueued == 2)
        }
    }

    @Test func kickingADeadLetterThatDiedAgainMakesItReadyInPlaceUnlessToOrigin() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.deadLetter = Array("grave".utf8) }
            for number in 1...2 {
                try broker.add(UInt64(number), to: "a")
                for name in ["a", "grave"] {
                    _ = try broker.take(name)
                    #expect(broker.nak(UInt64(number), .dead) == .dead)
                }
            }
            #expect(broker.kick(1) == true)
            #expect(broker.kick(2, toOrigin: true) == true)
            #expect(try broker.peek("grave") == [1])
            #expect(try broker.peek("a") == [2])
        }
    }

    @Test func aDeadLetterThatIsHeldDoesNotGoBackToItsOrigin() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.deadLetter = Array("grave".utf8) }
            for number in 1...2 { try broker.add(UInt64(number), to: "a") }
            _ = try broker.take("a")
            #expect(broker.kick(1, toOrigin: true) == false)
            #expect(broker.nak(1, .dead) == .dead)
            _ = try broker.take("grave")
            #expect(broker.kick(1, toOrigin: true) == false)
            #expect(broker.kick(2) == false)
            #expect(broker.kick(2, toOrigin: true) == false)
        }
    }

    private func died(_ number: UInt64, now: Int64, on broker: isolated Broker) -> Int64? {
        broker.withTask(id: UID(high: number, low: number), now: now) { $0.died }.flatMap { $0 }
    }

    @Test func deadTasksAndDeadLettersShowWhenTheyDied() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.deadLetter = Array("grave".utf8) }
            for (number, name) in [(UInt64(1), "a"), (2, "b")] {
                try broker.add(number, to: name)
                #expect(died(number, now: 0, on: broker) == nil)
                _ = try broker.take(name)
                #expect(broker.nak(number, .dead, now: 50) == .dead)
                #expect(died(number, now: 60, on: broker) == 50)
            }
            // A dead letter died in the queue that it came from.
            _ = try broker.take("grave", now: 70)
            #expect(broker.nak(1, .dead, now: 80) == .dead)
            #expect(died(1, now: 90, on: broker) == 50)
            // This ends when it is an ordinary task again.
            #expect(broker.kick(1, toOrigin: true, now: 100) == true)
            #expect(broker.kick(2, now: 100) == true)
            for number in 1...2 { #expect(died(UInt64(number), now: 100, on: broker) == nil) }
        }
    }

    @Test func theTimeOfADeathSurvivesARestart() throws {
        let start: Int64 = 1_000_000
        try restarting(downMilliseconds: 5000) { broker in
            try broker.configure("a") { $0.deadLetter = Array("grave".utf8) }
            try broker.add(1, to: "a", now: start) { _ in }
            _ = try broker.takeAny("a", now: start)
            let outcome = broker.nak(1, .dead, now: start + 50)
            #expect(outcome == .dead)
        } after: { broker, now in
            let (found, state) = (died(1, now: now, on: broker), broker.state(1, now: now))
            #expect(found == start + 50 && state == .ready)
        }
    }

    @Test func anErrorSaysThatTheLeaseRanOut() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.maximumRetries = 0 }
            try broker.configure("b") { ($0.maximumRetries, $0.deadLetter) = (0, Array("grave".utf8)) }
            for (number, name) in [(UInt64(1), "a"), (2, "a"), (3, "b"), (4, "c")] {
                try broker.add(number, to: name, lease: 10)
            }
            var taken: [TaskHandle?] = []
            _ = broker.take(try broker.queues(["a"]), worker: Array("host-7".utf8), now: 0, into: &taken)
            _ = try broker.take("a", "b")
            _ = broker.take(try broker.queues(["c"]), worker: Array("host-8".utf8), now: 0, into: &taken)
            broker.advanceFully(to: 10)
            #expect(broker.state(1, now: 10) == .dead && broker.state(2, now: 10) == .dead)
            #expect(error(1, now: 10, on: broker) == "the lease ran out (worker host-7)")
            #expect(error(2, now: 10, on: broker) == "the lease ran out")
            #expect(try broker.peek("grave", now: 10) == [3])
            #expect(error(3, now: 10, on: broker) == "the lease ran out")
            #expect(broker.state(4, now: 10) == .ready)
            // It is retried.
            #expect(error(4, now: 10, on: broker) == "")
        }
    }

    // MARK: Since when a task is ready

    private func oldest(_ name: String, on broker: isolated Broker) throws -> Int64? {
        try broker.statistics(name).oldestReady
    }

    @Test func aDelayedTaskIsReadySinceTheEndOfItsDelay() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", due: 100) { _ in }
            broker.advanceFully(to: 150)
            #expect(try oldest("a", on: broker) == 100)
        }
    }

    @Test func aReturningTaskIsReadySinceItsReturn() throws {
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

    @Test func aDeadLetterIsReadySinceItsArrival() throws {
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

    @Test func theTimeSinceWhichTasksAreReadySurvivesARestart() throws {
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
