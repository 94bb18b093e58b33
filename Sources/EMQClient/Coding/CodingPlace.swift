// Where in a value an encoder or a decoder is, and how names are written.

/// A place in a value. The path is made only when an error needs it.
final class CodingPlace {
    private let parent: CodingPlace?
    private let key: (any CodingKey)?
    /// How many containers are around it.
    let depth: Int

    init(_ parent: CodingPlace? = nil, _ key: (any CodingKey)? = nil) {
        (self.parent, self.key) = (parent, key)
        depth = parent.map { $0.depth + 1 } ?? 0
    }

    var path: [any CodingKey] {
        var path: [any CodingKey] = []
        var place: CodingPlace? = self
        while let here = place {
            if let key = here.key { path.append(key) }
            place = here.parent
        }
        return path.reversed()
    }
}

/// The position of an element.
struct IndexKey: CodingKey {
    let intValue: Int?
    var stringValue: String { intValue.map { "Index \($0)" } ?? "super" }

    init(_ index: Int) { intValue = index }
    init?(intValue: Int) { self.intValue = intValue }
    init?(stringValue: String) { nil }
}

/// The key of a superclass's values.
struct SuperKey: CodingKey {
    var intValue: Int? { nil }
    var stringValue: String { "super" }

    init() {}
    init?(intValue: Int) { nil }
    init?(stringValue: String) { nil }
}

/// A type whose names in JSON are data.
private protocol NamedByData {}

extension Dictionary: NamedByData {}

/// How Swift values and JSON correspond.
enum CodingStyle {
    /// As the types say: for contents and results.
    case plain
    /// As the server's interface has it: names such as `max_retries` for `maxRetries`, and durations in seconds.
    case interface
    /// The same for a dictionary: its names are data, such as those of queues and of header fields.
    case interfaceNames

    /// The style of the values in a container.
    var ofValues: CodingStyle { self == .interfaceNames ? .interface : self }

    /// The style of a value of this type.
    func style(of type: Any.Type) -> CodingStyle {
        self == .interface && type is any NamedByData.Type ? .interfaceNames : self
    }

    /// A name as JSON has it.
    func name(_ key: any CodingKey) -> String {
        let name = key.stringValue
        guard self == .interface, name.utf8.contains(where: { 0x41...0x5A ~= $0 }) else { return name }
        var bytes: [UInt8] = []
        var isCapital = false
        for byte in name.utf8 {
            if 0x41...0x5A ~= byte {
                // `requestID` is `request_id`.
                if !isCapital { bytes.append(UInt8(ascii: "_")) }
                bytes.append(byte | 0x20)
                isCapital = true
            } else {
                bytes.append(byte)
                isCapital = false
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
