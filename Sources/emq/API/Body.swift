// The JSON of a request: its members by name, read strictly, with what a person needs to know when one is wrong.

import JSON
import Net

/// Scans a large body piece by piece as it arrives.
final class ArrivingBody: BodyObserver {
    var scanner = JSONScanner()
    private(set) var flaw: JSONError?

    override func consume(_ bytes: Span<UInt8>) {
        if flaw != nil { return }
        do throws(JSONError) { try scanner.consume(bytes) } catch { flaw = error }
    }
}

/// The members of a request's body, found by one scan of it.
///
/// One instance serves all requests in turn: it allocates nothing on the way of a usual one.
struct Body: ~Copyable {
    private var scanner = JSONScanner()

    /// Scans a request's body.
    ///
    /// - Throws: 400 for what is no JSON object.
    mutating func read(_ request: borrowing Request) throws(Problem) {
        do throws(JSONError) {
            if let arrived = request.bodyObserver as? ArrivingBody {
                if let flaw = arrived.flaw { throw flaw }
                swap(&scanner, &arrived.scanner)
            } else {
                scanner.reset()
                try scanner.consume(request.body)
            }
            try scanner.finish()
        } catch {
            throw Problem(400, Body.explain(error))
        }
        guard scanner.kind == .object else {
            throw Problem(
                400, "the body is a JSON object, such as {\"name\": value}; this is \(describe(scanner.kind))")
        }
    }

    private static func explain(_ error: JSONError) -> String {
        switch error.expected {
        case .depthOfAtMost(let depth): return "the body is nested deeper than \(depth) levels"
        case .entriesOfAtMost(let count): return "the body has more than \(count) members"
        default: return "the body is no valid JSON: \(error)"
        }
    }

    /// The members, each checked to be known and to stand there once. `known` has every name that may stand here, at most
    /// 64; `member` is called with a name's place in it. A member that is `null` counts as absent, and is handed over only
    /// where `nullable` has the name's bit.
    func forEachMember(
        of request: borrowing Request, known: [StaticString], nullable: UInt64 = 0,
        _ member: (Int, JSONScanner.Entry) throws(Problem) -> Void
    ) throws(Problem) {
        let body = request.body
        var seen: UInt64 = 0
        for index in 0..<scanner.entryCount {
            let entry = scanner.entry(index)
            let name = body.extracting(entry.name)
            var place = 0
            while place < known.count,
                !JSONValue.stringEquals(name, hasEscapes: entry.nameHasEscapes, known[place])
            {
                place += 1
            }
            guard place < known.count else {
                let names = known.map { "\($0)" }
                let got = decodedName(name)
                throw Problem(400, "there is no field '\(got)'; \(nearestName(to: got, among: names))", field: got)
            }
            if seen & 1 << UInt64(place) != 0 {
                throw Problem(400, "the field '\(known[place])' is given twice", field: "\(known[place])")
            }
            seen |= 1 << UInt64(place)
            if entry.kind == .null, nullable & 1 << UInt64(place) == 0 { continue }
            try member(place, entry)
        }
    }

    private func decodedName(_ raw: Span<UInt8>) -> String {
        if raw.count > shownBytes { return text(raw.extracting(first: shownBytes)) + "…" }
        var quoted: [UInt8] = [UInt8(ascii: "\"")]
        quoted += raw.map { $0 }
        quoted.append(UInt8(ascii: "\""))
        var decoded: [UInt8] = []
        return JSONValue.decodeString(quoted.span, into: &decoded)
            ? String(decoding: decoded, as: UTF8.self) : text(raw)
    }
}

/// The elements of an array of strings that stands in a body. One instance serves all requests in turn.
struct StringArray: ~Copyable {
    private var scanner = JSONScanner()
    private var field: StaticString = ""

    /// How many elements there are.
    var count: Int { scanner.entryCount }

    /// Scans the array that a member holds.
    ///
    /// - Throws: 400 for what is no array or too long a one.
    mutating func read(
        _ bytes: Span<UInt8>, kind: JSONKind, field: StaticString, maximum: Int
    ) throws(Problem) {
        self.field = field
        guard kind == .array else {
            throw Problem(400, "\(field) is an array of strings, not \(describe(kind))", field: "\(field)")
        }
        scanner.reset()
        var isTooLong = false
        do throws(JSONError) {
            try scanner.consume(bytes)
            try scanner.finish()
        } catch {
            // It was valid as part of the body: the scanner's own bound was met.
            isTooLong = true
        }
        guard !isTooLong, scanner.entryCount <= maximum else {
            throw Problem(400, "\(field) has at most \(maximum) elements", field: "\(field)")
        }
    }

    /// Where an element stands in the bytes that were read, quotes included.
    ///
    /// - Throws: 400 for one that is no string.
    func element(_ index: Int) throws(Problem) -> Range<Int> {
        let entry = scanner.entry(index)
        guard entry.kind == .string else {
            throw flaw(index, "\(field) is an array of strings; this element is \(describe(entry.kind))")
        }
        return entry.value
    }

    /// A problem with one element.
    func flaw(_ index: Int, _ detail: String) -> Problem { Problem(400, detail, field: "\(field)[\(index)]") }
}

/// How much of what a client wrote is repeated to it in an error, in bytes.
let shownBytes = 60

/// Reads a duration: a number of seconds, resolved to the millisecond.
///
/// - Throws: 400 outside of `range`, which is in milliseconds.
func readDuration(
    _ bytes: Span<UInt8>, kind: JSONKind, field: StaticString, range: ClosedRange<Int64>
) throws(Problem) -> Int64 {
    guard kind == .number else {
        throw Problem(400, "\(field) is a number of seconds, not \(describe(kind))", field: "\(field)")
    }
    if let milliseconds = try? JSONValue.milliseconds(bytes), range.contains(milliseconds) { return milliseconds }
    var bounds: [UInt8] = []
    JSONWriter.writeSeconds(milliseconds: range.lowerBound, to: &bounds)
    bounds += Array(" to ".utf8)
    JSONWriter.writeSeconds(milliseconds: range.upperBound, to: &bounds)
    throw Problem(
        400,
        "\(field) is a number of seconds from \(String(decoding: bounds, as: UTF8.self)), not \(text(bytes.extracting(first: shownBytes)))",
        field: "\(field)")
}

/// A kind of JSON value as it stands in a sentence.
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
