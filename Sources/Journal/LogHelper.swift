// The thread that waits for the disk, so that the event loop does not have to.

import Bytes
import CLinux
import Glibc

/// Runs a `LogStore` on its own thread: one batch at a time, and other work while there is none.
@safe final class LogHelper: @unchecked Sendable {
    // @unchecked: both threads use `state`, under `lock`, and nothing else. Only the helper thread uses the store while
    // it runs.

    /// What the owner has asked for, and the results.
    struct State {
        /// The batch under way. The helper seals its frames. Their lengths do not change and may be read meanwhile.
        var batch: Batch?
        /// Whether to continue in a small segment before the batch is written.
        var startsOver = false
        /// Segments with lower numbers must be deleted.
        var deletesBelow: UInt64 = 0
        /// The size of a frame that the next segment must have room for.
        var wantedFrameByteCount = 0
        /// Until `largeRetryTime`, there is no space for a frame of this size or larger.
        var unavailable: (frameByteCount: Int, problem: LogError)?
        /// Whether to look how much space is left.
        var looksForSpace = false
        /// Whether to fail instead of waiting for space.
        var isClosing = false
        /// Whether to end when all work is done.
        var isEnding = false

        /// The batch that has been written, for reuse.
        var finished: Batch?
        var writtenSequence: UInt64
        var syncedSequence: UInt64
        var room: Room
        /// The store's `lossCount`.
        var lossCount: Int
        var segments: [LogSegment]
        /// How much space was left when the helper looked last, in bytes; nil if that is unknown.
        var freeByteCount: Int?
        /// What has failed and is being retried.
        var problems: [Work.Kind: LogError] = [:]
        /// Why the log cannot continue.
        var failure: LogError?
        /// How long syncs took, failed ones included, in microseconds.
        var syncMicroseconds = Histogram()
        /// The longest of them lately, by `steadyMicroseconds`.
        var longestSync = RecentMaximum()
    }

    /// How much of the next segment is prepared at once while there is nothing else to do, in bytes.
    private static let preparedByteCount = 1 << 20
    /// After this many failures to prepare in a row, other than for lack of space, the log gives up.
    private static let failedPreparationsLimit = 10

    /// Becomes readable when there is something to collect.
    let descriptor: Int32
    private let store: any LogStore
    private let syncMode: LogConfiguration.SyncMode
    private let retryMilliseconds: Int64
    private let clock: @Sendable () -> Int64
    // Not a `Synchronization.Mutex`: the condition variable needs a pthread mutex, and Synchronization has no condition
    // variable. It waits with a deadline by the monotonic clock.
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let wakeUp = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var state: State
    private var thread: pthread_t = 0

    /// What the helper thread has found while it looked for space. Only that thread uses it.
    private var foundByteCount: Int?

    // The lock protects these too. Times are in milliseconds of the steady clock.
    /// When failed work may be retried.
    private var prepareRetryTime: Int64 = 0
    private var deleteRetryTime: Int64 = 0
    private var largeRetryTime: Int64 = 0
    private var batchRetryTime: Int64 = 0
    private var failedPreparations = 0
    /// When to sync what has been written.
    private var syncTime: Int64?
    /// How much of the next segment must be prepared before the next batch is written, in bytes.
    private var owedByteCount = 0

    /// Starts the thread.
    ///
    /// - Parameters:
    ///   - store: the store to run.
    ///   - configuration: when to sync, and when to retry.
    ///   - clock: returns the time in milliseconds. It never jumps and is never ahead of the system's steady clock.
    /// - Throws: `LogError` if the system provides no descriptor or no thread.
    init(
        _ store: any LogStore, _ configuration: LogConfiguration,
        clock: @escaping @Sendable () -> Int64 = LogHelper.steadyMilliseconds
    ) throws(LogError) {
        self.store = store
        self.clock = clock
        syncMode = configuration.syncMode
        retryMilliseconds = configuration.retryMilliseconds
        state = State(
            writtenSequence: store.writtenSequence, syncedSequence: store.syncedSequence, room: store.room,
            lossCount: store.lossCount, segments: store.segments, freeByteCount: store.freeByteCount())
        descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        unsafe pthread_mutex_init(lock, nil)
        var attributes = pthread_condattr_t()
        unsafe pthread_condattr_init(&attributes)
        unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        unsafe pthread_cond_init(wakeUp, &attributes)
        guard descriptor >= 0 else { throw LogError("make an eventfd", file: "journal", code: errno) }
        let result = unsafe pthread_create(
            &thread, nil,
            { context in
                guard let context = unsafe context else { return nil }
                unsafe Unmanaged<LogHelper>.fromOpaque(context).takeUnretainedValue().run()
                return nil
            }, Unmanaged.passUnretained(self).toOpaque())
        guard result == 0 else { throw LogError("start a thread", file: "journal", code: result) }
    }

