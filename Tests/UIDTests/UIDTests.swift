// The texts of UIDs, written and parsed.

import Foundation
import Support
import Testing

@testable import UID

@Suite struct UIDTests {
    /// The example of RFC 9562, appendix A.6.
    let example = UID(high: 0x017F_22E2_79B0_7CC3, low: 0x98C4_DC0C_0C07_398F)
    let exampleUUID = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"

    @Test func textsOfTheExampleInTheRFC() {
        #expect(string(example.uuidText) == exampleUUID)
        #expect(example.description == "AX8i4nmwfMOYxNwMDAc5jw")
        #expect(string(example.text) == example.description)
        #expect(example.unixMilliseconds == 0x017F_22E2_79B0)
    }

    @Test func textsMatchFoundationsForAnyBits() {
        var random = SeededRandom()
        for _ in 0..<10_000 {
            // Sparse and dense bits cover the whole alphabet, and zeros and ones at both ends.
            let uid = UID(high: random.next() & random.next(), low: random.next() | random.next())
            var bytes = withUnsafeBytes(of: uid.high.bigEndian) { Data($0) }
            bytes += withUnsafeBytes(of: uid.low.bigEndian) { Data($0) }
            let base64URL = bytes.base64EncodedString()
                .replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
            #expect(uid.description == base64URL, "\(random)")
            #expect(UID(base64URL) == uid, "\(random)")
            let uuid = UUID(uuid: bytes.withUnsafeBytes { $0.loadUnaligned(as: uuid_t.self) }).uuidString
            #expect(string(uid.uuidText) == uuid.lowercased(), "\(random)")
            #expect(UID(uuid) == uid, "\(random)")
            #expect(UID(uuid.lowercased()) == uid, "\(random)")
        }
    }

    @Test func anySixteenBytesAreAUID() {
        #expect(UID("AAAAAAAAAAAAAAAAAAAAAA") == UID(high: 0, low: 0))
        #expect(UID("_____________________w") == UID(high: .max, low: .max))
        #expect(UID("ffffffff-ffff-ffff-ffff-ffffffffffff") == UID(high: .max, low: .max))
    }

    @Test(arguments: [
        "", "A", "AX8i4nmwfMOYxNwMDAc5j", "AX8i4nmwfMOYxNwMDAc5jwA", "AX8i4nmwfMOYxNwMDAc5jw==",
        " AX8i4nmwfMOYxNwMDAc5j", "AX8i4nmwfMOYxNwMDAc5j\n", "AX8i4nmwfMO+xNwMDAc5jw", "AX8i4nmwfMO/xNwMDAc5jw",
        "AX8i4nmwfMO=xNwMDAc5jw", "AX8i4nmwfM\u{E9}YxNwMDAc5jw", "AX8i4nmwfMOYxNwMDAc5j\0",
        // The last character must be A, Q, g or w; others would have more than 128 bits.
        "AX8i4nmwfMOYxNwMDAc5jx", "AX8i4nmwfMOYxNwMDAc5j_", "AX8i4nmwfMOYxNwMDAc5jB",
    ])
    func otherBase64IsNone(_ text: String) {
        #expect(UID(text) == nil)
    }

    @Test(arguments: [
        "017f22e279b07cc398c4dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c07398",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398ff",
        "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}", "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
        "017f22e2_79b0-7cc3-98c4-dc0c0c07398f", "017f22e27-9b0-7cc3-98c4-dc0c0c07398f",
        "-17f22e2-79b0-7cc3-98c4-dc0c0c07398f", "+17f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        "017f22e2-79b0-7cc3-98c4-dc0c0c0739 f",
    ])
    func otherUUIDsAreNone(_ text: String) {
        #expect(UID(text) == nil)
    }

    @Test func everyByteOutsideTheAlphabetIsRefusedAtEveryPosition() {
        let alphabet = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
        let text = Array(example.description.utf8)
        for index in text.indices.dropLast() {
            for byte in UInt8.min...UInt8.max {
                var changed = text
                changed[index] = byte
                #expect((UID(text: changed.span) != nil) == alphabet.contains(byte), "byte \(byte) at \(index)")
            }
        }
    }

    @Test func comparesLikeItsBytes() {
        let ascending = [
            UID(high: 0, low: 0), UID(high: 0, low: 1), UID(high: 0, low: .max), UID(high: 1, low: 0),
            UID(high: 1 << 63, low: 0),
        ]
        #expect(ascending.shuffled().sorted() == ascending)
        #expect(!(example < example))
    }

    @Test func isEncodedAsItsText() throws {
        let encoded = try JSONEncoder().encode([example])
        #expect(String(decoding: encoded, as: UTF8.self) == #"["AX8i4nmwfMOYxNwMDAc5jw"]"#)
        #expect(try JSONDecoder().decode([UID].self, from: encoded) == [example])
        #expect(try JSONDecoder().decode([UID].self, from: Data("[\"\(exampleUUID)\"]".utf8)) == [example])
        #expect(throws: DecodingError.self) { try JSONDecoder().decode([UID].self, from: Data(#"["x"]"#.utf8)) }
    }
}

func string<let count: Int>(_ text: InlineArray<count, UInt8>) -> String {
    String(decoding: text.indices.map { text[$0] }, as: UTF8.self)
}
