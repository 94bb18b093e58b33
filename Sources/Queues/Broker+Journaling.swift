// The interface for a journal: which tasks and queues have changed, and restoring them. The broker does not know what
// is on disk or what is safe there; it knows frames only by their sequence numbers.

extension Broker {
    // MARK: Restoring

    /// Prepares for restoring an earlier broker from a journal. Call this before any other method. O(1).
    ///
    /// - Parameter expectedTasks: an estimate of the number of tasks; a good one makes restoring faster.
    public func beginRestoring(expectedTasks: Int = 1) {
        precondition(store.tasks.count == 0 && !store.isJournaled, "restores into a broker that is in use")
        store.images = ImageIndex(capacity: store.tasks.capacity)
        store.tasks.reserve(expectedTasks)
        restoration = Restoration()
    }

    /// Restores from a frame's payload. O(n) for n bytes.
    ///
    /// - Parameters:
    ///   - payload: the bytes that `writeChanges` made.
    ///   - sequence: the frame's sequence number. Pass the frames in the order of these numbers.
    /// - Throws: `ImageError` if the payload is damaged; the images before the damaged one have been restored then.
    public func restore(_ payload: Span<UInt8>, sequence: UInt64) throws(ImageError) {
        try store.restore(payload, sequence: sequence, &restoration)
    }

    /// Puts the tasks into their places after all frames have been restored. O(n log n) for n tasks in all; O(1) a
    /// step, except for the step that sorts tasks that are out of order.
    ///
    /// - Parameters:
    ///   - nextSequence: the sequence number of the next frame.
    ///   - now: the time.
    ///   - graceMilliseconds: how long the leases of dispatched tasks last at least; these tasks do not expire before
    ///     that either.
    ///   - limit: how many tasks to look at in this call.
    /// - Returns: whether all tasks are in place. If so, changes are noted from now on, and `advance` does what has
    ///   become due meanwhile.
    public func finishRestoring(
        nextSequence: UInt64, now: Int64, graceMilliseconds: Int64, limit: Int = 10_000
    ) -> Bool {
        precondition(graceMilliseconds >= 0 && limit > 0)
        var steps = limit
        let isDone = store.finishRestoring(
            &restoration, now: now, graceMilliseconds: graceMilliseconds, steps: &steps)
        guard isDone else { return false }
        store.images.sequence = nextSequence
        store.images.awaitedSequence = nextSequence - 1
        store.isJournaled = true
        store.resumeSweeps(restoration)
        restoration = Restoration()
        return true
    }

    /// How many tasks `finishRestoring` has put into their places. O(1).
    public var restoredCount: Int { restoration.placed }

    // MARK: Changes

    /// The approximate size of the next payload, in bytes. O(1).
    public var pendingChangeBytes: Int { store.images.pendingBytes }

    /// The approximate size of a task's optional parts in its next image, in bytes; 0 if there is no such task. O(1).
    ///
    /// - Parameters:
    ///   - reference: the task.
    ///   - isFull: whether the image also has the content, because the task gets a log.
    /// - Returns: the bytes.
    public func imageTextBytes(of reference: TaskReference, isFull: Bool = false) -> Int {
        let slot = store.task(reference.id)
        return slot == 0 ? 0 : store.imageTextBytes(of: slot, isFull: isFull)
    }

    /// Whether so much has changed that further work should be left to a later frame.
    var hasChangedMuch: Bool { store.images.pendingBytes > 16 << 20 }

    /// The sequence number of the frame that must be safe before an answer may report anything done so far; 0 without a
    /// journal. O(1).
    public var changeSequence: UInt64 {
        guard store.isJournaled else { return 0 }
        return store.images.hasAwaited ? store.images.sequence : store.images.awaitedSequence
    }

    /// The sequence number of the last frame that was written or restored. O(1).
    public var lastFrameSequence: UInt64 { store.images.sequence - 1 }

    /// Drops changes that no client is told of, so that they are never written. O(changes).
    public func forgetUnawaitedChanges() { store.forgetUnawaitedChanges() }

    /// Writes what has changed since the last call, as the payload of the next frame. O(changes).
    ///
    /// - Parameters:
    ///   - skipsUnawaited: whether to drop changes that no client is told of: dispatches, and what happens when time
    ///     passes. If they are lost in a crash, tasks may be dispatched twice.
    ///   - limit: a size in bytes; beyond it, such changes are left to the next call.
    ///   - body: receives the payload and its sequence number; not called if nothing has changed.
    public func writeChanges(
        skipsUnawaited: Bool = false, limit: Int = 16 << 20, _ body: (Span<UInt8>, UInt64) -> Void
    ) {
        guard store.isJournaled else { return }
        let sequence = store.images.sequence
        store.writeChanges(into: &imageWriter, skipsUnawaited: skipsUnawaited, limit: limit)
        if imageWriter.isEmpty { return }
        body(imageWriter.span, sequence)
        imageWriter.removeAll()
    }

    /// The sequence number of the oldest frame that restoring needs; nil if it needs none. O(1).
    public func oldestNeededSequence() -> UInt64? { store.oldestNeededSequence() }

    /// The sequence number of the oldest frame that restoring needs as long as the last frame is not safe; nil if it
    /// needs none. O(1).
    public func oldestRenewedSequence() -> UInt64? {
        store.images.oldestRenewed == .max ? nil : store.images.oldestRenewed
    }

    /// The size of the images that are needed, in bytes. O(1).
    public var liveImageBytes: Int { store.images.liveBytes }

    /// Writes the oldest images that are needed again with the next changes, so that their frames are no longer needed.
    /// O(images).
    ///
    /// - Parameters:
    ///   - byteCount: how many bytes of images to write again; at most one image exceeds it.
    ///   - sequence: only images in frames before this one are written again.
    /// - Returns: how many bytes of images will be written again.
    @discardableResult
    public func renewImages(byteCount: Int, before sequence: UInt64) -> Int {
        store.renewImages(byteCount: byteCount, before: sequence)
    }
}
