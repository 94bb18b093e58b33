// The images of tasks and queues in a journal: what has changed since the last frame, and where the last full image of
// each task is. Without a journal, none of this takes memory.

import UID

/// What the journal has of each task, by its slot in the table of tasks.
///
/// All tasks are in one list in the order of their full images, oldest first. The first of them says which frames are
/// still needed.
struct ImageIndex: ~Copyable {
    /// What of a task has to be written, and why.
    struct Change: OptionSet {
        let rawValue: UInt8

        /// Something has changed.
        static var any: Change { Change(rawValue: 1) }
        /// A client may be told of the change once it is safe. Other changes (effects of time, dispatches) happen again
        /// if they are lost, or do not matter then.
        static var awaited: Change { Change(rawValue: 2) }
        /// The content, the metadata and the trace context have to be written too.
        static var full: Change { Change(rawValue: 4) }
    }

    /// What is known of a task, in 40 bytes; all zeros if nothing is.
    struct Entry {
        fileprivate var links = Links()
        /// The sequence number of the frame with its last full image; 0 for none.
        var fullSequence: UInt64 = 0
        /// The sequence number of the frame that made it ready, which must be safe before an answer gives the task out.
        var readySequence: UInt64 = 0
        /// The tasks of a list are in the order of their positions.
        var position: Int64 = 0
        /// The size of its last full image.
        var byteCount: UInt32 = 0
        var change: Change = []
        /// Its state according to the images read so far. Meanwhile its record says that its removal is pending.
        var restoredState = TaskRecord.State.vacant
    }

    private var entries: Region<Entry>
    private(set) var first: Slot = 0
    private var last: Slot = 0
    /// The slots of tasks that have changed. Some may be there twice, or be vacant.
    var changed: [Slot] = []
    /// The tasks that were removed and are still in the journal.
    var removed: [UID] = []
    var changedQueues: [Slot] = []
    /// The images of queues, oldest first: the queue, and the sequence number of the frame. An entry is obsolete if its
    /// queue has another sequence number.
    private var queueImages: [(queue: Slot, sequence: UInt64)] = []
    private var firstQueueImage = 0
    /// The oldest image that an image in the last frame replaced.
    var oldestRenewed = UInt64.max
    /// The size of the images that are needed, in bytes.
    var liveBytes = 0
    /// The approximate size of the images to be written, in bytes.
    var pendingBytes = 0
    /// Whether anything has changed that a client may be told of.
    var hasAwaited = false
    /// Whether the sweeps under way have changed, and whether the journal has any.
    var hasChangedSweeps = false
    var knowsSweeps = false
    /// Whether settings have to be written, and those that are gone, with the frames that still have them.
    var hasChangedSettings = false
    var removedSettings: [(name: [UInt8], sequence: UInt64)] = []
    /// The sequence number of the last frame with a change that a client may be told of.
    var awaitedSequence: UInt64 = 0
    /// The sequence number of the next frame.
    var sequence: UInt64 = 1
    /// The positions of the next tasks at the back and at the front of a list.
    private var backPosition: Int64 = 1
    private var frontPosition: Int64 = 0

    /// Makes an index for tasks with slots up to `capacity`.
    init(capacity: Int) {
        entries = Region(capacity: capacity + 1)
    }

    subscript(slot: Slot) -> Entry {
        unsafeAddress {
            precondition(slot < entries.capacity, "no such slot")
            return unsafe UnsafePointer(entries.start + Int(slot))
        }
        unsafeMutableAddress {
            precondition(slot < entries.capacity, "no such slot")
            return unsafe entries.start + Int(slot)
        }
    }

    // MARK: Changes

    /// Notes that a task has changed; `bytes` is the approximate size of its image.
    @inline(__always)
    mutating func note(_ slot: Slot, _ change: Change, bytes: @autoclosure () -> Int) {
        let before = self[slot].change
        let after = before.union(change).union(.any)
        if change.contains(.awaited) {
            hasAwaited = true
            self[slot].readySequence = sequence
        }
        if before == after { return }
        self[slot].change = after
        if before.isEmpty { changed.append(slot) }
        if before.isEmpty || change.contains(.full) { pendingBytes += bytes() }
    }

    /// Notes that a task was removed.
    mutating func noteRemoval(_ slot: Slot, id: UID) {
        hasAwaited = true
        pendingBytes += 17
        if self[slot].fullSequence != 0 {
            removed.append(id)
            unlink(slot)
        }
        self[slot] = Entry()
    }

