// Times as people and logs read them.

import Glibc

/// Coordinated Universal Time.
public enum UTC {
    /// A time as `2026-11-29 06:00:00 UTC`.
    ///
    /// - Parameter seconds: The time, in seconds since the Unix epoch.
    /// - Returns: The text.
    public static func text(ofUnixSeconds seconds: Int64) -> String {
        let (date, time) = parts(seconds)
        return "\(date) \(time) UTC"
    }

    /// A time as RFC 3339 writes it: `2026-11-29T06:00:00Z`.
    ///
    /// - Parameter seconds: The time, in seconds since the Unix epoch.
    /// - Returns: The text.
    public static func timestamp(ofUnixSeconds seconds: Int64) -> String {
        let (date, time) = parts(seconds)
        return "\(date)T\(time)Z"
    }

    private static func parts(_ seconds: Int64) -> (date: String, time: String) {
        var (time, parts) = unsafe (time_t(seconds), tm())
        unsafe gmtime_r(&time, &parts)
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return unsafe (
            "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))",
            "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))"
        )
    }
}
