// A schema of JSON (draft 2020-12), as the OpenAPI document has it.

import JSON
import Queues

/// A schema of a JSON value. It is immutable text, made once.
struct Schema: Sendable {
    /// The members of the schema, each with its value as JSON.
    private var members: [(name: String, json: String)]

    private init(_ members: [(name: String, json: String)]) { self.members = members }

    /// The schema as JSON. O(size).
    var json: String { Schema.object(members) }

    /// A text as JSON.
    static func quoted(_ text: String) -> String { JSONWriter.text(of: text) }

    /// An object as JSON, of members whose values are JSON.
    static func object(_ members: [(name: String, json: String)]) -> String {
        "{" + members.map { "\(quoted($0.name)):\($0.json)" }.joined(separator: ",") + "}"
    }

    /// An array as JSON, of values that are JSON.
    static func array(_ values: [String]) -> String { "[" + values.joined(separator: ",") + "]" }

    private static func type(_ name: String, _ more: [(name: String, json: String)] = []) -> Schema {
        Schema([("type", quoted(name))] + more)
    }

    // MARK: Values

    /// Any JSON.
    static let any = Schema([])
    static let null = type("null")
    static let boolean = type("boolean")
    /// A number that is not negative.
    static let count = type("integer", [("minimum", "0")])
    /// A number.
    static let number = type("number")

    /// A number from a minimum.
    static func number(minimum: Int) -> Schema { type("number", [("minimum", "\(minimum)")]) }

    /// A whole number. A range that ends with the 64 bits has no such bound in the schema.
    static func integer(_ range: ClosedRange<Int64>) -> Schema {
        var bounds: [(name: String, json: String)] = []
        if range.lowerBound > .min { bounds.append(("minimum", "\(range.lowerBound)")) }
        if range.upperBound < .max { bounds.append(("maximum", "\(range.upperBound)")) }
        if bounds.count < 2 { bounds.append(("format", quoted("int64"))) }
        return type("integer", bounds)
    }

    /// A number of seconds up to a number of milliseconds.
    static func seconds(isZeroAllowed: Bool = true, maximumMilliseconds: Int64) -> Schema {
        type(
            "number",
            [("minimum", isZeroAllowed ? "0" : "0.001"), ("maximum", "\(maximumMilliseconds / 1000)")])
    }

    /// A fraction from 0 to 1.
    static let fraction = type("number", [("minimum", "0"), ("maximum", "1")])

    /// A text. Its maximum counts bytes of UTF-8, of which a character has at least one.
    static func text(mayBeEmpty: Bool = false, maximumBytes: Int? = nil, pattern: String? = nil) -> Schema {
        var more: [(name: String, json: String)] = []
        if !mayBeEmpty { more.append(("minLength", "1")) }
        if let maximumBytes { more.append(("maxLength", "\(maximumBytes)")) }
        if let pattern { more.append(("pattern", quoted(pattern))) }
        return type("string", more)
    }

    /// One of a few words.
    static func words(_ words: [String]) -> Schema {
        Schema([("type", quoted("string")), ("enum", array(words.map(quoted)))])
    }

    /// One value.
    static func constant(_ json: String) -> Schema { Schema([("const", json)]) }

    static func array(of element: Schema, _ count: ClosedRange<Int>? = nil) -> Schema {
        var more = [("items", element.json)]
        if let count {
            if count.lowerBound > 0 { more.append(("minItems", "\(count.lowerBound)")) }
            if count.upperBound < .max { more.append(("maxItems", "\(count.upperBound)")) }
        }
        return type("array", more)
    }

    /// An object whose members have names that clients choose.
    static func map(of value: Schema, names: Schema? = nil, maximumCount: Int? = nil) -> Schema {
        var more = [("additionalProperties", value.json)]
        if let names { more.append(("propertyNames", names.json)) }
        if let maximumCount { more.append(("maxProperties", "\(maximumCount)")) }
        return type("object", more)
    }

    /// An object of a request. It has no other members. A member that is not required may be `null`.
    static func request(_ properties: [(name: String, schema: Schema)], required: [String] = []) -> Schema {
        let properties = properties.map { ($0.name, required.contains($0.name) ? $0.schema : $0.schema.orNull) }
        return members(properties, required, [("additionalProperties", "false")])
    }

    /// An object of an answer. Later versions may add members.
    static func answer(
        _ properties: [(name: String, schema: Schema)], optional: [(name: String, schema: Schema)] = []
    ) -> Schema {
        members((properties + optional).map { ($0.name, $0.schema) }, properties.map(\.name), [])
    }

    private static func members(
        _ properties: [(String, Schema)], _ required: [String], _ more: [(name: String, json: String)]
    ) -> Schema {
        var members = [("properties", object(properties.map { ($0.0, $0.1.json) }))]
        if !required.isEmpty { members.append(("required", array(required.map(quoted)))) }
        return type("object", members + more)
    }

    // MARK: Combinations

    /// A schema of the document's components.
    static func reference(_ name: String) -> Schema { Schema([("$ref", quoted("#/components/schemas/\(name)"))]) }

    static func anyOf(_ schemas: Schema...) -> Schema { Schema([("anyOf", array(schemas.map(\.json)))]) }

    /// The schema, or `null`.
    var orNull: Schema {
        if members.allSatisfy({ $0.name == "description" }) { return self }
        guard let place = members.firstIndex(where: { $0.name == "type" }) else {
            return Schema.anyOf(self, .null)
        }
        if members[place].json.hasPrefix("[") || members[place].json == "\"null\"" { return self }
        var other = self
        other.members[place].json = "[\(members[place].json),\"null\"]"
        if let words = members.firstIndex(where: { $0.name == "enum" }) {
            other.members[words].json = "\(members[words].json.dropLast()),null]"
        }
        return other
    }

    /// The schema with a description for people.
    func described(_ text: String) -> Schema { Schema(members + [("description", Schema.quoted(text))]) }

    // MARK: Values of this interface

    /// What begins with a letter of either case matches a pattern only so.
    private static func schemePattern(_ scheme: String) -> String {
        "^" + scheme.map { "[\($0)\($0.uppercased())]" }.joined()
    }

    static let queueName = reference("QueueName")
    static let taskID = reference("TaskID")
    static let taskReference = reference("TaskReference")
    static let time = reference("Time")
    /// An http or https URL.
    static let httpURL = text(maximumBytes: 8000, pattern: schemePattern("http") + "[sS]?://")

    /// A URL of RabbitMQ.
    static func amqpURL(maximumBytes: Int) -> Schema {
        text(maximumBytes: maximumBytes, pattern: schemePattern("amqp") + "[sS]?://")
    }
}
