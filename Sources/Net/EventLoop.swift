// The one thread that owns every socket and the broker. It waits for the kernel, keeps deadlines, and runs the jobs of
// other threads and of Swift's concurrency. It is a SerialExecutor: an actor that uses it runs on this thread only and
// needs no lock.

import Bytes
import CLinux
import Glibc

/// An epoll loop that belongs to the thread that created it.
///
/// You may call `enqueue` and `wake` from any thread, and everything else only on the loop's own thread. `turn`,
/// `watch` and `unwatch` check this.
@safe public final class EventLoop: SerialExecutor, @unchecked Sendable {
    // @unchecked: `jobs` is the only state that other threads touch, under `jobLock`; the rest is the loop thread's.

    private let epoll: Int32
    private var thread = pthread_self()
    private let wakeUp: Int32
    private let wakeUpSource = EventSource()
    /// Retains the watched sources, because the kernel has only their addresses.
    private var sources: [ObjectIdentifier: EventSource] = [:]
    private let events: UnsafeMutableBufferPointer<epoll_event>
    // Not `Synchronization.Mutex`: the thread sanitizer does not follow it and reports false races.
    private let jobLock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var jobs: [UnownedJob] = []
    /// Returns microseconds since the Unix epoch.
    private let clock: @Sendable () -> Int64

    /// The loop's time in milliseconds since the Unix epoch, read from its clock once a turn.
    public var now: Int64 { unsafe uncheckedNow }
    /// The same time in microseconds.
    public var nowMicroseconds: Int64 { unsafe uncheckedNowMicroseconds }
    /// How long each turn took, from the end of its wait to the beginning of the next one, in microseconds. What
    /// becomes ready during a turn waits for its end.
    public var turnMicroseconds: Histogram { unsafe uncheckedTurnMicroseconds }
    /// How long the longest turn of the last minute took, in microseconds.
    public var longestTurnMicroseconds: Int64 { unsafe uncheckedLongestTurn.value(at: nowMicroseconds) }

    // Unchecked, because each request reads or changes them. They are used on the loop's thread only, and no access
    // calls anything that could overlap with it.
    @exclusivity(unchecked) private var uncheckedNow: Int64
    @exclusivity(unchecked) private var uncheckedNowMicroseconds: Int64
    @exclusivity(unchecked) private var uncheckedTurnMicroseconds = Histogram()
    @exclusivity(unchecked) private var uncheckedLongestTurn = RecentMaximum()
    /// When the last wait ended, in microseconds; nil before the first.
    @exclusivity(unchecked) private var turnBegin: Int64?
    // The same is true of the deadlines: each access is one operation of the queue.
    @exclusivity(unchecked) private var timers = TimerQueue()

    /// Creates the loop of the calling thread.
    ///
    /// - Parameter clock: Milliseconds since the Unix epoch; nil for `steadyClock`. It must never step back. If it runs
    ///   ahead of the system's clock, call `wake` so that the loop notices.
    /// - Throws: `SystemError` when the kernel has no descriptors.
    public init(clock: (@Sendable () -> Int64)? = nil) throws(SystemError) {
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard epoll >= 0 else { throw SystemError("make an epoll instance") }
        wakeUp = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard wakeUp >= 0 else { throw SystemError("make an eventfd") }
        unsafe events = .allocate(capacity: 256)
        unsafe pthread_mutex_init(jobLock, nil)
        if let clock { self.clock = { clock() * 1000 } } else { self.clock = Self.steadyMicroseconds() }
        let time = self.clock()
        unsafe uncheckedNowMicroseconds = time
        unsafe uncheckedNow = time / 1000
        try watch(wakeUp, for: wakeUpSource, events: UInt32(EPOLLIN.rawValue))
    }

    deinit {
        close(epoll)
        close(wakeUp)
        unsafe events.deallocate()
        unsafe pthread_mutex_destroy(jobLock)
        unsafe jobLock.deallocate()
    }

    /// A clock that never steps: the wall clock's time now, advanced by a steady clock.
    public static func steadyClock() -> @Sendable () -> Int64 {
        let clock = steadyMicroseconds()
        return { clock() / 1000 }
    }

    private static func steadyMicroseconds() -> @Sendable () -> Int64 {
        let offset = microseconds(CLOCK_REALTIME) - microseconds(CLOCK_BOOTTIME)
        return { microseconds(CLOCK_BOOTTIME) + offset }
    }

    private static func microseconds(_ clock: clockid_t) -> Int64 {
        var time = timespec()
        unsafe clock_gettime(clock, &time)
        return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
    }

    /// Reads the clock again.
    @discardableResult
    public func updateNow() -> Int64 {
        let time = clock()
        unsafe uncheckedNowMicroseconds = time
        unsafe uncheckedNow = time / 1000
        return time / 1000
    }

    // MARK: Descriptors

