// One connection of the load generator: it sends a request and collects the response.

import CLinux
import Glibc
import Net

/// The reason why a measurement ended early, in one line.
struct BenchFailure: Error, CustomStringConvertible {
    let description: String
}

/// A connection to the measured server, with at most one request in flight.
final class BenchConnection: EventSource {
    private let descriptor: Int32
    private var input: [UInt8] = []
    /// Called with each response: its status and its body.
    var answered: (BenchConnection, Int, ArraySlice<UInt8>) -> Void = { _, _, _ in }
    /// When the request in flight was sent, in nanoseconds.
    private(set) var sentAt: UInt64 = 0
    /// Called when the connection is lost.
    var failed: (BenchFailure) -> Void = { _ in }

    /// Connects, and waits until that is done.
    init(to address: Address) throws {
        descriptor = try connectedSocket(address)
    }

    deinit { close(descriptor) }

    /// Starts to receive responses.
    func watch(on loop: EventLoop) throws(SystemError) {
        try loop.watch(descriptor, for: self, events: UInt32(EPOLLIN.rawValue))
    }

    /// Sends a request. It is small and the only one in flight, so the kernel takes it whole.
    func send(_ request: [UInt8]) {
        sentAt = monotonicNanoseconds()
        let count = unsafe request.withUnsafeBytes {
            unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        if count != request.count { failed(BenchFailure(description: "a connection broke while sending")) }
    }

    override func ready(events: UInt32) {
        var room = input.count
        input.append(contentsOf: repeatElement(0, count: 16384))
        let count = unsafe input[room...].withUnsafeMutableBytes {
            unsafe recv(descriptor, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT))
        }
        room += max(0, count)
        input.removeLast(input.count - room)
        if count == 0 || count < 0 && errno != EAGAIN && errno != EINTR {
            return failed(BenchFailure(description: "the server closed a connection; is it an emq?"))
        }
        guard let bodyStart = headEnd(), input.count >= 12 else { return }
        guard input.count - bodyStart >= contentLength(before: bodyStart) else { return }
        let status = input[9..<12].reduce(0) { $0 * 10 + Int($1 & 0xF) }
        let answer = input
        input.removeAll(keepingCapacity: true)
        answered(self, status, answer[bodyStart...])
    }

    /// The start of the body, once the head is complete.
    private func headEnd() -> Int? {
        var index = 3
        while index < input.count {
            if input[index] == 0x0A, input[index - 1] == 0x0D, input[index - 2] == 0x0A { return index + 1 }
            index += 1
        }
        return nil
    }

    /// The value of `Content-Length`, which emq sends with every response that has a body.
    private func contentLength(before end: Int) -> Int {
        let name = Array("\nContent-Length: ".utf8)
        guard let field = input[..<end].firstIndex(of: name, from: 12) else { return 0 }
        return input[field...].prefix { $0 != 0x0D }.reduce(0) { $0 * 10 + Int($1 & 0xF) }
    }
}

extension ArraySlice<UInt8> {
    /// The index after the first occurrence of the pattern.
    func firstIndex(of pattern: [UInt8], from start: Int) -> Int? {
        var index = start
        while index + pattern.count <= endIndex {
            if self[index] == pattern[0], self[index..<index + pattern.count].elementsEqual(pattern) {
                return index + pattern.count
            }
            index += 1
        }
        return nil
    }
}

/// The monotonic clock, in nanoseconds.
func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// A socket that is connected to an address, or to the first address of a host that accepts.
private func connectedSocket(_ address: Address) throws -> Int32 {
    let failure = { (code: Int32) in SystemError("connect to \(address)", code: code) }
    switch address {
    case .unix(let path):
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &name.sun_path) { unsafe $0.copyBytes(from: Array(path.utf8)) }
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let status = unsafe withUnsafeBytes(of: &name) { unsafe connected(descriptor, $0) }
        guard status == 0 else { throw failure(status) }
        return descriptor
    case .tcp(let host, let port):
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        let unknown = unsafe getaddrinfo(host.isEmpty ? "localhost" : host, "\(port)", &hints, &found)
        guard unknown == 0 else {
            throw SystemError("find the host '\(host)'", reason: unsafe String(cString: gai_strerror(unknown)))
        }
        defer { unsafe freeaddrinfo(found) }
        var status = ENOENT
        var next = unsafe found
        while let info = unsafe next?.pointee {
            unsafe next = info.ai_next
            let descriptor = unsafe socket(info.ai_family, info.ai_socktype, 0)
            status = unsafe connected(
                descriptor, UnsafeRawBufferPointer(start: info.ai_addr, count: Int(info.ai_addrlen)))
            guard status == 0 else { continue }
            var one: Int32 = 1
            unsafe setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
            return descriptor
        }
        throw failure(status)
    }
}

/// Connects a socket. If that fails, closes it and returns the error.
private func connected(_ descriptor: Int32, _ name: UnsafeRawBufferPointer) -> Int32 {
    guard let start = name.baseAddress, descriptor >= 0 else { return errno }
    if unsafe connect(descriptor, start.assumingMemoryBound(to: sockaddr.self), socklen_t(name.count)) == 0 { return 0 }
    let status = errno
    close(descriptor)
    return status
}
