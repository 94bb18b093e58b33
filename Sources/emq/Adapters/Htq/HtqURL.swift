// The URL of a request, as Python's requests reads it.

import Bytes
import Net

/// Where a request goes, and the credentials that its URL contains.
struct HtqURL {
    let url: HTTPURL
    /// The value of an Authorization field; nil if the URL names no user and password.
    let authorization: [UInt8]?

    /// Reads a URL. Bytes that a URL must not contain are percent-encoded.
    ///
    /// - Throws: `HtqFlaw` for a URL to which no request can be sent.
    init(_ text: [UInt8]) throws(HtqFlaw) {
        let string = String(decoding: text, as: UTF8.self)
        func flaw(_ detail: String) -> HtqFlaw { HtqFlaw("Invalid URL \(PythonText.repr(string)): \(detail)") }
        let isHTTP = text.lowercasedASCII.starts(with: "http".utf8)
        guard isHTTP || !text.contains(UInt8(ascii: ":")) else { throw Self.noAdapter(string) }
        guard let colon = text.firstIndex(of: UInt8(ascii: ":")), text[colon...].starts(with: "://".utf8) else {
            throw flaw("No schema supplied. Perhaps you meant http://\(string)?")
        }
        let scheme = text[..<colon].map(\.lowercasedASCII)
        guard scheme.elementsEqual("http".utf8) || scheme.elementsEqual("https".utf8) else {
            throw Self.noAdapter(string)
        }
        let rest = text[(colon + 3)...]
        let authority = rest.prefix { !"/?#".utf8.contains($0) }
        let hostStart = authority.lastIndex(of: UInt8(ascii: "@")).map { $0 + 1 } ?? authority.startIndex
        let host = authority[hostStart...]
        guard let first = host.first, first != UInt8(ascii: ":") else { throw flaw("No host supplied") }
        let clean = text[..<(colon + 3)] + host + (try Self.requoted(rest[authority.endIndex...]))
        do throws(HTTPURLError) { url = try HTTPURL(clean.span) } catch { throw flaw("\(error)") }
        authorization = hostStart == authority.startIndex ? nil : Self.basic(authority[..<(hostStart - 1)])
    }

    private static func noAdapter(_ url: String) -> HtqFlaw {
        HtqFlaw("No connection adapters were found for '\(url)'")
    }

    /// Encodes what a path, query and fragment must not contain, and decodes what needs no encoding.
    private static func requoted(_ bytes: ArraySlice<UInt8>) throws(HtqFlaw) -> [UInt8] {
        var quoted: [UInt8] = []
        var index = bytes.startIndex
        while index < bytes.endIndex {
            let byte = bytes[index]
            index += 1
            let escape = byte == UInt8(ascii: "%") ? bytes[index...].prefix(2) : []
            if escape.count == 2, escape.allSatisfy({ $0.isLetter || $0.isDigit }) {
                guard let high = escape[index].hexadecimalValue, let low = escape[index + 1].hexadecimalValue else {
                    throw HtqFlaw("Invalid percent-escape sequence: '\(String(decoding: escape, as: UTF8.self))'")
                }
                let decoded = high << 4 | low
                quoted += PercentEncoding.isUnreserved(decoded) ? [decoded] : [byte] + escape
                index += 2
            } else if "!#$&'()*+,/:;=?@".utf8.contains(byte) {
                quoted.append(byte)
            } else {
                PercentEncoding.encode([byte].span, into: &quoted)
            }
        }
        return quoted
    }

    /// The credentials of `user:password`, both percent-encoded; nil if both are empty or there is no colon.
    private static func basic(_ credentials: ArraySlice<UInt8>) -> [UInt8]? {
        guard credentials.contains(UInt8(ascii: ":")), credentials.count > 1 else { return nil }
        var decoded: [UInt8] = []
        PercentEncoding.decode(Array(credentials).span, into: &decoded)
        var value = Array("Basic ".utf8)
        let latin1 = decoded.asLatin1
        Base64.standard.encode(latin1.span, into: &value)
        return value
    }
}

/// Why a request cannot be sent. Clients see it as the message of the response.
struct HtqFlaw: Error {
    let message: String

    init(_ message: String) { self.message = message }
}

extension [UInt8] {
    /// A text in UTF-8 as Python's http.client sends it: in ISO-8859-1 if it fits, otherwise in UTF-8. O(*n*).
    var asLatin1: [UInt8] {
        var latin1: [UInt8] = []
        latin1.reserveCapacity(count)
        var upper: UInt8 = 0
        for byte in self {
            switch byte {
            case 0..<0x80: latin1.append(byte)
            // In UTF-8, these two begin the characters up to U+00FF.
            case 0xC2, 0xC3: upper = byte << 6
            case 0x80..<0xC0: latin1.append(upper | byte & 0x3F)
            default: return self
            }
        }
        return latin1
    }
}
