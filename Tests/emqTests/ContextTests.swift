// `emq context`: names for servers, with the real program; and `emq errors`, which needs no server.

import Foundation
import Support
import Testing

@testable import emq

@Suite(.blocking) struct ContextTests {
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
        #expect(try emq("context", "list").output == "\tone\tone.example:1\t\n*\ttwo\thttps://two.example/emq/\t\n")
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
        expect("URL: a URL begins with", try emq("context", "add", "one", "http://"))
        expect("--token-file: cannot read", try emq("context", "add", "one", "host", "--token-file", "/nowhere"))
        expect("--ca requires an https URL", try emq("context", "add", "one", "host", "--ca", "/dev/null"))
        #expect(try emq("context", "add", "production", "host").status == 0)
        expect("did you mean 'production'?", try emq("stats", "--context", "prodution"))
        expect("no control characters", try emq("context", "add", "a\u{1B}[2J", "host"))
        expect("not both", try emq("stats", "--context", "production", "--url", "host"))
        try "[".write(toFile: file, atomically: true, encoding: .utf8)
        expect("is not a JSON object; mend it, or delete it", try emq("stats"))
        // A URL needs no context.
        #expect(try target("--url", "host", environment: ["EMQ_CONTEXT": "none"]) == "curl 'http://host/stats/?n=1'\n")
    }

    @Test func aTokenStaysWithItsURLOnly() throws {
        defer { try? FileManager.default.removeItem(at: home) }
        try FileManager.default.createDirectory(at: home, withIntermediateDirectories: true)
        let (token, link) = (home.appending(path: "token").path, home.appending(path: "link").path)
        try "secret\n".write(toFile: token, atomically: true, encoding: .utf8)
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: token)
        #expect(try emq("context", "add", "one", "one.example", "--token-file", link).status == 0)
        // What the link leads to may change.
        #expect(try String(contentsOfFile: file, encoding: .utf8).contains("\"token_file\": \"\(link)\""))
        let same = try emq("context", "add", "one", "one.example")
        #expect(same.status == 0 && same.error.isEmpty)
        #expect(try target().contains("Authorization"))
        let other = try emq("context", "add", "one", "two.example")
        #expect(other.error == "emq context add: dropped what 'one' had for another server: token_file\n")
        #expect(try target() == "curl 'http://two.example/stats/?n=1'\n")
    }

    @Test func whatEmqDoesNotKnowStays() throws {
        defer { try? FileManager.default.removeItem(at: home) }
        #expect(try emq("context", "add", "one", "one.example").status == 0)
        let text = #"{"current":"one","contexts":{"one":{"url":"one.example","a":[1]},"bad":{"urls":5}},"b":{"c":2}}"#
        try text.write(toFile: file, atomically: true, encoding: .utf8)
        // A context that cannot be used is in nobody's way.
        #expect(try target().contains("one.example"))
        #expect(try emq("stats", "--context", "bad").error.contains("the context 'bad' has no url"))
        #expect(try emq("context", "add", "two", "two.example").status == 0)
        #expect(try emq("context", "add", "one", "one.example").status == 0)
        let written = try String(contentsOfFile: file, encoding: .utf8)
        for part in [#""a": [1]"#, #""bad": {"urls":5}"#, #""b": {"c":2}"#] {
            #expect(written.contains(part), "\(written)")
        }
        #expect(try emq("context", "remove", "bad").status == 0)
        #expect(try emq("context", "list").output == "*\tone\tone.example\t\n\ttwo\ttwo.example\t\n")
    }

    @Test func contextsThatAreAddedAtOnceAreAllThere() throws {
        defer { try? FileManager.default.removeItem(at: home) }
        let processes = try (0..<20).map { number in
            let process = Process()
            process.executableURL = Server.executable
            process.arguments = ["context", "add", "c\(number)", "host"]
            process.environment = ["XDG_CONFIG_HOME": home.path]
            process.standardOutput = FileHandle.nullDevice
            try process.start()
            return process
        }
        for process in processes { process.waitUntilExit() }
        #expect(processes.allSatisfy { $0.terminationStatus == 0 })
        #expect(try emq("context", "list").output.split(separator: "\n").count == 20)
    }
}

@Suite(.blocking) struct ClientSocketCommandTests {
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

@Suite(.blocking) struct ErrorsCommandTests {
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
