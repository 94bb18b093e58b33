// The server's own description of its interface (`/openapi.json`), and the check that answers agree with it. Clients in
// these tests check every answer of emq's own interface.

import Foundation
import Testing

@testable import emq

/// The OpenAPI document, and as much of JSON Schema as it uses.
final class Contract: @unchecked Sendable {
    static let shared = Contract()

    typealias Object = [String: Any]

    /// It never changes.
    let document: Object
    /// The paths with their patterns, the most specific ones first.
    private let paths: [(path: String, pattern: NSRegularExpression)]

    private init() {
        let json = try? JSONSerialization.jsonObject(with: Data(OpenAPI.document))
        document = json as? Object ?? [:]
        let all = (document["paths"] as? Object ?? [:]).keys
        let isSpecific = { (path: String) in path.hasSuffix("}") ? 0 : path.utf8.count }
        paths = all.sorted { (isSpecific($0), $0) > (isSpecific($1), $1) }.compactMap { path in
            var text = NSRegularExpression.escapedPattern(for: path)
                .replacing(/\\\{\w+\\\}/, with: ".+")
            if path.hasSuffix("/") { text += "?" } else if !path.hasSuffix("}") { text += "/?" }
            return (try? NSRegularExpression(pattern: "^\(text)$")).map { (path, $0) }
        }
    }

    // MARK: Operations

    /// Follows a reference into the components.
    func resolve(_ object: Object) -> Object {
        guard let reference = object["$ref"] as? String else { return object }
        let value = reference.split(separator: "/").dropFirst().reduce(document as Any?) {
            ($0 as? Object)?[String($1)]
        }
        return resolve(value as? Object ?? [:])
    }

    /// The operation for a request; nil for a path or a method that the document does not have.
    func operation(_ method: String, _ target: String) -> Object? {
        // A proxy sends an absolute target.
        let path = String(target.prefix { $0 != "?" }).replacing(/^http:\/\/[^\/]+/, with: "")
        let whole = NSRange(path.startIndex..., in: path)
        let found = paths.first { $0.pattern.firstMatch(in: path, range: whole) != nil }
        let item = found.flatMap { (document["paths"] as? Object)?[$0.path] as? Object }
        return item?[method == "HEAD" ? "get" : method.lowercased()] as? Object
    }

    /// All operations, each with its method and its path.
    var operations: [(method: String, path: String, item: Object, operation: Object)] {
        (document["paths"] as? Object ?? [:]).flatMap { path, item in
            let item = item as? Object ?? [:]
            return item.compactMap { method, operation in
                method == "parameters" ? nil : (method.uppercased(), path, item, operation as? Object ?? [:])
            }
        }
    }

    /// The schema of a request's or an answer's body of a type.
    func schema(_ owner: Any?, _ type: String = "application/json") -> Object? {
        let content = resolve(owner as? Object ?? [:])["content"] as? Object
        return (content?[type] as? Object)?["schema"] as? Object
    }

    /// What is wrong with an answer, and where; empty if it is as the document says.
    func flaws(_ response: Response, to method: String, _ target: String) -> [String] {
        let type = response.fields["content-type"].map { String($0.prefix { $0 != ";" }) }
        guard let operation = operation(method, target) else {
            if response.status < 400 { return method == "OPTIONS" ? [] : ["the operation is not documented"] }
            return method != "HEAD" && type == "application/problem+json"
                ? flaws(response.body, .init(reference: "Problem")) : []
        }
        let responses = operation["responses"] as? Object ?? [:]
        let other = OpenAPI.otherFailures.contains(response.status) ? responses["default"] : nil
        guard let documented = responses["\(response.status)"] ?? other else {
            return ["the status is not documented"]
        }
        let headers = resolve(documented as? Object ?? [:])["headers"] as? Object ?? [:]
        for name in ["Emq-Missing", "Link", "Retry-After", "WWW-Authenticate", "X-Request-Id", "traceparent"]
        where response.fields[name.lowercased()] != nil && headers[name] == nil {
            return ["the header \(name) is not documented"]
        }
        let content = resolve(documented as? Object ?? [:])["content"] as? Object
        guard let type else { return content == nil ? [] : ["there is no Content-Type"] }
        guard let schema = schema(documented, type) else { return ["the type \(type) is not documented"] }
        if method == "HEAD" { return [] }
        return type.hasSuffix("json") ? flaws(response.body, schema) : []
    }

    /// What is wrong with the body of a request; empty if it is as the document says.
    func flaws(ofRequest body: String, to method: String, _ target: String) -> [String] {
        guard let operation = operation(method, target) else { return [] }
        let documented = operation["requestBody"] as? Object
        if body.isEmpty { return documented?["required"] as? Bool == true ? ["there is no body"] : [] }
        guard let schema = schema(documented) else { return ["there is a body"] }
        return flaws(body, schema)
    }

