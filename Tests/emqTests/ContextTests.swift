// `emq context`: names for servers, with the real program; and `emq errors`, which needs no server.

import Foundation
import Support
import Testing

@testable import emq

@Suite struct ContextTests {
    /// A home folder of its own.
    private let home = FileManager.default.temporaryDirectory.appending(path: "emq-home-\(UUID().uuidString)")

    private var file: String { home.appending(path: "emq/contexts.json").path }

    private func emq(
        _ arguments: String..., environment: [String: String] = [:]
    ) throws -> (status: Int32, output: String, error: String) {
        try Server.run(
            arguments, environment: ["XDG_CONFIG_HOME": home.path].merging(environment) { $1 })
    }

    /// The request that a command would send, which names the server.
    private func target(_ arguments: String..., environment: [String: String] = [:]) throws -> String {
        try Server.run(
            ["stats"] + arguments + ["--curl"], environment: ["XDG_CONFIG_HOME": home.path].merging(environment) { $1 }
        ).output
    }

    @Test func theFirstContextIsInUseUntilAnotherOneIs() throws {
        defer { try? FileManager.default.removeItem(at: home) }
        #expect(try emq("context", "add", "one", "one.example:1").output == "added one, which is in use\n")
        #expect(try emq("context", "add", "two", "https://two.example/emq/").output == "added two\n")
        #expect(try target() == "curl 'http://one.example:1/stats/?n=1'\n")
        #expect(try target("--context", "two") == "curl 'https://two.example/emq/stats/?n=1'\n")
        #expect(try target(environment: ["EMQ_CONTEXT": "two"]).contains("two.example"))
        #expect(try emq("context", "use", "two").status == 0)
        #expect(try emq("context", "list").output == "\tone\tone.example:1\n*\ttwo\thttps://two.example/emq/\n")
        #expect(try target().contains("two.example"))
        // What is said wins over what is remembered.
        #expect(try target("--url", "three.example") == "curl 'http://three.example/stats/?n=1'\n")
        #expect(try target(environment: ["EMQ_URL": "four.example"]).contains("four.example"))
        #expect(try emq("context", "remove", "two").status == 0)
        #expect(try target().contains("localhost:8080"))
        let mode = try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int
        #expect(mode == 0o600)
    }

    @Test func aContextsTokenReachesNoOtherServer() throws {
        defer { try? FileManager.default.removeItem(at: home) }
        let server = try Server()
        let token = home.appending(path: "token").path
        try FileManager.default.createDirectory(at: home, withIntermediateDirectories: true)
        try "secret\nmore\n".write(toFile: token, atomically: true, encoding: .utf8)
        #expect(try emq("context", "add", "one", "one.example", "--token-file", token).status == 0)
        #expect(try target().contains(#"-H "Authorization: Bearer $EMQ_TOKEN""#))
        #expect(try !target("--url", "localhost:\(server.port)").contains("Authorization"))
        #expect(try !target(environment: ["EMQ_URL": "localhost:\(server.port)"]).contains("Authorization"))
    }

    @Test func mistakesAreExplained() throws {
        defer { try? FileManager.default.removeItem(at: home) }
        func expect(_ part: String, _ result: (status: Int32, output: String, error: String)) {
            #expect(result.status == 2 && result.error.contains(part), "\(result)")
            #expect(result.error.filter { $0 == "\n" }.count == 1)
        }
        expect("there is no context 'one'; there are none", try emq("stats", "--context", "one"))
        expect("there is no context 'one'", try emq("context", "use", "one"))
        expect("--url: ", try emq("context", "add", "one", "http://"))
        expect("--token-file: cannot read", try emq("context", "add", "one", "host", "--token-file", "/nowhere"))
        expect("--ca requires an https URL", try emq("context", "add", "one", "host", "--ca", "/dev/null"))
        #expect(try emq("context", "add", "production", "host").status == 0)
        expect("did you mean 'production'?", try emq("stats", "--context", "prodution"))
        expect("not both", try emq("stats", "--context", "production", "--url", "host"))
        try "[".write(toFile: file, atomically: true, encoding: .utf8)
        expect("is not a JSON object; mend it, or delete it", try emq("stats"))
    }
}

@Suite struct ClientSocketCommandTests {
    @Test(.plainOnly("without TLS, a socket's path is all that a client needs"))
    func commandsUseUnixSockets() throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "emq-\(UUID().uuidString).sock").path
        let server = try Server(["--addr", "unix:\(path)"])
        defer { withExtendedLifetime(server) {} }
        func emq(_ arguments: String...) throws -> (status: Int32, output: String, error: String) {
            try Server.run(arguments, environment: ["EMQ_URL": "unix:\(path)"])
        }
        #expect(try emq("add", "numbers", "-5").status == 0)
        #expect(try emq("work", "numbers", "--exit-when-empty", "--", "cat").output == "-5")
        #expect(try emq("stats", "--curl").output == "curl --unix-socket \(path) 'http://localhost/stats/?n=1'\n")
    }
}

@Suite struct ErrorsCommandTests {
    @Test func everyTypeIsExplained() {
        #expect(ErrorsCommand.explanations.map(\.type) == ProblemType.allCases)
        for explanation in ErrorsCommand.explanations {
            let text = explanation.cause + explanation.remedy
            #expect(!text.contains("](") && explanation.cause.hasSuffix(".") && explanation.remedy.hasSuffix("."))
        }
    }

    @Test func aTypeIsFoundByItsNameOrStatus() throws {
        let page = try Server.run(["errors", "queue-full"])
        #expect(
            page.output == """
                queue-full: Queue full (status 429)

                Cause: The queue has its `max_length`.
                Remedy: Try again later. Add workers, or raise `max_length`.

                """)
        #expect(try Server.run(["errors", "urn:emq:error:queue-full"]).output == page.output)
        #expect(try Server.run(["errors", "429"]).output == "429\tqueue-full\tQueue full\n")
        #expect(try Server.run(["errors"]).output.split(separator: "\n").count == ProblemType.allCases.count)
        let missing = try Server.run(["errors", "quue-full"])
        #expect(missing.status == 3 && missing.error.contains("did you mean 'queue-full'?"))
        let json = try JSONSerialization.jsonObject(with: Data(try Server.run(["errors", "--json"]).output.utf8))
        #expect((json as? [[String: Any]])?.count == ProblemType.allCases.count)
    }
}
