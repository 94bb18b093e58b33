// The response of a callback of httpqueue, read as Go's JSON package reads it into a struct with an integer `code`.

import Bytes
import JSON

/// Reads the responses of callbacks.
enum CallbackResponse {
    /// The number of bytes that are scanned at once. So few bytes have fewer members than the scanner notes at once.
    private static let pieceByteCount = 4096

    /// The `code` of a response; nil if the response is not an object, or if its code is missing or not an integer.
    ///
    /// The letters of the name may have any case. The last of several codes counts, but all must be integers or `null`,
    /// which counts as absent. Invalid UTF-8 in strings does not matter.
    ///
    /// - Parameter body: the response's body.
    /// - Returns: the code.
    /// - Throws: `JSONError` if the response is not one JSON value.
    /// - Complexity: O(n) in time, O(1) in memory.
    static func code(in body: Span<UInt8>) throws(JSONError) -> Int64? {
        var scanner = JSONScanner()
        var code: Int64?
        var isInteger = true
        var start = 0
        while start < body.count {
            let end = min(start + pieceByteCount, body.count)
            var piece = Array(copying: body.extracting(start..<end))
            // The byte 0x7F takes the place of each byte that is not ASCII. The scanner accepts it in strings, and
            // refuses it elsewhere.
            for index in piece.indices { piece[index] = min(piece[index], 0x7F) }
            try scanner.consume(piece.span)
            for index in 0..<scanner.entryCount {
                let entry = scanner.entry(index)
                guard entry.kind != .null, isCode(entry, in: body) else { continue }
                code = integer(entry, in: body)
                isInteger = isInteger && code != nil
            }
            scanner.forgetEntries()
            start = end
        }
        try scanner.finish()
        return scanner.kind == .object && isInteger ? code : nil
    }

    private static func isCode(_ entry: JSONScanner.Entry, in body: Span<UInt8>) -> Bool {
        let name = body.extracting(entry.name)
        if !entry.nameHasEscapes { return name.equalsIgnoringCase("code") }
        // Each of the four letters may be an escape of six bytes.
        guard name.count <= 24 else { return false }
        var decoded: [UInt8] = []
        let quoted = body.extracting(entry.name.lowerBound - 1..<entry.name.upperBound + 1)
        return JSONValue.decodeString(quoted, into: &decoded) && decoded.span.equalsIgnoringCase("code")
    }

    /// An integer of 64 bits, in digits alone: Go does not accept `100.0` as one.
    private static func integer(_ entry: JSONScanner.Entry, in body: Span<UInt8>) -> Int64? {
        guard entry.kind == .number, entry.value.count <= 20 else { return nil }
        return Int64(String(decoding: body.extracting(entry.value)))
    }
}
