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

    /// Does the work that events have made possible.
    ///
    /// - Returns: The exchange that ended in this visit or has received a part of its body; nil if there is none.
    func visit() -> ClientExchange? { nil }

    override func timerFired() { client.queue(self) }
}

/// A connection to a host.
final class ClientConnection: ClientSource {
    /// What a connection leads to.
    enum Peer {
        case address(IPAddress)
        /// The path of a Unix-domain socket.
        case path(String)
    }

    let host: ClientHost
    /// The address that it leads to; nil if that is a Unix-domain socket.
    let address: IPAddress?
    private let transport: ConnectionTransport
    private(set) var isOpen = true
    /// The exchange that uses it or waits for it to open; nil if it is idle.
    var exchange: ClientExchange?
    /// When it became idle.
    var idleSince: Int64 = 0

    /// Whether another thread uses it. Used on the loop's thread only.
    private var isLent = false
    /// Whether the kernel has reported something while the connection was being opened.
    private(set) var hasNews = false
    /// Bytes may wait in the kernel. Events are edge-triggered: this stays set until a read finds nothing more.
    private(set) var isReadable = false
    private var isWritable = true
    /// The peer will send nothing more; what it sent may still have to be read.
    private(set) var hasEnded = false
    /// This side has ended, and only reads.
    private(set) var hasEndedSending = false

    /// Starts to connect. `takeConnectResult` tells the result once `hasNews` is true.
    ///
    /// - Throws: `SystemError` if that fails at once.
    init(client: HTTPClient, host: ClientHost, peer: Peer, url: HTTPURL) throws(SystemError) {
        self.host = host
        let socket: SocketTransport
        switch peer {
        case .address(let address):
            self.address = address
            socket = try SocketTransport(connectingTo: address, port: url.port)
            if let seconds = client.limits.probeSeconds { socket.probe(afterSeconds: seconds) }
        case .path(let path):
            address = nil
            socket = try SocketTransport(connectingTo: path)
        }
        if let trust = host.key.trust {
            guard
                let tls = TLSTransport(
                    connecting: socket, host: url.host, trust: trust, session: client.session(with: host))
            else {
                socket.close(isReset: false)
                throw SystemError("connect to \(url.host)", code: ENOMEM)
            }
            transport = .tls(tls)
        } else {
            transport = .socket(socket)
        }
        super.init(client: client)
        let events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
        do throws(SystemError) {
            try loop.watch(transport.descriptor, for: self, events: events)
        } catch {
            transport.close(isReset: false)
            throw error
        }
    }

    func close() {
        if !isOpen { return }
        isOpen = false
        exchange = nil
        loop.unwatch(transport.descriptor, for: self)
        transport.close(isReset: false)
    }

    /// Ends this side; what the peer sends is still read.
    func endSending() {
        if !isOpen || hasEndedSending { return }
        hasEndedSending = true
        transport.endOutput()
    }

    // MARK: Lending

    /// Leaves the loop: the caller of `awaitInput` and `receiveOnce` may be on any thread now, but only one.
    func beLent() {
        exchange = nil
        isLent = true
        loop.unwatch(transport.descriptor, for: self)
    }

    /// Comes back to the loop, which reports again what is ready.
    func comeBack() {
        isLent = false
        (isReadable, isWritable) = (true, true)
        let events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
        do throws(SystemError) {
            try loop.watch(transport.descriptor, for: self, events: events)
        } catch {
            // The next read finds the end.
            shutdown(transport.descriptor, Int32(SHUT_RDWR))
        }
    }

    /// Waits until there is something to read; false if there is nothing within the time.
    func awaitInput(microseconds: Int) -> Bool {
        var state = pollfd(fd: transport.descriptor, events: Int16(POLLIN), revents: 0)
        var time = timespec(tv_sec: 0, tv_nsec: microseconds * 1000)
        return unsafe ppoll(&state, 1, &time, nil) > 0
    }

    /// Reads once into a buffer.
    func receiveOnce(into buffer: inout Buffer, atMost size: Int) -> ReceiveResult {
        transport.receive(into: &buffer, atMost: size)
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
        // One that was lent since its event belongs to another thread.
        if isOpen, !isLent, exchange == nil { client.review(self) }
        return nil
    }

    /// The result of the attempt to connect; nil while it continues.
    func takeConnectResult() -> ConnectResult? {
        guard hasNews else { return nil }
        hasNews = false
        return transport.takeConnectResult()
    }

    /// Whether no input is left, so that the next input answers the next request.
    var isQuiet: Bool {
        if hasEnded { return false }
        if !isReadable { return true }
        isReadable = transport.hasInput
        return !isReadable
    }

    /// Whether the connection can carry another request. Asks the kernel, because the loop may not have noticed yet
    /// that the peer has ended the connection. One system call.
    var isUsable: Bool { !hasEnded && !transport.hasInput }

    /// Whether it speaks TLS.
    var isSecure: Bool { transport.isSecure }

    /// The session that the server has offered since the last call.
    func takeSession() -> TLSSession? {
        guard case .tls(let tls) = transport else { return nil }
        defer { tls.newSession = nil }
        return tls.newSession
    }

    /// Why the connection is broken, if that is a matter of TLS.
    var failure: TLSError? { transport.failure }

    /// Reads once into a buffer.
    ///
    /// - Returns: How many bytes arrived; 0 at the end of input; -1 if there is nothing now (then `isReadable` is
    ///   false) or no memory, or if the connection is broken.
    func receive(into buffer: inout Buffer, atMost size: Int) -> Int {
        switch transport.receive(into: &buffer, atMost: size) {
        case .bytes(let count, let isAll):
            // The kernel does not announce the end of input again, so it must still be read.
            if isAll, !hasEnded { isReadable = false }
            return count
        case .end: return 0
        case .nothing:
            isReadable = false
            return -1
        case .noMemory, .failed: return -1
        }
    }

    /// Passes the head and the body, without their first `offset` bytes, to the kernel.
    ///
    /// - Returns: How many bytes the kernel accepted. If sending fails, `isReadable` becomes true, because the peer may
    ///   have sent a response.
    func send(_ head: Span<UInt8>, _ body: Span<UInt8>, from offset: Int) -> Int {
        var sent = 0
        while isWritable, offset + sent < head.count + body.count {
            let start = offset + sent
            let first = head.extracting(min(start, head.count)..<head.count)
            let second = body.extracting(max(start - head.count, 0)..<body.count)
            switch transport.send(first, second) {
            case .bytes(let count): sent += count
            case .full: isWritable = false
            case .failed:
                isReadable = true
                isWritable = false
            }
        }
        return sent
    }
}
