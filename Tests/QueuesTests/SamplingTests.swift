// Rates and histories.

import Support
import Testing

@testable import Queues

/// Lets time pass and samples whenever it is due, in slices of `steps`.
func pass(to end: Int64, from start: Int64, steps: Int = 1000, _ broker: isolated Broker) {
    var now = start
    while true {
        broker.advanceFully(to: now)
        var rest = steps
        while !broker.sample(now: now, steps: &rest) { rest = steps }
        guard now < end else { return }
        now = min(end, max(now + 1, broker.nextSampleTime ?? .max))
    }
}

/// The history of a queue.
func history(
    _ name: String, _ interval: HistoryInterval = .minute, now: Int64, _ broker: isolated Broker
) -> [HistoryPoint]? {
    broker.history(interval, of: Array(name.utf8).span, now: now)
}

@Suite(.blocking) struct SamplingTests {
    @Test(arguments: [1, 1000])
    func ratesAreThoseOfTheLastMinute(steps: Int) throws {
        try withBroker(now: 60_000) { broker in
            pass(to: 60_000, from: 60_000, steps: steps, broker)
            #expect(broker.nextSampleTime == nil)
            for number in 1...6 { try broker.add(UInt64(number), to: number < 5 ? "a" : "b", now: 60_000) }
            _ = try broker.take("a", "a", "a", now: 60_000)
            // The lease of the third task runs out.
            let (isDone, isRefused) = (broker.ack(1, now: 60_000), broker.nak(2, now: 60_000))
            #expect(isDone && isRefused)
            #expect(try broker.statistics("a").lastMinute == EventCounts())
            pass(to: 65_000, from: 60_000, steps: steps, broker)
            let first = try broker.statistics("a").lastMinute
            #expect(first.enqueued == 4 && first.done == 1 && first.failed == 2)
            #expect(try broker.statistics("b").lastMinute.enqueued == 2)
            let all = broker.lastMinute
            #expect(all.enqueued == 6 && all.sum == 9)
            pass(to: 119_000, from: 65_000, steps: steps, broker)
            #expect(try broker.statistics("a").lastMinute.failed == 2)
            #expect(try broker.statistics("a").lastMinute.enqueued == 4)
            pass(to: 140_000, from: 119_000, steps: steps, broker)
            #expect(try broker.statistics("a").lastMinute == EventCounts())
            #expect(broker.lastMinute == EventCounts())
        }
    }

    @Test func historiesHaveAPointForEachInterval() throws {
        let start: Int64 = 3_000_000
        try withBroker(now: start, maximumTasks: 10_000) { broker in
            var number: UInt64 = 0
            var now = start
            // One more task in each minute.
            for minute in 1...90 {
                pass(to: now, from: now, broker)
                for _ in 0..<minute {
                    number += 1
                    try broker.add(number, to: "q", expires: .max / 2, now: now)
                }
                pass(to: now + 60_000, from: now, broker)
                now += 60_000
            }
            let shownMinutes = history("q", now: now, broker)
            let minutes = try #require(shownMinutes)
            #expect(minutes.map(\.enqueued) == (31...90).map { UInt32($0) })
            #expect(minutes.last?.ready == UInt32(number))
            #expect(minutes.last?.oldestReadySeconds == 5400)
            let ofAll = broker.history(.minute, now: now)
            #expect(ofAll == minutes)
            let shownFives = history("q", .fiveMinutes, now: now, broker)
            let fives = try #require(shownFives)
            #expect(fives.count == 288 && fives[269] == HistoryPoint())
            #expect(fives[270].enqueued == 15 && fives[287].enqueued == 86 + 87 + 88 + 89 + 90)
            #expect(fives[287].ready == UInt32(number))
            let none = history("never", now: now, broker)
            #expect(none == nil)
        }
    }

