// The thread that waits for the disk, so that the event loop need not.

import CLinux
import Glibc

/// Runs a `LogStore` on a thread of its own: one batch at a time, and what can be done while there is none.
@safe final class LogHelper: @unchecked Sendable {
    // @unchecked: both threads use `state`, under `lock`, and nothing else. Only the helper thread uses the store while it
    // runs.

    /// What the owner asks for, and what has become of it.
    struct State {
        /// The batch under way. The helper completes its frames; their lengths stay, and may be read meanwhile.
        var batch: Batch?
        /// Whether to go on in a small segment, before the batch.
        var startsOver = false
        /// Segments with lower numbers are to be deleted.
        var deletesBelow: UInt64 = 0
        /// The next segment is to have room for such a frame.
        var wantedFrameByteCount = 0
        /// There is no space for such a frame or a larger one, until `largeRetryTime`.
        var unavailable: (frameByteCount: Int, problem: LogError)?
        /// Whether to fail rather than to wait for space.
        var isClosing = false
        /// Whether to end when all is done.
        var isEnding = false

        /// The batch that was written, to be used again.
        var finished: Batch?
        var writtenSequence: UInt64
        var syncedSequence: UInt64
        var room: Room
        /// The store's.
        var lossCount: Int
        var segments: [LogSegment]
        /// What has failed and is tried again.
        var problems: [Work.Kind: LogError] = [:]
        /// Why the log cannot go on.
        var failure: LogError?
    }

    /// How much of the next segment is filled at once while there is nothing else to do.
    private static let preparedByteCount = 1 << 20
    /// How often in a row preparing may fail, if not for lack of space, before the log is given up.
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

    // Under the lock too. Times are milliseconds of the steady clock.
    /// When what has failed may be tried again.
    private var prepareRetryTime: Int64 = 0
    private var deleteRetryTime: Int64 = 0
    private var largeRetryTime: Int64 = 0
    private var batchRetryTime: Int64 = 0
    private var failedPreparations = 0
    /// When what was written is to be synced.
    private var syncTime: Int64?
    /// How much of the next segment is to be filled before the next batch.
    private var owedByteCount = 0

