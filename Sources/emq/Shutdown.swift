// SIGTERM and SIGINT: the first asks the server to stop in good order, the second to stop at once.

import CLinux
import Glibc
import Net

/// What signals have asked for, and how long stopping may take.
final class Shutdown: EventSource {
    private var descriptor: Int32 = -1
    private let drainMilliseconds: Int64
    private var signals = 0
    /// When the server stops whatever is still in hand; set once stopping has begun.
    private(set) var deadline: Int64?

    init(drainMilliseconds: Int64) { self.drainMilliseconds = drainMilliseconds }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Whether stopping was asked for.
    var isAsked: Bool { signals > 0 }

    /// Takes the two signals over from the kernel's default, and begins to hear of them. To be called before other threads are
    /// started, which inherit that.
    func watch(on loop: EventLoop) throws(SystemError) {
        var set = sigset_t()
        unsafe sigemptyset(&set)
        unsafe sigaddset(&set, SIGTERM)
        unsafe sigaddset(&set, SIGINT)
        unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
        // A write that fails says so itself: to a full file (`ulimit -f`), or to standard error when nobody reads it.
        _ = Glibc.signal(SIGXFSZ, SIG_IGN)
        _ = Glibc.signal(SIGPIPE, SIG_IGN)
        unsafe descriptor = signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
        guard descriptor >= 0 else { throw SystemError("receive signals") }
        try loop.watch(descriptor, for: self, events: UInt32(EPOLLIN.rawValue))
    }

    override func ready(events: UInt32) {
        var info = signalfd_siginfo()
        while unsafe read(descriptor, &info, MemoryLayout<signalfd_siginfo>.size) > 0 { signals += 1 }
    }

    /// Sets the time by which the server stops.
    func begin(now: Int64) { deadline = now + drainMilliseconds }

    /// Says what is waited for.
    ///
    /// - Parameters:
    ///   - dispatched: how many tasks have been given out, those that are being sent included.
    ///   - sent: how many are being sent.
    func report(dispatched: Int, sent: Int) {
        func count(_ number: Int) -> String { number == 1 ? "1 task" : "\(number) tasks" }
        let seconds = drainMilliseconds / 1000
        let held = dispatched - sent
        var work = "connected workers have \(seconds) s to acknowledge \(count(held)) in hand"
        if sent > 0 {
            let sending = "\(count(sent)) that \(sent == 1 ? "is" : "are") being sent"
            work = held > 0 ? "\(work), and \(sending) as long" : "\(sending) may take \(seconds) s"
        }
        Emq.log("emq: stopping; \(work); a second signal ends it at once")
    }

    /// Whether a second signal has asked to stop at once.
    var isForced: Bool { signals > 1 }

    /// Whether nothing is waited for any more.
    func isOver(now: Int64) -> Bool { isForced || now >= deadline ?? .max }
}
