// How sending a task ends: failures, cancellations, replacements, results and deaths.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct SendingEndTests {
    private func id(_ number: UInt64) -> UID { UID(high: number, low: number) }

    // MARK: Failures

    @Test func theDefaultBackoffDoublesFromASecondToAnHour() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a", expiry: .never)
            var now: Int64 = 0
            var pauses: Set<Double> = []
            for retry in 0..<16 {
                let key = try broker.sendOne("a", now: now)
                #expect(broker.fail(key, now: now) == .requeued)
                let found = broker.retry(1, now: now)
                let seen = try #require(found)
                let base = min(1000 << Int64(retry), 3_600_000 as Int64)
                #expect(seen.retries == UInt32(retry + 1) && seen.error == [69])
                #expect(abs(seen.pause - base) <= base / 10)
                pauses.insert(Double(seen.pause) / Double(base))
                now += seen.pause
                broker.advanceFully(to: now)
            }
            #expect(pauses.count > 8)
            #expect(broker.endedSends() == [])
            #expect(try broker.statistics("a").totals.nacked == 16)
        }
    }

    @Test func theTasksBackoffOverridesTheQueuesAndThatOverridesTheDefault() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a") { $0.backoff = Backoff(minimumMilliseconds: 30) }
            try broker.add(1, to: "a")
            try broker.add(2, to: "a") { $0.backoff = Backoff(minimumMilliseconds: 40) }
            try broker.add(3, to: "a") { $0.backoff = Backoff(minimumMilliseconds: 0) }
            try broker.add(4, to: "a")
            for (number, pause) in [(1, 30), (2, 40), (3, 0)] as [(UInt64, Int64)] {
                #expect(broker.fail(try broker.sendOne("a")) == .requeued)
                #expect(broker.retry(number, now: 0)?.pause == pause)
            }
            #expect(broker.fail(try broker.sendOne("a"), .failedPausing(milliseconds: 77)) == .requeued)
            #expect(broker.retry(4, now: 0)?.pause == 77)
        }
    }

    @Test func tasksThatWorkersFailHaveNoBackoffByDefault() throws {
        try withSendingBroker { broker in
            try broker.add(1, to: "a")
            _ = try broker.take("a")
            #expect(broker.nak(1) == true)
            #expect(broker.state(1) == .ready)
        }
    }

    @Test func aReleaseReturnsTheTaskToTheFrontAndCountsNoRetry() throws {
        try withSendingBroker { broker in
            for number in 1...3 { try broker.addSent(UInt64(number), to: "a") { $0.retryLimit = .limited(0) } }
            #expect(broker.fail(try broker.sendOne("a"), .release) == .requeued)
            #expect(broker.retry(1, now: 0)?.retries == 0)
            #expect(try broker.peek("a") == [1, 2, 3])
            #expect(try broker.statistics("a").totals.released == 1)
        }
    }

    @Test func aReleaseOfASendCanPause() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("p")
            try broker.addSent(1, to: "a") { $0.retryLimit = .limited(0) }
            try broker.add(2, to: "p")
            for (number, name) in [(1, "a"), (2, "p")] as [(UInt64, String)] {
                let key = try broker.sendOne(name)
                #expect(broker.fail(key, .releasePausing(milliseconds: 100)) == .requeued)
                // That dispatch is over, and there is nothing to report.
                #expect(broker.finish(key) == false && broker.fail(key) == .missing)
                let found = broker.retry(number, now: 0)
                let seen = try #require(found)
                #expect(seen.retries == 0 && seen.pause == 100 && seen.error == [69])
                #expect(try broker.send(name) == nil)
            }
            #expect(broker.endedSends() == [])
            _ = broker.sendableQueues()
            broker.advanceFully(to: 99)
            #expect(broker.sendableQueues() == [])
            broker.advanceFully(to: 100)
            #expect(Set(broker.sendableQueues()) == ["a", "p"])
            #expect(try broker.takeAny("a", "p", limit: 9, now: 100) == [])
            #expect(try broker.sendAll("a", now: 100) == [1] && broker.sendAll("p", now: 100) == [2])
            #expect(try broker.statistics("a").totals.released == 1 && broker.deadTasks() == [])
        }
    }

    @Test func aReplacementDoesNotInheritThePause() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a") { $0.key = [7, 0, 7] }
            let key = try broker.sendOne("a")
            try broker.addSent(2, to: "a") { ($0.key, $0.onConflict) = ([7, 0, 7], .replace) }
            #expect(broker.fail(key, .releasePausing(milliseconds: 100)) == .requeued)
            #expect(try broker.keyGroup([7], of: "a") == [1])
            #expect(try broker.sendAll("a") == [1])
            #expect(broker.withTask(id: id(1), now: 0) { text($0.content) } == "2")
        }
    }

    @Test func aLeaseThatRunsOutEndsTheSendAndIsAFailure() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a")
            let key = try broker.sendOne("a", lease: 100)
            broker.advanceFully(to: 99)
            #expect(broker.endedSends() == [])
            // Nothing else can end it any more, even before its timer has fired.
            #expect(broker.finish(key, now: 100) == false)
            #expect(broker.fail(key, now: 100) == .missing)
            broker.advanceFully(to: 100)
            #expect(broker.endedSends() == [key])
            #expect(broker.endedSends() == [])
            let found = broker.retry(1, now: 100)
            let seen = try #require(found)
            #expect(seen.retries == 1 && abs(seen.pause - 1000) <= 100)
            #expect(try broker.statistics("a").totals.timedOut == 1)
        }
    }

    // MARK: Ends that the sender did not cause

    @Test func cancellingPurgingAndExpiryEndASend() throws {
        try withSendingBroker { broker in
            for number in 1...3 { try broker.addSent(UInt64(number), to: "a", expiry: .after(milliseconds: 500)) }
            let keys = [try broker.sendOne("a"), try broker.sendOne("a"), try broker.sendOne("a", lease: 10_000)]
            #expect(broker.cancelTask(1) == true)
            #expect(broker.endedSends() == [keys[0]])
            #expect(broker.finish(keys[0]) == false)
            let queue = try broker.queue("a")
            #expect(try broker.sweep { try $0.purge(queue, now: 0, completion: $1) } == [0])
            #expect(broker.endedSends() == [])
            #expect(broker.cancelTask(2) == true)
            #expect(broker.finish(keys[2], now: 500) == false)
            broker.advanceFully(to: 500)
            #expect(broker.endedSends() == [keys[1], keys[2]])
            try broker.addSent(4, to: "a", now: 500)
            let last = try broker.sendOne("a", now: 500)
            #expect(
                try broker.sweep(now: 501) { try $0.purge(queue, states: [.dispatched], now: 501, completion: $1) } == [
                    1
                ])
            #expect(broker.endedSends() == [last])
            #expect(broker.counts.tasks == 0)
        }
    }

    @Test func aConfigurationDoesNotEndASend() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a")
            for number in 1...2 { try broker.add(UInt64(number), to: "a") }
            let keys = [try broker.sendOne("a"), try broker.sendOne("a")]
            try broker.configure(broker.queue("a"), nil)
            broker.advanceFully(to: 10)
            #expect(broker.endedSends() == [])
            #expect(broker.ack(1, now: 10) == false)
            #expect(broker.finish(keys[0], now: 10) == true)
            // It failed as a pushed task does, and workers can take it now.
            #expect(broker.fail(keys[1], now: 10) == .requeued)
            #expect(broker.retry(2, now: 10).map { abs($0.pause - 1000) <= 100 } == true)
            broker.advanceFully(to: 2000)
            #expect(try broker.takeAny("a", limit: 9, now: 2000) == [2])
            // Nor does a worker lose a task that it holds.
            try broker.configurePushed("a")
            #expect(broker.ack(2, now: 2000) == true)
            #expect(broker.endedSends() == [])
        }
    }

    // MARK: Keys

    @Test(arguments: [true, false]) func aReplacementWaitsForTheEndOfTheSend(isSent: Bool) throws {
        try withSendingBroker { broker in
            let outcome = Outcome()
            for end in 0..<5 {
                let key = UInt8(end + 1)
                let number = UInt64(10 * (end + 1))
                try broker.addSent(number, to: "a") { $0.key = [key] }
                let dispatch = try broker.sendOne("a", lease: 100)
                let replaced = try broker.add(number + 1, to: "a") { options in
                    (options.key, options.onConflict) = ([key], .replace)
                    if isSent { options.request = [9] }
                }
                #expect(replaced == Enqueued(id: id(number), isExisting: true))
                #expect(broker.state(number) == .dispatched)
                #expect(broker.endedSends() == [])
                switch end {
                case 0: #expect(broker.finish(dispatch) == true)
                case 1: #expect(broker.fail(dispatch, result: [1]) == .requeued)
                case 2: #expect(broker.fail(dispatch, .dead) == .requeued)
                case 3: #expect(broker.fail(dispatch, .release) == .requeued)
                default:
                    broker.advanceFully(to: 100)
                    #expect(broker.endedSends() == [dispatch])
                }
                #expect(broker.endedSends() == [] && broker.deadTasks() == [])
                let now: Int64 = end == 4 ? 100 : 0
                #expect(broker.state(number, now: now) == .ready)
                #expect(broker.withTask(id: id(number), now: now) { $0.request } == (isSent ? [9] : []))
                #expect(broker.withTask(id: id(number), now: now) { text($0.content) } == "\(number + 1)")
                #expect(try broker.takeAny("a", now: now) == (isSent ? [] : [number]))
                #expect(try broker.sendAll("a", now: now) == (isSent ? [number] : []))
                #expect(broker.cancelTask(number, now: now) == true)
                #expect(broker.endedSends().count == (isSent ? 1 : 0))
            }
            #expect(outcome.calls == [] && broker.counts.tasks == 0)
        }
    }

    @Test func aReplacementDecidesWhetherAReadyTaskIsPushed() throws {
        try withSendingBroker { broker in
            let outcome = Outcome()
            try broker.addSent(1, to: "a") { $0.key = [1] }
            _ = try broker.startWait("a", noting: outcome)
            try broker.add(2, to: "a") { ($0.key, $0.onConflict) = ([1], .replace) }
            #expect(outcome.calls == [[1]])
            #expect(broker.nak(1, .release) == .requeued)
            try broker.addSent(3, to: "a") { ($0.key, $0.onConflict) = ([1], .replace) }
            #expect(try broker.take("a") == nil)
            #expect(try broker.sendAll("a") == [1])
        }
    }

    // MARK: Results

    @Test func theResultOfAFailureIsKeptIfTheRecordIsKept() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a") { $0.keepMilliseconds = 100 }
            try broker.addSent(2, to: "a")
            for (number, isKept) in [(1, true), (2, false)] as [(UInt64, Bool)] {
                let key = try broker.sendOne("a")
                #expect(broker.wantsResult(of: key) == isKept)
                #expect(broker.fail(key, .release, result: [1]) == .requeued)
                #expect(broker.wantsResult(of: key) == false)
                #expect(broker.result(number) == (isKept ? [1] : []))
                let second = try broker.sendOne("a")
                // A failure without a result keeps the earlier one.
                #expect(broker.fail(second, .dead) == .dead)
                #expect(broker.result(number) == (isKept ? [1] : []))
            }
        }
    }

    @Test func aWaiterForTheResultOfADeadTaskGetsTheLastOne() throws {
        try withSendingBroker { broker in
            let ends = Ends()
            try broker.addSent(1, to: "a") { ($0.keepMilliseconds, $0.retryLimit) = (100, .limited(1)) }
            _ = broker.waitForResult(of: id(1), deadline: 10_000, now: 0) { state, result in
                ends.states.append(state)
                ends.results.append(Array(copying: result))
            }
            #expect(broker.fail(try broker.sendOne("a"), .failedPausing(milliseconds: 0), result: [1]) == .requeued)
            #expect(ends.states == [])
            #expect(broker.fail(try broker.sendOne("a"), result: [2]) == .dead)
            #expect(ends.states == [.dead] && ends.results == [[2]])
            #expect(broker.result(1) == [2])
        }
    }

    @Test func aTaskThatAWorkerFinishedHasNoResultOfASend() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a") { $0.keepMilliseconds = 100 }
            try broker.add(1, to: "a")
            try broker.add(2, to: "a")
            #expect(broker.fail(try broker.sendOne("a"), .release, result: [1]) == .requeued)
            try broker.configure("a") { $0.keepMilliseconds = 100 }
            broker.advanceFully(to: 0)
            #expect(try broker.takeAny("a", limit: 2) == [1, 2])
            #expect(broker.ack(1) == true)
            #expect(broker.state(1) == .done && broker.result(1) == [])
            #expect(broker.ack(TaskReference(id: id(2)), result: [3].span, now: 0) == true)
            #expect(broker.result(2) == [3])
        }
    }

    // MARK: Deaths

    @Test func everyDeathIsReportedOnce() throws {
        try withSendingBroker { broker in
            try broker.configure("a") { $0.isExpiryDeath = true }
            try broker.addSent(1, to: "a")
            #expect(broker.fail(try broker.sendOne("a"), .dead) == .dead)
            #expect(broker.deadTasks() == ["1 in a"])
            #expect(broker.deadTasks() == [])
            try broker.addSent(2, to: "a") { $0.retryLimit = .limited(0) }
            #expect(broker.fail(try broker.sendOne("a")) == .dead)
            try broker.addSent(3, to: "a") { $0.retryLimit = .limited(0) }
            _ = try broker.sendOne("a", lease: 10)
            try broker.addSent(4, to: "a", expiry: .after(milliseconds: 20))
            try broker.addSent(5, to: "a", due: 10, expiry: .after(milliseconds: 20))
            try broker.add(6, to: "a", expires: 5)
            for now in [10, 20, 40] as [Int64] { broker.advanceFully(to: now) }
            #expect(broker.deadTasks() == ["2 in a", "3 in a", "4 in a", "5 in a"])
            #expect(broker.endedSends().count == 1)
            // A new maximum uses up its retries.
            try broker.addSent(7, to: "a", now: 40)
            #expect(broker.fail(try broker.sendOne("a", now: 40), now: 40) == .requeued)
            try broker.configure("a") { $0.maximumRetries = 0 }
            broker.advanceFully(to: 40)
            #expect(broker.deadTasks() == ["7 in a"])
            #expect(broker.cancelTask(1, now: 40) == false)
        }
    }

    @Test func aQueueWithAPushReportsAllDeaths() throws {
        try withSendingBroker { broker in
            try broker.configure("a") { ($0.push, $0.deadLetter) = ([8], Array("b".utf8)) }
            try broker.add(1, to: "a")
            _ = try broker.take("a")
            #expect(broker.nak(1, .dead) == .dead)
            #expect(broker.deadTasks() == ["1 in a"])
            #expect(broker.push(of: try broker.queue("a")) == [8])
            // There it dies of its own accord, and nothing is reported.
            #expect(try broker.takeAny("b") == [1])
            #expect(broker.nak(1, .dead) == .dead)
            #expect(broker.deadTasks() == [])
        }
    }

    @Test func theCallbackForDeathsCanAddTasks() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a")
            #expect(broker.fail(try broker.sendOne("a"), .dead) == .dead)
            broker.takeDeadTasks { deadTask in
                let content: [UInt8] = [1]
                try? broker.enqueue(id: UID(high: 2, low: 2), in: deadTask.queue, content: content.span, now: 0)
                return true
            }
            #expect(try broker.peek("a") == [2])
            #expect(broker.deadTasks() == [])
        }
    }

    @Test func aDeathThatIsNotTakenKeepsItsQueueAndIsReportedAgain() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a")
            #expect(broker.fail(try broker.sendOne("a"), .dead) == .dead)
            broker.takeDeadTasks { _ in false }
            let isLeft = broker.hasUnreportedDeadTasks
            #expect(isLeft)
            _ = broker.deleteRecord(UID(high: 1, low: 1), now: 0)
            broker.checkInvariants()
            #expect(broker.deadTasks() == ["1 in a"])
            let isLeftStill = broker.hasUnreportedDeadTasks
            #expect(!isLeftStill)
            broker.checkInvariants()
        }
    }
}