    /// Starts the thread.
    ///
    /// - Parameters:
    ///   - store: what it runs.
    ///   - configuration: when it syncs, and when it tries again.
    ///   - clock: milliseconds that never step, and are not ahead of those of the system's steady clock.
    /// - Throws: `LogError` when the system gives no descriptor or no thread.
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
            lossCount: store.lossCount, segments: store.segments)
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

    /// Reads and changes the state, and has the helper look at it.
    func update<Value>(wakingHelper: Bool = true, _ body: (inout State) -> Value) -> Value {
        unsafe pthread_mutex_lock(lock)
        defer { unsafe pthread_mutex_unlock(lock) }
        if wakingHelper { unsafe pthread_cond_signal(wakeUp) }
        return body(&state)
    }

    /// Asks for room for a frame in the next segment.
    ///
    /// - Returns: why there is no space for it; nil if it is being made, for all that is known. What is said holds until the
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

    /// Notes that everything was collected so far. To be called before the state is read, so that nothing is missed.
    func drain() {
        var count: UInt64 = 0
        _ = unsafe read(descriptor, &count, 8)
    }

    /// Waits until the thread has done all it was given, and has ended.
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

        /// Kinds of work; the first is the one whose failure matters most.
        enum Kind: CaseIterable { case write, sync, prepare, startOver, delete }

        var kind: Kind {
            switch self {
            case .write: .write
            case .startOver: .startOver
            case .prepare: .prepare
            case .delete: .delete
            case .sync: .sync
            }
        }
    }

    private func run() {
        // They are for the owner's thread. A write beyond a limit of file sizes fails then, and does not end the process.
        var signals = sigset_t()
        unsafe sigfillset(&signals)
        unsafe pthread_sigmask(SIG_SETMASK, &signals, nil)
        unsafe pthread_mutex_lock(lock)
        while true {
            // One look at the clock: what is not due yet is what is waited for.
            let now = clock()
            if state.unavailable != nil, now >= largeRetryTime {
                // Whoever was refused may ask again.
                state.unavailable = nil
                notify()
            }
            if let work = nextWork(now) {
                unsafe pthread_mutex_unlock(lock)
                var failure: LogError?
                do throws(LogError) { try perform(work) } catch { failure = error }
                unsafe pthread_mutex_lock(lock)
                publish(work, failure)
            } else if state.isEnding {
                break
            } else {
                wait(now)
            }
        }
        unsafe pthread_mutex_unlock(lock)
    }

    /// The most urgent thing to do. With the lock held.
    private func nextWork(_ now: Int64) -> Work? {
        guard state.failure == nil else { return nil }
        let ready = store.room.next ?? -1
        let canPrepare = ready < state.wantedFrameByteCount && now >= prepareRetryTime && !state.isEnding
        if canPrepare && owedByteCount > 0 {
            return .prepare(byteCount: owedByteCount, frameByteCount: state.wantedFrameByteCount)
        }
        if state.startsOver && !state.isClosing { return .startOver }
        // One that waits for space does not keep old segments from being deleted.
        if let batch = state.batch, now >= batchRetryTime || state.isClosing { return .write(batch) }
        if state.isEnding { return store.needsSync ? .sync : nil }
        if let syncTime, now >= syncTime { return .sync }
        if store.needsDeletion(below: state.deletesBelow) && now >= deleteRetryTime {
            return .delete(below: state.deletesBelow)
        }
        return canPrepare
            ? .prepare(byteCount: Self.preparedByteCount, frameByteCount: state.wantedFrameByteCount) : nil
    }

    /// Without the lock.
    private func perform(_ work: Work) throws(LogError) {
        switch work {
        case .write(let batch): try store.write(batch, syncing: syncMode == .always)
        case .startOver: try store.startOver()
        case .prepare(let byteCount, let frameByteCount):
            _ = try store.prepare(byteCount: byteCount, for: frameByteCount)
        case .delete(let number): try store.deleteSegments(below: number)
        case .sync: try store.sync()
        }
    }

    /// Says what has become of it. With the lock held.
    private func publish(_ work: Work, _ failure: LogError?) {
        let now = clock()
        var isFinal = false
        // Preparing has succeeded when the segment is ready; see below.
        if failure != nil || work.kind != .prepare { state.problems[work.kind] = failure }
        switch work {
        case .write(let batch):
            if let failure {
                // What was accepted is never refused afterwards: it waits for space.
                batchRetryTime = now + retryMilliseconds
                isFinal = failure.cause != .noSpace || state.isClosing
            } else {
                // Four times as much as was written: so a next segment of twice the size is ready when the current one is
                // half full.
                owedByteCount += 4 * batch.byteCount
                (state.batch, state.finished) = (nil, batch)
            }
        case .startOver:
            state.startsOver = false
            // Without space for it everything stays as it is.
            if let failure { isFinal = failure.cause != .noSpace }
            state.problems[.startOver] = nil
            // It was asked for beside a large segment. Who needs it still asks again.
            state.wantedFrameByteCount = 0
        case .prepare(_, let frameByteCount):
            owedByteCount = 0
            // A piece of it that succeeds says nothing yet.
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
                // Others may do with less.
                state.problems[.prepare] = nil
                (state.unavailable, state.wantedFrameByteCount) = ((frameByteCount, failure), 0)
                largeRetryTime = now + retryMilliseconds
            } else {
                prepareRetryTime = now + retryMilliseconds
            }
        case .delete:
            deleteRetryTime = failure == nil ? 0 : now + retryMilliseconds
            // The descriptor becomes readable for this anyway.
            if failure == nil {
                (batchRetryTime, prepareRetryTime) = (0, 0)
                state.unavailable = nil
            }
            // If not, it is what was to be synced first.
            if let failure, store.needsSync { isFinal = failure.cause != .noSpace }
        case .sync:
            if let failure { isFinal = failure.cause != .noSpace || state.isClosing }
            syncTime = failure == nil ? nil : now + retryMilliseconds
        }
        if isFinal { state.failure = failure }
        if !store.needsSync { state.problems[.sync] = nil }
        // A segment that was made while something was written is as good as one that was made in advance.
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
        // It can fail only by being full, and then it is readable already.
        _ = unsafe write(descriptor, &one, 8)
    }

    /// Waits for the owner, or until something is to be tried again. With the lock held.
    private func wait(_ now: Int64) {
        var times: [Int64] = []
        if state.failure == nil {
            if state.batch != nil { times.append(batchRetryTime) }
            if let syncTime { times.append(syncTime) }
            if state.unavailable != nil { times.append(largeRetryTime) }
            // They are in the past if nothing has failed.
            times += [prepareRetryTime, deleteRetryTime].filter { $0 > now }
        }
        if let time = times.min() {
            var deadline = timespec(tv_sec: Int(time / 1000), tv_nsec: Int(time % 1000) * 1_000_000)
            unsafe _ = pthread_cond_timedwait(wakeUp, lock, &deadline)
        } else {
            unsafe _ = pthread_cond_wait(wakeUp, lock)
        }
    }

    private static func steadyMilliseconds() -> Int64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }
}
