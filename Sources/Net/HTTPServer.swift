// An HTTP/1.1 server on an event loop: accepts connections, turns bytes into requests, and sends the answers in order.
// A turn of the loop first notes everything that is ready and then serves it. Clients that disconnected come first, so
// that no task is dispatched to them.

import Bytes
import CLinux
import Glibc

/// The limits of a server. All times are in milliseconds.
public struct ServerLimits: Sendable {
    /// The most connections at once; more wait in the kernel until one closes.
    public var connections = 20_000
    /// How long the head of a request may take from its first byte (408).
    public var headTimeoutMilliseconds: Int64 = 10_000
    /// How long a body may take, plus the time its bytes take at `bodyBytesPerSecond` (408).
    public var bodyTimeoutMilliseconds: Int64 = 30_000
    /// The lowest average rate at which a body may arrive after `bodyTimeoutMilliseconds`.
    public var bodyBytesPerSecond: Int64 = 16 * 1024
    /// How long a TLS handshake may take.
    public var handshakeTimeoutMilliseconds: Int64 = 10_000
    /// The most TLS handshakes at once. Beyond that, the oldest is given up.
    public var handshakes = 2_000
    /// How long a connection may be silent between requests.
    public var idleTimeoutMilliseconds: Int64 = 120_000
    /// How long a peer may go without accepting a byte of its answers.
    public var sendTimeoutMilliseconds: Int64 = 30_000
    /// How long a closing connection waits for its peer to close too.
    public var lingerTimeoutMilliseconds: Int64 = 2_000
    /// While a connection has more unsent output than this, held or not, its further requests wait, in bytes. Together
    /// with one more small answer, this fits in 64 KiB.
    public var outputBytes = 60 * 1024
    /// The lowest average rate at which a peer may accept its answers while the buffers of all connections take too
    /// much memory.
    public var answerBytesPerSecond: Int64 = 16 * 1024
    /// How much input is read ahead while an answer is owed or a request postponed, in bytes.
    public var readAheadBytes = 64 * 1024
    /// How much memory the buffers of all connections may take, in bytes. Beyond that, large bodies are refused (503),
    /// a connection with unsent answers gets no more of them, and connections of slow peers are closed.
    public var bufferBytes = 1 << 30
    /// The limits of one request.
    public var request = RequestLimits()

    /// The default limits.
    public init() {}
}

/// Serves HTTP/1.1 (RFC 9110, RFC 9112) on an event loop's thread.
public final class HTTPServer: @unchecked Sendable {
    // @unchecked: it is used on the loop's thread only, which `run` and `answer` check. It is Sendable so that code
    // which answers later can keep a reference.

    /// A turn serves connections for about this long before it returns to deadlines and other sources.
    private static let turnMilliseconds: Int64 = 4
    private static let visitsPerRound = 64
    private static let acceptsPerTurn = 64
    private static let pauseAfterExhaustionMilliseconds: Int64 = 100
    /// While memory is short: how many connections a turn reviews, and how often each is reviewed.
    private static let reviewsPerTurn = 256
    private static let reviewIntervalMilliseconds: Int64 = 100

    /// The loop it runs on.
    public let loop: EventLoop
    let limits: ServerLimits
    let dates = DateField()
    private var listeners: [Listener] = []
    /// Whether the listeners accept no connections for now.
    private var isListeningPaused = false
    /// Whether more connections wait than the last turn has accepted.
    private var hasArrivals = false
    private var connections: [Connection?] = []
    private var freeIndexes: [Int] = []
    private var acceptedCount: UInt32 = 0
    private let visits = VisitQueue()
    /// The connections with held answers, and those with a postponed request. Some may have closed since.
    private var holding: [Connection] = []
    private var postponed: [Connection] = []
    /// The highest released mark.
    private(set) var releasedMark: UInt64 = 0
    private var acceptsAgainAt: Int64?
    /// Only `serveQueued` and `conclude` enter it, for one connection at a time.
    #if DEBUG
        private var aids = VisitAids()
    #else
        private let aidsPlace = HeapPlace(VisitAids())
        private var aids: VisitAids {
            unsafeAddress { unsafe UnsafePointer(aidsPlace.address) }
            unsafeMutableAddress { unsafe aidsPlace.address }
        }
    #endif
    /// The requests that the program makes of itself.
    var localRequests = LocalRequests()
    /// The next connection to review, and when.
    private var reviewIndex = 0
    private var reviewTime: Int64 = 0

    /// What this server counts.
    public let statistics = RequestStatistics()

    /// The TLS handshakes of connections that do not serve requests yet; nil if the server speaks no TLS. Unchecked,
    /// because each turn reads it; it is written once, before.
    @exclusivity(unchecked) private var acceptor: TLSAcceptor?

