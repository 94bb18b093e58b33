// Records that are found by their number at once and by their hash in one look-up, and that never move.
//
// The records stand in a slab: slots of one size, the vacant ones chained into a free list. The hash index is linear
// hashing (W. Litwin, "Linear hashing: a new tool for file and table addressing", VLDB 1980) with chains that run
// through the records: it grows by one bucket an insertion and shrinks by at most two a removal, so that no single
// operation pays for its growth.

/// The number of a record in its table. 0 is none.
typealias Slot = UInt32

/// A record that a `Table` can hold.
protocol TableRecord {
    /// A vacant record.
    init()
    /// What the record is looked up by; constant while it is in the table.
    var hash: UInt32 { get }
    /// The table's own link: to the next record of the same bucket, or to the next vacant slot.
    var chained: Slot { get set }
}

/// A slab of records with a hash index.
struct Table<Record: TableRecord>: ~Copyable {
    /// How many records it holds.
    private(set) var count = 0
    /// Slots 1..<`used` are initialized: with a record, or vacant.
    private(set) var used: Slot = 1
    private var firstVacant: Slot = 0
    private var records: Region<Record>
    private var heads: Region<Slot>
    private(set) var bucketCount = 1
    /// The index does not shrink below this.
    private var minimumBucketCount = 1
    /// `bucketCount` rounded up to a power of two, less one.
    private var mask = 0

    /// A table for up to `capacity` records.
    init(capacity: Int) {
        precondition(capacity > 0 && capacity < Int(UInt32.max))
        records = Region(capacity: capacity + 1)
        heads = Region(capacity: capacity)
        heads.use(1)
    }

    deinit {
        // Slot 0 was never initialized.
        unsafe (records.start + 1).deinitialize(count: Int(used) - 1)
    }

    /// How many records it can hold.
    var capacity: Int { min(records.capacity - 1, heads.capacity) }

    /// Whether the slot has been used, so that it may be looked at. It may be vacant.
    func contains(_ slot: Slot) -> Bool {
        slot > 0 && slot < used
    }

    /// The record in a slot. O(1).
    subscript(slot: Slot) -> Record {
        // Addresses and not coroutines (`_read`, `_modify`): those crash the compiler under the thread sanitizer.
        unsafeAddress {
            precondition(contains(slot), "no such slot")
            return unsafe UnsafePointer(records.start + Int(slot))
        }
        unsafeMutableAddress {
            precondition(contains(slot), "no such slot")
            return unsafe records.start + Int(slot)
        }
    }

    /// Adds a record. O(1).
    ///
    /// - Returns: its slot, or nil when the table is full.
    mutating func insert(_ record: Record) -> Slot? {
        let slot: Slot
        if firstVacant != 0 {
            slot = firstVacant
            firstVacant = self[slot].chained
            self[slot] = record
        } else {
            guard Int(used) <= capacity else { return nil }
            slot = used
            used += 1
            records.use(Int(used))
            unsafe (records.start + Int(slot)).initialize(to: record)
        }
        count += 1
        let bucket = bucket(of: record.hash)
        self[slot].chained = self[head: bucket]
        self[head: bucket] = slot
        if count > bucketCount { split() }
        return slot
    }

    /// Removes a record. O(1).
    mutating func remove(_ slot: Slot) {
        unchain(slot)
        self[slot] = Record()
        self[slot].chained = firstVacant
        firstVacant = slot
        count -= 1
        while bucketCount > max(minimumBucketCount, 2 * count) { merge() }
        if count == 0 {
            unsafe (records.start + 1).deinitialize(count: Int(used) - 1)
            used = 1
            firstVacant = 0
        }
    }

    /// The record with this hash for which `matches` says yes, 0 if there is none. O(1).
    @inline(__always)
    func find(hash: UInt32, where matches: (borrowing Record) -> Bool) -> Slot {
        var slot = self[head: bucket(of: hash)]
        while slot != 0 && !matches(self[slot]) { slot = self[slot].chained }
        return slot
    }

    /// Calls `body` with the slot of each record, in no particular order. O(n).
    func forEach(_ body: (Slot) -> Void) {
        for bucket in 0..<bucketCount {
            var slot = self[head: bucket]
            while slot != 0 {
                body(slot)
                slot = self[slot].chained
            }
        }
    }

