// Bytes that RabbitMQ sends where text is usual, as text: they may be anything.

import Bytes
import JSON

/// Bytes as text: as they are if they are UTF-8, otherwise in base64.
struct AMQPText {
    private let bytes: [UInt8]
    /// Whether the bytes are UTF-8.
    let isUTF8: Bool

    /// O(n), without a copy.
    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        do throws(UTF8.ValidationError) {
            _ = try UTF8Span(validating: bytes.span)
            isUTF8 = true
        } catch {
            isUTF8 = false
        }
    }

    /// The text. O(n).
    var readable: [UInt8] {
        if isUTF8 { return bytes }
        var text: [UInt8] = []
        Base64.standard.encode(bytes.span, into: &text)
        return text
    }

    /// The size of the text as a JSON string, in bytes. O(n), without an allocation.
    var jsonByteCount: Int {
        guard isUTF8 else { return 2 + (bytes.count + 2) / 3 * 4 }
        var counter = ByteCounter()
        JSONWriter.writeString(bytes.span, to: &counter)
        return counter.count
    }

    /// Appends the text as a JSON string. O(n).
    func write(to json: inout [UInt8]) {
        if isUTF8 { return JSONWriter.writeString(bytes.span, to: &json) }
        json.append(UInt8(ascii: "\""))
        Base64.standard.encode(bytes.span, into: &json)
        json.append(UInt8(ascii: "\""))
    }
}

/// Counts bytes instead of keeping them.
private struct ByteCounter: JSONOutput {
    var count = 0

    mutating func append(_ byte: UInt8) { count += 1 }
    mutating func append(_ bytes: Span<UInt8>) { count += bytes.count }
}
