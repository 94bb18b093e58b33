// Adding, ending and looking at single tasks.

import Bytes
import UID

extension Broker {
    // MARK: Adding

    /// Adds a task, or finds the one that holds its key. O(1), and the cost of the waits that it completes.
    ///
    /// - Parameters:
    ///   - task: the task; its `content` is a range of the parameter `content`.
    ///   - content: the bytes that hold the content; they are copied.
    ///   - queue: the queue.
    ///   - isLimited: whether the queue's maximum length applies.
    ///   - now: the time.
    /// - Returns: the task's id, and whether it already existed.
    /// - Throws: `BrokerError.tooManyTasks`, `.outOfMemory`, `.keyTaken`, `.queueFull`.
    public func enqueue(
        _ task: NewTask, content: Span<UInt8>, in queue: QueueIndex, isLimited: Bool = true, now: Int64
    ) throws(BrokerError) -> Enqueued {
        beginChange()
        let options = task.options
        if let options, !options.key.isEmpty {
            let holder = holder(of: options.key, in: queue, now: now)
            if holder != 0 {
                if options.onConflict == .reject { throw .keyTaken }
                let existing = Enqueued(id: store.tasks[holder].id, isExisting: true)
                guard options.onConflict == .replace, store.tasks[holder].state.isUnfinished else { return existing }
                guard let copy = copyContent(task.content, of: content) else { throw .outOfMemory }
                serveWaiters(of: store.replace(holder, with: task, content: copy, now: now), now: now)
                return existing
            }
        }
        guard store.tasks.count < store.tasks.capacity else { throw .tooManyTasks }
        if isLimited, store.isFull(queue.slot) { throw .queueFull }
        guard let copy = copyContent(task.content, of: content) else { throw .outOfMemory }
        serveWaiters(of: store.add(task, content: copy, queue: queue.slot, now: now), now: now)
        return Enqueued(id: task.id, isExisting: false)
    }

    /// Adds tasks in their order, all or none, as one event. Tasks whose keys are free count against the queue's
    /// maximum length. O(tasks), and the cost of the waits that they complete.
    ///
    /// - Parameters:
    ///   - batch: the tasks.
    ///   - contents: the bytes that hold the contents; they are copied.
    ///   - queue: the queue.
    ///   - now: the time.
    ///   - results: receives each task's id, and whether it already existed; emptied first.
    /// - Throws: `BatchError` with the reasons `BrokerError.tooManyTasks`, `.outOfMemory`, `.keyTaken`, `.queueFull`,
    ///   `.batchTooLong`.
    public func enqueue(
        _ batch: [NewTask], contents: Span<UInt8>, in queue: QueueIndex, now: Int64, into results: inout [Enqueued]
    ) throws(BatchError) {
        beginChange()
        results.removeAll(keepingCapacity: true)
        results.reserveCapacity(batch.count)
        beginEvent()
        defer { closeEvent(now: now) }
        let copies = try prepare(batch, contents: contents, in: queue, now: now)
        for (index, task) in batch.enumerated() {
            let options = task.options
            var holder: Slot = 0
            if let options, !options.key.isEmpty { holder = self.holder(of: options.key, in: queue, now: now) }
            if holder == 0 {
                serveWaiters(of: store.add(task, content: copies[index], queue: queue.slot, now: now), now: now)
                results.append(Enqueued(id: task.id, isExisting: false))
                continue
            }
            results.append(Enqueued(id: store.tasks[holder].id, isExisting: true))
            if options?.onConflict == .replace && store.tasks[holder].state.isUnfinished {
                let waitedFor = store.replace(holder, with: task, content: copies[index], now: now)
                serveWaiters(of: waitedFor, now: now)
            } else {
                store.contents.deallocate(copies[index])
            }
        }
    }

    // MARK: Taking

    /// Dispatches up to `limit` tasks from any of `queues`: all of the first queue, then of the next. O(queues +
    /// limit).
    ///
    /// - Parameters:
    ///   - queues: the queues.
    ///   - limit: how many tasks at most, 1 or more.
    ///   - leaseMilliseconds: the lease of the tasks taken; nil for each task's own.
    ///   - worker: the worker's name, to be shown with the tasks taken; empty for none.
    ///   - now: the time.
    ///   - taken: receives the tasks, without nils; emptied first.
    /// - Returns: whether there were any.
    public func takeAny(
        _ queues: [QueueIndex], limit: Int, leaseMilliseconds: Int64? = nil, worker: [UInt8] = [], now: Int64,
        into taken: inout [TaskHandle?]
    ) -> Bool {
        beginChange()
        taken.clear()
        store.takeAny(
            queues, limit: limit, leaseMilliseconds: leaseMilliseconds, worker: worker, now: now, into: &taken)
        return !taken.isEmpty
    }

