// Ending dispatches and tasks.

import Bytes
import UID

extension TaskStore {
    // MARK: Dispatches

    /// The task's slot if it is held at `now` by the dispatch that the reference names; otherwise 0.
    @inline(__always)
    func held(_ reference: TaskReference, now: Int64) -> Slot {
        let slot = task(reference.id)
        // Only push ends the dispatches of push.
        guard slot != 0, tasks[slot].isHeld(now: now), !tasks[slot].isPushed else { return 0 }
        if let token = reference.token, token != tasks[slot].token { return 0 }
        return slot
    }

    /// The slot of the task if that dispatch is not over; otherwise 0. The lease may have run out.
    func dispatched(_ key: DispatchKey) -> Slot {
        let slot = key.slot
        guard tasks.contains(slot), tasks[slot].state == .dispatched else { return 0 }
        return DispatchKey(slot: slot, token: tasks[slot].token).rawValue == key.rawValue ? slot : 0
    }

    /// The slot of a task that was just dispatched.
    func slot(of handle: TaskHandle) -> Slot {
        let slot = dispatched(handle.key)
        precondition(slot != 0, "a handle was used after its task changed state")
        return slot
    }

    /// Ends a task that is held as done; nil if it is not held.
    mutating func ack(
        _ reference: TaskReference, result: Span<UInt8>, log: Span<UInt8>, now: Int64
    ) -> Slot? {
        let slot = held(reference, now: now)
        return slot == 0 ? nil : ack(slot, result: result, log: log, now: now)
    }

    /// Ends a dispatched task as done.
    @inline(__always)
    mutating func ack(
        _ slot: Slot, result: Span<UInt8>, log: Span<UInt8> = Span(), now: Int64
    ) -> Slot {
        count(in: tasks[slot].queue) { $0.acked += 1 }
        let run = now - tasks[slot].dispatched
        activity.dispatchedMilliseconds.record(run)
        queues[tasks[slot].queue].times.runs.note(run)
        if tasks[slot].extras != 0, let waitedFor = applyReplacement(slot, now: now) { return waitedFor }
        finish(slot, .done, at: now, result: result, log: log, now: now)
        return 0
    }

    /// Gives back a task that is held. `waitedFor` receives the queue in which this made a task ready, if it has
    /// waiters.
    mutating func nak(
        _ reference: TaskReference, _ action: NakAction, error: Span<UInt8>, log: Span<UInt8>, now: Int64,
        waitedFor: inout Slot
    ) -> NakOutcome {
        let slot = held(reference, now: now)
        return slot == 0 ? .missing : nak(slot, action, error: error, log: log, now: now, waitedFor: &waitedFor)
    }

    /// Gives back a dispatched task.
    mutating func nak(
        _ slot: Slot, _ action: NakAction, error: Span<UInt8>, log: Span<UInt8> = Span(), now: Int64,
        waitedFor: inout Slot
    ) -> NakOutcome {
        if !error.isEmpty { withExtras(slot) { $0.error = Array(copying: error) } }
        switch action {
        case .release, .releasePausing:
            // A release that says nothing leaves the reason why the task failed before.
            if !error.isEmpty || !log.isEmpty { replaceLog(of: slot, with: log) }
            // A release is not an attempt.
            let number = tasks[slot].attempt
            if number > 0 { tasks[slot].attempt -= 1 }
            if case .releasePausing(let milliseconds) = action {
                waitedFor = release(slot, number: number, error, pauseMilliseconds: milliseconds, now: now)
            } else {
                waitedFor = release(slot, number: number, error, now: now)
            }
            return .requeued
        case .failed, .failedPausing, .dead:
            replaceLog(of: slot, with: log)
            count(in: tasks[slot].queue) { $0.nacked += 1 }
            if tasks[slot].isPushed { activity.failedSends += 1 }
            return fail(slot, action, error: error, leaseRanOut: false, now: now, waitedFor: &waitedFor)
        }
    }

    /// Returns a task to the front of its queue if that dispatch is not over. The dispatch counts as an attempt,
    /// because the task may have reached a worker.
    mutating func release(_ key: DispatchKey, now: Int64) -> Slot {
        let slot = dispatched(key)
        guard slot != 0, tasks[slot].isHeld(now: now) else { return 0 }
        isUnawaited = true
        defer { isUnawaited = false }
        return release(slot, number: tasks[slot].attempt, now: now)
    }

    private mutating func release(
        _ slot: Slot, number: UInt32, _ error: Span<UInt8> = Span(), pauseMilliseconds: Int64 = 0, now: Int64
    ) -> Slot {
        let queue = tasks[slot].queue
        count(in: queue) { $0.released += 1 }
        if tasks[slot].extras != 0, let waitedFor = applyReplacement(slot, now: now) { return waitedFor }
        noteAttempt(slot, .released, number: number, at: now, error: error)
        return pauseMilliseconds > 0
            ? transition(slot, to: .delayed, until: now.addingWithinRange(pauseMilliseconds))
            : transition(slot, to: .ready, until: now, at: .front)
    }

