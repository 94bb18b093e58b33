// The exchange of requests and answers on one connection: what came in, what is to go out, and what comes next.

import CLinux
import Glibc

/// What the visits of one round have in common.
struct Round {
    let server: HTTPServer
    /// When it began, and when it should be over. All times are the loop's, in milliseconds.
    let now: Int64
    let end: Int64
    /// How much unsent output keeps further requests from being served, and how much is read ahead, in bytes. While the
    /// server is short of memory, nothing is added to what a connection has.
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

    /// Whether it has lasted long enough. Reads the clock.
    var isOver: Bool { server.loop.updateNow() >= end }
}

/// One connection's side of HTTP/1.1.
struct Conversation: ~Copyable {
    /// What a visit leads to.
    enum Next {
        /// Nothing until the kernel reports something or the deadline passes.
        case rest
        /// Another visit: there is more to do.
        case again
        /// Nothing more until the server resumes.
        case postponed
        /// The end of the connection.
        case end
    }

    /// What one visit may take before the next connection's turn comes.
    private static let requestsPerVisit = 64
    private static let bytesPerVisit = 512 * 1024
    /// A read's size: for requests, and for what is left of a large body.
    private static let readSize = 16 * 1024
    private static let bodyReadSize = 256 * 1024
    /// A body is looked at as it arrives once this much of it has come and it is not whole.
    private static let observedBodySize = 64 * 1024
    /// The largest body, when memory is short, of which nothing is kept.
    private static let passingBodySize = 1 << 20
    /// A request with a large body is handed over only if the system has so many times its size: a route may need
    /// copies.
    private static let workFactor = 4
    private static let noMemory = "the system has no memory for this request"
    /// During a visit memory is counted in such units, so that the usual small answer is not counted at all.
    private static let countedUnit = 4096
    /// At least so many deliveries are kept before the kernel is asked which of them have arrived.
    private static let deliveriesToKeep = 32
    /// How often the kernel is asked while the end of the connection waits for that.
    private static let acknowledgementPollMilliseconds: Int64 = 50

    let descriptor: Int32
    /// It is a Unix-domain socket: the kernel counts what the peer has not read, and forgets it when the peer closes.
    private let isLocal: Bool
    /// What is spoken where it came in.
    private let service: Int
    /// Its connection's place in the server's table.
    let index: Int
    private var parser: RequestParser
    private var input = Buffer()
    private(set) var responses: ResponseStream

    /// Bytes may wait in the kernel. Events are edge-triggered: this stays set until a read finds nothing more.
    private var isReadable = true
    /// The peer will send nothing more; what it sent may still have to be read.
    private var peerHasEnded = false
    /// The end of input was read: all that was sent is in `input`.
    private var inputHasEnded = false
    /// Nothing can be sent or received any more.
    private(set) var isBroken = false
    /// It is broken because the peer takes too little of what is sent to it.
    private var isGivenUp = false
    /// The last answer of this connection has been written.
    private var isClosing = false
    /// This side was shut down; what still comes is dropped until the peer closes too, and has what was sent to it.
    private var isLingering = false

    /// Numbers the requests of all connections: the connection's own number, and its requests' below it.
    private var serial: UInt64
    /// An answer is owed, and what its route gave to withdraw it by.
    private var isOwing = false
    private var withdrawal: AnyObject?
    /// The request at the front of the input, which is whole, was postponed.
    private var isPostponed = false
    /// What the visit under way leads to.
    private var next = Next.rest
    private var bodyObserver: BodyObserver?
    private var observedBytes = 0

    /// Since when the request in hand, or the silence, lasts. All times are the loop's, in milliseconds.
    private var since: Int64
    /// When the peer last took any of what is to go out.
    private var lastProgress: Int64
    /// How much of what was sent the peer had not acknowledged when the kernel was last asked, in bytes.
    private var unacknowledgedBytes = 0
    /// With more deliveries than this the kernel is asked again.
    private var deliveriesBeforeAsking = Self.deliveriesToKeep
    /// Since when the time of requests stands still, because answers are held or too much is unsent; nil if it does
    /// not.
    private var pausedSince: Int64?
    /// What the peer's progress is compared with while memory is short.
    private var lastReview: Review?
    /// When it has waited too long for whatever comes next.
    private var deadline = Int64.max

