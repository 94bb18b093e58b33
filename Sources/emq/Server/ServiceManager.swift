// Tells the service manager, usually systemd, when the server is ready, what it does while it is not, and that its loop
// still turns (sd_notify(3), sd_watchdog_enabled(3)).

import Glibc
import Net

/// The service manager that has started the server and wants to hear from it.
final class ServiceManager {
    /// What the server does.
    private enum Phase { case recovering, serving, stopping }

    /// How often a server that starts or stops asks for more time, and for how much.
    private static let reportMilliseconds: Int64 = 1000
    private static let extensionMicroseconds = 30_000_000
    /// When to send a message again that was not received: the first pause, and the longest. Each is twice the one
    /// before, because a manager that is gone does not come back.
    private static let retryMilliseconds: ClosedRange<Int64> = 100...10_000

    /// What the manager shows when the program is ready.
    var servingText = "serving"
    private let send: (String) -> Bool
    /// How often the manager is told that the loop turns; nil if it does not ask.
    private let watchdogMilliseconds: Int64?
    private var phase: Phase?
    /// The state that the manager has not been told yet; empty if there is none.
    private var unsent = ""
    private var retryMilliseconds = ServiceManager.retryMilliseconds.lowerBound
    private var nextReport = Int64.max
    private var nextWatchdog = Int64.max
    /// When there is something to do; before that, a turn costs one comparison.
    private var nextTime = Int64.min

    /// Nil if the server was not started by a manager that wants to hear from it.
    ///
    /// - Parameter environment: the environment's variables.
    convenience init?(_ environment: [String: String]) {
        guard let path = environment["NOTIFY_SOCKET"], let socket = NotifySocket(path) else { return nil }
        let isMeant = environment["WATCHDOG_PID"].map { $0 == "\(getpid())" } ?? true
        let microseconds = isMeant ? environment["WATCHDOG_USEC"].flatMap { Int64($0) } : nil
        self.init(watchdogMicroseconds: microseconds, send: socket.send)
    }

    /// - Parameters:
    ///   - microseconds: after how long the manager kills a server that says nothing; nil for never.
    ///   - send: sends a message; returns whether it was received.
    init(watchdogMicroseconds microseconds: Int64?, send: @escaping (String) -> Bool) {
        self.send = send
        watchdogMilliseconds = microseconds.flatMap { $0 > 0 ? max(1, $0 / 2000) : nil }
        if watchdogMilliseconds != nil { nextWatchdog = .min }
    }

    /// Reports what is due at the end of a turn of the loop.
    ///
    /// - Parameters:
    ///   - durability: the journal, which may be recovering.
    ///   - stopsBy: when the server has to stop; nil if nobody has asked it to.
    ///   - now: the time.
    /// - Returns: when the next turn must begin at the latest; nil for no such time.
    func endTurn(_ durability: (any Durability)?, stopsBy: Int64?, now: Int64) -> Int64? {
        let phase: Phase = stopsBy != nil ? .stopping : durability?.isReady == false ? .recovering : .serving
        if phase == self.phase, now < nextTime { return nextTime == .max ? nil : nextTime }
        if phase != self.phase {
            self.phase = phase
            nextReport = phase == .serving ? .max : now
            switch phase {
            case .recovering: break
            case .serving: unsent = "READY=1\nSTATUS=\(servingText)"
            case .stopping: unsent = "STOPPING=1\nSTATUS=stopping"
            }
        }
        let mayTryAgain = !unsent.isEmpty && !send(unsent)
        if mayTryAgain {
            retryMilliseconds = min(2 * retryMilliseconds, Self.retryMilliseconds.upperBound)
        } else {
            (unsent, retryMilliseconds) = ("", Self.retryMilliseconds.lowerBound)
        }
        if now >= nextReport { report(durability, stopsBy: stopsBy, now: now) }
        if let watchdogMilliseconds, now >= nextWatchdog {
            nextWatchdog = now + (send("WATCHDOG=1") ? watchdogMilliseconds : min(watchdogMilliseconds, 100))
        }
        nextTime = min(nextReport, nextWatchdog, mayTryAgain ? now + retryMilliseconds / 2 : .max)
        return nextTime == .max ? nil : nextTime
    }

    /// Asks for more time. A server that stops has until its deadline; what it does after that must fit into the
    /// manager's own timeout.
    private func report(_ durability: (any Durability)?, stopsBy: Int64?, now: Int64) {
        nextReport = now + Self.reportMilliseconds
        let more = "EXTEND_TIMEOUT_USEC=\(Self.extensionMicroseconds)"
        if let stopsBy {
            if now < stopsBy { _ = send(more) } else { nextReport = .max }
        } else if let durability {
            _ = send("\(more)\nSTATUS=\(durability.progressText)")
        }
    }
}
