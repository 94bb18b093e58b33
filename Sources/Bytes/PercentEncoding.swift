// Percent-encoding of URLs and forms (RFC 3986, section 2.1).

/// Encodes and decodes `%20` and the like.
public enum PercentEncoding {
    /// How a space is encoded.
    public enum Space: Sendable {
        /// `%20`, as in URLs.
        case percentEncoded
        /// `+`, as in `application/x-www-form-urlencoded`.
        case plus
    }

    /// Appends bytes with all but unreserved characters (RFC 3986, section 2.3) encoded. O(*n*).
    ///
    /// - Parameters:
    ///   - bytes: The bytes to encode.
    ///   - encoded: What to append to.
    ///   - space: How to encode spaces.
    public static func encode(
        _ bytes: Span<UInt8>, into encoded: inout [UInt8], space: Space = .percentEncoded
    ) {
        encoded.reserveCapacity(encoded.count + bytes.count)
        for index in bytes.indices {
            let byte = bytes[index]
            if isUnreserved(byte) {
                encoded.append(byte)
            } else if byte == UInt8(ascii: " "), space == .plus {
                encoded.append(UInt8(ascii: "+"))
            } else {
                encoded.append(UInt8(ascii: "%"))
                encoded.append(UInt8(hexadecimalDigit: byte >> 4, uppercase: true))
                encoded.append(UInt8(hexadecimalDigit: byte & 15, uppercase: true))
            }
        }
    }

    /// Decodes encoded text and appends the bytes. A `+` stays a plus. O(*n*).
    ///
    /// - Parameters:
    ///   - encoded: Text in which two hexadecimal digits follow each `%`. A `%` that they do not follow is left out,
    ///     together with the two bytes after it.
    ///   - decoded: What to append to.
    public static func decode(_ encoded: Span<UInt8>, into decoded: inout [UInt8]) {
        var index = 0
        while index < encoded.count {
            let end = encoded.index(of: UInt8(ascii: "%"), from: index) ?? encoded.count
            decoded.append(encoded.extracting(index..<end))
            if end + 2 < encoded.count, let high = encoded[end + 1].hexadecimalValue,
                let low = encoded[end + 2].hexadecimalValue
            {
                decoded.append(high << 4 | low)
            }
            index = end + 3
        }
    }

    /// Whether a byte never needs encoding (RFC 3986, section 2.3).
    public static func isUnreserved(_ byte: UInt8) -> Bool {
        byte.isLetter || byte.isDigit || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
            || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "~")
    }
}
