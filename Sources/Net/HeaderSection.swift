// The header section of an incoming message (RFC 9112 sections 5 and 6), for requests and responses alike.

import Bytes

/// Finds the lines of a message's head, and notes what its fields say about the end of the message and the connection.
struct HeaderSection {
    /// A field line: the ranges of its name and its value, counted from the message's first byte.
    struct Field {
        let name: Range<Int>
        let value: Range<Int>
    }

    /// The kind of message.
    enum Kind: String {
        case request, response

        /// The reader of such a message, for error messages.
        fileprivate var reader: StaticString { self == .request ? "server" : "client" }
    }

    /// How the body is delimited (RFC 9112 section 6.3).
    enum Framing {
        /// No field specifies it.
        case unsaid
        /// Content-Length.
        case length(Int)
        case chunked
    }

    private let kind: Kind
    private let limit: Int
    private let fieldLimit: Int
    private var lineStart = 0
    private var scanned = 0
    private var contentLength: Int?
    private var transferCodings = TransferCodings()
    private var closeIsAsked = false
    private var keepAliveIsAsked = false

    /// `limit` is the longest head, in bytes; `fieldLimit` the largest number of fields.
    init(_ kind: Kind, limit: Int, fieldLimit: Int) {
        self.kind = kind
        self.limit = limit
        self.fieldLimit = fieldLimit
    }

    /// Whether no byte of the message has been scanned.
    var isNew: Bool { scanned == 0 }

    /// Where the next line begins; the head's length once the head is complete.
    var nextLineStart: Int { lineStart }

    /// Prepares for another message, which begins at `start`.
    mutating func reset(at start: Int = 0) {
        self = HeaderSection(kind, limit: limit, fieldLimit: fieldLimit)
        lineStart = start
        scanned = start
    }

    /// The next line without its CR LF; nil if it is incomplete. For a request line, `lineLimit` is the longest head up
    /// to its end, in bytes.
    mutating func nextLine(_ bytes: Span<UInt8>, lineLimit: Int = .max) throws(Refusal) -> Range<Int>? {
        guard let end = bytes.index(of: UInt8(ascii: "\n"), from: scanned) else {
            scanned = bytes.count
            try checkLength(scanned, lineLimit)
            return nil
        }
        try checkLength(end + 1, lineLimit)
        guard end > lineStart, bytes[end - 1] == UInt8(ascii: "\r") else {
            throw Refusal(.malformed, "a line ends with CR LF, not with LF alone")
        }
        let line = lineStart..<end - 1
        lineStart = end + 1
        scanned = lineStart
        return line
    }

    /// Changes nothing. It is mutating only because a call would otherwise copy the section.
    private mutating func checkLength(_ length: Int, _ lineLimit: Int) throws(Refusal) {
        if length > lineLimit {
            throw Refusal(.requestLineTooLong, "the request line is longer than \(lineLimit) bytes")
        }
        if length > limit { throw Refusal(.headerTooLarge, "the header is longer than \(limit) bytes") }
    }

    // MARK: Fields, RFC 9112 section 5

    /// Parses a field line and adds it to `fields`.
    mutating func parseField(
        _ bytes: Span<UInt8>, _ line: Range<Int>, into fields: inout [Field]
    ) throws(Refusal) {
        guard fields.count < fieldLimit else {
            throw Refusal(.headerTooLarge, "the \(kind.rawValue) has more than \(fieldLimit) header fields")
        }
        let field = try HeaderSection.field(bytes, line)
        fields.append(field)
        let name = bytes.extracting(field.name)
        let value = bytes.extracting(field.value)
        switch name.count {
        case 10 where name.equalsIgnoringCase("Connection"):
            value.forEachListElement { option in
                if option.equalsIgnoringCase("close") { closeIsAsked = true }
                if option.equalsIgnoringCase("keep-alive") { keepAliveIsAsked = true }
            }
        case 14 where name.equalsIgnoringCase("Content-Length"):
            try parseContentLength(value)
        case 17 where name.equalsIgnoringCase("Transfer-Encoding"):
            transferCodings.add(value)
        default: break
        }
    }

