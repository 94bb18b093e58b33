// The Date field that every answer carries, made once a second.

import Glibc

/// The current Date field (RFC 9110 section 6.6.1), such as `Date: Sun, 06 Nov 1994 08:49:37 GMT`.
@safe final class DateField {
    /// The field, with a line end before and after it.
    private(set) var field: [UInt8] = []
    private var second: Int64 = -1

    // The heads of the most common answers, for lengths of 1 to 3 digits, each at its own multiple of `stride`. They
    // are behind a pointer, because an array would be retained, and its variable checked, for each answer. The field
    // always has the same length, and so have the heads.
    private let heads: UnsafeMutablePointer<UInt8>
    private static let stride = 128
    /// Where the name of the length begins in a head, and where its digits do. Other fields can come before the name.
    private static let lengthNameStart = 86
    private static let lengthStart = 102
    static let maximumDigits = 3

    init() {
        unsafe heads = .allocate(capacity: Self.maximumDigits * Self.stride)
        unsafe heads.initialize(repeating: 0, count: Self.maximumDigits * Self.stride)
    }

    deinit { unsafe heads.deallocate() }

    /// Updates the field. O(1); does nothing within the same second.
    func update(unixMilliseconds: Int64) {
        let second = unixMilliseconds / 1000
        if second == self.second { return }
        self.second = second
        field = Array("\r\nDate: \(DateField.format(unixSeconds: second))\r\n".utf8)
        let start = Array("HTTP/1.1 200 OK".utf8) + field + Array("Content-Type: application/json\r\n".utf8)
        for digits in 1...Self.maximumDigits {
            let zeros = String(repeating: "0", count: digits)
            let head = start + Array("Content-Length: \(zeros)\r\n\r\n".utf8)
            precondition(head.count == Self.lengthStart + digits + 4 && head.count <= Self.stride, "a wrong head")
            for (place, byte) in head.enumerated() { unsafe heads[(digits - 1) * Self.stride + place] = byte }
        }
    }

    /// Writes the head of the most common answer: status 200, this field, JSON, and a length of zeros.
    ///
    /// - Parameters:
    ///   - digits: how many zeros, 1 to `maximumDigits`.
    ///   - fields: further header lines.
    ///   - buffer: what to append to.
    func appendJSONHead(digits: Int, with fields: [UInt8], to buffer: inout Buffer) {
        precondition(1...Self.maximumDigits ~= digits, "no such head")
        let head = unsafe UnsafeRawBufferPointer(
            start: heads + (digits - 1) * Self.stride, count: Self.lengthStart + digits + 4)
        if fields.isEmpty { return unsafe buffer.append(head) }
        unsafe buffer.append(UnsafeRawBufferPointer(rebasing: head[..<Self.lengthNameStart]))
        buffer.append(fields.span)
        unsafe buffer.append(UnsafeRawBufferPointer(rebasing: head[Self.lengthNameStart...]))
    }

    /// The date in the preferred format (RFC 9110 section 5.6.7). It has years of four digits; a later time is written
    /// as the last one that it can express.
    static func format(unixSeconds: Int64) -> String {
        // The C library's day and month names depend on the locale; the format requires English ones.
        let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        var seconds = time_t(min(unixSeconds, 253_402_300_799))
        var parts = unsafe tm()
        unsafe gmtime_r(&seconds, &parts)
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return unsafe "\(days[Int(parts.tm_wday)]), \(two(parts.tm_mday)) \(months[Int(parts.tm_mon)]) "
            + "\(1900 + parts.tm_year) \(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) GMT"
    }
}
