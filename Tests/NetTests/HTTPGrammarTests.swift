// The grammar of header fields, apart from requests.

import Support
import Testing

@testable import Net

@Suite(.blocking) struct HTTPGrammarTests {
    /// RFC 9110, section 5.5: visible characters, spaces, tabs and bytes over 0x7F. Each place counts, because eight
    /// bytes are looked at together.
    @Test(arguments: [1, 7, 8, 9, 16, 21]) func aFieldValueHasNoControlCharacters(length: Int) {
        for place in 0..<length {
            for byte in UInt8.min...UInt8.max {
                var value = [UInt8](repeating: UInt8(ascii: "a"), count: length)
                value[place] = byte
                let isAllowed = byte >= 0x20 && byte != 0x7F || byte == UInt8(ascii: "\t")
                #expect(value.span.isFieldValue == isAllowed, "byte \(byte) at \(place)")
            }
        }
    }
}
