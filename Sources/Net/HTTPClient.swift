// An HTTP/1.1 client on an event loop. It keeps connections to hosts and gives them to exchanges, in a fair order when
// there are not enough. Events and deadlines are only noted; `advance` does the work, once a turn.

import Glibc

/// Sends requests by HTTP/1.1 (RFC 9110, RFC 9112). Use it, and release its last reference, on the loop's thread only.
public final class HTTPClient {
    /// `advance` runs for about this long before it leaves the turn to other work.
    private static let advanceMilliseconds: Int64 = 2
    /// How many sessions are kept, and about how much memory one takes with the certificates of its host, in bytes.
    private static let maximumSessions = 500
    private static let sessionBytes = 16 * 1024

    let loop: EventLoop
    let limits: ClientLimits
    let refusal: (_ address: IPAddress, _ port: UInt16, _ host: String) -> String?
    let resolver: NameResolver

    private var exchanges: [UInt64: ClientExchange] = [:]
    private var hosts: [ClientHost.Key: ClientHost] = [:]
    private var idleCount = 0
    /// The last TLS session with each host, for its next connections.
    private var sessions: [ClientHost.Key: TLSSession] = [:]
    /// Hosts whose exchanges wait because of the limit on all connections; they take turns.
    private var starving: [ClientHost] = []
    /// The sources to visit.
    private var queued: [ClientSource] = []
    private var isAdvancing = false
    /// Ends the loop's wait when there is something to visit.
    private let alarm = EventSource()

    // Memory for reuse: most exchanges read and write in one step and need none of their own.
    var spareHead = Buffer()
    var spareInput = Buffer()
    private var spareFields: [HeaderSection.Field] = []

    /// How many exchanges have begun but not been reported.
    public var exchangeCount: Int { exchanges.count }

    /// How many connections are open or being opened.
    public private(set) var connectionCount = 0

    /// How much memory the requests and responses in flight take, in bytes.
    public internal(set) var bufferBytes = 0

    /// About how much memory idle TLS connections and the sessions to resume take, in bytes.
    public private(set) var keptBytes = 0

    /// The issuers whose certificates are accepted in https requests without their own. If it is nil, the first of them
    /// takes the system's, which may take some milliseconds.
    public var trust: TLSTrust?
    /// Why there are no issuers.
    private(set) var trustFailure = TLSError("there is no OpenSSL")

    /// Whether the bodies of responses are cut whatever memory they take, because the program has no room for them.
    public var isShortOfMemory = false

    /// A client without connections.
    ///
    /// - Parameters:
    ///   - loop: The event loop.
    ///   - limits: The client's limits.
    ///   - refusal: Returns why the client may not connect to an address of a host; nil if it may. It is called before
    ///   each attempt to connect, also for redirects, and must not call the client.
    public convenience init(
        loop: EventLoop, limits: ClientLimits = ClientLimits(),
        refusal: @escaping (_ address: IPAddress, _ port: UInt16, _ host: String) -> String?
    ) {
        self.init(loop: loop, limits: limits, refusal: refusal, lookUp: NameResolver.systemLookUp)
    }

    init(
        loop: EventLoop, limits: ClientLimits,
        refusal: @escaping (_ address: IPAddress, _ port: UInt16, _ host: String) -> String?,
        lookUp: @escaping @Sendable (String) -> NameResolver.Answer
    ) {
        self.loop = loop
        self.limits = limits
        self.refusal = refusal
        resolver = NameResolver(loop: loop, lookUp: lookUp)
    }

    deinit {
        for exchange in exchanges.values { exchange.close() }
        for host in hosts.values { host.close() }
        loop.cancelTimer(alarm)
    }

    // MARK: Exchanges

    /// Whether a request can start now. If not, too many names are being looked up: a request that you send anyway may
    /// spend its time limit waiting for them. O(1).
    public func canBegin(_ request: borrowing ClientRequest) -> Bool {
        if !request.needsLookUp || hosts[key(of: request)]?.idle.isEmpty == false { return true }
        return resolver.canBegin(request.url.host, for: request.group, now: loop.now)
    }