    @Test func theHistoryOfAForgottenQueueStays() throws {
        try withBroker(now: 60_000) { broker in
            pass(to: 60_000, from: 60_000, broker)
            try broker.add(1, to: "q", now: 61_000)
            let isGone = broker.cancelTask(1, now: 61_000)
            #expect(isGone)
            pass(to: 2 * 3_600_000, from: 61_000, broker)
            let queue = broker.existingQueue(named: Array("q".utf8).span)
            #expect(queue == nil)
            let minutes = history("q", now: 2 * 3_600_000, broker)
            #expect(minutes?.contains { $0.enqueued > 0 } == false)
            let shown = history("q", .fiveMinutes, now: 2 * 3_600_000, broker)
            let fives = try #require(shown)
            #expect(fives.filter { $0.enqueued == 1 }.count == 1)
            // The queue comes back.
            try broker.add(2, to: "q", expires: .max / 2, now: 2 * 3_600_000)
            pass(to: 2 * 3_600_000 + 5000, from: 2 * 3_600_000, broker)
            #expect(try broker.statistics("q").lastMinute.enqueued == 1)
            let isGoneToo = broker.cancelTask(2, now: 2 * 3_600_000 + 5000)
            #expect(isGoneToo)
            // After a day, nothing is left.
            pass(to: 30 * 3_600_000, from: 2 * 3_600_000 + 5000, broker)
            let rest = history("q", .fiveMinutes, now: 30 * 3_600_000, broker)
            #expect(rest == nil)
            #expect(broker.nextSampleTime == nil)
        }
    }

    @Test func onlyTheQueuesUsedLastHaveAHistory() throws {
        try withBroker(now: 60_000) { broker in
            broker.limitHistories(toBytes: 3 * Sampling.maximumSeriesBytes)
            var now: Int64 = 60_000
            for (number, name) in ["a", "b", "c", "a", "d"].enumerated() {
                pass(to: now, from: now, broker)
                try broker.add(UInt64(number + 1), to: name, now: now)
                pass(to: now + 5000, from: now, broker)
                now += 5000
            }
            let known = ["a", "b", "c", "d"].map { history($0, now: now, broker) != nil }
            #expect(known == [true, false, true, true])
            #expect(try broker.statistics("a").lastMinute.enqueued == 2)
            // A queue that gets a history again does not count what happened while it had none.
            try broker.add(9, to: "b", now: now)
            pass(to: now + 5000, from: now, broker)
            #expect(try broker.statistics("b").lastMinute.enqueued == 0)
            #expect(broker.lastMinute.enqueued == 6)
        }
    }

    @Test func withoutMemoryThereAreNoHistories() throws {
        try withBroker(now: 60_000) { broker in
            broker.limitHistories(toBytes: 0)
            pass(to: 60_000, from: 60_000, broker)
            try broker.add(1, to: "q", now: 60_000)
            pass(to: 65_000, from: 60_000, broker)
            let points = history("q", now: 65_000, broker)
            #expect(points == nil)
            #expect(try broker.statistics("q").lastMinute == EventCounts())
            #expect(broker.lastMinute.enqueued == 1)
        }
    }

    @Test func historiesCountAsMemory() throws {
        try withBroker(now: 60_000) { broker in
            pass(to: 60_000, from: 60_000, broker)
            try broker.add(1, to: "q", expires: .max / 2, now: 60_000)
            let before = broker.memoryBytes
            pass(to: 100 * 3_600_000, from: 60_000, broker)
            let bytes = broker.memoryBytes - before
            #expect(bytes > 348 * 32 && bytes <= Sampling.maximumSeriesBytes)
        }
    }

