// Writes Swift values as JSON.

import Bytes
import JSON

/// Writes `Encodable` values.
enum JSONEncoding {
    /// Writes a value as a document.
    static func encode(_ value: some Encodable, style: CodingStyle = .plain) throws -> [UInt8] {
        // What most contents are needs no tree.
        switch value {
        case let text as String:
            var bytes: [UInt8] = []
            RequestBody.append(text, to: &bytes)
            return bytes
        case let raw as RawJSON: return raw.bytes
        default: break
        }
        let root = EncodedValue()
        try NodeEncoder(root, CodingPlace(), style).encode(value)
        var bytes: [UInt8] = []
        try root.write(to: &bytes, CodingPlace())
        return bytes
    }
}

/// A value that is being written. Containers may be filled in any order.
final class EncodedValue {
    private enum Form {
        case nothing
        case written([UInt8])
        case object([(name: String, value: EncodedValue)])
        case array([EncodedValue])
    }

    private var form = Form.nothing
    /// The places of an object's members.
    private var places: [String: Int] = [:]

    /// Gives it a value that is JSON.
    func set(_ json: [UInt8]) { form = .written(json) }

    func makeObject() {
        if case .object = form { return }
        form = .object([])
    }

    func makeArray() {
        if case .array = form { return }
        form = .array([])
    }

    /// A member, in the place of an earlier one with this name.
    func member(_ name: String) -> EncodedValue {
        guard case .object(var members) = form else { return EncodedValue() }
        form = .nothing
        defer { form = .object(members) }
        let value = EncodedValue()
        if let place = places[name] {
            members[place].value = value
        } else {
            places[name] = members.count
            members.append((name, value))
        }
        return value
    }

    /// The next element.
    func element() -> EncodedValue {
        guard case .array(var elements) = form else { return EncodedValue() }
        form = .nothing
        defer { form = .array(elements) }
        let value = EncodedValue()
        elements.append(value)
        return value
    }

    var count: Int { if case .array(let elements) = form { elements.count } else { 0 } }

    /// Writes it, and everything in it. A value that encodes nothing is an empty object.
    func write(to bytes: inout [UInt8], _ place: CodingPlace) throws {
        switch form {
        case .nothing: bytes += "{}".utf8
        case .written(let json): bytes += json
        case .object(let members):
            try NodeEncoder.check(place, self, isContainer: true)
            bytes.append(UInt8(ascii: "{"))
            for (index, member) in members.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                RequestBody.append(member.name, to: &bytes)
                bytes.append(UInt8(ascii: ":"))
                try member.value.write(to: &bytes, CodingPlace(place, nil))
            }
            bytes.append(UInt8(ascii: "}"))
        case .array(let elements):
            try NodeEncoder.check(place, self, isContainer: true)
            bytes.append(UInt8(ascii: "["))
            for (index, element) in elements.enumerated() {
                if index > 0 { bytes.append(UInt8(ascii: ",")) }
                try element.write(to: &bytes, CodingPlace(place, nil))
            }
            bytes.append(UInt8(ascii: "]"))
        }
    }
}

/// Writes one value.
struct NodeEncoder: Encoder, SingleValueEncodingContainer {
    let target: EncodedValue
    let place: CodingPlace
    let style: CodingStyle

    init(_ target: EncodedValue, _ place: CodingPlace, _ style: CodingStyle) {
        (self.target, self.place, self.style) = (target, place, style)
    }

    var codingPath: [any CodingKey] { place.path }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    /// Stops a value that contains itself before the stack ends.
    static func check(_ place: CodingPlace, _ value: Any, isContainer: Bool = false) throws {
        guard place.depth + (isContainer ? 1 : 0) > JSONScanner.maximumDepth else { return }
        throw EncodingError.invalidValue(
            value,
            .init(
                codingPath: place.path,
                debugDescription: "it is nested deeper than the \(JSONScanner.maximumDepth) levels that emq takes"))
    }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
        target.makeObject()
        return KeyedEncodingContainer(ObjectEncoder(encoder: self))
    }

    func unkeyedContainer() -> any UnkeyedEncodingContainer {
        target.makeArray()
        return ArrayEncoder(encoder: self)
    }

    func singleValueContainer() -> any SingleValueEncodingContainer { self }

    func encodeNil() { target.set(Array("null".utf8)) }
    func encode(_ value: Bool) { target.set(Array((value ? "true" : "false").utf8)) }

    func encode(_ value: String) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(value.utf8.count + 2)
        RequestBody.append(value, to: &bytes)
        target.set(bytes)
    }

    func encode(_ value: Double) throws { try encode(floating: value) }
    func encode(_ value: Float) throws { try encode(floating: value) }
    func encode(_ value: Int) { encode(integer: value) }
    func encode(_ value: Int8) { encode(integer: value) }
    func encode(_ value: Int16) { encode(integer: value) }
    func encode(_ value: Int32) { encode(integer: value) }
    func encode(_ value: Int64) { encode(integer: value) }
    func encode(_ value: Int128) { encode(integer: value) }
    func encode(_ value: UInt) { encode(integer: value) }
    func encode(_ value: UInt8) { encode(integer: value) }
    func encode(_ value: UInt16) { encode(integer: value) }
    func encode(_ value: UInt32) { encode(integer: value) }
    func encode(_ value: UInt64) { encode(integer: value) }
    func encode(_ value: UInt128) { encode(integer: value) }

    func encode<Value: Encodable>(_ value: Value) throws {
        try Self.check(place, value)
        if style == .interface, let duration = value as? Duration {
            var bytes: [UInt8] = []
            RequestBody.append(duration, to: &bytes)
            return target.set(bytes)
        }
        try value.encode(to: NodeEncoder(target, place, style.style(of: Value.self)))
    }

    private func encode(integer: some BinaryInteger) { target.set(Array(String(integer).utf8)) }

    private func encode<Number: BinaryFloatingPoint & CustomStringConvertible>(floating number: Number) throws {
        guard number.isFinite else {
            throw EncodingError.invalidValue(
                number, .init(codingPath: codingPath, debugDescription: "JSON has no number '\(number)'"))
        }
        target.set(Array(number.description.utf8))
    }
}

