// The answers of one connection in the order of its requests: heads, bodies, and whether they arrive.

import Bytes

/// The output of one connection.
///
/// To write an answer, call `begin`, any number of `field`s, `beginBody`, `append`, and `end`, which fills in
/// Content-Length.
public struct ResponseStream: ~Copyable {
    @usableFromInline private(set) var buffer = Buffer()
    private let dates: DateField
    private var lengthPlace = 0
    private var bodyStart = 0
    private var isOpen = false

    /// The form of the answer to the current request; set before a route is called.
    var answersHead = false
    var minorVersion = 1
    var closesConnection = false

    /// Header lines with which the answer to the current request returns fields of it. Empty once it is written.
    var returnedFields: [UInt8] = []

    /// The label of the current request, by which its answer is counted (`RequestStatistics`).
    public var label: UInt8 = 0
    /// The status of the last answer.
    private(set) var status = 0

    /// How many of all bytes ever written here have been sent.
    private(set) var sent: UInt64 = 0

    /// Where the last answer starts, counted from the first byte ever written here.
    private var answerStart: UInt64 = 0
    /// Where the last answer starts if its body goes on until the connection closes; nil for all others.
    private var streamStart: UInt64?

    /// Each entry holds the output from `start` on until `mark` is released. Both grow from one entry to the next.
    private var holds: [(start: UInt64, mark: UInt64)] = []
    private var releasedMark: UInt64 = 0

    /// The tracked answers: where each ends in the stream, and the route's key for it.
    private(set) var deliveries: [(end: UInt64, key: UInt64)] = []
    private var openDeliveries = 0

    /// The records of the answers that are not sent yet: where each answer ends in the stream, its size and its status.
    private var records: [(end: UInt64, byteCount: Int, status: Int, record: RequestRecord)] = []

    init(dates: DateField) { self.dates = dates }

    // MARK: Writing an answer

    /// Begins an answer.
    ///
    /// - Parameters:
    ///   - status: A status code of RFC 9110 or RFC 6585.
    ///   - contentType: The type of the body; nil for an answer without one.
    public mutating func begin(status: Int, contentType: StaticString?) {
        precondition(!isOpen, "the answer before is not ended")
        isOpen = true
        self.status = status
        answerStart = sent + UInt64(buffer.count)
        buffer.append("HTTP/1.1 ")
        buffer.append(decimal: status)
        buffer.append(" ")
        buffer.append(reason(of: status))
        let date = dates.field
        buffer.append(date.span)
        if let contentType { field("Content-Type", contentType) }
        if !returnedFields.isEmpty {
            let lines = returnedFields
            buffer.append(lines.span)
        }
        if closesConnection {
            field("Connection", "close")
        } else if minorVersion == 0 {
            field("Connection", "keep-alive")
        }
    }

    /// Begins an answer with status 200 and a JSON body: `begin` and `beginBody` in one, for the most common answers.
    public mutating func beginJSON(estimatedCount: Int) {
        let digits = estimatedCount < 10 ? 1 : estimatedCount < 100 ? 2 : 3
        if closesConnection || minorVersion == 0 || estimatedCount >= 1000 {
            begin(status: 200, contentType: "application/json")
            return beginBody(estimatedCount: estimatedCount)
        }
        precondition(!isOpen, "the answer before is not ended")
        isOpen = true
        status = 200
        answerStart = sent + UInt64(buffer.count)
        dates.appendJSONHead(digits: digits, with: returnedFields, to: &buffer)
        bodyStart = buffer.count
        lengthPlace = bodyStart - 4 - digits
    }

    /// Begins an answer with status 200 whose body goes on until the connection closes. Add fields, call `endHead`, and
    /// promise the answer for later (`Outcome.owed`). `HTTPServer.extend` adds to its body, and `HTTPServer.answer`
    /// adds the end.
    public mutating func beginStream(contentType: StaticString) {
        closesConnection = true
        begin(status: 200, contentType: contentType)
        streamStart = answerStart
    }

    /// Ends the head of an answer whose body goes on until the connection closes.
    public mutating func endHead() {
        precondition(isStreaming)
        endWithoutBody()
    }

