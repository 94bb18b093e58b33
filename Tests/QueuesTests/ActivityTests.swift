// What has happened to all tasks, and walks through all queues.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct ActivityTests {
    @Test func totalsAreThoseOfAllQueuesAndOutliveThem() throws {
        try withSendingBroker { broker in
            try broker.add(1, to: "a")
            try broker.add(2, to: "b")
            try broker.addSent(3, to: "b")
            _ = try broker.take("a", "b")
            #expect(broker.ack(1) == true)
            #expect(broker.nak(2, .dead) == .dead)
            #expect(broker.cancelTask(3) == true)
            let expected = Totals(broker)
            #expect(expected.totals.enqueued == 3)
            #expect(broker.totals == expected.totals)
            try broker.purge(broker.queue("b"), states: [.dead], now: 0) { _ in }
            broker.advanceFully(to: 0)
            broker.advanceFully(to: TaskStore.idleMilliseconds)
            #expect(broker.existingQueue(named: Array("a".utf8).span) == nil)
            #expect(broker.totals == expected.totals)
        }
    }

    @Test func sendsAreCountedApart() throws {
        try withSendingBroker { broker in
            for number in 1...4 as ClosedRange<UInt64> { try broker.addSent(number, to: "a") }
            try broker.add(5, to: "a")
            _ = try broker.take("a")
            #expect(broker.nak(5) == true)
            let (first, second) = (try broker.sendOne("a"), try broker.sendOne("a"))
            #expect(broker.finish(first) == true)
            #expect(broker.fail(second, .dead) == .dead)
            // A release is no failure, and a lease that runs out is none of push.
            let third = try broker.sendOne("a")
            #expect(broker.fail(third, .release) == .requeued)
            _ = try broker.sendOne("a", lease: 10)
            broker.advanceFully(to: 10)
            #expect(broker.activity.sends == 4)
            #expect(broker.activity.failedSends == 1)
            #expect(broker.totals.dispatched == 5)
            #expect(broker.totals.nacked == 2)
            #expect(broker.totals.timedOut == 1)
            #expect(broker.totals.released == 1)
        }
    }

    @Test func timesAreMeasuredFromReadyToDispatchedToDone() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", due: 100) { _ in }
            broker.advanceFully(to: 100)
            _ = try broker.take("a", now: 350)
            #expect(broker.nak(1, now: 400) == true)
            _ = try broker.take("a", now: 410)
            #expect(broker.ack(1, now: 450) == true)
            #expect(broker.activity.readyMilliseconds.count == 2)
            #expect(broker.activity.readyMilliseconds.sum == 250 + 10)
            #expect(broker.activity.dispatchedMilliseconds.count == 1)
            #expect(broker.activity.dispatchedMilliseconds.sum == 40)
        }
    }

    @Test func pausedAndUsedQueuesAreCounted() throws {
        try withBroker { broker in
            try broker.setDefaults(QueueConfiguration())
            try broker.add(1, to: "a")
            let (paused, other) = (try broker.queue("b"), try broker.queue("c"))
            broker.pause(paused, now: 0)
            broker.pause(paused, now: 0)
            broker.resume(other)
            #expect(broker.pausedQueueCount == 1)
            #expect(broker.usedQueueCount == 2)
            broker.resume(paused)
            broker.resume(paused)
            #expect(broker.pausedQueueCount == 0)
            #expect(broker.usedQueueCount == 1)
        }
    }

    @Test func pausesCountAfterARestart() throws {
        try restarting { broker in
            broker.pause(try broker.queue("a"), now: 7)
            broker.pause(try broker.queue("a"), now: 8)
        } after: { broker, _ in
            #expect(broker.pausedQueueCount == 1)
            #expect(try broker.statistics("a").pausedSince == 7)
            broker.resume(try broker.queue("a"))
            #expect(broker.pausedQueueCount == 0)
            #expect(try broker.statistics("a").pausedSince == nil)
        }
    }

    /// A restored queue may be paused by one image, and by the next one since another time.
    @Test func theLastPauseCountsAfterARestart() throws {
        nonisolated(unsafe) var frames: [(UInt64, [UInt8])] = []
        try withBroker { broker in
            broker.beginRestoring()
            while !broker.finishRestoring(nextSequence: 1, now: 0, graceMilliseconds: 0) {}
            for (time, isOver) in [(Int64(7), true), (9, false)] {
                broker.pause(try broker.queue("a"), now: time)
                broker.writeChanges { frames.append(($1, Array(copying: $0))) }
                if isOver { broker.resume(try broker.queue("a")) }
            }
        }
        try withBroker { broker in
            broker.beginRestoring()
            for (sequence, bytes) in frames { try broker.restore(bytes.span, sequence: sequence) }
            while !broker.finishRestoring(nextSequence: 3, now: 10, graceMilliseconds: 0) {}
            #expect(try broker.statistics("a").pausedSince == 9)
            #expect(broker.pausedQueueCount == 1)
            broker.checkInvariants()
        }
    }

    @Test(arguments: [1, 7, 512, 5000])
    func aWalkMeetsEachQueueThatStaysOnce(limit: Int) throws {
        try withBroker(maximumTasks: 10_000) { broker in
            let names = (0..<2000).map { "stays \($0)" }
            try broker.setDefaults(QueueConfiguration())
            for (number, name) in names.enumerated() {
                try broker.add(UInt64(number + 1), to: name, expires: 1 << 40, now: Int64(number))
                _ = try broker.queue("goes \(number)")
            }
            var walk = QueueWalk()
            var met: [String: Int] = [:]
            var turns = 0
            while !broker.continueWalk(
                &walk, limit: limit,
                { _, name, statistics in
                    met[text(name), default: 0] += 1
                    guard text(name).hasPrefix("stays") else { return }
                    #expect(statistics.ready == 1)
                    #expect(statistics.oldestReady.map { "stays \($0)" } == text(name))
                })
            {
                turns += 1
                // Idle queues go, and others come in their places.
                if turns == 1 { broker.advanceFully(to: TaskStore.idleMilliseconds) }
                if turns % 100 == 2 { _ = try broker.queue("comes \(turns)") }
            }
            #expect(names.allSatisfy { met[$0] == 1 })
            #expect(met.values.allSatisfy { $0 == 1 })
        }
    }
}

/// The sum of the totals of all queues.
private struct Totals {
    var totals = QueueStatistics.Totals()

    init(_ broker: isolated Broker) {
        broker.forEachQueue { _, _, statistics in
            totals.enqueued += statistics.totals.enqueued
            totals.received += statistics.totals.received
            totals.notices += statistics.totals.notices
            totals.dispatched += statistics.totals.dispatched
            totals.acked += statistics.totals.acked
            totals.nacked += statistics.totals.nacked
            totals.timedOut += statistics.totals.timedOut
            totals.released += statistics.totals.released
            totals.expired += statistics.totals.expired
            totals.died += statistics.totals.died
            totals.cancelled += statistics.totals.cancelled
            totals.overLength += statistics.totals.overLength
        }
    }
}
