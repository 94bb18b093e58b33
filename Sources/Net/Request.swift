// A complete HTTP request as a route sees it: spans into the connection's buffer, nothing copied.

import Bytes

/// The methods of RFC 9110 section 9.3 and RFC 5789; any other token is `other`.
public enum Method: UInt8, Sendable {
    case get, head, post, put, delete, options, patch, connect, trace, other

    init(_ name: Span<UInt8>) {
        // Methods are case-sensitive (RFC 9110 section 9.1).
        if name.equals("POST") {
            self = .post
        } else if name.equals("GET") {
            self = .get
        } else if name.equals("HEAD") {
            self = .head
        } else if name.equals("PUT") {
            self = .put
        } else if name.equals("DELETE") {
            self = .delete
        } else if name.equals("OPTIONS") {
            self = .options
        } else if name.equals("PATCH") {
            self = .patch
        } else if name.equals("CONNECT") {
            self = .connect
        } else if name.equals("TRACE") {
            self = .trace
        } else {
            self = .other
        }
    }
}

/// Identifies a request that has not been answered. It becomes stale when the request is answered or its connection
/// closes.
public struct Ticket: Hashable, Sendable {
    let connection: Int
    let serial: UInt64
}

/// Why a request was refused: the reason, the status of the answer, and a sentence for the client's author.
///
/// The connection closes after the answer: once framing is in doubt, what follows cannot be trusted to be a request.
public struct Refusal: Error, Equatable, Sendable {
    /// What a program can tell apart.
    public enum Reason: Sendable, CaseIterable {
        /// It is not HTTP as RFC 9110 and RFC 9112 define it (400).
        case malformed
        /// It took too long to arrive (408).
        case timeout
        /// Its body is too large (413).
        case bodyTooLarge
        /// Its first line is too long (414).
        case requestLineTooLong
        /// It has an expectation other than `100-continue` (417).
        case expectation
        /// Its header or its trailers are too large (431).
        case headerTooLarge
        /// It has a transfer coding other than chunked (501).
        case transferCoding
        /// There is no memory for requests in flight (503).
        case noMemory
        /// The system gives no memory for it (503).
        case noSystemMemory
        /// The program has no room for the content of a large body (503).
        case noRoomForContent
        /// It has another major version of HTTP (505).
        case version

        /// The status code of the answer.
        public var status: Int {
            switch self {
            case .malformed: 400
            case .timeout: 408
            case .bodyTooLarge: 413
            case .requestLineTooLong: 414
            case .expectation: 417
            case .headerTooLarge: 431
            case .transferCoding: 501
            case .noMemory, .noSystemMemory, .noRoomForContent: 503
            case .version: 505
            }
        }
    }

    /// The reason.
    public let reason: Reason
    /// What was wrong and what would be right.
    public let detail: String

    init(_ reason: Reason, _ detail: String) {
        self.reason = reason
        self.detail = detail
    }

    /// The status code of the answer.
    public var status: Int { reason.status }
}

/// The parsed head of a request. Offsets count from the request's first byte.
@usableFromInline struct RequestHead: Sendable {
    @usableFromInline var method = Method.other
    var methodName = 0..<0
    var path = 0..<0
    @usableFromInline var query = 0..<0
    /// The target's own authority if it has one, otherwise the value of Host.
    var authority = 0..<0
    var fields: [HeaderSection.Field] = []
    @usableFromInline var body = 0..<0
    /// 1 for HTTP/1.1 and any later 1.x, 0 for HTTP/1.0.
    var minorVersion = 1
    var isPersistent = true
    /// A field shows it: Origin, one of Sec-Fetch-*, or a User-Agent that begins with `Mozilla/`.
    @usableFromInline var isFromBrowser = false
    /// It came over TLS.
    var isSecure = false
    /// Which of `fields` are X-Request-Id and traceparent, counted from 1. 0 means none, and -1 that the field came
    /// twice or its value is unusable.
    @usableFromInline var requestIDPlace: Int32 = 0
    @usableFromInline var traceparentPlace: Int32 = 0
    /// The same for Authorization, whatever its value is; -1 only if it came twice.
    @usableFromInline var authorizationPlace: Int32 = 0
    /// Identifies the head among those that the server remembers (`HeadCache`); 0 if it is not remembered.
    @usableFromInline var key: UInt64 = 0

