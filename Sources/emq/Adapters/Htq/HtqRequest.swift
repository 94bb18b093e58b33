// A request of htq's clients: reading it, storing it as the content of a task, and making the HTTP request from it.

import Bytes
import Delivery
import JSON
import Net
import Queues

/// A request that a client wants sent.
///
/// It is stored as JSON with the same members, so one reader serves both forms.
struct HtqRequest {
    /// The beginning of the stored form.
    static let opening: StaticString = "{\"timeout\": "

    private static let members: [StaticString] = ["url", "method", "headers", "data", "timeout", "id"]
    private static let maximumMethodBytes = 32

    /// How long it may take. Answers show the number as the client wrote it.
    private(set) var timeoutMilliseconds: Int64 = 60_000
    private var timeout = Array("60".utf8)
    /// The data to be sent, as JSON.
    private var data = Array("null".utf8)
    private var dataKind = JSONKind.null
    /// The headers, a JSON object.
    private var headers = Array("{}".utf8)
    private(set) var url: [UInt8] = []
    private var method: [UInt8] = []
    /// The client's own name for it; empty if it has none. The stored form does not include it.
    private(set) var key: [UInt8] = []

    // MARK: Reading

    /// Reads a client's JSON. `clientRequest` checks the members in detail.
    ///
    /// - Throws: 400 or 422.
    init(_ json: Span<UInt8>, _ members: borrowing Members) throws(Problem) {
        try members.forEach(in: json, known: Self.members, isLenient: true) { (place, value) throws(Problem) in
            switch place {
            case 0: url = try value.string(maximumBytes: HTTPURL.maximumLength)
            case 1: method = value.isBlank ? [] : try value.string(maximumBytes: Self.maximumMethodBytes)
            case 2:
                guard value.kind == .object else { throw value.flaw("an object of strings") }
                headers = Array(copying: value.bytes)
            case 3:
                (data, dataKind) = ([], value.kind)
                data.append(value.bytes)
            case 4:
                timeoutMilliseconds = try value.duration(1...PushOptions.maximumTimeoutMilliseconds)
                timeout = Array(copying: value.bytes)
            default:
                if value.kind == .number && value.bytes.count <= TaskKey.maximumByteCount {
                    key = Array(copying: value.bytes)
                } else {
                    key = value.isBlank ? [] : try value.string(maximumBytes: TaskKey.maximumByteCount)
                }
            }
        }
        guard !url.isEmpty else { throw Problem(422, "url is missing; send an http:// URL", field: "url") }
        if method.isEmpty { method = Array((dataKind == .null ? "get" : "post").utf8) }
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

    // MARK: Keeping and showing

    /// The stored form.
    var json: [UInt8] {
        var json = Array("\(Self.opening)".utf8) + timeout
        json += ", \"data\": ".utf8
        json += data
        json += ", \"headers\": ".utf8
        json += headers
        json += ", \"url\": ".utf8
        JSONWriter.writeString(url.span, to: &json)
        json += ", \"method\": ".utf8
        JSONWriter.writeString(method.span, to: &json)
        json.append(UInt8(ascii: "}"))
        return json
    }

    /// Writes a task whose content is the stored form, without the bracket at the end.
    static func write(_ task: borrowing TaskView, to output: inout some JSONOutput & ~Copyable) {
        output.append(task.content.extracting(first: task.content.count - 1))
        let (uuid, status) = (task.id.uuidString, HtqStatus(task).rawValue)
        let rest = ", \"uuid\": \"\(uuid)\", \"time\": \(task.enqueued), \"status\": \"\(status)\""
        let bytes = Array(rest.utf8)
        output.append(bytes.span)
    }

    /// The request that tells a URL that a request to it was cancelled in flight.
    var cancellation: HtqRequest {
        var request = self
        request.method = Array("delete".utf8)
        (request.data, request.dataKind) = (Array("null".utf8), .null)
        return request
    }

    // MARK: Sending

    /// The HTTP request that is sent.
    ///
    /// - Parameter url: the parsed `url`.
    /// - Returns: the request.
    /// - Throws: 422 for a request that cannot be sent.
    func clientRequest(to url: HTTPURL) throws(Problem) -> ClientRequest {
        let method = method.map { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) ? $0 & ~0x20 : $0 }
        guard ClientRequest.isAllowedMethod(method.span) else {
            throw Problem(422, "method must be one such as get or post, not '\(text(method.span))'", field: "method")
        }
        let body: [UInt8]?
        switch dataKind {
        // A receiver may insist on a length where content is usual (RFC 9110 section 8.6).
        case .null: body = method.span.equals("GET") || method.span.equals("HEAD") ? nil : []
        case .string:
            var decoded: [UInt8] = []
            guard JSONValue.decodeString(data.span, into: &decoded) else { throw Self.badText("data") }
            body = decoded
        default: body = try HtqForm(data, dataKind).bytes
        }
        var (fields, names) = try headerFields()
        func addUnlessGiven(_ name: String, _ value: String) {
            if !names.contains(name.lowercased()) { fields += "\(name): \(value)\r\n".utf8 }
        }
        addUnlessGiven("User-Agent", "emq")
        addUnlessGiven("Accept", "*/*")
        if dataKind == .object || dataKind == .array {
            addUnlessGiven("Content-Type", "application/x-www-form-urlencoded")
        }
        var request = ClientRequest(url: url, method: method, fields: fields, body: body)
        request.timeoutMilliseconds = timeoutMilliseconds
        request.connectTimeoutMilliseconds = timeoutMilliseconds
        request.redirects.limit = ClientRequest.usualRedirects
        return request
    }

