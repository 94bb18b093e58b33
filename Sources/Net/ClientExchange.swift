// One request of the client in flight: it waits for a connection, looks up the host, tries to connect, sends and
// receives, and starts over for each redirect.

/// A request that was sent and has not been reported.
final class ClientExchange: ClientSource {
    enum Phase { case waiting, starting, lookingUp, connecting, exchanging, decoding, ended }

    /// What one visit may read before the next exchange's turn comes.
    private static let bytesPerVisit = 512 * 1024
    /// The same for a streamed body, so that its parts take little memory.
    private static let streamedBytesPerVisit = 64 * 1024
    /// The sizes of reads, in bytes: for most responses, and for the rest of a large body.
    private static let readSize = 16 * 1024
    private static let bodyReadSize = 256 * 1024
    /// What one visit may unpack.
    private static let decodedBytesPerVisit = 256 * 1024
    /// A body up to this size is never cut, because it may tell whether the request succeeded.
    private static let uncutBytes = 4096

    let key: UInt64
    let start: Int64
    private(set) var request: ClientRequest
    private(set) var host: ClientHost
    var phase = Phase.waiting
    private var hops = 0

    // All times are the loop's, in milliseconds.
    private let deadline: Int64
    var phaseDeadline = Int64.max
    var nextAttemptTime = Int64.max

    // Connecting, in a file of its own.
    var answer: NameResolver.Answer?
    var candidates: ArraySlice<IPAddress> = []
    var attempts: [ClientConnection] = []
    var attemptFailure: ClientFailure?
    var refusal: ClientFailure?

    // Exchanging.
    var connection: ClientConnection?
    var head = Buffer()
    var sentCount = 0
    /// Whether the kernel has taken the whole request.
    var hasSentAll = false
    /// The parser of the response, once its first byte has arrived.
    var parser: ResponseParser?
    var input = Buffer()
    /// The cookies that redirects have set.
    private var cookies = CookieJar()

    // Decoding.
    private var inflater: Inflater?
    /// The response's head and the body unpacked so far.
    private var decoded = Buffer()

    /// Why there is no response.
    private(set) var failure: ClientFailure?

    init(_ request: consuming ClientRequest, key: UInt64, host: ClientHost, client: HTTPClient) {
        self.key = key
        self.host = host
        start = client.loop.now
        deadline = client.loop.time(in: request.timeoutMilliseconds)
        self.request = request
        super.init(client: client)
    }

    /// The name to look up before connecting; nil if the host is an address or the exchange has a connection.
    var neededName: String? { connection == nil && request.needsLookUp ? request.url.host : nil }

    /// Whether it waits for a connection to its host.
    var isWaiting: Bool { phase == .waiting }

    /// Whether it is over, and is to be reported unless it was aborted.
    var hasEnded: Bool { phase == .ended }

    /// Sets the timer to the earliest deadline.
    func setTimer() { loop.setTimer(self, at: min(deadline, phaseDeadline, nextAttemptTime)) }

    // MARK: A visit

    override func visit() -> ClientExchange? {
        switch phase {
        case .ended: return nil
        case .waiting: break
        case .starting: lookUp()
        case .lookingUp: connect()
        case .connecting: reviewAttempts()
        case .exchanging: exchangeBytes()
        case .decoding: decode()
        }
        if phase != .ended { checkDeadlines() }
        if phase != .ended { setTimer() }
        count()
        return phase == .ended || hasPart ? self : nil
    }

    private func checkDeadlines() {
        let now = loop.now
        if now >= deadline {
            fail(.timeout(.whole, authority: authority, milliseconds: request.timeoutMilliseconds))
        } else if now >= phaseDeadline, phase == .exchanging {
            let isFirst = request.idleTimeoutMilliseconds == nil
            let limit = request.idleTimeoutMilliseconds ?? request.firstByteTimeoutMilliseconds
            fail(.timeout(isFirst ? .firstByte : .nextByte, authority: authority, milliseconds: limit ?? 0))
        } else if now >= phaseDeadline {
            fail(.timeout(.connecting, authority: authority, milliseconds: request.connectTimeoutMilliseconds))
        }
    }

    var authority: String { String(decoding: host.authority, as: UTF8.self) }

    func fail(_ failure: ClientFailure) {
        self.failure = failure
        leave()
    }

    /// Ends the exchange in any phase and releases what it holds.
    private func leave() {
        let left = phase
        close()
        switch left {
        case .ended: return
        case .waiting:
            host.noteLeft()
            return client.forgetIfUnused(host)
        case .decoding: return
        case .lookingUp: client.resolver.withdraw(request.url.host, for: self)
        case .starting, .connecting, .exchanging: break
        }
        client.freeSlot(of: host)
    }

    /// Ends it and closes its connections.
    func close() {
        phase = .ended
        loop.cancelTimer(self)
        for attempt in attempts { attempt.close() }
        attempts = []
        connection?.close()
        connection = nil
        // The host's list may retain the exchange for a while.
        request.body = nil
    }

