// Parses requests strictly as RFC 9112 says. It parses each line once it is complete, scans each byte once however the
// bytes arrive, and refuses an error as early as possible.

import Bytes

/// The limits of a request. A larger one is refused with 414, 431 or 413.
public struct RequestLimits: Sendable {
    /// The longest request line, in bytes.
    public var requestLine = 8 * 1024
    /// The longest head (request line and fields), in bytes.
    public var head = 32 * 1024
    /// The largest number of fields.
    public var fields = 100
    /// The largest body, in bytes, without its transfer coding.
    public var body = 64 * 1024 * 1024

    /// The limits that api.md promises.
    public init() {}
}

/// The state of one incoming request. Call `parse` whenever bytes were added.
struct RequestParser {
    private enum State { case requestLine, fields, body, complete }

    private let limits: RequestLimits
    private var state = State.requestLine
    private var section: HeaderSection
    private var emptyLines = 0
    var head = RequestHead()

    private var hosts = 0
    private var hasAbsoluteTarget = false
    private var contentLength: Int?
    private var chunks: ChunkedBody?
    private var expectsContinue = false

    /// - Parameters:
    ///   - limits: the limits of each request.
    ///   - isSecure: whether requests come over TLS.
    init(limits: RequestLimits, isSecure: Bool = false) {
        self.limits = limits
        head.isSecure = isSecure
        section = HeaderSection(.request, limit: limits.head, fieldLimit: limits.fields)
    }

    /// Prepares for the next request.
    mutating func reset() {
        state = .requestLine
        section.reset()
        emptyLines = 0
        head.reset()
        hosts = 0
        hasAbsoluteTarget = false
        contentLength = nil
        chunks = nil
        expectsContinue = false
    }

    /// Forgets a remembered head of the request before, if nothing of the next one has been parsed: an answer that
    /// refuses the next one must not depend on it.
    mutating func forgetAnsweredHead() {
        if state == .requestLine, section.isNew { head.forget() }
    }

    /// Whether the client waits for an interim answer before it sends the body; true only once.
    mutating func takeExpectation() -> Bool {
        defer { expectsContinue = false }
        return expectsContinue
    }

    /// Whether the head is complete and the body is not.
    var isReadingBody: Bool { state == .body }

    /// How many bytes the complete request takes in the buffer.
    private(set) var length = 0

    /// The body that has arrived, without its transfer coding.
    var receivedBody: Range<Int> { head.body }

    /// How many more bytes the body needs; 0 if unknown.
    func missingBytes(_ buffer: borrowing Buffer) -> Int {
        guard state == .body, chunks == nil, let contentLength else { return 0 }
        return max(0, head.body.lowerBound + contentLength - buffer.count)
    }

    /// Parses what the buffer holds.
    ///
    /// - Parameters:
    ///   - buffer: What has arrived and was not consumed.
    ///   - heads: The heads that were parsed before.
    /// - Returns: Whether the request is complete; then it takes `length` bytes of the buffer.
    /// - Throws: Why the request is invalid or over the limits.
    mutating func parse(_ buffer: inout Buffer, _ heads: inout HeadCache) throws(Refusal) -> Bool {
        if state == .requestLine || state == .fields {
            let isNew = section.isNew
            if !isNew || !recallHead(buffer.span, heads: &heads) {
                if head.key != 0 { head.forget() }
                guard try parseHead(buffer.span) else { return false }
                let isUsual = isNew && emptyLines == 0 && chunks == nil && !expectsContinue && head.minorVersion == 1
                if isUsual { heads.note(buffer.span.extracting(0..<length), &head) }
            }
        }
        if state == .body { try parseBody(&buffer) }
        return state == .complete
    }

    /// Takes the head from those that were parsed before; false if it is not one of them.
    private mutating func recallHead(_ bytes: Span<UInt8>, heads: inout HeadCache) -> Bool {
        guard let known = heads.recall(bytes, into: &head), known.contentLength <= limits.body else { return false }
        length = known.length
        head.body = length..<length
        contentLength = known.contentLength
        state = known.contentLength == 0 ? .complete : .body
        return true
    }

