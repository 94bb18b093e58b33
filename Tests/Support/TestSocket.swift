// The socket that all tests use: either side of a connection, or a listener.

import Foundation
import Synchronization

/// The test itself cannot go on; this says nothing about the code that it tests.
public struct Failure: Error, CustomStringConvertible {
    /// The reason.
    public let description: String

    /// A failure with a reason.
    public init(description: String) { self.description = description }
}

/// A system call on a socket that failed.
public struct SocketFailure: Error, CustomStringConvertible {
    /// The name of the call.
    public let call: String
    /// The `errno` that the call set.
    public let code: Int32

    fileprivate init(_ call: String) { (self.call, code) = (call, errno) }

    /// Whether the call gave up after `TestSocket.timeoutSeconds`.
    public var isTimeout: Bool { code == EAGAIN }

    /// The call and the system's text for the code.
    public var description: String { "\(call): \(String(cString: strerror(code)))" }
}

/// Repeats a system call for as long as signals interrupt it.
public func uninterrupted<Number: FixedWidthInteger>(_ call: () -> Number) -> Number {
    while true {
        let result = call()
        if result != -1 || errno != EINTR { return result }
    }
}

/// A stream socket with blocking calls. A call on a connection gives up after `timeoutSeconds`.
///
/// A connection with a `TestTLS` speaks TLS, and all calls are about what was encrypted. A connection must end with
/// close_notify then: an end without it is a failure.
///
/// The socket is closed when the last reference goes away. Threads may share it: one can send while another receives.
public final class TestSocket: Sendable {
    /// Where a socket listens or connects to.
    public enum Name: Sendable {
        /// An IPv4 address and a port; port 0 lets the kernel choose.
        case ipv4(String = "127.0.0.1", port: UInt16)
        /// The address `::1` and a port.
        case ipv6Loopback(port: UInt16)
        /// The path of a Unix domain socket.
        case path(String)
    }

    /// Less than the time limit of any test.
    public static let timeoutSeconds = 110

    /// The socket's descriptor, for calls that this class does not have.
    public let descriptor: Int32
    private let isClosed = Atomic(false)
    private let resetsOnClose = Atomic(false)
    /// What a listener's connections speak.
    private let context: TestTLS?
    private let tls: TLSStream?

    private init(descriptor: Int32, context: TestTLS? = nil, tls: TLSStream? = nil) {
        (self.descriptor, self.context, self.tls) = (descriptor, context, tls)
    }

    deinit { close() }

    // MARK: Connecting

    /// Connects, with SO_RCVBUF set to `receiveBufferBytes` unless it is nil. With `tls`, the TLS handshake is complete
    /// on this side.
    public convenience init(connectedTo name: Name, receiveBufferBytes: Int32? = nil, tls: TestTLS? = nil) throws {
        try self.init(family: name.family, speaking: tls)
        if let receiveBufferBytes { set(SO_RCVBUF, to: receiveBufferBytes) }
        guard name.withAddress({ connect(descriptor, $0, $1) }) == 0 else { throw SocketFailure("connect") }
        setTimeouts()
        if let stream = self.tls, stream.shakeHands() != 1 { throw failure("connect") }
    }

    /// Starts to connect, and does not wait for the connection.
    public convenience init(connectingTo name: Name) throws {
        try self.init(family: name.family)
        _ = fcntl(descriptor, F_SETFL, O_NONBLOCK)
        _ = name.withAddress { connect(descriptor, $0, $1) }
    }

    private convenience init(family: Int32, context: TestTLS? = nil, speaking: TestTLS? = nil) throws {
        let descriptor = socket(family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw SocketFailure("socket") }
        let stream = try speaking.map { try TLSStream(descriptor: descriptor, context: $0) }
        self.init(descriptor: descriptor, context: context, tls: stream)
    }

    // MARK: Listening

