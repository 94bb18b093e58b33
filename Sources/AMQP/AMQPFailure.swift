// Why a RabbitMQ gives no messages, in words.

/// Why a connection to a RabbitMQ cannot be opened, or has ended.
public struct AMQPFailure: Error, Equatable, Sendable, CustomStringConvertible {
    /// A clause without an initial capital and a full stop. It never has the password.
    public let description: String
    /// Whether the configuration is at fault (an address that is refused, a certificate, a password, a queue), so that
    /// trying again does not help until somebody changes something. Otherwise the moment is.
    public let isPermanent: Bool

    /// A failure of the moment, unless `isPermanent`.
    public init(_ description: String, isPermanent: Bool = false) {
        self.description = description
        self.isPermanent = isPermanent
    }
}
