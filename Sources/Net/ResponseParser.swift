// Parses responses strictly as RFC 9112 says, as `RequestParser` does requests. It skips interim responses.

import Bytes

/// The limits of a response.
struct ResponseLimits {
    /// The largest limit of a body, in bytes. A count may exceed a limit by one, and must not overflow.
    static let maximumBody = 1 << 48

    /// The longest head, including interim responses before it, in bytes.
    var head = 64 * 1024
    /// The largest number of fields.
    var fields = 200
    /// How much of the body is kept, in bytes, without its transfer coding.
    var body = 1 << 20
    /// Whether the body of a 2xx response is streamed: its limit does not apply.
    var streamsBody = false
}

/// The parsed head of a response. Offsets count from the first byte received.
struct ResponseHead {
    fileprivate(set) var status = 0
    fileprivate(set) var reason = 0..<0
    /// 1 for HTTP/1.1 and any later 1.x, 0 for HTTP/1.0.
    fileprivate(set) var minorVersion = 1
    fileprivate(set) var fields: [HeaderSection.Field] = []
    fileprivate(set) var body = 0..<0
    /// The body was longer than the limit; its end is not known.
    fileprivate(set) var isTruncated = false
    /// Whether the connection can be used for another request when the response is complete.
    fileprivate(set) var isPersistent = true

    /// A copy of the value of the first field with that name; nil if there is none.
    func firstValue(of name: StaticString, in bytes: Span<UInt8>) -> [UInt8]? {
        let field = fields.first { bytes.extracting($0.name).equalsIgnoringCase(name) }
        return field.map { Array(copying: bytes.extracting($0.value)) }
    }
}

/// The state of one incoming response. Call `parse` whenever bytes were added.
struct ResponseParser {
    private enum State { case statusLine, fields, body, complete }

    private var limits: ResponseLimits
    /// The request was HEAD: the response has no body, whatever its fields say (RFC 9110 section 9.3.2).
    private let answersHead: Bool
    private var state = State.statusLine
    private var section: HeaderSection
    /// The expected length of the body; `Int.max` if it ends with the connection.
    private var contentLength = Int.max
    private var chunks: ChunkedBody?
    private(set) var head = ResponseHead()
    /// Whether the caller takes the body in parts (`dropBody`).
    private(set) var isStreamed = false
    /// How many bytes the complete response takes in the buffer.
    private(set) var length = 0

    /// A parser that reuses the memory of `fields`.
    init(limits: ResponseLimits, answersHead: Bool, fields: consuming [HeaderSection.Field] = []) {
        self.limits = limits
        self.answersHead = answersHead
        section = HeaderSection(.response, limit: limits.head, fieldLimit: limits.fields)
        fields.removeAll(keepingCapacity: true)
        head.fields = fields
    }

    /// Whether a part of a streamed body is in the buffer.
    var hasPart: Bool { isStreamed && !head.body.isEmpty }

    /// How many more bytes the body needs; 0 if unknown, or if it is streamed.
    func missingBytes(_ buffer: borrowing Buffer) -> Int {
        guard state == .body, !isStreamed, chunks == nil, contentLength < .max else { return 0 }
        return max(0, head.body.lowerBound + min(contentLength, limits.body + 1) - buffer.count)
    }

    /// Parses what the buffer holds.
    ///
    /// - Returns: Whether the response is complete, up to the limit of its body.
    /// - Throws: Why the response is invalid or over the limits. The refusal's status has no meaning here.
    mutating func parse(_ buffer: inout Buffer) throws(Refusal) -> Bool {
        if state == .statusLine || state == .fields {
            guard try parseHead(buffer.span) else { return false }
        }
        if state == .body { try parseBody(&buffer) }
        return state == .complete
    }

    /// Notes the end of the connection's input.
    ///
    /// - Returns: Whether this completes the response.
    mutating func parseEnd() -> Bool {
        if state == .body, chunks == nil, contentLength == .max {
            length = head.body.upperBound
            state = .complete
        }
        return state == .complete
    }

    /// Ends the response here if more than `byteCount` bytes of its body have arrived. The rest is not kept, and the
    /// connection cannot be reused.
    ///
    /// - Returns: Whether it ended the response.
    mutating func cut(beyond byteCount: Int) -> Bool {
        guard state == .body, !isStreamed, head.body.count > byteCount else { return false }
        head.isTruncated = true
        head.isPersistent = false
        length = head.body.upperBound
        state = .complete
        return true
    }

