// The names of queues.

import Bytes

/// The rules for names of queues: 1 to 255 bytes of UTF-8 without control characters.
public enum QueueName {
    /// The length of the longest name, in bytes of UTF-8.
    public static let maximumByteCount = 255

    /// Says why bytes are not a queue's name, in a sentence without a full stop; nil if they are one. O(*n*).
    public static func flaw(in name: Span<UInt8>) -> String? {
        if name.isEmpty || name.count > maximumByteCount {
            return "a queue's name must have 1 to \(maximumByteCount) bytes, not \(name.count)"
        }
        var isPlain = true
        for index in name.indices where name[index] < 0x20 || name[index] >= 0x7F { isPlain = false }
        if isPlain { return nil }
        guard let text = String(validating: Array(copying: name), as: UTF8.self) else {
            return "a queue's name must be UTF-8"
        }
        let hasControl = text.unicodeScalars.contains { $0.properties.generalCategory == .control }
        return hasControl ? "a queue's name must not contain control characters" : nil
    }
}
