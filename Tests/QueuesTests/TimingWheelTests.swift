// The timing wheel compared with a sorted array.

import Support
import Testing

@testable import Queues

@Suite(.blocking) struct TimingWheelTests {
    private struct Timer {
        var slot: Slot
        var deadline: Int64
        var armed: Int
    }

    private func addTask(expires: Int64, to tasks: inout Table<TaskRecord>) throws -> Slot {
        var record = TaskRecord()
        (record.until, record.expires, record.state) = (.max, expires, .ready)
        let slot = tasks.insert(record)
        return try #require(slot)
    }

    /// Arms, disarms and fires at random, with deadlines of all magnitudes and slices of all sizes.
    @Test(arguments: 0..<20) func firesInTheOrderOfDeadlinesAndThenOfArming(part: Int) throws {
        var random = Random(seed: Random.runSeed &+ UInt64(part))
        let comment: Comment = "EMQ_TEST_SEED=\(Random.runSeed), part \(part)"
        let start = random.anyLength(bits: 62)
        var tasks = Table<TaskRecord>(capacity: 100)
        var wheel = TimingWheel(now: start)
        var (time, armed) = (start, 0)
        var timers: [Timer] = []
        for _ in 0..<3000 {
            switch random.below(10) {
            case 0..<5 where timers.count < 40:
                armed += 1
                // Some times have passed, and some occur twice.
                let after = random.oneIn(10) ? -random.anyLength(bits: 10) : random.anyLength(bits: 62)
                let sum = wheel.now.addingReportingOverflow(after)
                let deadline = random.oneIn(4) ? timers.last?.deadline ?? .max : sum.overflow ? .max : sum.partialValue
                let slot = try addTask(expires: deadline, to: &tasks)
                wheel.arm(slot, in: &tasks)
                timers.append(Timer(slot: slot, deadline: max(deadline, wheel.now), armed: armed))
            case 5 where !timers.isEmpty:
                let timer = timers.remove(at: random.below(timers.count))
                wheel.disarm(timer.slot, in: &tasks)
                tasks.remove(timer.slot)
            default:
                let next = timers.map(\.deadline).min() ?? time
                let step = time.addingReportingOverflow(random.anyLength(bits: 62))
                time = max(time, random.oneIn(2) || step.overflow ? next : step.partialValue)
                var steps = random.oneIn(2) ? 1 + random.below(5) : 1000
                while case let slot = wheel.fire(upTo: time, steps: &steps, in: &tasks), slot != 0 {
                    let first = try #require(timers.min { ($0.deadline, $0.armed) < ($1.deadline, $1.armed) })
                    try #require(first.slot == slot && first.deadline <= time, comment)
                    timers.removeAll { $0.slot == slot }
                    tasks.remove(slot)
                }
                if steps > 0 { try #require(timers.allSatisfy { $0.deadline > time }, comment) }
            }
            try #require(wheel.checkInvariants(in: tasks) == timers.count, comment)
            try #require((wheel.nextDeadline == nil) == timers.isEmpty, comment)
            if let next = timers.map(\.deadline).min() { try #require(wheel.nextDeadline ?? .max <= next, comment) }
        }
    }

    @Test func aTimerMovesAtMostOncePerLevel() throws {
        var tasks = Table<TaskRecord>(capacity: 10)
        var wheel = TimingWheel(now: 0)
        let slot = try addTask(expires: .max, to: &tasks)
        wheel.arm(slot, in: &tasks)
        var steps = 1000
        let fired = wheel.fire(upTo: .max, steps: &steps, in: &tasks)
        #expect(fired == slot)
        #expect(1000 - steps == 11)
    }
}
