// Why a RabbitMQ gives no messages, in words.

/// Why a connection to a RabbitMQ cannot be opened, or has ended.
public struct AMQPFailure: Error, Equatable, Sendable, CustomStringConvertible {
    /// A clause without an initial capital and a full stop. It never has the password.
    public let description: String
    /// Whether the configuration is at fault (an address that is refused, a certificate, a password, a queue), so that
    /// trying again does not help until somebody changes something. Otherwise the moment is.
    public let isPermanent: Bool
    /// Whether trying again would do harm: a message cannot be taken, and each new connection would send it and those
    /// behind it back to their queue, which RabbitMQ may only allow a number of times.
    public let isFinal: Bool

    /// A failure of the moment, unless `isPermanent` or `isFinal`.
    public init(_ description: String, isPermanent: Bool = false, isFinal: Bool = false) {
        self.description = description
        self.isPermanent = isPermanent || isFinal
        self.isFinal = isFinal
    }
}
