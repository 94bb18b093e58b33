// Special addresses: those in the IANA registries, and those that push must never reach.

import Net

/// Blocks of addresses with a special meaning.
enum SpecialAddresses {
    /// Addresses for private use: RFC 1918, RFC 6598, RFC 4193.
    static let privateUse = networks("10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7")

    /// Loopback addresses: RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3.
    static let loopback = networks("127.0.0.0/8 ::1")

    /// Every address.
    static let everything = networks("0.0.0.0/0 ::/0")

    /// Addresses that are never allowed, each with a name for its kind.
    private static let forbidden: [(name: String, networks: [IPNetwork])] = [
        // Linux connects the unspecified address to the machine itself.
        ("unspecified", networks("0.0.0.0/8 ::")),
        ("link-local", networks("169.254.0.0/16 fe80::/10")),
        ("site-local", networks("fec0::/10")),
        ("a multicast address", networks("224.0.0.0/4 ff00::/8")),
        ("reserved", networks("240.0.0.0/4")),
        (
            "a cloud's metadata service",
            // Alibaba, Azure, Oracle, UCloud, Volcengine. Other clouds' services are link-local.
            networks("100.100.100.200 168.63.129.16 192.0.0.192 100.80.80.80 100.96.0.96")
                // AWS (its pods' credentials are at ::23), Google, Oracle, Akamai, Scaleway, Alibaba.
                + networks(
                    "fd00:ec2::/32 fd20:ce::254 fd00:c1::a9fe:a9fe fd00:a9fe:a9fe::1 fd00:42::42 "
                        + "fd00:100::100:200")
        ),
    ]

    /// The reason why an address is never allowed, such as `it is link-local`; nil if it may be allowed.
    static func reasonToForbid(_ address: IPAddress) -> String? {
        for candidate in readings(of: address) {
            for (name, networks) in forbidden where networks.contains(where: { $0.contains(candidate) }) {
                return candidate == address ? "it is \(name)" : "it leads to \(candidate), which is \(name)"
            }
        }
        return nil
    }

    /// Whether the registries call an address globally reachable, and also any IPv4 address embedded in it.
    static func isGloballyReachable(_ address: IPAddress) -> Bool {
        readings(of: address).allSatisfy { candidate in
            // The longest prefix decides.
            registered.filter { $0.network.contains(candidate) }
                .max { $0.network.prefixLength < $1.network.prefixLength }?.isReachable ?? false
        }
    }

    /// The column "Globally Reachable" of the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC
    /// 8190; as of October 2025). "N/A" counts as no. The rest of IPv4 is reachable except multicast. Of the rest of
    /// IPv6, 2000::/3 is reachable, because IANA allocates from it.
    private static let registered: [(network: IPNetwork, isReachable: Bool)] =
        networks("0.0.0.0/0 192.0.0.9 192.0.0.10 192.31.196.0/24 192.52.193.0/24 192.175.48.0/24").map { ($0, true) }
        + networks(
            "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
                + "192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4"
        ).map { ($0, false) }
        + networks(
            "2000::/3 64:ff9b::/96 2001:1::1 2001:1::2 2001:1::3 2001:3::/32 2001:4:112::/48 2001:20::/28 2001:30::/28 "
                + "2620:4f:8000::/48"
        ).map { ($0, true) }
        + networks("::/0 2001::/23 2001:db8::/32 2002::/16 3fff::/20").map { ($0, false) }

    /// An address, and the IPv4 addresses that a translator or a tunnel may read from it.
    static func readings(of address: IPAddress) -> [IPAddress] {
        let bytes = address.bytes
        // A Teredo address has the server's address and then the client's, inverted (RFC 4380 section 4).
        if teredo.contains(address) {
            return [address] + [Array(bytes[4...7]), bytes[12...15].map { ~$0 }].compactMap { IPAddress(bytes: $0) }
        }
        let positions = embeddings.first { $0.network.contains(address) }?.positions ?? []
        // If there are several ways to embed, only one was used. The wrong ones often read addresses that begin with
        // zeros.
        let embedded = positions.map { $0.map { bytes[$0] } }.filter { positions.count == 1 || $0[0] != 0 }
        return [address] + embedded.compactMap { IPAddress(bytes: $0) }
    }

    private static let teredo = IPNetwork.known("2001::/32")

    /// The positions of IPv4 addresses in IPv6 addresses. The first network that contains the address decides.
    private static let embeddings: [(network: IPNetwork, positions: [[Int]])] = [
        // IPv4-compatible (RFC 4291 section 2.5.5.1), a block that also contains loopback.
        (.known("::1"), []),
        (.known("::/96"), [[12, 13, 14, 15]]),
        // IPv4-translated (RFC 2765 section 2.1).
        (.known("::ffff:0:0:0/96"), [[12, 13, 14, 15]]),
        // NAT64 (RFC 6052 section 2.2). For the second prefix, each network chooses the prefix length (RFC 8215).
        (.known("64:ff9b::/96"), [[12, 13, 14, 15]]),
        (.known("64:ff9b:1::/48"), [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]]),
        // 6to4 (RFC 3056 section 2).
        (.known("2002::/16"), [[2, 3, 4, 5]]),
    ]

    private static func networks(_ list: String) -> [IPNetwork] {
        list.split(separator: " ").map { .known(String($0)) }
    }
}