    /// With more queues in use than may have a series, those that have one keep it.
    @Test func queuesInUseDoNotTakeSeriesFromEachOther() throws {
        try withBroker(now: 60_000, maximumTasks: 100_000) { broker in
            broker.limitHistories(toBytes: 10 * Sampling.maximumSeriesBytes)
            var number: UInt64 = 0
            pass(to: 60_000, from: 60_000, broker)
            for tick in Int64(12)..<24 {
                for queue in 0..<20 {
                    number += 1
                    try broker.add(number, to: "q\(queue)", now: tick * 5000)
                }
                pass(to: (tick + 1) * 5000, from: tick * 5000, broker)
            }
            let counts = try (0..<20).map { try broker.statistics("q\($0)").lastMinute.enqueued }.sorted()
            #expect(counts == Array(repeating: 0, count: 10) + Array(repeating: 12, count: 10))
            broker.checkInvariants()
            // A queue that is used when others rest takes the place of one of them, and counts from then on.
            let without = try (0..<20).first { try broker.statistics("q\($0)").lastMinute.enqueued == 0 }
            let name = "q\(try #require(without))"
            number += 1
            try broker.add(number, to: name, now: 125_000)
            pass(to: 130_000, from: 125_000, broker)
            number += 1
            try broker.add(number, to: name, now: 130_000)
            pass(to: 135_000, from: 130_000, broker)
            #expect(try broker.statistics(name).lastMinute.enqueued == 1)
        }
    }
}

