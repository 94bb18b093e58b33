// What waiters observe.

import Support
import Testing
import UID

@testable import Queues

/// The arguments with which a wait was completed.
final class Outcome {
    var calls: [[UInt64?]] = []
}

private final class Counted {
    var counts: [Int] = []
}

extension Broker {
    /// A wait whose outcome is ignored.
    func startWait(_ names: String..., deadline: Int64, now: Int64 = 0) throws -> Waiter {
        wait(try queues(names), deadline: deadline, now: now) { _ in }
    }

    /// The key of a dispatch of the queue's first task.
    func takeKey(_ name: String, now: Int64 = 0) throws -> DispatchKey {
        var taken: [TaskHandle?] = []
        let isTaken = take(try queues([name]), now: now, into: &taken)
        #expect(isTaken)
        return withTask(try #require(taken.first ?? nil)) { $0.dispatchKey }
    }

    /// A wait for one task of any of the queues.
    func startWaitAny(
        _ names: String..., limit: Int = 1, deadline: Int64 = 1000, now: Int64 = 0, noting outcome: Outcome
    ) throws -> Waiter {
        waitAny(try queues(names), limit: limit, deadline: deadline, now: now) { taken in
            outcome.calls.append(taken.map { $0.map { self.show($0).number } })
        }
    }

    /// Runs an operation on a whole queue, and returns the counts that its completion got.
    func sweep(
        now: Int64 = 0, limit: Int = 2000, _ begin: (isolated Broker, @escaping SweepCompletion) throws -> Void
    ) throws -> [Int] {
        let outcome = Counted()
        try begin(self) { outcome.counts.append($0.count) }
        #expect(outcome.counts == [])
        while !advance(to: now, limit: limit) { checkInvariants() }
        return outcome.counts
    }

    func startWait(
        _ names: String..., deadline: Int64 = 1000, now: Int64 = 0, noting outcome: Outcome
    ) throws -> Waiter {
        wait(try queues(names), deadline: deadline, now: now) { taken in
            outcome.calls.append(taken.map { $0.map { self.show($0).number } })
        }
    }
}

@Suite(.blocking) struct WaiterTests {
    @Test func anEnqueueCompletesTheWait() throws {
        try withBroker { broker in
            let outcome = Outcome()
            _ = try broker.startWait("a", noting: outcome)
            #expect(outcome.calls == [])
            try broker.add(1, to: "b")
            #expect(outcome.calls == [])
            try broker.add(2, to: "a", lease: 5000)
            #expect(outcome.calls == [[2]])
            // The wait is over, so the next task stays.
            try broker.add(3, to: "a")
            broker.advanceFully(to: 2000)
            #expect(outcome.calls == [[2]])
            #expect(try broker.peek("a", now: 2000) == [3])
        }
    }

    @Test func waitersAreServedInTheOrderTheyCame() throws {
        try withBroker { broker in
            let (first, second) = (Outcome(), Outcome())
            _ = try broker.startWait("a", deadline: 1000, noting: first)
            _ = try broker.startWait("a", deadline: 500, noting: second)
            try broker.add(1, to: "a")
            #expect(first.calls == [[1]] && second.calls == [])
            try broker.add(2, to: "a")
            #expect(second.calls == [[2]])
        }
    }

    @Test func aWaitForSeveralGetsThemInTheOrderRequested() throws {
        try withBroker { broker in
            let outcome = Outcome()
            _ = try broker.startWait("a", "b", "a", "c", noting: outcome)
            for (number, name) in ["c", "a", "b"].enumerated() {
                try broker.add(UInt64(number), to: name)
                #expect(outcome.calls == [])
                // Nothing is reserved for it meanwhile.
                #expect(try broker.peek(name) == [UInt64(number)])
            }
            try broker.add(3, to: "a")
            #expect(outcome.calls == [[1, 2, 3, 0]])
        }
    }

    @Test func atItsDeadlineAWaitTakesTheAvailableTasks() throws {
        try withBroker { broker in
            let outcome = Outcome()
            _ = try broker.startWait("a", "b", "a", deadline: 100, noting: outcome)
            try broker.add(1, to: "a")
            broker.advanceFully(to: 99)
            #expect(outcome.calls == [])
            #expect(try broker.deadline() <= 100)
            broker.advanceFully(to: 100)
            #expect(outcome.calls == [[1, nil, nil]])
            #expect(broker.counts.waiters == 0)
        }
    }

