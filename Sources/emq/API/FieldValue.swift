// The value of one field: reading it as the type that it must have, and saying what is wrong with it.

import Bytes
import JSON
import Queues

/// The longest duration, 136 years: practically forever, and far from overflow. In seconds, it is the largest number of
/// 32 bits.
let maximumMilliseconds: Int64 = 4_294_967_295_000

/// Where the value of a member is in its object, and of which kind it is.
struct FieldPart {
    let range: Range<Int>
    let kind: JSONKind
}

/// The value of a member, with the member's name for errors.
///
/// Each reader throws a 400 that names the field and says what it must be and what it is.
struct FieldValue: ~Copyable, ~Escapable {
    /// The value as the client wrote it.
    let bytes: Span<UInt8>
    /// Its place in the object that it is a member of.
    let range: Range<Int>
    let kind: JSONKind
    let name: StaticString

    @_lifetime(copy object)
    init(_ object: Span<UInt8>, _ part: FieldPart, name: StaticString) {
        bytes = object.extracting(part.range)
        (range, kind) = (part.range, part.kind)
        self.name = name
    }

    /// Its place and its kind, to be kept.
    var part: FieldPart { FieldPart(range: range, kind: kind) }

    /// A problem that says what the value must be.
    func flaw(_ wanted: String) -> Problem {
        let got = kind == .object || kind == .array ? describe(kind) : text(bytes.extracting(first: shownBytes))
        return Problem(.invalidField, "\(name) must be \(wanted), not \(got)", field: "\(name)")
    }

    /// A duration: a number of seconds, resolved to the millisecond, in a range of milliseconds.
    /// `alternative` follows the description of the range in an error.
    func duration(
        _ range: ClosedRange<Int64> = 0...maximumMilliseconds, alternative: StaticString = ""
    ) throws(Problem) -> Int64 {
        if kind == .number, let milliseconds = try? JSONValue.milliseconds(bytes, in: range) {
            return milliseconds
        }
        throw flaw(
            "a number of seconds from \(seconds(range.lowerBound)) to \(seconds(range.upperBound))\(alternative)")
    }

    /// A duration that is not 0.
    func length(alternative: StaticString = "") throws(Problem) -> Int64 {
        try duration(1...maximumMilliseconds, alternative: alternative)
    }

    /// A point in time: Unix seconds, resolved to the millisecond.
    func time(now: Int64) throws(Problem) -> Int64 {
        let range = 0...now + maximumMilliseconds
        if kind == .number, let milliseconds = try? JSONValue.milliseconds(bytes, in: range) { return milliseconds }
        throw flaw("a time in Unix seconds, at most 136 years from now")
    }

    /// A whole number.
    func integer(_ range: ClosedRange<Int64>) throws(Problem) -> Int64 {
        if kind == .number, let number = try? JSONValue.integer(bytes), range.contains(number) { return number }
        throw flaw(describeWholeNumber(range))
    }

    /// A fraction from 0 to 1, resolved to a thousandth.
    func fraction() throws(Problem) -> Double {
        if kind == .number, let thousandths = try? JSONValue.milliseconds(bytes, in: 0...1000) {
            return Double(thousandths) / 1000
        }
        throw flaw("a fraction from 0 to 1")
    }

    func boolean() throws(Problem) -> Bool {
        switch kind {
        case .true: return true
        case .false: return false
        default: throw flaw("true or false")
        }
    }

    /// A text of 1 to `maximumBytes` bytes of UTF-8.
    func string(maximumBytes: Int) throws(Problem) -> [UInt8] {
        var decoded: [UInt8] = []
        try decodeString(byteCounts: 1...maximumBytes, into: &decoded)
        return decoded
    }

    /// A text with so many bytes of UTF-8, which are appended to `decoded`, an empty array.
    func decodeString(byteCounts: ClosedRange<Int>, into decoded: inout [UInt8]) throws(Problem) {
        guard kind == .string else { throw flaw("a string") }
        guard JSONValue.decodeString(bytes, into: &decoded) else { throw flaw("a string in UTF-8") }
        guard byteCounts.contains(decoded.count) else {
            let range = "\(byteCounts.lowerBound) to \(byteCounts.upperBound) bytes"
            throw Problem(.invalidField, "\(name) must have \(range), not \(decoded.count)", field: "\(name)")
        }
    }

