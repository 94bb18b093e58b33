// How a client reaches its server: URLs, tokens, Unix sockets, TLS, and its limits.

import EMQClient
import Foundation
import Support
import Testing

@Suite(.byTurns, .timeLimit(.minutes(10))) struct ConnectionTests {
    private static let permissions = ["enqueue", "work", "read"]

    /// A server with a token, made by the program, for the queues `mail*`.
    private func locked(_ folder: Folder) async throws -> (world: World, token: String) {
        let made = try await onThread {
            let process = Process()
            process.executableURL = RunningServer.executable
            process.arguments = ["token", "new", "--name", "app", "--allow", "enqueue,work,read", "--queues", "mail*"]
            process.environment = programEnvironment
            let output = Pipe()
            process.standardOutput = output
            try process.start()
            defer { process.waitUntilExit() }
            return String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        }
        let lines = made.split(separator: "\n").map(String.init)
        try #require(lines.count == 2, "\(made)")
        let file = try folder.file("tokens.json", "{\"tokens\": [\(lines[1])]}")
        return (try await World(["--tokens", file]), lines[0])
    }

    @Test func aTokenAllowsWhatItSays() async throws {
        let folder = try Folder()
        let (world, token) = try await locked(folder)
        let client = try world.other(EMQClient.Options(token: token))
        try await client.enqueue(1, to: "mail")
        #expect(try await client.access().name == "app")
        #expect(await refusal { try await client.enqueue(1, to: "other") }?.type == .queueNotAllowed)
        #expect(await refusal { try await client.purge("mail") }?.type == .permissionMissing)
        let without = await refusal { try await world.client.enqueue(1, to: "mail") }
        #expect(without?.type == .authenticationRequired && without?.status == 401)
        let wrong = try world.other(EMQClient.Options(token: String(token.dropLast()) + "_"))
        let error = await refusal { try await wrong.enqueue(1, to: "mail") }
        #expect(error?.status == 401 && error?.kind == .refused)
        #expect(error.map { "\($0)".contains(token.dropLast()) } == false)
        // A worker that may not work ends, instead of trying for ever.
        let worker = await refusal { try await world.client.work("mail") { _ in } }
        #expect(worker?.type == .authenticationRequired)
    }

    @Test func aTokenMayBeInTheURLAndIsNeverShown() async throws {
        let folder = try Folder()
        let (world, token) = try await locked(folder)
        let url = "\(TestTLS.scheme)://\(token)@localhost:\(world.server.port)"
        let client = try EMQClient(url, options: trusting(EMQClient.Options()))
        try await client.enqueue(1, to: "mail")
        #expect(client.server == world.server.url)
        let error = await refusal { try await client.enqueue(1, to: "other") }
        #expect(error.map { "\($0) \($0.server ?? "") \($0.detail)".contains(token) } == false)
        #expect(error?.description.hasPrefix("POST /enqueue/other at \(world.server.url): ") == true)
    }

    @Test(arguments: ["a b", "a\nb", "", "ä", "a\u{7F}"])
    func aTokenWithAControlCharacterIsRefused(_ token: String) {
        let error = #expect(throws: EMQError.self) {
            try EMQClient("http://localhost", options: EMQClient.Options(token: token))
        }
        #expect(error?.kind == .invalidArgument)
    }

    @Test func optionsOutOfRangeAreRefused() {
        for options in [
            EMQClient.Options(timeout: .zero), EMQClient.Options(tries: 0), EMQClient.Options(connections: 1),
            EMQClient.Options(connections: 10_001), EMQClient.Options(issuersPath: "/nonexistent"),
        ] {
            let error = #expect(throws: EMQError.self) { try EMQClient("http://localhost", options: options) }
            #expect(error?.kind == .invalidArgument)
        }
        let options = EMQClient.Options(issuersPath: "/nonexistent")
        let error = #expect(throws: EMQError.self) { try EMQClient("https://localhost", options: options) }
        #expect(error?.detail.contains("/nonexistent") == true)
    }

    @Test func aUnixSocketIsAnAddress() async throws {
        let folder = try Folder()
        let path = "\(folder.path)/s"
        let world = try await World(["--addr", "unix:\(path)"])
        for url in ["unix:\(path)", "unix://\(path)"] {
            let client = try EMQClient(url)
            let id = try await client.enqueue("x", to: "q").id
            #expect(try await client.wait(for: "q", timeout: .seconds(60)).map(\.id) == [id])
            let error = await refusal { _ = try await client.task("x") }
            #expect(error?.server?.contains(path) == true && error?.type == .invalidID)
        }
        let nothing = try EMQClient("unix:\(folder.path)/none", options: EMQClient.Options(tries: 1))
        #expect(await refusal { try await nothing.enqueue(1, to: "q") }?.kind == .connection)
        withExtendedLifetime(world) {}
    }

    @Test(.enabled(if: TestTLS.isAvailable, "skipped: there is no OpenSSL 3"))
    func aCertificateMustBeOfAKnownIssuer() async throws {
        let (pair, authority, foreign) = try await onThread {
            (
                try Certificates.shared.pair(.good), try Certificates.shared.authorityFile,
                try Certificates.shared.foreignAuthorityFile
            )
        }
        let environment = ["EMQ_TLS_CERT": pair.chain, "EMQ_TLS_KEY": pair.key]
        let server = try await onThread {
            try RunningServer(["--addr", "https://127.0.0.1:0"], environment: environment)
        }
        let url = "https://localhost:\(server.port)"
        let client = try EMQClient(url, options: EMQClient.Options(issuersPath: authority))
        let id = try await client.enqueue(String(repeating: "x", count: 1 << 20), to: "q").id
        #expect(try await client.wait(for: "q", timeout: .seconds(60)).map(\.id) == [id])
        for path in [foreign, nil] {
            let stranger = try EMQClient(url, options: EMQClient.Options(issuersPath: path))
            let error = await refusal { try await stranger.enqueue(1, to: "q") }
            #expect(error?.kind == .connection && error?.detail.contains("certificate") == true, "\(error as Any)")
        }
        let elsewhere = EMQClient.Options(issuersPath: authority, tries: 2)
        let plain = await refusal {
            let client = try EMQClient("http://localhost:\(server.port)", options: elsewhere.withoutIssuers)
            try await client.enqueue(1, to: "q")
        }
        #expect(plain?.kind == .unexpectedAnswer || plain?.kind == .outcomeUnknown || plain?.kind == .connection)
        #expect(try await client.stats(of: "q").totals.enqueued == 1)
    }

    @Test(.enabled(if: TestTLS.isAvailable, "skipped: there is no OpenSSL 3"))
    func aHandshakeThatBreaksIsTriedAgain() async throws {
        let authority = try await onThread { try Certificates.shared.authorityFile }
        let listener = try TestSocket(listeningAt: .ipv4(port: 0))
        Thread { while let connection = listener.accept() { connection.close() } }.start()
        defer { listener.shutDown() }
        let problems = Notes<EMQError>()
        let options = EMQClient.Options(issuersPath: authority, tries: 3) { problem in
            if case .retrying(let error) = problem { problems.add(error) }
        }
        let client = try EMQClient("https://localhost:\(listener.localPort)", options: options)
        #expect(await refusal { try await client.enqueue(1, to: "q") }?.kind == .connection)
        #expect(problems.all.count == 2)
    }

    @Test func nobodyThereIsSaid() async throws {
        let port = try unusedPort()
        let problems = Notes<EMQError>()
        let options = EMQClient.Options(tries: 3) { problem in
            if case .retrying(let error) = problem { problems.add(error) }
        }
        let client = try EMQClient("http://localhost:\(port)", options: options)
        let error = await refusal { try await client.enqueue(1, to: "q") }
        #expect(error?.kind == .connection && error?.status == nil && error?.request == "POST /enqueue/q")
        #expect(error?.detail.contains("refused") == true && error?.server == "http://localhost:\(port)")
        #expect(problems.all.count == 2)
        #expect(try await !client.isHealthy())
        #expect(problems.all.count == 2)
    }

    @Test func aServerThatDoesNotAnswerTimesOut() async throws {
        let port = try SilentPort()
        let options = EMQClient.Options(timeout: .milliseconds(200))
        let client = try EMQClient("http://127.0.0.1:\(port.port)", options: options)
        #expect(await refusal { try await client.enqueue(1, to: "q") }?.kind == .timeout)
        let fake = try ScriptedServer([.silence])
        let waiting = try EMQClient(fake.url, options: trusting(options))
        #expect(await refusal { _ = try await waiting.stats(of: "q") }?.kind == .timeout)
    }

    @Test func connectionsAreReusedAndBounded() async throws {
        let world = try await World()
        let server = try ScriptedServer([.pass], to: world.server)
        let client = try EMQClient(server.url, options: trusting(EMQClient.Options(connections: 3)))
        for _ in 0..<20 { try await client.enqueue(1, to: "q") }
        #expect(server.connectionCount == 1)
        try await withThrowingTaskGroup { group in
            for _ in 0..<100 { group.addTask { try await client.enqueue(1, to: "q") } }
            try await group.waitForAll()
        }
        #expect(server.connectionCount <= 3)
        #expect(try await client.stats(of: "q").ready == 120)
    }
}

extension EMQClient.Options {
    fileprivate var withoutIssuers: Self {
        var options = self
        options.issuersPath = nil
        return options
    }
}
