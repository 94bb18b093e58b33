// The parameters of a request's query.

import Bytes
import Net
import Queues

/// A client's bytes as text to show.
func text(_ bytes: Span<UInt8>) -> String { String(decoding: bytes) }

/// Describes a whole number in a range, for errors.
func describeWholeNumber(_ range: ClosedRange<Int64>, unit: String = "") -> String {
    if range.upperBound < .max { return "a whole number\(unit) from \(range.lowerBound) to \(range.upperBound)" }
    return range.lowerBound > .min ? "a whole number\(unit), \(range.lowerBound) or more" : "a whole number\(unit)"
}

/// The parameters of a request's query.
struct Query {
    fileprivate(set) var values: [String: String] = [:]
    /// All values of the parameters that may come several times.
    fileprivate var lists: [String: [String]] = [:]

    var isEmpty: Bool { values.isEmpty }

    subscript(name: String) -> String? { values[name] }

    /// All values of a parameter that may come several times, in their order.
    func all(_ name: String) -> [String] { lists[name] ?? [] }

    /// A whole number.
    ///
    /// - Throws: 400 for another value.
    func integer(_ name: String, _ range: ClosedRange<Int64>, unit: String = "") throws(Problem) -> Int64? {
        guard let value = values[name] else { return nil }
        guard let number = Int64(value), range.contains(number) else {
            throw Problem(
                .invalidParameter, "\(name) must be \(describeWholeNumber(range, unit: unit)), not '\(value)'",
                field: name)
        }
        return number
    }

    /// A pattern of queue names.
    ///
    /// - Throws: 400 for one that is too long.
    func pattern(_ name: String) throws(Problem) -> GlobPattern? {
        guard let value = values[name] else { return nil }
        guard let pattern = GlobPattern(Array(value.utf8).span) else {
            throw Problem(
                .invalidParameter, "\(name) has at most \(GlobPattern.maximumByteCount) bytes, as a queue's name",
                field: name)
        }
        return pattern
    }

    /// One of a few words.
    ///
    /// - Throws: 400 for another value.
    func word<Value>(_ name: String, _ words: [String: Value]) throws(Problem) -> Value? {
        guard let value = values[name] else { return nil }
        if let known = words[value] { return known }
        throw Problem(
            .invalidParameter, "\(name) must be one of \(words.keys.sorted().joined(separator: ", ")), not '\(value)'",
            field: name)
    }
}

/// Reads a query of `name=value` pairs.
///
/// - Throws: 400 for a parameter that is not known or is given twice.
func readQuery(_ query: Span<UInt8>, of route: Route) throws(Problem) -> Query {
    if query.isEmpty { return Query() }
    var parameters = Query()
    for pair in text(query).split(separator: "&") {
        let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let name = try percentDecoded(parts[0])
        guard let parameter = route.query.first(where: { $0.name == name }) else {
            throw unknownParameter(name, of: route)
        }
        let value = try parts.count > 1 ? percentDecoded(parts[1], field: name) : ""
        if parameter.isRepeatable { parameters.lists[name, default: []].append(value) }
        guard parameters.values.updateValue(value, forKey: name) == nil || parameter.isRepeatable else {
            throw Problem(
                .duplicateParameter, "the query parameter '\(name)' is given twice; send it once", field: name)
        }
    }
    return parameters
}

private func unknownParameter(_ name: String, of route: Route) -> Problem {
    if let other = route.neighbour(withParameter: name) {
        if other.subject == .none {
            return Problem(
                .unknownParameter, "the query parameter '\(name)' belongs to another path: \(other.path)", field: name)
        }
        return Problem(
            .unknownParameter,
            "the query parameter '\(name)' needs \(other.subject.phrase) in the path: \(other.path)?\(name)=…",
            field: name)
    }
    let hint = route.query.isEmpty ? "this path takes none" : nearestName(to: name, among: route.query.map(\.name))
    return Problem(.unknownParameter, "unknown query parameter '\(name)'; \(hint)", field: name)
}

private func percentDecoded(_ text: Substring, field: String? = nil) throws(Problem) -> String {
    var decoded: [UInt8] = []
    let encoded = Array(text.utf8)
    PercentEncoding.decode(encoded.span, into: &decoded)
    guard let text = String(validating: decoded, as: UTF8.self) else {
        throw Problem(.invalidParameter, "'\(text)' in the query is not percent-encoded UTF-8", field: field)
    }
    return text
}