    /// Ends it without a report.
    func cancel() {
        leave()
        forgetMessages()
        count()
    }

    // MARK: Exchanging

    /// Starts to send the request on a connection.
    func run(on connection: ClientConnection) {
        phase = .exchanging
        self.connection = connection
        connection.exchange = self
        let limit = request.idleTimeoutMilliseconds ?? request.firstByteTimeoutMilliseconds
        phaseDeadline = limit.map { loop.time(in: $0) } ?? .max
        swap(&head, &client.spareHead)
        request.writeHead(to: &head)
        sentCount = 0
        hasSentAll = false
        // The next visit reports the lack of memory.
        if head.isExhausted { client.queue(self) }
        send()
        setTimer()
        count()
    }

    private var isSent: Bool { head.isEmpty }

    private func send() {
        guard let connection, !isSent, !head.isExhausted else { return }
        let previousCount = sentCount
        let bodyCount = request.body?.count ?? 0
        if let body = request.body {
            sentCount += connection.send(head.span, body.span, from: sentCount)
        } else {
            sentCount += connection.send(head.span, Span(), from: sentCount)
        }
        if sentCount > previousCount { restartIdleTime() }
        if sentCount == head.count + bodyCount {
            hasSentAll = true
            client.recycle(head: &head)
        } else if connection.isReadable {
            // A peer that responds before everything was sent may not accept the rest.
            client.queue(self)
        }
    }

    /// Ends this side of the connection; false if the request has not been sent as a whole.
    func endSending() -> Bool {
        guard phase == .exchanging, isSent, let connection else { return false }
        connection.endSending()
        return true
    }

    private func restartIdleTime() {
        if let limit = request.idleTimeoutMilliseconds { phaseDeadline = loop.time(in: limit) }
    }

    func exchangeBytes() {
        // Without the missing bytes, the head would be a different request.
        if head.isExhausted { return fail(.noMemory(authority: authority)) }
        send()
        guard let connection else { return }
        var received = 0
        while connection.isReadable {
            let isStreamed = parser?.isStreamed ?? false
            if received >= (isStreamed ? Self.streamedBytesPerVisit : Self.bytesPerVisit) { return client.queue(self) }
            if input.capacity == 0 { swap(&input, &client.spareInput) }
            let missing = parser?.missingBytes(input) ?? 0
            let size = missing > Self.readSize ? min(missing, Self.bodyReadSize) : Self.readSize
            let count = connection.receive(into: &input, atMost: size)
            if count > 0 {
                received += count
                restartIdleTime()
                do throws(Refusal) {
                    if try parse() { return complete() }
                    if isShortOfMemory, parser?.cut(beyond: Self.uncutBytes) == true { return complete() }
                } catch {
                    return fail(.malformed(authority: authority, detail: error.detail))
                }
            } else if input.isExhausted {
                // The receiver may have processed the request, so it is not sent again at once.
                return fail(.noMemory(authority: authority))
            } else if count == 0 || connection.isReadable {
                if count == 0, parser?.parseEnd() == true { return complete() }
                if let error = connection.failure { return fail(.brokenTLS(authority: authority, error)) }
                return fail(.broken(authority: authority, isReset: count < 0))
            }
        }
        if input.isEmpty { client.recycle(input: &input) }
    }

    private var isShortOfMemory: Bool {
        client.isShortOfMemory || client.bufferBytes - countedBytes + input.capacity > client.limits.bufferBytes
    }

    private func parse() throws(Refusal) -> Bool {
        if parser == nil {
            if request.idleTimeoutMilliseconds == nil { phaseDeadline = .max }
            parser = ResponseParser(
                limits: client.limits.response(to: request), answersHead: request.isHead,
                fields: client.takeSpareFields())
        }
        return try parser?.parse(&input) ?? false
    }

    private func forgetMessages() {
        client.recycle(head: &head)
        client.recycle(input: &input)
        decoded = Buffer()
        inflater = nil
        if let parser { client.recycle(fields: parser.head.fields) }
        parser = nil
    }

    private func complete() {
        guard let connection, let parser else { return }
        self.connection = nil
        let isReusable =
            parser.head.isPersistent && isSent && !connection.hasEndedSending && input.count == parser.length
            && connection.isQuiet
        client.release(connection, isReusable: isReusable)
        if followRedirect(parser.head) { return }
        if failure == nil, beginDecoding() { decode() } else { close() }
    }

    // MARK: Redirects