    /// - Precondition: the thread has been joined, or never started.
    deinit {
        if descriptor >= 0 { close(descriptor) }
        unsafe pthread_mutex_destroy(lock)
        unsafe pthread_cond_destroy(wakeUp)
        unsafe lock.deallocate()
        unsafe wakeUp.deallocate()
    }

    // MARK: For the owner's thread

    /// Reads and changes the state, and wakes the helper.
    func update<Value>(wakingHelper: Bool = true, _ body: (inout State) -> Value) -> Value {
        unsafe pthread_mutex_lock(lock)
        defer { unsafe pthread_mutex_unlock(lock) }
        if wakingHelper { unsafe pthread_cond_signal(wakeUp) }
        return body(&state)
    }

    /// Asks for room for a frame in the next segment.
    ///
    /// - Returns: why there is no space; nil if, as far as is known, space is being made. The answer is valid until the
    ///   descriptor becomes readable.
    func want(frameByteCount: Int) -> LogError? {
        update { state in
            if let unavailable = state.unavailable, frameByteCount >= unavailable.frameByteCount {
                return unavailable.problem
            }
            state.wantedFrameByteCount = max(state.wantedFrameByteCount, frameByteCount)
            return state.problems[.write] ?? state.problems[.prepare]
        }
    }

    /// Makes the descriptor unreadable. Call this before you read the state, so that no change is missed.
    func drain() {
        var count: UInt64 = 0
        _ = unsafe read(descriptor, &count, 8)
    }

    /// Waits until the thread has done all its work and has ended.
    func end() {
        update { ($0.isClosing, $0.isEnding) = (true, true) }
        pthread_join(thread, nil)
    }

    // MARK: The helper thread

    enum Work {
        case write(Batch)
        case startOver
        case prepare(byteCount: Int, frameByteCount: Int)
        case delete(below: UInt64)
        case sync
        case look

        /// Kinds of work; the first is the one whose failure matters most.
        enum Kind: CaseIterable { case write, sync, prepare, startOver, delete, look }

        var kind: Kind {
            switch self {
            case .write: .write
            case .startOver: .startOver
            case .prepare: .prepare
            case .delete: .delete
            case .sync: .sync
            case .look: .look
            }
        }
    }

    private func run() {
        // Signals are for the owner's thread. With SIGXFSZ blocked, a write beyond the limit on the size of files fails
        // instead of ending the process.
        var signals = sigset_t()
        unsafe sigfillset(&signals)
        unsafe pthread_sigmask(SIG_SETMASK, &signals, nil)
        unsafe pthread_mutex_lock(lock)
        while true {
            // Read the clock once, so that work which is not due yet is exactly the work that `wait` waits for.
            let now = clock()
            if state.unavailable != nil, now >= largeRetryTime {
                // A refused append may be tried again.
                state.unavailable = nil
                notify()
            }
            if let work = nextWork(now) {
                unsafe pthread_mutex_unlock(lock)
                var failure: LogError?
                let begin = Self.steadyMicroseconds()
                do throws(LogError) { try perform(work) } catch { failure = error }
                let duration = Self.steadyMicroseconds() - begin
                unsafe pthread_mutex_lock(lock)
                if isSync(work) {
                    state.syncMicroseconds.record(duration)
                    state.longestSync.record(duration, at: begin + duration)
                }
                publish(work, failure)
            } else if state.isEnding {
                break
            } else {
                wait(now)
            }
        }
        unsafe pthread_mutex_unlock(lock)
    }

    /// The most urgent work. Call this with the lock held.
    private func nextWork(_ now: Int64) -> Work? {
        guard state.failure == nil else { return nil }
        let ready = store.room.next ?? -1
        let canPrepare = ready < state.wantedFrameByteCount && now >= prepareRetryTime && !state.isEnding
        if canPrepare && owedByteCount > 0 {
            return .prepare(byteCount: owedByteCount, frameByteCount: state.wantedFrameByteCount)
        }
        if state.startsOver && !state.isClosing { return .startOver }
        // A batch that waits for space must not prevent old segments from being deleted.
        if let batch = state.batch, now >= batchRetryTime || state.isClosing { return .write(batch) }
        if state.isEnding { return store.needsSync ? .sync : nil }
        if let syncTime, now >= syncTime { return .sync }
        if store.needsDeletion(below: state.deletesBelow) && now >= deleteRetryTime {
            return .delete(below: state.deletesBelow)
        }
        if canPrepare {
            return .prepare(byteCount: Self.preparedByteCount, frameByteCount: state.wantedFrameByteCount)
        }
        return state.looksForSpace ? .look : nil
    }

    /// Does the work. Call this without the lock.
    private func perform(_ work: Work) throws(LogError) {
        switch work {
        case .write(let batch): try store.write(batch, syncing: syncMode == .always)
        case .startOver: try store.startOver()
        case .prepare(let byteCount, let frameByteCount):
            _ = try store.prepare(byteCount: byteCount, for: frameByteCount)
        case .delete(let number): try store.deleteSegments(below: number)
        case .sync: try store.sync()
        case .look: foundByteCount = store.freeByteCount()
        }
    }

