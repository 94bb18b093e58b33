// Keys that outlive their tasks, and what counts towards a queue's maximum length.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct KeptKeyTests {
    private func id(_ number: UInt64) -> UID { UID(high: number, low: number) }

    private func holder(_ key: [UInt8], on broker: isolated Broker, now: Int64 = 0) throws -> KeyHolder? {
        broker.keyHolder(of: key, in: try broker.queue("a"), now: now)
    }

    private func free(_ key: [UInt8], on broker: isolated Broker, now: Int64 = 0) throws -> Bool {
        broker.freeKey(key, in: try broker.queue("a"), now: now)
    }

    @Test func aKeptKeyIsShownCountedAndFreed() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", now: 5) {
                $0.key = [7]
                $0.uniqueForMilliseconds = 100
            }
            let whileReady = KeyHolder(task: id(1), isUnfinished: true, since: 5, until: 105)
            #expect(try holder([7], on: broker, now: 5) == whileReady)
            #expect(try free([7], on: broker, now: 5) == false)
            #expect(try broker.statistics("a").keptKeys == 0)
            _ = try broker.take("a", now: 5)
            #expect(broker.ack(1, now: 10) == true)

            #expect(broker.state(1, now: 10) == nil)
            #expect(try broker.statistics("a").keptKeys == 1)
            let kept = KeyHolder(task: id(1), isUnfinished: false, since: 5, until: 105)
            #expect(try holder([7], on: broker, now: 10) == kept)
            #expect(try holder([8], on: broker, now: 10) == nil)
            #expect(try broker.add(2, to: "a", now: 10) { $0.key = [7] }.isExisting == true)

            #expect(try free([7], on: broker, now: 10) == true)
            #expect(try free([7], on: broker, now: 10) == false)
            #expect(try broker.statistics("a").keptKeys == 0)
            #expect(try holder([7], on: broker, now: 10) == nil)
            #expect(broker.counts.tasks == 0)
            #expect(try broker.add(3, to: "a", now: 10) { $0.key = [7] }.isExisting == false)
        }
    }

    @Test func aKeyCanBeTakenAtItsEndBeforeItsTimerFires() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") {
                $0.key = [7]
                $0.uniqueForMilliseconds = 100
            }
            _ = try broker.take("a")
            #expect(broker.ack(1) == true)
            #expect(try broker.add(2, to: "a", now: 100) { $0.key = [7] }.isExisting == false)
            // Nothing is left of the first task.
            #expect(broker.counts.tasks == 1)
            broker.checkInvariants()
        }
    }

    @Test func aKeyIsKeptUntilItsTimeAndNoLonger() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") {
                $0.key = [7]
                $0.uniqueForMilliseconds = 100
                $0.keepMilliseconds = 1000
            }
            _ = try broker.take("a")
            #expect(broker.ack(1) == true)
            broker.advanceFully(to: 99)
            #expect(try holder([7], on: broker, now: 99)?.isUnfinished == false)
            broker.advanceFully(to: 100)
            #expect(try holder([7], on: broker, now: 100) == nil)
            #expect(try free([7], on: broker, now: 100) == false)
            // Its record is deleted later.
            #expect(broker.state(1, now: 100) == .done)
        }
    }

    @Test func freeingAKeyKeepsTheRecordOfItsTask() throws {
        try withBroker { broker in
            try broker.add(1, to: "a") {
                $0.key = [7]
                $0.uniqueForMilliseconds = 1000
            }
            _ = try broker.take("a")
            #expect(broker.nak(1, .dead) == .dead)
            #expect(try free([7], on: broker) == true)
            #expect(broker.state(1) == .dead)
            #expect(try broker.add(2, to: "a") { $0.key = [7] }.isExisting == false)
            #expect(broker.kick(1) == false)
            #expect(broker.cancelTask(2) == true)
            // After a kick, the task holds the key for as long as it is unfinished, and no longer.
            #expect(broker.kick(1) == true)
            #expect(try holder([7], on: broker)?.isUnfinished == true)
            _ = try broker.take("a")
            #expect(broker.ack(1) == true)
            #expect(try holder([7], on: broker) == nil)
        }
    }

    @Test func aFreedKeyStaysFreeAfterARestart() throws {
        try withLives(3) { broker, life in
            if life == 0 {
                for (number, key) in [(1, 7), (2, 8)] as [(UInt64, UInt8)] {
                    try broker.add(number, to: "a") {
                        $0.key = [key]
                        $0.uniqueForMilliseconds = 1000
                    }
                    _ = try broker.take("a")
                    #expect(broker.ack(number) == true)
                }
            } else if life == 1 {
                #expect(try broker.statistics("a").keptKeys == 2)
                #expect(try free([7], on: broker) == true)
            } else {
                #expect(try broker.statistics("a").keptKeys == 1)
                #expect(try holder([7], on: broker) == nil && holder([8], on: broker)?.isUnfinished == false)
            }
        }
    }

    // MARK: Lengths

    /// Adds tasks with keys in one batch, numbered from 10; 0 stands for no key.
    private func addBatch(
        _ keys: [UInt8], conflict: KeyConflict = .keep, on broker: isolated Broker
    ) throws -> [Bool] {
        let batch = keys.enumerated().map { index, key in
            let options = TaskOptions()
            options.key = key == 0 ? [] : [key]
            options.onConflict = conflict
            return NewTask(id: id(UInt64(index + 10)), content: 0..<1, options: options)
        }
        var results: [Enqueued] = []
        try broker.enqueue(batch, contents: [48].span, in: broker.queue("a"), now: 0, into: &results)
        return results.map(\.isExisting)
    }

    @Test func onlyTasksThatWouldBeAddedCountTowardsTheLength() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.maximumLength = 2 }
            // The second task with a key finds the first.
            #expect(try addBatch([1, 1, 2, 1], on: broker) == [false, true, false, true])
            #expect(try addBatch([1, 2, 1], on: broker) == [true, true, true])
            #expect(try addBatch([1, 2, 1], conflict: .replace, on: broker) == [true, true, true])
            #expect(throws: BatchError(index: 2, reason: .queueFull)) { try addBatch([1, 2, 3], on: broker) }
            #expect(throws: BatchError(index: 1, reason: .queueFull)) {
                try addBatch([1, 3, 2, 4], on: broker)
            }
            // These would not fit into the empty queue either.
            #expect(throws: BatchError(index: 1, reason: .batchTooLong)) {
                try addBatch([1, 3, 2, 4, 0], on: broker)
            }
            #expect(try broker.peek("a").count == 2)
        }
    }

    @Test func tasksBeyondTheMaximumLengthAreCounted() throws {
        try withBroker { broker in
            try broker.configure("a") {
                $0.maximumLength = 1
                $0.maximumRetries = 0
            }
            try broker.configure("died") {
                $0.maximumRetries = 0
                $0.deadLetter = Array("a".utf8)
            }
            try broker.add(1, to: "a")
            _ = try broker.take("a")
            #expect(broker.nak(1, .failed) == .dead)
            #expect(broker.kick(1) == true)
            #expect(try broker.statistics("a").totals.overLength == 0)

            try broker.add(2, to: "b")
            #expect(try broker.move(2, to: "a") == true)
            try broker.add(3, to: "died")
            _ = try broker.take("died")
            #expect(broker.nak(3, .failed) == .dead)
            #expect(try broker.statistics("a").totals.overLength == 2)
            _ = try broker.take("a")
            #expect(broker.nak(1, .failed) == .dead)
            #expect(broker.kick(1) == true)
            #expect(try broker.statistics("a").totals.overLength == 3)
            // A task that stays in its queue adds nothing to it.
            _ = try broker.take("a")
            #expect(broker.nak(2, .releasePausing(milliseconds: 10)) == .requeued)
            #expect(broker.kick(2) == true)
            #expect(try broker.statistics("a").totals.overLength == 3)
            #expect(try broker.statistics("a").ready == 3)
        }
    }
}
