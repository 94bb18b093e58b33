// A request to send, and its limits.

import Bytes

/// A request of the client. All times are in milliseconds.
public struct ClientRequest {
    /// The target.
    public var url: HTTPURL
    /// The method (`isAllowedMethod`).
    public var method: [UInt8]
    /// Complete lines, each `Name: value` and CR LF, which are sent unchanged (`isAllowedField`, `isFieldValue`). The
    /// client adds Host and, if there is a body, Content-Length.
    public var fields: [UInt8]
    /// The body; nil for a request without one.
    public var body: [UInt8]?
    /// Requests of one group share a limit on concurrent look-ups of names (`HTTPClient.canBegin`).
    public var group: UInt32 = 0
    /// The value of the Host field if it is not the URL's host and port. It does not go to another host, port or scheme.
    public var host: [UInt8]?
    /// The path of the Unix-domain socket to connect to; nil to connect to the URL's host. The URL must be an http one,
    /// and says the target and the Host field only: its host is not looked up, and the client's `refusal`, which is
    /// about IP addresses, is not asked. If the socket's queue of new connections is full, the client tries again until
    /// `connectTimeoutMilliseconds` have passed. A redirect that leads to another host, port or scheme is a failure.
    public var socketPath: String?
    /// The issuers whose certificates are accepted if the URL is an https one; nil for those of the client.
    public var trust: TLSTrust?
    /// Which redirects are followed, and how.
    public var redirects = RedirectRules()
    /// The time limit for finding the host's addresses and connecting to one.
    public var connectTimeoutMilliseconds: Int64 = 10_000
    /// The time limit from the connection to the first byte of the response; nil for that of the whole exchange.
    public var firstByteTimeoutMilliseconds: Int64?
    /// The time limit between two steps of an exchange, each of which sends or receives bytes; nil for that of the whole
    /// exchange.
    public var idleTimeoutMilliseconds: Int64?
    /// The time limit for the whole exchange from `HTTPClient.send` on, including redirects and the wait for a
    /// connection. With `Int64.max` there is none, as with each of these limits.
    public var timeoutMilliseconds: Int64 = 30_000
    /// How much of the response's body is kept, in bytes. The exchange ends when more arrives.
    public var bodyLimit = 1 << 20
    /// Whether the body of a 2xx response is passed on in parts as it arrives (`HTTPClient.advance`), and is not kept:
    /// `bodyLimit` does not apply to it, `decodesContent` has no effect, and the response has an empty body when it is
    /// reported. Other responses are reported as usual. `idleTimeoutMilliseconds` bounds the silence between two parts.
    public var streamsBody = false
    /// Whether a body in gzip or deflate is unpacked. `fields` must contain an Accept-Encoding that asks for it. Nothing
    /// is unpacked if the system has no zlib (`canDecodeContent`).
    public var decodesContent = false

    /// Whether the system has zlib, so that bodies can be unpacked. The first call loads it.
    public static var canDecodeContent: Bool { Zlib.system != nil }

    /// A request with the default limits.
    public init(url: HTTPURL, method: [UInt8], fields: [UInt8], body: [UInt8]?) {
        self.url = url
        self.method = method
        self.fields = fields
        self.body = body
    }

    /// Whether a method is a token other than CONNECT, which is for proxies.
    public static func isAllowedMethod(_ method: Span<UInt8>) -> Bool {
        isFieldName(method) && !method.equals("CONNECT")
    }

    /// Whether the bytes are a token, as the name of a field must be.
    public static func isFieldName(_ name: Span<UInt8>) -> Bool {
        !name.isEmpty && name.endOfToken(from: 0, before: name.count) == name.count
    }

    /// Whether `fields` may contain a field of this name: a token that does not concern the connection, the body's
    /// length or the host.
    public static func isAllowedField(name: Span<UInt8>) -> Bool {
        guard isFieldName(name) else { return false }
        let reserved: [StaticString] = [
            "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "TE", "Trailer",
            "Expect",
        ]
        if reserved.contains(where: { name.equalsIgnoringCase($0) }) { return false }
        return name.count < 6 || !name.extracting(first: 6).equalsIgnoringCase("Proxy-")
    }

    /// Whether the bytes may be a field's value: no control characters except tabs.
    public static func isFieldValue(_ value: Span<UInt8>) -> Bool { value.isFieldValue }

    /// Whether the URL's host is a name that has to be looked up.
    var needsLookUp: Bool { socketPath == nil && url.address == nil }

    var isHead: Bool { method.span.equals("HEAD") }

    /// Writes the head.
    func writeHead(to buffer: inout Buffer) {
        buffer.append(method.span)
        buffer.append(" ")
        buffer.append(url.target.span)
        buffer.append(" HTTP/1.1\r\nHost: ")
        if let host { buffer.append(host.span) } else { buffer.append(url.authority.span) }
        buffer.append("\r\n")
        buffer.append(fields.span)
        if let body {
            buffer.append("Content-Length: ")
            buffer.append(decimal: body.count)
            buffer.append("\r\n")
        }
        buffer.append("\r\n")
    }

    /// Changes this into the request that a redirect asks for (RFC 9110 section 15.4).
    mutating func redirect(to target: HTTPURL, status: Int) {
        if url.origin != target.origin { host = nil }
        if !url.sharesCredentials(with: target) {
            removeFields { $0.equalsIgnoringCase("Authorization") || $0.equalsIgnoringCase("Cookie") }
        }
        if status <= 303 {
            let isMoved = status == 301 && redirects.keepsMethodWhenMoved && !method.span.equals("POST")
            if !isHead, !isMoved { method = Array("GET".utf8) }
            // A receiver may insist on a length where content is usual (RFC 9110 section 8.6).
            body = isHead || method.span.equals("GET") ? nil : []
            removeFields { $0.count > 8 && $0.extracting(first: 8).equalsIgnoringCase("Content-") }
        }
        url = target
    }

    /// Replaces the Cookie fields by one for the present URL.
    mutating func setCookies(_ cookies: CookieJar) {
        removeFields { $0.equalsIgnoringCase("Cookie") }
        fields += cookies.field(for: url)
    }

    private mutating func removeFields(where isUnwanted: (Span<UInt8>) -> Bool) {
        var kept: [UInt8] = []
        let all = fields
        let lines = all.span
        var start = 0
        while let end = lines.index(of: UInt8(ascii: "\n"), from: start) {
            let name = lines.extracting(start..<lines.endOfToken(from: start, before: end))
            if !isUnwanted(name) { kept += all[start...end] }
            start = end + 1
        }
        fields = kept
    }
}

/// Which redirects a request follows, and how (RFC 9110 section 15.4).
///
/// 301, 302 and 303 turn any method but HEAD into GET, and drop the content; 307 and 308 change nothing. Authorization and
/// Cookie do not go to another host or port, except from http to https of the same host. A redirect from https to http is
/// a failure.
public struct RedirectRules: Equatable, Sendable {
    /// How many redirects are followed.
    public var limit: Int
    /// Whether one more is a failure. If not, it counts as the response.
    public var failsBeyondLimit = false
    /// Whether 301 changes only POST into GET.
    public var keepsMethodWhenMoved = false
    /// Whether the cookies that redirects set are sent to later targets (RFC 6265). The request's own Cookie field then
    /// goes to its first target only.
    public var keepsCookies = false
    /// Whether bytes that a URL must not contain are percent-encoded in targets. If not, such a target is a failure.
    public var encodesTargets = false

    /// Rules with a limit.
    public init(limit: Int = 0) { self.limit = limit }
}
