// The table of records, without a broker.

import Support
import Testing
import UID

@testable import Queues

@Suite(.blocking) struct TableTests {
    private struct Record: TableRecord {
        var key: UInt32 = 0
        /// An object that the table must retain and release correctly.
        var value: [UInt32] = []
        var chained: Slot = 0
        /// Three keys share a hash.
        var hash: UInt32 { key / 3 &* 0x9E37_79B9 }
    }

    private func find(_ key: UInt32, in table: borrowing Table<Record>) -> Slot {
        table.find(hash: Record(key: key).hash) { $0.key == key }
    }

    @Test(arguments: 0..<4) func matchesADictionary(part: Int) throws {
        var random = Random(seed: Random.runSeed &+ UInt64(part))
        let comment: Comment = "EMQ_TEST_SEED=\(Random.runSeed), part \(part)"
        var table = Table<Record>(capacity: 500)
        var slots: [UInt32: Slot] = [:]
        for operation in 0..<20_000 {
            let key = UInt32(random.below(600))
            // The table grows for a while, then shrinks for a while.
            let grows = operation / 2000 % 2 == 0
            if let slot = slots[key] {
                try #require(find(key, in: table) == slot && table[slot].value == [key], comment)
                if !grows || random.oneIn(8) {
                    table.remove(slot)
                    slots[key] = nil
                }
            } else {
                try #require(find(key, in: table) == 0, comment)
                if grows || random.oneIn(8) {
                    let isFull = slots.count == 500
                    slots[key] = table.insert(Record(key: key, value: [key]))
                    try #require((slots[key] == nil) == isFull, comment)
                }
            }
            try #require(table.count == slots.count, comment)
            if operation % 50 == 0 { table.checkInvariants() }
        }
    }

    @Test func bucketsGrowAndShrinkWithTheRecords() {
        var table = Table<Record>(capacity: 5000)
        var slots: [Slot] = []
        for key in 0..<5000 {
            if let slot = table.insert(Record(key: UInt32(key))) { slots.append(slot) }
            #expect(table.bucketCount == key + 1)
        }
        for slot in slots { table.remove(slot) }
        #expect(table.bucketCount == 1)
        #expect(table.used == 1)
        table.checkInvariants()
    }

    @Test func memoryIsGivenBackAndCanBeUsedAgain() throws {
        var table = Table<TaskRecord>(capacity: 200_000)
        for round in 1...2 {
            var slots: [Slot] = []
            for number in 0..<100_000 {
                var record = TaskRecord()
                record.idHigh = UInt64(number * round) << 16
                let slot = table.insert(record)
                slots.append(try #require(slot))
            }
            table.checkInvariants()
            #expect(table.openedGroups <= 200)
            // The last record stays, and keeps only its own group.
            for slot in slots.dropLast() { table.remove(slot) }
            table.checkInvariants()
            #expect(table.openedGroups == 2)
            let last = try #require(slots.last)
            #expect(table.contains(last) && !table.contains(last - 1000))
            table.remove(last)
            #expect(table.openedGroups == 1 && table.used == 1)
            while !table.trim() {}
        }
    }

    /// New records use memory that is there already, and do not fill up groups that are about to become empty.
    @Test func memoryStaysWithinWhatRecordsNeed() throws {
        var table = Table<TaskRecord>(capacity: 200_000)
        var slots: [Slot] = []
        for number in 0..<200_000 {
            var record = TaskRecord()
            record.idHigh = UInt64(number) << 16
            let slot = table.insert(record)
            slots.append(try #require(slot))
            if slots.count > 10_000 { table.remove(slots.removeFirst()) }
            if number % 20_000 == 0 { table.checkInvariants() }
        }
        #expect(table.openedGroups <= 10_000 / 512 + 3)
    }

    /// Tasks per millisecond: few, as many as one connection at a time adds, and arrays of thousands.
    @Test(arguments: [1, 3, 150, 10_000]) func tasksOfAnyRateSpreadOverTheIndex(rate: Int) {
        var generator = UIDGenerator()
        var random = Random(seed: 1)
        let bucketCount = 1 << 16
        var counts = [Int](repeating: 0, count: bucketCount)
        for number in 0..<bucketCount {
            let id = generator.next(unixMilliseconds: UInt64(1_700_000_000_000 + number / rate), using: &random)
            counts[Int(TaskRecord.hash(of: id)) & (bucketCount - 1)] += 1
        }
        // With random numbers, the longest chain has 8 to 11 tasks, and 37 % of the buckets are empty.
        #expect(counts.reduce(0, max) <= 12)
        #expect(counts.count { $0 == 0 } < bucketCount * 45 / 100)
    }
}
