// Listening sockets.

import CLinux
import Glibc

/// A listening socket.
final class Listener: EventSource {
    let descriptor: Int32
    /// The address, with the port that the kernel chose if the port was 0.
    let address: Address
    /// The service of its requests (`Request.service`).
    let service: Int
    /// The certificate with which its connections speak TLS; nil for plain ones.
    var identity: TLSIdentity?
    /// Whether connections wait to be accepted.
    private(set) var isReady = false
    private var isPaused = false

    /// Whether it listens on a Unix-domain socket.
    private let isLocal: Bool
    /// The file of a Unix-domain socket that this process has made.
    private let file: FileIdentity?

    private init(descriptor: Int32, address: Address, service: Int, isInherited: Bool = false) {
        self.descriptor = descriptor
        self.address = address
        self.service = service
        if case .unix(let path) = address {
            isLocal = true
            file = isInherited ? nil : FileIdentity(path)
        } else {
            (isLocal, file) = (false, nil)
        }
    }

    deinit {
        close(descriptor)
        // Only its own file: a successor's may be at the path by now.
        if case .unix(let path) = address, let file, file == FileIdentity(path) { unsafe unlink(path) }
    }

    /// The transport of a plain connection that was accepted here.
    func transport(of descriptor: Int32) -> ConnectionTransport {
        .socket(SocketTransport(descriptor: descriptor, isLocal: isLocal))
    }

    override func ready(events: UInt32) { isReady = true }

