// Tasks whose keys begin alike. A key may have two parts with a NUL between them: the first names a group, and all tasks of a
// queue that hold keys of a group can be found. Who uses no such keys pays nothing for it.

/// Which tasks hold keys of which groups.
struct KeyGroups {
    /// A group's name: the queue, and what stands before the NUL.
    struct Name: Hashable {
        let queue: Slot
        let text: [UInt8]
    }

    private var members: [Name: Set<Slot>] = [:]
    private var memberCount = 0

    /// The heap's bytes that it takes, near enough.
    var byteCount: Int { memberCount * 128 }

    subscript(name: Name) -> Set<Slot> { members[name] ?? [] }

    mutating func insert(_ slot: Slot, into name: Name) {
        guard members[name, default: []].insert(slot).inserted else { return }
        memberCount += 1
    }

    mutating func remove(_ slot: Slot, from name: Name) {
        guard members[name]?.remove(slot) != nil else { return }
        memberCount -= 1
        if members[name]?.isEmpty == true { members[name] = nil }
    }

    /// Checks that each member is one of its group, by its own account.
    func checkInvariants(_ group: (Slot) -> Name?) {
        precondition(members.values.reduce(0) { $0 + $1.count } == memberCount, "members of key groups are miscounted")
        for (name, slots) in members {
            precondition(!slots.isEmpty, "an empty key group was kept")
            for slot in slots { precondition(group(slot) == name, "a task in another key group than its own") }
        }
    }
}

extension TaskStore {
    /// Enters a task that holds its key in the group that this names.
    mutating func enterKeyGroup(_ those: TaskExtras) {
        guard let end = those.key.firstIndex(of: 0) else { return }
        let name = KeyGroups.Name(queue: tasks[those.task].queue, text: Array(those.key[..<end]))
        keyGroups.insert(those.task, into: name)
        those.keyGroup = name
    }

    mutating func leaveKeyGroup(_ those: TaskExtras) {
        guard let name = those.keyGroup else { return }
        keyGroups.remove(those.task, from: name)
        those.keyGroup = nil
    }
}
