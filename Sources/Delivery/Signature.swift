// The header that lets a receiver check who sent a request, and when.

import Bytes

/// The header field `Emq-Signature`.
enum Signature {
    /// The field's value, `t=<time>,v1=<hex>`. The time is in Unix seconds. The code is the HMAC-SHA-256 of the time in
    /// decimal, a full stop and the body, keyed with the secret, in lower-case hexadecimal. O(length of the body).
    ///
    /// The time is signed so that a receiver can refuse a recorded request that is sent again later.
    static func value(secret: [UInt8], unixSeconds: Int64, body: Span<UInt8>) -> [UInt8] {
        let time = Array(String(unixSeconds).utf8)
        let stop: [UInt8] = [UInt8(ascii: ".")]
        var code = HMACSHA256(key: secret.span)
        code.update(time.span)
        code.update(stop.span)
        code.update(body)
        let digest = code.finalize()

        var value = Array("t=".utf8) + time + Array(",v1=".utf8)
        value.append(hexadecimal: digest.span)
        return value
    }
}
