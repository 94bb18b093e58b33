// The memory that messages may take between a RabbitMQ and their queues.

import Bytes

/// A number of bytes that all consumers of a server share. Any thread may use it.
public final class MessageBudget: Sendable {
    private let limit: Int
    private let used = Locked(0)

    /// A budget of which nothing is used.
    ///
    /// - Parameter limit: how many bytes may be used. One consumer may use more, if nobody else uses any.
    public init(limit: Int) { self.limit = limit }

    /// How many bytes are used. O(1).
    public var usedByteCount: Int { used.with { $0 } }

    /// Takes bytes, if there are as many.
    ///
    /// - Returns: whether it did.
    func take(_ byteCount: Int) -> Bool {
        used.with { used in
            guard used == 0 || used + byteCount <= limit else { return false }
            used += byteCount
            return true
        }
    }

    /// Takes or, if the number is negative, gives back bytes.
    func add(_ byteCount: Int) { used.with { $0 += byteCount } }
}
