// Lists of queues that are made in slices.

import Support
import Testing

@testable import Queues

@Suite(.blocking) struct QueueListingTests {
    /// Makes a list in slices of `steps`, and calls `between` between them.
    private func list(
        by order: QueueOrder, steps: Int, of broker: isolated Broker,
        between: (isolated Broker) throws -> Void = { _ in }
    ) throws -> QueueListing {
        let listing = QueueListing(by: order)
        while true {
            var rest = steps
            if broker.extend(listing, steps: &rest) { return listing }
            try between(broker)
        }
    }

    private func names(_ listing: QueueListing) -> [String] {
        (0..<listing.count).map { listing.withName(at: $0) { text($0) } }
    }

    @Test(arguments: [0, 1, 2, 511, 512, 513, 1024, 1500, 2049])
    func namesAreSortedWhateverTheSlices(count: Int) throws {
        var random = SeededRandom()
        // Names with equal beginnings of eight and sixteen bytes, and names of which others are the beginning.
        var unsorted: Set<[UInt8]> = []
        while unsorted.count < count {
            let length = Int.random(in: 1...20, using: &random)
            let tail = (0..<length).map { _ in UInt8.random(in: 97...99, using: &random) }
            let beginnings = ["", "the same", "the same and more"].map { Array($0.utf8) }
            unsorted.insert((beginnings.randomElement(using: &random) ?? []) + tail)
        }
        for steps in [1, 1000, 1_000_000] {
            var names = SortedNames(hasNumbers: false)
            for name in unsorted { names.append(name.span, number: 0) }
            while true {
                var rest = steps
                if names.sort(steps: &rest) { break }
            }
            let sorted = (0..<names.count).map { names.withName(at: $0) { Array(copying: $0) } }
            #expect(sorted == unsorted.sorted { $0.lexicographicallyPrecedes($1) }, "\(random)")
        }
    }

    @Test func ordersAndTheirCursors() throws {
        try withBroker { broker in
            for (number, queue) in ["b", "b", "b", "c", "a", "d", "d"].enumerated() {
                try broker.add(UInt64(number + 1), to: queue, now: Int64(10 - number))
            }
            _ = try broker.queue("empty")
            _ = try broker.take("c", now: 20)
            let outcome = broker.nak(4, .dead, now: 20)
            #expect(outcome == .dead)
            for (name, time) in [("d", 30), ("b", 29)] { broker.pause(try broker.queue(name), now: Int64(time)) }
            let expected: [QueueOrder: [String]] = [
                .name: ["a", "b", "c", "d", "empty"], .ready: ["b", "d", "a", "c", "empty"],
                .dead: ["c", "a", "b", "d", "empty"], .oldestReady: ["d", "a", "b", "c", "empty"],
                .rate: ["a", "b", "c", "d", "empty"], .delayed: ["a", "b", "c", "d", "empty"],
                .dispatched: ["a", "b", "c", "d", "empty"], .enqueued: ["a", "b", "c", "d", "empty"],
                .done: ["a", "b", "c", "d", "empty"], .failed: ["a", "b", "c", "d", "empty"],
                .waiters: ["a", "b", "c", "d", "empty"], .paused: ["b", "d", "a", "c", "empty"],
            ]
            for order in QueueOrder.allCases {
                let listing = try list(by: order, steps: 1, of: broker)
                #expect(names(listing) == expected[order], "\(order)")
                // Of the queues that are not paused.
                #expect(listing.oldestReady.map { text($0.name.span) } == "a" && listing.oldestReady?.time == 6)
                for index in 0..<listing.count {
                    #expect(listing.index(behind: listing.cursor(behind: index)) == index + 1)
                }
            }
            let listing = try list(by: .name, steps: 100, of: broker)
            #expect(listing.index(behind: QueueListing.Cursor(number: 0, name: Array("aa".utf8))) == 1)
            #expect(listing.index(behind: QueueListing.Cursor(number: 0, name: Array("z".utf8))) == 5)
        }
    }

