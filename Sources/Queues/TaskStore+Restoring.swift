// Restoring tasks and queues from their images.
//
// While images are read, tasks are only in the table: in no list, without a timer, and marked as pending removal. After
// the last image, they are sorted by their positions and put where they belong.

import Bytes
import UID

/// The progress of restoring after the last image.
struct Restoration {
    /// The tasks in the order of their positions.
    var order: [(position: Int64, slot: Slot)] = []
    /// How many slots have been looked at; afterwards, how many of the tasks in `order` have been put into their
    /// places.
    var scanned: Slot = 1
    var placed = 0
    /// The position of the last task.
    var lastPosition = Int64.min
    /// The tasks that a worker held. They are placed last, because their leases last from when the server is ready.
    var held: [(leaseEnd: Int64, slot: Slot)] = []
    var heldPlaced = 0
    /// How many of their timers have been armed again, in the order in which their leases were to end.
    var heldArmed = 0
    /// The tasks that were being sent. They are placed after all others, the last one first, at the fronts of their
    /// lists.
    var sent: [Slot] = []
    var isSorted = true
    /// The earliest deadline of all. What is overdue is done in the order of its times, as if the server had been
    /// running.
    var firstDeadline = Int64.max
    /// The sweeps that were under way.
    var sweeps: [SweepImage] = []
    /// The queue of the last image, because the next image is often of the same queue.
    var lastQueue: Slot = 0
    var lastName: [UInt8] = []
    /// The highest id so far.
    var lastID = UID(high: 0, low: 0)
}

extension TaskStore {
    /// Reads the images of one frame.
    ///
    /// - Throws: `ImageError`; the store must not be used then.
    mutating func restore(
        _ payload: Span<UInt8>, sequence: UInt64, _ restoration: inout Restoration
    ) throws(ImageError) {
        if Version2ImageReader.reads(payload) {
            var reader = Version2ImageReader(payload)
            try restoreImages(&reader, sequence: sequence, &restoration)
        } else {
            var reader = ImageReader(payload)
            try restoreImages(&reader, sequence: sequence, &restoration)
        }
        images.sequence = sequence + 1
    }

    private mutating func restoreImages<Reader: ImageReading & ~Copyable & ~Escapable>(
        _ reader: inout Reader, sequence: UInt64, _ restoration: inout Restoration
    ) throws(ImageError) {
        var start = 0
        while let kind = try reader.readKind() {
            switch kind {
            case .nothing: break
            case .task:
                let slot = try restoreTask(&reader, isFull: true, &restoration)
                images.noteImage(slot, sequence: sequence, byteCount: reader.readCount - start)
            case .state: _ = try restoreTask(&reader, isFull: false, &restoration)
            case .removal:
                let slot = task(try reader.readID())
                // If the task is not there, its image was in a part of the journal that has been deleted.
                if slot == 0 { break }
                images.forget(slot)
                remove(slot)
            case .queue:
                let queue = try restoreQueue(&reader, &restoration)
                noteQueueImage(queue, sequence: sequence, byteCount: reader.readCount - start)
            case .sweeps: restoration.sweeps = []
            case .sweep:
                var image = SweepImage()
                try image.code(&reader)
                restoration.sweeps.append(image)
            case .setting:
                var image = SettingImage()
                try image.code(&reader)
                try restore(image, sequence: sequence, byteCount: reader.readCount - start)
            }
            start = reader.readCount
        }
    }

