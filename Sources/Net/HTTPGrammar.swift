// The character classes and small productions of RFC 9110, RFC 9112 and RFC 3986, over bytes.

import Bytes
import Glibc

extension UInt8 {
    /// `tchar`, RFC 9110 section 5.6.2: letters, digits and !#$%&'*+-.^_`|~.
    @inline(__always) var isTokenCharacter: Bool {
        // One bit a character: those below 64, and those from 64 on.
        let set: UInt64 = self < 64 ? 0x03FF_6CFA_0000_0000 : 0x57FF_FFFF_C7FF_FFFE
        return self < 128 && set >> UInt64(self & 63) & 1 == 1
    }

    /// A character of a field value: visible characters, space, tab, and bytes above ASCII (RFC 9110 section 5.5).
    var isFieldCharacter: Bool { (self >= 0x20 && self != 0x7F) || self == 0x09 }

    /// `unreserved` and `sub-delims` of RFC 3986.
    var isRegisteredNameCharacter: Bool {
        switch self {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E: true
        case 0x21, 0x24, 0x26...0x2C, 0x3B, 0x3D: true
        default: false
        }
    }

    /// A character of a path or a query other than `%`: `pchar`, `/` and `?` (RFC 3986 section 3.3), which are letters,
    /// digits and !$&'()*+,-./:;=?@_~.
    @inline(__always) var isTargetCharacter: Bool {
        let set: UInt64 = self < 64 ? 0xAFFF_FFD2_0000_0000 : 0x47FF_FFFE_87FF_FFFF
        return self < 128 && set >> UInt64(self & 63) & 1 == 1
    }

    /// Space or tab: `OWS` of RFC 9110 section 5.6.3.
    var isBlank: Bool { self == 0x20 || self == 0x09 }
}

extension Span<UInt8> {
    /// The end of the run of token characters that begins at `start`, before `end`. O(run).
    func endOfToken(from start: Int, before end: Int) -> Int {
        precondition(start >= 0 && end <= count)
        var index = start
        // The check above covers the whole loop.
        while index < end, unsafe self[unchecked: index].isTokenCharacter { index += 1 }
        return index
    }

    /// Whether all bytes are allowed in a field value.
    var isFieldValue: Bool {
        let everyByte: UInt64 = 0x0101_0101_0101_0101
        var index = 0
        while index + 8 <= count {
            // Unsafe only because not all bits are valid for every type; the end is checked above.
            let word = unsafe bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: index, as: UInt64.self)
            // The high bits of the bytes under 0x20 and of those that are 0x7F; perhaps also of bytes above these.
            let controls = (word &- everyByte &* 0x20) & ~word
            let deletes = word ^ everyByte &* 0x7F
            if (controls | (deletes &- everyByte) & ~deletes) & everyByte << 7 != 0 { break }
            index += 8
        }
        while index < count {
            if self[index] < 0x20 && self[index] != 0x09 || self[index] == 0x7F { return false }
            index += 1
        }
        return true
    }

    /// The part of `range` without the blanks at its ends.
    func trimmingBlanks(_ range: Range<Int>) -> Range<Int> {
        var (lower, upper) = (range.lowerBound, range.upperBound)
        while lower < upper, self[lower].isBlank { lower += 1 }
        while upper > lower, self[upper - 1].isBlank { upper -= 1 }
        return lower..<upper
    }

    /// Calls `body` with each element of a comma-separated list, blanks and empty elements left out
    /// (RFC 9110 section 5.6.1).
    func forEachListElement(_ body: (Span<UInt8>) -> Void) {
        var start = 0
        while start <= count {
            let end = index(of: UInt8(ascii: ","), from: start) ?? count
            let element = trimmingBlanks(start..<end)
            if !element.isEmpty { body(extracting(element)) }
            start = end + 1
        }
    }

    /// Whether the bytes are `uri-host [":" port]` (RFC 9110 section 7.2), which may be empty.
    var isAuthority: Bool {
        var index = 0
        if count > 0, self[0] == UInt8(ascii: "[") {
            guard let close = self.index(of: UInt8(ascii: "]")), close > 1 else { return false }
            for inner in 1..<close {
                let byte = self[inner]
                guard byte.isRegisteredNameCharacter || byte == UInt8(ascii: ":") else { return false }
            }
            index = close + 1
        } else {
            while index < count, self[index] != UInt8(ascii: ":") {
                if self[index] == UInt8(ascii: "%") {
                    guard isPercentEncoded(at: index) else { return false }
                    index += 3
                } else {
                    guard self[index].isRegisteredNameCharacter else { return false }
                    index += 1
                }
            }
        }
        if index == count { return true }
        guard self[index] == UInt8(ascii: ":"), count - index <= 6 else { return false }
        for digit in index + 1..<count where !self[digit].isDigit { return false }
        return true
    }

    /// The index of the first byte of `range` that is not allowed in a path or a query: a `%` without two hexadecimal
    /// digits behind it, or a byte that must be percent-encoded. O(range).
    public func indexOfTargetFlaw(_ range: Range<Int>) -> Int? {
        var index = range.lowerBound
        while index < range.upperBound {
            let byte = self[index]
            if byte.isLetter || byte.isTargetCharacter {
                index += 1
            } else if byte == UInt8(ascii: "%"), index + 2 < range.upperBound, isPercentEncoded(at: index) {
                index += 3
            } else {
                return index
            }
        }
        return nil
    }

    /// Whether the bytes are `HTTP-version` (RFC 9112 section 2.3).
    var isHTTPVersion: Bool {
        count == 8 && starts(with: "HTTP/") && self[5].isDigit && self[6] == UInt8(ascii: ".") && self[7].isDigit
    }

    /// Whether a `%` and two hexadecimal digits stand at `index`.
    func isPercentEncoded(at index: Int) -> Bool {
        index + 2 < count && self[index] == UInt8(ascii: "%")
            && self[index + 1].hexadecimalValue != nil && self[index + 2].hexadecimalValue != nil
    }
}
