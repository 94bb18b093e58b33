// SHA-256 against the vectors of its standard, in one piece and in several.

import Support
import Testing

@testable import Delivery

@Suite("SHA-256", .blocking)
struct SHA256Tests {
    @Test(
        "The vectors of FIPS 180-4",
        arguments: [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
            ),
            (
                "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
                    + "nopqrstu",
                "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
            ),
            (
                String(repeating: "a", count: 1_000_000),
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
            ),
        ])
    func vectors(message: String, digest: String) {
        #expect(hexadecimal(SHA256.hash(Array(message.utf8).span)) == digest)
    }

    @Test("A message in pieces has the same hash as the whole message")
    func pieces() {
        var random = SeededRandom()
        for _ in 0..<300 {
            let message = (0..<Int.random(in: 0...300, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            var hash = SHA256()
            var position = 0
            while position < message.count {
                let end = Int.random(in: position...min(position + 130, message.count), using: &random)
                hash.update(message.span.extracting(position..<end))
                position = end
            }
            #expect(hexadecimal(hash.finalize()) == hexadecimal(SHA256.hash(message.span)), "\(random)")
        }
    }
}

func hexadecimal(_ digest: SHA256.Digest) -> String {
    digest.indices.map { (digest[$0] < 16 ? "0" : "") + String(digest[$0], radix: 16) }.joined()
}
