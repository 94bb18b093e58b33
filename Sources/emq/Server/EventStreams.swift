// Streams of events: a client names some GETs, and gets each answer at once and again whenever it has changed. The GETs
// go through the same handlers as those of other clients, between other work, and only for clients that read.

import Bytes
import JSON
import Net
import Queues

/// One of the GETs of a stream. Its answers become events.
final class WatchedRequest: LocalRequest {
    private let index: Int
    fileprivate(set) weak var stream: EventStream?
    /// A hash of the last answer that was sent, with its status; nil for none.
    private var digest: Int?

    fileprivate init(_ target: [UInt8], index: Int) {
        self.index = index
        super.init(target: target.span)
    }

    override func receive(status: Int, body: Span<UInt8>, heldUntil mark: UInt64) {
        // The hash depends on a secret of this process, so that nobody can make an answer that looks unchanged.
        var hasher = Hasher()
        hasher.combine(status)
        unsafe body.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
        let digest = hasher.finalize()
        if digest == self.digest { return }
        let isSent = stream?.send { responses in
            EventStream.write(index, status: status, body, to: &responses)
            responses.hold(until: mark)
        }
        if isSent == true { self.digest = digest }
    }
}

/// The stream of one client.
final class EventStream: PendingAnswer {
    private let server: HTTPServer
    private unowned let streams: EventStreams
    private let ticket: Ticket
    /// Its sender. A token is looked up again for each round.
    fileprivate(set) var caller: Caller
    fileprivate let requests: [WatchedRequest]
    private let intervalMilliseconds: Int64
    /// When the next round of requests begins, and the next request of the round under way; nil between rounds.
    private var nextRound: Int64
    private var place: Int?
    /// Whether no round has begun.
    private var isNew = true
    private var lastSent: Int64
    /// When there is something to do.
    fileprivate var deadline: Int64
    fileprivate var isOver = false

    fileprivate init(
        _ server: HTTPServer, _ streams: EventStreams, _ ticket: Ticket, _ caller: Caller, _ targets: [[UInt8]],
        intervalMilliseconds: Int64, now: Int64
    ) {
        (self.server, self.streams, self.ticket, self.caller) = (server, streams, ticket, caller)
        self.intervalMilliseconds = intervalMilliseconds
        requests = targets.enumerated().map { WatchedRequest($1, index: $0) }
        (nextRound, lastSent, deadline) = (now, now, .max)
        super.init(nil)
        for request in requests { request.stream = self }
    }

    /// The memory that it takes, in bytes, not including what its connection takes.
    fileprivate var byteCount: Int { requests.reduce(512) { $0 + $1.byteCount + 512 } }

    override func withdraw(on broker: isolated Broker) { streams.remove(self, on: broker) }

    /// The head of the answer has been written, so there is nothing to add.
    override func writeWithdrawn(to responses: inout ResponseStream, of broker: isolated Broker, now: Int64) {}

    /// Forgets what is under way.
    fileprivate func abandonRequests(on broker: isolated Broker) {
        for request in requests where request.isUnderWay {
            (request.withdrawal as? PendingAnswer)?.withdraw(on: broker)
            server.forget(request)
        }
    }

    // MARK: Rounds

    /// A client with more unsent output than this gets nothing more until it has read some of it, in bytes.
    private static let unsentByteCount = 60 * 1024
    /// When to look again whether it has read, in milliseconds.
    private static let retryMilliseconds: Int64 = 100
    /// After such a silence there is a comment, so that nobody on the way takes the connection for dead.
    static let silenceMilliseconds: Int64 = 15_000

