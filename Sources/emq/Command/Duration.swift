// Durations and points in time as people write them on a command line.

import Bytes

/// Durations such as `5m`.
enum Duration {
    /// The units, the largest first, in milliseconds.
    private static let units: [(name: String, milliseconds: Int64)] = [
        ("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1),
    ]

    /// The longest duration, in milliseconds: that of the HTTP interface.
    static let maximumMilliseconds: Int64 = 4_294_967_295_000

    /// Reads a number of seconds, or numbers with units: `2.5`, `90s`, `1h30m`, `2w`.
    ///
    /// - Returns: the milliseconds, rounded; nil if `text` is not a duration of at most 136 years.
    static func milliseconds(_ text: String) -> Int64? {
        if let milliseconds = product(text[...], 1000) { return milliseconds }
        var rest = text[...]
        var sum: Int64 = 0
        var longest = Int64.max
        while !rest.isEmpty {
            let number = rest.prefix { $0.isNumber || $0 == "." }
            rest = rest.dropFirst(number.count)
            let name = rest.prefix { !$0.isNumber && $0 != "." }
            rest = rest.dropFirst(name.count)
            // Each unit occurs once, the larger ones first.
            guard let unit = units.first(where: { $0.name == name }), unit.milliseconds < longest,
                let part = product(number, unit.milliseconds)
            else { return nil }
            longest = unit.milliseconds
            sum += part
            if sum > maximumMilliseconds { return nil }
        }
        return text.isEmpty ? nil : sum
    }

    /// A decimal number without a sign, times `factor`; nil if it is none or too large.
    private static func product(_ number: Substring, _ factor: Int64) -> Int64? {
        guard number.utf8.allSatisfy({ $0.isDigit || $0 == UInt8(ascii: ".") }), let value = Double(number) else {
            return nil
        }
        let milliseconds = (value * Double(factor)).rounded()
        return milliseconds <= Double(maximumMilliseconds) ? Int64(milliseconds) : nil
    }

    /// A duration in its one or two largest units, for people: `350ms`, `12s`, `5m 3s`, `2d 4h`.
    static func text(milliseconds: Int64) -> String {
        if milliseconds < 1000 { return "\(max(0, milliseconds))ms" }
        if milliseconds < 10_000 {
            let tenths = (milliseconds + 50) / 100
            return tenths % 10 == 0 ? "\(tenths / 10)s" : "\(tenths / 10).\(tenths % 10)s"
        }
        for (place, unit) in units.enumerated() where milliseconds >= unit.milliseconds {
            let whole = "\(milliseconds / unit.milliseconds)\(unit.name)"
            let next = units[place + 1]
            let rest = milliseconds % unit.milliseconds / next.milliseconds
            return rest == 0 || unit.name == "s" ? whole : "\(whole) \(rest)\(next.name)"
        }
        return "0s"
    }
}
