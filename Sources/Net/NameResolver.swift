// Looks host names up without keeping the event loop: the system's look-up blocks, so it is done on threads, which live
// as long as there is a name to look up. Answers are kept for a few seconds.
//
// A name whose servers do not answer keeps its thread for ten seconds and more. So each name is looked up once for all
// who want it, each group of requests gets a part of the threads only, and so do all names together that took long
// before. Whoever starts requests asks first whether one more look-up can begin (`canBegin`).

import Glibc

/// Finds the addresses of names for exchanges. Used on the loop's thread only.
final class NameResolver {
    /// The addresses of a name, in the order in which they should be tried, or why there are none.
    typealias Answer = Result<[IPAddress], SystemError>

    /// The most addresses of one name that are of use.
    private static let addressLimit = 16
    private static let knownNamesLimit = 1024
    private static let answerLifetimeMilliseconds: Int64 = 5_000
    private static let failureLifetimeMilliseconds: Int64 = 1_000
    /// How many names may be looked up at once, by one group, and of those that took long before.
    static let lookUpLimit = 16
    static let lookUpLimitPerGroup = 4
    static let slowLookUpLimit = 8
    /// How many of all are kept for groups that have none under way: what is slow is not known of names that are new.
    static let reservedLookUpLimit = 4
    /// What takes so long is a slow look-up, and for how long that is remembered.
    private static let slowMilliseconds: Int64 = 2_000
    private static let slownessLifetimeMilliseconds: Int64 = 60_000

    /// A name that is being looked up.
    private struct LookUp {
        /// Whose part of the bounds it takes.
        let group: UInt32
        let start: Int64
        /// It took long the last time.
        let isSlow: Bool
        /// Who waits for it.
        var exchanges: [ClientExchange] = []
    }

    /// What was found out.
    private struct Known {
        let answer: Answer
        let expiry: Int64
        /// Until when it is remembered that it took long; 0 if it did not.
        let slowUntil: Int64

        /// When nothing of it counts any more.
        var end: Int64 { max(expiry, slowUntil) }
    }

    private let threads: LookUpThreads
    private var lookUps: [String: LookUp] = [:]
    /// How many of them each group has, and how many are slow.
    private var groupCounts: [UInt32: Int] = [:]
    private var slowCount = 0
    private var endedCount = 0
    private var known: [String: Known] = [:]

    /// `lookUp` is called on any thread, and may block.
    init(loop: EventLoop, lookUp: @escaping @Sendable (String) -> Answer) {
        threads = LookUpThreads(loop: loop, lookUp: lookUp)
    }

    deinit { threads.forgetAll() }

    /// The system's look-up of a name: `getaddrinfo`.
    @Sendable static func systemLookUp(_ name: String) -> Answer {
        do throws(SystemError) {
            return .success(try SocketAddress.addresses(ofHost: name).compactMap(\.ipAddress))
        } catch {
            return .failure(error)
        }
    }

    /// Whether the name's addresses are known, are being asked for, or may be asked for by that group now. O(1).
    func canBegin(_ name: String, for group: UInt32, now: Int64) -> Bool {
        if lookUps[name] != nil { return true }
        let known = known[name]
        if let known, known.expiry > now { return true }
        let isSlow = known.map { $0.slowUntil > now } ?? false
        let groupCount = groupCounts[group, default: 0]
        let limit = groupCount == 0 ? Self.lookUpLimit : Self.lookUpLimit - Self.reservedLookUpLimit
        return lookUps.count < limit && groupCount < Self.lookUpLimitPerGroup
            && !(isSlow && slowCount >= Self.slowLookUpLimit)
    }

    /// Begins to look a name up, for a group, unless its addresses are known or are being asked for.
    func begin(_ name: String, for group: UInt32, now: Int64) {
        let known = known[name]
        if lookUps[name] != nil || known.map({ $0.expiry > now }) == true { return }
        let isSlow = known.map { $0.slowUntil > now } ?? false
        lookUps[name] = LookUp(group: group, start: now, isSlow: isSlow)
        groupCounts[group, default: 0] += 1
        if isSlow { slowCount += 1 }
        threads.ask(name)
    }

    /// The answer, if it is known. If not, the exchange is handed to `collect` when it is.
    func lookUp(_ name: String, for exchange: ClientExchange, now: Int64) -> Answer? {
        if let known = known[name], known.expiry > now { return known.answer }
        begin(name, for: exchange.request.group, now: now)
        lookUps[name]?.exchanges.append(exchange)
        return nil
    }

    /// The exchange does not wait for the name any more. O(those who wait for it).
    func withdraw(_ name: String, for exchange: ClientExchange) {
        lookUps[name]?.exchanges.removeAll { $0 === exchange }
        // A look-up under way goes on; one that has not begun would be for nobody.
        if lookUps[name]?.exchanges.isEmpty == true, threads.forget(name) { _ = end(name) }
    }

