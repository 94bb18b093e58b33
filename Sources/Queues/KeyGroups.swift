// Groups of keys (see `TaskKey`): all tasks of a queue that hold keys of a group can be found. Other keys cost nothing
// more.
//
// The tasks of a group are linked through their extras. The group's name is stored only in the keys of its tasks.

/// The tasks of a queue that hold keys of one group; there is at least one.
struct KeyGroup: TableRecord {
    /// The first task.
    var first: Slot = 0
    private(set) var hash: UInt32 = 0
    var chained: Slot = 0

    init() {}

    init(hash: UInt32) { self.hash = hash }
}

extension TaskStore {
    /// The slot of the group with a name in a queue, 0 if there is none. O(bytes).
    func keyGroup(_ name: ArraySlice<UInt8>, of queue: Slot) -> Slot {
        keyGroup(name, of: queue, hash: TaskKey.hash(of: name, in: queue))
    }

    private func keyGroup(_ name: ArraySlice<UInt8>, of queue: Slot, hash: UInt32) -> Slot {
        keyGroups.find(hash: hash) { group in
            guard tasks[group.first].queue == queue, let extras = extras(of: group.first) else { return false }
            return TaskKey.group(of: extras.key) == name
        }
    }

    /// Adds a task that holds its key to the key's group, if the key has one. O(bytes).
    mutating func enterKeyGroup(_ extras: TaskExtras) {
        guard let name = TaskKey.group(of: extras.key) else { return }
        let queue = tasks[extras.task].queue
        let hash = TaskKey.hash(of: name, in: queue)
        var group = keyGroup(name, of: queue, hash: hash)
        if group == 0 {
            // There is room for as many groups as for tasks.
            group = keyGroups.insert(KeyGroup(hash: hash)) ?? 0
            precondition(group != 0, "no room for key groups")
        }
        let next = keyGroups[group].first
        if next != 0 { self.extras(of: next)?.keyGroupLinks.previous = extras.task }
        extras.keyGroupLinks = Links(next: next, previous: 0)
        extras.keyGroup = group
        keyGroups[group].first = extras.task
    }

    /// Removes a task from its group, if it is in one. O(1).
    mutating func leaveKeyGroup(_ extras: TaskExtras) {
        let (group, links) = (extras.keyGroup, extras.keyGroupLinks)
        if group == 0 { return }
        extras.keyGroup = 0
        if links.next != 0 { self.extras(of: links.next)?.keyGroupLinks.previous = links.previous }
        if links.previous != 0 {
            self.extras(of: links.previous)?.keyGroupLinks.next = links.next
        } else if links.next != 0 {
            keyGroups[group].first = links.next
        } else {
            keyGroups.remove(group)
        }
    }

    /// Checks that each task that holds a key of a group is in that group and no other. O(n).
    func checkKeyGroups() {
        keyGroups.checkInvariants()
        var members = 0
        keyGroups.forEach { group in
            var (slot, previous) = (keyGroups[group].first, Slot(0))
            precondition(slot != 0, "an empty key group was kept")
            let queue = tasks[slot].queue
            while slot != 0 {
                guard let extras = extras(of: slot), let name = TaskKey.group(of: extras.key) else {
                    preconditionFailure("a task whose key has no group is in a group")
                }
                precondition(extras.keyGroup == group && extras.holdsKey, "a task does not know its key group")
                precondition(keyGroup(name, of: queue) == group, "a key group is not found under its name")
                precondition(tasks[slot].queue == queue, "a key group has tasks of two queues")
                precondition(extras.keyGroupLinks.previous == previous, "the links of a key group are broken")
                members += 1
                precondition(members <= extrasTable.count, "the links of a key group form a circle")
                (slot, previous) = (extras.keyGroupLinks.next, slot)
            }
        }
        extrasTable.forEach { place in
            guard let extras = extrasTable[place].extras else { return }
            let isGrouped = extras.holdsKey && TaskKey.group(of: extras.key) != nil
            precondition(isGrouped == (extras.keyGroup != 0), "a task is in a key group, or in none, against its key")
            members -= isGrouped ? 1 : 0
        }
        precondition(members == 0, "a task is missing from its key group")
    }
}
