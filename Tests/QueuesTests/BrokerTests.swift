// What callers of the broker observe.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct BrokerTests {
    // MARK: Taking

    @Test func tasksComeOutInTheOrderTheyWentIn() throws {
        try withBroker { broker in
            for number in 1...5 { try broker.add(UInt64(number), to: "a") }
            for number in 1...5 { #expect(try broker.take("a")?.map(\.number) == [UInt64(number)]) }
            #expect(try broker.take("a") == nil)
        }
    }

    @Test func aTakeShowsTheWholeTask() throws {
        try withBroker(now: 50, firstToken: 9) { broker in
            try broker.add(1, to: "a/ü", lease: 300, expires: 10_000, now: 50)
            let task = try #require(try broker.take("a/ü", now: 60)?.first)
            #expect(task.number == 1)
            #expect(task.queue == "a/ü")
            #expect(task.content == "1")
            #expect(task.attempt == 1)
            #expect(task.token == 9)
            #expect(task.state == .dispatched)
            #expect(task.lease == 300)
            #expect(task.enqueued == 50)
            #expect(task.dispatched == 60)
            #expect(task.leaseEnd == 360)
            #expect(task.expires == 10_000)
        }
    }

    @Test func aTakeOfSeveralIsAllOrNothing() throws {
        try withBroker { broker in
            try broker.add(1, to: "a")
            try broker.add(2, to: "b")
            #expect(try broker.take("a", "b", "a") == nil)
            #expect(try broker.peek("a") == [1])
            #expect(try broker.peek("b") == [2])
            try broker.add(3, to: "a")
            #expect(try broker.take("a", "b", "a")?.map(\.number) == [1, 2, 3])
        }
    }

    @Test func takeAvailableReturnsNilForEachMissingTask() throws {
        try withBroker { broker in
            try broker.add(1, to: "a")
            try broker.add(2, to: "c")
            #expect(try broker.takeAvailable("a", "b", "a", "c") == [1, nil, nil, 2])
        }
    }

    @Test func aTakeMayGiveAnotherLease() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 1000)
            var taken: [TaskHandle?] = []
            let isTaken = broker.take(try broker.queues(["a"]), leaseMilliseconds: 5, now: 0, into: &taken)
            #expect(isTaken)
            #expect(broker.ack(1, now: 5) == false)
            broker.advanceFully(to: 5)
            #expect(try broker.take("a", now: 5)?.first?.lease == 1000)
        }
    }

    @Test func everyDispatchGetsTheNextTokenAndAttempt() throws {
        try withBroker(firstToken: .max) { broker in
            try broker.add(1, to: "a")
            for attempt in 1...3 {
                let task = try #require(try broker.take("a")?.first)
                #expect(task.attempt == attempt)
                #expect(task.token == UInt64.max &+ UInt64(attempt - 1))
                #expect(broker.nak(1) == true)
            }
        }
    }

    @Test func peekShowsReadyTasksInOrderAndTakesNone() throws {
        try withBroker { broker in
            for number in 1...4 { try broker.add(UInt64(number), to: "a", expires: number == 2 ? 10 : 1000) }
            _ = try broker.take("a")
            #expect(try broker.peek("a", limit: 2) == [2, 3])
            #expect(try broker.peek("a", limit: 2, now: 10) == [3, 4])
            #expect(try broker.peek("a", limit: 0) == [])
            #expect(try broker.peek("b") == [])
        }
    }

    @Test func peekBackwardsShowsTheLastTasksFirst() throws {
        try withBroker { broker in
            for number in 1...6 {
                try broker.add(
                    UInt64(number), to: "a", expiry: .after(milliseconds: number == 4 ? 10 : 1000),
                    priority: number == 2 ? 5 : number == 3 ? -5 : 0
                ) { _ in }
            }
            #expect(try broker.peekBackwards("a") == [3, 6, 5, 4, 1, 2])
            #expect(try broker.peekBackwards("a", limit: 2) == [3, 6])
            #expect(try broker.peekBackwards("a", limit: 0) == [])
            #expect(try broker.peekBackwards("a", now: 10) == [3, 6, 5, 1, 2])
            _ = try broker.take("a")
            _ = try broker.take("a")
            #expect(try broker.peekBackwards("a", .dispatched) == [1, 2])
            #expect(try broker.peekBackwards("a", .dispatched, limit: 1) == [1])
            #expect(try broker.peekBackwards("a", .dead) == [])
        }
    }

    // MARK: Ack, nak, release

    @Test func anAckDeletesTheTaskAndWorksOnce() throws {
        try withBroker { broker in
            try broker.add(1, to: "a")
            #expect(broker.ack(1) == false)
            _ = try broker.take("a")
            #expect(broker.ack(1) == true)
            #expect(broker.ack(1) == false)
            #expect(broker.counts.tasks == 0)
        }
    }

    @Test func aNakPutsTheTaskAtTheBack() throws {
        try withBroker { broker in
            for number in 1...3 { try broker.add(UInt64(number), to: "a") }
            _ = try broker.take("a")
            #expect(broker.nak(1) == true)
            #expect(broker.nak(1) == false)
            #expect(try broker.peek("a") == [2, 3, 1])
        }
    }

    @Test func aReceiptOfAnEarlierDispatchDoesNotWork() throws {
        try withBroker { broker in
            try broker.add(1, to: "a")
            let first = try #require(try broker.take("a")?.first).token
            #expect(broker.nak(1, token: first) == true)
            let second = try #require(try broker.take("a")?.first).token
            #expect(broker.ack(1, token: first) == false)
            #expect(broker.nak(1, token: first) == false)
            #expect(broker.ack(1, token: second) == true)
        }
    }

    @Test func aReleasePutsTheTaskAtTheFront() throws {
        try withBroker { broker in
            for number in 1...2 { try broker.add(UInt64(number), to: "a") }
            let key = try broker.takeKey("a")
            broker.release(key, now: 0)
            #expect(try broker.peek("a") == [1, 2])
            #expect(try broker.take("a")?.first?.attempt == 2)
            // That dispatch is over, so a second release must not end the next one.
            broker.release(key, now: 0)
            #expect(try broker.peek("a") == [2])
        }
    }

    @Test func aReleaseOfATaskThatIsGoneDoesNothing() throws {
        try withBroker { broker in
            try broker.add(1, to: "a")
            let key = try broker.takeKey("a")
            #expect(broker.ack(1) == true)
            broker.release(key, now: 0)
            try broker.add(2, to: "a")
            broker.release(key, now: 0)
            broker.release(DispatchKey(rawValue: .max), now: 0)
            broker.release(DispatchKey(rawValue: 0), now: 0)
            #expect(try broker.peek("a") == [2])
        }
    }

    // MARK: Time

    @Test func aLeaseThatRunsOutPutsTheTaskAtTheBack() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 100)
            try broker.add(2, to: "a")
            _ = try broker.take("a")
            broker.advanceFully(to: 99)
            #expect(try broker.peek("a") == [2])
            broker.advanceFully(to: 100)
            #expect(try broker.peek("a") == [2, 1])
        }
    }

    @Test func aLeaseIsOverAtItsEndEvenIfItsTimerHasNotFired() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 100)
            let key = try broker.takeKey("a")
            #expect(broker.ack(1, now: 100) == false)
            #expect(broker.nak(1, now: 100) == false)
            broker.release(key, now: 100)
            #expect(try broker.peek("a", now: 100) == [])
            #expect(broker.ack(1, now: 99) == true)
        }
    }

    @Test func anExpiredTaskIsGoneEvenIfItsTimerHasNotFired() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", expires: 100)
            try broker.add(2, to: "a", expires: 100)
            try broker.add(3, to: "a")
            _ = try broker.take("a", now: 99)
            #expect(broker.ack(1, now: 100) == false)
            #expect(try broker.peek("a", now: 100) == [3])
            #expect(try broker.take("a", "a", now: 100) == nil)
            #expect(try broker.take("a", now: 100)?.map(\.number) == [3])
        }
    }

    @Test func expiryDeletesReadyAndDispatchedTasks() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 1000, expires: 100)
            try broker.add(2, to: "b", expires: 100)
            _ = try broker.take("a")
            broker.advanceFully(to: 99)
            #expect(broker.names == ["a", "b"])
            broker.advanceFully(to: 100)
            #expect(broker.counts.tasks == 0)
            #expect(broker.names == [])
            #expect(broker.nextDeadline == nil)
        }
    }

    @Test func aTaskWithALifetimeOfZeroIsNeverSeen() throws {
        try withBroker(now: 100) { broker in
            try broker.add(1, to: "a", expires: 100, now: 100)
            #expect(try broker.peek("a", now: 100) == [])
            #expect(try broker.take("a", now: 100) == nil)
            broker.advanceFully(to: 100)
            #expect(broker.counts.tasks == 0)
        }
    }

    @Test func aLeaseOrLifetimeMayBeEndless() throws {
        try withBroker(now: 1_790_000_000_000) { broker in
            try broker.add(1, to: "a", lease: .max, expires: .max, now: 1_790_000_000_000)
            #expect(try broker.take("a", now: 1_790_000_000_000) != nil)
            broker.advanceFully(to: 9_000_000_000_000)
            #expect(broker.ack(1, now: 9_000_000_000_000) == true)
        }
    }

    @Test func aClockThatGoesBackLosesNothing() throws {
        try withBroker(now: 1000) { broker in
            broker.advanceFully(to: 1000)
            try broker.add(1, to: "a", lease: 10, expires: 2000, now: 500)
            #expect(try broker.take("a", now: 500) != nil)
            broker.advanceFully(to: 600)
            #expect(try broker.peek("a", now: 600) == [1])
            #expect(broker.nextDeadline != nil)
        }
    }

    @Test func massExpiryIsDoneInSlices() throws {
        try withBroker(maximumTasks: 5000) { broker in
            for number in 1...5000 { try broker.add(UInt64(number), to: "a", expires: 7777) }
            var slices = 1
            var before = broker.counts.tasks
            while !broker.advance(to: 8000, limit: 100) {
                #expect(before - broker.counts.tasks <= 100)
                before = broker.counts.tasks
                if before > 0 { #expect(broker.nextDeadline ?? .max <= 8000) }
                #expect(try broker.peek("a", now: 8000) == [])
                broker.checkInvariants()
                slices += 1
            }
            #expect(broker.counts.tasks == 0)
            #expect(slices >= 50)
        }
    }

    @Test func theNextDeadlineIsNeverTooLate() throws {
        try withBroker { broker in
            #expect(broker.nextDeadline == nil)
            try broker.add(1, to: "a", lease: 70, expires: 5000)
            #expect(try broker.deadline() <= 5000)
            _ = try broker.take("a")
            #expect(try broker.deadline() <= 70)
            // Nothing happens before each deadline, and everything that is due happens at it.
            var time: Int64 = 0
            while try broker.peek("a", now: time).isEmpty {
                let next = try broker.deadline()
                #expect(next > time)
                time = next
                broker.advanceFully(to: time)
            }
            #expect(time == 70)
        }
    }

    // MARK: Queues and limits

    @Test func namesListsQueuesWithTasksInByteOrder() throws {
        try withBroker { broker in
            for (number, name) in ["b", "ä", "a/b", "a", "Z"].enumerated() {
                try broker.add(UInt64(number), to: name)
            }
            _ = try broker.queue("empty")
            _ = try broker.take("Z")
            #expect(broker.names == ["Z", "a", "a/b", "b", "ä"])
            #expect(broker.ack(4) == true)
            #expect(broker.names == ["a", "a/b", "b", "ä"])
        }
    }

    @Test func aQueueIsFoundOnlyAfterItWasMade() throws {
        try withBroker { broker in
            #expect(broker.existingQueue(named: Array("a".utf8).span) == nil)
            let made = try broker.queue("a")
            #expect(broker.existingQueue(named: Array("a".utf8).span) == made)
            #expect(try broker.queue("a") == made)
            #expect(try broker.queue("b") != made)
        }
    }

    @Test func idleQueuesBeyondTenThousandAreForgottenLeastRecentlyUsedFirst() throws {
        try withBroker { broker in
            try broker.add(1, to: "busy")
            let waiter = try broker.startWait("waited for", deadline: 1000)
            for number in 0..<10_000 { _ = try broker.queue("\(number)") }
            _ = try broker.queue("5")
            #expect(broker.counts.queues == 10_002)
            for number in 10_000..<10_100 { _ = try broker.queue("\(number)") }
            #expect(broker.counts.queues == 10_002)
            let kept = (0..<10_100).filter { broker.existingQueue(named: Array("\($0)".utf8).span) != nil }
            #expect(kept == [5] + Array(101..<10_100))
            #expect(try broker.peek("busy") == [1])
            broker.cancel(waiter)
            #expect(broker.ack(1) == false)
        }
    }

    @Test func anIdleQueueIsForgottenAnHourAfterItsLastUse() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 5000)
            _ = try broker.take("a")
            broker.advanceFully(to: 1000)
            #expect(broker.ack(1, now: 1000) == true)
            broker.advanceFully(to: 3_600_999)
            #expect(try broker.statistics("a").totals.acked == 1)
            broker.advanceFully(to: 7_200_998)
            #expect(broker.existingQueue(named: Array("a".utf8).span) != nil)
            while !broker.advance(to: 7_200_999, limit: 1) {}
            #expect(broker.existingQueue(named: Array("a".utf8).span) == nil)
        }
    }

    @Test func aFullBrokerRefusesTasksUntilThereIsRoom() throws {
        try withBroker(maximumTasks: 3) { broker in
            for number in 1...3 { try broker.add(UInt64(number), to: "a") }
            #expect(throws: BrokerError.tooManyTasks) { try broker.add(4, to: "a") }
            #expect(try broker.peek("a") == [1, 2, 3])
            _ = try broker.take("a")
            #expect(broker.ack(1) == true)
            try broker.add(5, to: "a")
            #expect(try broker.peek("a") == [2, 3, 5])
        }
    }

    @Test func aContentMayBeEmpty() throws {
        try withBroker { broker in
            try broker.enqueue(
                id: UID(high: 1, low: 1), in: broker.queue("a"), content: Span(), leaseMilliseconds: 1,
                expiry: .after(milliseconds: 9),
                now: 0)
            #expect(try broker.take("a")?.first?.content == "")
        }
    }

    @Test func countsMatchTheTasks() throws {
        try withBroker { broker in
            for number in 1...3 { try broker.add(UInt64(number), to: "a") }
            _ = try broker.take("a")
            _ = try broker.startWait("b", deadline: 10)
            #expect(broker.counts == Broker.Counts(tasks: 3, ready: 2, dispatched: 1, waiters: 1, queues: 2))
        }
    }

    /// Queues that are found again and again are found in another way than those that are not.
    @Test func aForgottenQueueIsNotFoundUnderItsName() throws {
        try withBroker { broker in
            for number in 0..<9 { _ = try broker.queue(named: Array("first \(number % 3)".utf8).span) }
            // There is no place for those that were unused for the longest time any more.
            for number in 0..<10_000 { _ = try broker.queue(named: Array("other \(number)".utf8).span) }
            broker.checkInvariants()
            #expect(broker.existingQueue(named: Array("first 1".utf8).span) == nil)
            try broker.add(1, to: "first 1")
            #expect(try broker.take("first 1")?.map(\.number) == [1])
            broker.checkInvariants()
        }
    }
}