    /// Goes on with the round of requests, or begins the next one if it is due. Sets `deadline` if there is nothing to
    /// do now.
    ///
    /// - Parameters:
    ///   - access: the tokens that the server knows.
    ///   - now: the time.
    /// - Returns: the request to make now; nil for none.
    fileprivate func next(_ access: Access?, now: Int64) -> WatchedRequest? {
        if isOver { return nil }
        if place == nil {
            // Nil only if the client has left, and then the stream is removed soon. Before the first round, the client's
            // kernel may not have acknowledged the head of the answer yet.
            let isReading = isNew || server.hasUntakenParts(ticket) == false
            if now < nextRound {
                breakSilence(isReading: isReading, now: now)
                return nil
            }
            nextRound = now + intervalMilliseconds
            if !isReading || server.isShortOfMemory {
                breakSilence(isReading: isReading, now: now)
                return nil
            }
            if let access { caller = access.current(caller, now: now) }
            (isNew, place) = (false, 0)
        }
        while let current = place, current < requests.count {
            if server.unsentByteCount(ticket) > Self.unsentByteCount {
                deadline = now + Self.retryMilliseconds
                return nil
            }
            place = current + 1
            if !requests[current].isUnderWay { return requests[current] }
        }
        place = nil
        if case .stranger = caller {
            // The client has got a 401 for each request.
            end("")
            return nil
        }
        breakSilence(isReading: true, now: now)
        return nil
    }

    private func breakSilence(isReading: Bool, now: Int64) {
        if now - lastSent >= Self.silenceMilliseconds {
            lastSent = now
            if isReading { send { $0.append(":\n\n") } }
        }
        deadline = min(nextRound, lastSent + Self.silenceMilliseconds)
    }

    // MARK: Output

    /// Sends a part. Returns whether the client is still there.
    @discardableResult
    fileprivate func send(_ write: (inout ResponseStream) -> Void) -> Bool {
        if isOver { return false }
        lastSent = streams.now
        return server.extend(ticket, write)
    }

    /// Ends the stream with a last part. The connection closes.
    fileprivate func end(_ text: StaticString) {
        isOver = true
        server.answer(ticket) { $0.append(text) }
    }

    /// Writes an event with an answer. Each line of the body is a line of data, and line ends of all kinds count.
    fileprivate static func write(
        _ index: Int, status: Int, _ body: Span<UInt8>, to responses: inout ResponseStream
    ) {
        responses.append("event: ")
        JSONWriter.writeInteger(index, to: &responses)
        if status != 200 {
            responses.append("/")
            JSONWriter.writeInteger(status, to: &responses)
        }
        let lineFeed = UInt8(ascii: "\n")
        let hasEnd = !body.isEmpty && body[body.count - 1] == lineFeed
        let body = body.extracting(first: hasEnd ? body.count - 1 : body.count)
        // JSON of clients may have carriage returns between its tokens. Each byte is looked at once for each of the two.
        let carriageReturn = UInt8(ascii: "\r")
        var lineFeedPlace = body.index(of: lineFeed) ?? body.count
        var returnPlace = body.index(of: carriageReturn) ?? body.count
        var start = 0
        while start <= body.count {
            if lineFeedPlace < start { lineFeedPlace = body.index(of: lineFeed, from: start) ?? body.count }
            if returnPlace < start { returnPlace = body.index(of: carriageReturn, from: start) ?? body.count }
            let end = min(lineFeedPlace, returnPlace)
            responses.append("\ndata: ")
            responses.append(body.extracting(start..<end))
            start = end + (returnPlace == end && lineFeedPlace == end + 1 ? 2 : 1)
        }
        responses.append("\n\n")
    }
}

/// All streams of events. In each turn, they take a limited part of the loop's time.
final class EventStreams {
    /// The most streams, if there is memory and if there are connections for so many.
    static let maximumCount = 1000
    /// The most GETs of a stream.
    static let maximumRequestCount = 16
    /// There is one stream for each such part of the server's memory, in bytes.
    private static let memoryBytesPerStream = 64 * 1024
    /// A turn begins no more requests after this time, and the next one begins some only after a rest that is so many
    /// times as long. So all streams together take at most a tenth of the loop's time, and large answers come rarer.
    private static let sliceMicroseconds: Int64 = 1000
    private static let restFactor: Int64 = 9
    /// Streams that become due within this time begin their rounds together.
    private static let coarsenessMilliseconds: Int64 = 5

