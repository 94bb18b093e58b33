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

    static let help = """
        emq bench: a load generator for a running emq

        usage: emq bench [options]

          --addr ADDRESS       the server's address: localhost:8080 (default) or unix:/path
          --url URL            the server's URL instead, such as https://queue.example.com:8443
          --ca FILE            trust these issuers too (PEM), for an https URL
          --phases LIST        what to measure, in this order (default: all phases)
                                 enqueue  one task per request
                                 drain    take a task, then acknowledge it
                                 cycle    enqueue, take and acknowledge, one after the other
                                 chain    enqueue, then take a task and acknowledge the last one in one request
                                 batch    100 tasks per request; counts each task as an operation
                                 wakeup   the time from an enqueue to the delivery to a waiting worker
          --connections N      connections at once (default 32)
          --operations N       operations per phase (default 100000; at most 10000 for wakeup)
          --size BYTES         the size of each task's content (default 100)
          --idle-waiters N     long polls to keep open on other queues (default 0)
          --pid N              the server's process id, to show its CPU time

        The benchmark uses a queue of its own and leaves it empty if it ends without an error. Each connection
        has one request in flight. Times are in microseconds per request; for wakeup, per delivery.
        If the server needs a token, set EMQ_TOKEN to one that allows enqueue and work.
        """

    /// Reads the command line after `bench`.
    ///
    /// - Throws: `UsageError` with one line that says what is wrong.
    init(_ arguments: [String], token: String? = ProcessStart.environment["EMQ_TOKEN"]) throws(UsageError) {
        if let token, !token.isEmpty {
            guard token.utf8.allSatisfy({ 0x20 < $0 && $0 < 0x7F }) else {
                throw UsageError("EMQ_TOKEN has blanks or control characters")
            }
            authorization = "Authorization: Bearer \(token)\r\n"
        }
        var rest = arguments[...]
        var given: Set<String> = []
        while let flag = rest.popFirst() {
            let known = [
                "--addr", "--url", "--ca", "--phases", "--connections", "--operations", "--size", "--idle-waiters",
                "--pid", "--help",
            ]
            guard flag.hasPrefix("-") else { throw UsageError("unknown argument '\(flag)'; give options only") }
            guard known.contains(flag) else {
                throw UsageError("unknown option '\(flag)'; \(nearestName(to: flag, among: known))")
            }
            guard let value = rest.popFirst() else { throw UsageError("\(flag) needs a value") }
            given.insert(flag)
            switch flag {
            case "--addr": endpoint = try Endpoint(value)
            case "--url": endpoint = try BenchOptions.url(value)
            case "--ca": issuersPath = try Options.path(value, of: flag)
            case "--phases": phases = try BenchOptions.phases(value)
            case "--connections": connections = try BenchOptions.number(flag, value, 1...100_000)
            case "--operations": operations = try BenchOptions.number(flag, value, 1...3_000_000)
            case "--size": contentBytes = try BenchOptions.number(flag, value, 0...1_000_000)
            case "--idle-waiters": idleWaiters = try BenchOptions.number(flag, value, 0...100_000)
            default: serverProcess = try BenchOptions.number(flag, value, 1...Int(Int32.max))
            }
        }
        if given.isSuperset(of: ["--addr", "--url"]) { throw UsageError("give --addr or --url, not both") }
        if given.contains("--ca"), endpoint.isSecure != true {
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

    private static func number(
        _ flag: String, _ value: String, _ range: ClosedRange<Int>
    ) throws(UsageError) -> Int {
        guard let number = Int(value), range.contains(number) else {
            throw UsageError(
                "\(flag) must be a whole number from \(range.lowerBound) to \(range.upperBound), not '\(value)'")
        }
        return number
    }
}
