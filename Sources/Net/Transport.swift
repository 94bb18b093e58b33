// How a connection moves bytes. Conversations and exchanges speak HTTP and use these calls; sockets, and what is
// layered on them, stay behind this seam.

/// The result of one read.
public enum ReceiveResult {
    /// This many bytes were added. If `isAll`, no more can be read before the next event.
    case bytes(Int, isAll: Bool)
    /// Nothing can be read before the next event.
    case nothing
    /// The peer ended its side.
    case end
    /// The buffer cannot grow.
    case noMemory
    /// The connection is broken.
    case failed
}

/// The result of one write.
enum SendResult {
    /// The transport took this many bytes.
    case bytes(Int)
    /// The transport takes nothing before the next event.
    case full
    /// The connection is broken.
    case failed
}

/// How an attempt to connect ended.
enum ConnectResult {
    case connected
    /// There is no connection, for this `errno`.
    case failed(code: Int32)
    /// The TLS handshake failed.
    case refused(TLSError)
}

/// How much of what was sent may not have arrived.
struct Unacknowledged {
    /// How many plaintext bytes, counted from the last one sent, may not have arrived; never too few.
    var byteCount: Int
    /// A figure that shrinks as the peer takes data. Compare it only with an earlier one of the same connection.
    var backlog: Int
}

/// One connection's way to its peer: non-blocking, and watched by the event loop through its descriptor.
///
/// All byte counts are plaintext. An implementation with state of its own is a class, so that no call needs to be
/// mutating.
protocol Transport {
    /// The descriptor that the event loop watches.
    var descriptor: Int32 { get }

    /// Reads once, at most `size` bytes, into a buffer.
    func receive(into buffer: inout Buffer, atMost size: Int) -> ReceiveResult

    /// Whether bytes, the end of input or an error wait to be read. Reads nothing.
    var hasInput: Bool { get }

    /// Writes once.
    func send(_ bytes: Span<UInt8>) -> SendResult

    /// Writes the first bytes and then the second, as if they were one span.
    func send(_ first: Span<UInt8>, _ second: Span<UInt8>) -> SendResult

    /// Continues the attempt to connect after an event of the descriptor.
    ///
    /// - Returns: How it ended; nil while it continues. The first call takes the result.
    func takeConnectResult() -> ConnectResult?

    /// Asks how much of what was sent may not have arrived. One system call.
    func unacknowledged() -> Unacknowledged

    /// Why the connection is broken, if that is a matter of TLS.
    var failure: TLSError? { get }

    /// Whether the connection has an error to report. One system call.
    var hasFailed: Bool { get }

    /// Whether the peer can still read what was sent after this side has closed, and no reset can take it back. Such a
    /// transport stops counting unread bytes when the peer closes.
    var keepsOutputForPeer: Bool { get }

    /// Ends this side; the peer may continue to send.
    func endOutput()

    /// Closes the connection.
    ///
    /// - Parameter isReset: Whether to reset it, so that bytes which have not arrived never will.
    func close(isReset: Bool)
}