    /// The client's header fields as lines, and their names in lower case.
    private func headerFields() throws(Problem) -> (lines: [UInt8], names: Set<String>) {
        var lines: [UInt8] = []
        var names: Set<String> = []
        try forEachEntry(of: headers.span, in: "headers") { (quotedName, kind, value) throws(Problem) in
            if kind == .null { return }
            guard let name = scalarText(quotedName, .string), ClientRequest.isAllowedField(name: name.span) else {
                throw Problem(422, "the header \(text(quotedName)) cannot be set here", field: "headers")
            }
            guard kind == .string || kind == .number, let content = scalarText(value, kind),
                ClientRequest.isFieldValue(content.span)
            else {
                let detail = "the header \(text(quotedName)) must be a number, or a string without control characters"
                throw Problem(422, detail, field: "headers")
            }
            guard names.insert(text(name.span).lowercased()).inserted else {
                throw Problem(422, "the header \(text(quotedName)) is given twice; send it once", field: "headers")
            }
            lines += name + Array(": ".utf8) + content + Array("\r\n".utf8)
            // Each line has four bytes more than its name and value.
            let byteCount = lines.count - 4 * names.count
            guard names.count <= PushOptions.maximumHeaders, byteCount <= PushOptions.maximumHeaderBytes else {
                let (count, bytes) = (PushOptions.maximumHeaders, PushOptions.maximumHeaderBytes)
                throw Problem(
                    422, "headers must have at most \(count) members, with \(bytes) bytes in all", field: "headers")
            }
        }
        return (lines, names)
    }

    static func badText(_ field: String) -> Problem { Problem(422, "\(field) must be valid UTF-8", field: field) }
}

/// Data other than a string, as Python's requests sends them: `application/x-www-form-urlencoded`, from an object or an
/// array of pairs. An array as value gives a field for each element; null gives none.
private struct HtqForm {
    private(set) var bytes: [UInt8] = []

    /// - Throws: 422 for data that cannot be sent as a form.
    init(_ data: [UInt8], _ kind: JSONKind) throws(Problem) {
        guard kind == .object || kind == .array else { throw Self.flaw }
        try forEachEntry(of: data.span, in: "data") { (name, valueKind, value) throws(Problem) in
            if kind == .object {
                guard let name = scalarText(name, .string) else { throw HtqRequest.badText("data") }
                return try add(name, valueKind, value)
            }
            guard valueKind == .array else { throw Self.flaw }
            var pairName: [UInt8]?
            var count = 0
            try forEachEntry(of: value, in: "data") { (_, kind, value) throws(Problem) in
                count += 1
                if count == 1 { pairName = scalarText(value, kind) }
                if count == 2, let pairName { try add(pairName, kind, value) }
            }
            guard count == 2, pairName != nil else { throw Self.flaw }
        }
    }

    private mutating func add(_ name: [UInt8], _ kind: JSONKind, _ value: Span<UInt8>) throws(Problem) {
        guard kind == .array else { return try addField(name, kind, value) }
        try forEachEntry(of: value, in: "data") { (_, kind, value) throws(Problem) in
            try addField(name, kind, value)
        }
    }

    private mutating func addField(_ name: [UInt8], _ kind: JSONKind, _ value: Span<UInt8>) throws(Problem) {
        if kind == .null { return }
        guard let value = scalarText(value, kind) else { throw Self.flaw }
        if !bytes.isEmpty { bytes.append(UInt8(ascii: "&")) }
        PercentEncoding.encode(name.span, into: &bytes, space: .plus)
        bytes.append(UInt8(ascii: "="))
        PercentEncoding.encode(value.span, into: &bytes, space: .plus)
    }

    private static let flaw = Problem(
        422,
        "data must be a string, or a form: an object or an array of pairs, whose values are strings, numbers, "
            + "booleans, nulls, or arrays of these",
        field: "data")
}

/// The text of a string, a number or a boolean in a header or a form, as Python writes it; nil for anything else.
private func scalarText(_ value: Span<UInt8>, _ kind: JSONKind) -> [UInt8]? {
    switch kind {
    case .string:
        var decoded: [UInt8] = []
        return JSONValue.decodeString(value, into: &decoded) ? decoded : nil
    case .number: return Array(copying: value)
    case .true: return Array("True".utf8)
    case .false: return Array("False".utf8)
    case .object, .array, .null: return nil
    }
}

/// Calls `body` with each member of an object, or element of an array: its name with its quotes, or nothing, its kind
/// and its value.
///
/// - Throws: 422 for too many of them; what `body` throws.
private func forEachEntry(
    of json: Span<UInt8>, in field: String,
    _ body: (_ name: Span<UInt8>, _ kind: JSONKind, _ value: Span<UInt8>) throws(Problem) -> Void
) throws(Problem) {
    var scanner = JSONScanner()
    do throws(JSONError) {
        try scanner.consume(json)
        try scanner.finish()
    } catch {
        // It was valid as part of the body, so it has more entries than the scanner takes.
        throw Problem(422, "\(field) has too many members or elements: \(error)", field: field)
    }
    for index in 0..<scanner.entryCount {
        let entry = scanner.entry(index)
        let name = entry.name.lowerBound == 0 ? 0..<0 : entry.name.lowerBound - 1..<entry.name.upperBound + 1
        try body(json.extracting(name), entry.kind, json.extracting(entry.value))
    }
}
