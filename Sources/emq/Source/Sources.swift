// All sources: those that clients have defined, and those of taskqueue's file.
//
// What has to survive a restart is in the broker's settings: the definition of a client's source in `source/NAME`, and
// in `taskqueue/NAME` that a source of taskqueue's file is paused.

import AMQP
import Bytes
import Queues

/// The sources of this server. They belong to the broker's thread.
final class Sources {
    /// The maximum number of sources.
    static let maximumCount = 100

    /// The prefetch of sources that do not say it.
    let prefetch: Int
    /// Why no messages can be taken on this machine, as a sentence without a full stop; nil if nothing is missing. It
    /// loads the library.
    let libraryFlaw: () -> String?
    /// Taskqueue's file. Its sections are sources if it names a server.
    private let file: TaskqueueFile?
    private let connections: SourceConnections
    private let log: Log
    private var sources: [[UInt8]: Source] = [:]
    private var hasBegun = false
    private var turnCount = 0
    // Unchecked, because each turn uses them, also without sources; each access is one read or write.
    @exclusivity(unchecked) private var deadline: Int64?
    /// Whether a source was changed since the beginning of the turn, so that it has to connect or to end.
    @exclusivity(unchecked) private var hasChanged = false
    /// Whether there are no sources, and no connections that still have to end.
    @exclusivity(unchecked) private var isIdle = false

    init(
        file: TaskqueueFile? = nil, prefetch: Int = SourceDefinition.usualPrefetch,
        libraryFlaw: @escaping () -> String? = Sources.flawOfSystem,
        connections: @escaping SourceConnections.Opener = { _, _ throws(AMQPFailure) in
            throw AMQPFailure("this server has no connections")
        }, log: Log = .standard
    ) {
        self.file = file
        self.prefetch = prefetch
        self.libraryFlaw = libraryFlaw
        self.log = log
        self.connections = SourceConnections(connections, log: log)
    }

    /// What the system lacks to take messages; nil if it lacks nothing.
    static func flawOfSystem() -> String? {
        if case .failure(let failure) = RabbitMQ.system { failure.description } else { nil }
    }

    // MARK: Turns

    /// Takes messages, stores them, and acknowledges those whose tasks are safe. Call this in each turn after the tasks
    /// of an earlier process are recovered. O(sources + messages).
    func beginTurn(_ context: inout Context, on broker: isolated Broker) {
        connections.beginTurn(maximumMemoryBytes: context.gate.maximumMemoryBytes, now: context.now)
        unsafe (hasChanged, deadline) = (false, nil)
        if unsafe isIdle { return }
        if !hasBegun { begin(on: broker) }
        unsafe isIdle = sources.isEmpty && connections.endingCount == 0
        if unsafe isIdle { return }
        // Another source comes first in each turn, so that none takes the whole budget of all turns.
        let order = Array(sources.values)
        turnCount &+= 1
        var budget = TurnBudget()
        for place in order.indices {
            let source = order[(place + turnCount % order.count) % order.count]
            if let next = source.turn(&context, &budget, on: broker) { unsafe deadline = min(deadline ?? .max, next) }
        }
        // After the turns, which may have closed connections.
        let end = connections.review(safeSequence: context.gate.durability?.safeSequence ?? .max)
        unsafe deadline = earliest([deadline, end])
    }

    /// When the next turn must begin at the latest; nil for no such time.
    var nextDeadline: Int64? { unsafe hasChanged ? connections.now : deadline }

    /// Whether there is no connection to a RabbitMQ.
    var isDisconnected: Bool { connections.endingCount == 0 && sources.values.allSatisfy(\.isDisconnected) }

    /// The memory of messages that are not stored yet, in bytes. O(1).
    var waitingByteCount: Int { unsafe isIdle ? 0 : connections.budget.usedByteCount }