    /// Ends a failed attempt: the task is retried, at once or later, or becomes dead.
    private mutating func fail(
        _ slot: Slot, _ action: NakAction, error: Span<UInt8> = Span(), leaseRanOut: Bool, now: Int64,
        waitedFor: inout Slot
    ) -> NakOutcome {
        if let replaced = applyReplacement(slot, now: now) {
            waitedFor = replaced
            return .requeued
        }
        let queue = tasks[slot].queue
        var pause: Int64 = 0
        // Nothing to look up for most tasks that fail for the first time.
        let isPlain =
            tasks[slot].extras == 0 && configuration(of: queue) == nil && action == .failed && !tasks[slot].isPushed
            && tasks[slot].retries < Backoff.retriesAtOnce
        if leaseRanOut {
            noteAttempt(slot, .timedOut, at: endOfDispatch(slot, now: now))
            replaceLog(of: slot)
            noteCrash(of: slot)
        } else {
            noteAttempt(slot, .failed, at: now, error: error)
        }
        if !isPlain {
            let isCrashedOut = leaseRanOut && hasCrashedTooOften(slot)
            let isLast =
                action == .dead || isCrashedOut || maximumRetries(of: slot).map { tasks[slot].retries >= $0 } ?? false
            // While the task lives, an error that a worker gave matters more, and this one is not worth the memory of
            // extras.
            if leaseRanOut, isLast, !isShortOfMemory || tasks[slot].extras != 0 {
                noteThatLeaseRanOut(slot, isLastCrash: isCrashedOut)
            }
            if isLast {
                waitedFor = die(slot, at: now, now: now)
                return .dead
            }
            if case .failedPausing(let milliseconds) = action {
                pause = milliseconds
            } else if let backoff = backoff(of: slot) {
                pause = backoff.pauseMilliseconds(retries: tasks[slot].retries, using: &random)
            } else if tasks[slot].retries >= Backoff.retriesAtOnce {
                let retries = tasks[slot].retries - Backoff.retriesAtOnce
                pause = Backoff.afterRetriesAtOnce.pauseMilliseconds(retries: retries, using: &random)
            }
        }
        let state: TaskRecord.State = pause > 0 ? .delayed : .ready
        let until = pause > 0 ? now.addingWithinRange(pause) : endOfDispatch(slot, now: now)
        waitedFor = transition(slot, to: state, until: until) { record in
            if record.retries < .max { record.retries += 1 }
        }
        return .requeued
    }

    /// When the dispatch of a task ended: now, or when its lease ran out if its timer fires late.
    private func endOfDispatch(_ slot: Slot, now: Int64) -> Int64 { min(now, tasks[slot].until) }

    /// Renews the lease of a task; false if it is not held.
    mutating func touch(
        _ reference: TaskReference, leaseMilliseconds: Int64?, progress: Span<UInt8>, now: Int64
    ) -> Bool {
        let slot = held(reference, now: now)
        guard slot != 0 else { return false }
        let lease = leaseMilliseconds ?? currentLeaseMilliseconds(of: slot)
        // Without memory for extras, the dispatch counts from now on, so that the next renewal has the same length.
        let keepsExtras = tasks[slot].extras != 0 || !progress.isEmpty || !isShortOfMemory
        _ = transition(slot, to: .dispatched, until: now.addingWithinRange(lease), at: .same) { record in
            if !keepsExtras { record.dispatched = now }
        }
        guard keepsExtras else { return true }
        withExtras(slot) { extras in
            extras.leaseMilliseconds = lease
            extras.hasLapsed = false
            if !progress.isEmpty { extras.progress = Array(copying: progress) }
        }
        return true
    }

    /// The length of a dispatched task's lease since it was last renewed.
    func currentLeaseMilliseconds(of slot: Slot) -> Int64 {
        if let touched = extras(of: slot)?.leaseMilliseconds, touched > 0 { return touched }
        // The clock may have been set back while the server was down.
        return max(0, tasks[slot].until - tasks[slot].dispatched)
    }

    // MARK: Ends

    /// Notes the end of a task for its waiters.
    mutating func noteEnd(of slot: Slot, _ state: TaskState, result: Span<UInt8> = Span()) {
        guard let extras = extras(of: slot), !extras.waiters.isEmpty else { return }
        endings.append(Ending(waiters: extras.waiters, state: state, result: Array(copying: result)))
        extras.waiters = []
    }

