// Random operations of every kind on the broker and on its full model. Everything that can be observed must agree.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct FullModelTests {
    /// Few of everything makes rare coincidences frequent. Everything is checked after every operation.
    @Test(arguments: 0..<8) func brokersMatchTheFullModel(part: Int) async throws {
        for life in 0..<max(1, testOperations / 200_000) {
            let seed = Random.runSeed &+ UInt64(part * 1000 + life)
            try run(seed: seed, operations: min(1500, max(200, testOperations / 100)))
            // Lets tests that share this thread go on.
            await Task.yield()
        }
    }

    /// Now and then, a broker restored from the journal replaces the broker. Some images were compacted meanwhile. Only
    /// the totals and the waiters are lost.
    @Test(arguments: 0..<8) func restoredBrokersMatchTheFullModel(part: Int) async throws {
        for life in 0..<max(1, testOperations / 200_000) {
            let seed = Random.runSeed &+ UInt64(part * 1000 + life + 500_000)
            try restartingRun(seed: seed, lives: min(12, max(3, testOperations / 10_000)))
            await Task.yield()
        }
    }

    private func restartingRun(seed: UInt64, lives: Int) throws {
        var random = Random(seed: seed)
        let start = FullRun.unit * Int64(random.below(1_000_000))
        var frames = Frames()
        // It passes from one broker's isolation to the next one's, all on this thread.
        nonisolated(unsafe) var run: FullRun?
        for life in 0..<lives {
            let now = run?.model.now ?? start
            let broker = Broker(
                executor: InlineExecutor(), firstToken: run?.model.nextToken ?? 7, now: now, maximumTasks: 100_000)
            try broker.assumeIsolated { broker in
                broker.beginSending()
                try frames.restore(into: broker, now: now)
                do {
                    if run == nil { run = try FullRun(random: random, now: start, on: broker) }
                    try run?.compare(with: broker)
                    for _ in 0..<random.below(100) {
                        try run?.step(on: broker)
                        try run?.compare(with: broker)
                        if random.oneIn(10) { frames.compact(broker, &random) }
                        if random.oneIn(2) { frames.write(from: broker) }
                    }
                    try run?.finish(on: broker)
                    frames.write(from: broker, limit: .max)
                } catch {
                    throw Mismatch(
                        description: "EMQ_TEST_SEED=\(Random.runSeed), trial \(seed), life \(life): \(error)")
                }
            }
        }
    }

    private func run(seed: UInt64, operations: Int) throws {
        var random = Random(seed: seed)
        let start = FullRun.unit * Int64(random.below(1_000_000))
        try withBroker(now: start, firstToken: 7, maximumTasks: 100_000) { [random] broker in
            broker.beginSending()
            var run = try FullRun(random: random, now: start, on: broker)
            for operation in 1...operations {
                do {
                    try run.step(on: broker)
                    try run.compare(with: broker)
                } catch {
                    throw Mismatch(
                        description: "EMQ_TEST_SEED=\(Random.runSeed), trial \(seed), operation \(operation): \(error)")
                }
            }
            run.log.cancelAll(on: broker)
        }
    }
}

/// A journal in memory.
private struct Frames {
    var payloads: [(sequence: UInt64, bytes: [UInt8])] = []

    mutating func write(from broker: isolated Broker, limit: Int = 300) {
        broker.writeChanges(limit: limit) { payloads.append(($1, Array(copying: $0))) }
        let needed = broker.oldestNeededSequence() ?? .max
        let last = payloads.last?.sequence
        payloads.removeAll { $0.sequence < needed && $0.sequence != last }
    }

    func compact(_ broker: isolated Broker, _ random: inout Random) {
        guard let last = payloads.last?.sequence else { return }
        broker.renewImages(byteCount: random.below(2000), before: (last + 1) - min(last, UInt64(random.below(5))))
    }

    func restore(into broker: isolated Broker, now: Int64) throws {
        broker.beginRestoring()
        for payload in payloads {
            try broker.restore(payload.bytes.span, sequence: payload.sequence)
        }
        while !broker.finishRestoring(
            nextSequence: (payloads.last?.sequence ?? 0) + 1, now: now, graceMilliseconds: 0, limit: 3)
        {}
        broker.checkInvariants()
    }
}
