// The lines of `--access-log`: one for each request, when its response has been sent.

import Bytes
import Net

/// A request, until its response has been sent.
final class AccessRecord: RequestRecord {
    /// The longest path that is shown, in bytes.
    static let maximumPathByteCount = 1024
    /// The longest method that is shown, in bytes.
    private static let maximumMethodByteCount = 32

    private let loop: EventLoop
    private let begin: Int64
    private let peer: String
    private let tokenName: String?
    private let methodName: String?
    private let path: [UInt8]?
    private let system: String?
    /// Its X-Request-Id; nil for none.
    private let requestID: [UInt8]?

    /// - Parameters:
    ///   - request: the request; it has no method if it is invalid.
    ///   - caller: its sender.
    ///   - system: the name of the legacy system at whose address it arrived; nil for emq's own.
    ///   - loop: the server's loop. The request began with the current visit to its connection.
    init(_ request: borrowing Request, by caller: Caller, system: String?, loop: EventLoop) {
        self.loop = loop
        begin = loop.nowMicroseconds
        peer = request.peer
        if case .holder(let token) = caller { tokenName = token.name } else { tokenName = nil }
        methodName =
            request.methodName.isEmpty
            ? nil
            : String(
                decoding: Self.shown(request.methodName, maximumByteCount: Self.maximumMethodByteCount), as: UTF8.self)
        path = request.methodName.isEmpty ? nil : Self.shown(request.path)
        self.system = system
        requestID = request.requestID.isEmpty ? nil : Array(copying: request.requestID)
    }

    override func end(status: Int?, byteCount: Int, isSent: Bool) {
        var fields: [LogEvent.Field] = [
            .word("remote", peer), .text("token", tokenName),
            methodName.map { .word("method", $0) } ?? .text("method", nil as String?), .text("path", path),
            status.map { .number("status", $0) } ?? .text("status", nil as String?), .number("bytes", byteCount),
            .duration("ms", microseconds: loop.nowMicroseconds - begin),
        ]
        if !isSent { fields.append(.flag("sent", false)) }
        if let system { fields.append(.word("system", system)) }
        if let requestID { fields.append(.text("request_id", requestID)) }
        Log.standard.write(.record("access", fields), isOptional: true)
    }

    // MARK: What is shown

    /// A path or a method without what nobody may read in the log: receipts and tokens that a client has put there by
    /// mistake, as they are or percent-encoded, even more than once. A long text is cut. O(maximum).
    static func shown(_ text: Span<UInt8>, maximumByteCount: Int = maximumPathByteCount) -> [UInt8] {
        // A secret may begin in what is shown, and be recognized by what follows.
        let part = text.extracting(0..<min(text.count, maximumByteCount + 256))
        var end = min(text.count, maximumByteCount)
        if let place = part.firstSecret { end = min(end, place) }
        if part.index(of: UInt8(ascii: "%"), from: 0) != nil {
            let (decoded, starts) = decoded(part)
            if let place = decoded.span.firstSecret { end = min(end, starts[place]) }
        }
        let shown = Array(copying: text.extracting(0..<end))
        return end == text.count ? shown : shown + "…".utf8
    }

    /// Decodes a percent-encoded text, and says where each byte's text begins.
    private static func decoded(_ text: Span<UInt8>) -> (bytes: [UInt8], starts: [Int]) {
        var (bytes, starts): ([UInt8], [Int]) = ([], [])
        var place = 0
        while place < text.count {
            starts.append(place)
            var (byte, next) = (text[place], place + 1)
            if byte == UInt8(ascii: "%") {
                // `%2540` is `%40`, encoded once more.
                while next + 2 <= text.count, text.extracting(next..<next + 2).equals("25") { next += 2 }
                if next + 2 <= text.count, let high = text[next].hexadecimalValue,
                    let low = text[next + 1].hexadecimalValue
                {
                    (byte, next) = (high << 4 | low, next + 2)
                }
            }
            bytes.append(byte)
            place = next
        }
        return (bytes, starts)
    }
}

extension Span<UInt8> {
    /// Where the secret part of the first receipt or token begins; nil for none.
    fileprivate var firstSecret: Int? {
        for place in indices {
            switch self[place] {
            case UInt8(ascii: "@"):
                if hasCharacters(16, from: place + 1, { $0.hexadecimalValue != nil }) { return place }
            case UInt8(ascii: "_"):
                if place >= 3, extracting(place - 3..<place + 1).equals("emq_"),
                    hasCharacters(20, from: place + 1, { $0.isDigit || $0.isLetter })
                {
                    return place + 1
                }
            default: break
            }
        }
        return nil
    }

    private func hasCharacters(_ number: Int, from start: Int, _ isOne: (UInt8) -> Bool) -> Bool {
        guard start + number <= count else { return false }
        for place in start..<start + number where !isOne(self[place]) { return false }
        return true
    }
}