    @Test func aCancelledWaiterGetsNothingAndBlocksNoOther() throws {
        try withBroker { broker in
            let (first, second) = (Outcome(), Outcome())
            let waiter = try broker.startWait("a", noting: first)
            _ = try broker.startWait("a", noting: second)
            broker.cancel(waiter)
            broker.cancel(waiter)
            try broker.add(1, to: "a")
            #expect(first.calls == [] && second.calls == [[1]])
            broker.advanceFully(to: 5000)
            #expect(first.calls == [])
        }
    }

    @Test func aWaiterForFewerTasksOvertakesAWaiterForMore() throws {
        try withBroker { broker in
            let (large, small) = (Outcome(), Outcome())
            _ = try broker.startWait("a", "a", noting: large)
            _ = try broker.startWait("a", noting: small)
            try broker.add(1, to: "a")
            #expect(large.calls == [] && small.calls == [[1]])
            try broker.add(2, to: "a")
            #expect(large.calls == [])
            try broker.add(3, to: "a")
            #expect(large.calls == [[2, 3]])
        }
    }

    @Test func aWaiterThatIsRegisteredAgainKeepsItsPlace() throws {
        try withBroker { broker in
            let (first, second) = (Outcome(), Outcome())
            // It is registered under a, then under b, behind a waiter that was registered there first but arrived
            // later.
            _ = try broker.startWait("a", "b", noting: first)
            _ = try broker.startWait("b", noting: second)
            try broker.add(1, to: "a")
            try broker.add(2, to: "b")
            #expect(first.calls == [[1, 2]] && second.calls == [])
            try broker.add(3, to: "b")
            #expect(second.calls == [[3]])
        }
    }

    @Test func aWaiterFindsItsTasksAfterAnotherTookTheOnesItWasRegisteredFor() throws {
        try withBroker { broker in
            let outcome = Outcome()
            _ = try broker.startWait("a", "b", noting: outcome)
            try broker.add(1, to: "a")
            #expect(try broker.take("a")?.map(\.number) == [1])
            try broker.add(2, to: "b")
            #expect(outcome.calls == [])
            try broker.add(3, to: "a")
            #expect(outcome.calls == [[3, 2]])
        }
    }

    @Test func returningTasksCompleteWaits() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 100)
            _ = try broker.take("a")
            let nacked = Outcome()
            _ = try broker.startWait("a", noting: nacked)
            #expect(broker.nak(1) == true)
            #expect(nacked.calls == [[1]])

            let timedOut = Outcome()
            _ = try broker.startWait("a", noting: timedOut)
            broker.advanceFully(to: 100)
            #expect(timedOut.calls == [[1]])

