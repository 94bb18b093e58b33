// How tasks are sent, in the words of the interface: a queue's `push` and a task's `request`. One reader and one writer of
// them serve the interface, which checks and shows them, and whoever sends.

import Bytes
import JSON
import Net

/// What a queue's `push` or a task's `request` says. What is nil is not said.
public struct PushOptions: Equatable, Sendable {
    /// Whose options they are: that decides which members there may be.
    public enum Kind: Sendable {
        /// The `push` of a queue's configuration.
        case queue
        /// The `request` of a task.
        case task
    }

    /// A header field of the request.
    public struct Header: Equatable, Sendable {
        /// A token, RFC 9110 section 5.6.2.
        public var name: [UInt8]
        /// Its value.
        public var value: [UInt8]
    }

    /// The most header fields.
    public static let maximumHeaders = 64
    /// How long their names and values may be together, in bytes.
    public static let maximumHeaderBytes = 16_384
    private static let maximumNameBytes = 256
    /// The longest secret, in bytes.
    public static let maximumSecretBytes = 1024
    /// The most tasks of a queue that may be in flight at once.
    public static let maximumConcurrency = 1000
    /// The longest time that a request may take.
    public static let maximumTimeoutMilliseconds: Int64 = 86_400_000

    /// Where the request goes.
    public var url: HTTPURL?
    /// Its method.
    public var method: [UInt8]?
    /// Its header fields, beside those that every request has.
    public var headers: [Header] = []
    /// Its body, as JSON; not of a queue.
    public var body: [UInt8]?
    /// How long it may take.
    public var timeoutMilliseconds: Int64?
    /// Who gets the task when it dies.
    public var onDead: HTTPURL?
    /// The task tells of the death of another one, so its own death is told to nobody.
    public var isNotice = false
    /// How many tasks may be in flight at once; only of a queue, as what follows.
    public var concurrency: Int?
    /// How often tasks are sent at most.
    public var rate: Rate?
    /// What requests are signed with.
    public var secret: [UInt8]?

    /// Options that say nothing.
    public init() {}

    // MARK: Reading

    private static let taskMembers: [StaticString] = ["url", "method", "headers", "timeout", "on_dead", "body"]
    /// The members that a queue's push can have.
    public static let queueMembers: [StaticString] = [
        "url", "method", "headers", "timeout", "on_dead", "concurrency", "rate", "secret", "ca",
    ]

    /// Reads a JSON object.
    ///
    /// - Parameters:
    ///   - json: the object; it is checked again to be one.
    ///   - kind: whose options they are.
    /// - Throws: `PushOptionsError` for a member that is not known, is there twice or says what cannot be. O(bytes).
    public init(_ json: Span<UInt8>, of kind: Kind) throws(PushOptionsError) {
        let known = kind == .queue ? Self.queueMembers : Self.taskMembers
        var seen: Set<Int> = []
        try Self.forEachMember(of: json, field: "") { (name, value) throws(PushOptionsError) in
            guard let place = known.firstIndex(where: { "\($0)" == name }) else {
                throw PushOptionsError(field: name, detail: "there is no field '\(name)' here", known: known)
            }
            guard seen.insert(place).inserted else {
                throw PushOptionsError(field: name, detail: "the field '\(name)' is given twice")
            }
            try read(name, value)
        }
    }

    /// Reads what `write` has written, which was checked before: what cannot be read all the same says nothing. O(bytes).
    public init(stored text: [UInt8], of kind: Kind) {
        self = text.isEmpty ? PushOptions() : (try? PushOptions(text.span, of: kind)) ?? PushOptions()
    }

    /// The names of the members of what `write` has written. O(bytes).
    public static func members(stored text: [UInt8]) -> [String] {
        var names: [String] = []
        // What cannot be read says nothing.
        try? forEachMember(of: text.span, field: "") { (name, _) throws(PushOptionsError) in names.append(name) }
        return names
    }

