// Signals. The first SIGTERM or SIGINT stops the program in good order, the second stops it at once. SIGHUP makes the
// server read its certificate and its tokens again, and stops a program that belongs to a terminal.

import CLinux
import Glibc
import Net

/// The signals received, and how long stopping may take.
final class Shutdown: EventSource {
    private var descriptor: Int32 = -1
    private let drainMilliseconds: Int64
    /// Unchecked, because each turn reads it; each access is one read or write.
    @exclusivity(unchecked) private var signals = 0
    private var isReloadAsked = false
    private let hangUpStops: Bool
    /// When the server stops, even if tasks are still dispatched; nil until stopping has begun.
    private(set) var deadline: Int64?

    /// - Parameters:
    ///   - drainMilliseconds: how long stopping may take.
    ///   - hangUpStops: whether SIGHUP asks to stop. Then one that was ignored at the start, as by `nohup`, still is.
    init(drainMilliseconds: Int64, hangUpStops: Bool = false) {
        (self.drainMilliseconds, self.hangUpStops) = (drainMilliseconds, hangUpStops)
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Asks the server to stop, as a signal does.
    func ask() { unsafe signals += 1 }

    /// Whether a signal has asked the server to stop.
    var isAsked: Bool { unsafe signals > 0 }

    /// Whether a signal has asked to read the files again since the last call.
    func takeReload() -> Bool {
        defer { isReloadAsked = false }
        return isReloadAsked
    }

    /// Blocks the signals and receives them on the loop instead. Call this before starting other threads, which
    /// inherit the signal mask.
    func watch(on loop: EventLoop) throws(SystemError) {
        // A failed write to a file at its limit (`ulimit -f`) returns an error instead.
        _ = Glibc.signal(SIGXFSZ, SIG_IGN)
        // A blocked signal would arrive even if it is ignored.
        let hangUp = !hangUpStops || !isHangUpIgnored ? [SIGHUP] : []
        descriptor = try SignalSource.open([SIGTERM, SIGINT] + hangUp)
        try loop.watch(descriptor, for: self, events: UInt32(EPOLLIN.rawValue))
    }

    private var isHangUpIgnored: Bool {
        var action = sigaction()
        guard unsafe sigaction(SIGHUP, nil, &action) == 0 else { return false }
        return unsafe unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
            == unsafeBitCast(SIG_IGN, to: Int.self)
    }

    override func ready(events: UInt32) {
        SignalSource.read(descriptor) { signal in
            if signal != SIGHUP {
                ask()
            } else if !hangUpStops {
                isReloadAsked = true
            } else if !isAsked {
                // The end of a terminal may send more than one, which must not count as the second signal.
                ask()
            }
        }
    }

    /// Sets the deadline for stopping.
    func begin(now: Int64) { deadline = now + drainMilliseconds }

    /// Logs what the server waits for.
    ///
    /// - Parameters:
    ///   - dispatched: the number of dispatched tasks, including those that push is sending.
    ///   - sent: the number of tasks that push is sending.
    func report(dispatched: Int, sent: Int) {
        func count(_ number: Int) -> String { number == 1 ? "1 task" : "\(number) tasks" }
        let seconds = drainMilliseconds / 1000
        let held = dispatched - sent
        var work: [String] = []
        if held > 0 || sent == 0 {
            work.append("connected workers have \(seconds) s to acknowledge \(count(held))")
        }
        if sent > 0 { work.append("requests in flight for \(count(sent)) have \(seconds) s to complete") }
        Log.standard.info("stopping; \(work.joined(separator: "; ")); a second signal stops the server at once")
    }

    /// Whether a second signal has asked the server to stop at once.
    var isForced: Bool { unsafe signals > 1 }

    /// Whether waiting is over: the deadline has passed, or a second signal has come.
    func isOver(now: Int64) -> Bool { isForced || now >= deadline ?? .max }
}
