// Receipts: how a worker names the dispatch that it received, so that it cannot acknowledge a later one.

import Bytes
import Net
import Queues
import UID

/// The text form `id@token`: a UID, and 16 hexadecimal digits that change with every dispatch.
enum Receipt {
    /// The token's digits.
    static func text(ofToken token: UInt64) -> InlineArray<16, UInt8> {
        InlineArray { place in
            UInt8(hexadecimalDigit: UInt8(truncatingIfNeeded: token >> UInt64(60 - 4 * place)) & 15)
        }
    }

    /// Reads an id or a receipt; nil for anything else.
    static func read(_ text: Span<UInt8>) -> TaskReference? {
        if let id = UID(text: text) { return TaskReference(id: id, token: nil) }
        let end = text.count - 17
        guard end > 0, text[end] == UInt8(ascii: "@"), let id = UID(text: text.extracting(0..<end)) else { return nil }
        let digits = text.extracting(end + 1..<text.count)
        var token: UInt64 = 0
        for place in digits.indices {
            // A receipt has one spelling: its digits are in lower case.
            guard let digit = digits[place].hexadecimalValue, !(0x41...0x46).contains(digits[place]) else { return nil }
            token = token << 4 | UInt64(digit)
        }
        return TaskReference(id: id, token: token)
    }
}
