// A connection for a program that speaks HTTP by itself, such as a load generator: plain or TLS.

import CLinux
import Glibc

/// A connection that is watched through its descriptor. Its calls do not wait, except `init`.
public final class ClientStream {
    private static let connectTimeoutMilliseconds: Int64 = 10_000

    private let transport: ConnectionTransport
    private var input = Buffer()

    /// Connects, and waits until that is done.
    ///
    /// - Parameters:
    ///   - address: The address of the server.
    ///   - tls: The issuers whose certificates are accepted, and the host that the certificate must be for; nil for a
    ///     plain connection.
    /// - Throws: `SystemError`, or `TLSError` if the handshake fails.
    public init(connectedTo address: Address, tls: (trust: TLSTrust, host: String)? = nil) throws {
        let descriptor = try address.connectedSocket()
        let flags = fcntl(descriptor, F_GETFL)
        _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK)
        let socket = SocketTransport(descriptor: descriptor, isLocal: false)
        guard let (trust, host) = tls else {
            transport = .socket(socket)
            return
        }
        guard let tls = TLSTransport(connecting: socket, host: host, trust: trust, session: nil) else {
            socket.close(isReset: false)
            throw SystemError("connect to \(address)", code: ENOMEM)
        }
        transport = .tls(tls)
        let clock = EventLoop.steadyClock()
        let deadline = clock() + Self.connectTimeoutMilliseconds
        while true {
            switch transport.takeConnectResult() {
            case .connected?: return
            case .failed(let code)?: throw SystemError("connect to \(address)", code: code)
            case .refused(let error)?: throw error
            case nil:
                // The client's messages of a handshake fit into the kernel's buffer.
                var state = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
                let rest = deadline - clock()
                guard rest > 0 else { throw TLSError("the handshake with \(address) did not finish within 10 s") }
                unsafe poll(&state, 1, Int32(rest))
            }
        }
    }

    deinit { transport.close(isReset: false) }

    /// What an event loop watches.
    public var descriptor: Int32 { transport.descriptor }

    /// Sends bytes, as far as the kernel takes them.
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
}
