// A JSON document as a list of its values, so that decoding looks at each byte once however deep it is nested.

import Bytes
import JSON

/// A document that has been checked, and where its values are.
final class JSONTape: Sendable {
    /// A value, or the name of a member, which stands before its value.
    struct Node: Sendable {
        let kind: JSONKind
        /// Its bytes.
        var range: Range<Int>
        /// The index of the node behind it and everything in it.
        var next: Int
    }

    let bytes: [UInt8]
    /// The values in the order in which they are written; the first is the document.
    let nodes: [Node]

    /// Reads a document. O(length).
    ///
    /// - Throws: `JSONError` if the bytes are not one JSON document, or if it is nested deeper than answers of a server
    ///   are.
    init(_ bytes: [UInt8]) throws(JSONError) {
        var scanner = JSONScanner(maximumEntries: .max, maximumDepth: JSONScanner.maximumAnswerDepth)
        try scanner.consume(bytes.span)
        try scanner.finish()
        self.bytes = bytes
        nodes = Self.nodes(of: bytes.span)
    }

    /// The values of a valid document.
    private static func nodes(of bytes: Span<UInt8>) -> [Node] {
        var nodes: [Node] = []
        nodes.reserveCapacity(16)
        var open: [Int] = []
        var index = 0
        func add(_ kind: JSONKind, _ end: Int) {
            nodes.append(Node(kind: kind, range: index..<end, next: nodes.count + 1))
            index = end
        }
        while index < bytes.count {
            switch bytes[index] {
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                open.append(nodes.count)
                add(bytes[index] == UInt8(ascii: "{") ? .object : .array, index + 1)
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                index += 1
                guard let container = open.popLast() else { break }
                nodes[container].range = nodes[container].range.lowerBound..<index
                nodes[container].next = nodes.count
            case UInt8(ascii: "\""): add(.string, endOfString(bytes, index))
            case UInt8(ascii: "t"): add(.true, index + 4)
            case UInt8(ascii: "f"): add(.false, index + 5)
            case UInt8(ascii: "n"): add(.null, index + 4)
            case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): add(.number, endOfNumber(bytes, index))
            default: index += 1
            }
        }
        return nodes
    }

    private static func endOfString(_ bytes: Span<UInt8>, _ start: Int) -> Int {
        var index = start + 1
        while index < bytes.count, bytes[index] != UInt8(ascii: "\"") {
            index += bytes[index] == UInt8(ascii: "\\") ? 2 : 1
        }
        return min(index + 1, bytes.count)
    }

    private static func endOfNumber(_ bytes: Span<UInt8>, _ start: Int) -> Int {
        var index = start + 1
        while index < bytes.count {
            switch bytes[index] {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"),
                UInt8(ascii: "+"), UInt8(ascii: "-"):
                index += 1
            default: return index
            }
        }
        return index
    }

    // MARK: Reading

    /// The nodes of an array's elements.
    func elements(of node: Int) -> [Int] {
        var elements: [Int] = []
        var index = node + 1
        while index < nodes[node].next {
            elements.append(index)
            index = nodes[index].next
        }
        return elements
    }

    /// Calls `body` with the nodes of the name and of the value of each member of an object. Other values have none.
    func forEachMember(of node: Int, _ body: (_ name: Int, _ value: Int) throws -> Void) rethrows {
        guard nodes[node].kind == .object else { return }
        var index = node + 1
        while index < nodes[node].next {
            try body(index, index + 1)
            index = nodes[index + 1].next
        }
    }

    /// Whether the node is a name, as it is written, between quotes.
    func isName(_ node: Int, _ name: StaticString) -> Bool {
        let all = bytes
        return all.span.extracting(inner(node)).equals(name)
    }

    /// What a string has between its quotes.
    private func inner(_ node: Int) -> Range<Int> {
        let range = nodes[node].range
        return range.lowerBound + 1..<range.upperBound - 1
    }

    /// The text of a string; nil for other values, and for a lone surrogate.
    func text(_ node: Int) -> String? {
        guard nodes[node].kind == .string else { return nil }
        let all = bytes
        let text = all.span.extracting(inner(node))
        if text.index(of: UInt8(ascii: "\\")) == nil { return String(decoding: text) }
        var decoded: [UInt8] = []
        guard JSONValue.decodeString(all.span.extracting(nodes[node].range), into: &decoded) else { return nil }
        return String(decoding: decoded, as: UTF8.self)
    }

    /// The text of a number; nil for other values.
    func numeral(_ node: Int) -> String? {
        nodes[node].kind == .number ? String(decoding: bytes[nodes[node].range], as: UTF8.self) : nil
    }

    /// The value as it is written.
    func source(_ node: Int) -> [UInt8] { Array(bytes[nodes[node].range]) }

    /// A whole number.
    func integer(_ node: Int) throws(JSONNumberError) -> Int64 {
        let all = bytes
        return try JSONValue.integer(all.span.extracting(nodes[node].range))
    }

    /// A whole number that is not negative.
    func unsigned(_ node: Int) throws(JSONNumberError) -> UInt64 {
        let all = bytes
        return try JSONValue.unsigned(all.span.extracting(nodes[node].range))
    }

    /// A number of seconds, in milliseconds.
    func milliseconds(_ node: Int) throws(JSONNumberError) -> Int64 {
        let all = bytes
        return try JSONValue.milliseconds(all.span.extracting(nodes[node].range))
    }
}
