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

    /// How long it is as a JSON string at most, in bytes. O(n).
    var maximumJSONByteCount: Int {
        if !isUTF8 { return 2 + (bytes.count + 2) / 3 * 4 }
        return bytes.reduce(2) { count, byte in
            count + (byte < 0x20 ? 6 : byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") ? 2 : 1)
        }
    }

    /// Appends the text as a JSON string. O(n).
    func write(to json: inout [UInt8]) {
        if isUTF8 { return JSONWriter.writeString(bytes.span, to: &json) }
        json.append(UInt8(ascii: "\""))
        Base64.standard.encode(bytes.span, into: &json)
        json.append(UInt8(ascii: "\""))
    }
}
