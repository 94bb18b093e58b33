// libFuzzer's entry to the HTTP parsers. For any input, it checks that the parsers find the same requests or response,
// and the same error, however the bytes arrive; that the result lies within the bytes and the limits; and that nothing
// traps.

import Glibc

@testable import Net

@main
enum FuzzHTTP {
    static func main() {
        var count = CommandLine.argc
        var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = unsafe CommandLine.unsafeArgv
        exit(unsafe runFuzzer(&count, &arguments, testOneInput))
    }
}

/// libFuzzer's loop. The program calls it itself, because the package manager's `main` takes the place of libFuzzer's.
@_silgen_name("LLVMFuzzerRunDriver")
private func runFuzzer(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ test: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// Beginnings of connections, so that the fuzzer need not discover the whole grammar.
private func beginning(_ choice: UInt8) -> String {
    switch choice & 15 {
    case 0: "GET /"
    case 1: "GET / HTTP/1.1\r\n"
    case 2: "POST / HTTP/1.1\r\nHost: h\r\n"
    case 3: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: "
    case 4: "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
    case 5: "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    case 6: "POST / HTTP/1.0\r\nConnection: "
    case 8: "HTTP/1.1 200 "
    case 9: "HTTP/1.1 200 OK\r\nContent-Length: "
    case 10: "HTTP/1.1 200 OK\r\nTransfer-Encoding: "
    case 11: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    case 12: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 "
    case 13: "HTTP/1.0 200 OK\r\nConnection: "
    case 14: "HTTP/1.1 200 OK\r\n\r\n"
    default: ""
    }
}

/// Limits that short inputs can reach.
private let limits: RequestLimits = {
    var limits = RequestLimits()
    (limits.requestLine, limits.head, limits.fields, limits.body) = (100, 200, 5, 50)
    return limits
}()

/// The first byte of the input selects requests or a response, and a beginning; the second selects the size of the
/// pieces.
///
/// libFuzzer's `main`, which is linked but not used, needs this name.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    guard count >= 2 else { return 0 }
    let input = unsafe UnsafeBufferPointer(start: start, count: count)
    let bytes = unsafe Array(beginning(input[0]).utf8) + input[2...]
    let pieceSize = unsafe Int(input[1]) + 1
    if unsafe input[0] & 8 != 0 {
        let answersHead = unsafe input[0] & 16 != 0
        let whole = response(bytes, pieceSize: bytes.count, answersHead)
        precondition(response(bytes, pieceSize: pieceSize, answersHead) == whole, "the pieces change the response")
        return 0
    }
    let whole = conversation(bytes, pieceSize: bytes.count)
    let pieces = conversation(bytes, pieceSize: pieceSize)
    precondition(whole.requests == pieces.requests, "the pieces change the requests")
    precondition(whole.status == pieces.status, "the pieces change the end: \(whole.status), \(pieces.status)")
    return 0
}

/// A request, copied out of its buffer.
private struct Found: Equatable {
    let method: [UInt8]
    let path: [UInt8]
    let query: [UInt8]
    let authority: [UInt8]
    let body: [UInt8]
    let fields: [[UInt8]]
    let minorVersion: Int
    let isPersistent: Bool
}

/// All requests in the bytes, and the status with which the bytes after them are refused; 0 if more could follow.
private func conversation(_ bytes: [UInt8], pieceSize: Int) -> (requests: [Found], status: Int) {
    var parser = RequestParser(limits: limits)
    // Recalls heads only if they arrive in one piece.
    var heads = HeadCache()
    var buffer = Buffer()
    var requests: [Found] = []
    var next = 0
    while next < bytes.count {
        let end = min(next + pieceSize, bytes.count)
        buffer.append(bytes.span.extracting(next..<end))
        next = end
        do throws(Refusal) {
            while !buffer.isEmpty, try parser.parse(&buffer, &heads) {
                requests.append(found(by: parser, in: buffer.span))
                buffer.consume(parser.length)
                parser.reset()
            }
        } catch {
            precondition((400...505).contains(error.status) && !error.detail.isEmpty, "a refusal says why")
            return (requests, error.status)
        }
        checkUnfinished(parser, buffer)
    }
    return (requests, 0)
}

private func found(by parser: RequestParser, in bytes: Span<UInt8>) -> Found {
    let head = parser.head
    precondition(head.body.upperBound <= parser.length && parser.length <= bytes.count, "a body ends in its request")
    precondition(head.body.count <= limits.body && head.fields.count <= limits.fields, "a limit does not hold")
    precondition(head.body.lowerBound <= limits.head, "the head's limit does not hold")
    func copy(_ range: Range<Int>) -> [UInt8] { range.map { bytes[$0] } }
    let request = Found(
        method: copy(head.methodName), path: copy(head.path), query: copy(head.query),
        authority: copy(head.authority), body: copy(head.body),
        fields: head.fields.flatMap { [copy($0.name), copy($0.value)] }, minorVersion: head.minorVersion,
        isPersistent: head.isPersistent)
    precondition(!request.method.isEmpty, "a request has a method")
    precondition(
        request.path.isEmpty || request.path == Array("*".utf8) || request.path.first == UInt8(ascii: "/"),
        "a path begins with a slash")
    precondition(head.minorVersion == 0 || head.fields.count > 0, "there is a Host")
    return request
}

private func checkUnfinished(_ parser: RequestParser, _ buffer: borrowing Buffer) {
    precondition(parser.missingBytes(buffer) <= limits.body, "more is missing than may come")
    precondition(parser.isReadingBody || buffer.count <= limits.head, "more than a head is kept")
    // Besides the content of a chunked body, at most one line of its trailers is kept.
    precondition(parser.receivedBody.upperBound <= max(buffer.count, parser.receivedBody.lowerBound))
}

/// A response, copied out of its buffer, or the error in the bytes.
private enum Answer: Equatable {
    case response(status: Int, fields: [[UInt8]], body: [UInt8], isTruncated: Bool, isPersistent: Bool)
    case malformed
    case unfinished
}

private func response(_ bytes: [UInt8], pieceSize: Int, _ answersHead: Bool) -> Answer {
    let limits = ResponseLimits(head: 200, fields: 5, body: 50)
    var parser = ResponseParser(limits: limits, answersHead: answersHead)
    var buffer = Buffer()
    var isComplete = false
    var next = 0
    while next < bytes.count, !isComplete {
        let end = min(next + pieceSize, bytes.count)
        buffer.append(bytes.span.extracting(next..<end))
        next = end
        do throws(Refusal) {
            isComplete = try parser.parse(&buffer)
        } catch {
            precondition(!error.detail.isEmpty, "a failure says why")
            return .malformed
        }
        precondition(parser.missingBytes(buffer) <= limits.body + 1, "more is missing than may come")
    }
    guard isComplete || parser.parseEnd() else { return .unfinished }
    let head = parser.head
    let span = buffer.span
    precondition(head.body.upperBound <= parser.length && parser.length <= span.count, "a body ends in its response")
    precondition(head.body.count <= limits.body && head.fields.count <= limits.fields, "a limit does not hold")
    precondition(head.status >= 200 && head.body.lowerBound <= limits.head, "the head's limit does not hold")
    func copy(_ range: Range<Int>) -> [UInt8] { range.map { span[$0] } }
    return .response(
        status: head.status, fields: head.fields.flatMap { [copy($0.name), copy($0.value)] }, body: copy(head.body),
        isTruncated: head.isTruncated, isPersistent: head.isPersistent)
}
