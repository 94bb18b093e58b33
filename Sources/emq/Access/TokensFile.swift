// The file of tokens: {"tokens": [{"name", "sha256", "allow", "queues", "expires"}, …]}.

import Bytes
import Delivery
import JSON
import Queues

/// What a file of tokens says.
struct TokensFile {
    /// The largest file, in bytes.
    private static let maximumByteCount = 4 << 20
    /// The most tokens.
    private static let maximumCount = 1000
    /// The longest name of a token, in bytes.
    static let maximumNameByteCount = 100
    /// The most patterns of queues in one token.
    static let maximumPatternCount = 100

    let tokens: [Token]

    /// Reads a file.
    ///
    /// - Parameters:
    ///   - path: the path of the file.
    ///   - now: the time.
    /// - Throws: `TokensFileError`, which says what is wrong and where.
    init(path: String, now: Int64) throws(TokensFileError) {
        let bytes: [UInt8]
        do throws(FileError) {
            bytes = try File.read(path, maximumByteCount: Self.maximumByteCount + 1)
        } catch {
            throw TokensFileError("cannot read '\(path)': \(error)")
        }
        guard bytes.count <= Self.maximumByteCount else {
            throw TokensFileError("\(path) has more than \(Self.maximumByteCount) bytes")
        }
        do throws(TokensFileError) { try self.init(bytes.span, now: now) } catch {
            throw TokensFileError("\(path): \(error.description)")
        }
    }

    /// Reads the bytes of a file.
    ///
    /// - Throws: `TokensFileError`.
    init(_ bytes: Span<UInt8>, now: Int64) throws(TokensFileError) {
        var scanner = JSONScanner()
        do throws(JSONError) {
            try scanner.consume(bytes)
            try scanner.finish()
        } catch {
            throw TokensFileError("line \(Self.line(of: error.offset, in: bytes)): not valid JSON: \(error)")
        }
        var place = 0
        do throws(Problem) { tokens = try Self.read(bytes, now: now, place: &place) } catch {
            let line = place > 0 ? "line \(Self.line(of: place, in: bytes)): " : ""
            let field = error.field.map { "\($0): " } ?? ""
            throw TokensFileError("\(line)\(field)\(error.detail)")
        }
    }

    /// The number of the line that holds a byte, counted from 1.
    private static func line(of offset: Int, in bytes: Span<UInt8>) -> Int {
        var line = 1
        for index in 0..<min(offset, bytes.count) where bytes[index] == UInt8(ascii: "\n") { line += 1 }
        return line
    }

    /// Reads the tokens. `place` receives where the one begins that is being read.
    private static func read(_ bytes: Span<UInt8>, now: Int64, place: inout Int) throws(Problem) -> [Token] {
        var members = Members()
        try members.read(bytes, kind: .object, of: "the file")
        guard members.kind == .object else { throw Problem(.invalidBody, "the file is not a JSON object") }
        var list: FieldPart?
        try members.forEach(in: bytes, known: ["tokens"]) { (_, value) throws(Problem) in list = value.part }
        guard let list else {
            throw Problem(
                .missingField, "the file has no \"tokens\", an array of objects; for no token, write {\"tokens\": []}")
        }
        var elements = Elements()
        try elements.read(FieldValue(bytes, list, name: "tokens"), of: "objects", maximum: maximumCount)
        let array = bytes.extracting(list.range)
        var tokens: [Token] = []
        for index in 0..<elements.count {
            let element = elements.element(index)
            place = list.range.lowerBound + element.value.lowerBound
            do throws(Problem) {
                let token = try Token(array.extracting(element.value), kind: element.kind, now: now)
                if let other = tokens.firstIndex(where: { $0.name == token.name }) {
                    throw Problem(.duplicateField, "tokens[\(other)] has this name too", field: "name")
                }
                if let other = tokens.firstIndex(where: { $0.hasHash(token.hash) }) {
                    throw Problem(.duplicateField, "tokens[\(other)] has this hash too", field: "sha256")
                }
                tokens.append(token)
            } catch {
                throw error.inside("tokens[\(index)]")
            }
        }
        return tokens
    }
}

/// Why a file of tokens cannot be used.
struct TokensFileError: Error {
    let description: String

    init(_ description: String) { self.description = description }
}

extension Token {
    private static let members: [StaticString] = ["name", "sha256", "allow", "queues", "expires"]

