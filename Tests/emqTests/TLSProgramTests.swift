// The program that speaks TLS, as operators see it. Its clients are the openssl tool and the load generator.

import Foundation
import Support
import Testing

@Suite(
    .blocking, .enabled(if: Certificates.isAvailable, "skipped: the openssl tool is missing"),
    .disabled(if: TestTLS.isOverTLS, "skipped: it needs plain servers as well"))
struct TLSProgramTests {
    /// Starts a server with a certificate, at a port of 127.0.0.1 unless `addresses` says something else.
    private func start(
        _ kind: Certificates.Kind = .good, _ addresses: [String] = ["--addr", "127.0.0.1:0"], _ others: String...
    ) throws -> Server {
        let pair = try Certificates.shared.pair(kind)
        let server = try Server(addresses + ["--tls-cert", pair.chain, "--tls-key", pair.key] + others)
        // The line about the certificate follows the one about the addresses.
        _ = try eventually("the start") { server.output.contains(" the certificate '\(pair.chain)' ") ? true : nil }
        return server
    }

    /// What the server says to the openssl tool, which sends `input` and reads until the end.
    private func talk(_ input: String, to port: UInt16, _ arguments: [String] = []) throws -> String {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments =
            [
                "openssl", "s_client", "-connect", "127.0.0.1:\(port)", "-CAfile",
                try Certificates.shared.authorityFile,
                "-verify_return_error", "-verify_hostname", "localhost",
            ] + arguments
        let (writing, reading) = (Pipe(), Pipe())
        process.standardInput = writing
        (process.standardOutput, process.standardError) = (reading, reading)
        try process.start()
        writing.fileHandleForWriting.write(Data(input.utf8))
        try writing.fileHandleForWriting.close()
        let text = String(decoding: reading.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return text
    }

    /// The server's response to a request over TLS.
    private func get(_ path: String, of port: UInt16, _ fields: String = "", method: String = "GET") throws -> Response
    {
        let text = try talk(
            "\(method) \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\(fields)\r\n", to: port, ["-quiet"])
        let start = try #require(text.range(of: "HTTP/1.1 "), "\(text)")
        return try Response(bytes: Array(text[start.lowerBound...].utf8))
    }

    /// The certificate that the server presents, in PEM.
    private func certificate(of port: UInt16) throws -> String {
        let text = try talk("", to: port)
        let end = "-----END CERTIFICATE-----"
        let range = try #require(text.firstRange(of: /-----BEGIN CERTIFICATE-----[^-]*/), "\(text)")
        return text[range] + end
    }

    private func firstCertificate(in path: String) throws -> String {
        let text = contents(of: path)
        return try #require(text.components(separatedBy: "-----END CERTIFICATE-----").first)
            + "-----END CERTIFICATE-----"
    }

    private func port(of scheme: String, _ server: Server) throws -> UInt16 {
        let match = try server.output.firstMatch(of: Regex("\(scheme)://127\\.0\\.0\\.1:(\\d+)"))
        return try #require(match?[1].substring.flatMap { UInt16($0) }, "\(server.output)")
    }

    @Test func theLogShowsTheSchemesAndTheCertificatesEnd() throws {
        let path = NSTemporaryDirectory() + "emq-\(UUID().uuidString).sock"
        let server = try start(
            .good, ["--addr", "127.0.0.1:0", "--addr", "http://127.0.0.1:0", "--addr", "unix:\(path)"],
            "--htq", "127.0.0.1:0")
        let lines = try eventually("three lines") {
            let lines = server.output.split(separator: "\n")
            return lines.count < 3 ? nil : lines
        }
        #expect(
            lines[0].firstMatch(
                of: /listening on https:\/\/127\.0\.0\.1:\d+ and http:\/\/127\.0\.0\.1:\d+ and unix:\/.*\.sock;/)
                != nil,
            "\(lines)")
        #expect(lines[1].contains("replacing htq at https://127.0.0.1:"))
        #expect(lines[2].firstMatch(of: /ends on \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$/) != nil)
        let health = try get("/healthz", of: port(of: "https", server))
        let plain = try Client(port: port(of: "http", server)).get("/healthz")
        #expect(health.status == 200 && health.body == plain.body.trimmingCharacters(in: .newlines) + "\n")
        #expect(try Client(path: path).get("/healthz").status == 200)
    }

