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
    /// How many redirects are followed; a further one counts as the response. 301, 302 and 303 turn any method but HEAD
    /// into GET without content; 307 and 308 change nothing. Authorization and Cookie do not go to another host or
    /// port.
    public var redirectLimit = 0
    /// The time limit for finding the host's addresses and connecting to one.
    public var connectTimeoutMilliseconds: Int64 = 10_000
    /// The time limit from the connection to the first byte of the response; nil for that of the whole exchange.
    public var firstByteTimeoutMilliseconds: Int64?
    /// The time limit for the whole exchange from `HTTPClient.send` on, including redirects and the wait for a
    /// connection.
    public var timeoutMilliseconds: Int64 = 30_000
    /// How much of the response's body is kept, in bytes. The exchange ends when more arrives.
    public var bodyLimit = 1 << 20

    /// A request with the default limits.
    public init(url: HTTPURL, method: [UInt8], fields: [UInt8], body: [UInt8]?) {
        self.url = url
        self.method = method
        self.fields = fields
        self.body = body
    }

    /// Whether a method is a token other than CONNECT, which is for proxies.
    public static func isAllowedMethod(_ method: Span<UInt8>) -> Bool {
        !method.isEmpty && method.endOfToken(from: 0, before: method.count) == method.count && !method.equals("CONNECT")
    }

    /// Whether `fields` may contain a field of this name: a token that does not concern the connection, the body's
    /// length or the host.
    public static func isAllowedField(name: Span<UInt8>) -> Bool {
        guard !name.isEmpty, name.endOfToken(from: 0, before: name.count) == name.count else { return false }
        let reserved: [StaticString] = [
            "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "TE", "Trailer",
            "Expect",
        ]
        if reserved.contains(where: { name.equalsIgnoringCase($0) }) { return false }
        return name.count < 6 || !name.extracting(first: 6).equalsIgnoringCase("Proxy-")
    }

    /// Whether the bytes may be a field's value: no control characters except tabs.
    public static func isFieldValue(_ value: Span<UInt8>) -> Bool { value.isFieldValue }

    var isHead: Bool { method.span.equals("HEAD") }

    /// Writes the head.
    func writeHead(to buffer: inout Buffer) {
        buffer.append(method.span)
        buffer.append(" ")
        buffer.append(url.target.span)
        buffer.append(" HTTP/1.1\r\nHost: ")
        buffer.append(url.authority.span)
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
        if url.authority != target.authority {
            removeFields { $0.equalsIgnoringCase("Authorization") || $0.equalsIgnoringCase("Cookie") }
        }
        if status <= 303, !isHead {
            method = Array("GET".utf8)
            body = nil
            removeFields { $0.count > 8 && $0.extracting(first: 8).equalsIgnoringCase("Content-") }
        }
        url = target
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
