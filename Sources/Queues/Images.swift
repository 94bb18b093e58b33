// The images of tasks and queues, field by field. docs/journal.md describes them for other programs.
//
// A new field gets a number that was never used in its kind of image and that version 2 of the journal does not know
// (`Version2ImageReader.has`). Fields are coded in the order of their numbers.

import Bytes

/// The kind of an image, which comes first.
enum ImageKind: UInt8 {
    /// Nothing. A frame must exist even if all that it was to contain is obsolete.
    case nothing = 0x4E  // N
    /// A full image of a task.
    case task = 0x54  // T
    /// An image of a task without its content, metadata, request, trace context and log, which have not changed.
    case state = 0x53  // S
    /// The id of a task that was removed.
    case removal = 0x52  // R
    /// A queue's configuration, and whether it is paused.
    case queue = 0x51  // Q
    /// All purges, kicks and moves of earlier images are over. Those that follow in the frame are under way, and
    /// continue after a restart.
    case sweeps = 0x45  // E
    /// A purge, kick or move that is under way.
    case sweep = 0x57  // W
    /// A setting, or that it is not set any more.
    case setting = 0x56  // V
}

extension TaskRecord {
    /// Added to the state of a task that is dispatched because it is being sent.
    private static var isBeingSent: UInt8 { 0x80 }

    /// The part of an image that each task has: fields 1 to 31.
    @inline(__always)
    @_lifetime(coder: copy coder)
    mutating func code<Coder: ImageCoder & ~Copyable & ~Escapable>(
        _ coder: inout Coder, position: inout Int64
    ) throws(Coder.Failure) {
        try coder.code(&idHigh, &idLow, position: &position)
        // A task whose removal is pending is written as ready: a take or a timer will find again that it is over.
        var state = self.state == .pendingRemoval ? State.ready.rawValue : self.state.rawValue
        if self.state == .dispatched, isPushed { state |= Self.isBeingSent }
        try coder.code(2, &state, default: State.ready.rawValue)
        let known = State(rawValue: state & ~Self.isBeingSent)
        isPushed = state & Self.isBeingSent != 0
        try coder.check(!isPushed || known == .dispatched, "a task that is being sent and is not dispatched")
        try coder.check(known?.isListed == true || known == .hidden, "a task in an unknown state")
        self.state = known ?? .vacant
        try coder.code(3, &priority, default: 0)
        try coder.code(4, &attempt, default: 0)
        try coder.code(5, &retries, default: 0)
        try coder.code(6, &token, default: 0)
        // Nearly all tasks are as old as their ids, have been ready since then, and live for a day. These defaults take
        // no bytes.
        try coder.code(7, milliseconds: &enqueued, default: Int64(id.unixMilliseconds))
        try coder.code(8, milliseconds: &expires, default: enqueued.addingWithinRange(86_400_000))
        let lifetime = expires == .max ? .max : max(0, expires - enqueued)
        try coder.code(9, milliseconds: &lifetimeMilliseconds, default: lifetime)
        try coder.code(10, milliseconds: &dispatched, default: 0)
        try coder.code(11, milliseconds: &until, default: self.state == .ready ? enqueued : .max)
        var isLeaseEmpty = leaseMilliseconds == Self.noLease
        try coder.code(12, milliseconds: &leaseMilliseconds, default: 0)
        try coder.code(13, &isLeaseEmpty)
        if isLeaseEmpty { leaseMilliseconds = Self.noLease }
    }
}

extension TaskExtras {
    /// The numbers of the fields of extras, and of a replacement.
    static var fields: ClosedRange<UInt8> { 32...127 }

    /// The optional parts of a task: fields 32 to 63, and the fields of a replacement. Metadata, request, trace context
    /// and log are included only in full images: a log is long, and a lease is extended often.
    @_lifetime(coder: copy coder)
    func code<Coder: ImageCoder & ~Copyable & ~Escapable>(
        _ coder: inout Coder, withMetadata: Bool
    ) throws(Coder.Failure) {
        try coder.code(32, &key)
        try coder.code(33, &holdsKey)
        try coder.check(!holdsKey || !key.isEmpty, "an empty key that is taken")
        try coder.code(34, milliseconds: &options.uniqueUntil, default: 0)
        try coder.code(35, &options.retryLimit)
        try coder.code(36, &options.backoff)
        try coder.code(40, milliseconds: &options.keepMilliseconds)
        try coder.code(41, milliseconds: &leaseMilliseconds, default: 0)
        try coder.code(42, &hasLapsed)
        try coder.code(43, &worker)
        try coder.code(44, &error)
        try coder.code(45, &progress)
        try coder.code(46, &result)
        try coder.code(47, &origin)
        if withMetadata {
            try coder.code(48, &options.metadata)
            try coder.code(49, &options.request)
        }
        try coder.code(50, milliseconds: &died, default: 0)
        if withMetadata { try trace.code(&coder, from: 51) }
        try coder.code(53, &attempts)
        try coder.check(AttemptLog.isSound(attempts.span), "attempts that cannot be")
        if withMetadata { try coder.code(54, &log) }
        try coder.code(55, &options.crashLimit)
        try coder.code(56, &crashes, default: 0)
        if !withMetadata {
            var keepsLog = !log.isEmpty
            try coder.code(57, &keepsLog)
            if log.isEmpty { hasUnreadLog = keepsLog }
        }
        var isReplaced = replacement != nil
        try coder.code(anyOf: Replacement.fields, &isReplaced)
        guard isReplaced else { return }
        let replacement = self.replacement ?? Replacement()
        self.replacement = replacement
        try replacement.code(&coder)
    }
}