    /// - Returns: the task's slot; 0 for a partial image of a task whose full image was deleted.
    private mutating func restoreTask<Reader: ImageReading & ~Copyable & ~Escapable>(
        _ reader: inout Reader, isFull: Bool, _ restoration: inout Restoration
    ) throws(ImageError) -> Slot {
        let name = try reader.readName()
        try reader.check(!name.isEmpty, "a queue without a name")
        var position: Int64 = 0
        var record = TaskRecord()
        try record.code(&reader, position: &position)
        try reader.check(position.magnitude < 1 << 62, "a position that cannot be")
        var hasExtras = false
        try reader.code(anyOf: TaskExtras.fields, &hasExtras)
        let extras = hasExtras ? TaskExtras(task: 0) : nil
        try extras?.code(&reader, withMetadata: isFull)
        try reader.check(
            extras?.replacement == nil || record.state == .dispatched, "a replacement that waits for nothing")
        if let extras, !extras.key.isEmpty {
            try reader.check(extras.holdsKey || !record.state.isUnfinished, "an unfinished task whose key is free")
        }
        // All errors are found before anything is changed.
        if isFull { try reader.code(255, &record.content) }
        try reader.endFields(of: "a task")
        let queue = try queue(restored: name, &restoration)
        record.content = try copy(record.content)
        if let replacement = extras?.replacement { replacement.content = try copy(replacement.content) }
        return try restore(record, extras, position: position, in: queue, isFull: isFull, &restoration)
    }

    /// A copy, owned by the store, of a content in the image that is being read.
    private mutating func copy(_ content: Content) throws(ImageError) -> Content {
        guard let copy = contents.allocate(copying: content.span) else {
            throw ImageError(problem: "the system has no memory for the content of a task", isShortage: true)
        }
        return copy
    }

    /// Restores a task from its image. Owns its contents unless it throws.
    private mutating func restore(
        _ read: TaskRecord, _ extras: TaskExtras?, position: Int64, in queue: Slot, isFull: Bool,
        _ restoration: inout Restoration
    ) throws(ImageError) -> Slot {
        var record = read
        // Ids grow with time, so a higher id is a new task. Looking each up would be most of the work.
        let id = record.id
        let isNew = restoration.lastID < id
        if isNew { restoration.lastID = id }
        let slot = isNew ? 0 : task(id)
        let state = record.state
        record.state = .pendingRemoval
        record.queue = queue
        if slot == 0 {
            guard isFull else {
                if let replacement = extras?.replacement { contents.deallocate(replacement.content) }
                return 0
            }
            return try insert(record, extras, restoredState: state, position: position)
        }
        if tasks[slot].queue != queue {
            update(queue) { $0.tasks += 1 }
            update(tasks[slot].queue) { $0.tasks -= 1 }
            // Extras that hold a key are found by it and the queue.
            tasks[slot].queue = queue
        }
        // A part that is missing in the image is deleted.
        if let extras = extras ?? self.extras(of: slot).map({ _ in TaskExtras(task: slot) }) {
            restoreExtras(extras, of: slot, keepsMetadata: !isFull && state != .hidden)
        }
        if isFull {
            freeContent(of: slot)
            contentBytes += record.content.heapBytes
        } else {
            if state == .hidden { freeContent(of: slot) }
            record.content = tasks[slot].content
        }
        record.extras = tasks[slot].extras
        record.chained = tasks[slot].chained
        tasks[slot] = record
        images.noteRestored(slot, state, position: position)
        return slot
    }

    private mutating func insert(
        _ record: TaskRecord, _ extras: TaskExtras?, restoredState: TaskRecord.State, position: Int64
    ) throws(ImageError) -> Slot {
        guard let slot = tasks.insert(record) else {
            throw ImageError(problem: "there is no room for as many tasks", isShortage: true)
        }
        contentBytes += record.content.heapBytes
        update(record.queue) { $0.tasks += 1 }
        countTask(in: .pendingRemoval, 1)
        if let extras { restoreExtras(extras, of: slot, keepsMetadata: false) }
        images.noteRestored(slot, restoredState, position: position)
        return slot
    }

    private mutating func restoreExtras(_ extras: TaskExtras, of slot: Slot, keepsMetadata: Bool) {
        if let before = self.extras(of: slot) {
            if keepsMetadata {
                (extras.options.metadata, extras.options.request) = (before.options.metadata, before.options.request)
                extras.trace = before.trace
                if extras.hasUnreadLog { extras.log = before.log }
            }
            removeExtras(of: slot)
        }
        extras.hasUnreadLog = false
        extras.task = slot
        place(extras)
        extrasBytes += extras.byteCount
    }

