// The images of tasks and queues, part by part. docs/journal.md describes them for other programs.

/// What stands first in each image.
enum ImageKind: UInt8 {
    /// Nothing: a frame that has to be there though all that it was to say is over.
    case nothing = 0
    /// All of a task.
    case task = 1
    /// All of a task but its content, metadata and request, which stay as they were.
    case state = 2
    /// A task that is gone: its id.
    case removal = 3
    /// A queue's configuration, and whether it is paused.
    case queue = 4
    /// All purges, kicks and moves under way: they go on after a restart.
    case sweeps = 5
}

extension TaskRecord {
    /// Added to the state of a task that is dispatched because it is being sent.
    private static var isBeingSent: UInt8 { 0x80 }

    /// The part of an image that each task has.
    @inline(__always)
    @_lifetime(coder: copy coder)
    mutating func code<Coder: ImageCoder & ~Copyable & ~Escapable>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.code(&idHigh)
        try coder.code(&idLow)
        // What is doomed was ready, and a take or a timer will find that out again.
        var state = self.state == .doomed ? State.ready.rawValue : self.state.rawValue
        if self.state == .dispatched, isPushed { state |= Self.isBeingSent }
        try coder.code(&state)
        let known = State(rawValue: state & ~Self.isBeingSent)
        isPushed = state & Self.isBeingSent != 0
        try coder.check(!isPushed || known == .dispatched, "a task that is being sent and is not dispatched")
        try coder.check(known?.isListed == true || known == .hidden, "a task in an unknown state")
        self.state = known ?? .vacant
        try coder.code(&priority)
        try coder.code(&attempt)
        try coder.code(&retries)
        try coder.code(&token)
        try coder.code(milliseconds: &enqueued)
        try coder.code(milliseconds: &expires)
        try coder.code(milliseconds: &lifetimeMilliseconds)
        try coder.code(milliseconds: &dispatched)
        try coder.code(milliseconds: &until)
        try coder.code(milliseconds: &leaseMilliseconds)
    }
}

extension TaskExtras {
    /// What few tasks have; the metadata and the request only where the content is, too.
    @_lifetime(coder: copy coder)
    func code<Coder: ImageCoder & ~Copyable & ~Escapable>(
        _ coder: inout Coder, withMetadata: Bool
    ) throws(Coder.Failure) {
        try coder.code(&key)
        try coder.code(&holdsKey)
        try coder.check(!holdsKey || !key.isEmpty, "an empty key that is taken")
        try coder.code(milliseconds: &uniqueUntil)
        try coder.code(&retryLimit)
        try coder.code(&backoff)
        try coder.code(milliseconds: &keepMilliseconds)
        try coder.code(milliseconds: &leaseMilliseconds)
        try coder.code(&hasLapsed)
        try coder.code(&worker)
        try coder.code(&error)
        try coder.code(&progress)
        try coder.code(&result)
        try coder.code(&origin)
        if withMetadata {
            try coder.code(&metadata)
            try coder.code(&request)
        }
        var isReplaced = replacement != nil
        try coder.code(&isReplaced)
        guard isReplaced else { return }
        let replacement = self.replacement ?? Replacement()
        self.replacement = replacement
        try replacement.code(&coder)
    }
}

extension Replacement {
    @_lifetime(coder: copy coder)
    func code<Coder: ImageCoder & ~Copyable & ~Escapable>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.code(milliseconds: &leaseMilliseconds)
        try coder.code(&priority)
        try coder.code(milliseconds: &due)
        try coder.code(milliseconds: &enqueued)
        var isSaying = options != nil
        try coder.code(&isSaying)
        if isSaying {
            let options = self.options ?? TaskOptions()
            self.options = options
            try coder.code(milliseconds: &options.uniqueForMilliseconds)
            try coder.code(&options.retryLimit)
            try coder.code(&options.backoff)
            try coder.code(milliseconds: &options.keepMilliseconds)
            try coder.code(&options.metadata)
            try coder.code(&options.request)
        }
        try coder.code(&content)
    }
}

extension QueueConfiguration {
    @_lifetime(coder: copy coder)
    mutating func code<Coder: ImageCoder & ~Copyable & ~Escapable>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.code(milliseconds: &leaseMilliseconds)
        // -1 is unsaid, -2 never.
        var expiryMilliseconds: Int64 =
            switch expiry {
            case .unsaid: -1
            case .never: -2
            case .after(let milliseconds): milliseconds
            }
        try coder.code(&expiryMilliseconds)
        try coder.check(expiryMilliseconds >= -2, "a negative time")
        switch expiryMilliseconds {
        case -1: expiry = .unsaid
        case -2: expiry = .never
        default: expiry = .after(milliseconds: expiryMilliseconds)
        }
        var limit = maximumRetries.map { RetryLimit.limited($0) } ?? .unsaid
        try coder.code(&limit)
        if case .limited(let retries) = limit { maximumRetries = retries } else { maximumRetries = nil }
        try coder.code(&backoff)
        try coder.code(milliseconds: &keepMilliseconds)
        try coder.code(&priority)
        var length = maximumLength.map { Int64($0) } ?? -1
        try coder.code(&length)
        maximumLength = length < 0 ? nil : Int(length)
        var letter = deadLetter ?? []
        try coder.code(&letter)
        deadLetter = letter.isEmpty ? nil : letter
        try coder.code(milliseconds: &deadExpiryMilliseconds)
        try coder.code(&isExpiryDeath)
        try coder.code(&push)
        try coder.code(&isPushed)
    }
}

/// A sweep as it is written. Queues are named: their slots are of this process only.
struct SweepImage {
    var queue: [UInt8] = []
    /// 0 purge, 1 kick, 2 kick to the origin, 3 move, 4 end what has no retries left.
    var action: UInt8 = 0
    /// Where a move moves to; empty for others.
    var target: [UInt8] = []
    /// A bit for each state, by its number.
    var states: UInt8 = 0
    var rest: Int64 = 0
    var begun: Int64 = 0
    var firstPosition: Int64 = 0
    var endPosition: Int64 = 0

    @_lifetime(coder: copy coder)
    mutating func code<Coder: ImageCoder & ~Copyable & ~Escapable>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.code(&queue)
        try coder.code(&action)
        try coder.code(&target)
        try coder.code(&states)
        try coder.code(&rest)
        try coder.code(milliseconds: &begun)
        try coder.code(&firstPosition)
        try coder.code(&endPosition)
        try coder.check(
            action <= 4 && target.isEmpty == (action != 3) && !queue.isEmpty && queue.count <= 255
                && target.count <= 255 && rest > 0 && firstPosition <= endPosition,
            "a purge, kick or move that cannot be")
    }
}
