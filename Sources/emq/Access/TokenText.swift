// The text of a token: `emq_`, 32 random characters, and a checksum, so that programs which search for secrets
// recognize it, and a mistyped one is told from an unknown one. `emq_[0-9A-Za-z]{38}` finds all of them.

import Bytes
import UID

/// Makes and reads the texts of tokens.
enum TokenText {
    private static let randomCount = 32
    private static let checksumCount = 6
    private static let alphabet = Array("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz".utf8)

    /// Makes a token that nobody can guess: it has 190 random bits.
    static func make(using random: inout some RandomNumberGenerator) -> [UInt8] {
        let characters = (0..<randomCount).map { _ in alphabet[Int.random(in: 0..<62, using: &random)] }
        return Array("emq_".utf8) + characters + checksum(of: characters.span)
    }

    /// Whether a text was meant to be a token of `make`, but parts of it are missing or wrong.
    static func isDamaged(_ text: Span<UInt8>) -> Bool {
        guard text.starts(with: "emq_") else { return false }
        let rest = text.extracting(droppingFirst: 4)
        guard rest.count == randomCount + checksumCount else { return true }
        let expected = checksum(of: rest.extracting(first: randomCount))
        return !rest.extracting(last: checksumCount).equals(expected.span)
    }

    /// The CRC-32 (ISO 3309) of the random characters as a number of base 62.
    private static func checksum(of characters: Span<UInt8>) -> [UInt8] {
        var register = UInt32.max
        for index in characters.indices {
            register ^= UInt32(characters[index])
            for _ in 0..<8 { register = register >> 1 ^ (register & 1 == 0 ? 0 : 0xEDB8_8320) }
        }
        var rest = ~register
        var digits: [UInt8] = []
        for _ in 0..<checksumCount {
            digits.append(alphabet[Int(rest % 62)])
            rest /= 62
        }
        return digits.reversed()
    }

    /// Finds the token in the value of an Authorization field: `Bearer TOKEN`, or Basic with the token as the password.
    ///
    /// - Returns: nil for anything else.
    static func read(_ authorization: Span<UInt8>) -> [UInt8]? {
        guard let space = authorization.index(of: UInt8(ascii: " ")) else { return nil }
        let scheme = authorization.extracting(first: space)
        var start = space
        while start < authorization.count, authorization[start] == UInt8(ascii: " ") { start += 1 }
        let credentials = authorization.extracting(start..<authorization.count)
        if scheme.equalsIgnoringCase("Bearer") { return credentials.isEmpty ? nil : Array(copying: credentials) }
        guard scheme.equalsIgnoringCase("Basic") else { return nil }
        var decoded: [UInt8] = []
        guard Base64.standard.decode(credentials, into: &decoded),
            let colon = decoded.firstIndex(of: UInt8(ascii: ":")), colon + 1 < decoded.count
        else { return nil }
        return Array(decoded[(colon + 1)...])
    }
}