    private mutating func read(_ name: String, _ value: borrowing Value) throws(PushOptionsError) {
        if value.kind == .null {
            // Only what emq has written itself says so of this.
            if name == "on_dead" { isNotice = true }
            return
        }
        switch name {
        case "url": url = try value.url()
        case "on_dead": onDead = try value.url()
        case "method":
            let text = try value.string(maximumBytes: 32)
            guard ClientRequest.isAllowedMethod(text.span) else { throw value.flaw("a method such as POST or PUT") }
            method = text
        case "headers": headers = try Self.headers(value)
        case "body": body = Array(copying: value.bytes)
        case "timeout":
            guard value.kind == .number, let milliseconds = try? JSONValue.milliseconds(value.bytes),
                (1...Self.maximumTimeoutMilliseconds).contains(milliseconds)
            else { throw value.flaw("a number of seconds from 0.001 to 86400") }
            timeoutMilliseconds = milliseconds
        case "concurrency":
            guard value.kind == .number, let number = try? JSONValue.integer(value.bytes),
                (1...Int64(Self.maximumConcurrency)).contains(number)
            else { throw value.flaw("a whole number from 1 to \(Self.maximumConcurrency)") }
            concurrency = Int(number)
        case "rate":
            let text = String(decoding: try value.string(maximumBytes: 64), as: UTF8.self)
            do throws(RateError) { rate = try Rate(text) } catch { throw value.flaw(because: "\(error)") }
        case "secret": secret = try value.string(maximumBytes: Self.maximumSecretBytes)
        default: throw value.flaw(because: "\(name) goes with https, and this emq speaks http only")
        }
    }

    private static func headers(_ value: borrowing Value) throws(PushOptionsError) -> [Header] {
        guard value.kind == .object else { throw value.flaw("an object of strings") }
        var headers: [Header] = []
        var byteCount = 0
        try forEachMember(of: value.bytes, field: "headers.") { (name, member) throws(PushOptionsError) in
            let bytes = Array(name.utf8)
            guard ClientRequest.isAllowedField(name: bytes.span) else {
                throw member.flaw(because: "'\(name)' is no header that can be set here")
            }
            guard !bytes.lowercasedASCII.starts(with: Array("emq-".utf8)) else {
                throw member.flaw(because: "the headers that begin with Emq- are emq's own")
            }
            guard !headers.contains(where: { $0.name.lowercasedASCII == bytes.lowercasedASCII }) else {
                throw member.flaw(because: "this header is given twice")
            }
            let text = try member.string(maximumBytes: maximumHeaderBytes)
            let blanks = [UInt8(ascii: " "), UInt8(ascii: "\t")]
            let hasBlankEnd = [text[0], text[text.count - 1]].contains(where: blanks.contains)
            guard ClientRequest.isFieldValue(text.span), !hasBlankEnd else {
                throw member.flaw(because: "a header's value has no control characters, nor blanks at its ends")
            }
            byteCount += bytes.count + text.count
            headers.append(Header(name: bytes, value: text))
            guard headers.count <= maximumHeaders, byteCount <= maximumHeaderBytes else {
                throw value.flaw(
                    because: "there are at most \(maximumHeaders) headers, with \(maximumHeaderBytes) bytes in all")
            }
        }
        return headers
    }

    private static func forEachMember(
        of json: Span<UInt8>, field: String,
        _ body: (_ name: String, _ value: borrowing Value) throws(PushOptionsError) -> Void
    ) throws(PushOptionsError) {
        var scanner = JSONScanner(maximumEntries: 1000)
        var isRead = true
        do throws(JSONError) {
            try scanner.consume(json)
            try scanner.finish()
        } catch {
            isRead = false
        }
        guard isRead, scanner.kind == .object else {
            throw PushOptionsError(field: String(field.dropLast()), detail: "this is an object of at most 1000 members")
        }
        for index in 0..<scanner.entryCount {
            let entry = scanner.entry(index)
            var name: [UInt8] = []
            // A name's quotes stand around it.
            let quoted = json.extracting(entry.name.lowerBound - 1..<entry.name.upperBound + 1)
            guard JSONValue.decodeString(quoted, into: &name), name.count <= maximumNameBytes else {
                throw PushOptionsError(
                    field: String(field.dropLast()),
                    detail: "a name is text in UTF-8 of at most \(maximumNameBytes) bytes")
            }
            let text = String(decoding: name, as: UTF8.self)
            let value = Value(bytes: json.extracting(entry.value), kind: entry.kind, field: field + text)
            try body(text, value)
        }
    }

    /// What stands in the place of values that are not shown.
    private static let mask = Array("***".utf8)

    /// Puts in the place of `***` what other options have there: those that these take the place of. A header is for one
    /// receiver: whoever may set options but not see it cannot have it sent to another one. A secret is never sent.
    ///
    /// - Throws: `PushOptionsError` where these have nothing there, or are for another receiver.
    public mutating func keepMaskedValues(of previous: PushOptions = PushOptions()) throws(PushOptionsError) {
        for index in headers.indices where headers[index].value == Self.mask {
            let name = headers[index].name
            let before = previous.headers.first { $0.name.lowercasedASCII == name.lowercasedASCII }
            let field = "headers.\(String(decoding: name, as: UTF8.self))"
            guard let before else {
                throw PushOptionsError(
                    field: field, detail: "*** stands for the value that this header has had, and it has had none")
            }
            guard url?.authority == previous.url?.authority else {
                throw PushOptionsError(
                    field: field,
                    detail:
                        "the value of a header is not sent to another host or port by itself; give it again, or leave the "
                        + "header out (in a PATCH, with null)")
            }
            headers[index].value = before.value
        }
        if secret == Self.mask {
            guard let before = previous.secret else {
                throw PushOptionsError(
                    field: "secret", detail: "*** stands for the secret that there was, and there was none")
            }
            secret = before
        }
    }

