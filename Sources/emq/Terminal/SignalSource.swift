// Signals as events of an event loop, for commands that run until they are stopped.

import CLinux
import Glibc
import Net

/// Receives signals, which then no longer end or stop the program.
final class SignalSource: EventSource {
    /// Becomes readable with a signal.
    let descriptor: Int32
    private var received: [Int32] = []

    /// Blocks the signals and receives them on the loop instead. Call this before starting other threads, which inherit
    /// the signal mask. SIGPIPE is ignored: a write to a closed pipe fails instead.
    ///
    /// - Throws: `SystemError` if the system has no descriptors.
    init(_ signals: [Int32], on loop: EventLoop) throws(SystemError) {
        descriptor = try Self.open(signals)
        super.init()
        try loop.watch(descriptor, for: self, events: UInt32(EPOLLIN.rawValue))
    }

    /// Blocks signals, and opens a descriptor that they can be read from. SIGPIPE is ignored.
    static func open(_ signals: [Int32]) throws(SystemError) -> Int32 {
        var set = sigset_t()
        unsafe sigemptyset(&set)
        for signal in signals { unsafe sigaddset(&set, signal) }
        unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
        _ = Glibc.signal(SIGPIPE, SIG_IGN)
        let descriptor = unsafe signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
        guard descriptor >= 0 else { throw SystemError("receive signals") }
        return descriptor
    }

    /// Reads the signals that have come to such a descriptor.
    static func read(_ descriptor: Int32, _ received: (Int32) -> Void) {
        var info = signalfd_siginfo()
        while unsafe Glibc.read(descriptor, &info, MemoryLayout<signalfd_siginfo>.size) > 0 {
            received(Int32(info.ssi_signo))
        }
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    override func ready(events: UInt32) { read() }

    private func read() { Self.read(descriptor) { received.append($0) } }

    /// The signals received since the last call.
    func take() -> [Int32] {
        read()
        defer { received = [] }
        return received
    }

    /// Whether a signal has come that asks for the end; it stays among those received. SIGTSTP stops the program, and
    /// signals that only tell of a change are dropped.
    var isEndAsked: Bool {
        for signal in take() where signal != SIGWINCH && signal != SIGCONT {
            if signal == SIGTSTP { Self.stop(by: SIGTSTP) } else { received.append(signal) }
        }
        return !received.isEmpty
    }

    /// Stops the program as a signal such as SIGTSTP does by default. Returns when it goes on.
    static func stop(by signal: Int32) {
        var set = sigset_t()
        unsafe sigemptyset(&set)
        unsafe sigaddset(&set, signal)
        kill(getpid(), signal)
        unsafe pthread_sigmask(SIG_UNBLOCK, &set, nil)
        unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
    }
}
