// The thread that waits for the disk, so that the event loop need not.

import CLinux
import Glibc

/// Runs a `LogWriter` on a thread of its own: one batch at a time, and what can be done while there is none.
@safe final class LogHelper: @unchecked Sendable {
    // @unchecked: `state` is the only thing that both threads touch, under `lock`; the writer is the helper thread's while it
    // runs.

    /// What the owner asks for, and what has become of it.
    struct State {
        /// The batch under way. The helper completes its frames; their lengths stay, and may be read meanwhile.
        var batch: Batch?
        /// Whether the batch begins a segment.
        var rollsFirst = false
        /// Segments with lower numbers are to be deleted.
        var deletesBelow: UInt64 = 0
        /// The next segment is to have room for such a frame.
        var wantedFrameByteCount = 0
        /// Whether to fail rather than to wait for space.
        var isClosing = false
        /// Whether to end when all is done.
        var isEnding = false

        /// The batch that was written, to be used again.
        var finished: Batch?
        var writtenSequence: UInt64
        var syncedSequence: UInt64
        var room: Room
        var segments: [LogSegment]
        /// Why there is no room, or old segments stay.
        var problem: LogError?
        /// Why the log cannot go on.
        var failure: LogError?
    }

    /// How much of the next segment is filled at once while there is nothing else to do.
    private static let preparedByteCount = 1 << 20

    /// Becomes readable when there is something to collect.
    let descriptor: Int32
    private let writer: LogWriter
    private let syncMode: LogConfiguration.SyncMode
    private let retryMilliseconds: Int64
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let wakeUp = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var state: State
    private var thread: pthread_t = 0

    // The helper thread's own. Times are milliseconds of the steady clock.
    /// When preparing and deleting may be tried again.
    private var retryTime: Int64 = 0
    private var batchRetryTime: Int64 = 0
    /// When what was written is to be synced.
    private var syncTime: Int64?
    /// How much of the next segment is to be filled before the next batch.
    private var owedByteCount = 0

    init(_ writer: LogWriter, _ configuration: LogConfiguration) throws(LogError) {
        self.writer = writer
        syncMode = configuration.syncMode
        retryMilliseconds = configuration.retryMilliseconds
        state = State(
            writtenSequence: writer.writtenSequence, syncedSequence: writer.syncedSequence, room: writer.room,
            segments: writer.segments)
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

    /// Reads and changes the state, and lets the helper see it.
    func update<Value>(_ body: (inout State) -> Value) -> Value {
        unsafe pthread_mutex_lock(lock)
        defer { unsafe pthread_mutex_unlock(lock) }
        unsafe pthread_cond_signal(wakeUp)
        return body(&state)
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

    private enum Work {
        case write(Batch, rollsFirst: Bool)
        case prepare(byteCount: Int, frameByteCount: Int)
        case delete(below: UInt64)
        case sync
    }

    private func run() {
        unsafe pthread_mutex_lock(lock)
        while true {
            if let work = nextWork(LogHelper.now()) {
                unsafe pthread_mutex_unlock(lock)
                var failure: LogError?
                do throws(LogError) { try perform(work) } catch { failure = error }
                unsafe pthread_mutex_lock(lock)
                publish(work, failure)
            } else if state.isEnding {
                break
            } else {
                wait()
            }
        }
        unsafe pthread_mutex_unlock(lock)
    }

    /// The most urgent thing to do. With the lock held.
    private func nextWork(_ now: Int64) -> Work? {
        guard state.failure == nil else { return nil }
        let ready = writer.room.next ?? -1
        let canPrepare = ready < state.wantedFrameByteCount && now >= retryTime && !state.isEnding
        if canPrepare && owedByteCount > 0 {
            return .prepare(byteCount: owedByteCount, frameByteCount: state.wantedFrameByteCount)
        }
        // One that waits for space does not keep old segments from being deleted.
        if let batch = state.batch, now >= batchRetryTime || state.isClosing {
            return .write(batch, rollsFirst: state.rollsFirst)
        }
        if state.isEnding { return writer.needsSync ? .sync : nil }
        if let syncTime, now >= syncTime { return .sync }
        if let first = writer.segments.first, first.number < state.deletesBelow, now >= retryTime {
            return .delete(below: state.deletesBelow)
        }
        return canPrepare
            ? .prepare(byteCount: Self.preparedByteCount, frameByteCount: state.wantedFrameByteCount) : nil
    }

    /// Without the lock.
    private func perform(_ work: Work) throws(LogError) {
        switch work {
        case .write(let batch, let rollsFirst):
            if rollsFirst { try writer.roll() }
            try writer.write(batch, syncing: syncMode == .always)
        case .prepare(let byteCount, let frameByteCount):
            _ = try writer.prepare(byteCount: byteCount, for: frameByteCount)
        case .delete(let number): try writer.deleteSegments(below: number)
        case .sync: try writer.sync()
        }
    }

    /// Says what has become of it. With the lock held.
    private func publish(_ work: Work, _ failure: LogError?) {
        let now = LogHelper.now()
        switch work {
        case .write(let batch, _):
            if let failure {
                // What was accepted is never refused afterwards: it waits for space.
                batchRetryTime = now + retryMilliseconds
                if failure.cause != .noSpace || state.isClosing { state.failure = failure }
                state.problem = failure
            } else {
                // Twice as much as was written: so the next segment is ready before the current one is half full.
                owedByteCount += 2 * batch.byteCount
                (state.batch, state.finished, state.rollsFirst) = (nil, batch, false)
            }
        case .prepare:
            owedByteCount = 0
            state.problem = failure
            if failure != nil { retryTime = now + retryMilliseconds }
            if writer.room.next == nil && failure == nil { return }
        case .delete:
            retryTime = failure == nil ? 0 : now + retryMilliseconds
            if failure == nil { batchRetryTime = 0 }
            if writer.needsSync, let failure { state.failure = failure } else { state.problem = failure }
        case .sync:
            if let failure, failure.cause != .noSpace || state.isClosing { state.failure = failure }
            syncTime = failure == nil ? nil : now + retryMilliseconds
        }
        if case .interval(let milliseconds) = syncMode, writer.needsSync, syncTime == nil {
            syncTime = now + Int64(milliseconds)
        } else if !writer.needsSync {
            syncTime = nil
        }
        state.writtenSequence = writer.writtenSequence
        state.syncedSequence = writer.syncedSequence
        state.room = writer.room
        state.segments = writer.segments
        var one: UInt64 = 1
        // It can fail only by being full, and then it is readable already.
        _ = unsafe write(descriptor, &one, 8)
    }

    /// Waits for the owner, or until something is to be tried again. With the lock held.
    private func wait() {
        var times: [Int64] = []
        if state.failure == nil {
            if state.batch != nil { times.append(batchRetryTime) }
            if let syncTime { times.append(syncTime) }
            // It is in the past if nothing has failed.
            if retryTime > LogHelper.now() { times.append(retryTime) }
        }
        if let time = times.min() {
            var deadline = timespec(tv_sec: Int(time / 1000), tv_nsec: Int(time % 1000) * 1_000_000)
            unsafe _ = pthread_cond_timedwait(wakeUp, lock, &deadline)
        } else {
            unsafe _ = pthread_cond_wait(wakeUp, lock)
        }
    }

    private static func now() -> Int64 {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }
}
