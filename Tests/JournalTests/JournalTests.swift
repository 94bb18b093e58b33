// A broker with a journal on a disk that crashes and fails. The broker comes back as it was after one of its frames,
// and no frame that was reported safe is missing.

import Foundation
import Queues
import Support
import Testing
import UID

@testable import Journal

@Suite(.blocking) struct JournalTests {
    /// The machine crashes at any operation, also during recovery, in several lives in a row.
    @Test(arguments: 0..<4) func bringsBackWhatWasSafe(part: Int) throws {
        let runs = max(1, testOperations / 40_000)
        for run in 0..<runs {
            let seed = SeededRandom.runSeed &+ UInt64(part * runs + run)
            try live(seed: seed, lives: 4, comment: "\(SeededRandom()), part \(part), run \(run)") { disk, random in
                disk.crashesAt =
                    random.below(5) == 0 ? .max : disk.operations + random.below(random.below(2) == 0 ? 30 : 150)
            }
        }
    }

    /// Writes and syncs fail at random, and the process ends or the machine crashes.
    @Test(arguments: 0..<2) func goesOnWhenTheDiskFails(part: Int) throws {
        let runs = max(1, testOperations / 80_000)
        for run in 0..<runs {
            let seed = SeededRandom.runSeed &+ UInt64(part * runs + run) &+ 1_000_000
            try live(seed: seed, lives: 4, comment: "\(SeededRandom()), part \(part), run \(run)") { disk, random in
                disk.dropsAfterFailedSync = random.below(4) == 0
                for _ in 0..<random.below(3) { disk.failures[disk.operations + random.below(80)] = .input }
                disk.crashesAt = random.below(2) == 0 ? .max : disk.operations + random.below(150)
            }
        }
    }

    /// The disk is full at times. The journal may then leave out changes that no client waits for, so this test makes
    /// none. If there was no space to record the removal of tasks, no response confirmed it: these tasks may be gone,
    /// or come back.
    @Test(arguments: 0..<2) func goesOnWhenTheDiskIsFull(part: Int) throws {
        let runs = max(1, testOperations / 80_000)
        for run in 0..<runs {
            let seed = SeededRandom.runSeed &+ UInt64(part * runs + run) &+ 2_000_000
            let comment: Comment = "\(SeededRandom()), part \(part), run \(run)"
            try live(seed: seed, lives: 4, givesOut: false, comment: comment) { disk, random in
                for _ in 0..<random.below(5) {
                    let first = disk.operations + random.below(80)
                    for operation in first..<first + 1 + random.below(8) { disk.failures[operation] = .space }
                }
                disk.crashesAt = random.below(2) == 0 ? .max : disk.operations + random.below(150)
            }
        }
    }

    /// Runs `body` in a broker with a journal of small segments on a disk that works.
    private func withJournal(_ body: (isolated Broker, Journal, (Int64) throws -> Void) throws -> Void) throws {
        let broker = Broker(executor: InlineExecutor(), firstToken: 1, now: 0)
        nonisolated(unsafe) let body = body
        try broker.assumeIsolated { broker in
            var configuration = LogConfiguration()
            configuration.segmentByteCount = 1 << 16
            let journal = Journal(
                try LogRecovery(disk: SimulatedDisk(seed: 1)), configuration, graceMilliseconds: 0,
                now: 0)
            while try !journal.recover(broker, now: 0) {}
            try body(broker, journal) { now in
                while !broker.advance(to: now) {}
                journal.endTurn(of: broker, now: now)
                // Waits until all is safe, so that no turn depends on the helper's speed.
                let deadline = Date(timeIntervalSinceNow: 120)
                try journal.collect()
                while !journal.isSettled(broker) {
                    try #require(Date() < deadline)
                    wait(for: journal)
                    try journal.collect()
                    journal.endTurn(of: broker, now: now)
                }
            }
        }
    }

