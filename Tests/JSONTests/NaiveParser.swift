// A second, naive JSON parser: RFC 8259 word for word, recursive and slow.

@testable import JSON

/// Parses a whole document, production by production.
struct NaiveParser {
    private struct NotJSON: Error {}

    private let bytes: [UInt8]
    private var index = 0
    private var depth = 0
    private var entries: [JSONScanner.Entry] = []

    /// The scanner's expected result for `bytes`; nil if they are not JSON.
    static func parse(_ bytes: [UInt8]) -> Outcome? {
        guard String(validating: bytes, as: UTF8.self) != nil else { return nil }
        var parser = NaiveParser(bytes: bytes)
        do {
            parser.space()
            let (kind, value) = try parser.value()
            parser.space()
            return parser.index == bytes.count ? .document(kind: kind, value: value, entries: parser.entries) : nil
        } catch {
            return nil
        }
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    private var next: Character? { index < bytes.count ? Character(Unicode.Scalar(bytes[index])) : nil }

    private mutating func take(where matches: (Character) -> Bool) -> Bool {
        guard let next, matches(next) else { return false }
        index += 1
        return true
    }

    private mutating func take(_ text: String) -> Bool {
        guard bytes[index...].starts(with: text.utf8) else { return false }
        index += text.utf8.count
        return true
    }

    private mutating func expect(_ isThere: Bool) throws {
        guard isThere else { throw NotJSON() }
    }

    private mutating func space() {
        while take(where: { " \t\n\r".unicodeScalars.contains($0.unicodeScalars.first ?? "x") }) {}
    }

    private mutating func value() throws -> (JSONKind, Range<Int>) {
        let start = index
        let kind: JSONKind
        switch next {
        case "{":
            kind = .object
            try container(end: "}") { parser in
                let name = try parser.string()
                parser.space()
                try parser.expect(parser.take(":"))
                parser.space()
                return name
            }
        case "[":
            kind = .array
            try container(end: "]") { _ in nil }
        case "\"":
            kind = .string
            _ = try string()
        case "t":
            kind = .true
            try expect(take("true"))
        case "f":
            kind = .false
            try expect(take("false"))
        case "n":
            kind = .null
            try expect(take("null"))
        default:
            kind = .number
            try number()
        }
        return (kind, start..<index)
    }

    private mutating func container(
        end: String, name: (inout NaiveParser) throws -> Range<Int>?
    ) throws {
        depth += 1
        try expect(depth <= 512)
        index += 1
        space()
        if !take(end) {
            repeat {
                space()
                let name = try name(&self)
                let (kind, value) = try value()
                if depth == 1 {
                    entries.append(
                        JSONScanner.Entry(
                            name: name ?? 0..<0,
                            nameHasEscapes: name.map { bytes[$0].contains(UInt8(ascii: "\\")) } ?? false,
                            value: value, kind: kind))
                }
                space()
            } while take(",")
            try expect(take(end))
        }
        depth -= 1
    }

    private mutating func string() throws -> Range<Int> {
        try expect(take("\""))
        let start = index
        while !take("\"") {
            if take("\\") {
                if take("u") {
                    for _ in 0..<4 { try expect(take(where: { $0.isASCII && $0.isHexDigit })) }
                } else {
                    try expect(take(where: { "\"\\/bfnrt".contains($0) }))
                }
            } else {
                // Also the bytes of longer characters: the text is known to be UTF-8.
                try expect(index < bytes.count && bytes[index] >= 0x20)
                index += 1
            }
        }
        return start..<index - 1
    }

    private mutating func number() throws {
        _ = take("-")
        if !take("0") { try digits() }
        if take(".") { try digits() }
        if take("e") || take("E") {
            _ = take("+") || take("-")
            try digits()
        }
    }

    private mutating func digits() throws {
        let isDigit = { (character: Character) in ("0"..."9").contains(character) }
        try expect(take(where: isDigit))
        while take(where: isDigit) {}
    }
}
