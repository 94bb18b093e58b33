// Runs the examples of docs/api.md in their order, and compares the answers with the printed ones. Starts each server
// of docs/api.md and docs/operations.md.

import Foundation
import Support
import Testing

@testable import Delivery
@testable import emq

@Suite(.blocking) struct DocumentationTests {
    /// A block of commands, and the answers printed below it.
    private struct Example {
        let commands: String
        var answers: [String] = []
    }

    /// curl has `--json` since 7.82.
    private static let hasCurl = (try? run("curl --help all | grep -q -- --json && echo yes"))?.contains("yes") == true

    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appending(path: "../../docs").standardizedFileURL

    /// The output of shell commands.
    private static func run(_ commands: String) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        // Without -f: the body of an error shows its status.
        process.arguments = ["-c", "curl() { command curl -sS \"$@\"; }\n" + commands]
        let output = Pipe()
        process.standardOutput = output
        try process.start()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return text
    }

    private func examples(of page: String) throws -> [Example] {
        var examples: [Example] = []
        var fence: Substring?
        var lines: [Substring] = []
        var separation = 0
        for line in contents(of: Self.folder.appending(path: page).path).split(
            separator: "\n", omittingEmptySubsequences: false)
        {
            guard line.hasPrefix("```") else {
                if fence != nil { lines.append(line) } else if !line.isEmpty { separation += 1 }
                continue
            }
            if let language = fence {
                if language == "sh" { examples.append(Example(commands: lines.joined(separator: "\n"))) }
                if language == "json", separation == 0, !examples.isEmpty {
                    examples[examples.count - 1].answers = lines.map(String.init)
                }
                (fence, lines, separation) = (nil, [], 0)
            } else {
                fence = line.dropFirst(3)
            }
        }
        return examples
    }

    @Test func everyRouteAndFieldIsDocumented() {
        let page = contents(of: Self.folder.appending(path: "api.md").path)
        // Each section of the page, by its heading.
        let sections = page.components(separatedBy: "\n## ").dropFirst()
        func section(on path: String) -> String? {
            sections.first { section in
                let words = section.prefix { $0 != "\n" }.split(whereSeparator: { " ,".contains($0) })
                return words.contains { $0 == path || $0 == path.dropLast() && path.hasSuffix("/") }
            }
        }
        for route in Route.all {
            // What a path with and without a name have in common is in the section on the one with a name.
            let named =
                Route.all.first { "\($0.name)" == "\(route.name)" && $0.subject != .none && "\($0.suffix)".isEmpty }
                ?? route
            guard let section = section(on: named.path) else {
                Issue.record("docs/api.md has no section on \(named.path)")
                continue
            }
            if !"\(route.suffix)".isEmpty {
                #expect(section.contains(route.path), "the section on \(named.path) does not name \(route.path)")
            }
            if let alias = route.alias {
                #expect(section.contains("`/\(alias)/`"), "the section on \(named.path) does not name \(alias)")
            }
            for operation in route.operations {
                let method = "\(operation.method)".uppercased()
                #expect(section.contains(method), "the section on \(named.path) does not name \(method)")
            }
            for parameter in route.query {
                let isThere = section.contains("`\(parameter.name)`") || section.contains("\(parameter.name)=")
                #expect(isThere, "the section on \(named.path) does not name the parameter \(parameter.name)")
            }
        }
        func expect(_ names: [StaticString], on heading: String) {
            let section = sections.first { $0.hasPrefix(heading) } ?? ""
            for name in names {
                #expect(section.contains("`\(name)`"), "the section \(heading) does not name the field \(name)")
            }
        }
        expect(TaskField.names, on: "POST /enqueue/NAME")
        expect(ConfigurationField.names, on: "PUT /config/NAME")
        expect(SourceDefinition.members, on: "PUT /source/NAME")
        expect(PushOptions.queueMembers + ["body"], on: "Push")
    }

    @Test func everyRouteIsInTheTableOfPermissions() throws {
        let page = contents(of: Self.folder.appending(path: "api.md").path)
        let section = try #require(page.components(separatedBy: "\n## ").first { $0.hasPrefix("Access\n") })
        let rows = section.split(separator: "\n")
        for route in Route.all where "\(route.suffix)".isEmpty {
            for operation in route.operations {
                let permission =
                    operation.need.permission.map { "`\($0.name)`" } ?? (operation.need.isOpen ? "none" : "any")
                let row = rows.first { $0.hasPrefix("| \(permission) |") } ?? ""
                let path = route.path.hasSuffix("/") ? String(route.path.dropLast()) : route.path
                #expect(row.contains("`\(path)`") || row.contains("`\(path)/`"), "\(route.path): \(permission)")
            }
        }
    }

    @Test(
        .enabled(if: hasCurl, "skipped: there is no curl 7.82 or newer here"),
        .plainOnly("the examples on the page are plain"))
    func everyExampleWorksAsPrinted() throws {
        let server = try Server.pushing()
        // The receiver in the examples of push.
        let receiver = try Receiver()
        receiver.script("/hook", [.answer("200 OK", "done", fields: "Content-Type: text/plain\r\n")])
        let hasSources = Sources.flawOfSystem() == nil
        let examples = try examples(of: "api.md").filter { hasSources || !$0.commands.contains("/source/") }
        #expect(examples.count > 20)
        // The printed ids and receipts, and the real ones.
        var names: [String: String] = [:]
        for example in examples {
            var printed = example.answers[...]
            for line in example.commands.split(separator: "\n") {
                var command = line.replacing("localhost:8080", with: "127.0.0.1:\(server.port)")
                    .replacing("localhost:9000", with: "localhost:\(receiver.port)")
                for (printed, real) in names.sorted(by: { $0.key.count > $1.key.count }) {
                    command = command.replacing(printed, with: real)
                }
                // The answer to a DELETE is empty.
                let real = try Self.run(String(command)).trimmingCharacters(in: .whitespacesAndNewlines)
                if real.isEmpty { continue }
                let next = printed.popFirst()
                let expected = try #require(next, "\(line) answers \(real)")
                    .replacing("localhost:9000", with: "localhost:\(receiver.port)")
                let same = matches(try parse(expected), try parse(real), member: "", &names)
                #expect(same, "\(line)\nprinted \(expected)\nreal    \(real)")
                let order = { (text: String) in text.matches(of: /"(\w+)" ?:/).map { String($0.1) } }
                #expect(order(expected) == order(real), "\(line)\nprinted \(expected)\nreal    \(real)")
            }
            #expect(printed.isEmpty, "\(example.commands)")
        }
    }

    @Test func everyExampleAgreesWithTheContract() throws {
        let contract = Contract.shared
        var (bodies, answers) = (0, 0)
        for example in try examples(of: "api.md") {
            var printed = example.answers[...]
            for line in example.commands.split(separator: "\n") {
                guard let target = line.firstMatch(of: /localhost:8080([^' ]*)/).map({ String($0.1) }) else { continue }
                let body = line.firstMatch(of: /--json '([^']*)'/).map { String($0.1) }
                let named = line.firstMatch(of: /-X ([A-Z]+)/).map { String($0.1) }
                let method = named ?? (body == nil ? "GET" : "POST")
                let operation = try #require(contract.operation(method, target), "\(line)")
                let answer = method == "DELETE" ? nil : printed.popFirst()
                let isProblem = answer?.hasPrefix("{\"type\":") == true
                if let body, !isProblem {
                    let schema = try #require(contract.schema(operation["requestBody"]), "\(line)")
                    #expect(contract.flaws(try parse(body), schema, at: "").isEmpty, "\(line)")
                    bodies += 1
                }
                guard let answer else { continue }
                let responses = operation["responses"] as? Contract.Object
                let schema =
                    isProblem
                    ? .init(reference: "Problem") : try #require(contract.schema(responses?["200"]), "\(line)")
                #expect(contract.flaws(try parse(answer), schema, at: "").isEmpty, "\(answer)")
                answers += 1
            }
        }
        #expect(bodies > 25 && answers > 50, "\(bodies), \(answers)")
    }

    /// The pages use ports 8080 and 8443, /var/lib/emq, and certificates in /etc/emq. Here the kernel chooses the
    /// ports, and the files are temporary.
    @Test func everyServerStartsAsPrinted() throws {
        let directory = DataDirectory()
        let tokens = try TokenFile([])
        let commands = try ["api.md", "operations.md"].flatMap { try examples(of: $0) }
            .flatMap { $0.commands.split(separator: "\n") }
            .filter { $0.hasPrefix("emq -") || $0.hasPrefix("emq serve") }
        #expect(commands.count >= 2)
        for command in commands where Certificates.isAvailable || !command.contains("/etc/emq/") {
            var arguments = command.replacing(/(localhost)?:8(080|443)/, with: "127.0.0.1:0")
                .replacing("/var/lib/emq", with: directory.path)
                .replacing("/etc/emq/tokens.json", with: tokens.path)
            if arguments.contains("/etc/emq/") {
                let pair = try Certificates.shared.pair(.good)
                for (file, path) in [
                    ("cert.pem", pair.chain), ("key.pem", pair.key),
                    ("clients.pem", try Certificates.shared.authorityFile),
                    ("issuers.pem", try Certificates.shared.authorityFile),
                ] {
                    arguments = arguments.replacing("/etc/emq/\(file)", with: path)
                }
            }
            let server = try Server(arguments.split(separator: " ").dropFirst().map(String.init))
            if server.output.contains(" https://") { continue }
            _ = try eventually("\(command) to serve") { try server.get("/healthz").status == 200 ? true : nil }
        }
    }

    private func parse(_ text: String) throws -> Any {
        try JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)
    }

    /// Whether two answers differ only in ids, receipts, times, ages and rates.
    private func matches(_ printed: Any, _ real: Any, member: String, _ names: inout [String: String]) -> Bool {
        switch (printed, real) {
        case (let printed as [Any], let real as [Any]):
            guard printed.count == real.count else { return false }
            for (first, second) in zip(printed, real) where !matches(first, second, member: member, &names) {
                return false
            }
            return true
        case (let printed as [String: Any], let real as [String: Any]):
            guard Set(printed.keys) == Set(real.keys) else { return false }
            // What depends on how fast the examples run: rates count whole seconds, and after some milliseconds a
            // source knows that there is no RabbitMQ.
            if member == "rates" { return real.values.allSatisfy { $0 as? Double ?? -1 >= 0 } }
            let isFree = ["last_error", "last_error_at"]
            return printed.allSatisfy { key, value in
                isFree.contains(key) || matches(value, real[key] as Any, member: key, &names)
            }
        case (let printed as String, let real as String)
        where ["id", "ids", "receipt", "missing", "example"].contains(member):
            // The same printed id always stands for the same real one.
            if let known = names[printed] { return known == real }
            names[printed] = real
            return true
        default:
            let isTime = [
                "enqueued", "due", "dispatched", "lease_end", "expires", "finished", "died", "ended", "oldest_ready",
                "unique_until",
                "since", "until", "first", "last", "as_of", "oldest_dispatched", "first_seen", "last_seen",
            ].contains(member)
            if member == "elapsed", let printed = printed as? Double, let real = real as? Double {
                return printed >= 0 && real >= 0
            }
            if isTime, let printed = printed as? Double, let real = real as? Double,
                printed > 1000 || member == "oldest_ready"
            {
                return printed > 1000 ? abs(printed - real) < 1e9 : real >= 0
            }
            return (printed as? NSObject) == (real as? NSObject)
        }
    }
}
