// HMAC-SHA-256 against the vectors of RFC 4231, and the signature header.

import Support
import Testing

@testable import Delivery

@Suite("Signatures")
struct SignatureTests {
    @Test(
        "The vectors of RFC 4231",
        arguments: [
            (
                [UInt8](repeating: 0x0b, count: 20), Array("Hi There".utf8),
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
            ),
            (
                Array("Jefe".utf8), Array("what do ya want for nothing?".utf8),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
            ),
            (
                [UInt8](repeating: 0xaa, count: 20), [UInt8](repeating: 0xdd, count: 50),
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"
            ),
            (
                [UInt8](1...25), [UInt8](repeating: 0xcd, count: 50),
                "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"
            ),
            // The RFC gives the first 128 bits of this one.
            (
                [UInt8](repeating: 0x0c, count: 20), Array("Test With Truncation".utf8),
                "a3b6167473100ee06e0c796c2955552b"
            ),
            (
                [UInt8](repeating: 0xaa, count: 131),
                Array("Test Using Larger Than Block-Size Key - Hash Key First".utf8),
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
            ),
            (
                [UInt8](repeating: 0xaa, count: 131),
                Array(
                    ("This is a test using a larger than block-size key and a larger than block-size data. The key "
                        + "needs to be hashed before being used by the HMAC algorithm.").utf8),
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"
            ),
        ])
    func vectors(key: [UInt8], message: [UInt8], code: String) {
        var whole = HMACSHA256(key: key.span)
        whole.update(message.span)
        #expect(hexadecimal(whole.finalize()).hasPrefix(code))
        var pieces = HMACSHA256(key: key.span)
        pieces.update(message.span.extracting(first: 3))
        pieces.update(message.span.extracting(droppingFirst: 3))
        #expect(hexadecimal(pieces.finalize()).hasPrefix(code))
    }

    // The codes come from `printf '…' | openssl dgst -sha256 -hmac '…'`.
    @Test(
        "The header's value",
        arguments: [
            (
                "whsec", 1_700_000_000 as Int64, "{\"order\":17}",
                "t=1700000000,v1=9559c099db6c7b24bb325a5004d61a574386e65816fff3405f7cc5ddaa56227c"
            ),
            ("sécret", 0, "", "t=0,v1=087cb86dd4c53ddf4df37d1dce7c3898210826ebcc0b02777fe4da5601e1dc0c"),
        ])
    func header(secret: String, unixSeconds: Int64, body: String, value: String) {
        let made = Signature.value(secret: Array(secret.utf8), unixSeconds: unixSeconds, body: Array(body.utf8).span)
        #expect(String(decoding: made, as: UTF8.self) == value)
    }
}
