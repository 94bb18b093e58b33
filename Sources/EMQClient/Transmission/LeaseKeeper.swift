// Extends the leases of tasks in work, on the client's own thread, which no work of the program's can hold up.

import Net

/// The leases that a client extends. Use it on the client's thread.
final class LeaseKeeper: EventSource {
    /// A task whose lease is extended until somebody drops it.
    private struct Kept {
        let milliseconds: Int64
        let onLost: @Sendable () -> Void
        /// When the lease is extended next; `Int64.max` while that is under way.
        var touchesAt: Int64
        var pause = LeaseKeeper.pauseMilliseconds.lowerBound

        /// How long after an extension the next one follows.
        var interval: Int64 { max(milliseconds / 3, 100) }
    }

    /// The most leases that one request extends.
    private static let leasesPerRequest = 1000
    /// The pauses between attempts to extend a lease, in milliseconds. Each is twice the one before.
    fileprivate static let pauseMilliseconds: ClosedRange<Int64> = 250...5000

    private unowned let transmitter: Transmitter
    private var leases: [String: Kept] = [:]
    private var isDue = false
    private var isClosed = false

    init(_ transmitter: Transmitter) { self.transmitter = transmitter }

    /// Extends a lease from now on, a third of its length after each extension.
    ///
    /// - Parameters:
    ///   - receipt: The receipt of the task.
    ///   - milliseconds: The length of the lease.
    ///   - onLost: Called on the client's thread if the server says that the task is not held any more.
    func keep(_ receipt: String, milliseconds: Int64, onLost: @escaping @Sendable () -> Void) {
        if isClosed { return }
        var kept = Kept(milliseconds: milliseconds, onLost: onLost, touchesAt: 0)
        kept.touchesAt = clampedSum(transmitter.now, kept.interval)
        leases[receipt] = kept
        if timerIsLater(than: kept.touchesAt) { setTimer(kept.touchesAt) }
    }

    /// Extends a lease no longer.
    func drop(_ receipt: String) { leases[receipt] = nil }

    /// Extends nothing any more.
    func close() {
        isClosed = true
        leases = [:]
        transmitter.cancelTimer(self)
    }

    private var timerTime = Int64.max

    private func timerIsLater(than time: Int64) -> Bool { time < timerTime }

    private func setTimer(_ time: Int64) {
        timerTime = time
        transmitter.setTimer(self, at: time)
    }

    override func timerFired() {
        timerTime = .max
        isDue = true
    }

    /// Extends the leases that are due.
    func review() {
        guard isDue, !isClosed else { return }
        isDue = false
        let now = transmitter.now
        let due = leases.filter { $0.value.touchesAt <= now }.keys.sorted()
        for start in stride(from: 0, to: due.count, by: Self.leasesPerRequest) {
            touch(Array(due[start...].prefix(Self.leasesPerRequest)))
        }
        resetTimer()
    }

    private func resetTimer() {
        guard let next = leases.values.lazy.map(\.touchesAt).min(), next < .max, timerIsLater(than: next) else {
            return
        }
        setTimer(next)
    }

    private func touch(_ receipts: [String]) {
        var shortest = Int64.max
        for receipt in receipts {
            shortest = min(shortest, leases[receipt]?.interval ?? .max)
            leases[receipt]?.touchesAt = .max
        }
        var call = Call("/touch/", json: RequestBody.ids(receipts))
        // An answer that comes too late for another attempt does not help. The next attempt is a repetition.
        call.timeoutMilliseconds = min(transmitter.settings.timeoutMilliseconds, max(shortest, 1000))
        call.tries = 1
        transmitter.send(call) { [weak transmitter] in transmitter?.keeper.touched(receipts, $0) }
    }

    fileprivate func touched(_ receipts: [String], _ result: Result<Answer, any Error>) {
        if isClosed { return }
        var missing: Set<String> = []
        var isExtended = false
        switch result {
        case .success(let answer):
            isExtended = true
            missing = Set((try? JSONDecoding.decode(Missing.self, from: answer.body))?.missing ?? [])
        case .failure(let error as EMQError): transmitter.settings.onProblem?(.leaseNotExtended(error))
        case .failure: break
        }
        for receipt in receipts {
            guard var kept = leases[receipt] else { continue }
            if missing.contains(receipt) {
                leases[receipt] = nil
                transmitter.settings.onProblem?(.leaseLost(receipt: receipt))
                kept.onLost()
                continue
            }
            kept.touchesAt = clampedSum(transmitter.now, isExtended ? kept.interval : min(kept.pause, kept.interval))
            kept.pause =
                isExtended
                ? Self.pauseMilliseconds.lowerBound : min(2 * kept.pause, Self.pauseMilliseconds.upperBound)
            leases[receipt] = kept
        }
        resetTimer()
    }
}

/// The tasks that a request did not find.
struct Missing: Decodable {
    let missing: [String]
}