    private func fill(_ count: Int, _ queue: String, at now: Int64, on broker: isolated Broker) throws {
        let (name, content) = (Array(queue.utf8), [UInt8](repeating: 49, count: 100))
        let index = try broker.queue(named: name.span)
        for number in 0..<count {
            let id = UID(high: UInt64(now) << 20 | UInt64(number + 1), low: UInt64(name[0]))
            try broker.enqueue(id: id, in: index, content: content.span, expiry: .never, now: now)
        }
    }

    @Test func spaceComesBackWhileLittleIsNeeded() throws {
        try withJournal { broker, journal, turn in
            var now: Int64 = 1
            // Every tenth task stays, spread over all segments.
            for _ in 0..<100 {
                try fill(9, "gone", at: now, on: broker)
                try fill(1, "stays", at: now, on: broker)
                try turn(now)
                let name = Array("gone".utf8)
                try broker.purge(broker.queue(named: name.span), now: now + 1) { _ in }
                try turn(now + 1)
                now += 10
            }
            for _ in 0..<200 {
                now += 10
                try turn(now)
            }
            let bytes = journal.byteCount
            #expect(bytes <= 2 * journal.liveByteCount + (2 << 16), "\(bytes) bytes for \(journal.liveByteCount)")
            #expect(broker.counts.tasks == 100)
        }
    }

    @Test func aDrainedJournalIsSmallAndQuiet() throws {
        try withJournal { broker, journal, turn in
            try fill(2000, "a", at: 1, on: broker)
            try turn(1)
            #expect(journal.byteCount > 5 << 16)
            let name = Array("a".utf8)
            try broker.purge(broker.queue(named: name.span), now: 2) { _ in }
            var now: Int64 = 2
            let deadline = Date(timeIntervalSinceNow: 120)
            while journal.byteCount > 1 << 16, Date() < deadline {
                try turn(now)
                wait(for: journal)
                now += 100
            }
            #expect(journal.byteCount <= 1 << 16)
        }
    }

    /// Images of queues are needed too, and are written again only as often as necessary.
    @Test func manyConfiguredQueuesLeaveTheDiskInPeace() throws {
        try withJournal { broker, _, turn in
            for number in 0..<2000 {
                let name = Array("queue \(number)".utf8)
                try broker.configure(broker.queue(named: name.span), QueueConfiguration())
            }
            var now: Int64 = 1
            for _ in 0..<300 {
                try turn(now)
                now += 100
            }
            let sequence = broker.lastFrameSequence
            for _ in 0..<300 {
                try turn(now)
                now += 100
            }
            #expect(broker.lastFrameSequence == sequence)
        }
    }

    /// When even the reserve is used up, changes that make room are accepted for ten seconds, and then refused until
    /// there is space.
    @Test func nobodyWaitsForEverForSpace() throws {
        let broker = Broker(executor: InlineExecutor(), firstToken: 1, now: 0)
        try broker.assumeIsolated { broker in
            let disk = SimulatedDisk(seed: 1)
            disk.capacity = 1 << 16
            var configuration = LogConfiguration()
            (configuration.segmentByteCount, configuration.retryMilliseconds) = (1 << 16, 1)
            let journal = Journal(
                try LogRecovery(disk: disk), configuration, graceMilliseconds: 0, now: 0)
            while try !journal.recover(broker, now: 0) {}
            func isRefused(_ broker: isolated Broker) -> Bool {
                if case .notNow = journal.admission(of: 100, makesRoom: true, on: broker) { true } else { false }
            }
            func turn(_ now: Int64, _ broker: isolated Broker) throws {
                try journal.collect()
                journal.endTurn(of: broker, now: now)
            }
            let deadline = Date(timeIntervalSinceNow: 120)
            while !journal.hasWaitingFrame {
                try #require(Date() < deadline)
                if journal.isSettled(broker) { try fill(100, "a", at: Int64(broker.counts.tasks + 1), on: broker) }
                try turn(1000, broker)
                wait(for: journal)
            }
            for now in [1000, 10_900] as [Int64] {
                try turn(now, broker)
                let isEarly = isRefused(broker)
                #expect(!isEarly)
            }
            try turn(11_100, broker)
            let isLate = isRefused(broker)
            #expect(isLate)
            #expect(!journal.hasStalled(now: 30_900) && journal.hasStalled(now: 31_100))
            disk.capacity = .max
            while !journal.isSettled(broker) {
                try #require(Date() < deadline)
                wait(for: journal)
                try turn(11_200, broker)
            }
            let isOver = isRefused(broker)
            #expect(!isOver && !journal.hasStalled(now: 100_000))
            try journal.close()
        }
    }

