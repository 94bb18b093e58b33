// The Date field that every answer carries, made once a second.

import Glibc

/// The current IMF-fixdate (RFC 9110 section 5.6.7), such as `Sun, 06 Nov 1994 08:49:37 GMT`.
final class DateField {
    private(set) var text: [UInt8] = []
    private var second: Int64 = -1

    /// Brings the text up to date. O(1), and nothing within the same second.
    func update(unixMilliseconds: Int64) {
        let second = unixMilliseconds / 1000
        if second == self.second { return }
        self.second = second
        text = Array(DateField.format(unixSeconds: second).utf8)
    }

    static func format(unixSeconds: Int64) -> String {
        // The C library's names of days and months would follow the locale; the format wants English.
        let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        var seconds = time_t(unixSeconds)
        var parts = tm()
        unsafe gmtime_r(&seconds, &parts)
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return unsafe "\(days[Int(parts.tm_wday)]), \(two(parts.tm_mday)) \(months[Int(parts.tm_mon)]) "
            + "\(1900 + parts.tm_year) \(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) GMT"
    }
}
