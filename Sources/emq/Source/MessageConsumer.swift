// What a source needs of its connection to a RabbitMQ. Tests give messages without one.

import AMQP
import Delivery
import Net

/// A connection that consumes one queue of a RabbitMQ. It ends when it fails or is stopped, and is not used again.
protocol MessageConsumer: AnyObject {
    /// Takes what has happened since the last call.
    func takeNews() -> AMQPConsumer.News
    /// Says that messages are stored, so that as much as their bytes may be read.
    func noteStored(byteCount: Int)
    /// Acknowledges all messages up to a delivery.
    func acknowledge(through deliveryTag: UInt64)
    /// Ends the connection after the acknowledgements so far. Other messages go back to their queue.
    func stop()
    /// Breaks the connection, if `stop` takes too long.
    func interrupt()
}

extension AMQPConsumer: MessageConsumer {}

/// Opens connections for sources, and sees to it that closed ones end.
final class SourceConnections {
    typealias Opener = (AMQPSettings, SourceDefinition) throws(AMQPFailure) -> any MessageConsumer

    /// How long a connection may take to end, before it is broken.
    private static let endMilliseconds: Int64 = 3000

    private let opener: Opener
    /// Logs a line.
    let log: (String) -> Void
    /// The connections that are ending, and when they are broken.
    private var ending: [(consumer: any MessageConsumer, deadline: Int64)] = []
    /// The time of the turn.
    var now: Int64 = 0

    init(_ opener: @escaping Opener, log: @escaping (String) -> Void) {
        self.opener = opener
        self.log = log
    }

    /// Whether no connection is ending.
    var isEmpty: Bool { ending.isEmpty }

    /// Starts to open a connection for a source.
    ///
    /// - Throws: `AMQPFailure` if there is no library, no thread or no descriptor.
    func open(
        _ settings: AMQPSettings, for definition: SourceDefinition
    ) throws(AMQPFailure) -> any MessageConsumer {
        try opener(settings, definition)
    }

    /// Ends a connection.
    func close(_ consumer: any MessageConsumer) {
        consumer.stop()
        ending.append((consumer, now + Self.endMilliseconds))
    }

    /// Forgets connections that have ended, and breaks those that take too long.
    ///
    /// - Returns: when to call this again at the latest; nil if nothing is ending.
    func review() -> Int64? {
        ending.removeAll { $0.consumer.takeNews().hasEnded }
        for index in ending.indices where ending[index].deadline <= now {
            ending[index].consumer.interrupt()
            ending[index].deadline = .max
        }
        return ending.lazy.map(\.deadline).filter { $0 < .max }.min()
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
                    "this server may not connect to RabbitMQ; start it with --push and the allowed destinations",
                    isPermanent: true)
            }
            let policy = push.policy
            return try AMQPConsumer(
                settings, library: RabbitMQ.system.get(), trust: trust,
                refusal: { policy.refusal(of: $0, port: $1, host: $2) }, notify: { loop.wake() })
        }
        self.init(file: options.taskqueueFile, prefetch: options.prefetch, connections: connections)
    }
}