    /// Watches a descriptor until it is closed or `unwatch` is called; the loop retains the source meanwhile.
    ///
    /// - Throws: `SystemError` when the kernel refuses.
    public func watch(_ descriptor: Int32, for source: EventSource, events: UInt32) throws(SystemError) {
        checkIsolated()
        guard control(EPOLL_CTL_ADD, descriptor, source, events) == 0 else {
            throw SystemError("watch a descriptor")
        }
        sources[ObjectIdentifier(source)] = source
    }

    /// Changes the events that are watched.
    public func rewatch(_ descriptor: Int32, for source: EventSource, events: UInt32) {
        _ = control(EPOLL_CTL_MOD, descriptor, source, events)
    }

    /// Stops watching a descriptor that is still open, and drops the source's deadline.
    public func unwatch(_ descriptor: Int32, for source: EventSource) {
        checkIsolated()
        _ = control(EPOLL_CTL_DEL, descriptor, source, 0)
        unsafe timers.remove(source)
        sources[ObjectIdentifier(source)] = nil
    }

    private func control(_ operation: Int32, _ descriptor: Int32, _ source: EventSource, _ events: UInt32) -> Int32 {
        var event = unsafe epoll_event(
            events: events, data: epoll_data_t(ptr: Unmanaged.passUnretained(source).toOpaque()))
        return unsafe epoll_ctl(epoll, operation, descriptor, &event)
    }

    // MARK: Deadlines

    /// Calls the source's `timerFired` once, in the first turn at or after `deadline`. Replaces an earlier deadline.
    public func setTimer(_ source: EventSource, at deadline: Int64) { unsafe timers.set(source, at: deadline) }

    /// Drops the source's deadline, if it has one.
    public func cancelTimer(_ source: EventSource) { unsafe timers.remove(source) }

    // MARK: Turns

    /// Runs one turn: waits until something is ready, a deadline passes, a job arrives or `deadline` is reached; then
    /// notifies the sources and runs the jobs.
    ///
    /// - Parameter deadline: The latest time to stop waiting, in milliseconds since the epoch; nil for none.
    public func turn(until deadline: Int64?) {
        checkIsolated()
        var timeout: Int32 = -1
        if let next = unsafe earliest([deadline, timers.next]) {
            timeout = next <= now ? 0 : Int32(clamping: next - updateNow())
            timeout = max(timeout, 0)
        } else {
            updateNow()
        }
        var turnEnd = nowMicroseconds
        let count = unsafe epoll_wait(epoll, events.baseAddress, Int32(events.count), timeout)
        updateNow()
        // Without a wait, one reading of the clock serves as the end of a turn and as the beginning of the next.
        if timeout == 0 { turnEnd = nowMicroseconds }
        if let turnBegin = unsafe turnBegin {
            unsafe uncheckedTurnMicroseconds.record(turnEnd - turnBegin)
            unsafe uncheckedLongestTurn.record(turnEnd - turnBegin, at: turnEnd)
        }
        unsafe turnBegin = nowMicroseconds
        var isWoken = false
        for index in 0..<max(0, Int(count)) {
            let event = unsafe events[index]
            guard let pointer = unsafe event.data.ptr else { continue }
            // Not retained for the call, which `EventSource.ready` allows.
            unsafe Unmanaged<EventSource>.fromOpaque(pointer)._withUnsafeGuaranteedRef { source in
                if source === wakeUpSource { isWoken = true } else { unsafe source.ready(events: event.events) }
            }
        }
        while let source = unsafe timers.popDue(now: now) { source.timerFired() }
        // `enqueue` wakes the loop for the first job.
        if isWoken {
            drainWakeUp()
            runJobs()
        }
    }

    // MARK: Jobs from other threads

    /// Ends the current or next wait of the loop. Any thread.
    public func wake() {
        var one: UInt64 = 1
        // The write fails only when the counter is full, and then the loop is already being woken.
        _ = unsafe write(wakeUp, &one, 8)
    }

    private func drainWakeUp() {
        var count: UInt64 = 0
        _ = unsafe read(wakeUp, &count, 8)
    }

    /// Schedules a job of an actor on this loop for the next turn. Any thread.
    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        unsafe pthread_mutex_lock(jobLock)
        jobs.append(job)
        let isFirst = jobs.count == 1
        unsafe pthread_mutex_unlock(jobLock)
        if isFirst { wake() }
    }

    private func runJobs() {
        unsafe pthread_mutex_lock(jobLock)
        let due = jobs
        jobs.removeAll()
        unsafe pthread_mutex_unlock(jobLock)
        for job in due { unsafe job.runSynchronously(on: asUnownedSerialExecutor()) }
    }

    /// Makes the calling thread the loop's own. Only the thread that made the loop may have used it before, and no
    /// other thread may use it until this returns.
    public func moveToThisThread() { thread = pthread_self() }

    /// Stops the program unless it is called on the loop's thread.
    public func checkIsolated() {
        precondition(pthread_equal(thread, pthread_self()) != 0, "the event loop is used from another thread")
    }

    /// Whether this is the loop's thread.
    public func isIsolatingCurrentContext() -> Bool? { pthread_equal(thread, pthread_self()) != 0 }
}
