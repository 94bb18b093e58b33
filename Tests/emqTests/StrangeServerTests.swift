// The client's commands and servers that are not emq, or that answer with odd values.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct StrangeServerTests {
    /// Runs a command against a server that gives each request the same answer.
    private func run(
        _ arguments: [String], answer: String, type: String = "application/json", status: String = "200 OK"
    ) throws -> (status: Int32, output: String, error: String) {
        let receiver = try Receiver()
        receiver.scriptOthers(.answer(status, answer, fields: "Content-Type: \(type)\r\n"))
        let authority = TestTLS.isOverTLS ? ["EMQ_CA": try Certificates.shared.authorityFile] : [:]
        return try Server.run(arguments, environment: authority.merging(["EMQ_URL": receiver.url("")]) { $1 })
    }

    @Test(arguments: [
        ["add", "q", "1"], ["queues"], ["stats", "q"], ["pause", "q"], ["result", "AaH8ekX5cACuES467dOuXw"],
        ["export", "q"], ["config", "get", "q"], ["purge", "q", "--yes"], ["ack", "AaH8ekX5cACuES467dOuXw"],
    ])
    func aWebPageIsNoSuccess(arguments: [String]) throws {
        let result = try run(arguments, answer: "<html>Welcome</html>", type: "text/html")
        #expect(result.status == 1 && result.output.isEmpty, "\(result)")
        #expect(result.error.contains("check the URL") && result.error.filter { $0 == "\n" }.count == 1)
    }

    @Test(
        .timeLimit(.minutes(10)),
        arguments: [
            ["queues"], ["stats", "q"], ["peek", "q"], ["take", "q"], ["task", "AaH8ekX5cACuES467dOuXw"],
            ["queues", "--json"],
        ])
    func oddNumbersAreShownSomehow(arguments: [String]) throws {
        let odd = #"{"oldest_ready": 1e300, "ready": -1e300, "attempt": 1e999, "enqueued": 1e308, "retry": 1e300}"#
        let page = #"{"queues": {"q": \#(odd)}, "next": "q", "tasks": [\#(odd)], "id": "x", "receipt": "x"}"#
        // A page that is followed by itself would go on for ever.
        let result = try run(arguments + (arguments[0] == "queues" ? ["-n", "3"] : []), answer: page)
        #expect([0, 1, 3].contains(result.status), "\(result)")
    }

    @Test func aProxyWithoutAServerIsNotReachable() throws {
        let result = try run(["stats"], answer: "Bad Gateway", type: "text/plain", status: "502 Bad Gateway")
        #expect(result.status == 5 && result.error.contains("502"), "\(result)")
    }
}