    private func live(
        seed: UInt64, lives: Int, givesOut: Bool = true, comment: Comment,
        trouble: (SimulatedDisk, inout SeededRandom) -> Void
    ) throws {
        let disk = SimulatedDisk(seed: seed)
        nonisolated(unsafe) var random = SeededRandom(seed: seed)
        nonisolated(unsafe) var history = History()
        nonisolated(unsafe) var work = Work(random: random, givesOut: givesOut)
        for life in 0..<lives {
            // The last life has no failures.
            if life < lives - 1 { trouble(disk, &random) }
            let broker = Broker(executor: InlineExecutor(), firstToken: random.next(), now: work.now)
            broker.assumeIsolated { broker in
                do throws(LogError) {
                    var configuration = LogConfiguration()
                    configuration.segmentByteCount = 4096
                    configuration.syncMode = random.below(4) == 0 ? .never : .always
                    let journal = Journal(
                        try LogRecovery(disk: disk), configuration, graceMilliseconds: 0,
                        now: work.now)
                    while try !journal.recover(broker, now: work.now) {}
                    broker.checkInvariants()
                    try? history.check(broker, work.now, comment)
                    history.syncs = configuration.syncMode == .always
                    for _ in 0..<random.below(60) {
                        work.turn(on: broker)
                        journal.endTurn(of: broker, now: work.now)
                        history.note(broker, work.now, hasSpace: journal.problem?.cause != .noSpace)
                        if random.below(3) == 0 { wait(for: journal) }
                        try journal.collect()
                        history.noteSafe(journal.safeSequence)
                    }
                    if random.below(3) == 0 {
                        while !journal.isSettled(broker) {
                            journal.endTurn(of: broker, now: work.now)
                            // Renewed images come in frames of their own.
                            history.note(broker, work.now, hasSpace: journal.problem?.cause != .noSpace)
                            wait(for: journal)
                            try journal.collect()
                        }
                        try journal.close()
                        history.noteSafe(journal.safeSequence)
                    }
                } catch {
                    // Only the failures that the test planned may occur. Writes that the file system dropped are damage
                    // unless each batch is synced: the log no longer has them in memory.
                    let isLost = error.cause == .damaged && disk.dropsAfterFailedSync && !history.syncs
                    guard disk.hasCrashed || error.cause == .failed || error.cause == .noSpace || isLost else {
                        Issue.record("\(comment), life \(life): \(error)")
                        return
                    }
                }
            }
            // The helper has ended together with the journal.
            if disk.hasCrashed || disk.dropsAfterFailedSync || random.below(2) == 0 {
                disk.restart()
                // After a crash, only synced frames are safe.
                if !history.syncs { history.safe = 0 }
            } else {
                disk.resume()
            }
        }
        let isRight = history.isRight
        try #require(isRight, "\(comment)\n\(history.story)")
    }

    private func wait(for journal: Journal) {
        var state = pollfd(fd: journal.descriptor, events: Int16(POLLIN), revents: 0)
        _ = poll(&state, 1, 20)
    }
}

/// The broker's state after each frame, and the last safe frame.
private struct History {
    var states: [UInt64: String] = [0: ""]
    /// The broker's last state, whether it was written or not.
    private var latest = ""
    private var hadNoSpace = false
    var safe: UInt64 = 0
    var syncs = true
    var isRight = true
    var story = ""