    /// Clears everything that differs from request to request, but keeps the memory.
    mutating func reset() {
        // A remembered head is probably the next one, too. Its fields are shared with the cache.
        if key != 0 { return }
        method = .other
        isFromBrowser = false
        fields.removeAll(keepingCapacity: true)
        (path, query, authority, body) = (0..<0, 0..<0, 0..<0, 0..<0)
        (requestIDPlace, traceparentPlace, authorizationPlace) = (0, 0, 0)
    }

    /// Forgets a remembered head.
    mutating func forget() {
        let isSecure = isSecure
        self = RequestHead()
        self.isSecure = isSecure
    }

    /// Whether there is a usable X-Request-Id or traceparent.
    @inlinable var hasTraceFields: Bool { requestIDPlace > 0 || traceparentPlace > 0 }

    /// The value of one of `fields`, counted from 1; an empty range if there is none.
    func value(ofField place: Int32) -> Range<Int> { place > 0 ? fields[Int(place) - 1].value : 0..<0 }

    /// The values of the usable X-Request-Id and traceparent; empty if there is none.
    var requestID: Range<Int> { value(ofField: requestIDPlace) }
    var traceparent: Range<Int> { value(ofField: traceparentPlace) }

    /// A head with nothing but the header fields of this one, if they are among the first `byteCount` bytes.
    func onlyFields(within byteCount: Int) -> RequestHead {
        var head = RequestHead()
        guard let last = fields.last, last.value.upperBound <= byteCount else { return head }
        (head.fields, head.requestIDPlace, head.traceparentPlace) = (fields, requestIDPlace, traceparentPlace)
        head.authorizationPlace = authorizationPlace
        return head
    }

    /// Replaces `lines` by the header lines with which an answer returns X-Request-Id and traceparent, in the same
    /// memory if it suffices. `input` begins with the request.
    func writeReturnedFields(of input: borrowing Buffer, to lines: inout [UInt8]) {
        let bytes = input.span
        if !lines.isEmpty { lines.removeAll(keepingCapacity: true) }
        func append(_ name: StaticString, _ value: Range<Int>) {
            // A connection that runs out of memory may have lost bytes.
            guard !value.isEmpty, value.upperBound <= bytes.count else { return }
            unsafe lines.append(contentsOf: UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
            lines.append(bytes.extracting(value))
            lines.append(UInt8(ascii: "\r"))
            lines.append(UInt8(ascii: "\n"))
        }
        append("X-Request-Id: ", requestID)
        append("traceparent: ", traceparent)
    }
}

/// A complete request. Its spans are valid during the call that received it.
@safe public struct Request: ~Copyable, ~Escapable {
    @usableFromInline let bytes: Span<UInt8>
    // The caller's, because a copy of it costs as much as everything else in a request's life before its route. The
    // caller keeps it where it is for as long as `bytes` are valid.
    @usableFromInline let headAddress: UnsafePointer<RequestHead>
    /// The service of the address where it arrived (`HTTPServer.listen`).
    public let service: Int
    /// Identifies this request for a later answer.
    public let ticket: Ticket
    private let descriptor: Int32
    /// The observer of the body, if that was large (`RequestHandler.bodyObserver`).
    public let bodyObserver: BodyObserver?

    @_lifetime(copy bytes)
    init(
        bytes: Span<UInt8>, head: UnsafePointer<RequestHead>, service: Int, ticket: Ticket,
        bodyObserver: BodyObserver?, descriptor: Int32 = -1
    ) {
        self.bytes = bytes
        self.descriptor = descriptor
        unsafe headAddress = head
        self.service = service
        self.ticket = ticket
        self.bodyObserver = bodyObserver
    }

    /// The method.
    @inlinable public var method: Method { unsafe headAddress.pointee.method }

    /// The method as sent.
    public var methodName: Span<UInt8> {
        @_lifetime(copy self) get { unsafe bytes.extracting(headAddress.pointee.methodName) }
    }

