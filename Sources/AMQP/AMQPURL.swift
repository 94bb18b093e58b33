// Where a RabbitMQ is: an amqp or amqps URL.

import Bytes
import Net

/// A broker's host, port, virtual host and credentials (https://www.rabbitmq.com/uri-spec.html). What a URL leaves out
/// is what RabbitMQ itself has by default: guest, guest, and the virtual host `/`.
public struct AMQPURL: Hashable, Sendable {
    /// The longest URL, in bytes.
    public static let maximumLength = 2000
    /// What stands for a password where people see a URL.
    public static let mask = "***"

    /// The host in lower case: a registered name, an IPv4 address, or an IPv6 address without its brackets.
    public let host: String
    /// The port: 5672 or, for amqps, 5671 if the URL names none.
    public let port: UInt16
    /// Whether it is an `amqps` URL.
    public let isSecure: Bool
    /// The user's name.
    public let user: String
    /// The password; `mask` if the URL was written with it.
    public var password: String
    /// The virtual host, such as `/`.
    public let virtualHost: String

    /// Reads a URL. O(length).
    ///
    /// - Throws: `AMQPURLError`, which says what would be right and never shows a password.
    public init(_ text: Span<UInt8>) throws(AMQPURLError) {
        guard text.count <= Self.maximumLength else {
            throw AMQPURLError("a URL is at most \(Self.maximumLength) bytes long, not \(text.count)")
        }
        let bytes = Array(copying: text)
        func begins(with scheme: String) -> Bool {
            bytes.prefix(scheme.utf8.count).map(\.lowercasedASCII).elementsEqual(scheme.utf8)
        }
        isSecure = begins(with: "amqps://")
        guard isSecure || begins(with: "amqp://") else {
            throw AMQPURLError("the URL of a RabbitMQ server begins with amqp:// or amqps://")
        }
        let rest = bytes.dropFirst(isSecure ? 8 : 7)
        if rest.contains(UInt8(ascii: "?")) || rest.contains(UInt8(ascii: "#")) {
            throw AMQPURLError(
                "the URL of a RabbitMQ server has no parameters and no fragment; leave them out, or write ? as %3F and # "
                    + "as %23")
        }
        let slash = rest.firstIndex(of: UInt8(ascii: "/")) ?? rest.endIndex
        let path = rest[slash...].dropFirst()
        // A slash in a password would begin the virtual host, and people would see what follows it.
        guard !path.contains(UInt8(ascii: "@")) else {
            throw AMQPURLError("in the URL of a RabbitMQ, write / in a password as %2F, and @ in a virtual host as %40")
        }
        // A password may have an @ that is not encoded.
        let at = rest[..<slash].lastIndex(of: UInt8(ascii: "@"))
        let credentials = at.map { rest[..<$0] } ?? []
        let colon = credentials.firstIndex(of: UInt8(ascii: ":")) ?? credentials.endIndex
        user = at == nil ? "guest" : try Self.decode(credentials[..<colon], "user")
        password =
            colon == credentials.endIndex
            ? (at == nil ? "guest" : "") : try Self.decode(credentials[(colon + 1)...], "password")
        virtualHost = path.isEmpty ? "/" : try Self.decode(path, "virtual host")
        // The rules for a host and a port are those of HTTP, whose two schemes have different default ports.
        let authority = Array(at.map { rest[($0 + 1)..<slash] } ?? rest[..<slash])
        do throws(HTTPURLError) {
            let plain = try HTTPURL((Array("http://".utf8) + authority).span)
            let isPortNamed = try HTTPURL((Array("https://".utf8) + authority).span).port == plain.port
            host = plain.host
            port = isPortNamed ? plain.port : isSecure ? 5671 : 5672
        } catch {
            throw AMQPURLError(error.description)
        }
    }

    /// The URL as people see it: its password is masked.
    public var masked: String { text(password: Self.mask) }

    /// The URL as it is stored.
    public var stored: String { text(password: Self.encode(password)) }

    private func text(password: String) -> String {
        let usualPort: UInt16 = isSecure ? 5671 : 5672
        let literal = host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]" : host
        let place = port == usualPort ? literal : "\(literal):\(port)"
        let path = virtualHost == "/" ? "" : "/\(Self.encode(virtualHost))"
        return "\(isSecure ? "amqps" : "amqp")://\(Self.encode(user)):\(password)@\(place)\(path)"
    }

    private static func encode(_ text: String) -> String {
        var encoded: [UInt8] = []
        PercentEncoding.encode(Array(text.utf8).span, into: &encoded)
        return String(decoding: encoded, as: UTF8.self)
    }

    private static func decode(_ text: ArraySlice<UInt8>, _ name: String) throws(AMQPURLError) -> String {
        for index in text.indices {
            let byte = text[index]
            if byte <= 0x20 || byte == 0x7F {
                throw AMQPURLError("byte \(byte.hexadecimalText) in the URL's \(name) must be percent-encoded")
            }
            guard
                byte != UInt8(ascii: "%")
                    || text[index...].dropFirst().prefix(2).filter({ $0.hexadecimalValue != nil }).count == 2
            else { throw AMQPURLError("a % in the URL's \(name) is followed by two hexadecimal digits") }
        }
        var decoded: [UInt8] = []
        PercentEncoding.decode(Array(text).span, into: &decoded)
        guard let string = String(validating: decoded, as: UTF8.self), !decoded.contains(0) else {
            throw AMQPURLError("the URL's \(name) is not UTF-8 text")
        }
        // AMQP's short strings have a byte for their length.
        guard decoded.count <= 255 else { throw AMQPURLError("the URL's \(name) is longer than 255 bytes") }
        return string
    }
}

/// An invalid URL, with a clause for its author.
public struct AMQPURLError: Error, Equatable, CustomStringConvertible {
    /// What would be right.
    public let description: String

    init(_ description: String) { self.description = description }
}