    /// The recovered state must be the state after one of the frames, and that frame must not precede the last safe
    /// one.
    mutating func check(_ broker: isolated Broker, _ now: Int64, _ comment: Comment) throws {
        let sequence = broker.lastFrameSequence
        let found = description(of: broker, now)
        if sequence < safe || states[sequence] != found && !lacksOnlyWhatWasGone(found, states[sequence]) {
            isRight = false
            story += "recovered frame \(sequence), \(safe) was safe, the last was \(states.keys.max() ?? 0)\n"
            tell(found, from: states[sequence] ?? "nothing known")
        }
        states = [sequence: found]
        latest = found
        hadNoSpace = false
        safe = min(safe, sequence)
    }

    /// Whether only those tasks are missing that had been removed when there was no space to record it.
    private func lacksOnlyWhatWasGone(_ found: String, _ expected: String?) -> Bool {
        guard hadNoSpace, let expected else { return false }
        let last = Set(latest.split(separator: "\n").compactMap { $0.split(separator: " ").dropFirst(2).first })
        return found.split(separator: "\n").difference(from: expected.split(separator: "\n")).allSatisfy { change in
            guard case .remove(_, let line, _) = change, let id = line.split(separator: " ").dropFirst(2).first else {
                return false
            }
            return !last.contains(id)
        }
    }

    private mutating func tell(_ found: String, from expected: String) {
        for change in found.split(separator: "\n").difference(from: expected.split(separator: "\n")) {
            story += "\(change)\n"
        }
    }

    mutating func note(_ broker: isolated Broker, _ now: Int64, hasSpace: Bool) {
        hadNoSpace = hadNoSpace || !hasSpace
        let (sequence, found) = (broker.lastFrameSequence, description(of: broker, now))
        latest = found
        // Changes that the log has no room for yet come with a later frame.
        if broker.pendingChangeBytes > 0 { return }
        if let known = states[sequence], known != found {
            isRight = false
            story += "changed without a frame after \(sequence)\n"
            tell(found, from: known)
        }
        states[sequence] = found
    }

    mutating func noteSafe(_ sequence: UInt64) { safe = max(safe, sequence) }

    /// All observable state.
    private func description(of broker: isolated Broker, _ now: Int64) -> String {
        var text = ""
        broker.forEachSetting { text += "setting of \($0) \($1.count) \($1[0])\n" }
        for name in Work.names {
            guard let queue = broker.existingQueue(named: name.span) else { continue }
            let configuration = broker.configuration(of: queue)
            let statistics = broker.statistics(of: queue)
            if statistics.isPaused { text += "\(name) paused since \(statistics.pausedSince ?? 0)\n" }
            if let configuration { text += "\(name) \(configuration)\n" }
            for state in TaskState.allCases {
                broker.peek(queue, state: state, limit: 1000, now: now) { task in
                    // Expired leases are extended.
                    let times: [Int64?] = [task.enqueued, task.dispatched, task.due, task.finished]
                    text += "\(name) \(state) \(task.id) \(task.attempt) \(task.retries) \(task.token) \(times) "
                    text += "\(task.priority) \(task.key) \(task.worker) \(task.error) \(task.progress) \(task.result) "
                    text += "\(task.content.count) \(task.metadata) \(task.trace)\n"
                }
            }
        }
        return text
    }
}

/// Random requests, several in each turn.
private struct Work {
    static let names = [Array("a".utf8), Array("b".utf8), Array("c".utf8)]

    var random: SeededRandom
    var now: Int64 = 1_000_000
    /// Whether tasks are dispatched and delayed.
    private let givesOut: Bool
    private var last: UInt64 = 0
    private var tasks: [UID] = []

    init(random: SeededRandom, givesOut: Bool) { (self.random, self.givesOut) = (random, givesOut) }

    mutating func turn(on broker: isolated Broker) {
        // After a long pause, a journal with little live data may start over with a small segment.
        now += random.below(20) == 0 ? 3000 : Int64(random.below(20))
        if random.below(3) > 0 { _ = broker.advance(to: now, limit: 1 + random.below(10)) }
        for _ in 0..<random.below(4) { request(on: broker) }
        // Purges and moves take several turns.
        _ = broker.advance(to: now, limit: 1 + random.below(5))
    }

