// Looking at the server as a whole, and watching it.

import Bytes
import JSON

extension EMQClient {
    /// What is wrong with the server and its queues now.
    ///
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func alerts() async throws -> Alerts {
        try await perform(Call("GET", "/alerts/"), as: Alerts.self)
    }

    /// The workers that have given a name in the last hour, or that hold tasks.
    ///
    /// - Parameters:
    ///   - match: Only workers whose names match this pattern, in which `*` stands for any characters.
    ///   - sort: `oldest`, `held`, `name` or `last_seen`; nil for `oldest`.
    ///   - count: How many workers to show at most, up to 1000; nil for 100.
    /// - Returns: The workers.
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func workers(
        match: String? = nil, sort: String? = nil, count: Int? = nil
    ) async throws -> Workers {
        let query: [(String, String?)] = [("match", match), ("sort", sort), ("n", count.map(String.init))]
        return try await perform(Call("GET", Call.target("/workers/", query: query)), as: Workers.self)
    }

    /// Finds tasks by id, receipt or key, and queues by a part of their names.
    ///
    /// - Parameters:
    ///   - text: The text, up to 255 bytes.
    ///   - count: How many tasks, and how many queues, to find at most: 1 to 100; nil for 10.
    /// - Returns: What it has found.
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func search(_ text: String, count: Int? = nil) async throws -> SearchResults {
        let query: [(String, String?)] = [("q", text), ("n", count.map(String.init))]
        return try await perform(Call("GET", Call.target("/search/", query: query)), as: SearchResults.self)
    }

    /// The server's metrics in the text format of Prometheus.
    ///
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func metrics() async throws -> String {
        String(decoding: try await perform(Call("GET", "/metrics")).body, as: UTF8.self)
    }

    /// The metrics of each queue in the text format of Prometheus.
    ///
    /// - Parameters:
    ///   - match: Only queues whose names match this pattern, in which `*` stands for any characters.
    ///   - count: How many queues at most, up to 1000.
    /// - Returns: The text.
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func queueMetrics(
        match: String? = nil, count: Int? = nil
    ) async throws -> String {
        let query: [(String, String?)] = [("match", match), ("n", count.map(String.init))]
        let answer = try await perform(Call("GET", Call.target("/metrics/queues", query: query)))
        return String(decoding: answer.body, as: UTF8.self)
    }

    /// Whether the server is up, and neither recovers nor stops. It tries once.
    ///
    /// - Throws: `CancellationError` only.
    public nonisolated(nonsending) func isHealthy() async throws -> Bool {
        do {
            return try await health().status == "ok"
        } catch is EMQError {
            return false
        }
    }

    /// How the server is. It tries once.
    ///
    /// - Throws: ``EMQError`` if the server cannot be reached, recovers or stops.
    public nonisolated(nonsending) func health() async throws -> Health {
        var call = Call("GET", "/healthz")
        call.tries = 1
        return try await perform(call, as: Health.self)
    }

    /// The description of the server's interface in OpenAPI.
    ///
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func openAPI() async throws -> RawJSON {
        let call = Call("GET", "/openapi.json")
        let answer = try await perform(call)
        do throws(EMQError) { return try RawJSON(answer.body) } catch { throw strange(answer, to: call, "\(error)") }
    }

    /// What this client may do. It tells whether the client's token is valid.
    ///
    /// - Throws: ``EMQError`` with the status 401 without a valid token.
    public nonisolated(nonsending) func access() async throws -> Access {
        try await perform(Call("GET", "/access"), as: Access.self)
    }
}
