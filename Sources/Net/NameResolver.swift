// Looks up host names without blocking the event loop. The system's look-up blocks, so it runs on threads, which end
// when no names are left. Answers are cached for a few seconds.
//
// A name whose servers do not answer occupies a thread for ten seconds or more. So each name is looked up once for all
// exchanges. Each group of requests gets only a share of the threads, and so do, all together, the names that were slow
// before. Before you start a request, call `canBegin` to learn whether another look-up can begin.

import Glibc

/// Finds the addresses of names for exchanges. Used on the loop's thread only.
final class NameResolver {
    /// The addresses of a name in the order to try them, or why there are none.
    typealias Answer = Result<[IPAddress], SystemError>

    /// The most addresses of one name that are used.
    private static let addressLimit = 16
    private static let knownNamesLimit = 1024
    private static let answerLifetimeMilliseconds: Int64 = 5_000
    private static let failureLifetimeMilliseconds: Int64 = 1_000
    /// How many look-ups may run at once: in all, of one group, and of names that were slow before.
    static let lookUpLimit = 16
    static let lookUpLimitPerGroup = 4
    static let slowLookUpLimit = 8
    /// How many of `lookUpLimit` are reserved for groups without a look-up in progress, because new names may be slow.
    static let reservedLookUpLimit = 4
    /// From which duration on a look-up counts as slow, and how long that is remembered.
    private static let slowMilliseconds: Int64 = 2_000
    private static let slownessLifetimeMilliseconds: Int64 = 60_000

    /// A name that is being looked up.
    private struct LookUp {
        /// The group whose share it uses.
        let group: UInt32
        let start: Int64
        /// It was slow the last time.
        let isSlow: Bool
        /// The exchanges that wait for it.
        var exchanges: [ClientExchange] = []
    }

    /// A cached answer.
    private struct Known {
        let answer: Answer
        let expiry: Int64
        /// Until when its slowness is remembered; 0 if it was fast.
        let slowUntil: Int64

        /// When it can be forgotten.
        var end: Int64 { max(expiry, slowUntil) }
    }

    private let threads: LookUpThreads
    private var lookUps: [String: LookUp] = [:]
    /// How many look-ups each group has, and how many are slow.
    private var groupCounts: [UInt32: Int] = [:]
    private var slowCount = 0
    private var endedCount = 0
    private var known: [String: Known] = [:]

    /// `lookUp` is called on any thread, and may block.
    init(loop: EventLoop, lookUp: @escaping @Sendable (String) -> Answer) {
        threads = LookUpThreads(loop: loop, lookUp: lookUp)
    }

    deinit { threads.forgetAll() }

    /// The system's look-up of a name. Blocks.
    @Sendable static func systemLookUp(_ name: String) -> Answer {
        do throws(SystemError) {
            return .success(try IPAddress.addresses(ofHost: name))
        } catch {
            return .failure(error)
        }
    }

    /// Whether the name is known or being looked up, or the group may start its look-up now. O(1).
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

    /// Starts the look-up of a name for a group, unless it is known or being looked up.
    func begin(_ name: String, for group: UInt32, now: Int64) {
        let known = known[name]
        if lookUps[name] != nil || known.map({ $0.expiry > now }) == true { return }
        let isSlow = known.map { $0.slowUntil > now } ?? false
        lookUps[name] = LookUp(group: group, start: now, isSlow: isSlow)
        groupCounts[group, default: 0] += 1
        if isSlow { slowCount += 1 }
        threads.ask(name)
    }

    /// The answer; nil if it is not known yet. Then `collect` delivers it to the exchange later.
    func lookUp(_ name: String, for exchange: ClientExchange, now: Int64) -> Answer? {
        if let known = known[name], known.expiry > now { return known.answer }
        begin(name, for: exchange.request.group, now: now)
        lookUps[name]?.exchanges.append(exchange)
        return nil
    }

    /// Stops waiting for the name. O(exchanges that wait for it).
    func withdraw(_ name: String, for exchange: ClientExchange) {
        lookUps[name]?.exchanges.removeAll { $0 === exchange }
        // A look-up under way continues; one that has not begun is not needed any more.
        if lookUps[name]?.exchanges.isEmpty == true, threads.forget(name) { _ = end(name) }
    }

    /// Delivers the answers found since the last call.
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

    /// The addresses with the two families alternating, beginning with that of the first (RFC 8305 section 4), without
    /// duplicates.
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

/// The names to look up, and the threads that look them up.
@safe private final class LookUpThreads: @unchecked Sendable {
    // @unchecked: all mutable state is touched under `lock` only. The threads retain this object and the loop, which
    // thus outlive the client. A look-up that hangs retains nothing else and does not keep the process alive.

    /// More than `canBegin` allows, because redirects look up names without asking it.
    private static let threadLimit = NameResolver.lookUpLimit + 8

    private let loop: EventLoop
    private let lookUp: @Sendable (String) -> NameResolver.Answer
    // Not `Synchronization.Mutex`: the thread sanitizer does not follow it and reports false races.
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
            // Existing threads will take the name; without any, all names fail.
            if threadCount == 0 {
                answers += names.map { ($0, .failure(SystemError("start a thread", code: code))) }
                names = []
                loop.wake()
            }
        }
    }

    /// Cancels a look-up that has not begun; false if it has.
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
