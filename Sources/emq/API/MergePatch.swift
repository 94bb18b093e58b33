// JSON merge patch (RFC 7396), on what queues say: what a patch names is set, what it says to be null is removed, and all
// else stays as it is.

import Bytes
import Delivery
import JSON
import Net

/// Merges a patch into an object.
///
/// - Parameters:
///   - patch: a JSON object; it was scanned before.
///   - target: what it is applied to, a JSON object.
///   - known: the members that there can be; nil for any.
///   - field: where both stand, for errors: empty, or a path with a dot at its end.
/// - Returns: the object that comes of it. Its values are not checked.
/// - Throws: 400 for a member that is not known, or is there twice: with `null` it would pass unnoticed.
func mergePatch(
    _ patch: Span<UInt8>, into target: Span<UInt8>, known: [StaticString]?, field: String = ""
) throws(Problem) -> [UInt8] {
    let old = try membersByName(of: target, field: field)
    let new = try membersByName(of: patch, field: field)
    var merged: [UInt8] = []
    /// Whether two names are the same member. Those of headers are compared as HTTP does.
    func isSame(_ name: [UInt8], _ other: [UInt8]) -> Bool {
        field == "push.headers." ? name.span.equalsIgnoringCase(other.span) : name == other
    }
    func append(_ name: [UInt8], _ value: Span<UInt8>) {
        merged.append(UInt8(ascii: merged.isEmpty ? "{" : ","))
        JSONWriter.writeString(name.span, to: &merged)
        merged.append(UInt8(ascii: ":"))
        merged.append(value)
    }
    for (name, entry) in old where !new.contains(where: { isSame($0.name, name) }) {
        append(name, target.extracting(entry.value))
    }
    for (index, (name, entry)) in new.enumerated() {
        let place = field + String(decoding: name, as: UTF8.self)
        if let known, !known.contains(where: { name.elementsEqual("\($0)".utf8) }) {
            let shown = text(name.span.extracting(first: shownBytes))
            let hint = nearestName(to: shown, among: known.map { "\($0)" })
            throw Problem(400, "there is no field '\(shown)' here; \(hint)", field: place)
        }
        guard !new[..<index].contains(where: { isSame($0.name, name) }) else {
            throw Problem(400, "the field '\(place)' is given twice", field: place)
        }
        if entry.kind == .null { continue }
        let value = patch.extracting(entry.value)
        guard entry.kind == .object, let inner = membersInside(place) else {
            append(name, value)
            continue
        }
        var before: [UInt8] = Array("{}".utf8)
        if let entry = old.first(where: { $0.name == name && $0.entry.kind == .object })?.entry {
            before = Array(copying: target.extracting(entry.value))
        }
        let object = try mergePatch(value, into: before.span, known: inner, field: place + ".")
        append(name, object.span)
    }
    if merged.isEmpty { merged.append(UInt8(ascii: "{")) }
    merged.append(UInt8(ascii: "}"))
    return merged
}

/// The members that an object inside of a configuration can have, an empty array for any; nil if there is no such object.
private func membersInside(_ field: String) -> [StaticString]?? {
    switch field {
    case "push": .some(PushOptions.queueMembers)
    case "push.headers": .some(nil)
    case "backoff": .some(FieldValue.backoffMembers)
    default: nil
    }
}

private func membersByName(
    of object: Span<UInt8>, field: String
) throws(Problem) -> [(name: [UInt8], entry: JSONScanner.Entry)] {
    var scanner = JSONScanner(maximumEntries: 1000)
    do throws(JSONError) {
        try scanner.consume(object)
        try scanner.finish()
    } catch {
        let name = field.isEmpty ? nil : String(field.dropLast())
        throw Problem(400, "this is an object of at most 1000 members", field: name)
    }
    var members: [(name: [UInt8], entry: JSONScanner.Entry)] = []
    for index in 0..<scanner.entryCount {
        let entry = scanner.entry(index)
        var name: [UInt8] = []
        // A name's quotes stand around it.
        let quoted = object.extracting(entry.name.lowerBound - 1..<entry.name.upperBound + 1)
        guard JSONValue.decodeString(quoted, into: &name) else {
            throw Problem(400, "a name here is no text in UTF-8", field: field.isEmpty ? nil : String(field.dropLast()))
        }
        members.append((name, entry))
    }
    return members
}
