// JSON merge patch (RFC 7396) for configurations: a patch sets the members that it names, removes those that it sets to
// null, and leaves all others as they are.

import Bytes
import Delivery
import JSON
import Net

/// Merges a patch into an object.
///
/// - Parameters:
///   - patch: a JSON object, which was scanned before.
///   - target: the JSON object to which it is applied.
///   - known: the allowed members; nil for any.
///   - field: the path of both, for errors: empty, or with a dot at its end.
/// - Returns: the merged object. Its values are not checked.
/// - Throws: 400 for an unknown or duplicate member, which would pass unnoticed if it is `null`.
func mergePatch(
    _ patch: Span<UInt8>, into target: Span<UInt8>, known: [StaticString]?, field: String = ""
) throws(Problem) -> [UInt8] {
    let old = try membersByName(of: target, field: field)
    let new = try membersByName(of: patch, field: field)
    var merged: [UInt8] = []
    /// Whether two names are the same member. Names of headers are compared without regard to case.
    func isSame(_ name: [UInt8], _ other: [UInt8]) -> Bool {
        field == "push.headers." ? name.span.equalsIgnoringCase(other.span) : name == other
    }
    /// Whether a new member takes the place of an old one. `secret` and `secrets` are one setting.
    func replaces(_ name: [UInt8], _ old: [UInt8]) -> Bool {
        isSame(name, old)
            || field == "push." && PushOptions.setting(text(name.span)) == PushOptions.setting(text(old.span))
    }
    func append(_ name: [UInt8], _ value: Span<UInt8>) {
        merged.append(UInt8(ascii: merged.isEmpty ? "{" : ","))
        JSONWriter.writeString(name.span, to: &merged)
        merged.append(UInt8(ascii: ":"))
        merged.append(value)
    }
    for (name, entry) in old where !new.contains(where: { replaces($0.name, name) }) {
        append(name, target.extracting(entry.value))
    }
    for (index, (name, entry)) in new.enumerated() {
        let place = field + String(decoding: name, as: UTF8.self)
        if let known, !known.contains(where: { name.elementsEqual("\($0)".utf8) }) {
            let shown = text(name.span.extracting(first: shownBytes))
            let hint = nearestName(to: shown, among: known.map { "\($0)" })
            throw Problem(.unknownField, "unknown field '\(shown)'; \(hint)", field: place)
        }
        guard !new[..<index].contains(where: { isSame($0.name, name) }) else {
            throw Problem(.duplicateField, "the field '\(place)' is given twice; send it once", field: place)
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

/// The members that an object inside a configuration can have, `.some(nil)` for any; nil if the field is not an object.
private func membersInside(_ field: String) -> [StaticString]?? {
    switch field {
    case "push": .some(PushOptions.queueMembers)
    case "push.headers": .some(nil)
    case "push.circuit": PushOptions.circuitMembers
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
        throw Problem(.invalidField, "this object must have at most 1000 members", field: name)
    }
    var members: [(name: [UInt8], entry: JSONScanner.Entry)] = []
    for index in 0..<scanner.entryCount {
        let entry = scanner.entry(index)
        var name: [UInt8] = []
        // Include the quotes around the name.
        let quoted = object.extracting(entry.name.lowerBound - 1..<entry.name.upperBound + 1)
        guard JSONValue.decodeString(quoted, into: &name) else {
            throw Problem(
                .invalidField, "a name here is not valid UTF-8", field: field.isEmpty ? nil : String(field.dropLast()))
        }
        members.append((name, entry))
    }
    return members
}
