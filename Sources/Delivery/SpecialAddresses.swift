// Which addresses are not like the others: what the registries say, and what no push may ever reach.

import Net

/// What is known of blocks of addresses.
enum SpecialAddresses {
    /// Addresses for private use: RFC 1918, RFC 6598, RFC 4193.
    static let privateUse = networks("10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7")

    /// RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.3.
    static let loopback = networks("127.0.0.0/8 ::1")

    /// Every address.
    static let everything = networks("0.0.0.0/0 ::/0")

    /// What is never reached, each with its name.
    private static let forbidden: [(name: String, networks: [IPNetwork])] = [
        // Linux connects the unspecified address to the machine itself.
        ("unspecified", networks("0.0.0.0/8 ::")),
        ("link-local", networks("169.254.0.0/16 fe80::/10")),
        ("site-local", networks("fec0::/10")),
        ("a multicast address", networks("224.0.0.0/4 ff00::/8")),
        ("reserved", networks("240.0.0.0/4")),
        (
            "a cloud's metadata service",
            // Alibaba, Azure, Oracle, UCloud, Volcengine; those of the others are link-local.
            networks("100.100.100.200 168.63.129.16 192.0.0.192 100.80.80.80 100.96.0.96")
                // AWS (its pods' credentials are at ::23), Google, Oracle, Akamai, Scaleway, Alibaba.
                + networks(
                    "fd00:ec2::/32 fd20:ce::254 fd00:c1::a9fe:a9fe fd00:a9fe:a9fe::1 fd00:42::42 "
                        + "fd00:100::100:200")
        ),
    ]

    /// Why an address is never reached, such as `it is link-local`; nil for any other.
    static func reasonNeverToReach(_ address: IPAddress) -> String? {
        for candidate in readings(of: address) {
            for (name, networks) in forbidden where networks.contains(where: { $0.contains(candidate) }) {
                return candidate == address ? "it is \(name)" : "it leads to \(candidate), which is \(name)"
            }
        }
        return nil
    }

    /// Whether the registries call an address globally reachable, and the IPv4 address in it, if it has one.
    static func isGloballyReachable(_ address: IPAddress) -> Bool {
        readings(of: address).allSatisfy { candidate in
            // The longest prefix is the one that holds.
            registered.filter { $0.network.contains(candidate) }
                .max { $0.network.prefixLength < $1.network.prefixLength }?.isReachable ?? false
        }
    }

    /// The column "Globally Reachable" of the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190; as of
    /// October 2025). "N/A" counts as no. The rest of IPv4 is reachable but for multicast; of IPv6, 2000::/3 is, out of which
    /// IANA allocates.
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

    /// An address, and the IPv4 addresses that a translator or a tunnel may make of it.
    static func readings(of address: IPAddress) -> [IPAddress] {
        let bytes = address.bytes
        // A Teredo client's address is written inverted, after its server's (RFC 4380 section 4).
        if teredo.contains(address) {
            return [address] + [Array(bytes[4...7]), bytes[12...15].map { ~$0 }].compactMap { IPAddress(bytes: $0) }
        }
        let positions = embeddings.first { $0.network.contains(address) }?.positions ?? []
        // Where there are several ways of embedding, one was used, and what the others read often begins with zeros.
        let embedded = positions.map { $0.map { bytes[$0] } }.filter { positions.count == 1 || $0[0] != 0 }
        return [address] + embedded.compactMap { IPAddress(bytes: $0) }
    }

    private static let teredo = IPNetwork.known("2001::/32")

    /// Where IPv4 addresses stand in IPv6 addresses; the first network that has the address holds.
    private static let embeddings: [(network: IPNetwork, positions: [[Int]])] = [
        // IPv4-compatible (RFC 4291 section 2.5.5.1), among which loopback has its place.
        (.known("::1"), []),
        (.known("::/96"), [[12, 13, 14, 15]]),
        // IPv4-translated (RFC 2765 section 2.1).
        (.known("::ffff:0:0:0/96"), [[12, 13, 14, 15]]),
        // NAT64 (RFC 6052 section 2.2). Of the second, RFC 8215 leaves to the network where it divides it.
        (.known("64:ff9b::/96"), [[12, 13, 14, 15]]),
        (.known("64:ff9b:1::/48"), [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]]),
        // 6to4 (RFC 3056 section 2).
        (.known("2002::/16"), [[2, 3, 4, 5]]),
    ]

    private static func networks(_ list: String) -> [IPNetwork] {
        list.split(separator: " ").map { .known(String($0)) }
    }
}