    init(
        descriptor: Int32, isLocal: Bool, service: Int, index: Int, number: UInt32, limits: RequestLimits,
        dates: DateField, now: Int64
    ) {
        self.descriptor = descriptor
        self.isLocal = isLocal
        self.service = service
        self.index = index
        serial = UInt64(number) << 32
        parser = RequestParser(limits: limits)
        responses = ResponseStream(dates: dates)
        since = now
        lastProgress = now
    }

    // MARK: What the kernel reports

    /// Takes note of epoll's bits.
    mutating func note(events: UInt32) {
        if events & (EPOLLIN.rawValue | EPOLLRDHUP.rawValue | EPOLLHUP.rawValue) != 0 { isReadable = true }
        if events & (EPOLLRDHUP.rawValue | EPOLLHUP.rawValue) != 0 { peerHasEnded = true }
        if events & EPOLLERR.rawValue != 0 { isBroken = true }
    }

    /// Whether an answer that can be withdrawn is owed to a client that has gone, or that will send no more.
    var hasLostItsClient: Bool { withdrawal != nil && (peerHasEnded || isBroken) }

    /// How much memory its buffers take, in bytes, as the server knows it; small ones do not count.
    private(set) var countedBytes = 0

    /// Whether the answer to that request is still owed.
    func owes(_ ticket: Ticket) -> Bool { isOwing && ticket.serial == serial }

    // MARK: A visit

