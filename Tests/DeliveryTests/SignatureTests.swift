// HMAC-SHA-256 against the vectors of RFC 4231, and the header fields of signatures.

import Bytes
import Support
import Testing

@testable import Delivery

@Suite("Signatures", .blocking)
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
        "emq's own signature",
        arguments: [
            (
                "whsec", 1_700_000_000 as Int64, "{\"order\":17}",
                "t=1700000000,v1=9559c099db6c7b24bb325a5004d61a574386e65816fff3405f7cc5ddaa56227c"
            ),
            ("sécret", 0, "", "t=0,v1=087cb86dd4c53ddf4df37d1dce7c3898210826ebcc0b02777fe4da5601e1dc0c"),
        ])
    func own(secret: String, unixSeconds: Int64, body: String, value: String) {
        let made = fields(.emq, secrets: [secret, "not used"], unixSeconds: unixSeconds, body: body)
        #expect(made == "Emq-Signature: \(value)\r\n")
    }

    // The first vector is that of the specification's libraries. The other codes come from
    // `printf '…' | openssl dgst -sha256 -mac HMAC -macopt hexkey:… -binary | base64`.
    @Test(
        "The signature of Standard Webhooks, for each secret",
        arguments: [
            (
                ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], #"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
            ),
            (
                [
                    "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==",
                    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                ], "",
                "v1,6WWwmz3nrVnbs1t3wza+P1/Il+eI9jJQ+buZLINMmvw= v1,v48jdbgvh29KJz2Qc+ghw8G6vG3nAKnujWBg8oM/62A="
            ),
        ])
    func standard(secrets: [String], body: String, value: String) {
        let made = fields(
            .standard, id: "msg_p5jXN8AQM9LWM0D4loKWxJek", secrets: secrets, unixSeconds: 1_614_265_330, body: body)
        #expect(
            made == "webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek\r\nwebhook-timestamp: 1614265330\r\n"
                + "webhook-signature: \(value)\r\n")
    }

    @Test("Without a secret, there is no signature", arguments: [Signature.emq, .standard])
    func unsigned(signature: Signature) {
        #expect(fields(signature, secrets: [], unixSeconds: 0, body: "") == "")
    }

    private func fields(
        _ signature: Signature, id: String = "1", secrets: [String], unixSeconds: Int64, body: String
    ) -> String {
        var fields: [UInt8] = []
        signature.appendFields(
            id: Array(id.utf8), secrets: secrets.map { Array($0.utf8) }, unixSeconds: unixSeconds,
            body: Array(body.utf8).span, to: &fields)
        return String(decoding: fields, as: UTF8.self)
    }

    @Test(
        "A standard secret has 24 to 64 bytes in base64",
        arguments: [(23, false), (24, true), (32, true), (63, true), (64, true), (65, false), (0, false)])
    func lengths(count: Int, isValid: Bool) {
        let key = [UInt8](repeating: 0xF7, count: count)
        var secret = Array("whsec_".utf8)
        Base64.standard.encode(key.span, into: &secret)
        #expect(Signature.standardKey(secret) == (isValid ? key : nil))
    }

    @Test(
        "Other texts are no standard secrets",
        arguments: [
            "", "whsec_", "a long random text", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa_w",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMQ", "Whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ])
    func noSecrets(text: String) {
        #expect(Signature.standardKey(Array(text.utf8)) == nil)
    }
}
