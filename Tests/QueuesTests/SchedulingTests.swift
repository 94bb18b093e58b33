// When tasks are dispatched, and in which order: delays, priorities, retries, dead tasks.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct SchedulingTests {
    // MARK: Delays

    @Test func aDelayedTaskIsDispatchedWhenItsDelayIsOver() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", due: 100, expiry: .after(milliseconds: 50)) { _ in }
            #expect(broker.state(1) == .delayed)
            #expect(try broker.take("a") == nil)
            #expect(try broker.peek("a", .delayed) == [1])
            broker.withTask(id: UID(high: 1, low: 1), now: 0) { task in
                #expect(task.due == 100)
                #expect(task.expires == 150)
            }
            broker.advanceFully(to: 99)
            #expect(try broker.take("a", now: 99) == nil)
            broker.advanceFully(to: 100)
            #expect(try broker.take("a", now: 100)?.map(\.number) == [1])
            broker.advanceFully(to: 150)
            #expect(broker.counts.tasks == 0)
        }
    }

    @Test func aTimeInThePastIsNoDelay() throws {
        try withBroker(now: 100) { broker in
            try broker.add(1, to: "a", due: 50, expiry: .after(milliseconds: 10), now: 100) { _ in }
            #expect(try broker.take("a", now: 100)?.first?.expires == 110)
        }
    }

    @Test func delaysThatEndTogetherAreProcessedInSlices() throws {
        try withBroker(maximumTasks: 5000) { broker in
            for number in 1...5000 { try broker.add(UInt64(number), to: "a", due: 1000) { _ in } }
            var slices = 0
            var before = 0
            while !broker.advance(to: 1000, limit: 100) {
                #expect(broker.counts.ready - before <= 100)
                before = broker.counts.ready
                slices += 1
            }
            #expect(slices >= 50)
            #expect(try broker.takeAny("a", limit: 3, now: 1000) == [1, 2, 3])
        }
    }

    // MARK: Priorities

    @Test func higherPrioritiesGoFirstAndEqualOnesInOrder() throws {
        try withBroker { broker in
            for (number, priority) in [0, 5, -3, 127, 5, 0, -128].enumerated() {
                try broker.add(UInt64(number), to: "a", priority: Int8(priority)) { _ in }
            }
            #expect(try broker.peek("a") == [3, 1, 4, 0, 5, 2, 6])
            #expect(try broker.takeAny("a", limit: 2) == [3, 1])
            #expect(broker.nak(1, .failed) == .requeued)
            #expect(broker.nak(3, .release) == .requeued)
            #expect(try broker.peek("a") == [3, 4, 1, 0, 5, 2, 6])
            #expect(try broker.takeAny("a", limit: 7) == [3, 4, 1, 0, 5, 2, 6])
        }
    }

    @Test func aTakeOfSeveralCountsAllPriorities() throws {
        try withBroker { broker in
            for number in 0..<3 { try broker.add(UInt64(number), to: "a", priority: Int8(number) - 1) { _ in } }
            #expect(try broker.take("a", "a", "a", "a") == nil)
            #expect(try broker.take("a", "a", "a")?.map(\.number) == [2, 1, 0])
        }
    }

    @Test func theQueuesPriorityAppliesToTasksWithoutOne() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.priority = 7 }
            try broker.add(1, to: "a", priority: 0) { _ in }
            try broker.add(2, to: "a")
            try broker.configure("a") { $0.priority = 9 }
            #expect(try broker.peek("a") == [2, 1])
            #expect(broker.withTask(id: UID(high: 2, low: 2), now: 0) { $0.priority } == 7)
        }
    }

    // MARK: Retries

    @Test func aTaskWhoseRetriesAreUsedUpIsDead() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 10) { $0.retryLimit = .limited(1) }
            _ = try broker.take("a")
            #expect(broker.nak(1, .failed, error: "first") == .requeued)
            _ = try broker.take("a")
            broker.advanceFully(to: 10)
            #expect(broker.state(1, now: 10) == .dead)
            #expect(try broker.peek("a", .dead, now: 10) == [1])
            broker.withTask(id: UID(high: 1, low: 1), now: 10) { task in
                #expect(task.retries == 1)
                #expect(task.finished == 10)
                #expect(task.error == Array("the lease ran out".utf8))
            }
            // Its expiry no longer counts, but dead tasks do not stay forever.
            let end = 10 + QueueConfiguration.defaultDeadExpiryMilliseconds
            broker.advanceFully(to: end - 1)
            #expect(broker.state(1, now: end - 1) == .dead)
            #expect(broker.state(1, now: end) == nil)
            broker.advanceFully(to: end)
            #expect(broker.counts.tasks == 0)
        }
    }

    @Test func aNakCanKillReleaseOrDelayATask() throws {
        try withBroker { broker in
            for number in 1...3 { try broker.add(UInt64(number), to: "a") { $0.retryLimit = .limited(1) } }
            #expect(try broker.takeAny("a", limit: 3) == [1, 2, 3])
            #expect(broker.nak(1, .dead) == .dead)
            #expect(broker.nak(2, .failedPausing(milliseconds: 50)) == .requeued)
            #expect(broker.nak(3, .release) == .requeued)
            #expect(broker.nak(3, .release) == .missing)
            #expect(try broker.peek("a", .delayed) == [2])
            #expect(broker.withTask(id: UID(high: 3, low: 3), now: 0) { $0.retries } == 0)
            broker.advanceFully(to: 50)
            #expect(try broker.peek("a", now: 50) == [3, 2])
            let totals = try broker.statistics("a").totals
            #expect(totals.nacked == 2 && totals.released == 1 && totals.died == 1 && totals.dispatched == 3)
        }
    }

    @Test func theBackoffDoublesUpToItsBounds() throws {
        var random = SeededGenerator(seed: 1)
        let backoff = Backoff(minimumMilliseconds: 100, maximumMilliseconds: 1500)
        #expect(
            (0...5).map { backoff.pauseMilliseconds(retries: $0, using: &random) } == [100, 200, 400, 800, 1500, 1500])
        #expect(backoff.pauseMilliseconds(retries: .max, using: &random) == 1500)
        var bounded = backoff
        bounded.maximumDoublings = 1
        #expect(bounded.pauseMilliseconds(retries: 9, using: &random) == 200)
        bounded.jitter = 0.5
        let pauses = (0..<1000).map { _ in bounded.pauseMilliseconds(retries: 1, using: &random) }
        #expect(pauses.allSatisfy { (100...300).contains($0) })
        #expect(Set(pauses).count > 100)
        let none = Backoff(minimumMilliseconds: 0, jitter: 1)
        #expect(none.pauseMilliseconds(retries: 63, using: &random) == 0)
        let long = Backoff(minimumMilliseconds: .max, maximumMilliseconds: .max, jitter: 1)
        #expect(long.pauseMilliseconds(retries: 1, using: &random) >= 0)
    }

    @Test func aFailedTaskComesBackAfterItsBackoff() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.backoff = Backoff(minimumMilliseconds: 10) }
            try broker.add(1, to: "a")
            try broker.add(2, to: "a") { $0.backoff = Backoff(minimumMilliseconds: 7) }
            _ = try broker.takeAny("a", limit: 2)
            #expect(broker.nak(1) == true && broker.nak(2) == true)
            broker.advanceFully(to: 7)
            #expect(try broker.takeAny("a", limit: 2, now: 7) == [2])
            broker.advanceFully(to: 10)
            #expect(try broker.takeAny("a", limit: 2, now: 10) == [1])
            #expect(broker.nak(1, now: 10) == true)
            broker.advanceFully(to: 29)
            #expect(try broker.takeAny("a", now: 29) == [])
            broker.advanceFully(to: 30)
            #expect(try broker.takeAny("a", now: 30) == [1])
        }
    }

    @Test func aLaterLimitEndsTasksThatFailedTooOftenBefore() throws {
        try withBroker { broker in
            for number in 1...3 { try broker.add(UInt64(number), to: "a") }
            try broker.add(4, to: "a") { $0.retryLimit = .unlimited }
            for _ in 1...3 {
                _ = try broker.takeAny("a", limit: 4)
                for number in [1, 2, 4] { #expect(broker.nak(UInt64(number)) == true) }
                #expect(broker.nak(3, .release) == .requeued)
            }
            try broker.configure("a") { $0.maximumRetries = 1 }
            #expect(try broker.peek("a") == [3, 4])
            #expect(try broker.take("a", "a", "a") == nil)
            broker.advanceFully(to: 0)
            #expect(try broker.peek("a", .dead) == [1, 2])
            #expect(try broker.takeAny("a", limit: 9) == [3, 4])
            #expect(broker.nak(4) == true)
            #expect(broker.state(4) == .ready)
        }
    }

    // MARK: Dead letters

    @Test func aDeadLetterIsReadyInItsQueueAndGoesBackWhenKicked() throws {
        try withBroker { broker in
            try broker.configure("a") {
                $0.deadLetter = Array("b".utf8)
                $0.maximumRetries = 0
            }
            try broker.add(1, to: "a", expiry: .after(milliseconds: 500)) {
                $0.key = [1]
                $0.metadata = [9]
                $0.retryLimit = .limited(0)
            }
            _ = try broker.take("a")
            #expect(broker.nak(1, .failed, error: "no") == .dead)
            #expect(try broker.peek("b") == [1])
            #expect(try broker.statistics("a").totals.died == 1)
            broker.advanceFully(to: 1000)
            let letter = try #require(try broker.take("b", now: 1000)?.first)
            #expect(letter.attempt == 2 && letter.content == "1" && letter.expires == .max)
            broker.withTask(id: UID(high: 1, low: 1), now: 1000) { task in
                #expect(task.origin == Array("a".utf8) && task.key == [] && task.metadata == [9])
                #expect(task.error == Array("no".utf8) && task.retries == 0)
            }
            // It is not moved again, not even back to where it died.
            try broker.configure("b") { $0.deadLetter = Array("a".utf8) }
            #expect(broker.nak(1, .dead, now: 1000) == .dead)
            #expect(try broker.peek("b", .dead, now: 1000) == [1])
            let counts = try broker.sweep(now: 1000) { try $0.kickToOrigin($0.queue("b"), now: 1000, completion: $1) }
            #expect(counts == [1])
            #expect(try broker.peek("a", now: 1000) == [1])
            #expect(broker.withTask(id: UID(high: 1, low: 1), now: 1000) { $0.origin } == [])
        }
    }

    @Test func expiredTasksDieIfTheQueueSaysSo() throws {
        try withBroker { broker in
            try broker.configure("a") {
                $0.isExpiryDeath = true
                $0.deadLetter = Array("b".utf8)
            }
            let outcome = Outcome()
            _ = try broker.startWait("b", noting: outcome)
            try broker.add(1, to: "a", expires: 100)
            // A take that finds it must neither dispatch nor lose it.
            #expect(try broker.take("a", now: 100) == nil)
            #expect(broker.state(1, now: 100) == .dead)
            broker.advanceFully(to: 100)
            #expect(outcome.calls == [[1]])
        }
    }

    @Test func aKickResetsRetriesAndExpiry() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", expiry: .after(milliseconds: 100)) { $0.retryLimit = .limited(1) }
            _ = try broker.take("a")
            #expect(broker.kick(1) == false)
            #expect(broker.nak(1) == true)
            _ = try broker.take("a")
            #expect(broker.nak(1, now: 99) == true)
            #expect(broker.kick(1, now: 5000) == true)
            let task = try #require(try broker.take("a", now: 5000)?.first)
            #expect(task.expires == 5100 && task.attempt == 3)
            #expect(broker.nak(1, now: 5000) == true)
            #expect(broker.state(1, now: 5000) == .ready)
        }
    }

    // MARK: Any of several queues

    @Test func takeAnyGoesThroughTheQueuesInTheOrderNamed() throws {
        try withBroker { broker in
            for (number, name) in ["low", "high", "low", "high"].enumerated() {
                try broker.add(UInt64(number), to: name)
            }
            #expect(try broker.takeAny("high", "low", limit: 3) == [1, 3, 0])
            #expect(try broker.takeAny("high", "low", "high", limit: 3) == [2])
            #expect(try broker.takeAny("high", "low", limit: 3) == [])
        }
    }

    @Test func aWaiterForAnyTaskGetsTheFirstAndIsServedInTurn() throws {
        try withBroker { broker in
            let (any, all, late) = (Outcome(), Outcome(), Outcome())
            _ = try broker.startWaitAny("a", "b", "a", noting: any)
            _ = try broker.startWait("b", noting: all)
            _ = try broker.startWaitAny("b", "c", deadline: 50, noting: late)
            broker.checkInvariants()
            #expect(try broker.statistics("a").waiters == 1)
            try broker.add(1, to: "b")
            #expect(any.calls == [[1]] && all.calls == [])
            try broker.add(2, to: "b")
            #expect(all.calls == [[2]] && late.calls == [])
            broker.advanceFully(to: 50)
            #expect(late.calls == [[]])
            #expect(broker.counts.waiters == 0)
        }
    }

    @Test func aWaitForNothingEndsAtOnce() throws {
        try withBroker { broker in
            let outcome = Outcome()
            #expect(try broker.takeAny(limit: 1) == [])
            _ = try broker.startWaitAny(noting: outcome)
            broker.advanceFully(to: 0)
            #expect(outcome.calls == [[]])
        }
    }

    @Test func manyTasksWithoutRetriesHoldUpNoWaiterForever() throws {
        try withBroker(maximumTasks: 5000) { broker in
            for number in 1...2500 { try broker.add(UInt64(number), to: "a", lease: 10) }
            _ = try broker.takeAny("a", limit: 2500)
            broker.advanceFully(to: 10)
            try broker.add(3000, to: "a", now: 10)
            try broker.configure("a") { $0.maximumRetries = 0 }
            let outcome = Outcome()
            #expect(try broker.takeAny("a", now: 10) == [])
            _ = try broker.startWaitAny("a", "b", now: 10, noting: outcome)
            while !broker.advance(to: 10, limit: 300) {}
            #expect(outcome.calls == [[3000]])
            #expect(try broker.statistics("a").dead == 2500)
        }
    }

    @Test func aTakenTaskShowsItsWorkerAndItsLease() throws {
        try withBroker { broker in
            try broker.add(1, to: "a")
            var taken: [TaskHandle?] = []
            _ = broker.takeAny(
                [try broker.queue("a")], limit: 1, leaseMilliseconds: 70, worker: [5], now: 0, into: &taken)
            broker.withTask(id: UID(high: 1, low: 1), now: 0) { task in
                #expect(task.worker == [5] && task.leaseMilliseconds == 70)
            }
            let reference = TaskReference(id: UID(high: 1, low: 1))
            #expect(broker.touch(reference, now: 60) == true)
            #expect(broker.touch(reference, progress: [8].span, now: 100) == true)
            broker.withTask(id: UID(high: 1, low: 1), now: 100) { task in
                #expect(task.leaseEnd == 170 && task.leaseMilliseconds == 70 && task.dispatched == 0)
                #expect(task.progress == [8])
            }
            #expect(broker.touch(reference, leaseMilliseconds: 5, now: 100) == true)
            #expect(broker.touch(reference, now: 105) == false)
            broker.advanceFully(to: 105)
            #expect(try broker.peek("a", now: 105) == [1])
            #expect(try broker.take("a", now: 105)?.first?.lease == 1000)
            #expect(broker.withTask(id: UID(high: 1, low: 1), now: 105) { $0.worker } == [])
        }
    }

    /// While memory is short, takes and touches use no more of it, and leases keep their length.
    @Test func takesAndTouchesNeedNoMemory() throws {
        try withBroker { broker in
            for number in 1...10 as ClosedRange<UInt64> { try broker.add(number, to: "a") }
            broker.isShortOfMemory = true
            let before = broker.memoryBytes
            var taken: [TaskHandle?] = []
            _ = broker.takeAny(
                [try broker.queue("a")], limit: 10, leaseMilliseconds: 70, worker: [5], now: 0, into: &taken)
            #expect(taken.count == 10)
            for now in [30, 90, 150] as [Int64] {
                for number in 1...10 as ClosedRange<UInt64> {
                    #expect(broker.touch(TaskReference(id: UID(high: number, low: number)), now: now) == true)
                    #expect(broker.withTask(id: UID(high: number, low: number), now: now) { $0.leaseEnd } == now + 70)
                }
            }
            #expect(broker.memoryBytes == before)
        }
    }

    /// The names of workers count as memory.
    @Test func workersNamesCountAsMemory() throws {
        try withBroker { broker in
            try broker.add(1, to: "a")
            let before = broker.memoryBytes
            var taken: [TaskHandle?] = []
            let worker = [UInt8](repeating: 5, count: 10_000)
            _ = broker.takeAny([try broker.queue("a")], limit: 1, worker: worker, now: 0, into: &taken)
            #expect(broker.memoryBytes >= before + 10_000)
        }
    }
}
