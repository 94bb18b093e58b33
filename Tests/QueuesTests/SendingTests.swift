// Pushed tasks: which tasks the sender gets, and when.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct SendingTests {
    private func id(_ number: UInt64) -> UID { UID(high: number, low: number) }

    // MARK: Who gets what

    @Test func aTaskWithARequestNeverGoesToWorkers() throws {
        try withSendingBroker { broker in
            let outcome = Outcome()
            _ = try broker.startWaitAny("b", "a", deadline: 100, noting: outcome)
            _ = try broker.startWait("a", deadline: 100, noting: outcome)
            try broker.addSent(1, to: "a")
            #expect(try broker.take("a") == nil)
            #expect(try broker.takeAny("a", limit: 5) == [])
            #expect(try broker.takeAvailable("a") == [nil])
            #expect(outcome.calls == [])
            // Workers get the other tasks of the queue.
            try broker.add(2, to: "a")
            #expect(outcome.calls == [[2]])
            broker.advanceFully(to: 100)
            #expect(outcome.calls == [[2], [nil]])
            #expect(try broker.sendAll("a", now: 100) == [1])
        }
    }

    @Test func onlyTheSenderCanEndATaskThatIsBeingSent() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("p")
            try broker.addSent(1, to: "a")
            try broker.add(2, to: "p")
            for (number, name) in [(1, "a"), (2, "p")] as [(UInt64, String)] {
                let key = try broker.sendOne(name)
                let token = broker.show(TaskHandle(key: key)).token
                for token in [nil, token] {
                    #expect(broker.ack(number, token: token) == false)
                    #expect(broker.nak(number, token: token) == false)
                    #expect(broker.touch(TaskReference(id: id(number), token: token), now: 0) == false)
                }
                #expect(broker.finish(key) == true)
                #expect(broker.finish(key) == false)
                #expect(broker.fail(key) == .missing)
            }
            #expect(broker.counts.tasks == 0)
            #expect(broker.endedSends() == [])
            #expect(try broker.statistics("a").totals.acked == 1)
        }
    }

    @Test func theSenderCannotEndATaskThatAWorkerHolds() throws {
        try withSendingBroker { broker in
            try broker.add(1, to: "a")
            let key = try broker.takeKey("a")
            #expect(broker.finish(key) == false)
            #expect(broker.fail(key) == .missing)
            #expect(broker.ack(1) == true)
        }
    }

    @Test func theSenderSeesTheTaskAndSetsItsLease() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a") { $0.metadata = [5] }
            var seen: [UInt8] = []
            let found = broker.send(from: try broker.queue("a"), now: 10) { task in
                seen = task.request + task.metadata
                #expect(task.state == .ready && task.attempt == 0)
                return 250
            }
            guard case .task(let key) = found else { throw Unexpected() }
            #expect(seen == [7, 5])
            let shown = broker.show(TaskHandle(key: key))
            #expect(shown.leaseEnd == 260 && shown.attempt == 1 && shown.state == .dispatched)
            #expect(broker.finish(key, now: 259) == true)
        }
    }

    // MARK: Which is next

    @Test func peekShowsPushedAndUnpushedTasksByPriority() throws {
        try withSendingBroker { broker in
            let priorities: [Int8] = [0, 5, -5, 0, 5, -5, 127, -128]
            for (index, priority) in priorities.enumerated() {
                try broker.add(UInt64(10 + index), to: "a", priority: priority) { _ in }
                try broker.addSent(UInt64(20 + index), to: "a", priority: priority)
            }
            let order: [UInt64] = [16, 26, 11, 14, 21, 24, 10, 13, 20, 23, 12, 15, 22, 25, 17, 27]
            #expect(try broker.peek("a") == order)
            for (index, number) in order.enumerated() {
                var rest: [UInt64] = []
                let isThere = broker.peek(try broker.queue("a"), after: id(number), limit: 100, now: 0) {
                    rest.append($0.id.high)
                }
                #expect(isThere && rest == Array(order[(index + 1)...]))
            }
            #expect(try broker.statistics("a").ready == 16)
            #expect(try broker.takeAny("a", limit: 100) == order.filter { $0 < 20 })
            #expect(try broker.sendAll("a") == order.filter { $0 >= 20 })
        }
    }

    @Test func tasksOlderThanThePushAreSentFirstWithinTheirPriority() throws {
        try withSendingBroker { broker in
            for number in 1...2 { try broker.add(UInt64(number), to: "a", priority: 0) { _ in } }
            try broker.add(3, to: "a", priority: 9) { _ in }
            try broker.addSent(4, to: "a", priority: 0)
            try broker.configurePushed("a")
            #expect(try broker.takeAny("a", limit: 9) == [])
            try broker.add(5, to: "a", priority: 9) { _ in }
            try broker.add(6, to: "a", priority: 0) { _ in }
            try broker.add(7, to: "a", priority: 20) { _ in }
            let order: [UInt64] = [7, 3, 5, 1, 2, 4, 6]
            #expect(try broker.peek("a") == order)
            #expect(try broker.sendAll("a") == order)
        }
    }

    @Test func statisticsCountPushedAndUnpushedTasks() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a", now: 5)
            try broker.add(2, to: "a", now: 7)
            #expect(try broker.statistics("a").ready == 2)
            #expect(try broker.statistics("a").oldestReady == 5)
            _ = try broker.sendOne("a", now: 8)
            let statistics = try broker.statistics("a")
            #expect(statistics.ready == 1 && statistics.dispatched == 1 && statistics.oldestReady == 7)
            #expect(statistics.totals.dispatched == 1)
            #expect(broker.counts.ready == 1 && broker.counts.dispatched == 1)
        }
    }

    @Test func theMaximumLengthIncludesPushedTasks() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a") { $0.maximumLength = 2 }
            try broker.add(1, to: "a")
            _ = try broker.sendOne("a")
            try broker.add(2, to: "a")
            #expect(throws: BrokerError.queueFull) { try broker.add(3, to: "a") }
        }
    }

    // MARK: What there is to send

    @Test func aSendableQueueIsReportedOnceUntilItIsFoundEmpty() throws {
        try withSendingBroker { broker in
            try broker.add(1, to: "plain")
            #expect(broker.sendableQueues() == [])
            for number in 2...3 { try broker.addSent(UInt64(number), to: "a") }
            #expect(broker.sendableQueues() == ["a"])
            try broker.addSent(4, to: "a")
            #expect(broker.sendableQueues() == [])
            #expect(try broker.sendAll("a") == [2, 3, 4])
            #expect(broker.sendableQueues() == [])
            try broker.addSent(5, to: "a")
            #expect(broker.sendableQueues() == ["a"])
        }
    }

    @Test func aQueueIsReportedWheneverATaskBecomesSendable() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a", due: 50)
            #expect(broker.sendableQueues() == [])
            broker.advanceFully(to: 50)
            #expect(broker.sendableQueues() == ["a"])
            var key = try broker.sendOne("a", now: 50)
            #expect(try broker.sendAll("a", now: 50) == [])
            #expect(broker.fail(key, .release, now: 50) == .requeued)
            #expect(broker.sendableQueues() == ["a"])
            key = try broker.sendOne("a", now: 50)
            #expect(broker.fail(key, .dead, now: 50) == .dead)
            #expect(try broker.sendAll("a", now: 50) == [])
            #expect(broker.kick(1, now: 50) == true)
            #expect(broker.sendableQueues() == ["a"])
            #expect(try broker.sendAll("a", now: 50) == [1])
            try broker.addSent(2, to: "b", now: 50)
            #expect(
                try broker.sweep(now: 50) { try $0.move($0.queue("b"), to: $0.queue("a"), now: 50, completion: $1) }
                    == [1])
            _ = try broker.sendAll("b", now: 50)
            #expect(Set(broker.sendableQueues()) == ["a", "b"])
            #expect(try broker.sendAll("a", now: 50) == [2])
        }
    }

    @Test func aPausedQueueSendsNothingUntilItIsResumed() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a")
            broker.pause(try broker.queue("a"), now: 0)
            try broker.add(1, to: "a")
            #expect(try broker.sendAll("a") == [])
            _ = broker.sendableQueues()
            try broker.add(2, to: "a")
            #expect(try broker.sendAll("a") == [])
            let waiter = try broker.startWait("a", deadline: 100)
            broker.resume(try broker.queue("a"))
            #expect(broker.sendableQueues().contains("a"))
            #expect(try broker.sendAll("a") == [1, 2])
            broker.advanceFully(to: 0)
            broker.cancel(waiter)
        }
    }

    @Test func aReportedQueueIsNotForgotten() throws {
        try withSendingBroker { broker in
            try broker.addSent(1, to: "a")
            var told: [QueueIndex] = []
            broker.takeSendableQueues { told.append($0) }
            #expect(broker.cancelTask(1) == true)
            for number in 0..<10_100 { _ = try broker.queue("other \(number)") }
            broker.advanceFully(to: 10_000_000)
            #expect(broker.counts.queues == 1)
            let queue = try #require(told.first)
            #expect(broker.name(of: queue) == Array("a".utf8))
            guard case .nothing = broker.send(from: queue, now: 10_000_000, leaseMilliseconds: { _ in 1 }) else {
                throw Unexpected()
            }
            broker.advanceFully(to: 20_000_000)
            #expect(broker.counts.queues == 0)
        }
    }

    @Test func pushedTasksWaitIfThereIsNoSender() throws {
        try withBroker { broker in
            try broker.addSent(1, to: "a")
            #expect(broker.sendableQueues() == [])
            #expect(try broker.peek("a") == [1])
            #expect(try broker.take("a") == nil)
            broker.advanceFully(to: QueueConfiguration.defaultExpiryMilliseconds)
            #expect(broker.counts.tasks == 0 && broker.memoryBytes == 0)
        }
    }

    // MARK: Expired and worn out

    @Test(arguments: [true, false]) func expiredTasksInFrontAreNotSent(isOfQueue: Bool) throws {
        try withSendingBroker { broker in
            if isOfQueue { try broker.configurePushed("a") }
            for number in 1...1500 {
                try broker.add(UInt64(number), to: "a", expiry: .after(milliseconds: 10)) { options in
                    options.request = isOfQueue ? [] : [7]
                }
            }
            try broker.addSent(5000, to: "a")
            let queue = try broker.queue("a")
            guard case .notYet = broker.send(from: queue, now: 10, leaseMilliseconds: { _ in 100 }) else {
                throw Unexpected()
            }
            broker.checkInvariants()
            #expect(try broker.sendAll("a", now: 10) == [5000])
            broker.advanceFully(to: 10)
            #expect(try broker.statistics("a").totals.expired == 1500)
            #expect(broker.endedSends() == [])
        }
    }

    @Test func aTaskWithALifetimeOfZeroIsNotSent() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("p") { $0.isExpiryDeath = true }
            try broker.addSent(1, to: "a", due: 100, expiry: .after(milliseconds: 0)) { $0.keepMilliseconds = 50 }
            try broker.add(2, to: "p", due: 100, expiry: .after(milliseconds: 0)) { _ in }
            for now: Int64 in [0, 99, 100] {
                // Also before the timers have fired.
                for name in ["a", "p"] { #expect(try broker.send(name, now: now) == nil) }
                broker.advanceFully(to: now)
            }
            for name in ["a", "p"] { #expect(try broker.send(name, now: 100) == nil) }
            #expect(broker.sendableQueues() == [])
            #expect(broker.state(1, now: 100) == .expired && broker.state(2, now: 100) == .dead)
            #expect(broker.deadTasks() == ["2 in p"] && broker.endedSends() == [])
            #expect(try broker.statistics("p").totals.dispatched == 0)
        }
    }

    @Test func tasksInFrontWithoutRetriesAreNotSent() throws {
        try withSendingBroker { broker in
            for number in 1...2 { try broker.addSent(UInt64(number), to: "a") }
            #expect(broker.fail(try broker.sendOne("a"), .failedPausing(milliseconds: 0)) == .requeued)
            #expect(try broker.peek("a") == [2, 1])
            try broker.configure("a") { $0.maximumRetries = 0 }
            #expect(try broker.sendAll("a") == [2])
            broker.advanceFully(to: 0)
            #expect(broker.state(1) == .dead)
            #expect(broker.deadTasks() == ["1 in a"])
        }
    }

    // MARK: Memory

    @Test func allMemoryIsReleased() throws {
        try withSendingBroker { broker in
            try broker.configurePushed("a") { $0.keepMilliseconds = 50 }
            broker.advanceFully(to: 0)
            _ = try broker.sendAll("a")
            let before = broker.memoryBytes
            for number in 1...100 {
                try broker.addSent(UInt64(number), to: "a") { options in
                    options.key = [1, 0, UInt8(number)]
                    options.request = Array(repeating: 1, count: 1000)
                }
            }
            #expect(broker.memoryBytes > before + 100 * 1000)
            for number in 1...100 {
                let key = try broker.sendOne("a")
                if number % 4 == 0 {
                    try broker.addSent(UInt64(1000 + number), to: "a") { options in
                        (options.key, options.onConflict) = ([1, 0, UInt8(number)], .replace)
                        options.request = Array(repeating: 2, count: 2000)
                    }
                }
                switch number % 3 {
                case 0: #expect(broker.finish(key, result: [1, 2, 3]) == true)
                case 1: #expect(broker.fail(key, .failedPausing(milliseconds: 10), result: [1, 2]) == .requeued)
                default: #expect(broker.cancelTask(UInt64(number)) == true)
                }
            }
            broker.checkInvariants()
            broker.advanceFully(to: 10)
            while let key = try broker.send("a", now: 10) { #expect(broker.finish(key, result: [1], now: 10) == true) }
            broker.advanceFully(to: 100)
            #expect(broker.counts.tasks == 0)
            #expect(broker.memoryBytes == before)
        }
    }
}
