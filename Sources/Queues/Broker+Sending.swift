// For whoever sends tasks: which queues have something to send, taking it, and saying what came of it.
//
// What says that it is to be sent, by itself or by its queue, is never given to workers. It is taken here, with a lease as
// a worker has one, and ended here: for acknowledgements by workers it is missing.

import UID

extension Broker {
    /// What `send` has found.
    public enum NextToSend {
        /// A task, which was dispatched.
        case task(DispatchKey)
        /// Nothing: `takeSendableQueues` tells when that may have changed.
        case nothing
        /// Nothing yet: the next task was put off, or so many tasks have just expired, or are not to be sent any more, that one
        /// call could not tell which it is.
        case notYet
    }

    /// The death of a task that could have said whom to tell.
    public struct DeadTask {
        /// The task. Its record may be gone, or be that of a dead letter by now.
        public let task: UID
        /// The queue where it died, to be used while it is told.
        public let queue: QueueIndex
    }

    /// Says that tasks will be sent: from now on it is noted what there is to send. To be called before there is any task.
    public func beginSending() {
        precondition(store.tasks.count == 0, "tasks are sent only if that is said at first")
        store.sending.isOn = true
    }

    /// Calls `body` with each queue in which there may be something to send since the last call, or since `send` found
    /// nothing there. O(queues).
    public func takeSendableQueues(_ body: (QueueIndex) -> Void) {
        let queues = store.sending.queues
        if queues.isEmpty { return }
        store.sending.queues = []
        for queue in queues { body(QueueIndex(slot: queue)) }
    }

    /// Dispatches the next task of a queue that is to be sent, if there is one. O(1), but for the priorities in use.
    ///
    /// - Parameters:
    ///   - queue: a queue that `takeSendableQueues` has told, as long as nothing else is found here.
    ///   - now: the time.
    ///   - leaseMilliseconds: is shown the task, as it is before, and says how long it may take to send it; nil puts it off.
    /// - Returns: what was found.
    public func send(
        from queue: QueueIndex, now: Int64, leaseMilliseconds: (borrowing TaskView) -> Int64?
    ) -> NextToSend {
        beginChange()
        var patience = TaskStore.patience
        let slot = store.firstToSend(in: queue.slot, now: now, patience: &patience)
        if slot == 0, patience == 0 { return .notYet }
        guard slot != 0 else {
            store.update(queue.slot) { $0.isSendable = false }
            return .nothing
        }
        guard let lease = view(slot, as: .ready, leaseMilliseconds) else { return .notYet }
        return .task(store.send(slot, leaseMilliseconds: max(1, lease), now: now))
    }

    /// A task has been sent, and that is all there was to do. O(1), and what those take who wait for its result.
    ///
    /// - Returns: whether it was still being sent by that dispatch.
    public func finishSending(_ key: DispatchKey, result: Span<UInt8>, now: Int64) -> Bool {
        beginChange()
        let slot = store.beingSent(key, now: now)
        guard slot != 0 else { return false }
        serveWaiters(of: store.finishSending(slot, result: result, now: now), now: now)
        return true
    }

    /// An attempt to send a task has failed. O(1).
    ///
    /// - Parameters:
    ///   - key: the dispatch.
    ///   - action: how it is given back.
    ///   - error: why, to be shown with the task.
    ///   - result: what came back; empty for nothing. It is kept only if it is wanted.
    ///   - now: the time.
    /// - Returns: what becomes of it.
    @discardableResult
    public func failSending(
        _ key: DispatchKey, _ action: NakAction, error: Span<UInt8>, result: Span<UInt8> = Span(), now: Int64
    ) -> NakOutcome {
        beginChange()
        let slot = store.beingSent(key, now: now)
        guard slot != 0 else { return .missing }
        var waitedFor: Slot = 0
        let outcome = store.failSending(slot, action, error: error, result: result, now: now, waitedFor: &waitedFor)
        serveWaiters(of: waitedFor, now: now)
        return outcome
    }

    /// Whether anybody wants to know the result of a task that is being sent: it is kept, or waited for. O(1).
    public func wantsResult(of key: DispatchKey) -> Bool {
        let slot = store.dispatched(key)
        return slot != 0 && store.wantsResult(of: slot)
    }

    /// Calls `body` with each dispatch that has ended since the last call without `finishSending` and `failSending`, while
    /// its task was being sent: that was cancelled, purged, has expired or took too long. O(n).
    public func takeEndedSends(_ body: (DispatchKey) -> Void) {
        let ended = store.sending.ended
        if ended.isEmpty { return }
        store.sending.ended = []
        for key in ended { body(key) }
    }

    /// Calls `body` with each task that has died since the last call and was to be sent, or whose queue says how tasks are,
    /// until it returns false: that one and the rest are left for the next call. `body` may add tasks. O(n).
    public func takeDeadTasks(while body: (DeadTask) -> Bool) {
        while store.sending.reportedDeadTasks < store.sending.deadTasks.count {
            let deadTask = store.sending.deadTasks[store.sending.reportedDeadTasks]
            guard body(DeadTask(task: deadTask.task, queue: QueueIndex(slot: deadTask.queue))) else { return }
            store.sending.reportedDeadTasks += 1
            store.update(deadTask.queue) { $0.unreportedDeadTasks -= 1 }
        }
        (store.sending.deadTasks, store.sending.reportedDeadTasks) = ([], 0)
    }

    /// Whether `takeDeadTasks` has left any.
    public var hasUnreportedDeadTasks: Bool { !store.sending.deadTasks.isEmpty }

    /// What a queue's configuration says of how tasks are sent; empty if nothing. O(1).
    public func push(of queue: QueueIndex) -> [UInt8] {
        store.queues[queue.slot].configuration?.own.push ?? []
    }

    /// The name of a queue. O(1).
    public func name(of queue: QueueIndex) -> [UInt8] {
        store.queues[queue.slot].name
    }
}
