// Which route a path names, the queue's name in it, and the parameters of its query.

import Bytes
import Net
import Queues

/// The verbs of the interface: the first segment of a path.
enum Verb: String, CaseIterable {
    case enqueue, wait, ack, nak, touch
    case task, result, key
    case peek, queues, stats, pause, resume, purge, kick, move, config, defaults
    case healthz

    /// Whether a name follows the verb.
    enum Name { case none, optional, required }

    var name: Name {
        switch self {
        case .enqueue, .task, .result, .key, .peek, .pause, .resume, .purge, .move, .config: .required
        case .stats, .kick: .optional
        case .wait, .ack, .nak, .touch, .queues, .defaults, .healthz: .none
        }
    }

    /// Whether a request has a body.
    func takesBody(_ method: Method, hasName: Bool) -> Bool {
        switch self {
        case .enqueue, .wait, .ack, .nak, .touch: true
        case .kick: !hasName
        case .config, .defaults: method == .put || method == .patch
        default: false
        }
    }

    /// What a request costs for each task or queue that it names, beside the texts that it wants kept.
    func cost(_ method: Method) -> Cost {
        if method == .get || method == .head { return .looks }
        return switch self {
        case .enqueue: .grows(Cost.taskBytes)
        // Pausing, resuming and dropping what was configured works while the disk is full, too.
        case .config, .defaults: method == .put || method == .patch ? .grows(Cost.queueBytes) : .returns
        case .pause: .returns(Cost.queueBytes)
        case .resume: .returns
        // They change what is there.
        case .touch, .kick, .move: .grows()
        // What a wait acknowledges; for those who have to wait, it asks by itself.
        case .wait, .ack, .task, .result, .key, .purge: .frees
        case .nak: .returns
        case .peek, .queues, .stats, .healthz: .looks
        }
    }

    /// Whether a request names any number of tasks. The route asks to be admitted when it has counted them.
    func namesTasks(hasName: Bool) -> Bool {
        switch self {
        case .enqueue, .wait, .ack, .nak, .touch: true
        case .kick: !hasName
        default: false
        }
    }

    /// Whether what a body says is kept. Others are read, up to a size, also when memory is short.
    var keepsBody: Bool { self == .enqueue || self == .config || self == .defaults }

    /// Whether that name is a task's id and not a queue's name.
    var takesID: Bool { self == .task || self == .result }

    /// The query parameters that it knows.
    var parameters: [String] {
        switch self {
        case .result: ["timeout"]
        case .key: ["key"]
        case .peek: ["n", "state", "after"]
        case .purge: ["state"]
        case .kick: ["n", "state", "to"]
        case .move: ["n", "state", "to"]
        default: []
        }
    }

    /// The methods it answers to, as the Allow field lists them.
    var allowedMethods: StaticString {
        switch self {
        case .enqueue, .wait, .ack, .nak, .touch, .pause, .resume, .purge, .kick, .move: "POST, OPTIONS"
        case .peek, .queues, .stats, .healthz: "GET, HEAD, OPTIONS"
        case .task, .result, .key: "GET, HEAD, DELETE, OPTIONS"
        case .config, .defaults: "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"
        }
    }

    /// The methods to use, for people.
    var usualMethods: StaticString {
        switch self {
        case .enqueue, .wait, .ack, .nak, .touch, .pause, .resume, .purge, .kick, .move: "POST does"
        case .peek, .queues, .stats, .healthz: "GET does"
        case .task, .result, .key: "GET and DELETE do"
        case .config, .defaults: "GET, PUT, PATCH and DELETE do"
        }
    }

    func allows(_ method: Method) -> Bool {
        switch self {
        case .enqueue, .wait, .ack, .nak, .touch, .pause, .resume, .purge, .kick, .move: method == .post
        case .peek, .queues, .stats, .healthz: method == .get || method == .head
        case .task, .result, .key: method == .get || method == .head || method == .delete
        case .config, .defaults: [.get, .head, .put, .patch, .delete].contains(method)
        }
    }