    /// Ends a task as done, cancelled or expired. Its record is kept as long as configured.
    @inline(__always)
    mutating func finish(
        _ slot: Slot, _ state: TaskRecord.State, at time: Int64, result: Span<UInt8> = Span(),
        log: Span<UInt8> = Span(), now: Int64
    ) {
        if tasks[slot].extras == 0 && configuration(of: tasks[slot].queue) == nil { return remove(slot) }
        finishSlowly(slot, state, at: time, result: result, log: log, now: now)
    }

    private mutating func finishSlowly(
        _ slot: Slot, _ state: TaskRecord.State, at time: Int64, result: Span<UInt8>, log: Span<UInt8>, now: Int64
    ) {
        let isOfAttempt =
            state != .done && tasks[slot].state == .dispatched && extras(of: slot)?.replacement == nil
        adoptReplacementAtEnd(of: slot)
        noteEnd(of: slot, state == .done ? .done : state == .cancelled ? .cancelled : .expired, result: result)
        if state == .cancelled { freeKey(of: slot) } else { freeKey(of: slot, unlessUniqueAt: now) }
        let kept = time.addingWithinRange(keepMilliseconds(of: slot))
        guard kept > now else { return hide(slot, now: now) }
        // That of a task which is done is known from its record.
        if isOfAttempt {
            noteAttempt(slot, state == .cancelled ? .cancelled : .expired, at: time)
            replaceLog(of: slot)
        }
        // The result of an earlier, failed attempt is not the result of the task.
        if !result.isEmpty || state == .done && extras(of: slot)?.result.isEmpty == false {
            withExtras(slot) { $0.result = Array(copying: result) }
        }
        if state == .done { replaceLog(of: slot, with: log) }
        _ = transition(slot, to: state, until: kept) { $0.expires = time }
    }

    /// Frees the task's key, unless it stays taken beyond `time`.
    mutating func freeKey(of slot: Slot, unlessUniqueAt time: Int64 = .max) {
        guard let extras = extras(of: slot), extras.holdsKey, extras.options.uniqueUntil <= time else { return }
        setHoldsKey(false, of: slot)
    }

    /// Deletes a task that is no longer kept. If its key stays taken, everything but the key is deleted.
    private mutating func hide(_ slot: Slot, now: Int64) {
        freeKey(of: slot, unlessUniqueAt: now)
        guard let extras = extras(of: slot), extras.holdsKey else { return remove(slot) }
        freeContent(of: slot)
        withExtras(slot) { extras in
            extras.options.metadata = []
            extras.options.request = []
            extras.trace = TraceContext()
            extras.error = []
            extras.attempts = []
            extras.progress = []
            extras.result = []
            extras.log = []
        }
        // A new image replaces the one with the content, so that its space can be reused.
        _ = transition(slot, to: .hidden, until: extras.options.uniqueUntil, change: [.awaited, .full])
    }

    /// Ends a task that has failed for good: it moves to its queue's dead-letter queue, or stays as a dead task.
    private mutating func die(_ slot: Slot, at time: Int64, now: Int64) -> Slot {
        let queue = tasks[slot].queue
        count(in: queue) { $0.died += 1 }
        adoptReplacementAtEnd(of: slot)
        noteDead(of: slot)
        let result = extras(of: slot)?.result ?? []
        noteEnd(of: slot, .dead, result: result.span)
        let configuration = configuration(of: queue)?.value
        if let name = configuration?.deadLetter, name != queues[queue].name, !isDeadLetter(slot),
            let target = try? self.queue(named: name.span)
        {
            return sendDeadLetter(slot, to: target, at: time, now: now)
        }
        freeKey(of: slot, unlessUniqueAt: now)
        let stay = configuration?.deadExpiryMilliseconds ?? QueueConfiguration.defaultDeadExpiryMilliseconds
        return transition(slot, to: .dead, until: time.addingWithinRange(stay)) { $0.expires = time }
    }

    /// Makes a task that has died ready in another queue.
    private mutating func sendDeadLetter(_ slot: Slot, to target: Slot, at time: Int64, now: Int64) -> Slot {
        let origin = queues[tasks[slot].queue].name
        freeKey(of: slot)
        withExtras(slot) { extras in
            extras.key = []
            extras.options.uniqueUntil = 0
            (extras.options.retryLimit, extras.options.crashLimit, extras.crashes) = (.unsaid, .unsaid, 0)
            (extras.origin, extras.died) = (origin, time)
        }
        // The defaults for all queues apply to tasks, not to dead letters.
        let expiry = queues[target].configuration?.own.expiry ?? .unsaid
        return makeReady(slot, in: target, expiry: expiry == .unsaid ? .never : expiry, now: now)
    }

