// A few connections that callers use on their own threads, for requests that are answered at once.
//
// Two changes of threads, to the client's thread and back, cost several times as much as a small request. So a caller
// sends its request itself, and waits for the answer for some microseconds. If the answer takes longer, the request
// goes on on the client's thread, and its caller is suspended as usual.

import Bytes
import Net

/// How far a caller has come with its request.
enum QuickProgress {
    /// There is an answer.
    case answered(Answer)
    /// The request may have arrived, but there will be no answer.
    case failed(ClientFailure)
    /// The answer takes longer.
    case pending(ClientRequest, LentConnection)
}

/// Connections that the client has lent to its callers. Any thread may use it.
final class QuickLane: Sendable {
    private struct State {
        var free: [LentConnection] = []
        /// How many connections are lent, free or in use.
        var count = 0
        var isClosed = false
        /// For requests that do not wait, and for those that do: how many calls to leave out, and how often in a row
        /// the answer has taken too long.
        var leaveOut = [0, 0]
        var misses = [0, 0]
    }

    /// The most connections that are lent, and so the most callers that wait here at once.
    static let capacity = 2
    /// The fewest connections of a client that lends some.
    private static let fewestConnections = 8
    /// How long a caller waits, in microseconds. It is about what two changes of threads cost on a busy machine.
    private static let microseconds = 100
    /// After several answers in a row that took longer, so many calls do not even try.
    private static let longestPause = 256
    private static let maximumBodyBytes = 16 * 1024

    private let settings: Settings
    private let isOn: Bool
    private let state = Locked(State())

    init(_ settings: Settings) {
        self.settings = settings
        isOn = settings.connections >= Self.fewestConnections && settings.trust == nil
    }

    /// Whether another connection may be lent beside those of requests that may take long. Those that are lent may
    /// become such ones, so one is left for the client's thread, which extends leases.
    func wantsConnection(besideLong longCount: Int) -> Bool {
        guard isOn else { return false }
        return state.with { state in
            !state.isClosed && state.count < Self.capacity && longCount + state.count < settings.connections - 1
        }
    }

    /// Adds a connection.
    func add(_ lent: LentConnection) {
        state.with { state in
            state.free.append(lent)
            state.count += 1
        }
    }

    /// Notes that the client has a connection again.
    func forget() { state.with { $0.count -= 1 } }

    /// Lends nothing any more.
    ///
    /// - Returns: The connections that nobody uses. The others come back by themselves.
    func close() -> [LentConnection] {
        state.with { state in
            state.isClosed = true
            defer { state.free = [] }
            state.count -= state.free.count
            return state.free
        }
    }

    /// Tries to send a request, and to get its answer at once.
    ///
    /// - Parameters:
    ///   - call: The request.
    ///   - loop: The client's thread, for connections that go back.
    /// - Returns: How far that has come; nil if nothing was sent.
    func exchange(_ call: Call, _ loop: ClientLoop) -> QuickProgress? {
        let kind = call.waitMilliseconds == nil ? 0 : 1
        guard isOn, kind == 1 || !call.isLong, (call.body?.count ?? 0) <= Self.maximumBodyBytes,
            let lent = take(kind)
        else { return nil }
        let wait = call.waitMilliseconds
        let timeout = clampedSum(call.timeoutMilliseconds ?? settings.timeoutMilliseconds, wait ?? 0)
        guard let request = try? settings.request(for: call, wait: wait, timeoutMilliseconds: timeout) else {
            giveBack(lent, loop)
            return nil
        }
        var answer: Answer?
        let progress = lent.exchange(request, withinMicroseconds: Self.microseconds) { answer = Answer($0) }
        switch progress {
        case .complete:
            note(kind, isHit: true)
            giveBack(lent, loop)
            return answer.map { .answered($0) }
        case .pending:
            note(kind, isHit: false)
            return .pending(request, lent)
        case .unusable:
            giveBack(lent, loop)
            return nil
        case .broken(let failure):
            giveBack(lent, loop)
            return .failed(failure)
        }
    }

    private func take(_ kind: Int) -> LentConnection? {
        state.with { state in
            if state.free.isEmpty { return nil }
            if state.leaveOut[kind] > 0 {
                state.leaveOut[kind] -= 1
                return nil
            }
            return state.free.removeLast()
        }
    }

    private func note(_ kind: Int, isHit: Bool) {
        state.with { state in
            state.misses[kind] = isHit ? 0 : min(state.misses[kind] + 1, 8)
            state.leaveOut[kind] = isHit || state.misses[kind] < 3 ? 0 : min(1 << state.misses[kind], Self.longestPause)
        }
    }

    private func giveBack(_ lent: LentConnection, _ loop: ClientLoop) {
        let isKept = state.with { state in
            if lent.canContinue, !state.isClosed {
                state.free.append(lent)
                return true
            }
            state.count -= 1
            return false
        }
        if !isKept { loop.async { $0.takeBack(lent) } }
    }
}
