// The exchange of requests and answers on one connection. ConversationEnd, -Review and -Deadlines hold its end, reviews
// and deadlines.

import Bytes
import CLinux

/// The settings that all visits of one round share.
struct Round {
    let server: HTTPServer
    /// When the round began and when it should end. All times are the loop's, in milliseconds.
    let now: Int64
    let end: Int64
    /// The limits on unsent output, beyond which further requests wait, and on input that is read ahead, in bytes. Both
    /// are 0 while the server is short of memory.
    let outputBytes: Int
    let readAheadBytes: Int

    init(server: HTTPServer, now: Int64, end: Int64) {
        self.server = server
        self.now = now
        self.end = end
        let isShort = server.isShortOfMemory
        outputBytes = isShort ? 0 : server.limits.outputBytes
        readAheadBytes = isShort ? 0 : server.limits.readAheadBytes
    }

    var limits: ServerLimits { server.limits }

    /// Whether the round's time is up. Reads the clock.
    var isOver: Bool { server.loop.updateNow() >= end }
}

/// What the visits to all connections use in turn.
struct VisitAids: ~Copyable {
    /// A block for input, for connections that have none.
    var spareBlock = Buffer()
    /// Memory for the header lines that an answer returns; always without elements.
    var spareLines: [UInt8] = []
    var heads = HeadCache()
    var answerBlocks = SpareBlocks()
}

/// The server's side of one HTTP/1.1 connection.
struct Conversation: ~Copyable {
    /// What follows a visit.
    enum Next {
        /// Wait for an event or the deadline.
        case rest
        /// Visit again: there is more to do.
        case again
        /// Wait until the server resumes.
        case postponed
        /// Close the connection.
        case end
    }

    /// The limits of one visit.
    private static let requestsPerVisit = 64
    static let bytesPerVisit = 512 * 1024
    /// The sizes of reads, in bytes: for requests, and for the rest of a large body.
    static let readSize = 16 * 1024
    private static let bodyReadSize = 256 * 1024
    /// An incomplete body is observed as it arrives once this much of it has been received.
    private static let observedBodySize = 64 * 1024
    /// The largest body that is read while memory is short, if nothing of it is kept.
    private static let passingBodySize = 1 << 20
    /// A request with a large body is handed over only if this many times its size can be allocated, because a route
    /// may need copies.
    private static let workFactor = 4
    private static let noSystemMemory = "the system has no memory for this request"
    /// During a visit, memory is counted in units of this size, so that a small answer is not counted at all.
    static let countedUnit = 4096
    /// With more deliveries than this, the transport is asked which have arrived.
    private static let deliveriesToKeep = 32

    private let pin = Pin()
    let transport: ConnectionTransport
    /// The service of the listener (`Request.service`).
    let service: Int
    /// The connection's index in the server's table.
    let index: Int
    var parser: RequestParser
    var input = Buffer()
    var responses: ResponseStream

    /// Bytes may wait to be read. Events are edge-triggered: this stays set until a read finds nothing more.
    var isReadable = true
    /// The peer will send nothing more; what it sent may still have to be read.
    private var peerHasEnded = false
    /// The end of input was read: everything the peer sent is in `input`.
    var inputHasEnded = false
    /// The connection can neither send nor receive.
    var isBroken = false
    /// The connection was given up because the peer accepts its answers too slowly.
    var isGivenUp = false
    /// The connection's last answer has been written.
    var isClosing = false
    /// This side has ended. Further input is dropped until the peer ends too and has received everything.
    var isLingering = false

    /// Identifies a request among those of all connections. The high half is the connection's number, the low half the
    /// request's.
    var serial: UInt64
    /// An answer is owed; `withdrawal` is the object with which its handler withdraws it.
    var isOwing = false
    var withdrawal: AnyObject?
    /// The record of the request whose answer is owed; nil if requests are not recorded.
    var owedRecord: RequestRecord?
    /// The complete request at the front of the input was postponed.
    var isPostponed = false
    /// What follows the current visit.
    private var next = Next.rest
    private var bodyObserver: BodyObserver?
    private var observedBytes = 0

    /// When the current request, or the silence before it, began. All times are the loop's, in milliseconds.
    var since: Int64
    /// When the peer last accepted output.
    var lastProgress: Int64
    /// `Unacknowledged.backlog` when the transport was last asked.
    var backlog = 0
    /// With more deliveries than this, the transport is asked again.
    private var deliveriesBeforeAsking = Self.deliveriesToKeep
    /// When the time limits of requests were suspended, because answers are held or too much is unsent; nil if they
    /// run.
    var pausedSince: Int64?
    /// The peer's last recorded progress while memory is short.
    var lastReview: Review?
    /// When to act if no event arrives first.
    var deadline = Int64.max