    /// The next connection's descriptor.
    ///
    /// - Returns: nil if there is none now; `failure` is the `errno`, or 0.
    func accept(failure: inout Int32) -> Int32? {
        while true {
            let connection = accept4(descriptor, nil, nil, Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue))
            if connection >= 0 { return connection }
            switch errno {
            case EINTR, ECONNABORTED, EPROTO, EPERM: continue
            case EAGAIN: failure = 0
            default: failure = errno
            }
            isReady = false
            return nil
        }
    }

    /// Stops or resumes accepting connections; they wait in the kernel meanwhile.
    func setPaused(_ paused: Bool, on loop: EventLoop) {
        if paused == isPaused { return }
        isPaused = paused
        if paused { isReady = false }
        loop.rewatch(descriptor, for: self, events: paused ? 0 : UInt32(EPOLLIN.rawValue))
    }

    // MARK: Opening

    /// Opens a socket for each address of a host: `localhost` is often both 127.0.0.1 and ::1.
    ///
    /// - Throws: `SystemError` if none can be opened, or one is in use.
    static func open(_ address: Address, service: Int) throws(SystemError) -> [Listener] {
        switch address {
        case .unix(let path): [try openUnix(path, address, service)]
        case .tcp("", let port): [try openEveryAddress(port, address, service)]
        case .tcp(let host, let port): try openHost(host, port, address, service)
        }
    }

    private static func openEveryAddress(
        _ port: UInt16, _ address: Address, _ service: Int
    ) throws(SystemError) -> Listener {
        // One socket accepts both families; if the kernel has no IPv6, only IPv4.
        var any6 = sockaddr_in6()
        any6.sin6_family = sa_family_t(AF_INET6)
        any6.sin6_port = port.bigEndian
        do {
            return try bound(SocketAddress(any6), host: "", address, service, isDualStack: true)
        } catch {
            guard error.code == EAFNOSUPPORT || error.code == EADDRNOTAVAIL else { throw error }
        }
        var any4 = sockaddr_in()
        any4.sin_family = sa_family_t(AF_INET)
        any4.sin_port = port.bigEndian
        return try bound(SocketAddress(any4), host: "", address, service)
    }

    private static func openHost(
        _ host: String, _ port: UInt16, _ address: Address, _ service: Int
    ) throws(SystemError) -> [Listener] {
        var listeners: [Listener] = []
        var failure: SystemError?
        var chosenPort = port
        for var name in try SocketAddress.addresses(ofHost: host, flags: AI_PASSIVE) {
            name.port = chosenPort
            do {
                let listener = try bound(name, host: host, address, service)
                // Port 0 lets the kernel choose, once for all of the host's addresses.
                if case .tcp(_, let port) = listener.address { chosenPort = port }
                listeners.append(listener)
            } catch {
                // A family in which this machine has no address is skipped if another works.
                guard error.code == EADDRNOTAVAIL || error.code == EAFNOSUPPORT else { throw error }
                failure = error
            }
        }
        if let failure, listeners.isEmpty { throw failure }
        return listeners
    }

    private static func openUnix(
        _ path: String, _ address: Address, _ service: Int
    ) throws(SystemError) -> Listener {
        let socketAddress = SocketAddress(path: path)
        do {
            return try bound(socketAddress, host: "", address, service)
        } catch {
            guard error.code == EADDRINUSE, let file = FileIdentity(path) else { throw error }
            guard file.isSocket else {
                throw SystemError(error.operation, reason: "the file at this path is not a socket")
            }
            // A killed server leaves a socket without a listener.
            guard try isAbandoned(socketAddress) else { throw error }
            unsafe unlink(path)
            return try bound(socketAddress, host: "", address, service)
        }
    }

    private static func isAbandoned(_ name: SocketAddress) throws(SystemError) -> Bool {
        let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard probe >= 0 else { throw SystemError("make a socket") }
        defer { close(probe) }
        return unsafe name.withPointer { unsafe connect(probe, $0, $1) } != 0 && errno == ECONNREFUSED
    }

    private static func bound(
        _ name: SocketAddress, host: String, _ address: Address, _ service: Int, isDualStack: Bool = false
    ) throws(SystemError) -> Listener {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let descriptor = socket(name.family, type, 0)
        guard descriptor >= 0 else { throw SystemError("listen on \(address)") }
        if name.family != AF_UNIX {
            set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
            if name.family == AF_INET6 { set(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, isDualStack ? 0 : 1) }
            setOptionsOfConnections(descriptor)
        }
        guard unsafe name.withPointer({ unsafe bind(descriptor, $0, $1) }) == 0, listen(descriptor, 4096) == 0
        else {
            let error = SystemError("listen on \(address)")
            close(descriptor)
            throw error
        }
        return Listener(descriptor: descriptor, address: actual(descriptor, host: host, address), service: service)
    }

    private static func set(_ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
        var value = value
        unsafe setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    /// Sets what the connections of a TCP socket inherit: they find a vanished peer within half a minute.
    private static func setOptionsOfConnections(_ descriptor: Int32) {
        set(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        set(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1)
        set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPIDLE, 15)
        set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPINTVL, 5)
        set(descriptor, Int32(IPPROTO_TCP), TCP_KEEPCNT, 3)
        set(descriptor, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, 30_000)
    }

    /// Takes over a socket that another program has opened and listens on. `Address.init(ofListener:)` reads its
    /// address.
    static func inherited(_ descriptor: Int32, _ address: Address, service: Int) -> Listener {
        _ = fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK)
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        if case .tcp = address { setOptionsOfConnections(descriptor) }
        return Listener(descriptor: descriptor, address: address, service: service, isInherited: true)
    }

    /// The address with the port that the socket really has.
    private static func actual(_ descriptor: Int32, host: String, _ address: Address) -> Address {
        guard case .tcp = address else { return address }
        return SocketAddress(of: descriptor).map { .tcp(host: host, port: $0.port) } ?? address
    }
}

/// The identity of the file at a path.
private struct FileIdentity: Equatable {
    private let device: dev_t
    private let number: ino_t
    let isSocket: Bool

    /// Nil if there is no file, or it is not accessible.
    init?(_ path: String) {
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else { return nil }
        device = status.st_dev
        number = status.st_ino
        isSocket = status.st_mode & S_IFMT == S_IFSOCK
    }
}