    /// Gives memory that removals have left unused back to the system, a slice a call.
    ///
    /// Records give theirs back when the table has become empty: those that are left cannot be moved together.
    /// - Returns: whether nothing is left to give back.
    mutating func trim() -> Bool {
        let recordsDone = records.trim(keeping: Int(used))
        let headsDone = heads.trim(keeping: bucketCount)
        return recordsDone && headsDone
    }

    /// Makes the index of an empty table large enough for `count` records at once. O(1).
    mutating func reserve(_ count: Int) {
        precondition(self.count == 0 && bucketCount == 1, "reserves in a table that is in use")
        bucketCount = max(1, min(count, heads.capacity))
        minimumBucketCount = bucketCount
        mask = bucketCount == 1 ? 0 : (1 << (Int.bitWidth - (bucketCount - 1).leadingZeroBitCount)) - 1
        heads.use(bucketCount)
    }

    /// Lets the index shrink again to what its records need. O(`steps`).
    ///
    /// - Returns: whether it has.
    mutating func endReservation(steps: inout Int) -> Bool {
        minimumBucketCount = 1
        while bucketCount > max(1, 2 * count) {
            guard steps > 0 else { return false }
            steps -= 1
            merge()
        }
        return true
    }

    // MARK: Linear hashing

    private subscript(head bucket: Int) -> Slot {
        get {
            precondition(bucket < bucketCount)
            return unsafe heads.start[bucket]
        }
        set {
            precondition(bucket < bucketCount)
            unsafe heads.start[bucket] = newValue
        }
    }

    private func bucket(of hash: UInt32) -> Int {
        let bucket = Int(hash) & mask
        return bucket < bucketCount ? bucket : bucket & (mask >> 1)
    }

    private mutating func unchain(_ slot: Slot) {
        let bucket = bucket(of: self[slot].hash)
        let next = self[slot].chained
        var before = self[head: bucket]
        if before == slot {
            self[head: bucket] = next
            return
        }
        while self[before].chained != slot { before = self[before].chained }
        self[before].chained = next
    }

    /// Adds a bucket and moves there what belongs to it.
    private mutating func split() {
        let new = bucketCount
        guard new < heads.capacity else { return }
        bucketCount += 1
        heads.use(bucketCount)
        if new > mask { mask = 2 * mask + 1 }
        let old = new & (mask >> 1)
        var slot = self[head: old]
        self[head: old] = 0
        self[head: new] = 0
        while slot != 0 {
            let next = self[slot].chained
            let bucket = bucket(of: self[slot].hash)
            self[slot].chained = self[head: bucket]
            self[head: bucket] = slot
            slot = next
        }
    }

    /// Removes the last bucket and puts what it held where it was before the split.
    private mutating func merge() {
        let last = bucketCount - 1
        let buddy = last & (mask >> 1)
        var slot = self[head: last]
        while slot != 0 {
            let next = self[slot].chained
            self[slot].chained = self[head: buddy]
            self[head: buddy] = slot
            slot = next
        }
        bucketCount = last
        if last == (mask >> 1) + 1 { mask >>= 1 }
    }

    // MARK: Checks

    /// Checks that every record is found in its bucket, that no slot is lost, and that the load is in its bounds. O(n).
    func checkInvariants() {
        precondition(mask + 1 >= bucketCount && (bucketCount == 1 || mask + 1 < 2 * bucketCount), "mask and buckets")
        precondition(bucketCount >= count || bucketCount == heads.capacity, "too few buckets")
        precondition(bucketCount <= max(1, 2 * count), "too many buckets")
        var seen = 0
        for bucket in 0..<bucketCount {
            var slot = self[head: bucket]
            while slot != 0 {
                precondition(self.bucket(of: self[slot].hash) == bucket, "a record in another's bucket")
                seen += 1
                precondition(seen <= count, "a chain runs in a circle")
                slot = self[slot].chained
            }
        }
        precondition(seen == count, "a record is in no chain")
        var vacant = firstVacant
        while vacant != 0 {
            seen += 1
            precondition(seen < used, "the free list runs in a circle")
            vacant = self[vacant].chained
        }
        precondition(seen == used - 1, "a slot is neither used nor vacant")
    }
}
