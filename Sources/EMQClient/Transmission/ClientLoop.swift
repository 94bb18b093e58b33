// The client's thread: an event loop that owns the connections, and that actors and tasks may run on.

import Bytes
import Glibc
import Net

/// A thread with an event loop. It runs closures, and jobs of Swift's concurrency, between the loop's turns.
final class ClientLoop: SerialExecutor, @unchecked Sendable {
    // @unchecked: `state` has a lock. `loop` and `transmitter` are used on the thread only.

    /// What the thread is asked to do.
    private enum Entry {
        /// A job of an actor whose executor this is.
        case actorJob(UnownedJob)
        /// A job of a task that prefers this thread.
        case taskJob(UnownedJob, LoopTaskExecutor)
        case work(() -> Void)
    }

    private struct State {
        var entries: [Entry] = []
        /// The loop waits, or is about to: whoever adds an entry has to wake it.
        var isWaiting = false
        var isEnding = false
        /// The thread has ended, or is about to.
        var hasEnded = false
        /// Another thread runs the jobs that came after the end.
        var isDraining = false

        mutating func takeEntries() -> [Entry] {
            if entries.isEmpty { return [] }
            var taken: [Entry] = []
            swap(&taken, &entries)
            return taken
        }

        /// Whether the thread has to be woken, which it is then.
        mutating func takeWaiting() -> Bool {
            defer { isWaiting = false }
            return isWaiting
        }
    }

    /// How often jobs run before the loop looks at its descriptors again.
    private static let maximumRounds = 16

    private let state = Locked(State())
    let loop: EventLoop
    let lane: QuickLane
    /// The requests; nil before the thread has begun and after it has ended.
    private(set) var transmitter: Transmitter?

    /// Starts the thread, which goes on until `end`.
    ///
    /// - Throws: `SystemError` if the system has no thread or no descriptors.
    init(_ settings: Settings) throws(SystemError) {
        loop = try EventLoop()
        lane = QuickLane(settings)
        // Actors may ask for the loop's thread at once.
        let started = Signal()
        try DetachedThread.start { [self] in
            loop.moveToThisThread()
            transmitter = Transmitter(settings, on: loop, lane)
            started.send()
            run()
            transmitter = nil
        }
        started.wait()
    }

    /// Asks the thread to end when it has nothing left to do. Any thread.
    func end() {
        if state.with({ state in
            state.isEnding = true
            return state.takeWaiting()
        }) {
            loop.wake()
        }
    }

    private func run() {
        while true {
            var isDone = false
            for _ in 0..<Self.maximumRounds {
                runEntries()
                isDone = transmitter?.advance() ?? true
                if state.with({ $0.entries.isEmpty }) { break }
            }
            let (isEnd, waits) = state.with { state in
                state.hasEnded = isDone && state.isEnding && state.entries.isEmpty
                state.isWaiting = !state.hasEnded && state.entries.isEmpty
                return (state.hasEnded, state.isWaiting)
            }
            if isEnd { break }
            loop.turn(until: waits ? nil : loop.now)
            state.with { $0.isWaiting = false }
        }
    }

    private func runEntries(isDraining: Bool = false) {
        for entry in state.with({ $0.takeEntries() }) {
            switch entry {
            case .actorJob(let job): unsafe job.runSynchronously(on: asUnownedSerialExecutor())
            case .taskJob(let job, let executor): unsafe job.runSynchronously(on: executor.asUnownedTaskExecutor())
            case .work(let body): if !isDraining { body() }
            }
        }
    }

    // MARK: Any thread

    private func add(_ entry: Entry) {
        let (wakes, drains) = state.with { state in
            state.entries.append(entry)
            let drains = state.hasEnded && !state.isDraining
            if drains { state.isDraining = true }
            return (state.takeWaiting(), drains)
        }
        if wakes { loop.wake() }
        if drains { drain() }
    }

    /// Does something with the requests on the thread, soon.
    func async(_ body: @escaping @Sendable (Transmitter) -> Void) {
        add(.work { [unowned self] in if let transmitter { body(transmitter) } })
    }

    /// Sends a request, at once if this is the thread.
    func start(_ pending: PendingCall) {
        if isCurrentThread, let transmitter { return transmitter.start(pending) }
        async { $0.start(pending) }
    }

    /// Tries to send a request, and to get its answer at once; nil if nothing was sent.
    func quickExchange(_ call: Call) -> QuickProgress? {
        // On this thread, it would hold up what is in flight.
        if isCurrentThread, transmitter?.isIdle != true { return nil }
        return lane.exchange(call, self)
    }

    /// Goes on with a request that its caller has begun.
    func goOn(_ pending: PendingCall, from progress: QuickProgress) {
        // It has one owner at a time, and this thread is the next one.
        nonisolated(unsafe) let progress = progress
        async { unsafe $0.goOn(pending, from: progress) }
    }

    /// Runs jobs that came after the end of the thread, so that no task hangs.
    private func drain() {
        do {
            try DetachedThread.start { [self] in
                while true {
                    runEntries(isDraining: true)
                    let isEmpty = state.with { state in
                        if state.entries.isEmpty { state.isDraining = false }
                        return state.entries.isEmpty
                    }
                    if isEmpty { return }
                }
            }
        } catch {
            // The next job tries again.
            state.with { $0.isDraining = false }
        }
    }

    /// Runs a job of an actor on the thread.
    func enqueue(_ job: consuming ExecutorJob) { add(.actorJob(UnownedJob(job))) }

    fileprivate func enqueue(_ job: UnownedJob, of executor: LoopTaskExecutor) { add(.taskJob(job, executor)) }

    /// Stops the program unless it is called on the thread.
    func checkIsolated() { loop.checkIsolated() }

    /// Whether this is the thread.
    func isIsolatingCurrentContext() -> Bool? { loop.isIsolatingCurrentContext() }

    var isCurrentThread: Bool { loop.isIsolatingCurrentContext() == true }
}

/// Lets tasks prefer the client's thread.
final class LoopTaskExecutor: TaskExecutor {
    private let loop: ClientLoop

    init(_ loop: ClientLoop) { self.loop = loop }

    func enqueue(_ job: consuming ExecutorJob) { loop.enqueue(UnownedJob(job), of: self) }
}

/// What one thread waits for and another one sends, once.
@safe private final class Signal: @unchecked Sendable {
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init() { unsafe sem_init(semaphore, 0, 0) }

    func send() { unsafe sem_post(semaphore) }

    func wait() { while unsafe sem_wait(semaphore) != 0 {} }

    deinit {
        unsafe sem_destroy(semaphore)
        unsafe semaphore.deallocate()
    }
}
