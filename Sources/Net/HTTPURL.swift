// The target of a client's request: an http or https URL, parsed strictly. If two parsers disagree about a URL's host,
// an address filter can be bypassed.

import Bytes

/// An absolute `http` or `https` URL (RFC 9110 section 4.2, RFC 3986).
public struct HTTPURL: Hashable, Sendable, CustomStringConvertible {
    /// The longest URL, in bytes.
    public static let maximumLength = 8000

    /// The host in lower case: a registered name, an IPv4 address, or an IPv6 address without its brackets.
    public let host: String
    /// Whether it is an `https` URL.
    public let isSecure: Bool
    /// The port: 80 or, for https, 443 if the URL names none.
    public let port: UInt16
    /// The path and the query as written, at least `/`.
    public let target: [UInt8]
    /// The value of a Host field: the host, and the port unless it is the scheme's own.
    public let authority: [UInt8]
    /// The scheme and the authority, as in `https://example.com:8443`. It identifies the receiver (RFC 6454 section 4).
    public let origin: [UInt8]
    /// The URL as written, without its fragment.
    public let description: String

    /// Reads a URL; a fragment is dropped. O(length).
    ///
    /// - Throws: `HTTPURLError`, which says what would be right.
    public init(_ text: Span<UInt8>) throws(HTTPURLError) {
        guard text.count <= HTTPURL.maximumLength else {
            throw HTTPURLError("a URL is at most \(HTTPURL.maximumLength) bytes long, not \(text.count)")
        }
        for index in text.indices where text[index] <= 0x20 || text[index] >= 0x7F {
            throw HTTPURL.mustBePercentEncoded(text[index])
        }
        func begins(with scheme: StaticString) -> Bool {
            let count = scheme.utf8CodeUnitCount
            return text.count >= count && text.extracting(first: count).equalsIgnoringCase(scheme)
        }
        isSecure = begins(with: "https://")
        guard isSecure || begins(with: "http://") else {
            throw HTTPURLError("a URL begins with http:// or https://")
        }
        let scheme = isSecure ? "https://" : "http://"
        let start = scheme.utf8.count
        let end = text.index(of: UInt8(ascii: "#")) ?? text.count
        var targetStart = start
        while targetStart < end, text[targetStart] != UInt8(ascii: "/"), text[targetStart] != UInt8(ascii: "?") {
            targetStart += 1
        }
        let usualPort: UInt16 = isSecure ? 443 : 80
        let name: (host: String, port: UInt16?) = try HTTPURL.readAuthority(text.extracting(start..<targetStart))
        (host, port) = (name.host, name.port ?? usualPort)
        if let flaw = text.indexOfTargetFlaw(targetStart..<end) {
            if text[flaw] == UInt8(ascii: "%") {
                throw HTTPURLError("a % in a URL is followed by two hexadecimal digits")
            }
            throw HTTPURL.mustBePercentEncoded(text[flaw])
        }
        let written = Array(copying: text.extracting(targetStart..<end))
        let literal = host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]" : host
        authority = Array((port == usualPort ? literal : "\(literal):\(port)").utf8)
        origin = Array(scheme.utf8) + authority
        target = written.first == UInt8(ascii: "/") ? written : [UInt8(ascii: "/")] + written
        description = String(decoding: text.extracting(first: end))
    }

    /// The address, if the host is a literal one.
    public var address: IPAddress? { IPAddress(host) }

    /// Whether credentials for this URL may go to a redirect's target: one of the same origin, or of the same host with
    /// https in place of http, both at their usual ports.
    func sharesCredentials(with target: HTTPURL) -> Bool {
        origin == target.origin
            || host == target.host && !isSecure && target.isSecure && port == 80 && target.port == 443
    }

    private static func mustBePercentEncoded(_ byte: UInt8) -> HTTPURLError {
        HTTPURLError("byte \(byte.hexadecimalText) in a URL must be percent-encoded")
    }

    // MARK: Host and port

    private static func readAuthority(_ text: Span<UInt8>) throws(HTTPURLError) -> (host: String, port: UInt16?) {
        guard text.index(of: UInt8(ascii: "@")) == nil else {
            throw HTTPURLError("a URL has no user and password; use a header for them")
        }
        var hostEnd = text.index(of: UInt8(ascii: ":")) ?? text.count
        let host: String
        if text.count > 0, text[0] == UInt8(ascii: "[") {
            let close = text.index(of: UInt8(ascii: "]")) ?? 0
            let literal = close > 1 ? String(decoding: text.extracting(1..<close)) : ""
            guard literal.utf8.contains(UInt8(ascii: ":")), let address = IPAddress(literal) else {
                throw HTTPURLError("between the brackets of a URL's host stands an IPv6 address")
            }
            host = address.description
            hostEnd = close + 1
        } else {
            host = String(decoding: Array(copying: text.extracting(first: hostEnd)).lowercasedASCII, as: UTF8.self)
            try checkName(host)
        }
        if hostEnd == text.count { return (host, nil) }
        guard text[hostEnd] == UInt8(ascii: ":") else { throw HTTPURLError("a URL's host is followed by : or /") }
        // RFC 3986 section 3.2.3: an empty port is the default one.
        let digits = Array(copying: text.extracting(hostEnd + 1..<text.count))
        if digits.isEmpty { return (host, nil) }
        guard let port = UInt16(decimal: digits), port > 0 else {
            throw HTTPURLError("a URL's port is a number from 1 to 65535")
        }
        return (host, port)
    }

    private static func checkName(_ host: String) throws(HTTPURLError) {
        guard !host.isEmpty else { throw HTTPURLError("a URL needs a host") }
        let isName = host.utf8.allSatisfy { byte in
            byte.isLetter || byte.isDigit || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
                || byte == UInt8(ascii: "_")
        }
        guard isName, host.utf8.count <= 253 else {
            throw HTTPURLError("a URL's host is made of at most 253 letters, digits, hyphens, dots and underscores")
        }
        // The system reads 127.1 and 0x7f000001 as addresses; other URL parsers do not.
        let labels = host.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: true)
        guard let last = labels.last else { throw HTTPURLError("a URL needs a host") }
        let isNumber = last.allSatisfy(\.isDigit) || last.starts(with: Array("0x".utf8))
        guard !isNumber || IPAddress(host) != nil else {
            throw HTTPURLError("a host that ends in a number is an IPv4 address, four numbers from 0 to 255")
        }
    }

    // MARK: References

    /// Resolves a reference found at this URL, such as a Location field's value (RFC 3986 section 5.2).
    ///
    /// - Throws: `HTTPURLError` if the result is not a valid URL, or leads from https to http.
    func resolving(_ reference: Span<UInt8>) throws(HTTPURLError) -> HTTPURL {
        let target = try absolute(reference)
        guard target.isSecure || !isSecure else { throw HTTPURLError("it leads from https to http") }
        return target
    }

    private func absolute(_ reference: Span<UInt8>) throws(HTTPURLError) -> HTTPURL {
        let text = Array(copying: reference)
        let first = text.first { !$0.isSchemeCharacter }
        // A scheme ends with a colon and has only the characters of a scheme before it.
        if first == UInt8(ascii: ":"), text[0] != UInt8(ascii: ":") { return try HTTPURL(reference) }
        if text.starts(with: Array("//".utf8)) {
            return try HTTPURL((origin.dropLast(authority.count + 2) + text).span)
        }
        let query = target.firstIndex(of: UInt8(ascii: "?")) ?? target.count
        let merged: [UInt8]
        switch text.first {
        case nil, UInt8(ascii: "#"): merged = target
        case UInt8(ascii: "?"): merged = target[..<query] + text
        case UInt8(ascii: "/"): merged = text
        default:
            merged = target[..<query].prefix(through: target[..<query].lastIndex(of: UInt8(ascii: "/")) ?? 0) + text
        }
        let path = merged.prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
        let whole = origin + HTTPURL.removingDotSegments(path) + merged[path.endIndex...]
        return try HTTPURL(whole.span)
    }

    /// Encodes the bytes of a reference that no part of a URL may contain (RFC 3986 section 2).
    static func encoding(_ reference: Span<UInt8>) -> [UInt8] {
        var encoded: [UInt8] = []
        for index in reference.indices {
            let byte = reference[index]
            if byte <= 0x20 || byte >= 0x7F || "\"<>\\^`{|}".utf8.contains(byte) {
                PercentEncoding.encode(reference.extracting(index..<index + 1), into: &encoded)
            } else {
                encoded.append(byte)
            }
        }
        return encoded
    }

    /// RFC 3986 section 5.2.4.
    private static func removingDotSegments(_ path: ArraySlice<UInt8>) -> [UInt8] {
        let segments = path.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).dropFirst()
        var kept: [ArraySlice<UInt8>] = []
        for segment in segments {
            if segment.elementsEqual("..".utf8) {
                _ = kept.popLast()
            } else if !segment.elementsEqual(".".utf8) {
                kept.append(segment)
            }
        }
        // The path of a directory ends with a slash.
        if let last = segments.last, last.elementsEqual("..".utf8) || last.elementsEqual(".".utf8) { kept.append([]) }
        return kept.flatMap { [UInt8(ascii: "/")] + $0 }
    }
}

extension UInt8 {
    /// `ALPHA / DIGIT / "+" / "-" / "."`, RFC 3986 section 3.1.
    fileprivate var isSchemeCharacter: Bool {
        isLetter || isDigit || self == UInt8(ascii: "+") || self == UInt8(ascii: "-") || self == UInt8(ascii: ".")
    }
}

/// An invalid URL, with a sentence for its author.
public struct HTTPURLError: Error, Equatable, CustomStringConvertible {
    /// What would be right, and what was given.
    public let description: String

    init(_ description: String) { self.description = description }
}