    /// Whether the last answer is one whose body goes on until the connection closes.
    var isStreaming: Bool { streamStart != nil }

    /// How much was sent of such an answer, in bytes; nil for all others.
    var streamedByteCount: Int? { streamStart.map { Int(sent - min(sent, $0)) } }

    /// How many bytes wait to be sent that do not belong to such an answer.
    var unsentAnswerByteCount: Int { streamStart.map { Int($0 - min(sent, $0)) } ?? buffer.count }

    /// Begins a part of such an answer, which can be held like an answer.
    mutating func beginPart() { answerStart = sent + UInt64(buffer.count) }

    /// Adds a header field with a fixed value.
    public mutating func field(_ name: StaticString, _ value: StaticString) {
        buffer.append(name)
        buffer.append(": ")
        buffer.append(value)
        buffer.append("\r\n")
    }

    /// Adds a header field whose value is a number.
    public mutating func field(_ name: StaticString, _ value: Int) {
        buffer.append(name)
        buffer.append(": ")
        buffer.append(decimal: value)
        buffer.append("\r\n")
    }

    /// Adds a header field. `value` holds no control characters.
    public mutating func field(_ name: StaticString, _ value: Span<UInt8>) {
        precondition(value.isFieldValue)
        buffer.append(name)
        buffer.append(": ")
        buffer.append(value)
        buffer.append("\r\n")
    }

    /// Ends the head; all bytes appended from now on are the body.
    ///
    /// - Parameter estimatedCount: About how many bytes the body will have. If the number of digits is right, `end`
    ///   need not move the body.
    public mutating func beginBody(estimatedCount: Int = 10) {
        precondition(isOpen)
        buffer.append("Content-Length: ")
        reserveLength(estimatedCount)
    }

    /// Ends the head with a length of as many digits as the estimate has. `end` writes the right ones.
    private mutating func reserveLength(_ estimatedCount: Int) {
        let digits = decimalDigits(of: estimatedCount)
        lengthPlace = buffer.count
        bodyStart = lengthPlace + digits + 4
        switch digits {
        case 1: buffer.append("0\r\n\r\n")
        case 2: buffer.append("00\r\n\r\n")
        case 3: buffer.append("000\r\n\r\n")
        default:
            buffer.append(decimal: estimatedCount)
            buffer.append("\r\n\r\n")
        }
    }

    /// Adds a byte to the body.
    @inlinable
    public mutating func append(_ byte: UInt8) { buffer.append(byte) }

    /// Adds bytes to the body. O(count).
    @inlinable
    public mutating func append(_ bytes: Span<UInt8>) { buffer.append(bytes) }

    /// Adds a large part of the body that was written elsewhere. O(1) if it has room in front for the answers that wait
    /// here, as `partWithRoom` leaves it and one head needs it; otherwise O(count).
    public mutating func append(_ part: consuming Buffer) {
        var part = part
        if part.count > Self.roomByteCount, buffer.count <= Self.roomByteCount, part.prepend(buffer.span) {
            swap(&buffer, &part)
        } else {
            buffer.append(part.span)
        }
    }

    private static let roomByteCount = 1024

    /// A part of a body that begins with a byte, to be filled further and appended later.
    public static func partWithRoom(_ first: UInt8) -> Buffer {
        var part = Buffer()
        // So large a block that filling it does not move its bytes down.
        part.reserve(8 * roomByteCount)
        _ = unsafe part.append(atMost: roomByteCount) { room in
            unsafe room.initializeMemory(as: UInt8.self, repeating: 0)
            return room.count
        }
        part.append(first)
        part.consume(roomByteCount)
        return part
    }

    /// Adds a literal to the body. O(count).
    @inlinable @inline(__always)
    public mutating func append(_ text: StaticString) { buffer.append(text) }

    /// Tracks the current answer: if it does not reach its peer, `RequestHandler.undelivered` reports this key.
    public mutating func track(_ key: UInt64) {
        deliveries.append((end: .max, key: key))
        openDeliveries += 1
    }

