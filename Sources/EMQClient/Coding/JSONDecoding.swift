// Reads Swift values from JSON. Strict: no value is converted into another kind, and no name may be there twice.

import Bytes
import JSON

/// Reads `Decodable` values.
enum JSONDecoding {
    /// Reads a value from a document.
    static func decode<Value: Decodable>(
        _ type: Value.Type, from bytes: [UInt8], style: CodingStyle = .plain
    ) throws -> Value {
        let tape: JSONTape
        do throws(JSONError) { tape = try JSONTape(bytes) } catch {
            throw DecodingError.dataCorrupted(.init(codingPath: [], debugDescription: "this is not JSON: \(error)"))
        }
        return try NodeDecoder(tape, 0, CodingPlace(), style).decode(type)
    }
}

/// Reads one value.
struct NodeDecoder: Decoder, SingleValueDecodingContainer {
    /// The longest duration, in seconds.
    private static let maximumSeconds = 1e15

    let tape: JSONTape
    let node: Int
    let place: CodingPlace
    let style: CodingStyle

    init(_ tape: JSONTape, _ node: Int, _ place: CodingPlace, _ style: CodingStyle) {
        (self.tape, self.node, self.place, self.style) = (tape, node, place, style)
    }

    var codingPath: [any CodingKey] { place.path }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    private var kind: JSONKind { tape.nodes[node].kind }

    private func mismatch(_ type: Any.Type) -> DecodingError {
        let detail = "this is \(Self.article(kind)), not \(type)"
        let context = DecodingError.Context(codingPath: codingPath, debugDescription: detail)
        return kind == .null ? .valueNotFound(type, context) : .typeMismatch(type, context)
    }

    private static func article(_ kind: JSONKind) -> String {
        switch kind {
        case .object, .array: "an \(kind)"
        case .string, .number: "a \(kind)"
        case .true, .false, .null: "\(kind)"
        }
    }

    private func unfit(_ type: Any.Type, _ reason: String) -> DecodingError {
        .dataCorrupted(.init(codingPath: codingPath, debugDescription: "this number is not \(type): \(reason)"))
    }

    // MARK: Containers

    func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
        KeyedDecodingContainer(try ObjectDecoder(self))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer { try ArrayDecoder(self) }

    func singleValueContainer() -> any SingleValueDecodingContainer { self }

    func members() throws -> [String: Int] {
        guard kind == .object else { throw mismatch([String: Any].self) }
        var members: [String: Int] = [:]
        try tape.forEachMember(of: node) { name, value in
            guard let text = tape.text(name) else {
                throw DecodingError.dataCorrupted(
                    .init(codingPath: codingPath, debugDescription: "a name has half of a surrogate pair"))
            }
            if members.updateValue(value, forKey: text) != nil {
                throw DecodingError.dataCorrupted(
                    .init(codingPath: codingPath, debugDescription: "the name '\(text)' is there twice"))
            }
        }
        return members
    }

    func elements() throws -> [Int] {
        guard kind == .array else { throw mismatch([Any].self) }
        return tape.elements(of: node)
    }

    // MARK: Values

    func decodeNil() -> Bool { kind == .null }

    func decode(_ type: Bool.Type) throws -> Bool {
        guard kind == .true || kind == .false else { throw mismatch(type) }
        return kind == .true
    }

