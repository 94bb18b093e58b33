// An HTTP/1.1 server on an event loop: accepts connections, turns bytes into requests, and sends the answers in order.
// One turn of the loop first lets everything that is ready be noted, then serves it: clients that have gone come first,
// so that no task is taken for them.

import CLinux
import Glibc

/// The bounds of a server. All times are in milliseconds.
public struct ServerLimits: Sendable {
    /// The most connections at once; further ones wait in the kernel until one closes.
    public var connections = 20_000
    /// How long the head of a request may take from its first byte (408).
    public var headTimeoutMilliseconds: Int64 = 10_000
    /// How long a body may take, plus the time its bytes take at `bodyBytesPerSecond` (408).
    public var bodyTimeoutMilliseconds: Int64 = 30_000
    /// The slowest a body may come in, on average, after `bodyTimeoutMilliseconds`.
    public var bodyBytesPerSecond: Int64 = 16 * 1024
    /// How long a connection may be silent between requests.
    public var idleTimeoutMilliseconds: Int64 = 120_000
    /// How long a peer may take no byte of what is to be sent to it.
    public var sendTimeoutMilliseconds: Int64 = 30_000
    /// How long a closing connection waits for its peer to close too.
    public var lingerTimeoutMilliseconds: Int64 = 2_000
    /// How much unsent output, held or not, keeps further requests of a connection from being served, in bytes. With one more
    /// small answer it fits in 64 KiB.
    public var outputBytes = 60 * 1024
    /// The slowest a peer may take its answers, on average, while the buffers of all connections take too much memory.
    public var answerBytesPerSecond: Int64 = 16 * 1024
    /// How much is read ahead while an answer is owed or a request postponed, in bytes.
    public var readAheadBytes = 64 * 1024
    /// How much memory the buffers of all connections may take, in bytes. Beyond it large bodies are refused (503), a
    /// connection with unsent answers gets no others, and those whose peers are slow are closed.
    public var bufferBytes = 1 << 30
    /// The bounds of one request.
    public var request = RequestLimits()

    /// The server's own choice of bounds.
    public init() {}
}

/// Serves HTTP/1.1 (RFC 9110, RFC 9112) on an event loop's thread.
public final class HTTPServer: @unchecked Sendable {
    // @unchecked: it is used on the loop's thread only, which `run` and `answer` check. It is Sendable so that whoever
    // owes an answer can keep hold of it.

    /// A turn serves connections for about this long before deadlines and other sources are looked at again.
    private static let turnMilliseconds: Int64 = 4
    private static let visitsPerRound = 64
    private static let acceptsPerTurn = 64
    private static let pauseAfterExhaustionMilliseconds: Int64 = 100
    /// While memory is short so many connections a turn are reviewed, and each about so often.
    private static let reviewsPerTurn = 256
    private static let reviewIntervalMilliseconds: Int64 = 100

    /// The loop it runs on.
    public let loop: EventLoop
    let limits: ServerLimits
    private let dates = DateField()
    private var listeners: [Listener] = []
    private var connections: [Connection?] = []
    private var freeIndexes: [Int] = []
    private var acceptedCount: UInt32 = 0
    /// Those to visit, and those of them whose client has gone while an answer was owed.
    private var queued: [Connection] = []
    private var gone: [Connection] = []
    /// Those with held answers, and those whose request was postponed, in that order. Some may have been closed since.
    private var holding: [Connection] = []
    private var postponed: [Connection] = []
    /// The highest mark that was released.
    private(set) var releasedMark: UInt64 = 0
    private var acceptsAgainAt: Int64?
    private var spareBlock = Buffer()
    /// The next connection to be reviewed, and when.
    private var reviewIndex = 0
    private var reviewTime: Int64 = 0

    /// How many connections are open.
    public var connectionCount: Int { connections.count - freeIndexes.count }

    /// How much memory the buffers of all connections take, in bytes; small ones do not count while they are in use. O(1).
    public internal(set) var bufferBytes = 0

    /// Whether large bodies are refused whatever the buffers take: the program has no room for what they bring.
    public var refusesLargeBodies = false

    /// Whether the buffers take so much memory that large bodies are refused. Large answers should not be made either.
    public var isShortOfMemory: Bool { bufferBytes > limits.bufferBytes }

    /// Whether the buffers may take so many bytes more. The answer in hand is not counted in `bufferBytes` yet. O(1).
    public func hasBuffers(for byteCount: Int) -> Bool { bufferBytes + byteCount <= limits.bufferBytes }

