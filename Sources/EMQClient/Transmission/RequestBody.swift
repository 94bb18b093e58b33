// The JSON of requests.

import Bytes
import JSON

/// An object that is written member by member.
struct RequestBody {
    private(set) var bytes: [UInt8] = [UInt8(ascii: "{")]

    private mutating func begin(_ name: StaticString) {
        if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
        bytes.append(UInt8(ascii: "\""))
        name.withUTF8Buffer { unsafe bytes.append(contentsOf: $0) }
        bytes.append(UInt8(ascii: "\""))
        bytes.append(UInt8(ascii: ":"))
    }

    /// Adds a member with a value that is JSON; nothing for nil.
    mutating func add(_ name: StaticString, json: [UInt8]?) {
        guard let json else { return }
        begin(name)
        bytes += json
    }

    mutating func add(_ name: StaticString, _ text: String?) {
        guard let text else { return }
        begin(name)
        Self.append(text, to: &bytes)
    }

    mutating func add(_ name: StaticString, _ texts: [String]) {
        begin(name)
        bytes.append(UInt8(ascii: "["))
        for (index, text) in texts.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            Self.append(text, to: &bytes)
        }
        bytes.append(UInt8(ascii: "]"))
    }

    mutating func add(_ name: StaticString, _ number: Int?) {
        guard let number else { return }
        begin(name)
        JSONWriter.writeInteger(number, to: &bytes)
    }

    /// Adds a duration in seconds.
    mutating func add(_ name: StaticString, _ duration: Duration?) {
        guard let duration else { return }
        begin(name)
        Self.append(duration, to: &bytes)
    }

    /// Adds `true`; nothing for false.
    mutating func add(_ name: StaticString, _ flag: Bool) {
        if flag { add(name, json: Array("true".utf8)) }
    }

    /// Adds a duration, or `null` for never.
    mutating func add(_ name: StaticString, _ limit: Limit<Duration>?) {
        switch limit {
        case nil: break
        case .unlimited?: add(name, json: Array("null".utf8))
        case .value(let duration)?: add(name, duration)
        }
    }

    /// Adds a number, or `null` for no limit.
    mutating func add(_ name: StaticString, _ limit: Limit<Int>?) {
        switch limit {
        case nil: break
        case .unlimited?: add(name, json: Array("null".utf8))
        case .value(let number)?: add(name, number)
        }
    }

    /// Adds a value as the server's interface has it. What has no JSON, such as a fraction that is no number, is
    /// `null`, which the server refuses or ignores.
    mutating func add(_ name: StaticString, interface value: (some Encodable)?) {
        guard let value else { return }
        add(name, json: (try? JSONEncoding.encode(value, style: .interface)) ?? Array("null".utf8))
    }

    /// The object.
    consuming func finished() -> [UInt8] {
        bytes.append(UInt8(ascii: "}"))
        return bytes
    }

    static func append(_ text: String, to bytes: inout [UInt8]) {
        var text = text
        text.makeContiguousUTF8()
        JSONWriter.writeString(text.utf8Span.span, to: &bytes)
    }

    static func append(_ duration: Duration, to bytes: inout [UInt8]) {
        let isNegative = duration < .zero
        let magnitude = isNegative ? Duration.zero - max(duration, .zero - .longest) : duration
        let milliseconds = isNegative ? -magnitude.milliseconds : magnitude.milliseconds
        JSONWriter.writeSeconds(milliseconds: milliseconds, to: &bytes)
    }

    /// An object of ids, and other members.
    static func ids(_ ids: [String], _ others: [(StaticString, String)] = []) -> [UInt8] {
        var body = RequestBody()
        body.add("ids", ids)
        for (name, json) in others { body.add(name, json: Array(json.utf8)) }
        return body.finished()
    }
}