    func decode(_ type: String.Type) throws -> String {
        guard kind == .string else { throw mismatch(type) }
        guard let text = tape.text(node) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: codingPath, debugDescription: "this string has half of a surrogate pair"))
        }
        return text
    }

    func decode(_ type: Double.Type) throws -> Double { try floating(type) }
    func decode(_ type: Float.Type) throws -> Float { try floating(type) }
    func decode(_ type: Int.Type) throws -> Int { try integer(type) }
    func decode(_ type: Int8.Type) throws -> Int8 { try integer(type) }
    func decode(_ type: Int16.Type) throws -> Int16 { try integer(type) }
    func decode(_ type: Int32.Type) throws -> Int32 { try integer(type) }
    func decode(_ type: Int64.Type) throws -> Int64 { try integer(type) }
    func decode(_ type: Int128.Type) throws -> Int128 { try wide(type) }
    func decode(_ type: UInt.Type) throws -> UInt { try integer(type) }
    func decode(_ type: UInt8.Type) throws -> UInt8 { try integer(type) }
    func decode(_ type: UInt16.Type) throws -> UInt16 { try integer(type) }
    func decode(_ type: UInt32.Type) throws -> UInt32 { try integer(type) }
    func decode(_ type: UInt64.Type) throws -> UInt64 { try integer(type) }
    func decode(_ type: UInt128.Type) throws -> UInt128 { try wide(type) }

    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        if style == .interface, type == Duration.self {
            let seconds = try floating(Double.self)
            // A duration stops the program if it cannot hold the number.
            guard abs(seconds) <= Self.maximumSeconds else { throw unfit(type, "out of range") }
            // The cast cannot fail.
            if let duration = Duration.seconds(seconds) as? Value { return duration }
        }
        return try Value(from: NodeDecoder(tape, node, place, style.style(of: type)))
    }

    private func floating<Number: BinaryFloatingPoint & LosslessStringConvertible>(
        _ type: Number.Type
    ) throws -> Number {
        guard let text = tape.numeral(node) else { throw mismatch(type) }
        guard let number = Number(text), number.isFinite else { throw unfit(type, "out of range") }
        return number
    }

    private func integer<Number: FixedWidthInteger>(_ type: Number.Type) throws -> Number {
        guard kind == .number else { throw mismatch(type) }
        do throws(JSONNumberError) {
            let number =
                Number.isSigned ? Number(exactly: try tape.integer(node)) : Number(exactly: try tape.unsigned(node))
            if let number { return number }
        } catch {
            throw unfit(type, "\(error)")
        }
        throw unfit(type, "\(JSONNumberError.outOfRange)")
    }

    /// An integer of more than 64 bits, if it is written as one; otherwise it has to fit into 64.
    private func wide<Number: FixedWidthInteger>(_ type: Number.Type) throws -> Number {
        guard let text = tape.numeral(node) else { throw mismatch(type) }
        return try Number(text) ?? integer(type)
    }
}

/// Reads the members of an object.
private struct ObjectDecoder<Key: CodingKey>: KeyedDecodingContainerProtocol {
    private let decoder: NodeDecoder
    private let members: [String: Int]

    init(_ decoder: NodeDecoder) throws {
        self.decoder = decoder
        members = try decoder.members()
    }

    var codingPath: [any CodingKey] { decoder.codingPath }
    var allKeys: [Key] { members.keys.compactMap { Key(stringValue: $0) } }

    func contains(_ key: Key) -> Bool { members[decoder.style.name(key)] != nil }

    private func value(_ key: some CodingKey) throws -> NodeDecoder {
        guard let node = members[decoder.style.name(key)] else {
            throw DecodingError.keyNotFound(
                key,
                .init(codingPath: codingPath, debugDescription: "there is no member '\(decoder.style.name(key))'"))
        }
        return NodeDecoder(decoder.tape, node, CodingPlace(decoder.place, key), decoder.style.ofValues)
    }