extension Replacement {
    static var fields: ClosedRange<UInt8> { 64...127 }

    @_lifetime(coder: copy coder)
    func code<Coder: ImageCoder & ~Copyable & ~Escapable>(_ coder: inout Coder) throws(Coder.Failure) {
        let lease = leaseMilliseconds
        try coder.code(64, milliseconds: &leaseMilliseconds, default: 0)
        try coder.code(65, &priority, default: 0)
        try coder.code(66, milliseconds: &due, default: 0)
        try coder.code(67, milliseconds: &enqueued, default: 0)
        var isSaying = options != nil
        try coder.code(anyOf: 68...125, &isSaying)
        if isSaying {
            let options = self.options ?? TaskOptions()
            self.options = options
            try coder.code(68, milliseconds: &options.uniqueForMilliseconds, default: 0)
            try coder.code(69, &options.retryLimit)
            try coder.code(70, &options.backoff)
            try coder.code(74, milliseconds: &options.keepMilliseconds)
            try coder.code(75, &options.metadata)
            try coder.code(76, &options.request)
            try options.trace.code(&coder, from: 77)
            try coder.code(79, &options.crashLimit)
        }
        var isLeaseEmpty = lease == TaskRecord.noLease
        try coder.code(126, &isLeaseEmpty)
        if isLeaseEmpty { leaseMilliseconds = TaskRecord.noLease }
        try coder.code(127, &content)
    }
}

extension QueueConfiguration {
    /// Codes the fields from 32 on.
    @_lifetime(coder: copy coder)
    mutating func code<Coder: ImageCoder & ~Copyable & ~Escapable>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.code(32, milliseconds: &leaseMilliseconds)
        // -1 means unsaid, -2 never.
        var expiryMilliseconds: Int64 =
            switch expiry {
            case .unsaid: -1
            case .never: -2
            case .after(let milliseconds): milliseconds
            }
        try coder.code(33, &expiryMilliseconds, default: -1)
        try coder.check(expiryMilliseconds >= -2, "a negative time")
        switch expiryMilliseconds {
        case -1: expiry = .unsaid
        case -2: expiry = .never
        default: expiry = .after(milliseconds: expiryMilliseconds)
        }
        var limit = maximumRetries.map { RetryLimit.limited($0) } ?? .unsaid
        try coder.code(34, &limit)
        if case .limited(let retries) = limit { maximumRetries = retries } else { maximumRetries = nil }
        try coder.code(35, &backoff)
        try coder.code(39, milliseconds: &keepMilliseconds, default: 0)
        try coder.code(40, &priority, default: 0)
        var length = maximumLength.map { Int64($0) } ?? -1
        try coder.code(41, &length, default: -1)
        maximumLength = length < 0 ? nil : Int(length)
        var letter = deadLetter ?? []
        try coder.code(42, &letter)
        deadLetter = letter.isEmpty ? nil : letter
        try coder.code(43, milliseconds: &deadExpiryMilliseconds)
        try coder.code(44, &isExpiryDeath)
        try coder.code(45, &push)
        try coder.code(46, &isPushed)
        var hasAnyCrashes = self.builtIn.contains(.maximumCrashes)
        var builtIn = self.builtIn.subtracting(.maximumCrashes).rawValue
        try coder.code(50, &builtIn, default: 0)
        self.builtIn = BuiltIn(rawValue: builtIn)
        // 1 means no, 2 yes.
        var showing = showsContent.map { $0 ? 2 : 1 } ?? 0
        try coder.code(51, &showing, default: 0)
        showsContent = showing == 0 ? nil : showing == 2
        try coder.check(
            BuiltIn.all.isSuperset(of: self.builtIn) && 0...2 ~= showing, "a configuration that says what cannot be")
        var crashes = maximumCrashes.map { RetryLimit.limited($0) } ?? .unsaid
        try coder.code(52, &crashes)
        if case .limited(let limit) = crashes { maximumCrashes = limit } else { maximumCrashes = nil }
        // Not in field 50, so that programs which do not know it name a newer version.
        try coder.code(53, &hasAnyCrashes)
        if hasAnyCrashes { self.builtIn.insert(.maximumCrashes) }
    }
}

