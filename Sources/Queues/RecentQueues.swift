// Where queues were found that requests name again and again.

/// Remembers the slots of queues by a part of their names, which is compared with less effort than the index of queues
/// needs for its hash. That hash protects against clients that choose names on purpose; such names only keep each other
/// out of here.
struct RecentQueues {
    private var slots = InlineArray<64, Slot>(repeating: 0)

    /// The slot of a queue that may have this name, or 0. O(1).
    subscript(_ name: Span<UInt8>) -> Slot {
        get { slots[Self.place(of: name)] }
        set { slots[Self.place(of: name)] = newValue }
    }

    /// Forgets a queue. O(places).
    mutating func forget(_ queue: Slot) {
        for place in slots.indices where slots[place] == queue { slots[place] = 0 }
    }

    /// Checks that each slot is that of a queue, whose name leads to it. For tests.
    func checkInvariants(in queues: borrowing Table<QueueRecord>) {
        var live: Set<Slot> = []
        queues.forEach { live.insert($0) }
        for place in slots.indices where slots[place] != 0 {
            precondition(live.contains(slots[place]), "a queue that is gone is found by its name")
            let name = queues[slots[place]].name
            precondition(Self.place(of: name.span) == place, "a queue is found by another's name")
        }
    }

    private static func place(of name: Span<UInt8>) -> Int {
        guard let last = name.indices.last else { return 0 }
        return (Int(name[0]) &* 7 ^ Int(name[last / 2]) &* 5 ^ Int(name[last]) &* 3 ^ name.count) & 63
    }
}
