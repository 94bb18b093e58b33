// Reads push options from JSON, and says what is wrong with them.

import Bytes
import JSON
import Net

extension PushOptions {
    /// The longest name of a member or a header, in bytes of UTF-8.
    public static let maximumNameBytes = 256

    /// Reads a JSON object.
    ///
    /// - Parameters:
    ///   - json: the JSON text. Anything but an object is an error.
    ///   - kind: the owner of the options.
    /// - Throws: `PushOptionsError` for a member that is unknown, is given twice or has a wrong value. O(bytes).
    public init(_ json: Span<UInt8>, of kind: Kind) throws(PushOptionsError) {
        let known = kind == .queue ? Self.queueMembers : Self.taskMembers
        try Self.forEachMember(of: json, known: known) { (name, value) throws(PushOptionsError) in
            try read(name, value)
        }
    }

    /// Reads the output of `write`. If that is impossible, nothing is set. O(bytes).
    public init(stored text: [UInt8], of kind: Kind) {
        self = text.isEmpty ? PushOptions() : (try? PushOptions(text.span, of: kind)) ?? PushOptions()
    }

    /// The names of the members in the output of `write`. O(bytes).
    public static func members(stored text: [UInt8]) -> [String] {
        var names: [String] = []
        // Unreadable text has no more members.
        try? forEachMember(of: text.span) { (name, _) throws(PushOptionsError) in names.append(name) }
        return names
    }

    private mutating func read(_ name: String, _ value: borrowing Value) throws(PushOptionsError) {
        if value.kind == .null {
            // emq writes null for its own notifications. The API does not let clients set this.
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
        case "timeout": timeoutMilliseconds = try value.milliseconds(maximum: Self.maximumTimeoutMilliseconds)
        case "concurrency": concurrency = try value.positiveInteger(maximum: Self.maximumConcurrency)
        case "rate":
            let text = String(decoding: try value.string(maximumBytes: 64), as: UTF8.self)
            do throws(RateError) { rate = try Rate(text) } catch { throw value.flaw(because: "\(error)") }
        case "circuit": circuit = try Self.circuit(value)
        case "signature":
            guard let text = try? value.string(maximumBytes: 64),
                let scheme = Signature(rawValue: String(decoding: text, as: UTF8.self))
            else { throw value.flaw(#""emq" or "standard""#) }
            signature = scheme
        case "secret", "secrets":
            guard secrets.isEmpty else {
                throw value.flaw(because: "send either secret or secrets, not both", .conflicting)
            }
            secrets =
                name == "secret"
                ? [try value.string(maximumBytes: Self.maximumSecretBytes)]
                : try value.strings(maximumCount: Self.maximumSecrets, maximumBytes: Self.maximumSecretBytes)
        default:
            let text = try value.string(maximumBytes: Self.maximumIssuerBytes)
            let marker = "-----BEGIN CERTIFICATE-----"
            let lines = text.split { $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r") }
            guard lines.contains(where: { $0.starts(with: marker.utf8) }) else {
                throw value.flaw(because: "ca must be one or more certificates in PEM, which begin with \(marker)")
            }
            // The configuration shows the text in full.
            guard !lines.contains(where: { $0.suffix(16).elementsEqual("PRIVATE KEY-----".utf8) }) else {
                throw value.flaw(because: "ca has a private key; send only certificates")
            }
            ca = text
        }
    }

    private static func headers(_ value: borrowing Value) throws(PushOptionsError) -> [Header] {
        guard value.kind == .object else { throw value.flaw("an object of strings") }
        var headers: [Header] = []
        var byteCount = 0
        try forEachMember(of: value.bytes, field: "headers.") { (name, member) throws(PushOptionsError) in
            let bytes = Array(name.utf8)
            guard ClientRequest.isAllowedField(name: bytes.span) else {
                throw member.flaw(because: "the header '\(name)' cannot be set here")
            }
            guard !bytes.lowercasedASCII.starts(with: Array("emq-".utf8)) else {
                throw member.flaw(because: "headers that begin with Emq- are reserved for emq")
            }
            guard !headers.contains(where: { $0.name.lowercasedASCII == bytes.lowercasedASCII }) else {
                throw member.flaw(because: "this header is given twice; send it once", .duplicate)
            }
            let text = try member.string(maximumBytes: maximumHeaderBytes)
            let blanks = [UInt8(ascii: " "), UInt8(ascii: "\t")]
            let hasBlankEnd = [text[0], text[text.count - 1]].contains(where: blanks.contains)
            guard ClientRequest.isFieldValue(text.span), !hasBlankEnd else {
                throw member.flaw(
                    because: "a header's value must not contain control characters, nor begin or end with a blank")
            }
            byteCount += bytes.count + text.count
            headers.append(Header(name: bytes, value: text))
            guard headers.count <= maximumHeaders, byteCount <= maximumHeaderBytes else {
                throw value.flaw(
                    because: "at most \(maximumHeaders) headers are allowed, with \(maximumHeaderBytes) bytes in all")
            }
        }
        return headers
    }

    private static func circuit(_ value: borrowing Value) throws(PushOptionsError) -> Circuit {
        guard value.kind == .object else { throw value.flaw("an object such as {\"failures\": 10, \"pause\": 60}") }
        var failures: Int?
        var pauseMilliseconds: Int64?
        try forEachMember(of: value.bytes, field: "circuit.", known: circuitMembers) {
            (name, member) throws(PushOptionsError) in
            if member.kind == .null { return }
            if name == "pause" {
                pauseMilliseconds = try member.milliseconds(maximum: maximumPauseMilliseconds)
            } else {
                failures = try member.positiveInteger(maximum: maximumFailures)
            }
        }
        guard let failures, let pauseMilliseconds else {
            throw value.flaw(because: "a circuit needs both failures and pause, which is in seconds", .missing)
        }
        return Circuit(failures: failures, pauseMilliseconds: pauseMilliseconds)
    }

    /// Calls `body` with each member. If `known` names the allowed members, unknown and duplicate members are errors.
    private static func forEachMember(
        of json: Span<UInt8>, field: String = "", known: [StaticString]? = nil,
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
            throw PushOptionsError(
                field: String(field.dropLast()), detail: "this must be an object of at most 1000 members")
        }
        var seen: Set<String> = []
        for index in 0..<scanner.entryCount {
            let entry = scanner.entry(index)
            var name: [UInt8] = []
            // Include the quotes around the name.
            let quoted = json.extracting(entry.name.lowerBound - 1..<entry.name.upperBound + 1)
            guard JSONValue.decodeString(quoted, into: &name), name.count <= maximumNameBytes else {
                throw PushOptionsError(
                    field: String(field.dropLast()),
                    detail: "a name must be UTF-8 text of at most \(maximumNameBytes) bytes")
            }
            let text = String(decoding: name, as: UTF8.self)
            let place = field + text
            if let known {
                guard known.contains(where: { "\($0)" == text }) else {
                    throw PushOptionsError(
                        field: place, detail: "unknown field '\(text)'", kind: .unknown, unknown: (text, known))
                }
                guard seen.insert(text).inserted else {
                    throw PushOptionsError(
                        field: place, detail: "the field '\(place)' is given twice; send it once", kind: .duplicate)
                }
            }
            let value = Value(bytes: json.extracting(entry.value), kind: entry.kind, field: place)
            try body(text, value)
        }
    }
}

/// The value of one member.
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
        return PushOptionsError(field: field, detail: "\(field) must be \(wanted), not \(got)")
    }