/// Writes the members of an object.
private struct ObjectEncoder<Key: CodingKey>: KeyedEncodingContainerProtocol {
    let encoder: NodeEncoder

    var codingPath: [any CodingKey] { encoder.codingPath }

    private func value(_ key: some CodingKey) -> NodeEncoder {
        NodeEncoder(
            encoder.target.member(encoder.style.name(key)), CodingPlace(encoder.place, key), encoder.style.ofValues)
    }

    mutating func encodeNil(forKey key: Key) { value(key).encodeNil() }
    mutating func encode(_ value: Bool, forKey key: Key) { self.value(key).encode(value) }
    mutating func encode(_ value: String, forKey key: Key) { self.value(key).encode(value) }
    mutating func encode(_ value: Double, forKey key: Key) throws { try self.value(key).encode(value) }
    mutating func encode(_ value: Float, forKey key: Key) throws { try self.value(key).encode(value) }
    mutating func encode(_ value: Int, forKey key: Key) { self.value(key).encode(value) }
    mutating func encode(_ value: Int8, forKey key: Key) { self.value(key).encode(value) }
    mutating func encode(_ value: Int16, forKey key: Key) { self.value(key).encode(value) }
    mutating func encode(_ value: Int32, forKey key: Key) { self.value(key).encode(value) }
    mutating func encode(_ value: Int64, forKey key: Key) { self.value(key).encode(value) }
    mutating func encode(_ value: Int128, forKey key: Key) { self.value(key).encode(value) }
    mutating func encode(_ value: UInt, forKey key: Key) { self.value(key).encode(value) }
    mutating func encode(_ value: UInt8, forKey key: Key) { self.value(key).encode(value) }
    mutating func encode(_ value: UInt16, forKey key: Key) { self.value(key).encode(value) }
    mutating func encode(_ value: UInt32, forKey key: Key) { self.value(key).encode(value) }
    mutating func encode(_ value: UInt64, forKey key: Key) { self.value(key).encode(value) }
    mutating func encode(_ value: UInt128, forKey key: Key) { self.value(key).encode(value) }
    mutating func encode<Value: Encodable>(_ value: Value, forKey key: Key) throws {
        try self.value(key).encode(value)
    }

    mutating func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type, forKey key: Key
    ) -> KeyedEncodingContainer<Nested> { value(key).container(keyedBy: type) }
    mutating func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
        value(key).unkeyedContainer()
    }
    mutating func superEncoder() -> any Encoder { value(SuperKey()) }
    mutating func superEncoder(forKey key: Key) -> any Encoder { value(key) }
}

/// Writes the elements of an array.
private struct ArrayEncoder: UnkeyedEncodingContainer {
    let encoder: NodeEncoder

    var codingPath: [any CodingKey] { encoder.codingPath }
    var count: Int { encoder.target.count }

    private func next() -> NodeEncoder {
        let place = CodingPlace(encoder.place, IndexKey(count))
        return NodeEncoder(encoder.target.element(), place, encoder.style.ofValues)
    }

    mutating func encodeNil() { next().encodeNil() }
    mutating func encode(_ value: Bool) { next().encode(value) }
    mutating func encode(_ value: String) { next().encode(value) }
    mutating func encode(_ value: Double) throws { try next().encode(value) }
    mutating func encode(_ value: Float) throws { try next().encode(value) }
    mutating func encode(_ value: Int) { next().encode(value) }
    mutating func encode(_ value: Int8) { next().encode(value) }
    mutating func encode(_ value: Int16) { next().encode(value) }
    mutating func encode(_ value: Int32) { next().encode(value) }
    mutating func encode(_ value: Int64) { next().encode(value) }
    mutating func encode(_ value: Int128) { next().encode(value) }
    mutating func encode(_ value: UInt) { next().encode(value) }
    mutating func encode(_ value: UInt8) { next().encode(value) }
    mutating func encode(_ value: UInt16) { next().encode(value) }
    mutating func encode(_ value: UInt32) { next().encode(value) }
    mutating func encode(_ value: UInt64) { next().encode(value) }
    mutating func encode(_ value: UInt128) { next().encode(value) }
    mutating func encode<Value: Encodable>(_ value: Value) throws { try next().encode(value) }

    mutating func nestedContainer<Nested: CodingKey>(
        keyedBy type: Nested.Type
    ) -> KeyedEncodingContainer<Nested> { next().container(keyedBy: type) }
    mutating func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer { next().unkeyedContainer() }
    mutating func superEncoder() -> any Encoder { next() }
}