    init(
        transport: ConnectionTransport, service: Int, index: Int, number: UInt32, limits: RequestLimits,
        dates: DateField, now: Int64
    ) {
        self.transport = transport
        self.service = service
        self.index = index
        serial = UInt64(number) << 32
        parser = RequestParser(limits: limits, isSecure: transport.isSecure)
        responses = ResponseStream(dates: dates)
        since = now
        lastProgress = now
    }

    // MARK: What the kernel reports

    /// Notes epoll's bits.
    mutating func note(events: UInt32) {
        if events & (EPOLLIN.rawValue | EPOLLRDHUP.rawValue | EPOLLHUP.rawValue) != 0 { isReadable = true }
        if events & (EPOLLRDHUP.rawValue | EPOLLHUP.rawValue) != 0 { peerHasEnded = true }
        if events & EPOLLERR.rawValue != 0 { isBroken = true }
    }

    /// Whether the client of an owed answer that can be withdrawn has disconnected or ended its side.
    var hasLostItsClient: Bool { withdrawal != nil && (peerHasEnded || isBroken) }

    /// The memory of this connection's buffers that the server has counted, in bytes. During a visit, small buffers do
    /// not count.
    private(set) var countedBytes = 0

    /// Whether the answer to that request is still owed.
    func owes(_ ticket: Ticket) -> Bool { isOwing && ticket.serial == serial }

    // MARK: A visit