    /// Whether it is an empty string, which legacy systems treat as absent.
    var isBlank: Bool { kind == .string && bytes.count == 2 }

    /// One of a few words, as its place among them.
    func word(_ words: [StaticString]) throws(Problem) -> Int {
        if kind == .string,
            let place = words.firstIndex(where: {
                JSONValue.stringEquals(quoted, hasEscapes: quoted.count != $0.utf8CodeUnitCount, $0)
            })
        {
            return place
        }
        throw flaw("one of " + words.map { "\"\($0)\"" }.joined(separator: ", "))
    }

    /// A string's bytes between its quotes.
    private var quoted: Span<UInt8> {
        @_lifetime(copy self) get { bytes.extracting(1..<bytes.count - 1) }
    }

    private func seconds(_ milliseconds: Int64) -> String {
        var bytes: [UInt8] = []
        JSONWriter.writeSeconds(milliseconds: milliseconds, to: &bytes)
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension FieldValue {
    /// An object of strings, as the client wrote it.
    func strings(maximumBytes: Int) throws(Problem) -> [UInt8] {
        guard kind == .object else { throw flaw("an object of strings") }
        guard bytes.count <= maximumBytes else {
            throw Problem(.invalidField, "\(name) must have at most \(maximumBytes) bytes of JSON", field: "\(name)")
        }
        var scanner = JSONScanner()
        do throws(JSONError) {
            try scanner.consume(bytes)
            try scanner.finish()
        } catch {
            throw flaw("an object of at most 10000 strings")
        }
        for index in 0..<scanner.entryCount where scanner.entry(index).kind != .string {
            let entry = scanner.entry(index)
            let member = text(bytes.extracting(entry.name).extracting(first: shownBytes))
            throw Problem(
                .invalidField, "\(name) must be an object of strings, but '\(member)' is \(describe(entry.kind))",
                field: "\(name).\(member)")
        }
        return Array(copying: bytes)
    }
}

extension FieldValue {
    /// The maximum number of retries, or of leases that run out.
    func retryLimit() throws(Problem) -> UInt32 {
        UInt32(truncatingIfNeeded: try integer(0...Int64(UInt32.max)))
    }

    /// How long a task lives: a number of seconds, or "never", because `null` in a merge patch removes the field.
    func expiry() throws(Problem) -> Expiry {
        if kind == .string, (try? word(["never"])) != nil { return .never }
        return .after(milliseconds: try length(alternative: ", or \"never\""))
    }

    /// The members of a backoff that is an object.
    static let backoffMembers: [StaticString] = ["min", "max", "doublings", "jitter"]

    /// The pause before a retry: a number of seconds, or an object.
    func backoff() throws(Problem) -> Backoff {
        if kind == .number {
            let pause = try duration()
            return Backoff(minimumMilliseconds: pause, maximumMilliseconds: pause, maximumDoublings: 0)
        }
        guard kind == .object else { throw flaw("a number of seconds or an object") }
        var minimum: Int64?
        var maximum: Int64?
        var doublings = UInt32.max
        var jitter = 0.0
        do throws(Problem) {
            var members = Members()
            try members.read(bytes, kind: kind)
            try members.forEach(in: bytes, known: FieldValue.backoffMembers) {
                (place, value) throws(Problem) in
                switch place {
                case 0: minimum = try value.duration()
                case 1: maximum = try value.duration()
                case 2: doublings = try value.retryLimit()
                default: jitter = try value.fraction()
                }
            }
            guard let minimum else {
                throw Problem(.missingField, "a backoff needs min, the first pause", field: "min")
            }
            if let maximum, maximum < minimum {
                throw Problem(.invalidField, "max must not be less than min", field: "max")
            }
            return Backoff(
                minimumMilliseconds: minimum, maximumMilliseconds: maximum ?? max(minimum, 86_400_000),
                maximumDoublings: doublings, jitter: jitter)
        } catch {
            throw error.inside("\(name)")
        }
    }
}
