// The names of queues.

import Bytes

/// The rules for names of queues: 1 to 255 bytes of UTF-8 without control characters.
public enum QueueName {
    /// The length of the longest name, in bytes of UTF-8.
    public static let maximumByteCount = 255

    /// Checks whether bytes are a queue's name. O(*n*).
    ///
    /// - Parameters:
    ///   - name: the bytes.
    ///   - owner: whose name it is to be, for something else whose names have the same form.
    /// - Returns: what is wrong, in a sentence without a full stop; nil if nothing is.
    public static func flaw(in name: Span<UInt8>, of owner: String = "a queue") -> String? {
        if name.isEmpty || name.count > maximumByteCount {
            return "\(owner)'s name must have 1 to \(maximumByteCount) bytes, not \(name.count)"
        }
        var isPlain = true
        for index in name.indices where name[index] < 0x20 || name[index] >= 0x7F { isPlain = false }
        if isPlain { return nil }
        guard let text = String(validating: Array(copying: name), as: UTF8.self) else {
            return "\(owner)'s name must be UTF-8"
        }
        let hasControl = text.unicodeScalars.contains { $0.properties.generalCategory == .control }
        return hasControl ? "\(owner)'s name must not contain control characters" : nil
    }
}
