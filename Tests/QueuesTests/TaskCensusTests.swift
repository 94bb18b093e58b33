// The census of tasks, and the table of workers.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct TaskCensusTests {
    /// A complete census, made in slices of so many steps.
    private func census(
        of broker: isolated Broker, now: Int64 = 0, slice: Int = .max, maximumCount: Int = TaskCensus.maximumGroups,
        between: (isolated Broker) throws -> Void = { _ in }
    ) throws -> TaskCensus {
        let census = TaskCensus(maximumCount: maximumCount)
        var steps = slice
        while !broker.extend(census, now: now, steps: &steps) {
            try between(broker)
            steps = slice
        }
        return census
    }

    private func bury(
        _ numbers: some Sequence<UInt64>, in queue: String, _ error: String, on broker: isolated Broker
    )
        throws
    {
        for number in numbers {
            try broker.add(number, to: queue)
            let taken = try #require(try broker.take(queue))
            #expect(taken[0].number == number)
            let reference = TaskReference(id: UID(high: number, low: number))
            _ = broker.nak(reference, .dead, error: Array(error.utf8).span, now: Int64(number))
        }
    }

    @Test func groupsDeadTasksByQueueAndSummaryOfTheError() throws {
        try withBroker { broker in
            try bury(1...3, in: "mail", "no route to host", on: broker)
            try bury(4...4, in: "mail", "", on: broker)
            try bury(5...9, in: "mail", "Traceback\n  line \(5)", on: broker)
            try bury(10...10, in: "mail", "\r\nTraceback\r\nline 6", on: broker)
            try bury(11...12, in: "post", "no route to host", on: broker)
            let census = try census(of: broker)
            let groups = census.groups.map { "\(text($0.queue.span)):\(text($0.error.span)):\($0.count)" }
            #expect(
                groups.sorted() == [
                    "mail::1", "mail:Traceback:6", "mail:no route to host:3", "post:no route to host:2",
                ])
            let largest = try #require(census.groups.first { $0.count == 6 })
            #expect(largest.first == 5 && largest.last == 10)
            #expect(largest.example == UID(high: 10, low: 10))
        }
    }

    @Test func tasksBeyondTheMostGroupsAreCounted() throws {
        try withBroker { broker in
            for number in 1...5 { try bury([UInt64(number)], in: "q", "error \(number)", on: broker) }
            try broker.add(6, to: "q")
            try broker.add(7, to: "p")
            _ = try broker.take("q", "p")
            let census = try census(of: broker, maximumCount: 1)
            #expect(census.groups.count == 1 && census.deadLeftOut == 4)
            #expect(census.holdings.count == 1 && census.heldLeftOut == 1)
        }
    }

    /// The records of tasks never move, so changes between the slices neither hide a task nor count it twice.
    @Test func tasksThatStayAreCountedOnceWhileOthersComeAndGo() throws {
        try withBroker(maximumTasks: 100_000) { broker in
            try bury(1...900, in: "q", "x", on: broker)
            var next: UInt64 = 10_000
            let census = try census(of: broker, slice: 200) { broker in
                for _ in 0..<20 {
                    try broker.add(next, to: "other")
                    #expect(broker.cancelTask(UID(high: next - 9, low: next - 9), now: 0) == (next > 10_008))
                    next += 1
                }
            }
            #expect(next > 10_100)
            #expect(census.groups.map(\.count) == [900])
            #expect(census.groups[0].first == 1 && census.groups[0].last == 900)
        }
    }

    @Test func holdingsHaveTheTasksThatAreHeldForTheLongestTime() throws {
        try withBroker { broker in
            var taken: [TaskHandle?] = []
            for number in 1...30 {
                let number = UInt64(number)
                try broker.add(number, to: "q", lease: 1000)
                // The later tasks have been held for longer.
                _ = broker.takeAny(
                    [try broker.queue("q")], limit: 1, worker: Array("w".utf8), now: 100 - Int64(number), into: &taken)
            }
            try broker.add(31, to: "q")
            _ = try broker.take("q")
            let census = try census(of: broker, now: 100)
            let named = try #require(census.holdings.first { !$0.worker.isEmpty })
            #expect(named.count == 30)
            #expect(named.tasks.map(\.dispatched) == Array(70..<80))
            #expect(census.holdings.first { $0.worker.isEmpty }?.count == 1)
            // The leases have run out, although nothing has ended them yet.
            #expect(try self.census(of: broker, now: 5000).holdings.isEmpty)
        }
    }

    // MARK: Workers

    private func worker(_ name: String, in census: TaskCensus) -> TaskCensus.Worker? {
        census.workers.first { $0.name == Array(name.utf8) }
    }

    private func wait(_ queues: [String], worker: String, now: Int64, on broker: isolated Broker) throws -> Waiter {
        broker.waitAny(
            try broker.queues(queues), limit: 1, worker: Array(worker.utf8), deadline: now + 1000, now: now
        ) { _ in }
    }

    @Test func aWorkerIsRememberedForAnHourAfterItsLastWait() throws {
        try withBroker { broker in
            let hour = WorkerTable.keepingMilliseconds
            let waiter = try wait(["a", "b", "a"], worker: "w", now: 5, on: broker)
            let other = try wait(["c"], worker: "w", now: 7, on: broker)
            let nameless = try wait(["a"], worker: "", now: 7, on: broker)
            let first = try census(of: broker)
            let seen = try #require(worker("w", in: first))
            #expect(seen.firstSeen == 5 && seen.waitCount == 2 && first.otherWaitCount == 1)
            #expect(seen.waits.map { $0.map { text($0.span) } } == [["a", "b"], ["c"]])
            broker.checkInvariants()
            broker.cancel(waiter)
            broker.cancel(nameless)
            while !broker.advance(to: 500) {}
            broker.cancel(other)
            broker.checkInvariants()
            while !broker.advance(to: 500 + hour - 1) {}
            let last = try census(of: broker)
            let known = try #require(worker("w", in: last))
            #expect(known.firstSeen == 5 && known.lastSeen == 500 && known.waitCount == 0 && last.otherWaitCount == 0)
            while !broker.advance(to: 500 + hour) {}
            #expect(try census(of: broker).workers.isEmpty)
        }
    }

    @Test func theWorkerUnusedForTheLongestTimeIsForgottenIfThereAreTooMany() throws {
        try withBroker { broker in
            let waiter = try wait(["a"], worker: "first", now: 0, on: broker)
            for number in 1..<WorkerTable.maximumCount {
                broker.noteWorker(Array("w\(number)".utf8).span, now: 2000)
            }
            #expect(worker("first", in: try census(of: broker))?.waitCount == 1)
            // Its wait goes on, as that of a worker without a name.
            broker.noteWorker(Array("last".utf8).span, now: 4000)
            broker.checkInvariants()
            let census = try census(of: broker)
            #expect(census.workers.count == WorkerTable.maximumCount)
            #expect(worker("first", in: census) == nil && worker("last", in: census) != nil)
            #expect(census.otherWaitCount == 1)
            broker.cancel(waiter)
            broker.checkInvariants()
            #expect(try self.census(of: broker).otherWaitCount == 0)
        }
    }
}