    /// How many connections are open.
    public var connectionCount: Int { connections.count - freeIndexes.count + (unsafe acceptor?.count ?? 0) }

    /// How much memory the buffers of all connections take, in bytes; small ones do not count while they are in use.
    /// O(1).
    public internal(set) var bufferBytes: Int {
        get { unsafe uncheckedBufferBytes }
        set { unsafe uncheckedBufferBytes = newValue }
    }

    // Unchecked, because each request reads it. Each access is one read or write of an integer on the loop's thread, so
    // accesses cannot overlap.
    @exclusivity(unchecked) private var uncheckedBufferBytes = 0

    /// Whether large bodies are refused whatever memory the buffers take, because the program has no room for their
    /// content.
    public var refusesLargeBodies = false

    /// Whether the buffers take so much memory that large bodies are refused. Handlers should not make large answers
    /// either.
    public var isShortOfMemory: Bool { bufferBytes > limits.bufferBytes }

    /// Whether the buffers may take this many more bytes. `bufferBytes` does not count the current answer yet. O(1).
    public func hasBuffers(for byteCount: Int) -> Bool { bufferBytes + byteCount <= limits.bufferBytes }

    /// The most connections at once.
    public var maximumConnectionCount: Int { limits.connections }

    /// Whether any connection has answers that are held or that the kernel has not accepted. Answers that go on until
    /// the connection closes do not count. O(connections).
    public var hasUnsentAnswers: Bool { connections.contains { $0?.conversation.hasUnsentAnswers ?? false } }

    /// A server that listens nowhere yet.
    public init(loop: EventLoop, limits: ServerLimits = ServerLimits()) {
        self.loop = loop
        self.limits = limits
        dates.update(unixMilliseconds: loop.now)
    }

    deinit { visits.removeAll() }

    /// Listens at an address, or at each of the addresses that a host name stands for.
    ///
    /// - Parameters:
    ///   - address: the address.
    ///   - service: a number for the service at the address. Its requests carry the number (`Request.service`).
    ///   - identity: the certificate with which to speak TLS; nil for plain connections.
    /// - Returns: The addresses, with the ports that the kernel chose.
    /// - Throws: `SystemError`, for instance when the port is in use.
    public func listen(
        _ address: Address, service: Int = 0, tls identity: TLSIdentity? = nil
    ) throws(SystemError) -> [Address] {
        let opened = try Listener.open(address, service: service)
        for listener in opened { try start(listener, tls: identity) }
        return opened.map(\.address)
    }

    /// Accepts connections on a socket that another program has opened and listens on.
    ///
    /// - Parameters:
    ///   - descriptor: The socket. The server closes it, and leaves the file of a Unix-domain socket where it is.
    ///   - address: Its address (`Address.init(ofListener:)`).
    ///   - service: The service of its requests.
    ///   - identity: The certificate with which connections speak TLS; nil for plain ones.
    /// - Throws: `SystemError` if the kernel refuses.
    public func listen(
        inherited descriptor: Int32, _ address: Address, service: Int = 0, tls identity: TLSIdentity? = nil
    ) throws(SystemError) {
        try start(.inherited(descriptor, address, service: service), tls: identity)
    }

    private func start(_ listener: Listener, tls identity: TLSIdentity?) throws(SystemError) {
        listener.identity = identity
        if identity != nil, unsafe acceptor == nil { unsafe acceptor = TLSAcceptor(server: self) }
        try loop.watch(listener.descriptor, for: listener, events: UInt32(EPOLLIN.rawValue))
        listener.setPaused(isListeningPaused, on: loop)
        listeners.append(listener)
    }

    /// Accepts no more connections; open ones continue, except unfinished TLS handshakes.
    public func stopListening() {
        unsafe acceptor?.endAll()
        for listener in listeners { loop.unwatch(listener.descriptor, for: listener) }
        listeners = []
    }

    // MARK: The loop

    /// Serves until the handler is finished.
    public func run<Handler: RequestHandler & ~Copyable>(_ handler: inout Handler, on owner: isolated Handler.Owner) {
        var deadline: Int64? = loop.now
        while !handler.isFinished {
            pauseOrResumeListening()
            let isBusy = unsafe !visits.isEmpty || acceptor?.isBusy == true || hasArrivals
            loop.turn(until: isBusy ? loop.now : earliest([deadline, acceptsAgainAt]))
            dates.update(unixMilliseconds: loop.now)
            acceptConnections()
            // First, so that no task is dispatched to a client that disconnected.
            for connection in visits.takeGone() {
                connection.conversation.withdrawOwed(&handler, on: owner, statistics, now: loop.now)
            }
            handler.beginTurn(now: loop.now, on: owner)
            serveQueued(&handler, on: owner)
            unsafe acceptor?.advance()
            let reviewDeadline = isShortOfMemory ? review(&handler, on: owner) : nil
            deadline = handler.endTurn(on: owner)
            if let reviewDeadline { deadline = min(deadline ?? .max, reviewDeadline) }
        }
        for case let connection? in connections {
            connection.conversation.leave(releasedMark, now: loop.now)
        }
    }