    /// How many look-ups have ended since the last call. If any have, requests that could not start may be able to.
    public func takeEndedLookUpCount() -> Int { resolver.takeEndedCount() }

    /// Starts an exchange. `advance` reports its outcome; this call never does.
    ///
    /// The request's method and fields must be allowed ones (`ClientRequest.isAllowedMethod`, `isAllowedField`).
    ///
    /// - Precondition: no exchange under way has the key.
    public func send(_ request: consuming ClientRequest, key: UInt64) {
        loop.checkIsolated()
        precondition(exchanges[key] == nil, "two exchanges have the same key")
        precondition(ClientRequest.isAllowedMethod(request.method.span), "the method is no token")
        // Deadlines count from now, however long this turn has run.
        loop.updateNow()
        let host = host(of: request)
        let exchange = ClientExchange(request, key: key, host: host, client: self)
        exchanges[key] = exchange
        start(exchange)
        // The look-up begins at once, so that the limits on look-ups hold for all requests sent in one turn.
        if let name = exchange.neededName { resolver.begin(name, for: exchange.request.group, now: loop.now) }
        exchange.count()
    }

    /// Makes an exchange that has a connection of its own.
    func begin(_ request: consuming ClientRequest, key: UInt64) -> ClientExchange {
        precondition(exchanges[key] == nil, "two exchanges have the same key")
        let host = host(of: request)
        let exchange = ClientExchange(request, key: key, host: host, client: self)
        exchanges[key] = exchange
        return exchange
    }

    /// Takes an idle plain connection from its host; nil if there is none that is usable.
    func popIdle(of host: ClientHost) -> ClientConnection? {
        guard host.key.trust == nil else { return nil }
        while let connection = host.idle.popLast() {
            countIdle(connection, -1)
            if connection.isUsable { return connection }
            connection.close()
            host.connectionCount -= 1
            connectionCount -= 1
        }
        return nil
    }

    /// Aborts an exchange without reporting it. Unknown keys and those of ended exchanges have no effect.
    public func cancel(_ key: UInt64) {
        loop.checkIsolated()
        exchanges.removeValue(forKey: key)?.cancel()
    }

    /// Ends this side of an exchange's connection, which tells the server to answer at once if it can. The exchange
    /// goes on, and is reported as usual; its connection carries no other request.
    ///
    /// - Returns: false if the request has not been sent as a whole, or there is no such exchange.
    public func endSending(_ key: UInt64) -> Bool {
        loop.checkIsolated()
        return exchanges[key]?.endSending() ?? false
    }

    /// Does the work that events and deadlines made possible, and reports ended exchanges. Call this after each turn of
    /// the loop. It returns after about 2 ms; if work is left, the loop does not wait.
    ///
    /// - Parameter finished: Receives the outcome of an exchange. It may call `send` and `cancel`.
    public func advance(_ finished: (_ key: UInt64, _ outcome: borrowing ClientOutcome) -> Void) {
        advance(received: { _, _, _ in }, finished: finished)
    }