    @Test(arguments: [1, 1000])
    func groupsHaveEachQueueOnce(steps: Int) throws {
        var random = SeededRandom()
        var made: [String: Int] = [:]
        while made.count < 300 {
            let length = Int.random(in: 1...6, using: &random)
            let name = String((0..<length).map { _ in Array("ab/")[Int.random(in: 0...2, using: &random)] })
            made[name] = Int.random(in: 1...3, using: &random)
        }
        var found: [String: (queues: Int, ready: Int)] = [:]
        for (name, ready) in made where name.hasPrefix("a") && !name.hasSuffix("b") {
            let rest = name.dropFirst()
            let row = rest.firstIndex(of: "/").map { "a" + String(rest[...$0]) } ?? name
            let before = found[row] ?? (0, 0)
            found[row] = (before.queues + 1, before.ready + ready)
        }
        let (queues, expected, seed) = (made, found, random)
        try withBroker(maximumTasks: 100_000) { broker in
            var number: UInt64 = 0
            for (name, ready) in queues {
                for _ in 0..<ready {
                    number += 1
                    try broker.add(number, to: name)
                }
            }
            for order in [QueueOrder.name, .ready] {
                let grouping = QueueGroups.Grouping(
                    prefix: Array("a".utf8), delimiter: Array("/".utf8), order: order, hasTrends: true)
                let groups = QueueGroups(of: QueueListing(by: .name), by: grouping)
                while true {
                    var rest = steps
                    let isComplete = broker.extend(groups, now: 0, steps: &rest) { name, _ in !text(name).hasSuffix("b")
                    }
                    if isComplete { break }
                }
                let rows = (0..<groups.count).map { groups.withName(at: $0) { text($0) } }
                let sorted = expected.keys.sorted { one, other in
                    let (first, second) = (expected[one]?.ready ?? 0, expected[other]?.ready ?? 0)
                    return order == .ready && first != second
                        ? first > second : one.utf8.lexicographicallyPrecedes(other.utf8)
                }
                #expect(rows == sorted, "\(seed)")
                for (index, row) in rows.enumerated() {
                    #expect(groups.index(behind: groups.cursor(behind: index)) == index + 1)
                    let isGroup = row.dropFirst().contains("/")
                    let group = groups.group(at: index)
                    #expect(group?.queues == (isGroup ? expected[row]?.queues : nil), "\(row) \(seed)")
                    #expect(group?.ready == (isGroup ? expected[row]?.ready : nil), "\(row) \(seed)")
                }
                #expect(groups.leftOut == 0)
            }
        }
    }

    @Test func theDefaultsAreNoQueue() throws {
        try withBroker { broker in
            var defaults = QueueConfiguration()
            defaults.maximumRetries = 1
            try broker.setDefaults(defaults)
            _ = try broker.queue("q")
            let listing = try list(by: .name, steps: 100, of: broker)
            #expect(names(listing) == ["q"])
        }
    }

    /// Queues that come and go.
    private struct Churn {
        var random = SeededRandom()
        var coming: [(name: String, task: UInt64)] = []
        private var number: UInt64 = 0

        mutating func add(_ name: String, on broker: isolated Broker) throws {
            number += 1
            try broker.add(number, to: name, expires: .max / 2)
            coming.append((name, number))
        }

        mutating func name() -> String { "q\(UInt64.random(in: 0...99_999_999, using: &random))" }

        /// Adds some queues, and empties others.
        mutating func change(on broker: isolated Broker) throws {
            for _ in 0..<20 {
                if Bool.random(using: &random), let index = coming.indices.randomElement(using: &random) {
                    let isGone = broker.cancelTask(coming.remove(at: index).task)
                    #expect(isGone)
                } else {
                    try add(name() + "+", on: broker)
                }
            }
        }
    }

    /// Queues come and go between the slices of a list and between the pages.
    @Test func queuesThatStayAreSeenExactlyOnce() throws {
        try withBroker(maximumTasks: 100_000) { broker in
            var churn = Churn()
            var staying: Set<String> = []
            for index in 0..<500 {
                staying.insert("\(churn.name())-\(index)")
                for _ in 0..<2 { try churn.add("\(churn.name())*\(index)", on: broker) }
            }
            for (number, name) in staying.enumerated() {
                try broker.add(UInt64(1_000_000 + number), to: name, expires: .max / 2)
            }
            var seen: [String: Int] = [:]
            var cursor: QueueListing.Cursor?
            var hours: Int64 = 0
            while true {
                let listing = try list(by: .name, steps: 1500, of: broker) { try churn.change(on: $0) }
                let start = cursor.map { listing.index(behind: $0) } ?? 0
                let end = min(listing.count, start + 50)
                for index in start..<end { seen[listing.withName(at: index) { text($0) }, default: 0] += 1 }
                guard end < listing.count else { break }
                cursor = listing.cursor(behind: end - 1)
                try churn.change(on: broker)
                // Queues that were emptied two hours ago are forgotten.
                hours += 2
                broker.advanceFully(to: hours * 3_600_000)
            }
            #expect(seen.values.allSatisfy { $0 == 1 }, "\(churn.random)")
            #expect(staying.isSubset(of: seen.keys), "\(churn.random)")
        }
    }
}
