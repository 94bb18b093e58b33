// The URL of an emq server as people write it: `localhost:8080`, `https://emq.example.com/emq/`, `unix:/run/emq.sock`.

import Bytes

/// How a client reaches a server: a URL, or a Unix-domain socket.
public struct ServerURL: Equatable, Sendable {
    /// The URL that all paths follow, without a slash at its end.
    public let base: String
    /// The Unix-domain socket to connect to; nil to connect to the URL's host.
    public let socketPath: String?
    /// The user part of the URL, percent-decoded, which is a token; nil if there is none.
    public let token: String?

    /// Whether requests go over TLS.
    public var isSecure: Bool { socketPath == nil && base.prefix(8).lowercased() == "https://" }

    /// How people call the server: its socket, or its URL without a token.
    public var name: String { socketPath.map { "unix:\($0)" } ?? base }

    /// Reads a URL. A host and port alone are what curl takes, too: they mean http. `unix:` may be followed by a path
    /// or by `//` and a path.
    ///
    /// - Parameters:
    ///   - text: The URL.
    ///   - allowsToken: Whether it may have a token before an `@`.
    /// - Throws: `HTTPURLError`, which says what would be right, and shows no token.
    public init(_ text: String, allowsToken: Bool = false) throws(HTTPURLError) {
        if text.hasPrefix("unix:") {
            let path = text.hasPrefix("unix:///") ? "unix:\(text.dropFirst(7))" : text
            let address: Address
            do throws(AddressError) { address = try Address(path) } catch { throw HTTPURLError("\(error)") }
            guard case .unix(let path) = address else { throw HTTPURLError("'\(text)' is no Unix-domain socket") }
            (base, socketPath, token) = ("http://localhost", path, nil)
            return
        }
        let hasScheme = text.firstIndex(of: ":").map { text[$0...].hasPrefix("://") } == true
        var url = hasScheme ? text : "http://\(text)"
        token = allowsToken ? try Self.takeToken(from: &url) : nil
        while url.hasSuffix("/") { url.removeLast() }
        let parsed = try HTTPURL(url.utf8Span.span)
        if parsed.target.contains(UInt8(ascii: "?")) { throw HTTPURLError("leave out the query") }
        if url.utf8.contains(UInt8(ascii: "#")) { throw HTTPURLError("leave out the fragment") }
        (base, socketPath) = (url, nil)
    }

    /// Removes the part before an `@` of the authority.
    private static func takeToken(from url: inout String) throws(HTTPURLError) -> String? {
        let bytes = Array(url.utf8)
        guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")) else { return nil }
        let start = min(colon + 3, bytes.count)
        let end = bytes[start...].firstIndex { "/?#".utf8.contains($0) } ?? bytes.count
        guard let at = bytes[start..<end].lastIndex(of: UInt8(ascii: "@")) else { return nil }
        var user = bytes[start..<at]
        // A password may be empty, as in https://TOKEN:@host.
        if user.last == UInt8(ascii: ":") { user.removeLast() }
        guard !user.isEmpty, !user.contains(UInt8(ascii: ":")) else {
            throw HTTPURLError("the part of a URL before its @ is a token, without a password")
        }
        var token: [UInt8] = []
        PercentEncoding.decode(Array(user).span, into: &token)
        url = String(decoding: bytes[..<start] + bytes[(at + 1)...], as: UTF8.self)
        return String(decoding: token, as: UTF8.self)
    }
}
