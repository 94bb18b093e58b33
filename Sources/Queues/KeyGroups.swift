// Tasks whose keys begin alike. A key may have two parts with a NUL between them: the first names a group, and all tasks of a
// queue that hold keys of a group can be found. Who uses no such keys pays nothing for it.
//
// The tasks of a group are linked through their extras. The group has no name of its own: it is that of its first task.

/// The tasks of a queue that hold keys of one group, of which there is one at least.
struct KeyGroup: TableRecord {
    /// The first task.
    var first: Slot = 0
    private(set) var hash: UInt32 = 0
    var chained: Slot = 0

    init() {}

    init(hash: UInt32) { self.hash = hash }
}

extension TaskStore {
    /// The slot of the group of a name in a queue, 0 if no task is in it. O(bytes).
    func keyGroup(_ name: ArraySlice<UInt8>, of queue: Slot) -> Slot {
        keyGroup(name, of: queue, hash: TaskKey.hash(of: name, in: queue))
    }

    private func keyGroup(_ name: ArraySlice<UInt8>, of queue: Slot, hash: UInt32) -> Slot {
        keyGroups.find(hash: hash) { group in
            guard tasks[group.first].queue == queue, let extras = extras(of: group.first) else { return false }
            return TaskKey.group(of: extras.key) == name
        }
    }

    /// Enters a task that holds its key in the group that this names, if it names one. O(bytes).
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

    /// Takes a task out of its group, if it is in one. O(1).
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

    /// Checks that each task that holds a key of two parts is in the one group that this names. O(n).
    func checkKeyGroups() {
        keyGroups.checkInvariants()
        var members = 0
        keyGroups.forEach { group in
            var (slot, previous) = (keyGroups[group].first, Slot(0))
            precondition(slot != 0, "an empty key group was kept")
            let queue = tasks[slot].queue
            while slot != 0 {
                guard let extras = extras(of: slot), let name = TaskKey.group(of: extras.key) else {
                    preconditionFailure("a task without a group in one")
                }
                precondition(extras.keyGroup == group && extras.holdsKey, "a task in a key group that it does not know")
                precondition(keyGroup(name, of: queue) == group, "a key group is not found, or it is another one's")
                precondition(tasks[slot].queue == queue, "a key group of two queues")
                precondition(extras.keyGroupLinks.previous == previous, "a key group's links do not fit")
                members += 1
                precondition(members <= extrasTable.count, "a key group runs in a circle")
                (slot, previous) = (extras.keyGroupLinks.next, slot)
            }
        }
        extrasTable.forEach { place in
            guard let extras = extrasTable[place].extras else { return }
            let isGrouped = extras.holdsKey && TaskKey.group(of: extras.key) != nil
            precondition(isGrouped == (extras.keyGroup != 0), "a key group has a task too few or too many")
            members -= isGrouped ? 1 : 0
        }
        precondition(members == 0, "a task is missing in its key group")
    }
}
