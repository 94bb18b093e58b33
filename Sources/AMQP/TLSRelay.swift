// TLS for a library that takes a connected descriptor and encrypts nothing. The library gets one end of a pair of local
// sockets. A thread moves the bytes between the other end and the TLS connection.

import Bytes
import CLinux
import Glibc
import Net

/// What the owner of a relay knows of it.
final class TLSRelay: Sendable {
    fileprivate let failureText = Locked<String?>(nil)

    /// Why the TLS connection broke, as a clause; nil if it did not. It is known before the library's end ends.
    var failure: String? { failureText.with { $0 } }

    private init() {}

    /// Starts a thread that relays bytes until both sides have ended, or the library's end is closed.
    ///
    /// - Parameters:
    ///   - broker: A TLS connection. The thread takes it over; the caller must not use it again.
    ///   - authority: The broker's host and port, for messages.
    /// - Returns: The relay, and the library's end, which the caller closes.
    /// - Throws: `SystemError` if there is no descriptor or no thread.
    static func start(_ broker: ClientStream, authority: String) throws(SystemError) -> (TLSRelay, descriptor: Int32) {
        var ends: [Int32] = [-1, -1]
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        guard unsafe socketpair(AF_UNIX, type, 0, &ends) == 0 else { throw SystemError("make a pair of sockets") }
        let relay = TLSRelay()
        let worker = RelayThread(
            broker: broker, library: ClientStream(takingOver: ends[1]), relay: relay, authority: authority)
        do throws(SystemError) { try DetachedThread.start(worker.run) } catch {
            close(ends[0])
            throw error
        }
        return (relay, ends[0])
    }
}

/// The thread's own. It owns both connections, which close with it.
private final class RelayThread {
    /// How long the relay continues when the library's end is closed: until then, the broker has to take what is left,
    /// and end its side.
    private static let lingerMilliseconds: Int64 = 5_000

    private let broker: ClientStream
    private let library: ClientStream
    private let relay: TLSRelay
    private let authority: String
    private let clock = EventLoop.steadyClock()
    /// From the broker to the library, and back.
    private var incoming = Direction()
    private var outgoing = Direction()
    /// When to end in any case; nil while the library's end is open.
    private var deadline: Int64?

    init(broker: ClientStream, library: ClientStream, relay: TLSRelay, authority: String) {
        (self.broker, self.library, self.relay, self.authority) = (broker, library, relay, authority)
    }

    func run() {
        repeat {
            incoming.receive(from: broker)
            outgoing.receive(from: library)
            outgoing.send(to: broker)
            if let failure = incoming.failure ?? (outgoing.isDiscarded ? Direction.loss : nil) {
                let words = broker.failure.map { ClientFailure.brokenTLS(authority: authority, $0).description }
                relay.failureText.with { $0 = words ?? "the connection to \(authority) \(failure)" }
                outgoing.discard()
                // Otherwise a library that sends would wait for room for ever.
                shutdown(library.descriptor, Int32(SHUT_RD))
            }
            // Last, because the library may be told the end.
            incoming.send(to: library)
            if incoming.isDiscarded, deadline == nil { deadline = clock() + Self.lingerMilliseconds }
        } while !(incoming.isOver && outgoing.isOver) && wait()
    }

    /// Waits until something can be moved.
    ///
    /// - Returns: false after the deadline.
    private func wait() -> Bool {
        let rest = deadline.map { max(0, $0 - clock()) }
        if rest == 0 { return false }
        let libraryEvents = (outgoing.wantsInput ? POLLIN : 0) | (incoming.wantsOutput ? POLLOUT : 0)
        let brokerEvents = (incoming.wantsInput ? POLLIN : 0) | (outgoing.wantsOutput ? POLLOUT : 0)
        // poll reports errors and closed ends without being asked, and again and again. It passes over a negative
        // descriptor.
        let isLibraryWatched = libraryEvents != 0 || !incoming.isDiscarded
        var states = [
            pollfd(fd: isLibraryWatched ? library.descriptor : -1, events: Int16(libraryEvents), revents: 0),
            pollfd(fd: brokerEvents != 0 ? broker.descriptor : -1, events: Int16(brokerEvents), revents: 0),
        ]
        let mayMove = incoming.canContinue || outgoing.canContinue
        if unsafe poll(&states, 2, mayMove ? 0 : rest.map(Int32.init(clamping:)) ?? -1) <= 0 { return true }
        let events = states.map { Int32($0.revents) }
        if events[0] & ~POLLOUT != 0 { outgoing.isReadable = true }
        if events[1] & ~POLLOUT != 0 { incoming.isReadable = true }
        // Both directions of the library's end are shut: it is closed or interrupted. What it sent before is still
        // delivered.
        if events[0] & POLLHUP != 0 { incoming.isDiscarded = true }
        return true
    }
}

/// The bytes that go one way.
private struct Direction: ~Copyable {
    /// What happened to a broken connection, as what follows its name.
    static let loss = "was lost"
    private static let limit = 64 * 1024

    private var buffer = Buffer()
    /// The source may have bytes, and no event will tell: those that TLS has decrypted.
    var isReadable = true
    /// The source gives nothing more.
    private var hasEnded = false
    /// The sink knows that.
    private var hasToldEnd = false
    /// Why the source is broken, as what follows "the connection".
    private(set) var failure: String?
    /// The sink takes nothing more. What comes from the source is dropped, so that its end is noticed.
    var isDiscarded = false

    private var hasRoom: Bool { !hasEnded && buffer.count < Self.limit }
    /// Whether to watch the source, and the sink.
    var wantsInput: Bool { hasRoom }
    var wantsOutput: Bool { !buffer.isEmpty }
    /// Whether more can be moved without an event.
    var canContinue: Bool { hasRoom && isReadable }
    var isOver: Bool { hasEnded && buffer.isEmpty }

    /// Reads what the source has, once.
    mutating func receive(from source: ClientStream) {
        guard canContinue else { return }
        switch source.receive(into: &buffer, atMost: Self.limit - buffer.count) {
        case .bytes(_, let isAll): isReadable = !isAll
        case .nothing: isReadable = false
        case .end: hasEnded = true
        case .noMemory: (hasEnded, failure) = (true, "had to end: the system has no memory")
        case .failed: (hasEnded, failure) = (true, Self.loss)
        }
    }

    /// Sends what the sink takes, and tells it the end.
    mutating func send(to sink: ClientStream) {
        if !isDiscarded, !buffer.isEmpty {
            if let count = sink.send(buffer.span) { buffer.consume(count) } else { isDiscarded = true }
        }
        if isDiscarded { buffer.consume(buffer.count) }
        if isOver, !isDiscarded, !hasToldEnd {
            hasToldEnd = true
            sink.endOutput()
        }
    }

    /// Drops what is buffered, and takes nothing more from the source.
    mutating func discard() {
        (isDiscarded, hasEnded) = (true, true)
        buffer.consume(buffer.count)
    }
}
