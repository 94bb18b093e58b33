// JSON as bytes, for programs that do not want it decoded.

import JSON

/// A JSON value as it is written: large numbers, the order of names, escapes and white space stay as they are.
///
/// Use it as the content of a task, or as a part of a content's type, where you do not want Swift values.
public struct RawJSON: Sendable, Hashable, Codable, CustomStringConvertible {
    /// The value in UTF-8.
    public let bytes: [UInt8]

    /// Checks a value.
    ///
    /// - Parameter bytes: One JSON value in UTF-8 (RFC 8259), nested at most 512 levels deep.
    /// - Throws: ``EMQError`` if it is none. The error names the byte.
    public init(_ bytes: [UInt8]) throws(EMQError) {
        var scanner = JSONScanner(maximumEntries: .max)
        do throws(JSONError) {
            try scanner.consume(bytes.span)
            try scanner.finish()
        } catch {
            throw EMQError(.invalidArgument, "this is not JSON: \(error)")
        }
        self.bytes = bytes
    }

    /// Checks a value in a string.
    ///
    /// - Throws: ``EMQError`` if it is none.
    public init(_ text: String) throws(EMQError) { try self.init(Array(text.utf8)) }

    init(checked bytes: [UInt8]) { self.bytes = bytes }

    /// `null`
    public static let null = RawJSON(checked: Array("null".utf8))

    /// The value as it is written.
    public var description: String { String(decoding: bytes, as: UTF8.self) }

    /// Reads the value as a Swift value.
    ///
    /// - Parameter type: The type of the value.
    /// - Returns: The value.
    /// - Throws: `DecodingError`, with the coding path.
    public func decode<Value: Decodable>(_ type: Value.Type = Value.self) throws -> Value {
        try JSONDecoding.decode(type, from: bytes)
    }

    /// Writes a Swift value as JSON.
    ///
    /// - Throws: `EncodingError`, with the coding path: for numbers that JSON does not have, such as infinity, and for
    ///   values that are nested deeper than 512 levels.
    public init(encoding value: some Encodable) throws { bytes = try JSONEncoding.encode(value) }

    /// Takes over a value of a task's content, progress, result or log. Other decoders cannot do that.
    public init(from decoder: any Decoder) throws {
        guard let decoder = decoder as? NodeDecoder else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "RawJSON can be read by EMQClient only"))
        }
        bytes = decoder.tape.source(decoder.node)
    }

    /// Writes the value into a content or a result. Other encoders cannot do that.
    public func encode(to encoder: any Encoder) throws {
        guard let encoder = encoder as? NodeEncoder else {
            throw EncodingError.invalidValue(
                self,
                .init(codingPath: encoder.codingPath, debugDescription: "RawJSON can be written by EMQClient only"))
        }
        encoder.target.set(bytes)
    }
}