    /// Whether any connection has answers that its peer's kernel has not taken, or that are held. O(connections).
    public var hasUnsentAnswers: Bool { connections.contains { ($0?.conversation.responses.count ?? 0) > 0 } }

    /// A server that listens nowhere yet.
    public init(loop: EventLoop, limits: ServerLimits = ServerLimits()) {
        self.loop = loop
        self.limits = limits
        dates.update(unixMilliseconds: loop.now)
    }

    /// Listens at an address, or at each of the addresses that a host name stands for.
    ///
    /// - Parameters:
    ///   - address: where.
    ///   - service: what is spoken there, as a number that requests which come that way have (`Request.service`).
    /// - Returns: Where it listens, with the ports that the kernel chose.
    /// - Throws: `SystemError`, for instance when the port is in use.
    public func listen(_ address: Address, service: Int = 0) throws(SystemError) -> [Address] {
        let opened = try Listener.open(address, service: service)
        for listener in opened {
            try loop.watch(listener.descriptor, for: listener, events: UInt32(EPOLLIN.rawValue))
            listeners.append(listener)
        }
        return opened.map(\.address)
    }

    /// Takes no further connections; those that are open go on.
    public func stopListening() {
        for listener in listeners { loop.unwatch(listener.descriptor, for: listener) }
        listeners = []
    }

    // MARK: The loop

