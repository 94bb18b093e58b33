// A request of htq's clients: reading it, and storing it as the content of a task.

import Bytes
import Delivery
import JSON
import Queues

/// A request that a client wants sent.
///
/// It is stored as JSON with the same members, so one reader serves both forms. The original keeps each member as its
/// text in Python, so a number in place of a string is no error.
struct HtqRequest {
    /// The beginning of the stored form.
    static let opening: StaticString = "{\"timeout\": "

    /// The longest value that is not a string, in bytes of JSON.
    private static let maximumValueBytes = 256 << 10

    private static let members: [StaticString] = ["url", "method", "headers", "data", "timeout", "id"]

    /// How long it may take; 0 or less if it cannot be sent. Answers show the number as JSON.
    private(set) var timeoutMilliseconds: Int64 = 60_000
    private var timeout = Array("60".utf8)
    /// The data to be sent; nil if there is none.
    private(set) var data: [UInt8]?
    /// The headers, a JSON object.
    private(set) var headers = Array("{}".utf8)
    private(set) var url: [UInt8] = []
    private(set) var method: [UInt8] = []
    /// The client's own name for it; empty if it has none. The stored form does not include it.
    private(set) var key: [UInt8] = []

    // MARK: Reading

    /// Reads a client's JSON.
    ///
    /// - Throws: 422.
    init(_ json: Span<UInt8>, _ members: borrowing Members) throws(Problem) {
        var hasURL = false
        try members.forEach(in: json, known: Self.members, nullable: 1, isLenient: true) {
            (place, value) throws(Problem) in
            switch place {
            case 0:
                hasURL = true
                url = try Self.text(of: value)
            case 1: method = try Self.textIfTrue(value)
            case 2:
                guard PythonText.isTrue(value.bytes, value.kind) else { break }
                guard value.kind == .object else { throw Self.flaw(value, "an object of strings") }
                headers = Array(copying: value.bytes)
            case 3: data = try Self.text(of: value)
            case 4: try readTimeout(value)
            default:
                key = try Self.textIfTrue(value)
                guard key.count <= TaskKey.maximumByteCount else {
                    throw Self.flaw(value, "at most \(TaskKey.maximumByteCount) bytes long")
                }
            }
        }
        guard hasURL else {
            throw Problem(.missingField, legacyStatus: 422, "url is missing; send an http:// URL", field: "url")
        }
        if method.isEmpty { method = Array((data == nil ? "get" : "post").utf8) }
    }

    /// Reads the stored form; nil for anything else.
    init?(stored content: Span<UInt8>) {
        var members = Members()
        do throws(Problem) {
            try members.read(content, kind: .object)
            try self.init(content, members)
        } catch {
            return nil
        }
    }

    /// Reads a number of seconds, or a string of digits, as Python's `int` reads it.
    private mutating func readTimeout(_ value: borrowing FieldValue) throws(Problem) {
        var number = Array(copying: value.bytes)
        if value.kind == .string {
            var digits = try Self.text(of: value).filter { !$0.isASCIIBlank }[...]
            let sign = digits.first.flatMap { "+-".utf8.contains($0) ? $0 : nil }
            if sign != nil { digits.removeFirst() }
            guard digits.isDecimal else { throw Self.flaw(value, "a number of seconds") }
            // JSON allows no leading zeros.
            number = [UInt8](digits.dropLast().drop { $0 == UInt8(ascii: "0") } + digits.suffix(1))
            if sign == UInt8(ascii: "-") { number.insert(UInt8(ascii: "-"), at: 0) }
        } else if value.kind != .number {
            throw Self.flaw(value, "a number of seconds")
        }
        timeout = number
        // A number that is out of range is a very long time, or a very negative one.
        let outOfRange = number.first == UInt8(ascii: "-") ? -1 : PushOptions.maximumTimeoutMilliseconds
        let milliseconds = (try? JSONValue.milliseconds(number.span)) ?? outOfRange
        timeoutMilliseconds = min(milliseconds, PushOptions.maximumTimeoutMilliseconds)
    }

    /// The text of a value. The text of anything but a string is costly to make, and no receiver expects a long one.
    private static func text(of value: borrowing FieldValue) throws(Problem) -> [UInt8] {
        guard value.kind == .string || value.bytes.count <= maximumValueBytes else {
            throw flaw(value, "a string, or at most \(maximumValueBytes) bytes long")
        }
        guard let text = PythonText.str(value.bytes) else { throw flaw(value, "valid UTF-8") }
        return text
    }

    /// The text of a value; empty for a value that Python counts as false.
    private static func textIfTrue(_ value: borrowing FieldValue) throws(Problem) -> [UInt8] {
        PythonText.isTrue(value.bytes, value.kind) ? try text(of: value) : []
    }

    private static func flaw(_ value: borrowing FieldValue, _ wanted: String) -> Problem {
        Problem(.invalidField, legacyStatus: 422, value.flaw(wanted).detail, field: "\(value.name)")
    }

    // MARK: Keeping and showing

    /// The stored form.
    var json: [UInt8] {
        var json = Array("\(Self.opening)".utf8) + timeout
        json += ", \"data\": ".utf8
        if let data { JSONWriter.writeString(data.span, to: &json) } else { json += "null".utf8 }
        json += ", \"headers\": ".utf8
        json += headers
        json += ", \"url\": ".utf8
        JSONWriter.writeString(url.span, to: &json)
        json += ", \"method\": ".utf8
        JSONWriter.writeString(method.span, to: &json)
        json.append(UInt8(ascii: "}"))
        return json
    }

    /// Writes a task whose content is the stored form, without the bracket at the end. As in the original, a request
    /// without an id has that of Python's `None`.
    static func write(_ task: borrowing TaskView, to output: inout some JSONOutput & ~Copyable) {
        output.append(task.content.extracting(first: task.content.count - 1))
        let (uuid, status, key) = (task.id.uuidString, HtqStatus(task).rawValue, task.key)
        var rest = Array(", \"uuid\": \"\(uuid)\", \"time\": \(task.enqueued), \"status\": \"\(status)\"".utf8)
        rest += ", \"id\": ".utf8
        JSONWriter.write(key.isEmpty ? "None" : String(decoding: key, as: UTF8.self), to: &rest)
        output.append(rest.span)
    }

    /// The request that tells a URL that a request to it was cancelled in flight.
    var cancellation: HtqRequest {
        var request = self
        request.method = Array("delete".utf8)
        request.data = nil
        return request
    }
}

extension UInt8 {
    /// White space of ASCII.
    fileprivate var isASCIIBlank: Bool { self == 0x20 || (0x09...0x0D).contains(self) }
}
