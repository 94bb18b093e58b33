// The writer of the log's lines. A separate thread writes them to standard error, so the server never waits for a slow
// reader.

import Glibc

/// Writes lines to a descriptor, in order, without making the caller wait.
///
/// While the reader is slow, a few lines wait. Beyond that, lines are dropped, and a notice in their place gives their
/// number. Optional lines are dropped first, and the notice of those comes a little later than their place. The
/// descriptor's flags do not change: other processes, such as a shell, share them.
@safe final class LineWriter: @unchecked Sendable {
    // @unchecked: `lock` protects all variables except the thread's own. It is a pthread mutex and not a
    // `Synchronization.Mutex` because a condition variable needs one.

    static let standardError: LineWriter = LineWriter(STDERR_FILENO) { Log.standard.notice(ofMissing: $0) }

    /// The maximum numbers of bytes that wait: usually, and with many lines (`allowMoreWaitingBytes`).
    static let capacity = 64 << 10
    static let largeCapacity = 1 << 20
    /// A pipe takes up to this many bytes at once, without mixing in other writers' bytes.
    private static let atomicByteCount = Int(PIPE_BUF)

    private let descriptor: Int32
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var hasThread = false
    private var isIdle = true
    private var capacity = LineWriter.capacity
    private var waiting: [UInt8] = []
    /// The number of lines dropped among or after those that wait.
    private var droppedCount = 0
    /// Whether a line was dropped that is not optional. Then all that follow are dropped, until the notice is on its
    /// way.
    private var isFull = false
    /// The number of all lines ever dropped.
    private var totalDroppedCount: UInt64 = 0
    /// Makes the notice of a number of missing lines.
    private let notice: @Sendable (_ count: Int) -> [UInt8]
    /// The thread's own: the lines being written.
    private var batch: [UInt8] = []
    /// The thread's own: the number of lines that are missing at the current place in the output.
    private var missingCount = 0

    /// - Parameters:
    ///   - descriptor: an open descriptor. The writer does not close it.
    ///   - notice: makes the line that tells how many lines are missing. Any thread may call it.
    init(_ descriptor: Int32, notice: @escaping @Sendable (_ count: Int) -> [UInt8]) {
        self.descriptor = descriptor
        self.notice = notice
        // With this, the thread usually never allocates, so it needs no heap of its own.
        waiting.reserveCapacity(Self.capacity)
        batch.reserveCapacity(Self.capacity)
        unsafe pthread_mutex_init(lock, nil)
        var attributes = pthread_condattr_t()
        unsafe pthread_condattr_init(&attributes)
        unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        unsafe pthread_cond_init(changed, &attributes)
    }

    deinit {
        // There is no thread: a thread would retain this object.
        unsafe pthread_mutex_destroy(lock)
        unsafe pthread_cond_destroy(changed)
        unsafe lock.deallocate()
        unsafe changed.deallocate()
    }

    private func locked<Value>(_ body: () -> Value) -> Value {
        unsafe pthread_mutex_lock(lock)
        defer { unsafe pthread_mutex_unlock(lock) }
        return body()
    }

    /// Lets more bytes wait, because there will be many lines.
    func allowMoreWaitingBytes() { locked { capacity = Self.largeCapacity } }

    /// How many lines were dropped since the beginning.
    var droppedLineCount: UInt64 { locked { totalDroppedCount } }

    /// Queues a line to be written, or drops it if too many bytes wait. O(length).
    ///
    /// - Parameters:
    ///   - line: the line, without a line feed.
    ///   - isOptional: whether it is one of many. Then it may take only half of the room, so that there is some for
    ///     others, and it waits for the next other line, or for `wakeUp`.
    func write(_ line: Span<UInt8>, isOptional: Bool = false) {
        locked {
            if !hasThread { hasThread = start() }
            guard !isFull, waiting.count + line.count < (isOptional ? capacity / 2 : capacity) else {
                droppedCount += 1
                totalDroppedCount += 1
                if !isOptional { isFull = true }
                return
            }
            waiting.append(line)
            waiting.append(UInt8(ascii: "\n"))
            if hasThread {
                if !isOptional { unsafe pthread_cond_broadcast(changed) }
            } else {
                // The system has refused a thread: the program is about to end.
                _ = put(waiting[...])
                waiting.removeAll(keepingCapacity: true)
            }
        }
    }