    private func serveQueued<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on owner: isolated Handler.Owner
    ) {
        let begin = loop.updateNow()
        // Serving one connection may wake another, which is served in this turn too.
        while !visits.isEmpty {
            var visitBegin = loop.nowMicroseconds
            var visited = visits.take(atMost: Self.visitsPerRound)
            let round = Round(server: self, now: loop.now, end: begin + Self.turnMilliseconds)
            // The list keeps the connections alive. A span borrows them from it, which retains none.
            var served = 0
            do {
                let connections = visited.span
                for position in connections.indices {
                    // The clock was read after the visit before.
                    if position > 0, loop.now - begin >= Self.turnMilliseconds { break }
                    served += 1
                    guard connections[position].isOpen else { continue }
                    visits.noteVisit(connections[position])
                    connections[position].conversation.visit(&handler, on: owner, round, aids: &aids)
                    loop.updateNow()
                    statistics.endVisit(microseconds: loop.nowMicroseconds - visitBegin)
                    visitBegin = loop.nowMicroseconds
                }
            }
            if served < visited.count {
                // The rest stay in the list; the visited connections get their answers first.
                visits.putBack(visited[served...])
                visited.removeLast(visited.count - served)
            }
            // Answers are sent together, so that a client which the first one wakes finds the others too.
            do {
                let connections = visited.span
                for position in connections.indices where connections[position].isOpen {
                    conclude(connections[position], round, &handler, on: owner)
                }
            }
            visits.reuse(&visited)
            if visits.isEmpty || loop.updateNow() - begin >= Self.turnMilliseconds { return }
        }
    }

    private func conclude<Handler: RequestHandler & ~Copyable>(
        _ connection: Connection, _ round: Round, _ handler: inout Handler, on owner: isolated Handler.Owner
    ) {
        let (next, deadline, heldMark) = connection.conversation.conclude(round, &aids)
        switch next {
        case .end: return close(connection, &handler, on: owner)
        case .again: queue(connection)
        case .rest: break
        case .postponed:
            if !connection.isPostponed {
                connection.isPostponed = true
                add(connection, to: &postponed)
            }
        }
        if heldMark != 0, connection.heldMark == 0 {
            connection.heldMark = heldMark
            add(connection, to: &holding)
        }
        // A timer that fires too early is set again then. So a later deadline, the common case, costs nothing here.
        if deadline != .max, connection.timerPosition < 0 || deadline < connection.timerDeadline {
            loop.setTimer(connection, at: deadline)
        }
    }

    /// Finds peers that are too slow for the memory they occupy. Each turn reviews some connections.
    /// O(`reviewsPerTurn`).
    ///
    /// - Returns: When the next turn must begin at the latest.
    private func review<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on owner: isolated Handler.Owner
    ) -> Int64? {
        if loop.now < reviewTime { return reviewTime }
        for _ in 0..<Self.reviewsPerTurn {
            if reviewIndex >= connections.count {
                reviewIndex = 0
                reviewTime = loop.now + Self.reviewIntervalMilliseconds
                return reviewTime
            }
            let connection = connections[reviewIndex]
            reviewIndex += 1
            guard let connection, connection.conversation.review(&handler, on: self, now: loop.now) else { continue }
            if connection.conversation.isBroken { close(connection, &handler, on: owner) } else { queue(connection) }
            if !isShortOfMemory { return nil }
        }
        return loop.now
    }

    /// Schedules a visit to a connection, in this turn if that has not ended.
    func queue(_ connection: Connection) { visits.add(connection) }

    /// Writes an answer that was owed.
    ///
    /// - Returns: false, without a call of `body`, if the client no longer waits for it.
    @discardableResult
    public func answer(_ ticket: Ticket, _ body: (inout ResponseStream) -> Void) -> Bool {
        loop.checkIsolated()
        guard let connection = connection(owing: ticket) else { return answerLocally(ticket, body) }
        connection.conversation.settle(on: self, body)
        queue(connection)
        return true
    }

    /// The connection on which an answer is owed; nil if the client no longer waits for it.
    func connection(owing ticket: Ticket) -> Connection? {
        guard connections.indices.contains(ticket.connection), let connection = connections[ticket.connection],
            connection.conversation.owes(ticket)
        else { return nil }
        return connection
    }

    // MARK: Holding and postponing

    /// Releases the answers that are held until `mark` or a lower one (`ResponseStream.hold`). If you call this in
    /// `RequestHandler.beginTurn`, they are sent in the same turn, as far as its time allows. Marks only grow: one that
    /// is not higher than the last has no effect. O(connections with held answers).
    public func release(upTo mark: UInt64) {
        loop.checkIsolated()
        if mark <= releasedMark { return }
        releasedMark = mark
        holding.removeAll { connection in
            if connection.isOpen {
                if connection.heldMark > mark { return false }
                queue(connection)
            }
            connection.heldMark = 0
            return true
        }
    }

    /// Aborts all connections with held answers, because what these answers report may not be true. Call this in
    /// `RequestHandler.beginTurn`. O(connections with held answers).
    public func abandonHeld() {
        loop.checkIsolated()
        for connection in exchange(&holding, with: []) where connection.isOpen && connection.heldMark > releasedMark {
            connection.heldMark = 0
            connection.conversation.breakOff()
            queue(connection)
        }
    }

    /// Hands all postponed requests (`Outcome.postponed`) over again, in the order in which they were postponed and
    /// before all others. Call this in `RequestHandler.beginTurn`, not while a request is handled. O(postponed and
    /// queued connections).
    public func resume() {
        loop.checkIsolated()
        if postponed.isEmpty { return }
        let resumed = exchange(&postponed, with: []).filter(\.isOpen)
        for connection in resumed {
            connection.isPostponed = false
            connection.conversation.resume()
        }
        visits.putFirst(resumed)
    }

    /// Adds to a list. Closed connections are removed from it once they are more than half of it.
    private func add(_ connection: Connection, to list: inout [Connection]) {
        if list.count > 2 * connectionCount { list.removeAll { !$0.isOpen } }
        list.append(connection)
    }

    // MARK: Accepting

    private func pauseOrResumeListening() {
        if let again = acceptsAgainAt, loop.now >= again { acceptsAgainAt = nil }
        let isFull = acceptsAgainAt != nil || connectionCount >= limits.connections
        if isFull == isListeningPaused { return }
        isListeningPaused = isFull
        hasArrivals = false
        for listener in listeners { listener.setPaused(isFull, on: loop) }
    }

    private func acceptConnections() {
        hasArrivals = false
        for listener in listeners {
            var accepted = 0
            while listener.isReady, accepted < Self.acceptsPerTurn, connectionCount < limits.connections {
                var failure: Int32 = 0
                guard let descriptor = listener.accept(failure: &failure) else {
                    // Without descriptors or memory, connections wait in the kernel until one closes or some time
                    // passes.
                    if failure != 0 { acceptsAgainAt = loop.now + Self.pauseAfterExhaustionMilliseconds }
                    break
                }
                accepted += 1
                if let identity = listener.identity {
                    unsafe acceptor?.accept(descriptor, service: listener.service, identity: identity)
                } else {
                    open(listener.transport(of: descriptor), service: listener.service)
                }
            }
            if listener.isReady { hasArrivals = true }
        }
    }

    /// Begins to serve a connection.
    @discardableResult
    func open(_ transport: ConnectionTransport, service: Int) -> Connection {
        let index = freeIndexes.popLast() ?? connections.count
        acceptedCount &+= 1
        let connection = Connection(
            Conversation(
                transport: transport, service: service, index: index, number: acceptedCount, limits: limits.request,
                dates: dates, now: loop.now),
            queue: visits)
        if transport.isSecure { bufferBytes += TLSTransport.idleBytes }
        if index == connections.count { connections.append(connection) } else { connections[index] = connection }
        let events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
        do {
            try loop.watch(transport.descriptor, for: connection, events: events)
            queue(connection)
        } catch {
            connection.conversation.discard()
            remove(connection)
        }
        return connection
    }

    /// Tells the client of a plain connection that this port speaks TLS, and closes it.
    func openRefusing(_ descriptor: Int32, service: Int) {
        let transport = SocketTransport(descriptor: descriptor, isLocal: false)
        open(.socket(transport), service: service).conversation.refuseUnencrypted()
    }

    private func close<Handler: RequestHandler & ~Copyable>(
        _ connection: Connection, _ handler: inout Handler, on owner: isolated Handler.Owner
    ) {
        loop.unwatch(connection.conversation.transport.descriptor, for: connection)
        connection.conversation.end(&handler, on: owner)
        remove(connection)
    }

    private func remove(_ connection: Connection) {
        connection.isOpen = false
        bufferBytes -= connection.conversation.countedBytes
        if connection.conversation.transport.isSecure { bufferBytes -= TLSTransport.idleBytes }
        connections[connection.conversation.index] = nil
        freeIndexes.append(connection.conversation.index)
        acceptsAgainAt = nil
    }
}
