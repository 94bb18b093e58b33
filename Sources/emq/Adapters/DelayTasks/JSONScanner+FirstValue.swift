// Reading JSON as Go's `json.Decoder` does: one value, whatever bytes follow it.

import Bytes
import JSON

extension JSONScanner {
    /// Scans the first value, in place of a document, and passes over the bytes after it.
    ///
    /// - Parameter bytes: the value, and any bytes that follow it.
    /// - Returns: the number of bytes that belong to the value.
    /// - Throws: `JSONError` if the bytes do not begin with a value.
    mutating func scanFirstValue(_ bytes: Span<UInt8>) throws(JSONError) -> Int {
        reset()
        do throws(JSONError) {
            try consume(bytes)
            try finish()
            return bytes.count
        } catch {
            guard error.expected == .end else { throw error }
            reset()
            try consume(bytes.extracting(first: error.offset))
            try finish()
            return error.offset
        }
    }
}
