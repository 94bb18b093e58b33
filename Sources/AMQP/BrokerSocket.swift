// The connection to a RabbitMQ, for a library that takes a connected descriptor. TLS is emq's own: a relay encrypts.

import Glibc
import Net

/// A connection to a RabbitMQ. Opening it blocks; it belongs on a helper thread. Any thread may call `interrupt`.
public final class BrokerSocket: Sendable {
    /// How many addresses of a host are tried.
    private static let addressLimit = 16
    /// How long sent bytes may stay without an acknowledgement by TCP, before the connection fails. A connection on
    /// which nothing is read, because there is no room for messages, only sends heartbeats. Otherwise, nobody would
    /// notice for a quarter of an hour that the network drops all packets.
    private static let silenceMilliseconds: Int32 = 20_000

    /// A non-blocking stream socket that carries AMQP in plaintext.
    ///
    /// This object does not close it. Whoever gets it closes it: librabbitmq closes with its connection the descriptor
    /// that `amqp_tcp_socket_set_sockfd` gave it. The broker sees the end when the descriptor is closed and this object
    /// is gone, or at `interrupt`.
    public let descriptor: Int32
    /// Another descriptor of the same socket. `interrupt` uses it, so it never touches a descriptor that was closed and
    /// then given to somebody else.
    private let handle: Int32
    /// What encrypts; nil for a plain connection.
    private let relay: TLSRelay?

    /// Connects to the first address of the host that answers, and for `amqps` does the TLS handshake.
    ///
    /// - Parameters:
    ///   - url: The broker.
    ///   - trust: The issuers whose certificates are accepted; nil for the system's.
    ///   - refusal: Returns why an address of the host may not be connected to; nil if it may. It is called right
    ///     before each attempt to connect.
    ///   - timeoutMilliseconds: The limit for connecting to one address, including the handshake. The look-up of the
    ///     host takes as long as the system's resolver does.
    ///   - isCancelled: Whether to give up. It is asked four times a second, but not during the look-up.
    /// - Throws: `AMQPFailure`.
    public init(
        to url: AMQPURL, trust: TLSTrust? = nil, refusal: (IPAddress, UInt16, String) -> String?,
        timeoutMilliseconds: Int64 = 10_000, isCancelled: () -> Bool = { false }
    ) throws(AMQPFailure) {
        let stream: ClientStream
        do throws(ClientFailure) {
            stream = try Self.connect(
                to: url, trust: trust, refusal: refusal, timeoutMilliseconds: timeoutMilliseconds,
                isCancelled: isCancelled)
        } catch {
            throw isCancelled()
                ? AMQPFailure("connecting to \(url.authority) was cancelled") : AMQPFailure(error.description)
        }
        var silence = Self.silenceMilliseconds
        unsafe setsockopt(
            stream.descriptor, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, &silence, socklen_t(MemoryLayout<Int32>.size))
        do throws(SystemError) {
            if url.isSecure {
                (relay, handle) = try TLSRelay.start(stream, authority: url.authority)
            } else {
                relay = nil
                handle = try withExtendedLifetime(stream) { () throws(SystemError) in
                    try Self.duplicate(stream.descriptor)
                }
            }
        } catch {
            throw AMQPFailure(error.description)
        }
        do throws(SystemError) {
            descriptor = try Self.duplicate(handle)
        } catch {
            close(handle)
            throw AMQPFailure(error.description)
        }
    }

    deinit { close(handle) }

    /// Breaks the connection: every blocked and every later call on the descriptor ends, after what has already
    /// arrived.
    public func interrupt() { shutdown(handle, Int32(SHUT_RDWR)) }

    /// Why the TLS connection broke after its handshake, as a clause; nil if it did not. When a call on the descriptor
    /// finds the end, this is known.
    public var relayFailure: String? { relay?.failure }

    private static func connect(
        to url: AMQPURL, trust: TLSTrust?, refusal: (IPAddress, UInt16, String) -> String?, timeoutMilliseconds: Int64,
        isCancelled: () -> Bool
    ) throws(ClientFailure) -> ClientStream {
        let addresses: [IPAddress]
        do throws(SystemError) {
            addresses = try IPAddress.addresses(ofHost: url.host)
        } catch {
            throw .lookUp(host: url.host, reason: error.reason)
        }
        var issuers: TLSTrust?
        do throws(TLSError) {
            if url.isSecure { issuers = if let trust { trust } else { try TLSTrust() } }
        } catch {
            throw .tls(authority: url.authority, error)
        }
        var refused: ClientFailure?
        var failed: ClientFailure?
        for address in addresses.prefix(addressLimit) where !isCancelled() {
            if let reason = refusal(address, url.port, url.host) {
                refused = .refusedAddress(host: url.host, address: address, reason: reason)
                continue
            }
            do throws(ClientFailure) {
                return try ClientStream.connected(
                    to: address, port: url.port, host: url.host, trust: issuers,
                    timeoutMilliseconds: timeoutMilliseconds, isCancelled: isCancelled)
            } catch {
                failed = error
            }
        }
        throw failed ?? refused ?? .lookUp(host: url.host, reason: "it has no address")
    }

    /// Another descriptor of the same socket.
    private static func duplicate(_ descriptor: Int32) throws(SystemError) -> Int32 {
        let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
        if copy < 0 { throw SystemError("open another descriptor") }
        return copy
    }
}

extension AMQPURL {
    /// The host and the port, for messages.
    fileprivate var authority: String { "\(Address.tcp(host: host, port: port))" }
}
