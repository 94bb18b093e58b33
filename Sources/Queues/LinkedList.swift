// Linked lists through the records themselves: the queues' tasks, the timing wheel's buckets, the idle queues.

/// A record's place in a linked list.
struct Links {
    var next: Slot = 0
    var previous: Slot = 0
}

/// A record that can be in one linked list for each kind of links at a time.
protocol LinkedRecord: TableRecord, ~Copyable {
    /// The links of one kind; each type of record numbers its kinds.
    subscript(links kind: Int) -> Links { get set }
}

/// A doubly linked list through the records of a table, by the links of one kind. Every change is O(1).
struct LinkedList<Record: LinkedRecord & ~Copyable, let kind: Int> {
    /// The first record's slot, 0 if there is none.
    private(set) var first: Slot = 0
    private(set) var last: Slot = 0
    private(set) var count: UInt32 = 0

    var isEmpty: Bool { first == 0 }

    mutating func append(_ slot: Slot, in table: inout Table<Record>) {
        table[slot][links: kind] = Links(next: 0, previous: last)
        if last == 0 { first = slot } else { table[last][links: kind].next = slot }
        last = slot
        count += 1
    }

    mutating func prepend(_ slot: Slot, in table: inout Table<Record>) {
        table[slot][links: kind] = Links(next: first, previous: 0)
        if first == 0 { last = slot } else { table[first][links: kind].previous = slot }
        first = slot
        count += 1
    }

    mutating func remove(_ slot: Slot, in table: inout Table<Record>) {
        let links = table[slot][links: kind]
        if links.previous == 0 { first = links.next } else { table[links.previous][links: kind].next = links.next }
        if links.next == 0 { last = links.previous } else { table[links.next][links: kind].previous = links.previous }
        count -= 1
    }

    /// Calls `body` with each slot, in order, and checks the links and the count. O(n).
    func checkInvariants(in table: borrowing Table<Record>, _ body: (Slot) -> Void) {
        var (slot, previous, seen): (Slot, Slot, UInt32) = (first, 0, 0)
        while slot != 0 {
            seen += 1
            precondition(seen <= count, "a list is longer than its count")
            precondition(table[slot][links: kind].previous == previous, "the links of a list are broken")
            body(slot)
            previous = slot
            slot = table[slot][links: kind].next
        }
        precondition(previous == last && seen == count, "a list ends before its end")
    }
}
