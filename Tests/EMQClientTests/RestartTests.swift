// Many clients, and a server that is killed again and again.

import Bytes
import EMQClient
import Support
import Testing

@Suite(.byTurns, .timeLimit(.minutes(10))) struct RestartTests {
    /// A time in which a client had one task: from before it asked for it until the server knew the end.
    private struct Span: Sendable {
        let content: Int
        let id: String
        let start: ContinuousClock.Instant
        var end = ContinuousClock.now
        var isReported = true
    }

    private static let taskCount = isSanitized ? 400 : 1000
    private static let clientCount = 50

    private let folder: Folder
    private let spans = Notes<Span>()

    init() throws { folder = try Folder() }

    private func start(port: UInt16 = 0) async throws -> RunningServer {
        let arguments = ["--addr", "127.0.0.1:\(port)", "--data", folder.path, "--recovery-grace", "2"]
        return try await onThread { try RunningServer(arguments) }
    }

    /// Works on tasks until it is cancelled.
    private func work(_ client: EMQClient) async throws {
        var start = ContinuousClock.now
        for try await task in client.tasks("q", lease: .seconds(4)) {
            var span = Span(content: try task.decode(), id: task.id, start: start)
            do {
                try await client.process(task) { _ in try await Task.sleep(for: .milliseconds(2)) }
            } catch is EMQError {
                span.isReported = false
            }
            span.end = .now
            spans.add(span)
            start = .now
        }
    }

    @Test func nothingIsLostAndNothingDoneTwiceButWhatACrashMayRepeat() async throws {
        var server = try await start()
        let (url, port) = (server.url, server.port)
        let options = try trusting(EMQClient.Options(timeout: .seconds(100), tries: 1000))
        let clients = try (0..<Self.clientCount).map { _ in try EMQClient(url, options: options) }
        let workers = clients.map { client in Task { try await work(client) } }
        let producers = (0..<4).map { number in
            Task { [clients] in
                try await stride(from: number, to: Self.taskCount, by: 4).asyncMap { content in
                    let added = try await clients[number].enqueue(content, to: "q")
                    #expect(!added.existing)
                    return (content, added.id)
                }
            }
        }
        var kills: [ClosedRange<ContinuousClock.Instant>] = []
        for part in 1...3 {
            try await spans.reach(part * Self.taskCount / 4)
            let before = ContinuousClock.now
            let old = server
            old.signal(9)
            _ = try await onThread { try old.exitStatus() }
            kills.append(before...ContinuousClock.now)
            server = try await start(port: port)
        }
        var ids: [Int: String] = [:]
        for producer in producers { for (content, id) in try await producer.value { ids[content] = id } }
        let last = try EMQClient(url, options: options)
        try await soon("the end of all tasks") {
            let stats = try await last.stats(of: "q")
            return stats.ready + stats.dispatched + stats.delayed == 0 ? true : nil
        }
        for worker in workers { worker.cancel() }
        for worker in workers { _ = await worker.result }
        withExtendedLifetime(server) {}

        let done = Dictionary(grouping: spans.all, by: \.content)
        #expect(done.keys.sorted() == Array(0..<Self.taskCount))
        for (content, spans) in done {
            #expect(spans.allSatisfy { $0.id == ids[content] }, "\(content) was added twice")
            // All but the last time, a crash came between the dispatch and the report, or the lease was lost.
            for span in spans.sorted(by: { $0.start < $1.start }).dropLast() where span.isReported {
                #expect(kills.contains { $0.upperBound >= span.start && $0.lowerBound <= span.end }, "\(content) twice")
            }
        }
        let repetitions = spans.all.count - Self.taskCount
        print("\(repetitions) of \(Self.taskCount) tasks were done again after \(kills.count) crashes")
    }
}
