// Known vectors of base64, hexadecimal digits and percent-encoding.

import Bytes
import Testing

@Suite struct EncodingTests {
    /// RFC 4648, section 10.
    @Test(arguments: [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ])
    func base64(text: String, encoded: String) {
        for alphabet in [Base64.standard, .url] {
            var output: [UInt8] = []
            alphabet.encode(Array(text.utf8).span, into: &output)
            #expect(output == Array(encoded.utf8))
            var decoded: [UInt8] = []
            let isValid = alphabet.decode(output.span, into: &decoded)
            #expect(isValid && decoded == Array(text.utf8))
        }
    }

    @Test func decodedBase64IsWhatWasEncoded() {
        for count in 0..<100 {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 37 + count) }
            var text: [UInt8] = []
            Base64.standard.encode(bytes.span, into: &text)
            var decoded = Array("x".utf8)
            let isValid = Base64.standard.decode(text.span, into: &decoded)
            #expect(isValid && decoded == Array("x".utf8) + bytes)
        }
    }

    @Test(arguments: [
        "Z", "Zg", "Zg=", "Zg===", "=", "==", "====", "Z===", "Zm9vZg", "Zg==Zg==", "Z=g=", "Zm=v", "Zm9 ", "Zm9v\n",
        "Zm9-", "Zm9é", "Zh==", "Zm9=", "Zm9vZm9=",
    ])
    func invalidBase64IsNotDecoded(text: String) {
        var decoded: [UInt8] = []
        let isValid = Base64.standard.decode(Array(text.utf8).span, into: &decoded)
        #expect(!isValid)
    }

    @Test func base64AppendsAndUsesBothAlphabets() {
        let bytes: [UInt8] = [0xFB, 0xFF, 0xFE, 0xFF]
        var standard = Array("x".utf8)
        Base64.standard.encode(bytes.span, into: &standard)
        #expect(String(decoding: standard, as: UTF8.self) == "x+//+/w==")
        var url: [UInt8] = []
        Base64.url.encode(bytes.span, into: &url)
        #expect(String(decoding: url, as: UTF8.self) == "-__-_w==")
    }

    /// Table 1 and table 2 of RFC 4648.
    @Test func base64HasCharactersForAllValues() {
        let common = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        for (alphabet, all) in [(Base64.standard, common + "+/"), (.url, common + "-_")] {
            let characters = Array(all.utf8)
            #expect((0..<64).map { alphabet.character($0) } == characters)
            for byte in UInt8.min...UInt8.max {
                #expect(alphabet.value(of: byte) == UInt8(characters.firstIndex(of: byte) ?? 0xFF))
            }
        }
    }

    @Test func hexadecimalDigits() {
        for byte in UInt8.min...UInt8.max {
            let character = Character(Unicode.Scalar(byte))
            #expect(byte.hexadecimalValue == (byte < 0x80 ? character.hexDigitValue.map { UInt8($0) } : nil))
        }
        for value in UInt8(0)..<16 {
            #expect(UInt8(hexadecimalDigit: value) == String(value, radix: 16).utf8.first)
            #expect(
                UInt8(hexadecimalDigit: value, uppercase: true) == String(value, radix: 16, uppercase: true).utf8.first)
        }
        #expect(UInt8(0x0A).hexadecimalText == "0x0A")
        #expect(UInt8(0xC3).hexadecimalText == "0xC3")
        var digits = Array("=".utf8)
        digits.append(hexadecimal: ([0x00, 0x7F, 0xAB] as [UInt8]).span)
        #expect(digits == Array("=007fab".utf8))
    }

    @Test(arguments: [
        ("", ""), ("AZaz09-._~", "AZaz09-._~"), ("a b", "a%20b"), ("a+b", "a%2Bb"), ("100%", "100%25"),
        ("/?#&=", "%2F%3F%23%26%3D"), ("é", "%C3%A9"), ("\0\u{7F}", "%00%7F"),
    ])
    func percentEncoding(text: String, encoded: String) {
        var output: [UInt8] = []
        PercentEncoding.encode(Array(text.utf8).span, into: &output)
        #expect(String(decoding: output, as: UTF8.self) == encoded)
        var decoded: [UInt8] = []
        PercentEncoding.decode(output.span, into: &decoded)
        #expect(decoded == Array(text.utf8))
    }

    @Test func aFormHasPlusesForSpaces() {
        var output: [UInt8] = []
        PercentEncoding.encode(Array("a b+c%".utf8).span, into: &output, space: .plus)
        #expect(String(decoding: output, as: UTF8.self) == "a+b%2Bc%25")
    }

    @Test(arguments: [
        // Digits of either case, a plus that stays, an encoded percent sign that is not decoded twice.
        ("%c3%A9", "é"), ("a+b", "a+b"), ("%2541", "%41"), ("x%2Fy%2fz", "x/y/z"),
        // What is no encoding is left out.
        ("%", ""), ("a%4", "a"), ("%zzb", "b"), ("%4%41", "41"),
    ])
    func percentDecoding(text: String, decoded: String) {
        var output = Array("=".utf8)
        PercentEncoding.decode(Array(text.utf8).span, into: &output)
        #expect(String(decoding: output, as: UTF8.self) == "=" + decoded)
    }
}