    /// Hands over what was found out since the last call.
    func collect(now: Int64, _ deliver: (ClientExchange, Answer) -> Void) {
        if lookUps.isEmpty { return }
        for (name, found) in threads.takeAnswers() {
            guard let lookUp = end(name) else { continue }
            let answer = found.map(Self.interleaved)
            if known.count >= Self.knownNamesLimit { known = known.filter { $0.value.end > now } }
            if known.count >= Self.knownNamesLimit { known = [:] }
            let isFailure = if case .failure = answer { true } else { false }
            let lifetime = isFailure ? Self.failureLifetimeMilliseconds : Self.answerLifetimeMilliseconds
            let isSlow = now - lookUp.start >= Self.slowMilliseconds
            known[name] = Known(
                answer: answer, expiry: now + lifetime,
                slowUntil: isSlow ? now + Self.slownessLifetimeMilliseconds : 0)
            for exchange in lookUp.exchanges { deliver(exchange, answer) }
        }
    }

    /// How many look-ups have ended since the last call.
    func takeEndedCount() -> Int {
        defer { endedCount = 0 }
        return endedCount
    }

    private func end(_ name: String) -> LookUp? {
        guard let lookUp = lookUps.removeValue(forKey: name) else { return nil }
        let count = groupCounts[lookUp.group, default: 1] - 1
        groupCounts[lookUp.group] = count == 0 ? nil : count
        if lookUp.isSlow { slowCount -= 1 }
        endedCount += 1
        return lookUp
    }

    /// The two families by turns, beginning with the first's (RFC 8305 section 4), each address once.
    private static func interleaved(_ addresses: [IPAddress]) -> [IPAddress] {
        var families = [addresses.filter { $0.isIPv4 != addresses[0].isIPv4 }, addresses]
        families[1].removeAll { $0.isIPv4 != addresses[0].isIPv4 }
        var ordered: [IPAddress] = []
        for place in 0..<addresses.count {
            for family in families.reversed() where place < family.count && !ordered.contains(family[place]) {
                if ordered.count < addressLimit { ordered.append(family[place]) }
            }
        }
        return ordered
    }
}

/// The names to look up, and the threads that do it.
@safe private final class LookUpThreads: @unchecked Sendable {
    // @unchecked: what is not constant is touched under `lock` only. The threads keep this object and the loop alive,
    // which so outlive whoever asked; a look-up that hangs keeps nothing else, and not the process either.

    /// More than may be begun by those who ask first: redirects lead to names without asking.
    private static let threadLimit = NameResolver.lookUpLimit + 8

    private let loop: EventLoop
    private let lookUp: @Sendable (String) -> NameResolver.Answer
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private var names: [String] = []
    private var answers: [(String, NameResolver.Answer)] = []
    private var threadCount = 0

    init(loop: EventLoop, lookUp: @escaping @Sendable (String) -> NameResolver.Answer) {
        self.loop = loop
        self.lookUp = lookUp
        unsafe pthread_mutex_init(lock, nil)
    }

    deinit {
        unsafe pthread_mutex_destroy(lock)
        unsafe lock.deallocate()
    }

    private func locked<Value>(_ body: () -> Value) -> Value {
        unsafe pthread_mutex_lock(lock)
        defer { unsafe pthread_mutex_unlock(lock) }
        return body()
    }

    func ask(_ name: String) {
        locked {
            names.append(name)
            if threadCount == Self.threadLimit { return }
            var thread: pthread_t = 0
            let context = unsafe Unmanaged.passRetained(self)
            let code = unsafe pthread_create(
                &thread, nil,
                { context in
                    guard let context = unsafe context else { return nil }
                    unsafe Unmanaged<LookUpThreads>.fromOpaque(context).takeRetainedValue().run()
                    return nil
                }, context.toOpaque())
            if code == 0 {
                threadCount += 1
                pthread_detach(thread)
                return
            }
            unsafe context.release()
            // The threads that there are will come to it; with none, nobody would.
            if threadCount == 0 {
                answers += names.map { ($0, .failure(SystemError("start a thread", code: code))) }
                names = []
                loop.wake()
            }
        }
    }

    /// Whether the look-up had not begun; then it will not.
    func forget(_ name: String) -> Bool {
        locked {
            guard let index = names.firstIndex(of: name) else { return false }
            names.remove(at: index)
            return true
        }
    }

    func forgetAll() { locked { names = [] } }

    func takeAnswers() -> [(String, NameResolver.Answer)] {
        locked {
            let taken = answers
            answers = []
            return taken
        }
    }

    private func run() {
        while let name = nextName() {
            let answer = lookUp(name)
            locked { answers.append((name, answer)) }
            loop.wake()
        }
    }

    private func nextName() -> String? {
        locked {
            if names.isEmpty {
                threadCount -= 1
                return nil
            }
            return names.removeFirst()
        }
    }
}