    /// Reads and serves as far as it goes now. An empty connection owns no memory for its input: it borrows
    /// `spareBlock`, and keeps it only if bytes stay in it.
    mutating func visit<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on owner: isolated Handler.Owner, _ round: Round, spareBlock: inout Buffer
    ) {
        // What is held is not the peer's to take: its time begins when it is released.
        if responses.sendableCount == 0, !isLingering { lastProgress = round.now }
        responses.release(upTo: round.server.releasedMark)
        if isLocal, !isBroken { forgetDelivered() }
        if hasLostItsClient { withdrawOwed(&handler, on: owner, now: round.now) }
        next = .rest
        if isLingering { return }
        if input.capacity == 0 { swap(&input, &spareBlock) }
        next = converse(&handler, on: owner, round)
        if case .again = next, responses.count <= round.outputBytes {
            // What has come waits for its turn; whether it came in time is seen when it has been read.
        } else {
            setDeadline(round.limits, now: round.now)
            if round.now >= deadline { timeOut(&handler, round) }
        }
        if input.isEmpty {
            // The server keeps one block, and not the largest.
            if spareBlock.capacity == 0, input.capacity <= Self.bodyReadSize { swap(&input, &spareBlock) }
            input = Buffer()
        }
        count(on: round.server, unit: Self.countedUnit)
    }

    /// Tells the server how much memory the buffers take, rounded down to units, which are a power of two.
    private mutating func count(on server: HTTPServer, unit: Int = 1) {
        let bytes = (input.capacity + responses.keptBytes) & -unit
        if bytes == countedBytes { return }
        server.bufferBytes += bytes - countedBytes
        countedBytes = bytes
    }

    /// Sends what the visit has written, and says what comes next, and the mark whose release lets more be sent (0 if
    /// that does not take one).
    mutating func conclude(_ round: Round) -> (next: Next, deadline: Int64, heldMark: UInt64) {
        responses.release(upTo: round.server.releasedMark)
        let next = carryOn(round)
        count(on: round.server)
        return (next, deadline, responses.heldMark)
    }

    private mutating func carryOn(_ round: Round) -> Next {
        let (limits, now) = (round.limits, round.now)
        send(now: now)
        if isClosing, !isLingering, responses.count == 0 { beginLingering(now: now) }
        if isLingering {
            next = drain()
            if now - since >= limits.lingerTimeoutMilliseconds { inputHasEnded = true }
            if inputHasEnded, hasArrived(limits, now: now) { return .end }
        }
        if isBroken { return .end }
        // While this side holds requests or answers back, their time stands still.
        if responses.heldMark != 0 || responses.count > round.outputBytes {
            pausedSince = pausedSince ?? now
        } else if let paused = pausedSince {
            since = min(now, since + now - paused)
            pausedSince = nil
        }
        setDeadline(limits, now: now)
        // With too much unsent, a release or the kernel's word that there is room again comes first.
        if case .again = next, responses.count > round.outputBytes { return .rest }
        return next
    }

    /// Serves requests until there is no whole one, an answer is owed, or it is another connection's turn.
    private mutating func converse<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on owner: isolated Handler.Owner, _ round: Round
    ) -> Next {
        var requests = 0
        var bytes = 0
        while !isClosing, !isBroken {
            if isOwing || isPostponed {
                let readAhead = isPostponed ? input.count - parser.length : input.count
                let room = round.readAheadBytes - readAhead
                guard isReadable, room > 0 else { return isPostponed ? .postponed : .rest }
                if receive(atMost: min(room, Self.readSize)) <= 0, hasLostItsClient {
                    withdrawOwed(&handler, on: owner, now: round.now)
                }
                if input.isExhausted {
                    // What comes next need not be read before the answer or the server's turn comes.
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
                if !input.isEmpty, try parser.parse(&input) {
                    requests += 1
                    if parser.length > Self.observedBodySize, !Buffer.canAllocate(Self.workFactor * parser.length) {
                        throw Refusal(503, Self.noMemory)
                    }
                    answer(&handler, on: owner, now: round.now)
                    continue
                }
                if parser.isReadingBody { try noteBody(&handler, round) }
            } catch {
                refuse(error, &handler)
                return .rest
            }
            if isClosing { return .rest }
            if !isReadable {
                // What is not whole when the input ends never will be.
                if inputHasEnded { isClosing = true }
                return .rest
            }
            let wasEmpty = input.isEmpty
            let received = receive(atMost: readSize)
            if input.isExhausted {
                input.endExhaustion()
                refuse(Refusal(503, Self.noMemory), &handler)
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

    /// Hands the request at the front of the input to the handler.
    private mutating func answer<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on owner: isolated Handler.Owner, now: Int64
    ) {
        observeBody()
        let isPersistent = parser.head.isPersistent
        responses.answersHead = parser.head.method == .head
        responses.minorVersion = parser.head.minorVersion
        responses.closesConnection = !isPersistent
        serial &+= 1
        let ticket = Ticket(connection: index, serial: serial)
        let unsentBytes = responses.count
        let outcome = Self.ask(
            &handler, on: owner, input, parser.head, service: service, ticket: ticket, bodyObserver: bodyObserver,
            &responses)
        switch outcome {
        case .answered:
            precondition(responses.isComplete, "a route left its answer unfinished")
            isClosing = !isPersistent
        case .owed(let withdrawal):
            isOwing = true
            self.withdrawal = withdrawal
        case .postponed:
            precondition(responses.isComplete && responses.count == unsentBytes, "a route answered what it postponed")
            isPostponed = true
            return
        }
        input.consume(parser.length)
        input.shrink()
        parser.reset()
        bodyObserver = nil
        observedBytes = 0
        since = now
        if hasLostItsClient { withdrawOwed(&handler, on: owner, now: now) }
        if responses.deliveries.count > deliveriesBeforeAsking {
            forgetDelivered()
            // A peer that acknowledges nothing is not asked about with each request.
            deliveriesBeforeAsking = max(Self.deliveriesToKeep, 2 * responses.deliveries.count)
        }
    }

    /// Has the connection closed in the next visit, whatever is on its way.
    mutating func breakOff() { isBroken = true }

    /// Has the request that was postponed handed over in the next visit.
    mutating func resume() { isPostponed = false }

    // Static, so that the request borrows the input alone and not all of the conversation.

    private static func admits<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, _ input: borrowing Buffer, _ head: RequestHead, service: Int,
        _ responses: inout ResponseStream
    ) -> Bool {
        let noTicket = Ticket(connection: -1, serial: 0)
        return handler.admits(
            Request(bytes: input.span, head: head, service: service, ticket: noTicket, bodyObserver: nil), &responses)
    }

    private static func readsBodyWhenShort<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, _ input: borrowing Buffer, _ head: RequestHead, service: Int
    ) -> Bool {
        let noTicket = Ticket(connection: -1, serial: 0)
        return handler.readsBodyWhenShort(
            Request(bytes: input.span, head: head, service: service, ticket: noTicket, bodyObserver: nil))
    }

    private static func ask<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on owner: isolated Handler.Owner, _ input: borrowing Buffer, _ head: RequestHead,
        service: Int, ticket: Ticket, bodyObserver: BodyObserver?, _ responses: inout ResponseStream
    ) -> Outcome {
        handler.handle(
            Request(bytes: input.span, head: head, service: service, ticket: ticket, bodyObserver: bodyObserver),
            &responses, on: owner)
    }

    /// Writes the answer that was owed.
    mutating func settle(on server: HTTPServer, _ body: (inout ResponseStream) -> Void) {
        if responses.sendableCount == 0 { lastProgress = server.loop.now }
        responses.release(upTo: server.releasedMark)
        body(&responses)
        endDebt(now: server.loop.now)
        count(on: server, unit: Self.countedUnit)
    }

    private mutating func endDebt(now: Int64) {
        precondition(responses.isComplete, "a route left its answer unfinished")
        isOwing = false
        withdrawal = nil
        since = now
        isClosing = responses.closesConnection
    }

    /// The client of an owed answer has gone, or has only ended its side and may be reading: nothing is taken for it.
    mutating func withdrawOwed<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on owner: isolated Handler.Owner, now: Int64
    ) {
        guard let withdrawal else { return }
        if isBroken {
            isOwing = false
            self.withdrawal = nil
            handler.withdraw(withdrawal, on: owner)
        } else {
            handler.withdraw(withdrawal, &responses, on: owner)
            endDebt(now: now)
        }
    }

    private mutating func refuse<Handler: RequestHandler & ~Copyable>(_ refusal: Refusal, _ handler: inout Handler) {
        prepareLastAnswer()
        handler.refuse(refusal, service: service, &responses)
    }

    /// The answer that comes next is the last: what follows in the input is not read as a request.
    private mutating func prepareLastAnswer() {
        responses.answersHead = parser.head.method == .head
        responses.minorVersion = 1
        responses.closesConnection = true
        isClosing = true
    }

    // MARK: Bodies on their way

    /// What a body that is not whole calls for: an interim answer, a look at what has come of it.
    private mutating func noteBody<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, _ round: Round
    ) throws(Refusal) {
        let received = parser.receivedBody.count
        try checkMemory(for: received + parser.missingBytes(input), &handler, round)
        if parser.takeExpectation(), received == 0 {
            prepareLastAnswer()
            guard Self.admits(&handler, input, parser.head, service: service, &responses) else { return }
            isClosing = false
            responses.writeContinue()
            // The client may wait for it before it sends more.
            send(now: round.now)
        }
        if received >= Self.observedBodySize {
            if bodyObserver == nil { bodyObserver = handler.bodyObserver() }
            observeBody()
        }
    }

    /// Checks that there is memory for a body that is not whole. Those of which nothing is kept may say how to free
    /// some: all buffers may take twice as much for them as for others.
    private mutating func checkMemory<Handler: RequestHandler & ~Copyable>(
        for byteCount: Int, _ handler: inout Handler, _ round: Round
    ) throws(Refusal) {
        let server = round.server
        guard byteCount > Self.observedBodySize, server.isShortOfMemory || server.refusesLargeBodies else { return }
        if byteCount <= Self.passingBodySize, server.bufferBytes <= 2 * round.limits.bufferBytes,
            Self.readsBodyWhenShort(&handler, input, parser.head, service: service)
        {
            return
        }
        throw Refusal(
            503,
            server.isShortOfMemory
                ? "the server's memory for requests and answers on their way is used up"
                : "the server's memory for tasks is used up")
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
    /// - Returns: How many bytes came; 0 or less when none did.
    private mutating func receive(atMost size: Int) -> Int {
        while true {
            let descriptor = descriptor
            let count = unsafe input.append(atMost: size) { room in
                unsafe recv(descriptor, room.baseAddress, room.count, 0)
            }
            if count > 0 {
                // A short read found all there was; only the end of input is not announced again.
                if count < size, !peerHasEnded { isReadable = false }
                return count
            }
            if input.isExhausted { return -1 }
            if count < 0, errno == EINTR { continue }
            isReadable = false
            if count == 0 {
                peerHasEnded = true
                inputHasEnded = true
            } else if errno != EAGAIN {
                isBroken = true
            }
            return count
        }
    }

    /// Hands what waits to go out and is not held to the kernel.
    private mutating func send(now: Int64) {
        // An answer that is not whole: what it carries goes back.
        if responses.isExhausted { isBroken = true }
        if responses.sendableCount == 0 || isBroken { return }
        let before = responses.sent
        let failure = responses.flush(to: descriptor)
        if responses.sent != before { lastProgress = now }
        if failure != 0, failure != EAGAIN { isBroken = true }
    }

    /// Ends this side, and waits for the peer to end its own if it may still be sending (a reset in answer to unread
    /// bytes could destroy the last answer on its way: RFC 9112 section 9.6), or to acknowledge what matters.
    private mutating func beginLingering(now: Int64) {
        isLingering = true
        since = now
        pausedSince = nil
        lastProgress = now
        let mayBeSending = !input.isEmpty || isReadable || parser.isReadingBody
        input.consume(input.count)
        if mayBeSending || !responses.deliveries.isEmpty {
            shutdown(descriptor, Int32(SHUT_WR))
        } else {
            inputHasEnded = true
        }
    }

    private mutating func drain() -> Next {
        var drained = 0
        while isReadable, drained < Self.bytesPerVisit {
            let count = receive(atMost: Self.readSize)
            input.consume(input.count)
            // Without memory what comes cannot be dropped, and nobody would say when it can.
            if input.isExhausted { isBroken = true }
            if count <= 0 { break }
            drained += count
        }
        input = Buffer()
        return isReadable ? .again : .rest
    }

    // MARK: What has arrived

    /// Whether all that matters has reached the peer. One that has taken nothing more for too long is given up.
    private mutating func hasArrived(_ limits: ServerLimits, now: Int64) -> Bool {
        let before = unacknowledgedBytes
        forgetDelivered()
        if unacknowledgedBytes < before { lastProgress = now }
        if now - lastProgress >= limits.sendTimeoutMilliseconds { giveUp() }
        return responses.deliveries.isEmpty
    }

    /// Forgets the deliveries that the peer's kernel has acknowledged, or, on a Unix-domain socket, that it has read.
    private mutating func forgetDelivered() {
        if responses.deliveries.isEmpty { return }
        var count: Int32 = 0
        // It cannot fail on a socket; if it did, nothing would count as lost.
        _ = unsafe ioctl(descriptor, UInt(SIOCOUTQ), &count)
        unacknowledgedBytes = Int(count)
        // What a Unix-domain socket counts is memory and not bytes: only nothing at all can be told. And it is nothing,
        // too, when the peer has closed without reading, which is an error then.
        if isLocal, count > 0 || hasFailed { return }
        responses.forgetDelivered(unacknowledged: unacknowledgedBytes)
    }

    /// Whether the kernel has an error to report.
    private var hasFailed: Bool {
        var state = pollfd(fd: descriptor, events: 0, revents: 0)
        return unsafe poll(&state, 1, 0) > 0 && Int32(state.revents) & POLLERR != 0
    }

    /// What the kernel holds for a peer on a Unix-domain socket cannot be taken back as long as that lives. It may
    /// still be read, so it does not count as lost.
    private mutating func leaveToLocalPeer() {
        if isLocal, !isBroken, !hasFailed { responses.forgetDelivered(unacknowledged: 0) }
    }

    // MARK: When memory is short

    /// How far a peer had come.
    private struct Review {
        let time: Int64
        /// Whether it takes answers; if not, it sends the request of this number.
        let isTaking: Bool
        let serial: UInt64
        /// How many bytes it has taken or sent.
        let bytes: Int64
    }

    /// The progress of a peer is measured over about this time.
    private static let reviewMilliseconds: Int64 = 2_000

    /// Looks what the peer does about what is kept for it, when the server's memory for requests and answers is used
    /// up. One that takes its answers more slowly than `ServerLimits.answerBytesPerSecond` is given up, one whose
    /// request comes more slowly than `ServerLimits.bodyBytesPerSecond` is refused.
    ///
    /// - Returns: Whether the connection is to be closed or visited.
    mutating func review<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, _ limits: ServerLimits, now: Int64
    ) -> Bool {
        if countedBytes == 0 || isLingering { return false }
        let isTaking = responses.sendableCount > 0
        if isTaking {
            // The kernel reports room only when much of its buffer is free; a slow peer may have taken less than that.
            send(now: now)
            if isBroken || responses.sendableCount == 0 { return true }
        } else if isOwing || isPostponed || isClosing || isReadable || input.isEmpty || responses.count > 0 {
            return false
        }
        let review = Review(
            time: now, isTaking: isTaking, serial: isTaking ? 0 : serial,
            bytes: isTaking ? Int64(responses.sent) : Int64(input.count))
        let elapsed = now - (lastReview?.time ?? 0)
        // An old one is of an earlier shortage.
        guard let last = lastReview, last.isTaking == isTaking, last.serial == review.serial,
            elapsed < 2 * Self.reviewMilliseconds
        else {
            lastReview = review
            return false
        }
        if elapsed < Self.reviewMilliseconds { return false }
        lastReview = review
        let least = isTaking ? limits.answerBytesPerSecond : limits.bodyBytesPerSecond
        if (review.bytes - last.bytes) * 1000 >= least * elapsed { return false }
        if isTaking {
            giveUp()
        } else {
            let refusal = Refusal(503, "the server's memory for requests is used up, and this one comes too slowly")
            refuse(refusal, &handler)
        }
        return true
    }

    // MARK: The end

    /// Closes the socket, and tells the handler of what did not reach the peer.
    mutating func end<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, on owner: isolated Handler.Owner
    ) {
        if let withdrawal { handler.withdraw(withdrawal, on: owner) }
        isOwing = false
        withdrawal = nil
        if isLocal { leaveToLocalPeer() } else { forgetDelivered() }
        if isGivenUp || !responses.deliveries.isEmpty {
            // What counts as lost must not arrive later, and what nobody takes is no use to the kernel either: a reset
            // takes back what the kernel still holds.
            var reset = linger(l_onoff: 1, l_linger: 0)
            unsafe setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &reset, socklen_t(MemoryLayout<linger>.size))
        }
        // In reverse, so that what goes back to the front of a queue stands there in its old order.
        if !responses.deliveries.isEmpty {
            handler.undelivered(responses.deliveries.reversed().map(\.key), on: owner)
        }
        close()
    }

    /// Sends what it can and may, and closes the socket, when the server is at its end. What the peer has sent is read
    /// first: bytes left unread would make the kernel reset the connection, and destroy the last answer on its way.
    mutating func leave(_ releasedMark: UInt64, now: Int64) {
        responses.release(upTo: releasedMark)
        send(now: now)
        shutdown(descriptor, Int32(SHUT_WR))
        isReadable = true
        _ = drain()
        close()
    }

    /// Closes the socket, and gives the memory back: the server's lists may keep the connection for a while.
    private mutating func close() {
        Glibc.close(descriptor)
        input = Buffer()
        responses.discard()
    }

    // MARK: Deadlines

    private mutating func giveUp() {
        leaveToLocalPeer()
        isBroken = true
        isGivenUp = true
    }

    private mutating func setDeadline(_ limits: ServerLimits, now: Int64) {
        if responses.sendableCount > 0 {
            deadline = lastProgress + limits.sendTimeoutMilliseconds
        } else if isLingering {
            deadline =
                responses.deliveries.isEmpty
                ? since + limits.lingerTimeoutMilliseconds : now + Self.acknowledgementPollMilliseconds
        } else if isOwing || isPostponed || responses.heldMark != 0 {
            deadline = .max
        } else if parser.isReadingBody {
            let received = Int64(parser.receivedBody.count)
            deadline = since + limits.bodyTimeoutMilliseconds + received * 1000 / limits.bodyBytesPerSecond
        } else if !input.isEmpty {
            deadline = since + limits.headTimeoutMilliseconds
        } else {
            deadline = since + limits.idleTimeoutMilliseconds
        }
    }

    private mutating func timeOut<Handler: RequestHandler & ~Copyable>(
        _ handler: inout Handler, _ round: Round
    ) {
        if responses.sendableCount > 0 {
            // The kernel reports room only when much of its buffer is free; a slow peer may have taken less than that.
            send(now: round.now)
            if round.now - lastProgress >= round.limits.sendTimeoutMilliseconds { giveUp() }
        } else if input.isEmpty, !parser.isReadingBody {
            isClosing = true
        } else {
            refuse(Refusal(408, "the request took too long to arrive"), &handler)
        }
    }
}
