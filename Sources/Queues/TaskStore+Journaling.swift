// Noting changes, and writing them as images, from which a journal restores the broker.
//
// An image is not an operation but the resulting state, written once for all changes of one turn of the loop. So a task
// that came and went within a turn is not written at all, and reading needs no rules.

import UID

extension TaskStore {
    /// The approximate size of an image besides its content and texts, in bytes.
    private static var imageBytes: Int { 250 }

    // MARK: Noting

    /// Notes that a task has changed.
    @inline(__always)
    mutating func note(_ slot: Slot, _ change: ImageIndex.Change = .awaited) {
        if isJournaled { noteInIndex(slot, change == .awaited && isUnawaited ? .any : change) }
    }

    mutating func noteInIndex(_ slot: Slot, _ change: ImageIndex.Change) {
        let bytes = Self.imageBytes + imageTextBytes(of: slot, isFull: change.contains(.full))
        images.note(slot, change, bytes: bytes)
    }

    /// The approximate size of a task's optional parts in an image, in bytes; with its content if the image is full.
    func imageTextBytes(of slot: Slot, isFull: Bool) -> Int {
        let extras = tasks[slot].extras == 0 ? nil : extras(of: slot)
        return isFull ? (extras?.byteCount ?? 0) + Int(tasks[slot].content.count) : extras?.stateImageBytes ?? 0
    }

    /// Notes that a queue was configured, paused or resumed.
    mutating func noteQueue(_ queue: Slot) {
        guard isJournaled, !queues[queue].isChanged else { return }
        update(queue) { $0.isChanged = true }
        images.changedQueues.append(queue)
        images.hasAwaited = true
        images.pendingBytes += Self.imageBytes
    }

    // MARK: Writing

    /// Writes the images of all changes since the last call, as the payload of the next frame.
    ///
    /// - Parameters:
    ///   - writer: an empty writer, which stays empty if nothing has changed.
    ///   - skipsUnawaited: whether to drop changes that no client is told of.
    ///   - limit: a size in bytes; beyond it, changes that no client is told of are left to the next call.
    mutating func writeChanges(into writer: inout ImageWriter, skipsUnawaited: Bool, limit: Int) {
        images.oldestRenewed = .max
        for id in images.removed {
            writer.append(.removal)
            writer.append(id)
        }
        for queue in images.changedQueues where queues[queue].isChanged {
            writeQueue(queue, into: &writer)
            update(queue) { $0.isChanged = false }
        }
        writeSettings(into: &writer)
        var deferred: [Slot] = []
        for slot in images.changed {
            let change = images[slot].change
            if change.isEmpty { continue }
            if change == .any, skipsUnawaited {
                images[slot].change = []
                continue
            }
            if !change.contains(.awaited), writer.count > limit {
                deferred.append(slot)
                continue
            }
            images[slot].change = []
            writeTask(slot, isFull: change.contains(.full), into: &writer)
        }
        if images.hasChangedSweeps || !sweeps.isEmpty && !writer.isEmpty { writeSweeps(into: &writer) }
        if images.hasAwaited, writer.isEmpty { writer.append(.nothing) }
        if images.hasAwaited { images.awaitedSequence = images.sequence }
        images.hasAwaited = false
        images.removed.emptyKeepingSome()
        images.changedQueues.emptyKeepingSome()
        images.changed.emptyKeepingSome()
        images.changed += deferred
        images.pendingBytes = deferred.count * Self.imageBytes
        if !writer.isEmpty { images.sequence += 1 }
    }

    /// Drops changes that no client is told of.
    mutating func forgetUnawaitedChanges() {
        guard images.pendingBytes > 0 else { return }
        var rest: [Slot] = []
        for slot in images.changed {
            if images[slot].change == .any {
                images[slot].change = []
                images.pendingBytes = max(0, images.pendingBytes - Self.imageBytes)
            } else if !images[slot].change.isEmpty {
                rest.append(slot)
            }
        }
        images.changed = rest
        if rest.isEmpty, !images.hasAwaited { images.pendingBytes = 0 }
    }

    private mutating func writeTask(_ slot: Slot, isFull: Bool, into writer: inout ImageWriter) {
        let start = writer.count
        writer.append(isFull ? .task : .state)
        writer.append(name: queues[tasks[slot].queue].name)
        // A copy: the coder changes the record to what reading would give, which is in no list.
        var (record, position) = (tasks[slot], images[slot].position)
        record.code(&writer, position: &position)
        extras(of: slot)?.code(&writer, withMetadata: isFull)
        if isFull { writer.code(255, &tasks[slot].content) }
        writer.endFields(of: "a task")
        if isFull { images.noteImage(slot, sequence: images.sequence, byteCount: writer.count - start) }
    }