    private var streams: [EventStream] = []
    /// The streams with something to do now; those in front of `position` are done.
    private var due: [EventStream] = []
    private var position = 0
    private var sliceBegin: Int64?
    /// When the next requests may be made.
    private var restEnd: Int64 = 0
    /// The time of the turn.
    fileprivate private(set) var now: Int64 = 0
    /// When to call `beginTurn` next; nil for no such time.
    private(set) var nextDeadline: Int64?
    /// The memory of all streams, in bytes, not including what their connections take.
    private(set) var byteCount = 0

    /// How many there are.
    var count: Int { streams.count }

    /// Begins a stream. The head of its answer has been written.
    ///
    /// - Parameters:
    ///   - targets: the paths and queries of the GETs.
    ///   - intervalMilliseconds: how long to wait between the rounds.
    ///   - request: the client's request.
    ///   - context: the server, the sender and the time.
    /// - Returns: the stream.
    func add(
        _ targets: [[UInt8]], intervalMilliseconds: Int64, of request: borrowing Request, _ context: borrowing Context
    ) -> EventStream {
        let stream = EventStream(
            context.server, self, request.ticket, context.caller, targets, intervalMilliseconds: intervalMilliseconds,
            now: context.now)
        streams.append(stream)
        byteCount += stream.byteCount
        due.append(stream)
        nextDeadline = min(nextDeadline ?? .max, max(context.now, restEnd))
        return stream
    }

    /// Checks that there may be another stream.
    ///
    /// - Throws: 503.
    func admit(_ gate: Gate) throws(Problem) {
        let most = min(
            Self.maximumCount, max(1, gate.maximumMemoryBytes / Self.memoryBytesPerStream),
            max(1, gate.server.maximumConnectionCount / 2))
        if count >= most {
            throw Problem(
                .tooManyStreams, "\(count) clients have a stream of events, which is the most that the server can have")
        }
    }

    fileprivate func remove(_ stream: EventStream, on broker: isolated Broker) {
        stream.isOver = true
        stream.abandonRequests(on: broker)
        guard let place = streams.firstIndex(where: { $0 === stream }) else { return }
        streams.remove(at: place)
        byteCount -= stream.byteCount
    }

    // MARK: Turns

    /// Begins a turn.
    ///
    /// - Parameters:
    ///   - server: the server.
    ///   - now: the time.
    func beginTurn(_ server: HTTPServer, now: Int64) {
        self.now = now
        sliceBegin = nil
        guard now >= nextDeadline ?? .max else { return }
        for stream in streams where stream.deadline <= now {
            // Until it is done, it is not due again.
            stream.deadline = .max
            due.append(stream)
        }
        server.loop.updateNow()
        sliceBegin = server.loop.nowMicroseconds
    }

    /// The next request to make in this turn.
    ///
    /// - Parameters:
    ///   - server: the server.
    ///   - access: the tokens that the server knows.
    ///   - broker: the broker.
    /// - Returns: the request, and its sender; nil if there is no more, or if the turn's time is up.
    func next(
        _ server: HTTPServer, _ access: Access?, on broker: isolated Broker
    ) -> (request: WatchedRequest, caller: Caller)? {
        guard let begin = sliceBegin else { return nil }
        var elapsed: Int64 = 0
        while position < due.count {
            server.loop.updateNow()
            elapsed = server.loop.nowMicroseconds - begin
            if elapsed >= Self.sliceMicroseconds { break }
            let stream = due[position]
            if let request = stream.next(access, now: now) { return (request, stream.caller) }
            if stream.isOver { remove(stream, on: broker) }
            position += 1
        }
        due.removeFirst(position)
        position = 0
        sliceBegin = nil
        restEnd = now + elapsed * Self.restFactor / 1000
        let next = due.isEmpty ? streams.map(\.deadline).min() : restEnd
        nextDeadline = next.map { max($0, restEnd, now + Self.coarsenessMilliseconds) }
        return nil
    }

    /// Ends all streams, because the server stops.
    func stop(on broker: isolated Broker) {
        for stream in streams {
            stream.end("event: stopping\ndata:\n\n")
            stream.abandonRequests(on: broker)
        }
        (streams, due, position, byteCount, nextDeadline) = ([], [], 0, 0, nil)
    }
}
