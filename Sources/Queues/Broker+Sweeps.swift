// Purges, kicks and moves under way, as callers see and stop them.

/// A purge, kick or move that is under way.
public struct SweepView: Sendable {
    /// What is done with the tasks.
    public enum Action: Sendable {
        /// They are deleted.
        case purge
        /// They become ready where they are.
        case kick
        /// They become ready in the queues where they died.
        case kickToOrigin
        /// They move to a queue with this name.
        case move(target: [UInt8])
    }

    /// A number that no other one of this broker has had.
    public let id: UInt64
    /// What is done.
    public let action: Action
    /// The name of the queue.
    public let queue: [UInt8]
    /// The states of the tasks.
    public let states: [TaskState]
    /// Which of these tasks; nil for all.
    public let filter: TaskFilter?
    /// When it began.
    public let begun: Int64
    /// How many tasks have been looked at, and how many of them were changed.
    public let examinedCount: Int
    /// How many tasks were changed.
    public let changedCount: Int
    /// How many tasks there were to look at when it began, or, after a restart, when it was resumed.
    public let totalCount: Int
}

/// How a purge, kick or move ended.
public struct SweepEnd: Sendable {
    /// Its id, which no other one gets.
    public let id: UInt64
    /// How many tasks it has changed.
    public let count: Int
    /// Whether somebody has stopped it before its end.
    public let isStopped: Bool
}

extension Broker {
    /// The purges, kicks and moves under way, in the order in which they are done. O(1), because there are few.
    public var sweeps: [SweepView] { store.sweeps.compactMap(view) }

    private func view(of sweep: Sweep) -> SweepView? {
        let action: SweepView.Action
        switch sweep.action {
        case .purge: action = .purge
        case .kick: action = .kick
        case .kickToOrigin: action = .kickToOrigin
        case .move(let target): action = .move(target: store.queues[target].name)
        case .wearOut, .giveToWorkers: return nil
        }
        return SweepView(
            id: sweep.id, action: action, queue: store.queues[sweep.queue].name, states: sweep.metStates,
            filter: sweep.filter, begun: sweep.begun, examinedCount: sweep.examinedCount, changedCount: sweep.count,
            totalCount: sweep.totalCount)
    }

    /// Stops a purge, kick or move. What it has done stays done, and its completion is called. O(1).
    ///
    /// - Returns: whether there was one with this id.
    public func stopSweep(_ id: UInt64) -> Bool {
        beginChange()
        guard let index = store.sweeps.firstIndex(where: { $0.id == id && view(of: $0) != nil }) else { return false }
        complete(store.endSweep(index), isStopped: true)
        return true
    }

    /// Calls the completion of a sweep that is over.
    func complete(_ sweep: Sweep, isStopped: Bool = false) {
        if sweep.count > 0 { operationCount += 1 }
        isCompleting = true
        sweep.completion(SweepEnd(id: sweep.id, count: sweep.count, isStopped: isStopped))
        isCompleting = false
    }
}
