// The chunked transfer coding, RFC 9112 section 7.1: decoded in place as it arrives, trailers checked and dropped.

import Bytes

/// The state of one chunked body as it arrives.
struct ChunkedBody {
    private enum State { case size, blanks, extensions, sizeEnd, data, dataReturn, dataEnd, trailer }

    /// The longest chunk extensions of one body together, in bytes. They are ignored.
    private static let extensionLimit = 16 * 1024
    private static let trailerLimit = 16 * 1024

    private let kind: HeaderSection.Kind
    private let limit: Int
    private var state = State.size
    private var digits = 0
    private var remaining = 0
    private var extensionBytes = 0
    private var trailerBytes = 0
    private var trailerFields = 0
    /// How many bytes of the body have been decoded.
    private(set) var decoded = 0

    /// `limit` is the longest body, in bytes. A longer body of a request is refused; that of a response ends with the
    /// first byte beyond the limit.
    init(_ kind: HeaderSection.Kind, limit: Int) {
        self.kind = kind
        self.limit = limit
    }

    /// Decodes the bytes behind the body decoded so far, and appends the result to that.
    ///
    /// - Returns: Where the coded body ends in the buffer; nil if it has not ended.
    mutating func decode(
        _ buffer: inout Buffer, bodyStart: Int, fieldLimit: Int
    ) throws(Refusal) -> Int? {
        var next = bodyStart + decoded
        while next < buffer.count {
            if state == .data {
                let count = min(remaining, buffer.count - next)
                buffer.move(next..<next + count, downTo: bodyStart + decoded)
                decoded += count
                remaining -= count
                next += count
                if decoded > limit { return next }
                if remaining == 0 { state = .dataReturn }
            } else if state == .trailer {
                guard let end = buffer.span.index(of: UInt8(ascii: "\n"), from: next) else {
                    try checkTrailer(buffer.count - next)
                    break
                }
                try checkTrailer(end + 1 - next)
                guard end > next, buffer.span[end - 1] == UInt8(ascii: "\r") else {
                    throw Refusal(.malformed, "a trailer line ends with CR LF, not with LF alone")
                }
                if end - 1 == next { return end + 1 }
                _ = try HeaderSection.field(buffer.span, next..<end - 1)
                trailerFields += 1
                guard trailerFields <= fieldLimit else {
                    throw Refusal(.headerTooLarge, "the \(kind.rawValue) has more than \(fieldLimit) trailer fields")
                }
                trailerBytes += end + 1 - next
                next = end + 1
            } else {
                try step(buffer.span[next])
                next += 1
            }
        }
        // Only an incomplete trailer line is kept behind the body.
        buffer.remove(bodyStart + decoded..<next)
        return nil
    }

    /// Notes that the bytes decoded so far have been removed from the buffer. Neither they nor the extensions so far
    /// count for the limits any more.
    mutating func drop() {
        decoded = 0
        extensionBytes = 0
    }

    private func checkTrailer(_ lineLength: Int) throws(Refusal) {
        if trailerBytes + lineLength > Self.trailerLimit {
            throw Refusal(.headerTooLarge, "the trailers are longer than \(Self.trailerLimit) bytes")
        }
    }

    /// Takes one byte of the framing around the data.
    private mutating func step(_ byte: UInt8) throws(Refusal) {
        switch state {
        case .size:
            if let digit = byte.hexadecimalValue {
                remaining = remaining << 4 | Int(digit)
                digits += 1
                guard digits <= 16 else { throw Refusal(.malformed, "a chunk's size has more than 16 digits") }
                if remaining > limit - decoded {
                    if kind == .request { throw Refusal(.bodyTooLarge, "the body is longer than \(limit) bytes") }
                    // Sizes over the limit are all the same; shifting further could overflow.
                    remaining = limit - decoded + 1
                }
            } else {
                guard digits > 0 else {
                    throw Refusal(.malformed, "a chunk begins with its size in hexadecimal digits")
                }
                try endSize(byte)
            }
        case .blanks: try endSize(byte, afterBlank: true)
        case .extensions:
            extensionBytes += 1
            guard extensionBytes <= Self.extensionLimit else {
                throw Refusal(.malformed, "the chunk extensions are longer than \(Self.extensionLimit) bytes")
            }
            if byte == UInt8(ascii: "\r") {
                state = .sizeEnd
            } else {
                guard byte.isFieldCharacter else {
                    throw Refusal(.malformed, "a chunk extension holds a control character")
                }
            }
        case .sizeEnd:
            try expect("\n", byte)
            digits = 0
            state = remaining == 0 ? .trailer : .data
        case .dataReturn:
            try expect("\r", byte)
            state = .dataEnd
        case .dataEnd:
            try expect("\n", byte)
            state = .size
        case .data, .trailer: preconditionFailure("data and trailers are taken in runs")
        }
    }

    private mutating func endSize(_ byte: UInt8, afterBlank: Bool = false) throws(Refusal) {
        switch byte {
        case UInt8(ascii: "\r") where !afterBlank: state = .sizeEnd
        case UInt8(ascii: ";"): state = .extensions
        case UInt8(ascii: " "), UInt8(ascii: "\t"):
            state = .blanks
            extensionBytes += 1
            guard extensionBytes <= Self.extensionLimit else {
                throw Refusal(.malformed, "the chunk extensions are longer than \(Self.extensionLimit) bytes")
            }
        default: throw Refusal(.malformed, "a chunk's size is followed by CR LF or by ;")
        }
    }

    private func expect(_ character: Unicode.Scalar, _ byte: UInt8) throws(Refusal) {
        guard byte == UInt8(ascii: character) else { throw Refusal(.malformed, "a chunk's lines end with CR LF") }
    }
}
