// The JSON of a request: its members by name and its elements in order, strictly checked.

import Bytes
import JSON
import Net

/// Scans a large body piece by piece as it arrives.
final class ArrivingBody: BodyObserver {
    var scanner = JSONScanner()
    /// Whether a reader has taken the scanner.
    var isTaken = false

    override func consume(_ bytes: Span<UInt8>) {
        // The scanner reports an error again at the end.
        try? scanner.consume(bytes)
    }
}

/// The members of a JSON object, found by one scan of it.
///
/// One instance serves all requests in turn, and allocates nothing for a usual one.
struct Members: ~Copyable {
    private var scanner = JSONScanner()

    /// The kind of the scanned value: an object, or what else is allowed.
    var kind: JSONKind { scanner.kind }

    /// How many elements there are, if it is an array.
    var count: Int { scanner.entryCount }

    /// An element, if it is an array.
    func element(_ index: Int) -> JSONScanner.Entry { scanner.entry(index) }

    /// Scans a request's body.
    ///
    /// - Parameters:
    ///   - request: the request.
    ///   - allowsNull: whether `null` is a body too: an object without members.
    ///   - allowsArray: whether an array is a body too.
    ///   - passesOverRest: whether any bytes may follow the value, as for Go's `json.Decoder`.
    /// - Throws: 400 for any other body.
    mutating func read(
        _ request: borrowing Request, allowsNull: Bool = false, allowsArray: Bool = false, passesOverRest: Bool = false
    ) throws(Problem) {
        do throws(JSONError) {
            // A request that was postponed comes again, and is scanned again.
            if let arrived = request.bodyObserver as? ArrivingBody, !arrived.isTaken {
                swap(&scanner, &arrived.scanner)
                arrived.isTaken = true
            } else {
                scanner.reset()
                try scanner.consume(request.body)
            }
            try scanner.finish()
        } catch {
            guard passesOverRest, error.expected == .end else { throw Members.problem(error) }
        }
        guard
            scanner.kind == .object || allowsArray && scanner.kind == .array || allowsNull && scanner.kind == .null
        else {
            let wanted = allowsArray ? "a JSON object or an array of objects" : "a JSON object"
            throw Problem(
                .invalidBody, "the body must be \(wanted), such as {\"name\": value}, not \(describe(scanner.kind))")
        }
    }

    /// Scans a value inside a body that has been scanned, or another JSON text that `subject` names in errors.
    ///
    /// - Throws: 400 for anything but an object.
    mutating func read(_ bytes: Span<UInt8>, kind: JSONKind, of subject: String = "the body") throws(Problem) {
        guard kind == .object else { throw Problem(.invalidField, "this must be an object, not \(describe(kind))") }
        scanner.reset()
        do throws(JSONError) {
            try scanner.consume(bytes)
            try scanner.finish()
        } catch {
            throw Members.problem(error, of: subject)
        }
    }

    private static func problem(_ error: JSONError, of subject: String = "the body") -> Problem {
        switch error.expected {
        case .depthOfAtMost(let depth): Problem(.jsonTooDeep, "\(subject) is nested deeper than \(depth) levels")
        case .entriesOfAtMost(let count):
            Problem(.tooManyItems, "\(subject) has more than \(count) members or elements")
        default: Problem(.malformedJSON, "\(subject) is not valid JSON: \(error)")
        }
    }

    /// Calls `member` with each member's place in `known` and its value. Unknown and duplicate members are refused. A
    /// member that is `null` counts as absent unless `nullable` has the bit of its place.
    ///
    /// Legacy systems are lenient, as Go's JSON package is: unknown members are ignored, `URL` means `url`, and the
    /// last of several duplicates counts.
    ///
    /// - Parameters:
    ///   - bytes: the scanned bytes.
    ///   - known: the allowed names, at most 64.
    ///   - nullable: the members that may be `null`, as bits.
    ///   - isLenient: whether to be as lenient as legacy systems.
    ///   - member: receives the place and the value.
    /// - Throws: 400 for an unknown or duplicate member; what `member` throws.
    func forEach(
        in bytes: Span<UInt8>, known: [StaticString], nullable: UInt64 = 0, isLenient: Bool = false,
        _ member: (Int, borrowing FieldValue) throws(Problem) -> Void
    ) throws(Problem) {
        var seen: UInt64 = 0
        for index in 0..<scanner.entryCount {
            let entry = scanner.entry(index)
            let name = bytes.extracting(entry.name)
            var place = 0
            while place < known.count,
                !JSONValue.stringEquals(
                    name, hasEscapes: entry.nameHasEscapes, ignoresCase: isLenient, known[place])
            {
                place += 1
            }
            guard place < known.count else {
                if isLenient { continue }
                let got = decodedName(name)
                let hint = nearestName(to: got, among: known.map { "\($0)" })
                throw Problem(.unknownField, "unknown field '\(got)'; \(hint)", field: got)
            }
            if seen & 1 << UInt64(place) != 0, !isLenient {
                throw Problem(
                    .duplicateField, "the field '\(known[place])' is given twice; send it once",
                    field: "\(known[place])")
            }
            seen |= 1 << UInt64(place)
            if entry.kind == .null, nullable & 1 << UInt64(place) == 0 { continue }
            let part = FieldPart(range: entry.value, kind: entry.kind)
            try member(place, FieldValue(bytes, part, name: known[place]))
        }
    }