/// An image of histories with the checksum of what it says now (FNV-1a).
func withChecksum(_ image: [UInt8]) -> [UInt8] {
    let rest = image.dropLast(8)
    let sum = rest.reduce(0xcbf2_9ce4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    return rest + (0..<8).map { UInt8(truncatingIfNeeded: sum >> UInt64(56 - 8 * $0)) }
}

@Suite(.blocking) struct HistoryImageTests {
    /// The image of a broker with a history, made at `end`.
    private func image(end: Int64) throws -> [UInt8] {
        nonisolated(unsafe) var image: [UInt8] = []
        try withBroker(now: 60_000) { broker in
            var steps = 1000
            _ = broker.sample(now: 60_000, steps: &steps)
            var number: UInt64 = 0
            for now in stride(from: 60_000, to: end, by: 5000) {
                number += 1
                try broker.add(number, to: "q", expires: .max / 2, now: now)
                broker.advanceFully(to: now + 5000)
                _ = broker.sample(now: now + 5000, steps: &steps)
                steps = 1000
            }
            image = broker.historyImage(now: end) ?? []
        }
        return image
    }

    private func restored(_ image: [UInt8], now: Int64, _ interval: HistoryInterval) -> [UInt32]? {
        nonisolated(unsafe) var enqueued: [UInt32]?
        withBroker(now: now) { broker in
            let isWhole = broker.restoreHistories(image.span, now: now)
            #expect(isWhole)
            var steps = 1000
            _ = broker.sample(now: now, steps: &steps)
            broker.checkInvariants()
            let later = now + 300_000
            broker.advanceFully(to: later)
            _ = broker.sample(now: later, steps: &steps)
            enqueued = broker.history(interval, of: Array("q".utf8).span, now: later)?.map(\.enqueued)
        }
        return enqueued
    }

    @Test(arguments: [600_000, 615_000, 900_000, 3_600_000])
    func nothingIsLostOverARestart(restart: Int64) throws {
        let image = try image(end: 600_000)
        let fives = restored(image, now: restart, .fiveMinutes)
        #expect(fives?.reduce(0, +) == 108)
        let minutes = restored(image, now: restart, .minute)
        #expect(minutes?.reduce(0, +) == (restart == 3_600_000 ? 60 : 108))
    }

    /// A server that crashes has the image of the last five minutes that have ended.
    @Test func anImageIsMadeEveryFiveMinutes() throws {
        nonisolated(unsafe) var images: [(time: Int64, image: [UInt8])] = []
        try withBroker(now: 60_000, maximumTasks: 10_000) { broker in
            broker.keepHistoryImages(ofBytes: 1 << 20)
            var number: UInt64 = 0
            for now in stride(from: Int64(60_000), to: 910_000, by: 5000) {
                // Other queues make the image too long for one call.
                for name in ["q"] + (0..<5).map({ "other \($0)" }) {
                    number += 1
                    try broker.add(number, to: name, expires: .max / 2, now: now)
                }
                broker.advanceFully(to: now)
                var isDone = false
                while !isDone {
                    var steps = 30
                    isDone = broker.sample(now: now, steps: &steps)
                    if let image = broker.takeHistoryImage() { images.append((now, image)) }
                }
            }
            broker.checkInvariants()
        }
        #expect(images.map(\.time) == [300_000, 600_000, 900_000])
        for (time, image) in images {
            // From the beginning until then, a task came every five seconds.
            let expected = UInt32((time - 60_000) / 5000) + 1
            #expect(restored(image, now: time + 1000, .fiveMinutes)?.reduce(0, +) == expected)
        }
    }

    @Test func anImageLeavesOutTheQueuesThatWereUsedLeastLately() throws {
        nonisolated(unsafe) var image: [UInt8] = []
        let names = (0..<20).map { "queue \($0)" }
        try withBroker(now: 60_000) { broker in
            broker.keepHistoryImages(ofBytes: 300)
            for (number, name) in names.enumerated() {
                let now = Int64(60_000 + 5000 * number)
                try broker.add(UInt64(number + 1), to: name, expires: .max / 2, now: now)
                broker.advanceFully(to: now + 5000)
                var steps = 1000
                _ = broker.sample(now: now + 5000, steps: &steps)
            }
            var steps = 1000
            broker.advanceFully(to: 300_000)
            _ = broker.sample(now: 300_000, steps: &steps)
            image = broker.takeHistoryImage() ?? []
        }
        #expect(image.count > 300 && image.count < 400)
        nonisolated(unsafe) var kept: [Bool] = []
        withBroker(now: 300_000) { broker in
            let isWhole = broker.restoreHistories(image.span, now: 300_000)
            #expect(isWhole)
            kept = names.map { broker.history(.minute, of: Array($0.utf8).span, now: 300_000) != nil }
        }
        let first = kept.firstIndex(of: true) ?? 0
        #expect(first > 0 && kept[first...].allSatisfy { $0 })
    }

    /// Points of a time that has not come would keep later ones from ever being forgotten.
    @Test func aClockThatIsSetBackLosesOnlyWhatIsAhead() throws {
        let image = try image(end: 600_000)
        nonisolated(unsafe) var later: [UInt8] = []
        try withBroker(now: 300_000, maximumTasks: 10_000) { broker in
            let isWhole = broker.restoreHistories(image.span, now: 300_000)
            #expect(isWhole)
            var (steps, number): (Int, UInt64) = (1000, 0)
            for now in stride(from: Int64(300_000), to: 300_000 + 100 * 60_000, by: 5000) {
                number += 1
                try broker.add(number, to: "q", expires: .max / 2, now: now)
                broker.advanceFully(to: now + 5000)
                steps = 1000
                _ = broker.sample(now: now + 5000, steps: &steps)
            }
            broker.checkInvariants()
            later = broker.historyImage(now: 300_000 + 100 * 60_000) ?? []
        }
        // A series with more points than there may be would be refused. Five minutes pass before the look.
        #expect(restored(later, now: 300_000 + 100 * 60_000, .minute)?.reduce(0, +) == 660)
    }

    @Test func damagedImagesAreRefused() throws {
        let image = try image(end: 120_000)
        withBroker(now: 120_000) { broker in
            for index in image.indices {
                var damaged = image
                damaged[index] ^= 1
                let isWhole = broker.restoreHistories(damaged.span, now: 120_000)
                #expect(!isWhole)
                // With a checksum that is right, whatever is read must be sound, and nothing may trap.
                if index < image.count - 8 {
                    _ = broker.restoreHistories(withChecksum(damaged).span, now: 120_000)
                    broker.checkInvariants()
                }
                let beginning = Array(image[..<index])
                let isEnough = broker.restoreHistories(beginning.span, now: 120_000)
                #expect(!isEnough)
            }
        }
    }
}
