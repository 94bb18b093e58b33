// Reading exact numbers. No floating point is used, so nothing is rounded unless a function says so.

import Bytes

extension JSONValue {
    /// The maximum length of a number, in bytes. Longer numbers are out of range, to limit the time that reading takes.
    public static let maximumNumberLength = 65_536

    /// Reads a number that is a signed integer of 64 bits, however it is written: `1e3` and `1.0` are 1000 and 1.
    ///
    /// - Parameter bytes: The value.
    /// - Returns: The number, exactly.
    /// - Throws: Why the value is not such an integer.
    /// - Complexity: O(*n*), where *n* is the number of bytes, whatever the exponent.
    public static func integer(_ bytes: Span<UInt8>) throws(JSONNumberError) -> Int64 {
        if let number = naturalNumber(bytes) { return number }
        let decimal = try ScaledDecimal(bytes, decimalPlaces: 0)
        guard decimal.remainder == .zero else { throw .notAnInteger }
        return try signed(decimal.magnitude, isNegative: decimal.isNegative)
    }

    /// The number if it is written as up to 18 digits that do not begin with 0, as almost all are.
    private static func naturalNumber(_ bytes: Span<UInt8>) -> Int64? {
        guard 1...18 ~= bytes.count, bytes[0] != UInt8(ascii: "0") else { return nil }
        var number: Int64 = 0
        for index in bytes.indices {
            guard bytes[index].isDigit else { return nil }
            number = number &* 10 &+ Int64(bytes[index] &- UInt8(ascii: "0"))
        }
        return number
    }

    /// Reads a number that is an unsigned integer of 64 bits, however it is written.
    ///
    /// - Parameter bytes: The value.
    /// - Returns: The number, exactly.
    /// - Throws: Why the value is not such an integer.
    /// - Complexity: O(*n*), where *n* is the number of bytes, whatever the exponent.
    public static func unsigned(_ bytes: Span<UInt8>) throws(JSONNumberError) -> UInt64 {
        let decimal = try ScaledDecimal(bytes, decimalPlaces: 0)
        guard decimal.remainder == .zero else { throw .notAnInteger }
        guard decimal.magnitude == 0 || !decimal.isNegative else { throw .outOfRange }
        return decimal.magnitude
    }

    /// Reads a number of seconds as whole milliseconds, rounded half up: `0.0005` is 1, `-0.0005` is 0.
    ///
    /// - Parameter bytes: The value.
    /// - Returns: The milliseconds; negative if the number is.
    /// - Throws: ``JSONNumberError/notANumber`` or ``JSONNumberError/outOfRange``.
    /// - Complexity: O(*n*), where *n* is the number of bytes, whatever the exponent.
    public static func milliseconds(_ bytes: Span<UInt8>) throws(JSONNumberError) -> Int64 {
        try rounded(ScaledDecimal(bytes, decimalPlaces: 3))
    }

    /// Reads a number of seconds as whole milliseconds, rounded half up, if it is in a range as it is written: for a
    /// range that begins with 0, `-0.0001` is out of range.
    ///
    /// - Parameters:
    ///   - bytes: The value.
    ///   - range: The range, in milliseconds.
    /// - Returns: The milliseconds.
    /// - Throws: ``JSONNumberError/notANumber`` or ``JSONNumberError/outOfRange``.
    /// - Complexity: O(*n*), where *n* is the number of bytes, whatever the exponent.
    public static func milliseconds(
        _ bytes: Span<UInt8>, in range: ClosedRange<Int64>
    ) throws(JSONNumberError) -> Int64 {
        let decimal = try ScaledDecimal(bytes, decimalPlaces: 3)
        let isWhole = decimal.remainder == .zero
        let truncated = try signed(decimal.magnitude, isNegative: decimal.isNegative)
        let (floor, overflow) = truncated.subtractingReportingOverflow(decimal.isNegative && !isWhole ? 1 : 0)
        guard !overflow, range.contains(floor), isWhole || floor < range.upperBound else { throw .outOfRange }
        return try rounded(decimal)
    }

