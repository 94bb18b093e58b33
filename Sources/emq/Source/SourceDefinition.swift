// What a source is: the messages of which RabbitMQ queue become tasks of which queue here.

import AMQP

/// The definition of a source, as a client or taskqueue's file gives it.
struct SourceDefinition: Equatable {
    /// How many messages RabbitMQ may send before the first of them is acknowledged.
    static let prefetches: ClosedRange<Int64> = 1...65_535
    static let usualPrefetch = 1000
    static let usualUniqueForMilliseconds: Int64 = 600_000

    /// Where the RabbitMQ is.
    var url: AMQPURL
    /// The RabbitMQ queue whose messages it takes.
    var queue: [UInt8]
    /// The queue here that it adds tasks to.
    var into: [UInt8]
    /// How many messages may be unacknowledged.
    var prefetch = usualPrefetch
    /// How long the `message_id` of a message stays taken as a key; 0 if message ids are not keys.
    var uniqueForMilliseconds = usualUniqueForMilliseconds
    /// Whether it takes no messages until it is resumed.
    var isPaused = false
    /// Whether it is a section of taskqueue's file.
    var isOfTaskqueue = false
}
