// A request of the command-line client, and how curl would send it.

import Bytes

/// A request to an emq server.
struct ServerRequest {
    var method = "GET"
    /// The path and the query, percent-encoded.
    let target: String
    /// A JSON body; nil for none.
    var body: [UInt8]?
    /// Further fields of the header: names and values, which have no control characters.
    var fields: [(name: String, value: String)] = []
    /// How long the server may take for the response, in milliseconds; the time that it waits for tasks included.
    var timeoutMilliseconds: Int64 = 30_000

    /// A request without a body.
    init(_ target: String, method: String = "GET") { (self.method, self.target) = (method, target) }

    /// A request with a JSON body.
    init(_ target: String, json: [UInt8]) { (method, self.target, body) = ("POST", target, json) }

    /// A path: the parts between slashes, of which the last, a name, is percent-encoded, and the query.
    static func target(_ path: String, name: String = "", query: [(String, String?)] = []) -> String {
        var bytes = Array(path.utf8)
        // Slashes of a queue's name stay as they are, so that the line is readable.
        for (index, part) in name.split(separator: "/", omittingEmptySubsequences: false).enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: "/")) }
            PercentEncoding.encode(Array(part.utf8).span, into: &bytes)
        }
        var separator = UInt8(ascii: "?")
        for (key, value) in query {
            guard let value else { continue }
            bytes.append(separator)
            bytes += Array(key.utf8)
            bytes.append(UInt8(ascii: "="))
            PercentEncoding.encode(Array(value.utf8).span, into: &bytes)
            separator = UInt8(ascii: "&")
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The command line with which curl sends the request. The token is the variable EMQ_TOKEN in it.
    func curl(to place: ServerPlace) -> String {
        var words = ["curl"]
        if let path = place.socketPath { words += ["--unix-socket", Self.quoted(path)] }
        if let path = place.issuersPath { words += ["--cacert", Self.quoted(path)] }
        if place.token != nil { words += ["-H", #""Authorization: Bearer $EMQ_TOKEN""#] }
        for (name, value) in fields { words += ["-H", Self.quoted("\(name): \(value)")] }
        if let body {
            if method != "POST" { words += ["-X", method] }
            words += ["--json", Self.quoted(String(decoding: body, as: UTF8.self))]
        } else if method != "GET" {
            words += ["-X", method]
        }
        // Brackets and braces are curl's patterns.
        if target.contains(where: { "[]{}".contains($0) }) { words.append("-g") }
        words.append(Self.quoted(place.base + target))
        return words.joined(separator: " ")
    }

    /// A word for a shell (POSIX.1-2017, Shell Command Language, section 2.2.2).
    static func quoted(_ word: String) -> String {
        let isPlain =
            !word.isEmpty && word.utf8.allSatisfy { $0.isLetter || $0.isDigit || "/:.,_-@%+=".utf8.contains($0) }
        return isPlain
            ? word
            : "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'\''"#) + "'"
    }
}

/// The response of a server.
struct ServerResponse {
    let status: Int
    let body: [UInt8]
    /// The fields, with names in lower case.
    let fields: [String: String]

    /// The body as JSON; nil if it is none.
    var json: JSONPart? { JSONPart(body[...], isAnswer: true) }

    /// Whether the request did what it asks for.
    var isSuccess: Bool { (200..<300).contains(status) }

    /// Why a response that is a success cannot be one of emq's; nil if it may be one.
    var strangeness: CommandFailure? {
        if status == 204 || json != nil { return nil }
        return CommandFailure(.failed, "the answer is not JSON, so it does not come from an emq server; check the URL")
    }

    /// What a command says of a response that is no success, and its exit status.
    var failure: CommandFailure {
        let problem = json
        let detail =
            problem?["detail"]?.text
            ?? "the server answered with the status \(status)\(status == 413 ? "" : ", as emq does not; check the URL")"
        // Most details name the field themselves, and an id is no field on a command line.
        let name = problem?["field"]?.text ?? "id"
        let isNamed = name == "id" || detail.split(separator: " ").contains { $0 == name }
        let field = isNamed ? "" : " (field \(name))"
        let type = problem?["type"]?.text.flatMap { $0.split(separator: ":").last } ?? ""
        let advice = type.isEmpty ? "" : "; `emq errors \(type)` explains it"
        switch status {
        case 401 where type == "authentication-required":
            return CommandFailure(
                .notAllowed,
                "the server requires a token; set EMQ_TOKEN or EMQ_TOKEN_FILE, or use a context that has one")
        case 401: return CommandFailure(.notAllowed, "\(detail)\(advice)")
        case 403: return CommandFailure(.notAllowed, "\(detail)\(advice)")
        case 404: return CommandFailure(.nothing, detail)
        case 429, 503, 507:
            let pause = fields["retry-after"].map { "; try again in \($0) s" } ?? ""
            return CommandFailure(.refusedForNow, "\(detail)\(pause)")
        case 502, 504: return CommandFailure(.notReachable, "\(detail); a proxy cannot reach the server")
        case 400, 413, 414, 415, 422: return CommandFailure(.usage, "\(detail)\(field)")
        default: return CommandFailure(.failed, "\(detail)\(field)\(advice)")
        }
    }
}
