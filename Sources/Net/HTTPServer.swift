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
    /// How much unsent output keeps further requests of a connection from being served, in bytes.
    public var outputBytes = 1024 * 1024
    /// How much is read ahead while an answer is owed, in bytes.
    public var readAheadBytes = 64 * 1024
    /// The bounds of one request.
    public var request = RequestLimits()

    /// The server's own choice of bounds.
    public init() {}
}

/// Serves HTTP/1.1 (RFC 9110, RFC 9112) on an event loop's thread.
public final class HTTPServer {
    /// A turn serves connections for about this long before deadlines and other sources are looked at again.
    private static let turnMilliseconds: Int64 = 4
    /// What one connection may have of a turn before the next one's turn comes.
    private static let requestsPerTurn = 64
    private static let bytesPerTurn = 512 * 1024
    private static let acceptsPerTurn = 64
    /// A read's size: for requests, and for what is left of a large body.
    private static let readSize = 16 * 1024
    private static let bodyReadSize = 256 * 1024
    /// A body is looked at as it arrives once this much of it has come and it is not whole.
    private static let observedBodySize = 64 * 1024
    /// So many deliveries are kept before the kernel is asked which of them have arrived.
    private static let deliveriesToKeep = 32
    private static let pauseAfterExhaustionMilliseconds: Int64 = 100

    /// The loop it runs on.
    public let loop: EventLoop
    private let limits: ServerLimits
    private let dates = DateField()
    private var listeners: [Listener] = []
    private var connections: [Connection?] = []
    private var freeIndexes: [Int] = []
    private var nextSerial: UInt64 = 1
    private var queued: [Connection] = []
    private var gone: [Connection] = []
    private var acceptsAgainAt: Int64?
    // An empty connection owns no block: whichever is served next borrows these.
    private var spareInput = Buffer()
    private var spareOutput = Buffer()

    /// How many connections are open.
    public var connectionCount: Int { connections.count - freeIndexes.count }

    /// Whether any connection has answers that its peer's kernel has not taken. O(connections).
    public var hasUnsentAnswers: Bool { connections.contains { ($0?.responses.count ?? 0) > 0 } }

    /// A server that listens nowhere yet.
    public init(loop: EventLoop, limits: ServerLimits = ServerLimits()) {
        self.loop = loop
        self.limits = limits
        dates.update(unixMilliseconds: loop.now)
    }