    /// Makes the sources of an earlier process and of taskqueue's file.
    private func begin(on broker: isolated Broker) {
        hasBegun = true
        var paused: Set<[UInt8]> = []
        broker.forEachSetting { setting, value in
            if let name = Self.name(in: setting, after: Self.ofTaskqueue) { paused.insert(name) }
            guard let name = Self.name(in: setting, after: Self.ofClients) else { return }
            guard let definition = SourceDefinition(stored: value) else {
                return log.warning("its definition cannot be read; define it again", .text("source", name))
            }
            sources[name] = Source(name: name, definition: definition, connections: connections)
        }
        guard let file, let url = file.server else { return }
        for name in paused where file.sections[name] == nil { try? broker.setSetting(Self.ofTaskqueue + name, to: nil) }
        for name in file.sections.keys {
            if sources[name] != nil {
                log.warning(
                    "\(file.path) has this source, so the one that a client defined rests", .text("source", name))
            }
            sources[name] = Source(
                name: name,
                definition: SourceDefinition(
                    url: url, queue: name, into: name, prefetch: prefetch,
                    uniqueForMilliseconds: file.uniqueForMilliseconds, isPaused: paused.contains(name),
                    isOfTaskqueue: true), connections: connections)
        }
    }

    // MARK: Looking

    var isEmpty: Bool { sources.isEmpty }

    /// The source with a name; nil if there is none. O(1).
    func source(named name: [UInt8]) -> Source? { sources[name] }

    /// Calls `body` with each source, sorted bytewise by name. O(n log n).
    func forEach(_ body: (Source) -> Void) {
        for source in sources.values.sorted(by: { $0.name.lexicographicallyPrecedes($1.name) }) { body(source) }
    }

    // MARK: Changing

    /// Defines a source, or defines it anew. It is not one of taskqueue's file.
    ///
    /// - Throws: 503 if there are too many.
    func put(
        _ definition: SourceDefinition, named name: [UInt8], on broker: isolated Broker
    ) throws(Problem) -> Source {
        guard sources[name] != nil || sources.count + connections.endingCount < Self.maximumCount else {
            throw Problem(
                .tooManySources, "there are \(Self.maximumCount) sources, which is the most that the server can have")
        }
        try store(definition.stored, in: Self.ofClients + name, on: broker)
        if let source = sources[name] {
            source.update(definition)
            return source
        }
        let source = Source(name: name, definition: definition, connections: connections)
        sources[name] = source
        unsafe isIdle = false
        return source
    }

    /// Removes a source. It is not one of taskqueue's file.
    func remove(_ source: Source, on broker: isolated Broker) throws(Problem) {
        try store(nil, in: Self.ofClients + source.name, on: broker)
        sources[source.name] = nil
        source.disconnect()
    }

    /// Pauses or resumes a source.
    func setPaused(_ isPaused: Bool, _ source: Source, on broker: isolated Broker) throws(Problem) {
        var definition = source.definition
        if definition.isPaused == isPaused {
            // A resumption starts a source that has stopped, or waits to try again.
            source.update(definition)
            unsafe hasChanged = true
            return
        }
        definition.isPaused = isPaused
        if definition.isOfTaskqueue {
            try store(isPaused ? Array("paused".utf8) : nil, in: Self.ofTaskqueue + source.name, on: broker)
        } else {
            try store(definition.stored, in: Self.ofClients + source.name, on: broker)
        }
        source.update(definition)
    }

    /// The problem of a change to a source of taskqueue's file.
    var isFixed: Problem {
        Problem(
            .sourceFromFile,
            "this source comes from \(file?.path ?? "a file"); change it there, or pause and resume it here")
    }

    // MARK: Settings

    private static let ofClients = Array("source/".utf8)
    private static let ofTaskqueue = Array("taskqueue/".utf8)

    private static func name(in setting: [UInt8], after prefix: [UInt8]) -> [UInt8]? {
        setting.starts(with: prefix) ? Array(setting.dropFirst(prefix.count)) : nil
    }

    private func store(_ value: [UInt8]?, in setting: [UInt8], on broker: isolated Broker) throws(Problem) {
        do throws(BrokerError) { try broker.setSetting(setting, to: value) } catch { throw Problem(error) }
        unsafe hasChanged = true
    }
}