    /// Reads an object of the file.
    ///
    /// - Throws: `Problem` for a member that is missing, unknown or wrong.
    fileprivate convenience init(_ object: Span<UInt8>, kind: JSONKind, now: Int64) throws(Problem) {
        var members = Members()
        try members.read(object, kind: kind)
        var name: String?
        var hash: SHA256.Digest?
        var allow: Permissions?
        var queues: [GlobPattern] = []
        var expires: Int64?
        try members.forEach(in: object, known: Self.members) { (place, value) throws(Problem) in
            switch place {
            case 0: name = try value.tokenName()
            case 1: hash = try value.hash()
            case 2: allow = try value.permissions()
            case 3: queues = try value.patterns()
            default: expires = try value.time(now: now)
            }
        }
        guard let name else { throw Problem(.missingField, "the token has no name", field: "name") }
        guard let hash else {
            throw Problem(
                .missingField, "the token has no sha256; `emq token new` makes a token and prints it", field: "sha256")
        }
        guard let allow else {
            let all = Permission.allCases.map(\.name).joined(separator: ", ")
            throw Problem(.missingField, "the token allows nothing; name at least one of \(all)", field: "allow")
        }
        self.init(name: name, hash: hash, permissions: allow, queues: queues, expires: expires)
    }

    /// Why no token can have this name, after its length has been checked; nil if one can.
    static func flaw(inName name: Span<UInt8>) -> String? {
        QueueName.flaw(in: name, of: "a token")
    }
}

extension Permissions {
    /// Reads the name of a permission.
    ///
    /// - Throws: `Problem`, with a hint at the name that was probably meant.
    init(named name: String) throws(Problem) {
        guard let permission = Permission.allCases.first(where: { $0.name == name }) else {
            let hint = nearestName(to: name, among: Permission.allCases.map(\.name))
            throw Problem(.invalidField, "there is no permission '\(beginning(of: name))'; \(hint)")
        }
        self.init(permission)
    }
}

extension FieldValue {
    fileprivate func tokenName() throws(Problem) -> String {
        let name = try string(maximumBytes: TokensFile.maximumNameByteCount)
        if let flaw = Token.flaw(inName: name.span) { throw Problem(.invalidField, flaw, field: "\(self.name)") }
        return text(name.span)
    }

    fileprivate func hash() throws(Problem) -> SHA256.Digest {
        let digits = try string(maximumBytes: 1000)
        if digits.span.starts(with: "emq_") {
            throw Problem(
                .invalidField,
                "this must be the SHA-256 of the token, not the token itself: printf %s TOKEN | sha256sum",
                field: "\(name)")
        }
        var hash = SHA256.Digest(repeating: 0)
        guard digits.count == 64 else {
            throw Problem(
                .invalidField, "this must be a SHA-256: 64 hexadecimal digits, not \(digits.count) characters",
                field: "\(name)")
        }
        for index in digits.indices {
            guard let digit = digits[index].hexadecimalValue else {
                throw Problem(.invalidField, "this must be a SHA-256: 64 hexadecimal digits", field: "\(name)")
            }
            hash[index / 2] = hash[index / 2] << 4 | digit
        }
        return hash
    }

    fileprivate func permissions() throws(Problem) -> Permissions {
        var permissions: Permissions = []
        for (index, name) in try strings(maximumCount: 100).enumerated() {
            do throws(Problem) { permissions.insert(try Permissions(named: text(name.span))) } catch {
                throw Problem(.invalidField, error.detail, field: "\(self.name)[\(index)]")
            }
        }
        return permissions
    }

    fileprivate func patterns() throws(Problem) -> [GlobPattern] {
        var patterns: [GlobPattern] = []
        for (index, text) in try strings(maximumCount: TokensFile.maximumPatternCount).enumerated() {
            guard QueueName.flaw(in: text.span) == nil, let pattern = GlobPattern(text.span) else {
                throw Problem(
                    .invalidField,
                    "a pattern must have 1 to \(QueueName.maximumByteCount) bytes and no control characters",
                    field: "\(name)[\(index)]")
            }
            patterns.append(pattern)
        }
        return patterns
    }

    /// An array of one or more strings.
    private func strings(maximumCount: Int) throws(Problem) -> [[UInt8]] {
        var elements = Elements()
        try elements.read(self, of: "strings", maximum: maximumCount)
        if elements.count == 0 {
            throw Problem(
                .invalidField, "this array is empty; name at least one, or leave out the field", field: "\(name)")
        }
        var texts: [[UInt8]] = []
        for index in 0..<elements.count {
            var decoded: [UInt8] = []
            guard JSONValue.decodeString(bytes.extracting(try elements.string(index)), into: &decoded) else {
                throw elements.flaw(index, "this must be a string in UTF-8")
            }
            texts.append(decoded)
        }
        return texts
    }
}
