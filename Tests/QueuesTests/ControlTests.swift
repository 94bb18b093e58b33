// Whole queues: pausing, purging, kicking, moving, counting and configuring them.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct ControlTests {
    private func id(_ number: UInt64) -> UID { UID(high: number, low: number) }

    // MARK: Actions

    @Test func aPausedQueueCountsAsEmpty() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", lease: 10)
            try broker.add(2, to: "a")
            _ = try broker.take("a")
            broker.pause(try broker.queue("a"), now: 0)
            #expect(try broker.take("a") == nil && broker.takeAny("a") == [] && broker.takeAvailable("a") == [nil])
            let outcomes = (0..<4).map { _ in Outcome() }
            _ = try broker.startWait("a", "b", noting: outcomes[0])
            _ = try broker.startWaitAny("a", "b", noting: outcomes[1])
            _ = try broker.startWait("a", "a", noting: outcomes[2])
            _ = try broker.startWait("a", noting: outcomes[3])
            try broker.add(3, to: "a")
            broker.advanceFully(to: 10)
            #expect(try broker.peek("a", now: 10) == [2, 3, 1])
            #expect(broker.names == ["a"])
            #expect(try broker.statistics("a").isPaused == true)
            broker.resume(try broker.queue("a"))
            broker.checkInvariants()
            #expect(broker.nextDeadline == 0)
            while !broker.advance(to: 10, limit: 1) { broker.checkInvariants() }
            #expect(outcomes.map(\.calls) == [[], [[2]], [[3, 1]], []])
            #expect(try broker.statistics("a").isPaused == false)
            try broker.add(4, to: "b", now: 10)
            #expect(try broker.statistics("b").ready == 1)
            try broker.add(5, to: "a", now: 10)
            #expect(outcomes[0].calls == [[5, 4]])
        }
    }

    @Test func aPurgeDeletesTheTasksThatAreReadyOrDelayedWhenItBegins() throws {
        try withBroker { broker in
            for number in 1...6 {
                try broker.add(UInt64(number), to: "a", priority: Int8(number % 3)) { $0.keepMilliseconds = 1000 }
            }
            try broker.add(7, to: "a", due: 100) { _ in }
            _ = try broker.takeAny("a", limit: 1)
            let counted = try broker.sweep(limit: 1) { broker, completion in
                try broker.purge(broker.queue("a"), now: 0, completion: completion)
                // The purge ignores tasks that arrive, return or leave meanwhile.
                try broker.add(8, to: "a", priority: 1) { _ in }
                #expect(broker.nak(2, .release) == .requeued)
                #expect(broker.cancelTask(3) == true && broker.cancelTask(6) == true)
            }
            #expect(counted == [4])
            #expect(try broker.peek("a") == [2, 8] && broker.peek("a", .cancelled) == [3, 6])
            #expect(
                try broker.sweep { try $0.purge($0.queue("a"), states: TaskState.allCases, now: 0, completion: $1) }
                    == [4])
            #expect(broker.counts.tasks == 0 && broker.memoryBytes == 0)
            #expect(try broker.sweep { try $0.purge($0.queue("a"), now: 0, completion: $1) } == [0])
        }
    }

    @Test func kickAndMoveStopAtTheirLimit() throws {
        try withBroker { broker in
            for number in 1...5 { try broker.add(UInt64(number), to: "a", due: number > 3 ? 100 : nil) { _ in } }
            _ = try broker.takeAny("a", limit: 3)
            for number in 1...3 { #expect(broker.nak(UInt64(number), .dead) == .dead) }
            let outcome = Outcome()
            _ = try broker.startWait("a", noting: outcome)
            #expect(try broker.sweep { try $0.kick($0.queue("a"), limit: 2, now: 0, completion: $1) } == [2])
            #expect(outcome.calls == [[1]])
            #expect(
                try broker.sweep { try $0.kick($0.queue("a"), state: .delayed, limit: 1, now: 0, completion: $1) } == [
                    1
                ])
            #expect(try broker.peek("a") == [2, 4])
            #expect(try broker.move("a", to: "b", limit: 1) == 1)
            #expect(try broker.move("a", to: "b", .delayed) == 1)
            #expect(try broker.move("a", to: "b", .dead) == 1)
            #expect(try broker.move("b", to: "b") == 0)
            #expect(try broker.peek("b") == [2] && broker.peek("b", .delayed) == [5] && broker.peek("b", .dead) == [3])
            #expect(broker.names == ["a", "b"])
        }
    }

    @Test func sweepsAreBounded() throws {
        try withBroker { broker in
            let ends = Ends()
            let queue = try broker.queue("a")
            for _ in 0..<16 { try broker.purge(queue, now: 0) { _ in ends.states.append(.done) } }
            #expect(throws: BrokerError.tooManySweeps) { try broker.purge(queue, now: 0) { _ in } }
            #expect(broker.nextDeadline == 0)
            broker.advanceFully(to: 0)
            #expect(ends.states.count == 16)
            try broker.purge(queue, now: 0) { _ in }
            broker.advanceFully(to: 0)
        }
    }

    // MARK: Views

    private func page(
        after number: UInt64?, _ state: TaskState = .ready, on broker: isolated Broker
    ) throws -> [UInt64]? {
        var numbers: [UInt64] = []
        let isThere = broker.peek(
            try broker.queue("a"), state: state, after: number.map { id($0) }, limit: 2, now: 0
        ) { numbers.append($0.id.high) }
        return isThere ? numbers : nil
    }

    @Test func peekReturnsAStatePageByPage() throws {
        try withBroker { broker in
            for number in 1...6 { try broker.add(UInt64(number), to: "a", priority: Int8(number % 2)) { _ in } }
            #expect(try page(after: nil, on: broker) == [1, 3])
            #expect(try page(after: 3, on: broker) == [5, 2])
            #expect(try page(after: 2, on: broker) == [4, 6])
            #expect(try page(after: 6, on: broker) == [])
            #expect(try page(after: 9, on: broker) == nil)
            _ = try broker.takeAny("a", limit: 4)
            #expect(try page(after: 1, on: broker) == nil)
            #expect(try page(after: 1, .dispatched, on: broker) == [3, 5])
        }
    }

    @Test func statisticsCountEachStateAndTheOldestReadyTask() throws {
        try withBroker { broker in
            #expect(try broker.statistics("none") == QueueStatistics())
            try broker.add(1, to: "a", priority: 3, now: 5) { _ in }
            try broker.add(2, to: "a", now: 7)
            try broker.add(3, to: "a", now: 6)
            try broker.add(4, to: "a", due: 500) { _ in }
            #expect(try broker.statistics("a").oldestReady == 5)
            _ = try broker.take("a", now: 8)
            let statistics = try broker.statistics("a")
            #expect(statistics.oldestReady == 7)
            #expect(statistics.ready == 2 && statistics.delayed == 1 && statistics.dispatched == 1)
            #expect(statistics.totals.enqueued == 4)
            var names: [String] = []
            broker.forEachQueue { _, name, _ in names.append(text(name)) }
            #expect(names == ["a", "none"])
        }
    }

    // MARK: Configurations

    @Test func configurationsCountAsMemory() throws {
        try withBroker { broker in
            let before = broker.memoryBytes
            try broker.configure("q") { $0.push = [UInt8](repeating: 1, count: 9000) }
            #expect(broker.memoryBytes >= before + 9000)
            try broker.configure("q") { $0.push = [1] }
            #expect(broker.memoryBytes < before + 2000)
        }
    }

    @Test func aConfiguredQueueIsNotForgotten() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.leaseMilliseconds = 5 }
            broker.advanceFully(to: 10_000_000)
            #expect(broker.names == ["a"])
            try broker.add(1, to: "a", now: 10_000_000) { _ in }
            try broker.enqueue(id: id(2), in: broker.queue("a"), content: [1].span, now: 10_000_000)
            #expect(try broker.take("a", "a", now: 10_000_000)?.map(\.lease) == [1000, 5])
            try broker.configure(try broker.queue("a"), nil)
            #expect(broker.configuration(of: try broker.queue("a")) == nil)
        }
    }

    @Test func aLowerRetryLimitEndsWaitingTasks() throws {
        try withBroker { broker in
            for number in 1...500 { try broker.add(UInt64(number), to: "a") }
            var taken: [TaskHandle?] = []
            _ = broker.takeAny([try broker.queue("a")], limit: 400, now: 0, into: &taken)
            for number in 1...400 { #expect(broker.nak(UInt64(number)) == true) }
            broker.pause(try broker.queue("a"), now: 0)
            try broker.configure("a") { $0.maximumRetries = 0 }
            try broker.configure("a") {
                $0.maximumRetries = 0
                $0.maximumLength = 7
            }
            while !broker.advance(to: 1, limit: 50) { broker.checkInvariants() }
            let statistics = try broker.statistics("a")
            #expect(statistics.ready == 100 && statistics.dead == 400)
            #expect(try broker.peek("a", .dead, now: 1) == (1...400).map { UInt64($0) })
        }
    }

    // MARK: Memory

    @Test func memoryIsCountedWhileItIsHeld() throws {
        try withBroker { broker in
            #expect(broker.memoryBytes == 0)
            // A queue in use counts too.
            try broker.configure("a") { $0.leaseMilliseconds = 5 }
            let empty = broker.memoryBytes
            #expect((300...2000).contains(empty))
            try broker.add(1, to: "a")
            let plain = broker.memoryBytes
            #expect(MemoryLayout<TaskRecord>.stride == 128 && (128...256).contains(plain - empty))
            try broker.add(2, to: "a") { $0.metadata = [UInt8](repeating: 1, count: 5000) }
            #expect(broker.memoryBytes > plain + 5000)
            _ = try broker.takeAny("a", limit: 2)
            #expect(broker.ack(1) == true && broker.ack(2) == true)
            #expect(broker.memoryBytes == empty)
        }
    }

    @Test func memoryOfKeyGroupsIsCountedWhileItIsHeld() throws {
        try withBroker { broker in
            try broker.configure("a") { $0.leaseMilliseconds = 5 }
            try broker.configure("b") { $0.leaseMilliseconds = 5 }
            let empty = broker.memoryBytes
            let name = [UInt8](repeating: 1, count: 200)
            try broker.add(1, to: "a") { $0.key = name + [2, 2] }
            let ungrouped = broker.memoryBytes - empty
            try broker.add(2, to: "a") { $0.key = name + [0, 2] }
            let grouped = broker.memoryBytes - empty - ungrouped
            #expect(grouped > ungrouped)
            #expect(try broker.move(2, to: "b") == true)
            #expect(broker.memoryBytes == empty + ungrouped + grouped)
            _ = try broker.take("a", "b")
            #expect(broker.ack(1) == true && broker.ack(2) == true)
            #expect(broker.memoryBytes == empty)
        }
    }

    // MARK: Sweeps

    @Test func aPurgeDeletesTasksThatChangeStateMeanwhileAndNoOthers() throws {
        try withBroker(maximumTasks: 10_000) { broker in
            for number in 1...3000 { try broker.add(UInt64(number), to: "a", due: 100) { _ in } }
            try broker.add(5000, to: "a")
            _ = try broker.take("a", now: 1)
            var counts: [Int] = []
            try broker.purge(try broker.queue("a"), now: 10) { counts.append($0.count) }
            // Delays end before the purge gets there. One task was dispatched when the purge began and returns; one is
            // new.
            #expect(broker.advance(to: 100, limit: 500) == false)
            #expect(broker.nak(5000, now: 100) == true)
            try broker.add(6000, to: "a", now: 100)
            broker.advanceFully(to: 100)
            #expect(counts == [3000])
            #expect(try broker.peek("a", now: 100) == [5000, 6000])
        }
    }

    @Test func aPurgeOfAllStatesDeletesTasksThatWorkersTakeMeanwhile() throws {
        try withBroker { broker in
            for number in 1...900 { try broker.add(UInt64(number), to: "a") }
            var counts: [Int] = []
            try broker.purge(try broker.queue("a"), states: TaskState.allCases, now: 10) { counts.append($0.count) }
            var taken: [TaskHandle?] = []
            _ = broker.takeAny([try broker.queue("a")], limit: 300, now: 10, into: &taken)
            #expect(broker.ack(1, now: 10) == true)
            broker.advanceFully(to: 10)
            #expect(counts == [899] && broker.counts.tasks == 0)
        }
    }
}