    /// Holds the last answer and all that follow it on this connection until `HTTPServer.release(upTo:)` is called with
    /// `mark` or a higher one. A released mark, such as 0, holds nothing. Of several marks the highest counts.
    ///
    /// Call this at any time from `begin` until the code that writes the answer returns, before or after `end`. O(1).
    public mutating func hold(until mark: UInt64) {
        if mark <= releasedMark || isExhausted { return }
        precondition(answerStart >= sent && answerStart < sent + UInt64(buffer.count), "there is no answer to hold")
        if let last = holds.last {
            if mark <= last.mark { return }
            if answerStart == last.start { holds.removeLast() }
        }
        holds.append((start: answerStart, mark: mark))
    }

    /// Ends the answer: writes its length into the head, and removes the body if the request was HEAD.
    public mutating func end() {
        precondition(isOpen && bodyStart > lengthPlace)
        isOpen = false
        if isExhausted { return sealDeliveries() }
        let count = buffer.count - bodyStart
        let reserved = bodyStart - 4 - lengthPlace
        let needed = decimalDigits(of: count)
        if answersHead { buffer.truncate(to: bodyStart) }
        if needed > reserved {
            buffer.open(needed - reserved, at: lengthPlace)
            if isExhausted { return sealDeliveries() }
        } else if needed < reserved {
            buffer.remove(lengthPlace..<lengthPlace + reserved - needed)
        }
        buffer.set(lengthPlace..<lengthPlace + needed, toDigitsOf: count)
        sealDeliveries()
    }

    /// Ends the answer with a line feed, for terminals and tools that read lines.
    public mutating func endLine() {
        buffer.append(UInt8(ascii: "\n"))
        end()
    }

    /// Ends an answer without a body and a length: 204, or one to CONNECT.
    public mutating func endWithoutBody() {
        precondition(isOpen)
        isOpen = false
        buffer.append("\r\n")
        sealDeliveries()
    }

    /// Discards the unfinished answer, so that another can replace it.
    public mutating func abandon() {
        if !isOpen { return }
        isOpen = false
        buffer.truncate(to: Int(answerStart - sent))
        if holds.last?.start == answerStart { holds.removeLast() }
        streamStart = nil
        deliveries.removeLast(openDeliveries)
        openDeliveries = 0
    }

    private mutating func sealDeliveries() {
        lengthPlace = 0
        bodyStart = 0
        if !returnedFields.isEmpty { returnedFields.removeAll(keepingCapacity: true) }
        if openDeliveries == 0 { return }
        let end = sent + UInt64(buffer.count)
        for index in deliveries.count - openDeliveries..<deliveries.count { deliveries[index].end = end }
        openDeliveries = 0
    }

    // MARK: Sending

    /// Whether bytes are missing because the system had no memory; then nothing more may be sent.
    var isExhausted: Bool { buffer.isExhausted }

    /// How many bytes wait to be sent, held or not.
    var count: Int { buffer.count }

    /// How many bytes are in front of the first held answer.
    var sendableCount: Int { holds.isEmpty ? buffer.count : Int(holds[0].start - sent) }

    /// The mark whose release lets more bytes be sent; 0 when nothing is held.
    var heldMark: UInt64 { holds.isEmpty ? 0 : holds[0].mark }

    /// Releases the answers held until `mark` or a lower one. O(marks held).
    mutating func release(upTo mark: UInt64) {
        releasedMark = mark
        if heldMark == 0 || heldMark > mark { return }
        holds.removeAll { $0.mark <= mark }
    }

    /// How much memory the unsent bytes take, in bytes.
    var keptBytes: Int { buffer.keptBytes }

    /// How many bytes the last answer has so far. O(1).
    public var answerByteCount: Int { Int(sent + UInt64(buffer.count) - answerStart) }

    /// Calls `body` with the status and the body of the only answer here, and with the mark until which it is held.
    /// O(length of its head).
    func withOnlyAnswer(_ body: (_ status: Int, _ body: Span<UInt8>, _ mark: UInt64) -> Void) {
        let bytes = buffer.span
        var start = 0
        while start + 4 < bytes.count, !bytes.extracting(start..<start + 4).equals("\r\n\r\n") { start += 1 }
        body(status, bytes.extracting(min(start + 4, bytes.count)..<bytes.count), holds.last?.mark ?? 0)
    }