    /// Listens. Accepted connections have SO_RCVBUF set to `receiveBufferBytes` unless it is nil, and speak TLS with
    /// `tls`.
    public convenience init(
        listeningAt name: Name, backlog: Int32 = 128, receiveBufferBytes: Int32? = nil, tls: TestTLS? = nil
    ) throws {
        try self.init(family: name.family, context: tls)
        if let receiveBufferBytes { set(SO_RCVBUF, to: receiveBufferBytes) }
        set(SO_REUSEADDR, to: Int32(1))
        guard name.withAddress({ bind(descriptor, $0, $1) }) == 0 else { throw SocketFailure("bind") }
        guard listen(descriptor, backlog) == 0 else { throw SocketFailure("listen") }
    }

    /// The next connection, which may take any time; nil after `shutDown`. Later calls on it make the TLS handshake.
    public func accept() -> TestSocket? {
        let accepted = uninterrupted { Glibc.accept(descriptor, nil, nil) }
        guard accepted >= 0 else { return nil }
        _ = fcntl(accepted, F_SETFD, FD_CLOEXEC)
        let stream = context.flatMap { try? TLSStream(descriptor: accepted, context: $0) }
        let connection = TestSocket(descriptor: accepted, tls: stream)
        connection.setTimeouts()
        return connection
    }

    /// Completes the TLS handshake; false if it fails.
    public func shakeHands() -> Bool { tls.map { $0.shakeHands() == 1 } ?? true }

    /// The port of an IPv4 socket.
    public var localPort: UInt16 {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        return status == 0 ? UInt16(bigEndian: address.sin_port) : 0
    }

    // MARK: Sending and receiving

    /// Sends all bytes.
    ///
    /// - Returns: false if the peer has closed, or takes nothing for `timeoutSeconds`.
    @discardableResult
    public func send(_ bytes: [UInt8]) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = send(bytes[sent...], flags: 0)
            if count <= 0 { return false }
            sent += count
        }
        return true
    }

    /// Sends as many bytes as there is room for now, and returns their number; -1 if there is none, or on an error.
    /// Unless all were sent, the next call must begin with those that were not.
    @discardableResult
    public func sendNow(_ bytes: some ContiguousBytes) -> Int { send(bytes, flags: Int32(MSG_DONTWAIT)) }

    /// How many bytes that do not count as sent yet can no longer be replaced by others: those of an incomplete record.
    public var pendingCount: Int { tls?.pendingCount ?? 0 }

    private func send(_ bytes: some ContiguousBytes, flags: Int32) -> Int {
        bytes.withUnsafeBytes { bytes in
            if let tls { return tls.send(bytes, flags: flags) }
            return uninterrupted {
                Glibc.send(descriptor, bytes.baseAddress, bytes.count, flags | Int32(MSG_NOSIGNAL))
            }
        }
    }

    /// Waits for bytes and returns them; empty at the end of input.
    ///
    /// - Throws: `SocketFailure`: a reset, or nothing came within `timeoutSeconds`. `Failure`: what is wrong with TLS.
    public func receive(_ maximum: Int = 65536) throws -> [UInt8] {
        let (bytes, count) = receive(maximum, flags: 0)
        guard count >= 0 else { throw failure("recv") }
        return bytes
    }

    /// The bytes that have come so far: nil if there are none, empty at the end of input and after a reset.
    public func receiveNow(_ maximum: Int = 65536) -> [UInt8]? {
        let (bytes, count) = receive(maximum, flags: Int32(MSG_DONTWAIT))
        return count == -1 && errno == EAGAIN ? nil : bytes
    }

    private func receive(_ maximum: Int, flags: Int32) -> ([UInt8], count: Int) {
        var count = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: maximum) { buffer, length in
            count =
                tls?.receive(UnsafeMutableRawBufferPointer(buffer), flags: flags)
                ?? uninterrupted { recv(descriptor, buffer.baseAddress, maximum, flags) }
            length = max(0, count)
        }
        return (bytes, count)
    }

    /// Waits for something to receive or accept, or for the end of input.
    ///
    /// - Returns: false if there is nothing after so many milliseconds.
    public func isReadable(withinMilliseconds milliseconds: Int = timeoutSeconds * 1000) -> Bool {
        let end = ContinuousClock.now + .milliseconds(milliseconds)
        while true {
            // Of TLS, some records carry nothing to receive.
            if let tls, tls.peek(flags: Int32(MSG_DONTWAIT)) >= 0 || errno != EAGAIN { return true }
            let left = max(.zero, end - .now)
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let isReady = uninterrupted { poll(&entry, 1, Int32(left / .milliseconds(1))) } > 0
            if !isReady || tls == nil { return isReady }
        }
    }

    private func failure(_ call: String) -> any Error {
        let code = errno
        if let problem = tls?.problem { return Failure(description: "\(call): \(problem)") }
        errno = code
        return SocketFailure(call)
    }

    // MARK: Ending

    /// Ends the output. The peer can still send.
    public func halfClose() {
        tls?.endOutput()
        shutdown(descriptor, Int32(SHUT_WR))
    }

    /// Ends input and output, and wakes a thread that waits in `accept`.
    public func shutDown() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    /// Makes `close` reset the connection.
    public func resetOnClose() {
        set(SO_LINGER, to: linger(l_onoff: 1, l_linger: 0))
        resetsOnClose.store(true, ordering: .relaxed)
    }

    /// Closes the socket before the last reference goes away. No thread may be using it.
    public func close() {
        if isClosed.exchange(true, ordering: .relaxed) { return }
        if let tls, !resetsOnClose.load(ordering: .relaxed) {
            // The kernel resets a plain connection with unread bytes. Here, this may not depend on records that carry
            // nothing to receive, nor on bytes that are decrypted already.
            if tls.peek(flags: Int32(MSG_DONTWAIT)) > 0 { resetOnClose() } else { tls.endOutput() }
        }
        starting.withLock { _ = Glibc.close(descriptor) }
    }

    // MARK: Options

    private func setTimeouts() {
        let timeout = timeval(tv_sec: Self.timeoutSeconds, tv_usec: 0)
        set(SO_RCVTIMEO, to: timeout)
        set(SO_SNDTIMEO, to: timeout)
        // Otherwise what follows the records that end a handshake would wait for their acknowledgement.
        if tls != nil { set(TCP_NODELAY, to: Int32(1), level: Int32(IPPROTO_TCP)) }
    }

    private func set<Value>(_ option: Int32, to value: Value, level: Int32 = SOL_SOCKET) {
        withUnsafePointer(to: value) {
            _ = setsockopt(descriptor, level, option, $0, socklen_t(MemoryLayout<Value>.size))
        }
    }
}

