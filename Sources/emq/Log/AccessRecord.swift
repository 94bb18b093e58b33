// The lines of `--access-log`: one for each request, when its response has been sent.

import Bytes
import Net

/// A request, until its response has been sent.
final class AccessRecord: RequestRecord {
    /// The longest path that is shown, in bytes.
    private static let maximumPathByteCount = 1024

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
        methodName = request.methodName.isEmpty ? nil : String(decoding: request.methodName)
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

    // MARK: The path

    /// A path without what nobody may read in the log: receipts and tokens that a client has put there by mistake.
    /// O(length).
    static func shown(_ path: Span<UInt8>) -> [UInt8] {
        var shown: [UInt8] = []
        shown.reserveCapacity(min(path.count, maximumPathByteCount))
        var segmentStart = 0
        for place in path.indices {
            let byte = path[place]
            if byte == UInt8(ascii: "/") { segmentStart = place + 1 }
            let isReceipt = place - segmentStart == idByteCount && path.extracting(place...).beginsReceipt
            let isToken =
                place - segmentStart >= 4 && path.extracting(place - 4..<place).equals("emq_")
                && path.extracting(place...).beginsSecret
            if isReceipt || isToken || place == maximumPathByteCount { return shown + "…".utf8 }
            shown.append(byte)
        }
        return shown
    }

    /// The length of a task's id in a receipt.
    private static let idByteCount = 22
}

extension Span<UInt8> {
    /// Whether the `@` of a receipt is here, as it is or percent-encoded.
    fileprivate var beginsReceipt: Bool {
        !isEmpty && self[0] == UInt8(ascii: "@")
            || count >= 3 && extracting(0..<3).equals("%40")
    }

    /// Whether so many letters and digits follow that they may be those of a token.
    fileprivate var beginsSecret: Bool {
        count >= 20 && !(0..<20).contains { !self[$0].isDigit && !self[$0].isLetter }
    }
}