    /// Listens at an address, or at each of the addresses that a host name stands for.
    ///
    /// - Returns: Where it listens, with the ports that the kernel chose.
    /// - Throws: `SystemError`, for instance when the port is in use.
    public func listen(_ address: Address) throws(SystemError) -> [Address] {
        let opened = try Listener.open(address)
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
    public func run<Handler: RequestHandler>(_ handler: inout Handler, on owner: isolated Handler.Owner) {
        var deadline: Int64? = loop.now
        while !handler.isFinished {
            let isBusy = !queued.isEmpty || listeners.contains { $0.isReady }
            loop.turn(until: isBusy ? loop.now : [deadline, acceptsAgainAt].compactMap { $0 }.min())
            dates.update(unixMilliseconds: loop.now)
            acceptConnections()
            handler.beginTurn(now: loop.now, on: owner)
            serveQueued(&handler, on: owner)
            deadline = handler.nextTurn(on: owner)
        }
        for case let connection? in connections {
            _ = connection.responses.flush(to: connection.descriptor)
            close(connection)
        }
    }

    private func serveQueued<Handler: RequestHandler>(_ handler: inout Handler, on owner: isolated Handler.Owner) {
        let begin = loop.updateNow()
        // Serving one connection may wake another, which is then served in this turn too.
        while !queued.isEmpty {
            for connection in exchange(&gone, for: []) { withdrawOwed(connection, &handler, on: owner) }
            let batch = exchange(&queued, for: [])
            for (position, connection) in batch.enumerated() {
                if loop.updateNow() - begin >= Self.turnMilliseconds {
                    queued = batch[position...] + queued
                    return
                }
                connection.isQueued = false
                serve(connection, &handler, on: owner)
            }
        }
    }

    /// Has a connection looked at in this turn or, once this turn has begun to serve, in the next.
    func queue(_ connection: Connection) {
        if connection.owed != nil, connection.peerHasEnded || connection.isBroken { gone.append(connection) }
        if connection.isQueued { return }
        connection.isQueued = true
        queued.append(connection)
    }

    // MARK: Accepting

    private func acceptConnections() {
        if let again = acceptsAgainAt, loop.now >= again { acceptsAgainAt = nil }
        for listener in listeners {
            listener.setPaused(acceptsAgainAt != nil || connectionCount >= limits.connections, on: loop)
            var accepted = 0
            while listener.isReady, accepted < Self.acceptsPerTurn, connectionCount < limits.connections {
                var failure: Int32 = 0
                guard let descriptor = listener.accept(failure: &failure) else {
                    // Out of descriptors or memory: connections wait in the kernel until one closes or a while later.
                    if failure != 0 { acceptsAgainAt = loop.now + Self.pauseAfterExhaustionMilliseconds }
                    break
                }
                accepted += 1
                open(descriptor)
            }
        }
    }

    private func open(_ descriptor: Int32) {
        let index = freeIndexes.popLast() ?? connections.count
        let connection = Connection(
            descriptor: descriptor, index: index, server: self, limits: limits.request, dates: dates, now: loop.now)
        if index == connections.count { connections.append(connection) } else { connections[index] = connection }
        let events =
            EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
        do {
            try loop.watch(descriptor, for: connection, events: events)
            queue(connection)
        } catch {
            close(connection)
        }
    }

    private func close(_ connection: Connection) {
        guard connections[connection.index] === connection else { return }
        loop.unwatch(connection.descriptor, for: connection)
        Glibc.close(connection.descriptor)
        connections[connection.index] = nil
        freeIndexes.append(connection.index)
        acceptsAgainAt = nil
    }

    // MARK: Serving one connection

    private func serve<Handler: RequestHandler>(
        _ connection: Connection, _ handler: inout Handler, on owner: isolated Handler.Owner
    ) {
        guard connections[connection.index] === connection else { return }
        if connection.input.capacity == 0 { swap(&connection.input, &spareInput) }
        if connection.responses.capacity == 0 { connection.responses.exchangeBlock(with: &spareOutput) }

        if loop.now >= connection.deadline { timeOut(connection, &handler) }
        if !connection.isLingering { converse(connection, &handler, on: owner) }
        send(connection)
        if connection.isLingering { drain(connection) }
        settle(connection, &handler, on: owner)
    }

    /// Serves requests until there is no whole one, an answer is owed, or it is another connection's turn.
    private func converse<Handler: RequestHandler>(
        _ connection: Connection, _ handler: inout Handler, on owner: isolated Handler.Owner
    ) {
        var requests = 0
        var bytes = 0
        while !connection.isClosing, !connection.isBroken {
            if connection.owed != nil {
                let room = limits.readAheadBytes - connection.input.count
                if !connection.isReadable || room <= 0 || receive(connection, atMost: min(room, Self.readSize)) <= 0 {
                    return
                }
                continue
            }
            if connection.responses.count > limits.outputBytes { return }
            if requests >= Self.requestsPerTurn || bytes >= Self.bytesPerTurn { return queue(connection) }
            do throws(Refusal) {
                if !connection.input.isEmpty, try connection.parser.parse(&connection.input) {
                    requests += 1
                    answer(connection, &handler, on: owner)
                    continue
                }
            } catch {
                return refuse(connection, error, &handler)
            }
            noteProgress(connection, &handler)
            if !connection.isReadable {
                if connection.inputHasEnded { connection.isClosing = true }
                return
            }
            bytes += max(0, receive(connection, atMost: readSize(connection)))
        }
    }

    private func readSize(_ connection: Connection) -> Int {
        let missing = connection.parser.missingBytes(connection.input)
        return missing > Self.readSize ? min(missing, Self.bodyReadSize) : Self.readSize
    }

    /// Hands the request at the front of the input to the handler.
    private func answer<Handler: RequestHandler>(
        _ connection: Connection, _ handler: inout Handler, on owner: isolated Handler.Owner
    ) {
        observeBody(connection)
        let head = connection.parser.head
        let isLast = !head.isPersistent
        connection.responses.answersHead = head.method == .head
        connection.responses.minorVersion = head.minorVersion
        connection.responses.closesConnection = isLast
        let serial = nextSerial
        nextSerial += 1
        let outcome = handler.handle(
            Request(
                bytes: connection.input.span, head: head,
                ticket: Ticket(connection: connection.index, serial: serial), bodyObserver: connection.bodyObserver),
            &connection.responses, on: owner)
        connection.input.consume(connection.parser.length)
        connection.parser.reset()
        connection.bodyObserver = nil
        connection.observedBytes = 0
        connection.since = loop.now
        switch outcome {
        case .answered:
            precondition(connection.responses.isIdle, "a route left its answer unfinished")
            if isLast { connection.isClosing = true }
        case .owed(let withdrawal):
            connection.owed = (serial, withdrawal)
            if connection.peerHasEnded { queueGone(connection) }
        }
        if connection.responses.deliveries.count > Self.deliveriesToKeep {
            connection.responses.forgetDelivered(unacknowledged: connection.unacknowledgedBytes)
        }
    }

    /// Writes an answer that was owed.
    ///
    /// - Returns: false, without calling `body`, if nobody waits for it any more.
    @discardableResult
    public func answer(_ ticket: Ticket, _ body: (inout ResponseStream) -> Void) -> Bool {
        guard connections.indices.contains(ticket.connection), let connection = connections[ticket.connection],
            connection.owed?.serial == ticket.serial
        else { return false }
        body(&connection.responses)
        settleOwed(connection)
        return true
    }

    private func settleOwed(_ connection: Connection) {
        precondition(connection.responses.isIdle, "a route left its answer unfinished")
        connection.owed = nil
        connection.since = loop.now
        connection.lastProgress = loop.now
        if connection.responses.closesConnection { connection.isClosing = true }
        queue(connection)
    }

    private func withdrawOwed<Handler: RequestHandler>(
        _ connection: Connection, _ handler: inout Handler, on owner: isolated Handler.Owner
    ) {
        guard connections[connection.index] === connection, let owed = connection.owed else { return }
        if connection.isBroken {
            connection.owed = nil
            handler.withdraw(owed.withdrawal, on: owner)
        } else {
            handler.withdraw(owed.withdrawal, &connection.responses, on: owner)
            settleOwed(connection)
        }
    }

    private func refuse<Handler: RequestHandler>(
        _ connection: Connection, _ refusal: Refusal, _ handler: inout Handler
    ) {
        connection.responses.answersHead = connection.parser.head.method == .head
        connection.responses.minorVersion = 1
        connection.responses.closesConnection = true
        handler.refuse(refusal, &connection.responses)
        connection.isClosing = true
    }

    /// What a request that is not whole yet calls for: an interim answer, a look at its body.
    private func noteProgress<Handler: RequestHandler>(_ connection: Connection, _ handler: inout Handler) {
        guard connection.parser.isReadingBody else { return }
        let received = connection.parser.receivedBody.count
        if connection.parser.takeExpectation(), received == 0 { connection.responses.writeContinue() }
        if received >= Self.observedBodySize {
            if connection.bodyObserver == nil, connection.observedBytes == 0 {
                connection.bodyObserver = handler.bodyObserver()
            }
            observeBody(connection)
        }
        // A client that waits for the interim answer must get it before it sends more.
        if connection.responses.count > 0 { send(connection) }
    }

    private func observeBody(_ connection: Connection) {
        guard let observer = connection.bodyObserver else { return }
        let body = connection.parser.receivedBody
        observer.consume(connection.input.span.extracting(body.lowerBound + connection.observedBytes..<body.upperBound))
        connection.observedBytes = body.count
    }

    // MARK: Bytes in and out

    /// Reads once.
    ///
    /// - Returns: How many bytes came; 0 or less when none did.
    private func receive(_ connection: Connection, atMost size: Int) -> Int {
        while true {
            let count = unsafe connection.input.append(atMost: size) { room in
                unsafe recv(connection.descriptor, room.baseAddress, room.count, 0)
            }
            if count > 0 {
                if connection.input.count == count, !connection.parser.isReadingBody { connection.since = loop.now }
                // A short read found all there was. The end of input alone is not announced again.
                if count < size, !connection.peerHasEnded { connection.isReadable = false }
                return count
            }
            if count < 0, errno == EINTR { continue }
            connection.isReadable = false
            if count == 0 {
                connection.peerHasEnded = true
                connection.inputHasEnded = true
                if connection.owed != nil { queueGone(connection) }
            } else if errno != EAGAIN {
                connection.isBroken = true
                if connection.owed != nil { queueGone(connection) }
            }
            return count
        }
    }

    private func queueGone(_ connection: Connection) {
        gone.append(connection)
        queue(connection)
    }

    private func send(_ connection: Connection) {
        if connection.responses.count == 0 || connection.isBroken { return }
        let before = connection.responses.sent
        let failure = connection.responses.flush(to: connection.descriptor)
        if connection.responses.sent != before { connection.lastProgress = loop.now }
        if failure != 0, failure != EAGAIN { connection.isBroken = true }
    }

    /// Drops what still comes on a connection whose last answer was sent, so that the kernel does not answer it with
    /// a reset, which could destroy that answer (RFC 9112 section 9.6).
    private func drain(_ connection: Connection) {
        var drained = 0
        while connection.isReadable, drained < Self.bytesPerTurn {
            let count = receive(connection, atMost: Self.bodyReadSize)
            connection.input.consume(connection.input.count)
            if count <= 0 { return }
            drained += count
        }
        if connection.isReadable { queue(connection) }
    }

    // MARK: What comes next

    private func settle<Handler: RequestHandler>(
        _ connection: Connection, _ handler: inout Handler, on owner: isolated Handler.Owner
    ) {
        if connection.isClosing, !connection.isLingering, !connection.isBroken, connection.responses.count == 0 {
            // Only a peer that may still be sending, or whose answer matters, is waited for.
            let mustLinger =
                !connection.inputHasEnded
                && (!connection.input.isEmpty || connection.isReadable || connection.parser.isReadingBody
                    || !connection.responses.deliveries.isEmpty)
            if mustLinger {
                connection.isLingering = true
                connection.since = loop.now
                connection.input.consume(connection.input.count)
                shutdown(connection.descriptor, Int32(SHUT_WR))
                if connection.isReadable { queue(connection) }
            } else {
                return end(connection, &handler, on: owner)
            }
        }
        if connection.isBroken || connection.isLingering && connection.inputHasEnded {
            return end(connection, &handler, on: owner)
        }
        giveUpBlocks(connection)
        setDeadline(connection)
    }

    private func giveUpBlocks(_ connection: Connection) {
        if connection.input.isEmpty, connection.input.capacity > 0 {
            if spareInput.capacity == 0, connection.input.capacity <= Self.bodyReadSize {
                swap(&connection.input, &spareInput)
            } else {
                connection.input = Buffer()
            }
        }
        if connection.responses.count == 0, connection.responses.capacity > 0 {
            var block = Buffer()
            connection.responses.exchangeBlock(with: &block)
            if spareOutput.capacity == 0, block.capacity <= Self.bodyReadSize { swap(&block, &spareOutput) }
        }
    }

    /// Closes a connection, and tells the handler of what did not reach its peer.
    private func end<Handler: RequestHandler>(
        _ connection: Connection, _ handler: inout Handler, on owner: isolated Handler.Owner
    ) {
        if let owed = connection.owed {
            connection.owed = nil
            handler.withdraw(owed.withdrawal, on: owner)
        }
        if !connection.responses.deliveries.isEmpty {
            connection.responses.forgetDelivered(unacknowledged: connection.unacknowledgedBytes)
            // In reverse, so that what goes back to the front of a queue stands there in its old order.
            for delivery in connection.responses.deliveries.reversed() { handler.undelivered(delivery.key, on: owner) }
        }
        close(connection)
    }

    // MARK: Deadlines

    private func setDeadline(_ connection: Connection) {
        if connection.responses.count > 0 {
            connection.deadline = connection.lastProgress + limits.sendTimeoutMilliseconds
        } else if connection.isLingering {
            connection.deadline = connection.since + limits.lingerTimeoutMilliseconds
        } else if connection.owed != nil {
            connection.deadline = .max
        } else if connection.parser.isReadingBody {
            let received = Int64(connection.parser.receivedBody.count)
            connection.deadline =
                connection.since + limits.bodyTimeoutMilliseconds + received * 1000 / limits.bodyBytesPerSecond
        } else if !connection.input.isEmpty {
            connection.deadline = connection.since + limits.headTimeoutMilliseconds
        } else {
            connection.deadline = connection.since + limits.idleTimeoutMilliseconds
        }
        // A timer that fires too early is set anew then: the common case, a later deadline, costs nothing here.
        if connection.deadline != .max,
            connection.timerPosition < 0 || connection.deadline < connection.timerDeadline
        {
            loop.setTimer(connection, at: connection.deadline)
        }
    }

    private func timeOut<Handler: RequestHandler>(_ connection: Connection, _ handler: inout Handler) {
        if connection.responses.count > 0 || connection.isLingering {
            connection.isBroken = true
        } else if connection.input.isEmpty, !connection.parser.isReadingBody {
            connection.isClosing = true
        } else {
            refuse(connection, Refusal(408, "the request took too long to arrive"), &handler)
        }
    }
}

/// Puts a new value in a place and hands out the old one.
private func exchange<Value>(_ place: inout Value, for value: Value) -> Value {
    var value = value
    swap(&place, &value)
    return value
}
