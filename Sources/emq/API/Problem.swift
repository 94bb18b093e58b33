// What a client is told when a request cannot be met: a problem detail (RFC 9457) in words that a person can act on.

import Bytes
import JSON
import Net

/// Why a request was not met. It has changed nothing.
struct Problem: Error {
    /// How long a client should wait before it tries again what is refused for now, in seconds.
    static let retryAfterSeconds = 1

    /// No problem, and no answer: there is no space on disk yet, and the request is to be handed over again.
    static let awaitsSpace = Problem(0, "")

    let status: Int
    /// What was wrong, what was got, what would be right.
    let detail: String
    /// The field or query parameter at fault, as a path into the request: `queues[2]`.
    var field: String?
    /// For 405: the methods that would do.
    var allow: String?

    init(_ status: Int, _ detail: String, field: String? = nil, allow: String? = nil) {
        self.status = status
        self.detail = detail
        self.field = field
        self.allow = allow
    }

    /// Whether the request is to be handed over again.
    var awaitsSpace: Bool { status == 0 }

    /// Whether the same request may be met later.
    var isTemporary: Bool { status == 429 || status == 503 }

    /// The same problem, of something that stands inside of `outer`: `retry` in `[1]` is `[1].retry`.
    func inside(_ outer: String) -> Problem {
        var problem = self
        problem.field = field.map { $0.hasPrefix("[") ? outer + $0 : "\(outer).\($0)" } ?? outer
        return problem
    }

    /// Begins the answer, up to its body.
    func begin(_ contentType: StaticString, to responses: inout ResponseStream) {
        responses.begin(status: status, contentType: contentType)
        if let allow { responses.field("Allow", allow.utf8Span.span) }
        if isTemporary { responses.field("Retry-After", Problem.retryAfterSeconds) }
        responses.beginBody(estimatedCount: 150)
    }

    /// Writes the whole answer.
    func write(to responses: inout ResponseStream) {
        begin("application/problem+json", to: &responses)
        responses.append("{\"type\":\"about:blank\",\"title\":\"")
        responses.append(reason(of: status))
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

extension ResponseStream: JSONOutput {}

extension JSONWriter {
    /// Appends a text as a JSON string.
    static func write(_ text: String, to output: inout some JSONOutput & ~Copyable) {
        let utf8 = Array(text.utf8)
        writeString(utf8.span, to: &output)
    }
}

/// The known name that an unknown one was probably meant to be, as a hint behind a sentence.
///
/// Compared by the number of letters to insert, delete, replace or swap (Damerau and Levenshtein). O(length²) a name.
/// `shown` is how a name looks in the hint. Whoever follows a hint must not lose anything by it: a name that does away with
/// tasks, or holds them up, is hinted at only for a slip of one letter behind the first, and if no other name is as near. What
/// may be meant to refuse tasks never leads to acknowledging them.
func nearestName(
    to unknown: String, among known: [String], shown: (String) -> String = { $0 }
) -> String {
    let letters = Array(unknown.lowercased().utf8.prefix(64))
    let distances = known.map { (name: $0, distance: editDistance(letters, Array($0.utf8))) }
    if let best = distances.min(by: { $0.distance < $1.distance }), best.distance <= max(1, best.name.utf8.count / 2) {
        let nearest = distances.filter { $0.distance == best.distance }
        let isSafe = nearest.allSatisfy { !consequentialNames.contains($0.name) }
        var isSlip = nearest.count == 1 && best.distance <= 1 && best.name.utf8.first == letters.first
        if best.name == "ack", refusals.contains(where: { editDistance(letters, Array($0.utf8)) <= best.distance }) {
            isSlip = false
        }
        if isSafe || isSlip { return "did you mean '\(shown(best.name))'?" }
    }
    return "known here: " + known.map(shown).joined(separator: ", ")
}

/// Names of requests, fields and options that end tasks, hold them up or send them somewhere.
private let consequentialNames: Set<String> = [
    "ack", "purge", "pause", "resume", "kick", "move", "dead", "--push",
]

/// The names of the request that refuses tasks. Not each of them is among those that may be hinted at.
private let refusals = ["nak", "nack"]