    /// Waits for any tasks of `queues`. Call this after `takeAny` returned false. O(queues).
    ///
    /// - Parameters:
    ///   - queues: the queues.
    ///   - limit: how many tasks at most, 1 or more.
    ///   - leaseMilliseconds: the lease of the tasks taken; nil for each task's own.
    ///   - worker: the worker's name, to be shown with the tasks taken; empty for none.
    ///   - deadline: when to end the wait without tasks.
    ///   - now: the time.
    ///   - completion: as for `wait`, but called with the tasks without nils.
    /// - Returns: the wait, to be passed to `cancel`.
    public func waitAny(
        _ queues: [QueueIndex], limit: Int, leaseMilliseconds: Int64? = nil, worker: [UInt8] = [], deadline: Int64,
        now: Int64, completion: @escaping Waiter.Completion
    ) -> Waiter {
        beginChange()
        return begin(
            Waiter(
                .any(limit: limit, completion), queues: queues, leaseMilliseconds: leaseMilliseconds, worker: worker,
                deadline: deadline, arrival: arrivals), now: now)
    }

    // MARK: Ending a dispatch

    /// Acknowledges a dispatched task: the work is done. O(1), and the cost of the waits for the result.
    ///
    /// - Parameters:
    ///   - reference: the task.
    ///   - result: the result; kept as long as the task's record.
    ///   - log: the end of what the task's command printed, in UTF-8; kept as long as the task's record.
    ///   - now: the time.
    /// - Returns: whether the task, or the dispatch that the reference names, was held at `now`.
    public func ack(
        _ reference: TaskReference, result: Span<UInt8>, log: Span<UInt8> = Span(), now: Int64
    ) -> Bool {
        beginChange()
        guard let waitedFor = store.ack(reference, result: result, log: log, now: now) else { return false }
        serveWaiters(of: waitedFor, now: now)
        return true
    }

    /// Whether a task's record, with its result and its log, is kept after its end. O(1).
    public func keepsRecord(of reference: TaskReference) -> Bool {
        let slot = store.task(reference.id)
        return slot != 0 && store.keepMilliseconds(of: slot) > 0
    }

    /// Refuses a dispatched task: the work was not done. O(1), and the cost of the waits that it completes.
    ///
    /// - Parameters:
    ///   - reference: the task.
    ///   - action: how the task is given back.
    ///   - error: the reason, to be shown with the task; empty to keep the former one.
    ///   - log: the end of what the task's command printed, in UTF-8, to be shown with the task. It replaces the former
    ///     one, even if it is empty.
    ///   - now: the time.
    /// - Returns: what becomes of the task.
    public func nak(
        _ reference: TaskReference, _ action: NakAction, error: Span<UInt8> = Span(), log: Span<UInt8> = Span(),
        now: Int64
    ) -> NakOutcome {
        beginChange()
        var waitedFor: Slot = 0
        let outcome = store.nak(reference, action, error: error, log: log, now: now, waitedFor: &waitedFor)
        serveWaiters(of: waitedFor, now: now)
        return outcome
    }

    /// Renews the lease of a dispatched task. O(1).
    ///
    /// - Parameters:
    ///   - reference: the task.
    ///   - leaseMilliseconds: the lease from `now` on; nil for its former length.
    ///   - progress: how far the worker is, to be shown with the task; empty to keep what is shown.
    ///   - now: the time.
    /// - Returns: whether the task, or the dispatch that the reference names, was held at `now`.
    public func touch(
        _ reference: TaskReference, leaseMilliseconds: Int64? = nil, progress: Span<UInt8> = Span(), now: Int64
    ) -> Bool {
        beginChange()
        return store.touch(reference, leaseMilliseconds: leaseMilliseconds, progress: progress, now: now)
    }

    // MARK: One task