    /// One field line: a name, a colon, a value.
    static func field(_ bytes: Span<UInt8>, _ line: Range<Int>) throws(Refusal) -> Field {
        let colon = bytes.endOfToken(from: line.lowerBound, before: line.upperBound)
        if colon == line.lowerBound, bytes[colon].isBlank {
            throw Refusal(.malformed, "a header line begins with a space: folded lines are not allowed")
        }
        guard colon > line.lowerBound, colon < line.upperBound, bytes[colon] == UInt8(ascii: ":") else {
            throw Refusal(.malformed, "a header line is a name, a colon right after it, and a value")
        }
        let value = bytes.trimmingBlanks(colon + 1..<line.upperBound)
        guard bytes.extracting(value).isFieldValue else {
            throw Refusal(.malformed, "a header value holds a control character")
        }
        return Field(name: line.lowerBound..<colon, value: value)
    }

    private mutating func parseContentLength(_ value: Span<UInt8>) throws(Refusal) {
        // The same length may be repeated, in a list or in several fields (RFC 9110 section 8.6).
        var index = 0
        repeat {
            let end = value.index(of: UInt8(ascii: ","), from: index) ?? value.count
            let digits = value.trimmingBlanks(index..<end)
            guard !digits.isEmpty else { throw Refusal(.malformed, "Content-Length must be a number") }
            var length = 0
            for place in digits {
                guard value[place].isDigit else { throw Refusal(.malformed, "Content-Length must be a number") }
                // A length that overflows becomes `Int.max`, which is over every limit.
                let (product, overflow) = length.multipliedReportingOverflow(by: 10)
                let (sum, overflow2) = product.addingReportingOverflow(Int(value[place] - 0x30))
                length = overflow || overflow2 ? Int.max : sum
            }
            guard contentLength == nil || contentLength == length else {
                throw Refusal(.malformed, "the \(kind.rawValue) has two different Content-Lengths")
            }
            contentLength = length
            index = end + 1
        } while index <= value.count
    }

    // MARK: The end of the head, RFC 9112 sections 6 and 9.3

    /// Whether the connection can be used for another message after this one.
    func isPersistent(minorVersion: Int) -> Bool {
        !closeIsAsked && (minorVersion == 1 || keepAliveIsAsked)
    }

    /// How the content is delimited.
    func framing(minorVersion: Int) throws(Refusal) -> Framing {
        guard transferCodings.isPresent else { return contentLength.map { .length($0) } ?? .unsaid }
        if minorVersion == 0 { throw Refusal(.malformed, "HTTP/1.0 has no Transfer-Encoding") }
        if contentLength != nil {
            throw Refusal(.malformed, "the \(kind.rawValue) has both Content-Length and Transfer-Encoding")
        }
        try transferCodings.check(reader: kind.reader)
        return .chunked
    }
}

/// The transfer codings of a message, in order, from all its fields.
private struct TransferCodings {
    private(set) var isPresent = false
    private var chunkedCount = 0
    private var otherCount = 0
    private var lastIsChunked = false

    mutating func add(_ value: Span<UInt8>) {
        isPresent = true
        var (chunked, other, last) = (chunkedCount, otherCount, lastIsChunked)
        value.forEachListElement { coding in
            last = coding.equalsIgnoringCase("chunked")
            if last { chunked += 1 } else { other += 1 }
        }
        (chunkedCount, otherCount, lastIsChunked) = (chunked, other, last)
    }

    /// RFC 9112 section 6.3: unless chunked is last, the end of the body is not reliable.
    func check(reader: StaticString) throws(Refusal) {
        guard lastIsChunked, chunkedCount == 1 else {
            throw Refusal(.malformed, "the last transfer coding is not chunked, or chunked is not only the last")
        }
        guard otherCount == 0 else {
            throw Refusal(.transferCoding, "the only transfer coding this \(reader) knows is chunked")
        }
    }
}
