// Records that never move: they are found by number at once, and by hash in one look-up.
//
// The records are in a slab of slots of one size, in groups of 512 neighbours. A group chains its vacant slots; when
// its last record is removed, it returns its memory to the system. New records go to the group that has had vacant
// slots for the longest time, so that a group whose records are leaving is not filled again. The index is a linear hash
// table (W. Litwin, "Linear hashing: a new tool for file and table addressing", VLDB 1980) with chains through the
// records. It grows by one bucket per insertion and shrinks by at most two per removal, so no single operation pays for
// its growth.

import Bytes

/// The number of a record in its table; 0 means none.
typealias Slot = UInt32

/// A record that a `Table` can hold.
protocol TableRecord: ~Copyable {
    /// Makes a vacant record.
    init()
    /// The hash that the record is looked up by; constant while it is in the table.
    var hash: UInt32 { get }
    /// Used by the table: links to the next record of the same bucket, or to the next vacant slot.
    var chained: Slot { get set }
}

/// A slab of records with a hash index.
struct Table<Record: TableRecord & ~Copyable>: ~Copyable {
    private static var groupShift: Int { 9 }
    private static var groupSlots: Int { 1 << groupShift }

    /// A group of 512 neighbouring slots. Links to groups are their numbers plus 1; 0 means none.
    struct Group {
        var firstVacant: Slot = 0
        var next: UInt32 = 0
        var previous: UInt32 = 0
        /// The number of records in it.
        var count: UInt16 = 0
        /// How many of its slots, from the first one, are initialized, with a record or vacant. 0 if it has no memory.
        var used: UInt16 = 0
    }

    struct GroupList {
        var first: UInt32 = 0
        var last: UInt32 = 0
    }

    private let pin = Pin()
    /// The most records it can hold.
    let capacity: Int
    /// The number of records.
    private(set) var count = 0
    /// No slot at or beyond this one is initialized.
    private(set) var used: Slot = 1
    private var records: Region<Record>
    private var groups: Region<Group>
    private var groupCount = 0
    /// The groups with vacant slots: those with memory, and those without.
    private var open: GroupList { lists[Self.openList] }
    private var lists = InlineArray<2, GroupList>(repeating: GroupList())
    private static var openList: Int { 0 }
    private static var emptyList: Int { 1 }
    /// How many groups have memory.
    private(set) var openedGroups = 0
    private var heads: Region<Slot>
    private(set) var bucketCount = 1
    /// The least number of buckets.
    private var minimumBucketCount = 1
    /// `bucketCount` rounded up to a power of two, minus 1.
    private var mask = 0

    /// Makes a table for up to `capacity` records.
    init(capacity: Int) {
        precondition(capacity > 0 && capacity < Int(UInt32.max))
        records = Region(capacity: capacity + 1)
        groups = Region(capacity: (records.capacity - 1) >> Self.groupShift + 1)
        heads = Region(capacity: capacity)
        heads.use(1)
        self.capacity = min(records.capacity - 1, heads.capacity, groups.capacity << Self.groupShift - 1)
    }

    deinit {
        for group in 0..<groupCount { deinitializeSlots(of: group) }
    }

    /// Whether the slot is initialized, so that it may be read. It may be vacant.
    func contains(_ slot: Slot) -> Bool {
        slot > 0 && slot < used && Int(slot) & (Self.groupSlots - 1) < self[group: Int(slot) >> Self.groupShift].used
    }

    /// The first initialized slots from `slot` on, which are neighbours in one group; empty if there are none. O(groups
    /// without memory in between).
    func initializedSlots(from slot: Slot) -> Range<Slot> {
        var slot = slot
        while slot < used {
            let group = Int(slot) >> Self.groupShift
            let start = group << Self.groupShift
            let end = Slot(start + Int(self[group: group].used))
            if slot < end { return slot..<end }
            slot = Slot(start + Self.groupSlots)
        }
        return used..<used
    }

    /// The record in a slot. O(1).
    subscript(slot: Slot) -> Record {
        // Addressors, because coroutines (`_read`, `_modify`) crash the compiler under the thread sanitizer.
        unsafeAddress {
            precondition(slot > 0 && slot < used, "no such slot")
            return unsafe UnsafePointer(records.start + Int(slot))
        }
        unsafeMutableAddress {
            precondition(slot > 0 && slot < used, "no such slot")
            return unsafe records.start + Int(slot)
        }
    }