    /// Calls `body` with the task that has an id, whatever its state. O(1).
    ///
    /// - Returns: what `body` returns; nil if there is no such task.
    public func withTask<Result>(
        id: UID, now: Int64, _ body: (borrowing TaskView) -> Result
    ) -> Result? {
        let slot = store.task(id)
        guard slot != 0, let state = store.visibleState(of: slot, now: now) else { return nil }
        // A finished task is shown with the content accepted last, even if no timer has noted its end yet.
        if !state.isUnfinished, let replacement = store.extras(of: slot)?.replacement {
            return view(replacement, of: slot, as: state, body)
        }
        return view(slot, as: state, body)
    }

    /// Calls `body` with a dispatched task as it will be after its dispatch, if it has been replaced meanwhile. O(1).
    ///
    /// - Returns: what `body` returns; nil if the task has no replacement.
    public func withReplacement<Result>(
        of id: UID, now: Int64, _ body: (borrowing TaskView) -> Result
    ) -> Result? {
        let slot = store.task(id)
        guard slot != 0, store.tasks[slot].isAlive(now: now), let replacement = store.extras(of: slot)?.replacement
        else { return nil }
        return view(replacement, of: slot, as: replacement.due > now ? .delayed : .ready, body)
    }

    private func view<Result>(
        _ replacement: Replacement, of slot: Slot, as state: TaskState, _ body: (borrowing TaskView) -> Result
    ) -> Result {
        let extras = TaskExtras(
            task: slot, key: store.extras(of: slot)?.key ?? [],
            TaskExtras.Options(replacement.options, arrival: replacement.enqueued),
            trace: replacement.options?.trace ?? TraceContext())
        var record = store.tasks[slot]
        (record.state, record.until, record.retries) = (.delayed, replacement.due, 0)
        (record.enqueued, record.priority) = (replacement.enqueued, replacement.priority)
        record.isPushed = store.queues[record.queue].isPushed || !extras.options.request.isEmpty
        let name = store.queues[record.queue].name
        return body(
            TaskView(
                slot: slot, record: record, state: state, extras: extras,
                leaseMilliseconds: store.leaseMilliseconds(own: replacement.leaseMilliseconds, in: record.queue),
                queueName: name.span,
                content: replacement.content.span, readySequence: 0))
    }

    /// Moves a task that is ready, delayed or dead to the back of another queue. O(1), and the cost of the waits that
    /// it completes.
    ///
    /// - Returns: whether the task was moved. It stays if its key is taken in the other queue, or if it is already
    ///   there.
    @discardableResult
    public func move(_ id: UID, to target: QueueIndex, now: Int64) -> Bool {
        beginChange()
        let slot = store.task(id)
        // The task that holds the key may be due to end.
        if slot != 0, store.tasks[slot].queue != target.slot, let key = store.extras(of: slot)?.key, !key.isEmpty {
            _ = holder(of: key, in: target, now: now)
        }
        guard slot != 0, store.tasks[slot].state.isMovable, store.tasks[slot].deadline > now,
            let waitedFor = store.move(slot, to: target.slot, now: now)
        else { return false }
        operationCount += 1
        serveWaiters(of: waitedFor, now: now)
        return true
    }

    /// Cancels a task that is delayed, ready or dispatched. O(1), and the cost of the waits for its result.
    ///
    /// - Parameters:
    ///   - id: the task.
    ///   - includingDead: whether a dead task is cancelled too; it can no longer be kicked then.
    ///   - now: the time.
    /// - Returns: whether the task was cancelled.
    public func cancelTask(_ id: UID, includingDead: Bool = false, now: Int64) -> Bool {
        beginChange()
        let isDead = includingDead && store.isDead(id)
        let isCancelled = store.cancel(id, includingDead: includingDead, now: now)
        if isDead, isCancelled { operationCount += 1 }
        tellEnds()
        return isCancelled
    }

    /// Deletes the record of a task that is dead, done, cancelled or expired. O(1).
    ///
    /// - Returns: whether there was such a task.
    public func deleteRecord(_ id: UID, now: Int64) -> Bool {
        beginChange()
        let isDead = store.isDead(id)
        guard store.deleteRecord(id, now: now) else { return false }
        if isDead { operationCount += 1 }
        return true
    }

    /// Deletes or replaces the result of a task. A finished task need not have had one. O(1).
    ///
    /// - Returns: whether the task was changed.
    @discardableResult
    public func replaceResult(of id: UID, with result: Span<UInt8> = Span(), now: Int64) -> Bool {
        beginChange()
        return store.replaceResult(of: id, with: result, now: now)
    }