    /// The range of a member's value, if the object has this member and no other one.
    func onlyValue(named name: StaticString, in bytes: Span<UInt8>) -> Range<Int>? {
        guard kind == .object, scanner.entryCount == 1 else { return nil }
        let entry = scanner.entry(0)
        let hasName = JSONValue.stringEquals(bytes.extracting(entry.name), hasEscapes: entry.nameHasEscapes, name)
        return hasName ? entry.value : nil
    }

    private func decodedName(_ raw: Span<UInt8>) -> String {
        if raw.count > shownBytes { return text(raw.extracting(first: shownBytes)) + "…" }
        var quoted: [UInt8] = [UInt8(ascii: "\"")]
        quoted.append(raw)
        quoted.append(UInt8(ascii: "\""))
        var decoded: [UInt8] = []
        return JSONValue.decodeString(quoted.span, into: &decoded)
            ? String(decoding: decoded, as: UTF8.self) : text(raw)
    }
}

/// The elements of an array in a body. One instance serves all requests in turn.
struct Elements: ~Copyable {
    private var scanner = JSONScanner()
    private var name: StaticString = ""
    /// The element, if it is the only one and a plain string. Most arrays are like that, and need no scan.
    private var only: Range<Int>?

    /// How many elements there are.
    var count: Int { only == nil ? scanner.entryCount : 1 }

    /// Scans a member's value, which must be an array.
    ///
    /// - Throws: 400 for another value, or for too many elements.
    mutating func read(_ value: borrowing FieldValue, of what: StaticString, maximum: Int) throws(Problem) {
        name = value.name
        guard value.kind == .array else {
            throw value.flaw("an array of \(what)")
        }
        let inside = value.bytes.extracting(1..<value.bytes.count - 1)
        only = JSONValue.plainString(inside) == nil ? nil : 1..<inside.count + 1
        scanner.reset()
        if only != nil { return }
        var isTooLong = false
        do throws(JSONError) {
            try scanner.consume(value.bytes)
            try scanner.finish()
        } catch {
            // It was valid as part of the body, so it has more elements than the scanner takes.
            isTooLong = true
        }
        guard !isTooLong, scanner.entryCount <= maximum else {
            throw Problem(.tooManyItems, "\(name) must have at most \(maximum) elements", field: "\(name)")
        }
    }

    /// An element, with its range in the bytes that were read.
    func element(_ index: Int) -> JSONScanner.Entry {
        guard let only else { return scanner.entry(index) }
        precondition(index == 0, "there is no such element")
        return JSONScanner.Entry(value: only, kind: .string)
    }

    /// The range of a string in the bytes that were read, quotes included.
    ///
    /// - Throws: 400 for an element that is not a string.
    func string(_ index: Int) throws(Problem) -> Range<Int> {
        if let only, index == 0 { return only }
        let entry = scanner.entry(index)
        guard entry.kind == .string else {
            throw flaw(index, "\(name) must be an array of strings, but this element is \(describe(entry.kind))")
        }
        return entry.value
    }

    /// The characters of an element that is a string without escapes, and ASCII only.
    ///
    /// - Parameters:
    ///   - index: less than ``count``.
    ///   - bytes: the bytes that were read.
    /// - Returns: nil for another element.
    @_lifetime(copy bytes)
    func plainString(_ index: Int, of bytes: Span<UInt8>) -> Span<UInt8>? {
        if let only, index == 0 { return bytes.extracting(only.lowerBound + 1..<only.upperBound - 1) }
        return JSONValue.plainString(bytes.extracting(element(index).value))
    }

    /// A problem with one element.
    func flaw(_ index: Int, _ detail: String) -> Problem { Problem(.invalidField, detail, field: "\(name)[\(index)]") }
}

/// How much of a client's text an error repeats, in bytes.
let shownBytes = 60

/// The beginning of a text, for an error.
func beginning(of text: some StringProtocol) -> String {
    if text.utf8.count <= shownBytes { return String(text) }
    return String(decoding: text.utf8.prefix(shownBytes), as: UTF8.self) + "…"
}

/// The name of a kind of JSON value, for a sentence.
func describe(_ kind: JSONKind) -> String {
    switch kind {
    case .object: "an object"
    case .array: "an array"
    case .string: "a string"
    case .number: "a number"
    case .true, .false: "a boolean"
    case .null: "null"
    }
}