    /// Parses lines until the head is complete; false if it is not yet.
    private mutating func parseHead(_ bytes: Span<UInt8>) throws(Refusal) -> Bool {
        while let line = try nextLine(bytes) {
            if state == .fields {
                if line.isEmpty {
                    try finishHead()
                    return true
                }
                try parseField(bytes, line)
            } else if line.isEmpty {
                // RFC 9112 section 2.2: empty lines before a request are ignored.
                emptyLines += 1
                guard emptyLines <= 8 else { throw Refusal(.malformed, "more than 8 empty lines before the request") }
            } else {
                try parseRequestLine(bytes, line)
                state = .fields
            }
        }
        return false
    }

    /// The next line without its CR LF; nil if it is incomplete.
    private mutating func nextLine(_ bytes: Span<UInt8>) throws(Refusal) -> Range<Int>? {
        if state == .fields { return try section.nextLine(bytes) }
        // Checked first, so that the answer does not depend on how much of the line has arrived.
        let start = section.nextLineStart
        if start < bytes.count, !bytes[start].isTokenCharacter, bytes[start] != UInt8(ascii: "\r") {
            throw Refusal(.malformed, "this is not an HTTP request: it must begin with a method")
        }
        return try section.nextLine(bytes, lineLimit: limits.requestLine)
    }

    // MARK: The request line, RFC 9112 section 3

    private mutating func parseRequestLine(_ bytes: Span<UInt8>, _ line: Range<Int>) throws(Refusal) {
        let shape: StaticString = "a request line is a method, one space, a target, one space and HTTP/1.1"
        let index = bytes.endOfToken(from: line.lowerBound, before: line.upperBound)
        guard index > line.lowerBound, index < line.upperBound, bytes[index] == UInt8(ascii: " ") else {
            throw Refusal(.malformed, "\(shape)")
        }
        head.methodName = line.lowerBound..<index
        head.method = Method(bytes.extracting(head.methodName))
        let targetStart = index + 1
        guard let targetEnd = bytes.index(of: UInt8(ascii: " "), from: targetStart), targetEnd > targetStart,
            targetEnd < line.upperBound
        else { throw Refusal(.malformed, "\(shape)") }
        try parseVersion(bytes.extracting(targetEnd + 1..<line.upperBound))
        try parseTarget(bytes, targetStart..<targetEnd)
    }

    private mutating func parseVersion(_ version: Span<UInt8>) throws(Refusal) {
        guard version.isHTTPVersion else {
            throw Refusal(.malformed, "the request line does not end in a version such as HTTP/1.1")
        }
        guard version[5] == UInt8(ascii: "1") else {
            throw Refusal(.version, "this server speaks HTTP/1.1 and HTTP/1.0")
        }
        // A higher minor version is handled as the highest known one (RFC 9110 section 2.5).
        head.minorVersion = version[7] == UInt8(ascii: "0") ? 0 : 1
    }

    private mutating func parseTarget(_ bytes: Span<UInt8>, _ target: Range<Int>) throws(Refusal) {
        if head.method == .connect {
            let authority = bytes.extracting(target)
            guard authority.isAuthority, authority.index(of: UInt8(ascii: ":")) != nil else {
                throw Refusal(.malformed, "the target of CONNECT is a host and a port")
            }
            hasAbsoluteTarget = true
            head.authority = target
            return
        }
        if bytes[target.lowerBound] == UInt8(ascii: "/") { return try parsePath(bytes, target) }
        if target.count == 1, bytes[target.lowerBound] == UInt8(ascii: "*") {
            guard head.method == .options else { throw Refusal(.malformed, "the target * is for OPTIONS only") }
            head.path = target
            return
        }
        // absolute-form, RFC 9112 section 3.2.2.
        let rest = bytes.extracting(target)
        var prefix = 0
        if rest.count >= 7, rest.extracting(first: 7).equalsIgnoringCase("http://") { prefix = 7 }
        if rest.count >= 8, rest.extracting(first: 8).equalsIgnoringCase("https://") { prefix = 8 }
        guard prefix > 0 else { throw Refusal(.malformed, "a target begins with / or with http://") }
        let start = target.lowerBound + prefix
        var end = start
        while end < target.upperBound, bytes[end] != UInt8(ascii: "/"), bytes[end] != UInt8(ascii: "?") { end += 1 }
        guard end > start, bytes[start] != UInt8(ascii: ":"), bytes.extracting(start..<end).isAuthority else {
            throw Refusal(.malformed, "the host in the request's target is malformed")
        }
        hasAbsoluteTarget = true
        head.authority = start..<end
        try parsePath(bytes, end..<target.upperBound)
    }

