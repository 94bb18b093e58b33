// Which route a path names, the queue's name in it, and the parameters of its query.

import Net

/// The verbs of the interface: the first segment of a path.
enum Verb {
    case enqueue, wait, ack, nak, peek, queues, healthz

    /// Whether a queue's name follows the verb.
    var takesName: Bool { self == .enqueue || self == .peek }

    /// The methods it answers to, as the Allow field lists them.
    var allowedMethods: StaticString {
        switch self {
        case .enqueue, .wait, .ack, .nak: "POST, OPTIONS"
        case .peek, .queues, .healthz: "GET, HEAD, OPTIONS"
        }
    }

    /// The one to use, for people.
    var usualMethod: StaticString {
        switch self {
        case .enqueue, .wait, .ack, .nak: "POST"
        case .peek, .queues, .healthz: "GET"
        }
    }

    func allows(_ method: Method) -> Bool {
        switch self {
        case .enqueue, .wait, .ack, .nak: method == .post
        case .peek, .queues, .healthz: method == .get || method == .head
        }
    }

    fileprivate static let all = ["enqueue", "wait", "ack", "nak", "peek", "queues", "healthz"]

    fileprivate init?(_ segment: Span<UInt8>) {
        switch segment.count {
        case 7 where segment.equals("enqueue"): self = .enqueue
        case 4 where segment.equals("wait"): self = .wait
        case 3 where segment.equals("ack"): self = .ack
        case 3 where segment.equals("nak"): self = .nak
        case 4 where segment.equals("peek"): self = .peek
        case 6 where segment.equals("queues"): self = .queues
        case 7 where segment.equals("healthz"): self = .healthz
        default: return nil
        }
    }
}

/// Reads the path of a request: `name` receives the queue's name in it, percent-decoded, empty for a verb that takes none.
///
/// - Throws: 404 for a path that is none of the interface's, 400 for a name that is none.
func readPath(_ path: Span<UInt8>, name: inout [UInt8]) throws(Problem) -> Verb {
    name.removeAll(keepingCapacity: true)
    var end = 1
    while end < path.count, path[end] != UInt8(ascii: "/") { end += 1 }
    let segment = path.extracting(min(1, path.count)..<min(end, path.count))
    guard let verb = Verb(segment) else {
        let hint = nearestName(to: text(segment), among: Verb.all) { "/\($0)" }
        throw Problem(404, "there is nothing at this path; \(hint)")
    }
    let rest = path.extracting(min(end + 1, path.count)..<path.count)
    if !verb.takesName {
        guard rest.isEmpty else { throw Problem(404, "there is nothing below /\(text(segment))/") }
        return verb
    }
    percentDecode(rest, into: &name)
    if name.isEmpty { throw Problem(404, "a queue's name follows: /\(text(segment))/NAME") }
    guard name.count <= maximumQueueNameLength else {
        throw Problem(400, "a queue's name has at most \(maximumQueueNameLength) bytes, this one has \(name.count)")
    }
    if let flaw = flawOfQueueName(name.span) { throw Problem(400, flaw) }
    return verb
}

/// The longest name of a queue, in bytes of UTF-8.
let maximumQueueNameLength = 255

/// What keeps bytes from being a queue's name, as a sentence; nil if nothing does.
func flawOfQueueName(_ name: Span<UInt8>) -> String? {
    if name.isEmpty || name.count > maximumQueueNameLength {
        return "a queue's name has 1 to \(maximumQueueNameLength) bytes, this one has \(name.count)"
    }
    var isPlain = true
    for index in name.indices where name[index] < 0x20 || name[index] >= 0x7F { isPlain = false }
    if isPlain { return nil }
    guard let text = String(validating: name.map { $0 }, as: UTF8.self) else {
        return "a queue's name is UTF-8, this one is not"
    }
    let hasControl = text.unicodeScalars.contains { $0.properties.generalCategory == .control }
    return hasControl ? "a queue's name has no control characters" : nil
}

/// Bytes from a client as text to show.
func text(_ bytes: Span<UInt8>) -> String { String(decoding: bytes.map { $0 }, as: UTF8.self) }

extension Span<UInt8> {
    /// The elements as an array, each put through `transform`. O(count).
    func map<Mapped>(_ transform: (UInt8) -> Mapped) -> [Mapped] {
        var result: [Mapped] = []
        result.reserveCapacity(count)
        for index in indices { result.append(transform(self[index])) }
        return result
    }
}

/// Decodes what the HTTP parser has checked: every `%` is followed by two hexadecimal digits. A `+` stays a plus.
func percentDecode(_ encoded: Span<UInt8>, into decoded: inout [UInt8]) {
    var index = 0
    while index < encoded.count {
        let end = encoded.index(of: UInt8(ascii: "%"), from: index) ?? encoded.count
        unsafe encoded.extracting(index..<end).withUnsafeBufferPointer { unsafe decoded.append(contentsOf: $0) }
        if end + 2 < encoded.count, let high = encoded[end + 1].hexadecimalValue,
            let low = encoded[end + 2].hexadecimalValue
        {
            decoded.append(high << 4 | low)
        }
        index = end + 3
    }
}

/// Reads a query of `name=value` pairs.
///
/// - Throws: 400 for a parameter that is not known or is given twice.
func readQuery(_ query: Span<UInt8>, known: [String]) throws(Problem) -> [String: String] {
    if query.isEmpty { return [:] }
    var parameters: [String: String] = [:]
    for pair in text(query).split(separator: "&") {
        let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let name = percentDecoded(parts[0])
        guard known.contains(name) else {
            let hint = known.isEmpty ? "this path takes none" : nearestName(to: name, among: known)
            throw Problem(400, "there is no query parameter '\(name)'; \(hint)", field: name)
        }
        guard parameters.updateValue(parts.count > 1 ? percentDecoded(parts[1]) : "", forKey: name) == nil else {
            throw Problem(400, "the query parameter '\(name)' is given twice", field: name)
        }
    }
    return parameters
}

private func percentDecoded(_ text: Substring) -> String {
    var decoded: [UInt8] = []
    let encoded = Array(text.utf8)
    percentDecode(encoded.span, into: &decoded)
    return String(decoding: decoded, as: UTF8.self)
}
