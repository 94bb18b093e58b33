// What a task remembers of its attempts.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct AttemptTests {
    /// A task's attempts, each as a text such as `1 failed 10-20 host-7: no`.
    private func attempts(_ number: UInt64, _ broker: isolated Broker, now: Int64 = 0) -> [String]? {
        broker.withTask(id: UID(high: number, low: number), now: now) { task in
            task.attempts.map { attempt in
                let outcome = attempt.outcome.map { "\($0)" } ?? "running"
                let worker = attempt.worker.isEmpty ? "" : " " + String(decoding: attempt.worker, as: UTF8.self)
                let error = attempt.error.isEmpty ? "" : ": " + String(decoding: attempt.error, as: UTF8.self)
                let end = attempt.ended.map { "\($0)" } ?? ""
                return "\(attempt.number) \(outcome) \(attempt.dispatched)-\(end)\(worker)\(error)"
            }
        }
    }

    /// Takes the next task of a queue.
    private func take(_ name: String, by worker: String = "", now: Int64, on broker: isolated Broker) throws {
        var taken: [TaskHandle?] = []
        let isTaken = broker.takeAny(
            [try broker.queue(name)], limit: 1, worker: Array(worker.utf8), now: now, into: &taken)
        #expect(isTaken)
    }

    @Test func aTaskRemembersHowItsAttemptsEnded() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 100) {
                ($0.keepMilliseconds, $0.backoff) = (1000, .init(minimumMilliseconds: 0))
            }
            #expect(attempts(1, broker) == [])
            try take("a", by: "host-7", now: 10, on: broker)
            #expect(attempts(1, broker, now: 15) == ["1 running 10- host-7"])
            _ = broker.nak(1, .failed, error: "no", now: 20)
            #expect(attempts(1, broker, now: 20) == ["1 failed 10-20 host-7: no"])
            try take("a", now: 30, on: broker)
            broker.advanceFully(to: 140)
            try take("a", by: "b", now: 140, on: broker)
            _ = broker.nak(1, .release, error: "later", now: 150)
            try take("a", by: "c", now: 160, on: broker)
            #expect(broker.ack(1, now: 170) == true)
            #expect(
                attempts(1, broker, now: 170) == [
                    "1 failed 10-20 host-7: no", "2 timedOut 30-130", "3 released 140-150 b: later",
                    "3 done 160-170 c",
                ])
        }
    }

    /// A task that succeeds at once costs no more than one without attempts.
    @Test func theFirstSuccessTakesNoMemory() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { $0.keepMilliseconds = 1000 }
            let before = broker.memoryBytes
            _ = try broker.take("a", now: 10)
            #expect(broker.ack(1, now: 20) == true)
            #expect(broker.memoryBytes == before)
            #expect(attempts(1, broker, now: 20) == ["1 done 10-20"])
        }
    }

    @Test func releasesPushOutNoFailure() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { ($0.keepMilliseconds, $0.backoff) = (1000, .init(minimumMilliseconds: 0)) }
            func end(_ action: NakAction, _ error: String = "", at time: Int64, on broker: isolated Broker) throws {
                try take("a", now: time, on: broker)
                _ = broker.nak(1, action, error: error, now: time + 1)
            }
            try end(.failed, "no", at: 10, on: broker)
            // While there is room, each of them is kept.
            for time: Int64 in 2...10 { try end(.release, "busy \(time)", at: 10 * time, on: broker) }
            let releases = (2...10).map { "2 released \($0)0-\($0)1: busy \($0)" }
            #expect(attempts(1, broker, now: 200) == ["1 failed 10-11: no"] + releases)
            for time: Int64 in 11...30 { try end(.release, at: 10 * time, on: broker) }
            let last = (22...30).map { "2 released \($0)0-\($0)1" }
            #expect(attempts(1, broker, now: 400) == ["1 failed 10-11: no"] + last)
            // Failures push out the releases, of which there are none in the end.
            for time: Int64 in 31...39 { try end(.failed, at: 10 * time, on: broker) }
            let failures = (31...39).map { "\($0 - 29) failed \($0)0-\($0)1" }
            #expect(attempts(1, broker, now: 400) == ["1 failed 10-11: no"] + failures)
            // Then there is no room for a release.
            try end(.release, "busy", at: 400, on: broker)
            #expect(attempts(1, broker, now: 410) == ["1 failed 10-11: no"] + failures)
            // A success is remembered.
            try take("a", now: 410, on: broker)
            #expect(broker.ack(1, now: 420) == true)
            #expect(attempts(1, broker, now: 420) == failures + ["11 done 410-420"])
        }
    }

    @Test func theLastTenAttemptsAreRemembered() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { ($0.keepMilliseconds, $0.backoff) = (1000, .init(minimumMilliseconds: 0)) }
            for number in 1...12 {
                try take("a", now: 0, on: broker)
                _ = broker.nak(1, .failed, error: "error \(number)")
            }
            #expect(attempts(1, broker)?.count == 10)
            #expect(attempts(1, broker)?.first == "3 failed 0-0: error 3")
            try take("a", now: 0, on: broker)
            #expect(attempts(1, broker)?.count == 11)
            #expect(broker.ack(1) == true)
            #expect(attempts(1, broker)?.count == 10)
            #expect(attempts(1, broker)?.first == "4 failed 0-0: error 4")
            #expect(attempts(1, broker)?.last == "13 done 0-0")
        }
    }

    @Test func aLongErrorIsCutAtACharacter() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { $0.keepMilliseconds = 1000 }
            try take("a", now: 0, on: broker)
            // 199 bytes, and the first half of a character.
            _ = broker.nak(1, .dead, error: String(repeating: "x", count: 199) + "äää")
            #expect(attempts(1, broker) == ["1 failed 0-0: " + String(repeating: "x", count: 199)])
        }
    }

    @Test func theAttemptThatEndsATaskIsShown() throws {
        try withBroker { broker in
            for number in 1...4 {
                try broker.add(UInt64(number), to: "a", expiry: .after(milliseconds: 100)) {
                    $0.keepMilliseconds = 1000
                }
            }
            for now in [10, 20, 30] { try take("a", now: Int64(now), on: broker) }
            #expect(broker.cancelTask(1, now: 40) == true)
            _ = broker.nak(3, .dead, now: 50)
            broker.advanceFully(to: 110)
            #expect(attempts(1, broker, now: 110) == ["1 cancelled 10-40"])
            #expect(attempts(2, broker, now: 110) == ["1 expired 20-100"])
            #expect(attempts(3, broker, now: 110) == ["1 failed 30-50"])
            // It was never dispatched.
            #expect(broker.state(4, now: 110) == .expired && attempts(4, broker, now: 110) == [])
        }
    }

    @Test func aTaskThatDiesOfItsExpiryShowsTheAttempt() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.isExpiryDeath = true }
            try broker.add(1, to: "a", lease: 500, expires: 100)
            _ = try broker.take("a", now: 10)
            broker.advanceFully(to: 110)
            #expect(broker.state(1, now: 110) == .dead)
            #expect(attempts(1, broker, now: 110) == ["1 expired 10-100"])
        }
    }

    @Test func deadLettersMovesAndKicksKeepTheAttempts() throws {
        try withBroker { broker in
            try broker.configure("a") { ($0.maximumRetries, $0.deadLetter) = (0, Array("letters".utf8)) }
            try broker.add(1, to: "a")
            _ = try broker.take("a", now: 10)
            #expect(broker.nak(1, .failed, error: "no", now: 20) == .dead)
            let first = "1 failed 10-20: no"
            #expect(try broker.peek("letters", now: 20) == [1] && attempts(1, broker, now: 20) == [first])
            #expect(broker.kick(1, now: 30) == true && attempts(1, broker, now: 30) == [first])
            #expect(try broker.move(1, to: "b", now: 30) == true && attempts(1, broker, now: 30) == [first])
            _ = try broker.take("b", now: 40)
            #expect(broker.nak(1, .dead, now: 50) == .dead && broker.kick(1, now: 60) == true)
            #expect(attempts(1, broker, now: 60) == [first, "2 failed 40-50"])
        }
    }

    @Test(arguments: [false, true]) func aReplacedTaskIsANewTask(isHeld: Bool) throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { $0.key = [1] }
            _ = try broker.take("a")
            _ = broker.nak(1, .failed, error: "no")
            if isHeld { _ = try broker.take("a", now: 5) }
            try broker.add(2, to: "a", now: 6) { ($0.key, $0.onConflict) = ([1], .replace) }
            if isHeld {
                // The attempt that is under way is still one of the old task.
                #expect(attempts(1, broker, now: 7) == ["1 failed 0-0: no", "2 running 5-"])
                _ = broker.nak(1, .failed, error: "again", now: 8)
            }
            #expect(broker.state(1, now: 9) == .ready && attempts(1, broker, now: 9) == [])
        }
    }

    @Test func anAttemptToSendIsAnAttempt() throws {
        try withBroker { broker in
            broker.beginSending()
            try broker.addSent(1, to: "a") { $0.backoff = .init(minimumMilliseconds: 0) }
            let key = try broker.sendOne("a", now: 10)
            #expect(attempts(1, broker, now: 15) == ["1 running 10-"])
            #expect(broker.fail(key, now: 20) == .requeued)
            #expect(attempts(1, broker, now: 20) == ["1 failed 10-20: E"])
        }
    }

    @Test func withoutMemoryAnAttemptIsNotRemembered() throws {
        try withBroker { broker in
            try broker.add(1, to: "a")
            _ = try broker.take("a")
            let before = broker.memoryBytes
            broker.isShortOfMemory = true
            #expect(broker.nak(1, .failed) == .requeued)
            #expect(broker.memoryBytes == before && attempts(1, broker) == [])
        }
    }

    @Test func attemptsSurviveARestart() throws {
        try restarting { broker in
            let now: Int64 = 1_000_000
            for number in 1...2 {
                try broker.add(UInt64(number), to: "a", now: now) { $0.keepMilliseconds = 1_000_000 }
                try take("a", by: "w", now: now + 10, on: broker)
                _ = broker.nak(UInt64(number), .failed, error: "no", now: now + 20)
                try take("a", by: "v", now: now + 30, on: broker)
            }
            #expect(broker.ack(1, now: now + 40) == true)
        } after: { broker, now in
            let first = "1 failed 1000010-1000020 w: no"
            #expect(attempts(1, broker, now: now + 50) == [first, "2 done 1000030-1000040 v"])
            #expect(attempts(2, broker, now: now + 50) == [first, "2 running 1000030- v"])
        }
    }

    @Test func onlyWholeEntriesAreRead() {
        func isSound(_ bytes: [UInt8]) -> Bool { AttemptLog.isSound(bytes.span) }
        var log: [UInt8] = []
        let attempt = TaskAttempt(
            number: 0x0102_0304, dispatched: -1, ended: .max, outcome: .timedOut, worker: [1, 2, 3])
        AttemptLog.append(attempt, error: [7, 8].span, to: &log)
        AttemptLog.append(attempt, error: Span(), to: &log)
        #expect(isSound(log) && isSound([]))
        let shownAttempts = AttemptLog.attempts(in: log.span)
        var shown = attempt
        shown.error = [7, 8]
        #expect(shownAttempts == [shown, attempt])
        for count in 1..<log.count where count != log.count - 26 {
            #expect(!isSound(Array(log.prefix(count))), "\(count)")
        }
        for outcome in [0, 7, 255] as [UInt8] {
            #expect(!isSound([outcome] + log.dropFirst()))
        }
        var many: [UInt8] = []
        for _ in 0..<11 { many += log }
        #expect(!isSound(many))
    }
}