    private mutating func parsePath(_ bytes: Span<UInt8>, _ target: Range<Int>) throws(Refusal) {
        if let flaw = bytes.indexOfTargetFlaw(target) {
            if bytes[flaw] == UInt8(ascii: "%") {
                throw Refusal(.malformed, "a % in the target is followed by two hexadecimal digits")
            }
            throw Refusal(
                .malformed, "byte \(bytes[flaw].hexadecimalText) in the target must be percent-encoded")
        }
        head.path = target
        let query = bytes.extracting(target).index(of: UInt8(ascii: "?")).map { target.lowerBound + $0 }
        guard let query else { return }
        head.path = target.lowerBound..<query
        head.query = query + 1..<target.upperBound
    }

    // MARK: Fields, RFC 9112 section 5

    private mutating func parseField(_ bytes: Span<UInt8>, _ line: Range<Int>) throws(Refusal) {
        try section.parseField(bytes, line, into: &head.fields)
        guard let field = head.fields.last else { return }
        let name = bytes.extracting(field.name)
        let value = bytes.extracting(field.value)
        // Switch on the first letter, because most fields are none of these. No name is empty.
        switch unsafe name[unchecked: 0] | 0x20 {
        case UInt8(ascii: "h") where name.equalsIgnoringCase("Host"):
            hosts += 1
            guard hosts == 1 else { throw Refusal(.malformed, "the request has more than one Host field") }
            guard value.isAuthority else {
                throw Refusal(.malformed, "the Host field must be a host, with a port if needed")
            }
            if !hasAbsoluteTarget { head.authority = field.value }
        case UInt8(ascii: "e") where name.equalsIgnoringCase("Expect"):
            // HTTP/1.0 has no expectations (RFC 9110 section 10.1.1).
            if head.minorVersion == 0 { break }
            guard value.equalsIgnoringCase("100-continue") else {
                throw Refusal(.expectation, "the only expectation this server meets is 100-continue")
            }
            expectsContinue = true
        case UInt8(ascii: "o") where name.equalsIgnoringCase("Origin"): head.isFromBrowser = true
        case UInt8(ascii: "u") where value.starts(with: "Mozilla/"):
            if name.equalsIgnoringCase("User-Agent") { head.isFromBrowser = true }
        case UInt8(ascii: "s") where name.count > 10:
            if name.extracting(first: 10).equalsIgnoringCase("Sec-Fetch-") { head.isFromBrowser = true }
        case UInt8(ascii: "x") where name.equalsIgnoringCase("X-Request-Id"):
            head.requestIDPlace = head.requestIDPlace == 0 && value.isRequestID ? Int32(head.fields.count) : -1
        case UInt8(ascii: "a") where name.equalsIgnoringCase("Authorization"):
            head.authorizationPlace = head.authorizationPlace == 0 ? Int32(head.fields.count) : -1
        case UInt8(ascii: "t") where name.equalsIgnoringCase("traceparent"):
            head.traceparentPlace = head.traceparentPlace == 0 && value.isTraceparent ? Int32(head.fields.count) : -1
        default: break
        }
    }

    // MARK: The end of the head, RFC 9112 section 6

    private mutating func finishHead() throws(Refusal) {
        if head.minorVersion == 1, hosts == 0 { throw Refusal(.malformed, "the request has no Host field") }
        head.isPersistent = section.isPersistent(minorVersion: head.minorVersion)
        length = section.nextLineStart
        head.body = length..<length
        state = .body
        switch try section.framing(minorVersion: head.minorVersion) {
        case .chunked: chunks = ChunkedBody(.request, limit: limits.body)
        case .length(let length) where length > 0:
            if length > limits.body { throw Refusal(.bodyTooLarge, "the body is longer than \(limits.body) bytes") }
            contentLength = length
        case .length, .unsaid: state = .complete
        }
    }

    private mutating func parseBody(_ buffer: inout Buffer) throws(Refusal) {
        let start = head.body.lowerBound
        if chunks != nil {
            let end = try chunks?.decode(&buffer, bodyStart: start, fieldLimit: limits.fields)
            head.body = start..<start + (chunks?.decoded ?? 0)
            guard let end else { return }
            length = end
        } else if let contentLength {
            head.body = start..<min(start + contentLength, buffer.count)
            guard head.body.count == contentLength else { return }
            length = head.body.upperBound
        }
        state = .complete
    }
}