    func flaw(because detail: String, _ kind: PushOptionsError.Kind = .invalid) -> PushOptionsError {
        PushOptionsError(field: field, detail: detail, kind: kind)
    }

    /// A number of seconds above zero, as milliseconds.
    func milliseconds(maximum: Int64) throws(PushOptionsError) -> Int64 {
        guard kind == .number, let milliseconds = try? JSONValue.milliseconds(bytes, in: 1...maximum) else {
            throw flaw("a number of seconds from 0.001 to \(maximum / 1000)")
        }
        return milliseconds
    }

    /// A whole number from 1 to a maximum.
    func positiveInteger(maximum: Int) throws(PushOptionsError) -> Int {
        guard kind == .number, let number = try? JSONValue.integer(bytes), (1...Int64(maximum)).contains(number)
        else { throw flaw("a whole number from 1 to \(maximum)") }
        return Int(number)
    }

    /// A string that is not empty.
    func string(maximumBytes: Int) throws(PushOptionsError) -> [UInt8] {
        guard kind == .string else { throw flaw("a string") }
        var decoded: [UInt8] = []
        guard JSONValue.decodeString(bytes, into: &decoded) else { throw flaw("a string in UTF-8") }
        guard (1...maximumBytes).contains(decoded.count) else {
            throw flaw(because: "\(field) must have 1 to \(maximumBytes) bytes, not \(decoded.count)")
        }
        return decoded
    }

    /// An array of strings that are not empty.
    func strings(maximumCount: Int, maximumBytes: Int) throws(PushOptionsError) -> [[UInt8]] {
        guard kind == .array else { throw flaw("an array of strings") }
        var scanner = JSONScanner(maximumEntries: maximumCount)
        // The array is valid as a part of the object, so an error means that it has too many elements.
        try? scanner.consume(bytes)
        guard (try? scanner.finish()) != nil, scanner.entryCount > 0 else {
            throw flaw(because: "\(field) must have 1 to \(maximumCount) elements")
        }
        var strings: [[UInt8]] = []
        for index in 0..<scanner.entryCount {
            let entry = scanner.entry(index)
            let element = Value(
                bytes: bytes.extracting(entry.value), kind: entry.kind, field: "\(field)[\(index)]")
            strings.append(try element.string(maximumBytes: maximumBytes))
        }
        return strings
    }

    func url() throws(PushOptionsError) -> HTTPURL {
        let text = try string(maximumBytes: 8000)
        do throws(HTTPURLError) { return try HTTPURL(text.span) } catch { throw flaw(because: "\(error)") }
    }
}