    /// Reads input and serves requests as far as possible now. A connection without input owns no memory for it: it
    /// borrows the spare block, and keeps it only if bytes stay in it.
    mutating func visit<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on owner: isolated Handler.Owner, _ round: Round, aids: inout VisitAids
    ) {
        // The peer cannot accept a held answer, so its time limit begins with the release.
        if responses.sendableCount == 0, !isLingering { lastProgress = round.now }
        responses.release(upTo: round.server.releasedMark)
        if transport.keepsOutputForPeer, !isBroken { forgetDelivered() }
        if hasLostItsClient { withdrawOwed(&handler, on: owner, round.server.statistics, now: round.now) }
        next = .rest
        if isLingering { return }
        if input.capacity == 0 { swap(&input, &aids.spareBlock) }
        responses.borrowBlock(from: &aids.answerBlocks)
        if responses.returnedFields.isEmpty { swap(&responses.returnedFields, &aids.spareLines) }
        next = converse(&handler, on: owner, round, &aids.heads)
        if responses.returnedFields.isEmpty {
            swap(&responses.returnedFields, &aids.spareLines)
            // Its own memory, from an answer that was owed.
            if responses.returnedFields.capacity > 0 { responses.returnedFields = [] }
        }
        if case .again = next, responses.count <= round.outputBytes {
            // Unread input may remain. Whether it arrived in time is checked once it has been read.
        } else {
            setDeadline(round)
            if round.now >= deadline { timeOut(&handler, round) }
        }
        if input.isEmpty {
            // The server keeps one block for reuse, unless it is large.
            if aids.spareBlock.capacity == 0, input.capacity <= Self.bodyReadSize { swap(&input, &aids.spareBlock) }
            input = Buffer()
        }
        count(on: round.server, unit: Self.countedUnit)
    }

    /// Reports the buffers' memory to the server, rounded down to a multiple of `unit`, which is a power of two.
    mutating func count(on server: HTTPServer, unit: Int = 1) {
        let bytes = (input.capacity + responses.keptBytes) & -unit
        if bytes == countedBytes { return }
        server.bufferBytes += bytes - countedBytes
        countedBytes = bytes
    }

    /// Sends what the visit has written.
    ///
    /// - Returns: What follows, the next deadline, and the mark whose release lets more be sent (0 if none is held).
    mutating func conclude(
        _ round: Round, _ aids: inout VisitAids
    ) -> (next: Next, deadline: Int64, heldMark: UInt64) {
        responses.release(upTo: round.server.releasedMark)
        let next = carryOn(round)
        responses.returnBlock(to: &aids.answerBlocks)
        count(on: round.server)
        return (next, deadline, responses.heldMark)
    }

    private mutating func carryOn(_ round: Round) -> Next {
        let now = round.now
        send(now: now)
        if isClosing, !isLingering, responses.count == 0 { beginLingering(now: now) }
        if isLingering {
            next = drain()
            if now - since >= round.limits.lingerTimeoutMilliseconds { inputHasEnded = true }
            if inputHasEnded, hasArrived(round.limits, now: now) { return .end }
        }
        if isBroken { return .end }
        // While this side holds requests or answers back, their time limits are suspended.
        if responses.heldMark != 0 || responses.count > round.outputBytes {
            pausedSince = pausedSince ?? now
        } else if let paused = pausedSince {
            since = min(now, since + now - paused)
            pausedSince = nil
        }
        setDeadline(round)
        // With too much unsent output, the next visit waits for a release or for room in the kernel's buffer.
        if case .again = next, responses.count > round.outputBytes { return .rest }
        return next
    }

    /// Serves requests until none is complete, an answer is owed, or it is another connection's turn.
    private mutating func converse<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on owner: isolated Handler.Owner, _ round: Round, _ heads: inout HeadCache
    ) -> Next {
        var requests = 0
        var bytes = 0
        while !isClosing, !isBroken {
            if isOwing || isPostponed {
                let readAhead = isPostponed ? input.count - parser.length : input.count
                let room = round.readAheadBytes - readAhead
                guard isReadable, room > 0 else { return isPostponed ? .postponed : .rest }
                if receive(atMost: min(room, Self.readSize)) <= 0, hasLostItsClient {
                    withdrawOwed(&handler, on: owner, round.server.statistics, now: round.now)
                }
                if input.isExhausted {
                    // There is no memory for more input, which need not be read before the request in front of it is
                    // answered.
                    input.endExhaustion()
                    return isPostponed ? .postponed : .rest
                }
                continue
            }
            if requests >= Self.requestsPerVisit || bytes >= Self.bytesPerVisit
                || responses.count > round.outputBytes || requests > 0 && !input.isEmpty && round.isOver
            {
                return .again
            }
            do throws(Refusal) {
                if !input.isEmpty, try parser.parse(&input, &heads) {
                    requests += 1
                    if parser.length > Self.observedBodySize, !Buffer.canAllocate(Self.workFactor * parser.length) {
                        throw Refusal(.noSystemMemory, Self.noSystemMemory)
                    }
                    answer(&handler, on: owner, round)
                    continue
                }
                if parser.isReadingBody { try noteBody(&handler, round) }
            } catch {
                if isHandshake {
                    handler.noteTLS(onPlainService: service)
                    isBroken = true
                } else {
                    refuse(error, &handler, round.server.statistics)
                }
                return .rest
            }
            if isClosing { return .rest }
            if !isReadable {
                // A request that is incomplete at the end of input stays incomplete.
                if inputHasEnded { isClosing = true }
                return .rest
            }
            let wasEmpty = input.isEmpty
            let received = receive(atMost: readSize)
            if input.isExhausted {
                input.endExhaustion()
                refuse(Refusal(.noSystemMemory, Self.noSystemMemory), &handler, round.server.statistics)
                return .rest
            }
            if wasEmpty, received > 0 { since = round.now }
            bytes += max(0, received)
        }
        return .rest
    }

    private var readSize: Int {
        let missing = parser.missingBytes(input)
        return missing > Self.readSize ? min(missing, Self.bodyReadSize) : Self.readSize
    }

    /// Passes the request at the front of the input to the handler.
    private mutating func answer<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on owner: isolated Handler.Owner, _ round: Round
    ) {
        let (now, statistics) = (round.now, round.server.statistics)
        if bodyObserver != nil { observeBody() }
        let isPersistent = parser.head.isPersistent
        responses.answersHead = parser.head.method == .head
        responses.minorVersion = parser.head.minorVersion
        responses.closesConnection = !isPersistent
        responses.label = 0
        noteReturnedFields(handler)
        serial &+= 1
        let ticket = Ticket(connection: index, serial: serial)
        let unsentBytes = responses.count
        let outcome = Self.ask(
            &handler, on: owner, input, &parser.head, service: service, ticket: ticket, bodyObserver: bodyObserver,
            descriptor: transport.descriptor, &responses)
        switch outcome {
        case .answered:
            precondition(responses.isComplete, "a route left its answer unfinished")
            isClosing = !isPersistent
            noteAnswer(&handler, statistics)
        case .owed(let withdrawal):
            isOwing = true
            self.withdrawal = withdrawal
            if responses.isStreaming { statistics.noteAnswer(in: responses) }
            if handler.recordsRequests { owedRecord = record(&handler) }
        case .postponed:
            precondition(responses.isComplete && responses.count == unsentBytes, "a route answered what it postponed")
            isPostponed = true
            return
        }
        statistics.noteHandled(label: responses.label)
        input.consume(parser.length)
        input.shrink()
        parser.reset()
        bodyObserver = nil
        observedBytes = 0
        since = now
        if hasLostItsClient { withdrawOwed(&handler, on: owner, statistics, now: now) }
        if responses.deliveries.count > deliveriesBeforeAsking {
            forgetDelivered()
            // If the peer acknowledges nothing, the transport is not asked with each request.
            deliveriesBeforeAsking = max(Self.deliveriesToKeep, 2 * responses.deliveries.count)
        }
    }

    /// Closes the connection in the next visit, even with answers in flight.
    mutating func breakOff() { isBroken = true }

    /// Passes the postponed request to the handler again in the next visit.
    mutating func resume() { isPostponed = false }

    // These are static, so that the request borrows only the input and the head, and not the whole conversation.

    private static func admits<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, _ input: borrowing Buffer, _ head: inout RequestHead, service: Int,
        _ responses: inout ResponseStream
    ) -> Bool {
        withRequest(input, &head, service: service) { handler.admits($0, &responses) }
    }

    private static func readsOn<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, _ input: borrowing Buffer, _ head: inout RequestHead, service: Int,
        _ responses: inout ResponseStream
    ) -> Bool {
        withRequest(input, &head, service: service) { handler.readsOn($0, &responses) }
    }

    private static func readsBodyWhenShort<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, _ input: borrowing Buffer, _ head: inout RequestHead, service: Int
    ) -> Bool {
        withRequest(input, &head, service: service) { handler.readsBodyWhenShort($0) }
    }

    private static func ask<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on owner: isolated Handler.Owner, _ input: borrowing Buffer,
        _ head: inout RequestHead, service: Int, ticket: Ticket, bodyObserver: BodyObserver?, descriptor: Int32,
        _ responses: inout ResponseStream
    ) -> Outcome {
        withRequest(
            input, &head, service: service, ticket: ticket, bodyObserver: bodyObserver, descriptor: descriptor
        ) { handler.handle($0, &responses, on: owner) }
    }

    /// Calls `body` with the request at the front of the input.
    @inline(__always)
    static func withRequest<Result>(
        _ input: borrowing Buffer, _ head: inout RequestHead, service: Int,
        ticket: Ticket = Ticket(connection: -1, serial: 0), bodyObserver: BodyObserver? = nil, descriptor: Int32 = -1,
        _ body: (borrowing Request) -> Result
    ) -> Result {
        // The head cannot change or move while the pointer is in use.
        unsafe withUnsafePointer(to: &head) { head in
            unsafe body(
                Request(
                    bytes: input.span, head: head, service: service, ticket: ticket, bodyObserver: bodyObserver,
                    descriptor: descriptor))
        }
    }

    /// Writes the answer that was owed.
    mutating func settle(on server: HTTPServer, _ body: (inout ResponseStream) -> Void) {
        if responses.sendableCount == 0 { lastProgress = server.loop.now }
        responses.release(upTo: server.releasedMark)
        body(&responses)
        endDebt(server.statistics, now: server.loop.now)
        count(on: server, unit: Self.countedUnit)
    }

    private mutating func endDebt(_ statistics: RequestStatistics, now: Int64) {
        precondition(responses.isComplete, "a route left its answer unfinished")
        if !responses.isStreaming { statistics.noteAnswer(in: responses) }
        if let owedRecord {
            responses.end(owedRecord)
            self.owedRecord = nil
        }
        isOwing = false
        withdrawal = nil
        since = now
        isClosing = responses.closesConnection
    }

    /// Withdraws an owed answer: its client has disconnected, or has ended its side and may still be reading.
    mutating func withdrawOwed<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on owner: isolated Handler.Owner, _ statistics: RequestStatistics, now: Int64
    ) {
        guard let withdrawal else { return }
        if isBroken {
            isOwing = false
            self.withdrawal = nil
            handler.withdraw(withdrawal, on: owner)
        } else {
            handler.withdraw(withdrawal, &responses, on: owner)
            endDebt(statistics, now: now)
        }
    }

    mutating func refuse<Handler: RequestHandler & ~Copyable>(
        _ refusal: Refusal, _ handler: inout Handler, _ statistics: RequestStatistics
    ) {
        parser.forgetAnsweredHead()
        prepareLastAnswer()
        noteReturnedFields(handler)
        handler.refuse(refusal, service: service, &responses)
        noteAnswer(&handler, statistics, hasHead: parser.isReadingBody)
    }

    /// Whether the peer speaks TLS on a plain connection.
    private var isHandshake: Bool {
        UInt32(truncatingIfNeeded: serial) == 0 && !input.isEmpty && input.span[0] == TLSAcceptor.handshakeType
            && !transport.isSecure
    }

    /// Answers that the port speaks TLS, whatever the client sends.
    mutating func refuseUnencrypted() {
        prepareLastAnswer()
        responses.begin(status: 400, contentType: "text/plain; charset=utf-8")
        responses.beginBody()
        responses.append("this port speaks TLS: use https:// in place of http://")
        responses.endLine()
    }

    /// Makes the next answer the last: the input behind it is not parsed as a request.
    private mutating func prepareLastAnswer() {
        responses.answersHead = parser.head.method == .head
        responses.minorVersion = 1
        responses.closesConnection = true
        responses.label = 0
        isClosing = true
    }

    // MARK: Bodies on their way

    /// Handles an incomplete body: sends an interim answer, and lets the observer read the new bytes.
    private mutating func noteBody<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, _ round: Round
    ) throws(Refusal) {
        let received = parser.receivedBody.count
        try checkMemory(for: received + parser.missingBytes(input), &handler, round)
        if parser.takeExpectation(), received == 0 {
            prepareLastAnswer()
            noteReturnedFields(handler)
            guard Self.admits(&handler, input, &parser.head, service: service, &responses) else {
                return noteAnswer(&handler, round.server.statistics)
            }
            isClosing = false
            responses.writeContinue()
            // The client may wait for this before it sends more.
            send(now: round.now)
        }
        if received >= Self.observedBodySize {
            if bodyObserver == nil {
                prepareLastAnswer()
                noteReturnedFields(handler)
                guard Self.readsOn(&handler, input, &parser.head, service: service, &responses) else {
                    return noteAnswer(&handler, round.server.statistics)
                }
                isClosing = false
                bodyObserver = handler.bodyObserver()
            }
            observeBody()
        }
    }

    /// Checks that there is memory for an incomplete body. If nothing of the body is kept, its request may be one that
    /// frees memory; for those, the buffers may take twice their limit.
    private mutating func checkMemory<Handler: RequestHandler & ~Copyable>(
        for byteCount: Int, _ handler: inout Handler, _ round: Round
    ) throws(Refusal) {
        let server = round.server
        guard byteCount > Self.observedBodySize, server.isShortOfMemory || server.refusesLargeBodies else { return }
        if byteCount <= Self.passingBodySize, server.bufferBytes <= 2 * round.limits.bufferBytes,
            Self.readsBodyWhenShort(&handler, input, &parser.head, service: service)
        {
            return
        }
        throw server.isShortOfMemory
            ? Refusal(.noMemory, "the server's memory for requests and answers in flight is used up")
            : Refusal(.noRoomForContent, "the server's memory for tasks is used up")
    }

    private mutating func observeBody() {
        guard let bodyObserver else { return }
        let body = parser.receivedBody
        bodyObserver.consume(input.span.extracting(body.lowerBound + observedBytes..<body.upperBound))
        observedBytes = body.count
    }

    // MARK: Bytes in and out

    /// Reads once.
    ///
    /// - Returns: How many bytes arrived; 0 or less if none did.
    mutating func receive(atMost size: Int) -> Int {
        switch transport.receive(into: &input, atMost: size) {
        case .bytes(let count, let isAll):
            // The kernel does not announce the end of input again, so it must still be read.
            if isAll, !peerHasEnded { isReadable = false }
            return count
        case .noMemory: return -1
        case .nothing: isReadable = false
        case .end:
            isReadable = false
            peerHasEnded = true
            inputHasEnded = true
        case .failed:
            isReadable = false
            isBroken = true
        }
        return 0
    }

    /// Sends the answers that are not held.
    mutating func send(now: Int64) {
        // The answer is incomplete for lack of memory: its tasks return to their queues.
        if responses.isExhausted { isBroken = true }
        if responses.sendableCount == 0 || isBroken { return }
        let before = responses.sent
        if !responses.flush(to: transport) { isBroken = true }
        if responses.sent != before { lastProgress = now }
    }
}
