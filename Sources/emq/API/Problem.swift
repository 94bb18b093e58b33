// Why a request failed, as a problem detail (RFC 9457) in words that a person can act on.

import Bytes
import JSON
import Net

/// Why a request failed. It has changed nothing.
struct Problem: Error {
    /// How long a client should wait before it retries a temporary problem, in seconds.
    static let retryAfterSeconds = 1

    /// Not an answer: there is no space on disk yet, and the server must hand over the request again.
    static let awaitsSpace = Problem(.diskFull, legacyStatus: 0, "")

    let type: ProblemType
    /// The status of the answer.
    let status: Int
    /// What is wrong, and what would be right.
    let detail: String
    /// The field or query parameter at fault, as a path into the request: `queues[2]`.
    var field: String?
    /// For 405: the methods that are allowed, as the Allow field lists them.
    var allow: String?

    /// - Parameters:
    ///   - type: the type.
    ///   - legacyStatus: the status, for a legacy system that has another one for this; nil for that of the type.
    ///   - detail: what is wrong, and what would be right.
    ///   - field: the field or query parameter at fault.
    ///   - allow: for 405, the methods that are allowed.
    init(
        _ type: ProblemType, legacyStatus: Int? = nil, _ detail: String, field: String? = nil, allow: String? = nil
    ) {
        self.type = type
        status = legacyStatus ?? type.status
        self.detail = detail
        self.field = field
        self.allow = allow
    }

    /// Whether the server must hand over the request again.
    var awaitsSpace: Bool { status == 0 }

    /// Whether the same request may succeed later.
    var isTemporary: Bool { status == 429 || status == 503 }

    /// The same problem with the path of the enclosing value before its field: `retry` inside `[1]` is `[1].retry`.
    func inside(_ outer: String) -> Problem {
        var problem = self
        problem.field = field.map { $0.hasPrefix("[") ? outer + $0 : "\(outer).\($0)" } ?? outer
        return problem
    }

    /// Writes the answer up to its body.
    func begin(_ contentType: StaticString, to responses: inout ResponseStream) {
        responses.begin(status: status, contentType: contentType)
        if let allow { responses.field("Allow", allow.utf8Span.span) }
        if isTemporary { responses.field("Retry-After", Problem.retryAfterSeconds) }
        if status == 401 {
            responses.field("WWW-Authenticate", "Bearer realm=\"emq\"")
            // A browser asks its user for a password, and sends that.
            responses.field("WWW-Authenticate", "Basic realm=\"emq\", charset=\"UTF-8\"")
        }
        responses.beginBody(estimatedCount: 200)
    }

    /// Writes the whole answer.
    func write(to responses: inout ResponseStream) {
        begin("application/problem+json", to: &responses)
        responses.append("{\"type\":")
        JSONWriter.write(type.urn, to: &responses)
        responses.append(",\"title\":\"")
        responses.append(type.title)
        responses.append("\",\"status\":")
        JSONWriter.writeInteger(Int64(status), to: &responses)
        responses.append(",\"detail\":")
        JSONWriter.write(detail, to: &responses)
        if let field {
            responses.append(",\"field\":")
            JSONWriter.write(field, to: &responses)
        }
        responses.append("}")
        responses.endLine()
    }
}

extension Problem {
    /// The problem of a request that the HTTP server itself refuses.
    init(_ refusal: Refusal) {
        let type: ProblemType =
            switch refusal.reason {
            case .malformed: .malformedHTTP
            case .timeout: .requestTimeout
            case .bodyTooLarge: .bodyTooLarge
            case .requestLineTooLong: .requestLineTooLong
            case .expectation: .unsupportedExpectation
            case .headerTooLarge: .headerTooLarge
            case .transferCoding: .unsupportedTransferCoding
            case .noMemory: .buffersFull
            case .noSystemMemory: .addressSpaceFull
            case .noRoomForContent: .memoryFull
            case .version: .unsupportedHTTPVersion
            }
        self.init(type, refusal.detail)
    }
}

extension ResponseStream: JSONOutput {}

extension JSONWriter {
    /// Appends a text as a JSON string.
    static func write(_ text: String, to output: inout some JSONOutput & ~Copyable) {
        let utf8 = Array(text.utf8)
        writeString(utf8.span, to: &output)
    }

    /// A text as a JSON string.
    static func bytes(of text: String) -> [UInt8] {
        var json: [UInt8] = []
        write(text, to: &json)
        return json
    }

    /// A text as a JSON string, to be put in others.
    static func text(of text: String) -> String { String(decoding: bytes(of: text), as: UTF8.self) }

    /// Milliseconds as a number of seconds.
    static func bytes(ofSeconds milliseconds: Int64) -> [UInt8] {
        var json: [UInt8] = []
        writeSeconds(milliseconds: milliseconds, to: &json)
        return json
    }
}

/// A hint at the known name that an unknown one was probably meant to be, to follow a sentence: the likely name, or
/// all names if none is likely.
///
/// - Returns: a clause without a full stop.
func nearestName(to unknown: String, among known: [String], shown: (String) -> String = { $0 }) -> String {
    likelyName(to: unknown, among: known, shown: shown)
        ?? "expected one of: " + known.map(shown).joined(separator: ", ")
}

/// A hint at the known name that an unknown one was probably meant to be; nil if none is near.
///
/// Names are compared by the number of letters to insert, delete, replace or swap (Damerau and Levenshtein), of which
/// at most a third of the known name's length may differ, or one. O(length²) per name.
///
/// Following a hint must not lose anything. So a name that ends tasks or holds them up is suggested only for a typo of
/// one letter after the first, and only if no other name is as near. A name that may mean refusing tasks never leads to
/// acknowledging them.
///
/// - Parameters:
///   - unknown: the unknown name.
///   - known: the known names.
///   - shown: how a name looks in the hint.
/// - Returns: a clause without a full stop.
func likelyName(to unknown: String, among known: [String], shown: (String) -> String = { $0 }) -> String? {
    let letters = Array(unknown.lowercased().utf8.prefix(64))
    let distances = known.map { (name: $0, distance: editDistance(letters, Array($0.utf8))) }
    if let best = distances.min(by: { $0.distance < $1.distance }), best.distance <= max(1, best.name.utf8.count / 3) {
        let nearest = distances.filter { $0.distance == best.distance }
        let isSafe = nearest.allSatisfy { !consequentialNames.contains($0.name) }
        var isSlip = nearest.count == 1 && best.distance <= 1 && best.name.utf8.first == letters.first
        if best.name == "ack", refusals.contains(where: { editDistance(letters, Array($0.utf8)) <= best.distance }) {
            isSlip = false
        }
        if isSafe || isSlip { return "did you mean '\(shown(best.name))'?" }
    }
    return nil
}

/// Names of requests, fields and options that end tasks, hold them up or send them somewhere.
private let consequentialNames: Set<String> = [
    "ack", "purge", "pause", "resume", "kick", "move", "dead", "--push",
]

/// The names of the request that refuses tasks. Hints need not include all of them.
private let refusals = ["nak", "nack"]