            #expect(broker.nak(1, now: 100) == true)
            let key = try broker.takeKey("a", now: 100)
            let released = Outcome()
            _ = try broker.startWait("a", now: 100, noting: released)
            broker.release(key, now: 100)
            #expect(released.calls == [[1]])
        }
    }

    @Test func anExpiredTaskDoesNotCompleteAWait() throws {
        try withBroker { broker in
            let outcome = Outcome()
            try broker.add(1, to: "a", expires: 100)
            _ = try broker.startWait("a", "a", noting: outcome)
            try broker.add(2, to: "a", now: 100)
            #expect(outcome.calls == [])
            try broker.add(3, to: "a", now: 100)
            #expect(outcome.calls == [[2, 3]])
        }
    }

    @Test func aWaitGetsTheTaskOfALeaseThatEndsAtTheSameTime() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 100)
            _ = try broker.take("a")
            let (early, late) = (Outcome(), Outcome())
            _ = try broker.startWait("a", deadline: 99, noting: early)
            _ = try broker.startWait("a", deadline: 100, noting: late)
            // Much later, in slices of one timer, everything still happens in the order of its time.
            broker.advanceFully(to: 5000, limit: 1)
            #expect(early.calls == [[nil]])
            #expect(late.calls == [[1]])
        }
    }

    @Test func aSlicedAdvanceCompletesWaitsWithTasksReturnedByThen() throws {
        try withBroker { broker in
            for number in 1...10 { try broker.add(UInt64(number), to: "a", lease: 100) }
            for _ in 1...10 { _ = try broker.take("a") }
            let outcomes = (1...4).map { _ in Outcome() }
            for outcome in outcomes { _ = try broker.startWait("a", "a", "a", noting: outcome) }
            broker.advanceFully(to: 100, limit: 2)
            #expect(outcomes.map(\.calls) == [[[1, 2, 3]], [[4, 5, 6]], [[7, 8, 9]], []])
            broker.advanceFully(to: 1000, limit: 2)
            // The leases that the waiters got ran out before their deadline.
            #expect(outcomes[3].calls == [[10, 1, 2]])
        }
    }

    @Test func oneTaskThatThousandsOfWaitersNeedIsDecidedInSlices() throws {
        try withBroker { broker in
            let outcomes = (0..<1500).map { _ in Outcome() }
            for outcome in outcomes { _ = try broker.startWait("a", "a", "b", noting: outcome) }
            try broker.add(1, to: "a")
            try broker.add(2, to: "a")
            broker.checkInvariants()
            // All of them now have a shortage of the other queue. `advance` has to find that out for the rest.
            #expect(try broker.deadline() == 0)
            var slices = 1
            while !broker.advance(to: 1, limit: 300) { slices += 1 }
            #expect(slices > 5)
            broker.checkInvariants()
            #expect(outcomes.allSatisfy { $0.calls.isEmpty })
            try broker.add(3, to: "b", now: 1)
            broker.advanceFully(to: 1)
            #expect(outcomes[0].calls == [[1, 2, 3]])
            #expect(outcomes.dropFirst().allSatisfy { $0.calls.isEmpty })
        }
    }

    @Test func aTakeBehindManyExpiredTasksIsBoundedAndItsWaiterGetsTheTasksBehind() throws {
        try withBroker(maximumTasks: 10_000) { broker in
            for number in 1...5000 { try broker.add(UInt64(number), to: "a", expires: 100) }
            try broker.add(6000, to: "a")
            // No call removes all expired tasks, and none shows or dispatches any of them.
            #expect(try broker.take("a", now: 100) == nil)
            #expect(try broker.takeAvailable("a", "a", now: 100) == [nil, nil])
            #expect(try broker.peek("a", now: 100) == [])
            #expect(broker.counts.tasks > 1000)
            let (first, second, third) = (Outcome(), Outcome(), Outcome())
            let cancelled = try broker.startWait("a", now: 100, noting: first)
            _ = try broker.startWait("a", now: 100, noting: second)
            _ = try broker.startWait("a", now: 100, noting: third)
            broker.cancel(cancelled)
            broker.checkInvariants()
            #expect(try broker.deadline() <= 100)
            broker.advanceFully(to: 100, limit: 500)
            #expect(first.calls == [] && second.calls == [[6000]] && third.calls == [])
            try broker.add(7000, to: "a", now: 100)
            #expect(third.calls == [[7000]])
        }
    }

    @Test func tasksThatDoNotFitIntoOneAnswerWaitForTheNext() throws {
        try withBroker(maximumContentBytes: 2) { broker in
            for number in [100, 10, 200] { try broker.add(UInt64(number), to: "a") }
            // The first task may have any size; then as many as fit.
            #expect(try broker.peek("a") == [100, 10])
            #expect(try broker.takeAvailable("a", "a", "a") == [100, 10, nil])
            _ = try broker.take("a")

            let (first, second) = (Outcome(), Outcome())
            _ = try broker.startWait("b", "c", noting: first)
            _ = try broker.startWait("c", noting: second)
            try broker.add(1, to: "b")
            try broker.add(300, to: "c")
            #expect(first.calls == [[1, nil]])
            #expect(second.calls == [[300]])
        }
    }

    @Test func whenTheServerStopsAllWaitsEndWithNothing() throws {
        try withBroker { broker in
            try broker.add(1, to: "a")
            let outcomes = [Outcome(), Outcome()]
            _ = try broker.startWait("a", "b", noting: outcomes[0])
            _ = try broker.startWait("c", noting: outcomes[1])
            broker.completeAllWaiters(now: 0)
            #expect(outcomes.map(\.calls) == [[[nil, nil]], [[nil]]])
            #expect(try broker.peek("a") == [1])
            #expect(broker.counts.waiters == 0)
        }
    }

    /// One call serves a bounded number of waiters; `advance` serves the rest.
    @Test func aBatchForManyWaitersIsDispatchedInSlices() throws {
        try withBroker { broker in
            let outcomes = (0..<500).map { _ in Outcome() }
            for outcome in outcomes { _ = try broker.startWait("a", noting: outcome) }
            let batch = (1...600).map { number in
                NewTask(id: UID(high: UInt64(number), low: 0), content: 0..<1)
            }
            var results: [Enqueued] = []
            try broker.enqueue(batch, contents: [48].span, in: broker.queue("a"), now: 0, into: &results)
            let atOnce = outcomes.count { !$0.calls.isEmpty }
            #expect(atOnce > 0 && atOnce < 300)
            // No later waiter is served before them.
            #expect(try broker.take("a") == nil)
            broker.checkInvariants()
            var slices = 0
            while !broker.advance(to: 0) { slices += 1 }
            #expect(slices > 0)
            #expect(outcomes.map(\.calls) == (1...500).map { [[UInt64($0)]] })
            #expect(try broker.take("a")?.map(\.number) == [501])
        }
    }

    // MARK: One event

    /// Adds tasks of these priorities, numbered from 1, in one batch.
    private func addBatch(_ priorities: [Int8], to name: String, on broker: isolated Broker) throws {
        let batch = priorities.enumerated().map { index, priority in
            NewTask(id: UID(high: UInt64(index + 1), low: UInt64(index + 1)), content: 0..<1, priority: priority)
        }
        var results: [Enqueued] = []
        try broker.enqueue(batch, contents: [48].span, in: broker.queue(name), now: 0, into: &results)
    }

    @Test func aBatchBecomesVisibleAsAWhole() throws {
        try withBroker { broker in
            let (many, single) = (Outcome(), Outcome())
            _ = try broker.startWaitAny("a", limit: 2, noting: many)
            _ = try broker.startWait("a", noting: single)
            try addBatch([0, 5, 3], to: "a", on: broker)
            #expect(many.calls == [[2, 3]])
            #expect(single.calls == [[1]])
        }
    }

    @Test func aBatchServesWaitersForSeveralInOrder() throws {
        try withBroker { broker in
            let outcomes = (0..<4).map { _ in Outcome() }
            _ = try broker.startWait("a", "a", noting: outcomes[0])
            _ = try broker.startWait("a", "a", "a", "a", "a", "a", noting: outcomes[1])
            _ = try broker.startWait("a", noting: outcomes[2])
            _ = try broker.startWait("a", "a", "a", noting: outcomes[3])
            try addBatch([0, 0, 0, 0, 0], to: "a", on: broker)
            #expect(outcomes.map(\.calls) == [[[1, 2]], [], [[3]], []])
            #expect(try broker.peek("a") == [4, 5])
        }
    }

    @Test func anEventInSeveralQueuesServesWaitersInOrder() throws {
        try withBroker { broker in
            let outcomes = (0..<3).map { _ in Outcome() }
            for (number, name) in ["b", "a", "c"].enumerated() {
                try broker.add(UInt64(number + 1), to: name)
                _ = try broker.take(name)
            }
            _ = try broker.startWait("a", "b", noting: outcomes[0])
            _ = try broker.startWait("b", noting: outcomes[1])
            _ = try broker.startWaitAny("c", "b", limit: 2, noting: outcomes[2])
            broker.beginEvent()
            for number in 1...3 { #expect(broker.nak(UInt64(number)) == true) }
            #expect(outcomes.allSatisfy { $0.calls.isEmpty })
            broker.endEvent(now: 0)
            #expect(outcomes.map(\.calls) == [[[2, 1]], [], [[3]]])
        }
    }

    @Test func tasksThatBecomeReadyAtTheSameTimeAreOneEvent() throws {
        try withBroker { broker in
            for (number, priority) in [0, 5, 3].enumerated() {
                try broker.add(UInt64(number + 1), to: "a", due: 100, priority: Int8(priority)) { _ in }
            }
            let outcome = Outcome()
            _ = try broker.startWaitAny("a", limit: 2, noting: outcome)
            broker.advanceFully(to: 100)
            #expect(outcome.calls == [[2, 3]])
        }
    }

    @Test func aKickAndAMoveAreOneEventEach() throws {
        try withBroker { broker in
            for (number, priority) in [0, 5].enumerated() {
                try broker.add(UInt64(number + 1), to: "a", due: 100, priority: Int8(priority)) { _ in }
                try broker.add(UInt64(number + 11), to: "b", priority: Int8(priority)) { _ in }
            }
            let (kicked, moved) = (Outcome(), Outcome())
            _ = try broker.startWaitAny("a", limit: 10, noting: kicked)
            _ = try broker.startWaitAny("c", limit: 10, noting: moved)
            let (a, b, c) = (try broker.queue("a"), try broker.queue("b"), try broker.queue("c"))
            #expect(try broker.sweep { try $0.kick(a, state: .delayed, now: 0, completion: $1) } == [2])
            #expect(try broker.sweep { try $0.move(b, to: c, now: 0, completion: $1) } == [2])
            #expect(kicked.calls == [[2, 1]] && moved.calls == [[12, 11]])
        }
    }

    /// However many queues an event touches, one call does a bounded amount of work, and waiters keep their order.
    @Test func anEventInThousandsOfQueuesIsServedInSlices() throws {
        try withBroker(maximumTasks: 3000) { broker in
            let outcomes = (0..<2000).map { _ in Outcome() }
            for number in 0..<2000 {
                try broker.add(UInt64(number), to: "\(number)")
                _ = try broker.take("\(number)")
                _ = try broker.startWait("\(number)", noting: outcomes[number])
            }
            broker.beginEvent()
            for number in (0..<2000).reversed() { #expect(broker.nak(UInt64(number)) == true) }
            broker.endEvent(now: 0)
            let atOnce = outcomes.count { !$0.calls.isEmpty }
            #expect(atOnce > 0 && atOnce < 300)
            #expect(outcomes.prefix(atOnce).allSatisfy { !$0.calls.isEmpty })
            broker.checkInvariants()
            broker.advanceFully(to: 0)
            #expect(outcomes.map(\.calls) == (0..<2000).map { [[UInt64($0)]] })
        }
    }

    // MARK: Tasks in the way

    @Test func aWaitWithoutATimeoutGetsTasksBehindManyExpiredOnes() throws {
        try withBroker(maximumTasks: 10_000) { broker in
            for number in 1...5000 { try broker.add(UInt64(number), to: "a", expires: 100) }
            try broker.add(6000, to: "a")
            try broker.add(6001, to: "a")
            let names = try broker.queues(["a"])
            #expect(broker.isDecided(names, isForAny: false, now: 100) == false)
            #expect(broker.isDecided(names, isForAny: true, now: 100) == false)
            let (all, any) = (Outcome(), Outcome())
            _ = try broker.startWait("a", "b", deadline: 100, now: 100, noting: all)
            _ = try broker.startWaitAny("a", deadline: 100, now: 100, noting: any)
            #expect(try broker.deadline() <= 100)
            broker.advanceFully(to: 100, limit: 500)
            #expect(all.calls == [[6000, nil]] && any.calls == [[6001]])
            #expect(broker.isDecided(names, isForAny: false, now: 100) == true)
        }
    }

    /// Unlike expired tasks, tasks that used up their retries have no timer that is due. The call that finds them
    /// removes them.
    @Test func aWaitThatEndsGetsTasksBehindManyWithoutRetries() throws {
        try withBroker(maximumTasks: 10_000) { broker in
            for number in 1...5000 { try broker.add(UInt64(number), to: "worn") }
            for number in 1...5000 {
                _ = try broker.take("worn")
                #expect(broker.nak(UInt64(number)) == true)
            }
            // Only a take from the queue that they arrive in ends them.
            try broker.configure("a") { $0.maximumRetries = 0 }
            let (worn, a) = (try broker.queue("worn"), try broker.queue("a"))
            #expect(try broker.sweep { try $0.move(worn, to: a, now: 0, completion: $1) } == [5000])
            try broker.add(6000, to: "a")
            let outcome = Outcome()
            _ = try broker.startWait("a", "a", deadline: 100, noting: outcome)
            broker.advanceFully(to: 100, limit: 500)
            #expect(outcome.calls == [[6000, nil]])
            #expect(try broker.statistics("a").dead == 5000)
        }
    }

    @Test func aWaitForManyQueuesThatIsCancelledTakesNothing() throws {
        try withBroker { broker in
            let names = (0..<100).map { "queue \($0)" }
            let (gone, other) = (Outcome(), Outcome())
            let before = broker.memoryBytes
            let waits = try (0..<2).map { number in
                broker.waitAny(try broker.queues(names), limit: 1, deadline: 1000, now: 0) { taken in
                    (number == 0 ? gone : other).calls.append(taken.map { $0.map { broker.show($0).number } })
                }
            }
            #expect(broker.memoryBytes > before + 2 * 100 * 50)
            broker.cancel(waits[0])
            broker.checkInvariants()
            try broker.add(1, to: "queue 7")
            #expect(gone.calls == [] && other.calls == [[1]])
            broker.advanceFully(to: 2000)
            #expect(gone.calls == [] && broker.counts.waiters == 0)
            #expect(broker.ack(1) == false)
            broker.advanceFully(to: 2_000_000)
            #expect(broker.memoryBytes == before)
        }
    }
}