    private mutating func queue(
        restored name: Span<UInt8>, _ restoration: inout Restoration
    ) throws(ImageError) -> Slot {
        if restoration.lastQueue != 0, restoration.lastName.span.equals(name) { return restoration.lastQueue }
        do throws(BrokerError) {
            restoration.lastQueue = try queue(named: name)
            restoration.lastName = Array(copying: name)
        } catch {
            throw ImageError(problem: "there is no room for as many queues", isShortage: true)
        }
        return restoration.lastQueue
    }

    private mutating func restoreQueue<Reader: ImageReading & ~Copyable & ~Escapable>(
        _ reader: inout Reader, _ restoration: inout Restoration
    ) throws(ImageError) -> Slot {
        let name = try reader.readName()
        var image = QueueImage()
        try image.code(&reader)
        let saysOnlyDefaults = !image.isPaused && !(image.configuration?.isPushed ?? false)
        try reader.check(!name.isEmpty || saysOnlyDefaults, "defaults for all queues that cannot be")
        let (isPaused, isPushed) = (image.isPaused, image.configuration?.isPushed ?? false)
        let queue = try queue(restored: name, &restoration)
        setConfiguration(image.configuration, of: queue)
        setPaused(isPaused, queue, since: image.pausedSince)
        update(queue) { $0.isPushed = isPushed }
        if name.isEmpty { useDefaults(of: queue) }
        return queue
    }

    // MARK: After the last image

    /// Puts the tasks into their places.
    ///
    /// - Parameters:
    ///   - restoration: the progress.
    ///   - now: the time.
    ///   - graceMilliseconds: the least time that leases last from now on, and that tasks held by workers do not
    ///     expire.
    ///   - steps: how many tasks it may still look at; counts down. Sorting is one step.
    /// - Returns: whether all tasks are in place.
    mutating func finishRestoring(
        _ restoration: inout Restoration, now: Int64, graceMilliseconds: Int64, steps: inout Int
    ) -> Bool {
        while restoration.scanned < tasks.used {
            guard steps > 0 else { return false }
            steps -= 1
            let slot = restoration.scanned
            restoration.scanned += 1
            if tasks[slot].state == .vacant { continue }
            let position = images[slot].position
            if let last = restoration.order.last, last.position > position { restoration.isSorted = false }
            restoration.order.append((position, slot))
            restoration.firstDeadline = min(
                restoration.firstDeadline, tasks[slot].deadline(in: images[slot].restoredState))
        }
        if !restoration.isSorted {
            restoration.order.sort { $0.position < $1.position }
            restoration.isSorted = true
        }
        if restoration.placed == 0 { timers.begin(at: min(now, restoration.firstDeadline - 1)) }
        guard tasks.endReservation(steps: &steps) else { return false }
        while restoration.placed < restoration.order.count {
            guard steps > 0 else { return false }
            steps -= 1
            let (position, slot) = restoration.order[restoration.placed]
            if position <= restoration.lastPosition {
                // No two tasks are written with the same position, but a damaged journal may have such.
                images.noteRestored(slot, images[slot].restoredState, position: restoration.lastPosition + 1)
            }
            restoration.lastPosition = images[slot].position
            if images[slot].restoredState == .dispatched, tasks[slot].isPushed {
                restoration.sent.append(slot)
            } else if images[slot].restoredState == .dispatched {
                restoration.held.append((tasks[slot].until, slot))
            } else {
                place(slot, now: now, graceMilliseconds: graceMilliseconds)
            }
            restoration.placed += 1
        }
        while restoration.heldPlaced < restoration.held.count {
            guard steps > 0 else { return false }
            steps -= 1
            let slot = restoration.held[restoration.heldPlaced].slot
            place(slot, now: now, graceMilliseconds: graceMilliseconds)
            restoration.heldPlaced += 1
            if restoration.heldPlaced == restoration.held.count {
                restoration.held.sort { ($0.leaseEnd, tasks[$0.slot].token) < ($1.leaseEnd, tasks[$1.slot].token) }
            }
        }
        while restoration.heldArmed < restoration.held.count {
            guard steps > 0 else { return false }
            steps -= 1
            let slot = restoration.held[restoration.heldArmed].slot
            _ = transition(slot, to: .dispatched, until: tasks[slot].until, at: .same)
            restoration.heldArmed += 1
        }
        while let slot = restoration.sent.last {
            guard steps > 0 else { return false }
            steps -= 1
            placeSent(slot, now: now)
            restoration.sent.removeLast()
        }
        return true
    }