    /// Waits until a task is done, dead, cancelled or expired. Call this after `withTask` has shown that it is not.
    /// O(1).
    ///
    /// - Parameters:
    ///   - id: the task.
    ///   - deadline: when to end the wait with the state at that time.
    ///   - now: the time.
    ///   - completion: called once, but never from inside `waitForResult`, and not at all if the wait is cancelled. It
    ///     must not call a method that changes the broker.
    /// - Returns: the wait, to be passed to `cancel`; nil if there is no such task, or if it has finished.
    public func waitForResult(
        of id: UID, deadline: Int64, now: Int64, completion: @escaping Waiter.ResultCompletion
    ) -> Waiter? {
        beginChange()
        let slot = store.task(id)
        guard slot != 0, store.tasks[slot].isAlive(now: now) else { return nil }
        let waiter = Waiter(.result(of: id, completion), deadline: deadline, arrival: arrivals)
        arrivals += 1
        insert(waiter)
        store.withExtras(slot, change: nil) { extras in
            waiter.resultPosition = extras.waiters.count
            extras.waiters.append(waiter)
        }
        return waiter
    }

    /// Makes a dead task ready, with its retries and its expiry reset, or ends the delay of a delayed task. A dead
    /// letter that is already ready returns to the queue where it died. O(1), and the cost of the waits that it
    /// completes.
    ///
    /// - Parameters:
    ///   - id: the task.
    ///   - toOrigin: whether to return the task to the queue where it died; then only a dead letter is kicked.
    ///   - now: the time.
    /// - Returns: whether the task was kicked; false if there is none to kick, or if its key has been taken meanwhile.
    public func kick(_ id: UID, toOrigin: Bool = false, now: Int64) -> Bool {
        beginChange()
        let slot = store.task(id)
        guard slot != 0, store.tasks[slot].deadline > now else { return false }
        let queue = QueueIndex(slot: store.tasks[slot].queue)
        // The task that holds the key may be due to end.
        if store.tasks[slot].state == .dead, let key = store.extras(of: slot)?.key, !key.isEmpty {
            _ = holder(of: key, in: queue, now: now)
        }
        let kicked =
            toOrigin || store.tasks[slot].state == .ready
            ? store.kickToOrigin(slot, now: now) : store.kick(slot, now: now)
        guard let waitedFor = kicked else { return false }
        operationCount += 1
        serveWaiters(of: waitedFor, now: now)
        return true
    }

    // MARK: Parts

    /// The content of a task that is added without one.
    private static let missingContent = Array("null".utf8)

    /// Copies a task's content, a range of `bytes`; nil if memory is out.
    private func copyContent(_ range: Range<Int>, of bytes: Span<UInt8>) -> Content? {
        if range.isEmpty { return store.contents.allocate(copying: Broker.missingContent.span) }
        return store.contents.allocate(copying: bytes.extracting(range))
    }

    /// Finds out whether a batch can be added, and copies its contents.
    private func prepare(
        _ batch: [NewTask], contents: Span<UInt8>, in queue: QueueIndex, now: Int64
    ) throws(BatchError) -> [Content] {
        // Keys of the batch that are free in the queue: of two tasks with such a key, the second finds the first.
        var keys: Set<[UInt8]> = []
        var added = 0
        var failure: BatchError?
        for (index, task) in batch.enumerated() {
            if let options = task.options, !options.key.isEmpty,
                holder(of: options.key, in: queue, now: now) != 0 || !keys.insert(options.key).inserted
            {
                if options.onConflict == .reject, failure == nil { throw BatchError(index: index, reason: .keyTaken) }
                continue
            }
            if failure == nil {
                if store.tasks.count + added >= store.tasks.capacity {
                    throw BatchError(index: index, reason: .tooManyTasks)
                }
                if store.isFull(queue.slot, adding: added) { failure = BatchError(index: index, reason: .queueFull) }
            }
            added += 1
        }
        if var failure {
            // The whole number tells whether the batch could ever fit.
            if let limit = store.maximumLength(of: queue.slot), added > limit { failure.reason = .batchTooLong }
            throw failure
        }
        var copies: [Content] = []
        copies.reserveCapacity(batch.count)
        for (index, task) in batch.enumerated() {
            guard let copy = copyContent(task.content, of: contents) else {
                for copy in copies { store.contents.deallocate(copy) }
                throw BatchError(index: index, reason: .outOfMemory)
            }
            copies.append(copy)
        }
        return copies
    }
}