    /// Notes that the complete response's body has been replaced in the buffer.
    mutating func replaceBody(count: Int, isTruncated: Bool) {
        precondition(state == .complete)
        head.body = head.body.lowerBound..<head.body.lowerBound + count
        head.isTruncated = isTruncated
    }

    /// Removes what has arrived of a streamed body from the buffer. O(bytes behind it), which are few.
    mutating func dropBody(_ buffer: inout Buffer) {
        precondition(isStreamed)
        let count = head.body.count
        buffer.remove(head.body)
        head.body = head.body.lowerBound..<head.body.lowerBound
        chunks?.drop()
        if contentLength < .max { contentLength -= count }
        if state == .complete { length -= count }
    }

    /// Parses lines until the head is complete; false if it is not yet.
    private mutating func parseHead(_ bytes: Span<UInt8>) throws(Refusal) -> Bool {
        while true {
            if state == .statusLine {
                let start = section.nextLineStart
                // Checked first, so that the error does not depend on how much of the line has arrived.
                if start < bytes.count, bytes[start] != UInt8(ascii: "H") {
                    throw Refusal(.malformed, "this is not an HTTP response: it must begin with HTTP/")
                }
            }
            guard let line = try section.nextLine(bytes) else { return false }
            if state == .statusLine {
                try parseStatusLine(bytes.extracting(line))
                head.reason = min(line.lowerBound + 13, line.upperBound)..<line.upperBound
                state = .fields
            } else if !line.isEmpty {
                try section.parseField(bytes, line, into: &head.fields)
            } else if head.status >= 200 {
                try finishHead()
                return true
            } else {
                if head.status == 101 {
                    throw Refusal(.malformed, "the server switched protocols, without being asked to")
                }
                head.fields.removeAll(keepingCapacity: true)
                section.reset(at: section.nextLineStart)
                state = .statusLine
            }
        }
    }

    /// RFC 9112 section 4. The space before an empty reason phrase may be missing: many servers leave it out.
    private mutating func parseStatusLine(_ line: Span<UInt8>) throws(Refusal) {
        guard line.count >= 12, line.extracting(first: 8).isHTTPVersion, line[8] == UInt8(ascii: " "),
            line[9].isDigit, line[10].isDigit, line[11].isDigit, line.count == 12 || line[12] == UInt8(ascii: " "),
            line.extracting(12..<line.count).isFieldValue
        else { throw Refusal(.malformed, "a status line is a version such as HTTP/1.1, a space and three digits") }
        guard line[5] == UInt8(ascii: "1") else {
            throw Refusal(.malformed, "its version is neither HTTP/1.1 nor HTTP/1.0")
        }
        head.minorVersion = line[7] == UInt8(ascii: "0") ? 0 : 1
        head.status = Int(line[9] - 0x30) * 100 + Int(line[10] - 0x30) * 10 + Int(line[11] - 0x30)
        guard head.status >= 100 else { throw Refusal(.malformed, "a status must be at least 100") }
    }

    /// RFC 9112 section 6.3.
    private mutating func finishHead() throws(Refusal) {
        head.isPersistent = section.isPersistent(minorVersion: head.minorVersion)
        length = section.nextLineStart
        head.body = length..<length
        state = .body
        if answersHead || head.status == 204 || head.status == 304 {
            state = .complete
            return
        }
        isStreamed = limits.streamsBody && (200..<300).contains(head.status)
        if isStreamed { limits.body = ResponseLimits.maximumBody }
        switch try section.framing(minorVersion: head.minorVersion) {
        case .chunked: chunks = ChunkedBody(.response, limit: limits.body)
        // `Int.max` stands for no length, so no body may be that long.
        case .length(let length): contentLength = min(length, .max - 1)
        case .unsaid: head.isPersistent = false
        }
    }

    private mutating func parseBody(_ buffer: inout Buffer) throws(Refusal) {
        let start = head.body.lowerBound
        var end: Int?
        if chunks != nil {
            end = try chunks?.decode(&buffer, bodyStart: start, fieldLimit: limits.fields)
            head.body = start..<start + (chunks?.decoded ?? 0)
        } else {
            head.body = start..<start + min(buffer.count - start, contentLength)
            if head.body.count == contentLength { end = head.body.upperBound }
        }
        if head.body.count > limits.body {
            head.body = start..<start + limits.body
            head.isTruncated = true
            head.isPersistent = false
            end = head.body.upperBound
        }
        guard let end else { return }
        length = end
        state = .complete
    }
}
