// The text of a JSON value in Python. The original keeps what a client sent in Redis, which turns every value into its
// text: an object that was sent as data arrives as `{'a': 1}`.

import Bytes
import JSON

/// Writes JSON values as Python's `str` and `repr` write them after `json.loads`.
struct PythonText {
    private let json: [UInt8]
    private var index = 0
    private var text: [UInt8] = []

    private init(_ json: [UInt8]) { self.json = json }

    /// The `str` of a value. O(*n*), but for objects that repeat names.
    ///
    /// - Parameter value: valid JSON.
    /// - Returns: the text in UTF-8; nil if a string has an escape for half of a surrogate pair, which is not Unicode.
    static func str(_ value: Span<UInt8>) -> [UInt8]? {
        if !value.isEmpty, value[0] == UInt8(ascii: "\"") {
            var decoded: [UInt8] = []
            return JSONValue.decodeString(value, into: &decoded) ? decoded : nil
        }
        var writer = PythonText(Array(copying: value))
        return writer.writeValue() ? writer.text : nil
    }

    /// The `repr` of a string.
    static func repr(_ string: String) -> String {
        var text: [UInt8] = []
        writeRepr(string, to: &text)
        return String(decoding: text, as: UTF8.self)
    }

    private static func writeRepr(_ string: String, to text: inout [UInt8]) {
        let (single, double) = (UInt8(ascii: "'"), UInt8(ascii: "\""))
        let quote = string.utf8.contains(single) && !string.utf8.contains(double) ? double : single
        text.append(quote)
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\\": text += "\\\\".utf8
            case "\n": text += "\\n".utf8
            case "\r": text += "\\r".utf8
            case "\t": text += "\\t".utf8
            case "'" where quote == single: text += "\\'".utf8
            case _ where isPrintable(scalar): text += UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter
            default: writeEscape(scalar.value, to: &text)
            }
        }
        text.append(quote)
    }

    /// Writes the number of a character as `\x7f`, `\u2028` or `\U000e0001`.
    private static func writeEscape(_ value: UInt32, to text: inout [UInt8]) {
        let (opening, digits) = value < 0x100 ? ("\\x", 2) : value < 0x10000 ? ("\\u", 4) : ("\\U", 8)
        text += opening.utf8
        for place in (0..<digits).reversed() {
            text.append(UInt8(hexadecimalDigit: UInt8(truncatingIfNeeded: value >> (4 * UInt32(place)) & 15)))
        }
    }

    private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.isASCII { return scalar.value >= 0x20 && scalar.value != 0x7F }
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator,
            .spaceSeparator:
            return false
        default: return true
        }
    }

    /// The `repr` of a floating-point number.
    static func repr(_ number: Double) -> String {
        if number.isNaN { return "nan" }
        let sign = number.sign == .minus ? "-" : ""
        if number.isInfinite { return sign + "inf" }
        // Swift finds the same shortest digits as Python, but changes to an exponent at another place.
        let parts = number.magnitude.description.split(separator: "e")
        let mantissa = parts[0].split(separator: ".")
        var digits = mantissa.joined()
        var point = mantissa[0].utf8.count + (parts.count > 1 ? Int(parts[1]) ?? 0 : 0)
        let leadingZeros = digits.prefix { $0 == "0" }.count
        digits.removeFirst(leadingZeros)
        point -= leadingZeros
        while digits.hasSuffix("0") { digits.removeLast() }
        if digits.isEmpty { return sign + "0.0" }
        if point <= -4 || point > 16 {
            let exponent = point - 1
            let fraction = digits.utf8.count > 1 ? "." + digits.dropFirst() : ""
            return "\(sign)\(digits.prefix(1))\(fraction)e\(exponent < 0 ? "-" : "+")"
                + (abs(exponent) < 10 ? "0" : "") + "\(abs(exponent))"
        }
        if point <= 0 { return sign + "0." + String(repeating: "0", count: -point) + digits }
        digits += String(repeating: "0", count: max(0, point + 1 - digits.utf8.count))
        return sign + digits.prefix(point) + "." + digits.dropFirst(point)
    }

    /// Whether Python counts a value as true: all but `null`, `false`, 0, and what is empty.
    static func isTrue(_ value: Span<UInt8>, _ kind: JSONKind) -> Bool {
        switch kind {
        case .null, .false: return false
        case .true: return true
        case .string: return value.count > 2
        case .number: return Double(String(decoding: value)) != 0
        case .object, .array:
            for index in 1..<value.count where !value[index].isWhiteSpace {
                return index < value.count - 1
            }
            return false
        }
    }

    // MARK: Writing

    /// The next byte that is not white space; 0 at the end.
    private mutating func peek() -> UInt8 {
        while index < json.count, json[index].isWhiteSpace { index += 1 }
        return index < json.count ? json[index] : 0
    }

    /// Writes the value at `index`.
    ///
    /// - Returns: false if there is no value, or if it has a string that is not Unicode.
    private mutating func writeValue() -> Bool {
        switch peek() {
        case UInt8(ascii: "{"): writeContainer(isObject: true, end: UInt8(ascii: "}"))
        case UInt8(ascii: "["): writeContainer(isObject: false, end: UInt8(ascii: "]"))
        case UInt8(ascii: "\""): writeString()
        case UInt8(ascii: "t"): writeWord("True", of: "true")
        case UInt8(ascii: "f"): writeWord("False", of: "false")
        case UInt8(ascii: "n"): writeWord("None", of: "null")
        default: writeNumber()
        }
    }

    private mutating func writeContainer(isObject: Bool, end: UInt8) -> Bool {
        let start = text.count
        var members: [(name: Range<Int>, value: Range<Int>)] = []
        var places: [[UInt8]: Int] = [:]
        var repeatsName = false
        text.append(json[index])
        index += 1
        while peek() != end {
            if peek() == UInt8(ascii: ",") {
                index += 1
                text += ", ".utf8
            }
            let nameStart = text.count
            if isObject {
                guard peek() == UInt8(ascii: "\""), writeString(), peek() == UInt8(ascii: ":") else { return false }
                index += 1
            }
            let name = nameStart..<text.count
            if isObject { text += ": ".utf8 }
            let valueStart = text.count
            guard writeValue() else { return false }
            if !isObject { continue }
            let value = valueStart..<text.count
            let key = Array(text[name])
            if let place = places[key] {
                members[place].value = value
                repeatsName = true
            } else {
                places[key] = members.count
                members.append((name, value))
            }
        }
        if repeatsName {
            // The last value counts, in the place of the first.
            let kept = members.map { text[$0.name] + Array(": ".utf8) + text[$0.value] }
            text.replaceSubrange((start + 1)..., with: Array(kept.joined(separator: Array(", ".utf8))))
        }
        text.append(end)
        index += 1
        return true
    }

    private mutating func writeString() -> Bool {
        var end = index + 1
        while end < json.count, json[end] != UInt8(ascii: "\"") { end += json[end] == UInt8(ascii: "\\") ? 2 : 1 }
        var decoded: [UInt8] = []
        guard end < json.count, JSONValue.decodeString(json.span.extracting(index...end), into: &decoded) else {
            return false
        }
        Self.writeRepr(String(decoding: decoded, as: UTF8.self), to: &text)
        index = end + 1
        return true
    }

    private mutating func writeWord(_ word: String, of literal: String) -> Bool {
        index += literal.utf8.count
        text += word.utf8
        return true
    }

    private mutating func writeNumber() -> Bool {
        let number = json[index...].prefix { $0.isDigit || $0 | 0x20 == UInt8(ascii: "e") || "+-.".utf8.contains($0) }
        index += number.count
        let string = String(decoding: number, as: UTF8.self)
        if number.contains(where: { $0 == UInt8(ascii: ".") || $0 | 0x20 == UInt8(ascii: "e") }) {
            guard let value = Double(string) else { return false }
            text += Self.repr(value).utf8
        } else {
            text += (string == "-0" ? "0" : string).utf8
        }
        return !number.isEmpty
    }
}

extension UInt8 {
    /// White space of JSON.
    fileprivate var isWhiteSpace: Bool { self == 0x20 || self == 0x09 || self == 0x0A || self == 0x0D }
}