    /// Makes a task ready in another queue, with its retries and its expiry reset. The caller resets its crashes.
    mutating func makeReady(_ slot: Slot, in target: Slot, expiry: Expiry, now: Int64) -> Slot {
        let lifetime = lifetimeMilliseconds(expiry, in: target)
        return transition(slot, to: .ready, until: now, in: target) { record in
            record.retries = 0
            record.lifetimeMilliseconds = lifetime
            record.expires = now.addingWithinRange(lifetime)
        }
    }

    /// Ends an expired task.
    private mutating func expire(_ slot: Slot, now: Int64) -> Slot {
        let queue = tasks[slot].queue
        count(in: queue) { $0.expired += 1 }
        let time = tasks[slot].expires
        if configuration(of: queue)?.value.isExpiryDeath == true {
            if tasks[slot].state == .dispatched {
                noteAttempt(slot, .expired, at: time)
                replaceLog(of: slot)
            }
            return die(slot, at: time, now: now)
        }
        finish(slot, .expired, at: time, now: now)
        return 0
    }

    /// Ends a task that a take found to be expired or worn out.
    mutating func endPendingRemoval(_ slot: Slot, now: Int64) -> Slot {
        if tasks[slot].expires <= now { return expire(slot, now: now) }
        if hasCrashedTooOften(slot) { noteThatLeaseRanOut(slot, isLastCrash: true, namesWorker: false) }
        return die(slot, at: now, now: now)
    }

    /// Cancels an unfinished task, or, if asked to, a dead one; false if it is neither.
    mutating func cancel(_ id: UID, includingDead: Bool, now: Int64) -> Bool {
        let slot = task(id)
        guard slot != 0,
            tasks[slot].isAlive(now: now) || includingDead && tasks[slot].state == .dead && tasks[slot].until > now
        else { return false }
        count(in: tasks[slot].queue) { $0.cancelled += 1 }
        finish(slot, .cancelled, at: now, now: now)
        return true
    }

    /// Whether a task is dead; a record that is due to be deleted counts.
    func isDead(_ id: UID) -> Bool {
        let slot = task(id)
        return slot != 0 && tasks[slot].state == .dead
    }

    /// Deletes the record of a finished task; false if there is none.
    mutating func deleteRecord(_ id: UID, now: Int64) -> Bool {
        let slot = task(id)
        guard slot != 0, tasks[slot].state.isListed, !tasks[slot].state.isUnfinished, tasks[slot].until > now
        else { return false }
        hide(slot, now: now)
        return true
    }

    /// Replaces or deletes the result of a task; false if there is none. A finished task need not have had one.
    mutating func replaceResult(of id: UID, with result: Span<UInt8>, now: Int64) -> Bool {
        let slot = task(id)
        guard slot != 0, let state = visibleState(of: slot, now: now),
            extras(of: slot)?.result.isEmpty == false || !state.isUnfinished && !result.isEmpty
        else { return false }
        withExtras(slot) { $0.result = Array(copying: result) }
        return true
    }

    /// Makes a task ready again whose lease ran out while the server was down. It is unknown whether the attempt
    /// failed.
    private mutating func lapse(_ slot: Slot, now: Int64) -> Slot {
        if let waitedFor = applyReplacement(slot, now: now) { return waitedFor }
        noteAttempt(slot, .timedOut, at: endOfDispatch(slot, now: now))
        replaceLog(of: slot)
        return transition(slot, to: .ready, until: endOfDispatch(slot, now: now))
    }

    // MARK: Time

    /// Fires the next timer that is due at `time`.
    ///
    /// - Parameters:
    ///   - time: the time up to which timers are due.
    ///   - now: the time now, at or after `time`: a task that has expired by now is not made ready again.
    ///   - steps: how many timers it may still move; counts down.
    /// - Returns: nil if none is due or the steps are used up.
    mutating func fireTimer(upTo time: Int64, now: Int64, steps: inout Int) -> Slot? {
        let slot = timers.fire(upTo: time, steps: &steps, in: &tasks)
        guard slot != 0 else { return nil }
        isUnawaited = true
        defer { isUnawaited = false }
        switch tasks[slot].state {
        case .ready, .delayed, .dispatched:
            if tasks[slot].expires <= now { return expire(slot, now: now) }
            if tasks[slot].state == .dispatched {
                var waitedFor: Slot = 0
                count(in: tasks[slot].queue) { $0.timedOut += 1 }
                if extras(of: slot)?.hasLapsed == true { return lapse(slot, now: now) }
                _ = fail(slot, .failed, leaseRanOut: true, now: now, waitedFor: &waitedFor)
                return waitedFor
            }
            // The delay ended at its deadline, even if the timer is late.
            return transition(slot, to: .ready, until: tasks[slot].until, change: .any)
        case .pendingRemoval:
            return endPendingRemoval(slot, now: now)
        case .dead, .done, .cancelled, .expired, .hidden:
            hide(slot, now: now)
        case .vacant:
            preconditionFailure("a timer without a task")
        }
        return 0
    }
}
