// A rate as people write it: `21.5/m`, `10/s`, `5/h`, `1/d`.

import Bytes

/// A number of starts per second, minute, hour or day.
public struct Rate: Equatable, Sendable, CustomStringConvertible {
    /// The starts allowed per `periodMilliseconds`, in millionths: a whole number, so nothing is ever rounded.
    let millionths: Int64
    /// One second, minute, hour or day.
    let periodMilliseconds: Int64
    /// The rate as it was written.
    public let description: String

    /// Reads a rate: a decimal number, a slash, and `s`, `m`, `h` or `d`. The number is above zero, at most
    /// 1,000,000,000 and has at most six decimals; the rate is at most 1,000,000 a second.
    ///
    /// - Throws: `RateError` with a sentence that says what would be right.
    public init(_ text: String) throws(RateError) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let period = Rate.periods[String(parts[1])], let number = Rate.millionths(parts[0])
        else {
            throw RateError(
                "a rate must be a number of starts with at most six decimals, a slash, and s, m, h or d, such as "
                    + "'21.5/m', not '\(text)'")
        }
        guard number > 0 else { throw RateError("a rate must be above zero, not '\(text)'") }
        guard number <= 1_000_000_000_000_000, number <= period * 1_000_000_000 else {
            throw RateError("a rate must be at most 1000000/s, and its number at most 1000000000, not '\(text)'")
        }
        description = text
        millionths = number
        periodMilliseconds = period
    }

    private static let periods: [String: Int64] = ["s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000]

    /// A decimal number in millionths; nil if the text is no such number, or has over six decimals or over twelve other
    /// digits.
    private static func millionths(_ text: Substring) -> Int64? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), (1...12).contains(parts[0].utf8.count) else { return nil }
        let decimals = parts.count == 2 ? String(parts[1]) : "0"
        guard (1...6).contains(decimals.utf8.count) else { return nil }
        let digits = parts[0] + decimals + String(repeating: "0", count: 6 - decimals.utf8.count)
        return Int64(decimal: digits.utf8)
    }
}

/// The error for a rate that cannot be read, for the person who wrote it.
public struct RateError: Error, CustomStringConvertible {
    /// What would be right, and what was given.
    public let description: String

    init(_ description: String) { self.description = description }
}
