// A source's connection to RabbitMQ: the messages that wait to be stored, and those that wait to be acknowledged.

import AMQP

/// What a source needs of a connection that consumes one queue of a RabbitMQ. It ends when it fails or is stopped, and
/// is not used again. Tests give messages without a RabbitMQ.
protocol MessageConsumer: AnyObject {
    /// Takes what has happened since the last call.
    func takeNews() -> AMQPConsumer.News
    /// Says that messages are stored or dropped, so that as much as their bytes may be read.
    func release(byteCount: Int)
    /// Acknowledges all messages up to a delivery.
    func acknowledge(through deliveryTag: UInt64)
    /// Ends the connection after the acknowledgements so far. Other messages go back to their queue.
    func stop()
    /// Breaks the connection, if `stop` takes too long.
    func interrupt()
}

extension AMQPConsumer: MessageConsumer {}

/// A connection of a source, from its opening to its end.
final class SourceConnection {
    /// How long it may take until RabbitMQ has accepted the consumer.
    private static let beginMilliseconds: Int64 = 45_000
    /// How long the end waits until stored messages are safe, and then for RabbitMQ.
    private static let safetyMilliseconds: Int64 = 10_000
    private static let endMilliseconds: Int64 = 3000

    /// The source's name.
    let name: [UInt8]
    private let consumer: any MessageConsumer
    private let opened: Int64
    /// When RabbitMQ accepted the consumer; nil before that.
    private(set) var consumingSince: Int64?
    /// How many messages are ready in RabbitMQ, as it last said.
    private(set) var readyCount: Int?
    private(set) var hasEnded = false
    /// Why it has ended, or why it gives no more messages.
    private(set) var failure: AMQPFailure?
    /// The messages that are not stored yet, from `nextWaiting` on; those before are nil, so that they take no memory.
    private var waiting: [AMQPMessage?] = []
    private var nextWaiting = 0
    /// The tags of deliveries that are stored, and the frames that must be safe before they are acknowledged.
    private var stored: [(tag: UInt64, sequence: UInt64)] = []
    /// The tags of the deliveries that were received and acknowledged last.
    private var (receivedTag, acknowledgedTag): (UInt64, UInt64) = (0, 0)
    /// When the end goes on although something is missing; nil as long as it has not begun.
    private var endTime: Int64?
    private var isStopped = false

    init(_ consumer: any MessageConsumer, of name: [UInt8], now: Int64) {
        self.consumer = consumer
        self.name = name
        opened = now
    }

    /// How many messages have been received and not acknowledged.
    var unacknowledgedCount: Int { Int(clamping: receivedTag &- acknowledgedTag) }

    /// The first message that waits; nil if none does.
    var next: AMQPMessage? { nextWaiting < waiting.count ? waiting[nextWaiting] : nil }

    /// Takes what has happened.
    func update(now: Int64) {
        if hasEnded { return }
        let news = consumer.takeNews()
        if let last = news.messages.last {
            waiting.removeFirst(nextWaiting)
            nextWaiting = 0
            waiting += news.messages
            receivedTag = last.deliveryTag
        }
        readyCount = news.readyCount ?? readyCount
        if news.isConsuming, consumingSince == nil { consumingSince = now }
        failure = failure ?? news.failure
        guard news.hasEnded else { return }
        (hasEnded, failure) = (true, failure ?? AMQPFailure("the connection has ended"))
        dropWaiting()
    }

    /// When RabbitMQ must have accepted the consumer; nil if it has.
    var beginDeadline: Int64? { consumingSince == nil ? opened + Self.beginMilliseconds : nil }

    /// The failure of a connection that has not begun before `beginDeadline`.
    var lateFailure: AMQPFailure {
        AMQPFailure("RabbitMQ did not let emq consume the queue within \(Self.beginMilliseconds / 1000) s")
    }

    // MARK: Storing

    /// Takes the first message from those that wait, because it is stored.
    func removeNext() {
        waiting[nextWaiting] = nil
        nextWaiting += 1
    }

    /// Notes that all messages up to a delivery are stored.
    ///
    /// - Parameters:
    ///   - tag: the number of the delivery.
    ///   - sequence: the frame that must be safe before they are acknowledged.
    ///   - byteCount: the bytes of the messages.
    func noteStored(through tag: UInt64, sequence: UInt64, byteCount: Int) {
        stored.append((tag, sequence))
        consumer.release(byteCount: byteCount)
    }

    /// Acknowledges what is safe. O(turns in which something was stored).
    func acknowledge(upTo safeSequence: UInt64) {
        let count = stored.prefix { $0.sequence <= safeSequence }.count
        if count == 0 { return }
        acknowledgedTag = stored[count - 1].tag
        stored.removeFirst(count)
        consumer.acknowledge(through: acknowledgedTag)
    }

    private func dropWaiting() {
        let byteCount = waiting.reduce(0) { $0 + ($1?.byteCount ?? 0) }
        if byteCount > 0 { consumer.release(byteCount: byteCount) }
        (waiting, nextWaiting) = ([], 0)
    }

    // MARK: Ending

    /// Continues the end of a connection whose source does not want it any more: messages that are stored are
    /// acknowledged, the others go back to RabbitMQ. Those keep their memory until then, so that no more are read.
    ///
    /// - Returns: when to call this again at the latest; nil if only the connection's news matters.
    func end(safeSequence: UInt64, now: Int64) -> Int64? {
        update(now: now)
        if hasEnded { return nil }
        acknowledge(upTo: safeSequence)
        let time = endTime ?? now + Self.safetyMilliseconds
        endTime = time
        if !isStopped {
            guard stored.isEmpty || now >= time else { return time }
            consumer.stop()
            isStopped = true
            endTime = now + Self.endMilliseconds
            return endTime
        }
        guard now >= time else { return time }
        consumer.interrupt()
        endTime = .max
        return nil
    }
}