    /// Begins to write the optional lines that wait. To wake the thread for each of them would cost more than the
    /// lines.
    func wakeUp() {
        locked { if !waiting.isEmpty || droppedCount > 0 { unsafe pthread_cond_broadcast(changed) } }
    }

    /// Waits until all lines are written, or until the time has passed.
    func flush(milliseconds: Int) {
        var deadline = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &deadline)
        deadline.tv_sec += milliseconds / 1000
        deadline.tv_nsec += milliseconds % 1000 * 1_000_000
        if deadline.tv_nsec >= 1_000_000_000 {
            (deadline.tv_sec, deadline.tv_nsec) = (deadline.tv_sec + 1, deadline.tv_nsec - 1_000_000_000)
        }
        locked {
            unsafe pthread_cond_broadcast(changed)
            while hasThread, !isIdle || !waiting.isEmpty || droppedCount > 0 {
                if unsafe pthread_cond_timedwait(changed, lock, &deadline) != 0 { return }
            }
        }
    }

    // MARK: The thread

    private func start() -> Bool {
        // Other threads handle signals.
        var (all, before) = (sigset_t(), sigset_t())
        unsafe sigfillset(&all)
        unsafe pthread_sigmask(SIG_BLOCK, &all, &before)
        defer { unsafe _ = pthread_sigmask(SIG_SETMASK, &before, nil) }
        var attributes = pthread_attr_t()
        unsafe pthread_attr_init(&attributes)
        defer { unsafe _ = pthread_attr_destroy(&attributes) }
        unsafe pthread_attr_setstacksize(&attributes, 256 << 10)
        unsafe pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        var thread: pthread_t = 0
        let context = unsafe Unmanaged.passRetained(self)
        let result = unsafe pthread_create(
            &thread, &attributes,
            { context in
                guard let context = unsafe context else { return nil }
                unsafe Unmanaged<LineWriter>.fromOpaque(context).takeRetainedValue().run()
            }, context.toOpaque())
        if result != 0 { unsafe context.release() }
        return result == 0
    }

    private func run() -> Never {
        while true {
            let droppedBehind = locked {
                while waiting.isEmpty, droppedCount == 0 {
                    isIdle = true
                    unsafe pthread_cond_broadcast(changed)
                    unsafe pthread_cond_wait(changed, lock)
                }
                isIdle = false
                swap(&waiting, &batch)
                defer { (droppedCount, isFull) = (0, false) }
                return droppedCount
            }
            reportMissing()
            let lostCount = put(batch[...])
            if lostCount > 0 {
                missingCount += lostCount
                locked { totalDroppedCount += UInt64(lostCount) }
            }
            batch.removeAll(keepingCapacity: true)
            if droppedBehind > 0 {
                missingCount += droppedBehind
                reportMissing()
            }
        }
    }

    private func reportMissing() {
        if missingCount == 0 { return }
        let notice = notice(missingCount) + [UInt8(ascii: "\n")]
        if put(notice[...]) == 0 { missingCount = 0 }
    }

    /// Writes whole lines, waiting for the reader.
    ///
    /// - Returns: the number of lines that could not be written.
    private func put(_ lines: ArraySlice<UInt8>) -> Int {
        var rest = lines
        while !rest.isEmpty {
            var piece = rest.prefix(Self.atomicByteCount)
            if piece.count < rest.count, let end = piece.lastIndex(of: UInt8(ascii: "\n")) { piece = piece[...end] }
            let count = unsafe piece.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN {
                // Another process has made the shared descriptor non-blocking.
                var readiness = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                unsafe poll(&readiness, 1, -1)
            } else if errno != EINTR {
                return rest.count { $0 == UInt8(ascii: "\n") }
            }
        }
        return 0
    }
}
