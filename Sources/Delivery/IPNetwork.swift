// A block of IP addresses, such as `10.1.0.0/16`.

import Bytes
import Net

/// All IP addresses that begin with the same bits (RFC 4632 section 3.1, RFC 4291 section 2.3).
struct IPNetwork: Equatable, Sendable, CustomStringConvertible {
    /// The lowest address.
    let address: IPAddress
    /// The number of bits that the addresses share.
    let prefixLength: Int

    /// Reads `10.1.0.0/16`, `2001:db8::/32`, or a single address.
    ///
    /// - Throws: `DestinationPolicyError` with a sentence that says what would be right.
    init(_ text: String) throws(DestinationPolicyError) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard let address = IPAddress(parts[0]) else {
            throw DestinationPolicyError("a network must begin with an IP address, as in 10.1.0.0/16, not '\(text)'")
        }
        let bitCount = address.bytes.count * 8
        var prefixLength = bitCount
        if parts.count > 1 {
            let digits = parts[1].utf8
            guard digits.count <= 3, let length = Int(decimal: digits), length <= bitCount else {
                throw DestinationPolicyError(
                    "the prefix length of \(address) must be a number from 0 to \(bitCount), not '\(parts[1])'")
            }
            prefixLength = length
        }
        var first = address.bytes
        for bit in prefixLength..<bitCount { first[bit / 8] &= ~(0x80 >> UInt8(bit % 8)) }
        if first != address.bytes, let meant = IPAddress(bytes: first) {
            throw DestinationPolicyError(
                "'\(text)' has bits set beyond its prefix; did you mean '\(meant)/\(prefixLength)'?")
        }
        self.address = address
        self.prefixLength = prefixLength
    }

    /// A network from a literal in the source.
    static func known(_ text: String) -> IPNetwork {
        do throws(DestinationPolicyError) {
            return try IPNetwork(text)
        } catch {
            preconditionFailure(error.description)
        }
    }

    /// Whether the network contains an address. Addresses of the other family are never in it. O(1).
    func contains(_ candidate: IPAddress) -> Bool {
        guard candidate.isIPv4 == address.isIPv4 else { return false }
        let wholeBytes = prefixLength / 8
        for index in 0..<wholeBytes where candidate.bytes[index] != address.bytes[index] { return false }
        let bitsLeft = prefixLength % 8
        return bitsLeft == 0 || (candidate.bytes[wholeBytes] ^ address.bytes[wholeBytes]) >> (8 - bitsLeft) == 0
    }

    /// The network in CIDR notation, always with its prefix length.
    var description: String { "\(address)/\(prefixLength)" }
}
