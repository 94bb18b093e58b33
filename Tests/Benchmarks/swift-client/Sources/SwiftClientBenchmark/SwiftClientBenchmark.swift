// Measures round trips of the Swift client: enqueue, wait and acknowledge, one after the other.

import EMQClient

@main struct SwiftClientBenchmark {
    /// Prints how many microseconds a round trip takes, on Swift's own threads or on the client's thread.
    static func main() async throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 4, let operations = Int(arguments[3]), ["pool", "loop"].contains(arguments[2]) else {
            print("usage: SwiftClientBenchmark URL pool|loop OPERATIONS")
            return
        }
        let client = try EMQClient(arguments[1])
        let queue = "swift-client-\(UInt32.random(in: .min ... .max))"
        let run: @Sendable () async throws -> Void = {
            // The first ones open connections.
            try await cycles(100, client, queue)
            let start = ContinuousClock.now
            try await cycles(operations, client, queue)
            let (seconds, attoseconds) = (ContinuousClock.now - start).components
            print((Double(seconds) * 1e6 + Double(attoseconds) / 1e12) / Double(operations))
        }
        if arguments[2] == "loop" {
            try await Task(executorPreference: client.taskExecutor) { try await run() }.value
        } else {
            try await Task { try await run() }.value
        }
        await client.close()
    }

    private static func cycles(_ count: Int, _ client: EMQClient, _ queue: String) async throws {
        // The same as `emq bench` sends: no key, so that both make the server do the same.
        let content = String(repeating: "x", count: 100)
        for _ in 0..<count {
            try await client.enqueue(content, to: queue, options: TaskOptions(isRepeatable: false))
            for task in try await client.wait(for: queue, timeout: .seconds(10)) { try await client.ack(task) }
        }
    }
}