    /// Does the same, and passes on streamed bodies (`ClientRequest.streamsBody`).
    ///
    /// - Parameters:
    ///   - received: Receives the next part of a body, which is not empty, and the status of the response. The span is
    ///     valid only during the call. It may call `send` and `cancel`.
    ///   - finished: Receives the outcome of an exchange, after all parts. It may call `send` and `cancel`.
    public func advance(
        received: (_ key: UInt64, _ status: Int, _ part: Span<UInt8>) -> Void,
        finished: (_ key: UInt64, _ outcome: borrowing ClientOutcome) -> Void
    ) {
        precondition(!isAdvancing, "the client is advanced from within")
        let end = loop.updateNow() + Self.advanceMilliseconds
        resolver.collect(now: loop.now) { $0.take($1) }
        isAdvancing = true
        while !queued.isEmpty, loop.now < end {
            var visited: [ClientSource] = []
            swap(&visited, &queued)
            for (position, source) in visited.enumerated() {
                if loop.updateNow() >= end {
                    queued = visited[position...] + queued
                    break
                }
                source.isQueued = false
                guard let exchange = source.visit() else { continue }
                if exchange.hasPart {
                    exchange.passOn(received)
                    // It may have been aborted.
                    guard exchanges[exchange.key] === exchange else { continue }
                }
                guard exchange.hasEnded else { continue }
                exchanges[exchange.key] = nil
                exchange.report(finished)
            }
        }
        isAdvancing = false
        if !queued.isEmpty { loop.setTimer(alarm, at: loop.now) }
    }

    /// Schedules a visit to a source.
    func queue(_ source: ClientSource) {
        if source.isQueued { return }
        source.isQueued = true
        queued.append(source)
        if !isAdvancing, queued.count == 1 { loop.setTimer(alarm, at: loop.now) }
    }

    // MARK: Connections

    /// The record of a request's host.
    func host(of request: borrowing ClientRequest) -> ClientHost {
        let key = key(of: request)
        if let known = hosts[key] { return known }
        let authority = request.socketPath.map { Array($0.utf8) } ?? request.url.authority
        let host = ClientHost(authority: authority, key: key)
        hosts[key] = host
        return host
    }

    private func key(of request: borrowing ClientRequest) -> ClientHost.Key {
        let isSecure = request.url.isSecure && request.socketPath == nil
        return ClientHost.Key(
            origin: request.url.origin, trust: isSecure ? request.trust ?? systemTrust() : nil,
            socketPath: request.socketPath)
    }

    /// The client's issuers, which the first https request reads; nil if there is no OpenSSL (`trustFailure`).
    private func systemTrust() -> TLSTrust? {
        if trust == nil {
            do throws(TLSError) { trust = try TLSTrust() } catch { trustFailure = error }
        }
        return trust
    }

    /// Gives an exchange an idle connection, or lets it wait for one.
    func start(_ exchange: ClientExchange) {
        let host = exchange.host
        while let connection = host.idle.popLast() {
            countIdle(connection, -1)
            if connection.isUsable { return exchange.run(on: connection) }
            connection.close()
            host.connectionCount -= 1
            connectionCount -= 1
        }
        exchange.setTimer()
        host.append(exchange)
        feed(host)
    }

    /// Opens connections for the exchanges that wait for the host, as far as the limits allow.
    private func feed(_ host: ClientHost) {
        while wantsConnection(host) {
            guard makeRoom() else {
                if !host.isStarving { starving.append(host) }
                host.isStarving = true
                return
            }
            open(host)
        }
        forgetIfUnused(host)
    }

    /// Opens connections for the hosts that wait because of the limit on all connections, one at a time in turn.
    private func feedStarving() {
        while let host = starving.first {
            if wantsConnection(host) {
                guard makeRoom() else { return }
                open(host)
            }
            starving.removeFirst()
            host.isStarving = wantsConnection(host)
            if host.isStarving { starving.append(host) }
        }
    }

    private func wantsConnection(_ host: ClientHost) -> Bool {
        host.waitingCount > 0 && host.connectionCount < limits.connectionsPerHost
    }

    private func open(_ host: ClientHost) {
        guard let exchange = host.popWaiting() else { return }
        host.connectionCount += 1
        connectionCount += 1
        exchange.begin()
    }

    /// Makes room for another connection, by closing an idle one if necessary; false if that is impossible.
    private func makeRoom() -> Bool { connectionCount < limits.connections || closeLongestIdle() }