    private mutating func writeQueue(_ queue: Slot, into writer: inout ImageWriter) {
        let start = writer.count
        writer.append(.queue)
        writer.append(name: queues[queue].name)
        var image = QueueImage(configuration: queues[queue].configuration?.own)
        if queues[queue].pause == .paused { (image.isPaused, image.pausedSince) = (true, queues[queue].since) }
        image.code(&writer)
        noteQueueImage(queue, sequence: images.sequence, byteCount: writer.count - start)
    }

    /// Writes all sweeps under way, or that there are none.
    private mutating func writeSweeps(into writer: inout ImageWriter) {
        images.hasChangedSweeps = false
        let unfinished = sweeps.filter(\.isToBeResumed)
        guard !unfinished.isEmpty || images.knowsSweeps else { return }
        images.knowsSweeps = !unfinished.isEmpty
        writer.append(.sweeps)
        for sweep in unfinished {
            writer.append(.sweep)
            var image = SweepImage()
            image.queue = queues[sweep.queue].name
            image.target = sweep.target == 0 ? [] : queues[sweep.target].name
            image.action = sweep.action.code
            image.states = sweep.metStates.reduce(0) { $0 | 1 << $1.recordState.rawValue }
            (image.rest, image.begun) = (Int64(sweep.rest), sweep.begun)
            (image.firstPosition, image.endPosition) = (sweep.positions.lowerBound, sweep.positions.upperBound)
            image.filter = sweep.filter
            image.code(&writer)
        }
    }

    /// Notes that an image of a queue is in a frame. An image is needed only if the queue is configured or paused.
    mutating func noteQueueImage(_ queue: Slot, sequence: UInt64, byteCount: Int) {
        let isNeeded = queues[queue].pause == .paused || queues[queue].configuration != nil
        if queues[queue].imageSequence != 0 {
            images.oldestRenewed = min(images.oldestRenewed, queues[queue].imageSequence)
        }
        images.liveBytes -= Int(queues[queue].imageBytes)
        queues[queue].imageSequence = isNeeded ? sequence : 0
        queues[queue].imageBytes = isNeeded ? UInt32(clamping: byteCount) : 0
        images.liveBytes += Int(queues[queue].imageBytes)
        if isNeeded { images.noteQueueImage(queue, sequence: sequence) }
    }

    // MARK: What is needed

    /// The sequence number of the oldest frame that restoring needs; nil if it needs none.
    mutating func oldestNeededSequence() -> UInt64? {
        let queue = firstQueueImage()
        let task = images.first == 0 ? nil : images[images.first].fullSequence
        return [queue?.sequence, task, firstSettingImage].compactMap { $0 }.min()
    }

    /// The oldest image of a queue that is needed.
    private mutating func firstQueueImage() -> (queue: Slot, sequence: UInt64)? {
        while let image = images.oldestQueueImage {
            if queues.contains(image.queue), queues[image.queue].imageSequence == image.sequence { return image }
            images.forgetOldestQueueImage()
        }
        return nil
    }

    /// Makes the oldest images that are needed be written again.
    ///
    /// - Parameters:
    ///   - byteCount: how many bytes of images to write again; at most one image exceeds it.
    ///   - sequence: only images in frames before this one are written again.
    /// - Returns: how many bytes of images will be written again.
    mutating func renewImages(byteCount: Int, before sequence: UInt64) -> Int {
        var rest = byteCount
        while rest > 0, let image = firstQueueImage(), image.sequence < sequence {
            rest -= Int(queues[image.queue].imageBytes)
            images.forgetOldestQueueImage()
            noteQueue(image.queue)
        }
        renewSettings(&rest, before: sequence)
        var slot = images.first
        while rest > 0, slot != 0, images[slot].fullSequence < sequence {
            let size = Int(images[slot].byteCount)
            rest -= size
            images.note(slot, .full, bytes: size)
            slot = images.next(after: slot)
        }
        return byteCount - rest
    }
}

extension Array {
    /// Empties the array, and frees the memory of a large one.
    fileprivate mutating func emptyKeepingSome() {
        removeAll(keepingCapacity: capacity <= 1 << 14)
    }
}

extension Sweep.Action {
    fileprivate var code: UInt8 {
        switch self {
        case .purge: 0
        case .kick: 1
        case .kickToOrigin: 2
        case .move: 3
        case .wearOut: 4
        case .giveToWorkers: preconditionFailure("it is not written")
        }
    }
}
