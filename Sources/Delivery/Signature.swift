// The header fields that let a receiver check who sent a request, and when.

import Bytes

/// A way to sign requests.
public enum Signature: String, Sendable {
    /// emq's own field `Emq-Signature`.
    case emq
    /// The fields of the Standard Webhooks specification: `webhook-id`, `webhook-timestamp` and `webhook-signature`.
    case standard

    /// Appends the fields that sign a request; nothing without a secret. The time is signed so that a receiver can
    /// refuse a recorded request that is sent again later. O(length of the body × number of secrets that sign).
    ///
    /// - Parameters:
    ///   - id: the task's id.
    ///   - secrets: the secrets, the current one first. It alone signs for `Emq-Signature`; all sign for
    ///     `webhook-signature`.
    ///   - unixSeconds: the wall-clock time.
    ///   - body: the request's body.
    ///   - fields: what to append to.
    func appendFields(
        id: [UInt8], secrets: [[UInt8]], unixSeconds: Int64, body: Span<UInt8>, to fields: inout [UInt8]
    ) {
        guard let secret = secrets.first else { return }
        let time = Array("\(unixSeconds)".utf8)
        switch self {
        case .emq:
            fields += "Emq-Signature: t=".utf8
            fields += time
            fields += ",v1=".utf8
            fields.append(hexadecimal: Self.code(key: secret, [time], body).span)
        case .standard:
            fields += "webhook-id: ".utf8
            fields += id
            fields += "\r\nwebhook-timestamp: ".utf8
            fields += time
            fields += "\r\nwebhook-signature:".utf8
            for key in secrets.compactMap(Self.standardKey) {
                fields += " v1,".utf8
                Base64.standard.encode(Self.code(key: key, [id, time], body).span, into: &fields)
            }
        }
        fields += "\r\n".utf8
    }

    /// Whether requests with this signature have header fields of this name, or of a name that may become one of them.
    func reserves(_ name: [UInt8]) -> Bool {
        self == .standard && name.lowercasedASCII.starts(with: "webhook-".utf8)
    }

    /// The key that a secret of the specification stands for: `whsec_` and 24 to 64 bytes in base64. Nil for any other
    /// text.
    static func standardKey(_ secret: [UInt8]) -> [UInt8]? {
        let prefix: StaticString = "whsec_"
        var key: [UInt8] = []
        guard secret.span.starts(with: prefix),
            Base64.standard.decode(secret.span.extracting(droppingFirst: prefix.utf8CodeUnitCount), into: &key),
            (24...64).contains(key.count)
        else { return nil }
        return key
    }

    /// The HMAC-SHA-256 of some words and the body, with a full stop behind each word.
    private static func code(key: [UInt8], _ words: [[UInt8]], _ body: Span<UInt8>) -> SHA256.Digest {
        var code = HMACSHA256(key: key.span)
        for word in words {
            code.update(word.span)
            code.update([UInt8(ascii: ".")].span)
        }
        code.update(body)
        return code.finalize()
    }
}