    /// Closes the connection that has been idle longest. O(hosts).
    private func closeLongestIdle() -> Bool {
        let longest = hosts.values.compactMap(\.idle.first).min { $0.idleSince < $1.idleSince }
        guard let longest else { return false }
        drop(longest)
        forgetIfUnused(longest.host)
        return true
    }

    /// Counts a connection that becomes idle, or ceases to be. Those in use count as their exchanges' memory.
    private func countIdle(_ connection: ClientConnection, _ number: Int) {
        idleCount += number
        if connection.isSecure { keptBytes += number * TLSTransport.idleBytes }
    }

    /// Takes back a connection whose exchange is over.
    func release(_ connection: ClientConnection, isReusable: Bool) {
        connection.exchange = nil
        let host = connection.host
        if let session = connection.takeSession() { keep(session, with: host) }
        // While other hosts wait, a host with more than its share gives up connections as they become free.
        let isFair = starving.isEmpty || host.connectionCount <= limits.connections / max(hosts.count, 1)
        guard isReusable, isFair, host.waitingCount == 0 || connection.isUsable else {
            connection.close()
            return freeSlot(of: host)
        }
        if let next = host.popWaiting() { return next.run(on: connection) }
        connection.idleSince = loop.now
        host.idle.append(connection)
        countIdle(connection, 1)
        // A timer that fires too early is set again then.
        if connection.timerPosition < 0 {
            loop.setTimer(connection, at: loop.now + limits.idleTimeoutMilliseconds)
        }
        if idleCount > limits.idleConnections { _ = closeLongestIdle() }
        feedStarving()
    }

    /// Notes that a connection of the host has closed or could not be opened.
    func freeSlot(of host: ClientHost) {
        host.connectionCount -= 1
        connectionCount -= 1
        feedStarving()
        feed(host)
    }

    /// Closes an idle connection if it is no longer usable or its time is up.
    func review(_ connection: ClientConnection) {
        let end = connection.idleSince + limits.idleTimeoutMilliseconds
        if connection.isQuiet, loop.now < end {
            loop.setTimer(connection, at: end)
        } else {
            drop(connection)
            feedStarving()
            feed(connection.host)
        }
    }

    /// Closes an idle connection. O(idle connections of its host).
    private func drop(_ connection: ClientConnection) {
        connection.host.idle.removeAll { $0 === connection }
        countIdle(connection, -1)
        connection.close()
        connection.host.connectionCount -= 1
        connectionCount -= 1
    }

    func forgetIfUnused(_ host: ClientHost) {
        guard host.isUnused, hosts[host.key] === host else { return }
        hosts[host.key] = nil
        if host.isStarving { starving.removeAll { $0 === host } }
    }

    // MARK: Sessions

    /// The session to resume with a host; nil if there is none.
    func session(with host: ClientHost) -> TLSSession? { sessions[host.key] }

    private func keep(_ session: TLSSession, with host: ClientHost) {
        if sessions.count >= Self.maximumSessions, sessions[host.key] == nil {
            keptBytes -= sessions.count * Self.sessionBytes
            sessions = [:]
        }
        if sessions.updateValue(session, forKey: host.key) == nil { keptBytes += Self.sessionBytes }
    }

    // MARK: Reusing memory

    func takeSpareFields() -> [HeaderSection.Field] {
        var fields: [HeaderSection.Field] = []
        swap(&fields, &spareFields)
        return fields
    }

    func recycle(fields: consuming [HeaderSection.Field]) { spareFields = fields }

    func recycle(head: inout Buffer) { Self.recycle(&head, as: &spareHead) }

    func recycle(input: inout Buffer) { Self.recycle(&input, as: &spareInput) }

    /// Keeps one block for reuse, unless it is large or exhausted.
    private static func recycle(_ buffer: inout Buffer, as spare: inout Buffer) {
        buffer.consume(buffer.count)
        if spare.capacity == 0, !buffer.isExhausted, buffer.capacity <= 256 * 1024 { swap(&buffer, &spare) }
        buffer = Buffer()
    }
}