    private static func rounded(_ decimal: ScaledDecimal) throws(JSONNumberError) -> Int64 {
        let roundsAway = decimal.remainder == .overHalf || decimal.remainder == .half && !decimal.isNegative
        let (magnitude, overflow) = decimal.magnitude.addingReportingOverflow(roundsAway ? 1 : 0)
        guard !overflow else { throw .outOfRange }
        return try signed(magnitude, isNegative: decimal.isNegative)
    }

    private static func signed(_ magnitude: UInt64, isNegative: Bool) throws(JSONNumberError) -> Int64 {
        let value = isNegative ? Int64(exactly: -Int128(magnitude)) : Int64(exactly: magnitude)
        guard let value else { throw .outOfRange }
        return value
    }
}

/// A decimal number multiplied by a power of ten, as an integer and a remainder.
private struct ScaledDecimal {
    /// The part of a number after the point, as exactly as rounding needs it.
    enum Remainder {
        case zero, underHalf, half, overHalf
    }

    private(set) var isNegative = false
    private(set) var magnitude: UInt64 = 0
    private(set) var remainder = Remainder.zero

    /// Reads `bytes` times ten to the power of `decimalPlaces`.
    init(_ bytes: Span<UInt8>, decimalPlaces: Int) throws(JSONNumberError) {
        guard bytes.count <= JSONValue.maximumNumberLength else { throw .outOfRange }
        var index = 0
        if !bytes.isEmpty, bytes[0] == UInt8(ascii: "-") {
            isNegative = true
            index = 1
        }
        let digits = try Self.digits(bytes, from: index)
        /// How many of the digits are before the point after it is moved; the others are the remainder.
        let wholeDigits = digits.beforePoint + decimalPlaces + Self.exponent(bytes, from: digits.end)

        var position = 0
        while index < digits.end {
            if bytes[index] != UInt8(ascii: ".") {
                let digit = bytes[index] - UInt8(ascii: "0")
                if position < wholeDigits {
                    try append(digit)
                } else {
                    addToRemainder(digit, isFirst: position == wholeDigits)
                }
                position += 1
            }
            index += 1
        }
        // Zero stays zero; any other number goes out of range after at most 20 digits.
        while position < wholeDigits, magnitude > 0 {
            try append(0)
            position += 1
        }
    }

    private mutating func append(_ digit: UInt8) throws(JSONNumberError) {
        let (product, productOverflow) = magnitude.multipliedReportingOverflow(by: 10)
        let (sum, sumOverflow) = product.addingReportingOverflow(UInt64(digit))
        guard !productOverflow, !sumOverflow else { throw .outOfRange }
        magnitude = sum
    }

    private mutating func addToRemainder(_ digit: UInt8, isFirst: Bool) {
        guard digit > 0 else { return }
        if isFirst {
            remainder = digit < 5 ? .underHalf : digit == 5 ? .half : .overHalf
        } else if remainder == .zero {
            remainder = .underHalf
        } else if remainder == .half {
            remainder = .overHalf
        }
    }

    /// Finds the end of the digits and the point that begin at `start`, and the number of digits before the point.
    private static func digits(
        _ bytes: Span<UInt8>, from start: Int
    ) throws(JSONNumberError) -> (end: Int, beforePoint: Int) {
        var index = start
        var point: Int?
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "."), point == nil {
                point = index
            } else if !bytes[index].isDigit {
                break
            }
            index += 1
        }
        guard index > start, bytes[start].isDigit else { throw .notANumber }
        return (index, (point ?? index) - start)
    }

    /// Reads the exponent, if there is one after the digits. It stops growing where it exceeds all digits that a number
    /// can have, because larger exponents make no difference.
    private static func exponent(_ bytes: Span<UInt8>, from start: Int) -> Int {
        var exponent = 0
        var isNegative = false
        for index in start..<bytes.count {
            if bytes[index].isDigit {
                exponent = min(exponent * 10 + Int(bytes[index] - UInt8(ascii: "0")), 1_000_000)
            } else if bytes[index] == UInt8(ascii: "-") {
                isNegative = true
            }
        }
        return isNegative ? -exponent : exponent
    }
}