    func decodeNil(forKey key: Key) throws -> Bool { try value(key).decodeNil() }
    func decode(_ type: Bool.Type, forKey key: Key) throws -> Bool { try value(key).decode(type) }
    func decode(_ type: String.Type, forKey key: Key) throws -> String { try value(key).decode(type) }
    func decode(_ type: Double.Type, forKey key: Key) throws -> Double { try value(key).decode(type) }
    func decode(_ type: Float.Type, forKey key: Key) throws -> Float { try value(key).decode(type) }
    func decode(_ type: Int.Type, forKey key: Key) throws -> Int { try value(key).decode(type) }
    func decode(_ type: Int8.Type, forKey key: Key) throws -> Int8 { try value(key).decode(type) }
    func decode(_ type: Int16.Type, forKey key: Key) throws -> Int16 { try value(key).decode(type) }
    func decode(_ type: Int32.Type, forKey key: Key) throws -> Int32 { try value(key).decode(type) }
    func decode(_ type: Int64.Type, forKey key: Key) throws -> Int64 { try value(key).decode(type) }
    func decode(_ type: Int128.Type, forKey key: Key) throws -> Int128 { try value(key).decode(type) }
    func decode(_ type: UInt.Type, forKey key: Key) throws -> UInt { try value(key).decode(type) }
    func decode(_ type: UInt8.Type, forKey key: Key) throws -> UInt8 { try value(key).decode(type) }
    func decode(_ type: UInt16.Type, forKey key: Key) throws -> UInt16 { try value(key).decode(type) }
    func decode(_ type: UInt32.Type, forKey key: Key) throws -> UInt32 { try value(key).decode(type) }
    func decode(_ type: UInt64.Type, forKey key: Key) throws -> UInt64 { try value(key).decode(type) }
    func decode(_ type: UInt128.Type, forKey key: Key) throws -> UInt128 { try value(key).decode(type) }
    func decode<Value: Decodable>(_ type: Value.Type, forKey key: Key) throws -> Value { try value(key).decode(type) }

    func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type, forKey key: Key
    ) throws -> KeyedDecodingContainer<Nested> { try value(key).container(keyedBy: type) }
    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
        try value(key).unkeyedContainer()
    }
    func superDecoder() throws -> any Decoder { try value(SuperKey()) }
    func superDecoder(forKey key: Key) throws -> any Decoder { try value(key) }
}

/// Reads the elements of an array.
private struct ArrayDecoder: UnkeyedDecodingContainer {
    private let decoder: NodeDecoder
    private let elements: [Int]
    private(set) var currentIndex = 0

    init(_ decoder: NodeDecoder) throws {
        self.decoder = decoder
        elements = try decoder.elements()
    }

    var codingPath: [any CodingKey] { decoder.codingPath }
    var count: Int? { elements.count }
    var isAtEnd: Bool { currentIndex == elements.count }

    private func value(_ type: Any.Type) throws -> NodeDecoder {
        let place = CodingPlace(decoder.place, IndexKey(currentIndex))
        guard !isAtEnd else {
            throw DecodingError.valueNotFound(
                type, .init(codingPath: place.path, debugDescription: "the array has \(elements.count) elements only"))
        }
        return NodeDecoder(decoder.tape, elements[currentIndex], place, decoder.style.ofValues)
    }

    private mutating func next<Value>(_ type: Value.Type, _ read: (NodeDecoder) throws -> Value) throws -> Value {
        let value = try read(value(type))
        currentIndex += 1
        return value
    }

    mutating func decodeNil() throws -> Bool {
        let isNil = try value(Any?.self).decodeNil()
        if isNil { currentIndex += 1 }
        return isNil
    }

    mutating func decode(_ type: Bool.Type) throws -> Bool { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: String.Type) throws -> String { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: Double.Type) throws -> Double { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: Float.Type) throws -> Float { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: Int.Type) throws -> Int { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: Int8.Type) throws -> Int8 { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: Int16.Type) throws -> Int16 { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: Int32.Type) throws -> Int32 { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: Int64.Type) throws -> Int64 { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: Int128.Type) throws -> Int128 { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: UInt.Type) throws -> UInt { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: UInt8.Type) throws -> UInt8 { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: UInt16.Type) throws -> UInt16 { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: UInt32.Type) throws -> UInt32 { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: UInt64.Type) throws -> UInt64 { try next(type) { try $0.decode(type) } }
    mutating func decode(_ type: UInt128.Type) throws -> UInt128 { try next(type) { try $0.decode(type) } }
    mutating func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
        try next(type) { try $0.decode(type) }
    }

    mutating func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type
    ) throws -> KeyedDecodingContainer<Nested> { try nested().container(keyedBy: type) }
    mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer { try nested().unkeyedContainer() }
    mutating func superDecoder() throws -> any Decoder { try nested() }

    private mutating func nested() throws -> NodeDecoder {
        let value = try value((any Decoder).self)
        currentIndex += 1
        return value
    }
}
