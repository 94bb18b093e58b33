// Why a RabbitMQ gives no messages, in words.

/// Why a connection to a RabbitMQ cannot be opened, or has ended.
public struct AMQPFailure: Error, Equatable, Sendable, CustomStringConvertible {
    /// A clause without an initial capital and a full stop. It never has the password.
    public let description: String
    /// Whether trying again would do harm: a message cannot be taken, and each new connection would send it and those
    /// behind it back to their queue, which RabbitMQ may only allow a number of times.
    public let isFinal: Bool

    /// Makes a failure after which it makes sense to try again, unless `isFinal`.
    public init(_ description: String, isFinal: Bool = false) {
        self.description = description
        self.isFinal = isFinal
    }
}