    /// Whether the answer to the current request has been ended.
    var isComplete: Bool { !isOpen }

    /// Writes the interim answer that lets a client send its body.
    mutating func writeContinue() { buffer.append("HTTP/1.1 100 Continue\r\n\r\n") }

    /// Sends what is not held, as far as the transport takes it.
    ///
    /// - Returns: false if the connection is broken.
    mutating func flush(to transport: ConnectionTransport) -> Bool {
        defer { if !records.isEmpty { endSentRecords() } }
        while case let count = sendableCount, count > 0 {
            let result = transport.send(buffer.span.extracting(first: count))
            switch result {
            case .bytes(let written):
                sent += UInt64(written)
                buffer.consume(written)
            case .full: return true
            case .failed: return false
            }
        }
        return true
    }

    /// Borrows a block to write answers to, if it has none.
    mutating func borrowBlock(from blocks: inout SpareBlocks) { blocks.lend(to: &buffer) }

    /// Gives its block back if everything was sent, so that an idle connection owns no memory for its answers.
    mutating func returnBlock(to blocks: inout SpareBlocks) {
        if buffer.isEmpty, buffer.capacity > 0 { blocks.takeBack(from: &buffer) }
    }

    /// Drops the unsent bytes and their memory.
    mutating func discard() {
        buffer = Buffer()
        for entry in records { entry.record.end(status: entry.status, byteCount: entry.byteCount, isSent: false) }
        records = []
    }

    // MARK: Records

    /// Ends a record when the last answer is sent.
    mutating func end(_ record: RequestRecord) {
        let end = sent + UInt64(buffer.count)
        // A stream may end without another byte.
        if end == sent {
            return record.end(status: status, byteCount: Int(end - (streamStart ?? answerStart)), isSent: true)
        }
        records.append((end, Int(end - (streamStart ?? answerStart)), status, record))
    }

    private mutating func endSentRecords() {
        let count = records.prefix { $0.end <= sent }.count
        for entry in records[..<count] {
            entry.record.end(status: entry.status, byteCount: entry.byteCount, isSent: true)
        }
        records.removeFirst(count)
    }

    /// Forgets the deliveries that have arrived.
    ///
    /// - Parameter unacknowledged: How many of the last bytes sent may not have arrived.
    mutating func forgetDelivered(unacknowledged: Int) {
        let acknowledged = sent - min(sent, UInt64(max(0, unacknowledged)))
        deliveries.removeAll { $0.end <= acknowledged }
    }
}

private func decimalDigits(of number: Int) -> Int {
    if number < 10 { return 1 }
    if number < 100 { return 2 }
    if number < 1000 { return 3 }
    return 3 + decimalDigits(of: number / 1000)
}

/// The reason phrase of a status code (RFC 9110 section 15, RFC 6585).
public func reason(of status: Int) -> StaticString {
    switch status {
    case 200: "OK"
    case 201: "Created"
    case 204: "No Content"
    case 301: "Moved Permanently"
    case 302: "Found"
    case 303: "See Other"
    case 304: "Not Modified"
    case 307: "Temporary Redirect"
    case 308: "Permanent Redirect"
    case 400: "Bad Request"
    case 401: "Unauthorized"
    case 403: "Forbidden"
    case 404: "Not Found"
    case 405: "Method Not Allowed"
    case 406: "Not Acceptable"
    case 408: "Request Timeout"
    case 409: "Conflict"
    case 410: "Gone"
    case 413: "Content Too Large"
    case 414: "URI Too Long"
    case 415: "Unsupported Media Type"
    case 417: "Expectation Failed"
    case 422: "Unprocessable Content"
    case 429: "Too Many Requests"
    case 431: "Request Header Fields Too Large"
    case 500: "Internal Server Error"
    case 501: "Not Implemented"
    case 502: "Bad Gateway"
    case 503: "Service Unavailable"
    case 504: "Gateway Timeout"
    case 505: "HTTP Version Not Supported"
    default: ""
    }
}
