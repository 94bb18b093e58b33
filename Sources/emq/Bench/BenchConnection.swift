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
    private let stream: ClientStream
    /// What is left to send of the request.
    private var output: ArraySlice<UInt8> = []
    private var input: [UInt8] = []
    /// Called with each response: its status and its body.
    var answered: (BenchConnection, Int, ArraySlice<UInt8>) -> Void = { _, _, _ in }
    /// When the request in flight was sent, in nanoseconds.
    private(set) var sentAt: UInt64 = 0
    /// Called when the connection is lost.
    var failed: (BenchFailure) -> Void = { _ in }

    /// Connects, and waits until that is done.
    ///
    /// - Parameters:
    ///   - endpoint: the server.
    ///   - trust: the issuers whose certificates are accepted; nil for a plain connection.
    /// - Throws: `SystemError` if the server does not answer, `BenchFailure` if there is no secure connection.
    init(to endpoint: Endpoint, trust: TLSTrust?) throws {
        do {
            stream = try ClientStream.connected(to: endpoint.address, tls: trust.map { ($0, endpoint.host) })
        } catch let error as TLSError {
            throw BenchFailure(description: "no secure connection to \(endpoint.authority): \(error)")
        }
    }

    /// Starts to receive responses.
    func watch(on loop: EventLoop) throws(SystemError) {
        let events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
        try loop.watch(stream.descriptor, for: self, events: events)
    }

    /// Sends a request, the only one in flight.
    func send(_ request: [UInt8]) {
        sentAt = monotonicNanoseconds()
        output = request[...]
        sendRest()
    }

    private func sendRest() {
        if output.isEmpty { return }
        if let count = stream.send(output.span) {
            output = output.dropFirst(count)
        } else {
            output = []
            failed(BenchFailure(description: "a connection broke while sending"))
        }
    }

    override func ready(events: UInt32) {
        sendRest()
        let isOpen = stream.receive(into: &input)
        guard let bodyStart = headEnd(), input.count >= 12, input.count - bodyStart >= contentLength(before: bodyStart)
        else {
            if !isOpen { failed(BenchFailure(description: "the server closed a connection; is it an emq?")) }
            return
        }
        let status = input[9..<12].reduce(0) { $0 * 10 + Int($1 & 0xF) }
        if !isOpen || input[..<bodyStart].firstIndex(of: Array("\nConnection: close\r".utf8), from: 12) != nil {
            let text = String(decoding: input[bodyStart...].prefix { $0 >= 0x20 }.prefix(500), as: UTF8.self)
            return failed(BenchFailure(description: "the server answered \(status) and closed the connection: \(text)"))
        }
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
