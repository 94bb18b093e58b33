// Adding, ending and looking at single tasks.

import UID

extension Broker {
    // MARK: Adding

    /// Adds a task, or meets the one that has its key. O(1), and what the waiters that it completes take.
    ///
    /// - Parameters:
    ///   - task: the task; its `content` is a range of `content`.
    ///   - content: where its content stands; the bytes are copied.
    ///   - queue: its queue.
    ///   - isLimited: whether the queue may be too full for it.
    ///   - now: the time.
    /// - Returns: the task's id, and whether it was there already.
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
                guard let copy = store.contents.allocate(copying: content.extracting(task.content)) else {
                    throw .outOfMemory
                }
                serveWaiters(of: store.replace(holder, with: task, content: copy, now: now), now: now)
                return existing
            }
        }
        guard store.tasks.count < store.tasks.capacity else { throw .tooManyTasks }
        if isLimited, store.isFull(queue.slot) { throw .queueFull }
        guard let copy = store.contents.allocate(copying: content.extracting(task.content)) else { throw .outOfMemory }
        serveWaiters(of: store.add(task, content: copy, queue: queue.slot, now: now), now: now)
        return Enqueued(id: task.id, isExisting: false)
    }

    /// Adds tasks in their order, all or none: one event for those who wait. Of the tasks, those whose keys are not taken count
    /// against the queue's length. O(tasks), and what the waiters that they complete take.
    ///
    /// - Parameters:
    ///   - batch: the tasks.
    ///   - contents: where their contents stand; the bytes are copied.
    ///   - queue: their queue.
    ///   - now: the time.
    ///   - results: gets each task's id, and whether it was there already; emptied first.
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

    /// Dispatches up to `limit` tasks of any of `queues`, emptying them in the order named. O(queues + limit).
    ///
    /// - Parameters:
    ///   - queues: the queues.
    ///   - limit: how many tasks at most, 1 or more.
    ///   - leaseMilliseconds: the lease of what is taken, if it is not the tasks' own.
    ///   - worker: a name to show with what is taken; empty for none.
    ///   - now: the time.
    ///   - taken: gets the tasks, without nils; emptied first.
    /// - Returns: whether there was any.
    public func takeAny(
        _ queues: [QueueIndex], limit: Int, leaseMilliseconds: Int64? = nil, worker: [UInt8] = [], now: Int64,
        into taken: inout [TaskHandle?]
    ) -> Bool {
        beginChange()
        taken.removeAll(keepingCapacity: true)
        store.takeAny(
            queues, limit: limit, leaseMilliseconds: leaseMilliseconds, worker: worker, now: now, into: &taken)
        return !taken.isEmpty
    }

    /// Waits for any tasks of `queues`. Called when `takeAny` has just said that there are none. O(queues).
    ///
    /// - Parameters:
    ///   - queues: the queues.
    ///   - limit: how many tasks at most, 1 or more.
    ///   - leaseMilliseconds: the lease of what is taken, if it is not the tasks' own.
    ///   - worker: a name to show with what is taken; empty for none.
    ///   - deadline: when to end with nothing.
    ///   - now: the time.
    ///   - completion: as for `wait`; it is called with the tasks, without nils.
    /// - Returns: the wait, for `cancel`.
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

    /// The work is done. O(1), and what those take who wait for the result.
    ///
    /// - Parameters:
    ///   - reference: the task.
    ///   - result: what came of it; kept as long as the task's record.
    ///   - now: the time.
    /// - Returns: whether that task, or that dispatch of it, was held at `now`.
    public func ack(_ reference: TaskReference, result: Span<UInt8>, now: Int64) -> Bool {
        beginChange()
        guard let waitedFor = store.ack(reference, result: result, now: now) else { return false }
        serveWaiters(of: waitedFor, now: now)
        return true
    }

    /// Whether a task's record stays after its end, with its result. O(1).
    public func keepsRecord(of reference: TaskReference) -> Bool {
        let slot = store.task(reference.id)
        return slot != 0 && store.keepMilliseconds(of: slot) > 0
    }

    /// The work was not done. O(1), and what the waiters that it completes take.
    ///
    /// - Parameters:
    ///   - reference: the task.
    ///   - action: how it is given back.
    ///   - error: why, to be shown with the task; empty to leave what is shown.
    ///   - now: the time.
    /// - Returns: what becomes of it.
    public func nak(
        _ reference: TaskReference, _ action: NakAction, error: Span<UInt8> = Span(), now: Int64
    ) -> NakOutcome {
        beginChange()
        var waitedFor: Slot = 0
        let outcome = store.nak(reference, action, error: error, now: now, waitedFor: &waitedFor)
        serveWaiters(of: waitedFor, now: now)
        return outcome
    }

    /// The lease of a dispatched task starts again. O(1).
    ///
    /// - Parameters:
    ///   - reference: the task.
    ///   - leaseMilliseconds: how long the lease is from now on; nil for as long as it was.
    ///   - progress: how far the worker is, to be shown with the task; empty to leave what is shown.
    ///   - now: the time.
    /// - Returns: whether that task, or that dispatch of it, was held at `now`.
    public func touch(
        _ reference: TaskReference, leaseMilliseconds: Int64? = nil, progress: Span<UInt8> = Span(), now: Int64
    ) -> Bool {
        beginChange()
        return store.touch(reference, leaseMilliseconds: leaseMilliseconds, progress: progress, now: now)
    }

    // MARK: One task

    /// Calls `body` with the task of an id, in whatever state it is. O(1).
    ///
    /// - Returns: what `body` returns; nil if there is no such task.
    public func withTask<Result>(
        id: UID, now: Int64, _ body: (borrowing TaskView) -> Result
    ) -> Result? {
        let slot = store.task(id)
        guard slot != 0, let state = store.visibleState(of: slot, now: now) else { return nil }
        // What has ended is what was accepted last, also if no timer has seen that yet.
        if !state.isUnfinished, let replacement = store.extras(of: slot)?.replacement {
            return view(replacement, of: slot, as: state, body)
        }
        return view(slot, as: state, body)
    }

    /// Calls `body` with a task as it will be when its dispatch is over, if it has been replaced meanwhile. O(1).
    ///
    /// - Returns: what `body` returns; nil if nothing waits to take the task's place.
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
        let extras = TaskExtras(task: slot)
        extras.take(replacement.options, arrival: replacement.enqueued)
        extras.key = store.extras(of: slot)?.key ?? []
        var record = store.tasks[slot]
        (record.state, record.until, record.retries) = (.delayed, replacement.due, 0)
        (record.enqueued, record.priority) = (replacement.enqueued, replacement.priority)
        record.isPushed = store.queues[record.queue].isPushed || !extras.request.isEmpty
        let name = store.queues[record.queue].name
        return body(
            TaskView(
                slot: slot, record: record, state: state, extras: extras,
                leaseMilliseconds: store.leaseMilliseconds(own: replacement.leaseMilliseconds, in: record.queue),
                queueName: name.span,
                content: replacement.content.span, readySequence: 0))
    }

    /// The unfinished task that has a key. O(1).
    public func task(withKey key: [UInt8], in queue: QueueIndex, now: Int64) -> UID? {
        let slot = store.holder(of: key, in: queue.slot)
        return slot != 0 && store.tasks[slot].isAlive(now: now) ? store.tasks[slot].id : nil
    }

    /// Calls `body` with the unfinished tasks of a queue whose keys begin with `group`, which has no NUL, and a NUL, in no
    /// order; it may ask the broker for more. O(tasks).
    public func forEachTask(
        inKeyGroup group: [UInt8], of queue: QueueIndex, now: Int64, _ body: (borrowing TaskView) -> Void
    ) {
        let found = store.keyGroup(group[...], of: queue.slot)
        var slot = found == 0 ? 0 : store.keyGroups[found].first
        while slot != 0 {
            if store.tasks[slot].isAlive(now: now), let state = store.visibleState(of: slot, now: now) {
                view(slot, as: state, body)
            }
            slot = store.extras(of: slot)?.keyGroupLinks.next ?? 0
        }
    }

    /// Moves a task that is ready, delayed or dead to the back of another queue. O(1), and what the waiters that it completes
    /// take.
    ///
    /// - Returns: whether it was moved. It stays where it is if its key is taken in the other queue, or if that is its own.
    @discardableResult
    public func move(_ id: UID, to target: QueueIndex, now: Int64) -> Bool {
        beginChange()
        let slot = store.task(id)
        // Whoever has the key may have to end first.
        if slot != 0, store.tasks[slot].queue != target.slot, let key = store.extras(of: slot)?.key, !key.isEmpty {
            _ = holder(of: key, in: target, now: now)
        }
        guard slot != 0, store.tasks[slot].state.isMovable, store.tasks[slot].deadline > now,
            let waitedFor = store.move(slot, to: target.slot, now: now)
        else { return false }
        serveWaiters(of: waitedFor, now: now)
        return true
    }

    /// Cancels a task that is delayed, ready or dispatched. O(1), and what those take who wait for its result.
    ///
    /// - Parameters:
    ///   - id: the task.
    ///   - includingDead: whether one that is dead is cancelled too; it cannot be kicked any more then.
    ///   - now: the time.
    /// - Returns: whether it was.
    public func cancelTask(_ id: UID, includingDead: Bool = false, now: Int64) -> Bool {
        beginChange()
        let isCancelled = store.cancel(id, includingDead: includingDead, now: now)
        tellEnds()
        return isCancelled
    }

    /// Deletes the record of a task that is dead, done, cancelled or expired. O(1).
    ///
    /// - Returns: whether there was one.
    public func deleteRecord(_ id: UID, now: Int64) -> Bool {
        beginChange()
        return store.deleteRecord(id, now: now)
    }

    /// Deletes the result of a task, or puts another one in its place. One that has come to its end need not have had one. O(1).
    ///
    /// - Returns: whether that was done.
    @discardableResult
    public func replaceResult(of id: UID, with result: Span<UInt8> = Span(), now: Int64) -> Bool {
        beginChange()
        return store.replaceResult(of: id, with: result, now: now)
    }

    /// Waits until a task is done, dead, cancelled or expired. Called when `withTask` has shown that it is not. O(1).
    ///
    /// - Parameters:
    ///   - id: the task.
    ///   - deadline: when to end with the state as it is then.
    ///   - now: the time.
    ///   - completion: called once, never from inside `waitForResult`, unless the wait is cancelled. It must not call a
    ///     method that changes the broker.
    /// - Returns: the wait, for `cancel`; nil if there is no such task or it has come to its end.
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

    /// Makes a dead task ready, its retries and expiry counted anew, or a delayed one, as if its delay were over. A dead letter
    /// that is ready already goes back to the queue where it died. O(1), and what the waiters that it completes take.
    ///
    /// - Parameters:
    ///   - id: the task.
    ///   - toOrigin: whether it goes back to the queue where it died, and only a dead letter is kicked.
    ///   - now: the time.
    /// - Returns: whether there was anything to kick, and its key not taken meanwhile.
    public func kick(_ id: UID, toOrigin: Bool = false, now: Int64) -> Bool {
        beginChange()
        let slot = store.task(id)
        guard slot != 0, store.tasks[slot].deadline > now else { return false }
        let queue = QueueIndex(slot: store.tasks[slot].queue)
        // Whoever has the key may have to end first.
        if store.tasks[slot].state == .dead, let key = store.extras(of: slot)?.key, !key.isEmpty {
            _ = holder(of: key, in: queue, now: now)
        }
        let kicked =
            toOrigin || store.tasks[slot].state == .ready
            ? store.kickToOrigin(slot, now: now) : store.kick(slot, now: now)
        guard let waitedFor = kicked else { return false }
        serveWaiters(of: waitedFor, now: now)
        return true
    }

    // MARK: Parts

    /// The task that keeps a key from being taken, 0 if none does. If the one that has it should have ended by now, that
    /// happens first.
    func holder(of key: [UInt8], in queue: QueueIndex, now: Int64) -> Slot {
        var waitedFor: Slot = 0
        let holder = store.holder(of: key, in: queue.slot, now: now, waitedFor: &waitedFor)
        serveWaiters(of: waitedFor, now: now)
        return holder
    }

    /// Finds out whether a batch can be added, and copies its contents.
    private func prepare(
        _ batch: [NewTask], contents: Span<UInt8>, in queue: QueueIndex, now: Int64
    ) throws(BatchError) -> [Content] {
        // Keys of the batch that no task of the queue has: the second task to have one meets the first.
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
            // How many there are in all tells whether they would ever fit.
            if let limit = store.maximumLength(of: queue.slot), added > limit { failure.reason = .batchTooLong }
            throw failure
        }
        var copies: [Content] = []
        copies.reserveCapacity(batch.count)
        for (index, task) in batch.enumerated() {
            guard let copy = store.contents.allocate(copying: contents.extracting(task.content)) else {
                for copy in copies { store.contents.deallocate(copy) }
                throw BatchError(index: index, reason: .outOfMemory)
            }
            copies.append(copy)
        }
        return copies
    }
}
