// Tokens for tests, and requests that show them.

import Foundation
import Testing

@testable import Delivery
@testable import emq

/// A token, as its holder has it and as the file of tokens has it.
struct TestToken {
    let name: String
    var allow: [String]
    var queues: [String]?
    var expires: Double?

    init(_ name: String, _ allow: [String], queues: [String]? = nil, expires: Double? = nil) {
        (self.name, self.allow, self.queues, self.expires) = (name, allow, queues, expires)
    }

    /// Any text can be a token.
    var text: String { "secret-of-\(name)" }

    var bearer: String { "Bearer \(text)" }

    var basic: String { "Basic " + Data("\(name):\(text)".utf8).base64EncodedString() }

    var object: [String: Any] {
        var object: [String: Any] = [
            "name": name, "allow": allow, "sha256": hexadecimalHash(of: text),
        ]
        object["queues"] = queues
        object["expires"] = expires
        return object
    }
}

func hexadecimalHash(of text: String) -> String {
    let hash = SHA256.hash(Array(text.utf8).span)
    return (0..<32).map { String(format: "%02x", hash[$0]) }.joined()
}

/// A file of tokens in a temporary directory.
final class TokenFile {
    let path = NSTemporaryDirectory() + "emq-\(UUID().uuidString).tokens"

    init(_ tokens: [TestToken]) throws { try write(tokens) }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ tokens: [TestToken]) throws {
        let json = try JSONSerialization.data(withJSONObject: ["tokens": tokens.map(\.object)])
        try write(String(decoding: json, as: UTF8.self))
    }

    func write(_ text: String) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    }
}

extension Client {
    /// Sends a request with an Authorization field and others.
    @discardableResult
    func ask(
        _ method: String, _ path: String, _ json: String? = nil, _ authorization: String? = nil,
        host: String = "localhost", fields: [String] = []
    ) throws -> Response {
        var lines = ["\(method) \(path) HTTP/1.1", "Host: \(host)"] + fields
        if let authorization { lines.append("Authorization: \(authorization)") }
        if let json { lines += ["Content-Type: application/json", "Content-Length: \(json.utf8.count)"] }
        send(lines.joined(separator: "\r\n") + "\r\n\r\n" + (json ?? ""))
        return try response(toHead: method == "HEAD")
    }
}

extension Response {
    /// What a problem says.
    var detail: String { ((try? json) as? [String: Any])?["detail"] as? String ?? body }
}
