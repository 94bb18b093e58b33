// A part of a JSON document, for programs that look up a few values in it.

import Bytes
import JSON

/// A value of a JSON document. Each look-up scans the value again: O(its length).
struct JSONPart {
    let kind: JSONKind
    private let bytes: ArraySlice<UInt8>

    /// Nil if the bytes are not one JSON document. An answer of a server may be nested deeper than a request.
    init?(_ document: ArraySlice<UInt8>, isAnswer: Bool = false) {
        var scanner = JSONScanner(
            maximumEntries: Self.maximumMembers,
            maximumDepth: isAnswer ? JSONScanner.maximumAnswerDepth : JSONScanner.maximumDepth)
        do throws(JSONError) {
            try scanner.consume(document.span)
            try scanner.finish()
        } catch {
            return nil
        }
        kind = scanner.kind
        bytes = document
    }

    private init(_ kind: JSONKind, _ bytes: ArraySlice<UInt8>) { (self.kind, self.bytes) = (kind, bytes) }

    /// More than a server can have queues.
    private static let maximumMembers = 1_000_000

    /// The members of an object, or the elements of an array, which have empty names; none for other values.
    var members: [(name: String, value: JSONPart)] {
        guard kind == .object || kind == .array else { return [] }
        var scanner = JSONScanner(
            maximumEntries: Self.maximumMembers, maximumDepth: JSONScanner.maximumAnswerDepth)
        guard (try? scanner.consume(bytes.span)) != nil else { return [] }
        return (0..<scanner.entryCount).map { index in
            let entry = scanner.entry(index)
            func part(_ range: Range<Int>) -> ArraySlice<UInt8> {
                bytes[bytes.startIndex + range.lowerBound..<bytes.startIndex + range.upperBound]
            }
            // A name's quotes are next to its range.
            let name = kind == .object ? entry.name.lowerBound - 1..<entry.name.upperBound + 1 : 0..<0
            return (Self.decoded(part(name)), JSONPart(entry.kind, part(entry.value)))
        }
    }

    /// A member of an object; nil if there is none, or if it is null.
    subscript(name: String) -> JSONPart? {
        members.first { $0.name == name }.flatMap { $0.value.kind == .null ? nil : $0.value }
    }

    /// The value of a number; nil for other values, and for one that is too large for a `Double`.
    var number: Double? {
        guard kind == .number, let number = Double(String(decoding: bytes, as: UTF8.self)), number.isFinite else {
            return nil
        }
        return number
    }

    /// The value as it is written.
    var source: String { String(decoding: bytes, as: UTF8.self) }

    /// Whether it is `true`.
    var isTrue: Bool { bytes.elementsEqual("true".utf8) }

    /// The value of a string; nil for other values.
    var text: String? { kind == .string ? Self.decoded(bytes) : nil }

    /// A string, from its form with quotes.
    private static func decoded(_ text: ArraySlice<UInt8>) -> String {
        var decoded: [UInt8] = []
        _ = JSONValue.decodeString(text.span, into: &decoded)
        return String(decoding: decoded, as: UTF8.self)
    }
}
