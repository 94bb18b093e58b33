// Single tasks: their results and records; moving, releasing and cancelling them.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct SingleTaskTests {
    private func id(_ number: UInt64) -> UID { UID(high: number, low: number) }

    private func result(_ number: UInt64, _ broker: isolated Broker, now: Int64 = 0) -> [UInt8]? {
        broker.withTask(id: id(number), now: now) { $0.result }
    }

    private func waitForResult(
        _ number: UInt64, deadline: Int64 = 10_000, on broker: isolated Broker, _ ends: Ends
    ) -> Waiter? {
        broker.waitForResult(of: id(number), deadline: deadline, now: 0) { state, result in
            ends.states.append(state)
            ends.results.append(Array(copying: result))
        }
    }

    // MARK: Results

    @Test func aResultIsKeptAsLongAsTheRecord() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { $0.keepMilliseconds = 100 }
            _ = try broker.take("a", now: 10)
            #expect(broker.ack(TaskReference(id: id(1)), result: [4, 2].span, now: 20) == true)
            #expect(broker.state(1, now: 119) == .done)
            #expect(result(1, broker, now: 119) == [4, 2])
            #expect(result(1, broker, now: 120) == nil)
            broker.withTask(id: id(1), now: 20) { task in
                #expect(task.finished == 20 && task.dispatched == 10 && task.expires == nil && task.leaseEnd == nil)
            }
            #expect(broker.names == [])
            #expect(try broker.peek("a", .done, now: 119) == [1])
            #expect(broker.replaceResult(of: id(1), now: 119) == true)
            #expect(broker.replaceResult(of: id(1), now: 119) == false)
            #expect(broker.state(1, now: 119) == .done)
            broker.advanceFully(to: 120)
            #expect(broker.counts.tasks == 0 && broker.memoryBytes == 0)
        }
    }

    @Test func aQueueCanKeepRecordsOfTasksThatDoNotSetIt() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.keepMilliseconds = 100 }
            for number in 1...2 { try broker.add(UInt64(number), to: "a", expires: 50) }
            try broker.add(3, to: "a") { $0.keepMilliseconds = 0 }
            #expect(broker.cancelTask(1) == true && broker.cancelTask(3) == true)
            #expect(broker.state(1) == .cancelled && broker.state(3) == nil)
            #expect(broker.state(2, now: 50) == .expired)
            broker.advanceFully(to: 50)
            #expect(try broker.peek("a", .expired, now: 50) == [2])
            #expect(broker.deleteRecord(id(2), now: 50) == true)
            #expect(broker.deleteRecord(id(2), now: 50) == false)
            #expect(broker.state(1, now: 99) == .cancelled && broker.state(1, now: 100) == nil)
        }
    }

    @Test func aWaiterForAResultGetsItEvenIfNothingIsKept() throws {
        try withBroker { broker in
            let ends = Ends()
            for number in 1...5 { try broker.add(UInt64(number), to: "a", expires: number == 4 ? 100 : 1000) }
            for number in 1...5 { #expect(waitForResult(UInt64(number), on: broker, ends) != nil) }
            broker.checkInvariants()
            _ = try broker.takeAny("a", limit: 2)
            #expect(broker.ack(TaskReference(id: id(1)), result: [9].span, now: 0) == true)
            #expect(broker.nak(2, .dead) == .dead)
            #expect(broker.cancelTask(3) == true)
            broker.advanceFully(to: 100)
            #expect(try broker.sweep(now: 100) { try $0.purge($0.queue("a"), now: 100, completion: $1) } == [1])
            #expect(ends.states == [.done, .dead, .cancelled, .expired, .cancelled])
            #expect(ends.results == [[9], [], [], [], []])
            #expect(waitForResult(2, on: broker, ends) == nil && waitForResult(1, on: broker, ends) == nil)
            #expect(broker.counts.waiters == 0)
        }
    }

    @Test func aWaitForAResultEndsAtItsDeadlineOrWhenItIsCancelled() throws {
        try withBroker { broker in
            let (ends, cancelled) = (Ends(), Ends())
            try broker.add(1, to: "a", due: 70) { _ in }
            _ = waitForResult(1, deadline: 50, on: broker, ends)
            let wait = waitForResult(1, on: broker, cancelled)
            let waiter = try #require(wait)
            _ = waitForResult(1, deadline: 80, on: broker, ends)
            broker.cancel(waiter)
            broker.checkInvariants()
            #expect(try broker.deadline() <= 50)
            broker.advanceFully(to: 80)
            #expect(ends.states == [.delayed, .ready] && cancelled.states == [])
            #expect(broker.cancelTask(1, now: 80) == true)
            #expect(ends.states.count == 2)
        }
    }

    @Test func aCancelledTaskIsMissingToItsWorker() throws {
        try withBroker { broker in
            try broker.add(1, to: "a")
            _ = try broker.take("a")
            #expect(broker.cancelTask(1) == true)
            #expect(broker.cancelTask(1) == false)
            #expect(broker.ack(1) == false && broker.nak(1, .failed) == .missing)
            #expect(try broker.statistics("a").totals.cancelled == 1)
        }
    }

    // MARK: Single tasks

    @Test func aTaskMovesToTheBackOfAnotherQueue() throws {
        try withBroker { broker in
            for number: UInt64 in 1...6 { try broker.add(number, to: "a", due: number == 2 ? 100 : nil) { _ in } }
            try broker.add(7, to: "b", due: 100) { $0.keepMilliseconds = 50 }
            _ = try broker.takeAny("a", limit: 2)
            #expect(broker.nak(1, .dead) == .dead)
            for number: UInt64 in [6, 4, 2, 1] { #expect(try broker.move(number, to: "b") == true) }
            #expect(try broker.peek("a") == [5])
            #expect(try broker.peek("b") == [6, 4] && broker.peek("b", .dead) == [1])
            #expect(try broker.peek("b", .delayed) == [7, 2])
            // A task that is held, has ended, or is in the queue already stays. Another id names no task.
            #expect(broker.cancelTask(7) == true)
            for (number, name) in [(3, "b"), (7, "a"), (5, "a"), (9, "a")] as [(UInt64, String)] {
                #expect(try broker.move(number, to: name) == false)
            }
            #expect(try broker.peek("a", .dispatched) == [3] && broker.peek("b", .cancelled) == [7])
            broker.advanceFully(to: 100)
            #expect(try broker.peek("b", now: 100) == [6, 4, 2])
            #expect(broker.kick(1, now: 100) == true)
            #expect(try broker.takeAny("b", limit: 9, now: 100) == [6, 4, 2, 1])
        }
    }

    @Test func aMovedTaskKeepsItsExpiry() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", expiry: .after(milliseconds: 100)) { _ in }
            try broker.configure("b") { $0.expiry = .after(milliseconds: 5) }
            #expect(try broker.move(1, to: "b", now: 50) == true)
            #expect(try broker.move(1, to: "a", now: 100) == false)
            broker.advanceFully(to: 100)
            #expect(broker.counts.tasks == 0)
            #expect(try broker.statistics("b").totals.expired == 1)
        }
    }

    @Test func aWaiterGetsATaskThatIsMovedToItsQueue() throws {
        try withBroker { broker in
            let outcomes = (0..<3).map { _ in Outcome() }
            _ = try broker.startWait("b", "c", noting: outcomes[0])
            _ = try broker.startWait("b", noting: outcomes[1])
            try broker.add(1, to: "a", due: 50) { _ in }
            for number: UInt64 in 2...3 { try broker.add(number, to: "a") }
            #expect(try broker.move(1, to: "b") == true)
            #expect(outcomes.map(\.calls) == [[], [], []])
            #expect(try broker.move(2, to: "b") == true)
            #expect(outcomes.map(\.calls) == [[], [[2]], []])
            try broker.add(4, to: "c")
            broker.pause(try broker.queue("b"), now: 0)
            #expect(try broker.move(3, to: "b") == true)
            #expect(outcomes.map(\.calls) == [[], [[2]], []])
            broker.resume(try broker.queue("b"))
            broker.advanceFully(to: 0)
            #expect(outcomes.map(\.calls) == [[[3, 4]], [[2]], []])
        }
    }

    /// The sweep processes neither the tasks that moved away nor those that moved in.
    @Test(arguments: ["purge", "kick", "move"]) func movingATaskTakesItOutOfASweep(how: String) throws {
        try withBroker { broker in
            for number: UInt64 in 1...5 {
                try broker.add(number, to: "a", due: 100) { _ in }
                try broker.add(10 + number, to: "b", due: 100) { _ in }
            }
            let (a, b, c) = (try broker.queue("a"), try broker.queue("b"), try broker.queue("c"))
            let counts = try broker.sweep(now: 1, limit: 1) { broker, completion in
                switch how {
                case "purge": try broker.purge(a, now: 1, completion: completion)
                case "kick": try broker.kick(a, state: .delayed, now: 1, completion: completion)
                default: try broker.move(a, to: c, state: .delayed, now: 1, completion: completion)
                }
                // The first, the last, and one in between; and one that leaves and returns.
                for number: UInt64 in [1, 3, 5] { #expect(try broker.move(number, to: "b", now: 1) == true) }
                #expect(try broker.move(4, to: "b", now: 1) && broker.move(4, to: "a", now: 1))
                #expect(try broker.move(11, to: "a", now: 1) == true)
                // Not even if they change their state there.
                #expect(broker.kick(4, now: 1) && broker.kick(11, now: 1))
            }
            #expect(counts == [1])
            #expect(try broker.peek("a", now: 1) == [4, 11] + (how == "kick" ? [2] : []))
            #expect(try broker.peek("b", .delayed, now: 1) == [12, 13, 14, 15, 1, 3, 5])
            let state = broker.state(2, now: 1)
            #expect(state == (how == "purge" ? nil : how == "kick" ? .ready : .delayed))
            #expect(broker.statistics(of: b).totals.cancelled == 0)
        }
    }

    @Test func aTaskWithALifetimeOfZeroIsNeverDispatched() throws {
        try withBroker { broker in
            let outcomes = (0..<2).map { _ in Outcome() }
            _ = try broker.startWait("a", noting: outcomes[0])
            _ = try broker.startWaitAny("a", "b", deadline: 500, noting: outcomes[1])
            for (number, name) in [(1, "a"), (2, "b")] as [(UInt64, String)] {
                try broker.add(number, to: name, due: 100, expiry: .after(milliseconds: 0)) { $0.keepMilliseconds = 50 }
            }
            broker.advanceFully(to: 99)
            #expect(broker.state(1, now: 99) == .delayed && broker.state(2, now: 99) == .delayed)
            // Also before its timer has fired.
            #expect(broker.state(1, now: 100) == .expired)
            #expect(try broker.takeAny("b", "a", limit: 9, now: 100) == [])
            broker.advanceFully(to: 100)
            #expect(broker.state(1, now: 100) == .expired && broker.state(2, now: 149) == .expired)
            #expect(outcomes.map(\.calls) == [[], []])
            #expect(try broker.statistics("a").totals.dispatched == 0)
            #expect(try broker.statistics("a").totals.expired == 1)
            broker.advanceFully(to: 150)
            #expect(broker.counts.tasks == 0)
        }
    }

    @Test func aTaskWithALifetimeOfZeroDiesIfItsQueueSaysSo() throws {
        try withBroker { broker in
            try broker.configure("a") { ($0.isExpiryDeath, $0.deadLetter) = (true, Array("b".utf8)) }
            try broker.add(1, to: "a", due: 100, expiry: .after(milliseconds: 0)) { _ in }
            broker.advanceFully(to: 99)
            #expect(try broker.peek("b", now: 99) == [])
            broker.advanceFully(to: 100)
            #expect(try broker.takeAny("a", "b", limit: 9, now: 100) == [1])
            #expect(try broker.statistics("a").totals.dispatched == 0)
        }
    }

    @Test func aReleaseCanPause() throws {
        try withBroker { broker in
            for number: UInt64 in 1...3 {
                try broker.add(number, to: "a", expiry: .after(milliseconds: 250)) { $0.retryLimit = .limited(0) }
            }
            _ = try broker.takeAny("a", limit: 2)
            #expect(broker.nak(1, .releasePausing(milliseconds: 100), error: "later") == .requeued)
            #expect(broker.nak(2, .releasePausing(milliseconds: 0)) == .requeued)
            #expect(try broker.peek("a") == [2, 3] && broker.peek("a", .delayed) == [1])
            #expect(try broker.statistics("a").totals.released == 2)
            #expect(try broker.statistics("a").totals.nacked == 0)
            let outcome = Outcome()
            _ = try broker.takeAny("a", limit: 2)
            _ = try broker.startWait("a", noting: outcome)
            broker.advanceFully(to: 99)
            #expect(outcome.calls == [])
            broker.advanceFully(to: 100)
            #expect(outcome.calls == [[1]])
            let seen = broker.withTask(id: id(1), now: 100) { ($0.retries, text($0.error.span), $0.retryLimit) }
            #expect(seen.map { $0.0 == 0 && $0.1 == "later" && $0.2 == 0 } == true)
            // It still expires.
            #expect(broker.nak(1, .releasePausing(milliseconds: .max), now: 200) == .requeued)
            broker.advanceFully(to: 250)
            #expect(broker.state(1, now: 250) == nil)
            #expect(broker.nak(1, .releasePausing(milliseconds: 1), now: 250) == .missing)
        }
    }

    @Test func aDeadTaskIsCancelledOnRequest() throws {
        try withBroker { broker in
            for number: UInt64 in [1, 2] {
                try broker.add(number, to: "a") { ($0.key, $0.keepMilliseconds) = ([7], number == 1 ? 100 : 0) }
                _ = try broker.take("a")
                #expect(broker.nak(number, .dead) == .dead)
            }
            // Another task may have its key by now.
            try broker.add(3, to: "a") { $0.key = [7] }
            #expect(broker.cancelTask(1, now: 10) == false)
            #expect(broker.cancelTask(id(1), includingDead: true, now: 10) == true)
            #expect(broker.cancelTask(id(1), includingDead: true, now: 10) == false)
            #expect(broker.cancelTask(id(2), includingDead: true, now: 10) == true)
            #expect(broker.state(1, now: 109) == .cancelled && broker.state(2, now: 10) == nil)
            #expect(broker.kick(1, now: 10) == false)
            #expect(broker.task(withKey: [7], in: try broker.queue("a"), now: 10) == id(3))
            #expect(try broker.statistics("a").totals.cancelled == 2 && broker.statistics("a").dead == 0)
            broker.checkInvariants()
            broker.advanceFully(to: 110)
            #expect(broker.state(1, now: 110) == nil && broker.state(3, now: 110) == .ready)
        }
    }

    @Test func aResultCanBeReplaced() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") { $0.keepMilliseconds = 100 }
            #expect(broker.replaceResult(of: id(1), with: [1].span, now: 0) == false)
            _ = try broker.take("a")
            #expect(broker.ack(TaskReference(id: id(1)), result: [1, 2, 3].span, now: 0) == true)
            let small = broker.memoryBytes
            let large = [UInt8](repeating: 5, count: 5000)
            #expect(broker.replaceResult(of: id(1), with: large.span, now: 99) == true)
            #expect(result(1, broker, now: 99) == large && broker.memoryBytes >= small + 4900)
            #expect(broker.replaceResult(of: id(1), with: [4].span, now: 99) == true)
            #expect(result(1, broker, now: 99) == [4] && broker.memoryBytes <= small)
            #expect(broker.replaceResult(of: id(1), with: [5].span, now: 100) == false)
            #expect(broker.replaceResult(of: id(1), now: 99) == true)
            #expect(broker.replaceResult(of: id(1), now: 99) == false)
            #expect(broker.replaceResult(of: id(1), with: [6].span, now: 99) == true)
            #expect(result(1, broker, now: 99) == [6])
            #expect(broker.replaceResult(of: id(2), with: [6].span, now: 99) == false)
        }
    }

    @Test func aResultCanBeReplacedForAsLongAsItIsShown() throws {
        try withBroker { broker in
            broker.beginSending()
            for (number, keep) in [(1, 100), (2, 0)] as [(UInt64, Int64)] {
                try broker.add(number, to: "a", expiry: .after(milliseconds: 50)) {
                    ($0.request, $0.keepMilliseconds) = ([7], keep)
                }
                let waiter = broker.waitForResult(of: id(number), deadline: 20, now: 0) { _, _ in }
                #expect(waiter != nil)
                let queue = try broker.queue("a")
                guard case .task(let key) = broker.send(from: queue, now: 0, leaseMilliseconds: { _ in 1000 }) else {
                    Issue.record("nothing to send")
                    return
                }
                broker.failSending(
                    key, .failedPausing(milliseconds: 30), error: Span(), result: [1].span, now: 0)
            }
            // Whether or not the timers have fired.
            for (now, isShown) in [(10, [true, true]), (30, [true, true]), (50, [true, false])] as [(Int64, [Bool])] {
                for (index, isShown) in isShown.enumerated() {
                    let number = UInt64(index + 1)
                    #expect((result(number, broker, now: now) != nil) == isShown)
                    #expect(broker.replaceResult(of: id(number), with: [9].span, now: now) == isShown)
                }
            }
        }
    }

    @Test func aTaskShowsItsOwnRetryLimit() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.maximumRetries = 5 }
            let limits: [RetryLimit] = [.unsaid, .unlimited, .limited(0), .limited(.max)]
            for (index, limit) in limits.enumerated() {
                try broker.add(UInt64(index + 1), to: "a") { $0.retryLimit = limit }
            }
            try broker.add(5, to: "a")
            let shown = (1...5).map { number in broker.withTask(id: id(UInt64(number)), now: 0) { $0.retryLimit } }
            #expect(shown == [.some(nil), .some(nil), 0, Int(UInt32.max), .some(nil)])
        }
    }

    // MARK: Many

    @Test func manyWaitersForOneTaskAreCompletedInSlices() throws {
        try withBroker { broker in
            try broker.add(1, to: "a")
            _ = try broker.take("a")
            var ends: [Ends] = []
            var waits: [Waiter] = []
            for _ in 0..<1000 {
                ends.append(Ends())
                let wait = waitForResult(1, deadline: 5, on: broker, ends[ends.count - 1])
                waits.append(try #require(wait))
            }
            #expect(broker.ack(1) == true)
            let isTold = { (end: Ends) in !end.states.isEmpty }
            let atOnce = ends.count(where: isTold)
            #expect(atOnce > 0 && atOnce < 500)
            let gone = try #require(ends.firstIndex { !isTold($0) })
            broker.cancel(waits[gone])
            // The deadlines change nothing, because the task has ended.
            var slices = 0
            while !broker.advance(to: 10) { slices += 1 }
            #expect(slices > 0)
            #expect(ends[gone].states.isEmpty)
            #expect(ends.indices.allSatisfy { $0 == gone || ends[$0].states == [.done] })
            #expect(broker.counts.waiters == 0 && broker.memoryBytes == 0)
        }
    }
}