    @Test func itShowsWhenTheCertificateEnds() throws {
        let server = try start(.endingSoon)
        let now = Date().timeIntervalSince1970
        for path in ["/healthz", "/stats/"] {
            let end = try #require(try get(path, of: server.port).object["certificate_end"] as? Double)
            #expect((4.9...5.1).contains((end - now) / 86_400), "\(path)")
        }
        _ = try eventually("the warning") { server.output.contains("in 4 days; renew it") ? true : nil }
        let plain = try Server()
        for path in ["/healthz", "/stats/"] { #expect(try plain.get(path).object["certificate_end"] == nil) }
    }

    @Test func itStaysHealthyAfterTheCertificatesEnd() throws {
        let server = try start(.expired, ["--addr", "http://127.0.0.1:0", "--addr", "127.0.0.1:0"])
        let health = try Client(port: port(of: "http", server), expectsLines: true).get("/healthz")
        #expect(health.status == 200)
        let end = try #require(try health.object["certificate_end"] as? Double)
        #expect(end < Date().timeIntervalSince1970)
        _ = try eventually("the warning") { server.output.contains("so clients refuse it; renew it") ? true : nil }
    }

    @Test func aSIGHUPTakesUpARenewedCertificateAndABadOneKeepsTheOld() throws {
        let directory = DataDirectory()
        try FileManager.default.createDirectory(atPath: directory.path, withIntermediateDirectories: true)
        let (chain, key) = ("\(directory.path)/chain.pem", "\(directory.path)/key.pem")
        func copy(_ source: String, _ target: String) throws {
            try Data(contentsOf: URL(fileURLWithPath: source)).write(to: URL(fileURLWithPath: target))
        }
        let (old, new) = (try Certificates.shared.pair(.good), try Certificates.shared.pair(.endingSoon))
        try copy(old.chain, chain)
        try copy(old.key, key)
        let server = try Server(["--addr", "127.0.0.1:0", "--tls-cert", chain, "--tls-key", key])
        #expect(try certificate(of: server.port) == firstCertificate(in: old.chain))
        try copy(new.chain, chain)
        server.signal(SIGHUP)
        _ = try eventually("the refusal") { server.output.contains(" stays in use: ") ? true : nil }
        #expect(try certificate(of: server.port) == firstCertificate(in: old.chain))
        try copy(new.key, key)
        server.signal(SIGHUP)
        _ = try eventually("the new one") { server.output.contains("'\(chain)' again; it ends on ") ? true : nil }
        #expect(try certificate(of: server.port) == firstCertificate(in: new.chain))
    }

    @Test func aSIGHUPDoesNotStopAServerWithoutACertificate() throws {
        let server = try Server()
        let client = try server.connect()
        server.signal(SIGHUP)
        _ = try eventually("the line") { server.output.contains("SIGHUP: there is no certificate") ? true : nil }
        #expect(try client.get("/healthz").status == 200)
        server.signal(SIGTERM)
        #expect(try server.exitStatus() == 0)
    }

    @Test func filesThatCannotBeUsedEndTheProgramWithASentence() throws {
        let (good, other) = (try Certificates.shared.pair(.good), try Certificates.shared.pair(.renewed))
        let (rsa, encrypted) = (try Certificates.shared.pair(.rsa), try Certificates.shared.pair(.encrypted))
        for (arguments, words) in [
            (["--tls-cert", "/nowhere.pem", "--tls-key", good.key], "/nowhere.pem': No such file or directory"),
            (["--tls-cert", good.chain, "--tls-key", "/nowhere.key"], "/nowhere.key': No such file or directory"),
            (["--tls-cert", good.key, "--tls-key", good.chain], "'\(good.key)' has no valid certificate in PEM"),
            (["--tls-cert", good.chain, "--tls-key", good.chain], "'\(good.chain)' has no valid key in PEM"),
            (["--tls-cert", good.chain, "--tls-key", other.key], "'\(other.key)' does not belong to the certificate"),
            (["--tls-cert", good.chain, "--tls-key", rsa.key], "'\(rsa.key)' does not belong to the certificate"),
            (["--tls-cert", good.chain, "--tls-key", encrypted.key], "'\(encrypted.key)' has a password; "),
            (
                ["--tls-cert", good.chain, "--tls-key", good.key, "--tls-client-ca", good.key],
                "'\(good.key)' has no valid certificate in PEM"
            ),
            (["--push", "private", "--tls-ca", "/nowhere.pem"], "/nowhere.pem': No such file or directory"),
            (["--push", "private", "--tls-ca", good.key], "'\(good.key)' has no valid certificate in PEM"),
        ] {
            let result = try Server.run(["--addr", "127.0.0.1:0"] + arguments)
            #expect(result.status == 2, "\(arguments)")
            #expect(result.error.hasPrefix("emq: ") && result.error.contains(words), "\(result.error)")
            #expect(result.error.filter { $0 == "\n" }.count == 1)
        }
    }

    @Test func onlyClientsWithACertificateMayConnect() throws {
        let server = try start(
            .good, ["--addr", "127.0.0.1:0"], "--tls-client-ca", try Certificates.shared.authorityFile)
        let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        let (known, foreign) = (try Certificates.shared.pair(.client), try Certificates.shared.pair(.foreignClient))
        let accepted = try talk(
            request, to: server.port, ["-quiet", "-cert", known.chain, "-cert_chain", known.chain, "-key", known.key])
        #expect(accepted.contains("HTTP/1.1 200 "), "\(accepted)")
        for arguments in [[], ["-cert", foreign.chain, "-key", foreign.key]] {
            let refused = try talk(request, to: server.port, ["-quiet"] + arguments)
            #expect(!refused.contains("HTTP/1.1"), "\(refused)")
        }
    }

    @Test func theWrongProtocolIsExplained() throws {
        let server = try start(.good, ["--addr", "http://127.0.0.1:0", "--addr", "127.0.0.1:0"])
        let answer = try Client(port: port(of: "https", server)).get("/healthz")
        #expect(answer.status == 400 && answer.fields["content-type"]?.hasPrefix("text/plain") == true)
        #expect(answer.body.contains("https://"))
        // The log says so at most once a minute.
        for _ in 0..<3 { #expect(try !talk("", to: port(of: "http", server)).contains("BEGIN CERTIFICATE")) }
        let line = "closed a connection on which a client spoke TLS, because the address speaks plain HTTP"
        _ = try eventually("the line") { server.output.contains(line) ? true : nil }
        #expect(server.output.components(separatedBy: line).count == 2)
    }

    @Test func aPageMustBeLoadedOverTLSAsWell() throws {
        let server = try start()
        for (origin, status) in [("https://localhost", 200), ("http://localhost", 403), ("https://evil.example", 403)] {
            let answer = try get(
                "/pause/q", of: server.port, "Origin: \(origin)\r\nContent-Length: 0\r\n", method: "POST")
            #expect(answer.status == status, "\(origin)")
        }
    }

    @Test func linksOfHtqHaveTheSchemeOfTheRequest() throws {
        let server = try start(
            .good, ["--addr", "unix:\(NSTemporaryDirectory())emq-\(UUID().uuidString).sock"],
            "--htq", "127.0.0.1:0")
        let fields = try get("/", of: port(of: "https", server)).fields
        #expect(fields["link"]?.contains("<https://localhost/") == true, "\(fields)")
    }

    @Test func theLoadGeneratorSpeaksTLS() throws {
        let server = try start()
        let url = "https://localhost:\(server.port)/"
        let options = ["--operations", "200", "--connections", "3", "--idle-waiters", "2", "--size", "20000"]
        let result = try Server.run(["bench", "--url", url, "--ca", try Certificates.shared.authorityFile] + options)
        #expect(result.status == 0, "\(result.error)")
        let one = try Server.run(
            ["bench", "--url", url, "--ca", try Certificates.shared.authorityFile, "--operations", "1"])
        #expect(one.status == 0, "\(one.error)")
        #expect(result.output.split(separator: "\n").count == 7, "\(result.output)")
        let refused = try Server.run(["bench", "--url", url] + options)
        #expect(refused.status == 1 && refused.error.hasPrefix("emq bench: "), "\(refused.error)")
        #expect(refused.error.filter { $0 == "\n" }.count == 1)
        #expect(refused.error.contains("neither sent by the host nor one of those that emq trusts"), "\(refused.error)")
        #expect(refused.error.contains("--ca"))
        let plain = try Server.run(["bench", "--url", "http://localhost:\(server.port)"] + options)
        #expect(plain.error.contains("closed the connection: this port speaks TLS"), "\(plain.error)")
    }

    @Test func aTaskSaysThatItsReceiverRequiresACertificateOrIsNotTrusted() throws {
        let authority = try Certificates.shared.authorityFile
        let receiver = try start(.good, ["--addr", "127.0.0.1:0"], "--tls-client-ca", authority)
        for (options, words) in [
            (["--tls-ca", authority], "it requires a certificate of its clients"),
            ([], "nor one of those that emq trusts: the system's issuers and those of --tls-ca"),
        ] {
            let server = try Server(["--addr", "127.0.0.1:0", "--push", "127.0.0.1"] + options)
            let id = try server.enqueue(
                "q", "\"max_retries\": 0, \"request\": {\"url\": \"https://127.0.0.1:\(receiver.port)/\"}")
            let error = try eventually("the failure") { try server.task(id)["error"] as? String }
            #expect(error.contains(words), "\(error)")
        }
    }

    @Test func aCommonNameIsNoHost() throws {
        let server = try start(.commonNameOnly)
        let result = try Server.run(
            [
                "bench", "--url", "https://localhost:\(server.port)", "--ca", try Certificates.shared.authorityFile,
                "--operations", "1",
            ])
        #expect(result.status == 1 && result.error.contains("names no host"), "\(result)")
    }
}
