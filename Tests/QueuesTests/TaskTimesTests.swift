// How long tasks wait and run, as histories show it.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct TaskTimesTests {
    private static let start: Int64 = 3_000_000

    /// What a point has of times, in milliseconds.
    private struct Times: Equatable {
        var waits: [Int64]
        var runs: [Int64]

        init(waits: [Int64], runs: [Int64]) { (self.waits, self.runs) = (waits, runs) }

        init(_ point: HistoryPoint) {
            waits = [point.waitMean.milliseconds, point.waitMaximum.milliseconds]
            runs = [point.runMean.milliseconds, point.runMaximum.milliseconds]
        }

        static let none = Times(waits: [0, 0], runs: [0, 0])
    }

    /// The times of the steps that have any.
    private func times(_ points: [HistoryPoint]?) -> [Times] {
        (points ?? []).map { Times($0) }.filter { $0 != .none }
    }

    /// Times as a history shows them.
    private func coded(_ waits: (mean: UInt64, longest: UInt64), _ runs: (mean: UInt64, longest: UInt64)) -> Times {
        let milliseconds = [waits.mean, waits.longest, runs.mean, runs.longest].map {
            CodedDuration(milliseconds: $0).milliseconds
        }
        return Times(waits: Array(milliseconds[..<2]), runs: Array(milliseconds[2...]))
    }

    @Test(arguments: [1, 1000])
    func waitsAndRunsAreMeasured(steps: Int) throws {
        let start = Self.start
        try withBroker(now: start) { broker in
            pass(to: start, from: start, steps: steps, broker)
            for (number, queue) in ["a", "a", "b"].enumerated() {
                try broker.add(UInt64(number + 1), to: queue, lease: 60_000, expires: .max / 2, now: start)
            }
            _ = try broker.take("a", now: start + 2000)
            let isDone = broker.ack(1, now: start + 3000)
            _ = try broker.take("a", now: start + 4000)
            let isDoneToo = broker.ack(2, now: start + 7000)
            // One that fails has waited, and has not run.
            _ = try broker.take("b", now: start + 40_000)
            let outcome = broker.nak(3, .dead, now: start + 41_000)
            #expect(isDone && isDoneToo && outcome == .dead)
            let now = start + 600_000
            pass(to: now, from: start + 41_000, steps: steps, broker)
            // One step has times, the ones after it have none.
            for interval in HistoryInterval.allCases {
                let a = history("a", interval, now: now, broker)
                #expect(times(a) == [coded((3000, 4000), (2000, 3000))])
                let b = history("b", interval, now: now, broker)
                #expect(times(b) == [coded((40_000, 40_000), (0, 0))])
                let all = broker.history(interval, now: now)
                #expect(times(all) == [coded((46_000 / 3, 40_000), (2000, 3000))])
            }
        }
    }

    /// A step of five minutes has the mean of all of its tasks, and the longest of its minutes.
    @Test func fiveMinutesAreMadeOfMinutes() throws {
        let start = Self.start
        try withBroker(now: start) { broker in
            pass(to: start, from: start, broker)
            for (number, seconds) in [(1, 30), (2, 10), (3, 20)] as [(UInt64, Int64)] {
                let enqueued = start + Int64(number - 1) * 60_000
                pass(to: enqueued, from: max(start, enqueued - 60_000 + 30_000), broker)
                try broker.add(number, to: "q", expires: .max / 2, now: enqueued)
                pass(to: enqueued + seconds * 1000, from: enqueued, broker)
                _ = try broker.take("q", now: enqueued + seconds * 1000)
                let isDone = broker.ack(number, now: enqueued + seconds * 1000)
                #expect(isDone)
                pass(to: enqueued + 30_000, from: enqueued + seconds * 1000, broker)
            }
            let now = start + 300_000
            pass(to: now, from: start + 150_000, broker)
            let minutes = history("q", now: now, broker)
            #expect(times(minutes) == [30_000, 10_000, 20_000].map { coded(($0, $0), (0, 0)) })
            let fives = history("q", .fiveMinutes, now: now, broker)
            #expect(times(fives) == [coded((20_000, 30_000), (0, 0))])
        }
    }

    /// A task that was dispatched again has waited since its lease ran out, and runs since its last dispatch.
    @Test func aLeaseThatRanOutBeginsAnotherWait() throws {
        let start = Self.start
        try withBroker(now: start) { broker in
            pass(to: start, from: start, broker)
            try broker.add(1, to: "q", lease: 1000, expires: .max / 2, now: start)
            _ = try broker.take("q", now: start)
            broker.advanceFully(to: start + 2000)
            _ = try broker.take("q", now: start + 9000)
            // A renewal does not begin another run.
            let isRenewed = broker.touch(
                TaskReference(id: UID(high: 1, low: 1)), leaseMilliseconds: 10_000, now: start + 9500)
            let isDone = broker.ack(1, now: start + 13_000)
            #expect(isRenewed && isDone)
            pass(to: start + 60_000, from: start + 13_000, broker)
            let points = history("q", now: start + 60_000, broker)
            #expect(times(points) == [coded((4000, 8000), (4000, 4000))])
        }
    }

    @Test func tasksThatArePushedWaitAndRunToo() throws {
        let start = Self.start
        try withSendingBroker { broker in
            pass(to: start, from: start, broker)
            try broker.configurePushed("q")
            try broker.addSent(1, to: "q", now: start)
            let key = try broker.sendOne("q", lease: 30_000, now: start + 3000)
            let isDone = broker.finish(key, now: start + 8000)
            #expect(isDone)
            pass(to: start + 60_000, from: start + 8000, broker)
            let points = history("q", now: start + 60_000, broker)
            #expect(times(points) == [coded((3000, 3000), (5000, 5000))])
        }
    }

    @Test func aClockThatIsSetBackMakesNoTimes() throws {
        let start = Self.start
        try withBroker(now: start) { broker in
            pass(to: start, from: start, broker)
            for number in 1...2 as ClosedRange<UInt64> {
                try broker.add(number, to: "q", lease: 60_000, expires: .max / 2, now: start + 20_000)
            }
            _ = try broker.take("q", now: start)
            let isDone = broker.ack(1, now: start - 10_000)
            // Only this one counts.
            _ = try broker.take("q", now: start + 22_000)
            let isDoneToo = broker.ack(2, now: start + 24_000)
            #expect(isDone && isDoneToo)
            pass(to: start + 60_000, from: start + 24_000, broker)
            for points in [history("q", now: start + 60_000, broker), broker.history(.minute, now: start + 60_000)] {
                #expect(times(points) == [coded((1000, 2000), (1000, 2000))])
            }
        }
    }

    /// A queue that gets a history again does not show the times of what happened while it had none.
    @Test func timesWithoutAHistoryAreNotShownLater() throws {
        let start = Self.start
        try withBroker(now: start) { broker in
            broker.limitHistories(toBytes: Sampling.maximumSeriesBytes)
            pass(to: start, from: start, broker)
            var now = start
            for (number, name) in ["a", "b", "a"].enumerated() {
                try broker.add(UInt64(number + 1), to: name, expires: .max / 2, now: now)
                _ = try broker.take(name, now: now + 4000)
                pass(to: now + 5000, from: now, broker)
                now += 5000
            }
            pass(to: start + 60_000, from: now, broker)
            let points = history("a", now: start + 60_000, broker)
            #expect(points != nil && times(points) == [])
            let all = broker.history(.minute, now: start + 60_000)
            #expect(times(all).count == 1)
        }
    }

    /// All queues together have the times of the same steps as each of them, however long the sweep takes that counts
    /// them, and also those of queues without a history.
    @Test(arguments: [0, 2, 100])
    func allQueuesHaveTheTimesOfEach(histories: Int) throws {
        let start = Self.start
        try withBroker(now: start) { broker in
            broker.limitHistories(toBytes: histories * Sampling.maximumSeriesBytes)
            pass(to: start, from: start, broker)
            for number in 1...4 as ClosedRange<UInt64> {
                try broker.add(number, to: "q\(number)", lease: 60_000, expires: .max / 2, now: start + 50_000)
                _ = try broker.take("q\(number)", now: start + 50_000 + Int64(number) * 1000)
            }
            // The sweep at the end of the minute begins, and something happens before it comes to the queues.
            broker.advanceFully(to: start + 60_000)
            var steps = 1
            let isComplete = broker.sample(now: start + 60_000, steps: &steps)
            let isDone = (1...4).allSatisfy { broker.ack($0, now: start + 60_001) }
            #expect(!isComplete && isDone)
            pass(to: start + 120_000, from: start + 60_001, broker)
            let all = broker.history(.minute, now: start + 120_000)
            #expect(all.filter { $0.waitMean.milliseconds > 0 }.count == 1)
            let waits = all.map(\.waitMean.milliseconds).reduce(0, +)
            #expect(waits == CodedDuration(milliseconds: 2500).milliseconds)
            // The longest run is in a step that has a mean.
            #expect(all.allSatisfy { ($0.runMean.milliseconds > 0) == ($0.runMaximum.milliseconds > 0) })
            if histories < 4 { return }
            let each = (1...4).compactMap { history("q\($0)", now: start + 120_000, broker) }
            for index in all.indices {
                let longest = each.map { $0[index].runMaximum.milliseconds }.max()
                #expect(all[index].runMaximum.milliseconds == longest)
            }
        }
    }

    // MARK: Codes

    @Test func durationsAreCodedToASixteenth() {
        #expect((0..<16).allSatisfy { CodedDuration(milliseconds: $0).milliseconds == Int64($0) })
        var before: Int64 = 15
        for exponent in 4..<33 {
            for step in 0..<64 {
                let time = UInt64(1) << UInt64(exponent) + UInt64(step) << UInt64(exponent) / 64
                let coded = CodedDuration(milliseconds: time).milliseconds
                #expect(abs(coded - Int64(time)) * 16 <= Int64(time) && coded >= before, "\(time)")
                before = coded
            }
        }
        for longest in [15 << 30, 16 << 30, UInt64.max] {
            #expect(CodedDuration(milliseconds: longest).milliseconds == 15 << 30)
        }
        for code in UInt8.min...UInt8.max {
            let milliseconds = CodedDuration(code: code).milliseconds
            #expect(milliseconds >= 0 && CodedDuration(milliseconds: UInt64(milliseconds)).code == code)
        }
    }

    // MARK: Images

    /// An image of histories of one queue, by its numbers.
    private func image(_ format: String, savedAt: UInt64, _ series: [UInt64]) -> [UInt8] {
        var bytes = Array(format.utf8)
        func write(_ number: UInt64) {
            var rest = number
            while rest >= 0x80 {
                bytes.append(UInt8(rest & 0x7f) | 0x80)
                rest >>= 7
            }
            bytes.append(UInt8(rest))
        }
        write(savedAt)
        for number in series { write(number) }
        write(1)
        bytes += Array("q".utf8)
        for number in series { write(number) }
        return withChecksum(bytes + Array(repeating: 0, count: 8))
    }

    /// Times of a minute that has not ended last over a restart, and so do those of the steps before it.
    @Test func timesLastOverARestart() throws {
        let start = Self.start
        nonisolated(unsafe) var image: [UInt8] = []
        try withBroker(now: start) { broker in
            pass(to: start, from: start, broker)
            for number in 1...2 as ClosedRange<UInt64> {
                let enqueued = start + Int64(number - 1) * 60_000
                try broker.add(number, to: "q", lease: 60_000, expires: .max / 2, now: enqueued)
                _ = try broker.take("q", now: enqueued + Int64(number) * 1000)
                let isDone = broker.ack(number, now: enqueued + Int64(number) * 3000)
                #expect(isDone)
                pass(to: enqueued + (number == 1 ? 60_000 : 30_000), from: enqueued + 6000, broker)
            }
            image = broker.historyImage(now: start + 90_000) ?? []
        }
        let (saved, now) = (image, start + 300_000)
        withBroker(now: start + 100_000) { broker in
            let isWhole = broker.restoreHistories(saved.span, now: start + 100_000)
            #expect(isWhole)
            pass(to: now, from: start + 100_000, broker)
            for points in [history("q", now: now, broker), broker.history(.minute, now: now)] {
                #expect(times(points) == [coded((1000, 1000), (2000, 2000)), coded((2000, 2000), (4000, 4000))])
            }
            let fives = history("q", .fiveMinutes, now: now, broker)
            #expect(times(fives) == [coded((1500, 2000), (3000, 4000))])
        }
    }

    @Test func anImageOfTheFormatWithoutTimesIsRead() throws {
        let saved: UInt64 = 6_010_000
        // What has happened in the minute and the five minutes; the points of the minutes and of the five minutes.
        let series = [2, 1, 0, 7, 6, 5, 1, saved / 60_000 - 1, 3, 2, 1, 9, 8, 100, 0]
        let image = image("emqhist2", savedAt: saved, series)
        try withBroker(now: Int64(saved)) { broker in
            let isWhole = broker.restoreHistories(image.span, now: Int64(saved))
            #expect(isWhole)
            let points = history("q", now: Int64(saved), broker)
            let last = try #require(points?.last)
            #expect(last.enqueued == 3 && last.ready == 9 && last.oldestReadySeconds == 100)
            #expect(times(points) == [])
            // What was done before in the steps that are under way has no times.
            try broker.add(1, to: "q", lease: 60_000, expires: .max / 2, now: Int64(saved))
            _ = try broker.take("q", now: Int64(saved) + 4000)
            let isDone = broker.ack(1, now: Int64(saved) + 12_000)
            #expect(isDone)
            let later = Int64(saved) + 300_000
            pass(to: later, from: Int64(saved), broker)
            for interval in HistoryInterval.allCases {
                for points in [history("q", interval, now: later, broker), broker.history(interval, now: later)] {
                    #expect(times(points) == [coded((4000, 4000), (8000, 8000))])
                    let steps = points?.filter { $0.runMean.milliseconds > 0 }
                    #expect(steps?.map(\.done) == [interval == .minute ? 2 : 8])
                }
            }
        }
    }

    /// Nobody but emq writes the file, but whatever it says must not stop the server.
    @Test func numbersThatAreTooLargeDoNotTrap() throws {
        let saved: UInt64 = 6_010_000
        let largest = Array(repeating: UInt64.max, count: 6)
        let happenings = [7, 6, 5] + largest
        let point: [UInt64] = [saved / 60_000 - 1, 3, 2, 1, 9, 8, 100, 0xffff_ffff]
        let image = image("emqhist4", savedAt: saved, happenings + happenings + [1] + point + [0])
        try withBroker(now: Int64(saved)) { broker in
            let isWhole = broker.restoreHistories(image.span, now: Int64(saved))
            #expect(isWhole)
            pass(to: Int64(saved), from: Int64(saved), broker)
            try broker.add(1, to: "q", lease: 60_000, expires: .max / 2, now: Int64(saved))
            _ = try broker.take("q", now: Int64(saved) + 1000)
            let isDone = broker.ack(1, now: Int64(saved) + 2000)
            #expect(isDone)
            let now = Int64(saved) + 300_000
            pass(to: now, from: Int64(saved) + 2000, broker)
            for interval in HistoryInterval.allCases {
                let points = history("q", interval, now: now, broker)
                #expect(times(points).allSatisfy { ($0.waits + $0.runs).allSatisfy { (0...15 << 30).contains($0) } })
                #expect(points?.contains { $0.runMaximum.milliseconds == 15 << 30 } == true)
            }
        }
    }
}
