// Identifiers of tasks: 16 bytes that sort by the time they were made, and two text forms.

import Bytes

/// A 16-byte identifier in the layout of a UUID of version 7 (RFC 9562, section 5.7).
///
/// From the highest bit: 48 bits of Unix time in milliseconds, 4 bits of version, a counter of 12 bits, 2 bits of
/// variant, 62 random bits. ``UIDGenerator`` makes UIDs in this layout. A parsed UID may be any 16 bytes.
///
/// UIDs compare as their bytes do, so UIDs of one generator sort in the order they were made. Their 22-character texts
/// do not, because the alphabet of base64url is not in the order of ASCII.
public struct UID: Hashable, Sendable {
    /// The first eight bytes, read big-endian.
    public let high: UInt64
    /// The last eight bytes, read big-endian.
    public let low: UInt64

    /// Makes the UID whose bytes are those of `high` and then those of `low`, both big-endian.
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// The time it was made, in milliseconds since the Unix epoch; meaningless unless it is of version 7.
    public var unixMilliseconds: UInt64 { high >> 16 }
}

extension UID: Comparable {
    /// Compares the bytes of two UIDs.
    public static func < (left: UID, right: UID) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }
}

// MARK: - Texts

extension UID: LosslessStringConvertible {
    /// The number of characters of ``text``.
    public static let textLength = 22

    /// The number of characters of ``uuidText``.
    public static let uuidTextLength = 36

    /// The UID in base64url (RFC 4648, section 5) without padding, as ASCII.
    public var text: InlineArray<22, UInt8> {
        let alphabet: StaticString = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        let characters = unsafe alphabet.utf8Start
        // Ten characters of the first 60 bits, ten of the next 60, and two of the last eight bits and four zeros.
        let middle = high << 60 | low >> 4
        var text = InlineArray<22, UInt8>(repeating: 0)
        // Each digit is below 64, the length of the alphabet.
        for index in 0..<10 {
            text[index] = unsafe characters[Int(high >> UInt64(58 - 6 * index) & 63)]
            text[index + 10] = unsafe characters[Int(middle >> UInt64(58 - 6 * index) & 63)]
        }
        text[20] = unsafe characters[Int(low >> 2 & 63)]
        text[21] = unsafe characters[Int(low << 4 & 63)]
        return text
    }

    /// The UID as a UUID is written (RFC 9562, section 4), in lower case, as ASCII.
    public var uuidText: InlineArray<36, UInt8> {
        var bits = bits
        return InlineArray { index in
            if isUUIDHyphen(index) { return UInt8(ascii: "-") }
            let digit = UInt8(bits >> 124)
            bits <<= 4
            return UInt8(hexadecimalDigit: digit)
        }
    }

    private var bits: UInt128 { UInt128(high) << 64 | UInt128(low) }

    /// The 22 characters of ``text``.
    public var description: String {
        let text = text
        return String(decoding: text.span)
    }

    /// Reads a UID from either of its texts, as ``init(text:)`` does.
    public init?(_ description: String) {
        self.init(text: description.utf8Span.span)
    }

    /// Reads a UID from its 22 characters of base64url or from the 36 of a UUID.
    ///
    /// Nothing else is accepted: no padding, no white space, no other alphabet, no bits beyond the 128, so every UID
    /// has only one text of 22 characters. The hexadecimal digits of a UUID may be of either case.
    ///
    /// - Parameter text: The characters, in ASCII.
    /// - Complexity: O(1), with no allocation.
    public init?(text: Span<UInt8>) {
        var bits: UInt128 = 0
        switch text.count {
        case Self.textLength:
            // Shifting 64 bits takes less than shifting 128. A character of another alphabet has a digit above 63, which
            // shows in `seen`.
            var seen: UInt8 = 0
            func digits(_ range: Range<Int>) -> UInt64 {
                var bits: UInt64 = 0
                for index in range {
                    let digit = Self.digit(text[index])
                    seen |= digit
                    bits = bits << 6 | UInt64(digit)
                }
                return bits
            }
            let (first, second, third) = (digits(0..<10), digits(10..<20), digits(20..<22))
            guard seen <= 0x3F, third & 0x0F == 0 else { return nil }
            bits = UInt128(first) << 68 | UInt128(second) << 8 | UInt128(third >> 4)
        case Self.uuidTextLength:
            for index in text.indices {
                if isUUIDHyphen(index) {
                    guard text[index] == UInt8(ascii: "-") else { return nil }
                } else {
                    guard let digit = text[index].hexadecimalValue else { return nil }
                    bits = bits << 4 | UInt128(digit)
                }
            }
        default:
            return nil
        }
        self.init(high: UInt64(truncatingIfNeeded: bits >> 64), low: UInt64(truncatingIfNeeded: bits))
    }

    /// The value of a character of base64url; more than 63 for another character.
    @inline(__always)
    private static func digit(_ character: UInt8) -> UInt8 {
        // For each character from the space on, its value plus 32, or `~`: a table takes half of what comparisons do.
        let values: StaticString =
            "~~~~~~~~~~~~~^~~TUVWXYZ[\\]~~~~~~~ !\"#$%&'()*+,-./0123456789~~~~_~:;<=>?@ABCDEFGHIJKLMNOPQRS~~~~~"
        let place = character &- 32
        guard place < 96 else { return 0xFF }
        // The table has 96 bytes.
        return unsafe values.utf8Start[Int(place)] &- 32
    }
}

/// Whether a UUID (8-4-4-4-12 digits) has a hyphen at `index`.
private func isUUIDHyphen(_ index: Int) -> Bool {
    index == 8 || index == 13 || index == 18 || index == 23
}

// MARK: - Coding

extension UID: Codable {
    /// Decodes a UID from a string with either of its texts.
    ///
    /// - Parameter decoder: The decoder to read from.
    /// - Throws: `DecodingError.dataCorrupted` if the string is not a UID.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let uid = UID(try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "a UID is 22 characters of base64url or a UUID of 36 characters")
        }
        self = uid
    }

    /// Encodes the UID as a string of 22 characters.
    ///
    /// - Parameter encoder: The encoder to write to.
    /// - Throws: What `encoder` throws.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