    /// What is wrong with a body of JSON.
    func flaws(_ body: String, _ schema: Object) -> [String] {
        func parse(_ text: String) -> Any? {
            try? JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)
        }
        if let value = parse(body) { return flaws(value, schema, at: "") }
        // Contents may have what Foundation cannot read: halves of surrogate pairs, and large exponents.
        let readable = body.replacing(/\\u[dD][89abAB][0-9a-fA-F]{2}(\\u[dD][c-fC-F][0-9a-fA-F]{2})?/, with: "?")
            .replacing(/\\u[dD][c-fC-F][0-9a-fA-F]{2}/, with: "?").replacing(/[eE][+]?[0-9]{3,}/, with: "")
        return parse(readable).map { flaws($0, schema, at: "") } ?? ["the body is not JSON"]
    }

    // MARK: Schemas

    /// What is wrong with a value. Members of objects that a schema leaves open are wrong too: the document knows all.
    func flaws(_ value: Any, _ schema: Object, at place: String) -> [String] {
        let schema = resolve(schema)
        var flaws: [String] = []
        func expect(_ isRight: Bool, _ what: @autoclosure () -> String) {
            if !isRight { flaws.append("\(place.isEmpty ? "the body" : place): \(what())") }
        }
        if let options = schema["anyOf"] as? [Object] {
            let each = options.map { self.flaws(value, $0, at: place) }
            return each.contains { $0.isEmpty } ? [] : each.min { $0.count < $1.count } ?? []
        }
        let kind = Self.kind(of: value)
        if let type = schema["type"] {
            let types = type as? [String] ?? [type as? String ?? ""]
            let isWhole = (value as? NSNumber).map { $0.doubleValue.rounded() == $0.doubleValue } ?? false
            guard types.contains(kind) || kind == "number" && isWhole && types.contains("integer") else {
                expect(false, "is \(kind), not \(types)")
                return flaws
            }
        }
        if let words = schema["enum"] as? [Any] {
            expect(words.contains { ($0 as? NSObject) == (value as? NSObject) }, "'\(value)' is not in \(words)")
        }
        if let constant = schema["const"] as? NSObject {
            expect(constant == value as? NSObject, "is not \(constant)")
        }
        switch kind {
        case "number":
            let number = (value as? NSNumber)?.doubleValue ?? 0
            if let minimum = schema["minimum"] as? NSNumber { expect(number >= minimum.doubleValue, "\(value)") }
            if let maximum = schema["maximum"] as? NSNumber { expect(number <= maximum.doubleValue, "\(value)") }
        case "string":
            let text = value as? String ?? ""
            let length = text.unicodeScalars.count
            if let minimum = schema["minLength"] as? Int { expect(length >= minimum, "'\(text)' is too short") }
            if let maximum = schema["maxLength"] as? Int { expect(length <= maximum, "'\(text)' is too long") }
            if let pattern = schema["pattern"] as? String {
                expect(text.range(of: pattern, options: .regularExpression) != nil, "'\(text)' is not \(pattern)")
            }
        case "array":
            let elements = value as? [Any] ?? []
            if let minimum = schema["minItems"] as? Int { expect(elements.count >= minimum, "is too short") }
            if let maximum = schema["maxItems"] as? Int { expect(elements.count <= maximum, "is too long") }
            guard let items = schema["items"] as? Object else { break }
            for (index, element) in elements.enumerated() {
                flaws += self.flaws(element, items, at: "\(place)[\(index)]")
            }
        case "object":
            let members = value as? Object ?? [:]
            let properties = schema["properties"] as? Object
            if let maximum = schema["maxProperties"] as? Int { expect(members.count <= maximum, "is too large") }
            if let names = schema["propertyNames"] as? Object {
                for name in members.keys { flaws += self.flaws(name, names, at: "\(place).\(name)") }
            }
            for name in schema["required"] as? [String] ?? [] { expect(members[name] != nil, "has no \(name)") }
            for (name, member) in members {
                let inner = "\(place).\(name)"
                if let property = properties?[name] ?? schema["additionalProperties"] as? Object {
                    flaws += self.flaws(member, property as? Object ?? [:], at: inner)
                } else {
                    expect(properties == nil, "'\(name)' is not documented")
                }
            }
        default: break
        }
        return flaws
    }

    /// The type of a value, as schemas call it.
    private static func kind(of value: Any) -> String {
        switch value {
        case is NSNull: "null"
        case is String: "string"
        case is [Any]: "array"
        case is Object: "object"
        // Foundation's numbers remember that they were a boolean.
        case let number as NSNumber: unsafe String(cString: number.objCType) == "c" ? "boolean" : "number"
        default: "number"
        }
    }
}

extension Contract.Object {
    /// The schema that has a name.
    init(reference name: String) { self = ["$ref": "#/components/schemas/\(name)"] }
}
