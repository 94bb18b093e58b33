// How answers are written, whatever length was estimated, and which of them are known to have arrived.

import Foundation
import Support
import Testing

@testable import Net

@Suite(.blocking) struct ResponseStreamTests {
    private let dates = DateField()

    init() { dates.update(unixMilliseconds: 784_111_777_000) }

    /// The bytes that wait to be sent.
    private func written(_ responses: borrowing ResponseStream) -> String {
        let bytes = responses.buffer.span
        return String(decoding: bytes.indices.map { bytes[$0] }, as: UTF8.self)
    }

    private func write(_ count: Int, estimated: Int, to responses: inout ResponseStream) {
        responses.begin(status: 200, contentType: "text/plain")
        responses.beginBody(estimatedCount: estimated)
        let body = (0..<count).map { UInt8(ascii: "a") + UInt8($0 % 26) }
        responses.append(body.span)
        responses.end()
    }

    private func expected(_ count: Int, hasBody: Bool = true) -> String {
        let body = String(decoding: (0..<count).map { UInt8(ascii: "a") + UInt8($0 % 26) }, as: UTF8.self)
        return "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n"
            + "Content-Length: \(count)\r\n\r\n\(hasBody ? body : "")"
    }

    @Test func aStreamHasNoLengthAndItsPartsAreHeldOneByOne() {
        var responses = ResponseStream(dates: dates)
        responses.beginStream(contentType: "text/event-stream")
        responses.field("X-A", "1")
        responses.endHead()
        let head =
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/event-stream\r\n"
            + "Connection: close\r\nX-A: 1\r\n\r\n"
        #expect(written(responses) == head && responses.isComplete && responses.isStreaming)
        for (part, mark) in [("a" as StaticString, 0 as UInt64), ("b", 7), ("c", 3)] {
            responses.beginPart()
            responses.append(part)
            responses.hold(until: mark)
        }
        #expect(written(responses) == head + "abc" && responses.sendableCount == head.utf8.count + 1)
        responses.release(upTo: 7)
        #expect(responses.sendableCount == head.utf8.count + 3)
    }

    @Test(arguments: [0, 1, 1000])
    func theBodyOfAnAnswerCanBeReadWhereItWasWritten(count: Int) {
        var responses = ResponseStream(dates: dates)
        write(count, estimated: 5, to: &responses)
        responses.hold(until: 9)
        responses.withOnlyAnswer { status, body, mark in
            #expect(status == 200 && body.count == count && mark == 9)
        }
    }

    @Test(arguments: [0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 100_000], [0, 5, 10, 50, 100, 9999, 1_000_000])
    func theLengthIsRightWhateverWasEstimated(count: Int, estimated: Int) {
        var responses = ResponseStream(dates: dates)
        // The answer has another before it and one after it.
        write(3, estimated: 3, to: &responses)
        write(count, estimated: estimated, to: &responses)
        write(12, estimated: 1, to: &responses)
        #expect(written(responses) == expected(3) + expected(count) + expected(12))
    }

    @Test(arguments: [1, 9, 10, 99, 100, 999, 1000], [0, 10, 100, 1000])
    func theMostCommonAnswerIsWrittenAsAllOthersAre(count: Int, estimated: Int) {
        let traced: [UInt8] = Array("X-Request-Id: a-1\r\n".utf8)
        for fields in [[], traced] {
            var usual = ResponseStream(dates: dates)
            var other = ResponseStream(dates: dates)
            usual.returnedFields = fields
            other.returnedFields = fields
            usual.beginJSON(estimatedCount: estimated)
            other.begin(status: 200, contentType: "application/json")
            other.beginBody(estimatedCount: estimated)
            let body = [UInt8](repeating: UInt8(ascii: "1"), count: count)
            usual.append(body.span)
            usual.end()
            other.append(body.span)
            other.end()
            #expect(written(usual) == written(other) && written(usual).contains("\r\nContent-Length: \(count)\r\n"))
        }
    }

    @Test(arguments: [0, 9, 10, 1000], [0, 10, 1_000_000])
    func anAnswerToHeadHasTheLengthAndNoBody(count: Int, estimated: Int) {
        var responses = ResponseStream(dates: dates)
        responses.answersHead = true
        write(count, estimated: estimated, to: &responses)
        responses.answersHead = false
        write(2, estimated: 2, to: &responses)
        #expect(written(responses) == expected(count, hasBody: false) + expected(2))
    }

    @Test func anAbandonedAnswerLeavesNothing() {
        var responses = ResponseStream(dates: dates)
        write(3, estimated: 3, to: &responses)
        for hasBody in [false, true] {
            responses.begin(status: 200, contentType: "text/plain")
            responses.track(7)
            responses.field("X-Number", 12)
            if hasBody {
                responses.beginBody()
                responses.append("some of it")
            }
            responses.abandon()
        }
        responses.abandon()
        write(4, estimated: 4, to: &responses)
        #expect(written(responses) == expected(3) + expected(4))
        #expect(responses.deliveries.isEmpty)
    }