/// A queue as it is written.
struct QueueImage {
    var isPaused = false
    /// When it was paused; 0 if it is not, or if that is not known.
    var pausedSince: Int64 = 0
    var configuration: QueueConfiguration?

    @_lifetime(coder: copy coder)
    mutating func code<Coder: ImageCoder & ~Copyable & ~Escapable>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.beginFields()
        try coder.code(1, &isPaused)
        var isConfigured = configuration != nil
        try coder.code(2, &isConfigured)
        try coder.code(13, milliseconds: &pausedSince, default: 0)
        try coder.check(isPaused || pausedSince == 0, "a pause of a queue that is not paused")
        if isConfigured {
            var configuration = self.configuration ?? QueueConfiguration()
            try configuration.code(&coder)
            self.configuration = configuration
        }
        try coder.endFields(of: "a queue")
    }
}

/// A sweep as it is written. It refers to queues by name, because slots differ between processes.
struct SweepImage {
    var queue: [UInt8] = []
    /// 0 purge, 1 kick, 2 kick to the origin, 3 move, 4 end what has no retries left.
    var action: UInt8 = 0
    /// The target of a move; empty for other sweeps.
    var target: [UInt8] = []
    /// A bit for each state, by its number.
    var states: UInt8 = 0
    var rest: Int64 = 0
    var begun: Int64 = 0
    var firstPosition: Int64 = 0
    var endPosition: Int64 = 0
    var filter: TaskFilter?

    @_lifetime(coder: copy coder)
    mutating func code<Coder: ImageCoder & ~Copyable & ~Escapable>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.beginFields()
        try coder.code(1, &queue)
        try coder.code(2, &action, default: 0)
        try coder.code(3, &target)
        try coder.code(4, &states, default: 0)
        try coder.code(5, &rest, default: 0)
        try coder.code(6, milliseconds: &begun, default: 0)
        try coder.code(7, &firstPosition, default: 0)
        try coder.code(8, &endPosition, default: 0)
        var hasFilter = filter != nil
        try coder.code(13, &hasFilter)
        if hasFilter {
            var filter = self.filter ?? TaskFilter(time: 0)
            try filter.code(&coder)
            self.filter = filter
        }
        try coder.check(
            action <= 4 && target.isEmpty == (action != 3) && !queue.isEmpty && queue.count <= 255
                && target.count <= 255 && rest > 0 && firstPosition <= endPosition,
            "a purge, kick or move that cannot be")
        try coder.endFields(of: "a purge, kick or move")
    }
}

extension TaskFilter {
    /// Codes the fields from 14 on.
    @_lifetime(coder: copy coder)
    fileprivate mutating func code<Coder: ImageCoder & ~Copyable & ~Escapable>(
        _ coder: inout Coder
    ) throws(Coder.Failure) {
        var hasError = error != nil
        try coder.code(14, &hasError)
        var line = error ?? []
        try coder.code(15, &line)
        error = hasError ? line : nil
        var hasPattern = errorPattern != nil
        try coder.code(16, &hasPattern)
        var pattern = errorPattern.map { Array($0.text.utf8) } ?? []
        try coder.code(17, &pattern)
        errorPattern = hasPattern ? GlobPattern(pattern.span) : nil
        try coder.check(hasPattern == (errorPattern != nil), "a pattern that is too long")
        try coder.code(18, milliseconds: &olderThanMilliseconds)
        try coder.code(19, milliseconds: &newerThanMilliseconds)
        try coder.code(20, milliseconds: &time, default: 0)
    }
}

/// A setting as it is written.
struct SettingImage {
    var name: [UInt8] = []
    /// Empty if it is not set any more.
    var value: [UInt8] = []

    @_lifetime(coder: copy coder)
    mutating func code<Coder: ImageCoder & ~Copyable & ~Escapable>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.beginFields()
        try coder.code(1, &name)
        try coder.code(2, &value)
        try coder.check(
            1...TaskStore.maximumSettingNameBytes ~= name.count && value.count <= TaskStore.maximumSettingBytes,
            "a setting that cannot be")
        try coder.endFields(of: "a setting")
    }
}