    /// Resumes the sweeps that were under way with the tasks that they had not met. They have no completions.
    mutating func resumeSweeps(_ restoration: Restoration) {
        images.knowsSweeps = !restoration.sweeps.isEmpty
        let pendingBytes = images.pendingBytes
        for image in restoration.sweeps {
            guard let queue = try? queue(named: image.queue.span) else { continue }
            let target = image.target.isEmpty ? 0 : (try? self.queue(named: image.target.span)) ?? 0
            let action: Sweep.Action =
                switch image.action {
                case 0: .purge
                case 1: .kick
                case 2: .kickToOrigin
                case 3: .move(target: target)
                default: .wearOut
                }
            if image.action == 3, target == 0 { continue }
            let states = TaskState.allCases.filter { image.states & 1 << $0.recordState.rawValue != 0 }
            // This program never writes too many.
            _ = try? beginSweep(
                of: queue, action, states: states, filter: image.filter, limit: Int(image.rest),
                positions: image.firstPosition..<image.endPosition, now: image.begun
            ) { _ in }
        }
        // They are already in the journal.
        (images.hasChangedSweeps, images.hasAwaited, images.pendingBytes) = (false, false, pendingBytes)
    }

    private mutating func place(_ slot: Slot, now: Int64, graceMilliseconds: Int64) {
        settleKey(of: slot)
        var state = images[slot].restoredState
        var (until, expires) = (tasks[slot].until, tasks[slot].expires)
        if state == .hidden, extras(of: slot)?.holdsKey != true {
            // It was kept only for its key, which another task holds now. Older versions wrote this.
            (state, until) = (.cancelled, 0)
        }
        if state == .dispatched {
            let graceEnd = now.addingWithinRange(graceMilliseconds)
            if until < graceEnd {
                let lease = currentLeaseMilliseconds(of: slot)
                let hasLapsed = until <= now
                withExtras(slot) { extras in
                    extras.leaseMilliseconds = max(1, lease)
                    extras.hasLapsed = hasLapsed
                }
                until = graceEnd
            }
            expires = max(expires, graceEnd)
        } else if state == .ready, until == .max || until == 0 {
            // An older journal does not say since when, or a take had found the task expired or worn out.
            until = tasks[slot].enqueued
        }
        _ = transition(slot, to: state, until: until) { $0.expires = expires }
    }

    /// Makes a task ready that was being sent before the restart. The new state is written too, because later images
    /// must fit it.
    private mutating func placeSent(_ slot: Slot, now: Int64) {
        settleKey(of: slot)
        _ = transition(slot, to: .ready, until: now, at: .front)
        let isReplaced = applyReplacement(slot, now: now) != nil
        images.notePlace(slot, atFront: !isReplaced)
        noteInIndex(slot, isReplaced ? .full : .any)
    }

    /// Of two tasks that hold the same key, the one that was added later keeps it. There can be two only if the end of
    /// the other one, which came by time, was not written.
    private mutating func settleKey(of slot: Slot) {
        guard let extras = extras(of: slot), extras.holdsKey else { return }
        let other = holder(of: extras.key, in: tasks[slot].queue)
        guard other != 0, other != slot else { return }
        let loser = tasks[other].enqueued > tasks[slot].enqueued ? slot : other
        setHoldsKey(false, of: loser)
        withExtras(loser) { $0.key = [] }
        // A task that is kept only for its key is removed. This program does not write such tasks.
        if images[loser].restoredState == .hidden {
            images[loser].restoredState = .cancelled
            if tasks[loser].state == .hidden {
                _ = transition(loser, to: .cancelled, until: 0)
            } else {
                tasks[loser].until = 0
            }
        }
    }
}
