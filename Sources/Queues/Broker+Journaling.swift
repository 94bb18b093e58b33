// What a journal needs of a broker: what has changed, and the way back from it. The journal itself, what is on disk and what
// is safe there, is not known here; it is told by the sequences of its frames.

extension Broker {
    // MARK: Restoring

    /// Gets ready to read what a journal has of an earlier broker. To be called before anything else is. O(1).
    ///
    /// - Parameter expectedTasks: about how many tasks there may be; a good guess makes reading faster.
    public func beginRestoring(expectedTasks: Int = 1) {
        precondition(store.tasks.count == 0 && !store.isJournaled, "restores into a broker that is in use")
        store.images = ImageIndex(capacity: store.tasks.capacity)
        store.tasks.reserve(expectedTasks)
        restoration = Restoration()
    }

    /// Reads a frame's payload. O(n) for n bytes.
    ///
    /// - Parameters:
    ///   - payload: what `writeChanges` has given out.
    ///   - sequence: the frame's sequence; the frames come in the order of these.
    /// - Throws: `ImageError` if it makes no sense; what stands before the image at fault has been taken over then.
    public func restore(_ payload: Span<UInt8>, sequence: UInt64) throws(ImageError) {
        try store.restore(payload, sequence: sequence, &restoration)
    }

    /// Puts the tasks in their places, when all frames are read. O(n log n) for n tasks in all; O(1) a step, but for the one
    /// that sorts those that are out of order.
    ///
    /// - Parameters:
    ///   - nextSequence: the sequence that the next frame will have.
    ///   - now: the time.
    ///   - graceMilliseconds: how long the leases of what was dispatched last at least, and how long it does not expire.
    ///   - limit: how many tasks to look at in this call.
    /// - Returns: whether all are there: what time has done to them meanwhile is done by `advance`, and changes are noted from
    ///   now on.
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

    /// How many tasks have been put in their places by `finishRestoring`. O(1).
    public var restoredCount: Int { restoration.placed }

    // MARK: Changes

    /// About how many bytes the next payload has. O(1).
    public var pendingChangeBytes: Int { store.images.pendingBytes }

    /// What the image of a task takes for what few tasks have, about, in bytes; 0 if there is no such task. O(1).
    public func imageTextBytes(of reference: TaskReference) -> Int {
        let slot = store.task(reference.id)
        return slot == 0 ? 0 : store.extras(of: slot)?.byteCount ?? 0
    }

    /// Whether so much has changed that the rest should come with a later frame.
    var hasChangedMuch: Bool { store.images.pendingBytes > 16 << 20 }

    /// The sequence of the frame that has to be safe for an answer that tells of anything that was done so far; 0 without a
    /// journal. O(1).
    public var changeSequence: UInt64 {
        guard store.isJournaled else { return 0 }
        return store.images.hasAwaited ? store.images.sequence : store.images.awaitedSequence
    }

    /// The sequence of the last frame that `writeChanges` gave out, or that was restored. O(1).
    public var lastFrameSequence: UInt64 { store.images.sequence - 1 }

    /// Leaves out, for good, what has changed and no client is told of, as `writeChanges` can. O(changes).
    public func forgetUnawaitedChanges() { store.forgetUnawaitedChanges() }

    /// Gives out what has changed since the last call, as the payload of the frame that comes next. O(changes).
    ///
    /// - Parameters:
    ///   - skipsUnawaited: whether to leave out, for good, what no client is told of: which tasks were dispatched, and what
    ///     time brings about. If that gets lost in a crash, tasks may be given out twice.
    ///   - limit: a size in bytes beyond which that is left to the next call.
    ///   - body: gets the payload and its sequence; not called if nothing has changed.
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

    /// The sequence of the oldest frame that is needed to bring everything back; nil if none is. O(1).
    public func oldestNeededSequence() -> UInt64? { store.oldestNeededSequence() }

    /// The sequence of the oldest frame that is needed as long as the last one that `writeChanges` gave out is not safe; nil if
    /// none is. O(1).
    public func oldestRenewedSequence() -> UInt64? {
        store.images.oldestRenewed == .max ? nil : store.images.oldestRenewed
    }

    /// The size of the images that are needed, in bytes. O(1).
    public var liveImageBytes: Int { store.images.liveBytes }

    /// Has the oldest images that are needed written anew with the next changes, so that the frames they are in are not needed
    /// any more. O(images).
    ///
    /// - Parameters:
    ///   - byteCount: how many bytes of images; one more is begun at most.
    ///   - sequence: only those in frames before this one.
    /// - Returns: how many bytes of images.
    @discardableResult
    public func renewImages(byteCount: Int, before sequence: UInt64) -> Int {
        store.renewImages(byteCount: byteCount, before: sequence)
    }
}
