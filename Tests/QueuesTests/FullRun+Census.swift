// A census of the tasks agrees with the full model, whatever its slices are.

import Testing
import UID

@testable import Queues

/// What a census tells of a group of tasks, and what the model expects.
private struct Group: Hashable, Comparable, CustomStringConvertible {
    var queue: String
    /// The error or the worker.
    var text: String
    var count: Int
    var first: Int64
    var last: Int64
    var tasks: [Int64] = []

    var description: String { "\(queue) '\(text)' \(count) \(first) \(last) \(tasks)" }

    static func < (one: Group, other: Group) -> Bool { (one.queue, one.text) < (other.queue, other.text) }
}

extension FullRun {
    func compareCensus(with broker: isolated Broker, slice: Int) throws {
        let census = TaskCensus()
        var steps = slice
        while !broker.extend(census, now: model.now, steps: &steps) { steps = slice }
        let now = model.now
        let dead = model.tasks.filter { !$0.isHidden && $0.state == .dead && $0.until > now }
        let groups = census.groups.map {
            Group(
                queue: text($0.queue.span), text: text($0.error.span), count: $0.count, first: $0.first, last: $0.last)
        }
        let expectedGroups = Dictionary(grouping: dead) { [String($0.queue), $0.error] }.map { key, tasks in
            let times = tasks.compactMap(\.finished)
            return Group(
                queue: key[0], text: key[1], count: tasks.count, first: times.min() ?? 0, last: times.max() ?? 0)
        }
        guard groups.sorted() == expectedGroups.sorted() else {
            throw Mismatch(description: "errors: got \(groups), expected \(expectedGroups)")
        }
        for group in census.groups {
            let example = dead.first { UID(high: $0.number, low: $0.number % 8) == group.example }
            guard example?.error == text(group.error.span), example?.finished == group.last else {
                throw Mismatch(description: "\(group.example) is no example of \(group)")
            }
        }
        let held = model.tasks.filter {
            $0.isUnfinished && $0.state == .dispatched && !$0.isPushed && $0.deadline > now
        }
        let holdings = census.holdings.map { holding in
            Group(
                queue: text(holding.queue.span), text: text(holding.worker.span), count: holding.count, first: 0,
                last: 0, tasks: holding.tasks.map(\.leaseEnd).sorted())
        }
        let expectedHoldings = Dictionary(grouping: held) { [String($0.queue), $0.worker] }.map { key, tasks in
            Group(
                queue: key[0], text: key[1], count: tasks.count, first: 0, last: 0,
                tasks: key[1].isEmpty ? [] : tasks.map(\.until).sorted())
        }
        let areFew = held.count <= TaskCensus.maximumDetails
        guard !areFew || holdings.sorted() == expectedHoldings.sorted() else {
            throw Mismatch(description: "held: got \(holdings), expected \(expectedHoldings)")
        }
        let waiters = model.waiters.filter { if case .result = $0.goal { false } else { true } }
        let waiting = Dictionary(
            uniqueKeysWithValues: census.workers.filter { $0.waitCount > 0 }.map { (text($0.name.span), $0.waitCount) })
        var expectedWaiting = Dictionary(grouping: waiters, by: \.worker).mapValues(\.count)
        let unnamed = expectedWaiting.removeValue(forKey: "") ?? 0
        guard waiting == expectedWaiting, unnamed == census.otherWaitCount else {
            throw Mismatch(description: "waiting: got \(waiting), expected \(expectedWaiting)")
        }
    }
}
