// Configurations, defaults and sources.

import Bytes
import JSON

extension EMQClient {
    // MARK: Configurations

    /// The configuration of a queue; without settings if there is none.
    ///
    /// - Parameter queue: The queue.
    /// - Returns: The configuration.
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func configuration(of queue: String) async throws -> QueueConfiguration {
        try await perform(Call("GET", Call.target("/config/", name: queue)), as: QueueConfiguration.self)
    }

    /// Replaces the configuration of a queue.
    ///
    /// - Parameters:
    ///   - configuration: The whole configuration.
    ///   - queue: The queue.
    ///   - dryRun: Whether to check everything and change nothing.
    /// - Returns: The configuration as the server has it.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func setConfiguration(
        _ configuration: QueueConfiguration, of queue: String, dryRun: Bool = false
    ) async throws -> QueueConfiguration {
        try await change("PUT", Self.target("/config/", queue, dryRun), try Self.encoded(configuration))
    }

    /// Changes some settings of a queue. What the patch does not name stays as it is.
    ///
    /// - Parameters:
    ///   - patch: The settings to change. A member that is `null` removes the setting; ``RawJSON`` and dictionaries
    ///     can have one.
    ///   - queue: The queue.
    ///   - dryRun: Whether to check everything and change nothing.
    /// - Returns: The configuration as the server has it.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func patchConfiguration(
        _ patch: some Encodable, of queue: String, dryRun: Bool = false
    ) async throws -> QueueConfiguration {
        try await change("PATCH", Self.target("/config/", queue, dryRun), try Self.encoded(patch))
    }

    /// Removes the configuration of a queue.
    ///
    /// - Parameters:
    ///   - queue: The queue.
    ///   - dryRun: Whether to check everything and change nothing.
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func deleteConfiguration(of queue: String, dryRun: Bool = false) async throws {
        _ = try await perform(Call("DELETE", Self.target("/config/", queue, dryRun)))
    }

    // MARK: Defaults

    /// The defaults of all queues.
    ///
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func defaults() async throws -> QueueConfiguration {
        try await perform(Call("GET", "/defaults/"), as: QueueConfiguration.self)
    }

    /// Replaces the defaults of all queues.
    ///
    /// - Parameters:
    ///   - defaults: All defaults. They have no `push`.
    ///   - dryRun: Whether to check everything and change nothing.
    /// - Returns: The defaults as the server has them.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func setDefaults(
        _ defaults: QueueConfiguration, dryRun: Bool = false
    ) async throws -> QueueConfiguration {
        try await change("PUT", Self.target("/defaults/", "", dryRun), try Self.encoded(defaults))
    }

    /// Changes some of the defaults of all queues.
    ///
    /// - Parameters:
    ///   - patch: The settings to change. Members that are `null` are removed.
    ///   - dryRun: Whether to check everything and change nothing.
    /// - Returns: The defaults as the server has them.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func patchDefaults(
        _ patch: some Encodable, dryRun: Bool = false
    ) async throws -> QueueConfiguration {
        try await change("PATCH", Self.target("/defaults/", "", dryRun), try Self.encoded(patch))
    }

    /// Removes the defaults of all queues.
    ///
    /// - Parameter dryRun: Whether to check everything and change nothing.
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func deleteDefaults(dryRun: Bool = false) async throws {
        _ = try await perform(Call("DELETE", Self.target("/defaults/", "", dryRun)))
    }

    private static func target(_ path: String, _ name: String, _ dryRun: Bool) -> String {
        Call.target(path, name: name, query: [("dry_run", dryRun ? "true" : nil)])
    }

    private static func encoded(_ settings: some Encodable) throws -> [UInt8] {
        guard var configuration = settings as? QueueConfiguration else { return try JSONEncoding.encode(settings) }
        configuration.removed = nil
        return try JSONEncoding.encode(configuration, style: .interface)
    }

    private nonisolated(nonsending) func change<Value: Decodable>(
        _ method: String, _ target: String, _ body: [UInt8]
    ) async throws -> Value {
        var call = Call(method, target)
        call.body = body
        return try await perform(call, as: Value.self)
    }

    // MARK: Sources

    /// Shows a source.
    ///
    /// - Parameter name: Its name.
    /// - Returns: The source.
    /// - Throws: ``EMQError``, with ``ProblemType/noSuchSource`` if there is none.
    public nonisolated(nonsending) func source(_ name: String) async throws -> SourceStatus {
        try await perform(Call("GET", Call.target("/source/", name: name)), as: SourceStatus.self)
    }

    /// All sources, by their names.
    ///
    /// - Throws: ``EMQError``.
    public nonisolated(nonsending) func sources() async throws -> [String: SourceStatus] {
        struct Sources: Decodable { let sources: [String: SourceStatus] }
        return try await perform(Call("GET", "/source/"), as: Sources.self).sources
    }

    /// Defines a source, or replaces its definition.
    ///
    /// - Parameters:
    ///   - name: Its name.
    ///   - definition: What it takes from where.
    /// - Returns: The source. Its connection is only being opened.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func setSource(
        _ name: String, _ definition: SourceDefinition
    ) async throws -> SourceStatus {
        try await change(
            "PUT", Call.target("/source/", name: name), try JSONEncoding.encode(definition, style: .interface))
    }

    /// Removes a source. Its messages go back to RabbitMQ if they are not tasks yet.
    ///
    /// - Parameter name: Its name.
    /// - Throws: ``EMQError``, with ``ProblemType/noSuchSource`` if there is none.
    public nonisolated(nonsending) func deleteSource(_ name: String) async throws {
        try await delete(Call.target("/source/", name: name), gone: .noSuchSource)
    }

    /// Closes the connection of a source.
    ///
    /// - Parameter name: Its name.
    /// - Returns: The source.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func pauseSource(_ name: String) async throws -> SourceStatus {
        try await perform(Call("POST", Call.target("/source/", name: name) + "/pause"), as: SourceStatus.self)
    }

    /// Opens the connection of a source again.
    ///
    /// - Parameter name: Its name.
    /// - Returns: The source.
    /// - Throws: ``EMQError``.
    @discardableResult
    public nonisolated(nonsending) func resumeSource(_ name: String) async throws -> SourceStatus {
        try await perform(Call("POST", Call.target("/source/", name: name) + "/resume"), as: SourceStatus.self)
    }
}
