// The Date field that every answer carries, made once a second.

import Glibc

/// The current Date field (RFC 9110 section 6.6.1), such as `Date: Sun, 06 Nov 1994 08:49:37 GMT`.
final class DateField {
    /// The field, with a line end before and after it.
    private(set) var field: [UInt8] = []
    /// The start of the most common answer, including this field, up to the length.
    private(set) var jsonStart: [UInt8] = []
    /// Where the name of the length begins in it. Other fields can come before it.
    private(set) var lengthNameStart = 0
    private var second: Int64 = -1

    /// Updates the field. O(1); does nothing within the same second.
    func update(unixMilliseconds: Int64) {
        let second = unixMilliseconds / 1000
        if second == self.second { return }
        self.second = second
        field = Array("\r\nDate: \(DateField.format(unixSeconds: second))\r\n".utf8)
        jsonStart = Array("HTTP/1.1 200 OK".utf8) + field + Array("Content-Type: application/json\r\n".utf8)
        lengthNameStart = jsonStart.count
        jsonStart += Array("Content-Length: ".utf8)
    }

    static func format(unixSeconds: Int64) -> String {
        // The C library's day and month names depend on the locale; the format requires English ones.
        let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        var seconds = time_t(unixSeconds)
        var parts = unsafe tm()
        unsafe gmtime_r(&seconds, &parts)
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return unsafe "\(days[Int(parts.tm_wday)]), \(two(parts.tm_mday)) \(months[Int(parts.tm_mon)]) "
            + "\(1900 + parts.tm_year) \(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) GMT"
    }
}
