// The text of a response's body, decoded as Python's requests decodes it.

import Bytes

/// A character encoding that a response may name.
enum TextEncoding {
    case utf8, latin1, windows1252, ascii
    /// Without a byte order, a mark at the beginning tells it.
    case utf16(isBigEndian: Bool?)

    /// The encoding with this name, in any spelling that Python knows; UTF-8 for an unknown name.
    init(named name: some StringProtocol) {
        let letters = name.lowercased().utf8.filter { $0.isLetter || $0.isDigit }
        switch String(decoding: letters, as: UTF8.self) {
        case "iso88591", "88591", "8859", "latin1", "latin", "l1", "cp819", "ibm819", "isoir100": self = .latin1
        case "windows1252", "cp1252", "1252": self = .windows1252
        case "usascii", "ascii", "646", "iso646us": self = .ascii
        case "utf16", "u16": self = .utf16(isBigEndian: nil)
        case "utf16le": self = .utf16(isBigEndian: false)
        case "utf16be": self = .utf16(isBigEndian: true)
        default: self = .utf8
        }
    }

    /// The text of a body.
    ///
    /// A body of text without a charset is in UTF-8 if it can be, and otherwise in ISO-8859-1.
    ///
    /// - Parameters:
    ///   - body: the body.
    ///   - contentType: the value of its Content-Type field; empty if there is none.
    ///   - isTruncated: whether the body may end within a character.
    /// - Returns: the text, with U+FFFD in place of what is not valid.
    static func text(of body: Span<UInt8>, contentType: String, isTruncated: Bool) -> String {
        let parts = contentType.split(separator: ";", omittingEmptySubsequences: false)
        for parameter in parts.dropFirst() {
            let sides = parameter.split(separator: "=", maxSplits: 1)
            if sides.count == 2, sides[0].utf8.filter({ $0 > 0x20 }).lowercasedASCII.span.equals("charset") {
                return TextEncoding(named: sides[1]).decode(body)
            }
        }
        if !parts[0].lowercased().hasPrefix("text/") { return TextEncoding.utf8.decode(body) }
        return utf8OrLatin1(body, isTruncated: isTruncated)
    }

    /// The text of bytes that are in UTF-8 if they can be, and otherwise in ISO-8859-1.
    static func utf8OrLatin1(_ bytes: Span<UInt8>, isTruncated: Bool = false) -> String {
        for dropped in 0...min(isTruncated ? 3 : 0, bytes.count) {
            let whole = Array(copying: bytes.extracting(first: bytes.count - dropped))
            if let text = String(validating: whole, as: UTF8.self) { return text }
        }
        return TextEncoding.latin1.decode(bytes)
    }

    /// The text that bytes stand for, with U+FFFD in place of what is not valid. O(*n*).
    func decode(_ bytes: Span<UInt8>) -> String {
        switch self {
        case .utf8: String(decoding: bytes)
        case .latin1: Self.decode(bytes) { Unicode.Scalar($0) }
        case .ascii: Self.decode(bytes) { $0 < 0x80 ? Unicode.Scalar($0) : "\u{FFFD}" }
        case .windows1252:
            Self.decode(bytes) {
                (0x80..<0xA0).contains($0) ? Self.windows1252Characters[Int($0) - 0x80] : Unicode.Scalar($0)
            }
        case .utf16(let isBigEndian): Self.decodeUTF16(bytes, isBigEndian: isBigEndian)
        }
    }

    /// The characters of Windows-1252 from 0x80 to 0x9F.
    private static let windows1252Characters: [Unicode.Scalar] = [
        "€", "\u{FFFD}", "‚", "ƒ", "„", "…", "†", "‡", "ˆ", "‰", "Š", "‹", "Œ", "\u{FFFD}", "Ž", "\u{FFFD}",
        "\u{FFFD}", "‘", "’", "“", "”", "•", "–", "—", "˜", "™", "š", "›", "œ", "\u{FFFD}", "ž", "Ÿ",
    ]

    private static func decode(_ bytes: Span<UInt8>, _ character: (UInt8) -> Unicode.Scalar) -> String {
        var text = String.UnicodeScalarView()
        for index in bytes.indices { text.append(character(bytes[index])) }
        return String(text)
    }

    private static func decodeUTF16(_ bytes: Span<UInt8>, isBigEndian: Bool?) -> String {
        let mark = bytes.count < 2 ? 0 : UInt16(bytes[0]) << 8 | UInt16(bytes[1])
        let hasMark = isBigEndian == nil && (mark == 0xFEFF || mark == 0xFFFE)
        let isBigEndian = isBigEndian ?? (mark == 0xFEFF)
        let units = stride(from: hasMark ? 2 : 0, to: bytes.count - 1, by: 2).map { index in
            let unit = UInt16(bytes[index]) << 8 | UInt16(bytes[index + 1])
            return isBigEndian ? unit : unit.byteSwapped
        }
        return String(decoding: units, as: UTF16.self) + (bytes.count % 2 == 1 ? "\u{FFFD}" : "")
    }
}
