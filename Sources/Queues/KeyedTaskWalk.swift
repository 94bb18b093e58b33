// Looking for finished tasks by keys that they no longer hold: a walk through the table of tasks, a slice at a time.
//
// No index has such keys, so that tasks cost nothing for searches that hardly anybody makes. Of most tasks, the walk
// reads a few bytes. It goes by slot, not through lists, which change meanwhile, so it meets each task that stays as it
// is exactly once.

import Bytes
import UID

/// How far a walk through all finished tasks has come.
public struct KeyedTaskWalk: Sendable {
    fileprivate var next: Slot = 1

    /// Makes a walk that has not begun.
    public init() {}
}

/// A finished task that a walk has met.
public struct MetTask: Sendable {
    /// Which of the keys it has.
    public let keyIndex: Int
    /// Its id.
    public let id: UID
    /// When it became dead, done, cancelled or expired, in milliseconds since the Unix epoch.
    public let ended: Int64
}

extension Broker {
    private static var stepsPerKeyedTask: Int { 10 }
    private static var comparisonsPerStep: Int { 4 }

    /// Calls `body` with the next finished tasks that have one of some keys. It changes nothing. Between calls, the
    /// broker may change.
    ///
    /// - Parameters:
    ///   - walk: how far the walk has come; moved on.
    ///   - keys: the keys, which may be others in each call.
    ///   - now: the time.
    ///   - steps: how much to do at most; reduced by what was done. A step takes some 10 ns.
    ///   - body: receives each task, the name of its queue, and the steps, which it reduces by what it does.
    /// - Returns: whether the walk is over.
    public func continueWalk(
        _ walk: inout KeyedTaskWalk, for keys: [[UInt8]], now: Int64, steps: inout Int,
        _ body: (MetTask, Span<UInt8>, inout Int) -> Void
    ) -> Bool {
        let stepsPerKeyedTask = Self.stepsPerKeyedTask + keys.count / Self.comparisonsPerStep
        while walk.next < store.tasks.used {
            let slots = store.tasks.initializedSlots(from: walk.next)
            walk.next = slots.upperBound
            for slot in slots {
                guard steps > 0 else {
                    walk.next = slot
                    return false
                }
                steps -= 1
                guard store.tasks[slot].state.isFinished, let extras = store.extras(of: slot) else { continue }
                steps -= stepsPerKeyedTask
                for (index, key) in keys.enumerated() where key == extras.key && store.tasks[slot].until > now {
                    let met = MetTask(keyIndex: index, id: store.tasks[slot].id, ended: store.tasks[slot].expires)
                    let name = store.queues[store.tasks[slot].queue].name
                    body(met, name.span, &steps)
                }
            }
        }
        return true
    }
}
