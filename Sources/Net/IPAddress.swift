// An IP address as a value: read from text, compared with networks, written for people.

import Glibc

/// An IPv4 or IPv6 address, without port and zone. An IPv4 address inside IPv6 (`::ffff:1.2.3.4`) is the IPv4 address.
public struct IPAddress: Hashable, Sendable, CustomStringConvertible {
    /// Its bytes in network order: 4 of IPv4, 16 of IPv6.
    public let bytes: [UInt8]

    /// Whether it is an IPv4 address.
    public var isIPv4: Bool { bytes.count == 4 }

    /// An address of 4 or 16 bytes in network order; nil for any other number.
    public init?(bytes: [UInt8]) {
        guard bytes.count == 4 || bytes.count == 16 else { return nil }
        let mappedPrefix: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]
        self.bytes = bytes.count == 16 && bytes.starts(with: mappedPrefix) ? Array(bytes[12...]) : bytes
    }

    /// Reads an address as RFC 4291 section 2.2 (without brackets), or as four decimal numbers; nil for anything else.
    public init?(_ text: String) {
        var storage = in6_addr()
        let family = text.utf8.contains(UInt8(ascii: ":")) ? AF_INET6 : AF_INET
        // The larger of the two structures holds either.
        guard !text.utf8.contains(0), unsafe inet_pton(family, text, &storage) == 1 else { return nil }
        self.init(bytes: unsafe withUnsafeBytes(of: &storage) { unsafe Array($0.prefix(family == AF_INET ? 4 : 16)) })
    }

    /// The address as RFC 5952 writes it.
    public var description: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        guard unsafe inet_ntop(isIPv4 ? AF_INET : AF_INET6, bytes, &text, socklen_t(text.count)) != nil else {
            return "?"
        }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