    /// Whether the work makes written frames safe from a power cut.
    private func isSync(_ work: Work) -> Bool {
        switch work {
        case .write: syncMode == .always
        case .sync: true
        case .startOver, .prepare, .delete, .look: false
        }
    }

    /// Publishes the result of the work. Call this with the lock held.
    private func publish(_ work: Work, _ failure: LogError?) {
        let now = clock()
        var isFinal = false
        // Preparing has succeeded only when the segment is ready; see below.
        if failure != nil || work.kind != .prepare { state.problems[work.kind] = failure }
        switch work {
        case .write(let batch):
            if let failure {
                // The log has accepted these frames, so they wait for space.
                batchRetryTime = now + retryMilliseconds
                isFinal = failure.cause != .noSpace || state.isClosing
            } else {
                // Four times as much as was written: a next segment of twice the size is then ready when the current
                // one is half full.
                owedByteCount += 4 * batch.byteCount
                (state.batch, state.finished) = (nil, batch)
            }
        case .startOver:
            state.startsOver = false
            // Without space, the log continues in its segment.
            if let failure { isFinal = failure.cause != .noSpace }
            state.problems[.startOver] = nil
            // The request was made while the segment was large. If the room is still needed, `want` asks again.
            state.wantedFrameByteCount = 0
        case .prepare(_, let frameByteCount):
            owedByteCount = 0
            // Success with one part of a segment resets nothing.
            if let failure, failure.cause != .noSpace {
                failedPreparations += 1
            } else if failure == nil, store.room.next ?? -1 >= frameByteCount {
                failedPreparations = 0
            }
            isFinal = failedPreparations >= Self.failedPreparationsLimit
            if failure == nil {
                guard store.room.next != nil else { return }
            } else if let failure, failure.cause == .noSpace,
                frameByteCount > store.room.next ?? store.regularFrameByteCount
            {
                // Smaller frames may still have space.
                state.problems[.prepare] = nil
                (state.unavailable, state.wantedFrameByteCount) = ((frameByteCount, failure), 0)
                largeRetryTime = now + retryMilliseconds
            } else {
                prepareRetryTime = now + retryMilliseconds
            }
        case .delete:
            deleteRetryTime = failure == nil ? 0 : now + retryMilliseconds
            // The descriptor becomes readable below.
            if failure == nil {
                (batchRetryTime, prepareRetryTime) = (0, 0)
                state.unavailable = nil
            }
            // If a sync is still needed, it was the sync before the deletion that failed.
            if let failure, store.needsSync { isFinal = failure.cause != .noSpace }
        case .sync:
            if let failure { isFinal = failure.cause != .noSpace || state.isClosing }
            syncTime = failure == nil ? nil : now + retryMilliseconds
        case .look: (state.looksForSpace, state.freeByteCount) = (false, foundByteCount)
        }
        if isFinal { state.failure = failure }
        if !store.needsSync { state.problems[.sync] = nil }
        // A segment made during a write serves as well as one prepared in advance.
        if store.room.next != nil || store.room.segment != state.room.segment { state.problems[.prepare] = nil }
        if let next = store.room.next, next >= state.wantedFrameByteCount { state.wantedFrameByteCount = 0 }
        if case .interval(let milliseconds) = syncMode, store.needsSync, syncTime == nil {
            syncTime = now + Int64(min(max(milliseconds, 0), 1 << 40))
        } else if !store.needsSync {
            syncTime = nil
        }
        state.writtenSequence = store.writtenSequence
        state.syncedSequence = store.syncedSequence
        (state.room, state.lossCount) = (store.room, store.lossCount)
        state.segments = store.segments
        notify()
    }

    /// Makes the descriptor readable.
    private func notify() {
        var one: UInt64 = 1
        // This fails only if the counter is full, and then the descriptor is readable already.
        _ = unsafe write(descriptor, &one, 8)
    }

    /// Waits for the owner, or until the next retry or sync. Call this with the lock held.
    private func wait(_ now: Int64) {
        var times: [Int64] = []
        if state.failure == nil {
            if state.batch != nil { times.append(batchRetryTime) }
            if let syncTime { times.append(syncTime) }
            if state.unavailable != nil { times.append(largeRetryTime) }
            // These are in the past if nothing has failed.
            times += [prepareRetryTime, deleteRetryTime].filter { $0 > now }
        }
        if let time = times.min() {
            var deadline = timespec(tv_sec: Int(time / 1000), tv_nsec: Int(time % 1000) * 1_000_000)
            unsafe _ = pthread_cond_timedwait(wakeUp, lock, &deadline)
        } else {
            unsafe _ = pthread_cond_wait(wakeUp, lock)
        }
    }

    private static func steadyMilliseconds() -> Int64 { steadyMicroseconds() / 1000 }

    static func steadyMicroseconds() -> Int64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
    }
}
