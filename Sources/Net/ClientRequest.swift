// What is to be sent, and what it may take.

import Bytes

/// A request of the client. All times are in milliseconds.
public struct ClientRequest {
    /// Where it goes.
    public var url: HTTPURL
    /// The method (`isAllowedMethod`).
    public var method: [UInt8]
    /// Whole lines, `Name: value` and CR LF each, which are written as they are (`isAllowedField`, `isFieldValue`). Besides
    /// them the client writes Host and, if there is a body, Content-Length.
    public var fields: [UInt8]
    /// The content; nil for a request that has none.
    public var body: [UInt8]?
    /// Requests of one group share a bound of names that are looked up at once (`HTTPClient.canBegin`).
    public var group: UInt32 = 0
    /// How many redirects are followed; a further one is a response like any other. 301, 302 and 303 turn any method but HEAD
    /// into GET without content; 307 and 308 change nothing. Authorization and Cookie do not go to another host or port.
    public var redirectLimit = 0
    /// How long it may take to find the host's addresses and to connect to one.
    public var connectTimeoutMilliseconds: Int64 = 10_000
    /// How long the first byte of the response may take from when the connection is there; nil for as long as the whole.
    public var firstByteTimeoutMilliseconds: Int64?
    /// How long the whole may take from `HTTPClient.send` on, the wait for a connection and redirects included.
    public var timeoutMilliseconds: Int64 = 30_000
    /// How much of the response's content is kept, in bytes. When more comes, the exchange ends there.
    public var bodyLimit = 1 << 20

    /// A request with the usual bounds.
    public init(url: HTTPURL, method: [UInt8], fields: [UInt8], body: [UInt8]?) {
        self.url = url
        self.method = method
        self.fields = fields
        self.body = body
    }

    /// Whether it is a token, and not CONNECT, which is for proxies.
    public static func isAllowedMethod(_ method: Span<UInt8>) -> Bool {
        !method.isEmpty && method.endOfToken(from: 0, before: method.count) == method.count && !method.equals("CONNECT")
    }

    /// Whether a field of this name may stand in `fields`: a token, and none that is about the connection, the content's
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

    /// Whether the bytes may be a field's value: no control characters but tabs.
    public static func isFieldValue(_ value: Span<UInt8>) -> Bool { value.isFieldValue }

    var isHead: Bool { method.span.equals("HEAD") }

    /// Writes all that comes before the content.
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

    /// Turns it into the request that a redirect asks for (RFC 9110 section 15.4).
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
