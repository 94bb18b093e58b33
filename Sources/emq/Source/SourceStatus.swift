// What a source is doing, and what it has done.

/// What a source is doing.
enum SourceState: String, CaseIterable {
    /// It has no connection yet, or is about to consume.
    case connecting
    /// It takes messages.
    case consuming
    /// It is connected, but its queue takes no tasks at the moment.
    case waiting
    /// It has failed, and connects again after a pause.
    case retrying
    /// A message that it cannot take has stopped it.
    case stopped
    /// An operator has paused it.
    case paused
}

/// The status of a source. Its counts begin with the process.
struct SourceStatus {
    var state = SourceState.connecting
    /// How many messages are ready in the RabbitMQ queue; nil if that is not known.
    var lag: Int?
    /// How many messages have been received and are not acknowledged yet.
    var unacknowledged = 0
    /// How many messages have become tasks, or are known as duplicates.
    var messages: UInt64 = 0
    /// How many of them had the `message_id` of an earlier task.
    var duplicates: UInt64 = 0
    /// The last failure, as a clause; nil if there was none.
    var lastError: String?
    /// When it happened.
    var lastErrorTime: Int64?
}
