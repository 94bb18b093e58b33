// Dates in header fields: RFC 9110 section 5.6.7.

import CLinux
import Glibc

/// Reads dates as senders write them today (IMF-fixdate).
public enum HTTPDate {
    /// The time that a date such as `Sun, 06 Nov 1994 08:49:37 GMT` stands for, in seconds since the Unix epoch; nil for anything else.
    public static func unixSeconds(_ text: String) -> Int64? {
        var parts = unsafe tm()
        guard !text.utf8.contains(0) else { return nil }
        let isWhole = unsafe text.withCString { text in
            guard let end = unsafe strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &parts) else { return false }
            return unsafe end.pointee == 0
        }
        return isWhole ? Int64(unsafe timegm(&parts)) : nil
    }
}
