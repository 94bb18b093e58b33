// Operations on some tasks of a queue: which tasks a filter selects, restarts, and stopping.

import Bytes
import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct TaskFilterTests {
    private func filter(_ change: (inout TaskFilter) -> Void) -> TaskFilter {
        var filter = TaskFilter(time: 1000)
        change(&filter)
        return filter
    }

    private func ofError(_ error: String) -> TaskFilter { filter { $0.error = Array(error.utf8) } }

    /// Tasks 1 to 6, which died one after the other with these errors: x, y, none, x, "xy\nz", y.
    private func bury(in queue: String = "a", on broker: isolated Broker) throws {
        for (index, error) in ["x", "y", "", "x", "xy\nz", "y"].enumerated() {
            let number = UInt64(index + 1)
            try broker.add(number, to: queue)
            _ = try #require(try broker.take(queue))
            let reference = TaskReference(id: UID(high: number, low: number))
            #expect(broker.nak(reference, .dead, error: Array(error.utf8).span, now: Int64(number) * 100) == .dead)
        }
    }

    private func kick(_ filter: TaskFilter, limit: Int = .max, on broker: isolated Broker) throws -> [UInt64] {
        let counts = try broker.sweep(now: 1000) {
            try $0.kick($0.queue("a"), filter: filter, limit: limit, now: 1000, completion: $1)
        }
        let kicked = try broker.peek("a", now: 1000)
        #expect(counts == [kicked.count])
        return kicked
    }

    @Test(
        arguments: [
            ("x", [1, 4]), ("y", [2, 6]), ("", [3]), ("xy", [5]), ("xy\nz", []), ("z", []),
        ] as [(String, [UInt64])])
    func anErrorSelectsTheTasksWithThatSummary(error: String, numbers: [UInt64]) throws {
        try withBroker { broker in
            try bury(on: broker)
            #expect(try kick(ofError(error), on: broker) == numbers)
        }
    }

    @Test(
        arguments: [
            ("x*", [1, 4, 5]), ("*y", [2, 5, 6]), ("*", [1, 2, 4, 5, 6]), ("", []), ("*z*", []),
        ] as [(String, [UInt64])])
    func aPatternSelectsByTheSummary(pattern: String, numbers: [UInt64]) throws {
        try withBroker { broker in
            try bury(on: broker)
            let filter = filter { $0.errorPattern = GlobPattern(Array(pattern.utf8).span) }
            #expect(try kick(filter, on: broker) == numbers)
        }
    }

    /// Task *n* has been dead for 1000 - 100 *n* ms.
    @Test(
        arguments: [
            (600, nil, [1, 2, 3, 4]), (nil, 600, [5, 6]), (600, 800, [3, 4]), (601, nil, [1, 2, 3]),
            (0, nil, [1, 2, 3, 4, 5, 6]),
            (nil, 0, []),
        ] as [(Int64?, Int64?, [UInt64])])
    func anAgeSelectsTheOldOrTheNew(older: Int64?, newer: Int64?, numbers: [UInt64]) throws {
        try withBroker { broker in
            try bury(on: broker)
            let filter = filter { ($0.olderThanMilliseconds, $0.newerThanMilliseconds) = (older, newer) }
            #expect(try kick(filter, on: broker) == numbers)
        }
    }

    @Test func theAgeOfAReadyTaskCountsFromWhenItBecameReady() throws {
        try withBroker { broker in
            try broker.add(1, to: "a", now: 0)
            try broker.add(2, to: "a", now: 0)
            try broker.add(3, to: "a", due: 5000, now: 100) { _ in }
            _ = try broker.take("a", now: 0)
            #expect(broker.nak(1, .failed, now: 700) == .requeued)
            let filter = filter { $0.olderThanMilliseconds = 800 }
            let counts = try broker.sweep(now: 1000) {
                try $0.purge($0.queue("a"), filter: filter, now: 1000, completion: $1)
            }
            #expect(counts == [2])
            #expect(try broker.peek("a", now: 1000) == [1] && broker.peek("a", .delayed, now: 1000) == [])
        }
    }

    @Test func aLimitCountsOnlySelectedTasks() throws {
        try withBroker { broker in
            try bury(on: broker)
            #expect(try kick(ofError("y"), limit: 1, on: broker) == [2])
        }
    }

    @Test func aMoveAndAPurgeLeaveTheOthers() throws {
        try withBroker { broker in
            try bury(on: broker)
            let (x, y) = (ofError("x"), ofError("y"))
            let moved = try broker.sweep(now: 1000) {
                try $0.move($0.queue("a"), to: $0.queue("b"), state: .dead, filter: x, now: 1000, completion: $1)
            }
            let purged = try broker.sweep(now: 1000) {
                try $0.purge($0.queue("a"), states: [.dead], filter: y, now: 1000, completion: $1)
            }
            #expect(moved == [2] && purged == [2])
            #expect(try broker.peek("a", .dead, now: 1000) == [3, 5] && broker.peek("b", .dead, now: 1000) == [1, 4])
        }
    }

    /// A purge of all states meets tasks again that have changed their state since. They were not newer then.
    @Test func aTaskThatIsTakenMeanwhileHasNotBecomeNewer() throws {
        try withBroker { broker in
            for number: UInt64 in 1...3 { try broker.add(number, to: "a", now: 100) }
            let newer = filter { $0.newerThanMilliseconds = 10 }
            let purged = try broker.sweep(now: 1000) {
                try $0.purge($0.queue("a"), states: TaskState.allCases, filter: newer, now: 1000, completion: $1)
                #expect(try $0.take("a", now: 1001) != nil)
            }
            #expect(try purged == [0] && broker.peek("a", .dispatched, now: 1001) == [1])
        }
    }

    @Test func idsOfSweepsAreNotUsedAgainAfterARestart() throws {
        var ids: [UInt64] = []
        try restarting(downMilliseconds: 5) { broker in
            try broker.add(1, to: "a", now: 1_000_000)
            try broker.purge(try broker.queue("a"), now: 1_000_000) { _ in }
            ids = broker.sweeps.map(\.id)
        } after: { broker, now in
            try broker.add(2, to: "b", now: now)
            try broker.purge(try broker.queue("b"), now: now) { _ in }
            #expect(broker.sweeps.last.map { sweep in ids.allSatisfy { $0 < sweep.id } } == true)
        }
        #expect(ids.count == 1)
    }

    /// The time of the filter stays that of its request.
    @Test func aFilterSurvivesARestart() throws {
        let start: Int64 = 1_000_000
        try restarting(downMilliseconds: 5000) { broker in
            for (index, error) in ["x", "y", "x", "x"].enumerated() {
                let number = UInt64(index + 1)
                try broker.add(number, to: "a", expires: start * 2, now: start)
                _ = try #require(try broker.take("a", now: start))
                let reference = TaskReference(id: UID(high: number, low: number))
                _ = broker.nak(reference, .dead, error: Array(error.utf8).span, now: start + Int64(number))
            }
            var filter = TaskFilter(time: start + 10)
            filter.error = Array("x".utf8)
            filter.errorPattern = GlobPattern(Array("*".utf8).span)
            (filter.olderThanMilliseconds, filter.newerThanMilliseconds) = (7, 100)
            try broker.kick(try broker.queue("a"), filter: filter, now: start + 10) { _ in }
        } after: { broker, now in
            let (ready, dead) = (try broker.peek("a", now: now), try broker.peek("a", .dead, now: now))
            #expect(ready == [1, 3] && dead == [2, 4])
        }
    }

    // MARK: Progress

    @Test func aSweepShowsItsProgressAndStops() throws {
        try withBroker(maximumTasks: 10_000) { broker in
            try bury(on: broker)
            for number: UInt64 in 100..<200 { try broker.add(number, to: "a", now: 500) }
            let queue = try broker.queue("a")
            var ends: [String] = []
            let x = filter { $0.error = [120] }
            let ids = [
                try broker.move(queue, to: broker.queue("b"), limit: 1000, now: 1000) { ends.append("move \($0)") },
                try broker.kick(queue, filter: x, now: 1000) { ends.append("kick \($0)") },
            ]
            #expect(broker.advance(to: 1000, limit: 10) == false)
            let sweeps = broker.sweeps
            #expect(sweeps.map(\.id) == ids && ids[0] != ids[1])
            let move = try #require(sweeps.first)
            if case .move(let target) = move.action { #expect(target == [98]) } else { Issue.record("no move") }
            #expect(move.queue == [97] && move.states == [.ready] && move.filter == nil && move.begun == 1000)
            #expect(move.totalCount == 100 && move.changedCount == move.examinedCount)
            #expect((1..<100).contains(move.changedCount))
            #expect(sweeps[1].filter == x && sweeps[1].examinedCount == 0 && sweeps[1].totalCount == 6)
            #expect(broker.stopSweep(move.id) == true)
            #expect(broker.stopSweep(move.id) == false)
            #expect(ends == ["move \(SweepEnd(id: ids[0], count: move.changedCount, isStopped: true))"])
            broker.checkInvariants()
            broker.advanceFully(to: 1000)
            #expect(ends.last == "kick \(SweepEnd(id: ids[1], count: 2, isStopped: false))")
            #expect(try broker.peek("b", now: 1000).count == move.changedCount)
            #expect(try broker.peek("a", now: 1000).count == 102 - move.changedCount)
            #expect(broker.sweeps.isEmpty)
        }
    }

    /// A stopped sweep does not go on after a restart.
    @Test func aStoppedSweepStaysStopped() throws {
        try withLives(3) { broker, life in
            switch life {
            case 0:
                for number: UInt64 in 1...10 { try broker.add(number, to: "a") }
                try broker.purge(try broker.queue("a"), now: 1) { _ in }
            case 1:
                let id = try #require(broker.sweeps.first?.id)
                #expect(broker.stopSweep(id) == true)
            default:
                #expect(broker.sweeps.isEmpty)
                broker.advanceFully(to: 1)
                #expect(try broker.peek("a", now: 1).count == 10)
            }
        }
    }

    /// So viewers of all tasks look again, also when nobody waits for the end of the operation any more.
    @Test func operationsThatChangeTasksAreCounted() throws {
        try withLives(2) { broker, life in
            let queue = try broker.queue("a")
            switch life {
            case 0:
                for number: UInt64 in 1...3 { try broker.add(number, to: "a") }
                try broker.purge(queue, states: [.dead], now: 1) { _ in }
                broker.advanceFully(to: 1)
                #expect(broker.operationCount == 0)
                #expect(broker.move(UID(high: 1, low: 1), to: try broker.queue("b"), now: 1))
                #expect(broker.operationCount == 1)
                try broker.purge(queue, now: 1) { _ in }
            default:
                #expect(broker.operationCount == 0)
                broker.advanceFully(to: 1)
                #expect(try broker.peek("a", now: 1).isEmpty && broker.operationCount == 1)
            }
        }
    }

    // MARK: Finding

    @Test func aSearchStopsAfterSoManyTasksAndGoesOn() throws {
        try withBroker(maximumTasks: 10_000) { broker in
            for number: UInt64 in 1...100 { try broker.add(number, to: "a", now: number % 10 == 0 ? 900 : 100) }
            let queue = try broker.queue("a")
            let new = filter { $0.newerThanMilliseconds = 200 }
            func find(_ after: UInt64?, limit: Int, lookLimit: Int, on broker: isolated Broker) -> Broker.Found? {
                broker.find(
                    in: queue, state: .ready, after: after.map { UID(high: $0, low: $0) }, matching: new, limit: limit,
                    lookLimit: lookLimit, now: 1000)
            }
            let first = find(nil, limit: 10, lookLimit: 25, on: broker)
            #expect(first?.ids.map(\.high) == [10, 20] && first?.last?.high == 25)
            let second = find(25, limit: 3, lookLimit: 1000, on: broker)
            #expect(second?.ids.map(\.high) == [30, 40, 50] && second?.last?.high == 50)
            let third = find(50, limit: 100, lookLimit: 50, on: broker)
            #expect(third?.ids.map(\.high) == [60, 70, 80, 90, 100] && third?.last == nil)
            let none = find(5000, limit: 1, lookLimit: 1, on: broker)
            #expect(none?.ids == nil)
        }
    }

    /// Each search looks at other tasks than the one before it, also if their timers have not fired yet.
    @Test func aSearchGoesOnBehindTasksThatHaveExpired() throws {
        try withBroker { broker in
            for number: UInt64 in 1...100 {
                try broker.add(number, to: "a", expires: number > 50 && number % 10 == 0 ? 5000 : 500, now: 100)
            }
            let queue = try broker.queue("a")
            let all = filter { $0.olderThanMilliseconds = 0 }
            var (pages, after): ([[UInt64]], UID?) = ([], nil)
            repeat {
                let page = broker.find(
                    in: queue, state: .ready, after: after, matching: all, limit: 10, lookLimit: 25, now: 1000)
                let found = try #require(page)
                pages.append(found.ids.map(\.high))
                after = found.last
            } while after != nil && pages.count < 10
            #expect(pages == [[], [], [60, 70], [80, 90, 100]])
            // Nothing is compared with a pattern.
            let pattern = filter { $0.errorPattern = GlobPattern([UInt8](repeating: 42, count: 254).span) }
            let found = broker.find(
                in: queue, state: .ready, after: nil, matching: pattern, limit: 10, lookLimit: 60, now: 1000)
            #expect(found?.ids == [] && found?.last?.high == 60)
        }
    }

    @Test func aPageWithLessOfEachContentHasMoreTasks() throws {
        try withBroker(maximumContentBytes: 10) { broker in
            for number: UInt64 in 100..<120 { try broker.add(number, to: "a") }
            let queue = try broker.queue("a")
            let all = filter { $0.olderThanMilliseconds = 0 }
            // Each has three bytes. The first one does not count.
            for (contentLimit, count) in [(Int.max, 4), (3, 4), (2, 6), (1, 11), (0, 20)] {
                var shown = 0
                broker.peek(queue, limit: 100, contentLimit: contentLimit, now: 1000) { _ in shown += 1 }
                let found = broker.find(
                    in: queue, state: .ready, after: nil, matching: all, limit: 100, lookLimit: 100,
                    contentLimit: contentLimit, now: 1000)
                #expect(shown == count && found?.ids.count == count, "\(contentLimit)")
                #expect((found?.last == nil) == (count == 20))
            }
        }
    }

    /// A long pattern takes longer, so fewer tasks are looked at.
    @Test func aLongPatternLooksAtFewerTasks() throws {
        try withBroker { broker in
            for number: UInt64 in 1...100 { try broker.add(number, to: "a") }
            let filter = filter { $0.errorPattern = GlobPattern([UInt8](repeating: 42, count: 254).span) }
            let found = broker.find(
                in: try broker.queue("a"), state: .ready, after: nil, matching: filter, limit: 1000, lookLimit: 1000,
                now: 0)
            #expect(found?.ids == [] && (10..<100).contains(found?.last?.low ?? 0))
        }
    }
}
