// The command line of the load generator.

import Net

/// The options of `emq bench`.
struct BenchOptions {
    /// One measurement.
    enum Phase: String, CaseIterable {
        case enqueue, drain, cycle, chain, batch, wakeup
    }

    var endpoint = Endpoint(.tcp(host: "localhost", port: 8080))
    /// The path of issuers that are trusted beside the system's.
    var issuersPath: String?
    var phases = Phase.allCases
    var connections = 32
    var operations = 100_000
    var contentBytes = 100
    var idleWaiters = 0
    var serverProcess: Int?
    /// The header field that shows the token, with its line end; empty if there is none.
    var authorization = ""

    private static let address = CommandOption(
        "--addr", "ADDRESS", "the server's address: localhost:8080 (default) or unix:/path")
    private static let url = CommandOption(
        "--url", "URL", "the server's URL instead, such as https://queue.example.com:8443")
    private static let issuers = CommandOption(
        "--ca", "FILE", completion: .file, "trust these issuers too (PEM), for an https URL")
    private static let phaseList = CommandOption(
        "--phases", "LIST", "what to measure, in this order, with commas between (default: all phases)")
    private static let connectionCount = CommandOption("--connections", "N", "connections at once (default 32)")
    private static let operationCount = CommandOption(
        "--operations", "N", "operations per phase (default 100000; at most 10000 for wakeup)")
    private static let size = CommandOption("--size", "BYTES", "the size of each task's content (default 100)")
    private static let waiters = CommandOption(
        "--idle-waiters", "N", "long polls to keep open on other queues (default 0)")
    private static let process = CommandOption("--pid", "N", "the server's process id, to show its CPU time")

    static let command = Command(
        name: "bench", section: .server, summary: "measure a running server",
        text: [
            "The phases:",
            "  enqueue  one task per request",
            "  drain    take a task, then acknowledge it",
            "  cycle    enqueue, take and acknowledge, one after the other",
            "  chain    enqueue, then take a task and acknowledge the last one in one request",
            "  batch    100 tasks per request; counts each task as an operation",
            "  wakeup   the time from an enqueue to the delivery to a waiting worker",
            "The benchmark uses a queue of its own and leaves it empty if it ends without an error. Each connection has "
                + "one request in flight. Times are in microseconds per request; for wakeup, per delivery.",
            "If the server needs a token, set EMQ_TOKEN to one that allows enqueue and work.",
        ],
        options: [address, url, issuers, phaseList, connectionCount, operationCount, size, waiters, process],
        examples: [CommandExample("emq bench --phases enqueue,wakeup --connections 8", "measure two phases")],
        run: Bench.run)

    /// Reads the values of a command line.
    ///
    /// - Throws: `UsageError` with one line that says what is wrong.
    init(_ invocation: Invocation) throws(UsageError) {
        if let token = invocation.variable("EMQ_TOKEN") {
            guard token.utf8.allSatisfy({ 0x20 < $0 && $0 < 0x7F }) else {
                throw UsageError("EMQ_TOKEN has blanks or control characters")
            }
            authorization = "Authorization: Bearer \(token)\r\n"
        }
        if let value = invocation.value(of: Self.address) { endpoint = try Endpoint(value) }
        if let value = invocation.value(of: Self.url) { endpoint = try BenchOptions.url(value) }
        if let value = invocation.value(of: Self.issuers) { issuersPath = try Options.path(value, of: "--ca") }
        if let value = invocation.value(of: Self.phaseList) { phases = try BenchOptions.phases(value) }
        connections = try invocation.number(of: Self.connectionCount, in: 1...100_000) ?? connections
        operations = try invocation.number(of: Self.operationCount, in: 1...3_000_000) ?? operations
        contentBytes = try invocation.number(of: Self.size, in: 0...1_000_000) ?? contentBytes
        idleWaiters = try invocation.number(of: Self.waiters, in: 0...100_000) ?? idleWaiters
        serverProcess = try invocation.number(of: Self.process, in: 1...Int(Int32.max))
        if invocation.has(Self.address), invocation.has(Self.url) {
            throw UsageError("give --addr or --url, not both")
        }
        if issuersPath != nil, endpoint.isSecure != true {
            throw UsageError("--ca requires an https URL, such as --url https://localhost:8443")
        }
    }

    private static func url(_ value: String) throws(UsageError) -> Endpoint {
        guard let isSecure = Endpoint.scheme(of: value) else {
            throw UsageError("--url must begin with http:// or https://, as in https://localhost:8443, not '\(value)'")
        }
        return try Endpoint(value, defaultPort: Endpoint.defaultPort(isSecure: isSecure))
    }

    private static func phases(_ list: String) throws(UsageError) -> [Phase] {
        var phases: [Phase] = []
        for name in list.split(separator: ",") {
            guard let phase = Phase(rawValue: String(name)) else {
                let known = Phase.allCases.map(\.rawValue).joined(separator: ", ")
                throw UsageError("--phases must be a list of \(known), not '\(name)'")
            }
            phases.append(phase)
        }
        if phases.isEmpty { throw UsageError("--phases must name at least one phase") }
        return phases
    }
}
