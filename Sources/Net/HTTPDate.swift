// Dates in header fields: RFC 9110 section 5.6.7.

import CLinux
import Glibc

/// Reads the three forms of dates that a recipient has to accept.
public enum HTTPDate {
    /// The time of a date: `Sun, 06 Nov 1994 08:49:37 GMT` (IMF-fixdate), or one of the older forms
    /// `Sunday, 06-Nov-94 08:49:37 GMT` (rfc850-date) and `Sun Nov  6 08:49:37 1994` (asctime-date).
    ///
    /// - Parameters:
    ///   - text: the date. The day of the week is not checked.
    ///   - now: the time, in seconds since the Unix epoch. A two-digit year is the latest one that is at most 50 years
    ///     ahead.
    /// - Returns: seconds since the Unix epoch; nil for anything else, and for a day that the calendar does not have.
    public static func unixSeconds(_ text: String, now: Int64) -> Int64? {
        guard !text.utf8.contains(0) else { return nil }
        if let parts = unsafe parts(of: text, "%a, %d %b %Y %H:%M:%S GMT") ?? parts(of: text, "%a %b %e %H:%M:%S %Y") {
            return unsafe unixSeconds(parts)
        }
        guard var parts = unsafe parts(of: text, "%a, %d-%b-%y %H:%M:%S GMT") else { return nil }
        var (latest, seconds) = unsafe (tm(), time_t(now))
        unsafe gmtime_r(&seconds, &latest)
        let twoDigits = unsafe parts.tm_year % 100
        unsafe parts.tm_year = (latest.tm_year + 50) / 100 * 100 + twoDigits
        // The calendar compares them, both moved 50 years back.
        var compared = unsafe parts
        unsafe compared.tm_year -= 50
        if unsafe Int64(timegm(&compared)) > now { unsafe parts.tm_year -= 100 }
        return unsafe unixSeconds(parts)
    }

    private static func parts(of text: String, _ format: String) -> tm? {
        var parts = unsafe tm()
        // The program stays in the locale "C", whose names are the English ones.
        let isWhole = unsafe text.withCString { text in
            guard let end = unsafe strptime(text, format, &parts) else { return false }
            return unsafe end.pointee == 0
        }
        return unsafe isWhole ? parts : nil
    }

    private static func unixSeconds(_ parts: tm) -> Int64? {
        var normal = unsafe parts
        // A leap second is the first of the next minute, which may be another day.
        let excess = unsafe max(0, parts.tm_sec - 59)
        unsafe normal.tm_sec -= excess
        let seconds = unsafe Int64(timegm(&normal))
        return unsafe normal.tm_mday == parts.tm_mday ? seconds + Int64(excess) : nil
    }
}
