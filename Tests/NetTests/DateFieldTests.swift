// Dates as HTTP writes them.

import Testing

@testable import Net

@Suite struct DateFieldTests {
    @Test(arguments: [
        (Int64(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"), (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"), (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
        (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
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
}