    /// Adds a record. O(1).
    ///
    /// - Returns: the record's slot; nil if the table is full.
    mutating func insert(_ record: consuming Record) -> Slot? {
        let hash = record.hash
        guard count < capacity else { return nil }
        if open.first == 0 { openGroup() }
        let group = Int(open.first) - 1
        let slot: Slot
        if self[group: group].firstVacant != 0 {
            slot = self[group: group].firstVacant
            self[group: group].firstVacant = self[slot].chained
            self[slot] = record
        } else {
            slot = Slot(group << Self.groupShift) + Slot(self[group: group].used)
            self[group: group].used += 1
            used = max(used, slot + 1)
            unsafe (records.start + Int(slot)).initialize(to: record)
        }
        self[group: group].count += 1
        count += 1
        if isFull(group) { remove(group, from: Self.openList) }
        let bucket = bucket(of: hash)
        self[slot].chained = self[head: bucket]
        self[head: bucket] = slot
        if count > bucketCount { split() }
        return slot
    }

    /// Removes a record. O(1).
    ///
    /// - Returns: the slots whose memory was returned because all of them are vacant.
    @discardableResult
    mutating func remove(_ slot: Slot) -> Range<Slot>? {
        unchain(slot)
        let group = Int(slot) >> Self.groupShift
        let wasFull = isFull(group)
        self[slot] = Record()
        self[slot].chained = self[group: group].firstVacant
        self[group: group].firstVacant = slot
        self[group: group].count -= 1
        count -= 1
        while bucketCount > max(minimumBucketCount, 2 * count) { merge() }
        if wasFull { append(group, to: Self.openList) }
        return self[group: group].count == 0 ? vacate(group) : nil
    }

    /// The record with this hash for which `matches` returns true, 0 if there is none. O(1).
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

    /// Returns unused memory of the index to the system, one slice per call. The memory of records is returned when a
    /// group has become empty; records cannot be moved together.
    ///
    /// - Returns: whether nothing is left to return.
    mutating func trim() -> Bool {
        let first = Int(open.first) - 1
        if first > 0, self[group: first].count == 0 { vacate(first) }
        return heads.trim(keeping: bucketCount)
    }

    /// Makes the index of an empty table large enough for `count` records at once. O(1).
    mutating func reserve(_ count: Int) {
        precondition(self.count == 0 && bucketCount == 1, "the table is in use")
        bucketCount = max(1, min(count, heads.capacity))
        minimumBucketCount = bucketCount
        mask = bucketCount == 1 ? 0 : (1 << (Int.bitWidth - (bucketCount - 1).leadingZeroBitCount)) - 1
        heads.use(bucketCount)
    }

    /// Lets the index shrink to the size that its records need. O(`steps`).
    ///
    /// - Returns: whether it has that size.
    mutating func endReservation(steps: inout Int) -> Bool {
        minimumBucketCount = 1
        while bucketCount > max(1, 2 * count) {
            guard steps > 0 else { return false }
            steps -= 1
            merge()
        }
        return true
    }

    // MARK: Groups

    private subscript(group number: Int) -> Group {
        unsafeAddress {
            precondition(number >= 0 && number < groupCount, "no such group")
            return unsafe UnsafePointer(groups.start + number)
        }
        unsafeMutableAddress {
            precondition(number >= 0 && number < groupCount, "no such group")
            return unsafe groups.start + number
        }
    }

    @inline(__always)
    private func isFull(_ group: Int) -> Bool {
        self[group: group].firstVacant == 0 && Int(self[group: group].used) == size(of: group)
    }

    /// The number of slots in a group; the last group may have fewer than 512.
    @inline(__always)
    private func size(of group: Int) -> Int { min(Self.groupSlots, capacity + 1 - group << Self.groupShift) }

    /// Makes a group without memory the only one with vacant slots.
    private mutating func openGroup() {
        var group = Int(lists[Self.emptyList].first) - 1
        if group < 0 {
            group = groupCount
            groupCount += 1
            self[group: group] = Group()
        } else {
            remove(group, from: Self.emptyList)
        }
        // There is no slot 0.
        self[group: group].used = group == 0 ? 1 : 0
        append(group, to: Self.openList)
        openedGroups += 1
    }

