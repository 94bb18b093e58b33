// Tasks to be sent: which they are, and the reports to push.

import Bytes
import UID

/// The reports to push.
struct Sending {
    /// Whether push is on.
    var isOn = false
    /// Queues that may have tasks to send.
    var queues: [Slot] = []
    /// Dispatches that ended while their tasks were being sent.
    var ended: [DispatchKey] = []
    /// Tasks that died and may have a dead-letter notification, each with the queue where it died.
    var deadTasks: [(task: UID, queue: Slot)] = []
    /// How many of them have been reported.
    var reportedDeadTasks = 0
}

extension TaskStore {
    /// Whether a task is sent and not given to workers. A dead letter's own request no longer counts.
    @inline(__always)
    func isToBeSent(_ slot: Slot) -> Bool {
        queues[tasks[slot].queue].isPushed || tasks[slot].extras != 0 && hasRequest(slot)
    }

    func hasRequest(_ slot: Slot) -> Bool {
        guard let extras = extras(of: slot) else { return false }
        return !extras.options.request.isEmpty && extras.origin.isEmpty
    }

    /// Whether a task is a dead letter from another queue.
    func isDeadLetter(_ slot: Slot) -> Bool {
        extras(of: slot)?.origin.isEmpty == false
    }

    /// The backoff for a retry of a dispatched task; nil for none.
    func backoff(of slot: Slot) -> Backoff? {
        extras(of: slot)?.options.backoff ?? configuration(of: tasks[slot].queue)?.value.backoff
            ?? (tasks[slot].isPushed ? .ofSentTasks : nil)
    }

    // MARK: Reports

    /// Notes that a queue may have tasks to send.
    mutating func noteSendable(_ queue: Slot) {
        guard sending.isOn, !queues[queue].isSendable else { return }
        update(queue) { $0.isSendable = true }
        sending.queues.append(queue)
    }

    /// Notes a change, other than of its tasks, in a queue that may have tasks to send.
    mutating func noteSendableAnew(_ queue: Slot) {
        let hasTasks = queues[queue].pushed.count > 0 || queues[queue].isPushed && queues[queue].ready.count > 0
        // Push may know the queue already, and be waiting for this change. It may not know yet that the tasks are gone.
        guard hasTasks || queues[queue].isSendable else { return }
        update(queue) { $0.isSendable = false }
        noteSendable(queue)
    }

    /// Notes that a dispatch of a task being sent has ended.
    mutating func noteEndOfSending(_ slot: Slot) {
        sending.ended.append(DispatchKey(slot: slot, token: tasks[slot].token))
        tasks[slot].isPushed = false
        queues[tasks[slot].queue].sends -= 1
    }

    /// Withdraws that note, if push itself ended the dispatch.
    private mutating func forgetEndOfSending(_ key: DispatchKey) {
        // It was just added, so it is at or near the end.
        if let index = sending.ended.lastIndex(of: key) { sending.ended.remove(at: index) }
    }

    /// Notes the death of a task that was to be sent, or whose queue says how tasks are sent.
    mutating func noteDead(of slot: Slot) {
        let queue = tasks[slot].queue
        guard sending.isOn, configuration(of: queue)?.value.push.isEmpty == false || hasRequest(slot) else { return }
        update(queue) { $0.unreportedDeadTasks += 1 }
        sending.deadTasks.append((tasks[slot].id, queue))
    }

    // MARK: Sending

    /// The next task of a queue to be sent, 0 if there is none. If the patience is used up, there may be one behind the
    /// tasks that were met.
    mutating func firstToSend(in queue: Slot, now: Int64, patience: inout Int) -> Slot {
        guard queues[queue].pause != .paused else { return 0 }
        let isPushed = queues[queue].isPushed
        var slot = isPushed ? queues[queue].firstReady : queues[queue].pushed.first
        while slot != 0, patience > 0 {
            let canSend = isPushed || hasRequest(slot)
            if canSend, canDispatch(slot, now: now) { return slot }
            let next =
                isPushed
                ? queues[queue].nextReady(after: slot, in: tasks) : queues[queue].pushed.next(after: slot, in: tasks)
            // A task that is no longer to be sent will soon be given to workers.
            if canSend { markForRemoval(slot) }
            patience -= 1
            slot = next
        }
        return 0
    }

    /// Dispatches a task in order to send it.
    mutating func send(_ slot: Slot, leaseMilliseconds: Int64, now: Int64) -> DispatchKey {
        let handle = dispatch(slot, leaseMilliseconds: leaseMilliseconds, worker: [], now: now)
        tasks[slot].isPushed = true
        queues[tasks[slot].queue].sends += 1
        activity.sends += 1
        return handle.key
    }

    /// The slot of a task that is being sent by this dispatch; 0 if the dispatch is over.
    func beingSent(_ key: DispatchKey, now: Int64) -> Slot {
        let slot = dispatched(key)
        return slot != 0 && tasks[slot].isPushed && tasks[slot].isHeld(now: now) ? slot : 0
    }

    /// Ends a task that was sent as done.
    mutating func finishSending(_ slot: Slot, result: Span<UInt8>, now: Int64) -> Slot {
        let key = DispatchKey(slot: slot, token: tasks[slot].token)
        let waitedFor = ack(slot, result: result, now: now)
        forgetEndOfSending(key)
        return waitedFor
    }

    /// Whether a task's result will be kept, or is waited for.
    func wantsResult(of slot: Slot) -> Bool {
        keepMilliseconds(of: slot) > 0 || extras(of: slot)?.waiters.isEmpty == false
    }

    /// Ends a failed attempt to send a task. If a result is wanted, it replaces the former one.
    ///
    /// No client is told, unless one waits for the result: if this is lost in a crash, the task is sent again.
    mutating func failSending(
        _ slot: Slot, _ action: NakAction, error: Span<UInt8>, result: Span<UInt8>, now: Int64, waitedFor: inout Slot
    ) -> NakOutcome {
        isUnawaited = extras(of: slot)?.waiters.isEmpty != false
        defer { isUnawaited = false }
        if !result.isEmpty, wantsResult(of: slot) { withExtras(slot) { $0.result = Array(copying: result) } }
        let key = DispatchKey(slot: slot, token: tasks[slot].token)
        let outcome = nak(slot, action, error: error, now: now, waitedFor: &waitedFor)
        forgetEndOfSending(key)
        return outcome
    }
}
