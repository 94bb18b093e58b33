// The client against the real server: a short way through everything.

import EMQClient
import Foundation
import Testing

/// A server on a free port, for as long as the object lives.
final class SmokeServer {
    private let process = Process()
    let url: String

    /// The program that EMQ names, or the one in the folder in which the tests were built.
    private static let executable: URL = {
        if let path = ProcessInfo.processInfo.environment["EMQ"] { return URL(fileURLWithPath: path) }
        let bundle = CommandLine.arguments.first { $0.contains(".xctest") } ?? CommandLine.arguments[0]
        var folder = URL(fileURLWithPath: bundle).deletingLastPathComponent()
        while folder.path != "/", !FileManager.default.isExecutableFile(atPath: folder.appending(path: "emq").path) {
            folder.deleteLastPathComponent()
        }
        return folder.appending(path: "emq")
    }()

    init() throws {
        let output = Pipe()
        process.executableURL = Self.executable
        process.arguments = ["--addr", "127.0.0.1:0"]
        process.standardError = output
        try process.start()
        var line = ""
        while !line.contains("127.0.0.1:") || !line.hasSuffix("\n") {
            let data = output.fileHandleForReading.availableData
            try #require(!data.isEmpty, "the server has ended: \(line)")
            line += String(decoding: data, as: UTF8.self)
        }
        let port = try #require(line.firstMatch(of: /127\.0\.0\.1:([0-9]+)/)).1
        url = "http://127.0.0.1:\(port)"
    }

    deinit {
        process.terminate()
        process.waitUntilExit()
    }
}

@Suite(.byTurns, .timeLimit(.minutes(10))) struct ClientSmokeTests {
    private struct Letter: Codable, Equatable {
        var to: String
        var weight: Double
        var number: UInt64
        var copies: [String?]
    }

    private let server: SmokeServer
    private let client: EMQClient

    init() throws {
        server = try SmokeServer()
        client = try EMQClient(server.url)
    }

    @Test(arguments: [
        "ftp://example.com", "http://", "http://localhost:99999", "http://localhost/?a", "unix:",
        "http://a:b@localhost",
        "http://to%0Aken@localhost",
    ])
    func aWrongURLIsRefusedAtOnce(_ url: String) {
        #expect { try EMQClient(url) } throws: { ($0 as? EMQError)?.kind == .invalidArgument }
    }

    @Test func contentsAndResultsAreSwiftValues() async throws {
        let letter = Letter(to: "änn \"\n\u{1F600}", weight: 0.1, number: .max, copies: ["a", nil])
        let added = try await client.enqueue(letter, to: "mail/eu", options: TaskOptions(keep: .seconds(60)))
        #expect(!added.existing)
        let task = try #require(try await client.wait(for: "mail/eu", timeout: .seconds(10)).first)
        #expect(task.id == added.id)
        #expect(task.key == nil)
        #expect(try task.decode(Letter.self) == letter)
        #expect(try await client.ack(task, result: ["status": 250]))
        #expect(try await !client.ack(task))
        let outcome = try await client.result(of: added.id, timeout: .seconds(10))
        #expect(outcome.state == .done)
        #expect(try outcome.decode([String: Int].self) == ["status": 250])
    }

    @Test func aContentMayBeAsDeepAsTheServerTakesIt() async throws {
        let deepest = try RawJSON(String(repeating: "[", count: 511) + String(repeating: "]", count: 511))
        let id = try await client.enqueue(deepest, to: "deep").id
        let task = try #require(try await client.wait(for: "deep").first)
        #expect(task.content == deepest)
        #expect(try await client.task(id).content == deepest)
        #expect(try await client.ack(task))
    }

    @Test func aRefusalSaysWhatIsWrong() async throws {
        do {
            try await client.enqueue("x", to: "q", options: TaskOptions(priority: 1000))
            Issue.record("the priority is out of range")
        } catch let error as EMQError {
            #expect(error.kind == .refused)
            #expect(error.type == .invalidField)
            #expect(error.status == 400)
            #expect(error.field == "priority")
            #expect(error.description.hasPrefix("POST /enqueue/q at \(server.url): "))
        }
    }

    @Test func aCancelledWaitTakesNothing() async throws {
        let waiting = Task { [client] in try await client.wait(for: "later", timeout: .seconds(60)) }
        while try await client.stats(of: "later").waiters == 0 { try await Task.sleep(for: .milliseconds(5)) }
        waiting.cancel()
        await #expect(throws: CancellationError.self) { try await waiting.value }
        try await client.enqueue(1, to: "later")
        let task = try #require(try await client.wait(for: "later", timeout: .seconds(10)).first)
        #expect(task.attempt == 1)
    }

    @Test func aWorkerEndsTasksAsItsWorkSays() async throws {
        let contents = ["good", "again", "bad", "back"]
        let tasks = try contents.map { try NewTask($0, options: TaskOptions(maxRetries: 1, keep: .seconds(60))) }
        let ids = try await client.enqueue(tasks, to: "work").map(\.id)
        let released = Flag()
        let worker = Task { [client] in
            try await client.work("work", concurrency: 4) { task in
                switch try task.decode(String.self) {
                case "again" where task.attempt == 1: throw Retry(after: .zero, "once more")
                case "bad": throw Dead("no use")
                case "back" where await released.set(): throw Release()
                default: return task.attempt
                }
            }
        }
        let outcomes = try await withThrowingTaskGroup { group in
            for (index, id) in ids.enumerated() {
                group.addTask { [client] in (index, try await client.result(of: id, timeout: .seconds(30))) }
            }
            return try await group.reduce(into: [Int: TaskOutcome]()) { $0[$1.0] = $1.1 }
        }
        #expect(try [0, 1, 3].map { try outcomes[$0]?.decode(Int.self) } == [1, 2, 1])
        #expect(outcomes[2]?.state == .dead)
        #expect(try await client.task(ids[2]).error == "no use")
        worker.cancel()
        await #expect(throws: CancellationError.self) { try await worker.value }
    }

    @Test func callsNeedNoOtherThreadOnTheClientsOwn() async throws {
        let id = try await Task(executorPreference: client.taskExecutor) { [client] in
            let id = try await client.enqueue(1, to: "own").id
            for task in try await client.wait(for: "own", timeout: .seconds(10)) { try await client.ack(task) }
            return id
        }.value
        await #expect(throws: EMQError.self) { try await client.task(id) }
    }

    @Test func aClosedClientEndsItsCalls() async throws {
        let waiting = Task { [client] in try await client.wait(for: "closing", timeout: .seconds(60)) }
        while try await client.stats(of: "closing").waiters == 0 { try await Task.sleep(for: .milliseconds(5)) }
        await client.close()
        await #expect { try await waiting.value } throws: { ($0 as? EMQError)?.kind == .closed }
        await #expect { try await client.health() } throws: { ($0 as? EMQError)?.kind == .closed }
    }
}

/// Says yes once.
private actor Flag {
    private var isSet = false

    func set() -> Bool {
        defer { isSet = true }
        return !isSet
    }
}