    /// Returns the memory of a group without records, unless it is the first group, or the only one with vacant slots.
    @discardableResult
    private mutating func vacate(_ group: Int) -> Range<Slot>? {
        deinitializeSlots(of: group)
        self[group: group].firstVacant = 0
        self[group: group].used = group == 0 ? 1 : 0
        let isKept = group == 0 || open.first == open.last
        let start = group << Self.groupShift
        if !isKept {
            remove(group, from: Self.openList)
            append(group, to: Self.emptyList)
            openedGroups -= 1
            records.giveBack(start..<start + size(of: group))
        }
        shrink()
        return isKept ? nil : Slot(start)..<Slot(start + size(of: group))
    }

    /// Forgets the groups without memory at the end.
    private mutating func shrink() {
        while groupCount > 1, self[group: groupCount - 1].used == 0, Int(open.first) != groupCount {
            remove(groupCount - 1, from: Self.emptyList)
            groupCount -= 1
        }
        used = Slot((groupCount - 1) << Self.groupShift + max(Int(self[group: groupCount - 1].used), 1))
    }

    private func deinitializeSlots(of group: Int) {
        let start = group << Self.groupShift
        let first = max(1, start)
        unsafe (records.start + first).deinitialize(count: start + Int(self[group: group].used) - first)
    }

    private mutating func append(_ group: Int, to list: Int) {
        let last = lists[list].last
        self[group: group].previous = last
        self[group: group].next = 0
        let link = UInt32(group + 1)
        lists[list].last = link
        if last == 0 { lists[list].first = link } else { self[group: Int(last) - 1].next = link }
    }

    private mutating func remove(_ group: Int, from list: Int) {
        let (previous, next) = (self[group: group].previous, self[group: group].next)
        if previous == 0 { lists[list].first = next } else { self[group: Int(previous) - 1].next = next }
        if next == 0 { lists[list].last = previous } else { self[group: Int(next) - 1].previous = previous }
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

    /// Adds a bucket, and moves the records that belong to it.
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

    /// Removes the last bucket, and moves its records back to the bucket that was split for it.
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

    /// Checks that every record is in its bucket, that no slot is lost, and that the load is within its bounds. O(n).
    func checkInvariants() {
        precondition(mask + 1 >= bucketCount && (bucketCount == 1 || mask + 1 < 2 * bucketCount), "mask and buckets")
        precondition(bucketCount >= count || bucketCount == heads.capacity, "too few buckets")
        precondition(bucketCount <= max(1, 2 * count), "too many buckets")
        var seen = 0
        for bucket in 0..<bucketCount {
            var slot = self[head: bucket]
            while slot != 0 {
                precondition(self.bucket(of: self[slot].hash) == bucket, "a record is in the wrong bucket")
                seen += 1
                precondition(seen <= count, "a chain forms a circle")
                slot = self[slot].chained
            }
        }
        precondition(seen == count, "a record is in no chain")
        checkGroups()
    }

    private func checkGroups() {
        var (records, opened, withVacancies) = (0, 0, 0)
        for group in 0..<groupCount {
            let (members, used) = (Int(self[group: group].count), Int(self[group: group].used))
            var (vacant, vacancies) = (self[group: group].firstVacant, 0)
            while vacant != 0 {
                vacancies += 1
                precondition(Int(vacant) >> Self.groupShift == group && vacancies < used + 1, "a free list goes astray")
                vacant = self[vacant].chained
            }
            precondition(members + vacancies + (group == 0 ? 1 : 0) == used, "a slot is neither used nor vacant")
            records += members
            withVacancies += isFull(group) ? 0 : 1
        }
        precondition(records == count, "a group counts its records wrong")
        for list in lists.indices {
            var group = Int(lists[list].first) - 1
            while group >= 0 {
                precondition(!isFull(group), "a full group is listed")
                withVacancies -= 1
                precondition(withVacancies >= 0, "a list of groups forms a circle")
                group = Int(self[group: group].next) - 1
            }
        }
        precondition(withVacancies == 0, "a group is in no list")
        var group = Int(lists[Self.emptyList].first) - 1
        while group >= 0 {
            precondition(self[group: group].used == 0, "a group without memory is in use")
            opened += 1
            group = Int(self[group: group].next) - 1
        }
        precondition(openedGroups == groupCount - opened, "opened groups are miscounted")
    }
}
