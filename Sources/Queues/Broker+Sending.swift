// The interface for push: finding queues with tasks to send, dispatching these tasks, and reporting the outcome.
//
// Workers never get a task that push sends, whether for its own request or for its queue's push options. It is
// dispatched here, with a lease like a worker's, and ended here: acknowledgements by workers do not find it.

import UID

extension Broker {
    /// What `send` found.
    public enum NextToSend {
        /// A task, which was dispatched.
        case task(DispatchKey)
        /// No task; `takeSendableQueues` reports the queue again when that may have changed.
        case nothing
        /// No task yet: the next one was put off, or so many tasks have expired or must no longer be sent that one call
        /// could not find the next.
        case notYet
    }

    /// A task that has died and may have a dead-letter notification.
    public struct DeadTask {
        /// The task. Its record may be gone, or may be that of a dead letter.
        public let task: UID
        /// The queue where it died; valid during the call that reports it.
        public let queue: QueueIndex
    }

    /// Makes the broker keep track of tasks to send. Call this before there is any task.
    public func beginSending() {
        precondition(store.tasks.count == 0, "tasks are sent only if that is said at first")
        store.sending.isOn = true
    }

    /// Calls `body` with each queue that has got tasks to send since the last call, or since `send` found nothing
    /// there. O(queues).
    public func takeSendableQueues(_ body: (QueueIndex) -> Void) {
        let queues = store.sending.queues
        if queues.isEmpty { return }
        store.sending.queues = []
        for queue in queues { body(QueueIndex(slot: queue)) }
    }

    /// Dispatches the next task of a queue that is to be sent, if there is one. O(1), but for the priorities in use.
    ///
    /// - Parameters:
    ///   - queue: a queue that `takeSendableQueues` reported, until this method returns `.nothing` for it.
    ///   - now: the time.
    ///   - leaseMilliseconds: receives the task before its dispatch, and returns the lease for sending it; nil puts the
    ///     task off.
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

    /// Ends a task that was sent with success. O(1), and the cost of the waits for its result.
    ///
    /// - Returns: whether the task was still being sent by that dispatch.
    public func finishSending(_ key: DispatchKey, result: Span<UInt8>, now: Int64) -> Bool {
        beginChange()
        let slot = store.beingSent(key, now: now)
        guard slot != 0 else { return false }
        serveWaiters(of: store.finishSending(slot, result: result, now: now), now: now)
        return true
    }

    /// Gives back a task after a failed attempt to send it. O(1).
    ///
    /// - Parameters:
    ///   - key: the dispatch.
    ///   - action: how the task is given back.
    ///   - error: the reason, to be shown with the task.
    ///   - result: the response; empty for none. It is kept only if it is wanted.
    ///   - now: the time.
    /// - Returns: what becomes of the task.
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

    /// Whether the result of a task that is being sent will be kept, or is waited for. O(1).
    public func wantsResult(of key: DispatchKey) -> Bool {
        let slot = store.dispatched(key)
        return slot != 0 && store.wantsResult(of: slot)
    }

    /// Calls `body` with each dispatch that has ended since the last call while its task was being sent, because the
    /// task was cancelled, was purged, expired or took too long. O(n).
    public func takeEndedSends(_ body: (DispatchKey) -> Void) {
        let ended = store.sending.ended
        if ended.isEmpty { return }
        store.sending.ended = []
        for key in ended { body(key) }
    }

    /// Whether there is something for `takeEndedSends`. O(1).
    public var hasEndedSends: Bool { !store.sending.ended.isEmpty }

    /// Calls `body` with each task that has died since the last call, if push was to send it or its queue has push
    /// options. If `body` returns false, this task and the rest are left for the next call. `body` may add tasks. O(n).
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

    /// The push options of a queue's configuration; empty if there are none. O(1).
    public func push(of queue: QueueIndex) -> [UInt8] {
        store.queues[queue.slot].configuration?.own.push ?? []
    }

    /// The name of a queue. O(1).
    public func name(of queue: QueueIndex) -> [UInt8] {
        store.queues[queue.slot].name
    }
}
