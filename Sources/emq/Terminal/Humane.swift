// Numbers, sizes and times as people read them.

import Bytes
import Glibc

/// Figures for people.
enum Humane {
    /// A whole number with commas: `12,345`.
    static func count(_ number: Double) -> String {
        var digits = Array("\(whole(number.magnitude))")
        var place = digits.count - 3
        while place > 0 {
            digits.insert(",", at: place)
            place -= 3
        }
        return (number <= -0.5 ? "-" : "") + String(digits)
    }

    /// How often something happens in a second: `0.3`, `12`, `1,250`.
    static func rate(_ number: Double) -> String {
        let tenths = whole(min(number, 1e12) * 10)
        return tenths >= 100 || tenths % 10 == 0 ? count(Double(tenths) / 10) : "\(tenths / 10).\(tenths % 10)"
    }

    /// A number of bytes: `900 bytes`, `1.5 MB`. A kB has 1000 bytes.
    static func bytes(_ number: Double) -> String {
        var (value, unit) = (number, "bytes")
        for larger in ["kB", "MB", "GB", "TB"] where value >= 1000 { (value, unit) = (value / 1000, larger) }
        return "\(unit == "bytes" ? count(value) : rate(value)) \(unit)"
    }

    /// A duration in seconds, such as `5m 3s`.
    static func duration(seconds: Double) -> String { Duration.text(milliseconds: whole(seconds * 1000)) }

    /// An age in whole seconds, such as `0s` or `5m 3s`.
    static func age(seconds: Double) -> String { seconds < 1 ? "0s" : duration(seconds: seconds.rounded(.down)) }

    /// How long before or after now a time is: `in 5m`, `3m ago`. The time is in Unix seconds, and now in Unix
    /// milliseconds.
    static func relative(_ seconds: Double, now: Int64) -> String {
        let difference = whole(seconds * 1000) - now
        // Tenths of seconds would only say how long the request took.
        let rounded = (abs(difference) + 500) / 1000 * 1000
        if rounded == 0 { return "now" }
        let text = Duration.text(milliseconds: rounded)
        return difference > 0 ? "in \(text)" : "\(text) ago"
    }

    /// A time with its date, unless it is to be short: `3m ago (2026-11-30 09:12:03 UTC)`.
    static func time(_ seconds: Double, now: Int64, isShort: Bool) -> String {
        let relative = relative(seconds, now: now)
        return isShort ? relative : "\(relative) (\(local(seconds, "%Y-%m-%d %H:%M:%S %Z")))"
    }

    /// The time of day: `09:12:03`.
    static func clock(_ seconds: Double) -> String { local(seconds, "%H:%M:%S") }

    /// A time in the user's time zone.
    private static func local(_ seconds: Double, _ format: String) -> String {
        // The last second of the year 9999.
        var (time, parts) = unsafe (time_t(min(max(whole(seconds), 0), 253_402_300_799)), tm())
        tzset()
        unsafe localtime_r(&time, &parts)
        let text = unsafe [CChar](unsafeUninitializedCapacity: 64) { buffer, count in
            count = unsafe strftime(buffer.baseAddress, buffer.count, format, &parts)
        }
        return String(decoding: text.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// A number of the server's without its fraction, within what can be calculated with.
    private static func whole(_ number: Double) -> Int64 {
        number.isNaN ? 0 : Int64(min(max(number, -9e15), 9e15).rounded(.down))
    }
}
