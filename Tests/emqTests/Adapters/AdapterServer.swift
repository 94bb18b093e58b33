// The real program in place of legacy systems.

import Foundation
import Support
import Testing

extension Server {
    /// Starts a server that replaces a system at an address of its own. If it has a journal, recovery is complete.
    static func instead(of system: String, _ options: String...) throws -> Server {
        let server = try Server(["--addr", "127.0.0.1:0", "--\(system)", "127.0.0.1:0"] + options)
        _ = try eventually("the journal to be read") { try server.get("/healthz").status == 200 ? true : nil }
        return server
    }

    /// The port at which it replaces a system.
    func port(of system: String) throws -> UInt16 {
        let start = "replacing \(system) at \(TestTLS.scheme)://127.0.0.1:"
        return try eventually("the port of \(system)") {
            messages.first { $0.hasPrefix(start) }.flatMap { UInt16($0.dropFirst(start.count)) }
        }
    }

    /// Sends one request to a system that it replaces, on a connection of its own.
    func ask(
        _ system: String, _ method: String, _ target: String, _ body: String? = nil, fields: String = ""
    ) throws
        -> Response
    {
        let client = try Client(port: try port(of: system))
        client.send(
            "\(method) \(target) HTTP/1.1\r\nHost: localhost:5000\r\n\(fields)Content-Length: \(body?.utf8.count ?? 0)\r\n\r\n"
                + (body ?? ""))
        return try client.response()
    }
}