    @Test func fieldsStandInTheirOrder() {
        var responses = ResponseStream(dates: dates)
        responses.closesConnection = true
        responses.begin(status: 405, contentType: "application/problem+json")
        responses.field("Allow", "GET, HEAD")
        responses.field("Retry-After", 10)
        responses.beginBody()
        responses.append(UInt8(ascii: "x"))
        responses.end()
        #expect(
            written(responses) == """
                HTTP/1.1 405 Method Not Allowed\r
                Date: Sun, 06 Nov 1994 08:49:37 GMT\r
                Content-Type: application/problem+json\r
                Connection: close\r
                Allow: GET, HEAD\r
                Retry-After: 10\r
                Content-Length: 1\r
                \r
                x
                """)
    }

    @Test func noContentHasNoLength() {
        var responses = ResponseStream(dates: dates)
        responses.minorVersion = 0
        responses.begin(status: 204, contentType: nil)
        responses.endWithoutBody()
        #expect(
            written(responses)
                == "HTTP/1.1 204 No Content\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: keep-alive\r\n\r\n")
    }

    /// Every status that the server sends has a reason phrase.
    @Test(arguments: [
        200, 204, 303, 400, 401, 403, 404, 405, 408, 409, 413, 414, 415, 417, 429, 431, 500, 501, 503, 505,
    ])
    func everyStatusHasAReason(status: Int) {
        #expect(!reason(of: status).description.isEmpty)
    }

    @Test func whatWasAcknowledgedIsForgotten() throws {
        var responses = ResponseStream(dates: dates)
        var ends: [Int] = []
        for key in [UInt64(1), 2, 3] {
            responses.begin(status: 200, contentType: "text/plain")
            responses.track(key)
            responses.track(key * 10)
            responses.beginBody()
            responses.append("body")
            responses.end()
            ends.append(responses.count)
        }
        func keys() -> [UInt64] { responses.deliveries.map(\.key) }
        // Nothing has been sent yet.
        responses.forgetDelivered(unacknowledged: 0)
        #expect(keys() == [1, 10, 2, 20, 3, 30])

        var pair: [Int32] = [0, 0]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
        defer { for descriptor in pair { close(descriptor) } }
        let isFlushed = responses.flush(to: .socket(SocketTransport(descriptor: pair[0], isLocal: true)))
        #expect(isFlushed)
        #expect(responses.count == 0)
        #expect(responses.sent == UInt64(ends[2]))

        responses.forgetDelivered(unacknowledged: ends[2])
        #expect(keys() == [1, 10, 2, 20, 3, 30])
        responses.forgetDelivered(unacknowledged: ends[2] - ends[0] + 1)
        #expect(keys() == [1, 10, 2, 20, 3, 30])
        responses.forgetDelivered(unacknowledged: ends[2] - ends[0])
        #expect(keys() == [2, 20, 3, 30])
        responses.forgetDelivered(unacknowledged: 1)
        #expect(keys() == [3, 30])
        responses.forgetDelivered(unacknowledged: 0)
        #expect(keys() == [])
    }

    @Test func whatIsHeldIsNotSendable() {
        var responses = ResponseStream(dates: dates)
        var starts: [Int] = []
        for mark: UInt64 in [0, 4, 4, 2, 7, 0] {
            starts.append(responses.count)
            write(5, estimated: 5, to: &responses)
            responses.hold(until: mark)
        }
        // An answer with several marks is held until the highest, and an abandoned answer holds nothing.
        starts.append(responses.count)
        responses.begin(status: 200, contentType: nil)
        for mark: UInt64 in [8, 9, 8] { responses.hold(until: mark) }
        responses.endWithoutBody()
        responses.begin(status: 200, contentType: nil)
        responses.hold(until: 10)
        responses.abandon()
        write(6, estimated: 6, to: &responses)

        #expect(responses.sendableCount == starts[1])
        for (mark, start, next) in [(3, starts[1], 4), (4, starts[4], 7), (7, starts[6], 9), (8, starts[6], 9)] {
            responses.release(upTo: UInt64(mark))
            #expect(responses.sendableCount == start)
            #expect(responses.heldMark == UInt64(next))
        }
        responses.release(upTo: 9)
        #expect(responses.sendableCount == responses.count)
        write(5, estimated: 5, to: &responses)
        responses.hold(until: 9)
        #expect(responses.sendableCount == responses.count)
    }

    @Test func aBrokenSocketIsAnErrorAndNoSignal() throws {
        var responses = ResponseStream(dates: dates)
        write(3, estimated: 3, to: &responses)
        var pair: [Int32] = [0, 0]
        try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
        close(pair[1])
        let transport = ConnectionTransport.socket(SocketTransport(descriptor: pair[0], isLocal: true))
        let isFlushed = responses.flush(to: transport)
        let code = errno
        #expect(!isFlushed)
        #expect(code == EPIPE)
        transport.close(isReset: false)
    }
}