extension TestSocket.Name {
    fileprivate var family: Int32 {
        switch self {
        case .ipv4: AF_INET
        case .ipv6Loopback: AF_INET6
        case .path: AF_UNIX
        }
    }

    /// Calls `body` with the name as the system wants it.
    fileprivate func withAddress(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        switch self {
        case .ipv4(let host, let port):
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            inet_pton(AF_INET, host, &address.sin_addr)
            return Self.pass(address, to: body)
        case .ipv6Loopback(let port):
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = port.bigEndian
            address.sin6_addr = in6addr_loopback
            return Self.pass(address, to: body)
        case .path(let path):
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
            return Self.pass(address, to: body)
        }
    }

    private static func pass<Address>(
        _ address: Address, to body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<Address>.size)) }
        }
    }
}

/// A port to which connections neither succeed nor fail, because its queue of new connections is full.
public final class SilentPort: Sendable {
    private let address: String
    private let listener: TestSocket
    private let fillers: [TestSocket]

    /// The port.
    public var port: UInt16 { listener.localPort }
    /// The URL of the port.
    public var url: String { "\(TestTLS.scheme)://\(address):\(port)/" }

    /// Fills the queue of a port; port 0 lets the kernel choose.
    public init(_ address: String = "127.0.0.1", port: UInt16 = 0) throws {
        self.address = address
        listener = try TestSocket(listeningAt: .ipv4(address, port: port), backlog: 0)
        // The kernel completes one connection although the queue has no place, and answers no later one.
        let name = TestSocket.Name.ipv4(address, port: listener.localPort)
        fillers = try (0..<4).map { _ in try TestSocket(connectingTo: name) }
        guard listener.isReadable() else { throw Failure(description: "no connection to \(address) was completed") }
    }
}

/// A port that was free a moment ago, so nothing listens there.
public func unusedPort() throws -> UInt16 { try TestSocket(listeningAt: .ipv4(port: 0)).localPort }
