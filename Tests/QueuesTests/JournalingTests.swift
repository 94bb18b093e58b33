// What tasks keep across a restart: leases, expiries, keys, and purges in progress.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct JournalingTests {
    private static let second: Int64 = 1000

    private func add(
        _ number: UInt64, to queue: String, lease: Int64? = nil, expiry: Expiry = .unsaid,
        options: TaskOptions? = nil, now: Int64 = 1_000_000, on broker: isolated Broker
    ) throws {
        let content = Array("\(number)".utf8)
        let task = NewTask(
            id: UID(high: number, low: number), content: 0..<content.count, leaseMilliseconds: lease, expiry: expiry,
            options: options)
        _ = try broker.enqueue(task, content: content.span, in: broker.queue(queue), now: now)
    }

    private func take(_ queue: String, now: Int64 = 1_000_000, on broker: isolated Broker) throws -> Shown? {
        var taken: [TaskHandle?] = []
        _ = try broker.takeAny([broker.queue(queue)], limit: 1, now: now, into: &taken)
        return taken.first.flatMap { $0 }.map { broker.show($0) }
    }

    private func shown(_ number: UInt64, now: Int64, on broker: isolated Broker) -> Shown? {
        broker.withTask(id: UID(high: number, low: number), now: now) { Shown($0) }
    }

    @Test func leasesLastAtLeastAsLongAsTheGrace() throws {
        try restarting(downMilliseconds: 10 * Self.second) { broker in
            try add(1, to: "a", lease: 25 * Self.second, on: broker)
            try add(2, to: "a", lease: 100 * Self.second, on: broker)
            for _ in 0..<2 { #expect(try take("a", on: broker) != nil) }
        } after: { broker, now in
            #expect(shown(1, now: now, on: broker)?.leaseEnd == now + 30 * Self.second)
            #expect(shown(2, now: now, on: broker)?.leaseEnd == now + 90 * Self.second)
            // Restarting the lease gives its own length, without the grace.
            let reference = TaskReference(id: UID(high: 1, low: 1), token: 1)
            #expect(broker.touch(reference, now: now + 1) == true)
            #expect(shown(1, now: now + 1, on: broker)?.leaseEnd == now + 1 + 25 * Self.second)
        }
    }

    @Test(arguments: [true, false]) func aLeaseThatRanOutWhileDownIsNotARetry(isDownForLong: Bool) throws {
        let options = TaskOptions()
        options.retryLimit = .limited(0)
        nonisolated(unsafe) let said = options
        try restarting(downMilliseconds: (isDownForLong ? 10 : 1) * Self.second) { broker in
            try add(1, to: "a", lease: 5 * Self.second, options: said, on: broker)
            let found1 = try take("a", on: broker)
            #expect(found1 != nil)
        } after: { broker, now in
            while !broker.advance(to: now + 31 * Self.second) {}
            let later = now + 31 * Self.second
            #expect(shown(1, now: later, on: broker)?.state == (isDownForLong ? .ready : .dead))
            guard isDownForLong else { return }
            #expect(broker.withTask(id: UID(high: 1, low: 1), now: later) { $0.retries } == 0)
            // The worker has lost the task. Now that the broker runs, the end of the next lease counts as a retry.
            let second = try take("a", now: later, on: broker)
            #expect(second?.attempt == 2)
            #expect(broker.ack(TaskReference(id: UID(high: 1, low: 1), token: 1), now: later) == false)
            while !broker.advance(to: later + 5 * Self.second) {}
            #expect(shown(1, now: later + 5 * Self.second, on: broker)?.state == .dead)
        }
    }

    @Test func aHeldTaskDoesNotExpireDuringTheGrace() throws {
        try restarting(downMilliseconds: 10 * Self.second) { broker in
            try add(1, to: "a", lease: 100 * Self.second, expiry: .after(milliseconds: 5 * Self.second), on: broker)
            let found2 = try take("a", on: broker)
            #expect(found2 != nil)
            try add(3, to: "a", lease: 100 * Self.second, expiry: .after(milliseconds: 5 * Self.second), on: broker)
            let found3 = try take("a", on: broker)
            #expect(found3?.token == 2)
            try add(2, to: "a", expiry: .after(milliseconds: 5 * Self.second), on: broker)
        } after: { broker, now in
            #expect(shown(1, now: now, on: broker)?.state == .dispatched)
            #expect(shown(2, now: now, on: broker) == nil)
            #expect(broker.ack(TaskReference(id: UID(high: 3, low: 3), token: 2), now: now) == true)
            #expect(shown(3, now: now, on: broker) == nil)
            while !broker.advance(to: now + 30 * Self.second) {}
            #expect(shown(1, now: now + 30 * Self.second, on: broker) == nil)
        }
    }

    @Test func oldReceiptsFitOnlyTheirOwnDispatch() throws {
        try restarting { broker in
            try add(1, to: "a", on: broker)
            let found3 = try take("a", on: broker)?.token
            #expect(found3 == 1)
        } after: { broker, now in
            let old = TaskReference(id: UID(high: 1, low: 1), token: 1)
            #expect(broker.touch(old, now: now) == true)
            #expect(broker.nak(old, now: now) == true)
            let found4 = try take("a", now: now, on: broker)?.token
            #expect(found4 == 1000)
            #expect(broker.ack(old, now: now) == false)
        }
    }

    @Test func aPurgeContinuesWithTheTasksThatWereThereWhenItBegan() throws {
        nonisolated(unsafe) var purged: Int?
        try restarting { broker in
            for number in 1...50 { try add(UInt64(number), to: "a", on: broker) }
            try broker.purge(broker.queue("a"), now: 1_000_000) { purged = $0.count }
            #expect(broker.advance(to: 1_000_000, limit: 10) == false)
            try add(51, to: "a", on: broker)
        } after: { broker, now in
            #expect(purged == nil)
            let found5 = try broker.peek("a", .ready, now: now)
            #expect(found5 == [51])
        }
    }

    @Test func aPurgeThatContinuesSparesMovedTasks() throws {
        try withLives(2) { broker, life in
            if life == 0 {
                for number: UInt64 in 1...6 { try broker.add(number, to: number == 6 ? "b" : "a") }
                try broker.purge(broker.queue("a"), now: 1) { _ in }
                #expect(broker.advance(to: 1, limit: 1) == false)
                // One task leaves, one leaves and returns, and one arrives.
                for (number, name) in [(3, "b"), (4, "b"), (4, "a"), (6, "a")] as [(UInt64, String)] {
                    #expect(try broker.move(number, to: name, now: 1) == true)
                }
            } else {
                broker.advanceFully(to: 1)
                #expect(try broker.peek("a", now: 1) == [4, 6] && broker.peek("b", now: 1) == [3])
                #expect(broker.counts.tasks == 3)
            }
        }
    }

    @Test func aMoveContinuesUpToItsLimit() throws {
        try restarting { broker in
            for number in 1...50 { try add(UInt64(number), to: "a", on: broker) }
            try broker.move(broker.queue("a"), to: broker.queue("b"), limit: 30, now: 1_000_000) { _ in }
            #expect(broker.advance(to: 1_000_000, limit: 10) == false)
        } after: { broker, now in
            let found6 = try broker.peek("b", .ready, now: now)
            #expect(found6 == Array(1...30))
            let found7 = try broker.peek("a", .ready, now: now)
            #expect(found7 == Array(31...50))
        }
    }

    /// The image of a move contains neither the content nor the task's options.
    @Test func movedTasksSurviveARestart() throws {
        try withLives(3) { broker, life in
            switch life {
            case 0:
                for number in 1...5 {
                    try broker.add(UInt64(number), to: "a", due: number == 4 ? 100 : nil) { options in
                        (options.key, options.metadata) = ([5, 0, UInt8(number)], [UInt8(number)])
                        let requestID = [65 + UInt8(number)]
                        options.trace = TraceContext(requestID: requestID.span, traceparent: Span())
                    }
                }
                _ = try broker.take("a")
                #expect(broker.nak(1, .dead) == .dead)
                #expect(broker.cancelTask(5) == true)
            case 1:
                #expect(try broker.keyGroup([5], of: "a") == [2, 3, 4])
                for number: UInt64 in [4, 3, 1] { #expect(try broker.move(number, to: "b") == true) }
            default:
                #expect(try broker.peek("a") == [2] && broker.keyGroup([5], of: "a") == [2])
                #expect(try broker.keyGroup([5], of: "b") == [3, 4])
                #expect(try broker.peek("b", .delayed) == [4] && broker.peek("b", .dead) == [1])
                let (key, queue): ([UInt8], QueueIndex) = ([5, 0, 3], try broker.queue("b"))
                #expect(broker.task(withKey: key, in: queue, now: 0) == UID(high: 3, low: 3))
                #expect(broker.withTask(id: UID(high: 3, low: 3), now: 0) { $0.metadata } == [3])
                #expect(broker.withTask(id: UID(high: 3, low: 3), now: 0) { $0.trace.requestID } == [68])
                #expect(try broker.take("b")?.first?.content == "3")
                broker.advanceFully(to: 100)
                #expect(try broker.take("b", now: 100)?.first?.content == "4")
            }
        }
    }

    @Test func thePauseOfAReleaseSurvivesARestart() throws {
        try withLives(2) { broker, life in
            if life == 0 {
                for number: UInt64 in 1...2 { try broker.add(number, to: "a") }
                _ = try broker.take("a")
                #expect(broker.nak(1, .releasePausing(milliseconds: 100)) == .requeued)
            } else {
                #expect(try broker.peek("a", .delayed) == [1])
                broker.advanceFully(to: 100)
                #expect(try broker.peek("a", now: 100) == [2, 1])
                #expect(broker.withTask(id: UID(high: 1, low: 1), now: 100) { $0.retries } == 0)
            }
        }
    }

    /// Nothing is written of a task that came and went in one turn, but the answers about it still wait for a frame.
    @Test func aTaskThatComesAndGoesInOneTurnIsNotWritten() throws {
        try withBroker { broker in
            broker.beginRestoring()
            while !broker.finishRestoring(nextSequence: 1, now: 0, graceMilliseconds: 0) {}
            try add(1, to: "a", now: 0, on: broker)
            let found8 = try take("a", now: 0, on: broker)
            #expect(found8 != nil)
            #expect(broker.ack(TaskReference(id: UID(high: 1, low: 1)), now: 0) == true)
            #expect(broker.changeSequence == 1)
            var sizes: [Int] = []
            broker.writeChanges { payload, _ in sizes.append(payload.count) }
            #expect(sizes == [1])
            broker.writeChanges { payload, _ in sizes.append(payload.count) }
            #expect(sizes == [1] && broker.changeSequence == 1)
        }
    }

    /// A take found that the task has expired, and removed it from its list. Its timer has not fired yet.
    @Test func writingATaskThatIsAboutToEndChangesNothing() throws {
        try withBroker { broker in
            broker.beginRestoring()
            while !broker.finishRestoring(nextSequence: 1, now: 0, graceMilliseconds: 0) {}
            try add(1, to: "a", expiry: .after(milliseconds: 10), now: 0, on: broker)
            try add(2, to: "a", now: 0, on: broker)
            let found = try take("a", now: 10, on: broker)
            #expect(found?.number == 2)
            broker.writeChanges { _, _ in }
            broker.checkInvariants()
            broker.advanceFully(to: 10)
            #expect(broker.counts.tasks == 1)
        }
    }

    /// Timers that ran out while the server was down fire in the order of their times, not of the enqueues.
    @Test func overdueTimersFireInTheOrderOfTheirTimes() throws {
        let second = Self.second
        try restarting(downMilliseconds: 10 * Self.second, graceMilliseconds: 0) { broker in
            let start: Int64 = 1_000_000
            var dying = QueueConfiguration()
            dying.isExpiryDeath = true
            try broker.configure(broker.queue("dying"), dying)
            for (number, seconds) in [(1, 3), (2, 2), (3, 9), (4, 1)] as [(UInt64, Int64)] {
                try broker.add(number, to: "delayed", due: start + seconds * second, now: start) { _ in }
                try add(10 + number, to: "dying", expiry: .after(milliseconds: seconds * second), on: broker)
                try broker.add(20 + number, to: "failed", now: start) { _ in }
                _ = try take("failed", on: broker)
                let pause = NakAction.failedPausing(milliseconds: seconds * second)
                #expect(broker.nak(20 + number, pause, now: start) == .requeued)
                try add(30 + number, to: "held", lease: seconds * second, on: broker)
                _ = try take("held", on: broker)
            }
        } after: { broker, now in
            let delayed = try broker.peek("delayed", now: now)
            #expect(delayed == [4, 2, 1, 3])
            let dying = try broker.peek("dying", .dead, now: now)
            #expect(dying == [14, 12, 11, 13])
            let failed = try broker.peek("failed", now: now)
            #expect(failed == [24, 22, 21, 23])
            let held = try broker.peek("held", now: now)
            #expect(held == [34, 32, 31, 33])
        }
    }

    /// Times that a fast clock has written can still be read.
    @Test func aClockThatWasSetBackDoesNoDamage() throws {
        nonisolated(unsafe) var frames: [[UInt8]] = []
        let starts: [Int64] = [10_000_000, 1_000_000, 1_000_500]
        for (life, now) in starts.enumerated() {
            let broker = Broker(executor: InlineExecutor(), firstToken: 1, now: now)
            try broker.assumeIsolated { broker in
                broker.beginRestoring()
                for (index, frame) in frames.enumerated() {
                    try broker.restore(frame.span, sequence: UInt64(index + 1))
                }
                let next = UInt64(frames.count + 1)
                while !broker.finishRestoring(nextSequence: next, now: now, graceMilliseconds: 1000) {}
                broker.checkInvariants()
                if life == 0 {
                    try add(1, to: "a", lease: 5 * Self.second, now: now, on: broker)
                    _ = try take("a", now: now, on: broker)
                }
                let isTouched = broker.touch(TaskReference(id: UID(high: 1, low: 1)), now: now)
                #expect(isTouched)
                broker.writeChanges { payload, _ in frames.append(Array(copying: payload)) }
            }
        }
    }
}
