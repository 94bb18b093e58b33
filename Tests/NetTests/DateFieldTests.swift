// How HTTP dates are written and read.

import Support
import Testing

@testable import Net

@Suite(.blocking) struct DateFieldTests {
    @Test(arguments: [
        (Int64(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"), (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"), (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
        (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"), (253_402_300_800, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ])
    func aTimeIsWrittenInEnglishAndGMT(seconds: Int64, text: String) {
        #expect(DateField.format(unixSeconds: seconds) == text)
    }

    @Test func theFieldFollowsTheSecond() {
        let dates = DateField()
        dates.update(unixMilliseconds: 784_111_777_999)
        #expect(String(decoding: dates.field, as: UTF8.self) == "\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
        dates.update(unixMilliseconds: 784_111_778_000)
        #expect(String(decoding: dates.field, as: UTF8.self) == "\r\nDate: Sun, 06 Nov 1994 08:49:38 GMT\r\n")
    }

    /// 6 November 1994, 08:49:37.
    private static let then: Int64 = 784_111_777

    @Test(arguments: [
        ("Sun, 06 Nov 1994 08:49:37 GMT", then), ("Sunday, 06-Nov-94 08:49:37 GMT", then),
        ("Sun Nov  6 08:49:37 1994", then), ("Sun Nov 16 08:49:37 1994", then + 10 * 86_400),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800), ("Thursday, 29-Feb-24 00:00:00 GMT", 1_709_164_800),
        ("Sun, 06 Nov 1994 08:49:37", nil), ("Sun, 06 Nov 1994 08:49:37 GMT+1", nil),
        ("Sun, 06 Nov 1994 08:49:37 CET", nil),
        ("Sunday, 06-Nov-1994 08:49:37 GMT", nil), ("Sun Nov  6 08:49:37 94 GMT", nil),
        ("Thu, 31 Feb 2019 08:49:37 GMT", nil),
        ("Thursday, 31-Feb-19 08:49:37 GMT", nil), ("Sun, 06 Nov 1994 24:49:37 GMT", nil),
        ("1994-11-06T08:49:37Z", nil),
        ("Sun, 06 Nov 1994 08:49:37 GMT\0", nil), ("", nil),
    ])
    func aDateIsReadInAnyOfItsForms(text: String, seconds: Int64?) {
        #expect(HTTPDate.unixSeconds(text, now: 1_767_225_600) == seconds)
    }

    @Test(
        arguments: [
            // Now is the first second of 2026; 50 years later is the first second of 2076.
            ("Wednesday, 01-Jan-76 00:00:00 GMT", 1_767_225_600, 3_345_062_400),
            ("Thursday, 01-Jan-76 00:00:01 GMT", 1_767_225_600, 189_302_401),
            ("Saturday, 31-Dec-77 23:59:59 GMT", 1_767_225_600, 252_460_799),
            ("Friday, 01-Jan-27 00:00:00 GMT", 1_767_225_600, 1_798_761_600),
            // Now is the first second of 2090; a year of two digits may be in the next century.
            ("Wednesday, 01-Jan-10 00:00:00 GMT", 3_786_912_000, 4_417_977_600),
            ("Sunday, 01-Jan-50 00:00:00 GMT", 3_786_912_000, 2_524_608_000),
        ] as [(String, Int64, Int64)])
    func aYearOfTwoDigitsIsAtMostFiftyYearsAhead(text: String, now: Int64, seconds: Int64) {
        #expect(HTTPDate.unixSeconds(text, now: now) == seconds)
    }
}