    /// Starts over if the response is a redirect to follow (RFC 9110 section 15.4); false if the exchange has ended.
    private func followRedirect(_ response: ResponseHead) -> Bool {
        guard [301, 302, 303, 307, 308].contains(response.status),
            let location = response.firstValue(of: "Location", in: input.span)
        else { return false }
        let rules = request.redirects
        guard hops < rules.limit else {
            if rules.failsBeyondLimit { failure = .redirectLimit(authority: authority, limit: rules.limit) }
            return false
        }
        do throws(HTTPURLError) {
            let origin = request.url
            let reference = rules.encodesTargets ? HTTPURL.encoding(location.span) : location
            let target = try origin.resolving(reference.span)
            if request.socketPath != nil, target.origin != origin.origin {
                throw HTTPURLError("it leads away from the Unix-domain socket")
            }
            request.redirect(to: target, status: response.status)
            if rules.keepsCookies {
                let bytes = input.span
                for field in response.fields where bytes.extracting(field.name).equalsIgnoringCase("Set-Cookie") {
                    cookies.store(bytes.extracting(field.value), from: origin)
                }
                request.setCookies(cookies)
            }
        } catch {
            failure = .redirect(authority: authority, detail: error.description)
            return false
        }
        hops += 1
        forgetMessages()
        host = client.host(of: request)
        phase = .waiting
        phaseDeadline = .max
        client.start(self)
        return true
    }

    // MARK: Decoding

    /// Prepares to unpack the body; false if it is to stay as it is.
    private func beginDecoding() -> Bool {
        guard request.decodesContent, parser?.isStreamed == false, let head = parser?.head, !head.body.isEmpty,
            let coding = head.firstValue(of: "Content-Encoding", in: input.span)?.lowercasedASCII,
            [Array("gzip".utf8), Array("x-gzip".utf8), Array("deflate".utf8)].contains(coding)
        else { return false }
        inflater = Inflater()
        decoded.append(input.span.extracting(first: head.body.lowerBound))
        phase = .decoding
        phaseDeadline = .max
        return inflater != nil
    }

    /// Unpacks a piece of the body.
    private func decode() {
        guard let inflater, let head = parser?.head else { return }
        let start = head.body.lowerBound
        // One byte more than may be kept shows that the body is longer.
        let limit = (isShortOfMemory ? min(request.bodyLimit, Self.uncutBytes) : request.bodyLimit) + 1
        let room = min(Self.decodedBytesPerVisit, start + limit - decoded.count)
        let progress = inflater.inflate(input.span.extracting(head.body), into: &decoded, atMost: max(room, 0))
        let isTooLong = decoded.count - start >= limit
        switch progress {
        case .noMemory: failure = .noMemory(authority: authority)
        case .malformed: failure = .malformed(authority: authority, detail: "its body cannot be unpacked")
        case .more where !isTooLong: return client.queue(self)
        case .more, .starved, .ended:
            if isTooLong { decoded.truncate(to: start + limit - 1) }
            parser?.replaceBody(count: decoded.count - start, isTruncated: isTooLong || progress == .starved)
            swap(&input, &decoded)
        }
        close()
    }

    // MARK: Reporting

    /// How much of the client's `bufferBytes` belongs to this exchange.
    private(set) var countedBytes = 0

    /// Updates the client's count of memory.
    func count() {
        let messages = request.fields.count + (request.body?.count ?? 0)
        let hasSecureConnection = host.key.trust != nil && (connection != nil || !attempts.isEmpty)
        let connections = hasSecureConnection ? TLSTransport.idleBytes : 0
        let bytes = phase == .ended ? 0 : messages + head.capacity + input.capacity + decoded.capacity + connections
        client.bufferBytes += bytes - countedBytes
        countedBytes = bytes
    }

    /// Whether a part of a streamed body has arrived.
    var hasPart: Bool { parser?.hasPart ?? false }

    /// Passes on the part that has arrived, and drops it.
    func passOn(_ received: (_ key: UInt64, _ status: Int, _ part: Span<UInt8>) -> Void) {
        guard let status = parser?.head.status, let range = parser?.head.body else { return }
        // Moved out, because `received` may abort this exchange and start others.
        var bytes = Buffer()
        swap(&bytes, &input)
        received(key, status, bytes.span.extracting(range))
        swap(&bytes, &input)
        // There is no parser if it was aborted.
        parser?.dropBody(&input)
        if parser == nil { client.recycle(input: &input) }
    }

    /// Reports the outcome.
    func report(_ finished: (_ key: UInt64, _ outcome: borrowing ClientOutcome) -> Void) {
        let elapsed = loop.now - start
        // Moved out, because `finished` may start and abort other exchanges.
        var bytes = Buffer()
        swap(&bytes, &input)
        if let failure {
            finished(key, ClientOutcome(.failure(failure), mayHaveArrived: hasSentAll, elapsedMilliseconds: elapsed))
        } else if let parser {
            let response = ClientResponse(bytes: bytes.span, head: parser.head)
            finished(key, ClientOutcome(.success(response), mayHaveArrived: true, elapsedMilliseconds: elapsed))
        }
        swap(&bytes, &input)
        forgetMessages()
    }
}
