// A connection for a program that speaks its protocol by itself, such as a load generator: plain or TLS.

import CLinux
import Glibc

/// A connection that is watched through its descriptor. Its calls do not wait, except `init`. Used by one thread at a
/// time.
public final class ClientStream {
    private static let connectTimeoutMilliseconds: Int64 = 10_000
    /// How long a cancelled attempt to connect may continue.
    private static let cancelMilliseconds: Int64 = 250

    private let transport: ConnectionTransport
    private var input = Buffer()

    /// Takes over a connected, non-blocking Unix-domain socket.
    public init(takingOver descriptor: Int32) {
        transport = .socket(SocketTransport(descriptor: descriptor, isLocal: true))
    }

    /// Takes over a socket that is connected or being connected. If there is no memory, the result is nil, and the
    /// socket is closed.
    private init?(_ socket: SocketTransport, tls: (trust: TLSTrust, host: String)?, offersHTTP: Bool) {
        guard let (trust, host) = tls else {
            transport = .socket(socket)
            return
        }
        guard
            let tls = TLSTransport(
                connecting: socket, host: host, trust: trust, session: nil, offersHTTP: offersHTTP)
        else {
            socket.close(isReset: false)
            return nil
        }
        transport = .tls(tls)
    }

    /// Connects for HTTP, and waits until that is done.
    ///
    /// - Parameters:
    ///   - address: The address of the server.
    ///   - tls: The issuers whose certificates are accepted, and the host that the certificate must be for; nil for a
    ///     plain connection.
    /// - Returns: The connection.
    /// - Throws: `SystemError`, or `TLSError` if the handshake fails.
    public static func connected(
        to address: Address, tls: (trust: TLSTrust, host: String)? = nil
    ) throws -> ClientStream {
        let descriptor = try address.connectedSocket()
        let flags = fcntl(descriptor, F_GETFL)
        _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK)
        let socket = SocketTransport(descriptor: descriptor, isLocal: false)
        guard let stream = ClientStream(socket, tls: tls, offersHTTP: true) else {
            throw SystemError("connect to \(address)", code: ENOMEM)
        }
        switch stream.connect(withinMilliseconds: connectTimeoutMilliseconds, isCancelled: { false }) {
        case .connected?: return stream
        case .failed(let code)?: throw SystemError("connect to \(address)", code: code)
        case .refused(let error)?: throw error
        case nil: throw TLSError("the handshake with \(address) did not finish within 10 s")
        }
    }

    /// Connects to one address by TCP, for a protocol other than HTTP, and waits until that is done.
    ///
    /// - Parameters:
    ///   - address: The address of the server.
    ///   - port: Its port.
    ///   - host: The host as the user names it, for messages; the certificate must be for it.
    ///   - trust: The issuers whose certificates are accepted; nil for a plain connection.
    ///   - timeoutMilliseconds: The limit for all of it.
    ///   - isCancelled: Whether to give up; asked four times a second. That counts as a timeout.
    /// - Returns: The connection.
    /// - Throws: `ClientFailure`: `connect`, `tls`, `timeout` or `noMemory`.
    public static func connected(
        to address: IPAddress, port: UInt16, host: String, trust: TLSTrust?, timeoutMilliseconds: Int64,
        isCancelled: () -> Bool
    ) throws(ClientFailure) -> ClientStream {
        let authority = "\(Address.tcp(host: host, port: port))"
        let socket: SocketTransport
        do throws(SystemError) {
            socket = try SocketTransport(connectingTo: address, port: port)
        } catch {
            throw .connect(authority: authority, address: address, code: error.code)
        }
        guard let stream = ClientStream(socket, tls: trust.map { ($0, host) }, offersHTTP: false) else {
            throw .noMemory(authority: authority)
        }
        switch stream.connect(withinMilliseconds: timeoutMilliseconds, isCancelled: isCancelled) {
        case .connected?: return stream
        case .failed(let code)?: throw .connect(authority: authority, address: address, code: code)
        case .refused(let error)?: throw .tls(authority: authority, error)
        case nil: throw .timeout(.connecting, authority: authority, milliseconds: timeoutMilliseconds)
        }
    }

    /// Waits for the end of the attempt to connect; nil if it does not end in time.
    private func connect(withinMilliseconds milliseconds: Int64, isCancelled: () -> Bool) -> ConnectResult? {
        let clock = EventLoop.steadyClock()
        let deadline = clock() + milliseconds
        var events = POLLOUT
        while true {
            let rest = deadline - clock()
            if rest <= 0 || isCancelled() { return nil }
            var state = pollfd(fd: descriptor, events: Int16(events), revents: 0)
            if unsafe poll(&state, 1, Int32(min(rest, Self.cancelMilliseconds))) <= 0 { continue }
            if let result = transport.takeConnectResult() { return result }
            // The client's messages of a handshake fit into the kernel's buffer.
            events = POLLIN
        }
    }

    deinit { transport.close(isReset: false) }

    /// What an event loop watches.
    public var descriptor: Int32 { transport.descriptor }

    /// Why the connection is broken, if that is a matter of TLS.
    public var failure: TLSError? { transport.failure }

    /// Sends bytes, as far as the kernel takes them. If it does not take all, the next call must begin with the rest.
    ///
    /// - Returns: How many it took; nil if the connection is broken.
    public func send(_ bytes: Span<UInt8>) -> Int? {
        var sent = 0
        while sent < bytes.count {
            switch transport.send(bytes.extracting(sent..<bytes.count)) {
            case .bytes(let count): sent += count
            case .full: return sent
            case .failed: return nil
            }
        }
        return sent
    }

    /// Reads once, at most `size` bytes, into a buffer.
    public func receive(into buffer: inout Buffer, atMost size: Int) -> ReceiveResult {
        transport.receive(into: &buffer, atMost: size)
    }

    /// Adds what has arrived to `bytes`, until there is nothing more now.
    ///
    /// - Returns: false at the end of input, or if the connection is broken.
    public func receive(into bytes: inout [UInt8]) -> Bool {
        while true {
            let result = transport.receive(into: &input, atMost: 16 * 1024)
            bytes.append(input.span)
            input.consume(input.count)
            switch result {
            case .bytes(_, isAll: false): continue
            case .bytes, .nothing: return true
            case .end, .noMemory, .failed: return false
            }
        }
    }

    /// Ends this side; the peer may continue to send.
    public func endOutput() { transport.endOutput() }
}
