// Plain bytes over a stream socket: TCP, or a Unix-domain socket.

import CLinux
import Glibc

/// A connected stream socket without encryption.
struct SocketTransport: Transport {
    let descriptor: Int32
    /// The peer is on the other end of a Unix-domain socket.
    private let isLocal: Bool

    /// Takes over a connected, non-blocking socket.
    init(descriptor: Int32, isLocal: Bool) {
        self.descriptor = descriptor
        self.isLocal = isLocal
    }

    /// Starts to connect by TCP. `takeConnectResult` says how that ends.
    ///
    /// - Throws: `SystemError` if it fails at once.
    init(connectingTo address: IPAddress, port: UInt16) throws(SystemError) {
        let name = SocketAddress(address, port: port)
        let descriptor = try Self.socket(name.family)
        var one: Int32 = 1
        unsafe setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        self.init(descriptor: descriptor, isLocal: false)
        try connect(to: name, "\(address)")
    }

    /// Connects to a Unix-domain socket. `takeConnectResult` confirms that.
    ///
    /// - Throws: `SystemError` if it fails: with EAGAIN if the listener's queue of new connections is full.
    init(connectingTo path: String) throws(SystemError) {
        guard path.utf8.count <= Address.maximumPathLength else {
            throw SystemError("connect to \(path)", code: ENAMETOOLONG)
        }
        // An empty path would be a name in the abstract namespace, and a zero would end the path.
        guard !path.isEmpty, !path.utf8.contains(0) else { throw SystemError("connect to \(path)", code: EINVAL) }
        self.init(descriptor: try Self.socket(AF_UNIX), isLocal: true)
        try connect(to: SocketAddress(path: path), path)
    }

    /// Makes the kernel ask a peer that is silent for so many seconds whether it is still there; after six questions
    /// without an answer, ten seconds apart, the connection is broken.
    func probe(afterSeconds seconds: Int32) {
        func set(_ level: Int32, _ option: Int32, _ value: Int32) {
            var value = value
            unsafe setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
        }
        let tcp = Int32(IPPROTO_TCP)
        set(SOL_SOCKET, SO_KEEPALIVE, 1)
        set(tcp, TCP_KEEPIDLE, seconds)
        set(tcp, TCP_KEEPINTVL, 10)
        set(tcp, TCP_KEEPCNT, 6)
    }

    private static func socket(_ family: Int32) throws(SystemError) -> Int32 {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let descriptor = Glibc.socket(family, type, 0)
        guard descriptor >= 0 else { throw SystemError("make a socket") }
        return descriptor
    }

    /// Starts to connect; closes the socket if that fails at once.
    private func connect(to name: SocketAddress, _ text: String) throws(SystemError) {
        if unsafe name.withPointer({ unsafe Glibc.connect(descriptor, $0, $1) }) == 0 || errno == EINPROGRESS { return }
        let error = SystemError("connect to \(text)")
        Glibc.close(descriptor)
        throw error
    }

    func receive(into buffer: inout Buffer, atMost size: Int) -> ReceiveResult {
        while true {
            let count = unsafe buffer.append(atMost: size) { room in
                unsafe emq_recv(descriptor, room.baseAddress, room.count, 0)
            }
            // A short read emptied the kernel's queue.
            if count > 0 { return .bytes(count, isAll: count < size) }
            if buffer.isExhausted { return .noMemory }
            if count == 0 { return .end }
            if errno == EINTR { continue }
            return errno == EAGAIN ? .nothing : .failed
        }
    }

    var hasInput: Bool {
        var byte: UInt8 = 0
        return unsafe recv(descriptor, &byte, 1, Int32(MSG_PEEK)) != -1 || errno != EAGAIN
    }

    func send(_ bytes: Span<UInt8>) -> SendResult {
        while true {
            let count = unsafe bytes.withUnsafeBytes { bytes in
                unsafe emq_send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
            }
            if count >= 0 { return .bytes(count) }
            if errno == EINTR { continue }
            return errno == EAGAIN ? .full : .failed
        }
    }

    func send(_ first: Span<UInt8>, _ second: Span<UInt8>) -> SendResult {
        while true {
            let count = unsafe first.withUnsafeBytes { first in
                unsafe second.withUnsafeBytes { second in
                    // The kernel only reads what these point to.
                    var parts = unsafe (
                        iovec(iov_base: UnsafeMutableRawPointer(mutating: first.baseAddress), iov_len: first.count),
                        iovec(iov_base: UnsafeMutableRawPointer(mutating: second.baseAddress), iov_len: second.count)
                    )
                    return unsafe withUnsafeMutablePointer(to: &parts) { parts in
                        unsafe parts.withMemoryRebound(to: iovec.self, capacity: 2) { parts in
                            var message = unsafe msghdr()
                            unsafe message.msg_iov = parts
                            unsafe message.msg_iovlen = 2
                            return unsafe sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL))
                        }
                    }
                }
            }
            if count >= 0 { return .bytes(count) }
            if errno == EINTR { continue }
            return errno == EAGAIN ? .full : .failed
        }
    }

    func takeConnectResult() -> ConnectResult? {
        var code: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        if unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size) != 0 { code = errno }
        return code == 0 ? .connected : .failed(code: code)
    }

    func unacknowledged() -> Unacknowledged {
        var queued: Int32 = 0
        // This cannot fail on a socket; if it did, nothing would count as lost.
        _ = unsafe ioctl(descriptor, UInt(SIOCOUTQ), &queued)
        var answer = Unacknowledged(byteCount: Int(queued), backlog: Int(queued))
        // A Unix-domain socket counts memory and not bytes, so only 0 has a meaning. It is 0 as well, with an error,
        // when the peer has closed without reading.
        if isLocal, queued > 0 || hasFailed { answer.byteCount = .max }
        return answer
    }

    var failure: TLSError? { nil }

    var hasFailed: Bool {
        var state = pollfd(fd: descriptor, events: 0, revents: 0)
        return unsafe poll(&state, 1, 0) > 0 && Int32(state.revents) & POLLERR != 0
    }

    var keepsOutputForPeer: Bool { isLocal }

    func endOutput() { shutdown(descriptor, Int32(SHUT_WR)) }

    func close(isReset: Bool) {
        if isReset {
            var reset = linger(l_onoff: 1, l_linger: 0)
            unsafe setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &reset, socklen_t(MemoryLayout<linger>.size))
        }
        Glibc.close(descriptor)
    }
}
