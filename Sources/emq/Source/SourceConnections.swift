// The connections of all sources: opening them within their limits, and seeing to it that closed ones end.

import AMQP
import Delivery
import Net

/// Opens connections for sources, and ends them.
final class SourceConnections {
    typealias Opener = (AMQPSettings, SourceDefinition) throws(AMQPFailure) -> any MessageConsumer

    private let opener: Opener
    let log: Log
    private var ending: [SourceConnection] = []
    /// The memory of messages that are not stored yet. A quarter of the server's memory.
    private(set) var budget = MessageBudget(limit: 0)
    private var maximumMemoryBytes = 0
    /// The time of the turn.
    private(set) var now: Int64 = 0

    init(_ opener: @escaping Opener, log: Log) {
        self.opener = opener
        self.log = log
    }

    /// How many connections are ending.
    var endingCount: Int { ending.count }

    /// Whether the last connection of a source is still ending. RabbitMQ has its messages back when it has ended.
    func isEnding(_ name: [UInt8]) -> Bool { ending.contains { $0.name == name } }

    func beginTurn(maximumMemoryBytes: Int, now: Int64) {
        self.now = now
        if maximumMemoryBytes == self.maximumMemoryBytes { return }
        self.maximumMemoryBytes = maximumMemoryBytes
        budget = MessageBudget(limit: maximumMemoryBytes / 4)
    }

    /// Starts to open a connection for a source.
    ///
    /// - Throws: `AMQPFailure` if there is no library, no thread or no descriptor.
    func open(_ name: [UInt8], _ definition: SourceDefinition) throws(AMQPFailure) -> SourceConnection {
        let settings = AMQPSettings(
            url: definition.url, queue: definition.queue, prefetch: UInt16(clamping: definition.prefetch),
            declaresQueue: definition.isOfTaskqueue, name: "emq source \(String(decoding: name, as: UTF8.self))",
            // While it arrives, a message takes its size twice.
            maximumContentByteCount: min(128 << 20, maximumMemoryBytes / 8),
            maximumHeldByteCount: min(1 << 20, maximumMemoryBytes / 64), budget: budget)
        return SourceConnection(try opener(settings, definition), of: name, now: now)
    }

    /// Ends a connection. What is not stored goes back to RabbitMQ.
    func close(_ connection: SourceConnection) { ending.append(connection) }

    /// Continues to end connections.
    ///
    /// - Parameter safeSequence: the frame up to which changes are safe.
    /// - Returns: when to call this again at the latest; nil if nothing is ending.
    func review(safeSequence: UInt64) -> Int64? {
        let deadlines = ending.compactMap { $0.end(safeSequence: safeSequence, now: now) }
        let count = ending.count
        ending.removeAll(where: \.hasEnded)
        // Their sources may connect again.
        return ending.count < count ? now : deadlines.min()
    }
}

extension Sources {
    /// The sources of a server, with connections that librabbitmq makes.
    ///
    /// - Parameters:
    ///   - options: the server's options.
    ///   - push: where the server may send; nil if it sends nothing.
    ///   - trust: the issuers whose certificates are accepted; nil for the system's.
    ///   - loop: the server's loop, which news of a connection wakes.
    convenience init(_ options: Options, push: Push?, trust: TLSTrust?, loop: EventLoop) {
        let connections: SourceConnections.Opener = { settings, definition throws(AMQPFailure) in
            // The operator of the server has written taskqueue's file.
            guard let push, push.sendsOwn || definition.isOfTaskqueue else {
                throw AMQPFailure(
                    "this server may not connect to RabbitMQ; start it with --push and the allowed destinations")
            }
            let policy = push.policy
            return try AMQPConsumer(
                settings, library: RabbitMQ.system.get(), trust: trust,
                refusal: { policy.refusal(of: $0, port: $1, host: $2) }, notify: { loop.wake() })
        }
        self.init(file: options.taskqueueFile, prefetch: options.prefetch, connections: connections)
    }
}