    /// The target's path, still percent-encoded: it begins with `/`, or is `*` for `OPTIONS *`, or empty for CONNECT.
    public var path: Span<UInt8> {
        @_lifetime(copy self) get { unsafe bytes.extracting(headAddress.pointee.path) }
    }

    /// What follows the target's first `?`, still percent-encoded; empty if there is none.
    @inlinable public var query: Span<UInt8> {
        @_lifetime(copy self) get { unsafe bytes.extracting(headAddress.pointee.query) }
    }

    /// The host and port of the request: the target's own authority, or the Host field.
    public var authority: Span<UInt8> {
        @_lifetime(copy self) get { unsafe bytes.extracting(headAddress.pointee.authority) }
    }

    /// The body, without its transfer coding.
    @inlinable public var body: Span<UInt8> {
        @_lifetime(copy self) get { unsafe bytes.extracting(headAddress.pointee.body) }
    }

    /// Whether it seems to come from a browser: it has an Origin, a Sec-Fetch-* field, or a User-Agent that begins with
    /// `Mozilla/`. Then a web page may have sent it without the user's knowledge. O(1): the parser has noted it.
    @inlinable public var isFromBrowser: Bool { unsafe headAddress.pointee.isFromBrowser }

    /// Whether it came over TLS.
    public var isSecure: Bool { unsafe headAddress.pointee.isSecure }

    /// Identifies the head: requests of a server with the same key, which is not 0, have the same head, except for the
    /// values of Content-Length, Authorization, X-Request-Id and traceparent. So it does not tell who sent them. 0
    /// means that the server does not remember the head. Keys of heads that are remembered at the same time differ modulo
    /// ``rememberedHeadCount``.
    @inlinable public var headKey: UInt64 { unsafe headAddress.pointee.key }

    /// How many heads a server remembers.
    public static var rememberedHeadCount: Int { HeadCache.placeCount }

    /// Whether it has a usable X-Request-Id or traceparent. O(1): the parser has noted it.
    @inlinable public var hasTraceFields: Bool { unsafe headAddress.pointee.hasTraceFields }

    /// The value of its X-Request-Id field; empty if it has none, more than one, or an unusable one (`isRequestID`).
    public var requestID: Span<UInt8> {
        @_lifetime(copy self) get { unsafe bytes.extracting(headAddress.pointee.requestID) }
    }

    /// The value of its traceparent field; empty if it has none, more than one, or an unusable one (`isTraceparent`).
    public var traceparent: Span<UInt8> {
        @_lifetime(copy self) get { unsafe bytes.extracting(headAddress.pointee.traceparent) }
    }

    /// How many Authorization fields it has: 0, 1, or 2 for more than one. O(1): the parser has noted it.
    @inlinable public var authorizationCount: Int {
        let place = unsafe headAddress.pointee.authorizationPlace
        return place < 0 ? 2 : place > 0 ? 1 : 0
    }

    /// The value of its Authorization field; empty if it has none, or more than one.
    public var authorization: Span<UInt8> {
        @_lifetime(copy self) get {
            unsafe bytes.extracting(headAddress.pointee.value(ofField: headAddress.pointee.authorizationPlace))
        }
    }

    /// The address and port from which it came, as `192.0.2.7:41234`; `unix` for a Unix-domain socket. One system call.
    public var peer: String { SocketAddress(ofPeer: descriptor)?.text ?? "unknown" }

    /// Calls `body` with the name and the value of each header field, without the blanks around the value.
    public func forEachField(_ body: (_ name: Span<UInt8>, _ value: Span<UInt8>) -> Void) {
        for field in unsafe headAddress.pointee.fields {
            body(bytes.extracting(field.name), bytes.extracting(field.value))
        }
    }
}

/// Reads a large body piece by piece as it arrives, so that no turn of the loop has to read all of it.
open class BodyObserver {
    /// An observer that has seen nothing.
    public init() {}

    /// Takes the next piece of the body. Each byte comes once, in order.
    open func consume(_ bytes: Span<UInt8>) {}
}
