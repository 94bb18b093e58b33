// The response of a callback of httpqueue, read as Go's JSON package reads it into a struct with an integer `code`.

import Bytes
import JSON

/// The `code` in the response of a callback.
enum CallbackCode: Equatable {
    case integer(Int64)
    /// A value that is no integer: the place of its bytes in the response.
    case invalid(Range<Int>)
    /// The response is not an object, or has no code.
    case missing

    /// The number of bytes that are scanned at once. So few bytes have fewer members than the scanner notes at once.
    private static let pieceByteCount = 4096

    /// Reads a response.
    ///
    /// The letters of the name may have any case. The last of several codes counts, but all must be integers or `null`,
    /// which counts as absent. Invalid UTF-8 in strings does not matter.
    ///
    /// - Parameter body: the response's body.
    /// - Throws: `JSONError` if the response is not one JSON value.
    /// - Complexity: O(n) in time, O(1) in memory.
    init(in body: Span<UInt8>) throws(JSONError) {
        self = .missing
        var scanner = JSONScanner(checksUTF8: false)
        var start = 0
        while start < body.count {
            let end = min(start + Self.pieceByteCount, body.count)
            try scanner.consume(body.extracting(start..<end))
            for index in 0..<scanner.entryCount { add(scanner.entry(index), in: body) }
            scanner.forgetEntries()
            start = end
        }
        try scanner.finish()
        if scanner.kind != .object { self = .missing }
    }

    private mutating func add(_ entry: JSONScanner.Entry, in body: Span<UInt8>) {
        if entry.name.isEmpty || entry.kind == .null { return }
        let name = body.extracting(entry.name)
        guard JSONValue.stringEquals(name, hasEscapes: entry.nameHasEscapes, ignoresCase: true, "code") else { return }
        if case .invalid = self { return }
        self = Self.integer(entry, in: body).map { .integer($0) } ?? .invalid(entry.value)
    }

    /// An integer of 64 bits, in digits alone: Go does not accept `100.0` as one.
    private static func integer(_ entry: JSONScanner.Entry, in body: Span<UInt8>) -> Int64? {
        guard entry.kind == .number, entry.value.count <= 20 else { return nil }
        let number = body.extracting(entry.value)
        for index in number.indices where !number[index].isDigit && number[index] != UInt8(ascii: "-") { return nil }
        return try? JSONValue.integer(number)
    }
}