    /// Notes that a sweep has begun or ended.
    mutating func noteSweeps() {
        hasChangedSweeps = true
        hasAwaited = true
        pendingBytes += 100
    }

    /// The range of positions given so far.
    var positions: Range<Int64> { frontPosition + 1..<backPosition }

    /// Notes the place that a task got in its list.
    @inline(__always)
    mutating func notePlace(_ slot: Slot, atFront: Bool) {
        if atFront {
            self[slot].position = frontPosition
            frontPosition -= 1
        } else {
            self[slot].position = backPosition
            backPosition += 1
        }
    }

    /// Notes a task's position from its image; later positions will be beyond it.
    mutating func noteRestored(_ slot: Slot, _ state: TaskRecord.State, position: Int64) {
        self[slot].restoredState = state
        self[slot].position = position
        backPosition = max(backPosition, position + 1)
        frontPosition = min(frontPosition, position - 1)
    }

    // MARK: Images

    /// Returns the memory of slots of which nothing is known.
    func giveBack(_ slots: Range<Slot>) { entries.giveBack(Int(slots.lowerBound)..<Int(slots.upperBound)) }

    /// Returns the memory of slots from `used` on, one slice per call, and says whether nothing is left to return.
    mutating func trim(keeping used: Slot) -> Bool { entries.trim(keeping: Int(used)) }

    /// Notes that a full image of a task is in a frame, and moves the task to the end of the list.
    mutating func noteImage(_ slot: Slot, sequence: UInt64, byteCount: Int) {
        if self[slot].fullSequence != 0 {
            oldestRenewed = min(oldestRenewed, self[slot].fullSequence)
            unlink(slot)
        }
        entries.use(Int(slot) + 1)
        self[slot].fullSequence = sequence
        self[slot].byteCount = UInt32(clamping: byteCount)
        self[slot].links = Links(next: 0, previous: last)
        if last == 0 { first = slot } else { self[last].links.next = slot }
        last = slot
        liveBytes += Int(self[slot].byteCount)
    }

    /// The task with the next full image after another task's, 0 if there is none.
    func next(after slot: Slot) -> Slot { self[slot].links.next }

    private mutating func unlink(_ slot: Slot) {
        let links = self[slot].links
        if links.previous == 0 { first = links.next } else { self[links.previous].links.next = links.next }
        if links.next == 0 { last = links.previous } else { self[links.next].links.previous = links.previous }
        liveBytes -= Int(self[slot].byteCount)
    }

    /// Forgets a task that was removed according to an image.
    mutating func forget(_ slot: Slot) {
        unlink(slot)
        self[slot] = Entry()
    }

    /// Notes that an image of a queue is in a frame.
    mutating func noteQueueImage(_ queue: Slot, sequence: UInt64) {
        queueImages.append((queue, sequence))
    }

    /// The oldest image of a queue.
    var oldestQueueImage: (queue: Slot, sequence: UInt64)? {
        firstQueueImage < queueImages.count ? queueImages[firstQueueImage] : nil
    }

    /// Forgets the oldest image of a queue. O(1) on average.
    mutating func forgetOldestQueueImage() {
        firstQueueImage += 1
        guard firstQueueImage > 1000, firstQueueImage > queueImages.count / 2 else { return }
        queueImages.removeFirst(firstQueueImage)
        firstQueueImage = 0
    }

    // MARK: Checks

    /// Checks the list of images: each task once, in the order of the frames. O(n).
    ///
    /// - Parameter otherBytes: the size of the images of queues and settings.
    /// - Returns: how many tasks have an image.
    func checkInvariants(otherBytes: Int) -> Int {
        var (slot, previous, seen, bytes): (Slot, Slot, Int, Int) = (first, 0, 0, 0)
        while slot != 0 {
            precondition(self[slot].links.previous == previous, "the list of images is broken")
            precondition(self[slot].fullSequence >= self[previous].fullSequence, "images out of order")
            precondition(self[slot].fullSequence < sequence, "an image in a frame that is not written yet")
            bytes += Int(self[slot].byteCount)
            seen += 1
            previous = slot
            slot = self[slot].links.next
        }
        precondition(previous == last && bytes + otherBytes == liveBytes, "the images are miscounted")
        return seen
    }
}
