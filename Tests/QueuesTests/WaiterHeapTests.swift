// The heap of waiters compared with a sorted array.

import Support
import Testing

@testable import Queues

@Suite(.blocking) struct WaiterHeapTests {
    @Test func theSmallestIsAlwaysFirst() throws {
        var random = Random(seed: Random.runSeed)
        let comment: Comment = "EMQ_TEST_SEED=\(Random.runSeed)"
        var heap = WaiterHeap<ByDeadline>()
        var waiters: [Waiter] = []
        for arrival in 0..<4000 {
            if waiters.count < 60 && random.below(5) < 3 {
                let waiter = Waiter(
                    .all { _ in }, deadline: Int64(random.below(30)), arrival: UInt64(arrival))
                heap.insert(waiter)
                waiters.append(waiter)
            } else if !waiters.isEmpty {
                let index = random.oneIn(2) ? 0 : random.below(waiters.count)
                heap.remove(waiters.remove(at: index))
            }
            waiters.sort { ($0.deadline, $0.arrival) < ($1.deadline, $1.arrival) }
            try #require(heap.first === waiters.first && heap.count == waiters.count, comment)
            heap.checkInvariants { _ in }
        }
    }
}
