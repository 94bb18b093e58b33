// The socket on which a service manager receives messages of its services (sd_notify(3)): one datagram for each
// message.

import CLinux
import Glibc

/// Sends messages to a service manager. It never waits.
public final class NotifySocket {
    private let descriptor: Int32
    private let address: SocketAddress

    /// Opens a socket. Nil if the path is not one, and if the system provides no socket.
    ///
    /// - Parameter path: the value of `NOTIFY_SOCKET`: an absolute path, or `@` and a name in the abstract namespace.
    public init?(_ path: String) {
        let bytes = Array(path.utf8)
        guard (2...Address.maximumPathLength).contains(bytes.count), !bytes.contains(0) else { return nil }
        switch bytes[0] {
        case UInt8(ascii: "@"): address = SocketAddress(abstractName: bytes[1...])
        case UInt8(ascii: "/"): address = SocketAddress(path: path)
        default: return nil
        }
        descriptor = socket(
            AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        if descriptor < 0 { return nil }
    }

    deinit { close(descriptor) }

    /// Sends a message: lines of the form `NAME=value`.
    ///
    /// - Returns: whether the service manager has received it. If not, it is busy or gone.
    public func send(_ message: String) -> Bool {
        let bytes = Array(message.utf8)
        let count = unsafe bytes.withUnsafeBytes { bytes in
            unsafe address.withPointer { name, length in
                unsafe Int32(clamping: sendto(descriptor, bytes.baseAddress, bytes.count, 0, name, length))
            }
        }
        return count == bytes.count
    }
}