    /// Serves until the handler is finished.
    public func run<Handler: RequestHandler & ~Copyable>(_ handler: inout Handler, on owner: isolated Handler.Owner) {
        var deadline: Int64? = loop.now
        while !handler.isFinished {
            pauseOrResumeListening()
            let isBusy = !queued.isEmpty || listeners.contains { $0.isReady }
            loop.turn(until: isBusy ? loop.now : [deadline, acceptsAgainAt].compactMap { $0 }.min())
            dates.update(unixMilliseconds: loop.now)
            acceptConnections()
            // First, so that no task is taken for those who have gone.
            for connection in exchange(&gone, for: []) {
                connection.conversation.withdrawOwed(&handler, on: owner, now: loop.now)
            }
            handler.beginTurn(now: loop.now, on: owner)
            serveQueued(&handler, on: owner)
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
        // Serving one connection may wake another, which is then served in this turn too.
        while !queued.isEmpty {
            var visited = exchange(&queued, for: [])
            if visited.count > Self.visitsPerRound {
                queued = Array(visited[Self.visitsPerRound...])
                visited.removeLast(queued.count)
            }
            let round = Round(server: self, now: loop.now, end: begin + Self.turnMilliseconds)
            for (position, connection) in visited.enumerated() where connection.isOpen {
                if position > 0, loop.updateNow() - begin >= Self.turnMilliseconds {
                    // The rest stay in the list; those that were visited are answered first.
                    queued = visited[position...] + queued
                    visited.removeLast(visited.count - position)
                    break
                }
                connection.isQueued = false
                connection.conversation.visit(&handler, on: owner, round, spareBlock: &spareBlock)
            }
            // Answers leave together: a client that is woken by the first finds the others too.
            for connection in visited where connection.isOpen { conclude(connection, round, &handler, on: owner) }
            if loop.updateNow() - begin >= Self.turnMilliseconds { return }
        }
    }

    private func conclude<Handler: RequestHandler & ~Copyable>(
        _ connection: Connection, _ round: Round, _ handler: inout Handler, on owner: isolated Handler.Owner
    ) {
        let (next, deadline, heldMark) = connection.conversation.conclude(round)
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
        // A timer that fires too early is set anew then: the common case, a later deadline, costs nothing here.
        if deadline != .max, connection.timerPosition < 0 || deadline < connection.timerDeadline {
            loop.setTimer(connection, at: deadline)
        }
    }

    /// Looks which connections keep too much memory for too little, some in each turn. O(`reviewsPerTurn`).
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
            guard let connection, connection.conversation.review(&handler, limits, now: loop.now) else { continue }
            if connection.conversation.isBroken { close(connection, &handler, on: owner) } else { queue(connection) }
            if !isShortOfMemory { return nil }
        }
        return loop.now
    }

    /// Has a connection visited, in this turn if it has not ended.
    func queue(_ connection: Connection) {
        if connection.isQueued { return }
        connection.isQueued = true
        queued.append(connection)
    }

    /// Notes that the client of an owed answer has gone: it is withdrawn before anything else is done in this turn.
    func noteGone(_ connection: Connection) { gone.append(connection) }

    /// Writes an answer that was owed.
    ///
    /// - Returns: false, without calling `body`, if nobody waits for it any more.
    @discardableResult
    public func answer(_ ticket: Ticket, _ body: (inout ResponseStream) -> Void) -> Bool {
        loop.checkIsolated()
        guard connections.indices.contains(ticket.connection), let connection = connections[ticket.connection],
            connection.conversation.owes(ticket)
        else { return false }
        connection.conversation.settle(on: self, body)
        queue(connection)
        return true
    }

    // MARK: Holding and postponing

    /// Lets answers go that are held until `mark` or a lower one (`ResponseStream.hold`). Those released in
    /// `RequestHandler.beginTurn` are sent in the same turn, as far as its time allows. Marks only grow: one that is not
    /// higher than the last does nothing. O(connections with held answers).
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

    /// Breaks all connections with held answers off: what these would have told is not known. To be called in
    /// `RequestHandler.beginTurn`. O(connections with held answers).
    public func abandonHeld() {
        loop.checkIsolated()
        for connection in exchange(&holding, for: []) where connection.isOpen && connection.heldMark > releasedMark {
            connection.heldMark = 0
            connection.conversation.breakOff()
            queue(connection)
        }
    }

    /// Has all requests that were postponed (`Outcome.postponed`) handed over again, in the order in which they were
    /// postponed and before all others. To be called in `RequestHandler.beginTurn`, not while a request is handled.
    /// O(connections postponed and those to be served).
    public func resume() {
        loop.checkIsolated()
        if postponed.isEmpty { return }
        // The kernel may have reported something of some of them: no connection stands in the list twice.
        queued.removeAll { $0.isPostponed }
        let resumed = exchange(&postponed, for: []).filter(\.isOpen)
        for connection in resumed {
            connection.isPostponed = false
            connection.isQueued = true
            connection.conversation.resume()
        }
        queued = resumed + queued
    }

    /// Adds to a list from which connections that have closed are dropped when they are more than half of it.
    private func add(_ connection: Connection, to list: inout [Connection]) {
        if list.count > 2 * connectionCount { list.removeAll { !$0.isOpen } }
        list.append(connection)
    }

    // MARK: Accepting

    private func pauseOrResumeListening() {
        if let again = acceptsAgainAt, loop.now >= again { acceptsAgainAt = nil }
        let isFull = acceptsAgainAt != nil || connectionCount >= limits.connections
        for listener in listeners { listener.setPaused(isFull, on: loop) }
    }

    private func acceptConnections() {
        for listener in listeners {
            var accepted = 0
            while listener.isReady, accepted < Self.acceptsPerTurn, connectionCount < limits.connections {
                var failure: Int32 = 0
                guard let descriptor = listener.accept(failure: &failure) else {
                    // Out of descriptors or memory: connections wait in the kernel until one closes or a while later.
                    if failure != 0 { acceptsAgainAt = loop.now + Self.pauseAfterExhaustionMilliseconds }
                    break
                }
                accepted += 1
                open(descriptor, for: listener)
            }
        }
    }

    private func open(_ descriptor: Int32, for listener: Listener) {
        let index = freeIndexes.popLast() ?? connections.count
        acceptedCount &+= 1
        let connection = Connection(
            Conversation(
                descriptor: descriptor, isLocal: listener.isLocal, service: listener.service, index: index,
                number: acceptedCount, limits: limits.request, dates: dates, now: loop.now),
            server: self)
        if index == connections.count { connections.append(connection) } else { connections[index] = connection }
        let events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
        do {
            try loop.watch(descriptor, for: connection, events: events)
            queue(connection)
        } catch {
            Glibc.close(descriptor)
            remove(connection)
        }
    }

    private func close<Handler: RequestHandler & ~Copyable>(
        _ connection: Connection, _ handler: inout Handler, on owner: isolated Handler.Owner
    ) {
        loop.unwatch(connection.conversation.descriptor, for: connection)
        connection.conversation.end(&handler, on: owner)
        remove(connection)
    }

    private func remove(_ connection: Connection) {
        connection.isOpen = false
        bufferBytes -= connection.conversation.countedBytes
        connections[connection.conversation.index] = nil
        freeIndexes.append(connection.conversation.index)
        acceptsAgainAt = nil
    }
}

/// Puts a new value in a place and hands out the old one.
private func exchange<Value>(_ place: inout Value, for value: Value) -> Value {
    var value = value
    swap(&place, &value)
    return value
}
