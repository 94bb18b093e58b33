// The cookies of one exchange (RFC 6265): what a redirect sets is sent to the targets behind it.

import Bytes
import Glibc

/// A few cookies, kept for as long as one exchange follows redirects.
struct CookieJar {
    private static let maximumCount = 50
    private static let maximumByteCount = 4096

    private struct Cookie {
        var name: [UInt8]
        var value: [UInt8]
        var domain: String
        var isForSubdomains = false
        var isSecure = false
        var path: [UInt8]

        func matches(_ url: HTTPURL) -> Bool {
            if isSecure, !url.isSecure { return false }
            guard url.host == domain || isForSubdomains && CookieJar.isHost(url.host, below: domain) else {
                return false
            }
            // Section 5.1.4.
            let target = CookieJar.path(of: url)
            return target.starts(with: path)
                && (target.count == path.count || path.last == UInt8(ascii: "/")
                    || target[path.count] == UInt8(ascii: "/"))
        }
    }

    /// The cookies, in the order in which they were set.
    private var cookies: [Cookie] = []

    /// Takes the value of a Set-Cookie field (section 5.2). Cookies that are malformed, expired or not for this URL's host
    /// are left out, and so are those that are for https alone but come over http.
    mutating func store(_ field: Span<UInt8>, from url: HTTPURL) {
        guard field.count <= Self.maximumByteCount else { return }
        let parts = Array(copying: field).split(separator: UInt8(ascii: ";"), omittingEmptySubsequences: false)
        guard let first = parts.first, let pair = Self.pair(first), let value = pair.value, !pair.name.isEmpty else {
            return
        }
        var cookie = Cookie(name: pair.name, value: value, domain: url.host, path: Self.directory(of: url))
        var (expires, lifeSeconds): (Int64?, Int64?)
        let now = Int64(time(nil))
        for part in parts.dropFirst() {
            guard let attribute = Self.pair(part) else { continue }
            let text = String(decoding: attribute.value ?? [], as: UTF8.self)
            switch String(decoding: attribute.name.lowercasedASCII, as: UTF8.self) {
            case "path": if text.hasPrefix("/") { cookie.path = Array(text.utf8) }
            case "domain":
                let domain = (text.hasPrefix(".") ? text.dropFirst() : text[...]).lowercased()
                if domain.isEmpty || domain == url.host { continue }
                // No server may set cookies for a whole top-level domain.
                guard domain.contains("."), Self.isHost(url.host, below: domain) else { return }
                cookie.domain = domain
                cookie.isForSubdomains = true
            case "max-age": lifeSeconds = Int64(text) ?? lifeSeconds
            case "expires": expires = HTTPDate.unixSeconds(text, now: now)
            case "secure":
                guard url.isSecure else { return }
                cookie.isSecure = true
            default: continue
            }
        }
        let place = cookies.firstIndex {
            $0.name == cookie.name && $0.domain == cookie.domain && $0.path == cookie.path
        }
        let isExpired = lifeSeconds.map { $0 <= 0 } ?? expires.map { $0 <= now } ?? false
        switch place {
        case let place? where isExpired: cookies.remove(at: place)
        case let place?: cookies[place] = cookie
        case nil: if !isExpired, cookies.count < Self.maximumCount { cookies.append(cookie) }
        }
    }

    /// The Cookie line for a URL; empty if it gets none (section 5.4).
    func field(for url: HTTPURL) -> [UInt8] {
        let sent = cookies.enumerated().filter { $0.element.matches(url) }
            .sorted { ($1.element.path.count, $0.offset) < ($0.element.path.count, $1.offset) }
            .map { $0.element.name + [UInt8(ascii: "=")] + $0.element.value }
        if sent.isEmpty { return [] }
        return Array("Cookie: ".utf8) + sent.joined(separator: "; ".utf8) + Array("\r\n".utf8)
    }

    /// The two sides of the first `=`, without blanks around them. The second is nil if there is no `=`.
    private static func pair(_ part: ArraySlice<UInt8>) -> (name: [UInt8], value: [UInt8]?)? {
        let sides = part.split(separator: UInt8(ascii: "="), maxSplits: 1, omittingEmptySubsequences: false).map {
            Array($0.drop(while: \.isBlank).reversed().drop(while: \.isBlank).reversed())
        }
        return sides.first.map { ($0, sides.count > 1 ? sides[1] : nil) }
    }

    /// Section 5.1.3; addresses have no domain above them.
    private static func isHost(_ host: String, below domain: String) -> Bool {
        host.hasSuffix("." + domain) && IPAddress(host) == nil
    }

    private static func path(of url: HTTPURL) -> ArraySlice<UInt8> { url.target.prefix { $0 != UInt8(ascii: "?") } }

    /// The path up to its last slash, section 5.1.4.
    private static func directory(of url: HTTPURL) -> [UInt8] {
        let path = path(of: url)
        let end = path.lastIndex(of: UInt8(ascii: "/")) ?? path.startIndex
        return end == path.startIndex ? [UInt8(ascii: "/")] : Array(path[..<end])
    }
}
