// The search for the end of a string in JSON: by the CPU's instructions, and by the code for CPUs without them.

import CLinux
import Support
import Testing

@Suite(.blocking) struct PlainPrefixTests {
    @Test(arguments: [0, 0x1F, 0x20, 0x21, 0x22, 0x23, 0x5B, 0x5C, 0x5D, 0x7E, 0x7F, 0x80, 0xC3, 0xFF] as [UInt8])
    func specialBytesAreFoundWhereverTheyAre(byte: UInt8) {
        let isSpecial = byte < 0x20 || byte > 0x7F || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\")
        for length in 0..<50 {
            for place in 0..<length {
                var bytes = [UInt8](repeating: UInt8(ascii: "a"), count: length)
                bytes[place] = byte
                // The first one counts.
                if isSpecial, place + 7 < length { bytes[place + 7] = UInt8(ascii: "\"") }
                #expect(emq_plain_prefix(bytes, length) == (isSpecial ? place : length))
                #expect(emq_plain_prefix_portable(bytes, length) == (isSpecial ? place : length))
            }
        }
    }

    @Test func itEndsAtTheCount() {
        let bytes = [UInt8](repeating: UInt8(ascii: "a"), count: 40) + [UInt8(ascii: "\"")]
        for length in 0...40 {
            #expect(emq_plain_prefix(bytes, length) == length)
            #expect(emq_plain_prefix_portable(bytes, length) == length)
        }
    }
}