    private mutating func request(on broker: isolated Broker) {
        let (name, otherName) = (Self.names[random.below(3)], Self.names[random.below(3)])
        guard let queue = try? broker.queue(named: name.span), let other = try? broker.queue(named: otherName.span)
        else { return }
        let some = TaskReference(id: tasks.randomElement(using: &random) ?? UID(high: 0, low: 0))
        switch random.below(21) {
        case 0..<5: enqueue(1 + random.below(4), in: queue, on: broker)
        case 5..<9 where givesOut:
            var taken: [TaskHandle?] = []
            _ = broker.takeAny([queue, other], limit: 1 + random.below(3), worker: [65], now: now, into: &taken)
        case 9..<12: _ = broker.ack(some, result: Array("1".utf8).span, now: now)
        case 12:
            let error: [UInt8] = [66]
            let actions: [NakAction] = [.failed, .failedPausing(milliseconds: 500), .dead, .release]
            _ = broker.nak(some, actions[random.below(4)], error: error.span, now: now)
        case 13:
            let progress: [UInt8] = [55]
            _ = broker.touch(some, leaseMilliseconds: 700, progress: progress.span, now: now)
        case 14: _ = broker.cancelTask(some.id, now: now)
        case 15: _ = broker.deleteRecord(some.id, now: now)
        case 16:
            var configuration = QueueConfiguration()
            configuration.keepMilliseconds = Int64(random.below(2)) * 100_000_000
            configuration.maximumRetries = random.below(2) == 0 ? nil : 3
            try? broker.configure(queue, random.below(3) == 0 ? nil : configuration)
        case 17: if random.below(2) == 0 { broker.pause(queue, now: now) } else { broker.resume(queue) }
        case 18:
            let value = [UInt8](repeating: UInt8(random.below(3)), count: 1 + random.below(300))
            try? broker.setSetting(name, to: random.below(3) == 0 ? nil : value)
        case 19: _ = try? broker.kick(queue, state: random.below(2) == 0 ? .dead : .delayed, now: now) { _ in }
        default:
            if random.below(3) == 0 {
                _ = try? broker.purge(queue, states: [.ready, .done], now: now) { _ in }
            } else {
                _ = try? broker.move(queue, to: other, state: .ready, limit: 3, now: now) { _ in }
            }
        }
    }

    private mutating func enqueue(_ count: Int, in queue: QueueIndex, on broker: isolated Broker) {
        var batch: [NewTask] = []
        var contents: [UInt8] = []
        for _ in 0..<count {
            last += 1
            let id = UID(high: last << 16, low: last)
            tasks.append(id)
            if tasks.count > 30 { tasks.removeFirst() }
            let start = contents.count
            contents += (0..<random.below(random.below(10) == 0 ? 600 : 60)).map { UInt8(truncatingIfNeeded: $0) }
            let options = TaskOptions()
            if random.below(4) == 0 { options.key = [UInt8(49 + random.below(3))] }
            options.onConflict = random.below(2) == 0 ? .keep : .replace
            if random.below(4) == 0 { options.metadata = Array("{}".utf8) }
            if random.below(4) == 0 {
                let requestID = [UInt8](repeating: UInt8(ascii: "a"), count: 1 + random.below(20))
                options.trace = TraceContext(requestID: requestID.span, traceparent: Span())
            }
            batch.append(
                NewTask(
                    id: id, content: start..<contents.count, leaseMilliseconds: 300,
                    due: givesOut && random.below(4) == 0 ? now + 200 : nil, expiry: .never,
                    priority: Int8(random.below(3)) - 1,
                    options: random.below(2) == 0 ? options : nil))
        }
        var results: [Enqueued] = []
        try? broker.enqueue(batch, contents: contents.span, in: queue, now: now, into: &results)
    }
}

/// Runs jobs where they are enqueued: there is only one thread.
final class InlineExecutor: SerialExecutor {
    func enqueue(_ job: consuming ExecutorJob) { job.runSynchronously(on: asUnownedSerialExecutor()) }
    func isIsolatingCurrentContext() -> Bool? { true }
    func checkIsolated() {}
}
