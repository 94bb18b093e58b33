// Where the program's log goes: lines for people, written to standard error by a thread of its own, so that nobody has to wait
// for whoever reads them, or does not.

import Glibc

/// Writes lines to a descriptor, in order, and never waits.
///
/// A few lines wait for a reader who is slow. When there are too many, lines are dropped, and the next one that can be written
/// says how many. The descriptor's flags stay as they are: they belong to all who have it open, a shell for instance.
@safe final class LineWriter: @unchecked Sendable {
    // @unchecked: what is not constant is touched under `lock` only, but for what says that it is the thread's.

    static let standardError = LineWriter(STDERR_FILENO)

    /// How many bytes wait at most.
    static let capacity = 64 << 10
    /// As many bytes reach a pipe at once, not mixed with those of other writers.
    private static let atomicByteCount = Int(PIPE_BUF)

    private let descriptor: Int32
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var hasThread = false
    private var isIdle = true
    private var waiting: [UInt8] = []
    /// How many lines were dropped behind those that wait.
    private var droppedCount = 0
    /// The thread's: what is being written, and how many lines are missing from what was.
    private var batch: [UInt8] = []
    private var missingCount = 0

    /// - Parameter descriptor: an open descriptor, which stays open.
    init(_ descriptor: Int32) {
        self.descriptor = descriptor
        // So the thread allocates nothing, and needs no heap of its own.
        waiting.reserveCapacity(Self.capacity)
        batch.reserveCapacity(Self.capacity)
        unsafe pthread_mutex_init(lock, nil)
        var attributes = pthread_condattr_t()
        unsafe pthread_condattr_init(&attributes)
        unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        unsafe pthread_cond_init(changed, &attributes)
    }

    deinit {
        // Once there is a thread, it keeps this object.
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

    /// Has a line written, or drops it if too much waits. O(length).
    func write(_ line: String) {
        locked {
            if !hasThread { hasThread = start() }
            let bytes = line.utf8
            // Behind lines that were dropped, none is kept before somebody is told of them.
            guard droppedCount == 0, waiting.count + bytes.count < Self.capacity else {
                droppedCount += 1
                return
            }
            waiting += bytes
            waiting.append(UInt8(ascii: "\n"))
            if hasThread {
                unsafe pthread_cond_broadcast(changed)
            } else {
                // The system gives no thread: the program is about to end.
                _ = put(waiting[...])
                waiting.removeAll(keepingCapacity: true)
            }
        }
    }

    /// Waits until all lines are written, but no longer than that.
    func flush(milliseconds: Int) {
        var deadline = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &deadline)
        deadline.tv_sec += milliseconds / 1000
        deadline.tv_nsec += milliseconds % 1000 * 1_000_000
        if deadline.tv_nsec >= 1_000_000_000 {
            (deadline.tv_sec, deadline.tv_nsec) = (deadline.tv_sec + 1, deadline.tv_nsec - 1_000_000_000)
        }
        locked {
            while hasThread, !isIdle || !waiting.isEmpty || droppedCount > 0 {
                if unsafe pthread_cond_timedwait(changed, lock, &deadline) != 0 { return }
            }
        }
    }

    // MARK: The thread

    private func start() -> Bool {
        // Signals are for others.
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
                defer { droppedCount = 0 }
                return droppedCount
            }
            tellOfMissing()
            missingCount += put(batch[...])
            batch.removeAll(keepingCapacity: true)
            if droppedBehind > 0 {
                missingCount += droppedBehind
                tellOfMissing()
            }
        }
    }

    private func tellOfMissing() {
        if missingCount == 0 { return }
        let lines = missingCount == 1 ? "1 line is" : "\(missingCount) lines are"
        let notice = Array("emq: \(lines) missing here, since nobody took them in time\n".utf8)
        if put(notice[...]) == 0 { missingCount = 0 }
    }

    /// Writes whole lines, waiting for the reader.
    ///
    /// - Returns: how many lines could not be written.
    private func put(_ lines: ArraySlice<UInt8>) -> Int {
        var rest = lines
        while !rest.isEmpty {
            var piece = rest.prefix(Self.atomicByteCount)
            if piece.count < rest.count, let end = piece.lastIndex(of: UInt8(ascii: "\n")) { piece = piece[...end] }
            let count = unsafe piece.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN {
                // Somebody who shares it does not wait.
                var readiness = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                unsafe poll(&readiness, 1, -1)
            } else if errno != EINTR {
                return rest.count { $0 == UInt8(ascii: "\n") }
            }
        }
        return 0
    }
}
