// One connection of the client: being opened, in use, or idle. It notes what the kernel reports.

import CLinux
import Glibc

/// A source that the client's `advance` visits, once for all events noted since the last visit.
class ClientSource: EventSource {
    unowned let client: HTTPClient
    /// The client's loop, which is available even while the client is deinitialised.
    final let loop: EventLoop
    /// The source is in the client's list of sources to visit.
    final var isQueued = false

    init(client: HTTPClient) {
        self.client = client
        loop = client.loop
    }

    /// Does what has become possible.
    ///
    /// - Returns: The exchange that has ended with it, if one has.
    func visit() -> ClientExchange? { nil }

    override func timerFired() { client.queue(self) }
}

/// A connection to a host.
final class ClientConnection: ClientSource {
    let host: ClientHost
    let address: IPAddress
    private let descriptor: Int32
    private(set) var isOpen = true
    /// The exchange that uses it or waits for it to open; nil if it is idle.
    var exchange: ClientExchange?
    /// It has carried an earlier request.
    var isReused = false
    /// Since when it is idle.
    var idleSince: Int64 = 0

    /// Whether the kernel has reported something while the connection was being opened.
    private(set) var hasNews = false
    /// Bytes may wait in the kernel. Events are edge-triggered: this stays set until a read finds nothing more.
    private(set) var isReadable = false
    private var isWritable = true
    /// The peer will send nothing more; what it sent may still have to be read.
    private(set) var hasEnded = false

    /// Begins to connect. The kernel's word on it is awaited with `hasNews`.
    ///
    /// - Returns: nil, with the reason in `failure`, if that fails at once.
    init?(client: HTTPClient, host: ClientHost, address: IPAddress, port: UInt16, failure: inout Int32) {
        self.host = host
        self.address = address
        let name = SocketAddress(address, port: port)
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        descriptor = socket(name.family, type, 0)
        super.init(client: client)
        guard descriptor >= 0 else {
            failure = errno
            return nil
        }
        var one: Int32 = 1
        unsafe setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        let descriptor = descriptor
        if unsafe name.withPointer({ unsafe connect(descriptor, $0, $1) }) != 0, errno != EINPROGRESS {
            failure = errno
        } else {
            let events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
            do throws(SystemError) {
                try loop.watch(descriptor, for: self, events: events)
                return
            } catch {
                failure = error.code
            }
        }
        Glibc.close(descriptor)
        return nil
    }

    func close() {
        if !isOpen { return }
        isOpen = false
        exchange = nil
        loop.unwatch(descriptor, for: self)
        Glibc.close(descriptor)
    }

    override func ready(events: UInt32) {
        hasNews = true
        let ending = EPOLLRDHUP.rawValue | EPOLLHUP.rawValue | EPOLLERR.rawValue
        if events & EPOLLOUT.rawValue != 0 { isWritable = true }
        // The next read reports the error.
        if events & (EPOLLIN.rawValue | ending) != 0 { isReadable = true }
        if events & ending != 0 { hasEnded = true }
        if let exchange { client.queue(exchange) } else if isReadable { client.queue(self) }
    }

    /// Reviews an idle connection that became readable or whose time is up.
    override func visit() -> ClientExchange? {
        if isOpen, exchange == nil { client.review(self) }
        return nil
    }

    /// The result of the attempt to connect: 0 or an `errno`; nil while it continues.
    func takeConnectResult() -> Int32? {
        guard hasNews else { return nil }
        hasNews = false
        var code: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        guard unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size) == 0 else { return errno }
        return code
    }

    /// Whether no input is left, so that the next input answers the next request.
    var isQuiet: Bool {
        if hasEnded { return false }
        if !isReadable { return true }
        var byte: UInt8 = 0
        isReadable = unsafe recv(descriptor, &byte, 1, Int32(MSG_PEEK)) != -1 || errno != EAGAIN
        return !isReadable
    }

    /// Reads once into a buffer.
    ///
    /// - Returns: How many bytes came; 0 at the end of input, less if there is nothing now (`isReadable` is false then)
    ///   or the connection is broken.
    func receive(into buffer: inout Buffer, atMost size: Int) -> Int {
        while true {
            let count = unsafe buffer.append(atMost: size) { room in
                unsafe recv(descriptor, room.baseAddress, room.count, 0)
            }
            // A short read found all there was; only the end of input is not announced again.
            if count > 0, count < size, !hasEnded { isReadable = false }
            if count < 0 {
                if errno == EINTR { continue }
                if errno == EAGAIN { isReadable = false }
            }
            return count
        }
    }

    /// Hands what follows the first `offset` bytes of the head and the body to the kernel.
    ///
    /// - Returns: How many bytes it took. When that fails for good, what the peer has said instead is there to be read.
    func send(_ head: Span<UInt8>, _ body: Span<UInt8>, from offset: Int) -> Int {
        var sent = 0
        while isWritable, offset + sent < head.count + body.count {
            let start = offset + sent
            let first = head.extracting(min(start, head.count)..<head.count)
            let second = body.extracting(max(start - head.count, 0)..<body.count)
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
            if count >= 0 {
                sent += count
            } else if errno != EINTR {
                if errno != EAGAIN { isReadable = true }
                isWritable = false
            }
        }
        return sent
    }
}