    fileprivate init?(_ segment: Span<UInt8>) {
        // The usual ones first, and without making a string of them.
        if segment.equals("enqueue") {
            self = .enqueue
        } else if segment.equals("wait") {
            self = .wait
        } else if segment.equals("ack") {
            self = .ack
        } else if segment.equals("nack") {
            // The same word, as many others spell it.
            self = .nak
        } else {
            self.init(rawValue: text(segment))
        }
    }
}

/// Reads the path of a request: `name` receives the queue's name or the id in it, percent-decoded, empty if there is none.
///
/// - Throws: 404 for a path that is none of the interface's, 400 for a name that is none.
func readPath(_ path: Span<UInt8>, name: inout [UInt8]) throws(Problem) -> Verb {
    name.removeAll(keepingCapacity: true)
    var end = 1
    while end < path.count, path[end] != UInt8(ascii: "/") { end += 1 }
    let segment = path.extracting(min(1, path.count)..<min(end, path.count))
    guard let verb = Verb(segment) else {
        let hint = nearestName(to: text(segment), among: Verb.allCases.map(\.rawValue)) { "/\($0)" }
        throw Problem(404, "there is nothing at this path; \(hint)")
    }
    let rest = path.extracting(min(end + 1, path.count)..<path.count)
    if verb.name == .none {
        guard rest.isEmpty else { throw Problem(404, "there is nothing below /\(verb.rawValue)/") }
        return verb
    }
    PercentEncoding.decode(rest, into: &name)
    if name.isEmpty {
        if verb.name == .optional { return verb }
        throw Problem(
            404,
            "\(verb.takesID ? "a task's id" : "a queue's name") follows: /\(verb.rawValue)/\(verb.takesID ? "ID" : "NAME")"
        )
    }
    if !verb.takesID, let flaw = QueueName.flaw(in: name.span) { throw Problem(400, flaw) }
    return verb
}

/// Bytes from a client as text to show.
func text(_ bytes: Span<UInt8>) -> String { String(decoding: bytes) }

/// The parameters of a request's query.
struct Query {
    fileprivate(set) var values: [String: String] = [:]

    var isEmpty: Bool { values.isEmpty }

    subscript(name: String) -> String? { values[name] }

    /// A whole number.
    ///
    /// - Throws: 400 for another value.
    func integer(_ name: String, _ range: ClosedRange<Int64>, unit: String = "") throws(Problem) -> Int64? {
        guard let value = values[name] else { return nil }
        guard let number = Int64(decimal: value.utf8), range.contains(number) else {
            throw Problem(
                400, "\(name) is a whole number\(unit) from \(range.lowerBound) to \(range.upperBound), not '\(value)'",
                field: name)
        }
        return number
    }

    /// One of a few words.
    ///
    /// - Throws: 400 for another value.
    func word<Value>(_ name: String, _ words: [String: Value]) throws(Problem) -> Value? {
        guard let value = values[name] else { return nil }
        if let known = words[value] { return known }
        throw Problem(
            400, "\(name) is one of \(words.keys.sorted().joined(separator: ", ")), not '\(value)'", field: name)
    }
}

/// Reads a query of `name=value` pairs.
///
/// - Throws: 400 for a parameter that is not known or is given twice.
func readQuery(_ query: Span<UInt8>, known: [String]) throws(Problem) -> Query {
    if query.isEmpty { return Query() }
    var parameters = Query()
    for pair in text(query).split(separator: "&") {
        let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let name = try percentDecoded(parts[0])
        guard known.contains(name) else {
            let hint = known.isEmpty ? "this path takes none" : nearestName(to: name, among: known)
            throw Problem(400, "there is no query parameter '\(name)'; \(hint)", field: name)
        }
        let value = try parts.count > 1 ? percentDecoded(parts[1], field: name) : ""
        guard parameters.values.updateValue(value, forKey: name) == nil else {
            throw Problem(400, "the query parameter '\(name)' is given twice", field: name)
        }
    }
    return parameters
}

private func percentDecoded(_ text: Substring, field: String? = nil) throws(Problem) -> String {
    var decoded: [UInt8] = []
    let encoded = Array(text.utf8)
    PercentEncoding.decode(encoded.span, into: &decoded)
    guard let text = String(validating: decoded, as: UTF8.self) else {
        throw Problem(400, "what the query says in '\(text)' is not UTF-8", field: field)
    }
    return text
}