    // MARK: Writing

    /// Appends them as a JSON object.
    ///
    /// - Parameters:
    ///   - isMasked: whether values that are nobody's business (of headers, and the secret) are shown as `***`.
    ///   - output: what to append to.
    public func write(isMasked: Bool, to output: inout (some JSONOutput & ~Copyable)) {
        var isFirst = true
        func begin(_ name: StaticString, _ output: inout (some JSONOutput & ~Copyable)) {
            output.append(isFirst ? UInt8(ascii: "{") : UInt8(ascii: ","))
            isFirst = false
            let bytes = Array("\"\(name)\":".utf8)
            output.append(bytes.span)
        }
        func writeText(_ name: StaticString, _ text: [UInt8]?, _ output: inout (some JSONOutput & ~Copyable)) {
            guard let text else { return }
            begin(name, &output)
            JSONWriter.writeString(text.span, to: &output)
        }
        writeText("url", url.map { Array($0.description.utf8) }, &output)
        writeText("method", method, &output)
        if !headers.isEmpty {
            begin("headers", &output)
            for (index, header) in headers.enumerated() {
                output.append(index == 0 ? UInt8(ascii: "{") : UInt8(ascii: ","))
                JSONWriter.writeString(header.name.span, to: &output)
                output.append(UInt8(ascii: ":"))
                let value = isMasked ? Self.mask : header.value
                JSONWriter.writeString(value.span, to: &output)
            }
            output.append(UInt8(ascii: "}"))
        }
        if let body {
            begin("body", &output)
            output.append(body.span)
        }
        if let timeoutMilliseconds {
            begin("timeout", &output)
            JSONWriter.writeSeconds(milliseconds: timeoutMilliseconds, to: &output)
        }
        writeText("on_dead", onDead.map { Array($0.description.utf8) }, &output)
        if isNotice, !isMasked {
            begin("on_dead", &output)
            let null = Array("null".utf8)
            output.append(null.span)
        }
        if let concurrency {
            begin("concurrency", &output)
            JSONWriter.writeInteger(Int64(concurrency), to: &output)
        }
        writeText("rate", rate.map { Array($0.description.utf8) }, &output)
        writeText("secret", isMasked ? secret.map { _ in Self.mask } : secret, &output)
        if isFirst { output.append(UInt8(ascii: "{")) }
        output.append(UInt8(ascii: "}"))
    }
}

/// What is wrong with push options, for the person who wrote them.
public struct PushOptionsError: Error {
    /// The member at fault, as a path into the options; empty for all of them.
    public let field: String
    /// What was wrong, and what would be right.
    public let detail: String
    /// The names that there are, if there is none like that.
    public var known: [StaticString] = []
}

/// One member's value.
private struct Value: ~Escapable {
    let bytes: Span<UInt8>
    let kind: JSONKind
    let field: String

    @_lifetime(copy bytes)
    init(bytes: Span<UInt8>, kind: JSONKind, field: String) {
        self.bytes = bytes
        self.kind = kind
        self.field = field
    }

    func flaw(_ wanted: String) -> PushOptionsError {
        let got =
            kind == .object ? "an object" : kind == .array ? "an array" : String(decoding: bytes.extracting(first: 60))
        return PushOptionsError(field: field, detail: "\(field) is \(wanted), not \(got)")
    }

    func flaw(because detail: String) -> PushOptionsError { PushOptionsError(field: field, detail: detail) }

    /// A text that is not empty.
    func string(maximumBytes: Int) throws(PushOptionsError) -> [UInt8] {
        guard kind == .string else { throw flaw("a string") }
        var decoded: [UInt8] = []
        guard JSONValue.decodeString(bytes, into: &decoded) else { throw flaw("a string in UTF-8") }
        guard (1...maximumBytes).contains(decoded.count) else {
            throw flaw(because: "\(field) has 1 to \(maximumBytes) bytes, this one has \(decoded.count)")
        }
        return decoded
    }

    func url() throws(PushOptionsError) -> HTTPURL {
        let text = try string(maximumBytes: 8000)
        do throws(HTTPURLError) { return try HTTPURL(text.span) } catch { throw flaw(because: "\(error)") }
    }
}
