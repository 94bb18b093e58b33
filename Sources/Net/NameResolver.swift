// Looks host names up without keeping the event loop: the system's look-up blocks, so it is done on threads, which live as
// long as there is a name to look up. Answers are kept for a few seconds.

import Glibc

/// Finds the addresses of names for exchanges. Used on the loop's thread only.
final class NameResolver {
    /// The addresses of a name, in the order in which they should be tried, or why there are none.
    typealias Answer = Result<[IPAddress], SystemError>

    /// The most addresses of one name that are of use.
    private static let addressLimit = 16
    private static let cachedNamesLimit = 1024
    private static let answerLifetimeMilliseconds: Int64 = 5_000
    private static let failureLifetimeMilliseconds: Int64 = 1_000

    private let threads: LookUpThreads
    /// Who waits for the names that were asked for.
    private var waiting: [String: [ClientExchange]] = [:]
    private var cache: [String: (answer: Answer, expiry: Int64)] = [:]

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

    /// The answer, if it is known. If not, the exchange is handed to `collect` when it is.
    func lookUp(_ name: String, for exchange: ClientExchange, now: Int64) -> Answer? {
        if let known = cache[name], known.expiry > now { return known.answer }
        if waiting[name] == nil { threads.ask(name) }
        waiting[name, default: []].append(exchange)
        return nil
    }

    /// The exchange does not wait for the name any more. O(those who wait for it).
    func withdraw(_ name: String, for exchange: ClientExchange) {
        waiting[name]?.removeAll { $0 === exchange }
        // A look-up under way goes on; one that has not begun would be for nobody.
        if waiting[name]?.isEmpty == true, threads.forget(name) { waiting[name] = nil }
    }

    /// Hands over what was found out since the last call.
    func collect(now: Int64, _ deliver: (ClientExchange, Answer) -> Void) {
        if waiting.isEmpty { return }
        for (name, found) in threads.takeAnswers() {
            let answer = found.map(Self.interleaved)
            if cache.count >= Self.cachedNamesLimit { cache = cache.filter { $0.value.expiry > now } }
            if cache.count >= Self.cachedNamesLimit { cache = [:] }
            let isFailure = if case .failure = answer { true } else { false }
            let lifetime = isFailure ? Self.failureLifetimeMilliseconds : Self.answerLifetimeMilliseconds
            cache[name] = (answer, now + lifetime)
            for exchange in waiting.removeValue(forKey: name) ?? [] { deliver(exchange, answer) }
        }
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
    // @unchecked: what is not constant is touched under `lock` only. The threads keep this object and the loop alive, which so
    // outlive whoever asked; a look-up that hangs keeps nothing else, and not the process either.

    private static let threadLimit = 16

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
